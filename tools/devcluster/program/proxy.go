package program

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// IdentityAnnotation shows on a pod the Identity of its proxy, as JSON.
const IdentityAnnotation = "devcluster.aksmesh.io/identity"

// A Proxy stands in for the part of a mesh's proxy that gets it an identity:
// no traffic ever passes it. Its pod is not ready before it has one.
type Proxy interface {
	// Name is that of the proxy's container.
	Name() string

	// Runs reports whether a container of pod runs this proxy.
	Runs(pod *corev1.Pod) bool

	// Start reads what the proxy of pod knows from the moment its container
	// starts. On an error it is tried again with back-off.
	Start(ctx context.Context, env Env, pod *corev1.Pod) (Certifier, error)
}

// A Certifier gets certificates for the proxy of one pod.
type Certifier interface {
	// Certify asks the control plane for a certificate, which takes the place of
	// the one before. On an error the proxy keeps that, and it is tried again
	// with back-off.
	Certify(ctx context.Context) (Identity, error)
}

// An Identity is what a proxy presents to others and verifies others by.
type Identity struct {
	// Chain is PEM: the certificate of the workload and what the proxy sends
	// with it, that of the issuer first.
	Chain string `json:"chain"`
	// Roots is the PEM of all anchors that the proxy trusts.
	Roots string `json:"roots"`
	// RenewAt is when the proxy asks for the next certificate.
	RenewAt time.Time `json:"-"`
}

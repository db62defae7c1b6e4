package linkerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// Trust is how the trust of one control plane gets to its proxies.
type Trust struct {
	Cluster   *kube.Cluster
	Namespace string
}

const (
	identityComponent = "identity"
	anchorsVariable   = "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"

	// What the chart has unless its values say otherwise.
	issuanceLifetime = 24 * time.Hour
	clockSkew        = 20 * time.Second
)

// Mesh is the data plane's.
func (t Trust) Mesh() mesh.Mesh { return Injection{Namespace: t.Namespace} }

// Workloads are those of the control plane. All of them are meshed, and all read
// the trust bundle when they start.
func (t Trust) Workloads(ctx context.Context) ([]*kube.Workload, error) {
	all, err := t.Cluster.Workloads(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(w *kube.Workload) bool {
		return w.Kind != kube.Deployment || w.Template.Labels[componentLabel] == "" || w.Template.Labels[controlPlaneLabel] != t.Namespace
	}), nil
}

// Signs reports whether a workload of the control plane issues certificates.
func (Trust) Signs(w *kube.Workload) bool {
	return w.Template.Labels[componentLabel] == identityComponent
}

// Serves reports whether a meshed pod is of this control plane.
func (t Trust) Serves(pod *corev1.Pod) bool {
	of := pod.Labels[controlPlaneLabel]
	return of == "" || of == t.Namespace
}

// Trusts is the bundle that a proxy was given when its pod was made; ok is false
// for the control plane's own, which take the published one when they start.
func (Trust) Trusts(pod *corev1.Pod) (bundle string, ok bool) {
	proxy, _ := mesh.FindSidecar(pod, ProxyContainer)
	if proxy == nil {
		return "", false
	}
	for _, v := range proxy.Env {
		if v.Name == anchorsVariable {
			return v.Value, v.ValueFrom == nil
		}
	}
	return "", true // A proxy without anchors trusts nobody.
}

// Admits reports that a pod is given its anchors when it is admitted.
func (Trust) Admits() bool { return true }

// Spreads finds nothing lacking: proxies verify the control plane by the anchors
// that they verify everybody by.
func (Trust) Spreads(context.Context, string, pki.Bundle) (lacks string, err error) { return "", nil }

// Fixed is why the bundle of a proxy stays the same whatever is restarted; empty
// if it does not.
func (Trust) Fixed(pod *corev1.Pod) string {
	if byHand(pod) {
		return "its proxy is part of the pod template (linkerd inject --manual), and its trust bundle with it: take it out there (linkerd uninject), or inject the manifest again"
	}
	return ""
}

// Asked tells when a proxy first asked for a certificate at the earliest; all of
// them ask again.
func (Trust) Asked([]*corev1.Pod) func(*corev1.Pod) (since time.Time, again bool) {
	return func(pod *corev1.Pod) (time.Time, bool) { return pod.CreationTimestamp.Time, true }
}

// Lifetime is how long a certificate may be used after it was issued. Proxies ask
// for another at 70 % of it.
func (t Trust) Lifetime(ctx context.Context) (func(*corev1.Pod) time.Duration, error) {
	lifetime, skew := issuanceLifetime, clockSkew
	_, values, err := recordedValues(ctx, t.Cluster, t.Namespace)
	if err != nil && !errors.Is(err, mesh.ErrNoControlPlane) {
		return nil, err
	}
	for key, target := range map[string]*time.Duration{"issuanceLifetime": &lifetime, "clockSkewAllowance": &skew} {
		if text, _, err := unstructured.NestedString(values, "identity", "issuer", key); err == nil && text != "" {
			if *target, err = time.ParseDuration(text); err != nil {
				return nil, fmt.Errorf("ConfigMap %s/linkerd-config: identity.issuer.%s: %w", t.Namespace, key, err)
			}
		}
	}
	return func(*corev1.Pod) time.Duration { return lifetime + skew }, nil
}

// Published is the bundle that pods of the control plane read when they start;
// empty if there is none.
func (t Trust) Published(ctx context.Context, _ *corev1.Secret) (pki.Bundle, error) {
	roots, err := t.Cluster.ConfigMap(ctx, t.Namespace, TrustRootsRef(t.Namespace).Name)
	if errors.Is(err, kube.ErrNotFound) {
		return pki.Bundle{}, nil
	}
	if err != nil {
		return pki.Bundle{}, err
	}
	bundle, err := pki.ParseBundle([]byte(roots.Data[TrustRootsKey]))
	if err != nil {
		// Pods made now would not trust anybody, so it is as if there were none.
		return pki.Bundle{}, nil //nolint:nilerr // It is published anew.
	}
	return bundle, nil
}

// ReadIssuerSecret reads the issuer of an IssuerSecret in the layout of
// IssuerScheme, with its intermediates.
func ReadIssuerSecret(data map[string][]byte) (*pki.KeyPair, error) {
	const other = "crt.pem" // Of the layout that the chart writes itself.
	if data[corev1.TLSCertKey] == nil && data[other] != nil {
		return nil, fmt.Errorf("it has %s and key.pem, the layout of identity.issuer.scheme=linkerd.io/tls; "+
			"replace it by a Secret of type %[2]s with the same certificate, key and trust anchors as tls.crt, tls.key and ca.crt, and set identity.issuer.scheme=%[2]s in the chart", other, IssuerScheme)
	}
	return pki.ParseKeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
}

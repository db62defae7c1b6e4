package istio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// Trust is how the trust of one control plane gets to its proxies.
type Trust struct {
	Cluster   *kube.Cluster
	Namespace string
}

// certificateLifetime is what proxies ask for unless they are told otherwise
// (istio's pkg/istio-agent, SECRET_TTL).
const certificateLifetime = 2 * renewal

// Mesh is the data plane's.
func (t Trust) Mesh() mesh.Mesh { return Injection{Namespace: t.Namespace} }

// Workloads are the istiods of all revisions: they share one CA.
func (t Trust) Workloads(ctx context.Context) ([]*kube.Workload, error) {
	all, err := t.Cluster.Workloads(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(w *kube.Workload) bool {
		return w.Kind != kube.Deployment || w.Template.Labels["app"] != "istiod"
	}), nil
}

// Signs reports whether a workload of the control plane issues certificates.
func (Trust) Signs(*kube.Workload) bool { return true }

// Serves reports whether a meshed pod has its certificates from this control
// plane: a proxy is told by CA_ADDR whom to ask.
func (t Trust) Serves(pod *corev1.Pod) bool {
	proxy, _ := mesh.FindSidecar(pod, proxyContainer)
	if proxy == nil {
		return true
	}
	host, _, err := net.SplitHostPort(variable([]corev1.Container{*proxy}, "CA_ADDR"))
	labels := strings.Split(host, ".")
	return err != nil || len(labels) < 2 || labels[1] == t.Namespace
}

// Trusts is never known from a pod: proxies are told of the anchors with each
// certificate.
func (Trust) Trusts(*corev1.Pod) (bundle string, ok bool) { return "", false }

// Admits reports that proxies are given their anchors when they ask for a
// certificate, not when their pods are admitted.
func (Trust) Admits() bool { return false }

// Spreads says whether the proxies of a namespace verify an istiod with a
// certificate below any anchor of the bundle. They do that by a ConfigMap of their
// own, which one of the istiods writes a while after it has started.
func (t Trust) Spreads(ctx context.Context, namespace string, bundle pki.Bundle) (lacks string, err error) {
	roots, err := t.given(ctx, namespace)
	if err != nil && !errors.Is(err, pki.ErrMalformed) {
		return "", err
	}
	for _, anchor := range bundle.Certificates() {
		if !roots.Contains(anchor) {
			return fmt.Sprintf("istiod to publish the anchor %q in %s", anchor.Subject.String(), rootsRef(namespace)), nil
		}
	}
	return "", nil
}

// Fixed is why a proxy keeps its anchors whatever is restarted; empty if it does
// not.
func (Trust) Fixed(pod *corev1.Pod) string {
	if proxy, _ := mesh.FindSidecar(pod, proxyContainer); proxy == nil {
		return "it is in ambient mode, and the ztunnel of its node is not known to take up further anchors while it runs (istio/istio#47427): restart the DaemonSet ztunnel, node by node"
	}
	return ""
}

// Asked tells when a proxy first asked for a certificate at the earliest, and
// whether it asks again and learns of other anchors then. In ambient mode it is
// the ztunnel of the node that asks.
func (t Trust) Asked(pods []*corev1.Pod) func(*corev1.Pod) (since time.Time, again bool) {
	ztunnels := map[string]time.Time{}
	for _, pod := range pods {
		if isZtunnel(pod) && pod.Namespace == t.Namespace {
			// While two of them run, it may be the older one that is asked.
			if other, is := ztunnels[pod.Spec.NodeName]; !is || pod.CreationTimestamp.Time.Before(other) {
				ztunnels[pod.Spec.NodeName] = pod.CreationTimestamp.Time
			}
		}
	}
	return func(pod *corev1.Pod) (time.Time, bool) {
		if proxy, _ := mesh.FindSidecar(pod, proxyContainer); proxy == nil {
			return ztunnels[pod.Spec.NodeName], false
		}
		return pod.CreationTimestamp.Time, true
	}
}

// Lifetime is how long a certificate may be used after it was issued. Proxies ask
// for another at half of it.
func (Trust) Lifetime(context.Context) (func(*corev1.Pod) time.Duration, error) {
	return func(pod *corev1.Pod) time.Duration {
		proxy, _ := mesh.FindSidecar(pod, proxyContainer)
		if proxy == nil {
			return certificateLifetime
		}
		if lifetime, err := time.ParseDuration(variable([]corev1.Container{*proxy}, "SECRET_TTL")); err == nil && lifetime > 0 {
			return lifetime
		}
		return certificateLifetime
	}, nil
}

// Published is the bundle that istiod reads when it starts, or, without a CA of
// the user's, the one that it gives out; empty if there is neither.
func (t Trust) Published(ctx context.Context, secret *corev1.Secret) (pki.Bundle, error) {
	if secret != nil {
		if bundle, err := pki.ParseBundle(secret.Data[rootCertFile]); err == nil {
			return bundle, nil
		}
	}
	return t.given(ctx, t.Namespace)
}

// given is the bundle that istiod gives to a namespace, empty if it has given none.
// The error wraps pki.ErrMalformed if somebody else has written what is there.
func (t Trust) given(ctx context.Context, namespace string) (pki.Bundle, error) {
	ref := rootsRef(namespace)
	given, err := t.Cluster.ConfigMap(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return pki.Bundle{}, nil
	}
	if err != nil {
		return pki.Bundle{}, err
	}
	bundle, err := pki.ParseBundle([]byte(given.Data[rootCertFile]))
	if err != nil {
		return pki.Bundle{}, fmt.Errorf("%s: %w", ref, err)
	}
	return bundle, nil
}

func rootsRef(namespace string) kube.Ref {
	return kube.Ref{Kind: kube.ConfigMap, Namespace: namespace, Name: rootConfigMap}
}

// ReadCACertsSecret reads the CA of a CACertsSecret, with its intermediates.
func ReadCACertsSecret(data map[string][]byte) (*pki.KeyPair, error) {
	ca, bundle, err := parseCACerts(data)
	if err != nil {
		return nil, err
	}
	// The file ends with the anchor, which is no part of the path to it.
	chain := ca.Chain()
	for len(chain) > 1 && bundle.Contains(chain[len(chain)-1]) {
		chain = chain[:len(chain)-1]
	}
	return pki.NewKeyPair(chain, ca.Signer())
}

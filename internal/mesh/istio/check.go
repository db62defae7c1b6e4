package istio

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// analyzer is where Istio's documentation explains the messages of its analysis.
const analyzer = "https://istio.io/latest/docs/reference/config/analysis/"

// Health finds out how an Istio is: what `istioctl verify-install`, `analyze` and
// `proxy-status` tell, from what the cluster's API server knows.
type Health struct {
	Cluster   *kube.Cluster
	Namespace string // of istiod
	Revision  string // or tag; empty for the default one
	// Early is how long before its end a certificate is worth a warning.
	Early time.Duration
	Now   time.Time
	// Managed reads what Azure says of the cluster; nil if it is not asked.
	Managed check.Managed
}

// The flags of a check.
const (
	warns = 1 << iota
	fatal
)

// of makes a check that Istio has no message for.
func of(category, id, description string, flags int, run func(context.Context) error) check.Check {
	return check.Check{Category: category, ID: id, Description: description, Warns: flags&warns != 0, Fatal: flags&fatal != 0, Run: run}
}

// analysis makes a check by the message of `istioctl analyze` that tells of a
// failure.
func analysis(category, id, description string, flags int, run func(context.Context) error) check.Check {
	made := of(category, id, description, flags, run)
	made.HintURL = analyzer
	return made
}

// list reads the objects of a kind, of all namespaces, from the shared reads.
func (h Health) list(kind kube.Kind) func(context.Context) ([]*unstructured.Unstructured, error) {
	return func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		return h.Cluster.List(ctx, kind, "")
	}
}

// onWebhooks is a Run that judges the webhook configurations and the services that
// they may call.
func (h Health) onWebhooks(judge func([]*unstructured.Unstructured, []*corev1.Service) error) func(context.Context) error {
	return func(ctx context.Context) error {
		var all []*unstructured.Unstructured
		for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration} {
			found, err := h.Cluster.List(ctx, kind, "")
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		read := func(ctx context.Context) ([]*corev1.Service, error) { return h.Cluster.Services(ctx, "") }
		return check.On(read, func(services []*corev1.Service) error { return judge(all, services) })(ctx)
	}
}

// Installed tells whether there is a control plane of the revision in the namespace.
func (h Health) Installed(ctx context.Context) (bool, error) {
	_, err := h.plane(ctx)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		return false, nil
	}
	return err == nil, err
}

// plane is what the injectors of the namespace give to pods.
func (h Health) plane(ctx context.Context) (sidecarPlane, error) {
	injectors, err := injectorsIn(ctx, h.Cluster)
	if err != nil {
		return sidecarPlane{}, err
	}
	found, err := sidecarPlaneOf(ctx, h.Cluster, Injection{Namespace: h.Namespace, Revision: h.Revision}, injectors)
	plane, _ := found.(sidecarPlane)
	return plane, err
}

// istiods are the revisions that the check is about, by name.
func (p sidecarPlane) istiods() []*revision {
	var found []*revision
	for _, i := range p.wanted {
		if r := p.revisions[i.revision]; r != nil && i.namespace != "" && !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
	return found
}

// pods reads those of all namespaces that live.
func (h Health) pods(ctx context.Context) ([]*corev1.Pod, error) {
	all, err := h.Cluster.Pods(ctx, "")
	return slices.DeleteFunc(slices.Clone(all), func(pod *corev1.Pod) bool { return !mesh.Living(pod) }), err
}

func podRef(pod *corev1.Pod) kube.Ref {
	return kube.Ref{Kind: kube.Pod, Namespace: pod.Namespace, Name: pod.Name}
}

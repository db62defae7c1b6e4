package istio

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// Injection enrols namespaces and workloads in Istio.
type Injection struct {
	// Namespace of istiod.
	Namespace string
	// Revision or tag that injects; empty for the default one.
	Revision string
	// Ambient has the node's proxy take the pods in as they are, without sidecars.
	Ambient bool
	// Settings are the annotations that configure sidecars; see Settings.
	Settings map[string]string
}

var _ mesh.Mesh = Injection{}

// neverInjected are the namespaces whose pods the injector refuses itself
// (pkg/kube/inject, IgnoredNamespaces).
var neverInjected = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// Name implements mesh.Mesh.
func (Injection) Name() string { return "Istio" }

// NamespaceMark implements mesh.Mesh. istio-injection beats istio.io/rev, so
// exactly one of them is set.
func (i Injection) NamespaceMark() mesh.Mark {
	if i.Revision != "" {
		return mesh.Mark{Labels: map[string]string{revisionLabel: i.Revision}}
	}
	return mesh.Mark{Labels: map[string]string{injectionLabel: "enabled"}}
}

// WorkloadMark implements mesh.Mesh. The webhook selects pods by labels; the
// annotations of the same names are not enough.
func (i Injection) WorkloadMark() mesh.Mark {
	labels := map[string]string{injectLabel: "true"}
	if i.Revision != "" {
		labels[revisionLabel] = i.Revision
	}
	return mesh.Mark{Labels: labels}
}

// ServiceMark implements mesh.Mesh: Istio's Services say nothing of the mesh.
func (Injection) ServiceMark() mesh.Mark { return mesh.Mark{} }

// InPlace implements mesh.Mesh.
func (i Injection) InPlace() bool { return i.Ambient }

// Claims implements mesh.Mesh.
func (Injection) Claims(namespace, pod mesh.Mark) bool {
	return namespace.Labels[injectionLabel] == "enabled" || namespace.Labels[revisionLabel] != "" || pod.Labels[injectLabel] == "true"
}

// Misplaced implements mesh.Mesh.
func (Injection) Misplaced(mesh.Place, mesh.Mark) []string { return nil }

// Proxy implements mesh.Mesh.
func (Injection) Proxy(pod *corev1.Pod) mesh.Proxy {
	container, mode := mesh.FindSidecar(pod, proxyContainer)
	if container == nil {
		return mesh.Proxy{}
	}
	return mesh.Proxy{Mode: mode, Image: container.Image, Ready: mesh.ContainerReady(pod, proxyContainer)}
}

// Exempt implements mesh.Mesh.
func (Injection) Exempt(pod *corev1.Pod) string {
	linkerd, _ := mesh.FindSidecar(pod, "linkerd-proxy")
	switch {
	case pod.Spec.HostNetwork:
		return "it uses the host's network (hostNetwork)"
	case pod.Labels["app"] == "istiod":
		return "it is part of Istio's control plane"
	case linkerd != nil:
		return "it already has a proxy of Linkerd"
	}
	value, kind := pod.Labels[injectLabel], "label"
	if value == "" {
		value, kind = pod.Annotations[injectLabel], "annotation"
	}
	if value == "false" {
		return fmt.Sprintf("its %s %s says false", kind, injectLabel)
	}
	return ""
}

// ControlPlane implements mesh.Mesh.
func (i Injection) ControlPlane(ctx context.Context, cluster *kube.Cluster) (mesh.ControlPlane, error) {
	webhooks, err := cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return nil, err
	}
	want := i.Revision
	if want == "" {
		want = "default"
	}
	for _, w := range webhooks {
		labels := w.GetLabels()
		if labels["app"] != "sidecar-injector" || labels[revisionLabel] != want && labels["istio.io/tag"] != want {
			continue
		}
		istiod, err := cluster.Workload(ctx, kube.Ref{Kind: kube.Deployment, Namespace: i.Namespace, Name: deploymentOf(labels[revisionLabel])})
		if err != nil {
			return nil, err
		}
		return controlPlane{injection: i, istiod: istiod, webhooks: w}, nil
	}
	return nil, fmt.Errorf("%w: revision %q has no injector: no MutatingWebhookConfiguration carries that revision or tag", mesh.ErrNoControlPlane, want)
}

// controlPlane is what istiod gives to pods now.
type controlPlane struct {
	injection Injection
	istiod    *kube.Workload
	webhooks  *unstructured.Unstructured
}

// Available implements mesh.ControlPlane.
func (c controlPlane) Available() error {
	if !trusted(c.webhooks) {
		return fmt.Errorf("%s %s: istiod has not published its CA bundle yet, so the API server cannot call the injector", c.webhooks.GetKind(), c.webhooks.GetName())
	}
	if c.istiod.Available == 0 {
		return fmt.Errorf("%s has no available pod", c.istiod.Ref)
	}
	return nil
}

// Sees implements mesh.ControlPlane.
func (c controlPlane) Sees(namespace *corev1.Namespace, _ *corev1.Pod) error {
	if slices.Contains(neverInjected, namespace.Name) {
		return fmt.Errorf("the injector of Istio never injects pods of %s", strings.Join(neverInjected, ", "))
	}
	if namespace.Labels[injectionLabel] == "disabled" {
		return fmt.Errorf("its label %s=disabled wins over everything else", injectionLabel)
	}
	if value := namespace.Labels[injectionLabel]; c.injection.Revision != "" && value != "" {
		return fmt.Errorf("its label %s=%s wins over %s=%s; remove it first", injectionLabel, value, revisionLabel, c.injection.Revision)
	}
	return nil
}

// Privileged implements mesh.ControlPlane.
func (c controlPlane) Privileged() bool { return true }

// Stale implements mesh.ControlPlane.
func (c controlPlane) Stale(mesh.Subject, mesh.Proxy) []mesh.Reason { return nil }

// deploymentOf names the istiod of a revision.
func deploymentOf(revision string) string {
	if revision == "" || revision == "default" {
		return "istiod"
	}
	return "istiod-" + revision
}

// trusted reports whether every webhook of a configuration carries the CA
// bundle that istiod patches in once it runs.
func trusted(configuration *unstructured.Unstructured) bool {
	webhooks, _, _ := unstructured.NestedSlice(configuration.Object, "webhooks")
	for _, w := range webhooks {
		webhook, ok := w.(map[string]any)
		if !ok {
			return false
		}
		if bundle, _, _ := unstructured.NestedString(webhook, "clientConfig", "caBundle"); bundle == "" {
			return false
		}
	}
	return len(webhooks) > 0
}

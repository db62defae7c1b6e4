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

// Injection enrols namespaces and workloads in Istio's sidecar mode.
type Injection struct {
	// ControlPlane is the namespace of istiod.
	ControlPlane string
	// Revision or tag that injects; empty for the default one.
	Revision string
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

// Meshed implements mesh.Mesh.
func (Injection) Meshed(pod *corev1.Pod) bool {
	return mesh.HasContainer(pod, proxyContainer)
}

// Exempt implements mesh.Mesh.
func (Injection) Exempt(pod *corev1.Pod) string {
	switch {
	case pod.Spec.HostNetwork:
		return "it uses the host's network (hostNetwork)"
	case pod.Labels["app"] == "istiod":
		return "it is part of Istio's control plane"
	case mesh.HasContainer(pod, "linkerd-proxy"):
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

// Injecting implements mesh.Mesh.
func (i Injection) Injecting(ctx context.Context, cluster *kube.Cluster, namespace *corev1.Namespace) error {
	if slices.Contains(neverInjected, namespace.Name) {
		return fmt.Errorf("namespace %s: the injector of Istio never injects pods of %s", namespace.Name, strings.Join(neverInjected, ", "))
	}
	if namespace.Labels[injectionLabel] == "disabled" {
		return fmt.Errorf("namespace %s: its label %s=disabled wins over everything else", namespace.Name, injectionLabel)
	}
	if value := namespace.Labels[injectionLabel]; i.Revision != "" && value != "" {
		return fmt.Errorf("namespace %s: its label %s=%s wins over %s=%s; remove it first", namespace.Name, injectionLabel, value, revisionLabel, i.Revision)
	}
	webhooks, err := cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return err
	}
	want := i.Revision
	if want == "" {
		want = "default"
	}
	for _, w := range webhooks {
		if labels := w.GetLabels(); labels["app"] == "sidecar-injector" && (labels[revisionLabel] == want || labels["istio.io/tag"] == want) {
			if !trusted(w) {
				return fmt.Errorf("%s %s: istiod has not published its CA bundle yet, so the API server cannot call the injector", w.GetKind(), w.GetName())
			}
			return mesh.Available(ctx, cluster, kube.Ref{Kind: kube.Deployment, Namespace: i.ControlPlane, Name: deploymentOf(labels[revisionLabel])})
		}
	}
	return fmt.Errorf("istio revision %q has no injector: no MutatingWebhookConfiguration carries that revision or tag", want)
}

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

// InjectionOf reads the settings back from the labels of an enrolled namespace
// or pod template.
func InjectionOf(found mesh.Mark) Injection {
	return Injection{ControlPlane: DefaultNamespace, Revision: found.Labels[revisionLabel]}
}

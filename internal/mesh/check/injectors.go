package check

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// AddonNamespace is where the Istio add-on of AKS is.
const AddonNamespace = "aks-istio-system"

// An injector is a webhook configuration by which a mesh injects its proxies.
type injector struct {
	mesh string
	kube.Ref
	namespaces []string // of the services that are called
}

// injectors are those of all meshes.
func injectors(configurations []*unstructured.Unstructured) []injector {
	var found []injector
	for _, c := range configurations {
		i := injector{Ref: kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: c.GetName()}}
		switch {
		case c.GetName() == "linkerd-proxy-injector-webhook-config":
			i.mesh = "Linkerd"
		case c.GetLabels()["app"] == "sidecar-injector" && c.GetLabels()["istio.io/rev"] != "":
			i.mesh = "Istio"
		default:
			continue
		}
		for _, s := range Services(c) {
			i.namespaces = append(i.namespaces, s.Namespace)
		}
		found = append(found, i)
	}
	return found
}

// Services are those that a webhook configuration has the API server call.
func Services(configuration *unstructured.Unstructured) []kube.Ref {
	webhooks, _, _ := unstructured.NestedSlice(configuration.Object, "webhooks")
	var called []kube.Ref
	for _, webhook := range webhooks {
		fields, _ := webhook.(map[string]any)
		name, _, _ := unstructured.NestedString(fields, "clientConfig", "service", "name")
		namespace, _, _ := unstructured.NestedString(fields, "clientConfig", "service", "namespace")
		if name != "" {
			called = append(called, kube.Ref{Kind: kube.Service, Namespace: namespace, Name: name})
		}
	}
	slices.SortFunc(called, func(a, b kube.Ref) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	return slices.Compact(called)
}

// OtherMeshes tells which other meshes inject proxies already.
func OtherMeshes(own string) func(configurations []*unstructured.Unstructured) error {
	return func(configurations []*unstructured.Unstructured) error {
		var others []string
		for _, i := range injectors(configurations) {
			if i.mesh != own {
				others = append(others, i.mesh+" by "+i.String())
			}
		}
		return Lacking("another mesh injects proxies: ", others, "; a pod can be in one mesh only, so enrol no namespace in both")
	}
}

// NoAddon tells whether the Istio add-on of AKS injects proxies.
func NoAddon(configurations []*unstructured.Unstructured) error {
	var addon []string
	for _, i := range injectors(configurations) {
		if slices.Contains(i.namespaces, AddonNamespace) {
			addon = append(addon, i.String())
		}
	}
	return Lacking("the Istio add-on of AKS is enabled (", addon, " leads to namespace "+AddonNamespace+
		"), and cannot be in one cluster with another Istio; disable it (az aks mesh disable), or use its revision instead of installing one")
}

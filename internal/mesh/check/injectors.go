package check

import (
	"regexp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// AddonNamespace is where the Istio add-on of AKS is. That of App Routing, which
// runs gateways and is no mesh, is in it too.
const AddonNamespace = "aks-istio-system"

// managedRevision is how the Istio add-on of AKS names its revisions: asm-1-30.
//
// https://learn.microsoft.com/azure/aks/istio-support-policy
var managedRevision = regexp.MustCompile(`^asm-\d+-\d+$`)

// ManagedRevision reports whether a revision of Istio is one of the add-on of AKS,
// by its name.
func ManagedRevision(revision string) bool { return managedRevision.MatchString(revision) }

// AppRouting reports whether an istiod in a namespace, of a revision, is that of
// App Routing: the add-on's have revisions as AKS names them, and AKS lets nobody
// else into its namespace.
func AppRouting(namespace, revision string) bool {
	return namespace == AddonNamespace && !ManagedRevision(revision)
}

// An injector is a webhook configuration by which a mesh injects its proxies.
type injector struct {
	mesh string
	kube.Ref
	revision   string   // of Istio
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
			i.mesh, i.revision = "Istio", c.GetLabels()["istio.io/rev"]
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

// AddonRevisions are the revisions of the Istio add-on of AKS that inject proxies.
// Routing is whether another Istio that is AKS's does: that of App Routing, which
// has the add-on's namespace.
func AddonRevisions(configurations []*unstructured.Unstructured) (revisions []string, routing bool) {
	for _, i := range injectors(configurations) {
		if i.mesh != "Istio" || !slices.Contains(i.namespaces, AddonNamespace) {
			continue
		}
		if AppRouting(AddonNamespace, i.revision) {
			routing = true
		} else {
			revisions = append(revisions, i.revision)
		}
	}
	slices.Sort(revisions)
	return slices.Compact(revisions), routing
}

// Enforced tells whether the admissions enforcer of AKS has written into a webhook
// configuration.
func Enforced(configuration *unstructured.Unstructured) bool {
	return slices.ContainsFunc(configuration.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == "admissionsenforcer" })
}

package check

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
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

// managed reports whether an injector is of an Istio of AKS's.
func (i injector) managed() bool { return slices.Contains(i.namespaces, AddonNamespace) }

// routes reports whether an injector is that of App Routing.
func (i injector) routes() bool { return i.managed() && AppRouting(AddonNamespace, i.revision) }

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
			if i.mesh != own && !i.routes() {
				others = append(others, i.mesh+" by "+i.String())
			}
		}
		return Lacking("another mesh injects proxies: ", others, "; a pod can be in one mesh only, so enrol no namespace in both")
	}
}

// NoAddon tells whether AKS runs an Istio of its own: the add-on, or that of App
// Routing. Azure says what is switched on, which may not be there yet, and the
// webhooks that are read tell of what is there.
func NoAddon(read func(context.Context) ([]*unstructured.Unstructured, error), managed Managed) func(context.Context) error {
	return func(ctx context.Context) error {
		if managed != nil {
			if described, err := managed(ctx); err == nil && described != nil {
				if err := switchedOn(described); err != nil {
					return err
				}
			}
		}
		return On(read, noneInjects)(ctx)
	}
}

// What to do about the Istios of AKS.
const (
	insteadOfAddon      = "and cannot be in one cluster with another Istio; disable it (az aks mesh disable), or use its revision instead of installing one"
	insteadOfAppRouting = "and cannot be in one cluster with another Istio, though it runs gateways and is no mesh; disable it (az aks update --disable-app-routing-istio), or use the Istio add-on of AKS"
)

// switchedOn is the Istio that AKS is to run, by what Azure says of the cluster.
func switchedOn(described *aks.ManagedCluster) error {
	p := described.Properties
	switch {
	case p.ServiceMeshProfile != nil && p.ServiceMeshProfile.Mode == "Istio":
		return fmt.Errorf("the Istio add-on of AKS is enabled in cluster %s (revisions %s), %s", described.Name, strings.Join(p.ServiceMeshProfile.Istio.Revisions, ", "), insteadOfAddon)
	case p.IngressProfile.WebAppRouting.GatewayAPIImplementations.AppRoutingIstio.Mode == "Enabled":
		return fmt.Errorf("the Istio of App Routing is enabled in cluster %s, %s", described.Name, insteadOfAppRouting)
	}
	return nil
}

// noneInjects is the Istio that AKS runs, by the webhooks that are there.
func noneInjects(configurations []*unstructured.Unstructured) error {
	var addon, routing []string
	for _, i := range injectors(configurations) {
		switch {
		case i.routes():
			routing = append(routing, i.String())
		case i.managed():
			addon = append(addon, i.String())
		}
	}
	const leads = " leads to namespace " + AddonNamespace + "), "
	if err := Lacking("the Istio add-on of AKS is enabled (", addon, leads+insteadOfAddon); err != nil {
		return err
	}
	return Lacking("the Istio of App Routing is enabled (", routing, leads+insteadOfAppRouting)
}

// AddonRevisions are the revisions of the Istio add-on of AKS that inject proxies.
// Routing is whether another Istio that is AKS's does: that of App Routing, which
// has the add-on's namespace.
func AddonRevisions(configurations []*unstructured.Unstructured) (revisions []string, routing bool) {
	for _, i := range injectors(configurations) {
		if i.routes() {
			routing = true
		} else if i.managed() {
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

package istio

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// injectorConfiguration names the webhooks of a control plane's injector.
func injectorConfiguration(p Plane) kube.Ref {
	name := suffixed(injectorConfigMap, p.Revision)
	if p.Namespace != DefaultNamespace {
		name += "-" + p.Namespace
	}
	return kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: name}
}

// validatorConfiguration names the webhook by which a control plane validates
// what names its revision.
func validatorConfiguration(p Plane) kube.Ref {
	return kube.Ref{Kind: kube.ValidatingWebhookConfiguration, Name: suffixed("istio-validator", p.Revision) + "-" + p.Namespace}
}

// answers waits until the webhooks of a control plane do what they are for. Until
// then the image of gateways would stay the word `auto`, an enrolment that follows
// would be refused, and what is wrong with somebody's configuration not be told.
func (i Installer) answers(ctx context.Context, p Plane) error {
	// istiod publishes the CA bundle of its webhooks some time after it is ready.
	injector, validator := injectorConfiguration(p), validatorConfiguration(p)
	for _, ref := range []kube.Ref{injector, validator} {
		if err := i.awaitTrusted(ctx, ref); err != nil {
			return err
		}
	}
	var probes []install.Probe
	pod := map[string]string{injectLabel: yes}
	if p.Revision != "" {
		pod[revisionLabel] = p.Revision
	}
	namespace, err := i.injectedInto(ctx, injector.Name, pod)
	if err != nil {
		return err
	}
	if namespace == "" {
		if i.Log != nil {
			i.Log("the injector is not tried, as it passes over all namespaces", map[string]any{"injector": injector.Name})
		}
	} else {
		probes = append(probes, install.PodProbe(injector.Name, namespace, pod, nil, func(made *corev1.Pod) bool {
			proxy, _ := mesh.FindSidecar(made, proxyContainer)
			return proxy != nil && revisionOf(made) == p.Label()
		}))
	}
	// Its values may say that nothing is validated.
	_, err = i.Cluster.Get(ctx, validator)
	if err != nil && !isNotFound(err) {
		return err
	}
	routes, served, errRoutes := i.virtualServices(ctx)
	if errRoutes != nil {
		return errRoutes
	}
	if err == nil && served {
		route := kube.Ref{Kind: routes, Namespace: corev1.NamespaceDefault, Name: "aksmesh-probe"}.Object()
		route.SetLabels(map[string]string{revisionLabel: p.Label()})
		// A route that leads nowhere.
		route.Object["spec"] = map[string]any{"hosts": []any{"aksmesh-probe"}, "http": []any{map[string]any{"name": "none"}}}
		probes = append(probes, install.DeniedProbe("rev.validation.istio.io", route))
	}
	return i.AwaitAnswers(ctx, probes...)
}

// virtualServices is the kind VirtualService in a version that is served, which
// old CRDs do in older ones only; false if its CRD has been left out.
func (i Installer) virtualServices(ctx context.Context) (kube.Kind, bool, error) {
	kind := kube.Kind{Group: "networking.istio.io", Resource: "virtualservices", Name: "VirtualService", Namespaced: true}
	crd, err := i.Cluster.Get(ctx, kube.Ref{Kind: kube.CustomResourceDefinition, Name: kind.Resource + "." + kind.Group})
	if isNotFound(err) {
		return kind, false, nil
	}
	if err != nil {
		return kind, false, err
	}
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		version, ok := v.(map[string]any)
		if name, named := version["name"].(string); ok && named && version["served"] == true && (kind.Version == "" || name == "v1") {
			kind.Version = name
		}
	}
	return kind, kind.Version != "", err
}

// awaitTrusted waits until istiod has published the CA bundle of a webhook, if
// its chart has made one.
func (i Installer) awaitTrusted(ctx context.Context, ref kube.Ref) error {
	return i.Cluster.Await(ctx, "", []kube.Kind{ref.Kind}, func(ctx context.Context) (string, error) {
		all, err := i.Cluster.List(ctx, ref.Kind, "")
		if err != nil {
			return "", err
		}
		for _, w := range all {
			if w.GetName() == ref.Name && !trusted(w) {
				return fmt.Sprintf("istiod to publish the CA bundle of %s", ref), nil
			}
		}
		return "", nil
	})
}

// injectedInto finds a namespace of which an injector is given a pod, and has the
// last word on it; empty if there is none. That is the namespace default, unless
// somebody has marked it otherwise.
func (i Installer) injectedInto(ctx context.Context, configuration string, pod map[string]string) (string, error) {
	injectors, err := injectorsIn(ctx, i.Cluster)
	if err != nil {
		return "", err
	}
	namespaces, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return "", err
	}
	found := ""
	for _, namespace := range namespaces {
		last := ""
		for _, injector := range injectors {
			if injector.takes(namespace, pod) {
				last = injector.name
			}
		}
		if last == configuration && namespace.DeletionTimestamp == nil && !slices.Contains(neverInjected, namespace.Name) && (found == "" || namespace.Name == corev1.NamespaceDefault) {
			found = namespace.Name
		}
	}
	return found, nil
}

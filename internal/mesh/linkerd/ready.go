package linkerd

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// answering waits until the webhooks of a control plane answer: its pods are
// ready before the API server reaches them, and what is created in between would
// be left without a proxy, or unchecked.
func (i Installer) answering(namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		plane, err := Injection{Namespace: namespace}.ControlPlane(ctx, i.Cluster)
		if err != nil {
			return err
		}
		where, err := i.Cluster.Namespace(ctx, corev1.NamespaceDefault)
		if err != nil {
			return err
		}
		if err := plane.Sees(where, &corev1.Pod{}); err != nil {
			i.say("the webhooks are not tried, as they pass over namespace "+where.Name, map[string]any{"reason": err.Error()})
			return nil //nolint:nilerr // It is no failure of the control plane's.
		}
		return i.AwaitAnswers(ctx, probes(where.Name)...)
	}
}

func (i Installer) say(message string, fields map[string]any) {
	if i.Log != nil {
		i.Log(message, fields)
	}
}

// probes are a pod that has to come back with a proxy, and objects that the CRDs
// admit and the validators do not.
func probes(namespace string) []install.Probe {
	object := func(apiVersion, kind string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": apiVersion, "kind": kind, "spec": spec,
			"metadata": map[string]any{"namespace": namespace, "name": "aksmesh-probe." + namespace + ".svc.cluster.local"},
		}}
	}
	authentication := func(name string) any {
		return map[string]any{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": name}
	}
	return []install.Probe{
		install.PodProbe("linkerd-proxy-injector.linkerd.io", namespace, nil, map[string]string{injectAnnotation: enabled}, func(made *corev1.Pod) bool {
			proxy, _ := mesh.FindSidecar(made, proxyContainer)
			return proxy != nil
		}),
		install.DeniedProbe("linkerd-sp-validator.linkerd.io", object("linkerd.io/v1alpha2", "ServiceProfile", map[string]any{
			// One that matches nothing.
			"routes": []any{map[string]any{"name": "none", "condition": map[string]any{"pathRegex": ""}}},
		})),
		install.DeniedProbe("linkerd-policy-validator.linkerd.io", object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", map[string]any{
			"targetRef": map[string]any{"kind": "Namespace", "name": namespace},
			// Of one kind, only one is allowed.
			"requiredAuthenticationRefs": []any{authentication("a"), authentication("b")},
		})),
	}
}

package linkerd

import (
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// TestEnforcedSelectors holds that what AKS's admissions enforcer adds to the
// selectors of the control plane's and of extensions' webhooks is no drift, beside
// what the charts of edge-26.8.3 have there, and that what else is changed is.
func TestEnforcedSelectors(t *testing.T) {
	t.Parallel()
	expression := func(key, operator string, values ...any) map[string]any {
		e := map[string]any{"key": key, "operator": operator}
		if len(values) > 0 {
			e["values"] = values
		}
		return e
	}
	chart := []any{
		expression("config.linkerd.io/admission-webhooks", "NotIn", "disabled"),
		expression("kubernetes.io/metadata.name", "NotIn", "kube-system", "cert-manager"),
	}
	enforced := []any{
		expression("control-plane", "NotIn", "true"), expression("control-plane", "DoesNotExist"), expression("kubernetes.azure.com/managedby", "NotIn", "aks"),
	}
	covered := map[string]kube.Yields{}
	for _, s := range controlPlaneServers("linkerd") {
		covered[s.registration.String()] = Yields()
	}
	for _, s := range extensionServers("viz", "linkerd-viz") {
		covered[s.registration.String()] = extensionYields("viz")
	}
	maps.DeleteFunc(covered, func(name string, _ kube.Yields) bool { return name == "APIService v1alpha1.tap.linkerd.io" })
	if want := []string{
		"MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config", "MutatingWebhookConfiguration linkerd-tap-injector-webhook-config",
		"ValidatingWebhookConfiguration linkerd-policy-validator-webhook-config", "ValidatingWebhookConfiguration linkerd-sp-validator-webhook-config",
	}; !slices.Equal(slices.Sorted(maps.Keys(covered)), want) {
		t.Fatalf("webhooks are %v, want %v", covered, want)
	}
	for _, s := range slices.Concat(controlPlaneServers("linkerd"), extensionServers("viz", "linkerd-viz")) {
		yields, is := covered[s.registration.String()]
		if !is {
			continue
		}
		for change, drifts := range map[string]bool{"": false, "operator": true} {
			wanted, live := s.registration.Object(), s.registration.Object()
			selected := func(expressions []any) []any {
				return []any{map[string]any{"name": "w.linkerd.io", "namespaceSelector": map[string]any{"matchExpressions": expressions}}}
			}
			wanted.Object["webhooks"] = selected(slices.Clone(chart))
			there := slices.Concat(enforced[:1], chart, enforced[1:]) // In an order of its own.
			if change != "" {
				there[1] = expression("config.linkerd.io/admission-webhooks", "DoesNotExist")
			}
			live.Object["webhooks"] = selected(there)
			live.SetManagedFields([]metav1.ManagedFieldsEntry{{
				Manager: "admissionsenforcer", FieldsV1: metav1.NewFieldsV1(`{"f:webhooks": {"k:{\"name\":\"w.linkerd.io\"}": {"f:namespaceSelector": {}}}}`),
			}})
			yields.To(nil, live, wanted)
			if found := kube.Differences(wanted, live); (len(found) > 0) != drifts {
				t.Errorf("%s: %v", s.registration, found)
			}
			// A write of ours leaves it.
			if got, want := len(expressionsOf(t, wanted)), len(there); !drifts && got != want {
				t.Errorf("%s is written with %d expressions, and has %d", s.registration, got, want)
			}
		}
	}
}

// expressionsOf are those by which the first webhook selects namespaces.
func expressionsOf(t *testing.T, configuration *unstructured.Unstructured) []any {
	t.Helper()
	webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil || len(webhooks) == 0 {
		t.Fatalf("webhooks %v, %v", webhooks, err)
	}
	first, _ := webhooks[0].(map[string]any)
	expressions, _, err := unstructured.NestedSlice(first, "namespaceSelector", "matchExpressions")
	if err != nil {
		t.Fatal(err)
	}
	return expressions
}

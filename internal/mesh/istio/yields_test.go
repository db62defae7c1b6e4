package istio

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// TestEnforcedSelectors holds that what AKS's admissions enforcer adds to the
// selectors of Istio's webhooks is no drift, in either kind and beside expressions
// of the chart's, and that what else is changed is.
func TestEnforcedSelectors(t *testing.T) {
	t.Parallel()
	expression := func(key, operator string) map[string]any { return map[string]any{"key": key, "operator": operator} }
	enforced := []any{
		expression("control-plane", "DoesNotExist"),
		map[string]any{"key": "control-plane", "operator": "NotIn", "values": []any{"true"}},
		map[string]any{"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": []any{"aks"}},
	}
	for _, ref := range []kube.Ref{
		{Kind: kube.MutatingWebhookConfiguration, Name: "istio-sidecar-injector-1-31-1"},
		{Kind: kube.MutatingWebhookConfiguration, Name: "istio-revision-tag-default"},
		{Kind: kube.ValidatingWebhookConfiguration, Name: "istio-validator-1-31-1-istio-system"},
		{Kind: kube.ValidatingWebhookConfiguration, Name: "istiod-default-validator"},
	} {
		for change, drifts := range map[string]bool{"istio-injection": false, "somebodys": true} {
			webhooks := func(selector map[string]any) []any {
				return []any{map[string]any{"name": "rev.istio.io", "namespaceSelector": selector}, map[string]any{"name": "bare.istio.io"}}
			}
			wanted, live := ref.Object(), ref.Object()
			wanted.Object["webhooks"] = webhooks(map[string]any{"matchExpressions": []any{expression("istio.io/rev", "Exists"), expression("istio-injection", "DoesNotExist")}})
			there := webhooks(map[string]any{"matchExpressions": append([]any{expression("istio.io/rev", "Exists"), expression(change, "DoesNotExist")}, enforced...)})
			there[1] = map[string]any{"name": "bare.istio.io", "namespaceSelector": map[string]any{"matchExpressions": enforced}}
			live.Object["webhooks"] = there
			live.SetManagedFields([]metav1.ManagedFieldsEntry{{
				Manager:  "admissionsenforcer",
				FieldsV1: metav1.NewFieldsV1(`{"f:webhooks": {"k:{\"name\":\"rev.istio.io\"}": {"f:namespaceSelector": {}}, "k:{\"name\":\"bare.istio.io\"}": {"f:namespaceSelector": {}}}}`),
			}})
			Yields().To(nil, live, wanted)
			if found := kube.Differences(wanted, live); (len(found) > 0) != drifts {
				t.Errorf("%s with %s: %v", ref, change, found)
			}
			// A write of ours leaves it, and does not leave what is somebody else's.
			text, err := wanted.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(text), `"control-plane"`) != 4 || strings.Count(string(text), `"kubernetes.azure.com/managedby"`) != 2 || strings.Contains(string(text), "somebodys") {
				t.Errorf("%s with %s is written as %s", ref, change, text)
			}
		}
	}
}

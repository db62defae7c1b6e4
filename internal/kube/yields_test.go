package kube_test

import (
	"encoding/json"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// enforced are the expressions that AKS is known to add.
const enforced = `{"key": "control-plane", "operator": "NotIn", "values": ["true"]}, {"key": "control-plane", "operator": "DoesNotExist"}, ` +
	`{"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]}`

// What somebody else writes under a key of the enforcer's is not the enforcer's,
// where the object tells. What Helm writes, it writes with what it finds.
func TestYieldsToTheOwnerOnly(t *testing.T) {
	t.Parallel()
	for manager, want := range map[string]int{"admissionsenforcer": 3, "helm": 3, "kubectl-edit": 0} {
		live, wanted := kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "a"}.Object(), kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "a"}.Object()
		var expressions []any
		if err := json.Unmarshal([]byte("["+enforced+"]"), &expressions); err != nil {
			t.Fatal(err)
		}
		live.Object["webhooks"] = []any{map[string]any{"name": "w.example", "namespaceSelector": map[string]any{"matchExpressions": expressions}}}
		wanted.Object["webhooks"] = []any{map[string]any{"name": "w.example"}}
		live.SetManagedFields([]metav1.ManagedFieldsEntry{
			{Manager: "admissionsenforcer", FieldsV1: metav1.NewFieldsV1(`{"f:metadata": {"f:labels": {"f:a": {}}}}`)},
			{Manager: manager, FieldsV1: metav1.NewFieldsV1(`{"f:webhooks": {"k:{\"name\":\"w.example\"}": {".": {}, "f:name": {}, "f:namespaceSelector": {}}}}`)},
		})
		kube.EnforcerYields().To(nil, live, wanted)
		webhooks, _, err := unstructured.NestedSlice(wanted.Object, "webhooks")
		if err != nil {
			t.Fatal(err)
		}
		webhook, _ := webhooks[0].(map[string]any)
		got, _, err := unstructured.NestedSlice(webhook, "namespaceSelector", "matchExpressions")
		if err != nil || len(got) != want {
			t.Errorf("%s: %v, %v, want %d expressions", manager, got, err, want)
		}
	}
}

func TestYields(t *testing.T) {
	t.Parallel()
	yields := append(kube.Yields{
		{Kind: kube.ValidatingWebhookConfiguration, Name: "mesh-*", Path: []string{"webhooks", "*", "clientConfig", "caBundle"}, Owner: "pilot-discovery"},
		{Kind: kube.ValidatingWebhookConfiguration, Name: "mesh-*", Path: []string{"webhooks", "*", "failurePolicy"}, Owner: "pilot-discovery", Values: []any{"Fail"}},
	}, kube.EnforcerYields()...)
	for name, c := range map[string]struct{ object, live, wanted, want string }{
		"what owners set, and no more": {
			"mesh-a",
			`{"name": "a", "clientConfig": {"caBundle": "eA==", "url": "u"}, "failurePolicy": "Fail", "timeoutSeconds": 3}`,
			`{"name": "a", "failurePolicy": "Ignore", "timeoutSeconds": 10}`,
			`{"name": "a", "clientConfig": {"caBundle": "eA=="}, "failurePolicy": "Fail", "timeoutSeconds": 10}`,
		},
		"a value that the owner does not set": {
			"mesh-a", `{"name": "a", "failurePolicy": "Ignore"}`, `{"name": "a", "failurePolicy": "Fail"}`, `{"name": "a", "failurePolicy": "Fail"}`,
		},
		"another webhook": {"mesh-a", `{"name": "b", "clientConfig": {"caBundle": "eA=="}}`, `{"name": "a"}`, `{"name": "a"}`},
		"another object":  {"other", `{"name": "a", "clientConfig": {"caBundle": "eA=="}}`, `{"name": "a"}`, `{"name": "a"}`},
		"expressions of the enforcer, and the chart's beside them": {
			"other",
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "control-plane", "operator": "DoesNotExist"}, {"key": "somebodys", "operator": "Exists"}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "ours", "operator": "Exists"}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "ours", "operator": "Exists"}, {"key": "control-plane", "operator": "DoesNotExist"}]}}`,
		},
		"all expressions of AKS, two of one key, beside the chart's of a key of theirs, in another order": {
			"other",
			`{"name": "a", "namespaceSelector": {"matchExpressions": [` + enforced + `, {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [` + enforced + `, {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]}}`,
		},
		"a key that differs in case": {
			"other",
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "Control-Plane", "operator": "DoesNotExist"}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "ours", "operator": "Exists"}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "ours", "operator": "Exists"}]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := func(webhook string) *unstructured.Unstructured {
				made := kube.Ref{Kind: kube.ValidatingWebhookConfiguration, Name: c.object}.Object()
				var entry map[string]any
				if err := json.Unmarshal([]byte(webhook), &entry); err != nil {
					t.Fatal(err)
				}
				made.Object["webhooks"] = []any{entry}
				return made
			}
			wanted := object(c.wanted)
			yields.To(nil, object(c.live), wanted)
			got, err := json.Marshal(wanted)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(object(c.want))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// A conflict may be forced if it is about nothing but what is shared.
func TestYieldsCoverConflicts(t *testing.T) {
	t.Parallel()
	const selector = `.webhooks[name="w.example.com"].namespaceSelector`
	for name, c := range map[string]struct {
		kind     kube.Kind
		managers []string
		fields   []string
		want     bool
	}{
		"the selectors":            {kube.MutatingWebhookConfiguration, []string{"admissionsenforcer"}, []string{selector, `.webhooks[name="v.example.com"].namespaceSelector`}, true},
		"expressions alone":        {kube.ValidatingWebhookConfiguration, []string{"admissionsenforcer"}, []string{selector + ".matchExpressions"}, true},
		"labels of a selector":     {kube.ValidatingWebhookConfiguration, []string{"admissionsenforcer"}, []string{selector + ".matchLabels"}, false},
		"another field besides":    {kube.ValidatingWebhookConfiguration, []string{"admissionsenforcer"}, []string{selector, `.webhooks[name="w.example.com"].failurePolicy`}, false},
		"another manager":          {kube.ValidatingWebhookConfiguration, []string{"kubectl-edit"}, []string{selector}, false},
		"another manager besides":  {kube.ValidatingWebhookConfiguration, []string{"admissionsenforcer", "kubectl-edit"}, []string{selector}, false},
		"a selector of other kind": {kube.NetworkPolicy, []string{"admissionsenforcer"}, []string{selector}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conflict := &kube.ConflictError{Ref: kube.Ref{Kind: c.kind, Name: "w"}, Managers: c.managers, Fields: c.fields}
			if got := kube.EnforcerYields().Cover(conflict); got != c.want {
				t.Errorf("covered: %t", got)
			}
		})
	}
}

package install_test

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

func TestYields(t *testing.T) {
	t.Parallel()
	yields := append(install.Yields{
		{Kind: kube.ValidatingWebhookConfiguration, Name: "mesh-*", Path: []string{"webhooks", "*", "clientConfig", "caBundle"}, Owner: "pilot-discovery"},
		{Kind: kube.ValidatingWebhookConfiguration, Name: "mesh-*", Path: []string{"webhooks", "*", "failurePolicy"}, Owner: "pilot-discovery", Values: []any{"Fail"}},
	}, install.EnforcerYields()...)
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
		"expressions that the chart has itself": {
			"other",
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]}}`,
			`{"name": "a", "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]}}`,
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
			yields.To(object(c.live), wanted)
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

package release

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// What AKS's admissions enforcer adds to the selectors of a release's webhooks is
// neither drift nor a change nor a conflict, and stays when the release changes
// what is its own there.
func TestAccEnforcer(t *testing.T) {
	t.Parallel()
	name := shared.Cluster(t).Namespace(t) // No other has the name.
	const enforced = `{"key": "control-plane", "operator": "NotIn", "values": ["true"]}, {"key": "control-plane", "operator": "DoesNotExist"}, {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]}`
	configured := func(kind kube.Kind, selectors ...string) string {
		text := fmt.Sprintf("---\napiVersion: admissionregistration.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nwebhooks:\n", kind.Name, name)
		for i, selector := range selectors {
			text += fmt.Sprintf(`- {name: w%d.example.com, clientConfig: {url: "https://192.0.2.1/"}, sideEffects: None, admissionReviewVersions: [v1], `+
				"rules: [{apiGroups: [%s.example.com], apiVersions: [v1], operations: [CREATE], resources: [widgets]}]%s}\n", i, name, selector)
		}
		return text
	}
	selecting := func(expressions ...string) string {
		return ", namespaceSelector: {matchExpressions: [" + strings.Join(expressions, ", ") + "]}"
	}
	// Others write the whole list, by which what they change becomes theirs.
	write := func(manager, expressions string) {
		t.Helper()
		var added []any
		if err := json.Unmarshal([]byte("["+expressions+"]"), &added); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration} {
			there := live(t, releasesBy(t, ""), kind, "", name)
			edit(t, there, func(expressions []any) []any { return slices.Concat(added, expressions) })
			change, err := json.Marshal(map[string]any{"webhooks": there.Object["webhooks"]})
			if err != nil {
				t.Fatal(err)
			}
			patch(t, releasesBy(t, ""), kind, "", name, manager, string(change))
		}
	}
	keys := func(kind kube.Kind, webhook int) string {
		t.Helper()
		var found [][]string
		edit(t, live(t, releasesBy(t, ""), kind, "", name), func(expressions []any) []any {
			var keys []string
			for _, expression := range expressions {
				fields, _ := expression.(map[string]any)
				key, _ := fields["key"].(string)
				keys = append(keys, key)
			}
			slices.Sort(keys)
			found = append(found, keys)
			return expressions
		})
		return strings.Join(found[webhook], " ")
	}
	desired := func(selectors ...string) Desired {
		return Desired{Objects: parse(t, configured(kube.MutatingWebhookConfiguration, selectors...)+configured(kube.ValidatingWebhookConfiguration, selectors...))}
	}
	settled := func(d Desired) {
		t.Helper()
		if drift, err := open(t, releasesBy(t, ""), name, "app").Drift(t.Context()); err != nil || len(drift) > 0 {
			t.Errorf("drift %q, %v", drift, err)
		}
		if got := planned(t, releasesBy(t, ""), name, "app", d); len(got) > 0 {
			t.Errorf("plan %q", got)
		}
	}

	// A selector of the release's own, and none.
	own := desired(selecting("{key: example.com/one, operator: Exists}"), "")
	deploy(t, releasesBy(t, ""), name, "app", own)
	write("admissionsenforcer", enforced)
	settled(own)
	again := own
	again.Force = true
	for how, d := range map[string]Desired{"the same again": own, "by force": again} {
		deploy(t, releasesBy(t, ""), name, "app", d)
		for webhook, want := range []string{"control-plane control-plane example.com/one kubernetes.azure.com/managedby", "control-plane control-plane kubernetes.azure.com/managedby"} {
			if got := keys(kube.MutatingWebhookConfiguration, webhook); got != want {
				t.Errorf("%s: webhook %d selects by %s", how, webhook, got)
			}
		}
		settled(d)
	}

	// The release changes its part: one expression is replaced, a first is added, and
	// then all go.
	write("admissionsenforcer", `{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}`)
	for _, step := range []struct {
		selectors []string
		want      string
	}{
		{[]string{selecting("{key: example.com/two, operator: Exists}"), selecting("{key: example.com/three, operator: Exists}")}, "example.com/two "},
		{[]string{"", ""}, ""},
	} {
		d := desired(step.selectors...)
		plan := planned(t, releasesBy(t, ""), name, "app", d)
		if len(plan) != 2 || !strings.Contains(plan[0], "namespaceSelector") || strings.Contains(strings.Join(plan, ""), "control-plane") {
			t.Errorf("plan %q", plan)
		}
		deploy(t, releasesBy(t, ""), name, "app", d)
		for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration} {
			want := "control-plane control-plane " + step.want + "kubernetes.azure.com/managedby kubernetes.io/metadata.name"
			if got := keys(kind, 0); got != want {
				t.Errorf("%s selects by %s, want %s", kind, got, want)
			}
		}
		settled(d)
	}

	// What somebody else does is drift and a conflict as ever.
	deploy(t, releasesBy(t, ""), name, "app", own)
	write("kubectl-edit", `{"key": "example.com/somebodys", "operator": "Exists"}`)
	if drift, err := open(t, releasesBy(t, ""), name, "app").Drift(t.Context()); err != nil || len(drift) != 2 {
		t.Errorf("drift %q, %v", drift, err)
	}
	if err := open(t, releasesBy(t, ""), name, "app").Deploy(t.Context(), own); err == nil || !strings.Contains(err.Error(), "managed by kubectl-edit") {
		t.Errorf("error %v", err)
	}
}

// edit lets change the expressions by which each webhook selects namespaces.
func edit(t *testing.T, configuration *unstructured.Unstructured, change func(expressions []any) []any) {
	t.Helper()
	webhooks, _ := configuration.Object["webhooks"].([]any)
	for _, webhook := range webhooks {
		fields, ok := webhook.(map[string]any)
		if !ok {
			t.Fatalf("webhooks %v", webhooks)
		}
		expressions, _, err := unstructured.NestedSlice(fields, "namespaceSelector", "matchExpressions")
		if err != nil {
			t.Fatal(err)
		}
		if changed := change(expressions); len(changed) > 0 {
			if err := unstructured.SetNestedSlice(fields, changed, "namespaceSelector", "matchExpressions"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

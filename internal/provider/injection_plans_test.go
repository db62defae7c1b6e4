package provider

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// patchNamespace changes a namespace as somebody else by server-side apply.
func patchNamespace(t *testing.T, cluster *testcluster.Cluster, namespace, metadata string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,%s}}`, namespace, metadata)
	options := metav1.PatchOptions{FieldManager: "gitops", Force: new(true)}
	if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.ApplyPatchType, patch, options); err != nil {
		t.Fatal(err)
	}
}

// liveToken is the token that a namespace bears.
func liveToken(t *testing.T, cluster *testcluster.Cluster, namespace string) string {
	t.Helper()
	found, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found.Annotations[mesh.TokenAnnotation]
}

// TestAccInjection_successor replaces enrolments by others of the same target,
// each with a token of its own, and pods that are right are left alone.
func TestAccInjection_successor(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	expect := func(want bool) {
		t.Helper()
		if err := proxies(t, cluster, namespace, nil, "linkerd-proxy", want)(&terraform.State{}); err != nil {
			t.Fatal(err)
		}
	}
	generation := func() int64 {
		d, err := cluster.Client().AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Generation
	}
	config := injectionConfig(cluster, namespace, "mesh = { linkerd = {} }\n lifecycle { create_before_destroy = true }")
	w := newWorkspace(t, config)
	w.apply()
	expect(true)
	first, before := liveToken(t, cluster, namespace), generation()
	if first == "" {
		t.Fatal("the namespace bears no token")
	}
	w.expectNoChanges()

	w.succeed("apply", "-auto-approve", "-no-color", "-replace="+injectionAddress)
	expect(true)
	second := liveToken(t, cluster, namespace)
	if second == "" || second == first {
		t.Errorf("the successor's token is %q, that of its predecessor %q", second, first)
	}
	w.expectNoChanges()
	if after := generation(); after != before {
		t.Errorf("the Deployment has been changed: generation %d after %d", after, before)
	}

	// Another address, and nothing that says that it was this one: Terraform makes
	// the new one and deletes the former at the same time.
	w.write(strings.Replace(config, `"aksmesh_injection" "this"`, `"aksmesh_injection" "that"`, 1))
	w.apply()
	expect(true)
	if third := liveToken(t, cluster, namespace); third == "" || third == second {
		t.Errorf("the token of the one at another address is %q, that of the former %q", third, second)
	}
	w.expectNoChanges()

	w.succeed("destroy", "-auto-approve", "-no-color")
	expect(false)
	if token := liveToken(t, cluster, namespace); token != "" {
		t.Errorf("the token %q is left", token)
	}
}

// TestEnrolsAnew has the choice of the mesh unknown, as it may be the other one.
func TestEnrolsAnew(t *testing.T) {
	t.Parallel()
	of := func(name string) tftypes.Value {
		whole, ok := basetypes.ObjectType{AttrTypes: meshTypes()}.TerraformType(t.Context()).(tftypes.Object)
		if !ok {
			t.Fatal("no object")
		}
		choices := map[string]tftypes.Value{}
		for key, as := range whole.AttributeTypes {
			choices[key] = tftypes.NewValue(as, nil)
			object, ok := as.(tftypes.Object)
			if !ok || name != "unknown" && key != name {
				continue
			}
			if name == "unknown" {
				choices[key] = tftypes.NewValue(as, tftypes.UnknownValue)
				continue
			}
			settings := map[string]tftypes.Value{}
			for setting, as := range object.AttributeTypes {
				settings[setting] = tftypes.NewValue(as, tftypes.UnknownValue)
			}
			choices[key] = tftypes.NewValue(as, settings)
		}
		return tftypes.NewValue(whole, choices)
	}
	read := func(value tftypes.Value) basetypes.ObjectValue {
		converted, err := basetypes.ObjectType{AttrTypes: meshTypes()}.ValueFromTerraform(t.Context(), value)
		object, ok := converted.(basetypes.ObjectValue)
		if err != nil || !ok {
			t.Fatal(err)
		}
		return object
	}
	whole := tftypes.NewValue(of("linkerd").Type(), tftypes.UnknownValue)
	for name, c := range map[string]struct {
		planned tftypes.Value
		want    bool
	}{
		"the same mesh":        {of("linkerd"), false},
		"the other mesh":       {of("istio"), true},
		"one of both, unknown": {of("unknown"), true},
		"all unknown":          {whole, true},
	} {
		var resp objectplanmodifier.RequiresReplaceIfFuncResponse
		enrolsAnew(t.Context(), planmodifier.ObjectRequest{Path: path.Root("mesh"), StateValue: read(of("linkerd")), PlanValue: read(c.planned)}, &resp)
		if resp.RequiresReplace != c.want || resp.Diagnostics.HasError() {
			t.Errorf("%s: %t, %v", name, resp.RequiresReplace, resp.Diagnostics)
		}
	}
}

// TestAccInjection_foreignMark gives up enrolments of which somebody else holds
// a part, and takes over only what a plan has shown.
func TestAccInjection_foreignMark(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	w := newWorkspace(t, injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"))
	w.apply()

	// A setting that is new here, and somebody else's already.
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled","config.linkerd.io/opaque-ports":"3306"}`)
	with := "mesh = { linkerd = { opaque_ports = [\"8080\"] } }"
	w.write(injectionConfig(cluster, namespace, with))
	expectDetails(t, "error", w.run("apply", "-auto-approve", "-json"), []string{`config.linkerd.io/opaque-ports.*managed by gitops`})
	w.write(injectionConfig(cluster, namespace, with+"\n force_conflicts = true"))
	w.apply()

	// From now on it is this enrolment's, and changed back.
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled","config.linkerd.io/opaque-ports":"3306"}`)
	w.write(injectionConfig(cluster, namespace, with))
	w.apply()
	w.expectNoChanges()

	got := w.succeed("destroy", "-auto-approve", "-json")
	expectDetails(t, "warning", got, []string{`Namespace \S+ still has linkerd.io/inject, managed by gitops`})
	if err := proxies(t, cluster, namespace, nil, "linkerd-proxy", true)(&terraform.State{}); err != nil {
		t.Error(err)
	}
}

// TestAccInjectionPlan_enrolled plans changes of what is enrolled already: what
// is live is no reason to refuse a plan that may cure it.
func TestAccInjectionPlan_enrolled(t *testing.T) {
	t.Parallel()
	linkerdCluster(t)
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	w := newWorkspace(t, injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"))
	w.apply()
	foreign := testcluster.NewDeployment(namespace, "foreign", 1)
	foreign.Spec.Template.Labels = map[string]string{"app": "foreign", "sidecar.istio.io/inject": "true"}
	if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPod(t, cluster, namespace, "foreign")
	patchNamespace(t, cluster, namespace, `"labels":{"config.linkerd.io/admission-webhooks":"disabled"}`)
	w.write(injectionConfig(cluster, namespace, "mesh = { linkerd = { opaque_ports = [\"8080\"] } }\n restart = { order = [\"StatefulSet/gone\"] }"))
	got := w.run("plan", "-json")
	expectDetails(t, "error", got, nil)
	expectDetails(t, "warning", got, []string{
		`(?s)Namespace \S+: .*admission-webhooks.*Deployment \S+/foreign: Istio claims its pods too.*StatefulSet \S+/gone: restart.order names it`,
		`Deployment \S+/web: 1 pod: changed settings`,
	})

	// What it follows changes: the plan names what may come of it.
	patchNamespace(t, cluster, namespace, `"labels":{}`)
	w.write(injectionConfig(cluster, namespace, "mesh = { linkerd = {} }\n follows = [\"x\"]"))
	got = w.run("plan", "-json")
	expectDetails(t, "error", got, nil)
	expectDetails(t, "warning", got, []string{`Deployment \S+/foreign: Istio claims`, `(?m)^may restart: Deployment \S+/web$`})
}

// TestAccInjectionPlan_budgets finds budgets that never allow a restart.
func TestAccInjectionPlan_budgets(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	// A quarter of eight pods is two.
	cluster.CreateDeployment(t, namespace, "web", 8)
	budgets := cluster.Client().PolicyV1().PodDisruptionBudgets(namespace)
	if _, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the budget to be evaluated", func(ctx context.Context) bool {
		budget, err := budgets.Get(ctx, "web", metav1.GetOptions{})
		return err == nil && budget.Status.ObservedGeneration > 0 && budget.Status.ExpectedPods == 8
	})
	const never = `Deployment \S+/web: it cannot be restarted: .*PodDisruptionBudget \S+/web never allows.*restart.ignore_disruption_budgets`
	const restarts, ignored = `^Deployment \S+/web: 8 pods: not injected$`, "\n restart = { ignore_disruption_budgets = true }"
	for body, want := range map[string]struct{ errors, warnings []string }{
		"mesh = { linkerd = {} }":                   {nil, []string{never, restarts}},
		"mesh = { linkerd = {} }" + ignored:         {nil, []string{restarts}},
		onWeb + "mesh = { linkerd = {} }":           {[]string{never}, nil},
		onWeb + "mesh = { linkerd = {} }" + ignored: {nil, []string{restarts}},
	} {
		got := newWorkspace(t, injectionConfig(cluster, namespace, body)).run("plan", "-json")
		expectDetails(t, "error", got, want.errors)
		expectDetails(t, "warning", got, want.warnings)
	}
}

// TestAccInjection_terminating leaves a namespace alone that is on its way out.
func TestAccInjection_terminating(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	d := cluster.CreateDeployment(t, namespace, "web", 1)
	w := newWorkspace(t, injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"))
	w.apply()
	// What keeps it, until the test has looked.
	deployments := cluster.Client().AppsV1().Deployments(namespace)
	hold := func(finalizers string) {
		patch := fmt.Appendf(nil, `{"metadata":{"finalizers":%s}}`, finalizers)
		if _, err := deployments.Patch(context.WithoutCancel(t.Context()), d.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	hold(`["aksmesh.io/test"]`)
	t.Cleanup(func() { hold("null") })
	if err := cluster.Client().CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	restartedAt := func() string {
		live, err := deployments.Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return live.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"]
	}
	before := restartedAt()
	other := newWorkspace(t, injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"))
	expectDetails(t, "error", other.run("apply", "-auto-approve", "-json"), []string{`Namespace \S+ is being deleted`})
	w.succeed("destroy", "-auto-approve", "-no-color")
	if after := restartedAt(); after != before {
		t.Errorf("the Deployment was restarted at %s", after)
	}
}

// TestAccInjection_movedRevision has a tag lead to another revision, and a
// namespace go over to one: both restart what the former one has injected.
func TestAccInjection_movedRevision(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	live := connect(t, cluster)
	if err := installIstio(t.Context(), live, cluster.Charts().Repository, istioOld); err != nil {
		t.Fatal(err)
	}
	charts, err := testCharts(live)
	if err != nil {
		t.Fatal(err)
	}
	// deploy has a revision, and the tags that lead to it.
	deploy := func(version, revision string, tags ...any) {
		t.Helper()
		chart, err := charts.Load(t.Context(), cluster.Charts().Repository, "istiod", version)
		if err == nil {
			err = charts.Deploy(t.Context(), install.Release{
				Namespace: istioSystem, Name: "istiod-" + revision, Chart: chart,
				Values: map[string]any{"revision": revision, "revisionTags": tags},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		awaitReady(t, cluster, kube.Ref{Kind: kube.Deployment, Namespace: istioSystem, Name: "istiod-" + revision})
	}
	deploy(istioOld, "old", "stable")
	deploy(istioNew, "new")
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	injectedBy := func(revision string) {
		t.Helper()
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp == nil && pod.Annotations["istio.io/rev"] != revision {
				t.Errorf("pod %s is of revision %q, want %q", pod.Name, pod.Annotations["istio.io/rev"], revision)
			}
		}
	}
	config := func(revision string) string {
		return injectionConfig(cluster, namespace, fmt.Sprintf("mesh = { istio = { revision = %q } }", revision))
	}
	w := newWorkspace(t, config("stable"))
	w.apply()
	injectedBy("old")
	w.expectNoChanges()

	// The tag leads elsewhere: what has been injected is drift.
	deploy(istioOld, "old")
	deploy(istioNew, "new", "stable")
	if got := w.succeed("plan", "-no-color"); !strings.Contains(got.output, "revision moved (old instead of new)") {
		t.Errorf("the plan does not tell of the moved revision:\n%s", got.output)
	}
	w.apply()
	injectedBy("new")
	w.expectNoChanges()

	w.write(config("old"))
	expectDetails(t, "warning", w.run("plan", "-json"), []string{`^Deployment \S+/web: 1 pod: revision moved \(new instead of old\)`})
	w.apply()
	injectedBy("old")
	w.expectNoChanges()
}

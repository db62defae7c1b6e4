package provider

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// podDiary takes down when the pods of a namespace are made and become ready.
type podDiary struct {
	mu      sync.Mutex
	entries []podEntry
}

type podEntry struct {
	app, pod string
	ready    bool // became so; otherwise it was made
}

// keepDiary writes of all pods that are made from now on until the test ends.
func keepDiary(t *testing.T, cluster *testcluster.Cluster, namespace string) *podDiary {
	t.Helper()
	pods := cluster.Client().CoreV1().Pods(namespace)
	now, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: now.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Stop)
	diary := &podDiary{}
	known := map[types.UID]bool{} // to be ready or not
	for _, pod := range now.Items {
		known[pod.UID] = true
	}
	go func() {
		for event := range events.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			wasReady, seen := known[pod.UID]
			if !seen && event.Type == watch.Added {
				diary.write(podEntry{app: pod.Labels["app"], pod: pod.Name})
			}
			if !wasReady && ready(*pod) {
				diary.write(podEntry{app: pod.Labels["app"], pod: pod.Name, ready: true})
			}
			known[pod.UID] = wasReady || ready(*pod)
		}
	}()
	return diary
}

func (d *podDiary) write(entry podEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

func (d *podDiary) read() []podEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

// oneByOne is an error unless what made tells apart came one after the other:
// nothing is made before all that was made before it is ready. It returns them
// in that order.
func oneByOne(entries []podEntry, of func(podEntry) string) (order []string, err error) {
	waiting := map[string]string{} // pods that are not ready, and what they are of
	for _, entry := range entries {
		if entry.ready {
			delete(waiting, entry.pod)
			continue
		}
		for pod, other := range waiting {
			if other != of(entry) {
				return order, fmt.Errorf("pod %s was made before %s was ready", entry.pod, pod)
			}
		}
		waiting[entry.pod] = of(entry)
		if len(order) == 0 || order[len(order)-1] != of(entry) {
			order = append(order, of(entry))
		}
	}
	return order, nil
}

func TestAccInjectionRestarts_order(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	createWorkload(t, cluster, "StatefulSet", namespace, "db")
	for _, name := range []string{"api", "back", "web"} {
		cluster.CreateDeployment(t, namespace, name, 2)
	}
	awaitReady(t, cluster, kube.Ref{Kind: kube.StatefulSet, Namespace: namespace, Name: "db"})
	diary := keepDiary(t, cluster, namespace)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: injectionConfig(cluster, namespace, `
			mesh    = { linkerd = {} }
			restart = { max_parallel = 1, order = ["StatefulSet/db", "Deployment/web"] }`),
			ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("restarts"), linesMatching([]string{
				`^Deployment \S+/api: 2 pods: not injected$`, `^Deployment \S+/back: 2`, `^Deployment \S+/web: 2`, `^StatefulSet \S+/db: 2`,
			}))},
			Check: func(*terraform.State) error {
				entries := diary.read()
				order, err := oneByOne(entries, func(e podEntry) string { return e.app })
				if err != nil {
					return err
				}
				if len(order) != 4 || order[0] != "db" || order[1] != "web" {
					return fmt.Errorf("the restarts were %v", order)
				}
				// The controller's own order is kept within a StatefulSet.
				stateful := slices.DeleteFunc(entries, func(e podEntry) bool { return e.app != "db" })
				order, err = oneByOne(stateful, func(e podEntry) string { return e.pod })
				if err == nil && !slices.Equal(order, []string{"db-1", "db-0"}) {
					err = fmt.Errorf("the pods of db came as %v", order)
				}
				return err
			},
		}},
	})
}

// awaitReady waits for workloads as the provider does.
func awaitReady(t testing.TB, cluster *testcluster.Cluster, workloads ...kube.Ref) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := connect(t, cluster).AwaitReady(ctx, workloads...); err != nil {
		t.Fatal(err)
	}
}

// generations are those of the Deployments of a namespace.
func generations(t *testing.T, cluster *testcluster.Cluster, namespace string) map[string]int64 {
	t.Helper()
	list, err := cluster.Client().AppsV1().Deployments(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, d := range list.Items {
		found[d.Name] = d.Generation
	}
	return found
}

func TestAccInjectionRestarts_budget(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	budget := func(namespace string) {
		// A StatefulSet takes a pod down before it makes the next one.
		createWorkload(t, cluster, "StatefulSet", namespace, "db")
		cluster.CreateDeployment(t, namespace, "web", 1)
		awaitReady(t, cluster, kube.Ref{Kind: kube.StatefulSet, Namespace: namespace, Name: "db"})
		_, err := cluster.Client().PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "all-of-db"},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable: new(intstr.FromInt32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	const body = `mesh = { linkerd = {} }`

	t.Run("blocks", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		budget(namespace)
		before := generations(t, cluster, namespace)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{
					Config:      injectionConfig(cluster, namespace, body),
					ExpectError: regexp.MustCompile(`(?s)StatefulSet\s+` + namespace + `/db.*PodDisruptionBudget.*all-of-db`),
				},
				{
					PreConfig: func() {
						err := cluster.Client().PolicyV1().PodDisruptionBudgets(namespace).Delete(t.Context(), "all-of-db", metav1.DeleteOptions{})
						if err != nil {
							t.Fatal(err)
						}
					},
					Config: injectionConfig(cluster, namespace, body),
					Check: resource.ComposeTestCheckFunc(
						proxies(t, cluster, namespace, nil, "linkerd-proxy", true),
						func(*terraform.State) error {
							if after := generations(t, cluster, namespace); after["web"] != before["web"]+1 {
								return fmt.Errorf("web was restarted %d times", after["web"]-before["web"])
							}
							return nil
						},
					),
				},
			},
		})
	})

	t.Run("is ignored", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		budget(namespace)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{{
				Config: injectionConfig(cluster, namespace, body+"\n restart = { ignore_disruption_budgets = true }"),
				Check:  proxies(t, cluster, namespace, nil, "linkerd-proxy", true),
			}},
		})
	})

	t.Run("blocks a change of settings", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		budget(namespace)
		config := func(settings string) string {
			return injectionConfig(cluster, namespace, fmt.Sprintf("workload = { kind = \"StatefulSet\", name = \"db\" }\n mesh = { linkerd = { %s } }", settings))
		}
		free := injectionConfig(cluster, namespace, "workload = { kind = \"StatefulSet\", name = \"db\" }\n mesh = { linkerd = {} }\n restart = { ignore_disruption_budgets = true }")
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: free},
				{Config: config(""), ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(injectionAddress, plancheck.ResourceActionUpdate),
				}}},
				{
					// Nothing of it is in force, and nothing was begun.
					Config:      config(`proxy_log_level = "debug"`),
					ExpectError: regexp.MustCompile(`(?s)PodDisruptionBudget.*all-of-db`),
				},
				{Config: config(""), PlanOnly: true},
				{Config: free}, // So that the destroy may take its pods down.
			},
		})
	})
}

// TestAccInjectionRestarts_injectorDown has the injector away while pods are made.
func TestAccInjectionRestarts_injectorDown(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	if err := installLinkerd(t.Context(), connect(t, cluster), cluster.Charts().Repository, linkerdNew); err != nil {
		t.Fatal(err)
	}
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 2)
	pods := cluster.Client().CoreV1().Pods(namespace)
	const injector = "linkerd-proxy-injector"
	config := func(settings string) string {
		return injectionConfig(cluster, namespace, fmt.Sprintf(`mesh = { linkerd = { %s } }`, settings))
	}
	meshed := proxies(t, cluster, namespace, nil, "linkerd-proxy", true)
	webhook := func(failurePolicy, path string) {
		patch := fmt.Appendf(nil, `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":%q},{"op":"replace","path":"/webhooks/0/clientConfig/service/path","value":%q}]`, failurePolicy, path)
		_, err := cluster.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), injector+"-webhook-config", types.JSONPatchType, patch, metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	lost := []string{`^Deployment \S+/web: 2 pods: not injected`}
	repaired := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
		plancheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("restarts"), linesMatching(lost)),
	}}

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config(""), Check: meshed},
			{
				// failurePolicy Ignore: pods come up without a proxy, silently.
				PreConfig: func() {
					scale(t, cluster, "linkerd", injector, 0)
					remakeOutside(t, cluster, namespace, "web")
				},
				// It may come back by itself, and is given the time that there is.
				Config: injectionConfig(cluster, namespace, "mesh = { linkerd = {} }\n timeouts = { update = \"10s\" }"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("restarts"), linesMatching([]string{
						`^Deployment \S+/web: 2 pods: not injected \(.*` + injector + `.*\)$`,
					})),
				}},
				ExpectError: regexp.MustCompile(`(?s)Linkerd\s+cannot\s+take\s+its\s+pods\s+in\s+now:.*` + injector),
			},
			{
				PreConfig:        func() { scale(t, cluster, "linkerd", injector, 1) },
				Config:           config(""),
				ConfigPlanChecks: repaired,
				Check:            meshed,
			},
			{
				// failurePolicy Fail: new pods are refused while the webhook cannot be called.
				PreConfig: func() { webhook("Fail", "/nowhere") },
				Config:    config(`proxy_log_level = "debug"`),
				ExpectError: regexp.MustCompile(`(?s)Deployment\s+` + namespace + `/web\s+does\s+not\s+roll\s+out:.*` +
					`failed\s+calling\s+webhook\s+"` + injector + `.*could\s+not\s+reach\s+the\s+admission\s+webhook`),
			},
			{
				PreConfig: func() { webhook("Ignore", "/") },
				Config:    config(`proxy_log_level = "debug"`),
				Check: resource.ComposeTestCheckFunc(meshed, func(*terraform.State) error {
					list, err := pods.List(t.Context(), metav1.ListOptions{})
					if err != nil {
						return err
					}
					for _, pod := range list.Items {
						if pod.DeletionTimestamp == nil && pod.Annotations["config.linkerd.io/proxy-log-level"] != "debug" {
							return fmt.Errorf("pod %s was made before", pod.Name)
						}
					}
					return nil
				}),
			},
		},
	})
}

// scale scales a Deployment and waits until it is done.
func scale(t *testing.T, cluster *testcluster.Cluster, namespace, name string, replicas int32) {
	t.Helper()
	deployments := cluster.Client().AppsV1().Deployments(namespace)
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := deployments.Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, fmt.Sprintf("%d pods of %s", replicas, name), func(ctx context.Context) bool {
		d, err := deployments.Get(ctx, name, metav1.GetOptions{})
		return err == nil && d.Status.ObservedGeneration >= d.Generation && d.Status.Replicas == replicas && d.Status.AvailableReplicas == replicas
	})
}

// TestAccInjectionRestarts_resumed has an enrolment fail and crash between its
// restarts: what has been restarted is left alone when it goes on.
func TestAccInjectionRestarts_resumed(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	for _, name := range []string{"a", "b", "c"} {
		cluster.CreateDeployment(t, namespace, name, 1)
	}
	before := generations(t, cluster, namespace)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	w := newWorkspace(t, providerConfig(proxy.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_injection" "this" {
	  namespace = %q
	  mesh      = { linkerd = {} }
	  restart   = { max_parallel = 1, order = ["Deployment/a", "Deployment/b", "Deployment/c"] }
	}`, namespace)))
	restart := func(name string) testcluster.Match {
		return request(http.MethodPatch, "/namespaces/"+namespace+"/deployments/"+name)
	}
	restarted := func(want ...string) {
		t.Helper()
		for name, generation := range generations(t, cluster, namespace) {
			rolls := generation - before[name]
			if slices.Contains(want, name) != (rolls == 1) || rolls > 1 {
				t.Errorf("%s was restarted %d times; %v should have been once", name, rolls, want)
			}
		}
	}
	failAt(w, proxy, restart("b"), injectionAddress)
	restarted("a")
	killAt(w, proxy, restart("c"), "apply", "-auto-approve", "-no-color")
	restarted("a", "b")
	w.apply()
	restarted("a", "b", "c")
	if err := proxies(t, cluster, namespace, nil, "linkerd-proxy", true)(nil); err != nil {
		t.Error(err)
	}
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
	if err := proxies(t, cluster, namespace, nil, "linkerd-proxy", false)(nil); err != nil {
		t.Error(err)
	}
}

// TestAccInjectionPlan_outlived applies a plan that the cluster has moved on
// from: the restarts of its pods are no part of what Terraform compares.
func TestAccInjectionPlan_outlived(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	cluster.CreateDeployment(t, namespace, "api", 1)
	// Two enrolments of the same pods: the first takes its work from the second.
	w := newWorkspace(t, injectionConfig(cluster, namespace, "mesh = { linkerd = {} }")+fmt.Sprintf(`
	resource "aksmesh_injection" "web" {
	  namespace  = %q
	  workload   = { kind = "Deployment", name = "web" }
	  mesh       = { linkerd = {} }
	  depends_on = [aksmesh_injection.this]
	}`, namespace))
	w.succeed("plan", "-out=plan", "-no-color")
	scale(t, cluster, namespace, "web", 3)
	w.succeed("apply", "-no-color", "plan")
	w.expectNoChanges()

	// So is a plan that repairs what was found when it was made.
	slipPast(t, cluster, namespace, "api")
	w.succeed("plan", "-out=plan", "-no-color")
	scale(t, cluster, namespace, "api", 2)
	w.succeed("apply", "-no-color", "plan")
	w.expectNoChanges()
}

// enrolledWorkloads creates Deployments and returns a configuration that enrols
// each of them in Linkerd.
func enrolledWorkloads(t testing.TB, cluster *testcluster.Cluster, namespaces, each int) string {
	t.Helper()
	var workloads []kube.Ref
	var targets strings.Builder
	for range namespaces {
		namespace := cluster.Namespace(t)
		for i := range each {
			d := testcluster.NewDeployment(namespace, fmt.Sprintf("web-%d", i), 1)
			if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			workloads = append(workloads, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: d.Name})
			fmt.Fprintf(&targets, "    \"%s/%s\" = { namespace = %[1]q, name = %[2]q }\n", namespace, d.Name)
		}
	}
	awaitReady(t, cluster, workloads...)
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_injection" "this" {
	  for_each = {
	%s
	  }
	  namespace = each.value.namespace
	  workload  = { kind = "Deployment", name = each.value.name }
	  mesh      = { linkerd = {} }
	}`, targets.String()))
}

// TestAccInjectionRestarts_twoHundred enrols 200 workloads in one apply: what it
// asks of the API server is lists, and few of them.
func TestAccInjectionRestarts_twoHundred(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{AuditLog: true, Nodes: 4})
	if err := installLinkerd(t.Context(), connect(t, cluster), cluster.Charts().Repository, linkerdNew); err != nil {
		t.Fatal(err)
	}
	w := newWorkspace(t, enrolledWorkloads(t, cluster, 5, 40))
	apply := measure(t, cluster, w, "apply", "-auto-approve", "-no-color")
	t.Logf("the apply took %s: %d LISTs %v, %d GETs, %d watches, %d writes", apply.wall.Round(time.Second), apply.lists, apply.listsOf, apply.gets, apply.watches, apply.writes)
	if apply.writes < 200 {
		t.Errorf("%d writes, want one for each workload", apply.writes)
	}
	if apply.gets > 10 {
		t.Errorf("%d GETs", apply.gets)
	}
	for of, lists := range apply.listsOf {
		if lists > 20 { // Watches that end while the machine is busy begin anew with a list.
			t.Errorf("%s were listed %d times", of, lists)
		}
	}
	plan := measure(t, cluster, w, "plan", "-detailed-exitcode", "-no-color")
	for of, lists := range plan.listsOf {
		if lists > 2 {
			t.Errorf("a plan lists %s %d times, want at most 2", of, lists)
		}
	}
	if plan.gets > 0 || plan.writes > 0 {
		t.Errorf("a plan takes %d GETs and %d writes", plan.gets, plan.writes)
	}
}

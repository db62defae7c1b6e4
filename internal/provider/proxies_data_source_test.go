package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const proxiesAddress = "data.aksmesh_proxies.this"

// proxiesConfig is the data source, read during each plan.
func proxiesConfig(cluster *testcluster.Cluster, body string, more ...string) string {
	return providerConfig(cluster.Kubeconfig(), append(more, "data \"aksmesh_proxies\" \"this\" {\n"+body+"\n}")...)
}

// shows checks attributes below one of the data source's.
func shows(root tfjsonpath.Path, want map[string]knownvalue.Check) []statecheck.StateCheck {
	var checks []statecheck.StateCheck
	for name, check := range want {
		checks = append(checks, statecheck.ExpectKnownValue(proxiesAddress, root.AtMapKey(name), check))
	}
	return checks
}

// bare creates a pod that nothing manages.
func bare(t *testing.T, cluster *testcluster.Cluster, namespace, name string, change func(*corev1.Pod)) {
	t.Helper()
	template := testcluster.NewDeployment(namespace, name, 1).Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: template.Labels}, Spec: template.Spec}
	if change != nil {
		change(pod)
	}
	await(t, "the default service account", func(ctx context.Context) bool {
		_, err := cluster.Client().CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err == nil
	})
}

func TestAccProxies_linkerd(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "api", 1)
	cluster.CreateDeployment(t, namespace, "web", 2)
	bare(t, cluster, namespace, "alone", nil)
	bare(t, cluster, namespace, "host", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	config := func(body string) string {
		return proxiesConfig(cluster, fmt.Sprintf("namespace = %q\n%s", namespace, body))
	}
	summary, proxy := tfjsonpath.New("summary"), func(i int) tfjsonpath.Path { return tfjsonpath.New("proxies").AtSliceIndex(i) }
	count := knownvalue.Int64Exact

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				// Nobody asks for a mesh.
				Config: config(""),
				ConfigStateChecks: append(
					shows(summary, map[string]knownvalue.Check{"total": count(5), "meshed": count(0), "unmeshed": count(0), "outside": count(5), "stale": count(0)}),
					shows(proxy(0), map[string]knownvalue.Check{
						"pod": knownvalue.StringExact("alone"), "owner_kind": knownvalue.StringExact("Pod"), "owner_name": knownvalue.StringExact("alone"),
						"mesh": knownvalue.Null(), "mode": knownvalue.Null(), "stale": knownvalue.Bool(false),
					})...,
				),
			},
			{
				// The namespace asks, and its pods are of before.
				PreConfig: func() {
					annotate(t, cluster, namespace, `{"linkerd.io/inject":"enabled","config.linkerd.io/proxy-cpu-request":"10m"}`)
				},
				Config: config(`list = "stale"`),
				ConfigStateChecks: append(
					shows(summary, map[string]knownvalue.Check{
						"total": count(5), "meshed": count(0), "unmeshed": count(4), "outside": count(1),
						"by_reason": knownvalue.MapExact(map[string]knownvalue.Check{"not injected": count(4)}),
					}),
					statecheck.ExpectKnownValue(proxiesAddress, tfjsonpath.New("proxies"), knownvalue.ListSizeExact(4)),
				),
			},
			{
				PreConfig: func() {
					recreate(t.Context(), t, cluster, namespace, "web")
					awaitProxies(t, cluster, namespace, "web", "linkerd-proxy", 2)
				},
				Config: config(`label_selector = "app in (web, host)"`),
				ConfigStateChecks: append(append(
					shows(summary, map[string]knownvalue.Check{
						"total": count(3), "meshed": count(2), "unmeshed": count(0), "outside": count(1), "ready": count(2), "stale": count(0),
						"by_version": knownvalue.MapExact(map[string]knownvalue.Check{"linkerd edge-26.8.3": count(2)}),
					}),
					shows(proxy(0), map[string]knownvalue.Check{
						"pod": knownvalue.StringExact("host"), "mesh": knownvalue.StringExact("linkerd"), "mode": knownvalue.Null(),
						"reasons": knownvalue.ListPartial(map[int]knownvalue.Check{0: knownvalue.StringRegexp(regexp.MustCompile("hostNetwork"))}),
					})...),
					shows(proxy(1), map[string]knownvalue.Check{
						"owner_kind": knownvalue.StringExact("Deployment"), "owner_name": knownvalue.StringExact("web"),
						"mesh": knownvalue.StringExact("linkerd"), "mode": knownvalue.StringExact("native-sidecar"),
						"version": knownvalue.StringExact("edge-26.8.3"), "image": knownvalue.StringRegexp(regexp.MustCompile(`proxy:edge-26\.8\.3$`)),
						"revision": knownvalue.Null(), "trust_roots_sha256": knownvalue.StringRegexp(regexp.MustCompile(`^[0-9a-f]{64}$`)),
						"settings": knownvalue.MapPartial(map[string]knownvalue.Check{"config.linkerd.io/proxy-cpu-request": knownvalue.StringExact("10m")}),
						"ready":    knownvalue.Bool(true), "stale": knownvalue.Bool(false), "reasons": knownvalue.ListSizeExact(0),
					})...,
				),
			},
			{
				PreConfig: func() { annotate(t, cluster, namespace, `{"config.linkerd.io/proxy-cpu-request":"20m"}`) },
				Config:    config("label_selector = \"app=web\"\n list = \"meshed\""),
				ConfigStateChecks: append(
					shows(summary, map[string]knownvalue.Check{"total": count(2), "meshed": count(2), "stale": count(2)}),
					shows(proxy(0), map[string]knownvalue.Check{
						"stale":   knownvalue.Bool(true),
						"reasons": knownvalue.ListPartial(map[int]knownvalue.Check{0: knownvalue.StringRegexp(regexp.MustCompile(`^changed settings \(.*proxy-cpu-request`))}),
					})...,
				),
			},
			{
				Config: config("mesh = \"istio\"\n list = \"none\""),
				ConfigStateChecks: append(
					shows(summary, map[string]knownvalue.Check{"total": count(5), "meshed": count(0), "outside": count(5)}),
					statecheck.ExpectKnownValue(proxiesAddress, tfjsonpath.New("proxies"), knownvalue.ListSizeExact(0)),
				),
			},
		},
	})
}

func TestAccProxies_istio(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	patch := []byte(`{"metadata":{"labels":{"istio-injection":"enabled"}}}`)
	if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	cluster.CreateDeployment(t, namespace, "web", 1)
	awaitProxies(t, cluster, namespace, "web", "istio-proxy", 1)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: proxiesConfig(cluster, fmt.Sprintf("namespace = %q\n label_selector = \"app=web\"", namespace)),
			ConfigStateChecks: append(
				shows(tfjsonpath.New("summary"), map[string]knownvalue.Check{"meshed": knownvalue.Int64Exact(1), "stale": knownvalue.Int64Exact(0)}),
				shows(tfjsonpath.New("proxies").AtSliceIndex(0), map[string]knownvalue.Check{
					"mesh": knownvalue.StringExact("istio"), "version": knownvalue.StringExact("1.31.0"), "revision": knownvalue.StringExact("default"),
					"mode": knownvalue.StringRegexp(regexp.MustCompile(`^(native-)?sidecar$`)), "trust_roots_sha256": knownvalue.Null(), "ready": knownvalue.Bool(true),
				})...,
			),
		}},
	})
}

func TestAccProxies_noControlPlane(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	annotate(t, cluster, namespace, `{"linkerd.io/inject":"enabled"}`)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: proxiesConfig(cluster, fmt.Sprintf("namespace = %q", namespace)),
			ConfigStateChecks: shows(tfjsonpath.New("proxies").AtSliceIndex(0), map[string]knownvalue.Check{
				"mesh": knownvalue.StringExact("linkerd"), "mode": knownvalue.Null(), "stale": knownvalue.Bool(true),
				"reasons": knownvalue.ListPartial(map[int]knownvalue.Check{0: knownvalue.StringRegexp(regexp.MustCompile("no control plane"))}),
			}),
		}},
	})
}

func TestProxies_badInput(t *testing.T) {
	t.Parallel()
	expectInvalidData(t, "aksmesh_proxies", map[string]invalidInput{
		`namespace = "X"`:              {"namespace", "DNS label"},
		`label_selector = "app = = x"`: {"label_selector", "a label selector such as"},
		`mesh = "consul"`:              {"mesh", `"linkerd" "istio"`},
		`list = "some"`:                {"list", `"all" "meshed" "stale" "none"`},
	})
}

// TestProxies_noCluster reads while the provider's configuration is not known.
func TestProxies_noCluster(t *testing.T) {
	t.Parallel()
	resource.UnitTest(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: `
				resource "terraform_data" "cluster" { input = "https://nowhere.invalid" }
				provider "aksmesh" { kubernetes = { host = terraform_data.cluster.output } }
				data "aksmesh_proxies" "this" {}`,
			ExpectError: regexp.MustCompile(`(?s)No Cluster To Talk To.*depends_on`),
		}},
	})
}

// annotate sets annotations of a namespace, given as JSON.
func annotate(t *testing.T, cluster *testcluster.Cluster, namespace, annotations string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":%s}}`, annotations)
	if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// recreate deletes the pods of a Deployment, which makes new ones.
func recreate(ctx context.Context, t *testing.T, cluster *testcluster.Cluster, namespace, deployment string) {
	t.Helper()
	if err := cluster.Client().CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=" + deployment}); err != nil {
		t.Fatal(err)
	}
}

// countProxies counts the living and ready pods of a Deployment with a proxy; -1 if
// there are others, too.
func countProxies(ctx context.Context, t *testing.T, cluster *testcluster.Cluster, namespace, deployment, container string) int {
	t.Helper()
	pods, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + deployment})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			return -1
		}
		for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if status.Name == container && status.Ready {
				found++
			}
		}
	}
	if found != len(pods.Items) {
		return -1
	}
	return found
}

// awaitProxies waits until a Deployment has just so many pods, all with a proxy.
// Pods that were made before the namespace's mark was known everywhere are made anew.
func awaitProxies(t *testing.T, cluster *testcluster.Cluster, namespace, deployment, container string, want int) {
	t.Helper()
	again := time.Now().Add(5 * time.Second)
	await(t, fmt.Sprintf("%d pods of %s with a proxy", want, deployment), func(ctx context.Context) bool {
		if time.Now().After(again) {
			recreate(ctx, t, cluster, namespace, deployment)
			again = time.Now().Add(5 * time.Second)
		}
		return countProxies(ctx, t, cluster, namespace, deployment, container) == want
	})
}

// BenchmarkProxies reads the data source on a cluster of 5,000 meshed pods.
func BenchmarkProxies(b *testing.B) {
	const pods, deployments = 5000, 50
	cluster := testcluster.New(b, testcluster.Options{AuditLog: true, Nodes: 24})
	if err := installLinkerd(b.Context(), connect(b, cluster), cluster.Charts().Repository, linkerdNew); err != nil {
		b.Fatal(err)
	}
	namespace := cluster.Namespace(b)
	workloads := make([]kube.Ref, 0, deployments)
	for i := range deployments {
		deployment := testcluster.NewDeployment(namespace, fmt.Sprintf("web-%d", i), pods/deployments)
		deployment.Spec.Template.Annotations = map[string]string{"linkerd.io/inject": "enabled"}
		if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(b.Context(), deployment, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		workloads = append(workloads, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: deployment.Name})
	}
	if err := connect(b, cluster).AwaitReady(b.Context(), workloads...); err != nil {
		b.Fatal(err)
	}
	for _, list := range []string{listEverything, listNothing} {
		b.Run(list, func(b *testing.B) {
			w := newWorkspace(b, proxiesConfig(cluster, fmt.Sprintf("list = %q", list), "output \"summary\" { value = data.aksmesh_proxies.this.summary }"))
			for b.Loop() {
				cost := measure(b, cluster, w, "apply", "-auto-approve", "-no-color")
				cost.report(b, "read")
				if got := cost.listsOf["pods"]; got < pods/500 {
					b.Errorf("pods were listed in %d pages, want at least %d", got, pods/500)
				}
			}
			got := w.start("output", "-json", "summary").wait()
			var summary struct{ Total, Meshed int }
			if err := json.Unmarshal([]byte(got.output[strings.Index(got.output, "{"):]), &summary); err != nil || summary.Meshed < pods {
				b.Fatalf("%d of %d pods are meshed, want %d (%v)", summary.Meshed, summary.Total, pods, err)
			}
		})
	}
}

package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const releaseAddress = "aksmesh_release.this"

// releaseBody is one release in a namespace that exists.
func releaseBody(namespace, body string) string {
	return fmt.Sprintf("resource \"aksmesh_release\" \"this\" {\n  name = \"app\"\n  namespace = %q\n  %s\n}", namespace, body)
}

func releaseConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), releaseBody(namespace, body))
}

// shopChart is the path of a chart with a bit of everything.
func shopChart(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "charts", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// texts expects a list of exactly these strings.
func texts(want ...string) knownvalue.Check {
	checks := make([]knownvalue.Check, len(want))
	for i, text := range want {
		checks[i] = knownvalue.StringExact(text)
	}
	return knownvalue.ListExact(checks)
}

// planned checks what a plan does with a release, and says that it changes.
func planned(action plancheck.ResourceActionType, changes ...string) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
		plancheck.ExpectResourceAction(releaseAddress, action),
		plancheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("changes"), texts(changes...)),
	}}
}

// meshedPods checks the counts of a release whose pods are all in the mesh.
func meshedPods(count int64) []statecheck.StateCheck {
	return []statecheck.StateCheck{
		statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("meshed_pods"), knownvalue.Int64Exact(count)),
		statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("total_pods"), knownvalue.Int64Exact(count)),
		statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("stale_pods"), knownvalue.Int64Exact(0)),
		statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
	}
}

// importOf imports the release and compares all but what no record tells.
func importOf(namespace string) resource.TestStep {
	return resource.TestStep{
		ResourceName: releaseAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/app",
		ImportStateVerifyIgnore: []string{"changes", "restarts"},
	}
}

// objectsGone checks that a destroy has left of a release nothing but the claims of
// its StatefulSets.
func objectsGone(t *testing.T, cluster *testcluster.Cluster, namespace string, claims int) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		core, apps := cluster.Client().CoreV1(), cluster.Client().AppsV1()
		found := map[string]int{}
		if list, err := core.Pods(namespace).List(ctx, metav1.ListOptions{}); err == nil {
			found["pods"] = len(list.Items)
		}
		if list, err := core.Services(namespace).List(ctx, metav1.ListOptions{}); err == nil {
			found["services"] = len(list.Items)
		}
		if list, err := core.Secrets(namespace).List(ctx, metav1.ListOptions{}); err == nil {
			found["secrets"] = len(list.Items)
		}
		if list, err := apps.Deployments(namespace).List(ctx, metav1.ListOptions{}); err == nil {
			found["deployments"] = len(list.Items)
		}
		if list, err := core.PersistentVolumeClaims(namespace).List(ctx, metav1.ListOptions{}); err == nil {
			found["claims"] = len(list.Items)
		}
		if want := map[string]int{"pods": 0, "services": 0, "secrets": 0, "deployments": 0, "claims": claims}; !maps.Equal(found, want) {
			return fmt.Errorf("namespace %s has %v after the destroy, want %v", namespace, found, want)
		}
		return nil
	}
}

// patch changes an object of a kind as somebody else would.
func patch(t *testing.T, cluster *testcluster.Cluster, path, change string) {
	t.Helper()
	err := cluster.Client().Discovery().RESTClient().Patch(types.MergePatchType).AbsPath(path).
		Param("fieldManager", "somebody").Body([]byte(change)).Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAccRelease_chart(t *testing.T) {
	t.Parallel()
	for mesh, proxy := range map[string]string{"linkerd": "linkerd-proxy", "istio": "istio-proxy"} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			cluster := map[string]func(testing.TB) *testcluster.Cluster{"linkerd": linkerdCluster, "istio": istioCluster}[mesh](t)
			namespace := cluster.Namespace(t)
			settings := map[string]string{"linkerd": `opaque_ports = [7000]`, "istio": `proxy_cpu_request = "20m"`}[mesh]
			config := func(values string) string {
				return releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]\n mesh = { %s = { %s } }", shopChart(t), values, mesh, settings))
			}
			meshed := proxies(t, cluster, namespace, nil, proxy, true)
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				CheckDestroy:             objectsGone(t, cluster, namespace, 2),
				Steps: []resource.TestStep{
					{
						Config: config(""),
						ConfigPlanChecks: planned(plancheck.ResourceActionCreate,
							"+ Secret "+namespace+"/credentials", "+ ConfigMap "+namespace+"/extra", "+ Service "+namespace+"/db", "+ Service "+namespace+"/web",
							"+ Deployment "+namespace+"/web", "+ StatefulSet "+namespace+"/db"),
						ConfigStateChecks: append(meshedPods(3),
							statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("app_version"), knownvalue.StringExact("2.4")),
							statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("objects"), knownvalue.ListSizeExact(6)),
						),
						Check: resource.ComposeTestCheckFunc(meshed, opaqueServices(t, cluster, namespace, mesh == "linkerd")),
					},
					importOf(namespace),
					{
						// What is not in the chart any more goes; values are merged in order.
						Config: config("{replicas: 3, extra: false}"),
						ConfigPlanChecks: planned(plancheck.ResourceActionUpdate,
							"~ Deployment "+namespace+"/web: spec.replicas: 1 -> 3", "- ConfigMap "+namespace+"/extra"),
						ConfigStateChecks: meshedPods(5),
						Check:             meshed,
					},
					{
						// Somebody changes one object and deletes another; the plan of it says
						// nothing of objects that are as they were.
						PreConfig: func() {
							patch(t, cluster, "/apis/apps/v1/namespaces/"+namespace+"/deployments/web", `{"spec":{"replicas":1}}`)
							if err := cluster.Client().CoreV1().Services(namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
								t.Fatal(err)
							}
						},
						Config: config("{replicas: 3, extra: false}"),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
							expectDrift(`Service `+namespace+`/web is missing`, `Deployment `+namespace+`/web: spec.replicas: want 3, is 1`),
						}},
						ConfigStateChecks: meshedPods(5),
						Check: func(*terraform.State) error {
							_, err := cluster.Client().CoreV1().Services(namespace).Get(t.Context(), "web", metav1.GetOptions{})
							return err
						},
					},
					{
						// Settings of the mesh are part of the templates.
						Config: strings.ReplaceAll(strings.ReplaceAll(config("{replicas: 3, extra: false}"), "20m", "30m"), "[7000]", "[7000, 7001]"),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
						}},
						ConfigStateChecks: meshedPods(5),
						Check:             meshed,
					},
					{
						// Out of the mesh, and back to what it was.
						Config:            strings.ReplaceAll(config("{replicas: 3, extra: false}"), "mesh = {", "#"),
						ConfigStateChecks: meshedPods(0),
						Check:             proxies(t, cluster, namespace, nil, proxy, false),
					},
				},
			})
		})
	}
}

// expectDrift checks the lines of drift that a plan is going to repair.
func expectDrift(want ...string) plancheck.PlanCheck { return driftCheck(want) }

type driftCheck []string

func (c driftCheck) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	for _, change := range req.Plan.ResourceChanges {
		if change.Address != releaseAddress {
			continue
		}
		before, _ := change.Change.Before.(map[string]any)
		found, _ := before["drift"].([]any)
		for _, want := range c {
			matches := func(line any) bool { return regexp.MustCompile(want).MatchString(fmt.Sprint(line)) }
			if !slices.ContainsFunc(found, matches) {
				resp.Error = fmt.Errorf("drift is %q, want a line that matches %q", found, want)
			}
		}
		return
	}
	resp.Error = fmt.Errorf("%s is not in the plan", releaseAddress)
}

// opaqueServices checks that clients are told of opaque ports, or of none.
func opaqueServices(t *testing.T, cluster *testcluster.Cluster, namespace string, want bool) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		services, err := cluster.Client().CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, service := range services.Items {
			if ports := service.Annotations["config.linkerd.io/opaque-ports"]; (ports == "7000") != want {
				return fmt.Errorf("opaque ports of Service %s are %q", service.Name, ports)
			}
		}
		return nil
	}
}

func TestAccRelease_chartSources(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	charts := cluster.Charts()
	config := func(repository, name, version string) string {
		return releaseConfig(cluster, namespace, fmt.Sprintf(`
		chart  = { repository = %q, name = %q, version = %q }
		values = [yamlencode({ service = { type = "ClusterIP" } })]
		mesh   = { istio = {} }`, repository, name, version))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             objectsGone(t, cluster, namespace, 0),
		Steps: []resource.TestStep{
			{Config: config(charts.Repository, "gatewai", "1.30.2"), ExpectError: regexp.MustCompile(`(?s)chart\.name.*"gatewai"\s+does\s+not\s+exist.*gateway`)},
			{Config: config(charts.Repository, "gateway", "1.30.9"), ExpectError: regexp.MustCompile(`(?s)chart\.version.*no\s+version\s+"1.30.9".*1.30.2`)},
			{Config: config("http://127.0.0.1:1", "gateway", "1.30.2"), ExpectError: regexp.MustCompile(`(?s)chart\.repository.*cannot\s+be\s+reached`)},
			{Config: config(charts.Repository, "gateway", "1.30.2"), ConfigStateChecks: meshedPods(1)},
			importOf(namespace),
			{
				Config: config("oci://"+charts.OCIRegistry+"/charts", "gateway", "1.31.0"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("changes"), knownvalue.ListPartial(map[int]knownvalue.Check{
						0: knownvalue.StringRegexp(regexp.MustCompile(`^~ ServiceAccount .*metadata\.labels\["app\.kubernetes\.io/version"\]: "1\.30\.2" -> "1\.31\.0"`)),
					})),
				}},
				ConfigStateChecks: meshedPods(1),
			},
			importOf(namespace),
		},
	})
}

// manifestsOf writes manifests as an attribute.
func manifestsOf(texts ...string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return "manifests = [" + strings.Join(quoted, ", ") + "]"
}

const webManifest = `apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: main, image: "registry.invalid/web:1" }] }
`

// TestAccRelease_manifests has a kind and objects of it in one release, and a
// namespace of its own.
func TestAccRelease_manifests(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	other := namespace + "-other"
	kind := fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: offers.%[1]s.example.com }
spec:
  group: %[1]s.example.com
  scope: Namespaced
  names: { kind: Offer, plural: offers }
  versions:
    - { name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object, properties: { price: { type: integer } } } } }
---
apiVersion: %[1]s.example.com/v1
kind: Offer
metadata: { name: first }
price: 5
`, namespace)
	config := func(body string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_release\" \"this\" {\n name = \"app\"\n namespace = %q\n create_namespace = true\n mesh = { linkerd = {} }\n %s\n}", other, body))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: func(*terraform.State) error {
			_, err := cluster.Client().CoreV1().Namespaces().Get(context.WithoutCancel(t.Context()), other, metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("namespace %s: want not found, got %w", other, err)
			}
			return nil
		},
		Steps: []resource.TestStep{
			{
				Config: config(manifestsOf(webManifest, kind)),
				ConfigPlanChecks: planned(plancheck.ResourceActionCreate,
					"+ Namespace "+other, "+ CustomResourceDefinition offers."+namespace+".example.com", "+ Deployment "+other+"/web", "+ Offer "+other+"/first"),
				ConfigStateChecks: append(meshedPods(1), statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("app_version"), knownvalue.Null())),
				Check:             proxies(t, cluster, other, nil, "linkerd-proxy", true),
			},
			importOf(other),
			{
				// One document less, and another text for the rest.
				Config: config(manifestsOf(webManifest, strings.ReplaceAll(kind, "price: 5", "price: 6"))),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate,
					"~ Offer "+other+"/first: price: 5 -> 6"),
			},
			{
				// A kind is not deleted by the way.
				Config: config(manifestsOf(webManifest)),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate,
					"- Offer "+other+"/first",
					". CustomResourceDefinition offers."+namespace+".example.com (stays: deleting it would delete all objects of its kind)"),
			},
			{
				Config:           config(manifestsOf(webManifest) + "\n prune_crds = true"),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate, "- CustomResourceDefinition offers."+namespace+".example.com"),
			},
		},
	})
}

func TestAccRelease_manifestURLs(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	var color atomic.Value
	color.Store("red")
	text := func() string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\ndata: { color: %s }\n", color.Load())
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/app.yaml" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(text()))
	}))
	t.Cleanup(server.Close)
	sum := func() string {
		digest := sha256.Sum256([]byte(text()))
		return hex.EncodeToString(digest[:])
	}
	config := func(file, pin string) string {
		return releaseConfig(cluster, namespace, fmt.Sprintf("manifest_urls = [{ url = \"%s/%s\", sha256 = %s }]", server.URL, file, pin))
	}
	settings := "ConfigMap " + namespace + "/settings"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("absent.yaml", "null"), ExpectError: regexp.MustCompile(`(?s)manifest_urls\[0\].*404\s+Not\s+Found`)},
			{Config: config("app.yaml", "null"), ConfigPlanChecks: planned(plancheck.ResourceActionCreate, "+ "+settings)},
			importOf(namespace),
			{
				// What is there changes without any change of the configuration.
				PreConfig:        func() { color.Store("blue") },
				Config:           config("app.yaml", "null"),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate, "~ "+settings+`: data.color: "red" -> "blue"`),
			},
			{Config: config("app.yaml", `"`+sum()+`"`), ExpectError: regexp.MustCompile(`(?s)has\s+the\s+SHA-256\s+\S+\s+instead\s+of\s+` + sum())},
			{
				PreConfig:        func() { color.Store("red") },
				Config:           config("app.yaml", `"`+sum()+`"`),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate, "~ "+settings+`: data.color: "blue" -> "red"`),
			},
			{
				// What is pinned is not fetched again and again.
				PreConfig:        server.Close,
				Config:           config("app.yaml", `"`+sum()+`"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}},
			},
		},
	})
}

// TestAccRelease_statefulSet changes what cannot be changed, and destroys what
// holds data.
func TestAccRelease_statefulSet(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	config := func(values string) string {
		return releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]\n mesh = { linkerd = {} }", shopChart(t), values))
	}
	var before map[string]types.UID
	identities := func() (map[string]types.UID, error) {
		found := map[string]types.UID{}
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=db"})
		if err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			found["Pod "+pod.Name] = pod.UID
		}
		claims, err := cluster.Client().CoreV1().PersistentVolumeClaims(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, claim := range claims.Items {
			found["PersistentVolumeClaim "+claim.Name] = claim.UID
		}
		return found, nil
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             objectsGone(t, cluster, namespace, 2),
		Steps: []resource.TestStep{
			{Config: config(""), Check: func(*terraform.State) (err error) {
				before, err = identities()
				return err
			}},
			{
				Config: config("serviceName: database"),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate,
					"+ Service "+namespace+"/database",
					`-/+ StatefulSet `+namespace+`/db: spec.serviceName: "db" -> "database" (pods and volume claims stay)`,
					"- Service "+namespace+"/db"),
				ConfigStateChecks: meshedPods(3),
				Check: func(*terraform.State) error {
					after, err := identities()
					if err == nil && (len(before) != 4 || !maps.Equal(before, after)) {
						err = fmt.Errorf("before %v, after %v", before, after)
					}
					return err
				},
			},
			// The claims that a destroy has left are those of the next release.
			{Config: config("serviceName: database"), Destroy: true, Check: objectsGone(t, cluster, namespace, 2)},
			{Config: config("serviceName: database"), ConfigStateChecks: meshedPods(3)},
		},
	})
}

func TestAccRelease_hooks(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	// A namespace that is enrolled would have their pods injected.
	patch(t, cluster, "/api/v1/namespaces/"+namespace, `{"metadata":{"annotations":{"linkerd.io/inject":"enabled"}}}`)
	config := func(values string) string {
		return releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]\n mesh = { linkerd = { proxy_enable_native_sidecar = false } }", shopChart(t), values))
	}
	ran := func(want ...string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			jobs, err := cluster.Client().BatchV1().Jobs(namespace).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
			if err != nil {
				return err
			}
			var found []string
			for _, job := range jobs.Items {
				if job.Status.Succeeded == 1 && job.Spec.Template.Annotations["linkerd.io/inject"] == "disabled" {
					found = append(found, job.Name)
				}
			}
			if !slices.Equal(found, want) {
				return fmt.Errorf("hooks that ran, outside of the mesh: %v, want %v", found, want)
			}
			return nil
		}
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             ran("post-upgrade", "pre-delete", "pre-install"),
		Steps: []resource.TestStep{
			{Config: config("hooks: true"), Check: ran("pre-install"), ConfigStateChecks: meshedPods(3)},
			{Config: config("{hooks: true, replicas: 2}"), Check: ran("post-upgrade", "pre-install"), ConfigStateChecks: meshedPods(4)},
		},
	})
}

// TestAccRelease_random deploys a chart that renders otherwise each time: its
// plans have to come out again when they are applied, and to be empty when
// nothing is to be done.
func TestAccRelease_random(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	config := func(values string) string {
		return releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]", shopChart(t), values))
	}
	before := ""
	nonce := func(same bool) resource.TestCheckFunc {
		return func(*terraform.State) error {
			stamp, err := cluster.Client().CoreV1().ConfigMaps(namespace).Get(t.Context(), "stamp", metav1.GetOptions{})
			if err != nil {
				return err
			}
			now := stamp.Data["nonce"]
			if (now == before) != same {
				return fmt.Errorf("the nonce is %q after %q", now, before)
			}
			before = now
			return nil
		}
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("stamp: true"), Check: nonce(false)},
			{Config: config("stamp: true"), ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}},
			{
				Config: config("{stamp: true, replicas: 2}"),
				ConfigPlanChecks: planned(plancheck.ResourceActionUpdate,
					"~ ConfigMap "+namespace+`/stamp: data.at: another with each rendering; data.fixed: "1" -> "2"; data.nonce: another with each rendering`,
					"~ Deployment "+namespace+"/web: spec.replicas: 1 -> 2"),
				Check: nonce(false),
			},
			{
				// A repair applies what was applied, and nothing that is made anew.
				PreConfig: func() {
					patch(t, cluster, "/apis/apps/v1/namespaces/"+namespace+"/deployments/web", `{"spec":{"replicas":1}}`)
				},
				Config: config("{stamp: true, replicas: 2}"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
				}},
				Check: nonce(true),
			},
		},
	})
}

// TestAccRelease_writeOnly looks for write-only values everywhere but in the
// objects that they are for.
func TestAccRelease_writeOnly(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	log := filepath.Join(t.TempDir(), "log")
	config := func(values, more string) string {
		return "variable \"password\" {\n  type = string\n  ephemeral = true\n}\n" + releaseConfig(cluster, namespace, fmt.Sprintf(`
		chart  = { name = %q }
		values = [%q]
		set_wo = { password = var.password }
		%s`, shopChart(t), values, more))
	}
	secret := "hunter2 \"quoted\"\nand more"
	w := newWorkspace(t, config("", ""), "TF_LOG=TRACE", "TF_LOG_PATH="+log, "TF_VAR_password="+secret)
	setSecret := func(value string) {
		secret = value
		w.env = append(w.env, "TF_VAR_password="+value)
	}
	planned := func() []string {
		w.succeed("plan", "-out=planned", "-no-color")
		shown := w.succeed("show", "-json", "planned").output
		expectHidden(t, "the plan", shown, secret)
		var plan struct {
			Changes []struct {
				Change struct {
					Actions []string
					After   struct{ Changes []string }
				}
			} `json:"resource_changes"`
		}
		if err := json.Unmarshal([]byte(shown), &plan); err != nil || len(plan.Changes) != 1 {
			t.Fatalf("%v in %s", err, shown)
		}
		return append(plan.Changes[0].Change.Actions, plan.Changes[0].Change.After.Changes...)
	}
	applied := func() {
		w.succeed("apply", "-auto-approve", "-no-color", "planned")
		expectHidden(t, "the state", string(w.stateBytes()), secret)
		credentials, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), "credentials", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(credentials.Data["password"]); got != secret {
			t.Errorf("the password is %q, want %q", got, secret)
		}
	}
	hiddenChanges := []string{
		"~ Secret " + namespace + "/credentials: data.password: changes (not shown)",
		"~ Deployment " + namespace + "/web: spec.template.spec.containers[name=main].env[name=PASSWORD].value: changes (not shown)",
	}

	if got := planned(); got[0] != "create" || len(got) != 7 {
		t.Errorf("the first plan is %q", got)
	}
	applied()
	w.expectNoChanges()

	// Another value is found without being announced.
	setSecret("another one")
	if got := planned(); !slices.Equal(got, append([]string{"update"}, hiddenChanges...)) {
		t.Errorf("with another value the plan is %q", got)
	}
	applied()
	w.expectNoChanges()

	// An update of something else does not lose it.
	w.write(config("replicas: 2", ""))
	if got := planned(); !slices.Equal(got, []string{"update", "~ Deployment " + namespace + "/web: spec.replicas: changes (not shown)"}) {
		t.Errorf("the plan of something else is %q", got)
	}
	applied()

	// With a revision, only that announces another value; any update writes it.
	w.write(config("replicas: 2", "set_wo_revision = 1"))
	planned()
	applied()
	former := secret
	setSecret("a third one")
	w.expectNoChanges()
	w.write(config("replicas: 2", "set_wo_revision = 2"))
	if got := planned(); !slices.Equal(got, append([]string{"update"}, hiddenChanges...)) {
		t.Errorf("with another revision the plan is %q", got)
	}
	applied()

	// Without any, the plan does not tell what was there before.
	w.write(strings.ReplaceAll(config("replicas: 2", ""), "set_wo =", "#"))
	if got := planned(); !slices.Equal(got, append([]string{"update"}, hiddenChanges...)) {
		t.Errorf("without values the plan is %q", got)
	}
	w.write(config("replicas: 2", "set_wo_revision = 2"))

	// Drift names the field and nothing else.
	patch(t, cluster, "/apis/apps/v1/namespaces/"+namespace+"/deployments/web", `{"spec":{"replicas":5}}`)
	w.succeed("apply", "-refresh-only", "-auto-approve", "-no-color")
	if state := string(w.stateBytes()); !strings.Contains(state, "spec.replicas: differs (not shown)") {
		t.Errorf("the drift is not in the state\n%s", state)
	}
	expectHidden(t, "the state", string(w.stateBytes()), secret)

	// Neither what the API server refuses, nor what a template does.
	w.write(config("image: ''", ""))
	setSecret("x{{ fail }}" + secret)
	got := w.run("apply", "-auto-approve", "-no-color")
	if got.code == 0 {
		t.Error("a Deployment without an image was applied")
	}
	expectHidden(t, "the error", got.output, secret)

	w.write(config("", ""))
	w.succeed("destroy", "-auto-approve", "-no-color")
	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"hunter2", former, "a third one"} {
		expectHidden(t, "the log", string(logged), value)
	}
}

func expectHidden(t *testing.T, place, text, secret string) {
	t.Helper()
	for _, written := range spellings(secret) {
		if i := strings.Index(text, written); i >= 0 {
			t.Fatalf("%s holds %q: …%s…", place, written, text[max(0, i-200):min(len(text), i+200)])
		}
	}
}

func TestAccRelease_foreign(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	settings := func(data string) string {
		return manifestsOf("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\ndata: { " + data + " }\n")
	}

	t.Run("conflict", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: releaseConfig(cluster, namespace, settings("color: red"))},
				{
					PreConfig: func() {
						patch(t, cluster, "/api/v1/namespaces/"+namespace+"/configmaps/settings", `{"data":{"size":"big"}}`)
					},
					Config:      releaseConfig(cluster, namespace, settings("color: red, size: small")),
					PlanOnly:    true,
					ExpectError: regexp.MustCompile(`(?s)force_conflicts:.*ConfigMap\s+` + namespace + `/settings:\s+\.data\.size\s+managed\s+by\s+somebody`),
				},
				{
					Config:           releaseConfig(cluster, namespace, settings("color: red, size: small")+"\n force_conflicts = true"),
					ConfigPlanChecks: planned(plancheck.ResourceActionUpdate, "~ ConfigMap "+namespace+`/settings: data.size: absent -> "small"`),
				},
			},
		})
	})

	t.Run("other release", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		second := func(more string) string {
			return releaseConfig(cluster, namespace, settings("color: red")) + fmt.Sprintf(`
			resource "aksmesh_release" "second" {
			  name       = "second"
			  namespace  = aksmesh_release.this.namespace
			  depends_on = [aksmesh_release.this]
			  %s
			  %s
			}`, settings("color: blue"), more)
		}
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: releaseConfig(cluster, namespace, settings("color: red"))},
				{
					Config:      second(""),
					PlanOnly:    true,
					ExpectError: regexp.MustCompile(`(?s)take_ownership:.*ConfigMap\s+` + namespace + `/settings\s+belongs\s+to\s+release\s+` + namespace + `/app`),
				},
			},
		})
	})

	t.Run("existing", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		again := func(data string) string {
			return releaseConfig(cluster, namespace, settings("color: red")) + fmt.Sprintf(
				"\nresource \"aksmesh_release\" \"again\" {\n name = \"app\"\n namespace = aksmesh_release.this.namespace\n %s\n}", settings(data))
		}
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: releaseConfig(cluster, namespace, settings("color: red"))},
				{
					Config:      again("color: blue"),
					ExpectError: regexp.MustCompile(`(?is)release\s+` + namespace + `/app\s+exists\s+already.*terraform\s+import\s+<address>\s+` + namespace + `/app`),
				},
			},
		})
	})

	t.Run("renamed", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		config := releaseConfig(cluster, namespace, settings("color: red"))
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: config},
				{
					Config: strings.ReplaceAll(config, `name = "app"`, `name = "renamed"`),
					ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
						plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionReplace),
					}},
					Check: resource.TestCheckResourceAttr(releaseAddress, "id", namespace+"/renamed"),
				},
			},
		})
	})

	t.Run("of Helm", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		_, err := cluster.Client().CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: "settings", Annotations: map[string]string{"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": namespace},
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{
					Config:      releaseConfig(cluster, namespace, settings("color: red")),
					PlanOnly:    true,
					ExpectError: regexp.MustCompile(`(?s)belongs\s+to\s+Helm\s+release\s+` + namespace + `/old`),
				},
				{Config: releaseConfig(cluster, namespace, settings("color: red")+"\n take_ownership = true")},
			},
		})
	})
}

// TestAccRelease_repairs has applies fail, and the next ones put things right.
func TestAccRelease_repairs(t *testing.T) {
	t.Parallel()

	t.Run("image", func(t *testing.T) {
		t.Parallel()
		cluster := linkerdCluster(t)
		namespace := cluster.Namespace(t)
		config := func(image string) string {
			return releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]\n mesh = { linkerd = {} }\n timeouts = { create = \"20s\", update = \"20s\" }",
				shopChart(t), "image: registry.invalid/web:"+image))
		}
		reason := regexp.MustCompile(`(?s)Deployment\s+` + namespace + `/web.*container\s+main:\s+(ImagePullBackOff|ErrImagePull)`)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: config("does-not-exist"), ExpectError: reason},
				{Config: config("1"), ConfigStateChecks: meshedPods(3)},
				{Config: config("does-not-exist"), ExpectError: reason},
				{
					Config: config("2"),
					ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
						plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
						expectDrift("its last deployment failed"),
					}},
					ConfigStateChecks: meshedPods(3),
				},
			},
		})
	})

	t.Run("slipped past", func(t *testing.T) {
		t.Parallel()
		cluster := linkerdCluster(t)
		namespace := cluster.Namespace(t)
		config := releaseConfig(cluster, namespace, manifestsOf(webManifest)+"\n mesh = { linkerd = {} }")
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: config, ConfigStateChecks: meshedPods(1)},
				{
					PreConfig: func() { slipPast(t, cluster, namespace, "web") },
					Config:    config,
					ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
						plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
						expectDrift(`Pod web-\S+: not injected`),
						plancheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("restarts"), knownvalue.ListExact([]knownvalue.Check{
							knownvalue.StringRegexp(regexp.MustCompile(`^Deployment ` + namespace + `/web: 1 pod: not injected`)),
						})),
					}},
					ConfigStateChecks: meshedPods(1),
					Check:             proxies(t, cluster, namespace, nil, "linkerd-proxy", true),
				},
			},
		})
	})
}

// TestAccRelease_injectorDown deploys while the injector is away and lets pods
// pass it by, and once more when it is back.
func TestAccRelease_injectorDown(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	if err := installLinkerd(t.Context(), connect(t, cluster), cluster.Charts().Repository, linkerdNew); err != nil {
		t.Fatal(err)
	}
	namespace := cluster.Namespace(t)
	injector := func(replicas int) {
		patch(t, cluster, "/apis/apps/v1/namespaces/linkerd/deployments/linkerd-proxy-injector", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
		await(t, "the injector", func(ctx context.Context) bool {
			d, err := cluster.Client().AppsV1().Deployments("linkerd").Get(ctx, "linkerd-proxy-injector", metav1.GetOptions{})
			return err == nil && d.Status.ObservedGeneration == d.Generation && int(d.Status.AvailableReplicas) == replicas && int(d.Status.Replicas) == replicas
		})
	}
	config := releaseConfig(cluster, namespace, manifestsOf(webManifest)+"\n mesh = { linkerd = {} }\n timeouts = { create = \"30s\" }")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				PreConfig:   func() { injector(0) },
				Config:      config,
				ExpectError: regexp.MustCompile(`(?s)1\s+of\s+1\s+pods\s+are\s+not\s+as\s+they\s+should\s+be,\s+and\s+Linkerd\s+cannot\s+inject\s+now.*linkerd-proxy-injector`),
			},
			{PreConfig: func() { injector(1) }, Config: config, ConfigStateChecks: meshedPods(1), Check: proxies(t, cluster, namespace, nil, "linkerd-proxy", true)},
		},
	})
}

// TestAccRelease_interrupted kills the provider at the worst moments; each next
// apply goes on from there.
func TestAccRelease_interrupted(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	config := func(values string) string {
		return providerConfig(proxy.Kubeconfig(), releaseBody(namespace, fmt.Sprintf("chart = { name = %q }\n values = [%q]\n mesh = { linkerd = {} }", shopChart(t), values)))
	}
	w := newWorkspace(t, config(""))
	apply := []string{"apply", "-auto-approve", "-no-color"}
	written := func(resource string) testcluster.Match { return applies("/" + resource) }

	expectPromptEnd(t, holdAt(w, proxy, written("services/web"), apply...))
	proxy.Clear()
	killAt(w, proxy, written("deployments/web"), apply...)
	failAt(w, proxy, written("statefulsets/db"), releaseAddress)
	killAt(w, proxy, written("statefulsets/db"), apply...)
	w.apply()
	w.expectNoChanges()

	w.write(config("{replicas: 2, serviceName: database, extra: false}"))
	// The StatefulSet is gone and not there again.
	killAt(w, proxy, after(request(http.MethodDelete, "/statefulsets/db"), written("statefulsets/db")), apply...)
	killAt(w, proxy, request(http.MethodDelete, "/configmaps/extra"), apply...)
	w.apply()
	w.expectNoChanges()

	destroy := []string{"destroy", "-auto-approve", "-no-color"}
	killAt(w, proxy, request(http.MethodDelete, "/deployments/web"), destroy...)
	w.succeed(destroy...)
	if err := objectsGone(t, cluster, namespace, 2)(nil); err != nil {
		t.Error(err)
	}
}

// applies matches server-side applies that are no trials.
func applies(path string) testcluster.Match {
	return both(request(http.MethodPatch, path), func(r *http.Request) bool { return r.URL.Query().Get("dryRun") == "" })
}

// TestAccRelease_withoutCluster plans while there is none to ask, and then with
// one that does not answer.
func TestAccRelease_withoutCluster(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	later := fmt.Sprintf("resource \"terraform_data\" \"path\" { input = %q }\nprovider \"aksmesh\" {\n  kubernetes = { config_path = terraform_data.path.output }\n}\n", cluster.Kubeconfig())
	chart := fmt.Sprintf("chart = { name = %q }", shopChart(t))
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:             "provider \"aksmesh\" {\n  kubernetes = { host = \"https://127.0.0.1:1\" }\n}\n" + releaseBody(namespace, chart),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
			},
			{
				Config: later + releaseBody(namespace, chart),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(releaseAddress, tfjsonpath.New("changes")),
				}},
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(releaseAddress, tfjsonpath.New("changes"), knownvalue.ListSizeExact(6)),
				},
			},
		},
	})
}

// TestAccRelease_changedSincePlan applies a plan that is not true any more.
func TestAccRelease_changedSincePlan(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	chart := t.TempDir()
	if err := os.CopyFS(chart, os.DirFS(shopChart(t))); err != nil {
		t.Fatal(err)
	}
	values := filepath.Join(chart, "values.yaml")
	change := func(from, to string) {
		content, err := os.ReadFile(values)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(values, []byte(strings.ReplaceAll(string(content), from, to)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing is waited for, so that an image that never comes is no error.
	w := newWorkspace(t, releaseConfig(cluster, namespace, fmt.Sprintf("chart = { name = %q }\n wait = false", chart)))
	change("web:1", "web:does-not-exist")
	w.apply()
	w.expectNoChanges()
	change("web:does-not-exist", "web:2")
	w.succeed("plan", "-out=planned", "-no-color")
	change("web:2", "web:3")
	if got := w.run("apply", "-auto-approve", "-no-color", "planned"); got.code == 0 {
		t.Errorf("something else than what was planned was applied\n%s", got.output)
	}
	w.apply()
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestAccRelease_upgrade follows the control plane: its upgrade and the restart
// of what then has old proxies are one apply.
func TestAccRelease_upgrade(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	namespace := cluster.Namespace(t)
	config := func(version, follows string) string {
		return linkerdConfig(cluster, version, "") + "\n" + releaseBody(namespace, manifestsOf(webManifest)+fmt.Sprintf(`
		mesh    = { linkerd = { control_plane_namespace = aksmesh_linkerd.this.namespace } }
		follows = %s`, follows))
	}
	version := func(want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, pod := range pods.Items {
				if got := pod.Annotations["linkerd.io/proxy-version"]; pod.DeletionTimestamp == nil && got != want {
					return fmt.Errorf("pod %s has a proxy of version %s, want %s", pod.Name, got, want)
				}
			}
			return nil
		}
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config(linkerdOld, "[aksmesh_linkerd.this.version]"), ConfigStateChecks: meshedPods(1), Check: version("edge-26.6.3")},
			{Config: config(linkerdNew, "[aksmesh_linkerd.this.version]"), ConfigStateChecks: meshedPods(1), Check: version("edge-26.8.3")},
			{Config: config(linkerdNew, "null"), ConfigStateChecks: meshedPods(1)},
			{Config: config(linkerdOld, "null"), ExpectNonEmptyPlan: true}, // Its pods are seen to be stale only then.
			{
				Config: config(linkerdOld, "null"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate),
					expectDrift(`Pod web-\S+: stale proxy version`),
				}},
				ConfigStateChecks: meshedPods(1),
				Check:             version("edge-26.6.3"),
			},
		},
	})
}

// TestAccExample applies examples of releases as they stand.
func TestAccExample(t *testing.T) {
	t.Parallel()
	for _, example := range []struct{ directory, namespace, output, want string }{
		{directory: "emojivoto", namespace: "emojivoto", output: "emojivoto", want: "4 of 4 pods are meshed"},
		{directory: "dgraph/manifests", namespace: "dgraph", output: "dgraph", want: "6 of 6 pods are meshed"},
	} {
		t.Run(example.directory, func(t *testing.T) {
			t.Parallel()
			cluster := linkerdCluster(t)
			w := newWorkspace(t, "", "TF_VAR_kubeconfig="+cluster.Kubeconfig())
			w.file("versions.tf", "")
			files, err := filepath.Glob(filepath.Join("..", "..", "examples", example.directory, "*.*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			for _, file := range files {
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				w.file(filepath.Base(file), string(content))
			}
			w.apply()
			w.expectNoChanges()
			if err := proxies(t, cluster, example.namespace, nil, "linkerd-proxy", true)(nil); err != nil {
				t.Error(err)
			}
			if got := w.succeed("output", "-no-color", example.output).output; !strings.Contains(got, example.want) {
				t.Errorf("output %s", got)
			}
			w.succeed("destroy", "-auto-approve", "-no-color")
		})
	}
}

func TestRelease_badInput(t *testing.T) {
	t.Parallel()
	named := "\n name = \"app\"\n namespace = \"x\"\n"
	configMap := "kind: ConfigMap\napiVersion: v1\nmetadata: { name: a }\n"
	expectInvalid(t, "aksmesh_release", map[string]invalidInput{
		named: {"manifests", "must be specified"},
		"chart = { name = \"/x\" }\n" + manifestsOf(configMap) + named:                                       {"manifests", "cannot be specified when"},
		manifestsOf(configMap) + "\n values = [\"a: b\"]" + named:                                            {"values", "must be specified when"},
		manifestsOf(configMap) + "\n set_wo = { a = \"b\" }" + named:                                         {"set_wo", "must be specified when"},
		manifestsOf("a: [b") + named:                                                                         {"manifests", "document 1"},
		manifestsOf(configMap+"---\n- a\n") + named:                                                          {"manifests", "document 2 (line 5)"},
		"manifest_urls = [{ url = \"http://example.com/a\" }]" + named:                                       {"manifest_urls", "not reached by https"},
		"manifest_urls = [{ url = \"https://a:b@example.com/a\" }]" + named:                                  {"manifest_urls", "holds credentials"},
		"manifest_urls = [{ url = \"https://a.example\", sha256 = \"0\" }]" + named:                          {"manifest_urls", "64 lower-case"},
		"chart = { repository = \"https://charts.example\", name = \"a\" }" + named:                          {"chart", "not an exact version"},
		"chart = { repository = \"https://charts.example\", name = \"a\", version = \"1\" }" + named:         {"version", "not an exact version"},
		"chart = { repository = \"ftp://charts.example\", name = \"a\", version = \"1.0.0\" }" + named:       {"chart", "neither https:// nor oci://"},
		"chart = { repository = \"https://u:p@charts.example\", name = \"a\", version = \"1.0.0\" }" + named: {"chart", "holds credentials"},
		"chart = { name = \"/x\" }\n values = [\"a: [b\"]" + named:                                           {"values", "values[0] is not a YAML mapping"},
		"chart = { name = \"/x\" }\n set_wo = { \"a=b\" = \"c\" }" + named:                                   {"set_wo", "not the path of a value"},
		"chart = { name = \"/x\" }\n values = [\"a: b\"]\n set_wo = { \"a.c\" = \"c\" }" + named:             {"set_wo", "something else on its way"},
		manifestsOf(configMap) + "\n mesh = {}" + named:                                                      {"mesh", "exactly one of"},
		manifestsOf(configMap) + "\n name = \"App\"\n namespace = \"x\"":                                     {"name", "DNS label"},
		manifestsOf(configMap) + "\n name = \"app\"\n namespace = \"x_y\"":                                   {"namespace", "DNS label"},
	})
}

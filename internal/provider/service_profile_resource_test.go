package provider

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const profileAddress = "aksmesh_service_profile.this"

func profileConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_service_profile\" \"this\" {\n  namespace = %q\n  service = \"web\"\n%s\n}", namespace, body))
}

// profiles are the ServiceProfiles of a namespace, as somebody else sees them.
func profiles(t *testing.T, cluster *testcluster.Cluster, namespace string) dynamic.ResourceInterface {
	t.Helper()
	return dynamicClient(t, cluster).Resource(schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}).Namespace(namespace)
}

func dynamicClient(t *testing.T, cluster *testcluster.Cluster) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(connect(t, cluster).RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// createWeb creates the Service web before the pods of a Deployment of that name.
func createWeb(t *testing.T, cluster *testcluster.Cluster, namespace string) {
	t.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"owner": "somebody"}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if _, err := cluster.Client().CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cluster.CreateDeployment(t, namespace, "web", 1)
}

// opaque checks the annotation of the Service, and that nothing else of it is touched.
func opaque(t *testing.T, cluster *testcluster.Cluster, namespace, want string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		service, err := cluster.Client().CoreV1().Services(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := service.Annotations["config.linkerd.io/opaque-ports"]; got != want || service.Annotations["owner"] != "somebody" || len(service.Labels) > 0 {
			return fmt.Errorf("the Service has annotations %v and labels %v, want opaque ports %q", service.Annotations, service.Labels, want)
		}
		return nil
	}
}

// noProfiles checks that a namespace has none left.
func noProfiles(t *testing.T, cluster *testcluster.Cluster, namespaces ...string) resource.TestCheckFunc {
	t.Helper()
	interfaces := map[string]dynamic.ResourceInterface{}
	for _, namespace := range namespaces {
		interfaces[namespace] = profiles(t, cluster, namespace)
	}
	return func(*terraform.State) error {
		for namespace, of := range interfaces {
			left, err := of.List(t.Context(), metav1.ListOptions{})
			if err != nil || len(left.Items) > 0 {
				return fmt.Errorf("namespace %s: %d ServiceProfiles are left, %w", namespace, len(left.Items), err)
			}
		}
		return nil
	}
}

// TestAccServiceProfile goes through the life of a profile that says everything
// that can be said, in a cluster whose webhook refuses what Linkerd's does.
func TestAccServiceProfile(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace, clients := cluster.Namespace(t), cluster.Namespace(t)
	createWeb(t, cluster, namespace)
	name := "web." + namespace + ".svc.cluster.local"
	updates := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(profileAddress, plancheck.ResourceActionUpdate)}}
	patch := func(body string) func() {
		return func() {
			if _, err := profiles(t, cluster, namespace).Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const full = `
	routes = [
	  { name = "GET /books/{id}", method = "GET", path_regex = "/books/[^/]*", retryable = true, timeout = "300ms",
	    response_classes = [
	      { status_min = 404, is_failure = true },
	      { status_max = 503 },
	      { status_min = 500, status_max = 599, is_failure = true },
	      { condition_json = jsonencode({ not = { status = { max = 299, min = 200 } } }), is_failure = true },
	    ] },
	  { name = "all but health", condition_json = jsonencode({ not = { pathRegex = "/health" } }) },
	  { name = "any", condition_json = jsonencode({ all = [{ any = [{ method = "GET" }, { method = "HEAD" }] }], not = { pathRegex = "/a" }, pathRegex = "/.*" }) },
	]
	retry_budget = { retry_ratio = 0.2, min_retries_per_second = 10, ttl = "10s" }
	opaque_ports = [3306, "4000-4100"]
	dst_overrides = [{ authority = "web-canary.svc:80", weight = "500m" }]
	`
	const manifest = `apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: %[1]s
  namespace: %[2]s
spec:
  dstOverrides:
  - authority: web-canary.svc:80
    weight: 500m
  retryBudget:
    minRetriesPerSecond: 10
    retryRatio: 0.2
    ttl: 10s
  routes:
  - condition:
      method: GET
      pathRegex: /books/[^/]*
    isRetryable: true
    name: GET /books/{id}
    responseClasses:
    - condition:
        status:
          min: 404
      isFailure: true
    - condition:
        status:
          max: 503
    - condition:
        status:
          max: 599
          min: 500
      isFailure: true
    - condition:
        not:
          status:
            max: 299
            min: 200
      isFailure: true
    timeout: 300ms
  - condition:
      all:
      - not:
          pathRegex: /health
    name: all but health
  - condition:
      all:
      - any:
        - method: GET
        - method: HEAD
      - not:
          pathRegex: /a
      pathRegex: /.*
    name: any
`
	whole := resource.ComposeTestCheckFunc(
		resource.TestCheckResourceAttr(profileAddress, "manifest", fmt.Sprintf(manifest, name, namespace)),
		resource.TestCheckResourceAttr(profileAddress, "id", namespace+"/"+name),
		resource.TestCheckResourceAttr(profileAddress, "cluster_domain", "cluster.local"),
		opaque(t, cluster, namespace, "3306,4000-4100"),
	)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             resource.ComposeTestCheckFunc(noProfiles(t, cluster, namespace, clients), opaque(t, cluster, namespace, "")),
		Steps: []resource.TestStep{
			{Config: profileConfig(cluster, namespace, full), Check: whole},
			{
				// It is the same however the state puts its conditions.
				Config: profileConfig(cluster, namespace, full), ResourceName: profileAddress,
				ImportState: true, ImportStateKind: resource.ImportBlockWithID, ImportStateId: namespace + "/" + name,
			},
			{
				// Somebody changes a route, takes the budget away, and says other ports.
				PreConfig: func() {
					patch(`{"spec":{"routes":[{"name":"x","condition":{"method":"PUT"}}],"retryBudget":null}}`)()
					body := []byte(`{"metadata":{"annotations":{"config.linkerd.io/opaque-ports":"1"}}}`)
					if _, err := cluster.Client().CoreV1().Services(namespace).Patch(t.Context(), "web", types.MergePatchType, body, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
						t.Fatal(err)
					}
				},
				Config: profileConfig(cluster, namespace, full), ConfigPlanChecks: updates, Check: whole,
			},
			{
				Config: profileConfig(cluster, namespace, `routes = [{ name = "x", path_regex = ".*" }]`), ConfigPlanChecks: updates,
				Check: opaque(t, cluster, namespace, ""),
			},
			{
				// Somebody adds what the configuration does not speak of.
				PreConfig:        patch(`{"spec":{"retryBudget":{"retryRatio":1,"minRetriesPerSecond":1,"ttl":"1s"}}}`),
				Config:           profileConfig(cluster, namespace, `routes = [{ name = "x", path_regex = ".*" }]`),
				ConfigPlanChecks: updates,
			},
			{
				// Somebody deletes it.
				PreConfig: func() {
					if err := profiles(t, cluster, namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: profileConfig(cluster, namespace, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(profileAddress, plancheck.ResourceActionCreate),
				}},
				Check: resource.TestMatchResourceAttr(profileAddress, "manifest", regexp.MustCompile(`routes: \[\]`)),
			},
			{
				// For the clients of one namespace, by the domain of another cluster.
				Config: profileConfig(cluster, namespace, fmt.Sprintf("client_namespace = %q\n cluster_domain = \"mesh.example\"\n routes = provider::aksmesh::proto_routes(\"service S { rpc M (A) returns (B); }\")", clients)),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(profileAddress, plancheck.ResourceActionDestroyBeforeCreate),
				}},
				Check: resource.ComposeTestCheckFunc(noProfiles(t, cluster, namespace),
					resource.TestCheckResourceAttr(profileAddress, "id", clients+"/web."+namespace+".svc.mesh.example")),
			},
			{ResourceName: profileAddress, ImportState: true, ImportStateVerify: true, ImportStateId: clients + "/web." + namespace + ".svc.mesh.example"},
		},
	})
}

// TestAccServiceProfile_findings has a plan meet everything that a profile gets in
// the way of, or that gets in its.
func TestAccServiceProfile_findings(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace, clients := cluster.Namespace(t), cluster.Namespace(t)
	w := newWorkspace(t, profileConfig(cluster, namespace, ""))
	warned := func(want ...string) {
		t.Helper()
		var lines []string
		for _, warning := range w.succeed("plan", "-json").diagnostics("warning") {
			if strings.HasPrefix(warning.Summary, "What to Know of ServiceProfile "+namespace+"/web.") {
				lines = append(lines, strings.Split(warning.Detail, "\n")...)
			}
		}
		for _, words := range want {
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, words) }) {
				t.Errorf("warnings %q, want %q", lines, words)
			}
		}
		if len(lines) != len(want) {
			t.Errorf("%d lines of warnings, want %d: %q", len(lines), len(want), lines)
		}
	}
	warned("Service " + namespace + "/web does not exist")

	createWeb(t, cluster, namespace)
	awaitPod(t, cluster, namespace, "web")
	annotation := []byte(`{"metadata":{"annotations":{"retry.linkerd.io/http":"5xx","timeout.linkerd.io/request":"1s","balancer.linkerd.io/failure-accrual":"consecutive"}}}`)
	if _, err := cluster.Client().CoreV1().Services(namespace).Patch(t.Context(), "web", types.MergePatchType, annotation, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	route := func(namespace, name string, parent map[string]any) {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "policy.linkerd.io/v1beta3", "kind": "HTTPRoute", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"parentRefs": []any{parent}},
		}}
		routes := dynamicClient(t, cluster).Resource(schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "httproutes"})
		if _, err := routes.Namespace(namespace).Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	route(namespace, "near", map[string]any{"kind": "Service", "group": "core", "name": "web", "port": int64(80)})
	route(clients, "far", map[string]any{"kind": "Service", "group": "", "name": "web", "namespace": namespace})
	route(clients, "other", map[string]any{"kind": "Service", "group": "", "name": "web"})
	route(namespace, "inbound", map[string]any{"kind": "Server", "group": "policy.linkerd.io", "name": "web"})
	override := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": map[string]any{"name": "web." + namespace + ".svc.cluster.local"},
		"spec": map[string]any{"routes": []any{}},
	}}
	if _, err := profiles(t, cluster, clients).Create(t.Context(), override, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	warned(
		"annotation balancer.linkerd.io/failure-accrual of Service "+namespace+"/web has no effect beside a ServiceProfile: proxies do no circuit breaking",
		"annotation retry.linkerd.io/http of Service "+namespace+"/web has no effect",
		"annotation timeout.linkerd.io/request of Service",
		"none of the 1 pods behind Service "+namespace+"/web is in the mesh",
		"HTTPRoute "+namespace+"/near of policy.linkerd.io",
		"HTTPRoute "+clients+"/far of policy.linkerd.io",
		"ServiceProfile "+clients+"/web."+namespace+".svc.cluster.local overrules this one for clients in Namespace "+clients,
	)
}

func TestAccServiceProfile_refused(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	name := "web." + namespace + ".svc.cluster.local"
	foreign := fmt.Appendf(nil, `{"apiVersion":"linkerd.io/v1alpha2","kind":"ServiceProfile","metadata":{"name":%q},"spec":{"routes":[{"name":"a","condition":{"method":"GET"}}]}}`, name)
	if _, err := profiles(t, cluster, namespace).Patch(t.Context(), name, types.ApplyPatchType, foreign, metav1.PatchOptions{FieldManager: "gitops"}); err != nil {
		t.Fatal(err)
	}
	plain := plainCluster.Cluster(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             noProfiles(t, cluster, namespace),
		Steps: []resource.TestStep{
			{
				Config:      profileConfig(plain, plain.Namespace(t), ""),
				ExpectError: regexp.MustCompile(`(?s)does\s+not\s+serve\s+its\s+kind.*depend\s+on\s+aksmesh_linkerd`),
			},
			{
				Config:      profileConfig(cluster, namespace, ""),
				ExpectError: regexp.MustCompile(`(?s)ServiceProfile\s+` + namespace + `/web.*gitops`),
			},
			{
				Config:      profileConfig(cluster, namespace, "force_conflicts = true\n opaque_ports = [1]"),
				ExpectError: regexp.MustCompile(`(?s)Service\s+` + namespace + `/web:.*not\s+found`),
			},
			{
				Config: profileConfig(cluster, namespace, ""), ResourceName: profileAddress, ImportState: true, ImportStateId: namespace + "/" + name,
				ExpectError: regexp.MustCompile(`(?s)non-existent\s+remote\s+object`),
			},
			{
				Config: profileConfig(cluster, namespace, ""), ResourceName: profileAddress, ImportState: true, ImportStateId: name,
				ExpectError: regexp.MustCompile(`(?s)is\s+not\s+<namespace>/<service>`),
			},
			{Config: profileConfig(cluster, namespace, "force_conflicts = true")},
		},
	})
}

func TestServiceProfile_badInput(t *testing.T) {
	t.Parallel()
	given := "namespace = \"x\"\n service = \"web\"\n"
	route := func(body string) string { return given + "routes = [{ name = \"a\", " + body + " }]" }
	class := func(body string) string { return route("method = \"GET\", response_classes = [{ " + body + " }]") }
	budget := func(body string) string { return given + "retry_budget = { " + body + " }" }
	expectInvalid(t, "aksmesh_service_profile", map[string]invalidInput{
		"namespace = \"x\"\n service = \"1web\"":                         {"service", "DNS-1035 label"},
		"namespace = \"x_y\"\n service = \"web\"":                        {"namespace", "DNS label"},
		given + "cluster_domain = \"Example\"":                           {"service", "name of the profile"},
		given + "cluster_domain = \"" + strings.Repeat("a.", 130) + "\"": {"service", "no more than 253"},
		given + "client_namespace = \"x_y\"":                             {"client_namespace", "DNS label"},
		given + "routes = [{ name = \"\", method = \"GET\" }]":           {`routes\[0\]`, "needs a name"},
		route(""):              {`routes\[0\]`, "has to say something"},
		route("method = \"\""): {`routes\[0\]`, "has to say something"},
		route("method = \"GET\", timeout = \"5\""):                                         {`routes\[0\]`, "missing unit"},
		route("condition_json = \"{}\""):                                                   {`routes\[0\]`, "has to say something"},
		route("condition_json = jsonencode({ any = [{ method = \"GET\" }, {}] })"):         {`routes\[0\]`, "has to say something"},
		route("condition_json = jsonencode({ any = [null] })"):                             {`routes\[0\]`, "has to say something"},
		route("condition_json = jsonencode({ not = [{ method = \"GET\" }] })"):             {`routes\[0\]`, "cannot unmarshal array"},
		route("condition_json = jsonencode({ path = \"/\" })"):                             {`routes\[0\]`, "unknown field"},
		route("condition_json = \"{\\\"method\\\": \\\"GET\\\"} {}\""):                     {`routes\[0\]`, "something follows it"},
		route("condition_json = \"GET\""):                                                  {`routes\[0\]`, "not the JSON of a condition"},
		route("method = \"GET\", condition_json = jsonencode({ method = \"GET\" })"):       {`routes\[0\]`, "instead of method and path_regex"},
		class("is_failure = true"):                                                         {`routes\[0\]`, "has to say something"},
		class("status_min = 99"):                                                           {`routes\[0\]`, "status 99 is not from 100 to 599"},
		class("status_max = 600"):                                                          {`routes\[0\]`, "status 600 is not from 100 to 599"},
		class("status_min = 599, status_max = 500"):                                        {`routes\[0\]`, "min 599 is more than max 500"},
		class("status_min = 500, condition_json = jsonencode({ status = { min = 500 } })"): {`routes\[0\]`, "instead of status_min"},
		class("condition_json = jsonencode({ status = { least = 500 } })"):                 {`routes\[0\]`, "unknown field"},
		budget("retry_ratio = -1, min_retries_per_second = 1, ttl = \"1s\""):               {"retry_budget", "cannot be negative"},
		budget("retry_ratio = 1, min_retries_per_second = -1, ttl = \"1s\""):               {"retry_budget", "cannot be negative"},
		budget("retry_ratio = 1, min_retries_per_second = 1, ttl = \"soon\""):              {"retry_budget", "invalid duration"},
		budget("retry_ratio = 1, ttl = \"1s\""):                                            {"retry_budget", "min_retries_per_second"},
		given + "opaque_ports = [70000]":                                                   {"opaque_ports", "70000"},
		given + "opaque_ports = [1]\n client_namespace = \"y\"":                            {"opaque_ports", "cannot be specified when"},
		given + "dst_overrides = [{ authority = \"\", weight = \"1\" }]":                   {`dst_overrides\[0\]`, "needs an authority"},
		given + "dst_overrides = [{ authority = \"a\", weight = \"much\" }]":               {`dst_overrides\[0\]`, "weight"},
	})
}

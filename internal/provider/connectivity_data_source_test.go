package provider

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const connectivityAddress = "data.aksmesh_connectivity.this"

// walkthrough is what the walkthroughs begin with: Dgraph in a mesh, a client
// that is in none, and one that is.
type walkthrough struct {
	cluster         *testcluster.Cluster
	dgraph, clients string // namespaces
}

// newWalkthrough makes it. The mark on pod templates has them injected; the proxy
// is the container that shows it.
func newWalkthrough(t *testing.T, cluster *testcluster.Cluster, mark func(*corev1.PodTemplateSpec), proxy string) walkthrough {
	t.Helper()
	w := walkthrough{cluster: cluster, dgraph: cluster.Namespace(t), clients: cluster.Namespace(t)}
	for _, d := range []struct {
		namespace, name string
		meshed          bool
	}{{w.dgraph, "alpha", true}, {w.clients, "allow", true}, {w.clients, "deny", false}} {
		deployment := testcluster.NewDeployment(d.namespace, d.name, 1)
		if d.meshed {
			mark(&deployment.Spec.Template)
		}
		ports := &deployment.Spec.Template.Spec.Containers[0].Ports
		*ports = append(*ports, corev1.ContainerPort{Name: "grpc", ContainerPort: 9080})
		if _, err := cluster.Client().AppsV1().Deployments(d.namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if d.meshed {
			awaitProxies(t, cluster, d.namespace, d.name, proxy, 1)
		} else {
			awaitPod(t, cluster, d.namespace, d.name)
		}
	}
	return w
}

// config is a configuration with the data source, which expects that the mesh
// reaches Dgraph, and that others do or not.
func (w walkthrough) config(unmeshed bool, body string, more ...string) string {
	return providerConfig(w.cluster.Kubeconfig(), append(more, fmt.Sprintf(`
	locals {
	  alpha = { namespace = %[1]q, pod_labels = { app = "alpha" } }
	}
	data "aksmesh_connectivity" "this" {
	  namespaces = [%[1]q, %[2]q]
	  expect = flatten([for port in [8080, "grpc"] : [
	    { from = { namespace = %[2]q, meshed = false }, to = local.alpha, port = port, allowed = %[3]t },
	    { from = { namespace = %[2]q, name = "allow" }, to = local.alpha, port = port, allowed = true },
	  ]])
	  %[4]s
	}
	check "connectivity" {
	  assert {
	    condition     = data.aksmesh_connectivity.this.ok
	    error_message = join("\n", data.aksmesh_connectivity.this.unmet)
	  }
	}`, w.dgraph, w.clients, unmeshed, body))...)
}

// create makes an object of YAML.
func create(t *testing.T, cluster *testcluster.Cluster, text string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, cluster).Apply(t.Context(), object, kube.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
}

// told wants attributes of the data source to match.
func told(patterns map[string]string) resource.TestCheckFunc {
	var checks []resource.TestCheckFunc
	for name, pattern := range patterns {
		checks = append(checks, resource.TestMatchResourceAttr(connectivityAddress, name, regexp.MustCompile(pattern)))
	}
	return resource.ComposeAggregateTestCheckFunc(checks...)
}

// candidate is a NetworkPolicy for Dgraph that admits one port.
func (w walkthrough) candidate(rule string) string {
	return fmt.Sprintf(`
	candidates = [yamlencode({
	  apiVersion = "networking.k8s.io/v1"
	  kind       = "NetworkPolicy"
	  metadata   = { namespace = %q, name = "mesh-only" }
	  spec       = { podSelector = { matchLabels = { app = "alpha" } }, policyTypes = ["Ingress"], ingress = [%s] }
	})]`, w.dgraph, rule)
}

func TestAccConnectivity_linkerd(t *testing.T) {
	t.Parallel()
	w := newWalkthrough(t, linkerdCluster(t), func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{"linkerd.io/inject": "enabled"}
	}, "linkerd-proxy")
	proxyOnly := w.candidate(`{ ports = [{ port = 4143 }] }`)
	protected := fmt.Sprintf(`
	resource "aksmesh_network_policy" "this" {
	  namespace    = %q
	  pod_selector = { app = "alpha" }
	  ports        = [8080, 9080]
	  mesh         = { linkerd = {} }
	}`, w.dgraph)
	create(t, w.cluster, fmt.Sprintf("{apiVersion: policy.linkerd.io/v1alpha1, kind: EgressNetwork, metadata: {namespace: %s, name: outside}, spec: {trafficPolicy: Deny}}", w.dgraph))
	denied := regexp.QuoteMeta(fmt.Sprintf("no ingress rule of NetworkPolicy %s/mesh-only allows it", w.dgraph))

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				// Test 0: everybody gets in.
				Config: w.config(true, "list = \"all\""),
				Check: resource.ComposeAggregateTestCheckFunc(resource.TestCheckTypeSetElemAttr(connectivityAddress, "not_evaluated.*", "EgressNetwork "+w.dgraph+"/outside"), told(map[string]string{
					"ok": "^true$", "unmet.#": "^0$", "results.#": "^4$", "results.0.reason": "no NetworkPolicy restricts it",
					"matrix.#": "^12$", "summary.rows": "^12$", "summary.allowed": "^12$", "summary.changed": "^0$", "policy_engine": "^Cilium|Azure|Calico",
				})),
			},
			{
				// Test 1, before there is a policy.
				Config: w.config(false, proxyOnly+"\n renderings = [\"table\", \"json\", \"mermaid\", \"dot\"]"),
				Check: told(map[string]string{
					"ok": "^true$", "summary.changed": "^2$", "matrix.#": "^2$",
					"matrix.0.from": "^Deployment " + w.clients + "/deny$", "matrix.0.to": "^Deployment " + w.dgraph + "/alpha$",
					"matrix.0.port": "^8080$", "matrix.1.port": "^9080$", "matrix.0.allowed": "^false$", "matrix.0.before": "^true$",
					"matrix.0.network_reason": denied, "matrix.0.wire_port": "^8080$",
					"table": `refused \(was allowed\)`, "json": `"before": true`, "mermaid": `-\.-x\|"8080/TCP, 9080/TCP refused`, "dot": "style=dotted",
				}),
			},
			{
				// As far as the mesh can by itself.
				Config: w.config(false, fmt.Sprintf(`candidates = [for port in [8080, 9080] : yamlencode({
				  apiVersion = "policy.linkerd.io/v1beta3"
				  kind       = "Server"
				  metadata   = { namespace = %q, name = "port-${port}" }
				  spec       = { podSelector = { matchLabels = { app = "alpha" } }, port = port, accessPolicy = "all-authenticated" }
				})]`, w.dgraph)),
				Check: told(map[string]string{
					"ok": "^true$", "summary.changed": "^2$", "matrix.0.network_reason": "no NetworkPolicy restricts it", "matrix.0.mesh_reason": "Server " + w.dgraph + "/port-8080",
				}),
			},
			{
				// As the common way has it: from pods with the mesh's label, to the application's ports.
				Config: w.config(false, w.candidate(`{ from = [{ namespaceSelector = {}, podSelector = { matchLabels = { "linkerd.io/control-plane-ns" = "linkerd" } } }], ports = [{ port = 8080 }, { port = 9080 }] }`)),
				Check: told(map[string]string{
					"ok": "^false$", "unmet.#": "^2$", "unmet.0": w.clients + "/allow does not reach Deployment " + w.dgraph + "/alpha on 8080/TCP: " + denied,
				}),
			},
			{
				Config:      w.config(true, proxyOnly+"\n fail_on_unmet = true"),
				ExpectError: regexp.MustCompile(`(?s)Not As Expected.*unmeshed\s+pods\s+in\s+namespace`),
			},
			{
				// Tests 1 and 2, of what is in the cluster once the data source can be read.
				Config: w.config(false, "list = \"all\"\n candidates = [aksmesh_network_policy.this.manifest]", protected),
				Check: told(map[string]string{
					"ok": "^true$", "results.0.reason": denied, "results.1.reason": "ingress rule 1 of NetworkPolicy " + w.dgraph + "/mesh-only.*Authorization",
					"matrix.#": "^12$", "summary.refused": "^2$", "summary.changed": "^0$",
				}),
			},
			{
				// Without the network's part, the mesh refuses by itself.
				Config: w.config(false, fmt.Sprintf("without = [\"%s/mesh-only\"]\n depends_on = [aksmesh_network_policy.this]\n list = \"all\"\n max_rows = 1", w.dgraph), protected),
				Check: told(map[string]string{
					"ok": "^true$", "results.0.reason": "no NetworkPolicy restricts it; .*Server", "summary.changed": "^0$", "matrix.#": "^1$",
				}),
			},
		},
	})
}

func TestAccConnectivity_istio(t *testing.T) {
	t.Parallel()
	w := newWalkthrough(t, istioCluster(t), func(template *corev1.PodTemplateSpec) {
		template.Labels["sidecar.istio.io/inject"] = "true"
	}, "istio-proxy")
	create(t, w.cluster, fmt.Sprintf("{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {namespace: %s, name: own}, spec: {egress: [{hosts: [./*]}]}}", w.dgraph))
	protected := fmt.Sprintf(`
	resource "aksmesh_network_policy" "this" {
	  namespace        = %q
	  pod_selector     = { app = "alpha" }
	  ports            = [8080, 9080]
	  mesh             = { istio = {} }
	  require_identity = true
	}`, w.dgraph)

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config: w.config(true, ""),
				Check: resource.ComposeAggregateTestCheckFunc(
					resource.TestCheckTypeSetElemAttr(connectivityAddress, "not_evaluated.*", "Sidecar "+w.dgraph+"/own"),
					told(map[string]string{"ok": "^true$", "matrix.#": "^0$"}), resource.TestCheckNoResourceAttr(connectivityAddress, "summary.rows")),
			},
			{
				// Sidecars are called at the application's own port.
				Config: w.config(false, w.candidate(`{ from = [{ namespaceSelector = {}, podSelector = { matchLabels = { "security.istio.io/tlsMode" = "istio" } } }], ports = [{ port = 8080 }, { port = 9080 }] }`)),
				Check:  told(map[string]string{"ok": "^true$", "summary.changed": "^2$", "matrix.0.wire_port": "^8080$"}),
			},
			{
				Config: w.config(false, fmt.Sprintf(`candidates = [yamlencode({
				  apiVersion = "security.istio.io/v1"
				  kind       = "AuthorizationPolicy"
				  metadata   = { namespace = %q, name = "guard" }
				  spec       = { selector = { matchLabels = { app = "alpha" } }, rules = [{ from = [{ source = { principals = ["*"] } }] }] }
				})]`, w.dgraph)),
				Check: told(map[string]string{
					"ok": "^true$", "summary.changed": "^2$", "matrix.0.network_reason": "no NetworkPolicy restricts it", "matrix.0.mesh_reason": "AuthorizationPolicy " + w.dgraph + "/guard",
				}),
			},
			{
				Config: w.config(false, "depends_on = [aksmesh_network_policy.this]", protected),
				Check: told(map[string]string{
					"ok": "^true$", "results.0.reason": "no ingress rule of NetworkPolicy " + w.dgraph + "/mesh-only",
					"results.1.reason": "rule 1 of NetworkPolicy " + w.dgraph + "/mesh-only allows it; .*AuthorizationPolicy " + w.dgraph + "/mesh-only",
				}),
			},
			{
				// Without the network's part, the mesh refuses by itself.
				Config: w.config(false, fmt.Sprintf("without = [\"%s/mesh-only\"]\n depends_on = [aksmesh_network_policy.this]", w.dgraph), protected),
				Check:  told(map[string]string{"ok": "^true$", "summary.changed": "^0$", "results.0.reason": "no NetworkPolicy restricts it; .*PeerAuthentication"}),
			},
		},
	})
}

// connectivityCostsLittle wants every kind to be listed at most once, and no object
// to be read by itself, in a cluster that nobody else uses.
func connectivityCostsLittle(t *testing.T, cluster *testcluster.Cluster) {
	t.Helper()
	w := newWorkspace(t, providerConfig(cluster.Kubeconfig(), `data "aksmesh_connectivity" "this" {
	  list   = "none"
	  expect = [{ from = { name = "linkerd-identity" }, to = { name = "linkerd-destination" }, port = 8086, allowed = true }]
	}
	data "aksmesh_connectivity" "again" { max_rows = 1 }`))
	read := measure(t, cluster, w, "plan", "-no-color")
	asked := strings.Join(read.requests, "\n")
	for i, request := range read.requests {
		if slices.Contains(read.requests[:i], request) {
			t.Errorf("%s is asked twice:\n%s", request, asked)
		}
	}
	for _, kind := range []string{"namespaces", "pods", "networkpolicies"} {
		if read.listsOf[kind] != 1 {
			t.Errorf("%s are listed %d times, want once", kind, read.listsOf[kind])
		}
	}
	for _, request := range read.requests {
		// Discovery ends at the version of a group.
		if verb, path, _ := strings.Cut(request, " "); verb != "list" && strings.Count(strings.TrimPrefix(path, "/"), "/") > 2 {
			t.Errorf("%s: want lists and discovery only", request)
		}
	}
	t.Logf("%d requests\n%s", len(read.requests), asked)
}

// TestAccConnectivity_notEvaluated has a policy in the cluster of a kind that
// decides before NetworkPolicies do.
func TestAccConnectivity_notEvaluated(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 2)
	connected := connect(t, cluster)
	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: "adminnetworkpolicies.policy.networking.k8s.io"}.Object()
	open := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	crd.SetAnnotations(map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"})
	crd.Object["spec"] = map[string]any{
		"group": "policy.networking.k8s.io", "scope": "Cluster",
		"names":    map[string]any{"plural": "adminnetworkpolicies", "singular": "adminnetworkpolicy", "kind": "AdminNetworkPolicy", "listKind": "AdminNetworkPolicyList"},
		"versions": []any{map[string]any{"name": "v1alpha1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": open}}},
	}
	if _, err := connected.Apply(t.Context(), crd, kube.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
	policy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": map[string]any{"name": "deny-" + namespace},
	}}
	await(t, "the AdminNetworkPolicy", func(ctx context.Context) bool {
		_, err := connected.Apply(ctx, policy, kube.ApplyOptions{Manager: "test"})
		return err == nil
	})
	t.Cleanup(func() {
		if err := connected.Delete(context.WithoutCancel(t.Context()), kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()}, kube.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: providerConfig(cluster.Kubeconfig(), fmt.Sprintf("data \"aksmesh_connectivity\" \"this\" {\n namespaces = [%q]\n}", namespace)),
			Check: told(map[string]string{
				"not_evaluated.#": "^1$", "not_evaluated.0": "^AdminNetworkPolicy deny-" + namespace + "$", "ok": "^true$",
				// Of two pods that are alike, one calls the other.
				"matrix.#": "^1$", "matrix.0.from": "^Deployment " + namespace + "/web$", "matrix.0.port": "^8080$", "matrix.0.network_reason": "no NetworkPolicy restricts it",
			}),
		}},
	})
}

func TestConnectivity_badInput(t *testing.T) {
	t.Parallel()
	const someone = `{ name = "x" }`
	expect := func(from, to, rest string) string {
		return fmt.Sprintf("expect = [{ from = %s, to = %s, allowed = true, %s }]", from, to, rest)
	}
	expectInvalidData(t, "aksmesh_connectivity", map[string]invalidInput{
		`namespaces = ["X"]`:                           {"namespaces", "DNS label"},
		`ports = ["99999"]`:                            {"ports", "port 99999 is not within 1 to 65535"},
		`ports = []`:                                   {"ports", "at least 1 elements"},
		`addresses = ["10.0.0.0/8"]`:                   {"addresses", "is not an IP address"},
		`without = ["db"]`:                             {"without", "<namespace>/<name> of a NetworkPolicy"},
		`list = "some"`:                                {"list", `"all" "allowed" "refused" "changed" "none"`},
		`max_rows = 0`:                                 {"max_rows", "between 1 and 100000"},
		`renderings = ["svg"]`:                         {"renderings", `"table" "json" "mermaid" "dot"`},
		`candidates = ["kind: ["]`:                     {"candidates", "document 1 (line 1): it is not valid YAML"},
		`candidates = ["{kind: Pod, apiVersion: v1}"]`: {"candidates", "the Pod has no name"},
		`candidates = [for kind in ["a", "b"] : "{apiVersion: v1, kind: Pod, metadata: {namespace: db, name: ${kind}}}"]`: {"candidates", "a Pod cannot be a candidate"},
		`candidates = [for port in [80, 81] : "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: db, name: p}, spec: {podSelector: {}, ingress: [{ports: [{port: ${port}}]}]}}"]`: {
			"candidates", "NetworkPolicy db/p: another candidate has the same namespace and name",
		},
		expect(`{}`, someone, `port = 80`):                                          {"expect", "set address, or at least one of namespace, pod_labels, name and meshed"},
		expect(`{ address = "x" }`, someone, `port = 80`):                           {"address", "an IP address or a range in CIDR notation"},
		expect(someone, `{ name = "x", address = "10.0.0.1" }`, `port = 80`):        {"to", "an address is outside of the cluster"},
		expect(`{ address = "10.0.0.1" }`, `{ address = "10.0.0.2" }`, `port = 80`): {"expect", "Both ends are outside of the cluster"},
		expect(someone, someone, `port = "Web Port"`):                               {"port", "neither the number nor the name of a port"},
		expect(someone, someone, `port = "53/UDP"`):                                 {"port", "the protocol is none of"},
		expect(someone, someone, `port = 80, protocol = "ICMP"`):                    {"protocol", `"TCP" "UDP" "SCTP"`},
		expect(`{ pod_labels = { "a b" = "c" } }`, someone, `port = 80`):            {"pod_labels", "a label's key"},
	})
}

// TestConnectivity_unknown reads while the cluster is not known, and plans with
// inputs that are not.
func TestConnectivity_unknown(t *testing.T) {
	t.Parallel()
	resource.UnitTest(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config: `
				resource "terraform_data" "cluster" { input = "https://nowhere.invalid" }
				provider "aksmesh" { kubernetes = { host = terraform_data.cluster.output } }
				data "aksmesh_connectivity" "this" {}`,
				ExpectError: regexp.MustCompile(`(?s)No Cluster To Talk To.*depends_on`),
			},
			{
				Config: `
				provider "aksmesh" { kubernetes = { host = "https://127.0.0.1:1" } }
				resource "terraform_data" "this" {
				  input = { text = "x", end = { name = "x" }, expect = [], texts = ["x"], number = 1, yes = true }
				}
				locals { later = terraform_data.this.output }
				data "aksmesh_connectivity" "inside" {
				  namespaces    = [local.later.text]
				  ports         = [local.later.text]
				  addresses     = [local.later.text]
				  candidates    = [local.later.text]
				  without       = [local.later.text]
				  expect        = [{ from = local.later.end, to = { name = local.later.text, pod_labels = { app = local.later.text } }, port = local.later.number, allowed = local.later.yes }]
				  fail_on_unmet = local.later.yes
				  list          = local.later.text
				  max_rows      = local.later.number
				  renderings    = [local.later.text]
				}
				data "aksmesh_connectivity" "whole" {
				  namespaces = local.later.texts
				  ports      = local.later.texts
				  addresses  = local.later.texts
				  candidates = local.later.texts
				  without    = local.later.texts
				  expect     = local.later.expect
				  renderings = local.later.texts
				}`,
				PlanOnly: true, ExpectNonEmptyPlan: true,
			},
		},
	})
}

// TestConnectivity_engine wants a warning wherever policies may count for nothing,
// those that are only proposed too.
func TestConnectivity_engine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		found    engine.Result
		policies bool
		want     string
	}{
		"enforced":           {engine.Result{Name: "Calico"}, true, ""},
		"nothing enforces":   {engine.Result{Looked: "looked for nodes"}, true, "Nothing Enforces NetworkPolicies"},
		"nothing to do so":   {engine.Result{Looked: "looked for nodes"}, false, ""},
		"cannot be told":     {engine.Result{Unseen: []string{"nodes may not be listed"}}, true, "Unknown Whether NetworkPolicies Are Enforced"},
		"found all the same": {engine.Result{Name: "Cilium", Unseen: []string{"nodes may not be listed"}}, true, ""},
	} {
		var diags diag.Diagnostics
		warnOfEngine(test.found, test.policies, &diags)
		got := ""
		for _, warning := range diags.Warnings() {
			got += warning.Summary()
		}
		if got != test.want || diags.HasError() {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

package provider

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	tftypes "github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const policyAddress = "aksmesh_network_policy.this"

func policyConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`resource "aksmesh_network_policy" "this" {
	  namespace    = %q
	  pod_selector = { app = "alpha" }
	  %s
	}`, namespace, body))
}

// policyDeployment makes a Deployment of alpha that listens on 8080 and 7080 and
// is probed by gRPC on 9080.
func policyDeployment(t *testing.T, cluster *testcluster.Cluster, namespace string, annotations map[string]string) {
	t.Helper()
	deployment := testcluster.NewDeployment(namespace, "alpha", 1)
	deployment.Spec.Template.Annotations = annotations
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Ports = []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 7080}, {ContainerPort: 9080}}
	container.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9080}}}
	if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, cluster).AwaitReady(t.Context(), kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "alpha"}); err != nil {
		t.Fatal(err)
	}
}

// policyObjects wants the namespace to have that many objects of each kind, and no
// more of any kind that policies are made of.
func policyObjects(t *testing.T, cluster *testcluster.Cluster, namespace string, want map[string]int) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		c := connect(t, cluster)
		got := map[string]int{}
		for _, kind := range slices.Concat(linkerd.PolicyKinds(), istio.PolicyKinds(), []kube.Kind{kube.NetworkPolicy}) {
			if _, err := c.KindFor(ctx, kind.GVK()); meta.IsNoMatchError(err) {
				continue
			}
			objects, err := c.List(ctx, kind, namespace)
			if err != nil {
				return err
			}
			if len(objects) > 0 {
				got[kind.String()] += len(objects)
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("namespace %s has %v, want %v", namespace, got, want)
		}
		return nil
	}
}

// admits checks who gets in by the policies that are in the cluster, as the
// NetworkPolicy API defines it.
func admits(t *testing.T, cluster *testcluster.Cluster, namespace string, labels map[string]string, port int32, want bool) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		policies, err := cluster.Client().NetworkingV1().NetworkPolicies(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		pointers := make([]*networkingv1.NetworkPolicy, len(policies.Items))
		for i := range policies.Items {
			pointers[i] = &policies.Items[i]
		}
		compiled, err := netpol.Compile(pointers)
		if err != nil {
			return err
		}
		verdict := compiled.Evaluate(
			netpol.Endpoint{Namespace: "clients", Labels: labels},
			netpol.Endpoint{Namespace: namespace, Labels: map[string]string{"app": "alpha"}},
			netpol.Port{Protocol: corev1.ProtocolTCP, Number: port})
		if verdict.Allowed != want {
			return fmt.Errorf("port %d from %v: allowed is %t, want %t: %s", port, labels, verdict.Allowed, want, verdict.Reason())
		}
		return nil
	}
}

func TestAccNetworkPolicy_linkerd(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	policyDeployment(t, cluster, namespace, map[string]string{"linkerd.io/inject": "enabled", "config.linkerd.io/default-inbound-policy": "deny"})
	policies := cluster.Client().NetworkingV1().NetworkPolicies(namespace)
	meshed, unmeshed := map[string]string{"linkerd.io/control-plane-ns": "linkerd"}, map[string]string{"app": "client"}
	does := func(action plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(policyAddress, action)}}
	}
	update := does(plancheck.ResourceActionUpdate)
	imported := resource.TestStep{
		ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only",
	}
	governed := policyObjects(t, cluster, namespace, map[string]int{"NetworkPolicy": 1, "Server": 3, "AuthorizationPolicy": 3, "MeshTLSAuthentication": 1, "NetworkAuthentication": 1, "HTTPRoute": 2})
	modern := resource.ComposeTestCheckFunc(
		admits(t, cluster, namespace, meshed, 4143, true),
		admits(t, cluster, namespace, unmeshed, 4143, true),
		admits(t, cluster, namespace, meshed, 8080, false),
		admits(t, cluster, namespace, unmeshed, 8080, false),
		governed,
	)
	const byPods = "ports = [8080, 9080]"
	serverKind := linkerd.PolicyKinds()[slices.IndexFunc(linkerd.PolicyKinds(), func(k kube.Kind) bool { return k.Name == "Server" })]
	foreign := kube.Ref{Kind: serverKind, Namespace: namespace, Name: "foreign"}.Object()
	foreign.Object["spec"] = map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "alpha"}}, "port": int64(8080)}

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             policyObjects(t, cluster, namespace, map[string]int{}),
		Steps: []resource.TestStep{
			{
				// By the pods, and by the version of the control plane that is there.
				Config: policyConfig(cluster, namespace, byPods),
				Check: resource.ComposeTestCheckFunc(modern,
					resource.TestCheckResourceAttr(policyAddress, "mesh.linkerd.control_plane_namespace", "linkerd"),
					resource.TestCheckResourceAttr(policyAddress, "strength", "mtls_port"),
					resource.TestCheckResourceAttr(policyAddress, "require_identity", "true"),
					resource.TestCheckResourceAttr(policyAddress, "closed_ports.0", "7080"),
					resource.TestCheckResourceAttr(policyAddress, "grpc_probe_ports.0", "9080"),
					resource.TestCheckResourceAttr(policyAddress, "engine", "Calico"),
					resource.TestMatchResourceAttr(policyAddress, "guarantee", regexp.MustCompile("mTLS")),
					resource.TestMatchResourceAttr(policyAddress, "manifest", regexp.MustCompile("port: 4143"))),
			},
			imported,
			{
				// Somebody opens it, and takes a Server away.
				PreConfig: func() {
					patch := []byte(`{"spec":{"ingress":[{}]}}`)
					if _, err := policies.Patch(t.Context(), "mesh-only", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
						t.Fatal(err)
					}
					deleteOne(t, cluster, namespace, "Server")
				},
				Config:           policyConfig(cluster, namespace, byPods),
				ConfigPlanChecks: update,
				Check:            modern,
			},
			{
				// Somebody deletes all of it.
				PreConfig: func() {
					if err := (guard.Policy{Cluster: connect(t, cluster), Namespace: namespace, Name: "mesh-only", Traffics: []guard.Traffic{nil}}).Delete(t.Context()); err != nil {
						t.Fatal(err)
					}
				},
				Config:           policyConfig(cluster, namespace, byPods),
				ConfigPlanChecks: does(plancheck.ResourceActionCreate),
				Check:            modern,
			},
			{
				// One port less is one more to close, and all that may be said besides.
				Config: policyConfig(cluster, namespace, `
				ports    = [8080]
				mesh     = { linkerd = { control_plane_namespace = "linkerd" } }
				strength = "mtls_port_and_label"
				allow = {
				  same_namespace = true
				  pods    = [{ namespace_labels = { team = "edge" }, pod_labels = { app = "ingress" }, ports = [9080] }]
				  metrics = [{ namespace_labels = { "kubernetes.io/metadata.name" = "linkerd-viz" } }]
				  cidrs   = [{ cidr = "203.0.113.0/24", except = ["203.0.113.7/32"] }]
				}
				egress = {
				  control_plane = true
				  mesh_ports    = [8080]
				  pods          = [{ pod_labels = { app = "db" }, ports = [5432] }]
				  cidrs         = [{ cidr = "198.51.100.0/24", ports = [443] }]
				}
				timeouts = { update = "5m" }`),
				ConfigPlanChecks: update,
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(policyAddress, "closed_ports.#", "2"),
					admits(t, cluster, namespace, meshed, 4143, true),
					admits(t, cluster, namespace, unmeshed, 4143, false),
					admits(t, cluster, namespace, map[string]string{"app": "ingress"}, 9080, false),
					resource.TestMatchResourceAttr(policyAddress, "manifest", regexp.MustCompile(`(?s)203\.0\.113\.7/32.*198\.51\.100\.0/24|198\.51\.100\.0/24.*203\.0\.113\.7/32`))),
			},
			{ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only", ImportStateVerifyIgnore: []string{"timeouts"}},
			{
				Config:           policyConfig(cluster, namespace, "ports = [8080]\n strength = \"label\""),
				ConfigPlanChecks: update,
				Check: resource.ComposeTestCheckFunc(
					policyObjects(t, cluster, namespace, map[string]int{"NetworkPolicy": 1}),
					resource.TestCheckResourceAttr(policyAddress, "require_identity", "false"),
					resource.TestCheckResourceAttr(policyAddress, "closed_ports.#", "0"),
					admits(t, cluster, namespace, meshed, 8080, true),
					admits(t, cluster, namespace, unmeshed, 8080, false)),
			},
			{
				// As for a Linkerd that sends traffic to the application's ports.
				Config:           policyConfig(cluster, namespace, "ports = [9080]\n mesh = { linkerd = { version = \"stable-2.14.10\" } }"),
				ConfigPlanChecks: update,
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(policyAddress, "strength", "label"),
					admits(t, cluster, namespace, meshed, 4143, true),
					admits(t, cluster, namespace, meshed, 9080, true),
					admits(t, cluster, namespace, meshed, 8080, false),
					admits(t, cluster, namespace, unmeshed, 9080, false)),
			},
			imported,
			{
				Config:      policyConfig(cluster, namespace, "strength = \"mtls_port\"\n mesh = { linkerd = { version = \"stable-2.14.10\" } }"),
				ExpectError: regexp.MustCompile(`(?is)strength\s+mtls_port\s+is\s+not\s+to\s+be\s+had`),
			},
			{
				// In place, from one mesh to the other: what was Linkerd's goes.
				Config:           policyConfig(cluster, namespace, "mesh = { istio = { mode = \"sidecar\" } }"),
				ConfigPlanChecks: update,
				Check:            policyObjects(t, cluster, namespace, map[string]int{"NetworkPolicy": 1}),
			},
			{
				// Somebody's Server is for the same port of the same pods.
				PreConfig: func() {
					if _, err := connect(t, cluster).Apply(t.Context(), foreign, kube.ApplyOptions{Manager: "somebody"}); err != nil {
						t.Fatal(err)
					}
				},
				Config:      policyConfig(cluster, namespace, byPods+"\n mesh = { linkerd = {} }"),
				ExpectError: regexp.MustCompile(`(?s)Would\s+Be\s+Refused.*Server\s+` + namespace + `/foreign`),
			},
			{
				PreConfig: func() {
					ref := kube.Ref{Kind: serverKind, Namespace: namespace, Name: "foreign"}
					if err := connect(t, cluster).Delete(t.Context(), ref, kube.DeleteOptions{Wait: true}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           policyConfig(cluster, namespace, "name = \"other\"\n ports = [8080]\n closed_ports = []\n grpc_probe_ports = [9080]\n mesh = { linkerd = {} }"),
				ConfigPlanChecks: does(plancheck.ResourceActionDestroyBeforeCreate),
				Check:            resource.TestCheckResourceAttr(policyAddress, "closed_ports.#", "0"),
			},
		},
	})
}

// deleteOne deletes an object of the namespace of that kind of Linkerd's.
func deleteOne(t *testing.T, cluster *testcluster.Cluster, namespace, kind string) {
	t.Helper()
	c := connect(t, cluster)
	kinds := linkerd.PolicyKinds()
	at := slices.IndexFunc(kinds, func(k kube.Kind) bool { return k.Name == kind })
	objects, err := c.List(t.Context(), kinds[at], namespace)
	if err != nil || len(objects) == 0 {
		t.Fatalf("%d of kind %s, %v", len(objects), kind, err)
	}
	if err := c.Delete(t.Context(), kube.Ref{Kind: kinds[at], Namespace: namespace, Name: objects[0].GetName()}, kube.DeleteOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
}

func TestAccNetworkPolicy_istio(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	imported := resource.TestStep{
		ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only",
	}
	whole := map[string]int{"NetworkPolicy": 1, "PeerAuthentication": 1, "AuthorizationPolicy": 1}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             policyObjects(t, cluster, namespace, map[string]int{}),
		Steps: []resource.TestStep{
			{
				// Nobody asks for ambient mode.
				Config: policyConfig(cluster, namespace, "ports = [8080, 9080]\n mesh = { istio = {} }"),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(policyAddress, "mesh.istio.mode", "sidecar"),
					resource.TestCheckResourceAttr(policyAddress, "strength", "label"),
					policyObjects(t, cluster, namespace, map[string]int{"NetworkPolicy": 1}),
					admits(t, cluster, namespace, map[string]string{"security.istio.io/tlsMode": "istio"}, 8080, true),
					admits(t, cluster, namespace, map[string]string{"istio": "ingressgateway"}, 9080, true),
					admits(t, cluster, namespace, map[string]string{"security.istio.io/tlsMode": "istio"}, 15006, false),
					admits(t, cluster, namespace, map[string]string{"app": "client"}, 8080, false),
				),
			},
			imported,
			{
				Config:      policyConfig(cluster, namespace, "ports = [8080]\n strength = \"mtls_port\""),
				ExpectError: regexp.MustCompile(`(?is)strength\s+mtls_port\s+is\s+not\s+to\s+be\s+had\s+with\s+Istio's\s+sidecars`),
			},
			{
				Config: policyConfig(cluster, namespace, "ports = [8080]\n require_identity = true\n allow = { cidrs = [{ cidr = \"203.0.113.0/24\", ports = [9080] }] }"),
				Check:  policyObjects(t, cluster, namespace, whole),
			},
			imported,
			{
				Config: policyConfig(cluster, namespace, "ports = [8080]\n mesh = { istio = { mode = \"ambient\" } }\n egress = { dns = false }"),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(policyAddress, "strength", "mtls_port"),
					resource.TestCheckResourceAttr(policyAddress, "require_identity", "true"),
					policyObjects(t, cluster, namespace, whole),
					admits(t, cluster, namespace, map[string]string{"app": "client"}, 15008, true),
					admits(t, cluster, namespace, map[string]string{"security.istio.io/tlsMode": "istio"}, 8080, false),
				),
			},
			imported,
			{
				// The control plane's own, which nothing enforces here.
				Config: providerConfig(cluster.Kubeconfig(), `resource "aksmesh_network_policy" "this" {
				  namespace     = "istio-system"
				  name          = "test-guard"
				  mesh          = { istio = {} }
				  control_plane = { api_server = { konnectivity = true, cidrs = ["10.240.0.0/28"] } }
				  allow         = { metrics = [{ pod_labels = { app = "prometheus" } }] }
				}`),
				Check: resource.TestMatchResourceAttr(policyAddress, "manifest", regexp.MustCompile(`(?s)konnectivity-agent.*15017|15017.*konnectivity-agent`)),
			},
			{ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: "istio-system/test-guard"},
		},
	})
}

func TestAccNetworkPolicy_refused(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	foreign := fmt.Appendf(nil, `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"taken","namespace":%q},"spec":{"podSelector":{"matchLabels":{"app":"beta"}},"policyTypes":["Ingress"]}}`, namespace)
	if _, err := cluster.Client().NetworkingV1().NetworkPolicies(namespace).Patch(t.Context(), "taken", types.ApplyPatchType, foreign, metav1.PatchOptions{FieldManager: "gitops"}); err != nil {
		t.Fatal(err)
	}
	const sidecars = "\n ports = [8080]\n mesh = { istio = { mode = \"sidecar\" } }"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      policyConfig(cluster, namespace, "ports = [8080]\n mesh = { linkerd = {} }"),
				ExpectError: regexp.MustCompile(`(?s)no\s+control\s+plane.*ConfigMap\s+linkerd/linkerd-config`),
			},
			{
				Config:      policyConfig(cluster, namespace, "ports = [8080]"),
				ExpectError: regexp.MustCompile(`(?s)no\s+control\s+plane.*say\s+which\s+mesh\s+is\s+meant`),
			},
			{
				Config:      policyConfig(cluster, "no-such-namespace", sidecars),
				ExpectError: regexp.MustCompile(`(?s)Namespace\s+no-such-namespace.*not\s+found`),
			},
			{
				Config:      policyConfig(cluster, namespace, "name = \"taken\""+sidecars),
				ExpectError: regexp.MustCompile(`(?s)NetworkPolicy\s+` + namespace + `/taken.*gitops`),
			},
			{
				ResourceName: policyAddress, ImportState: true, ImportStateId: namespace + "/taken",
				Config:      policyConfig(cluster, namespace, "name = \"taken\""+sidecars),
				ExpectError: regexp.MustCompile(`(?s)was\s+not\s+made\s+by\s+aksmesh_network_policy`),
			},
			{Config: policyConfig(cluster, namespace, "name = \"taken\"\n force_conflicts = true"+sidecars)},
			{
				// Two of one name would undo each other's rules by turns.
				Config: policyConfig(cluster, namespace, "name = \"taken\"\n force_conflicts = true"+sidecars) + fmt.Sprintf(`
				resource "aksmesh_network_policy" "second" {
				  namespace    = %q
				  name         = aksmesh_network_policy.this.name
				  pod_selector = { app = "zero" }
				  ports        = [5080]
				  mesh         = { istio = { mode = "sidecar" } }
				}`, namespace),
				ExpectError: regexp.MustCompile(`(?s)NetworkPolicy\s+` + namespace + `/taken:\s+already\s+exists.*force_conflicts\s+=\s+true.*choose\s+another\s+name`),
			},
		},
	})
}

// A policy that nothing enforces is refused, at plan if that can be seen by then,
// and what defeats one is warned of.
func TestAccNetworkPolicy_unenforced(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	namespace := cluster.Namespace(t)
	labelNodes := func(engine string) {
		nodes, err := cluster.Client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range nodes.Items {
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{"kubernetes.azure.com/network-policy":%q}}}`, engine)
			if _, err := cluster.Client().CoreV1().Nodes().Patch(t.Context(), node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	labelNodes("none")
	config := func(body string) string {
		return policyConfig(cluster, namespace, "ports = [8080]\n mesh = { istio = { mode = \"sidecar\" } }\n"+body)
	}
	w := newWorkspace(t, config(""))
	got := w.run("plan", "-no-color")
	if got.code == 0 || !strings.Contains(got.output, "No Network Policy Engine") || !strings.Contains(got.output, "kubernetes.azure.com/network-policy=none") {
		t.Fatalf("plan: exit code %d\n%s", got.code, got.output)
	}

	w.write(config("allow_unenforced = true"))
	about := "What NetworkPolicy " + namespace + "/mesh-only Does Not Protect: "
	expectWarnings(t, w.succeed("plan", "-json"), about+"It selects no pod of namespace "+namespace+" now (app=alpha).")
	w.apply()
	w.expectNoChanges()
	if engine := w.attributes()[policyAddress]["engine"]; engine != nil {
		t.Errorf("got engine %q, want none", engine)
	}

	policyDeployment(t, cluster, namespace, nil)
	open := fmt.Appendf(nil, `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"open","namespace":%q},"spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"ports":[{"port":8080}]}]}}`, namespace)
	if _, err := cluster.Client().NetworkingV1().NetworkPolicies(namespace).Patch(t.Context(), "open", types.ApplyPatchType, open, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	labelNodes("azure")
	w.write(config("allow = { same_namespace = true }"))
	expectWarnings(t, w.succeed("plan", "-json"),
		"About the Network Policy Engine: label kubernetes.azure.com/network-policy=azure",
		about+"NetworkPolicy "+namespace+"/open lets every pod in by its ingress rule 1, to ports 8080",
		about+"Pods that are not in Istio are selected",
	)
	w.apply()
	if engine := w.attribute(policyAddress, "engine"); engine != "Azure Network Policy Manager" {
		t.Errorf("got engine %q", engine)
	}
	w.expectNoChanges()

	// What changes no object is no reason to refuse what was there before.
	labelNodes("none")
	w.write(config("allow = { same_namespace = true }\n timeouts = { update = \"5m\" }"))
	w.apply()
}

func TestNetworkPolicyModel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	model := func(diags *diag.Diagnostics, traffic guard.Traffic) *networkPolicyModel {
		m := &networkPolicyModel{}
		m.imported(ctx, guard.Intent{Namespace: "x", Name: "mesh-only", Pods: map[string]string{"app": "alpha"}, Traffic: traffic}, diags)
		return m
	}
	var diags diag.Diagnostics

	// A version that is no longer said is read again.
	pinned := model(&diags, linkerd.Traffic{ControlPlane: "two", Version: "stable-2.14.10"})
	if got, want := pinned.inherit(ctx, guard.Intent{}, &diags).Traffic, (linkerd.Traffic{ControlPlane: "two"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	sidecars := istio.Traffic{Mode: istio.ModeSidecar}
	if got := model(&diags, sidecars).inherit(ctx, guard.Intent{}, &diags).Traffic; got != sidecars {
		t.Errorf("got %+v, want %+v", got, sidecars)
	}

	// Whatever is said of the API server, it is let in.
	for _, everyone := range []attr.Value{tftypes.BoolNull(), tftypes.BoolUnknown()} {
		m := model(&diags, sidecars)
		server := tftypes.ObjectValueMust(policyType(ctx, "control_plane", "api_server"), map[string]attr.Value{
			"everyone": everyone, "konnectivity": tftypes.BoolValue(false), "cidrs": tftypes.ListNull(tftypes.StringType),
		})
		m.ControlPlane = tftypes.ObjectValueMust(policyType(ctx, "control_plane"), map[string]attr.Value{"api_server": server})
		if !m.intent(ctx, &diags).ControlPlane.Everyone {
			t.Errorf("everyone = %s shuts the API server out", everyone)
		}
	}
	if diags.HasError() {
		t.Error(diags)
	}
}

func TestNetworkPolicy_badInput(t *testing.T) {
	t.Parallel()
	rest := func(body string) string {
		for _, part := range []string{"namespace = \"x\"", "pod_selector = {}", "ports = [8080]", "mesh = { istio = {} }"} {
			name, _, _ := strings.Cut(part, " ")
			if !strings.Contains(body, name+" =") && (!strings.Contains(body, "control_plane =") || name == "namespace") {
				body += "\n" + part
			}
		}
		return body
	}
	expectInvalid(t, "aksmesh_network_policy", map[string]invalidInput{
		rest("ports = []"):                                                                     {"ports", "at least 1 elements"},
		rest("ports = [70000]"):                                                                {"ports", "between 1 and 65535"},
		rest("ports = [8080, 8080]"):                                                           {"ports", "duplicate"},
		rest("ports = [15006]"):                                                                {"ports", "port 15006 is that of Istio's proxy"},
		rest("mesh = { linkerd = { version = \"latest\" } }"):                                  {"version", "not a version of Linkerd"},
		rest("mesh = {}"):                                                                      {"mesh", "one (and only one) of"},
		rest("mesh = { istio = { mode = \"ztunnel\" } }"):                                      {"mode", "must be one of"},
		rest("name = \"A\""):                                                                   {"name", "DNS subdomain"},
		rest("pod_selector = { app = \"-\" }"):                                                 {"pod_selector", "a label's value"},
		rest("ports = [4143]\n mesh = { linkerd = {} }"):                                       {"ports", "port 4143 is the proxy's own"},
		rest("strength = \"strong\""):                                                          {"strength", "must be one of"},
		rest("ports = [8080]\n closed_ports = [7080, 8080]"):                                   {"closed_ports", "port 8080 is among ports too"},
		rest("grpc_probe_ports = [0]"):                                                         {"grpc_probe_ports", "between 1 and 65535"},
		"namespace = \"x\"\npod_selector = {}\nrequire_identity = true":                        {"require_identity", "name them in ports"},
		"namespace = \"x\"":                                                                    {"No attribute specified", "one (and only one) of [pod_selector"},
		rest("pod_selector = {}\n control_plane = {}"):                                         {"pod_selector", "one (and only one) of"},
		rest("ports = [8080]\n control_plane = {}"):                                            {"ports", "cannot be specified when"},
		rest("strength = \"label\"\n control_plane = {}"):                                      {"strength", "cannot be specified when"},
		rest("require_identity = false\n control_plane = {}"):                                  {"require_identity", "cannot be specified when"},
		rest("control_plane = { api_server = { everyone = false } }"):                          {"api_server", "without the API server its webhooks fail"},
		rest("control_plane = { api_server = { cidrs = [\"10.0.0.1\"] } }"):                    {"cidrs", "CIDR"},
		rest("allow = { cidrs = [{ cidr = \"10.0.0.0/8\", except = [\"192.168.0.0/16\"] }] }"): {"cidrs", "192.168.0.0/16"},
		rest("allow = { pods = [] }"):                                                          {"pods", "at least 1 elements"},
		rest("allow = { pods = [{ namespace_labels = {} }] }"):                                 {"namespace_labels", "at least 1 elements"},
		rest("allow = { metrics = [{ pod_labels = { \"-\" = \"x\" } }] }"):                     {"pod_labels", "a label's key"},
		rest("egress = { cidrs = [{ cidr = \"everywhere\" }] }"):                               {"cidrs", "everywhere"},
		rest("egress = { mesh_ports = [] }"):                                                   {"mesh_ports", "at least 1 elements"},
		rest("egress = { pods = [{ ports = [1, 1] }] }"):                                       {"duplicate", "values of: 1"},
	})
}

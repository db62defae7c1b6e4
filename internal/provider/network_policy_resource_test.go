package provider

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

func policyGone(t *testing.T, cluster *testcluster.Cluster, namespace, name string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if _, err := cluster.Client().NetworkingV1().NetworkPolicies(namespace).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("NetworkPolicy %s/%s: want not found, got %w", namespace, name, err)
		}
		return nil
	}
}

func TestAccNetworkPolicy_linkerd(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	policies := cluster.Client().NetworkingV1().NetworkPolicies(namespace)
	meshed, unmeshed := map[string]string{"linkerd.io/control-plane-ns": "linkerd"}, map[string]string{"app": "client"}
	update := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(policyAddress, plancheck.ResourceActionUpdate)}}
	modern := resource.ComposeTestCheckFunc(
		admits(t, cluster, namespace, meshed, 4143, true),
		admits(t, cluster, namespace, meshed, 8080, false),
		admits(t, cluster, namespace, unmeshed, 8080, false),
		admits(t, cluster, namespace, unmeshed, 4143, false),
	)

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             policyGone(t, cluster, namespace, "mesh-only"),
		Steps: []resource.TestStep{
			{
				// By the version of the control plane that is there.
				Config: policyConfig(cluster, namespace, "ports = [8080, 9080]\n mesh = { linkerd = {} }"),
				Check: resource.ComposeTestCheckFunc(modern,
					resource.TestMatchResourceAttr(policyAddress, "guarantee", regexp.MustCompile("mTLS")),
					resource.TestMatchResourceAttr(policyAddress, "policy_yaml", regexp.MustCompile("port: 4143"))),
			},
			{ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only"},
			{
				// Somebody opens it.
				PreConfig: func() {
					patch := []byte(`{"spec":{"ingress":[{}]}}`)
					if _, err := policies.Patch(t.Context(), "mesh-only", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           policyConfig(cluster, namespace, "ports = [8080, 9080]\n mesh = { linkerd = {} }"),
				ConfigPlanChecks: update,
				Check:            modern,
			},
			{
				// Somebody deletes it.
				PreConfig: func() {
					if err := policies.Delete(t.Context(), "mesh-only", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: policyConfig(cluster, namespace, "ports = [8080, 9080]\n mesh = { linkerd = {} }"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(policyAddress, plancheck.ResourceActionCreate),
				}},
				Check: modern,
			},
			{
				// As for a Linkerd that sends traffic to the application's ports.
				Config:           policyConfig(cluster, namespace, "ports = [8080]\n mesh = { linkerd = { version = \"stable-2.14.10\" } }"),
				ConfigPlanChecks: update,
				Check: resource.ComposeTestCheckFunc(
					admits(t, cluster, namespace, meshed, 4143, true),
					admits(t, cluster, namespace, meshed, 8080, true),
					admits(t, cluster, namespace, meshed, 9080, false),
					admits(t, cluster, namespace, unmeshed, 8080, false),
				),
			},
			{ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only"},
			{
				Config: policyConfig(cluster, namespace, "name = \"other\"\n ports = [8080]\n mesh = { linkerd = {} }"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(policyAddress, plancheck.ResourceActionDestroyBeforeCreate),
				}},
				Check: policyGone(t, cluster, namespace, "mesh-only"),
			},
		},
	})
}

func TestAccNetworkPolicy_istio(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             policyGone(t, cluster, namespace, "mesh-only"),
		Steps: []resource.TestStep{
			{
				Config: policyConfig(cluster, namespace, "ports = [8080, 9080]\n mesh = { istio = {} }"),
				Check: resource.ComposeTestCheckFunc(
					admits(t, cluster, namespace, map[string]string{"security.istio.io/tlsMode": "istio"}, 8080, true),
					admits(t, cluster, namespace, map[string]string{"istio": "ingressgateway"}, 9080, true),
					admits(t, cluster, namespace, map[string]string{"security.istio.io/tlsMode": "istio"}, 15006, false),
					admits(t, cluster, namespace, map[string]string{"app": "client"}, 8080, false),
				),
			},
			{ResourceName: policyAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/mesh-only"},
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
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      policyConfig(cluster, namespace, "ports = [8080]\n mesh = { linkerd = {} }"),
				ExpectError: regexp.MustCompile(`(?s)no\s+control\s+plane.*ConfigMap\s+linkerd/linkerd-config`),
			},
			{
				Config:      policyConfig(cluster, "no-such-namespace", "ports = [8080]\n mesh = { istio = {} }"),
				ExpectError: regexp.MustCompile(`(?s)Namespace\s+no-such-namespace.*not\s+found`),
			},
			{
				Config:      policyConfig(cluster, namespace, "name = \"taken\"\n ports = [8080]\n mesh = { istio = {} }"),
				ExpectError: regexp.MustCompile(`(?s)NetworkPolicy\s+` + namespace + `/taken.*gitops`),
			},
			{
				ResourceName: policyAddress, ImportState: true, ImportStateId: namespace + "/taken",
				Config:      policyConfig(cluster, namespace, "name = \"taken\"\n ports = [8080]\n mesh = { istio = {} }"),
				ExpectError: regexp.MustCompile(`(?s)was\s+not\s+made\s+by\s+aksmesh_network_policy`),
			},
			{Config: policyConfig(cluster, namespace, "name = \"taken\"\n force_conflicts = true\n ports = [8080]\n mesh = { istio = {} }")},
			{
				// Two of one name would undo each other's rules by turns.
				Config: policyConfig(cluster, namespace, "name = \"taken\"\n force_conflicts = true\n ports = [8080]\n mesh = { istio = {} }") + fmt.Sprintf(`
				resource "aksmesh_network_policy" "second" {
				  namespace    = %q
				  name         = aksmesh_network_policy.this.name
				  pod_selector = { app = "zero" }
				  ports        = [5080]
				  mesh         = { istio = {} }
				}`, namespace),
				ExpectError: regexp.MustCompile(`(?s)NetworkPolicy\s+` + namespace + `/taken:\s+already\s+exists.*choose\s+another\s+name`),
			},
		},
	})
}

func TestNetworkPolicy_badInput(t *testing.T) {
	t.Parallel()
	rest := func(body string) string {
		for _, part := range []string{"namespace = \"x\"", "pod_selector = {}", "ports = [8080]", "mesh = { istio = {} }"} {
			if name, _, _ := strings.Cut(part, " "); !strings.Contains(body, name+" =") {
				body += "\n" + part
			}
		}
		return body
	}
	expectInvalid(t, "aksmesh_network_policy", map[string]invalidInput{
		rest("ports = []"):                                    {"ports", "at least 1 elements"},
		rest("ports = [70000]"):                               {"ports", "between 1 and 65535"},
		rest("ports = [8080, 8080]"):                          {"ports", "duplicate"},
		rest("ports = [15006]"):                               {"ports", "port 15006 is the sidecar's own"},
		rest("mesh = { linkerd = { version = \"latest\" } }"): {"version", "not a version of Linkerd"},
		rest("mesh = {}"):                                     {"mesh", "one (and only one) of"},
		rest("name = \"A\""):                                  {"name", "DNS subdomain"},
		rest("pod_selector = { app = \"-\" }"):                {"pod_selector", "a label's value"},
		rest("ports = [4143]\n mesh = { linkerd = {} }"):      {"ports", "port 4143 is the proxy's own"},
	})
}

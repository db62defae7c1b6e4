package provider

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// managedRevision is a revision of the Istio add-on of AKS, and managedTag one of
// its users' tags.
const (
	managedRevision = "asm-1-30"
	managedTag      = "prod"
)

// manageIstio stands in for the Istio add-on of AKS: an istiod of a revision as
// the add-on names them, in the namespace of the add-on, of which no release of
// Helm tells.
func manageIstio(t *testing.T, cluster *testcluster.Cluster) {
	t.Helper()
	charts, err := testCharts(connect(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	installer := istio.Installer{Charts: charts}
	prepared, err := installer.Prepare(t.Context(), istio.Specification{
		Plane: istio.Plane{Namespace: check.AddonNamespace, Revision: managedRevision}, Repository: cluster.Charts().Repository,
		Version: "1.30.2", Profile: istio.ProfileMinimal, Now: time.Now(),
	}, nil)
	if err == nil {
		err = installer.Apply(t.Context(), prepared, false)
	}
	if err == nil {
		err = installer.SetTag(t.Context(), istio.Tag{Namespace: check.AddonNamespace, Name: managedTag}, managedRevision)
	}
	if err == nil {
		err = cluster.Client().CoreV1().Secrets(check.AddonNamespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "owner=helm"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccManagedIstio has workloads, policies and the issuer belong to the Istio
// add-on of AKS, and no other Istio installed beside it.
func TestAccManagedIstio(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	if _, err := cluster.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: check.AddonNamespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	namespace := cluster.Namespace(t)
	issuer := fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "this" {}
	resource "aksmesh_issuer" "this" {
	  mesh             = "istio"
	  namespace        = %q
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	}`, check.AddonNamespace)
	meshedBy := func(revision string) string {
		return issuer + fmt.Sprintf(`
	resource "aksmesh_injection" "this" {
	  namespace = %[1]q
	  mesh      = { istio = { revision = %[2]q } }
	}
	resource "aksmesh_network_policy" "this" {
	  namespace    = aksmesh_injection.this.namespace
	  pod_selector = { app = "alpha" }
	  ports        = [8080]
	  egress       = {}
	}
	resource "aksmesh_authorization" "this" {
	  namespace    = aksmesh_injection.this.namespace
	  name         = "alpha"
	  pod_selector = { app = "alpha" }
	  ports        = [8080]
	  allow        = [{ service_accounts = ["%[1]s/client"] }]
	}
	data "aksmesh_proxies" "this" {
	  depends_on = [aksmesh_injection.this]
	  mesh       = "istio"
	}
	data "aksmesh_check" "this" {
	  depends_on = [aksmesh_injection.this]
	  mesh       = "istio"
	  revision   = %[2]q
	  scopes     = ["control_plane"]
	}`, namespace, revision)
	}
	imported := resource.TestStep{
		ResourceName: "aksmesh_injection.this", ImportState: true, ImportStateVerify: true,
		ImportStateVerifyIgnore: []string{"restart", "timeouts"},
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: providerConfig(cluster.Kubeconfig(), issuer)},
			{
				PreConfig: func() {
					manageIstio(t, cluster)
					policyDeployment(t, cluster, namespace, nil)
				},
				Config: providerConfig(cluster.Kubeconfig(), meshedBy(managedRevision)),
				Check: resource.ComposeAggregateTestCheckFunc(
					resource.TestCheckResourceAttr("aksmesh_injection.this", "meshed_pods", "1"),
					resource.TestMatchResourceAttr("aksmesh_network_policy.this", "manifest", regexp.MustCompile(`15012`)),
					resource.TestCheckResourceAttr("data.aksmesh_proxies.this", "summary.stale", "0"),
					resource.TestCheckResourceAttr("data.aksmesh_check.this", "passed", "true"),
				),
			},
			imported,
			{
				Config: providerConfig(cluster.Kubeconfig(), meshedBy(managedTag)),
				Check: resource.ComposeAggregateTestCheckFunc(
					resource.TestCheckResourceAttr("aksmesh_injection.this", "mesh.istio.revision", managedTag),
					resource.TestCheckResourceAttr("aksmesh_injection.this", "meshed_pods", "1"),
					resource.TestCheckResourceAttr("aksmesh_injection.this", "drift.#", "0"),
				),
			},
			imported,
			{
				Config: providerConfig(cluster.Kubeconfig(), meshedBy(managedTag), fmt.Sprintf(`
				resource "aksmesh_istio" "this" {
				  version    = %q
				  repository = %q
				}`, istioNew, cluster.Charts().Repository)),
				ExpectError: regexp.MustCompile(`(?s)Istio\s+add-on\s+of\s+AKS\s+is\s+enabled`),
			},
			{
				Config:      providerConfig(cluster.Kubeconfig(), meshedBy(managedTag), fmt.Sprintf("resource \"aksmesh_injection\" \"other\" {\n  namespace = %q\n  mesh = { istio = {} }\n}", cluster.Namespace(t))),
				ExpectError: regexp.MustCompile(`(?s)name\s+a\s+revision;\s+there\s+are\s+` + managedRevision),
			},
		},
	})
}

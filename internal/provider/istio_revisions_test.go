package provider

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccIstio_revisions has two control planes in one namespace: the newer one
// decides on what they share, and the older one goes only once nobody uses it.
func TestAccIstio_revisions(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	client := cluster.Client()
	user := cluster.Namespace(t)
	mark := func(labels string) {
		if _, err := client.CoreV1().Namespaces().Patch(t.Context(), user, types.MergePatchType, []byte(`{"metadata": {"labels": `+labels+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	older := istioConfig(cluster, istioOld, `
	  cni      = true
	  profile  = "minimal"
	  timeouts = { delete = "6s" }`)
	newer := func(body string) string {
		return fmt.Sprintf(`
		resource "aksmesh_istio" "next" {
		  version    = %q
		  revision   = "1-31"
		  repository = %q
		  profile    = "minimal"
		  %s
		}`, istioNew, cluster.Charts().Repository, body)
	}
	const next = "aksmesh_istio.next"
	validator := func(service string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			found, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "istiod-default-validator", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := found.Webhooks[0].ClientConfig.Service.Name; got != service {
				return fmt.Errorf("names without a revision are validated by %s, want %s", got, service)
			}
			return nil
		}
	}
	provider := providerConfig(cluster.Kubeconfig(), "")

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: older, PreConfig: func() { mark(`{"istio-injection": "enabled"}`) }},
			{
				Config: older + newer(`depends_on = [aksmesh_istio.this]`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(istioAddress, plancheck.ResourceActionNoop),
					planLines{next, "changes", []string{`^\+ Deployment istio-system/istiod-1-31$`, `^~ CustomResourceDefinition virtualservices`}},
				}},
				Check: resource.ComposeTestCheckFunc(validator("istiod"), resource.TestCheckResourceAttr(next, "id", "istio-system/1-31")),
			},
			{
				ResourceName: next, ImportState: true, ImportStateId: "istio-system/1-31", ImportStateVerify: true,
				ImportStateVerifyIgnore: []string{"repository", "changes"},
			},
			{
				Config:      provider + newer(""),
				ExpectError: regexp.MustCompile(`(?s)revision\s+default.*used\s+no\s+more.*Namespace\s+` + user),
			},
			{
				PreConfig: func() { mark(`{"istio-injection": null, "istio.io/rev": "1-31"}`) },
				Config:    provider + newer(""),
				Check: resource.ComposeTestCheckFunc(validator("istiod-1-31"), func(*terraform.State) error {
					daemons, err := client.AppsV1().DaemonSets(istioSystem).List(t.Context(), metav1.ListOptions{})
					if err == nil && len(daemons.Items) > 0 {
						err = fmt.Errorf("%s is left, which no revision needs", daemons.Items[0].Name)
					}
					return err
				}),
			},
			{
				PreConfig: func() { mark(`{"istio.io/rev": null}`) },
				Config:    provider,
			},
		},
	})
}

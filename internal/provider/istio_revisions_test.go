package provider

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// makeTag makes a tag of the default revision that is nobody's.
func makeTag(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"app": "sidecar-injector", "istio.io/rev": "default", "istio.io/tag": "default"},
	}}, metav1.CreateOptions{FieldManager: "istio-operator"})
	if err != nil {
		t.Fatal(err)
	}
}

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
	older := func(patience string) string {
		return istioConfig(cluster, istioOld, fmt.Sprintf(`
		  cni      = true
		  profile  = "minimal"
		  timeouts = { delete = %q }`, patience))
	}
	const short, long = "10s", "4m"
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
	ambient := func(name, revision string) string {
		named := ""
		if revision != "" {
			named = fmt.Sprintf("revision = %q", revision)
		}
		return fmt.Sprintf(`
		resource "aksmesh_istio" %q {
		  version     = %q
		  repository  = %q
		  profile     = "ambient"
		  delete_crds = true
		  timeouts    = { delete = %q }
		  %s
		}`, name, istioNew, cluster.Charts().Repository, long, named)
	}
	// nodesOf checks which revision's istiod the ztunnels ask for certificates.
	nodesOf := func(revision string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			nodes, err := client.AppsV1().DaemonSets(istioSystem).Get(t.Context(), "ztunnel", metav1.GetOptions{})
			if err != nil {
				return err
			}
			want := strings.TrimSuffix("istiod-"+revision, "-") + ".istio-system.svc:15012"
			for _, variable := range nodes.Spec.Template.Spec.Containers[0].Env {
				if variable.Name == "CA_ADDRESS" && variable.Value == want {
					return nil
				}
			}
			return fmt.Errorf("ztunnel does not ask %s: %v", want, nodes.Spec.Template.Spec.Containers[0].Env)
		}
	}

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: older(short), PreConfig: func() { mark(`{"istio-injection": "enabled"}`) }},
			{
				Config: older(short) + newer(`depends_on = [aksmesh_istio.this]`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(istioAddress, plancheck.ResourceActionNoop),
					// What both share is no part of it.
					planLines{next, "changes", []string{`^\+ Deployment istio-system/istiod-1-31$`}},
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
				Config:    older(long) + newer(""),
			},
			{
				Config: provider + newer(""),
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
			// Both at once, on a cluster without any. Of two alike, the default one decides
			// on the ztunnels, which go on by the one that stays.
			{
				Config: provider + ambient("this", "") + ambient("next", "1-31"),
				Check:  nodesOf(""),
			},
			{
				Config: provider + ambient("next", "1-31"),
				Check:  resource.ComposeTestCheckFunc(nodesOf("1-31"), validator("istiod-1-31")),
			},
			{Config: provider + ambient("this", "") + ambient("next", "1-31")},
			// And away again at once.
			{
				Config: provider,
				Check:  func(*terraform.State) error { return istioGone(t, cluster) },
			},
		},
	})
}

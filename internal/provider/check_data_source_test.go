package provider

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const checkAddress = "data.aksmesh_check.this"

// checkConfig is the data source, with an output of what went wrong.
func checkConfig(cluster *testcluster.Cluster, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	data "aksmesh_check" "this" {
	  %s
	}
	check "health" {
	  assert {
	    condition     = data.aksmesh_check.this.passed
	    error_message = "not healthy"
	  }
	}`, body))
}

// healthy wants no check to have failed, and shows those that have.
func healthy(state *terraform.State) error {
	attributes := state.RootModule().Resources[checkAddress].Primary.Attributes
	for i := 0; ; i++ {
		of := func(name string) string { return attributes[fmt.Sprintf("results.%d.%s", i, name)] }
		if of("id") == "" {
			break
		}
		if of("result") == "error" {
			return fmt.Errorf("%s (%s): %s", of("id"), of("description"), of("message"))
		}
	}
	if attributes["passed"] != "true" {
		return fmt.Errorf("no check has failed, and passed is %q", attributes["passed"])
	}
	return nil
}

// ended wants a check to have ended in some way, with a message.
func ended(id, result, message string) resource.TestCheckFunc {
	return func(state *terraform.State) error {
		attributes := state.RootModule().Resources[checkAddress].Primary.Attributes
		var found []string
		for i := 0; ; i++ {
			of := func(name string) string { return attributes[fmt.Sprintf("results.%d.%s", i, name)] }
			if of("id") == "" {
				return fmt.Errorf("no check %s has ended in %s with %q, but %v", id, result, message, found)
			}
			if of("id") != id {
				continue
			}
			if of("result") == result && regexp.MustCompile(message).MatchString(of("message")) {
				return nil
			}
			found = append(found, of("result")+": "+of("message"))
		}
	}
}

func TestAccCheck_linkerd(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	clock := &testClock{}
	const body = `mesh = "linkerd"
	  scopes = ["control_plane", "data_plane"]`
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		Steps: []resource.TestStep{
			{
				// Pods of other tests come and go, so that only the control plane is sure to be well.
				Config: checkConfig(cluster, "mesh = \"linkerd\"\n scopes = [\"control_plane\"]\n early = \"24h\""),
				Check: resource.ComposeAggregateTestCheckFunc(
					healthy,
					ended("l5d-identity-issuer-cert-issued-by-trust-anchor", "success", "^$"),
					ended("l5d-policy-validator-webhook-cert-valid", "success", "^$"),
					ended("l5d-version-latest", "skipped", "versioncheck.linkerd.io"),
				),
			},
			{
				// The cluster is fit for another control plane, which would be in the way of Istio's.
				Config: checkConfig(cluster, "mesh = \"linkerd\"\n scopes = [\"pre\"]\n namespace = \"other\""),
				Check:  resource.ComposeAggregateTestCheckFunc(healthy, ended("pre-k8s", "success", "^$"), ended("pre-webhooks-admitted", "success", "^$"), ended("pre-redirection-admitted", "success", "^$")),
			},
			{
				PreConfig: func() {
					service := &corev1.Service{
						ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"config.linkerd.io/opaque-ports": "3306"}},
						Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 3306}}},
					}
					if _, err := cluster.Client().CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: checkConfig(cluster, body),
				Check:  ended("l5d-data-plane-services-labels", "warning", "Service "+namespace+"/web has the label config.linkerd.io/opaque-ports"),
			},
			{
				PreConfig:   func() { clock.forward(40 * 365 * 24 * time.Hour) },
				Config:      checkConfig(cluster, body+"\n fail_on = \"error\""),
				ExpectError: regexp.MustCompile(`(?s)The Mesh Is Not Healthy.*l5d-identity-trustAnchors-are-time-valid.*https://linkerd.io/2/checks/#`),
			},
			{
				Config: checkConfig(cluster, body+"\n lifecycle {\n postcondition {\n condition = self.passed\n error_message = \"not fit\"\n }\n }"),
				// What is fatal leaves nothing to find out.
				ExpectError: regexp.MustCompile(`not fit`),
			},
		},
	})
}

func TestAccCheck_istio(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	const body = `mesh = "istio"
	  scopes = ["control_plane", "data_plane"]`
	lost := "Namespace " + namespace + ` \(istio.io/rev=nowhere\)`
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config: checkConfig(cluster, `mesh = "istio"`+"\n scopes = [\"control_plane\"]"),
				Check: resource.ComposeAggregateTestCheckFunc(
					healthy, ended("istio-ca-valid", "success", "^$"), ended("IST0139", "success", "^$"), ended("ztunnel-ready", "skipped", "there is no ztunnel"),
				),
			},
			{
				// Where it is not installed, it is checked whether it can be.
				Config: checkConfig(cluster, "mesh = \"istio\"\n namespace = \"elsewhere\""),
				Check:  resource.ComposeAggregateTestCheckFunc(healthy, ended("IST0141", "success", "^$")),
			},
			{
				PreConfig: func() {
					patchNamespace(t, cluster, namespace, `"labels":{"istio.io/rev":"nowhere"}`)
				},
				Config: checkConfig(cluster, body),
				Check:  ended("istio-namespaces-revision", "error", lost),
			},
			{
				Config:      checkConfig(cluster, body+"\n fail_on = \"warning\""),
				ExpectError: regexp.MustCompile(`(?s)istio-namespaces-revision`),
			},
		},
	})
}

func TestCheckInputs(t *testing.T) {
	t.Parallel()
	expectInvalidData(t, "aksmesh_check", map[string]invalidInput{
		"mesh = \"consul\"":                               {"mesh", `"linkerd" "istio"`},
		"mesh = \"linkerd\"\n revision = \"canary\"":      {"revision", "Linkerd has no revisions"},
		"mesh = \"istio\"\n scopes = [\"viz\"]":           {"scopes", "viz is an extension of Linkerd"},
		"mesh = \"istio\"\n scopes = [\"everything\"]":    {"scopes", `"pre"`},
		"mesh = \"linkerd\"\n fail_on = \"always\"":       {"fail_on", `"error"`},
		"mesh = \"linkerd\"\n early = \"60 days\"":        {"early", "a Go duration"},
		"mesh = \"linkerd\"\n wait = \"a while\"":         {"wait", "a Go duration"},
		"mesh = \"linkerd\"\n namespace = \"Not-A-Name\"": {"namespace", "DNS label"},
	})
}

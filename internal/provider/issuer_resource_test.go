package provider

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// issuerConfig is an anchor and an issuer in namespaces of their own.
func issuerConfig(cluster *testcluster.Cluster, mesh, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "this" { namespace = "%[2]s-anchor" }
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = %[1]q
	  namespace        = %[2]q
	  %[3]s
	}`, mesh, namespace, body))
}

func TestAccIssuer(t *testing.T) {
	t.Parallel()
	for mesh, layout := range map[string]struct{ secret, certificate, root string }{
		"linkerd": {"linkerd-identity-issuer", "tls.crt", "ca.crt"},
		"istio":   {"cacerts", "ca-cert.pem", "root-cert.pem"},
	} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			cluster := plainCluster.Cluster(t)
			clock := &testClock{}
			namespace := "issuer-" + mesh
			config := func(body string) string { return issuerConfig(cluster, mesh, namespace, body) }
			const address = "aksmesh_issuer.this"
			secrets := cluster.Client().CoreV1().Secrets(namespace)
			renewed := changing(address, "fingerprint_sha256")
			verified := func(*terraform.State) error {
				return verifyIssuer(t, cluster, namespace, layout.secret, layout.certificate, layout.root, clock.Now())
			}
			update := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)}}

			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: providersAt(clock.Now),
				CheckDestroy:             gone(t, cluster, namespace, layout.secret),
				Steps: []resource.TestStep{
					{
						Config: config(""),
						Check:  resource.ComposeTestCheckFunc(verified, renewed, noKeyInState(t, cluster, namespace, layout.secret)),
						ConfigStateChecks: []statecheck.StateCheck{
							statecheck.ExpectKnownValue(address, tfjsonpath.New("id"), knownvalue.StringExact(mesh+"/"+namespace)),
							statecheck.ExpectKnownValue(address, tfjsonpath.New("renewal"), knownvalue.StringExact("")),
						},
					},
					{ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateId: mesh + "/" + namespace},
					{
						// Due by time.
						PreConfig:        func() { clock.forward(8000 * time.Hour) },
						Config:           config(""),
						ConfigPlanChecks: update,
						Check:            resource.ComposeTestCheckFunc(verified, renewed),
					},
					{
						// By a setting that needs a new certificate.
						Config:           config(`validity = "2000h"`),
						ConfigPlanChecks: update,
						Check:            resource.ComposeTestCheckFunc(verified, renewed),
					},
					{
						// By an earlier renewal than what is left.
						PreConfig:        func() { clock.forward(400 * time.Hour) },
						Config:           config("validity = \"2000h\"\n early_renewal = \"1700h\""),
						ConfigPlanChecks: update,
						Check:            resource.ComposeTestCheckFunc(verified, renewed),
					},
					{
						// Somebody puts another certificate in its place.
						PreConfig: func() {
							patch := fmt.Sprintf(`{"data":{%q:%q}}`, layout.certificate, "Z2FyYmFnZQ==")
							if _, err := secrets.Patch(t.Context(), layout.secret, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
								t.Fatal(err)
							}
						},
						Config:           config("validity = \"2000h\"\n early_renewal = \"1700h\""),
						ConfigPlanChecks: update,
						Check:            resource.ComposeTestCheckFunc(verified, renewed),
					},
					{
						// Somebody deletes it.
						PreConfig: func() {
							if err := secrets.Delete(t.Context(), layout.secret, metav1.DeleteOptions{}); err != nil {
								t.Fatal(err)
							}
						},
						Config: config("validity = \"2000h\"\n early_renewal = \"1700h\""),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(address, plancheck.ResourceActionCreate),
						}},
						Check: verified,
					},
				},
			})
		})
	}
}

// verifyIssuer checks the Secret's certificate against its root with nothing
// but crypto/x509.
func verifyIssuer(t *testing.T, cluster *testcluster.Cluster, namespace, name, certificate, root string, now time.Time) error {
	t.Helper()
	secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	block, _ := pem.Decode(secret.Data[certificate])
	if block == nil {
		return fmt.Errorf("%s of %s is not PEM", certificate, name)
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data[root]) {
		return fmt.Errorf("%s of %s is not PEM", root, name)
	}
	if _, err := issuer.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		return err
	}
	if !issuer.IsCA || issuer.MaxPathLen != 0 || !issuer.MaxPathLenZero {
		return fmt.Errorf("the issuer is not a CA of path length 0: %v %d", issuer.IsCA, issuer.MaxPathLen)
	}
	return nil
}

func TestAccIssuer_foreign(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	createSecret(t, cluster, namespace, "cacerts", map[string]string{"ca-cert.pem": "somebody else's"})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config:      issuerConfig(cluster, "istio", namespace, ""),
			ExpectError: regexp.MustCompile(`(?s)Secret ` + namespace + `/cacerts\s+already\s+exists.*istio/` + namespace),
		}},
	})
}

func TestIssuer_badInput(t *testing.T) {
	t.Parallel()
	const anchor = "\n trust_anchor_id = \"aksmesh-system/default\"\n"
	expectInvalid(t, "aksmesh_issuer", map[string]invalidInput{
		`mesh = "consul"` + anchor:                                {"mesh", "value must be one of"},
		"mesh = \"linkerd\"\n trust_anchor_id = \"default\"":      {"trust_anchor_id", "is not the ID of a trust anchor"},
		"mesh = \"linkerd\"\n validity = \"8760\"" + anchor:       {"validity", "not a Go duration"},
		"mesh = \"linkerd\"\n early_renewal = \"8760h\"" + anchor: {"early_renewal", "leaves nothing"},
		"mesh = \"linkerd\"\n namespace = \"Linkerd\"" + anchor:   {"namespace", "DNS label"},
		"mesh = \"linkerd\"\n common_name = \"\"" + anchor:        {"common_name", "between 1 and 64"},
	})
}

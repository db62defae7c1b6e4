package provider

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/echoprovider"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// echoing are the providers of a test with one beside that shows what is
// ephemeral, as `echo.this`.
func echoing() map[string]func() (tfprotov6.ProviderServer, error) {
	all := maps.Clone(testProviders)
	all["echo"] = echoprovider.NewProviderServer()
	return all
}

// echoed is an ephemeral issuer and what it is shown by.
func echoed(body string) string {
	return fmt.Sprintf(`
	ephemeral "aksmesh_issuer" "this" {
	  %s
	}
	provider "echo" { data = ephemeral.aksmesh_issuer.this }
	resource "echo" "this" {}`, body)
}

// echoedIssuer checks that what is shown is an issuer with its key below an anchor.
func echoedIssuer(anchor func() (string, error), check func(issuer *pki.KeyPair) error) resource.TestCheckFunc {
	return func(state *terraform.State) error {
		got := state.RootModule().Resources["echo.this"].Primary.Attributes
		issuer, err := pki.ParseKeyPair([]byte(got["data.chain_pem"]), []byte(got["data.private_key_pem"]))
		if err != nil {
			return err
		}
		want, err := anchor()
		if err != nil {
			return err
		}
		bundle, err := pki.ParseBundle([]byte(got["data.bundle_pem"]))
		if err != nil {
			return err
		}
		if string(bundle.PEM()) != want {
			return fmt.Errorf("bundle_pem is not the anchor but %s", bundle.PEM())
		}
		if _, err := bundle.VerifyChain(issuer.Chain(), time.Now()); err != nil {
			return err
		}
		if got["data.certificate_pem"] != string(issuer.CertificatePEM()) || got["data.not_after"] != issuer.Certificate().NotAfter.Format(time.RFC3339) {
			return errors.New("certificate_pem or not_after is not that of the issuer")
		}
		return check(issuer)
	}
}

func TestAccIssuerEphemeral(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	anchor := testAnchor(t, pki.AuthorityOptions{})
	key := pkitest.Key(t, anchor)
	file := filepath.Join(t.TempDir(), "anchor.pem")
	if err := os.WriteFile(file, []byte(keyPEM(t, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	given := func() (string, error) { return string(anchor.CertificatePEM()), nil }
	lasts := func(d time.Duration) func(*pki.KeyPair) error {
		return func(issuer *pki.KeyPair) error {
			if left := time.Until(issuer.Certificate().NotAfter); left > d || left < d-time.Hour {
				return fmt.Errorf("the issuer lasts %s, want %s", left, d)
			}
			return nil
		}
	}
	stored := func() (string, error) {
		secret, err := cluster.Client().CoreV1().Secrets("ephemeral-anchor").Get(t.Context(), "aksmesh-trust-anchor-default", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(secret.Data["tls.crt"]), nil
	}
	storedConfig := "resource \"aksmesh_trust_anchor\" \"this\" { namespace = \"ephemeral-anchor\" }\n" +
		echoed("trust_anchor_id = aksmesh_trust_anchor.this.id\n trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem")
	for name, test := range map[string]struct {
		config string
		check  resource.TestCheckFunc
	}{
		"private key": {
			// No cluster is needed.
			"provider \"aksmesh\" {\n kubernetes = { host = \"https://127.0.0.1:1\" }\n}\n" + echoed(fmt.Sprintf("%s\n signer = { private_key = %q }", bundleConfig(anchor), keyPEM(t, key))),
			echoedIssuer(given, lasts(8760*time.Hour)),
		},
		"KMS": {
			providerConfig(cluster.Kubeconfig(), echoed(fmt.Sprintf(`%s
			signer      = { kms_key_uri = "softkms:path=%s" }
			validity    = "24h"
			algorithm   = "RSA-2048"
			common_name = "issuer.example"
			subject     = { organization = "Example" }`, bundleConfig(anchor), file))),
			echoedIssuer(given, func(issuer *pki.KeyPair) error {
				algorithm, err := pki.AlgorithmOf(issuer.Certificate().PublicKey)
				if err != nil || algorithm != pki.AlgorithmRSA2048 || issuer.Certificate().Subject.String() != "CN=issuer.example,O=Example" {
					return fmt.Errorf("issuer %s with a key of %s: %w", issuer.Certificate().Subject, algorithm, err)
				}
				return lasts(24 * time.Hour)(issuer)
			}),
		},
		"stored anchor": {
			providerConfig(cluster.Kubeconfig(), storedConfig),
			echoedIssuer(stored, lasts(8760*time.Hour)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: echoing(),
				Steps:                    []resource.TestStep{{Config: test.config, Check: test.check}},
			})
		})
	}
}

// TestAccIssuerEphemeral_otherCluster gives the control plane of another cluster
// an issuer below an anchor whose key stays where it is.
func TestAccIssuerEphemeral_otherCluster(t *testing.T) {
	t.Parallel()
	home, away := plainCluster.Cluster(t), testcluster.New(t, testcluster.Options{})
	clock := &testClock{}
	const namespace = "linkerd"
	config := func(body, version string) string {
		return fmt.Sprintf(`
		provider "aksmesh" { kubernetes = { config_path = %q } }
		provider "away" { kubernetes = { config_path = %q } }
		resource "aksmesh_trust_anchor" "this" { namespace = "shared-anchor" }
		ephemeral "aksmesh_issuer" "away" {
		  trust_anchor_id  = aksmesh_trust_anchor.this.id
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		}
		resource "aksmesh_issuer" "this" {
		  provider         = away
		  mesh             = "linkerd"
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		  certificate = {
		    pem_wo                 = ephemeral.aksmesh_issuer.away.chain_pem
		    private_key_wo         = ephemeral.aksmesh_issuer.away.private_key_pem
		    private_key_wo_version = %q
		  }
		  %s
		}`, home.Kubeconfig(), away.Kubeconfig(), version, body)
	}
	// In a test's process, a provider has one configuration: the other cluster's is
	// one of another name.
	providers := providersAt(clock.Now)
	providers["away"] = providersAt(clock.Now)["aksmesh"]
	issued := changing(issuerAddress, "fingerprint_sha256")
	verified := func(*terraform.State) error {
		return verifyIssuer(t, away, namespace, "linkerd-identity-issuer", "tls.crt", "ca.crt", clock.Now())
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providers,
		Steps: []resource.TestStep{
			{Config: config("", "1"), Check: resource.ComposeTestCheckFunc(issued, verified, noKeyInState(t, away, namespace, "linkerd-identity-issuer"))},
			{
				// Every run makes another, and what is in service stays until it is due.
				Config:           config("", "1"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}},
			},
			{Config: config("", "2"), ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate), Check: resource.ComposeTestCheckFunc(issued, verified)},
			{Config: config(`renewal_trigger = "x"`, "2"), ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate), Check: resource.ComposeTestCheckFunc(issued, verified)},
			{
				// Due by time, which the provider sees to as for those that it makes.
				PreConfig:        func() { clock.forward(8000 * time.Hour) },
				Config:           config(`renewal_trigger = "x"`, "2"),
				ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate),
				Check:            resource.ComposeTestCheckFunc(issued, verified, resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "false")),
			},
		},
	})
}

func TestIssuerEphemeral_badInput(t *testing.T) {
	t.Parallel()
	anchor := testAnchor(t, pki.AuthorityOptions{})
	signer := fmt.Sprintf("\n signer = { private_key = %q }\n", keyPEM(t, pkitest.Key(t, anchor)))
	for body, want := range map[string]invalidInput{
		"":                                   {"trust_anchor_id", "exactly one of trust_anchor_id, signer has to be given, not 0"},
		signer + `trust_anchor_id = "a/b"`:   {"trust_anchor_id", "exactly one of trust_anchor_id, signer has to be given, not 2"},
		`trust_anchor_id = "a"`:              {"trust_anchor_id", "is not the ID of a trust anchor"},
		signer:                               {"trust_bundle_pem", "give the bundle"},
		bundleConfig(anchor) + "signer = {}": {"kms_key_uri", "exactly one of kms_key_uri, private_key has"},
		bundleConfig(anchor) + signer + `validity = "x"`:                       {"validity", "not a Go duration"},
		bundleConfig(anchor) + signer + `algorithm = "x"`:                      {"algorithm", "value must be one of"},
		bundleConfig(anchor) + signer + `subject = { country = "x" }`:          {"subject", "two capital letters"},
		bundleConfig(testAnchor(t, pki.AuthorityOptions{})) + signer:           {"signer.private_key", "no anchor of the trust bundle has the public key"},
		bundleConfig(anchor) + `signer = { kms_key_uri = "x" }`:                {"kms_key_uri", "malformed"},
		bundleConfig(anchor) + `signer = { kms_key_uri = "softkms:path=/x/" }`: {"kms_key_uri", "take signing_key_uri of the aksmesh_trust_anchor"},
		bundleConfig(anchor) + `signer = { private_key = "x" }`:                {"signer.private_key", "no block found"},
		`trust_anchor_id = "aksmesh-system/nobody"`:                            {"trust_anchor_id", "https://127.0.0.1:1"},
	} {
		t.Run(want.attribute+" "+want.reason, func(t *testing.T) {
			t.Parallel()
			resource.UnitTest(t, resource.TestCase{
				ProtoV6ProviderFactories: echoing(),
				Steps: []resource.TestStep{{
					Config:      "provider \"aksmesh\" {\n kubernetes = { host = \"https://127.0.0.1:1\" }\n}\n" + echoed(body),
					ExpectError: regexp.MustCompile(`(?is)` + want.attribute + `.*` + strings.ReplaceAll(regexp.QuoteMeta(want.reason), " ", `\s+`)),
				}},
			})
		})
	}
}

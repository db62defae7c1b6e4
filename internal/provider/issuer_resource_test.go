package provider

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"testing"
	"time"

	frameworktypes "github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
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
	now := time.Now()
	anchor := testAnchor(t, pki.AuthorityOptions{})
	other := testAnchor(t, pki.AuthorityOptions{})
	issuer, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	curve := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	below := func(edit func(*x509.Certificate)) string {
		key := curve(elliptic.P256())
		template := &x509.Certificate{
			SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "theirs"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLenZero: true,
		}
		edit(template)
		cert := pkitest.Sign(t, template, anchor.Certificate(), key.Public(), pkitest.Key(t, anchor))
		return givenConfig(string(pki.NewBundle(cert).PEM()), keyPEM(t, key), "")
	}
	flat := pkitest.SelfSigned(t, now, curve(elliptic.P256()), func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	flatIssuer := pkitest.SelfSigned(t, now, curve(elliptic.P256()), func(c *x509.Certificate) { c.Subject.CommonName = "theirs" })
	flatChild := pkitest.Sign(t, flatIssuer.Certificate(), flat.Certificate(), flatIssuer.Certificate().PublicKey, pkitest.Key(t, flat))
	encrypted, err := os.ReadFile("../pki/testdata/step/issuer-encrypted.key")
	if err != nil {
		t.Fatal(err)
	}

	const byAnchor = "\n trust_anchor_id = \"aksmesh-system/default\"\n"
	linkerd, istio := "\n mesh = \"linkerd\"\n", "\n mesh = \"istio\"\n"
	bundle := bundleConfig(anchor)
	mesh := linkerd + bundle
	whole := mesh + byAnchor
	expectInvalid(t, "aksmesh_issuer", map[string]invalidInput{
		`mesh = "consul"` + bundle + byAnchor:              {"mesh", "value must be one of"},
		mesh + `trust_anchor_id = "default"`:               {"trust_anchor_id", "is not the ID of a trust anchor"},
		mesh + `trust_anchor_id = "state/default"`:         {"trust_anchor_id", "give the key by signer, from the anchor's private_key_pem"},
		mesh + `trust_anchor_id = "kms/default"`:           {"trust_anchor_id", "from the anchor's signing_key_uri"},
		whole + `validity = "8760"`:                        {"validity", "not a Go duration"},
		whole + `early_renewal = "8760h"`:                  {"early_renewal", "leaves nothing"},
		whole + `namespace = "Linkerd"`:                    {"namespace", "DNS label"},
		whole + `common_name = ""`:                         {"common_name", "between 1 and 64"},
		whole + `subject = { country = "Germany" }`:        {"subject", "two capital letters"},
		whole + `algorithm = "ED25519"`:                    {"algorithm", "value must be one of"},
		whole + `algorithm = "RSA-2048"`:                   {"algorithm", "refused by Linkerd"},
		whole + `rotation = "soon"`:                        {"rotation", "value must be one of"},
		whole + `restart = { order = ["Deployment/web"] }`: {"order", "a workload such as Deployment/shop/web"},
		linkerd + byAnchor + `trust_bundle_pem = "x"`:      {"trust_bundle_pem", "no block found"},
		linkerd + byAnchor + bundleConfig(testAnchor(t, pki.AuthorityOptions{Algorithm: pki.AlgorithmECDSAP384})): {
			"trust_bundle_pem", "refused by Linkerd",
		},
		istio + byAnchor + bundleConfig(anchor, pkitest.SelfSigned(t, now, curve(elliptic.P521()), func(*x509.Certificate) {})): {
			"trust_bundle_pem", "refused by Istio",
		},

		mesh: {"trust_anchor_id", "exactly one of trust_anchor_id, signer, certificate has to be given, not 0"},
		whole + `signer = { kms_key_uri = "softkms:path=x" }`: {"trust_anchor_id", "exactly one of trust_anchor_id, signer, certificate has to be given, not 2"},
		mesh + `signer = {}`: {"signer.kms_key_uri", "exactly one of kms_key_uri, private_key_wo has to be given, not 0"},
		mesh + `signer = { kms_key_uri = "azurekms:vault=x" }`:               {"kms_key_uri", "a key's name is"},
		mesh + `signer = { kms_key_uri = "azurekms:name=x;vault=vault" }`:    {"kms_key_uri", "take signing_key_uri of the aksmesh_trust_anchor"},
		mesh + `signer = { kms_key_uri = "x", private_key_wo_version = "1"}`: {"signer.private_key_wo", "must be specified when"},
		mesh + signerConfig(keyPEM(t, pkitest.Key(t, other))):                {"signer.private_key_wo", "no anchor of the trust bundle has the public key"},
		mesh + signerConfig(string(encrypted)):                               {"signer.private_key_wo", "nothing in a cluster could ask for its password"},

		mesh + `certificate = { request_id = "linkerd/linkerd" }`:                                                        {"certificate.pem", "exactly one of pem, pem_wo has"},
		mesh + `certificate = { pem = "x" }`:                                                                             {"certificate.private_key_wo", "exactly one of private_key_wo, request_id has"},
		mesh + `certificate = { pem = "x", request_id = "linkerd/linkerd" }`:                                             {"certificate.pem", "no block found"},
		mesh + `certificate = { pem = "x", request_id = "istio/linkerd" }`:                                               {"request_id", "not the ID of the aksmesh_issuer_request of this control plane"},
		mesh + givenConfig(string(issuer.CertificatePEM()), keyPEM(t, curve(elliptic.P256())), ""):                       {"certificate.private_key_wo", "does not match the certificate"},
		mesh + givenConfig(string(issuer.CertificatePEM()), string(encrypted), ""):                                       {"certificate.private_key_wo", "nothing in a cluster could ask for its password"},
		linkerd + bundleConfig(other) + ownConfig(t, issuer):                                                             {"certificate.pem", "not signed by any anchor of the bundle"},
		mesh + ownConfig(t, issuer) + `validity = "100h"`:                                                                {"validity", "leave it out"},
		mesh + below(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }):                                   {"certificate.pem", "is expired since"},
		mesh + below(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(0, 0, 1), now.AddDate(0, 0, 2) }): {"certificate.pem", "not yet valid"},
		mesh + below(func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }):                              {"certificate.pem", "not a certificate authority"},
		linkerd + bundleConfig(flat) + givenConfig(string(pki.NewBundle(flatChild).PEM()), keyPEM(t, pkitest.Key(t, flatIssuer)), ""): {
			"certificate.pem", "path length too small",
		},
	})
}

// testAnchor is a trust anchor that is valid from now on.
func testAnchor(t testing.TB, options pki.AuthorityOptions) *pki.KeyPair {
	t.Helper()
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	anchor, err := pki.NewAnchor(options)
	if err != nil {
		t.Fatal(err)
	}
	return anchor
}

// keyPEM is a private key in PEM.
func keyPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// bundleConfig is the argument trust_bundle_pem with some anchors.
func bundleConfig(anchors ...*pki.KeyPair) string {
	var bundle pki.Bundle
	for _, anchor := range anchors {
		bundle = bundle.With(anchor.Certificate())
	}
	return fmt.Sprintf("\n trust_bundle_pem = %q\n", bundle.PEM())
}

// signerConfig is the argument signer with a private key.
func signerConfig(key string) string {
	return fmt.Sprintf("\n signer = { private_key_wo = %q }\n", key)
}

// givenConfig is the argument certificate with a certificate and its key.
func givenConfig(certificate, key, version string) string {
	return fmt.Sprintf("\n certificate = { pem = %q, private_key_wo = %q, private_key_wo_version = %q }\n", certificate, key, cmp.Or(version, "1"))
}

// ownConfig is givenConfig of an issuer.
func ownConfig(t testing.TB, issuer *pki.KeyPair) string {
	t.Helper()
	return givenConfig(string(issuer.ChainPEM()), keyPEM(t, pkitest.Key(t, issuer)), "")
}

// TestIssuerMadeOtherwise compares an issuer that an apply left behind with what is
// wanted now.
func TestIssuerMadeOtherwise(t *testing.T) {
	t.Parallel()
	options := pki.AuthorityOptions{Now: time.Now(), Algorithm: pki.AlgorithmECDSAP256, Subject: pki.Subject{CommonName: "x"}, Validity: 90 * time.Minute}
	issuer, err := pki.NewIssuer(testAnchor(t, pki.AuthorityOptions{}), options)
	if err != nil {
		t.Fatal(err)
	}
	made := issuerModel{Certificate: frameworktypes.ObjectNull(nil)}
	given := issuerModel{Certificate: frameworktypes.ObjectUnknown(nil)}
	for name, test := range map[string]struct {
		model  issuerModel
		issuer *pki.KeyPair
		edit   func(*pki.AuthorityOptions)
		want   bool
	}{
		"same":      {made, issuer, func(*pki.AuthorityOptions) {}, false},
		"damaged":   {made, nil, func(*pki.AuthorityOptions) {}, false},
		"algorithm": {made, issuer, func(o *pki.AuthorityOptions) { o.Algorithm = pki.AlgorithmRSA2048 }, true},
		"subject":   {made, issuer, func(o *pki.AuthorityOptions) { o.Subject.Organization = "y" }, true},
		"validity":  {made, issuer, func(o *pki.AuthorityOptions) { o.Validity = time.Hour }, true},
		"given":     {given, issuer, func(o *pki.AuthorityOptions) { o.Algorithm = pki.AlgorithmRSA2048 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wanted := options
			test.edit(&wanted)
			if got := test.model.madeOtherwise(test.issuer, wanted); got != test.want {
				t.Errorf("made otherwise: %v, want %v", got, test.want)
			}
		})
	}
}

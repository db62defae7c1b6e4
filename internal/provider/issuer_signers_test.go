package provider

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const issuerAddress = "aksmesh_issuer.this"

// signedConfig is an issuer for Linkerd in a namespace, with whatever signs it.
func signedConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_issuer\" \"this\" {\n mesh = \"linkerd\"\n namespace = %q\n%s\n}", namespace, body))
}

// issuerBelow checks with nothing but crypto/x509 that the Secret's issuer is
// signed by an anchor, and that the anchor is what is published.
func issuerBelow(t *testing.T, cluster *testcluster.Cluster, namespace string, anchor *pki.KeyPair, now func() time.Time) resource.TestCheckFunc {
	t.Helper()
	return resource.ComposeTestCheckFunc(publishedAlone(t, cluster, namespace, anchor), func(*terraform.State) error {
		return verifyIssuer(t, cluster, namespace, "linkerd-identity-issuer", "tls.crt", "ca.crt", now())
	})
}

// publishedAlone checks that an anchor is all that is published.
func publishedAlone(t *testing.T, cluster *testcluster.Cluster, namespace string, anchor *pki.KeyPair) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx := t.Context()
		secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(ctx, "linkerd-identity-issuer", metav1.GetOptions{})
		if err != nil {
			return err
		}
		roots, err := cluster.Client().CoreV1().ConfigMaps(namespace).Get(ctx, "linkerd-identity-trust-roots", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for what, text := range map[string]string{"ca.crt": string(secret.Data["ca.crt"]), "ca-bundle.crt": roots.Data["ca-bundle.crt"]} {
			if text != string(anchor.CertificatePEM()) {
				return fmt.Errorf("%s is not the anchor alone:\n%s", what, text)
			}
		}
		return nil
	}
}

func TestAccIssuer_signer(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	anchor, next := testAnchor(t, pki.AuthorityOptions{}), testAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "next"}, Algorithm: pki.AlgorithmRSA2048})
	key, nextKey := pkitest.Key(t, anchor), pkitest.Key(t, next)
	file := filepath.Join(t.TempDir(), "next.pem")
	if err := os.WriteFile(file, []byte(keyPEM(t, nextKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	const namespace = "issuer-signer"
	clock := &testClock{}
	changed := changing(issuerAddress, "fingerprint_sha256")
	byKey := bundleConfig(anchor) + signerConfig(keyPEM(t, key))
	byKMS := bundleConfig(next) + fmt.Sprintf("\n signer = { kms_key_uri = \"softkms:path=%s\" }\n", file)
	update := plannedFor(issuerAddress, plancheck.ResourceActionUpdate)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{
			{
				Config: signedConfig(cluster, namespace, byKey),
				Check: resource.ComposeTestCheckFunc(changed, issuerBelow(t, cluster, namespace, anchor, clock.Now),
					noKeyInState(t, cluster, namespace, "linkerd-identity-issuer"), notInState(keyPEM(t, key))),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("anchor_fingerprint_sha256"), knownvalue.StringExact(pki.Fingerprint(anchor.Certificate()))),
					statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
					statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("private_key_pem"), knownvalue.Null()),
				},
			},
			{
				ResourceName: issuerAddress, ImportState: true, ImportStateVerify: true, ImportStateId: "linkerd/" + namespace,
				ImportStateVerifyIgnore: []string{"signer"},
			},
			{
				PreConfig:        func() { clock.forward(8000 * time.Hour) },
				Config:           signedConfig(cluster, namespace, byKey),
				ConfigPlanChecks: update,
				Check:            resource.ComposeTestCheckFunc(changed, issuerBelow(t, cluster, namespace, anchor, clock.Now)),
			},
			{
				// Another text of the same bundle changes nothing in the cluster.
				Config: signedConfig(cluster, namespace, fmt.Sprintf("\n trust_bundle_pem = \"# theirs\\n%s\\n\\n\"\n", quoted(anchor.CertificatePEM()))+signerConfig(keyPEM(t, key))),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(issuerAddress, plancheck.ResourceActionUpdate),
					plancheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
					plancheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("fingerprint_sha256"), knownvalue.NotNull()),
				}},
			},
			{
				// To another anchor, whose key is in a key management service.
				Config: signedConfig(cluster, namespace, byKMS),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("rotation_steps")),
					plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("fingerprint_sha256")),
				}},
				Check: resource.ComposeTestCheckFunc(changed, issuerBelow(t, cluster, namespace, next, clock.Now), notInState(keyPEM(t, nextKey))),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
					statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_waits_for"), knownvalue.StringExact("")),
				},
			},
			{
				// And back in one go.
				Config: signedConfig(cluster, namespace, byKey+"\n rotation = \"complete\"\n"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
					plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("fingerprint_sha256")),
				}},
				Check: resource.ComposeTestCheckFunc(changed, issuerBelow(t, cluster, namespace, anchor, clock.Now)),
			},
			{
				// A renewal on request, with other settings of the certificate and its key in the state.
				Config: signedConfig(cluster, namespace, byKey+`
				  rotation             = "complete"
				  renewal_trigger      = "because"
				  common_name          = "issuer.example"
				  subject              = { organization = "Example", country = "DE" }
				  private_key_in_state = true`),
				ConfigPlanChecks: update,
				Check: resource.ComposeTestCheckFunc(changed, issuerBelow(t, cluster, namespace, anchor, clock.Now),
					resource.TestCheckResourceAttrWith(issuerAddress, "private_key_pem", func(value string) error {
						secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), "linkerd-identity-issuer", metav1.GetOptions{})
						if err == nil && value != string(secret.Data["tls.key"]) {
							err = errors.New("the private key in the state is not that of the Secret")
						}
						return err
					}),
					resource.TestCheckResourceAttrWith(issuerAddress, "certificate_pem", func(value string) error {
						cert, err := pki.ParseCertificate([]byte(value))
						if err == nil && cert.Subject.String() != "CN=issuer.example,O=Example,C=DE" {
							err = fmt.Errorf("subject %s", cert.Subject)
						}
						return err
					})),
			},
			{
				Config: signedConfig(cluster, namespace, byKey+`
				  rotation        = "complete"
				  renewal_trigger = "because"
				  common_name     = "issuer.example"
				  subject         = { organization = "Example", country = "DE" }`),
				Check: noKeyInState(t, cluster, namespace, "linkerd-identity-issuer"),
			},
			{
				// A key that is nowhere is an error before anything is written.
				Config:      signedConfig(cluster, namespace, bundleConfig(anchor)+fmt.Sprintf("\n signer = { kms_key_uri = \"softkms:path=%s.gone\" }\n renewal_trigger = \"again\"\n", file)),
				ExpectError: regexp.MustCompile(`(?s)signer.kms_key_uri.*there\s+is\s+no\s+such\s+key`),
			},
			{
				// So is one that is of no anchor of the bundle.
				Config:      signedConfig(cluster, namespace, bundleConfig(anchor)+fmt.Sprintf("\n signer = { kms_key_uri = \"softkms:path=%s\" }\n renewal_trigger = \"again\"\n", file)),
				ExpectError: regexp.MustCompile(`(?s)signer.kms_key_uri.*no\s+anchor\s+of\s+the\s+trust\s+bundle`),
			},
		},
	})
}

// plannedFor wants an action in the plan.
func plannedFor(address string, action plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, action)}}
}

// quoted is a text as it is between the quotes of a configuration.
func quoted(text []byte) string {
	written := fmt.Sprintf("%q", text)
	return written[1 : len(written)-1]
}

// notInState checks that a private key is nowhere in the state.
func notInState(key string) resource.TestCheckFunc {
	return func(state *terraform.State) error {
		line := regexp.MustCompile(`(?m)^[A-Za-z0-9+/=]{40,}$`).FindString(key)
		if line == "" || regexp.MustCompile(regexp.QuoteMeta(line)).MatchString(state.String()) {
			return errors.New("the signing key is in the state")
		}
		return nil
	}
}

// ownAuthority is a user's own: a root, an intermediate below it, and issuers of
// the intermediate.
type ownAuthority struct {
	root         *pki.KeyPair
	intermediate *x509.Certificate
	key          crypto.Signer
}

func newOwnAuthority(t testing.TB) ownAuthority {
	t.Helper()
	now := time.Now()
	long := func(c *x509.Certificate) { c.NotAfter = now.Add(30 * 8760 * time.Hour) }
	root := pkitest.SelfSigned(t, now, newKey(t), func(c *x509.Certificate) { long(c); c.Subject.CommonName = "own root" })
	key := newKey(t)
	template := *root.Certificate()
	template.Subject.CommonName, template.RawSubject = "own intermediate", nil
	return ownAuthority{root: root, intermediate: pkitest.Sign(t, &template, root.Certificate(), key.Public(), pkitest.Key(t, root)), key: key}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	return pkitest.Key(t, testAnchor(t, pki.AuthorityOptions{}))
}

// sign makes an issuer for a public key, and returns it and the intermediate in PEM.
func (a ownAuthority) sign(t testing.TB, public crypto.PublicKey, until time.Time) string {
	t.Helper()
	template := *a.intermediate
	template.Subject.CommonName, template.RawSubject = "own issuer", nil
	template.NotAfter, template.MaxPathLen, template.MaxPathLenZero = until, 0, true
	cert := pkitest.Sign(t, &template, a.intermediate, public, a.key)
	return string(pki.NewBundle(cert, a.intermediate).PEM())
}

func TestAccIssuer_certificate(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "issuer-certificate"
	clock := &testClock{}
	authority := newOwnAuthority(t)
	bundle := bundleConfig(authority.root)
	key, other := newKey(t), newKey(t)
	year := time.Now().Add(8760 * time.Hour)
	first := authority.sign(t, key.Public(), year)
	second := authority.sign(t, other.Public(), year.Add(8760*time.Hour))
	given := bundle + givenConfig(first, keyPEM(t, key), "1")
	changed := changing(issuerAddress, "fingerprint_sha256")
	whole := func(*terraform.State) error {
		secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), "linkerd-identity-issuer", metav1.GetOptions{})
		if err == nil && string(secret.Data["tls.crt"]) != first {
			err = fmt.Errorf("tls.crt is not the certificate with its intermediate:\n%s", secret.Data["tls.crt"])
		}
		return err
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{
			{
				Config: signedConfig(cluster, namespace, given),
				Check: resource.ComposeTestCheckFunc(changed, whole, noKeyInState(t, cluster, namespace, "linkerd-identity-issuer"),
					resource.TestCheckNoResourceAttr(issuerAddress, "validity"),
					resource.TestCheckResourceAttr(issuerAddress, "chain_pem", first),
					resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "false"),
					resource.TestCheckResourceAttr(issuerAddress, "anchor_fingerprint_sha256", pki.Fingerprint(authority.root.Certificate()))),
			},
			{
				// Nobody here can renew it, so every plan says so, and shows a change.
				PreConfig:          func() { clock.forward(8000 * time.Hour) },
				Config:             signedConfig(cluster, namespace, given),
				PlanOnly:           true,
				ExpectNonEmptyPlan: true,
			},
			{
				Config: signedConfig(cluster, namespace, given),
				ConfigPlanChecks: resource.ConfigPlanChecks{
					PreApply: []plancheck.PlanCheck{
						plancheck.ExpectResourceAction(issuerAddress, plancheck.ResourceActionUpdate),
						plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("ready_for_renewal")),
						plancheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("fingerprint_sha256"), knownvalue.NotNull()),
					},
					PostApplyPostRefresh: []plancheck.PlanCheck{plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("ready_for_renewal"))},
				},
				ExpectNonEmptyPlan: true,
				Check:              resource.ComposeTestCheckFunc(whole, resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "true")),
			},
			{
				// Another below the same root takes its place, and nothing is rotated.
				Config: signedConfig(cluster, namespace, bundle+givenConfig(second, keyPEM(t, other), "2")),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
				}},
				Check: resource.ComposeTestCheckFunc(changed, resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "false")),
			},
			{
				// Somebody puts the former one back.
				PreConfig: func() {
					patch := fmt.Sprintf(`{"stringData":{"tls.crt":%q,"tls.key":%q}}`, first, keyPEM(t, key))
					if _, err := cluster.Client().CoreV1().Secrets(namespace).Patch(t.Context(), "linkerd-identity-issuer", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           signedConfig(cluster, namespace, bundle+givenConfig(second, keyPEM(t, other), "2")),
				ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate),
				Check:            resource.TestCheckResourceAttr(issuerAddress, "chain_pem", second),
			},
			{
				// One that has ended since is no reason to refuse every plan; that it
				// cannot be put in service again, the apply says.
				PreConfig:   func() { clock.forward(2 * 8760 * time.Hour) },
				Config:      signedConfig(cluster, namespace, bundle+givenConfig(second, keyPEM(t, other), "2")),
				ExpectError: regexp.MustCompile(`(?s)Unable to Update Issuer.*expired\s+since.*give\s+another\s+issuer`),
			},
			{
				Config: signedConfig(cluster, namespace, bundle+givenConfig(authority.sign(t, key.Public(), year.Add(5*8760*time.Hour)), keyPEM(t, key), "3")),
				Check:  resource.ComposeTestCheckFunc(changed, resource.TestCheckResourceAttr(issuerAddress, "rotation_steps.#", "0")),
			},
		},
	})
}

// TestAccIssuer_anchorEnds raises the alarm for an anchor that nobody looks after.
func TestAccIssuer_anchorEnds(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "issuer-anchor-ends"
	anchor := testAnchor(t, pki.AuthorityOptions{Validity: 20000 * time.Hour})
	key := signerConfig(keyPEM(t, pkitest.Key(t, anchor)))
	spare := testAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "spare"}})
	later := testAnchor(t, pki.AuthorityOptions{Now: time.Now().Add(30 * 8760 * time.Hour)})
	clock := &testClock{}
	config := signedConfig(cluster, namespace, bundleConfig(anchor)+key)
	alarm := plancheck.ExpectUnknownValue(issuerAddress, tfjsonpath.New("ready_for_renewal"))
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{
			{Config: config, Check: resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "false")},
			{
				// The issuer is renewed, for what is left of the anchor: its end is the
				// mesh's, and an apply alone cannot put it off.
				PreConfig:          func() { clock.forward(19000 * time.Hour) },
				Config:             config,
				ConfigPlanChecks:   resource.ConfigPlanChecks{PostApplyPostRefresh: []plancheck.PlanCheck{alarm}},
				ExpectNonEmptyPlan: true,
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "true"),
					resource.TestCheckResourceAttr(issuerAddress, "not_after", anchor.Certificate().NotAfter.Format(time.RFC3339))),
			},
			{
				Config:             config,
				ConfigPlanChecks:   resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{alarm}, PostApplyPostRefresh: []plancheck.PlanCheck{alarm}},
				ExpectNonEmptyPlan: true,
			},
			{
				// To have another one trusted is the way out.
				Config: signedConfig(cluster, namespace, bundleConfig(spare)+signerConfig(keyPEM(t, pkitest.Key(t, spare)))),
				Check: resource.ComposeTestCheckFunc(issuerBelow(t, cluster, namespace, spare, clock.Now),
					resource.TestCheckResourceAttr(issuerAddress, "ready_for_renewal", "false")),
			},
			{
				// All has ended: the plan is the shortest way back.
				PreConfig:        func() { clock.forward(30 * 8760 * time.Hour) },
				Config:           signedConfig(cluster, namespace, bundleConfig(spare)+signerConfig(keyPEM(t, pkitest.Key(t, spare)))),
				ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate),
				ExpectError:      regexp.MustCompile(`(?s)Unable to Update Issuer.*expired`),
			},
			{
				Config: signedConfig(cluster, namespace, bundleConfig(later)+signerConfig(keyPEM(t, pkitest.Key(t, later)))),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(issuerAddress, "rotation_steps.#", "0"),
					func(*terraform.State) error {
						return verifyIssuer(t, cluster, namespace, "linkerd-identity-issuer", "tls.crt", "ca.crt", clock.Now())
					}),
			},
		},
	})
}

// TestAccIssuer_imported takes issuers over that others have made, and moves them
// below an anchor of this provider.
func TestAccIssuer_imported(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	root := testAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "root.linkerd.cluster.local"}})
	issuer, err := pki.NewIssuer(root, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "identity.linkerd.cluster.local"}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	self := pkitest.SelfSigned(t, time.Now(), newKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "identity.linkerd.cluster.local", time.Now().Add(8760*time.Hour)
	})
	for name, made := range map[string]struct{ root, issuer *pki.KeyPair }{
		"step":            {root, issuer},
		"linkerd install": {self, self}, // One certificate is anchor and issuer.
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			createIssuer(t, cluster, namespace, made.root, made.issuer)
			config := issuerConfig(cluster, "linkerd", namespace, "")
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				CheckDestroy: func(*terraform.State) error {
					_, err := cluster.Client().CoreV1().Secrets(namespace).Get(context.WithoutCancel(t.Context()), "linkerd-identity-issuer", metav1.GetOptions{})
					if !apierrors.IsNotFound(err) {
						return fmt.Errorf("the issuer's Secret: want not found, got %w", err)
					}
					return nil
				},
				Steps: []resource.TestStep{
					{
						Config:       config,
						ResourceName: issuerAddress, ImportState: true, ImportStateId: "linkerd/" + namespace, ImportStatePersist: true,
						ImportStateCheck: func(states []*terraform.InstanceState) error {
							got := states[0].Attributes
							if got["trust_bundle_pem"] != string(made.root.CertificatePEM()) || got["common_name"] != "identity.linkerd.cluster.local" ||
								got["fingerprint_sha256"] != pki.Fingerprint(made.issuer.Certificate()) || got["rotation_steps.#"] != "0" {
								return fmt.Errorf("imported as %v", got)
							}
							return nil
						},
					},
					{
						Config:           config,
						ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate),
						Check: resource.ComposeTestCheckFunc(
							resource.TestCheckResourceAttrPair(issuerAddress, "anchor_fingerprint_sha256", "aksmesh_trust_anchor.this", "fingerprint_sha256"),
							resource.TestCheckResourceAttr(issuerAddress, "rotation_steps.#", "0"),
							func(*terraform.State) error {
								return verifyIssuer(t, cluster, namespace, "linkerd-identity-issuer", "tls.crt", "ca.crt", time.Now())
							}),
					},
				},
			})
		})
	}
}

// createIssuer creates what Linkerd reads as somebody else would.
func createIssuer(t *testing.T, cluster *testcluster.Cluster, namespace string, root, issuer *pki.KeyPair) {
	t.Helper()
	core := cluster.Client().CoreV1()
	bundle := string(root.CertificatePEM()) + "\n"
	_, err := core.Secrets(namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-issuer"}, Type: corev1.SecretTypeTLS,
		StringData: map[string]string{"tls.crt": string(issuer.CertificatePEM()) + "\n", "tls.key": keyPEM(t, pkitest.Key(t, issuer)), "ca.crt": bundle},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = core.ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-trust-roots"}, Data: map[string]string{"ca-bundle.crt": bundle},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccIssuer_otherScheme imports a Secret of the other layout that Linkerd has.
func TestAccIssuer_otherScheme(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	anchor := testAnchor(t, pki.AuthorityOptions{})
	createSecret(t, cluster, namespace, "linkerd-identity-issuer", map[string]string{"crt.pem": string(anchor.CertificatePEM()), "key.pem": keyPEM(t, pkitest.Key(t, anchor))})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config:       signedConfig(cluster, namespace, bundleConfig(anchor)+signerConfig(keyPEM(t, pkitest.Key(t, anchor)))),
			ResourceName: issuerAddress, ImportState: true, ImportStateId: "linkerd/" + namespace,
			ExpectError: regexp.MustCompile(`(?s)crt\.pem.*kubernetes\.io/tls`),
		}},
	})
}

// TestAccIssuer_refusedAnchor refuses an anchor that is made in the same apply, and
// that the mesh would not take.
func TestAccIssuer_refusedAnchor(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	config := func(mesh string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_trust_anchor" "this" {
		  namespace = "refused-anchor"
		  algorithm = "ECDSA-P384"
		}
		resource "aksmesh_issuer" "this" {
		  trust_anchor_id  = aksmesh_trust_anchor.this.id
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		  mesh             = %q
		  namespace        = "refused-anchor-mesh"
		}`, mesh))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("linkerd"), PlanOnly: true, ExpectError: regexp.MustCompile(`(?s)trust_anchor_id.*ECDSA-P384\s+is\s+refused\s+by\s+Linkerd`)},
			{Config: config("istio"), PlanOnly: true, ExpectNonEmptyPlan: true},
		},
	})
}

// TestAccIssuer_keylessAnchor has the anchor of an issuer lose its key, by
// configuration and by others, which keeps nobody from planning, repairing and
// destroying.
func TestAccIssuer_keylessAnchor(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "issuer-keyless"
	given := byHand(t, "given", time.Now().Add(5000*time.Hour))
	config := func(anchor string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_trust_anchor" "this" {
		  namespace = "%[1]s-anchor"
		  %[2]s
		}
		resource "aksmesh_issuer" "this" {
		  trust_anchor_id  = aksmesh_trust_anchor.this.id
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		  mesh             = "linkerd"
		  namespace        = %[1]q
		}`, namespace, anchor))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{
			{Config: config("")},
			{Config: config(given.withoutKey()), ExpectError: regexp.MustCompile(`(?s)trust_anchor_id.*cannot\s+sign.*is\s+not\s+kept`)},
			{Config: config(given.withoutKey()), PlanOnly: true, ExpectNonEmptyPlan: true},
			{
				Config: config(given.body()),
				Check: resource.ComposeTestCheckFunc(resource.TestCheckResourceAttr(issuerAddress, "rotation_steps.#", "0"),
					resource.TestCheckResourceAttrPair(issuerAddress, "anchor_fingerprint_sha256", anchorAddress, "fingerprint_sha256")),
			},
			{
				PreConfig: func() {
					tamper(t, cluster, namespace+"-anchor", func(s *corev1.Secret) { s.Data["tls.key"] = nil })
				},
				RefreshState: true, ExpectNonEmptyPlan: true,
				Check: resource.TestCheckResourceAttr(anchorAddress, "can_sign", "false"),
			},
		},
	})
}

// TestAccIssuer_untrusted refuses an anchor that is not in the bundle before
// anything is written.
func TestAccIssuer_untrusted(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "issuer-untrusted"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{{
			Config: providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
			resource "aksmesh_trust_anchor" "this" { namespace = "%[1]s-anchor" }
			resource "aksmesh_issuer" "this" {
			  trust_anchor_id = aksmesh_trust_anchor.this.id
			  mesh            = "linkerd"
			  namespace       = %[1]q
			  %[2]s
			}`, namespace, bundleConfig(testAnchor(t, pki.AuthorityOptions{})))),
			ExpectError: regexp.MustCompile(`(?s)trust_bundle_pem.*lacks\s+the\s+anchor\s+that\s+signs`),
		}},
	})
	if _, err := cluster.Client().CoreV1().ConfigMaps(namespace).Get(context.WithoutCancel(t.Context()), "linkerd-identity-trust-roots", metav1.GetOptions{}); err == nil {
		t.Error("a bundle was published")
	}
}

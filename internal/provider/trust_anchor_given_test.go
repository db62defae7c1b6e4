package provider

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

// givenAnchor is an anchor as users bring it.
type givenAnchor struct{ certificate, key string }

// body is the part of a configuration that gives it, with its key.
func (g givenAnchor) body() string {
	return g.withoutKey() + fmt.Sprintf("private_key_wo = <<EOT\n%s\nEOT\n", g.key)
}

func (g givenAnchor) withoutKey() string {
	return fmt.Sprintf("certificate_pem = <<EOT\n%s\nEOT\n", g.certificate)
}

// byOpenSSL has openssl make a key by these arguments, and an anchor of it.
func byOpenSSL(t *testing.T, name string, key ...string) givenAnchor {
	t.Helper()
	directory := t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "openssl", args...)
		command.Dir = directory
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, output)
		}
	}
	openssl(append(key, "-out", "key.pem")...)
	openssl("req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN="+name, "-days", "3650", "-out", "certificate.pem",
		"-addext", "basicConstraints=critical,CA:TRUE,pathlen:1", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	read := func(file string) string {
		content, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	return givenAnchor{certificate: read("certificate.pem"), key: read("key.pem")}
}

// byHand makes an anchor that is valid until then.
func byHand(t *testing.T, name string, notAfter time.Time) givenAnchor {
	t.Helper()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return extended(t, anchor, name, notAfter)
}

// extended is a certificate of an anchor's key.
func extended(t *testing.T, anchor *pki.KeyPair, name string, notAfter time.Time) givenAnchor {
	t.Helper()
	pair := pkitest.SelfSigned(t, time.Now(), pkitest.Key(t, anchor), func(template *x509.Certificate) {
		template.Subject.CommonName = name
		template.NotBefore, template.NotAfter = notAfter.Add(-10000*time.Hour), notAfter
	})
	key, err := pair.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return givenAnchor{certificate: string(pair.CertificatePEM()), key: string(key)}
}

// TestAccTrustAnchor_given goes from one anchor that was made elsewhere to the
// next, and to one that is made here.
func TestAccTrustAnchor_given(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor-given"
	config := func(body string) string { return anchorConfig(cluster, namespace, body) }
	// openssl puts a block EC PARAMETERS before such a key.
	first := byOpenSSL(t, "first", "ecparam", "-name", "prime256v1", "-genkey")
	if !strings.HasPrefix(first.key, "-----BEGIN EC PARAMETERS-----") {
		t.Fatalf("the key begins with %.40q", first.key)
	}
	second := byOpenSSL(t, "second", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
	noKey := noKeyInState(t, cluster, namespace, anchorSecretName)
	rotates := func(cert string) resource.ConfigPlanChecks {
		return plans(
			plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionUpdate),
			plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("certificate_pem"), knownvalue.StringExact(cert)),
			plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("bundle_pem"), knownvalue.StringExact(strings.TrimSpace(cert))),
			plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("previous_certificate_pem"), knownvalue.NotNull()),
		)
	}
	imported := resource.TestStep{
		ResourceName: anchorAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/default",
		// It is spelt with blank lines in the configuration.
		ImportStateVerifyIgnore: []string{"certificate_pem"},
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, anchorSecretName),
		Steps: []resource.TestStep{
			{
				Config: config(first.body()),
				ConfigPlanChecks: plans(
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("bundle_pem"), knownvalue.StringExact(strings.TrimSpace(first.certificate))),
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("not_after"), knownvalue.NotNull()),
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("can_sign"), knownvalue.Bool(true))),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("algorithm"), knownvalue.StringExact("ECDSA-P256")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("common_name"), knownvalue.StringExact("first")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("validity"), knownvalue.Null()),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_wo"), knownvalue.Null()),
				},
				Check: resource.ComposeTestCheckFunc(g.next, noKey),
			},
			imported,
			// The key that is kept stays.
			{Config: config(first.withoutKey()), ConfigPlanChecks: plans(plancheck.ExpectEmptyPlan()), Check: g.same},
			{
				Config: config(second.body()), ConfigPlanChecks: rotates(second.certificate + "\n"),
				Check: resource.ComposeTestCheckFunc(g.next, g.keepsPrevious, noKey, resource.TestCheckResourceAttr(anchorAddress, "algorithm", "RSA-2048")),
			},
			imported,
			{
				// The key is lost in the cluster, and given again.
				PreConfig: func() {
					tamper(t, cluster, namespace, func(secret *corev1.Secret) { secret.Data["tls.key"] = nil })
				},
				Config:           config(second.body()),
				ConfigPlanChecks: plansUpdate(), Check: g.same,
			},
			{Config: config(second.body() + "private_key_wo_version = \"2\""), ConfigPlanChecks: plansUpdate(), Check: g.same},
			{Config: config(""), ConfigPlanChecks: plansRotation(), Check: resource.ComposeTestCheckFunc(g.next, g.keepsPrevious, noKey)},
			{Config: config(first.body()), ConfigPlanChecks: rotates(first.certificate + "\n"), Check: g.next},
		},
	})
}

// TestAccTrustAnchor_pinned gives the certificate that was made here, which
// changes nothing but who renews it.
func TestAccTrustAnchor_pinned(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := "trust-anchor-pinned"
	w := newWorkspace(t, anchorConfig(cluster, namespace, ""))
	w.apply()
	fingerprint := w.attribute(anchorAddress, "fingerprint_sha256")
	pinned := fmt.Sprintf("certificate_pem = %q", w.attribute(anchorAddress, "certificate_pem"))
	w.write(anchorConfig(cluster, namespace, pinned))
	expectWarnings(t, w.succeed("plan", "-json"))
	w.apply()
	w.expectNoChanges()
	if got := w.attribute(anchorAddress, "fingerprint_sha256"); got != fingerprint {
		t.Errorf("fingerprint %s, want %s", got, fingerprint)
	}
	if canSign := w.attributes()[anchorAddress]["can_sign"]; canSign != true {
		t.Errorf("can_sign is %v", canSign)
	}
	w.write(anchorConfig(cluster, namespace, ""))
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Will Be Rotated: The trust anchor "+namespace+"/default gets a new certificate, because certificate_pem is not given any more.")
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestAccTrustAnchor_importForeign takes over a Secret that was made by hand.
func TestAccTrustAnchor_importForeign(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	given := byOpenSSL(t, "by hand", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	createSecret(t, cluster, namespace, anchorSecretName, map[string]string{"tls.crt": given.certificate, "tls.key": given.key})
	w := newWorkspace(t, anchorConfig(cluster, namespace, given.withoutKey()))
	w.succeed("import", "-no-color", anchorAddress, namespace+"/default")
	expectWarnings(t, w.succeed("plan", "-json"))
	w.apply()
	w.expectNoChanges()
	if got := w.attribute(anchorAddress, "certificate_pem"); strings.TrimSpace(got) != strings.TrimSpace(given.certificate) {
		t.Errorf("the anchor is\n%s\nwant\n%s", got, given.certificate)
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestAccTrustAnchor_withoutKey has an anchor that is trusted only, and then is
// extended with the same key, and gets it.
func TestAccTrustAnchor_withoutKey(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor-keyless"
	config := func(body string) string { return anchorConfig(cluster, namespace, body) }
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	first, longer, longest := extended(t, anchor, "x", time.Now().Add(5000*time.Hour)), extended(t, anchor, "x", time.Now().Add(6000*time.Hour)), extended(t, anchor, "x", time.Now().Add(7000*time.Hour))
	other := byHand(t, "other", time.Now().Add(5000*time.Hour))
	canSign := func(want string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttr(anchorAddress, "can_sign", want)
	}
	hasKey := func(want bool) resource.TestCheckFunc {
		return func(*terraform.State) error {
			secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), anchorSecretName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := len(secret.Data["tls.key"]) > 0; got != want {
				return fmt.Errorf("the Secret has a key: %t, want %t", got, want)
			}
			return nil
		}
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config(first.withoutKey()), Check: resource.ComposeTestCheckFunc(canSign("false"), hasKey(false))},
			{Config: config(longer.withoutKey()), Check: resource.ComposeTestCheckFunc(canSign("false"), hasKey(false))},
			{Config: config(longer.body()), ConfigPlanChecks: plansUpdate(), Check: resource.ComposeTestCheckFunc(canSign("true"), hasKey(true))},
			// The same key, which is kept.
			{Config: config(longest.withoutKey()), Check: resource.ComposeTestCheckFunc(canSign("true"), hasKey(true))},
			{Config: config(other.withoutKey()), Check: resource.ComposeTestCheckFunc(canSign("false"), hasKey(false))},
		},
	})
}

// TestAccTrustAnchor_givenEnds warns of the end of what cannot be renewed here,
// in every plan until somebody acts.
func TestAccTrustAnchor_givenEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		left    time.Duration
		summary string
	}{
		"near": {100 * time.Hour, "Trust Anchor Near Its End: The trust anchor state/default is valid only until "},
		// It was sound when it was given.
		"expired": {-time.Hour, "Trust Anchor Has Expired: The trust anchor state/default has expired at "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ending := byHand(t, "ending", time.Now().Add(c.left))
			lasting := byHand(t, "lasting", time.Now().Add(9000*time.Hour))
			config := func(g givenAnchor) string {
				return clusterless("resource \"aksmesh_trust_anchor\" \"this\" {\nprivate_key_storage = \"state\"\n" + g.withoutKey() + "}")
			}
			w := newWorkspace(t, config(lasting))
			w.apply()
			state := string(w.stateBytes())
			w.write(config(ending))
			if c.left < 0 {
				// Nobody may begin with what has ended.
				if got := w.run("plan", "-no-color"); got.code == 0 || !regexp.MustCompile(`(?s)certificate_pem.*expired`).MatchString(got.output) {
					t.Errorf("exit code %d, want a refusal\n%s", got.code, got.output)
				}
				cert, err := pki.ParseCertificate([]byte(ending.certificate))
				if err != nil {
					t.Fatal(err)
				}
				was, err := pki.ParseCertificate([]byte(lasting.certificate))
				if err != nil {
					t.Fatal(err)
				}
				for old, now := range map[string]string{
					strings.ReplaceAll(lasting.certificate, "\n", `\n`): strings.ReplaceAll(ending.certificate, "\n", `\n`),
					pki.Fingerprint(was):               pki.Fingerprint(cert),
					was.NotAfter.Format(time.RFC3339):  cert.NotAfter.Format(time.RFC3339),
					was.NotBefore.Format(time.RFC3339): cert.NotBefore.Format(time.RFC3339),
					`"common_name": "lasting"`:         `"common_name": "ending"`,
				} {
					state = strings.ReplaceAll(state, old, now)
				}
				w.file(stateFile, state)
			} else {
				w.apply()
			}
			for range 2 {
				if got := w.run("plan", "-detailed-exitcode", "-no-color"); got.code != 2 || !regexp.MustCompile(`ready_for_renewal\s+= (true|false) -> \(known after apply\)`).MatchString(got.output) {
					t.Errorf("exit code %d, want 2 and a change of ready_for_renewal alone\n%s", got.code, got.output)
				}
				expectWarnings(t, w.succeed("plan", "-json"), c.summary)
				w.apply()
				if ready := w.attributes()[anchorAddress]["ready_for_renewal"]; ready != true {
					t.Errorf("ready_for_renewal is %v", ready)
				}
			}
			w.write(config(lasting))
			w.apply()
			w.expectNoChanges()
			w.succeed("destroy", "-auto-approve", "-no-color")
		})
	}
}

// TestAccTrustAnchor_keyStaysSecret looks for a key that was given, as it was and
// as the Secret keeps it, in all that Terraform writes.
func TestAccTrustAnchor_keyStaysSecret(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	given := byOpenSSL(t, "secret", "ecparam", "-name", "prime256v1", "-genkey")
	config := anchorConfig(cluster, namespace, given.withoutKey()+"private_key_wo = var.key\n") +
		"\nvariable \"key\" {\n ephemeral = true\n sensitive = true\n}\n"
	w := newWorkspace(t, config, "TF_VAR_key="+given.key)
	written := w.planFiles()
	apply := w.traced("apply", "-auto-approve", "-no-color")
	if apply.code != 0 {
		t.Fatalf("exit code %d\n%s", apply.code, w.run("apply", "-auto-approve", "-no-color").output)
	}
	written["apply"], written["state"] = []byte(apply.output), w.stateBytes()
	w.expectNoChanges()
	secret, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), anchorSecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hunt := newKeyHunt()
	for owner, key := range map[string][]byte{"the configuration": []byte(given.key), "the Secret": secret.Data["tls.key"]} {
		if err := hunt.learn(owner, key); err != nil {
			t.Fatal(err)
		}
	}
	if owners := hunt.owners(); len(owners) != 2 {
		t.Fatalf("keys of %v", owners)
	}
	for name, content := range written {
		for _, key := range hunt.find(content) {
			t.Errorf("%s gives away the key of %s", name, key)
		}
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestTrustAnchor_badAnchors gives what cannot be an anchor, and keys that cannot
// be its.
func TestTrustAnchor_badAnchors(t *testing.T) {
	t.Parallel()
	sound := byOpenSSL(t, "sound", "ecparam", "-name", "prime256v1", "-genkey")
	other := byOpenSSL(t, "other", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	encrypted := byOpenSSL(t, "plain", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	ed25519 := byOpenSSL(t, "ed25519", "genpkey", "-algorithm", "ED25519")
	command := exec.CommandContext(t.Context(), "openssl", "pkey", "-aes256", "-passout", "pass:x")
	command.Stdin = strings.NewReader(encrypted.key)
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	key := func(text string) string { return fmt.Sprintf("private_key_wo = <<EOT\n%s\nEOT\n", text) }
	certificate := func(edit func(*x509.Certificate)) string {
		anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		pair := pkitest.SelfSigned(t, time.Now(), pkitest.Key(t, anchor), edit)
		return givenAnchor{certificate: string(pair.CertificatePEM())}.withoutKey()
	}
	expectInvalid(t, "aksmesh_trust_anchor", map[string]invalidInput{
		`certificate_pem = "x"`: {"certificate_pem", "no block found"},
		givenAnchor{certificate: sound.certificate + "garbage"}.withoutKey():                 {"certificate_pem", "after the last block"},
		givenAnchor{certificate: sound.certificate + other.certificate}.withoutKey():         {"certificate_pem", "2 PEM blocks"},
		certificate(func(c *x509.Certificate) { c.IsCA = false }):                            {"certificate_pem", "not a certificate authority"},
		certificate(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }):  {"certificate_pem", "path length"},
		certificate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }): {"certificate_pem", "expired"},
		certificate(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, 2)
		}): {"certificate_pem", "not yet valid"},
		ed25519.withoutKey():                          {"certificate_pem", "unsupported key"},
		sound.withoutKey() + key(other.key):           {"private_key_wo", "does not match"},
		sound.withoutKey() + key(string(output)):      {"private_key_wo", "encrypted private key"},
		sound.withoutKey() + key(sound.key+"garbage"): {"private_key_wo", "after the last block"},
		sound.withoutKey() + key(sound.certificate):   {"private_key_wo", "malformed"},
		sound.withoutKey() + key(ed25519.key):         {"private_key_wo", "unsupported key"},
	})
}

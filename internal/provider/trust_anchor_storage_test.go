package provider

import (
	"crypto"
	"fmt"
	"os"
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

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// clusterless is a configuration of a provider whose cluster does not answer.
func clusterless(config string) string {
	return "provider \"aksmesh\" {\n kubernetes = { host = \"https://127.0.0.1:1\" }\n}\n" + config
}

func storedAs(storage, body string) string {
	return clusterless(fmt.Sprintf("resource \"aksmesh_trust_anchor\" \"this\" {\n private_key_storage = %q\n %s\n}", storage, body))
}

// signsWith checks that the anchor's key is this one, and that the certificate
// is another one than at the check before if it is to be.
func signsWith(find func(*terraform.State) (crypto.Signer, error), fresh bool) resource.TestCheckFunc {
	return func(state *terraform.State) error {
		cert, err := pki.ParseCertificate([]byte(anchorAttribute(state, "certificate_pem")))
		if err != nil {
			return err
		}
		key, err := find(state)
		if err != nil {
			return err
		}
		if !samePublicKeyAs(cert.PublicKey, key) {
			return fmt.Errorf("the key is not that of %s", cert.Subject)
		}
		if previous := anchorAttribute(state, "previous_certificate_pem"); fresh == (previous == "") {
			return fmt.Errorf("previous certificate %q", previous)
		}
		return nil
	}
}

func samePublicKeyAs(public crypto.PublicKey, key crypto.Signer) bool {
	own, ok := key.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && own.Equal(public)
}

func keyInState(state *terraform.State) (crypto.Signer, error) {
	return pki.ParseKey([]byte(anchorAttribute(state, "private_key_pem")))
}

// TestAccTrustAnchor_state keeps the key in the state, and asks no cluster.
func TestAccTrustAnchor_state(t *testing.T) {
	t.Parallel()
	config := func(body string) string { return storedAs("state", body) }
	clock := &testClock{}
	given := byOpenSSL(t, "given", "ecparam", "-name", "prime256v1", "-genkey")
	renewed := changing(anchorAddress, "fingerprint_sha256")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		Steps: []resource.TestStep{
			{
				Config: config(`algorithm = "RSA-4096"`),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("id"), knownvalue.StringExact("state/default")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("algorithm"), knownvalue.StringExact("RSA-4096")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("can_sign"), knownvalue.Bool(true)),
				},
				Check: resource.ComposeTestCheckFunc(renewed, signsWith(keyInState, false)),
			},
			{
				Config: config(""), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(renewed, signsWith(keyInState, true)),
			},
			{
				Config: config(`early_renewal = "10h"`),
				ConfigPlanChecks: plans(plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionUpdate),
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_pem"), knownvalue.NotNull())),
				Check: signsWith(keyInState, true),
			},
			{
				PreConfig: func() { clock.forward(87595 * time.Hour) },
				Config:    config(`early_renewal = "10h"`), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(renewed, signsWith(keyInState, true)),
			},
			{
				// Long after its end.
				PreConfig: func() { clock.forward(2 * 87600 * time.Hour) },
				Config:    config(`rotation_trigger = "x"`), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(renewed, signsWith(keyInState, true)),
			},
			{
				PreConfig: func() { clock.ahead.Store(0) },
				Config:    config(given.withoutKey()),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_pem"), knownvalue.Null()),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("can_sign"), knownvalue.Bool(false)),
				},
				Check: renewed,
			},
			{Config: config(given.body()), ConfigPlanChecks: plansUpdate(), Check: signsWith(keyInState, true)},
			{Config: config(given.withoutKey()), ConfigPlanChecks: plans(plancheck.ExpectEmptyPlan()), Check: signsWith(keyInState, true)},
			{
				ResourceName: anchorAddress, ImportState: true, ImportStateId: "state/default",
				ExpectError: regexp.MustCompile(`(?s)private\s+key\s+is\s+not\s+in\s+the\s+cluster`),
			},
		},
	})
}

// TestAccTrustAnchor_extendedInState keeps the key for another certificate of it.
func TestAccTrustAnchor_extendedInState(t *testing.T) {
	t.Parallel()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	first, longer := extended(t, anchor, "x", time.Now().Add(5000*time.Hour)), extended(t, anchor, "x", time.Now().Add(6000*time.Hour))
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: storedAs("state", first.body()), Check: signsWith(keyInState, false)},
			{Config: storedAs("state", longer.withoutKey()), Check: signsWith(keyInState, true)},
		},
	})
}

func keyInKMS(t *testing.T) func(*terraform.State) (crypto.Signer, error) {
	t.Helper()
	return func(state *terraform.State) (crypto.Signer, error) {
		return kms.New(nil).Open(t.Context(), anchorAttribute(state, "signing_key_uri"))
	}
}

// TestAccTrustAnchor_kms has the software KMS of step make a version of the key
// for each generation, and asks no cluster.
func TestAccTrustAnchor_kms(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	versions, other := "softkms:path="+directory+"/root/", "softkms:path="+directory+"/other/"
	config := func(uri, body string) string {
		return storedAs("kms", fmt.Sprintf("kms_key_uri = %q\n%s", uri, body))
	}
	version := func(n int) string { return fmt.Sprintf("softkms:path=%s/root/%d.pem", directory, n) }
	signed := signsWith(keyInKMS(t), true)
	uses := func(uri string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttr(anchorAddress, "signing_key_uri", uri)
	}
	clock := &testClock{}
	renewed := changing(anchorAddress, "fingerprint_sha256")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy: func(*terraform.State) error {
			_, err := os.Stat(filepath.Join(directory, "root", "1.pem"))
			return err // Keys in a KMS stay.
		},
		Steps: []resource.TestStep{
			{
				Config: config(versions, ""),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("id"), knownvalue.StringExact("kms/default")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_pem"), knownvalue.Null()),
				},
				Check: resource.ComposeTestCheckFunc(renewed, signsWith(keyInKMS(t), false), uses(version(1))),
			},
			{
				Config: config(versions, `algorithm = "ECDSA-P384"`), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(renewed, signed, uses(version(2))),
			},
			{
				PreConfig: func() { clock.forward(87000 * time.Hour) },
				Config:    config(versions, `algorithm = "ECDSA-P384"`), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(renewed, signed, uses(version(3))),
			},
			// The version that is in use, and its algorithm.
			{Config: config(version(3), ""), ConfigPlanChecks: plansUpdate(), Check: resource.ComposeTestCheckFunc(signed, uses(version(3)))},
			{Config: config(version(3), `rotation_trigger = "x"`), ExpectError: regexp.MustCompile(`(?s)rotation_trigger has\s+changed, so\s+a\s+new\s+key\s+is\s+needed`)},
			{
				Config: config(version(1), ""), ConfigPlanChecks: plans(
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("signing_key_uri"), knownvalue.StringExact(version(1))),
					plancheck.ExpectUnknownValue(anchorAddress, tfjsonpath.New("algorithm")),
				),
				Check: resource.ComposeTestCheckFunc(renewed, signed, resource.TestCheckResourceAttr(anchorAddress, "algorithm", "ECDSA-P256")),
			},
			{Config: config(version(2), `algorithm = "ECDSA-P256"`), ExpectError: regexp.MustCompile(`(?s)algorithm.*is of\s+ECDSA-P384`)},
			{Config: config(other, ""), ConfigPlanChecks: plansRotation(), Check: resource.ComposeTestCheckFunc(renewed, signed, uses("softkms:path="+directory+"/other/1.pem"))},
			{
				ResourceName: anchorAddress, ImportState: true, ImportStateId: "kms/default",
				ExpectError: regexp.MustCompile(`(?s)private\s+key\s+is\s+not\s+in\s+the\s+cluster`),
			},
		},
	})
}

// TestAccTrustAnchor_fixedKeyEnds warns of the end of an anchor whose key is one
// version, for which no other can be made.
func TestAccTrustAnchor_fixedKeyEnds(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	key := byOpenSSL(t, "x", "ecparam", "-name", "prime256v1", "-genkey").key
	for _, file := range []string{"a.pem", "b.pem"} {
		if err := os.WriteFile(filepath.Join(directory, file), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := func(file, early string) string {
		return storedAs("kms", fmt.Sprintf("kms_key_uri = \"softkms:path=%s/%s\"\nvalidity = \"1h\"\nearly_renewal = \"%s\"", directory, file, early))
	}
	w := newWorkspace(t, config("a.pem", "1m"))
	w.apply()
	// What may have changed is an error only when it has.
	w.write(config("a.pem", "1m\"\n rotation_trigger = terraform_data.this.output\n}\nresource \"terraform_data\" \"this\" {\n input = \"x"))
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor May Be Rotated: ")
	if got := w.run("apply", "-auto-approve", "-no-color"); got.code == 0 || !strings.Contains(got.output, "No Key for a New Trust Anchor") {
		t.Errorf("exit code %d, want the refusal of a rotation without a new key\n%s", got.code, got.output)
	}
	// Due a tenth of a second after it was made.
	w.write(config("a.pem", "59m59.9s"))
	for range 2 {
		if got := w.run("plan", "-detailed-exitcode", "-no-color"); got.code != 2 {
			t.Errorf("exit code %d, want 2\n%s", got.code, got.output)
		}
		expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Near Its End: The trust anchor kms/default is valid only until "+w.attribute(anchorAddress, "not_after"))
		w.apply()
	}
	w.write(config("b.pem", "1m"))
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Will Be Rotated: The trust anchor kms/default gets a new certificate, because kms_key_uri has changed")
	w.apply()
	w.expectNoChanges()
	if strings.Contains(string(w.stateBytes()), strings.Split(key, "\n")[4]) {
		t.Error("the key is in the state")
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestAccTrustAnchor_givenInKMS has a certificate whose key is in the KMS.
func TestAccTrustAnchor_givenInKMS(t *testing.T) {
	t.Parallel()
	given := byOpenSSL(t, "given", "ecparam", "-name", "prime256v1", "-genkey")
	directory := t.TempDir()
	for file, key := range map[string]string{"its.pem": given.key, "copy.pem": given.key, "other.pem": byHand(t, "x", time.Now()).key} {
		if err := os.WriteFile(filepath.Join(directory, file), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := func(file string) string {
		return storedAs("kms", fmt.Sprintf("kms_key_uri = \"softkms:path=%s/%s\"\n%s", directory, file, given.withoutKey()))
	}
	signed := signsWith(keyInKMS(t), false)
	mismatch := regexp.MustCompile(`(?s)private\s+key\s+does\s+not\s+match\s+the\s+certificate`)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("other.pem"), ExpectError: mismatch},
			{Config: config("absent.pem"), ExpectError: regexp.MustCompile(`(?s)kms_key_uri.*there\s+is\s+no\s+such\s+key`)},
			{Config: config("its.pem"), Check: signed},
			{Config: config("other.pem"), ExpectError: mismatch},
			{Config: config("copy.pem"), ConfigPlanChecks: plansUpdate(), Check: signed},
		},
	})
}

// TestAccTrustAnchor_azure keeps the key in a double of Azure Key Vault.
func TestAccTrustAnchor_azure(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	vault := azure.AddVault()
	config := func(body string) string {
		return storedAs("kms", fmt.Sprintf("kms_key_uri = %q\n%s", vault.KeyURI("mesh-root"), body))
	}
	w := newWorkspace(t, config(""), append(azure.Environ(), azure.ClientSecretEnviron()...)...)
	expectVersions := func(want int) {
		t.Helper()
		keys := vault.Keys()
		if len(keys) != want {
			t.Fatalf("%d versions of keys, want %d", len(keys), want)
		}
		if got, want := w.attribute(anchorAddress, "signing_key_uri"), vault.KeyURI("mesh-root")+"?version="+keys[want-1].Version; got != want {
			t.Errorf("the anchor signs with %s, want %s", got, want)
		}
		w.expectNoChanges()
	}
	w.apply()
	expectVersions(1)
	w.write(config(`rotation_trigger = "x"`))
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Will Be Rotated: The trust anchor kms/default gets a new certificate, because rotation_trigger has changed")
	w.apply()
	expectVersions(2)

	vault.Fail(testazure.CreateKey, testazure.KeyForbidden)
	w.write(config(`rotation_trigger = "y"`))
	if got := w.run("apply", "-auto-approve", "-no-color"); got.code == 0 || !strings.Contains(got.output, "kms_key_uri: Key azurekms:") {
		t.Errorf("exit code %d, want an error that names the key\n%s", got.code, got.output)
	}
	vault.Fail(testazure.CreateKey, nil)
	w.apply()
	expectVersions(3)
	w.succeed("destroy", "-auto-approve", "-no-color")
	if got := len(vault.Keys()); got != 3 {
		t.Errorf("the destroy has left %d versions, want 3", got)
	}
}

// TestAccTrustAnchor_providerUnknown makes anchors whose keys are elsewhere while
// the provider's cluster is made in the same apply.
func TestAccTrustAnchor_providerUnknown(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, `
	resource "terraform_data" "cluster" { input = "https://127.0.0.1:1" }
	provider "aksmesh" { kubernetes = { host = terraform_data.cluster.output } }
	resource "aksmesh_trust_anchor" "this" { private_key_storage = "state" }
	`)
	w.apply()
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}

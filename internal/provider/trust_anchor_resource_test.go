package provider

import (
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const (
	anchorAddress    = "aksmesh_trust_anchor.this"
	anchorSecretName = "aksmesh-trust-anchor-default"
)

// anchorConfig is a trust anchor in a namespace of its own.
func anchorConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_trust_anchor\" \"this\" {\n namespace = %q\n %s\n}", namespace, body))
}

// plans are plan checks before an apply.
func plans(checks ...plancheck.PlanCheck) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: checks}
}

// plansRotation wants a new generation planned in place, and nothing said of it
// that is not known.
func plansRotation() resource.ConfigPlanChecks {
	checks := []plancheck.PlanCheck{plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionUpdate)}
	for _, attribute := range []string{"bundle_pem", "bundle_fingerprints_sha256", "certificate_pem", "fingerprint_sha256", "not_before", "not_after", "ready_for_renewal"} {
		checks = append(checks, plancheck.ExpectUnknownValue(anchorAddress, tfjsonpath.New(attribute)))
	}
	return plans(append(checks,
		plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("previous_certificate_pem"), knownvalue.NotNull()),
		plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("id"), knownvalue.NotNull()),
		plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("can_sign"), knownvalue.Bool(true)))...)
}

// plansUpdate wants a change planned, of which everything is known.
func plansUpdate() resource.ConfigPlanChecks {
	checks := []plancheck.PlanCheck{plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionUpdate)}
	for _, attribute := range []string{"id", "bundle_pem", "certificate_pem", "fingerprint_sha256", "not_before", "not_after"} {
		checks = append(checks, plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New(attribute), knownvalue.NotNull()))
	}
	return plans(checks...)
}

// anchorGenerations follows the generations of an anchor through the steps of a test.
type anchorGenerations struct {
	t         *testing.T
	cluster   *testcluster.Cluster
	namespace string
	present   *x509.Certificate
}

func anchorAttribute(state *terraform.State, name string) string {
	return state.RootModule().Resources[anchorAddress].Primary.Attributes[name]
}

// next wants another generation than at the last check.
func (g *anchorGenerations) next(state *terraform.State) error { return g.check(state, true) }

// same wants the generation of the last check.
func (g *anchorGenerations) same(state *terraform.State) error { return g.check(state, false) }

// check compares the state with the Secret, and the Secret with what it was.
func (g *anchorGenerations) check(state *terraform.State, another bool) error {
	cert, err := pki.ParseCertificate([]byte(anchorAttribute(state, "certificate_pem")))
	if err != nil {
		return err
	}
	former := g.present
	g.present = cert
	if former != nil && another == cert.Equal(former) {
		return fmt.Errorf("another certificate: %t, want %t", !another, another)
	}
	if got, want := anchorAttribute(state, "fingerprint_sha256"), pki.Fingerprint(cert); got != want {
		return fmt.Errorf("fingerprint %s, want %s", got, want)
	}
	if got := anchorAttribute(state, "bundle_fingerprints_sha256.0"); got != pki.Fingerprint(cert) {
		return fmt.Errorf("the bundle begins with %s, want %s", got, pki.Fingerprint(cert))
	}
	bundle, err := pki.ParseBundle([]byte(anchorAttribute(state, "bundle_pem")))
	if err != nil || !bundle.Certificates()[0].Equal(cert) {
		return fmt.Errorf("the bundle does not begin with the anchor (%w)", err)
	}
	if strings.HasSuffix(anchorAttribute(state, "bundle_pem"), "\n") {
		return fmt.Errorf("the bundle ends with a newline")
	}
	secret, err := g.cluster.Client().CoreV1().Secrets(g.namespace).Get(g.t.Context(), anchorSecretName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	kept, err := pki.ParseKeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil || !kept.Certificate().Equal(cert) {
		return fmt.Errorf("the Secret does not keep the anchor with its key (%w)", err)
	}
	if !another || former == nil {
		return nil
	}
	if got, want := anchorAttribute(state, "previous_certificate_pem"), string(pki.NewBundle(former).PEM()); got != want {
		return fmt.Errorf("previous certificate\n%s\nwant\n%s", got, want)
	}
	if samePublicKey(cert, former) {
		return fmt.Errorf("both generations have the same key")
	}
	return nil
}

// keepsPrevious wants the Secret to keep the generation before with its key.
func (g *anchorGenerations) keepsPrevious(state *terraform.State) error {
	secret, err := g.cluster.Client().CoreV1().Secrets(g.namespace).Get(g.t.Context(), anchorSecretName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	previous, err := pki.ParseKeyPair(secret.Data["previous.crt"], secret.Data["previous.key"])
	if err != nil {
		return fmt.Errorf("previous generation: %w", err)
	}
	if got, want := string(previous.CertificatePEM()), anchorAttribute(state, "previous_certificate_pem"); got != want {
		return fmt.Errorf("the Secret keeps as the previous certificate\n%s\nwant\n%s", got, want)
	}
	return nil
}

func TestAccTrustAnchor(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor"
	config := func(body string) string { return anchorConfig(cluster, namespace, body) }
	g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
	other := anchorPEM(t)

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, anchorSecretName),
		Steps: []resource.TestStep{
			{
				Config: config(""),
				ConfigPlanChecks: plans(
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("id"), knownvalue.StringExact(namespace+"/default")),
					plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("algorithm"), knownvalue.StringExact("ECDSA-P256")),
				),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("id"), knownvalue.StringExact(namespace+"/default")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_storage"), knownvalue.StringExact("kubernetes_secret")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("validity"), knownvalue.StringExact("87600h")),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("ready_for_renewal"), knownvalue.Bool(false)),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("can_sign"), knownvalue.Bool(true)),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("previous_certificate_pem"), knownvalue.Null()),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("private_key_pem"), knownvalue.Null()),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("signing_key_uri"), knownvalue.Null()),
					statecheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
				},
				Check: resource.ComposeTestCheckFunc(g.next, noKeyInState(t, cluster, namespace, anchorSecretName)),
			},
			{
				Config:           config(`early_renewal = "100h"`),
				ConfigPlanChecks: plansUpdate(),
				Check:            g.same,
			},
			{
				Config:           config(fmt.Sprintf("early_renewal = \"100h\"\nadditional_certificates_pem = [<<EOT\nof the other cluster\n%s\n\nEOT\n]", other)),
				ConfigPlanChecks: plansUpdate(),
				Check: resource.ComposeTestCheckFunc(g.same, func(state *terraform.State) error {
					if bundle := anchorAttribute(state, "bundle_pem"); bundle != anchorAttribute(state, "certificate_pem")+"\n"+other {
						return fmt.Errorf("bundle\n%s", bundle)
					}
					return nil
				}),
			},
			{
				Config:           config(`early_renewal = "100h"`),
				ConfigPlanChecks: plansUpdate(),
				Check:            g.same,
			},
			{
				ResourceName: anchorAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/default",
				ImportStateVerifyIgnore: []string{"early_renewal"},
			},
			{
				// Somebody deletes the Secret: the plan makes a new anchor.
				PreConfig: func() { deleteAnchorSecret(t, cluster, namespace) },
				Config:    config(`early_renewal = "100h"`),
				ConfigPlanChecks: plans(
					plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionCreate),
				),
			},
			{
				Config: config(`name = "other"`),
				ConfigPlanChecks: plans(
					plancheck.ExpectResourceAction(anchorAddress, plancheck.ResourceActionDestroyBeforeCreate),
				),
			},
		},
	})
}

func deleteAnchorSecret(t *testing.T, cluster *testcluster.Cluster, namespace string) {
	t.Helper()
	if err := cluster.Client().CoreV1().Secrets(namespace).Delete(t.Context(), anchorSecretName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestAccTrustAnchor_rotation changes one setting after another: each makes a new
// generation in place, and imports show them all.
func TestAccTrustAnchor_rotation(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor-rotation"
	g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
	steps := []resource.TestStep{{Config: anchorConfig(cluster, namespace, ""), Check: g.next}}
	for _, change := range []struct{ body, attribute, value string }{
		{`rotation_trigger = "one"`, "rotation_trigger", "one"},
		{`rotation_trigger = "two"`, "rotation_trigger", "two"},
		{"rotation_trigger = \"two\"\nalgorithm = \"ECDSA-P384\"", "algorithm", "ECDSA-P384"},
		{"rotation_trigger = \"two\"\nalgorithm = \"RSA-2048\"", "algorithm", "RSA-2048"},
		{`common_name = "root.example"`, "common_name", "root.example"},
		{"common_name = \"root.example\"\nsubject = { organization = \"Example\", organizational_unit = \"Mesh\", country = \"DE\", province = \"Bayern\", locality = \"München\" }", "subject.locality", "München"},
		{"common_name = \"root.example\"\nvalidity = \"8760h\"", "validity", "8760h"},
	} {
		body := anchorConfig(cluster, namespace, change.body)
		steps = append(steps, resource.TestStep{
			Config: body, ConfigPlanChecks: plansRotation(),
			Check: resource.ComposeTestCheckFunc(g.next, g.keepsPrevious, noKeyInState(t, cluster, namespace, anchorSecretName),
				resource.TestCheckResourceAttr(anchorAddress, change.attribute, change.value)),
		}, resource.TestStep{
			ResourceName: anchorAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/default",
		})
	}
	// Another spelling of the same is none, and removing the trigger does nothing.
	for _, body := range []string{
		"common_name = \"root.example\"\nvalidity = \"525600m\"",
		"common_name = \"root.example\"\nvalidity = \"525600m\"\nearly_renewal = \"10h\"\nsubject = {}",
	} {
		steps = append(steps, resource.TestStep{Config: anchorConfig(cluster, namespace, body), ConfigPlanChecks: plansUpdate(), Check: g.same})
	}
	steps = append(steps,
		resource.TestStep{Config: anchorConfig(cluster, namespace, `rotation_trigger = "three"`), ConfigPlanChecks: plansRotation(), Check: g.next},
		resource.TestStep{Config: anchorConfig(cluster, namespace, ""), ConfigPlanChecks: plansUpdate(), Check: g.same},
		resource.TestStep{Config: anchorConfig(cluster, namespace, `rotation_trigger = "three"`), ConfigPlanChecks: plansRotation(), Check: g.next})
	resource.Test(t, resource.TestCase{ProtoV6ProviderFactories: testProviders, Steps: steps})
}

// TestAccTrustAnchor_unknownSettings learns during the apply only what the
// settings are: a rotation is planned, and made if there is a reason.
func TestAccTrustAnchor_unknownSettings(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor-unknown"
	config := func(run, trigger string) string {
		return anchorConfig(cluster, namespace, "rotation_trigger = terraform_data.this.output\n common_name = terraform_data.this.output") +
			fmt.Sprintf("\nresource \"terraform_data\" \"this\" {\n input = %q\n triggers_replace = [%q]\n}", trigger, run)
	}
	g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
	open := plans(plancheck.ExpectUnknownValue(anchorAddress, tfjsonpath.New("certificate_pem")), plancheck.ExpectUnknownValue(anchorAddress, tfjsonpath.New("previous_certificate_pem")))
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("1", "a"), Check: g.next},
			{Config: config("2", "a"), ConfigPlanChecks: open, Check: g.same},
			{Config: config("3", "b"), ConfigPlanChecks: open, Check: g.next},
		},
	})
}

func TestAccTrustAnchor_nearItsEnd(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor-end"
	clock := &testClock{}
	config := func(early string) string {
		return anchorConfig(cluster, namespace, fmt.Sprintf("validity = \"1000h\"\nearly_renewal = %q", early))
	}
	g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		Steps: []resource.TestStep{
			{Config: config("100h"), Check: g.next},
			{
				PreConfig: func() { clock.forward(899 * time.Hour) },
				Config:    config("100h"), ConfigPlanChecks: plans(plancheck.ExpectEmptyPlan()), Check: g.same,
			},
			{
				PreConfig: func() { clock.forward(2 * time.Hour) },
				Config:    config("100h"), ConfigPlanChecks: plansRotation(),
				Check: resource.ComposeTestCheckFunc(g.next, g.keepsPrevious, resource.TestCheckResourceAttr(anchorAddress, "ready_for_renewal", "false")),
			},
			{
				// It is due only by the other early_renewal, which the plan knows at once.
				PreConfig: func() { clock.forward(700 * time.Hour) },
				Config:    config("500h"), ConfigPlanChecks: plansRotation(), Check: g.next,
			},
			{
				// Far behind its end.
				PreConfig: func() { clock.forward(2000 * time.Hour) },
				Config:    config("500h"), ConfigPlanChecks: plansRotation(), Check: g.next,
			},
			{
				// A smaller early_renewal takes back that it is due.
				PreConfig: func() { clock.forward(600 * time.Hour) },
				Config:    config("100h"), ConfigPlanChecks: plansUpdate(), Check: g.same,
			},
		},
	})
}

// TestAccTrustAnchor_interrupted ends applies between each request and the state:
// the next apply makes one generation and not two, and loses no key in use.
func TestAccTrustAnchor_interrupted(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	namespace := "trust-anchor-interrupted"
	config := func(body string) string {
		return providerConfig(proxy.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_trust_anchor\" \"this\" {\n namespace = %q\n %s\n}", namespace, body))
	}
	w := newWorkspace(t, config(""))
	apply := []string{"apply", "-auto-approve", "-no-color"}
	secret := func() *corev1.Secret {
		t.Helper()
		found, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), anchorSecretName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	// afterWrite is a crash between the last write and the state.
	afterWrite := func(args ...string) {
		t.Helper()
		before := w.stateBytes()
		w.succeed(args...)
		if before == nil {
			if err := os.Remove(filepath.Join(w.dir, stateFile)); err != nil {
				t.Fatal(err)
			}
			return
		}
		w.file(stateFile, string(before))
	}
	expectKept := func(want []byte) {
		t.Helper()
		if got := secret().Data["tls.crt"]; string(got) != string(want) {
			t.Errorf("the anchor is\n%s\nwant\n%s", got, want)
		}
	}

	killAt(w, proxy, request("POST", "/secrets"), apply...)
	afterWrite(apply...)
	first := secret().Data
	if got := w.succeed(apply...); !strings.Contains(got.output, "Resumed an Interrupted Apply") {
		t.Errorf("nothing is said of the anchor that was there\n%s", got.output)
	}
	expectKept(first["tls.crt"])
	w.expectNoChanges()

	for i, refresh := range []string{"-refresh=true", "-refresh=false"} {
		former := secret().Data
		w.write(config(fmt.Sprintf("rotation_trigger = \"%d\"", i)))
		killAt(w, proxy, request("PATCH", "/secrets/"), apply...)
		expectKept(former["tls.crt"])
		afterWrite(apply...)
		made := secret().Data
		if string(made["tls.crt"]) == string(former["tls.crt"]) {
			t.Fatal("nothing was rotated")
		}
		w.succeed(append(apply, refresh)...)
		expectKept(made["tls.crt"])
		if w.attribute(anchorAddress, "certificate_pem") != string(made["tls.crt"]) {
			t.Error("the state has another certificate")
		}
		w.expectNoChanges()
	}

	// The generation that nobody knew of is not what is wanted any more: the key of
	// the one in use is kept all the same.
	former := secret().Data
	w.write(config(`rotation_trigger = "lost"`))
	afterWrite(apply...)
	w.write(config(`rotation_trigger = "lost and changed"`))
	w.succeed(append(apply, "-refresh=false")...)
	got := secret().Data
	if string(got["previous.crt"]) != string(former["tls.crt"]) || string(got["previous.key"]) != string(former["tls.key"]) {
		t.Error("the key of the generation in use is lost")
	}
	w.expectNoChanges()

	// Without a refresh, a plan that keeps the generation of the state would
	// overwrite another one.
	w.write(config("rotation_trigger = \"lost and changed\"\nearly_renewal = \"10h\""))
	before := w.stateBytes()
	w.write(config("rotation_trigger = \"again\"\nearly_renewal = \"10h\""))
	w.apply()
	w.file(stateFile, string(before))
	w.write(config(`early_renewal = "10h"`))
	if got := w.run(append(apply, "-refresh=false")...); got.code == 0 || !strings.Contains(strings.Join(strings.Fields(got.output), " "), "another generation than was planned with") {
		t.Errorf("exit code %d, want a refusal\n%s", got.code, got.output)
	}
	w.apply()
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// tamper changes the Secret of an anchor as somebody else would.
func tamper(t *testing.T, cluster *testcluster.Cluster, namespace string, change func(*corev1.Secret)) {
	t.Helper()
	secrets := cluster.Client().CoreV1().Secrets(namespace)
	secret, err := secrets.Get(t.Context(), anchorSecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(secret)
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestAccTrustAnchor_tampered has somebody else change the Secret in each way
// that matters, and the next apply repair it: with the same generation as long as
// there is its key, and with a new one otherwise.
func TestAccTrustAnchor_tampered(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	foreign, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: "foreign"}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	foreignKey, err := foreign.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*corev1.Secret)
		drift  string
		lost   bool // the key, so that there has to be a new generation
	}{
		"certificate": {func(s *corev1.Secret) { s.Data["tls.crt"] = foreign.CertificatePEM() }, `tls.crt holds another certificate, "CN=foreign"`, false},
		"damaged":     {func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("nothing") }, "tls.crt: certificate: malformed", false},
		"pair": {func(s *corev1.Secret) {
			s.Data["tls.crt"], s.Data["tls.key"] = foreign.CertificatePEM(), foreignKey
		}, `tls.crt holds another certificate`, true},
		"key":         {func(s *corev1.Secret) { s.Data["tls.key"] = foreignKey }, "tls.key: .*does not match", true},
		"key-gone":    {func(s *corev1.Secret) { s.Data["tls.key"] = nil }, "tls.key is empty", true},
		"key-damaged": {func(s *corev1.Secret) { s.Data["tls.key"] = []byte("nothing") }, "tls.key: private key: malformed", true},
		"record":      {func(s *corev1.Secret) { s.Annotations = nil }, "annotation .* says nothing", false},
		"record-damaged": {func(s *corev1.Secret) {
			s.Annotations["aksmesh.io/trust-anchor-record"] = "{"
		}, "annotation .* says nothing", false},
		"labels":   {func(s *corev1.Secret) { s.Labels = nil }, "labels", false},
		"previous": {func(s *corev1.Secret) { s.Data["previous.crt"] = []byte("nothing") }, "previous.crt: certificate: malformed", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := "trust-anchor-tampered-" + name
			config := anchorConfig(cluster, namespace, `rotation_trigger = "x"`)
			g := &anchorGenerations{t: t, cluster: cluster, namespace: namespace}
			drifts := plancheck.ExpectKnownValue(anchorAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0))
			last := resource.TestStep{Config: config, ConfigPlanChecks: plansUpdate(), Check: g.same}
			if c.lost {
				last.ConfigPlanChecks, last.Check = plansRotation(), g.next
			}
			last.ConfigPlanChecks.PreApply = append(last.ConfigPlanChecks.PreApply, drifts)
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{
					{Config: config, Check: g.next},
					{
						PreConfig:    func() { tamper(t, cluster, namespace, c.change) },
						RefreshState: true, ExpectNonEmptyPlan: true,
						Check: resource.ComposeTestCheckFunc(
							resource.TestMatchResourceAttr(anchorAddress, "drift.0", regexp.MustCompile(c.drift)),
							resource.TestCheckResourceAttr(anchorAddress, "can_sign", fmt.Sprint(!c.lost)),
							resource.TestCheckResourceAttr(anchorAddress, "rotation_trigger", "x")),
					},
					last,
				},
			})
		})
	}
}

func TestAccTrustAnchor_exists(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	for name, occupy := range map[string]func(t *testing.T, namespace string){
		"foreign": func(t *testing.T, namespace string) {
			createSecret(t, cluster, namespace, anchorSecretName, map[string]string{"note": "somebody else's"})
		},
		"of other settings": func(t *testing.T, namespace string) {
			_, _, err := trust.CreateAnchor(t.Context(), connect(t, cluster), trust.AnchorRef{Namespace: namespace, Name: "default"},
				trust.AnchorWish{Options: pki.AuthorityOptions{Subject: pki.Subject{CommonName: "other"}, Now: time.Now()}})
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			occupy(t, namespace)
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:      anchorConfig(cluster, namespace, ""),
					ExpectError: regexp.MustCompile(`(?s)Secret ` + namespace + `/aksmesh-trust-anchor-default\s+already\s+exists.*terraform\s+import`),
				}},
			})
		})
	}
}

// TestAccTrustAnchor_warnings reads what plans say.
func TestAccTrustAnchor_warnings(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := "trust-anchor-warnings"
	config := func(body string) string { return anchorConfig(cluster, namespace, "validity = \"1h\"\n"+body) }
	w := newWorkspace(t, config(`early_renewal = "1m"`))
	w.apply()
	expectWarnings(t, w.succeed("plan", "-json"))

	for body, because := range map[string]string{
		"early_renewal = \"1m\"\nrotation_trigger = \"x\"": "because rotation_trigger has changed",
		// Due a tenth of a second after it was made.
		`early_renewal = "59m59.9s"`: "because it is valid only until " + w.attribute(anchorAddress, "not_after"),
		"early_renewal = \"1m\"\nalgorithm = \"ECDSA-P384\"\ncommon_name = \"x\"": "because algorithm has changed, and common_name has changed",
	} {
		w.write(config(body))
		expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Will Be Rotated: The trust anchor "+namespace+"/default gets a new certificate, "+because+". The rotation of each issuer below it follows")
	}
	w.write(config("early_renewal = \"1m\"\nname = \"other\""))
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Will Be Replaced: Another trust anchor takes the place of "+namespace+"/default, whose private key is destroyed with Secret "+namespace+"/"+anchorSecretName)
	w.write(config(`early_renewal = "1m"`))
	deleteAnchorSecret(t, cluster, namespace)
	expectWarnings(t, w.succeed("plan", "-json"), "Trust Anchor Is Gone: Secret "+namespace+"/"+anchorSecretName+", which keeps the trust anchor and its private key, was deleted by somebody else.")
	w.apply()
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// expectWarnings wants a run to have given these warnings, each by its summary
// and the beginning of its detail, and no others.
func expectWarnings(t *testing.T, got outcome, want ...string) {
	t.Helper()
	warnings := map[string]bool{}
	for _, warning := range got.diagnostics("warning") {
		if warning.Summary != "Provider development overrides are in effect" {
			warnings[warning.Summary+": "+warning.Detail] = true
		}
	}
	if len(warnings) != len(want) {
		t.Errorf("%d warnings, want %d: %q", len(warnings), len(want), slices.Sorted(maps.Keys(warnings)))
	}
	for _, text := range want {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(warnings)), func(warning string) bool { return strings.HasPrefix(warning, text) }) {
			t.Errorf("no warning begins with %q: %q", text, slices.Sorted(maps.Keys(warnings)))
		}
	}
}

// TestTrustAnchor_expired reads what a plan says of an anchor that has ended.
func TestTrustAnchor_expired(t *testing.T) {
	t.Parallel()
	now := time.Now()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: now.Add(-2 * time.Hour), Validity: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var diags diag.Diagnostics
	p := anchorPlan{now: now, diags: &diags, state: &trustAnchorModel{AdditionalCertificates: types.ListNull(types.StringType)}}
	p.state.describe(t.Context(), anchor.Certificate(), &diags)
	p.because("early_renewal", "it ends")
	p.warnRotation(anchor.Certificate())
	want := regexp.MustCompile(`because it ends. The present one has expired at ` + p.state.NotAfter.ValueString() + `: mTLS is down wherever it is`)
	if len(diags) != 1 || diags[0].Summary() != "Trust Anchor Will Be Rotated" || !want.MatchString(diags[0].Detail()) {
		t.Errorf("diagnostics %v, want one that matches %q", diags, want)
	}
}

func TestTrustAnchor_badInput(t *testing.T) {
	t.Parallel()
	given := fmt.Sprintf("certificate_pem = <<EOT\n%s\nEOT\n", anchorPEM(t))
	expectInvalid(t, "aksmesh_trust_anchor", map[string]invalidInput{
		`validity = "ten years"`: {"validity", "not a Go duration"},
		`validity = "1m"`:        {"validity", "out of range"},
		`name = "No_Label"`:      {"name", "DNS label"},
		`namespace = "kms"`:      {"namespace", "none of"},
		`common_name = ""`:       {"common_name", "between 1 and 64"},
		`early_renewal = "2h"
		 validity = "1h"`: {"early_renewal", "leaves nothing"},
		`algorithm = "ECDSA-P521"`:                                    {"algorithm", "one of"},
		`subject = { country = "Germany" }`:                           {"subject", "two capital letters"},
		`subject = { organization = "" }`:                             {"organization", "at least 1"},
		`rotation_trigger = ""`:                                       {"rotation_trigger", "between 1 and 1024"},
		`private_key_storage = "file"`:                                {"private_key_storage", "one of"},
		`private_key_storage = "kms"`:                                 {"kms_key_uri", "needed with"},
		`kms_key_uri = "softkms:path=/x/"`:                            {"kms_key_uri", `for private_key_storage "kms"`},
		`additional_certificates_pem = ["x"]`:                         {"additional_certificates_pem", "malformed"},
		`private_key_wo = "x"`:                                        {"private_key_wo", "set certificate_pem"},
		given + `algorithm = "ECDSA-P256"`:                            {"algorithm", "certificates that are made here"},
		given + `common_name = "x"`:                                   {"common_name", "certificates that are made here"},
		given + `subject = { organization = "x" }`:                    {"subject", "certificates that are made here"},
		given + `validity = "100h"`:                                   {"validity", "certificates that are made here"},
		given + `rotation_trigger = "x"`:                              {"rotation_trigger", "certificates that are made here"},
		"private_key_storage = \"kms\"\nkms_key_uri = \"awskms:x=y\"": {"kms_key_uri", "unknown scheme"},
		"private_key_storage = \"kms\"\nkms_key_uri = \"azurekms:name=x;vault=vault;client-secret=hidden\"": {"kms_key_uri", "give credentials to the provider, or in the environment"},
		"private_key_storage = \"state\"\nnamespace = \"x\"":                                                {"namespace", "nothing in the cluster"},
		given + "private_key_storage = \"kms\"\nkms_key_uri = \"softkms:path=/x/\"":                         {"kms_key_uri", "name its version"},
		given + "private_key_storage = \"kms\"\nkms_key_uri = \"softkms:path=/x\"\nprivate_key_wo = \"x\"":  {"private_key_wo", "is in the KMS"},
	})
}

// gone checks that a Secret and its namespace are gone.
func gone(t *testing.T, cluster *testcluster.Cluster, namespace, secret string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		if _, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), secret, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("secret %s/%s: want not found, got %w", namespace, secret, err)
		}
		if _, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s: want not found, got %w", namespace, err)
		}
		return nil
	}
}

// noKeyInState checks that no byte of a Secret's private keys got into the state.
func noKeyInState(t *testing.T, cluster *testcluster.Cluster, namespace, secret string) resource.TestCheckFunc {
	t.Helper()
	return func(state *terraform.State) error {
		found, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), secret, metav1.GetOptions{})
		if err != nil {
			return err
		}
		keys := 0
		for name, value := range found.Data {
			if len(value) == 0 || !strings.HasSuffix(name, "key") && !strings.HasSuffix(name, "key.pem") {
				continue
			}
			keys++
			// A line of the key's base64 is enough to recognise it in any form.
			line := strings.Split(string(value), "\n")[1]
			if strings.Contains(state.String(), line) {
				return fmt.Errorf("the private key %s of %s/%s is in the state", name, namespace, secret)
			}
		}
		if keys == 0 {
			return fmt.Errorf("secret %s/%s has no key", namespace, secret)
		}
		return nil
	}
}

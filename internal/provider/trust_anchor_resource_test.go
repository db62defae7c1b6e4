package provider

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

func TestAccTrustAnchor(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	const namespace = "trust-anchor"
	config := func(body string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_trust_anchor\" \"this\" {\n namespace = %q\n %s\n}", namespace, body))
	}
	const address = "aksmesh_trust_anchor.this"
	secrets := cluster.Client().CoreV1().Secrets(namespace)
	sameFingerprint := statecheck.CompareValue(compare.ValuesSame())

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, "aksmesh-trust-anchor-default"),
		Steps: []resource.TestStep{
			{
				Config: config(""),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(address, tfjsonpath.New("id"), knownvalue.StringExact(namespace+"/default")),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("ready_for_renewal"), knownvalue.Bool(false)),
					statecheck.ExpectKnownValue(address, tfjsonpath.New("bundle_pem"), knownvalue.StringRegexp(regexp.MustCompile(`^-----BEGIN CERTIFICATE-----\n[^-]+-----END CERTIFICATE-----$`))),
					sameFingerprint.AddStateValue(address, tfjsonpath.New("fingerprint_sha256")),
				},
				Check: noKeyInState(t, cluster, namespace, "aksmesh-trust-anchor-default"),
			},
			{
				Config: config(`early_renewal = "100h"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
				}},
				ConfigStateChecks: []statecheck.StateCheck{sameFingerprint.AddStateValue(address, tfjsonpath.New("fingerprint_sha256"))},
			},
			{
				ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/default",
				ImportStateVerifyIgnore: []string{"early_renewal"},
			},
			{
				// Somebody deletes the Secret: the plan makes a new anchor.
				PreConfig: func() {
					if err := secrets.Delete(t.Context(), "aksmesh-trust-anchor-default", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(`early_renewal = "100h"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionCreate),
				}},
			},
			{
				Config: config(`common_name = "root.example"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionDestroyBeforeCreate),
				}},
			},
		},
	})
}

func TestAccTrustAnchor_nearItsEnd(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	clock := &testClock{}
	config := providerConfig(cluster.Kubeconfig(), `resource "aksmesh_trust_anchor" "this" {
	  namespace     = "trust-anchor-end"
	  validity      = "1000h"
	  early_renewal = "100h"
	}`)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		Steps: []resource.TestStep{
			{Config: config},
			{
				PreConfig: func() { clock.forward(950 * time.Hour) },
				Config:    config,
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue("aksmesh_trust_anchor.this", tfjsonpath.New("ready_for_renewal"), knownvalue.Bool(true)),
				},
			},
		},
	})
}

func TestAccTrustAnchor_foreign(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	secret := map[string]string{"note": "somebody else's"}
	createSecret(t, cluster, namespace, "aksmesh-trust-anchor-default", secret)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config:      providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_trust_anchor\" \"this\" { namespace = %q }", namespace)),
			ExpectError: regexp.MustCompile(`(?s)Secret ` + namespace + `/aksmesh-trust-anchor-default\s+already\s+exists.*terraform\s+import`),
		}},
	})
}

func TestTrustAnchor_badInput(t *testing.T) {
	t.Parallel()
	expectInvalid(t, "aksmesh_trust_anchor", map[string]invalidInput{
		`validity = "ten years"`: {"validity", "not a Go duration"},
		`validity = "1m"`:        {"validity", "out of range"},
		`name = "No_Label"`:      {"name", "DNS label"},
		`common_name = ""`:       {"common_name", "between 1 and 64"},
		`early_renewal = "2h"
		 validity = "1h"`: {"early_renewal", "leaves nothing"},
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
			if !strings.HasSuffix(name, "key") && !strings.HasSuffix(name, "key.pem") {
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

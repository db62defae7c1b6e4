package provider

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// A plan that finds nothing to do costs at most one request for each release and
// three more if only releases are looked at, and no list twice if all objects are.
func TestAccRequestsOfPlansWithoutChange(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{AuditLog: true})
	repository := cluster.Charts().Repository

	costsLittle(t, cluster, 2, func(detection string) string {
		return fmt.Sprintf(`
		resource "aksmesh_istio" "this" {
		  version         = %q
		  repository      = %q
		  profile         = "minimal"
		  drift_detection = %q
		}`, istioNew, repository, detection)
	})

	identity := newWorkspace(t, providerConfig(cluster.Kubeconfig(), `
		resource "aksmesh_trust_anchor" "this" {}
		resource "aksmesh_issuer" "this" {
		  trust_anchor_id  = aksmesh_trust_anchor.this.id
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		  mesh             = "linkerd"
		}`))
	if got := identity.start("apply", "-auto-approve", "-no-color").wait(); got.code != 0 {
		t.Fatalf("apply: exit code %d\n%s", got.code, got.output)
	}
	costsLittle(t, cluster, 3, func(detection string) string {
		return fmt.Sprintf(`
		resource "aksmesh_linkerd" "this" {
		  version         = %[1]q
		  repository      = %[2]q
		  issuer_id       = %[3]q
		  drift_detection = %[4]q
		}
		resource "aksmesh_linkerd_extension" "viz" {
		  name            = "viz"
		  version         = %[1]q
		  repository      = %[2]q
		  drift_detection = %[4]q
		  depends_on      = [aksmesh_linkerd.this]
		}`, linkerdNew, repository, identity.attribute("aksmesh_issuer.this", "id"), detection)
	})
	connectivityCostsLittle(t, cluster)
}

// costsLittle applies resources of so many releases, with either way of detecting
// drift, and counts what another plan asks.
func costsLittle(t *testing.T, cluster *testcluster.Cluster, releases int, resources func(detection string) string) {
	t.Helper()
	config := func(detection string) string { return providerConfig(cluster.Kubeconfig(), resources(detection)) }
	w := newWorkspace(t, config(detectObjects))
	for _, detection := range []string{detectObjects, detectReleases} {
		w.write(config(detection))
		if got := w.start("apply", "-auto-approve", "-no-color").wait(); got.code != 0 {
			t.Fatalf("apply: exit code %d\n%s", got.code, got.output)
		}
		// An exit code other than 0 would tell of changes.
		plan := measure(t, cluster, w, "plan", "-detailed-exitcode", "-no-color")
		asked := strings.Join(plan.requests, "\n")
		t.Logf("%s: %d requests\n%s", detection, len(plan.requests), asked)
		if len(plan.requests) == 0 {
			t.Errorf("%s: nothing was measured", detection)
		}
		for of, lists := range plan.listsOf {
			if lists > 1 {
				t.Errorf("%s: a plan lists %s %d times", detection, of, lists)
			}
		}
		if detection == detectReleases && len(plan.requests) > releases+3 {
			t.Errorf("%s: %d requests, want at most %d:\n%s", detection, len(plan.requests), releases+3, asked)
		}
	}
}

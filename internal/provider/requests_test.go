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
	config := func(detection string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_istio" "this" {
		  version         = %q
		  repository      = %q
		  profile         = "minimal"
		  drift_detection = %q
		}`, istioNew, cluster.Charts().Repository, detection))
	}
	w := newWorkspace(t, config(detectObjects))
	const releases = 2
	for _, detection := range []string{detectObjects, detectReleases} {
		w.write(config(detection))
		if got := w.start("apply", "-auto-approve", "-no-color").wait(); got.code != 0 {
			t.Fatalf("apply: exit code %d\n%s", got.code, got.output)
		}
		// An exit code other than 0 would tell of changes.
		plan := measure(t, cluster, w, "plan", "-detailed-exitcode", "-no-color")
		t.Logf("%s: %d requests\n%s", detection, len(plan.requests), strings.Join(plan.requests, "\n"))
		for of, lists := range plan.listsOf {
			if lists > 1 {
				t.Errorf("%s: a plan lists %s %d times", detection, of, lists)
			}
		}
		if detection == detectReleases && len(plan.requests) > releases+3 {
			t.Errorf("%s: %d requests, want at most %d", detection, len(plan.requests), releases+3)
		}
	}
}

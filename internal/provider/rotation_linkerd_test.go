package provider

import (
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccRotation_linkerd rotates the anchor of 50 meshed pods in 10 namespaces,
// half of which Terraform knows nothing of, at once and then in stages.
func TestAccRotation_linkerd(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 2, Proxies: true})
	c := trustConfig{kubeconfig: cluster.Kubeconfig(), repository: cluster.Charts().Repository, mesh: "linkerd", controlPlane: shortLived}
	var foreign []string
	for range 5 {
		c.enrolled = append(c.enrolled, cluster.Namespace(t))
		foreign = append(foreign, injectedNamespace(t, cluster, "linkerd"))
	}
	w := newWorkspace(t, c.String())
	w.apply()

	for i, namespace := range c.enrolled {
		deploy(t, cluster, namespace, "web", 5)
		if i < 2 {
			budget(t, cluster, namespace, "web")
		}
	}
	createWorkload(t, cluster, "StatefulSet", foreign[0], "db")
	budget(t, cluster, foreign[0], "db")
	createWorkload(t, cluster, "DaemonSet", foreign[1], "agent")
	runMeshedJob(t, cluster, foreign[2])
	deploy(t, cluster, foreign[2], "api", 3)
	for _, namespace := range foreign {
		deploy(t, cluster, namespace, "back", 2)
		deploy(t, cluster, namespace, "web", 2)
	}
	awaitMeshed(t, cluster, 5*5+2+2+3+5*4)
	w.expectNoChanges()
	watch := watchTrust(t, cluster)
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))

	// Another issuer alone concerns nobody but the identity controller, which reads
	// it by itself.
	pods, before := podUIDs(t, cluster), revisions(t, cluster)
	issuer := w.attribute(issuerAddress, "fingerprint_sha256")
	c.renewal = "1"
	c.apply(w)
	if w.attribute(issuerAddress, "fingerprint_sha256") == issuer {
		t.Error("the issuer was not renewed")
	}
	w.expectNoChanges()
	if after := podUIDs(t, cluster); !slices.Equal(pods, after) {
		t.Errorf("the renewal of the issuer has made pods anew: %v, then %v", pods, after)
	}
	expectRestarts(t, cluster, before, 0)
	watch.expectUnbroken(t)

	c.trigger, c.rotation = "1", rotationComplete
	c.apply(w)
	w.expectNoChanges()
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))
	expectRestarts(t, cluster, before, 3)

	before = revisions(t, cluster)
	c.trigger, c.rotation = "2", rotationStaged
	w.write(c.String())
	applyStages(t, w, watch)
	w.expectNoChanges()
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))
	expectRestarts(t, cluster, before, 2)
}

// applyStages applies a configuration that begins a rotation until it is done, one
// stage at a time, each as announced by the plan before.
func applyStages(t *testing.T, w *workspace, watch *trustWatch) {
	t.Helper()
	stages := []string{"publish", "trust", "issue", "renew", "drop", "forget"}
	for i, stage := range stages {
		plan := w.run("plan", "-detailed-exitcode", "-no-color")
		if plan.code != 2 || !strings.Contains(plan.output, stage+": ") {
			t.Fatalf("the plan before stage %q: exit code %d\n%s", stage, plan.code, plan.output)
		}
		w.apply()
		watch.expectUnbroken(t)
		if left := rotationSteps(w); !slices.Equal(left, stages[i+1:]) {
			t.Fatalf("after stage %q there are %q, want %q", stage, left, stages[i+1:])
		}
	}
}

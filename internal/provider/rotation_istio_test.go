package provider

import (
	"slices"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccRotation_istio rotates the anchor of an Istio with a gateway at once,
// where pods are restarted, and in stages, where proxies learn everything by
// themselves.
func TestAccRotation_istio(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1, Proxies: true})
	c := trustConfig{
		kubeconfig: cluster.Kubeconfig(), repository: cluster.Charts().Repository, mesh: "istio",
		// Certificates that a test can wait for the end of.
		controlPlane: `values = { istiod = ["meshConfig: { defaultConfig: { proxyMetadata: { SECRET_TTL: 24s } } }"] }`,
	}
	var foreign []string
	for range 2 {
		foreign = append(foreign, injectedNamespace(t, cluster, "istio"))
		c.enrolled = append(c.enrolled, cluster.Namespace(t))
	}
	w := newWorkspace(t, c.String())
	w.apply()
	for _, namespace := range slices.Concat(foreign, c.enrolled) {
		deploy(t, cluster, namespace, "api", 2)
		deploy(t, cluster, namespace, "web", 3)
	}
	createWorkload(t, cluster, "StatefulSet", foreign[0], "db")
	budget(t, cluster, foreign[0], "db")
	awaitMeshed(t, cluster, 4*5+2)
	w.expectNoChanges()
	watch := watchTrust(t, cluster)
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))

	before := revisions(t, cluster)
	if _, counted := before["istio-system/istio-ingressgateway"]; !counted {
		t.Errorf("there is no gateway among %v", before)
	}
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
	expectRestarts(t, cluster, before, 0)
}

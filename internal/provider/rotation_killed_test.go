package provider

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccRotation_killed has the provider crash in every stage of a rotation,
// before requests that belong to it. Nobody does anything about it but apply
// again.
func TestAccRotation_killed(t *testing.T) {
	t.Parallel()
	for mesh, objects := range map[string]struct{ bundle, issuer, signing, other string }{
		"linkerd": {
			bundle: "/configmaps/linkerd-identity-trust-roots", issuer: "/secrets/linkerd-identity-issuer",
			signing: "/namespaces/linkerd/deployments/linkerd-identity", other: "/namespaces/linkerd/deployments/linkerd-destination",
		},
		"istio": {
			bundle: "/secrets/cacerts", issuer: "/secrets/cacerts",
			signing: "/namespaces/istio-system/deployments/istiod", other: "/namespaces/istio-system/deployments/istiod",
		},
	} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			cluster := testcluster.New(t, testcluster.Options{Nodes: 1, Proxies: true})
			proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
			c := trustConfig{
				kubeconfig: proxy.Kubeconfig(), repository: cluster.Charts().Repository, mesh: mesh, rotation: rotationComplete,
				enrolled: []string{cluster.Namespace(t)},
			}
			foreign := injectedNamespace(t, cluster, mesh)
			// One after the other, so that there is a half of them.
			c.issuer = fmt.Sprintf("restart = { max_parallel = 1, order = [\"Deployment/%s/web\", \"Deployment/%s/web\"] }", c.enrolled[0], foreign)
			if mesh == "istio" {
				c.controlPlane = `profile = "minimal"`
			}
			w := newWorkspace(t, c.String())
			w.apply()
			deploy(t, cluster, c.enrolled[0], "web", 5)
			deploy(t, cluster, foreign, "web", 5)
			awaitMeshed(t, cluster, 10)
			watch := watchTrust(t, cluster)
			watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))

			c.trigger = "1"
			w.write(c.String())
			written := func(path string) testcluster.Match { return request(http.MethodPatch, path) }
			half := written("/namespaces/" + foreign + "/deployments/web")
			for _, crash := range []struct {
				in     string
				moment testcluster.Match
			}{
				{"publish", written(objects.bundle)},
				{"publish, with the bundle out", written(objects.signing)},
				{"publish, with some of the control plane restarted", written(objects.other)},
				{"trust", half},
				{"issue, announced and not done", after(half, written(objects.issuer))},
				{"renew", half},
				{"drop", after(half, written(objects.bundle))},
				{"drop, with the bundle in", written(objects.signing)},
				{"forget", half},
				{"the end", after(half, written(objects.bundle))},
			} {
				killAt(w, proxy, crash.moment, "apply", "-auto-approve", "-no-color")
				t.Logf("%s: killed in stage %s", time.Now().Format(time.TimeOnly), crash.in)
				watch.expectUnbroken(t)
			}
			w.apply()
			w.expectNoChanges()
			watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))
		})
	}
}

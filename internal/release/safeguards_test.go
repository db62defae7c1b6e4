package release

import (
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

const safeguarded = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints: []
      containers:
      - {name: web, image: "registry.invalid/web:1", resources: {requests: {cpu: 10m, memory: 64Mi}}}
      - {name: side, image: "registry.invalid/side:1", resources: {requests: {cpu: 200m, memory: 1Gi}, limits: {memory: 1Gi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: "registry.invalid/agent:1", resources: {requests: {cpu: 50m}}}]}
`

// What admission makes of objects is neither drift nor a change; what others have
// done to them besides is both.
func TestAccSafeguards(t *testing.T) {
	t.Parallel()
	namespace := shared.Cluster(t).Namespace(t)
	shared.Cluster(t).Safeguards(t, namespace)
	desired := Desired{Objects: parse(t, safeguarded)}
	deploy(t, releasesBy(t, ""), namespace, "app", desired)
	drifts := func(want ...string) {
		t.Helper()
		got, err := open(t, releasesBy(t, ""), namespace, "app").Drift(t.Context())
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], namespace, "ns")
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("drift %q (%v), want %q", got, err, want)
		}
	}
	plans := func(desired Desired, want ...string) {
		t.Helper()
		if got := planned(t, releasesBy(t, ""), namespace, "app", desired); !slices.Equal(got, want) {
			t.Errorf("plan %q, want %q", got, want)
		}
	}
	drifts()
	plans(desired)

	const web = "spec.template.spec.containers[name=web]."
	patch(t, releasesBy(t, ""), kube.Deployment, namespace, "web", "kubectl-set",
		`{"spec":{"template":{"spec":{"containers":[
		  {"name":"web","image":"registry.invalid/web:2","resources":{"requests":{"cpu":"150m","memory":"100Mi"}}},
		  {"name":"side","image":"registry.invalid/side:1","resources":{"requests":{"cpu":"200m","memory":"1Gi"},"limits":{"memory":"1Gi"}}}]}}}}`)
	drifts("Deployment ns/web: "+web+`image: want "registry.invalid/web:1", is "registry.invalid/web:2"`,
		"Deployment ns/web: "+web+`resources.requests.cpu: want "10m", is "150m"`)
	desired.Force = true
	plans(desired, "! Deployment ns/web: "+web+`image: "registry.invalid/web:2" -> "registry.invalid/web:1"; `+web+`resources.requests.cpu: "150m" -> "100m"`)
	deploy(t, releasesBy(t, ""), namespace, "app", desired)
	drifts()
	plans(desired)

	// More than admission asks for is the release's own.
	desired.Objects = parse(t, strings.Replace(safeguarded, "cpu: 10m", "cpu: 200m", 1))
	plans(desired, "~ Deployment ns/web: "+web+`resources.requests.cpu: "10m" -> "200m"`)
	deploy(t, releasesBy(t, ""), namespace, "app", desired)
	drifts()
	plans(desired)
}

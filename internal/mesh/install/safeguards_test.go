package install_test

import (
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Workloads that admission gives other requests than the chart, as those of all
// meshes are in clusters with Deployment Safeguards, are as they should be.
func TestAccSafeguards(t *testing.T) {
	t.Parallel()
	p := place{t: t, charts: connect(t, "install-safeguards"), namespace: shared.Cluster(t).Namespace(t), name: "safeguards"}
	chart, err := p.charts.Load(t.Context(), chartDirectory(t, "", map[string]string{
		"values.yaml": "cpu: 10m\n",
		"templates/all.yaml": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
      containers:
      - {name: web, image: "registry.invalid/web:1", resources: {requests: {cpu: {{ .Values.cpu }}, memory: 20Mi}}}
      - {name: proxy, image: "registry.invalid/proxy:1"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cni}
spec:
  selector: {matchLabels: {app: cni}}
  template:
    metadata: {labels: {app: cni}}
    spec: {containers: [{name: cni, image: "registry.invalid/cni:1", resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}}}]}
`,
	}), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	p.chart = chart
	shared.Cluster(t).Safeguards(t, p.namespace)

	release := p.release("{}")
	p.apply(release)
	p.drifts()
	p.foresees(release)

	p.patch(p.ref(kube.Deployment, "web"), "kubectl-set", map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
		map[string]any{"name": "web", "image": "registry.invalid/web:2", "resources": map[string]any{"requests": map[string]any{"cpu": "150m", "memory": "100Mi"}}},
		map[string]any{"name": "proxy", "image": "registry.invalid/proxy:1"},
	}}}}})
	web := "Deployment " + p.namespace + "/web: spec.template.spec.containers[name=web]."
	p.drifts(web+`image: want "registry.invalid/web:1", is "registry.invalid/web:2"`, web+`resources.requests.cpu: want "10m", is "150m"`)
	p.apply(release)
	p.drifts()

	upgrade := p.release("{cpu: 200m}")
	p.foresees(upgrade, `~ Deployment NS/web: spec.template.spec.containers[name=web].resources.requests.cpu: "10m" -> "200m"`)
	p.apply(upgrade)
	p.drifts()
	p.foresees(upgrade)
}

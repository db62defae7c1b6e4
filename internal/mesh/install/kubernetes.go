package install

import (
	"fmt"

	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// KubernetesError tells that a chart is not made for the cluster's Kubernetes.
type KubernetesError struct {
	Chart, ChartVersion string
	Wants               string // the chart's range
	Version             string // the cluster's
}

func (e *KubernetesError) Error() string {
	return fmt.Sprintf("chart %s %s wants Kubernetes %s, and the cluster runs %s: choose a version of the chart for it, or upgrade the cluster first",
		e.Chart, e.ChartVersion, e.Wants, e.Version)
}

// CheckKubernetes refuses a chart that is not made for a version of Kubernetes
// (v1.36.2), with a *[KubernetesError].
func CheckKubernetes(chart *helm.Chart, version string) error {
	if wants := chart.KubeVersion(); wants != "" && !chartutil.IsCompatibleRange(wants, version) {
		return &KubernetesError{Chart: chart.Name(), ChartVersion: chart.Version(), Wants: wants, Version: version}
	}
	return nil
}

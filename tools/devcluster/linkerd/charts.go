package linkerd

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
)

// Names of the stand-in charts.
const (
	CRDsChart         = "linkerd-crds"
	ControlPlaneChart = "linkerd-control-plane"
	CNIChart          = "linkerd2-cni"
	VizChart          = "linkerd-viz"
	MulticlusterChart = "linkerd-multicluster"
	JaegerChart       = "linkerd-jaeger"
)

//go:embed all:charts
var chartFiles embed.FS

// A release is one version of all charts.
type release struct {
	// chart numbers the charts, app the control plane and its proxies.
	chart, app string
	// kubernetes is the range of versions the charts accept.
	kubernetes string
	// jaeger says whether there is that extension.
	jaeger bool
}

// releases lists the oldest first: Linkerd 2.17, whose meshed traffic keeps
// the application's port and whose proxies are ordinary containers, 2.18, which
// keeps the types of the Gateway API, 2.19, which does not bring them, 2.20 and an
// edge release after it.
func releases() []release {
	return []release{
		{chart: "2024.11.8", app: "edge-24.11.8", kubernetes: ">=1.22.0-0", jaeger: true},
		{chart: "2025.4.4", app: "edge-25.4.4", kubernetes: ">=1.23.0-0", jaeger: true},
		{chart: "2025.10.7", app: "edge-25.10.7", kubernetes: ">=1.23.0-0"},
		{chart: "2026.6.3", app: "edge-26.6.3", kubernetes: ">=1.31.0-0"},
		{chart: "2026.8.3", app: "edge-26.8.3", kubernetes: ">=1.31.0-0"},
	}
}

// names are the charts of a release.
func (r release) names() []string {
	names := []string{CRDsChart, ControlPlaneChart, CNIChart, VizChart, MulticlusterChart}
	if r.jaeger {
		names = append(names, JaegerChart)
	}
	return names
}

// Charts packages all stand-in charts in every version, oldest first.
func Charts() ([]charts.Archive, error) {
	var archives []charts.Archive
	for _, r := range releases() {
		for _, name := range r.names() {
			archive, err := r.archive(name)
			if err != nil {
				return nil, fmt.Errorf("chart %s %s: %w", name, r.chart, err)
			}
			archives = append(archives, archive)
		}
	}
	return archives, nil
}

func (r release) archive(name string) (charts.Archive, error) {
	files, err := fs.Sub(chartFiles, path.Join("charts", name))
	if err != nil {
		return charts.Archive{}, err
	}
	fill := strings.NewReplacer(
		"0.0.0-undefined", r.chart,
		"edge-XX.X.X", r.app,
		"linkerdVersionValue", r.app,
		`kubeVersion: ">=1.31.0-0"`, fmt.Sprintf("kubeVersion: %q", r.kubernetes),
	)
	var shared []fs.FS
	if name != CRDsChart {
		partials, err := fs.Sub(chartFiles, "charts/partials")
		if err != nil {
			return charts.Archive{}, err
		}
		shared = append(shared, partials)
	}
	return charts.Package(files, func(file string, data []byte) ([]byte, error) {
		switch file {
		case "Chart.yaml":
			return []byte(fill.Replace(string(data))), nil
		case "values.yaml":
			return r.values(name, []byte(fill.Replace(string(data))))
		default:
			return data, nil
		}
	}, shared...)
}

// values lays over the chart's values what this release has otherwise.
func (r release) values(name string, data []byte) ([]byte, error) {
	own, err := chartFiles.ReadFile(path.Join("charts", r.chart, name+".yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return data, nil
	}
	if err != nil {
		return nil, err
	}
	base, overlay := map[string]any{}, map[string]any{}
	if err := yaml.Unmarshal(data, &base); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(own, &overlay); err != nil {
		return nil, fmt.Errorf("values of %s: %w", r.chart, err)
	}
	return yaml.Marshal(chartutil.CoalesceTables(overlay, base))
}

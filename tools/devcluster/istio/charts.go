// Package istio is Istio in the embedded cluster, as far as possible the real
// one: the charts of Istio's own Go module, and istiod itself as a host
// process behind the objects that those charts install. Injection, validation
// and the certificate authority are therefore Istio's own. What needs a node's
// kernel cannot run here: ztunnel does nothing, and the node agent of istio-cni
// is a stand-in that enrols pods in the ambient mode as the real one does,
// without redirecting anything.
package istio

import (
	"bytes"
	"fmt"
	"io/fs"

	"helm.sh/helm/v3/pkg/chart"
	"istio.io/istio/manifests"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
)

// The releases that Charts stamps. Their content is the same, so an upgrade from
// one to the other changes what a release always changes: chart labels and
// images.
const (
	// FirstVersion is there for what must not be upgraded to Version at once.
	FirstVersion    = "1.29.4"
	PreviousVersion = "1.30.2"
	Version         = "1.31.0"
)

// Versions are all of them, oldest first.
func Versions() []string { return []string{FirstVersion, PreviousVersion, Version} }

// The image hub that Istio's charts name in the source tree, and the one its
// releases name instead.
const (
	sourceHub  = "registry.istio.io/testing"
	releaseHub = "registry.istio.io/release"
)

// Charts packages what Istio publishes for end users (base, istiod, cni,
// ztunnel and gateway), each in all Versions.
func Charts() ([]charts.Archive, error) {
	var archives []charts.Archive
	for _, dir := range []string{"base", "istio-control/istio-discovery", "istio-cni", "ztunnel", "gateway"} {
		files, err := fs.Sub(manifests.FS, "charts/"+dir)
		if err != nil {
			return nil, fmt.Errorf("chart %s of the Istio module: %w", dir, err)
		}
		for _, version := range Versions() {
			archive, err := charts.Package(files, stamp(version))
			if err != nil {
				return nil, fmt.Errorf("chart %s of the Istio module: %w", dir, err)
			}
			archives = append(archives, archive)
		}
	}
	return archives, nil
}

// stamp does to a chart what Istio's release builder does: the source tree
// holds placeholders where a published chart names its version and images.
func stamp(version string) func(string, []byte) ([]byte, error) {
	return func(name string, data []byte) ([]byte, error) {
		switch name {
		case "Chart.yaml":
			var metadata chart.Metadata
			if err := yaml.Unmarshal(data, &metadata); err != nil {
				return nil, err
			}
			metadata.Version, metadata.AppVersion = version, version
			return yaml.Marshal(metadata)
		case "values.yaml":
			// Textual, as the release builder's is: the comments are the
			// documentation that `helm show values` prints.
			data = bytes.ReplaceAll(data, []byte("hub: "+sourceHub), []byte("hub: "+releaseHub))
			data = bytes.ReplaceAll(data, []byte("tag: latest"), []byte("tag: "+version))
		}
		return data, nil
	}
}

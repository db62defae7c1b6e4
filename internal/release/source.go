package release

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
)

// Object is one object and where it was read.
type Object struct {
	*unstructured.Unstructured
	Source string // for messages: "emojivoto.yaml, document 2 (line 14)"
}

// Manifest is YAML or JSON text of any number of documents.
type Manifest struct {
	Source string // for messages: a file name, a URL
	Text   string
}

// ReadManifest reads a manifest from a file. The error wraps [os.ErrNotExist] if
// there is none.
func ReadManifest(file string) (Manifest, error) {
	text, err := os.ReadFile(file) //nolint:gosec // The path is the manifest that the user wants deployed.
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return Manifest{Source: file, Text: string(text)}, nil
}

// ParseManifests reads the objects of manifests. Lists are taken apart,
// documents of nothing but comments are passed over. Errors name the source, the
// document and its line, and quote nothing: documents may be Secrets.
func ParseManifests(manifests ...Manifest) ([]Object, error) {
	var objects []Object
	for _, m := range manifests {
		read, err := manifest.Objects(m.Text)
		if err != nil {
			return nil, fmt.Errorf("%s, %w", m.Source, err)
		}
		for _, object := range read {
			objects = append(objects, Object{Unstructured: object.Unstructured, Source: m.Source + ", " + object.Place})
		}
	}
	return objects, nil
}

// Render renders a chart with values for the cluster as it is now, the CRDs
// beside its templates and its hooks included. The template function lookup sees
// the cluster, so that a chart that keeps what it has generated renders the same
// again. At another time it does not: see [Desired.Again].
func (r *Release) Render(ctx context.Context, chart *helm.Chart, values map[string]any, otherTime bool) ([]Object, error) {
	rendered, err := r.releases.Charts.Template(ctx, helm.RenderRequest{
		Namespace: r.namespace, Name: r.name, Chart: chart, Values: values, IsUpgrade: r.installed(), OtherTime: otherTime,
	})
	if err != nil {
		return nil, err
	}
	var objects []Object
	for _, part := range append(append(rendered.CRDs, rendered.Manifest), rendered.Hooks...) {
		read, err := manifest.Objects(part)
		if err != nil {
			return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
		}
		for _, object := range read {
			source := cmp.Or(object.Template, "chart "+chart.Name())
			objects = append(objects, Object{Unstructured: object.Unstructured, Source: source})
		}
	}
	return objects, nil
}

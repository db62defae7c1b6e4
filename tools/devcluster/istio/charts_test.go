package istio_test

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
)

func TestChartsRenderAsReleases(t *testing.T) {
	t.Parallel()
	archives, err := istio.Charts()
	if err != nil {
		t.Fatal(err)
	}
	// What each chart must render, with the version in place of V.
	want := map[string]string{
		"base":    "kind: CustomResourceDefinition",
		"istiod":  `image: "registry.istio.io/release/pilot:V`,
		"cni":     `image: "registry.istio.io/release/install-cni:V`,
		"ztunnel": `image: "registry.istio.io/release/ztunnel:V`,
		"gateway": "image: auto",
	}
	found := map[string]int{}
	for _, archive := range archives {
		found[archive.Name]++
		for _, profile := range []string{"", "demo"} {
			t.Run(archive.Name+" "+archive.Version+" "+profile, func(t *testing.T) {
				t.Parallel()
				got := render(t, archive, profile)
				if want := strings.ReplaceAll(want[archive.Name], "V", archive.Version); !strings.Contains(got, want) {
					t.Errorf("nothing like %q is rendered", want)
				}
				if !strings.Contains(got, "app.kubernetes.io/version: \""+archive.Version+"\"") {
					t.Errorf("no object is labelled as of version %s", archive.Version)
				}
				for _, placeholder := range []string{"registry.istio.io/testing", ":latest", "1.0.0"} {
					if strings.Contains(got, placeholder) {
						t.Errorf("%q of the source tree is rendered", placeholder)
					}
				}
			})
		}
	}
	for name := range want {
		if want := len(istio.Versions()); found[name] != want {
			t.Errorf("chart %s occurs in %d versions, want %d", name, found[name], want)
		}
	}
	if len(found) != len(want) {
		t.Errorf("charts are %v", found)
	}
}

// render renders all templates of archive as Helm does on a cluster of the
// embedded version.
func render(t *testing.T, archive charts.Archive, profile string) string {
	t.Helper()
	c, err := archive.Chart()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if profile != "" {
		values["profile"] = profile
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, values,
		chartutil.ReleaseOptions{Name: "istio", Namespace: "istio-system", Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for name, content := range rendered {
		if !strings.HasSuffix(name, "NOTES.txt") {
			b.WriteString(content)
		}
	}
	return b.String()
}

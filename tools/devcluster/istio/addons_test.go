package istio_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/clustertest"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
)

func TestAddons(t *testing.T) {
	t.Parallel()
	source, err := clustertest.Builder(t).Source(t.Context(), istio.Module)
	if err != nil {
		t.Fatal(err)
	}
	addons, err := istio.Addons(os.DirFS(source))
	if err != nil {
		t.Fatal(err)
	}
	for name, versions := range map[string][]string{
		"prometheus.yaml":               istio.Versions(),
		"grafana.yaml":                  istio.Versions(),
		"jaeger.yaml":                   istio.Versions(),
		"kiali.yaml":                    istio.Versions(),
		"loki.yaml":                     istio.Versions(),
		"extras/prometheus_vm.yaml":     {istio.FirstVersion},
		"extras/prometheus_vm_tls.yaml": {istio.FirstVersion},
	} {
		for _, version := range istio.Versions() {
			path := "istio/" + version + "/samples/addons/" + name
			data, found := addons[path]
			if want := slices.Contains(versions, version); found != want {
				t.Errorf("%s: found is %t, want %t", path, found, want)
			}
			deployed := false
			for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
				var object unstructured.Unstructured
				if err := yaml.Unmarshal(document, &object.Object); err != nil {
					t.Errorf("%s: %v", path, err)
				}
				deployed = deployed || object.GetKind() == "Deployment" || object.GetKind() == "StatefulSet"
			}
			if found && !deployed {
				t.Errorf("%s has no workload", path)
			}
		}
	}
}

package gatewayapi_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/clustertest"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/gatewayapi"
)

const bundleVersion = "gateway.networking.k8s.io/bundle-version"

// module is the source of the Gateway API.
func module(t *testing.T) fs.FS {
	t.Helper()
	dir, err := clustertest.Builder(t).Source(t.Context(), gatewayapi.Module)
	if err != nil {
		t.Fatal(err)
	}
	return os.DirFS(dir)
}

func TestManifestsAreOfTheirVersions(t *testing.T) {
	t.Parallel()
	manifests, err := gatewayapi.Manifests(module(t))
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		"v1.2.1": "gatewayclasses gateways grpcroutes httproutes referencegrants",
		"v1.5.1": "backendtlspolicies gatewayclasses gateways grpcroutes httproutes listenersets referencegrants tlsroutes",
		"v1.6.0": "backendtlspolicies gatewayclasses gateways grpcroutes httproutes listenersets referencegrants tcproutes tlsroutes udproutes",
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			var types []string
			policies := 0
			for document := range bytes.SplitSeq(manifests["gateway-api/"+version+"/standard-install.yaml"], []byte("\n---\n")) {
				var crd apiextensionsv1.CustomResourceDefinition
				if err := yaml.Unmarshal(document, &crd); err != nil {
					t.Fatal(err)
				}
				if crd.Annotations[bundleVersion] != version {
					t.Errorf("%s %s is of version %q", crd.Kind, crd.Name, crd.Annotations[bundleVersion])
				}
				if crd.Kind != "CustomResourceDefinition" {
					policies++
					continue
				}
				types = append(types, crd.Spec.Names.Plural)
			}
			if got := strings.Join(types, " "); got != want {
				t.Errorf("types are %s, want %s", got, want)
			}
			if (policies > 0) != (version == "v1.6.0") {
				t.Errorf("%d objects are of the admission policy", policies)
			}
		})
	}
}

func TestInstallAsAKSDoes(t *testing.T) {
	t.Parallel()
	source := module(t)
	c, err := cluster.Start(t.Context(), cluster.Options{
		Binaries: clustertest.Builder(t),
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Prepare: func(ctx context.Context, config *rest.Config) error {
			return gatewayapi.Install(ctx, config, source)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := clientset.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	routes, err := client.ApiextensionsV1().CustomResourceDefinitions().
		Get(t.Context(), "httproutes.gateway.networking.k8s.io", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := routes.Annotations; got["app.kubernetes.io/managed-by"] != "aks" || got[bundleVersion] != "v1.5.1" {
		t.Errorf("annotations are %v", got)
	}
	if err := client.RESTClient().Get().AbsPath("/apis/gateway.networking.k8s.io/v1/httproutes").Do(t.Context()).Error(); err != nil {
		t.Errorf("routes are not served once the cluster has started: %v", err)
	}
}

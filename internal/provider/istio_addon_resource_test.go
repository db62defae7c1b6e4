package provider

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const addonAddress = "aksmesh_istio_addon.this"

// addonConfig is one addon, of Istio 1.31.0 unless the body says otherwise.
func addonConfig(cluster *testcluster.Cluster, name, version, source, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(
		"resource \"aksmesh_istio_addon\" \"this\" {\n  name = %q\n  version = %q\n  source = %q\n  %s\n}", name, version, source, body))
}

// customAddon has an object of a kind of its own before the kind.
const customAddon = `
apiVersion: addons.example.com/v1
kind: Dashboard
metadata: {name: mesh, namespace: istio-system}
spec: {panels: %d}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: dashboards.addons.example.com}
spec:
  group: addons.example.com
  scope: Namespaced
  names: {kind: Dashboard, plural: dashboards, singular: dashboard}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {panels: {type: integer}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: dashboard-settings, namespace: istio-system}
data: {theme: dark}
`

// TestAccIstioAddon takes an addon through its life, whose manifests are in a
// directory and have a CRD and an object of its kind.
func TestAccIstioAddon(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	source := t.TempDir()
	write := func(version string, panels int) {
		extras := filepath.Join(source, version, "samples", "addons", "extras")
		if err := os.MkdirAll(extras, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(extras, "prometheus_vm.yaml"), fmt.Appendf(nil, customAddon, panels), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1.29.4", 1)
	write("1.30.2", 2)
	config := func(version string) string {
		return addonConfig(cluster, "prometheus_vm", version, filepath.Join(source, version), "")
	}
	changes := func(action plancheck.ResourceActionType, lines ...string) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			plancheck.ExpectResourceAction(addonAddress, action),
			plancheck.ExpectKnownValue(addonAddress, tfjsonpath.New("changes"), texts(lines...)),
		}}
	}
	const settings = "/api/v1/namespaces/istio-system/configmaps/dashboard-settings"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: func(*terraform.State) error {
			left, err := cluster.Client().CoreV1().ConfigMaps(istioSystem).List(context.WithoutCancel(t.Context()), metav1.ListOptions{FieldSelector: "metadata.name=dashboard-settings"})
			if err == nil && len(left.Items) > 0 {
				err = fmt.Errorf("a ConfigMap of the addon is left")
			}
			return err
		},
		Steps: []resource.TestStep{
			{
				Config: config("1.29.4"),
				ConfigPlanChecks: changes(plancheck.ResourceActionCreate,
					"+ CustomResourceDefinition dashboards.addons.example.com", "+ ConfigMap istio-system/dashboard-settings", "+ Dashboard istio-system/mesh"),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(addonAddress, tfjsonpath.New("id"), knownvalue.StringExact("prometheus_vm")),
					statecheck.ExpectKnownValue(addonAddress, tfjsonpath.New("objects"), texts(
						"CustomResourceDefinition dashboards.addons.example.com", "ConfigMap istio-system/dashboard-settings", "Dashboard istio-system/mesh")),
					statecheck.ExpectKnownValue(addonAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
				},
			},
			{
				ResourceName: addonAddress, ImportState: true, ImportStateId: "prometheus_vm",
				ImportStateVerify: true, ImportStateVerifyIgnore: []string{"changes"},
			},
			{
				PreConfig: func() { patch(t, cluster, settings, `{"data":{"theme":"light"}}`) },
				Config:    config("1.29.4"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(addonAddress, plancheck.ResourceActionUpdate),
				}},
				Check: func(*terraform.State) error {
					live, err := cluster.Client().CoreV1().ConfigMaps(istioSystem).Get(t.Context(), "dashboard-settings", metav1.GetOptions{})
					if err == nil && live.Data["theme"] != "dark" {
						err = fmt.Errorf("the theme is still %s", live.Data["theme"])
					}
					return err
				},
			},
			{
				Config:           config("1.30.2"),
				ConfigPlanChecks: changes(plancheck.ResourceActionUpdate, "~ Dashboard istio-system/mesh: spec.panels: 1 -> 2"),
			},
			{
				// The files of a directory are looked at again.
				PreConfig:        func() { write("1.30.2", 3) },
				Config:           config("1.30.2"),
				ConfigPlanChecks: changes(plancheck.ResourceActionUpdate, "~ Dashboard istio-system/mesh: spec.panels: 2 -> 3"),
			},
			{
				Config:      addonConfig(cluster, "prometheus_vm", "1.31.0", cluster.Charts().IstioSource("1.31.0"), ""),
				PlanOnly:    true,
				ExpectError: regexp.MustCompile(`(?s)version: .*1\.31\.0\s+has\s+no\s+addon\s+prometheus_vm,\s+only\s+grafana,\s+jaeger,\s+kiali,\s+loki,\s+prometheus:`),
			},
		},
	})
}

// TestAccIstioAddon_each deploys what Istio has itself, all at once and over
// HTTP. It wants all of it ready, and nothing to do afterwards.
func TestAccIstioAddon_each(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	var bodies []string
	for _, name := range []string{"prometheus", "grafana", "jaeger", "kiali", "loki"} {
		bodies = append(bodies, fmt.Sprintf("resource \"aksmesh_istio_addon\" %[1]q {\n  name = %[1]q\n  version = \"1.31.0\"\n  source = %[2]q\n}", name, cluster.Charts().IstioSource("1.31.0")))
	}
	config := providerConfig(cluster.Kubeconfig(), bodies...)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config: config,
				Check: func(*terraform.State) error {
					ready := map[string]int32{}
					deployments, err := cluster.Client().AppsV1().Deployments(istioSystem).List(t.Context(), metav1.ListOptions{})
					if err != nil {
						return err
					}
					for _, d := range deployments.Items {
						ready[d.Name] = d.Status.ReadyReplicas
					}
					delete(ready, "istiod")
					if want := map[string]int32{"prometheus": 1, "grafana": 1, "jaeger": 1, "kiali": 1}; !maps.Equal(ready, want) {
						return fmt.Errorf("ready pods are %v, want %v", ready, want)
					}
					return nil
				},
			},
			{Config: config, PlanOnly: true},
		},
	})
}

// TestAccIstioAddon_withoutIstio wants the cure named, and nothing made.
func TestAccIstioAddon_withoutIstio(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config:      addonConfig(cluster, "kiali", "1.31.0", cluster.Charts().IstioSource("1.31.0"), ""),
			ExpectError: regexp.MustCompile(`(?s)namespace\s+istio-system.*install\s+Istio\s+there\s+first`),
		}},
	})
}

func TestIstioAddon_invalid(t *testing.T) {
	t.Parallel()
	expectInvalid(t, "aksmesh_istio_addon", map[string]invalidInput{
		`name = "zipkin"` + "\nversion = \"1.31.0\"":                                       {"name", "prometheus_vm_tls"},
		`name = "kiali"` + "\nversion = \"1.31\"":                                          {"version", "exact version"},
		`name = "kiali"` + "\nversion = \"1.31.0\"\nsource = \"http://example.com/istio\"": {"source", "not reached by https"},
	})
}

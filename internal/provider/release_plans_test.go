package provider

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccRelease_successor has a first apply take objects over and fail. What
// Terraform calls a replacement then deletes none of them.
func TestAccRelease_successor(t *testing.T) {
	t.Parallel()
	for name, lifecycle := range map[string]string{
		"destroyed first": "",
		"created first":   "\n lifecycle { create_before_destroy = true }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := plainCluster.Cluster(t)
			namespace := cluster.Namespace(t)
			uids := func() (found [2]types.UID) {
				settings, err := cluster.Client().CoreV1().ConfigMaps(namespace).Get(t.Context(), "settings", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				web, err := cluster.Client().AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return [2]types.UID{settings.UID, web.UID}
			}
			config := func(image string) string {
				return releaseConfig(cluster, namespace, manifestsOf(strings.ReplaceAll(webManifest, "web:1", "web:"+image),
					"apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\ndata: { color: red }\n")+
					"\n take_ownership = true\n timeouts = { create = \"20s\" }"+lifecycle)
			}
			_, err := cluster.Client().CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
				Name: "settings", Annotations: map[string]string{"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": namespace},
			}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var before [2]types.UID
			stay := func(*terraform.State) error {
				if after := uids(); after != before {
					return fmt.Errorf("the objects are %v, and were %v", after, before)
				}
				return nil
			}
			replaces := plancheck.ResourceActionDestroyBeforeCreate
			if lifecycle != "" {
				replaces = plancheck.ResourceActionCreateBeforeDestroy
			}
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				CheckDestroy:             objectsGone(t, cluster, namespace, 0),
				Steps: []resource.TestStep{
					{Config: config("does-not-exist"), ExpectError: regexp.MustCompile(`(?s)Deployment\s+` + namespace + `/web`)},
					{
						PreConfig: func() { before = uids() },
						Config:    config("2"),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(releaseAddress, replaces),
						}},
						Check: stay,
					},
					{Config: config("2"), PlanOnly: true},
					{
						Config: config("2"),
						Taint:  []string{releaseAddress},
						Check:  stay,
					},
				},
			})
		})
	}
}

// TestAccRelease_uncertain applies plans that cannot say what the apply is going
// to change.
func TestAccRelease_uncertain(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)

	t.Run("kind of another release", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		kind := fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: gauges.%[1]s.example.com }
spec:
  group: %[1]s.example.com
  scope: Namespaced
  names: { kind: Gauge, plural: gauges }
  versions:
    - { name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }
`, namespace)
		gauge := fmt.Sprintf("apiVersion: %s.example.com/v1\nkind: Gauge\nmetadata: { name: first }\n", namespace)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{{
				Config: releaseConfig(cluster, namespace, manifestsOf(gauge)+"\n depends_on = [aksmesh_release.kinds]") + fmt.Sprintf(
					"\nresource \"aksmesh_release\" \"kinds\" {\n name = \"kinds\"\n namespace = %q\n prune_crds = true\n %s\n}", namespace, manifestsOf(kind)),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(releaseAddress, tfjsonpath.New("changes")),
				}},
				Check: resource.TestCheckResourceAttr(releaseAddress, "changes.0", "+ Gauge "+namespace+"/first"),
			}},
		})
	})

	t.Run("planned without rights", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
		config := func(image string) string {
			return providerConfig(proxy.Kubeconfig(), releaseBody(namespace, manifestsOf(strings.ReplaceAll(webManifest, "web:1", "web:"+image))))
		}
		w := newWorkspace(t, config("1"))
		w.apply()
		w.write(config("2"))
		proxy.Set(testcluster.FaultForbidden, both(request(http.MethodPatch, "/deployments/web"), func(r *http.Request) bool { return r.URL.Query().Get("dryRun") != "" }))
		got := w.succeed("plan", "-out=planned", "-no-color")
		for _, want := range []string{"a dry run is forbidden", "~ Deployment " + namespace + "/web: ", "web:2"} {
			if !strings.Contains(got.output, want) {
				t.Errorf("the plan does not say %q\n%s", want, got.output)
			}
		}
		proxy.Clear()
		w.succeed("apply", "-auto-approve", "-no-color", "planned")
		w.expectNoChanges()
		w.succeed("destroy", "-auto-approve", "-no-color")
	})
}

// TestAccRelease_withoutWait leaves pods as they are that no apply waits for.
func TestAccRelease_withoutWait(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	config := func(wait bool) string {
		return releaseConfig(cluster, namespace, manifestsOf(webManifest)+fmt.Sprintf("\n mesh = { linkerd = {} }\n wait = %t", wait))
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config(true), ConfigStateChecks: meshedPods(1)},
			{Config: config(false), ConfigStateChecks: meshedPods(1)},
			{
				PreConfig: func() { slipPast(t, cluster, namespace, "web") },
				Config:    config(false),
				PlanOnly:  true,
			},
			{
				Config:            config(true),
				ConfigPlanChecks:  resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(releaseAddress, plancheck.ResourceActionUpdate)}},
				ConfigStateChecks: meshedPods(1),
			},
		},
	})
}

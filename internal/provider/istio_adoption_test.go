package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// applyManifests installs what a chart renders to as istioctl does: object by
// object, under its field manager, with no release of Helm's.
func applyManifests(t *testing.T, cluster *testcluster.Cluster, chart, name string, change func(*unstructured.Unstructured)) {
	t.Helper()
	c := connect(t, cluster)
	charts, err := testCharts(c)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := charts.Load(t.Context(), cluster.Charts().Repository, chart, istioOld)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := charts.Releases.Template(t.Context(), helm.RenderRequest{Namespace: istioSystem, Name: name, Chart: loaded})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := rendered.Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		kind, err := c.KindFor(t.Context(), object.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		if kind.Namespaced {
			object.SetNamespace(cmp.Or(object.GetNamespace(), istioSystem))
		}
		change(object)
		if _, err := c.Apply(t.Context(), object, kube.ApplyOptions{Manager: "istio-operator", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAccIstio_istioctl takes over what istioctl has installed: nothing is made
// anew, and a gateway that would have to be is left alone.
func TestAccIstio_istioctl(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	client := cluster.Client()
	c := connect(t, cluster)
	if _, err := c.HoldNamespace(t.Context(), kube.Hold{Namespace: istioSystem, Holder: "test"}); err != nil {
		t.Fatal(err)
	}
	asIs := func(*unstructured.Unstructured) {}
	applyManifests(t, cluster, "base", "istio-base", asIs)
	applyManifests(t, cluster, "istiod", "istiod", asIs)
	applyManifests(t, cluster, "gateway", "istio-ingressgateway", asIs)
	applyManifests(t, cluster, "gateway", "istio-egressgateway", func(o *unstructured.Unstructured) {
		// As somebody's profile may have it.
		for _, way := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
			if labels, found, err := unstructured.NestedStringMap(o.Object, way...); err == nil && found && o.GetKind() == "Deployment" {
				labels["istio"] = "mine"
				if err := unstructured.SetNestedStringMap(o.Object, labels, way...); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	makeTag(t, client, "istio-revision-tag-default")
	uids := func() (found map[string]types.UID) {
		deployments, err := client.AppsV1().Deployments(istioSystem).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		found = map[string]types.UID{}
		for _, d := range deployments.Items {
			found[d.Name] = d.UID
		}
		return found
	}
	before := uids()
	owned := func(name string) (bool, error) {
		d, err := client.AppsV1().Deployments(istioSystem).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return d.Annotations["meta.helm.sh/release-name"] == name && d.UID == before[name], nil
	}
	config := istioConfig(cluster, istioOld, `
	  profile     = "demo"
	  delete_crds = true`)

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: func(*terraform.State) error {
			_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(context.WithoutCancel(t.Context()), "istio-revision-tag-default", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("the tag that leads to an istiod which is gone is left: %w", err)
			}
			return nil
		},
		Steps: []resource.TestStep{
			{Config: config, ExpectError: regexp.MustCompile(`(?s)istiod.*no\s+Helm\s+release.*terraform\s+import\s+<address>\s+istio-system`)},
			{Config: config, ResourceName: istioAddress, ImportState: true, ImportStateId: istioSystem, ImportStatePersist: true},
			// Nothing tells yet what belongs to it.
			{Config: config, Destroy: true, ExpectError: regexp.MustCompile(`(?s)no\s+Helm\s+release.*istioctl\s+uninstall`)},
			{
				Config: config,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(istioAddress, plancheck.ResourceActionUpdate),
					planLines{istioAddress, "drift", []string{"istioctl"}},
				}},
				Check: func(*terraform.State) error {
					for name, want := range map[string]bool{"istiod": true, "istio-ingressgateway": true, "istio-egressgateway": false} {
						got, err := owned(name)
						if err != nil {
							return err
						}
						if got != want {
							return fmt.Errorf("Deployment %s is of a release: %t, want %t, and UID %s", name, got, want, before[name])
						}
					}
					if after := uids(); len(after) != len(before) {
						return errors.New("there are other Deployments than before")
					}
					return nil
				},
			},
		},
	})
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// extensionTest is a cluster with Linkerd, for extensions to come and go.
type extensionTest struct {
	*testing.T

	cluster *testcluster.Cluster
	kube    *kube.Cluster
}

// config is one extension from the cluster's own chart server.
func (x extensionTest) config(name, version, body string) string {
	if !strings.Contains(body, "repository") {
		body += fmt.Sprintf("\n  repository = %q", x.cluster.Charts().Repository)
	}
	return providerConfig(x.cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_linkerd_extension\" %q {\n  name = %[1]q\n  version = %q\n  %s\n}\n", name, version, body))
}

func (x extensionTest) get(ref kube.Ref) *unstructured.Unstructured {
	x.Helper()
	object, err := x.kube.Get(x.Context(), ref)
	if err != nil {
		x.Fatal(err)
	}
	return object
}

// amend changes an object as somebody else would.
func (x extensionTest) amend(ref kube.Ref, change map[string]any) {
	x.Helper()
	if _, err := x.kube.Amend(x.Context(), x.get(ref), change, "kubectl-edit"); err != nil {
		x.Fatal(err)
	}
}

// cordon keeps pods away from some of the nodes, or lets them come back.
func (x extensionTest) cordon(nodes int, away bool) {
	x.Helper()
	all, err := x.cluster.Client().CoreV1().Nodes().List(x.Context(), metav1.ListOptions{})
	if err != nil {
		x.Fatal(err)
	}
	for _, node := range all.Items[:nodes] {
		x.amend(kube.Ref{Kind: kube.Node, Name: node.Name}, map[string]any{"spec": map[string]any{"unschedulable": away}})
	}
}

// otherControlPlane is a namespace with what extensions look at of a control
// plane of an edge version, and where that is.
func (x extensionTest) otherControlPlane(version string) kube.Ref {
	x.Helper()
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: x.cluster.Namespace(x), Name: "linkerd-config"}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ref.Name}, Data: controlPlaneConfig(version)}
	if _, err := x.cluster.Client().CoreV1().ConfigMaps(ref.Namespace).Create(x.Context(), config, metav1.CreateOptions{}); err != nil {
		x.Fatal(err)
	}
	return ref
}

func controlPlaneConfig(version string) map[string]string {
	return map[string]string{"values": "linkerdVersion: " + version + "\nclusterDomain: cluster.local\n"}
}

// tapsServed checks that the API server reaches the API of taps.
func (x extensionTest) tapsServed(*terraform.State) error {
	x.Helper()
	_, err := x.cluster.Client().Discovery().ServerResourcesForGroupVersion("tap.linkerd.io/v1alpha1")
	return err
}

// gone checks that a destroy has left none of some objects.
func (x extensionTest) gone(refs ...kube.Ref) resource.TestCheckFunc {
	x.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), time.Minute)
		defer cancel()
		for _, ref := range refs {
			if _, err := x.kube.Get(ctx, ref); !errors.Is(err, kube.ErrNotFound) {
				return fmt.Errorf("%s is left: %w", ref, err)
			}
		}
		return nil
	}
}

// installed puts the objects of a chart into the cluster as `linkerd viz install`
// does: without a Helm release.
func (x extensionTest) installed(chart, namespace string) {
	x.Helper()
	charts, err := testCharts(x.kube)
	if err != nil {
		x.Fatal(err)
	}
	loaded, err := charts.Load(x.Context(), x.cluster.Charts().Repository, chart, linkerdNew)
	if err != nil {
		x.Fatal(err)
	}
	rendered, err := charts.Releases.Template(x.Context(), helm.RenderRequest{Namespace: namespace, Name: chart, Chart: loaded, Values: map[string]any{"createNamespaceMetadataJob": false}})
	if err != nil {
		x.Fatal(err)
	}
	objects, err := rendered.Objects()
	if err != nil {
		x.Fatal(err)
	}
	home := kube.Ref{Kind: kube.Namespace, Name: namespace}.Object()
	home.SetLabels(map[string]string{"linkerd.io/extension": "viz"})
	if _, err := x.kube.Apply(x.Context(), home, kube.ApplyOptions{Manager: "kubectl"}); err != nil {
		x.Fatal(err)
	}
	for _, object := range objects {
		ref, err := x.kube.RefOf(x.Context(), object)
		if err != nil {
			x.Fatal(err)
		}
		if ref.Kind.Namespaced && object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
		if _, err := x.kube.Apply(x.Context(), object, kube.ApplyOptions{Manager: "kubectl"}); err != nil {
			x.Fatal(err)
		}
	}
}

func TestAccLinkerdExtension(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 5})
	connected := connect(t, cluster)
	if err := installLinkerd(t.Context(), connected, cluster.Charts().Repository, linkerdNew); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(extensionTest){
		"viz": extensionTest.viz, "multicluster": extensionTest.multicluster, "jaeger": extensionTest.jaeger,
	} {
		t.Run(name, func(t *testing.T) { test(extensionTest{t, cluster, connected}) })
	}
}

// viz walks through the life of the extension that the API server calls most.
func (x extensionTest) viz() {
	const (
		address = "aksmesh_linkerd_extension.viz"
		spread  = `
		  high_availability = true
		  registry          = "example.azurecr.io/linkerd"
		  drift_detection   = "releases"
		  values            = ["metricsAPI: { replicas: 2 }"]`
	)
	clock := &testClock{}
	clock.forward(-8000 * time.Hour)
	client := x.cluster.Client()
	deployments := client.AppsV1().Deployments("linkerd-viz")
	api := kube.Ref{Kind: kube.APIService, Name: "v1alpha1.tap.linkerd.io"}
	webhook := kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-tap-injector-webhook-config"}
	tap := kube.Ref{Kind: kube.Deployment, Namespace: "linkerd-viz", Name: "tap"}
	update := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)}}
	noDriftLeft := []statecheck.StateCheck{statecheck.ExpectKnownValue(address, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0))}
	noChanges := resource.ConfigPlanChecks{PreApply: append(update.PreApply, plancheck.ExpectKnownValue(address, tfjsonpath.New("changes"), knownvalue.ListSizeExact(0)))}
	certificates := changing(address, "webhooks_valid_until")
	var generation int64
	var uid types.UID

	resource.Test(x, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy:             x.gone(api, webhook, kube.Ref{Kind: kube.RoleBinding, Namespace: "kube-system", Name: "linkerd-linkerd-viz-tap-auth-reader"}),
		Steps: []resource.TestStep{
			{
				Config: x.config("viz", linkerdNew, `
				  values   = ["dashboard: { image: { tag: does-not-exist } }"]
				  timeouts = { create = "12s" }`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectKnownValue(address, tfjsonpath.New("changes").AtSliceIndex(0), knownvalue.StringRegexp(regexp.MustCompile(`^\+ \w+ `))),
				}},
				ExpectError: regexp.MustCompile(`(?s)not\s+healthy.*linkerd-viz/web`),
			},
			{
				// What the failure has left is replaced, and is still there in the plan.
				Config: x.config("viz", linkerdNew, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionDestroyBeforeCreate),
					plancheck.ExpectUnknownValue(address, tfjsonpath.New("changes")),
				}},
				Check: resource.ComposeTestCheckFunc(
					certificates, x.tapsServed,
					noKeyInState(x.T, x.cluster, "linkerd-viz", "tap-k8s-tls"),
					noKeyInReleases(x.T, x.cluster, "linkerd-viz"),
					resource.TestCheckResourceAttr(address, "app_version", "edge-26.8.3"),
					resource.TestCheckResourceAttr(address, "webhooks.#", "2"),
					resource.TestCheckTypeSetElemAttr(address, "changes.*", "+ "+api.String()),
					func(*terraform.State) error {
						namespace, err := client.CoreV1().Namespaces().Get(x.Context(), "linkerd-viz", metav1.GetOptions{})
						if err == nil && namespace.Labels["linkerd.io/extension"] != "viz" {
							err = fmt.Errorf("labels of the namespace: %v", namespace.Labels)
						}
						return err
					},
				),
			},
			{
				ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateId: "linkerd-viz",
				ImportStateVerifyIgnore: []string{"repository", "changes"},
			},
			{
				// Drift of all sorts. The record tells that nothing is to change but back.
				PreConfig: func() {
					if err := deployments.Delete(x.Context(), "web", metav1.DeleteOptions{}); err != nil {
						x.Fatal(err)
					}
					x.amend(api, map[string]any{"spec": map[string]any{"caBundle": nil}})
					for _, ref := range []kube.Ref{webhook, {Kind: kube.Secret, Namespace: "linkerd-viz", Name: "tap-injector-k8s-tls"}} {
						if err := x.kube.Delete(x.Context(), ref, kube.DeleteOptions{Wait: true}); err != nil {
							x.Fatal(err)
						}
					}
					x.amend(kube.Ref{Kind: kube.Namespace, Name: "linkerd-viz"}, map[string]any{"metadata": map[string]any{"labels": map[string]any{"linkerd.io/extension": nil}}})
				},
				Config:            x.config("viz", linkerdNew, ""),
				ConfigPlanChecks:  noChanges,
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(x.tapsServed, func(*terraform.State) error {
					_, err := deployments.Get(x.Context(), "web", metav1.GetOptions{})
					return err
				}),
			},
			{
				Config: x.config("viz", linkerdNew, `
				  atomic = true
				  values = ["dashboard: { replicas: -1 }"]`),
				ConfigPlanChecks: update,
				ExpectError:      regexp.MustCompile(`(?s)rolled\s+back,\s+and\s+healthy\s+again:\s+linkerd-viz/linkerd-viz`),
			},
			{
				// Of three nodes, a rollout would need another.
				PreConfig:   func() { x.cordon(2, true) },
				Config:      x.config("viz", linkerdNew, "high_availability = true"),
				PlanOnly:    true,
				ExpectError: regexp.MustCompile(`(?s)high_availability:.*3\s+replicas.*needs\s+4\s+nodes`),
			},
			{
				PreConfig:         func() { x.cordon(2, false) },
				Config:            x.config("viz", linkerdNew, spread),
				ConfigPlanChecks:  update,
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(
					// Of the webhook only.
					resource.TestCheckResourceAttr(address, "webhooks.#", "1"),
					resource.TestMatchResourceAttr(address, "changes.0", regexp.MustCompile(`^[~+] `)),
					func(*terraform.State) error {
						all, err := deployments.List(x.Context(), metav1.ListOptions{})
						if err != nil {
							return err
						}
						for _, deployment := range all.Items {
							want := map[string]int32{"tap": 3, "tap-injector": 3, "metrics-api": 2}[deployment.Name]
							if want != 0 && *deployment.Spec.Replicas != want {
								return fmt.Errorf("%s has %d replicas, want %d", deployment.Name, *deployment.Spec.Replicas, want)
							}
							for _, c := range deployment.Spec.Template.Spec.Containers {
								if !strings.HasPrefix(c.Image, "example.azurecr.io/linkerd/") {
									return fmt.Errorf("image %s is not from the registry", c.Image)
								}
							}
						}
						return nil
					},
				),
			},
			{
				// Certificates are due: they are renewed without a restart.
				PreConfig: func() {
					clock.forward(7990 * time.Hour)
					generation = x.get(tap).GetGeneration()
				},
				Config:            x.config("viz", linkerdNew, spread),
				ConfigPlanChecks:  noChanges,
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(certificates, x.tapsServed, func(*terraform.State) error {
					if now := x.get(tap).GetGeneration(); now != generation {
						return fmt.Errorf("%s was changed by a renewal: generation %d, before %d", tap, now, generation)
					}
					return nil
				}),
			},
			{
				// Another of the same kind cannot be.
				Config: x.config("viz", linkerdNew, spread) +
					fmt.Sprintf("resource \"aksmesh_linkerd_extension\" \"again\" {\n  name = \"viz\"\n  namespace = \"elsewhere\"\n  version = %q\n  repository = %q\n}", linkerdNew, x.cluster.Charts().Repository),
				ExpectError: regexp.MustCompile(`(?s)namespace:\s.*Namespace\s+linkerd-viz\s+already`),
			},
			{
				Config: x.config("viz", linkerdNew, ""), Destroy: true,
				Check: x.gone(api, webhook, kube.Ref{Kind: kube.Namespace, Name: "linkerd-viz"}),
			},
			{
				// What the command line has installed is not overwritten, but imported.
				PreConfig: func() {
					clock.forward(10 * time.Hour) // The chart's certificates are of the present.
					x.installed("linkerd-viz", "linkerd-viz")
				},
				Config:      x.config("viz", linkerdNew, ""),
				ExpectError: regexp.MustCompile(`(?s)installed\s+without\s+Helm.*terraform\s+import\s+<address>\s+linkerd-viz`),
			},
			{
				PreConfig:         func() { uid = x.get(tap).GetUID() },
				Config:            x.config("viz", linkerdNew, "") + "import {\n  to = aksmesh_linkerd_extension.viz\n  id = \"linkerd-viz\"\n}\n",
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(x.tapsServed, noKeyInReleases(x.T, x.cluster, "linkerd-viz"), func(*terraform.State) error {
					if now := x.get(tap).GetUID(); now != uid {
						return fmt.Errorf("%s was made anew", tap)
					}
					return nil
				}),
			},
		},
	})
}

// multicluster has a CRD of its own, and images in all forms. It is upgraded with
// a control plane.
func (x extensionTest) multicluster() {
	const address = "aksmesh_linkerd_extension.multicluster"
	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: "links.multicluster.linkerd.io"}
	controlPlane := x.otherControlPlane("edge-26.6.3")
	body := fmt.Sprintf(`registry = "example.azurecr.io/linkerd"
	  linkerd_namespace = %q
	  values = ["gateway: { serviceType: ClusterIP }"]`, controlPlane.Namespace)
	resource.Test(x, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             x.gone(crd, kube.Ref{Kind: kube.Namespace, Name: "linkerd-multicluster"}),
		Steps: []resource.TestStep{
			{
				Config: x.config("multicluster", linkerdOld, body),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(address, "webhooks.#", "0"),
					resource.TestCheckResourceAttr(address, "webhooks_valid_until", ""),
					func(*terraform.State) error {
						gateway, err := x.cluster.Client().AppsV1().Deployments("linkerd-multicluster").Get(x.Context(), "linkerd-gateway", metav1.GetOptions{})
						if err == nil && gateway.Spec.Template.Spec.Containers[0].Image != "example.azurecr.io/linkerd/pause:3.2" {
							err = fmt.Errorf("image %s", gateway.Spec.Template.Spec.Containers[0].Image)
						}
						return err
					},
				),
			},
			{ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateId: "linkerd-multicluster", ImportStateVerifyIgnore: []string{"repository", "changes", "registry", "values"}},
			{
				PreConfig: func() { x.amend(controlPlane, map[string]any{"data": controlPlaneConfig("edge-26.8.3")}) },
				Config:    x.config("multicluster", linkerdNew, "high_availability = true\n"+body),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("changes").AtSliceIndex(0), knownvalue.StringRegexp(regexp.MustCompile(`^[+~] \w+ `))),
				}},
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(address, "app_version", "edge-26.8.3"),
					resource.TestCheckResourceAttr(address, "drift.#", "0"),
				),
			},
			{
				// The Links to other clusters stay, and a later install takes them back.
				Config: x.config("multicluster", linkerdNew, body), Destroy: true,
				Check: func(*terraform.State) error { _, err := x.kube.Get(x.Context(), crd); return err },
			},
			{Config: x.config("multicluster", linkerdNew, "delete_crds = true\n"+body)},
		},
	})
}

// jaeger is of an older version than the control plane, so that it is told of
// another.
func (x extensionTest) jaeger() {
	const address = "aksmesh_linkerd_extension.jaeger"
	namespace := x.otherControlPlane("edge-25.4.4").Namespace
	const version = "2025.4.4"
	resource.Test(x, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             x.gone(kube.Ref{Kind: kube.Namespace, Name: "tracing"}, kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-jaeger-injector-webhook-config"}),
		Steps: []resource.TestStep{
			{
				// The control plane may still become another, so that only the apply fails.
				Config:      x.config("jaeger", version, ""),
				ExpectError: regexp.MustCompile(`(?s)version:\s+The\s+extension\s+is\s+of\s+edge-25.4.4\s+\(Linkerd\s+2.18\).*after\s+2.20`),
			},
			{
				Config:      x.config("jaeger", version, `linkerd_namespace = "nowhere"`),
				ExpectError: regexp.MustCompile(`(?s)linkerd_namespace:\s+There\s+is\s+no\s+Linkerd\s+control\s+plane\s+in\s+namespace\s+nowhere`),
			},
			{
				Config:      x.config("jaeger", version, "high_availability = true\n linkerd_namespace = \""+namespace+`"`),
				ExpectError: regexp.MustCompile(`(?s)high_availability:\s+Chart\s+linkerd-jaeger`),
			},
			{
				Config:      x.config("jaeger", version, "values = [\"colector: {}\"]\n linkerd_namespace = \""+namespace+`"`),
				ExpectError: regexp.MustCompile(`(?s)values:.*colector.*collector`),
			},
			{
				Config: x.config("jaeger", version, "namespace = \"tracing\"\n linkerd_namespace = \""+namespace+`"`),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttr(address, "webhooks.#", "1"),
					resource.TestCheckResourceAttr(address, "webhooks.0.name", "jaeger-injector"),
					resource.TestCheckResourceAttr(address, "webhooks.0.renewed_by", "aksmesh"),
				),
			},
		},
	})
}

func TestLinkerdExtension_badInput(t *testing.T) {
	t.Parallel()
	viz := "\n name = \"viz\"\n version = \"2026.8.3\"\n"
	expectInvalid(t, "aksmesh_linkerd_extension", map[string]invalidInput{
		"name = \"grafana\"\n version = \"2026.8.3\"":      {"name", `one of`},
		"name = \"viz\"\n version = \"2026\"":              {"version", "not an exact version"},
		"name = \"jaeger\"\n version = \"2025.10.1\"":      {"version", "proxy.tracing"},
		`namespace = "x_y"` + viz:                          {"namespace", "DNS label"},
		`webhook_early_renewal = "9000h"` + viz:            {"webhook_early_renewal", "out of range"},
		`drift_detection = "some"` + viz:                   {"drift_detection", "one of"},
		`values = ["a: [b"]` + viz:                         {"values", "values[0] is not a YAML mapping"},
		`values = ["tap: { crtPEM: x }"]` + viz:            {"values", "value tap.crtPEM cannot be set"},
		`values = ["linkerdNamespace: x"]` + viz:           {"values", "value linkerdNamespace cannot be set"},
		`values = ["createNamespaceMetadataJob: 1"]` + viz: {"values", "value createNamespaceMetadataJob cannot be set"},
	})
}

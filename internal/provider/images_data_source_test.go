package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/images"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// listedImages are the images of a data source in the state, each by its value.
func listedImages(state *terraform.State, address string) (map[oci.Reference]string, error) {
	found := map[oci.Reference]string{}
	attributes := state.RootModule().Resources[address].Primary.Attributes
	for i := 0; ; i++ {
		text, there := attributes[fmt.Sprintf("images.%d.reference", i)]
		if !there {
			return found, nil
		}
		reference, err := oci.ParseReference(text)
		if err != nil {
			return nil, err
		}
		found[reference] = attributes[fmt.Sprintf("images.%d.value", i)]
	}
}

// runningImages are the images of all pods of namespaces, and those that would run
// in more pods.
func runningImages(ctx context.Context, cluster *testcluster.Cluster, namespaces []string, more ...*corev1.Pod) (map[string]bool, error) {
	var pods []corev1.Pod
	for _, namespace := range namespaces {
		list, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		pods = append(pods, list.Items...)
	}
	for _, pod := range more {
		injected, err := cluster.Client().CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return nil, err
		}
		pods = append(pods, *injected)
	}
	running := map[string]bool{}
	for _, pod := range pods {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			reference, err := oci.ParseReference(container.Image)
			if err != nil {
				return nil, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
			}
			running[reference.String()] = true
		}
	}
	return running, nil
}

// sameImages tells which images are only listed and which are only running.
func sameImages(listed, running map[string]bool) error {
	var problems []error
	for _, image := range slices.Sorted(maps.Keys(listed)) {
		if !running[image] {
			problems = append(problems, fmt.Errorf("%s is listed, and nobody runs it", image))
		}
	}
	for _, image := range slices.Sorted(maps.Keys(running)) {
		if !listed[image] {
			problems = append(problems, fmt.Errorf("%s runs, and is not listed", image))
		}
	}
	return errors.Join(problems...)
}

// applicationPod is a pod with an image of no mesh, for injectors.
const applicationImage = "docker.io/library/application:v1"

func applicationPod(namespace string, labels, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "application", Namespace: namespace, Labels: labels, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "application", Image: applicationImage}}},
	}
}

// TestAccImages installs both meshes with all that they offer from a registry of
// the user's, and wants exactly the images to run that were listed, where a mirror
// has them.
func TestAccImages(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	namespace := cluster.Namespace(t)
	charts := cluster.Charts()
	place := images.Place{Host: "example.azurecr.io", Prefix: "mesh"}
	config := providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	locals {
	  repository = %[1]q
	  registry   = %[2]q
	  addons     = ["prometheus", "loki"]
	}
	data "aksmesh_images" "linkerd" {
	  resolve = false
	  linkerd = {
	    version    = %[3]q
	    repository = local.repository
	    cni        = true
	    debug      = true
	    extensions = { viz = {}, multicluster = { values = ["controllers: [{link: {ref: {name: east}}}]"] } }
	  }
	}
	data "aksmesh_images" "istio" {
	  resolve = false
	  istio = {
	    version       = %[4]q
	    repository    = local.repository
	    profile       = "demo"
	    cni           = true
	    addons        = local.addons
	    addons_source = %[5]q
	  }
	}
	resource "aksmesh_trust_anchor" "this" {}
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = "linkerd"
	}
	resource "aksmesh_linkerd" "this" {
	  version    = %[3]q
	  repository = local.repository
	  registry   = local.registry
	  issuer_id  = aksmesh_issuer.this.id
	  cni        = {}
	}
	resource "aksmesh_linkerd_extension" "this" {
	  count      = 2
	  name       = ["viz", "multicluster"][count.index]
	  version    = aksmesh_linkerd.this.version
	  repository = local.repository
	  registry   = local.registry
	  values     = count.index == 0 ? [] : ["controllers: [{link: {ref: {name: east}}}]"]
	}
	resource "aksmesh_istio" "this" {
	  version    = %[4]q
	  repository = local.repository
	  hub        = local.registry
	  profile    = "demo"
	  cni        = true
	}
	resource "aksmesh_istio_addon" "this" {
	  count   = length(local.addons)
	  name    = local.addons[count.index]
	  version = aksmesh_istio.this.version
	  source  = %[5]q
	}`, charts.Repository, place, linkerdNew, istioNew, charts.IstioSource(istioNew)))

	exact := func(state *terraform.State) error {
		listed := map[string]bool{applicationImage: true}
		for _, address := range []string{"data.aksmesh_images.linkerd", "data.aksmesh_images.istio"} {
			found, err := listedImages(state, address)
			if err != nil {
				return err
			}
			for image, value := range found {
				if value == "" {
					image = place.Target(image)
				}
				listed[image.String()] = true
			}
		}
		running, err := runningImages(t.Context(), cluster,
			[]string{"linkerd", "linkerd-cni", "linkerd-viz", "linkerd-multicluster", istioSystem},
			applicationPod(namespace, nil, map[string]string{"linkerd.io/inject": "enabled", "config.linkerd.io/enable-debug-sidecar": "true"}),
			applicationPod(namespace, map[string]string{"sidecar.istio.io/inject": "true"}, nil))
		if err != nil {
			return err
		}
		return sameImages(listed, running)
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: config,
			Check: resource.ComposeTestCheckFunc(
				exact,
				resource.TestCheckTypeSetElemNestedAttrs("data.aksmesh_images.linkerd", "images.*", map[string]string{
					"name": "cr.l5d.io/linkerd/proxy", "tag": "edge-26.8.3", "injected": "true", "components.0": "linkerd-control-plane",
				}),
				resource.TestCheckTypeSetElemNestedAttrs("data.aksmesh_images.linkerd", "images.*", map[string]string{
					"name": "docker.io/prom/prometheus", "injected": "false", "components.0": "linkerd-viz",
				}),
				resource.TestCheckTypeSetElemNestedAttrs("data.aksmesh_images.istio", "images.*", map[string]string{
					"name": istioHub + "/proxyv2", "tag": istioNew, "injected": "true",
				}),
			),
		}},
	})
}

func TestImagesDataSource_invalid(t *testing.T) {
	t.Parallel()
	expectInvalidData(t, "aksmesh_images", map[string]invalidInput{
		``:                                 {"linkerd", "istio"},
		`linkerd = { version = "latest" }`: {"linkerd.version", "exact version"},
		`linkerd = { version = "2026.8.3", extensions = { smi = {} } }`:                                    {"linkerd.extensions", "one of"},
		`linkerd = { version = "2026.8.3", extensions = { jaeger = {} } }`:                                 {"linkerd.extensions", "proxy.tracing"},
		`linkerd = { version = "2026.8.3", cni_values = ["a: b"] }`:                                        {"linkerd.cni_values", "cni is not true"},
		`linkerd = { version = "2026.8.3", values = ["identityTrustAnchorsPEM: x"] }`:                      {"linkerd.values", "aksmesh_issuer"},
		`linkerd = { version = "2026.8.3", extensions = { viz = { values = ["tap: { caBundle: x }"] } } }`: {`linkerd.extensions\["viz"\].values`, "tap.caBundle"},
		`istio = { version = "1.31.0", values = { istiod = ["platform: aks"] } }`:                          {"istio.values.istiod", "AKS needs none"},
		`istio = { version = "1.31.0", profile = "empty" }`:                                                {"istio.profile", "one of"},
		`linkerd = { version = "2026.8.3", registry = "https://ghcr.io/linkerd" }`:                         {"linkerd.registry", "a registry with a path"},
		`istio = { version = "1.31.0", hub = "ghcr.io/Istio" }`:                                            {"istio.hub", "a registry with a path"},
		`istio = { version = "1.31.0" }` + "\nresolve = false\nplatforms = true":                           {"platforms", "resolve is false"},
		`istio = { version = "1.31.0", addons = ["zipkin"] }`:                                              {"istio.addons", "one of"},
		`istio = { version = "1.31.0", addons_source = "http://example.com" }`:                             {"istio.addons_source", "https"},
	})
}

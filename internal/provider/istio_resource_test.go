package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const (
	istioFirst = "1.29.4"
	istioOld   = "1.30.2"
	istioNew   = "1.31.0"
	istioHub   = "registry.istio.io/release"

	istioSystem  = "istio-system"
	istioAddress = "aksmesh_istio.this"
)

// istioConfig is an Istio of the devcluster's charts.
func istioConfig(cluster *testcluster.Cluster, version, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_istio" "this" {
	  version    = %q
	  repository = %q
	  %s
	}`, version, cluster.Charts().Repository, body))
}

// istioWithIssuer is an Istio whose CA is an issuer of this provider.
func istioWithIssuer(cluster *testcluster.Cluster, version, body string) string {
	return istioConfig(cluster, version, "issuer_id = aksmesh_issuer.this.id\n"+body) + `
	resource "aksmesh_trust_anchor" "this" {}
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = "istio"
	}`
}

// TestAccIstio takes one Istio through its life, since each needs a cluster of
// its own.
func TestAccIstio(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	client := cluster.Client()
	plans := func(action plancheck.ResourceActionType, lines ...planLines) resource.ConfigPlanChecks {
		checks := []plancheck.PlanCheck{plancheck.ExpectResourceAction(istioAddress, action)}
		for _, one := range lines {
			checks = append(checks, one)
		}
		return resource.ConfigPlanChecks{PreApply: checks}
	}
	changes := func(want ...string) planLines { return planLines{istioAddress, "changes", want} }
	drift := func(want ...string) planLines { return planLines{istioAddress, "drift", want} }
	config := istioWithIssuer(cluster, istioOld, "delete_crds = true")
	// Another registry changes no template of a gateway.
	mirrored := istioWithIssuer(cluster, istioOld, "delete_crds = true\nhub = \"example.azurecr.io/istio\"")
	upgraded := istioWithIssuer(cluster, istioNew, "delete_crds = true\nprofile = \"demo\"")
	image := func(hub, version string) string { return hub + "/proxyv2:" + version }

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             func(*terraform.State) error { return istioGone(t, cluster) },
		Steps: []resource.TestStep{
			{
				Config: config,
				ConfigPlanChecks: plans(plancheck.ResourceActionCreate, changes(
					`^\+ Deployment istio-system/istiod$`,
					`^\+ MutatingWebhookConfiguration istio-sidecar-injector$`, `^\+ Service istio-system/istio-ingressgateway$`,
				)),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(istioAddress, tfjsonpath.New("id"), knownvalue.StringExact(istioSystem)),
					statecheck.ExpectKnownValue(istioAddress, tfjsonpath.New("profile"), knownvalue.StringExact("default")),
					statecheck.ExpectKnownValue(istioAddress, tfjsonpath.New("values_sha256"), knownvalue.StringRegexp(regexp.MustCompile(`^[0-9a-f]{64}$`))),
					statecheck.ExpectKnownValue(istioAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
				},
				Check: resource.ComposeTestCheckFunc(
					gatewaysRun(t, cluster, istioSystem, image(istioHub, istioOld), "istio-ingressgateway"),
					func(*terraform.State) error { return signedByIssuer(t, cluster) },
				),
			},
			{
				ResourceName: istioAddress, ImportState: true, ImportStateId: istioSystem,
				ImportStateVerify: true, ImportStateVerifyIgnore: []string{"repository", "delete_crds", "changes"},
			},
			{
				PreConfig: func() { breakIstio(t, cluster) },
				Config:    mirrored,
				ConfigPlanChecks: plans(plancheck.ResourceActionUpdate,
					drift(
						`^Deployment istio-system/istiod is missing$`, `^Service istio-system/istio-ingressgateway: spec\.ports`, `^ConfigMap istio-system/istio: data\.mesh`,
						`^CustomResourceDefinition proxyconfigs\.networking\.istio\.io is missing$`, `^MutatingWebhookConfiguration istio-sidecar-injector: webhooks`,
					),
					changes(`^~ Deployment istio-system/istiod: .*image: "`+istioHub+`/pilot:`+istioOld+`" -> "example\.azurecr\.io/istio/pilot`, `^~ ConfigMap istio-system/istio-sidecar-injector: `),
				),
				Check: resource.ComposeTestCheckFunc(
					gatewaysRun(t, cluster, istioSystem, image("example.azurecr.io/istio", istioOld), "istio-ingressgateway"),
					resource.TestCheckResourceAttr(istioAddress, "drift.#", "0"),
				),
			},
			{
				// An upgrade that never becomes healthy goes back.
				Config: istioWithIssuer(cluster, istioNew, `
				  delete_crds = true
				  atomic      = true
				  values      = { istiod = ["image: example.azurecr.io/istio/pilot:does-not-exist"] }
				  timeouts    = { update = "40s" }`),
				ExpectError: regexp.MustCompile(`(?s)not\s+healthy.*does-not-exist.*rolled\s+back.*istio-system/istiod`),
			},
			{
				Config: mirrored,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					// CRDs do not go back.
					drift(`^release istio-system/istio-base is of version ` + istioNew + ` instead of ` + istioOld + `$`),
				}},
				Check: gatewaysRun(t, cluster, istioSystem, image("example.azurecr.io/istio", istioOld), "istio-ingressgateway"),
			},
			{
				Config: upgraded,
				ConfigPlanChecks: plans(plancheck.ResourceActionUpdate, changes(
					`^~ Deployment istio-system/istiod: `, `^\+ Deployment istio-system/istio-egressgateway$`,
				)),
				Check: resource.ComposeTestCheckFunc(
					gatewaysRun(t, cluster, istioSystem, image(istioHub, istioNew), "istio-egressgateway", "istio-ingressgateway"),
					func(*terraform.State) error { return signedByIssuer(t, cluster) },
				),
			},
			{
				Config:      istioWithIssuer(cluster, istioFirst, "delete_crds = true"),
				ExpectError: regexp.MustCompile(`(?s)version.*through\s+a\s+version\s+1\.30\s+first`),
			},
			{
				Config: istioWithIssuer(cluster, istioNew, `
				  delete_crds     = true
				  profile         = "ambient"
				  drift_detection = "releases"
				  gateways        = {
				    east = { namespace = "edge" }
				    west = { values = ["autoscaling: { enabled: false }"] }
				  }`),
				ConfigPlanChecks: plans(plancheck.ResourceActionUpdate, changes(
					`^\+ Deployment edge/east$`, `^- Deployment istio-system/istio-egressgateway$`,
				)),
				Check: resource.ComposeTestCheckFunc(
					gatewaysRun(t, cluster, "edge", image(istioHub, istioNew), "east"),
					func(*terraform.State) error {
						_, err := client.AppsV1().DaemonSets(istioSystem).Get(t.Context(), "ztunnel", metav1.GetOptions{})
						return err
					},
				),
			},
			{
				Config:           istioConfig(cluster, istioNew, "profile = \"minimal\"\ndelete_crds = true"),
				ConfigPlanChecks: plans(plancheck.ResourceActionDestroyBeforeCreate),
				Check: func(*terraform.State) error {
					_, err := client.CoreV1().Secrets(istioSystem).Get(t.Context(), "istio-ca-secret", metav1.GetOptions{})
					return err
				},
			},
		},
	})
}

// breakIstio changes and deletes objects of Istio's, of several kinds.
func breakIstio(t *testing.T, cluster *testcluster.Cluster) {
	t.Helper()
	client := cluster.Client()
	if err := client.AppsV1().Deployments(istioSystem).Delete(t.Context(), "istiod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := client.CoreV1().Services(istioSystem).Patch(t.Context(), "istio-ingressgateway",
		types.JSONPatchType, []byte(`[{"op": "remove", "path": "/spec/ports/2"}]`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().ConfigMaps(istioSystem).Patch(t.Context(), "istio", types.MergePatchType, []byte(`{"data": {"mesh": "{}"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), "istio-sidecar-injector",
		types.JSONPatchType, []byte(`[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: "proxyconfigs.networking.istio.io"}
	if err := connect(t, cluster).Delete(t.Context(), crd, kube.DeleteOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
}

// gatewaysRun checks that exactly these gateways run, with a proxy of that
// image in any variant.
func gatewaysRun(t *testing.T, cluster *testcluster.Cluster, namespace, image string, names ...string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app!=istiod"})
		if err != nil {
			return err
		}
		var found []string
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				continue
			}
			found = append(found, pod.Labels["app"])
			if proxy := pod.Spec.Containers[0].Image; !strings.HasPrefix(proxy, image) {
				return fmt.Errorf("pod %s runs %s, want %s", pod.Name, proxy, image)
			}
		}
		slices.Sort(found)
		if !slices.Equal(found, names) {
			return fmt.Errorf("pods of %v run, want one of each of %v", found, names)
		}
		return nil
	}
}

// signedByIssuer checks that istiod distributes the root of the issuer.
func signedByIssuer(t *testing.T, cluster *testcluster.Cluster) error {
	t.Helper()
	secret, err := cluster.Client().CoreV1().Secrets(istioSystem).Get(t.Context(), "cacerts", metav1.GetOptions{})
	if err != nil {
		return err
	}
	roots, err := cluster.Client().CoreV1().ConfigMaps("default").Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if strings.TrimSpace(roots.Data["root-cert.pem"]) != strings.TrimSpace(string(secret.Data["root-cert.pem"])) {
		return errors.New("istiod does not distribute the root of the issuer")
	}
	return nil
}

// istioGone checks that nothing of Istio is left in the cluster.
func istioGone(t *testing.T, cluster *testcluster.Cluster) error {
	t.Helper()
	c := connect(t, cluster)
	var left []string
	for _, kind := range []kube.Kind{
		kube.Namespace, kube.CustomResourceDefinition, kube.ClusterRole, kube.ClusterRoleBinding,
		kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration, kube.ConfigMap, kube.Service,
		{Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Name: "Lease", Namespaced: true},
	} {
		all, err := c.List(t.Context(), kind, "")
		if err != nil {
			return err
		}
		for _, o := range all {
			if strings.Contains(o.GetName(), "istio") {
				left = append(left, fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName()))
			}
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}

// TestAccIstio_refused shows what an apply refuses before it changes anything.
func TestAccIstio_refused(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct {
		body, version, reason string
		foreign               bool
	}{
		"gateway value": {
			version: istioNew, body: `values = { gateway = ["replicas: 2"] }`,
			reason: `Invalid values.gateway.*replicas`,
		},
		"platform": {
			version: istioNew, body: `values = { istiod = ["platform: azure"] }`,
			reason: `Invalid values.istiod.*unknown\s+platform\s+azure`,
		},
		"unknown value": {
			version: istioNew, body: `values = { istiod = ["pilto: { autoscaleMin: 2 }"] }`,
			reason: `Invalid values.istiod.*pilto.*nothing\s+in\s+version`,
		},
		"removed value": {
			version: istioNew, body: `values = { istiod = ["istio_cni: { enabled: true }"] }`,
			reason: `Invalid values.istiod.*istio_cni.*1\.24.*attribute\s+cni`,
		},
		"value of another type": {
			version: istioNew, body: `gateways = { edge = { values = ["service: LoadBalancer"] } }`,
			reason: `service`,
		},
		"version": {version: "1.31.7", reason: `has no\s+version "1.31.7".*1.31.0`},
		"issuer": {
			version: istioNew, body: `issuer_id = "istio/%s"`,
			reason: `(?s)Secret\s+%s/cacerts.*aksmesh_issuer`,
		},
		"release": {version: istioNew, foreign: true, reason: `istio-base.*not\s+made\s+by\s+this\s+provider.*terraform\s+import\s+<address>\s+%s`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := plainCluster.Cluster(t)
			namespace := cluster.Namespace(t)
			if refusal.foreign {
				deployForeign(t, cluster, namespace, "istio-base")
			}
			body := strings.ReplaceAll(refusal.body, "%s", namespace)
			reason := strings.ReplaceAll(refusal.reason, "%s", namespace)
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				CheckDestroy:             func(*terraform.State) error { return untouched(t, cluster, namespace) },
				Steps: []resource.TestStep{{
					Config:      istioConfig(cluster, refusal.version, fmt.Sprintf("namespace = %q\n%s", namespace, body)),
					ExpectError: regexp.MustCompile("(?s)" + reason),
				}},
			})
		})
	}
}

// untouched checks that nobody holds a namespace and that no release of this
// provider is in it.
func untouched(t *testing.T, cluster *testcluster.Cluster, namespace string) error {
	t.Helper()
	found, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(found.Annotations) > 0 {
		return fmt.Errorf("namespace %s has annotations %v", namespace, found.Annotations)
	}
	releases, err := cluster.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,aksmesh.io/managed-by"})
	if err == nil && len(releases.Items) > 0 {
		err = fmt.Errorf("namespace %s has releases", namespace)
	}
	return err
}

// TestAccIstio_killed kills the provider twice in the middle of an install into
// a namespace that is somebody else's.
func TestAccIstio_killed(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	client := cluster.Client()
	namespace := cluster.Namespace(t)
	w := newWorkspace(t, istioConfig(cluster, istioNew, fmt.Sprintf("namespace = %q\ndelete_crds = true", namespace)))

	for _, moment := range []func(context.Context) error{
		// Helm has begun with the CRDs, and has not recorded their end.
		func(ctx context.Context) error {
			_, err := client.CoreV1().Secrets(namespace).Get(ctx, "sh.helm.release.v1.istio-base.v1", metav1.GetOptions{})
			return err
		},
		// istiod starts, and there is no gateway.
		func(ctx context.Context) error {
			_, err := client.AppsV1().Deployments(namespace).Get(ctx, "istiod", metav1.GetOptions{})
			return err
		},
	} {
		apply := w.start("apply", "-auto-approve", "-no-color")
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			err := moment(ctx)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			t.Fatal(err)
		}
		apply.kill()
		if got := apply.wait(); got.code == 0 {
			t.Fatalf("the apply whose provider was killed has succeeded:\n%s", got.output)
		}
		if err := gatewaysRun(t, cluster, namespace, "")(nil); err != nil {
			t.Fatalf("the provider was killed too late: %v", err)
		}
	}

	w.apply()
	if err := gatewaysRun(t, cluster, namespace, istioHub+"/proxyv2:"+istioNew, "istio-ingressgateway")(nil); err != nil {
		t.Error(err)
	}
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
	if err := errors.Join(istioGone(t, cluster), untouched(t, cluster, namespace)); err != nil {
		t.Error(err)
	}
	secrets, err := client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(secrets.Items) > 0 {
		t.Errorf("%d Secrets are left in the namespace, %v", len(secrets.Items), err)
	}
}

// deployForeign deploys a release as somebody else would by Helm.
func deployForeign(t *testing.T, cluster *testcluster.Cluster, namespace, name string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: foreign\nversion: 1.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	chart, err := helm.NewLibrary(helm.LibraryOptions{}).Load(t.Context(), helm.Source{Name: dir})
	if err != nil {
		t.Fatal(err)
	}
	releases, err := helm.NewReleases(connect(t, cluster), helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := releases.Deploy(t.Context(), helm.DeployRequest{Namespace: namespace, Name: name, Chart: chart}); err != nil {
		t.Fatal(err)
	}
}

func TestIstio_badInput(t *testing.T) {
	t.Parallel()
	inputs := map[string]invalidInput{`version = "1.31"`: {"version", "exact version"}}
	for attribute, want := range map[string]invalidInput{
		`profile = "empty"`:                                             {"profile", "must be one of"},
		`revision = "1.31"`:                                             {"revision", "write \"1-31\""},
		`revision = "default"`:                                          {"revision", "has no name"},
		`revision = "Canary"`:                                           {"revision", "lower-case"},
		`gateways = { "istio.edge" = {} }`:                              {"gateways", "DNS label"},
		`gateways = { edge = { namespace = "kube-system" } }`:           {"gateways", "never injects pods"},
		`gateways = { istiod = {} }`:                                    {"gateways", "another release"},
		`gateways = { edge = { values = ["revision: a"] } }`:            {"gateways", "revision cannot be set"},
		`drift_detection = "none"`:                                      {"drift_detection", "must be one of"},
		`values = { ztunnel = ["istioNamespace: a"] }`:                  {"values.ztunnel", "attribute namespace"},
		`namespace = "kube-system"`:                                     {"namespace", "never injects pods"},
		`namespace = "aks-istio-system"`:                                {"namespace", "add-on of AKS"},
		`revision = "asm-1-30"`:                                         {"revision", "add-on of AKS"},
		`issuer_id = "linkerd/mesh"`:                                    {"issuer_id", "but this is istio"},
		`issuer_id = "istio/mesh"`:                                      {"issuer_id", "but this is istio in namespace istio-system"},
		`issuer_id = "nonsense"`:                                        {"issuer_id", "not the ID of an issuer"},
		`values = { base = ["- a"] }`:                                   {"values.base", "not a YAML mapping"},
		`values = { istiod = ["pilot: { revision: a }"] }`:              {"values.istiod", "pilot.revision cannot be set"},
		`values = { istiod = ["global: { platform: aks }"] }`:           {"values.istiod", "AKS needs none"},
		`values = { istiod = ["a: 1", "defaults: { a: 1 }"] }`:          {"values.istiod", "set the keys without it"},
		`values = { base = ["global: { istioNamespace: elsewhere }"] }`: {"values.base", "attribute namespace"},
		`values = { gateway = ["name: mine"] }`:                         {"values.gateway", "name cannot be set"},
	} {
		inputs["version = \"1.31.0\"\n"+attribute] = want
	}
	expectInvalid(t, "aksmesh_istio", inputs)
}

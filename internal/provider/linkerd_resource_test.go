package provider

import (
	"context"
	"fmt"
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

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// linkerdConfig is an anchor, an issuer and a Linkerd from the cluster's own
// chart servers.
func linkerdConfig(cluster *testcluster.Cluster, version, body string) string {
	if !strings.Contains(body, "repository") {
		body += fmt.Sprintf("\n  repository = %q", cluster.Charts().Repository)
	}
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "this" {}
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = "linkerd"
	}
	resource "aksmesh_linkerd" "this" {
	  version   = %q
	  issuer_id = aksmesh_issuer.this.id
	  %s
	}`, version, body))
}

// planLines checks the lines of a list in a plan: each pattern matches one. Those
// of drift are looked for in what was found before.
type planLines struct {
	address, attribute string
	want               []string
}

func (c planLines) CheckPlan(_ context.Context, req plancheck.CheckPlanRequest, resp *plancheck.CheckPlanResponse) {
	var found []any
	for _, planned := range req.Plan.ResourceChanges {
		if planned.Address != c.address {
			continue
		}
		side := planned.Change.After
		if c.attribute == "drift" {
			side = planned.Change.Before
		}
		attributes, _ := side.(map[string]any)
		found, _ = attributes[c.attribute].([]any)
	}
	for _, want := range c.want {
		pattern := regexp.MustCompile(want)
		if !slices.ContainsFunc(found, func(line any) bool { return pattern.MatchString(fmt.Sprint(line)) }) {
			resp.Error = fmt.Errorf("%s is %q, want a line that matches %q", c.attribute, found, want)
			return
		}
	}
}

func TestAccLinkerd(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 3})
	client := cluster.Client()
	// The provider's clock begins in the past and comes to the present, because
	// the control plane judges certificates by its own.
	clock := &testClock{}
	clock.forward(-8000 * time.Hour)
	const address = "aksmesh_linkerd.this"
	deployments := client.AppsV1().Deployments("linkerd")
	updates := func(lines ...planLines) resource.ConfigPlanChecks {
		checks := []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)}
		for _, one := range lines {
			checks = append(checks, one)
		}
		return resource.ConfigPlanChecks{PreApply: checks}
	}
	changes := func(want ...string) planLines { return planLines{address, "changes", want} }
	noDriftLeft := []statecheck.StateCheck{statecheck.ExpectKnownValue(address, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0))}
	certificates := changing(address, "webhooks_valid_until")
	upgraded := func(more string) string {
		return linkerdConfig(cluster, linkerdNew, fmt.Sprintf(`
		  repository = "oci://%s/charts"
		  registry   = "example.azurecr.io/linkerd"
		  heartbeat  = true
		  proxy      = { cpu_request = "50m", memory_limit = "300Mi" }
		  cni        = {}
		  %s`, cluster.Charts().OCIRegistry, more))
	}
	const podLabels = `values = ["podLabels: { team: mesh }"]`
	images := func(version string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			deployment, err := deployments.Get(t.Context(), "linkerd-identity", metav1.GetOptions{})
			if err != nil {
				return err
			}
			plugin, err := client.AppsV1().DaemonSets("linkerd-cni").Get(t.Context(), "linkerd-cni", metav1.GetOptions{})
			if err != nil {
				return err
			}
			template := deployment.Spec.Template
			if template.Labels["team"] != "mesh" {
				return fmt.Errorf("the value podLabels did not arrive: %v", template.Labels)
			}
			for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers, plugin.Spec.Template.Spec.Containers) {
				if !strings.HasPrefix(c.Image, "example.azurecr.io/linkerd/") {
					return fmt.Errorf("image %s is not from the registry", c.Image)
				}
				if c.Name == "identity" && !strings.HasSuffix(c.Image, version) {
					return fmt.Errorf("image %s is not of %s", c.Image, version)
				}
			}
			return nil
		}
	}

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: providersAt(clock.Now),
		CheckDestroy:             linkerdGone(t, cluster, true),
		Steps: []resource.TestStep{
			{
				Config: linkerdConfig(cluster, linkerdOld, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{changes(
					`^\+ CustomResourceDefinition serviceprofiles\.linkerd\.io$`, `^\+ Deployment linkerd/linkerd-destination$`, `^\+ MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config$`,
				)}},
				Check: resource.ComposeTestCheckFunc(
					certificates,
					noKeyInState(t, cluster, "linkerd", "linkerd-proxy-injector-k8s-tls"),
					noKeyInReleases(t, cluster, "linkerd"),
					resource.TestCheckResourceAttr(address, "app_version", "edge-26.6.3"),
				),
			},
			{
				ResourceName: address, ImportState: true, ImportStateVerify: true, ImportStateId: "linkerd",
				ImportStateVerifyIgnore: []string{"repository", "changes"},
			},
			{
				// Drift of all sorts: objects gone and changed, a webhook's Secret gone.
				PreConfig: func() {
					if err := deployments.Delete(t.Context(), "linkerd-identity", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					if err := client.CoreV1().Secrets("linkerd").Delete(t.Context(), "linkerd-sp-validator-k8s-tls", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
					others := connect(t, cluster)
					for ref, change := range map[kube.Ref]map[string]any{
						{Kind: kube.Service, Namespace: "linkerd", Name: "linkerd-proxy-injector"}: {"spec": map[string]any{"ports": []any{
							map[string]any{"name": "proxy-injector", "port": 443, "targetPort": 1},
						}}},
						{Kind: kube.ConfigMap, Namespace: "linkerd", Name: "linkerd-config"}:                         {"data": map[string]any{"values": "{}"}},
						{Kind: kube.CustomResourceDefinition, Name: "servers.policy.linkerd.io"}:                     {"metadata": map[string]any{"annotations": map[string]any{"linkerd.io/created-by": nil}}},
						{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-proxy-injector-webhook-config"}:     {"webhooks": []any{}},
						{Kind: kube.ValidatingWebhookConfiguration, Name: "linkerd-policy-validator-webhook-config"}: {"metadata": map[string]any{"labels": map[string]any{"linkerd.io/control-plane-component": "none"}}},
					} {
						live, err := others.Get(t.Context(), ref)
						if err == nil {
							_, err = others.Amend(t.Context(), live, change, "kubectl-edit")
						}
						if err != nil {
							t.Fatal(err)
						}
					}
				},
				Config: linkerdConfig(cluster, linkerdOld, ""),
				ConfigPlanChecks: updates(planLines{address, "drift", []string{
					`^Deployment linkerd/linkerd-identity is missing$`, `^Service linkerd/linkerd-proxy-injector: spec\.ports`, `^ConfigMap linkerd/linkerd-config: data\.values`,
					`^CustomResourceDefinition servers\.policy\.linkerd\.io: metadata\.annotations`, `^MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config: webhooks`,
					`^ValidatingWebhookConfiguration linkerd-policy-validator-webhook-config: metadata\.labels`, `^Secret linkerd/linkerd-sp-validator-k8s-tls: it is missing`,
				}}),
				ConfigStateChecks: noDriftLeft,
				Check: func(*terraform.State) error {
					service, err := client.CoreV1().Services("linkerd").Get(t.Context(), "linkerd-proxy-injector", metav1.GetOptions{})
					if err != nil {
						return err
					}
					if port := service.Spec.Ports[0].TargetPort.String(); port == "1" {
						return fmt.Errorf("the Service still points to port %s", port)
					}
					_, err = deployments.Get(t.Context(), "linkerd-identity", metav1.GetOptions{})
					return err
				},
			},
			{
				// An upgrade with further settings, from an OCI registry, in a cluster that from
				// now on gives containers other requests than these. No plan minds.
				PreConfig: func() { cluster.Safeguards(t, "linkerd") },
				Config:    upgraded(podLabels),
				ConfigPlanChecks: updates(changes(
					`^\+ DaemonSet linkerd-cni/linkerd-cni$`, `^\+ CronJob linkerd/linkerd-heartbeat$`,
					`^~ Deployment linkerd/linkerd-identity: .*image: "cr\.l5d\.io/linkerd/controller:edge-26\.6\.3" -> "example\.azurecr\.io/linkerd/controller:edge-26\.8\.3"`,
				)),
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(resource.TestCheckResourceAttr(address, "app_version", "edge-26.8.3"), images("edge-26.8.3"), func(*terraform.State) error {
					deployment, err := deployments.Get(t.Context(), "linkerd-identity", metav1.GetOptions{})
					if err != nil {
						return err
					}
					for _, container := range deployment.Spec.Template.Spec.Containers {
						if got := container.Resources.Requests.Cpu().String(); got != "100m" {
							return fmt.Errorf("container %s requests %s, want the 100m of admission", container.Name, got)
						}
					}
					return nil
				}),
			},
			{
				Config:      strings.Replace(upgraded(podLabels), "cni        = {}", `cni = { namespace = "elsewhere" }`, 1),
				PlanOnly:    true,
				ExpectError: regexp.MustCompile(`(?is)cni:.*is\s+in\s+namespace\s+linkerd-cni\s+and\s+cannot\s+be\s+moved\s+to\s+elsewhere`),
			},
			{
				// A change that never becomes ready is rolled back, and says why. The
				// certificates that were renewed before are accepted then all the same.
				PreConfig: func() { clock.forward(100 * time.Hour) },
				Config: upgraded(`
				  atomic   = true
				  values   = ["controllerImageVersion: does-not-exist"]
				  timeouts = { update = "20s" }
				  webhook_early_renewal = "8700h"`),
				ExpectError: regexp.MustCompile(`(?s)(ImagePullBackOff|ErrImagePull).*rolled\s+back,\s+and\s+healthy\s+again:\s+linkerd/linkerd-control-plane`),
			},
			// So nothing has to be done to have it as it was.
			{Config: upgraded(podLabels), Check: resource.ComposeTestCheckFunc(images("edge-26.8.3"), certificates), ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}},
			{
				// Without a rollback, the next apply repairs it, here by another change:
				// the plugin goes, and the webhooks' certificates are wanted earlier.
				Config: upgraded(`
				  values   = ["controllerImageVersion: does-not-exist"]
				  timeouts = { update = "8s" }`),
				ExpectError: regexp.MustCompile(`(?s)Deployment\s+linkerd/linkerd-.*(ImagePullBackOff|ErrImagePull)`),
			},
			{
				PreConfig:         func() { clock.forward(100 * time.Hour) },
				Config:            linkerdConfig(cluster, linkerdNew, `webhook_early_renewal = "8700h"`),
				ConfigPlanChecks:  updates(changes(`^- DaemonSet linkerd-cni/linkerd-cni$`)),
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(
					certificates,
					resource.TestCheckResourceAttr(address, "webhooks.#", "3"),
					resource.TestCheckResourceAttr(address, "webhooks.0.name", "linkerd-proxy-injector"),
				),
			},
			{
				// The webhooks' certificates are due. So is the issuer, but that is another resource's.
				PreConfig: func() { clock.forward(7800 * time.Hour) },
				Config: linkerdConfig(cluster, linkerdNew, `
				  high_availability = true
				  drift_detection   = "releases"`),
				ConfigPlanChecks:  updates(changes(`^\+ PodDisruptionBudget linkerd/`, `^~ Deployment linkerd/linkerd-identity: .*spec\.replicas: 1 -> 3`)),
				ConfigStateChecks: noDriftLeft,
				Check: resource.ComposeTestCheckFunc(certificates, func(*terraform.State) error {
					deployment, err := deployments.Get(t.Context(), "linkerd-identity", metav1.GetOptions{})
					if err == nil && *deployment.Spec.Replicas != 3 {
						err = fmt.Errorf("%d replicas, want 3", *deployment.Spec.Replicas)
					}
					return err
				}),
			},
			{Config: linkerdConfig(cluster, linkerdNew, "delete_crds = true")},
		},
	})
}

func TestAccLinkerd_keepsCRDs(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             linkerdGone(t, cluster, false),
		Steps: []resource.TestStep{
			{Config: linkerdConfig(cluster, linkerdNew, "")},
			{Config: linkerdConfig(cluster, linkerdNew, ""), Destroy: true, Check: linkerdGone(t, cluster, false)},
			// Installing again adopts the CRDs that stayed.
			{Config: linkerdConfig(cluster, linkerdNew, "")},
		},
	})
}

// linkerdGone checks that a destroy has left nothing but, if told so, the CRDs.
func linkerdGone(t *testing.T, cluster *testcluster.Cluster, crds bool) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		for _, namespace := range []string{"linkerd", "aksmesh-system"} {
			if _, err := cluster.Client().CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("namespace %s: want not found, got %w", namespace, err)
			}
		}
		webhooks, err := cluster.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		if err != nil || len(webhooks.Items) > 0 {
			return fmt.Errorf("%d webhook configurations are left: %w", len(webhooks.Items), err)
		}
		roles, err := cluster.Client().RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-ns"})
		if err != nil || len(roles.Items) > 0 {
			return fmt.Errorf("%d cluster roles are left: %w", len(roles.Items), err)
		}
		_, err = cluster.Client().Discovery().ServerResourcesForGroupVersion("policy.linkerd.io/v1beta3")
		if crds && !apierrors.IsNotFound(err) {
			return fmt.Errorf("the CRDs are left: %w", err)
		}
		if !crds && err != nil {
			return fmt.Errorf("the CRDs are gone: %w", err)
		}
		return nil
	}
}

// noKeyInReleases checks that no private key got into a Helm release's record.
func noKeyInReleases(t *testing.T, cluster *testcluster.Cluster, namespace string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		secrets, err := cluster.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
		if err != nil {
			return err
		}
		if len(secrets.Items) == 0 {
			return fmt.Errorf("namespace %s has no release", namespace)
		}
		for _, secret := range secrets.Items {
			text, err := releaseText(secret.Data["release"])
			if err != nil {
				return err
			}
			if strings.Contains(text, "PRIVATE KEY") {
				return fmt.Errorf("release record %s holds a private key", secret.Name)
			}
		}
		return nil
	}
}

func TestAccLinkerd_foreign(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{})
	if err := installLinkerd(t.Context(), connect(t, cluster), cluster.Charts().Repository, linkerdOld); err != nil {
		t.Fatal(err)
	}
	// As a release looks that somebody else has installed.
	secrets := cluster.Client().CoreV1().Secrets("linkerd")
	patch := []byte(`{"metadata":{"labels":{"aksmesh.io/managed-by":null}}}`)
	for _, name := range []string{"linkerd-crds", "linkerd-control-plane"} {
		if _, err := secrets.Patch(t.Context(), "sh.helm.release.v1."+name+".v1", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`resource "aksmesh_linkerd" "this" {
			  version    = %q
			  repository = %q
			  issuer_id  = "linkerd/linkerd"
			}`, linkerdOld, cluster.Charts().Repository)),
			ExpectError: regexp.MustCompile(`(?is)release\s+linkerd/linkerd-crds.*not\s+made\s+by\s+this\s+provider.*terraform\s+import\s+<address>\s+linkerd`),
		}},
	})
}

func TestAccLinkerd_failures(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 2})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      linkerdConfig(cluster, "2026.8.4", ""),
				ExpectError: regexp.MustCompile(`(?s)version\s+=\s+"2026.8.4".*no\s+version\s+"2026.8.4".*2026.8.3`),
			},
			{
				Config:      linkerdConfig(cluster, linkerdNew, `repository = "http://127.0.0.1:1/charts"`),
				ExpectError: regexp.MustCompile(`(?s)repository\s+=\s+"http://127.0.0.1:1/charts".*cannot\s+be\s+reached`),
			},
			{
				Config:      linkerdConfig(cluster, linkerdNew, `values = ["{ controlerReplicas: 2, proxyInit: { image: { name: x } }, policyValidator: [] }"]`),
				ExpectError: regexp.MustCompile(`(?is)values:.*proxyInit\.image.*2\.20.*controlerReplicas.*controllerReplicas.*policyValidator.*mapping`),
			},
			{
				// All that the cluster refuses is said at once, at the attributes at fault.
				Config: linkerdConfig(cluster, linkerdNew, `
				  high_availability = true
				  gateway_api       = { crds = "install", version = "1.5.1", source = "`+cluster.Charts().GatewayAPI("1.5.1")+`" }`),
				ExpectError: regexp.MustCompile(`(?is)high_availability:\s+2\s+of\s+2\s+nodes.*gateway_api:.*managed\s+by\s+AKS.*"require"`),
			},
			{
				Config:      linkerdConfig(cluster, linkerdNew, `gateway_api = { crds = "install", version = "1.5.1", source = "`+cluster.Charts().GatewayAPI("1.2.1")+`" }`),
				ExpectError: regexp.MustCompile(`(?is)gateway_api:.*is\s+of\s+Gateway\s+API\s+1\.2\.1,\s+and\s+1\.5\.1\s+is\s+wanted`),
			},
			{
				Config:      linkerdConfig(cluster, linkerdNew, `cni = { values = ["repairControler: { enabled: true }"] }`),
				ExpectError: regexp.MustCompile(`(?is)cni\.values:.*repairControler.*repairController`),
			},
			{
				// An image that never comes: the error names the workload, the
				// pod's reason and leaves something that the next apply repairs.
				Config: linkerdConfig(cluster, linkerdNew, `
				  values   = ["controllerImageVersion: does-not-exist"]
				  timeouts = { create = "20s" }`),
				ExpectError: regexp.MustCompile(`(?s)Deployment\s+linkerd/linkerd-.*(ImagePullBackOff|ErrImagePull)`),
			},
			{Config: linkerdConfig(cluster, linkerdNew, "")},
			{
				// A plugin of somebody else's is not taken.
				PreConfig: func() { foreignCNI(t, cluster, true) },
				Config:    linkerdConfig(cluster, linkerdNew, "cni = {}"), PlanOnly: true,
				ExpectError: regexp.MustCompile(`(?is)cni:\s+release\s+linkerd-cni/linkerd-cni.*not\s+made\s+by\s+this\s+provider`),
			},
			{
				// One that came before the control plane failed is not forgotten.
				PreConfig: func() { foreignCNI(t, cluster, false) },
				Config: linkerdConfig(cluster, linkerdNew, `
				  cni      = {}
				  values   = ["controllerImageVersion: does-not-exist"]
				  timeouts = { update = "8s" }`),
				ExpectError: regexp.MustCompile(`(?s)Deployment\s+linkerd/linkerd-.*(ImagePullBackOff|ErrImagePull)`),
			},
			{
				Config: linkerdConfig(cluster, linkerdNew, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					planLines{"aksmesh_linkerd.this", "changes", []string{`^- DaemonSet linkerd-cni/linkerd-cni$`}},
				}},
				Check: func(*terraform.State) error {
					_, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), "linkerd-cni", metav1.GetOptions{})
					if !apierrors.IsNotFound(err) {
						return fmt.Errorf("the plugin's namespace: want not found, got %w", err)
					}
					return nil
				},
			},
		},
	})
}

// foreignCNI installs the CNI plugin as others do, or uninstalls it.
func foreignCNI(t *testing.T, embedded *testcluster.Cluster, there bool) {
	t.Helper()
	const namespace = "linkerd-cni"
	charts, err := testCharts(connect(t, embedded))
	if err != nil {
		t.Fatal(err)
	}
	if !there {
		if err := charts.Releases.Uninstall(t.Context(), namespace, "linkerd-cni", helm.UninstallOptions{Wait: true}); err != nil {
			t.Fatal(err)
		}
		if err := charts.Cluster.Delete(t.Context(), kube.Ref{Kind: kube.Namespace, Name: namespace}, kube.DeleteOptions{Wait: true}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := charts.Cluster.Apply(t.Context(), kube.Ref{Kind: kube.Namespace, Name: namespace}.Object(), kube.ApplyOptions{Manager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	chart, err := charts.Load(t.Context(), embedded.Charts().Repository, "linkerd2-cni", linkerdNew)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := charts.Releases.Deploy(t.Context(), helm.DeployRequest{Namespace: namespace, Name: "linkerd-cni", Chart: chart}); err != nil {
		t.Fatal(err)
	}
}

func TestLinkerd_badInput(t *testing.T) {
	t.Parallel()
	issuer := "\n issuer_id = \"linkerd/linkerd\"\n"
	version := "\n version = \"2026.8.3\"\n"
	expectInvalid(t, "aksmesh_linkerd", map[string]invalidInput{
		`version = "2026"` + issuer:                                                    {"version", "not an exact version"},
		`version = ">= 2026.1.1"` + issuer:                                             {"version", "not an exact version"},
		`namespace = "x_y"` + issuer + version:                                         {"namespace", "DNS label"},
		`issuer_id = "istio/istio-system"` + version:                                   {"issuer_id", "writes its Secret for istio"},
		`issuer_id = "linkerd/elsewhere"` + version:                                    {"issuer_id", "in namespace elsewhere"},
		`values = ["a: [b"]` + issuer + version:                                        {"values", "values[0] is not a YAML mapping"},
		`values = ["identity: { issuer: { tls: { keyPEM: x } } }"]` + issuer + version: {"values", "value identity.issuer.tls cannot be set"},
		`values = ["a: b", "proxyInjector: { caBundle: x }"]` + issuer + version:       {"values", "value proxyInjector.caBundle cannot be set"},
		`cni = { values = ["a: [b"] }` + issuer + version:                              {"cni.values", "is not a YAML mapping"},
		`gateway_api = { crds = "take" }` + issuer + version:                           {"gateway_api", "value must be one of"},
		`proxy = { cpu_request = "lots" }` + issuer + version:                          {"cpu_request", "not a Kubernetes quantity"},
	})
}

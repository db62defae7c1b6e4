package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const (
	linkerd217 = "2024.11.8"
	linkerd218 = "2025.4.4"
)

// installByCommand leaves in a cluster what `linkerd install` does for a control
// plane whose issuer comes from elsewhere: objects without a release. The CRDs are
// of a release of somebody else's, with those of the Gateway API among them, as
// the charts of that version have it.
func installByCommand(ctx context.Context, cluster *kube.Cluster, repository, version string) error {
	charts, err := testCharts(cluster)
	if err != nil {
		return err
	}
	crds, err := charts.Load(ctx, repository, "linkerd-crds", version)
	if err != nil {
		return err
	}
	if _, err := charts.Releases.Deploy(ctx, helm.DeployRequest{Namespace: "linkerd", Name: "linkerd-crds", Chart: crds}); err != nil {
		return err
	}
	chart, err := charts.Load(ctx, repository, "linkerd-control-plane", version)
	if err != nil {
		return err
	}
	rendered, err := charts.Releases.Template(ctx, helm.RenderRequest{Namespace: "linkerd", Name: "linkerd-control-plane", Chart: chart, Values: map[string]any{
		"identity": map[string]any{"externalCA": true, "issuer": map[string]any{"scheme": "kubernetes.io/tls"}}, "disableHeartBeat": true,
	}})
	if err != nil {
		return err
	}
	objects, err := rendered.Objects()
	if err != nil {
		return err
	}
	var workloads []kube.Ref
	for _, object := range objects {
		kind, err := cluster.KindFor(ctx, object.GroupVersionKind())
		if err != nil {
			return err
		}
		if kind.Namespaced && object.GetNamespace() == "" {
			object.SetNamespace("linkerd")
		}
		if _, err := cluster.Apply(ctx, object, kube.ApplyOptions{Manager: "kubectl"}); err != nil {
			return err
		}
		if kind == kube.Deployment {
			workloads = append(workloads, kube.Ref{Kind: kind, Namespace: "linkerd", Name: object.GetName()})
		}
	}
	return cluster.AwaitReady(ctx, workloads...)
}

// identitiesOfLinkerd are the UIDs of Linkerd's objects and of the Gateway API's
// CRDs, by their names.
func identitiesOfLinkerd(ctx context.Context, cluster *kube.Cluster) (map[string]string, error) {
	found := map[string]string{}
	for _, kind := range []kube.Kind{
		kube.Deployment, kube.Service, kube.ServiceAccount, kube.ConfigMap, kube.ClusterRole, kube.ClusterRoleBinding,
		kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration, kube.CustomResourceDefinition,
	} {
		namespace := ""
		if kind.Namespaced {
			namespace = "linkerd"
		}
		all, err := cluster.List(ctx, kind, namespace)
		if err != nil {
			return nil, err
		}
		for _, object := range all {
			if strings.Contains(object.GetName(), "linkerd") || strings.HasSuffix(object.GetName(), ".gateway.networking.k8s.io") {
				found[kind.Name+" "+object.GetName()] = string(object.GetUID())
			}
		}
	}
	return found, nil
}

func TestAccLinkerd_adopted(t *testing.T) {
	t.Parallel()
	embedded := testcluster.New(t, testcluster.Options{NoGatewayAPI: true})
	cluster := connect(t, embedded)
	const address = "aksmesh_linkerd.this"
	repository := embedded.Charts().Repository
	proxy := testcluster.NewFaultProxy(t, embedded.Kubeconfig())
	adopting := strings.ReplaceAll(linkerdConfig(embedded, linkerd217, ""), embedded.Kubeconfig(), proxy.Kubeconfig()) +
		"\nimport {\n  to = " + address + "\n  id = \"linkerd\"\n}\n"
	issuer, _, _ := strings.Cut(linkerdConfig(embedded, linkerd217, ""), `resource "aksmesh_linkerd"`)
	gateway := func(version string) string {
		return fmt.Sprintf(`gateway_api = { crds = "install", version = %q, source = %q }`, version, embedded.Charts().GatewayAPI(version))
	}
	before := map[string]string{}
	same := func(*terraform.State) error {
		after, err := identitiesOfLinkerd(t.Context(), cluster)
		if err != nil {
			return err
		}
		for name, uid := range before {
			if after[name] != uid {
				return fmt.Errorf("%s was made anew, or is gone", name)
			}
		}
		return nil
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: resource.ComposeTestCheckFunc(linkerdGone(t, embedded, true), func(*terraform.State) error {
			if _, err := cluster.Get(context.WithoutCancel(t.Context()), httpRoutes); !errors.Is(err, kube.ErrNotFound) {
				return fmt.Errorf("want %s gone with the last that may use it, got %w", httpRoutes, err)
			}
			return nil
		}),
		Steps: []resource.TestStep{
			{
				Config: linkerdConfig(embedded, linkerdNew, ""), PlanOnly: true,
				ExpectError: regexp.MustCompile(`(?is)gateway_api:\s+the\s+cluster\s+has\s+no\s+CRDs\s+of\s+the\s+Gateway\s+API.*enable-gateway-api`),
			},
			{Config: issuer},
			{
				PreConfig: func() {
					if err := installByCommand(t.Context(), cluster, repository, linkerd217); err != nil {
						t.Fatal(err)
					}
					found, err := identitiesOfLinkerd(t.Context(), cluster)
					if err != nil || len(found) < 25 {
						t.Fatalf("found only %v: %v", slices.Sorted(maps.Keys(found)), err)
					}
					maps.Copy(before, found)
					charts, err := testCharts(cluster)
					if err != nil {
						t.Fatal(err)
					}
					err = linkerd.Installer{Charts: charts}.Uninstall(t.Context(), linkerd.Removal{Namespace: "linkerd"})
					if err == nil || !strings.Contains(err.Error(), "has no Helm release") {
						t.Errorf("uninstalling what has no release: %v", err)
					}
				},
				Config: linkerdConfig(embedded, linkerd217, ""), PlanOnly: true,
				ExpectError: regexp.MustCompile(`(?s)not\s+made\s+by\s+this\s+provider.*terraform\s+import\s+<address>\s+linkerd`),
			},
			{
				// Imported and taken over in one apply, which is cut off in the middle,
				PreConfig: func() {
					proxy.Set(testcluster.FaultForbidden, testcluster.Methods("PUT", "PATCH"), testcluster.PathContains("/validatingwebhookconfigurations/linkerd-policy-validator"))
				},
				Config: adopting,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
					planLines{address, "drift", []string{"^Deployment linkerd/linkerd-destination was made by `linkerd install`"}},
					planLines{address, "changes", []string{`^\. CustomResourceDefinition httproutes\.gateway\.networking\.k8s\.io`}},
				}},
				ExpectError: regexp.MustCompile(`linkerd-policy-validator-webhook-config`),
			},
			{
				// and gone on with, with nothing made anew.
				PreConfig: proxy.Clear,
				Config:    adopting,
				Check:     resource.ComposeTestCheckFunc(same, resource.TestCheckResourceAttr(address, "app_version", "edge-24.11.8")),
			},
			{
				Config: linkerdConfig(embedded, linkerdNew, ""), PlanOnly: true,
				ExpectError: regexp.MustCompile(`(?is)version:\s+an\s+upgrade\s+of\s+Linkerd\s+2\.17.*go\s+through\s+2\.18\s+\(version\s+"2025\.4\.4"\)`),
			},
			{
				// What the chart has brought may be stored as later bundles do not know it.
				Config: linkerdConfig(embedded, linkerd218, gateway("1.2.1")), PlanOnly: true,
				ExpectError: regexp.MustCompile(`(?is)gateway_api:.*grpcroutes\.gateway.*v1alpha2.*storedVersions.*delete\s+the\s+CRD`),
			},
			{
				// Otherwise it is brought up to date, and not made anew.
				PreConfig: func() {
					grpcRoutes := kube.Ref{Kind: kube.CustomResourceDefinition, Name: "grpcroutes.gateway.networking.k8s.io"}
					if err := cluster.Delete(t.Context(), grpcRoutes, kube.DeleteOptions{Wait: true}); err != nil {
						t.Fatal(err)
					}
					delete(before, grpcRoutes.String())
				},
				Config: linkerdConfig(embedded, linkerd218, gateway("1.2.1")),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(address, tfjsonpath.New("changes")),
				}},
				Check: resource.ComposeTestCheckFunc(same, func(state *terraform.State) error {
					changes := fmt.Sprint(state.RootModule().Resources[address].Primary.Attributes)
					for _, want := range []string{
						`~ CustomResourceDefinition httproutes\.gateway\.networking\.k8s\.io: .*bundle-version.* -> "v1\.2\.1"`, `\+ CustomResourceDefinition gateways\.gateway\.networking\.k8s\.io`,
						`~ Deployment linkerd/linkerd-destination: `,
					} {
						if !regexp.MustCompile(want).MatchString(changes) {
							return fmt.Errorf("no line of the changes matches %q: %s", want, changes)
						}
					}
					return nil
				}, func(*terraform.State) error {
					crd, err := cluster.Get(t.Context(), httpRoutes)
					if err == nil && crd.GetAnnotations()["gateway.networking.k8s.io/bundle-version"] != "v1.2.1" {
						err = fmt.Errorf("%s is of bundle %q", httpRoutes, crd.GetAnnotations()["gateway.networking.k8s.io/bundle-version"])
					}
					return err
				}),
			},
			{
				// What somebody takes away of it comes back.
				PreConfig: func() {
					if err := cluster.Delete(t.Context(), httpRoutes, kube.DeleteOptions{Wait: true}); err != nil {
						t.Fatal(err)
					}
				},
				Config: linkerdConfig(embedded, linkerd218, gateway("1.2.1")+"\n delete_crds = true"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					planLines{address, "drift", []string{`^CustomResourceDefinition httproutes\.gateway\.networking\.k8s\.io is missing$`}},
				}},
				Check: func(*terraform.State) error {
					return warnsOfRemoval(t.Context(), embedded, cluster)
				},
			},
		},
	})
}

var httpRoutes = kube.Ref{Kind: kube.CustomResourceDefinition, Name: "httproutes.gateway.networking.k8s.io"}

// warnsOfRemoval checks that what goes with Linkerd is said before.
func warnsOfRemoval(ctx context.Context, embedded *testcluster.Cluster, cluster *kube.Cluster) error {
	charts, err := testCharts(cluster)
	if err != nil {
		return err
	}
	profile := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
		"metadata": map[string]any{"namespace": "default", "name": "web.default.svc.cluster.local"}, "spec": map[string]any{"routes": []any{}},
	}}
	if _, err := cluster.Apply(ctx, profile, kube.ApplyOptions{Manager: "kubectl"}); err != nil {
		return err
	}
	pod, err := embedded.Client().CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"linkerd.io/inject": "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if pod.Labels["linkerd.io/control-plane-ns"] != "linkerd" {
		return fmt.Errorf("Pod default/web was not injected: %v", pod.Labels)
	}
	said, err := linkerd.Installer{Charts: charts}.ForeseeRemoval(ctx, linkerd.Removal{Namespace: "linkerd", DeleteCRDs: true})
	if err != nil {
		return err
	}
	for _, want := range []string{`1 ServiceProfile`, `1 pods in default`} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			return fmt.Errorf("%q does not tell of %s", said, want)
		}
	}
	return nil
}

package provider

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// proxyVersions checks the version of the proxy of every living pod of a namespace.
func proxyVersions(t *testing.T, cluster *testcluster.Cluster, namespace, want string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if got := pod.Annotations["linkerd.io/proxy-version"]; pod.DeletionTimestamp == nil && (got != want || !ready(pod)) {
				return fmt.Errorf("pod %s has version %q and is ready: %t", pod.Name, got, ready(pod))
			}
		}
		return nil
	}
}

// TestAccInjectionRepair_proxies has proxies whose image is not to be had, and
// corrects that: the pods that wait for it are made anew, not waited for.
func TestAccInjectionRepair_proxies(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	const working = "edge-26.8.2"
	for _, kind := range workloadKinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			createWorkload(t, cluster, kind, namespace, "web")
			awaitReady(t, cluster, kube.Ref{Kind: workloadKind(kind), Namespace: namespace, Name: "web"})
			config := func(version string) string {
				return injectionConfig(cluster, namespace, fmt.Sprintf("mesh = { linkerd = { proxy_version = %q } }", version))
			}
			broken := resource.TestStep{
				Config:      config("does-not-exist"),
				ExpectError: regexp.MustCompile(`(?s)` + kind + `\s+` + namespace + `/web\s+does\s+not\s+roll\s+out:.*does-not-exist`),
			}
			works := resource.TestStep{Config: config(working), Check: resource.ComposeTestCheckFunc(
				proxies(t, cluster, namespace, nil, "linkerd-proxy", true), proxyVersions(t, cluster, namespace, working),
			)}
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				// When it is created, and when it is changed.
				Steps: []resource.TestStep{broken, works, broken, works},
			})
		})
	}
}

// TestAccInjectionRepair_unready enrols pods that have not been able to start, and
// corrects what kept them: only that is waited for.
func TestAccInjectionRepair_unready(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	createWorkload(t, cluster, "Deployment", namespace, "web", func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Image = "example.com/app:does-not-exist"
	})
	awaitPod(t, cluster, namespace, "web")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"),
				ExpectError: regexp.MustCompile(`(?s)web\s+does\s+not\s+roll\s+out:.*does-not-exist`),
			},
			{
				PreConfig: func() {
					patchObject(t, cluster, "Deployment", namespace, "web", `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"example.com/app:1"}]}}}}`)
				},
				Config: injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"),
				Check:  proxies(t, cluster, namespace, nil, "linkerd-proxy", true),
			},
		},
	})
}

// annotatePods has the API server give all pods of a namespace an annotation, as
// webhooks of other products do.
func annotatePods(t *testing.T, cluster *testcluster.Cluster, namespace, key, value string) {
	t.Helper()
	admission := cluster.Client().AdmissionregistrationV1()
	_, err := admission.MutatingAdmissionPolicies().Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{
					Expression: fmt.Sprintf(`Object{metadata: Object.metadata{annotations: {%q: %q}}}`, key, value),
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = admission.MutatingAdmissionPolicyBindings().Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: namespace},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// It learns of policies with a delay.
	probe := testcluster.NewDeployment(namespace, "probe", 1).Spec.Template
	await(t, "annotated pods", func(ctx context.Context) bool {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}, Spec: probe.Spec}
		made, err := cluster.Client().CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && made.Annotations[key] == value
	})
}

// TestAccInjectionRepair_otherWebhooks has another product configure the proxies of
// pods: nobody's marks say so, and no restart would end it.
func TestAccInjectionRepair_otherWebhooks(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	const key = "config.linkerd.io/proxy-log-level"
	annotatePods(t, cluster, namespace, key, "debug")
	cluster.CreateDeployment(t, namespace, "web", 1)
	annotated := func(*terraform.State) error {
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return pod.Annotations[key] == "debug" }) {
			return fmt.Errorf("no pod of %d is annotated", len(pods.Items))
		}
		return nil
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			// Each is followed by a plan, which has to be empty.
			{
				Config: injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"),
				Check:  resource.ComposeTestCheckFunc(proxies(t, cluster, namespace, nil, "linkerd-proxy", true), annotated),
			},
			{
				Config: injectionConfig(cluster, namespace, `mesh = { linkerd = { proxy_cpu_request = "10m" } }`),
				Check:  resource.ComposeTestCheckFunc(proxies(t, cluster, namespace, nil, "linkerd-proxy", true), annotated),
			},
			{
				Config: injectionConfig(cluster, namespace, "mesh = { linkerd = {} }"),
				Check: resource.ComposeTestCheckFunc(annotated, func(*terraform.State) error {
					pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
					if err != nil {
						return err
					}
					for _, pod := range pods.Items {
						if request := pod.Annotations["config.linkerd.io/proxy-cpu-request"]; pod.DeletionTimestamp == nil && request != "" {
							return fmt.Errorf("pod %s still asks for %s", pod.Name, request)
						}
					}
					return nil
				}),
			},
		},
	})
}

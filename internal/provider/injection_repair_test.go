package provider

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
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

package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// enrolmentPlan is a plan of one enrolment, and what it has to say before
// anything is changed.
type enrolmentPlan struct {
	// namespace holds the labels and annotations that the namespace has, template
	// those of the pod template of a Deployment `web`, and deployment those of the
	// Deployment itself.
	namespace, template, deployment metav1.ObjectMeta
	pod                             func(*corev1.PodSpec)
	body                            string // of the resource

	errors, warnings []string // regular expressions for details, in any order
}

const onWeb = "workload = { kind = \"Deployment\", name = \"web\" }\n"

func labelled(key, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Labels: map[string]string{key: value}}
}

func annotated(key, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Annotations: map[string]string{key: value}}
}

// TestAccInjectionPlan_conflicts finds in plans what would keep an apply from
// enrolling, and what would leave pods out.
func TestAccInjectionPlan_conflicts(t *testing.T) {
	t.Parallel()
	linkerdCluster(t)
	cluster := istioCluster(t)
	hostNetwork := func(spec *corev1.PodSpec) { spec.HostNetwork = true }
	const inLinkerd, inIstio = "mesh = { linkerd = {} }", "mesh = { istio = {} }"
	for name, c := range map[string]enrolmentPlan{
		"nothing in the way": {
			body: inLinkerd, warnings: []string{`^Deployment \S+/web: 1 pod: not injected$`},
		},
		"one workload, nothing in the way": {
			body: onWeb + inIstio, warnings: []string{`^Deployment \S+/web: 1 pod: not injected$`},
		},
		"both meshes on a namespace": {
			namespace: annotated("linkerd.io/inject", "enabled"), body: inIstio,
			errors: []string{`^namespace: .*enrolled in Linkerd too`},
		},
		"both meshes on a workload": {
			template: labelled("sidecar.istio.io/inject", "true"), body: onWeb + inLinkerd,
			errors: []string{`^workload: Deployment \S+/web: Istio claims its pods too`},
		},
		"a workload in a namespace of the other mesh": {
			namespace: labelled("istio-injection", "enabled"), body: onWeb + inLinkerd,
			errors: []string{`^workload: Deployment \S+/web: Istio claims its pods too`},
		},
		"a workload in a namespace of the ambient mode": {
			namespace: labelled("istio.io/dataplane-mode", "ambient"), body: onWeb + inLinkerd,
			errors: []string{`^workload: Deployment \S+/web: Istio claims its pods too`},
		},
		"hostNetwork of the workload": {
			pod: hostNetwork, body: onWeb + inLinkerd,
			errors: []string{`^workload: Deployment \S+/web: its pods are left out: .*hostNetwork`},
		},
		"hostNetwork in the namespace": {
			pod: hostNetwork, body: inIstio,
			warnings: []string{`^Deployment \S+/web: its pods are left out: .*hostNetwork`},
		},
		"Pod Security baseline": {
			namespace: labelled("pod-security.kubernetes.io/enforce", "baseline"), body: inLinkerd,
			errors: []string{`^namespace: .*pod-security.kubernetes.io/enforce=baseline refuses the capability NET_ADMIN`},
		},
		"Pod Security restricted": {
			namespace: labelled("pod-security.kubernetes.io/enforce", "restricted"), body: onWeb + inIstio,
			errors: []string{`^namespace: .*pod-security.kubernetes.io/enforce=restricted refuses the capability NET_ADMIN`},
		},
		"pods that opt out of Linkerd": {
			template: annotated("linkerd.io/inject", "disabled"), body: inLinkerd,
			warnings: []string{`^Deployment \S+/web: its pods are left out: .*linkerd.io/inject says disabled`},
		},
		"pods that opt out of Istio": {
			template: labelled("sidecar.istio.io/inject", "false"), body: inIstio,
			warnings: []string{`^Deployment \S+/web: its pods are left out: .*sidecar.istio.io/inject says false`},
		},
		"pods that opt out of the ambient mode": {
			template: labelled("istio.io/dataplane-mode", "none"), body: "mesh = { istio = { mode = \"ambient\" } }",
			warnings: []string{`^Deployment \S+/web: its pods are left out: .*istio.io/dataplane-mode`},
		},
		"a label where Linkerd reads annotations": {
			namespace: labelled("linkerd.io/inject", "enabled"), body: inLinkerd,
			warnings: []string{`(?s)^Namespace \S+: .*label linkerd.io/inject.*annotation`, `not injected`},
		},
		"an annotation of the Deployment instead of its pods": {
			deployment: annotated("linkerd.io/inject", "disabled"), body: inLinkerd,
			warnings: []string{`^Deployment \S+/web: .*linkerd.io/inject.*pod template`, `not injected`},
		},
		"an annotation where Istio reads labels": {
			template: annotated("sidecar.istio.io/inject", "true"), body: inIstio,
			warnings: []string{`^Deployment \S+/web: .*annotation sidecar.istio.io/inject.*label`, `not injected`},
		},
		"a namespace that Linkerd never sees": {
			namespace: labelled("config.linkerd.io/admission-webhooks", "disabled"), body: inLinkerd,
			errors: []string{`^namespace: .*config.linkerd.io/admission-webhooks`},
		},
		"a namespace that Istio never sees": {
			namespace: labelled("istio-injection", "disabled"), body: onWeb + inIstio,
			errors: []string{`^workload: .*istio-injection=disabled`},
		},
		"a revision against somebody else's label": {
			namespace: labelled("istio-injection", "enabled"), body: "mesh = { istio = { revision = \"default\" } }",
			errors: []string{`^namespace: .*istio-injection=enabled`},
		},
		"a workload that is not there yet": {
			body: "workload = { kind = \"StatefulSet\", name = \"db\" }\n" + inLinkerd,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			if level := c.namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "" {
				expectRefusal(t, cluster, level)
			}
			d := testcluster.NewDeployment(namespace, "web", 1)
			d.Annotations = c.deployment.Annotations
			for key, value := range c.template.Labels {
				d.Spec.Template.Labels = map[string]string{"app": "web", key: value}
			}
			d.Spec.Template.Annotations = c.template.Annotations
			if c.pod != nil {
				c.pod(&d.Spec.Template.Spec)
			}
			if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			awaitPod(t, cluster, namespace, "web")
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": c.namespace.Labels, "annotations": c.namespace.Annotations}})
			if err != nil {
				t.Fatal(err)
			}
			before, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}

			w := newWorkspace(t, injectionConfig(cluster, namespace, c.body))
			got := w.run("plan", "-json")
			if (got.code == 0) != (len(c.errors) == 0) {
				t.Errorf("exit code %d", got.code)
			}
			expectDetails(t, "error", got, c.errors)
			expectDetails(t, "warning", got, c.warnings)
			after, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
			if err != nil || after.ResourceVersion != before.ResourceVersion {
				t.Errorf("the plan has changed the namespace: %v, %v", err, after)
			}
		})
	}

	t.Run("a namespace that the API server's webhooks leave out", func(t *testing.T) {
		t.Parallel()
		w := newWorkspace(t, injectionConfig(cluster, "kube-system", inLinkerd))
		expectDetails(t, "error", w.run("plan", "-json"), []string{`^namespace: Namespace kube-system: .*never sees`})
	})
}

// TestAccInjectionPlan_forbidden plans without the right to look at the mesh.
func TestAccInjectionPlan_forbidden(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	proxy.Set(testcluster.FaultForbidden, testcluster.PathContains("/mutatingwebhookconfigurations"))
	w := newWorkspace(t, providerConfig(proxy.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_injection\" \"this\" {\n  namespace = %q\n  mesh = { linkerd = {} }\n}", namespace)))
	got := w.run("plan", "-json")
	if got.code != 0 || proxy.Faulted() == 0 {
		t.Errorf("%d requests were refused, and the plan ended with exit code %d", proxy.Faulted(), got.code)
	}
	expectDetails(t, "warning", got, []string{`(?s)mutatingwebhookconfigurations.*are not allowed to do this`})
	expectDetails(t, "error", got, nil)
}

// expectDetails wants diagnostics of a severity with these details and no others.
func expectDetails(t *testing.T, severity string, got outcome, patterns []string) {
	t.Helper()
	var details []string
	for _, d := range got.diagnostics(severity) {
		if strings.HasPrefix(d.Summary, "Provider development overrides") {
			continue // Of the test's own making.
		}
		details = append(details, d.Detail)
	}
	for _, pattern := range patterns {
		found := false
		for i, detail := range details {
			if regexp.MustCompile(pattern).MatchString(detail) {
				details = append(details[:i], details[i+1:]...)
				found = true
				break
			}
		}
		if !found {
			t.Errorf("no %s matches %s", severity, pattern)
		}
	}
	if len(details) > 0 {
		t.Errorf("%ss besides those wanted: %q", severity, details)
	}
}

// expectRefusal wants the API server itself to refuse a pod that Linkerd injects
// at that level of the Pod Security Standards.
func expectRefusal(t *testing.T, cluster *testcluster.Cluster, level string) {
	t.Helper()
	namespace := cluster.Namespace(t)
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"` + level + `"}}}`)
	if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "injected", Annotations: map[string]string{"linkerd.io/inject": "enabled"}},
		Spec:       testcluster.NewDeployment(namespace, "web", 1).Spec.Template.Spec,
	}
	await(t, "the refusal of a pod by Pod Security", func(ctx context.Context) bool {
		// The default service account comes with a delay.
		_, err := cluster.Client().CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), `violates PodSecurity "`+level) && strings.Contains(err.Error(), "NET_ADMIN")
	})
}

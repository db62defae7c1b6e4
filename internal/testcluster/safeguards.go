package testcluster

import (
	"context"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Safeguards makes admission change the workloads of a namespace, for the time
// of the test, as the Deployment Safeguards of AKS do: containers request 100m
// and 100Mi at least, are limited to 500m and 2048Mi unless they say otherwise,
// and pods of a workload keep apart from each other unless it says otherwise.
// It returns when this is so.
func (c *Cluster) Safeguards(t testing.TB, namespace string) {
	t.Helper()
	name := "aks-managed-safeguards-" + namespace
	everything := []admissionregistrationv1.NamedRuleWithOperations{{
		RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments", "daemonsets", "statefulsets"},
			},
		},
	}}
	policies := c.client.AdmissionregistrationV1().MutatingAdmissionPolicies()
	_, err := policies.Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			MatchConstraints:   &admissionregistrationv1.MatchResources{ResourceRules: everything},
			FailurePolicy:      new(admissionregistrationv1.Fail),
			ReinvocationPolicy: admissionregistrationv1.IfNeededReinvocationPolicy,
			Mutations: []admissionregistrationv1.Mutation{
				{
					PatchType:          admissionregistrationv1.PatchTypeApplyConfiguration,
					ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{Expression: safeguardedPods},
				},
				{
					PatchType: admissionregistrationv1.PatchTypeJSONPatch,
					JSONPatch: &admissionregistrationv1.JSONPatch{Expression: safeguardedPlaces},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create MutatingAdmissionPolicy %s: %v", name, err)
	}
	bindings := c.client.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	_, err = bindings.Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{
			PolicyName: name,
			MatchResources: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create MutatingAdmissionPolicyBinding %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := bindings.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete MutatingAdmissionPolicyBinding %s: %v", name, err)
		}
		if err := policies.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete MutatingAdmissionPolicy %s: %v", name, err)
		}
	})
	c.awaitSafeguards(t, namespace)
}

// awaitSafeguards tries until the API server has heard of the policy.
func (c *Cluster) awaitSafeguards(t testing.TB, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		tried, err := c.client.AppsV1().Deployments(namespace).
			Create(ctx, NewDeployment(namespace, "safeguarded", 1), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			t.Fatalf("try a Deployment in namespace %s: %v", namespace, err)
		}
		if pod := tried.Spec.Template.Spec; len(pod.Containers[0].Resources.Limits) > 0 && pod.Affinity != nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("namespace %s: the MutatingAdmissionPolicy has no effect", namespace)
		case <-ticker.C:
		}
	}
}

const safeguardedPods = `
Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
  containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{
    name: c.name,
    resources: Object.spec.template.spec.containers.resources{
      requests: {
        "cpu": has(c.resources.requests) && "cpu" in c.resources.requests && !quantity(c.resources.requests["cpu"]).isLessThan(quantity("100m"))
          ? string(c.resources.requests["cpu"]) : "100m",
        "memory": has(c.resources.requests) && "memory" in c.resources.requests && !quantity(c.resources.requests["memory"]).isLessThan(quantity("100Mi"))
          ? string(c.resources.requests["memory"]) : "100Mi"
      },
      limits: {
        "cpu": has(c.resources.limits) && "cpu" in c.resources.limits ? string(c.resources.limits["cpu"]) : "500m",
        "memory": has(c.resources.limits) && "memory" in c.resources.limits ? string(c.resources.limits["memory"]) : "2048Mi"
      }
    }
  })
}}}}`

// What is replaced as a whole can be set by a JSON patch only.
const safeguardedPlaces = `
(has(object.spec.template.spec.topologySpreadConstraints) ? [] : [
  JSONPatch{op: "add", path: "/spec/template/spec/topologySpreadConstraints", value: []},
  JSONPatch{op: "add", path: "/spec/template/spec/topologySpreadConstraints/-", value: Object.spec.template.spec.topologySpreadConstraints{
    maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "ScheduleAnyway",
    labelSelector: Object.spec.template.spec.topologySpreadConstraints.labelSelector{matchLabels: object.spec.selector.matchLabels}
  }}
]) + (has(object.spec.template.spec.affinity) ? [] : [JSONPatch{
  op: "add", path: "/spec/template/spec/affinity",
  value: Object.spec.template.spec.affinity{podAntiAffinity: Object.spec.template.spec.affinity.podAntiAffinity{
    preferredDuringSchedulingIgnoredDuringExecution: [Object.spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution{
      weight: 100,
      podAffinityTerm: Object.spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.podAffinityTerm{
        topologyKey: "kubernetes.io/hostname",
        labelSelector: Object.spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.podAffinityTerm.labelSelector{matchLabels: object.spec.selector.matchLabels}
      }
    }]
  }}
}])`

package linkerd

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// checkRoom refuses high availability where pods would wait for nodes, be it now
// or in the next rollout. How many it takes is read off the rendered Deployments:
// charts and values differ in replicas and in what rollouts may stop.
func (i Installer) checkRoom(ctx context.Context, release install.Release) error {
	rendered, err := i.Render(ctx, release)
	if err != nil {
		return err
	}
	objects, err := rendered.Objects()
	if err != nil {
		return err
	}
	nodes, err := i.Cluster.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GroupVersionKind() != kube.Deployment.GVK() {
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
			continue // What is no Deployment is for the API server to refuse.
		}
		pods, surplus := nodesOf(&deployment)
		usable := 0
		for _, node := range nodes {
			if takes(ctx, node, deployment.Spec.Template.Spec.NodeSelector, deployment.Spec.Template.Spec.Tolerations) {
				usable++
			}
		}
		if pods == 0 || usable >= pods+surplus {
			continue
		}
		why := ""
		if surplus > 0 {
			why = ", one of them for a rolling update, which starts a pod before it stops one"
		}
		return &InputError{Input: "high_availability", Err: fmt.Errorf(
			"%s has %d replicas, each on a node of its own, and needs %d nodes%s; %d of the cluster's %d can take its pods: add nodes, tolerate their taints by the chart's value tolerations, or share nodes by its value %s = false",
			kube.Ref{Kind: kube.Deployment, Namespace: release.Namespace, Name: deployment.Name}, pods, pods+surplus, why, usable, len(nodes), antiAffinity)}
	}
	return nil
}

// nodesOf is how many nodes the pods of a Deployment take that cannot share one,
// and how many more a rollout does; zero if they can.
func nodesOf(d *appsv1.Deployment) (pods, surplus int) {
	if !apart(&d.Spec.Template) {
		return 0, 0
	}
	pods = 1
	if d.Spec.Replicas != nil {
		pods = int(*d.Spec.Replicas)
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || pods == 0 {
		return pods, 0
	}
	// Kubernetes rounds the pods that may lack down, and those on top up.
	preset := intstr.FromString("25%")
	rolling := cmp.Or(d.Spec.Strategy.RollingUpdate, &appsv1.RollingUpdateDeployment{})
	lacking, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxUnavailable, &preset), pods, false)
	if err != nil {
		return pods, 0
	}
	onTop, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxSurge, &preset), pods, true)
	if err != nil || lacking > 0 || onTop == 0 {
		return pods, 0
	}
	return pods, 1
}

// apart reports whether pods of a template refuse to be on a node together.
func apart(template *corev1.PodTemplateSpec) bool {
	affinity := template.Spec.Affinity
	if affinity == nil || affinity.PodAntiAffinity == nil {
		return false
	}
	for _, term := range affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
		if err == nil && term.TopologyKey == corev1.LabelHostname && selector.Matches(labels.Set(template.Labels)) {
			return true
		}
	}
	return false
}

// sameDomains reports whether the domains that an extension has from its control
// plane are those on record. Others may be others again by the time of the apply:
// the same run may change the control plane.
func sameDomains(s ExtensionSpecification, values, recorded map[string]any) bool {
	of := func(values map[string]any) map[string]string {
		found := map[string]string{}
		for _, key := range []string{"clusterDomain", "identityTrustDomain"} {
			if _, own := s.Values[key]; !own {
				found[key], _ = values[key].(string)
			}
		}
		return found
	}
	return maps.Equal(of(values), of(recorded))
}

package istio

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// refreshGateways restarts the gateways that run another proxy than istiod
// injects now: their templates say no more than `auto`, so nothing else does it
// when istiod's version or registry changes.
func (i Installer) refreshGateways(ctx context.Context, s Specification) error {
	stale, err := i.staleGateways(ctx, s)
	if err != nil || len(stale) == 0 {
		return err
	}
	report, err := i.Cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{stale}, At: s.Now})
	if err == nil && len(report.Unreachable) > 0 {
		return report.Unreachable[0]
	}
	return err
}

// staleGateways returns the workloads of the control plane's gateways of which a
// pod does not run the proxy that istiod injects now.
func (i Installer) staleGateways(ctx context.Context, s Specification) ([]kube.Ref, error) {
	gateways := s.gatewayOrder()
	if len(gateways) == 0 {
		return nil, nil
	}
	config, err := injectorConfigIn(ctx, i.Cluster, s.Namespace, s.Revision)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var stale []kube.Ref
	for _, namespace := range s.namespaces() {
		workloads, err := i.Cluster.Workloads(ctx, namespace)
		if err != nil {
			return nil, err
		}
		pods, err := i.Cluster.Pods(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, w := range workloads {
			if slices.Contains(gateways, w.Name) && s.gatewayNamespace(w.Name) == namespace && slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
				return belongs(pod, w) && !config.runs(pod)
			}) {
				stale = append(stale, w.Ref)
			}
		}
	}
	return stale, nil
}

// belongs reports whether pod is one of a workload's that is there to stay.
func belongs(pod *corev1.Pod, w *kube.Workload) bool {
	return mesh.Living(pod) && metav1.GetControllerOf(pod) != nil && w.Selector.Matches(labels.Set(pod.Labels))
}

// runs reports whether the proxy of pod is of the image that is injected, in any
// variant: a pod may choose its variant, and even the whole image. One that was
// made since then was given that image, so that another one of the same version is
// what a policy or a mirror of a registry has made of it.
func (c *injectorConfig) runs(pod *corev1.Pod) bool {
	if pod.Annotations[proxyImageAnnotation] != "" {
		return true
	}
	for _, container := range pod.Spec.Containers {
		if container.Name != proxyContainer {
			continue
		}
		version := versionOf(container.Image)
		rewritten := container.Image != "auto" && pod.CreationTimestamp.After(c.changed) && (version == "" || version == versionOf(c.image))
		return sameImage(container.Image, c.image) || rewritten
	}
	return false
}

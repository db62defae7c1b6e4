package istio

import corev1 "k8s.io/api/core/v1"

// isZtunnel reports whether a pod is the ztunnel of a node: part of the plane, and
// no workload with a sidecar, though its container has the name of one. An
// application may be called ztunnel too, and is told apart by being injected.
func isZtunnel(pod *corev1.Pod) bool {
	_, injected := pod.Annotations[statusAnnotation]
	return pod.Labels["app"] == ztunnel && !injected
}

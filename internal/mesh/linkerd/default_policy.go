package linkerd

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// DefaultPolicyGuarantee says what holds for pods whose default inbound policy is
// the given one.
func DefaultPolicyGuarantee(policy string) string {
	var whom string
	switch policy {
	case "deny":
		whom = "nobody gets in"
	case "all-authenticated":
		whom = "whoever has an identity of Linkerd gets in, and nobody else"
	case "cluster-authenticated":
		whom = "whoever has an identity of Linkerd and an address in the control plane's clusterNetworks gets in, and nobody else"
	case "cluster-unauthenticated":
		whom = "whoever has an address in the control plane's clusterNetworks gets in, without proof of identity"
	case "audit":
		whom = "everybody gets in, and whom no authorization admits is logged"
	default:
		whom = "everybody gets in, without proof of identity"
	}
	return fmt.Sprintf("On ports for which there is no Server, %s. "+
		"It holds for pods that have a proxy and were made since; what bypasses the proxy (%s) is not protected, and neither are pods without one. "+
		"Servers and what they let in come before it. "+
		"Kubelets' probes by HTTP GET pass; one by gRPC has to be let in by a Server for its port where this refuses it.", whom, SkipInboundPortsAnnotation)
}

// DefaultPolicyOf is the default inbound policy that a pod was made with, empty
// for that of the control plane. It reports false for a pod without a proxy. The
// policy controller goes by the pod alone, to which the injector copies what its
// namespace says unless the pod template says otherwise.
func DefaultPolicyOf(pod *corev1.Pod) (policy string, meshed bool) {
	sidecar, _ := mesh.FindSidecar(pod, ProxyContainer)
	return pod.Annotations[DefaultInboundPolicyAnnotation], sidecar != nil
}

package netpol

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// PodEndpoint is a pod, in a namespace with the labels, as policies see it.
func PodEndpoint(namespaceLabels map[string]string, pod *corev1.Pod) Endpoint {
	e := Endpoint{
		Namespace: pod.Namespace, NamespaceLabels: namespaceLabels, Name: pod.Name, Labels: pod.Labels,
		HostNetwork: pod.Spec.HostNetwork,
	}
	for _, ip := range pod.Status.PodIPs {
		if address, err := netip.ParseAddr(ip.IP); err == nil {
			e.IPs = append(e.IPs, address)
		}
	}
	for _, container := range pod.Spec.Containers {
		e.Ports = append(e.Ports, container.Ports...)
	}
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			e.Ports = append(e.Ports, container.Ports...)
		}
	}
	return e
}

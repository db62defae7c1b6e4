package linkerd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// Injection enrols namespaces and workloads in Linkerd.
type Injection struct {
	// ControlPlane is the namespace of the control plane.
	ControlPlane string
	// SkipInboundPorts and SkipOutboundPorts bypass the proxy, OpaquePorts are
	// proxied without protocol detection. Each is a port or a range: "5080", "4000-4100".
	SkipInboundPorts, SkipOutboundPorts, OpaquePorts []string
}

var _ mesh.Mesh = Injection{}

// Annotations of the port settings, as proxies read them from their pod.
const (
	SkipInboundPortsAnnotation  = configPrefix + "skip-inbound-ports"
	SkipOutboundPortsAnnotation = configPrefix + "skip-outbound-ports"
	OpaquePortsAnnotation       = configPrefix + "opaque-ports"
)

// neverInjected are the namespaces that the injector's webhook leaves out by
// name (chart value proxyInjector.namespaceSelector).
var neverInjected = []string{"kube-system", "cert-manager"}

// Name implements mesh.Mesh.
func (Injection) Name() string { return "Linkerd" }

// NamespaceMark implements mesh.Mesh. The injector copies the settings of a
// namespace to pods that do not have their own.
func (i Injection) NamespaceMark() mesh.Mark { return i.mark() }

// WorkloadMark implements mesh.Mesh.
func (i Injection) WorkloadMark() mesh.Mark { return i.mark() }

// mark is made of annotations only: the injector does not look at labels.
func (i Injection) mark() mesh.Mark {
	annotations := map[string]string{injectAnnotation: "enabled"}
	for key, ports := range map[string][]string{
		SkipInboundPortsAnnotation:  i.SkipInboundPorts,
		SkipOutboundPortsAnnotation: i.SkipOutboundPorts,
		OpaquePortsAnnotation:       i.OpaquePorts,
	} {
		if len(ports) > 0 {
			annotations[key] = strings.Join(ports, ",")
		}
	}
	return mesh.Mark{Annotations: annotations}
}

// Meshed implements mesh.Mesh. The label linkerd.io/control-plane-ns proves
// nothing: anyone who may label a pod can set it.
func (Injection) Meshed(pod *corev1.Pod) bool {
	return mesh.HasContainer(pod, proxyContainer)
}

// Exempt implements mesh.Mesh.
func (Injection) Exempt(pod *corev1.Pod) string {
	switch {
	case pod.Spec.HostNetwork:
		return "it uses the host's network (hostNetwork)"
	case pod.Labels[componentLabel] != "":
		return "it is part of Linkerd's control plane"
	case pod.Labels[cniResourceLabel] != "":
		return "it is part of Linkerd's CNI plugin"
	case mesh.HasContainer(pod, "istio-proxy"):
		return "it already has a proxy of Istio"
	}
	// The injector copies a namespace's value to the pod's annotations only
	// when it injects, so what stands here is the pod's own.
	switch value := pod.Annotations[injectAnnotation]; value {
	case "", "enabled", "ingress":
		return ""
	case "disabled":
		return "its annotation " + injectAnnotation + " says disabled"
	default:
		return fmt.Sprintf("its annotation %s has the invalid value %q", injectAnnotation, value)
	}
}

// Injecting implements mesh.Mesh.
func (i Injection) Injecting(ctx context.Context, cluster *kube.Cluster, namespace *corev1.Namespace) error {
	if slices.Contains(neverInjected, namespace.Name) {
		return fmt.Errorf("namespace %s: the injector of Linkerd never sees pods of %s", namespace.Name, strings.Join(neverInjected, " and "))
	}
	if namespace.Labels[admissionWebhooksLabel] == "disabled" {
		return fmt.Errorf("namespace %s: its label %s=disabled keeps the injector of Linkerd away", namespace.Name, admissionWebhooksLabel)
	}
	return mesh.Available(ctx, cluster, kube.Ref{Kind: kube.Deployment, Namespace: i.ControlPlane, Name: "linkerd-proxy-injector"})
}

// InjectionOf reads the settings back from the annotations of an enrolled
// namespace or pod template.
func InjectionOf(found mesh.Mark) Injection {
	ports := func(key string) []string {
		value := found.Annotations[key]
		if value == "" {
			return nil
		}
		return strings.Split(value, ",")
	}
	return Injection{
		ControlPlane:      DefaultNamespace,
		SkipInboundPorts:  ports(SkipInboundPortsAnnotation),
		SkipOutboundPorts: ports(SkipOutboundPortsAnnotation),
		OpaquePorts:       ports(OpaquePortsAnnotation),
	}
}

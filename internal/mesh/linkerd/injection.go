package linkerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// Injection enrols namespaces and workloads in Linkerd.
type Injection struct {
	// Namespace of the control plane.
	Namespace string
	// Ingress has the proxy route by the l5d-dst-override header, as ingress
	// controllers want it.
	Ingress bool
	// Settings are the annotations that configure the proxies; see Settings.
	Settings map[string]string
}

var _ mesh.Mesh = Injection{}

// neverInjected are the namespaces that the injector's webhook leaves out by
// name (chart value proxyInjector.namespaceSelector).
var neverInjected = []string{"kube-system", "cert-manager"}

// Name implements mesh.Mesh.
func (Injection) Name() string { return "Linkerd" }

// NamespaceMark implements mesh.Mesh. The injector copies the settings of a
// namespace to pods that do not have their own.
func (i Injection) NamespaceMark() mesh.Mark { return i.WorkloadMark() }

// WorkloadMark implements mesh.Mesh. It is made of annotations only: the
// injector does not look at labels.
func (i Injection) WorkloadMark() mesh.Mark {
	annotations := map[string]string{injectAnnotation: "enabled"}
	if i.Ingress {
		annotations[injectAnnotation] = "ingress"
	}
	maps.Copy(annotations, i.Settings)
	return mesh.Mark{Annotations: annotations}
}

// ServiceMark implements mesh.Mesh: clients learn from a Service which of its
// ports are opaque.
func (i Injection) ServiceMark() mesh.Mark {
	ports, ok := i.Settings[OpaquePortsAnnotation]
	if !ok {
		return mesh.Mark{}
	}
	return mesh.Mark{Annotations: map[string]string{OpaquePortsAnnotation: ports}}
}

// InPlace implements mesh.Mesh.
func (Injection) InPlace() bool { return false }

// Claims implements mesh.Mesh.
func (Injection) Claims(namespace, pod mesh.Mark) bool {
	value := pod.Annotations[injectAnnotation]
	if value == "" {
		value = namespace.Annotations[injectAnnotation]
	}
	return value == "enabled" || value == "ingress"
}

// Misplaced implements mesh.Mesh.
func (Injection) Misplaced(mesh.Place, mesh.Mark) []string { return nil }

// Exempt implements mesh.Mesh.
func (Injection) Exempt(pod *corev1.Pod) string {
	istio, _ := mesh.FindSidecar(pod, "istio-proxy")
	switch {
	case pod.Spec.HostNetwork:
		return "it uses the host's network (hostNetwork)"
	case pod.Labels[componentLabel] != "":
		return "it is part of Linkerd's control plane"
	case pod.Labels[cniResourceLabel] != "":
		return "it is part of Linkerd's CNI plugin"
	case istio != nil:
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

// Proxy implements mesh.Mesh. The label linkerd.io/control-plane-ns proves
// nothing: anyone who may label a pod can set it.
func (Injection) Proxy(pod *corev1.Pod) mesh.Proxy {
	container, mode := mesh.FindSidecar(pod, proxyContainer)
	if container == nil {
		return mesh.Proxy{}
	}
	return mesh.Proxy{
		Mode:       mode,
		Version:    pod.Annotations["linkerd.io/proxy-version"],
		Image:      container.Image,
		TrustRoots: pod.Annotations["linkerd.io/trust-root-sha256"],
		Ready:      mesh.ContainerReady(pod, proxyContainer),
	}
}

// ControlPlane implements mesh.Mesh.
func (i Injection) ControlPlane(ctx context.Context, cluster *kube.Cluster) (mesh.ControlPlane, error) {
	ref := kube.Ref{Kind: kube.Deployment, Namespace: i.Namespace, Name: "linkerd-proxy-injector"}
	injector, err := cluster.Workload(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", mesh.ErrNoControlPlane, err)
	}
	if err != nil {
		return nil, err
	}
	return controlPlane{injector: injector}, nil
}

// controlPlane is what the injector gives to pods now.
type controlPlane struct {
	injector *kube.Workload
}

// Available implements mesh.ControlPlane.
func (c controlPlane) Available() error {
	if c.injector.Available == 0 {
		return fmt.Errorf("%s has no available pod", c.injector.Ref)
	}
	return nil
}

// Sees implements mesh.ControlPlane.
func (c controlPlane) Sees(namespace *corev1.Namespace, _ *corev1.Pod) error {
	if slices.Contains(neverInjected, namespace.Name) {
		return fmt.Errorf("the injector of Linkerd never sees pods of %s", strings.Join(neverInjected, " and "))
	}
	if namespace.Labels[admissionWebhooksLabel] == "disabled" {
		return fmt.Errorf("its label %s=disabled keeps the injector of Linkerd away", admissionWebhooksLabel)
	}
	return nil
}

// Privileged implements mesh.ControlPlane.
func (c controlPlane) Privileged() bool { return true }

// Stale implements mesh.ControlPlane.
func (c controlPlane) Stale(mesh.Subject, mesh.Proxy) []mesh.Reason { return nil }

package linkerd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

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

// InjectionOf reads an enrolment back from the labels and annotations of a
// namespace or pod template that is enrolled. Which control plane it belongs to
// cannot be seen there; it is taken to be in DefaultNamespace. Settings that
// cannot be said in words of ours stay with whoever has written them, as do those
// that nothing reads from a namespace.
func InjectionOf(found mesh.Mark) Injection {
	i := Injection{Namespace: DefaultNamespace, Ingress: found.Annotations[injectAnnotation] == ingress}
	settings := Settings()
	if _, namespace := found.Labels[corev1.LabelMetadataName]; namespace {
		settings = slices.DeleteFunc(settings, func(s mesh.Setting) bool { return s.TemplateOnly })
	}
	i.Settings = mesh.Expressible(settings, found.Annotations)
	return i
}

// Name implements mesh.Mesh.
func (Injection) Name() string { return "Linkerd" }

// NamespaceMark implements mesh.Mesh. The injector copies the settings of a
// namespace to pods that do not have their own.
func (i Injection) NamespaceMark() mesh.Mark { return i.WorkloadMark() }

// WorkloadMark implements mesh.Mesh. It is made of annotations only: the
// injector does not look at labels.
func (i Injection) WorkloadMark() mesh.Mark {
	annotations := map[string]string{injectAnnotation: enabled}
	if i.Ingress {
		annotations[injectAnnotation] = ingress
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

// OptOutMark implements mesh.Mesh.
func (Injection) OptOutMark() mesh.Mark {
	return mesh.Mark{Annotations: map[string]string{injectAnnotation: "disabled"}}
}

// Secret implements mesh.Mesh.
func (Injection) Secret(key string) bool { return key == additionalEnvAnnotation }

// InPlace implements mesh.Mesh.
func (Injection) InPlace() bool { return false }

// Claims implements mesh.Mesh. What the pod says comes before what its
// namespace says, but what the injector does not know at either keeps the pod
// out.
func (Injection) Claims(namespace, pod mesh.Mark) bool {
	outer, inner := namespace.Annotations[injectAnnotation], pod.Annotations[injectAnnotation]
	if !validInject(outer) || !validInject(inner) {
		return false
	}
	if inner == "" {
		inner = outer
	}
	return inner == enabled || inner == ingress
}

func validInject(value string) bool {
	return slices.Contains([]string{"", enabled, ingress, disabled}, value)
}

// ours reports whether a key is one that the injector reads as an annotation.
func ours(key string) bool {
	if key == injectAnnotation || key == disableTapAnnotation {
		return true
	}
	for _, prefix := range []string{configPrefix, configAlphaPrefix, configBetaPrefix} {
		if strings.HasPrefix(key, prefix) {
			return key != admissionWebhooksLabel
		}
	}
	return false
}

// Misplaced implements mesh.Mesh.
func (Injection) Misplaced(at mesh.Place, found mesh.Mark) []string {
	const onTemplate = "put it among the annotations of the pod template (spec.template.metadata.annotations)"
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(found.Labels)) {
		switch {
		case key == admissionWebhooksLabel && at != mesh.OnNamespace:
			lines = append(lines, fmt.Sprintf("the label %s does nothing here: only that of a namespace is read", key))
		case ours(key) && at == mesh.OnWorkload:
			lines = append(lines, fmt.Sprintf("the label %s does nothing: Linkerd reads it as an annotation of pods; %s", key, onTemplate))
		case ours(key):
			lines = append(lines, fmt.Sprintf("the label %s does nothing: Linkerd reads it as an annotation; make it one", key))
		}
	}
	podsOnly := map[string]bool{}
	for _, s := range settings() {
		podsOnly[s.Key] = s.TemplateOnly
	}
	for _, key := range slices.Sorted(maps.Keys(found.Annotations)) {
		switch {
		case key == admissionWebhooksLabel:
			lines = append(lines, fmt.Sprintf("the annotation %s does nothing: it is read as a label of the namespace; make it one", key))
		case ours(key) && at == mesh.OnWorkload:
			lines = append(lines, fmt.Sprintf("the annotation %s does nothing here: Linkerd sees pods only; %s", key, onTemplate))
		case at == mesh.OnNamespace && podsOnly[key]:
			lines = append(lines, fmt.Sprintf("the annotation %s does nothing on a namespace: the injector takes it from pods only; %s", key, onTemplate))
		}
	}
	return lines
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
	}
	if proxy, _ := mesh.FindSidecar(pod, ProxyContainer); proxy == nil {
		if reason := otherProxy(pod); reason != "" {
			return reason
		}
	}
	// The injector copies a namespace's value to the pod's annotations only
	// when it injects, so what stands here is the pod's own.
	switch value := pod.Annotations[injectAnnotation]; {
	case value == disabled:
		return "its annotation " + injectAnnotation + " says disabled"
	case !validInject(value):
		return fmt.Sprintf("its annotation %s has the invalid value %q; the injector knows %s, %s and %s", injectAnnotation, value, enabled, ingress, disabled)
	default:
		return ""
	}
}

// otherProxy finds what the injector takes for a proxy that is there already.
func otherProxy(pod *corev1.Pod) string {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		image := func(prefix string) bool { return strings.HasPrefix(c.Image, prefix) }
		switch {
		case c.Name == "istio-proxy" || c.Name == "istio-init",
			image("gcr.io/istio-release/proxyv2:"), image("gcr.io/istio-release/proxy_init:"):
			return fmt.Sprintf("it already has a proxy of Istio (container %s)", c.Name)
		case c.Name == ProxyContainer || c.Name == "linkerd-init",
			image("cr.l5d.io/linkerd/proxy:"), image("cr.l5d.io/linkerd/proxy-init:"):
			return fmt.Sprintf("its own container %s passes for Linkerd's, so the injector leaves the pod alone", c.Name)
		}
	}
	return ""
}

// Proxy implements mesh.Mesh. The label linkerd.io/control-plane-ns proves
// nothing: anyone who may label a pod can set it.
func (Injection) Proxy(pod *corev1.Pod) mesh.Proxy {
	container, mode := mesh.FindSidecar(pod, ProxyContainer)
	if container == nil {
		return mesh.Proxy{}
	}
	proxy := mesh.Proxy{
		Mode:       mode,
		Version:    pod.Annotations[proxyVersionAnnotation],
		Image:      container.Image,
		TrustRoots: pod.Annotations[trustRootAnnotation],
		Settings:   map[string]string{},
		Ready:      mesh.ContainerReady(pod, ProxyContainer),
	}
	if proxy.Version == "" {
		proxy.Version = mesh.TagOf(container.Image)
	}
	for key, value := range pod.Annotations {
		switch {
		case key == injectAnnotation:
			if value == ingress {
				proxy.Settings[key] = value
			}
		case ours(key), strings.HasPrefix(key, traceLabelPrefix):
			proxy.Settings[key] = value
		}
	}
	return proxy
}

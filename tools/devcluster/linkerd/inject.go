package linkerd

// This file stands in for what Linkerd's proxy injector decides and writes (linkerd2 pkg/inject).

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Names that mark a meshed pod.
const (
	proxyContainer = "linkerd-proxy"

	createdByAnnotation    = "linkerd.io/created-by"
	proxyVersionAnnotation = "linkerd.io/proxy-version"
	trustRootAnnotation    = "linkerd.io/trust-root-sha256"

	controlPlaneNamespaceLabel = "linkerd.io/control-plane-ns"
	workloadNamespaceLabel     = "linkerd.io/workload-ns"
	proxyLabelPrefix           = "linkerd.io/proxy-"
)

// serviceAccountMount is where a pod has the token of its account.
const serviceAccountMount = "/var/run/secrets/kubernetes.io/serviceaccount"

// A SkipReason is why a pod is not injected, as Linkerd's metrics spell it.
type SkipReason string

// Reasons not to inject.
const (
	HostNetwork           SkipReason = "host_network_enabled"
	SidecarExists         SkipReason = "sidecar_already_exists"
	AnnotationAbsent      SkipReason = "injection_enable_annotation_absent"
	AnnotationDisabled    SkipReason = "injection_disable_annotation_present"
	InvalidAtWorkload     SkipReason = "invalid_inject_annotation_at_workload"
	InvalidAtNamespace    SkipReason = "invalid_inject_annotation_at_ns"
	NoServiceAccountToken SkipReason = "disabled_automount_service_account_token_account"
)

// Message is the reason as the InjectionSkipped event gives it.
func (r SkipReason) Message() string {
	switch r {
	case HostNetwork:
		return "hostNetwork is enabled"
	case SidecarExists:
		return "pod has a sidecar injected already"
	case AnnotationAbsent:
		return `neither the namespace nor the pod have the annotation "linkerd.io/inject:enabled"`
	case AnnotationDisabled:
		return `pod has the annotation "linkerd.io/inject:disabled"`
	case InvalidAtWorkload:
		return `invalid value for annotation "linkerd.io/inject" at workload`
	case InvalidAtNamespace:
		return `invalid value for annotation "linkerd.io/inject" at namespace`
	case NoServiceAccountToken:
		return `automountServiceAccountToken set to "false"`
	default:
		return string(r)
	}
}

// Config is what the injector knows of its control plane.
type Config struct {
	// Namespace of the control plane.
	Namespace string
	// Values of the chart, as the ConfigMap linkerd-config has them.
	Values map[string]any
	// TrustAnchors is the PEM bundle, byte for byte as the ConfigMap
	// linkerd-identity-trust-roots has it.
	TrustAnchors string
}

// An Owner is the workload that a pod belongs to in the end; zero for a pod of
// its own.
type Owner struct {
	// Kind is capitalised as in manifests.
	Kind, Name string
}

// A Result is what came of an injection.
type Result struct {
	// Skipped is why the pod was not injected; empty if it was.
	Skipped []SkipReason
	// Warnings tell of annotations that were ignored because they cannot be
	// read.
	Warnings []string
}

// Inject meshes pod, which owner is about to create in namespace, if its
// annotations or those of the namespace ask for it and nothing speaks against
// it. Otherwise pod only has its opaque ports annotated. An error means that
// the Config cannot be used.
func Inject(config Config, namespace *corev1.Namespace, owner Owner, pod *corev1.Pod) (Result, error) {
	if skipped := skip(config, namespace, pod); len(skipped) > 0 {
		pod.Annotations = withOpaquePorts(config, namespace, pod.Annotations, containerPorts(pod))
		return Result{Skipped: skipped}, nil
	}
	annotations := map[string]string{}
	for _, name := range inherited() {
		if value, ok := namespace.Annotations[name]; ok {
			annotations[name] = value
		}
	}
	maps.Copy(annotations, pod.Annotations)

	values, warnings := overridden(config.Values, annotations, pod)
	warnings = append(warnings, addEnv(values,
		namespace.Annotations[additionalEnvAnnotation], pod.Annotations[additionalEnvAnnotation])...)
	sidecar, err := renderSidecar(config, values, cmp.Or(annotations[inboundPortsAnnotation], inboundPorts(pod)))
	if err != nil {
		return Result{}, err
	}
	sidecar.add(&pod.Spec, annotations[debugAnnotation])

	version, _, _ := unstructured.NestedString(values, "linkerdVersion")
	proxyVersion, _, _ := unstructured.NestedString(values, "proxy", "image", "version")
	anchors := sha256.Sum256([]byte(config.TrustAnchors))
	annotations[createdByAnnotation] = "linkerd/proxy-injector " + version
	annotations[proxyVersionAnnotation] = cmp.Or(proxyVersion, version)
	annotations[trustRootAnnotation] = hex.EncodeToString(anchors[:])
	pod.Annotations = withOpaquePorts(config, namespace, annotations, containerPorts(pod))
	label(pod, config.Namespace, namespace.Name, owner)
	return Result{Warnings: warnings}, nil
}

// InjectService annotates the opaque ports of a Service, the only thing the
// injector does for one.
func InjectService(config Config, namespace *corev1.Namespace, service *corev1.Service) {
	ports := make([]int32, len(service.Spec.Ports))
	for i, p := range service.Spec.Ports {
		ports[i] = p.Port
	}
	service.Annotations = withOpaquePorts(config, namespace, service.Annotations, ports)
}

// skip lists what speaks against injection.
func skip(config Config, namespace *corev1.Namespace, pod *corev1.Pod) []SkipReason {
	var reasons []SkipReason
	if pod.Spec.HostNetwork {
		reasons = append(reasons, HostNetwork)
	}
	if slices.ContainsFunc(allContainers(pod), isSidecar) {
		reasons = append(reasons, SidecarExists)
	}
	if reason := unwanted(namespace.Annotations[injectAnnotation], pod.Annotations[injectAnnotation]); reason != "" {
		reasons = append(reasons, reason)
	}
	// A projected token is the injector's own affair; without it the proxy
	// needs the one that the pod has anyway.
	if projected, found, _ := unstructured.NestedBool(config.Values, "identity", "serviceAccountTokenProjection"); found && !projected {
		mounted := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
			return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == serviceAccountMount })
		})
		if automount := pod.Spec.AutomountServiceAccountToken; !mounted || (automount != nil && !*automount) {
			reasons = append(reasons, NoServiceAccountToken)
		}
	}
	return reasons
}

// unwanted is why the annotations of namespace and pod do not ask for
// injection, or nothing if they do.
func unwanted(namespace, pod string) SkipReason {
	valid := []string{"", enabled, ingress, disabled}
	switch {
	case !slices.Contains(valid, namespace):
		return InvalidAtNamespace
	case !slices.Contains(valid, pod):
		return InvalidAtWorkload
	case pod == enabled, pod == ingress:
		return ""
	case namespace != enabled && namespace != ingress:
		return AnnotationAbsent
	case pod == disabled:
		return AnnotationDisabled
	default:
		return ""
	}
}

func allContainers(pod *corev1.Pod) []corev1.Container {
	return slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
}

// isSidecar reports whether a container is, or prepares for, the proxy of a
// mesh: Linkerd leaves alone what Istio has injected.
func isSidecar(c corev1.Container) bool {
	names := []string{proxyContainer, "istio-proxy", "linkerd-init", "istio-init"}
	images := []string{
		"cr.l5d.io/linkerd/proxy:", "cr.l5d.io/linkerd/proxy-init:",
		"gcr.io/istio-release/proxyv2:", "gcr.io/istio-release/proxy_init:",
	}
	return slices.Contains(names, c.Name) ||
		slices.ContainsFunc(images, func(prefix string) bool { return strings.HasPrefix(c.Image, prefix) })
}

// overridden is a copy of values as annotations change it for pod.
func overridden(values map[string]any, annotations map[string]string, pod *corev1.Pod) (changed map[string]any, warnings []string) {
	changed = runtime.DeepCopyJSON(values)
	setField := func(annotation string, parse parser, field ...string) {
		value, err := parse(annotations[annotation])
		if err == nil {
			err = unstructured.SetNestedField(changed, value, field...)
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("annotation %s is ignored: %v", annotation, err))
		}
	}
	set := func(annotation, path string, parse parser) { setField(annotation, parse, strings.Split(path, ".")...) }
	for _, o := range overrides() {
		if _, ok := annotations[o.annotation]; ok {
			set(o.annotation, o.path, o.parse)
		}
	}
	for annotation := range pod.Annotations {
		if label, ok := strings.CutPrefix(annotation, traceLabelPrefix); ok {
			setField(annotation, text, "proxy", "tracing", "labels", label)
		}
	}
	if annotations[injectAnnotation] == ingress {
		set(injectAnnotation, "proxy.isIngress", func(string) (any, error) { return true, nil })
	}
	if ports, ok := annotations[opaquePortsAnnotation]; ok {
		known, unknown := resolvePorts(ports, pod)
		set(opaquePortsAnnotation, "proxy.opaquePorts", func(string) (any, error) { return strings.Join(known, ","), nil })
		for _, port := range unknown {
			warnings = append(warnings, fmt.Sprintf("annotation %s: port %q is ignored", opaquePortsAnnotation, port))
		}
	}
	return changed, warnings
}

// addEnv adds JSON lists of environment variables to those of the values, the
// later ones before the earlier of the same name.
func addEnv(values map[string]any, lists ...string) (warnings []string) {
	path := []string{"proxy", "additionalEnv"}
	env, _, _ := unstructured.NestedSlice(values, path...)
	for _, list := range lists {
		if list == "" {
			continue
		}
		var more []corev1.EnvVar
		if err := json.Unmarshal([]byte(list), &more); err != nil {
			warnings = append(warnings, fmt.Sprintf("annotation %s is ignored: %v", additionalEnvAnnotation, err))
			continue
		}
		for i := range more {
			variable, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&more[i])
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("annotation %s is ignored: %v", additionalEnvAnnotation, err))
				continue
			}
			env = slices.DeleteFunc(env, func(old any) bool {
				m, ok := old.(map[string]any)
				return ok && m["name"] == more[i].Name
			})
			env = append(env, variable)
		}
	}
	if len(env) > 0 {
		if err := unstructured.SetNestedSlice(values, env, path...); err != nil {
			warnings = append(warnings, err.Error())
		}
	}
	return warnings
}

// resolvePorts splits a list of ports, ranges and names of container ports into
// numbers and what is neither.
func resolvePorts(list string, pod *corev1.Pod) (known, unknown []string) {
	for port := range strings.SplitSeq(list, ",") {
		port = strings.TrimSpace(port)
		if _, _, err := portRange(port); err == nil {
			known = append(known, port)
			continue
		}
		i := slices.IndexFunc(declaredPorts(pod), func(p corev1.ContainerPort) bool { return p.Name != "" && p.Name == port })
		if i < 0 {
			unknown = append(unknown, port)
			continue
		}
		known = append(known, strconv.Itoa(int(declaredPorts(pod)[i].ContainerPort)))
	}
	return known, unknown
}

// portRange reads a port or two with a dash between them.
func portRange(s string) (low, high int32, err error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("port %q: %w", s, err)
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("port %q: %w", s, err)
	}
	if to < from {
		return 0, 0, fmt.Errorf("port range %q ends before it begins", s)
	}
	return int32(from), int32(to), nil
}

// withOpaquePorts adds the ports of an object that are opaque to its
// annotations, unless those name them already: what the namespace says, or else
// the default ports that the object has.
func withOpaquePorts(config Config, namespace *corev1.Namespace, annotations map[string]string, ports []int32) map[string]string {
	if _, ok := annotations[opaquePortsAnnotation]; ok {
		return annotations
	}
	opaque, ok := namespace.Annotations[opaquePortsAnnotation]
	if !ok {
		var exposed []string
		defaults, _, _ := unstructured.NestedString(config.Values, "proxy", "opaquePorts")
		for candidate := range strings.SplitSeq(defaults, ",") {
			low, high, err := portRange(candidate)
			if err == nil && slices.ContainsFunc(ports, func(p int32) bool { return low <= p && p <= high }) {
				exposed = append(exposed, candidate)
			}
		}
		opaque = strings.Join(exposed, ",")
	}
	if opaque == "" {
		return annotations
	}
	annotations = maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[opaquePortsAnnotation] = opaque
	return annotations
}

// declaredPorts are the ports of the application's containers.
func declaredPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, c := range pod.Spec.Containers {
		if c.Name != proxyContainer {
			ports = append(ports, c.Ports...)
		}
	}
	return ports
}

// containerPorts are the numbers of the TCP ports of the application, in order
// and once each.
func containerPorts(pod *corev1.Pod) []int32 {
	var ports []int32
	for _, p := range declaredPorts(pod) {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			ports = append(ports, p.ContainerPort)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func inboundPorts(pod *corev1.Pod) string {
	var ports []string
	for _, p := range containerPorts(pod) {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	return strings.Join(ports, ",")
}

// label marks pod as meshed by the control plane and as part of its workload,
// where Linkerd has a label for that kind.
func label(pod *corev1.Pod, controlPlane, namespace string, owner Owner) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[controlPlaneNamespaceLabel] = controlPlane
	pod.Labels[workloadNamespaceLabel] = namespace
	switch owner.Kind {
	case "Deployment", "ReplicationController", "ReplicaSet", "Job", "DaemonSet", "StatefulSet":
		pod.Labels[proxyLabelPrefix+strings.ToLower(owner.Kind)] = owner.Name
	}
}

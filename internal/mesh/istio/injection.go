package istio

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// Injection enrols namespaces and workloads in Istio.
type Injection struct {
	// Namespace of istiod; empty for that of the istiod which injects by Revision.
	Namespace string
	// Revision or tag that injects; empty for the default one, and where the
	// target is marked for another already for that one.
	Revision string
	// Ambient has the node's proxy take the pods in as they are, without sidecars.
	Ambient bool
	// Settings are the annotations that configure sidecars; see Settings.
	Settings map[string]string
}

var _ mesh.Mesh = Injection{}

// neverInjected are the namespaces whose pods the injector refuses itself
// (pkg/kube/inject, IgnoredNamespaces).
var neverInjected = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// How the labels of enrolment are spelled.
const (
	ambientMode = "ambient"
	noMode      = "none"
	enabled     = "enabled"
	disabled    = "disabled"
	yes         = "true"
	no          = "false"
)

// InjectionOf reads the enrolment back from the labels and annotations of a
// namespace or pod template. Settings that have no name of ours stay with whoever
// has written them, as do those on a namespace, where nothing reads them.
func InjectionOf(found mesh.Mark) Injection {
	var i Injection
	_, namespace := found.Labels[corev1.LabelMetadataName]
	injected := found.Labels[injectionLabel] == enabled
	if !injected { // It beats the revision.
		i.Revision = found.Labels[revisionLabel]
	}
	sidecar := injected || i.Revision != "" || found.Labels[injectLabel] == yes
	i.Ambient = found.Labels[dataplaneModeLabel] == ambientMode && !sidecar
	if !namespace && !i.Ambient {
		i.Settings = mesh.Expressible(Settings(), plain(found.Annotations))
	}
	return i
}

// Name implements mesh.Mesh.
func (Injection) Name() string { return "Istio" }

// NamespaceMark implements mesh.Mesh. istio-injection beats istio.io/rev, so
// exactly one of them is set.
func (i Injection) NamespaceMark() mesh.Mark {
	switch {
	case i.Ambient:
		return mesh.Mark{Labels: map[string]string{dataplaneModeLabel: ambientMode}}
	case i.Revision != "":
		return mesh.Mark{Labels: map[string]string{revisionLabel: i.Revision}}
	default:
		return mesh.Mark{Labels: map[string]string{injectionLabel: enabled}}
	}
}

// WorkloadMark implements mesh.Mesh. The webhook selects pods by labels; the
// annotations of the same names are not enough.
func (i Injection) WorkloadMark() mesh.Mark {
	if i.Ambient {
		return i.NamespaceMark()
	}
	labels := map[string]string{injectLabel: yes}
	if i.Revision != "" {
		labels[revisionLabel] = i.Revision
	}
	return mesh.Mark{Labels: labels, Annotations: maps.Clone(i.Settings)}
}

// ServiceMark implements mesh.Mesh: Istio's Services say nothing of the mesh.
func (Injection) ServiceMark() mesh.Mark { return mesh.Mark{} }

// OptOutMark implements mesh.Mesh.
func (i Injection) OptOutMark() mesh.Mark {
	if i.Ambient {
		return mesh.Mark{Labels: map[string]string{dataplaneModeLabel: noMode}}
	}
	return mesh.Mark{Labels: map[string]string{injectLabel: no}}
}

// Secret implements mesh.Mesh: the proxy's metadata are variables.
func (Injection) Secret(key string) bool { return key == proxyConfigAnnotation }

// InPlace implements mesh.Mesh.
func (i Injection) InPlace() bool { return i.Ambient }

// Claims implements mesh.Mesh: with sidecars or in ambient mode.
func (Injection) Claims(namespace, pod mesh.Mark) bool {
	return claimsSidecar(namespace, pod) || claimsAmbient(namespace, pod)
}

// claimsSidecar is how the webhooks of Istio's charts select pods, and what
// istiod makes of the annotation (pkg/kube/inject, injectRequired).
func claimsSidecar(namespace, pod mesh.Mark) bool {
	if value, _ := injectOf(pod); value == no {
		return false
	}
	if injection, set := namespace.Labels[injectionLabel]; set {
		return injection == enabled
	}
	if revision, set := namespace.Labels[revisionLabel]; set {
		return revision != ""
	}
	return pod.Labels[revisionLabel] != "" || pod.Labels[injectLabel] == yes
}

// claimsAmbient is how istio-cni selects pods (chart value
// ambient.enablementSelectors).
func claimsAmbient(namespace, pod mesh.Mark) bool {
	if pod.Annotations[statusAnnotation] != "" {
		return false
	}
	mode, set := pod.Labels[dataplaneModeLabel]
	return mode == ambientMode || namespace.Labels[dataplaneModeLabel] == ambientMode && (!set || mode != noMode)
}

// injectOf is what a pod says of its own injection, and whether by a label or an
// annotation. The label wins.
func injectOf(pod mesh.Mark) (value, kind string) {
	if value, set := pod.Labels[injectLabel]; set {
		return value, "label"
	}
	return pod.Annotations[injectLabel], "annotation"
}

// Misplaced implements mesh.Mesh.
func (Injection) Misplaced(at mesh.Place, found mesh.Mark) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, key := range slices.Sorted(maps.Keys(found.Labels)) {
		switch {
		case at == mesh.OnNamespace && key == injectLabel:
			say("its label %s does nothing on a namespace; use the label %s=%s here, or %s on pod templates", key, injectionLabel, enabled, key)
		case at != mesh.OnNamespace && key == injectionLabel:
			say("its label %s is read from namespaces only; use the label %s=true on the pod template", key, injectLabel)
		case at == mesh.OnWorkload && (key == injectLabel || key == revisionLabel || key == dataplaneModeLabel):
			say("its label %s is read from pods only; move it to the labels of the pod template (spec.template.metadata)", key)
		case configures(key):
			say("its label %s is read as an annotation only; make it an annotation of the pod template", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found.Annotations)) {
		switch {
		case key == injectLabel && at == mesh.OnNamespace:
			say("its annotation %s does nothing on a namespace; use the label %s=%s", key, injectionLabel, enabled)
		case key == injectLabel && at == mesh.OnWorkload:
			say("its annotation %s does nothing on the workload; make it a label of the pod template (spec.template.metadata)", key)
		case key == injectLabel && found.Annotations[key] == yes && found.Labels[injectLabel] == "":
			say("its annotation %s=true cannot have the injector select the pods; make it a label", key)
		case key == injectionLabel || key == revisionLabel || key == dataplaneModeLabel:
			say("its annotation %s is read as a label only; make it one", key)
		case at == mesh.OnNamespace && configures(key):
			say("its annotation %s is read from pods only; move it to the pod templates, or enrol single workloads with this setting", key)
		case at == mesh.OnWorkload && configures(key):
			say("its annotation %s is read from pods only; move it to the annotations of the pod template (spec.template.metadata)", key)
		}
	}
	if at == mesh.OnNamespace {
		lines = append(lines, contradictions(found.Labels)...)
	}
	return lines
}

// contradictions are labels of a namespace of which one makes another void.
func contradictions(labels map[string]string) []string {
	var lines []string
	injection, injects := labels[injectionLabel]
	revision, revised := labels[revisionLabel]
	if injects && revised {
		lines = append(lines, fmt.Sprintf("its label %s=%s wins over %s=%s; remove one of them", injectionLabel, injection, revisionLabel, revision))
	}
	if labels[dataplaneModeLabel] == ambientMode && claimsSidecar(mesh.Mark{Labels: labels}, mesh.Mark{}) {
		winner := injectionLabel
		if !injects {
			winner = revisionLabel
		}
		lines = append(lines, fmt.Sprintf("its label %s gives pods that are made now a sidecar, and the ambient mode leaves those alone; remove it, or the label %s=%s",
			winner, dataplaneModeLabel, ambientMode))
	}
	return lines
}

// Proxy implements mesh.Mesh.
func (Injection) Proxy(pod *corev1.Pod) mesh.Proxy {
	container, mode := mesh.FindSidecar(pod, proxyContainer)
	if container == nil {
		if pod.Annotations[redirectionAnnotation] != enabled {
			return mesh.Proxy{}
		}
		return mesh.Proxy{Mode: mesh.Ambient, Ready: true}
	}
	return mesh.Proxy{
		Mode:     mode,
		Version:  versionOf(container.Image),
		Image:    container.Image,
		Revision: revisionOf(pod),
		Settings: settingsIn(pod.Annotations),
		Ready:    mesh.ContainerReady(pod, proxyContainer),
	}
}

// revisionOf is the revision that has injected a pod. Its labels may only name a
// tag.
func revisionOf(pod *corev1.Pod) string {
	text, injected := pod.Annotations[statusAnnotation]
	if !injected {
		// As gateways are that istiod deploys.
		return pod.Annotations[revisionLabel]
	}
	var status struct {
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return pod.Annotations[revisionLabel]
	}
	if status.Revision == "" {
		return defaultRevision
	}
	return status.Revision
}

// Exempt implements mesh.Mesh.
func (i Injection) Exempt(pod *corev1.Pod) string {
	linkerd, _ := mesh.FindSidecar(pod, "linkerd-proxy")
	switch {
	case pod.Spec.HostNetwork:
		return "it uses the host's network (hostNetwork)"
	case pod.Labels["app"] == "istiod":
		return "it is part of Istio's control plane"
	case pod.Labels[managedLabel] != "":
		return "it is a gateway that istiod deploys and updates itself"
	case linkerd != nil:
		return "it already has a proxy of Linkerd"
	}
	if i.Ambient {
		return exemptFromAmbient(pod)
	}
	if value, kind := injectOf(mesh.MarkOf(pod)); value == no {
		return fmt.Sprintf("its %s %s says false", kind, injectLabel)
	}
	if pod.Annotations[templatesAnnotation] == "grpc-simple" {
		return "it has no proxy to be given: its annotation " + templatesAnnotation + " asks for gRPC without one"
	}
	return ""
}

// exemptFromAmbient does not name pods with sidecars that they would not have any
// more if they were made now.
func exemptFromAmbient(pod *corev1.Pod) string {
	if pod.Labels[dataplaneModeLabel] == noMode {
		return fmt.Sprintf("its label %s says %s", dataplaneModeLabel, noMode)
	}
	if sidecar, _ := mesh.FindSidecar(pod, proxyContainer); sidecar != nil && claimsSidecar(mesh.Mark{}, mesh.MarkOf(pod)) {
		return "it asks for a sidecar by its own labels, and the ambient mode leaves pods with sidecars alone"
	}
	return ""
}

// ControlPlane implements mesh.Mesh.
func (i Injection) ControlPlane(ctx context.Context, cluster *kube.Cluster) (mesh.ControlPlane, error) {
	injectors, err := injectorsIn(ctx, cluster)
	if err != nil {
		return nil, err
	}
	if i.Ambient {
		return ambientPlaneOf(ctx, cluster, injectors)
	}
	return sidecarPlaneOf(ctx, cluster, i, injectors)
}

// deploymentOf names the istiod of a revision.
func deploymentOf(revision string) string { return suffixed("istiod", revision) }

// suffixed is how names of a revision's objects are made; the default revision
// adds nothing.
func suffixed(name, revision string) string {
	if revision == "" || revision == defaultRevision {
		return name
	}
	return name + "-" + revision
}

// versionOf is the version that the tag of an image names, without the variant;
// empty if the image has no tag.
func versionOf(image string) string { return plainTag(mesh.TagOf(image)) }

// plainTag is a tag without the variants that Istio publishes (pkg/kube/inject,
// KnownImageTypes).
func plainTag(tag string) string {
	for _, variant := range []string{"-distroless", "-debug"} {
		tag = strings.TrimSuffix(tag, variant)
	}
	return tag
}

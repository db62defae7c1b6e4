// Package mesh says what a service mesh is to the rest of the provider: how a
// namespace or workload is enrolled in one, how a pod shows that its proxy is
// there and whether it is the one that the control plane would give it today,
// and how to bring running workloads in and out without leaving a pod behind.
// What differs between the meshes is behind one small interface.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// ErrNoControlPlane tells that a question cannot be answered without a control
// plane, and that there is none to ask.
var ErrNoControlPlane = errors.New("there is no control plane of the mesh in the cluster")

// A Place is where labels and annotations are found.
type Place int

// The places that users put marks on; an injector reads the first two only.
const (
	OnNamespace Place = iota
	OnTemplate        // metadata of a pod template
	OnWorkload        // metadata of the workload itself
)

// A Mesh is what enrolment needs to know of one mesh: how its injector is told
// what to do with a pod, and what pods look like that it has seen to. A value
// stands for one enrolment: one mode, one revision, one set of settings.
type Mesh interface {
	// Name is the mesh's name in messages: "Linkerd", "Istio".
	Name() string

	// NamespaceMark enrols the pods of a namespace, WorkloadMark those of one
	// pod template. ServiceMark goes on Services in front of enrolled pods.
	NamespaceMark() Mark
	WorkloadMark() Mark
	ServiceMark() Mark

	// OptOutMark keeps the pods of one template out, whatever their namespace says.
	OptOutMark() Mark

	// Secret reports whether the annotation of that key may hold what must not be
	// shown: values of variables.
	Secret(key string) bool

	// InPlace reports that pods join and leave the mesh as they are. Otherwise
	// they have to be made anew.
	InPlace() bool

	// Claims reports whether the mesh means to have a pod with these labels and
	// annotations in a namespace with those, whatever else speaks against it.
	Claims(namespace, pod Mark) bool

	// Misplaced says, one line each, which keys of the mesh are where nothing
	// reads them: a label where an annotation is due, or the other way round.
	Misplaced(at Place, found Mark) []string

	// Exempt says why the mesh never takes in a pod, whatever is enrolled; it is
	// empty for a pod that should be meshed. The pod may be one that is only
	// made up from a template.
	Exempt(pod *corev1.Pod) string

	// Proxy is what a pod shows of the mesh. Its Mode is empty outside of it.
	Proxy(pod *corev1.Pod) Proxy

	// ControlPlane reads, by shared reads, what pods are given that are made
	// now. It is ErrNoControlPlane if nothing is installed that could inject.
	ControlPlane(ctx context.Context, cluster *kube.Cluster) (ControlPlane, error)
}

// A ControlPlane is what a mesh gives to the pods that are made now.
type ControlPlane interface {
	// Available returns nil when pods made now would be taken in, and otherwise
	// what is not there or not ready.
	Available() error

	// Sees returns nil when the injector is asked about such a pod in such a
	// namespace, both as they will be marked, and otherwise which selector,
	// label or rule keeps it away.
	Sees(namespace *corev1.Namespace, pod *corev1.Pod) error

	// Privileged reports that pods are given an init container that needs the
	// capability NET_ADMIN, as without a CNI plugin.
	Privileged() bool

	// Stale says what a pod of the mesh would have otherwise if it were made
	// now, with the proxy that it shows; nothing if it is current.
	Stale(subject Subject, shown Proxy) []Reason
}

// Mode is how a pod is in a mesh.
type Mode string

// The modes. A native sidecar is an init container that keeps running beside
// the others.
const (
	Sidecar       Mode = "sidecar"
	NativeSidecar Mode = "native-sidecar"
	Ambient       Mode = "ambient"
)

// A Proxy is what one pod shows of its place in a mesh.
type Proxy struct {
	Mode     Mode   // empty outside the mesh
	Version  string // of the proxy, as its mesh or the tag of its image says
	Image    string // empty in ambient mode, where the pod has none of its own
	Revision string // of the control plane that injected it; Istio only
	// TrustRoots is the SHA-256 in hexadecimal of the trust bundle that the
	// proxy was given; Linkerd only: Istio's proxies are told by istiod.
	TrustRoots string
	// Settings are the annotations by which the pod configures its proxy.
	Settings map[string]string
	Ready    bool
}

// A Subject is a pod and what it was made from.
type Subject struct {
	Pod       *corev1.Pod
	Namespace *corev1.Namespace
	// Template is the pod template that its workload has now; nil if none is
	// known.
	Template *corev1.PodTemplateSpec
	// Former is the mark that the present one of the namespace or of the template
	// replaces, which the pod may have been made by; empty if none is known.
	Former Mark
	// Now is the instant of the judgement; zero if time is not to count.
	Now time.Time
}

// A Cause is why a pod has to be made anew.
type Cause string

// The causes.
const (
	NotInjected     Cause = "not injected"
	StaleVersion    Cause = "stale proxy version"
	StaleTrustRoots Cause = "stale trust roots"
	ChangedSettings Cause = "changed settings"
	MovedRevision   Cause = "revision moved"
	OtherMode       Cause = "other mode"
	Withdrawn       Cause = "no longer enrolled"
)

// A Reason is a cause with its particulars.
type Reason struct {
	Cause  Cause
	Detail string // such as "2026.6.3 instead of 2026.8.3"; may be empty
	// Lasting reasons are not ended by a restart.
	Lasting bool
}

// String is the reason in one line.
func (r Reason) String() string {
	if r.Detail == "" {
		return string(r.Cause)
	}
	return fmt.Sprintf("%s (%s)", r.Cause, r.Detail)
}

// FindSidecar finds the container of a pod by its name, be it a regular one or an
// init container that keeps running, and tells which. It is nil if there is none.
func FindSidecar(pod *corev1.Pod, name string) (*corev1.Container, Mode) {
	is := func(c corev1.Container) bool { return c.Name == name }
	if i := slices.IndexFunc(pod.Spec.Containers, is); i >= 0 {
		return &pod.Spec.Containers[i], Sidecar
	}
	i := slices.IndexFunc(pod.Spec.InitContainers, is)
	if i < 0 {
		return nil, ""
	}
	c := &pod.Spec.InitContainers[i]
	if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		return nil, ""
	}
	return c, NativeSidecar
}

// ContainerReady reports whether a container of a pod, of whichever sort, is ready.
func ContainerReady(pod *corev1.Pod, name string) bool {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			if status.Name == name {
				return status.Ready
			}
		}
	}
	return false
}

// TagOf is the tag of an image; empty if it has none.
func TagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	colon := strings.LastIndexByte(image, ':')
	if colon <= strings.LastIndexByte(image, '/') {
		return "" // The colon, if any, is before a registry's port.
	}
	return image[colon+1:]
}

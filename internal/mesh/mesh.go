// Package mesh says what a service mesh is to the rest of the provider: how a
// namespace or workload is enrolled in one, how a pod shows that its proxy is
// there, and how to bring running workloads in and out without leaving a pod
// behind. What differs between the meshes is behind one small interface.
package mesh

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// ErrNoControlPlane tells that a question cannot be answered without a control
// plane, and that there is none to ask.
var ErrNoControlPlane = errors.New("there is no control plane of the mesh in the cluster")

// A Mark is what tells a mesh's injector to act: labels and annotations of a
// namespace or of a pod template.
type Mark struct {
	Labels      map[string]string
	Annotations map[string]string
}

// A Mesh is what enrolment needs to know of one mesh.
type Mesh interface {
	// Name is the mesh's name in messages: "Linkerd", "Istio".
	Name() string

	// NamespaceMark enrols the pods of a namespace, WorkloadMark those of one
	// pod template.
	NamespaceMark() Mark
	WorkloadMark() Mark

	// Meshed reports whether pod runs the mesh's proxy, as a container or as a
	// native sidecar among the init containers.
	Meshed(pod *corev1.Pod) bool

	// Exempt says why the mesh never injects pod, whatever is enrolled; it is
	// empty for a pod that should be meshed.
	Exempt(pod *corev1.Pod) string

	// Injecting returns nil when the mesh's injector is there and able to
	// inject the pods of namespace, and otherwise an error that says what is missing.
	Injecting(ctx context.Context, cluster *kube.Cluster, namespace *corev1.Namespace) error
}

// Containers returns the containers of pod that may hold a proxy: the regular
// ones and the init containers that keep running beside them (native sidecars).
func Containers(pod *corev1.Pod) []corev1.Container {
	all := make([]corev1.Container, 0, len(pod.Spec.Containers)+1)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, c)
		}
	}
	return append(all, pod.Spec.Containers...)
}

// HasContainer reports whether pod keeps a container of that name running.
func HasContainer(pod *corev1.Pod, name string) bool {
	for _, c := range Containers(pod) {
		if c.Name == name {
			return true
		}
	}
	return false
}

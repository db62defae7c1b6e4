package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// A Finding is something that stands in the way of an enrolment, or that its
// user may not have meant.
type Finding struct {
	About kube.Ref
	Text  string
	// Fatal findings make the enrolment impossible. The others leave some pods
	// out, or do nothing.
	Fatal bool
}

// String is the finding as one line.
func (f Finding) String() string { return f.About.String() + ": " + f.Text }

// enforceLabel is the level of the Pod Security Standards that a namespace
// refuses pods by (https://kubernetes.io/docs/concepts/security/pod-security-admission/).
const enforceLabel = "pod-security.kubernetes.io/enforce"

// Examine looks for what stands in the way of the enrolment, before anything is
// changed: a namespace or pods that the injector never sees, pods that another
// mesh claims too, that use the host's network or opt out, Pod Security that
// refuses what the injector adds, and keys where nothing reads them. Without a
// control plane, what depends on it is left out.
func (e Enrolment) Examine(ctx context.Context) ([]Finding, error) {
	namespace, workload, err := e.found(ctx)
	if err != nil {
		return nil, err
	}
	plane, err := e.Mesh.ControlPlane(ctx, e.Cluster)
	if err != nil && !errors.Is(err, ErrNoControlPlane) {
		return nil, err
	}
	workloads := []*kube.Workload{workload}
	if workload == nil {
		if workloads, err = e.Cluster.Workloads(ctx, e.Target.Namespace); err != nil {
			return nil, err
		}
	}
	marked := namespace.DeepCopy()
	var found []Finding
	note := func(about kube.Ref, fatal bool, format string, args ...any) {
		found = append(found, Finding{About: about, Fatal: fatal, Text: fmt.Sprintf(format, args...)})
	}
	about := kube.Ref{Kind: kube.Namespace, Name: namespace.Name}
	for _, line := range e.Mesh.Misplaced(OnNamespace, MarkOf(namespace)) {
		note(about, false, "%s", line)
	}
	if e.Target.WholeNamespace() {
		replaceMark(marked, e.Former, e.wanted())
		if plane != nil {
			// A pod that says nothing itself.
			if err := plane.Sees(marked, &corev1.Pod{}); err != nil {
				note(about, true, "%v", err)
			}
		}
		for _, other := range e.Others {
			if other.Claims(MarkOf(namespace), Mark{}) {
				note(about, true, "it is enrolled in %s too, and a pod can be in one mesh only; take that mark away, or enrol single workloads", other.Name())
			}
		}
	}
	if level := namespace.Labels[enforceLabel]; plane != nil && plane.Privileged() && slices.Contains([]string{"baseline", "restricted"}, level) {
		note(about, true, "its label %s=%s refuses the capability NET_ADMIN that the init container of %s needs; install %s with its CNI plugin, or use the level privileged",
			enforceLabel, level, e.Mesh.Name(), e.Mesh.Name())
	}
	for _, w := range workloads {
		template := w.Template.DeepCopy()
		if !e.Target.WholeNamespace() {
			replaceMark(template, e.Former, e.wanted())
		}
		pod := podOf(template, namespace.Name)
		own := !e.Target.WholeNamespace()
		for _, line := range e.Mesh.Misplaced(OnWorkload, Mark{Labels: w.Labels, Annotations: w.Annotations}) {
			note(w.Ref, false, "%s", line)
		}
		for _, line := range e.Mesh.Misplaced(OnTemplate, MarkOf(w.Template)) {
			note(w.Ref, false, "its pod template: %s", line)
		}
		if reason := e.Mesh.Exempt(pod); reason != "" {
			note(w.Ref, own, "its pods are left out: %s", reason)
			continue
		}
		for _, other := range e.Others {
			// What the namespace's mark claims is said of the namespace.
			said := e.Target.WholeNamespace() && other.Claims(MarkOf(namespace), Mark{})
			if !said && other.Claims(MarkOf(namespace), MarkOf(w.Template)) {
				note(w.Ref, true, "%s claims its pods too, and a pod can be in one mesh only; take that mark away first", other.Name())
			}
		}
		if plane != nil {
			if err := plane.Sees(marked, pod); err != nil && own {
				note(w.Ref, true, "%v", err)
			}
		}
	}
	return found, nil
}

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
// refuses what the injector adds, disruption budgets that never allow a restart,
// and names and keys of nothing. Without a control plane, what depends on it is
// left out. Nothing of it is fatal to a target that is enrolled already: it may be
// what the enrolment is applied again for.
func (e Enrolment) Examine(ctx context.Context) ([]Finding, error) {
	namespace, workload, err := e.found(ctx)
	if err != nil {
		return nil, err
	}
	live, err := e.Cluster.Find(ctx, e.Target.Ref())
	if err != nil {
		return nil, err
	}
	plane, err := e.Mesh.ControlPlane(ctx, e.Cluster)
	if err != nil && !errors.Is(err, ErrNoControlPlane) {
		return nil, err
	}
	// Of the very namespace, as it is going to be.
	marked := namespace.DeepCopy()
	x := examination{Enrolment: e, plane: plane, namespace: marked, first: !enrolled(live) && len(e.Former.keys()) == 0}
	about := kube.Ref{Kind: kube.Namespace, Name: namespace.Name}
	if namespace.DeletionTimestamp != nil {
		x.note(about, x.first, "it is being deleted, and no pod can be made in it any more")
		return x.findings, nil
	}
	for _, line := range e.Mesh.Misplaced(OnNamespace, MarkOf(namespace)) {
		x.note(about, false, "%s", line)
	}
	if level := namespace.Labels[enforceLabel]; plane != nil && plane.Privileged() && slices.Contains([]string{"baseline", "restricted"}, level) {
		x.note(about, x.first, "its label %s=%s refuses the capability NET_ADMIN that the init container of %s needs; install %s with its CNI plugin, or use the level privileged",
			enforceLabel, level, e.Mesh.Name(), e.Mesh.Name())
	}
	if workload != nil {
		template := workload.Template.DeepCopy()
		replaceMark(template, e.Target.replaced(live), e.wanted())
		if err := x.workload(ctx, workload, template); err != nil {
			return nil, err
		}
		return x.findings, nil
	}
	replaceMark(marked, e.Target.replaced(live), e.wanted())
	if plane != nil {
		// A pod that says nothing itself.
		if err := plane.Sees(marked, &corev1.Pod{}); err != nil {
			// One that is half gone may come back with the same apply.
			if !errors.Is(err, ErrNoControlPlane) {
				x.note(about, x.first, "%v", err)
			}
			x.plane = nil // It would say so of every pod.
		}
	}
	other, err := x.claimant(ctx, Mark{})
	if err != nil {
		return nil, err
	}
	if other != nil {
		x.note(about, x.first, "it is enrolled in %s too, and a pod can be in one mesh only; take that mark away, or enrol single workloads", other.Name())
		x.Others = nil // What the namespace's mark claims is said of the namespace.
	}
	workloads, err := e.Cluster.Workloads(ctx, e.Target.Namespace)
	if err != nil {
		return nil, err
	}
	for _, w := range workloads {
		if err := x.workload(ctx, w, w.Template); err != nil {
			return nil, err
		}
	}
	for _, ref := range e.Policy.Order {
		if !slices.ContainsFunc(workloads, func(w *kube.Workload) bool { return w.Ref == ref }) {
			x.note(ref, false, "restart.order names it, but there is no such workload now; the others keep their order")
		}
	}
	return x.findings, nil
}

// An examination is what is known of an enrolment while it is examined, and what
// has been found.
type examination struct {
	Enrolment
	plane     ControlPlane      // nil without one, and where it need not be asked
	namespace *corev1.Namespace // as it is going to be
	first     bool              // the target is not enrolled yet
	findings  []Finding
}

func (x *examination) note(about kube.Ref, fatal bool, format string, args ...any) {
	x.findings = append(x.findings, Finding{About: about, Fatal: fatal, Text: fmt.Sprintf(format, args...)})
}

// workload examines a workload with the template that it is going to have. Its
// findings are fatal only if it is the target itself.
func (x *examination) workload(ctx context.Context, w *kube.Workload, template *corev1.PodTemplateSpec) error {
	own := !x.Target.WholeNamespace()
	fatal := own && x.first
	for _, line := range x.Mesh.Misplaced(OnWorkload, Mark{Labels: w.Labels, Annotations: w.Annotations}) {
		x.note(w.Ref, false, "%s", line)
	}
	for _, line := range x.Mesh.Misplaced(OnTemplate, MarkOf(w.Template)) {
		x.note(w.Ref, false, "its pod template: %s", line)
	}
	pod := podOf(template, x.namespace.Name)
	if reason := x.Mesh.Exempt(pod); reason != "" {
		x.note(w.Ref, fatal, "its pods are left out: %s", reason)
		return nil
	}
	other, err := x.claimant(ctx, MarkOf(template))
	if err != nil {
		return err
	}
	if other != nil {
		x.note(w.Ref, fatal, "%s claims its pods too, and a pod can be in one mesh only; take that mark away first", other.Name())
	}
	if x.plane != nil {
		if err := x.plane.Sees(x.namespace, pod); err != nil && !errors.Is(err, ErrNoControlPlane) {
			x.note(w.Ref, fatal, "%v", err)
			return nil
		}
	}
	// Pods join a mesh as they are by their namespace's mark, not by their own.
	rolls := !x.Mesh.InPlace()
	if own {
		rolls = MarkOf(template).lacks(MarkOf(w.Template))
	}
	if x.Policy.IgnoreBudgets || !rolls {
		return nil
	}
	err = x.Cluster.CheckBudget(ctx, w.Ref)
	if _, never := errors.AsType[*kube.BudgetError](err); never {
		x.note(w.Ref, fatal, "it cannot be restarted: %v; loosen the budget, have the update strategy take down fewer pods at once, or set restart.ignore_disruption_budgets", err)
		return nil
	}
	return err
}

// claimant is another mesh that claims pods with that mark, and that is there to
// do so; nil if there is none.
func (x *examination) claimant(ctx context.Context, pod Mark) (Mesh, error) {
	for _, other := range x.Others {
		if !other.Claims(MarkOf(x.namespace), pod) {
			continue
		}
		_, err := other.ControlPlane(ctx, x.Cluster)
		if err == nil {
			return other, nil
		}
		if !errors.Is(err, ErrNoControlPlane) {
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // Nobody does.
}

// MayRestart names, in order, the workloads whose pods are made anew if the
// control plane gives them something else than now, and those that are in any
// case.
func (e Enrolment) MayRestart(ctx context.Context) ([]kube.Ref, error) {
	foreseen, err := e.Foresee(ctx)
	if err != nil {
		return nil, err
	}
	found := restartSet{}
	for _, restart := range foreseen.Restarts {
		found[restart.Workload] = &restart
	}
	d := e.dataPlane()
	pods, err := d.pods(ctx)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if e.Mesh.InPlace() || e.Mesh.Proxy(pod).Mode == "" {
			continue
		}
		subject, owner, workload, err := d.subject(ctx, pod)
		if err != nil {
			return nil, err
		}
		if d.unreachable(owner, workload) == "" {
			found.add(owner, subject)
		}
	}
	var refs []kube.Ref
	for _, restart := range found.inOrder() {
		refs = append(refs, restart.Workload)
	}
	return refs, nil
}

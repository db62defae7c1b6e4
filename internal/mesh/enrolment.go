package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// EnrolmentManager is the field manager of enrolment marks. Nothing else of
// ours writes under it, so that giving up its fields undoes just the mark.
const EnrolmentManager = "aksmesh-injection"

// A Target is what is enrolled: a namespace, or one workload in it.
type Target struct {
	Namespace string
	// Workload is a Deployment, StatefulSet or DaemonSet of the namespace; its
	// zero value means the whole namespace.
	Workload kube.Ref
}

// WholeNamespace reports whether the target is a namespace.
func (t Target) WholeNamespace() bool { return t.Workload.Name == "" }

// Ref is the object that carries the mark, or whose pod template does.
func (t Target) Ref() kube.Ref {
	if t.WholeNamespace() {
		return kube.Ref{Kind: kube.Namespace, Name: t.Namespace}
	}
	return t.Workload
}

// String names the target in messages.
func (t Target) String() string { return t.Ref().String() }

// An Enrolment is a target, a mesh, and the cluster they are in.
type Enrolment struct {
	Cluster *kube.Cluster
	Mesh    Mesh
	Target  Target
	// Others are the meshes that must not claim the same pods.
	Others []Mesh
	// Former is the mark that the target bears of this enrolment as it was before,
	// which its own mark replaces; empty if there was none.
	Former Mark
	// Force takes the mark over from whoever else manages it; without it that
	// is a *kube.ConflictError.
	Force  bool
	Policy RestartPolicy
	// Now is the instant that restarts are marked with.
	Now time.Time
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// dataPlane is the pods of the target.
func (e Enrolment) dataPlane() DataPlane {
	d := DataPlane{Cluster: e.Cluster, Mesh: e.Mesh, Namespace: e.Target.Namespace, Policy: e.Policy, Now: e.Now, Log: e.Log}
	if !e.Target.WholeNamespace() {
		d.Workloads = []kube.Ref{e.Target.Workload}
	}
	return d
}

// Mark writes the mesh's labels and annotations on the target by server-side
// apply, once the mesh's injector is there to act on them. It may be repeated.
func (e Enrolment) Mark(ctx context.Context) error {
	namespace, workload, err := e.found(ctx)
	if err != nil {
		return err
	}
	plane, err := e.Mesh.ControlPlane(ctx, e.Cluster)
	if err != nil {
		return fmt.Errorf("%s: %s cannot take its pods in now: %w", e.Target, e.Mesh.Name(), err)
	}
	if err := plane.Available(); err != nil {
		return fmt.Errorf("%s: %s cannot take its pods in now: %w", e.Target, e.Mesh.Name(), err)
	}
	findings, err := e.Examine(ctx)
	if err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.Fatal {
			return errors.New(finding.String())
		}
	}
	want, object := e.wanted(), e.Target.Ref().Object()
	uid := namespace.UID
	if e.Target.WholeNamespace() {
		if err := want.onto(object.Object, "metadata"); err != nil {
			return fmt.Errorf("%s: %w", e.Target, err)
		}
	} else {
		uid = workload.UID
		if want.lacks(MarkOf(workload.Template)) {
			// The apply below makes the workload roll.
			if err := e.dataPlane().allowed(ctx, e.Target.Workload); err != nil {
				return err
			}
		}
		if err := want.onto(object.Object, "spec", "template", "metadata"); err != nil {
			return fmt.Errorf("%s: %w", e.Target, err)
		}
	}
	// An apply to an object that is gone would make a new one.
	object.SetUID(uid)
	e.log("enrolling", map[string]any{"keys": want.keys()})
	_, err = e.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: EnrolmentManager, Force: e.Force})
	return err
}

// found reads the target's namespace, and the workload if it is one.
func (e Enrolment) found(ctx context.Context) (*corev1.Namespace, *kube.Workload, error) {
	namespace, err := e.Cluster.Namespace(ctx, e.Target.Namespace)
	if err != nil || e.Target.WholeNamespace() {
		return namespace, nil, err
	}
	workload, err := e.Cluster.Workload(ctx, e.Target.Workload)
	return namespace, workload, err
}

// Settle brings running pods in line with the mark, as DataPlane.Settle does.
func (e Enrolment) Settle(ctx context.Context) (Survey, error) {
	survey, err := e.dataPlane().Settle(ctx)
	if err != nil {
		return survey, fmt.Errorf("%s: %w", e.Target, err)
	}
	return survey, nil
}

// Survey looks at the pods of the target without changing anything.
func (e Enrolment) Survey(ctx context.Context) (Survey, error) {
	return e.dataPlane().Survey(ctx)
}

// Foresee looks at the pods of the target as if it were marked already: what is
// wrong in it is what an apply restarts.
func (e Enrolment) Foresee(ctx context.Context) (Survey, error) {
	return e.dataPlane().survey(ctx, func(s *Subject) bool {
		if e.Target.WholeNamespace() {
			s.Namespace = s.Namespace.DeepCopy()
			replaceMark(s.Namespace, e.Former, e.wanted())
			return false
		}
		if s.Template == nil {
			return false
		}
		before := MarkOf(s.Template)
		s.Template = s.Template.DeepCopy()
		replaceMark(s.Template, e.Former, e.wanted())
		after := MarkOf(s.Template)
		return after.lacks(before) || before.lacks(after)
	})
}

// Marked reports which of the wanted labels and annotations the target lacks
// or has with another value; none means that it is enrolled as asked.
func (e Enrolment) Marked(ctx context.Context) ([]string, error) {
	found, err := e.Found(ctx)
	if err != nil {
		return nil, err
	}
	return e.wanted().lacking(found, e.Mesh.Secret), nil
}

// Found returns all labels and annotations that the target carries.
func (e Enrolment) Found(ctx context.Context) (Mark, error) {
	namespace, workload, err := e.found(ctx)
	switch {
	case err != nil:
		return Mark{}, err
	case workload != nil:
		return MarkOf(workload.Template), nil
	default:
		return MarkOf(namespace), nil
	}
}

func (e Enrolment) wanted() Mark {
	if e.Target.WholeNamespace() {
		return e.Mesh.NamespaceMark()
	}
	return e.Mesh.WorkloadMark()
}

// Withdraw gives the mark up and restarts what still runs a proxy. A target
// that no longer exists has nothing to withdraw. It returns, in one line each,
// what stays in the mesh all the same, and why.
func (e Enrolment) Withdraw(ctx context.Context) (staying []string, err error) {
	e.log("giving up the enrolment", nil)
	d := e.dataPlane()
	if !e.Target.WholeNamespace() {
		if err := d.allowed(ctx, e.Target.Workload); err != nil && !errors.Is(err, kube.ErrNotFound) {
			return nil, err
		}
	}
	if _, err := e.Cluster.Release(ctx, e.Target.Ref(), EnrolmentManager); err != nil {
		if errors.Is(err, kube.ErrNotFound) {
			return nil, nil
		}
		return nil, err
	}
	lacking, err := e.Marked(ctx)
	if err != nil {
		return nil, err
	}
	if len(lacking) == 0 {
		return []string{e.Target.String() + " has the same labels and annotations by somebody else's hand"}, nil
	}
	if !e.Target.WholeNamespace() {
		// The template changed, so the workload's controller restarts it, if it can.
		reachable, stuck, err := d.reachable(ctx, d.Workloads)
		if err != nil || len(stuck) > 0 {
			return stuck, err
		}
		return nil, e.Cluster.AwaitRollouts(ctx, 0, reachable...)
	}
	return d.leave(ctx)
}

// leave brings the pods of a namespace out of the mesh that are in it for no
// other reason than the namespace's mark, which is gone.
func (d DataPlane) leave(ctx context.Context) (staying []string, err error) {
	restarts, staying, err := d.leaving(ctx)
	for attempt := 0; err == nil && len(restarts) > 0 && attempt < 2; attempt++ {
		// The first pods may still be made by what was said before; restarts are
		// told apart by the second.
		if !d.Mesh.InPlace() {
			if err := d.restart(ctx, restarts, d.Now.Add(time.Duration(attempt)*time.Second)); err != nil {
				return staying, err
			}
		}
		err = d.Cluster.Await(ctx, d.Namespace, append(kube.WorkloadKinds(), kube.Pod, kube.ReplicaSet), func(ctx context.Context) (string, error) {
			var err error
			if restarts, staying, err = d.leaving(ctx); err != nil {
				return "", err
			}
			for _, r := range restarts {
				if d.Mesh.InPlace() {
					return fmt.Sprintf("%d pods of %s to leave %s", r.Pods, r.Workload, d.Mesh.Name()), nil
				}
				if waiting, err := d.former(ctx, r.pods); err != nil || waiting != "" {
					return waiting, err
				}
			}
			return "", nil
		})
	}
	for _, r := range restarts {
		staying = append(staying, r.Workload.String()+" is still given proxies")
	}
	return staying, err
}

// leaving finds the workloads with pods that are in the mesh without being
// claimed by it, and says which such pods no restart reaches.
func (d DataPlane) leaving(ctx context.Context) (restarts []Restart, staying []string, err error) {
	pods, err := d.pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	found := restartSet{}
	for _, pod := range pods {
		if mode := d.Mesh.Proxy(pod).Mode; mode == "" || d.Mesh.InPlace() && mode != Ambient {
			continue
		}
		subject, owner, workload, err := d.subject(ctx, pod)
		if err != nil {
			return nil, nil, err
		}
		if subject.Template != nil && d.Mesh.Claims(MarkOf(subject.Namespace), MarkOf(subject.Template)) {
			continue // It is enrolled itself.
		}
		if why := d.unreachable(owner, workload); why != "" && !d.Mesh.InPlace() {
			staying = append(staying, fmt.Sprintf("Pod %s: %s", pod.Name, why))
			continue
		}
		found.add(owner, pod, Reason{Cause: Withdrawn})
	}
	return found.inOrder(), staying, nil
}

// allowed waits until a change of a workload's template keeps within its
// disruption budgets, unless they are to be ignored.
func (d DataPlane) allowed(ctx context.Context, ref kube.Ref) error {
	if d.Policy.IgnoreBudgets {
		return nil
	}
	return d.Cluster.AwaitBudget(ctx, ref)
}

func (e Enrolment) log(message string, fields map[string]any) {
	if e.Log == nil {
		return
	}
	all := map[string]any{"target": e.Target.String(), "mesh": e.Mesh.Name()}
	maps.Copy(all, fields)
	e.Log(message, all)
}

package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// EnrolmentManager is the field manager of enrolment marks. Nothing else of
// ours writes under it, so that giving up its fields undoes just the mark.
const EnrolmentManager = "aksmesh-injection"

// TokenAnnotation tells enrolments of the same object apart, one of which comes
// after the other: it is on the object itself, where no pod is made from.
const TokenAnnotation = "aksmesh.io/enrolment" //nolint:gosec // The name of an annotation.

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
	// Token is what the target is given to tell this enrolment from the one that
	// comes after it; empty if it is not known.
	Token string
	// Former is the mark of this enrolment as it was before; empty if there was
	// none. What others have made of it since is taken back.
	Former Mark
	// Force takes everything else of the mark over from whoever manages it;
	// without it that is a *kube.ConflictError.
	Force  bool
	Policy RestartPolicy
	// Now is the instant that restarts are marked with.
	Now time.Time
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// dataPlane is the pods of the target.
func (e Enrolment) dataPlane() DataPlane {
	d := DataPlane{Cluster: e.Cluster, Mesh: e.Mesh, Namespace: e.Target.Namespace, Former: e.Former, Policy: e.Policy, Now: e.Now, Log: e.Log}
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
	if namespace.DeletionTimestamp != nil {
		return fmt.Errorf("%s: Namespace %s is being deleted, and no pod can be made in it any more", e.Target, namespace.Name)
	}
	if err := e.dataPlane().available(ctx); err != nil {
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
	if workload != nil {
		uid = workload.UID
		if want.lacks(MarkOf(workload.Template)) {
			// The apply below makes the workload roll.
			if err := e.allowed(ctx, workload); err != nil {
				return err
			}
		}
	}
	// An apply to an object that is gone would make a new one.
	object.SetUID(uid)
	if e.Token != "" {
		object.SetAnnotations(map[string]string{TokenAnnotation: e.Token})
	}
	if err := want.onto(object.Object, e.Target.metadata()...); err != nil {
		return fmt.Errorf("%s: %w", e.Target, err)
	}
	e.log("enrolling", map[string]any{"keys": want.keys()})
	_, err = e.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: EnrolmentManager, Force: e.Force})
	if conflict, is := errors.AsType[*kube.ConflictError](err); is {
		known := e.Target.fieldsOf(e.Former)
		if !slices.ContainsFunc(conflict.Fields, func(field string) bool { return !slices.Contains(known, field) }) {
			_, err = e.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: EnrolmentManager, Force: true})
		}
	}
	return err
}

// allowed waits until a change of the target's template keeps within its
// disruption budgets, unless they are to be ignored or nothing comes of it.
func (e Enrolment) allowed(ctx context.Context, workload *kube.Workload) error {
	if e.Policy.IgnoreBudgets || workload.CheckRestart() != nil {
		return nil //nolint:nilerr // What does not roll needs no budget.
	}
	return e.Cluster.AwaitBudget(ctx, workload.Ref)
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
	live, err := e.Cluster.Find(ctx, e.Target.Ref())
	if err != nil {
		return Survey{}, err
	}
	replaced := e.Target.replaced(live)
	return e.dataPlane().survey(ctx, func(s *Subject) bool {
		if e.Target.WholeNamespace() {
			s.Namespace, s.Former = s.Namespace.DeepCopy(), replaced
			replaceMark(s.Namespace, replaced, e.wanted())
			return false
		}
		if s.Template == nil {
			return false
		}
		before := MarkOf(s.Template)
		s.Template, s.Former = s.Template.DeepCopy(), replaced
		replaceMark(s.Template, replaced, e.wanted())
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

// LiveToken returns the token that the target bears, whosever it is; empty if it
// bears none.
func (e Enrolment) LiveToken(ctx context.Context) (string, error) {
	live, err := e.Cluster.Find(ctx, e.Target.Ref())
	if err != nil {
		return "", err
	}
	return tokenOf(live), nil
}

func (e Enrolment) wanted() Mark {
	if e.Target.WholeNamespace() {
		return e.Mesh.NamespaceMark()
	}
	return e.Mesh.WorkloadMark()
}

// Withdraw gives the mark up and restarts what still runs a proxy. A target that
// no longer exists, or whose namespace is on its way out, has nothing to withdraw,
// and neither has one that bears another enrolment's token by now. It returns, in
// one line each, what stays in the mesh all the same, and why.
func (e Enrolment) Withdraw(ctx context.Context) (staying []string, err error) {
	e.log("giving up the enrolment", nil)
	if staying, err = e.withdraw(ctx); err == nil {
		return staying, nil
	}
	// It may have gone while its pods were waited for.
	if namespace, _, lookErr := e.found(ctx); errors.Is(lookErr, kube.ErrNotFound) || lookErr == nil && namespace.DeletionTimestamp != nil {
		return nil, nil
	}
	return staying, err
}

func (e Enrolment) withdraw(ctx context.Context) (staying []string, err error) {
	namespace, workload, err := e.found(ctx)
	if err != nil || namespace.DeletionTimestamp != nil {
		return nil, err
	}
	if workload != nil {
		if err := e.allowed(ctx, workload); err != nil {
			return nil, err
		}
	}
	released, err := e.release(ctx)
	if err != nil || released == nil {
		return nil, err
	}
	if staying, err = e.kept(ctx, released); err != nil {
		return nil, err
	}
	d := e.dataPlane()
	if e.Target.WholeNamespace() {
		if len(staying) > 0 {
			return staying, nil
		}
		return d.leave(ctx)
	}
	// The template changed, so the workload's controller restarts it, if it can.
	reachable, stuck, err := d.reachable(ctx, d.Workloads)
	if err != nil {
		return nil, err
	}
	if len(staying) == 0 {
		staying = stuck
	}
	return staying, e.Cluster.AwaitRollouts(ctx, 0, e.Log, reachable...)
}

// release gives up what this enrolment manages of the target, which it returns as
// it is then; nil if another enrolment has taken the target over.
func (e Enrolment) release(ctx context.Context) (*unstructured.Unstructured, error) {
	live, err := e.Cluster.Get(ctx, e.Target.Ref())
	for err == nil {
		if token := tokenOf(live); token != "" && e.Token != "" && token != e.Token {
			return nil, nil //nolint:nilnil // Nothing is left to be given up.
		}
		var released *unstructured.Unstructured
		if released, err = e.Cluster.ReleaseAt(ctx, live, EnrolmentManager); err == nil {
			return released, nil
		}
		if errors.Is(err, kube.ErrChanged) {
			live, err = e.Cluster.Get(ctx, e.Target.Ref())
		}
	}
	return nil, err
}

// kept says what claims the pods of the target although its mark is given up.
func (e Enrolment) kept(ctx context.Context, released *unstructured.Unstructured) ([]string, error) {
	namespace, workload, err := e.found(ctx)
	if err != nil {
		return nil, err
	}
	var own Mark
	if workload != nil {
		own = MarkOf(workload.Template)
	}
	if !e.Mesh.Claims(MarkOf(namespace), own) {
		return nil, nil
	}
	if workload != nil && !e.Mesh.Claims(Mark{}, own) {
		return []string{fmt.Sprintf("%s: Namespace %s is enrolled itself", e.Target, namespace.Name)}, nil
	}
	if keeps := e.Target.keeps(released, e.wanted().keys()); len(keeps) > 0 {
		return []string{fmt.Sprintf("%s still has %s", e.Target, strings.Join(keeps, "; "))}, nil
	}
	return []string{e.Target.String() + " has other labels or annotations that enrol it"}, nil
}

// leave brings the pods of a namespace out of the mesh that are in it for no
// other reason than the namespace's mark, which is gone.
func (d DataPlane) leave(ctx context.Context) (staying []string, err error) {
	restarts, staying, err := d.leaving(ctx)
	if err != nil {
		return staying, err
	}
	if d.Mesh.InPlace() {
		_, err := d.Mesh.ControlPlane(ctx, d.Cluster)
		if errors.Is(err, ErrNoControlPlane) {
			for _, r := range restarts {
				staying = append(staying, fmt.Sprintf("%s: nothing takes its pods out until they are made anew: %v", r.Workload, err))
			}
			return staying, nil
		}
		if err != nil {
			return staying, err
		}
	}
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
				if waiting, err := d.outgoing(ctx, r.pods); err != nil || waiting != "" {
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
		found.add(owner, subject, Reason{Cause: Withdrawn})
	}
	return found.inOrder(), staying, nil
}

func (e Enrolment) log(message string, fields map[string]any) {
	if e.Log == nil {
		return
	}
	all := map[string]any{"target": e.Target.String(), "mesh": e.Mesh.Name()}
	maps.Copy(all, fields)
	e.Log(message, all)
}

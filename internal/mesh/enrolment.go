package mesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// A PodNote is one pod and what there is to say of it.
type PodNote struct {
	Pod    string
	Reason string
}

// String is the note as one line.
func (n PodNote) String() string { return n.Pod + ": " + n.Reason }

// A Survey is what the pods of a target show.
type Survey struct {
	// Total counts the pods that should be meshed, Meshed those that are.
	Total, Meshed int
	// Unmeshed are the pods that should be meshed and are not, Skipped those
	// that the mesh never injects. Both are in order of their names.
	Unmeshed, Skipped []PodNote

	unmeshed []*corev1.Pod
	restart  []kube.Ref
	stuck    []PodNote
}

// An Enrolment is a target, a mesh, and the cluster they are in.
type Enrolment struct {
	Cluster *kube.Cluster
	Mesh    Mesh
	Target  Target
	// Force takes the mark over from whoever else manages it; without it that
	// is a *kube.ConflictError.
	Force bool
	// Renew restarts also the pods that have a proxy already: they were made by
	// what the mark said before. Those of one workload are made anew in any case.
	Renew bool
	// Now is the instant that restarts are marked with.
	Now time.Time
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// Mark writes the mesh's labels and annotations on the target by server-side
// apply, once the mesh's injector is there to act on them. It may be repeated.
func (e Enrolment) Mark(ctx context.Context) error {
	namespace, err := e.Cluster.Namespace(ctx, e.Target.Namespace)
	if err != nil {
		return err
	}
	if err := e.Mesh.Injecting(ctx, e.Cluster, namespace); err != nil {
		return fmt.Errorf("%s: %s cannot inject its pods now: %w", e.Target, e.Mesh.Name(), err)
	}
	return e.mark(ctx)
}

// Withdraw gives the mark up and restarts what still runs a proxy. A target
// that no longer exists has nothing to withdraw. It returns, in one line each,
// what stays in the mesh all the same, and why.
func (e Enrolment) Withdraw(ctx context.Context) (staying []string, err error) {
	e.log("giving up the enrolment", nil)
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
		if staying, err = e.unreachable(ctx); len(staying) > 0 || err != nil {
			return staying, err
		}
		return nil, e.Cluster.AwaitRollout(ctx, e.Target.Workload)
	}
	leaving, err := e.members(ctx)
	if err != nil || len(leaving) == 0 {
		return nil, err
	}
	staying, still, err := e.turnOver(ctx, leaving, e.stillMeshed)
	for _, workload := range still {
		staying = append(staying, workload.String()+" is still given proxies")
	}
	return staying, err
}

// stillMeshed returns the workloads of the namespace whose pods have a proxy
// though they were made after the enrolment was given up.
func (e Enrolment) stillMeshed(ctx context.Context) ([]kube.Ref, error) {
	if err := e.awaitNew(ctx, e.meshedPods); err != nil {
		return nil, err
	}
	return e.members(ctx)
}

// meshedPods lists the living pods of the target that have a proxy.
func (e Enrolment) meshedPods(ctx context.Context) ([]*corev1.Pod, error) {
	pods, err := e.pods(ctx)
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !e.Mesh.Meshed(p) }), err
}

// unreachable says why a change of its template does not reach the target
// workload's pods; nothing if it does.
func (e Enrolment) unreachable(ctx context.Context) ([]string, error) {
	workload, err := e.Cluster.Workload(ctx, e.Target.Workload)
	if err != nil {
		return nil, err
	}
	var why []string
	if refused := workload.CheckRestart(); refused != nil {
		why = append(why, refused.Error())
	}
	return why, nil
}

// members returns the workloads whose pods are in the mesh by the target's mark.
func (e Enrolment) members(ctx context.Context) ([]kube.Ref, error) {
	meshed, err := e.meshedPods(ctx)
	if err != nil {
		return nil, err
	}
	owners, _, err := e.owners(ctx, meshed)
	if err != nil {
		return nil, err
	}
	// A workload with an enrolment of its own stays in the mesh.
	var members []kube.Ref
	for _, owner := range owners {
		enrolled, err := e.enrolledItself(ctx, owner)
		if err != nil {
			return nil, err
		}
		if !enrolled {
			members = append(members, owner)
		}
	}
	return members, nil
}

// Survey looks at the pods of the target without changing anything.
func (e Enrolment) Survey(ctx context.Context) (Survey, error) {
	pods, err := e.pods(ctx)
	if err != nil {
		return Survey{}, err
	}
	var s Survey
	for _, pod := range pods {
		switch reason := e.Mesh.Exempt(pod); {
		case reason != "":
			s.Skipped = append(s.Skipped, PodNote{Pod: pod.Name, Reason: reason})
		case e.Mesh.Meshed(pod):
			s.Total++
			s.Meshed++
		default:
			s.Total++
			s.unmeshed = append(s.unmeshed, pod)
			s.Unmeshed = append(s.Unmeshed, PodNote{Pod: pod.Name, Reason: "no proxy"})
		}
	}
	s.restart, s.stuck, err = e.owners(ctx, s.unmeshed)
	return s, err
}

// Marked reports which of the wanted labels and annotations the target lacks
// or has with another value; none means that it is enrolled as asked.
func (e Enrolment) Marked(ctx context.Context) ([]string, error) {
	found, err := e.Found(ctx)
	if err != nil {
		return nil, err
	}
	return e.wanted().lacking(found), nil
}

// Found returns all labels and annotations that the target carries.
func (e Enrolment) Found(ctx context.Context) (Mark, error) {
	if e.Target.WholeNamespace() {
		namespace, err := e.Cluster.Namespace(ctx, e.Target.Namespace)
		if err != nil {
			return Mark{}, err
		}
		return markOf(namespace), nil
	}
	workload, err := e.Cluster.Workload(ctx, e.Target.Workload)
	if err != nil {
		return Mark{}, err
	}
	return markOf(workload.Template), nil
}

func (e Enrolment) wanted() Mark {
	if e.Target.WholeNamespace() {
		return e.Mesh.NamespaceMark()
	}
	return e.Mesh.WorkloadMark()
}

// markOf returns the labels and annotations of an object.
func markOf(object metav1.Object) Mark {
	return Mark{Labels: object.GetLabels(), Annotations: object.GetAnnotations()}
}

// lacking says, in order, what of the mark another one lacks or has with
// another value.
func (m Mark) lacking(in Mark) []string {
	var missing []string
	compare := func(kind string, want, have map[string]string) {
		for key, value := range want {
			switch got, ok := have[key]; {
			case !ok:
				missing = append(missing, fmt.Sprintf("%s %s is missing", kind, key))
			case got != value:
				missing = append(missing, fmt.Sprintf("%s %s is %q instead of %q", kind, key, got, value))
			}
		}
	}
	compare("label", m.Labels, in.Labels)
	compare("annotation", m.Annotations, in.Annotations)
	slices.Sort(missing)
	return missing
}

// mark writes the enrolment mark by server-side apply. The object's UID goes
// with it, because an apply to an object that is gone would make a new one.
func (e Enrolment) mark(ctx context.Context) error {
	ref := e.Target.Ref()
	existing, err := e.Cluster.Get(ctx, ref)
	if err != nil {
		return err
	}
	want := e.wanted()
	metadata := map[string]any{}
	if len(want.Labels) > 0 {
		metadata["labels"] = anyMap(want.Labels)
	}
	if len(want.Annotations) > 0 {
		metadata["annotations"] = anyMap(want.Annotations)
	}
	object := ref.Object()
	if e.Target.WholeNamespace() {
		for key, value := range metadata {
			if err := unstructured.SetNestedField(object.Object, value, "metadata", key); err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
		}
	} else if err := unstructured.SetNestedMap(object.Object, metadata, "spec", "template", "metadata"); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	object.SetUID(existing.GetUID())
	e.log("enrolling", map[string]any{"labels": want.Labels, "annotations": want.Annotations})
	_, err = e.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: EnrolmentManager, Force: e.Force})
	return err
}

// Settle brings running pods in line with the mark: workloads that roll anyway
// are waited for, those that still run pods without a proxy are turned over, and
// whatever has no proxy after that is an error that says why. The survey is
// valid also with an error.
func (e Enrolment) Settle(ctx context.Context) (Survey, error) {
	look := e.Survey
	if !e.Target.WholeNamespace() {
		stuck, err := e.unreachable(ctx)
		if err != nil {
			return Survey{}, err
		}
		if len(stuck) > 0 {
			survey, err := e.Survey(ctx)
			if err == nil && len(survey.Unmeshed) > 0 {
				err = fmt.Errorf("%s: %d of %d pods are without a proxy of %s: %s", e.Target, len(survey.Unmeshed), survey.Total, e.Mesh.Name(), strings.Join(stuck, ", "))
			}
			return survey, err
		}
		// Its template has changed, or it is as it should be already.
		if err := e.Cluster.AwaitRollout(ctx, e.Target.Workload); err != nil {
			return Survey{}, err
		}
		look = e.afterRestart
	}
	survey, err := look(ctx)
	if err != nil {
		return survey, err
	}
	if len(survey.stuck) > 0 {
		return survey, fmt.Errorf("%s: pods without a proxy that nothing restarts: %s; delete them, or enrol them by what creates them", e.Target, list(survey.stuck))
	}
	restart := survey.restart
	if e.Renew && e.Target.WholeNamespace() {
		members, err := e.members(ctx)
		if err != nil {
			return survey, err
		}
		restart = append(restart, slices.DeleteFunc(members, func(ref kube.Ref) bool { return slices.Contains(restart, ref) })...)
	}
	if len(restart) == 0 {
		return survey, nil
	}
	var refusals string
	skipped, _, err := e.turnOver(ctx, restart, func(ctx context.Context) ([]kube.Ref, error) {
		var err error
		survey, err = e.afterRestart(ctx)
		if refusals = e.refusals(ctx, survey.restart); refusals != "" {
			return nil, err // The injector has its reasons and would give them again.
		}
		return survey.restart, err
	})
	if err != nil {
		return survey, err
	}
	if len(survey.Unmeshed) == 0 && e.Renew && len(skipped) > 0 {
		return survey, fmt.Errorf("%s: pods keep the settings of before: %s", e.Target, strings.Join(skipped, ", "))
	}
	if len(survey.Unmeshed) > 0 {
		why := list(survey.Unmeshed)
		if refusals != "" {
			why += "; the injector says: " + refusals
		}
		if len(skipped) > 0 {
			why += "; not restarted: " + strings.Join(skipped, ", ")
		}
		return survey, fmt.Errorf("%s: %d of %d pods are still without a proxy of %s after their restart: %s", e.Target, len(survey.Unmeshed), survey.Total, e.Mesh.Name(), why)
	}
	return survey, nil
}

// afterRestart surveys the pods once those without a proxy from before the
// restart are gone.
func (e Enrolment) afterRestart(ctx context.Context) (survey Survey, err error) {
	err = e.awaitNew(ctx, func(ctx context.Context) ([]*corev1.Pod, error) {
		var err error
		survey, err = e.Survey(ctx)
		return survey.unmeshed, err
	})
	return survey, err
}

// awaitNew waits until none of the pods is from before the restart: what the
// workloads report can be ahead of what is seen of their pods.
func (e Enrolment) awaitNew(ctx context.Context, pods func(context.Context) ([]*corev1.Pod, error)) error {
	return e.Cluster.Await(ctx, e.Target.Namespace, []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
		found, err := pods(ctx)
		if err != nil {
			return "", err
		}
		for _, pod := range found {
			former, err := e.former(ctx, pod)
			if err != nil {
				return "", err
			}
			if former {
				return fmt.Sprintf("pod %s/%s from before the restart to go", pod.Namespace, pod.Name), nil
			}
		}
		return "", nil
	})
}

// former reports whether a pod was made before its workload's last restart, or
// before its workload's template was marked.
func (e Enrolment) former(ctx context.Context, pod *corev1.Pod) (bool, error) {
	owner, err := e.Cluster.OwnerOf(ctx, pod)
	if err != nil {
		return false, err
	}
	if !slices.Contains(kube.WorkloadKinds(), owner.Kind) {
		return false, nil
	}
	workload, err := e.Cluster.Workload(ctx, owner)
	if errors.Is(err, kube.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if workload.Paused || workload.OnDelete || workload.Partition > 0 {
		// Its former pods stay whatever its template says.
		return false, nil
	}
	template := workload.Template.ObjectMeta
	if pod.Annotations[kube.RestartAnnotation] != template.Annotations[kube.RestartAnnotation] {
		return true, nil
	}
	if e.Target.WholeNamespace() {
		return false, nil
	}
	return len(e.Mesh.WorkloadMark().lacking(markOf(pod))) > 0, nil
}

// turnOver restarts workloads, and a second time those of which the new pods
// are not as they should be: API servers and injectors learn of a namespace's
// marks with a delay, so pods may be made by what was said before. Wrong returns
// these workloads once the pods of before are gone.
func (e Enrolment) turnOver(ctx context.Context, workloads []kube.Ref, wrong func(context.Context) ([]kube.Ref, error)) (unreachable []string, still []kube.Ref, err error) {
	still = workloads
	for attempt := range 2 {
		// Restarts are told apart by the second.
		if unreachable, err = e.restart(ctx, still, e.Now.Add(time.Duration(attempt)*time.Second)); err != nil {
			return unreachable, still, err
		}
		if still, err = wrong(ctx); err != nil || len(still) == 0 {
			return unreachable, still, err
		}
	}
	return unreachable, still, nil
}

// restart restarts workloads and waits for all of them. Workloads that a
// restart cannot reach (paused, OnDelete) are named, not silently passed over.
func (e Enrolment) restart(ctx context.Context, workloads []kube.Ref, at time.Time) (unreachable []string, err error) {
	var restarted []kube.Ref
	for _, ref := range workloads {
		e.log("restarting", map[string]any{"workload": ref.String()})
		err := e.Cluster.Restart(ctx, ref, at)
		var refused *kube.RestartError
		switch {
		case errors.As(err, &refused):
			unreachable = append(unreachable, refused.Error())
		case errors.Is(err, kube.ErrNotFound):
		case err != nil:
			return unreachable, err
		default:
			restarted = append(restarted, ref)
		}
	}
	return unreachable, e.Cluster.AwaitReady(ctx, restarted...)
}

// pods lists the living pods of the target: those that finished or are on their
// way out need no proxy any more.
func (e Enrolment) pods(ctx context.Context) ([]*corev1.Pod, error) {
	read := e.Cluster.Pods
	if !e.Target.WholeNamespace() {
		read = func(ctx context.Context, _ string) ([]*corev1.Pod, error) {
			return e.Cluster.PodsOf(ctx, e.Target.Workload)
		}
	}
	all, err := read(ctx, e.Target.Namespace)
	if err != nil {
		return nil, err
	}
	var living []*corev1.Pod
	for _, pod := range all {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			living = append(living, pod)
		}
	}
	slices.SortFunc(living, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return living, nil
}

// owners returns the workloads that restart the pods, each once, and the pods
// that no restart reaches: bare ones and those of Jobs.
func (e Enrolment) owners(ctx context.Context, pods []*corev1.Pod) (workloads []kube.Ref, stuck []PodNote, err error) {
	for _, pod := range pods {
		owner, err := e.Cluster.OwnerOf(ctx, pod)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case slices.Contains(workloads, owner):
		case slices.Contains(kube.WorkloadKinds(), owner.Kind):
			workloads = append(workloads, owner)
		default:
			reason := "its owner is " + owner.String()
			if owner.Kind == kube.Pod {
				reason = "it has no owner"
			}
			stuck = append(stuck, PodNote{Pod: pod.Name, Reason: reason})
		}
	}
	return workloads, stuck, nil
}

// enrolledItself reports whether a workload's own template asks for the mesh.
func (e Enrolment) enrolledItself(ctx context.Context, ref kube.Ref) (bool, error) {
	workload, err := e.Cluster.Workload(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return false, nil // Its last pods are on their way out.
	}
	if err != nil {
		return false, err
	}
	return len(e.Mesh.WorkloadMark().lacking(markOf(workload.Template))) == 0, nil
}

// refusals collects what injectors say of pods that they pass over, from the
// events of the pods' owners. It only adds to an error, so failing to read is no error.
func (e Enrolment) refusals(ctx context.Context, workloads []kube.Ref) string {
	var said []string
	for _, workload := range workloads {
		events, err := e.Cluster.Events(ctx, workload)
		if err != nil {
			continue
		}
		for _, event := range events {
			if event.Reason == "InjectionSkipped" && !slices.Contains(said, event.Message) {
				said = append(said, event.Message)
			}
		}
	}
	return strings.Join(said, "; ")
}

func (e Enrolment) log(message string, fields map[string]any) {
	if e.Log == nil {
		return
	}
	all := map[string]any{"target": e.Target.String(), "mesh": e.Mesh.Name()}
	maps.Copy(all, fields)
	e.Log(message, all)
}

// Available returns nil when a workload has at least one available pod.
func Available(ctx context.Context, cluster *kube.Cluster, ref kube.Ref) error {
	workload, err := cluster.Workload(ctx, ref)
	if err != nil {
		return err
	}
	if workload.Available == 0 {
		return fmt.Errorf("%s has no available pod", ref)
	}
	return nil
}

func list(notes []PodNote) string {
	const most = 5
	lines := make([]string, 0, most+1)
	for i, note := range notes {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(notes)-most))
			break
		}
		lines = append(lines, note.String())
	}
	return strings.Join(lines, "; ")
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}

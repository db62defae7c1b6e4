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

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// A DataPlane is the pods that an enrolment or a release is about, and how they
// are brought in line with what the mesh would give them today.
type DataPlane struct {
	Cluster *kube.Cluster
	Mesh    Mesh
	// Namespace whose pods are meant, all of them unless Workloads are named.
	Namespace string
	Workloads []kube.Ref
	// Former is the mark of the namespace or of the workloads that the present one
	// replaces; empty if there was none.
	Former Mark
	Policy RestartPolicy
	// Due, unless nil, says instead of the mesh's control plane which meshed pods
	// have to be made anew, and why; pods outside of the mesh are then left alone.
	Due func(*corev1.Pod) []Reason
	// Now is the instant that pods are judged at and restarts are marked with.
	Now time.Time
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// A RestartPolicy is how workloads are restarted when several have to be.
type RestartPolicy struct {
	// MaxParallel workloads roll at the same time; 0 is no limit.
	MaxParallel int
	// Order are workloads that go first, one after the other.
	Order []kube.Ref
	// IgnoreBudgets restarts also what a PodDisruptionBudget does not allow now.
	IgnoreBudgets bool
}

// stages are the workloads in the policy's order.
func (p RestartPolicy) stages(workloads []kube.Ref) [][]kube.Ref {
	var stages [][]kube.Ref
	rest := slices.Clone(workloads)
	for _, ref := range p.Order {
		if i := slices.Index(rest, ref); i >= 0 {
			stages = append(stages, []kube.Ref{ref})
			rest = slices.Delete(rest, i, i+1)
		}
	}
	if len(rest) > 0 {
		stages = append(stages, rest)
	}
	return stages
}

// A PodNote is one pod and what there is to say of it.
type PodNote struct {
	Pod    string
	Owner  kube.Ref // what manages it in the end; the pod itself if nothing does
	Reason string
}

// String is the note as one line.
func (n PodNote) String() string { return n.Pod + ": " + n.Reason }

// A Restart is a workload whose pods have to be made anew.
type Restart struct {
	Workload kube.Ref
	Pods     int // that are not as they should be
	Reasons  []Reason

	pods []*corev1.Pod
	seen string // RestartAnnotation of the template; empty if there is none
}

// String is the restart as one line.
func (r Restart) String() string {
	pods := "1 pod"
	if r.Pods != 1 {
		pods = fmt.Sprintf("%d pods", r.Pods)
	}
	reasons := make([]string, len(r.Reasons))
	for i, reason := range r.Reasons {
		reasons[i] = reason.String()
	}
	return fmt.Sprintf("%s: %s: %s", r.Workload, pods, strings.Join(reasons, ", "))
}

// restartSet collects restarts, each workload once.
type restartSet map[kube.Ref]*Restart

func (s restartSet) add(workload kube.Ref, subject Subject, reasons ...Reason) {
	r := s[workload]
	if r == nil {
		r = &Restart{Workload: workload}
		if subject.Template != nil {
			r.seen = subject.Template.Annotations[kube.RestartAnnotation]
		}
		s[workload] = r
	}
	r.Pods++
	r.pods = append(r.pods, subject.Pod)
	for _, reason := range reasons {
		if !slices.Contains(r.Reasons, reason) {
			r.Reasons = append(r.Reasons, reason)
		}
	}
}

func (s restartSet) inOrder() []Restart {
	all := make([]Restart, 0, len(s))
	for _, ref := range slices.SortedFunc(maps.Keys(s), compareRefs) {
		all = append(all, *s[ref])
	}
	return all
}

// A Survey is what pods show. Everything in it is in order of names.
type Survey struct {
	// Total counts the pods that should be meshed, Meshed those that are, and
	// Stale the meshed ones that would be otherwise if they were made now. They
	// include those that no restart of ours reaches.
	Total, Meshed, Stale int
	// Wrong are the pods that should be meshed and are not, and the stale ones, as
	// far as they can be put right.
	Wrong []PodNote
	// Restarts are the workloads that put them right.
	Restarts []Restart
	// Skipped are the pods that the mesh never takes in, and those that are
	// wrong and that no restart of ours reaches.
	Skipped []PodNote
}

// outlook changes what a pod is compared with to what will be after an apply,
// and tells whether the apply makes the pod anew in any case.
type outlook func(*Subject) (anew bool)

// Survey looks at the pods without changing anything. Without a control plane
// to compare with, no pod is stale.
func (d DataPlane) Survey(ctx context.Context) (Survey, error) { return d.survey(ctx, nil) }

func (d DataPlane) survey(ctx context.Context, will outlook) (Survey, error) {
	plane, err := d.Mesh.ControlPlane(ctx, d.Cluster)
	if err != nil && !errors.Is(err, ErrNoControlPlane) {
		return Survey{}, err
	}
	if err != nil {
		plane = nil
	}
	pods, err := d.pods(ctx)
	if err != nil {
		return Survey{}, err
	}
	var s Survey
	restarts := restartSet{}
	for _, pod := range pods {
		subject, owner, workload, err := d.subject(ctx, pod)
		if err != nil {
			return Survey{}, err
		}
		anew := will != nil && will(&subject)
		shown := d.Mesh.Proxy(pod)
		if d.Due != nil && shown.Mode == "" {
			continue
		}
		if reason := cmp.Or(d.exempt(subject, anew), d.refused(plane, subject, shown)); reason != "" && d.Due == nil {
			s.Skipped = append(s.Skipped, PodNote{Pod: pod.Name, Owner: owner, Reason: reason})
			continue
		}
		// Pods of another mode do not join as they are.
		inPlace := d.Mesh.InPlace() && !anew && (shown.Mode == "" || shown.Mode == Ambient)
		if inPlace && shown.Mode == "" && pod.Status.PodIP == "" {
			continue // It joins when it starts.
		}
		reasons := d.judge(plane, subject, shown)
		if anew && len(reasons) == 0 {
			reasons = []Reason{{Cause: ChangedSettings, Detail: "its pod template changes"}}
		}
		s.Total++
		if shown.Mode != "" {
			s.Meshed++
		}
		if len(reasons) == 0 {
			continue
		}
		if shown.Mode != "" {
			s.Stale++
		}
		note := PodNote{Pod: pod.Name, Owner: owner, Reason: join(reasons)}
		if inPlace {
			s.Wrong = append(s.Wrong, note)
			continue
		}
		unreachable := d.unreachable(owner, workload)
		if unreachable != "" {
			note.Reason += "; " + unreachable
		}
		if unreachable != "" || !slices.ContainsFunc(reasons, func(r Reason) bool { return !r.Lasting }) {
			s.Skipped = append(s.Skipped, note)
			continue
		}
		s.Wrong = append(s.Wrong, note)
		restarts.add(owner, subject, reasons...)
	}
	s.Restarts = restarts.inOrder()
	return s, nil
}

func compareRefs(a, b kube.Ref) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind.Name, b.Kind.Name), cmp.Compare(a.Name, b.Name))
}

// exempt is why the mesh never takes in a pod: by what it is itself, or by what
// its template says now, if it is outside of the mesh or made anew in any case.
func (d DataPlane) exempt(subject Subject, anew bool) string {
	if anew || d.Mesh.Proxy(subject.Pod).Mode == "" {
		return d.Mesh.Exempt(subject.next())
	}
	return d.Mesh.Exempt(subject.Pod)
}

// refused is why the injector leaves a pod alone that is outside of the mesh,
// though it is asked about the pod's namespace: no restart changes that. One that
// is enrolled by itself is wrong all the same.
func (d DataPlane) refused(plane ControlPlane, subject Subject, shown Proxy) string {
	if plane == nil || shown.Mode != "" || len(d.Workloads) > 0 || plane.Sees(subject.Namespace, &corev1.Pod{}) != nil {
		return ""
	}
	if err := plane.Sees(subject.Namespace, subject.next()); err != nil {
		return err.Error()
	}
	return ""
}

// next is the pod as it would be made now, before any injector sees it.
func (s Subject) next() *corev1.Pod {
	if s.Template == nil {
		return s.Pod
	}
	return podOf(s.Template, s.Pod.Namespace)
}

// podOf makes up the pod that a template stands for.
func podOf(template *corev1.PodTemplateSpec, namespace string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
	pod.Namespace = namespace
	return pod
}

// judge says why a pod has to be made anew; nothing if it is as it should be.
func (d DataPlane) judge(plane ControlPlane, subject Subject, shown Proxy) []Reason {
	if d.Due != nil {
		return d.Due(subject.Pod)
	}
	if shown.Mode != "" {
		if plane == nil {
			return nil
		}
		return plane.Stale(subject, shown)
	}
	reason := Reason{Cause: NotInjected}
	if plane == nil {
		reason.Detail = ErrNoControlPlane.Error()
	} else if err := plane.Available(); err != nil {
		reason.Detail = err.Error()
	} else if err := plane.Sees(subject.Namespace, subject.next()); err != nil {
		reason.Detail = err.Error()
	}
	return []Reason{reason}
}

// Unreachable is why no restart of ours makes a pod anew; empty if one does.
func (d DataPlane) Unreachable(ctx context.Context, pod *corev1.Pod) (string, error) {
	_, owner, workload, err := d.subject(ctx, pod)
	if err != nil {
		return "", err
	}
	return d.unreachable(owner, workload), nil
}

// unreachable is why no restart of ours makes a pod anew; empty if one does.
func (d DataPlane) unreachable(owner kube.Ref, workload *kube.Workload) string {
	switch {
	case workload != nil:
		if err := workload.CheckRestart(); err != nil && len(d.Workloads) == 0 {
			return err.Error()
		}
		return ""
	case owner.Kind == kube.Pod:
		return "it has no owner that would make it anew; delete it, or enrol it by what creates it"
	case owner.Kind == kube.Job || owner.Kind == kube.CronJob:
		return owner.String() + " runs to its end as it began; its next pods are given a proxy"
	case owner.Kind == kube.ReplicaSet:
		return owner.String() + " does not replace its pods; delete them, or manage it by a Deployment"
	default:
		return owner.String() + " is not restarted by this provider; restart it by what manages it"
	}
}

// subject finds what a pod was made from: its namespace, and the workload that
// manages it, nil if that is none that could be restarted.
func (d DataPlane) subject(ctx context.Context, pod *corev1.Pod) (subject Subject, owner kube.Ref, workload *kube.Workload, err error) {
	namespace, err := d.Cluster.Namespace(ctx, pod.Namespace)
	if err != nil {
		return Subject{}, kube.Ref{}, nil, err
	}
	if owner, err = d.Cluster.OwnerOf(ctx, pod); err != nil {
		return Subject{}, kube.Ref{}, nil, err
	}
	subject = Subject{Pod: pod, Namespace: namespace, Former: d.Former, Now: d.Now}
	if slices.Contains(kube.WorkloadKinds(), owner.Kind) {
		workload, err = d.Cluster.Workload(ctx, owner)
		if err != nil && !errors.Is(err, kube.ErrNotFound) {
			return Subject{}, kube.Ref{}, nil, err
		}
		if err == nil {
			subject.Template = workload.Template
		}
	}
	return subject, owner, workload, nil
}

// pods lists the living pods: those that finished or are on their way out need
// no proxy any more.
func (d DataPlane) pods(ctx context.Context) ([]*corev1.Pod, error) {
	var all []*corev1.Pod
	if len(d.Workloads) == 0 {
		var err error
		if all, err = d.Cluster.Pods(ctx, d.Namespace); err != nil {
			return nil, err
		}
	}
	for _, ref := range d.Workloads {
		owned, err := d.Cluster.PodsOf(ctx, ref)
		if err != nil {
			return nil, err
		}
		all = append(all, owned...)
	}
	var living []*corev1.Pod
	for _, pod := range all {
		if Living(pod) {
			living = append(living, pod)
		}
	}
	slices.SortFunc(living, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return living, nil
}

// Living reports whether a pod is neither finished nor on its way out.
func Living(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil && !Finished(pod) }

// Finished reports whether the containers of a pod have ended.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Settle brings the pods in line: workloads whose rollout is going to put them
// right are waited for, what is wrong apart from that is restarted, once whatever
// the reasons, and what is wrong even then is an error that says why. Pods that
// are right are left alone, so that a second call goes on where one that failed
// has stopped. The survey is valid also with an error.
func (d DataPlane) Settle(ctx context.Context) (Survey, error) {
	if _, err := d.Mesh.ControlPlane(ctx, d.Cluster); err != nil {
		return Survey{}, fmt.Errorf("%s cannot take in pods now: %w", d.Mesh.Name(), err)
	}
	survey, err := d.undisturbed(ctx)
	if err != nil {
		return survey, err
	}
	// Injectors and API servers learn of a namespace's marks, and of a new trust
	// bundle, with a delay: pods may be made by what was said before.
	for attempt := range 2 {
		if len(survey.Restarts) == 0 {
			break
		}
		if attempt > 0 && d.refusals(ctx, survey.Restarts) != "" {
			break // The injector has its reasons and would give them again.
		}
		if err := d.available(ctx); err != nil {
			return survey, fmt.Errorf("%d of %d pods are not as they should be, and %s cannot inject now: %w", len(survey.Wrong), survey.Total, d.Mesh.Name(), err)
		}
		// Restarts are told apart by the second.
		if err := d.restart(ctx, survey.Restarts, d.Now.Add(time.Duration(attempt)*time.Second)); err != nil {
			return survey, err
		}
		restarted := make([]kube.Ref, len(survey.Restarts))
		for i, r := range survey.Restarts {
			restarted[i] = r.Workload
		}
		if survey, err = d.rolled(ctx, restarted); err != nil {
			return survey, err
		}
	}
	if len(survey.Restarts) > 0 {
		return survey, d.disagreement(ctx, survey)
	}
	if len(survey.Wrong) > 0 {
		return d.joined(ctx)
	}
	return survey, nil
}

// injectorPatience is how long a control plane that is not available is waited
// for: one that rolls out, or whose pod moves to another node, is back by then.
const injectorPatience = 2 * time.Minute

// available waits until pods made now would be taken in, but not for a control
// plane that is not installed at all: that is ErrNoControlPlane.
func (d DataPlane) available(ctx context.Context) error {
	lacks := func(ctx context.Context) (string, error) {
		plane, err := d.Mesh.ControlPlane(ctx, d.Cluster)
		if err != nil {
			return "", err
		}
		if absent := plane.Available(); absent != nil {
			return fmt.Sprintf("%s to be available: %v", d.Mesh.Name(), absent), nil
		}
		return "", nil
	}
	waiting, err := lacks(ctx)
	if err != nil || waiting == "" {
		return err
	}
	d.log("waiting for the control plane", map[string]any{"for": waiting})
	ctx, cancel := context.WithTimeoutCause(ctx, injectorPatience, fmt.Errorf("it was not within %s", injectorPatience))
	defer cancel()
	return d.Cluster.Await(ctx, "", []kube.Kind{kube.Deployment, kube.DaemonSet, kube.MutatingWebhookConfiguration}, lacks)
}

// disagreement is the error that some pods are not as they should be although
// all was done that can be.
func (d DataPlane) disagreement(ctx context.Context, survey Survey) error {
	why := list(survey.Wrong)
	if refusals := d.refusals(ctx, survey.Restarts); refusals != "" {
		why += "; the injector says: " + refusals
	}
	unmeshed := 0
	for _, r := range survey.Restarts {
		for _, pod := range r.pods {
			if d.Mesh.Proxy(pod).Mode == "" {
				unmeshed++
			}
		}
	}
	if unmeshed > 0 {
		return fmt.Errorf("%d of %d pods are still without a proxy of %s after their restart: %s", unmeshed, survey.Total, d.Mesh.Name(), why)
	}
	return fmt.Errorf("%d of %d pods are still stale after their restart: %s", len(survey.Wrong), survey.Total, why)
}

// joined waits until all pods have joined a mesh that takes them in as they are.
func (d DataPlane) joined(ctx context.Context) (survey Survey, err error) {
	err = d.Cluster.Await(ctx, d.awaited(), []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
		var err error
		if survey, err = d.Survey(ctx); err != nil || len(survey.Wrong) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d of %d pods to join %s: %s", len(survey.Wrong), survey.Total, d.Mesh.Name(), list(survey.Wrong)), nil
	})
	return survey, err
}

// awaited is the namespace to watch; all if the workloads are of several.
func (d DataPlane) awaited() string {
	namespace := d.Namespace
	for _, ref := range d.Workloads {
		if namespace != "" && ref.Namespace != namespace {
			return ""
		}
		namespace = ref.Namespace
	}
	return namespace
}

// undisturbed surveys the pods once no rollout is under way that may put wrong
// ones right by itself. One that cannot is not waited for: pods that are wrong
// and of the newest template stay so, and what has failed before is begun anew
// by a restart, without the delays that controllers keep after failures.
func (d DataPlane) undisturbed(ctx context.Context) (Survey, error) {
	named, stuck, err := d.reachable(ctx, d.Workloads)
	if err != nil {
		return Survey{}, err
	}
	survey, err := d.Survey(ctx)
	if err != nil {
		return survey, err
	}
	if len(stuck) > 0 && len(survey.Wrong) > 0 {
		return survey, fmt.Errorf("%d of %d pods are without a proxy of %s or stale: %s", len(survey.Wrong), survey.Total, d.Mesh.Name(), strings.Join(stuck, ", "))
	}
	var failed []kube.Ref
	for {
		rolling := slices.Clone(named)
		for _, restart := range survey.Restarts {
			replaces, err := d.Cluster.Replaces(ctx, restart.Workload, restart.pods)
			if err != nil {
				return survey, err
			}
			at := slices.Index(rolling, restart.Workload)
			switch {
			case replaces && at < 0 && !slices.Contains(failed, restart.Workload):
				rolling = append(rolling, restart.Workload)
			case !replaces && at >= 0:
				rolling = slices.Delete(rolling, at, at+1)
			}
		}
		after, err := d.rolled(ctx, rolling)
		failure, is := errors.AsType[*kube.RolloutError](err)
		if !is || slices.Contains(named, failure.Workload) {
			return after, err
		}
		// It was somebody else's rollout, and ours may come off.
		failed = append(failed, failure.Workload)
		if survey, err = d.Survey(ctx); err != nil {
			return survey, err
		}
	}
}

// rolled surveys the pods once the workloads have rolled out and their former
// pods are gone.
func (d DataPlane) rolled(ctx context.Context, workloads []kube.Ref) (survey Survey, err error) {
	if err := d.Cluster.AwaitRollouts(ctx, 0, d.Log, workloads...); err != nil {
		survey, _ := d.Survey(context.WithoutCancel(ctx))
		return survey, err
	}
	if len(workloads) == 0 {
		return d.Survey(ctx)
	}
	err = d.Cluster.Await(ctx, d.awaited(), append(kube.WorkloadKinds(), kube.Pod, kube.ReplicaSet), func(ctx context.Context) (string, error) {
		var err error
		if survey, err = d.Survey(ctx); err != nil {
			return "", err
		}
		for _, restart := range survey.Restarts {
			if !slices.Contains(workloads, restart.Workload) {
				continue
			}
			if waiting, err := d.outgoing(ctx, restart.pods); err != nil || waiting != "" {
				return waiting, err
			}
		}
		return "", nil
	})
	return survey, err
}

// reachable keeps the workloads apart that a changed template does not restart.
func (d DataPlane) reachable(ctx context.Context, refs []kube.Ref) (reachable []kube.Ref, stuck []string, err error) {
	for _, ref := range refs {
		workload, err := d.Cluster.Workload(ctx, ref)
		if err != nil {
			return nil, nil, err
		}
		if refused := workload.CheckRestart(); refused != nil {
			stuck = append(stuck, refused.Error())
			continue
		}
		reachable = append(reachable, ref)
	}
	return reachable, stuck, nil
}

// outgoing says which of the pods is from before its workload's last rollout, and
// so on its way out: what workloads report can be ahead of what is seen of their
// pods.
func (d DataPlane) outgoing(ctx context.Context, pods []*corev1.Pod) (string, error) {
	for _, pod := range pods {
		owner, err := d.Cluster.OwnerOf(ctx, pod)
		if err != nil {
			return "", err
		}
		workload, err := d.Cluster.Workload(ctx, owner)
		if errors.Is(err, kube.ErrNotFound) {
			return fmt.Sprintf("pod %s/%s to go: %s is gone", pod.Namespace, pod.Name, owner), nil
		}
		if err != nil {
			return "", err
		}
		if workload.CheckRestart() != nil {
			continue // Its former pods stay whatever its template says.
		}
		template := workload.Template.ObjectMeta
		older := pod.Annotations[kube.RestartAnnotation] != template.Annotations[kube.RestartAnnotation]
		if len(d.Workloads) > 0 && d.Mesh.WorkloadMark().common(MarkOf(&template)).lacks(MarkOf(pod)) {
			older = true
		}
		if older {
			return fmt.Sprintf("pod %s/%s from before the restart to go", pod.Namespace, pod.Name), nil
		}
	}
	return "", nil
}

// restart restarts workloads by the policy.
func (d DataPlane) restart(ctx context.Context, restarts []Restart, at time.Time) error {
	workloads, seen := make([]kube.Ref, len(restarts)), map[kube.Ref]string{}
	for i, r := range restarts {
		workloads[i], seen[r.Workload] = r.Workload, r.seen
		d.log("restarting", map[string]any{"workload": r.Workload.String(), "why": join(r.Reasons)})
	}
	report, err := d.Cluster.Roll(ctx, kube.Rollout{
		Stages: d.Policy.stages(workloads), MaxParallel: d.Policy.MaxParallel, IgnoreBudgets: d.Policy.IgnoreBudgets, At: at, Seen: seen, Log: d.Log,
	})
	if err != nil {
		return err
	}
	for _, unreachable := range report.Unreachable {
		d.log("not restarted", map[string]any{"why": unreachable.Error()})
	}
	return nil
}

// refusals collects what injectors say of pods that they pass over, from the
// events of the pods' owners. What they said before these pods were made counts
// no more, nor what names the mark: an injector that misses it has not seen it
// yet. It only adds to an error, so failing to read is no error.
func (d DataPlane) refusals(ctx context.Context, restarts []Restart) string {
	keys := slices.Concat(d.Mesh.NamespaceMark().keys(), d.Mesh.WorkloadMark().keys())
	var said []string
	for _, restart := range restarts {
		events, err := d.Cluster.Events(ctx, restart.Workload)
		if err != nil {
			continue
		}
		var since time.Time // when the first of the pods was made
		for _, pod := range restart.pods {
			if made := pod.CreationTimestamp.Time; since.IsZero() || made.Before(since) {
				since = made
			}
		}
		for _, event := range events {
			last := event.LastTimestamp.Time
			if last.IsZero() {
				last = event.EventTime.Time
			}
			if event.Reason != "InjectionSkipped" || slices.Contains(said, event.Message) ||
				last.Before(since.Add(-time.Second)) || // It is reported before the pod is there.
				slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(event.Message, key) }) {
				continue
			}
			said = append(said, event.Message)
		}
	}
	return strings.Join(said, "; ")
}

func (d DataPlane) log(message string, fields map[string]any) {
	if d.Log == nil {
		return
	}
	all := map[string]any{"mesh": d.Mesh.Name()}
	maps.Copy(all, fields)
	d.Log(message, all)
}

func join(reasons []Reason) string {
	texts := make([]string, len(reasons))
	for i, reason := range reasons {
		texts[i] = reason.String()
	}
	return strings.Join(texts, ", ")
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

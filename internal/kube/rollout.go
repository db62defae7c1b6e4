package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultPatience is how long a sign of failure lasts before it counts: longer
// than an image registry or a webhook needs to come back from a hiccup.
const defaultPatience = 30 * time.Second

// A Rollout restarts workloads.
type Rollout struct {
	// Stages are rolled out one after the other: the next begins when all
	// workloads of one run with their new pods.
	Stages [][]Ref
	// MaxParallel workloads of a stage roll at the same time; 0 is no limit.
	MaxParallel int
	// At is the value of RestartAnnotation. What has it already is not restarted
	// again, only waited for.
	At time.Time
	// Seen is the RestartAnnotation of a workload's template, "" for none, when it
	// was found that the workload has to be restarted. One that another has
	// restarted since is only waited for; one that is not in the map is restarted.
	Seen map[Ref]string
	// IgnoreBudgets restarts also what a PodDisruptionBudget does not allow now.
	IgnoreBudgets bool
	// Patience is how long a sign of failure may last without progress before
	// the workload counts as failed; 30 s if zero.
	Patience time.Duration
	// Log is told of each step; it may be nil.
	Log Log
}

// Log is told of each step of what takes a while.
type Log func(message string, fields map[string]any)

// about tells of a step with one workload; the fields are names and values. A
// nil Log is told nothing.
func (l Log) about(workload Ref, message string, fields ...string) {
	if l == nil {
		return
	}
	all := map[string]any{"workload": workload.String()}
	for i := 0; i+1 < len(fields); i += 2 {
		all[fields[i]] = fields[i+1]
	}
	l(message, all)
}

// A RolloutReport is how far a Rollout came.
type RolloutReport struct {
	Done    []Ref // restarted and rolled out
	Unbegun []Ref // not restarted because another failed first, in the order of the stages
	// Unreachable are workloads that a restart does not reach; they are left as
	// they are.
	Unreachable []*RestartError
}

// RolloutError is a workload that did not roll out, and what became of the
// others that should have.
type RolloutError struct {
	Workload Ref    // that failed; its zero value if the time was up for several
	Reason   string // what the cluster says about it, one reason a line
	Done     []Ref
	Rolling  []Ref // begun and not finished, apart from Workload
	Unbegun  []Ref

	restarts bool  // others wait for their turn
	err      error // what ended it, if not what the cluster says
}

func (e *RolloutError) Error() string {
	reason := e.Reason
	if e.err != nil {
		reason = e.err.Error()
	}
	text := reason
	if e.Workload.Name != "" && (e.err == nil || !strings.Contains(reason, e.Workload.String())) {
		text = fmt.Sprintf("%s does not roll out: %s", e.Workload, reason)
	}
	if !e.restarts {
		return text
	}
	progress := []string{fmt.Sprintf("done: %s", listRefs(e.Done))}
	if len(e.Rolling) > 0 {
		progress = append(progress, "still rolling: "+listRefs(e.Rolling))
	}
	return fmt.Sprintf("%s\n%s; not begun: %s; the next apply goes on from there", text, strings.Join(progress, "; "), listRefs(e.Unbegun))
}

func (e *RolloutError) Unwrap() error { return e.err }

// listRefs names the first of many.
func listRefs(refs []Ref) string {
	if len(refs) == 0 {
		return "none"
	}
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = ref.String()
	}
	return Few(names)
}

// Few joins the first of many texts: the others would say the same.
func Few(texts []string) string {
	const enough = 5
	if more := len(texts) - enough; more > 0 {
		texts = append(slices.Clone(texts[:enough]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// Roll restarts workloads and returns when they have rolled out. It keeps
// within every PodDisruptionBudget unless told otherwise: what takes available
// pods down waits until its budgets allow that, and never rolls together with
// another workload of this process under the same budget. Workloads that a
// restart does not reach are reported; those that are gone are passed over. A pod
// of an earlier template that a StatefulSet waits for in vain is deleted.
//
// The first workload that fails ends it with a *[RolloutError]; so does the end
// of the context (the error then wraps a *[WaitError]) and a budget that can
// never allow what a workload's strategy takes down, in which case nothing is
// restarted. What has begun by then keeps rolling. The report is valid also with
// an error.
func (c *Cluster) Roll(ctx context.Context, r Rollout) (RolloutReport, error) {
	roll := &roll{Rollout: r, cluster: c, stage: -1}
	all := slices.Concat(r.Stages...)
	for _, ref := range all {
		if err := ref.validateWorkload(); err != nil {
			return RolloutReport{Unbegun: all}, err
		}
	}
	if len(all) == 0 {
		return RolloutReport{}, nil
	}
	if roll.Patience <= 0 {
		roll.Patience = defaultPatience
	}
	namespaces, kinds := watchedFor(all)
	if !r.IgnoreBudgets {
		kinds = append(kinds, PodDisruptionBudget)
	}
	err := c.await(ctx, namespaces, kinds, lookEvery(roll.Patience), roll.advance)
	roll.report.Unbegun = roll.unbegun()
	if err == nil {
		return roll.report, nil
	}
	failure, ok := errors.AsType[*RolloutError](err)
	if !ok {
		failure = &RolloutError{err: err}
		c.explain(ctx, err, slices.Concat(roll.refs(), roll.delayed))
	}
	failure.restarts, failure.Done, failure.Unbegun = true, roll.report.Done, roll.report.Unbegun
	failure.Rolling = slices.DeleteFunc(roll.refs(), func(ref Ref) bool { return ref == failure.Workload })
	failure.Unbegun = slices.DeleteFunc(slices.Clone(failure.Unbegun), func(ref Ref) bool { return ref == failure.Workload })
	return roll.report, failure
}

// roll is a Rollout under way.
type roll struct {
	Rollout
	cluster *Cluster
	stage   int // index in Stages of the one that rolls
	waiting []Ref
	rolling []*progress
	delayed []Ref // of waiting, by a budget
	report  RolloutReport
}

func (r *roll) refs() []Ref {
	refs := make([]Ref, len(r.rolling))
	for i, p := range r.rolling {
		refs[i] = p.ref
	}
	return refs
}

// unbegun are the workloads of this stage and the next that nothing was done to.
func (r *roll) unbegun() []Ref {
	left := slices.Clone(r.waiting)
	for _, stage := range r.Stages[r.stage+1:] {
		left = append(left, stage...)
	}
	return left
}

// advance does what can be done now, and says what is waited for.
func (r *roll) advance(ctx context.Context) (string, error) {
	if r.stage < 0 && !r.IgnoreBudgets {
		for _, ref := range r.unbegun() {
			err := r.cluster.neverAllowed(ctx, ref, func(w *Workload) bool { return w.unreachable() != "" || r.restarted(w) })
			if err != nil {
				return "", failed(ref, err)
			}
		}
	}
	for {
		rolling, err := r.look(ctx)
		if err != nil {
			return "", err
		}
		delayed, err := r.begin(ctx)
		if err != nil {
			return "", err
		}
		switch {
		case len(r.rolling) > len(rolling):
			// Just begun: what it lacks is told as that of the others.
		case len(r.rolling)+len(r.waiting) > 0:
			waiting := slices.Concat(rolling, delayed)
			if rest := len(r.waiting) - len(delayed); rest > 0 {
				waiting = append(waiting, fmt.Sprintf("the turn of %d more", rest))
			}
			return Few(waiting), nil
		case r.stage+1 == len(r.Stages):
			return "", nil
		default:
			r.stage++
			r.waiting = slices.Clone(r.Stages[r.stage])
		}
	}
}

// look takes those that have rolled out from the rolling ones, and says what the
// others lack.
func (r *roll) look(ctx context.Context) (lacks []string, err error) {
	var still []*progress
	for i, p := range r.rolling {
		w, err := r.cluster.Workload(ctx, p.ref)
		switch {
		case errors.Is(err, ErrNotFound):
			r.Log.about(p.ref, "gone while it was rolled out")
			r.finish(p)
			continue
		case err != nil:
			r.rolling = append(still, r.rolling[i:]...)
			return nil, failed(p.ref, err)
		}
		if refused, ok := errors.AsType[*RestartError](w.CheckRestart()); ok {
			r.report.Unreachable = append(r.report.Unreachable, refused)
			r.finish(p)
			continue
		}
		lack := w.Unfinished()
		if lack == "" {
			r.Log.about(p.ref, "rolled out")
			r.report.Done = append(r.report.Done, p.ref)
			r.finish(p)
			continue
		}
		if err := p.check(ctx, r.cluster, w); err != nil {
			r.rolling = append(still, r.rolling[i:]...)
			return nil, err
		}
		lacks = append(lacks, lack)
		still = append(still, p)
	}
	r.rolling = still
	return lacks, nil
}

func (r *roll) finish(p *progress) {
	if p.turn != nil {
		r.cluster.endTurn(p.turn)
	}
}

// begin restarts the waiting ones whose turn it is, and says what delays others.
func (r *roll) begin(ctx context.Context) (delays []string, err error) {
	var still, delayed []Ref
	defer func() { r.waiting, r.delayed = still, delayed }()
	for i, ref := range r.waiting {
		if r.MaxParallel > 0 && len(r.rolling) >= r.MaxParallel {
			still = append(still, r.waiting[i:]...)
			break
		}
		p, delay, err := r.restart(ctx, ref)
		switch {
		case err != nil:
			still = append(still, r.waiting[i:]...)
			return nil, failed(ref, err)
		case delay != "":
			delays = append(delays, delay)
			still, delayed = append(still, ref), append(delayed, ref)
		case p != nil:
			r.rolling = append(r.rolling, p)
		}
	}
	return delays, nil
}

// restart begins with one workload, or says what delays it. It does neither with
// a workload that is not to be waited for.
func (r *roll) restart(ctx context.Context, ref Ref) (begun *progress, delay string, err error) {
	w, err := r.cluster.Workload(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		r.Log.about(ref, "gone before it was restarted")
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if refused, ok := errors.AsType[*RestartError](w.CheckRestart()); ok {
		r.Log.about(ref, "not restarted", "why", refused.Reason)
		r.report.Unreachable = append(r.report.Unreachable, refused)
		return nil, "", nil
	}
	begun = newProgress(w, r.Patience, r.Log)
	if r.restarted(w) {
		return begun, "", nil
	}
	if !r.IgnoreBudgets {
		if begun.turn, delay, err = r.cluster.takeTurn(ctx, w); err != nil || delay != "" {
			if delay != "" && !slices.Contains(r.delayed, ref) {
				r.Log.about(ref, "waiting to restart", "for", delay)
			}
			return nil, delay, err
		}
	}
	r.Log.about(ref, "restarting")
	_, watched := r.Seen[ref]
	switch err := r.cluster.restart(ctx, w, r.At, watched); {
	case err == nil:
		return begun, "", nil
	case errors.Is(err, ErrNotFound):
		r.finish(begun)
		r.Log.about(ref, "gone before it was restarted")
		return nil, "", nil
	case errors.Is(err, ErrChanged):
		// What there is now is looked at the next time.
		r.finish(begun)
		return nil, ref.String() + ": was changed just now", nil
	default:
		r.finish(begun)
		return nil, "", err
	}
}

// restarted reports whether the workload has been restarted already, by this
// rollout or by another since it was seen.
func (r *roll) restarted(w *Workload) bool {
	seen, known := r.Seen[w.Ref]
	return w.restartedAt(r.At) || known && seen != w.Template.Annotations[RestartAnnotation]
}

// failed is the failure of a workload with an error that is not the cluster's
// word about it.
func failed(ref Ref, err error) error {
	return &RolloutError{Workload: ref, err: err}
}

// AwaitRollouts waits until all pods of the workloads are of their newest
// templates and available. A workload that shows a sign of failure for as long
// as patience (30 s if zero) without any progress ends the wait with a
// *[RolloutError] that contains the reason. A paused one can never get there: a
// *[RestartError]. At the end of the context the error is a *[WaitError] that
// contains what pods and controllers give as reasons. A pod of an earlier
// template that a StatefulSet waits for in vain is deleted, and log told of it;
// it may be nil.
//
// What a workload was given by [Cluster.AwaitBudget] is given back.
func (c *Cluster) AwaitRollouts(ctx context.Context, patience time.Duration, log Log, refs ...Ref) error {
	defer c.endTurns(refs)
	for _, ref := range refs {
		if err := ref.validateWorkload(); err != nil {
			return err
		}
	}
	if len(refs) == 0 {
		return nil
	}
	if patience <= 0 {
		patience = defaultPatience
	}
	progresses := make([]*progress, len(refs))
	namespaces, kinds := watchedFor(refs)
	var unready []Ref
	err := c.await(ctx, namespaces, kinds, lookEvery(patience), func(ctx context.Context) (string, error) {
		var waiting []string
		var still []Ref
		for i, ref := range refs {
			w, err := c.Workload(ctx, ref)
			if err != nil {
				return "", err
			}
			lack := w.Unfinished()
			if lack == "" {
				continue
			}
			if w.Paused {
				return "", w.CheckRestart()
			}
			if progresses[i] == nil {
				progresses[i] = newProgress(w, patience, log)
			}
			if err := progresses[i].check(ctx, c, w); err != nil {
				return "", err
			}
			waiting, still = append(waiting, lack), append(still, ref)
		}
		unready = still // As a whole: the context may end in the middle of a look.
		return Few(waiting), nil
	})
	c.explain(ctx, err, unready)
	return err
}

// watchedFor are the namespaces and kinds that tell how the workloads roll out.
func watchedFor(refs []Ref) (namespaces []string, kinds []Kind) {
	kinds = []Kind{Pod}
	for _, ref := range refs {
		if !slices.Contains(kinds, ref.Kind) {
			kinds = append(kinds, ref.Kind)
		}
		if ref.Kind == Deployment && !slices.Contains(kinds, ReplicaSet) {
			kinds = append(kinds, ReplicaSet)
		}
		if !slices.Contains(namespaces, ref.Namespace) {
			namespaces = append(namespaces, ref.Namespace)
		}
	}
	return namespaces, kinds
}

// validateWorkload catches what cannot be rolled out.
func (r Ref) validateWorkload() error {
	if !slices.Contains(WorkloadKinds(), r.Kind) {
		return fmt.Errorf("%s: only a Deployment, StatefulSet or DaemonSet is a workload", r)
	}
	return r.validate()
}

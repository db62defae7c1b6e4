package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// deploymentRevision is the annotation by which a Deployment's controller tells
// its ReplicaSets apart.
const deploymentRevision = "deployment.kubernetes.io/revision"

// templateGeneration is the label by which a DaemonSet's controller tells the
// pods of its templates apart.
const templateGeneration = "pod-template-generation"

// deadlineExceeded is the reason of a Deployment's condition that its
// progressDeadlineSeconds have passed.
const deadlineExceeded = "ProgressDeadlineExceeded"

// stuckIn are the states in which containers do not start by themselves.
var stuckIn = []string{
	"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull",
	"CreateContainerConfigError", "CreateContainerError", "CrashLoopBackOff",
}

// progress is how a workload rolls out: what was last seen to move, and since
// when signs of failure are there.
type progress struct {
	ref      Ref
	patience time.Duration
	log      Log
	turn     *turn // given back once it has rolled out; may be nil

	seen    counts
	moved   time.Time // when that was first seen
	looked  time.Time // when signs were looked for, or not needed
	since   time.Time // when there was the first of the signs that are still there
	attempt string    // the last one to make a pod that was refused
	tried   time.Time // when that one was first seen
}

// counts are what moves in a rollout.
type counts struct {
	observed                           int64
	current, updated, ready, available int32
}

func countsOf(w *Workload) counts {
	return counts{w.ObservedGeneration, w.Current, w.Updated, w.Ready, w.Available}
}

func newProgress(w *Workload, patience time.Duration, log Log) *progress {
	now := time.Now()
	return &progress{ref: w.Ref, patience: patience, log: log, seen: countsOf(w), moved: now, looked: now}
}

// lookEvery is how often signs are looked for, so that they are seen to last.
func lookEvery(patience time.Duration) time.Duration {
	return max(min(reviewInterval, patience/4), 10*time.Millisecond)
}

// check returns a *[RolloutError] when the workload has shown signs of failure
// without any progress for as long as patience. It clears the way of a
// StatefulSet.
func (p *progress) check(ctx context.Context, c *Cluster, w *Workload) error {
	now := time.Now()
	if seen := countsOf(w); seen != p.seen {
		p.seen, p.moved, p.looked, p.since = seen, now, now, time.Time{}
		return nil
	}
	if now.Sub(p.looked) < lookEvery(p.patience) {
		return nil
	}
	found, err := c.signs(ctx, w)
	if err != nil {
		return err
	}
	p.looked = now
	if p.fails(found, now) {
		reasons := found.reasons
		if len(reasons) == 1 && found.refusal == "" && strings.HasPrefix(w.failure, deadlineExceeded) {
			// That too much time has passed is no reason.
			reasons = append(reasons, strings.Split(c.reasons(ctx, []Ref{p.ref}), "\n")...)
			reasons = slices.DeleteFunc(reasons, func(line string) bool { return line == "" || line == fmt.Sprintf("%s: %s", p.ref, w.failure) })
		}
		if found.refusal != "" {
			reasons = append(reasons, found.refusal)
		}
		if len(reasons) > maxReasons {
			reasons = reasons[:maxReasons]
		}
		return &RolloutError{Workload: p.ref, Reason: strings.Join(reasons, "\n")}
	}
	return p.unblock(ctx, c, w, now)
}

// fails reports whether the signs have lasted long enough.
func (p *progress) fails(found signs, now time.Time) bool {
	if len(found.reasons) == 0 && found.refusal == "" {
		p.since = time.Time{}
		return false
	}
	if p.since.IsZero() {
		p.since, p.tried, p.attempt = now, now, found.attempt
	}
	if found.attempt != p.attempt {
		p.tried, p.attempt = now, found.attempt
	}
	lasted := now.Sub(p.since)
	switch {
	case lasted < p.patience:
		return false
	case len(found.reasons) > 0:
		return true
	}
	// Controllers try again about as late as it has been going on: what they say
	// may be over, but for an attempt made after all that time.
	const long = 4
	return p.tried.Sub(p.since) >= p.patience || lasted >= long*p.patience
}

// unblock deletes the pod of an earlier template that a StatefulSet's rollout
// waits for in vain: its controller goes on only once that one is ready, though
// it would replace it then. A pod that is not ready counts for no budget. One
// that may yet become ready is given time.
func (p *progress) unblock(ctx context.Context, c *Cluster, w *Workload, now time.Time) error {
	if w.Kind != StatefulSet || w.ObservedGeneration < w.Generation || w.unreachable() != "" {
		return nil
	}
	pods, err := c.Pods(ctx, w.Namespace)
	if err != nil {
		return err
	}
	for i := range w.Desired {
		name := fmt.Sprintf("%s-%d", w.Name, w.firstOrdinal+i)
		at := slices.IndexFunc(pods, func(pod *corev1.Pod) bool { return pod.Name == name })
		if at < 0 || pods[at].DeletionTimestamp != nil {
			return nil // Its successor is to be made first.
		}
		pod := pods[at]
		if podReady(pod) {
			continue
		}
		owner := metav1.GetControllerOf(pod)
		newest := pod.Labels[appsv1.ControllerRevisionHashLabelKey] == w.revision
		if owner == nil || owner.UID != w.UID || newest || !stuck(pod) && now.Sub(p.moved) < p.patience {
			return nil
		}
		about := Ref{Pod, pod.Namespace, pod.Name}
		p.log.about(p.ref, "deleting a pod of an earlier template that keeps the rollout from going on", "pod", about.String(), "why", cmp.Or(PodProblem(pod), "not ready"))
		err := c.Delete(ctx, about, DeleteOptions{UID: pod.UID, ResourceVersion: pod.ResourceVersion})
		if err != nil && !errors.Is(err, ErrChanged) { // What there is now is looked at the next time.
			return failed(p.ref, fmt.Errorf("the rollout of %s waits for a pod of its earlier template, which is not ready: %w", p.ref, err))
		}
		return nil
	}
	return nil
}

// signs are what shows that a workload does not roll out by itself.
type signs struct {
	reasons []string // that stay until something else changes
	refusal string   // why a pod could not be made when that was last tried, "" if it could
	attempt string   // tells that attempt from others; may be "" if that is not known
}

// signs looks for signs of failure. That pods cannot be scheduled is none: a node
// may come.
func (c *Cluster) signs(ctx context.Context, w *Workload) (found signs, err error) {
	if w.ObservedGeneration < w.Generation {
		return found, nil // All there is to see is from before the change.
	}
	if w.failure != "" {
		found.reasons = append(found.reasons, w.failure)
	}
	if found.refusal, found.attempt, err = c.refusal(ctx, w); err != nil {
		return found, err
	}
	pods, err := c.Pods(ctx, w.Namespace)
	if err != nil {
		return found, err
	}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || !w.Selector.Matches(labels.Set(pod.Labels)) || !stuck(pod) {
			continue
		}
		newest, err := c.newest(ctx, w, pod)
		if err != nil {
			return found, err
		}
		if newest {
			found.reasons = append(found.reasons, fmt.Sprintf("%s: %s", Ref{Pod, pod.Namespace, pod.Name}, PodProblem(pod)))
		}
	}
	return found, nil
}

// Replaces reports whether a workload's rollout can be expected to replace pods
// of its by itself: it is under way, none of them is of the newest template, and
// nothing shows that it has failed. It does not if the workload is gone, or if a
// changed template does not reach its pods.
func (c *Cluster) Replaces(ctx context.Context, ref Ref, pods []*corev1.Pod) (bool, error) {
	w, err := c.Workload(ctx, ref)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case w.Unfinished() == "" || w.unreachable() != "":
		return false, nil
	case w.ObservedGeneration < w.Generation:
		return true, nil
	}
	for _, pod := range pods {
		if newest, err := c.newest(ctx, w, pod); err != nil || newest {
			return false, err
		}
	}
	found, err := c.signs(ctx, w)
	return len(found.reasons) == 0 && found.refusal == "", err
}

// stuck reports whether a container of the pod does not start by itself.
func stuck(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(status corev1.ContainerStatus) bool {
		return status.State.Waiting != nil && slices.Contains(stuckIn, status.State.Waiting.Reason)
	})
}

// newest reports whether a pod is made from the newest template of a workload,
// as far as it is known without a request.
func (c *Cluster) newest(ctx context.Context, w *Workload, pod *corev1.Pod) (bool, error) {
	owner, managed := controllerOf(pod, pod.Namespace)
	switch {
	case !managed:
		return false, nil
	case w.Kind == StatefulSet:
		return owner == w.Ref && pod.Labels[appsv1.ControllerRevisionHashLabelKey] == w.revision, nil
	case w.Kind == DaemonSet:
		return owner == w.Ref && pod.Labels[templateGeneration] == w.revision, nil
	case owner.Kind != ReplicaSet:
		return false, nil
	}
	set, err := c.listed(ctx, owner)
	return err == nil && set != nil && ofNewest(w, set), err
}

// ofNewest reports whether a ReplicaSet is that of a Deployment's newest template.
func ofNewest(w *Workload, set object) bool {
	above, managed := controllerOf(set, w.Namespace)
	return managed && above == w.Ref && set.GetAnnotations()[deploymentRevision] == w.revision
}

// refusal returns why the controller of a workload could not make a pod when it
// last tried, and what tells that attempt from others. A Deployment has a
// condition for it, which does not tell of attempts; the others have only events.
func (c *Cluster) refusal(ctx context.Context, w *Workload) (why, attempt string, err error) {
	maker := w.Ref
	if w.Kind == Deployment {
		if w.refusal == "" {
			return "", "", nil
		}
		if maker, err = c.newestSet(ctx, w); err != nil || maker.Name == "" {
			return w.refusal, "", err
		}
	} else if w.Current >= w.Desired {
		return "", "", nil
	}
	events, err := c.Events(ctx, maker)
	if err != nil && !apierrors.IsForbidden(err) {
		return "", "", err
	}
	var last *corev1.Event
	for i := range events {
		event := &events[i]
		if event.Reason != "FailedCreate" && event.Reason != "SuccessfulCreate" {
			continue
		}
		if last == nil || newer(event.ResourceVersion, last.ResourceVersion) {
			last = event
		}
	}
	switch {
	case w.Kind == Deployment && last == nil:
		return w.refusal, "", nil
	case w.Kind == Deployment:
		return w.refusal, last.ResourceVersion, nil
	case last == nil || last.Type != corev1.EventTypeWarning:
		return "", "", nil
	}
	return last.Reason + ": " + last.Message, last.ResourceVersion, nil
}

// newestSet finds the ReplicaSet of a Deployment's newest template; it has no
// name if there is none yet.
func (c *Cluster) newestSet(ctx context.Context, w *Workload) (newest Ref, err error) {
	err = c.withMirror(ReplicaSet, w.Namespace, func(m *mirror) error {
		if err := m.current(ctx); err != nil {
			return err
		}
		for _, set := range m.all(w.Namespace) {
			if ofNewest(w, set) {
				newest = Ref{ReplicaSet, w.Namespace, set.GetName()}
			}
		}
		return nil
	})
	return newest, err
}

// explain adds to an await that ran out of time what the cluster says about
// those that are not ready.
func (c *Cluster) explain(ctx context.Context, err error, unready []Ref) {
	var wait *WaitError
	if errors.As(err, &wait) && errors.Is(err, context.DeadlineExceeded) {
		wait.Details = c.reasons(ctx, unready)
	}
}

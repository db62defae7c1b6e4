package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	ref    Ref
	turn   *turn // given back once it has rolled out; may be nil
	seen   counts
	looked time.Time // when signs were looked for, or not needed
	since  time.Time // when there was the first of the signs that are still there
}

// counts are what moves in a rollout.
type counts struct {
	observed                           int64
	current, updated, ready, available int32
}

func countsOf(w *Workload) counts {
	return counts{w.ObservedGeneration, w.Current, w.Updated, w.Ready, w.Available}
}

func newProgress(w *Workload) *progress {
	return &progress{ref: w.Ref, seen: countsOf(w), looked: time.Now()}
}

// lookEvery is how often signs are looked for, so that they are seen to last.
func lookEvery(patience time.Duration) time.Duration {
	return max(min(reviewInterval, patience/4), 10*time.Millisecond)
}

// check returns a *[RolloutError] when the workload has shown signs of failure
// without any progress for as long as patience.
func (p *progress) check(ctx context.Context, c *Cluster, w *Workload, patience time.Duration) error {
	now := time.Now()
	if seen := countsOf(w); seen != p.seen {
		p.seen, p.looked, p.since = seen, now, time.Time{}
		return nil
	}
	if now.Sub(p.looked) < lookEvery(patience) {
		return nil
	}
	signs, err := c.signs(ctx, w)
	if err != nil {
		return err
	}
	p.looked = now
	switch {
	case len(signs) == 0:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = now
	case now.Sub(p.since) >= patience:
		if len(signs) == 1 && strings.HasPrefix(w.failure, deadlineExceeded) {
			// That too much time has passed is no reason.
			signs = append(signs, strings.Split(c.reasons(ctx, []Ref{p.ref}), "\n")...)
			signs = slices.DeleteFunc(signs, func(line string) bool { return line == "" || line == fmt.Sprintf("%s: %s", p.ref, w.failure) })
		}
		if len(signs) > maxReasons {
			signs = signs[:maxReasons]
		}
		return &RolloutError{Workload: p.ref, Reason: strings.Join(signs, "\n")}
	}
	return nil
}

// signs returns what shows that a workload does not roll out by itself, one
// reason a line. That pods cannot be scheduled is none: a node may come.
func (c *Cluster) signs(ctx context.Context, w *Workload) ([]string, error) {
	if w.ObservedGeneration < w.Generation {
		return nil, nil // All there is to see is from before the change.
	}
	var signs []string
	if w.failure != "" {
		signs = append(signs, w.failure)
	}
	if w.Kind != Deployment && w.Current < w.Desired {
		refusal, err := c.refusal(ctx, w.Ref)
		if err != nil {
			return nil, err
		}
		if refusal != "" {
			signs = append(signs, refusal)
		}
	}
	pods, err := c.Pods(ctx, w.Namespace)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || !w.Selector.Matches(labels.Set(pod.Labels)) || !stuck(pod) {
			continue
		}
		newest, err := c.newest(ctx, w, pod)
		if err != nil {
			return nil, err
		}
		if newest {
			signs = append(signs, fmt.Sprintf("%s: %s", Ref{Pod, pod.Namespace, pod.Name}, PodProblem(pod)))
		}
	}
	return signs, nil
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
	if err != nil || set == nil {
		return false, err
	}
	above, managed := controllerOf(set, pod.Namespace)
	return managed && above == w.Ref && set.GetAnnotations()[deploymentRevision] == w.revision, nil
}

// refusal returns why the controller of a StatefulSet or DaemonSet could not
// make a pod when it last tried: they have no condition that tells it. Events
// are compared with each other, as clocks may differ.
func (c *Cluster) refusal(ctx context.Context, ref Ref) (string, error) {
	events, err := c.Events(ctx, ref)
	if err != nil {
		return "", err
	}
	var last *corev1.Event
	for i := range events {
		event := &events[i]
		if event.Reason != "FailedCreate" && event.Reason != "SuccessfulCreate" {
			continue
		}
		if last == nil || reported(event).After(reported(last)) || event.Type == corev1.EventTypeWarning && reported(event).Equal(reported(last)) {
			last = event
		}
	}
	if last == nil || last.Type != corev1.EventTypeWarning {
		return "", nil
	}
	return last.Reason + ": " + last.Message, nil
}

// reported is when an event was last reported.
func reported(event *corev1.Event) time.Time {
	switch {
	case event.Series != nil:
		return event.Series.LastObservedTime.Time
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.Time
	}
	return event.EventTime.Time
}

// explain adds to an await that ran out of time what the cluster says about
// those that are not ready.
func (c *Cluster) explain(ctx context.Context, err error, unready []Ref) {
	var wait *WaitError
	if errors.As(err, &wait) && errors.Is(err, context.DeadlineExceeded) {
		wait.Details = c.reasons(ctx, unready)
	}
}

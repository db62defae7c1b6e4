package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/ptr"
)

// AwaitReady waits for several objects at once: workloads until they are rolled
// out, jobs until they are complete, pods until they are ready, CRDs until they
// are served, and objects of other kinds until they exist. They may not exist
// yet. At the end of the context the error is a *[WaitError] that contains what
// pods and controllers give as reasons; a job that has failed ends the wait.
func (c *Cluster) AwaitReady(ctx context.Context, refs ...Ref) error {
	var kinds []Kind
	namespace := ""
	for i, ref := range refs {
		if ref.Kind != Secret && !slices.Contains(kinds, ref.Kind) {
			kinds = append(kinds, ref.Kind)
		}
		if err := ref.validate(); err != nil {
			return err
		}
		if i == 0 {
			namespace = ref.Namespace
		} else if namespace != ref.Namespace {
			namespace = ""
		}
	}
	var unready []Ref
	err := c.Await(ctx, namespace, kinds, func(ctx context.Context) (string, error) {
		var waiting []string
		var still []Ref
		for _, ref := range refs {
			lacks, err := c.lacks(ctx, ref)
			if err != nil {
				return "", err
			}
			if lacks != "" {
				waiting = append(waiting, lacks)
				still = append(still, ref)
			}
		}
		unready = still // As a whole: the context may end in the middle of a look.
		return Few(waiting), nil
	})
	c.explain(ctx, err, unready)
	return err
}

// lacks says what an object lacks to be ready, or "".
func (c *Cluster) lacks(ctx context.Context, ref Ref) (string, error) {
	var found object
	var err error
	if ref.Kind == Secret {
		found, err = c.Get(ctx, ref)
	} else {
		// What the watch has not seen is simply waited for.
		found, err = c.listed(ctx, ref)
	}
	if errors.Is(err, ErrNotFound) || err == nil && found == nil {
		return ref.String() + ": does not exist", nil
	}
	if err != nil {
		return "", err
	}
	switch o := found.(type) {
	case *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet:
		w, err := workloadOf(found)
		if err != nil {
			return "", err
		}
		return w.Unfinished(), nil
	case *batchv1.Job:
		switch complete, failure := JobOutcome(o); {
		case failure != "":
			return "", fmt.Errorf("%s failed: %s", ref, failure)
		case complete:
			return "", nil
		}
		return fmt.Sprintf("%s: %d of %d completions", ref, o.Status.Succeeded, ptr.Deref(o.Spec.Completions, 1)), nil
	case *corev1.Pod:
		if podReady(o) {
			return "", nil
		}
		return ref.String() + ": not ready", nil
	case *apiextensionsv1.CustomResourceDefinition:
		for _, condition := range o.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return "", nil
			}
		}
		return ref.String() + ": not served yet", nil
	}
	return "", nil
}

// JobOutcome tells whether a Job is complete, or why it has failed; neither while
// it runs.
func JobOutcome(job *batchv1.Job) (complete bool, failure string) {
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			return true, ""
		case batchv1.JobFailed:
			return false, condition.Reason + ": " + condition.Message
		}
	}
	return false, ""
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// PodProblem says why a pod does not run as it should, in the words of the
// scheduler or of the kubelet, or "".
func PodProblem(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return joinNonEmpty(": ", condition.Reason, condition.Message)
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "PodInitializing" && waiting.Reason != "ContainerCreating" {
			problem := fmt.Sprintf("container %s: %s", status.Name, joinNonEmpty(": ", waiting.Reason, waiting.Message))
			if last := status.LastTerminationState.Terminated; last != nil {
				problem += fmt.Sprintf(" (last exit code %d, %s)", last.ExitCode, last.Reason)
			}
			return problem
		}
		if ended := status.State.Terminated; ended != nil && ended.ExitCode != 0 {
			return fmt.Sprintf("container %s: %s, exit code %d", status.Name, ended.Reason, ended.ExitCode)
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return joinNonEmpty(": ", pod.Status.Reason, pod.Status.Message)
	}
	return ""
}

func joinNonEmpty(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), separator)
}

// maxReasons keeps messages readable: the first few of five hundred pods that
// cannot pull an image say it all.
const maxReasons = 5

// reasons collects what the cluster says about objects that did not become
// ready, one reason a line. It is told after the context has ended, so it has
// the time of a single request, and what it cannot find out it leaves out.
func (c *Cluster) reasons(ended context.Context, unready []Ref) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ended), c.timeout)
	defer cancel()
	var reasons []string
	add := func(about Ref, reason string) {
		line := fmt.Sprintf("%s: %s", about, reason)
		if reason != "" && !slices.Contains(reasons, line) {
			reasons = append(reasons, line)
		}
	}
	for _, ref := range unready {
		if len(reasons) >= maxReasons {
			break
		}
		if !slices.Contains(WorkloadKinds(), ref.Kind) && ref.Kind != Job && ref.Kind != Pod {
			continue
		}
		if w, err := c.Workload(ctx, ref); err == nil {
			add(ref, w.failure)
			add(ref, w.refusal)
		}
		for _, reason := range c.warnings(ctx, ref) {
			add(ref, reason)
		}
		pods, err := c.PodsOf(ctx, ref)
		if err != nil {
			continue
		}
		for _, pod := range pods {
			if podReady(pod) || len(reasons) >= maxReasons {
				continue
			}
			about := Ref{Kind: Pod, Namespace: pod.Namespace, Name: pod.Name}
			if problem := PodProblem(pod); problem != "" {
				add(about, problem)
				continue
			}
			for _, reason := range c.warnings(ctx, about) {
				add(about, reason)
			}
		}
	}
	return strings.Join(reasons, "\n")
}

// warnings returns the newest warning of each reason that was reported about an
// object: FailedCreate with a quota or a webhook's refusal, FailedScheduling,
// Unhealthy.
func (c *Cluster) warnings(ctx context.Context, about Ref) []string {
	events, err := c.Events(ctx, about)
	if err != nil {
		return nil
	}
	var order []string
	newest := map[string]corev1.Event{}
	for _, event := range events {
		if event.Type != corev1.EventTypeWarning {
			continue
		}
		known, seen := newest[event.Reason]
		if !seen {
			order = append(order, event.Reason)
		}
		if !seen || known.LastTimestamp.Before(&event.LastTimestamp) {
			newest[event.Reason] = event
		}
	}
	warnings := make([]string, 0, len(order))
	for _, reason := range order {
		warnings = append(warnings, reason+": "+newest[reason].Message)
	}
	return warnings
}

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// RestartAnnotation on a pod template makes the workload's controller replace
// its pods whenever the value changes; the value is a time in RFC 3339.
const RestartAnnotation = "kubectl.kubernetes.io/restartedAt"

// restartManager is the field manager of RestartAnnotation: no other manager
// loses or gains anything by a restart.
const restartManager = "aksmesh-restart"

// Workload is one view of Deployments, StatefulSets and DaemonSets.
type Workload struct {
	Ref
	UID             types.UID
	ResourceVersion string
	Labels          map[string]string
	Annotations     map[string]string
	Template        *corev1.PodTemplateSpec // shared, not to be modified
	Selector        labels.Selector

	Generation         int64
	ObservedGeneration int64 // generation that the counts below belong to, or an earlier one
	Desired            int32 // pods there should be
	Current            int32 // pods there are
	Updated            int32 // … of the newest template
	Ready              int32
	Available          int32

	Paused    bool  // a Deployment that does not roll out
	OnDelete  bool  // pods are replaced only when somebody deletes them
	Partition int32 // pods of a StatefulSet below this ordinal keep the old template

	failure      string // why the controller has given up
	refusal      string // why the controller could not make a pod when it last tried
	revision     string // of the newest template, as its controller marks what it makes of it
	disruption   int32  // available pods that a rollout takes away at once before others are there
	firstOrdinal int32  // of the pods of a StatefulSet
	anyOrder     bool   // a rollout takes available pods down even while others are not
}

// WorkloadKinds are the kinds that have a [Workload].
func WorkloadKinds() []Kind { return []Kind{Deployment, StatefulSet, DaemonSet} }

// Workload reads a workload from the shared reads.
func (c *Cluster) Workload(ctx context.Context, ref Ref) (*Workload, error) {
	if !slices.Contains(WorkloadKinds(), ref.Kind) {
		return nil, fmt.Errorf("%s: only a Deployment, StatefulSet or DaemonSet is a workload", ref)
	}
	found, err := c.shared(ctx, ref)
	if err != nil {
		return nil, err
	}
	return workloadOf(found)
}

// Workloads returns the workloads of a namespace, or of all if it is "": first
// Deployments, then StatefulSets, then DaemonSets.
func (c *Cluster) Workloads(ctx context.Context, namespace string) ([]*Workload, error) {
	var workloads []*Workload
	for _, kind := range WorkloadKinds() {
		err := c.withMirror(kind, namespace, func(m *mirror) error {
			if err := m.current(ctx); err != nil {
				return err
			}
			for _, o := range m.all(namespace) {
				w, err := workloadOf(o)
				if err != nil {
					return err
				}
				workloads = append(workloads, w)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return workloads, nil
}

func workloadOf(o object) (*Workload, error) {
	w := &Workload{
		UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
		Labels: o.GetLabels(), Annotations: o.GetAnnotations(), Generation: o.GetGeneration(),
	}
	w.Namespace, w.Name = o.GetNamespace(), o.GetName()
	var selector *metav1.LabelSelector
	switch o := o.(type) {
	case *appsv1.Deployment:
		w.Kind, w.Template, selector = Deployment, &o.Spec.Template, o.Spec.Selector
		w.ObservedGeneration, w.Desired = o.Status.ObservedGeneration, ptr.Deref(o.Spec.Replicas, 1)
		w.Current, w.Updated, w.Ready, w.Available = o.Status.Replicas, o.Status.UpdatedReplicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas
		w.Paused, w.revision, w.disruption = o.Spec.Paused, o.Annotations[deploymentRevision], deploymentDisruption(o)
		for _, condition := range o.Status.Conditions {
			switch {
			case condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue:
				w.refusal = condition.Reason + ": " + condition.Message
			case condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse:
				w.failure = condition.Reason + ": " + condition.Message
			}
		}
	case *appsv1.StatefulSet:
		w.Kind, w.Template, selector = StatefulSet, &o.Spec.Template, o.Spec.Selector
		w.ObservedGeneration, w.Desired = o.Status.ObservedGeneration, ptr.Deref(o.Spec.Replicas, 1)
		w.Current, w.Updated, w.Ready, w.Available = o.Status.Replicas, o.Status.UpdatedReplicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas
		w.OnDelete = o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
		w.revision, w.disruption = o.Status.UpdateRevision, statefulSetDisruption(o)
		if update := o.Spec.UpdateStrategy.RollingUpdate; update != nil {
			w.Partition = ptr.Deref(update.Partition, 0)
		}
		w.firstOrdinal = ptr.Deref(o.Spec.Ordinals, appsv1.StatefulSetOrdinals{}).Start
		w.anyOrder = o.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	case *appsv1.DaemonSet:
		w.Kind, w.Template, selector = DaemonSet, &o.Spec.Template, o.Spec.Selector
		w.ObservedGeneration, w.Desired = o.Status.ObservedGeneration, o.Status.DesiredNumberScheduled
		w.Current, w.Updated, w.Ready, w.Available = o.Status.CurrentNumberScheduled, o.Status.UpdatedNumberScheduled, o.Status.NumberReady, o.Status.NumberAvailable
		w.OnDelete = o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		w.revision, w.disruption = o.Annotations[appsv1.DeprecatedTemplateGeneration], daemonSetDisruption(o)
	default:
		return nil, fmt.Errorf("%s/%s is a %T, not a workload", o.GetNamespace(), o.GetName(), o)
	}
	if w.Paused || w.OnDelete {
		w.disruption = 0
	}
	var err error
	if w.Selector, err = metav1.LabelSelectorAsSelector(selector); err != nil {
		return nil, fmt.Errorf("%s: selector: %w", w.Ref, err)
	}
	return w, nil
}

// Unfinished says what a rollout still lacks, or "" if all pods there should be
// are available and of the newest template.
func (w *Workload) Unfinished() string {
	updated := w.Desired - min(w.Partition, w.Desired)
	switch {
	case w.ObservedGeneration < w.Generation:
		return fmt.Sprintf("%s: its controller has not seen the last change", w.Ref)
	case w.Updated < updated && !w.OnDelete:
		return fmt.Sprintf("%s: %d of %d pods updated", w.Ref, w.Updated, updated)
	case w.Current > w.Desired:
		return fmt.Sprintf("%s: %d old pods still running", w.Ref, w.Current-w.Desired)
	case w.Available < w.Desired:
		return fmt.Sprintf("%s: %d of %d pods available", w.Ref, w.Available, w.Desired)
	}
	return ""
}

// RestartError is a workload that a changed pod template does not restart.
type RestartError struct {
	Ref    Ref
	Reason string
}

func (e *RestartError) Error() string {
	return fmt.Sprintf("%s cannot be restarted by changing its pod template: %s", e.Ref, e.Reason)
}

// CheckRestart returns a *[RestartError] if a restart does not reach the
// workload's pods.
func (w *Workload) CheckRestart() error {
	if why := w.unreachable(); why != "" {
		return &RestartError{w.Ref, why}
	}
	return nil
}

// unreachable is why a restart does not reach the workload's pods; "" if it does.
func (w *Workload) unreachable() string {
	switch {
	case w.Paused:
		return "its rollout is paused; resume it first"
	case w.OnDelete:
		return "its update strategy is OnDelete; delete its pods one by one, or change the strategy to RollingUpdate"
	case w.Partition > 0:
		return fmt.Sprintf("its update strategy has partition %d, so pods with a lower ordinal would keep running as they are; set the partition to 0", w.Partition)
	}
	return ""
}

// restart makes the controller of a workload replace all its pods, in its own
// order. The error wraps [ErrChanged] if another workload has taken its name, or,
// with unchanged, if anything at all has changed since it was read.
func (c *Cluster) restart(ctx context.Context, w *Workload, at time.Time, unchanged bool) error {
	// Only this very workload, not one that took its name meanwhile.
	identity := map[string]any{"uid": string(w.UID)}
	if unchanged {
		identity["resourceVersion"] = w.ResourceVersion
	}
	body, err := json.Marshal(map[string]any{
		"metadata": identity,
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]any{RestartAnnotation: restartValue(at)},
		}}},
	})
	if err != nil {
		return fmt.Errorf("encode %s: %w", w.Ref, err)
	}
	_, err = c.patch(ctx, "restart", w.Ref, types.MergePatchType, body, metav1.PatchOptions{FieldManager: restartManager})
	return err
}

// restartedAt reports whether the last restart of the workload was that one.
func (w *Workload) restartedAt(at time.Time) bool {
	return w.Template.Annotations[RestartAnnotation] == restartValue(at)
}

func restartValue(at time.Time) string { return at.UTC().Format(time.RFC3339) }

package kube

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// BudgetError is a workload whose rollout a PodDisruptionBudget never allows,
// even when all its pods are healthy.
type BudgetError struct {
	Workload Ref
	Budget   Ref
	Takes    int32 // pods that the workload's update strategy takes down at once
	Expected int32 // pods under the budget
	Required int32 // of them, that have to be healthy
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%s takes %d of its pods down at once when it rolls out, which %s never allows: it requires %d healthy pods of %d",
		e.Workload, e.Takes, e.Budget, e.Required, e.Expected)
}

// CheckBudget returns a *[BudgetError] if a PodDisruptionBudget can never allow a
// rollout of the workload, as far as the shared reads tell. It does not wait. Of
// a workload that does not exist there is nothing to be said.
func (c *Cluster) CheckBudget(ctx context.Context, ref Ref) error {
	return c.neverAllowed(ctx, ref, func(*Workload) bool { return false })
}

// AwaitBudget waits until a rollout of the workload keeps within every
// PodDisruptionBudget that selects its pods, and until no other workload under
// the same budget rolls by the hand of this process. It is then the workload's
// turn, until [Cluster.AwaitRollouts] has returned for it or ctx has ended. A
// rollout that takes no available pod away before another is there needs no
// budget, and those of its own pods that are down already are nothing that it
// takes away. A budget that can never allow the rollout is a *[BudgetError].
func (c *Cluster) AwaitBudget(ctx context.Context, ref Ref) error {
	if err := ref.validateWorkload(); err != nil {
		return err
	}
	var delayed bool
	err := c.Await(ctx, ref.Namespace, []Kind{ref.Kind, PodDisruptionBudget}, func(ctx context.Context) (string, error) {
		w, err := c.Workload(ctx, ref)
		if err != nil {
			return "", err
		}
		_, delay, err := c.takeTurn(ctx, w)
		delayed = delay != ""
		return delay, err
	})
	if delayed {
		c.explain(ctx, err, []Ref{ref})
	}
	return err
}

// turn is the right of a workload to roll under its budgets.
type turn struct {
	workload Ref
	budgets  []Ref
}

// takeTurn gives a workload its turn, which ends with ctx at the latest, or says
// what delays it. A workload that needs no budget has no turn, and no delay.
func (c *Cluster) takeTurn(ctx context.Context, w *Workload) (*turn, string, error) {
	if w.disruption == 0 {
		return nil, "", nil
	}
	budgets, err := c.budgetsOf(ctx, w)
	if err != nil || len(budgets) == 0 {
		return nil, "", err
	}
	wanted := &turn{workload: w.Ref}
	for _, budget := range budgets {
		if err := c.within(ctx, w, budget); err != nil {
			return nil, "", err
		}
		ref := Ref{PodDisruptionBudget, budget.Namespace, budget.Name}
		status := budget.Status
		switch {
		case status.ObservedGeneration < budget.Generation:
			return nil, fmt.Sprintf("%s: %s is not evaluated yet", w.Ref, ref), nil
		case allowed(status, w) < w.disruption:
			delay := fmt.Sprintf("%s: %s to allow that %d pods go down, it allows %d now: %d of %d pods are healthy, %d have to be",
				w.Ref, ref, w.disruption, status.DisruptionsAllowed, status.CurrentHealthy, status.ExpectedPods, status.DesiredHealthy)
			if down := w.Desired - w.Ready; down > 0 {
				delay += fmt.Sprintf("; %d of its own are not", down)
			}
			return nil, delay, nil
		}
		wanted.budgets = append(wanted.budgets, ref)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.turns {
		shared := slices.IndexFunc(wanted.budgets, func(ref Ref) bool { return slices.Contains(other.budgets, ref) })
		if shared >= 0 && other.workload != w.Ref {
			return nil, fmt.Sprintf("%s: %s to roll out first, which is under the same %s", w.Ref, other.workload, wanted.budgets[shared]), nil
		}
	}
	c.turns[wanted] = struct{}{}
	// Whoever takes it may fail, and have nobody left to give it back.
	context.AfterFunc(ctx, func() { c.endTurn(wanted) })
	return wanted, "", nil
}

// allowed is how many healthy pods a budget allows a rollout of the workload to
// take down now. Controllers replace pods that are not ready before they take
// down others, so by then these count for the budget again.
func allowed(status policyv1.PodDisruptionBudgetStatus, w *Workload) int32 {
	down := w.Desired - w.Ready
	if down <= 0 || w.anyOrder && w.Ready > 0 {
		return status.DisruptionsAllowed
	}
	return max(status.DisruptionsAllowed, min(status.CurrentHealthy+down, status.ExpectedPods)-status.DesiredHealthy)
}

// endTurn gives a turn back, and lets those who wait for it look again.
func (c *Cluster) endTurn(ended *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.turns[ended]; !there {
		return
	}
	delete(c.turns, ended)
	for of, m := range c.mirrors {
		if of.kind == PodDisruptionBudget {
			m.wake(ended.workload.Namespace)
		}
	}
}

// endTurns gives back the turns of workloads.
func (c *Cluster) endTurns(refs []Ref) {
	c.mu.Lock()
	var ended []*turn
	for t := range c.turns {
		if slices.Contains(refs, t.workload) {
			ended = append(ended, t)
		}
	}
	c.mu.Unlock()
	for _, t := range ended {
		c.endTurn(t)
	}
}

// neverAllowed is [Cluster.CheckBudget] for workloads that are not spared.
func (c *Cluster) neverAllowed(ctx context.Context, ref Ref, spared func(*Workload) bool) error {
	found, err := c.listed(ctx, ref)
	if err != nil || found == nil {
		return err
	}
	w, err := workloadOf(found)
	if err != nil || w.disruption == 0 || spared(w) {
		return err
	}
	budgets, err := c.budgetsOf(ctx, w)
	if err != nil {
		return err
	}
	for _, budget := range budgets {
		if err := c.within(ctx, w, budget); err != nil {
			return err
		}
	}
	return nil
}

// budgetsOf returns the budgets that select the workload's pods.
func (c *Cluster) budgetsOf(ctx context.Context, w *Workload) ([]*policyv1.PodDisruptionBudget, error) {
	all, err := sharedObjects[*policyv1.PodDisruptionBudget](ctx, c, PodDisruptionBudget, w.Namespace)
	if err != nil {
		return nil, err
	}
	var of []*policyv1.PodDisruptionBudget
	for _, budget := range all {
		selected, err := selects(budget, w)
		if err != nil {
			return nil, err
		}
		if selected {
			of = append(of, budget)
		}
	}
	return of, nil
}

// within returns a *[BudgetError] if the budget can never allow a rollout of the
// workload.
func (c *Cluster) within(ctx context.Context, w *Workload, budget *policyv1.PodDisruptionBudget) error {
	status := budget.Status
	if status.ObservedGeneration < budget.Generation || status.ExpectedPods-status.DesiredHealthy >= w.disruption {
		return nil
	}
	// A budget counts the pods that there are now, or those of the controllers
	// that it knows by them: it knows better once all pods are there.
	workloads, err := c.Workloads(ctx, w.Namespace)
	if err != nil {
		return err
	}
	var desired int32
	for _, other := range workloads {
		selected, err := selects(budget, other)
		if err != nil {
			return err
		}
		if selected {
			desired += other.Desired
		}
	}
	if status.ExpectedPods < desired {
		return nil
	}
	return &BudgetError{
		Workload: w.Ref, Budget: Ref{PodDisruptionBudget, budget.Namespace, budget.Name},
		Takes: w.disruption, Expected: status.ExpectedPods, Required: status.DesiredHealthy,
	}
}

// selects reports whether a budget is about the workload's pods.
func selects(budget *policyv1.PodDisruptionBudget, w *Workload) (bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return false, fmt.Errorf("%s: selector: %w", Ref{PodDisruptionBudget, budget.Namespace, budget.Name}, err)
	}
	return selector.Matches(labels.Set(w.Template.Labels)), nil
}

// scaled resolves a number or a percentage of pods as controllers do.
func scaled(value *intstr.IntOrString, otherwise intstr.IntOrString, of int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(new(ptr.Deref(value, otherwise)), int(of), up)
	if err != nil {
		return of // Validation lets none of this through: be careful.
	}
	return int32(min(max(n, 0), int(of))) //nolint:gosec // Between 0 and an int32.
}

// deploymentDisruption is how many available pods a Deployment's strategy takes
// away at once before others are there.
func deploymentDisruption(d *appsv1.Deployment) int32 {
	replicas := ptr.Deref(d.Spec.Replicas, 1)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return replicas
	}
	update := ptr.Deref(d.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
	quarter := intstr.FromString("25%")
	unavailable := scaled(update.MaxUnavailable, quarter, replicas, false)
	if unavailable == 0 && replicas > 0 && scaled(update.MaxSurge, quarter, replicas, true) == 0 {
		return 1 // Or it could never begin.
	}
	return unavailable
}

func statefulSetDisruption(s *appsv1.StatefulSet) int32 {
	replicas := ptr.Deref(s.Spec.Replicas, 1)
	update := ptr.Deref(s.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	kept := min(ptr.Deref(update.Partition, 0), replicas)
	return min(max(scaled(update.MaxUnavailable, intstr.FromInt32(1), replicas, false), 1), replicas-kept)
}

func daemonSetDisruption(d *appsv1.DaemonSet) int32 {
	nodes := d.Status.DesiredNumberScheduled
	update := ptr.Deref(d.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
	unavailable := scaled(update.MaxUnavailable, intstr.FromInt32(1), nodes, true)
	if unavailable == 0 && nodes > 0 && scaled(update.MaxSurge, intstr.FromInt32(0), nodes, true) == 0 {
		return 1
	}
	return unavailable
}

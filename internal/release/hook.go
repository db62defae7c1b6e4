package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// The annotations of hooks, which are Helm's.
const (
	hookAnnotation       = "helm.sh/hook"
	hookWeightAnnotation = "helm.sh/hook-weight"
	hookPolicyAnnotation = "helm.sh/hook-delete-policy"
)

// The events at which hooks run.
const (
	preInstall  = "pre-install"
	postInstall = "post-install"
	preUpgrade  = "pre-upgrade"
	postUpgrade = "post-upgrade"
	preDelete   = "pre-delete"
	postDelete  = "post-delete"
)

// The policies after which a hook is deleted. One left from before is always
// deleted before the hook runs again.
const (
	deleteOnSuccess = "hook-succeeded"
	deleteOnFailure = "hook-failed"
)

// hook is an object that is no part of the release but is made at certain
// events, and waited for if it is a Job or a Pod.
type hook struct {
	*entry
	events   []string // none for hooks that are of no concern here: tests, rollbacks
	weight   int
	policies []string
}

// hookOf returns the hook that an object is, or nil.
func hookOf(e *entry) *hook {
	annotations := e.Object.GetAnnotations()
	named, is := annotations[hookAnnotation]
	if !is {
		return nil
	}
	h := &hook{entry: e, policies: splitList(annotations[hookPolicyAnnotation])}
	for _, event := range splitList(named) {
		if slices.Contains([]string{preInstall, postInstall, preUpgrade, postUpgrade, preDelete, postDelete}, event) {
			h.events = append(h.events, event)
		}
	}
	// As with Helm, a weight that is no number is none.
	if weight, err := strconv.Atoi(annotations[hookWeightAnnotation]); err == nil {
		h.weight = weight
	}
	return h
}

func splitList(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.ToLower(strings.TrimSpace(part)); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// compareHooks puts hooks in the order in which they run.
func compareHooks(a, b *hook) int {
	return cmp.Or(
		cmp.Compare(a.weight, b.weight),
		cmp.Compare(a.Object.GetName(), b.Object.GetName()),
		byKind(a.kind(), b.kind()),
	)
}

// runHooks makes the hooks of an event one after the other and waits for each.
func (r *Release) runHooks(ctx context.Context, hooks []*hook, event string, timeout time.Duration) error {
	var done []*hook
	for _, h := range hooks {
		if !slices.Contains(h.events, event) {
			continue
		}
		r.log("running hook", map[string]any{"event": event, "object": h.ref().String()})
		if err := r.runHook(ctx, h, cmp.Or(timeout, DefaultHookTimeout)); err != nil {
			failed := error(&HookError{Event: event, Ref: h.ref(), err: err})
			if ctx.Err() == nil {
				failed = errors.Join(failed, r.discard(ctx, []*hook{h}, deleteOnFailure), r.discard(ctx, done, deleteOnSuccess))
			}
			return failed
		}
		done = append(done, h)
	}
	slices.Reverse(done)
	return r.discard(ctx, done, deleteOnSuccess)
}

func (r *Release) runHook(ctx context.Context, h *hook, timeout time.Duration) error {
	if h.lasting() {
		return r.apply(ctx, h.entry, applying{})
	}
	if err := r.deleteHook(ctx, h); err != nil {
		return err
	}
	if _, err := r.releases.Cluster.Apply(ctx, h.Object, kube.ApplyOptions{Manager: Manager, CreateOnly: true}); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it did not end within %s: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	return r.awaitHook(bounded, h.ref())
}

// lasting reports hooks that are never deleted, as others depend on them.
func (h *hook) lasting() bool {
	return h.kind() == kube.Namespace || h.kind() == kube.CustomResourceDefinition
}

// discard deletes the hooks that have a policy.
func (r *Release) discard(ctx context.Context, hooks []*hook, policy string) error {
	for _, h := range hooks {
		if h.lasting() || !slices.Contains(h.policies, policy) {
			continue
		}
		if err := r.deleteHook(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// deleteHook deletes what a hook has made, and nothing that was made otherwise.
func (r *Release) deleteHook(ctx context.Context, h *hook) error {
	live, err := r.releases.Cluster.Get(ctx, h.ref())
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if live.GetAnnotations()[hookAnnotation] == "" {
		return fmt.Errorf("there is a %s already, which is no hook; delete or rename it", h.ref())
	}
	return r.releases.Cluster.Delete(ctx, h.ref(), kube.DeleteOptions{UID: live.GetUID(), Wait: true, Propagation: foreground})
}

// awaitHook waits until a Job is complete or a Pod has ended. Other kinds are
// done when they are made.
func (r *Release) awaitHook(ctx context.Context, ref kube.Ref) error {
	if ref.Kind != kube.Job && ref.Kind != kube.Pod {
		return nil
	}
	problem := ""
	err := r.releases.Cluster.Await(ctx, ref.Namespace, []kube.Kind{kube.Job, kube.Pod}, func(ctx context.Context) (string, error) {
		// Told as it is seen: the pods of a Job that has failed may go with it.
		if now, err := r.podProblem(ctx, ref); err != nil {
			return "", err
		} else if now != "" {
			problem = now
		}
		live, err := r.releases.Cluster.Find(ctx, ref)
		if err != nil {
			return "", err
		}
		lacks := jobLacks
		if ref.Kind == kube.Pod {
			lacks = podRuns
		}
		lack, err := lacks(live)
		if lack != "" {
			lack = ref.String() + ": " + lack
		}
		return lack, err
	})
	if err != nil && problem != "" {
		return fmt.Errorf("%w\n%s", err, problem)
	}
	return err
}

// podProblem returns what is wrong with the pods of a hook.
func (r *Release) podProblem(ctx context.Context, ref kube.Ref) (string, error) {
	pods, err := r.releases.Cluster.PodsOf(ctx, ref)
	if err != nil {
		return "", err
	}
	for _, pod := range pods {
		if problem := kube.PodProblem(pod); problem != "" {
			return fmt.Sprintf("Pod %s/%s: %s", pod.Namespace, pod.Name, problem), nil
		}
	}
	return "", nil
}

// podRuns says that a Pod has not ended yet, or that it has failed.
func podRuns(live *unstructured.Unstructured) (string, error) {
	switch phase, _, err := unstructured.NestedString(live.Object, "status", "phase"); {
	case err != nil:
		return "", err
	case phase == string(corev1.PodFailed):
		return "", errors.New("it failed")
	case phase == string(corev1.PodSucceeded):
		return "", nil
	}
	return "not ended", nil
}

package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// lastWords is how long an operation that is ended may take to record it.
const lastWords = 5 * time.Second

// Deploy makes the release what is desired, whatever an earlier operation has
// left, and prunes what is desired no more. It does so in this order:
// namespaces, CRDs, hooks before installation or upgrade, all other objects,
// deletions, waits, hooks afterwards.
//
// If it fails after the first change, or ctx ends, the record says so and the
// next deployment goes on from there. Errors that callers may want to tell apart
// are [ForeignError], [ImmutableError], [RecordSizeError], [HookError],
// [kube.ConflictError] and [kube.WaitError].
func (r *Release) Deploy(ctx context.Context, desired Desired) error {
	want, err := r.wanted(ctx, desired, false)
	if err != nil {
		return r.wrap(err)
	}
	if err := r.checkOwners(ctx, want.entries, desired.TakeOwnership); err != nil {
		return r.wrap(err)
	}
	next := r.begun(desired, want)
	if _, err := encode(next); err != nil {
		return r.wrap(err)
	}
	// The record is in the namespace of the release, so that one comes before it.
	for _, e := range want.entries {
		if e.kind() == kube.Namespace && e.Object.GetName() == r.namespace {
			if err := r.apply(ctx, e, applying{force: desired.Force, repair: desired.Repair}); err != nil {
				return r.wrap(err)
			}
		}
	}
	upgrade := r.installed()
	if err := r.write(ctx, next); err != nil {
		return r.wrap(err)
	}
	err = r.perform(ctx, desired, want, upgrade)
	ended := *r.record
	ended.Phase, ended.Failure = PhaseDeployed, ""
	switch {
	case err == nil:
		ended.Installed = true
	case desired.HideValues: // The API server quotes what it refuses.
		ended.Phase = PhaseFailed
	default:
		ended.Phase, ended.Failure = PhaseFailed, err.Error()
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if recordErr := r.write(late, &ended); recordErr != nil {
		err = errors.Join(err, recordErr)
	}
	return r.wrap(err)
}

// wanted is what a deployment applies: what is desired, or once more what is on
// record.
func (r *Release) wanted(ctx context.Context, desired Desired, lenient bool) (*content, error) {
	if !desired.Restore || r.record == nil || r.record.Phase != PhaseDeployed {
		resolved, err := r.resolve(ctx, desired, lenient)
		if err != nil {
			return nil, err
		}
		return resolved, r.leaveJobs(ctx, resolved.entries)
	}
	restored := &content{entries: slices.Clone(r.record.Objects)}
	for _, e := range r.record.Hooks {
		h := hookOf(e)
		h.events = slices.DeleteFunc(h.events, func(event string) bool { return !atDeletion(event) })
		restored.hooks = append(restored.hooks, h)
	}
	return restored, nil
}

func atDeletion(event string) bool { return event == preDelete || event == postDelete }

// begun is the record of a deployment that is about to change the first object.
func (r *Release) begun(desired Desired, want *content) *record {
	next := &record{
		Phase: PhaseDeploying, Origin: desired.Origin, Inputs: desired.Inputs,
		Objects: want.entries, HideValues: desired.HideValues, Installed: r.installed(),
	}
	for _, h := range want.hooks {
		if slices.ContainsFunc(h.events, atDeletion) {
			next.Hooks = append(next.Hooks, h.entry)
		}
	}
	next.Former = r.former(want.entries)
	return next
}

// former returns what the record has that is wanted no more, in order of
// installation, and tells those that are wanted which objects they are.
func (r *Release) former(wanted []*entry) []*entry {
	if r.record == nil {
		return nil
	}
	byKey := make(map[key]*entry, len(wanted))
	for _, e := range wanted {
		byKey[e.key()] = e
	}
	var former []*entry
	for i, e := range slices.Concat(r.record.Objects, r.record.Former) {
		if still, ok := byKey[e.key()]; ok {
			still.UID = cmp.Or(still.UID, e.UID)
			still.settled = r.record.Phase == PhaseDeployed && same(e, still)
			if i < len(r.record.Objects) && (e.Applied || r.record.Phase == PhaseDeployed) {
				still.before, still.Applied = e, same(e, still)
			}
			continue
		}
		former = append(former, e.identity())
	}
	slices.SortStableFunc(former, func(a, b *entry) int { return byKind(a.kind(), b.kind()) })
	return former
}

func (r *Release) perform(ctx context.Context, desired Desired, want *content, upgrade bool) error {
	before, after := preInstall, postInstall
	if upgrade {
		before, after = preUpgrade, postUpgrade
	}
	how := applying{force: desired.Force, repair: desired.Repair, webhooks: webhooksOf(want.entries)}
	hooksRun := false
	for _, group := range groups(want.entries, (*entry).kind) {
		if rank(group[0].kind()) >= 0 && !hooksRun {
			if err := r.runHooks(ctx, want.hooks, before, desired.HookTimeout); err != nil {
				return err
			}
			hooksRun = true
		}
		if err := r.applyGroup(ctx, group, how); err != nil {
			return err
		}
	}
	if !hooksRun {
		if err := r.runHooks(ctx, want.hooks, before, desired.HookTimeout); err != nil {
			return err
		}
	}
	left, _, err := r.remove(ctx, r.record.Former, removal{crds: desired.PruneCRDs, wait: desired.Wait, applied: want.entries, staying: true})
	if err != nil {
		return err
	}
	r.record.Former = left
	if desired.Wait {
		if err := r.await(ctx, want.entries, desired.WaitForJobs); err != nil {
			return err
		}
	}
	return r.runHooks(ctx, want.hooks, after, desired.HookTimeout)
}

// applyGroup applies objects of one kind, several at once. That one fails does
// not keep the others from being applied: they do not depend on it.
func (r *Release) applyGroup(ctx context.Context, group []*entry, how applying) error {
	r.log("applying", map[string]any{"kind": group[0].kind().Name, "objects": len(group)})
	err := inParallel(len(group), func(i int) error { return r.apply(ctx, group[i], how) })
	if err != nil || group[0].kind() != kube.CustomResourceDefinition {
		return err
	}
	return r.awaitKinds(ctx, group)
}

// inParallel calls f with the numbers below n, several at a time, and returns
// the errors of all in their order.
func inParallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for i := range n {
		calls.Go(func() error {
			errs[i] = f(i)
			return nil
		})
	}
	err := calls.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - mostErrors; more > 0 {
		errs = append(slices.Clip(errs[:mostErrors]), fmt.Errorf("and %d more errors", more))
	}
	return errors.Join(err, errors.Join(errs...))
}

// mostErrors keeps messages readable: what goes wrong with two hundred objects
// at once is mostly one thing.
const mostErrors = 10

// applying says how objects are applied.
type applying struct {
	force    bool
	repair   bool     // force for fields that were applied before
	webhooks []string // of the release itself, which may not answer yet
}

// webhookPatience is how long the release's own webhooks may take to answer
// once the objects behind them have been applied.
const webhookPatience = 2 * time.Minute

// apply makes one object what it should be and notes which object that is.
func (r *Release) apply(ctx context.Context, e *entry, how applying) error {
	if e.kind() == kube.Namespace {
		held, err := r.releases.Cluster.HoldNamespace(ctx, r.hold(e, how.force))
		if how.repair && r.regains(ctx, e, r.hold(e, false).Manager(), err) {
			held, err = r.releases.Cluster.HoldNamespace(ctx, r.hold(e, true))
		}
		if err == nil {
			e.UID, e.Applied = held.GetUID(), true
		}
		return err
	}
	if e.settled && e.expires() {
		if _, err := r.releases.Cluster.Get(ctx, e.ref()); errors.Is(err, kube.ErrNotFound) {
			return nil // It has run, and its time is over.
		}
	}
	for {
		applied, err := r.applyOnce(ctx, e, how)
		switch fields := kube.ImmutableFields(err); {
		case len(fields) > 0:
			if err := r.clearWay(ctx, e, fields, err); err != nil {
				return err
			}
		case err != nil:
			return err
		case applied.GetDeletionTimestamp() != nil:
			// It is on its way out, whatever is applied to it.
			if err := r.releases.Cluster.AwaitGone(ctx, e.ref(), applied.GetUID()); err != nil {
				return err
			}
		default:
			e.UID, e.Applied = applied.GetUID(), true
			return nil
		}
	}
}

// applyOnce applies an object, again and again while a webhook that the release
// itself brings does not answer.
func (r *Release) applyOnce(ctx context.Context, e *entry, how applying) (applied *unstructured.Unstructured, err error) {
	object, err := r.yielding(ctx, e)
	if err != nil {
		return nil, err
	}
	once := func(ctx context.Context) (waiting string, err error) {
		applied, err = r.put(ctx, e, object, how, kube.ApplyOptions{Manager: Manager})
		if name := brokenWebhook(err); slices.Contains(how.webhooks, name) {
			return fmt.Sprintf("admission webhook %q to answer", name), nil
		}
		return "", err
	}
	waiting, err := once(ctx)
	if err != nil || waiting == "" {
		return applied, err
	}
	bounded, cancel := context.WithTimeout(ctx, webhookPatience)
	defer cancel()
	if err := r.releases.Cluster.Await(bounded, "", nil, once); err != nil {
		return nil, fmt.Errorf("apply %s: %w", e.ref(), err)
	}
	return applied, nil
}

// put applies what an object is to be, as the options and how say.
func (r *Release) put(ctx context.Context, e *entry, object *unstructured.Unstructured, how applying, options kube.ApplyOptions) (*unstructured.Unstructured, error) {
	options.Force = how.force
	applied, err := r.releases.Cluster.Apply(ctx, object, options)
	if theirsToo(err) {
		// They may have done their part since it was read.
		if object, err = r.yielding(ctx, e); err != nil {
			return nil, err
		}
		options.Force = true
		applied, err = r.releases.Cluster.Apply(ctx, object, options)
	}
	if how.repair && r.regains(ctx, e, options.Manager, err) {
		options.Force = true
		applied, err = r.releases.Cluster.Apply(ctx, object, options)
	}
	return applied, err
}

// regains reports a conflict about nothing but fields that others have taken
// from the release: those are in conflict with what was applied before as well.
func (r *Release) regains(ctx context.Context, e *entry, manager string, refused error) bool {
	now, ok := errors.AsType[*kube.ConflictError](refused)
	if !ok || e.before == nil {
		return false
	}
	_, err := r.releases.Cluster.Apply(ctx, e.before.Object, kube.ApplyOptions{Manager: manager, DryRun: true})
	lost, ok := errors.AsType[*kube.ConflictError](err)
	return ok && !slices.ContainsFunc(now.Fields, func(field string) bool { return !slices.Contains(lost.Fields, field) })
}

// checkOwners refuses objects that are not the release's to change.
func (r *Release) checkOwners(ctx context.Context, wanted []*entry, take bool) error {
	return inParallel(len(wanted), func(i int) error {
		e := wanted[i]
		if e.pending || e.kind() == kube.Namespace {
			return nil
		}
		live, err := r.releases.Cluster.Find(ctx, e.ref())
		switch {
		case errors.Is(err, kube.ErrNotFound), namesNamespace(err):
			return nil
		case err != nil:
			return err
		}
		return r.checkOwner(ctx, e, live, take)
	})
}

func (r *Release) checkOwner(ctx context.Context, e *entry, live *unstructured.Unstructured, take bool) error {
	if take || e.kind() == kube.Namespace {
		return nil
	}
	owner, err := r.otherOwner(ctx, e, live.GetAnnotations())
	if err != nil || owner == "" && (live.GetAnnotations()[Annotation] != "" || r.has(e)) {
		return err
	}
	return &ForeignError{Ref: e.ref(), Owner: owner}
}

// has reports that an object is one of the release, by whatever mark.
func (r *Release) has(e *entry) bool {
	return r.record != nil && slices.ContainsFunc(r.record.Objects, func(known *entry) bool { return known.key() == e.key() })
}

// otherOwner says which other release the annotations of an object name as its
// owner, or "".
func (r *Release) otherOwner(ctx context.Context, e *entry, annotations map[string]string) (string, error) {
	switch id := annotations[Annotation]; {
	case id == r.id():
		return "", nil
	case id != "":
		return r.claimant(ctx, e, id)
	}
	if name := annotations["meta.helm.sh/release-name"]; name != "" {
		return "Helm release " + annotations["meta.helm.sh/release-namespace"] + "/" + name, nil
	}
	return "", nil
}

// claimant checks that the release whose mark an object carries still exists and
// has the object: what one leaves behind when it goes is free to take.
func (r *Release) claimant(ctx context.Context, e *entry, id string) (string, error) {
	namespace, name := splitID(id)
	other, err := r.releases.read(ctx, namespace, name)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%s is marked as belonging to release %s: %w", e.ref(), id, err)
	}
	for _, claimed := range slices.Concat(other.Objects, other.Former) {
		if claimed.key() == e.key() {
			return "release " + id, nil
		}
	}
	return "", nil
}

// clearWay removes an object that cannot be changed into what it should be, if
// that does no harm: of a StatefulSet the pods and volume claims stay and are
// taken over by its successor, a Job only runs again.
func (r *Release) clearWay(ctx context.Context, e *entry, fields []string, refused error) error {
	live, err := r.replaceable(ctx, e, fields, refused)
	if err != nil {
		return err
	}
	options := kube.DeleteOptions{UID: live, Wait: true, Propagation: foreground}
	if e.kind() == kube.StatefulSet {
		options.Propagation = orphan
	}
	r.log("making anew", map[string]any{"object": e.ref().String(), "fields": fields})
	return r.releases.Cluster.Delete(ctx, e.ref(), options)
}

// replaceable returns the UID of the live object if it may be replaced by the
// one that is wanted, otherwise an error that says why not.
func (r *Release) replaceable(ctx context.Context, e *entry, fields []string, refused error) (types.UID, error) {
	immutable := &ImmutableError{Ref: e.ref(), Fields: fields, err: refused}
	if kind := e.kind(); kind != kube.StatefulSet && kind != kube.Job {
		immutable.Reason = "change it back, give the object another name, or delete it by hand and apply again"
		return "", immutable
	}
	live, err := r.releases.Cluster.Get(ctx, e.ref())
	if err != nil {
		return "", err
	}
	if e.kind() == kube.StatefulSet {
		if reason, err := r.unadoptable(ctx, e); err != nil || reason != "" {
			immutable.Reason = reason
			return "", cmp.Or[error](err, immutable)
		}
	}
	// Nothing is deleted that would not be made again.
	trial := e.Object.DeepCopy()
	trial.SetName("aksmesh-trial")
	_, err = r.releases.Cluster.Apply(ctx, trial, kube.ApplyOptions{Manager: Manager, CreateOnly: true, DryRun: true})
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) && !saysQuota(err) {
		return "", fmt.Errorf("%s would have to be made anew because of %s, but the API server would refuse it: %w", e.ref(), fields, err)
	}
	return live.GetUID(), nil
}

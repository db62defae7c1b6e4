package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Plan returns what Deploy would do to each object, in its order, without doing
// anything. Of a release that was deployed completely, changes are those from
// what was applied before, so that another plan is the same whatever has happened
// to the objects; otherwise what the API server would make of an object is asked
// of the API server, and is worked out here only where it cannot say. Objects
// that are as they were applied cost no request but the shared reads. Errors of
// all objects that Deploy would not get past are returned together, beside the
// changes of the others.
func (r *Release) Plan(ctx context.Context, desired Desired) ([]kube.Change, error) {
	want, err := r.wanted(ctx, desired, true)
	if err != nil {
		return nil, r.wrap(err)
	}
	former := r.former(want.entries) // Tells the entries what they were before.
	how := applying{force: desired.Force, repair: desired.Repair}
	p := &planner{Release: r, how: how, take: desired.TakeOwnership, recorded: map[key]*entry{}}
	if p.again, err = r.again(ctx, desired); err != nil {
		return nil, r.wrap(err)
	}
	if r.record != nil {
		for _, e := range r.record.Objects {
			p.recorded[e.key()] = e
		}
	}
	each := make([]kube.Change, len(want.entries))
	err = inParallel(len(want.entries), func(i int) (err error) {
		each[i], err = p.change(ctx, want.entries[i])
		return err
	})
	each = slices.DeleteFunc(each, func(c kube.Change) bool { return c.Action == "" }) // Those that failed.
	removed, removeErr := p.removals(ctx, former, desired.PruneCRDs)
	changes := slices.Concat(each, removed)
	if slices.ContainsFunc(changes, func(c kube.Change) bool { return c.Action != kube.Unchanged }) {
		_, sizeErr := encode(r.begun(desired, want))
		err = errors.Join(err, sizeErr)
	}
	if desired.HideValues || r.record != nil && r.record.HideValues {
		for i := range changes {
			hideValues(changes[i].Lines)
		}
	}
	return changes, r.wrap(errors.Join(err, removeErr))
}

// hideValues leaves of lines about fields the fields.
func hideValues(lines []string) {
	for i, line := range lines {
		lines[i] = kube.FieldOf(line) + ": changes (not shown)"
	}
}

type planner struct {
	*Release
	how      applying
	take     bool
	recorded map[key]*entry
	again    map[key]*entry // as another rendering has them; nil if there is none
}

// again resolves the other rendering of what is desired.
func (r *Release) again(ctx context.Context, desired Desired) (map[key]*entry, error) {
	if desired.Again == nil {
		return nil, nil //nolint:nilnil // There is none.
	}
	desired.Objects = desired.Again
	other, err := r.resolve(ctx, desired, true)
	if err != nil {
		return nil, err
	}
	entries := map[key]*entry{}
	for _, e := range other.entries {
		entries[e.key()] = e
	}
	return entries, nil
}

// change is what becomes of one object, without what is known to come out
// otherwise when it is applied.
func (p *planner) change(ctx context.Context, e *entry) (kube.Change, error) {
	change, err := p.foreseen(ctx, e)
	if err != nil || p.again == nil {
		return change, err
	}
	other, ok := p.again[e.key()]
	if !ok {
		change.Uncertain = true
		return change, nil
	}
	for _, difference := range kube.Changes(other.Object, e.Object, true) {
		volatile := kube.FieldOf(difference)
		for i, line := range change.Lines {
			if field := kube.FieldOf(line); kube.Within(field, volatile) {
				change.Lines[i] = field + ": another with each rendering"
			}
		}
	}
	return change, nil
}

func (p *planner) foreseen(ctx context.Context, e *entry) (kube.Change, error) {
	if e.pending {
		return kube.Change{Action: kube.Create, Ref: e.ref(), Uncertain: e.unknown}, nil
	}
	live, err := p.releases.Cluster.Find(ctx, e.ref())
	switch {
	case errors.Is(err, kube.ErrNotFound), namesNamespace(err):
		return p.creation(ctx, e)
	case err != nil:
		return kube.Change{}, err
	}
	if err := p.checkOwner(ctx, e, live, p.take); err != nil {
		return kube.Change{}, err
	}
	if p.applied(e) && len(kube.Differences(yieldingTo(e, live), live)) == 0 {
		return kube.Change{Action: kube.Unchanged, Ref: e.ref()}, nil
	}
	// Shared reads may not know all fields of a kind, and are older than a dry run.
	live, err = p.releases.Cluster.Get(ctx, e.ref())
	if errors.Is(err, kube.ErrNotFound) {
		return p.creation(ctx, e)
	}
	if err != nil {
		return kube.Change{}, err
	}
	return p.update(ctx, e, p.recorded[e.key()], live)
}

// applied reports an object that was applied before as it is to be now.
func (p *planner) applied(e *entry) bool {
	before := p.recorded[e.key()]
	return before != nil && p.record.Phase == PhaseDeployed && same(before, e)
}

// same reports whether two entries say the same.
func same(a, b *entry) bool {
	aText, aErr := json.Marshal(a.Object)
	bText, bErr := json.Marshal(b.Object)
	return aErr == nil && bErr == nil && bytes.Equal(aText, bText)
}

func (p *planner) creation(ctx context.Context, e *entry) (kube.Change, error) {
	change := kube.Change{Action: kube.Create, Ref: e.ref()}
	switch {
	case p.applied(e) && e.expires():
		change.Action = kube.Unchanged
		return change, nil
	case p.applied(e):
		change.Action = kube.Restore
	}
	if e.kind() == kube.Namespace {
		return change, nil
	}
	_, err := p.trial(ctx, e, nil)
	if warning, told := unsaid(err); told {
		change.Warning = warning
		return change, nil
	}
	return change, err
}

// trial has the API server work out what applying an object comes to. A
// namespace is held, which is more than one request: of that it only finds
// conflicts.
func (p *planner) trial(ctx context.Context, e *entry, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if e.kind() == kube.Namespace {
		_, err := p.put(ctx, e, e.Object, p.how, kube.ApplyOptions{Manager: p.hold(e, false).Manager(), DryRun: true})
		return nil, err
	}
	return p.put(ctx, e, yieldingTo(e, live), p.how, kube.ApplyOptions{Manager: Manager, DryRun: true})
}

// unsaid reports errors of a dry run that do not mean that the deployment would
// fail, with a warning about them.
func unsaid(err error) (warning string, is bool) {
	if err == nil {
		return "", true
	}
	text := err.Error()
	switch {
	case namesNamespace(err):
		return "", true
	case strings.Contains(text, "does not support dry run"):
		return "", true
	case strings.Contains(text, "denied the request"):
		return "an admission webhook refuses it now", true
	case brokenWebhook(err) != "":
		return "an admission webhook does not answer now", true
	case apierrors.IsForbidden(err):
		return "a dry run is forbidden", true
	}
	return "", false
}

func (p *planner) update(ctx context.Context, e, before *entry, live *unstructured.Unstructured) (kube.Change, error) {
	change := kube.Change{Action: kube.Update, Ref: e.ref()}
	if e.kind() != kube.Namespace && before == nil && live.GetAnnotations()[Annotation] != p.id() {
		change.Note = "exists already and is taken over"
	}
	next, err := p.trial(ctx, e, live)
	fields := kube.ImmutableFields(err)
	warning, unsaid := unsaid(err)
	switch {
	case len(fields) > 0:
		if _, err := p.replaceable(ctx, e, fields, err); err != nil {
			return kube.Change{}, err
		}
		change.Action, change.Lines = kube.Recreate, estimate(e, before, live)
		change.Note = "runs again"
		if e.kind() == kube.StatefulSet {
			change.Note = "pods and volume claims stay"
		}
	case next != nil:
		change.Lines = kube.Changes(live, next, true)
	case unsaid:
		change.Lines, change.Warning, change.Uncertain = estimate(e, before, live), warning, err != nil
	default:
		return kube.Change{}, err
	}
	switch {
	case change.Action == kube.Update && p.applied(e):
		change.Action = kube.Restore
	case before != nil && p.record.Phase == PhaseDeployed:
		change.Lines = kube.Changes(before.Object, e.Object, true)
	}
	if len(change.Lines) == 0 && (change.Action == kube.Update || change.Action == kube.Restore) {
		return kube.Change{Action: kube.Unchanged, Ref: e.ref()}, nil
	}
	return change, nil
}

// estimate works out without the API server what applying an object changes:
// what it sets otherwise, and what it set before and does no more.
func estimate(e, before *entry, live *unstructured.Unstructured) []string {
	lines := kube.Changes(live, yieldingTo(e, live), false)
	if before == nil {
		return lines
	}
	for _, line := range kube.Changes(before.Object, e.Object, true) {
		if strings.HasSuffix(line, " -> absent") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// removals are the changes of objects that are wanted no more, in the order in
// which they are deleted.
func (p *planner) removals(ctx context.Context, former []*entry, crds bool) ([]kube.Change, error) {
	var changes []kube.Change
	for _, e := range slices.Backward(former) {
		change := kube.Change{Action: kube.Delete, Ref: e.ref()}
		_, live, err := p.locate(ctx, e)
		switch {
		case errors.Is(err, kube.ErrNotFound):
			continue
		case err != nil:
			return nil, err
		case e.kind() == kube.Namespace && e.Object.GetName() == p.namespace:
			change.Action, change.Note = kube.Keep, "stays: "+holdsRelease
		case e.kind() == kube.Namespace && !e.keep():
			change.Note = ifEmpty
		case !p.owns(e, live.GetAnnotations(), live.GetUID()):
			continue
		case e.kind() == kube.CustomResourceDefinition && !crds:
			if p.recorded[e.key()] == nil {
				continue // Was told when it was dropped.
			}
			change.Action, change.Note = kube.Keep, "stays: deleting it would delete all objects of its kind"
		case e.keep() || live.GetAnnotations()[policyAnnotation] == policyKeep:
			change.Action, change.Note = kube.Keep, "stays: "+policyAnnotation+" says so"
		case e.kind() == persistentVolumeClaim:
			change.Action, change.Note = kube.Keep, "stays: "+holdsData
		}
		changes = append(changes, change)
	}
	return changes, nil
}

func saysQuota(err error) bool { return strings.Contains(fmt.Sprint(err), "exceeded quota") }

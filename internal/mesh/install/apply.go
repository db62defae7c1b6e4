package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// RolledBackError tells that an apply failed and that the releases which it had
// changed are as they were before.
type RolledBackError struct {
	// Releases are those that were rolled back, as namespace/name, in that order.
	Releases []string
	Cause    error
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%v\nrolled back, and healthy again: %s", e.Cause, strings.Join(e.Releases, ", "))
}

func (e *RolledBackError) Unwrap() error { return e.Cause }

// Apply brings releases to what they should be, in order, each healthy before
// the next begins. It may be repeated, whatever has ended it before.
//
// If atomic is set and one fails, those that it has changed go back to the newest
// revision that has been healthy, last changed first, for which a quarter
// of the time is kept; the error is a *[RolledBackError] once they are healthy
// again. Releases that were not there before stay as they are, for the next apply
// to finish, and so do those of CRDs: going back could take a version away that
// objects are stored in. An apply that is cancelled does not go back: whoever
// cancels wants no further changes.
func (c Charts) Apply(ctx context.Context, releases []Release, atomic bool) error {
	before, err := c.records(ctx, releases)
	if err != nil {
		return err
	}
	if err := c.checkKubernetes(ctx, releases); err != nil {
		return err
	}
	if err := c.checkAdopted(ctx, releases); err != nil {
		return err
	}
	forward := ctx
	if deadline, limited := ctx.Deadline(); limited && atomic {
		var cancel context.CancelFunc
		forward, cancel = context.WithDeadlineCause(ctx, deadline.Add(-time.Until(deadline)/4), errRollbackTime)
		defer cancel()
	}
	var changed []deployed
	for _, release := range releases {
		if record := before[release.id()]; record != nil && atomic {
			target, err := c.wayBack(ctx, record)
			if err != nil {
				return err
			}
			if target != nil {
				changed = append(changed, deployed{release: release, revision: record.Revision, target: target})
			}
		}
		if err := c.deploy(forward, release, before[release.id()]); err != nil {
			if !atomic || ctx.Err() != nil {
				return err
			}
			return c.goBack(ctx, changed, err)
		}
	}
	return nil
}

var errRollbackTime = fmt.Errorf("%w: the rest of the time is kept for the rollback", context.DeadlineExceeded)

// checkAdopted refuses to adopt what belongs to other releases, which Helm would
// simply take.
func (c Charts) checkAdopted(ctx context.Context, releases []Release) error {
	adopting := slices.DeleteFunc(slices.Clone(releases), func(r Release) bool { return !r.Adopt })
	if len(adopting) == 0 {
		return nil
	}
	_, err := c.Foresee(ctx, adopting, nil)
	return err
}

// deployed is a release that was there before.
type deployed struct {
	release  Release
	revision int           // the newest before
	target   *helm.Release // to go back to
}

// wayBack is the newest revision of a release that has been seen healthy, nil if
// there is none: Helm calls deployed what was never seen to run. Of releases that
// others have made it is the one in place, which is not gone back to.
func (c Charts) wayBack(ctx context.Context, record *helm.Release) (*helm.Release, error) {
	switch present := inPlace(record); {
	case record.Healthy:
		return record, nil
	case present.Healthy || !Ours(record) && present.Status == helm.StatusDeployed:
		return present, nil
	}
	healthy, err := c.Releases.LastHealthy(ctx, record.Namespace, record.Name)
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return nil, nil //nolint:nilnil // There is none.
	}
	return healthy, err
}

// goBack rolls releases back, the last first, and waits until they are healthy
// and answer. It does not go back to what others have installed: their record may
// have what has been others' since, such as an issuer's certificates.
func (c Charts) goBack(ctx context.Context, changed []deployed, cause error) error {
	rolled := &RolledBackError{Cause: cause}
	for _, former := range slices.Backward(changed) {
		back, err := c.rollBack(ctx, former)
		switch {
		case errors.Is(err, errNotOurs):
			rolled.Cause = fmt.Errorf("%w\nrelease %s stays as it is now: %w", rolled.Cause, former.release.id(), err)
		case err != nil:
			return fmt.Errorf("%w\nrolling release %s back failed, too: %w", rolled.Cause, former.release.id(), err)
		case back:
			rolled.Releases = append(rolled.Releases, former.release.id())
		}
	}
	if len(rolled.Releases) == 0 {
		return rolled.Cause
	}
	return rolled
}

var errNotOurs = errors.New("the revision before was not made by this provider, and going back to it could undo what has been written into its objects since; the next apply goes on from here")

// rollBack takes one release back, if there is anything to.
func (c Charts) rollBack(ctx context.Context, former deployed) (bool, error) {
	r, target := former.release, former.target
	now, err := c.Releases.Get(ctx, r.Namespace, r.Name)
	if err != nil {
		return false, err
	}
	located, err := c.objectsOf(ctx, &target.Rendered, r.Namespace, nil)
	if err != nil {
		return false, err
	}
	workloads := workloadsOf(located)
	if now.Revision == former.revision || len(workloads) == 0 && slices.ContainsFunc(located, isCRD) {
		return false, nil
	}
	if !Ours(target) {
		return false, errNotOurs
	}
	c.log("rolling back", map[string]any{"release": r.id(), "revision": target.Revision})
	yielding, err := c.yielding(ctx, r.Yields, r.Namespace, r.Name, now)
	if err != nil {
		return false, err
	}
	restored, err := c.Releases.Rollback(ctx, helm.RollbackRequest{
		Namespace: r.Namespace, Name: r.Name, Revision: target.Revision, Labels: releaseLabels(), Yield: yielding.to,
	})
	c.forget(r.Namespace, r.Name)
	if err != nil {
		return false, err
	}
	return true, c.awaitHealthy(ctx, r, restored, workloads)
}

func isCRD(object renderedObject) bool { return object.ref.Kind == kube.CustomResourceDefinition }

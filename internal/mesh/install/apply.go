package install

import (
	"context"
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
// If atomic is set and one fails, those that were deployed before and that it has
// changed go back to what was in place, last changed first, for which a quarter
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
		if record := before[release.id()]; record != nil && record.Status == helm.StatusDeployed {
			changed = append(changed, deployed{release, record})
		}
		if err := c.Deploy(forward, release); err != nil {
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

// deployed is a release with what was in place before.
type deployed struct {
	release Release
	record  *helm.Release
}

// goBack rolls releases back, the last first, and waits until they are healthy.
func (c Charts) goBack(ctx context.Context, changed []deployed, cause error) error {
	rolled := &RolledBackError{Cause: cause}
	failed := func(id string, err error) error {
		return fmt.Errorf("%w\nrolling release %s back failed, too: %w", cause, id, err)
	}
	for _, former := range slices.Backward(changed) {
		id := former.release.id()
		now, err := c.Releases.Get(ctx, former.record.Namespace, former.record.Name)
		if err != nil {
			return failed(id, err)
		}
		located, err := c.objectsOf(ctx, &former.record.Rendered, former.record.Namespace, nil)
		if err != nil {
			return failed(id, err)
		}
		workloads := workloadsOf(located)
		if now.Revision == former.record.Revision || len(workloads) == 0 && slices.ContainsFunc(located, isCRD) {
			continue
		}
		c.log("rolling back", map[string]any{"release": id, "revision": former.record.Revision})
		yielding := c.yielding(ctx, former.release.Yields, former.record.Namespace, former.record.Name)
		_, err = c.Releases.Rollback(ctx, helm.RollbackRequest{
			Namespace: former.record.Namespace, Name: former.record.Name, Revision: former.record.Revision,
			Labels: releaseLabels(), Yield: yielding.to,
		})
		c.forget(former.record.Namespace, former.record.Name)
		if err == nil {
			err = c.Cluster.AwaitReady(ctx, workloads...)
		}
		if err != nil {
			return failed(id, err)
		}
		rolled.Releases = append(rolled.Releases, id)
	}
	if len(rolled.Releases) == 0 {
		return cause
	}
	return rolled
}

func isCRD(object renderedObject) bool { return object.ref.Kind == kube.CustomResourceDefinition }

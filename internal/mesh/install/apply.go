package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// RolledBackError tells that an apply failed and that the releases which it had
// changed are as they were before.
type RolledBackError struct {
	// Releases are those that were rolled back, as namespace/name.
	Releases []string
	err      error
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%v; rolled back: %v", e.err, e.Releases)
}

func (e *RolledBackError) Unwrap() error { return e.err }

// Apply brings releases to what they should be, in order, each healthy before
// the next begins. If atomic is set and one fails that was deployed before, it
// and those changed before it go back to what was in place, last changed first;
// the error is then a *[RolledBackError]. Releases that were not there before
// stay as they are, for the next apply to finish, and so do releases of CRDs:
// going back could take a version away that objects are stored in.
func (c Charts) Apply(ctx context.Context, releases []Release, atomic bool) error {
	var changed []*helm.Release
	for _, release := range releases {
		before, err := c.Releases.Get(ctx, release.Namespace, release.Name)
		if err != nil && !errors.Is(err, helm.ErrReleaseNotFound) {
			return err
		}
		if err == nil && before.Status == helm.StatusDeployed {
			changed = append(changed, before)
		}
		err = c.Deploy(ctx, release)
		if err == nil && release.Ready != nil {
			err = release.Ready(ctx)
		}
		if err == nil || !atomic || ctx.Err() != nil {
			if err != nil {
				return err
			}
			continue
		}
		return c.goBack(ctx, changed, err)
	}
	return nil
}

// goBack rolls releases back, the last first.
func (c Charts) goBack(ctx context.Context, changed []*helm.Release, cause error) error {
	ctx, cancel := mesh.LastLook(ctx)
	defer cancel()
	rolled := &RolledBackError{err: cause}
	for _, before := range slices.Backward(changed) {
		if _, err := c.Releases.Rollback(ctx, helm.RollbackRequest{Namespace: before.Namespace, Name: before.Name, Revision: before.Revision}); err != nil {
			return errors.Join(cause, fmt.Errorf("roll back: %w", err))
		}
		rolled.Releases = append(rolled.Releases, before.Namespace+"/"+before.Name)
	}
	return rolled
}

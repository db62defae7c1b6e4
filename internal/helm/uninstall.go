package helm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
)

// UninstallOptions are settings of Uninstall.
type UninstallOptions struct {
	// KeepCRDs leaves the CustomResourceDefinitions of the release in the cluster, and with them all objects of their
	// kinds. They keep the marks of the release, so that a later one of the same name and namespace takes them back.
	KeepCRDs bool
	// Wait waits until the objects are gone.
	Wait bool
	// HookTimeout is how long each hook may run, 5 minutes if zero.
	HookTimeout time.Duration
}

// Uninstall deletes a release, its objects and its history, whatever state an earlier operation has left it in. It is
// no error if the API server lists no record of the release.
func (r *Releases) Uninstall(ctx context.Context, namespace, name string, options UninstallOptions) (err error) {
	defer r.explain(ctx, &err)
	op, err := r.begin(ctx, namespace, name, true)
	if err != nil {
		return err
	}
	defer op.end()
	newest := op.records.newestFirst()
	if len(newest) == 0 {
		return nil
	}
	op.client.keepCRDs = options.KeepCRDs
	record, err := op.records.decode(newest[0])
	if err != nil {
		return op.wrap(err)
	}
	// An operation that failed or was killed leaves objects of two revisions; Helm deletes those of the newest.
	err = op.removeAbandoned(record, release.StatusDeployed, release.StatusFailed, release.StatusPendingInstall,
		release.StatusPendingUpgrade, release.StatusPendingRollback)
	if err != nil {
		return op.wrap(err)
	}
	uninstall := action.NewUninstall(op.config)
	uninstall.Wait = options.Wait
	uninstall.Timeout = hookTimeout(options.HookTimeout)
	_, err = uninstall.Run(name)
	if !options.KeepCRDs && strings.Contains(record.Manifest, crdKind) {
		op.client.mapper.Reset()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", context.Cause(ctx), plainError(err))
	case op.client.failure != nil:
		err = op.client.failure
	case op.records.failure() != nil: // Helm keeps nothing but the words of it.
		err = fmt.Errorf("delete its records: %w", op.records.failure())
	}
	return op.wrap(err)
}

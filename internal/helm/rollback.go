package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RollbackRequest says to which revision of a release to go back.
type RollbackRequest struct {
	Namespace, Name string
	Revision        int
	// Labels tell, as in [DeployRequest], whether a pending operation is the caller's own.
	Labels map[string]string
	// HookTimeout is how long each hook may run, 5 minutes if zero.
	HookTimeout time.Duration
	// Yield is that of [DeployRequest].
	Yield func(live, wanted *unstructured.Unstructured) error
}

// Rollback makes a release what it was at an earlier revision, as a new revision on record, whatever state an operation
// since has left the release in. It removes what the revisions since have brought, but for CustomResourceDefinitions,
// and does not wait for the objects to become ready. Nothing is done if the revision is the newest and deployed. Like
// Deploy, it ends within two seconds of ctx and returns the newest revision on record beside an error; the errors to
// tell apart are ErrReleaseNotFound, PendingError and CRDVersionError.
func (r *Releases) Rollback(ctx context.Context, request RollbackRequest) (_ *Release, err error) {
	defer r.explain(ctx, &err)
	op, err := r.begin(ctx, request.Namespace, request.Name, true)
	if err != nil {
		return nil, err
	}
	defer op.end()
	op.client.yield = request.Yield
	op.client.keepCRDs = true
	if len(op.records.secrets) == 0 {
		return nil, op.wrap(ErrReleaseNotFound)
	}
	err = op.rollBack(request)
	if err != nil {
		err = op.wrap(fmt.Errorf("roll back to revision %d: %w", request.Revision, op.plain(err)))
	}
	return op.newest(), err
}

func (op *operation) rollBack(request RollbackRequest) error {
	if err := op.repair(request.Labels); err != nil {
		return err
	}
	newest := op.records.newestFirst()[0]
	if revisionOf(newest) == request.Revision && statusOf(newest) == release.StatusDeployed {
		return nil
	}
	former, err := op.records.at(request.Revision)
	if err != nil {
		return err
	}
	rendered := newRendered(former)
	if err := op.checkManifest(&rendered); err != nil {
		return err
	}
	// Helm would leave out, without a word, objects of kinds that the cluster does not serve.
	if _, err := op.client.Client.Build(strings.NewReader(former.Manifest), false); err != nil {
		return err
	}
	op.config.Releases.Driver = &labelling{Driver: op.config.Releases.Driver, labels: request.Labels}
	rollback := action.NewRollback(op.config)
	rollback.Version = request.Revision
	rollback.Timeout = hookTimeout(request.HookTimeout)
	err = rollback.Run(op.name)
	if strings.Contains(former.Manifest, crdKind) {
		op.client.mapper.Reset()
	}
	if err != nil {
		return errors.Join(err, op.closeRollback(newest, err))
	}
	record, err := op.records.decode(op.records.newestFirst()[0])
	if err != nil {
		return err
	}
	return op.finish(record)
}

// labelling puts labels on the record of the revision that a rollback makes. Helm gives it those of the revision that is
// gone back to, which somebody else may have made: the rollback would not be known for one's own if it were cut off.
type labelling struct {
	driver.Driver
	labels map[string]string
}

// Create implements the part of Helm's storage driver that writes the record of a new revision.
func (l *labelling) Create(key string, record *release.Release) error {
	both := map[string]string{}
	maps.Copy(both, record.Labels)
	maps.Copy(both, l.labels)
	record.Labels = both
	return l.Driver.Create(key, record)
}

// closeRollback records the failure of a rollback, which Helm does not when it was a hook that failed. Helm also calls
// the revision before superseded, or leaves it deployed; but it is in place no more than that which was to replace it,
// and unless it counts as failed, what it has made is forgotten.
func (op *operation) closeRollback(before *corev1.Secret, cause error) error {
	if newest := op.records.newestFirst()[0]; statusOf(newest).IsPending() {
		err := op.records.rewrite(newest, func(record *release.Release) {
			record.Info.Status = release.StatusFailed
			record.Info.Description = fmt.Sprintf("Rollback %q failed: %v", op.name, cause)
		})
		if err != nil {
			return fmt.Errorf("record the failure: %w", err)
		}
	}
	now, ok := op.records.secrets[before.Name]
	if !ok || statusOf(now) == release.StatusFailed {
		return nil
	}
	return op.records.rewrite(now, func(record *release.Release) { record.Info.Status = release.StatusFailed })
}

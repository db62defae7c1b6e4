package helm

import (
	"context"
	"time"

	"helm.sh/helm/v3/pkg/action"
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
	Yield func(live, wanted *unstructured.Unstructured)
}

// Rollback makes a release what it was at an earlier revision, as a new revision on record, and does not wait for the
// objects to become ready.
func (r *Releases) Rollback(ctx context.Context, request RollbackRequest) (*Release, error) {
	op, err := r.begin(ctx, request.Namespace, request.Name, true)
	if err != nil {
		return nil, err
	}
	defer op.end()
	if err := op.repair(request.Labels); err != nil {
		return nil, op.wrap(err)
	}
	rollback := action.NewRollback(op.config)
	rollback.Version = request.Revision
	rollback.Timeout = hookTimeout(request.HookTimeout)
	if err := rollback.Run(request.Name); err != nil {
		return nil, op.wrap(err)
	}
	return r.Get(ctx, request.Namespace, request.Name)
}

package helm

import (
	"context"

	"helm.sh/helm/v3/pkg/action"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RollbackRequest says to which revision of a release to go back.
type RollbackRequest struct {
	Namespace, Name string
	Revision        int
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
	rollback := action.NewRollback(op.config)
	rollback.Version = request.Revision
	if err := rollback.Run(request.Name); err != nil {
		return nil, op.wrap(err)
	}
	return r.Get(ctx, request.Namespace, request.Name)
}

package release

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// yielding is what is applied of an entry: what others have a part in depends on
// what is there.
func (r *Release) yielding(ctx context.Context, e *entry) (*unstructured.Unstructured, error) {
	if !e.leavesReplicas() && !e.configuresWebhooks() {
		return e.Object, nil
	}
	live, err := r.releases.Cluster.Get(ctx, e.ref())
	if errors.Is(err, kube.ErrNotFound) {
		return e.Object, nil
	}
	if err != nil {
		return nil, err
	}
	return yieldingTo(e, live), nil
}

// yieldingTo is yielding for a known live object, nil if there is none.
func yieldingTo(e *entry, live *unstructured.Unstructured) *unstructured.Unstructured {
	switch {
	case live == nil:
		return e.Object
	case e.leavesReplicas():
		return keepingReplicas(e, live)
	case e.configuresWebhooks():
		var former *unstructured.Unstructured
		if e.before != nil {
			former = e.before.Object
		}
		shared := e.Object.DeepCopy()
		kube.EnforcerYields().To(former, live, shared)
		return shared
	}
	return e.Object
}

// theirsToo reports a refusal that is about nothing but what others have a part
// in.
func theirsToo(err error) bool {
	conflict, ok := errors.AsType[*kube.ConflictError](err)
	return ok && kube.EnforcerYields().Cover(conflict)
}

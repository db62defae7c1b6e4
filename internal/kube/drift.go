package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Drift compares an object as it was written with what is in the cluster, by
// the shared reads, and says in one line each that it is missing or which of its
// fields differ ([Differences]). If it is of a namespaced kind and names no
// namespace, it belongs to the one given. Yield, if not nil, takes over into what
// was written what others are to set, before the two are compared.
func (c *Cluster) Drift(ctx context.Context, written *unstructured.Unstructured, namespace string, yield func(live, written *unstructured.Unstructured) error) ([]string, error) {
	kind, err := c.KindFor(ctx, written.GroupVersionKind())
	if meta.IsNoMatchError(err) {
		return []string{fmt.Sprintf("%s %s is missing: the cluster does not serve %s", written.GetKind(), written.GetName(), written.GroupVersionKind())}, nil
	}
	if err != nil {
		return nil, err
	}
	ref := Ref{Kind: kind, Name: written.GetName()}
	if kind.Namespaced {
		ref.Namespace = cmp.Or(written.GetNamespace(), namespace)
	}
	differences := func(live *unstructured.Unstructured, err error) ([]string, error) {
		if err != nil {
			return nil, err
		}
		wanted := written.DeepCopy()
		if yield != nil {
			if err := yield(live, wanted); err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
		}
		return Differences(wanted, live), nil
	}
	drift, err := differences(c.Find(ctx, ref))
	if len(drift) > 0 && kind != Secret {
		// Shared reads may not know all fields of a kind.
		drift, err = differences(c.Get(ctx, ref))
	}
	if errors.Is(err, ErrNotFound) {
		return []string{ref.String() + " is missing"}, nil
	}
	if err != nil {
		return nil, err
	}
	for i, difference := range drift {
		drift[i] = ref.String() + ": " + difference
	}
	return drift, nil
}

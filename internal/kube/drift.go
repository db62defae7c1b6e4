package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// rehearser is the field manager of writes that are only tried. It has written
// nothing, so that it gives nothing up either.
const rehearser = "aksmesh-rehearsal"

// Drift compares an object as it was written with what is in the cluster, by
// the shared reads, and says in one line each that it is missing or which of its
// fields differ ([Differences]). What admission makes of it with each write, as
// policies that raise requests do, is no drift: a dry run tells where something
// differs, and another read what is left then. If the object is of a namespaced
// kind and names no namespace, it belongs to the one given. Yield, if not nil,
// takes over into what was written what others are to set, before the two are
// compared.
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
	drift, err := c.driftOf(ctx, ref, written, yield)
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

func (c *Cluster) driftOf(ctx context.Context, ref Ref, written *unstructured.Unstructured, yield func(live, written *unstructured.Unstructured) error) ([]string, error) {
	var wanted, next *unstructured.Unstructured
	differences := func(live *unstructured.Unstructured) ([]string, error) {
		wanted = written.DeepCopy()
		wanted.SetNamespace(ref.Namespace)
		if yield != nil {
			if err := yield(live, wanted); err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
		}
		return repairable(wanted, live, next), nil
	}
	live, err := c.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	drift, err := differences(live)
	if err != nil || len(drift) == 0 || ref.Kind == Secret {
		return drift, err
	}
	// The right to write may be missing, a webhook may be down, or a field may be
	// one that cannot be changed: then all that differs counts.
	next, err = c.Apply(ctx, wanted, ApplyOptions{Manager: rehearser, Force: true, DryRun: true})
	if err != nil && statusOf(err) == nil {
		return nil, err
	}
	if next != nil && len(repairable(wanted, live, next)) == 0 {
		return nil, nil
	}
	// Shared reads may not know all fields of a kind.
	if live, err = c.Get(ctx, ref); err != nil {
		return nil, err
	}
	return differences(live)
}

// repairable is how an object differs from what is wanted, without what would
// differ just the same next, after it was written again; next may be nil.
func repairable(wanted, live, next *unstructured.Unstructured) []string {
	found := Differences(wanted, live)
	if next == nil || len(found) == 0 {
		return found
	}
	stay := Differences(wanted, next)
	return slices.DeleteFunc(found, func(difference string) bool { return slices.Contains(stay, difference) })
}

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
// policies that raise requests do, is no drift; a dry run tells, and costs a
// request where something differs. If the object is of a namespaced kind and names
// no namespace, it belongs to the one given. Yield, if not nil, takes over into
// what was written what others are to set, before the two are compared.
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
	var wanted *unstructured.Unstructured
	differences := func(live *unstructured.Unstructured) ([]string, error) {
		wanted = written.DeepCopy()
		wanted.SetNamespace(ref.Namespace)
		if yield != nil {
			if err := yield(live, wanted); err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
		}
		return Differences(wanted, live), nil
	}
	live, err := c.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	drift, err := differences(live)
	if err != nil || len(drift) == 0 || ref.Kind == Secret {
		return drift, err
	}
	// Shared reads may not know all fields of a kind.
	if live, err = c.Get(ctx, ref); err != nil {
		return nil, err
	}
	if drift, err = differences(live); err != nil || len(drift) == 0 {
		return drift, err
	}
	return c.repairable(ctx, wanted, live, drift)
}

// repairable are those of the differences that writing the object again would
// change. It is all of them if the API server does not say: the right to write may
// be missing, a webhook may be down, or a field may be one that cannot be changed.
func (c *Cluster) repairable(ctx context.Context, wanted, live *unstructured.Unstructured, differences []string) ([]string, error) {
	next, err := c.Apply(ctx, wanted, ApplyOptions{Manager: rehearser, Force: true, DryRun: true})
	switch {
	case statusOf(err) != nil:
		return differences, nil
	case err != nil:
		return nil, err
	}
	changes := Changes(live, next, true)
	return slices.DeleteFunc(differences, func(difference string) bool {
		return !slices.ContainsFunc(changes, func(change string) bool {
			field, changed := FieldOf(difference), FieldOf(change)
			return Within(field, changed) || Within(changed, field)
		})
	}), nil
}

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Foresee tells what Apply would do to the objects of releases, in its order,
// without doing anything, and what uninstalling those dropped would delete.
// Releases that are on record are compared with what they sent to the cluster
// last, so that another plan says the same whatever has happened to the objects
// since; that is what Drift tells. Errors are those that Apply could not but
// fail with.
func (c Charts) Foresee(ctx context.Context, wanted []Release, dropped []*helm.Release) ([]kube.Change, error) {
	var changes []kube.Change
	var errs []error
	for _, release := range wanted {
		found, err := c.foresee(ctx, release)
		if err != nil {
			errs = append(errs, fmt.Errorf("release %s/%s: %w", release.Namespace, release.Name, err))
		}
		changes = append(changes, found...)
	}
	for _, release := range dropped {
		had, err := c.objectsOf(ctx, &release.Rendered, release.Namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("release %s/%s: %w", release.Namespace, release.Name, err))
		}
		for _, object := range slices.Backward(had) {
			changes = append(changes, kube.Change{Action: kube.Delete, Ref: object.ref})
		}
	}
	return changes, errors.Join(errs...)
}

func (c Charts) foresee(ctx context.Context, r Release) ([]kube.Change, error) {
	rendered, err := c.Render(ctx, r)
	if err != nil {
		return nil, err
	}
	next, err := c.objectsOf(ctx, rendered, r.Namespace)
	if err != nil {
		return nil, err
	}
	record, err := c.Releases.Get(ctx, r.Namespace, r.Name)
	if err != nil && !errors.Is(err, helm.ErrReleaseNotFound) {
		return nil, err
	}
	former := map[kube.Ref]*unstructured.Unstructured{}
	var order []kube.Ref
	if err == nil && record.Status != helm.StatusUninstalled {
		had, err := c.objectsOf(ctx, &record.Rendered, r.Namespace)
		if err != nil {
			return nil, err
		}
		for _, object := range had {
			former[object.ref] = object.written
			order = append(order, object.ref)
		}
	}
	var changes []kube.Change
	for _, object := range next {
		before, existed := former[object.ref]
		delete(former, object.ref)
		if !existed {
			changes = append(changes, kube.Change{Action: kube.Create, Ref: object.ref})
			continue
		}
		r.Yields.To(before, object.written)
		if lines := kube.Changes(before, object.written, true); len(lines) > 0 {
			changes = append(changes, kube.Change{Action: kube.Update, Ref: object.ref, Lines: lines})
		}
	}
	for _, ref := range slices.Backward(order) {
		if gone, left := former[ref]; left {
			change := kube.Change{Action: kube.Delete, Ref: ref}
			if kept(gone) {
				change.Action, change.Note = kube.Keep, "stays: "+resourcePolicyAnnotation+" says so"
			}
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// The annotation by which Helm leaves an object in the cluster.
const (
	resourcePolicyAnnotation = "helm.sh/resource-policy"
	keepPolicy               = "keep"
)

func kept(object *unstructured.Unstructured) bool {
	return object.GetAnnotations()[resourcePolicyAnnotation] == keepPolicy
}

// renderedObject is one object of a release, where it is in the cluster.
type renderedObject struct {
	ref     kube.Ref
	written *unstructured.Unstructured
}

func (c Charts) objectsOf(ctx context.Context, rendered *helm.Rendered, namespace string) ([]renderedObject, error) {
	objects, err := rendered.Objects()
	if err != nil {
		return nil, err
	}
	found := make([]renderedObject, 0, len(objects))
	for _, object := range objects {
		ref, err := c.refOf(ctx, object, namespace)
		if err != nil {
			return nil, err
		}
		found = append(found, renderedObject{ref: ref, written: object})
	}
	return found, nil
}

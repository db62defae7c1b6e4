package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

func (c *Cluster) resource(kind Kind, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return c.objects.Resource(kind.GVR())
	}
	return c.objects.Resource(kind.GVR()).Namespace(namespace)
}

// RefOf names the object that a manifest describes.
func (c *Cluster) RefOf(ctx context.Context, object *unstructured.Unstructured) (Ref, error) {
	kind, err := c.KindFor(ctx, object.GroupVersionKind())
	if err != nil {
		return Ref{}, err
	}
	ref := Ref{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()}
	return ref, ref.validate()
}

// Get reads the object as it is now. The error wraps [ErrNotFound] if the API
// server says that it does not exist.
func (c *Cluster) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	if err := ref.validate(); err != nil {
		return nil, err
	}
	var object *unstructured.Unstructured
	err := c.call(ctx, "get", ref, func(ctx context.Context) (err error) {
		object, err = c.resource(ref.Kind, ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && object.GetName() != ref.Name {
			err = fmt.Errorf("the answer is not this object but a %q named %q", object.GetKind(), object.GetName())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return object, nil
}

const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedByUs    = "aksmesh"
)

// OursLabels mark the objects that this provider has made whole.
func OursLabels() map[string]string { return map[string]string{managedByLabel: managedByUs} }

// Ours reports whether an object with these labels was made by this provider.
func Ours(labels map[string]string) bool { return labels[managedByLabel] == managedByUs }

// ApplyOptions say how an object is applied.
type ApplyOptions struct {
	Manager    string // field manager, required
	Force      bool   // take fields over from other managers
	DryRun     bool   // let the API server work out the result, but keep nothing
	CreateOnly bool   // fail with ErrExists if the object is already there; of two who try, one does
}

// Apply sets the fields that the object names by server-side apply, and returns
// the object as it is then. Fields of other managers with other values end in a
// *[ConflictError] unless Force is set. Unknown fields are errors.
func (c *Cluster) Apply(ctx context.Context, object *unstructured.Unstructured, options ApplyOptions) (*unstructured.Unstructured, error) {
	ref, err := c.RefOf(ctx, object)
	if err != nil {
		return nil, err
	}
	if options.CreateOnly {
		return c.create(ctx, ref, object, metav1.CreateOptions{
			FieldManager:    options.Manager,
			DryRun:          dryRun(options.DryRun),
			FieldValidation: metav1.FieldValidationStrict,
		})
	}
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ref, err)
	}
	return c.patch(ctx, "apply", ref, types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager:    options.Manager,
		Force:           &options.Force,
		DryRun:          dryRun(options.DryRun),
		FieldValidation: metav1.FieldValidationStrict,
	})
}

// create makes an object by a plain create: server-side apply cannot tell
// whether it was this process that made it. The error wraps [ErrExists] if
// there is one already.
func (c *Cluster) create(ctx context.Context, ref Ref, object *unstructured.Unstructured, options metav1.CreateOptions) (*unstructured.Unstructured, error) {
	var created *unstructured.Unstructured
	err := c.call(ctx, "create", ref, func(ctx context.Context) (err error) {
		created, err = c.resource(ref.Kind, ref.Namespace).Create(ctx, object, options)
		return err
	})
	if err != nil {
		created = nil
	}
	if len(options.DryRun) == 0 {
		c.wrote(ref.Kind.GVR().GroupResource(), created)
	}
	return created, err
}

func dryRun(dry bool) []string {
	if dry {
		return []string{metav1.DryRunAll}
	}
	return nil
}

func (c *Cluster) patch(ctx context.Context, verb string, ref Ref, form types.PatchType, body []byte, options metav1.PatchOptions) (*unstructured.Unstructured, error) {
	var result *unstructured.Unstructured
	err := c.call(ctx, verb, ref, func(ctx context.Context) (err error) {
		result, err = c.resource(ref.Kind, ref.Namespace).Patch(ctx, ref.Name, form, body, options)
		return err
	})
	if err != nil {
		result = nil
	}
	if len(options.DryRun) == 0 {
		c.wrote(ref.Kind.GVR().GroupResource(), result)
	}
	return result, err
}

// Release gives up every field that the manager owns by server-side apply and
// returns the object as it is then; fields that nobody else owns disappear. The
// object is never created: the error wraps [ErrNotFound] if it does not exist.
func (c *Cluster) Release(ctx context.Context, ref Ref, manager string) (*unstructured.Unstructured, error) {
	if err := ref.validate(); err != nil {
		return nil, err
	}
	if known := c.mirror(ref.Kind, ref.Namespace).find(ref.Namespace, ref.Name); known != nil {
		released, err := c.release(ctx, ref, known.GetUID(), "", manager)
		if !errors.Is(err, ErrChanged) {
			return released, err
		}
	}
	live, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	released, err := c.release(ctx, ref, live.GetUID(), "", manager)
	if errors.Is(err, ErrChanged) {
		// Replaced or gone since: then this manager owns nothing there any more,
		// unless it applied to the replacement itself.
		return c.Get(ctx, ref)
	}
	return released, err
}

// ReleaseAt is Release of an object in the very state that it was read in. The
// error wraps [ErrChanged] if it is in another one by now.
func (c *Cluster) ReleaseAt(ctx context.Context, live *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	ref, err := c.RefOf(ctx, live)
	if err != nil {
		return nil, err
	}
	return c.release(ctx, ref, live.GetUID(), live.GetResourceVersion(), manager)
}

// release is Release for the object with that UID, which keeps the API server
// from creating one that is gone, and in that state if one is given. The error
// wraps [ErrChanged] if it is not there any more.
func (c *Cluster) release(ctx context.Context, ref Ref, uid types.UID, version, manager string) (*unstructured.Unstructured, error) {
	metadata := map[string]any{"name": ref.Name, "uid": string(uid)}
	if version != "" {
		metadata["resourceVersion"] = version
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": ref.Kind.GVK().GroupVersion().String(),
		"kind":       ref.Kind.Name,
		"metadata":   metadata,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ref, err)
	}
	return c.patch(ctx, "release", ref, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: manager, Force: new(true)})
}

// Amend changes fields of an object that is somebody else's, in the very state
// that it was read in, as a JSON merge patch says, and returns the object as it
// is then. Its fields stay with the managers that own them, so that the next
// apply of theirs meets no conflict. The error wraps [ErrChanged] if the object
// is in another state by now.
func (c *Cluster) Amend(ctx context.Context, live *unstructured.Unstructured, change map[string]any, manager string) (*unstructured.Unstructured, error) {
	amended, err := c.mergePatch(ctx, live, change, manager)
	if err != nil || len(live.GetManagedFields()) == 0 {
		return amended, err
	}
	managers, _, err := unstructured.NestedSlice(live.Object, "metadata", "managedFields")
	if err != nil {
		return amended, err
	}
	// The API server takes a change of its records for no change of the fields.
	returned, err := c.mergePatch(ctx, amended, map[string]any{"metadata": map[string]any{"managedFields": managers}}, manager)
	if errors.Is(err, ErrChanged) {
		return amended, nil // Somebody has written since, with the records as they are now.
	}
	return returned, err
}

func (c *Cluster) mergePatch(ctx context.Context, live *unstructured.Unstructured, change map[string]any, manager string) (*unstructured.Unstructured, error) {
	ref, err := c.RefOf(ctx, live)
	if err != nil {
		return nil, err
	}
	patch := maps.Clone(change)
	metadata, _, err := unstructured.NestedMap(patch, "metadata")
	if err != nil {
		return nil, fmt.Errorf("change %s: %w", ref, err)
	}
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"], metadata["resourceVersion"] = string(live.GetUID()), live.GetResourceVersion()
	patch["metadata"] = metadata
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ref, err)
	}
	return c.patch(ctx, "change", ref, types.MergePatchType, body, metav1.PatchOptions{FieldManager: manager, FieldValidation: metav1.FieldValidationStrict})
}

// DeleteOptions say which object exactly is deleted and whether to wait.
type DeleteOptions struct {
	UID             types.UID // only this very object; "" is any
	ResourceVersion string    // only in this state; "" is any
	Wait            bool      // until it is gone

	// Propagation says what becomes of the objects that it owns: "" deletes them
	// later, DeletePropagationForeground before it, and DeletePropagationOrphan
	// not at all.
	Propagation metav1.DeletionPropagation
}

// Delete deletes the object. That it does not exist is no error. The error
// wraps [ErrChanged] if a precondition does not hold. With Wait, an error at
// the end of the context names what keeps the object from going.
func (c *Cluster) Delete(ctx context.Context, ref Ref, options DeleteOptions) error {
	if err := ref.validate(); err != nil {
		return err
	}
	propagation := cmp.Or(options.Propagation, metav1.DeletePropagationBackground)
	request := metav1.DeleteOptions{PropagationPolicy: &propagation}
	if options.UID != "" || options.ResourceVersion != "" {
		request.Preconditions = &metav1.Preconditions{}
		if options.UID != "" {
			request.Preconditions.UID = &options.UID
		}
		if options.ResourceVersion != "" {
			request.Preconditions.ResourceVersion = &options.ResourceVersion
		}
	}
	err := c.call(ctx, "delete", ref, func(ctx context.Context) error {
		return c.resource(ref.Kind, ref.Namespace).Delete(ctx, ref.Name, request)
	})
	c.wrote(ref.Kind.GVR().GroupResource(), nil)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case options.Wait:
		return c.AwaitGone(ctx, ref, options.UID)
	}
	return nil
}

// AwaitGone waits until the object is gone, or replaced by another if a UID is
// given.
func (c *Cluster) AwaitGone(ctx context.Context, ref Ref, uid types.UID) error {
	return c.Await(ctx, ref.Namespace, nil, func(ctx context.Context) (string, error) {
		live, err := c.Get(ctx, ref)
		switch {
		case errors.Is(err, ErrNotFound):
			return "", nil
		case err != nil:
			return "", err
		case uid == "":
			// The first one seen is the one that was meant: a controller may
			// create another by the same name at once.
			uid = live.GetUID()
		case live.GetUID() != uid:
			return "", nil
		}
		return whyPresent(ref, live), nil
	})
}

// whyPresent says what keeps a deleted object from going.
func whyPresent(ref Ref, live *unstructured.Unstructured) string {
	if live.GetDeletionTimestamp() == nil {
		return ref.String() + " to be gone: it is not being deleted"
	}
	var reasons []string
	finalizers := live.GetFinalizers()
	if ref.Kind == Namespace {
		more, _, _ := unstructured.NestedStringSlice(live.Object, "spec", "finalizers")
		// Every namespace has this one, it says nothing.
		finalizers = append(finalizers, slices.DeleteFunc(more, func(name string) bool { return name == "kubernetes" })...)
		conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
		for _, entry := range conditions {
			if condition, ok := entry.(map[string]any); ok && condition["status"] == "True" {
				reasons = append(reasons, fmt.Sprintf("%v: %v", condition["type"], condition["message"]))
			}
		}
	}
	if len(finalizers) > 0 {
		reasons = append(reasons, "finalizers "+strings.Join(finalizers, ", "))
	}
	if len(reasons) == 0 {
		return ref.String() + " to be gone"
	}
	return ref.String() + " to be gone, kept by " + strings.Join(reasons, "; ")
}

// wrote tells the shared reads about a write to a resource. The object is its
// state after the write, or nil if that is unknown.
func (c *Cluster) wrote(written schema.GroupResource, object *unstructured.Unstructured) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.mirrors {
		m.note(written == m.kind.GVR().GroupResource(), object)
	}
}

// moved tells the shared reads that controllers have been at work.
func (c *Cluster) moved() { c.wrote(schema.GroupResource{}, nil) }

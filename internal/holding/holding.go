// Package holding keeps a few objects of one namespace in a cluster as one thing
// of ours: it writes them together, finds them again with what they were made
// from, and removes those that are not wanted any more.
package holding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Each object says whose it is and what it was made from, so that the whole can
// be imported, and found again by an apply that was cut off.
const (
	ownerAnnotation  = "aksmesh.io/owner"
	intentAnnotation = "aksmesh.io/intent"
)

// A Holding is the objects of one thing of ours.
type Holding struct {
	Cluster *kube.Cluster
	// Manager is the field manager that writes the objects.
	Manager string
	// Owner is whose the objects are, for machines and people:
	// network-policy/mesh-only. No two holdings of a namespace have the same.
	Owner string
	// Namespace of the objects.
	Namespace string
	// Kinds are all kinds that its objects may have. One that the cluster does
	// not serve has no objects.
	Kinds []kube.Kind
}

// Found are the objects of a holding as they are in the cluster.
type Found struct {
	// Objects, sorted by kind and name.
	Objects []*unstructured.Unstructured
	// Manifest is what Manifest says of them.
	Manifest string
	intents  []string
}

// Intent reads what the objects were made from. It reports false if there are
// none that say so, or if they disagree.
func (f Found) Intent(into any) bool {
	intents := slices.Compact(slices.Sorted(slices.Values(f.intents)))
	return len(intents) == 1 && json.Unmarshal([]byte(intents[0]), into) == nil
}

// Manifest prints the objects as YAML documents, sorted by kind and name: their
// API version, kind, name, and spec. What was built and what the API server
// returns for it print the same, if it says outright what the API has a default
// for.
func Manifest(objects []*unstructured.Unstructured) (string, error) {
	var documents []string
	for _, object := range sorted(objects) {
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(),
			"metadata": map[string]any{"name": object.GetName(), "namespace": object.GetNamespace()},
			"spec":     object.Object["spec"],
		})
		if err != nil {
			return "", fmt.Errorf("print %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
		}
		documents = append(documents, string(text))
	}
	return strings.Join(documents, "---\n"), nil
}

// Parse reads what Manifest has printed.
func Parse(manifest string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(manifest, "---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func sorted(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.SortedFunc(slices.Values(objects), func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetKind()+"/"+a.GetName(), b.GetKind()+"/"+b.GetName())
	})
}

// Find reads the objects of the holding from the shared reads.
func (h Holding) Find(ctx context.Context) (Found, error) {
	var found Found
	for _, kind := range h.Kinds {
		_, err := h.Cluster.KindFor(ctx, kind.GVK())
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return Found{}, err
		}
		objects, err := h.Cluster.List(ctx, kind, h.Namespace)
		if err != nil {
			return Found{}, err
		}
		for _, object := range objects {
			if h.Owns(object) {
				found.Objects = append(found.Objects, object)
				found.intents = append(found.intents, object.GetAnnotations()[intentAnnotation])
			}
		}
	}
	found.Objects = sorted(found.Objects)
	var err error
	found.Manifest, err = Manifest(found.Objects)
	return found, err
}

// Apply writes the objects, in their order, by server-side apply, and then
// removes the others of the holding. The intent is recorded with them as JSON,
// notes are annotations that they bear besides. An object that belongs to another
// holding is [kube.ErrExists]. So are, unless force is set, one that is nobody's,
// and one of this holding that was made from another intent: those of the same
// were left by an apply that was cut off.
func (h Holding) Apply(ctx context.Context, objects []*unstructured.Unstructured, intent any, notes map[string]string, force bool) error {
	record, err := json.Marshal(intent)
	if err != nil {
		return fmt.Errorf("%s of namespace %s: record intent: %w", h.Owner, h.Namespace, err)
	}
	before, err := h.Find(ctx)
	if err != nil {
		return err
	}
	if !force {
		for _, object := range before.Objects {
			if object.GetAnnotations()[intentAnnotation] != string(record) {
				return fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), kube.ErrExists)
			}
		}
	}
	if err := h.vacant(ctx, objects, force); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, object := range objects {
		wanted[place(object)] = true
		applied := object.DeepCopy()
		applied.SetLabels(kube.OursLabels())
		annotations := maps.Clone(notes)
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[ownerAnnotation], annotations[intentAnnotation] = h.Owner, string(record)
		applied.SetAnnotations(annotations)
		if _, err := h.Cluster.Apply(ctx, applied, kube.ApplyOptions{Manager: h.Manager, Force: force}); err != nil {
			return err
		}
	}
	return h.remove(ctx, before, func(object *unstructured.Unstructured) bool { return !wanted[place(object)] })
}

// Owns reports whether an object is one of the holding.
func (h Holding) Owns(object *unstructured.Unstructured) bool {
	return object.GetNamespace() == h.Namespace && object.GetAnnotations()[ownerAnnotation] == h.Owner
}

// vacant refuses the places of objects that are not the holding's: server-side
// apply by the same manager would overwrite those of another holding without a
// word, and make one of what others have written and what is wanted.
func (h Holding) vacant(ctx context.Context, objects []*unstructured.Unstructured, force bool) error {
	for _, object := range objects {
		ref, err := h.Cluster.RefOf(ctx, object)
		if err != nil {
			return err
		}
		live, err := h.Cluster.Find(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		switch owner := live.GetAnnotations()[ownerAnnotation]; {
		case owner == h.Owner, owner == "" && force:
		case owner != "":
			return fmt.Errorf("%s: %w: it belongs to %s of the same namespace; give one of the two another name", ref, kube.ErrExists, owner)
		default:
			var managers []string
			for _, entry := range live.GetManagedFields() {
				managers = append(managers, entry.Manager)
			}
			return fmt.Errorf("%s: %w: it is managed by %s", ref, kube.ErrExists, strings.Join(slices.Compact(slices.Sorted(slices.Values(managers))), ", "))
		}
	}
	return nil
}

// Delete deletes the objects; those that are gone already are no error.
func (h Holding) Delete(ctx context.Context) error {
	found, err := h.Find(ctx)
	if err != nil {
		return err
	}
	return h.remove(ctx, found, func(*unstructured.Unstructured) bool { return true })
}

// remove deletes the doomed objects, by their kinds from the last of Z to the
// first of A: what refuses (Server) goes before what lets in
// (AuthorizationPolicy), so that no caller who is let in is refused on the way.
func (h Holding) remove(ctx context.Context, found Found, doomed func(*unstructured.Unstructured) bool) error {
	for _, object := range slices.Backward(found.Objects) {
		if !doomed(object) {
			continue
		}
		ref, err := h.Cluster.RefOf(ctx, object)
		if err != nil {
			return err
		}
		if err := h.Cluster.Delete(ctx, ref, kube.DeleteOptions{Wait: true}); err != nil && !errors.Is(err, kube.ErrNotFound) {
			return err
		}
	}
	return nil
}

func place(object *unstructured.Unstructured) string {
	return object.GroupVersionKind().GroupKind().String() + "/" + object.GetName()
}

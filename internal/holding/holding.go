// Package holding keeps a few objects of one namespace in a cluster as one thing
// of ours: it writes them together, finds them again with what they were made
// from, and removes those that are not wanted any more.
package holding

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// separator is between two documents, at the start of a line.
const separator = "---\n"

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
	// Former are kinds that objects of it may have had, and are to have no more.
	// One that may not be listed is taken to have none.
	Former []kube.Kind
}

// ErrOther means that objects of the holding are there already, made from another
// intent than that of the apply.
var ErrOther = errors.New("already exists, made from other settings by an apply that broke off or by another configuration: " +
	"import it, or set force_conflicts = true to take it over; if it is another's, choose another name")

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
	return strings.Join(documents, separator), nil
}

// Parse reads what Manifest has printed.
func Parse(manifest string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(manifest, "\n"+separator) {
		text, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
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

// OwnerOf is whose an object is, in Terraform's words, such as
// aksmesh_network_policy mesh-only; empty if it is no holding's.
func OwnerOf(object *unstructured.Unstructured) string {
	kind, name, found := strings.Cut(object.GetAnnotations()[ownerAnnotation], "/")
	if !found {
		return ""
	}
	return "aksmesh_" + strings.ReplaceAll(kind, "-", "_") + " " + name
}

// Owns tells the objects of the holding from others.
func (h Holding) Owns(object *unstructured.Unstructured) bool {
	return object.GetNamespace() == h.Namespace && object.GetAnnotations()[ownerAnnotation] == h.Owner
}

// Find reads the objects of the holding from the shared reads.
func (h Holding) Find(ctx context.Context) (Found, error) {
	present, err := h.list(ctx)
	if err != nil {
		return Found{}, err
	}
	var found Found
	for _, object := range sorted(present) {
		if object.GetAnnotations()[ownerAnnotation] == h.Owner {
			found.Objects = append(found.Objects, object)
			found.intents = append(found.intents, object.GetAnnotations()[intentAnnotation])
		}
	}
	found.Manifest, err = Manifest(found.Objects)
	return found, err
}

// list returns all objects of the kinds in the namespace, whosever they are.
func (h Holding) list(ctx context.Context) ([]*unstructured.Unstructured, error) {
	var present []*unstructured.Unstructured
	for _, kind := range h.Kinds {
		objects, err := h.Cluster.List(ctx, kind, h.Namespace)
		if apierrors.IsNotFound(err) {
			// Mostly they are served, and discovery need not be asked.
			objects, _, err = h.Cluster.ListServed(ctx, kind, h.Namespace)
		}
		if err != nil {
			return nil, err
		}
		present = append(present, objects...)
	}
	for _, kind := range h.Former {
		objects, _, err := h.Cluster.ListServed(ctx, kind, h.Namespace)
		if apierrors.IsForbidden(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		present = append(present, objects...)
	}
	return present, nil
}

// Apply writes the objects by server-side apply, what lets callers in before what
// refuses them, and then removes the others of the holding. The intent is recorded
// with them as JSON, notes are annotations that they bear besides. Fields of
// another manager are a *[kube.ConflictError] unless force is set; an object of
// another holding is [kube.ErrExists], and unless force is set one of this holding
// that was made from another intent is [ErrOther]: those of the same were left by
// an apply that was cut off. With force, fields that others have added to the specs
// are removed. Begun tells whether anything may have been written.
func (h Holding) Apply(ctx context.Context, objects []*unstructured.Unstructured, intent any, notes map[string]string, force bool) (begun bool, err error) {
	record, err := json.Marshal(intent)
	if err != nil {
		return false, fmt.Errorf("%s of Namespace %s: record intent: %w", h.Owner, h.Namespace, err)
	}
	namespace, err := h.Cluster.Namespace(ctx, h.Namespace)
	if err != nil {
		return false, fmt.Errorf("%s: %w", h.Owner, err)
	}
	if namespace.DeletionTimestamp != nil {
		return false, fmt.Errorf("%s: Namespace %s is being deleted, and no object can be made in it any more", h.Owner, h.Namespace)
	}
	present, err := h.list(ctx)
	if err != nil {
		return false, err
	}
	wanted := map[string]bool{}
	for _, object := range objects {
		wanted[place(object)] = true
	}
	for _, object := range present {
		if err := h.taken(object, string(record), wanted[place(object)], force); err != nil {
			return false, err
		}
	}
	for _, object := range slices.SortedFunc(slices.Values(objects), byRank) {
		applied := object.DeepCopy()
		applied.SetLabels(kube.OursLabels())
		annotations := map[string]string{}
		maps.Copy(annotations, notes)
		annotations[ownerAnnotation], annotations[intentAnnotation] = h.Owner, string(record)
		applied.SetAnnotations(annotations)
		live, err := h.Cluster.Apply(ctx, applied, kube.ApplyOptions{Manager: h.Manager, Force: force})
		if err != nil {
			return begun, err
		}
		begun = true
		if !force {
			continue
		}
		// What others have added is no conflict, and stays.
		if stray := strays(live.Object["spec"], object.Object["spec"]); len(stray) > 0 {
			if _, err := h.Cluster.Amend(ctx, live, map[string]any{"spec": stray}, h.Manager); err != nil {
				return begun, err
			}
		}
	}
	return true, h.remove(ctx, present, func(object *unstructured.Unstructured) bool { return !wanted[place(object)] })
}

// strays is the JSON merge patch by which what is there becomes what is wanted;
// empty if it is that already.
func strays(live, wanted any) map[string]any {
	there, _ := live.(map[string]any)
	want, _ := wanted.(map[string]any)
	patch := map[string]any{}
	for key, value := range there {
		wish, known := want[key]
		_, nested := wish.(map[string]any)
		switch {
		case !known:
			patch[key] = nil
		case nested:
			if inner := strays(value, wish); len(inner) > 0 {
				patch[key] = inner
			}
		case !sameJSON(value, wish):
			patch[key] = wish
		}
	}
	return patch
}

// sameJSON compares values whose numbers may be of different types.
func sameJSON(a, b any) bool {
	first, err := json.Marshal(a)
	second, otherErr := json.Marshal(b)
	return err == nil && otherErr == nil && bytes.Equal(first, second)
}

// taken refuses to write over objects that this provider has made for something
// else: applied by the same manager, they would be overwritten without a word.
func (h Holding) taken(object *unstructured.Unstructured, record string, wanted, force bool) error {
	owner := object.GetAnnotations()[ownerAnnotation]
	switch {
	case owner == "" || owner != h.Owner && !wanted:
		return nil
	case owner != h.Owner:
		return fmt.Errorf("%s %s/%s, which is of %s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), owner, kube.ErrExists)
	case !force && object.GetAnnotations()[intentAnnotation] != record:
		return fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), ErrOther)
	}
	return nil
}

// Delete deletes the objects; those that are gone already are no error.
func (h Holding) Delete(ctx context.Context) error {
	present, err := h.list(ctx)
	if err != nil {
		return err
	}
	return h.remove(ctx, present, func(*unstructured.Unstructured) bool { return true })
}

// remove deletes those of the holding that are doomed, what refuses callers
// before what lets them in, so that nobody who is let in is refused on the way.
func (h Holding) remove(ctx context.Context, present []*unstructured.Unstructured, doomed func(*unstructured.Unstructured) bool) error {
	for _, object := range slices.Backward(slices.SortedFunc(slices.Values(present), byRank)) {
		if object.GetAnnotations()[ownerAnnotation] != h.Owner || !doomed(object) {
			continue
		}
		ref, err := h.Cluster.RefOf(ctx, object)
		if err != nil {
			return err
		}
		// Whoever has put another in its place has not been asked.
		options := kube.DeleteOptions{UID: object.GetUID(), Wait: true}
		err = h.Cluster.Delete(ctx, ref, options)
		if apierrors.IsNotFound(err) {
			// Not the object alone may be gone, but its kind.
			if served, _ := h.Cluster.ServesNow(ctx, ref.Kind); !served {
				continue
			}
		}
		if err != nil && !errors.Is(err, kube.ErrChanged) {
			return err
		}
	}
	return nil
}

// byRank orders objects so that what refuses callers comes after what lets them in.
// A route with no policy for it refuses everybody, and a policy may be for a route
// that is not there yet. Those of a kind go by their names.
func byRank(a, b *unstructured.Unstructured) int {
	return cmp.Or(cmp.Compare(rank(a.GetKind()), rank(b.GetKind())), strings.Compare(a.GetKind(), b.GetKind()), strings.Compare(a.GetName(), b.GetName()))
}

func rank(kind string) int {
	order := []string{"MeshTLSAuthentication", "NetworkAuthentication", "AuthorizationPolicy", "HTTPRoute"}
	switch at := slices.Index(order, kind); {
	case kind == kube.NetworkPolicy.Name:
		return len(order) + 1
	case at < 0:
		return len(order)
	default:
		return at
	}
}

func place(object *unstructured.Unstructured) string {
	return object.GroupVersionKind().GroupKind().String() + "/" + object.GetName()
}

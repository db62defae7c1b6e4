package release

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// content is what a release is to be, in the form in which it is applied.
type content struct {
	entries []*entry // in order of installation
	hooks   []*hook
}

// resolve brings the desired objects into the form in which they are applied.
// With lenient, kinds that neither the cluster nor a CRD among the objects knows
// are taken for kinds that will be there in time.
func (r *Release) resolve(ctx context.Context, desired Desired, lenient bool) (*content, error) {
	objects := slices.Clone(desired.Objects)
	if desired.CreateNamespace && !slices.ContainsFunc(objects, func(o Object) bool {
		return o.GroupVersionKind() == kube.Namespace.GVK() && o.GetName() == r.namespace
	}) {
		objects = append(objects, Object{Unstructured: kube.Ref{Kind: kube.Namespace, Name: r.namespace}.Object(), Source: "the namespace of the release"})
	}
	kinds := &kindFinder{cluster: r.releases.Cluster, lenient: lenient, found: map[schema.GroupVersionKind]foundKind{}}
	for _, object := range objects {
		kinds.announce(object)
	}
	resolved := &content{}
	seen := map[key]*entry{}
	hooked := map[key][]*hook{} // There may be one for each event.
	for _, object := range objects {
		e, err := r.entryOf(ctx, kinds, object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", object.Source, err)
		}
		h := hookOf(e)
		if h != nil && len(h.events) == 0 {
			continue
		}
		before := seen[e.key()]
		transform := desired.TransformHook
		if h == nil {
			transform = desired.Transform
		}
		for _, other := range hooked[e.key()] {
			if h == nil || slices.ContainsFunc(h.events, func(event string) bool { return slices.Contains(other.events, event) }) {
				before = other.entry
			}
		}
		if before != nil {
			return nil, fmt.Errorf("%s is there twice: in %s and in %s", e.ref(), before.source, e.source)
		}
		if err := e.noteTemplate(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", object.Source, e.ref(), err)
		}
		if transform != nil {
			if err := transform(e.Object); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", object.Source, e.ref(), err)
			}
		}
		if err := r.mark(e); err != nil {
			return nil, fmt.Errorf("%s: %w", object.Source, err)
		}
		if h == nil {
			seen[e.key()] = e
			resolved.entries = append(resolved.entries, e)
		} else {
			hooked[e.key()] = append(hooked[e.key()], h)
			resolved.hooks = append(resolved.hooks, h)
		}
	}
	leaveReplicas(resolved.entries)
	slices.SortStableFunc(resolved.entries, func(a, b *entry) int { return byKind(a.kind(), b.kind()) })
	slices.SortStableFunc(resolved.hooks, compareHooks)
	return resolved, nil
}

// entryOf checks an object and takes out of it what cannot be applied.
func (r *Release) entryOf(ctx context.Context, kinds *kindFinder, given Object) (*entry, error) {
	switch {
	case given.GetAPIVersion() == "" || given.GetKind() == "":
		return nil, errors.New("it has no apiVersion or no kind, so it is not an object of Kubernetes")
	case given.GetName() == "" && given.GetGenerateName() != "":
		return nil, fmt.Errorf("%s %s… has a generateName, which makes another object each time; give it a name", given.GetKind(), given.GetGenerateName())
	case given.GetName() == "":
		return nil, fmt.Errorf("a %s has no name", given.GetKind())
	}
	e := &entry{Object: given.DeepCopy(), source: given.Source}
	kind, err := kinds.find(ctx, e.Object)
	if err != nil {
		return nil, err
	}
	e.Resource, e.Namespaced, e.pending, e.unknown = kind.Resource, kind.Namespaced, kind.pending, kind.unknown
	// What only the API server writes. A manifest has it if it was read from a
	// cluster.
	unstructured.RemoveNestedField(e.Object.Object, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"} {
		unstructured.RemoveNestedField(e.Object.Object, "metadata", field)
	}
	if e.Namespaced && e.Object.GetNamespace() == "" {
		e.Object.SetNamespace(r.namespace)
	} else if !e.Namespaced {
		// Charts like to write it everywhere; kubectl overlooks it, too.
		e.Object.SetNamespace("")
	}
	for _, field := range []string{"labels", "annotations"} {
		if err := textsOnly(e.Object, field); err != nil {
			return nil, fmt.Errorf("%s: %w", e.ref(), err)
		}
	}
	if e.kind() == kube.Secret {
		if err := encodeData(e.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", e.ref(), err)
		}
	}
	return e, nil
}

// textsOnly drops the entries of metadata that are null, which say nothing, and
// refuses others that are no text: an unquoted "true" or "1.0".
func textsOnly(object *unstructured.Unstructured, field string) error {
	path := []string{"metadata", field}
	value, set, err := unstructured.NestedFieldNoCopy(object.Object, path...)
	if err != nil {
		return errors.New("metadata is not a mapping")
	}
	if !set || value == nil {
		unstructured.RemoveNestedField(object.Object, path...)
		return nil
	}
	entries, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("metadata.%s is not a mapping", field)
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		switch entries[name].(type) {
		case string:
		case nil:
			delete(entries, name)
		default:
			return fmt.Errorf("metadata.%s: the value of %s is not a text; put it in quotes", field, name)
		}
	}
	return nil
}

// encodeData moves the stringData of a Secret to its data. The API server does
// so by itself, but then nobody owns the fields of data and nothing removes them.
// The annotation that kubectl keeps manifests in holds the values once more.
func encodeData(secret *unstructured.Unstructured) error {
	data := map[string]any{}
	for _, field := range []string{"data", "stringData"} {
		values, _, err := unstructured.NestedMap(secret.Object, field)
		if err != nil {
			return fmt.Errorf("%s is not a mapping", field)
		}
		for name, value := range values {
			switch value := value.(type) {
			case nil: // Says nothing.
			case string:
				if field == "stringData" {
					value = base64.StdEncoding.EncodeToString([]byte(value))
				}
				data[name] = value
			default:
				// The API server would quote it.
				return fmt.Errorf("%s: the value of %s is not a text; put it in quotes", field, name)
			}
		}
	}
	delete(secret.Object, "stringData")
	delete(secret.Object, "data")
	if len(data) > 0 {
		secret.Object["data"] = data
	}
	annotations := secret.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	secret.SetAnnotations(annotations)
	return nil
}

// mark writes on an object whose it is. Namespaces are held instead: several
// releases may be in one.
func (r *Release) mark(e *entry) error {
	if e.kind() == kube.Namespace {
		return nil
	}
	return unstructured.SetNestedField(e.Object.Object, r.id(), "metadata", "annotations", Annotation)
}

// kindFinder finds the kinds of objects, those that CRDs among them define
// included.
type kindFinder struct {
	cluster   *kube.Cluster
	lenient   bool
	announced map[schema.GroupKind]*unstructured.Unstructured // CRDs among the objects
	found     map[schema.GroupVersionKind]foundKind
}

type foundKind struct {
	kube.Kind
	pending bool
	unknown bool // it may have another scope
}

// announce takes note of a kind that an object defines.
func (f *kindFinder) announce(object Object) {
	if object.GroupVersionKind() != kube.CustomResourceDefinition.GVK() {
		return
	}
	group, _, groupErr := unstructured.NestedString(object.Object, "spec", "group")
	kind, _, kindErr := unstructured.NestedString(object.Object, "spec", "names", "kind")
	if groupErr != nil || kindErr != nil || kind == "" {
		return // The API server will say what is wrong with it.
	}
	if f.announced == nil {
		f.announced = map[schema.GroupKind]*unstructured.Unstructured{}
	}
	f.announced[schema.GroupKind{Group: group, Kind: kind}] = object.Unstructured
}

func (f *kindFinder) find(ctx context.Context, object *unstructured.Unstructured) (foundKind, error) {
	gvk := object.GroupVersionKind()
	if known, ok := f.found[gvk]; ok {
		return known, nil
	}
	found, err := f.look(ctx, gvk, object)
	if err == nil {
		f.found[gvk] = found
	}
	return found, err
}

func (f *kindFinder) look(ctx context.Context, gvk schema.GroupVersionKind, object *unstructured.Unstructured) (foundKind, error) {
	crd, announced := f.announced[gvk.GroupKind()]
	if announced && slices.Contains(served(crd), gvk) {
		kind := kube.Kind{Group: gvk.Group, Version: gvk.Version, Name: gvk.Kind}
		scope, _, scopeErr := unstructured.NestedString(crd.Object, "spec", "scope")
		plural, _, pluralErr := unstructured.NestedString(crd.Object, "spec", "names", "plural")
		if scopeErr == nil && pluralErr == nil {
			kind.Resource, kind.Namespaced = plural, scope == "Namespaced"
			live, err := f.cluster.Find(ctx, kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()})
			if errors.Is(err, kube.ErrNotFound) {
				return foundKind{Kind: kind, pending: true}, nil
			}
			if err != nil {
				return foundKind{}, err
			}
			return foundKind{Kind: kind, pending: !slices.Contains(served(live), gvk)}, nil
		}
	}
	kind, err := f.cluster.KindFor(ctx, gvk)
	if f.lenient && meta.IsNoMatchError(err) {
		return foundKind{
			Kind:    kube.Kind{Group: gvk.Group, Version: gvk.Version, Name: gvk.Kind, Namespaced: object.GetNamespace() != ""},
			pending: true,
			unknown: true,
		}, nil
	}
	return foundKind{Kind: kind}, err
}

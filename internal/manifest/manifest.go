// Package manifest reads the objects of Kubernetes manifests, and sets labels and
// annotations in them. It leaves every other byte as it is: comments, order of
// keys, quoting, indentation, line ends, the marks between documents. It knows
// where objects keep their metadata and their pod templates, not what is to be
// written there.
package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// An Edit is what one object is to say. Its zero value asks for nothing.
type Edit struct {
	// At is the way from the object to what carries the metadata: nothing for
	// the object itself, [TemplatePath] for its pods.
	At          []string
	Labels      map[string]string
	Annotations map[string]string
}

// TemplatePath returns where objects of a kind keep the template of their pods;
// a Pod is its own. It is false for kinds of which Kubernetes makes no pods.
func TemplatePath(kind schema.GroupKind) ([]string, bool) {
	switch kind {
	case schema.GroupKind{Kind: "Pod"}:
		return nil, true
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	case schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"},
		schema.GroupKind{Kind: "ReplicationController"}:
		return []string{"spec", "template"}, true
	default:
		return nil, false
	}
}

// Apply makes the edit in an object. It is an error if there is nothing at the
// place of the edit, or something else than metadata.
func (e Edit) Apply(object *unstructured.Unstructured) error { return e.apply(object.Object) }

func (e Edit) apply(object map[string]any) error {
	if len(e.Labels)+len(e.Annotations) == 0 {
		return nil
	}
	carrier := object
	for i, key := range e.At {
		next, ok := carrier[key].(map[string]any)
		if !ok {
			return misfit(strings.Join(e.At[:i+1], "."), carrier[key])
		}
		carrier = next
	}
	at := strings.Join(append(slices.Clone(e.At), "metadata"), ".")
	metadata, err := mappingIn(carrier, "metadata", at)
	if err != nil {
		return err
	}
	for name, values := range map[string]map[string]string{"labels": e.Labels, "annotations": e.Annotations} {
		if len(values) == 0 {
			continue
		}
		have, err := mappingIn(metadata, name, at+"."+name)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			switch have[key].(type) {
			case map[string]any, []any:
				return fmt.Errorf("%s.%s: %s has no plain value, as the API server demands; give it a string", at, name, key)
			}
			have[key] = values[key]
		}
	}
	return nil
}

// lacking is what an object does not say yet of the edit, as the nested mappings
// that it would be in.
func (e Edit) lacking(object map[string]any) map[string]any {
	metadata := map[string]any{}
	for name, values := range map[string]map[string]string{"labels": e.Labels, "annotations": e.Annotations} {
		lacking := map[string]any{}
		for key, want := range values {
			at := append(slices.Clone(e.At), "metadata", name, key)
			if have, _, _ := unstructured.NestedFieldNoCopy(object, at...); have != any(want) {
				lacking[key] = want
			}
		}
		if len(lacking) > 0 {
			metadata[name] = lacking
		}
	}
	if len(metadata) == 0 {
		return nil
	}
	whole := map[string]any{"metadata": metadata}
	for _, key := range slices.Backward(e.At) {
		whole = map[string]any{key: whole}
	}
	return whole
}

// mappingIn returns the mapping under a key, and makes one if there is nothing.
func mappingIn(parent map[string]any, key, at string) (map[string]any, error) {
	switch value := parent[key].(type) {
	case map[string]any:
		return value, nil
	case nil:
		made := map[string]any{}
		parent[key] = made
		return made, nil
	default:
		return nil, misfit(at, value)
	}
}

func misfit(at string, value any) error {
	if value == nil {
		return fmt.Errorf("%s is missing: there is nothing to put labels or annotations on", at)
	}
	return fmt.Errorf("%s is not a mapping; correct the manifest", at)
}

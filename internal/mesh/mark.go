package mesh

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A Mark is what tells a mesh's injector to act: labels and annotations of a
// namespace or of a pod template.
type Mark struct {
	Labels      map[string]string
	Annotations map[string]string
}

// MarkOf returns the labels and annotations of an object.
func MarkOf(object metav1.Object) Mark {
	return Mark{Labels: object.GetLabels(), Annotations: object.GetAnnotations()}
}

// lacks reports whether another mark lacks anything of this one, or has it with
// another value.
func (m Mark) lacks(in Mark) bool {
	return len(m.lacking(in, func(string) bool { return true })) > 0
}

// lacking says, in order, what of the mark another one lacks or has with
// another value, without the values of secret keys.
func (m Mark) lacking(in Mark, secret func(key string) bool) []string {
	var missing []string
	compare := func(kind string, want, have map[string]string) {
		for key, value := range want {
			switch got, ok := have[key]; {
			case !ok:
				missing = append(missing, fmt.Sprintf("%s %s is missing", kind, key))
			case got != value && secret(key):
				missing = append(missing, fmt.Sprintf("%s %s is not the same", kind, key))
			case got != value:
				missing = append(missing, fmt.Sprintf("%s %s is %q instead of %q", kind, key, got, value))
			}
		}
	}
	compare("label", m.Labels, in.Labels)
	compare("annotation", m.Annotations, in.Annotations)
	slices.Sort(missing)
	return missing
}

// keys are those of the mark's labels and annotations, in order.
func (m Mark) keys() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for _, part := range []map[string]string{m.Labels, m.Annotations} {
			for key := range part {
				if !yield(key) {
					return
				}
			}
		}
	})
}

// common is the part of the mark that another one has with the same values.
func (m Mark) common(other Mark) Mark {
	differs := func(in map[string]string) func(key, value string) bool {
		return func(key, value string) bool {
			got, ok := in[key]
			return !ok || got != value
		}
	}
	both := Mark{Labels: maps.Clone(m.Labels), Annotations: maps.Clone(m.Annotations)}
	maps.DeleteFunc(both.Labels, differs(other.Labels))
	maps.DeleteFunc(both.Annotations, differs(other.Annotations))
	return both
}

// replaceMark takes one mark from an object and puts another there.
func replaceMark(object metav1.Object, before, after Mark) {
	replace := func(have, before, after map[string]string) map[string]string {
		have = maps.Clone(have)
		if have == nil {
			have = map[string]string{}
		}
		for key := range before {
			delete(have, key)
		}
		maps.Copy(have, after)
		return have
	}
	object.SetLabels(replace(object.GetLabels(), before.Labels, after.Labels))
	object.SetAnnotations(replace(object.GetAnnotations(), before.Annotations, after.Annotations))
}

// onto writes the mark into the metadata of an object, given as fields.
func (m Mark) onto(object map[string]any, metadata ...string) error {
	for part, values := range map[string]map[string]string{"labels": m.Labels, "annotations": m.Annotations} {
		for key, value := range values {
			if err := unstructured.SetNestedField(object, value, slices.Concat(metadata, []string{part, key})...); err != nil {
				return err
			}
		}
	}
	return nil
}

package mesh

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// held tells by whom the labels and annotations in one metadata of an object are
// managed, and their values; by the name of the field manager.
func held(object *unstructured.Unstructured, metadata ...string) map[string]Mark {
	path := make([]string, len(metadata))
	for i, part := range metadata {
		path[i] = "f:" + part
	}
	by := map[string]Mark{}
	for _, entry := range object.GetManagedFields() {
		var fields map[string]any
		if entry.FieldsV1 == nil || json.Unmarshal([]byte(entry.FieldsV1.GetRawString()), &fields) != nil {
			continue
		}
		mark := by[entry.Manager]
		for part, of := range map[string]*map[string]string{"labels": &mark.Labels, "annotations": &mark.Annotations} {
			values, _, _ := unstructured.NestedStringMap(object.Object, slices.Concat(metadata, []string{part})...)
			managed, _, _ := unstructured.NestedMap(fields, slices.Concat(path, []string{"f:" + part})...)
			for name := range managed {
				key, field := strings.CutPrefix(name, "f:")
				if value, there := values[key]; field && there {
					if *of == nil {
						*of = map[string]string{}
					}
					(*of)[key] = value
				}
			}
		}
		by[entry.Manager] = mark
	}
	return by
}

// replaced is what an apply of the target takes away before it puts its own
// there: what was written by this provider, and by nobody else besides.
func (t Target) replaced(live *unstructured.Unstructured) Mark {
	by := held(live, t.metadata()...)
	ours := by[EnrolmentManager]
	delete(by, EnrolmentManager)
	for _, other := range by {
		for key := range other.Labels {
			delete(ours.Labels, key)
		}
		for key := range other.Annotations {
			delete(ours.Annotations, key)
		}
	}
	return ours
}

// metadata is where the object of the target carries its mark.
func (t Target) metadata() []string {
	if t.WholeNamespace() {
		return []string{"metadata"}
	}
	return []string{"spec", "template", "metadata"}
}

// keeps says which of the keys are still at the object, and by whose hand.
func (t Target) keeps(live *unstructured.Unstructured, keys []string) []string {
	var lines []string
	by := held(live, t.metadata()...)
	for _, key := range keys {
		var managers []string
		for manager, mark := range by {
			if slices.Contains(mark.keys(), key) {
				managers = append(managers, manager)
			}
		}
		if len(managers) > 0 {
			slices.Sort(managers)
			lines = append(lines, key+", managed by "+strings.Join(managers, " and "))
		}
	}
	return lines
}

// fieldsOf are the fields of the target that a mark is written to, as conflicts
// name them, and that of its token.
func (t Target) fieldsOf(mark Mark) []string {
	at := "." + strings.Join(t.metadata(), ".")
	fields := []string{".metadata.annotations." + TokenAnnotation}
	for key := range mark.Labels {
		fields = append(fields, at+".labels."+key)
	}
	for key := range mark.Annotations {
		fields = append(fields, at+".annotations."+key)
	}
	return fields
}

// tokenOf is the token of the enrolment that an object bears; empty if it bears
// none.
func tokenOf(object interface{ GetAnnotations() map[string]string }) string {
	return object.GetAnnotations()[TokenAnnotation]
}

// enrolled reports whether this provider has marked an object that is there.
func enrolled(live *unstructured.Unstructured) bool {
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == EnrolmentManager {
			return true
		}
	}
	return false
}

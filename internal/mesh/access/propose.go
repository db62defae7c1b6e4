package access

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Propose is the objects of one kind as they would be: with the proposed ones,
// each in place of the one of its namespace and name.
func Propose[T metav1.Object](live, proposed []T) []T {
	kept := slices.DeleteFunc(slices.Clone(live), func(object T) bool {
		return slices.ContainsFunc(proposed, func(other T) bool {
			return other.GetNamespace() == object.GetNamespace() && other.GetName() == object.GetName()
		})
	})
	return append(kept, proposed...)
}

// OfKind are the objects of that kind, of whichever version.
func OfKind(objects []*unstructured.Unstructured, kind schema.GroupKind) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, object := range objects {
		if object.GroupVersionKind().GroupKind() == kind {
			found = append(found, object)
		}
	}
	return found
}

package kube

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// Object returns a new object with nothing but the identity of the reference:
// what a server-side apply begins with.
func (r Ref) Object() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(r.Kind.GVK())
	object.SetNamespace(r.Namespace)
	object.SetName(r.Name)
	return object
}

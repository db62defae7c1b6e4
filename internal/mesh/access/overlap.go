package access

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// An Overlap is an object of a mesh that is not a protection's own, and that decides
// who reaches the same pods.
type Overlap struct {
	Object *unstructured.Unstructured
	// Ports of the protection that it decides about; none means all.
	Ports []int32
	// Refused says that the mesh does not take the protection's own object for these
	// ports beside it.
	Refused bool
	// Effect says what comes of both, as the end of a sentence that begins with the
	// object.
	Effect string
}

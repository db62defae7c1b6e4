package release

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// entry is one object of a release, in the form in which it is applied, compared
// and kept on record.
type entry struct {
	Object     *unstructured.Unstructured `json:"object"`
	Resource   string                     `json:"resource"`
	Namespaced bool                       `json:"namespaced,omitempty"`
	UID        types.UID                  `json:"uid,omitempty"`     // of the object that was applied last
	Applied    bool                       `json:"applied,omitempty"` // just as it is here

	// Template is a hash of the pod template of a Job before it was transformed.
	Template string `json:"template,omitempty"`

	source  string // where it was read; empty if from the record
	pending bool   // its kind is not served yet
	unknown bool   // nor does anything of the release say how it will be
	before  *entry // as it was applied before; nil if it was not
	settled bool   // it was completely applied before as it is now
}

func (e *entry) kind() kube.Kind {
	gvk := e.Object.GroupVersionKind()
	return kube.Kind{Group: gvk.Group, Version: gvk.Version, Name: gvk.Kind, Resource: e.Resource, Namespaced: e.Namespaced}
}

func (e *entry) ref() kube.Ref {
	return kube.Ref{Kind: e.kind(), Namespace: e.Object.GetNamespace(), Name: e.Object.GetName()}
}

// key tells objects apart. The version is no part of it: an object is the same
// in all versions of its kind.
type key struct{ group, kind, namespace, name string }

func (e *entry) key() key {
	gvk := e.Object.GroupVersionKind()
	return key{gvk.Group, gvk.Kind, e.Object.GetNamespace(), e.Object.GetName()}
}

// identity is the entry without the content of its object, for what is only to
// be deleted some day.
func (e *entry) identity() *entry {
	rest := *e
	rest.Object = e.ref().Object()
	if e.keep() {
		rest.Object.SetAnnotations(map[string]string{policyAnnotation: policyKeep})
	}
	return &rest
}

// By this annotation an object outlives its release, with Helm as here.
const (
	policyAnnotation = "helm.sh/resource-policy"
	policyKeep       = "keep"
)

func (e *entry) keep() bool { return e.Object.GetAnnotations()[policyAnnotation] == policyKeep }

package install

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// renderedObject is one object of a release, where it is in the cluster.
type renderedObject struct {
	ref     kube.Ref
	written *unstructured.Unstructured
	// unserved reports a kind that the cluster does not serve yet; unknown that
	// nothing says whether it is namespaced.
	unserved, unknown bool
}

// objectKey is what an object keeps from one version of its kind to another: it
// would be found under either.
type objectKey struct {
	kind            schema.GroupKind
	namespace, name string
}

func (o renderedObject) key() objectKey {
	return objectKey{o.written.GroupVersionKind().GroupKind(), o.ref.Namespace, o.ref.Name}
}

func (c Charts) objectsOf(ctx context.Context, rendered *helm.Rendered, namespace string, coming scopes) ([]renderedObject, error) {
	objects, err := rendered.Objects()
	if err != nil {
		return nil, err
	}
	found := make([]renderedObject, 0, len(objects))
	for _, object := range objects {
		located, err := c.locate(ctx, object, namespace, coming)
		if err != nil {
			return nil, err
		}
		found = append(found, located)
	}
	return found, nil
}

// locate finds where an object of a release is in the cluster.
func (c Charts) locate(ctx context.Context, object *unstructured.Unstructured, namespace string, coming scopes) (renderedObject, error) {
	gvk := object.GroupVersionKind()
	located := renderedObject{written: object}
	kind, err := c.Cluster.KindFor(ctx, gvk)
	if meta.IsNoMatchError(err) {
		namespaced, comes := coming[gvk.GroupKind()]
		kind = kube.Kind{Group: gvk.Group, Version: gvk.Version, Name: gvk.Kind, Namespaced: namespaced || object.GetNamespace() != ""}
		located.unserved, located.unknown = true, !comes && !kind.Namespaced
	} else if err != nil {
		return renderedObject{}, err
	}
	located.ref = kube.Ref{Kind: kind, Name: object.GetName()}
	if kind.Namespaced {
		located.ref.Namespace = cmp.Or(object.GetNamespace(), namespace)
	}
	return located, nil
}

// scopes are the kinds that come with what is about to be deployed, and whether
// they are namespaced.
type scopes map[schema.GroupKind]bool

func (s scopes) learn(rendered *helm.Rendered) error {
	for _, text := range append([]string{rendered.Manifest}, rendered.CRDs...) {
		all := helm.Rendered{Manifest: text}
		objects, err := all.Objects()
		if err != nil {
			return err
		}
		for _, object := range objects {
			if object.GetKind() != kube.CustomResourceDefinition.Name {
				continue
			}
			field := func(path ...string) string {
				// What is no text here, the API server refuses.
				text, _, _ := unstructured.NestedString(object.Object, append([]string{"spec"}, path...)...)
				return text
			}
			s[schema.GroupKind{Group: field("group"), Kind: field("names", "kind")}] = field("scope") == "Namespaced"
		}
	}
	return nil
}

package install

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// CountObjects counts the objects of CRDs by kind; kinds without any are left out.
func (c Charts) CountObjects(ctx context.Context, crds []*unstructured.Unstructured) (map[string]int, error) {
	found := map[string]int{}
	for _, crd := range crds {
		group, _, err := unstructured.NestedString(crd.Object, "spec", "group")
		if err != nil {
			return nil, fmt.Errorf("CustomResourceDefinition %s: %w", crd.GetName(), err)
		}
		name, _, err := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		if err != nil {
			return nil, fmt.Errorf("CustomResourceDefinition %s: %w", crd.GetName(), err)
		}
		kind, err := c.Cluster.KindFor(ctx, schema.GroupVersionKind{Group: group, Version: servedVersion(crd), Kind: name})
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		objects, err := c.Cluster.List(ctx, kind, "")
		if err != nil {
			return nil, err
		}
		if len(objects) > 0 {
			found[name+"."+group] = len(objects)
		}
	}
	return found, nil
}

// servedVersion is one in which the objects of a CRD can be read.
func servedVersion(crd *unstructured.Unstructured) string {
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		return ""
	}
	for _, v := range slices.Backward(versions) {
		if fields, ok := v.(map[string]any); ok && fields["served"] == true {
			name, _ := fields["name"].(string)
			return name
		}
	}
	return ""
}

// Counts lists counts in words: "2 ServiceProfile.linkerd.io, 1 Server.policy.linkerd.io".
func Counts(counts map[string]int) string {
	var words []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(words, ", ")
}

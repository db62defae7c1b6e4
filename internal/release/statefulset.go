package release

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// unadoptable says why a StatefulSet would not take over the pods of the one it
// replaces, or "". Pods that its selector does not match would go on without a
// controller, and keep new ones from being made by their names.
func (r *Release) unadoptable(ctx context.Context, e *entry) (string, error) {
	selector, err := selectorOf(e.Object)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // It is the reason.
	}
	pods, err := r.releases.Cluster.PodsOf(ctx, e.ref())
	if err != nil {
		return "", err
	}
	for _, pod := range pods {
		if !selector.Matches(labels.Set(pod.Labels)) {
			return fmt.Sprintf("its new selector does not match the labels of Pod %s/%s, which would be left without a controller. "+
				"Change the selector back, or delete the StatefulSet by hand with its pods (its volume claims stay) and apply again", pod.Namespace, pod.Name), nil
		}
	}
	return "", nil
}

func selectorOf(object *unstructured.Unstructured) (labels.Selector, error) {
	wanted, _, err := unstructured.NestedMap(object.Object, "spec", "selector")
	if err != nil {
		return nil, err
	}
	typed := &metav1.LabelSelector{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(wanted, typed); err != nil {
		return nil, fmt.Errorf("spec.selector: %w", err)
	}
	return metav1.LabelSelectorAsSelector(typed)
}

// claimsOf returns the volume claims that the controller has made for a
// StatefulSet.
func (r *Release) claimsOf(ctx context.Context, e *entry) ([]kube.Ref, error) {
	templates, _, err := unstructured.NestedSlice(e.Object.Object, "spec", "volumeClaimTemplates")
	if e.kind() != kube.StatefulSet || err != nil || len(templates) == 0 {
		return nil, nil //nolint:nilerr // Such a StatefulSet was never accepted, so it has none.
	}
	claims, err := r.claims(ctx, e.Object.GetNamespace())
	if err != nil {
		return nil, err
	}
	var made []kube.Ref
	for _, claim := range claims {
		for _, template := range templates {
			fields, ok := template.(map[string]any)
			if !ok {
				continue
			}
			name, _, err := unstructured.NestedString(fields, "metadata", "name")
			if err == nil && isOrdinal(strings.TrimPrefix(claim.Name, name+"-"+e.Object.GetName()+"-")) {
				made = append(made, claim)
			}
		}
	}
	return made, nil
}

func isOrdinal(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// claims returns all volume claims of a namespace.
func (r *Release) claims(ctx context.Context, namespace string) ([]kube.Ref, error) {
	found, err := r.releases.Cluster.List(ctx, persistentVolumeClaim, namespace)
	if err != nil {
		return nil, err
	}
	refs := make([]kube.Ref, len(found))
	for i, claim := range found {
		refs[i] = kube.Ref{Kind: persistentVolumeClaim, Namespace: claim.GetNamespace(), Name: claim.GetName()}
	}
	return refs, nil
}

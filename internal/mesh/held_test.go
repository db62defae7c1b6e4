package mesh

import (
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

func TestHeld(t *testing.T) {
	t.Parallel()
	entry := func(manager, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
	}
	live := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{TokenAnnotation: "t"}},
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"labels":      map[string]any{"app": "web", "team": "a"},
			"annotations": map[string]any{"ours": "1", "both": "2", "theirs": "3"},
		}}},
	}}
	live.SetManagedFields([]metav1.ManagedFieldsEntry{
		entry(EnrolmentManager, `{"f:metadata":{"f:annotations":{"f:aksmesh.io/enrolment":{}}},
			"f:spec":{"f:template":{"f:metadata":{"f:labels":{"f:team":{}},"f:annotations":{".":{},"f:ours":{},"f:both":{},"f:gone":{}}}}}}`),
		entry("kubectl", `{"f:spec":{"f:template":{"f:metadata":{"f:annotations":{"f:both":{}}}}}}`),
		entry("helm", `{"f:spec":{"f:template":{"f:metadata":{"f:labels":{"f:app":{}},"f:annotations":{"f:both":{},"f:theirs":{}}}}}}`),
		entry("odd", `{"f:spec":[]}`),
		{Manager: "empty"},
	})
	target := Target{Namespace: "shop", Workload: kube.Ref{Kind: kube.Deployment, Namespace: "shop", Name: "web"}}
	want := Mark{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"ours": "1"}}
	if got := target.replaced(live); !reflect.DeepEqual(got, want) {
		t.Errorf("replaced: %v", got)
	}
	lines := []string{"both, managed by aksmesh-injection and helm and kubectl", "theirs, managed by helm"}
	if got := target.keeps(live, []string{"both", "gone", "theirs"}); !slices.Equal(got, lines) {
		t.Errorf("kept: %q", got)
	}
	if !enrolled(live) || tokenOf(live) != "t" {
		t.Errorf("enrolled %t, token %q", enrolled(live), tokenOf(live))
	}
	fields := []string{".metadata.annotations.aksmesh.io/enrolment", ".spec.template.metadata.labels.team", ".spec.template.metadata.annotations.ours"}
	if got := target.fieldsOf(want); !slices.Equal(got, fields) {
		t.Errorf("fields: %q", got)
	}
}

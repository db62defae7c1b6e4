package release

import (
	"encoding/json"
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// scales reports kinds of which the number of pods can be left to others.
func scales(kind kube.Kind) bool {
	return slices.Contains([]kube.Kind{kube.Deployment, kube.StatefulSet, kube.ReplicaSet}, kind)
}

// leaveReplicas takes the number of replicas out of workloads that an autoscaler
// among the objects scales. Charts often set both, and they would undo each
// other's changes.
func leaveReplicas(entries []*entry) {
	type target struct{ namespace, kind, name string }
	scaled := map[target]bool{}
	for _, e := range entries {
		if gvk := e.Object.GroupVersionKind(); gvk.Group != "autoscaling" || gvk.Kind != "HorizontalPodAutoscaler" {
			continue
		}
		kind, _, kindErr := unstructured.NestedString(e.Object.Object, "spec", "scaleTargetRef", "kind")
		name, _, nameErr := unstructured.NestedString(e.Object.Object, "spec", "scaleTargetRef", "name")
		if errors.Join(kindErr, nameErr) == nil {
			scaled[target{e.Object.GetNamespace(), kind, name}] = true
		}
	}
	for _, e := range entries {
		if scales(e.kind()) && scaled[target{e.Object.GetNamespace(), e.kind().Name, e.Object.GetName()}] {
			unstructured.RemoveNestedField(e.Object.Object, "spec", "replicas")
		}
	}
}

// keepingReplicas is what is applied of an entry whose live object is known. Who
// gives up the number of replicas while nobody else has set it would have the API
// server put its default there: one pod, until an autoscaler acts.
func keepingReplicas(e *entry, live *unstructured.Unstructured) *unstructured.Unstructured {
	if !setsReplicas(live) {
		return e.Object
	}
	kept := e.Object.DeepCopy()
	if err := unstructured.SetNestedField(kept.Object, replicasOf(live), "spec", "replicas"); err != nil {
		return e.Object // Its spec is no mapping, as the API server will say.
	}
	return kept
}

// leavesReplicas reports workloads whose number of pods is left to others.
func (e *entry) leavesReplicas() bool { return scales(e.kind()) && replicasOf(e.Object) == nil }

func replicasOf(object *unstructured.Unstructured) any {
	value, _, err := unstructured.NestedFieldNoCopy(object.Object, "spec", "replicas")
	if err != nil {
		return nil
	}
	return value
}

// setsReplicas reports whether it is by our word that an object has its number
// of replicas.
func setsReplicas(live *unstructured.Unstructured) bool {
	for _, managed := range live.GetManagedFields() {
		if managed.Manager != Manager || managed.Operation != metav1.ManagedFieldsOperationApply || managed.Subresource != "" || managed.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if err := json.Unmarshal(managed.FieldsV1.GetRawBytes(), &fields); err != nil {
			continue
		}
		if _, sets := fields.Spec["f:replicas"]; sets {
			return true
		}
	}
	return false
}

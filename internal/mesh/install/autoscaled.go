package install

import (
	"cmp"
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// yielding takes over into objects what others are to set in them: by a table,
// and the replicas of workloads that an autoscaler scales, be it somebody's own
// or KEDA's, which works by such objects too. A chart that has an autoscaler of
// its own says no replicas beside it.
type yielding struct {
	charts          Charts
	ctx             context.Context // What calls it knows of no contexts.
	yields          kube.Yields
	former          map[objectKey]*unstructured.Unstructured // what the release has put there
	namespace, name string                                   // of the release
}

// yielding is for a release that has what is on record of it in the cluster, nil
// being nothing.
func (c Charts) yielding(ctx context.Context, yields kube.Yields, namespace, name string, record *helm.Release) (*yielding, error) {
	y := &yielding{charts: c, ctx: ctx, yields: yields, namespace: namespace, name: name, former: map[objectKey]*unstructured.Unstructured{}}
	if record == nil {
		return y, nil
	}
	objects, err := record.Objects()
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	for _, object := range objects {
		y.former[y.key(object)] = object
	}
	return y, nil
}

func (y *yielding) key(object *unstructured.Unstructured) objectKey {
	return objectKey{object.GroupVersionKind().GroupKind(), cmp.Or(object.GetNamespace(), y.namespace), object.GetName()}
}

func (y *yielding) to(live, wanted *unstructured.Unstructured) error {
	y.yields.To(y.former[y.key(wanted)], live, wanted)
	kind := wanted.GroupVersionKind()
	if kind != kube.Deployment.GVK() && kind != kube.StatefulSet.GVK() {
		return nil
	}
	wants, set, _ := unstructured.NestedFieldNoCopy(wanted.Object, "spec", "replicas")
	has, exists, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", "replicas")
	if !set || !exists || wants == has {
		return nil
	}
	scaled, err := y.autoscaled(kind.GroupKind(), cmp.Or(wanted.GetNamespace(), y.namespace), wanted.GetName())
	if err != nil || !scaled {
		return err
	}
	return unstructured.SetNestedField(wanted.Object, has, "spec", "replicas")
}

// autoscaled tells whether a HorizontalPodAutoscaler of others scales a workload.
// If the credentials may see none, one may: replicas that are there are less to
// be wondered at than a workload that is scaled down under load.
func (y *yielding) autoscaled(kind schema.GroupKind, namespace, name string) (bool, error) {
	scalers, err := y.charts.Cluster.List(y.ctx, kube.HorizontalPodAutoscaler, namespace)
	if apierrors.IsForbidden(err) {
		y.charts.log("replicas stay as they are: autoscalers may not be seen", map[string]any{"namespace": namespace, "workload": name, "reason": err.Error()})
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, scaler := range scalers {
		// A target that is none is not scaled.
		target, _, _ := unstructured.NestedStringMap(scaler.Object, "spec", "scaleTargetRef")
		group, _ := schema.ParseGroupVersion(target["apiVersion"])
		_, foreign := helm.Foreign(scaler, y.namespace, y.name, false)
		if foreign && group.Group == kind.Group && target["kind"] == kind.Kind && target["name"] == name {
			return true, nil
		}
	}
	return false, nil
}

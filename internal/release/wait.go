package release

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// storageClass is the kind that says when claims are bound.
var storageClass = kube.Kind{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses", Name: "StorageClass"}

// await waits as Helm does: until workloads are rolled out, pods ready, claims
// bound, load balancers reachable and, if told, Jobs complete.
func (r *Release) await(ctx context.Context, entries []*entry, jobs bool) error {
	var rollouts, others []kube.Ref
	for _, e := range entries {
		switch kind := e.kind(); {
		case slices.Contains(kube.WorkloadKinds(), kind), kind == kube.Pod, kind == kube.Job && jobs:
			rollouts = append(rollouts, e.ref())
		case kind == kube.Service, kind == persistentVolumeClaim:
			others = append(others, e.ref())
		}
	}
	r.log("waiting", map[string]any{"workloads": len(rollouts), "services and claims": len(others)})
	if len(rollouts) > 0 {
		if err := r.releases.Cluster.AwaitReady(ctx, rollouts...); err != nil {
			return err
		}
	}
	if len(others) == 0 {
		return nil
	}
	return r.releases.Cluster.Await(ctx, "", []kube.Kind{kube.Service, persistentVolumeClaim}, func(ctx context.Context) (string, error) {
		var waiting []string
		for _, ref := range others {
			live, err := r.releases.Cluster.Find(ctx, ref)
			if err != nil {
				return "", err
			}
			lacks, err := r.lacks(ctx, ref, live)
			if err != nil {
				return "", err
			}
			if lacks != "" {
				waiting = append(waiting, ref.String()+": "+lacks)
			}
		}
		return strings.Join(waiting, ", "), nil
	})
}

// lacks says what a Service or a claim lacks to be of use, or "".
func (r *Release) lacks(ctx context.Context, ref kube.Ref, live *unstructured.Unstructured) (string, error) {
	if ref.Kind == kube.Service {
		kind, _, err := unstructured.NestedString(live.Object, "spec", "type")
		if err != nil || kind != string(corev1.ServiceTypeLoadBalancer) {
			return "", err
		}
		addresses, _, err := unstructured.NestedSlice(live.Object, "status", "loadBalancer", "ingress")
		if err != nil || len(addresses) > 0 {
			return "", err
		}
		return "no address yet", nil
	}
	phase, _, err := unstructured.NestedString(live.Object, "status", "phase")
	if err != nil || phase == string(corev1.ClaimBound) {
		return "", err
	}
	// Such a claim is bound when a pod uses it, which may be never.
	name, _, err := unstructured.NestedString(live.Object, "spec", "storageClassName")
	if err != nil || name == "" {
		return "not bound yet", err
	}
	class, err := r.releases.Cluster.Find(ctx, kube.Ref{Kind: storageClass, Name: name})
	if err != nil {
		return "not bound yet: its storage class: " + err.Error(), nil //nolint:nilerr // It may be made later.
	}
	if mode, _, err := unstructured.NestedString(class.Object, "volumeBindingMode"); err != nil || mode == "WaitForFirstConsumer" {
		return "", err
	}
	return "not bound yet", nil
}

package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// storageClass is the kind that says when claims are bound.
var storageClass = kube.Kind{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses", Name: "StorageClass"}

// rolloutPatience is how long pods may fail to start without any progress: it
// takes minutes until a registry lets nodes in whose role was assigned just now,
// and programs end again and again until the database that they need is up.
const rolloutPatience = 5 * time.Minute

// awaitKinds waits until the kinds that CRDs define are served and can be
// discovered, which is a little later.
func (r *Release) awaitKinds(ctx context.Context, crds []*entry) error {
	refs := make([]kube.Ref, len(crds))
	for i, e := range crds {
		refs[i] = e.ref()
	}
	if err := r.releases.Cluster.AwaitReady(ctx, refs...); err != nil {
		return err
	}
	r.releases.Cluster.Mapper().Reset()
	return r.releases.Cluster.Await(ctx, "", nil, func(ctx context.Context) (string, error) {
		for _, e := range crds {
			for _, gvk := range served(e.Object) {
				if _, err := r.releases.Cluster.KindFor(ctx, gvk); meta.IsNoMatchError(err) {
					return e.ref().String() + " to be discovered", nil
				} else if err != nil {
					return "", err
				}
			}
		}
		return "", nil
	})
}

// served returns the kinds that a CRD says are to be served.
func served(crd *unstructured.Unstructured) []schema.GroupVersionKind {
	group, _, groupErr := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, kindErr := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	versions, _, versionsErr := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if errors.Join(groupErr, kindErr, versionsErr) != nil {
		return nil
	}
	var kinds []schema.GroupVersionKind
	for _, entry := range versions {
		fields, ok := entry.(map[string]any)
		if version, named := fields["name"].(string); ok && named && fields["served"] == true {
			kinds = append(kinds, schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
		}
	}
	return kinds
}

// await waits as Helm does: until workloads are rolled out, pods ready, claims
// bound, load balancers reachable and, if told, Jobs complete.
func (r *Release) await(ctx context.Context, entries []*entry, jobs bool) error {
	var rollouts []kube.Ref
	var others []*entry
	var kinds []kube.Kind
	for _, e := range entries {
		switch kind := e.kind(); {
		case slices.Contains(kube.WorkloadKinds(), kind):
			if paused, _, err := unstructured.NestedBool(e.Object.Object, "spec", "paused"); err != nil || !paused {
				rollouts = append(rollouts, e.ref())
			}
		case kind == kube.Pod, kind == kube.Service, kind == persistentVolumeClaim, kind == kube.Job && jobs:
			others = append(others, e)
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	r.log("waiting", map[string]any{"workloads": len(rollouts), "others": len(others)})
	if err := r.releases.Cluster.AwaitRollouts(ctx, rolloutPatience, r.log, rollouts...); err != nil || len(others) == 0 {
		return err
	}
	return r.releases.Cluster.Await(ctx, commonNamespace(others), kinds, func(ctx context.Context) (string, error) {
		var waiting []string
		for _, e := range others {
			ref := e.ref()
			live, err := r.releases.Cluster.Find(ctx, ref)
			if errors.Is(err, kube.ErrNotFound) && e.expires() {
				continue // It only goes when it has ended.
			}
			if err != nil {
				return "", err
			}
			lacks, err := r.lacks(ctx, ref, live)
			if err != nil {
				return "", fmt.Errorf("%s: %w", ref, err)
			}
			if lacks != "" {
				waiting = append(waiting, ref.String()+": "+lacks)
			}
		}
		return strings.Join(waiting, ", "), nil
	})
}

// commonNamespace is the one namespace of objects, or "" if they are in several.
func commonNamespace(entries []*entry) string {
	first := entries[0].Object.GetNamespace()
	if slices.ContainsFunc(entries, func(e *entry) bool { return e.Object.GetNamespace() != first }) {
		return ""
	}
	return first
}

// lacks says what an object lacks to be ready, or "".
func (r *Release) lacks(ctx context.Context, ref kube.Ref, live *unstructured.Unstructured) (string, error) {
	switch ref.Kind {
	case kube.Pod:
		return podLacks(live)
	case kube.Job:
		return jobLacks(live)
	case kube.Service:
		return serviceLacks(live)
	default:
		return r.claimLacks(ctx, live)
	}
}

func podLacks(live *unstructured.Unstructured) (string, error) {
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, pod); err != nil {
		return "", err
	}
	problem := kube.PodProblem(pod)
	switch pod.Status.Phase {
	case corev1.PodFailed:
		return "", fmt.Errorf("it failed: %s", problem)
	case corev1.PodSucceeded:
		return "", nil
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return "", nil
		}
	}
	return strings.TrimSuffix("not ready: "+problem, ": "), nil
}

func jobLacks(live *unstructured.Unstructured) (string, error) {
	job := &batchv1.Job{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, job); err != nil {
		return "", err
	}
	switch complete, failure := kube.JobOutcome(job); {
	case failure != "":
		return "", fmt.Errorf("it failed: %s", failure)
	case complete:
		return "", nil
	}
	return "not complete", nil
}

func serviceLacks(live *unstructured.Unstructured) (string, error) {
	kind, _, err := unstructured.NestedString(live.Object, "spec", "type")
	if err != nil || kind != string(corev1.ServiceTypeLoadBalancer) {
		return "", err
	}
	addresses, _, err := unstructured.NestedSlice(live.Object, "status", "loadBalancer", "ingress")
	if err != nil || len(addresses) > 0 {
		return "", err
	}
	return "no address", nil
}

func (r *Release) claimLacks(ctx context.Context, live *unstructured.Unstructured) (string, error) {
	phase, _, err := unstructured.NestedString(live.Object, "status", "phase")
	if err != nil || phase == string(corev1.ClaimBound) {
		return "", err
	}
	name, _, err := unstructured.NestedString(live.Object, "spec", "storageClassName")
	if err != nil || name == "" {
		return "not bound", err
	}
	class, err := r.releases.Cluster.Find(ctx, kube.Ref{Kind: storageClass, Name: name})
	if errors.Is(err, kube.ErrNotFound) {
		return "not bound: there is no storage class " + name, nil
	}
	if err != nil {
		return "", err
	}
	// Such a claim is bound when a pod uses it, which may be never.
	if mode, _, err := unstructured.NestedString(class.Object, "volumeBindingMode"); err != nil || mode == "WaitForFirstConsumer" {
		return "", err
	}
	return "not bound", nil
}

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The tests of this file hold what the API double of the others assumes against
// a real API server with its controllers.

var shared = testcluster.Shared{Options: testcluster.Options{AuditLog: true}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

func connect(t *testing.T) (*testcluster.Cluster, *kube.Cluster) {
	t.Helper()
	embedded := shared.Cluster(t)
	c, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	return embedded, c
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func configMap(ref kube.Ref, data map[string]any) *unstructured.Unstructured {
	o := ref.Object()
	o.Object["data"] = data
	return o
}

func TestAccApplyAndRelease(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: embedded.Namespace(t), Name: "c"}
	if _, err := c.Get(t.Context(), ref); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := c.Release(t.Context(), ref, "one"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("release: %v", err)
	}
	for manager, data := range map[string]map[string]any{"one": {"shared": "x", "a": "1"}, "two": {"shared": "x", "b": "2"}} {
		if _, err := c.Apply(t.Context(), configMap(ref, data), kube.ApplyOptions{Manager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Apply(t.Context(), configMap(ref, map[string]any{"a": "other"}), kube.ApplyOptions{Manager: "two"})
	var conflict *kube.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Managers, []string{"one"}) || !slices.Equal(conflict.Fields, []string{".data.a"}) {
		t.Errorf("conflict: %v", err)
	}
	forced, err := c.Apply(t.Context(), configMap(ref, map[string]any{"a": "other"}), kube.ApplyOptions{Manager: "two", Force: true, DryRun: true})
	if err != nil || fmt.Sprint(forced.Object["data"]) != "map[a:other shared:x]" {
		t.Errorf("forced: %v, %v", forced, err)
	}
	released, err := c.Release(t.Context(), ref, "one")
	if err != nil || fmt.Sprint(released.Object["data"]) != "map[b:2 shared:x]" {
		t.Errorf("released: %v, %v", released, err)
	}
	_, err = c.Apply(t.Context(), wrapped(ref, "dota", "typo"), kube.ApplyOptions{Manager: "one"})
	if err == nil || !strings.Contains(err.Error(), "dota") {
		t.Errorf("an unknown field: %v", err)
	}
	if err := c.Delete(t.Context(), ref, kube.DeleteOptions{UID: "other"}); !errors.Is(err, kube.ErrChanged) {
		t.Errorf("delete another: %v", err)
	}
	if err := c.Delete(t.Context(), ref, kube.DeleteOptions{UID: released.GetUID(), ResourceVersion: released.GetResourceVersion(), Wait: true}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := c.Delete(t.Context(), ref, kube.DeleteOptions{Wait: true}); err != nil {
		t.Errorf("delete again: %v", err)
	}
}

// What is changed in an object of somebody else's stays theirs: their next apply
// meets no conflict.
func TestAccAmendLeavesFieldsToTheirOwners(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: embedded.Namespace(t), Name: "c"}
	first, err := c.Apply(t.Context(), configMap(ref, map[string]any{"a": "1", "b": "1"}), kube.ApplyOptions{Manager: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	change := map[string]any{"data": map[string]any{"a": "2"}}
	amended, err := c.Amend(t.Context(), first, change, "guest")
	if err != nil || fmt.Sprint(amended.Object["data"]) != "map[a:2 b:1]" {
		t.Fatalf("amended: %v, %v", amended, err)
	}
	managers := amended.GetManagedFields()
	if len(managers) != 1 || managers[0].Manager != "owner" || managers[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managers %v", managers)
	}
	if _, err := c.Amend(t.Context(), first, change, "guest"); !errors.Is(err, kube.ErrChanged) {
		t.Errorf("a state that is over: %v", err)
	}
	applied, err := c.Apply(t.Context(), configMap(ref, map[string]any{"a": "3"}), kube.ApplyOptions{Manager: "owner"})
	if err != nil || fmt.Sprint(applied.Object["data"]) != "map[a:3]" {
		t.Errorf("applied: %v, %v", applied, err)
	}
}

// An aggregated API without a server keeps the API server from telling all kinds,
// but not those of others.
func TestAccKindsAreFoundBesideABrokenAPI(t *testing.T) {
	t.Parallel()
	embedded := testcluster.New(t, testcluster.Options{})
	c, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	broken := kube.Ref{Kind: kube.APIService, Name: "v1alpha1.tap.linkerd.io"}
	object := wrapped(broken, "spec", map[string]any{
		"group": "tap.linkerd.io", "version": "v1alpha1", "groupPriorityMinimum": int64(1000), "versionPriority": int64(100),
		"service": map[string]any{"name": "tap", "namespace": "none"}, "insecureSkipTLSVerify": true,
	})
	if _, err := c.Apply(ctx, object, kube.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: "things.example.com"}
	object = wrapped(crd, "spec", map[string]any{
		"group": "example.com", "scope": "Namespaced",
		"names": map[string]any{"plural": "things", "kind": "Thing"},
		"versions": []any{map[string]any{
			"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}},
		}},
	})
	if _, err := c.Apply(ctx, object, kube.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
	thing := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Thing"}
	err = c.Await(ctx, "", []kube.Kind{kube.CustomResourceDefinition}, func(ctx context.Context) (string, error) {
		kind, err := c.KindFor(ctx, thing)
		if meta.IsNoMatchError(err) {
			return "the kind to be served", nil
		}
		if err != nil {
			return "", err
		}
		if kind.Resource != "things" || !kind.Namespaced {
			return "", fmt.Errorf("kind %+v", kind)
		}
		return "", nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := c.KindFor(ctx, schema.GroupVersionKind{Group: "tap.linkerd.io", Version: "v1alpha1", Kind: "Tap"}); !meta.IsNoMatchError(err) {
		t.Errorf("a kind of the broken API: %v", err)
	}
	if found, err := c.Find(ctx, broken); err != nil || found.GetName() != broken.Name {
		t.Errorf("the broken API: %v", err)
	}
}

func wrapped(ref kube.Ref, field string, value any) *unstructured.Unstructured {
	o := ref.Object()
	o.Object[field] = value
	return o
}

func TestAccNotFound(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	namespace := embedded.Namespace(t)
	for _, ref := range []kube.Ref{
		{Kind: kube.Deployment, Namespace: namespace, Name: "none"},
		{Kind: kube.Deployment, Namespace: "no-such-namespace", Name: "none"},
		{Kind: kube.Secret, Namespace: namespace, Name: "none"},
		{Kind: kube.Namespace, Name: "no-such-namespace"},
		{Kind: kube.ClusterRole, Name: "none"},
		{Kind: kube.CustomResourceDefinition, Name: "none.example.com"},
		{Kind: kube.APIService, Name: "v1.none.example.com"},
	} {
		if _, err := c.Get(t.Context(), ref); !errors.Is(err, kube.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	missing := kube.Ref{Kind: kube.Kind{Group: "none.example.com", Version: "v1", Resource: "things", Name: "Thing", Namespaced: true}, Namespace: namespace, Name: "none"}
	if _, err := c.Get(t.Context(), missing); err == nil || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("of a kind that is not served: %v", err)
	}
	if _, err := c.Apply(t.Context(), configMap(kube.Ref{Kind: kube.ConfigMap, Namespace: "no-such-namespace", Name: "c"}, nil), kube.ApplyOptions{Manager: "m"}); err == nil || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("apply into nowhere: %v", err)
	}
}

func TestAccRestart(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	namespace := embedded.Namespace(t)
	embedded.CreateDeployment(t, namespace, "alpha", 3)
	ref := kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "alpha"}
	before, err := c.PodsOf(t.Context(), ref)
	if err != nil || len(before) != 3 {
		t.Fatalf("%d pods, %v", len(before), err)
	}
	ctx := within(t, 2*time.Minute)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 2 { // Once more changes nothing.
		if _, err := c.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{ref}}, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Workload(ctx, ref)
	if err != nil || w.Unfinished() != "" || w.Template.Annotations[kube.RestartAnnotation] != "2026-01-01T00:00:00Z" || w.Generation != 2 {
		t.Errorf("workload %+v, %v", w, err)
	}
	// Pods of the old template may still be ending.
	err = c.Await(ctx, namespace, []kube.Kind{kube.Pod, kube.ReplicaSet}, func(ctx context.Context) (string, error) {
		after, err := c.PodsOf(ctx, ref)
		if err != nil {
			return "", err
		}
		for _, p := range after {
			if slices.ContainsFunc(before, func(old *corev1.Pod) bool { return old.UID == p.UID }) {
				return "old pods to go", nil
			}
		}
		if len(after) != 3 {
			return fmt.Sprintf("3 new pods, there are %d", len(after)), nil
		}
		return "", nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAccATimeoutSaysWhy(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	namespace := embedded.Namespace(t)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}}}
	if _, err := embedded.Client().CoreV1().ResourceQuotas(namespace).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	deployment := testcluster.NewDeployment(namespace, "d", 1)
	stateful := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Spec:       appsv1.StatefulSetSpec{Selector: deployment.Spec.Selector, Template: deployment.Spec.Template},
	}
	if _, err := embedded.Client().AppsV1().Deployments(namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Client().AppsV1().StatefulSets(namespace).Create(t.Context(), stateful, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := c.AwaitReady(within(t, 5*time.Second),
		kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "d"},
		kube.Ref{Kind: kube.StatefulSet, Namespace: namespace, Name: "s"})
	var wait *kube.WaitError
	if !errors.As(err, &wait) || strings.Count(wait.Details, "exceeded quota: none") < 2 || !strings.Contains(kube.Advice(err), `ResourceQuota "none"`) {
		t.Errorf("error: %v\nadvice: %s", err, kube.Advice(err))
	}
}

func TestAccNamespaces(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	ctx := within(t, 2*time.Minute)
	name := embedded.Namespace(t) + "-held"
	ref := kube.Ref{Kind: kube.Namespace, Name: name}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			holder := fmt.Sprintf("holder-%d", i)
			for range 2 {
				held, err := c.HoldNamespace(ctx, kube.Hold{
					Namespace: name, Holder: holder,
					Labels: map[string]string{"shared": "yes", holder: "here"},
				})
				if err != nil || held.GetLabels()[holder] != "here" || held.GetDeletionTimestamp() != nil {
					t.Errorf("held %v, %v", held, err)
					return
				}
				if err := c.ReleaseNamespace(ctx, name, holder); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if _, err := c.Get(ctx, ref); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("after the last release: %v", err)
	}

	theirs := embedded.Namespace(t)
	if _, err := c.HoldNamespace(ctx, kube.Hold{Namespace: theirs, Holder: "h", Labels: map[string]string{"ours": "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.ReleaseNamespace(ctx, theirs, "h"); err != nil {
		t.Fatal(err)
	}
	left, err := c.Namespace(ctx, theirs)
	if err != nil || left.Labels["ours"] != "" || len(left.Annotations) > 0 || left.DeletionTimestamp != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAccSharedReadsFollowTheCluster(t *testing.T) {
	t.Parallel()
	embedded, c := connect(t)
	namespace := embedded.Namespace(t)
	ctx := within(t, time.Minute)
	counts := func(ctx context.Context) int {
		pods, err := c.Pods(ctx, namespace)
		if err != nil {
			t.Error(err)
		}
		return len(pods)
	}
	started := make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() {
		done <- c.Await(ctx, namespace, []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
			n := counts(ctx)
			once.Do(func() { close(started) })
			if n < 5 {
				return fmt.Sprintf("5 pods, there are %d", n), nil
			}
			return "", nil
		})
	}()
	<-started
	embedded.CreateDeployment(t, namespace, "beta", 5)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if crds, err := c.List(ctx, kube.CustomResourceDefinition, ""); err != nil || len(crds) > 0 && crds[0].GetKind() != "CustomResourceDefinition" {
		t.Errorf("CRDs: %v, %v", crds, err)
	}
	services, err := c.List(ctx, kube.APIService, "")
	if err != nil || len(services) == 0 {
		t.Errorf("APIServices: %d, %v", len(services), err)
	}
}

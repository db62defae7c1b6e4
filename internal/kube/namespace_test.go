package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var mesh = Ref{Kind: Namespace, Name: "mesh"}

func hold(holder string, labels ...string) Hold {
	h := Hold{Namespace: "mesh", Holder: holder, Labels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		h.Labels[labels[i]] = labels[i+1]
	}
	return h
}

func mustHold(t *testing.T, c *Cluster, h Hold) {
	t.Helper()
	if _, err := c.HoldNamespace(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func mustRelease(t *testing.T, c *Cluster, holder string) {
	t.Helper()
	if err := c.ReleaseNamespace(t.Context(), "mesh", holder); err != nil {
		t.Fatal(err)
	}
}

func labelsOf(o *unstructured.Unstructured) string { return fmt.Sprint(o.GetLabels()) }

func TestTheLastHolderTakesTheNamespaceAlong(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	mustHold(t, c, hold("issuer", "shared", "x", "old", "y"))
	mustHold(t, c, hold("linkerd", "shared", "x", "control", "plane"))
	if got := labelsOf(a.get(mesh)); got != "map[control:plane old:y shared:x]" {
		t.Errorf("labels: %s", got)
	}
	mustHold(t, c, hold("issuer", "shared", "x", "new", "z"))
	if got := labelsOf(a.get(mesh)); got != "map[control:plane new:z shared:x]" {
		t.Errorf("labels after a change: %s", got)
	}
	mustRelease(t, c, "issuer")
	if got := labelsOf(a.get(mesh)); got != "map[control:plane shared:x]" {
		t.Errorf("labels after one release: %s", got)
	}
	mustRelease(t, c, "issuer")
	mustRelease(t, c, "linkerd")
	if a.get(mesh) != nil {
		t.Error("the namespace is still there")
	}
	mustRelease(t, c, "linkerd")
}

func TestANamespaceOfOthersStays(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Namespace, "", "mesh", map[string]any{"metadata": map[string]any{"labels": map[string]any{"theirs": "1"}}}))
	c := a.connect(t)
	mustHold(t, c, hold("linkerd", "ours", "2"))
	mustRelease(t, c, "linkerd")
	live := a.get(mesh)
	if live == nil || labelsOf(live) != "map[theirs:1]" || len(live.GetAnnotations()) > 0 {
		t.Errorf("left: %v", live)
	}
	if a.count("DELETE /api/v1/namespaces/mesh") != 0 {
		t.Error("deleted a namespace that it did not create")
	}
}

func TestHoldersConflictOnlyOverValues(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	mustHold(t, c, hold("one", "inject", "enabled"))
	_, err := c.HoldNamespace(t.Context(), hold("two", "inject", "disabled"))
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Managers[0] != hold("one").Manager() {
		t.Errorf("error: %v", err)
	}
	forced := hold("two", "inject", "disabled")
	forced.Force = true
	mustHold(t, c, forced)
	mustRelease(t, c, "one")
	if got := labelsOf(a.get(mesh)); got != "map[inject:disabled]" {
		t.Errorf("labels: %s", got)
	}
}

func TestANamespaceThatIsGoingIsWaitedForAndMadeAnew(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Namespace, "", "mesh", map[string]any{"metadata": map[string]any{"deletionTimestamp": "2026-01-01T00:00:00Z", "uid": "old"}}))
	looks := 0
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			if looks++; looks == 2 {
				a.remove(mesh)
			}
		}
		return false
	}
	mustHold(t, a.connect(t), hold("linkerd"))
	if live := a.get(mesh); live == nil || live.GetUID() == "old" || live.GetAnnotations()[createdAnnotation] != "true" {
		t.Errorf("namespace: %v", live)
	}
}

// Somebody holds the namespace between the release and the deletion.
func TestAHolderThatComesInTimeSavesTheNamespace(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c, other := a.connect(t), a.connect(t)
	mustHold(t, c, hold("one"))
	var once sync.Once
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			once.Do(func() { mustHold(t, other, hold("two")) })
		}
		return false
	}
	mustRelease(t, c, "one")
	if a.get(mesh) == nil {
		t.Error("the namespace of another holder is gone")
	}
	mustRelease(t, other, "two")
	if a.get(mesh) != nil {
		t.Error("the namespace is still there")
	}
}

func TestManyHoldAndReleaseAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			holder := fmt.Sprintf("h%d", i)
			for range 5 {
				live, err := c.HoldNamespace(t.Context(), hold(holder))
				if err != nil || live.GetAnnotations()[holderPrefix+holder] == "" {
					t.Errorf("%v, %v", live, err)
					return
				}
				if held := a.get(mesh); held == nil || held.GetAnnotations()[holderPrefix+holder] == "" {
					t.Error("the namespace went while it was held")
				}
				if err := c.ReleaseNamespace(t.Context(), "mesh", holder); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if a.get(mesh) != nil {
		t.Error("the namespace is still there")
	}
}

func TestReleaseNeverCreates(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	if _, err := c.Release(t.Context(), alpha, "m"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error: %v", err)
	}
	a.set(manifest(Deployment, "dgraph", "alpha"))
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			a.remove(alpha)
		}
		return false
	}
	if _, err := c.Release(t.Context(), alpha, "m"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error: %v", err)
	}
	if a.get(alpha) != nil {
		t.Error("created")
	}
}

func TestDeleteOfAnotherObject(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Deployment, "dgraph", "alpha"))
	c := a.connect(t)
	if err := c.Delete(t.Context(), alpha, DeleteOptions{UID: "other", Wait: true}); !errors.Is(err, ErrChanged) {
		t.Errorf("error: %v", err)
	}
	if err := c.Delete(t.Context(), alpha, DeleteOptions{ResourceVersion: "1"}); !errors.Is(err, ErrChanged) {
		t.Errorf("error: %v", err)
	}
	if err := c.Delete(t.Context(), alpha, DeleteOptions{UID: a.get(alpha).GetUID(), Wait: true}); err != nil || a.get(alpha) != nil {
		t.Errorf("error: %v", err)
	}
}

func TestAHungDeletionNamesWhatKeepsTheObject(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(
		manifest(Deployment, "dgraph", "alpha", map[string]any{"metadata": map[string]any{"finalizers": []any{"example.com/guard"}}}),
		manifest(Namespace, "", "mesh", map[string]any{
			"metadata": map[string]any{"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []any{"a/b"}},
			"spec":     map[string]any{"finalizers": []any{"kubernetes"}},
			"status": map[string]any{"conditions": []any{
				map[string]any{"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "unable to retrieve tap.linkerd.io/v1alpha1"},
				map[string]any{"type": "NamespaceContentRemaining", "status": "False", "message": "no"},
			}},
		}),
	)
	c := a.connect(t)
	for ref, want := range map[Ref]string{
		alpha: "Deployment dgraph/alpha to be gone, kept by finalizers example.com/guard",
		mesh:  "Namespace mesh to be gone, kept by NamespaceDeletionDiscoveryFailure: unable to retrieve tap.linkerd.io/v1alpha1; finalizers a/b",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := c.Delete(ctx, ref, DeleteOptions{Wait: true})
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Errorf("error: %v", err)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	wanted := wrap(manifest(ConfigMap, "a", "c", map[string]any{"data": map[string]any{"k": "v"}}))
	applied, err := c.Apply(t.Context(), wanted, ApplyOptions{Manager: "m", CreateOnly: true})
	if err != nil || applied.GetUID() == "" {
		t.Errorf("%v, %v", applied, err)
	}
	_, err = c.Apply(t.Context(), wanted, ApplyOptions{Manager: "m", CreateOnly: true})
	if !errors.Is(err, ErrExists) || !strings.Contains(Advice(err), "Import") {
		t.Errorf("error: %v, advice %q", err, Advice(err))
	}
	if _, err := c.Apply(t.Context(), wrap(manifest(ConfigMap, "", "c")), ApplyOptions{Manager: "m"}); err == nil {
		t.Error("applied without a namespace")
	}
}

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEachPod(t *testing.T) {
	t.Parallel()
	const count = 1234
	for name, expiry := range map[string]func() *metav1.Status{
		"as it should be": nil,
		"going on in a newer snapshot": func() *metav1.Status {
			expired := status(http.StatusGone, metav1.StatusReasonExpired, "the continue token is too old", nil)
			expired.Continue = "500"
			return expired
		},
		"beginning again": func() *metav1.Status {
			return status(http.StatusGone, metav1.StatusReasonExpired, "the continue token is too old", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			for i := range count {
				a.set(pod(fmt.Sprintf("ns%d", i%2), fmt.Sprintf("%04d", i)))
			}
			var once sync.Once
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if expiry == nil || r.URL.Query().Get("continue") == "" {
					return false
				}
				refused := false
				once.Do(func() {
					answer(w, http.StatusGone, expiry())
					refused = true
				})
				return refused
			}
			c := a.connect(t)
			seen := map[string]int{}
			err := c.EachPod(t.Context(), "", "", func(p *corev1.Pod) error {
				seen[p.Namespace+"/"+p.Name]++
				return nil
			})
			if err != nil || len(seen) != count {
				t.Errorf("%d pods, %v", len(seen), err)
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s was visited %d times", name, n)
				}
			}
		})
	}
	a := newAPI(t)
	a.set(pod("a", "1"), pod("a", "2"), pod("b", "1"))
	c := a.connect(t)
	enough := errors.New("enough")
	visits := 0
	err := c.EachPod(t.Context(), "a", "", func(p *corev1.Pod) error {
		visits++
		return enough
	})
	if !errors.Is(err, enough) || visits != 1 {
		t.Errorf("%d visits, %v", visits, err)
	}
	a.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		answer(w, http.StatusGone, status(http.StatusGone, metav1.StatusReasonExpired, "always", nil))
		return true
	}
	if err := c.EachPod(t.Context(), "a", "", func(*corev1.Pod) error { return nil }); err == nil {
		t.Error("no error though nothing was read")
	}
}

// Whatever there are of them, only a page or two of pods is held at a time.
func TestEachPodKeepsNothing(t *testing.T) {
	t.Parallel()
	const pages = 6
	container := strings.Repeat(`{"name":"LINKERD2_PROXY_SETTING","value":"some-value.svc.cluster.local."},`, 20) + `{"name":"LAST"}`
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var number int
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &number)
		var items []string
		for i := range pageSize {
			items = append(items, fmt.Sprintf(`{"metadata":{"name":"p-%d-%03d","namespace":"a"},"spec":{"containers":[{"name":"proxy","env":[%s]}]}}`, number, i, container))
		}
		next := ""
		if number+1 < pages {
			next = fmt.Sprint(number + 1)
		}
		page(200, "application/json", fmt.Sprintf(`{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"9","continue":%q},"items":[%s]}`, next, strings.Join(items, ",")))(w, r)
	}), 10*time.Second)
	var held atomic.Int64
	visits := 0
	err := c.EachPod(t.Context(), "", "", func(p *corev1.Pod) error {
		visits++
		held.Add(1)
		runtime.AddCleanup(p, func(by int64) { held.Add(by) }, -1)
		if visits%pageSize == 0 {
			until(t, "the pages of before to go", func() bool {
				runtime.GC()
				return held.Load() <= 2*pageSize
			})
		}
		return nil
	})
	if err != nil || visits != pages*pageSize {
		t.Errorf("%d visits, %v", visits, err)
	}
}

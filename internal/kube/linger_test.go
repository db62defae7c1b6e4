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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	watchPods    = "WATCH /api/v1/pods"
	listPolicies = "LIST /apis/networking.k8s.io/v1/networkpolicies"
)

// until looks again and again until it is so, for as long as is reasonable.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (m *mirror) watching() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run != nil && m.run.connected
}

func (m *mirror) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run != nil
}

// glance awaits nothing, but leaves a watch behind.
func glance(t *testing.T, c *Cluster, kind Kind) *mirror {
	t.Helper()
	if err := c.Await(t.Context(), "a", []Kind{kind}, func(context.Context) (string, error) { return "", nil }); err != nil {
		t.Fatal(err)
	}
	m := c.mirror(kind, "a")
	until(t, "a connection", m.watching)
	return m
}

func TestAWatchLingers(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	m := glance(t, c, Pod)
	for i := range 20 {
		name := fmt.Sprint("a/", i)
		a.set(pod("a", fmt.Sprint(i)))
		until(t, "the watch tells of "+name, func() bool { return strings.HasSuffix(" "+names(t.Context(), t, c, "a"), name) || i > 9 })
		c.moved() // The outcome of other waits does not make it list.
		glance(t, c, Pod)
	}
	if lists, watches := a.count(listPods), a.count(watchPods); lists != 1 || watches != 1 {
		t.Errorf("%d lists, %d watches", lists, watches)
	}
	c.linger = time.Millisecond
	glance(t, c, Pod)
	until(t, "the end of the watch", func() bool { return !m.running() })
	a.set(pod("a", "z"))
	c.moved()
	if got := names(t.Context(), t, c, "a"); !strings.HasSuffix(got, "a/z") {
		t.Errorf("pods: %s", got)
	}
	if lists := a.count(listPods); lists < 2 {
		t.Errorf("%d lists", lists)
	}
}

func TestOwnWritesAreSeenWhileAWatchLingers(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "true" {
			return false
		}
		// The watch lags behind without end.
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's writer is one.
		select {
		case <-silent:
		case <-r.Context().Done():
		}
		return true
	}
	m := glance(t, c, NetworkPolicy)
	count := func() int {
		t.Helper()
		policies, err := c.NetworkPolicies(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return len(policies)
	}
	if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", "p")), ApplyOptions{Manager: "m"}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 || a.count(listPolicies) != 1 {
		t.Errorf("%d policies after %d lists", n, a.count(listPolicies))
	}
	if err := c.Delete(t.Context(), Ref{NetworkPolicy, "a", "p"}, DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d policies after their deletion", n)
	}
	// A watch that has said nothing for long may be dead.
	a.set(manifest(NetworkPolicy, "a", "theirs"))
	if n := count(); n != 0 {
		t.Errorf("%d policies without a watch that tells of them", n)
	}
	silence := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.heardAt = m.heardAt.Add(-sharedFor)
		m.loadedAt = m.heardAt
	}
	silence()
	if n := count(); n != 1 {
		t.Errorf("%d policies after a long silence", n)
	}
	a.set(manifest(NetworkPolicy, "a", "another"))
	silence()
	glance(t, c, NetworkPolicy)
	if n := count(); n != 2 {
		t.Errorf("%d policies after a long silence and a wait", n)
	}
}

// A list that is under way while something is written may lack it: what is
// written is put into its outcome.
func TestWritesDuringAListAreSeen(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !isCollection(r.URL.Path) {
			return false
		}
		once.Do(func() {
			a.list(w, r)
			close(arrived)
			<-proceed
		})
		return true
	}
	read := make(chan int, 1)
	go func() {
		policies, err := c.NetworkPolicies(t.Context(), "a")
		if err != nil {
			t.Error(err)
		}
		read <- len(policies)
	}()
	<-arrived
	if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", "p")), ApplyOptions{Manager: "m"}); err != nil {
		t.Error(err)
	}
	close(proceed)
	if n := <-read; n != 1 || a.count(listPolicies) != 1 {
		t.Errorf("%d policies after %d lists", n, a.count(listPolicies))
	}
}

func TestALingeringWatchThatBreaksIsNotTrusted(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	m := glance(t, c, Pod)
	a.set(pod("a", "1"))
	a.CloseClientConnections()
	until(t, "the end of the watch", func() bool { return !m.running() })
	a.set(pod("a", "2"))
	c.moved()
	if got := names(t.Context(), t, c, "a"); got != "a/1 a/2" {
		t.Errorf("pods: %s", got)
	}
	if watches := a.count(watchPods); watches != 1 {
		t.Errorf("%d watches, though nobody needs one", watches)
	}
}

// An apply that reads a kind again and again after its own writes watches it.
func TestWhatIsReadBetweenWritesIsWatched(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		watch          http.HandlerFunc
		lists, watches int
	}{
		"allowed":  {nil, 1 + relists + 1, 1},
		"refused":  {refusal(403, metav1.StatusReasonForbidden, "may not watch", nil), 21, 1},
		"hopeless": {refusal(405, metav1.StatusReasonMethodNotAllowed, "cannot be watched", nil), 21, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			if test.watch != nil {
				a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Query().Get("watch") == "true" {
						test.watch(w, r)
						return true
					}
					return false
				}
			}
			c := a.connect(t)
			m := c.mirror(Pod, "a")
			for i := range 20 {
				names(t.Context(), t, c, "a")
				a.set(pod("a", fmt.Sprint(i)))
				until(t, "the outcome of the watch", func() bool { return m.watching() || !m.running() })
				if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", "p")), ApplyOptions{Manager: "m"}); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "all pods", func() bool { return strings.Count(names(t.Context(), t, c, "a"), "a/") == 20 })
			if lists, watches := a.count(listPods), a.count(watchPods); lists > test.lists || watches != test.watches {
				t.Errorf("%d lists, %d watches", lists, watches)
			}
		})
	}
}

// Whatever comes and goes, whoever writes reads what it has written.
func TestOwnWritesAreSeenInAllWeathers(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	c.linger = time.Millisecond
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("p-%d-%d", worker, i)
				if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", name)), ApplyOptions{Manager: "m"}); err != nil {
					t.Error(err)
					return
				}
				seen := func(ctx context.Context) (string, error) {
					policies, err := c.NetworkPolicies(ctx, "a")
					if err != nil {
						return "", err
					}
					for _, p := range policies {
						if p.Name == name {
							return "", nil
						}
					}
					return "", fmt.Errorf("policy %s is not among %d", name, len(policies))
				}
				if _, err := seen(t.Context()); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					if err := c.Await(t.Context(), "a", []Kind{NetworkPolicy}, seen); err != nil {
						t.Error(err)
					}
				}
				if i%5 == worker%5 {
					if err := c.Delete(t.Context(), Ref{NetworkPolicy, "a", name}, DeleteOptions{}); err != nil {
						t.Error(err)
					}
					if _, err := c.NetworkPolicy(t.Context(), "a", name); !errors.Is(err, ErrNotFound) {
						t.Errorf("after deletion: %v", err)
					}
				}
			}
		})
	}
	group.Wait()
	until(t, "the end of the watch", func() bool { return !c.mirror(NetworkPolicy, "a").running() })
}

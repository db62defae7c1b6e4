package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

const listPods = "LIST /api/v1/pods"

func pod(namespace, name string, fields ...map[string]any) map[string]any {
	return manifest(Pod, namespace, name, fields...)
}

func names(ctx context.Context, t *testing.T, c *Cluster, namespace string) string {
	t.Helper()
	pods, err := c.Pods(ctx, namespace)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range pods {
		all = append(all, p.Namespace+"/"+p.Name)
	}
	return strings.Join(all, " ")
}

func TestReadsShareOneList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "1"), pod("b", "1"), pod("a", "2"))
	c := a.connect(t)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if got := names(t.Context(), t, c, "a"); got != "a/1 a/2" {
				t.Errorf("pods: %s", got)
			}
		})
	}
	group.Wait()
	if got := names(t.Context(), t, c, ""); got != "a/1 a/2 b/1" {
		t.Errorf("pods: %s", got)
	}
	if n := a.count(listPods); n != 1 {
		t.Errorf("%d lists", n)
	}
}

func TestListsComeInPages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for i := range 1234 {
		a.set(pod("a", fmt.Sprintf("%04d", i)))
	}
	c := a.connect(t)
	if pods, err := c.Pods(t.Context(), ""); err != nil || len(pods) != 1234 {
		t.Errorf("%d pods, %v", len(pods), err)
	}
	if n := a.count(listPods); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestExpiredPagesAreListedAgainInOnePiece(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for i := range 600 {
		a.set(pod("a", fmt.Sprintf("%04d", i)))
	}
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("continue") == "" {
			return false
		}
		answer(w, http.StatusGone, status(http.StatusGone, metav1.StatusReasonExpired, "the continue token is too old", nil))
		return true
	}
	if pods, err := a.connect(t).Pods(t.Context(), ""); err != nil || len(pods) != 600 {
		t.Errorf("%d pods, %v", len(pods), err)
	}
}

func TestAListThatIsNoneIsNotEmpty(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
		},
		"page":    page(200, "text/html", "<html>"),
		"nothing": page(200, "application/json", ""),
		"object":  page(200, "application/json", "{}"),
		"no rv":   page(200, "application/json", `{"apiVersion":"v1","kind":"PodList","items":[]}`),
		"404":     page(404, "text/plain", "404 page not found"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, handler, time.Second)
			if pods, err := c.Pods(t.Context(), "a"); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%d pods, %v", len(pods), err)
			}
			if profiles, err := c.List(t.Context(), serviceProfile, ""); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%d profiles, %v", len(profiles), err)
			}
		})
	}
}

func TestAbsenceFromAListIsAskedFor(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	if _, err := c.Namespace(t.Context(), "late"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error: %v", err)
	}
	a.set(manifest(Namespace, "", "late"))
	if ns, err := c.Namespace(t.Context(), "late"); err != nil || ns.Name != "late" {
		t.Errorf("%v, %v", ns, err)
	}
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if isCollection(r.URL.Path) {
			return false
		}
		page(http.StatusNotFound, "text/plain", "default backend - 404")(w, r)
		return true
	}
	if _, err := c.Namespace(t.Context(), "other"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("error: %v", err)
	}
}

func TestSecretsAreNeverListed(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Secret, "a", "s", map[string]any{"data": map[string]any{"k": "dg=="}}))
	c := a.connect(t)
	secret, err := c.Secret(t.Context(), "a", "s")
	if err != nil || string(secret.Data["k"]) != "v" {
		t.Errorf("%v, %v", secret, err)
	}
	if _, err := c.List(t.Context(), Secret, "a"); err == nil {
		t.Error("listed")
	}
	if err := c.Await(t.Context(), "a", []Kind{Secret}, func(context.Context) (string, error) { return "", nil }); err == nil {
		t.Error("watched")
	}
	if len(a.requests) != 1 {
		t.Errorf("requests: %v", a.requests)
	}
}

func TestConfigMapsOfOneNamespaceShareAList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(ConfigMap, "a", "x"), manifest(ConfigMap, "a", "y"))
	c := a.connect(t)
	for _, name := range []string{"x", "y", "x"} {
		if _, err := c.ConfigMap(t.Context(), "a", name); err != nil {
			t.Error(err)
		}
	}
	if len(a.requests) != 1 || a.count("LIST /api/v1/namespaces/a/configmaps") != 1 {
		t.Errorf("requests: %v", a.requests)
	}
}

func TestOwnWritesAreSeen(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(NetworkPolicy, "a", "old"))
	c := a.connect(t)
	count := func() string {
		t.Helper()
		policies, err := c.NetworkPolicies(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d policies, %d lists", len(policies), a.count("LIST /apis/networking.k8s.io/v1/networkpolicies"))
	}
	if got := count(); got != "1 policies, 1 lists" {
		t.Error(got)
	}
	// What the API server answers is taken over, so no list is needed.
	labelled := manifest(NetworkPolicy, "a", "new", map[string]any{"metadata": map[string]any{"labels": map[string]any{"k": "1"}}})
	if _, err := c.Apply(t.Context(), wrap(labelled), ApplyOptions{Manager: "m"}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "2 policies, 1 lists" {
		t.Error(got)
	}
	policy, err := c.NetworkPolicy(t.Context(), "a", "new")
	if err != nil || policy.Labels["k"] != "1" {
		t.Errorf("%v, %v", policy, err)
	}
	if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", "dry")), ApplyOptions{Manager: "m", DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "2 policies, 1 lists" {
		t.Error(got)
	}
	if err := c.Delete(t.Context(), Ref{NetworkPolicy, "a", "old"}, DeleteOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != "1 policies, 2 lists" {
		t.Error(got)
	}
}

func TestWritesOfOtherClientsOfTheProcessAreSeen(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	if got := names(t.Context(), t, c, "a"); got != "" {
		t.Errorf("pods: %s", got)
	}
	other, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Resource(Pod.GVR()).Namespace("a").Create(t.Context(), wrap(pod("a", "1")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t.Context(), t, c, "a"); got != "a/1" {
		t.Errorf("pods: %s", got)
	}
	if _, err := other.Resource(Pod.GVR()).Namespace("a").Get(t.Context(), "1", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	names(t.Context(), t, c, "a")
	if n := a.count(listPods); n != 2 {
		t.Errorf("%d lists", n)
	}
	// Controllers may make pods of what is written.
	_, err = other.Resource(Deployment.GVR()).Namespace("a").Create(t.Context(), wrap(manifest(Deployment, "a", "d")), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names(t.Context(), t, c, "a")
	if n := a.count(listPods); n != 3 {
		t.Errorf("%d lists", n)
	}
}

func TestWhoMayNotListAllNamespacesListsOne(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "1"), pod("b", "1"), manifest(Namespace, "", "a"))
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !isCollection(r.URL.Path) || strings.Contains(r.URL.Path, "/namespaces/") {
			return false
		}
		answer(w, 403, status(403, metav1.StatusReasonForbidden, "forbidden at the cluster scope", nil))
		return true
	}
	c := a.connect(t)
	for range 3 {
		if got := names(t.Context(), t, c, "a"); got != "a/1" {
			t.Errorf("pods: %s", got)
		}
	}
	if all, one := a.count(listPods), a.count("LIST /api/v1/namespaces/a/pods"); all != 1 || one != 1 {
		t.Errorf("%d lists of all, %d of one", all, one)
	}
	if ns, err := c.Namespace(t.Context(), "a"); err != nil || ns.Name != "a" {
		t.Errorf("namespace: %v, %v", ns, err)
	}
	if _, err := c.Pods(t.Context(), ""); err == nil {
		t.Error("pods of all namespaces")
	}
	err := c.Await(t.Context(), "b", []Kind{Pod}, func(ctx context.Context) (string, error) {
		pods, err := c.Pods(ctx, "b")
		if err != nil || len(pods) == 2 {
			return "", err
		}
		a.set(pod("b", "2"))
		return "a second pod", nil
	})
	if err != nil {
		t.Errorf("await: %v", err)
	}
}

func TestAwaitSeesChanges(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "1"), pod("other", "1"))
	c := a.connect(t)
	looks := 0
	var seen []string
	err := c.Await(t.Context(), "a", []Kind{Pod}, func(ctx context.Context) (string, error) {
		looks++
		now := names(ctx, t, c, "a")
		seen = append(seen, now)
		switch now {
		case "a/1":
			a.set(pod("a", "2"))
		case "a/1 a/2":
			a.remove(Ref{Pod, "a", "1"})
		case "a/2":
			return "", nil
		}
		return "a/2 alone", nil
	})
	if err != nil || seen[len(seen)-1] != "a/2" {
		t.Errorf("saw %v, %v", seen, err)
	}
	if lists, watches := a.count(listPods), a.count("WATCH /api/v1/pods"); lists != 1 || watches != 1 {
		t.Errorf("%d lists, %d watches", lists, watches)
	}
}

func TestAfterAWaitOtherKindsAreReadAnew(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "old"), manifest(NetworkPolicy, "a", "p"))
	c := a.connect(t)
	looks := 0
	err := c.Await(t.Context(), "a", []Kind{NetworkPolicy}, func(ctx context.Context) (string, error) {
		if looks++; looks > 1 {
			return "", nil
		}
		// Somebody reads the pods in the middle of it.
		if got := names(ctx, t, c, "a"); got != "a/old" {
			t.Errorf("pods %s", got)
		}
		a.remove(Ref{Pod, "a", "old"})
		a.set(pod("a", "new"), manifest(NetworkPolicy, "a", "q"))
		return "the policy q", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t.Context(), t, c, "a"); got != "a/new" {
		t.Errorf("pods %s, which are those from before the wait", got)
	}
}

func TestManyAwaitsShareOneWatch(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	var group, started sync.WaitGroup
	for i := range 20 {
		started.Add(1)
		group.Go(func() {
			var once sync.Once
			err := c.Await(t.Context(), "a", []Kind{Pod}, func(ctx context.Context) (string, error) {
				once.Do(started.Done)
				pods, err := c.Pods(ctx, "a")
				if err == nil && len(pods) <= i {
					return "more pods", nil
				}
				return "", err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	for i := range 20 {
		a.set(pod("a", fmt.Sprint(i)))
	}
	group.Wait()
	if lists, watches := a.count(listPods), a.count("WATCH /api/v1/pods"); lists != 1 || watches != 1 {
		t.Errorf("%d lists, %d watches", lists, watches)
	}
}

func TestKindsWithoutGoTypesAreWatchedToo(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(serviceProfile, "a", "1"))
	c := a.connect(t)
	err := c.Await(t.Context(), "a", []Kind{serviceProfile}, func(ctx context.Context) (string, error) {
		profiles, err := c.List(ctx, serviceProfile, "a")
		if err != nil || len(profiles) == 2 {
			return "", err
		}
		a.set(manifest(serviceProfile, "a", "2"))
		return "a second profile", nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAnExpiredWatchBeginsAgainFromAList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "1"))
	c := a.connect(t)
	a.expireBefore(1000) // Every watch is too old …
	err := c.Await(t.Context(), "a", []Kind{Pod}, func(ctx context.Context) (string, error) {
		switch now := names(ctx, t, c, "a"); now {
		case "a/1":
			if a.count("WATCH /api/v1/pods") == 1 {
				a.expireBefore(0) // … but the second one is not.
				a.set(pod("a", "2"))
			}
			return "another pod", nil
		default:
			return "", nil
		}
	})
	if err != nil {
		t.Error(err)
	}
	if lists := a.count(listPods); lists < 2 {
		t.Errorf("%d lists", lists)
	}
}

func TestABrokenWatchIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	err := c.Await(t.Context(), "a", []Kind{Pod}, func(ctx context.Context) (string, error) {
		switch now := names(ctx, t, c, "a"); now {
		case "":
			a.set(pod("a", "1"))
			return "a pod", nil
		case "a/1":
			a.CloseClientConnections()
			a.set(pod("a", "2"))
			return "another pod", nil
		default:
			return "", nil
		}
	})
	if err != nil {
		t.Error(err)
	}
	if lists, watches := a.count(listPods), a.count("WATCH /api/v1/pods"); lists != 1 || watches < 2 {
		t.Errorf("%d lists, %d watches", lists, watches)
	}
}

func TestAListDoesNotUndoWhatAWatchSaw(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(pod("a", "1"), pod("a", "2"))
	c := a.connect(t)
	m := c.mirror(Pod, "a")
	var delayed atomic.Bool
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "true" || r.URL.Path != "/api/v1/pods" || !delayed.CompareAndSwap(true, false) {
			return false
		}
		// The watch is faster than the answer to a list that was made before.
		answered := httptest.NewRecorder()
		a.list(answered, r)
		a.set(pod("a", "3"))
		a.remove(Ref{Pod, "a", "1"})
		for m.find("a", "3") == nil || m.find("a", "1") != nil {
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(time.Millisecond):
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answered.Body.Bytes())
		return true
	}
	seen := ""
	err := c.Await(t.Context(), "a", []Kind{Pod}, func(ctx context.Context) (string, error) {
		if seen == "" {
			// A write with an unknown outcome makes the next read list.
			delayed.Store(true)
			c.wrote(Pod.GVR().GroupResource(), nil)
		}
		seen = names(ctx, t, c, "a")
		return "", nil
	})
	if err != nil || seen != "a/2 a/3" {
		t.Errorf("got %q, %v", seen, err)
	}
	if m.version != strconv.Itoa(a.version) {
		t.Errorf("the mirror is of version %s, want %d", m.version, a.version)
	}
}

func TestAWatchThatFailsSaysSo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"forbidden":    {refusal(403, metav1.StatusReasonForbidden, `User "ci" cannot watch resource "pods" in API group "" at the cluster scope`, nil), `cannot watch resource "pods"`},
		"unauthorized": {refusal(401, metav1.StatusReasonUnauthorized, "Unauthorized", nil), "Unauthorized"},
		"broken":       {refusal(500, metav1.StatusReasonInternalError, "etcd", nil), "etcd"},
		"silent":       {hang, "no answer within"},
		"reset":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"empty":        {page(200, "application/json", ""), "ends each watch at once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("watch") != "true" {
					return false
				}
				test.handler(w, r)
				return true
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c := a.connect(t)
			c.timeout = 500 * time.Millisecond
			err := c.Await(ctx, "a", []Kind{Pod}, func(context.Context) (string, error) { return "godot", nil })
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "godot") {
				t.Errorf("error: %v", err)
			}
			if Advice(err) == "" && test.want != "ends each watch at once" {
				t.Errorf("no advice on %v", err)
			}
		})
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Await(ctx, "a", []Kind{Pod}, func(context.Context) (string, error) {
		time.AfterFunc(20*time.Millisecond, cancel)
		return "Deployment dgraph/alpha: 0 of 1 pods", nil
	})
	var wait *WaitError
	if !errors.As(err, &wait) || !errors.Is(err, context.Canceled) || wait.Waiting != "Deployment dgraph/alpha: 0 of 1 pods" {
		t.Errorf("error: %v", err)
	}
	failure := errors.New("no use")
	err = c.Await(t.Context(), "a", nil, func(context.Context) (string, error) { return "", failure })
	if !errors.Is(err, failure) {
		t.Errorf("error: %v", err)
	}
}

func TestABlipDoesNotEndAWait(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	blip := noAnswerError{time.Second}
	looks := 0
	err := c.Await(t.Context(), "a", nil, func(context.Context) (string, error) {
		looks++
		switch looks {
		case 1:
			return "godot", nil
		case 2:
			return "", blip
		default:
			return "", nil
		}
	})
	if err != nil || looks != 3 {
		t.Errorf("%d looks, %v", looks, err)
	}
	if err := c.Await(t.Context(), "a", nil, func(context.Context) (string, error) { return "", blip }); !errors.Is(err, blip) {
		t.Errorf("never evaluated: %v", err)
	}
	c.timeout = time.Millisecond
	looks = 0
	err = c.Await(t.Context(), "a", nil, func(context.Context) (string, error) {
		if looks++; looks == 1 {
			return "godot", nil
		}
		return "", blip
	})
	if !errors.Is(err, blip) {
		t.Errorf("without end: %v", err)
	}
}

// A list that lags behind, or events that arrive late, must not undo what the
// API server said after a write.
func TestLateNewsDoesNotUndoAWrite(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	if _, err := c.NetworkPolicies(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	m := c.mirror(NetworkPolicy, "a")
	at := func(version, label string) *unstructured.Unstructured {
		return wrap(manifest(NetworkPolicy, "a", "p", map[string]any{"metadata": map[string]any{"resourceVersion": version, "labels": map[string]any{"is": label}}}))
	}
	see := func(o *unstructured.Unstructured) {
		typed, err := c.typed(NetworkPolicy, o)
		if err != nil {
			t.Fatal(err)
		}
		m.see("MODIFIED", typed)
	}
	is := func() string {
		if o := m.find("a", "p"); o != nil {
			return o.GetLabels()["is"]
		}
		return "gone"
	}
	c.wrote(NetworkPolicy.GVR().GroupResource(), at("200", "own"))
	see(at("150", "late"))
	if got := is(); got != "own" {
		t.Errorf("after a late event: %s", got)
	}
	see(at("201", "next"))
	c.wrote(NetworkPolicy.GVR().GroupResource(), at("180", "stale"))
	if got := is(); got != "next" {
		t.Errorf("after a late answer: %s", got)
	}
	typed, err := c.typed(NetworkPolicy, at("202", "next"))
	if err != nil {
		t.Fatal(err)
	}
	m.see("DELETED", typed)
	c.wrote(NetworkPolicy.GVR().GroupResource(), at("201", "ghost"))
	if got := is(); got != "gone" {
		t.Errorf("after deletion: %s", got)
	}
	c.wrote(NetworkPolicy.GVR().GroupResource(), at("205", "anew"))
	typed, err = c.typed(NetworkPolicy, at("203", "next"))
	if err != nil {
		t.Fatal(err)
	}
	m.see("DELETED", typed)
	if got := is(); got != "anew" {
		t.Errorf("after it was deleted and made anew: %s", got)
	}
}

func TestWhatAListIsOfAndWhereAWriteGoes(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/api/v1/namespaces":                                      "namespaces",
		"/api/v1/namespaces/a":                                    "namespaces",
		"/api/v1/namespaces/a/pods/p":                             "pods",
		"/api/v1/namespaces/a/pods/p/status":                      "pods",
		"/apis/apps/v1/namespaces/a/deployments/d":                "deployments.apps",
		"/apis/apps/v1/deployments":                               "deployments.apps",
		"/k8s/clusters/c-1/apis/apps/v1/namespaces/a/deployments": "deployments.apps",
		"/version": "version",
		"/":        "",
	} {
		if got := resourceOf(path).String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestKindsThatAppearLater(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	served := false
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		var groups []any
		if served {
			version := map[string]any{"groupVersion": "linkerd.io/v1alpha2", "version": "v1alpha2"}
			groups = append(groups, map[string]any{"name": "linkerd.io", "versions": []any{version}, "preferredVersion": version})
		}
		switch r.URL.Path {
		case "/api":
			answer(w, 200, map[string]any{"kind": "APIVersions", "versions": []any{}})
		case "/apis":
			answer(w, 200, map[string]any{"apiVersion": "v1", "kind": "APIGroupList", "groups": groups})
		case "/apis/linkerd.io/v1alpha2":
			answer(w, 200, map[string]any{
				"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "linkerd.io/v1alpha2",
				"resources": []any{map[string]any{"name": "serviceprofiles", "kind": "ServiceProfile", "namespaced": true, "verbs": []any{"get"}}},
			})
		default:
			return false
		}
		return true
	}
	c := a.connect(t)
	if _, err := c.KindFor(t.Context(), serviceProfile.GVK()); err == nil || !strings.Contains(Advice(err), "CRD") {
		t.Errorf("error: %v, advice %q", err, Advice(err))
	}
	served = true
	for range 3 {
		if kind, err := c.KindFor(t.Context(), serviceProfile.GVK()); err != nil || kind != serviceProfile {
			t.Errorf("%#v, %v", kind, err)
		}
	}
	if n := a.count("GET /apis/linkerd.io/v1alpha2"); n != 1 {
		t.Errorf("%d discoveries", n)
	}
}

// BenchmarkPods reads five thousand pods as large as those of a mesh. It
// reports what a process keeps of each.
func BenchmarkPods(b *testing.B) {
	const count = 5000
	var items []string
	env := strings.Repeat(`{"name":"LINKERD2_PROXY_SOME_SETTING","value":"some-value-of-usual-length.svc.cluster.local."},`, 50)
	for i := range count {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":"pod-%d","namespace":"ns-%d","uid":"u-%d","resourceVersion":"%d","managedFields":[{"manager":"kubelet","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"f:status":{%s"f:x":{}}}}]},
			"spec":{"containers":[{"name":"linkerd-proxy","image":"cr.l5d.io/linkerd/proxy:edge","env":[%s{"name":"LAST"}]}]}}`, i, i%50, i, i+1, strings.Repeat(`"f:conditions":{},`, 100), env))
	}
	body := `{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"9000"},"items":[` + strings.Join(items, ",") + `]}`
	server := httptest.NewServer(page(200, "application/json", body))
	b.Cleanup(server.Close)
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	var c *Cluster
	for b.Loop() {
		var err error
		if c, err = Connect(Settings{Host: server.URL}, "kube-bench"); err != nil {
			b.Fatal(err)
		}
		if pods, err := c.Pods(b.Context(), ""); err != nil || len(pods) != count {
			b.Fatalf("%d pods, %v", len(pods), err)
		}
	}
	b.ReportMetric(float64(heap()-before)/count, "B/pod")
	runtime.KeepAlive(c)
}

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var alpha = Ref{Kind: Deployment, Namespace: "dgraph", Name: "alpha"}

func page(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func refusal(code int, reason metav1.StatusReason, message string, details *metav1.StatusDetails) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, code, status(code, reason, message, details)) }
}

func serve(t *testing.T, handler http.Handler, timeout time.Duration) *Cluster {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	c, err := Connect(Settings{Host: server.URL, RequestTimeout: timeout}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOnlyTheAPIServersOwn404MeansNotFound(t *testing.T) {
	t.Parallel()
	details := func(group, kind, name string) *metav1.StatusDetails {
		return &metav1.StatusDetails{Group: group, Kind: kind, Name: name}
	}
	for name, test := range map[string]struct {
		handler  http.HandlerFunc
		notFound bool
	}{
		"status that names the object":     {refusal(404, metav1.StatusReasonNotFound, `deployments.apps "alpha" not found`, details("apps", "deployments", "alpha")), true},
		"status with the kind's name":      {refusal(404, metav1.StatusReasonNotFound, "gone", details("apps", "Deployment", "alpha")), true},
		"status about another object":      {refusal(404, metav1.StatusReasonNotFound, `namespaces "dgraph" not found`, details("", "namespaces", "dgraph")), false},
		"status about another group":       {refusal(404, metav1.StatusReasonNotFound, "x", details("extensions", "deployments", "alpha")), false},
		"status without details":           {refusal(404, metav1.StatusReasonNotFound, "the server could not find the requested resource", nil), false},
		"missing API group, as a server":   {page(404, "text/plain; charset=utf-8", "404 page not found\n"), false},
		"page of a load balancer":          {page(404, "text/html", "<html><h1>Not Found</h1></html>"), false},
		"JSON of a proxy":                  {page(404, "application/json", `{"message":"no route matched"}`), false},
		"empty body":                       {page(404, "application/json", ""), false},
		"not a Status but like one":        {page(404, "application/json", `{"status":"Failure","code":404}`), false},
		"reason without the code":          {refusal(403, metav1.StatusReasonNotFound, "x", details("apps", "deployments", "alpha")), false},
		"success that is not the object":   {page(200, "application/json", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"beta"}}`), false},
		"success that is not Kubernetes":   {page(200, "application/json", `{}`), false},
		"success that is a page":           {page(200, "text/html", `<html>log in</html>`), false},
		"unauthorized":                     {refusal(401, metav1.StatusReasonUnauthorized, "Unauthorized", nil), false},
		"forbidden":                        {refusal(403, metav1.StatusReasonForbidden, "no", details("apps", "deployments", "alpha")), false},
		"internal error":                   {refusal(500, metav1.StatusReasonInternalError, "etcd", nil), false},
		"gone":                             {refusal(410, metav1.StatusReasonGone, "x", details("apps", "deployments", "alpha")), false},
		"internal error that speaks of it": {refusal(500, metav1.StatusReasonNotFound, "x", details("apps", "deployments", "alpha")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, test.handler, time.Second)
			object, err := c.Get(t.Context(), alpha)
			if err == nil {
				t.Fatalf("found %v", object)
			}
			if errors.Is(err, ErrNotFound) != test.notFound {
				t.Errorf("not found: %t, want %t: %v", !test.notFound, test.notFound, err)
			}
			if !strings.HasPrefix(err.Error(), "get Deployment dgraph/alpha: ") {
				t.Errorf("the error does not name operation and object: %v", err)
			}
			if !test.notFound {
				return
			}
			if err := c.Delete(t.Context(), alpha, DeleteOptions{Wait: true}); err != nil {
				t.Errorf("deleting what does not exist: %v", err)
			}
		})
	}
}

// A 404 that client-go makes up itself satisfies apierrors.IsNotFound: the trap
// that ErrNotFound exists for.
func TestClientGoTakesAny404ForNotFound(t *testing.T) {
	t.Parallel()
	c := serve(t, page(404, "text/html", "<html>"), time.Second)
	_, err := c.Get(t.Context(), alpha)
	if !apierrors.IsNotFound(err) || errors.Is(err, ErrNotFound) {
		t.Errorf("IsNotFound %t, ErrNotFound %t", apierrors.IsNotFound(err), errors.Is(err, ErrNotFound))
	}
	if err := c.Delete(t.Context(), alpha, DeleteOptions{}); err == nil {
		t.Error("a proxy's 404 counted as deleted")
	}
	if advice := Advice(err); !strings.Contains(advice, "does not come from the API server") {
		t.Errorf("advice: %q", advice)
	}
}

// hang answers nothing until the client goes.
func hang(_ http.ResponseWriter, r *http.Request) {
	// The server notices that the client has gone only after it has read all.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// operations are all ways in which the package waits for an answer.
func operations(c *Cluster) map[string]func(context.Context) error {
	policy := Ref{Kind: NetworkPolicy, Namespace: "dgraph", Name: "mesh"}
	return map[string]func(context.Context) error{
		"get": func(ctx context.Context) error { _, err := c.Get(ctx, alpha); return err },
		"apply": func(ctx context.Context) error {
			_, err := c.Apply(ctx, wrap(manifest(Deployment, "dgraph", "alpha")), ApplyOptions{Manager: "m"})
			return err
		},
		"apply kind to discover": func(ctx context.Context) error {
			_, err := c.Apply(ctx, wrap(manifest(serviceProfile, "dgraph", "alpha")), ApplyOptions{Manager: "m"})
			return err
		},
		"release":   func(ctx context.Context) error { _, err := c.Release(ctx, alpha, "m"); return err },
		"delete":    func(ctx context.Context) error { return c.Delete(ctx, alpha, DeleteOptions{Wait: true}) },
		"namespace": func(ctx context.Context) error { _, err := c.Namespace(ctx, "dgraph"); return err },
		"pods":      func(ctx context.Context) error { _, err := c.Pods(ctx, "dgraph"); return err },
		"list":      func(ctx context.Context) error { _, err := c.List(ctx, serviceProfile, ""); return err },
		"secret":    func(ctx context.Context) error { _, err := c.Secret(ctx, "dgraph", "s"); return err },
		"policy": func(ctx context.Context) error {
			_, err := c.NetworkPolicy(ctx, policy.Namespace, policy.Name)
			return err
		},
		"workload": func(ctx context.Context) error { _, err := c.Workload(ctx, alpha); return err },
		"ready":    func(ctx context.Context) error { return c.AwaitReady(ctx, alpha) },
		"rollout":  func(ctx context.Context) error { return c.AwaitRollouts(ctx, 0, nil, alpha) },
		"budget":   func(ctx context.Context) error { return c.AwaitBudget(ctx, alpha) },
		"each pod": func(ctx context.Context) error { return c.EachPod(ctx, "", "", func(*corev1.Pod) error { return nil }) },
		"roll": func(ctx context.Context) error {
			_, err := c.Roll(ctx, Rollout{Stages: [][]Ref{{alpha}}})
			return err
		},
		"await": func(ctx context.Context) error {
			return c.Await(ctx, "dgraph", []Kind{Pod}, func(context.Context) (string, error) { return "godot", nil })
		},
		"hold": func(ctx context.Context) error {
			_, err := c.HoldNamespace(ctx, Hold{Namespace: "dgraph", Holder: "h"})
			return err
		},
		"release namespace": func(ctx context.Context) error { return c.ReleaseNamespace(ctx, "dgraph", "h") },
		"events":            func(ctx context.Context) error { _, err := c.Events(ctx, alpha); return err },
	}
}

func TestCancelEndsAHungCallAtOnce(t *testing.T) {
	t.Parallel()
	c := serve(t, http.HandlerFunc(hang), time.Hour)
	for name, operation := range operations(c) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			started := time.Now()
			time.AfterFunc(50*time.Millisecond, cancel)
			err := operation(ctx)
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotFound) {
				t.Errorf("error: %v", err)
			}
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestNoCallOutlivesTheLimitOfARequest(t *testing.T) {
	t.Parallel()
	c := serve(t, http.HandlerFunc(hang), 100*time.Millisecond)
	for name, operation := range operations(c) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			err := operation(t.Context())
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 100ms") {
				t.Errorf("error: %v", err)
			}
			if took := time.Since(started); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if advice := Advice(err); !strings.Contains(advice, "No answer came in time") {
				t.Errorf("advice: %q", advice)
			}
		})
	}
}

func TestABodyThatStopsHalfwayIsBounded(t *testing.T) {
	t.Parallel()
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page(200, "application/json", `{"apiVersion":"apps/v1","kind":`)(w, r)
		w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's writer is one.
		hang(w, r)
	}), 100*time.Millisecond)
	_, err := c.Get(t.Context(), alpha)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}

// Every failure must leave every read unknown: neither found nor not found.
func TestFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		handler http.HandlerFunc
		advice  string
	}{
		"401": {refusal(401, metav1.StatusReasonUnauthorized, "Unauthorized", nil), "does not accept the credentials"},
		"403": {refusal(403, metav1.StatusReasonForbidden, `deployments.apps is forbidden: User "ci" cannot get resource "deployments" in API group "apps" in the namespace "dgraph"`, nil), `Give "ci" a role that allows the verb "get" on deployments.apps in namespace dgraph.`},
		"429": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "1")
			refusal(429, metav1.StatusReasonTooManyRequests, "slow down", nil)(w, r)
		}, "throttling"},
		"500": {refusal(500, metav1.StatusReasonInternalError, "etcd is on fire", nil), "problem of its own"},
		"503": {page(503, "text/plain", "upstream connect error"), "problem of its own"},
		"reset": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, "cut off"},
	}
	for fault, test := range faults {
		c := serve(t, test.handler, 1500*time.Millisecond)
		for name, operation := range operations(c) {
			t.Run(fault+" "+name, func(t *testing.T) {
				t.Parallel()
				started := time.Now()
				err := operation(t.Context())
				if err == nil || errors.Is(err, ErrNotFound) {
					t.Fatalf("error: %v", err)
				}
				want := test.advice
				if name == "apply kind to discover" { // Discovery tells less than other requests.
					switch fault {
					case "429", "reset":
						want = "No answer came in time"
					case "403":
						want = "not allowed to do this"
					}
				}
				if advice := Advice(err); !strings.Contains(advice, want) {
					t.Errorf("advice on %v: %q", err, advice)
				}
				if took := time.Since(started); took > 10*time.Second {
					t.Errorf("took %s", took)
				}
			})
		}
	}
}

func TestThrottlingThatEndsIsRetried(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Deployment, "dgraph", "alpha"))
	throttled := make(chan struct{}, 1)
	throttled <- struct{}{}
	a.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		select {
		case <-throttled:
			w.Header().Set("Retry-After", "1")
			answer(w, 429, status(429, metav1.StatusReasonTooManyRequests, "slow down", nil))
			return true
		default:
			return false
		}
	}
	if _, err := a.connect(t).Get(t.Context(), alpha); err != nil {
		t.Fatal(err)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	c := serve(t, refusal(409, metav1.StatusReasonConflict, `Apply failed with 3 conflicts`, &metav1.StatusDetails{Causes: []metav1.StatusCause{
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "pilot-discovery" using admissionregistration.k8s.io/v1`, Field: `.webhooks[name="a"].failurePolicy`},
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "admissions\"enforcer" with subresource "status" using v1 at 2026-01-01T00:00:00Z`, Field: `.spec.x`},
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "pilot-discovery" using v1`, Field: `.spec.y`},
	}}), time.Second)
	_, err := c.Apply(t.Context(), wrap(manifest(Deployment, "dgraph", "alpha")), ApplyOptions{Manager: "m"})
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("error: %v", err)
	}
	if got := fmt.Sprint(conflict.Ref, conflict.Managers, conflict.Fields); got != `Deployment dgraph/alpha [admissions"enforcer pilot-discovery] [.webhooks[name="a"].failurePolicy .spec.x .spec.y]` {
		t.Errorf("conflict: %s", got)
	}
	if advice := Advice(err); !strings.Contains(advice, "pilot-discovery") {
		t.Errorf("advice: %q", advice)
	}
	if !apierrors.IsConflict(err) {
		t.Error("the API server's answer is not wrapped")
	}
}

func TestOtherConflictsAreChanges(t *testing.T) {
	t.Parallel()
	c := serve(t, refusal(409, metav1.StatusReasonConflict, `the object has been modified`, nil), time.Second)
	err := c.Delete(t.Context(), alpha, DeleteOptions{UID: "1"})
	if !errors.Is(err, ErrChanged) {
		t.Errorf("error: %v", err)
	}
}

func TestAdviceOnAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"webhook refusal":  {refusal(400, metav1.StatusReasonBadRequest, `admission webhook "validation.gatekeeper.sh" denied the request: no`, nil), `"validation.gatekeeper.sh"`},
		"webhook is down":  {refusal(500, metav1.StatusReasonInternalError, `Internal error occurred: failed calling webhook "linkerd-proxy-injector.linkerd.io": connection refused`, nil), `"linkerd-proxy-injector.linkerd.io"`},
		"no namespace":     {refusal(404, metav1.StatusReasonNotFound, `namespaces "dgraph" not found`, nil), `namespace "dgraph" does not exist`},
		"quota":            {refusal(403, metav1.StatusReasonForbidden, `pods "x" is forbidden: exceeded quota: compute, requested: cpu=1`, nil), `"compute"`},
		"pod security":     {refusal(403, metav1.StatusReasonForbidden, `violates PodSecurity "restricted:latest": NET_ADMIN`, nil), `"restricted:latest"`},
		"invalid":          {refusal(422, metav1.StatusReasonInvalid, `spec.replicas: Invalid value`, nil), "does not accept the object"},
		"forbidden at all": {refusal(403, metav1.StatusReasonForbidden, `nodes is forbidden: User "ci" cannot list resource "nodes" in API group "" at the cluster scope`, nil), `"list" on nodes in the whole cluster`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, test.handler, time.Second).Get(t.Context(), alpha)
			if advice := Advice(err); !strings.Contains(advice, test.want) {
				t.Errorf("advice on %v: %q", err, advice)
			}
		})
	}
}

func TestAdviceOnConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // It complains of the client that refuses it.
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for name, test := range map[string]struct{ host, want string }{
		"refused":           {"https://" + free, "Nothing listens"},
		"unknown authority": {secure.URL, "not signed by the CA"},
		"no TLS":            {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"no such name":      {"https://api.invalid:443", "cannot be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Connect(Settings{Host: test.host, RequestTimeout: 3 * time.Second}, "kube-test")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Get(t.Context(), alpha)
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Fatalf("error: %v", err)
			}
			if advice := Advice(err); !strings.Contains(advice, test.want) {
				t.Errorf("advice on %v: %q", err, advice)
			}
		})
	}
}

func TestAHungCredentialPluginDoesNotHoldTheCaller(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	insecure := true
	c, err := Connect(Settings{
		Host: server.URL, Insecure: &insecure, RequestTimeout: time.Hour,
		Exec: &Exec{APIVersion: "client.authentication.k8s.io/v1", Command: "sleep", Args: []string{"7"}},
	}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err = c.Get(ctx, alpha)
	if took := time.Since(started); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

func TestReferencesThatWouldAskForSomethingElse(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	for _, ref := range []Ref{
		{Kind: Deployment, Name: "alpha"},
		{Kind: Deployment, Namespace: "dgraph"},
		{Kind: Namespace, Namespace: "dgraph", Name: "dgraph"},
		{Kind: Kind{Name: "Rollout"}, Namespace: "dgraph", Name: "alpha"},
	} {
		if _, err := c.Get(t.Context(), ref); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%#v: %v", ref, err)
		}
	}
	if len(a.requests) != 0 {
		t.Errorf("requests: %v", a.requests)
	}
}

func TestErrorsNeverContainCredentials(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-token"
	for _, host := range []string{"https://127.0.0.1:1", "http://127.0.0.1:1"} {
		c, err := Connect(Settings{Host: host, Token: secret, RequestTimeout: time.Second}, "kube-test")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), alpha)
		if err == nil || bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("error: %v", err)
		}
	}
}

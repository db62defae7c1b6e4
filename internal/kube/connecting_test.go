package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// foundWay is an Access that the test decides about.
type foundWay struct {
	asked   atomic.Int32
	found   func(ctx context.Context, time int32) (*rest.Config, error)
	explain func(error) string
}

func (w *foundWay) String() string { return "cluster rg/prod" }

func (w *foundWay) Connect(ctx context.Context) (*rest.Config, error) {
	return w.found(ctx, w.asked.Add(1))
}

func (*foundWay) Login(context.Context) error { return nil }

func (w *foundWay) Explain(_ context.Context, err error) string {
	if w.explain == nil {
		return ""
	}
	return w.explain(err)
}

func (w *foundWay) connect(t *testing.T) *Cluster {
	t.Helper()
	c, err := Connect(Settings{Access: w, RequestTimeout: 2 * time.Second}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func leadingTo(url string) *foundWay {
	return &foundWay{found: func(context.Context, int32) (*rest.Config, error) { return &rest.Config{Host: url}, nil }}
}

func TestTheWayIsAskedForOnceAndNotBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	server := newAPI(t)
	server.set(manifest(Namespace, "", "dgraph"))
	way := leadingTo(server.URL)
	c := way.connect(t)
	if asked := way.asked.Load(); asked != 0 {
		t.Errorf("asked %d times before the first request", asked)
	}
	other, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := c.Get(t.Context(), Ref{Kind: Namespace, Name: "dgraph"}); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if _, err := other.CoreV1().Namespaces().Get(t.Context(), "dgraph", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if asked := way.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAWayThatWasNotFoundIsAskedForAgain(t *testing.T) {
	t.Parallel()
	server := newAPI(t)
	server.set(manifest(Namespace, "", "dgraph"))
	lost := errors.New("no such cluster")
	way := &foundWay{
		found: func(_ context.Context, time int32) (*rest.Config, error) {
			if time <= 2 {
				return nil, lost
			}
			return &rest.Config{Host: server.URL}, nil
		},
		explain: func(err error) string {
			if errors.Is(err, lost) {
				return "Check its name."
			}
			return ""
		},
	}
	c := way.connect(t)
	ref := Ref{Kind: Namespace, Name: "dgraph"}
	_, err := c.Get(t.Context(), ref)
	if err == nil || !errors.Is(err, lost) || err.Error() != "get Namespace dgraph: cluster rg/prod: no such cluster" || Advice(err) != "Check its name." {
		t.Errorf("error %v, advice %q", err, Advice(err))
	}
	other, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.CoreV1().Namespaces().Get(t.Context(), "dgraph", metav1.GetOptions{}); !errors.Is(err, lost) || !strings.Contains(err.Error(), "cluster rg/prod: no such cluster") || Advice(err) != "Check its name." {
		t.Errorf("another client: error %v, advice %q", err, Advice(err))
	}
	if _, err := c.Get(t.Context(), ref); err != nil {
		t.Error(err)
	}
}

// Whoever cancels goes at once, whatever it was that waited; others get their
// answer.
func TestCancelWhileTheWayIsSought(t *testing.T) {
	t.Parallel()
	server := newAPI(t)
	server.set(manifest(Namespace, "", "dgraph"))
	found := make(chan struct{})
	way := &foundWay{found: func(ctx context.Context, _ int32) (*rest.Config, error) {
		select {
		case <-found:
			return &rest.Config{Host: server.URL}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}}
	c := way.connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	var patient, leaving sync.WaitGroup
	for name, operation := range operations(c) {
		leaving.Go(func() {
			if err := operation(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	patient.Go(func() {
		if _, err := c.Get(t.Context(), Ref{Kind: Namespace, Name: "dgraph"}); err != nil {
			t.Error(err)
		}
	})
	cancel()
	leaving.Wait()
	close(found)
	patient.Wait()
	if asked := way.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// The search may take longer than a request.
func TestTheSearchHasMoreTimeThanARequest(t *testing.T) {
	t.Parallel()
	server := newAPI(t)
	server.set(manifest(Namespace, "", "dgraph"))
	way := &foundWay{found: func(ctx context.Context, _ int32) (*rest.Config, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) < time.Minute {
			return nil, errors.New("too little time")
		}
		return &rest.Config{Host: server.URL}, nil
	}}
	if _, err := way.connect(t).Namespace(t.Context(), "dgraph"); err != nil {
		t.Error(err)
	}
}

func TestTheWayExplainsRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		explain string
		want    string // advice
		text    string // of the error
	}{
		"forbidden": {
			refusal(http.StatusForbidden, metav1.StatusReasonForbidden, `pods is forbidden: User "x" cannot list resource "pods" in API group ""`, nil),
			"A role is missing.", "A role is missing.", "get Deployment dgraph/alpha: cluster rg/prod: pods is forbidden",
		},
		"nothing to say": {
			refusal(http.StatusForbidden, metav1.StatusReasonForbidden, `pods is forbidden: User "x" cannot list resource "pods" in API group ""`, nil),
			"", `Give "x" a role`, "get Deployment dgraph/alpha: pods is forbidden",
		},
		"admission speaks for itself": {
			refusal(http.StatusForbidden, metav1.StatusReasonForbidden, `admission webhook "w.example.com" denied the request`, nil),
			"A role is missing.", `The admission webhook "w.example.com"`, "denied the request",
		},
		"no answer": {hang, "It is stopped.", "It is stopped.", "get Deployment dgraph/alpha: cluster rg/prod: no answer within"},
		"not found": {
			refusal(http.StatusNotFound, metav1.StatusReasonNotFound, "not found", &metav1.StatusDetails{Name: "alpha", Group: "apps", Kind: "deployments"}),
			"unasked", "", "not found",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.answer)
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
			})
			way := leadingTo(server.URL)
			way.explain = func(error) string { return test.explain }
			_, err := way.connect(t).Get(t.Context(), alpha)
			if err == nil || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), nowhere) {
				t.Errorf("error: %v", err)
			}
			if advice := Advice(err); !strings.HasPrefix(advice, test.want) || test.want == "" && advice != "" {
				t.Errorf("advice: %q", advice)
			}
		})
	}
}

// What other clients say of the address that they were given is of no use to
// anybody.
func TestErrorsOfOtherClientsAreExplained(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(refusal(http.StatusForbidden, metav1.StatusReasonForbidden, `pods is forbidden: User "x" cannot list resource "pods" in API group ""`, nil))
	t.Cleanup(refusing.Close)
	explain := func(err error) string {
		if statusOf(err) != nil {
			return "A role is missing."
		}
		return "It is stopped."
	}
	for name, test := range map[string]struct {
		way         *foundWay
		flat        bool // the client keeps of the error nothing but the text
		text        string
		says, wraps bool // what the way has to say, and the error itself
	}{
		"no way":           {way: &foundWay{found: func(context.Context, int32) (*rest.Config, error) { return nil, errLost }}, text: "list: cluster rg/prod: lost", says: true, wraps: true},
		"no way, in words": {way: &foundWay{found: func(context.Context, int32) (*rest.Config, error) { return nil, errLost }}, flat: true, text: "list: cluster rg/prod: lost"},
		"no answer": {way: &foundWay{found: func(context.Context, int32) (*rest.Config, error) {
			return &rest.Config{Host: "https://api.example.com", Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errLost }}, nil
		}}, text: "list: cluster rg/prod: lost", says: true, wraps: true},
		"refusal": {way: leadingTo(refusing.URL), text: `cluster rg/prod: list: pods is forbidden: User "x" cannot list resource "pods" in API group ""`, says: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.way.explain = explain
			c := test.way.connect(t)
			other, err := kubernetes.NewForConfig(c.RESTConfig())
			if err != nil {
				t.Fatal(err)
			}
			_, err = other.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
			if err == nil {
				t.Fatal("no error")
			}
			form := "list: %w"
			if test.flat {
				form = "list: %s"
			}
			for range 2 { // Whoever passes it on may have it explained, too.
				err = c.Explained(t.Context(), fmt.Errorf(form, err))
				form = "%w"
				if err.Error() != test.text || errors.Is(err, errLost) != test.wraps {
					t.Errorf("error %v; want %s", err, test.text)
				}
				if advice := Advice(err); advice != "" != test.says || test.says && advice != explain(err) {
					t.Errorf("advice %q", advice)
				}
			}
		})
	}
	c := leadingTo(refusing.URL).connect(t)
	if err := c.Explained(t.Context(), nil); err != nil {
		t.Errorf("nothing is explained as %v", err)
	}
	if err := c.Explained(t.Context(), errLost); err.Error() != "lost" {
		t.Errorf("what has nothing to do with the cluster is explained as %v", err)
	}
}

var errLost = errors.New("lost")

func TestErrorsNameTheClusterOnce(t *testing.T) {
	t.Parallel()
	way := &foundWay{found: func(context.Context, int32) (*rest.Config, error) {
		return nil, errors.New("get the credentials of cluster rg/prod: refused")
	}}
	_, err := way.connect(t).Get(t.Context(), alpha)
	if err == nil || err.Error() != "get Deployment dgraph/alpha: get the credentials of cluster rg/prod: refused" {
		t.Errorf("error %v", err)
	}
}

func TestAConnectionThatFailsNamesTheCluster(t *testing.T) {
	t.Parallel()
	way := &foundWay{
		found: func(context.Context, int32) (*rest.Config, error) {
			return &rest.Config{Host: "https://api.example.com", Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.DNSError{Err: "no such host", Name: "api.example.com", IsNotFound: true}
			}}, nil
		},
		explain: func(err error) string {
			if _, ok := errors.AsType[*net.DNSError](err); ok {
				return "It is private."
			}
			return ""
		},
	}
	c := way.connect(t)
	for range 2 {
		_, err := c.Get(t.Context(), alpha)
		if err == nil || err.Error() != "get Deployment dgraph/alpha: cluster rg/prod: lookup api.example.com: no such host" || Advice(err) != "It is private." {
			t.Errorf("error %v, advice %q", err, Advice(err))
		}
	}
	// It never answered: asking again where it is would not tell anything new.
	if asked := way.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// A cluster that is deleted and made anew under its name has another address, or
// another CA at the same one.
func TestAClusterThatIsMadeAnewIsFoundAgain(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]bool{"another address": true, "another CA": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contents := newAPI(t)
			contents.set(manifest(Namespace, "", "dgraph"))
			type life struct {
				server *httptest.Server
				ca     string
			}
			var lives []life
			for range 2 {
				certificate, key := selfSigned(t)
				pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				server := httptest.NewUnstartedServer(contents)
				server.Config.ErrorLog = log.New(io.Discard, "", 0) // It complains of the client that refuses it.
				server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
				server.Config.SetKeepAlivesEnabled(false) // A write on a connection that is just being closed would fail.
				server.StartTLS()
				t.Cleanup(server.Close)
				lives = append(lives, life{server, certificate})
			}
			var current atomic.Int32
			way := &foundWay{found: func(context.Context, int32) (*rest.Config, error) {
				of := current.Load()
				return &rest.Config{
					Host:            "https://" + selfSignedName,
					TLSClientConfig: rest.TLSClientConfig{CAData: []byte(lives[of].ca)},
					Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
						if current.Load() != of && gone {
							return nil, &net.DNSError{Err: "no such host", Name: selfSignedName, IsNotFound: true}
						}
						return (&net.Dialer{}).DialContext(ctx, network, lives[current.Load()].server.Listener.Addr().String())
					},
				}, nil
			}}
			c := way.connect(t)
			ref := Ref{Kind: Namespace, Name: "dgraph"}
			if _, err := c.Get(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			current.Store(1)
			lives[0].server.Close()
			if _, err := c.Apply(t.Context(), wrap(manifest(ConfigMap, "dgraph", "c")), ApplyOptions{Manager: "m"}); err != nil {
				t.Errorf("write: %v", err)
			}
			if _, err := c.Get(t.Context(), ref); err != nil {
				t.Errorf("read: %v", err)
			}
			if asked := way.asked.Load(); asked != 2 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

package testcluster

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Fault is one way in which an API server, or the network before it, fails.
type Fault int

// The faults that a FaultProxy can inject.
const (
	// FaultNone lets requests through.
	FaultNone Fault = iota
	// FaultUnauthorized answers 401, as for an expired token.
	FaultUnauthorized
	// FaultForbidden answers 403, as for a missing role.
	FaultForbidden
	// FaultTooManyRequests answers 429 with a Retry-After of RetryAfterSeconds.
	FaultTooManyRequests
	// FaultServerError answers 500.
	FaultServerError
	// FaultReset closes the connection with a TCP reset and no answer.
	FaultReset
	// FaultHang accepts the request and never answers it. Requests that hang
	// end when the client gives up or the proxy closes.
	FaultHang
	// FaultNotServed answers 404 as for a path that the API server does not serve.
	FaultNotServed
)

// RetryAfterSeconds is what FaultTooManyRequests asks clients to wait. It is
// the smallest wait that client-go honours, so that tests stay short.
const RetryAfterSeconds = 1

// Faults returns every fault that any request may meet, for tests over the whole
// matrix: not FaultNone, and not FaultNotServed, which is an answer like others.
func Faults() []Fault {
	return []Fault{
		FaultUnauthorized, FaultForbidden, FaultTooManyRequests,
		FaultServerError, FaultReset, FaultHang,
	}
}

// String returns the name used in subtests.
func (f Fault) String() string {
	switch f {
	case FaultNone:
		return "none"
	case FaultUnauthorized:
		return "401"
	case FaultForbidden:
		return "403"
	case FaultTooManyRequests:
		return "429"
	case FaultServerError:
		return "500"
	case FaultReset:
		return "reset"
	case FaultHang:
		return "hang"
	case FaultNotServed:
		return "404"
	default:
		return "fault " + strconv.Itoa(int(f))
	}
}

// Match selects the requests that a fault hits. It must not read the body.
type Match func(*http.Request) bool

// Methods matches requests by HTTP method, such as http.MethodDelete.
func Methods(methods ...string) Match {
	return func(r *http.Request) bool { return slices.Contains(methods, r.Method) }
}

// PathContains matches requests whose URL path contains part, such as
// "/deployments/".
func PathContains(part string) Match {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

// FaultProxy stands in for a failing API server or network: a TLS reverse
// proxy on loopback in front of a real API server that passes everything,
// watches included, until a fault is switched on. Safe for concurrent use.
type FaultProxy struct {
	server     *httptest.Server
	kubeconfig string
	closing    chan struct{}

	mu       sync.Mutex
	fault    Fault
	matches  []Match
	requests int
	faulted  int
	hit      chan struct{}
}

// NewFaultProxy starts a proxy in front of the cluster that the kubeconfig
// file points at and stops it when the test ends. The proxy speaks to the
// cluster with the credentials of that file; its own clients need none.
func NewFaultProxy(t testing.TB, kubeconfig string) *FaultProxy {
	t.Helper()

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatalf("read kubeconfig %s: %v", kubeconfig, err)
	}

	p, err := newFaultProxy(config, t.TempDir())
	if err != nil {
		t.Fatalf("start fault proxy: %v", err)
	}

	t.Cleanup(p.stop)

	return p
}

func newFaultProxy(upstream *rest.Config, dir string) (*FaultProxy, error) {
	target, _, err := rest.DefaultServerUrlFor(upstream)
	if err != nil {
		return nil, fmt.Errorf("address of the upstream API server: %w", err)
	}

	transport, err := rest.TransportFor(upstream)
	if err != nil {
		return nil, fmt.Errorf("transport to the upstream API server: %w", err)
	}

	p := &FaultProxy{closing: make(chan struct{}), hit: make(chan struct{})}
	p.server = httptest.NewUnstartedServer(p.handler(target, transport))
	// Clients that hang up in the middle are what this proxy is for.
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()

	p.kubeconfig, err = p.writeKubeconfig(dir)
	if err != nil {
		p.stop()

		return nil, err
	}

	return p, nil
}

// Kubeconfig returns the path of a kubeconfig file that points at the proxy.
func (p *FaultProxy) Kubeconfig() string { return p.kubeconfig }

// URL returns the proxy's address, https on loopback.
func (p *FaultProxy) URL() string { return p.server.URL }

// CertificateAuthority returns the PEM certificate that clients of the proxy
// must trust.
func (p *FaultProxy) CertificateAuthority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Set switches a fault on for every request that all matches select; with no
// match, for every request. It replaces the fault before it and clears the
// counters.
func (p *FaultProxy) Set(fault Fault, matches ...Match) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.fault, p.matches = fault, matches
	p.requests, p.faulted = 0, 0
	p.hit = make(chan struct{})
}

// Clear lets every later request through. Requests that already hang go on
// hanging: a lost answer does not come back when the network does.
func (p *FaultProxy) Clear() { p.Set(FaultNone) }

// Requests returns how many requests came in since the last Set.
func (p *FaultProxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.requests
}

// Faulted returns how many requests met the fault since the last Set.
func (p *FaultProxy) Faulted() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.faulted
}

// WaitFaulted returns when a request has met the fault since the last Set, so
// that a test can act while its client is inside the call.
func (p *FaultProxy) WaitFaulted(ctx context.Context) error {
	p.mu.Lock()
	hit := p.hit
	p.mu.Unlock()

	select {
	case <-hit:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a request to meet the fault: %w", ctx.Err())
	}
}

func (p *FaultProxy) stop() {
	close(p.closing)
	p.server.CloseClientConnections()
	p.server.Close()
}

// admit counts the request and says which fault it meets.
func (p *FaultProxy) admit(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.requests++

	if p.fault == FaultNone {
		return FaultNone
	}

	for _, match := range p.matches {
		if !match(r) {
			return FaultNone
		}
	}

	if p.faulted++; p.faulted == 1 {
		close(p.hit)
	}

	return p.fault
}

func (p *FaultProxy) handler(target *url.URL, transport http.RoundTripper) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		// Watches must not wait in a buffer.
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// The upstream transport authenticates; a client's own token would
			// win over its certificate.
			r.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			// A client sees a broken connection upstream as a broken connection.
			panic(http.ErrAbortHandler)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch fault := p.admit(r); fault {
		case FaultNone:
			proxy.ServeHTTP(w, r)
		case FaultReset:
			reset(w)
		case FaultHang:
			p.hang(r)
		default:
			answer(w, fault)
		}
	})
}

// reset ends the connection so that the client reads "connection reset".
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}

	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}

	if tcp, ok := conn.(*net.TCPConn); ok {
		// A linger of zero makes the close a reset instead of an orderly end.
		_ = tcp.SetLinger(0)
	}

	_ = conn.Close()
}

func (p *FaultProxy) hang(r *http.Request) {
	// The server notices that the client left only after the body is read.
	_, _ = io.Copy(io.Discard, r.Body)

	select {
	case <-r.Context().Done():
	case <-p.closing:
	}

	panic(http.ErrAbortHandler)
}

// answer writes the Status object that an API server sends with the fault.
func answer(w http.ResponseWriter, fault Fault) {
	var injected *apierrors.StatusError

	switch fault {
	case FaultUnauthorized:
		injected = apierrors.NewUnauthorized("injected fault")
	case FaultForbidden:
		injected = apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("injected fault"))
	case FaultTooManyRequests:
		injected = apierrors.NewTooManyRequests("injected fault", RetryAfterSeconds)
		w.Header().Set("Retry-After", strconv.Itoa(RetryAfterSeconds))
	case FaultNotServed:
		injected = apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "injected fault", 0, true)
	default:
		injected = apierrors.NewInternalError(errors.New("injected fault"))
	}

	status := injected.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func (p *FaultProxy) writeKubeconfig(dir string) (string, error) {
	const name = "faultproxy"

	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   p.URL(),
		CertificateAuthorityData: p.CertificateAuthority(),
	}
	config.AuthInfos[name] = clientcmdapi.NewAuthInfo()
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name

	path := filepath.Join(dir, "faultproxy.kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig %s: %w", path, err)
	}

	return path, nil
}

// Package testazure stands in for Azure: Microsoft Entra ID, Azure Resource
// Manager, AKS clusters with their API servers, container registries, key vaults,
// managed identities, the Azure CLI, and who issues identity tokens to CI jobs.
//
// An HTTP proxy on loopback leads the real names of all of them to one TLS server
// and knows no other host, so that unmodified clients of Azure find it by their
// environment alone. Go reads that environment once per process: a package whose
// tests run clients in their own process calls Main, a test that runs one as a
// child process calls New.
//
// Whatever is made in an Azure has a name that nothing else has, so that parallel
// tests can share one.
package testazure

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Azure is all of Azure. Safe for concurrent use.
type Azure struct {
	ctx       context.Context // what runs behind answered requests ends with it
	stop      context.CancelFunc
	server    *http.Server
	proxy     *httptest.Server
	network   *network
	work      sync.WaitGroup // what runs behind answered requests
	directory string
	signing   []byte // signs what only this Azure reads again
	home      *Tenant
	hosts     map[string]http.HandlerFunc // those that are always there

	mu            sync.Mutex
	offset        time.Duration
	lifetime      time.Duration
	tokens        []Issued
	requests      []Request
	faults        []*fault
	tenants       map[string]*Tenant
	issuers       map[string]*issuer
	jobs          map[string]*Job // by the path of their request URL
	identities    map[string]*Identity
	system        *Identity // of machines themselves, nil if they have none
	commandLines  []*CommandLine
	subscriptions map[string]string // the tenant of each
	clusters      map[string]*Cluster
	registries    map[string]*Registry
	sources       map[string]*Source
	vaults        map[string]*Vault
	operations    map[string]*operation
	assignments   []assignment
	behind        http.Handler                // the API servers of clusters that clients make
	instead       map[string]http.HandlerFunc // by resource ID
}

// Request is one request that was answered, without what is secret in it.
type Request struct {
	Method, Host, Path string
	Query              url.Values
	UserAgent          string
	Status             int
}

// Start starts an Azure with one tenant and one application in it; Close it.
// What hangs ends with ctx.
func Start(ctx context.Context) (*Azure, error) {
	directory, err := os.MkdirTemp("", "testazure-")
	if err != nil {
		return nil, err
	}
	authority, err := newAuthority("testazure")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	ctx, stop := context.WithCancel(ctx)
	a := &Azure{
		ctx: ctx, stop: stop, directory: directory, signing: make([]byte, 32), lifetime: time.Hour,
		tenants: map[string]*Tenant{}, issuers: map[string]*issuer{}, jobs: map[string]*Job{}, identities: map[string]*Identity{},
		subscriptions: map[string]string{}, clusters: map[string]*Cluster{}, registries: map[string]*Registry{},
		sources: map[string]*Source{}, vaults: map[string]*Vault{}, operations: map[string]*operation{},
		instead: map[string]http.HandlerFunc{},
	}
	_, _ = rand.Read(a.signing) // It never fails.
	a.home = a.AddTenant()
	a.home.main = a.home.AddApplication()
	a.home.main.addSecret(ClientSecret)
	a.hosts = map[string]http.HandlerFunc{gitHubHost: a.gitHub, pipelinesHost: a.pipelines}
	for host := range authorities() {
		a.hosts[host] = a.entra
	}
	for _, host := range managementHosts() {
		a.hosts[host] = a.manage
	}

	a.network = newNetwork(authority, a.serves, a.authorityOf)
	if err := os.WriteFile(a.roots(), authority.PEM(), 0o600); err != nil {
		stop()
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	a.server = &http.Server{
		Handler:           http.HandlerFunc(a.serve),
		TLSConfig:         a.network.TLS(),
		ReadHeaderTimeout: time.Minute,
		// Clients that were told to give up reset their connections.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	a.server.BaseContext = a.network.base(ctx)
	a.work.Go(func() { _ = a.server.ServeTLS(a.network, "", "") }) // It always ends by an error.
	a.proxy = httptest.NewUnstartedServer(http.HandlerFunc(a.serveProxy))
	a.proxy.Config.BaseContext = a.network.base(ctx)
	a.proxy.Start()
	return a, nil
}

// New starts an Azure for the time of the test.
func New(t testing.TB) *Azure {
	t.Helper()
	a, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// Close ends the servers and every request that hangs.
func (a *Azure) Close() error {
	a.stop()
	a.proxy.CloseClientConnections()
	a.proxy.Close()
	err := a.server.Close()
	a.work.Wait()
	return errors.Join(err, os.RemoveAll(a.directory))
}

// Environ returns the variables, as `NAME=value`, by which a process finds this
// Azure: to be put behind those of os.Environ. They log nobody in.
func (a *Azure) Environ() []string {
	return []string{
		"HTTPS_PROXY=" + a.proxy.URL,
		"HTTP_PROXY=" + a.proxy.URL,
		"https_proxy=",
		"http_proxy=",
		"NO_PROXY=",
		"no_proxy=",
		"SSL_CERT_FILE=" + a.roots(),
	}
}

// ProxyURL is the address of the proxy that leads to this Azure.
func (a *Azure) ProxyURL() string { return a.proxy.URL }

// Client returns an HTTP client that finds this Azure without the environment.
func (a *Azure) Client() *http.Client {
	return &http.Client{Transport: a.network.transport(a.proxy.URL)}
}

// Advance puts the clock of this Azure forward, or back: tokens that were issued
// before expire, and assertions that are made by the real clock may not be valid
// yet, or any more.
func (a *Azure) Advance(by time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offset += by
}

// Requests returns what was asked for, in the order of the answers. What hangs is
// not among them yet.
func (a *Azure) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Strangers returns the hosts that clients looked for beside this Azure, in the
// order of their attempts.
func (a *Azure) Strangers() []string { return a.network.Strangers() }

// Cut makes a host unreachable, as if its name did not resolve, until Mend.
func (a *Azure) Cut(host string) { a.network.cut(host, unreachable) }

// Silence lets connections to a host hang, as a firewall does, until Mend.
func (a *Azure) Silence(host string) { a.network.cut(host, silent) }

// Mend makes a host reachable again.
func (a *Azure) Mend(host string) { a.network.cut(host, reachable) }

func (a *Azure) roots() string { return filepath.Join(a.directory, "roots.pem") }

func (a *Azure) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.offset)
}

// serves says who answers at a host, nil if nobody does.
func (a *Azure) serves(host string) http.HandlerFunc {
	if handler, ok := a.hosts[host]; ok {
		return handler
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if vault, ok := a.vaults[host]; ok {
		return vault.serve
	}
	if registry, ok := a.registries[host]; ok {
		return registry.serve
	}
	if source, ok := a.sources[host]; ok {
		return source.serve
	}
	for _, cluster := range a.clusters {
		if cluster.answersAt(host) {
			return cluster.serve
		}
	}
	return nil
}

// authorityOf returns who signs a host's certificate if it is not known to
// everybody.
func (a *Azure) authorityOf(host string) *authority {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, cluster := range a.clusters {
		if cluster.answersAt(host) {
			return cluster.authority
		}
	}
	return nil
}

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r.Host)
	handler := a.serves(host)
	if handler == nil {
		handler = http.NotFound
	}
	recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests = append(a.requests, Request{
			Method: r.Method, Host: host, Path: r.URL.Path, Query: r.URL.Query(), UserAgent: r.UserAgent(), Status: recorder.status,
		})
	}()
	if fault := a.fault(host, r); fault != nil {
		fault.serve(recorder, r)
		return
	}
	handler(recorder, r)
}

// statusRecorder remembers the status that went.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// Unwrap is for http.ResponseController.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Fault is an answer that the service itself would not give. Its zero value
// is an answer 200 without a body.
type Fault struct {
	Host   string // the requests that it meets: all hosts if empty
	Method string // any if empty
	Path   string // part of the path

	Times int // how many requests it meets, all if 0

	Status int
	Header http.Header
	Body   any  // text as it is, all else as JSON
	Hang   bool // no answer, ever
	Close  bool // the connection ends without an answer
}

type fault struct {
	Fault
	left int
}

// Fail answers by the fault from now on, as often as it says or until heal is
// called. Of several that meet a request the oldest does.
func (a *Azure) Fail(f Fault) (heal func()) {
	injected := &fault{Fault: f, left: f.Times}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, injected)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.faults = slices.DeleteFunc(a.faults, func(f *fault) bool { return f == injected })
	}
}

// fault returns the fault that meets a request, nil if none does.
func (a *Azure) fault(host string, r *http.Request) *fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.faults {
		if f.Host != "" && f.Host != host || f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) || f.Times > 0 && f.left == 0 {
			continue
		}
		f.left--
		return f
	}
	return nil
}

func (f *fault) serve(w http.ResponseWriter, r *http.Request) {
	if f.Hang {
		hang(w, r)
	}
	if f.Close {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), f.Header)
	status := max(f.Status, http.StatusOK)
	if text, ok := f.Body.(string); ok {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // The client may be gone.
		return
	}
	answer(w, status, f.Body)
}

// hang answers never; it ends with the client, or with Azure.
func hang(_ http.ResponseWriter, r *http.Request) {
	// The server notices that the client left only after the body is read.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Throttled is the answer of a service that has enough, and asks to be left
// alone for so many milliseconds.
func Throttled(milliseconds int) Fault {
	return Fault{
		Status: http.StatusTooManyRequests,
		Header: http.Header{"Retry-After-Ms": {strconv.Itoa(milliseconds)}},
		Body:   managementError("TooManyRequests", "The request is being throttled as the limit has been reached for operation type - Read_ObservationWindow_00:05:00. For more information, see - https://aka.ms/srpthrottlinglimits"),
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	content, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(content) // The client may be gone.
}

// body reads what came and lets it be read again.
func body(r *http.Request) ([]byte, error) {
	content, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(content))
	return content, err
}

func hostOf(hostport string) string {
	host, _, _ := strings.Cut(strings.ToLower(hostport), ":")
	return host
}

// unique returns a name that nothing else has, of letters and digits.
func unique(prefix string) string {
	return prefix + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
}

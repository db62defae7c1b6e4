// Package testcluster runs the embedded cluster of tools/devcluster for the
// acceptance tests and the demo, and lets tests break the way to it.
//
// A test package that needs a cluster declares one and closes it after its
// tests; the cluster starts when the first test asks for it:
//
//	var shared testcluster.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
//
//	func TestAccSomething(t *testing.T) {
//		cluster := shared.Cluster(t)
//		namespace := cluster.Namespace(t)
//		…
//	}
package testcluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Options says what cluster to start. The zero value is a small cluster
// without audit log.
type Options struct {
	// Nodes is the number of simulated nodes; 0 leaves it to devcluster.
	Nodes int
	// Name tells this cluster from others that run; empty means a random one.
	Name string
	// Keep leaves the cluster running after Close and after this process, until
	// StopCommand is run.
	Keep bool
	// AuditLog makes the API server record every request, for AuditEvents.
	AuditLog bool
	// Proxies gives the proxies of meshed pods certificates of their control
	// plane and shows them on the pods, for ProxyIdentity. It costs some requests
	// for each meshed pod.
	Proxies bool
	// NoGatewayAPI leaves out the resource types of the Gateway API, which a
	// cluster otherwise has from the start as AKS installs them: version 1.5.1,
	// annotated app.kubernetes.io/managed-by=aks.
	NoGatewayAPI bool
	// Progress receives the human-readable progress of builds and start-up,
	// which take minutes the first time. Nil drops it.
	Progress io.Writer
}

// ChartLocations says where the cluster's chart servers are.
type ChartLocations struct {
	// Repository is the URL of a Helm repository, such as http://127.0.0.1:41231.
	Repository string
	// OCIRegistry is the host:port of a registry without TLS that has the same
	// charts at oci://<OCIRegistry>/charts/<name>.
	OCIRegistry string
}

// GatewayAPI returns the URL of the manifest with the standard types of the
// Gateway API. There are versions 1.2.1, 1.5.1 and 1.6.0.
func (l ChartLocations) GatewayAPI(version string) string {
	return l.Repository + "/gateway-api/v" + version + "/standard-install.yaml"
}

// IstioSource returns the URL of what is served of the source tree of an Istio
// version: the addons at samples/addons/<name>.yaml, for versions 1.29.4, 1.30.2
// and 1.31.0. Only 1.29.4 has samples/addons/extras/prometheus_vm.yaml and
// prometheus_vm_tls.yaml.
func (l ChartLocations) IstioSource(version string) string {
	return l.Repository + "/istio/" + version
}

// Cluster is a running embedded cluster. It ends with Close or, at the latest,
// with the process that started it, however that ends.
type Cluster struct {
	endpoints endpoints
	client    kubernetes.Interface

	process *exec.Cmd
	stdin   io.Closer
	exited  chan struct{}
	tail    *tailBuffer
}

// endpoints is the line that `devcluster up --json` prints when the cluster is
// ready.
type endpoints struct {
	Name            string `json:"name"`
	Kubeconfig      string `json:"kubeconfig"`
	ChartRepository string `json:"chartRepository"`
	OCIRegistry     string `json:"ociRegistry"`
	AuditLog        string `json:"auditLog"`
}

// Start builds devcluster when it is out of date, starts a cluster and returns
// when the cluster is ready. Ending ctx abandons the start but not a cluster
// that runs: that is Close. The error holds the last lines that devcluster
// wrote.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	progress := opts.Progress
	if progress == nil {
		progress = io.Discard
	}

	binary, err := buildDevcluster(ctx, progress)
	if err != nil {
		return nil, err
	}

	args := []string{"up", "--json", "--name", opts.Name}
	if !opts.Keep {
		args = append(args, "--foreground")
	}

	if opts.Nodes > 0 {
		args = append(args, "--nodes", strconv.Itoa(opts.Nodes))
	}

	if opts.AuditLog {
		args = append(args, "--audit-log")
	}

	if opts.Proxies {
		args = append(args, "--proxies")
	}

	if !opts.NoGatewayAPI {
		args = append(args, "--gateway-api")
	}

	return launch(ctx, binary, args, progress)
}

// launch runs the binary and waits for its line of endpoints.
func launch(ctx context.Context, binary string, args []string, progress io.Writer) (*Cluster, error) {
	c := &Cluster{exited: make(chan struct{}), tail: &tailBuffer{}}

	// The process must outlive ctx, which covers only the start; it ends when
	// its standard input does, even if this process is killed.
	c.process = exec.Command(binary, args...) //nolint:gosec // The binary is the one that Start has built.
	c.process.Stderr = io.MultiWriter(c.tail, progress)

	var err error
	if c.stdin, err = c.process.StdinPipe(); err != nil {
		return nil, fmt.Errorf("pipe to devcluster: %w", err)
	}

	stdout, err := c.process.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe from devcluster: %w", err)
	}

	if err := c.process.Start(); err != nil {
		return nil, fmt.Errorf("start devcluster: %w", err)
	}

	ready := make(chan error, 1)

	go func() {
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &c.endpoints)
		}

		ready <- err
		// Wait closes the pipe, so it must come after the read.
		_, _ = io.Copy(io.Discard, stdout)
		_ = c.process.Wait()

		close(c.exited)
	}()

	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}

	if err == nil {
		c.client, err = newClient(c.endpoints.Kubeconfig)
	}

	if err != nil {
		err = errors.Join(err, c.Close())

		return nil, fmt.Errorf("devcluster did not become ready: %w\n%s", err, c.tail)
	}

	return c, nil
}

// userAgent tells the requests of a test from those of what it tests.
const userAgent = "testcluster"

func newClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}

	// Tests share the client; client-side throttling would only slow them.
	config.QPS = -1
	config.UserAgent = userAgent

	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for kubeconfig %s: %w", kubeconfig, err)
	}

	return client, nil
}

// New starts a cluster for one test and closes it when the test ends.
func New(t testing.TB, opts Options) *Cluster {
	t.Helper()

	c, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the cluster: %v", err)
		}
	})

	return c
}

// closeTimeout is how long devcluster may take to end.
const closeTimeout = time.Minute

// Close ends the cluster and returns when its processes and files are gone. Of
// a cluster with Options.Keep it ends nothing.
func (c *Cluster) Close() error {
	if err := c.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("ask devcluster to end: %w", err)
	}

	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()

	select {
	case <-c.exited:
	case <-patience.C:
		// It cleans up also when it is killed, only later.
		if err := c.process.Process.Kill(); err != nil {
			return fmt.Errorf("kill devcluster, which did not end within %s: %w", closeTimeout, err)
		}

		<-c.exited
	}

	if state := c.process.ProcessState; !state.Success() {
		return fmt.Errorf("devcluster ended with %s\n%s", state, c.tail)
	}

	return nil
}

// StopCommand returns the shell command that ends a cluster that was started
// with Options.Keep.
func (c *Cluster) StopCommand() string { return c.process.Path + " down --name " + c.endpoints.Name }

// Kubeconfig returns the path of a kubeconfig file with cluster-admin rights.
func (c *Cluster) Kubeconfig() string { return c.endpoints.Kubeconfig }

// Client returns a client with cluster-admin rights and no throttling.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Charts returns where the cluster serves the charts of both meshes.
func (c *Cluster) Charts() ChartLocations {
	return ChartLocations{
		Repository:  c.endpoints.ChartRepository,
		OCIRegistry: c.endpoints.OCIRegistry,
	}
}

// Shared is one cluster for all tests of a package. The zero value is ready to
// use and starts nothing until a test asks for the cluster, so that runs
// without acceptance tests stay fast.
type Shared struct {
	// Options is read when the cluster starts.
	Options Options

	start   sync.Once
	cluster *Cluster
	err     error
}

// Cluster returns the cluster, starting it on first use.
func (s *Shared) Cluster(t testing.TB) *Cluster {
	t.Helper()

	// The first test that asks must not take the cluster down when it ends,
	// nor fail the others when it is the one that is interrupted.
	s.start.Do(func() { s.cluster, s.err = Start(context.WithoutCancel(t.Context()), s.Options) })

	if s.err != nil {
		t.Fatal(s.err)
	}

	return s.cluster
}

// Main runs the tests of a package and ends the cluster after them. It returns
// the exit code for os.Exit.
func (s *Shared) Main(m interface{ Run() int }) int {
	code := m.Run()

	if s.cluster == nil {
		return code
	}

	if err := s.cluster.Close(); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "close the shared cluster: %v\n", err)

		return max(code, 1)
	}

	return code
}

// tailBuffer keeps the last few kilobytes written to it for error messages.
// It is safe for concurrent use.
type tailBuffer struct {
	mu   sync.Mutex
	last []byte
}

const tailSize = 8 << 10

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.last = append(b.last, p...)
	if extra := len(b.last) - tailSize; extra > 0 {
		b.last = b.last[extra:]
	}

	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return string(bytes.TrimSpace(b.last))
}

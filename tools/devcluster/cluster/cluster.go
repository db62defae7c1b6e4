// Package cluster runs a real Kubernetes control plane on the loopback
// interface, without root and without containers: etcd inside this process,
// kube-apiserver, kube-controller-manager and kube-scheduler as its children,
// and simulated nodes.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/egress"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/namespaces"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/node"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/process"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/statedir"
)

// Defaults of Options.
const (
	DefaultNodes  = 3
	DefaultRegion = "westeurope"
)

const (
	// pollInterval is how often something that cannot be watched is looked at.
	pollInterval = 25 * time.Millisecond
	// contextName is what kubeconfig files call the cluster, as `az aks
	// get-credentials` would by the name of the AKS cluster.
	contextName = "devcluster"
	// userAgent tells this tool's own requests apart in the audit log.
	userAgent = "devcluster"
)

// Executables are the commands that every cluster runs.
var Executables = []string{binaries.APIServer, binaries.ControllerManager, binaries.Scheduler}

// Options configure a cluster. The zero value of each but Binaries is useful.
type Options struct {
	// Name identifies the cluster among those of this user; a random one by default.
	Name string
	// Nodes is the number of simulated nodes, DefaultNodes when zero.
	Nodes int
	// Region is the Azure region the nodes say they are in, DefaultRegion when empty.
	Region string
	// Kubeconfig is where an additional copy of the kubeconfig is written.
	Kubeconfig string
	// AuditLog asks for a log of all API requests.
	AuditLog bool
	// Binaries builds what the cluster runs.
	Binaries binaries.Builder
	// Programs run in place of the containers of some pods.
	Programs []program.Program
	// Proxies get the proxies of meshed pods their identities; none by default,
	// as each pod costs some requests then.
	Proxies []program.Proxy
	// Prepare, if not nil, puts something into the cluster while its nodes start,
	// with the access of Cluster.Config. The cluster has started when it is done too.
	Prepare func(context.Context, *rest.Config) error
	// Log receives what goes on in the simulated part of the cluster; a file
	// in the state directory by default.
	Log *slog.Logger
}

// Info describes a running cluster to other processes.
type Info struct {
	Name string `json:"name"`
	// PID is the process that owns the cluster: it ends with it.
	PID int `json:"pid"`
	// Dir holds the logs of all components and is removed with the cluster.
	Dir string `json:"dir"`
	// Server is the URL of the API server, and CA the PEM bundle to trust it by.
	Server string `json:"server"`
	CA     string `json:"ca"`
	// Kubeconfig is the path of a kubeconfig with the rights of a cluster administrator.
	Kubeconfig string `json:"kubeconfig"`
	// AuditLog is the path of the audit log, one JSON event per line, if asked for.
	AuditLog string `json:"auditLog,omitempty"`
	// ChartRepository is the URL of the Helm repository, and OCIRegistry the
	// host:port of the OCI registry with the same charts.
	ChartRepository string `json:"chartRepository,omitempty"`
	OCIRegistry     string `json:"ociRegistry,omitempty"`
	// Processes are the children by name, and Versions what they are versions of.
	Processes map[string]int    `json:"processes"`
	Versions  map[string]string `json:"versions"`
	// ReadyAfter and StartedAfter are the milliseconds from the start, with all
	// binaries built, to an API that answers and to nodes that accept pods.
	ReadyAfter   int64 `json:"readyAfterMilliseconds"`
	StartedAfter int64 `json:"startedAfterMilliseconds"`
}

// A Cluster is a running cluster.
type Cluster struct {
	options Options
	info    Info
	config  *rest.Config

	state      *statedir.Dir
	children   *process.Group
	processes  []*process.Process
	etcd       *store
	port       *reservation
	pool       *node.Pool
	proxy      *egress.Proxy
	background context.CancelFunc
	informers  informers.SharedInformerFactory
	logs       []*os.File
}

// Start builds what is missing, starts a cluster and returns when it accepts
// pods. It runs until Stop or the end of this process, however that ends.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.Name == "" {
		options.Name = "unnamed-" + rand.String(8)
	}
	if options.Nodes == 0 {
		options.Nodes = DefaultNodes
	}
	if options.Region == "" {
		options.Region = DefaultRegion
	}
	kubernetesVersion, err := options.Binaries.KubernetesVersion()
	if err != nil {
		return nil, err
	}
	executables, err := options.Binaries.Build(ctx, Executables...)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		options: options,
		info:    Info{Name: options.Name, PID: os.Getpid(), Processes: map[string]int{}, Versions: map[string]string{"kubernetes": kubernetesVersion, "etcd": "v" + version.Version}},
	}
	if err := c.start(ctx, executables); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Info describes the cluster.
func (c *Cluster) Info() Info { return c.info }

// Config returns the access of a cluster administrator, with client-side
// throttling off.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Publish makes info, that of the cluster with additions, known to other
// processes that look for the cluster by its name.
func (c *Cluster) Publish(info Info) error { return c.state.Publish(info) }

// Exited returns a channel that receives the reason when one of the processes
// of the cluster ends by itself.
func (c *Cluster) Exited(ctx context.Context) <-chan error {
	exited := make(chan error, len(c.processes))
	for _, child := range c.processes {
		go func() {
			select {
			case <-child.Done():
				exited <- child.Err()
			case <-ctx.Done():
			}
		}()
	}
	return exited
}

// Stop ends everything that belongs to the cluster and removes its state. The
// state is of no further use, so nothing is shut down gracefully.
func (c *Cluster) Stop() error {
	if c.proxy != nil {
		c.proxy.Stop()
	}
	if c.background != nil {
		c.background()
	}
	if c.informers != nil {
		c.informers.Shutdown()
	}
	if c.pool != nil {
		c.pool.Stop()
	}
	if c.children != nil {
		c.children.Close()
	}
	if c.etcd != nil {
		c.etcd.stop()
	}
	if c.port != nil {
		c.port.release()
	}
	var failures []error
	if c.options.Kubeconfig != "" && c.info.Kubeconfig != "" {
		failures = append(failures, removeCopy(c.options.Kubeconfig, c.info.Server))
	}
	for _, log := range c.logs {
		failures = append(failures, log.Close())
	}
	if c.state != nil {
		failures = append(failures, c.state.Release())
	}
	return errors.Join(failures...)
}

// start starts all parts in order. What it has started when it fails is left to Stop.
func (c *Cluster) start(ctx context.Context, executables []string) error {
	started := time.Now()
	var err error
	if c.state, err = statedir.Acquire(c.options.Name); err != nil {
		return err
	}
	c.info.Dir = c.state.Path()
	if c.options.Log == nil {
		file, err := c.createLog("devcluster")
		if err != nil {
			return err
		}
		c.options.Log = slog.New(slog.NewTextHandler(file, nil))
	}
	credentials, err := newCredentials(c.path("pki"))
	if err != nil {
		return err
	}
	if c.etcd, err = startStore(ctx, c.info.Dir); err != nil {
		return err
	}
	if c.port, err = reservePort(); err != nil {
		return err
	}
	c.info.Server = "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port.port))
	c.info.CA = string(credentials.ca.bundle())
	c.children = process.NewGroup()
	if err := c.startControlPlane(ctx, credentials, executables); err != nil {
		return err
	}
	c.info.ReadyAfter = time.Since(started).Milliseconds()
	prepared := c.prepare(ctx)
	if err := errors.Join(c.startNodes(ctx), <-prepared); err != nil {
		return err
	}
	c.info.StartedAfter = time.Since(started).Milliseconds()
	return nil
}

// prepare starts Options.Prepare and returns a channel that receives how it ended.
func (c *Cluster) prepare(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if c.options.Prepare == nil {
		done <- nil
		return done
	}
	go func() { done <- c.options.Prepare(ctx, c.Config()) }()
	return done
}

// startControlPlane starts the processes and returns when the API answers.
func (c *Cluster) startControlPlane(ctx context.Context, credentials *credentials, executables []string) error {
	if err := c.writeConfigurations(); err != nil {
		return err
	}
	if err := c.startChild("kube-apiserver", executables[0], c.apiServerArguments(credentials)); err != nil {
		return err
	}
	admin := c.kubeconfig(credentials, credentials.admin)
	if err := c.writeKubeconfigs(credentials, admin); err != nil {
		return err
	}
	config, err := clientcmd.NewDefaultClientConfig(*admin, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	config.QPS = -1
	config.UserAgent = userAgent
	// Deprecated APIs are met whenever a namespace is emptied.
	config.WarningHandler = rest.NoWarnings{}
	c.config = config
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	err = c.await(ctx, "the API server to answer", func(ctx context.Context) bool {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
	})
	if err != nil {
		return err
	}
	if err := c.startChild("kube-controller-manager", executables[1], c.controllerManagerArguments(credentials)); err != nil {
		return err
	}
	return c.startChild("kube-scheduler", executables[2], c.schedulerArguments())
}

// startNodes starts the simulated part and returns when pods can be created.
func (c *Cluster) startNodes(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	var run context.Context
	run, c.background = context.WithCancel(context.WithoutCancel(ctx))
	c.informers = informers.NewSharedInformerFactoryWithOptions(client, 0, node.Resync())
	simulationLog, err := c.createLog("kwok")
	if err != nil {
		return err
	}
	c.pool, err = node.Start(ctx, node.Options{
		Client:         client,
		Informers:      c.informers,
		Count:          c.options.Nodes,
		Region:         c.options.Region,
		KubeletVersion: c.info.Versions["kubernetes"],
		Programs:       c.options.Programs,
		Proxies:        c.options.Proxies,
		Env: program.Env{
			REST: c.Config(), Kubeconfig: c.info.Kubeconfig, Dir: c.path("pods"), Log: c.options.Log,
			// No pod is seen before the informers start, and the proxy is there then.
			Dial: func(ctx context.Context, address string, accept func(*corev1.Pod) error) (net.Conn, error) {
				return c.proxy.Dial(ctx, address, accept)
			},
		},
		Log:           c.options.Log,
		SimulationLog: simulationLog,
	})
	if err != nil {
		return err
	}
	c.proxy, err = egress.Start(ctx, c.path(egressSocket), c.informers, c.pool, c.options.Log)
	if err != nil {
		return err
	}
	if err := azure.Start(run, client, c.options.Log); err != nil {
		return err
	}
	if err := namespaces.Start(run, c.Config(), c.options.Log); err != nil {
		return err
	}
	c.informers.Start(run.Done())
	for kind, synced := range c.informers.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("watch %s: %w", kind, context.Cause(ctx))
		}
	}
	// A pod cannot be created before its namespace has this account.
	return c.await(ctx, "the controller manager to create the default ServiceAccount", func(ctx context.Context) bool {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
}

// await polls until met, or fails because ctx or one of the processes ended.
func (c *Cluster) await(ctx context.Context, what string, met func(context.Context) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	exited := c.Exited(ctx)
	go func() {
		select {
		case err := <-exited:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		return met(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
	}
	return nil
}

// startChild starts one process of the control plane.
func (c *Cluster) startChild(name, path string, arguments []string) error {
	child, err := c.children.Run(name, c.path(name+".log"), exec.Command(path, arguments...)) //nolint:gosec // the path is one this tool built
	if err != nil {
		return err
	}
	c.processes = append(c.processes, child)
	c.info.Processes[name] = child.PID()
	return nil
}

// createLog creates a log file that is closed with the cluster.
func (c *Cluster) createLog(name string) (*os.File, error) {
	file, err := os.OpenFile(c.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	c.logs = append(c.logs, file)
	return file, nil
}

// path returns the path of a file of the cluster.
func (c *Cluster) path(name string) string { return filepath.Join(c.info.Dir, name) }

// kubeconfig returns the configuration of a client that has the key pair.
func (c *Cluster) kubeconfig(credentials *credentials, pair *keyPair) *clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters[contextName] = &clientcmdapi.Cluster{
		Server:                   c.info.Server,
		CertificateAuthorityData: credentials.ca.bundle(),
	}
	config.AuthInfos[contextName] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.certificate, ClientKeyData: pair.key}
	config.Contexts[contextName] = &clientcmdapi.Context{Cluster: contextName, AuthInfo: contextName}
	config.CurrentContext = contextName
	return config
}

// writeKubeconfigs writes the kubeconfig of the user and those of the children.
func (c *Cluster) writeKubeconfigs(credentials *credentials, admin *clientcmdapi.Config) error {
	c.info.Kubeconfig = c.path("kubeconfig")
	if err := clientcmd.WriteToFile(*admin, c.info.Kubeconfig); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if c.options.Kubeconfig != "" {
		if err := writeCopy(c.options.Kubeconfig, admin); err != nil {
			return err
		}
	}
	for _, user := range []string{"kube-controller-manager", "kube-scheduler"} {
		// Administrators, so that the controllers need no service accounts of
		// their own; the name still tells them apart in the audit log.
		pair, err := credentials.ca.client("system:"+user, "system:masters")
		if err != nil {
			return err
		}
		if err := clientcmd.WriteToFile(*c.kubeconfig(credentials, pair), c.path(user+".kubeconfig")); err != nil {
			return fmt.Errorf("write kubeconfig of %s: %w", user, err)
		}
	}
	return nil
}

// writeCopy writes config to path unless a file is there that is not such a copy.
func writeCopy(path string, config *clientcmdapi.Config) error {
	existing, err := clientcmd.LoadFromFile(path)
	switch {
	case err == nil && !isCopy(existing):
		return fmt.Errorf("the kubeconfig %s exists and is not of a devcluster: it is not overwritten", path)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// removeCopy removes the copy at path if it still is of the cluster at server.
func removeCopy(path, server string) error {
	existing, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	if !isCopy(existing) || existing.Clusters[contextName].Server != server {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove kubeconfig: %w", err)
	}
	return nil
}

// isCopy reports whether config names nothing but a devcluster on loopback.
func isCopy(config *clientcmdapi.Config) bool {
	cluster, ok := config.Clusters[contextName]
	return ok && len(config.Clusters) == 1 && strings.HasPrefix(cluster.Server, "https://127.0.0.1:")
}

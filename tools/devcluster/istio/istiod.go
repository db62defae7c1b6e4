package istio

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/process"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// serviceAccountDir is where a container finds the token of its pod.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// stopGrace is how long istiod gets to give up its leader leases. Without
// that the next instance would wait for them to expire before it writes any
// root certificate.
const stopGrace = 5 * time.Second

// Programs are what Istio's pods run in the embedded cluster: istiod and, for
// the ambient mode, the node agent. binary returns the path of Istio's
// pilot-discovery, and may build it when it is first asked.
func Programs(binary func(ctx context.Context) (string, error)) []program.Program {
	return []program.Program{istiod{binary}, nodeAgent{}}
}

type istiod struct {
	binary func(ctx context.Context) (string, error)
}

func (istiod) Name() string { return "istiod" }

func (istiod) Runs(pod *corev1.Pod) bool {
	return pod.Labels["app"] == "istiod" && podenv.Container(pod, "discovery") != nil
}

// Start runs istiod with the arguments, environment, mounts and service
// account of the pod, so that chart values and RBAC take effect as in a real
// cluster. Only where it listens and how it finds the API server are ours.
func (p istiod) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (_ program.Instance, err error) {
	binary, err := p.binary(ctx)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(env.REST)
	if err != nil {
		return nil, fmt.Errorf("create client for %s: %w", p.Name(), err)
	}

	// An earlier try may have left files of objects that are gone by now.
	root := filepath.Join(env.Dir, "root")
	if err := os.RemoveAll(root); err != nil {
		return nil, fmt.Errorf("clear %s: %w", root, err)
	}
	discovery := podenv.Container(pod, "discovery")
	mounts, err := mount(ctx, client, env.Log, pod, discovery, root, podenv.MountLag)
	if err != nil {
		return nil, err
	}
	i := &instance{mounts: mounts, group: process.NewGroup(), ports: map[int]string{}}
	defer func() {
		if err != nil {
			i.Stop()
		}
	}()

	variables, err := podenv.Variables(ctx, client, pod, discovery)
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(env.Dir, "kubeconfig")
	if err := writeKubeconfig(kubeconfig, env.REST, filepath.Join(root, serviceAccountDir, "token")); err != nil {
		return nil, err
	}

	args := append(slices.Clone(discovery.Args),
		"--kubeconfig="+kubeconfig,
		"--ctrlz_address=127.0.0.1", "--ctrlz_port=0",
	)
	for flag, port := range map[string]int{
		"httpAddr":       8080,
		"grpcAddr":       15010,
		"secureGRPCAddr": 15012,
		"monitoringAddr": 15014,
		"httpsAddr":      15017,
	} {
		if i.ports[port], err = freeAddress(ctx); err != nil {
			return nil, err
		}
		args = append(args, "--"+flag+"="+i.ports[port])
	}

	cmd := exec.Command(binary, args...) //nolint:gosec // The binary is the one this tool built.
	// Istio names its files relative to the working directory, which is / in
	// its image, so this is the container's root.
	cmd.Dir = root
	// By the first variable istiod knows only that it runs in a cluster, where
	// the API server is who reviews tokens.
	variables["KUBERNETES_SERVICE_HOST"], variables["HOME"] = "kubernetes.default.svc", root
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if i.process, err = i.group.Run(p.Name(), filepath.Join(env.Dir, "istiod.log"), cmd); err != nil {
		return nil, err
	}
	if err := i.ready(ctx); err != nil {
		return nil, err
	}
	return i, nil
}

// An instance is one running istiod.
type instance struct {
	mounts  *mounts
	group   *process.Group
	process *process.Process
	// ports are the loopback addresses that stand for the container ports.
	ports map[int]string
}

// ready waits until istiod's own readiness probe answers.
func (i *instance) ready(ctx context.Context) error {
	url := "http://" + i.ports[8080] + "/ready"
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			ready := resp.StatusCode == http.StatusOK
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if ready {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-i.process.Done():
			return i.process.Err()
		case <-ctx.Done():
			return fmt.Errorf("istiod did not become ready: %w", context.Cause(ctx))
		}
	}
}

// Dial connects to what istiod serves on a container port of the chart.
func (i *instance) Dial(ctx context.Context, containerPort int) (net.Conn, error) {
	address, ok := i.ports[containerPort]
	if !ok {
		return nil, fmt.Errorf("istiod does not listen on port %d", containerPort)
	}
	select {
	case <-i.process.Done():
		// Better than that the connection is refused.
		return nil, i.process.Err()
	default:
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// Stop ends istiod as the kubelet does: by SIGTERM, then by SIGKILL.
func (i *instance) Stop() {
	if i.process != nil {
		// It fails only for a process that has ended already.
		_ = syscall.Kill(i.process.PID(), syscall.SIGTERM)
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-i.process.Done():
		case <-grace.C:
		}
	}
	i.group.Close()
	i.mounts.Stop()
}

// writeKubeconfig gives the bearer of the token in tokenFile access to the
// API server of cluster. In a pod the same would come from the environment.
func writeKubeconfig(path string, cluster *rest.Config, tokenFile string) error {
	cluster = rest.CopyConfig(cluster)
	if err := rest.LoadTLSFiles(cluster); err != nil {
		return fmt.Errorf("read certificate authority of the API server: %w", err)
	}
	const name = "devcluster"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   cluster.Host,
		CertificateAuthorityData: cluster.CAData,
		TLSServerName:            cluster.ServerName,
	}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{TokenFile: tokenFile}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// freeAddress finds a loopback address on which nothing listens. Istiod binds
// it a moment later, so it must not be one that the kernel may give away in
// between: below 30000 lie neither Linux's nor macOS's ephemeral ports, nor
// Kubernetes's node ports.
func freeAddress(ctx context.Context) (string, error) {
	const lowest, count, attempts = 20000, 10000, 100
	var errs []error
	for range attempts {
		port := lowest + rand.IntN(count) //nolint:gosec // It need not be unpredictable.
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := listener.Close(); err != nil {
			return "", fmt.Errorf("probe %s: %w", address, err)
		}
		return address, nil
	}
	return "", fmt.Errorf("find a free port: %w", errors.Join(errs...))
}

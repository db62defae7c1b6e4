package cluster_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/statedir"
)

// ownerVariable names the cluster that a copy of this test program shall own
// instead of running tests.
const ownerVariable = "DEVCLUSTER_TEST_OWNER"

// patience is how long anything may take on a busy machine.
const patience = 2 * time.Minute

// shared is the cluster of all tests that need no other.
var shared struct {
	*cluster.Cluster
	client    kubernetes.Interface
	webhooks  *labeller
	authority authority
}

func TestMain(m *testing.M) {
	if name := os.Getenv(ownerVariable); name != "" {
		if err := own(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

// runTests runs the tests with the shared cluster.
func runTests(m *testing.M) (code int, err error) {
	options, err := options()
	if err != nil {
		return 0, err
	}
	shared.webhooks, err = newLabeller()
	if err != nil {
		return 0, err
	}
	options.AuditLog = true
	options.Programs = []program.Program{shared.webhooks}
	options.Proxies = []program.Proxy{&shared.authority}
	shared.Cluster, err = cluster.Start(context.Background(), options)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.Stop()) }()
	shared.client, err = kubernetes.NewForConfig(shared.Config())
	if err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// options returns those of a cluster with the module graph of this module.
func options() (cluster.Options, error) {
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		return cluster.Options{}, err
	}
	goSum, err := os.ReadFile("../go.sum")
	if err != nil {
		return cluster.Options{}, err
	}
	return cluster.Options{Binaries: binaries.Builder{GoMod: goMod, GoSum: goSum, Progress: os.Stderr}}, nil
}

// own starts a cluster, says so, and waits to be killed.
func own(name string) error {
	options, err := options()
	if err != nil {
		return err
	}
	options.Name = name
	c, err := cluster.Start(context.Background(), options)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(c.Info()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// eventually polls until condition returns nil.
func eventually(t *testing.T, condition func(ctx context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = condition(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
}

// namespace creates a namespace for the test.
func namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	created, err := shared.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := shared.client.CoreV1().ServiceAccounts(created.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return created.Name
}

func TestVersion(t *testing.T) {
	t.Parallel()
	version, err := shared.client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if want := shared.Info().Versions["kubernetes"]; version.GitVersion != want || version.Major != "1" || version.Minor != strings.Split(want, ".")[1] {
		t.Errorf("server says %+v, want %s", version, want)
	}
}

func TestNodesLookLikeAKS(t *testing.T) {
	t.Parallel()
	nodes, err := shared.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != cluster.DefaultNodes {
		t.Fatalf("%d nodes, want %d", len(nodes.Items), cluster.DefaultNodes)
	}
	for i, node := range nodes.Items {
		if want := fmt.Sprintf("vmss%06d", i); !strings.HasPrefix(node.Name, "aks-nodepool1-") || !strings.HasSuffix(node.Name, want) {
			t.Errorf("node is called %s", node.Name)
		}
		for label, want := range map[string]string{
			"agentpool":                      "nodepool1",
			"kubernetes.azure.com/agentpool": "nodepool1",
			"kubernetes.azure.com/mode":      "system",
			corev1.LabelTopologyZone:         fmt.Sprintf("%s-%d", cluster.DefaultRegion, i+1),
			corev1.LabelOSStable:             "linux",
		} {
			if node.Labels[label] != want {
				t.Errorf("node %s has label %s=%s, want %s", node.Name, label, node.Labels[label], want)
			}
		}
		if !strings.HasPrefix(node.Spec.ProviderID, "azure:///subscriptions/") || len(node.Spec.Taints) != 0 {
			t.Errorf("node %s has provider ID %q and taints %v", node.Name, node.Spec.ProviderID, node.Spec.Taints)
		}
		if node.Status.NodeInfo.KubeletVersion != shared.Info().Versions["kubernetes"] {
			t.Errorf("kubelet version is %s", node.Status.NodeInfo.KubeletVersion)
		}
	}
}

func TestServiceAccountsHaveOnlyTheirRights(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	config := shared.Config()
	config.Impersonate.UserName = "system:serviceaccount:" + name + ":default"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets(name).List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a service account without roles lists Secrets")
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	config, err := clientcmd.BuildConfigFromFlags("", shared.Info().Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	log, err := os.Open(shared.Info().AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // only read
	reads := 0
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var event struct{ Verb, RequestURI string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		if event.Verb == "get" && event.RequestURI == "/api/v1/namespaces/"+name+"/serviceaccounts/default" {
			reads++
		}
	}
	if reads == 0 {
		t.Error("the audit log lacks a request that has been answered")
	}
}

// TestKilledOwner kills the process that owns a second cluster.
func TestKilledOwner(t *testing.T) {
	t.Parallel()
	const name = "test-killed-owner"
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerVariable+"="+name)
	owner.Stderr = os.Stderr
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close() //nolint:errcheck // keeps the owner waiting
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var info cluster.Info
	if err := json.NewDecoder(stdout).Decode(&info); err != nil {
		t.Fatal(errors.Join(err, owner.Process.Kill(), owner.Wait()))
	}
	if _, err := statedir.Acquire(name); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("acquiring the name of a live cluster: %v", err)
	}
	if len(info.Processes) != 3 || info.Server == shared.Info().Server {
		t.Errorf("unexpected cluster %+v", info)
	}

	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	for child, pid := range info.Processes {
		eventually(t, func(context.Context) error {
			// The orphan may stay a zombie where nobody reaps it; it does nothing any more.
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(state), ") Z ") {
				return nil
			}
			if err := syscall.Kill(pid, 0); err == nil {
				return fmt.Errorf("%s (%d) is still running", child, pid)
			}
			return nil
		})
	}
	if _, err := os.Stat(info.Dir); err != nil {
		t.Errorf("the state of the killed cluster: %v", err)
	}
	dir, err := statedir.Acquire(name + "-successor")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(info.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state of the killed cluster after the next start: %v", err)
	}
	if err := dir.Release(); err != nil {
		t.Error(err)
	}
}

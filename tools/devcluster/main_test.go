package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
)

// mainVariable makes this test program behave as devcluster.
const mainVariable = "DEVCLUSTER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// devcluster prepares to run devcluster with arguments.
func devcluster(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], arguments...)
	command.Env = append(os.Environ(), mainVariable+"=1")
	return command
}

// run runs devcluster and returns its standard output, or its complaint as an error.
func run(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	command := devcluster(t, arguments...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		err = errors.New(complaint.String())
	}
	return string(out), err
}

// decode parses what --json prints.
func decode(t *testing.T, line string) cluster.Info {
	t.Helper()
	var info cluster.Info
	if err := json.Unmarshal([]byte(line), &info); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return info
}

// get returns the body at url.
func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestBackground(t *testing.T) {
	t.Parallel()
	const name = "test-background"
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if out, err := run(t, "status", "--name", name); err == nil {
		t.Fatalf("status before up: %s", out)
	}
	out, err := run(t, "up", "--name", name, "--nodes", "1", "--kubeconfig", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := run(t, "status", "--name", name); err == nil {
			_, err = run(t, "down", "--name", name)
			t.Errorf("the test left its cluster: %v", err)
		}
	}()
	if !strings.Contains(out, "export KUBECONFIG=") {
		t.Errorf("up printed %s", out)
	}
	if _, err := run(t, "up", "--name", name); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("second up: %v", err)
	}
	out, err = run(t, "status", "--name", name, "--json")
	if err != nil {
		t.Fatal(err)
	}
	info := decode(t, out)

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Discovery().ServerVersion(); err != nil || config.Host != info.Server {
		t.Errorf("the kubeconfig leads to %s, not %s: %v", config.Host, info.Server, err)
	}
	index := get(t, info.ChartRepository+"/index.yaml")
	for _, chart := range []string{"linkerd-crds", "linkerd-control-plane", "istiod"} {
		if !strings.Contains(index, chart) {
			t.Errorf("chart %s is not in the repository", chart)
		}
		if tags := get(t, "http://"+info.OCIRegistry+"/v2/charts/"+chart+"/tags/list"); !strings.Contains(tags, chart) {
			t.Errorf("chart %s is not in the registry: %s", chart, tags)
		}
	}

	if _, err := run(t, "down", "--name", name); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{info.Dir, kubeconfig} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if _, err := run(t, "down", "--name", name); err == nil {
		t.Error("a second down says nothing")
	}
}

func TestForegroundEndsWithItsInput(t *testing.T) {
	t.Parallel()
	command := devcluster(t, "up", "--foreground", "--json", "--name", "test-foreground")
	var complaint bytes.Buffer
	command.Stderr = &complaint
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var info cluster.Info
	decoder := json.NewDecoder(stdout)
	if err := decoder.Decode(&info); err != nil {
		t.Fatal(err, complaint.String())
	}
	if info.PID != command.Process.Pid {
		t.Errorf("the cluster belongs to process %d", info.PID)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := decoder.Decode(&info); !errors.Is(err, io.EOF) {
		t.Errorf("more output: %v", err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("%v: %s", err, complaint.String())
	}
	if _, err := os.Stat(info.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state is left: %v", err)
	}
}

func TestForeignKubeconfigIsNotOverwritten(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	content := []byte("apiVersion: v1\nkind: Config\nclusters: [{name: prod, cluster: {server: https://prod.example.com}}]\n")
	if err := os.WriteFile(kubeconfig, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "up", "--name", "test-kubeconfig", "--kubeconfig", kubeconfig); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("up: %v", err)
	}
	if after, err := os.ReadFile(kubeconfig); err != nil || !bytes.Equal(after, content) {
		t.Errorf("the kubeconfig is now %s: %v", after, err)
	}
}

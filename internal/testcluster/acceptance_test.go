package testcluster

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

func TestAccCluster(t *testing.T) {
	t.Parallel()

	var shared Shared

	shared.Options = Options{AuditLog: true, Nodes: 1, Proxies: true}
	cluster := shared.Cluster(t)

	if again := shared.Cluster(t); again != cluster {
		t.Error("a second test gets another cluster")
	}

	// As a subtest, so that the namespace goes while the cluster is there.
	t.Run("use", func(t *testing.T) { useCluster(t, cluster) })

	if code := shared.Main(fixedResult(0)); code != 0 {
		t.Errorf("Main returned %d, want 0", code)
	}

	if _, err := os.Stat(cluster.Kubeconfig()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the closed cluster has left its kubeconfig: %v", err)
	}
}

func useCluster(t *testing.T, cluster *Cluster) {
	t.Helper()

	// Microseconds are what the audit log keeps.
	since := time.Now().Truncate(time.Microsecond)
	namespace := cluster.Namespace(t)

	deployment := cluster.CreateDeployment(t, namespace, "alpha", 2)
	if deployment.Status.AvailableReplicas != 2 {
		t.Errorf("%d replicas are available, want 2", deployment.Status.AvailableReplicas)
	}

	t.Run("gateway API", func(t *testing.T) {
		if _, err := cluster.Client().Discovery().ServerResourcesForGroupVersion("gateway.networking.k8s.io/v1"); err != nil {
			t.Errorf("the Gateway API is not served: %v", err)
		}
	})

	t.Run("manifests", func(t *testing.T) {
		for _, url := range []string{
			cluster.Charts().GatewayAPI("1.5.1"),
			cluster.Charts().IstioSource("1.31.0") + "/samples/addons/kiali.yaml",
			cluster.Charts().IstioSource("1.29.4") + "/samples/addons/extras/prometheus_vm.yaml",
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}

			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}

			if response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", url, response.Status)
			}

			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("audit", func(t *testing.T) {
		events, err := cluster.AuditEvents(since)
		if err != nil {
			t.Fatal(err)
		}

		created := 0

		for _, event := range events {
			if event.Time.Before(since) {
				t.Errorf("%s %s was before", event.Verb, event.Path)
			}

			if event.UserAgent == userAgent && event.Verb == "create" &&
				event.Resource == "deployments" && event.Namespace == namespace {
				created++
			}
		}

		if created != 1 {
			t.Errorf("the log has %d creations of the Deployment, want 1", created)
		}
	})

	t.Run("proxies", func(t *testing.T) {
		pods := cluster.Client().CoreV1().Pods(namespace)

		_, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "meshed"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "linkerd-proxy", Image: "example.com/proxy:1"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}

		err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			pod, err := pods.Get(ctx, "meshed", metav1.GetOptions{})

			return err == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && strings.Contains(c.Message, "linkerd-proxy has no certificate")
			}), err
		})
		if err != nil {
			t.Errorf("a proxy without a control plane: %v", err)
		}
	})

	t.Run("faults", func(t *testing.T) {
		proxy := NewFaultProxy(t, cluster.Kubeconfig())
		deployments := clientFor(t, proxy.Kubeconfig()).AppsV1().Deployments(namespace)

		proxy.Set(FaultForbidden, Methods(http.MethodDelete))

		if _, err := deployments.Get(t.Context(), "alpha", metav1.GetOptions{}); err != nil {
			t.Errorf("read through the proxy: %v", err)
		}

		if err := deployments.Delete(t.Context(), "alpha", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("delete through the proxy: got %v, want forbidden", err)
		}
	})

	t.Run("charts", func(t *testing.T) {
		for _, url := range []string{
			cluster.Charts().Repository + "/index.yaml",
			"http://" + cluster.Charts().OCIRegistry + "/v2/",
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}

			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}

			if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("GET %s: %s, %v", url, response.Status, err)
			}
		}
	})
}

// fixedResult stands in for a *testing.M whose tests have run.
type fixedResult int

func (r fixedResult) Run() int { return int(r) }

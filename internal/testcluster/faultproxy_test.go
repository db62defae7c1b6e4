package testcluster

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// upstreamToken is the credential that only the proxy knows.
const upstreamToken = "upstream-credential"

// startUpstream stands in for an API server: it knows one namespace and sends
// one watch event before it holds the watch open.
func startUpstream(t *testing.T) string {
	t.Helper()

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+upstreamToken {
			http.Error(w, "who are you", http.StatusUnauthorized)

			return
		}

		w.Header().Set("Content-Type", "application/json")

		namespace := map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "dgraph"},
		}
		if r.URL.Query().Get("watch") == "" {
			_ = json.NewEncoder(w).Encode(namespace)

			return
		}

		_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": namespace})
		_ = http.NewResponseController(w).Flush()

		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)

	config := clientcmdapi.NewConfig()
	config.Clusters["up"] = &clientcmdapi.Cluster{
		Server: server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(
			&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.AuthInfos["up"] = &clientcmdapi.AuthInfo{Token: upstreamToken}
	config.Contexts["up"] = &clientcmdapi.Context{Cluster: "up", AuthInfo: "up"}
	config.CurrentContext = "up"

	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}

	return path
}

func clientFor(t *testing.T, kubeconfig string) kubernetes.Interface {
	t.Helper()

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}

	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	return client
}

func TestFaultProxyFaults(t *testing.T) {
	t.Parallel()

	kubeconfig := startUpstream(t)

	tests := map[Fault]func(error) bool{
		FaultUnauthorized:    apierrors.IsUnauthorized,
		FaultForbidden:       apierrors.IsForbidden,
		FaultTooManyRequests: apierrors.IsTooManyRequests,
		FaultServerError:     apierrors.IsInternalError,
		FaultReset:           func(err error) bool { return errors.Is(err, syscall.ECONNRESET) },
		FaultHang:            func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
	}

	for _, fault := range Faults() {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()

			proxy := NewFaultProxy(t, kubeconfig)
			// A 429 makes client-go try again; writes are tried as reads are.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()

			get := func(ctx context.Context) error {
				_, err := clientFor(t, proxy.Kubeconfig()).CoreV1().Namespaces().
					Get(ctx, "dgraph", metav1.GetOptions{})

				return err
			}

			if err := get(ctx); err != nil {
				t.Fatalf("before the fault: %v", err)
			}

			proxy.Set(fault)

			faultCtx := ctx
			if fault == FaultHang {
				var cancelHang context.CancelFunc

				faultCtx, cancelHang = context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancelHang()
			}

			if err := get(faultCtx); !tests[fault](err) {
				t.Errorf("under the fault: got %v", err)
			}

			if proxy.Faulted() == 0 || proxy.Faulted() != proxy.Requests() {
				t.Errorf("%d of %d requests met the fault, want all", proxy.Faulted(), proxy.Requests())
			}

			proxy.Clear()

			if err := get(ctx); err != nil {
				t.Errorf("after the fault: %v", err)
			}

			if proxy.Requests() != 1 || proxy.Faulted() != 0 {
				t.Errorf("after Clear: %d requests, %d faulted, want 1 and 0", proxy.Requests(), proxy.Faulted())
			}
		})
	}
}

func TestFaultProxyMatch(t *testing.T) {
	t.Parallel()

	proxy := NewFaultProxy(t, startUpstream(t))
	proxy.Set(FaultForbidden, Methods(http.MethodDelete), PathContains("/namespaces/"))

	namespaces := clientFor(t, proxy.Kubeconfig()).CoreV1().Namespaces()

	if _, err := namespaces.Get(t.Context(), "dgraph", metav1.GetOptions{}); err != nil {
		t.Errorf("a read that does not match: %v", err)
	}

	err := namespaces.Delete(t.Context(), "dgraph", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a delete that matches: got %v, want forbidden", err)
	}

	if proxy.Requests() != 2 || proxy.Faulted() != 1 {
		t.Errorf("%d requests, %d faulted, want 2 and 1", proxy.Requests(), proxy.Faulted())
	}
}

func TestFaultProxyWaitFaulted(t *testing.T) {
	t.Parallel()

	proxy := NewFaultProxy(t, startUpstream(t))
	proxy.Set(FaultHang)

	gaveUp, giveUp := context.WithCancel(t.Context())
	done := make(chan error, 1)

	namespaces := clientFor(t, proxy.Kubeconfig()).CoreV1().Namespaces()
	go func() {
		_, err := namespaces.Get(gaveUp, "dgraph", metav1.GetOptions{})
		done <- err
	}()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	if err := proxy.WaitFaulted(ctx); err != nil {
		t.Fatal(err)
	}

	giveUp()

	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the call to end with its context", err)
	}
}

func TestFaultProxyStreamsWatches(t *testing.T) {
	t.Parallel()

	proxy := NewFaultProxy(t, startUpstream(t))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	watch, err := clientFor(t, proxy.Kubeconfig()).CoreV1().Namespaces().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	select {
	case event := <-watch.ResultChan():
		if event.Type != "ADDED" {
			t.Errorf("got event %q, want ADDED", event.Type)
		}
	case <-ctx.Done():
		t.Error("the event waits in a buffer while the watch is open")
	}
}

func TestFaultProxyReplacesCredentials(t *testing.T) {
	t.Parallel()

	proxy := NewFaultProxy(t, startUpstream(t))

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL()+"/api/v1/namespaces/dgraph", nil)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Authorization", "Bearer of-the-client")

	response, err := proxy.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), "dgraph") {
		t.Errorf("got %d %s, want the upstream's answer", response.StatusCode, body)
	}
}

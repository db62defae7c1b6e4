package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const managementHost = "management.azure.com"

// managed makes an AKS cluster of which a real one is the API server.
func managed(t testing.TB, azure *testazure.Azure, cluster *testcluster.Cluster, properties map[string]any) *testazure.Cluster {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := testazure.Forward(config)
	if err != nil {
		t.Fatal(err)
	}
	made, err := azure.AddCluster(testazure.ClusterOptions{API: api, Properties: properties})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// environ is what a process needs to log in to an Azure by its client secret.
func environ(azure *testazure.Azure) []string {
	return slices.Concat(azure.Environ(), azure.ClientSecretEnviron())
}

// clusterTokens are the tokens for API servers that an Azure has given out.
func clusterTokens(azure *testazure.Azure) []testazure.Issued {
	return slices.DeleteFunc(azure.Tokens(), func(token testazure.Issued) bool {
		return token.Audience != "6dae42f8-4368-4678-94ff-3960e28e3630"
	})
}

// barrier is a place in an apply where it waits for the test.
type barrier struct{ path string }

// newBarrier makes a barrier in a workspace.
func newBarrier(t testing.TB, w *workspace) barrier {
	t.Helper()
	b := barrier{filepath.Join(w.dir, "barrier")}
	if err := syscall.Mkfifo(b.path, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// resource is a resource that is made only once the test lets it.
func (b barrier) resource(dependsOn string) string {
	return fmt.Sprintf(`
	resource "terraform_data" "barrier" {
	  depends_on = [%s]
	  provisioner "local-exec" { command = "cat '%s'" }
	}`, dependsOn, b.path)
}

// reached waits until an apply has come to the barrier, and returns what lets it go on.
func (b barrier) reached(t *testing.T, run *execution) (release func()) {
	t.Helper()
	var gate *os.File
	await(t, "the apply to come to the barrier", func(context.Context) bool {
		select {
		case <-run.done:
			t.Fatalf("the apply has ended before it came to the barrier\n%s", run.output.String())
		default:
		}
		var err error
		// There is no such device as long as nobody reads.
		if gate, err = os.OpenFile(b.path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil && !errors.Is(err, syscall.ENXIO) {
			t.Fatal(err)
		}
		return err == nil
	})
	return func() {
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	}
}

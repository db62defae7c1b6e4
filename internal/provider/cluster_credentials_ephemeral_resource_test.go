package provider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// TestAccClusterCredentials hands the credentials of an AKS cluster to a provider
// that cannot log in to Azure.
func TestAccClusterCredentials(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	const lifetime = 6 * time.Second
	azure.TokenLifetime(lifetime)
	cluster := plainCluster.Cluster(t)
	entra := managed(t, azure, cluster, nil)
	local := managed(t, azure, cluster, map[string]any{"aadProfile": nil})
	log := filepath.Join(t.TempDir(), "log")
	w := newWorkspace(t, "", append(environ(azure), "TF_LOG=TRACE", "TF_LOG_PATH="+log)...)
	gate := newBarrier(t, w)
	namespace := cluster.Namespace(t)
	w.write(fmt.Sprintf(`
	provider "aksmesh" {
	  aks = { id = %q }
	}
	ephemeral "aksmesh_cluster_credentials" "entra" {
	  lifecycle {
	    postcondition {
	      condition     = self.client_key == null && timecmp(self.expires_at, plantimestamp()) > 0
	      error_message = "the token, and no client certificate"
	    }
	  }
	}
	ephemeral "aksmesh_cluster_credentials" "local" {
	  id = %q
	  lifecycle {
	    postcondition {
	      condition     = self.token == null && timecmp(self.expires_at, plantimestamp()) > 0
	      error_message = "the client certificate, and no token"
	    }
	  }
	}
	provider "aksmesh" {
	  alias = "entra"
	  kubernetes = {
	    host                   = ephemeral.aksmesh_cluster_credentials.entra.host
	    cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.entra.cluster_ca_certificate
	    token                  = ephemeral.aksmesh_cluster_credentials.entra.token
	  }
	}
	provider "aksmesh" {
	  alias = "local"
	  kubernetes = {
	    host                   = ephemeral.aksmesh_cluster_credentials.local.host
	    cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.local.cluster_ca_certificate
	    client_certificate     = ephemeral.aksmesh_cluster_credentials.local.client_certificate
	    client_key             = ephemeral.aksmesh_cluster_credentials.local.client_key
	  }
	}
	resource "aksmesh_trust_anchor" "entra" {
	  provider  = aksmesh.entra
	  name      = "entra"
	  namespace = %[3]q
	}
	resource "aksmesh_trust_anchor" "local" {
	  provider  = aksmesh.local
	  name      = "local"
	  namespace = %[3]q
	}
	resource "aksmesh_trust_anchor" "late" {
	  provider   = aksmesh.entra
	  name       = "late"
	  namespace  = %[3]q
	  depends_on = [terraform_data.barrier]
	}
	%[4]s`, entra.ID(), local.ID(), namespace, gate.resource("aksmesh_trust_anchor.entra, aksmesh_trust_anchor.local")))

	run := w.start("apply", "-auto-approve", "-no-color")
	// Both the plan and the apply want a token that lasts for longer than the first
	// one does. The cluster takes them for longer than whoever has them knows.
	for _, issued := range []int{2, 4} {
		await(t, "tokens to be handed out", func(context.Context) bool { return len(clusterTokens(azure)) >= issued })
		azure.Advance(-time.Hour)
	}
	ends := time.Now().Add(lifetime)
	release := gate.reached(t, run)
	renewed := func() bool {
		content, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(content), "renewed credentials")
	}
	await(t, "Terraform to renew the credentials", func(context.Context) bool { return renewed() && time.Now().After(ends) })
	release()
	got := run.wait()
	if got.code != 0 {
		t.Fatalf("exit code %d\n%s", got.code, got.output)
	}
	if want := "Credentials Ended During This Run"; !strings.Contains(got.output, want) {
		t.Errorf("the apply does not warn of %q:\n%s", want, got.output)
	}
	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	// One while it plans, one while it applies.
	if closed := strings.Count(string(logged), "closed credentials"); closed != 2 {
		t.Errorf("the credentials were closed %d times, want twice", closed)
	}
	w.expectNoChanges()
	expectSecrecy(t, map[string]string{"the log": string(logged), "the state": string(w.stateBytes())})
	for _, place := range []string{string(logged), string(w.stateBytes())} {
		if strings.Contains(place, "EC PRIVATE KEY") {
			t.Error("the client key of the local account is told")
		}
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

func TestClusterCredentials_badInput(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]invalidInput{
		`id = "prod"`:   {"id", "is not the resource ID of an AKS cluster"},
		`name = "prod"`: {"resource_group_name", "missing beside name"},
		fmt.Sprintf(`id = %q
		name = "prod"`, someClusterID): {"id", "set either id, or the two of them"},
		``: {"aks block", "names a cluster"},
	} {
		t.Run(want.attribute+" "+want.reason, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, fmt.Sprintf(`
			provider "aksmesh" {
			  aks        = { client_id = %q, tenant_id = %q, client_secret = "not-to-be-seen" }
			  kubernetes = { host = "https://nowhere.invalid" }
			}
			ephemeral "aksmesh_cluster_credentials" "this" {
			%s
			}`, someClient, someTenant, body))
			failures := w.run("plan", "-json").failures()
			if len(failures) != 1 || !strings.Contains(failures[0].Detail, want.attribute) || !strings.Contains(failures[0].Detail, want.reason) {
				t.Errorf("want %q of %q, got %+v", want.reason, want.attribute, failures)
			}
		})
	}
}

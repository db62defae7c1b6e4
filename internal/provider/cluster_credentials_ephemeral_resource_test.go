package provider

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	// The second cluster is made by the same apply.
	w.write(fmt.Sprintf(`
	resource "terraform_data" "local" {
	  input = %[2]q
	}
	provider "aksmesh" {
	  aks = { id = %[1]q }
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
	  id = terraform_data.local.output
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
	await(t, "Terraform to renew the credentials", func(context.Context) bool {
		content, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(content), "renewed credentials")
	})
	heal := azure.Fail(testazure.EntraFault(http.StatusUnauthorized, "invalid_client", "AADSTS7000222: The provided client secret keys are expired."))
	await(t, "Terraform to renew the credentials in vain, after their end", func(context.Context) bool {
		return time.Now().After(ends) && slices.ContainsFunc(azure.Requests(), func(r testazure.Request) bool { return r.Status == http.StatusUnauthorized })
	})
	heal()
	release()
	got := run.wait()
	if got.code != 0 {
		t.Fatalf("exit code %d\n%s", got.code, got.output)
	}
	for _, want := range []string{"Credentials Ended During This Run", "Nor could the login be renewed", "AADSTS7000222"} {
		if !strings.Contains(got.output, want) {
			t.Errorf("the apply does not warn of %q:\n%s", want, got.output)
		}
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
	const login = `aks = { client_id = "` + someClient + `", tenant_id = "` + someTenant + `", client_secret = "not-to-be-seen" }`
	for name, test := range map[string]struct {
		provider, body string
		says           []string
	}{
		"no ID":         {login, `id = "prod"`, []string{"id is not", "the resource ID of an AKS cluster"}},
		"a name alone":  {login, `name = "prod"`, []string{"resource_group_name", "missing beside name"}},
		"named twice":   {login, fmt.Sprintf("id = %q\nname = \"prod\"", someClusterID), []string{"id:", "or the two of them"}},
		"no cluster":    {login, ``, []string{"aks block names a cluster", "set id, or resource_group_name and name"}},
		"not known yet": {`aks = { id = terraform_data.this.output }`, ``, []string{"hich cluster the provider's aks block names is not known yet", "give its id here too"}},
		"nobody known":  {`aks = { id = terraform_data.this.output, client_secret = terraform_data.this.output }`, ``, []string{"aks block, is not known yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, fmt.Sprintf(`
			resource "terraform_data" "this" { input = %q }
			provider "aksmesh" {
			  %s
			}
			ephemeral "aksmesh_cluster_credentials" "this" {
			  %s
			}`, someClusterID, test.provider, test.body))
			failures := w.run("plan", "-json").failures()
			if len(failures) != 1 {
				t.Fatalf("want one error, got %+v", failures)
			}
			for _, want := range test.says {
				if !strings.Contains(failures[0].Detail, want) {
					t.Errorf("the error does not say %q: %+v", want, failures[0])
				}
			}
		})
	}
}

package provider

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// expectSecrecy looks for the credentials of an Azure, and for tokens of it, where
// they must not be.
func expectSecrecy(t *testing.T, places map[string]string) {
	t.Helper()
	for place, text := range places {
		if text == "" {
			t.Errorf("%s is empty", place)
		}
		for what, secret := range map[string]string{
			"the client secret": testazure.ClientSecret, "the client secret in a form": url.QueryEscape(testazure.ClientSecret),
			// All tokens of the double begin so: it is their header.
			"a token": "eyJhbGciOiJIUzI1NiIs",
		} {
			if strings.Contains(text, secret) {
				t.Errorf("%s contains %s", place, what)
			}
		}
	}
}

// TestAccProvider_aks works in an AKS cluster whose ID comes with the apply, past refusals of Azure that pass
// and for longer than tokens last.
func TestAccProvider_aks(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	cluster := plainCluster.Cluster(t)
	aks := managed(t, azure, cluster, nil)
	log := filepath.Join(t.TempDir(), "log")
	w := newWorkspace(t, "", append(environ(azure), "TF_LOG=TRACE", "TF_LOG_PATH="+log)...)
	gate := newBarrier(t, w)
	namespace := cluster.Namespace(t)
	config := func(rest string) string {
		return fmt.Sprintf(`
		resource "terraform_data" "cluster" {
		  input = %q
		}
		provider "aksmesh" {
		  aks = { id = terraform_data.cluster.output }
		}
		resource "aksmesh_trust_anchor" "this" { namespace = %q }
		%s`, aks.ID(), namespace, rest)
	}

	busy := testazure.Throttled(1)
	busy.Host, busy.Times = managementHost, 1
	azure.Fail(busy)
	broken := testazure.ManagementFault(http.StatusServiceUnavailable, "ServerTimeout", "The request timed out.")
	broken.Host, broken.Times, broken.Header = managementHost, 1, http.Header{"Retry-After-Ms": {"1"}}
	azure.Fail(broken)
	w.write(config(""))
	w.succeed("plan", "-out=planned", "-no-color")
	if asked := azure.Requests(); len(asked) != 0 {
		t.Errorf("a plan without a cluster has asked %+v", asked)
	}
	w.succeed("apply", "-no-color", "planned")
	var refused []int
	for _, request := range azure.Requests() {
		if request.Host == managementHost && request.Status != http.StatusOK {
			refused = append(refused, request.Status)
		}
	}
	if !slices.Equal(refused, []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}) {
		t.Errorf("Resource Manager has answered %v, want 429 and 503", refused)
	}
	w.expectNoChanges()

	// An apply that begins with one token and ends with another.
	azure.TokenLifetime(4 * time.Second)
	w.write(config(gate.resource("aksmesh_trust_anchor.this") + fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "late" {
	  name       = "late"
	  namespace  = %q
	  depends_on = [terraform_data.barrier]
	}`, namespace)))
	run := w.start("apply", "-auto-approve", "-no-color")
	release := gate.reached(t, run)
	before := clusterTokens(azure)
	last := before[len(before)-1]
	await(t, "the end of a token", func(context.Context) bool { return time.Now().After(last.Expires) })
	release()
	if got := run.wait(); got.code != 0 {
		t.Fatalf("an apply that is longer than a token's life: exit code %d\n%s", got.code, got.output)
	}
	if after := clusterTokens(azure); len(after) <= len(before) {
		t.Error("the token was not renewed during the apply")
	}
	azure.TokenLifetime(time.Hour)
	w.expectNoChanges()

	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	expectSecrecy(t, map[string]string{"the log": string(logged), "the state": string(w.stateBytes())})
	for _, want := range []string{"client secret", "6dae42f8-4368-4678-94ff-3960e28e3630"} {
		if !strings.Contains(string(logged), want) {
			t.Errorf("the log does not tell %q", want)
		}
	}
	if strangers := azure.Strangers(); len(strangers) != 0 {
		t.Errorf("somebody else was asked: %v", strangers)
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// TestAccProvider_aksRefused has plans say what keeps them from the cluster, and
// what to do.
func TestAccProvider_aksRefused(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	cluster := func(t *testing.T) *testazure.Cluster {
		t.Helper()
		made, err := azure.AddCluster(testazure.ClusterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	stranger := azure.AddTenant()
	stranger.Admit(azure.Application())
	for name, test := range map[string]struct {
		prepare func(t *testing.T, c *testazure.Cluster)
		env     []string
		says    []string
	}{
		"no such cluster": {
			prepare: func(_ *testing.T, c *testazure.Cluster) { c.Delete() },
			says:    []string{"ResourceGroupNotFound", "azurerm_kubernetes_cluster.example.id"},
		},
		"stopped": {
			prepare: func(t *testing.T, c *testazure.Cluster) {
				t.Helper()
				if err := c.Stop(); err != nil {
					t.Error(err)
				}
			},
			says: []string{"The cluster is stopped", "az aks start"},
		},
		"not allowed to find it": {
			prepare: func(_ *testing.T, c *testazure.Cluster) {
				c.Forbid("Microsoft.ContainerService/managedClusters/listClusterUserCredential/action")
			},
			says: []string{"AuthorizationFailed", `"Azure Kubernetes Service Cluster User Role"`, "on the scope /subscriptions/"},
		},
		"not allowed to work in it": {
			prepare: func(_ *testing.T, c *testazure.Cluster) { c.Forbid(testazure.ClusterData) },
			says:    []string{`"Azure Kubernetes Service RBAC Cluster Admin"`, "on the scope /subscriptions/"},
		},
		"a tenant that is none": {
			env:  []string{"ARM_TENANT_ID=" + someTenant},
			says: []string{"AADSTS90002", "tenant_id"},
		},
		"the tenant of others": {
			env:  []string{"ARM_TENANT_ID=" + stranger.ID},
			says: []string{"InvalidAuthenticationTokenTenant", "tenant_id"},
		},
		"another secret": {
			env:  []string{"ARM_CLIENT_SECRET=guessed"},
			says: []string{"AADSTS7000215", "client_secret"},
		},
		"no way to the authority": {
			env:  []string{"HTTPS_PROXY=http://127.0.0.1:1"},
			says: []string{"127.0.0.1:1", "HTTPS_PROXY"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			if test.prepare != nil {
				test.prepare(t, c)
			}
			w := newWorkspace(t, fmt.Sprintf("provider \"aksmesh\" {\n  aks = { id = %q }\n}\ndata \"aksmesh_proxies\" \"this\" {}", c.ID()),
				append(environ(azure), test.env...)...)
			got := w.run("plan", "-json")
			failures := got.failures()
			if got.code != 1 || len(failures) != 1 {
				t.Fatalf("want one error, got exit code %d and %+v", got.code, failures)
			}
			text := failures[0].Summary + ": " + failures[0].Detail
			for _, want := range append(test.says, c.ResourceGroup+"/"+c.Name) {
				if !strings.Contains(text, want) {
					t.Errorf("the error does not say %q: %s", want, text)
				}
			}
			if strings.Contains(text, "cluster.invalid") {
				t.Errorf("the error tells an address that is none: %s", text)
			}
			expectSecrecy(t, map[string]string{"the output": got.output})
		})
	}
}

package aks_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// transient are faults that the SDK tries again after, and as often as it does.
func transient() map[string]testazure.Fault {
	unavailable := testazure.Throttled(1)
	unavailable.Status, unavailable.Body = http.StatusServiceUnavailable, map[string]any{"error": map[string]any{"code": "ServerTimeout", "message": "The request timed out. Diagnostic information: timestamp '20261122T080000Z'."}}
	return map[string]testazure.Fault{"throttled": testazure.Throttled(1), "unavailable": unavailable}
}

func TestARMInPassingTrouble(t *testing.T) {
	t.Parallel()
	for name, fault := range transient() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
			fault.Path, fault.Times = cluster.Name+users, 2
			double.Fail(fault)
			if err := version(t, p.connect(t, cluster, aks.AccessOptions{})); err != nil {
				t.Error(err)
			}
			if got := asked(cluster, users); got != 3 {
				t.Errorf("asked %d times", got)
			}
		})
	}
}

func TestARMInLastingTrouble(t *testing.T) {
	t.Parallel()
	want := map[string][2]string{
		"throttled":   {"get the user credentials of AKS cluster %s: Azure Resource Manager answers 429 TooManyRequests: The request is being throttled", "throttling the subscription or the account"},
		"unavailable": {"get the user credentials of AKS cluster %s: Azure Resource Manager answers 503 ServerTimeout: The request timed out.", "has a problem of its own"},
	}
	for name, fault := range transient() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
			fault.Path = cluster.Name + users
			heal := double.Fail(fault)
			c := p.connect(t, cluster, aks.AccessOptions{})
			p.checkError(t, version(t, c), fmt.Sprintf(want[name][0], cluster.ResourceGroup+"/"+cluster.Name), want[name][1])
			heal()
			if err := version(t, c); err != nil {
				t.Errorf("when it is over: %v", err)
			}
		})
	}
}

func TestWhatARMRefuses(t *testing.T) {
	t.Parallel()
	foreign := double.AddTenant()
	for name, test := range map[string]struct {
		cluster testazure.ClusterOptions
		forbid  string
		change  func(id aks.ID) aks.ID
		access  aks.AccessOptions
		text    string
		advice  string
	}{
		"no such cluster": {
			change: func(id aks.ID) aks.ID { id.Name = "none"; return id },
			text:   "404 ResourceNotFound", advice: "id = azurerm_kubernetes_cluster.example.id",
		},
		"no such group": {
			change: func(id aks.ID) aks.ID { id.ResourceGroup = "none"; return id },
			text:   "404 ResourceGroupNotFound: Resource group 'none' could not be found.", advice: "The subscription has no such resource group",
		},
		"no such subscription": {
			change: func(id aks.ID) aks.ID { id.SubscriptionID = "00000000-0000-4000-8000-000000000000"; return id },
			text:   "404 SubscriptionNotFound", advice: "check subscription_id",
		},
		"subscription of another tenant": {
			cluster: testazure.ClusterOptions{SubscriptionID: double.AddSubscription(foreign)},
			text:    "401 InvalidAuthenticationTokenTenant", advice: "The account logs in to another tenant",
		},
		"no right to the user credentials": {
			forbid: "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
			text:   "403 AuthorizationFailed", advice: `the role "Azure Kubernetes Service Cluster User Role" (action Microsoft.ContainerService/managedClusters/listClusterUserCredential/action) on the scope /subscriptions/`,
		},
		"no right to the admin credentials": {
			forbid: "Microsoft.ContainerService/managedClusters/listClusterAdminCredential/action", access: aks.AccessOptions{Admin: true},
			text: "403 AuthorizationFailed", advice: `the role "Azure Kubernetes Service Cluster Admin Role"`,
		},
		"no local accounts": {
			cluster: testazure.ClusterOptions{Properties: map[string]any{"disableLocalAccounts": true}}, access: aks.AccessOptions{Admin: true},
			text: "disable local accounts", advice: "take use_admin_credentials out",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, test.cluster), newPerson(t)
			id := idOf(t, cluster)
			if test.change != nil {
				id = test.change(id)
			}
			if test.forbid != "" {
				cluster.Forbid(test.forbid)
			}
			p.checkError(t, version(t, connect(t, p.access(t, id, test.access))), test.text, test.advice)
		})
	}
}

func TestReadingAClusterIsRefused(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	cluster.Forbid("Microsoft.ContainerService/managedClusters/read")
	client, err := aks.NewClient(p.Account)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Cluster(t.Context(), idOf(t, cluster))
	want := "read AKS cluster " + cluster.ResourceGroup + "/" + cluster.Name + ": Azure Resource Manager answers 403 AuthorizationFailed"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v; want %q", err, want)
	}
	if advice := aks.Advice(err); !strings.Contains(advice, `the role "Reader" (action Microsoft.ContainerService/managedClusters/read) on the scope `+cluster.ID()) {
		t.Errorf("advice %q", advice)
	}
	if aks.Advice(errors.New("other")) != "" {
		t.Error("advice on something else")
	}
}

func TestWhoCannotLogIn(t *testing.T) {
	t.Parallel()
	t.Run("wrong secret", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
		p.application.ExpireSecrets()
		p.checkError(t, version(t, p.connect(t, cluster, aks.AccessOptions{})), "AADSTS7000222", "The client secret has expired.")
	})
	t.Run("tenant of the cluster", func(t *testing.T) {
		t.Parallel()
		cluster := newCluster(t, testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{"tenantID": double.AddTenant().ID}}})
		p := newPerson(t)
		p.checkError(t, version(t, p.connect(t, cluster, aks.AccessOptions{})), "AADSTS700016", "must first be given a service principal")
	})
}

// What answers in place of ARM is not quoted: it may be credentials all the same.
func TestAnswersThatAreNotARMs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ body, text string }{
		"a page":          {"<html>log in to the guest network s3cr3t</html>", "the answer of Azure Resource Manager is not what its API promises"},
		"no credentials":  {`{"kubeconfigs":[]}`, "no credentials in the answer"},
		"no kubeconfig":   {`{"kubeconfigs":[{"name":"clusterUser","value":"czNjcjN0OiBb"}]}`, "they are not a kubeconfig"},
		"no context":      {`{"kubeconfigs":[{"name":"clusterUser","value":"e30="}]}`, "the kubeconfig has no current context"},
		"not even base64": {`{"kubeconfigs":[{"name":"clusterUser","value":"s3cr3t!"}]}`, "the answer of Azure Resource Manager is not what its API promises"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
			double.Fail(testazure.Fault{Path: cluster.Name + users, Body: test.body})
			err := version(t, p.connect(t, cluster, aks.AccessOptions{}))
			p.checkError(t, err, test.text, "")
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("it is quoted: %v", err)
			}
		})
	}
}

func TestWhyAClusterCannotBeReached(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		properties map[string]any
		advice     string
	}{
		"creating":         {map[string]any{"provisioningState": "Creating"}, "Azure is working on the cluster (provisioning state Creating)."},
		"failed":           {map[string]any{"provisioningState": "Failed"}, "provisioning state Failed"},
		"authorized range": {map[string]any{"apiServerAccessProfile": map[string]any{"authorizedIPRanges": []string{"192.0.2.0/24", "198.51.100.7/32"}}}, "lets in only the address ranges 192.0.2.0/24, 198.51.100.7/32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, testazure.ClusterOptions{Properties: test.properties}), newPerson(t)
			double.Cut(cluster.Host())
			c := p.connect(t, cluster, aks.AccessOptions{})
			p.checkError(t, version(t, c), "AKS cluster "+cluster.ResourceGroup+"/"+cluster.Name+": Bad Gateway", test.advice)
			// Many resources fail at the same time, and for the same reason.
			for range 5 {
				p.checkError(t, version(t, c), "Bad Gateway", test.advice)
			}
			if got := asked(cluster, ""); got != 1 {
				t.Errorf("ARM was asked %d times how it is", got)
			}
		})
	}
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
		if err := cluster.Stop(); err != nil {
			t.Fatal(err)
		}
		c := p.connect(t, cluster, aks.AccessOptions{})
		p.checkError(t, version(t, c), "Bad Gateway",
			"The cluster is stopped. Start it (az aks start --subscription "+cluster.SubscriptionID+" --resource-group "+cluster.ResourceGroup+" --name "+cluster.Name+")")
		if err := cluster.Start(); err != nil {
			t.Fatal(err)
		}
		if err := version(t, c); err != nil {
			t.Errorf("when it was started: %v", err)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
		c := p.connect(t, cluster, aks.AccessOptions{})
		if _, err := c.Get(t.Context(), namespace); err == nil {
			t.Fatal("it has an API")
		}
		newCluster(t, testazure.ClusterOptions{SubscriptionID: cluster.SubscriptionID, ResourceGroup: cluster.ResourceGroup})
		cluster.Delete()
		_, err := c.Get(t.Context(), namespace)
		p.checkError(t, err, "Bad Gateway", "The resource group has no such cluster")
	})
}

// timeout is an error of a connection that nobody answered.
type timeout struct{ error }

func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestExplain(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	private := map[string]any{"apiServerAccessProfile": map[string]any{"enablePrivateCluster": true}}
	ranges := map[string]any{"apiServerAccessProfile": map[string]any{"authorizedIPRanges": []string{"192.0.2.0/24"}}}
	for name, test := range map[string]struct {
		properties map[string]any
		err        error
		want       string // "" is nothing
		looks      int
	}{
		"private name":               {private, dial(&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), "The cluster is private", 1},
		"private address":            {private, dial(timeout{errors.New("i/o timeout")}), "The cluster is private", 1},
		"blocked address":            {ranges, dial(timeout{errors.New("i/o timeout")}), "lets in only the address ranges 192.0.2.0/24", 1},
		"blocked in the handshake":   {ranges, errors.New("net/http: TLS handshake timeout"), "lets in only", 1},
		"an answer that takes long":  {ranges, fmt.Errorf("no answer: %w", context.DeadlineExceeded), "", 1},
		"nothing listens":            {nil, dial(syscall.ECONNREFUSED), "", 1},
		"TLS is looked into":         {nil, x509.UnknownAuthorityError{}, "Something between here and the API server decrypts TLS", 0},
		"a proxy without a host":     {nil, errors.New("Bad Gateway"), "The proxy that HTTPS_PROXY names lets nobody through", 1},
		"no proxy":                   {nil, &net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, "The proxy that HTTPS_PROXY names cannot be reached", 1},
		"a connection that was lost": {ranges, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, "", 0},
		"cancelled":                  {ranges, context.Canceled, "", 0},
		"no login":                   {nil, &azure.LoginError{Code: "AADSTS53003"}, "Conditional Access", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, testazure.ClusterOptions{Properties: test.properties}), newPerson(t)
			got := p.access(t, idOf(t, cluster), aks.AccessOptions{}).Explain(t.Context(), fmt.Errorf("read it: %w", test.err))
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("explained %q; want %q", got, test.want)
			}
			if looks := asked(cluster, ""); looks != test.looks {
				t.Errorf("looked at the cluster %d times; want %d", looks, test.looks)
			}
		})
	}
}

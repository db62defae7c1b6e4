package aks_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

const (
	users  = "/listClusterUserCredential"
	admins = "/listClusterAdminCredential"
)

func TestTheFirstRequestsAskARMOnce(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	c := p.connect(t, cluster, aks.AccessOptions{})
	if asked(cluster, users) != 0 || p.tokens() != 0 {
		t.Error("asked before anything was wanted")
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := version(t, c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := asked(cluster, users); got != 1 {
		t.Errorf("asked ARM %d times", got)
	}
	if got := p.tokens(); got != 1 {
		t.Errorf("asked Entra ID for %d tokens", got)
	}
}

func TestTheClusterIsReadOnce(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{})
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			seen, err := access.Cluster(t.Context())
			if err != nil {
				t.Error(err)
			} else if seen.ID != cluster.ID() || seen.Properties.NetworkProfile.NetworkDataplane != "cilium" || !seen.Properties.AADProfile.EnableAzureRBAC {
				t.Errorf("read %+v", seen)
			}
		})
	}
	all.Wait()
	if got := asked(cluster, ""); got != 1 {
		t.Errorf("asked ARM %d times", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lost := p.access(t, aks.ID{SubscriptionID: cluster.SubscriptionID, ResourceGroup: cluster.ResourceGroup, Name: "none"}, aks.AccessOptions{})
	if _, err := lost.Cluster(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options    testazure.ClusterOptions
		access     aks.AccessOptions
		byToken    bool
		credential string
	}{
		"Entra ID":    {testazure.ClusterOptions{}, aks.AccessOptions{}, true, users},
		"no Entra ID": {testazure.ClusterOptions{Properties: map[string]any{"aadProfile": nil}}, aks.AccessOptions{}, false, users},
		"admin":       {testazure.ClusterOptions{}, aks.AccessOptions{Admin: true}, false, admins},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, test.options), newPerson(t)
			access := p.access(t, idOf(t, cluster), test.access)
			got, err := access.Credentials(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Host != "https://"+cluster.Host()+":443" || got.CACertificate != string(cluster.CA()) || !got.NotAfter.After(time.Now()) {
				t.Errorf("host %s, CA %q, until %s", got.Host, got.CACertificate, got.NotAfter)
			}
			settings := kube.Settings{Host: got.Host, CACertificate: got.CACertificate, Token: got.Token, ClientCertificate: got.ClientCertificate, ClientKey: got.ClientKey}
			if (got.Token != "") != test.byToken || (got.ClientCertificate != "" && got.ClientKey != "") == test.byToken {
				t.Error("another kind of credentials")
			}
			other, err := kube.Connect(settings, "aks-test")
			if err != nil {
				t.Fatal(err)
			}
			if err := version(t, other); err != nil {
				t.Errorf("by the credentials: %v", err)
			}
			if err := version(t, connect(t, access)); err != nil {
				t.Errorf("by the access: %v", err)
			}
			if got := asked(cluster, test.credential); got != 2 {
				t.Errorf("%s was asked %d times", test.credential, got)
			}
		})
	}
}

// A token that the API server does not accept is replaced once; if that does not
// help either, Entra ID is not asked at every request.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	unauthorized := testazure.Fault{Status: http.StatusUnauthorized, Body: &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "Unauthorized",
	}}
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		var patched atomic.Value
		cluster, p := newCluster(t, testazure.ClusterOptions{API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			patched.Store(string(body))
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"dgraph","name":"c","uid":"1","resourceVersion":"1"}}`)
		})}), newPerson(t)
		fault := unauthorized
		fault.Host, fault.Times = cluster.Host(), 1
		double.Fail(fault)
		c := p.connect(t, cluster, aks.AccessOptions{})
		ref := kube.Ref{Kind: kube.ConfigMap, Namespace: "dgraph", Name: "c"}
		object := ref.Object()
		object.Object["data"] = map[string]any{"key": "value"}
		if _, err := c.Apply(t.Context(), object, kube.ApplyOptions{Manager: "m"}); err != nil {
			t.Fatal(err)
		}
		if body, _ := patched.Load().(string); !strings.Contains(body, `"value"`) {
			t.Errorf("the second request had the body %q", body)
		}
		if got := p.tokens(); got != 2 {
			t.Errorf("asked Entra ID for %d tokens", got)
		}
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
		fault := unauthorized
		fault.Host = cluster.Host()
		double.Fail(fault)
		c := p.connect(t, cluster, aks.AccessOptions{})
		for range 5 {
			p.checkError(t, version(t, c), "AKS cluster "+cluster.ResourceGroup+"/"+cluster.Name+": the server has asked for the client to provide credentials", "trusts the tenant "+double.Tenant().ID)
		}
		if got := p.tokens(); got != 2 {
			t.Errorf("asked Entra ID for %d tokens", got)
		}
	})
	t.Run("legacy integration", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{
			"managed": false, "serverAppID": "00000000-0000-4000-8000-00000000000a", "tenantID": double.Tenant().ID,
		}}}), newPerson(t)
		access := p.access(t, idOf(t, cluster), aks.AccessOptions{})
		p.checkError(t, version(t, connect(t, access)), "AADSTS500011", "legacy integration of Azure AD")
		if got := access.Explain(t.Context(), apierrors.NewUnauthorized("Unauthorized")); !strings.Contains(got, "legacy integration of Azure AD") {
			t.Errorf("a token that is refused: %s", got)
		}
	})
	t.Run("client certificate", func(t *testing.T) {
		t.Parallel()
		cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
		fault := unauthorized
		fault.Host = cluster.Host()
		double.Fail(fault)
		p.checkError(t, version(t, p.connect(t, cluster, aks.AccessOptions{Admin: true})), "provide credentials", "the certificates of the cluster are being replaced")
	})
}

func TestPermissionsInTheCluster(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rbac   bool
		access aks.AccessOptions
		want   func(cluster *testazure.Cluster, p *person) string
	}{
		"Azure RBAC": {true, aks.AccessOptions{}, func(cluster *testazure.Cluster, p *person) string {
			return "by which " + p.application.ObjectID + ` may not get resource namespaces. Give it the role "Azure Kubernetes Service RBAC Cluster Admin" on the scope ` + cluster.ID()
		}},
		"RBAC of Kubernetes": {false, aks.AccessOptions{}, func(_ *testazure.Cluster, p *person) string {
			return "The cluster knows " + p.application.ObjectID + " by Microsoft Entra ID, but no RBAC of Kubernetes lets it get resource namespaces."
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := newCluster(t, testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{"enableAzureRBAC": test.rbac}}})
			cluster.Forbid(testazure.ClusterData)
			p := newPerson(t)
			c := p.connect(t, cluster, test.access)
			_, err := c.Get(t.Context(), namespace)
			refused := "AKS cluster " + cluster.ResourceGroup + "/" + cluster.Name + ": namespaces \"dgraph\" is forbidden"
			p.checkError(t, err, "get Namespace dgraph: "+refused, test.want(cluster, p))
			other, err := kubernetes.NewForConfig(c.RESTConfig())
			if err != nil {
				t.Fatal(err)
			}
			_, err = other.CoreV1().Namespaces().Get(t.Context(), namespace.Name, metav1.GetOptions{})
			p.checkError(t, c.Explained(t.Context(), err), refused, test.want(cluster, p))
		})
	}
}

func TestAClusterThatIsMadeAnewIsFoundAgain(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{API: http.NotFoundHandler()}), newPerson(t)
	c := p.connect(t, cluster, aks.AccessOptions{})
	read := func() error {
		_, err := c.Get(t.Context(), namespace)
		return err
	}
	if err := read(); err == nil || !strings.Contains(err.Error(), "could not find the requested resource") {
		t.Fatalf("error: %v", err)
	}
	if err := cluster.Remake(); err != nil {
		t.Fatal(err)
	}
	if err := read(); err == nil || !strings.Contains(err.Error(), "could not find the requested resource") {
		t.Fatalf("after it was made anew: %v", err)
	}
	if got := asked(cluster, users); got != 2 {
		t.Errorf("asked ARM %d times", got)
	}
}

func TestCancelWhileARMHangs(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	heal := double.Fail(testazure.Fault{Path: cluster.Name + users, Hang: true})
	defer heal()
	c := p.connect(t, cluster, aks.AccessOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Version(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	if _, err := c.KindFor(ctx, unknown); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}

// proxy passes connections on through the one of the double and counts them.
func proxy(t *testing.T) (url string, hosts *sync.Map) {
	t.Helper()
	hosts = &sync.Map{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host, true)
		there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", strings.TrimPrefix(double.ProxyURL(), "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(there, "CONNECT "+r.Host+" HTTP/1.1\r\nHost: "+r.Host+"\r\n\r\n")
		go func() {
			_, _ = io.Copy(there, here)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	t.Cleanup(server.Close)
	return server.URL, hosts
}

// Microsoft Entra ID may take longer than a request to the API server, which is not
// what does not answer then.
func TestLoginThatHangs(t *testing.T) {
	t.Parallel()
	p, tenant := newPerson(t), double.AddTenant()
	tenant.Admit(p.application)
	cluster := newCluster(t, testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{"tenantID": tenant.ID}}})
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{})
	c, err := kube.Connect(kube.Settings{Access: access, RequestTimeout: 100 * time.Millisecond}, "aks-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := version(t, c); err != nil {
		t.Fatal(err)
	}
	credentials, err := access.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hung := testazure.Fault{Path: tenant.ID + "/oauth2/v2.0/token", Hang: true}
	for name, request := range map[string]func(context.Context) error{
		"of the package": func(ctx context.Context) error {
			_, err := c.Get(ctx, namespace)
			return err
		},
		"of another client": func(ctx context.Context) error {
			other, err := kubernetes.NewForConfig(c.RESTConfig())
			if err == nil {
				_, err = other.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
			}
			return c.Explained(ctx, err)
		},
	} {
		heal := double.Fail(hung)
		p.Forget(credentials.Token)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		p.checkError(t, request(ctx), "as client "+p.application.ClientID+": gave up waiting", "Let HTTPS through the firewall")
		cancel()
		heal()
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestCredentialsTellTheWay(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	const proxy = "http://somebody:s3cr3t@proxy.example.com:3128"
	for _, o := range []aks.AccessOptions{{}, {ProxyURL: proxy, TLSServerName: "tunnel.example.com"}} {
		got, err := p.access(t, idOf(t, cluster), o).Credentials(t.Context())
		if err != nil || got.ProxyURL != o.ProxyURL || got.TLSServerName != o.TLSServerName {
			t.Errorf("%+v: by proxy %q as %q, %v", o, got.ProxyURL, got.TLSServerName, err)
		}
	}
}

// What is handed out is renewed for others: work of our own goes on with the token
// that it has if that fails.
func TestRenewedCredentials(t *testing.T) {
	t.Parallel()
	p, tenant := newPerson(t), double.AddTenant()
	tenant.Admit(p.application)
	cluster := newCluster(t, testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{"tenantID": tenant.ID}}})
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{})
	c := connect(t, access)
	first, err := access.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := access.Renew(t.Context())
	if err != nil || second.Token == first.Token || second.Host != first.Host {
		t.Errorf("renewed: the same token: %t, %v", second.Token == first.Token, err)
	}
	fault := testazure.EntraFault(http.StatusUnauthorized, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range.")
	fault.Path = tenant.ID + fault.Path
	heal := double.Fail(fault)
	defer heal()
	if _, err := access.Renew(t.Context()); err == nil || !strings.Contains(access.Explain(t.Context(), err), "clock") {
		t.Errorf("renewed in vain: %v", err)
	}
	if err := version(t, c); err != nil {
		t.Errorf("work of our own: %v", err)
	}
	if kept, err := access.Credentials(t.Context()); err != nil || kept.Token != second.Token {
		t.Errorf("the token is not the one that was renewed last: %v", err)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	address, hosts := proxy(t)
	if err := version(t, p.connect(t, cluster, aks.AccessOptions{ProxyURL: address})); err != nil {
		t.Fatal(err)
	}
	var through []string
	hosts.Range(func(host, _ any) bool {
		name, _ := host.(string)
		through = append(through, name)
		return true
	})
	if len(through) != 1 || through[0] != cluster.Host()+":443" {
		t.Errorf("through the proxy went %v", through)
	}

	gone := "http://somebody:s3cr3t@127.0.0.1:1"
	err := version(t, p.connect(t, cluster, aks.AccessOptions{ProxyURL: gone}))
	p.checkError(t, err, "connection refused", "The way to the API server leads through proxy_url")
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("the password: %v", err)
	}
	_, err = aks.NewAccess(p.Account, idOf(t, cluster), aks.AccessOptions{ProxyURL: "somebody:s3cr3t@nowhere"})
	if err == nil || !strings.Contains(err.Error(), "proxy_url is not a URL") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("no URL: %v", err)
	}
}

func TestTLSServerName(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	err := version(t, p.connect(t, cluster, aks.AccessOptions{TLSServerName: "other.example.com"}))
	p.checkError(t, err, "other.example.com", "tls_server_name")
}

func TestPrivateClusters(t *testing.T) {
	t.Parallel()
	private := func(public bool) testazure.ClusterOptions {
		return testazure.ClusterOptions{Properties: map[string]any{"apiServerAccessProfile": map[string]any{"enablePrivateCluster": true, "enablePrivateClusterPublicFQDN": public}}}
	}
	for name, public := range map[string]bool{"without a public name": false, "with a public name": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, p := newCluster(t, private(public)), newPerson(t)
			if err := version(t, p.connect(t, cluster, aks.AccessOptions{})); err != nil {
				t.Errorf("from its network: %v", err)
			}
			double.Cut(cluster.Host())
			err := version(t, p.connect(t, cluster, aks.AccessOptions{}))
			p.checkError(t, err, "AKS cluster "+cluster.ResourceGroup+"/"+cluster.Name+": ", "The cluster is private")
			if offered := strings.Contains(kube.Advice(err), "use_public_fqdn"); offered != public {
				t.Errorf("advice %q", kube.Advice(err))
			}
			if !public {
				return
			}
			if err := version(t, p.connect(t, cluster, aks.AccessOptions{PublicFQDN: true})); err != nil {
				t.Errorf("by its public name: %v", err)
			}
		})
	}
}

package aks_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// double is one for all tests of the package: Go reads once per process where
// proxies and roots are.
var (
	double *testazure.Azure
	shared testcluster.Shared
)

func TestMain(m *testing.M) {
	os.Exit(testazure.Main(context.Background(), func() int { return shared.Main(m) }, &double))
}

// journal is what an account logs.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) log(_ context.Context, message string, fields map[string]any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprint(message, fields))
}

func (j *journal) all() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// person is an account of an application that nobody else uses, so that what it
// was given can be counted.
type person struct {
	*azure.Account
	application *testazure.Application
	secret      string
	journal     *journal
}

func newPerson(t *testing.T) *person {
	t.Helper()
	return newPersonWaiting(t, 0)
}

// newPersonWaiting is newPerson with patience for roles.
func newPersonWaiting(t *testing.T, patience time.Duration) *person {
	t.Helper()
	p := &person{application: double.Tenant().AddApplication(), journal: &journal{}}
	p.secret = p.application.AddSecret()
	var err error
	if p.Account, err = azure.NewAccount(azure.Settings{
		TenantID: p.application.TenantID(), ClientID: p.application.ClientID, ClientSecret: p.secret,
	}, azure.Options{UserAgent: "aks-test", Patience: patience, Log: p.journal.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.checkSecrets(t, "log", p.journal.all()) })
	return p
}

// tokens counts those for API servers that the person was given.
func (p *person) tokens() int {
	count := 0
	for _, issued := range double.Tokens() {
		if issued.Client == p.application.ClientID && strings.Contains(issued.Audience, "6dae42f8") {
			count++
		}
	}
	return count
}

func (p *person) checkSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{p.secret, url.QueryEscape(p.secret), "eyJ", "PRIVATE KEY", "client-key-data", "Bearer "} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s has the secret %q: %s", where, secret, text)
		}
	}
}

// checkError holds what an error says, what is advised, and that neither has a
// secret.
func (p *person) checkError(t *testing.T, err error, text, advice string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want %q", text)
		return
	}
	if !strings.Contains(err.Error(), text) || strings.Count(err.Error(), "AKS cluster ") > 1 || strings.Contains(err.Error(), ".invalid") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q; want %q", err, text)
	}
	if got := kube.Advice(err); !strings.Contains(got, advice) || advice == "" && got != "" {
		t.Errorf("advice on %v:\n%s\nwant %q", err, got, advice)
	}
	p.checkSecrets(t, "error", err.Error()+kube.Advice(err))
}

func newCluster(t *testing.T, o testazure.ClusterOptions) *testazure.Cluster {
	t.Helper()
	c, err := double.AddCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func idOf(t *testing.T, c *testazure.Cluster) aks.ID {
	t.Helper()
	id, err := aks.ParseID(c.ID())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *person) access(t *testing.T, id aks.ID, o aks.AccessOptions) *aks.Access {
	t.Helper()
	access, err := aks.NewAccess(p.Account, id, o)
	if err != nil {
		t.Fatal(err)
	}
	return access
}

func connect(t *testing.T, access *aks.Access) *kube.Cluster {
	t.Helper()
	c, err := kube.Connect(kube.Settings{Access: access, RequestTimeout: 20 * time.Second}, "aks-test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *person) connect(t *testing.T, c *testazure.Cluster, o aks.AccessOptions) *kube.Cluster {
	t.Helper()
	return connect(t, p.access(t, idOf(t, c), o))
}

// version asks the API server for something that even one without any API knows.
func version(t *testing.T, c *kube.Cluster) error {
	t.Helper()
	_, err := c.Version(t.Context())
	return err
}

// asked counts the answered requests to a cluster in ARM that end in a path.
func asked(c *testazure.Cluster, operation string) int {
	count := 0
	for _, request := range double.Requests() {
		if strings.EqualFold(request.Path, c.ID()+operation) {
			count++
		}
	}
	return count
}

var unknown = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Thing"}

// namespace is something that an API server may have.
var namespace = kube.Ref{Kind: kube.Namespace, Name: "dgraph"}

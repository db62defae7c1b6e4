package provider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The clusters that the tests of this package share. Tests that install a
// control plane start one of their own, because there can be only one of each.
var (
	plainCluster = testcluster.Shared{}
	meshCluster  = testcluster.Shared{Options: testcluster.Options{AuditLog: true}}
)

func TestMain(m *testing.M) {
	code := plainCluster.Main(runFunc(func() int { return meshCluster.Main(m) }))
	builtProvider.remove()
	builtAzurerm.remove()
	os.Exit(code)
}

type runFunc func() int

func (f runFunc) Run() int { return f() }

const (
	linkerdOld = "2026.6.3"
	linkerdNew = "2026.8.3"
)

// testProviders are the provider as it is served, but for an empty environment.
var testProviders = providersAt(time.Now)

// providersAt is testProviders with another clock.
func providersAt(now func() time.Time) map[string]func() (tfprotov6.ProviderServer, error) {
	return map[string]func() (tfprotov6.ProviderServer, error){
		"aksmesh": providerserver.NewProtocol6WithError(newWith("test", now, func(string) string { return "" })()),
	}
}

// testClock is a wall clock that can be put forward.
type testClock struct{ ahead atomic.Int64 }

func (c *testClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *testClock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// providerConfig is the provider block for a kubeconfig, followed by the rest
// of a configuration.
func providerConfig(kubeconfig string, rest ...string) string {
	return fmt.Sprintf("provider \"aksmesh\" {\n  kubernetes = { config_path = %q }\n}\n", kubeconfig) + strings.Join(rest, "\n")
}

// connect returns the cluster as the provider sees it.
func connect(t testing.TB, cluster *testcluster.Cluster) *kube.Cluster {
	t.Helper()
	c, err := kube.Connect(kube.Settings{ConfigPaths: []string{cluster.Kubeconfig()}}, "aksmesh-test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The control planes of the shared cluster, installed on first use by the same
// code as the resources' but without Terraform.
var linkerdOnce, istioOnce installation

type installation struct {
	sync.Once
	err error
}

func (i *installation) in(t testing.TB, install func(ctx context.Context, cluster *kube.Cluster, repository, version string) error, version string) *testcluster.Cluster {
	t.Helper()
	cluster := meshCluster.Cluster(t)
	i.Do(func() {
		i.err = install(context.WithoutCancel(t.Context()), connect(t, cluster), cluster.Charts().Repository, version)
	})
	if i.err != nil {
		t.Fatal(i.err)
	}
	return cluster
}

// linkerdCluster returns a shared cluster with Linkerd in it.
func linkerdCluster(t testing.TB) *testcluster.Cluster {
	t.Helper()
	return linkerdOnce.in(t, installLinkerd, linkerdNew)
}

// istioCluster returns a shared cluster with Istio in it.
func istioCluster(t testing.TB) *testcluster.Cluster {
	t.Helper()
	return istioOnce.in(t, installIstio, "1.31.0")
}

func installIstio(ctx context.Context, cluster *kube.Cluster, repository, version string) error {
	charts, err := testCharts(cluster)
	if err != nil {
		return err
	}
	installer := istio.Installer{Charts: charts}
	prepared, err := installer.Prepare(ctx, istio.Specification{
		Plane: istio.Plane{Namespace: istio.DefaultNamespace}, Repository: repository, Version: version, Profile: istio.ProfileMinimal, Now: time.Now(),
	}, nil)
	if err != nil {
		return err
	}
	return installer.Apply(ctx, prepared, false)
}

func testCharts(cluster *kube.Cluster) (install.Charts, error) {
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		return install.Charts{}, err
	}
	library := helm.NewLibrary(helm.LibraryOptions{CacheDir: filepath.Join(os.TempDir(), fmt.Sprintf("aksmesh-charts-%d", os.Getpid()))})
	return install.Charts{Cluster: cluster, Library: library, Releases: releases}, nil
}

// keepIssuer has a control plane trust an anchor, and issue below it.
func keepIssuer(ctx context.Context, cluster *kube.Cluster, ref trust.IssuerRef, anchor *pki.KeyPair) error {
	bundle := pki.NewBundle(anchor.Certificate())
	signer, err := trust.SigningKey(anchor.Signer(), bundle)
	if err != nil {
		return err
	}
	_, err = trust.Keeper{Cluster: cluster, Ref: ref, Wanted: bundle, Signer: signer, Options: pki.AuthorityOptions{Now: time.Now()}}.Keep(ctx, false)
	return err
}

func installLinkerd(ctx context.Context, cluster *kube.Cluster, repository, version string) error {
	now := time.Now()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: "shared"}, Now: now})
	if err != nil {
		return err
	}
	if err := keepIssuer(ctx, cluster, trust.IssuerRef{Mesh: "linkerd", Namespace: linkerd.DefaultNamespace}, anchor); err != nil {
		return err
	}
	charts, err := testCharts(cluster)
	if err != nil {
		return err
	}
	installer := linkerd.Installer{Charts: charts}
	prepared, err := installer.Prepare(ctx, linkerd.Specification{
		Namespace: linkerd.DefaultNamespace, Repository: repository, Version: version, Now: now,
	})
	if err != nil {
		return err
	}
	return installer.Apply(ctx, prepared)
}

package install_test

import (
	"os"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var shared = testcluster.Shared{Options: testcluster.Options{AuditLog: true}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// connect begins a run: nothing of what another has read is known to it.
func connect(t testing.TB, userAgent string) install.Charts {
	t.Helper()
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{shared.Cluster(t).Kubeconfig()}}, userAgent)
	if err != nil {
		t.Fatal(err)
	}
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return install.Charts{
		Cluster: cluster, Releases: releases, Renderings: &install.Renderings{},
		Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()}),
	}
}

package cluster_test

import (
	"os"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
)

func builder(t *testing.T) binaries.Builder {
	t.Helper()
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	goSum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	return binaries.Builder{GoMod: goMod, GoSum: goSum, Progress: t.Output()}
}

func TestStart(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{Binaries: builder(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c.Info())
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
}

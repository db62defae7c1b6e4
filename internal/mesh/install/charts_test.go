package install_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// chartDirectory makes a directory with one chart, mesh of version 1.0.0, of more
// metadata and files, and returns it.
func chartDirectory(t testing.TB, metadata string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"Chart.yaml": "apiVersion: v2\nname: mesh\nversion: 1.0.0\n" + metadata}
	maps.Copy(all, files)
	for name, text := range all {
		file := filepath.Join(dir, "mesh", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadFromDirectory(t *testing.T) {
	t.Parallel()
	dir := chartDirectory(t, "", nil)
	charts := install.Charts{Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()})}
	loaded, err := charts.Load(t.Context(), dir, "mesh", "1.0.0")
	if err != nil || loaded.Name() != "mesh" {
		t.Errorf("loaded %v, %v", loaded, err)
	}
	if _, err := charts.Load(t.Context(), dir, "mesh", "1.1.0"); err == nil {
		t.Error("a chart of another version is loaded")
	}
	// The packaged form is what is missed when there is neither.
	_, err = charts.Load(t.Context(), dir, "other", "1.0.0")
	if want := filepath.Join(dir, "other-1.0.0.tgz"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one that names %s", err, want)
	}
}

func TestRefuseOwned(t *testing.T) {
	t.Parallel()
	owned := map[string]string{"a.b": "the first reason", "c": "the second reason"}
	for _, c := range []struct {
		values map[string]any
		want   string
	}{
		{nil, ""},
		{map[string]any{"a": "no mapping", "b": 1}, ""},
		{map[string]any{"a": map[string]any{"b": nil}}, "value a.b cannot be set: the first reason"},
		{map[string]any{"a": map[string]any{"b": 1}, "c": 1}, "value a.b cannot be set: the first reason"},
		{map[string]any{"c": map[string]any{}}, "value c cannot be set: the second reason"},
	} {
		got := ""
		if err := install.RefuseOwned(c.values, owned); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("values %v: error %q, want %q", c.values, got, c.want)
		}
	}
}

package charts_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/registry"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
)

func pack(t *testing.T, name, version string) charts.Archive {
	t.Helper()
	files := fstest.MapFS{
		"Chart.yaml":           {Data: []byte("apiVersion: v2\nname: " + name + "\nversion: VERSION\n")},
		"values.yaml":          {Data: []byte("# documented\nkey: value\n")},
		"templates/thing.yaml": {Data: []byte("kind: Thing\n")},
	}
	archive, err := charts.Package(files, func(path string, data []byte) ([]byte, error) {
		if path != "Chart.yaml" {
			return data, nil
		}
		return []byte(strings.ReplaceAll(string(data), "VERSION", version)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestServer(t *testing.T) {
	// Helm keeps the index of a repository given by URL there.
	t.Setenv("HELM_CACHE_HOME", t.TempDir())
	server, err := charts.Start(t.Context(), charts.Options{
		Archives: []charts.Archive{pack(t, "one", "1.0.0"), pack(t, "one", "1.1.0"), pack(t, "two", "1.0.0")},
		Dir:      t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if got := server.Requests(); len(got) != 0 {
		t.Fatalf("requests before any was made: %v", got)
	}

	for name, test := range map[string]struct {
		pull     func(*action.ChartPathOptions) string
		requests []string
	}{
		"http": {
			pull: func(o *action.ChartPathOptions) string {
				o.RepoURL = server.URL()
				return "one"
			},
			requests: []string{"GET /index.yaml", "GET /one-1.1.0.tgz"},
		},
		"oci": {
			pull: func(o *action.ChartPathOptions) string {
				o.PlainHTTP = true
				return "oci://" + server.Registry() + "/charts/one"
			},
			requests: []string{"GET /v2/charts/one/manifests/1.1.0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings := cli.New()
			settings.RepositoryCache = filepath.Join(t.TempDir(), "cache")
			settings.RepositoryConfig = filepath.Join(t.TempDir(), "repositories.yaml")
			client, err := registry.NewClient(
				registry.ClientOptPlainHTTP(),
				registry.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "registry.json")),
			)
			if err != nil {
				t.Fatal(err)
			}
			pull := action.NewPullWithOpts(action.WithConfig(&action.Configuration{RegistryClient: client}))
			pull.Settings = settings
			pull.DestDir = t.TempDir()
			pull.Version = "1.1.0"
			before := server.Requests()
			if _, err := pull.Run(test.pull(&pull.ChartPathOptions)); err != nil {
				t.Fatal(err)
			}
			after := server.Requests()
			for _, r := range test.requests {
				if n := after[r] - before[r]; n != 1 {
					t.Errorf("%s was requested %d times, want once; all requests: %v", r, n, after)
				}
			}
			got, err := loader.Load(filepath.Join(pull.DestDir, "one-1.1.0.tgz"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Name() != "one" || got.Metadata.Version != "1.1.0" || got.Values["key"] != "value" || len(got.Templates) != 1 {
				t.Errorf("pulled chart is %s %s with values %v and %d templates", got.Name(), got.Metadata.Version, got.Values, len(got.Templates))
			}
		})
	}
}

func TestServerEndsWithStop(t *testing.T) {
	t.Parallel()
	server, err := charts.Start(t.Context(), charts.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	for _, address := range []string{strings.TrimPrefix(server.URL(), "http://"), server.Registry()} {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			t.Errorf("%s still accepts connections", address)
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestStartRefusesWrongArchives(t *testing.T) {
	t.Parallel()
	one := pack(t, "one", "1.0.0")
	renamed := one
	renamed.Name = "two"
	for name, test := range map[string]struct {
		archives []charts.Archive
		want     string
	}{
		"twice":         {[]charts.Archive{one, one}, "chart one 1.0.0 occurs twice"},
		"other name":    {[]charts.Archive{renamed}, "archive of chart two 1.0.0 holds one 1.0.0"},
		"not a package": {[]charts.Archive{{Name: "one", Version: "1.0.0", Data: []byte("x")}}, "load chart one 1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := charts.Start(t.Context(), charts.Options{Archives: test.archives, Dir: t.TempDir()})
			if err == nil {
				server.Stop()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one that contains %q", err, test.want)
			}
		})
	}
}

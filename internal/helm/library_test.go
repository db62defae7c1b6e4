package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// packed packs files, given by their path in the chart, as the archive of a chart called mesh.
func packed(t *testing.T, version string, files map[string]string) []byte {
	t.Helper()
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	if _, ok := files["Chart.yaml"]; !ok {
		files["Chart.yaml"] = "apiVersion: v2\nname: mesh\nversion: " + version +
			"\nappVersion: edge-1\nkubeVersion: \">=1.20.0-0\"\n"
	}
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(zipped)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: "mesh/" + path, Mode: 0o600, Size: int64(len(files[path]))}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, files[path]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// repository is a Helm chart repository.
type repository struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]int
	charts   map[string][]byte // by "name-version"
	index    string            // instead of one made from charts
	handler  http.HandlerFunc  // before all else, may be nil
}

func newRepository(t *testing.T, charts map[string][]byte) *repository {
	t.Helper()
	r := &repository{requests: map[string]int{}, charts: charts}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *repository) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	r.requests[request.URL.Path]++
	r.mu.Unlock()
	if r.handler != nil {
		r.handler(w, request)
		return
	}
	switch path := strings.TrimPrefix(request.URL.Path, "/"); {
	case path == "index.yaml" && r.index != "":
		fmt.Fprint(w, r.index)
	case path == "index.yaml":
		fmt.Fprint(w, indexOf(r.charts))
	case r.charts[strings.TrimSuffix(path, ".tgz")] != nil:
		_, _ = w.Write(r.charts[strings.TrimSuffix(path, ".tgz")])
	default:
		http.NotFound(w, request)
	}
}

func indexOf(charts map[string][]byte) string {
	entries := map[string]string{}
	for key, archive := range charts {
		chartName, version, _ := strings.Cut(key, "-")
		entries[chartName] += fmt.Sprintf("  - {version: %q, urls: [%q], digest: %q}\n",
			version, key+".tgz", strings.TrimPrefix(digestOf(archive), "sha256:"))
	}
	index := "apiVersion: v1\nentries:\n"
	for chartName, versions := range entries {
		index += " " + chartName + ":\n" + versions
	}
	return index
}

func TestLoadFromRepository(t *testing.T) {
	t.Parallel()
	archive := packed(t, "1.2.3", map[string]string{"values.yaml": "a: 1", "values-ha.yaml": "a: 2"})
	repo := newRepository(t, map[string][]byte{"mesh-1.2.3": archive})
	loaded, err := NewLibrary(LibraryOptions{CacheDir: t.TempDir()}).
		Load(t.Context(), Source{Repository: repo.URL, Name: "mesh", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Name() != "mesh" || loaded.Version() != "1.2.3" || loaded.AppVersion() != "edge-1" ||
		loaded.KubeVersion() != ">=1.20.0-0" || loaded.Digest() != digestOf(archive) {
		t.Errorf("got %s %s, app %s, Kubernetes %s, %s",
			loaded.Name(), loaded.Version(), loaded.AppVersion(), loaded.KubeVersion(), loaded.Digest())
	}
	values, err := loaded.DefaultValues()
	if err != nil || values["a"] != 1.0 {
		t.Errorf("default values %v, %v", values, err)
	}
	if values, err = loaded.ValuesFile("values-ha.yaml"); err != nil || values["a"] != 2.0 {
		t.Errorf("values-ha.yaml %v, %v", values, err)
	}
	if _, err = loaded.ValuesFile("values-none.yaml"); err == nil {
		t.Error("a file that does not exist was read")
	}
}

func TestLoadFetchesOnceForMany(t *testing.T) {
	t.Parallel()
	repo := newRepository(t, map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)})
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := library.Load(t.Context(), Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if repo.requests["/index.yaml"] != 1 || repo.requests["/mesh-1.0.0.tgz"] != 1 {
		t.Errorf("requests: %v, want one of each", repo.requests)
	}
}

func TestLoadKeepsChartsOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := newRepository(t, map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)})
	// A name that is no loopback address but leads to the test server.
	source := Source{Repository: "http://charts.example.com", Name: "mesh", Version: "1.0.0"}
	load := func() (*Chart, error) {
		library := NewLibrary(LibraryOptions{CacheDir: dir})
		library.client = &http.Client{Transport: leadingTo(t, repo.URL)}
		return library.Load(t.Context(), source)
	}
	for range 2 {
		if _, err := load(); err != nil {
			t.Fatal(err)
		}
	}
	if repo.requests["/mesh-1.0.0.tgz"] != 1 {
		t.Errorf("the chart was fetched %d times", repo.requests["/mesh-1.0.0.tgz"])
	}

	// A damaged file is fetched anew.
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.tgz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files in the cache: %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err != nil {
		t.Fatal(err)
	}
	if repo.requests["/mesh-1.0.0.tgz"] != 2 {
		t.Errorf("a damaged file in the cache was used")
	}
}

// leadingTo sends every request to the server at address.
func leadingTo(t *testing.T, address string) http.RoundTripper {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		request = request.Clone(request.Context())
		request.URL.Scheme, request.URL.Host = to.Scheme, to.Host
		return http.DefaultTransport.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	charts := map[string][]byte{}
	for _, version := range []string{"0.9.0", "1.0.0", "1.1.0", "1.2.0", "2.0.0", "3.0.0"} {
		charts["mesh-"+version] = packed(t, version, nil)
	}
	serving := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	tests := map[string]struct {
		source  Source
		index   string
		handler http.HandlerFunc
		check   func(error) bool
	}{
		"unknown chart": {
			source: Source{Name: "nesh", Version: "1.0.0"},
			check: func(err error) bool {
				unknown, ok := errors.AsType[*UnknownChartError](err)
				return ok && slices.Equal(unknown.Charts, []string{"mesh"})
			},
		},
		"unknown version": {
			source: Source{Name: "mesh", Version: "1.1.5"},
			check: func(err error) bool {
				unknown, ok := errors.AsType[*UnknownVersionError](err)
				return ok && slices.Equal(unknown.Nearest, []string{"1.1.0", "1.2.0", "1.0.0", "2.0.0", "0.9.0"})
			},
		},
		"digest": {
			source: Source{Name: "mesh", Version: "1.0.0"},
			index:  "entries: {mesh: [{version: 1.0.0, urls: [mesh-1.0.0.tgz], digest: 00ff}]}",
			check: func(err error) bool {
				wrong, ok := errors.AsType[*DigestError](err)
				return ok && wrong.Want == "sha256:00ff" && wrong.Got == digestOf(charts["mesh-1.0.0"])
			},
		},
		"another chart in its place": {
			source: Source{Name: "mesh", Version: "1.0.0"},
			index:  "entries: {mesh: [{version: 1.0.0, urls: [mesh-2.0.0.tgz]}]}",
			check:  func(err error) bool { return strings.Contains(err.Error(), "serves mesh 2.0.0 in its place") },
		},
		"unauthorised": {
			source:  Source{Name: "mesh", Version: "1.0.0"},
			handler: serving(http.StatusUnauthorized),
			check:   isA[*UnauthorizedError],
		},
		"forbidden": {
			source:  Source{Name: "mesh", Version: "1.0.0"},
			handler: serving(http.StatusForbidden),
			check:   isA[*UnauthorizedError],
		},
		"no index": {
			source:  Source{Name: "mesh", Version: "1.0.0"},
			handler: serving(http.StatusNotFound),
			check:   isA[*UnreachableError],
		},
		"not an index": {
			source: Source{Name: "mesh", Version: "1.0.0"},
			index:  "<html>log in</html>",
			check:  isA[*UnreachableError],
		},
		"no archive": {
			source: Source{Name: "mesh", Version: "1.0.0"},
			index:  "entries: {mesh: [{version: 1.0.0, urls: []}]}",
			check:  isA[*UnreachableError],
		},
		"file address": {
			source: Source{Name: "mesh", Version: "1.0.0"},
			index:  "entries: {mesh: [{version: 1.0.0, urls: ['file:///etc/passwd']}]}",
			check:  isA[*UnreachableError],
		},
		"nobody there": {
			source: Source{Repository: "http://127.0.0.1:1", Name: "mesh", Version: "1.0.0"},
			check:  isA[*UnreachableError],
		},
		"range": {
			source: Source{Name: "mesh", Version: "~1.0"},
			check:  func(err error) bool { return strings.Contains(err.Error(), "not an exact version") },
		},
		"password in the URL": {
			source: Source{Repository: "https://me:hunter2@example.com", Name: "mesh", Version: "1.0.0"},
			check:  func(err error) bool { return !strings.Contains(err.Error(), "hunter2") },
		},
		"unreadable URL": {
			source: Source{Repository: "https://me:hunter2@exa mple.com", Name: "mesh", Version: "1.0.0"},
			check:  func(err error) bool { return !strings.Contains(err.Error(), "hunter2") },
		},
		"scheme": {
			source: Source{Repository: "ftp://example.com", Name: "mesh", Version: "1.0.0"},
			check:  func(err error) bool { return strings.Contains(err.Error(), "neither") },
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t, charts)
			repo.index, repo.handler = test.index, test.handler
			if test.source.Repository == "" {
				test.source.Repository = repo.URL
			}
			library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
			library.client = http.DefaultClient // Without repetitions, which take their time.
			_, err := library.Load(t.Context(), test.source)
			if err == nil || !test.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestLoadRetriesThrottledAndFailedRequests(t *testing.T) {
	t.Parallel()
	charts := map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)}
	repo := newRepository(t, charts)
	var count atomic.Int32
	repo.handler = func(w http.ResponseWriter, request *http.Request) {
		if count.Add(1) == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		if request.URL.Path == "/index.yaml" {
			fmt.Fprint(w, indexOf(charts))
			return
		}
		_, _ = w.Write(charts["mesh-1.0.0"])
	}
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	if _, err := library.Load(t.Context(), Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"}); err != nil {
		t.Error(err)
	}
}

func TestLoadSendsCredentialsToTheirHostOnly(t *testing.T) {
	t.Parallel()
	charts := map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)}
	elsewhere := newRepository(t, charts)
	elsewhere.handler = func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "" {
			t.Error("the password went to another host")
		}
		_, _ = w.Write(charts["mesh-1.0.0"])
	}
	repo := newRepository(t, nil)
	repo.handler = func(w http.ResponseWriter, request *http.Request) {
		if user, password, _ := request.BasicAuth(); user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "entries: {mesh: [{version: 1.0.0, urls: [%q]}]}", elsewhere.URL+"/mesh-1.0.0.tgz")
	}
	credential := Credential{Host: strings.TrimPrefix(repo.URL, "http://"), Username: "me", Password: "hunter2"}
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir(), Registries: []Credential{credential}})
	if _, err := library.Load(t.Context(), Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"}); err != nil {
		t.Error(err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	repo := newRepository(t, nil)
	arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	repo.handler = func(_ http.ResponseWriter, request *http.Request) {
		arrived <- struct{}{}
		<-request.Context().Done()
		ended <- struct{}{}
	}
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	start := time.Now()
	_, err := library.Load(ctx, Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended // Nobody waits for the chart any more, so the request ends as well.
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestLoadOutlivesTheFirstCaller(t *testing.T) {
	t.Parallel()
	charts := map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)}
	repo := newRepository(t, charts)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	repo.handler = func(w http.ResponseWriter, request *http.Request) {
		once.Do(func() {
			close(arrived)
			<-proceed
		})
		if request.URL.Path == "/index.yaml" {
			fmt.Fprint(w, indexOf(charts))
			return
		}
		_, _ = w.Write(charts["mesh-1.0.0"])
	}
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	source := Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := library.Load(ctx, source)
		first <- err
	}()
	<-arrived
	shared := library.join(t.Context(), source) // The second caller is in before the first leaves.
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first caller: %v", err)
	}
	close(proceed)
	<-shared.done
	if shared.err != nil {
		t.Errorf("second caller: %v", shared.err)
	}
	library.leave(source, shared)
}

func TestLoadTriesAgainAfterAnError(t *testing.T) {
	t.Parallel()
	repo := newRepository(t, map[string][]byte{"mesh-1.0.0": packed(t, "1.0.0", nil)})
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	library.client = http.DefaultClient
	source := Source{Repository: repo.URL, Name: "mesh", Version: "1.0.0"}
	repo.index = "entries: {}"
	if _, err := library.Load(t.Context(), source); !isA[*UnknownChartError](err) {
		t.Fatalf("got %v", err)
	}
	repo.index = ""
	if _, err := library.Load(t.Context(), source); err != nil {
		t.Error(err)
	}
}

func TestLoadLocal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	files := map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: mesh\nversion: 1.0.0\n",
		"templates/one.yaml": "kind: ConfigMap",
		"values.yaml":        "a: 1",
	}
	write := func(path, data string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, data := range files {
		write(path, data)
	}
	library := NewLibrary(LibraryOptions{})
	first, err := library.Load(t.Context(), Source{Name: dir, Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := first.File("values.yaml"); !ok || first.Name() != "mesh" {
		t.Errorf("got chart %s", first.Name())
	}
	again, err := library.Load(t.Context(), Source{Name: dir})
	if err != nil || again.Digest() != first.Digest() {
		t.Errorf("the same files have digests %s and %s (%v)", first.Digest(), again.Digest(), err)
	}
	write("values.yaml", "a: 2")
	changed, err := library.Load(t.Context(), Source{Name: dir})
	if err != nil || changed.Digest() == first.Digest() {
		t.Errorf("changed files have the same digest (%v)", err)
	}
	if _, err := library.Load(t.Context(), Source{Name: dir, Version: "2.0.0"}); !isA[*UnknownVersionError](err) {
		t.Errorf("wrong version: %v", err)
	}
	if _, err := library.Load(t.Context(), Source{Name: dir + "/none"}); !isA[*UnknownChartError](err) {
		t.Errorf("no such directory: %v", err)
	}

	archive := filepath.Join(t.TempDir(), "mesh.tgz")
	if err := os.WriteFile(archive, packed(t, "1.0.0", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if loaded, err := library.Load(t.Context(), Source{Name: archive}); err != nil || loaded.Version() != "1.0.0" {
		t.Errorf("archive: %v", err)
	}
}

func TestLoadRefusesChartsThatCannotBeInstalled(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ chart, want string }{
		"library":            {"apiVersion: v2\nname: mesh\nversion: 1.0.0\ntype: library\n", "library chart"},
		"missing dependency": {"apiVersion: v2\nname: mesh\nversion: 1.0.0\ndependencies: [{name: base, version: 1.0.0}]\n", "base"},
		"no version":         {"apiVersion: v2\nname: mesh\n", "version"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "mesh.tgz")
			archive := packed(t, "1.0.0", map[string]string{"Chart.yaml": test.chart})
			if err := os.WriteFile(path, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := NewLibrary(LibraryOptions{}).Load(t.Context(), Source{Name: path})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want one that says %q", err, test.want)
			}
		})
	}
}

// push puts a chart into a registry as Helm does.
func push(t *testing.T, reference, mediaType string, archive []byte) {
	t.Helper()
	repository, err := remote.NewRepository(reference)
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	config := content.NewDescriptorFromBytes("application/vnd.cncf.helm.config.v1+json", []byte("{}"))
	layer := content.NewDescriptorFromBytes(mediaType, archive)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		repository.Push(t.Context(), config, strings.NewReader("{}")),
		repository.Push(t.Context(), layer, bytes.NewReader(archive)),
		repository.PushReference(t.Context(), content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, manifest),
			bytes.NewReader(manifest), repository.Reference.Reference),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoadFromRegistry(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	archive := packed(t, "1.0.0+build", nil)
	push(t, host+"/charts/mesh:1.0.0_build", chartLayer, archive)
	push(t, host+"/charts/image:1.0.0", ocispec.MediaTypeImageLayerGzip, []byte("image"))

	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	load := func(chartName, version string) (*Chart, error) {
		return library.Load(t.Context(), Source{Repository: "oci://" + host + "/charts", Name: chartName, Version: version})
	}
	loaded, err := load("mesh", "1.0.0+build")
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Digest() != digestOf(archive) {
		t.Errorf("digest %s", loaded.Digest())
	}
	_, err = load("mesh", "1.0.1")
	if unknown, ok := errors.AsType[*UnknownVersionError](err); !ok || !slices.Equal(unknown.Nearest, []string{"1.0.0+build"}) {
		t.Errorf("unknown version: %v", err)
	}
	if _, err = load("nesh", "1.0.0"); !isA[*UnknownChartError](err) {
		t.Errorf("unknown chart: %v", err)
	}
	if _, err = load("image", "1.0.0"); err == nil || !strings.Contains(err.Error(), "not a Helm chart") {
		t.Errorf("image: %v", err)
	}
}

func TestLoadFromRegistryChecksAccessAndDigest(t *testing.T) {
	t.Parallel()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var forge atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if user, password, _ := request.BasicAuth(); request.Method == http.MethodGet && (user != "me" || password != "hunter2") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if forge.Load() && strings.Contains(request.URL.Path, "/blobs/") {
			_, _ = w.Write([]byte("something else"))
			return
		}
		inner.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	push(t, host+"/charts/mesh:1.0.0", chartLayer, packed(t, "1.0.0", nil))
	source := Source{Repository: "oci://" + host + "/charts", Name: "mesh", Version: "1.0.0"}

	_, err := NewLibrary(LibraryOptions{CacheDir: t.TempDir()}).Load(t.Context(), source)
	if !isA[*UnauthorizedError](err) {
		t.Errorf("without credentials: %v", err)
	}
	known := LibraryOptions{
		CacheDir: t.TempDir(), Registries: []Credential{{Host: host, Username: "me", Password: "hunter2"}},
	}
	if _, err := NewLibrary(known).Load(t.Context(), source); err != nil {
		t.Errorf("with credentials: %v", err)
	}
	asked := ""
	keychain := LibraryOptions{CacheDir: t.TempDir(), Keychain: func(_ context.Context, host string) (auth.Credential, error) {
		asked = host
		return auth.Credential{Username: "me", Password: "hunter2"}, nil
	}}
	if _, err := NewLibrary(keychain).Load(t.Context(), source); err != nil || asked != host {
		t.Errorf("with a keychain, asked for %q: %v", asked, err)
	}
	broken := LibraryOptions{CacheDir: t.TempDir(), Keychain: func(context.Context, string) (auth.Credential, error) {
		return auth.EmptyCredential, errors.New("nobody is logged in")
	}}
	if _, err := NewLibrary(broken).Load(t.Context(), source); !isA[*UnauthorizedError](err) ||
		!strings.Contains(err.Error(), "nobody is logged in") {
		t.Errorf("with a keychain that fails: %v", err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		http.Redirect(w, request, server.URL+request.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	t.Cleanup(front.Close)
	led := Source{Repository: strings.Replace(source.Repository, host, strings.TrimPrefix(front.URL, "http://"), 1), Name: "mesh", Version: "1.0.0"}
	known.CacheDir = t.TempDir()
	if _, err := NewLibrary(known).Load(t.Context(), led); err != nil {
		t.Errorf("by a registry that leads to it: %v", err)
	}
	_, err = NewLibrary(LibraryOptions{CacheDir: t.TempDir()}).Load(t.Context(), led)
	if refused, ok := errors.AsType[*UnauthorizedError](err); !ok || refused.Host != host {
		t.Errorf("by a registry that leads to it, without credentials: %v", err)
	}
	known.CacheDir = t.TempDir()
	forge.Store(true)
	if _, err := NewLibrary(known).Load(t.Context(), source); err == nil {
		t.Error("a forged chart was accepted")
	}
}

// Package charts serves Helm charts on loopback by both of the ways Helm can
// fetch them: a classic HTTP repository and an OCI registry. Manifests that are
// installed from a URL are served beside the repository. It lets the demo and
// the tests install from "a repository" with no network.
package charts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	"helm.sh/helm/v3/pkg/registry"
	"helm.sh/helm/v3/pkg/repo"
	"sigs.k8s.io/yaml"
)

// yamlType is the media type of YAML.
const yamlType = "application/yaml"

// An Archive is one version of one chart, packaged.
type Archive struct {
	// Name and Version are those of the chart's Chart.yaml.
	Name, Version string
	// Data is the .tgz file as `helm package` writes it.
	Data []byte
}

// Options say what a Server serves.
type Options struct {
	// Archives are the charts; a name may occur in several versions.
	Archives []Archive
	// Manifests are YAML files that the HTTP repository serves too, by their
	// slash-separated paths in it, such as "addons/kiali.yaml".
	Manifests map[string][]byte
	// Dir is a scratch directory. Helm's registry client looks for its
	// credentials there, so that those of the user are never read.
	Dir string
}

// A Server serves the same charts as an HTTP repository and as an OCI
// registry, without authentication and without TLS, on loopback.
type Server struct {
	repository, registry net.Addr

	servers []*http.Server
	serving sync.WaitGroup

	mu       sync.Mutex
	requests map[string]int
}

// Start serves the charts until Stop is called. ctx bounds only the start.
func Start(ctx context.Context, opts Options) (*Server, error) {
	files, err := repositoryFiles(opts)
	if err != nil {
		return nil, err
	}
	s := &Server{requests: map[string]int{}}
	s.repository, err = s.serve(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("serve chart repository: %w", err)
	}
	s.registry, err = s.serve(ctx, ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0))))
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("serve chart registry: %w", err)
	}
	if err := s.push(ctx, opts); err != nil {
		s.Stop()
		return nil, err
	}
	// The pushes are not requests that a user of the server made.
	s.mu.Lock()
	clear(s.requests)
	s.mu.Unlock()
	return s, nil
}

// URL is the address of the HTTP repository, for `helm repo add` or a chart's
// repository setting.
func (s *Server) URL() string { return "http://" + s.repository.String() }

// Registry is the host:port of the OCI registry. The charts are at
// oci://<Registry>/charts/<name> and need a client that uses plain HTTP.
func (s *Server) Registry() string { return s.registry.String() }

// Requests counts what was asked of both servers since Start, by method and
// path, such as "GET /index.yaml" or "GET /v2/charts/base/manifests/1.31.0".
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// Stop ends both servers and returns when their listeners are closed.
func (s *Server) Stop() {
	for _, server := range s.servers {
		// Its only error is that of closing a listener, which leaves nothing to do.
		_ = server.Close()
	}
	s.serving.Wait()
}

func (s *Server) serve(ctx context.Context, handler http.Handler) (net.Addr, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.requests[r.Method+" "+r.URL.Path]++
			s.mu.Unlock()
			handler.ServeHTTP(w, r)
		}),
	}
	s.servers = append(s.servers, server)
	s.serving.Go(func() {
		// Serve always ends with an error; that of Stop is the expected one
		// and any other shows itself to the clients.
		_ = server.Serve(listener)
	})
	return listener.Addr(), nil
}

func (s *Server) push(ctx context.Context, opts Options) error {
	client, err := registry.NewClient(
		registry.ClientOptPlainHTTP(),
		registry.ClientOptCredentialsFile(filepath.Join(opts.Dir, "registry.json")),
	)
	if err != nil {
		return fmt.Errorf("create registry client: %w", err)
	}
	for _, a := range opts.Archives {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := client.Push(a.Data, fmt.Sprintf("%s/charts/%s:%s", s.Registry(), a.Name, a.Version)); err != nil {
			return fmt.Errorf("push chart %s %s: %w", a.Name, a.Version, err)
		}
	}
	return nil
}

// repositoryFiles is the HTTP repository: the archives and their index, and the
// manifests.
func repositoryFiles(opts Options) (http.Handler, error) {
	index := repo.NewIndexFile()
	mux := http.NewServeMux()
	serve := func(name, contentType string, data []byte) {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			// The client that went away is the only one to be told.
			_, _ = w.Write(data)
		})
	}
	for _, a := range opts.Archives {
		c, err := a.Chart()
		if err != nil {
			return nil, err
		}
		if index.Has(a.Name, a.Version) {
			return nil, fmt.Errorf("chart %s %s occurs twice", a.Name, a.Version)
		}
		name := fmt.Sprintf("%s-%s.tgz", a.Name, a.Version)
		digest := sha256.Sum256(a.Data)
		if err := index.MustAdd(c.Metadata, name, "", hex.EncodeToString(digest[:])); err != nil {
			return nil, fmt.Errorf("index chart %s %s: %w", a.Name, a.Version, err)
		}
		serve(name, "application/gzip", a.Data)
	}
	index.SortEntries()
	data, err := yaml.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("write chart index: %w", err)
	}
	serve("index.yaml", yamlType, data)
	for name, data := range opts.Manifests {
		serve(name, yamlType, data)
	}
	return mux, nil
}

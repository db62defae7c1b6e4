package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

// store is a registry that remembers what it was asked, and can be made to fail.
type store struct {
	*httptest.Server
	host  string
	inner http.Handler

	mu        sync.Mutex
	requests  []string // "GET /v2/…", without queries
	intercept func(http.ResponseWriter, *http.Request) bool
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = serve(t, s)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

// serve is httptest's server without its end, which breaks connections of others:
// it closes those of http.DefaultTransport.
func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() { _ = server.Config.Close() })
	return server
}

func (s *store) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, request.Method+" "+request.URL.Path)
	intercept := s.intercept
	s.mu.Unlock()
	if intercept == nil || !intercept(w, request) {
		s.inner.ServeHTTP(w, request)
	}
}

// meanwhile has requests answered by another while it returns true; it is called
// concurrently.
func (s *store) meanwhile(intercept func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = intercept
}

// asked counts the requests since the last forget, by method and part of the path.
func (s *store) asked(method, part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for _, request := range s.requests {
		if strings.HasPrefix(request, method) && strings.Contains(request, part) {
			count++
		}
	}
	return count
}

func (s *store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *store) at(repository, tag string) Reference {
	return Reference{Registry: s.host, Repository: repository, Tag: tag}
}

// once answers the first request that matches.
func once(matches func(*http.Request) bool, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return times(1, matches, answer)
}

// times answers the first requests that match.
func times(count int, matches func(*http.Request) bool, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	return func(w http.ResponseWriter, request *http.Request) bool {
		if !matches(request) {
			return false
		}
		mu.Lock()
		left := count
		count--
		mu.Unlock()
		if left <= 0 {
			return false
		}
		answer(w, request)
		return true
	}
}

func requestOf(method, part string) func(*http.Request) bool {
	return func(request *http.Request) bool {
		return request.Method == method && strings.Contains(request.URL.Path, part)
	}
}

// publish pushes an image for platforms, each with a configuration and two layers,
// one of which is all platforms', and an attestation beside them. It returns the
// digest of the index. Contents differ by seed.
func (s *store) publish(t *testing.T, repository, tag, seed string, platforms ...ocispec.Platform) string {
	t.Helper()
	target, err := remote.NewRepository(s.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	target.PlainHTTP = true
	push := func(mediaType string, data []byte, as string) ocispec.Descriptor {
		t.Helper()
		described := content.NewDescriptorFromBytes(mediaType, data)
		if as != "" {
			err = target.PushReference(t.Context(), described, bytes.NewReader(data), as)
		} else {
			err = target.Push(t.Context(), described, bytes.NewReader(data))
		}
		if err != nil {
			t.Fatal(err)
		}
		return described
	}
	encode := func(value any) []byte {
		t.Helper()
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	image := func(platform ocispec.Platform) ocispec.Descriptor {
		pushed := push(ocispec.MediaTypeImageManifest, encode(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: push(ocispec.MediaTypeImageConfig, encode(ocispec.Image{Platform: platform, Author: seed}), ""),
			Layers: []ocispec.Descriptor{
				push(ocispec.MediaTypeImageLayerGzip, []byte("base of "+seed), ""),
				push(ocispec.MediaTypeImageLayerGzip, fmt.Appendf(nil, "%v of %s", platform, seed), ""),
			},
		}), "")
		pushed.Platform = &platform
		return pushed
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, platform := range append(slices.Clone(platforms), ocispec.Platform{OS: "unknown", Architecture: "unknown"}) {
		index.Manifests = append(index.Manifests, image(platform))
	}
	defer s.forget()
	return push(ocispec.MediaTypeImageIndex, encode(index), tag).Digest.String()
}

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	armV7 = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

// blobsOfTwo is how many blobs an image of two platforms and the attestation has:
// three configurations, three layers and the one of all.
const blobsOfTwo = 7

// impatient is a client that pauses for no time worth mentioning.
func impatient(options Options) *Client {
	client := New(options)
	client.pauses = func(int, time.Duration) time.Duration { return time.Microsecond }
	client.policy = patience(client.pauses)
	return client
}

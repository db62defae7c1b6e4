package testazure

// What registries hold, by the OCI distribution specification:
// https://github.com/opencontainers/distribution-spec.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	imagespec "github.com/opencontainers/image-spec/specs-go"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

// images is a registry that asks nobody who he is.
type images struct{ handler http.Handler }

func newImages() images {
	return images{registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))}
}

// direct is the way to a handler without a network.
type direct struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	d.handler.ServeHTTP(recorder, r)
	response := recorder.Result()
	response.Request = r
	return response, nil
}

func (i images) client() *http.Client { return &http.Client{Transport: direct(i)} }

// repository is a client that needs neither network nor token.
func (i images) repository(name string) (*remote.Repository, error) {
	repository, err := remote.NewRepository("registry.invalid/" + name)
	if err != nil {
		return nil, err
	}
	repository.Client = i.client()
	return repository, nil
}

// AddImage makes an image of random content under a tag and returns its digest:
// of an index if there are platforms, such as "linux/arm64", else of a manifest.
func (i images) AddImage(ctx context.Context, name, tag string, platforms ...string) (string, error) {
	repository, err := i.repository(name)
	if err != nil {
		return "", err
	}
	var top imagev1.Descriptor
	if len(platforms) == 0 {
		top, err = addManifest(ctx, repository, "linux/amd64")
	} else {
		index := imagev1.Index{Versioned: imagespec.Versioned{SchemaVersion: 2}, MediaType: imagev1.MediaTypeImageIndex}
		for _, platform := range platforms {
			manifest, err := addManifest(ctx, repository, platform)
			if err != nil {
				return "", err
			}
			manifest.Platform = parsePlatform(platform)
			index.Manifests = append(index.Manifests, manifest)
		}
		top, err = pushJSON(ctx, repository, index.MediaType, index)
	}
	if err != nil {
		return "", err
	}
	return top.Digest.String(), repository.Tag(ctx, top, tag)
}

// Digest returns what a tag or digest leads to; the error is errdef.ErrNotFound
// of oras if nothing.
func (i images) Digest(ctx context.Context, name, reference string) (string, error) {
	repository, err := i.repository(name)
	if err != nil {
		return "", err
	}
	descriptor, err := repository.Resolve(ctx, reference)
	return descriptor.Digest.String(), err
}

// Remove takes a tag, or a manifest, away.
func (i images) Remove(ctx context.Context, name, reference string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, "https://registry.invalid/v2/"+name+"/manifests/"+reference, http.NoBody)
	if err != nil {
		return err
	}
	response, err := i.client().Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func parsePlatform(text string) *imagev1.Platform {
	system, architecture, _ := strings.Cut(text, "/")
	architecture, variant, _ := strings.Cut(architecture, "/")
	return &imagev1.Platform{OS: system, Architecture: architecture, Variant: variant}
}

// addManifest makes the image of one platform.
func addManifest(ctx context.Context, repository *remote.Repository, platform string) (imagev1.Descriptor, error) {
	layer := make([]byte, 64)
	_, _ = rand.Read(layer) // It never fails.
	added, err := pushBytes(ctx, repository, imagev1.MediaTypeImageLayerGzip, layer)
	if err != nil {
		return imagev1.Descriptor{}, err
	}
	config, err := pushJSON(ctx, repository, imagev1.MediaTypeImageConfig, imagev1.Image{
		Platform: *parsePlatform(platform), RootFS: imagev1.RootFS{Type: "layers"},
	})
	if err != nil {
		return imagev1.Descriptor{}, err
	}
	return pushJSON(ctx, repository, imagev1.MediaTypeImageManifest, imagev1.Manifest{
		Versioned: imagespec.Versioned{SchemaVersion: 2}, MediaType: imagev1.MediaTypeImageManifest,
		Config: config, Layers: []imagev1.Descriptor{added},
	})
}

func pushJSON(ctx context.Context, repository *remote.Repository, mediaType string, object any) (imagev1.Descriptor, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return imagev1.Descriptor{}, err
	}
	return pushBytes(ctx, repository, mediaType, text)
}

func pushBytes(ctx context.Context, repository *remote.Repository, mediaType string, text []byte) (imagev1.Descriptor, error) {
	descriptor := content.NewDescriptorFromBytes(mediaType, text)
	return descriptor, repository.Push(ctx, descriptor, bytes.NewReader(text))
}

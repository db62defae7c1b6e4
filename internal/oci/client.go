package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// maxManifestBytes bounds what a registry can make the provider hold in memory for
// one manifest or configuration: registries themselves take no larger ones.
const maxManifestBytes = 4 << 20

// Media types as Docker wrote them before there were those of OCI.
const (
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerImageConfig  = "application/vnd.docker.container.image.v1+json"
)

// Options are settings of a Client.
type Options struct {
	// Keychains are asked in this order; the first that knows the host is believed.
	// A keychain that fails is passed over, and its error is told only when the
	// registry refuses.
	Keychains []Keychain
	// PlainHTTP are hosts that do not speak TLS, besides those on loopback.
	PlainHTTP []string
}

// Client speaks to registries. It may be used concurrently.
type Client struct {
	options Options
	pauses  func(attempt int, asked time.Duration) time.Duration
	policy  retry.Policy
	session *session

	mu     sync.Mutex
	logins map[string]error // by host: why a keychain had no credential
}

// New prepares a client; it dials nobody.
func New(options Options) *Client {
	client := &Client{options: options, pauses: pauses, policy: patience(pauses), logins: map[string]error{}}
	client.session = &session{
		auth: &auth.Client{
			Client: &http.Client{
				Transport:     &retry.Transport{Policy: func() retry.Policy { return client.policy }},
				CheckRedirect: client.redirect,
			},
			Cache:      auth.NewCache(),
			Credential: client.Credential,
		},
		plain: client.plain,
	}
	return client
}

// Credential asks the keychains for the credential for a host, as Keychain has it.
// What goes wrong with one of them does not keep from reading what anybody may
// read: LoginError has it.
func (c *Client) Credential(ctx context.Context, host string) (auth.Credential, error) {
	var failed error
	for _, keychain := range c.options.Keychains {
		credential, err := keychain(ctx, host)
		switch {
		case ctx.Err() != nil:
			return auth.EmptyCredential, context.Cause(ctx)
		case err != nil:
			failed = errors.Join(failed, err)
		case credential != auth.EmptyCredential:
			c.remember(host, nil)
			return credential, nil
		}
	}
	c.remember(host, failed)
	return auth.EmptyCredential, nil
}

func (c *Client) remember(host string, failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins[host] = failed
}

// LoginError is why a keychain had no credential for a host when it was last
// asked, or nil.
func (c *Client) LoginError(host string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins[host]
}

// Descriptor is what a reference leads to.
type Descriptor struct {
	Digest    string   // "sha256:…" of the manifest, or of the index of several
	MediaType string   // of the manifest or index
	Size      int64    // of the manifest or index, in bytes
	Platforms []string // "linux/amd64", "linux/arm/v7", …, sorted; attestations are none
}

// Repository opens the repository of a reference, with the client's credentials
// and retries.
func (c *Client) Repository(of Reference) (*remote.Repository, error) {
	name := registry.Reference{Registry: of.Registry, Repository: of.Repository}
	if err := name.Validate(); err != nil {
		return nil, err
	}
	return &remote.Repository{
		Client:    c.session,
		Reference: name,
		PlainHTTP: c.plain(of.Registry),
	}, nil
}

// Resolve finds out what a reference leads to. Errors are, besides those of ctx:
// UnknownError, UnauthorizedError, ThrottledError, UnreachableError, AnswerError and
// DigestError.
func (c *Client) Resolve(ctx context.Context, of Reference) (Descriptor, error) {
	repository, found, err := c.find(ctx, of)
	if err != nil {
		return Descriptor{}, err
	}
	platforms, err := platformsOf(ctx, repository, found)
	if err != nil {
		return Descriptor{}, c.failure(ctx, of, err)
	}
	return Descriptor{
		Digest: found.Digest.String(), MediaType: found.MediaType, Size: found.Size, Platforms: platforms,
	}, nil
}

// find locates what a reference leads to; its errors are those of Resolve.
func (c *Client) find(ctx context.Context, of Reference) (*remote.Repository, ocispec.Descriptor, error) {
	repository, err := c.Repository(of)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	found, err := locate(ctx, repository, of)
	if err != nil {
		return nil, ocispec.Descriptor{}, c.failure(ctx, of, err)
	}
	return repository, found, nil
}

// locate asks for the manifest that a reference leads to. It is asked for by HEAD,
// whose answer has no words: when it is refused, GET tells why.
func locate(ctx context.Context, repository *remote.Repository, of Reference) (ocispec.Descriptor, error) {
	found, err := repository.Resolve(ctx, of.pointer())
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	if !answered || len(response.Errors) > 0 ||
		response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusForbidden {
		return found, err
	}
	found, manifest, err := repository.FetchReference(ctx, of.pointer())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return found, manifest.Close()
}

// platformsOf reads the platforms of an image off its index, or off its
// configuration when there is but one. Other artifacts have none.
func platformsOf(ctx context.Context, repository *remote.Repository, found ocispec.Descriptor) ([]string, error) {
	var manifest struct {
		Config    ocispec.Descriptor   `json:"config"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := read(ctx, repository, found, &manifest); err != nil {
		return nil, err
	}
	var platforms []string
	add := func(platform ocispec.Platform) {
		if platform.OS == "" || platform.OS == "unknown" {
			return
		}
		text := platform.OS + "/" + platform.Architecture
		if platform.Variant != "" {
			text += "/" + platform.Variant
		}
		platforms = append(platforms, text)
	}
	switch {
	case found.MediaType == ocispec.MediaTypeImageIndex || found.MediaType == dockerManifestList:
		for _, each := range manifest.Manifests {
			if each.Platform != nil {
				add(*each.Platform)
			}
		}
	case manifest.Config.MediaType == ocispec.MediaTypeImageConfig || manifest.Config.MediaType == dockerImageConfig:
		var config ocispec.Platform
		if err := read(ctx, repository, manifest.Config, &config); err != nil {
			return nil, err
		}
		add(config)
	}
	slices.Sort(platforms)
	return slices.Compact(platforms), nil
}

// read decodes a manifest or configuration that has the digest it is said to have.
func read(ctx context.Context, repository *remote.Repository, of ocispec.Descriptor, into any) error {
	if of.Size > maxManifestBytes {
		return fmt.Errorf("%s has more than %d MiB", of.Digest, maxManifestBytes>>20)
	}
	data, err := content.FetchAll(ctx, repository, of)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s (%s) cannot be read: %w", of.Digest, of.MediaType, err)
	}
	return nil
}

// digest is Resolve without the platforms: one HEAD request, which Docker Hub does
// not count as a pull.
func (c *Client) digest(ctx context.Context, of Reference) (string, error) {
	_, found, err := c.find(ctx, of)
	if err != nil {
		return "", err
	}
	return found.Digest.String(), nil
}

// Resolved is the answer for one of several references.
type Resolved struct {
	Descriptor Descriptor
	Err        error
}

// ResolveAll resolves many references, at most parallel at once; answers are in
// the order of the references.
func (c *Client) ResolveAll(ctx context.Context, references []Reference, parallel int) []Resolved {
	answers := make([]Resolved, len(references))
	each(len(references), parallel, func(i int) {
		answers[i].Descriptor, answers[i].Err = c.Resolve(ctx, references[i])
	})
	return answers
}

// Digests is ResolveAll without the platforms: one HEAD request for each reference,
// which Docker Hub does not count as a pull. Of the descriptors only the digest is
// set.
func (c *Client) Digests(ctx context.Context, references []Reference, parallel int) []Resolved {
	answers := make([]Resolved, len(references))
	each(len(references), parallel, func(i int) {
		answers[i].Descriptor.Digest, answers[i].Err = c.digest(ctx, references[i])
	})
	return answers
}

// Delete removes the image with the reference's digest, and with it all its tags,
// unless it is gone already. Errors are those of Resolve.
func (c *Client) Delete(ctx context.Context, image Reference) error {
	repository, err := c.Repository(image)
	if err != nil {
		return err
	}
	found, err := locate(ctx, repository, image)
	if err == nil {
		err = repository.Delete(ctx, found)
	}
	if err == nil || errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	return c.failure(ctx, image, err)
}

// each calls do with 0 to count-1, at most parallel at once, and returns when all
// are done.
func each(count, parallel int, do func(i int)) {
	var group errgroup.Group
	group.SetLimit(max(parallel, 1))
	for i := range count {
		group.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = group.Wait() // Nobody returns one: failures belong to their item.
}

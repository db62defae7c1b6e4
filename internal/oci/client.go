package oci

import (
	"context"
	"errors"

	"oras.land/oras-go/v2/registry/remote"
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
type Client struct{}

// New prepares a client; it dials nobody.
func New(options Options) *Client { return &Client{} }

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
	return nil, errors.ErrUnsupported
}

// Resolve finds out what a reference leads to. Errors are, besides those of ctx:
// UnknownError, UnauthorizedError, ThrottledError, UnreachableError.
func (c *Client) Resolve(ctx context.Context, of Reference) (Descriptor, error) {
	return Descriptor{}, errors.ErrUnsupported
}

// Digest is Resolve without the platforms: one HEAD request, which Docker Hub does
// not count as a pull.
func (c *Client) Digest(ctx context.Context, of Reference) (string, error) {
	return "", errors.ErrUnsupported
}

// Resolved is the answer for one of several references.
type Resolved struct {
	Descriptor Descriptor
	Err        error
}

// ResolveAll resolves many references, at most parallel at once; answers are in
// the order of the references.
func (c *Client) ResolveAll(ctx context.Context, references []Reference, parallel int) []Resolved {
	return nil
}

// Delete removes the image with the reference's digest, and with it all its tags,
// unless it is gone already.
func (c *Client) Delete(ctx context.Context, image Reference) error { return errors.ErrUnsupported }

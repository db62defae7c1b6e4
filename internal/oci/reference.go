package oci

import (
	"fmt"
	"net"
	"strings"

	"oras.land/oras-go/v2/registry"
)

const (
	dockerHub  = "docker.io"
	defaultTag = "latest"
)

// Reference names an image: by tag, by digest, or by both, of which the digest
// decides.
type Reference struct {
	Registry   string // host, with the port if it has one: "docker.io", "localhost:5000"
	Repository string // "library/nginx"
	Tag        string // may be "" beside a digest
	Digest     string // "sha256:…", may be ""
}

// ParseReference reads a reference as Docker does: without a registry it is of
// docker.io, there without a slash of library/, and without tag and digest its
// tag is latest.
func ParseReference(text string) (Reference, error) {
	rest, digest, _ := strings.Cut(text, "@")
	reference := Reference{Registry: dockerHub, Digest: digest}
	if host, path, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		reference.Registry, rest = host, path
	}
	reference.Repository, reference.Tag, _ = strings.Cut(rest, ":")
	if reference.Registry == "index.docker.io" {
		reference.Registry = dockerHub
	}
	if reference.Registry == dockerHub && !strings.Contains(reference.Repository, "/") {
		reference.Repository = "library/" + reference.Repository
	}
	if reference.Tag == "" && reference.Digest == "" {
		reference.Tag = defaultTag
	}
	if strings.HasSuffix(text, "@") || strings.HasSuffix(rest, ":") {
		return Reference{}, fmt.Errorf("%q is not the reference of an image: its tag or digest is empty", text)
	}
	if err := reference.Validate(); err != nil {
		return Reference{}, fmt.Errorf("%q is not the reference of an image: %w", text, err)
	}
	return reference, nil
}

// Validate tells whether there can be such an image.
func (r Reference) Validate() error {
	name := registry.Reference{Registry: r.Registry, Repository: r.Repository}
	if err := name.Validate(); err != nil {
		return err
	}
	if r.Tag == "" && r.Digest == "" {
		return fmt.Errorf("%s/%s: a tag or a digest is needed", r.Registry, r.Repository)
	}
	if r.Tag != "" {
		name.Reference = r.Tag
		if err := name.ValidateReferenceAsTag(); err != nil {
			return err
		}
	}
	if r.Digest != "" {
		name.Reference = r.Digest
		return name.ValidateReferenceAsDigest()
	}
	return nil
}

// Name is the reference without tag and digest, as values of charts have it.
func (r Reference) Name() string { return r.Registry + "/" + r.Repository }

// Host is where the registry is asked: registry-1.docker.io for docker.io.
func (r Reference) Host() string { return registry.Reference{Registry: r.Registry}.Host() }

// String writes the reference out whole: registry/repository:tag@digest.
func (r Reference) String() string {
	text := r.Name()
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// pointer is what the image is asked for by.
func (r Reference) pointer() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// IsLoopback tells whether a host, with or without port, is this machine: no
// registry speaks TLS there.
func IsLoopback(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	address := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || address != nil && address.IsLoopback()
}

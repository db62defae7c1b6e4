// Package oci knows where container images are: it reads references as Docker
// does, resolves them to digests, and brings images of all their platforms to
// other registries.
//
// It is built on oras-go, which Helm links already, and not on
// go-containerregistry, which would bring the Docker command line's configuration
// with its dependencies: oras-go adds nothing to the binary.
//
// Signatures and attestations that refer to an image from outside (cosign's tags,
// referrers) do not go with it; attestations within an image's index do.
package oci

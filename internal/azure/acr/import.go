package acr

import (
	"context"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
)

// ImportRequest is an image that a registry is to fetch by itself, with all its
// platforms.
type ImportRequest struct {
	SourceRegistry string   // host: "ghcr.io", "docker.io"
	SourceImage    string   // "repository@sha256:…" or "repository:tag"
	TargetTags     []string // "repository:tag"
	Force          bool     // tags that are there already are moved
	Username       string   // for the source, "" if it lets anybody read
	Password       string
}

// Import has a registry fetch an image, and waits until it is there. Errors are
// explained by Advice.
func (c *Client) Import(ctx context.Context, into *arm.ResourceID, request ImportRequest) error {
	return errors.ErrUnsupported
}

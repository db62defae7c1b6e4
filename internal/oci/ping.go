package oci

import (
	"context"
	"errors"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
)

// Ping finds out whether there is a registry at a host; one that refuses who asks is
// one, too. Errors are those of Resolve.
func (c *Client) Ping(ctx context.Context, host string) error {
	within, err := c.Repository(Reference{Registry: host, Repository: "any"})
	if err != nil {
		return err
	}
	asked := &remote.Registry{RepositoryOptions: remote.RepositoryOptions{
		Client: within.Client, Reference: registry.Reference{Registry: host}, PlainHTTP: within.PlainHTTP,
	}}
	if err = asked.Ping(ctx); err == nil {
		return nil
	}
	err = c.failure(ctx, Reference{Registry: host}, err)
	if _, refused := errors.AsType[*UnauthorizedError](err); refused {
		return nil
	}
	return err
}

package kube

import (
	"context"

	"k8s.io/client-go/discovery"
)

// Version is that of the API server as it gives it: "v1.34.2". It is asked for
// once.
func (c *Cluster) Version(ctx context.Context) (string, error) {
	if known := c.version.Load(); known != nil {
		return *known, nil
	}
	var version string
	err := c.call(ctx, "read", words("the version of the API server"), func(ctx context.Context) error {
		info, err := discovery.ToDiscoveryInterfaceWithContext(c.Discovery()).ServerVersionWithContext(ctx)
		if err == nil {
			version = info.GitVersion
		}
		return err
	})
	if err != nil {
		return "", err
	}
	c.version.Store(&version)
	return version, nil
}

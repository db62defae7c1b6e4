package kube

import (
	"context"

	"k8s.io/client-go/discovery"
)

// Version is that of the API server as it gives it: "v1.34.2".
func (c *Cluster) Version(ctx context.Context) (version string, err error) {
	err = c.call(ctx, "read", words("the version of the API server"), func(ctx context.Context) error {
		info, err := discovery.ToDiscoveryInterfaceWithContext(c.Discovery()).ServerVersionWithContext(ctx)
		if err == nil {
			version = info.GitVersion
		}
		return err
	})
	return version, err
}

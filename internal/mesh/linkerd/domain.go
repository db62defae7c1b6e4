package linkerd

import (
	"context"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// DefaultDomain is the domain of clusters in which nobody has said otherwise.
const DefaultDomain = "cluster.local"

// ClusterDomain is the cluster's domain as the control plane was told of it. The
// error wraps mesh.ErrNoControlPlane if there is none in that namespace.
func ClusterDomain(ctx context.Context, cluster *kube.Cluster, controlPlane string) (string, error) {
	_, values, err := recordedValues(ctx, cluster, controlPlane)
	if err != nil {
		return "", err
	}
	if domain, _ := values["clusterDomain"].(string); domain != "" {
		return domain, nil
	}
	return DefaultDomain, nil
}

package istio

import (
	"context"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Traffic is the traffic of Istio's sidecars and gateways.
type Traffic struct{}

// CheckPorts refuses ports that can never be the application's.
func (Traffic) CheckPorts(ports []int32) error { return CheckPorts(ports) }

// Rules returns what to admit. It is the same for every version with sidecars,
// so the cluster is not asked.
func (Traffic) Rules(_ context.Context, _ *kube.Cluster, ports []int32) (netpol.Rules, error) {
	return PolicyRules(ports)
}

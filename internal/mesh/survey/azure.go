package survey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

// describe takes over what Azure says of a cluster.
func (f *Facts) describe(c *aks.ManagedCluster) {
	f.look.describes = c
	p, network := c.Properties, c.Properties.NetworkProfile
	f.AKS = new(true)
	f.ID, f.Name, f.Location, f.SKU, f.Tier = c.ID, c.Name, c.Location, c.SKU.Name, c.SKU.Tier
	f.PowerState, f.ProvisioningState = p.PowerState.Code, p.ProvisioningState
	f.KubernetesVersion = cmp.Or(p.CurrentKubernetesVersion, p.KubernetesVersion)
	f.Network = Network{
		Plugin: network.NetworkPlugin, PluginMode: network.NetworkPluginMode, Dataplane: network.NetworkDataplane, Policy: network.NetworkPolicy,
		PodCIDRs: several(network.PodCIDRs, network.PodCIDR), ServiceCIDRs: several(network.ServiceCIDRs, network.ServiceCIDR),
		Engine: engine.Managed(network.NetworkPolicy, network.NetworkDataplane),
	}
	if p.OIDCIssuerProfile.Enabled {
		f.OIDCIssuer = p.OIDCIssuerProfile.IssuerURL
	}
	f.WorkloadIdentity = new(p.SecurityProfile.WorkloadIdentity.Enabled)
	f.Private, f.VNetIntegration = new(p.APIServerAccessProfile.EnablePrivateCluster), new(p.APIServerAccessProfile.EnableVnetIntegration)
	f.AuthorizedIPRanges = append([]string{}, p.APIServerAccessProfile.AuthorizedIPRanges...)
	f.IstioAddon = new(p.ServiceMeshProfile != nil && p.ServiceMeshProfile.Mode == "Istio")
	f.IstioRevisions = []string{}
	if known(f.IstioAddon) {
		f.IstioRevisions = append(f.IstioRevisions, p.ServiceMeshProfile.Istio.Revisions...)
	}
	f.AppRouting = new(p.IngressProfile.WebAppRouting.GatewayAPIImplementations.AppRoutingIstio.Mode == "Enabled")
	f.HostedSystem = new(p.HostedSystemProfile.Enabled)
	f.look.addons = map[string]bool{}
	for name, addon := range p.AddonProfiles {
		f.look.addons[strings.ToLower(name)] = addon.Enabled
	}
	f.AzurePolicy = new(f.look.addons["azurepolicy"])
	if automatic(c) {
		f.Safeguards = new(true)
	}
	if p.IngressProfile.GatewayAPI.Installation == "Standard" {
		f.GatewayAPI = &GatewayAPI{Installed: true, Channel: "standard", Owner: "managed by AKS", Managed: true}
	}
	for _, pool := range p.AgentPoolProfiles {
		f.NodePools = append(f.NodePools, NodePool{
			Name: pool.Name, Mode: pool.Mode, OS: cmp.Or(pool.OSType, "Linux"), OSSKU: pool.OSSKU, VMSize: pool.VMSize, Count: pool.Count,
			Version: pool.OrchestratorVersion, SubnetID: pool.VnetSubnetID, PodSubnetID: pool.PodSubnetID, Taints: pool.NodeTaints,
		})
	}
}

// automatic tells whether a cluster is known to be of AKS Automatic.
func automatic(c *aks.ManagedCluster) bool { return c != nil && c.Automatic() }

// several are the networks of a dual-stack cluster, or the one of another.
func several(all []string, one string) []string {
	if len(all) == 0 && one != "" {
		return []string{one}
	}
	return all
}

// flat tells whether pods have addresses of the virtual network.
func (n Network) flat() bool { return n.Plugin == "azure" && n.PluginMode != "overlay" }

// describeNetwork finds out where the addresses of pods come from.
func (f *Facts) describeNetwork(ctx context.Context, azure Azure) {
	n := &f.Network
	switch {
	case n.Plugin == "none":
		n.SharedBecause = "the cluster has a network plugin of its own, whose addresses of pods Azure does not know"
	case n.Plugin == "":
		n.SharedBecause = "Azure does not say which network plugin the cluster has"
	case !n.flat():
		n.SharedSubnet, n.SharedBecause = new(false), fmt.Sprintf("with the network plugin %s, pods have addresses of a network of their own (%s)", strings.TrimSpace(n.Plugin+" "+n.PluginMode), strings.Join(n.PodCIDRs, ", "))
	default:
		f.sharePools(ctx, azure)
	}
}

// sharePools finds the subnets of pods that have addresses of the virtual network.
func (f *Facts) sharePools(ctx context.Context, azure Azure) {
	n := &f.Network
	var apart, subnets []string
	managed := false
	for _, pool := range f.NodePools {
		if pool.PodSubnetID != "" && !strings.EqualFold(pool.PodSubnetID, pool.SubnetID) {
			apart = append(apart, pool.Name)
		}
		subnet := cmp.Or(pool.PodSubnetID, pool.SubnetID)
		managed = managed || subnet == ""
		if subnet != "" && !slices.ContainsFunc(subnets, func(known string) bool { return strings.EqualFold(known, subnet) }) {
			subnets = append(subnets, subnet)
		}
	}
	switch {
	case len(f.NodePools) == 0:
		n.SharedBecause = "Azure lists no node pools of the cluster"
	case len(apart) == 0:
		n.SharedSubnet, n.SharedBecause = new(true), "with the network plugin azure, without overlay and without a subnet of pods (podSubnetID), pods have addresses of the subnet of their node"
	default:
		n.SharedSubnet, n.SharedBecause = new(false), "pods have a subnet of their own (podSubnetID) in the node pools "+strings.Join(apart, ", ")
	}
	for _, id := range subnets {
		prefixes, err := azure.Subnet(ctx, id)
		if err != nil {
			f.miss("network.pod_cidrs", err)
		}
		for _, prefix := range prefixes {
			n.PodCIDRs = append(n.PodCIDRs, prefix.String())
		}
	}
	if managed {
		f.miss("network.pod_cidrs", errors.New("pods are in the subnet that AKS has made for the nodes in "+f.look.describes.Properties.NodeResourceGroup+", and the cluster does not name it"))
	}
}

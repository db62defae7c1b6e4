package aks

import "strings"

// ManagedCluster is what the provider reads of a cluster, by the API of 2026-05-01.
// Enumerations are plain strings: values that are newer than this file pass.
//
// https://learn.microsoft.com/rest/api/aks/managed-clusters/get
type ManagedCluster struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Location string `json:"location"`
	SKU      struct {
		Name string `json:"name"` // Base or Automatic
		Tier string `json:"tier"`
	} `json:"sku"`
	Properties Properties `json:"properties"`
}

// Automatic tells whether it is a cluster of AKS Automatic.
func (c *ManagedCluster) Automatic() bool { return strings.EqualFold(c.SKU.Name, "Automatic") }

// MakesNodes tells whether AKS makes nodes of its own accord for pods that have none
// (node auto-provisioning).
func (c *ManagedCluster) MakesNodes() bool {
	return c.Automatic() || c.Properties.NodeProvisioningProfile.Mode == "Auto"
}

// Properties are those of a ManagedCluster.
type Properties struct {
	KubernetesVersion        string `json:"kubernetesVersion"`
	CurrentKubernetesVersion string `json:"currentKubernetesVersion"`
	NodeResourceGroup        string `json:"nodeResourceGroup"`
	ProvisioningState        string `json:"provisioningState"`
	PowerState               struct {
		Code string `json:"code"` // Running or Stopped
	} `json:"powerState"`
	AADProfile     *AADProfile `json:"aadProfile"`
	NetworkProfile struct {
		NetworkPlugin     string   `json:"networkPlugin"`
		NetworkPluginMode string   `json:"networkPluginMode"`
		NetworkPolicy     string   `json:"networkPolicy"`
		NetworkDataplane  string   `json:"networkDataplane"`
		PodCIDR           string   `json:"podCidr"`
		PodCIDRs          []string `json:"podCidrs"`
		ServiceCIDR       string   `json:"serviceCidr"`
		ServiceCIDRs      []string `json:"serviceCidrs"`
	} `json:"networkProfile"`
	ServiceMeshProfile *ServiceMeshProfile `json:"serviceMeshProfile"`
	IngressProfile     struct {
		GatewayAPI struct {
			Installation string `json:"installation"` // Disabled or Standard
		} `json:"gatewayAPI"`
		WebAppRouting struct {
			GatewayAPIImplementations struct {
				AppRoutingIstio struct {
					Mode string `json:"mode"` // Enabled or Disabled
				} `json:"appRoutingIstio"`
			} `json:"gatewayAPIImplementations"`
		} `json:"webAppRouting"`
	} `json:"ingressProfile"`
	OIDCIssuerProfile struct {
		Enabled   bool   `json:"enabled"`
		IssuerURL string `json:"issuerURL"`
	} `json:"oidcIssuerProfile"`
	SecurityProfile struct {
		WorkloadIdentity struct {
			Enabled bool `json:"enabled"`
		} `json:"workloadIdentity"`
	} `json:"securityProfile"`
	APIServerAccessProfile APIServerAccessProfile `json:"apiServerAccessProfile"`
	HostedSystemProfile    struct {
		Enabled bool `json:"enabled"`
	} `json:"hostedSystemProfile"`
	NodeProvisioningProfile struct {
		Mode string `json:"mode"` // Auto or Manual
	} `json:"nodeProvisioningProfile"`
	AgentPoolProfiles []AgentPool `json:"agentPoolProfiles"`
	AddonProfiles     map[string]struct {
		Enabled bool `json:"enabled"`
	} `json:"addonProfiles"`
	IdentityProfile map[string]struct {
		ObjectID string `json:"objectId"`
	} `json:"identityProfile"`
}

// APIServerAccessProfile is who reaches the API server.
type APIServerAccessProfile struct {
	AuthorizedIPRanges             []string `json:"authorizedIPRanges"`
	EnablePrivateCluster           bool     `json:"enablePrivateCluster"`
	EnablePrivateClusterPublicFQDN bool     `json:"enablePrivateClusterPublicFQDN"`
	EnableVnetIntegration          bool     `json:"enableVnetIntegration"`
}

// AADProfile is how Microsoft Entra ID logs in to the API server; a cluster
// without one has local accounts only.
type AADProfile struct {
	EnableAzureRBAC bool   `json:"enableAzureRBAC"`
	TenantID        string `json:"tenantID"`
}

// ServiceMeshProfile is the Istio add-on.
type ServiceMeshProfile struct {
	Mode  string `json:"mode"` // Istio or Disabled
	Istio struct {
		Revisions []string `json:"revisions"`
	} `json:"istio"`
}

// AgentPool is a node pool.
type AgentPool struct {
	Name                string   `json:"name"`
	Mode                string   `json:"mode"`
	OSType              string   `json:"osType"`
	OSSKU               string   `json:"osSKU"`
	Count               int      `json:"count"`
	VMSize              string   `json:"vmSize"`
	VnetSubnetID        string   `json:"vnetSubnetID"`
	PodSubnetID         string   `json:"podSubnetID"`
	NodeTaints          []string `json:"nodeTaints"`
	OrchestratorVersion string   `json:"currentOrchestratorVersion"`
}

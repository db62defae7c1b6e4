package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

const clusterVersion = "2026-05-01"

// clusterModel is the configuration of a cluster, and what only Azure knows.
type clusterModel struct {
	ID                       types.String       `tfsdk:"id"`
	Name                     types.String       `tfsdk:"name"`
	Location                 types.String       `tfsdk:"location"`
	ResourceGroupName        types.String       `tfsdk:"resource_group_name"`
	DNSPrefix                types.String       `tfsdk:"dns_prefix"`
	KubernetesVersion        types.String       `tfsdk:"kubernetes_version"`
	SKUTier                  types.String       `tfsdk:"sku_tier"`
	LocalAccountDisabled     types.Bool         `tfsdk:"local_account_disabled"`
	OIDCIssuerEnabled        types.Bool         `tfsdk:"oidc_issuer_enabled"`
	WorkloadIdentityEnabled  types.Bool         `tfsdk:"workload_identity_enabled"`
	Tags                     types.Map          `tfsdk:"tags"`
	DefaultNodePool          []nodePool         `tfsdk:"default_node_pool"`
	NodeProvisioningProfile  []nodeProvisioning `tfsdk:"node_provisioning_profile"`
	Identity                 []identityBlock    `tfsdk:"identity"`
	NetworkProfile           []network          `tfsdk:"network_profile"`
	EntraID                  []entraID          `tfsdk:"azure_active_directory_role_based_access_control"`
	ServiceMeshProfile       []serviceMesh      `tfsdk:"service_mesh_profile"`
	KubeletIdentity          types.List         `tfsdk:"kubelet_identity"`
	CurrentKubernetesVersion types.String       `tfsdk:"current_kubernetes_version"`
	FQDN                     types.String       `tfsdk:"fqdn"`
	NodeResourceGroup        types.String       `tfsdk:"node_resource_group"`
	OIDCIssuerURL            types.String       `tfsdk:"oidc_issuer_url"`
}

type nodePool struct {
	Name         string   `tfsdk:"name"`
	VMSize       string   `tfsdk:"vm_size"`
	NodeCount    int64    `tfsdk:"node_count"`
	VNetSubnetID *string  `tfsdk:"vnet_subnet_id"`
	Zones        []string `tfsdk:"zones"`
}

type nodeProvisioning struct {
	Mode string `tfsdk:"mode"`
}

type identityBlock struct {
	Type string `tfsdk:"type"`
}

type network struct {
	NetworkPlugin     string  `tfsdk:"network_plugin"`
	NetworkPluginMode *string `tfsdk:"network_plugin_mode"`
	NetworkPolicy     *string `tfsdk:"network_policy"`
	NetworkDataPlane  string  `tfsdk:"network_data_plane"`
	ServiceCIDR       *string `tfsdk:"service_cidr"`
	DNSServiceIP      *string `tfsdk:"dns_service_ip"`
	PodCIDR           *string `tfsdk:"pod_cidr"`
}

type entraID struct {
	TenantID            *string  `tfsdk:"tenant_id"`
	AzureRBACEnabled    bool     `tfsdk:"azure_rbac_enabled"`
	AdminGroupObjectIDs []string `tfsdk:"admin_group_object_ids"`
}

type serviceMesh struct {
	Mode      string   `tfsdk:"mode"`
	Revisions []string `tfsdk:"revisions"`
}

// block is one that may be there once.
func block(required bool, attributes map[string]schema.Attribute) schema.Block {
	validators := []validator.List{listvalidator.SizeAtMost(1)}
	if required {
		validators = append(validators, listvalidator.IsRequired())
	}
	return schema.ListNestedBlock{NestedObject: schema.NestedBlockObject{Attributes: attributes}, Validators: validators}
}

func defaultedText(value string) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString(value)}
}

func oneOf(attribute schema.StringAttribute, values ...string) schema.StringAttribute {
	attribute.Validators = []validator.String{stringvalidator.OneOf(values...)}
	return attribute
}

func defaultedFlag(value bool) schema.BoolAttribute {
	return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(value)}
}

// kubeletIdentity is by what the nodes pull images.
func kubeletIdentity() types.ObjectType {
	return types.ObjectType{AttrTypes: map[string]attr.Type{
		"client_id": types.StringType, "object_id": types.StringType, "user_assigned_identity_id": types.StringType,
	}}
}

func newKubernetesCluster() resource.Resource {
	required := func() schema.StringAttribute { return schema.StringAttribute{Required: true} }
	return &record{
		kind: "kubernetes_cluster", apiVersion: clusterVersion,
		attributes: map[string]schema.Attribute{
			"name": requiredText(), "location": requiredText(), "resource_group_name": requiredText(), "tags": tags(),
			"dns_prefix":                 optionalText(),
			"kubernetes_version":         schema.StringAttribute{Optional: true, Computed: true, PlanModifiers: computedText().PlanModifiers},
			"sku_tier":                   oneOf(defaultedText("Free"), "Free", "Standard", "Premium"),
			"local_account_disabled":     schema.BoolAttribute{Optional: true},
			"oidc_issuer_enabled":        defaultedFlag(true),
			"workload_identity_enabled":  defaultedFlag(false),
			"current_kubernetes_version": computedText(),
			"fqdn":                       computedText(),
			"node_resource_group":        schema.StringAttribute{Optional: true, Computed: true, PlanModifiers: computedText().PlanModifiers},
			"oidc_issuer_url":            computedText(),
			"kubelet_identity": schema.ListAttribute{
				Computed: true, ElementType: kubeletIdentity(), PlanModifiers: []planmodifier.List{listplanmodifier.UseStateForUnknown()},
			},
		},
		blocks: map[string]schema.Block{
			"default_node_pool": block(true, map[string]schema.Attribute{
				"name": required(), "vm_size": optionalText(), "node_count": schema.Int64Attribute{Optional: true},
				"vnet_subnet_id": optionalText(), "zones": schema.SetAttribute{Optional: true, ElementType: types.StringType},
			}),
			"node_provisioning_profile": block(true, map[string]schema.Attribute{"mode": oneOf(defaultedText("Manual"), "Auto", "Manual")}),
			"identity":                  block(false, map[string]schema.Attribute{"type": oneOf(required(), "SystemAssigned", "UserAssigned")}),
			"network_profile": block(false, map[string]schema.Attribute{
				"network_plugin":      oneOf(required(), "azure", "kubenet", "none"),
				"network_plugin_mode": oneOf(optionalText(), "overlay"),
				"network_policy":      oneOf(optionalText(), "azure", "calico", "cilium"),
				"network_data_plane":  oneOf(defaultedText("azure"), "azure", "cilium"),
				"service_cidr":        optionalText(), "dns_service_ip": optionalText(), "pod_cidr": optionalText(),
			}),
			"azure_active_directory_role_based_access_control": block(false, map[string]schema.Attribute{
				"tenant_id": optionalText(), "azure_rbac_enabled": schema.BoolAttribute{Optional: true}, "admin_group_object_ids": texts(),
			}),
			"service_mesh_profile": block(false, map[string]schema.Attribute{
				"mode": oneOf(required(), "Istio"), "revisions": schema.ListAttribute{Required: true, ElementType: types.StringType},
			}),
		},
		put: putKubernetesCluster,
	}
}

// clusterAnswer is what Resource Manager says of a cluster.
type clusterAnswer struct {
	Properties struct {
		KubernetesVersion        string `json:"kubernetesVersion"`
		CurrentKubernetesVersion string `json:"currentKubernetesVersion"`
		FQDN                     string `json:"fqdn"`
		NodeResourceGroup        string `json:"nodeResourceGroup"`
		OIDCIssuerProfile        struct {
			IssuerURL string `json:"issuerURL"`
		} `json:"oidcIssuerProfile"`
		IdentityProfile map[string]struct {
			ResourceID string `json:"resourceId"`
			ClientID   string `json:"clientId"`
			ObjectID   string `json:"objectId"`
		} `json:"identityProfile"`
	} `json:"properties"`
}

func putKubernetesCluster(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
	var model clusterModel
	for _, problem := range plan.plan.Get(ctx, &model) {
		return nil, errors.New(problem.Summary() + ": " + problem.Detail())
	}
	id := s.groupID(model.ResourceGroupName.ValueString(), "Microsoft.ContainerService", "managedClusters", model.Name.ValueString())
	var made clusterAnswer
	if err := s.ask(ctx, http.MethodPut, id, clusterVersion, model.body(), &made); err != nil {
		return nil, err
	}
	kubelet := made.Properties.IdentityProfile["kubeletidentity"]
	identity, problems := types.ObjectValue(kubeletIdentity().AttrTypes, map[string]attr.Value{
		"client_id": types.StringValue(kubelet.ClientID), "object_id": types.StringValue(kubelet.ObjectID), "user_assigned_identity_id": types.StringValue(kubelet.ResourceID),
	})
	for _, problem := range problems {
		return nil, errors.New(problem.Detail())
	}
	return map[string]any{
		"id": id, "kubernetes_version": made.Properties.KubernetesVersion, "current_kubernetes_version": made.Properties.CurrentKubernetesVersion,
		"fqdn": made.Properties.FQDN, "node_resource_group": made.Properties.NodeResourceGroup, "oidc_issuer_url": made.Properties.OIDCIssuerProfile.IssuerURL,
		"kubelet_identity": []attr.Value{identity},
	}, nil
}

// body is what Resource Manager is told.
func (m *clusterModel) body() map[string]any {
	properties := map[string]any{
		"dnsPrefix": m.DNSPrefix.ValueString(), "enableRBAC": true, "disableLocalAccounts": m.LocalAccountDisabled.ValueBool(),
		"oidcIssuerProfile": map[string]any{"enabled": m.OIDCIssuerEnabled.ValueBool()},
		"securityProfile":   map[string]any{"workloadIdentity": map[string]any{"enabled": m.WorkloadIdentityEnabled.ValueBool()}},
	}
	if version := m.KubernetesVersion.ValueString(); version != "" {
		properties["kubernetesVersion"] = version
	}
	pools := []any{}
	for _, pool := range m.DefaultNodePool {
		pools = append(pools, map[string]any{
			"name": pool.Name, "mode": "System", "type": "VirtualMachineScaleSets", "osType": "Linux",
			"vmSize": pool.VMSize, "count": pool.NodeCount, "vnetSubnetID": pool.VNetSubnetID, "availabilityZones": pool.Zones,
		})
	}
	properties["agentPoolProfiles"] = pools
	for _, provisioning := range m.NodeProvisioningProfile {
		properties["nodeProvisioningProfile"] = map[string]any{"mode": provisioning.Mode}
	}
	for _, n := range m.NetworkProfile {
		properties["networkProfile"] = map[string]any{
			"networkPlugin": n.NetworkPlugin, "networkPluginMode": n.NetworkPluginMode, "networkPolicy": n.NetworkPolicy,
			"networkDataplane": n.NetworkDataPlane, "serviceCidr": n.ServiceCIDR, "dnsServiceIP": n.DNSServiceIP, "podCidr": n.PodCIDR,
			"loadBalancerSku": "standard", "outboundType": "loadBalancer",
		}
	}
	for _, entra := range m.EntraID {
		properties["aadProfile"] = map[string]any{
			"managed": true, "enableAzureRBAC": entra.AzureRBACEnabled, "tenantID": entra.TenantID, "adminGroupObjectIDs": entra.AdminGroupObjectIDs,
		}
	}
	for _, mesh := range m.ServiceMeshProfile {
		properties["serviceMeshProfile"] = map[string]any{"mode": mesh.Mode, "istio": map[string]any{"revisions": mesh.Revisions}}
	}
	body := map[string]any{
		"location": m.Location.ValueString(), "sku": map[string]any{"name": "Base", "tier": m.SKUTier.ValueString()}, "properties": properties,
	}
	for _, identity := range m.Identity {
		body["identity"] = map[string]any{"type": identity.Type}
	}
	return body
}

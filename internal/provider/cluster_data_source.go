package provider

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/survey"
)

type clusterDataSource struct{ session *session }

var _ datasource.DataSourceWithConfigure = (*clusterDataSource)(nil)

func newClusterDataSource() datasource.DataSource { return &clusterDataSource{} }

func (d *clusterDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_cluster"
}

func (d *clusterDataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	flag := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Computed: true, MarkdownDescription: description}
	}
	texts := func(description string) schema.ListAttribute {
		return schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: description}
	}
	group := func(description string, attributes map[string]schema.Attribute) schema.SingleNestedAttribute {
		return schema.SingleNestedAttribute{Computed: true, MarkdownDescription: description, Attributes: attributes}
	}
	list := func(description string, attributes map[string]schema.Attribute) schema.ListNestedAttribute {
		return schema.ListNestedAttribute{Computed: true, MarkdownDescription: description, NestedObject: schema.NestedAttributeObject{Attributes: attributes}}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "What a cluster is, as far as a mesh is concerned: its versions, network, node pools, policies, registries, what of other meshes is in it, and what of all that to mind before a mesh is installed (`findings`).\n\n" +
			"It asks Azure Resource Manager where the provider has an AKS cluster (block `aks`), and the API server. The account needs the role Reader on the cluster for the former; " +
			"for `registries`, on its subscription (or a role with `Microsoft.Authorization/roleAssignments/read` there), for their hosts, on the registries, and for the networks of pods in a flat network, on the virtual network. " +
			"Without a right to the cluster, and with the `kubernetes` block, the API server alone is asked. What is not known then is null, and `unseen` says why. Nothing in the cluster is changed: what can only be found out by a try is tried by a dry run.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Resource ID of an AKS cluster. Default: the cluster of the provider. Another one is looked at by Azure Resource Manager alone.",
				Validators:          []validator.String{managedClusterID()},
			},
			"timeouts":                    timeouts.Attributes(ctx),
			"source":                      text("Who has answered: `arm`, `cluster` or `arm+cluster`."),
			"name":                        text("Name of the AKS cluster."),
			"location":                    text("Azure region."),
			"sku":                         text("`Base` or `Automatic`."),
			"tier":                        text("`Free`, `Standard` or `Premium`."),
			"power_state":                 text("`Running` or `Stopped`."),
			"provisioning_state":          text("`Succeeded`, `Updating`, …"),
			"is_aks":                      flag("Whether it is an AKS cluster."),
			"kubernetes_version":          text("Version of the API server: `1.36.2`."),
			"oidc_issuer_url":             text("Issuer of service account tokens that others can verify; null if there is none."),
			"workload_identity":           flag("Whether Microsoft Entra Workload ID is enabled."),
			"private_cluster":             flag("Whether the API server has a private address only."),
			"api_server_vnet_integration": flag("Whether the API server is in the virtual network."),
			"authorized_ip_ranges":        texts("Addresses from which alone the API server may be reached; empty for all."),
			"azure_policy":                flag("Whether the Azure Policy add-on is enabled."),
			"deployment_safeguards":       flag("Whether Deployment Safeguards change what is deployed, as on AKS Automatic. Elsewhere that is found out by a try in the namespace `default`, by a dry run; null if that does not tell."),
			"managed_system_pools":        flag("Whether AKS runs the nodes of the system itself."),
			"network": group("The network.", map[string]schema.Attribute{
				"plugin":                        text("`azure`, `kubenet`, or `none` for a CNI plugin of one's own."),
				"plugin_mode":                   text("`overlay`; null for a flat network."),
				"dataplane":                     text("`azure` or `cilium`."),
				"policy":                        text("Network policy that AKS was told to enforce: `azure`, `calico`, `cilium` or `none`."),
				"policy_engine":                 text("What enforces NetworkPolicies: `Cilium`, `Calico`, `Azure Network Policy Manager`, … Null if nothing that is known does."),
				"policy_engine_evidence":        text("By what that is known."),
				"pod_cidrs":                     texts("Networks of pods; in a flat network, the subnets of pods."),
				"service_cidrs":                 texts("Networks of services."),
				"linkerd_covered":               flag("Whether Linkerd takes all these, and the addresses that are in use, for the cluster's by the default of its value `clusterNetworks`: `" + linkerd.DefaultNetworks + "`."),
				"outside_linkerd_defaults":      texts("Those networks that it does not: add them to `clusterNetworks`. Null if not all are known, such as when an address in use is of no network that is known."),
				"pods_share_node_subnet":        flag("Whether nodes and pods have addresses of the same subnet of the virtual network. Null if that is not known: from inside the cluster, it is found out only by addresses that prove it."),
				"pods_share_node_subnet_reason": text("By what that is known, or why it is not."),
			}),
			"istio_addon": group("The Istio add-on of AKS.", map[string]schema.Attribute{
				"enabled":   flag("Whether it is enabled."),
				"revisions": texts("Its revisions: `asm-1-30`. Two while it is upgraded."),
			}),
			"app_routing_istio":   flag("Whether App Routing has an Istio for its gateways."),
			"application_network": flag("Whether the cluster is in an Azure Kubernetes Application Network."),
			"gateway_api": group("The CRDs of the Gateway API.", map[string]schema.Attribute{
				"installed":      flag("Whether there are any."),
				"bundle_version": text("Their version: `1.5.1`."),
				"channel":        text("`standard` or `experimental`."),
				"owner":          text("Who looks after them: `managed by AKS`, `of Helm release default/gateway-api`, `this provider's`, …"),
				"managed_by_aks": flag("Whether AKS does, and allows nobody else to."),
			}),
			"node_pools": list("The node pools, in order of Azure's, or of names. From inside the cluster, those that have nodes now.", map[string]schema.Attribute{
				"name":               text("Name of the pool."),
				"mode":               text("`System` or `User`."),
				"os":                 text("`Linux` or `Windows`."),
				"os_sku":             text("`Ubuntu`, `AzureLinux`, `Windows2022`, …"),
				"vm_size":            text("Size of the machines."),
				"kubernetes_version": text("Version of its kubelets."),
				"node_count":         schema.Int64Attribute{Computed: true, MarkdownDescription: "How many nodes it has."},
				"subnet_id":          text("Subnet of the nodes, by its resource ID; null if AKS has made it."),
				"pod_subnet_id":      text("Subnet of the pods, if they have one of their own."),
				"taints":             texts("Taints: `CriticalAddonsOnly=true:NoSchedule`."),
			}),
			"registries": list("Azure container registries of the cluster's subscription that its kubelet identity has a built-in role to pull from. Null if they could not be looked up, for which the account needs the role Reader on the subscription. "+
				"Roles of one's own are not among them, nor roles that a registry does not honour: one that gives rights by repositories (ABAC) knows the repository roles alone, and others do not know these.", map[string]schema.Attribute{
				"scope":        text("Resource ID of the registry, or of a resource group, subscription or management group with all its registries; `/` for all there are."),
				"login_server": text("Host of the registry: `example.azurecr.io`. Null if the account may not read it, and of several."),
				"role":         text("Role by which it may: `AcrPull`."),
				"condition":    text("Condition of the assignment of the role, such as for some repositories only; null for none."),
			}),
			"findings": list("What to mind, the worst first.", map[string]schema.Attribute{
				"id":       text("Identifier: `kubenet`, `windows-pools`, `webhooks-blocked`."),
				"severity": text("`error`: no mesh works, or the cluster is out of support; `warning`: something will not do what is expected of it, or not for long; `info`."),
				"subject":  text("What it is about."),
				"message":  text("What is the case."),
				"advice":   text("What to do."),
			}),
			"unseen": list("What could not be seen.", map[string]schema.Attribute{
				"subject": text("The attribute, or what else it is."),
				"reason":  text("Why not."),
			}),
		},
	}
}

type clusterModel struct {
	ID                       types.String            `tfsdk:"id"`
	Timeouts                 timeouts.Value          `tfsdk:"timeouts"`
	Source                   types.String            `tfsdk:"source"`
	Name                     types.String            `tfsdk:"name"`
	Location                 types.String            `tfsdk:"location"`
	SKU                      types.String            `tfsdk:"sku"`
	Tier                     types.String            `tfsdk:"tier"`
	PowerState               types.String            `tfsdk:"power_state"`
	ProvisioningState        types.String            `tfsdk:"provisioning_state"`
	IsAKS                    *bool                   `tfsdk:"is_aks"`
	KubernetesVersion        types.String            `tfsdk:"kubernetes_version"`
	OIDCIssuerURL            types.String            `tfsdk:"oidc_issuer_url"`
	WorkloadIdentity         *bool                   `tfsdk:"workload_identity"`
	PrivateCluster           *bool                   `tfsdk:"private_cluster"`
	APIServerVNetIntegration *bool                   `tfsdk:"api_server_vnet_integration"`
	AuthorizedIPRanges       []string                `tfsdk:"authorized_ip_ranges"`
	AzurePolicy              *bool                   `tfsdk:"azure_policy"`
	DeploymentSafeguards     *bool                   `tfsdk:"deployment_safeguards"`
	ManagedSystemPools       *bool                   `tfsdk:"managed_system_pools"`
	Network                  clusterNetworkModel     `tfsdk:"network"`
	IstioAddon               clusterIstioAddonModel  `tfsdk:"istio_addon"`
	AppRoutingIstio          *bool                   `tfsdk:"app_routing_istio"`
	ApplicationNetwork       *bool                   `tfsdk:"application_network"`
	GatewayAPI               *clusterGatewayAPIModel `tfsdk:"gateway_api"`
	NodePools                []clusterNodePoolModel  `tfsdk:"node_pools"`
	Registries               []clusterRegistryModel  `tfsdk:"registries"`
	Findings                 []clusterFindingModel   `tfsdk:"findings"`
	Unseen                   []clusterUnseenModel    `tfsdk:"unseen"`
}

type clusterNetworkModel struct {
	Plugin                    types.String `tfsdk:"plugin"`
	PluginMode                types.String `tfsdk:"plugin_mode"`
	Dataplane                 types.String `tfsdk:"dataplane"`
	Policy                    types.String `tfsdk:"policy"`
	PolicyEngine              types.String `tfsdk:"policy_engine"`
	PolicyEngineEvidence      types.String `tfsdk:"policy_engine_evidence"`
	PodCIDRs                  []string     `tfsdk:"pod_cidrs"`
	ServiceCIDRs              []string     `tfsdk:"service_cidrs"`
	LinkerdCovered            *bool        `tfsdk:"linkerd_covered"`
	OutsideLinkerdDefaults    []string     `tfsdk:"outside_linkerd_defaults"`
	PodsShareNodeSubnet       *bool        `tfsdk:"pods_share_node_subnet"`
	PodsShareNodeSubnetReason types.String `tfsdk:"pods_share_node_subnet_reason"`
}

type clusterIstioAddonModel struct {
	Enabled   *bool    `tfsdk:"enabled"`
	Revisions []string `tfsdk:"revisions"`
}

type clusterGatewayAPIModel struct {
	Installed     bool         `tfsdk:"installed"`
	BundleVersion types.String `tfsdk:"bundle_version"`
	Channel       types.String `tfsdk:"channel"`
	Owner         types.String `tfsdk:"owner"`
	ManagedByAKS  bool         `tfsdk:"managed_by_aks"`
}

type clusterNodePoolModel struct {
	Name              types.String `tfsdk:"name"`
	Mode              types.String `tfsdk:"mode"`
	OS                types.String `tfsdk:"os"`
	OSSKU             types.String `tfsdk:"os_sku"`
	VMSize            types.String `tfsdk:"vm_size"`
	KubernetesVersion types.String `tfsdk:"kubernetes_version"`
	NodeCount         int64        `tfsdk:"node_count"`
	SubnetID          types.String `tfsdk:"subnet_id"`
	PodSubnetID       types.String `tfsdk:"pod_subnet_id"`
	Taints            []string     `tfsdk:"taints"`
}

type clusterRegistryModel struct {
	Scope       string       `tfsdk:"scope"`
	LoginServer types.String `tfsdk:"login_server"`
	Role        string       `tfsdk:"role"`
	Condition   types.String `tfsdk:"condition"`
}

type clusterFindingModel struct {
	ID       string `tfsdk:"id"`
	Severity string `tfsdk:"severity"`
	Subject  string `tfsdk:"subject"`
	Message  string `tfsdk:"message"`
	Advice   string `tfsdk:"advice"`
}

type clusterUnseenModel struct {
	Subject string `tfsdk:"subject"`
	Reason  string `tfsdk:"reason"`
}

func (d *clusterDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (d *clusterDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	// Only these are set in a configuration; the rest of it is null, which lists of
	// the model cannot tell from none.
	var model clusterModel
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("id"), &model.ID)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("timeouts"), &model.Timeouts)...)
	limit, diags := model.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	sources, err := d.session.sources(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Unable to Look at the Cluster", err, aks.Advice)
		return
	}
	if sources.Azure == nil {
		if _, ok := d.session.requireCluster(&resp.Diagnostics); !ok {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	facts, err := survey.Look(ctx, sources)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Look at the Cluster", err, aks.Advice)
		return
	}
	model.tell(facts)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

// sources are who is asked about a cluster: about that of the provider Azure, if
// its block names one there, and the API server; about another, by its resource
// ID, Azure alone.
func (s *session) sources(id string) (survey.Sources, error) {
	sources := survey.Sources{
		Now: s.time(), Unasked: "the provider's configuration names no AKS cluster (block aks)",
		Explain: func(err error) string { return explain(err, aks.Advice) },
	}
	own, named := s.managed(), ""
	if own != nil {
		named = s.aks.id.Path()
	}
	if id == "" || strings.EqualFold(id, named) {
		sources.Inside, _ = s.knownCluster()
		if own == nil {
			return sources, nil
		}
	}
	account, err := s.azure()
	if err != nil {
		return sources, err
	}
	client, err := aks.NewClient(account)
	if err != nil {
		return sources, err
	}
	if sources.Inside == nil && id != "" {
		other, err := aks.ParseID(id)
		if err != nil {
			return sources, err
		}
		own = func(ctx context.Context) (*aks.ManagedCluster, error) { return client.Cluster(ctx, other) }
	}
	sources.Azure = azureCluster{Client: client, read: own, session: s}
	return sources, nil
}

// managed reads what Azure says of the provider's cluster; nil if the provider's
// configuration names none there.
func (s *session) managed() check.Managed {
	if s == nil || s.aks.Access == nil {
		return nil
	}
	return s.aks.Cluster
}

// azureCluster is what Azure knows of one cluster.
type azureCluster struct {
	*aks.Client

	read    check.Managed
	session *session
}

// Cluster reads the cluster.
func (c azureCluster) Cluster(ctx context.Context) (*aks.ManagedCluster, error) {
	return c.read(ctx)
}

// Registries lists what the cluster's nodes may pull from, with hosts where the
// account may read them, and then without roles that do not count there.
func (c azureCluster) Registries(ctx context.Context, cluster *aks.ManagedCluster) ([]aks.AttachedRegistry, error) {
	attached, err := c.Client.Registries(ctx, cluster)
	if err != nil || len(attached) == 0 {
		return attached, err
	}
	registries, err := c.session.azureRegistries()
	if err != nil {
		return nil, err
	}
	counting := []aks.AttachedRegistry{}
	for _, one := range attached {
		// One of more than one registry may be of either kind, as may one that the
		// account may not read.
		if id, err := acr.ParseID(one.Scope); err == nil {
			if registry, err := registries.Registry(ctx, id); err == nil {
				if one.ByRepositories != strings.EqualFold(registry.Properties.RoleAssignmentMode, "AbacRepositoryPermissions") {
					continue
				}
				one.LoginServer = registry.Properties.LoginServer
			}
		}
		counting = append(counting, one)
	}
	return counting, ctx.Err()
}

// tell fills in what was found.
func (m *clusterModel) tell(f *survey.Facts) {
	m.ID, m.Source, m.Name, m.Location = orNull(f.ID), orNull(f.Source), orNull(f.Name), orNull(f.Location)
	m.SKU, m.Tier, m.PowerState, m.ProvisioningState = orNull(f.SKU), orNull(f.Tier), orNull(f.PowerState), orNull(f.ProvisioningState)
	m.IsAKS, m.KubernetesVersion, m.OIDCIssuerURL, m.WorkloadIdentity = f.AKS, orNull(f.KubernetesVersion), orNull(f.OIDCIssuer), f.WorkloadIdentity
	m.PrivateCluster, m.APIServerVNetIntegration, m.AuthorizedIPRanges = f.Private, f.VNetIntegration, f.AuthorizedIPRanges
	m.AzurePolicy, m.DeploymentSafeguards, m.ManagedSystemPools = f.AzurePolicy, f.Safeguards, f.HostedSystem
	n := f.Network
	m.Network = clusterNetworkModel{
		Plugin: orNull(n.Plugin), PluginMode: orNull(n.PluginMode), Dataplane: orNull(n.Dataplane), Policy: orNull(n.Policy),
		PolicyEngine: orNull(n.Engine.Name), PolicyEngineEvidence: orNull(n.Engine.Evidence),
		PodCIDRs: n.PodCIDRs, ServiceCIDRs: n.ServiceCIDRs, LinkerdCovered: n.Covered, OutsideLinkerdDefaults: n.Uncovered,
		PodsShareNodeSubnet: n.SharedSubnet, PodsShareNodeSubnetReason: orNull(n.SharedBecause),
	}
	m.IstioAddon = clusterIstioAddonModel{Enabled: f.IstioAddon, Revisions: f.IstioRevisions}
	m.AppRoutingIstio, m.ApplicationNetwork = f.AppRouting, f.ApplicationNetwork
	if g := f.GatewayAPI; g != nil {
		m.GatewayAPI = &clusterGatewayAPIModel{g.Installed, orNull(g.Bundle), orNull(g.Channel), orNull(g.Owner), g.Managed}
	}
	m.NodePools = []clusterNodePoolModel{}
	for _, p := range f.NodePools {
		m.NodePools = append(m.NodePools, clusterNodePoolModel{
			Name: orNull(p.Name), Mode: orNull(p.Mode), OS: orNull(p.OS), OSSKU: orNull(p.OSSKU), VMSize: orNull(p.VMSize), KubernetesVersion: orNull(p.Version),
			NodeCount: int64(p.Count), SubnetID: orNull(p.SubnetID), PodSubnetID: orNull(p.PodSubnetID), Taints: append([]string{}, p.Taints...),
		})
	}
	if f.Registries != nil {
		m.Registries = []clusterRegistryModel{}
	}
	for _, r := range f.Registries {
		m.Registries = append(m.Registries, clusterRegistryModel{r.Scope, orNull(r.LoginServer), r.Role, orNull(r.Condition)})
	}
	m.Findings, m.Unseen = []clusterFindingModel{}, []clusterUnseenModel{}
	for _, one := range f.Findings {
		m.Findings = append(m.Findings, clusterFindingModel{one.ID, string(one.Severity), one.Subject, sentence(errors.New(one.Message)), one.Advice})
	}
	for _, one := range f.Unseen {
		m.Unseen = append(m.Unseen, clusterUnseenModel{one.Subject, one.Why})
	}
}

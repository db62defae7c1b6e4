package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// gatewayAPIAttribute says where the CRDs of the Gateway API come from.
func gatewayAPIAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "The CRDs of the Gateway API, by which Linkerd knows routes. Linkerd's own charts bring none since 2.19, and with this resource none in any version. " +
			"Left out, they are required. CRDs that an earlier version of Linkerd's chart has brought stay when it is upgraded.",
		Attributes: map[string]schema.Attribute{
			"crds": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(linkerd.RequireGatewayCRDs)),
				Validators: []validator.String{stringvalidator.OneOf(string(linkerd.RequireGatewayCRDs), string(linkerd.InstallGatewayCRDs), string(linkerd.IgnoreGatewayCRDs))},
				MarkdownDescription: "`require` (default): somebody else brings them, such as AKS with its managed Gateway API; without them a plan fails, and one of a version that Linkerd is not declared to work with is a warning. " +
					"`install`: they are applied before Linkerd, server-side; a plan fails if they are somebody else's. `linkerd-destination` is restarted if it ran before they came. " +
					"Destroy leaves them, unless `delete_crds` is set and nobody has objects of them. `ignore`: they are not looked at, as where the same apply brings them.",
			},
			"version": schema.StringAttribute{
				Optional:            true,
				Validators:          []validator.String{exactVersion()},
				MarkdownDescription: "Version of the bundle to install, such as `1.4.1`; never an older one than there is. Default: the newest that the version of Linkerd is declared to work with, unless there is a newer one.",
			},
			"source": optionalString("URL, file or directory of the manifests to install. Default: `standard-install.yaml` of the version, as the project publishes it on GitHub."),
		},
	}
}

type gatewayAPIModel struct {
	CRDs    types.String `tfsdk:"crds"`
	Version types.String `tfsdk:"version"`
	Source  types.String `tfsdk:"source"`
}

func (m *linkerdModel) gatewayAPI(ctx context.Context, diags *diag.Diagnostics) linkerd.GatewayAPI {
	if m.GatewayAPI.IsNull() {
		return linkerd.GatewayAPI{CRDs: linkerd.RequireGatewayCRDs}
	}
	var g gatewayAPIModel
	diags.Append(m.GatewayAPI.As(ctx, &g, objectAsOptions)...)
	return linkerd.GatewayAPI{CRDs: linkerd.GatewayCRDs(g.CRDs.ValueString()), Version: g.Version.ValueString(), Source: g.Source.ValueString()}
}

// cniAttribute asks for the CNI plugin.
func cniAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Linkerd's CNI plugin (chart `linkerd2-cni`), installed before the control plane: it redirects the traffic of pods from outside, so that they need no privileged init container. " +
			"Left out, there is none. Not for AKS with Azure CNI powered by Cilium, which keeps other plugins out.",
		Attributes: map[string]schema.Attribute{
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(linkerd.DefaultCNINamespace),
				Validators:          []validator.String{dnsLabel()},
				MarkdownDescription: "Namespace of the plugin; created if absent, and then deleted with it. Default `" + linkerd.DefaultCNINamespace + "`. It cannot be changed while the plugin is there.",
			},
			"values": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Values of the chart, YAML documents merged in order, such as `repairController: { enabled: true }` where nodes come and go.",
			},
		},
	}
}

var cniTypes = map[string]attr.Type{"namespace": types.StringType, "values": types.ListType{ElemType: types.StringType}}

type cniModel struct {
	Namespace types.String `tfsdk:"namespace"`
	Values    types.List   `tfsdk:"values"`
}

func (m *linkerdModel) cni(ctx context.Context, diags *diag.Diagnostics) *linkerd.CNI {
	if m.CNI.IsNull() {
		return nil
	}
	var c cniModel
	diags.Append(m.CNI.As(ctx, &c, objectAsOptions)...)
	return &linkerd.CNI{
		Namespace: c.Namespace.ValueString(),
		Values:    parsedValues(ctx, c.Values, path.Root("cni").AtName("values"), linkerd.CheckCNIValues, diags),
	}
}

// cniNamespace is where the plugin is; empty without one.
func (m *linkerdModel) cniNamespace(ctx context.Context, diags *diag.Diagnostics) string {
	if cni := m.cni(ctx, diags); cni != nil {
		return cni.Namespace
	}
	return ""
}

// validateCNI refuses values that are wrong whatever the cluster is.
func validateCNI(ctx context.Context, config tfsdk.Config, diags *diag.Diagnostics) {
	var values types.List
	at := path.Root("cni").AtName("values")
	diags.Append(config.GetAttribute(ctx, at, &values)...)
	parsedValues(ctx, values, at, linkerd.CheckCNIValues, diags)
}

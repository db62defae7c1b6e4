package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int32validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

var _ meshResource = (*networkPolicyResource)(nil)

var _ resource.ResourceWithValidateConfig = (*networkPolicyResource)(nil)

type networkPolicyResource struct{ resourceBase }

func newNetworkPolicyResource() resource.Resource {
	return &networkPolicyResource{resourceBase{noun: "network_policy", identity: "`<namespace>/<name>` of the NetworkPolicy."}}
}

func (r *networkPolicyResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A NetworkPolicy that lets only the mesh's traffic reach the selected pods, as the mesh and its version really send it.\n\n" +
			"Linkerd since 2.18 sends all traffic between meshed pods to the proxy's port 4143, so only that port is opened; before, the application's own ports are opened as well. " +
			"Istio's sidecars receive on the application's ports. The attribute `guarantee` says what holds and what does not; `policy_yaml` is the policy itself, and a change made behind our back shows in its diff.\n\n" +
			"NetworkPolicies add up: another policy that admits more to the same pods is not undone by this one. Without a network policy engine in the cluster, no policy has any effect.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>`."),
			"namespace": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Namespace of the pods to protect. Changing it makes a new policy.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(guard.DefaultName),
				MarkdownDescription: "Name of the NetworkPolicy. Default `" + guard.DefaultName + "`; give each policy of a namespace its own. Changing it makes a new policy.",
				Validators:          []validator.String{stringvalidator.RegexMatches(subdomainPattern, "must be a DNS subdomain: lower-case letters, digits, dashes and dots")},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"pod_selector": schema.MapAttribute{
				Required: true, ElementType: types.StringType,
				MarkdownDescription: "Labels of the pods to protect; `{}` selects every pod of the namespace.",
				Validators:          []validator.Map{mapvalidator.KeysAre(labelKey()), mapvalidator.ValueStringsAre(labelValue())},
			},
			"ports": schema.ListAttribute{
				Required: true, ElementType: types.Int32Type,
				MarkdownDescription: "TCP ports of the containers that meshed clients use.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues(), listvalidator.ValueInt32sAre(int32validator.Between(1, 65535))},
			},
			"mesh": schema.SingleNestedAttribute{
				Required:            true,
				MarkdownDescription: "The mesh whose traffic to admit: exactly one of `linkerd` and `istio`.",
				Attributes: map[string]schema.Attribute{
					"linkerd": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Admit Linkerd's traffic.",
						Validators:          []validator.Object{objectvalidator.ExactlyOneOf(path.MatchRoot("mesh").AtName("istio"))},
						Attributes: map[string]schema.Attribute{
							"control_plane_namespace": controlPlaneAttribute(linkerd.DefaultNamespace),
							"version": schema.StringAttribute{
								Optional:            true,
								MarkdownDescription: "Version of Linkerd, such as `2026.8.3`, `edge-26.8.3` or `stable-2.14.10`. Default: read from the control plane in the cluster, which then must be there. When the same apply installs or upgrades Linkerd, refer to `aksmesh_linkerd.this.version`, so that the plan goes by the version to come.",
								Validators:          []validator.String{linkerdVersion()},
							},
						},
					},
					"istio": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Admit the traffic of Istio's sidecars and gateways.",
						Attributes:          map[string]schema.Attribute{},
					},
				},
			},
			"force_conflicts": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the first apply takes a policy of that name over from another field manager. Default `false`: that is an error which names the other manager.",
			},
			"policy_yaml": computedString("The policy's spec in YAML: in the state as it is in the cluster, in a plan as it will be."),
			"guarantee":   computedString("What holds once the policy is in force, and what does not."),
			"timeouts":    timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type networkPolicyModel struct {
	commonModel
	Namespace      types.String `tfsdk:"namespace"`
	Name           types.String `tfsdk:"name"`
	PodSelector    types.Map    `tfsdk:"pod_selector"`
	Ports          types.List   `tfsdk:"ports"`
	Mesh           types.Object `tfsdk:"mesh"`
	ForceConflicts types.Bool   `tfsdk:"force_conflicts"`
	PolicyYAML     types.String `tfsdk:"policy_yaml"`
	Guarantee      types.String `tfsdk:"guarantee"`
}

type policyMeshModel struct {
	Linkerd types.Object `tfsdk:"linkerd"`
	Istio   types.Object `tfsdk:"istio"`
}

type linkerdPolicyModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	Version      types.String `tfsdk:"version"`
}

// Types of the nested objects, for values that an import builds.
var (
	linkerdPolicyTypes = map[string]attr.Type{"control_plane_namespace": types.StringType, "version": types.StringType}
	policyMeshTypes    = map[string]attr.Type{
		"linkerd": types.ObjectType{AttrTypes: linkerdPolicyTypes},
		"istio":   types.ObjectType{AttrTypes: map[string]attr.Type{}},
	}
)

// known reports whether everything that shapes the policy is known.
func (m *networkPolicyModel) known(ctx context.Context) bool {
	return fullyKnown(ctx, m.Namespace, m.Name, m.PodSelector, m.Ports, m.Mesh)
}

// intent turns the model into the domain's terms.
func (m *networkPolicyModel) intent(ctx context.Context, diags *diag.Diagnostics) guard.Intent {
	i := guard.Intent{
		Namespace: m.Namespace.ValueString(),
		Name:      m.Name.ValueString(),
		Pods:      stringMap(ctx, m.PodSelector, diags),
		Ports:     elements[int32](ctx, m.Ports, diags),
	}
	var chosen policyMeshModel
	diags.Append(m.Mesh.As(ctx, &chosen, objectAsOptions)...)
	if chosen.Linkerd.IsNull() {
		i.Traffic = istio.Traffic{}
		return i
	}
	var l linkerdPolicyModel
	diags.Append(chosen.Linkerd.As(ctx, &l, objectAsOptions)...)
	i.Traffic = linkerd.Traffic{ControlPlane: l.ControlPlane.ValueString(), Version: l.Version.ValueString()}
	return i
}

// ValidateConfig refuses ports that the mesh's proxies keep for themselves.
func (r *networkPolicyResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model networkPolicyModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || model.Mesh.IsNull() || !model.known(ctx) {
		return
	}
	intent := model.intent(ctx, &resp.Diagnostics)
	if err := intent.Traffic.CheckPorts(intent.Ports); err != nil {
		problemAt(&resp.Diagnostics, path.Root("ports"), "Invalid Ports", err)
	}
}

// ModifyPlan shows the policy that the apply will write, as soon as the mesh's
// version is known: that of a control plane of the same apply is not.
func (r *networkPolicyResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan networkPolicyModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || !plan.known(ctx) {
		return
	}
	intent := plan.intent(ctx, &resp.Diagnostics)
	plan.ID = types.StringValue(intent.Namespace + "/" + intent.Name)
	cluster, _ := r.knownCluster()
	compiled, err := guard.Compile(ctx, cluster, intent)
	switch {
	case err == nil:
		plan.PolicyYAML, plan.Guarantee = types.StringValue(compiled.YAML), types.StringValue(compiled.Guarantee)
	case errors.Is(err, guard.ErrMeshUnknown):
		if !req.State.Raw.IsNull() {
			r.keep(ctx, req, &plan, &resp.Diagnostics)
		}
	default:
		problem(&resp.Diagnostics, "Unable to Plan Network Policy", err)
		return
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// keep leaves the policy as it is when nothing that shapes it has changed.
func (r *networkPolicyResource) keep(ctx context.Context, req resource.ModifyPlanRequest, plan *networkPolicyModel, diags *diag.Diagnostics) {
	var state networkPolicyModel
	diags.Append(req.State.Get(ctx, &state)...)
	if plan.PodSelector.Equal(state.PodSelector) && plan.Ports.Equal(state.Ports) && plan.Mesh.Equal(state.Mesh) {
		plan.PolicyYAML, plan.Guarantee = state.PolicyYAML, state.Guarantee
	}
}

func (r *networkPolicyResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if !r.write(ctx, cluster, &model, model.ForceConflicts.ValueBool(), &resp.Diagnostics) {
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// write applies the policy. What the plan has shown is what is written, even
// if the mesh has been upgraded since.
func (r *networkPolicyResource) write(ctx context.Context, cluster *kube.Cluster, model *networkPolicyModel, force bool, diags *diag.Diagnostics) bool {
	intent := model.intent(ctx, diags)
	if model.PolicyYAML.IsUnknown() {
		compiled, err := guard.Compile(ctx, cluster, intent)
		if err != nil {
			problem(diags, "Unable to Write Network Policy", err)
			return false
		}
		model.PolicyYAML, model.Guarantee = types.StringValue(compiled.YAML), types.StringValue(compiled.Guarantee)
	}
	if err := guard.Apply(ctx, cluster, intent, guard.Compiled{YAML: model.PolicyYAML.ValueString(), Guarantee: model.Guarantee.ValueString()}, force); err != nil {
		problem(diags, "Unable to Write Network Policy", err)
		return false
	}
	model.ID = types.StringValue(intent.Namespace + "/" + intent.Name)
	return true
}

func (r *networkPolicyResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	namespace, name, ok := strings.Cut(model.ID.ValueString(), "/")
	if !ok || namespace == "" || name == "" {
		resp.Diagnostics.AddAttributeError(path.Root("id"), "Invalid Network Policy ID", fmt.Sprintf("%q is not <namespace>/<name>.", model.ID.ValueString()))
		return
	}
	found, err := guard.Read(ctx, cluster, namespace, name)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Network Policy", err)
		return
	}
	model.Namespace, model.Name = types.StringValue(namespace), types.StringValue(name)
	model.PolicyYAML = types.StringValue(found.YAML)
	if model.Mesh.IsNull() {
		model.imported(ctx, found, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported reads the intent back from what the policy says of itself.
func (m *networkPolicyModel) imported(ctx context.Context, found guard.Found, diags *diag.Diagnostics) {
	if found.Intent == nil {
		diags.AddAttributeError(path.Root("id"), "Not a Policy of This Provider", fmt.Sprintf(
			"NetworkPolicy %s does not say which mesh's traffic it admits, so it was not made by aksmesh_network_policy. Write the resource under another name, apply, and delete the old policy.", m.ID.ValueString()))
		return
	}
	var d diag.Diagnostics
	m.PodSelector, d = types.MapValueFrom(ctx, types.StringType, found.Intent.Pods)
	diags.Append(d...)
	m.Ports, d = types.ListValueFrom(ctx, types.Int32Type, found.Intent.Ports)
	diags.Append(d...)
	m.ForceConflicts = types.BoolValue(false)
	m.Guarantee = types.StringValue(found.Guarantee)
	chosen := policyMeshModel{Linkerd: types.ObjectNull(linkerdPolicyTypes), Istio: types.ObjectNull(map[string]attr.Type{})}
	if traffic, ok := found.Intent.Traffic.(linkerd.Traffic); ok {
		version := types.StringNull()
		if traffic.Version != "" {
			version = types.StringValue(traffic.Version)
		}
		chosen.Linkerd = objectFrom(ctx, linkerdPolicyTypes, linkerdPolicyModel{ControlPlane: types.StringValue(traffic.ControlPlane), Version: version}, diags)
	} else {
		chosen.Istio = types.ObjectValueMust(map[string]attr.Type{}, map[string]attr.Value{})
	}
	m.Mesh = objectFrom(ctx, policyMeshTypes, chosen, diags)
}

func (r *networkPolicyResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	// The plan has shown what others changed, and its approval is the user's
	// word to change it back.
	if r.write(ctx, cluster, &model, true, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *networkPolicyResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := guard.Delete(ctx, cluster, model.Namespace.ValueString(), model.Name.ValueString()); err != nil {
		problem(&resp.Diagnostics, "Unable to Delete Network Policy", err)
	}
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

var _ meshResource = (*injectionResource)(nil)

type injectionResource struct{ resourceBase }

func newInjectionResource() resource.Resource {
	return &injectionResource{resourceBase{noun: "injection", identity: "`<mesh>/<namespace>`, or `<mesh>/<namespace>/<kind>/<name>` for one workload."}}
}

func (r *injectionResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Enrols a namespace, or one workload of it, in a mesh, restarts what already runs, and waits until every pod that can be " +
			"meshed has a proxy. Pods are looked at, not annotations: a pod that slipped past the injector is in the next plan's `drift` and " +
			"is restarted by the apply.\n\n" +
			"Only the labels and annotations named here are owned, by server-side apply; everything else of the object stays with whoever manages it. " +
			"Destroying the resource gives them up and restarts the workloads without a proxy.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<mesh>/<namespace>`, or `<mesh>/<namespace>/<kind>/<name>` for one workload."),
			"namespace": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Namespace to enrol, or that of `workload`. It must exist. Changing it enrols anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"workload": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "One workload to enrol instead of the whole namespace. Changing it enrols anew.",
				PlanModifiers:       []planmodifier.Object{objectplanmodifier.RequiresReplace()},
				Attributes: map[string]schema.Attribute{
					"kind": schema.StringAttribute{
						Required:            true,
						MarkdownDescription: "`Deployment`, `StatefulSet` or `DaemonSet`.",
						Validators:          []validator.String{stringvalidator.OneOf(workloadKinds()...)},
					},
					"name": schema.StringAttribute{Required: true, MarkdownDescription: "Its name.", Validators: []validator.String{stringvalidator.LengthBetween(1, 253)}},
				},
			},
			"mesh": schema.SingleNestedAttribute{
				Required:            true,
				MarkdownDescription: "The mesh to enrol in: exactly one of `linkerd` and `istio`. Changing from one to the other enrols anew.",
				PlanModifiers: []planmodifier.Object{objectplanmodifier.RequiresReplaceIf(otherMesh,
					"Changing the mesh enrols anew.", "Changing the mesh enrols anew.")},
				Attributes: map[string]schema.Attribute{
					"linkerd": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Enrol in Linkerd, by the annotation `linkerd.io/inject`.",
						Validators:          []validator.Object{objectvalidator.ExactlyOneOf(path.MatchRoot("mesh").AtName("istio"))},
						Attributes: map[string]schema.Attribute{
							"control_plane_namespace": controlPlaneAttribute(linkerd.DefaultNamespace),
							"skip_inbound_ports":      portsAttribute("Ports whose inbound connections bypass the proxy."),
							"skip_outbound_ports":     portsAttribute("Ports whose outbound connections bypass the proxy."),
							"opaque_ports":            portsAttribute("Ports that are proxied without detecting their protocol. Replaces Linkerd's own list."),
						},
					},
					"istio": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Enrol in Istio with sidecars: a namespace by the label `istio-injection` or `istio.io/rev`, a workload by `sidecar.istio.io/inject`.",
						Attributes: map[string]schema.Attribute{
							"control_plane_namespace": controlPlaneAttribute(istio.DefaultNamespace),
							"revision": schema.StringAttribute{
								Optional:            true,
								MarkdownDescription: "Revision or tag of the control plane. Default: the default revision.",
								Validators:          []validator.String{dnsLabel()},
							},
						},
					},
				},
			},
			"force_conflicts": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the first apply takes the labels and annotations over when another field manager has set them to something else. " +
					"Default `false`: that is an error which names the other manager.",
			},
			"drift":        driftAttribute("marks that were changed and pods without a proxy"),
			"meshed_pods":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods with a proxy."},
			"total_pods":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods that should have one."},
			"skipped_pods": schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Pods that the mesh never injects, each with the reason."},
			"timeouts":     timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

func workloadKinds() []string {
	return []string{kube.Deployment.Name, kube.StatefulSet.Name, kube.DaemonSet.Name}
}

// controlPlaneAttribute says where to find the control plane that injects.
func controlPlaneAttribute(namespace string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(namespace),
		MarkdownDescription: "Namespace of the control plane. Default `" + namespace + "`.",
		Validators:          []validator.String{dnsLabel()},
	}
}

func portsAttribute(description string) schema.ListAttribute {
	return schema.ListAttribute{
		Optional: true, ElementType: types.StringType,
		MarkdownDescription: description + " Each is a port or a range: `[5080, \"7000-7080\"]`.",
		Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.ValueStringsAre(portOrRange())},
	}
}

// otherMesh reports whether the plan leaves one mesh for the other.
func otherMesh(ctx context.Context, req planmodifier.ObjectRequest, resp *objectplanmodifier.RequiresReplaceIfFuncResponse) {
	var before, after injectionMeshModel
	resp.Diagnostics.Append(req.StateValue.As(ctx, &before, objectAsOptions)...)
	resp.Diagnostics.Append(req.PlanValue.As(ctx, &after, objectAsOptions)...)
	resp.RequiresReplace = before.Linkerd.IsNull() != after.Linkerd.IsNull()
}

type injectionModel struct {
	commonModel
	Namespace      types.String `tfsdk:"namespace"`
	Workload       types.Object `tfsdk:"workload"`
	Mesh           types.Object `tfsdk:"mesh"`
	ForceConflicts types.Bool   `tfsdk:"force_conflicts"`
	Drift          types.List   `tfsdk:"drift"`
	MeshedPods     types.Int64  `tfsdk:"meshed_pods"`
	TotalPods      types.Int64  `tfsdk:"total_pods"`
	SkippedPods    types.List   `tfsdk:"skipped_pods"`
}

type workloadModel struct {
	Kind types.String `tfsdk:"kind"`
	Name types.String `tfsdk:"name"`
}

type injectionMeshModel struct {
	Linkerd types.Object `tfsdk:"linkerd"`
	Istio   types.Object `tfsdk:"istio"`
}

type linkerdInjectionModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	SkipInbound  types.List   `tfsdk:"skip_inbound_ports"`
	SkipOutbound types.List   `tfsdk:"skip_outbound_ports"`
	OpaquePorts  types.List   `tfsdk:"opaque_ports"`
}

type istioInjectionModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	Revision     types.String `tfsdk:"revision"`
}

// Types of the nested objects, for values that an import builds.
var (
	workloadTypes         = map[string]attr.Type{"kind": types.StringType, "name": types.StringType}
	linkerdInjectionTypes = map[string]attr.Type{
		"control_plane_namespace": types.StringType,
		"skip_inbound_ports":      types.ListType{ElemType: types.StringType},
		"skip_outbound_ports":     types.ListType{ElemType: types.StringType},
		"opaque_ports":            types.ListType{ElemType: types.StringType},
	}
	istioInjectionTypes = map[string]attr.Type{"control_plane_namespace": types.StringType, "revision": types.StringType}
	injectionMeshTypes  = map[string]attr.Type{
		"linkerd": types.ObjectType{AttrTypes: linkerdInjectionTypes},
		"istio":   types.ObjectType{AttrTypes: istioInjectionTypes},
	}
)

// enrolment turns the model into the domain's terms.
func (r *injectionResource) enrolment(ctx context.Context, cluster *kube.Cluster, m *injectionModel, diags *diag.Diagnostics) mesh.Enrolment {
	e := mesh.Enrolment{
		Cluster: cluster,
		Target:  mesh.Target{Namespace: m.Namespace.ValueString()},
		Now:     r.session.time(),
		Log:     func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) },
	}
	if !m.Workload.IsNull() {
		var w workloadModel
		diags.Append(m.Workload.As(ctx, &w, objectAsOptions)...)
		e.Target.Workload = kube.Ref{Kind: workloadKind(w.Kind.ValueString()), Namespace: e.Target.Namespace, Name: w.Name.ValueString()}
	}
	var chosen injectionMeshModel
	diags.Append(m.Mesh.As(ctx, &chosen, objectAsOptions)...)
	if !chosen.Linkerd.IsNull() {
		var l linkerdInjectionModel
		diags.Append(chosen.Linkerd.As(ctx, &l, objectAsOptions)...)
		e.Mesh = linkerd.Injection{
			ControlPlane:      l.ControlPlane.ValueString(),
			SkipInboundPorts:  stringList(ctx, l.SkipInbound, diags),
			SkipOutboundPorts: stringList(ctx, l.SkipOutbound, diags),
			OpaquePorts:       stringList(ctx, l.OpaquePorts, diags),
		}
	} else {
		var i istioInjectionModel
		diags.Append(chosen.Istio.As(ctx, &i, objectAsOptions)...)
		e.Mesh = istio.Injection{ControlPlane: i.ControlPlane.ValueString(), Revision: i.Revision.ValueString()}
	}
	return e
}

func workloadKind(name string) kube.Kind {
	switch name {
	case kube.StatefulSet.Name:
		return kube.StatefulSet
	case kube.DaemonSet.Name:
		return kube.DaemonSet
	default:
		return kube.Deployment
	}
}

// injectionID is the ID of an enrolment, the inverse of parseInjectionID.
func injectionID(e mesh.Enrolment) string {
	id := strings.ToLower(e.Mesh.Name()) + "/" + e.Target.Namespace
	if !e.Target.WholeNamespace() {
		id += "/" + e.Target.Workload.Kind.Name + "/" + e.Target.Workload.Name
	}
	return id
}

// observe fills in what the pods show.
func (m *injectionModel) observe(ctx context.Context, survey mesh.Survey, marks []string, diags *diag.Diagnostics) {
	m.MeshedPods = types.Int64Value(int64(survey.Meshed))
	m.TotalPods = types.Int64Value(int64(survey.Total))
	m.SkippedPods = notesList(ctx, nil, survey.Skipped, diags)
	m.Drift = notesList(ctx, marks, survey.Unmeshed, diags)
}

func notesList(ctx context.Context, lines []string, notes []mesh.PodNote, diags *diag.Diagnostics) types.List {
	all := append([]string{}, lines...)
	for _, note := range notes {
		all = append(all, "Pod "+note.String())
	}
	value, d := types.ListValueFrom(ctx, types.StringType, all)
	diags.Append(d...)
	return value
}

// ModifyPlan promises an enrolment without drift, and keeps the counts when
// nothing is going to change.
func (r *injectionResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan injectionModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	plan.Drift = noDrift()
	if !req.State.Raw.IsNull() && len(resp.RequiresReplace) == 0 {
		var state injectionModel
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		plan.ID = state.ID
		if plan.Mesh.Equal(state.Mesh) && state.Drift.Equal(plan.Drift) {
			plan.MeshedPods, plan.TotalPods, plan.SkippedPods = state.MeshedPods, state.TotalPods, state.SkippedPods
		} else {
			plan.MeshedPods, plan.TotalPods, plan.SkippedPods = types.Int64Unknown(), types.Int64Unknown(), types.ListUnknown(types.StringType)
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

func (r *injectionResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	e.Force = model.ForceConflicts.ValueBool()
	if resp.Diagnostics.HasError() {
		return
	}
	if err := e.Mark(ctx); err != nil {
		problem(&resp.Diagnostics, "Unable to Enrol "+e.Target.String(), err)
		return
	}
	// The mark is there: from here on state has to know of it, whatever happens.
	model.ID = types.StringValue(injectionID(e))
	survey, err := e.Settle(ctx)
	model.observe(ctx, survey, nil, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Bring Pods Into the Mesh", err)
	}
}

func (r *injectionResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	if model.Mesh.IsNull() {
		if !r.readImported(ctx, cluster, &model, &resp.Diagnostics) {
			return
		}
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	marks, err := e.Marked(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Enrolment", err)
		return
	}
	survey, err := e.Survey(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Enrolment", err)
		return
	}
	model.ID = types.StringValue(injectionID(e))
	if model.ForceConflicts.IsNull() {
		model.ForceConflicts = types.BoolValue(false)
	}
	model.observe(ctx, survey, marks, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// readImported builds the model of an enrolment of which only the ID is known,
// from the marks that its target carries.
func (r *injectionResource) readImported(ctx context.Context, cluster *kube.Cluster, m *injectionModel, diags *diag.Diagnostics) bool {
	parts := strings.Split(m.ID.ValueString(), "/")
	if (len(parts) != 2 && len(parts) != 4) || (parts[0] != "linkerd" && parts[0] != "istio") {
		diags.AddAttributeError(path.Root("id"), "Invalid Enrolment ID",
			fmt.Sprintf("%q is neither <mesh>/<namespace> nor <mesh>/<namespace>/<kind>/<name>, with linkerd or istio as the mesh.", m.ID.ValueString()))
		return false
	}
	target := mesh.Target{Namespace: parts[1]}
	m.Namespace = types.StringValue(parts[1])
	m.Workload = types.ObjectNull(workloadTypes)
	if len(parts) == 4 {
		target.Workload = kube.Ref{Kind: workloadKind(parts[2]), Namespace: parts[1], Name: parts[3]}
		if target.Workload.Kind.Name != parts[2] {
			diags.AddAttributeError(path.Root("id"), "Invalid Enrolment ID", fmt.Sprintf("%q is not one of %s.", parts[2], strings.Join(workloadKinds(), ", ")))
			return false
		}
		m.Workload = objectFrom(ctx, workloadTypes, workloadModel{Kind: types.StringValue(parts[2]), Name: types.StringValue(parts[3])}, diags)
	}
	mark, err := mesh.Enrolment{Cluster: cluster, Target: target}.Found(ctx)
	if err != nil {
		problemAt(diags, path.Root("id"), "Unable to Import Enrolment", err)
		return false
	}
	chosen := injectionMeshModel{Linkerd: types.ObjectNull(linkerdInjectionTypes), Istio: types.ObjectNull(istioInjectionTypes)}
	if parts[0] == "linkerd" {
		found := linkerd.InjectionOf(mark)
		chosen.Linkerd = objectFrom(ctx, linkerdInjectionTypes, linkerdInjectionModel{
			ControlPlane: types.StringValue(linkerd.DefaultNamespace),
			SkipInbound:  listOrNull(ctx, found.SkipInboundPorts, diags),
			SkipOutbound: listOrNull(ctx, found.SkipOutboundPorts, diags),
			OpaquePorts:  listOrNull(ctx, found.OpaquePorts, diags),
		}, diags)
	} else {
		found := istio.InjectionOf(mark)
		revision := types.StringNull()
		if found.Revision != "" {
			revision = types.StringValue(found.Revision)
		}
		chosen.Istio = objectFrom(ctx, istioInjectionTypes, istioInjectionModel{ControlPlane: types.StringValue(istio.DefaultNamespace), Revision: revision}, diags)
	}
	m.Mesh = objectFrom(ctx, injectionMeshTypes, chosen, diags)
	return !diags.HasError()
}

func (r *injectionResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state injectionModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	// The plan has shown what others changed, and its approval is the user's
	// word to change it back.
	e.Force = true
	e.Renew = !model.Mesh.Equal(state.Mesh)
	if err := e.Mark(ctx); err != nil {
		problem(&resp.Diagnostics, "Unable to Enrol "+e.Target.String(), err)
		return
	}
	survey, err := e.Settle(ctx)
	if err != nil {
		// The state keeps the settings of before: pods that may still run by them
		// have to be in the next plan again.
		problem(&resp.Diagnostics, "Unable to Bring Pods Into the Mesh", err)
		return
	}
	if model.MeshedPods.IsUnknown() {
		model.observe(ctx, survey, nil, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *injectionResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	staying, err := e.Withdraw(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Withdraw "+e.Target.String(), err)
		return
	}
	if len(staying) > 0 {
		resp.Diagnostics.AddWarning("Pods Stay in the Mesh", fmt.Sprintf(
			"The enrolment is given up, but these keep their proxies: %s.", strings.Join(staying, "; ")))
	}
}

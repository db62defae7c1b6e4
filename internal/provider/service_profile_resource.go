package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd/profile"
)

var _ meshResource = (*serviceProfileResource)(nil)

var _ resource.ResourceWithValidateConfig = (*serviceProfileResource)(nil)

type serviceProfileResource struct{ resourceBase }

func newServiceProfileResource() resource.Resource {
	return &serviceProfileResource{resourceBase{
		noun: "service_profile", identity: "`<namespace>/<name>` of the ServiceProfile: `emojivoto/web-svc.emojivoto.svc.cluster.local`.",
	}}
}

func (r *serviceProfileResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replaces := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A ServiceProfile of Linkerd: the routes of a Service, with metrics, timeouts and retries for each. The functions `openapi_routes` and `proto_routes` derive routes from what describes the Service.\n\n" +
			"A ServiceProfile comes before everything else that is said of the same traffic: HTTPRoutes and GRPCRoutes of the Service, and annotations for retries, timeouts and circuit breaking (`balancer.linkerd.io/failure-accrual`), have no effect beside it. " +
			"A plan warns of those that it finds, of profiles in other namespaces that override this one, and of a Service that is missing or has no meshed pod. " +
			"What the webhook of Linkerd would refuse is refused by `terraform validate`.\n\n" +
			"It may be made by the same apply that installs Linkerd; have it depend on `aksmesh_linkerd`. " +
			"Istio has no such resource: the nearest equivalent of routes with timeouts and retries is a VirtualService, and its metrics know no routes.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>` of the ServiceProfile."),
			"namespace": schema.StringAttribute{
				Required: true, MarkdownDescription: "Namespace of the Service. Changing it makes a new profile.",
				Validators: []validator.String{dnsLabel()}, PlanModifiers: replaces,
			},
			"service": schema.StringAttribute{
				Required: true, MarkdownDescription: "Name of the Service. The profile is named `<service>.<namespace>.svc.<cluster_domain>`. Changing it makes a new profile.",
				PlanModifiers: replaces,
			},
			"cluster_domain": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Domain of the cluster. Default: the one that the control plane was installed with, or `" + linkerd.DefaultDomain + "` if there is none. Changing it makes a new profile.",
				PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown(), stringplanmodifier.RequiresReplace()},
			},
			"control_plane_namespace": controlPlaneAttribute(linkerd.DefaultNamespace),
			"client_namespace": schema.StringAttribute{
				Optional: true, MarkdownDescription: "Namespace of clients that are to go by this profile instead of the one beside the Service. Default: it is beside the Service, for all clients. Changing it makes a new profile.",
				Validators: []validator.String{dnsLabel()}, PlanModifiers: replaces,
			},
			"routes": routesAttribute(),
			"retry_budget": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "How many retries there may be, of all routes together. Default: that of Linkerd, which is 20 % and 10 a second for 10 seconds.",
				Attributes: map[string]schema.Attribute{
					"retry_ratio":            schema.Float64Attribute{Required: true, MarkdownDescription: "Share of retries to original requests: `0.2` is one to five."},
					"min_retries_per_second": schema.Int32Attribute{Required: true, MarkdownDescription: "Retries that are allowed each second whatever the ratio."},
					"ttl":                    schema.StringAttribute{Required: true, MarkdownDescription: "How long a request counts for the ratio, as a Go duration: `10s`."},
				},
			},
			"opaque_ports": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Ports of the Service, and ranges of them, whose traffic clients carry as it is, without detecting its protocol. They go into the Service's annotation `" + linkerd.OpaquePortsAnnotation + "`, " +
					"of which nothing else is touched, because no ServiceProfile can have `opaquePorts`: Linkerd's CRD and its webhook want them in ways that exclude each other. Say the same of the pods, by `opaque_ports` of their `mesh`. Not with `client_namespace`.",
				Validators: []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues(), listvalidator.ConflictsWith(path.MatchRoot("client_namespace"))},
			},
			"dst_overrides": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Where requests go instead of to the Service, by weight, as for a split of traffic.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"authority": schema.StringAttribute{Required: true, MarkdownDescription: "Host of the other Service, with its port if it has more than one: `web-canary.emojivoto.svc.cluster.local:80`."},
					"weight":    schema.StringAttribute{Required: true, MarkdownDescription: "Its weight as a Kubernetes quantity: `900m`."},
				}},
			},
			"force_conflicts": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the first apply takes over from another field manager a profile of that name, or the Service's annotation. Default `false`: that is an error which names the other manager.",
			},
			"manifest": computedString("The ServiceProfile in YAML: in the state as it is in the cluster, in a plan as it will be."),
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type serviceProfileModel struct {
	commonModel
	Namespace       types.String `tfsdk:"namespace"`
	Service         types.String `tfsdk:"service"`
	ClusterDomain   types.String `tfsdk:"cluster_domain"`
	ControlPlane    types.String `tfsdk:"control_plane_namespace"`
	ClientNamespace types.String `tfsdk:"client_namespace"`
	Routes          types.List   `tfsdk:"routes"`
	RetryBudget     types.Object `tfsdk:"retry_budget"`
	OpaquePorts     types.List   `tfsdk:"opaque_ports"`
	DstOverrides    types.List   `tfsdk:"dst_overrides"`
	ForceConflicts  types.Bool   `tfsdk:"force_conflicts"`
	Manifest        types.String `tfsdk:"manifest"`
}

type retryBudgetModel struct {
	RetryRatio          types.Float64 `tfsdk:"retry_ratio"`
	MinRetriesPerSecond types.Int32   `tfsdk:"min_retries_per_second"`
	TTL                 types.String  `tfsdk:"ttl"`
}

type overrideModel struct {
	Authority types.String `tfsdk:"authority"`
	Weight    types.String `tfsdk:"weight"`
}

// Types of the nested objects, for values that an import builds.
var (
	retryBudgetTypes = map[string]attr.Type{"retry_ratio": types.Float64Type, "min_retries_per_second": types.Int32Type, "ttl": types.StringType}
	overrideType     = types.ObjectType{AttrTypes: map[string]attr.Type{"authority": types.StringType, "weight": types.StringType}}
)

// target is what the profile is about. Its parts that are unknown are empty.
func (m *serviceProfileModel) target() profile.Target {
	return profile.Target{
		Service: m.Service.ValueString(), Namespace: m.Namespace.ValueString(),
		Domain: m.ClusterDomain.ValueString(), ClientNamespace: m.ClientNamespace.ValueString(),
	}
}

// profile turns the model into the domain's terms, and refuses what Linkerd would
// refuse. What is not known is left out.
func (m *serviceProfileModel) profile(ctx context.Context, diags *diag.Diagnostics) profile.Profile {
	p := profile.Profile{Target: m.target(), Spec: profile.Spec{Routes: readRoutes(ctx, m.Routes, diags)}}
	if !m.RetryBudget.IsNull() && fullyKnown(ctx, m.RetryBudget) {
		var b retryBudgetModel
		diags.Append(m.RetryBudget.As(ctx, &b, objectAsOptions)...)
		p.Spec.RetryBudget = &profile.RetryBudget{RetryRatio: b.RetryRatio.ValueFloat64(), MinRetriesPerSecond: b.MinRetriesPerSecond.ValueInt32(), TTL: b.TTL.ValueString()}
		if err := p.Spec.RetryBudget.Check(); err != nil {
			problemAt(diags, path.Root("retry_budget"), "Invalid Retry Budget", err)
		}
	}
	if fullyKnown(ctx, m.DstOverrides) {
		for i, o := range elements[overrideModel](ctx, m.DstOverrides, diags) {
			override := profile.Override{Authority: o.Authority.ValueString(), Weight: o.Weight.ValueString()}
			if err := override.Check(); err != nil {
				problemAt(diags, path.Root("dst_overrides").AtListIndex(i), "Invalid Override", err)
			}
			p.Spec.DstOverrides = append(p.Spec.DstOverrides, override)
		}
	}
	if !m.OpaquePorts.IsNull() && fullyKnown(ctx, m.OpaquePorts) {
		annotations, err := mesh.Annotations(linkerd.Settings(), map[string]any{"opaque_ports": stringList(ctx, m.OpaquePorts, diags)})
		if err != nil {
			problemAt(diags, path.Root("opaque_ports"), "Invalid Ports", err)
		}
		p.OpaquePorts = annotations[linkerd.OpaquePortsAnnotation]
	}
	return p
}

// ValidateConfig refuses what the webhook of Linkerd or the API server would.
func (r *serviceProfileResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model serviceProfileModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	model.profile(ctx, &resp.Diagnostics)
	if model.ClusterDomain.IsNull() {
		model.ClusterDomain = types.StringValue(linkerd.DefaultDomain)
	}
	if !fullyKnown(ctx, model.Service, model.Namespace, model.ClusterDomain, model.ClientNamespace) {
		return
	}
	if err := model.target().Check(); err != nil {
		problemAt(&resp.Diagnostics, path.Root("service"), "Invalid Name", err)
	}
}

// ModifyPlan shows the profile that the apply will write, and warns of what it
// overrules and what overrules it.
func (r *serviceProfileResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan serviceProfileModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || !fullyKnown(ctx, plan.Service, plan.Namespace, plan.ClientNamespace, plan.ControlPlane) {
		return
	}
	cluster, _ := r.knownCluster()
	if plan.ClusterDomain.IsUnknown() {
		var configured types.String
		resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("cluster_domain"), &configured)...)
		if !configured.IsNull() {
			return
		}
		domain, err := linkerd.ClusterDomain(ctx, cluster, plan.ControlPlane.ValueString())
		switch {
		case errors.Is(err, mesh.ErrNoControlPlane): // It may be there by the apply.
		case err != nil: // Nor does a cluster that does not answer keep others from being planned.
			resp.Diagnostics.AddWarning("Unable to Read the Domain of the Cluster", explain(err))
		default:
			plan.ClusterDomain = types.StringValue(domain)
		}
	}
	if !plan.ClusterDomain.IsUnknown() {
		plan.ID = types.StringValue(plan.target().ID())
		if fullyKnown(ctx, plan.Routes, plan.RetryBudget, plan.DstOverrides) {
			if !req.State.Raw.IsNull() {
				var state serviceProfileModel
				resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
				plan.keepRoutes(ctx, state, &resp.Diagnostics)
			}
			plan.print(plan.profile(ctx, &diag.Diagnostics{}), &resp.Diagnostics)
		}
		if cluster != nil {
			lookAtProfile(ctx, cluster, plan.target(), &resp.Diagnostics)
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// keepRoutes leaves the routes as the state has them if the configuration only puts
// them in other words, as it may after an import.
func (m *serviceProfileModel) keepRoutes(ctx context.Context, state serviceProfileModel, diags *diag.Diagnostics) {
	if m.Routes.IsNull() || state.Routes.IsNull() {
		return
	}
	same, err := profile.SameRoutes(readRoutes(ctx, m.Routes, &diag.Diagnostics{}), readRoutes(ctx, state.Routes, &diag.Diagnostics{}))
	if err != nil {
		problem(diags, "Unable to Compare Routes", err)
	}
	if same {
		m.Routes = state.Routes
	}
}

// print fills in the manifest.
func (m *serviceProfileModel) print(p profile.Profile, diags *diag.Diagnostics) {
	manifest, err := p.Manifest()
	if err != nil {
		problem(diags, "Unable to Print Service Profile", err)
	}
	m.Manifest = types.StringValue(manifest)
}

// lookAtProfile warns of what the cluster has beside a profile.
func lookAtProfile(ctx context.Context, cluster *kube.Cluster, target profile.Target, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	findings, err := profile.Findings(ctx, cluster, target)
	if err != nil {
		diags.AddWarning("Unable to Look at What Is Beside ServiceProfile "+target.ID(), explain(err))
		return
	}
	if len(findings) > 0 {
		diags.AddWarning("What to Know of ServiceProfile "+target.ID(), strings.Join(findings, "\n"))
	}
}

// write writes the profile, and tells whether anything may have been written.
func (m *serviceProfileModel) write(ctx context.Context, cluster *kube.Cluster, force bool, diags *diag.Diagnostics) bool {
	if m.ClusterDomain.IsUnknown() {
		domain, err := linkerd.ClusterDomain(ctx, cluster, m.ControlPlane.ValueString())
		if errors.Is(err, mesh.ErrNoControlPlane) {
			domain, err = linkerd.DefaultDomain, nil
		}
		if err != nil {
			problem(diags, "Unable to Write Service Profile", err)
			return false
		}
		m.ClusterDomain = types.StringValue(domain)
	}
	p := m.profile(ctx, diags)
	if err := p.Check(); err != nil {
		problemAt(diags, path.Root("service"), "Invalid Name", err)
	}
	if diags.HasError() {
		return false
	}
	m.ID = types.StringValue(p.ID())
	m.print(p, diags)
	begun, err := profile.Apply(ctx, cluster, p, force)
	if err != nil {
		problem(diags, "Unable to Write Service Profile", err)
	}
	return begun
}

func (r *serviceProfileResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model serviceProfileModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if ok && model.write(ctx, cluster, model.ForceConflicts.ValueBool(), &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *serviceProfileResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model serviceProfileModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	// The plan has shown what others changed, and its approval is the user's
	// word to change it back.
	if ok && model.write(ctx, cluster, true, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *serviceProfileResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model serviceProfileModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	target, err := profile.ParseID(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Service Profile ID", err)
		return
	}
	found, err := profile.Read(ctx, cluster, target)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Service Profile", err)
		return
	}
	model.Manifest = types.StringValue(found.Manifest)
	if model.Service.IsNull() {
		model.imported(ctx, found, &resp.Diagnostics)
	}
	if !model.OpaquePorts.IsNull() && strings.Join(stringList(ctx, model.OpaquePorts, &resp.Diagnostics), ",") != found.ServicePorts {
		model.OpaquePorts = splitPorts(ctx, found.ServicePorts, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// splitPorts is the list of ports that an annotation names; null if it names none.
func splitPorts(ctx context.Context, annotation string, diags *diag.Diagnostics) types.List {
	if annotation == "" {
		return types.ListNull(types.StringType)
	}
	return listOrNull(ctx, strings.Split(annotation, ","), diags)
}

// imported reads the configuration back from the profile.
func (m *serviceProfileModel) imported(ctx context.Context, found profile.Found, diags *diag.Diagnostics) {
	p, err := found.Profile()
	if err != nil {
		problemAt(diags, path.Root("id"), "Unable to Import Service Profile", err)
		return
	}
	m.Service, m.Namespace, m.ClusterDomain = types.StringValue(p.Service), types.StringValue(p.Namespace), types.StringValue(p.Domain)
	m.ClientNamespace = textOrNull(p.ClientNamespace)
	m.ControlPlane, m.ForceConflicts = types.StringValue(linkerd.DefaultNamespace), types.BoolValue(false)
	m.Routes = types.ListNull(routeType)
	if len(p.Spec.Routes) > 0 {
		m.Routes = routesValue(ctx, p.Spec.Routes, diags)
	}
	m.RetryBudget = types.ObjectNull(retryBudgetTypes)
	if b := p.Spec.RetryBudget; b != nil {
		m.RetryBudget = objectFrom(ctx, retryBudgetTypes, retryBudgetModel{
			RetryRatio: types.Float64Value(b.RetryRatio), MinRetriesPerSecond: types.Int32Value(b.MinRetriesPerSecond), TTL: types.StringValue(b.TTL),
		}, diags)
	}
	m.OpaquePorts = splitPorts(ctx, p.OpaquePorts, diags)
	m.DstOverrides = types.ListNull(overrideType)
	if len(p.Spec.DstOverrides) > 0 {
		var overrides []overrideModel
		for _, o := range p.Spec.DstOverrides {
			overrides = append(overrides, overrideModel{Authority: types.StringValue(o.Authority), Weight: types.StringValue(o.Weight)})
		}
		var d diag.Diagnostics
		m.DstOverrides, d = types.ListValueFrom(ctx, overrideType, overrides)
		diags.Append(d...)
	}
}

func (r *serviceProfileResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model serviceProfileModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := profile.Delete(ctx, cluster, model.target()); err != nil {
		problem(&resp.Diagnostics, fmt.Sprintf("Unable to Delete ServiceProfile %s", model.ID.ValueString()), err)
	}
}

package provider

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
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

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
)

var _ meshResource = (*istioResource)(nil)

var _ resource.ResourceWithValidateConfig = (*istioResource)(nil)

type istioResource struct{ resourceBase }

func newIstioResource() resource.Resource {
	return &istioResource{resourceBase{noun: "istio", identity: "Namespace of the control plane."}}
}

func (r *istioResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Istio in sidecar mode: the `base` chart with the CRDs, then `istiod`, then, once istiod injects, the gateways of the profile. " +
			"An apply returns when all of them are healthy. What an apply has left behind whose provider was killed, the next one finishes; " +
			"a first apply that fails or is interrupted leaves the resource tainted, and the next one removes what is there and installs anew.\n\n" +
			"The Helm releases are named `istio-base`, `istiod`, `istio-ingressgateway` and `istio-egressgateway`. Gateways run the proxy that istiod " +
			"injects into them, so an apply that changes istiod's version or images restarts them. No apply waits for a load balancer's address.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Namespace of the control plane."),
			"version": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Version of Istio and of its charts, such as `1.31.0`. Changing it upgrades in place; Istio supports that from one minor version to the next.",
				Validators:          []validator.String{exactVersion()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(istio.DefaultNamespace),
				MarkdownDescription: "Namespace of control plane and gateways; created if absent, and then deleted on destroy. Default `" + istio.DefaultNamespace + "`. Changing it installs anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"repository": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(istio.Repository),
				MarkdownDescription: "Where the charts come from: a Helm repository (`https://…`), an OCI reference that they are below (`oci://example.azurecr.io/charts`), or a local directory that holds them. Default `" + istio.Repository + "`.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"profile": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(istio.ProfileDefault)),
				MarkdownDescription: "What is installed, by the names of istioctl: `default` is istiod and an ingress gateway, `minimal` istiod alone, `demo` istiod with " +
					"access logs and full tracing and an ingress and an egress gateway, all with small resource requests. Default `default`. A change uninstalls the gateways that are in no more.",
				Validators: []validator.String{stringvalidator.OneOf(istio.Profiles()...)},
			},
			"issuer_id": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "ID of the `aksmesh_issuer` that writes the CA for this control plane (the Secret `cacerts`), which is checked before istiod is installed. " +
					"Left out, istiod makes a CA of its own if it finds none. istiod chooses its CA once, when it starts, and proxies with certificates of two CAs do not trust each other: " +
					"so adding or removing an issuer installs anew, after which every meshed workload has to be restarted.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplaceIf(
					func(_ context.Context, req planmodifier.StringRequest, resp *stringplanmodifier.RequiresReplaceIfFuncResponse) {
						resp.RequiresReplace = req.StateValue.IsNull() != req.PlanValue.IsNull()
					},
					"Adding or removing an issuer installs anew.", "Adding or removing an issuer installs anew.",
				)},
			},
			"hub": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Registry and path of all images, proxies included: `example.azurecr.io/istio`. Default: the one in the charts.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"values": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "Further values of the charts, as YAML documents that are merged in order. Values that the provider sets itself are refused. " +
					"Of unknown keys, `gateway` refuses any; the other charts ignore them.",
				Attributes: map[string]schema.Attribute{
					istio.BaseChart:    valuesAttribute("Values of the `base` chart."),
					istio.IstiodChart:  valuesAttribute("Values of the `istiod` chart."),
					istio.GatewayChart: valuesAttribute("Values of the `gateway` chart, for every gateway of the profile."),
				},
			},
			"delete_crds": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether destroy deletes Istio's CRDs, and with them every VirtualService, AuthorizationPolicy and so on of the cluster. Default `false`: they stay, and a later install in the same namespace adopts them.",
			},
			"values_sha256": computedString("SHA-256 of the values of all releases as they were applied."),
			"drift":         driftAttribute("objects of the charts that are missing or changed, releases that somebody else has touched, gateways that run another proxy than istiod injects"),
			"timeouts":      timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

func valuesAttribute(description string) schema.ListAttribute {
	return schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: description}
}

type istioModel struct {
	commonModel
	Version      types.String `tfsdk:"version"`
	Namespace    types.String `tfsdk:"namespace"`
	Repository   types.String `tfsdk:"repository"`
	Profile      types.String `tfsdk:"profile"`
	IssuerID     types.String `tfsdk:"issuer_id"`
	Hub          types.String `tfsdk:"hub"`
	Values       types.Object `tfsdk:"values"`
	DeleteCRDs   types.Bool   `tfsdk:"delete_crds"`
	ValuesDigest types.String `tfsdk:"values_sha256"`
	Drift        types.List   `tfsdk:"drift"`
}

func (m *istioModel) profile() istio.Profile { return istio.Profile(m.Profile.ValueString()) }

// specification turns the model into the domain's terms.
func (m *istioModel) specification(ctx context.Context, now time.Time, diags *diag.Diagnostics) istio.Specification {
	return istio.Specification{
		Namespace:  m.Namespace.ValueString(),
		Repository: m.Repository.ValueString(),
		Version:    m.Version.ValueString(),
		Profile:    m.profile(),
		PluggedCA:  !m.IssuerID.IsNull(),
		Hub:        m.Hub.ValueString(),
		Values:     istioValues(ctx, m.Values, diags),
		Now:        now,
	}
}

// istioValues reads the values by chart; those that are unknown are left out.
func istioValues(ctx context.Context, object types.Object, diags *diag.Diagnostics) map[string]map[string]any {
	values := map[string]map[string]any{}
	for _, chart := range istio.Charts() {
		list, ok := object.Attributes()[chart].(types.List)
		if !ok {
			continue
		}
		check := func(values map[string]any) error { return istio.CheckValues(chart, values) }
		values[chart] = parsedValues(ctx, list, path.Root("values").AtName(chart), check, diags)
	}
	return values
}

// observe fills in what the cluster shows.
func (m *istioModel) observe(ctx context.Context, found istio.Installed, diags *diag.Diagnostics) {
	m.ID = m.Namespace
	m.ValuesDigest = types.StringValue(found.ValuesDigest)
	m.Drift = notesList(ctx, found.Drift, nil, diags)
}

func (r *istioResource) installer(ctx context.Context, cluster *kube.Cluster, diags *diag.Diagnostics) (istio.Installer, bool) {
	charts, ok := r.charts(ctx, cluster, diags)
	return istio.Installer{Charts: charts}, ok
}

func (r *istioResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model istioModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	istioValues(ctx, model.Values, &resp.Diagnostics)
	checkIssuerID(model.IssuerID, "istio", model.Namespace, istio.DefaultNamespace, path.Root("issuer_id"), &resp.Diagnostics)
	if !model.Profile.IsUnknown() {
		setWhenNull(&model.Profile, string(istio.ProfileDefault))
		if err := istio.CheckNamespace(model.Namespace.ValueString(), model.profile()); err != nil {
			problemAt(&resp.Diagnostics, path.Root("namespace"), "Invalid Namespace", err)
		}
	}
}

// ModifyPlan promises an Istio without drift, and keeps what an unchanged
// configuration leaves as it is.
func (r *istioResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("drift"), noDrift())...)
	settle(ctx, req, resp, path.Root("values_sha256"))
}

func (r *istioResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model istioModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	resumed, err := installer.Resumable(ctx, model.Namespace.ValueString(), model.profile())
	if err != nil {
		problemExists(&resp.Diagnostics, "Unable to Install Istio", err, model.Namespace.ValueString())
		return
	}
	prepared := r.prepare(ctx, installer, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if resumed {
		warnAdopted(&resp.Diagnostics, "Istio in namespace "+model.Namespace.ValueString())
	}
	r.apply(ctx, installer, prepared, &model, model.profile(), &resp.Diagnostics)
	if !model.ID.IsUnknown() {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// prepare does what can fail before anything is changed, and tells which
// attribute is at fault.
func (r *istioResource) prepare(ctx context.Context, installer istio.Installer, model *istioModel, diags *diag.Diagnostics) *istio.Prepared {
	specification := model.specification(ctx, r.session.time(), diags)
	if diags.HasError() {
		return nil
	}
	prepared, err := installer.Prepare(ctx, specification)
	if values, ok := errors.AsType[*install.ValuesError](err); ok {
		at := path.Root("values").AtName(values.Chart)
		problemAt(diags, at, "Invalid "+at.String(), err)
		return nil
	}
	problemInstall(diags, "Unable to Install Istio", err)
	return prepared
}

// apply brings the cluster to what was prepared and takes down what is there
// then; the model keeps an unknown ID if nothing is.
func (r *istioResource) apply(ctx context.Context, installer istio.Installer, prepared *istio.Prepared, model *istioModel, former istio.Profile, diags *diag.Diagnostics) {
	applied := installer.Apply(ctx, prepared, former)
	recordInstall(ctx, "Istio", applied, func(ctx context.Context) error {
		found, err := installer.Observe(ctx, model.Namespace.ValueString(), model.profile())
		if err != nil {
			return err
		}
		if applied == nil {
			// The plan has promised none; what has changed since is for the next one.
			found.Drift = nil
		}
		model.observe(ctx, found, diags)
		return nil
	}, func(drift string) { model.observe(ctx, istio.Installed{Drift: []string{drift}}, diags) }, diags)
}

func (r *istioResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model istioModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	found, err := installer.Observe(ctx, model.ID.ValueString(), model.profile())
	if errors.Is(err, helm.ErrReleaseNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Istio", err)
		return
	}
	model.Namespace = model.ID
	if found.Version != "" {
		model.Version = types.StringValue(found.Version)
	}
	if model.Profile.IsNull() {
		model.Profile = types.StringValue(string(found.Profile))
		r.importIssuer(ctx, installer, &model, &resp.Diagnostics)
	}
	setWhenNull(&model.Repository, istio.Repository)
	if model.DeleteCRDs.IsNull() {
		model.DeleteCRDs = types.BoolValue(false)
	}
	compareValues(model.ValuesDigest, &found.ValuesDigest, &found.Drift, "the values of the releases are not those that were applied")
	model.observe(ctx, found, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// importIssuer notes the issuer if this provider's is in use, since a plan
// that adds it would install anew.
func (r *istioResource) importIssuer(ctx context.Context, installer istio.Installer, model *istioModel, diags *diag.Diagnostics) {
	plugged, err := installer.IssuerInPlace(ctx, model.Namespace.ValueString())
	if err != nil {
		problem(diags, "Unable to Read Istio", err)
		return
	}
	if plugged {
		model.IssuerID = types.StringValue(trust.IssuerRef{Mesh: "istio", Namespace: model.Namespace.ValueString()}.String())
	}
}

func (r *istioResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state istioModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	prepared := r.prepare(ctx, installer, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	r.apply(ctx, installer, prepared, &model, state.profile(), &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		// The state keeps the settings of before: those that may not be in force
		// have to be in the next plan again.
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *istioResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model istioModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	if err := installer.Uninstall(ctx, model.ID.ValueString(), model.profile(), model.DeleteCRDs.ValueBool()); err != nil {
		problem(&resp.Diagnostics, "Unable to Uninstall Istio", err)
	}
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
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
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
)

var _ meshResource = (*istioResource)(nil)

var _ resource.ResourceWithValidateConfig = (*istioResource)(nil)

type istioResource struct{ resourceBase }

func newIstioResource() resource.Resource {
	return &istioResource{resourceBase{noun: "istio", identity: "Namespace of the control plane; with a revision, `<namespace>/<revision>`."}}
}

func (r *istioResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Istio: the `base` chart with the CRDs, then `istiod`, then, once istiod's webhooks answer, `cni` and `ztunnel` where the profile wants them, and gateways. " +
			"An apply returns when all of them are healthy and a trial pod would get its proxy. What an apply has left behind whose provider was killed, the next one finishes; " +
			"a first apply that fails or is interrupted leaves the resource tainted, and the next one removes what is there and installs anew.\n\n" +
			"The plan tells in `changes` which objects of istiod and the gateways an apply will add, change and delete, and in a warning those of `base`, `cni` and `ztunnel`, which another revision may bring before. It refuses unknown versions, upgrades over more than one minor version, values that the charts have no place for, " +
			"and an Istio that is there already and that this resource would have to be imported from.\n\n" +
			"The Helm releases are named `istio-base`, `istiod` (with a revision `istiod-<revision>`), `istio-cni`, `ztunnel`, and as the gateways are. Gateways run the proxy that istiod " +
			"injects into them, so an apply that changes istiod's version or images restarts them. No apply waits for a load balancer's address.\n\n" +
			"**Canary upgrades**: one resource for each `revision`, in the same namespace and with the same issuer. `base`, `cni` and `ztunnel` are one for all: the newest revision decides on them, " +
			"an older one never takes them back, and the last one removes them. A revision is destroyed once no pod, namespace or tag uses it: until then, destroy waits, and at its timeout fails with their names. " +
			"Names without a revision are validated by the revision that was first, as long as it is there.\n\n" +
			"**Import**: releases of Helm, and an installation of `istioctl install`, which the next apply takes over into releases without making anything anew. " +
			"Gateways of istioctl's that select their pods otherwise than the `gateway` chart does are left alone, with a warning.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Namespace of the control plane; with a revision, `<namespace>/<revision>`."),
			"version": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Version of Istio and of its charts, such as `1.31.0`. Changing it upgrades in place, by one minor version at a time. For a canary upgrade, add another resource with another `revision` instead.",
				Validators:          []validator.String{exactVersion()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(istio.DefaultNamespace),
				MarkdownDescription: "Namespace of the control plane; created if absent, and then deleted on destroy. Default `" + istio.DefaultNamespace + "`. Changing it installs anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"revision": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Name of this control plane beside others in the namespace, such as `1-31`; pods are given to it by the label `istio.io/rev`. " +
					"Left out, it is the default revision, which injects where `istio-injection=enabled` says so. Changing it installs anew: to move to another revision, add a second resource.",
				Validators:    []validator.String{istioRevision{}},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"repository": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(istio.Repository),
				MarkdownDescription: "Where the charts come from: a Helm repository (`https://…`), an OCI reference that they are below (`oci://example.azurecr.io/charts`), or a local directory that holds them. Default `" + istio.Repository + "`.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"profile": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(istio.ProfileDefault)),
				MarkdownDescription: "What is installed, by the names of istioctl: `default` is istiod and an ingress gateway, `minimal` istiod alone, `demo` istiod with " +
					"access logs and full tracing and an ingress and an egress gateway, all with small resource requests, `ambient` istiod with istio-cni and ztunnel, which need no sidecars. " +
					"Default `default`. A change uninstalls what is in no more.",
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
			"cni": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Whether istio-cni redirects the traffic of pods with sidecars, so that they need no init container with the right to administer the network. " +
					"Profile `ambient` has istio-cni anyway. Default `false`.",
			},
			"gateways": schema.MapNestedAttribute{
				Optional: true,
				MarkdownDescription: "Gateways of this control plane, by the names of their releases, Deployments and Services. Left out, those of the profile; `{}` is none. " +
					"What is in no more is uninstalled. A gateway that another revision has is taken over by naming it here, and stays in place; take it out of the other one's `gateways` after that.",
				Validators: []validator.Map{mapvalidator.KeysAre(dnsLabel())},
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"namespace": schema.StringAttribute{
						Optional:            true,
						MarkdownDescription: "Namespace of the gateway; created if absent, and then deleted with it. Default: that of the control plane.",
						Validators:          []validator.String{dnsLabel()},
					},
					"values": valuesAttribute("Values of the `gateway` chart for this gateway, over those of `values.gateway`."),
				}},
			},
			"hub": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Registry and path of all images, proxies included: `example.azurecr.io/istio`. Default: the one in the charts.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"values": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "Further values of the charts, as YAML documents that are merged in order. Values that the provider sets itself are refused, " +
					"and so are keys that the charts have no place for.",
				Attributes: map[string]schema.Attribute{
					istio.BaseChart:    valuesAttribute("Values of the `base` chart."),
					istio.IstiodChart:  valuesAttribute("Values of the `istiod` chart."),
					istio.CNIChart:     valuesAttribute("Values of the `cni` chart."),
					istio.ZtunnelChart: valuesAttribute("Values of the `ztunnel` chart."),
					istio.GatewayChart: valuesAttribute("Values of the `gateway` chart, for every gateway."),
				},
			},
			"delete_crds": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether destroy deletes Istio's CRDs, and with them every VirtualService, AuthorizationPolicy and so on of the cluster. Default `false`: they stay, and a later install in the same namespace adopts them.",
			},
			"atomic":          atomicAttribute(),
			"drift_detection": driftDetectionAttribute(),
			"values_sha256":   computedString("SHA-256 of the values of istiod and the gateways as they were applied."),
			"changes":         changesAttribute(),
			"drift":           driftAttribute("objects of the charts that are missing or changed, releases that somebody else has touched, gateways that run another proxy than istiod injects"),
			"timeouts":        timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

func valuesAttribute(description string) schema.ListAttribute {
	return schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: description}
}

// istioRevision accepts names of revisions.
type istioRevision struct{}

func (istioRevision) Description(context.Context) string { return "must be the name of a revision" }

func (v istioRevision) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (istioRevision) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := istio.CheckRevision(req.ConfigValue.ValueString()); err != nil {
		problemAt(&resp.Diagnostics, req.Path, "Invalid Revision", err)
	}
}

type istioModel struct {
	commonModel
	Version        types.String `tfsdk:"version"`
	Namespace      types.String `tfsdk:"namespace"`
	Revision       types.String `tfsdk:"revision"`
	Repository     types.String `tfsdk:"repository"`
	Profile        types.String `tfsdk:"profile"`
	CNI            types.Bool   `tfsdk:"cni"`
	Gateways       types.Map    `tfsdk:"gateways"`
	IssuerID       types.String `tfsdk:"issuer_id"`
	Hub            types.String `tfsdk:"hub"`
	Values         types.Object `tfsdk:"values"`
	DeleteCRDs     types.Bool   `tfsdk:"delete_crds"`
	Atomic         types.Bool   `tfsdk:"atomic"`
	DriftDetection types.String `tfsdk:"drift_detection"`
	ValuesDigest   types.String `tfsdk:"values_sha256"`
	Changes        types.List   `tfsdk:"changes"`
	Drift          types.List   `tfsdk:"drift"`
}

type istioGatewayModel struct {
	Namespace types.String `tfsdk:"namespace"`
	Values    types.List   `tfsdk:"values"`
}

func (m *istioModel) profile() istio.Profile { return istio.Profile(m.Profile.ValueString()) }

func (m *istioModel) plane() istio.Plane {
	return istio.Plane{Namespace: m.Namespace.ValueString(), Revision: m.Revision.ValueString()}
}

// known reports whether all is known that an apply depends on. Of the issuer it
// matters only whether there is one.
func (m *istioModel) known(ctx context.Context) bool {
	return fullyKnown(ctx, m.Version, m.Namespace, m.Revision, m.Repository, m.Profile, m.CNI, m.Gateways, m.Hub, m.Values, m.Atomic)
}

// specification turns the model into the domain's terms.
func (m *istioModel) specification(ctx context.Context, now time.Time, diags *diag.Diagnostics) istio.Specification {
	return istio.Specification{
		Plane:      m.plane(),
		Repository: m.Repository.ValueString(),
		Version:    m.Version.ValueString(),
		Profile:    m.profile(),
		CNI:        m.CNI.ValueBool(),
		Gateways:   istioGateways(ctx, m.Gateways, diags),
		PluggedCA:  !m.IssuerID.IsNull(),
		Hub:        m.Hub.ValueString(),
		Values:     istioValues(ctx, m.Values, path.Root("values"), diags),
		Now:        now,
	}
}

// istioGateways reads the gateways; nil if they are left to the profile, or not
// known yet.
func istioGateways(ctx context.Context, given types.Map, diags *diag.Diagnostics) map[string]istio.Gateway {
	if given.IsNull() || given.IsUnknown() {
		return nil
	}
	gateways := map[string]istio.Gateway{}
	for name, element := range given.Elements() {
		object, ok := element.(types.Object)
		if !ok || object.IsUnknown() {
			continue
		}
		var g istioGatewayModel
		diags.Append(object.As(ctx, &g, objectAsOptions)...)
		check := func(values map[string]any) error { return istio.CheckValues(istio.GatewayChart, values) }
		gateways[name] = istio.Gateway{
			Namespace: g.Namespace.ValueString(),
			Values:    parsedValues(ctx, g.Values, path.Root("gateways").AtMapKey(name).AtName("values"), check, diags),
		}
	}
	return gateways
}

// gatewaysMap is what an import tells of gateways; null if they are the profile's.
func gatewaysMap(ctx context.Context, of types.Map, gateways map[string]istio.Gateway, diags *diag.Diagnostics) types.Map {
	kind := of.ElementType(ctx)
	if gateways == nil {
		return types.MapNull(kind)
	}
	models := map[string]istioGatewayModel{}
	for name, gateway := range gateways {
		models[name] = istioGatewayModel{Namespace: textOrNull(gateway.Namespace), Values: types.ListNull(types.StringType)}
	}
	value, d := types.MapValueFrom(ctx, kind, models)
	diags.Append(d...)
	return value
}

// istioValues reads the values by chart; those that are unknown are left out.
func istioValues(ctx context.Context, object types.Object, at path.Path, diags *diag.Diagnostics) map[string]map[string]any {
	values := map[string]map[string]any{}
	for _, chart := range istio.Charts() {
		list, ok := object.Attributes()[chart].(types.List)
		if !ok {
			continue
		}
		check := func(values map[string]any) error { return istio.CheckValues(chart, values) }
		values[chart] = parsedValues(ctx, list, at.AtName(chart), check, diags)
	}
	return values
}

// observe fills in what the cluster shows.
func (m *istioModel) observe(ctx context.Context, found istio.Installed, diags *diag.Diagnostics) {
	m.ID = types.StringValue(m.plane().String())
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
	setWhenNull(&model.Namespace, istio.DefaultNamespace)
	setWhenNull(&model.Profile, string(istio.ProfileDefault))
	specification := model.specification(ctx, time.Time{}, &resp.Diagnostics)
	checkIssuerID(model.IssuerID, "istio", model.Namespace, istio.DefaultNamespace, path.Root("issuer_id"), &resp.Diagnostics)
	// Either is judged by itself, as the other may not be known yet.
	if err := (istio.Plane{Namespace: model.Namespace.ValueString()}).CheckUnmanaged(); err != nil {
		problemAt(&resp.Diagnostics, path.Root("namespace"), "Invalid Namespace", err)
	}
	if err := (istio.Plane{Revision: model.Revision.ValueString()}).CheckUnmanaged(); err != nil {
		problemAt(&resp.Diagnostics, path.Root("revision"), "Invalid Revision", err)
	}
	if !fullyKnown(ctx, model.Namespace, model.Profile, model.Gateways) {
		return
	}
	if err := istio.CheckGateways(specification); err != nil {
		at := path.Root("gateways")
		if model.Gateways.IsNull() {
			at = path.Root("namespace")
		}
		problemAt(&resp.Diagnostics, at, "Invalid Gateway", err)
	}
}

// ImportState refuses what AKS manages, before anything is read of it.
func (r *istioResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	r.resourceBase.ImportState(ctx, req, resp)
	var id types.String
	resp.Diagnostics.Append(resp.State.GetAttribute(ctx, path.Root("id"), &id)...)
	plane, err := istio.ParsePlane(id.ValueString())
	if resp.Diagnostics.HasError() {
		return
	}
	if err == nil {
		err = plane.CheckUnmanaged()
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Import Istio", err)
	}
}

// ModifyPlan promises an Istio without drift, keeps what an unchanged
// configuration leaves as it is, and tells what anything else changes.
func (r *istioResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		r.warnOfRemoval(ctx, req.State, &resp.Diagnostics)
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("drift"), noDrift())...)
	settle(ctx, req, resp, path.Root("values_sha256"), path.Root("changes"))
	var model istioModel
	resp.Diagnostics.Append(resp.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || !model.known(ctx) {
		return
	}
	var former *istioModel
	if !req.State.Raw.IsNull() {
		former = &istioModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, former)...)
		if err := istio.CheckUpgrade(former.Version.ValueString(), model.Version.ValueString()); err != nil && former.plane() == model.plane() {
			problemAt(&resp.Diagnostics, path.Root("version"), "Unsupported Upgrade of Istio", err)
		}
		replaced := former.plane() != model.plane() || former.IssuerID.IsNull() != model.IssuerID.IsNull()
		if replaced && r.session != nil {
			// Terraform plans what comes then as a creation, without saying so, and
			// nothing for the destroy before it.
			r.session.leaving.Store(leavingIstio(model.plane()), true)
			r.warnOfRemoval(ctx, req.State, &resp.Diagnostics)
		}
		if resp.Diagnostics.HasError() || replaced {
			return
		}
	} else if r.session != nil {
		if _, leaving := r.session.leaving.Load(leavingIstio(model.plane())); leaving {
			return
		}
	}
	r.foresee(ctx, resp, "Istio", func(ctx context.Context, charts install.Charts) (foresight, error) {
		return r.look(ctx, istio.Installer{Charts: charts}, &model, former, &resp.Diagnostics)
	})
}

// leavingIstio is what the session remembers of an Istio that is made anew.
func leavingIstio(plane istio.Plane) string { return "istio " + plane.String() }

// look works out what an apply would do. Of one that goes on with what another
// has left, or that follows a destroy, it is not known before.
func (r *istioResource) look(ctx context.Context, installer istio.Installer, model, former *istioModel, diags *diag.Diagnostics) (foresight, error) {
	if former == nil {
		specification := model.specification(ctx, r.session.time(), diags)
		if diags.HasError() {
			return foresight{}, nil
		}
		resumed, err := r.existing(ctx, installer, specification, diags)
		if err != nil || diags.HasError() {
			return foresight{}, err
		}
		if resumed {
			// What is tainted is destroyed before, and what an apply that was killed
			// has left is not; Terraform does not tell which it is.
			warnings, err := installer.ForeseeRemoval(ctx, specification, model.DeleteCRDs.ValueBool())
			for i := range warnings {
				warnings[i] = "If this Istio is tainted, it is removed first. " + warnings[i]
			}
			return foresight{unknown: true, warnings: warnings}, err
		}
		preflight(ctx, istio.PreChecks(installer.Cluster, specification, r.session.managed()), diags)
	}
	prepared := r.prepare(ctx, installer, model, former, diags)
	if diags.HasError() {
		return foresight{}, nil
	}
	changes, shared, err := installer.Foresee(ctx, prepared)
	found := foresight{changes: changes, warnings: prepared.Notes}
	for _, change := range shared {
		if change.Warning != "" {
			found.warnings = append(found.warnings, change.Ref.String()+": "+change.Warning)
		}
	}
	if len(shared) > 0 {
		// They are no part of what Terraform holds an apply to: that of another
		// revision may come first.
		found.warnings = append(found.warnings, "Of what all revisions in namespace "+model.Namespace.ValueString()+" share, this changes, unless another one does before:\n"+
			strings.Join(changeLines(shared), "\n"))
	}
	return found, istioValuesAt(err, diags)
}

// existing tells whether an apply was cut off before; an Istio that is there and
// is not this provider's is reported, if it is not AKS's with how to import it.
func (r *istioResource) existing(ctx context.Context, installer istio.Installer, specification istio.Specification, diags *diag.Diagnostics) (bool, error) {
	preflight(ctx, []check.Check{istio.AddonCheck(installer.Cluster, r.session.managed())}, diags)
	if diags.HasError() {
		return false, nil
	}
	resumed, err := installer.Existing(ctx, specification)
	if errors.Is(err, install.ErrForeign) {
		problemExists(diags, "Unable to Install Istio", err, specification.String())
		return false, nil
	}
	return resumed, err
}

// warnOfRemoval tells in the plan of a destroy who would be left without a control
// plane. A revision is not destroyed before that is nobody.
func (r *istioResource) warnOfRemoval(ctx context.Context, state source, diags *diag.Diagnostics) {
	cluster, ok := r.knownCluster()
	var model istioModel
	diags.Append(state.Get(ctx, &model)...)
	if !ok || diags.HasError() {
		return
	}
	installer, ok := r.installer(ctx, cluster, diags)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	removal, err := installer.ForeseeRemoval(ctx, model.specification(ctx, r.session.time(), diags), model.DeleteCRDs.ValueBool())
	if err != nil {
		diags.AddWarning("Unable to Look Ahead at the End of Istio", explain(err))
		return
	}
	for _, line := range removal {
		diags.AddWarning("Before Istio Is Removed", line)
	}
}

// turn waits until no other control plane of the namespace is installed or removed
// by this run: all of them change the releases that they share, and decide by each
// other's. The caller ends it.
func (r *istioResource) turn(ctx context.Context, model *istioModel, diags *diag.Diagnostics) (end func(), ok bool) {
	end, err := r.session.turn(ctx, "istio "+model.Namespace.ValueString())
	if err != nil {
		problem(diags, "Unable to Change Istio", fmt.Errorf("wait for the other control planes of namespace %s: %w", model.Namespace.ValueString(), err))
		return func() {}, false
	}
	return end, true
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
	specification := model.specification(ctx, r.session.time(), &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	leave, ok := r.turn(ctx, &model, &resp.Diagnostics)
	defer leave()
	if !ok {
		return
	}
	resumed, err := r.existing(ctx, installer, specification, &resp.Diagnostics)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Install Istio", err)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	if !resumed && model.Changes.IsUnknown() {
		// There was no cluster to check when this was planned.
		preflight(ctx, istio.PreChecks(cluster, specification, r.session.managed()), &resp.Diagnostics)
	}
	prepared := r.prepare(ctx, installer, &model, nil, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if resumed {
		warnAdopted(&resp.Diagnostics, "Istio "+specification.String())
	}
	r.apply(ctx, installer, prepared, &model, &resp.Diagnostics)
	if !model.ID.IsUnknown() {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// prepare does what can fail before anything is changed, and tells which
// attribute is at fault.
func (r *istioResource) prepare(ctx context.Context, installer istio.Installer, model, former *istioModel, diags *diag.Diagnostics) *istio.Prepared {
	specification := model.specification(ctx, r.session.time(), diags)
	var before *istio.Specification
	if former != nil {
		s := former.specification(ctx, r.session.time(), diags)
		before = &s
	}
	if diags.HasError() {
		return nil
	}
	prepared, err := installer.Prepare(ctx, specification, before)
	problemInstall(diags, "Unable to Install Istio", istioValuesAt(err, diags))
	return prepared
}

// istioValuesAt reports errors that an attribute has caused there, and returns any
// other.
func istioValuesAt(err error, diags *diag.Diagnostics) error {
	if values, ok := errors.AsType[*install.ValuesError](err); ok {
		at := path.Root("values").AtName(values.Chart)
		problemAt(diags, at, "Invalid "+at.String(), err)
		return nil
	}
	if _, ok := errors.AsType[*istio.VersionError](err); ok {
		problemAt(diags, path.Root("version"), "Unsupported Upgrade of Istio", err)
		return nil
	}
	return err
}

// apply brings the cluster to what was prepared and takes down what is there
// then; the model keeps an unknown ID if nothing is.
func (r *istioResource) apply(ctx context.Context, installer istio.Installer, prepared *istio.Prepared, model *istioModel, diags *diag.Diagnostics) {
	if model.Changes.IsUnknown() {
		changes, _, err := installer.Foresee(ctx, prepared)
		problemInstall(diags, "Unable to Install Istio", istioValuesAt(err, diags))
		if diags.HasError() {
			return
		}
		model.Changes = changesList(ctx, changes, diags)
	}
	for _, note := range prepared.Notes {
		diags.AddWarning("Istio Is Not Installed Whole", note)
	}
	applied := installer.Apply(ctx, prepared, model.Atomic.ValueBool())
	specification := model.specification(ctx, r.session.time(), diags)
	recordInstall(ctx, "Istio", applied, func(ctx context.Context) error {
		found, err := installer.Observe(ctx, specification)
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
	plane, err := istio.ParsePlane(model.ID.ValueString())
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Istio", err)
		return
	}
	model.Namespace = types.StringValue(plane.Namespace)
	if plane.Revision != "" {
		model.Revision = types.StringValue(plane.Revision)
	}
	imported := model.Profile.IsNull()
	var found istio.Installed
	if imported {
		found, err = installer.Discover(ctx, plane)
	} else {
		specification := model.specification(ctx, r.session.time(), &resp.Diagnostics)
		found, err = installer.Observe(ctx, specification, detectedKinds(model.DriftDetection)...)
	}
	if errors.Is(err, helm.ErrReleaseNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Istio", err)
		return
	}
	if found.Version != "" {
		model.Version = types.StringValue(found.Version)
	}
	if imported {
		r.imported(ctx, installer, &model, found, &resp.Diagnostics)
	}
	compareValues(model.ValuesDigest, &found.ValuesDigest, &found.Drift, "the values of the releases are not those that were applied")
	model.observe(ctx, found, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported fills in the settings of an Istio of which only the place is known:
// what it tells, and otherwise what goes without saying. The issuer is noted if this
// provider's is in use, since a plan that adds it would install anew.
func (r *istioResource) imported(ctx context.Context, installer istio.Installer, model *istioModel, found istio.Installed, diags *diag.Diagnostics) {
	model.Profile = types.StringValue(string(found.Profile))
	model.Gateways = gatewaysMap(ctx, model.Gateways, found.Gateways, diags)
	if found.CNI {
		model.CNI = types.BoolValue(true)
	}
	setWhenNull(&model.Repository, istio.Repository)
	setWhenNull(&model.DriftDetection, detectObjects)
	model.DeleteCRDs, model.Atomic = types.BoolValue(false), types.BoolValue(false)
	model.Changes = changesList(ctx, nil, diags)
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
	leave, ok := r.turn(ctx, &model, &resp.Diagnostics)
	defer leave()
	if !ok {
		return
	}
	prepared := r.prepare(ctx, installer, &model, &state, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	r.apply(ctx, installer, prepared, &model, &resp.Diagnostics)
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
	specification := model.specification(ctx, r.session.time(), &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := installer.AwaitRemovable(ctx, specification); err != nil {
		problem(&resp.Diagnostics, "Unable to Uninstall Istio", err)
		return
	}
	leave, ok := r.turn(ctx, &model, &resp.Diagnostics)
	defer leave()
	if !ok {
		return
	}
	if err := installer.Remove(ctx, specification, model.DeleteCRDs.ValueBool()); err != nil {
		problem(&resp.Diagnostics, "Unable to Uninstall Istio", err)
	}
}

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
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var _ meshResource = (*linkerdExtensionResource)(nil)

var _ resource.ResourceWithValidateConfig = (*linkerdExtensionResource)(nil)

type linkerdExtensionResource struct{ resourceBase }

func newLinkerdExtensionResource() resource.Resource {
	return &linkerdExtensionResource{resourceBase{noun: "linkerd_extension", identity: "Namespace of the extension."}}
}

func (r *linkerdExtensionResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "An extension of Linkerd: `viz` (metrics, dashboard, taps), `multicluster` (services of other clusters) or `jaeger` (traces; only for Linkerd before 2.19). " +
			"Its namespace is made with the labels by which `linkerd check` and the dashboard find it, then its chart is installed. An apply returns when its workloads run and the API server reaches what it calls of them: " +
			"with `viz`, the API of taps is available and new pods can be tapped. Pods that were meshed before `viz` came have to be restarted to be tapped.\n\n" +
			"The charts make the certificates of `tap`, `tap-injector` and `jaeger-injector` anew with each render, for a year, and nobody renews them: here they are Secrets of the provider's, " +
			"renewed `webhook_early_renewal` before their end, without a restart and without a moment in which the API server cannot call their pods. Certificates that cert-manager or another controller has in hand are left alone.\n\n" +
			"What an apply has left behind whose provider was killed, the next one finishes. An extension that Helm or `linkerd viz install` has installed can be imported; the apply that follows takes its objects over and makes none of them anew. " +
			"On destroy, the API server ceases to call the extension before its pods go, so that no namespace of the cluster gets stuck.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Namespace of the extension."),
			"name": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Which extension: `viz`, `multicluster` or `jaeger`. A cluster can have each only once. Changing it installs anew.",
				Validators:          []validator.String{stringvalidator.OneOf(linkerd.Extensions()...)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"version": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "Version of the chart, such as `2026.8.3` for edge-26.8.3. It has to be of the same numbered version of Linkerd as the control plane: " +
					"`aksmesh_linkerd.this.version`, which also has the control plane upgraded first. Changing it upgrades in place.",
				Validators: []validator.String{exactVersion()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Namespace of the extension; created if absent, and then deleted on destroy. Default `linkerd-<name>`. Changing it installs anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{extensionNamespace{}, stringplanmodifier.RequiresReplace()},
			},
			"linkerd_namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(linkerd.DefaultNamespace),
				MarkdownDescription: "Namespace of the control plane, best as `aksmesh_linkerd.this.id`, so that it is installed before the extension and destroyed after it. Default `" + linkerd.DefaultNamespace + "`. Changing it installs anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"repository": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(linkerd.EdgeRepository),
				MarkdownDescription: "Where the chart comes from: a Helm repository (`https://…`), an OCI reference that it is below (`oci://example.azurecr.io/charts`), or a local directory that holds it. Default `" + linkerd.EdgeRepository + "`.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"registry": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Registry and path that replace everything before the name of each image of the chart, those of other projects such as `prom/prometheus` included: `example.azurecr.io/linkerd`. " +
					"Images in lists, such as `controllers` of `multicluster`, are as `values` have them. The proxies' image is the control plane's business.",
				Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"high_availability": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether to run several replicas spread over nodes with the chart's own `values-ha.yaml`. Pods of a Deployment do not share nodes then: it takes as many nodes as the largest has replicas, and one more for rolling updates, with the chart's values 4. `jaeger` cannot. Default `false`.",
			},
			"values": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Further values of the chart, YAML documents merged in order, such as `prometheusUrl` for a Prometheus of your own. Values that the chart has no place for and those that the provider sets itself, such as certificates, are refused.",
			},
			"atomic": atomicAttribute(),
			"delete_crds": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether destroy deletes the CRDs of the chart, and with them every object of their kinds: with `multicluster` the Links to other clusters. Default `false`: they stay, and a later install adopts them.",
			},
			"webhook_early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(linkerd.DefaultWebhookEarlyRenewal)),
				MarkdownDescription: "How long before their end the certificates of the extension's servers are renewed by the next apply, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn.",
				Validators:          []validator.String{goDuration(0, pki.DefaultServingValidity-time.Hour)},
			},
			"drift_detection":      driftDetectionAttribute(),
			"app_version":          computedString("Version of Linkerd that the extension is of, such as `edge-26.8.3`."),
			"values_sha256":        computedString("SHA-256 of the release's values as they were applied."),
			"changes":              changesAttribute(),
			"webhooks":             webhooksAttribute("Certificates by which the API server calls the extension: of `viz`, those of its API `tap` and of its webhook `tap-injector`; of `jaeger`, that of its webhook `jaeger-injector`; of `multicluster`, none. With `drift_detection = \"releases\"`, only those of webhooks."),
			"webhooks_valid_until": computedString("When the first of these certificates ends, RFC 3339; empty if the extension has none, or none that can be read."),
			"drift":                driftAttribute("objects of the chart that are missing or changed, a release that somebody else has touched, certificates that are due, a namespace without its label"),
			"timeouts":             timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// extensionNamespace is the default of the namespace, which depends on the name.
type extensionNamespace struct{}

func (extensionNamespace) Description(context.Context) string { return "Defaults to linkerd-<name>." }

func (m extensionNamespace) MarkdownDescription(ctx context.Context) string {
	return m.Description(ctx)
}

func (extensionNamespace) PlanModifyString(ctx context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	var name types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("name"), &name)...)
	if req.ConfigValue.IsNull() && !name.IsUnknown() {
		resp.PlanValue = types.StringValue(linkerd.ExtensionNamespace(name.ValueString()))
	}
}

type linkerdExtensionModel struct {
	commonModel
	Name                types.String `tfsdk:"name"`
	Version             types.String `tfsdk:"version"`
	Namespace           types.String `tfsdk:"namespace"`
	LinkerdNamespace    types.String `tfsdk:"linkerd_namespace"`
	Repository          types.String `tfsdk:"repository"`
	Registry            types.String `tfsdk:"registry"`
	HighAvailability    types.Bool   `tfsdk:"high_availability"`
	Values              types.List   `tfsdk:"values"`
	Atomic              types.Bool   `tfsdk:"atomic"`
	DeleteCRDs          types.Bool   `tfsdk:"delete_crds"`
	WebhookEarlyRenewal types.String `tfsdk:"webhook_early_renewal"`
	DriftDetection      types.String `tfsdk:"drift_detection"`
	AppVersion          types.String `tfsdk:"app_version"`
	ValuesDigest        types.String `tfsdk:"values_sha256"`
	Changes             types.List   `tfsdk:"changes"`
	Webhooks            types.List   `tfsdk:"webhooks"`
	WebhooksValidUntil  types.String `tfsdk:"webhooks_valid_until"`
	Drift               types.List   `tfsdk:"drift"`
}

// specification turns the model into the domain's terms.
func (m *linkerdExtensionModel) specification(ctx context.Context, now time.Time, diags *diag.Diagnostics) linkerd.ExtensionSpecification {
	return linkerd.ExtensionSpecification{
		Name:             m.Name.ValueString(),
		Namespace:        m.Namespace.ValueString(),
		LinkerdNamespace: m.LinkerdNamespace.ValueString(),
		Repository:       m.Repository.ValueString(),
		Version:          m.Version.ValueString(),
		Registry:         m.Registry.ValueString(),
		HighAvailability: m.HighAvailability.ValueBool(),
		Values:           m.parsedValues(ctx, diags),
		Atomic:           m.Atomic.ValueBool(),
		Checks:           m.checks(now),
	}
}

func (m *linkerdExtensionModel) parsedValues(ctx context.Context, diags *diag.Diagnostics) map[string]any {
	check := func(values map[string]any) error { return linkerd.CheckExtensionValues(m.Name.ValueString(), values) }
	return parsedValues(ctx, m.Values, path.Root("values"), check, diags)
}

func (m *linkerdExtensionModel) checks(now time.Time) linkerd.WebhookChecks {
	return linkerd.WebhookChecks{Early: duration(m.WebhookEarlyRenewal, linkerd.DefaultWebhookEarlyRenewal), Now: now}
}

func (m *linkerdExtensionModel) observation(now time.Time) linkerd.ExtensionObservation {
	return linkerd.ExtensionObservation{
		Name: m.Name.ValueString(), Namespace: m.Namespace.ValueString(), Checks: m.checks(now), Kinds: detectedKinds(m.DriftDetection),
	}
}

// inputsKnown reports whether all is known of what the chart is made of.
func (m *linkerdExtensionModel) inputsKnown(ctx context.Context) bool {
	return fullyKnown(ctx, m.Name, m.Version, m.Namespace, m.LinkerdNamespace, m.Repository, m.Registry, m.HighAvailability, m.Values)
}

// observe fills in what the cluster shows, as far as it is known.
func (m *linkerdExtensionModel) observe(ctx context.Context, found linkerd.InstalledExtension, diags *diag.Diagnostics) {
	m.ID = m.Namespace
	m.AppVersion = types.StringValue(found.AppVersion)
	m.ValuesDigest = types.StringValue(found.ValuesDigest)
	m.Webhooks = webhooksList(ctx, found.Webhooks, diags)
	m.WebhooksValidUntil = types.StringValue(firstEnd(found.Webhooks))
	m.Drift = notesList(ctx, found.Drift, nil, diags)
}

func (r *linkerdExtensionResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model linkerdExtensionModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || model.Name.IsUnknown() {
		return
	}
	model.parsedValues(ctx, &resp.Diagnostics)
	if err := linkerd.CheckExtensionVersion(model.Name.ValueString(), model.Version.ValueString()); err != nil {
		problemAt(&resp.Diagnostics, path.Root("version"), "No Such Extension in This Version", err)
	}
}

// ModifyPlan promises an extension without drift, keeps what an unchanged
// configuration leaves as it is, and tells what is going to change.
func (r *linkerdExtensionResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan, state linkerdExtensionModel
	creates := req.State.Raw.IsNull()
	if !creates {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if !req.Plan.Raw.IsNull() {
		resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	follows := r.follows(plan, state)
	if !creates && (follows || req.Plan.Raw.IsNull()) {
		r.warnOfRemoval(ctx, state, &resp.Diagnostics)
	}
	if req.Plan.Raw.IsNull() {
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("drift"), noDrift())...)
	settle(ctx, req, resp, path.Root("changes"), path.Root("app_version"), path.Root("values_sha256"), path.Root("webhooks"), path.Root("webhooks_valid_until"))
	r.warnOfWebhooks(ctx, req, resp)
	resp.Diagnostics.Append(resp.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || r.session == nil || !plan.inputsKnown(ctx) {
		return
	}
	if follows {
		// What it will find, the destruction of the one before has to show.
		return
	}
	r.foresee(ctx, resp, plan.subject(), func(ctx context.Context, charts install.Charts) (foresight, error) {
		installer := linkerd.Installer{Charts: charts}
		if creates {
			resumed, err := installer.ResumableExtension(ctx, plan.Name.ValueString(), plan.Namespace.ValueString())
			if errors.Is(err, install.ErrForeign) {
				problemExists(&resp.Diagnostics, "Unable to Plan "+plan.subject(), err, plan.Namespace.ValueString())
				return foresight{}, nil
			}
			if resumed && err == nil {
				// If it is tainted, it is gone by the apply; if not, the apply goes on
				// from there. Terraform does not say which.
				r.warnOfRemoval(ctx, plan, &resp.Diagnostics)
				return foresight{unknown: true}, nil
			}
			if err != nil {
				return foresight{}, err
			}
		}
		_, found, err := r.prepare(ctx, installer, &plan, &resp.Diagnostics)
		if len(inputErrors(err)) > 0 {
			problemLinkerd(&resp.Diagnostics, "Unable to Plan "+plan.subject(), err)
			err = nil
		}
		return foresight{changes: found.Changes, warnings: found.Warnings}, err
	})
}

// follows reports whether what is planned comes after the same extension is gone.
// Terraform plans what replaces another as a creation, without saying so: the
// session remembers what the state has, and what leaves its namespace.
func (r *linkerdExtensionResource) follows(plan, state linkerdExtensionModel) bool {
	if r.session == nil {
		return false
	}
	anywhere := func(m linkerdExtensionModel) string { return "linkerd-extension " + m.Name.ValueString() }
	here := func(m linkerdExtensionModel) string { return anywhere(m) + " " + m.Namespace.ValueString() }
	if state.Name.IsNull() {
		_, left := r.session.leaving.Load(anywhere(plan))
		_, had := r.session.leaving.Load(here(plan))
		return left || had
	}
	r.session.leaving.Store(here(state), true)
	if plan.Name.Equal(state.Name) && plan.Namespace.Equal(state.Namespace) && plan.LinkerdNamespace.Equal(state.LinkerdNamespace) {
		return false
	}
	r.session.leaving.Store(anywhere(state), true)
	return true
}

func (m *linkerdExtensionModel) subject() string {
	return "Linkerd's Extension " + m.Name.ValueString()
}

// prepare does what can fail before anything is changed, and tells what is going
// to change.
func (r *linkerdExtensionResource) prepare(ctx context.Context, installer linkerd.Installer, model *linkerdExtensionModel, diags *diag.Diagnostics) (*linkerd.PreparedExtension, linkerd.Foreseen, error) {
	specification := model.specification(ctx, r.session.time(), diags)
	if diags.HasError() {
		return nil, linkerd.Foreseen{}, nil
	}
	prepared, err := installer.PrepareExtension(ctx, specification)
	if err != nil {
		return nil, linkerd.Foreseen{}, err
	}
	found, err := installer.ForeseeExtension(ctx, prepared)
	return prepared, found, err
}

// warnOfRemoval tells in the plan of a destroy what goes with the extension.
func (r *linkerdExtensionResource) warnOfRemoval(ctx context.Context, model linkerdExtensionModel, diags *diag.Diagnostics) {
	cluster, ok := r.knownCluster()
	if !ok || !model.DeleteCRDs.ValueBool() {
		return
	}
	installer, ok := r.installer(ctx, cluster, diags)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	warnings, err := installer.ForeseeExtensionRemoval(ctx, model.Name.ValueString(), model.Namespace.ValueString())
	if err != nil {
		diags.AddWarning("Unable to Look Ahead at the Removal of "+model.subject(), explain(err))
	}
	for _, warning := range warnings {
		diags.AddWarning("Before "+model.subject()+" Is Destroyed", warning)
	}
}

func (r *linkerdExtensionResource) installer(ctx context.Context, cluster *kube.Cluster, diags *diag.Diagnostics) (linkerd.Installer, bool) {
	charts, ok := r.charts(ctx, cluster, diags)
	return linkerd.Installer{Charts: charts}, ok
}

func (r *linkerdExtensionResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model linkerdExtensionModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	resumed, err := installer.ResumableExtension(ctx, model.Name.ValueString(), model.Namespace.ValueString())
	if err != nil {
		problemExists(&resp.Diagnostics, "Unable to Install "+model.subject(), err, model.Namespace.ValueString())
		return
	}
	if resumed {
		warnAdopted(&resp.Diagnostics, "extension "+model.Name.ValueString()+" in namespace "+model.Namespace.ValueString())
	}
	r.apply(ctx, installer, &model, &resp.Diagnostics)
	if !model.ID.IsUnknown() {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// apply brings the cluster to the model and takes down what is there then; the
// model keeps an unknown ID if nothing is.
func (r *linkerdExtensionResource) apply(ctx context.Context, installer linkerd.Installer, model *linkerdExtensionModel, diags *diag.Diagnostics) {
	prepared, foreseen, err := r.prepare(ctx, installer, model, diags)
	if err != nil {
		problemLinkerd(diags, "Unable to Install "+model.subject(), err)
	}
	if diags.HasError() {
		return
	}
	if model.Changes.IsUnknown() {
		model.Changes = changesList(ctx, foreseen.Changes, diags)
	}
	applied := installer.ApplyExtension(ctx, prepared)
	if len(inputErrors(applied)) > 0 {
		// Nothing has been changed.
		problemLinkerd(diags, "Unable to Install "+model.subject(), applied)
		return
	}
	recordInstall(ctx, model.subject(), applied, func(ctx context.Context) error {
		found, err := installer.ObserveExtension(ctx, model.observation(r.session.time()))
		if err != nil {
			return err
		}
		if applied == nil {
			// The plan has promised none; what has changed since is for the next one.
			found.Drift = nil
		}
		model.observe(ctx, found, diags)
		return nil
	}, func(drift string) { model.observe(ctx, linkerd.InstalledExtension{Drift: []string{drift}}, diags) }, diags)
}

func (r *linkerdExtensionResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model linkerdExtensionModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	model.Namespace = model.ID
	found, err := installer.ObserveExtension(ctx, model.observation(r.session.time()))
	if errors.Is(err, helm.ErrReleaseNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read "+model.subject(), err)
		return
	}
	compareValues(model.ValuesDigest, &found.ValuesDigest, &found.Drift, "the values of the release are not those that were applied")
	if model.Name.IsNull() {
		model.imported(found)
	}
	if found.Version != "" {
		model.Version = types.StringValue(found.Version)
	}
	model.observe(ctx, found, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported fills in the settings of an extension of which only the namespace is
// known. Where its chart came from, it does not tell.
func (m *linkerdExtensionModel) imported(found linkerd.InstalledExtension) {
	m.Name = types.StringValue(found.Name)
	m.LinkerdNamespace = types.StringValue(found.LinkerdNamespace)
	m.Repository = types.StringValue(linkerd.EdgeRepository)
	m.HighAvailability = types.BoolValue(found.HighAvailability)
	m.Atomic, m.DeleteCRDs = types.BoolValue(false), types.BoolValue(false)
	m.WebhookEarlyRenewal = types.StringValue(plainDuration(linkerd.DefaultWebhookEarlyRenewal))
	m.DriftDetection = types.StringValue(detectObjects)
	m.Changes = noDrift()
}

func (r *linkerdExtensionResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model linkerdExtensionModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	r.apply(ctx, installer, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		// The state keeps the settings of before: those that may not be in force
		// have to be in the next plan again.
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *linkerdExtensionResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model linkerdExtensionModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	if err := installer.UninstallExtension(ctx, model.Name.ValueString(), model.ID.ValueString(), model.DeleteCRDs.ValueBool()); err != nil {
		problem(&resp.Diagnostics, "Unable to Uninstall "+model.subject(), err)
	}
}

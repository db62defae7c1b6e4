package provider

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var _ meshResource = (*linkerdResource)(nil)

var _ resource.ResourceWithValidateConfig = (*linkerdResource)(nil)

type linkerdResource struct{ resourceBase }

func newLinkerdResource() resource.Resource {
	return &linkerdResource{resourceBase{noun: "linkerd", identity: "Namespace of the control plane."}}
}

func (r *linkerdResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Linkerd: its namespace with the labels that the CLI gives it, the CRDs of the Gateway API if it is to bring them, the chart `linkerd-crds`, the CNI plugin if it is wanted, then the chart `linkerd-control-plane`. " +
			"An apply returns when the control plane is healthy and its webhooks answer: pods created from then on get their proxy. What an apply has left behind whose provider was killed, the next one finishes; " +
			"a first apply that fails or is interrupted leaves the resource tainted, and the next one removes what is there and installs anew.\n\n" +
			"A plan says in `changes` which objects of the cluster an apply adds, changes or deletes, and fails where the apply could not succeed: values that the chart has no place for, " +
			"a version of Kubernetes that the chart is not made for, a numbered version that an upgrade passes over, a Gateway API that is missing or somebody else's, too few nodes for high availability, a Linkerd that is there already. " +
			"What Helm or `linkerd install` has installed can be imported; the apply that follows takes its objects over and makes none of them anew.\n\n" +
			"Issuer and trust bundle come from an `aksmesh_issuer`, so no private key passes through Helm. The provider also looks after the certificates " +
			"of Linkerd's three webhooks, which its chart would make anew on each render, and after those of `linkerd-viz`, which nobody renews otherwise: they are renewed " +
			"`webhook_early_renewal` before their end, and the API server accepts the new one before any pod serves it. Certificates that cert-manager or another controller has in hand are left alone.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Namespace of the control plane."),
			"version": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Version of the charts, such as `2026.8.3` for edge-26.8.3. Changing it upgrades in place.",
				Validators:          []validator.String{exactVersion()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(linkerd.DefaultNamespace),
				MarkdownDescription: "Namespace of the control plane; created if absent, and then deleted on destroy. Default `" + linkerd.DefaultNamespace + "`. Changing it installs anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"repository": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(linkerd.EdgeRepository),
				MarkdownDescription: "Where the charts come from: a Helm repository (`https://…`), an OCI reference that they are below (`oci://example.azurecr.io/charts`), or a local directory that holds them. Default `" + linkerd.EdgeRepository + "`.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"issuer_id": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "ID of the `aksmesh_issuer` that writes the issuer and the trust bundle into this control plane's namespace. " +
					"Their renewal and rotation is its business: neither changes anything here.",
			},
			"high_availability": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether to run three replicas spread over nodes with the chart's own `values-ha.yaml`. Needs three nodes. Default `false`.",
			},
			"gateway_api": gatewayAPIAttribute(),
			"cni":         cniAttribute(),
			"registry": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Registry and path that replace everything before the name of each image, as `linkerd install --registry` does: `example.azurecr.io/linkerd`.",
				Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"proxy": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Compute resources of the proxies, as Kubernetes quantities. Left out, they are as the chart has them.",
				Attributes: map[string]schema.Attribute{
					"cpu_request":    quantityAttribute("CPU that a proxy reserves, such as `100m`."),
					"cpu_limit":      quantityAttribute("CPU that a proxy may use at most."),
					"memory_request": quantityAttribute("Memory that a proxy reserves, such as `20Mi`."),
					"memory_limit":   quantityAttribute("Memory that a proxy may use at most."),
				},
			},
			"heartbeat": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the control plane reports its version to the Linkerd project once a day. Default `false`; Linkerd's own default is to report.",
			},
			"values": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Further values of the `linkerd-control-plane` chart, YAML documents merged in order. Values that the provider sets itself, such as certificates, are refused.",
			},
			"delete_crds": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether destroy deletes Linkerd's CRDs, and with them every ServiceProfile, Server, AuthorizationPolicy and so on of the cluster. Default `false`: they stay, and a later install adopts them.",
			},
			"webhook_early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(linkerd.DefaultWebhookEarlyRenewal)),
				MarkdownDescription: "How long before their end the certificates of the webhooks are renewed by the next apply, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn.",
				Validators:          []validator.String{goDuration(0, pki.DefaultServingValidity-time.Hour)},
			},
			"atomic":          atomicAttribute(),
			"drift_detection": driftDetectionAttribute(),
			"changes":         changesAttribute(),
			"app_version":     computedString("Version of Linkerd, such as `edge-26.8.3`."),
			"values_sha256":   computedString("SHA-256 of the values of the control plane, and of the CNI plugin if there is one, as they were applied."),
			"webhooks": webhooksAttribute("Certificates by which the API server calls Linkerd: those of the control plane's three webhooks, and, if others than `aksmesh_linkerd_extension` have installed `linkerd-viz`, " +
				"those of its webhook `tap-injector` and of its API `tap`."),
			"webhooks_valid_until": computedString("When the first of these certificates ends, RFC 3339; empty if none can be read."),
			"drift":                driftAttribute("objects of the charts that are missing or changed, releases that somebody else has touched, webhook certificates that are due"),
			"timeouts":             timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type linkerdModel struct {
	commonModel
	Version             types.String `tfsdk:"version"`
	Namespace           types.String `tfsdk:"namespace"`
	Repository          types.String `tfsdk:"repository"`
	IssuerID            types.String `tfsdk:"issuer_id"`
	HighAvailability    types.Bool   `tfsdk:"high_availability"`
	GatewayAPI          types.Object `tfsdk:"gateway_api"`
	CNI                 types.Object `tfsdk:"cni"`
	Atomic              types.Bool   `tfsdk:"atomic"`
	DriftDetection      types.String `tfsdk:"drift_detection"`
	Changes             types.List   `tfsdk:"changes"`
	Registry            types.String `tfsdk:"registry"`
	Proxy               types.Object `tfsdk:"proxy"`
	Heartbeat           types.Bool   `tfsdk:"heartbeat"`
	Values              types.List   `tfsdk:"values"`
	DeleteCRDs          types.Bool   `tfsdk:"delete_crds"`
	AppVersion          types.String `tfsdk:"app_version"`
	ValuesDigest        types.String `tfsdk:"values_sha256"`
	WebhookEarlyRenewal types.String `tfsdk:"webhook_early_renewal"`
	Webhooks            types.List   `tfsdk:"webhooks"`
	WebhooksValidUntil  types.String `tfsdk:"webhooks_valid_until"`
	Drift               types.List   `tfsdk:"drift"`
}

type proxyResourcesModel struct {
	CPURequest    types.String `tfsdk:"cpu_request"`
	CPULimit      types.String `tfsdk:"cpu_limit"`
	MemoryRequest types.String `tfsdk:"memory_request"`
	MemoryLimit   types.String `tfsdk:"memory_limit"`
}

// specification turns the model into the domain's terms.
func (m *linkerdModel) specification(ctx context.Context, now time.Time, diags *diag.Diagnostics) linkerd.Specification {
	s := linkerd.Specification{
		Namespace:        m.Namespace.ValueString(),
		Repository:       m.Repository.ValueString(),
		Version:          m.Version.ValueString(),
		HighAvailability: m.HighAvailability.ValueBool(),
		Registry:         m.Registry.ValueString(),
		Heartbeat:        m.Heartbeat.ValueBool(),
		GatewayAPI:       m.gatewayAPI(ctx, diags),
		CNI:              m.cni(ctx, diags),
		Atomic:           m.Atomic.ValueBool(),

		WebhookEarlyRenewal: m.webhookChecks(now).Early,
		Now:                 now,
	}
	if !m.Proxy.IsNull() {
		var p proxyResourcesModel
		diags.Append(m.Proxy.As(ctx, &p, objectAsOptions)...)
		s.Proxy = linkerd.Resources{
			CPURequest: p.CPURequest.ValueString(), CPULimit: p.CPULimit.ValueString(),
			MemoryRequest: p.MemoryRequest.ValueString(), MemoryLimit: p.MemoryLimit.ValueString(),
		}
	}
	s.Values = parsedValues(ctx, m.Values, path.Root("values"), linkerd.CheckValues, diags)
	return s
}

func (m *linkerdModel) webhookChecks(now time.Time) linkerd.WebhookChecks {
	return linkerd.WebhookChecks{Early: duration(m.WebhookEarlyRenewal, linkerd.DefaultWebhookEarlyRenewal), Now: now}
}

// observe fills in what the cluster shows, as far as it is known.
func (m *linkerdModel) observe(ctx context.Context, found linkerd.Installed, diags *diag.Diagnostics) {
	m.ID = m.Namespace
	m.AppVersion = types.StringValue(found.AppVersion)
	m.ValuesDigest = types.StringValue(found.ValuesDigest)
	m.Webhooks = webhooksList(ctx, found.Webhooks, diags)
	m.WebhooksValidUntil = types.StringValue(firstEnd(found.Webhooks))
	m.Drift = notesList(ctx, found.Drift, nil, diags)
}

func (r *linkerdResource) installer(ctx context.Context, cluster *kube.Cluster, diags *diag.Diagnostics) (linkerd.Installer, bool) {
	charts, ok := r.charts(ctx, cluster, diags)
	return r.installerOf(charts), ok
}

func (r *linkerdResource) installerOf(charts install.Charts) linkerd.Installer {
	return linkerd.Installer{Charts: charts, Manifests: r.session.manifests}
}

func (r *linkerdResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var values types.List
	var issuer, namespace types.String
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("values"), &values)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("issuer_id"), &issuer)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("namespace"), &namespace)...)
	parsedValues(ctx, values, path.Root("values"), linkerd.CheckValues, &resp.Diagnostics)
	validateCNI(ctx, req.Config, &resp.Diagnostics)
	checkIssuerID(issuer, "linkerd", namespace, linkerd.DefaultNamespace, path.Root("issuer_id"), &resp.Diagnostics)
}

// ModifyPlan promises a Linkerd without drift, keeps what an unchanged
// configuration leaves as it is, and tells what is going to change.
func (r *linkerdResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		var model linkerdModel
		resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
		r.warnOfRemoval(ctx, &model, &resp.Diagnostics)
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("drift"), noDrift())...)
	settle(ctx, req, resp, path.Root("changes"), path.Root("app_version"), path.Root("values_sha256"), path.Root("webhooks"), path.Root("webhooks_valid_until"))
	r.warnOfWebhooks(ctx, req, resp)
	r.lookAhead(ctx, req, resp)
}

func (r *linkerdResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model linkerdModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	resumed, err := installer.Resumable(ctx, model.Namespace.ValueString())
	if err != nil {
		problemExists(&resp.Diagnostics, "Unable to Install Linkerd", err, model.Namespace.ValueString())
		return
	}
	prepared := r.prepare(ctx, installer, &model, "", "Unable to Install Linkerd", &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if resumed {
		warnAdopted(&resp.Diagnostics, "Linkerd in namespace "+model.Namespace.ValueString())
	}
	r.apply(ctx, installer, prepared, &model, &resp.Diagnostics)
	if model.ID.IsUnknown() {
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// prepare does what can fail before anything is changed, tells which attribute
// is at fault, and takes down what is going to change if the plan could not.
func (r *linkerdResource) prepare(ctx context.Context, installer linkerd.Installer, model *linkerdModel, formerCNI, summary string, diags *diag.Diagnostics) *linkerd.Prepared {
	specification := model.specification(ctx, r.session.time(), diags)
	if diags.HasError() {
		return nil
	}
	specification.FormerCNI = formerCNI
	prepared, err := installer.Prepare(ctx, specification)
	if err != nil {
		problemLinkerd(diags, summary, err)
		return nil
	}
	found, err := installer.Foresee(ctx, prepared)
	if err != nil {
		problemLinkerd(diags, summary, err)
		return nil
	}
	if model.Changes.IsUnknown() {
		model.Changes = changesList(ctx, found.Changes, diags)
	}
	return prepared
}

// apply brings the cluster to what was prepared and takes down what is there
// then; the model keeps an unknown ID if nothing is.
func (r *linkerdResource) apply(ctx context.Context, installer linkerd.Installer, prepared *linkerd.Prepared, model *linkerdModel, diags *diag.Diagnostics) {
	applied := installer.Apply(ctx, prepared)
	recordInstall(ctx, "Linkerd", applied, func(ctx context.Context) error {
		found, err := installer.Observe(ctx, model.observation(ctx, r.session.time(), diags))
		if err != nil {
			return err
		}
		if applied == nil {
			// The plan has promised none; what has changed since is for the next one.
			found.Drift = nil
		}
		model.observe(ctx, found, diags)
		return nil
	}, func(drift string) { model.observe(ctx, linkerd.Installed{Drift: []string{drift}}, diags) }, diags)
}

func (r *linkerdResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model linkerdModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	model.complete()
	imported := model.IssuerID.IsNull()
	if imported {
		r.importCNI(ctx, installer, &model, &resp.Diagnostics)
	}
	found, err := installer.Observe(ctx, model.observation(ctx, r.session.time(), &resp.Diagnostics))
	if errors.Is(err, helm.ErrReleaseNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Linkerd", err)
		return
	}
	if imported && found.Version == "" {
		// CRDs alone are no Linkerd to import.
		forget(ctx, resp, model.ID)
		return
	}
	for _, what := range found.Hidden {
		resp.Diagnostics.AddWarning("Certificates of Linkerd's Extension Not Seen", fmt.Sprintf(
			"These credentials may not look at the certificates of linkerd-viz, so nobody renews them: %s.", what))
	}
	compareValues(model.ValuesDigest, &found.ValuesDigest, &found.Drift, "the values of release linkerd-control-plane are not those that were applied")
	if found.Version != "" {
		model.Version = types.StringValue(found.Version)
	}
	if imported {
		model.imported(found)
	}
	model.observe(ctx, found, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// complete fills in what an import, or a state of an earlier version, leaves null.
func (m *linkerdModel) complete() {
	m.Namespace = m.ID
	setWhenNull(&m.WebhookEarlyRenewal, plainDuration(linkerd.DefaultWebhookEarlyRenewal))
	setWhenNull(&m.DriftDetection, detectObjects)
	if m.Atomic.IsNull() {
		m.Atomic = types.BoolValue(false)
	}
	if m.Changes.IsNull() {
		m.Changes = noDrift()
	}
}

// importCNI finds the CNI plugin of a Linkerd of which only the namespace is known.
func (r *linkerdResource) importCNI(ctx context.Context, installer linkerd.Installer, model *linkerdModel, diags *diag.Diagnostics) {
	namespace, err := installer.Imported(ctx, model.ID.ValueString())
	switch {
	case errors.Is(err, mesh.ErrNoControlPlane):
	case err != nil:
		problem(diags, "Unable to Read Linkerd", err)
	case namespace != "":
		model.CNI = objectFrom(ctx, cniTypes, cniModel{Namespace: types.StringValue(namespace), Values: types.ListNull(types.StringType)}, diags)
	}
}

// imported fills in the settings of a Linkerd of which only the namespace is
// known. Where its charts came from, it does not tell.
func (m *linkerdModel) imported(found linkerd.Installed) {
	m.IssuerID = types.StringValue(trust.IssuerRef{Mesh: "linkerd", Namespace: m.Namespace.ValueString()}.String())
	m.HighAvailability = types.BoolValue(found.HighAvailability)
	m.Heartbeat = types.BoolValue(found.Heartbeat)
	m.DeleteCRDs = types.BoolValue(false)
	setWhenNull(&m.Repository, linkerd.EdgeRepository)
}

func (r *linkerdResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state linkerdModel
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
	prepared := r.prepare(ctx, installer, &model, state.cniNamespace(ctx, &resp.Diagnostics), "Unable to Update Linkerd", &resp.Diagnostics)
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

func (r *linkerdResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model linkerdModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	if err := installer.Uninstall(ctx, model.removal(ctx, &resp.Diagnostics)); err != nil {
		problem(&resp.Diagnostics, "Unable to Uninstall Linkerd", err)
	}
}

// checkIssuerID refuses an issuer that is for another mesh or namespace.
func checkIssuerID(id types.String, meshName string, namespace types.String, defaultNamespace string, at path.Path, diags *diag.Diagnostics) {
	if id.IsNull() || id.IsUnknown() {
		return
	}
	ref, err := trust.ParseIssuerRef(id.ValueString())
	if err != nil {
		problemAt(diags, at, "Invalid Issuer ID", err)
		return
	}
	want := defaultNamespace
	if !namespace.IsNull() {
		want = namespace.ValueString()
	}
	if ref.Mesh != meshName || (!namespace.IsUnknown() && ref.Namespace != want) {
		diags.AddAttributeError(at, "Issuer of Another Control Plane", fmt.Sprintf(
			"%s: the issuer %q writes its Secret for %s in namespace %s, but this is %s in namespace %s. Set mesh and namespace of the aksmesh_issuer accordingly.",
			at, ref, ref.Mesh, ref.Namespace, meshName, want))
	}
}

// problemExists explains that Create found somebody else's installation.
func problemExists(diags *diag.Diagnostics, summary string, err error, importID string) {
	if errors.Is(err, install.ErrForeign) {
		diags.AddError(summary, fmt.Sprintf("%s To bring it under management, run `terraform import <address> %s`.", sentence(err), importID))
		return
	}
	problem(diags, summary, err)
}

// problemInstall attaches errors that an attribute has caused to it.
func problemInstall(diags *diag.Diagnostics, summary string, err error) {
	var version *helm.UnknownVersionError
	var chart *helm.UnknownChartError
	var unreachable *helm.UnreachableError
	var unauthorized *helm.UnauthorizedError
	switch {
	case err == nil:
	case errors.As(err, &version):
		problemAt(diags, path.Root("version"), summary, err)
	case errors.As(err, &chart), errors.As(err, &unreachable), errors.As(err, &unauthorized):
		problemAt(diags, path.Root("repository"), summary, err)
	default:
		problem(diags, summary, err)
	}
}

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
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var _ meshResource = (*trustAnchorResource)(nil)

var _ resource.ResourceWithValidateConfig = (*trustAnchorResource)(nil)

type trustAnchorResource struct{ resourceBase }

func newTrustAnchorResource() resource.Resource {
	return &trustAnchorResource{resourceBase{noun: "trust_anchor", identity: "`<namespace>/<name>` of the trust anchor."}}
}

func (r *trustAnchorResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A root certificate authority that meshed pods trust: an ECDSA P-256 key and a self-signed certificate.\n\n" +
			"The private key is made in the provider's memory and kept in one Kubernetes Secret, `aksmesh-trust-anchor-<name>`; " +
			"it is never in Terraform's state, plan or logs. Whoever may read Secrets in `namespace` can mint identities for the mesh, " +
			"so keep that namespace to yourself. Destroying the anchor destroys its key.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>`."),
			"name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("default"),
				MarkdownDescription: "Name of the anchor, part of its Secret's name. Default `default`. Changing it makes a new anchor.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(trust.DefaultNamespace),
				MarkdownDescription: "Namespace that keeps the Secret; created if absent, and then deleted with the last anchor in it. Default `" + trust.DefaultNamespace + "`. Changing it makes a new anchor.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"common_name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(pki.DefaultAnchorCommonName),
				MarkdownDescription: "Common name of the certificate; no mesh checks it. Default `" + pki.DefaultAnchorCommonName + "`. Changing it makes a new anchor.",
				Validators:          []validator.String{stringvalidator.LengthBetween(1, 64)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"validity": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultAnchorValidity)),
				MarkdownDescription: "How long the certificate is valid, as a Go duration. Default `87600h`, ten years. Changing it makes a new anchor.",
				Validators:          []validator.String{goDuration(time.Hour, 30*8760*time.Hour)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultEarlyRenewal)),
				MarkdownDescription: "How long before its expiry the anchor becomes `ready_for_renewal`, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn.",
				Validators:          []validator.String{goDuration(0, 30*8760*time.Hour)},
			},
			"bundle_pem":         computedString("PEM bundle of every anchor that meshed pods have to trust: blocks separated by one newline, none at the end."),
			"certificate_pem":    computedString("PEM certificate of the anchor."),
			"fingerprint_sha256": computedString("SHA-256 of the certificate in DER form, in lower-case hexadecimal digits."),
			"not_before":         computedString("Begin of the certificate's validity, RFC 3339."),
			"not_after":          computedString("End of the certificate's validity, RFC 3339."),
			"ready_for_renewal":  computedBool("Whether the anchor is within `early_renewal` of its expiry. A plan warns from then on."),
			"timeouts":           timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type trustAnchorModel struct {
	commonModel
	Name            types.String `tfsdk:"name"`
	Namespace       types.String `tfsdk:"namespace"`
	CommonName      types.String `tfsdk:"common_name"`
	Validity        types.String `tfsdk:"validity"`
	EarlyRenewal    types.String `tfsdk:"early_renewal"`
	BundlePEM       types.String `tfsdk:"bundle_pem"`
	CertificatePEM  types.String `tfsdk:"certificate_pem"`
	Fingerprint     types.String `tfsdk:"fingerprint_sha256"`
	NotBefore       types.String `tfsdk:"not_before"`
	NotAfter        types.String `tfsdk:"not_after"`
	ReadyForRenewal types.Bool   `tfsdk:"ready_for_renewal"`
}

func (m *trustAnchorModel) ref() trust.AnchorRef {
	return trust.AnchorRef{Namespace: m.Namespace.ValueString(), Name: m.Name.ValueString()}
}

// observe fills in what the cluster's certificate tells.
func (m *trustAnchorModel) observe(anchor *pki.KeyPair, now time.Time) {
	cert := anchor.Certificate()
	m.ID = types.StringValue(m.ref().String())
	m.CommonName = types.StringValue(cert.Subject.CommonName)
	m.CertificatePEM = types.StringValue(string(anchor.CertificatePEM()))
	m.BundlePEM = types.StringValue(string(pki.NewBundle(cert).PEM()))
	m.Fingerprint = types.StringValue(pki.Fingerprint(cert))
	m.NotBefore = types.StringValue(cert.NotBefore.Format(time.RFC3339))
	m.NotAfter = types.StringValue(cert.NotAfter.Format(time.RFC3339))
	m.ReadyForRenewal = types.BoolValue(pki.RenewalDue(cert.NotAfter, duration(m.EarlyRenewal, pki.DefaultEarlyRenewal), now))
}

func (r *trustAnchorResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model trustAnchorModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if !resp.Diagnostics.HasError() {
		validateRenewal(model.Validity, pki.DefaultAnchorValidity, model.EarlyRenewal, &resp.Diagnostics)
	}
}

// ModifyPlan keeps what stays true and warns of an anchor that nears its end.
func (r *trustAnchorResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() || req.State.Raw.IsNull() {
		return
	}
	var state, plan trustAnchorModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	plan.ID, plan.BundlePEM, plan.CertificatePEM, plan.Fingerprint = state.ID, state.BundlePEM, state.CertificatePEM, state.Fingerprint
	plan.NotBefore, plan.NotAfter = state.NotBefore, state.NotAfter
	if notAfter, err := time.Parse(time.RFC3339, state.NotAfter.ValueString()); err == nil {
		// Kept when early_renewal is as it was: whether it is due changes with
		// the clock between plan and apply, and the plan has promised a value.
		plan.ReadyForRenewal = state.ReadyForRenewal
		if !plan.EarlyRenewal.Equal(state.EarlyRenewal) {
			plan.ReadyForRenewal = types.BoolUnknown()
		}
		if !plan.EarlyRenewal.IsUnknown() && pki.RenewalDue(notAfter, duration(plan.EarlyRenewal, pki.DefaultEarlyRenewal), r.session.time()) {
			resp.Diagnostics.AddWarning("Trust Anchor Near Its End", fmt.Sprintf(
				"The trust anchor %s is valid until %s. Every certificate of the mesh ends with it. Add a second anchor to the bundle and move the issuers to it before then.",
				state.ID.ValueString(), state.NotAfter.ValueString()))
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

func (r *trustAnchorResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model trustAnchorModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}

	anchor, adopted, err := trust.CreateAnchor(ctx, cluster, model.ref(), pki.AuthorityOptions{
		Subject:  pki.Subject{CommonName: model.CommonName.ValueString()},
		Now:      r.session.time(),
		Validity: duration(model.Validity, pki.DefaultAnchorValidity),
	})
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Create Trust Anchor", err)
		return
	}
	if adopted {
		warnAdopted(&resp.Diagnostics, "trust anchor "+model.ref().String())
	}
	model.observe(anchor, r.session.time())
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *trustAnchorResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model trustAnchorModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}

	ref, err := trust.ParseAnchorRef(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Trust Anchor ID", err)
		return
	}
	anchor, err := trust.ReadAnchor(ctx, cluster, ref)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Trust Anchor", err)
		return
	}
	model.Namespace, model.Name = types.StringValue(ref.Namespace), types.StringValue(ref.Name)
	cert := anchor.Certificate()
	setWhenNull(&model.Validity, plainDuration(cert.NotAfter.Sub(cert.NotBefore)-pki.Backdate))
	setWhenNull(&model.EarlyRenewal, plainDuration(pki.DefaultEarlyRenewal))
	model.observe(anchor, r.session.time())
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// Update changes nothing in the cluster: only early_renewal and the timeouts
// can differ, and they are the provider's own.
func (r *trustAnchorResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model trustAnchorModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if notAfter, err := time.Parse(time.RFC3339, model.NotAfter.ValueString()); err == nil && model.ReadyForRenewal.IsUnknown() {
		model.ReadyForRenewal = types.BoolValue(pki.RenewalDue(notAfter, duration(model.EarlyRenewal, pki.DefaultEarlyRenewal), r.session.time()))
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *trustAnchorResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model trustAnchorModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := trust.DeleteAnchor(ctx, cluster, model.ref()); err != nil {
		problem(&resp.Diagnostics, "Unable to Delete Trust Anchor", err)
	}
}

// plannedAnchor is what a plan makes of a trust anchor, for resources that are
// planned after it: much of what the anchor will be is unknown to their
// configurations then. It is there for warnings and refusals only, never for
// planned values: an apply plans anew, without the anchors that stay as they are.
type plannedAnchor struct {
	algorithm pki.Algorithm // of the key that it will have; empty while unknown
	rotating  bool          // whether the apply gives it a new key and certificate
}

// plannedAnchor returns what the plan makes of an anchor of this provider, if it
// has got there.
func (s *session) plannedAnchor(id string) (plannedAnchor, bool) {
	if s == nil {
		return plannedAnchor{}, false
	}
	value, _ := s.anchors.Load(id)
	planned, ok := value.(plannedAnchor)
	return planned, ok
}

// validateRenewal refuses an early renewal as long as the validity: the
// certificate would be due again as soon as it is made.
func validateRenewal(validity types.String, defaultValidity time.Duration, early types.String, diags *diag.Diagnostics) {
	if validity.IsUnknown() || early.IsUnknown() {
		return
	}
	if err := pki.CheckRenewal(duration(validity, defaultValidity), duration(early, pki.DefaultEarlyRenewal)); err != nil {
		diags.AddAttributeError(path.Root("early_renewal"), "Invalid Early Renewal", sentence(err)+" Make early_renewal shorter than validity.")
	}
}

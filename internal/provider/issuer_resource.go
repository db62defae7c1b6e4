package provider

import (
	"context"
	"crypto/x509"
	"errors"
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

var _ meshResource = (*issuerResource)(nil)

var _ resource.ResourceWithValidateConfig = (*issuerResource)(nil)

type issuerResource struct{ resourceBase }

func newIssuerResource() resource.Resource {
	return &issuerResource{resourceBase{noun: "issuer", identity: "`<mesh>/<namespace>` of the issuer."}}
}

func (r *issuerResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "The intermediate certificate authority that signs the identities of a mesh's pods: an ECDSA P-256 key with a " +
			"certificate of path length 0, signed by an `aksmesh_trust_anchor`.\n\n" +
			"It is written straight into the Secret that the mesh reads (`linkerd-identity-issuer` or `cacerts`), so its private key is neither " +
			"in Terraform's state nor in Helm's values. Within `early_renewal` of its expiry the next plan shows its renewal and the apply " +
			"replaces it in place; both meshes pick the new one up without a restart.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<mesh>/<namespace>`."),
			"trust_anchor_id": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "ID of the `aksmesh_trust_anchor` that signs. Changing it makes a new issuer at once, which every meshed pod must already trust.",
			},
			"trust_bundle_pem": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "PEM bundle of the anchors that the mesh is to trust: `bundle_pem` of the `aksmesh_trust_anchor`. " +
					"It is published beside the issuer, for Linkerd in the ConfigMap `linkerd-identity-trust-roots`.",
				Validators: []validator.String{trustBundle(func(*x509.Certificate) error { return nil })},
			},
			"mesh": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "The mesh it serves: `linkerd` or `istio`. Changing it makes a new issuer.",
				Validators:          []validator.String{stringvalidator.OneOf(trust.Meshes()...)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Namespace of the mesh's control plane; created if absent, with the labels that the mesh wants. Default `linkerd` or `istio-system`. Changing it makes a new issuer.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"common_name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(pki.DefaultIssuerCommonName),
				MarkdownDescription: "Common name of the certificate; no mesh checks it. Default `" + pki.DefaultIssuerCommonName + "`. Changing it renews the issuer in place.",
				Validators:          []validator.String{stringvalidator.LengthBetween(1, 64)},
			},
			"validity": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultIssuerValidity)),
				MarkdownDescription: "How long the certificate is valid, as a Go duration; never longer than its anchor. Default `8760h`, one year. Changing it renews the issuer in place.",
				Validators:          []validator.String{goDuration(time.Hour, 30*8760*time.Hour)},
			},
			"early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultEarlyRenewal)),
				MarkdownDescription: "How long before its expiry the issuer is renewed by the next apply, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn.",
				Validators:          []validator.String{goDuration(0, 30*8760*time.Hour)},
			},
			"secret_name":        computedString("Name of the Secret that the mesh reads."),
			"certificate_pem":    computedString("PEM certificate of the issuer."),
			"fingerprint_sha256": computedString("SHA-256 of the certificate in DER form, in lower-case hexadecimal digits."),
			"not_before":         computedString("Begin of the certificate's validity, RFC 3339."),
			"not_after":          computedString("End of the certificate's validity, RFC 3339."),
			"renewal": computedString("Why the issuer has to be renewed: it nears its end, or what is in the cluster is not what it should be. " +
				"Empty when nothing is due; a plan that empties it renews the issuer."),
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type issuerModel struct {
	commonModel
	TrustAnchorID  types.String `tfsdk:"trust_anchor_id"`
	TrustBundlePEM types.String `tfsdk:"trust_bundle_pem"`
	Mesh           types.String `tfsdk:"mesh"`
	Namespace      types.String `tfsdk:"namespace"`
	CommonName     types.String `tfsdk:"common_name"`
	Validity       types.String `tfsdk:"validity"`
	EarlyRenewal   types.String `tfsdk:"early_renewal"`
	SecretName     types.String `tfsdk:"secret_name"`
	CertificatePEM types.String `tfsdk:"certificate_pem"`
	Fingerprint    types.String `tfsdk:"fingerprint_sha256"`
	NotBefore      types.String `tfsdk:"not_before"`
	NotAfter       types.String `tfsdk:"not_after"`
	Renewal        types.String `tfsdk:"renewal"`
}

func (m *issuerModel) ref() trust.IssuerRef {
	return trust.IssuerRef{Mesh: m.Mesh.ValueString(), Namespace: m.Namespace.ValueString()}
}

func (m *issuerModel) options(now time.Time) pki.AuthorityOptions {
	return pki.AuthorityOptions{Subject: pki.Subject{CommonName: m.CommonName.ValueString()}, Now: now, Validity: duration(m.Validity, pki.DefaultIssuerValidity)}
}

// observe fills in what the certificate in the cluster tells.
func (m *issuerModel) observe(issuer *pki.KeyPair) {
	cert := issuer.Certificate()
	m.ID = types.StringValue(m.ref().String())
	m.SecretName = types.StringValue(m.ref().Secret().Name)
	m.CertificatePEM = types.StringValue(string(issuer.CertificatePEM()))
	m.Fingerprint = types.StringValue(pki.Fingerprint(cert))
	m.NotBefore = types.StringValue(cert.NotBefore.Format(time.RFC3339))
	m.NotAfter = types.StringValue(cert.NotAfter.Format(time.RFC3339))
}

func (r *issuerResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model issuerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	validateRenewal(model.Validity, pki.DefaultIssuerValidity, model.EarlyRenewal, &resp.Diagnostics)
	if id := model.TrustAnchorID; !id.IsUnknown() && !id.IsNull() {
		if _, err := trust.ParseAnchorRef(id.ValueString()); err != nil {
			problemAt(&resp.Diagnostics, path.Root("trust_anchor_id"), "Invalid Trust Anchor ID", err)
		}
	}
}

// ModifyPlan plans a renewal exactly when one is due: by time, by what was
// found in the cluster, or by settings that only a new certificate can take.
func (r *issuerResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan issuerModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if plan.Namespace.IsUnknown() && !plan.Mesh.IsUnknown() {
		var configured types.String
		resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("namespace"), &configured)...)
		if configured.IsNull() {
			plan.Namespace = types.StringValue(trust.ControlPlaneNamespace(plan.Mesh.ValueString()))
		}
	}
	plan.Renewal = types.StringValue("")
	if !req.State.Raw.IsNull() {
		var state issuerModel
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		if resp.Diagnostics.HasError() {
			return
		}
		renew := state.Renewal.ValueString() != "" ||
			!plan.TrustAnchorID.Equal(state.TrustAnchorID) || !plan.CommonName.Equal(state.CommonName) || !plan.Validity.Equal(state.Validity) ||
			r.dueEarlier(plan, state)
		plan.ID, plan.SecretName = state.ID, state.SecretName
		if renew {
			for _, attribute := range []*types.String{&plan.CertificatePEM, &plan.Fingerprint, &plan.NotBefore, &plan.NotAfter} {
				*attribute = types.StringUnknown()
			}
		} else {
			plan.CertificatePEM, plan.Fingerprint = state.CertificatePEM, state.Fingerprint
			plan.NotBefore, plan.NotAfter = state.NotBefore, state.NotAfter
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// dueEarlier reports whether a changed early_renewal makes the renewal due,
// which Read cannot have known.
func (r *issuerResource) dueEarlier(plan, state issuerModel) bool {
	notAfter, err := time.Parse(time.RFC3339, state.NotAfter.ValueString())
	return err == nil && !plan.EarlyRenewal.Equal(state.EarlyRenewal) &&
		pki.RenewalDue(notAfter, duration(plan.EarlyRenewal, pki.DefaultEarlyRenewal), r.session.time())
}

func (r *issuerResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model issuerModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	keeper, ok := r.keeper(ctx, cluster, &model, &resp.Diagnostics)
	if !ok {
		return
	}
	adopted, err := keeper.Resumable(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Create Issuer", err)
		return
	}
	if adopted {
		warnAdopted(&resp.Diagnostics, "issuer "+model.ref().String())
	}
	standing, err := keeper.Keep(ctx, false)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Create Issuer", err)
		return
	}
	model.observe(standing.Issuer)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *issuerResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model issuerModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	ref, err := trust.ParseIssuerRef(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Issuer ID", err)
		return
	}
	setWhenNull(&model.EarlyRenewal, plainDuration(pki.DefaultEarlyRenewal))
	bundle, err := pki.ParseBundle([]byte(model.TrustBundlePEM.ValueString()))
	if err != nil && !model.TrustBundlePEM.IsNull() {
		problemAt(&resp.Diagnostics, path.Root("trust_bundle_pem"), "Invalid Trust Bundle", err)
		return
	}
	found, err := trust.Keeper{
		Cluster: cluster, Ref: ref, Wanted: bundle, AnchorID: model.TrustAnchorID.ValueString(),
		Options: model.options(r.session.time()), Early: duration(model.EarlyRenewal, pki.DefaultEarlyRenewal),
	}.Look(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Issuer", err)
		return
	}
	model.Mesh, model.Namespace = types.StringValue(ref.Mesh), types.StringValue(ref.Namespace)
	setWhenNull(&model.TrustAnchorID, found.AnchorID)
	setWhenNull(&model.TrustBundlePEM, string(found.Published.PEM()))
	model.Renewal = types.StringValue(found.Renewal)
	if found.Issuer != nil {
		cert := found.Issuer.Certificate()
		setWhenNull(&model.Validity, plainDuration(cert.NotAfter.Sub(cert.NotBefore)-pki.Backdate))
		setWhenNull(&model.CommonName, cert.Subject.CommonName)
		model.observe(found.Issuer)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *issuerResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model issuerModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	keeper, ok := r.keeper(ctx, cluster, &model, &resp.Diagnostics)
	if !ok {
		return
	}
	// A certificate that the plan keeps is known; one to be renewed is not.
	standing, err := keeper.Keep(ctx, model.CertificatePEM.IsUnknown())
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Renew Issuer", err)
		return
	}
	model.observe(standing.Issuer)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// keeper looks after the trust that the model describes.
func (r *issuerResource) keeper(ctx context.Context, cluster *kube.Cluster, model *issuerModel, diags *diag.Diagnostics) (trust.Keeper, bool) {
	anchor, err := trust.ParseAnchorRef(model.TrustAnchorID.ValueString())
	if err != nil {
		problemAt(diags, path.Root("trust_anchor_id"), "Invalid Trust Anchor ID", err)
		return trust.Keeper{}, false
	}
	bundle, err := pki.ParseBundle([]byte(model.TrustBundlePEM.ValueString()))
	if err != nil {
		problemAt(diags, path.Root("trust_bundle_pem"), "Invalid Trust Bundle", err)
		return trust.Keeper{}, false
	}
	signer, err := trust.StoredAnchor(ctx, cluster, anchor)
	if err != nil {
		problemAt(diags, path.Root("trust_anchor_id"), "Unable to Sign", err)
		return trust.Keeper{}, false
	}
	return trust.Keeper{
		Cluster: cluster, Ref: model.ref(), Wanted: bundle, Signer: signer, AnchorID: anchor.String(),
		Options: model.options(r.session.time()), Early: duration(model.EarlyRenewal, pki.DefaultEarlyRenewal),
	}, true
}

func (r *issuerResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model issuerModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := trust.DeleteIssuer(ctx, cluster, model.ref()); err != nil {
		problem(&resp.Diagnostics, "Unable to Delete Issuer", err)
	}
}

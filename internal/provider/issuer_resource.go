package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
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
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
)

var _ meshResource = (*issuerResource)(nil)

var _ resource.ResourceWithValidateConfig = (*issuerResource)(nil)

type issuerResource struct{ resourceBase }

func newIssuerResource() resource.Resource {
	return &issuerResource{resourceBase{
		noun: "issuer", identity: "`<mesh>/<namespace>` of the issuer.",
		changeTimeout: 2 * time.Hour, // A rotation may restart every pod of the mesh.
	}}
}

// The values of `rotation`.
const (
	rotationStaged   = "staged"
	rotationComplete = "complete"
)

func (r *issuerResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	const renews = "Changing it renews the issuer in place."
	sibling := func(name string) path.Expression { return path.MatchRelative().AtParent().AtName(name) }
	secret := func(description string, validators ...validator.String) schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, Sensitive: true, WriteOnly: true, Validators: validators,
			MarkdownDescription: description + " Write-only: it is in neither the plan nor the state. Needs Terraform 1.11.",
		}
	}
	version := func(of string, validators ...validator.String) schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, Validators: validators,
			MarkdownDescription: "Any text to change when " + of + " has changed, which Terraform cannot see by itself.",
		}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The trust of one control plane: the intermediate certificate authority that signs the identities of a mesh's pods, and the trust anchors that they verify one another by.\n\n" +
			"The issuer is written straight into the Secret that the mesh reads (`linkerd-identity-issuer` or `cacerts`), so its private key is neither " +
			"in Terraform's state nor in Helm's values; the anchors are published beside it (for Linkerd in the ConfigMap `linkerd-identity-trust-roots`). " +
			"Within `early_renewal` of its end the next plan shows the renewal of the issuer, and the apply replaces it in place; both meshes pick the new one up, and nothing is restarted.\n\n" +
			"## Rotation\n\n" +
			"When `trust_bundle_pem` changes, or what signs the issuer, the mesh passes from the anchors that it has to those that it is to have, in stages, none of which cuts any two pods off from each other: " +
			"the new anchor is published beside the old one and the control plane restarted; every pod comes to trust it; the issuer is signed by it; every pod comes to present a certificate below it; " +
			"the old anchor is dropped; every pod forgets it. `rotation_steps` lists the stages to come, and a plan that shortens the list does those that it removes.\n\n" +
			"With `rotation = \"staged\"`, one apply does one stage, and waits for pods to come round by themselves where they do, within the 24 hours that their certificates last; `rotation_waits_for` says for what. " +
			"With `\"complete\"`, one apply carries the rotation to its end and restarts pods instead of waiting. An apply that was interrupted, at any point, is continued by the next. " +
			"It starts from what the control plane has, also when that was made by `linkerd install`, step or cert-manager and then imported.\n\n" +
			"If the issuer has expired, mTLS is down: the plan says so, and the apply takes the shortest way back.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<mesh>/<namespace>`."),
			"mesh": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "The mesh it serves: `linkerd` or `istio`. Changing it makes a new issuer.",
				Validators:          []validator.String{stringvalidator.OneOf(trust.Meshes()...)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"namespace": controlPlaneNamespaceAttribute("Changing it makes a new issuer."),
			"trust_bundle_pem": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "PEM bundle of the anchors that the mesh is to trust in the end: `bundle_pem` of the `aksmesh_trust_anchor`. What signs the issuer has to be in it. " +
					"It is published in the form that meshes take. A change of the anchors in it begins a rotation.",
				Validators: []validator.String{trustBundle(anyAnchor)},
			},
			"trust_anchor_id": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "ID of the `aksmesh_trust_anchor` that signs, with its key in a Secret of this cluster. Exactly one of `trust_anchor_id`, `signer` and `certificate` is needed. " +
					"Another anchor than before begins a rotation.",
				Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"signer": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "The key of an anchor that signs as the one in `trust_bundle_pem` that has its public key. It is used during an apply only, never for a plan.",
				Attributes: map[string]schema.Attribute{
					"kms_key_uri": schema.StringAttribute{
						Optional: true, Validators: []validator.String{signingKeyURI()},
						MarkdownDescription: "URI of the key in a key management service, which it never leaves, such as `signing_key_uri` of an `aksmesh_trust_anchor`: " + kmsURIForms + ".",
					},
					"private_key_wo":         secret("The private key in PEM, unencrypted, such as `private_key_pem` of an `aksmesh_trust_anchor` that has it in the state."),
					"private_key_wo_version": version("`private_key_wo`", stringvalidator.AlsoRequires(sibling("private_key_wo"))),
				},
			},
			"certificate": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "An issuer that an authority of your own has made: a certificate authority, of path length 0 if it has one, that leads to an anchor in `trust_bundle_pem`. " +
					"The provider cannot renew it: from `early_renewal` before its end on, every plan warns and shows a change.",
				Attributes: map[string]schema.Attribute{
					"pem":                    optionalText("The certificate in PEM and, behind it, the intermediates that lead to the anchor. Another certificate below the same anchor replaces the issuer in place; one below another anchor begins a rotation."),
					"pem_wo":                 secret("The same as `pem`, where only a write-only argument can take it, as from `ephemeral \"aksmesh_issuer\"` of another cluster. It is taken when an issuer is due, or asked for by `private_key_wo_version` or `renewal_trigger`.", stringvalidator.AlsoRequires(sibling("private_key_wo"))),
					"private_key_wo":         secret("Its private key in PEM, unencrypted: ECDSA or RSA as PKCS#8, PKCS#1 or SEC 1."),
					"private_key_wo_version": version("`private_key_wo` or `pem_wo`", stringvalidator.AlsoRequires(sibling("private_key_wo"))),
					"request_id":             optionalText("ID of the `aksmesh_issuer_request` that the certificate was made of, whose key is in the cluster."),
				},
			},
			"algorithm": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Algorithm of the issuer's key: `ECDSA-P256` (default, and all that Linkerd takes), `ECDSA-P384`, `RSA-2048` or `RSA-4096`. " + renews,
				Validators:          []validator.String{keyAlgorithm()},
			},
			"common_name": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Common name of the certificate; no mesh checks it. Default `" + pki.DefaultIssuerCommonName + "`. " + renews,
				Validators:          []validator.String{stringvalidator.LengthBetween(1, 64)},
			},
			"subject": subjectAttribute(renews),
			"validity": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "How long the certificate is valid, as a Go duration; never longer than its anchor. Default `8760h`, one year. " + renews,
				Validators:          []validator.String{goDuration(time.Hour, 30*8760*time.Hour)},
			},
			"early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultEarlyRenewal)),
				MarkdownDescription: "How long before its end the issuer is renewed by the next apply, and from when on plans warn of what nobody renews, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn. " +
					"It must not exceed that of the trust anchor: an issuer never outlives its anchor, so that another one would gain nothing before the anchor is rotated.",
				Validators: []validator.String{goDuration(0, 30*8760*time.Hour)},
			},
			"renewal_trigger": optionalText("Any text, such as a date. " + renews),
			"rotation": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(rotationStaged),
				MarkdownDescription: "`staged` (default): one apply does one stage of a rotation and waits rather than restarts where it can. `complete`: one apply does all, and restarts what has to be.",
				Validators:          []validator.String{stringvalidator.OneOf(rotationStaged, rotationComplete)},
			},
			"restart": restartAttribute(everywhere()),
			"private_key_in_state": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether `private_key_pem` is kept in the state, for what cannot read the Secret. Default `false`.",
			},
			"secret_name":               computedString("Name of the Secret that the mesh reads."),
			"certificate_pem":           computedString("PEM certificate of the issuer in service."),
			"chain_pem":                 computedString("The certificate and, behind it, the intermediates that lead to its anchor, in PEM."),
			"private_key_pem":           schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "Private key of the issuer in PEM (PKCS#8); null unless `private_key_in_state`."},
			"fingerprint_sha256":        computedString("SHA-256 of the certificate in DER form, in lower-case hexadecimal digits."),
			"anchor_fingerprint_sha256": computedString("The same of the trust anchor that the issuer in service leads to; empty if it leads to none that is trusted."),
			"not_before":                computedString("Begin of the certificate's validity, RFC 3339."),
			"not_after":                 computedString("End of the certificate's validity, RFC 3339."),
			"ready_for_renewal": computedBool("Whether the issuer, or a trust anchor that is not `trust_anchor_id`, is within `early_renewal` of its end. " +
				"While it is, and nothing here can renew it, every plan warns and shows this as a change, so that `plan -detailed-exitcode` tells of it."),
			"renewal": computedString("Why the issuer has to be renewed: it nears its end, or what is in the cluster is not what it should be. " +
				"Empty when nothing is due; a plan that empties it renews the issuer."),
			"rotation_steps": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "The stages of a rotation that are still to come, in order. Empty when every pod trusts `trust_bundle_pem` and nothing else. A plan that shortens it does those that it removes.",
			},
			"rotation_waits_for": computedString("Why the next stage cannot be done now, such as `37 of 41 pods trust …; the others do by …`. Empty if it can."),
			"timeouts":           timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true, CreateDescription: rotationTimeout, UpdateDescription: rotationTimeout}),
		},
	}
}

const rotationTimeout = "How long it may take, as a Go duration. Default `2h`, as a rotation may restart every pod of the mesh."

type issuerModel struct {
	commonModel
	issuerOutputs
	Mesh              types.String `tfsdk:"mesh"`
	Namespace         types.String `tfsdk:"namespace"`
	TrustBundlePEM    types.String `tfsdk:"trust_bundle_pem"`
	TrustAnchorID     types.String `tfsdk:"trust_anchor_id"`
	Signer            types.Object `tfsdk:"signer"`
	Certificate       types.Object `tfsdk:"certificate"`
	Algorithm         types.String `tfsdk:"algorithm"`
	CommonName        types.String `tfsdk:"common_name"`
	Subject           types.Object `tfsdk:"subject"`
	Validity          types.String `tfsdk:"validity"`
	EarlyRenewal      types.String `tfsdk:"early_renewal"`
	RenewalTrigger    types.String `tfsdk:"renewal_trigger"`
	Rotation          types.String `tfsdk:"rotation"`
	Restart           types.Object `tfsdk:"restart"`
	PrivateKeyInState types.Bool   `tfsdk:"private_key_in_state"`
}

// issuerOutputs is what the cluster tells of an issuer.
type issuerOutputs struct {
	SecretName        types.String `tfsdk:"secret_name"`
	CertificatePEM    types.String `tfsdk:"certificate_pem"`
	ChainPEM          types.String `tfsdk:"chain_pem"`
	PrivateKeyPEM     types.String `tfsdk:"private_key_pem"`
	Fingerprint       types.String `tfsdk:"fingerprint_sha256"`
	AnchorFingerprint types.String `tfsdk:"anchor_fingerprint_sha256"`
	NotBefore         types.String `tfsdk:"not_before"`
	NotAfter          types.String `tfsdk:"not_after"`
	ReadyForRenewal   types.Bool   `tfsdk:"ready_for_renewal"`
	Renewal           types.String `tfsdk:"renewal"`
	RotationSteps     types.List   `tfsdk:"rotation_steps"`
	RotationWaitsFor  types.String `tfsdk:"rotation_waits_for"`
}

// ofCertificate are the outputs that another certificate changes.
func (o *issuerOutputs) ofCertificate() []*types.String {
	return []*types.String{&o.CertificatePEM, &o.ChainPEM, &o.Fingerprint, &o.AnchorFingerprint, &o.NotBefore, &o.NotAfter}
}

// settle fills in what a plan has left unknown; what it has told, it has promised.
func (o *issuerOutputs) settle(found issuerOutputs) {
	to := append(o.ofCertificate(), &o.SecretName, &o.PrivateKeyPEM, &o.Renewal, &o.RotationWaitsFor)
	from := append(found.ofCertificate(), &found.SecretName, &found.PrivateKeyPEM, &found.Renewal, &found.RotationWaitsFor)
	for i := range to {
		if to[i].IsUnknown() {
			*to[i] = *from[i]
		}
	}
	if o.ReadyForRenewal.IsUnknown() {
		o.ReadyForRenewal = found.ReadyForRenewal
	}
	if o.RotationSteps.IsUnknown() {
		o.RotationSteps = found.RotationSteps
	}
}

func (m *issuerModel) ref() trust.IssuerRef {
	return trust.IssuerRef{Mesh: m.Mesh.ValueString(), Namespace: m.Namespace.ValueString()}
}

func (m *issuerModel) complete() bool { return m.Rotation.ValueString() == rotationComplete }

func (m *issuerModel) early() time.Duration { return duration(m.EarlyRenewal, pki.DefaultEarlyRenewal) }

// given reports whether the issuer comes from an authority of the user's, and
// lasting whether it is always the same then.
func (m *issuerModel) given() bool { return !m.Certificate.IsNull() }

func (m *issuerModel) lasting() bool {
	pem, ok := m.Certificate.Attributes()["pem"]
	return m.given() && ok && !pem.IsNull()
}

// issuerRecord is what is known of an issuer beside the state: what cannot be told
// from write-only arguments and keys that are not at hand.
type issuerRecord struct {
	// Anchor is the fingerprint of the one that the issuer is to lead to.
	Anchor string `json:"anchor,omitempty"`
	// Blocked tells that a rotation waits for something that somebody has to do.
	Blocked bool `json:"blocked,omitempty"`
	// Renew tells that a renewal was asked for that a rotation has put off.
	Renew bool `json:"renew,omitempty"`
}

// issuerRecordKey is where the record is in the private state.
const issuerRecordKey = "issuer"

func issuerRecordIn(ctx context.Context, private interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}, diags *diag.Diagnostics,
) issuerRecord {
	var record issuerRecord
	text, d := private.GetKey(ctx, issuerRecordKey)
	diags.Append(d...)
	if len(text) > 0 {
		if err := json.Unmarshal(text, &record); err != nil {
			diags.AddError("Invalid Private State", fmt.Sprintf("%v. This is a bug in the provider.", err))
		}
	}
	return record
}

func (record issuerRecord) save(ctx context.Context, private interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}, diags *diag.Diagnostics,
) {
	text, err := json.Marshal(record)
	if err != nil {
		diags.AddError("Invalid Private State", fmt.Sprintf("%v. This is a bug in the provider.", err))
		return
	}
	diags.Append(private.SetKey(ctx, issuerRecordKey, text)...)
}

// keeper looks after the trust that a model wants.
func (r *issuerResource) keeper(ctx context.Context, cluster *kube.Cluster, m *issuerModel, wanted pki.Bundle, signer trust.Signer, diags *diag.Diagnostics) trust.Keeper {
	k := trust.Keeper{
		Cluster: cluster, Ref: m.ref(), Wanted: wanted, Signer: signer, AnchorID: m.TrustAnchorID.ValueString(),
		Options: pki.AuthorityOptions{
			Subject:   subjectOf(ctx, m.CommonName, m.Subject, diags),
			Algorithm: pki.Algorithm(m.Algorithm.ValueString()),
			Now:       r.session.time(),
			Validity:  duration(m.Validity, pki.DefaultIssuerValidity),
		},
		Early:    m.early(),
		Complete: m.complete(),
		Policy:   restartPolicyEverywhere(ctx, m.Restart, diags),
		Log:      func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) },
	}
	if m.lasting() {
		k.Early = 0 // It would be replaced by itself.
	}
	return k
}

// outputs is what a standing tells; where it has no issuer, what was known before.
func (r *issuerResource) outputs(ctx context.Context, before issuerOutputs, m *issuerModel, s trust.Standing, record issuerRecord, diags *diag.Diagnostics) issuerOutputs {
	o := before
	o.SecretName = types.StringValue(m.ref().Secret().Name)
	o.Renewal = types.StringValue(s.Renewal)
	o.RotationSteps = stageList(ctx, s.Stages, diags)
	o.RotationWaitsFor = types.StringValue("")
	if len(s.Stages) > 0 && s.WaitsFor != "" {
		o.RotationWaitsFor = types.StringValue(s.WaitsFor)
	}
	if s.Issuer == nil {
		o.ReadyForRenewal = types.BoolValue(true)
		return o
	}
	cert := s.Issuer.Certificate()
	if given := m.givenChain(); len(given) > 0 && len(s.Stages) == 0 && s.Renewal == "" && !given[0].Equal(cert) {
		o.Renewal = types.StringValue("the issuer in service is not the one that is given")
	}
	o.CertificatePEM = types.StringValue(string(s.Issuer.CertificatePEM()))
	o.ChainPEM = types.StringValue(string(s.Issuer.ChainPEM()))
	o.Fingerprint = types.StringValue(pki.Fingerprint(cert))
	o.NotBefore = types.StringValue(cert.NotBefore.Format(time.RFC3339))
	o.NotAfter = types.StringValue(cert.NotAfter.Format(time.RFC3339))
	o.AnchorFingerprint = types.StringValue(anchorFingerprint(s, r.session.time()))
	o.PrivateKeyPEM = types.StringNull()
	if m.PrivateKeyInState.ValueBool() {
		key, err := s.Issuer.KeyPEM()
		if err != nil {
			problemAt(diags, path.Root("private_key_in_state"), "Unable to Read Private Key", err)
			return o
		}
		o.PrivateKeyPEM = types.StringValue(string(key))
	}
	bundle, _ := pki.ParseBundle([]byte(m.TrustBundlePEM.ValueString())) // It was checked.
	o.ReadyForRenewal = types.BoolValue(len(m.ending(cert, len(s.Stages) > 0, bundle, record, r.session.time())) > 0)
	return o
}

// anchorFingerprint is that of the anchor that the issuer leads to; empty if it
// leads to none that is published.
func anchorFingerprint(s trust.Standing, now time.Time) string {
	chain := s.Issuer.Chain()
	if anchor, err := s.Published.VerifyChain(chain, now); err == nil {
		return pki.Fingerprint(anchor)
	}
	signers, err := s.Published.Signers(chain[len(chain)-1])
	if err != nil {
		return ""
	}
	return pki.Fingerprint(signers[0])
}

func stageList(ctx context.Context, stages []rotation.Stage, diags *diag.Diagnostics) types.List {
	texts := make([]string, len(stages))
	for i, stage := range stages {
		texts[i] = string(stage)
	}
	list, d := types.ListValueFrom(ctx, types.StringType, texts)
	diags.Append(d...)
	return list
}

// noStages is the list of a control plane that has nothing to rotate.
func noStages() types.List { return types.ListValueMust(types.StringType, []attr.Value{}) }

func (r *issuerResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model issuerModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	keeper, ok := r.signing(ctx, cluster, &model, req.Config, &resp.Diagnostics)
	if !ok {
		return
	}
	resumed, err := keeper.Resumable(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Create Issuer", err)
		return
	}
	renew, found := false, trust.Standing{}
	if resumed {
		warnAdopted(&resp.Diagnostics, "issuer "+model.ref().String())
		if found, err = keeper.Look(ctx); err != nil {
			problem(&resp.Diagnostics, "Unable to Create Issuer", err)
			return
		}
		renew = model.madeOtherwise(found.Issuer, keeper.Options)
	}
	standing, err := keeper.Keep(ctx, renew)
	if err != nil {
		// Without state: what has been made is found by the next apply, while a
		// tainted issuer would be destroyed under its mesh.
		problemKeeping(&resp.Diagnostics, "Unable to Create Issuer", standing, err)
		return
	}
	record := recordOf(keeper, standing)
	record.Renew = renew && !model.renewed(standing, pki.Fingerprint(found.Issuer.Certificate()))
	model.ID = types.StringValue(model.ref().String())
	model.settle(r.outputs(ctx, issuerOutputs{}, &model, standing, record, &resp.Diagnostics))
	record.save(ctx, resp.Private, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// madeOtherwise reports whether an issuer that is there was made by other settings.
// One that is given is compared by itself.
func (m *issuerModel) madeOtherwise(issuer *pki.KeyPair, options pki.AuthorityOptions) bool {
	if issuer == nil || m.given() {
		return false
	}
	cert := issuer.Certificate()
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	return err != nil || algorithm != options.Algorithm || pki.SubjectOf(cert) != options.Subject || trust.MadeFor(cert) != options.Validity
}

// recordOf is what is to be known of an issuer until the next apply.
func recordOf(k trust.Keeper, s trust.Standing) issuerRecord {
	return issuerRecord{Anchor: pki.Fingerprint(k.Signer.Anchors()[0]), Blocked: s.Next.Blocked}
}

// problemKeeping says what happened, and how far it has come.
func problemKeeping(diags *diag.Diagnostics, summary string, s trust.Standing, err error) {
	detail := explain(err)
	if len(s.Stages) > 0 {
		detail += fmt.Sprintf("\n\nThe rotation stands before %q: %s. What has been done stays, and the next apply goes on from there.", s.Stages[0], s.Next.Reason)
	}
	diags.AddError(summary, detail)
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
	model.Mesh, model.Namespace = types.StringValue(ref.Mesh), types.StringValue(ref.Namespace)
	record := issuerRecordIn(ctx, req.Private, &resp.Diagnostics)
	wanted, ok := parseBundle(model.TrustBundlePEM, &resp.Diagnostics)
	if !ok {
		return
	}
	imported := model.TrustBundlePEM.IsNull()
	signer := r.watching(ctx, cluster, &model, wanted, record, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	standing, err := r.keeper(ctx, cluster, &model, wanted, signer, &resp.Diagnostics).Look(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Issuer", err)
		return
	}
	if imported {
		if standing.Issuer == nil {
			resp.Diagnostics.AddError("Unable to Import Issuer", sentence(errors.New(standing.Renewal)))
			return
		}
		model.imported(ctx, standing, &resp.Diagnostics)
		// What is wanted is what is there, until a configuration says otherwise.
		signer = r.watching(ctx, cluster, &model, standing.Published, record, &resp.Diagnostics)
		if standing, err = r.keeper(ctx, cluster, &model, standing.Published, signer, &resp.Diagnostics).Look(ctx); err != nil {
			problem(&resp.Diagnostics, "Unable to Read Issuer", err)
			return
		}
	}
	record.Blocked = standing.Next.Blocked
	model.issuerOutputs = r.outputs(ctx, model.issuerOutputs, &model, standing, record, &resp.Diagnostics)
	record.save(ctx, resp.Private, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported fills in the settings of an issuer of which only the ID is known. Who
// has signed it shows only if that is an anchor of this cluster.
func (m *issuerModel) imported(ctx context.Context, s trust.Standing, diags *diag.Diagnostics) {
	cert := s.Issuer.Certificate()
	m.TrustBundlePEM = types.StringValue(string(s.Published.PEM()))
	if s.AnchorID != "" {
		m.TrustAnchorID = types.StringValue(s.AnchorID)
	}
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	if err != nil {
		problem(diags, "Unable to Import Issuer", err)
		return
	}
	m.Algorithm = types.StringValue(string(algorithm))
	subject := pki.SubjectOf(cert)
	m.CommonName = types.StringValue(subject.CommonName)
	m.Subject = subjectFound(ctx, subject, diags)
	m.Validity = types.StringValue(plainDuration(lifeOf(cert)))
	m.EarlyRenewal = types.StringValue(plainDuration(pki.DefaultEarlyRenewal))
	m.Rotation = types.StringValue(rotationStaged)
	m.PrivateKeyInState = types.BoolValue(false)
}

func (r *issuerResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state issuerModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	record := issuerRecordIn(ctx, req.Private, &resp.Diagnostics)
	asked := record.Renew || model.asksForAnother(state)
	if !model.acts(state) {
		// Nothing of the cluster is to change: only what is told of it.
		record.Renew = asked
		r.look(ctx, cluster, &model, record, resp)
		return
	}
	keeper, ok := r.signing(ctx, cluster, &model, req.Config, &resp.Diagnostics)
	if !ok {
		return
	}
	standing, err := keeper.Keep(ctx, asked)
	if blocked := (*trust.BlockedError)(nil); errors.As(err, &blocked) && len(stagesOf(state)) > 0 && model.RotationSteps.Equal(state.RotationSteps) {
		err = nil // The plan has said that it waits, and promised no stage.
	}
	if err != nil {
		problemKeeping(&resp.Diagnostics, "Unable to Update Issuer", standing, err)
		if standing.Stages == nil && standing.Issuer == nil {
			return // Nothing could be seen.
		}
		// The settings stay those of before: those that may not be in force have to
		// be in the next plan again.
		state.issuerOutputs = r.outputs(ctx, state.issuerOutputs, &state, standing, record, &resp.Diagnostics)
		save(ctx, &resp.State, resp.Identity, &state, &resp.Diagnostics)
		return
	}
	before := state.Fingerprint.ValueString()
	record = recordOf(keeper, standing)
	record.Renew = asked && !model.renewed(standing, before)
	model.settle(r.outputs(ctx, state.issuerOutputs, &model, standing, record, &resp.Diagnostics))
	record.save(ctx, resp.Private, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// renewed reports whether the issuer in service is another than before, or the one
// that was given.
func (m *issuerModel) renewed(s trust.Standing, before string) bool {
	if s.Issuer == nil {
		return false
	}
	fingerprint := pki.Fingerprint(s.Issuer.Certificate())
	chain := m.givenChain()
	return fingerprint != before || len(chain) > 0 && pki.Fingerprint(chain[0]) == fingerprint
}

// look fills in what a plan has left unknown without changing anything.
func (r *issuerResource) look(ctx context.Context, cluster *kube.Cluster, model *issuerModel, record issuerRecord, resp *resource.UpdateResponse) {
	wanted, ok := parseBundle(model.TrustBundlePEM, &resp.Diagnostics)
	if !ok {
		return
	}
	signer := r.watching(ctx, cluster, model, wanted, record, &resp.Diagnostics)
	standing, err := r.keeper(ctx, cluster, model, wanted, signer, &resp.Diagnostics).Look(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Issuer", err)
		return
	}
	record.Blocked = standing.Next.Blocked
	model.settle(r.outputs(ctx, model.issuerOutputs, model, standing, record, &resp.Diagnostics))
	record.save(ctx, resp.Private, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, model, &resp.Diagnostics)
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

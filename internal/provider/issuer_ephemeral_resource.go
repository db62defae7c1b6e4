package provider

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var (
	_ ephemeral.EphemeralResourceWithConfigure      = (*issuerEphemeralResource)(nil)
	_ ephemeral.EphemeralResourceWithValidateConfig = (*issuerEphemeralResource)(nil)
)

type issuerEphemeralResource struct{ session *session }

func newIssuerEphemeralResource() ephemeral.EphemeralResource { return &issuerEphemeralResource{} }

func (r *issuerEphemeralResource) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_issuer"
}

func (r *issuerEphemeralResource) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	r.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (r *issuerEphemeralResource) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	text := func(description string, validators ...validator.String) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: append(validators, stringvalidator.LengthAtLeast(1))}
	}
	computed := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	subject := map[string]schema.Attribute{}
	for name, description := range subjectDescriptions() {
		subject[name] = text(description)
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "An issuer that is handed to something else and kept nowhere: neither in the state or the plan, nor in any cluster. " +
			"It feeds write-only arguments, such as `data_wo` of a Kubernetes Secret that another tool reads, or `certificate` of an `aksmesh_issuer` in another cluster " +
			"whose control plane is to share the trust anchor of this one.\n\n" +
			"Every run of Terraform, be it a plan or an apply, makes another issuer with another key as soon as its arguments are known; what takes it decides by its own version argument " +
			"when it is written. To control planes in the cluster of the provider an `aksmesh_issuer` resource gives theirs. Needs Terraform 1.10, write-only arguments 1.11.\n\n" +
			"As the Secret of another tool:\n\n" +
			"```terraform\n" +
			"resource \"kubernetes_secret_v1\" \"intermediate\" {\n" +
			"  metadata {\n" +
			"    name      = \"intermediate\"\n" +
			"    namespace = \"tools\"\n" +
			"  }\n" +
			"  data_wo = {\n" +
			"    \"tls.crt\" = ephemeral.aksmesh_issuer.vault.chain_pem\n" +
			"    \"tls.key\" = ephemeral.aksmesh_issuer.vault.private_key_pem\n" +
			"    \"ca.crt\"  = ephemeral.aksmesh_issuer.vault.bundle_pem\n" +
			"  }\n" +
			"  data_wo_revision = 1\n" +
			"}\n" +
			"```",
		Attributes: map[string]schema.Attribute{
			"trust_anchor_id": text("ID of the `aksmesh_trust_anchor` that signs, with its key in a Secret of the cluster. Exactly one of `trust_anchor_id` and `signer` is needed."),
			"signer": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "The key of an anchor in `trust_bundle_pem`. No cluster is needed then.",
				Attributes: map[string]schema.Attribute{
					"kms_key_uri": text("URI of the key in a key management service: "+kmsURIForms+".", signingKeyURI()),
					"private_key": schema.StringAttribute{Optional: true, Sensitive: true, MarkdownDescription: "Private key in PEM, unencrypted."},
				},
			},
			"trust_bundle_pem": text("PEM bundle of the trust anchors. Needed with `signer`, which signs as the one of them that has its public key. With `trust_anchor_id`, its present certificate by default. "+
				"Pass `bundle_pem` of the `aksmesh_trust_anchor` where that is made in the same apply: the issuer is then made after it.",
				trustBundle(anyAnchor)),
			"common_name": text("Common name of the certificate; no mesh checks it. Default `"+pki.DefaultIssuerCommonName+"`.", stringvalidator.LengthAtMost(64)),
			"subject":     schema.SingleNestedAttribute{Optional: true, Attributes: subject, MarkdownDescription: "The subject of the certificate beside its common name; no mesh checks it."},
			"algorithm":   text("Algorithm of the key: `ECDSA-P256` (default, and all that Linkerd takes of issuers), `ECDSA-P384`, `RSA-2048` or `RSA-4096`.", keyAlgorithm()),
			"validity": text("How long the certificate is valid, as a Go duration; never longer than its anchor. Default `8760h`, one year, as of the resource: whatever takes it "+
				"is written rarely, and a mesh whose issuer ends is down. Choose less where every run hands it on.", goDuration(time.Hour, 30*8760*time.Hour)),
			"certificate_pem": computed("PEM certificate of the issuer."),
			"chain_pem":       computed("PEM certificate of the issuer and, behind it, of the intermediates that lead to its anchor; there are none unless its anchor is no root."),
			"private_key_pem": schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: "Private key of the issuer in PEM (PKCS#8)."},
			"bundle_pem":      computed("PEM bundle of the trust anchors, in the form that meshes take: blocks separated by one newline, none at the end."),
			"not_after":       computed("End of the certificate's validity, RFC 3339."),
		},
	}
}

type issuerEphemeralModel struct {
	TrustAnchorID  types.String `tfsdk:"trust_anchor_id"`
	Signer         types.Object `tfsdk:"signer"`
	TrustBundlePEM types.String `tfsdk:"trust_bundle_pem"`
	CommonName     types.String `tfsdk:"common_name"`
	Subject        types.Object `tfsdk:"subject"`
	Algorithm      types.String `tfsdk:"algorithm"`
	Validity       types.String `tfsdk:"validity"`
	CertificatePEM types.String `tfsdk:"certificate_pem"`
	ChainPEM       types.String `tfsdk:"chain_pem"`
	PrivateKeyPEM  types.String `tfsdk:"private_key_pem"`
	BundlePEM      types.String `tfsdk:"bundle_pem"`
	NotAfter       types.String `tfsdk:"not_after"`
}

type ephemeralSignerModel struct {
	KMSKeyURI  types.String `tfsdk:"kms_key_uri"`
	PrivateKey types.String `tfsdk:"private_key"`
}

func (r *issuerEphemeralResource) ValidateConfig(ctx context.Context, req ephemeral.ValidateConfigRequest, resp *ephemeral.ValidateConfigResponse) {
	var config issuerEphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	checkAnchorID(config.TrustAnchorID, &resp.Diagnostics)
	checkSubject(ctx, config.CommonName, config.Subject, &resp.Diagnostics)
	exactlyOneOf(path.Empty(), []string{"trust_anchor_id", "signer"}, []attr.Value{config.TrustAnchorID, config.Signer}, &resp.Diagnostics)
	if !config.Signer.IsNull() && !config.Signer.IsUnknown() {
		var signer ephemeralSignerModel
		resp.Diagnostics.Append(config.Signer.As(ctx, &signer, objectAsOptions)...)
		exactlyOneOf(path.Root("signer"), []string{"kms_key_uri", "private_key"}, []attr.Value{signer.KMSKeyURI, signer.PrivateKey}, &resp.Diagnostics)
	}
	if !config.Signer.IsNull() && config.TrustBundlePEM.IsNull() {
		problemAt(&resp.Diagnostics, path.Root("trust_bundle_pem"), "Missing Trust Bundle", errors.New("signer signs as the anchor of the bundle that has its public key; give the bundle"))
	}
}

// Open makes an issuer. Terraform opens as soon as the configuration is known,
// while it plans and again while it applies.
func (r *issuerEphemeralResource) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var model issuerEphemeralModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, end := context.WithTimeout(ctx, lookTimeout)
	defer end()
	bundle, ok := parseBundle(model.TrustBundlePEM, &resp.Diagnostics)
	if !ok {
		return
	}
	signer, ok := r.signer(ctx, model, bundle, &resp.Diagnostics)
	if !ok {
		return
	}
	anchor := signer.Anchors()[0]
	switch {
	case model.TrustBundlePEM.IsNull():
		bundle = pki.NewBundle(anchor)
	case !bundle.Contains(anchor):
		problemAt(&resp.Diagnostics, path.Root("trust_bundle_pem"), "Anchor Not Trusted", lacksAnchor(anchor))
		return
	}
	issuer, err := signer.Issuer(anchor, pki.AuthorityOptions{
		Subject:   subjectOf(ctx, model.CommonName, model.Subject, &resp.Diagnostics),
		Algorithm: pki.Algorithm(model.Algorithm.ValueString()),
		Now:       r.session.time(),
		Validity:  duration(model.Validity, pki.DefaultIssuerValidity),
	})
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Make Issuer", err)
		return
	}
	key, err := issuer.KeyPEM()
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Make Issuer", err)
		return
	}
	model.CertificatePEM = types.StringValue(string(issuer.CertificatePEM()))
	model.ChainPEM = types.StringValue(string(issuer.ChainPEM()))
	model.PrivateKeyPEM = types.StringValue(string(key))
	model.BundlePEM = types.StringValue(string(bundle.PEM()))
	model.NotAfter = types.StringValue(issuer.Certificate().NotAfter.Format(time.RFC3339))
	resp.Diagnostics.Append(resp.Result.Set(ctx, &model)...)
}

// signer is what signs, by whichever way the configuration has chosen.
func (r *issuerEphemeralResource) signer(ctx context.Context, model issuerEphemeralModel, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	if !model.TrustAnchorID.IsNull() {
		cluster, ok := r.session.requireCluster(diags)
		if !ok {
			return nil, false
		}
		return storedAnchor(ctx, cluster, model.TrustAnchorID, diags)
	}
	var signer ephemeralSignerModel
	diags.Append(model.Signer.As(ctx, &signer, objectAsOptions)...)
	if diags.HasError() {
		return nil, false
	}
	return signingKey(ctx, r.session.keys(), signer.KMSKeyURI, signer.PrivateKey, "private_key", bundle, diags)
}

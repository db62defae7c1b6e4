package provider

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
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
	replaces := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	const another = "Changing it makes another anchor and destroys this one with its key: set `create_before_destroy` in `lifecycle`, and let the issuers move first."
	resp.Schema = schema.Schema{
		MarkdownDescription: "A root certificate authority that meshed pods trust: a private key, and a self-signed certificate that is made here or given.\n\n" +
			"The key is kept in a Secret of the cluster unless it is to be elsewhere, and is never in Terraform's state, plan or logs unless asked for. " +
			"Before its end the anchor is renewed in place, and every `aksmesh_issuer` below it brings its mesh to the new one without an outage.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>` with `kubernetes_secret`, otherwise `state/<name>` or `kms/<name>`."),
			"name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("default"),
				MarkdownDescription: "Name of the anchor, part of its Secret's name. Default `default`. " + another,
				Validators:          []validator.String{dnsLabel()}, PlanModifiers: replaces,
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(trust.DefaultNamespace),
				MarkdownDescription: "Namespace that keeps the Secret; created if absent, and then deleted with the last anchor in it. Default `" + trust.DefaultNamespace +
					"`. Only with `kubernetes_secret`. " + another,
				Validators: []validator.String{dnsLabel(), stringvalidator.NoneOf(trust.KeptInState, trust.KeptInKMS)}, PlanModifiers: replaces,
			},
			"private_key_storage": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(trust.KeptInCluster),
				MarkdownDescription: "Where the private key is: `kubernetes_secret` (default), `kms` or `state`. " + another,
				Validators:          []validator.String{stringvalidator.OneOf(trust.KeptInCluster, trust.KeptInState, trust.KeptInKMS)}, PlanModifiers: replaces,
			},
			"kms_key_uri": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "The key, with `kms`: `azurekms:name=<key>;vault=<vault>`, or `softkms:path=<directory>/` for tries. " +
					"Each generation gets a new version of it. With a version (`azurekms:name=<key>;vault=<vault>?version=<version>`, `softkms:path=<file>`) that one is used as it is, " +
					"and a rotation needs another URI. " + keyVaultLogin + ". The rights to get, create and sign with keys are needed.",
				Validators: []validator.String{checked{description: "the URI of a key in a KMS", check: kms.CheckURI}},
			},
			"algorithm": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Of the private key: `" + strings.Join(pki.Algorithms(), "`, `") + "`. Default `" + string(pki.AlgorithmECDSAP256) + "`, or that of a key that is there already. Changing it rotates the anchor. " +
					"One that a mesh refuses is found by the first plan with `kubernetes_secret`, otherwise as soon as `bundle_pem` is known.",
				Validators: []validator.String{keyAlgorithm()},
			},
			"common_name": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "Common name of the certificate; no mesh checks it. Default `" + pki.DefaultAnchorCommonName + "`. Changing it rotates the anchor.",
				Validators:          []validator.String{stringvalidator.LengthBetween(1, 64)},
			},
			"subject": subjectAttribute("Changing it rotates the anchor."),
			"validity": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "How long the certificate is valid, as a Go duration. Default `87600h`, ten years. Changing it rotates the anchor.",
				Validators:          []validator.String{goDuration(time.Hour, 30*8760*time.Hour)},
			},
			"early_renewal": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(plainDuration(pki.DefaultEarlyRenewal)),
				MarkdownDescription: "How long before its end the anchor is rotated by the next apply, as a Go duration. Default `1440h`, the 60 days at which `linkerd check` begins to warn.",
				Validators:          []validator.String{goDuration(0, 30*8760*time.Hour)},
			},
			"rotation_trigger": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Any text, such as the `id` of a `time_rotating`. Setting or changing it rotates the anchor; removing it does nothing. " +
					"It is kept in clear, with the Secret too.",
				Validators: []validator.String{stringvalidator.LengthBetween(1, 1024)},
			},
			"certificate_pem": schema.StringAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "PEM certificate of the anchor. Given, it is the anchor: a certificate authority with room for an issuer below it. " +
					"Changing or removing it rotates the anchor, and `algorithm`, `common_name`, `subject`, `validity` and `rotation_trigger` cannot be set beside it.",
				Validators: []validator.String{checked{description: "the PEM certificate of a trust anchor", check: checkAnchorPEM}},
			},
			"private_key_wo": schema.StringAttribute{
				Optional: true, WriteOnly: true, Sensitive: true,
				MarkdownDescription: "PEM private key of the `certificate_pem` given, not encrypted: PKCS#8, PKCS#1 or SEC 1. It is kept where `private_key_storage` says. " +
					"Left out later, the key that is kept stays. Needs Terraform 1.11 or later.",
			},
			"private_key_wo_version": optionalText("Any text to change when `private_key_wo` is to be looked at again though nothing else has changed."),
			"additional_certificates_pem": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Further trust anchors in `bundle_pem`, such as those of other clusters. Each text is PEM with one certificate or several.",
				Validators:          []validator.List{listvalidator.ValueStringsAre(trustBundle(checkAuthority))},
			},
			"bundle_pem":                 computedString("PEM bundle of every anchor that meshed pods have to trust in the end, this one first: blocks separated by one newline, none at the end."),
			"bundle_fingerprints_sha256": schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "The `fingerprint_sha256` of each certificate of `bundle_pem`, in its order."},
			"fingerprint_sha256":         computedString("SHA-256 of the certificate in DER form, in lower-case hexadecimal digits."),
			"previous_certificate_pem": computedString("PEM certificate of the generation before the last rotation. Its key still signs with `kubernetes_secret` only: with `kms` and `state`, " +
				"an issuer below it cannot be renewed before it has moved to the present one, so rotate well before the issuers end."),
			"not_before":        computedString("Begin of the certificate's validity, RFC 3339."),
			"not_after":         computedString("End of the certificate's validity, RFC 3339."),
			"ready_for_renewal": computedBool("Whether the anchor is within `early_renewal` of its end. The next apply rotates it, or, if that is impossible here, every plan warns."),
			"can_sign":          computedBool("Whether the private key is there. Without it the anchor can only be trusted."),
			"signing_key_uri":   computedString("URI of the key version in use, with `kms`."),
			"private_key_pem": schema.StringAttribute{
				Computed: true, Sensitive: true,
				MarkdownDescription: "The private key as PKCS#8 PEM, with `state` only.",
			},
			"drift":    driftAttribute("the Secret's certificate, key, labels and annotations"),
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// checkAnchorPEM tells whether a text is a certificate that can be an anchor at
// some instant: that it has expired is no reason to refuse a configuration that
// was right once.
func checkAnchorPEM(text string) error {
	cert, err := pki.ParseCertificate([]byte(text))
	if err != nil {
		return err
	}
	return pki.CheckAnchor(cert, cert.NotBefore)
}

func checkAuthority(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return fmt.Errorf("certificate %q is %w", cert.Subject.String(), pki.ErrNotAuthority)
	}
	return nil
}

type trustAnchorModel struct {
	commonModel
	Name                   types.String `tfsdk:"name"`
	Namespace              types.String `tfsdk:"namespace"`
	PrivateKeyStorage      types.String `tfsdk:"private_key_storage"`
	KMSKeyURI              types.String `tfsdk:"kms_key_uri"`
	Algorithm              types.String `tfsdk:"algorithm"`
	CommonName             types.String `tfsdk:"common_name"`
	Subject                types.Object `tfsdk:"subject"`
	Validity               types.String `tfsdk:"validity"`
	EarlyRenewal           types.String `tfsdk:"early_renewal"`
	RotationTrigger        types.String `tfsdk:"rotation_trigger"`
	CertificatePEM         types.String `tfsdk:"certificate_pem"`
	PrivateKeyWO           types.String `tfsdk:"private_key_wo"`
	PrivateKeyWOVersion    types.String `tfsdk:"private_key_wo_version"`
	AdditionalCertificates types.List   `tfsdk:"additional_certificates_pem"`
	BundlePEM              types.String `tfsdk:"bundle_pem"`
	BundleFingerprints     types.List   `tfsdk:"bundle_fingerprints_sha256"`
	Fingerprint            types.String `tfsdk:"fingerprint_sha256"`
	PreviousCertificatePEM types.String `tfsdk:"previous_certificate_pem"`
	NotBefore              types.String `tfsdk:"not_before"`
	NotAfter               types.String `tfsdk:"not_after"`
	ReadyForRenewal        types.Bool   `tfsdk:"ready_for_renewal"`
	CanSign                types.Bool   `tfsdk:"can_sign"`
	SigningKeyURI          types.String `tfsdk:"signing_key_uri"`
	PrivateKeyPEM          types.String `tfsdk:"private_key_pem"`
	Drift                  types.List   `tfsdk:"drift"`
}

func (m *trustAnchorModel) ref() trust.AnchorRef {
	return trust.AnchorRef{Namespace: m.Namespace.ValueString(), Name: m.Name.ValueString()}
}

// id is unknown until its parts are known.
func (m *trustAnchorModel) id() types.String {
	switch storage := m.PrivateKeyStorage.ValueString(); {
	case m.PrivateKeyStorage.IsUnknown() || m.Name.IsUnknown() || storage == trust.KeptInCluster && m.Namespace.IsUnknown():
		return types.StringUnknown()
	case storage == trust.KeptInCluster:
		return types.StringValue(m.ref().String())
	default:
		return types.StringValue(storage + "/" + m.Name.ValueString())
	}
}

// inCluster reports whether the key is in a Secret.
func (m *trustAnchorModel) inCluster() bool {
	return m.PrivateKeyStorage.ValueString() == trust.KeptInCluster
}

// given reports whether a plan or state is of a certificate that was given: a
// validity is what only those have that are made here.
func (m *trustAnchorModel) given() bool { return m.Validity.IsNull() }

// fixedKey reports whether the anchor is for one key in a KMS that is there
// already.
func (m *trustAnchorModel) fixedKey() bool { return kms.Versioned(m.KMSKeyURI.ValueString()) }

// certificate is the one of a state or plan; nil while there is none.
func (m *trustAnchorModel) certificate(diags *diag.Diagnostics) *x509.Certificate {
	if m.CertificatePEM.IsNull() || m.CertificatePEM.IsUnknown() {
		return nil
	}
	cert, err := pki.ParseCertificate([]byte(m.CertificatePEM.ValueString()))
	if err != nil {
		problemAt(diags, path.Root("certificate_pem"), "Invalid Certificate", err)
	}
	return cert
}

// wish is what the plan wants, with the write-only key of the configuration.
func (m *trustAnchorModel) wish(ctx context.Context, config tfsdk.Config, now time.Time, diags *diag.Diagnostics) trust.AnchorWish {
	wish := trust.AnchorWish{
		Options: pki.AuthorityOptions{
			Subject:   subjectOf(ctx, m.CommonName, m.Subject, diags),
			Algorithm: pki.Algorithm(m.Algorithm.ValueString()),
			Now:       now,
			Validity:  duration(m.Validity, pki.DefaultAnchorValidity),
		},
		Early:   duration(m.EarlyRenewal, pki.DefaultEarlyRenewal),
		Trigger: m.RotationTrigger.ValueStringPointer(),
	}
	if !m.given() {
		return wish
	}
	wish.Given = m.certificate(diags)
	var key types.String
	diags.Append(config.GetAttribute(ctx, path.Root("private_key_wo"), &key)...)
	if key.IsNull() {
		return wish
	}
	signer, err := pki.ParseKey([]byte(key.ValueString()))
	if err != nil {
		problemAt(diags, path.Root("private_key_wo"), "Invalid Private Key", err)
	}
	wish.Key = signer
	return wish
}

// describe fills in what the certificate tells, as it is now or, without one, as
// it will be known after the apply.
func (m *trustAnchorModel) describe(ctx context.Context, cert *x509.Certificate, diags *diag.Diagnostics) {
	m.BundlePEM, m.BundleFingerprints = types.StringUnknown(), types.ListUnknown(types.StringType)
	if cert == nil {
		m.CertificatePEM, m.Fingerprint = types.StringUnknown(), types.StringUnknown()
		m.NotBefore, m.NotAfter = types.StringUnknown(), types.StringUnknown()
		return
	}
	// One that was given stays as it was spelt.
	if spelt, err := pki.ParseCertificate([]byte(m.CertificatePEM.ValueString())); err != nil || !spelt.Equal(cert) {
		m.CertificatePEM = certificateText(cert)
	}
	m.Fingerprint = types.StringValue(pki.Fingerprint(cert))
	m.NotBefore = types.StringValue(cert.NotBefore.Format(time.RFC3339))
	m.NotAfter = types.StringValue(cert.NotAfter.Format(time.RFC3339))
	if !fullyKnown(ctx, m.AdditionalCertificates) {
		return
	}
	bundle := pki.NewBundle(cert)
	for i, text := range stringList(ctx, m.AdditionalCertificates, diags) {
		more, err := pki.ParseBundle([]byte(text))
		if err != nil {
			problemAt(diags, path.Root("additional_certificates_pem").AtListIndex(i), "Invalid Certificates", err)
		}
		bundle = bundle.With(more.Certificates()...)
	}
	m.BundlePEM = types.StringValue(string(bundle.PEM()))
	fingerprints, d := types.ListValueFrom(ctx, types.StringType, bundle.Fingerprints())
	diags.Append(d...)
	m.BundleFingerprints = fingerprints
}

func certificateText(cert *x509.Certificate) types.String {
	if cert == nil {
		return types.StringNull()
	}
	return types.StringValue(string(pki.NewBundle(cert).PEM()))
}

// observe fills in what an apply has made.
func (m *trustAnchorModel) observe(ctx context.Context, made madeAnchor, now time.Time, diags *diag.Diagnostics) {
	m.ID = m.id()
	m.describe(ctx, made.certificate, diags)
	m.SigningKeyURI, m.PrivateKeyPEM = made.keyURI, made.keyPEM
	m.Drift = noDrift()
	algorithm, err := pki.AlgorithmOf(made.certificate.PublicKey)
	if err != nil {
		problem(diags, "Unusable Trust Anchor", err)
	}
	m.Algorithm = types.StringValue(string(algorithm))
	m.CommonName = types.StringValue(made.certificate.Subject.CommonName)
	// What the plan has promised stays: the clock has gone on since.
	if m.PreviousCertificatePEM.IsUnknown() {
		m.PreviousCertificatePEM = certificateText(made.previous)
	}
	if m.CanSign.IsUnknown() {
		m.CanSign = types.BoolValue(made.canSign)
	}
	if m.ReadyForRenewal.IsUnknown() {
		m.judge(made.certificate, now)
	}
}

// judge tells whether the anchor is ready for renewal.
func (m *trustAnchorModel) judge(cert *x509.Certificate, now time.Time) {
	m.ReadyForRenewal = types.BoolValue(pki.RenewalDue(cert.NotAfter, duration(m.EarlyRenewal, pki.DefaultEarlyRenewal), now))
}

// madeAnchor is an anchor as an apply leaves it, wherever its key is.
type madeAnchor struct {
	certificate, previous *x509.Certificate
	canSign               bool
	keyURI, keyPEM        types.String
}

func inSecret(anchor trust.Anchor) madeAnchor {
	return madeAnchor{certificate: anchor.Certificate, previous: anchor.Previous, canSign: anchor.CanSign()}
}

// ValidateConfig refuses what is wrong whatever is there already.
func (r *trustAnchorResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config trustAnchorModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	refuse := func(attribute, why string) {
		resp.Diagnostics.AddAttributeError(path.Root(attribute), "Invalid Trust Anchor", fmt.Sprintf("%s: %s.", attribute, why))
	}
	set := func(value attr.Value) bool { return !value.IsNull() }
	storage := config.PrivateKeyStorage.ValueString()
	if config.PrivateKeyStorage.IsNull() {
		storage = trust.KeptInCluster
	}
	given := set(config.CertificatePEM)
	if storage != "" { // It is while the storage is unknown.
		switch inKMS := storage == trust.KeptInKMS; {
		case inKMS && !set(config.KMSKeyURI):
			refuse("kms_key_uri", "It is needed with private_key_storage \"kms\"")
		case !inKMS && set(config.KMSKeyURI):
			refuse("kms_key_uri", fmt.Sprintf("It is for private_key_storage \"kms\", not %q", storage))
		case inKMS && set(config.PrivateKeyWO):
			refuse("private_key_wo", "The key is in the KMS; leave it out")
		case inKMS && given && !config.KMSKeyURI.IsUnknown() && !config.fixedKey():
			refuse("kms_key_uri", "The certificate that is given belongs to one key; name its version")
		}
		if set(config.Namespace) && storage != trust.KeptInCluster {
			refuse("namespace", fmt.Sprintf("There is nothing in the cluster with private_key_storage %q; leave it out", storage))
		}
	}
	if !given {
		if set(config.PrivateKeyWO) {
			refuse("private_key_wo", "It belongs to a certificate that is given; set certificate_pem, or leave it out")
		}
		validateRenewal(config.Validity, pki.DefaultAnchorValidity, config.EarlyRenewal, &resp.Diagnostics)
		checkSubject(ctx, config.CommonName, config.Subject, &resp.Diagnostics)
		return
	}
	for attribute, value := range map[string]attr.Value{
		"algorithm": config.Algorithm, "common_name": config.CommonName, "subject": config.Subject, "validity": config.Validity,
		"rotation_trigger": config.RotationTrigger,
	} {
		if set(value) {
			refuse(attribute, "It is for certificates that are made here; leave out either it or certificate_pem")
		}
	}
	if config.PrivateKeyWO.IsNull() || config.PrivateKeyWO.IsUnknown() {
		return
	}
	key, err := pki.ParseKey([]byte(config.PrivateKeyWO.ValueString()))
	if cert := config.certificate(&resp.Diagnostics); err == nil && cert != nil {
		_, err = pki.NewKeyPair([]*x509.Certificate{cert}, key)
	}
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("private_key_wo"), "Invalid Private Key", err)
	}
}

// ModifyPlan plans a new generation exactly when one is due: by time, by the
// trigger, by settings that only a new certificate can take, or because the key
// is lost.
func (r *trustAnchorResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	p := anchorPlan{now: r.session.time(), diags: &resp.Diagnostics}
	resp.Diagnostics.Append(req.Config.Get(ctx, &p.config)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &p.plan)...)
	if !req.State.Raw.IsNull() {
		p.state = &trustAnchorModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, p.state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	p.make(ctx)
	if resp.Diagnostics.HasError() {
		return
	}
	if r.session != nil && !p.plan.ID.IsUnknown() {
		r.session.anchors.Store(p.plan.ID.ValueString(), plannedAnchor{
			algorithm: pki.Algorithm(p.plan.Algorithm.ValueString()),
			rotates:   slices.ContainsFunc(p.reasons, func(reason rotationReason) bool { return !reason.open }),
		})
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &p.plan)...)
}

// anchorPlan is the planning of one anchor.
type anchorPlan struct {
	config, plan trustAnchorModel
	state        *trustAnchorModel // nil if the anchor is made, or another in its place
	now          time.Time
	diags        *diag.Diagnostics
	// reasons are why there is to be a new generation; none if there need not be.
	reasons []rotationReason
}

// rotationReason is why an anchor is rotated, and the attribute that says so.
type rotationReason struct {
	attribute, text string
	// open tells that the attribute is unknown, so that it may turn out to be none.
	open bool
}

func (p *anchorPlan) make(ctx context.Context) {
	plan := &p.plan
	if s := p.state; s != nil && (!plan.Name.Equal(s.Name) || !plan.Namespace.Equal(s.Namespace) || !plan.PrivateKeyStorage.Equal(s.PrivateKeyStorage)) {
		p.state = nil // Terraform plans what replaces it once more, by itself.
		p.warnReplacement(s)
	}
	plan.ID, plan.Drift = plan.id(), noDrift()
	given := !p.config.CertificatePEM.IsNull()
	// The certificate that the anchor will have, as far as it is known.
	var cert, former *x509.Certificate
	if p.state != nil {
		former = p.state.certificate(p.diags)
	}
	if given {
		cert = p.config.certificate(p.diags)
	}
	p.settings(given, cert)
	if p.diags.HasError() {
		return
	}
	if p.state != nil {
		if given {
			p.changed("certificate_pem", cert != nil, cert != nil && !cert.Equal(former))
		} else {
			p.compareSettings(ctx)
		}
	}
	due := p.state != nil && p.due(former)
	// Whether a new generation can be made of what is configured.
	renewable := !given && (p.state == nil || !plan.fixedKey() || !plan.KMSKeyURI.Equal(p.state.KMSKeyURI))
	if !renewable && !given {
		for _, reason := range p.reasons {
			if reason.open {
				continue // It may turn out to be none.
			}
			p.diags.AddAttributeError(path.Root(reason.attribute), "No Key for a New Trust Anchor", fmt.Sprintf(
				"%s: %s, so a new key is needed. But kms_key_uri names one version of a key. Name another one, or leave the version out, so that each generation gets a version of its own.",
				reason.attribute, reason.text))
		}
	}
	if due && renewable {
		p.because("early_renewal", "it is valid only until "+p.state.NotAfter.ValueString())
	}

	fresh := p.state == nil || len(p.reasons) > 0
	switch {
	case !fresh:
		cert = former
		plan.Algorithm = p.state.Algorithm
		plan.PreviousCertificatePEM = p.state.PreviousCertificatePEM
	case p.state != nil:
		plan.PreviousCertificatePEM = types.StringUnknown()
		if p.settled() {
			plan.PreviousCertificatePEM = certificateText(former)
		}
		p.warnRotation(former)
	case plan.inCluster() || plan.PrivateKeyStorage.IsUnknown():
		plan.PreviousCertificatePEM = types.StringUnknown() // One of which the state was lost may be found.
	default:
		plan.PreviousCertificatePEM = types.StringNull()
	}
	if fresh && cert != nil {
		if err := pki.CheckAnchor(cert, p.now); err != nil {
			problemAt(p.diags, path.Root("certificate_pem"), "Unusable Trust Anchor", err)
		}
	}
	plan.describe(ctx, cert, p.diags)
	p.keys(given, cert, former, fresh)
	switch {
	case fresh, due:
		plan.ReadyForRenewal = types.BoolUnknown()
	case plan.EarlyRenewal.Equal(p.state.EarlyRenewal):
		// From the state alone: whether it is due changes with the clock between
		// plan and apply.
		plan.ReadyForRenewal = p.state.ReadyForRenewal
	default:
		plan.ReadyForRenewal = types.BoolUnknown()
	}
	if due && !fresh {
		p.warnEnd(former)
	}
}

// settings fills in those that are not configured.
func (p *anchorPlan) settings(given bool, cert *x509.Certificate) {
	plan := &p.plan
	if !given {
		plan.CommonName = textOr(p.config.CommonName, pki.DefaultAnchorCommonName)
		plan.Validity = textOr(p.config.Validity, plainDuration(pki.DefaultAnchorValidity))
		plan.Algorithm = textOr(p.config.Algorithm, string(pki.AlgorithmECDSAP256))
		if p.config.Algorithm.IsNull() && (plan.fixedKey() || plan.KMSKeyURI.IsUnknown()) {
			plan.Algorithm = types.StringUnknown() // It is the key's.
		}
		return
	}
	plan.Validity = types.StringNull()
	plan.CommonName, plan.Algorithm = types.StringUnknown(), types.StringUnknown()
	if cert == nil {
		return
	}
	plan.CommonName = types.StringValue(cert.Subject.CommonName)
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	if err != nil {
		problemAt(p.diags, path.Root("certificate_pem"), "Unusable Trust Anchor", err)
	}
	plan.Algorithm = types.StringValue(string(algorithm))
}

// textOr is a configured text, or a default.
func textOr(configured types.String, otherwise string) types.String {
	if configured.IsNull() {
		return types.StringValue(otherwise)
	}
	return configured
}

// because adds a reason for a new generation.
func (p *anchorPlan) because(attribute, text string) {
	p.reasons = append(p.reasons, rotationReason{attribute: attribute, text: text})
}

// changed adds as a reason that a setting has changed, or may have.
func (p *anchorPlan) changed(attribute string, known, differs bool) {
	switch {
	case !known:
		p.reasons = append(p.reasons, rotationReason{attribute: attribute, text: attribute + " may have changed, which is known only after the apply", open: true})
	case differs:
		p.because(attribute, attribute+" has changed")
	}
}

// settled reports whether there is to be a new generation whatever the unknown
// settings are.
func (p *anchorPlan) settled() bool {
	return slices.ContainsFunc(p.reasons, func(reason rotationReason) bool { return !reason.open })
}

func (p *anchorPlan) compareSettings(ctx context.Context) {
	plan, state := &p.plan, p.state
	if state.given() {
		p.because("certificate_pem", "certificate_pem is not given any more")
		return
	}
	if !plan.RotationTrigger.IsNull() {
		p.changed("rotation_trigger", !plan.RotationTrigger.IsUnknown(), !plan.RotationTrigger.Equal(state.RotationTrigger))
	}
	p.changed("kms_key_uri", !plan.KMSKeyURI.IsUnknown(), !plan.KMSKeyURI.Equal(state.KMSKeyURI) && !plan.KMSKeyURI.Equal(state.SigningKeyURI))
	if !p.config.Algorithm.IsNull() || !plan.Algorithm.IsUnknown() {
		p.changed("algorithm", !plan.Algorithm.IsUnknown(), !plan.Algorithm.Equal(state.Algorithm))
	}
	p.changed("common_name", !plan.CommonName.IsUnknown(), !plan.CommonName.Equal(state.CommonName))
	p.changed("subject", fullyKnown(ctx, plan.Subject),
		subjectOf(ctx, types.StringNull(), plan.Subject, p.diags) != subjectOf(ctx, types.StringNull(), state.Subject, p.diags))
	p.changed("validity", !plan.Validity.IsUnknown(), duration(plan.Validity, 0) != duration(state.Validity, 0))
	if !state.CanSign.ValueBool() {
		p.because("can_sign", "its private key is lost")
	}
}

// due reports whether the former anchor is near its end.
func (p *anchorPlan) due(former *x509.Certificate) bool {
	if p.plan.EarlyRenewal.Equal(p.state.EarlyRenewal) {
		return p.state.ReadyForRenewal.ValueBool()
	}
	return !p.plan.EarlyRenewal.IsUnknown() && former != nil &&
		pki.RenewalDue(former.NotAfter, duration(p.plan.EarlyRenewal, pki.DefaultEarlyRenewal), p.now)
}

// keys fills in what is known of the private key.
func (p *anchorPlan) keys(given bool, cert, former *x509.Certificate, fresh bool) {
	plan := &p.plan
	inKMS := plan.PrivateKeyStorage.ValueString() == trust.KeptInKMS
	switch key := p.config.PrivateKeyWO; {
	case !given || inKMS || !key.IsNull() && !key.IsUnknown():
		plan.CanSign = types.BoolValue(true)
	case key.IsUnknown() || plan.PrivateKeyStorage.IsUnknown() || p.state != nil && cert == nil:
		plan.CanSign = types.BoolUnknown()
	case p.state != nil && samePublicKey(cert, former):
		plan.CanSign = p.state.CanSign
	default:
		plan.CanSign = types.BoolValue(false)
	}

	switch {
	case plan.PrivateKeyStorage.IsUnknown():
		plan.SigningKeyURI, plan.PrivateKeyPEM = types.StringUnknown(), types.StringUnknown()
		return
	case !inKMS:
		plan.SigningKeyURI = types.StringNull()
	case plan.fixedKey():
		plan.SigningKeyURI = plan.KMSKeyURI
	case fresh:
		plan.SigningKeyURI = types.StringUnknown()
	default:
		plan.SigningKeyURI = p.state.SigningKeyURI
	}
	switch {
	case plan.PrivateKeyStorage.ValueString() != trust.KeptInState || plan.CanSign.Equal(types.BoolValue(false)):
		plan.PrivateKeyPEM = types.StringNull()
	case fresh || !plan.CanSign.Equal(p.state.CanSign):
		plan.PrivateKeyPEM = types.StringUnknown()
	default:
		plan.PrivateKeyPEM = p.state.PrivateKeyPEM
	}
}

func samePublicKey(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && key.Equal(b.PublicKey)
}

// name is what diagnostics call the anchor.
func (p *anchorPlan) name() string { return "The trust anchor " + p.state.ID.ValueString() }

// warnReplacement tells what is lost with an anchor that another one replaces.
func (p *anchorPlan) warnReplacement(former *trustAnchorModel) {
	if !former.CanSign.ValueBool() || former.PrivateKeyStorage.ValueString() == trust.KeptInKMS {
		return
	}
	with := "the state"
	if former.inCluster() {
		with = former.ref().Secret().String()
	}
	p.diags.AddWarning("Trust Anchor Will Be Replaced", fmt.Sprintf(
		"Another trust anchor takes the place of %s, whose private key is destroyed with %s: no issuer below it can be renewed before it has moved to the other one. "+
			"Set create_before_destroy in the lifecycle of the resource, so that the issuers know the other one first; or make a second trust anchor, and destroy this one when no issuer has rotation_steps left.",
		former.ID.ValueString(), with))
}

func (p *anchorPlan) warnRotation(former *x509.Certificate) {
	texts := make([]string, len(p.reasons))
	for i, reason := range p.reasons {
		texts[i] = reason.text
	}
	summary, becomes := "Trust Anchor May Be Rotated", "may get"
	if p.settled() {
		summary, becomes = "Trust Anchor Will Be Rotated", "gets"
	}
	detail := fmt.Sprintf("%s %s a new certificate, because %s. ", p.name(), becomes, strings.Join(texts, ", and "))
	if errors.Is(pki.CheckValid(former, p.now), pki.ErrExpired) {
		detail += fmt.Sprintf("The present one has expired at %s: mTLS is down wherever it is the one that is trusted, until the issuers there have moved to the new one.", p.state.NotAfter.ValueString())
	} else {
		detail += "The rotation of each issuer below it follows, stage by stage and without an outage, as its own plan shows. Until then the present one stays trusted and in use."
	}
	p.diags.AddWarning(summary, detail)
}

// warnEnd tells that an anchor ends which cannot be renewed here.
func (p *anchorPlan) warnEnd(former *x509.Certificate) {
	cure := "Give another certificate in certificate_pem, or leave it out, so that a new anchor is made here"
	if !p.plan.given() {
		cure = "Name another version in kms_key_uri, or leave the version out, so that a new anchor is made"
	}
	summary, state := "Trust Anchor Near Its End", fmt.Sprintf("is valid only until %s, and every certificate of the mesh ends with it", p.state.NotAfter.ValueString())
	if errors.Is(pki.CheckValid(former, p.now), pki.ErrExpired) {
		summary, state = "Trust Anchor Has Expired", fmt.Sprintf("has expired at %s: mTLS is down wherever it is the one that is trusted", p.state.NotAfter.ValueString())
	}
	p.diags.AddWarning(summary, fmt.Sprintf("%s %s. It cannot be renewed here. %s. Every plan shows a change until then.", p.name(), state, cure))
}

func (r *trustAnchorResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model trustAnchorModel
	ctx, end, ok := r.start(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	wish := model.wish(ctx, req.Config, r.session.time(), &resp.Diagnostics)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	var made madeAnchor
	if model.inCluster() {
		cluster, ok := r.session.requireCluster(&resp.Diagnostics)
		if !ok {
			return
		}
		anchor, adopted, err := trust.CreateAnchor(ctx, cluster, model.ref(), wish)
		if err != nil {
			problem(&resp.Diagnostics, "Unable to Create Trust Anchor", err)
			return
		}
		if adopted {
			warnAdopted(&resp.Diagnostics, "trust anchor "+model.ref().String())
		}
		made = inSecret(anchor)
	} else if made, ok = model.generate(ctx, r.session.keys(), wish, &resp.Diagnostics); !ok {
		return
	}
	model.observe(ctx, made, r.session.time(), &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// generate makes a generation whose key is not in a Secret.
func (m *trustAnchorModel) generate(ctx context.Context, keys kms.Keys, wish trust.AnchorWish, diags *diag.Diagnostics) (madeAnchor, bool) {
	made := madeAnchor{}
	if uri := m.KMSKeyURI; !uri.IsNull() {
		made.keyURI = uri
		var key crypto.Signer
		var err error
		if m.fixedKey() {
			key, err = keys.Open(ctx, uri.ValueString())
		} else {
			var version string
			version, key, err = keys.Create(ctx, uri.ValueString(), wish.Options.Algorithm)
			made.keyURI = types.StringValue(version)
		}
		if err != nil {
			problemAt(diags, path.Root("kms_key_uri"), "Unable to Use Key", err)
			return madeAnchor{}, false
		}
		if algorithm, err := pki.AlgorithmOf(key.Public()); err != nil || !m.Algorithm.IsUnknown() && string(algorithm) != m.Algorithm.ValueString() {
			diags.AddAttributeError(path.Root("algorithm"), "Other Algorithm", fmt.Sprintf(
				"algorithm: The key %s is of %s. Leave algorithm out, or name another key.", uri.ValueString(), algorithm))
			return madeAnchor{}, false
		}
		wish.Options.Signer, wish.Key = key, key
	}
	cert, pair, err := wish.Generation()
	if err != nil {
		problem(diags, "Unable to Make Trust Anchor", err)
		return madeAnchor{}, false
	}
	made.certificate, made.canSign = cert, pair != nil
	if pair != nil && m.KMSKeyURI.IsNull() {
		key, err := pair.KeyPEM()
		if err != nil {
			problem(diags, "Unable to Keep Private Key", err)
			return madeAnchor{}, false
		}
		made.keyPEM = types.StringValue(string(key))
	}
	return made, true
}

func (r *trustAnchorResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model trustAnchorModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	known := model.certificate(&resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if !model.inCluster() && known != nil {
		// All there is of it is in the state, or in a KMS that keeps it as it is.
		model.judge(known, r.session.time())
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
		return
	}
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
	anchor, err := trust.ReadAnchor(ctx, cluster, ref, known)
	if errors.Is(err, kube.ErrNotFound) {
		if known != nil {
			resp.Diagnostics.AddWarning("Trust Anchor Is Gone", fmt.Sprintf(
				"%s, which keeps the trust anchor and its private key, was deleted by somebody else. The apply makes another one. "+
					"Every issuer below it then moves to the new one, stage by stage, as its own plan shows; until then none can be renewed.", ref.Secret()))
		}
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Trust Anchor", err)
		return
	}
	model.PrivateKeyStorage = types.StringValue(trust.KeptInCluster)
	model.Namespace, model.Name = types.StringValue(ref.Namespace), types.StringValue(ref.Name)
	setWhenNull(&model.EarlyRenewal, plainDuration(pki.DefaultEarlyRenewal))
	model.adopt(ctx, anchor, known == nil, &resp.Diagnostics)
	model.PreviousCertificatePEM, model.CanSign, model.ReadyForRenewal = types.StringUnknown(), types.BoolUnknown(), types.BoolUnknown()
	model.observe(ctx, inSecret(anchor), r.session.time(), &resp.Diagnostics)
	drift, d := types.ListValueFrom(ctx, types.StringType, append([]string{}, anchor.Drift...))
	resp.Diagnostics.Append(d...)
	model.Drift = drift
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// adopt takes over the settings by which an anchor was made: those of an import,
// or of an apply that ended before it could write state.
func (m *trustAnchorModel) adopt(ctx context.Context, anchor trust.Anchor, importing bool, diags *diag.Diagnostics) {
	given := !importing && m.given()
	if anchor.Recorded {
		given = anchor.Given
		m.RotationTrigger = types.StringPointerValue(anchor.Trigger)
	}
	cert := anchor.Certificate
	m.CommonName = types.StringValue(cert.Subject.CommonName)
	if given {
		m.Validity, m.Subject = types.StringNull(), types.ObjectNull(subjectTypes)
		return
	}
	if madeFor := trust.MadeFor(cert); duration(m.Validity, 0).Truncate(time.Second) != madeFor {
		m.Validity = types.StringValue(plainDuration(madeFor))
	}
	m.Subject = subjectKept(ctx, m.Subject, pki.SubjectOf(cert), diags)
}

func (r *trustAnchorResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state trustAnchorModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, ok := r.start(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	wish := model.wish(ctx, req.Config, r.session.time(), &resp.Diagnostics)
	known, planned := state.certificate(&resp.Diagnostics), model.certificate(&resp.Diagnostics)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	renew := planned == nil || !planned.Equal(known)
	var made madeAnchor
	if model.inCluster() {
		cluster, ok := r.session.requireCluster(&resp.Diagnostics)
		if !ok {
			return
		}
		anchor, err := trust.UpdateAnchor(ctx, cluster, model.ref(), known, wish, renew)
		if err != nil {
			problem(&resp.Diagnostics, "Unable to Update Trust Anchor", err)
			return
		}
		made = inSecret(anchor)
	} else if made, ok = model.regenerate(ctx, r.session.keys(), state, known, wish, renew, &resp.Diagnostics); !ok {
		return
	}
	model.observe(ctx, made, r.session.time(), &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// regenerate makes of an anchor whose key is not in a Secret what is planned.
func (m *trustAnchorModel) regenerate(ctx context.Context, keys kms.Keys, state trustAnchorModel, known *x509.Certificate, wish trust.AnchorWish, renew bool, diags *diag.Diagnostics) (madeAnchor, bool) {
	if !renew {
		if wish.Key == nil && m.KMSKeyURI.Equal(state.KMSKeyURI) {
			return madeAnchor{certificate: known, canSign: state.CanSign.ValueBool(), keyURI: state.SigningKeyURI, keyPEM: state.PrivateKeyPEM}, true
		}
		// The certificate stays; a key that is given for it has to be its own.
		wish.Given = known
	} else if wish.Given != nil && wish.Key == nil && !state.PrivateKeyPEM.IsNull() && samePublicKey(wish.Given, known) {
		// A certificate that only extends the life of the one before has its key.
		key, err := pki.ParseKey([]byte(state.PrivateKeyPEM.ValueString()))
		if err != nil {
			problem(diags, "Unable to Keep Private Key", err)
			return madeAnchor{}, false
		}
		wish.Key = key
	}
	return m.generate(ctx, keys, wish, diags)
}

func (r *trustAnchorResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model trustAnchorModel
	ctx, end, ok := r.start(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok || !model.inCluster() {
		return
	}
	cluster, ok := r.session.requireCluster(&resp.Diagnostics)
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
	rotates   bool          // it gets a new generation for certain
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

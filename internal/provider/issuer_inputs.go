package provider

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// keyVaultLogin is who signs in Azure Key Vault, for descriptions.
const keyVaultLogin = "Azure Key Vault is asked with the credentials of the provider's `aks` block; without one, with those of the `ARM_*` environment variables that the block names"

// kmsURIForms are the keys that can be named to sign with, for descriptions.
const kmsURIForms = "`azurekms:name=<key>;vault=<vault>?version=<version>`, or `softkms:path=<file>` for a PEM file of the machine that Terraform runs on. " +
	"It names one version: the newest may be another than that of the anchor. " + keyVaultLogin

// signingKeyURI accepts the URIs of keys in a key management service that sign as
// one anchor.
func signingKeyURI() validator.String {
	return checked{description: "the URI of one version of a key such as azurekms:name=mesh-root;vault=prod?version=1", check: func(uri string) error {
		if err := kms.CheckURI(uri); err != nil {
			return err
		}
		if !kms.Versioned(uri) {
			return errors.New("it names no version of the key, so that another one than the anchor's may sign; take signing_key_uri of the aksmesh_trust_anchor, or name the version")
		}
		return nil
	}}
}

// anyAnchor allows every anchor, where what takes the bundle has rules of its own.
func anyAnchor(*x509.Certificate) error { return nil }

// meshRules are what a mesh demands of certificates beyond sound X.509.
type meshRules struct {
	// anchorAlgorithm and issuerAlgorithm judge the keys that are to be made.
	anchorAlgorithm, issuerAlgorithm func(pki.Algorithm) error
	anchor                           func(*x509.Certificate) error
}

// rulesOf are the rules of a mesh by its name; none while that is not known.
func rulesOf(mesh types.String) (meshRules, bool) {
	switch mesh.ValueString() {
	case "linkerd":
		return meshRules{linkerd.CheckAnchorAlgorithm, linkerd.CheckIssuerAlgorithm, linkerd.CheckAnchor}, true
	case "istio":
		return meshRules{istio.CheckAlgorithm, istio.CheckAlgorithm, istio.CheckAnchor}, true
	default:
		return meshRules{}, false
	}
}

// checkIssuerAlgorithm refuses keys of issuers that the mesh refuses.
func checkIssuerAlgorithm(mesh, algorithm types.String, diags *diag.Diagnostics) {
	rules, known := rulesOf(mesh)
	if !known || algorithm.ValueString() == "" {
		return
	}
	if err := rules.issuerAlgorithm(pki.Algorithm(algorithm.ValueString())); err != nil {
		problemAt(diags, path.Root("algorithm"), "Invalid Algorithm", err)
	}
}

// checkAnchorID refuses what is not the ID of an anchor whose key is in the
// cluster.
func checkAnchorID(id types.String, diags *diag.Diagnostics) {
	if id.IsNull() || id.IsUnknown() {
		return
	}
	_, err := trust.ParseAnchorRef(id.ValueString())
	if err == nil {
		return
	}
	switch storage, _, _ := strings.Cut(id.ValueString(), "/"); storage {
	case trust.KeptInState:
		err = fmt.Errorf("%w; give the key by signer, from the anchor's private_key_pem", err)
	case trust.KeptInKMS:
		err = fmt.Errorf("%w; give the key by signer = { kms_key_uri = … }, from the anchor's signing_key_uri", err)
	}
	problemAt(diags, path.Root("trust_anchor_id"), "Invalid Trust Anchor ID", err)
}

// parseBundle reads the attribute `trust_bundle_pem`; null gives an empty bundle.
func parseBundle(value types.String, diags *diag.Diagnostics) (pki.Bundle, bool) {
	if value.IsNull() {
		return pki.Bundle{}, true
	}
	bundle, err := pki.ParseBundle([]byte(value.ValueString()))
	if err != nil {
		problemAt(diags, path.Root("trust_bundle_pem"), "Invalid Trust Bundle", err)
	}
	return bundle, err == nil
}

// lacksAnchor is that a bundle has not the anchor that signs: whoever trusts the
// bundle would not trust the issuer.
func lacksAnchor(anchor *x509.Certificate) error {
	return fmt.Errorf("the bundle lacks the anchor that signs, %q (sha256 %.12s), so that nobody would trust the issuer; add its certificate",
		anchor.Subject.String(), pki.Fingerprint(anchor))
}

// storedAnchor signs with an anchor whose key is in a Secret.
func storedAnchor(ctx context.Context, cluster *kube.Cluster, id types.String, diags *diag.Diagnostics) (trust.Signer, bool) {
	at := path.Root("trust_anchor_id")
	ref, err := trust.ParseAnchorRef(id.ValueString())
	if err != nil {
		problemAt(diags, at, "Invalid Trust Anchor ID", err)
		return nil, false
	}
	signer, err := trust.StoredAnchor(ctx, cluster, ref)
	if err != nil {
		problemAt(diags, at, "Unable to Read Trust Anchor", err)
	}
	return signer, err == nil
}

// signingKey signs with a key of the attribute `signer`: of a key management
// service, or else the private key itself, which the attribute has by the given
// name.
func signingKey(ctx context.Context, keys kms.Keys, uri, keyPEM types.String, keyName string, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	if uri.IsNull() {
		return givenKey(keyPEM, keyName, bundle, diags)
	}
	at := path.Root("signer").AtName("kms_key_uri")
	key, err := keys.Open(ctx, uri.ValueString())
	if err != nil {
		problemAt(diags, at, "Unable to Use Signing Key", err)
		return nil, false
	}
	return trustedKey(at, key, bundle, diags)
}

// givenKey signs with the private key that the attribute `signer` has by the
// given name.
func givenKey(keyPEM types.String, keyName string, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	at := path.Root("signer").AtName(keyName)
	key, err := pki.ParseKey([]byte(keyPEM.ValueString()))
	if err != nil {
		problemAt(diags, at, "Unable to Use Signing Key", err)
		return nil, false
	}
	return trustedKey(at, key, bundle, diags)
}

// trustedKey signs with a key if it is of an anchor of the bundle.
func trustedKey(at path.Path, key crypto.Signer, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	signer, err := trust.SigningKey(key, bundle)
	if err != nil {
		problemAt(diags, at, "Signing Key Not Trusted", err)
	}
	return signer, err == nil
}

type signerModel struct {
	KMSKeyURI           types.String `tfsdk:"kms_key_uri"`
	PrivateKeyWO        types.String `tfsdk:"private_key_wo"`
	PrivateKeyWOVersion types.String `tfsdk:"private_key_wo_version"`
}

type certificateModel struct {
	PEM                 types.String `tfsdk:"pem"`
	PEMWO               types.String `tfsdk:"pem_wo"`
	PrivateKeyWO        types.String `tfsdk:"private_key_wo"`
	PrivateKeyWOVersion types.String `tfsdk:"private_key_wo_version"`
	RequestID           types.String `tfsdk:"request_id"`
}

// issuerSource is where an issuer comes from, with the write-only arguments,
// which only the configuration has.
type issuerSource struct {
	signer      *signerModel
	certificate *certificateModel
}

// source reads where the issuer comes from. Both objects are nil if they are not
// there or not known.
func (m *issuerModel) source(ctx context.Context, diags *diag.Diagnostics) issuerSource {
	s := issuerSource{}
	if !m.Signer.IsNull() && !m.Signer.IsUnknown() {
		s.signer = &signerModel{}
		diags.Append(m.Signer.As(ctx, s.signer, objectAsOptions)...)
	}
	if !m.Certificate.IsNull() && !m.Certificate.IsUnknown() {
		s.certificate = &certificateModel{}
		diags.Append(m.Certificate.As(ctx, s.certificate, objectAsOptions)...)
	}
	return s
}

// chain is the certificate that is given, with its intermediates; empty while it
// is not known.
func (c *certificateModel) chain(diags *diag.Diagnostics) []*x509.Certificate {
	value, name := c.PEM, "pem"
	if value.IsNull() {
		value, name = c.PEMWO, "pem_wo"
	}
	if value.IsNull() || value.IsUnknown() {
		return nil
	}
	bundle, err := pki.ParseBundle([]byte(value.ValueString()))
	if err != nil {
		problemAt(diags, path.Root("certificate").AtName(name), "Invalid Certificate", err)
	}
	return bundle.Certificates()
}

func (r *issuerResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config issuerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	diags := &resp.Diagnostics
	checkAnchorID(config.TrustAnchorID, diags)
	checkSubject(ctx, config.CommonName, config.Subject, diags)
	checkIssuerAlgorithm(config.Mesh, config.Algorithm, diags)
	source := config.source(ctx, diags)
	exactlyOneOf(path.Empty(), []string{"trust_anchor_id", "signer", "certificate"}, []attr.Value{config.TrustAnchorID, config.Signer, config.Certificate}, diags)
	if s := source.signer; s != nil {
		exactlyOneOf(path.Root("signer"), []string{"kms_key_uri", "private_key_wo"}, []attr.Value{s.KMSKeyURI, s.PrivateKeyWO}, diags)
	}
	if c := source.certificate; c != nil {
		exactlyOneOf(path.Root("certificate"), []string{"pem", "pem_wo"}, []attr.Value{c.PEM, c.PEMWO}, diags)
		exactlyOneOf(path.Root("certificate"), []string{"private_key_wo", "request_id"}, []attr.Value{c.PrivateKeyWO, c.RequestID}, diags)
	}
	if config.given() {
		for name, value := range map[string]attr.Value{
			"algorithm": config.Algorithm, "common_name": config.CommonName, "subject": config.Subject, "validity": config.Validity,
		} {
			if !value.IsNull() {
				problemAt(diags, path.Root(name), "Nothing To Apply It To", errors.New("it is about issuers that the provider makes, and certificate gives one; leave it out"))
			}
		}
	} else {
		validateRenewal(config.Validity, pki.DefaultIssuerValidity, config.EarlyRenewal, diags)
	}
	if config.TrustBundlePEM.IsUnknown() || diags.HasError() {
		return
	}
	bundle, err := pki.ParseBundle([]byte(config.TrustBundlePEM.ValueString()))
	if err != nil {
		return // Its own validator says so.
	}
	checkAnchors(config.Mesh, bundle, diags)
	if source.signer != nil {
		source.signer.check(bundle, diags)
	}
	if source.certificate != nil {
		source.certificate.check(ctx, &config, bundle, diags)
	}
}

// exactlyOneOf refuses none and several of some attributes of an object, as far as
// they are known.
func exactlyOneOf(at path.Path, names []string, values []attr.Value, diags *diag.Diagnostics) {
	given, open := 0, false
	for _, value := range values {
		switch {
		case value.IsUnknown():
			open = true
		case !value.IsNull():
			given++
		}
	}
	if given > 1 || given == 0 && !open {
		problemAt(diags, at.AtName(names[0]), "Invalid Combination", fmt.Errorf("exactly one of %s has to be given, not %d", strings.Join(names, ", "), given))
	}
}

// checkAnchors refuses anchors that the mesh refuses.
func checkAnchors(mesh types.String, bundle pki.Bundle, diags *diag.Diagnostics) {
	rules, known := rulesOf(mesh)
	if !known {
		return
	}
	for _, anchor := range bundle.Certificates() {
		if err := rules.anchor(anchor); err != nil {
			problemAt(diags, path.Root("trust_bundle_pem"), "Trust Anchor Refused", err)
		}
	}
}

// check refuses a private key that is not of the bundle.
func (s *signerModel) check(bundle pki.Bundle, diags *diag.Diagnostics) {
	if s.PrivateKeyWO.IsNull() || s.PrivateKeyWO.IsUnknown() {
		return
	}
	givenKey(s.PrivateKeyWO, "private_key_wo", bundle, diags)
}

// check refuses a certificate that cannot be the issuer of any mesh with the
// bundle at any time, or that is not the key's.
func (c *certificateModel) check(ctx context.Context, m *issuerModel, bundle pki.Bundle, diags *diag.Diagnostics) {
	at := path.Root("certificate")
	if id := c.RequestID; !id.IsNull() && !id.IsUnknown() && fullyKnown(ctx, m.Mesh, m.Namespace) {
		want := m.ref()
		if m.Namespace.IsNull() {
			want.Namespace = trust.ControlPlaneNamespace(want.Mesh)
		}
		if id.ValueString() != want.String() {
			problemAt(diags, at.AtName("request_id"), "Invalid Request ID", fmt.Errorf("%q is not the ID of the aksmesh_issuer_request of this control plane, %s", id.ValueString(), want))
		}
	}
	chain := c.chain(diags)
	if len(chain) == 0 {
		return
	}
	rules, known := rulesOf(m.Mesh)
	if known {
		if algorithm, err := pki.AlgorithmOf(chain[0].PublicKey); err != nil || rules.issuerAlgorithm(algorithm) != nil {
			problemAt(diags, at.AtName("pem"), "Certificate Refused", errors.Join(err, rules.issuerAlgorithm(algorithm)))
		}
	}
	if _, err := bundle.Signers(chain[len(chain)-1]); err != nil {
		problemAt(diags, at.AtName("pem"), "Certificate Not Trusted", err)
	}
	if c.PrivateKeyWO.IsNull() || c.PrivateKeyWO.IsUnknown() {
		return
	}
	key, err := pki.ParseKey([]byte(c.PrivateKeyWO.ValueString()))
	if err == nil {
		_, err = pki.NewKeyPair(chain, key)
	}
	if err != nil {
		problemAt(diags, at.AtName("private_key_wo"), "Invalid Private Key", err)
	}
}

// signing is the keeper of an apply, which has whatever signs at hand; the
// configuration has the write-only arguments.
func (r *issuerResource) signing(ctx context.Context, cluster *kube.Cluster, m *issuerModel, config tfsdk.Config, diags *diag.Diagnostics) (trust.Keeper, bool) {
	wanted, ok := parseBundle(m.TrustBundlePEM, diags)
	var configured issuerModel
	diags.Append(config.Get(ctx, &configured)...)
	if !ok || diags.HasError() {
		return trust.Keeper{}, false
	}
	source := configured.source(ctx, diags)
	var signer trust.Signer
	switch {
	case source.signer != nil:
		signer, ok = signingKey(ctx, r.session.keys(), source.signer.KMSKeyURI, source.signer.PrivateKeyWO, "private_key_wo", wanted, diags)
	case source.certificate != nil:
		signer, ok = source.certificate.issuer(ctx, cluster, m.ref(), wanted, diags)
	default:
		signer, ok = storedAnchor(ctx, cluster, m.TrustAnchorID, diags)
	}
	if !ok {
		return trust.Keeper{}, false
	}
	if anchor := signer.Anchors()[0]; !wanted.Contains(anchor) {
		problemAt(diags, path.Root("trust_bundle_pem"), "Anchor Not Trusted", lacksAnchor(anchor))
		return trust.Keeper{}, false
	}
	return r.keeper(ctx, cluster, m, wanted, signer, diags), !diags.HasError()
}

// issuer hands on the issuer that is given.
func (c *certificateModel) issuer(ctx context.Context, cluster *kube.Cluster, ref trust.IssuerRef, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	at := path.Root("certificate").AtName("private_key_wo")
	chain := c.chain(diags)
	if diags.HasError() {
		return nil, false
	}
	var pair *pki.KeyPair
	var err error
	if c.RequestID.IsNull() {
		var key crypto.Signer
		if key, err = pki.ParseKey([]byte(c.PrivateKeyWO.ValueString())); err == nil {
			pair, err = pki.NewKeyPair(chain, key)
		}
	} else {
		at = path.Root("certificate").AtName("request_id")
		pair, err = trust.RequestedIssuer(ctx, cluster, ref, chain)
	}
	if err != nil {
		problemAt(diags, at, "Unable to Use Certificate", err)
		return nil, false
	}
	signer, err := trust.OwnIssuer(pair, bundle)
	if err != nil {
		problemAt(diags, path.Root("certificate"), "Certificate Not Trusted", err)
	}
	return signer, err == nil
}

// An anchorAlone stands for what signs where that is not at hand: the anchor is
// known, and nothing can be signed.
type anchorAlone struct {
	anchor *x509.Certificate
	renews bool
}

func (a anchorAlone) Anchors() []*x509.Certificate { return []*x509.Certificate{a.anchor} }

func (a anchorAlone) Renews() bool { return a.renews }

func (a anchorAlone) Issuer(*x509.Certificate, pki.AuthorityOptions) (*pki.KeyPair, error) {
	return nil, fmt.Errorf("the key of trust anchor %q is at hand only during an apply", a.anchor.Subject.String())
}

// alone finds the anchor with a fingerprint in a bundle; nil if it is not there.
func (m *issuerModel) alone(fingerprint string, bundle pki.Bundle) trust.Signer {
	certs := bundle.Certificates()
	i := slices.IndexFunc(certs, func(cert *x509.Certificate) bool { return pki.Fingerprint(cert) == fingerprint })
	if i < 0 {
		return nil
	}
	return anchorAlone{certs[i], !m.lasting()}
}

// watching is what signs as far as a refresh knows it: the state says where the
// key is, and the record of the last apply which anchor it belongs to.
func (r *issuerResource) watching(ctx context.Context, cluster *kube.Cluster, m *issuerModel, wanted pki.Bundle, record issuerRecord, diags *diag.Diagnostics) trust.Signer {
	if m.TrustAnchorID.IsNull() {
		return m.alone(record.Anchor, wanted)
	}
	ref, err := trust.ParseAnchorRef(m.TrustAnchorID.ValueString())
	if err != nil {
		problemAt(diags, path.Root("trust_anchor_id"), "Invalid Trust Anchor ID", err)
		return nil
	}
	signer, err := trust.StoredAnchor(ctx, cluster, ref)
	switch {
	case err == nil:
		return signer
	case errors.Is(err, kube.ErrNotFound):
		diags.AddWarning("Trust Anchor Gone: "+m.ref().String(), fmt.Sprintf(
			"%s is not there any more. The issuer stays in service, but nothing can renew it. Create the trust anchor anew, which rotates the mesh to it.", ref.Secret()))
		return m.alone(record.Anchor, wanted)
	case errors.Is(err, trust.ErrCannotSign):
		// No reason to keep anybody from a plan, which may be what mends it.
		diags.AddWarning("Trust Anchor Cannot Sign: "+m.ref().String(),
			sentence(err)+" The issuer stays in service, but nothing can renew it. Give the trust anchor its key back, or rotate it.")
		return m.alone(record.Anchor, wanted)
	default:
		problemAt(diags, path.Root("trust_anchor_id"), "Unable to Read Trust Anchor", err)
		return nil
	}
}

// planning is what signs as far as a plan can know it; nil if it cannot.
func (r *issuerResource) planning(ctx context.Context, cluster *kube.Cluster, config tfsdk.Config, m *issuerModel, wanted pki.Bundle) trust.Signer {
	if id := m.TrustAnchorID; !id.IsNull() {
		ref, err := trust.ParseAnchorRef(id.ValueString())
		if err != nil || id.IsUnknown() {
			return nil
		}
		signer, err := trust.StoredAnchor(ctx, cluster, ref)
		if err != nil || !wanted.Contains(signer.Anchors()[0]) {
			return nil
		}
		return signer
	}
	var key types.String
	if diags := config.GetAttribute(ctx, path.Root("signer").AtName("private_key_wo"), &key); !diags.HasError() && key.ValueString() != "" {
		var diags diag.Diagnostics
		if signer, ok := givenKey(key, "private_key_wo", wanted, &diags); ok {
			return signer
		}
		return nil
	}
	return m.alone(m.leadsTo(), wanted)
}

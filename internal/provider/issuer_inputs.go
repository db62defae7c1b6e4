package provider

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// kmsURIForms are the keys that can be named, for descriptions.
const kmsURIForms = "`azurekms:name=<key>;vault=<vault>` with `?version=<version>` for one version, or `softkms:path=<file>` for a PEM file of the machine that Terraform runs on; " +
	"credentials are taken from the environment (`ARM_CLIENT_ID`, … or whatever else the Azure SDK finds)"

// kmsKeyURI accepts the URIs of keys in a key management service.
func kmsKeyURI() validator.String {
	return checked{description: "the URI of a key such as azurekms:name=mesh-root;vault=prod", check: kms.CheckURI}
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
		return meshRules{istio.CheckAlgorithm, istio.CheckAlgorithm, func(cert *x509.Certificate) error {
			algorithm, err := pki.AlgorithmOf(cert.PublicKey)
			if err == nil {
				err = istio.CheckAlgorithm(algorithm)
			}
			if err != nil {
				return fmt.Errorf("trust anchor %q: %w", cert.Subject.String(), err)
			}
			return nil
		}}, true
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
	if _, err := trust.ParseAnchorRef(id.ValueString()); err != nil {
		problemAt(diags, path.Root("trust_anchor_id"), "Invalid Trust Anchor ID", err)
	}
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
func signingKey(ctx context.Context, uri, keyPEM types.String, keyName string, bundle pki.Bundle, diags *diag.Diagnostics) (trust.Signer, bool) {
	at := path.Root("signer").AtName("kms_key_uri")
	var key crypto.Signer
	var err error
	if uri.IsNull() {
		at = path.Root("signer").AtName(keyName)
		key, err = pki.ParseKey([]byte(keyPEM.ValueString()))
	} else {
		key, err = kms.Open(ctx, uri.ValueString())
	}
	if err != nil {
		problemAt(diags, at, "Unable to Use Signing Key", err)
		return nil, false
	}
	signer, err := trust.SigningKey(key, bundle)
	if err != nil {
		problemAt(diags, at, "Signing Key Not Trusted", err)
	}
	return signer, err == nil
}

package linkerd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	// IssuerSecret is the Secret in the control plane's namespace from which the
	// identity controller takes its issuer.
	IssuerSecret = "linkerd-identity-issuer"
	// IssuerScheme is the chart's identity.issuer.scheme that makes it leave
	// IssuerSecret to others; the Secret is then of type kubernetes.io/tls.
	IssuerScheme = string(corev1.SecretTypeTLS)
)

// CheckAnchor tells whether Linkerd accepts a trust anchor, by the rules of
// CheckTrustAnchorAlgoRequirements in linkerd2's pkg/issuercerts: a key of ECDSA
// P-256 or RSA with 2048 or 4096 bits, signed with SHA-256. The error wraps
// pki.ErrMeshRule.
func CheckAnchor(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return refuse("trust anchor", cert, "its ECDSA key is on %s, must be on P-256", key.Curve.Params().Name)
		}
		return checkSignature("trust anchor", cert, x509.ECDSAWithSHA256, x509.SHA256WithRSA)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits != 2048 && bits != 4096 {
			return refuse("trust anchor", cert, "its RSA key has %d bits, must have 2048 or 4096", bits)
		}
		return checkSignature("trust anchor", cert, x509.SHA256WithRSA)
	default:
		return refuse("trust anchor", cert, "its key is %s, must be ECDSA P-256 or RSA", cert.PublicKeyAlgorithm)
	}
}

// CheckIssuer tells whether Linkerd can be run with an issuer and a bundle at
// the given instant: the issuer leads to an anchor (what the identity controller
// demands before it starts) and the algorithms of the issuer and of every anchor
// are those that `linkerd install`, `upgrade` and `check` demand
// (CheckIssuerCertAlgoRequirements in linkerd2's pkg/issuercerts). The error
// wraps pki.ErrMeshRule or one of pki.Bundle.Verify.
func CheckIssuer(issuer *x509.Certificate, bundle pki.Bundle, at time.Time) error {
	if err := checkAlgorithms(issuer, bundle); err != nil {
		return err
	}
	_, err := bundle.Verify(issuer, at)
	return err
}

// IssuerSecretData returns the data of IssuerSecret in the layout of
// IssuerScheme: tls.crt, tls.key as PKCS#8, and ca.crt, which the control plane
// does not read but `linkerd check` does. It refuses what CheckIssuer would
// refuse at any instant.
func IssuerSecretData(issuer *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error) {
	if err := checkAlgorithms(issuer.Certificate(), bundle); err != nil {
		return nil, err
	}
	if _, err := bundle.Signers(issuer.Certificate()); err != nil {
		return nil, err
	}
	key, err := issuer.KeyPEM()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey:              issuer.CertificatePEM(),
		corev1.TLSPrivateKeyKey:        key,
		corev1.ServiceAccountRootCAKey: bundle.PEM(),
	}, nil
}

func checkAlgorithms(issuer *x509.Certificate, bundle pki.Bundle) error {
	for _, anchor := range bundle.Certificates() {
		if err := CheckAnchor(anchor); err != nil {
			return err
		}
	}
	key, ok := issuer.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return refuse("issuer", issuer, "its key is not ECDSA P-256")
	}
	return checkSignature("issuer", issuer, x509.ECDSAWithSHA256, x509.SHA256WithRSA)
}

func checkSignature(role string, cert *x509.Certificate, allowed ...x509.SignatureAlgorithm) error {
	if slices.Contains(allowed, cert.SignatureAlgorithm) {
		return nil
	}
	return refuse(role, cert, "it is signed with %s, must be with one of %v", cert.SignatureAlgorithm, allowed)
}

func refuse(role string, cert *x509.Certificate, format string, args ...any) error {
	return fmt.Errorf("%s %q is %w Linkerd: %s", role, cert.Subject.String(), pki.ErrMeshRule, fmt.Sprintf(format, args...))
}

package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.step.sm/crypto/x509util"
)

// Bundle is the set of anchors that are trusted, in the order of their
// publication and without duplicates. The zero value is empty.
type Bundle struct {
	certs []*x509.Certificate
}

// NewBundle collects certificates; the first of several equal ones stays.
func NewBundle(certs ...*x509.Certificate) Bundle {
	return Bundle{}.With(certs...)
}

// ParseBundle reads one or more certificates from PEM. It accepts white space
// and text between blocks and CRLF line ends, which the meshes do not: PEM
// writes the form that they all take.
func ParseBundle(data []byte) (Bundle, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return Bundle{}, err
	}
	return NewBundle(certs...), nil
}

// PEM returns the canonical form: blocks separated by one newline, none at the
// end. Equal bundles have equal bytes, which matters because Linkerd hashes them
// and because a second trailing newline breaks its parser.
func (b Bundle) PEM() []byte {
	blocks := make([][]byte, len(b.certs))
	for i, cert := range b.certs {
		blocks[i] = encodeCertificate(cert)
	}
	return bytes.Join(blocks, []byte("\n"))
}

// Certificates returns the anchors in order; they must not be changed.
func (b Bundle) Certificates() []*x509.Certificate { return slices.Clone(b.certs) }

// Fingerprints returns the anchors' fingerprints in order.
func (b Bundle) Fingerprints() []string {
	prints := make([]string, len(b.certs))
	for i, cert := range b.certs {
		prints[i] = Fingerprint(cert)
	}
	return prints
}

// Contains tells whether the very same certificate is in the bundle.
func (b Bundle) Contains(cert *x509.Certificate) bool {
	return slices.ContainsFunc(b.certs, cert.Equal)
}

// With returns a bundle that also holds the given certificates, after those of
// b.
func (b Bundle) With(certs ...*x509.Certificate) Bundle {
	sum := Bundle{certs: slices.Clone(b.certs)}
	for _, cert := range certs {
		if !sum.Contains(cert) {
			sum.certs = append(sum.certs, cert)
		}
	}
	return sum
}

// Verify tells whether workload certificates signed by issuer at the given
// instant would be trusted by whoever trusts the bundle, and returns the anchor
// that they lead to. The issuer is either signed by an anchor or one itself. The
// error wraps ErrExpired, ErrNotYetValid, ErrNotAuthority, ErrPathLength or
// ErrUntrusted, and names the certificate at fault.
func (b Bundle) Verify(issuer *x509.Certificate, at time.Time) (*x509.Certificate, error) {
	if err := checkAuthority(issuer, at); err != nil {
		return nil, err
	}
	signers, err := b.Signers(issuer)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, anchor := range signers {
		err := verifyBelow(issuer, anchor, at)
		if err == nil {
			return anchor, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// Signers returns the anchors whose key signed cert, at least one, or
// ErrUntrusted. Several can share a key when an anchor was extended; whether any
// of them is valid is for Verify to say.
func (b Bundle) Signers(cert *x509.Certificate) ([]*x509.Certificate, error) {
	var signers []*x509.Certificate
	for _, anchor := range b.certs {
		if signedBy(cert, anchor) {
			signers = append(signers, anchor)
		}
	}
	if len(signers) == 0 {
		return nil, fmt.Errorf("certificate %s, issued by %q, is %w", describe(cert), cert.Issuer.String(), ErrUntrusted)
	}
	return signers, nil
}

// Fingerprint returns the SHA-256 of the certificate's DER form as 64 lower-case
// hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	return x509util.Fingerprint(cert)
}

func signedBy(cert, parent *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, parent.RawSubject) &&
		parent.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

func verifyBelow(issuer, anchor *x509.Certificate, at time.Time) error {
	if !issuer.Equal(anchor) {
		// The verification below ends with the issuer. Peers verify one
		// certificate more, and would find the path too long.
		if err := checkAnchor(anchor, at); err != nil {
			return err
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(anchor)
	// The default key usage, server authentication, is left on purpose: the
	// identity controllers of both meshes verify their issuer with it.
	if _, err := issuer.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at}); err != nil {
		return fmt.Errorf("certificate %s: %w: %w", describe(issuer), ErrUntrusted, err)
	}
	return nil
}

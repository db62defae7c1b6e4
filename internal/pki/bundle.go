package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"go.step.sm/crypto/keyutil"
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
	return encodeCertificates(b.certs)
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

// WithPublicKey returns the anchors that have the given key. There can be
// several when an anchor was extended.
func (b Bundle) WithPublicKey(key crypto.PublicKey) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(b.certs), func(cert *x509.Certificate) bool {
		return !keyutil.Equal(cert.PublicKey, key)
	})
}

// VerifyChain tells whether workload certificates signed by an issuer, the first
// of the chain, at the given instant would be trusted by whoever trusts the
// bundle, and returns the anchor that they lead to. Of anchors that share a key
// it is the one that lives longest. Behind the issuer there may be
// intermediates, in the order of NewKeyPair; the last of the chain is either
// signed by an anchor or one itself. The error wraps ErrExpired, ErrNotYetValid,
// ErrNotAuthority, ErrPathLength, ErrCriticalExtension, ErrUntrusted or
// ErrMalformed, and names the certificate at fault.
func (b Bundle) VerifyChain(chain []*x509.Certificate, at time.Time) (*x509.Certificate, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	for i, cert := range chain {
		if err := checkAuthority(cert, i, at); err != nil {
			return nil, err
		}
	}
	signers, err := b.Signers(chain[len(chain)-1])
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(signers, func(a, b *x509.Certificate) int { return b.NotAfter.Compare(a.NotAfter) })
	var problem error
	for _, anchor := range signers {
		err := verifyBelow(chain, anchor, at)
		if err == nil {
			return anchor, nil
		}
		if problem == nil {
			problem = err
		}
	}
	return nil, problem
}

// Signers returns the anchors whose key signed cert, at least one, or
// ErrUntrusted. Several can share a key when an anchor was extended; whether any
// of them is valid is for VerifyChain to say. Of a chain, the last certificate is
// the one to ask for.
func (b Bundle) Signers(cert *x509.Certificate) ([]*x509.Certificate, error) {
	var signers []*x509.Certificate
	var problem error
	for _, anchor := range b.certs {
		err := checkSignature(cert, anchor)
		switch {
		case err == nil:
			signers = append(signers, anchor)
		case bytes.Equal(cert.RawIssuer, anchor.RawSubject):
			// Generations of an anchor share their name, so that the name misleads.
			problem = fmt.Errorf("%s has the name of its issuer, but: %w", describe(anchor), err)
		}
	}
	switch {
	case len(signers) > 0:
		return signers, nil
	case problem != nil:
		return nil, fmt.Errorf("certificate %s is %w: %w", describe(cert), ErrUntrusted, problem)
	default:
		return nil, fmt.Errorf("certificate %s is %w: its issuer is %q", describe(cert), ErrUntrusted, cert.Issuer.String())
	}
}

// Fingerprint returns the SHA-256 of the certificate's DER form as 64 lower-case
// hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	return x509util.Fingerprint(cert)
}

// verifyBelow verifies a chain, whose every certificate has passed checkAuthority,
// with one anchor.
func verifyBelow(chain []*x509.Certificate, anchor *x509.Certificate, at time.Time) error {
	last := len(chain) - 1
	if !chain[last].Equal(anchor) {
		// The verification below ends with the issuer. Peers verify one
		// certificate more, and would find the path too long.
		if err := checkAuthority(anchor, len(chain), at); err != nil {
			return err
		}
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	// The default key usage, server authentication, is left on purpose: the
	// identity controllers of both meshes verify their issuer with it.
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at}); err != nil {
		return fmt.Errorf("certificate %s: %w: %w", describe(chain[0]), ErrUntrusted, err)
	}
	return nil
}

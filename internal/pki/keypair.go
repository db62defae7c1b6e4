package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"go.step.sm/crypto/keyutil"
)

// KeyPair is a certificate with the private key that belongs to it and the
// intermediate certificates that lead from it to its anchor. The key may live
// elsewhere (a KMS): then it signs but cannot be written out.
type KeyPair struct {
	// chain begins with the pair's own certificate.
	chain  []*x509.Certificate
	signer crypto.Signer
}

// NewKeyPair joins a certificate, the first of the chain, and its key. Each
// other certificate must have signed the one before it. A self-signed one at the
// end is left out, as some authorities deliver it: which anchor is trusted is a
// bundle's to say. The error wraps ErrMalformed or ErrKeyMismatch.
func NewKeyPair(chain []*x509.Certificate, signer crypto.Signer) (*KeyPair, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	if last := len(chain) - 1; last > 0 && checkSignature(chain[last], chain[last]) == nil {
		chain = chain[:last]
	}
	if err := keyutil.VerifyPair(chain[0].PublicKey, signer); err != nil {
		return nil, fmt.Errorf("certificate %s: %w; give the key that it was made for", describe(chain[0]), ErrKeyMismatch)
	}
	return &KeyPair{chain: slices.Clone(chain), signer: signer}, nil
}

// ParseKeyPair reads one certificate, behind which there may be intermediates in
// the order of NewKeyPair, and its unencrypted private key from PEM.
func ParseKeyPair(certPEM, keyPEM []byte) (*KeyPair, error) {
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return NewKeyPair(chain, key)
}

// Certificate returns the certificate; it must not be changed.
func (p *KeyPair) Certificate() *x509.Certificate { return p.chain[0] }

// Chain returns the certificate and the intermediates behind it; they must not
// be changed.
func (p *KeyPair) Chain() []*x509.Certificate { return slices.Clone(p.chain) }

// CertificatePEM returns the certificate alone as PEM without a trailing newline.
func (p *KeyPair) CertificatePEM() []byte { return encodeCertificates(p.chain[:1]) }

// ChainPEM returns the certificate and its intermediates as PEM, in the
// canonical form of bundles.
func (p *KeyPair) ChainPEM() []byte { return encodeCertificates(p.chain) }

// Signer signs with the private key.
func (p *KeyPair) Signer() crypto.Signer { return p.signer }

// KeyPEM returns the private key as unencrypted PKCS#8 PEM without a trailing
// newline, or ErrUnsupportedKey if it is not held in memory.
func (p *KeyPair) KeyPEM() ([]byte, error) { return EncodeKey(p.signer) }

// Format prints the certificate's name whatever the verb, so that no log line
// can carry the key.
func (p *KeyPair) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "key pair of %s", describe(p.chain[0]))
}

// checkChain tells whether each certificate is signed by the next.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w chain: no certificate", ErrMalformed)
	}
	for i, cert := range chain[:len(chain)-1] {
		if err := checkSignature(cert, chain[i+1]); err != nil {
			return fmt.Errorf("%w chain: certificate %s is not signed by the next one, %s: %w; put the issuer first and behind each certificate the one that signed it",
				ErrMalformed, describe(cert), describe(chain[i+1]), err)
		}
	}
	return nil
}

// checkSignature tells whether the key of parent signed cert, in its name.
func checkSignature(cert, parent *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, parent.RawSubject) {
		return fmt.Errorf("its issuer is %q", cert.Issuer.String())
	}
	return parent.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}

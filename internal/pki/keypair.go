package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"go.step.sm/crypto/keyutil"
)

// KeyPair is a certificate with the private key that belongs to it. The key may
// live elsewhere (a KMS): then it signs but cannot be written out.
type KeyPair struct {
	cert   *x509.Certificate
	signer crypto.Signer
}

// NewKeyPair joins a certificate and its key, or returns ErrKeyMismatch.
func NewKeyPair(cert *x509.Certificate, signer crypto.Signer) (*KeyPair, error) {
	if err := keyutil.VerifyPair(cert.PublicKey, signer); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", describe(cert), ErrKeyMismatch)
	}
	return &KeyPair{cert: cert, signer: signer}, nil
}

// ParseKeyPair reads one certificate and its unencrypted private key from PEM.
func ParseKeyPair(certPEM, keyPEM []byte) (*KeyPair, error) {
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return NewKeyPair(cert, key)
}

// Certificate returns the certificate; it must not be changed.
func (p *KeyPair) Certificate() *x509.Certificate { return p.cert }

// CertificatePEM returns the certificate as PEM without a trailing newline.
func (p *KeyPair) CertificatePEM() []byte { return encodeCertificate(p.cert) }

// KeyPEM returns the private key as unencrypted PKCS#8 PEM without a trailing
// newline, or ErrUnsupportedKey if it is not held in memory.
func (p *KeyPair) KeyPEM() ([]byte, error) { return EncodeKey(p.signer) }

// Format prints the certificate's name whatever the verb, so that no log line
// can carry the key.
func (p *KeyPair) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "key pair of %s", describe(p.cert))
}

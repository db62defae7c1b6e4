package linkerd

// This file stands in for how Linkerd reads PEM (linkerd2 pkg/tls), as strict
// and as lenient as it is.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// PEM types.
const (
	certificateType = "CERTIFICATE"
	pkcs8Type       = "PRIVATE KEY"
	pkcs1Type       = "RSA PRIVATE KEY"
	sec1Type        = "EC PRIVATE KEY"
)

// decodeCertificates reads a bundle. Whatever else than certificates it holds
// is an error, even a second newline at the end; only a block of another type
// ends it quietly.
func decodeCertificates(data []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("not a PEM certificate")
		}
		if block.Type != certificateType {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certificates = append(certificates, certificate)
		data = rest
	}
	return certificates, nil
}

// decodeKey reads the private key of an issuer.
func decodeKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("not a PEM private key")
	}
	var key any
	var err error
	switch block.Type {
	case sec1Type:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pkcs1Type:
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case pkcs8Type:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("unsupported block type: %q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	default:
		return nil, errors.New("private key is neither ECDSA nor RSA")
	}
}

// An issuer signs the certificates of proxies.
type issuer struct {
	key crypto.Signer
	// chain is the issuer's certificate and those between it and an anchor.
	chain []*x509.Certificate
}

// readIssuer reads an issuer and checks what the identity controller checks of
// it: that the key belongs to the certificate, that the chain leads to one of
// the anchors and that it may issue at all. Names and algorithms do not matter.
func readIssuer(certificatePEM, keyPEM []byte, anchors *x509.CertPool) (*issuer, error) {
	key, err := decodeKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("issuer key: %w", err)
	}
	chain, err := decodeCertificates(certificatePEM)
	if err != nil {
		return nil, fmt.Errorf("issuer certificate: %w", err)
	}
	if len(chain) == 0 {
		return nil, errors.New("issuer certificate: none found")
	}
	public, ok := chain[0].PublicKey.(interface {
		Equal(key crypto.PublicKey) bool
	})
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("public and private key of the issuer do not match")
	}
	if err := verifyChain(chain, "", anchors); err != nil {
		return nil, fmt.Errorf("failed to verify issuer credentials with trust anchors: %w", err)
	}
	if !chain[0].IsCA {
		return nil, errors.New("failed to verify issuer credentials: certificate is not a CA")
	}
	return &issuer{key: key, chain: chain}, nil
}

// verifyChain checks that the first certificate of chain is valid for name,
// unless that is empty, and that the others lead from it to one of the anchors.
func verifyChain(chain []*x509.Certificate, name string, anchors *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: anchors, Intermediates: intermediates})
	return err
}

// decodeAnchors reads a trust bundle.
func decodeAnchors(data []byte) (*x509.CertPool, error) {
	certificates, err := decodeCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	if len(certificates) == 0 {
		return nil, errors.New("trust anchors: none found")
	}
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// checkRustlsKey refuses what the policy controller, alone written in Rust,
// cannot load: an elliptic key in SEC 1 form.
func checkRustlsKey(data []byte) error {
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type == pkcs8Type || block.Type == pkcs1Type {
			return nil
		}
		data = rest
	}
	return errors.New("could not load private key: it is neither PKCS#8 nor PKCS#1")
}

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"go.step.sm/crypto/pemutil"
)

const (
	blockCertificate  = "CERTIFICATE"
	blockECParameters = "EC PARAMETERS"
)

// ParseCertificate reads exactly one certificate from PEM. Text before the
// block is allowed, as RFC 7468 has it and openssl prints it; anything but
// white space after it is not.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%w certificate: %d PEM blocks where one is expected", ErrMalformed, len(certs))
	}
	return certs[0], nil
}

// ParseKey reads one unencrypted RSA or ECDSA private key from PEM: PKCS#8
// ("PRIVATE KEY"), PKCS#1 ("RSA PRIVATE KEY") or SEC 1 ("EC PRIVATE KEY", also
// behind the "EC PARAMETERS" block that `openssl ecparam -genkey` writes first).
// Errors never quote the input.
func ParseKey(data []byte) (crypto.Signer, error) {
	blocks, err := decodeBlocks(data)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if len(blocks) > 1 && blocks[0].Type == blockECParameters {
		blocks = blocks[1:]
	}
	if len(blocks) != 1 {
		return nil, fmt.Errorf("%w private key: %d PEM blocks where one is expected", ErrMalformed, len(blocks))
	}
	block := blocks[0]
	// Asked before pemutil sees the block: it would prompt for the password.
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fmt.Errorf("%w: remove its password first, e.g. with `openssl pkey`", ErrEncrypted)
	}
	switch block.Type {
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
	default:
		return nil, fmt.Errorf("%w private key: PEM block is %q", ErrMalformed, block.Type)
	}
	key, err := pemutil.Parse(pem.EncodeToMemory(block))
	if err != nil {
		return nil, fmt.Errorf("%w private key: %w", ErrMalformed, err)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	default:
		return nil, fmt.Errorf("%w: %T is neither RSA nor ECDSA", ErrUnsupportedKey, key)
	}
}

// EncodeKey writes an RSA or ECDSA private key as unencrypted PKCS#8 PEM
// without a trailing newline. PKCS#8 is the one form that every consumer reads:
// Linkerd's policy controller refuses the SEC 1 form that ECDSA keys are
// commonly written in.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	switch key.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
	default:
		return nil, fmt.Errorf("%w: %T cannot be written out", ErrUnsupportedKey, key)
	}
	block, err := pemutil.Serialize(key, pemutil.WithPKCS8(true))
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return encodeBlock(block), nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	blocks, err := decodeBlocks(data)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for i, block := range blocks {
		if block.Type != blockCertificate {
			return nil, fmt.Errorf("%w certificate: PEM block %d is %q", ErrMalformed, i+1, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w certificate in PEM block %d: %w", ErrMalformed, i+1, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// decodeBlocks splits PEM into at least one block. Unlike a loop over
// pem.Decode it does not pass over a block that is damaged: dropping one anchor
// of a bundle in silence takes a mesh down.
func decodeBlocks(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for rest := data; ; {
		block, next := pem.Decode(rest)
		if block == nil {
			switch tail := bytes.TrimSpace(rest); {
			case containsBoundary(tail):
				return nil, fmt.Errorf("%w PEM: block %d is damaged", ErrMalformed, len(blocks)+1)
			case len(blocks) == 0:
				return nil, fmt.Errorf("%w PEM: no block found", ErrMalformed)
			case len(tail) > 0:
				return nil, fmt.Errorf("%w PEM: %d bytes after the last block", ErrMalformed, len(tail))
			}
			return blocks, nil
		}
		consumed := rest[:len(rest)-len(next)]
		if start := bytes.LastIndex(consumed, []byte("-----BEGIN ")); start > 0 && containsBoundary(consumed[:start]) {
			return nil, fmt.Errorf("%w PEM: block %d is damaged", ErrMalformed, len(blocks)+1)
		}
		blocks, rest = append(blocks, block), next
	}
}

func containsBoundary(text []byte) bool {
	return bytes.Contains(text, []byte("-----BEGIN")) || bytes.Contains(text, []byte("-----END"))
}

// encodeBlock omits the final newline so that blocks joined by one newline, and
// a bundle put into YAML or an environment variable, have one spelling only.
func encodeBlock(block *pem.Block) []byte {
	return bytes.TrimSuffix(pem.EncodeToMemory(block), []byte("\n"))
}

func encodeCertificates(certs []*x509.Certificate) []byte {
	blocks := make([][]byte, len(certs))
	for i, cert := range certs {
		blocks[i] = encodeBlock(&pem.Block{Type: blockCertificate, Bytes: cert.Raw})
	}
	return bytes.Join(blocks, []byte("\n"))
}

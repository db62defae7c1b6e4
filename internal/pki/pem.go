package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"

	"go.step.sm/crypto/pemutil"
)

const (
	blockCertificate  = "CERTIFICATE"
	blockECParameters = "EC PARAMETERS"
)

// The algorithms of PKCS#8 that ParseKey reads, by RFC 8017 and RFC 5480.
var (
	oidRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECDSA = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
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
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fmt.Errorf("%w: nothing in a cluster could ask for its password; take it off, e.g. with `openssl pkey -in encrypted.key -out plain.key`", ErrEncrypted)
	}
	key, err := parseKeyBlock(block)
	if err != nil {
		return nil, err
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

func parseKeyBlock(block *pem.Block) (key any, err error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil && wrapsOther(block.Bytes) {
			return nil, fmt.Errorf("%w: it is neither RSA nor ECDSA", ErrUnsupportedKey)
		}
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "DSA PRIVATE KEY":
		return nil, fmt.Errorf("%w: DSA is neither RSA nor ECDSA", ErrUnsupportedKey)
	case blockCertificate:
		return nil, fmt.Errorf("%w private key: a certificate is in its place", ErrMalformed)
	default:
		return nil, fmt.Errorf("%w private key: PEM block is %q; write it as PKCS#8, e.g. with `openssl pkey`", ErrMalformed, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w private key: %w", ErrMalformed, err)
	}
	return key, nil
}

// wrapsOther tells whether PKCS#8 holds a key of an algorithm that crypto/x509
// does not know, such as DSA: it tells these from damaged ones by words alone.
func wrapsOther(der []byte) bool {
	var form struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	_, err := asn1.Unmarshal(der, &form)
	algorithm := form.Algorithm.Algorithm
	return err == nil && !algorithm.Equal(oidRSA) && !algorithm.Equal(oidECDSA)
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
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, fmt.Errorf("%w certificate: a private key is in its place (PEM block %d, %q)", ErrMalformed, i+1, block.Type)
		}
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

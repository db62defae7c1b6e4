package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"strconv"
	"strings"

	"go.step.sm/crypto/keyutil"
)

// Algorithm names a key type with its size: `ECDSA-<curve>` or `RSA-<bits>`.
// Any such name can be met in certificates of others; those of Algorithms can
// be made. Keys on P-384 sign with SHA-384, all others with SHA-256.
type Algorithm string

const (
	// AlgorithmECDSAP256 is the default, also where none is named: the one that
	// every mesh accepts for anchors and issuers alike.
	AlgorithmECDSAP256 Algorithm = "ECDSA-P256"
	AlgorithmECDSAP384 Algorithm = "ECDSA-P384"
	AlgorithmRSA2048   Algorithm = "RSA-2048"
	AlgorithmRSA4096   Algorithm = "RSA-4096"
)

// Algorithms returns the names of those that keys can be made of, the default
// first.
func Algorithms() []string {
	return []string{
		string(AlgorithmECDSAP256), string(AlgorithmECDSAP384),
		string(AlgorithmRSA2048), string(AlgorithmRSA4096),
	}
}

// AlgorithmOf names the algorithm of an RSA or ECDSA key; ErrUnsupportedKey if
// it is another.
func AlgorithmOf(key crypto.PublicKey) (Algorithm, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return Algorithm("ECDSA-" + strings.ReplaceAll(key.Curve.Params().Name, "-", "")), nil
	case *rsa.PublicKey:
		return Algorithm("RSA-" + strconv.Itoa(key.N.BitLen())), nil
	default:
		return "", fmt.Errorf("%w: %T is neither RSA nor ECDSA", ErrUnsupportedKey, key)
	}
}

// generate makes a key of the algorithm.
func (a Algorithm) generate() (crypto.Signer, error) {
	switch a {
	case AlgorithmECDSAP256, "":
		return keyutil.GenerateSigner("EC", "P-256", 0)
	case AlgorithmECDSAP384:
		return keyutil.GenerateSigner("EC", "P-384", 0)
	case AlgorithmRSA2048:
		return keyutil.GenerateSigner("RSA", "", 2048)
	case AlgorithmRSA4096:
		return keyutil.GenerateSigner("RSA", "", 4096)
	default:
		return nil, fmt.Errorf("%w: %q is not one of %s", ErrUnsupportedKey, string(a), strings.Join(Algorithms(), ", "))
	}
}

package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// azureRequests say what to ask a vault for, of the standard tier unless it is
// to be a hardware security module.
var azureRequests = map[pki.Algorithm]azkeys.CreateKeyParameters{
	pki.AlgorithmECDSAP256: {Kty: new(azkeys.KeyTypeEC), Curve: new(azkeys.CurveNameP256)},
	pki.AlgorithmECDSAP384: {Kty: new(azkeys.KeyTypeEC), Curve: new(azkeys.CurveNameP384)},
	pki.AlgorithmRSA2048:   {Kty: new(azkeys.KeyTypeRSA), KeySize: new(int32(2048))},
	pki.AlgorithmRSA4096:   {Kty: new(azkeys.KeyTypeRSA), KeySize: new(int32(4096))},
}

// azureCurves are those of NIST.
var azureCurves = map[azkeys.CurveName]elliptic.Curve{
	azkeys.CurveNameP256: elliptic.P256(),
	azkeys.CurveNameP384: elliptic.P384(),
	azkeys.CurveNameP521: elliptic.P521(),
}

// azurePublic reads the public part of a key.
func azurePublic(key *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if key == nil || key.Kty == nil {
		return nil, errors.New("it has no type")
	}
	switch *key.Kty {
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		if key.Crv == nil {
			return nil, errors.New("it has no curve")
		}
		curve, ok := azureCurves[*key.Crv]
		if !ok {
			return nil, fmt.Errorf("%w: its curve is %s; name one of P-256 and P-384", pki.ErrUnsupportedKey, *key.Crv)
		}
		const uncompressed = 4
		point := append(append([]byte{uncompressed}, key.X...), key.Y...)
		public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, fmt.Errorf("its point on %s is malformed: %w", *key.Crv, err)
		}
		return public, nil
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		modulus, exponent := new(big.Int).SetBytes(key.N), new(big.Int).SetBytes(key.E)
		const most = 1<<31 - 1 // As crypto/rsa has it.
		if modulus.Sign() == 0 || exponent.Sign() == 0 || exponent.Cmp(big.NewInt(most)) > 0 {
			return nil, errors.New("its modulus or exponent is malformed")
		}
		return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
	default:
		return nil, fmt.Errorf("%w: it is of the type %s, neither RSA nor ECDSA", pki.ErrUnsupportedKey, *key.Kty)
	}
}

// azureSigner signs by a vault.
type azureSigner struct {
	// ctx is kept because crypto.Signer has no argument for it.
	ctx    context.Context
	vault  *azkeys.Client
	key    azureKey
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (s *azureSigner) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer, with the padding of PKCS #1 v1.5 for RSA.
func (s *azureSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, err := azureAlgorithm(s.public, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operationSign, err)
	}
	var made azkeys.SignResponse
	if err := s.key.ask(s.ctx, operationSign, func(ctx context.Context) (err error) {
		made, err = s.vault.Sign(ctx, s.key.name, s.key.version, azkeys.SignParameters{Algorithm: &algorithm, Value: digest}, nil)
		return err
	}); err != nil {
		return nil, err
	}
	public, elliptical := s.public.(*ecdsa.PublicKey)
	if !elliptical {
		return made.Result, nil
	}
	// A vault gives the two numbers side by side.
	size := (public.Params().BitSize + 7) / 8
	if len(made.Result) != 2*size {
		return nil, fmt.Errorf("%s: vault %s made a signature of %d bytes, not %d", operationSign, s.key.vault, len(made.Result), 2*size)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(made.Result[:size]), new(big.Int).SetBytes(made.Result[size:]),
	})
}

// azureAlgorithm names the signature that is wanted as vaults do.
func azureAlgorithm(public crypto.PublicKey, opts crypto.SignerOpts) (azkeys.SignatureAlgorithm, error) {
	hash := opts.HashFunc()
	_, elliptical := public.(*ecdsa.PublicKey)
	_, pss := opts.(*rsa.PSSOptions)
	switch {
	case elliptical && hash == crypto.SHA256:
		return azkeys.SignatureAlgorithmES256, nil
	case elliptical && hash == crypto.SHA384:
		return azkeys.SignatureAlgorithmES384, nil
	case !elliptical && !pss && hash == crypto.SHA256:
		return azkeys.SignatureAlgorithmRS256, nil
	}
	return "", fmt.Errorf("signatures of %s by a %T of a vault are not supported", hash, public)
}

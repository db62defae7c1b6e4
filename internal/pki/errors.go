package pki

import "errors"

// The reasons for which material is refused. Every error of this package that
// concerns certificates or keys wraps exactly one of them, so that callers can
// tell a renewal (ErrExpired) from a mistake in the configuration.
var (
	// ErrMalformed is PEM or DER that cannot be read as what was asked for, and a
	// chain of certificates that do not sign one another in its order.
	ErrMalformed = errors.New("malformed")
	// ErrEncrypted is a private key protected by a password; nothing that
	// consumes keys in a cluster could ask for it.
	ErrEncrypted = errors.New("encrypted private key")
	// ErrUnsupportedKey is a key of a type that no mesh accepts.
	ErrUnsupportedKey = errors.New("unsupported key")
	// ErrKeyMismatch is a private key that belongs to another certificate.
	ErrKeyMismatch = errors.New("private key does not match the certificate")
	// ErrExpired is a certificate whose life has ended.
	ErrExpired = errors.New("expired")
	// ErrNotYetValid is a certificate whose life has not begun.
	ErrNotYetValid = errors.New("not yet valid")
	// ErrNotAuthority is a certificate that may not sign others.
	ErrNotAuthority = errors.New("not a certificate authority")
	// ErrPathLength is an authority that may not have so many others below it.
	ErrPathLength = errors.New("path length too small")
	// ErrCriticalExtension is a certificate with an extension that whoever
	// verifies it has to understand, and does not.
	ErrCriticalExtension = errors.New("unknown critical extension")
	// ErrUntrusted is a certificate that no anchor of the bundle vouches for.
	ErrUntrusted = errors.New("not signed by any anchor of the bundle")
	// ErrMeshRule is a certificate that is sound but that a mesh refuses.
	ErrMeshRule = errors.New("refused by")
)

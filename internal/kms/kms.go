// Package kms makes and finds signing keys that stay where they are: in a key
// management service that signs on request and never gives a private key away.
//
// Keys are named by the URIs of go.step.sm/crypto/kms:
//
//	azurekms:name=<key>;vault=<vault>[;environment=<cloud>][;hsm=true][?version=<version>]
//	softkms:path=<file of one key>
//	softkms:path=<directory of keys>/
//
// The first is Azure Key Vault, with a login that the caller has: a URI ends up
// in the state, so that it never holds credentials. The cloud is that of the
// login; a URI that names one is refused in any other.
//
// The second and third are the software KMS of step, PEM files on the machine
// that runs Terraform, for development and tests. A directory, told by the
// slash at its end, holds the versions of a key as 1.pem, 2.pem and so on.
package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/kms/uri"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// ErrFixed is a URI that names one key for ever, so that no new one can be made
// for it.
var ErrFixed = errors.New("names one fixed key")

// CheckURI refuses what Open and Create would refuse without asking anybody:
// an unknown scheme, a parameter that is missing, unknown or malformed, and
// credentials, which would end up in the state. Its errors never quote the
// values of parameters that it does not know.
func CheckURI(keyURI string) error {
	_, err := parse(keyURI)
	return err
}

// Versioned tells whether the URI names one fixed key (version), so that
// nothing new can be made below it. A URI that CheckURI refuses does not.
func Versioned(keyURI string) bool {
	key, err := parse(keyURI)
	return err == nil && key.fixed()
}

// Keys are the keys that can be reached from here.
type Keys struct {
	login func() (Login, error)
}

// New returns the keys of this machine and those in vaults of Azure, where login
// says who asks. It is called when a vault is about to be asked, and no earlier.
func New(login func() (Login, error)) Keys { return Keys{login: login} }

// Open returns the signer of a key that exists. A URI without a version means
// the newest one. Signatures are asked for under ctx: they end with it.
func (k Keys) Open(ctx context.Context, keyURI string) (crypto.Signer, error) {
	key, err := parse(keyURI)
	if err != nil {
		return nil, err
	}
	opened, err := key.open(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", key, err)
	}
	return newSigner(key, opened)
}

// Create makes a new key, or a new version of the key if there is one, and
// returns the URI that names exactly this version, and its signer as Open would.
// The error wraps ErrFixed if the URI names a version. When ctx ends meanwhile,
// a version may have been made that nobody uses.
func (k Keys) Create(ctx context.Context, keyURI string, algorithm pki.Algorithm) (string, crypto.Signer, error) {
	key, err := parse(keyURI)
	if err != nil {
		return "", nil, err
	}
	if key.fixed() {
		return "", nil, fmt.Errorf("key %s: %w, so that no new one can be made: %s", key, ErrFixed, key.unfixed())
	}
	if !slices.Contains(pki.Algorithms(), string(algorithm)) {
		return "", nil, fmt.Errorf("key %s: algorithm %q is unknown; name one of %s", key, algorithm, strings.Join(pki.Algorithms(), ", "))
	}
	made, err := key.create(ctx, k, algorithm)
	if err != nil {
		return "", nil, fmt.Errorf("key %s: %w", key, err)
	}
	signer, err := newSigner(made.key, made.signer)
	if err != nil {
		return "", nil, err
	}
	return made.key.String(), signer, nil
}

// key is what a URI names, in one kind of KMS. Its string is the URI in one
// spelling and without anything that could be a secret.
type key interface {
	fmt.Stringer
	// fixed tells whether the URI names one version.
	fixed() bool
	// unfixed says how to spell the URI of a key that can have new versions.
	unfixed() string
	open(ctx context.Context, keys Keys) (crypto.Signer, error)
	create(ctx context.Context, keys Keys, algorithm pki.Algorithm) (creation, error)
}

// creation is a key version that was made.
type creation struct {
	key    key
	signer crypto.Signer
}

// operation is what was asked of the service when it failed.
type operation string

const (
	operationRead   operation = "read"
	operationCreate operation = "create"
	operationSign   operation = "sign"
)

func parse(keyURI string) (key, error) {
	parsed, err := uri.Parse(keyURI)
	if err != nil {
		// The cause quotes the URI, which may be anything.
		return nil, errors.New("key URI is malformed: it is <scheme>:<parameter>=<value>;…, with a scheme of azurekms or softkms")
	}
	switch parsed.Scheme {
	case azureScheme:
		return parseAzure(parsed)
	case softkms.Scheme:
		return parseSoft(parsed)
	default:
		return nil, fmt.Errorf("key URI has the unknown scheme %q: azurekms and softkms are supported", parsed.Scheme)
	}
}

// parameters returns the parameters of a key URI. All are checked, because a
// misspelt one that is passed over would name another key than was meant.
func parameters(parsed *uri.URI, known ...string) (map[string]string, error) {
	// The library drops what it cannot read of the query, a version too.
	if _, err := url.ParseQuery(parsed.RawQuery); err != nil {
		return nil, fmt.Errorf("%s key URI is malformed after the question mark: parameters are separated by &", parsed.Scheme)
	}
	all := uri.Values(parsed)
	values := make(map[string]string, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case isCredential(name):
			return nil, fmt.Errorf("%s key URI holds the credential %q, which would end up in the state: give credentials to the provider, or in the environment", parsed.Scheme, name)
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("%s key URI has the unknown parameter %q: known are %s", parsed.Scheme, name, strings.Join(known, ", "))
		case len(all[name]) > 1:
			return nil, fmt.Errorf("%s key URI has the parameter %q %d times", parsed.Scheme, name, len(all[name]))
		}
		values[name] = all[name][0]
	}
	return values, nil
}

// isCredential tells the parameters by which step's KMSs take secrets, or
// identities that belong with them.
func isCredential(name string) bool {
	switch name {
	case "client-id", "client-secret", "tenant-id", "aad-endpoint", "pin-value", "pin-source", "pin-prompt":
		return true
	}
	return false
}

// signer signs with a key that is not at hand. It holds the key by a function
// alone: neither formatting nor encoding it can write a private key out.
type signer struct {
	key    key
	public crypto.PublicKey
	sign   func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error)
}

func newSigner(key key, opened crypto.Signer) (crypto.Signer, error) {
	if err := checkType(opened.Public()); err != nil {
		return nil, fmt.Errorf("key %s: %w", key, err)
	}
	return &signer{key: key, public: opened.Public(), sign: opened.Sign}, nil
}

// checkType refuses keys of which one mesh or the other cannot use the
// certificates.
func checkType(public crypto.PublicKey) error {
	algorithm, err := pki.AlgorithmOf(public)
	if err != nil {
		return fmt.Errorf("%w; name one of %s", err, strings.Join(pki.Algorithms(), ", "))
	}
	if !slices.Contains(pki.Algorithms(), string(algorithm)) {
		return fmt.Errorf("%w: it is %s; name one of %s", pki.ErrUnsupportedKey, algorithm, strings.Join(pki.Algorithms(), ", "))
	}
	return nil
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer.
func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.sign(rand, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", s.key, err)
	}
	return signature, nil
}

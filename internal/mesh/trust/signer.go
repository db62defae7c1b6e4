package trust

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// A Signer makes issuers: an anchor with its key, wherever that is, or a user's
// own authority.
type Signer interface {
	// Anchors are those that it can make issuers below, the one for new issuers
	// first.
	Anchors() []*x509.Certificate
	// Issuer makes an issuer below one of them.
	Issuer(below *x509.Certificate, options pki.AuthorityOptions) (*pki.KeyPair, error)
	// Renews reports whether it can make another issuer whenever it is asked.
	Renews() bool
}

// anchorKeys are anchors with their keys.
type anchorKeys []*pki.KeyPair

func (a anchorKeys) Anchors() []*x509.Certificate {
	certs := make([]*x509.Certificate, len(a))
	for i, anchor := range a {
		certs[i] = anchor.Certificate()
	}
	return certs
}

func (a anchorKeys) Issuer(below *x509.Certificate, options pki.AuthorityOptions) (*pki.KeyPair, error) {
	for _, anchor := range a {
		if anchor.Certificate().Equal(below) {
			return pki.NewIssuer(anchor, options)
		}
	}
	return nil, fmt.Errorf("the key of trust anchor %q is not at hand", below.Subject.String())
}

func (anchorKeys) Renews() bool { return true }

// ErrCannotSign is that what is kept of an anchor makes no issuers: it has no key,
// or is damaged.
var ErrCannotSign = errors.New("cannot sign")

// StoredAnchor signs with an anchor that is kept in a Secret: its current
// generation, or the former one as long as its key is kept. The error wraps
// ErrCannotSign if the Secret could be read, but not be used.
func StoredAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef) (Signer, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	if err != nil {
		return nil, fmt.Errorf("trust anchor %s: %w", ref, err)
	}
	var pairs []*pki.KeyPair
	anchor, err := anchorIn(secret, nil)
	if err == nil {
		pairs, err = anchor.KeyPairs()
	}
	if err != nil {
		return nil, fmt.Errorf("trust anchor %s %w: %s: %w", ref, ErrCannotSign, ref.Secret(), err)
	}
	return anchorKeys(pairs), nil
}

// SigningKey signs with a key that belongs to an anchor of the bundle.
func SigningKey(key crypto.Signer, bundle pki.Bundle) (Signer, error) {
	var all anchorKeys
	for _, cert := range bundle.WithPublicKey(key.Public()) {
		anchor, err := pki.NewKeyPair([]*x509.Certificate{cert}, key)
		if err != nil {
			return nil, err
		}
		all = append(all, anchor)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no anchor of the trust bundle has the public key of the signer; put the anchor's certificate into the bundle", pki.ErrKeyMismatch)
	}
	return all, nil
}

// ownIssuer is an issuer that somebody else has made, below an anchor of theirs.
type ownIssuer struct {
	issuer *pki.KeyPair
	anchor *x509.Certificate
}

// OwnIssuer hands on an issuer that leads to an anchor of the bundle.
func OwnIssuer(issuer *pki.KeyPair, bundle pki.Bundle) (Signer, error) {
	chain := issuer.Chain()
	signers, err := bundle.Signers(chain[len(chain)-1])
	if err != nil {
		return nil, err
	}
	return ownIssuer{issuer: issuer, anchor: signers[0]}, nil
}

func (o ownIssuer) Anchors() []*x509.Certificate { return []*x509.Certificate{o.anchor} }

func (o ownIssuer) Issuer(below *x509.Certificate, options pki.AuthorityOptions) (*pki.KeyPair, error) {
	if !below.Equal(o.anchor) {
		return nil, fmt.Errorf("the issuer given leads to trust anchor %q, not to %q", o.anchor.Subject.String(), below.Subject.String())
	}
	if _, err := pki.NewBundle(below).VerifyChain(o.issuer.Chain(), options.Now); err != nil {
		if errors.Is(err, pki.ErrExpired) {
			return nil, fmt.Errorf("%w; give another issuer", err)
		}
		return nil, err
	}
	return o.issuer, nil
}

func (ownIssuer) Renews() bool { return false }

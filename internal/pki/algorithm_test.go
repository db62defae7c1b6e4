package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

func TestUnknownAlgorithm(t *testing.T) {
	t.Parallel()
	_, err := pki.NewAnchor(pki.AuthorityOptions{Now: noon, Algorithm: "RSA-1024"})
	refused(t, "unknown algorithm", err, pki.ErrUnsupportedKey, `"RSA-1024"`, "ECDSA-P256")
}

func TestAlgorithmOf(t *testing.T) {
	t.Parallel()
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[pki.Algorithm]crypto.Signer{"ECDSA-P521": p521, "RSA-3072": r3072} {
		if got, err := pki.AlgorithmOf(key.Public()); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pki.AlgorithmOf(public)
	refused(t, "Ed25519", err, pki.ErrUnsupportedKey)
}

// opaque is a key that signs and cannot be read, as in a KMS.
type opaque struct{ crypto.Signer }

func TestSignerElsewhere(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The algorithm is without meaning then.
	anchor := newAnchor(t, pki.AuthorityOptions{Signer: opaque{key}, Algorithm: pki.AlgorithmRSA2048})
	cert := anchor.Certificate()
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("the anchor has another key")
	}
	if _, err := anchor.KeyPEM(); err == nil {
		t.Error("a key that is elsewhere was written out")
	}
	issuer := newIssuer(t, anchor, pki.AuthorityOptions{})
	if _, err := pki.NewBundle(cert).VerifyChain(issuer.Chain(), noon); err != nil {
		t.Error(err)
	}
	// The next generation may have the same key.
	extended := newAnchor(t, pki.AuthorityOptions{Signer: opaque{key}}).Certificate()
	other := newAnchor(t, pki.AuthorityOptions{}).Certificate()
	bundle := pki.NewBundle(cert, other, extended)
	if found := bundle.WithPublicKey(opaque{key}.Public()); !slices.EqualFunc(found, []*x509.Certificate{cert, extended}, (*x509.Certificate).Equal) {
		t.Errorf("with the key are %v", pki.NewBundle(found...).Fingerprints())
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pki.NewAnchor(pki.AuthorityOptions{Now: noon, Signer: ed})
	refused(t, "Ed25519", err, pki.ErrUnsupportedKey)
}

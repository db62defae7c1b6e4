// Package pkitest makes certificates that package pki would never make, for
// tests of what judges them.
package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// SelfSigned returns a self-signed CA with the given key, valid from an hour
// before now to an hour after it and without a path length, as changed by edit.
func SelfSigned(t testing.TB, now time.Time, key crypto.Signer, edit func(*x509.Certificate)) *pki.KeyPair {
	t.Helper()
	template := authority(now, edit)
	return pair(t, key, Sign(t, template, template, key.Public(), key))
}

// Below returns a CA like that of SelfSigned, with its chain, signed by a parent.
func Below(t testing.TB, now time.Time, parent *pki.KeyPair, key crypto.Signer, edit func(*x509.Certificate)) *pki.KeyPair {
	t.Helper()
	cert := Sign(t, authority(now, edit), parent.Certificate(), key.Public(), Key(t, parent))
	return pair(t, key, append([]*x509.Certificate{cert}, parent.Chain()...)...)
}

func authority(now time.Time, edit func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(7),
		Subject:               pkix.Name{CommonName: "hand made"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
		MaxPathLen:            -1,
	}
	edit(template)
	return template
}

func pair(t testing.TB, key crypto.Signer, chain ...*x509.Certificate) *pki.KeyPair {
	t.Helper()
	pair, err := pki.NewKeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Sign returns the certificate of a template, a public key and a parent.
func Sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Key returns the private key of a pair that holds it in memory.
func Key(t testing.TB, pair *pki.KeyPair) crypto.Signer {
	t.Helper()
	encoded, err := pair.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

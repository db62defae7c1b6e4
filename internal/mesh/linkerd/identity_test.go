package linkerd_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

var identityNow = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// identityAnchor is an anchor with any key, as a user may bring one.
func identityAnchor(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm) *pki.KeyPair {
	t.Helper()
	return pkitest.SelfSigned(t, identityNow, key, func(c *x509.Certificate) { c.SignatureAlgorithm = algorithm })
}

func identityKeys(t *testing.T) (p256, p384, rsa2048, rsa3072, ed crypto.Signer) {
	t.Helper()
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		must(rsa.GenerateKey(rand.Reader, 2048)),
		must(rsa.GenerateKey(rand.Reader, 3072)),
		must(edKey, err)
}

func TestCheckAnchor(t *testing.T) {
	t.Parallel()
	p256, p384, rsa2048, rsa3072, ed := identityKeys(t)
	for name, test := range map[string]struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		want      error
	}{
		"P-256":                {p256, x509.ECDSAWithSHA256, nil},
		"P-256 with SHA-384":   {p256, x509.ECDSAWithSHA384, pki.ErrMeshRule},
		"P-384":                {p384, x509.ECDSAWithSHA384, pki.ErrMeshRule},
		"P-384 with SHA-256":   {p384, x509.ECDSAWithSHA256, pki.ErrMeshRule},
		"RSA 2048":             {rsa2048, x509.SHA256WithRSA, nil},
		"RSA 2048 and SHA-512": {rsa2048, x509.SHA512WithRSA, pki.ErrMeshRule},
		"RSA 3072":             {rsa3072, x509.SHA256WithRSA, pki.ErrMeshRule},
		"Ed25519":              {ed, x509.PureEd25519, pki.ErrUnsupportedKey},
	} {
		err := linkerd.CheckAnchor(identityAnchor(t, test.key, test.algorithm).Certificate())
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), "hand made") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssuer(t *testing.T) {
	t.Parallel()
	p256, p384, rsa2048, _, _ := identityKeys(t)
	made, err := pki.NewAnchor(pki.AuthorityOptions{Now: identityNow})
	if err != nil {
		t.Fatal(err)
	}
	stranger := identityAnchor(t, p256, x509.ECDSAWithSHA256)
	for name, test := range map[string]struct {
		anchor *pki.KeyPair
		bundle pki.Bundle
		want   error
	}{
		"made by us":            {made, pki.NewBundle(made.Certificate()), nil},
		"RSA anchor":            {identityAnchor(t, rsa2048, x509.SHA256WithRSA), pki.Bundle{}, nil},
		"P-384 anchor":          {identityAnchor(t, p384, x509.ECDSAWithSHA384), pki.Bundle{}, pki.ErrMeshRule},
		"refused beside it":     {made, pki.NewBundle(made.Certificate(), identityAnchor(t, p384, x509.ECDSAWithSHA384).Certificate()), pki.ErrMeshRule},
		"anchor not in bundle":  {made, pki.NewBundle(stranger.Certificate()), pki.ErrUntrusted},
		"several in the bundle": {made, pki.NewBundle(stranger.Certificate(), made.Certificate()), nil},
	} {
		if len(test.bundle.Certificates()) == 0 {
			test.bundle = pki.NewBundle(test.anchor.Certificate())
		}
		issuer, err := pki.NewIssuer(test.anchor, pki.AuthorityOptions{Now: identityNow})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := linkerd.CheckIssuer(issuer.Chain(), test.bundle, identityNow); !errors.Is(err, test.want) {
			t.Errorf("%s: check %v, want %v", name, err, test.want)
		}
		data, err := linkerd.IssuerSecretData(issuer, test.bundle)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: data %v, want %v", name, err, test.want)
		}
		if test.want != nil {
			continue
		}
		if keys := slices.Sorted(maps.Keys(data)); !slices.Equal(keys, []string{"ca.crt", "tls.crt", "tls.key"}) {
			t.Errorf("%s: keys %v", name, keys)
		}
		if _, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(data["tls.key"], []byte("-----BEGIN PRIVATE KEY-----\n")) {
			t.Errorf("%s: tls.key is not PKCS#8", name)
		}
		if !bytes.Equal(data["ca.crt"], test.bundle.PEM()) {
			t.Errorf("%s: ca.crt is not the bundle", name)
		}
	}
	issuer, err := pki.NewIssuer(made, pki.AuthorityOptions{Now: identityNow, Validity: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := linkerd.CheckIssuer(issuer.Chain(), pki.NewBundle(made.Certificate()), identityNow.Add(2*time.Hour)); !errors.Is(err, pki.ErrExpired) {
		t.Errorf("expired issuer: %v", err)
	}
	rsaIssuer := identityAnchor(t, rsa2048, x509.SHA256WithRSA)
	if err := linkerd.CheckIssuer(rsaIssuer.Chain(), pki.NewBundle(rsaIssuer.Certificate()), identityNow); !errors.Is(err, pki.ErrMeshRule) {
		t.Errorf("an anchor with an RSA key as issuer: %v", err)
	}
}

func TestAlgorithmRules(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]struct {
		check    func(pki.Algorithm) error
		accepted []pki.Algorithm
		upstream string
	}{
		"anchors": {
			linkerd.CheckAnchorAlgorithm,
			[]pki.Algorithm{pki.AlgorithmECDSAP256, pki.AlgorithmRSA2048, pki.AlgorithmRSA4096},
			"CheckTrustAnchorAlgoRequirements in linkerd2's pkg/issuercerts",
		},
		"issuers": {
			linkerd.CheckIssuerAlgorithm,
			[]pki.Algorithm{pki.AlgorithmECDSAP256},
			"CheckIssuerCertAlgoRequirements in linkerd2's pkg/issuercerts",
		},
	} {
		for _, algorithm := range append(pki.Algorithms(), "RSA-3072", "ECDSA-P521") {
			err := rule.check(pki.Algorithm(algorithm))
			if slices.Contains(rule.accepted, pki.Algorithm(algorithm)) {
				if err != nil {
					t.Errorf("%s with %s: %v", name, algorithm, err)
				}
				continue
			}
			if !errors.Is(err, pki.ErrMeshRule) || !strings.Contains(err.Error(), algorithm) || !strings.Contains(err.Error(), rule.upstream) {
				t.Errorf("%s with %s: %v", name, algorithm, err)
			}
		}
	}
}

// TestIssuerWithIntermediates has an issuer from a PKI with more levels.
func TestIssuerWithIntermediates(t *testing.T) {
	t.Parallel()
	p256, p384, rsa2048, _, _ := identityKeys(t)
	named := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = name }
	}
	root := identityAnchor(t, rsa2048, x509.SHA256WithRSA)
	bundle := pki.NewBundle(root.Certificate())
	issuerBelow := func(key crypto.Signer) *pki.KeyPair {
		middle := pkitest.Below(t, identityNow, root, key, named("middle"))
		issuer, _, _, _, _ := identityKeys(t)
		return pkitest.Below(t, identityNow, middle, issuer, named("issuer"))
	}
	for name, key := range map[string]crypto.Signer{"P-256": p256, "RSA": rsa2048} {
		issuer := issuerBelow(key)
		if err := linkerd.CheckIssuer(issuer.Chain(), bundle, identityNow); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		data, err := linkerd.IssuerSecretData(issuer, bundle)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// What proxies are given, and what they trust.
		pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
		if err != nil || len(pair.Certificate) != 2 {
			t.Errorf("%s: tls.crt has %d certificates, %v", name, len(pair.Certificate), err)
		}
		if !bytes.Equal(data["ca.crt"], bundle.PEM()) {
			t.Errorf("%s: ca.crt is not the bundle", name)
		}
	}
	// P-384 signs with SHA-384.
	refused := issuerBelow(p384)
	if err := linkerd.CheckIssuer(refused.Chain(), bundle, identityNow); !errors.Is(err, pki.ErrMeshRule) || !strings.Contains(err.Error(), "CheckIssuerCertAlgoRequirements") {
		t.Errorf("signed by P-384: %v", err)
	}
	if _, err := linkerd.IssuerSecretData(refused, bundle); !errors.Is(err, pki.ErrMeshRule) {
		t.Errorf("signed by P-384: %v", err)
	}
	if err := linkerd.CheckIssuer(issuerBelow(p256).Chain()[:1], bundle, identityNow); !errors.Is(err, pki.ErrUntrusted) {
		t.Errorf("without its intermediate: %v", err)
	}
}

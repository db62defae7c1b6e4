package istio_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

var caNow = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func caAnchor(t *testing.T, key crypto.Signer, err error) *pki.KeyPair {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pkitest.SelfSigned(t, caNow, key, func(*x509.Certificate) {})
}

func TestCACertsSecretData(t *testing.T) {
	t.Parallel()
	old, err := pki.NewAnchor(pki.AuthorityOptions{Now: caNow})
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: caNow})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: caNow})
	if err != nil {
		t.Fatal(err)
	}
	data, err := istio.CACertsSecretData(ca, pki.NewBundle(old.Certificate(), anchor.Certificate()))
	if err != nil {
		t.Fatal(err)
	}
	if keys := slices.Sorted(maps.Keys(data)); !slices.Equal(keys, []string{"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}) {
		t.Errorf("keys %v", keys)
	}
	for file, want := range map[string][]*x509.Certificate{
		"ca-cert.pem":    {ca.Certificate()},
		"cert-chain.pem": {ca.Certificate(), anchor.Certificate()},
		"root-cert.pem":  {old.Certificate(), anchor.Certificate()},
	} {
		bundle, err := pki.ParseBundle(data[file])
		if err != nil || !bytes.Equal(bundle.PEM(), pki.NewBundle(want...).PEM()) {
			t.Errorf("%s holds %v, %v; want %v", file, bundle.Fingerprints(), err, pki.NewBundle(want...).Fingerprints())
		}
	}
	for file, content := range data {
		if !bytes.HasSuffix(content, []byte("-----\n")) || bytes.HasSuffix(content, []byte("\n\n")) {
			t.Errorf("%s does not end with one newline", file)
		}
	}
	if _, err := pki.ParseKeyPair(data["ca-cert.pem"], data["ca-key.pem"]); err != nil {
		t.Error(err)
	}
	checkWorkload(t, data)
}

// checkWorkload does what istiod and a peer do: sign a workload's certificate,
// append the chain verbatim, and verify the result with the root file alone.
func checkWorkload(t *testing.T, data map[string][]byte) {
	t.Helper()
	ca, err := pki.ParseCertificate(data["ca-cert.pem"])
	if err != nil {
		t.Fatal(err)
	}
	caKey, err := pki.ParseKey(data["ca-key.pem"])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pkitest.Sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: caNow, NotAfter: caNow.Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, key.Public(), caKey)
	presented, err := pki.ParseBundle(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), data["cert-chain.pem"]...))
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data["root-cert.pem"]) {
		t.Fatal("root-cert.pem holds no certificate")
	}
	for _, cert := range presented.Certificates()[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := presented.Certificates()[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: caNow}); err != nil {
		t.Errorf("a peer refuses a workload: %v", err)
	}
}

func TestCheckCA(t *testing.T) {
	t.Parallel()
	p384, err384 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, err521 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, errEd := ed25519.GenerateKey(rand.Reader)
	for name, test := range map[string]struct {
		anchor *pki.KeyPair
		want   error
	}{
		"P-384":   {caAnchor(t, p384, err384), nil},
		"P-521":   {caAnchor(t, p521, err521), pki.ErrMeshRule},
		"Ed25519": {caAnchor(t, ed, errEd), pki.ErrUnsupportedKey},
	} {
		ca, err := pki.NewIssuer(test.anchor, pki.AuthorityOptions{Now: caNow})
		if err != nil {
			t.Fatal(err)
		}
		bundle := pki.NewBundle(test.anchor.Certificate())
		if err := istio.CheckCA(ca.Chain(), bundle, caNow); !errors.Is(err, test.want) {
			t.Errorf("%s: check %v, want %v", name, err, test.want)
		}
		if _, err := istio.CACertsSecretData(ca, bundle); !errors.Is(err, test.want) {
			t.Errorf("%s: data %v, want %v", name, err, test.want)
		}
		if err := istio.CheckCA(ca.Chain(), bundle, caNow.Add(2*time.Hour)); err == nil {
			t.Errorf("%s: accepted after its end", name)
		}
		if _, err := istio.CACertsSecretData(ca, pki.Bundle{}); err == nil {
			t.Errorf("%s: written without a root", name)
		}
	}
}

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
	"strings"
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

// TestCAWithIntermediates has a CA from a PKI with more levels.
func TestCAWithIntermediates(t *testing.T) {
	t.Parallel()
	key := func() crypto.Signer {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	named := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = name }
	}
	root := caAnchor(t, key(), nil)
	middle := pkitest.Below(t, caNow, root, key(), named("middle"))
	ca := pkitest.Below(t, caNow, middle, key(), named("ca"))
	bundle := pki.NewBundle(root.Certificate())
	if err := istio.CheckCA(ca.Chain(), bundle, caNow); err != nil {
		t.Error(err)
	}
	data, err := istio.CACertsSecretData(ca, bundle)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseBundle(data["cert-chain.pem"])
	if want := []*x509.Certificate{ca.Certificate(), middle.Certificate(), root.Certificate()}; err != nil || !slices.EqualFunc(chain.Certificates(), want, (*x509.Certificate).Equal) {
		t.Errorf("cert-chain.pem holds %v, %v", chain.Fingerprints(), err)
	}
	checkWorkload(t, data)
	if again, err := istio.ReadCACertsSecret(data); err != nil || !bytes.Equal(again.ChainPEM(), ca.ChainPEM()) {
		t.Errorf("read as %v, %v", again, err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refused := pkitest.Below(t, caNow, pkitest.Below(t, caNow, root, p521, named("middle")), key(), named("ca"))
	if err := istio.CheckCA(refused.Chain(), bundle, caNow); !errors.Is(err, pki.ErrMeshRule) {
		t.Errorf("with an intermediate on P-521: %v", err)
	}
}

func TestReadCACertsSecretRefuses(t *testing.T) {
	t.Parallel()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: caNow})
	if err != nil {
		t.Fatal(err)
	}
	made := func() map[string][]byte {
		ca, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: caNow})
		if err != nil {
			t.Fatal(err)
		}
		data, err := istio.CACertsSecretData(ca, pki.NewBundle(anchor.Certificate()))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	other := made()
	for name, test := range map[string]struct {
		edit func(map[string][]byte)
		word string
	}{
		"key of another":   {func(data map[string][]byte) { data["ca-key.pem"] = other["ca-key.pem"] }, "cert-chain.pem and ca-key.pem: "},
		"chain of another": {func(data map[string][]byte) { data["ca-cert.pem"] = other["ca-cert.pem"] }, "does not begin with the certificate of ca-cert.pem"},
		"root is no PEM":   {func(data map[string][]byte) { data["root-cert.pem"] = []byte("x") }, "root-cert.pem: "},
		"CA is no PEM":     {func(data map[string][]byte) { data["ca-cert.pem"] = []byte("x") }, "ca-cert.pem: "},
		"no chain":         {func(data map[string][]byte) { delete(data, "cert-chain.pem") }, "cert-chain.pem is missing"},
	} {
		data := made()
		test.edit(data)
		if _, err := istio.ReadCACertsSecret(data); err == nil || !strings.Contains(err.Error(), test.word) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.word)
		}
	}
}

func TestCheckAlgorithm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range append(pki.Algorithms(), "RSA-3072") {
		if err := istio.CheckAlgorithm(pki.Algorithm(algorithm)); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if err := istio.CheckAlgorithm("ECDSA-P521"); !errors.Is(err, pki.ErrMeshRule) || !strings.Contains(err.Error(), "GetEllipticCurve in istio's security/pkg/pki/util") {
		t.Errorf("ECDSA-P521: %v", err)
	}
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

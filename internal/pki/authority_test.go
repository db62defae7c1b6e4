package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 987654321, time.UTC)

func newAnchor(t testing.TB, opts pki.AuthorityOptions) *pki.KeyPair {
	t.Helper()
	if opts.Now.IsZero() {
		opts.Now = noon
	}
	anchor, err := pki.NewAnchor(opts)
	if err != nil {
		t.Fatalf("new anchor: %v", err)
	}
	return anchor
}

func newIssuer(t testing.TB, anchor *pki.KeyPair, opts pki.AuthorityOptions) *pki.KeyPair {
	t.Helper()
	if opts.Now.IsZero() {
		opts.Now = noon
	}
	issuer, err := pki.NewIssuer(anchor, opts)
	if err != nil {
		t.Fatalf("new issuer: %v", err)
	}
	return issuer
}

// selfSigned makes what the package itself would never make.
func selfSigned(t testing.TB, edit func(*x509.Certificate)) *pki.KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pkitest.SelfSigned(t, noon, key, edit)
}

func TestNewAnchor(t *testing.T) {
	t.Parallel()
	cert := newAnchor(t, pki.AuthorityOptions{}).Certificate()

	if got, want := cert.Subject.String(), "CN="+pki.DefaultAnchorCommonName; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
	second := noon.Truncate(time.Second)
	if want := second.Add(-pki.Backdate); !cert.NotBefore.Equal(want) {
		t.Errorf("begins %s, want %s", cert.NotBefore, want)
	}
	if want := second.Add(87600 * time.Hour); !cert.NotAfter.Equal(want) {
		t.Errorf("ends %s, want %s", cert.NotAfter, want)
	}
	if !cert.IsCA || cert.MaxPathLen != 1 {
		t.Errorf("CA %t with path length %d, want a CA with 1", cert.IsCA, cert.MaxPathLen)
	}
	if want := x509.KeyUsageCertSign | x509.KeyUsageCRLSign; cert.KeyUsage != want {
		t.Errorf("key usage %b, want %b", cert.KeyUsage, want)
	}
	if len(cert.ExtKeyUsage) > 0 || len(cert.DNSNames) > 0 {
		t.Errorf("extended key usage %v and names %v, want none", cert.ExtKeyUsage, cert.DNSNames)
	}
	if len(cert.SubjectKeyId) == 0 {
		t.Error("no subject key id")
	}
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("key %T signed with %s, want ECDSA P-256 with SHA-256", cert.PublicKey, cert.SignatureAlgorithm)
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		t.Errorf("not self-signed: %v", err)
	}
	other := newAnchor(t, pki.AuthorityOptions{}).Certificate()
	if cert.SerialNumber.Cmp(other.SerialNumber) == 0 || cert.PublicKey.(*ecdsa.PublicKey).Equal(other.PublicKey) { //nolint:forcetypeassert // Checked above.
		t.Error("two anchors share a serial number or key")
	}
}

func TestNewIssuer(t *testing.T) {
	t.Parallel()
	anchor := newAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "root.example"}})
	cert := newIssuer(t, anchor, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "identity.example"}, Validity: 48 * time.Hour}).Certificate()

	if cert.Subject.CommonName != "identity.example" || cert.Issuer.CommonName != "root.example" {
		t.Errorf("subject %s issued by %s", cert.Subject, cert.Issuer)
	}
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		t.Errorf("CA %t with path length %d, want a CA with 0", cert.IsCA, cert.MaxPathLen)
	}
	if string(cert.AuthorityKeyId) != string(anchor.Certificate().SubjectKeyId) {
		t.Error("authority key id is not the anchor's subject key id")
	}
	if want := noon.Truncate(time.Second).Add(48 * time.Hour); !cert.NotAfter.Equal(want) {
		t.Errorf("ends %s, want %s", cert.NotAfter, want)
	}
	// Leaf, issuer and anchor together are what a peer verifies.
	if err := leafOf(t, newIssuer(t, anchor, pki.AuthorityOptions{}), anchor)(noon); err != nil {
		t.Errorf("a workload certificate below the issuer: %v", err)
	}
}

// leafOf signs a workload certificate below issuer and returns how a peer that
// trusts anchor verifies it.
func leafOf(t *testing.T, issuer, anchor *pki.KeyPair) (verify func(at time.Time) error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pkitest.Sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"default.dgraph.serviceaccount.identity.linkerd.cluster.local"},
		NotBefore:    noon.Add(-time.Minute),
		NotAfter:     noon.Add(time.Hour),
	}, issuer.Certificate(), key.Public(), pkitest.Key(t, issuer))
	return func(at time.Time) error {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(anchor.Certificate())
		intermediates.AddCert(issuer.Certificate())
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at})
		return err
	}
}

func TestIssuerNeverOutlivesItsAnchor(t *testing.T) {
	t.Parallel()
	anchor := newAnchor(t, pki.AuthorityOptions{Validity: 100 * time.Hour})
	early := 20 * time.Hour

	cut := newIssuer(t, anchor, pki.AuthorityOptions{Validity: 200 * time.Hour}).Certificate()
	if !cut.NotAfter.Equal(anchor.Certificate().NotAfter) {
		t.Errorf("issuer ends %s, its anchor %s", cut.NotAfter, anchor.Certificate().NotAfter)
	}
	if pki.IssuerRenewalDue(cut, anchor.Certificate(), early, noon.Add(99*time.Hour)) {
		t.Error("an issuer that ends with its anchor is due: it would be renewed on every apply")
	}
	within := newIssuer(t, anchor, pki.AuthorityOptions{Validity: 50 * time.Hour}).Certificate()
	if pki.IssuerRenewalDue(within, anchor.Certificate(), early, noon.Add(29*time.Hour)) {
		t.Error("due too early")
	}
	if !pki.IssuerRenewalDue(within, anchor.Certificate(), early, noon.Add(30*time.Hour)) {
		t.Error("not due in time")
	}
	young := newIssuer(t, anchor, pki.AuthorityOptions{Now: noon.Add(-time.Minute)}).Certificate()
	if young.NotBefore.Before(anchor.Certificate().NotBefore) {
		t.Errorf("issuer begins %s, before its anchor %s", young.NotBefore, anchor.Certificate().NotBefore)
	}
}

func TestNewIssuerRefusesAnchor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		anchor *pki.KeyPair
		want   error
	}{
		"expired":            {newAnchor(t, pki.AuthorityOptions{Now: noon.Add(-3 * time.Hour), Validity: time.Hour}), pki.ErrExpired},
		"not yet valid":      {newAnchor(t, pki.AuthorityOptions{Now: noon.Add(time.Hour)}), pki.ErrNotYetValid},
		"issuer as anchor":   {newIssuer(t, newAnchor(t, pki.AuthorityOptions{}), pki.AuthorityOptions{}), pki.ErrPathLength},
		"server certificate": {newServing(t, "a.b.svc"), pki.ErrNotAuthority},
		"no certSign": {selfSigned(t, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageDigitalSignature
		}), pki.ErrNotAuthority},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pki.NewIssuer(test.anchor, pki.AuthorityOptions{Now: noon})
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestNewIssuerBelowImportedAnchors(t *testing.T) {
	t.Parallel()
	// An anchor made by openssl or cert-manager often has no path length.
	unlimited := selfSigned(t, func(*x509.Certificate) {})
	bundle := pki.NewBundle(unlimited.Certificate())
	if _, err := bundle.VerifyChain(newIssuer(t, unlimited, pki.AuthorityOptions{}).Chain(), noon); err != nil {
		t.Errorf("below an anchor without path length: %v", err)
	}

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	anchor := pkitest.SelfSigned(t, noon, rsaKey, func(*x509.Certificate) {})
	issuer := newIssuer(t, anchor, pki.AuthorityOptions{}).Certificate()
	if issuer.SignatureAlgorithm != x509.SHA256WithRSA || issuer.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("%s key signed with %s", issuer.PublicKeyAlgorithm, issuer.SignatureAlgorithm)
	}
	if _, err := pki.NewBundle(anchor.Certificate()).VerifyChain([]*x509.Certificate{issuer}, noon); err != nil {
		t.Errorf("below an RSA anchor: %v", err)
	}
}

func TestAuthorityOptionsRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]pki.AuthorityOptions{
		"long name":         {Now: noon, Subject: pki.Subject{CommonName: strings.Repeat("x", 65)}},
		"no instant":        {},
		"negative validity": {Now: noon, Validity: -time.Hour},
		"no time at all":    {Now: noon, Validity: time.Millisecond},
	} {
		if _, err := pki.NewAnchor(opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func newServing(t testing.TB, dnsName string) *pki.KeyPair {
	t.Helper()
	pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: dnsName, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// TestServingCertificateServes verifies the way the API server does when it
// calls a webhook: the certificate is the server's and, as caBundle, the only
// root.
func TestServingCertificateServes(t *testing.T) {
	t.Parallel()
	const name = "linkerd-policy-validator.linkerd.svc"
	pair := newServing(t, name)
	keyPEM, err := pair.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(keyPEM), "-----BEGIN PRIVATE KEY-----\n") {
		t.Error("key is not PKCS#8, which Linkerd's policy controller demands")
	}
	if _, err := tls.X509KeyPair(pair.CertificatePEM(), keyPEM); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pair.CertificatePEM()) {
		t.Fatal("certificate is not usable as caBundle")
	}
	call := func(serverName string, at time.Time) error {
		_, err := pair.Certificate().Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName, CurrentTime: at})
		return err
	}
	if err := call(name, noon); err != nil {
		t.Errorf("the API server refuses it: %v", err)
	}
	if err := call("linkerd-proxy-injector.linkerd.svc", noon); err == nil {
		t.Error("the certificate serves another name")
	}
	if err := call(name, noon.Add(pki.DefaultServingValidity)); err == nil {
		t.Error("the certificate serves after its end")
	}
}

func TestServingCertificateOfLongName(t *testing.T) {
	t.Parallel()
	name := "linkerd-proxy-injector." + strings.Repeat("n", 63) + ".svc"
	if err := newServing(t, name).Certificate().VerifyHostname(name); err != nil {
		t.Error(err)
	}
	if _, err := pki.NewServingCertificate(pki.ServingOptions{Now: noon}); err == nil {
		t.Error("a certificate without a name was made")
	}
}

func TestRenewalDue(t *testing.T) {
	t.Parallel()
	end := noon.Add(100 * time.Hour)
	for _, test := range []struct {
		early time.Duration
		now   time.Time
		want  bool
	}{
		{24 * time.Hour, end.Add(-24*time.Hour - time.Nanosecond), false},
		{24 * time.Hour, end.Add(-24 * time.Hour), true},
		{24 * time.Hour, end.Add(time.Hour), true},
		{0, end.Add(-time.Nanosecond), false},
		{0, end, true},
	} {
		if got := pki.RenewalDue(end, test.early, test.now); got != test.want {
			t.Errorf("%s early at %s: %t", test.early, test.now, got)
		}
	}
}

func TestCheckRenewal(t *testing.T) {
	t.Parallel()
	for early, ok := range map[time.Duration]bool{
		-time.Second: false, 0: true, time.Hour: true, 2 * time.Hour: false, 3 * time.Hour: false,
	} {
		if err := pki.CheckRenewal(2*time.Hour, early); (err == nil) != ok {
			t.Errorf("renewal %s before the end of 2h: %v", early, err)
		}
	}
}

func TestKeyPairIsNotPrinted(t *testing.T) {
	t.Parallel()
	pair := newAnchor(t, pki.AuthorityOptions{})
	want := fmt.Sprintf("key pair of %q (sha256 %.12s)", "CN="+pki.DefaultAnchorCommonName, pki.Fingerprint(pair.Certificate()))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		if got := fmt.Sprintf(format, pair); got != want {
			t.Errorf("%s prints %q", format, got)
		}
	}
	encoded, err := json.Marshal(pair) //nolint:staticcheck // That nothing is exported is what is tested.
	if err != nil || string(encoded) != "{}" {
		t.Errorf("JSON is %s, %v", encoded, err)
	}
}

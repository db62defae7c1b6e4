package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

func TestBundleIsCanonical(t *testing.T) {
	t.Parallel()
	a, b := newAnchor(t, pki.AuthorityOptions{}), newAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{CommonName: "second"}})
	pemA, pemB := string(a.CertificatePEM()), string(b.CertificatePEM())
	want := pemA + "\n" + pemB

	for name, input := range map[string]string{
		"canonical":           want,
		"trailing newlines":   want + "\n\n\n",
		"blank lines between": pemA + "\n\n\n" + pemB + "\n",
		"CRLF":                strings.ReplaceAll(want+"\n", "\n", "\r\n"),
		"duplicates":          strings.Join([]string{pemA, pemB, pemA, pemB}, "\n"),
		"openssl text":        "subject=CN = first\nissuer=CN = first\n" + pemA + "\n# the second\n" + pemB + "\n",
	} {
		bundle, err := pki.ParseBundle([]byte(input))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := string(bundle.PEM()); got != want {
			t.Errorf("%s: canonical form is\n%s\nwant\n%s", name, got, want)
		}
	}

	bundle := pki.NewBundle(a.Certificate(), b.Certificate())
	if got := string(bundle.PEM()); got != want {
		t.Errorf("built bundle is\n%s\nwant\n%s", got, want)
	}
	if got := bundle.Fingerprints(); !slices.Equal(got, []string{pki.Fingerprint(a.Certificate()), pki.Fingerprint(b.Certificate())}) {
		t.Errorf("fingerprints %v", got)
	}
	if got := pki.Fingerprint(a.Certificate()); len(got) != 64 || strings.Trim(got, "0123456789abcdef") != "" {
		t.Errorf("fingerprint %q", got)
	}
	// Linkerd's own loop over pem.Decode must end with nothing left.
	for rest := bundle.PEM(); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("%d bytes are left over", len(rest))
		}
	}
}

func TestBundleWith(t *testing.T) {
	t.Parallel()
	a, b := newAnchor(t, pki.AuthorityOptions{}).Certificate(), newAnchor(t, pki.AuthorityOptions{}).Certificate()
	one := pki.NewBundle(a)
	two := one.With(b, a)
	if one.Contains(b) || !two.Contains(a) || !two.Contains(b) || len(two.Certificates()) != 2 {
		t.Errorf("with: %v and %v", one.Fingerprints(), two.Fingerprints())
	}
	if len((pki.Bundle{}).PEM()) != 0 || (pki.Bundle{}).Contains(a) {
		t.Error("the zero bundle is not empty")
	}
	two.Certificates()[0] = b
	if !two.Contains(a) {
		t.Error("the caller's slice is the bundle's own")
	}
}

func TestParseBundleRefuses(t *testing.T) {
	t.Parallel()
	anchor := newAnchor(t, pki.AuthorityOptions{})
	good := string(anchor.CertificatePEM())
	key, err := anchor.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(good, "MII", "M!!", 1)
	for name, test := range map[string]struct{ input, message string }{
		"empty":             {"", "no block"},
		"white space":       {" \n\n", "no block"},
		"not PEM":           {"hello", "no block"},
		"garbage at end":    {good + "\ngarbage\n", "7 bytes after the last block"},
		"damaged":           {damaged, "block 1 is damaged"},
		"damaged between":   {good + "\n" + damaged + "\n" + good, "block 2 is damaged"},
		"cut off":           {good + "\n" + good[:len(good)/2], "block 2 is damaged"},
		"a private key":     {good + "\n" + string(key), `a private key is in its place (PEM block 2, "PRIVATE KEY")`},
		"not a certificate": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "in PEM block 1"},
	} {
		_, err := pki.ParseBundle([]byte(test.input))
		if !errors.Is(err, pki.ErrMalformed) || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.message)
		}
	}
	if _, err := pki.ParseCertificate([]byte(good + "\n" + good)); !errors.Is(err, pki.ErrMalformed) {
		t.Errorf("two certificates for one: %v", err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	old := newAnchor(t, pki.AuthorityOptions{Validity: 100 * time.Hour})
	current := newAnchor(t, pki.AuthorityOptions{Validity: 1000 * time.Hour})
	stranger := newAnchor(t, pki.AuthorityOptions{})
	both := pki.NewBundle(old.Certificate(), current.Certificate())
	issuer := newIssuer(t, current, pki.AuthorityOptions{Validity: 500 * time.Hour}).Certificate()
	flat := selfSigned(t, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })

	for name, test := range map[string]struct {
		bundle pki.Bundle
		issuer *x509.Certificate
		at     time.Time
		anchor *x509.Certificate
		want   error
	}{
		"its anchor among others":       {both, issuer, noon, current.Certificate(), nil},
		"after another anchor's end":    {both, issuer, noon.Add(200 * time.Hour), current.Certificate(), nil},
		"an anchor that issues itself":  {pki.NewBundle(flat.Certificate()), flat.Certificate(), noon, flat.Certificate(), nil},
		"not in the bundle":             {pki.NewBundle(stranger.Certificate()), issuer, noon, nil, pki.ErrUntrusted},
		"empty bundle":                  {pki.Bundle{}, issuer, noon, nil, pki.ErrUntrusted},
		"issuer expired":                {both, issuer, noon.Add(501 * time.Hour), nil, pki.ErrExpired},
		"issuer not yet valid":          {both, issuer, noon.Add(-time.Hour), nil, pki.ErrNotYetValid},
		"not an authority":              {both, newServing(t, "a.b.svc").Certificate(), noon, nil, pki.ErrNotAuthority},
		"anchor has room for no issuer": {pki.NewBundle(flat.Certificate()), below(t, flat, func(*x509.Certificate) {}).Certificate(), noon, nil, pki.ErrPathLength},
		"anchor expired before issuer": {
			pki.NewBundle(flat.Certificate()),
			below(t, flat, func(c *x509.Certificate) { c.NotAfter = noon.Add(48 * time.Hour) }).Certificate(),
			noon.Add(24 * time.Hour), nil, pki.ErrExpired,
		},
		"restrictive extended key usage": {
			pki.NewBundle(current.Certificate()),
			below(t, current, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }).Certificate(),
			noon, nil, pki.ErrUntrusted,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anchor, err := test.bundle.VerifyChain([]*x509.Certificate{test.issuer}, test.at)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if (anchor == nil) != (test.anchor == nil) || anchor != nil && !anchor.Equal(test.anchor) {
				t.Errorf("leads to %v, want %v", anchor, test.anchor)
			}
		})
	}
}

// TestVerifyAgreesWithPeers holds Verify against what a peer finds out when it
// verifies a workload's certificate.
func TestVerifyAgreesWithPeers(t *testing.T) {
	t.Parallel()
	anchor := newAnchor(t, pki.AuthorityOptions{Validity: 30 * time.Minute})
	issuer := newIssuer(t, anchor, pki.AuthorityOptions{Validity: 20 * time.Minute})
	leaf := leafOf(t, issuer, anchor)
	bundle := pki.NewBundle(anchor.Certificate())
	for minute := -10; minute < 40; minute += 5 {
		at := noon.Add(time.Duration(minute)*time.Minute + 30*time.Second)
		if at.Before(noon.Add(-time.Minute)) {
			continue // The workload's own certificate has not begun.
		}
		_, err := bundle.VerifyChain(issuer.Chain(), at)
		if peer := leaf(at); (err == nil) != (peer == nil) {
			t.Errorf("at %s the bundle says %v, a peer %v", at, err, peer)
		}
	}
}

// below has parent sign an authority that differs from a sound one, without a
// path length, by edit.
func below(t testing.TB, parent *pki.KeyPair, edit func(*x509.Certificate)) *pki.KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pkitest.Below(t, noon, parent, key, func(c *x509.Certificate) {
		c.Subject.CommonName = "below"
		edit(c)
	})
}

func TestVerifyChain(t *testing.T) {
	t.Parallel()
	named := func(name string, pathLength int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.CommonName, c.MaxPathLen, c.MaxPathLenZero = name, pathLength, pathLength == 0
		}
	}
	root := selfSigned(t, named("root", -1))
	upper := below(t, root, named("upper", 2))
	lower := below(t, upper, named("lower", 1))
	issuer := below(t, lower, named("issuer", 0))
	short := below(t, root, named("short", 1))
	narrow := selfSigned(t, named("narrow", 1))
	certs := func(pairs ...*pki.KeyPair) []*x509.Certificate {
		var chain []*x509.Certificate
		for _, pair := range pairs {
			chain = append(chain, pair.Certificate())
		}
		return chain
	}
	intermediate := func(parent *pki.KeyPair, edit func(*x509.Certificate)) []*x509.Certificate {
		return below(t, below(t, parent, edit), named("issuer", 0)).Chain()
	}
	bundle := pki.NewBundle(certs(root, narrow)...)

	for name, chain := range map[string][]*x509.Certificate{
		"an authority":        certs(upper),
		"one intermediate":    certs(lower, upper),
		"two intermediates":   issuer.Chain(),
		"anchor at the end":   certs(issuer, lower, upper, root),
		"an anchor alone":     certs(root),
		"without path length": intermediate(root, named("middle", -1)),
	} {
		if anchor, err := bundle.VerifyChain(chain, noon); err != nil || !anchor.Equal(root.Certificate()) {
			t.Errorf("%s: leads to %v, %v", name, anchor, err)
		}
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  error
		words []string
	}{
		"empty":             {nil, pki.ErrMalformed, []string{"no certificate"}},
		"wrong order":       {certs(lower, issuer, upper), pki.ErrMalformed, []string{`"CN=lower"`, `not signed by the next one, "CN=issuer"`, "issuer first"}},
		"one left out":      {certs(issuer, upper), pki.ErrMalformed, []string{`"CN=issuer"`, `its issuer is "CN=lower"`}},
		"last left out":     {certs(issuer, lower), pki.ErrUntrusted, []string{`"CN=lower"`, `its issuer is "CN=upper"`}},
		"short in between":  {intermediate(short, named("middle", -1)), pki.ErrPathLength, []string{`"CN=short"`, "allows 1", "2 needed"}},
		"anchor too narrow": {intermediate(narrow, named("middle", 1)), pki.ErrPathLength, []string{`"CN=narrow"`, "allows 1", "2 needed"}},
		"path length 0 in between": {
			intermediate(root, named("middle", 0)), pki.ErrPathLength, []string{`"CN=middle"`, "allows 0", "1 needed"},
		},
		"expired in between": {
			intermediate(root, func(c *x509.Certificate) { c.Subject.CommonName, c.NotAfter = "middle", noon.Add(-time.Minute) }),
			pki.ErrExpired,
			[]string{`"CN=middle"`},
		},
		"no authority in between": {
			intermediate(root, func(c *x509.Certificate) { c.Subject.CommonName, c.IsCA = "middle", false }),
			pki.ErrNotAuthority,
			[]string{`"CN=middle"`},
		},
		"critical extension": {
			intermediate(root, func(c *x509.Certificate) {
				c.Subject.CommonName = "middle"
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
			}),
			pki.ErrCriticalExtension,
			[]string{`"CN=middle"`, "1.2.3.4"},
		},
	} {
		_, err := bundle.VerifyChain(test.chain, noon)
		refused(t, name, err, test.want, test.words...)
	}
}

// TestVerifyWithGenerations has anchors that share a name, or a key as well.
func TestVerifyWithGenerations(t *testing.T) {
	t.Parallel()
	key := pkitest.Key(t, newAnchor(t, pki.AuthorityOptions{}))
	generation := func(validity time.Duration) *pki.KeyPair {
		return newAnchor(t, pki.AuthorityOptions{Signer: key, Validity: validity})
	}
	first, second, third := generation(time.Hour), generation(3*time.Hour), generation(2*time.Hour)
	issuer := newIssuer(t, second, pki.AuthorityOptions{})
	bundle := pki.NewBundle(first.Certificate(), second.Certificate(), third.Certificate())
	if signers, err := bundle.Signers(issuer.Certificate()); err != nil || len(signers) != 3 {
		t.Errorf("signed by %d anchors, %v", len(signers), err)
	}
	if anchor, err := bundle.VerifyChain(issuer.Chain(), noon); err != nil || !anchor.Equal(second.Certificate()) {
		t.Errorf("leads to %v, %v; want the one that lives longest", anchor, err)
	}
	without := pki.NewBundle(first.Certificate(), third.Certificate())
	if anchor, err := without.VerifyChain(issuer.Chain(), noon); err != nil || !anchor.Equal(third.Certificate()) {
		t.Errorf("leads to %v, %v", anchor, err)
	}
	_, err := without.VerifyChain(issuer.Chain(), noon.Add(150*time.Minute))
	refused(t, "after the end of both", err, pki.ErrExpired, third.Certificate().NotAfter.Format(time.RFC3339))

	other := pki.NewBundle(newAnchor(t, pki.AuthorityOptions{}).Certificate())
	_, err = other.VerifyChain(issuer.Chain(), noon)
	refused(t, "another key of that name", err, pki.ErrUntrusted, "has the name of its issuer", "x509")
}

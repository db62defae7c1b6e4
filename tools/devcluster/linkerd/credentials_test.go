package linkerd

import (
	"crypto/x509"
	"strings"
	"testing"
)

func TestDecodeCertificates(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t, "a", nil, true), newAuthority(t, "b", nil, true)
	one := a.certificatePEM()
	for _, test := range []struct {
		name, bundle string
		want         int
		err          string
	}{
		{"one", one, 1, ""},
		{"no newline at the end", strings.TrimSpace(one), 1, ""},
		{"two", one + b.certificatePEM(), 2, ""},
		{"blank lines between", one + "\n\n" + b.certificatePEM(), 2, ""},
		{"two newlines at the end", one + "\n", 0, "not a PEM certificate"},
		{"comment at the end", one + "# the end", 0, "not a PEM certificate"},
		{"a key ends it quietly", one + a.keyPEM(t, pkcs8Type) + b.certificatePEM(), 1, ""},
		{"nothing", "", 0, ""},
		{"something else", "hello", 0, "not a PEM certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeCertificates([]byte(test.bundle))
			refused(t, err, test.err)
			if len(got) != test.want {
				t.Errorf("%d certificates, want %d", len(got), test.want)
			}
		})
	}
}

func TestVerifyIssuer(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root.linkerd.cluster.local", nil, true)
	issuer := newAuthority(t, "any name will do", root, true)
	below := newAuthority(t, "below", issuer, true)
	leaf := newAuthority(t, "leaf", root, false)
	other := newAuthority(t, "other", nil, true)
	anchors := x509.NewCertPool()
	anchors.AddCert(root.certificate)
	for _, test := range []struct{ name, crt, key, want string }{
		{"issuer", issuer.certificatePEM(), issuer.keyPEM(t, pkcs8Type), ""},
		{"key in SEC 1", issuer.certificatePEM(), issuer.keyPEM(t, sec1Type), ""},
		{"the anchor itself", root.certificatePEM(), root.keyPEM(t, pkcs8Type), ""},
		{"chain", below.certificatePEM() + issuer.certificatePEM(), below.keyPEM(t, pkcs8Type), ""},
		{"broken chain", below.certificatePEM(), below.keyPEM(t, pkcs8Type), "failed to verify"},
		{"unknown anchor", other.certificatePEM(), other.keyPEM(t, pkcs8Type), "failed to verify"},
		{"not a CA", leaf.certificatePEM(), leaf.keyPEM(t, pkcs8Type), "not a CA"},
		{"key of another", issuer.certificatePEM(), other.keyPEM(t, pkcs8Type), "do not match"},
		{"no key", issuer.certificatePEM(), "", "not a PEM private key"},
		{"no certificate", "", issuer.keyPEM(t, pkcs8Type), "none found"},
		{"openssl's parameters first", issuer.certificatePEM(), "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + issuer.keyPEM(t, sec1Type), "unsupported block type"},
		{"newlines at the end", issuer.certificatePEM() + "\n", issuer.keyPEM(t, pkcs8Type), "not a PEM certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := readIssuer([]byte(test.crt), []byte(test.key), anchors)
			refused(t, err, test.want)
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Error("the error holds PEM")
			}
		})
	}
}

func TestPolicyControllerKeys(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "a", nil, true)
	refused(t, checkRustlsKey([]byte(a.keyPEM(t, pkcs8Type))), "")
	refused(t, checkRustlsKey([]byte(a.keyPEM(t, sec1Type))), "could not load private key")
	refused(t, checkRustlsKey(nil), "could not load private key")
}

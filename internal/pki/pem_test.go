package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

func encodePEM(t testing.TB, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// keyForms returns one ECDSA and one RSA key in every form that is accepted.
func keyForms(t testing.TB) (ec *ecdsa.PrivateKey, rsaKey *rsa.PrivateKey, forms map[string][]byte) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err = rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	sec1PEM := encodePEM(t, "EC PRIVATE KEY", sec1, err)
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	parameters := encodePEM(t, "EC PARAMETERS", curve, err)
	pkcs8EC, err := x509.MarshalPKCS8PrivateKey(ec)
	pkcs8ECPEM := encodePEM(t, "PRIVATE KEY", pkcs8EC, err)
	pkcs8RSA, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	return ec, rsaKey, map[string][]byte{
		"ec sec1":                 sec1PEM,
		"ec sec1 with parameters": append(parameters, sec1PEM...),
		"ec pkcs8":                pkcs8ECPEM,
		"ec pkcs8 CRLF":           bytes.ReplaceAll(pkcs8ECPEM, []byte("\n"), []byte("\r\n")),
		"rsa pkcs8":               encodePEM(t, "PRIVATE KEY", pkcs8RSA, err),
		"rsa pkcs1":               encodePEM(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil),
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	ec, rsaKey, forms := keyForms(t)
	for name, form := range forms {
		key, err := pki.ParseKey(form)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want interface{ Equal(crypto.PrivateKey) bool } = ec
		if strings.HasPrefix(name, "rsa") {
			want = rsaKey
		}
		if !want.Equal(key) {
			t.Errorf("%s: parsed to another key", name)
		}
		encoded, err := pki.EncodeKey(key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.HasPrefix(encoded, []byte("-----BEGIN PRIVATE KEY-----\n")) || bytes.HasSuffix(encoded, []byte("\n")) {
			t.Errorf("%s: not encoded as PKCS#8 without trailing newline", name)
		}
		if again, err := pki.ParseKey(encoded); err != nil || !want.Equal(again) {
			t.Errorf("%s: does not come back from PKCS#8: %v", name, err)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	anchor := newAnchor(t, pki.AuthorityOptions{})
	good, err := anchor.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(edKey)
	edPEM := encodePEM(t, "PRIVATE KEY", edDER, err)
	xKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	xDER, err := x509.MarshalPKCS8PrivateKey(xKey)
	xPEM := encodePEM(t, "PRIVATE KEY", xDER, err)
	legacy := pem.EncodeToMemory(&pem.Block{
		Type:    "EC PRIVATE KEY",
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
		Bytes:   []byte("secret"),
	})
	for name, test := range map[string]struct {
		input []byte
		want  error
	}{
		"empty":              {nil, pki.ErrMalformed},
		"not PEM":            {[]byte("hello"), pki.ErrMalformed},
		"certificate":        {anchor.CertificatePEM(), pki.ErrMalformed},
		"garbage at end":     {append(bytes.Clone(good), "\nx"...), pki.ErrMalformed},
		"two keys":           {append(append(bytes.Clone(good), '\n'), good...), pki.ErrMalformed},
		"parameters alone":   {encodePEM(t, "EC PARAMETERS", []byte{5, 0}, nil), pki.ErrMalformed},
		"damaged":            {good[:len(good)-10], pki.ErrMalformed},
		"not a key":          {encodePEM(t, "PRIVATE KEY", []byte{1, 2, 3}, nil), pki.ErrMalformed},
		"openssh":            {encodePEM(t, "OPENSSH PRIVATE KEY", []byte{1}, nil), pki.ErrMalformed},
		"encrypted PKCS#8":   {encodePEM(t, "ENCRYPTED PRIVATE KEY", []byte("secret"), nil), pki.ErrEncrypted},
		"encrypted SEC 1":    {legacy, pki.ErrEncrypted},
		"Ed25519":            {edPEM, pki.ErrUnsupportedKey},
		"X25519 cannot sign": {xPEM, pki.ErrUnsupportedKey},
	} {
		if _, err := pki.ParseKey(test.input); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	if _, err := pki.EncodeKey(edKey); !errors.Is(err, pki.ErrUnsupportedKey) {
		t.Errorf("encoding Ed25519: %v", err)
	}
}

func TestParseKeyPair(t *testing.T) {
	t.Parallel()
	anchor, other := newAnchor(t, pki.AuthorityOptions{}), newAnchor(t, pki.AuthorityOptions{})
	key, err := anchor.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pki.ParseKeyPair(anchor.CertificatePEM(), key)
	if err != nil || !pair.Certificate().Equal(anchor.Certificate()) {
		t.Errorf("parsed %v, %v", pair, err)
	}
	if _, err := pki.ParseKeyPair(other.CertificatePEM(), key); !errors.Is(err, pki.ErrKeyMismatch) {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := pki.ParseKeyPair(nil, key); !errors.Is(err, pki.ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := pki.ParseKeyPair(anchor.CertificatePEM(), nil); !errors.Is(err, pki.ErrMalformed) {
		t.Errorf("no key: %v", err)
	}
}

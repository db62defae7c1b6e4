package pki_test

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// TestRootsOfOtherTools has issuers made below anchors that other tools made.
func TestRootsOfOtherTools(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cert, key string
		algorithm pki.Algorithm
		subject   pki.Subject
	}{
		{
			"openssl/root-ec.crt", "openssl/root-ec.key", pki.AlgorithmECDSAP256,
			pki.Subject{CommonName: "root by openssl", Organization: "Example", OrganizationalUnit: "Mesh", Country: "DE", Province: "Bayern", Locality: "München"},
		},
		{"openssl/root-rsa.crt", "openssl/root-rsa-pkcs1.key", pki.AlgorithmRSA2048, pki.Subject{CommonName: "RSA root by openssl"}},
		{"openssl/root-rsa.crt", "openssl/root-rsa-pkcs8.key", pki.AlgorithmRSA2048, pki.Subject{CommonName: "RSA root by openssl"}},
		{"step/root.crt", "step/root.key", pki.AlgorithmECDSAP256, pki.Subject{CommonName: "root.linkerd.cluster.local"}},
		{"cert-manager/root/tls.crt", "cert-manager/root/tls.key", pki.AlgorithmECDSAP256, pki.Subject{CommonName: "root.linkerd.cluster.local"}},
	} {
		t.Run(test.key, func(t *testing.T) {
			t.Parallel()
			anchor, err := pki.ParseKeyPair(file(t, test.cert), file(t, test.key))
			if err != nil {
				t.Fatal(err)
			}
			cert := anchor.Certificate()
			if algorithm, err := pki.AlgorithmOf(cert.PublicKey); err != nil || algorithm != test.algorithm {
				t.Errorf("algorithm %s, %v; want %s", algorithm, err, test.algorithm)
			}
			if subject := pki.SubjectOf(cert); subject != test.subject || subject.Check() != nil {
				t.Errorf("subject %+v, %v; want %+v", subject, subject.Check(), test.subject)
			}
			now := cert.NotBefore.Add(time.Hour)
			if err := pki.CheckAnchor(cert, now); err != nil {
				t.Error(err)
			}
			issuer := newIssuer(t, anchor, pki.AuthorityOptions{Now: now})
			if found, err := pki.NewBundle(cert).VerifyChain(issuer.Chain(), now); err != nil || !found.Equal(cert) {
				t.Errorf("leads to %v, %v", found, err)
			}
		})
	}
}

// TestIssuersOfOtherTools reads issuers as they are handed out, with what is
// between them and their anchor.
func TestIssuersOfOtherTools(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cert, key, anchor string
		chain             []string
		algorithm         pki.Algorithm
	}{
		{
			"openssl/issuer-fullchain.crt", "openssl/issuer.key", "openssl/root-ec.crt",
			[]string{"issuer by openssl", "intermediate by openssl"},
			pki.AlgorithmECDSAP256,
		},
		{"step/issuer.crt", "step/issuer.key", "step/root.crt", []string{"identity.linkerd.cluster.local"}, pki.AlgorithmECDSAP256},
		{
			"cert-manager/issuer/tls.crt", "cert-manager/issuer/tls.key", "cert-manager/issuer/ca.crt",
			[]string{"identity.linkerd.cluster.local", "intermediate.linkerd.cluster.local"},
			pki.AlgorithmECDSAP256,
		},
		{"cert-manager/issuer-rsa/tls.crt", "cert-manager/issuer-rsa/tls.key", "cert-manager/issuer-rsa/ca.crt", []string{"istiod"}, pki.AlgorithmRSA2048},
	} {
		t.Run(test.cert, func(t *testing.T) {
			t.Parallel()
			pair, err := pki.ParseKeyPair(file(t, test.cert), file(t, test.key))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, cert := range pair.Chain() {
				names = append(names, cert.Subject.CommonName)
			}
			if strings.Join(names, ", ") != strings.Join(test.chain, ", ") {
				t.Errorf("chain %v, want %v", names, test.chain)
			}
			if !bytes.Equal(pair.ChainPEM(), chainBundle(pair).PEM()) || !bytes.HasPrefix(pair.ChainPEM(), pair.CertificatePEM()) {
				t.Error("the chain is not written in its canonical form")
			}
			if algorithm, err := pki.AlgorithmOf(pair.Certificate().PublicKey); err != nil || algorithm != test.algorithm {
				t.Errorf("algorithm %s, %v; want %s", algorithm, err, test.algorithm)
			}
			bundle, err := pki.ParseBundle(file(t, test.anchor))
			if err != nil {
				t.Fatal(err)
			}
			now := pair.Certificate().NotBefore.Add(time.Hour)
			if anchor, err := bundle.VerifyChain(pair.Chain(), now); err != nil || !bundle.Contains(anchor) {
				t.Errorf("leads to %v, %v", anchor, err)
			}
		})
	}
}

func chainBundle(pair *pki.KeyPair) pki.Bundle { return pki.NewBundle(pair.Chain()...) }

func TestRefusedOfOtherTools(t *testing.T) {
	t.Parallel()
	const cure = "openssl pkey"
	certificate, key := file(t, "openssl/root-ec.crt"), file(t, "openssl/root-ec.key")
	for name, test := range map[string]struct {
		cert, key []byte
		want      error
		words     []string
	}{
		"encrypted PKCS#8":    {certificate, file(t, "openssl/encrypted-pkcs8.key"), pki.ErrEncrypted, []string{cure}},
		"encrypted SEC 1":     {certificate, file(t, "openssl/encrypted-sec1.key"), pki.ErrEncrypted, []string{cure}},
		"encrypted PKCS#1":    {certificate, file(t, "openssl/encrypted-pkcs1.key"), pki.ErrEncrypted, []string{cure}},
		"encrypted by step":   {certificate, file(t, "step/issuer-encrypted.key"), pki.ErrEncrypted, []string{cure}},
		"wrong key":           {certificate, file(t, "step/root.key"), pki.ErrKeyMismatch, []string{"CN=root by openssl", "the key that it was made for"}},
		"key of another type": {certificate, file(t, "openssl/root-rsa-pkcs1.key"), pki.ErrKeyMismatch, nil},
		"exchanged, key":      {certificate, certificate, pki.ErrMalformed, []string{"private key", "a certificate is in its place"}},
		"exchanged, cert":     {key, key, pki.ErrMalformed, []string{"certificate", "EC PARAMETERS"}},
		"exchanged, PKCS#8":   {file(t, "openssl/issuer.key"), key, pki.ErrMalformed, []string{"a private key is in its place"}},
		"garbage after cert":  {append(bytes.Clone(certificate), "garbage\n"...), key, pki.ErrMalformed, []string{"certificate", "7 bytes after the last block"}},
		"garbage after key":   {certificate, append(bytes.Clone(key), "garbage\n"...), pki.ErrMalformed, []string{"private key", "7 bytes after the last block"}},
		"wrong order": {
			file(t, "openssl/issuer-wrong-order.crt"), file(t, "openssl/issuer.key"), pki.ErrMalformed,
			[]string{"CN=intermediate by openssl", "is not signed by the next one", "CN=issuer by openssl", "issuer first"},
		},
		"two unrelated":       {bytes.Join([][]byte{certificate, file(t, "step/root.crt")}, nil), key, pki.ErrMalformed, []string{"CN=root by openssl", "CN=root.linkerd"}},
		"Ed25519":             {file(t, "openssl/ed25519.crt"), file(t, "openssl/ed25519.key"), pki.ErrUnsupportedKey, []string{"neither RSA nor ECDSA"}},
		"DSA in PKCS#8":       {certificate, file(t, "openssl/dsa-pkcs8.key"), pki.ErrUnsupportedKey, []string{"neither RSA nor ECDSA"}},
		"DSA":                 {certificate, encodePEM(t, "DSA PRIVATE KEY", []byte{0x30, 0}, nil), pki.ErrUnsupportedKey, []string{"DSA"}},
		"RSA-PSS":             {certificate, file(t, "openssl/rsa-pss.key"), pki.ErrUnsupportedKey, nil},
		"secp256k1":           {certificate, file(t, "openssl/secp256k1.key"), pki.ErrMalformed, []string{"unknown elliptic curve"}},
		"explicit parameters": {certificate, file(t, "openssl/explicit-parameters.key"), pki.ErrMalformed, []string{"elliptic curve"}},
		"OpenSSH":             {certificate, encodePEM(t, "OPENSSH PRIVATE KEY", []byte{1}, nil), pki.ErrMalformed, []string{"OPENSSH", cure}},
	} {
		_, err := pki.ParseKeyPair(test.cert, test.key)
		refused(t, name, err, test.want, test.words...)
	}
}

func TestCheckAnchorRefuses(t *testing.T) {
	t.Parallel()
	parse := func(path string) *x509.Certificate {
		cert, err := pki.ParseCertificate(file(t, path))
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	sound := parse("openssl/root-ec.crt")
	now := sound.NotBefore.Add(time.Hour)
	for name, test := range map[string]struct {
		cert  *x509.Certificate
		at    time.Time
		want  error
		words []string
	}{
		"expired":            {sound, sound.NotAfter.Add(time.Second), pki.ErrExpired, []string{"CN=root by openssl", sound.NotAfter.Format(time.RFC3339)}},
		"not yet valid":      {sound, sound.NotBefore.Add(-time.Second), pki.ErrNotYetValid, []string{sound.NotBefore.Format(time.RFC3339)}},
		"not an authority":   {parse("openssl/not-authority.crt"), now, pki.ErrNotAuthority, []string{"CN=not an authority", "CA:TRUE"}},
		"path length":        {parse("openssl/path-length-0.crt"), now, pki.ErrPathLength, []string{"CN=path length 0", "allows 0", "1 needed"}},
		"critical extension": {parse("openssl/critical-extension.crt"), now, pki.ErrCriticalExtension, []string{"CN=critical by openssl", "1.2.3.4.5.6"}},
		"issuer of step":     {parse("step/issuer.crt"), now, pki.ErrPathLength, nil},
	} {
		refused(t, name, pki.CheckAnchor(test.cert, test.at), test.want, test.words...)
	}
}

package pki_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// seeds returns the files of other tools by their paths.
func seeds(f *testing.F) map[string][]byte {
	f.Helper()
	files := map[string][]byte{}
	for _, tool := range []string{"openssl", "step", "cert-manager"} {
		err := fs.WalkDir(os.DirFS("testdata"), tool, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			files[path], err = os.ReadFile(filepath.Join("testdata", path))
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	return files
}

// addBundles adds what bundles look like, and what happens to them.
func addBundles(f *testing.F) {
	f.Helper()
	for _, file := range seeds(f) {
		f.Add(file)
	}
	a, b := file(f, "step/root.crt"), file(f, "openssl/root-ec.crt")
	f.Add(bytes.Join([][]byte{a, b, a}, []byte("\r\n\r\n")))
	f.Add(append([]byte("subject=x\n"), a...))
	f.Add(append(bytes.Clone(a), "garbage"...))
	f.Add(append(bytes.Clone(a), b[:len(b)/2]...))
	f.Add(a[:len(a)/2])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"))
}

// addDER adds what the blocks of other tools' files hold.
func addDER(f *testing.F) {
	f.Helper()
	for _, file := range seeds(f) {
		for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
			f.Add(block.Bytes)
		}
	}
}

// FuzzParseCertificate takes its input for PEM, and for what a block of it holds:
// few changes of PEM are not refused before any certificate is read.
func FuzzParseCertificate(f *testing.F) {
	addBundles(f)
	addDER(f)
	check := func(t *testing.T, data []byte) {
		cert, err := pki.ParseCertificate(data)
		if err != nil {
			refused(t, "parsing", err, pki.ErrMalformed)
			return
		}
		again, err := pki.ParseCertificate(pki.NewBundle(cert).PEM())
		if err != nil || !again.Equal(cert) {
			t.Fatalf("the canonical form of the certificate comes back as %v, %v", again, err)
		}
		// Whoever judges it is as safe from it.
		_ = pki.SubjectOf(cert).Check()
		if _, err := pki.AlgorithmOf(cert.PublicKey); err != nil {
			refused(t, "algorithm", err, pki.ErrUnsupportedKey)
		}
		for _, at := range []time.Time{noon, cert.NotBefore, cert.NotAfter} {
			if err := pki.CheckAnchor(cert, at); err != nil {
				refused(t, "anchor", err, nil)
			}
			if _, err := pki.NewBundle(cert).VerifyChain(pki.NewBundle(cert).Certificates(), at); err != nil {
				refused(t, "issuer", err, nil)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		check(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: data}))
	})
}

func FuzzParseBundle(f *testing.F) {
	addBundles(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		bundle, err := pki.ParseBundle(data)
		if err != nil {
			refused(t, "parsing", err, pki.ErrMalformed)
			return
		}
		canonical := bundle.PEM()
		again, err := pki.ParseBundle(canonical)
		if err != nil {
			t.Fatalf("canonical form is refused: %v", err)
		}
		if !bytes.Equal(again.PEM(), canonical) {
			t.Fatal("canonical form changes when parsed again")
		}
		if blocks := bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")); blocks < len(bundle.Certificates()) {
			t.Fatalf("%d certificates from %d blocks", len(bundle.Certificates()), blocks)
		}
		if _, err := bundle.VerifyChain(bundle.Certificates(), noon); err != nil {
			refused(t, "chain", err, nil)
		}
	})
}

// FuzzParseKey takes its input as FuzzParseCertificate does.
func FuzzParseKey(f *testing.F) {
	addDER(f)
	for _, file := range seeds(f) {
		f.Add(file)
	}
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----"))
	check := func(t *testing.T, data []byte) {
		key, err := pki.ParseKey(data)
		if err != nil {
			refused(t, "parsing", err, nil)
			discreet(t, err, data)
			return
		}
		encoded, err := pki.EncodeKey(key)
		if err != nil {
			t.Fatalf("a key that was read cannot be written: %v", err)
		}
		again, err := pki.ParseKey(encoded)
		if err != nil || !sameKey(key, again) {
			t.Fatalf("own encoding comes back as another key, %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		for _, kind := range []string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"} {
			check(t, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
		}
	})
}

func FuzzParseKeyPair(f *testing.F) {
	files := seeds(f)
	for certPath, cert := range files {
		for keyPath, key := range files {
			if strings.HasSuffix(certPath, ".crt") && strings.HasSuffix(keyPath, ".key") && filepath.Dir(certPath) == filepath.Dir(keyPath) {
				f.Add(cert, key)
			}
		}
	}
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		pair, err := pki.ParseKeyPair(certPEM, keyPEM)
		if err != nil {
			refused(t, "parsing", err, nil)
			discreet(t, err, keyPEM)
			return
		}
		key, err := pair.KeyPEM()
		if err != nil {
			t.Fatalf("a key that was read cannot be written: %v", err)
		}
		again, err := pki.ParseKeyPair(pair.ChainPEM(), key)
		if err != nil {
			t.Fatalf("own encoding is refused: %v", err)
		}
		if !bytes.Equal(again.ChainPEM(), pair.ChainPEM()) || !again.Certificate().Equal(pair.Certificate()) {
			t.Fatal("own encoding comes back as another chain")
		}
	})
}

// discreet fails the test if an error has something of the blocks of PEM in it.
func discreet(t *testing.T, err error, data []byte) {
	t.Helper()
	var secrets strings.Builder
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		secrets.WriteString(base64.StdEncoding.EncodeToString(block.Bytes) + "\n" + hex.EncodeToString(block.Bytes) + "\n")
	}
	for word := range strings.FieldsSeq(err.Error()) {
		if len(word) >= 8 && strings.Contains(secrets.String(), word) {
			t.Fatalf("the error %q has a part of the key", err)
		}
	}
}

func sameKey(a, b crypto.Signer) bool {
	key, ok := a.(interface{ Equal(crypto.PrivateKey) bool })
	return ok && key.Equal(b)
}

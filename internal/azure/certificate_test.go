package azure

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// madeCertificate is a certificate with its key in every form that tools write;
// the password of those that have one is p12-password.
type madeCertificate struct {
	certificate                     *x509.Certificate
	pem, encryptedPEM, bare         string
	pfx, legacy, withoutPassword    string
	certificateOnly, certificateKey string
}

// makeCertificate makes one as people do.
func makeCertificate(t *testing.T) madeCertificate {
	t.Helper()
	directory := t.TempDir()
	in := func(name string) string { return filepath.Join(directory, name) }
	openssl := func(arguments ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "openssl", arguments...)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, output)
		}
	}
	openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", in("key.pem"), "-out", in("certificate.pem"), "-subj", "/CN=mesh", "-days", "2")
	export := []string{"pkcs12", "-export", "-inkey", in("key.pem"), "-in", in("certificate.pem"), "-passout"}
	openssl(append(export, "pass:p12-password", "-out", in("modern.pfx"))...)
	openssl(append(export, "pass:p12-password", "-legacy", "-out", in("legacy.pfx"))...)
	openssl(append(export, "pass:", "-out", in("open.pfx"))...)
	openssl("pkcs8", "-topk8", "-in", in("key.pem"), "-passout", "pass:p12-password", "-out", in("encrypted.pem"))

	read := func(names ...string) []byte {
		var content bytes.Buffer
		for _, name := range names {
			part, err := os.ReadFile(in(name))
			if err != nil {
				t.Fatal(err)
			}
			content.Write(part)
		}
		return content.Bytes()
	}
	write := func(name string, content []byte) string {
		if err := os.WriteFile(in(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	block, _ := pem.Decode(read("certificate.pem"))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return madeCertificate{
		certificate:  certificate,
		pem:          write("both.pem", read("certificate.pem", "key.pem")),
		encryptedPEM: write("both-encrypted.pem", read("encrypted.pem", "certificate.pem")),
		bare:         write("garbage", []byte("neither of the two")),
		pfx:          in("modern.pfx"), legacy: in("legacy.pfx"), withoutPassword: in("open.pfx"),
		certificateOnly: in("certificate.pem"), certificateKey: in("key.pem"),
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	made := makeCertificate(t)
	of := func(path, password string) Settings {
		s := principal(application)
		s.ClientCertificatePath, s.ClientCertificatePassword = path, password
		return s
	}
	wantRefusal(t, of(made.pem, ""), "AADSTS700027", "Upload it to the application")
	application.AddCertificate(made.certificate)

	inline := of("", "p12-password")
	content, err := os.ReadFile(made.pfx)
	if err != nil {
		t.Fatal(err)
	}
	inline.ClientCertificate = base64.StdEncoding.EncodeToString(content)
	for name, settings := range map[string]Settings{
		"PKCS#12 of OpenSSL 3":          of(made.pfx, "p12-password"),
		"PKCS#12 of old":                of(made.legacy, "p12-password"),
		"PKCS#12 without password":      of(made.withoutPassword, ""),
		"PKCS#12 in base64":             inline,
		"PEM":                           of(made.pem, ""),
		"PEM with a password of no use": of(made.pem, "p12-password"),
		"PEM with an encrypted key":     of(made.encryptedPEM, "p12-password"),
	} {
		if account := login(t, settings); account.Method() != "client certificate" {
			t.Errorf("%s: %s", name, account.Method())
		}
	}
	if got := issued(application.ClientID); len(got) != 14 || got[0].How != "certificate" {
		t.Errorf("got %d tokens: %+v", len(got), got)
	}

	for _, wrong := range []struct {
		settings Settings
		says     string
	}{
		{of(made.pfx, "hush"), "client_certificate_path: client_certificate_password is not the password of the PKCS#12 file"},
		{of(made.legacy, "hush"), "is not the password of the PKCS#12 file"},
		{of(made.pfx, ""), "the PKCS#12 file needs a password: set client_certificate_password"},
		{of(made.encryptedPEM, "hush"), "is not the password of the private key"},
		{of(made.encryptedPEM, ""), "the private key needs a password: set client_certificate_password"},
		{of(made.certificateOnly, ""), "no private key in PEM"},
		{of(made.certificateKey, ""), "no certificate in PEM"},
		{of(made.bare, ""), "neither PEM nor PKCS#12"},
		{of(made.bare+".missing", ""), "client_certificate_path: open " + made.bare + ".missing: no such file"},
	} {
		wantRefusal(t, wrong.settings, wrong.says, "")
	}
}

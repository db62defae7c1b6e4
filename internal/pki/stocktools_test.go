package pki_test

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
)

// TestStockTools has authorities of every algorithm judged by the tools that
// users have: openssl, and zlint, which `step certificate lint` runs.
func TestStockTools(t *testing.T) {
	t.Parallel()
	signed := map[pki.Algorithm]x509.SignatureAlgorithm{
		pki.AlgorithmECDSAP256: x509.ECDSAWithSHA256,
		pki.AlgorithmECDSAP384: x509.ECDSAWithSHA384,
		pki.AlgorithmRSA2048:   x509.SHA256WithRSA,
		pki.AlgorithmRSA4096:   x509.SHA256WithRSA,
	}
	if len(signed) != len(pki.Algorithms()) || pki.Algorithms()[0] != string(pki.AlgorithmECDSAP256) {
		t.Errorf("algorithms %v", pki.Algorithms())
	}
	linter := newLinter(t)
	subject := pki.Subject{CommonName: "identity", Organization: "Bücher GmbH", OrganizationalUnit: "Mesh", Country: "DE", Province: "Bayern", Locality: "München"}
	for _, name := range pki.Algorithms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			algorithm := pki.Algorithm(name)
			anchor := newAnchor(t, pki.AuthorityOptions{Algorithm: algorithm})
			checkAuthority(t, anchor, algorithm, signed[algorithm])
			linter.lint(t, anchor)
			for _, options := range []struct {
				pki.AuthorityOptions
				want pki.Algorithm
			}{
				{pki.AuthorityOptions{}, pki.AlgorithmECDSAP256},
				{pki.AuthorityOptions{Algorithm: algorithm, Subject: subject}, algorithm},
			} {
				issuer := newIssuer(t, anchor, options.AuthorityOptions)
				checkAuthority(t, issuer, options.want, signed[algorithm])
				linter.lint(t, issuer)
				opensslVerify(t, anchor.Certificate(), issuer, pkitest.Key(t, issuer))
			}
		})
	}
	linter.lint(t, newServing(t, "linkerd-proxy-injector.linkerd.svc"))
}

func checkAuthority(t *testing.T, pair *pki.KeyPair, algorithm pki.Algorithm, signed x509.SignatureAlgorithm) {
	t.Helper()
	cert := pair.Certificate()
	if found, err := pki.AlgorithmOf(cert.PublicKey); err != nil || found != algorithm {
		t.Errorf("the key of %s is %s, %v; want %s", cert.Subject, found, err, algorithm)
	}
	if cert.SignatureAlgorithm != signed {
		t.Errorf("%s is signed with %s, want %s", cert.Subject, cert.SignatureAlgorithm, signed)
	}
}

// TestRequestSignedByOpenSSL has openssl make a root and an intermediate, and
// sign an issuer by a request.
func TestRequestSignedByOpenSSL(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []pki.Algorithm{pki.AlgorithmECDSAP256, pki.AlgorithmECDSAP384, pki.AlgorithmRSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			subject := pki.Subject{CommonName: "identity.example", Organization: "Example"}
			key, request, err := pki.NewRequest(pki.AuthorityOptions{Algorithm: algorithm, Subject: subject})
			if err != nil {
				t.Fatal(err)
			}
			write(t, path("issuer.csr"), request)
			if text := openssl(t, "req", "-in", path("issuer.csr"), "-verify", "-noout", "-text"); !strings.Contains(text, "CA:TRUE, pathlen:0") || !strings.Contains(text, "Certificate Sign, CRL Sign") {
				t.Errorf("the request does not ask for an authority:\n%s", text)
			}

			const authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
			write(t, path("ca.ext"), []byte(authority+"authorityKeyIdentifier=keyid\n"))
			write(t, path("issuer.ext"), []byte("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"))
			openssl(t, "ecparam", "-name", "prime256v1", "-genkey", "-out", path("root.key"))
			openssl(t, "req", "-x509", "-new", "-key", path("root.key"), "-subj", "/CN=root", "-days", "3650", "-out", path("root.crt"),
				"-addext", "keyUsage=critical,keyCertSign,cRLSign")
			openssl(t, "genrsa", "-out", path("intermediate.key"), "2048")
			openssl(t, "req", "-new", "-key", path("intermediate.key"), "-subj", "/CN=intermediate", "-out", path("intermediate.csr"))
			openssl(t, "x509", "-req", "-in", path("intermediate.csr"), "-CA", path("root.crt"), "-CAkey", path("root.key"),
				"-days", "3650", "-extfile", path("ca.ext"), "-out", path("intermediate.crt"))
			openssl(t, "x509", "-req", "-in", path("issuer.csr"), "-CA", path("intermediate.crt"), "-CAkey", path("intermediate.key"),
				"-days", "3650", "-copy_extensions", "copy", "-extfile", path("issuer.ext"), "-out", path("issuer.crt"))

			root, err := pki.ParseCertificate(read(t, path("root.crt")))
			if err != nil {
				t.Fatal(err)
			}
			keyPEM, err := pki.EncodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			issuer, err := pki.ParseKeyPair(slices.Concat(read(t, path("issuer.crt")), read(t, path("intermediate.crt"))), keyPEM)
			if err != nil {
				t.Fatal(err)
			}
			if got := pki.SubjectOf(issuer.Certificate()); got != subject || !issuer.Certificate().IsCA || !issuer.Certificate().MaxPathLenZero {
				t.Errorf("issuer of %+v, CA %t, path length %d", got, issuer.Certificate().IsCA, issuer.Certificate().MaxPathLen)
			}
			if found, err := pki.NewBundle(root).VerifyChain(issuer.Chain(), issuer.Certificate().NotBefore.Add(time.Minute)); err != nil || !found.Equal(root) {
				t.Errorf("leads to %v, %v", found, err)
			}
			opensslVerify(t, root, issuer, key)
		})
	}
}

// opensslVerify has openssl verify a workload's certificate below an issuer,
// as strictly as it can.
func opensslVerify(t *testing.T, anchor *x509.Certificate, issuer *pki.KeyPair, key crypto.Signer) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	from := issuer.Certificate().NotBefore
	leaf := pkitest.Sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"default.dgraph.serviceaccount.identity.linkerd.cluster.local"},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:    from,
		NotAfter:     from.Add(24 * time.Hour),
	}, issuer.Certificate(), newServing(t, "workload").Certificate().PublicKey, key)
	write(t, path("anchor.pem"), pki.NewBundle(anchor).PEM())
	write(t, path("chain.pem"), issuer.ChainPEM())
	write(t, path("leaf.pem"), pki.NewBundle(leaf).PEM())
	at := strconv.FormatInt(from.Add(time.Hour).Unix(), 10)
	openssl(t, "verify", "-x509_strict", "-purpose", "sslserver", "-attime", at,
		"-CAfile", path("anchor.pem"), "-untrusted", path("chain.pem"), path("leaf.pem"))
}

// openssl runs openssl and returns what it prints.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	binary, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("certificates are verified with openssl >= 3.0, which must be on PATH: %v", err)
	}
	output, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, append(content, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The lints that certificates of a mesh break on purpose, by the reason.
var notForMeshes = map[string][]string{
	"only authorities of the public web must say which organization they are, and must not say which unit": {
		"e_ca_country_name_missing", "e_ca_organization_name_missing", "e_subj_orgunit_in_ca_cert",
	},
	"only the public web publishes policies, revocations and certificates of issuers: those of a mesh are handed out and short-lived": {
		"e_invalid_ca_certificate_policies", "e_sub_ca_certificate_policies_missing", "e_sub_ca_crl_distribution_points_missing",
		"w_sub_ca_aia_missing", "e_sub_cert_aia_missing", "e_sub_cert_cert_policy_empty", "e_sub_cert_certificate_policies_missing",
	},
	"nobody in a mesh asks by OCSP": {"n_ca_digital_signature_not_set"},
	"an anchor leaves room for one issuer and nothing more, as the root-ca profile of step does": {
		"w_root_ca_basic_constraints_path_len_constraint_field_present",
	},
	"an issuer has no extended key usage, as in the intermediate-ca profile of step: a mesh uses certificates for servers and clients alike": {
		"n_mp_allowed_eku", "n_sub_ca_eku_missing",
	},
	"the certificate of a webhook is its own issuer":          {"e_ext_authority_key_identifier_no_key_identifier"},
	"the DNS name of a webhook can be too long for a subject": {"e_subject_common_name_not_exactly_from_san"},
}

// linter holds certificates to all that zlint knows but notForMeshes.
type linter struct{ except map[string]*atomic.Bool }

// newLinter returns a linter that fails the test if an exception proves needless.
func newLinter(t *testing.T) linter {
	l := linter{except: map[string]*atomic.Bool{}}
	for _, names := range notForMeshes {
		for _, name := range names {
			l.except[name] = new(atomic.Bool)
		}
	}
	t.Cleanup(func() {
		for name, used := range l.except {
			if !used.Load() {
				t.Errorf("no certificate breaks %s, which is excepted", name)
			}
		}
	})
	return l
}

func (l linter) lint(t *testing.T, pair *pki.KeyPair) {
	t.Helper()
	cert, err := zx509.ParseCertificate(pair.Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, result := range zlint.LintCertificate(cert).Results {
		if result.Status < lint.Notice {
			continue
		}
		if used, ok := l.except[name]; ok {
			used.Store(true)
			continue
		}
		t.Errorf("%s: %s is %s: %s", pair, name, result.Status, result.Details)
	}
}

package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is longer than any cluster of this kind lives.
const validity = 365 * 24 * time.Hour

// An authority is a certificate authority that signs for one cluster.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// keyPair is a certificate and its key, both PEM.
type keyPair struct {
	certificate, key []byte
}

// newAuthority generates a self-signed authority called name.
func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key of %s: %w", name, err)
	}
	template, err := certificateTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return &authority{certificate: certificate, key: key}, nil
}

// bundle returns the PEM certificate of the authority.
func (a *authority) bundle() []byte { return encodeCertificate(a.certificate.Raw) }

// client issues a certificate for the user name in groups.
func (a *authority) client(name string, groups ...string) (*keyPair, error) {
	template, err := certificateTemplate(pkix.Name{CommonName: name, Organization: groups})
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// server issues a certificate for a server with these names and addresses.
func (a *authority) server(name string, dns []string, ips []net.IP) (*keyPair, error) {
	template, err := certificateTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames, template.IPAddresses = dns, ips
	return a.issue(template)
}

// issue signs template with a new key.
func (a *authority) issue(template *x509.Certificate) (*keyPair, error) {
	name := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key of %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", name, err)
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &keyPair{certificate: encodeCertificate(der), key: encoded}, nil
}

// certificateTemplate returns what all certificates have in common.
func certificateTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		Subject:               subject,
		SerialNumber:          serial,
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// credentials are the keys and certificates of one cluster. Those that only
// child processes need are files below dir.
type credentials struct {
	dir   string
	ca    *authority
	admin *keyPair
}

// The files below credentials.dir.
const (
	caFile                  = "ca.crt"
	caKeyFile               = "ca.key"
	serverFile              = "server.crt"
	serverKeyFile           = "server.key"
	frontProxyCAFile        = "front-proxy-ca.crt"
	frontProxyFile          = "front-proxy.crt"
	frontProxyKeyFile       = "front-proxy.key"
	serviceAccountKeyFile   = "service-account.key"
	serviceAccountPublicKey = "service-account.pub"
)

// newCredentials generates the credentials of a cluster into dir.
func newCredentials(dir string) (*credentials, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create credentials directory: %w", err)
	}
	ca, err := newAuthority("devcluster-ca")
	if err != nil {
		return nil, err
	}
	caKey, err := encodeKey(ca.key)
	if err != nil {
		return nil, err
	}
	frontProxyCA, err := newAuthority("devcluster-front-proxy-ca")
	if err != nil {
		return nil, err
	}
	frontProxy, err := frontProxyCA.client("front-proxy-client")
	if err != nil {
		return nil, err
	}
	server, err := ca.server("kube-apiserver",
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		[]net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(apiServerClusterIP)})
	if err != nil {
		return nil, err
	}
	admin, err := ca.client("clusterAdmin", "system:masters")
	if err != nil {
		return nil, err
	}
	serviceAccountKey, serviceAccountPublic, err := newServiceAccountKey()
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		caFile:                  ca.bundle(),
		caKeyFile:               caKey,
		serverFile:              server.certificate,
		serverKeyFile:           server.key,
		frontProxyCAFile:        frontProxyCA.bundle(),
		frontProxyFile:          frontProxy.certificate,
		frontProxyKeyFile:       frontProxy.key,
		serviceAccountKeyFile:   serviceAccountKey,
		serviceAccountPublicKey: serviceAccountPublic,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, fmt.Errorf("write credentials: %w", err)
		}
	}
	return &credentials{dir: dir, ca: ca, admin: admin}, nil
}

// newServiceAccountKey generates the key that signs service account tokens,
// private and public.
func newServiceAccountKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate service account key: %w", err)
	}
	private, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode service account key: %w", err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// path returns the path of one of the files.
func (c *credentials) path(name string) string { return filepath.Join(c.dir, name) }

// Package pki makes and judges the certificates that a mesh lives on: trust
// anchors, the issuers below them, the bundles that say which anchors are
// trusted, and the serving certificates of webhooks. It keeps no state and reads
// no clock: every instant is an argument. What one mesh demands beyond sound
// X.509 is that mesh's package's business.
package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.step.sm/crypto/x509util"
)

const (
	// DefaultAnchorCommonName follows the `root.<owner>.<trust domain>` form of
	// Linkerd's documentation without naming a mesh, because one anchor may
	// serve several meshes and clusters. No mesh looks at it.
	DefaultAnchorCommonName = "root.aksmesh.cluster.local"
	// DefaultIssuerCommonName is the name Linkerd's documentation gives issuers
	// below such a root. No mesh looks at it either.
	DefaultIssuerCommonName = "identity.aksmesh.cluster.local"

	// DefaultAnchorValidity is ten years, as in the root-ca profile of step.
	DefaultAnchorValidity = 87600 * time.Hour
	// DefaultIssuerValidity is one year, as Linkerd's documentation recommends.
	DefaultIssuerValidity = 8760 * time.Hour
	// DefaultServingValidity is one year, as Linkerd's charts have it.
	DefaultServingValidity = 8760 * time.Hour
	// DefaultEarlyRenewal is 60 days: from then on `linkerd check` warns.
	DefaultEarlyRenewal = 1440 * time.Hour

	// Backdate is how long before its making a certificate becomes valid. The
	// machine that runs Terraform is often ahead of the cluster's nodes, which
	// would refuse a certificate that begins in their future.
	Backdate = 5 * time.Minute

	authorityUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
)

// AuthorityOptions describe a certificate authority to be made.
type AuthorityOptions struct {
	// Subject must pass its Check. An empty common name means
	// DefaultAnchorCommonName or DefaultIssuerCommonName.
	Subject Subject
	// Algorithm of the key that is made. Empty means AlgorithmECDSAP256; without
	// meaning if there is a Signer.
	Algorithm Algorithm
	// Signer is a key that is there already, as in a KMS. Nil makes a new one.
	Signer crypto.Signer
	// Now is the instant of making; validity starts Backdate earlier.
	Now time.Time
	// Validity is counted from Now, rounded down to whole seconds. Zero means
	// DefaultAnchorValidity or DefaultIssuerValidity.
	Validity time.Duration
}

// NewAnchor makes a self-signed root with path length 1: room for one issuer
// and nothing more.
func NewAnchor(opts AuthorityOptions) (*KeyPair, error) {
	template, err := opts.template(DefaultAnchorCommonName, DefaultAnchorValidity)
	if err != nil {
		return nil, fmt.Errorf("trust anchor: %w", err)
	}
	template.MaxPathLen = 1
	pair, err := opts.sign(template, nil)
	if err != nil {
		return nil, fmt.Errorf("trust anchor %q: %w", template.Subject.CommonName, err)
	}
	return pair, nil
}

// NewIssuer makes an intermediate authority with path length 0 signed by the
// anchor. An issuer never outlives its anchor: its life is cut to the anchor's,
// as both meshes do for the certificates below it, because refusing would block
// the renewal that keeps the mesh alive until the anchor is rotated. The anchor
// must pass CheckAnchor at opts.Now.
func NewIssuer(anchor *KeyPair, opts AuthorityOptions) (*KeyPair, error) {
	template, err := opts.template(DefaultIssuerCommonName, DefaultIssuerValidity)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	name := template.Subject.CommonName
	parent := anchor.Certificate()
	if err := CheckAnchor(parent, opts.Now); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", name, err)
	}
	if parent.Subject.String() == template.Subject.String() {
		// Verifiers would take it for the anchor itself.
		return nil, fmt.Errorf("issuer %q: its anchor %s has the same subject; give it another", name, describe(parent))
	}
	if template.NotBefore.Before(parent.NotBefore) {
		template.NotBefore = parent.NotBefore
	}
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	template.MaxPathLenZero = true
	pair, err := opts.sign(template, anchor)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", name, err)
	}
	return pair, nil
}

// ServingOptions describe the certificate of a webhook's or API service's
// server.
type ServingOptions struct {
	// DNSName is what the API server dials: `<service>.<namespace>.svc`.
	DNSName string
	// Now is the instant of making; validity starts Backdate earlier.
	Now time.Time
	// Validity is counted from Now. Zero means DefaultServingValidity.
	Validity time.Duration
}

// NewServingCertificate makes a self-signed server certificate with an ECDSA
// P-256 key. It is its own CA bundle, as in Linkerd's charts: a private CA would
// add a key that can mint names and would have to be kept, and renewal without
// a gap needs no more than a CA bundle with the old and the new certificate.
func NewServingCertificate(opts ServingOptions) (*KeyPair, error) {
	// The subject takes the service's name alone: the whole may exceed the 64
	// characters of a common name, and clients read only the DNS name.
	service, _, _ := strings.Cut(opts.DNSName, ".")
	template, err := baseTemplate(Subject{CommonName: service}, opts.Now, orDefault(opts.Validity, DefaultServingValidity))
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	if service == "" {
		return nil, fmt.Errorf("serving certificate: %q is not a DNS name", opts.DNSName)
	}
	template.DNSNames = []string{opts.DNSName}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	pair, err := AuthorityOptions{}.sign(template, nil)
	if err != nil {
		return nil, fmt.Errorf("serving certificate of %q: %w", opts.DNSName, err)
	}
	return pair, nil
}

// RenewalDue tells whether a certificate that ends at notAfter is to be renewed
// at now, early before its end.
func RenewalDue(notAfter time.Time, early time.Duration, now time.Time) bool {
	return !now.Before(notAfter.Add(-early))
}

// IssuerRenewalDue is RenewalDue for an issuer below anchor. An issuer whose
// life was cut to the anchor's is never due: a new one would end at the same
// instant, on every apply again; it is the anchor's turn.
func IssuerRenewalDue(issuer, anchor *x509.Certificate, early time.Duration, now time.Time) bool {
	return RenewalDue(issuer.NotAfter, early, now) && issuer.NotAfter.Before(anchor.NotAfter)
}

// CheckRenewal refuses an early renewal that would be due as soon as the
// certificate is made, and with it a certificate renewed on every apply.
func CheckRenewal(validity, early time.Duration) error {
	if early < 0 {
		return fmt.Errorf("early renewal %s is negative", early)
	}
	if early >= validity {
		return fmt.Errorf("early renewal %s leaves nothing of the validity %s", early, validity)
	}
	return nil
}

// CheckValid tells whether cert is within its life at the given instant:
// nil, ErrExpired or ErrNotYetValid.
func CheckValid(cert *x509.Certificate, at time.Time) error {
	switch {
	case at.Before(cert.NotBefore):
		return fmt.Errorf("certificate %s is %w: begins %s", describe(cert), ErrNotYetValid, cert.NotBefore.Format(time.RFC3339))
	case at.After(cert.NotAfter):
		return fmt.Errorf("certificate %s is %w since %s", describe(cert), ErrExpired, cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// CheckAnchor tells whether an issuer can be put below cert at the given
// instant: it is an authority with room for one, within its life, and without
// critical extensions that nobody knows. The error wraps ErrExpired,
// ErrNotYetValid, ErrNotAuthority, ErrPathLength or ErrCriticalExtension.
func CheckAnchor(cert *x509.Certificate, at time.Time) error {
	return checkAuthority(cert, 1, at)
}

// checkAuthority tells whether cert may sign others at the given instant, with
// so many authorities between it and the certificates of workloads.
func checkAuthority(cert *x509.Certificate, below int, at time.Time) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return fmt.Errorf("certificate %s is %w: basic constraints lack CA:TRUE", describe(cert), ErrNotAuthority)
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("certificate %s is %w: key usage lacks certSign", describe(cert), ErrNotAuthority)
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("certificate %s has an %w, %v: whoever verifies it must refuse it; make it without",
			describe(cert), ErrCriticalExtension, cert.UnhandledCriticalExtensions)
	}
	if err := CheckValid(cert, at); err != nil {
		return err
	}
	if limited := cert.MaxPathLen > 0 || cert.MaxPathLenZero; limited && cert.MaxPathLen < below {
		return fmt.Errorf("certificate %s: %w: it allows %d authorities below it, %d needed",
			describe(cert), ErrPathLength, cert.MaxPathLen, below)
	}
	return nil
}

// subject returns the subject with its default name.
func (opts AuthorityOptions) subject(defaultName string) (Subject, error) {
	subject := opts.Subject
	if subject.CommonName == "" {
		subject.CommonName = defaultName
	}
	return subject, subject.Check()
}

// key returns the key that is there, or a new one.
func (opts AuthorityOptions) key() (crypto.Signer, error) {
	if opts.Signer == nil {
		key, err := opts.Algorithm.generate()
		if err != nil {
			return nil, fmt.Errorf("generate key: %w", err)
		}
		return key, nil
	}
	if _, err := AlgorithmOf(opts.Signer.Public()); err != nil {
		return nil, err
	}
	return opts.Signer, nil
}

func (opts AuthorityOptions) template(defaultName string, defaultValidity time.Duration) (*x509.Certificate, error) {
	subject, err := opts.subject(defaultName)
	if err != nil {
		return nil, err
	}
	template, err := baseTemplate(subject, opts.Now, orDefault(opts.Validity, defaultValidity))
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.KeyUsage = authorityUsage
	return template, nil
}

func baseTemplate(subject Subject, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	if now.IsZero() {
		return nil, errors.New("the present instant is missing")
	}
	if validity < time.Second {
		return nil, fmt.Errorf("validity %s is shorter than a second", validity)
	}
	// Certificates hold whole seconds; rounding here keeps what is reported
	// equal to what is encoded.
	now = now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		Subject:               subject.name(),
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(validity.Truncate(time.Second)),
		BasicConstraintsValid: true,
	}, nil
}

// sign has the parent sign the template for the key, or the key itself when
// there is no parent.
func (opts AuthorityOptions) sign(template *x509.Certificate, parent *KeyPair) (*KeyPair, error) {
	key, err := opts.key()
	if err != nil {
		return nil, err
	}
	parentCert, signer := template, key
	if parent != nil {
		parentCert, signer = parent.Certificate(), parent.signer
	}
	cert, err := x509util.CreateCertificate(template, parentCert, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return &KeyPair{chain: []*x509.Certificate{cert}, signer: key}, nil
}

func orDefault(validity, otherwise time.Duration) time.Duration {
	if validity == 0 {
		return otherwise
	}
	return validity
}

// describe names a certificate in messages; the fingerprint's beginning tells
// apart the generations that share a subject.
func describe(cert *x509.Certificate) string {
	return fmt.Sprintf("%q (sha256 %.12s)", cert.Subject.String(), Fingerprint(cert))
}

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"go.step.sm/crypto/x509util"
)

// NewRequest makes a request (PKCS#10) for an issuer that another authority is
// to sign, and the key that it is for. It asks for what NewIssuer gives: a
// certificate authority with path length 0. The life is the other authority's
// to decide, so that Now and Validity of opts do not count. The PEM has no
// trailing newline.
func NewRequest(opts AuthorityOptions) (key crypto.Signer, requestPEM []byte, err error) {
	subject, err := opts.subject(DefaultIssuerCommonName)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	fail := func(err error) (crypto.Signer, []byte, error) {
		return nil, nil, fmt.Errorf("certificate request of %q: %w", subject.CommonName, err)
	}
	if key, err = opts.key(); err != nil {
		return fail(err)
	}
	constraints, err := x509util.BasicConstraints{IsCA: true, MaxPathLen: 0}.Extension()
	if err != nil {
		return fail(err)
	}
	usage, err := x509util.KeyUsage(authorityUsage).Extension()
	if err != nil {
		return fail(err)
	}
	template := &x509.CertificateRequest{Subject: subject.name()}
	for _, extension := range []x509util.Extension{constraints, usage} {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier(extension.ID), Critical: extension.Critical, Value: extension.Value,
		})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return fail(err)
	}
	return key, encodeBlock(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

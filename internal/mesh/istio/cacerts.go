package istio

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// CACertsSecret is the Secret in the control plane's namespace by which istiod
// is given a CA of the user's. It counts only if it is there before istiod
// starts.
const CACertsSecret = "cacerts"

// The files of CACertsSecret. istiod refuses to start when one is missing
// (istio's pilot/pkg/bootstrap/istio_ca.go).
const (
	caCertFile    = "ca-cert.pem"
	caKeyFile     = "ca-key.pem"
	certChainFile = "cert-chain.pem"
	rootCertFile  = "root-cert.pem"
)

// CheckCA tells whether istiod can sign with a CA below a bundle at the given
// instant: it leads to an anchor, as istio's security/pkg/pki/util verifies when
// istiod starts, and neither it nor an anchor has a key that Envoy cannot
// verify with its default signature algorithms: RSA, ECDSA P-256 and P-384 are
// handled. The error wraps pki.ErrMeshRule or one of pki.Bundle.Verify.
func CheckCA(ca *x509.Certificate, bundle pki.Bundle, at time.Time) error {
	if err := checkAlgorithms(ca, bundle); err != nil {
		return err
	}
	_, err := bundle.Verify(ca, at)
	return err
}

// CACertsSecretData returns the data of CACertsSecret. istiod appends the chain
// verbatim to every workload certificate and gives peers the root file as
// their anchors: so the chain begins with the CA itself and ends with the anchor
// that signed it, while the root file has every anchor of the bundle, and each
// file ends with one newline.
func CACertsSecretData(ca *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error) {
	if err := checkAlgorithms(ca.Certificate(), bundle); err != nil {
		return nil, err
	}
	signers, err := bundle.Signers(ca.Certificate())
	if err != nil {
		return nil, err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	line := func(pem []byte) []byte { return append(slices.Clip(pem), '\n') }
	return map[string][]byte{
		caCertFile:    line(ca.CertificatePEM()),
		caKeyFile:     line(key),
		certChainFile: line(pki.NewBundle(ca.Certificate(), signers[0]).PEM()),
		rootCertFile:  line(bundle.PEM()),
	}, nil
}

func checkAlgorithms(ca *x509.Certificate, bundle pki.Bundle) error {
	for _, cert := range append(bundle.Certificates(), ca) {
		switch key := cert.PublicKey.(type) {
		case *rsa.PublicKey:
		case *ecdsa.PublicKey:
			if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
				return fmt.Errorf("certificate %q is %w Istio: its ECDSA key is on %s, must be on P-256 or P-384",
					cert.Subject.String(), pki.ErrMeshRule, key.Curve.Params().Name)
			}
		default:
			return fmt.Errorf("certificate %q is %w Istio: its key is %s, must be RSA or ECDSA",
				cert.Subject.String(), pki.ErrMeshRule, cert.PublicKeyAlgorithm)
		}
	}
	return nil
}

package istio

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
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

// CheckAlgorithm tells whether Istio accepts CAs, anchors and those below them
// alike, with such a key: RSA, or ECDSA on one of the two curves that Envoy
// verifies by its default signature algorithms; istiod takes every other curve
// for P-256 (GetEllipticCurve in istio's security/pkg/pki/util). The error wraps
// pki.ErrMeshRule.
func CheckAlgorithm(algorithm pki.Algorithm) error {
	if strings.HasPrefix(string(algorithm), "RSA-") || algorithm == pki.AlgorithmECDSAP256 || algorithm == pki.AlgorithmECDSAP384 {
		return nil
	}
	return fmt.Errorf("%s is %w Istio, which accepts RSA, %s and %s (GetEllipticCurve in istio's security/pkg/pki/util, and the default signature algorithms of Envoy)",
		algorithm, pki.ErrMeshRule, pki.AlgorithmECDSAP256, pki.AlgorithmECDSAP384)
}

// CheckAnchor tells whether Istio accepts a trust anchor: CheckAlgorithm of its
// key. The error wraps pki.ErrMeshRule or pki.ErrUnsupportedKey.
func CheckAnchor(cert *x509.Certificate) error { return checkCertificate("trust anchor", cert) }

// CheckCA tells whether istiod can sign below a bundle with a CA, the first of a
// chain behind which its intermediates are, at the given instant: it leads to
// an anchor, as istio's security/pkg/pki/util verifies when istiod starts, and
// all of them and every anchor pass CheckAlgorithm. The error wraps
// pki.ErrMeshRule, pki.ErrUnsupportedKey or one of pki.Bundle.VerifyChain.
func CheckCA(chain []*x509.Certificate, bundle pki.Bundle, at time.Time) error {
	if _, err := bundle.VerifyChain(chain, at); err != nil {
		return err
	}
	return checkAlgorithms(chain, bundle)
}

// CACertsSecretData returns the data of CACertsSecret. istiod appends the chain
// verbatim to every workload certificate and gives peers the root file as
// their anchors: so the chain begins with the CA itself and ends with the anchor
// that its intermediates lead to, while the root file has every anchor of the
// bundle, and each file ends with one newline.
func CACertsSecretData(ca *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error) {
	chain := ca.Chain()
	if err := checkAlgorithms(chain, bundle); err != nil {
		return nil, err
	}
	signers, err := bundle.Signers(chain[len(chain)-1])
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
		certChainFile: line(pki.NewBundle(append(chain, signers[0])...).PEM()),
		rootCertFile:  line(bundle.PEM()),
	}, nil
}

// parseCACerts reads what CACertsSecretData wrote, or somebody else in its place.
func parseCACerts(data map[string][]byte) (ca *pki.KeyPair, bundle pki.Bundle, err error) {
	for _, file := range []string{caCertFile, caKeyFile, certChainFile, rootCertFile} {
		if len(data[file]) == 0 {
			return nil, pki.Bundle{}, fmt.Errorf("%s is missing; istiod needs all four files", file)
		}
	}
	if ca, err = pki.ParseKeyPair(data[certChainFile], data[caKeyFile]); err != nil {
		return nil, pki.Bundle{}, fmt.Errorf("%s and %s: %w", certChainFile, caKeyFile, err)
	}
	cert, err := pki.ParseCertificate(data[caCertFile])
	if err != nil {
		return nil, pki.Bundle{}, fmt.Errorf("%s: %w", caCertFile, err)
	}
	if !cert.Equal(ca.Certificate()) {
		return nil, pki.Bundle{}, fmt.Errorf("%s does not begin with the certificate of %s; istiod appends it to those that it signs, and peers could verify none", certChainFile, caCertFile)
	}
	if bundle, err = pki.ParseBundle(data[rootCertFile]); err != nil {
		return nil, pki.Bundle{}, fmt.Errorf("%s: %w", rootCertFile, err)
	}
	return ca, bundle, nil
}

func checkAlgorithms(chain []*x509.Certificate, bundle pki.Bundle) error {
	for _, cert := range append(bundle.Certificates(), chain...) {
		if err := checkCertificate("certificate", cert); err != nil {
			return err
		}
	}
	return nil
}

func checkCertificate(role string, cert *x509.Certificate) error {
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	if err == nil {
		err = CheckAlgorithm(algorithm)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", role, cert.Subject.String(), err)
	}
	return nil
}

package linkerd

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	// IssuerSecret is the Secret in the control plane's namespace from which the
	// identity controller takes its issuer.
	IssuerSecret = "linkerd-identity-issuer"
	// IssuerScheme is the chart's identity.issuer.scheme that makes it leave
	// IssuerSecret to others; the Secret is then of type kubernetes.io/tls.
	IssuerScheme = string(corev1.SecretTypeTLS)

	// TrustRootsKey is the key of the ConfigMap of TrustRootsRef that holds the
	// bundle in PEM.
	TrustRootsKey = "ca-bundle.crt"
)

// TrustRootsRef is the ConfigMap from which a control plane and its injector
// take the trust bundle.
func TrustRootsRef(namespace string) kube.Ref {
	return kube.Ref{Kind: kube.ConfigMap, Namespace: namespace, Name: "linkerd-identity-trust-roots"}
}

// TrustRoots is that ConfigMap with a bundle. A chart that published the bundle
// before would delete it on an upgrade, and is told not to.
func TrustRoots(namespace string, bundle pki.Bundle) *unstructured.Unstructured {
	object := TrustRootsRef(namespace).Object()
	object.SetLabels(kube.OursLabels())
	object.SetAnnotations(map[string]string{resourcePolicyAnnotation: keepPolicy})
	object.Object["data"] = map[string]any{TrustRootsKey: string(bundle.PEM())}
	return object
}

// What Linkerd demands of algorithms, beyond sound X.509. `linkerd install`,
// `upgrade` and `check` hold certificates to it.
const (
	anchorRule = "CheckTrustAnchorAlgoRequirements in linkerd2's pkg/issuercerts"
	issuerRule = "CheckIssuerCertAlgoRequirements in linkerd2's pkg/issuercerts"
)

// CheckAnchorAlgorithm tells whether Linkerd accepts trust anchors with such a
// key. The error wraps pki.ErrMeshRule.
func CheckAnchorAlgorithm(algorithm pki.Algorithm) error {
	return accept(algorithm, "trust anchors", anchorRule,
		pki.AlgorithmECDSAP256, pki.AlgorithmRSA2048, pki.AlgorithmRSA4096)
}

// CheckIssuerAlgorithm tells whether Linkerd accepts issuers with such a key.
// The error wraps pki.ErrMeshRule.
func CheckIssuerAlgorithm(algorithm pki.Algorithm) error {
	return accept(algorithm, "issuers", issuerRule, pki.AlgorithmECDSAP256)
}

// CheckAnchor tells whether Linkerd accepts a trust anchor: CheckAnchorAlgorithm
// of its key, signed with SHA-256. The error wraps pki.ErrMeshRule or
// pki.ErrUnsupportedKey.
func CheckAnchor(cert *x509.Certificate) error {
	allowed := []x509.SignatureAlgorithm{x509.SHA256WithRSA}
	if cert.PublicKeyAlgorithm == x509.ECDSA {
		allowed = append(allowed, x509.ECDSAWithSHA256)
	}
	return checkCertificate("trust anchor", cert, CheckAnchorAlgorithm, anchorRule, allowed...)
}

// CheckIssuer tells whether Linkerd can be run with a bundle and an issuer, the
// first of a chain behind which its intermediates are, at the given instant: the
// issuer leads to an anchor (what the identity controller demands before it
// starts) and it and every anchor have the algorithms that Linkerd accepts. The
// error wraps pki.ErrMeshRule, pki.ErrUnsupportedKey or one of
// pki.Bundle.VerifyChain.
func CheckIssuer(chain []*x509.Certificate, bundle pki.Bundle, at time.Time) error {
	if _, err := bundle.VerifyChain(chain, at); err != nil {
		return err
	}
	return checkAlgorithms(chain[0], bundle)
}

// IssuerSecretData returns the data of IssuerSecret in the layout of
// IssuerScheme: tls.crt with the issuer and its intermediates, tls.key as PKCS#8,
// and ca.crt, which the control plane does not read but `linkerd check` does. It
// refuses what CheckIssuer would refuse at any instant.
func IssuerSecretData(issuer *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error) {
	chain := issuer.Chain()
	if err := checkAlgorithms(chain[0], bundle); err != nil {
		return nil, err
	}
	if _, err := bundle.Signers(chain[len(chain)-1]); err != nil {
		return nil, err
	}
	key, err := issuer.KeyPEM()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey:              issuer.ChainPEM(),
		corev1.TLSPrivateKeyKey:        key,
		corev1.ServiceAccountRootCAKey: bundle.PEM(),
	}, nil
}

func checkAlgorithms(issuer *x509.Certificate, bundle pki.Bundle) error {
	for _, anchor := range bundle.Certificates() {
		if err := CheckAnchor(anchor); err != nil {
			return err
		}
	}
	return checkCertificate("issuer", issuer, CheckIssuerAlgorithm, issuerRule, x509.ECDSAWithSHA256, x509.SHA256WithRSA)
}

func checkCertificate(role string, cert *x509.Certificate, check func(pki.Algorithm) error, rule string, signed ...x509.SignatureAlgorithm) error {
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	if err == nil {
		err = check(algorithm)
	}
	if err == nil && !slices.Contains(signed, cert.SignatureAlgorithm) {
		err = fmt.Errorf("a signature by %s is %w Linkerd, which accepts %v (%s)", cert.SignatureAlgorithm, pki.ErrMeshRule, signed, rule)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", role, cert.Subject.String(), err)
	}
	return nil
}

func accept(algorithm pki.Algorithm, role, rule string, accepted ...pki.Algorithm) error {
	if slices.Contains(accepted, algorithm) {
		return nil
	}
	return fmt.Errorf("%s is %w Linkerd, which accepts %s with %v (%s)", algorithm, pki.ErrMeshRule, role, accepted, rule)
}

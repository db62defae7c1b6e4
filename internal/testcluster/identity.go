package testcluster

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// identityAnnotation is where devcluster shows what it gave a proxy.
const identityAnnotation = "devcluster.aksmesh.io/identity"

// Identity is what the proxy of a meshed pod has from its control plane.
type Identity struct {
	// Chain is what the proxy presents: its own certificate, that of its issuer
	// and whatever else it sends.
	Chain []*x509.Certificate
	// Roots are the trust anchors by which it verifies others.
	Roots []*x509.Certificate
}

// ProxyIdentity returns the identity of the proxy of pod, in a cluster with
// Options.Proxies. It is nil if the pod has no proxy or its proxy no certificate
// yet; a pod with a proxy is not ready before it has one.
func ProxyIdentity(pod *corev1.Pod) (*Identity, error) {
	value, ok := pod.Annotations[identityAnnotation]
	if !ok {
		return nil, nil
	}

	var bundles struct{ Chain, Roots string }
	if err := json.Unmarshal([]byte(value), &bundles); err != nil {
		return nil, fmt.Errorf("identity of Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}

	var (
		identity Identity
		err      error
	)

	if identity.Chain, err = certificates(bundles.Chain); err != nil {
		return nil, fmt.Errorf("chain of Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}

	if identity.Roots, err = certificates(bundles.Roots); err != nil {
		return nil, fmt.Errorf("roots of Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}

	return &identity, nil
}

// certificates are those in a bundle, at least one.
func certificates(bundle string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate

	for rest := []byte(bundle); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}

		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}

		found = append(found, certificate)
	}

	if len(found) == 0 {
		return nil, errors.New("no certificate")
	}

	return found, nil
}

// Trusts returns an error unless a proxy of this identity would, at that time,
// accept a connection with peer as far as certificates decide it.
func (i *Identity) Trusts(peer *Identity, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range i.Roots {
		roots.AddCert(root)
	}

	for _, certificate := range peer.Chain[1:] {
		intermediates.AddCert(certificate)
	}

	_, err := peer.Chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})

	return err
}

package trust

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"go.step.sm/crypto/keyutil"
	"go.step.sm/crypto/pemutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	// requestName is the Secret that keeps the key of a request, in the control plane's namespace.
	requestName = "aksmesh-issuer-request"
	// requestKey is the key of its data that the request itself is under.
	requestKey = "tls.csr"

	requestManager = "aksmesh-issuer-request"
	requestHolder  = "issuer-request"
)

// Request is the Secret that keeps the key of the issuer's request.
func (r IssuerRef) Request() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: r.Namespace, Name: requestName}
}

// A Request asks another authority for the issuer of a control plane. Its key
// stays in the cluster.
type Request struct {
	// PEM is the request (PKCS#10) without a trailing newline.
	PEM []byte
	// Subject and Algorithm are those that it has.
	Subject   pki.Subject
	Algorithm pki.Algorithm
}

// CreateRequest makes a key and a request for it, and keeps them in their Secret.
// One that is there already is never overwritten: one of the same subject and
// algorithm that this provider made is taken over (adopted is true), as after an
// apply that was cut off before it could write state; anything else is an
// *ExistsError.
func CreateRequest(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, options pki.AuthorityOptions) (request Request, adopted bool, err error) {
	exists := &ExistsError{Object: ref.Request().String(), Import: ref.String()}
	existing, err := cluster.Secret(ctx, ref.Namespace, requestName)
	if err == nil {
		request, err := requestIn(existing)
		if err != nil || !kube.Ours(existing.Labels) || request.Subject != options.Subject || request.Algorithm != options.Algorithm {
			return Request{}, false, exists
		}
		return request, true, nil
	}
	if !errors.Is(err, kube.ErrNotFound) {
		return Request{}, false, err
	}
	request, err = putRequest(ctx, cluster, ref, options, kube.ApplyOptions{Manager: requestManager, CreateOnly: true})
	if errors.Is(err, kube.ErrExists) {
		err = exists // Another, perhaps of the same configuration, was faster.
	}
	return request, false, err
}

// RenewRequest puts another key and a request for it in the place of those
// before. An issuer in service keeps its key.
func RenewRequest(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, options pki.AuthorityOptions) (Request, error) {
	return putRequest(ctx, cluster, ref, options, kube.ApplyOptions{Manager: requestManager, Force: true})
}

func putRequest(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, options pki.AuthorityOptions, how kube.ApplyOptions) (Request, error) {
	key, requestPEM, err := pki.NewRequest(options)
	if err != nil {
		return Request{}, err
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return Request{}, fmt.Errorf("%s: %w", ref.Request(), err)
	}
	if err := ref.hold(ctx, cluster, requestHolder); err != nil {
		return Request{}, err
	}
	data := map[string][]byte{requestKey: requestPEM, corev1.TLSPrivateKeyKey: keyPEM}
	if err := mesh.ApplySecret(ctx, cluster, ref.Request(), corev1.SecretTypeOpaque, data, nil, how); err != nil {
		return Request{}, err
	}
	return Request{PEM: requestPEM, Subject: options.Subject, Algorithm: options.Algorithm}, nil
}

// ReadRequest returns the request; kube.ErrNotFound if there is none, and
// pki.ErrMalformed or pki.ErrKeyMismatch if what is there is no longer one with
// its key.
func ReadRequest(ctx context.Context, cluster *kube.Cluster, ref IssuerRef) (Request, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, requestName)
	if err != nil {
		return Request{}, err
	}
	request, err := requestIn(secret)
	if err != nil {
		return Request{}, fmt.Errorf("%s: %w", ref.Request(), err)
	}
	return request, nil
}

func requestIn(secret *corev1.Secret) (Request, error) {
	requestPEM := secret.Data[requestKey]
	parsed, err := pemutil.ParseCertificateRequest(requestPEM)
	if err != nil {
		return Request{}, fmt.Errorf("%s: %w certificate request", requestKey, pki.ErrMalformed)
	}
	key, err := pki.ParseKey(secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return Request{}, fmt.Errorf("%s: %w", corev1.TLSPrivateKeyKey, err)
	}
	if !keyutil.Equal(key.Public(), parsed.PublicKey) {
		return Request{}, fmt.Errorf("%s is not the key of %s: %w", corev1.TLSPrivateKeyKey, requestKey, pki.ErrKeyMismatch)
	}
	algorithm, err := pki.AlgorithmOf(key.Public())
	if err != nil {
		return Request{}, err
	}
	return Request{PEM: requestPEM, Subject: pki.SubjectOf(&x509.Certificate{Subject: parsed.Subject}), Algorithm: algorithm}, nil
}

// RequestedIssuer joins a certificate, behind which its intermediates are, that
// another authority has made of the request with the key in the cluster: the
// request's, or, when the request has got another since, that of the issuer in
// service.
func RequestedIssuer(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, chain []*x509.Certificate) (*pki.KeyPair, error) {
	key, err := keyIn(ctx, cluster, ref.Request(), corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	pair, err := pki.NewKeyPair(chain, key)
	if !errors.Is(err, pki.ErrKeyMismatch) {
		return pair, err
	}
	if key, keyErr := keyIn(ctx, cluster, ref.Secret(), layouts[ref.Mesh].key); keyErr == nil {
		if pair, err := pki.NewKeyPair(chain, key); err == nil {
			return pair, nil
		}
	}
	return nil, fmt.Errorf("%s: %w; have the certificate made of its present request", ref.Request(), err)
}

func keyIn(ctx context.Context, cluster *kube.Cluster, ref kube.Ref, name string) (crypto.Signer, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(secret.Data[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", ref, name, err)
	}
	return key, nil
}

// DeleteRequest deletes the request with its key, and the namespace if nobody
// else holds it.
func DeleteRequest(ctx context.Context, cluster *kube.Cluster, ref IssuerRef) error {
	if err := cluster.Delete(ctx, ref.Request(), kube.DeleteOptions{Wait: true}); err != nil {
		return err
	}
	return ref.release(ctx, cluster, requestHolder)
}

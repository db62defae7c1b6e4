package linkerd

// This file stands in for how Linkerd's identity controller issues certificates (linkerd2 pkg/identity, pkg/tls).

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// certifyPort is the container port of the identity controller.
	certifyPort = 8080
	// tokenAudience is what the tokens of proxies are for.
	tokenAudience = "identity.l5d.io" //nolint:gosec // It is no credential.

	// What the controller takes if it is not told.
	defaultIssuanceLifetime   = "24h"
	defaultClockSkewAllowance = "10s"
)

// A certifyRequest asks for a certificate, with the fields of Linkerd's own
// gRPC message, as JSON.
type certifyRequest struct {
	// Identity is the name that the certificate is to have.
	Identity string `json:"identity"`
	// Token is that of the ServiceAccount of this name.
	Token string `json:"token"`
	// CSR is a certificate request in DER.
	CSR []byte `json:"csr"`
}

// A certifyResponse is the answer: certificates in DER.
type certifyResponse struct {
	Leaf          []byte   `json:"leaf"`
	Intermediates [][]byte `json:"intermediates"`
}

// A certifyService signs the certificates of proxies.
type certifyService struct {
	client  kubernetes.Interface
	anchors *x509.CertPool
	issuer  atomic.Pointer[issuer]
	// invalid hears when the issuer can no longer sign.
	invalid func(error)

	lifetime, skew time.Duration
	// suffix follows <account>.<namespace> in the names of proxies.
	suffix string
}

// configure takes the arguments of the controller, which runs in namespace.
func (s *certifyService) configure(controller *corev1.Container, namespace string) error {
	for _, setting := range []struct {
		flag, fallback string
		value          *time.Duration
	}{
		{"identity-issuance-lifetime", defaultIssuanceLifetime, &s.lifetime},
		{"identity-clock-skew-allowance", defaultClockSkewAllowance, &s.skew},
	} {
		var err error
		if *setting.value, err = time.ParseDuration(argument(controller, setting.flag, setting.fallback)); err != nil {
			return fmt.Errorf("argument %s: %w", setting.flag, err)
		}
	}
	s.suffix = fmt.Sprintf(".serviceaccount.identity.%s.%s", argument(controller, "controller-namespace", namespace),
		argument(controller, "identity-trust-domain", "cluster.local"))
	return nil
}

// ServeHTTP answers a certifyRequest.
func (s *certifyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request certifyRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, reviewLimit)).Decode(&request)
	var response *certifyResponse
	if err == nil {
		response, err = s.certify(r.Context(), request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// Only the connection can fail, and then nobody is there to hear of it.
	_ = json.NewEncoder(w).Encode(response)
}

// certify signs what request asks for, if its token is of the account that it
// names and the issuer is still valid.
func (s *certifyService) certify(ctx context.Context, request certifyRequest) (*certifyResponse, error) {
	csr, err := x509.ParseCertificateRequest(request.CSR)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	if !slices.Equal(csr.DNSNames, []string{request.Identity}) {
		return nil, fmt.Errorf("certificate request is for %q, not for %s", csr.DNSNames, request.Identity)
	}
	name, err := s.authenticate(ctx, request.Token)
	if err != nil {
		return nil, err
	}
	if name != request.Identity {
		return nil, fmt.Errorf("the token is of %s and not of %s", name, request.Identity)
	}
	signer := s.issuer.Load()
	if err := verifyChain(signer.chain, "", s.anchors); err != nil {
		s.invalid(err)
		return nil, fmt.Errorf("the issuer is not valid: %w", err)
	}
	return s.sign(signer, csr)
}

// authenticate returns the name of the proxy whose token it is.
func (s *certifyService) authenticate(ctx context.Context, token string) (string, error) {
	review, err := s.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{tokenAudience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("review token: %w", err)
	}
	if !review.Status.Authenticated {
		return "", errors.New("token is not valid: " + review.Status.Error)
	}
	account := strings.Split(review.Status.User.Username, ":")
	if len(account) != 4 || account[0] != "system" || account[1] != "serviceaccount" {
		return "", fmt.Errorf("token is of %s and not of a ServiceAccount", review.Status.User.Username)
	}
	return account[3] + "." + account[2] + s.suffix, nil
}

// sign issues the certificate. It ends no later than any of those it hangs by.
func (s *certifyService) sign(signer *issuer, csr *x509.CertificateRequest) (*certifyResponse, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, fmt.Errorf("choose serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     csr.DNSNames,
		NotBefore:    now.Add(-s.skew),
		NotAfter:     now.Add(s.lifetime + s.skew),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	response := &certifyResponse{}
	for _, certificate := range signer.chain {
		if certificate.NotAfter.Before(template.NotAfter) {
			template.NotAfter = certificate.NotAfter
		}
		response.Intermediates = append(response.Intermediates, certificate.Raw)
	}
	response.Leaf, err = x509.CreateCertificate(rand.Reader, template, signer.chain[0], csr.PublicKey, signer.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return response, nil
}

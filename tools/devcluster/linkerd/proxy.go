package linkerd

// This file stands in for the identity client of Linkerd's proxy (linkerd2-proxy linkerd/proxy/identity-client).

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// renewAfter is the part of a certificate's life after which a proxy asks for
// the next.
const renewAfter = 0.7

// Proxy gets the proxies of Linkerd their identities from the stand-in of its
// identity controller.
type Proxy struct{}

// Name is that of the proxy's container.
func (Proxy) Name() string { return proxyContainer }

// Runs reports whether Linkerd has meshed pod.
func (Proxy) Runs(pod *corev1.Pod) bool { return podenv.Container(pod, proxyContainer) != nil }

// Start reads the environment of the proxy, and with it the trust anchors, which
// stay what they are as long as the container runs.
func (Proxy) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Certifier, error) {
	client, err := kubernetes.NewForConfig(env.REST)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	const prefix = "LINKERD2_PROXY_IDENTITY_"
	variables, err := podenv.Variables(ctx, client, pod, podenv.Container(pod, proxyContainer))
	if err != nil {
		return nil, err
	}
	p := &proxy{
		client:     client,
		dial:       env.Dial,
		pod:        pod,
		anchorsPEM: variables[prefix+"TRUST_ANCHORS"],
		anchors:    x509.NewCertPool(),
		name:       variables[prefix+"LOCAL_NAME"],
		server:     variables[prefix+"SVC_NAME"],
		address:    variables[prefix+"SVC_ADDR"],
	}
	if !p.anchors.AppendCertsFromPEM([]byte(p.anchorsPEM)) {
		return nil, fmt.Errorf("%sTRUST_ANCHORS holds no certificate", prefix)
	}
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	p.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{p.name}}, p.key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	return p, nil
}

// A proxy is that of one pod.
type proxy struct {
	client kubernetes.Interface
	dial   func(ctx context.Context, address string, accept func(*corev1.Pod) error) (net.Conn, error)
	pod    *corev1.Pod

	anchorsPEM string
	anchors    *x509.CertPool
	key        *ecdsa.PrivateKey
	csr        []byte
	// name is the identity of the pod, server that of the identity controller,
	// and address where that is.
	name, server, address string
}

// Certify gets a certificate that the proxy's own anchors vouch for.
func (p *proxy) Certify(ctx context.Context) (program.Identity, error) {
	token, err := podenv.Token(ctx, p.client, p.pod, tokenAudience, nil)
	if err != nil {
		return program.Identity{}, err
	}
	response, err := p.ask(ctx, certifyRequest{Identity: p.name, Token: token, CSR: p.csr})
	if err != nil {
		return program.Identity{}, fmt.Errorf("ask %s for a certificate: %w", p.address, err)
	}
	var chain []*x509.Certificate
	var chainPEM bytes.Buffer
	for _, der := range append([][]byte{response.Leaf}, response.Intermediates...) {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return program.Identity{}, fmt.Errorf("parse the certificate: %w", err)
		}
		chain = append(chain, certificate)
		if err := pem.Encode(&chainPEM, &pem.Block{Type: certificateType, Bytes: der}); err != nil {
			return program.Identity{}, fmt.Errorf("write the certificate: %w", err)
		}
	}
	if err := verifyChain(chain, p.name, p.anchors); err != nil {
		return program.Identity{}, fmt.Errorf("the certificate is refused: %w", err)
	}
	life := time.Until(chain[0].NotAfter)
	return program.Identity{
		Chain: chainPEM.String(), Roots: p.anchorsPEM,
		RenewAt: time.Now().Add(time.Duration(renewAfter * float64(life))),
	}, nil
}

// ask sends a request to an identity controller.
func (p *proxy) ask(ctx context.Context, request certifyRequest) (*certifyResponse, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.dial(ctx, p.address, p.trusts)
	}}
	defer transport.CloseIdleConnections()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(post)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(string(bytes.TrimSpace(content)))
	}
	var response certifyResponse
	if err := json.Unmarshal(content, &response); err != nil {
		return nil, err
	}
	return &response, nil
}

// trusts stands in for the TLS handshake with the proxy of an identity
// controller: it has an error unless the anchors vouch for what that presents.
func (p *proxy) trusts(controller *corev1.Pod) error {
	name := controller.Namespace + "/" + controller.Name
	var presented program.Identity
	if err := json.Unmarshal([]byte(controller.Annotations[program.IdentityAnnotation]), &presented); err != nil {
		return fmt.Errorf("the proxy of Pod %s has no identity: %w", name, err)
	}
	chain, err := decodeCertificates([]byte(presented.Chain))
	if err == nil && len(chain) == 0 {
		err = errors.New("no certificate")
	}
	if err == nil {
		err = verifyChain(chain, p.server, p.anchors)
	}
	if err != nil {
		return fmt.Errorf("the proxy of Pod %s is not trusted: %w", name, err)
	}
	return nil
}

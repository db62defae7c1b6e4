package istio

// This file stands in for the CA client of Istio's agent (istio security/pkg/nodeagent).

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	securityv1alpha1 "istio.io/api/security/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	proxyContainer = "istio-proxy"
	// rootConfigMap is where istiod puts, into every namespace, what its own
	// certificate is verified by.
	rootConfigMap, rootKey = "istio-ca-root-cert", "root-cert.pem"
	// tokenAudience is what the tokens of proxies are for.
	tokenAudience = "istio-ca"

	// What the agent takes if its environment does not say.
	defaultSecretTTL        = "24h"
	defaultGracePeriodRatio = "0.5"
)

// Proxy gets the proxies of Istio, those of gateways included, their
// identities from istiod.
type Proxy struct{}

// Name is that of the proxy's container.
func (Proxy) Name() string { return proxyContainer }

// Runs reports whether pod has a proxy of its own. The container of ztunnel has
// the same name, but serves other pods.
func (Proxy) Runs(pod *corev1.Pod) bool {
	proxy := podenv.Container(pod, proxyContainer)
	return proxy != nil && !slices.Contains(proxy.Args, "ztunnel")
}

// Start reads the environment of the proxy.
func (Proxy) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Certifier, error) {
	client, err := kubernetes.NewForConfig(env.REST)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	variables, err := podenv.Variables(ctx, client, pod, podenv.Container(pod, proxyContainer))
	if err != nil {
		return nil, err
	}
	p := &proxy{client: client, dial: env.Dial, pod: pod, address: variables["CA_ADDR"], cluster: variables["ISTIO_META_CLUSTER_ID"]}
	if p.lifetime, err = time.ParseDuration(cmp.Or(variables["SECRET_TTL"], defaultSecretTTL)); err != nil {
		return nil, fmt.Errorf("SECRET_TTL: %w", err)
	}
	ratio := cmp.Or(variables["SECRET_GRACE_PERIOD_RATIO"], defaultGracePeriodRatio)
	if p.graceRatio, err = strconv.ParseFloat(ratio, 64); err != nil {
		return nil, fmt.Errorf("SECRET_GRACE_PERIOD_RATIO: %w", err)
	}
	p.name = &url.URL{Scheme: "spiffe", Host: variables["TRUST_DOMAIN"], Path: fmt.Sprintf("/ns/%s/sa/%s", pod.Namespace, pod.Spec.ServiceAccountName)}
	return p, nil
}

// A proxy is that of one pod.
type proxy struct {
	client kubernetes.Interface
	dial   func(ctx context.Context, address string, accept func(*corev1.Pod) error) (net.Conn, error)
	pod    *corev1.Pod

	// address is where istiod is, and cluster which one the pod says it is of.
	address, cluster string
	name             *url.URL
	// lifetime is what the proxy asks for, and graceRatio the part of it that
	// is left when it asks again.
	lifetime   time.Duration
	graceRatio float64
}

// Certify gets a certificate and, with it, the roots. Like the agent it takes
// both as they are: what istiod says are the roots need not be those that
// verify the certificate.
func (p *proxy) Certify(ctx context.Context) (program.Identity, error) {
	csr, err := p.request()
	if err != nil {
		return program.Identity{}, err
	}
	chain, err := p.ask(ctx, csr)
	if err != nil {
		return program.Identity{}, fmt.Errorf("ask %s for a certificate: %w", p.address, err)
	}
	if len(chain) < 2 {
		return program.Identity{}, fmt.Errorf("%s gave a certificate without roots", p.address)
	}
	block, _ := pem.Decode([]byte(chain[0]))
	if block == nil {
		return program.Identity{}, errors.New("the certificate is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return program.Identity{}, fmt.Errorf("parse the certificate: %w", err)
	}
	life := float64(time.Until(leaf.NotAfter))
	return program.Identity{
		// The agent has Envoy present the roots as well.
		Chain:   joined(chain),
		Roots:   chain[len(chain)-1],
		RenewAt: time.Now().Add(time.Duration((1 - p.graceRatio) * life)),
	}, nil
}

// request makes a certificate request with a new key, as the agent does each
// time. It is one on an elliptic curve, where the agent's default is RSA: that
// makes no difference to who trusts whom and does not cost as much time.
func (p *proxy) request() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{p.name}}, key)
	if err != nil {
		return "", fmt.Errorf("create certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// ask sends a certificate request to an istiod that the root of the namespace
// vouches for.
func (p *proxy) ask(ctx context.Context, csr string) (chain []string, err error) {
	roots, err := p.client.CoreV1().ConfigMaps(p.pod.Namespace).Get(ctx, rootConfigMap, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", p.pod.Namespace, rootConfigMap, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots.Data[rootKey])) {
		return nil, fmt.Errorf("ConfigMap %s/%s holds no certificate", p.pod.Namespace, rootConfigMap)
	}
	token, err := podenv.Token(ctx, p.client, p.pod, tokenAudience, nil)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(p.address)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+p.address,
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return p.dial(ctx, address, nil) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12})))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token, "ClusterID", p.cluster)
	response, err := securityv1alpha1.NewIstioCertificateServiceClient(conn).
		CreateCertificate(ctx, &securityv1alpha1.IstioCertificateRequest{Csr: csr, ValidityDuration: int64(p.lifetime.Seconds())})
	if err != nil {
		return nil, err
	}
	return response.GetCertChain(), nil
}

// joined is one bundle of several PEMs.
func joined(bundles []string) string {
	var all strings.Builder
	for _, bundle := range bundles {
		all.WriteString(strings.TrimSuffix(bundle, "\n") + "\n")
	}
	return all.String()
}

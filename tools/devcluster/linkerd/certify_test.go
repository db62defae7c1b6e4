package linkerd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	alphaName      = "alpha.dgraph.serviceaccount.identity.linkerd.cluster.local"
	controllerName = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
)

// accounts is an API server whose tokens are the user names of their accounts.
func accounts() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "serviceaccounts", func(action k8stesting.Action) (bool, runtime.Object, error) {
		named, ok := action.(k8stesting.CreateActionImpl)
		if !ok || action.GetSubresource() != "token" {
			return false, nil, nil
		}
		token := "system:serviceaccount:" + action.GetNamespace() + ":" + named.Name
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: token}}, nil
	})
	client.PrependReactor("create", "tokenreviews", func(action k8stesting.Action) (bool, runtime.Object, error) {
		created, ok := action.(k8stesting.CreateAction)
		if !ok {
			return false, nil, nil
		}
		review, ok := created.GetObject().(*authenticationv1.TokenReview)
		if !ok {
			return false, nil, nil
		}
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: strings.HasPrefix(review.Spec.Token, "system:"), Error: "unknown token",
			User: authenticationv1.UserInfo{Username: review.Spec.Token},
		}
		return true, review, nil
	})
	return client
}

func pool(anchors ...*authority) *x509.CertPool {
	certificates := x509.NewCertPool()
	for _, anchor := range anchors {
		certificates.AddCert(anchor.certificate)
	}
	return certificates
}

// service is that of an identity controller with one issuer.
func service(t *testing.T, anchor, signer *authority) *certifyService {
	t.Helper()
	s := &certifyService{
		client: accounts(), anchors: pool(anchor), invalid: func(err error) { t.Log(err) },
		lifetime: 24 * time.Hour, skew: 20 * time.Second, suffix: ".serviceaccount.identity.linkerd.cluster.local",
	}
	s.issuer.Store(&issuer{key: signer.key, chain: []*x509.Certificate{signer.certificate}})
	return s
}

// proxyOf is the proxy of a pod with the account dgraph/alpha that asks s.
func proxyOf(t *testing.T, s *certifyService, anchors *x509.CertPool) *proxy {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{alphaName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &proxy{
		client: accounts(),
		dial: func(ctx context.Context, _ string, _ func(*corev1.Pod) error) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
		},
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "dgraph", Name: "alpha-0"},
			Spec:       corev1.PodSpec{ServiceAccountName: "alpha"},
		},
		anchorsPEM: "anchors", anchors: anchors, key: key, csr: csr, name: alphaName, server: controllerName, address: "identity:8080",
	}
}

func TestProxyIsCertified(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil, true)
	signer := newAuthority(t, "issuer", root, true)
	got, err := proxyOf(t, service(t, root, signer), pool(root)).Certify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := decodeCertificates([]byte(got.Chain))
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || got.Roots != "anchors" || !chain[1].Equal(signer.certificate) {
		t.Fatalf("identity %+v", got)
	}
	if err := verifyChain(chain, alphaName, pool(root)); err != nil {
		t.Error(err)
	}
	// The issuer ends in an hour, long before the day that a certificate lasts.
	if end := signer.certificate.NotAfter; !chain[0].NotAfter.Equal(end) {
		t.Errorf("the certificate ends at %v, want %v", chain[0].NotAfter, end)
	}
	if !got.RenewAt.After(time.Now()) || !got.RenewAt.Before(chain[0].NotAfter) {
		t.Errorf("renewed at %v", got.RenewAt)
	}
}

func TestProxyIsNotCertified(t *testing.T) {
	t.Parallel()
	root, other := newAuthority(t, "root", nil, true), newAuthority(t, "other", nil, true)
	signer := newAuthority(t, "issuer", root, true)
	for _, test := range []struct {
		name    string
		anchors *x509.CertPool
		change  func(p *proxy, s *certifyService)
		want    string
	}{
		{"by an issuer that its anchors do not know", pool(other), func(*proxy, *certifyService) {}, "the certificate is refused"},
		{"by an issuer that is no longer valid", pool(root, other), func(_ *proxy, s *certifyService) { s.anchors = pool(other) }, "the issuer is not valid"},
		{"with the token of another account", pool(root), func(p *proxy, _ *certifyService) { p.pod.Spec.ServiceAccountName = "zero" }, "the token is of zero.dgraph.serviceaccount"},
		{"for another name than it asks for", pool(root), func(p *proxy, _ *certifyService) { p.name = "zero" }, `certificate request is for ["alpha`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := service(t, root, signer)
			p := proxyOf(t, s, test.anchors)
			test.change(p, s)
			_, err := p.Certify(t.Context())
			refused(t, err, test.want)
		})
	}
}

// A proxy does not even ask a controller whose own proxy it does not trust.
func TestProxyTrustsControllers(t *testing.T) {
	t.Parallel()
	root, other := newAuthority(t, "root", nil, true), newAuthority(t, "other", nil, true)
	leaf := newAuthority(t, controllerName, root, false)
	present := func(anchors *x509.CertPool, chain string) error {
		value, err := json.Marshal(program.Identity{Chain: chain})
		if err != nil {
			t.Fatal(err)
		}
		controller := readyIdentity()
		controller.Annotations = map[string]string{program.IdentityAnnotation: string(value)}
		return (&proxy{anchors: anchors, server: controllerName}).trusts(controller)
	}
	refused(t, present(pool(root), leaf.certificatePEM()), "")
	refused(t, present(pool(other), leaf.certificatePEM()), "the proxy of Pod linkerd/linkerd-identity-1 is not trusted")
	refused(t, present(pool(root), newAuthority(t, "another", root, false).certificatePEM()), "is not trusted")
	refused(t, present(pool(root), ""), "no certificate")
	refused(t, (&proxy{}).trusts(readyIdentity()), "has no identity")
}

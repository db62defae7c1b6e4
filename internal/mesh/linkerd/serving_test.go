package linkerd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const day = 24 * time.Hour

// servers are one of each sort.
func servers() []server {
	return append(controlPlaneServers("linkerd"), vizServers("linkerd-viz")...)
}

// registration is what the API server knows of a server.
func registration(s server, bundle []byte) *unstructured.Unstructured {
	call := map[string]any{
		"service":  map[string]any{"name": s.name, "namespace": s.namespace},
		"caBundle": base64.StdEncoding.EncodeToString(bundle),
	}
	object := s.registration.Object()
	if s.registration.Kind == kube.APIService {
		call["version"] = "v1alpha1"
		object.Object["spec"] = call
	} else {
		object.Object["webhooks"] = []any{
			map[string]any{"name": "other", "clientConfig": map[string]any{"url": "https://elsewhere"}},
			map[string]any{"name": s.name, "clientConfig": call},
		}
	}
	return object
}

func secretOf(cert, key []byte) *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issued is a certificate that the parent signs, or itself without one.
func issued(t *testing.T, name string, authority bool, parent *x509.Certificate, signer crypto.Signer, from time.Time, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(mathrand.Int64()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: from, NotAfter: from.Add(life), BasicConstraintsValid: true, IsCA: authority,
	}
	if authority {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func pemOf(certs ...*x509.Certificate) []byte {
	var all []byte
	for _, cert := range certs {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return all
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// A made certificate is the one that somebody's chart or hand has made: the
// Secret's content and what the API server trusts.
type made struct{ cert, key, bundle []byte }

// origins are the ways in which certificates come about.
func origins(t *testing.T, dnsName string, from time.Time) map[string]made {
	t.Helper()
	const life = 365 * day
	self, selfKey := issued(t, dnsName, false, nil, nil, from, life)
	ca, caKey := issued(t, "ca", true, nil, nil, from, life)
	below, belowKey := issued(t, dnsName, false, ca, caKey, from, life)
	middle, middleKey := issued(t, "middle", true, ca, caKey, from, life)
	deep, deepKey := issued(t, dnsName, false, middle, middleKey, from, life)
	return map[string]made{
		"its own":            {pemOf(self), keyPEM(t, selfKey), pemOf(self)},
		"of an authority":    {pemOf(below), keyPEM(t, belowKey), pemOf(ca)},
		"of an intermediate": {pemOf(deep, middle), keyPEM(t, deepKey), pemOf(ca)},
	}
}

// A world is one server with the API server that calls it and pods that serve.
type world struct {
	t          *testing.T
	server     server
	now        time.Time
	secret     *corev1.Secret
	registered *unstructured.Unstructured
	// served are the chains in PEM that some pod may serve.
	served [][]byte
}

func (w *world) look(early time.Duration) *serving {
	s := &serving{server: w.server, now: w.now, secret: w.secret, registered: w.registered}
	s.judge(early)
	return s
}

// settle does what has to be done, but is killed after so many writes.
func (w *world) settle(early time.Duration, writes int) {
	w.t.Helper()
	looked := w.look(early)
	change, err := looked.change()
	if err != nil {
		w.t.Fatal(err)
	}
	if change.publish {
		if writes--; writes < 0 {
			return
		}
		w.registered = w.registered.DeepCopy()
		maps.Copy(w.registered.Object, looked.told(change.bundle))
		w.check("the bundle was published")
	}
	if change.pair != nil {
		if writes--; writes < 0 {
			return
		}
		key, err := change.pair.KeyPEM()
		if err != nil {
			w.t.Fatal(err)
		}
		w.secret = secretOf(change.pair.CertificatePEM(), key)
		if w.server.values != "" {
			w.secret.Data[caBundleKey] = change.bundle.PEM()
		}
		w.served = append(w.served, w.secret.Data[corev1.TLSCertKey])
		w.check("the certificate was written")
	}
}

// check verifies as the API server does that it can call every pod.
func (w *world) check(when string) {
	w.t.Helper()
	calls := (&serving{server: w.server, registered: w.registered}).calls()
	if len(calls) != 1 {
		w.t.Fatalf("%d calls", len(calls))
	}
	text, _ := calls[0]["caBundle"].(string)
	bundle, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, chain := range w.served {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		first, rest := pem.Decode(chain)
		intermediates.AppendCertsFromPEM(rest)
		cert, err := x509.ParseCertificate(first.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.now.After(cert.NotAfter) {
			continue // No bundle helps.
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: w.now, DNSName: w.server.dnsName()}); err != nil {
			w.t.Fatalf("after %s at %s: the API server cannot call a pod: %v", when, w.now, err)
		}
	}
}

// Whatever happens between any two writes, the API server can call every pod,
// whichever certificate it serves by then.
func TestServingCertificatesAreAlwaysAccepted(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, s := range servers() {
		for origin, made := range origins(t, s.dnsName(), start) {
			for seed := range uint64(20) {
				t.Run(fmt.Sprintf("%s %s %d", s.name, origin, seed), func(t *testing.T) {
					t.Parallel()
					random := mathrand.New(mathrand.NewPCG(seed, 4))
					w := &world{
						t: t, server: s, now: start.Add(time.Hour), served: [][]byte{made.cert},
						secret: secretOf(made.cert, made.key), registered: registration(s, made.bundle),
					}
					w.check("the beginning")
					for range 60 {
						early := time.Duration(random.IntN(300)) * day
						switch random.IntN(8) {
						case 0, 1, 2, 3:
							w.settle(early, random.IntN(3))
						case 4:
							w.settle(early, 2)
							if problem := w.look(early).problem; problem != "" {
								t.Fatalf("after all writes: %s", problem)
							}
						case 5:
							w.now = w.now.Add(time.Duration(random.IntN(120)) * day)
							if w.secret != nil {
								w.served = [][]byte{w.secret.Data[corev1.TLSCertKey]}
							}
							w.check("a while")
						case 6:
							w.now = w.now.Add(time.Duration(random.IntN(60)) * time.Second)
						case 7:
							if random.IntN(4) == 0 {
								w.secret = nil
							}
						}
					}
				})
			}
		}
	}
}

func TestServingIsJudged(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	const early = 60 * day
	type found struct {
		secret     *corev1.Secret
		registered *unstructured.Unstructured
	}
	for name, test := range map[string]struct {
		born      time.Duration // how long ago
		edit      func(*found)
		problem   string // a part of it; empty if nothing is wrong
		renew     bool
		renewedBy string
	}{
		"sound":     {},
		"due":       {born: 310 * day, problem: "valid only until 2026-07-26T00:00:00Z", renew: true},
		"expired":   {born: 400 * day, problem: "valid only until 2026-04-27T00:00:00Z", renew: true},
		"gone":      {edit: func(f *found) { f.secret = nil }, problem: "missing", renew: true},
		"no key":    {edit: func(f *found) { delete(f.secret.Data, corev1.TLSPrivateKeyKey) }, problem: "private key", renew: true},
		"not known": {edit: func(f *found) { f.registered = nil }},
		"not trusted": {
			edit:    func(f *found) { f.registered = registration(controlPlaneServers("linkerd")[2], []byte("none")) },
			problem: "does not tell the API server",
		},
		"of cert-manager": {
			born:    310 * day,
			edit:    func(f *found) { f.secret.Annotations = map[string]string{"cert-manager.io/certificate-name": "x"} },
			problem: "valid only until", renew: true, renewedBy: "cert-manager",
		},
		"bundle of cert-manager": {
			edit: func(f *found) {
				f.registered.SetAnnotations(map[string]string{"cert-manager.io/inject-ca-from": "x/y"})
			},
			renewedBy: "cert-manager",
		},
		"of a controller": {
			edit: func(f *found) {
				f.secret.OwnerReferences = []metav1.OwnerReference{{Kind: "ExternalSecret", Name: "certificate", Controller: new(true)}}
			},
			renewedBy: "ExternalSecret certificate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := controlPlaneServers("linkerd")[2]
			cert, key := issued(t, s.dnsName(), false, nil, nil, now.Add(-test.born), 365*day)
			f := &found{secretOf(pemOf(cert), keyPEM(t, key)), registration(s, pemOf(cert))}
			if test.edit != nil {
				test.edit(f)
			}
			looked := &serving{server: s, now: now, secret: f.secret, registered: f.registered}
			looked.judge(early)
			if (looked.problem == "") != (test.problem == "") || !strings.Contains(looked.problem, test.problem) {
				t.Errorf("problem %q", looked.problem)
			}
			if looked.problem != "" && looked.renew != test.renew {
				t.Errorf("renew %t", looked.renew)
			}
			if looked.renewedBy != test.renewedBy {
				t.Errorf("renewed by %q", looked.renewedBy)
			}
		})
	}
}

// The API server stops to accept a certificate when its authority ends.
func TestServingEndsWithItsAuthority(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	s := vizServers("viz")[0]
	ca, caKey := issued(t, "ca", true, nil, nil, now, 90*day)
	cert, key := issued(t, s.dnsName(), false, ca, caKey, now, 365*day)
	looked := &serving{server: s, now: now, secret: secretOf(pemOf(cert), keyPEM(t, key)), registered: registration(s, pemOf(ca))}
	looked.judge(60 * day)
	if !looked.notAfter.Equal(ca.NotAfter) || looked.problem != "" {
		t.Errorf("until %s, problem %q", looked.notAfter, looked.problem)
	}
	looked.judge(91 * day)
	if !strings.Contains(looked.problem, "valid only until") {
		t.Errorf("problem %q", looked.problem)
	}
}

func TestServingRefusesKeysThatItsServerCannotRead(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, s := range servers() {
		cert, key := issued(t, s.dnsName(), false, nil, nil, now.Add(-day), 365*day)
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		looked := &serving{server: s, now: now, secret: secretOf(pemOf(cert), sec1), registered: registration(s, pemOf(cert))}
		looked.judge(60 * day)
		if want := s.name == policyValidator; strings.Contains(looked.problem, "SEC 1") != want {
			t.Errorf("%s: problem %q", s.name, looked.problem)
		}
	}
}

// What the chart is told leaves to others what they have in hand.
func TestServingOfOthersIsLeftToThem(t *testing.T) {
	t.Parallel()
	s := controlPlaneServers("linkerd")[0]
	cert, _ := issued(t, s.dnsName(), false, nil, nil, time.Now(), 365*day)
	for annotation, want := range map[string]string{
		"cert-manager.io/inject-ca-from":        "map[externalSecret:true injectCaFrom:x/y]",
		"cert-manager.io/inject-ca-from-secret": "map[externalSecret:true injectCaFromSecret:x/y]",
		"other":                                 fmt.Sprintf("map[caBundle:%s externalSecret:true]", pki.NewBundle(cert).PEM()),
	} {
		registered := registration(s, pemOf(cert))
		registered.SetAnnotations(map[string]string{annotation: "x/y"})
		looked := &serving{server: s, now: time.Now(), registered: registered}
		looked.judge(0)
		if got := fmt.Sprint(looked.othersValues()); got != want {
			t.Errorf("%s: %s", annotation, got)
		}
	}
}

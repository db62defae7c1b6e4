package testcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A signer is a certificate with its key.
type signer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// sign makes a certificate that parent signs or, without one, that signs itself.
func sign(t *testing.T, parent *signer, isCA bool, ends time.Time) *signer {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(ends.UnixNano()), NotBefore: ends.Add(-time.Hour), NotAfter: ends,
		IsCA: isCA, BasicConstraintsValid: true,
	}
	made := &signer{certificate: template, key: key}

	if parent == nil {
		parent = made
	}

	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}

	if made.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}

	return made
}

// identify annotates a pod as devcluster does.
func identify(t *testing.T, chain, roots []*signer) *corev1.Pod {
	t.Helper()

	bundle := func(all []*signer) string {
		var text strings.Builder
		for _, s := range all {
			text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw}))
		}

		return text.String()
	}

	value, err := json.Marshal(map[string]string{"chain": bundle(chain), "roots": bundle(roots)})
	if err != nil {
		t.Fatal(err)
	}

	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "app", Name: "alpha", Annotations: map[string]string{identityAnnotation: string(value)},
	}}
}

func TestIdentitiesTrustEachOther(t *testing.T) {
	t.Parallel()

	now := time.Now()
	soon := now.Add(30 * time.Minute)
	oldRoot, newRoot := sign(t, nil, true, soon), sign(t, nil, true, soon.Add(time.Second))
	oldIssuer, newIssuer := sign(t, oldRoot, true, soon), sign(t, newRoot, true, soon)

	identity := func(issuer *signer, roots ...*signer) *Identity {
		got, err := ProxyIdentity(identify(t, []*signer{sign(t, issuer, false, soon), issuer}, roots))
		if err != nil {
			t.Fatal(err)
		}

		if len(got.Chain) != 2 || len(got.Roots) != len(roots) {
			t.Fatalf("got %d certificates and %d roots", len(got.Chain), len(got.Roots))
		}

		return got
	}

	before, between, after := identity(oldIssuer, oldRoot), identity(oldIssuer, oldRoot, newRoot), identity(newIssuer, newRoot)
	for _, test := range []struct {
		name        string
		by, of      *Identity
		at          time.Time
		want, other bool
	}{
		{"the same", before, before, now, true, true},
		{"one that trusts more", before, between, now, true, true},
		{"one that is ahead", between, after, now, true, false},
		{"two that share nothing", before, after, now, false, false},
		{"expired ones", between, between, soon.Add(time.Minute), false, false},
	} {
		if err := test.by.Trusts(test.of, test.at); (err == nil) != test.want {
			t.Errorf("%s: %v, want trusted %t", test.name, err, test.want)
		}

		if err := test.of.Trusts(test.by, test.at); (err == nil) != test.other {
			t.Errorf("%s, the other way: %v, want trusted %t", test.name, err, test.other)
		}
	}
}

func TestProxyIdentityOfOtherPods(t *testing.T) {
	t.Parallel()

	if identity, err := ProxyIdentity(&corev1.Pod{}); identity != nil || err != nil {
		t.Errorf("a pod without proxy has %v, %v", identity, err)
	}

	for value, want := range map[string]string{
		"{":  "identity of Pod app/alpha: unexpected end of JSON input",
		"{}": "chain of Pod app/alpha: no certificate",
	} {
		pod := identify(t, nil, nil)
		pod.Annotations[identityAnnotation] = value

		if _, err := ProxyIdentity(pod); err == nil || err.Error() != want {
			t.Errorf("annotation %s gives %v, want %s", value, err, want)
		}
	}
}

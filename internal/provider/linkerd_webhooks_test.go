package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/pkitest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// vizTest is a cluster with what the chart of linkerd-viz leaves there.
type vizTest struct {
	t       *testing.T
	cluster *kube.Cluster
}

func (v vizTest) apply(object *unstructured.Unstructured) {
	v.t.Helper()
	if _, err := v.cluster.Apply(v.t.Context(), object, kube.ApplyOptions{Manager: "helm"}); err != nil {
		v.t.Fatal(err)
	}
}

func (v vizTest) get(ref kube.Ref) *unstructured.Unstructured {
	v.t.Helper()
	object, err := v.cluster.Get(v.t.Context(), ref)
	if err != nil {
		v.t.Fatal(err)
	}
	return object
}

// served is the certificate in a Secret.
func (v vizTest) served(secret kube.Ref) *x509.Certificate {
	v.t.Helper()
	text, _, err := unstructured.NestedString(v.get(secret).Object, "data", corev1.TLSCertKey)
	if err != nil {
		v.t.Fatal(err)
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		v.t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		v.t.Fatal(err)
	}
	return cert
}

// issue makes a Secret with a certificate that an authority of its own signs, as
// charts do by genCA and genSignedCert, and returns the authority's.
func (v vizTest) issue(secret kube.Ref, end time.Time, annotations map[string]string) []byte {
	v.t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		v.t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		v.t.Fatal(err)
	}
	ca := pkitest.SelfSigned(v.t, time.Now(), caKey, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = end.Add(-8760*time.Hour), end
	})
	name := strings.TrimSuffix(secret.Name, "-k8s-tls") + "." + secret.Namespace + ".svc"
	leaf := pkitest.Sign(v.t, &x509.Certificate{
		SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: end.Add(-8760 * time.Hour), NotAfter: end, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.Certificate(), key.Public(), caKey)
	object := secret.Object()
	object.SetAnnotations(annotations)
	object.Object["type"] = string(corev1.SecretTypeTLS)
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	object.Object["data"] = map[string]any{
		corev1.TLSCertKey:       encode("CERTIFICATE", leaf.Raw),
		corev1.TLSPrivateKeyKey: encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
	}
	v.apply(object)
	return ca.CertificatePEM()
}

// TestAccLinkerd_viz watches over the certificates of an extension that somebody
// else has installed, whose chart has made them once.
func TestAccLinkerd_viz(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{})
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	w := newWorkspace(t, strings.ReplaceAll(linkerdConfig(cluster, linkerdNew, ""), cluster.Kubeconfig(), proxy.Kubeconfig()))
	w.apply()

	v := vizTest{t, connect(t, cluster)}
	const viz = "viz-of-others"
	namespace := kube.Ref{Kind: kube.Namespace, Name: viz}.Object()
	namespace.SetLabels(map[string]string{"linkerd.io/extension": "viz"})
	v.apply(namespace)
	tap := kube.Ref{Kind: kube.Secret, Namespace: viz, Name: "tap-k8s-tls"}
	injector := kube.Ref{Kind: kube.Secret, Namespace: viz, Name: "tap-injector-k8s-tls"}
	api := kube.Ref{Kind: kube.APIService, Name: "v1alpha1.tap.linkerd.io"}
	webhook := kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-tap-injector-webhook-config"}

	// Nothing answers for the API, so that the API server cannot tell all kinds.
	object := api.Object()
	object.Object["spec"] = map[string]any{
		"group": "tap.linkerd.io", "version": "v1alpha1", "groupPriorityMinimum": int64(1000), "versionPriority": int64(100),
		"service":  map[string]any{"name": "tap", "namespace": viz},
		"caBundle": base64.StdEncoding.EncodeToString(v.issue(tap, time.Now().Add(30*24*time.Hour), nil)),
	}
	v.apply(object)
	expired := time.Now().Add(-time.Hour)
	bundle := v.issue(injector, expired, map[string]string{"cert-manager.io/certificate-name": "tap-injector"})
	object = webhook.Object()
	object.Object["webhooks"] = []any{map[string]any{
		"name": "tap-injector.linkerd.io", "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": []any{"v1"},
		"clientConfig": map[string]any{
			"service": map[string]any{"name": "tap-injector", "namespace": viz}, "caBundle": base64.StdEncoding.EncodeToString(bundle),
		},
	}}
	v.apply(object)
	old := v.served(tap)
	untouched := map[kube.Ref]string{injector: v.get(injector).GetResourceVersion(), webhook: v.get(webhook).GetResourceVersion()}

	// The plan is the alarm.
	const due = `(?s)tap: ends \d{4}-.*taps fail`
	const others = `(?s)tap-injector: expired since .*cannot be tapped. It is for cert-manager to renew it`
	planned := w.run("plan", "-json", "-detailed-exitcode")
	if planned.code != 2 {
		t.Fatalf("exit code %d\n%s", planned.code, planned.output)
	}
	expectDetails(t, "warning", planned, []string{due + ".*" + strings.TrimPrefix(others, "(?s)")})
	w.apply()

	renewed := v.served(tap)
	if renewed.Equal(old) || time.Until(renewed.NotAfter) < 8700*time.Hour {
		t.Errorf("tap serves a certificate until %s", renewed.NotAfter)
	}
	text, _, err := unstructured.NestedString(v.get(api).Object, "spec", "caBundle")
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	for _, cert := range []*x509.Certificate{old, renewed} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "tap." + viz + ".svc"}); err != nil {
			t.Errorf("the API server does not accept the certificate until %s: %v", cert.NotAfter, err)
		}
	}
	for ref, version := range untouched {
		if v.get(ref).GetResourceVersion() != version {
			t.Errorf("%s was changed", ref)
		}
	}

	// What cert-manager does not do is said for as long as it is not done, and no
	// plan changes anything for it.
	planned = w.run("plan", "-json", "-detailed-exitcode")
	if planned.code != 0 {
		t.Errorf("exit code %d\n%s", planned.code, planned.output)
	}
	expectDetails(t, "warning", planned, []string{others})
	listed, ok := w.attributes()["aksmesh_linkerd.this"]["webhooks"].([]any)
	if !ok || len(listed) != 5 {
		t.Fatalf("webhooks %v", listed)
	}
	known := map[string]map[string]any{}
	for _, entry := range listed {
		if fields, ok := entry.(map[string]any); ok {
			name, _ := fields["name"].(string)
			known[name] = fields
		}
	}
	if by := known["linkerd-proxy-injector"]["renewed_by"]; by != "aksmesh" {
		t.Errorf("the injector's is renewed by %v", by)
	}
	if end := known["tap"]["not_after"]; end != renewed.NotAfter.UTC().Format(time.RFC3339) {
		t.Errorf("tap's ends %v", end)
	}
	if first := w.attribute("aksmesh_linkerd.this", "webhooks_valid_until"); first != expired.UTC().Format(time.RFC3339) {
		t.Errorf("the first ends %s", first)
	}

	// Credentials that may not see the extension see to Linkerd all the same.
	proxy.Set(testcluster.FaultForbidden, testcluster.PathContains("/namespaces/"+viz+"/secrets/"))
	planned = w.run("plan", "-json", "-detailed-exitcode")
	if planned.code != 0 {
		t.Errorf("exit code %d\n%s", planned.code, planned.output)
	}
	expectDetails(t, "warning", planned, []string{`may not look at the certificates of linkerd-viz.*Secret ` + viz + `/tap-k8s-tls`, `may not look at .*tap-injector-k8s-tls`})
	proxy.Clear()

	// A namespace cannot be deleted to its end without the API's server.
	if err := v.cluster.Delete(t.Context(), api, kube.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
	if _, err := cluster.Client().CoreV1().Secrets(viz).Get(t.Context(), tap.Name, metav1.GetOptions{}); err != nil {
		t.Errorf("the extension is not left alone: %v", err)
	}
}

package linkerd_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// called are the servers that the API server calls, by the objects in which
// their certificates and the trust in them are.
func called(viz string) map[kube.Ref]kube.Ref {
	secret := func(namespace, name string) kube.Ref {
		return kube.Ref{Kind: kube.Secret, Namespace: namespace, Name: name + "-k8s-tls"}
	}
	servers := map[kube.Ref]kube.Ref{
		secret("linkerd", "linkerd-proxy-injector"):   {Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-proxy-injector-webhook-config"},
		secret("linkerd", "linkerd-sp-validator"):     {Kind: kube.ValidatingWebhookConfiguration, Name: "linkerd-sp-validator-webhook-config"},
		secret("linkerd", "linkerd-policy-validator"): {Kind: kube.ValidatingWebhookConfiguration, Name: "linkerd-policy-validator-webhook-config"},
	}
	if viz != "" {
		servers[secret(viz, "tap")] = kube.Ref{Kind: kube.APIService, Name: "v1alpha1.tap.linkerd.io"}
		servers[secret(viz, "tap-injector")] = kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-tap-injector-webhook-config"}
	}
	return servers
}

// installation is a Linkerd with its identity, made without the resources.
type installation struct {
	t          *testing.T
	embedded   *testcluster.Cluster
	cluster    *kube.Cluster
	anchor     *pki.KeyPair
	repository string
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	embedded := testcluster.New(t, testcluster.Options{})
	i := &installation{t: t, embedded: embedded, cluster: connect(t, embedded), repository: embedded.Charts().Repository}
	var err error
	if i.anchor, err = pki.NewAnchor(pki.AuthorityOptions{Now: yesterday()}); err != nil {
		t.Fatal(err)
	}
	issuer, err := pki.NewIssuer(i.anchor, pki.AuthorityOptions{Now: yesterday()})
	if err != nil {
		t.Fatal(err)
	}
	data, err := linkerd.IssuerSecretData(issuer, i.roots())
	if err != nil {
		t.Fatal(err)
	}
	i.apply(kube.Ref{Kind: kube.Namespace, Name: "linkerd"}.Object(), "test")
	ref := kube.Ref{Kind: kube.Secret, Namespace: "linkerd", Name: linkerd.IssuerSecret}
	if err := mesh.ApplySecret(t.Context(), i.cluster, ref, corev1.SecretTypeTLS, data, nil, kube.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
	return i
}

func yesterday() time.Time { return time.Now().Add(-24 * time.Hour) }

func (i *installation) roots() pki.Bundle { return pki.NewBundle(i.anchor.Certificate()) }

func (i *installation) apply(object *unstructured.Unstructured, manager string) {
	i.t.Helper()
	if _, err := i.cluster.Apply(i.t.Context(), object, kube.ApplyOptions{Manager: manager}); err != nil {
		i.t.Fatal(err)
	}
}

func (i *installation) publishRoots() {
	i.t.Helper()
	object := linkerd.TrustRootsRef("linkerd").Object()
	object.Object["data"] = map[string]any{linkerd.TrustRootsKey: string(i.roots().PEM())}
	i.apply(object, "test")
}

// installer is one with shared reads of its own, as every run has it.
func (i *installation) installer(kubeconfig string) linkerd.Installer {
	i.t.Helper()
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{kubeconfig}}, "linkerd-test")
	if err != nil {
		i.t.Fatal(err)
	}
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	return linkerd.Installer{Charts: install.Charts{
		Cluster: cluster, Releases: releases,
		Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: filepath.Join(i.t.TempDir(), "charts")}),
	}}
}

func (i *installation) run(installer linkerd.Installer, version string, early time.Duration, now time.Time) error {
	i.t.Helper()
	prepared, err := installer.Prepare(i.t.Context(), linkerd.Specification{
		Namespace: "linkerd", Repository: i.repository, Version: version, WebhookEarlyRenewal: early, Now: now,
	})
	if err != nil {
		return err
	}
	return installer.Apply(i.t.Context(), prepared)
}

func (i *installation) get(ref kube.Ref) *unstructured.Unstructured {
	i.t.Helper()
	object, err := i.cluster.Get(i.t.Context(), ref)
	if err != nil {
		i.t.Fatal(err)
	}
	return object
}

func (i *installation) certificate(secret kube.Ref) *x509.Certificate {
	i.t.Helper()
	found, err := i.cluster.Secret(i.t.Context(), secret.Namespace, secret.Name)
	if err != nil {
		i.t.Fatal(err)
	}
	block, _ := pem.Decode(found.Data[corev1.TLSCertKey])
	if block == nil {
		i.t.Fatalf("%s has no certificate", secret)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		i.t.Fatal(err)
	}
	return cert
}

// bundleIn finds the one caBundle of an object.
func bundleIn(object *unstructured.Unstructured) (string, error) {
	if object.GetKind() == "APIService" {
		bundle, _, err := unstructured.NestedString(object.Object, "spec", "caBundle")
		return bundle, err
	}
	webhooks, _, err := unstructured.NestedSlice(object.Object, "webhooks")
	if err != nil || len(webhooks) != 1 {
		return "", fmt.Errorf("%d webhooks: %w", len(webhooks), err)
	}
	webhook, _ := webhooks[0].(map[string]any)
	bundle, _, err := unstructured.NestedString(webhook, "clientConfig", "caBundle")
	return bundle, err
}

// checkAccepted verifies as the API server does that it accepts a certificate.
func (i *installation) checkAccepted(secret, registration kube.Ref, cert *x509.Certificate) error {
	i.t.Helper()
	text, err := bundleIn(i.get(registration))
	if err != nil {
		return err
	}
	bundle, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	dnsName := strings.TrimSuffix(secret.Name, "-k8s-tls") + "." + secret.Namespace + ".svc"
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: dnsName}); err != nil {
		return fmt.Errorf("%s does not accept a certificate of %s: %w", registration, secret, err)
	}
	return nil
}

// createViz makes what the viz extension's chart makes, applied by Helm, with
// certificates of an authority that nobody keeps.
func (i *installation) createViz(namespace string) {
	i.t.Helper()
	object := kube.Ref{Kind: kube.Namespace, Name: namespace}.Object()
	object.SetLabels(map[string]string{"linkerd.io/extension": "viz"})
	i.apply(object, "helm")
	for secret, registration := range called(namespace) {
		if secret.Namespace != namespace {
			continue
		}
		name := strings.TrimSuffix(secret.Name, "-k8s-tls")
		dnsName := name + "." + namespace + ".svc"
		pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: dnsName, Now: yesterday()})
		if err != nil {
			i.t.Fatal(err)
		}
		key, err := pair.KeyPEM()
		if err != nil {
			i.t.Fatal(err)
		}
		object := secret.Object()
		object.SetAnnotations(map[string]string{"linkerd.io/created-by": "linkerd/helm edge-26.8.3"})
		object.Object["type"] = string(corev1.SecretTypeTLS)
		object.Object["data"] = map[string]any{
			"tls.crt": base64.StdEncoding.EncodeToString(pair.CertificatePEM()), "tls.key": base64.StdEncoding.EncodeToString(key),
			"note": base64.StdEncoding.EncodeToString([]byte("of the owner")),
		}
		i.apply(object, "helm")
		i.apply(vizRegistration(registration, namespace, name, pair.CertificatePEM()), "helm")
	}
}

func vizRegistration(ref kube.Ref, namespace, name string, bundle []byte) *unstructured.Unstructured {
	object := ref.Object()
	object.SetLabels(map[string]string{"linkerd.io/extension": "viz"})
	encoded := base64.StdEncoding.EncodeToString(bundle)
	service := map[string]any{"name": name, "namespace": namespace}
	if ref.Kind == kube.APIService {
		object.Object["spec"] = map[string]any{
			"group": "tap.linkerd.io", "version": "v1alpha1", "groupPriorityMinimum": int64(1000), "versionPriority": int64(100),
			"service": service, "caBundle": encoded,
		}
		return object
	}
	object.Object["webhooks"] = []any{map[string]any{
		"name": "tap-injector.linkerd.io", "clientConfig": map[string]any{"service": service, "caBundle": encoded},
		"namespaceSelector": map[string]any{"matchLabels": map[string]any{"none": "such"}},
		"rules":             []any{map[string]any{"operations": []any{"CREATE"}, "apiGroups": []any{""}, "apiVersions": []any{"v1"}, "resources": []any{"pods"}}},
		"failurePolicy":     "Ignore", "sideEffects": "None", "admissionReviewVersions": []any{"v1"},
	}}
	return object
}

// A renewal that is cut off between any two writes leaves webhooks that the API
// server can call, whichever certificate their pods serve, and is gone on with by
// the next apply. That the API of taps has no server takes nothing from that.
func TestRenewalOfWebhooksIsNeverFelt(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.publishRoots()
	if err := i.run(i.installer(i.embedded.Kubeconfig()), "2026.8.3", linkerd.DefaultWebhookEarlyRenewal, yesterday()); err != nil {
		t.Fatal(err)
	}
	// Those of the installation are due, and others are not before the evening.
	const early = pki.DefaultServingValidity - 12*time.Hour
	const viz = "linkerd-viz"
	i.createViz(viz)
	old, before := map[kube.Ref]*x509.Certificate{}, map[kube.Ref]*unstructured.Unstructured{}
	for secret, registration := range called(viz) {
		old[secret] = i.certificate(secret)
		before[secret], before[registration] = i.get(secret), i.get(registration)
	}

	proxy := testcluster.NewFaultProxy(t, i.embedded.Kubeconfig())
	check := func(when string) {
		t.Helper()
		for secret, registration := range called(viz) {
			for _, cert := range []*x509.Certificate{old[secret], i.certificate(secret)} {
				if err := i.checkAccepted(secret, registration, cert); err != nil {
					t.Fatalf("after %s: %v", when, err)
				}
			}
		}
	}
	check("the installation")
	cuts := 0
	for err := error(nil); ; cuts++ {
		var writes atomic.Int64
		proxy.Set(testcluster.FaultReset, func(r *http.Request) bool {
			about := strings.HasSuffix(r.URL.Path, "-k8s-tls") || strings.HasSuffix(r.URL.Path, "-webhook-config") || strings.HasSuffix(r.URL.Path, "tap.linkerd.io")
			return about && r.Method != http.MethodGet && writes.Add(1) > int64(cuts)
		})
		err = i.run(i.installer(proxy.Kubeconfig()), "2026.8.3", early, time.Now())
		check(fmt.Sprintf("%d writes", cuts))
		if err == nil {
			break
		}
		if proxy.Faulted() == 0 {
			t.Fatal(err)
		}
	}
	if cuts < 4 {
		t.Errorf("cut off only %d times", cuts)
	}
	for secret, cert := range old {
		if i.certificate(secret).Equal(cert) {
			t.Errorf("%s was not renewed", secret)
		}
	}

	found, err := i.installer(i.embedded.Kubeconfig()).Observe(t.Context(), linkerd.Observation{Namespace: "linkerd", Checks: linkerd.WebhookChecks{Early: early, Now: time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Drift) > 0 || len(found.Hidden) > 0 {
		t.Errorf("drift %v, hidden %v", found.Drift, found.Hidden)
	}
	names := map[string]time.Time{}
	for _, webhook := range found.Webhooks {
		names[webhook.Name] = webhook.NotAfter
	}
	for secret := range old {
		if name := strings.TrimSuffix(secret.Name, "-k8s-tls"); !names[name].Equal(i.certificate(secret).NotAfter) {
			t.Errorf("%s ends %s", name, names[name])
		}
	}

	name := i.embedded.Namespace(t)
	serviced(t, i.embedded, name)
	annotate(t, i.embedded, name, saying("enabled"))
	eventually(t, func(ctx context.Context) error {
		pod, err := made(ctx, i.embedded, applicationPod(name))
		if err == nil && !injectedByMesh(pod) {
			err = fmt.Errorf("pods are not injected")
		}
		return err
	})

	// What is Helm's is as it was but for the certificates, and still Helm's.
	for secret, registration := range called(viz) {
		if secret.Namespace != viz {
			continue
		}
		for _, ref := range []kube.Ref{secret, registration} {
			if was, is := plain(before[ref]), plain(i.get(ref)); fmt.Sprint(was) != fmt.Sprint(is) {
				t.Errorf("%s was\n%v\nand is\n%v", ref, was, is)
			}
		}
		i.apply(vizRegistration(registration, viz, strings.TrimSuffix(secret.Name, "-k8s-tls"), pemOf(old[secret])), "helm")
	}
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// plain is an object without what a renewal changes.
func plain(object *unstructured.Unstructured) map[string]any {
	object = object.DeepCopy()
	for _, field := range []string{"resourceVersion", "generation"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	var managers []any
	for _, entry := range object.GetManagedFields() {
		if entry.Manager != "kube-apiserver" { // Of the status of API services.
			managers = append(managers, fmt.Sprint(entry.Manager, entry.Operation, entry.FieldsV1.GetRawString()))
		}
	}
	object.SetManagedFields(nil)
	delete(object.Object, "status")
	for _, key := range []string{"tls.crt", "tls.key"} {
		unstructured.RemoveNestedField(object.Object, "data", key)
	}
	unstructured.RemoveNestedField(object.Object, "spec", "caBundle")
	if webhooks, ok := object.Object["webhooks"].([]any); ok {
		for _, webhook := range webhooks {
			if fields, ok := webhook.(map[string]any); ok {
				unstructured.RemoveNestedField(fields, "clientConfig", "caBundle")
			}
		}
	}
	object.Object["managers"] = managers
	return object.Object
}

// What others have installed by the chart alone goes on as it is when it becomes
// this provider's: the trust bundle and the certificates that the chart has made.
func TestTakingOverLeavesTrustAndWebhooks(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx, installer := t.Context(), i.installer(i.embedded.Kubeconfig())
	for _, release := range []install.Release{
		{Name: "linkerd-crds", Values: map[string]any{"installGatewayAPI": false}},
		{Name: "linkerd-control-plane", Values: map[string]any{
			"identityTrustAnchorsPEM": string(i.roots().PEM()),
			"identity":                map[string]any{"issuer": map[string]any{"scheme": "kubernetes.io/tls"}},
		}},
	} {
		chart, err := installer.Load(ctx, i.repository, release.Name, "2026.6.3")
		if err != nil {
			t.Fatal(err)
		}
		release.Namespace, release.Chart = "linkerd", chart
		if err := installer.Deploy(ctx, release); err != nil {
			t.Fatal(err)
		}
	}
	roots := i.get(linkerd.TrustRootsRef("linkerd"))
	old := map[kube.Ref]*x509.Certificate{}
	for secret := range called("") {
		old[secret] = i.certificate(secret)
	}
	for n, version := range []string{"2026.6.3", "2026.8.3"} {
		installer = i.installer(i.embedded.Kubeconfig())
		if err := i.run(installer, version, linkerd.DefaultWebhookEarlyRenewal, time.Now()); err != nil {
			t.Fatal(err)
		}
		now := i.get(linkerd.TrustRootsRef("linkerd"))
		if now.GetUID() != roots.GetUID() || fmt.Sprint(now.Object["data"]) != fmt.Sprint(roots.Object["data"]) {
			t.Errorf("upgrade %d: %s is another: %v", n, linkerd.TrustRootsRef("linkerd"), now.Object)
		}
		for secret, registration := range called("") {
			if cert := i.certificate(secret); !cert.Equal(old[secret]) {
				t.Errorf("upgrade %d: %s has another certificate", n, secret)
			}
			if err := i.checkAccepted(secret, registration, old[secret]); err != nil {
				t.Errorf("upgrade %d: %v", n, err)
			}
		}
		found, err := installer.Observe(ctx, linkerd.Observation{Namespace: "linkerd", Checks: linkerd.WebhookChecks{Early: linkerd.DefaultWebhookEarlyRenewal, Now: time.Now()}})
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Drift) > 0 || found.Version != version {
			t.Errorf("upgrade %d: version %s, drift %v", n, found.Version, found.Drift)
		}
	}
	if err := installer.Uninstall(ctx, linkerd.Removal{Namespace: "linkerd", DeleteCRDs: true}); err != nil {
		t.Fatal(err)
	}
	left, err := i.embedded.Client().CoreV1().Secrets("linkerd").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, secret := range left.Items {
		names[secret.Name] = true
	}
	if want := []string{linkerd.IssuerSecret}; !slices.Equal(slices.Sorted(maps.Keys(names)), want) {
		t.Errorf("left are the Secrets %v", names)
	}
}

// Without the issuer and the bundle that it leads to nothing is begun.
func TestInstallationNeedsItsIdentity(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	steps := []struct {
		prepare func()
		want    string
	}{
		{func() {}, "ConfigMap linkerd/linkerd-identity-trust-roots: the trust bundle is not there; publish it with aksmesh_issuer"},
		{func() {
			var err error
			if i.anchor, err = pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			i.publishRoots()
		}, "Secret linkerd/linkerd-identity-issuer with the trust bundle of ConfigMap linkerd/linkerd-identity-trust-roots"},
		{func() {
			if err := i.embedded.Client().CoreV1().Secrets("linkerd").Delete(t.Context(), linkerd.IssuerSecret, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, "Secret linkerd/linkerd-identity-issuer: the issuer is not there; create it with aksmesh_issuer"},
	}
	for n, step := range steps {
		step.prepare()
		err := i.run(i.installer(i.embedded.Kubeconfig()), "2026.8.3", linkerd.DefaultWebhookEarlyRenewal, time.Now())
		if err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("step %d: error %v", n, err)
		}
	}
	deployed, err := i.embedded.Client().AppsV1().Deployments("linkerd").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(deployed.Items) > 0 {
		t.Errorf("%d Deployments: %v", len(deployed.Items), err)
	}
}

package linkerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// A webhook is one of the control plane's: the chart values that configure it
// and the Service that answers it.
type webhook struct{ values, service string }

func webhooks() []webhook {
	return []webhook{
		{values: "proxyInjector", service: "linkerd-proxy-injector"},
		{values: "profileValidator", service: "linkerd-sp-validator"},
		{values: "policyValidator", service: "linkerd-policy-validator"},
	}
}

const (
	caBundleKey = "ca.crt"

	// WebhookEarlyRenewal is how long before their end the certificates of the
	// webhooks are renewed. An expired one leaves pods unmeshed without an error.
	WebhookEarlyRenewal = pki.DefaultEarlyRenewal
)

func (w webhook) secret(namespace string) kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: namespace, Name: w.service + "-k8s-tls"}
}

func (w webhook) dnsName(namespace string) string { return w.service + "." + namespace + ".svc" }

// webhookValues keep the chart from making certificates of its own on every
// render, and tell the API server which to trust.
func webhookValues(bundles map[string]string) map[string]any {
	values := map[string]any{}
	for name, bundle := range bundles {
		values[name] = map[string]any{"externalSecret": true, "caBundle": bundle}
	}
	return values
}

// trusts reports whether the values of the control plane's release tell the API
// server to trust the certificate in the webhook's Secret.
func (w webhook) trusts(values map[string]any, secret *corev1.Secret) bool {
	bundle, _, err := unstructured.NestedString(values, w.values, "caBundle")
	return err == nil && bundle == string(secret.Data[caBundleKey])
}

// ensureWebhookCertificates makes the webhooks' serving certificates where they
// are missing, broken or due, and returns for each the CA bundle by which the
// API server is to trust it. The bundle keeps the certificate before, so that
// the webhook answers while its pods still serve the old one.
func (i Installer) ensureWebhookCertificates(ctx context.Context, namespace string, now time.Time) (map[string]string, error) {
	bundles := map[string]string{}
	for _, w := range webhooks() {
		ref := w.secret(namespace)
		secret, err := i.Cluster.Secret(ctx, ref.Namespace, ref.Name)
		if err != nil && !errors.Is(err, kube.ErrNotFound) {
			return nil, err
		}
		if err == nil && webhookProblem(secret, w.dnsName(namespace), now) == "" {
			bundles[w.values] = string(secret.Data[caBundleKey])
			continue
		}
		pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: w.dnsName(namespace), Now: now})
		if err != nil {
			return nil, err
		}
		bundle := pki.NewBundle(pair.Certificate())
		if secret != nil {
			if before, err := pki.ParseCertificate(secret.Data[corev1.TLSCertKey]); err == nil && pki.CheckValid(before, now) == nil {
				bundle = bundle.With(before)
			}
		}
		if err := i.writeWebhookSecret(ctx, ref, pair, bundle); err != nil {
			return nil, err
		}
		bundles[w.values] = string(bundle.PEM())
	}
	return bundles, nil
}

func (i Installer) writeWebhookSecret(ctx context.Context, ref kube.Ref, pair *pki.KeyPair, bundle pki.Bundle) error {
	key, err := pair.KeyPEM()
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	return mesh.ApplySecret(ctx, i.Cluster, ref, corev1.SecretTypeTLS, map[string][]byte{
		corev1.TLSCertKey:       pair.CertificatePEM(),
		corev1.TLSPrivateKeyKey: key,
		caBundleKey:             bundle.PEM(),
	}, map[string]string{
		// A chart that made this Secret itself before would delete it on upgrade.
		resourcePolicyAnnotation: keepPolicy,
	}, kube.ApplyOptions{Manager: manager, Force: true})
}

// observeWebhookCertificates returns when the first certificate ends, and what
// is wrong with any of them. Values are those of the control plane's release.
func (i Installer) observeWebhookCertificates(ctx context.Context, namespace string, values map[string]any, now time.Time) (first time.Time, problems []string, err error) {
	for _, w := range webhooks() {
		ref := w.secret(namespace)
		secret, err := i.Cluster.Secret(ctx, ref.Namespace, ref.Name)
		if errors.Is(err, kube.ErrNotFound) {
			problems = append(problems, ref.String()+" is missing")
			continue
		}
		if err != nil {
			return first, nil, err
		}
		problem := webhookProblem(secret, w.dnsName(namespace), now)
		if problem == "" && !w.trusts(values, secret) {
			// An apply was cut off after it had renewed the certificate.
			problem = "the API server has not been told of the certificate"
		}
		if problem != "" {
			problems = append(problems, ref.String()+": "+problem)
		}
		if cert, err := pki.ParseCertificate(secret.Data[corev1.TLSCertKey]); err == nil && (first.IsZero() || cert.NotAfter.Before(first)) {
			first = cert.NotAfter
		}
	}
	return first, problems, nil
}

// webhookProblem says why a webhook's certificate has to be made anew; empty if
// it is sound and not due.
func webhookProblem(secret *corev1.Secret, dnsName string, now time.Time) string {
	pair, err := pki.ParseKeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return err.Error()
	}
	cert := pair.Certificate()
	if err := cert.VerifyHostname(dnsName); err != nil {
		return err.Error()
	}
	bundle, err := pki.ParseBundle(secret.Data[caBundleKey])
	if err != nil || !bundle.Contains(cert) {
		return caBundleKey + " does not vouch for the certificate"
	}
	if pki.RenewalDue(cert.NotAfter, WebhookEarlyRenewal, now) {
		return "the certificate is valid only until " + cert.NotAfter.Format(time.RFC3339)
	}
	return ""
}

func (i Installer) deleteWebhookCertificates(ctx context.Context, namespace string) error {
	for _, w := range webhooks() {
		if err := i.Cluster.Delete(ctx, w.secret(namespace), kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

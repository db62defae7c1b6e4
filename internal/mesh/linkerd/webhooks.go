package linkerd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// A server is one that the API server calls: a webhook of the control plane, or
// one of the viz extension, whose API for taps is aggregated besides.
type server struct {
	namespace string
	// name is that of its Service.
	name string
	// values are the values of its chart that configure it.
	values string
	// registration is the object by which the API server knows of it, and which
	// certificates to accept.
	registration kube.Ref
	// rust servers read no private key in SEC 1 form.
	rust bool
}

// secretRef keeps the certificate that it serves. Pods take up another without a
// restart, some time after it was written.
func (s server) secretRef() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: s.namespace, Name: s.name + "-k8s-tls"}
}

// dnsName is what the API server wants of the certificate.
func (s server) dnsName() string { return s.name + "." + s.namespace + ".svc" }

// caBundleKey is where the Secret of a webhook of the control plane has the
// bundle by which the API server is to accept its certificate.
const caBundleKey = "ca.crt"

const (
	proxyInjector   = "linkerd-proxy-injector"
	spValidator     = "linkerd-sp-validator"
	policyValidator = "linkerd-policy-validator"
	tap             = "tap"
	tapInjector     = "tap-injector"
	jaegerInjector  = "jaeger-injector"
)

// controlPlaneServers are the webhooks of a control plane.
func controlPlaneServers(namespace string) []server {
	of := func(name, values string, kind kube.Kind) server {
		return server{namespace: namespace, name: name, values: values, registration: kube.Ref{Kind: kind, Name: name + "-webhook-config"}}
	}
	policy := of(policyValidator, "policyValidator", kube.ValidatingWebhookConfiguration)
	policy.rust = true
	return []server{
		of(proxyInjector, "proxyInjector", kube.MutatingWebhookConfiguration),
		of(spValidator, "profileValidator", kube.ValidatingWebhookConfiguration),
		policy,
	}
}

// vizServers are those of the extension in a namespace. Its chart makes their
// certificates for a year, which nobody renews.
func vizServers(namespace string) []server {
	return []server{
		{namespace: namespace, name: tap, values: "tap", registration: kube.Ref{Kind: kube.APIService, Name: "v1alpha1.tap.linkerd.io"}},
		{namespace: namespace, name: tapInjector, values: "tapInjector", registration: kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-tap-injector-webhook-config"}},
	}
}

// Webhook is what is known of the certificate of one webhook or API.
type Webhook struct {
	// Name is that of its Service: linkerd-proxy-injector, tap.
	Name string
	// NotAfter is when the API server ceases to accept the certificate; zero if
	// there is none that can be read.
	NotAfter time.Time
	// RenewedBy names who looks after the certificate; empty if it is this
	// provider.
	RenewedBy string
}

// WebhookOutage says what happens while the certificate of the webhook or API of
// that name is not accepted.
func WebhookOutage(name string) string {
	switch name {
	case proxyInjector:
		return "pods are created without a proxy, in silence (with high_availability none can be created)"
	case spValidator:
		return "ServiceProfiles are not checked (with high_availability none can be written)"
	case policyValidator:
		return "policies and routes are not checked (with high_availability none can be written)"
	case tap:
		return "taps fail, and no namespace of the cluster can be deleted to the end"
	case jaegerInjector:
		return "proxies of new pods send no traces"
	default:
		return "pods are created that cannot be tapped"
	}
}

// WebhookChecks say when and how early certificates are due.
type WebhookChecks struct {
	// Early is how long before its end a certificate is renewed.
	Early time.Duration
	Now   time.Time
	// RegisteredOnly judges certificates of webhooks by what the API server is told
	// to accept, without reading the Secrets that keep them: those that sign
	// themselves, as this provider's and the charts' do, are known from there. Those
	// of aggregated APIs are not looked at then: they are as old as the others.
	RegisteredOnly bool
}

// covers reports whether the certificate of a server is looked at.
func (c WebhookChecks) covers(s server) bool {
	return !c.RegisteredOnly || s.registration.Kind != kube.APIService
}

// DefaultWebhookEarlyRenewal is how long before their end the certificates of
// webhooks are renewed unless told otherwise.
const DefaultWebhookEarlyRenewal = pki.DefaultEarlyRenewal

// extensionLabel marks the namespaces of extensions.
const extensionLabel = "linkerd.io/extension"

// vizNamespaces are where the extension is, by the shared reads, unless it is the
// business of a resource of its own, which holds its namespace.
func (i Installer) vizNamespaces(ctx context.Context) ([]string, error) {
	all, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var viz []string
	for _, namespace := range all {
		if namespace.Labels[extensionLabel] == Viz && !kube.Held(namespace.Annotations, extensionHolder(Viz)) {
			viz = append(viz, namespace.Name)
		}
	}
	return viz, nil
}

// vizServings looks at the certificates of a viz extension that others have
// installed. What may not be read is named and left out: the right to see to
// Linkerd does not imply that to see to its extensions.
func (i Installer) vizServings(ctx context.Context, checks WebhookChecks) (found []serving, hidden []string, err error) {
	namespaces, err := i.vizNamespaces(ctx)
	if err != nil {
		if !apierrors.IsForbidden(err) {
			return nil, nil, err
		}
		return nil, []string{err.Error()}, nil
	}
	for _, namespace := range namespaces {
		for _, s := range vizServers(namespace) {
			if !checks.covers(s) {
				continue
			}
			looked, err := i.look(ctx, s, checks, i.Cluster.Find)
			switch {
			case apierrors.IsForbidden(err):
				hidden = append(hidden, err.Error())
			case err != nil:
				return nil, nil, err
			case len(looked.calls()) > 0 && (checks.RegisteredOnly || looked.secret != nil):
				found = append(found, looked)
			}
		}
	}
	return found, hidden, nil
}

// observeWebhooks fills in what is known of the certificates, and what is wrong
// with those that are this provider's to look after.
func (i Installer) observeWebhooks(ctx context.Context, namespace string, checks WebhookChecks, found *Installed) error {
	var all []serving
	for _, s := range controlPlaneServers(namespace) {
		looked, err := i.look(ctx, s, checks, i.Cluster.Find)
		if err != nil {
			return err
		}
		all = append(all, looked)
	}
	viz, hidden, err := i.vizServings(ctx, checks)
	if err != nil {
		return err
	}
	found.Hidden = hidden
	webhooks, drift := report(slices.Concat(all, viz))
	found.Webhooks, found.Drift = webhooks, append(found.Drift, drift...)
	return nil
}

// report tells of certificates what is known of each, and what is wrong with
// those that nobody else looks after.
func report(all []serving) (webhooks []Webhook, drift []string) {
	for _, looked := range all {
		webhooks = append(webhooks, Webhook{Name: looked.name, NotAfter: looked.notAfter, RenewedBy: looked.renewedBy})
		if looked.problem != "" && looked.renewedBy == "" {
			drift = append(drift, looked.secretRef().String()+": "+looked.problem)
		}
	}
	return webhooks, drift
}

// ensureWebhooks sees to the certificates of the control plane's webhooks and
// returns the values by which its chart leaves them alone.
func (i Installer) ensureWebhooks(ctx context.Context, namespace string, checks WebhookChecks) (map[string]any, error) {
	values := map[string]any{}
	for _, s := range controlPlaneServers(namespace) {
		looked, bundle, err := i.settle(ctx, s, checks, i.writeWebhookSecret)
		if err != nil {
			return nil, err
		}
		if looked.renewedBy != "" {
			values[s.values] = looked.othersValues()
		} else {
			values[s.values] = map[string]any{"externalSecret": true, "caBundle": string(bundle.PEM())}
		}
	}
	return values, nil
}

// ensureViz renews the certificates of the viz extension that are due, in the
// objects of whoever has installed it.
func (i Installer) ensureViz(ctx context.Context, checks WebhookChecks) error {
	found, _, err := i.vizServings(ctx, checks)
	if err != nil {
		return err
	}
	for _, looked := range found {
		if looked.problem == "" {
			continue
		}
		if _, _, err := i.settle(ctx, looked.server, checks, i.amendSecret); err != nil {
			return err
		}
	}
	return nil
}

// writeWebhookSecret writes the Secret of a webhook of the control plane, with
// the bundle by which it is to be trusted. A nil pair leaves the certificate and
// the key that are there.
func (i Installer) writeWebhookSecret(ctx context.Context, looked serving, pair *pki.KeyPair, bundle pki.Bundle) error {
	data := map[string][]byte{caBundleKey: bundle.PEM()}
	switch {
	case pair != nil:
		key, err := pair.KeyPEM()
		if err != nil {
			return fmt.Errorf("%s: %w", looked.secretRef(), err)
		}
		data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey] = pair.CertificatePEM(), key
	case kube.Ours(looked.secret.Labels) && bytes.Equal(looked.secret.Data[caBundleKey], data[caBundleKey]):
		return nil
	default:
		for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
			data[key] = looked.secret.Data[key]
		}
	}
	return mesh.ApplySecret(ctx, i.Cluster, looked.secretRef(), corev1.SecretTypeTLS, data, map[string]string{
		// A chart that made this Secret itself before would delete it on upgrade.
		resourcePolicyAnnotation: keepPolicy,
	}, kube.ApplyOptions{Manager: manager, Force: true})
}

// amendSecret puts another certificate into a Secret of somebody else's. A nil
// pair leaves it alone.
func (i Installer) amendSecret(ctx context.Context, looked serving, pair *pki.KeyPair, _ pki.Bundle) error {
	if pair == nil {
		return nil
	}
	key, err := pair.KeyPEM()
	if err != nil {
		return fmt.Errorf("%s: %w", looked.secretRef(), err)
	}
	live, err := i.Cluster.Get(ctx, looked.secretRef())
	if err != nil {
		return err
	}
	if live.GetResourceVersion() != looked.secret.ResourceVersion {
		return fmt.Errorf("%s: %w", looked.secretRef(), kube.ErrChanged)
	}
	_, err = i.Cluster.Amend(ctx, live, map[string]any{"data": map[string]any{
		corev1.TLSCertKey:       base64.StdEncoding.EncodeToString(pair.CertificatePEM()),
		corev1.TLSPrivateKeyKey: base64.StdEncoding.EncodeToString(key),
	}}, manager)
	return err
}

// deleteWebhookSecrets deletes those of the control plane that are ours.
func (i Installer) deleteWebhookSecrets(ctx context.Context, namespace string) error {
	return i.deleteSecretsOf(ctx, controlPlaneServers(namespace))
}

// deleteSecretsOf deletes the Secrets of servers that are ours.
func (i Installer) deleteSecretsOf(ctx context.Context, servers []server) error {
	for _, s := range servers {
		secret, err := i.Cluster.Secret(ctx, s.namespace, s.secretRef().Name)
		switch {
		case errors.Is(err, kube.ErrNotFound):
			continue
		case err != nil:
			return err
		case !kube.Ours(secret.Labels):
			continue
		}
		if err := i.Cluster.Delete(ctx, s.secretRef(), kube.DeleteOptions{UID: secret.UID}); err != nil {
			return err
		}
	}
	return nil
}

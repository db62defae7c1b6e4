package linkerd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// Keys of IssuerSecret in the layout that the chart writes itself.
const (
	chartCertKey = "crt.pem"
	chartKeyKey  = "key.pem"
)

// credentials are what the control plane signs by, and what is trusted.
type credentials struct {
	issuer  *pki.KeyPair
	anchors pki.Bundle
}

// credentials reads what the identity controller reads.
func (h Health) credentials(ctx context.Context) (credentials, error) {
	roots, err := h.Cluster.ConfigMap(ctx, h.Namespace, TrustRootsRef(h.Namespace).Name)
	if err != nil {
		return credentials{}, err
	}
	anchors, err := pki.ParseBundle([]byte(roots.Data[TrustRootsKey]))
	if err != nil {
		return credentials{}, fmt.Errorf("%s: %s: %w", TrustRootsRef(h.Namespace), TrustRootsKey, err)
	}
	ref := kube.Ref{Kind: kube.Secret, Namespace: h.Namespace, Name: IssuerSecret}
	secret, err := h.Cluster.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return credentials{}, err
	}
	issuer, err := readIssuer(secret)
	if err != nil {
		return credentials{}, fmt.Errorf("%s: %w", ref, err)
	}
	return credentials{issuer, anchors}, nil
}

// readIssuer reads an issuer in either of its layouts.
func readIssuer(secret *corev1.Secret) (*pki.KeyPair, error) {
	if secret.Data[corev1.TLSCertKey] == nil && secret.Data[chartCertKey] != nil {
		return pki.ParseKeyPair(secret.Data[chartCertKey], secret.Data[chartKeyKey])
	}
	return ReadIssuerSecret(secret.Data)
}

// identity are the checks of the credentials.
func (h Health) identity() []check.Check {
	const category = "linkerd-identity"
	read := check.Once(h.credentials)
	anchors := func(judge func(*x509.Certificate) error) func(context.Context) error {
		return check.On(read, func(c credentials) error {
			var wrong []error
			for _, anchor := range c.anchors.Certificates() {
				wrong = append(wrong, judge(anchor))
			}
			return errors.Join(wrong...)
		})
	}
	issuer := func(judge func(*x509.Certificate) error) func(context.Context) error {
		return check.On(read, func(c credentials) error { return judge(c.issuer.Certificate()) })
	}
	return []check.Check{
		of(category, "l5d-identity-cert-config-valid", "certificate config is valid", fatal, check.On(read, func(credentials) error { return nil })),
		of(category, "l5d-identity-trustAnchors-use-supported-crypto", "trust anchors are using supported crypto algorithm", fatal, anchors(CheckAnchor)),
		of(category, "l5d-identity-trustAnchors-are-time-valid", "trust anchors are within their validity period", fatal, anchors(h.timeValid)),
		of(category, "l5d-identity-trustAnchors-not-expiring-soon", "trust anchors are valid for at least "+h.early(), warns, anchors(h.notExpiring)),
		of(category, "l5d-identity-issuer-cert-uses-supported-crypto", "issuer cert is using supported crypto algorithm", fatal, issuer(checkIssuerCertificate)),
		of(category, "l5d-identity-issuer-cert-is-time-valid", "issuer cert is within its validity period", fatal, issuer(h.timeValid)),
		of(category, "l5d-identity-issuer-cert-not-expiring-soon", "issuer cert is valid for at least "+h.early(), warns, issuer(h.notExpiring)),
		of(category, "l5d-identity-issuer-cert-issued-by-trust-anchor", "issuer cert is issued by the trust anchor", 0, check.On(read, func(c credentials) error {
			_, err := c.anchors.VerifyChain(c.issuer.Chain(), h.Now)
			return err
		})),
	}
}

// checkIssuerCertificate is what CheckIssuer demands of the issuer alone.
func checkIssuerCertificate(cert *x509.Certificate) error {
	return checkAlgorithms(cert, pki.Bundle{})
}

// early is in words how long a certificate should still be valid.
func (h Health) early() string { return fmt.Sprintf("%d days", int(h.Early.Hours()/24)) }

func (h Health) timeValid(cert *x509.Certificate) error {
	if err := pki.CheckValid(cert, h.Now); err != nil {
		return fmt.Errorf("%w; rotate it, and take expired trust anchors out of the bundle", err)
	}
	return nil
}

func (h Health) notExpiring(cert *x509.Certificate) error {
	return h.expiring(fmt.Sprintf("%q", cert.Subject.String()), cert.NotAfter)
}

// expiring tells of a certificate that ends soon, by its name.
func (h Health) expiring(name string, notAfter time.Time) error {
	if pki.RenewalDue(notAfter, h.Early, h.Now) {
		return fmt.Errorf("%s is valid only until %s; renew it, or let its resource do so by an apply", name, notAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// webhooks are the checks of the certificates of the control plane's webhooks.
func (h Health) webhooks() []check.Check {
	var checks []check.Check
	for _, s := range controlPlaneServers(h.Namespace) {
		kind := s.name[len("linkerd-"):]
		checks = append(checks, h.serving("linkerd-webhooks-and-apisvc-tls", "l5d-"+kind+"-webhook", kind+" webhook has valid cert", kind+" cert",
			func(context.Context) (server, error) { return s, nil })...)
	}
	return checks
}

// serving are the two checks of the certificate of a server.
func (h Health) serving(category, prefix, valid, subject string, find func(context.Context) (server, error)) []check.Check {
	looked := check.Once(func(ctx context.Context) (serving, error) {
		s, err := find(ctx)
		if err != nil {
			return serving{}, err
		}
		installer := Installer{Charts: install.Charts{Cluster: h.Cluster}}
		return installer.look(ctx, s, WebhookChecks{Now: h.Now}, h.Cluster.Find)
	})
	return []check.Check{
		of(category, prefix+"-cert-valid", valid, fatal, check.On(looked, func(s serving) error {
			switch {
			case s.problem != "":
				return fmt.Errorf("%s: %s, so %s; apply the resource that installs it again", s.secretRef(), s.problem, WebhookOutage(s.name))
			case len(s.calls()) == 0:
				return fmt.Errorf("%s does not call Service %s/%s, so %s; apply the resource that installs it again", s.registration, s.namespace, s.name, WebhookOutage(s.name))
			}
			return nil
		})),
		of(category, prefix+"-cert-not-expiring-soon", subject+" is valid for at least "+h.early(), warns, check.On(looked, func(s serving) error {
			if s.problem != "" {
				return check.Skipf("there is no valid certificate")
			}
			return h.expiring(s.secretRef().String(), s.notAfter)
		})),
	}
}

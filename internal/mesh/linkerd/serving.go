package linkerd

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// A serving is the certificate of a server as it was found, and what has to be
// done about it.
type serving struct {
	server
	now        time.Time
	secret     *corev1.Secret             // nil if there is none
	registered *unstructured.Unstructured // nil if there is none

	// pair is nil if the Secret cannot be read.
	pair *pki.KeyPair
	// bundle are the certificates by which the API server accepts the server's.
	bundle pki.Bundle
	// notAfter is when it ceases to; zero without a pair.
	notAfter time.Time
	// renewedBy is who else looks after the certificate; empty if nobody does.
	renewedBy string
	// problem says what is wrong; empty if nothing is. Then renew tells whether
	// it takes another certificate; otherwise the API server has to be told of
	// the one that there is.
	problem string
	renew   bool
}

// find is Cluster.Get, or Cluster.Find where the shared reads will do.
type find func(context.Context, kube.Ref) (*unstructured.Unstructured, error)

// look finds the certificate of a server and judges it.
func (i Installer) look(ctx context.Context, s server, checks WebhookChecks, find find) (serving, error) {
	found := serving{server: s, now: checks.Now}
	var err error
	if found.registered, err = find(ctx, s.registration); err != nil && !errors.Is(err, kube.ErrNotFound) {
		return found, err
	}
	if checks.RegisteredOnly {
		found.judgeRegistered(checks.Early)
		return found, nil
	}
	if found.secret, err = i.Cluster.Secret(ctx, s.namespace, s.secretRef().Name); err != nil && !errors.Is(err, kube.ErrNotFound) {
		return found, err
	}
	found.judge(checks.Early)
	return found, nil
}

// judgeRegistered tells what is wrong as far as the registration shows it.
func (s *serving) judgeRegistered(early time.Duration) {
	s.renewedBy = othersRenewal(nil, s.registered)
	for _, bundle := range s.bundles() {
		var until time.Time
		for _, cert := range bundle.Certificates() {
			// A bundle keeps certificates of before.
			if cert.VerifyHostname(s.dnsName()) == nil && cert.NotAfter.After(until) {
				until = cert.NotAfter
			}
		}
		if !until.IsZero() && (s.notAfter.IsZero() || until.Before(s.notAfter)) {
			s.notAfter = until
		}
	}
	if !s.notAfter.IsZero() && pki.RenewalDue(s.notAfter, early, s.now) {
		s.problem, s.renew = s.dueLine(), true
	}
}

func (s *serving) dueLine() string {
	return "the certificate is valid only until " + s.notAfter.UTC().Format(time.RFC3339)
}

// judge tells what is wrong with the certificate.
func (s *serving) judge(early time.Duration) {
	s.renewedBy = othersRenewal(s.secret, s.registered)
	bundles := s.bundles()
	for _, bundle := range bundles {
		s.bundle = s.bundle.With(bundle.Certificates()...)
	}
	s.problem, s.renew = s.unusable(), true
	if s.problem != "" {
		return
	}
	s.notAfter = s.pair.Certificate().NotAfter
	for _, bundle := range bundles {
		until := s.acceptedUntil(bundle, s.now)
		if until.IsZero() && s.problem == "" {
			s.problem, s.renew = s.registration.String()+" does not tell the API server to accept the certificate", false
		}
		if !until.IsZero() && until.Before(s.notAfter) {
			s.notAfter = until
		}
	}
	if pki.RenewalDue(s.notAfter, early, s.now) {
		s.problem, s.renew = s.dueLine(), true
	}
}

// unusable reads the certificate and says why it cannot be served.
func (s *serving) unusable() string {
	if s.secret == nil {
		return "it is missing"
	}
	pair, err := pki.ParseKeyPair(s.secret.Data[corev1.TLSCertKey], s.secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return err.Error()
	}
	s.pair = pair
	if err := pair.Certificate().VerifyHostname(s.dnsName()); err != nil {
		return err.Error()
	}
	if block, _ := pem.Decode(s.secret.Data[corev1.TLSPrivateKeyKey]); s.rust && strings.HasPrefix(block.Type, "EC ") {
		return "the policy controller cannot read a private key in SEC 1 form"
	}
	return ""
}

// calls are the parts of the registration by which the API server calls the
// server.
func (s *serving) calls() []map[string]any {
	if s.registered == nil {
		return nil
	}
	var parts []any
	if s.registration.Kind == kube.APIService {
		parts = append(parts, s.registered.Object["spec"])
	} else {
		webhooks, _ := s.registered.Object["webhooks"].([]any)
		for _, webhook := range webhooks {
			if fields, ok := webhook.(map[string]any); ok {
				parts = append(parts, fields["clientConfig"])
			}
		}
	}
	var calls []map[string]any
	for _, part := range parts {
		call, _ := part.(map[string]any)
		name, _, _ := unstructured.NestedString(call, "service", "name")
		namespace, _, _ := unstructured.NestedString(call, "service", "namespace")
		if name == s.name && namespace == s.namespace {
			calls = append(calls, call)
		}
	}
	return calls
}

// bundles are the certificates that the API server accepts, for each call. One
// that cannot be read is empty.
func (s *serving) bundles() []pki.Bundle {
	var bundles []pki.Bundle
	for _, call := range s.calls() {
		text, _, _ := unstructured.NestedString(call, "caBundle")
		var bundle pki.Bundle
		if data, err := base64.StdEncoding.DecodeString(text); err == nil {
			if parsed, err := pki.ParseBundle(data); err == nil {
				bundle = parsed
			}
		}
		bundles = append(bundles, bundle)
	}
	return bundles
}

// acceptedUntil is how long, seen from an instant, whoever trusts the bundle
// accepts the certificate; zero if they do not.
func (s *serving) acceptedUntil(bundle pki.Bundle, at time.Time) time.Time {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, root := range bundle.Certificates() {
		options.Roots.AddCert(root)
	}
	chain := s.pair.Chain()
	for _, intermediate := range chain[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	found, err := chain[0].Verify(options)
	if err != nil {
		return time.Time{}
	}
	var until time.Time
	for _, chain := range found {
		first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
		if first.After(until) {
			until = first
		}
	}
	return until
}

// kept are the certificates by which what is served now is accepted, be it
// expired or not: for a while after another was written, pods serve it still.
func (s *serving) kept() pki.Bundle {
	if s.pair == nil {
		return s.bundle // Nobody knows what is served.
	}
	at := s.now
	if end := s.pair.Certificate().NotAfter; end.Before(at) {
		at = end
	}
	var kept pki.Bundle
	for _, cert := range s.bundle.Certificates() {
		if !s.acceptedUntil(pki.NewBundle(cert), at).IsZero() {
			kept = kept.With(cert)
		}
	}
	if len(kept.Certificates()) == 0 {
		// A certificate that is trusted itself needs nobody to vouch for it.
		return pki.NewBundle(s.pair.Certificate())
	}
	return kept
}

// recorded is the bundle that goes with the certificate that there is: as it was
// written with it, or else what is kept.
func (s *serving) recorded() pki.Bundle {
	bundle, err := pki.ParseBundle(s.secret.Data[caBundleKey])
	if err != nil || s.acceptedUntil(bundle, s.now).IsZero() {
		return s.kept()
	}
	return bundle
}

// A change is what has to be written, the bundle before the certificate: pods
// take up a certificate at an instant of their own choice, and the API server
// must accept it by then, and the one before until then.
type change struct {
	bundle pki.Bundle
	// pair is nil if the certificate stays.
	pair *pki.KeyPair
	// publish is whether the API server has to be told of the bundle at once.
	publish bool
}

// change works out what has to be written.
func (s *serving) change() (change, error) {
	if !s.renew || s.problem == "" {
		return change{bundle: s.recorded(), publish: s.problem != ""}, nil
	}
	pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: s.dnsName(), Now: s.now})
	if err != nil {
		return change{}, err
	}
	return change{bundle: pki.NewBundle(pair.Certificate()).With(s.kept().Certificates()...), pair: pair, publish: true}, nil
}

// told is the registration's part that names a bundle for every call.
func (s *serving) told(bundle pki.Bundle) map[string]any {
	changed := serving{server: s.server, registered: s.registered.DeepCopy()}
	for _, call := range changed.calls() {
		call["caBundle"] = base64.StdEncoding.EncodeToString(bundle.PEM())
	}
	part := "webhooks"
	if s.registration.Kind == kube.APIService {
		part = "spec"
	}
	return map[string]any{part: changed.registered.Object[part]}
}

// settleAttempts bound how often a certificate is looked at anew because others
// change it at the same time.
const settleAttempts = 3

// settle brings the certificate of a server in order, unless somebody else looks
// after it. It returns what it has found, and the bundle by which the API server
// accepts the certificate that is there then. Store is given the pair, or nil if
// the certificate stays. Cut off at any point, it may be repeated.
func (i Installer) settle(ctx context.Context, s server, checks WebhookChecks, store func(context.Context, serving, *pki.KeyPair, pki.Bundle) error) (serving, pki.Bundle, error) {
	for attempt := 1; ; attempt++ {
		looked, bundle, err := i.settleOnce(ctx, s, checks, store)
		if !errors.Is(err, kube.ErrChanged) || attempt == settleAttempts {
			return looked, bundle, err
		}
	}
}

func (i Installer) settleOnce(ctx context.Context, s server, checks WebhookChecks, store func(context.Context, serving, *pki.KeyPair, pki.Bundle) error) (serving, pki.Bundle, error) {
	looked, err := i.look(ctx, s, checks, i.Cluster.Get)
	if err != nil || looked.renewedBy != "" {
		return looked, pki.Bundle{}, err
	}
	change, err := looked.change()
	if err != nil {
		return looked, pki.Bundle{}, err
	}
	if change.publish {
		if err := i.publish(ctx, looked, change.bundle); err != nil {
			return looked, pki.Bundle{}, err
		}
	}
	return looked, change.bundle, store(ctx, looked, change.pair, change.bundle)
}

// publish tells the API server which certificates to accept. Without a
// registration there is nobody to be told: the chart brings it with the bundle.
func (i Installer) publish(ctx context.Context, looked serving, bundle pki.Bundle) error {
	if len(looked.calls()) == 0 {
		return nil
	}
	_, err := i.Cluster.Amend(ctx, looked.registered, looked.told(bundle), manager)
	return err
}

// othersRenewal names who else looks after a certificate, by the Secret that
// keeps it and the registration; empty if nobody does. Either may be nil.
func othersRenewal(secret *corev1.Secret, registered *unstructured.Unstructured) string {
	others := ""
	if secret != nil {
		others = mesh.KeptBy(secret)
	}
	if others == "" && registered != nil {
		others = mesh.KeptBy(registered)
	}
	return others
}

// othersValues leave the certificate of a webhook to whoever renews it, and its
// caBundle to whoever fills it in.
func (s serving) othersValues() map[string]any {
	values := map[string]any{"externalSecret": true}
	if s.registered == nil {
		return values
	}
	annotations := s.registered.GetAnnotations()
	for annotation, value := range map[string]string{
		"inject-ca-from":        "injectCaFrom",
		"inject-ca-from-secret": "injectCaFromSecret",
	} {
		if from := annotations[mesh.CertManagerPrefix+annotation]; from != "" {
			values[value] = from
			return values
		}
	}
	values["caBundle"] = string(s.bundle.PEM())
	return values
}

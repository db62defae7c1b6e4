package istio

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// ControlPlane are the checks of a control plane.
func (h Health) ControlPlane() []check.Check {
	const install, analyze = "istio-verify-install", "istio-analyze"
	plane := check.Once(h.plane)
	checks := []check.Check{
		of(install, "istiod-exists", "the control plane is installed", fatal, check.On(plane, func(sidecarPlane) error { return nil })),
		of(install, "istio-crds", "CustomResourceDefinitions exist", 0, check.On(h.list(kube.CustomResourceDefinition), func(there []*unstructured.Unstructured) error {
			return check.Present(kube.CustomResourceDefinition, "", crds(), there)
		})),
		of(install, "istiod-ready", "istiod is ready", 0, check.On(plane, istiodsReady)).Awaiting(kube.Deployment),
		of(install, "istio-webhook-ca", "the API server can call the injector", 0, check.On(plane, sidecarPlane.Available)).
			Awaiting(kube.Deployment, kube.MutatingWebhookConfiguration),
		of(install, "istio-webhook-ca-valid", "certificates that the API server accepts of webhooks are valid", 0, h.onWebhooks(h.webhooksTrusted)),
		of(install, "istio-validation", "configuration that is not valid is refused", warns, check.On(h.list(kube.ValidatingWebhookConfiguration), enforcing)).
			Awaiting(kube.ValidatingWebhookConfiguration),
	}
	for _, agent := range [][3]string{{"istio-cni-ready", cniAppLabel, cniNode}, {"ztunnel-ready", "app", ztunnel}} {
		checks = append(checks, of(install, agent[0], agent[2]+" runs on all nodes", 0, h.agent(agent[1], agent[2])).Awaiting(kube.DaemonSet))
	}
	checks = append(checks,
		of(install, "istio-versions", "parts of the control plane are of versions that work together", warns, func(ctx context.Context) error {
			return check.On(plane, func(p sidecarPlane) error {
				return check.On(h.list(kube.DaemonSet), func(all []*unstructured.Unstructured) error { return versionsTogether(p, all) })(ctx)
			})(ctx)
		}),
		analysis(analyze, "IST0139", "no webhook calls a service that does not exist", 0, h.onWebhooks(orphaned)),
		analysis(analyze, "IST0146", "Deployments that leave the image to injection are injected", warns, func(ctx context.Context) error {
			return check.On(h.injectors, func(injectors []injector) error {
				return check.On(h.Cluster.Namespaces, func(namespaces []*corev1.Namespace) error {
					return check.On(h.list(kube.Deployment), func(all []*unstructured.Unstructured) error { return imagesToBeGiven(injectors, namespaces, all) })(ctx)
				})(ctx)
			})(ctx)
		}),
		analysis(analyze, "IST0147", "pods that leave the image to injection have been injected", 0, check.On(h.pods, imagesGiven)),
	)
	return append(checks, h.certificates()...)
}

// crds are those of the chart base by which users configure Istio.
func crds() []string {
	return []string{
		"authorizationpolicies.security.istio.io", "destinationrules.networking.istio.io", "envoyfilters.networking.istio.io",
		"gateways.networking.istio.io", "peerauthentications.security.istio.io", "requestauthentications.security.istio.io",
		"serviceentries.networking.istio.io", "sidecars.networking.istio.io", "telemetries.telemetry.istio.io",
		"virtualservices.networking.istio.io", "workloadentries.networking.istio.io", "workloadgroups.networking.istio.io",
	}
}

func istiodsReady(p sidecarPlane) error {
	var unready []string
	for _, r := range p.istiods() {
		switch {
		case r.istiod == nil:
			unready = append(unready, r.ref.String()+" is missing")
		case r.istiod.Unfinished() != "":
			unready = append(unready, r.istiod.Unfinished())
		}
	}
	return check.Lacking("", unready, "; kubectl describe shows the events of what is not ready, and without an istiod no pod of enrolled namespaces can be created")
}

// webhooksTrusted tells which of Istio's webhooks the API server accepts expired
// certificates of only.
func (h Health) webhooksTrusted(configurations []*unstructured.Unstructured, _ []*corev1.Service) error {
	var wrong []string
	for _, c := range configurations {
		if !istioWebhooks(c) {
			continue
		}
		webhooks, _, _ := unstructured.NestedSlice(c.Object, "webhooks")
		for _, webhook := range webhooks {
			fields, _ := webhook.(map[string]any)
			text, _, _ := unstructured.NestedString(fields, "clientConfig", "caBundle")
			if problem := h.untrusted(text); problem != "" {
				wrong = append(wrong, fmt.Sprintf("%s %s (%v) %s", c.GetKind(), c.GetName(), fields["name"], problem))
			}
		}
	}
	return check.Lacking("", slices.Compact(wrong), "; istiod writes its present root there while it runs: look at its log")
}

// untrusted is why no certificate is accepted by a CA bundle in base64; empty if
// some may be.
func (h Health) untrusted(text string) string {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) == 0 {
		return "has no CA bundle"
	}
	bundle, err := pki.ParseBundle(data)
	if err != nil {
		return "" // The API server may well read it.
	}
	for _, cert := range bundle.Certificates() {
		if pki.CheckValid(cert, h.Now) == nil {
			return ""
		}
	}
	return "accepts expired certificates only"
}

// enforcing tells whether istiod has begun to have invalid configuration refused,
// as it does once it has found that it can be called.
func enforcing(configurations []*unstructured.Unstructured) error {
	var lax []string
	for _, c := range configurations {
		if !istioWebhooks(c) {
			continue
		}
		webhooks, _, _ := unstructured.NestedSlice(c.Object, "webhooks")
		for _, webhook := range webhooks {
			if fields, _ := webhook.(map[string]any); fields["failurePolicy"] == "Ignore" {
				lax = append(lax, c.GetKind()+" "+c.GetName())
			}
		}
	}
	return check.Lacking("failurePolicy is still Ignore in ", slices.Compact(lax), ", so istiod has not been able to try its own webhook: look at its log, and at network policies between the API server and its port 15017")
}

// agent is a Run that looks at a DaemonSet, if there is one.
func (h Health) agent(label, value string) func(context.Context) error {
	return func(ctx context.Context) error {
		found, err := daemonSet(ctx, h.Cluster, label, value)
		switch {
		case errors.Is(err, mesh.ErrNoControlPlane):
			return check.Skipf("there is no %s", value)
		case err != nil:
			return err
		}
		if why := found.Unfinished(); why != "" {
			return fmt.Errorf("%s; pods of the mesh on nodes without it have no network", why)
		}
		return nil
	}
}

// versionsTogether tells which agents of the nodes are more than one minor version
// away from istiod.
func versionsTogether(p sidecarPlane, daemonSets []*unstructured.Unstructured) error {
	var apart []string
	for _, r := range p.istiods() {
		if r.istiod == nil {
			continue
		}
		central := imageVersion(r.istiod.Template.Spec.Containers)
		for _, d := range daemonSets {
			pods, _, _ := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "labels")
			if pods["app"] != ztunnel && pods[cniAppLabel] != cniNode {
				continue
			}
			containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
			for _, container := range containers {
				fields, _ := container.(map[string]any)
				image, _ := fields["image"].(string)
				if distance, known := minorsApart(versionOf(image), central); known && (distance > 1 || distance < -1) {
					apart = append(apart, fmt.Sprintf("DaemonSet %s/%s is of %s, and %s of %s", d.GetNamespace(), d.GetName(), versionOf(image), r.ref, central))
				}
			}
		}
	}
	return check.Lacking("", apart, "; only minor versions beside each other work together: upgrade the older one")
}

// imageVersion is that of the first container.
func imageVersion(containers []corev1.Container) string {
	if len(containers) == 0 {
		return ""
	}
	return versionOf(containers[0].Image)
}

// minorsApart is by how many minor versions one is after another; known is false
// where either is no version, as with digests.
func minorsApart(one, other string) (distance int64, known bool) {
	a, err := semver.NewVersion(one)
	if err != nil {
		return 0, false
	}
	b, err := semver.NewVersion(other)
	if err != nil || a.Major() != b.Major() {
		return 0, false
	}
	return int64(a.Minor()) - int64(b.Minor()), true //nolint:gosec // Minor versions are small.
}

// autoImage stands for the image that injection gives to the proxy of a gateway.
const autoImage = "auto"

// imagesToBeGiven tells which Deployments leave the image of their proxy to an
// injector when none is asked about their pods.
func imagesToBeGiven(injectors []injector, namespaces []*corev1.Namespace, deployments []*unstructured.Unstructured) error {
	var without []string
	for _, d := range deployments {
		containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
		auto := slices.ContainsFunc(containers, func(c any) bool {
			fields, _ := c.(map[string]any)
			return fields["name"] == proxyContainer && fields["image"] == autoImage
		})
		if !auto {
			continue
		}
		pod, _, _ := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "labels")
		taken := slices.ContainsFunc(namespaces, func(n *corev1.Namespace) bool {
			return n.Name == d.GetNamespace() && slices.ContainsFunc(injectors, func(i injector) bool { return i.takes(n, pod) })
		})
		if !taken {
			without = append(without, kube.Ref{Kind: kube.Deployment, Namespace: d.GetNamespace(), Name: d.GetName()}.String())
		}
	}
	return check.Lacking("the image is the word auto, which only an injector replaces, and none is asked about the pods of ", without,
		"; label the namespace or the pod template ("+injectLabel+"=true, or "+revisionLabel+")")
}

// imagesGiven tells which pods have kept the image "auto", which only injection
// replaces.
func imagesGiven(pods []*corev1.Pod) error {
	var without []string
	for _, pod := range pods {
		if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == proxyContainer && c.Image == autoImage }) {
			without = append(without, podRef(pod).String())
		}
	}
	return check.Lacking("the image is still the word auto, which the injector replaces, in ", without,
		"; they were made while their namespace or labels kept the injector away, or it was not available: see to that, and delete them")
}

// An authority is the CA that istiod signs by.
type authority struct {
	ref    kube.Ref
	chain  []*x509.Certificate
	bundle pki.Bundle
}

// authority reads the CA: the user's, or the one that istiod has made itself. It
// is a *[check.Skip] if istiod signs by neither.
func (h Health) authority(ctx context.Context) (authority, error) {
	for _, name := range []string{CACertsSecret, selfSignedSecret} {
		found := authority{ref: kube.Ref{Kind: kube.Secret, Namespace: h.Namespace, Name: name}}
		secret, err := h.Cluster.Secret(ctx, h.Namespace, name)
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return found, err
		}
		if err := found.read(secret); err != nil {
			return found, fmt.Errorf("%s: %w", found.ref, err)
		}
		return found, nil
	}
	return authority{}, check.Skipf("namespace %s has neither a Secret %s nor %s, so certificates come from elsewhere", h.Namespace, CACertsSecret, selfSignedSecret)
}

// read takes the CA from a Secret in any of its layouts.
func (a *authority) read(secret *corev1.Secret) error {
	certs, roots := secret.Data[caCertFile], secret.Data[rootCertFile]
	switch {
	case secret.Data[corev1.TLSCertKey] != nil: // which wins where it is there
		certs, roots = secret.Data[corev1.TLSCertKey], secret.Data[corev1.ServiceAccountRootCAKey]
	case a.ref.Name == CACertsSecret:
		ca, bundle, err := parseCACerts(secret.Data)
		if err != nil {
			return err
		}
		a.chain, a.bundle = ca.Chain(), bundle
		return nil
	case len(roots) == 0:
		roots = certs // It signs itself.
	}
	chain, err := pki.ParseBundle(certs)
	if err != nil {
		return err
	}
	a.chain = chain.Certificates()
	a.bundle, err = pki.ParseBundle(roots)
	return err
}

// certificates are the checks of the CA.
func (h Health) certificates() []check.Check {
	const category = "istio-certificates"
	read := check.Once(h.authority)
	return []check.Check{
		of(category, "istio-ca-valid", "the CA is valid, of a supported algorithm, and below its roots", 0, check.On(read, func(a authority) error {
			if err := CheckCA(a.chain, a.bundle, h.Now); err != nil {
				return fmt.Errorf("%s: %w; rotate it (aksmesh_issuer with mesh = \"istio\"), or no new pod gets a certificate", a.ref, err)
			}
			return nil
		})),
		of(category, "istio-ca-not-expiring-soon", fmt.Sprintf("the CA and its roots are valid for at least %d days", int(h.Early.Hours()/24)), warns, check.On(read, func(a authority) error {
			var soon []string
			for _, cert := range append(slices.Clone(a.chain), a.bundle.Certificates()...) {
				if pki.RenewalDue(cert.NotAfter, h.Early, h.Now) {
					soon = append(soon, fmt.Sprintf("%q is valid only until %s", cert.Subject.String(), cert.NotAfter.UTC().Format(time.RFC3339)))
				}
			}
			return check.Lacking(a.ref.String()+": ", soon, "; renew it, or let its resource do so by an apply")
		})),
		of(category, "istio-roots-published", "istiod gives out the roots of the CA", 0, func(ctx context.Context) error {
			return check.On(read, func(a authority) error {
				return check.On(h.roots, func(published pki.Bundle) error { return a.published(published) })(ctx)
			})(ctx)
		}),
	}
}

// roots are what proxies verify istiod by.
func (h Health) roots(ctx context.Context) (pki.Bundle, error) {
	found, err := h.Cluster.ConfigMap(ctx, h.Namespace, rootConfigMap)
	if errors.Is(err, kube.ErrNotFound) {
		return pki.Bundle{}, fmt.Errorf("%w: istiod has not published its roots, and without them no proxy starts; look at its log", err)
	}
	if err != nil {
		return pki.Bundle{}, err
	}
	return pki.ParseBundle([]byte(found.Data[rootCertFile]))
}

// published tells whether the roots that istiod has read are those of the Secret:
// it reads them when it starts.
func (a authority) published(roots pki.Bundle) error {
	for _, root := range a.bundle.Certificates() {
		if !roots.Contains(root) {
			return fmt.Errorf("%s has the root %q, which istiod does not give out: it has been running since before; restart it", a.ref, root.Subject.String())
		}
	}
	return nil
}

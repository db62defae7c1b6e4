package linkerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// controlPlane is what the injector gives to pods now.
type controlPlane struct {
	injector *kube.Workload
	// webhook is the injector's for pods; nil if the API server has none.
	webhook *admissionregistrationv1.MutatingWebhook
	// values that the control plane was installed with; nil if they are not
	// recorded.
	values map[string]any
	// version of the control plane; zero if it is not known.
	version Version
	// proxyVersion is that of proxies for which nothing else is said.
	proxyVersion string
	// trustRoots is the SHA-256 of the trust bundle, as in mesh.Proxy; empty if
	// it is not known.
	trustRoots string
	settings   []inheritance
	now        time.Time
}

// webhookRef is the object by which the API server knows of the injector.
func webhookRef() kube.Ref {
	return kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-proxy-injector-webhook-config"}
}

// ControlPlane implements mesh.Mesh.
func (i Injection) ControlPlane(ctx context.Context, cluster *kube.Cluster) (mesh.ControlPlane, error) {
	ref := kube.Ref{Kind: kube.Deployment, Namespace: i.Namespace, Name: "linkerd-proxy-injector"}
	injector, err := cluster.Workload(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", mesh.ErrNoControlPlane, err)
	}
	if err != nil {
		return nil, err
	}
	c := controlPlane{injector: injector, settings: inheritances(), now: time.Now()}
	if c.webhook, err = podWebhook(ctx, cluster); err != nil {
		return nil, err
	}
	version, values, err := recordedValues(ctx, cluster, i.Namespace)
	if err != nil && !errors.Is(err, mesh.ErrNoControlPlane) {
		return nil, err
	}
	if err == nil {
		c.values, c.proxyVersion = values, version
		if tag, _, err := unstructured.NestedString(values, "proxy", "image", "version"); err == nil && tag != "" {
			c.proxyVersion = tag
		}
		if parsed, err := ParseVersion(version); err == nil {
			c.version = parsed
		}
	}
	roots, err := cluster.ConfigMap(ctx, i.Namespace, TrustRootsRef(i.Namespace).Name)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		if bundle, ok := roots.Data[TrustRootsKey]; ok {
			sum := sha256.Sum256([]byte(bundle))
			c.trustRoots = hex.EncodeToString(sum[:])
		}
	}
	return c, nil
}

// podWebhook finds the injector's webhook for pods; it is nil if there is none.
func podWebhook(ctx context.Context, cluster *kube.Cluster) (*admissionregistrationv1.MutatingWebhook, error) {
	configurations, err := cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return nil, err
	}
	for _, object := range configurations {
		if object.GetName() != webhookRef().Name {
			continue
		}
		var configuration admissionregistrationv1.MutatingWebhookConfiguration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &configuration); err != nil {
			return nil, fmt.Errorf("%s: %w", webhookRef(), err)
		}
		for _, webhook := range configuration.Webhooks {
			if slices.ContainsFunc(webhook.Rules, aboutPods) {
				return &webhook, nil
			}
		}
	}
	return nil, nil //nolint:nilnil // Nothing asks the injector about pods.
}

func aboutPods(rule admissionregistrationv1.RuleWithOperations) bool {
	has := func(resource string) bool { return slices.Contains(rule.Resources, resource) }
	return has("pods") || has("*") || has("*/*")
}

func (c controlPlane) checkWebhook() error {
	if c.webhook == nil {
		return fmt.Errorf("%w that injects: %s is missing, or is not about pods, so the API server does not ask the injector; install the control plane again", mesh.ErrNoControlPlane, webhookRef())
	}
	return nil
}

// Available implements mesh.ControlPlane. What the control plane was upgraded to
// is given by the injector's new pods only.
func (c controlPlane) Available() error {
	if err := c.checkWebhook(); err != nil {
		return err
	}
	bundle := c.webhook.ClientConfig.CABundle
	switch {
	case len(bundle) == 0:
		return fmt.Errorf("%s has no caBundle yet, so the API server cannot call the injector", webhookRef())
	case c.expired(bundle):
		return fmt.Errorf("%s: all certificates of its caBundle have expired, so the API server cannot call the injector; renew the injector's certificate", webhookRef())
	case c.injector.Available == 0:
		return fmt.Errorf("%s has no available pod", c.injector.Ref)
	case c.injector.ObservedGeneration < c.injector.Generation, c.injector.Updated < c.injector.Current:
		return fmt.Errorf("%s is rolling out (%d of %d pods are new), and pods may be given what the old ones know", c.injector.Ref, c.injector.Updated, c.injector.Current)
	}
	return nil
}

// expired reports whether no certificate of a bundle can be trusted any more.
// With the webhooks' certificates that is their own end: they sign themselves.
func (c controlPlane) expired(bundle []byte) bool {
	certificates, err := pki.ParseBundle(bundle)
	if err != nil {
		return false // The API server may well read it.
	}
	for _, certificate := range certificates.Certificates() {
		if !c.now.After(certificate.NotAfter) {
			return false
		}
	}
	return true
}

// Sees implements mesh.ControlPlane. It follows the selectors of the webhook as
// they are in the cluster: others may have changed them.
func (c controlPlane) Sees(namespace *corev1.Namespace, pod *corev1.Pod) error {
	if err := c.checkWebhook(); err != nil {
		return err
	}
	of := maps.Clone(namespace.Labels)
	if of == nil {
		of = map[string]string{}
	}
	of[corev1.LabelMetadataName] = namespace.Name // The API server sees to it.
	unmet, err := unmetRequirement(c.webhook.NamespaceSelector, of)
	if err != nil {
		return err
	}
	if unmet != nil {
		return keptAway(*unmet, namespace)
	}
	if unmet, err = unmetRequirement(c.webhook.ObjectSelector, pod.Labels); err != nil {
		return err
	}
	if unmet != nil {
		return fmt.Errorf("the labels of its pods do not meet %q, which the objectSelector of %s demands, so the injector never sees them", unmet, webhookRef())
	}
	if value := namespace.Annotations[injectAnnotation]; !validInject(value) {
		return fmt.Errorf("the annotation %s of Namespace %s has the invalid value %q, which keeps all its pods out, whatever they say themselves; use %s, %s or %s, or remove it",
			injectAnnotation, namespace.Name, value, enabled, ingress, disabled)
	}
	if projects, said, err := unstructured.NestedBool(c.values, "identity", "serviceAccountTokenProjection"); err == nil && said && !projects {
		if mounts := pod.Spec.AutomountServiceAccountToken; mounts != nil && !*mounts {
			return errors.New("its pods say automountServiceAccountToken: false, and Linkerd injects those only with its chart's value identity.serviceAccountTokenProjection: true; set one of the two otherwise")
		}
	}
	return nil
}

// unmetRequirement is the first of a selector's that labels do not meet; nil if
// the selector matches. Without a selector, everything does.
func unmetRequirement(selector *metav1.LabelSelector, of map[string]string) (*labels.Requirement, error) {
	if selector == nil {
		return nil, nil //nolint:nilnil // Everything matches.
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", webhookRef(), err)
	}
	requirements, _ := parsed.Requirements()
	for _, requirement := range requirements {
		if !requirement.Matches(labels.Set(of)) {
			return &requirement, nil
		}
	}
	return nil, nil //nolint:nilnil // All are met.
}

// keptAway explains which requirement for namespaces keeps the injector away.
func keptAway(unmet labels.Requirement, namespace *corev1.Namespace) error {
	key := unmet.Key()
	label := key + "=" + namespace.Labels[key]
	switch key {
	case admissionWebhooksLabel:
		return fmt.Errorf("the label %s of Namespace %s keeps the injector of Linkerd away; remove it", label, namespace.Name)
	case corev1.LabelMetadataName:
		return fmt.Errorf("the injector of Linkerd never sees pods of %s (namespaceSelector of %s)", strings.Join(unmet.Values().UnsortedList(), " and "), webhookRef())
	case "control-plane", "kubernetes.azure.com/managedby":
		return fmt.Errorf("the label %s of Namespace %s keeps the injector of Linkerd away: the admissions enforcer of AKS has webhooks pass over namespaces with that label; "+
			"remove it, or have the enforcer leave Linkerd's webhooks alone by the label admissions.enforcer/disabled=true on them (chart value commonLabels)", label, namespace.Name)
	default:
		return fmt.Errorf("the labels of Namespace %s do not meet %q, which the namespaceSelector of %s demands, so the injector of Linkerd never sees its pods", namespace.Name, &unmet, webhookRef())
	}
}

// Privileged implements mesh.ControlPlane.
func (c controlPlane) Privileged() bool {
	cni, _, err := unstructured.NestedBool(c.values, "cniEnabled")
	return err != nil || !cni
}

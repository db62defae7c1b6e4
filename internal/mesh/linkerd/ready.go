package linkerd

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// answering waits until the webhooks of a control plane answer: its pods are
// ready before the API server reaches them, and what is created in between would
// be left without a proxy, or unchecked.
func (i Installer) answering(namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		plane, err := Injection{Namespace: namespace}.ControlPlane(ctx, i.Cluster)
		if err != nil {
			return err
		}
		where, err := i.Cluster.Namespace(ctx, corev1.NamespaceDefault)
		if err != nil {
			return err
		}
		all := probes(where.Name)
		for _, s := range controlPlaneServers(namespace) {
			probe, passedOver := all[s.name], plane.Sees(where, &corev1.Pod{})
			if s.registration.Kind == kube.ValidatingWebhookConfiguration {
				if passedOver, err = i.validatorSees(ctx, s.registration, where); err != nil {
					return err
				}
			}
			if passedOver != nil {
				// It is no failure of the control plane's.
				i.say("a webhook is not tried, as it passes over namespace "+where.Name, map[string]any{"webhook": probe.Webhook, "reason": passedOver.Error()})
				continue
			}
			if err := i.AwaitAnswers(ctx, probe); err != nil {
				return err
			}
		}
		return nil
	}
}

// validatorSees tells why a validator is not asked about objects of a namespace;
// nothing if it is.
func (i Installer) validatorSees(ctx context.Context, ref kube.Ref, where *corev1.Namespace) (passedOver, err error) {
	live, err := i.Cluster.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &configuration); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	for _, webhook := range configuration.Webhooks {
		unmet, err := unmetRequirement(webhook.NamespaceSelector, where.Labels)
		if err != nil {
			return err, nil
		}
		if unmet != nil {
			return fmt.Errorf("%s: its namespaceSelector wants %s", ref, unmet), nil
		}
	}
	return nil, nil
}

func (i Installer) say(message string, fields map[string]any) {
	if i.Log != nil {
		i.Log(message, fields)
	}
}

// probes are a pod that has to come back with a proxy, and objects that the CRDs
// admit and the validators do not, by the servers that are asked.
func probes(namespace string) map[string]install.Probe {
	object := func(apiVersion, kind string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": apiVersion, "kind": kind, "spec": spec,
			"metadata": map[string]any{"namespace": namespace, "name": "aksmesh-probe." + namespace + ".svc.cluster.local"},
		}}
	}
	authentication := func(name string) any {
		return map[string]any{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": name}
	}
	return map[string]install.Probe{
		proxyInjector: install.PodProbe("linkerd-proxy-injector.linkerd.io", namespace, nil, map[string]string{injectAnnotation: enabled}, func(made *corev1.Pod) bool {
			proxy, _ := mesh.FindSidecar(made, ProxyContainer)
			return proxy != nil
		}),
		spValidator: install.DeniedProbe("linkerd-sp-validator.linkerd.io", object("linkerd.io/v1alpha2", "ServiceProfile", map[string]any{
			// One that matches nothing.
			"routes": []any{map[string]any{"name": "none", "condition": map[string]any{"pathRegex": ""}}},
		})),
		policyValidator: install.DeniedProbe("linkerd-policy-validator.linkerd.io", object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", map[string]any{
			"targetRef": map[string]any{"kind": "Namespace", "name": namespace},
			// Of one kind, only one is allowed.
			"requiredAuthenticationRefs": []any{authentication("a"), authentication("b")},
		})),
	}
}

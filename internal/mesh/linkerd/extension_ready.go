package linkerd

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// tapInjectorAnswers waits until a pod that gets a proxy can be tapped as well.
// The tap-injector looks at pods after the proxy injector, by the order of their
// names, so that one dry run tries both, where both look.
func (i Installer) tapInjectorAnswers(ctx context.Context, s ExtensionSpecification) error {
	ref := kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-tap-injector-webhook-config"}
	where, err := i.Cluster.Namespace(ctx, corev1.NamespaceDefault)
	if err != nil {
		return err
	}
	untried := func(reason string) error {
		i.say("the tap-injector is not tried in namespace "+where.Name, map[string]any{"extension": s.Namespace, "reason": reason})
		return nil
	}
	plane, err := Injection{Namespace: s.LinkerdNamespace}.ControlPlane(ctx, i.Cluster)
	if err != nil {
		return err
	}
	if err := plane.Sees(where, &corev1.Pod{}); err != nil {
		return untried("pods get no proxy there: " + err.Error())
	}
	live, err := i.Cluster.Find(ctx, ref)
	if err != nil {
		return err
	}
	var configuration admissionregistrationv1.MutatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &configuration); err != nil {
		return err
	}
	for _, webhook := range configuration.Webhooks {
		unmet, err := unmetRequirement(webhook.NamespaceSelector, where.Labels)
		if err != nil || unmet != nil {
			return untried("its configuration passes over it") // A selector that cannot be read selects nothing.
		}
	}
	injected := map[string]string{injectAnnotation: enabled}
	return i.AwaitAnswers(ctx, install.PodProbe("tap-injector.linkerd.io", where.Name, nil, injected, func(made *corev1.Pod) bool {
		return made.Annotations[tapEnabledAnnotation] == "true"
	}))
}

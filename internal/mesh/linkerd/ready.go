package linkerd

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// A probe is an object that the API server is asked to create in a dry run, to
// see what a webhook makes of it.
type probe struct {
	webhook string // as the configuration names it
	object  *unstructured.Unstructured
	// answered tells by the outcome whether the webhook was asked.
	answered func(got *unstructured.Unstructured, err error) bool
}

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
		if err := plane.Sees(where, &corev1.Pod{}); err != nil {
			i.say("the webhooks are not tried, as they pass over namespace "+where.Name, map[string]any{"reason": err.Error()})
			return nil //nolint:nilerr // It is no failure of the control plane's.
		}
		for _, p := range probes(where.Name) {
			if err := i.try(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func (i Installer) say(message string, fields map[string]any) {
	if i.Log != nil {
		i.Log(message, fields)
	}
}

// try repeats a probe until its webhook has answered.
func (i Installer) try(ctx context.Context, p probe) error {
	// Nothing that can be watched tells that a webhook can be reached now.
	return i.Cluster.Await(ctx, "", nil, func(ctx context.Context) (string, error) {
		got, err := i.Cluster.Apply(ctx, p.object, kube.ApplyOptions{Manager: manager, DryRun: true, CreateOnly: true})
		switch {
		case p.answered(got, err):
			return "", nil
		case err == nil:
			return fmt.Sprintf("webhook %s to answer: a %s was admitted without it", p.webhook, p.object.GetKind()), nil
		case ctx.Err() != nil:
			return "", err
		case strings.Contains(err.Error(), "failed calling webhook"):
			return fmt.Sprintf("webhook %s to answer: %v", p.webhook, err), nil
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			// A quota, Pod Security, missing rights, another's webhook: the API server
			// has decided, and will not tell more of this one.
			i.say("whether webhook "+p.webhook+" answers cannot be found out", map[string]any{"reason": err.Error()})
			return "", nil
		default:
			return "", err
		}
	})
}

// probes are a pod that has to come back with a proxy, and objects that the CRDs
// admit and the validators do not.
func probes(namespace string) []probe {
	object := func(apiVersion, kind string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": apiVersion, "kind": kind, "spec": spec,
			"metadata": map[string]any{"namespace": namespace, "name": "aksmesh-probe." + namespace + ".svc.cluster.local"},
		}}
	}
	refusedBy := func(webhook string) func(*unstructured.Unstructured, error) bool {
		return func(_ *unstructured.Unstructured, err error) bool {
			return err != nil && strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied", webhook))
		}
	}
	pod := object("v1", "Pod", map[string]any{
		"containers": []any{map[string]any{
			"name": "probe", "image": "registry.k8s.io/pause:3.10",
			"resources": map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "10Mi"}, "limits": map[string]any{"cpu": "10m", "memory": "10Mi"}},
			"securityContext": map[string]any{
				"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
				"seccompProfile": map[string]any{"type": "RuntimeDefault"},
			},
		}},
	})
	pod.SetAnnotations(map[string]string{injectAnnotation: enabled})
	authentication := func(name string) any {
		return map[string]any{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": name}
	}
	injector, profiles, policies := "linkerd-proxy-injector.linkerd.io", "linkerd-sp-validator.linkerd.io", "linkerd-policy-validator.linkerd.io"
	return []probe{
		{webhook: injector, object: pod, answered: func(got *unstructured.Unstructured, err error) bool {
			made := &corev1.Pod{}
			if err != nil || runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, made) != nil {
				return false
			}
			proxy, _ := mesh.FindSidecar(made, proxyContainer)
			return proxy != nil
		}},
		{webhook: profiles, answered: refusedBy(profiles), object: object("linkerd.io/v1alpha2", "ServiceProfile", map[string]any{
			// One that matches nothing.
			"routes": []any{map[string]any{"name": "none", "condition": map[string]any{"pathRegex": ""}}},
		})},
		{webhook: policies, answered: refusedBy(policies), object: object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", map[string]any{
			"targetRef": map[string]any{"kind": "Namespace", "name": namespace},
			// Of one kind, only one is allowed.
			"requiredAuthenticationRefs": []any{authentication("a"), authentication("b")},
		})},
	}
}

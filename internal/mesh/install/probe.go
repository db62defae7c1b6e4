package install

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// A Probe is an object that the API server is asked to create in a dry run, to
// see whether a webhook of a mesh is in service.
type Probe struct {
	Webhook string // as its configuration names it
	Object  *unstructured.Unstructured
	// Answered tells by what came back whether the webhook was asked.
	Answered func(got *unstructured.Unstructured, err error) bool
}

// probeManager is the field manager of what is never kept.
const probeManager = "aksmesh-probe"

// PodProbe is a pod in a namespace that a webhook has to give a proxy: proxied
// tells whether it has. It keeps to the restricted Pod Security Standard.
func PodProbe(webhook, namespace string, labels, annotations map[string]string, proxied func(*corev1.Pod) bool) Probe {
	pod := kube.Ref{Kind: kube.Pod, Namespace: namespace, Name: probeManager}.Object()
	pod.SetLabels(labels)
	pod.SetAnnotations(annotations)
	quantities := map[string]any{"cpu": "10m", "memory": "10Mi"}
	pod.Object["spec"] = map[string]any{"containers": []any{map[string]any{
		"name": "probe", "image": "registry.k8s.io/pause:3.10",
		"resources": map[string]any{"requests": quantities, "limits": quantities},
		"securityContext": map[string]any{
			"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
			"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		},
	}}}
	return Probe{Webhook: webhook, Object: pod, Answered: func(got *unstructured.Unstructured, err error) bool {
		made := &corev1.Pod{}
		return err == nil && runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, made) == nil && proxied(made)
	}}
}

// DeniedProbe is an object that the CRDs admit and a validator does not.
func DeniedProbe(webhook string, object *unstructured.Unstructured) Probe {
	denied := fmt.Sprintf("admission webhook %q denied", webhook)
	return Probe{Webhook: webhook, Object: object, Answered: func(_ *unstructured.Unstructured, err error) bool {
		return err != nil && strings.Contains(err.Error(), denied)
	}}
}

// AwaitAnswers repeats probes until each webhook has answered: what a control
// plane serves is ready before the API server reaches it. Where the API server
// decides by itself, so that a webhook's answer cannot be had, that is logged and
// waited for no longer.
func (c Charts) AwaitAnswers(ctx context.Context, probes ...Probe) error {
	for _, p := range probes {
		// Nothing that can be watched tells that a webhook can be reached now.
		if err := c.Cluster.Await(ctx, "", nil, func(ctx context.Context) (string, error) { return c.try(ctx, p) }); err != nil {
			return err
		}
	}
	return nil
}

// try says what is still waited for; nothing if the webhook has answered.
func (c Charts) try(ctx context.Context, p Probe) (waiting string, err error) {
	got, err := c.Cluster.Apply(ctx, p.Object, kube.ApplyOptions{Manager: probeManager, DryRun: true, CreateOnly: true})
	switch {
	case p.Answered(got, err):
		return "", nil
	case err == nil:
		return fmt.Sprintf("webhook %s to answer: a %s was admitted without it", p.Webhook, p.Object.GetKind()), nil
	case ctx.Err() != nil:
		return "", err
	case strings.Contains(err.Error(), "failed calling webhook"):
		return fmt.Sprintf("webhook %s to answer: %v", p.Webhook, err), nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		// A quota, Pod Security, missing rights, another's webhook.
		c.log("whether a webhook answers cannot be found out", map[string]any{"webhook": p.Webhook, "reason": err.Error()})
		return "", nil
	default:
		return "", err
	}
}

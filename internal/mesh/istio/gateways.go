package istio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// injectorConfig is the ConfigMap that the default revision injects by.
const injectorConfig = "istio-sidecar-injector"

// refreshGateways restarts the gateways that run another proxy than istiod
// injects now: their templates say no more than `auto`, so nothing else does it
// when istiod's version or registry changes.
func (i Installer) refreshGateways(ctx context.Context, s Specification) error {
	stale, err := i.staleGateways(ctx, s.Namespace, s.Profile)
	if err != nil || len(stale) == 0 {
		return err
	}
	for _, ref := range stale {
		if err := i.Cluster.Restart(ctx, ref, s.Now); err != nil {
			return err
		}
	}
	return i.Cluster.AwaitReady(ctx, stale...)
}

// staleGateways returns the workloads of the profile's gateways of which a pod
// does not run the proxy that istiod injects now.
func (i Installer) staleGateways(ctx context.Context, namespace string, profile Profile) ([]kube.Ref, error) {
	if len(profile.gateways()) == 0 {
		return nil, nil
	}
	image, err := i.injectedImage(ctx, namespace)
	if err != nil || image == "" {
		return nil, err
	}
	workloads, err := i.Cluster.Workloads(ctx, namespace)
	if err != nil {
		return nil, err
	}
	pods, err := i.Cluster.Pods(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var stale []kube.Ref
	for _, w := range workloads {
		if slices.Contains(profile.gateways(), w.Name) && slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
			return belongs(pod, w) && !runs(pod, image)
		}) {
			stale = append(stale, w.Ref)
		}
	}
	return stale, nil
}

// belongs reports whether pod is one of a workload's that is there to stay.
func belongs(pod *corev1.Pod, w *kube.Workload) bool {
	ended := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return !ended && metav1.GetControllerOf(pod) != nil && w.Selector.Matches(labels.Set(pod.Labels))
}

// runs reports whether the proxy of pod is of an image, in any variant: a pod
// may choose its variant, and even the whole image.
func runs(pod *corev1.Pod, image string) bool {
	if pod.Annotations["sidecar.istio.io/proxyImage"] != "" {
		return true
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == proxyContainer {
			return c.Image == image || strings.HasPrefix(c.Image, image+"-")
		}
	}
	return false
}

// injectedImage is the proxy's image that the default revision injects,
// without its variant, by the rules of istio's inject.ProxyImage; empty if
// there is no configuration to tell it.
func (i Installer) injectedImage(ctx context.Context, namespace string) (string, error) {
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: namespace, Name: injectorConfig}
	configuration, err := i.Cluster.ConfigMap(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var values struct {
		Global struct {
			Hub   string `json:"hub"`
			Tag   any    `json:"tag"` // 1.31 is a number
			Proxy struct {
				Image string `json:"image"`
			} `json:"proxy"`
		} `json:"global"`
	}
	if err := json.Unmarshal([]byte(configuration.Data["values"]), &values); err != nil {
		return "", fmt.Errorf("%s: values: %w", ref, err)
	}
	image := values.Global.Proxy.Image
	if strings.Contains(image, "/") {
		return image, nil
	}
	return fmt.Sprintf("%s/%s:%v", values.Global.Hub, image, values.Global.Tag), nil
}

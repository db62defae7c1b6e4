package istio

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// container is the container of pod called name, or nil.
func container(pod *corev1.Pod, name string) *corev1.Container {
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &pod.Spec.Containers[i]
}

// environment is what the kubelet would put into the environment of a
// container of pod, each as "NAME=value"; of two of one name the last counts.
func environment(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, container *corev1.Container) ([]string, error) {
	var result []string
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef == nil {
			return nil, fmt.Errorf("environment of container %s: only ConfigMaps are simulated", container.Name)
		}
		name, optional := from.ConfigMapRef.Name, from.ConfigMapRef.Optional
		config, err := client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && optional != nil && *optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("environment of container %s: read ConfigMap %s/%s: %w", container.Name, pod.Namespace, name, err)
		}
		for key, value := range config.Data {
			result = append(result, from.Prefix+key+"="+value)
		}
	}
	for _, v := range container.Env {
		value, err := envValue(ctx, client, pod, v)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s of container %s: %w", v.Name, container.Name, err)
		}
		if value != nil {
			result = append(result, v.Name+"="+*value)
		}
	}
	return result, nil
}

// envValue is the value of v, or nil if v stays unset.
func envValue(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, v corev1.EnvVar) (*string, error) {
	var source string
	var data map[string]string
	var key string
	var optional *bool
	switch from := v.ValueFrom; {
	case from == nil:
		return &v.Value, nil
	case from.FieldRef != nil:
		value, err := fieldValue(pod, from.FieldRef.FieldPath)
		return &value, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		source, key, optional = "ConfigMap "+pod.Namespace+"/"+ref.Name, ref.Key, ref.Optional
		config, err := client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read %s: %w", source, err)
		}
		data = config.Data
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		source, key, optional = "Secret "+pod.Namespace+"/"+ref.Name, ref.Key, ref.Optional
		secret, err := client.CoreV1().Secrets(pod.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read %s: %w", source, err)
		}
		data = make(map[string]string, len(secret.Data))
		for k, v := range secret.Data {
			data[k] = string(v)
		}
	default:
		// What is left are resource limits, and those do not bind a process of
		// the host.
		return nil, nil
	}
	value, ok := data[key]
	switch {
	case ok:
		return &value, nil
	case optional != nil && *optional:
		return nil, nil
	default:
		return nil, fmt.Errorf("%s has no key %q", source, key)
	}
}

// fieldValue is the field of pod that a downward API reference names.
func fieldValue(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	default:
		return fieldpath.ExtractFieldPathAsString(pod, path)
	}
}

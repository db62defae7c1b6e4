// Package podenv is what the kubelet hands to the containers of a pod when it
// starts them: environment, fields of the pod, service account tokens.
package podenv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Container is the container of pod called name, a native sidecar or other init
// container included, or nil.
func Container(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// Variables are the environment of a container of pod by name, with references
// such as $(NAME) to earlier variables resolved. Limits of resources stay
// unset, as they bind nothing that runs on the host.
func Variables(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, container *corev1.Container) (map[string]string, error) {
	result := map[string]string{}
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
			result[from.Prefix+key] = value
		}
	}
	for _, v := range container.Env {
		value, err := envValue(ctx, client, pod, v)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s of container %s: %w", v.Name, container.Name, err)
		}
		switch {
		case value == nil:
		case v.ValueFrom == nil:
			result[v.Name] = expansion.Expand(*value, expansion.MappingFuncFor(result))
		default:
			result[v.Name] = *value
		}
	}
	return result, nil
}

// Token makes a token of the account of pod, bound to the pod. audience may be
// empty for that of the API server, and seconds nil for the default lifetime.
func Token(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, audience string, seconds *int64) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	account := pod.Spec.ServiceAccountName
	token, err := client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create token of ServiceAccount %s/%s: %w", pod.Namespace, account, err)
	}
	return token.Status.Token, nil
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
		value, err := Field(pod, from.FieldRef.FieldPath)
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

// Field is the field of pod that a downward API reference names.
func Field(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.podIPs":
		ips := make([]string, len(pod.Status.PodIPs))
		for i, ip := range pod.Status.PodIPs {
			ips[i] = ip.IP
		}
		return strings.Join(ips, ","), nil
	default:
		return fieldpath.ExtractFieldPathAsString(pod, path)
	}
}

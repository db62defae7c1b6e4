package linkerd

// This file stands in for what of the extensions the API server talks to
// (linkerd2 viz/tap/api, viz/tap/injector, jaeger/injector), and for the program
// with which they label their namespaces.

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	extensionLabel = "linkerd.io/extension"
	// extensionComponentLabel tells the pods of an extension apart.
	extensionComponentLabel = "component"
	// disableTapAnnotation on a pod or its namespace keeps the proxy from serving
	// taps, and tapAnnotation says that it does.
	disableTapAnnotation = "viz.linkerd.io/disable-tap"
	tapAnnotation        = "viz.linkerd.io/tap-enabled"
	// tapVariable tells a proxy whose taps to serve.
	tapVariable = "LINKERD2_PROXY_TAP_SVC_NAME"

	tapVersion = "tap.linkerd.io/v1alpha1"
)

// extends reports whether pod belongs to a component of an extension and runs it.
func extends(pod *corev1.Pod, extension, component string) bool {
	return pod.Labels[extensionLabel] == extension && pod.Labels[extensionComponentLabel] == component &&
		podenv.Container(pod, component) != nil
}

// tap answers for the aggregated API of tap.linkerd.io.
type tap struct {
	lag time.Duration
}

func (tap) Name() string { return "tap" }

func (tap) Runs(pod *corev1.Pod) bool { return extends(pod, "viz", "tap") }

// Start serves the API of the pod.
func (p tap) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	return start(func(i *instance) error {
		return i.serveSecured(ctx, c, env.Log, webhookServer{
			port: 8089, secret: volumeSource(pod, "tls"), lag: p.lag,
		}, discovery(env.Log))
	})
}

// discovery lists what can be tapped, of which the API server asks to see
// whether the API is there.
func discovery(log *slog.Logger) http.Handler {
	list := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: tapVersion,
	}
	for _, name := range []string{
		"namespaces", "pods", "replicationcontrollers", "services",
		"daemonsets", "deployments", "replicasets", "statefulsets", "cronjobs", "jobs",
	} {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: name, SingularName: "tap", Namespaced: name != "namespaces", Kind: "Tap", Verbs: metav1.Verbs{"watch"},
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/"+tapVersion, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(list); err != nil {
			log.Debug("list of tap resources not delivered", "error", err)
		}
	})
	return mux
}

// tapInjector answers the webhook that has proxies serve taps.
type tapInjector struct {
	lag time.Duration
}

func (tapInjector) Name() string { return "tap-injector" }

func (tapInjector) Runs(pod *corev1.Pod) bool { return extends(pod, "viz", "tap-injector") }

// Start serves the webhook of the pod.
func (p tapInjector) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	w := &tapWebhook{client: c.pod, service: argument(podenv.Container(pod, p.Name()), "tap-service-name", "")}
	return start(func(i *instance) error {
		return i.serveWebhook(ctx, c, env.Log, webhookServer{
			port: 8443, secret: volumeSource(pod, "tls"), lag: p.lag, answer: w.review,
		})
	})
}

// A tapWebhook answers the requests of one pod.
type tapWebhook struct {
	client kubernetes.Interface
	// service is the identity of who may tap.
	service string
}

func (w *tapWebhook) review(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("read Pod: %w", err)
	}
	namespace, err := w.client.CoreV1().Namespaces().Get(ctx, request.Namespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Namespace %s: %w", request.Namespace, err)
	}
	old := pod.DeepCopy()
	proxy := podenv.Container(&pod, "linkerd-proxy")
	if proxy == nil || pod.Annotations[disableTapAnnotation] == "true" || namespace.Annotations[disableTapAnnotation] == "true" {
		return patched()
	}
	if !slices.ContainsFunc(proxy.Env, func(e corev1.EnvVar) bool { return e.Name == tapVariable }) {
		proxy.Env = append(proxy.Env, corev1.EnvVar{Name: tapVariable, Value: w.service})
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, tapAnnotation, "true")
	return patched(
		change("/metadata/annotations", old.Annotations, pod.Annotations),
		change("/spec/initContainers", old.Spec.InitContainers, pod.Spec.InitContainers),
		change("/spec/containers", old.Spec.Containers, pod.Spec.Containers),
	)
}

// jaegerInjector answers the webhook of the jaeger extension. It leaves all pods
// as they are: where proxies send their traces makes no difference here.
type jaegerInjector struct {
	lag time.Duration
}

func (jaegerInjector) Name() string { return "jaeger-injector" }

func (jaegerInjector) Runs(pod *corev1.Pod) bool { return extends(pod, "jaeger", "jaeger-injector") }

// Start serves the webhook of the pod.
func (p jaegerInjector) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	return start(func(i *instance) error {
		return i.serveWebhook(ctx, c, env.Log, webhookServer{
			port: 8443, secret: volumeSource(pod, "tls"), lag: p.lag,
			answer: validating(func(context.Context, *admissionv1.AdmissionRequest) error { return nil }),
		})
	})
}

// namespaceMetadata labels the namespace of an extension and ends.
type namespaceMetadata struct{}

func (namespaceMetadata) Name() string { return "namespace-metadata" }

func (p namespaceMetadata) Runs(pod *corev1.Pod) bool {
	return pod.Labels[extensionLabel] != "" && podenv.Container(pod, p.Name()) != nil
}

// Start does all there is to do.
func (p namespaceMetadata) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{
		extensionLabel:                       pod.Labels[extensionLabel],
		"pod-security.kubernetes.io/enforce": "privileged",
	}}})
	if err != nil {
		return nil, fmt.Errorf("write patch: %w", err)
	}
	_, err = c.pod.CoreV1().Namespaces().Patch(ctx, pod.Namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("label Namespace %s: %w", pod.Namespace, err)
	}
	return start(func(*instance) error { return nil })
}

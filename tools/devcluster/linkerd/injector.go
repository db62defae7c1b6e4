package linkerd

// This file stands in for Linkerd's proxy injector (linkerd2 controller/proxy-injector).

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// injector answers the webhook that meshes pods.
type injector struct {
	lag time.Duration
}

func (injector) Name() string { return "linkerd-proxy-injector" }

func (injector) Runs(pod *corev1.Pod) bool {
	return runs(pod, proxyInjectorComponent, "proxy-injector")
}

// Start serves the webhook of the pod.
func (p injector) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	return start(func(i *instance) error { return p.run(ctx, i, c, env.Log, pod) })
}

// run, like the real injector, reads the chart's values and the trust anchors
// from mounted files at each request. Whoever changes them has to wait until
// the files have changed too.
func (p injector) run(ctx context.Context, i *instance, c *clients, log *slog.Logger, pod *corev1.Pod) error {
	w := &injectorWebhook{
		namespace: argument(podenv.Container(pod, "proxy-injector"), "linkerd-namespace", pod.Namespace),
		client:    c.pod,
		log:       log,
		events:    i.events(c, p.Name()),
	}
	var err error
	if w.config, err = i.configMap(ctx, c, volumeSource(pod, "config"), p.lag); err != nil {
		return err
	}
	if w.roots, err = i.configMap(ctx, c, volumeSource(pod, "trust-roots"), p.lag); err != nil {
		return err
	}
	if err := c.awaitIdentity(ctx); err != nil {
		return err
	}
	return i.serveWebhook(ctx, c, log, webhookServer{
		port: 8443, secret: volumeSource(pod, "tls"), lag: p.lag, answer: w.review,
	})
}

// An injectorWebhook answers the requests of one pod.
type injectorWebhook struct {
	namespace     string
	client        kubernetes.Interface
	config, roots *mount
	events        record.EventRecorder
	log           *slog.Logger
}

func (w *injectorWebhook) review(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	config := Config{Namespace: w.namespace, TrustAnchors: string(w.roots.Files()["ca-bundle.crt"])}
	if err := yaml.Unmarshal(w.config.Files()["values"], &config.Values); err != nil {
		return nil, fmt.Errorf("read values of linkerd-config: %w", err)
	}
	namespace, err := w.client.CoreV1().Namespaces().Get(ctx, request.Namespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Namespace %s: %w", request.Namespace, err)
	}
	switch request.Kind.Kind {
	case "Pod":
		return w.reviewPod(ctx, config, namespace, request)
	case "Service":
		var service corev1.Service
		if err := json.Unmarshal(request.Object.Raw, &service); err != nil {
			return nil, fmt.Errorf("read Service: %w", err)
		}
		old := service.DeepCopy()
		InjectService(config, namespace, &service)
		return patched(change("/metadata/annotations", old.Annotations, service.Annotations))
	default:
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
}

func (w *injectorWebhook) reviewPod(
	ctx context.Context, config Config, namespace *corev1.Namespace, request *admissionv1.AdmissionRequest,
) (*admissionv1.AdmissionResponse, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("read Pod: %w", err)
	}
	owner, err := w.owner(ctx, namespace.Name, &pod)
	if err != nil {
		return nil, err
	}
	old := pod.DeepCopy()
	result, err := Inject(config, namespace, Owner{Kind: owner.Kind, Name: owner.Name}, &pod)
	if err != nil {
		return nil, err
	}
	for _, warning := range result.Warnings {
		w.log.Warn(warning, "namespace", namespace.Name, "owner", owner.Name)
	}
	w.record(owner, result)
	return patched(
		change("/metadata/labels", old.Labels, pod.Labels),
		change("/metadata/annotations", old.Annotations, pod.Annotations),
		change("/spec/initContainers", old.Spec.InitContainers, pod.Spec.InitContainers),
		change("/spec/containers", old.Spec.Containers, pod.Spec.Containers),
		change("/spec/volumes", old.Spec.Volumes, pod.Spec.Volumes),
	)
}

// record tells the owner's events what became of a pod. Kinds that Linkerd
// does not know hear nothing.
func (w *injectorWebhook) record(owner corev1.ObjectReference, result Result) {
	switch owner.Kind {
	case "Deployment", "ReplicationController", "ReplicaSet", "Job", "CronJob", "DaemonSet", "StatefulSet":
	default:
		return
	}
	if len(result.Skipped) == 0 {
		w.events.Event(&owner, corev1.EventTypeNormal, "Injected", "Linkerd sidecar proxy injected")
		return
	}
	messages := make([]string, len(result.Skipped))
	for i, reason := range result.Skipped {
		messages[i] = reason.Message()
	}
	w.events.Eventf(&owner, corev1.EventTypeNormal, "InjectionSkipped",
		"Linkerd sidecar proxy injection skipped: %s", strings.Join(messages, ", "))
}

// owner is the workload behind pod: what owns it or, behind a ReplicaSet or
// Job, what owns that. A pod of its own has none.
func (w *injectorWebhook) owner(ctx context.Context, namespace string, pod *corev1.Pod) (corev1.ObjectReference, error) {
	if len(pod.OwnerReferences) != 1 {
		return corev1.ObjectReference{}, nil
	}
	owner := pod.OwnerReferences[0]
	var parent metav1.Object
	var err error
	switch owner.Kind {
	case "ReplicaSet":
		parent, err = w.client.AppsV1().ReplicaSets(namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	case "Job":
		parent, err = w.client.BatchV1().Jobs(namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	}
	if err != nil {
		return corev1.ObjectReference{}, fmt.Errorf("read owner %s %s/%s: %w", owner.Kind, namespace, owner.Name, err)
	}
	if parent != nil && len(parent.GetOwnerReferences()) == 1 {
		owner = parent.GetOwnerReferences()[0]
	}
	return corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: namespace, Name: owner.Name, UID: owner.UID,
	}, nil
}

// An operation is one step of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// change is the operation that makes updated of old at path, or nil if they are
// the same. Adding what is there replaces it.
func change[T any](path string, old, updated T) *operation {
	if reflect.DeepEqual(old, updated) {
		return nil
	}
	return &operation{Op: "add", Path: path, Value: updated}
}

// patched admits an object with changes.
func patched(changes ...*operation) (*admissionv1.AdmissionResponse, error) {
	response := &admissionv1.AdmissionResponse{Allowed: true}
	var patch []*operation
	for _, c := range changes {
		if c != nil {
			patch = append(patch, c)
		}
	}
	if len(patch) == 0 {
		return response, nil
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("write patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = data, &kind
	return response, nil
}

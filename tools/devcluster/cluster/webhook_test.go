package cluster_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/cert"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	labellerNamespace = "webhook-system"
	labellerPort      = 8443
	// labelledBy is the label that the webhook adds.
	labelledBy = "labelled-by"
)

// A labeller is the program of a webhook that labels ConfigMaps.
type labeller struct {
	// broken makes new instances fail to start.
	broken atomic.Bool
	// certificate is for the Service of the webhook, and bundle is to trust it by.
	certificate tls.Certificate
	bundle      []byte
}

func newLabeller() (*labeller, error) {
	bundle, key, err := cert.GenerateSelfSignedCertKey("webhook."+labellerNamespace+".svc", nil, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(bundle, key)
	if err != nil {
		return nil, err
	}
	return &labeller{certificate: certificate, bundle: bundle}, nil
}

func (*labeller) Name() string { return "labeller" }

func (*labeller) Runs(pod *corev1.Pod) bool { return pod.Labels["program"] == "labeller" }

func (l *labeller) Start(context.Context, program.Env, *corev1.Pod) (program.Instance, error) {
	if l.broken.Load() {
		return nil, errors.New("the certificate has expired")
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(label))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{l.certificate}, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	return labellerInstance{server}, nil
}

type labellerInstance struct{ *httptest.Server }

func (i labellerInstance) Dial(ctx context.Context, port int) (net.Conn, error) {
	if port != labellerPort {
		return nil, fmt.Errorf("nothing listens on port %d", port)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", i.Listener.Addr().String())
}

func (i labellerInstance) Stop() { i.Close() }

// label answers an admission review with a patch that adds a label.
func label(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	data, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(data, &review)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind := admissionv1.PatchTypeJSONPatch
	review.Response = &admissionv1.AdmissionResponse{
		UID:       review.Request.UID,
		Allowed:   true,
		PatchType: &kind,
		Patch:     []byte(`[{"op": "add", "path": "/metadata/labels", "value": {"` + labelledBy + `": "webhook"}}]`),
	}
	_ = json.NewEncoder(w).Encode(review)
}

// TestWebhookFollowsItsDeployment checks that a webhook answers exactly as
// long as a pod of its Deployment is ready.
func TestWebhookFollowsItsDeployment(t *testing.T) {
	t.Parallel()
	const system = labellerNamespace
	_, err := shared.client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	selected := namespace(t, map[string]string{"labelled": system})
	registerWebhook(t, system, selected)

	create := func() (*corev1.ConfigMap, error) {
		return shared.client.CoreV1().ConfigMaps(selected).Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		}, metav1.CreateOptions{})
	}
	refused := func(when string) {
		t.Helper()
		if _, err := create(); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("without a Deployment")

	shared.webhooks.broken.Store(true)
	pods := template("webhook", "example.com/webhook:1")
	pods.Labels["program"] = "labeller"
	deployment := deploy(t, system, 1, pods)
	onlyPod(t, system, "webhook", func(pod *corev1.Pod) error {
		statuses := pod.Status.ContainerStatuses
		if len(statuses) == 1 && statuses[0].State.Waiting != nil && strings.Contains(statuses[0].State.Waiting.Message, "expired") {
			return nil
		}
		return fmt.Errorf("the reason of the failure is not in the status: %+v", pod.Status)
	})
	refused("with a program that does not start")

	shared.webhooks.broken.Store(false)
	available(t, deployment)
	created, err := create()
	if err != nil {
		t.Fatalf("with an available Deployment: %v", err)
	}
	if created.Labels[labelledBy] == "" {
		t.Errorf("the webhook did not change the object: %+v", created.Labels)
	}

	err = shared.client.AppsV1().Deployments(system).Delete(t.Context(), deployment.Name, metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		pods, err := shared.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(pods.Items))
		}
		return err
	})
	refused("after the Deployment")
}

// registerWebhook creates the Service and the webhook configuration.
func registerWebhook(t *testing.T, system, selected string) {
	t.Helper()
	_, err := shared.client.CoreV1().Services(system).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "webhook"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "webhook"},
			Ports:    []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(labellerPort)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	configuration, err := shared.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(),
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{
				Name:                    "labeller.example.com",
				AdmissionReviewVersions: []string{"v1"},
				FailurePolicy:           &fail,
				SideEffects:             &none,
				NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"labelled": system}},
				Rules: []admissionregistrationv1.RuleWithOperations{{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
				}},
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					CABundle: shared.webhooks.bundle,
					Service:  &admissionregistrationv1.ServiceReference{Namespace: system, Name: "webhook"},
				},
			}},
		}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := shared.client.AdmissionregistrationV1().MutatingWebhookConfigurations().
			Delete(context.WithoutCancel(t.Context()), configuration.Name, metav1.DeleteOptions{})
		if err != nil {
			t.Error(err)
		}
	})
	eventually(t, func(ctx context.Context) error {
		probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}}
		_, err := shared.client.CoreV1().ConfigMaps(selected).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return errors.New("the API server does not know the webhook yet")
		}
		return nil
	})
}

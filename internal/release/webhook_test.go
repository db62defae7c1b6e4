package release

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// TestAccOwnWebhookAnswersLate brings a webhook with a release that does not
// answer yet when the first object is applied that it is asked about.
func TestAccOwnWebhookAnswersLate(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	group := namespace + ".example.com"
	var calls atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if calls.Add(1) <= 2 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(request.Body).Decode(review); err != nil {
			t.Error(err)
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	webhook := fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: widgets.%[2]s
  clientConfig: {url: %[3]q, caBundle: %[4]s}
  rules: [{apiGroups: [%[2]s], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [widgets]}]
  sideEffects: None
  failurePolicy: Fail
  admissionReviewVersions: [v1]
`, namespace, group, server.URL, base64.StdEncoding.EncodeToString(authority))
	widget := fmt.Sprintf("---\n{apiVersion: %s/v1, kind: Widget, metadata: {name: one}}\n", group)
	crd := fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.%[1]s}
spec:
  group: %[1]s
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`, group)
	desired := Desired{Objects: parse(t, webhook+widget+crd)}
	deploy(t, releases, namespace, "app", desired)
	if calls.Load() < 3 {
		t.Errorf("the webhook was called %d times", calls.Load())
	}

	// One of somebody else is not waited for.
	calls.Store(-1000)
	other := Desired{Objects: parse(t, strings.Replace(widget, "name: one", "name: two", 1))}
	err := open(t, releases, namespace, "other").Deploy(t.Context(), other)
	if brokenWebhook(err) != "widgets."+group || calls.Load() != -999 {
		t.Errorf("after %d calls: %v", calls.Load()+1000, err)
	}
	calls.Store(2)
	if _, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{DeleteCRDs: true}); err != nil {
		t.Fatal(err)
	}
}

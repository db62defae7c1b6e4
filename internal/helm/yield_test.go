package helm

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// TestAccWritesYieldToOtherOwners has other managers change what a chart sets, as a mesh and a cloud do, and expects
// upgrades and rollbacks to leave their changes and nothing else.
func TestAccWritesYieldToOtherOwners(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	namespace := shared.Cluster(t).Namespace(t)
	webhook := "webhook-" + namespace
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"templates/all.yaml": `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ` + webhook + `}
webhooks:
- name: one.example.com
  clientConfig: {service: {name: none, namespace: {{ .Release.Namespace }}, path: "/{{ .Values.data }}"}}
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchExpressions: [{key: example.com/none, operator: Exists}]}
  rules: [{apiGroups: [example.invalid], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one, labels: {data: {{ .Values.data }}}}
spec:
  replicas: 1
  selector: {matchLabels: {app: one}}
  template:
    metadata: {labels: {app: one}}
    spec: {containers: [{name: main, image: registry.invalid/one}]}
`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	request := DeployRequest{Namespace: namespace, Name: "control", Chart: loaded, Values: map[string]any{"data": "first"}}
	request.Yield = func(live, wanted *unstructured.Unstructured) error {
		switch wanted.GetKind() {
		case "ValidatingWebhookConfiguration":
			from, to := first(t, live), first(t, wanted)
			for _, path := range [][]string{
				{"clientConfig", "caBundle"}, {"failurePolicy"}, {"namespaceSelector", "matchExpressions"},
			} {
				if value, set, err := unstructured.NestedFieldCopy(from, path...); err != nil || set && unstructured.SetNestedField(to, value, path...) != nil {
					t.Errorf("%v of %v", path, from)
				}
			}
			if err := unstructured.SetNestedSlice(wanted.Object, []any{to}, "webhooks"); err != nil {
				t.Error(err)
			}
		case "Deployment":
			replicas, _, err := unstructured.NestedInt64(live.Object, "spec", "replicas")
			if err != nil || unstructured.SetNestedField(wanted.Object, replicas, "spec", "replicas") != nil {
				t.Errorf("replicas: %v", err)
			}
		}
		return nil
	}
	if _, err := releases.Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	webhooks := objectsOf(t, cluster, "admissionregistration.k8s.io", "validatingwebhookconfigurations")
	deployments := objectsOf(t, cluster, "apps", "deployments").Namespace(namespace)
	enforced := map[string]any{"key": "control-plane", "operator": "DoesNotExist"}
	for manager, patch := range map[string]string{
		"pilot-discovery":    `{"webhooks": [{"name": "one.example.com", "failurePolicy": "Fail", "clientConfig": {"caBundle": "LS0t"}}]}`,
		"admissionsenforcer": `{"webhooks": [{"name": "one.example.com", "namespaceSelector": {"matchExpressions": [{"key": "example.com/none", "operator": "Exists"}, {"key": "control-plane", "operator": "DoesNotExist"}]}}]}`,
		"somebody":           `{"webhooks": [{"name": "one.example.com", "timeoutSeconds": 7, "sideEffects": "NoneOnDryRun"}]}`,
	} {
		patchAs(t, webhooks, webhook, types.StrategicMergePatchType, patch, manager)
	}
	patchAs(t, deployments, "one", types.MergePatchType, `{"spec": {"replicas": 3}}`, "kube-controller-manager")

	check := func(step, data string) {
		t.Helper()
		found, err := webhooks.Get(t.Context(), webhook, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		only := first(t, found)
		bundle, _, _ := unstructured.NestedString(only, "clientConfig", "caBundle")
		path, _, _ := unstructured.NestedString(only, "clientConfig", "service", "path")
		expressions, _, _ := unstructured.NestedSlice(only, "namespaceSelector", "matchExpressions")
		if bundle != "LS0t" || only["failurePolicy"] != "Fail" || len(expressions) != 2 || !reflect.DeepEqual(expressions[1], enforced) {
			t.Errorf("%s did not leave what others own: %v", step, only)
		}
		// What nobody was yielded is the chart's again, and what the chart does not set is nobody's concern.
		if path != "/"+data || only["sideEffects"] != "None" || only["timeoutSeconds"] != int64(7) {
			t.Errorf("%s did not write what is its own: %v", step, only)
		}
		for _, entry := range found.GetManagedFields() {
			if entry.Manager == fieldManager && strings.Contains(entry.FieldsV1.GetRawString(), "caBundle") {
				t.Errorf("%s adopted caBundle", step)
			}
		}
		one, err := deployments.Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if replicas, _, _ := unstructured.NestedInt64(one.Object, "spec", "replicas"); replicas != 3 || one.GetLabels()["data"] != data {
			t.Errorf("%s left %d replicas and the labels %v", step, replicas, one.GetLabels())
		}
	}
	request.Values = map[string]any{"data": "second"}
	if _, err := releases.Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	check("the upgrade", "second")
	patchAs(t, webhooks, webhook, types.StrategicMergePatchType, `{"webhooks": [{"name": "one.example.com", "sideEffects": "NoneOnDryRun"}]}`, "somebody")
	back, err := releases.Rollback(t.Context(), RollbackRequest{Namespace: namespace, Name: "control", Revision: 1, Yield: request.Yield})
	if err != nil || back.Revision != 3 || back.Status != StatusDeployed {
		t.Fatalf("rolled back to %+v, %v", back, err)
	}
	check("the rollback", "first")
	if err := releases.Uninstall(t.Context(), namespace, "control", UninstallOptions{}); err != nil {
		t.Error(err)
	}
}

func first(t *testing.T, configuration *unstructured.Unstructured) map[string]any {
	t.Helper()
	list, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil || len(list) != 1 {
		t.Fatalf("webhooks %v, %v", list, err)
	}
	only, ok := list[0].(map[string]any)
	if !ok {
		t.Fatalf("webhooks %v", list)
	}
	return only
}

func patchAs(t *testing.T, objects dynamic.ResourceInterface, name string, kind types.PatchType, patch, manager string) {
	t.Helper()
	if _, err := objects.Patch(t.Context(), name, kind, []byte(patch), metav1.PatchOptions{FieldManager: manager}); err != nil {
		t.Fatal(err)
	}
}

package istio_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
)

const (
	redirection = "ambient.istio.io/redirection"
	modeLabel   = "istio.io/dataplane-mode"
)

// label sets the mode label of a namespace to value, a word in JSON.
func (w world) label(namespace, value string) {
	w.Helper()
	patch := []byte(`{"metadata": {"labels": {"` + modeLabel + `": ` + value + `}}}`)
	_, err := w.Client.CoreV1().Namespaces().Patch(w.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// redirected waits until the one pod of each app has the state, empty for none.
func (w world) redirected(namespace string, want map[string]string) {
	w.Helper()
	for app, state := range want {
		w.Eventually("pod "+app+" of namespace "+namespace+" has redirection "+state, func(ctx context.Context) (bool, error) {
			pods, err := w.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
			return err == nil && len(pods.Items) == 1 && pods.Items[0].Annotations[redirection] == state, err
		})
	}
}

// TestAmbient takes one cluster through the ambient mode.
func TestAmbient(t *testing.T) {
	t.Parallel()
	w := start(t)
	ambient := map[string]any{"profile": "ambient"}
	w.Namespace(system, nil, nil)
	w.Install("base", istio.Version, "istio-base", system, ambient)
	w.Install("istiod", istio.Version, "istiod", system, ambient)
	w.RolledOut(system, "istiod")

	const namespace = "app"
	w.Namespace(namespace, map[string]string{modeLabel: "ambient"}, nil)
	w.Deploy(namespace, "plain", nil)
	w.Deploy(namespace, "opted-out", map[string]string{modeLabel: "none"})
	// Until there is an agent nothing is enrolled, so the order below shows
	// that agents see to pods that are older.
	w.redirected(namespace, map[string]string{"plain": ""})

	w.run("waits for ztunnel", func(w world) {
		w.Install("cni", istio.Version, "istio-cni", system, ambient)
		w.redirected(namespace, map[string]string{"plain": "pending", "opted-out": ""})
		w.Install("ztunnel", istio.Version, "ztunnel", system, nil)
		w.redirected(namespace, map[string]string{"plain": "enabled", "opted-out": ""})
	})

	w.run("leaves out what it cannot redirect", func(w world) {
		if _, err := w.Client.CoreV1().Pods(namespace).Create(w.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "host", Labels: map[string]string{"app": "host"}},
			Spec:       corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}}},
		}, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
		w.Deploy(namespace, "sidecar", map[string]string{"sidecar.istio.io/inject": "true"})
		w.Deploy(namespace, "later", nil)
		w.redirected(namespace, map[string]string{"later": "enabled"})
		w.redirected(namespace, map[string]string{"host": "", "sidecar": "", "opted-out": ""})
	})

	w.run("takes pods by their own label", func(w world) {
		w.Namespace("single", nil, nil)
		w.Deploy("single", "labelled", map[string]string{modeLabel: "ambient"})
		w.Deploy("single", "other", nil)
		w.redirected("single", map[string]string{"labelled": "enabled"})
		w.redirected("single", map[string]string{"other": ""})
	})

	w.run("lets go of a namespace", func(w world) {
		w.label(namespace, `null`)
		w.redirected(namespace, map[string]string{"plain": "", "later": ""})
		w.label(namespace, `"ambient"`)
		w.redirected(namespace, map[string]string{"plain": "enabled", "later": "enabled"})
	})

	w.run("enrols nothing without agents", func(w world) {
		if err := w.Client.AppsV1().DaemonSets(system).Delete(w.Context(), "istio-cni-node", metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.Eventually("the agents are gone", func(ctx context.Context) (bool, error) {
			pods, err := w.Client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=istio-cni-node"})
			return err == nil && len(pods.Items) == 0, err
		})
		w.Deploy(namespace, "orphan", nil)
		w.redirected(namespace, map[string]string{"plain": "enabled", "orphan": ""})
	})
}

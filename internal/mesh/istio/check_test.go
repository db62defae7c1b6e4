package istio

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check/checktest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// A checkWorld is a cluster with a healthy Istio and pods with sidecars.
type checkWorld struct {
	*checktest.API

	now    time.Time
	anchor *pki.KeyPair
}

// must returns a value that a test has made up, and so is sure of.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func named(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
}

func newCheckWorld(pods int) *checkWorld {
	now := time.Now()
	w := &checkWorld{API: checktest.New(), now: now, anchor: must(pki.NewAnchor(pki.AuthorityOptions{Now: now}))}
	bundle := pki.NewBundle(w.anchor.Certificate())
	w.Put(kube.Node, &corev1.Node{ObjectMeta: named("", "one", map[string]string{corev1.LabelOSStable: "linux"}), Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(now)}},
	}})
	w.Name(kube.Namespace, "", "default", "istio-system")
	w.Put(kube.Namespace, &corev1.Namespace{ObjectMeta: named("", "shop", map[string]string{injectionLabel: enabled})})
	w.Name(kube.CustomResourceDefinition, "", crds()...)
	w.Name(kube.Service, "istio-system", "istiod")
	w.Name(kube.StatefulSet, "")
	w.Name(kube.DaemonSet, "")
	w.issue(pki.AuthorityOptions{Now: now})
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: named("istio-system", rootConfigMap, nil), Data: map[string]string{rootCertFile: string(bundle.PEM())}})
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: named("istio-system", injectorConfigMap, nil), Data: map[string]string{
		"values": `{"global":{"hub":"registry.istio.io/release","tag":"1.31.0","proxy":{"image":"proxyv2","statusPort":15020}}}`,
		"config": "policy: enabled",
	}})
	replicas := int32(1)
	w.Put(kube.Deployment, &appsv1.Deployment{
		ObjectMeta: named("istio-system", "istiod", nil),
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{}, Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: "registry.istio.io/release/pilot:1.31.0"}}},
		}},
		Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
	})
	for kind, app := range map[kube.Kind]string{kube.MutatingWebhookConfiguration: "sidecar-injector", kube.ValidatingWebhookConfiguration: "istiod"} {
		w.Put(kind, map[string]any{
			"metadata": map[string]any{"name": "istio", "labels": map[string]any{"app": app, revisionLabel: defaultRevision}},
			"webhooks": []any{map[string]any{
				"name": "one.istio.io", "failurePolicy": "Fail",
				"namespaceSelector": map[string]any{"matchLabels": map[string]any{injectionLabel: enabled}},
				"clientConfig": map[string]any{
					"caBundle": base64.StdEncoding.EncodeToString(bundle.PEM()), "service": map[string]any{"namespace": "istio-system", "name": "istiod"},
				},
			}},
		})
	}
	for i := range pods {
		w.pod(fmt.Sprintf("web-%d", i))
	}
	return w
}

// issue gives istiod a CA.
func (w *checkWorld) issue(options pki.AuthorityOptions) {
	data := must(CACertsSecretData(must(pki.NewIssuer(w.anchor, options)), pki.NewBundle(w.anchor.Certificate())))
	w.Put(kube.Secret, &corev1.Secret{ObjectMeta: named("istio-system", CACertsSecret, nil), Data: data})
}

// pod makes a pod with a sidecar that is ready.
func (w *checkWorld) pod(name string) {
	w.Put(kube.Pod, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{statusAnnotation: `{"revision":"default"}`}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "main", Image: "web"}, {Name: proxyContainer, Image: "registry.istio.io/release/proxyv2:1.31.0"},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: proxyContainer, Ready: true}}},
	})
}

// ztunnel makes the pod of a node's, which is not ready.
func (w *checkWorld) ztunnel() {
	w.Put(kube.Pod, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "ztunnel-1", Labels: map[string]string{"app": "ztunnel"}, Annotations: map[string]string{revisionLabel: defaultRevision}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: proxyContainer, Image: "registry.istio.io/release/ztunnel:1.28.0"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	})
}

// gateway makes a Deployment that leaves the image of its proxy to injection.
func (w *checkWorld) gateway(namespace string) {
	w.Put(kube.Deployment, &appsv1.Deployment{
		ObjectMeta: named(namespace, "gateway", nil),
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{}, Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: proxyContainer, Image: autoImage}}},
		}},
	})
}

// gatewayAPI makes a CRD of the Gateway API that serves a version.
func (w *checkWorld) gatewayAPI(resource, version string) {
	w.Put(kube.CustomResourceDefinition, map[string]any{
		"metadata": map[string]any{"name": resource + ".gateway.networking.k8s.io"},
		"spec":     map[string]any{"versions": []any{map[string]any{"name": version, "served": true}}},
	})
}

// image gives the proxy of one pod another image.
func (w *checkWorld) image(image string) {
	w.change(kube.Pod, "shop", "web-1", []any{map[string]any{"name": "main", "image": "web"}, map[string]any{"name": proxyContainer, "image": image}}, "spec", "containers")
}

// agent makes a DaemonSet of the nodes' agents.
func (w *checkWorld) agent(name, label, image string, ready int64) {
	labels := map[string]any{label: name}
	w.Put(kube.DaemonSet, map[string]any{
		"metadata": map[string]any{"namespace": "istio-system", "name": name},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{map[string]any{"name": "agent", "image": image}}}},
		},
		"status": map[string]any{"desiredNumberScheduled": int64(2), "currentNumberScheduled": int64(2), "updatedNumberScheduled": int64(2), "numberReady": ready, "numberAvailable": ready},
	})
}

func (w *checkWorld) change(kind kube.Kind, namespace, name string, value any, fields ...string) {
	w.Change(kube.Ref{Kind: kind, Namespace: namespace, Name: name}, func(content map[string]any) {
		if err := unstructured.SetNestedField(content, value, fields...); err != nil {
			panic(err)
		}
	})
}

// webhook changes the only webhook of a configuration.
func (w *checkWorld) webhook(kind kube.Kind, value any, fields ...string) {
	w.Change(kube.Ref{Kind: kind, Name: "istio"}, func(content map[string]any) {
		webhooks, _, _ := unstructured.NestedSlice(content, "webhooks")
		one, _ := webhooks[0].(map[string]any)
		if err := unstructured.SetNestedField(one, value, fields...); err != nil {
			panic(err)
		}
		content["webhooks"] = []any{one}
	})
}

func (w *checkWorld) drop(kind kube.Kind, namespace, name string) {
	w.Drop(kube.Ref{Kind: kind, Namespace: namespace, Name: name})
}

// all makes all checks that there are.
func (w *checkWorld) all(t testing.TB) []check.Outcome {
	t.Helper()
	h := Health{Cluster: w.Connect(t), Namespace: "istio-system", Early: pki.DefaultEarlyRenewal, Now: w.now}
	var all []check.Outcome
	for _, checks := range [][]check.Check{PreChecks(h.Cluster, Specification{Plane: Plane{Namespace: h.Namespace}, Now: w.now}, nil), h.ControlPlane(), h.DataPlane()} {
		outcomes, err := check.Run(t.Context(), checks)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, outcomes...)
	}
	return all
}

func TestHealthOfManyPods(t *testing.T) {
	t.Parallel()
	w := newCheckWorld(1000)
	for _, o := range w.all(t) {
		if o.Result == check.Error || o.Result == check.Warning {
			t.Errorf("%s %s (%s): %s", o.Result, o.ID, o.Description, o.Message())
		}
	}
	if requests := w.Requests(); len(requests) >= 30 {
		t.Errorf("%d requests, want less than 30:\n%s", len(requests), strings.Join(requests, "\n"))
	}
}

// Without rights there is nothing to find out, and nothing is wrong by that.
func TestHealthWithoutRights(t *testing.T) {
	t.Parallel()
	w := newCheckWorld(3)
	w.Forbidden = func(string) bool { return true }
	for _, o := range w.all(t) {
		if o.Result == check.Error || o.Result == check.Warning {
			t.Errorf("%s %s (%s): %s", o.Result, o.ID, o.Description, o.Message())
		}
	}
}

func TestHealthTells(t *testing.T) {
	t.Parallel()
	const mutating = "MutatingWebhookConfiguration istio"
	for _, test := range []struct {
		name   string
		change func(*checkWorld)
		id     string
		result check.Result
		want   string
	}{
		{"an old API server", func(w *checkWorld) { w.Version = "v1.20.4" }, "precheck-version", check.Error, "v1.20.4"},
		{"an API server that is old for the newest Istio", func(w *checkWorld) { w.Version = "v1.30.1" }, "IST0142", check.Warning, "v1.30.1"},
		{"no rights", func(w *checkWorld) { w.Denied = func(r string) bool { return r == "daemonsets" } }, "IST0141", check.Error, "create DaemonSet in namespace istio-system"},
		{"a leftover", func(w *checkWorld) { w.drop(kube.Service, "istio-system", "istiod") }, "IST0139", check.Warning, mutating + " calls Service istio-system/istiod"},
		{"an Istio of AKS's", func(w *checkWorld) {
			w.webhook(kube.MutatingWebhookConfiguration, check.AddonNamespace, "clientConfig", "service", "namespace")
		}, "precheck-aks-addon", check.Error, mutating},
		{"Linkerd", func(w *checkWorld) {
			w.Name(kube.MutatingWebhookConfiguration, "", "linkerd-proxy-injector-webhook-config")
		}, "precheck-other-mesh", check.Warning, "Linkerd by"},
		{"no istiod's webhook", func(w *checkWorld) { w.drop(kube.MutatingWebhookConfiguration, "", "istio") }, "istiod-exists", check.Error, "istio-system"},
		{"a CRD is missing", func(w *checkWorld) { w.drop(kube.CustomResourceDefinition, "", "sidecars.networking.istio.io") }, "istio-crds", check.Error, "sidecars.networking.istio.io"},
		{"no istiod", func(w *checkWorld) { w.drop(kube.Deployment, "istio-system", "istiod") }, "istiod-ready", check.Error, "Deployment istio-system/istiod is missing"},
		{"an istiod that is not available", func(w *checkWorld) {
			w.change(kube.Deployment, "istio-system", "istiod", int64(0), "status", "availableReplicas")
		}, "istio-webhook-ca", check.Error, "istio-system/istiod"},
		{"no CA bundle", func(w *checkWorld) { w.webhook(kube.MutatingWebhookConfiguration, "", "clientConfig", "caBundle") }, "istio-webhook-ca-valid", check.Error, mutating + " (one.istio.io) has no CA bundle"},
		{"an expired CA bundle", func(w *checkWorld) { w.now = w.now.Add(20 * 365 * 24 * time.Hour) }, "istio-webhook-ca-valid", check.Error, "accepts expired certificates only"},
		{"nothing is validated", func(w *checkWorld) { w.webhook(kube.ValidatingWebhookConfiguration, "Ignore", "failurePolicy") }, "istio-validation", check.Warning, "ValidatingWebhookConfiguration istio"},
		{"an agent that is not ready", func(w *checkWorld) { w.agent(ztunnel, "app", "ztunnel:1.31.0", 1) }, "ztunnel-ready", check.Error, "istio-system/ztunnel"},
		{"an agent that is", func(w *checkWorld) { w.agent(cniNode, cniAppLabel, "install-cni:1.31.0", 2) }, "istio-cni-ready", check.Success, ""},
		{"an old agent", func(w *checkWorld) { w.agent(ztunnel, "app", "ztunnel:1.28.0", 2) }, "istio-versions", check.Warning, "istio-system/ztunnel is of 1.28.0"},
		{"no image", func(w *checkWorld) { w.image("auto") }, "IST0147", check.Error, "Pod shop/web-1"},
		{"no injection of a gateway", func(w *checkWorld) { w.gateway("default") }, "IST0146", check.Warning, "Deployment default/gateway"},
		{"injection of a gateway", func(w *checkWorld) { w.gateway("shop") }, "IST0146", check.Success, ""},
		{"an old Gateway API", func(w *checkWorld) { w.gatewayAPI("referencegrants", "v1alpha2") }, "IST0156", check.Error, "CustomResourceDefinition referencegrants.gateway.networking.k8s.io"},
		{"a Gateway API that is old soon", func(w *checkWorld) { w.gatewayAPI("grpcroutes", "v1alpha2") }, "IST0172", check.Warning, "CustomResourceDefinition grpcroutes.gateway.networking.k8s.io"},
		{"a Gateway API", func(w *checkWorld) { w.gatewayAPI("tcproutes", "v1alpha2") }, "IST0156", check.Success, ""},
		{"a ztunnel, which is no sidecar", func(w *checkWorld) { w.ztunnel() }, "istio-proxies-ready", check.Success, ""},
		{"half a CA", func(w *checkWorld) {
			w.change(kube.Secret, "istio-system", CACertsSecret, map[string]any{caCertFile: "eA=="}, "data")
		}, "istio-ca-valid", check.Error, "is missing"},
		{"an expired CA", func(w *checkWorld) {
			w.issue(pki.AuthorityOptions{Now: w.now, Validity: time.Hour})
			w.now = w.now.Add(2 * time.Hour)
		}, "istio-ca-valid", check.Error, "expired"},
		{"a CA that ends soon", func(w *checkWorld) { w.issue(pki.AuthorityOptions{Now: w.now, Validity: time.Hour}) }, "istio-ca-not-expiring-soon", check.Warning, "valid only until"},
		{"a CA from elsewhere", func(w *checkWorld) { w.drop(kube.Secret, "istio-system", CACertsSecret) }, "istio-ca-valid", check.Skipped, "elsewhere"},
		{"a CA that istiod has made", func(w *checkWorld) {
			w.drop(kube.Secret, "istio-system", CACertsSecret)
			w.Put(kube.Secret, &corev1.Secret{ObjectMeta: named("istio-system", selfSignedSecret, nil), Data: map[string][]byte{caCertFile: w.anchor.CertificatePEM()}})
		}, "istio-roots-published", check.Success, ""},
		{"roots of before", func(w *checkWorld) {
			w.anchor = must(pki.NewAnchor(pki.AuthorityOptions{Now: w.now}))
			w.issue(pki.AuthorityOptions{Now: w.now})
		}, "istio-roots-published", check.Error, "restart it"},
		{"a proxy that is not ready", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", []any{}, "status", "containerStatuses")
		}, "istio-proxies-ready", check.Error, "Pod shop/web-1"},
		{"a very old proxy", func(w *checkWorld) { w.image("registry.istio.io/release/proxyv2:1.28.3") }, "istio-proxies-version", check.Error, "Pod shop/web-1 (1.28.3"},
		{"a proxy of nobody", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", `{"revision":"canary"}`, "metadata", "annotations", statusAnnotation)
		}, "istio-proxies-revision", check.Error, "Pod shop/web-1 (canary)"},
		{"an old proxy", func(w *checkWorld) { w.image("registry.istio.io/release/proxyv2:1.30.2") }, "IST0158", check.Warning, "proxyv2:1.30.2 instead of"},
		{"a variant of the image", func(w *checkWorld) { w.image("registry.istio.io/release/proxyv2:1.31.0-distroless") }, "IST0158", check.Success, ""},
		{"no proxy", func(w *checkWorld) {
			w.Put(kube.Pod, &corev1.Pod{ObjectMeta: named("shop", "bare", nil), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}}})
		}, "IST0103", check.Warning, "Pod shop/bare"},
		{"two injectors", func(w *checkWorld) {
			w.change(kube.Namespace, "", "shop", "canary", "metadata", "labels", revisionLabel)
		}, "IST0123", check.Warning, "Namespace shop"},
		{"a revision that is not there", func(w *checkWorld) {
			w.change(kube.Namespace, "", "default", "canary", "metadata", "labels", revisionLabel)
		}, "istio-namespaces-revision", check.Error, "Namespace default (istio.io/rev=canary)"},
		{"a setting as a label", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", "1", "metadata", "labels", "sidecar.istio.io/proxyCPU")
		}, "IST0107", check.Warning, "Pod shop/web-1"},
		{"the user of the proxy", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", int64(1337), "spec", "securityContext", "runAsUser")
		}, "IST0144", check.Warning, "container main of Pod shop/web-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newCheckWorld(3)
			test.change(w)
			var found []string
			if !slices.ContainsFunc(w.all(t), func(o check.Outcome) bool {
				if o.ID == test.id {
					found = append(found, fmt.Sprintf("%s: %s", o.Result, o.Message()))
				}
				return o.ID == test.id && o.Result == test.result && strings.Contains(o.Message(), test.want)
			}) {
				t.Errorf("%s ended in %q, want %s: %s", test.id, found, test.result, test.want)
			}
		})
	}
}

// TestPreChecksWithPlugin holds that nobody hears of init containers who has
// istio-cni do their work.
func TestPreChecksWithPlugin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		specification Specification
		asks          bool
	}{
		"sidecars":     {asks: true},
		"with the CNI": {specification: Specification{CNI: true}},
		"ambient mode": {specification: Specification{Profile: ProfileAmbient}},
	} {
		checks := PreChecks(nil, test.specification, nil)
		if slices.ContainsFunc(checks, func(c check.Check) bool { return c.ID == "precheck-redirection-admitted" }) != test.asks {
			t.Errorf("%s: asked, or not asked, of init containers", name)
		}
	}
}

package linkerd

import (
	"encoding/base64"
	"fmt"
	"maps"
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

// A checkWorld is a cluster with a healthy Linkerd, its extensions viz and
// multicluster, and meshed pods.
type checkWorld struct {
	*checktest.API

	now    time.Time
	anchor *pki.KeyPair
}

const checkedVersion = "edge-26.6.3"

// must returns a value that a test has made up, and so is sure of.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func meta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
}

// chartNames are the names of the objects without namespaces that checks ask for,
// with all others of their kinds, as the charts linkerd-control-plane, linkerd-viz
// (both of edge-26.8.3) and linkerd2-cni give them.
func chartNames() map[kube.Kind][]string {
	return map[kube.Kind][]string{
		kube.ClusterRole: {
			"linkerd-linkerd-destination", "linkerd-policy", "linkerd-heartbeat", "linkerd-linkerd-identity", "linkerd-linkerd-proxy-injector",
			"linkerd-linkerd-viz-metrics-api", "linkerd-linkerd-viz-prometheus", "linkerd-tap-injector", "linkerd-linkerd-viz-tap", "linkerd-linkerd-viz-tap-admin",
			"linkerd-linkerd-viz-web-check", "linkerd-linkerd-viz-web-api", cniName,
		},
		kube.ClusterRoleBinding: {
			"linkerd-linkerd-destination", "linkerd-destination-policy", "linkerd-heartbeat", "linkerd-linkerd-identity", "linkerd-linkerd-proxy-injector",
			"linkerd-linkerd-viz-metrics-api", "linkerd-linkerd-viz-prometheus", "linkerd-tap-injector", "linkerd-linkerd-viz-tap", "linkerd-linkerd-viz-tap-auth-delegator",
			"linkerd-linkerd-viz-web-check", "linkerd-linkerd-viz-web-admin", "linkerd-linkerd-viz-web-api", cniName,
		},
	}
}

// TestServersOfCharts holds what is looked at of servers against the names in the
// charts of edge-26.8.3.
func TestServersOfCharts(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		proxyInjector:   {"Secret linkerd/linkerd-proxy-injector-k8s-tls", "MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config"},
		spValidator:     {"Secret linkerd/linkerd-sp-validator-k8s-tls", "ValidatingWebhookConfiguration linkerd-sp-validator-webhook-config"},
		policyValidator: {"Secret linkerd/linkerd-policy-validator-k8s-tls", "ValidatingWebhookConfiguration linkerd-policy-validator-webhook-config"},
		"tap":           {"Secret linkerd-viz/tap-k8s-tls", "APIService v1alpha1.tap.linkerd.io"},
		"tap-injector":  {"Secret linkerd-viz/tap-injector-k8s-tls", "MutatingWebhookConfiguration linkerd-tap-injector-webhook-config"},
	}
	got := map[string][]string{}
	for _, s := range slices.Concat(controlPlaneServers("linkerd"), vizServers("linkerd-viz")) {
		got[s.name] = []string{s.secretRef().String(), s.registration.String()}
	}
	if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("servers are known as %v, want %v", got, want)
	}
}

// Where the tests have the chart linkerd2-cni, and what it calls its objects.
const cniNamespace, cniName = "linkerd-cni", "linkerd-cni"

// cni makes the DaemonSet of the CNI plugin for one node, with that many pods that
// are ready.
func (w *checkWorld) cni(ready int32) {
	w.Put(kube.DaemonSet, &appsv1.DaemonSet{
		ObjectMeta: meta(cniNamespace, cniName, nil), Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{}},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, CurrentNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberReady: ready, NumberAvailable: ready},
	})
}

// newCheckWorld makes the world with some pods in the data plane.
func newCheckWorld(pods int) *checkWorld {
	now := time.Now()
	w := &checkWorld{API: checktest.New(), now: now}
	w.anchor = must(pki.NewAnchor(pki.AuthorityOptions{Now: now}))
	issuer := must(pki.NewIssuer(w.anchor, pki.AuthorityOptions{Now: now}))
	bundle := pki.NewBundle(w.anchor.Certificate())

	w.Put(kube.Node, &corev1.Node{ObjectMeta: meta("", "one", map[string]string{corev1.LabelOSStable: "linux"}), Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.0.0/24"}}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(now)}},
	}})
	for name, extension := range map[string]string{"default": "", "kube-system": "", "linkerd": "", "shop": "", cniNamespace: "", "linkerd-viz": "viz", "linkerd-multicluster": "multicluster"} {
		labels := map[string]string{}
		if extension != "" {
			labels[extensionLabel] = extension
		}
		w.Put(kube.Namespace, &corev1.Namespace{ObjectMeta: meta("", name, labels)})
	}
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta("kube-system", "extension-apiserver-authentication", nil), Data: map[string]string{"requestheader-client-ca-file": "pem"}})
	w.configure("")
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta("linkerd", "linkerd-identity-trust-roots", nil), Data: map[string]string{TrustRootsKey: string(bundle.PEM())}})
	w.Put(kube.Secret, &corev1.Secret{ObjectMeta: meta("linkerd", IssuerSecret, nil), Data: must(IssuerSecretData(issuer, bundle))})
	for kind, names := range chartNames() {
		w.Name(kind, "", names...)
	}
	w.Name(kube.ServiceAccount, "linkerd", "linkerd-destination", "linkerd-identity", "linkerd-proxy-injector", "linkerd-heartbeat")
	w.Name(kube.ServiceAccount, cniNamespace, cniName)
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta(cniNamespace, "linkerd-cni-config", nil)})
	w.cni(1)
	for _, name := range []string{
		"serviceprofiles.linkerd.io", "servers.policy.linkerd.io", "serverauthorizations.policy.linkerd.io", "authorizationpolicies.policy.linkerd.io",
		"meshtlsauthentications.policy.linkerd.io", "networkauthentications.policy.linkerd.io", "httproutes.policy.linkerd.io",
		"externalworkloads.workload.linkerd.io", "egressnetworks.policy.linkerd.io", "httplocalratelimitpolicies.policy.linkerd.io",
	} {
		w.Name(kube.CustomResourceDefinition, "", name)
	}
	for name, version := range map[string]string{"httproutes.gateway.networking.k8s.io": "v1", linkCRD: "v1alpha3"} {
		w.Put(kube.CustomResourceDefinition, map[string]any{
			"metadata": map[string]any{"name": name},
			"spec":     map[string]any{"versions": []any{map[string]any{"name": version, "served": true}}},
		})
	}
	for _, s := range slices.Concat(controlPlaneServers("linkerd"), vizServers("linkerd-viz")) {
		w.serve(s, pki.ServingOptions{DNSName: s.dnsName(), Now: now})
	}
	for i, component := range components() {
		replicas := int32(1)
		w.Put(kube.Deployment, &appsv1.Deployment{
			ObjectMeta: meta("linkerd", "linkerd-"+component, nil), Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{}},
			Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
		})
		w.pod("linkerd", "linkerd-"+component, i, map[string]string{componentLabel: component})
	}
	for i, component := range []string{"metrics-api", "prometheus", "tap", "tap-injector", "web"} {
		w.pod("linkerd-viz", component, 10+i, map[string]string{"component": component})
	}
	w.Put(kube.Service, &corev1.Service{ObjectMeta: meta("shop", "web", nil), Spec: corev1.ServiceSpec{
		ClusterIPs: []string{"10.0.0.10"}, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 3306}},
	}})
	for i := range pods {
		w.pod("shop", fmt.Sprintf("web-%d", i), 20+i, map[string]string{"app": "web"})
	}
	w.link()
	return w
}

// link links another cluster, from which one service is mirrored.
func (w *checkWorld) link() {
	w.Put(linkKind(), map[string]any{
		"metadata": map[string]any{"namespace": "linkerd-multicluster", "name": "east"},
		"spec":     map[string]any{"targetClusterName": "east", "clusterCredentialsSecret": "cluster-credentials-east"},
	})
	w.pod("linkerd-multicluster", "controller-east", 5, map[string]string{clusterLabel: "east"})
	w.Put(kube.ClusterRoleBinding, map[string]any{
		"metadata": map[string]any{"name": "mirror"}, "subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": "linkerd-multicluster", "name": "default"}},
	})
	w.Put(kube.Service, &corev1.Service{ObjectMeta: meta("shop", "web-east", map[string]string{mirroredLabel: "true", clusterLabel: "east"})})
	w.Put(kube.Service, &corev1.Service{ObjectMeta: meta("linkerd-multicluster", "probe-gateway-east", map[string]string{gatewayLabel: "true", clusterLabel: "east"})})
	for namespace, service := range map[string]string{"shop": "web-east", "linkerd-multicluster": "probe-gateway-east"} {
		w.Put(endpointSlice, map[string]any{
			"metadata":  map[string]any{"namespace": namespace, "name": service, "labels": map[string]any{"kubernetes.io/service-name": service}},
			"endpoints": []any{map[string]any{"addresses": []any{"20.0.0.1"}}},
		})
	}
}

func linkKind() kube.Kind {
	return kube.Kind{Group: "multicluster.linkerd.io", Version: "v1alpha3", Resource: "links", Name: "Link", Namespaced: true}
}

// configure records values of the control plane, in YAML, beside its version.
func (w *checkWorld) configure(values string) {
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta("linkerd", "linkerd-config", nil), Data: map[string]string{"values": "linkerdVersion: " + checkedVersion + "\n" + values}})
}

// serve gives a server a certificate, and has the API server accept it.
func (w *checkWorld) serve(s server, options pki.ServingOptions) {
	pair := must(pki.NewServingCertificate(options))
	w.Put(kube.Secret, &corev1.Secret{ObjectMeta: meta(s.namespace, s.secretRef().Name, nil), Data: map[string][]byte{
		corev1.TLSCertKey: pair.CertificatePEM(), corev1.TLSPrivateKeyKey: must(pair.KeyPEM()),
	}})
	config := map[string]any{"caBundle": base64.StdEncoding.EncodeToString(pair.CertificatePEM()), "service": map[string]any{"namespace": s.namespace, "name": s.name}}
	content := map[string]any{"metadata": map[string]any{"name": s.registration.Name}}
	if s.registration.Kind == kube.APIService {
		content["spec"] = config
		content["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Available", "status": "True"}}}
	} else {
		content["webhooks"] = []any{map[string]any{"name": "one.linkerd.io", "clientConfig": config}}
	}
	w.Put(s.registration.Kind, content)
}

// pod makes a meshed pod that is ready.
func (w *checkWorld) pod(namespace, name string, number int, labels map[string]string) {
	labels = maps.Clone(labels)
	labels[controlPlaneLabel] = "linkerd"
	w.Put(kube.Pod, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: map[string]string{proxyVersionAnnotation: checkedVersion}},
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{ContainerPort: 3306}}}, {
			Name: ProxyContainer, Image: "cr.l5d.io/linkerd/proxy:" + checkedVersion,
			Env: []corev1.EnvVar{{Name: anchorsVariable, Value: string(pki.NewBundle(w.anchor.Certificate()).PEM())}},
		}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.244.%d.%d", number/250, number%250)}},
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: ProxyContainer, Ready: true}},
		},
	})
}

// change changes fields of an object.
func (w *checkWorld) change(kind kube.Kind, namespace, name string, value any, fields ...string) {
	w.Change(kube.Ref{Kind: kind, Namespace: namespace, Name: name}, func(content map[string]any) {
		if err := unstructured.SetNestedField(content, value, fields...); err != nil {
			panic(err)
		}
	})
}

func (w *checkWorld) drop(kind kube.Kind, namespace, name string) {
	w.Drop(kube.Ref{Kind: kind, Namespace: namespace, Name: name})
}

// all makes all checks that there are, but for that of a vacant namespace.
func (w *checkWorld) all(t testing.TB) []check.Outcome {
	t.Helper()
	h := Health{Cluster: w.Connect(t), Namespace: "linkerd", Early: pki.DefaultEarlyRenewal, Now: w.now}
	var all []check.Outcome
	for _, checks := range [][]check.Check{PreChecks(h.Cluster, "linkerd", false, w.now, nil), h.ControlPlane(), h.DataPlane(), h.Viz(), h.Multicluster()} {
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

// What costs more requests than usual: the CNI plugin, and credentials that have
// to be asked for each permission.
func TestHealthRequests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*checkWorld)
		checks func(Health) [][]check.Check
	}{
		"the CNI plugin": {withCNI(func(*checkWorld) {}), func(h Health) [][]check.Check {
			return [][]check.Check{h.ControlPlane(), h.DataPlane(), h.Viz(), h.Multicluster()}
		}},
		"no administrator": {func(w *checkWorld) { w.Denied = func(string) bool { return false } }, func(h Health) [][]check.Check {
			return [][]check.Check{h.Pre()}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newCheckWorld(1000)
			test.change(w)
			h := Health{Cluster: w.Connect(t), Namespace: "linkerd", Early: pki.DefaultEarlyRenewal, Now: w.now}
			for _, checks := range test.checks(h) {
				outcomes, err := check.Run(t.Context(), checks)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range outcomes {
					if o.Result == check.Error {
						t.Errorf("%s (%s): %s", o.ID, o.Description, o.Message())
					}
				}
			}
			if requests := w.Requests(); len(requests) >= 30 {
				t.Errorf("%d requests, want less than 30:\n%s", len(requests), strings.Join(requests, "\n"))
			}
		})
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

func BenchmarkHealthOfManyPods(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newCheckWorld(1000)
		b.StartTimer()
		w.all(b)
		b.ReportMetric(float64(len(w.Requests())), "requests")
	}
}

func TestHealthTells(t *testing.T) {
	t.Parallel()
	server := func(name string) server {
		all := slices.Concat(controlPlaneServers("linkerd"), vizServers("linkerd-viz"))
		return all[slices.IndexFunc(all, func(s server) bool { return s.name == name })]
	}
	ended := func(w *checkWorld) pki.ServingOptions {
		return pki.ServingOptions{DNSName: server(spValidator).dnsName(), Now: w.now.Add(-2 * pki.DefaultServingValidity)}
	}
	for _, test := range []struct {
		name        string
		change      func(*checkWorld)
		id          string
		result      check.Result
		want        string
		description string // of those that share an ID
	}{
		{"an old API server", func(w *checkWorld) { w.Version = "v1.20.4" }, "k8s-version", check.Error, "v1.20.4", ""},
		{"no rights in the cluster", func(w *checkWorld) { w.Denied = func(r string) bool { return r == "clusterroles" } }, "pre-k8s-cluster-k8s", check.Error, "may not create ClusterRole;", ""},
		{"no rights in the namespace", func(w *checkWorld) { w.Denied = func(r string) bool { return r == "cronjobs" } }, "pre-k8s", check.Error, "create CronJob in namespace linkerd", "can create CronJobs"},
		{"no rights to read", func(w *checkWorld) { w.Denied = func(r string) bool { return r == "secrets" } }, "pre-k8s", check.Error, "get Secret in namespace linkerd", "can read Secrets"},
		{"no aggregation", func(w *checkWorld) {
			w.drop(kube.ConfigMap, "kube-system", "extension-apiserver-authentication")
		}, "pre-k8s", check.Warning, "not found", "can read extension-apiserver-authentication configmap"},
		{"skewed clocks", func(w *checkWorld) { w.now = w.now.Add(time.Hour) }, "pre-k8s-clock-skew", check.Warning, "Node one reported", ""},
		{"unusual networks of pods", func(w *checkWorld) {
			w.change(kube.Node, "", "one", []any{"20.0.0.0/16"}, "spec", "podCIDRs")
		}, "l5d-cluster-networks-cidr", check.Error, "Node one (20.0.0.0/16)", "cluster networks contains all node podCIDRs"},
		{"an unusual address of a pod", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", []any{map[string]any{"ip": "20.0.0.1"}}, "status", "podIPs")
		}, "l5d-cluster-networks-pods", check.Error, "Pod shop/web-1 (20.0.0.1/32)", "cluster networks contains all pods"},
		{"an unusual address of a service", func(w *checkWorld) {
			w.change(kube.Service, "shop", "web", []any{"20.0.0.1"}, "spec", "clusterIPs")
		}, "l5d-cluster-networks-pods", check.Error, "Service shop/web (20.0.0.1/32)", "cluster networks contains all services"},
		{"its networks are named", func(w *checkWorld) {
			w.configure("clusterNetworks: 10.0.0.0/8,20.0.0.0/8")
			w.change(kube.Service, "shop", "web", []any{"20.0.0.1"}, "spec", "clusterIPs")
		}, "l5d-cluster-networks-pods", check.Success, "", "cluster networks contains all services"},
		{"Windows", func(w *checkWorld) {
			w.change(kube.Node, "", "one", "windows", "metadata", "labels", corev1.LabelOSStable)
		}, "pre-linux-nodes", check.Warning, "Node one (windows)", ""},
		{"system nodes only", func(w *checkWorld) {
			w.change(kube.Node, "", "one", []any{map[string]any{"key": "CriticalAddonsOnly", "value": "true", "effect": "NoSchedule"}}, "spec", "taints")
		}, "pre-schedulable-node", check.Warning, "CriticalAddonsOnly=true:NoSchedule", ""},
		{"Istio", func(w *checkWorld) {
			w.Put(kube.MutatingWebhookConfiguration, map[string]any{"metadata": map[string]any{"name": "istio-sidecar-injector", "labels": map[string]any{"app": "sidecar-injector", "istio.io/rev": "default"}}})
		}, "pre-other-mesh", check.Warning, "Istio by MutatingWebhookConfiguration istio-sidecar-injector", ""},
		{"AKS Automatic", func(w *checkWorld) {
			w.Refusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: "ValidatingAdmissionPolicy 'aks-managed-x' denied request: no webhooks"}
		}, "pre-webhooks-admitted", check.Error, "aks-managed-x", ""},
		{"pods may have no capabilities", func(w *checkWorld) {
			w.PodRefusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: `violates PodSecurity "baseline:latest"`}
		}, "pre-redirection-admitted", check.Warning, "CNI plugin", ""},
		{"no right to try", func(w *checkWorld) {
			w.Refusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: "User cannot create resource"}
		}, "pre-webhooks-admitted", check.Skipped, "may not look", ""},
		{"no Gateway API", func(w *checkWorld) {
			w.drop(kube.CustomResourceDefinition, "", "httproutes.gateway.networking.k8s.io")
		}, "gateway-api-crd", check.Error, "there are no CRDs of the Gateway API", ""},
		{"an old Gateway API", func(w *checkWorld) {
			w.change(kube.CustomResourceDefinition, "", "httproutes.gateway.networking.k8s.io", []any{map[string]any{"name": "v1beta1", "served": true}}, "spec", "versions")
		}, "gateway-api-crd", check.Error, "does not serve v1", ""},
		{"no control plane", func(w *checkWorld) { w.drop(kube.ConfigMap, "linkerd", "linkerd-config") }, "l5d-existence-linkerd-config", check.Error, "not found", ""},
		{"no namespace", func(w *checkWorld) { w.drop(kube.Namespace, "", "linkerd") }, "l5d-existence-ns", check.Error, "Namespace linkerd", ""},
		{"what is fatal ends the rest", func(w *checkWorld) { w.drop(kube.Namespace, "", "linkerd") }, "l5d-existence-mwc", check.Skipped, "l5d-existence-ns", ""},
		{"a role is missing", func(w *checkWorld) { w.drop(kube.ClusterRole, "", "linkerd-linkerd-identity") }, "l5d-existence-cr", check.Error, "ClusterRole linkerd-linkerd-identity is missing", ""},
		{"a binding is missing", func(w *checkWorld) { w.drop(kube.ClusterRoleBinding, "", "linkerd-linkerd-identity") }, "l5d-existence-crb", check.Error, "ClusterRoleBinding linkerd-linkerd-identity", ""},
		{"an account is missing", func(w *checkWorld) { w.drop(kube.ServiceAccount, "linkerd", "linkerd-identity") }, "l5d-existence-sa", check.Error, "ServiceAccount linkerd/linkerd-identity", "control plane ServiceAccounts exist"},
		{"no heartbeat", func(w *checkWorld) { w.drop(kube.ServiceAccount, "linkerd", "linkerd-heartbeat") }, "l5d-existence-sa", check.Error, "linkerd-heartbeat", "heartbeat ServiceAccount exist"},
		{"no heartbeat is wanted", func(w *checkWorld) { w.configure("disableHeartBeat: true") }, "l5d-existence-sa", check.Skipped, "off", "heartbeat ServiceAccount exist"},
		{"a CRD is missing", func(w *checkWorld) { w.drop(kube.CustomResourceDefinition, "", "servers.policy.linkerd.io") }, "l5d-existence-crd", check.Error, "servers.policy.linkerd.io", ""},
		{"no injector's webhook", func(w *checkWorld) { w.drop(kube.MutatingWebhookConfiguration, "", webhookRef().Name) }, "l5d-existence-mwc", check.Error, "linkerd-proxy-injector-webhook-config", ""},
		{"no validator's webhook", func(w *checkWorld) {
			w.drop(kube.ValidatingWebhookConfiguration, "", "linkerd-sp-validator-webhook-config")
		}, "l5d-existence-vwc", check.Error, "linkerd-sp-validator", ""},
		{"docker", func(w *checkWorld) {
			w.change(kube.Node, "", "one", "docker://1", "status", "nodeInfo", "containerRuntimeVersion")
		}, "l5d-proxy-init-run-as-root", check.Error, "Node one", ""},
		{"a rollout that does not end", func(w *checkWorld) {
			w.change(kube.Deployment, "linkerd", "linkerd-identity", int64(0), "status", "availableReplicas")
		}, "l5d-existence-replicasets", check.Error, "linkerd/linkerd-identity", ""},
		{"a full cluster", func(w *checkWorld) {
			w.change(kube.Pod, "linkerd", "linkerd-identity", []any{map[string]any{"type": "PodScheduled", "status": "False", "message": "no room"}}, "status", "conditions")
		}, "l5d-existence-unschedulable-pods", check.Warning, "linkerd/linkerd-identity (no room)", ""},
		{"a pod that is not ready", func(w *checkWorld) {
			w.change(kube.Pod, "linkerd", "linkerd-identity", []any{}, "status", "conditions")
		}, "l5d-api-control-ready", check.Error, "Deployment linkerd/linkerd-identity", ""},
		{"no bundle", func(w *checkWorld) { w.drop(kube.ConfigMap, "linkerd", "linkerd-identity-trust-roots") }, "l5d-identity-cert-config-valid", check.Error, "linkerd-identity-trust-roots", ""},
		{"no issuer", func(w *checkWorld) { w.drop(kube.Secret, "linkerd", IssuerSecret) }, "l5d-identity-cert-config-valid", check.Error, IssuerSecret, ""},
		{"an anchor that Linkerd does not take", func(w *checkWorld) {
			w.trust(pki.AuthorityOptions{Now: w.now, Algorithm: pki.AlgorithmECDSAP384})
		}, "l5d-identity-trustAnchors-use-supported-crypto", check.Error, "is refused by Linkerd", ""},
		{"an expired anchor", func(w *checkWorld) {
			w.trust(pki.AuthorityOptions{Now: w.now.Add(-2 * time.Hour), Validity: time.Hour})
		}, "l5d-identity-trustAnchors-are-time-valid", check.Error, "expired", ""},
		{"an anchor that ends soon", func(w *checkWorld) { w.trust(pki.AuthorityOptions{Now: w.now, Validity: 59 * 24 * time.Hour}) }, "l5d-identity-trustAnchors-not-expiring-soon", check.Warning, "valid only until", ""},
		{"an issuer that Linkerd does not take", func(w *checkWorld) {
			w.issue(w.anchor, pki.AuthorityOptions{Now: w.now, Algorithm: pki.AlgorithmRSA2048})
		}, "l5d-identity-issuer-cert-uses-supported-crypto", check.Error, "is refused by Linkerd", ""},
		{"an expired issuer", func(w *checkWorld) {
			w.issue(w.anchor, pki.AuthorityOptions{Now: w.now, Validity: time.Hour})
			w.now = w.now.Add(2 * time.Hour)
		}, "l5d-identity-issuer-cert-is-time-valid", check.Error, "expired", ""},
		{"an issuer that ends soon", func(w *checkWorld) { w.issue(w.anchor, pki.AuthorityOptions{Now: w.now, Validity: time.Hour}) }, "l5d-identity-issuer-cert-not-expiring-soon", check.Warning, "valid only until", ""},
		{"an issuer of another anchor", func(w *checkWorld) {
			w.issue(must(pki.NewAnchor(pki.AuthorityOptions{Now: w.now})), pki.AuthorityOptions{Now: w.now})
		}, "l5d-identity-issuer-cert-issued-by-trust-anchor", check.Error, "", ""},
		{"an expired webhook", func(w *checkWorld) { w.serve(server(spValidator), ended(w)) }, "l5d-sp-validator-webhook-cert-valid", check.Error, "Secret linkerd/linkerd-sp-validator-k8s-tls", ""},
		{"a webhook of another name", func(w *checkWorld) {
			w.serve(server(policyValidator), pki.ServingOptions{DNSName: "other", Now: w.now})
		}, "l5d-policy-validator-webhook-cert-valid", check.Error, "linkerd-policy-validator.linkerd.svc", ""},
		{"a webhook that ends soon", func(w *checkWorld) {
			w.serve(server(proxyInjector), pki.ServingOptions{DNSName: server(proxyInjector).dnsName(), Now: w.now.Add(time.Hour - pki.DefaultServingValidity)})
		}, "l5d-proxy-injector-webhook-cert-not-expiring-soon", check.Warning, "valid only until", ""},
		{"a proxy of the control plane", func(w *checkWorld) { w.unready("linkerd", "linkerd-destination") }, "l5d-cp-proxy-healthy", check.Error, "Pod linkerd/linkerd-destination", ""},
		{"an old proxy of the control plane", func(w *checkWorld) { w.age("linkerd", "linkerd-destination") }, "l5d-cp-proxy-version", check.Warning, "Pod linkerd/linkerd-destination (edge-25.4.4)", ""},
		{"an extension twice", func(w *checkWorld) {
			w.Put(kube.Namespace, &corev1.Namespace{ObjectMeta: meta("", "viz2", map[string]string{extensionLabel: "viz"})})
		}, "l5d-extension-namespaces", check.Warning, "linkerd-viz and viz2", ""},
		{"no CNI plugin", withCNI(func(w *checkWorld) { w.drop(kube.DaemonSet, cniNamespace, cniName) }), "cni-plugin-cm-exists", check.Error, "no DaemonSet linkerd-cni", ""},
		{"a CNI plugin that is not enabled", func(w *checkWorld) { w.cni(0) }, "cni-plugin-ready", check.Skipped, "cniEnabled", ""},
		{"a CNI plugin", withCNI(func(*checkWorld) {}), "cni-plugin-ready", check.Success, "", ""},
		{"a CNI plugin without a configuration", withCNI(func(w *checkWorld) { w.drop(kube.ConfigMap, cniNamespace, "linkerd-cni-config") }), "cni-plugin-cm-exists", check.Error, "linkerd-cni/linkerd-cni-config", ""},
		{"a CNI plugin without a role", withCNI(func(w *checkWorld) { w.drop(kube.ClusterRole, "", cniName) }), "cni-plugin-cr-exists", check.Error, "ClusterRole linkerd-cni", ""},
		{"a CNI plugin without a binding", withCNI(func(w *checkWorld) { w.drop(kube.ClusterRoleBinding, "", cniName) }), "cni-plugin-crb-exists", check.Error, "ClusterRoleBinding linkerd-cni", ""},
		{"a CNI plugin without an account", withCNI(func(w *checkWorld) { w.drop(kube.ServiceAccount, cniNamespace, cniName) }), "cni-plugin-sa-exists", check.Error, "ServiceAccount linkerd-cni/linkerd-cni", ""},
		{"a CNI plugin that is not ready", withCNI(func(w *checkWorld) { w.cni(0) }), "cni-plugin-ready", check.Error, "0 of 1 nodes", ""},
		{"one replica only", func(w *checkWorld) { w.configure("highAvailability: true") }, "l5d-control-plane-replicas", check.Warning, "linkerd-identity (1)", ""},
		{"a proxy that is not ready", func(w *checkWorld) { w.unready("shop", "web-1") }, "l5d-data-plane-ready", check.Error, "Pod shop/web-1", ""},
		{"an old proxy", func(w *checkWorld) { w.age("shop", "web-1") }, "l5d-data-plane-version", check.Warning, "Pod shop/web-1 (edge-25.4.4)", ""},
		{"a label of a pod", func(w *checkWorld) {
			w.change(kube.Pod, "shop", "web-1", "80", "metadata", "labels", "config.linkerd.io/skip-inbound-ports")
		}, "l5d-data-plane-pod-labels", check.Warning, "Pod shop/web-1", ""},
		{"an annotation of a service", func(w *checkWorld) {
			w.change(kube.Service, "shop", "web", "true", "metadata", "annotations", exportedLabel)
		}, "l5d-data-plane-services-annotations", check.Warning, "Service shop/web", ""},
		{"an opaque port of a service alone", func(w *checkWorld) {
			w.change(kube.Service, "shop", "web", "3000-4000", "metadata", "annotations", OpaquePortsAnnotation)
		}, "linkerd-opaque-ports-definition", check.Warning, "port 3306 of web", ""},
		{"other anchors", func(w *checkWorld) {
			other := must(pki.NewAnchor(pki.AuthorityOptions{Now: w.now}))
			first := w.anchor
			w.anchor = other
			w.pod("shop", "web-1", 21, map[string]string{"app": "web"})
			w.anchor = first
		}, "l5d-identity-data-plane-proxies-certs-match-ca", check.Warning, "Pod shop/web-1", ""},
		{"no viz", func(w *checkWorld) { w.drop(kube.Namespace, "", "linkerd-viz") }, "l5d-viz-ns-exists", check.Error, "linkerd.io/extension=viz", ""},
		{"a role of viz", func(w *checkWorld) { w.drop(kube.ClusterRole, "", "linkerd-linkerd-viz-tap") }, "l5d-viz-cr-exists", check.Error, "linkerd-linkerd-viz-tap", ""},
		{"a binding of viz", func(w *checkWorld) { w.drop(kube.ClusterRoleBinding, "", "linkerd-linkerd-viz-tap") }, "l5d-viz-crb-exists", check.Error, "linkerd-linkerd-viz-tap", ""},
		{"tap's certificate", func(w *checkWorld) { w.drop(kube.Secret, "linkerd-viz", "tap-k8s-tls") }, "l5d-tap-cert-valid", check.Error, "Secret linkerd-viz/tap-k8s-tls", ""},
		{"tap is not available", func(w *checkWorld) {
			w.change(kube.APIService, "", "v1alpha1.tap.linkerd.io", []any{map[string]any{"type": "Available", "status": "False", "reason": "Broken"}}, "status", "conditions")
		}, "l5d-tap-api", check.Warning, "Broken", ""},
		{"viz without a proxy", func(w *checkWorld) {
			w.change(kube.Pod, "linkerd-viz", "web", []any{map[string]any{"name": "main"}}, "spec", "containers")
		}, "l5d-viz-pods-injection", check.Warning, "Pod linkerd-viz/web", ""},
		{"a pod of viz", func(w *checkWorld) {
			w.change(kube.Pod, "linkerd-viz", "prometheus", []any{}, "status", "conditions")
		}, "l5d-viz-prometheus", check.Warning, "Pod linkerd-viz/prometheus", ""},
		{"an old proxy of viz", func(w *checkWorld) { w.age("linkerd-viz", "web") }, "l5d-viz-proxy-cp-version", check.Warning, "Pod linkerd-viz/web", ""},
		{"no links", func(w *checkWorld) { w.drop(kube.CustomResourceDefinition, "", linkCRD) }, "l5d-multicluster-link-crd-exists", check.Error, linkCRD, ""},
		{"a link to nowhere", func(w *checkWorld) {
			w.change(linkKind(), "linkerd-multicluster", "east", "", "spec", "targetClusterName")
		}, "l5d-multicluster-links-are-valid", check.Error, "has no spec.targetClusterName", ""},
		{"no mirror", func(w *checkWorld) { w.drop(kube.Pod, "linkerd-multicluster", "controller-east") }, "l5d-multicluster-service-mirror-running", check.Error, "east", ""},
		{"a mirror without rights", func(w *checkWorld) { w.drop(kube.ClusterRoleBinding, "", "mirror") }, "l5d-multicluster-source-rbac-correct", check.Error, "linkerd-multicluster/default", ""},
		{"a mirror of the command line", func(w *checkWorld) {
			w.pod("linkerd-multicluster", "linkerd-service-mirror-east-1", 6, map[string]string{clusterLabel: "east"})
		}, "l5d-multicluster-managed-controllers", check.Warning, "linkerd-service-mirror-east-1", ""},
		{"a gateway out of reach", func(w *checkWorld) { w.drop(endpointSlice, "linkerd-multicluster", "probe-gateway-east") }, "l5d-multicluster-gateways-endpoints", check.Error, "probe-gateway-east", ""},
		{"a mirror without endpoints", func(w *checkWorld) { w.drop(endpointSlice, "shop", "web-east") }, "l5d-multicluster-services-endpoints", check.Error, "Service shop/web-east", ""},
		{"a mirror that needs no endpoints", func(w *checkWorld) {
			w.drop(endpointSlice, "shop", "web-east")
			w.Change(kube.Ref{Kind: kube.Service, Namespace: "shop", Name: "web-east"}, func(content map[string]any) {
				content["metadata"].(map[string]any)["annotations"] = map[string]any{remoteDiscovery: "web@east"} //nolint:forcetypeassert // The test's own object.
			})
		}, "l5d-multicluster-services-endpoints", check.Skipped, "no such Services", ""},
		{"an orphan", func(w *checkWorld) {
			w.change(kube.Service, "shop", "web-east", "west", "metadata", "labels", clusterLabel)
		}, "l5d-multicluster-orphaned-services", check.Warning, "web-east (of west)", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newCheckWorld(3)
			test.change(w)
			var found []string
			for _, o := range w.all(t) {
				if o.ID != test.id || test.description != "" && o.Description != test.description {
					continue
				}
				if o.Result == test.result && strings.Contains(o.Message(), test.want) && (o.Result == check.Success) == (o.Message() == "") {
					return
				}
				found = append(found, fmt.Sprintf("%s: %s", o.Result, o.Message()))
			}
			t.Errorf("%s ended in %q, want %s: %s", test.id, found, test.result, test.want)
		})
	}
}

// withCNI changes a world whose control plane goes by the CNI plugin.
func withCNI(change func(*checkWorld)) func(*checkWorld) {
	return func(w *checkWorld) {
		w.configure("cniEnabled: true")
		change(w)
	}
}

// trust adds another anchor to the bundle, which nothing is below.
func (w *checkWorld) trust(options pki.AuthorityOptions) {
	bundle := pki.NewBundle(w.anchor.Certificate(), must(pki.NewAnchor(options)).Certificate())
	w.change(kube.ConfigMap, "linkerd", "linkerd-identity-trust-roots", string(bundle.PEM()), "data", TrustRootsKey)
}

// issue gives the control plane another issuer, in the layout of the chart.
func (w *checkWorld) issue(anchor *pki.KeyPair, options pki.AuthorityOptions) {
	issuer := must(pki.NewIssuer(anchor, options))
	w.Put(kube.Secret, &corev1.Secret{ObjectMeta: meta("linkerd", IssuerSecret, nil), Data: map[string][]byte{
		chartCertKey: issuer.ChainPEM(), chartKeyKey: must(issuer.KeyPEM()),
	}})
}

func (w *checkWorld) unready(namespace, pod string) {
	w.change(kube.Pod, namespace, pod, []any{map[string]any{"name": ProxyContainer, "ready": false}}, "status", "containerStatuses")
}

func (w *checkWorld) age(namespace, pod string) {
	w.change(kube.Pod, namespace, pod, "edge-25.4.4", "metadata", "annotations", proxyVersionAnnotation)
}

// TestPreChecksWithPlugin holds that nobody hears of init containers who has the
// CNI plugin do their work.
func TestPreChecksWithPlugin(t *testing.T) {
	t.Parallel()
	cluster := newCheckWorld(1).Connect(t)
	asks := func(c check.Check) bool { return c.ID == "pre-redirection-admitted" }
	if slices.ContainsFunc(PreChecks(cluster, "linkerd", true, time.Time{}, nil), asks) || !slices.ContainsFunc(PreChecks(cluster, "linkerd", false, time.Time{}, nil), asks) {
		t.Error("the check of init containers is not for those, and only those, who have them")
	}
}

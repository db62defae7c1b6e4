package linkerd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// cluster is an API server with objects. Unlike the fake by itself it selects
// by name.
func cluster(t *testing.T, objects ...runtime.Object) (*clients, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	named := func(selector fields.Selector, o runtime.Object) bool {
		accessor, err := meta.Accessor(o)
		return err == nil && (selector == nil || selector.Matches(fields.Set{metav1.ObjectNameField: accessor.GetName()}))
	}
	for _, resource := range []schema.GroupVersionResource{
		corev1.SchemeGroupVersion.WithResource("secrets"), corev1.SchemeGroupVersion.WithResource("configmaps"),
	} {
		client.PrependReactor("list", resource.Resource, func(action k8stesting.Action) (bool, runtime.Object, error) {
			listing, ok := action.(k8stesting.ListAction)
			if !ok {
				return false, nil, nil
			}
			kind := corev1.SchemeGroupVersion.WithKind(map[string]string{"secrets": "Secret", "configmaps": "ConfigMap"}[resource.Resource])
			list, err := client.Tracker().List(resource, kind, action.GetNamespace())
			if err != nil {
				return true, nil, err
			}
			items, err := meta.ExtractList(list)
			if err != nil {
				return true, nil, err
			}
			var kept []runtime.Object
			for _, item := range items {
				if named(listing.GetListRestrictions().Fields, item) {
					kept = append(kept, item)
				}
			}
			return true, list, meta.SetList(list, kept)
		})
		client.PrependWatchReactor(resource.Resource, func(action k8stesting.Action) (bool, watch.Interface, error) {
			watching, ok := action.(k8stesting.WatchAction)
			if !ok {
				return false, nil, nil
			}
			w, err := client.Tracker().Watch(resource, action.GetNamespace())
			if err != nil {
				return true, nil, err
			}
			return true, watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
				return e, named(watching.GetWatchRestrictions().Fields, e.Object)
			}), nil
		})
	}
	return &clients{namespace: "linkerd", node: client, pod: client}, client
}

func controlPlaneMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "linkerd"}
}

func secretOf(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: controlPlaneMeta(name), Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func configMapOf(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: controlPlaneMeta(name), Data: data}
}

// readyIdentity is what other pods wait for.
func readyIdentity() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "linkerd-identity-1", Namespace: "linkerd", Labels: map[string]string{componentLabel: identityComponent},
		},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// controlPlanePod is a pod as the chart makes it.
func controlPlanePod(t *testing.T, component string, values map[string]any) *corev1.Pod {
	t.Helper()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "linkerd-" + component, Namespace: "linkerd", Labels: map[string]string{componentLabel: component},
		},
		Spec: podSpec(t, newest, "linkerd-"+component, merged(anchored(), pinned(), values)),
	}
}

// began starts a program for a test that expects want, or no error if it is
// empty.
func began(t *testing.T, want string, run func(i *instance) error) program.Instance {
	t.Helper()
	i, err := start(run)
	refused(t, err, want)
	if err != nil {
		return nil
	}
	t.Cleanup(i.Stop)
	return i
}

// eventually polls until done, or fails with what was expected.
func eventually(t *testing.T, expected string, done func(ctx context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 20*time.Second, true, done); err != nil {
		t.Fatalf("%s: %v", expected, err)
	}
}

// eventReasons lists the reasons of all events as "reason Kind/name".
func eventReasons(ctx context.Context, client *fake.Clientset) ([]string, error) {
	list, err := client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var reasons []string
	for _, e := range list.Items {
		reasons = append(reasons, fmt.Sprintf("%s %s/%s", e.Reason, e.InvolvedObject.Kind, e.InvolvedObject.Name))
	}
	return reasons, nil
}

func TestProgramsRunThePodsOfTheChart(t *testing.T) {
	t.Parallel()
	for component, name := range map[string]string{
		identityComponent: "linkerd-identity", destinationComponent: "linkerd-destination", proxyInjectorComponent: "linkerd-proxy-injector",
	} {
		var got []string
		for _, p := range Programs() {
			if p.Runs(controlPlanePod(t, component, nil)) {
				got = append(got, p.Name())
			}
			if p.Runs(testPod(nil)) {
				t.Errorf("%s runs any pod", p.Name())
			}
		}
		if len(got) != 1 || got[0] != name {
			t.Errorf("pods of %s run %v", component, got)
		}
	}
}

func TestMountLagsBehind(t *testing.T) {
	t.Parallel()
	c, client := cluster(t, configMapOf("roots", map[string]string{"ca-bundle.crt": "old"}), configMapOf("other", nil))
	const lag = 100 * time.Millisecond
	m, err := mountConfigMap(t.Context(), c.node, "linkerd", "roots", lag)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if got := string(m.Files()["ca-bundle.crt"]); got != "old" {
		t.Fatalf("mounted %q", got)
	}
	changed := time.Now()
	for _, content := range []string{"newer", "newest"} {
		if _, err := client.CoreV1().ConfigMaps("linkerd").Update(t.Context(), configMapOf("roots", map[string]string{"ca-bundle.crt": content}), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the newest content", func(context.Context) (bool, error) {
		return string(m.Files()["ca-bundle.crt"]) == "newest", nil
	})
	if took := time.Since(changed); took < lag {
		t.Errorf("visible after %v, before the lag of %v", took, lag)
	}
}

func TestMountNeedsItsObject(t *testing.T) {
	t.Parallel()
	c, _ := cluster(t)
	_, err := mountSecret(t.Context(), c.node, "linkerd", "missing", 0, nil)
	refused(t, err, "Secret linkerd/missing: it does not exist")
}

func TestIdentityStartsWithAVerifiedIssuerOnly(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, "root", nil, true)
	issuer := newAuthority(t, "issuer", root, true)
	other := newAuthority(t, "other", nil, true)
	roots := configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": strings.TrimSpace(root.certificatePEM())})
	secret := func(crt, key string, from *authority) *corev1.Secret {
		return secretOf("linkerd-identity-issuer", map[string]string{crt: from.certificatePEM(), key: from.keyPEM(t, pkcs8Type)})
	}
	external := map[string]any{}
	internal := map[string]any{"identity": map[string]any{"issuer": map[string]any{
		"scheme": linkerdScheme, "tls": map[string]any{"crtPEM": "certificate", "keyPEM": "key"},
	}}}
	for _, test := range []struct {
		name    string
		values  map[string]any
		objects []runtime.Object
		want    string
	}{
		{"kubernetes.io/tls", external, []runtime.Object{roots, secret("tls.crt", "tls.key", issuer)}, ""},
		{"linkerd.io/tls", internal, []runtime.Object{roots, secret("crt.pem", "key.pem", issuer)}, ""},
		{"keys of the other scheme", external, []runtime.Object{roots, secret("crt.pem", "key.pem", issuer)}, "not a PEM private key"},
		{"other anchor", external, []runtime.Object{roots, secret("tls.crt", "tls.key", other)}, "failed to verify issuer"},
		{"no issuer", external, []runtime.Object{roots}, "Secret linkerd/linkerd-identity-issuer: it does not exist"},
		{"no trust roots", external, []runtime.Object{secret("tls.crt", "tls.key", issuer)}, "ConfigMap linkerd/linkerd-identity-trust-roots: it does not exist"},
		{
			"unreadable trust roots", external,
			[]runtime.Object{configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": root.certificatePEM() + "\n"}), secret("tls.crt", "tls.key", issuer)},
			"trust anchors: not a PEM certificate",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := cluster(t, test.objects...)
			pod := controlPlanePod(t, identityComponent, test.values)
			began(t, test.want, func(i *instance) error { return identity{}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), pod) })
		})
	}
}

// A new issuer is taken up if the anchors that were there at the start vouch
// for it, and said so on the Deployment.
func TestIdentityReloadsItsIssuer(t *testing.T) {
	t.Parallel()
	oldRoot, newRoot := newAuthority(t, "old", nil, true), newAuthority(t, "new", nil, true)
	first, second, third := newAuthority(t, "1", oldRoot, true), newAuthority(t, "2", oldRoot, true), newAuthority(t, "3", newRoot, true)
	secret := func(from *authority) *corev1.Secret {
		return secretOf("linkerd-identity-issuer", map[string]string{"tls.crt": from.certificatePEM(), "tls.key": from.keyPEM(t, pkcs8Type)})
	}
	roots := func(anchors ...*authority) *corev1.ConfigMap {
		var bundle string
		for _, a := range anchors {
			bundle += a.certificatePEM()
		}
		return configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": bundle})
	}
	c, client := cluster(t, roots(oldRoot), secret(first))
	pod := controlPlanePod(t, identityComponent, nil)
	began(t, "", func(i *instance) error { return identity{}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), pod) })

	update := func(object runtime.Object) {
		t.Helper()
		var err error
		switch o := object.(type) {
		case *corev1.Secret:
			_, err = client.CoreV1().Secrets("linkerd").Update(t.Context(), o, metav1.UpdateOptions{})
		case *corev1.ConfigMap:
			_, err = client.CoreV1().ConfigMaps("linkerd").Update(t.Context(), o, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(reason string) {
		t.Helper()
		eventually(t, "event "+reason, func(ctx context.Context) (bool, error) {
			reasons, err := eventReasons(ctx, client)
			return strings.Contains(strings.Join(reasons, "\n"), reason+" Deployment/linkerd-identity"), err
		})
	}
	update(secret(second))
	expect("IssuerUpdated")
	update(roots(oldRoot, newRoot))
	update(secret(third))
	expect("IssuerUpdateSkipped")
}

// injectorCluster is a control plane that can inject into namespace dgraph.
func injectorCluster(t *testing.T, serving *authority, more ...runtime.Object) (*clients, *fake.Clientset, *corev1.Pod) {
	t.Helper()
	values, err := yaml.Marshal(installed(t, newest, nil).Values)
	if err != nil {
		t.Fatal(err)
	}
	objects := []runtime.Object{
		readyIdentity(),
		configMapOf("linkerd-config", map[string]string{"values": string(values)}),
		configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": testAnchors}),
		secretOf("linkerd-proxy-injector-k8s-tls", map[string]string{
			"tls.crt": serving.certificatePEM(), "tls.key": serving.keyPEM(t, sec1Type),
		}),
		testNamespace(map[string]string{injectAnnotation: enabled}),
	}
	c, client := cluster(t, append(objects, more...)...)
	return c, client, controlPlanePod(t, proxyInjectorComponent, nil)
}

// ask sends a review to what serves a container port, as the API server would.
func ask(ctx context.Context, t *testing.T, i program.Instance, port int, ca *authority, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	request.UID = types.UID("review")
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request:  request,
	})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return i.Dial(ctx, port) },
		TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: ca.certificate.DNSNames[0], MinVersion: tls.VersionTLS12,
		},
	}}
	defer client.CloseIdleConnections()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://webhook/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(post)
	if err != nil {
		t.Fatal(err)
	}
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(reply.Body).Decode(&review); err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if review.Response == nil || review.Response.UID != request.UID || review.Kind != "AdmissionReview" {
		t.Fatalf("review %+v", review)
	}
	return review.Response
}

func podRequest(t *testing.T, pod *corev1.Pod) *admissionv1.AdmissionRequest {
	t.Helper()
	data, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: "dgraph", Object: runtime.RawExtension{Raw: data},
	}
}

func ownedBy(kind, name string) []metav1.OwnerReference {
	controller := true
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID(name), Controller: &controller}}
}

func TestInjectorServesItsWebhook(t *testing.T) {
	t.Parallel()
	serving := newAuthority(t, "linkerd-proxy-injector.linkerd.svc", nil, true)
	c, client, injectorPod := injectorCluster(t, serving,
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "alpha-1", Namespace: "dgraph", OwnerReferences: ownedBy("Deployment", "alpha")}},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "rolled-1", Namespace: "dgraph", OwnerReferences: ownedBy("Rollout", "rolled")}},
		&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "once", Namespace: "dgraph"}},
	)
	i := began(t, "", func(i *instance) error {
		return injector{}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), injectorPod)
	})

	for _, test := range []struct {
		name, inject string
		owners       []metav1.OwnerReference
		label, event string
	}{
		{"of a Deployment", "", ownedBy("ReplicaSet", "alpha-1"), "linkerd.io~1proxy-deployment", "Injected Deployment/alpha"},
		{"of a StatefulSet", "", ownedBy("StatefulSet", "zero"), "", "Injected StatefulSet/zero"},
		{"of a Job", "", ownedBy("Job", "once"), "", "Injected Job/once"},
		{"of a Rollout", "", ownedBy("ReplicaSet", "rolled-1"), "", ""},
		{"of its own", "", nil, "", ""},
		{"not wanted", disabled, ownedBy("DaemonSet", "agent"), "", "InjectionSkipped DaemonSet/agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := testPod(nil)
			pod.OwnerReferences = test.owners
			if test.inject != "" {
				pod.Annotations = map[string]string{injectAnnotation: test.inject}
			}
			response := ask(t.Context(), t, i, 8443, serving, podRequest(t, pod))
			if !response.Allowed {
				t.Fatalf("refused: %v", response.Result)
			}
			if injected := bytes.Contains(response.Patch, []byte(`"linkerd-proxy"`)); injected != (test.inject == "") {
				t.Errorf("injected: %t, patch %s", injected, response.Patch)
			}
			if test.event != "" {
				eventually(t, test.event, func(ctx context.Context) (bool, error) {
					reasons, err := eventReasons(ctx, client)
					return strings.Contains(strings.Join(reasons, "\n"), test.event), err
				})
			}
		})
	}

	t.Run("of an unknown owner", func(t *testing.T) {
		pod := testPod(nil)
		pod.OwnerReferences = ownedBy("ReplicaSet", "missing")
		if response := ask(t.Context(), t, i, 8443, serving, podRequest(t, pod)); response.Allowed || !strings.Contains(response.Result.Message, "missing") {
			t.Errorf("response %+v", response)
		}
	})
	t.Run("a Service", func(t *testing.T) {
		request := podRequest(t, testPod(nil))
		request.Kind.Kind = "Service"
		request.Object.Raw = []byte(`{"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}`)
		response := ask(t.Context(), t, i, 8443, serving, request)
		if want := `[{"op":"add","path":"/metadata/annotations","value":{"config.linkerd.io/opaque-ports":"5432"}}]`; string(response.Patch) != want {
			t.Errorf("patch %s, want %s", response.Patch, want)
		}
	})
}

// An injector goes on using the bundle it was given until its files change.
func TestInjectorTakesUpANewBundle(t *testing.T) {
	t.Parallel()
	serving := newAuthority(t, "linkerd-proxy-injector.linkerd.svc", nil, true)
	c, client, pod := injectorCluster(t, serving)
	const lag = 300 * time.Millisecond
	i := began(t, "", func(i *instance) error {
		return injector{lag: lag}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), pod)
	})
	if _, err := client.CoreV1().ConfigMaps("linkerd").Update(t.Context(),
		configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": "another bundle"}), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	var stale bool
	eventually(t, "a pod with the new bundle", func(ctx context.Context) (bool, error) {
		response := ask(ctx, t, i, 8443, serving, podRequest(t, testPod(nil)))
		if bytes.Contains(response.Patch, []byte("another bundle")) {
			return true, nil
		}
		stale = true
		return false, nil
	})
	if took := time.Since(changed); took < lag || !stale {
		t.Errorf("new bundle in use after %v, with a lag of %v", took, lag)
	}
}

func TestWebhookTakesUpANewCertificate(t *testing.T) {
	t.Parallel()
	first := newAuthority(t, "linkerd-proxy-injector.linkerd.svc", nil, true)
	second := newAuthority(t, "linkerd-proxy-injector.linkerd.svc", nil, true)
	c, client, pod := injectorCluster(t, first)
	i := began(t, "", func(i *instance) error {
		return injector{}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), pod)
	})
	ask(t.Context(), t, i, 8443, first, podRequest(t, testPod(nil)))
	replaced := secretOf("linkerd-proxy-injector-k8s-tls", map[string]string{
		"tls.crt": second.certificatePEM(), "tls.key": second.keyPEM(t, pkcs8Type),
	})
	if _, err := client.CoreV1().Secrets("linkerd").Update(t.Context(), replaced, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate", func(ctx context.Context) (bool, error) {
		raw, err := i.Dial(ctx, 8443)
		if err != nil {
			return false, err
		}
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if err := conn.HandshakeContext(ctx); err != nil {
			return false, err
		}
		served := conn.ConnectionState().PeerCertificates[0]
		return served.Equal(second.certificate), conn.Close()
	})
}

func TestDestinationServesBothValidators(t *testing.T) {
	t.Parallel()
	profile, policy := newAuthority(t, "linkerd-sp-validator.linkerd.svc", nil, true), newAuthority(t, "linkerd-policy-validator.linkerd.svc", nil, true)
	secret := func(name string, a *authority, kind string) *corev1.Secret {
		return secretOf(name, map[string]string{"tls.crt": a.certificatePEM(), "tls.key": a.keyPEM(t, kind)})
	}
	pod := controlPlanePod(t, destinationComponent, nil)
	run := func(c *clients) func(i *instance) error {
		return func(i *instance) error {
			return destination{}.run(t.Context(), i, c, slog.New(slog.DiscardHandler), pod)
		}
	}

	c, _ := cluster(t, readyIdentity(),
		secret("linkerd-sp-validator-k8s-tls", profile, sec1Type), secret("linkerd-policy-validator-k8s-tls", policy, pkcs8Type))
	i := began(t, "", run(c))
	bad := requestFor(t, schema.GroupKind{Group: "linkerd.io", Kind: "ServiceProfile"}, "{metadata: {name: a}, spec: {routes: [{name: a}]}}")
	if response := ask(t.Context(), t, i, 8443, profile, bad); response.Allowed || !strings.Contains(response.Result.Message, "no condition") {
		t.Errorf("response %+v", response)
	}
	good := requestFor(t, schema.GroupKind{Group: policyGroup, Kind: "EgressNetwork"}, "{metadata: {name: a}, spec: {trafficPolicy: Allow}}")
	if response := ask(t.Context(), t, i, 9443, policy, good); !response.Allowed {
		t.Errorf("response %+v", response)
	}
	if _, err := i.Dial(t.Context(), 8086); err == nil {
		t.Error("something listens on port 8086")
	}

	c, _ = cluster(t, readyIdentity(),
		secret("linkerd-sp-validator-k8s-tls", profile, sec1Type), secret("linkerd-policy-validator-k8s-tls", policy, sec1Type))
	began(t, "container policy: certificate of Secret linkerd/linkerd-policy-validator-k8s-tls: could not load private key", run(c))

	c, _ = cluster(t, readyIdentity())
	began(t, "Secret linkerd/linkerd-sp-validator-k8s-tls: it does not exist", run(c))
}

// Without identity no other pod of the control plane gets ready.
func TestOthersWaitForIdentity(t *testing.T) {
	t.Parallel()
	unready := readyIdentity()
	unready.Status.Conditions[0].Status = corev1.ConditionFalse
	c, client := cluster(t, unready)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.awaitIdentity(ctx); err == nil {
		t.Error("a certificate came from nowhere")
	}
	if _, err := client.CoreV1().Pods("linkerd").Update(t.Context(), readyIdentity(), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitIdentity(t.Context()); err != nil {
		t.Error(err)
	}
}

package provider

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// publishByHand gives Linkerd a trust that was made with step, or replaces the one
// that it has.
func publishByHand(t *testing.T, cluster *testcluster.Cluster, anchor, issuer *authority) {
	t.Helper()
	core, create := cluster.Client().CoreV1(), metav1.CreateOptions{}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-issuer"}, Type: corev1.SecretTypeTLS,
		StringData: map[string]string{"tls.crt": issuer.certPEM(), "tls.key": issuer.keyPEM(t), "ca.crt": anchor.certPEM()},
	}
	roots := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-trust-roots"},
		Data:       map[string]string{"ca-bundle.crt": anchor.certPEM()},
	}
	existing, err := core.Secrets("linkerd").Get(t.Context(), secret.Name, metav1.GetOptions{})
	if err == nil {
		existing.StringData = secret.StringData
		_, err = core.Secrets("linkerd").Update(t.Context(), existing, metav1.UpdateOptions{})
		if err == nil {
			_, err = core.ConfigMaps("linkerd").Update(t.Context(), roots, metav1.UpdateOptions{})
		}
	} else {
		_, err = core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "linkerd"}}, create)
		if err == nil {
			_, err = core.Secrets("linkerd").Create(t.Context(), secret, create)
		}
		if err == nil {
			_, err = core.ConfigMaps("linkerd").Create(t.Context(), roots, create)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccRotation_takeover moves a mesh from a trust that was made by hand to an
// anchor of Terraform's, meets pods that no restart reaches, and comes back when
// everything has expired.
func TestAccRotation_takeover(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1, Proxies: true})
	namespace := injectedNamespace(t, cluster, "linkerd")
	year := time.Now().Add(8760 * time.Hour)
	root := (*authority)(nil).sign(t, "root.linkerd.cluster.local", true, year)
	publishByHand(t, cluster, root, root.sign(t, "identity.linkerd.cluster.local", true, year))
	c := trustConfig{kubeconfig: cluster.Kubeconfig(), repository: cluster.Charts().Repository, mesh: "linkerd"}
	w := newWorkspace(t, providerConfig(c.kubeconfig, c.installed(`"linkerd/linkerd"`)))
	w.apply()
	deploy(t, cluster, namespace, "api", 2)
	deploy(t, cluster, namespace, "web", 3)
	awaitMeshed(t, cluster, 5)
	watch := watchTrust(t, cluster)
	watch.expectAnchor(t, root.certPEM())

	before := revisions(t, cluster)
	c.rotation = rotationComplete
	w.write(c.String() + "\nimport {\n  to = aksmesh_issuer.this\n  id = \"linkerd/linkerd\"\n}\n")
	w.apply()
	w.expectNoChanges()
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))
	expectRestarts(t, cluster, before, 3)

	// A pod of nobody's, and a Deployment that is paused.
	pods := cluster.Client().CoreV1().Pods(namespace)
	bare := testcluster.NewDeployment(namespace, "bare", 1).Spec.Template
	bare.Name = "bare"
	if _, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: bare.ObjectMeta, Spec: bare.Spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitMeshed(t, cluster, 6)
	patchObject(t, cluster, "Deployment", namespace, "api", `{"spec":{"paused":true}}`)
	c.trigger = "1"
	w.write(c.String())
	for range 2 {
		got := w.run("apply", "-auto-approve", "-json")
		if text := describeFailures(got); got.code == 0 || !strings.Contains(text, namespace+"/bare") || !strings.Contains(text, namespace+"/api-") {
			t.Errorf("exit code %d, and the errors do not name what is in the way: %s", got.code, text)
		}
	}
	c.rotation = rotationStaged
	c.apply(w)
	steps, waits := rotationSteps(w), w.attribute(issuerAddress, "rotation_waits_for")
	if len(steps) == 0 || steps[0] != "trust" || !strings.Contains(waits, namespace+"/bare") || !strings.Contains(waits, namespace+"/api-") {
		t.Errorf("before %q the rotation waits for %q, want it to name the pod and the paused Deployment", steps, waits)
	}
	running := podUIDs(t, cluster)
	// A pipeline notices that somebody has to do something.
	plan := w.run("plan", "-detailed-exitcode", "-no-color")
	if plan.code != 2 || !strings.Contains(plan.output, "Rotation Waits") || !strings.Contains(plan.output, namespace+"/bare") {
		t.Errorf("exit code %d, or the plan does not say what is waited for:\n%s", plan.code, plan.output)
	}
	w.apply()
	if after := podUIDs(t, cluster); !slices.Equal(running, after) {
		t.Errorf("an apply that can do nothing has changed pods: %v, then %v", running, after)
	}
	watch.expectUnbroken(t)
	if err := pods.Delete(t.Context(), "bare", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	patchObject(t, cluster, "Deployment", namespace, "api", `{"spec":{"paused":false}}`)
	w.apply() // It restarts what has become reachable,
	w.apply() // and issues anew, after which proxies have a day to ask for it.
	if steps, waits := rotationSteps(w), w.attribute(issuerAddress, "rotation_waits_for"); len(steps) == 0 || steps[0] != "renew" || !strings.Contains(waits, "the others do by ") {
		t.Errorf("before %q the rotation waits for %q, want it to name an instant", steps, waits)
	}
	running = podUIDs(t, cluster)
	if plan = w.run("plan", "-detailed-exitcode", "-no-color"); plan.code != 0 || !strings.Contains(plan.output, "Rotation Waits") {
		t.Errorf("the plan while certificates are waited for: exit code %d\n%s", plan.code, plan.output)
	}
	w.apply()
	if after := podUIDs(t, cluster); !slices.Equal(running, after) {
		t.Errorf("an apply that waits has changed pods: %v, then %v", running, after)
	}
	watch.expectUnbroken(t)
	c.rotation = rotationComplete
	c.apply(w)
	w.expectNoChanges()
	watch.expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))

	// Everybody trusts an anchor that then ends. Not even the control plane starts.
	const life = 2 * time.Minute
	ending := (*authority)(nil).sign(t, "ending", true, time.Now().Add(life))
	publishByHand(t, cluster, ending, ending.sign(t, "ending issuer", true, ending.cert.NotAfter))
	deletePods(t, cluster, "linkerd")
	awaitReady(t, cluster, linkerdWorkloads()...)
	deletePods(t, cluster, namespace)
	awaitMeshed(t, cluster, 5)
	watchTrust(t, cluster).expectAnchor(t, ending.certPEM())
	err := wait.PollUntilContextTimeout(t.Context(), time.Second, 2*life, true, func(context.Context) (bool, error) {
		return time.Now().After(ending.cert.NotAfter), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	deletePods(t, cluster, "linkerd")
	before = revisions(t, cluster)
	plan = w.run("plan", "-detailed-exitcode", "-no-color")
	if plan.code != 2 || !strings.Contains(plan.output, "mTLS Is Down") {
		t.Errorf("the plan does not say that mTLS is down: exit code %d\n%s", plan.code, plan.output)
	}
	w.apply()
	w.expectNoChanges()
	watchTrust(t, cluster).expectAnchor(t, w.attribute(anchorAddress, "certificate_pem"))
	expectRestarts(t, cluster, before, 1)
}

// linkerdWorkloads are those of Linkerd's control plane.
func linkerdWorkloads() []kube.Ref {
	var refs []kube.Ref
	for _, name := range []string{"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"} {
		refs = append(refs, kube.Ref{Kind: kube.Deployment, Namespace: "linkerd", Name: name})
	}
	return refs
}

// deletePods deletes the pods of a namespace and waits until they are gone.
func deletePods(t *testing.T, cluster *testcluster.Cluster, namespace string) {
	t.Helper()
	pods := cluster.Client().CoreV1().Pods(namespace)
	before, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the pods of "+namespace, func(ctx context.Context) bool {
		now, err := pods.List(ctx, metav1.ListOptions{})
		return err == nil && !slices.ContainsFunc(now.Items, func(pod corev1.Pod) bool {
			return slices.ContainsFunc(before.Items, func(former corev1.Pod) bool { return former.UID == pod.UID })
		})
	})
}

// describeFailures are the errors of a run with -json.
func describeFailures(o outcome) string {
	var text strings.Builder
	for _, failure := range o.failures() {
		text.WriteString(failure.Summary + ": " + failure.Detail + "\n")
	}
	return text.String()
}

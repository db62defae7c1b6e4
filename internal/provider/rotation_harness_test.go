package provider

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// A trustConfig is an anchor, an issuer, a control plane and the enrolment of
// namespaces, with what a rotation is begun and steered by.
type trustConfig struct {
	kubeconfig, repository, mesh string
	anchor, issuer, controlPlane string // more arguments of each
	trigger, renewal, rotation   string
	enrolled                     []string
}

func (c trustConfig) String() string {
	optional := func(name, value string) string {
		if value == "" {
			return ""
		}
		return fmt.Sprintf("%s = %q", name, value)
	}
	enrolled := make([]string, len(c.enrolled))
	for i, namespace := range c.enrolled {
		enrolled[i] = fmt.Sprintf("%q", namespace)
	}
	return providerConfig(c.kubeconfig, fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "this" {
	  %[2]s
	  %[3]s
	}
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = %[1]q
	  rotation         = %[4]q
	  %[5]s
	  %[6]s
	}
	resource "aksmesh_injection" "this" {
	  for_each  = toset([%[7]s])
	  namespace = each.key
	  mesh      = { %[1]s = { control_plane_namespace = aksmesh_%[1]s.this.id } }
	  follows   = [aksmesh_%[1]s.this.version]
	}`, c.mesh, optional("rotation_trigger", c.trigger), c.anchor, cmp.Or(c.rotation, rotationStaged),
		optional("renewal_trigger", c.renewal), c.issuer, strings.Join(enrolled, ", ")), c.installed("aksmesh_issuer.this.id"))
}

// installed is the control plane alone, with the issuer of that ID.
func (c trustConfig) installed(issuerID string) string {
	version := linkerdNew
	if c.mesh == "istio" {
		version = istioNew
	}
	return fmt.Sprintf(`
	resource "aksmesh_%[1]s" "this" {
	  version    = %[2]q
	  repository = %[3]q
	  issuer_id  = %[4]s
	  %[5]s
	}`, c.mesh, version, c.repository, issuerID, c.controlPlane)
}

// apply applies the configuration as it is now.
func (c trustConfig) apply(w *workspace) {
	w.t.Helper()
	w.write(c.String())
	w.apply()
}

// shortLived has Linkerd give certificates that a test can wait for the end of.
const shortLived = `values = ["identity: { issuer: { issuanceLifetime: 30s, clockSkewAllowance: 10s } }"]`

// injectedNamespace is a namespace that somebody has enrolled of whom Terraform
// knows nothing.
func injectedNamespace(t *testing.T, cluster *testcluster.Cluster, mesh string) string {
	t.Helper()
	namespace := cluster.Namespace(t)
	patch := `{"metadata":{"annotations":{"linkerd.io/inject":"enabled"}}}`
	if mesh == "istio" {
		patch = `{"metadata":{"labels":{"istio-injection":"enabled"}}}`
	}
	patchObject(t, cluster, "Namespace", namespace, "", patch)
	return namespace
}

// deploy creates a Deployment and does not wait for its pods.
func deploy(t *testing.T, cluster *testcluster.Cluster, namespace, name string, replicas int32) {
	t.Helper()
	_, err := cluster.Client().AppsV1().Deployments(namespace).
		Create(t.Context(), testcluster.NewDeployment(namespace, name, replicas), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// budget lets one pod of a workload be away.
func budget(t *testing.T, cluster *testcluster.Cluster, namespace, name string) {
	t.Helper()
	one := intstr.FromInt32(1)
	_, err := cluster.Client().PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// runMeshedJob runs a meshed Job to its end.
func runMeshedJob(t *testing.T, cluster *testcluster.Cluster, namespace string) {
	t.Helper()
	d := testcluster.NewDeployment(namespace, "once", 1)
	d.Spec.Template.Annotations = map[string]string{"config.alpha.linkerd.io/proxy-enable-native-sidecar": "true"}
	d.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	jobs := cluster.Client().BatchV1().Jobs(namespace)
	_, err := jobs.Create(t.Context(), &batchv1.Job{ObjectMeta: d.ObjectMeta, Spec: batchv1.JobSpec{Template: d.Spec.Template}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the end of Job "+namespace+"/once", func(ctx context.Context) bool {
		job, err := jobs.Get(ctx, "once", metav1.GetOptions{})
		return err == nil && job.Status.Succeeded == 1
	})
}

// awaitMeshed waits until all pods that do not end are ready and as many of the
// data plane have an identity.
func awaitMeshed(t *testing.T, cluster *testcluster.Cluster, want int) {
	t.Helper()
	var count int
	await(t, fmt.Sprintf("%d meshed pods", want), func(ctx context.Context) bool {
		pods, err := cluster.Client().CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false
		}
		count = 0
		for _, pod := range pods.Items {
			if pod.Namespace == "linkerd" || pod.Namespace == "istio-system" || pod.Status.Phase == corev1.PodSucceeded {
				continue
			}
			if identity, err := testcluster.ProxyIdentity(&pod); err != nil || identity == nil || !ready(pod) {
				return false
			}
			count++
		}
		return count == want
	})
}

// revisions are how often the pods of each workload were made anew, the first time
// included, by `<namespace>/<name>`.
func revisions(t *testing.T, cluster *testcluster.Cluster) map[string]int {
	t.Helper()
	apps := cluster.Client().AppsV1()
	sets, err := apps.ReplicaSets("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	others, err := apps.ControllerRevisions("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	count := func(object metav1.Object) {
		if owner := metav1.GetControllerOf(object); owner != nil {
			found[object.GetNamespace()+"/"+owner.Name]++
		}
	}
	for i := range sets.Items {
		count(&sets.Items[i])
	}
	for i := range others.Items {
		count(&others.Items[i])
	}
	return found
}

// expectRestarts wants every workload of the data plane to have been restarted so
// often since the revisions were counted.
func expectRestarts(t *testing.T, cluster *testcluster.Cluster, before map[string]int, want int) {
	t.Helper()
	after := revisions(t, cluster)
	for workload, count := range before {
		if strings.HasPrefix(workload, "linkerd/") || workload == "istio-system/istiod" {
			continue
		}
		if restarts := after[workload] - count; restarts != want {
			t.Errorf("%s was restarted %d times, want %d", workload, restarts, want)
		}
	}
}

// podUIDs are the meshed pods, those of the control plane included.
func podUIDs(t *testing.T, cluster *testcluster.Cluster) []string {
	t.Helper()
	pods, err := cluster.Client().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var uids []string
	for _, pod := range pods.Items {
		if identity, err := testcluster.ProxyIdentity(&pod); err == nil && identity != nil {
			uids = append(uids, pod.Namespace+"/"+pod.Name+" "+string(pod.UID))
		}
	}
	slices.Sort(uids)
	return uids
}

// rotationSteps are the stages that are still to come, as the state has them.
func rotationSteps(w *workspace) []string {
	w.t.Helper()
	list, ok := w.attributes()[issuerAddress]["rotation_steps"].([]any)
	if !ok {
		w.t.Fatalf("rotation_steps is %v", w.attributes()[issuerAddress]["rotation_steps"])
	}
	steps := make([]string, len(list))
	for i, step := range list {
		name, _, _ := strings.Cut(fmt.Sprint(step), ":")
		steps[i] = name
	}
	return steps
}

// Package clustertest gives the tests of this module a cluster to install
// charts in, and what they do with it most.
package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// patience is how long anything may take on a busy machine.
const patience = 2 * time.Minute

// World is a cluster and the test, or part of one, that uses it. Its methods
// fail the test.
type World struct {
	*testing.T
	Cluster *cluster.Cluster
	Client  kubernetes.Interface
	charts  []charts.Archive
}

// Builder builds binaries with the module graph of this module, whose root is
// the parent of the test's directory.
func Builder(t *testing.T) binaries.Builder {
	t.Helper()
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	goSum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	return binaries.Builder{GoMod: goMod, GoSum: goSum, Progress: t.Output()}
}

// Start starts a cluster that runs programs, gives proxies identities and ends
// with the test. Install and Upgrade know the charts in archives.
func Start(t *testing.T, programs []program.Program, proxies []program.Proxy, archives []charts.Archive) World {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{
		Binaries: Builder(t),
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Programs: programs,
		Proxies:  proxies,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	return World{T: t, Cluster: c, Client: client, charts: archives}
}

// Part runs a part of the test.
func (w World) Part(name string, part func(w World)) {
	w.Run(name, func(t *testing.T) {
		w.T = t
		part(w)
	})
}

// Eventually waits until met. It gives up at an error of met, or after a time
// that only a broken cluster needs.
func (w World) Eventually(what string, met func(context.Context) (bool, error)) {
	w.Helper()
	if err := wait.PollUntilContextTimeout(w.Context(), 20*time.Millisecond, patience, true, met); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// Namespace creates a namespace.
func (w World) Namespace(name string, labels, annotations map[string]string) {
	w.Helper()
	_, err := w.Client.CoreV1().Namespaces().Create(w.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// helm returns a chart and access to the releases of a namespace.
func (w World) helm(name, version, namespace string) (*chart.Chart, *action.Configuration) {
	w.Helper()
	i := slices.IndexFunc(w.charts, func(a charts.Archive) bool { return a.Name == name && a.Version == version })
	if i < 0 {
		w.Fatalf("no chart %s %s", name, version)
	}
	c, err := w.charts[i].Chart()
	if err != nil {
		w.Fatal(err)
	}
	path := w.Cluster.Info().Kubeconfig
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &path, &namespace
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS = -1
		return c
	}
	configuration := new(action.Configuration)
	if err := configuration.Init(flags, namespace, "", func(string, ...any) {}); err != nil {
		w.Fatal(err)
	}
	return c, configuration
}

// Install installs a chart and waits for nothing.
func (w World) Install(name, version, release, namespace string, values map[string]any) {
	w.Helper()
	c, configuration := w.helm(name, version, namespace)
	install := action.NewInstall(configuration)
	install.ReleaseName, install.Namespace = release, namespace
	if _, err := install.RunWithContext(w.Context(), c, values); err != nil {
		w.Fatal(err)
	}
}

// Upgrade upgrades a release, whose own values stay in force unless values
// change them, and waits for nothing.
func (w World) Upgrade(name, version, release, namespace string, values map[string]any) {
	w.Helper()
	c, configuration := w.helm(name, version, namespace)
	upgrade := action.NewUpgrade(configuration)
	upgrade.Namespace = namespace
	// Plain reuse would bring back the defaults of the old chart, which are
	// values like any other in Istio's charts, and the old images with them.
	upgrade.ResetThenReuseValues = true
	if _, err := upgrade.RunWithContext(w.Context(), release, c, values); err != nil {
		w.Fatal(err)
	}
}

// RolledOut waits until the replicas of a Deployment, which may be none, are
// available, of its newest template, and alone.
func (w World) RolledOut(namespace, name string) {
	w.Helper()
	w.Eventually("Deployment "+namespace+"/"+name+" is rolled out", func(ctx context.Context) (bool, error) {
		d, err := w.Client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s, want := d.Status, *d.Spec.Replicas
		return s.ObservedGeneration == d.Generation && s.Replicas == want && s.UpdatedReplicas == want &&
			s.AvailableReplicas == want, nil
	})
}

// Stuck waits until a new pod of a Deployment cannot have its image, and says so
// as a kubelet does, while an older one is available.
func (w World) Stuck(namespace, name string) {
	w.Helper()
	w.Eventually("Deployment "+namespace+"/"+name+" is stuck", func(ctx context.Context) (bool, error) {
		d, err := w.Client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s := d.Status
		if s.ObservedGeneration != d.Generation || s.UpdatedReplicas != 1 || s.UnavailableReplicas != 1 || s.AvailableReplicas != 1 {
			return false, nil
		}
		pods, err := w.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
			LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector),
		})
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(pods.Items, func(pod corev1.Pod) bool {
			return slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
				return c.State.Waiting != nil && c.State.Waiting.Reason == "ImagePullBackOff"
			})
		})
		if i < 0 {
			return false, nil
		}
		events, err := w.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.kind=Pod,involvedObject.name=" + pods.Items[i].Name,
		})
		return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.Type == corev1.EventTypeWarning && e.Reason == "Failed" && e.Message == "Error: ImagePullBackOff"
		}), err
	})
}

// Scale sets the replicas of a Deployment and waits until it has them and the
// pods that went are gone.
func (w World) Scale(namespace, name string, replicas int32) {
	w.Helper()
	patch := fmt.Appendf(nil, `{"spec": {"replicas": %d}}`, replicas)
	d, err := w.Client.AppsV1().Deployments(namespace).
		Patch(w.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.RolledOut(namespace, name)
	w.gone(d)
}

// TryPod has the API server admit a pod of one container, annotated so, without
// keeping it.
func (w World) TryPod(ctx context.Context, namespace string, annotations map[string]string) (*corev1.Pod, error) {
	return w.Client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "app", Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// Deploy creates a Deployment of one pod like those of TryPod, labelled
// app=<name>, and waits until it is rolled out.
func (w World) Deploy(namespace, name string, labels map[string]string) *appsv1.Deployment {
	w.Helper()
	selected := map[string]string{"app": name}
	all := maps.Clone(selected)
	maps.Copy(all, labels)
	d, err := w.Client.AppsV1().Deployments(namespace).Create(w.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selected},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: all},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.RolledOut(namespace, name)
	return d
}

// Restart gives a Deployment new pods, as `kubectl rollout restart` does, and
// waits until the old ones are gone.
func (w World) Restart(namespace, name string) {
	w.Helper()
	patch := fmt.Appendf(nil, `{"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": %q}}}}}`,
		time.Now().Format(time.RFC3339Nano))
	d, err := w.Client.AppsV1().Deployments(namespace).
		Patch(w.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.RolledOut(namespace, name)
	w.gone(d)
}

// gone waits until a Deployment has no more pods than it wants.
func (w World) gone(d *appsv1.Deployment) {
	w.Helper()
	selector := metav1.FormatLabelSelector(d.Spec.Selector)
	w.Eventually("pods of Deployment "+d.Namespace+"/"+d.Name, func(ctx context.Context) (bool, error) {
		pods, err := w.Client.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		return err == nil && len(pods.Items) == int(*d.Spec.Replicas), err
	})
}

// An Identity is what a proxy has of its control plane.
type Identity struct {
	// Name is that of the workload.
	Name string
	// Signer and Roots are the common names of the authority that signed its
	// certificate, and of the roots that it trusts.
	Signer string
	Roots  []string
}

// Identity is what the proxy of the only pod of a Deployment has.
func (w World) Identity(ctx context.Context, namespace, name string) Identity {
	w.Helper()
	d, err := w.Client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	pods, err := w.Client.CoreV1().Pods(namespace).
		List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		w.Fatal(err)
	}
	if len(pods.Items) != 1 {
		w.Fatalf("Deployment %s/%s has %d pods, want 1", namespace, name, len(pods.Items))
	}
	var shown program.Identity
	if err := json.Unmarshal([]byte(pods.Items[0].Annotations[program.IdentityAnnotation]), &shown); err != nil {
		w.Fatalf("identity of Pod %s/%s: %v", namespace, pods.Items[0].Name, err)
	}
	chain, err := cert.ParseCertsPEM([]byte(shown.Chain))
	if err != nil {
		w.Fatal(err)
	}
	roots, err := cert.ParseCertsPEM([]byte(shown.Roots))
	if err != nil {
		w.Fatal(err)
	}
	identity := Identity{Signer: chain[0].Issuer.CommonName}
	for _, uri := range chain[0].URIs {
		identity.Name = uri.String()
	}
	for _, dns := range chain[0].DNSNames {
		identity.Name = dns
	}
	for _, root := range roots {
		identity.Roots = append(identity.Roots, root.Subject.CommonName)
	}
	return identity
}

// Identified fails the test unless the proxy of the only pod of a Deployment
// was certified by signer and trusts just roots, in this order.
func (w World) Identified(namespace, name, signer string, roots ...string) {
	w.Helper()
	got := w.Identity(w.Context(), namespace, name)
	if got.Signer != signer || !slices.Equal(got.Roots, roots) {
		w.Errorf("the proxy of Deployment %s/%s is certified by %q and trusts %q, want %q and %q",
			namespace, name, got.Signer, got.Roots, signer, roots)
	}
}

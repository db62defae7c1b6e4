package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var shared testcluster.Shared

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// A restartMesh has every pod in it that was made by a restart: it needs no
// injector. Its control plane is a Deployment.
type restartMesh struct {
	mesh.Mesh // nil: what is not needed is not there

	ambient      bool
	controlPlane kube.Ref
}

func (restartMesh) Name() string             { return "Restarted" }
func (restartMesh) NamespaceMark() mesh.Mark { return mesh.Mark{} }
func (restartMesh) WorkloadMark() mesh.Mark  { return mesh.Mark{} }
func (restartMesh) Exempt(*corev1.Pod) string {
	return ""
}
func (m restartMesh) InPlace() bool { return m.ambient }

func (m restartMesh) Proxy(pod *corev1.Pod) mesh.Proxy {
	switch {
	case m.ambient && pod.Status.PodIP != "":
		return mesh.Proxy{Mode: mesh.Ambient}
	case !m.ambient && pod.Annotations[kube.RestartAnnotation] != "":
		return mesh.Proxy{Mode: mesh.Sidecar}
	}
	return mesh.Proxy{}
}

func (m restartMesh) ControlPlane(ctx context.Context, cluster *kube.Cluster) (mesh.ControlPlane, error) {
	if m.controlPlane.Name == "" {
		return restartPlane{}, nil
	}
	injector, err := cluster.Workload(ctx, m.controlPlane)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, mesh.ErrNoControlPlane
	}
	return restartPlane{injector}, err
}

type restartPlane struct{ injector *kube.Workload }

func (p restartPlane) Available() error {
	if p.injector != nil && p.injector.Available == 0 {
		return errors.New("nobody is there")
	}
	return nil
}

func (restartPlane) Sees(_ *corev1.Namespace, pod *corev1.Pod) error {
	if pod.Labels["app"] == "refused" {
		return errors.New("it is refused")
	}
	return nil
}
func (restartPlane) Privileged() bool                             { return false }
func (restartPlane) Stale(mesh.Subject, mesh.Proxy) []mesh.Reason { return nil }

// pods connects to the cluster, and returns the data plane of a new namespace.
func pods(t *testing.T, m restartMesh) (*testcluster.Cluster, mesh.DataPlane) {
	t.Helper()
	embedded := shared.Cluster(t)
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "mesh-test")
	if err != nil {
		t.Fatal(err)
	}
	return embedded, mesh.DataPlane{Cluster: cluster, Mesh: m, Namespace: embedded.Namespace(t), Now: time.Now()}
}

func patch(t *testing.T, embedded *testcluster.Cluster, namespace, name, body string) {
	t.Helper()
	if _, err := embedded.Client().AppsV1().Deployments(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// revision is the number of the template that a Deployment has now.
func revision(t *testing.T, embedded *testcluster.Cluster, namespace, name string) string {
	t.Helper()
	d, err := embedded.Client().AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d.Annotations["deployment.kubernetes.io/revision"]
}

func TestAccSettleLeavesRefusedPodsAlone(t *testing.T) {
	t.Parallel()
	embedded, d := pods(t, restartMesh{})
	embedded.CreateDeployment(t, d.Namespace, "refused", 1)
	embedded.CreateDeployment(t, d.Namespace, "web", 2)
	survey, err := d.Settle(t.Context())
	if err != nil || survey.Total != 2 || survey.Meshed != 2 || len(survey.Wrong) > 0 {
		t.Errorf("%+v, %v", survey, err)
	}
	if len(survey.Skipped) != 1 || survey.Skipped[0].Reason != "it is refused" {
		t.Errorf("skipped: %v", survey.Skipped)
	}
	if got := revision(t, embedded, d.Namespace, "refused"); got != "1" {
		t.Errorf("what is refused was restarted: revision %s", got)
	}
}

// A rollout that is under way is left to come to its end if it puts the pods
// right, and overtaken by a restart if it cannot.
func TestAccSettleWaitsForWhatHelps(t *testing.T) {
	t.Parallel()
	embedded, d := pods(t, restartMesh{})
	restarted := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:"2026-01-01T00:00:00Z"}}}}}`, kube.RestartAnnotation)
	for name, test := range map[string]struct{ change, revision string }{
		"helps": {restarted, "2"},
		"fails": {strings.Replace(restarted, `{"metadata"`, `{"spec":{"containers":[{"name":"main","image":"registry.invalid/app:does-not-exist"}]},"metadata"`, 1), ""},
		"idle":  {`{"metadata":{"labels":{"other":"label"}}}`, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := d
			d.Namespace = embedded.Namespace(t)
			embedded.CreateDeployment(t, d.Namespace, "web", 1)
			patch(t, embedded, d.Namespace, "web", test.change)
			survey, err := d.Settle(t.Context())
			if test.revision == "" {
				var failure *kube.RolloutError
				if !errors.As(err, &failure) || !regexp.MustCompile(`does-not-exist`).MatchString(err.Error()) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || survey.Meshed != 1 || survey.Total != 1 {
				t.Errorf("%+v, %v", survey, err)
			}
			if got := revision(t, embedded, d.Namespace, "web"); got != test.revision {
				t.Errorf("revision %s, want %s", got, test.revision)
			}
		})
	}
}

// An injector that is away for a moment is waited for.
func TestAccSettleWaitsForTheInjector(t *testing.T) {
	t.Parallel()
	embedded, d := pods(t, restartMesh{})
	plane := embedded.Namespace(t)
	d.Mesh = restartMesh{controlPlane: kube.Ref{Kind: kube.Deployment, Namespace: plane, Name: "injector"}}
	if _, err := d.Settle(t.Context()); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("without an injector: %v", err)
	}
	embedded.CreateDeployment(t, plane, "injector", 0)
	embedded.CreateDeployment(t, d.Namespace, "web", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting := make(chan struct{}, 1)
	d.Log = func(message string, _ map[string]any) {
		if message == "waiting for the control plane" {
			waiting <- struct{}{}
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := d.Settle(ctx)
		done <- err
	}()
	select {
	case <-waiting:
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	}
	if got := revision(t, embedded, d.Namespace, "web"); got != "1" {
		t.Errorf("restarted without an injector: revision %s", got)
	}
	patch(t, embedded, plane, "injector", `{"spec":{"replicas":1}}`)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := revision(t, embedded, d.Namespace, "web"); got != "2" {
		t.Errorf("revision %s", got)
	}
}

// A pod that has not started joins a mesh that takes pods in as they are when it
// does: nobody waits for it.
func TestAccSettlePassesOverPodsThatHaveNotStarted(t *testing.T) {
	t.Parallel()
	embedded, d := pods(t, restartMesh{ambient: true})
	embedded.CreateDeployment(t, d.Namespace, "web", 1)
	nowhere := testcluster.NewDeployment(d.Namespace, "nowhere", 1)
	nowhere.Spec.Template.Spec.NodeSelector = map[string]string{"no": "such-node"}
	if _, err := embedded.Client().AppsV1().Deployments(d.Namespace).Create(t.Context(), nowhere, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := d.Cluster.Await(t.Context(), d.Namespace, []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
		all, err := d.Cluster.Pods(ctx, d.Namespace)
		if err != nil || slices.ContainsFunc(all, func(pod *corev1.Pod) bool { return pod.Labels["app"] == "nowhere" }) {
			return "", err
		}
		return "the pod", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	survey, err := d.Settle(t.Context())
	if err != nil || survey.Total != 1 || survey.Meshed != 1 || len(survey.Wrong)+len(survey.Skipped) > 0 {
		t.Errorf("%+v, %v", survey, err)
	}
}

package release

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/klog/v2"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var shared = testcluster.Shared{Options: testcluster.Options{AuditLog: true}}

func TestMain(m *testing.M) {
	// client-go reports failing discovery there, of which the tests make a lot.
	klog.SetLogger(logr.Discard())
	os.Exit(shared.Main(m))
}

// cluster connects to the embedded cluster by a kubeconfig, its own if "".
func releasesBy(t *testing.T, kubeconfig string) *Releases {
	t.Helper()
	if kubeconfig == "" {
		kubeconfig = shared.Cluster(t).Kubeconfig()
	}
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{kubeconfig}}, "release-test")
	if err != nil {
		t.Fatal(err)
	}
	charts, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &Releases{Cluster: cluster, Charts: charts}
}

func open(t *testing.T, releases *Releases, namespace, name string) *Release {
	t.Helper()
	release, err := releases.Open(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func parse(t *testing.T, text string) []Object {
	t.Helper()
	objects, err := ParseManifests(Manifest{Source: "test.yaml", Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func dynamicClient(t *testing.T, releases *Releases) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(releases.Cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// patient bounds what waits for the cluster.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func deploy(t *testing.T, releases *Releases, namespace, name string, desired Desired) *Release {
	t.Helper()
	release := open(t, releases, namespace, name)
	if err := release.Deploy(patient(t), desired); err != nil {
		t.Fatal(err)
	}
	return release
}

func planned(t *testing.T, releases *Releases, namespace, name string, desired Desired) []string {
	t.Helper()
	changes, err := open(t, releases, namespace, name).Plan(patient(t), desired)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, change := range changes {
		if change.Action != kube.Unchanged {
			lines = append(lines, strings.ReplaceAll(change.String(), namespace+"/", "ns/"))
		}
	}
	return lines
}

func live(t *testing.T, releases *Releases, kind kube.Kind, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	found, err := releases.Cluster.Get(t.Context(), kube.Ref{Kind: kind, Namespace: namespace, Name: name})
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const application = `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: red}}
- {apiVersion: v1, kind: Secret, metadata: {name: credentials}, stringData: {password: hunter2}}
---
# Nothing but a comment.
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "registry.invalid/web:1", resources: {limits: {cpu: "0.1"}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
`

func TestAccLifeOfARelease(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	desired := Desired{Objects: parse(t, application), Wait: true, Inputs: []byte(`{"a":1}`)}
	want := []string{"+ Secret ns/credentials", "+ ConfigMap ns/settings", "+ Service ns/web", "+ Deployment ns/web"}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, want) {
		t.Errorf("first plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	release := open(t, releases, namespace, "app")
	if record := release.Record(); record == nil || record.Phase != PhaseDeployed || len(record.Objects) != 4 || string(record.Inputs) != `{"a":1}` {
		t.Errorf("record %+v", record)
	}
	if drift, err := release.Drift(t.Context()); err != nil || len(drift) > 0 {
		t.Errorf("drift %q, %v", drift, err)
	}

	changed := strings.NewReplacer("replicas: 1", "replicas: 2", "hunter2", "hunter3", "name: settings", "name: options").Replace(application)
	desired.Objects = parse(t, changed)
	want = []string{
		"~ Secret ns/credentials: data.password: changes (not shown)", "+ ConfigMap ns/options",
		"~ Deployment ns/web: spec.replicas: 1 -> 2", "- ConfigMap ns/settings",
	}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, want) {
		t.Errorf("plan of a change %q", got)
	}
	release = deploy(t, releases, namespace, "app", desired)
	if live(t, releases, kube.ConfigMap, namespace, "settings") != nil {
		t.Error("an object that is wanted no more is there")
	}
	if kept, err := release.Uninstall(patient(t), UninstallOptions{}); err != nil || len(kept) > 0 {
		t.Errorf("uninstall: %q, %v", kept, err)
	}
	for _, kind := range []kube.Kind{kube.Deployment, kube.Service} {
		if live(t, releases, kind, namespace, "web") != nil {
			t.Errorf("the %s is left", kind)
		}
	}
	if pods, err := releases.Cluster.Pods(t.Context(), namespace); err != nil || len(pods) > 0 {
		t.Errorf("%d pods are left, %v", len(pods), err)
	}
	if open(t, releases, namespace, "app").Record() != nil {
		t.Error("the record is left")
	}
}

func count(n *int) func(*unstructured.Unstructured) error {
	return func(*unstructured.Unstructured) error {
		*n++
		return nil
	}
}

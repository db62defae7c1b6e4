package helm

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var shared testcluster.Shared

func TestMain(m *testing.M) {
	// client-go reports failing discovery there, of which the tests make a lot.
	klog.SetLogger(logr.Discard())
	os.Exit(shared.Main(m))
}

func connectCluster(t *testing.T) *kube.Cluster {
	t.Helper()
	connected, err := kube.Connect(kube.Settings{ConfigPaths: []string{shared.Cluster(t).Kubeconfig()}}, "helm-test")
	if err != nil {
		t.Fatal(err)
	}
	return connected
}

func releasesOf(t *testing.T, connection Connection) *Releases {
	t.Helper()
	releases, err := NewReleases(connection, ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return releases
}

func objectsOf(t *testing.T, cluster *kube.Cluster, group, resource string) dynamic.NamespaceableResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource})
}

// TestAccLifeOfARelease takes one release through everything on a real API server.
func TestAccLifeOfARelease(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	namespace := shared.Cluster(t).Namespace(t)
	request := deployRequest(t, map[string]any{"extra": true})
	request.Namespace = namespace
	configMap := objectsOf(t, cluster, "", "configmaps").Namespace(namespace)
	crd := objectsOf(t, cluster, "apiextensions.k8s.io", "customresourcedefinitions")
	widget := objectsOf(t, cluster, "example.com", "widgets").Namespace(namespace)

	// Somebody else's object is in the way.
	foreign := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"a": "b"},
	}}
	foreign.SetName("extra")
	if _, err := configMap.Create(t.Context(), foreign, metav1.CreateOptions{FieldManager: "a-stranger"}); err != nil {
		t.Fatal(err)
	}
	_, err := releases.Deploy(t.Context(), request)
	refused, ok := errors.AsType[*ForeignObjectsError](err)
	want := ForeignObject{Kind: "ConfigMap", Namespace: namespace, Name: "extra", Owner: "written by a-stranger"}
	if !ok || !slices.Equal(refused.Objects, []ForeignObject{want}) {
		t.Fatalf("got %v", err)
	}
	request.TakeOwnership = true
	if _, err := releases.Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	request.TakeOwnership = false

	// An object of a kind that the first revision has brought, and drift to repair.
	request.Values = map[string]any{"widget": true}
	for range 2 {
		if _, err := releases.Deploy(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		patch := []byte(`{"spec": {"size": "changed by hand"}}`)
		if _, err := widget.Patch(t.Context(), "one", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		patch = []byte(`{"data": {"value": "changed by hand"}}`)
		if _, err := configMap.Patch(t.Context(), "one", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	deployed, err := releases.Deploy(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	one, err := widget.Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if size, _, _ := unstructured.NestedString(one.Object, "spec", "size"); size != "one" {
		t.Errorf("size %q", size)
	}
	if _, err := configMap.Get(t.Context(), "extra", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("an object that is wanted no more: %v", err)
	}
	got, err := releases.Get(t.Context(), namespace, "control")
	if err != nil || got.Revision != deployed.Revision || got.Status != StatusDeployed || got.Manifest != deployed.Manifest {
		t.Errorf("got %+v, %v", got, err)
	}

	// CRDs stay when told to, and the next install takes them back.
	if err := releases.Uninstall(t.Context(), namespace, "control", UninstallOptions{KeepCRDs: true, Wait: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := crd.Get(t.Context(), "widgets.example.com", metav1.GetOptions{}); err != nil {
		t.Errorf("the CRD that was to be kept: %v", err)
	}
	if _, err := releases.Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := releases.Uninstall(t.Context(), namespace, "control", UninstallOptions{Wait: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := crd.Get(t.Context(), "widgets.example.com", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the CRD that was to go: %v", err)
	}
	if _, err := releases.Get(t.Context(), namespace, "control"); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("the release is still on record: %v", err)
	}
}

// TestAccChartsOfTheCluster installs published charts from a Helm repository and from an OCI registry.
func TestAccChartsOfTheCluster(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	namespace := shared.Cluster(t).Namespace(t)
	library := NewLibrary(LibraryOptions{CacheDir: t.TempDir()})
	locations := shared.Cluster(t).Charts()
	for _, repository := range []string{locations.Repository, "oci://" + locations.OCIRegistry + "/charts"} {
		loaded, err := library.Load(t.Context(), Source{Repository: repository, Name: "linkerd-crds", Version: "2026.8.3"})
		if err != nil {
			t.Fatal(err)
		}
		deployed, err := releases.Deploy(t.Context(), DeployRequest{Namespace: namespace, Name: "linkerd-crds", Chart: loaded})
		if err != nil {
			t.Fatal(err)
		}
		objects, err := deployed.Objects()
		if err != nil || len(objects) == 0 {
			t.Errorf("objects: %d, %v", len(objects), err)
		}
		for _, object := range objects {
			if _, err := cluster.KindFor(t.Context(), object.GroupVersionKind()); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := library.Load(t.Context(), Source{Repository: locations.Repository, Name: "linkerd-crds", Version: "2026.8.4"})
	if unknown, ok := errors.AsType[*UnknownVersionError](err); !ok || unknown.Nearest[0] != "2026.8.3" {
		t.Errorf("unknown version: %v", err)
	}
	if err := releases.Uninstall(t.Context(), namespace, "linkerd-crds", UninstallOptions{Wait: true}); err != nil {
		t.Error(err)
	}
}

// mortal is a connection on which every request from the n-th on fails, the n-th after it was obeyed if so wanted.
type mortal struct {
	*kube.Cluster
	n      int32
	obeyed bool
	seen   atomic.Int32
}

func (m *mortal) RESTConfig() *rest.Config {
	config := m.Cluster.RESTConfig()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			switch seen := m.seen.Add(1); {
			case seen < m.n:
				return next.RoundTrip(request)
			case seen == m.n && m.obeyed:
				if response, err := next.RoundTrip(request); err == nil {
					return nil, errors.Join(errors.New("died"), response.Body.Close())
				}
			}
			return nil, errors.New("died")
		})
	})
	return config
}

// TestAccDeathAtAnyRequest is TestAnInterruptionAnywhereCanBeTakenUp on a real API server, with objects that it fills
// with defaults.
func TestAccDeathAtAnyRequest(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"templates/one.yaml":   templates["templates/one.yaml"],
		"templates/extra.yaml": templates["templates/extra.yaml"],
		"templates/deployment.yaml": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: one}
spec:
  selector: {matchLabels: {app: one}}
  template:
    metadata: {labels: {app: one}}
    spec: {containers: [{name: main, image: "registry.invalid/one:{{ .Values.data }}"}]}
`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, obeyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("obeyed=%t", obeyed), func(t *testing.T) {
			t.Parallel()
			namespace := shared.Cluster(t).Namespace(t)
			request := DeployRequest{Namespace: namespace, Chart: loaded}
			for n := int32(1); ; n++ {
				request.Name = fmt.Sprintf("release-%d", n)
				dying := &mortal{Cluster: cluster, n: n, obeyed: obeyed}
				request.Values = map[string]any{"data": "first", "extra": true}
				_, err := releasesOf(t, dying).Deploy(t.Context(), request)
				if dying.seen.Load() < n {
					if err != nil || n < 8 {
						t.Errorf("without dying, after %d requests: %v", n-1, err)
					}
					return
				}
				request.Values = map[string]any{"data": "second"}
				deployed, err := releases.Deploy(t.Context(), request)
				if err != nil || deployed.Status != StatusDeployed {
					t.Fatalf("death at request %d: %+v, %v", n, deployed, err)
				}
				configMaps, err := objectsOf(t, cluster, "", "configmaps").Namespace(namespace).
					List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=Helm"})
				if err != nil || len(configMaps.Items) != 1 || configMaps.Items[0].GetName() != "one" {
					t.Fatalf("death at request %d: %d ConfigMaps, %v", n, len(configMaps.Items), err)
				}
				if err := releases.Uninstall(t.Context(), namespace, request.Name, UninstallOptions{Wait: true}); err != nil {
					t.Fatalf("death at request %d: %v", n, err)
				}
			}
		})
	}
}

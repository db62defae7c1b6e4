package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

var _ Connection = (*kube.Cluster)(nil)

const (
	configMaps = "/api/v1/namespaces/mesh/configmaps/"
	secrets    = "/api/v1/namespaces/mesh/secrets/"
	crds       = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	widgets    = "/apis/example.com/v1/namespaces/mesh/widgets/"
)

// templates of a chart with a CRD among them, as Linkerd's are, and a hook.
var templates = map[string]string{
	"values.yaml": "data: one\nextra: false\nwidget: false",
	"templates/one.yaml": `
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {value: {{ .Values.data }}, upgrade: "{{ .Release.IsUpgrade }}"}
`,
	"templates/extra.yaml": `
{{ if .Values.extra }}
apiVersion: v1
kind: ConfigMap
metadata: {name: extra}
{{ end }}
`,
	"templates/crd.yaml": `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`,
	"templates/widget.yaml": `
{{ if .Values.widget }}
apiVersion: example.com/v1
kind: Widget
metadata: {name: one}
spec: {size: {{ .Values.data }}}
{{ end }}
`,
	"templates/hook.yaml": `
apiVersion: batch/v1
kind: Job
metadata:
  name: hook
  annotations: {helm.sh/hook: post-install, helm.sh/hook-delete-policy: hook-succeeded}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.invalid/hook}]}}}
`,
}

func testChart(t *testing.T) *Chart {
	t.Helper()
	loaded, err := readArchive(packed(t, "1.0.0", templates))
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func deployRequest(t *testing.T, values map[string]any) DeployRequest {
	t.Helper()
	return DeployRequest{
		Namespace: "mesh", Name: "control", Chart: testChart(t), Values: values,
		Labels: map[string]string{"example.com/owner": "me"},
	}
}

func deploy(t *testing.T, s *apiServer, values map[string]any) *Release {
	t.Helper()
	deployed, err := s.releases(t).Deploy(t.Context(), deployRequest(t, values))
	if err != nil {
		t.Fatal(err)
	}
	return deployed
}

func TestDeployInstallsThenUpgrades(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	if _, err := releases.Get(t.Context(), "mesh", "control"); !errors.Is(err, ErrReleaseNotFound) {
		t.Fatalf("before: %v", err)
	}
	values := map[string]any{"data": "two", "extra": true}
	installed, err := releases.Deploy(t.Context(), deployRequest(t, values))
	if err != nil {
		t.Fatal(err)
	}
	if installed.Revision != 1 || installed.Status != StatusDeployed || installed.ChartVersion != "1.0.0" {
		t.Errorf("installed %+v", installed)
	}
	if want := []string{"ConfigMap/extra", "ConfigMap/one", crdKind + "/widgets.example.com"}; !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
	got, err := releases.Get(t.Context(), "mesh", "control")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Values, values) || got.Labels["example.com/owner"] != "me" || len(got.Labels) != 1 ||
		got.AppVersion != "edge-1" || got.ChartName != "mesh" || len(got.Hooks) != 1 {
		t.Errorf("got %+v", got)
	}
	if objects, err := got.Objects(); err != nil || len(objects) != 3 {
		t.Errorf("objects of the release: %v, %v", objects, err)
	}

	// Values are not kept from one revision to the next; the CRD of the first allows the widget of the second.
	upgraded, err := releases.Deploy(t.Context(), deployRequest(t, map[string]any{"widget": true}))
	if err != nil {
		t.Fatal(err)
	}
	if upgraded.Revision != 2 || !reflect.DeepEqual(upgraded.Values, map[string]any{"widget": true}) {
		t.Errorf("upgraded %+v", upgraded)
	}
	one := server.get(configMaps + "one")
	if data, _, _ := unstructured.NestedString(one.Object, "data", "value"); data != "one" {
		t.Errorf("data %q", data)
	}
	if want := []string{"ConfigMap/one", crdKind + "/widgets.example.com", "Widget/one"}; !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
	if manager := one.GetManagedFields()[0].Manager; manager != "helm" {
		t.Errorf("the field manager is %s", manager)
	}
}

func TestDeployKeepsTenRevisions(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	for range 12 {
		deploy(t, server, nil)
	}
	if server.get(secrets+"sh.helm.release.v1.control.v2") != nil || server.get(secrets+"sh.helm.release.v1.control.v3") == nil {
		t.Error("not the last ten revisions are on record")
	}
}

func TestDeployRepairsDrift(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	deploy(t, server, map[string]any{"widget": true})
	for path, field := range map[string][]string{configMaps + "one": {"data", "value"}, widgets + "one": {"spec", "size"}} {
		object := server.get(path)
		if err := unstructured.SetNestedField(object.Object, "changed by hand", field...); err != nil {
			t.Fatal(err)
		}
		server.put(path, object)
	}
	deploy(t, server, map[string]any{"widget": true})
	value, _, _ := unstructured.NestedString(server.get(configMaps+"one").Object, "data", "value")
	size, _, _ := unstructured.NestedString(server.get(widgets+"one").Object, "spec", "size")
	if value != "one" || size != "one" {
		t.Errorf("value %q, size %q", value, size)
	}
}

func TestGetTakesOneRequest(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	for range 3 {
		deploy(t, server, nil)
	}
	before := server.count("")
	if _, err := server.releases(t).Get(t.Context(), "mesh", "control"); err != nil {
		t.Fatal(err)
	}
	if took := server.count("") - before; took != 1 {
		t.Errorf("it took %d requests", took)
	}
}

func TestDeployTakesFewRequests(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	for _, name := range []string{"one", "two"} {
		request := deployRequest(t, nil)
		request.Namespace, request.Name = "ns-"+name, name
		request.TakeOwnership = true // Both have the CRD.
		if _, err := releases.Deploy(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if got := server.count("GET /openapi"); got != 0 {
		t.Errorf("OpenAPI was asked for %d times", got)
	}
	if got := server.count("GET /api/v1/namespaces/ns-two/secrets"); got != 1 {
		t.Errorf("the records were read %d times", got)
	}
}

func TestAnUpgradeReadsEachObjectOnce(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	for _, data := range []string{"one", "two"} { // Nothing changes, then something does.
		before := server.count("GET " + configMaps + "one")
		deploy(t, server, map[string]any{"data": data, "extra": true})
		if read := server.count("GET "+configMaps+"one") - before; read != 1 {
			t.Errorf("data %s: it was read %d times", data, read)
		}
	}
	if value, _, _ := unstructured.NestedString(server.get(configMaps+"one").Object, "data", "value"); value != "two" {
		t.Errorf("value %q", value)
	}
}

// TestDeployDoesWithoutExtensionServersOnly covers an APIService without a server behind it, and an API server in
// trouble.
func TestDeployDoesWithoutExtensionServersOnly(t *testing.T) {
	t.Parallel()
	for path, tolerated := range map[string]bool{"/apis/tap.example.com/v1": true, "/apis/apps/v1": false} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			server := newAPIServer(t)
			tap := &unstructured.Unstructured{Object: map[string]any{"kind": crdKind, "spec": map[string]any{
				"group": "tap.example.com", "names": map[string]any{"kind": "Tap", "plural": "taps"},
			}}}
			tap.SetName("taps.tap.example.com")
			server.put(crds+"taps.tap.example.com", tap)
			heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
				if request.URL.Path != path {
					return false
				}
				refuse(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
				return true
			})
			releases := server.releases(t)
			_, err := releases.Deploy(t.Context(), deployRequest(t, nil))
			if tolerated != (err == nil) {
				t.Errorf("got %v", err)
			}
			if err != nil && server.count("POST") > 0 {
				t.Error("something was written all the same")
			}
			heal()
			if _, err := releases.Deploy(t.Context(), deployRequest(t, nil)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// faults are the ways in which a server can fail.
var faults = map[string]http.HandlerFunc{
	"401": func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized)
	},
	"403": func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden)
	},
	"404": func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	},
	"429": func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	},
	"500": func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	},
	"page":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>log in</html>") },
	"reset": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
}

func TestAnErrorOfTheAPIIsNeverNotFound(t *testing.T) {
	t.Parallel()
	for title, fault := range faults {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			server := newAPIServer(t)
			deploy(t, server, nil)
			before := server.names()
			heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
				fault(w, request)
				return true
			})
			releases := server.releases(t)
			if _, err := releases.Get(t.Context(), "mesh", "control"); err == nil || errors.Is(err, ErrReleaseNotFound) {
				t.Errorf("Get: %v", err)
			}
			if title == "reset" {
				return // client-go repeats the request for ten seconds, and the others begin with the same.
			}
			if _, err := releases.Deploy(t.Context(), deployRequest(t, nil)); err == nil {
				t.Error("Deploy succeeded")
			}
			if err := releases.Uninstall(t.Context(), "mesh", "control", UninstallOptions{}); err == nil {
				t.Error("Uninstall succeeded")
			}
			heal()
			if _, err := releases.Get(t.Context(), "mesh", "control"); err != nil || !slices.Equal(server.names(), before) {
				t.Errorf("afterwards: %v, objects %v", err, server.names())
			}
		})
	}
}

func TestGetPassesTheStatusOfTheAPIOn(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	defer server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		faults["403"](w, request)
		return true
	})()
	if _, err := server.releases(t).Get(t.Context(), "mesh", "control"); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}

func TestGetRefusesARecordItCannotRead(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	path := secrets + "sh.helm.release.v1.control.v1"
	record := server.get(path)
	if err := unstructured.SetNestedField(record.Object, "bm90IGEgcmVsZWFzZQ==", "data", "release"); err != nil {
		t.Fatal(err)
	}
	server.put(path, record)
	_, err := server.releases(t).Get(t.Context(), "mesh", "control")
	if err == nil || errors.Is(err, ErrReleaseNotFound) || !strings.Contains(err.Error(), "sh.helm.release.v1.control.v1") {
		t.Errorf("Get: %v", err)
	}
	if err := server.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{}); err == nil {
		t.Error("Uninstall succeeded")
	}
}

// TestAnInterruptionAnywhereCanBeTakenUp ends the provider's life at every request of every operation, before or after
// the server has obeyed, and expects the next run to get where the first was going.
func TestAnInterruptionAnywhereCanBeTakenUp(t *testing.T) {
	t.Parallel()
	wanted := map[string]any{"data": "two", "widget": true}
	begin := map[string]func(*testing.T, *apiServer){
		// The CRD is there first, because Helm cannot install a CRD and its kind together.
		"install": func(t *testing.T, s *apiServer) {
			t.Helper()
			deploy(t, s, nil)
			if err := s.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{KeepCRDs: true}); err != nil {
				t.Fatal(err)
			}
		},
		"upgrade": func(t *testing.T, s *apiServer) {
			t.Helper()
			deploy(t, s, map[string]any{"extra": true})
		},
	}
	for operation, prepare := range begin {
		for _, obeyed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/obeyed=%t", operation, obeyed), func(t *testing.T) {
				t.Parallel()
				prepared := newAPIServer(t)
				prepare(t, prepared)
				for n := 1; ; n++ {
					server := prepared.copy(t)
					died := dieAt(server, n, obeyed, func() {
						// The first attempt wants something that the second does not.
						_, _ = server.releases(t).Deploy(t.Context(),
							deployRequest(t, map[string]any{"data": "two", "extra": true, "widget": true}))
					})
					if !died {
						if n < 10 {
							t.Errorf("the operation took only %d requests", n)
						}
						return
					}
					got := deploy(t, server, wanted)
					want := []string{"ConfigMap/one", crdKind + "/widgets.example.com", "Widget/one"}
					if got.Status != StatusDeployed || !slices.Equal(server.names(), want) {
						t.Errorf("death at request %d: release is %s, objects %v", n, got.Status, server.names())
					}
					recorded, err := server.releases(t).Get(t.Context(), "mesh", "control")
					if err != nil || recorded.Revision != got.Revision || recorded.Status != StatusDeployed {
						t.Errorf("death at request %d: recorded %+v, %v", n, recorded, err)
					}
				}
			})
		}
	}
}

func TestAnInterruptedUninstallCanBeTakenUp(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		for _, obeyed := range []bool{false, true} {
			for _, next := range []string{"uninstall", "deploy"} {
				t.Run(fmt.Sprintf("keep=%t/obeyed=%t/%s", keep, obeyed, next), func(t *testing.T) {
					t.Parallel()
					options := UninstallOptions{KeepCRDs: keep, Wait: true}
					prepared := newAPIServer(t)
					deploy(t, prepared, nil)
					deploy(t, prepared, map[string]any{"widget": true})
					for n := 1; ; n++ {
						server := prepared.copy(t)
						died := dieAt(server, n, obeyed, func() {
							_ = server.releases(t).Uninstall(t.Context(), "mesh", "control", options)
						})
						if !died {
							return
						}
						if next == "deploy" {
							got := deploy(t, server, nil)
							want := []string{"ConfigMap/one", crdKind + "/widgets.example.com"}
							if got.Status != StatusDeployed || !slices.Equal(server.names(), want) {
								t.Errorf("death at request %d: release is %s, objects %v", n, got.Status, server.names())
							}
							continue
						}
						if err := server.releases(t).Uninstall(t.Context(), "mesh", "control", options); err != nil {
							t.Errorf("death at request %d: %v", n, err)
						}
						checkUninstalled(t, server, keep)
					}
				})
			}
		}
	}
}

// dieAt runs an operation and cuts it off from the server at its n-th request and ever after. It tells whether the
// operation got so far.
func dieAt(server *apiServer, n int, obeyed bool, operation func()) bool {
	var seen atomic.Int32
	heal := server.under(func(w http.ResponseWriter, request *http.Request, next http.HandlerFunc) bool {
		switch count := int(seen.Add(1)); {
		case count < n:
			return false
		case count == n && obeyed:
			next(discard{http.Header{}}, request)
		}
		// As good as a cut connection, without client-go's repetitions for ten seconds.
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	defer heal()
	operation()
	return int(seen.Load()) >= n
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header            { return d.header }
func (d discard) Write(data []byte) (int, error) { return len(data), nil }
func (d discard) WriteHeader(int)                {}

func checkUninstalled(t *testing.T, server *apiServer, keptCRDs bool) {
	t.Helper()
	var want []string
	if keptCRDs {
		want = []string{crdKind + "/widgets.example.com"}
	}
	if !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
	if _, err := server.releases(t).Get(t.Context(), "mesh", "control"); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("the release is still on record: %v", err)
	}
}

func TestUninstall(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	for range 2 { // The second time there is nothing, which is as good.
		if err := server.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{Wait: true}); err != nil {
			t.Fatal(err)
		}
		checkUninstalled(t, server, false)
	}
}

func TestUninstallKeepsCRDsThatTheNextInstallTakesBack(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	user := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget"}}
	user.SetName("of-the-user")
	server.put(widgets+"of-the-user", user)
	releases := server.releases(t)
	if err := releases.Uninstall(t.Context(), "mesh", "control", UninstallOptions{KeepCRDs: true, Wait: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{crdKind + "/widgets.example.com", "Widget/of-the-user"}
	if !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
	deploy(t, server, nil)
	if err := releases.Uninstall(t.Context(), "mesh", "control", UninstallOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
	checkUninstalled(t, server, false)
}

func TestUninstallSaysWhatFailed(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		if request.Method != http.MethodDelete || request.URL.Path != configMaps+"one" {
			return false
		}
		faults["403"](w, request)
		return true
	})
	err := server.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	heal()
	if err := server.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{}); err != nil {
		t.Error(err)
	}
	checkUninstalled(t, server, false)
}

// TestUninstallGoesOnWithoutKinds removes a CRD behind Helm's back, so that the kinds of the manifest are gone.
func TestUninstallGoesOnWithoutKinds(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	deploy(t, server, map[string]any{"widget": true})
	server.mu.Lock()
	server.delete(crds + "widgets.example.com")
	server.mu.Unlock()
	if err := server.releases(t).Uninstall(t.Context(), "mesh", "control", UninstallOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
	checkUninstalled(t, server, false)
}

func TestDeployRefusesForeignObjects(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	mine := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
	mine.SetName("one")
	mine.SetNamespace("mesh")
	mine.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl-create"}})
	server.put(configMaps+"one", mine)
	other := mine.DeepCopy()
	other.SetName("extra")
	other.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "Helm"})
	other.SetAnnotations(map[string]string{
		"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "elsewhere",
	})
	server.put(configMaps+"extra", other)

	request := deployRequest(t, map[string]any{"extra": true})
	_, err := server.releases(t).Deploy(t.Context(), request)
	foreign, ok := errors.AsType[*ForeignObjectsError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	slices.SortFunc(foreign.Objects, func(a, b ForeignObject) int { return strings.Compare(a.Name, b.Name) })
	want := []ForeignObject{
		{Kind: "ConfigMap", Namespace: "mesh", Name: "extra", Owner: "of Helm release elsewhere/other"},
		{Kind: "ConfigMap", Namespace: "mesh", Name: "one", Owner: "written by kubectl-create"},
	}
	if !slices.Equal(foreign.Objects, want) {
		t.Errorf("got %v, want %v", foreign.Objects, want)
	}
	if _, err := server.releases(t).Get(t.Context(), "mesh", "control"); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("a refused install is on record: %v", err)
	}

	request.TakeOwnership = true
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if got := server.get(configMaps + "one").GetAnnotations()["meta.helm.sh/release-name"]; got != "control" {
		t.Errorf("the object belongs to release %q", got)
	}
}

func TestDeployLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deployed := deploy(t, server, nil)
	// Somebody else's Helm is at work on it.
	releases := server.releases(t)
	pend := func(since time.Time) {
		t.Helper()
		op, err := releases.begin(t.Context(), "mesh", "control", true)
		if err != nil {
			t.Fatal(err)
		}
		defer op.end()
		err = op.records.rewrite(op.records.newestFirst()[0], func(record *release.Release) {
			record.Info.Status = release.StatusPendingUpgrade
			record.Info.LastDeployed = helmtime.Time{Time: since}
			record.Labels = nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pend(time.Now().Add(-time.Minute))
	_, err := releases.Deploy(t.Context(), deployRequest(t, nil))
	if pending, ok := errors.AsType[*PendingError](err); !ok || pending.Status != "pending-upgrade" {
		t.Fatalf("got %v", err)
	}
	// It must have died.
	pend(time.Now().Add(-foreignPatience - time.Minute))
	got := deploy(t, server, nil)
	if got.Revision != deployed.Revision+1 || got.Status != StatusDeployed {
		t.Errorf("got %+v", got)
	}
}

// hang makes the server silent for the requests chosen.
func hang(server *apiServer, chosen func(*http.Request) bool) (arrived <-chan struct{}, heal func()) {
	first := make(chan struct{}, 1)
	heal = server.under(func(_ http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		if !chosen(request) {
			return false
		}
		select {
		case first <- struct{}{}:
		default:
		}
		// Only once the body is read does the server notice that the client is gone.
		_, _ = io.Copy(io.Discard, request.Body)
		<-request.Context().Done()
		return true
	})
	return first, heal
}

func TestASilentServerDoesNotHoldACancelledCall(t *testing.T) {
	t.Parallel()
	calls := map[string]func(context.Context, *Releases) error{
		"get": func(ctx context.Context, r *Releases) error {
			_, err := r.Get(ctx, "mesh", "control")
			return err
		},
		"deploy": func(ctx context.Context, r *Releases) error {
			_, err := r.Deploy(ctx, deployRequest(t, nil))
			return err
		},
		"render": func(ctx context.Context, r *Releases) error {
			_, err := r.Render(ctx, deployRequest(t, nil))
			return err
		},
		"uninstall": func(ctx context.Context, r *Releases) error {
			return r.Uninstall(ctx, "mesh", "control", UninstallOptions{})
		},
	}
	silences := map[string]func(*http.Request) bool{
		"everything": func(*http.Request) bool { return true },
		"discovery":  func(request *http.Request) bool { return !strings.Contains(request.URL.Path, "/namespaces/") },
		"objects": func(request *http.Request) bool {
			return strings.HasPrefix(request.URL.Path, configMaps)
		},
	}
	for call, run := range calls {
		for silence, chosen := range silences {
			if silence != "everything" && call == "get" || silence == "objects" && call == "render" {
				continue // They make no such requests.
			}
			t.Run(call+"/"+silence, func(t *testing.T) {
				t.Parallel()
				server := newAPIServer(t)
				deploy(t, server, nil)
				arrived, heal := hang(server, chosen)
				releases := server.releases(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- run(ctx, releases) }()
				<-arrived
				start := time.Now()
				cancel()
				err := <-done
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("it took %s", took)
				}
				heal()
				if call == "deploy" && silence == "objects" {
					// The end was still put on record.
					got, err := releases.Get(t.Context(), "mesh", "control")
					if err != nil || got.Status != StatusFailed || got.Revision != 2 {
						t.Errorf("recorded %+v, %v", got, err)
					}
				}
			})
		}
	}
}

func TestDeployWaitsForAThrottlingServerNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	arrived := make(chan struct{}, 16)
	defer server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		if request.Method == http.MethodGet && !isCollection(request.URL.Path) && strings.HasPrefix(request.URL.Path, configMaps) {
			w.Header().Set("Retry-After", "60")
			faults["429"](w, request)
			arrived <- struct{}{}
			return true
		}
		return false
	})()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	start := time.Now()
	if _, err := server.releases(t).Deploy(ctx, deployRequest(t, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	for _, upgrade := range []string{"false", "true"} {
		request := deployRequest(t, map[string]any{"data": "two"})
		rendered, err := releases.Render(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		deployed, err := releases.Deploy(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if rendered.Manifest != deployed.Manifest || !slices.Equal(rendered.Hooks, deployed.Hooks) {
			t.Errorf("rendered\n%s\nbut deployed\n%s", rendered.Manifest, deployed.Manifest)
		}
		if !strings.Contains(rendered.Manifest, `upgrade: "`+upgrade+`"`) {
			t.Errorf("not rendered as upgrade=%s", upgrade)
		}
	}
}

func TestRenderWithoutACluster(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: mesh\nversion: 1.0.0\nkubeVersion: \">=1.31.0-0\"\n",
		"templates/one.yaml": `{{ if .Capabilities.APIVersions.Has "policy/v1" }}
kind: List
apiVersion: v1
items:
- {kind: ConfigMap, apiVersion: v1, metadata: {name: "{{ .Capabilities.KubeVersion }}"}}
{{ end }}`,
		"values.schema.json": `{"properties": {"size": {"type": "integer"}}}`,
	}
	loaded, err := readArchive(packed(t, "1.0.0", files))
	if err != nil {
		t.Fatal(err)
	}
	suitable := &chartutil.Capabilities{
		KubeVersion: chartutil.KubeVersion{Version: "v1.34.2", Major: "1", Minor: "34"}, APIVersions: []string{"policy/v1"},
	}
	request := RenderRequest{Namespace: "mesh", Name: "control", Chart: loaded}
	rendered, err := render(request, suitable, nil)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := rendered.Objects()
	if err != nil || len(objects) != 1 || objects[0].GetName() != "v1.34.2" {
		t.Errorf("got %v, %v", objects, err)
	}

	unsuitable := *suitable
	unsuitable.APIVersions = []string{"policy/v2"}
	if rendered, err = render(request, &unsuitable, nil); err != nil || strings.Contains(rendered.Manifest, "List") {
		t.Errorf("API versions that the cluster does not serve were used: %v", err)
	}
	unsuitable.KubeVersion.Version = "v1.30.0"
	if _, err = render(request, &unsuitable, nil); err == nil || !strings.Contains(err.Error(), "1.31") {
		t.Errorf("an unsuitable Kubernetes: %v", err)
	}
	other := request
	other.Values = map[string]any{"size": "big"}
	if _, err = render(other, suitable, nil); err == nil || !strings.Contains(err.Error(), "size") {
		t.Errorf("values against the schema: %v", err)
	}
	other.SkipSchemaValidation = true
	if _, err = render(other, suitable, nil); err != nil {
		t.Errorf("schema skipped: %v", err)
	}
}

func TestRenderAtAnotherTime(t *testing.T) {
	t.Parallel()
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"Chart.yaml":               "apiVersion: v2\nname: mesh\nversion: 1.0.0\ndependencies: [{name: part, version: 1.0.0}]\n",
		"templates/one.yaml":       "kind: ConfigMap\napiVersion: v1\nmetadata: {name: now}\ndata: {day: '{{ now | date \"2006-01-02\" }}', text: 'now'}\n",
		"charts/part/Chart.yaml":   "apiVersion: v2\nname: part\nversion: 1.0.0\n",
		"charts/part/templates/t":  "kind: ConfigMap\napiVersion: v1\nmetadata: {name: part}\ndata: {year: '{{ now.Year }}'}\n",
		"templates/unchanged.yaml": "kind: ConfigMap\napiVersion: v1\nmetadata: {name: '{{ .Release.Name }}'}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	request := RenderRequest{Namespace: "mesh", Name: "control", Chart: loaded}
	now, err := render(request, chartutil.DefaultCapabilities, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.OtherTime = true
	then, err := render(request, chartutil.DefaultCapabilities, nil)
	if err != nil {
		t.Fatal(err)
	}
	year := strconv.Itoa(time.Now().Year())
	day := regexp.MustCompile(year + `-\d\d-\d\d`)
	if want := strings.ReplaceAll(day.ReplaceAllString(now.Manifest, "2001-02-03"), year, "2001"); then.Manifest != want || then.Manifest == now.Manifest {
		t.Errorf("got\n%s\nwant\n%s", then.Manifest, want)
	}
}

func TestDeployChartsWithCRDsDirectoryAndFailingHook(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"crds/crd.yaml":         templates["templates/crd.yaml"],
		"templates/widget.yaml": "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}",
		"templates/hook.yaml":   templates["templates/hook.yaml"],
	}))
	if err != nil {
		t.Fatal(err)
	}
	request := deployRequest(t, nil)
	request.Chart = loaded
	heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		if request.Method != http.MethodGet || !strings.HasSuffix(request.URL.Path, "/jobs/hook") {
			return false
		}
		answer(w, http.StatusOK, map[string]any{
			"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "hook", "namespace": "mesh"},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True"}}},
		})
		return true
	})
	failed, err := server.releases(t).Deploy(t.Context(), request)
	if err == nil || !strings.Contains(err.Error(), "Job mesh/hook") || failed == nil || failed.Status != StatusFailed {
		t.Fatalf("got %+v, %v", failed, err)
	}
	heal()
	// The install is done again as one, and its hook runs.
	before := server.count("POST /apis/batch/v1/namespaces/mesh/jobs")
	got, err := server.releases(t).Deploy(t.Context(), request)
	if err != nil || got.Status != StatusDeployed || got.Revision != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if server.count("POST /apis/batch/v1/namespaces/mesh/jobs") <= before {
		t.Error("the hook did not run again")
	}
}

func TestHelmSpeaksToItsCallerOnly(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	var lines atomic.Int32
	releases, err := NewReleases(connect(t, server.releases(t).config), ReleasesOptions{
		Log: func(_ context.Context, message string) {
			lines.Add(1)
			if strings.Contains(message, "hunter2") {
				t.Errorf("a value was logged: %s", message)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := releases.Deploy(t.Context(), deployRequest(t, map[string]any{"data": "hunter2"})); err != nil {
		t.Fatal(err)
	}
	if lines.Load() == 0 {
		t.Error("nothing was logged")
	}
}

func TestAnUpgradeThatCannotDeleteFails(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, map[string]any{"extra": true})
	heal := failing(server, http.MethodDelete, configMaps)
	failed, err := server.releases(t).Deploy(t.Context(), deployRequest(t, nil))
	heal()
	if !apierrors.IsForbidden(err) || failed == nil || failed.Status != StatusFailed {
		t.Fatalf("deployed %+v, %v", failed, err)
	}
	kept := server.get(configMaps + "extra")
	kept.SetAnnotations(map[string]string{"helm.sh/resource-policy": "keep"})
	server.put(configMaps+"extra", kept)
	deploy(t, server, nil)
	if server.get(configMaps+"extra") == nil {
		t.Error("what is to be kept was deleted")
	}
}

func TestAnUpgradeThatCannotYieldWritesNothing(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	request := deployRequest(t, map[string]any{"data": "two", "extra": true})
	unknown := errors.New("unknown what others have set")
	request.Yield = func(live, _ *unstructured.Unstructured) error {
		if live.GetName() == "one" {
			return unknown
		}
		return nil
	}
	if failed, err := server.releases(t).Deploy(t.Context(), request); !errors.Is(err, unknown) || failed.Status != StatusFailed {
		t.Errorf("deployed %+v, %v", failed, err)
	}
	if written := server.count("PATCH"); written != 0 || server.get(configMaps+"extra") != nil {
		t.Errorf("%d objects were changed", written)
	}
}

// TestOneRevisionIsDeployed has the write fail by which Helm supersedes the revision before: it goes on to the next write,
// which succeeds.
func TestOneRevisionIsDeployed(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	for again, failures := range []int32{1, 1000} {
		var seen atomic.Int32
		former := fmt.Sprintf("%ssh.helm.release.v1.control.v%d", secrets, again+1)
		heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
			if request.Method != http.MethodPut || request.URL.Path != former || seen.Add(1) > failures {
				return false
			}
			refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
			return true
		})
		_, err := server.releases(t).Deploy(t.Context(), deployRequest(t, nil))
		heal()
		if (err != nil) != (failures > 1) || seen.Load() < 2 {
			t.Errorf("%d writes failed: %v", seen.Load(), err)
		}
	}
	last := deploy(t, server, nil)
	for revision := 1; revision <= last.Revision; revision++ {
		want := "superseded"
		if revision == last.Revision {
			want = "deployed"
		}
		if got := server.get(fmt.Sprintf("%ssh.helm.release.v1.control.v%d", secrets, revision)).GetLabels()["status"]; got != want {
			t.Errorf("revision %d is %s, want %s", revision, got, want)
		}
	}
}

func TestListReadsTheNewestOfEachRelease(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	if none, err := releases.List(t.Context(), "mesh"); err != nil || len(none) != 0 {
		t.Errorf("before: %v, %v", none, err)
	}
	for range 3 {
		for _, name := range []string{"control", "other"} {
			request := deployRequest(t, map[string]any{"data": name})
			request.Name = name
			request.TakeOwnership = true
			if _, err := releases.Deploy(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := server.count("")
	listed, err := releases.List(t.Context(), "mesh")
	if err != nil || len(listed) != 2 || server.count("")-before != 1 {
		t.Fatalf("%d releases after %d requests, %v", len(listed), server.count("")-before, err)
	}
	for name, got := range listed {
		want, err := releases.Get(t.Context(), "mesh", name)
		if err != nil || !reflect.DeepEqual(got, want) || got.Revision != 3 {
			t.Errorf("%s: %+v, want %+v, %v", name, got, want, err)
		}
	}

	// A failed revision is newer than the deployed one; without one of these, a superseded revision may be the newest.
	relabel := func(revision, status string) {
		secret := server.get(secrets + "sh.helm.release.v1.other.v" + revision)
		secret.SetLabels(map[string]string{"owner": "helm", "name": "other", "version": revision, "status": status})
		server.put(secrets+secret.GetName(), secret)
	}
	for _, c := range []struct {
		states    []string
		deployed  int // 0 if none
		abandoned []int
	}{
		{states: []string{"superseded", "superseded", "deployed"}, deployed: 3},
		{states: []string{"superseded", "deployed", "failed"}, deployed: 2, abandoned: []int{3}},
		{states: []string{"deployed", "failed", "pending-upgrade"}, deployed: 1, abandoned: []int{3, 2}},
		{states: []string{"failed", "deployed", "deployed"}, deployed: 3, abandoned: []int{1}},
		{states: []string{"superseded", "failed", "superseded"}, abandoned: []int{2}},
	} {
		for i, status := range c.states {
			relabel(strconv.Itoa(i+1), status)
		}
		before := server.count("")
		listed, err = releases.List(t.Context(), "mesh")
		if err != nil || len(listed) != 2 || listed["other"].Revision != 3 || c.deployed > 0 && server.count("")-before != 1 {
			t.Fatalf("of %v: %+v, %v", c.states, listed["other"], err)
		}
		got := listed["other"]
		var abandoned []int
		for _, revision := range got.Abandoned {
			abandoned = append(abandoned, revision.Revision)
		}
		if (got.Deployed == nil) != (c.deployed == 0) || got.Deployed != nil && got.Deployed.Revision != c.deployed || !slices.Equal(abandoned, c.abandoned) {
			t.Errorf("of %v: in place %+v, abandoned %v", c.states, got.Deployed, abandoned)
		}
	}

	defer server.under(func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) bool {
		faults["403"](w, nil)
		return true
	})()
	if _, err := releases.List(t.Context(), "mesh"); !apierrors.IsForbidden(err) {
		t.Errorf("an error of the API: %v", err)
	}
}

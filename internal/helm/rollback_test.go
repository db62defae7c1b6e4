package helm

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// failing makes the server refuse requests of a method below a path.
func failing(server *apiServer, method, prefix string) (heal func()) {
	return server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
		if request.Method != method || !strings.HasPrefix(request.URL.Path, prefix) {
			return false
		}
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return true
	})
}

func rollBack(t *testing.T, server *apiServer, revision int) (*Release, error) {
	t.Helper()
	return server.releases(t).Rollback(t.Context(), RollbackRequest{
		Namespace: "mesh", Name: "control", Revision: revision, Labels: map[string]string{"example.com/owner": "me"},
	})
}

func TestRollbackFromAnyState(t *testing.T) {
	t.Parallel()
	for name, upgrade := range map[string]func(*testing.T, *apiServer){
		"after an upgrade": func(t *testing.T, server *apiServer) {
			t.Helper()
			deploy(t, server, map[string]any{"data": "two", "extra": true, "widget": true})
		},
		"after a failed upgrade": func(t *testing.T, server *apiServer) {
			t.Helper()
			defer failing(server, http.MethodPost, widgets[:len(widgets)-1])()
			_, err := server.releases(t).Deploy(t.Context(), deployRequest(t, map[string]any{"data": "two", "extra": true, "widget": true}))
			if err == nil {
				t.Fatal("the upgrade did not fail")
			}
		},
		"after a killed upgrade": func(t *testing.T, server *apiServer) {
			t.Helper()
			var dead atomic.Bool
			heal := server.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
				// Nothing is heard of the client once it has begun to create objects.
				if request.Method == http.MethodPost && request.URL.Path+"/" == configMaps {
					dead.Store(true)
				}
				if dead.Load() {
					refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
				}
				return dead.Load()
			})
			_, _ = server.releases(t).Deploy(t.Context(), deployRequest(t, map[string]any{"data": "two", "extra": true, "widget": true}))
			heal()
			record, err := server.releases(t).Get(t.Context(), "mesh", "control")
			if err != nil || record.Status != "pending-upgrade" {
				t.Fatalf("killed as %+v, %v", record, err)
			}
		},
		"after two failures": func(t *testing.T, server *apiServer) {
			t.Helper()
			for _, values := range []map[string]any{{"extra": true, "widget": true}, {"data": "two", "widget": true}} {
				heal := failing(server, http.MethodPost, widgets[:len(widgets)-1])
				if _, err := server.releases(t).Deploy(t.Context(), deployRequest(t, values)); err == nil {
					t.Fatal("the upgrade did not fail")
				}
				heal()
			}
		},
		"after a failed rollback": func(t *testing.T, server *apiServer) {
			t.Helper()
			heal := failing(server, http.MethodPost, widgets[:len(widgets)-1])
			if _, err := server.releases(t).Deploy(t.Context(), deployRequest(t, map[string]any{"data": "two", "extra": true, "widget": true})); err == nil {
				t.Fatal("the upgrade did not fail")
			}
			heal()
			heal = failing(server, http.MethodPatch, configMaps)
			defer heal()
			failed, err := rollBack(t, server, 1)
			if err == nil || failed == nil || failed.Status != StatusFailed || failed.Revision != 3 {
				t.Fatalf("rolled back to %+v, %v", failed, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newAPIServer(t)
			installed := deploy(t, server, nil)
			upgrade(t, server)
			before, err := server.releases(t).Get(t.Context(), "mesh", "control")
			if err != nil {
				t.Fatal(err)
			}
			back, err := rollBack(t, server, 1)
			if err != nil {
				t.Fatal(err)
			}
			if back.Status != StatusDeployed || back.Revision != before.Revision+1 || back.Manifest != installed.Manifest {
				t.Errorf("rolled back to %+v", back)
			}
			if want := []string{"ConfigMap/one", crdKind + "/widgets.example.com"}; !slices.Equal(server.names(), want) {
				t.Errorf("objects %v, want %v", server.names(), want)
			}
			value, _, _ := unstructured.NestedString(server.get(configMaps+"one").Object, "data", "value")
			recorded, err := server.releases(t).Get(t.Context(), "mesh", "control")
			if err != nil || recorded.Revision != back.Revision || value != "one" {
				t.Errorf("value %q, recorded %+v, %v", value, recorded, err)
			}
			// There is nothing to go back from any more.
			requests := server.count("PATCH") + server.count("POST") + server.count("PUT")
			again, err := rollBack(t, server, back.Revision)
			if err != nil || again.Revision != back.Revision || server.count("PATCH")+server.count("POST")+server.count("PUT") != requests {
				t.Errorf("again: %+v, %v", again, err)
			}
			if upgraded := deploy(t, server, nil); upgraded.Status != StatusDeployed {
				t.Errorf("upgraded to %+v", upgraded)
			}
		})
	}
}

func TestCRDsStayWhateverIsDeployed(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	without, err := readArchive(packed(t, "0.9.0", map[string]string{"templates/one.yaml": templates["templates/one.yaml"], "values.yaml": "data: zero"}))
	if err != nil {
		t.Fatal(err)
	}
	request := deployRequest(t, nil)
	request.Chart = without
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	deploy(t, server, map[string]any{"widget": false})
	of := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget"}}
	of.SetName("of-the-user")
	server.put(widgets+"of-the-user", of)
	upgraded, err := server.releases(t).Deploy(t.Context(), request)
	if err != nil || strings.Contains(upgraded.Manifest, crdKind) {
		t.Fatalf("upgraded to %+v, %v", upgraded, err)
	}
	deploy(t, server, map[string]any{"widget": false})
	if back, err := rollBack(t, server, 1); err != nil || back.ChartVersion != "0.9.0" {
		t.Fatalf("rolled back to %+v, %v", back, err)
	}
	if want := []string{"ConfigMap/one", crdKind + "/widgets.example.com", "Widget/of-the-user"}; !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
}

// TestAFailedRollbackForgetsNothing fails the rollback of a revision that is deployed: Helm would call it superseded, and
// never delete what only it has.
func TestAFailedRollbackForgetsNothing(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	deploy(t, server, nil)
	deploy(t, server, map[string]any{"data": "two", "extra": true})
	heal := failing(server, http.MethodPatch, configMaps)
	failed, err := rollBack(t, server, 1)
	heal()
	if err == nil || failed == nil || failed.Status != StatusFailed || failed.Revision != 3 {
		t.Fatalf("rolled back to %+v, %v", failed, err)
	}
	if status := server.get(secrets + "sh.helm.release.v1.control.v2").GetLabels()["status"]; status != string(StatusFailed) {
		t.Errorf("the revision before is %s", status)
	}
	deploy(t, server, map[string]any{"data": "three"})
	if want := []string{"ConfigMap/one", crdKind + "/widgets.example.com"}; !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}
}

func TestRollbackToTheRevisionOfAnotherIsOnesOwn(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	request := deployRequest(t, nil)
	request.Labels = map[string]string{"example.com/owner": "somebody", "example.com/team": "mesh"}
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	deploy(t, server, map[string]any{"data": "two"})
	back, err := rollBack(t, server, 1)
	if want := map[string]string{"example.com/owner": "me", "example.com/team": "mesh"}; err != nil || !maps.Equal(back.Labels, want) {
		t.Errorf("labels %v, want %v, %v", back.Labels, want, err)
	}
}

func TestRollbackRefuses(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	if _, err := rollBack(t, server, 1); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("no release: %v", err)
	}
	deploy(t, server, map[string]any{"widget": false})
	deploy(t, server, map[string]any{"widget": true})
	deploy(t, server, nil)
	if _, err := rollBack(t, server, 7); err == nil || !strings.Contains(err.Error(), "revision 7: it is not on record any more; those that are: 3, 2, 1") {
		t.Errorf("no such revision: %v", err)
	}
	crd := server.get(crds + "widgets.example.com")
	if err := unstructured.SetNestedStringSlice(crd.Object, []string{"v2"}, "status", "storedVersions"); err != nil {
		t.Fatal(err)
	}
	server.put(crds+"widgets.example.com", crd)
	written := server.count("POST") + server.count("PUT")
	_, err := rollBack(t, server, 1)
	if refused, ok := errors.AsType[*CRDVersionError](err); !ok || refused.Name != "widgets.example.com" {
		t.Errorf("a stored version would go: %v", err)
	}
	if server.count("POST")+server.count("PUT") != written {
		t.Error("something was written all the same")
	}
}

func TestRollbackIsClosedWhenCancelledOrAHookFails(t *testing.T) {
	t.Parallel()
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"templates/one.yaml":  templates["templates/one.yaml"],
		"values.yaml":         "data: one",
		"templates/hook.yaml": strings.ReplaceAll(templates["templates/hook.yaml"], "post-install", "post-rollback"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	for name, cancelled := range map[string]bool{"cancelled": true, "failing hook": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newAPIServer(t)
			request := deployRequest(t, nil)
			request.Chart = loaded
			for range 2 {
				if _, err := server.releases(t).Deploy(t.Context(), request); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			heal := failing(server, http.MethodPost, "/apis/batch/v1/namespaces/mesh/jobs")
			if cancelled {
				heal = server.under(func(_ http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
					if strings.HasPrefix(request.URL.Path, "/apis/batch/v1/namespaces/mesh/jobs") {
						cancel()
						// Only once the body is read does the server notice that the client is gone.
						_, _ = io.Copy(io.Discard, request.Body)
						<-request.Context().Done()
						return true
					}
					return false
				})
			}
			failed, err := server.releases(t).Rollback(ctx, RollbackRequest{Namespace: "mesh", Name: "control", Revision: 1})
			heal()
			if err == nil || cancelled != errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			recorded, getErr := server.releases(t).Get(t.Context(), "mesh", "control")
			if getErr != nil || recorded.Status != StatusFailed || recorded.Revision != 3 || failed == nil || failed.Revision != 3 {
				t.Errorf("recorded %+v, %v; returned %+v", recorded, getErr, failed)
			}
			if _, err := rollBack(t, server, 1); err != nil {
				t.Error(err)
			}
		})
	}
}

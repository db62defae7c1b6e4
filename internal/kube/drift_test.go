package kube

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What writing an object again would not change is no drift; the API server is
// asked once, and only about what differs, and the object read again only if that
// does not settle it.
func TestDriftIsWhatWritingAgainWouldChange(t *testing.T) {
	t.Parallel()
	written := wrap(manifest(ConfigMap, "", "c", map[string]any{"data": map[string]any{"low": "10m", "image": "a:1", "same": "s"}}))
	const low, image = `ConfigMap a/c: data.low: want "10m", is "100m"`, `ConfigMap a/c: data.image: want "a:1", is "a:2"`
	refused := func(code int, reason metav1.StatusReason) func(http.ResponseWriter, map[string]any) {
		return func(w http.ResponseWriter, _ map[string]any) {
			answer(w, code, status(code, reason, "refused", &metav1.StatusDetails{Name: "c", Kind: "configmaps"}))
		}
	}
	// admission raises what is low, and makes of the rest what it finds.
	admission := func(w http.ResponseWriter, object map[string]any) {
		_ = unstructured.SetNestedField(object, "100m", "data", "low")
		answer(w, http.StatusOK, object)
	}
	for name, c := range map[string]struct {
		live    map[string]any
		dryRun  func(http.ResponseWriter, map[string]any)
		want    []string
		patches int
		gets    int
	}{
		"nothing differs":              {map[string]any{"low": "10m", "image": "a:1", "same": "s", "more": "m"}, admission, nil, 0, 0},
		"by admission alone":           {map[string]any{"low": "100m", "image": "a:1", "same": "s", "more": "m"}, admission, nil, 1, 0},
		"by somebody too":              {map[string]any{"low": "100m", "image": "a:2", "same": "s"}, admission, []string{image}, 1, 1},
		"by somebody where it matters": {map[string]any{"low": "150m", "image": "a:1", "same": "s"}, admission, []string{`ConfigMap a/c: data.low: want "10m", is "150m"`}, 1, 1},
		"removed by somebody":          {map[string]any{"image": "a:1", "same": "s"}, admission, []string{`ConfigMap a/c: data.low: want "10m", is absent`}, 1, 1},
		"no right to write":            {map[string]any{"low": "100m", "image": "a:2", "same": "s"}, refused(http.StatusForbidden, metav1.StatusReasonForbidden), []string{image, low}, 1, 1},
		"refused by admission":         {map[string]any{"low": "100m", "image": "a:2", "same": "s"}, refused(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid), []string{image, low}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(manifest(ConfigMap, "a", "c", map[string]any{"data": c.live}))
			ref := Ref{Kind: ConfigMap, Namespace: "a", Name: "c"}
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch {
					return false
				}
				body, err := io.ReadAll(r.Body)
				if query := r.URL.Query(); err != nil || query.Get("dryRun") != "All" || query.Get("force") != "true" || !strings.Contains(string(body), `"namespace":"a"`) {
					t.Errorf("%s with %s (%v) is no dry run of the whole", r.URL, body, err)
				}
				object := a.get(ref)
				for key, value := range map[string]any{"low": "10m", "image": "a:1", "same": "s"} {
					_ = unstructured.SetNestedField(object.Object, value, "data", key)
				}
				c.dryRun(w, object.Object)
				return true
			}
			got, err := a.connect(t).Drift(t.Context(), written, "a", nil)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("drift %q (%v), want %q", got, err, c.want)
			}
			if got := a.count("PATCH " + refPath(ref)); got != c.patches {
				t.Errorf("%d dry runs, want %d", got, c.patches)
			}
			if got := a.count("GET " + refPath(ref)); got != c.gets {
				t.Errorf("%d reads of the object, want %d", got, c.gets)
			}
		})
	}
}

// The API server merges lists by keys of its own, not by those that tell their
// items apart here: what was changed in such a key stays beside what is written.
func TestDriftOfTheKeyOfAList(t *testing.T) {
	t.Parallel()
	deployment := func(paths ...string) *unstructured.Unstructured {
		var mounts []any
		for _, path := range paths {
			mounts = append(mounts, map[string]any{"name": "v", "mountPath": path})
		}
		return wrap(manifest(Deployment, "a", "d", map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "main", "volumeMounts": mounts}},
		}}}}))
	}
	a := newAPI(t)
	a.set(deployment("/y").Object)
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			answer(w, http.StatusOK, deployment("/y", "/x").Object)
		}
		return r.Method == http.MethodPatch
	}
	got, err := a.connect(t).Drift(t.Context(), deployment("/x"), "a", nil)
	if want := []string{`Deployment a/d: spec.template.spec.containers[name=main].volumeMounts[name=v].mountPath: want "/x", is "/y"`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("drift %q (%v), want %q", got, err, want)
	}
}

func TestDriftWithoutAnAnswerIsAnError(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(ConfigMap, "a", "c", map[string]any{"data": map[string]any{"k": "v"}}))
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			panic(http.ErrAbortHandler) // As a connection that breaks.
		}
		return false
	}
	got, err := a.connect(t).Drift(t.Context(), wrap(manifest(ConfigMap, "a", "c", map[string]any{"data": map[string]any{"k": "w"}})), "", nil)
	if err == nil {
		t.Errorf("drift %q of what nobody knows", got)
	}
}

func TestSecretsAreNeverWrittenToFindDrift(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(manifest(Secret, "a", "s", map[string]any{"data": map[string]any{"k": "dg=="}}))
	got, err := a.connect(t).Drift(t.Context(), wrap(manifest(Secret, "a", "s", map[string]any{"data": map[string]any{"k": "dw=="}})), "", nil)
	if want := []string{"Secret a/s: data.k: differs (not shown)"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("drift %q (%v), want %q", got, err, want)
	}
	if len(a.requests) != 1 {
		t.Errorf("requests %q, want one", a.requests)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field, other string
		want         bool
	}{
		{"spec.a", "spec.a", true},
		{"spec.a.b", "spec.a", true},
		{"spec.a[name=b].c", "spec.a", true},
		{"spec.ab", "spec.a", false},
		{"spec", "spec.a", false},
	} {
		if got := Within(c.field, c.other); got != c.want {
			t.Errorf("%s within %s: %t", c.field, c.other, got)
		}
	}
}

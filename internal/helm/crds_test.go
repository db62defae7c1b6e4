package helm

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func crdOf(stored, versions []string, strategy string) *unstructured.Unstructured {
	crd := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{}}}
	crd.SetName("widgets.example.com")
	definitions := make([]any, len(versions))
	for i, version := range versions {
		definitions[i] = map[string]any{"name": version}
	}
	_ = unstructured.SetNestedSlice(crd.Object, definitions, "spec", "versions")
	if strategy != "" {
		_ = unstructured.SetNestedField(crd.Object, strategy, "spec", "conversion", "strategy")
	}
	if stored != nil {
		_ = unstructured.SetNestedStringSlice(crd.Object, stored, "status", "storedVersions")
	}
	return crd
}

func TestCheckCRD(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stored         []string
		now            string
		versions       []string
		next           string
		want, contains string
	}{
		"the same":                     {stored: []string{"v1"}, versions: []string{"v1"}},
		"one more":                     {stored: []string{"v1"}, versions: []string{"v1", "v2"}},
		"nothing is stored":            {versions: []string{"v2"}},
		"an unstored version goes":     {stored: []string{"v2"}, versions: []string{"v2"}},
		"a stored version goes":        {stored: []string{"v1", "v2"}, versions: []string{"v2"}, contains: "v1, v2, and the chart defines only v2"},
		"the conversion goes":          {stored: []string{"v1", "v2"}, now: "Webhook", versions: []string{"v1", "v2"}, want: "Webhook", contains: "conversion by Webhook"},
		"the conversion goes by name":  {stored: []string{"v1", "v2"}, now: "Webhook", versions: []string{"v1", "v2"}, next: "None", want: "Webhook", contains: "storedVersions first"},
		"the conversion stays":         {stored: []string{"v1", "v2"}, now: "Webhook", versions: []string{"v1", "v2"}, next: "Webhook"},
		"the conversion is not needed": {stored: []string{"v2"}, now: "Webhook", versions: []string{"v1", "v2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckCRD(crdOf(c.stored, []string{"v1", "v2"}, c.now), crdOf(nil, c.versions, c.next))
			refused, ok := errors.AsType[*CRDVersionError](err)
			if ok != (c.contains != "") || err != nil && !ok {
				t.Fatalf("got %v", err)
			}
			if ok && (refused.Conversion != c.want || !slices.Equal(refused.Stored, c.stored) || !slices.Equal(refused.Versions, c.versions) ||
				!strings.Contains(err.Error(), c.contains)) {
				t.Errorf("got %+v: %v", refused, err)
			}
		})
	}
}

// TestUpgradesBringCRDsOfDirectoriesUpToDate has a version that the first chart did not, and one that it must keep.
func TestUpgradesBringCRDsOfDirectoriesUpToDate(t *testing.T) {
	t.Parallel()
	chartWith := func(crd string, more map[string]string) *Chart {
		t.Helper()
		files := map[string]string{"crds/crd.yaml": crd, "templates/one.yaml": templates["templates/one.yaml"], "values.yaml": "data: one"}
		maps.Copy(files, more)
		loaded, err := readArchive(packed(t, "1.0.0", files))
		if err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	const group = "\n    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n"
	crd := templates["templates/crd.yaml"]
	both := crd + "  - name: v2\n    served: true\n    storage: false" + group
	second := strings.NewReplacer("widgets", "gadgets", "Widget", "Gadget", "widget", "gadget").Replace(crd)
	gadget := "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: one}\n"

	server := newAPIServer(t)
	request := deployRequest(t, nil)
	request.Chart = chartWith(crd, nil)
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	setStored := func(versions ...string) {
		t.Helper()
		live := server.get(crds + "widgets.example.com")
		live.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl"}, {Manager: fieldManager}})
		if err := unstructured.SetNestedStringSlice(live.Object, versions, "status", "storedVersions"); err != nil {
			t.Fatal(err)
		}
		server.put(crds+"widgets.example.com", live)
	}
	versions := func() int {
		list, _, _ := unstructured.NestedSlice(server.get(crds+"widgets.example.com").Object, "spec", "versions")
		return len(list)
	}
	setStored("v1")
	// A kind comes with the upgrade, together with an object of it.
	request.Chart = chartWith(both, map[string]string{"crds/second.yaml": second, "templates/gadget.yaml": gadget})
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil || versions() != 2 {
		t.Fatalf("%d versions, %v", versions(), err)
	}
	if want := []string{"ConfigMap/one", crdKind + "/gadgets.example.com", crdKind + "/widgets.example.com", "Gadget/one"}; !slices.Equal(server.names(), want) {
		t.Errorf("objects %v, want %v", server.names(), want)
	}

	// What is stored stays readable, and nothing at all is written.
	setStored("v1", "v2")
	written := func() int { return server.count("POST") + server.count("PUT") + server.count("PATCH") }
	before := written()
	for _, refusing := range []*Chart{
		chartWith(crd, nil),
		chartWith(second, map[string]string{"templates/crd.yaml": crd}),
	} {
		request.Chart = refusing
		_, err := server.releases(t).Deploy(t.Context(), request)
		if refused, ok := errors.AsType[*CRDVersionError](err); !ok || refused.Name != "widgets.example.com" || written() != before {
			t.Errorf("after %d more writes: %v", written()-before, err)
		}
	}

	// Somebody else's CRD is left as it is, also if that could not be done to it.
	foreign := server.get(crds + "widgets.example.com")
	foreign.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "a-stranger"}})
	server.put(crds+"widgets.example.com", foreign)
	request.Chart = chartWith(crd, nil)
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil || versions() != 2 {
		t.Errorf("%d versions, %v", versions(), err)
	}
	// A CRD that cannot be written is told, and the next run does it.
	setStored("v1")
	heal := failing(server, http.MethodPatch, crds)
	if _, err := server.releases(t).Deploy(t.Context(), request); err == nil || !strings.Contains(err.Error(), "widgets.example.com") {
		t.Errorf("a CRD that cannot be written: %v", err)
	}
	heal()
	if _, err := server.releases(t).Deploy(t.Context(), request); err != nil || versions() != 1 {
		t.Errorf("%d versions, %v", versions(), err)
	}
}

// TestAccUpgradesBringCRDsUpToDate has a real API server add a version, fill in defaults and refuse to lose one.
func TestAccUpgradesBringCRDsUpToDate(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	crd := strings.NewReplacer("widgets", "gauges", "Widget", "Gauge", "widget", "gauge").Replace(templates["templates/crd.yaml"])
	next := "  - name: v2\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n"
	request := deployRequest(t, nil)
	request.Namespace = shared.Cluster(t).Namespace(t)
	resources := objectsOf(t, cluster, "apiextensions.k8s.io", "customresourcedefinitions")
	for i, step := range []struct {
		crd    string
		stored []string
	}{
		{crd, []string{"v1"}},
		{strings.Replace(crd, "storage: true", "storage: false", 1) + next, []string{"v1", "v2"}},
		{crd, []string{"v1", "v2"}},
	} {
		loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
			"crds/crd.yaml": step.crd, "values.yaml": "data: one", "templates/one.yaml": templates["templates/one.yaml"],
		}))
		if err != nil {
			t.Fatal(err)
		}
		request.Chart = loaded
		_, err = releases.Deploy(t.Context(), request)
		if _, refused := errors.AsType[*CRDVersionError](err); refused != (i == 2) || err != nil && !refused {
			t.Fatalf("step %d: %v", i, err)
		}
		live, err := resources.Get(t.Context(), "gauges.example.com", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if stored, _, _ := unstructured.NestedStringSlice(live.Object, "status", "storedVersions"); !slices.Equal(stored, step.stored) {
			t.Errorf("step %d: versions %v are stored, want %v", i, stored, step.stored)
		}
	}
	if err := resources.Delete(t.Context(), "gauges.example.com", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

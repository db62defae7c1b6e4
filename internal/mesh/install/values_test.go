package install_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template/parse"

	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// servedCharts loads every chart of the test cluster's repository, in every
// version.
func servedCharts(t *testing.T, charts install.Charts) []*helm.Chart {
	t.Helper()
	repository := shared.Cluster(t).Charts().Repository
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, repository+"/index.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Entries map[string][]struct{ Version string }
	}
	if err := yaml.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	var loaded []*helm.Chart
	for name, versions := range index.Entries {
		for _, v := range versions {
			chart, err := charts.Load(t.Context(), repository, name, v.Version)
			if err != nil {
				t.Fatal(err)
			}
			loaded = append(loaded, chart)
		}
	}
	return loaded
}

// Whatever a template reads must be accepted: that is found here by Go's own
// parser of templates, and by other means in what is tested.
func TestAccCheckValuesAcceptsWhatTemplatesRead(t *testing.T) {
	t.Parallel()
	charts := connect(t, "install-values")
	for _, chart := range servedCharts(t, charts) {
		read := map[string]bool{}
		texts, err := chart.Texts()
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range texts {
			tree := parse.New(name)
			tree.Mode = parse.SkipFuncCheck
			trees := map[string]*parse.Tree{}
			if _, err := tree.Parse(string(text), "", "", trees); err != nil {
				continue // No template, or one that is no Go.
			}
			for _, tree := range trees {
				keysRead(reflect.ValueOf(tree.Root), read)
			}
		}
		values := map[string]any{}
		for key := range read {
			values[key] = "text"
		}
		defaults, err := chart.DefaultValues()
		if err != nil {
			t.Fatal(err)
		}
		if inner, ok := defaults["_internal_defaults_do_not_set"].(map[string]any); ok {
			defaults = inner
		}
		maps.Copy(values, defaults)
		if err := install.CheckValues(chart, values, nil); err != nil {
			t.Errorf("%s %s, keys %v: %v", chart.Name(), chart.Version(), slices.Sorted(maps.Keys(read)), err)
		}
		if _, ok := chart.File("values-ha.yaml"); ok {
			overlay, err := chart.ValuesFile("values-ha.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if err := install.CheckValues(chart, overlay, nil); err != nil {
				t.Errorf("%s %s, values-ha.yaml: %v", chart.Name(), chart.Version(), err)
			}
		}
		err = install.CheckValues(chart, map[string]any{"noSuchThing": 1}, nil)
		if unknown, ok := errors.AsType[*install.ValuesError](err); !ok || unknown.Key != "noSuchThing" || unknown.Chart != chart.Name() {
			t.Errorf("%s %s: a key that nothing reads: %v", chart.Name(), chart.Version(), err)
		}
	}
}

// keysRead collects the names that follow .Values in fields and variables.
func keysRead(node reflect.Value, found map[string]bool) {
	switch node.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !node.IsNil() {
			keysRead(node.Elem(), found)
		}
	case reflect.Slice:
		if idents, ok := reflect.TypeAssert[[]string](node); ok {
			if i := slices.Index(idents, "Values"); i >= 0 && i+1 < len(idents) {
				found[idents[i+1]] = true
			}
			return
		}
		for i := range node.Len() {
			keysRead(node.Index(i), found)
		}
	case reflect.Struct:
		for i := range node.NumField() {
			if node.Type().Field(i).IsExported() {
				keysRead(node.Field(i), found)
			}
		}
	}
}

func TestAccCheckValues(t *testing.T) {
	t.Parallel()
	repository := shared.Cluster(t).Charts().Repository
	charts := connect(t, "install-values")
	removed := []install.RemovedValue{
		{Key: "policyController.image", Since: "Linkerd 2.19", Instead: "it runs from controllerImage"},
		{Key: "identity", Since: "never, as the chart has it"},
	}
	for name, c := range map[string]struct {
		chart, version, values string
		want                   []string // key and a part of the reason
	}{
		"all kinds of good values": {"istiod", "1.31.0", `
meshConfig: {accessLogFile: /dev/stdout, anything: [1]}
global: {proxy: {resources: {requests: {cpu: 10m}}}, hub: a, whatever: 1}
pilot: {autoscaleMin: 2, env: {PILOT_X: "true"}, cni: {enabled: true}}
autoscaleMax: null
rollingMaxUnavailable: 1
replicaCount: "2"
revisionTags: [prod]
`, nil},
		"a typing error, and one below the wrapper": {"istiod", "1.31.0", `
meshConfg: {}
pilot: {autoscaleMinimum: 2}
`, []string{"meshConfg", "did you mean meshConfig?", "pilot.autoscaleMinimum", "nothing in version 1.31.0 of the chart reads it"}},
		"other types": {"istiod", "1.31.0", `
meshConfig: text
autoscaleEnabled: "false"
pilot: {replicaCount: true}
global: {imagePullSecrets: secret, proxy: {privileged: 1}}
`, []string{
			"autoscaleEnabled", "wants true or false, and it is a text", "global.imagePullSecrets", "wants a list, and it is a text",
			"global.proxy.privileged", "wants true or false, and it is a number", "meshConfig", "wants a mapping, and it is a text",
			"pilot.replicaCount", "wants a number, and it is true or false",
		}},
		"gateways": {"gateway", "1.31.0", `{service: {type: ClusterIP}, replicaCount: 2, serviceType: LoadBalancer}`, []string{"serviceType", "nothing"}},
		"removed": {"linkerd-control-plane", "2026.8.3", `{policyController: {image: {name: x}}, identity: {issuer: {scheme: a}}, proxyy: {}}`, []string{
			"policyController.image", "was removed in Linkerd 2.19; it runs from controllerImage", "proxyy", "did you mean proxy?",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chart, err := charts.Load(t.Context(), repository, c.chart, c.version)
			if err != nil {
				t.Fatal(err)
			}
			values, err := helm.ParseValues([]string{c.values})
			if err != nil {
				t.Fatal(err)
			}
			err = install.CheckValues(chart, values, removed)
			if c.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var got []*install.ValuesError
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, e := range joined.Unwrap() {
					found, ok := errors.AsType[*install.ValuesError](e)
					if !ok {
						t.Fatalf("error %v is no ValuesError", e)
					}
					got = append(got, found)
				}
			}
			if len(got) != len(c.want)/2 {
				t.Fatalf("errors %v, want keys and reasons %q", err, c.want)
			}
			for i, e := range got {
				if e.Key != c.want[2*i] || !strings.Contains(e.Error(), c.want[2*i+1]) {
					t.Errorf("error %v, want one of %s that says %q", e, c.want[2*i], c.want[2*i+1])
				}
			}
		})
	}
}

func TestCheckKubernetes(t *testing.T) {
	t.Parallel()
	charts := install.Charts{Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()})}
	chart, err := charts.Load(t.Context(), chartDirectory(t, "kubeVersion: \">=1.31.0-0\"\n", nil), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		"v1.36.2": "", "v1.31.0-eks-1": "",
		"v1.30.9": "chart mesh 1.0.0 wants Kubernetes >=1.31.0-0, and the cluster runs v1.30.9",
	} {
		err := install.CheckKubernetes(chart, version)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", version, err, want)
		}
	}
}

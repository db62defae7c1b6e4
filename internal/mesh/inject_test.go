package mesh_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

var update = flag.Bool("update", false, "write what is injected to testdata")

var injections = map[string]mesh.Mesh{
	"linkerd": linkerd.Injection{Namespace: "linkerd", Settings: map[string]string{
		"config.linkerd.io/skip-inbound-ports": "5080,7080",
		"config.linkerd.io/opaque-ports":       "9080",
	}},
	"istio": istio.Injection{Namespace: "istio-system", Revision: "canary"},
}

// objectsOf reads the objects of a text whose documents end with lines "---".
func objectsOf(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
	return objects
}

func TestInjectText(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"emojivoto", "dgraph", "chart"} {
		for meshName, m := range injections {
			t.Run(name+" in "+meshName, func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile(filepath.Join("testdata", "inject", name+".yaml"))
				if err != nil {
					t.Fatal(err)
				}
				got, err := mesh.InjectText(m, text)
				if err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", "inject", name+"."+meshName+".yaml")
				if *update {
					if err := os.WriteFile(golden, got, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
				// Objects are injected as their texts are.
				objects := objectsOf(t, text)
				for _, object := range objects {
					if err := mesh.Inject(m, object); err != nil {
						t.Error(err)
					}
				}
				if !reflect.DeepEqual(objects, objectsOf(t, got)) {
					t.Errorf("objects are injected in another way: %v", objects)
				}
			})
		}
	}
}

func TestInjectErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: alpha, namespace: dgraph}, spec: {}}", "StatefulSet dgraph/alpha: spec.template is missing"},
		{"{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {hostNetwork: [yes]}}}}", "Job once: its pod template is not one that Kubernetes would take: "},
		{"{apiVersion: v1, kind: Namespace, metadata: {name: ns, annotations: [], labels: []}}", "Namespace ns: metadata."},
	} {
		for _, m := range injections {
			_, err := mesh.InjectText(m, []byte(c.text))
			if want := "document 1 (line 1): " + c.want; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error of the text %v, want %q", err, want)
			}
			for _, object := range objectsOf(t, []byte(c.text)) {
				if err := mesh.Inject(m, object); err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("error of the object %v, want %q", err, c.want)
				}
			}
		}
	}
}

func TestInjectHook(t *testing.T) {
	t.Parallel()
	const job = `{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}, spec: {template: {metadata: %s, spec: {containers: [{name: a}]}}}}`
	ambient := istio.Injection{Namespace: "istio-system", Ambient: true}
	for _, test := range []struct {
		mesh         mesh.Mesh
		before, want string
	}{
		{injections["linkerd"], `{}`, `{annotations: {linkerd.io/inject: disabled}}`},
		{injections["linkerd"], `{annotations: {linkerd.io/inject: enabled}}`, `{annotations: {linkerd.io/inject: enabled}}`},
		{injections["istio"], `{labels: {app: a}}`, `{labels: {app: a, sidecar.istio.io/inject: "false"}}`},
		{injections["istio"], `{labels: {sidecar.istio.io/inject: "true"}}`, `{labels: {sidecar.istio.io/inject: "true"}}`},
		{ambient, `{}`, `{labels: {istio.io/dataplane-mode: ambient}}`},
	} {
		got := objectsOf(t, fmt.Appendf(nil, job, test.before))[0]
		if err := mesh.InjectHook(test.mesh, got); err != nil {
			t.Fatal(err)
		}
		if want := objectsOf(t, fmt.Appendf(nil, job, test.want))[0]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s in %s: got %v, want %v", test.before, test.mesh.Name(), got, want)
		}
	}
	service := objectsOf(t, []byte(`{apiVersion: v1, kind: Service, metadata: {name: migrate}}`))[0]
	want := service.DeepCopy()
	if err := mesh.InjectHook(injections["linkerd"], service); err != nil || !reflect.DeepEqual(service, want) {
		t.Errorf("a Service: got %v, %v", service, err)
	}
}

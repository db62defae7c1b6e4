package release

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

func chartOf(t *testing.T, files map[string]string) *helm.Chart {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.2.3\n"}
	maps.Copy(all, files)
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chart, err := helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()}).Load(t.Context(), helm.Source{Name: dir})
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func TestAccChart(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	seen := steps(releases)
	namespace := shared.Cluster(t).Namespace(t)
	group := namespace + ".example.com"
	chart := chartOf(t, map[string]string{
		"values.yaml": "color: red\n",
		"crds/crd.yaml": `
# A comment before it.
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: carts.` + group + `}
spec:
  group: ` + group + `
  names: {plural: carts, singular: cart, kind: Cart, listKind: CartList}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`,
		"templates/cart.yaml": "apiVersion: " + group + "/v1\nkind: Cart\nmetadata: {name: one}\nspec: {color: {{ .Values.color }}}\n",
		"templates/secret.yaml": `
{{- $old := lookup "v1" "Secret" .Release.Namespace "generated" }}
apiVersion: v1
kind: Secret
metadata: {name: generated}
{{- if $old }}
data: {password: {{ $old.data.password }}}
{{- else }}
stringData: {password: {{ randAlphaNum 20 }}}
{{- end }}`,
		"templates/about.yaml": `
apiVersion: v1
kind: ConfigMap
metadata: {name: about}
data:
  upgrade: "{{ .Release.IsUpgrade }}"
  served: "{{ .Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget" }}"
  version: {{ .Capabilities.KubeVersion.Version }}`,
		"templates/hook.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hook, annotations: {helm.sh/hook: post-install}}\n",
		"templates/NOTES.txt": "Thanks.",
	})
	desired := func(values map[string]any) Desired {
		t.Helper()
		objects, err := open(t, releases, namespace, "shop").Render(t.Context(), chart, values, false)
		if err != nil {
			t.Fatal(err)
		}
		return Desired{Objects: objects}
	}
	first := desired(nil)
	var sources []string
	for _, object := range first.Objects {
		sources = append(sources, object.GetKind()+" from "+object.Source)
	}
	slices.Sort(sources)
	if want := []string{
		"Cart from shop/templates/cart.yaml", "ConfigMap from chart shop", "ConfigMap from shop/templates/about.yaml",
		"CustomResourceDefinition from chart shop", "Secret from shop/templates/secret.yaml",
	}; !slices.Equal(sources, want) {
		t.Errorf("sources %q", sources)
	}
	deploy(t, releases, namespace, "shop", first)
	if want := []string{"CustomResourceDefinition", "Secret", "ConfigMap", "Cart", "post-install hook"}; !slices.Equal(*seen, want) {
		t.Errorf("steps %q", *seen)
	}
	about := live(t, releases, kube.ConfigMap, namespace, "about")
	if data, ok := about.Object["data"].(map[string]any); !ok || data["upgrade"] != "false" || data["served"] != "true" || !strings.HasPrefix(data["version"].(string), "v1.") { //nolint:forcetypeassert // A ConfigMap's data are texts.
		t.Errorf("data %v", about.Object["data"])
	}
	// What it generated stays, and only what was asked for changes.
	if got, want := planned(t, releases, namespace, "shop", desired(map[string]any{"color": "blue"})), []string{
		`~ ConfigMap ns/about: data.upgrade: "false" -> "true"`, `~ Cart ns/one: spec.color: "red" -> "blue"`,
	}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "shop", desired(nil))
	if got := planned(t, releases, namespace, "shop", desired(nil)); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	if _, err := open(t, releases, namespace, "shop").Uninstall(patient(t), UninstallOptions{DeleteCRDs: true}); err != nil {
		t.Fatal(err)
	}
}

// TestAccPlanCosts counts the requests of a plan in which nothing changes.
func TestAccPlanCosts(t *testing.T) {
	t.Parallel()
	namespace := shared.Cluster(t).Namespace(t)
	var text strings.Builder
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		text.WriteString("---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}}\n---\n" + deployment(name, "1", "replicas: 0"))
	}
	text.WriteString("---\n{apiVersion: v1, kind: Secret, metadata: {name: s}}\n")
	desired := Desired{Objects: parse(t, text.String())}
	deploy(t, releasesBy(t, ""), namespace, "app", desired)

	releases := releasesBy(t, "")
	since := time.Now()
	release := open(t, releases, namespace, "app")
	if drift, err := release.Drift(t.Context()); err != nil || len(drift) > 0 {
		t.Errorf("drift %q, %v", drift, err)
	}
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
	events, err := shared.Cluster(t).AuditEvents(since)
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]int{}
	for _, event := range events {
		if event.UserAgent == "release-test" && (event.Namespace == namespace || event.Namespace == "" && event.Resource == "deployments") {
			requests[event.Verb+" "+event.Resource]++
		}
	}
	// The record and the Secret, each for drift and for the plan.
	if lists := requests["list configmaps"]; lists != 1 || requests["get secrets"] != 4 || len(requests) != 3 {
		t.Errorf("requests %v", requests)
	}
}

func TestAccWaits(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	claim := func(class string) string {
		return "---\n{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: " + class + "}, spec: {storageClassName: " + class + ", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}\n"
	}
	// An Azure disk is bound when a pod uses it.
	text := "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: LoadBalancer, ports: [{port: 80}]}}\n" +
		claim("managed-csi") + "---\n" + deployment("paused", "does-not-exist", "paused: true")
	deploy(t, releases, namespace, "app", Desired{Objects: parse(t, text), Wait: true})
	if service := live(t, releases, kube.Service, namespace, "web"); service == nil || !strings.Contains(toText(t, service.Object["status"]), "ip") {
		t.Error("the load balancer has no address yet")
	}

	desired := Desired{Objects: parse(t, claim("nothing")), Wait: true}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := open(t, releases, namespace, "claims").Deploy(ctx, desired)
	if err == nil || !strings.Contains(err.Error(), "PersistentVolumeClaim "+namespace+"/nothing: not bound: there is no storage class nothing") {
		t.Errorf("got %v", err)
	}
	job := `{apiVersion: batch/v1, kind: Job, metadata: {name: slow}, spec: {activeDeadlineSeconds: 1, template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:does-not-exist"}]}}}}`
	desired = Desired{Objects: parse(t, job), Wait: true, WaitForJobs: true}
	if err := open(t, releases, namespace, "jobs").Deploy(patient(t), desired); err == nil || !strings.Contains(err.Error(), "Job "+namespace+"/slow: it failed: DeadlineExceeded") {
		t.Errorf("got %v", err)
	}
	desired.WaitForJobs = false
	deploy(t, releases, namespace, "jobs", desired)
}

func TestAccValuesAreHidden(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	desired := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {password: hunter2}}`), HideValues: true}
	deploy(t, releases, namespace, "app", desired)
	changed := desired
	changed.Objects = parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {password: hunter3}}`)
	if got := planned(t, releases, namespace, "app", changed); !slices.Equal(got, []string{"~ ConfigMap ns/a: data.password: changes (not shown)"}) {
		t.Errorf("plan %q", got)
	}
	patch(t, releases, kube.ConfigMap, namespace, "a", "somebody", `{"data":{"password":"hunter4"}}`)
	drift, err := open(t, releasesBy(t, ""), namespace, "app").Drift(t.Context())
	if err != nil || !slices.Equal(drift, []string{"ConfigMap " + namespace + "/a: data.password: differs (not shown)"}) {
		t.Errorf("drift %q, %v", drift, err)
	}
}

func TestAccNamespaceWithDataIsKept(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t) + "-data"
	desired := Desired{CreateNamespace: true, Wait: true, Objects: parse(t, `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: "registry.invalid/db:1"}]}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
`)}
	deploy(t, releases, namespace, "app", desired)
	kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{})
	if err != nil || len(kept) != 2 || kept[1] != "Namespace "+namespace+": it holds PersistentVolumeClaim data-db-0" {
		t.Errorf("kept %q, %v", kept, err)
	}
	if open(t, releases, namespace, "app").Record() != nil {
		t.Error("the record is left")
	}
	// The claim is taken up again, and the namespace is still one that goes.
	before := claimUID(t, namespace)
	deploy(t, releases, namespace, "app", desired)
	if after := claimUID(t, namespace); before == "" || after != before {
		t.Errorf("the claim %s became %s", before, after)
	}
	if _, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
	discardNamespace(t, releases, namespace)
}

func toText(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

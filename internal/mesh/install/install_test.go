package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// meshChart is a chart with what those of meshes have: a workload, a webhook, CRDs
// of either sort with an object, and a Secret that is another each time. What is
// not namespaced is named after the release.
func meshChart(name string) map[string]string {
	return map[string]string{
		"crds/own.yaml": strings.ReplaceAll(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: owns.NAME.example}
spec:
  group: NAME.example
  names: {plural: owns, kind: Own}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, "NAME", name),
		"values.yaml": "image: a:1\nreplicas: 1\nselector: web\nport: 80\nsecret: {}\nversions: [v1]\nkeep: true\n",
		"templates/all.yaml": `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: {{ .Release.Name }}s.mesh.example}
spec:
  group: mesh.example
  names: {plural: {{ .Release.Name }}s, kind: {{ .Release.Name | title }}}
  scope: Namespaced
  versions:
  {{- range $i, $version := .Values.versions }}
  - {name: {{ $version }}, served: true, storage: {{ eq $i 0 }}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  {{- end }}
---
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData:
  random: {{ randAlphaNum 20 | quote }}
  {{- range $key, $value := .Values.secret }}
  {{ $key }}: {{ $value | quote }}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: {{ .Values.port }}}]}
{{- if .Values.keep }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: dropped}
{{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {made: {{ now | date "2006-01-02 15:04:05" | quote }}}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Values.selector }}}}
  template:
    metadata: {labels: {app: {{ .Values.selector }}}}
    spec: {containers: [{name: web, image: {{ .Values.image | quote }}}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: {{ .Release.Name }}}
webhooks:
- name: web.mesh.example
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {service: {name: web, namespace: {{ .Release.Namespace }}}}
  namespaceSelector: {matchExpressions: [{key: example.com/nobody, operator: Exists}{{ if .Values.keep }}, {key: kubernetes.io/metadata.name, operator: NotIn, values: [x]}{{ end }}]}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
---
apiVersion: {{ .Release.Name }}.example/v1
kind: Own
metadata: {name: own}
`,
	}
}

// place is where a test installs the chart.
type place struct {
	t         *testing.T
	charts    install.Charts
	chart     *helm.Chart
	namespace string
	name      string // of the release, another for each test
}

func newPlace(t *testing.T, name string) place {
	t.Helper()
	charts := connect(t, "install-"+name)
	chart, err := charts.Load(t.Context(), chartDirectory(t, "", meshChart(name)), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return place{t: t, charts: charts, chart: chart, namespace: shared.Cluster(t).Namespace(t), name: name}
}

// release is the chart with values, as YAML.
func (p place) release(values string) install.Release {
	p.t.Helper()
	parsed, err := helm.ParseValues([]string{values})
	if err != nil {
		p.t.Fatal(err)
	}
	return install.Release{Namespace: p.namespace, Name: p.name, Chart: p.chart, Values: parsed, Yields: kube.EnforcerYields()}
}

func (p place) apply(release install.Release) {
	p.t.Helper()
	if err := p.charts.Apply(p.t.Context(), []install.Release{release}, false); err != nil {
		p.t.Fatal(err)
	}
}

// foresees checks the changes, in the order in which they are made.
func (p place) foresees(release install.Release, want ...string) {
	p.t.Helper()
	for range 2 {
		found, err := p.charts.Foresee(p.t.Context(), []install.Release{release}, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		var got []string
		for _, change := range found {
			got = append(got, strings.NewReplacer(p.namespace, "NS", p.name, "NAME").Replace(change.String()))
		}
		if !slices.Equal(got, want) {
			p.t.Fatalf("foreseen\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// drifts checks what is not as it was installed.
func (p place) drifts(want ...string) {
	p.t.Helper()
	record, err := p.charts.Releases.Get(p.t.Context(), p.namespace, p.name)
	if err != nil {
		p.t.Fatal(err)
	}
	got, err := connect(p.t, "install-"+p.name).Drift(p.t.Context(), record, kube.EnforcerYields())
	if err != nil {
		p.t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("drift %q, want %q", got, want)
	}
}

func (p place) ref(kind kube.Kind, name string) kube.Ref {
	if !kind.Namespaced {
		return kube.Ref{Kind: kind, Name: p.name}
	}
	return kube.Ref{Kind: kind, Namespace: p.namespace, Name: name}
}

// patch changes an object as a manager other than Helm.
func (p place) patch(ref kube.Ref, manager string, change map[string]any) {
	p.t.Helper()
	live, err := p.charts.Cluster.Get(p.t.Context(), ref)
	if err == nil {
		_, err = p.charts.Cluster.Amend(p.t.Context(), live, change, manager)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestAccLifecycle(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "lifecycle")
	first := p.release("{}")
	p.foresees(first,
		"+ CustomResourceDefinition owns.NAME.example (unless it is there)", "+ Secret NS/web", "+ ConfigMap NS/kept", "+ ConfigMap NS/dropped", "+ CustomResourceDefinition NAMEs.mesh.example", "+ Service NS/web",
		"+ Deployment NS/web", "+ MutatingWebhookConfiguration NAME", "+ Own NS/own")
	p.apply(first)
	p.drifts()
	random := []string{"~ Secret NS/web: data.random: another with each rendering", "~ Deployment NS/web: metadata.annotations.made: another with each rendering"}
	p.foresees(first, random...)

	// Others set what is theirs to set: that is no drift, and an upgrade leaves it.
	expression := func(key, operator string, values ...any) any {
		return map[string]any{"key": key, "operator": operator, "values": values}
	}
	exists := func(key, operator string) any { return map[string]any{"key": key, "operator": operator} }
	webhook := p.ref(kube.MutatingWebhookConfiguration, "")
	live, err := p.charts.Cluster.Get(t.Context(), webhook)
	if err != nil {
		t.Fatal(err)
	}
	webhooks, _, err := unstructured.NestedSlice(live.Object, "webhooks")
	if err != nil {
		t.Fatal(err)
	}
	entry, ok := webhooks[0].(map[string]any)
	if !ok {
		t.Fatal("no webhook")
	}
	entry["namespaceSelector"] = map[string]any{"matchExpressions": []any{
		expression("control-plane", "NotIn", "true"), exists("control-plane", "DoesNotExist"),
		exists("example.com/nobody", "Exists"), expression("kubernetes.io/metadata.name", "NotIn", "x"),
	}}
	p.patch(webhook, "admissionsenforcer", map[string]any{"webhooks": webhooks})
	p.scale("web", 3)
	p.patch(p.ref(kube.Service, "web"), "somebody", map[string]any{"spec": map[string]any{"selector": map[string]any{"app": "other"}}})
	p.drifts("Service " + p.namespace + "/web: spec.selector.app: want \"web\", is \"other\"")

	upgrade := p.release("{secret: {password: hunter2}, image: 'a:2', replicas: 2, keep: false}")
	p.foresees(upgrade,
		"~ Secret NS/web: data.password: absent -> a value (not shown); data.random: another with each rendering",
		`~ Deployment NS/web: metadata.annotations.made: another with each rendering; spec.replicas: 1 -> 2; spec.template.spec.containers[name=web].image: "a:1" -> "a:2"`,
		"~ MutatingWebhookConfiguration NAME: webhooks[name=web.mesh.example].namespaceSelector.matchExpressions[key=kubernetes.io/metadata.name]: an object of 3 fields -> absent",
		"- ConfigMap NS/dropped", ". ConfigMap NS/kept (stays: helm.sh/resource-policy says so)")
	p.apply(upgrade)
	p.drifts()
	if live, err = p.charts.Cluster.Get(t.Context(), webhook); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(live.Object["webhooks"]); strings.Count(text, "control-plane") != 2 || !strings.Contains(text, "example.com/nobody") || strings.Contains(text, "metadata.name") {
		t.Errorf("the upgrade leaves of the namespace selector %s", text)
	}
	if got := p.replicas("web"); got != 3 {
		t.Errorf("%d replicas after the upgrade, want the 3 of the autoscaler", got)
	}

	p.refuses()
	p.goesBack(upgrade)
	p.uninstalls()
}

// scale has an autoscaler of others scale a Deployment.
func (p place) scale(name string, replicas int32) {
	p.t.Helper()
	_, err := shared.Cluster(p.t).Client().AutoscalingV2().HorizontalPodAutoscalers(p.namespace).Create(p.t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "keda-hpa-" + name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
			MinReplicas:    &replicas, MaxReplicas: replicas,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.patch(p.ref(kube.Deployment, name), "kube-controller-manager", map[string]any{"spec": map[string]any{"replicas": replicas}})
}

func (p place) replicas(name string) int64 {
	p.t.Helper()
	live, err := p.charts.Cluster.Get(p.t.Context(), p.ref(kube.Deployment, name))
	if err != nil {
		p.t.Fatal(err)
	}
	replicas, _, err := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if err != nil {
		p.t.Fatal(err)
	}
	return replicas
}

// refuses checks the errors of changes that an apply could not make.
func (p place) refuses() {
	p.t.Helper()
	_, err := shared.Cluster(p.t).Client().CoreV1().ConfigMaps(p.namespace).Create(p.t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dropped"}, Data: map[string]string{"a": "b"}}, metav1.CreateOptions{FieldManager: "somebody"})
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = p.charts.Foresee(p.t.Context(), []install.Release{p.release("{selector: other, versions: [v2]}")}, nil)
	if immutable, ok := errors.AsType[*install.ImmutableError](err); !ok || immutable.Ref != p.ref(kube.Deployment, "web") || !slices.Equal(immutable.Fields, []string{"spec.selector"}) {
		p.t.Errorf("error %v, want an ImmutableError", err)
	}
	if dropped, ok := errors.AsType[*helm.CRDVersionError](err); !ok || dropped.Name != p.name+"s.mesh.example" {
		p.t.Errorf("error %v, want a CRDVersionError", err)
	}
	if foreign, ok := errors.AsType[*helm.ForeignObjectsError](err); !ok || len(foreign.Objects) != 1 ||
		foreign.Objects[0] != (helm.ForeignObject{Kind: "ConfigMap", Namespace: p.namespace, Name: "dropped", Owner: "written by somebody"}) {
		p.t.Errorf("error %v, want a ForeignObjectsError", err)
	}
	outdated := p.release("{}")
	if outdated.Chart, err = p.charts.Load(p.t.Context(), chartDirectory(p.t, "kubeVersion: \"<1.20\"\n", nil), "mesh", "1.0.0"); err != nil {
		p.t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Foresee": func() error { _, err := p.charts.Foresee(p.t.Context(), []install.Release{outdated}, nil); return err }(),
		"Apply":   p.charts.Apply(p.t.Context(), []install.Release{outdated}, false),
	} {
		if _, ok := errors.AsType[*install.KubernetesError](err); !ok {
			p.t.Errorf("%s: error %v, want a KubernetesError", what, err)
		}
	}
}

// goesBack has one upgrade cancelled, which stays, and another fail.
func (p place) goesBack(former install.Release) {
	p.t.Helper()
	cancelled, cancel := context.WithCancel(p.t.Context())
	interrupted := p.release("{keep: false, port: 85}")
	interrupted.Ready = func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	}
	err := p.charts.Apply(cancelled, []install.Release{interrupted}, true)
	if _, rolled := errors.AsType[*install.RolledBackError](err); rolled || !errors.Is(err, context.Canceled) {
		p.t.Errorf("error %v of an apply that was cancelled", err)
	}
	p.drifts()
	p.apply(former)
	broken := p.release("{image: 'a:does-not-exist', port: 90, keep: false}")
	ctx, cancel := context.WithTimeout(p.t.Context(), 24*time.Second)
	defer cancel()
	err = p.charts.Apply(ctx, []install.Release{broken}, true)
	rolled, ok := errors.AsType[*install.RolledBackError](err)
	if !ok || !slices.Equal(rolled.Releases, []string{p.namespace + "/" + p.name}) {
		p.t.Fatalf("error %v, want a RolledBackError", err)
	}
	for _, want := range []string{"Deployment " + p.namespace + "/web", "ImagePullBackOff", "rolled back"} {
		if !strings.Contains(err.Error(), want) {
			p.t.Errorf("error %v does not name %q", err, want)
		}
	}
	p.drifts()
	record, err := p.charts.Releases.Get(p.t.Context(), p.namespace, p.name)
	if err != nil || record.Status != helm.StatusDeployed || record.Values["image"] != former.Values["image"] {
		p.t.Errorf("release %+v after the rollback, error %v", record, err)
	}
}

// uninstalls checks that a webhook goes before what it leads to.
func (p place) uninstalls() {
	p.t.Helper()
	since := time.Now().Truncate(time.Microsecond)
	for range 2 {
		if err := p.charts.Uninstall(p.t.Context(), p.namespace, p.name, helm.UninstallOptions{Wait: true}); err != nil {
			p.t.Fatal(err)
		}
	}
	events, err := shared.Cluster(p.t).AuditEvents(since)
	if err != nil {
		p.t.Fatal(err)
	}
	var deleted []string
	for _, event := range events {
		if event.Verb == "delete" && strings.HasPrefix(event.UserAgent, "install-"+p.name) && event.Resource != "secrets" {
			deleted = append(deleted, event.Resource)
		}
	}
	if len(deleted) < 2 || deleted[0] != "mutatingwebhookconfigurations" {
		p.t.Errorf("deleted %v, want the webhook first", deleted)
	}
}

// Objects that were applied without Helm are taken over as they are.
func TestAccAdopts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "adopt")
	release := p.release("{}")
	rendered, err := p.charts.Render(t.Context(), release)
	if err != nil {
		t.Fatal(err)
	}
	uids := map[kube.Ref]types.UID{}
	for _, text := range append(rendered.CRDs, rendered.Manifest) {
		all := helm.Rendered{Manifest: text}
		objects, err := all.Objects()
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			uids[p.applyByKubectl(object)] = ""
		}
	}
	for ref := range uids {
		live, err := p.charts.Cluster.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		uids[ref] = live.GetUID()
	}
	_, err = p.charts.Foresee(t.Context(), []install.Release{release}, nil)
	foreign, ok := errors.AsType[*helm.ForeignObjectsError](err)
	if !ok || len(foreign.Objects) != len(uids)-1 || foreign.Objects[0].Owner != "written by kubectl-client-side-apply" {
		t.Errorf("error %v, want one that names all objects", err)
	}
	release.Adopt = true
	changes, err := p.charts.Foresee(t.Context(), []install.Release{release}, nil)
	if err != nil || len(changes) != len(uids) {
		t.Errorf("foreseen %v, %v", changes, err)
	}
	p.apply(release)
	p.drifts()
	for ref, uid := range uids {
		live, err := p.charts.Cluster.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if live.GetUID() != uid {
			t.Errorf("%s was made anew", ref)
		}
	}
	// What belongs to another release is not up for adoption.
	another := release
	another.Name = "another"
	if err := p.charts.Apply(t.Context(), []install.Release{another}, false); err == nil || !strings.Contains(err.Error(), "of Helm release "+p.namespace+"/adopt") {
		t.Errorf("error %v of a release that adopts another's objects", err)
	}
	if err := p.charts.Uninstall(t.Context(), p.namespace, p.name, helm.UninstallOptions{Wait: true}); err != nil {
		t.Error(err)
	}
}

// applyByKubectl creates an object as kubectl apply does.
func (p place) applyByKubectl(written *unstructured.Unstructured) kube.Ref {
	p.t.Helper()
	last, err := json.Marshal(written)
	if err != nil {
		p.t.Fatal(err)
	}
	object := written.DeepCopy()
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["kubectl.kubernetes.io/last-applied-configuration"] = string(last)
	object.SetAnnotations(annotations)
	kind, err := p.charts.Cluster.KindFor(p.t.Context(), object.GroupVersionKind())
	if err != nil {
		p.t.Fatal(err)
	}
	if kind.Namespaced {
		object.SetNamespace(p.namespace)
	}
	if _, err := p.charts.Cluster.Apply(p.t.Context(), object, kube.ApplyOptions{Manager: "kubectl-client-side-apply", CreateOnly: true}); err != nil {
		p.t.Fatal(err)
	}
	ref := kube.Ref{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()}
	if kind == kube.CustomResourceDefinition {
		if err := p.charts.Cluster.AwaitReady(p.t.Context(), ref); err != nil {
			p.t.Fatal(err)
		}
	}
	return ref
}

// A look at what is installed costs few requests, by either kind of detection.
func TestAccRequestsOfALook(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "budget")
	p.apply(p.release("{}"))
	t.Cleanup(func() {
		if err := p.charts.Uninstall(context.WithoutCancel(t.Context()), p.namespace, p.name, helm.UninstallOptions{}); err != nil {
			t.Error(err)
		}
	})
	for mode, c := range map[string]struct {
		kinds []kube.Kind
		most  int
	}{
		// One request for the releases of the namespace, and for Deployments and
		// both kinds of webhook configurations.
		"releases": {install.CoreKinds(), 1 + 3},
		// One request for each of the seven kinds, and two to find that which is no
		// kind of Kubernetes.
		"objects": {nil, 1 + 7 + 2},
	} {
		agent, since := "install-look-"+mode, time.Now().Truncate(time.Microsecond)
		charts := connect(t, agent)
		records, err := charts.Releases.List(t.Context(), p.namespace)
		if err != nil || len(records) != 1 {
			t.Fatalf("releases %v, error %v", records, err)
		}
		drift, err := charts.Drift(t.Context(), records[p.name], kube.EnforcerYields(), c.kinds...)
		if err != nil || len(drift) > 0 {
			t.Errorf("drift %q, error %v", drift, err)
		}
		events, err := shared.Cluster(t).AuditEvents(since)
		if err != nil {
			t.Fatal(err)
		}
		var requests []string
		for _, event := range events {
			if strings.HasPrefix(event.UserAgent, agent) {
				requests = append(requests, event.Verb+" "+event.Path)
			}
		}
		if len(requests) == 0 || len(requests) > c.most {
			t.Errorf("%s: %d requests, want at most %d:\n%s", mode, len(requests), c.most, strings.Join(requests, "\n"))
		}
	}
}

// What others have installed is not gone back to: their record may have what has
// been others' since.
func TestAccLeavesRecordsOfOthers(t *testing.T) {
	t.Parallel()
	charts, namespace := connect(t, "install-others"), shared.Cluster(t).Namespace(t)
	chart, err := charts.Load(t.Context(), chartDirectory(t, "", map[string]string{
		"templates/all.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {key: {{ .Values.key }}}\n" +
			"---\napiVersion: autoscaling/{{ .Values.api }}\nkind: HorizontalPodAutoscaler\nmetadata: {name: scaler}\n" +
			"spec: {maxReplicas: 1, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: none}}\n",
		"values.yaml": "api: v1\n",
	}), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := charts.Releases.Deploy(t.Context(), helm.DeployRequest{Namespace: namespace, Name: "others", Chart: chart, Values: map[string]any{"key": "theirs"}}); err != nil {
		t.Fatal(err)
	}
	refuse := errors.New("no answer")
	err = charts.Apply(t.Context(), []install.Release{{
		Namespace: namespace, Name: "others", Chart: chart, Values: map[string]any{"key": "ours"},
		Ready: func(context.Context) error { return refuse },
	}}, true)
	if _, rolled := errors.AsType[*install.RolledBackError](err); rolled || !errors.Is(err, refuse) || !strings.Contains(err.Error(), "was not made by this provider") {
		t.Errorf("error %v, want one that says why the release stays", err)
	}
	record, err := charts.Releases.Get(t.Context(), namespace, "others")
	if err != nil || record.Values["key"] != "ours" {
		t.Errorf("release %+v, error %v", record, err)
	}
	// Another version of a kind is no other object.
	changes, err := charts.Foresee(t.Context(), []install.Release{{Namespace: namespace, Name: "others", Chart: chart, Values: map[string]any{"key": "ours", "api": "v2"}}}, nil)
	if err != nil || len(changes) != 1 || changes[0].Action != kube.Update || !slices.Equal(changes[0].Lines, []string{`apiVersion: "autoscaling/v1" -> "autoscaling/v2"`}) {
		t.Errorf("foreseen %v, %v", changes, err)
	}
}

// CRDs stay at their new version when what follows them goes back.
func TestAccRollbackLeavesCRDs(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "crds")
	chart, err := p.charts.Load(t.Context(), chartDirectory(t, "", map[string]string{"templates/crd.yaml": strings.ReplaceAll(meshChart("crds-own")["crds/own.yaml"], "type: object", "type: {{ .Values.type }}")}), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	refuse := errors.New("no answer")
	releases := func(description string, ready func(context.Context) error) []install.Release {
		web := p.release("{image: 'a:" + description + "'}")
		web.Ready = ready
		return []install.Release{
			{Namespace: p.namespace, Name: "types", Chart: chart, Values: map[string]any{"type": "object", "description": description}}, web,
		}
	}
	answers := func(context.Context) error { return nil }
	if err := p.charts.Apply(t.Context(), releases("1", answers), true); err != nil {
		t.Fatal(err)
	}
	// What was never healthy is not gone back to, whatever Helm calls it.
	never := func(context.Context) error { return refuse }
	if err := p.charts.Apply(t.Context(), releases("2", never), false); !errors.Is(err, refuse) {
		t.Fatal(err)
	}
	asked := 0
	err = p.charts.Apply(t.Context(), releases("3", func(context.Context) error {
		if asked++; asked == 1 {
			return refuse
		}
		return nil
	}), true)
	if asked != 2 {
		t.Errorf("asked %d times whether the release answers, want once before the rollback and once after", asked)
	}
	rolled, ok := errors.AsType[*install.RolledBackError](err)
	if !ok || !errors.Is(err, refuse) || !slices.Equal(rolled.Releases, []string{p.namespace + "/crds"}) {
		t.Errorf("error %v, want a RolledBackError of one release", err)
	}
	records, err := p.charts.Releases.List(t.Context(), p.namespace)
	if err != nil || records["types"].Values["description"] != "3" || records["crds"].Values["image"] != "a:1" {
		t.Errorf("records %+v, error %v", records, err)
	}
	// A chart that has a CRD no more takes nobody's objects away.
	again, err := p.charts.Load(t.Context(), chartDirectory(t, "", map[string]string{
		"templates/other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
	}), "mesh", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	changes, err := p.charts.Foresee(t.Context(), []install.Release{{Namespace: p.namespace, Name: "types", Chart: again}}, nil)
	if err != nil || len(changes) != 2 || changes[0].Action != kube.Create || changes[1].Action != kube.Keep || changes[1].Ref.Name != "owns.crds-own.example" {
		t.Errorf("foreseen %v, %v", changes, err)
	}
	// The first installation of a release has nothing to go back to.
	fresh := p.release("{keep: false}")
	fresh.Name, fresh.Chart, fresh.Ready = "fresh", chart, never
	fresh.Values = map[string]any{"type": "object"}
	for _, name := range []string{"crds", "types"} {
		if err := p.charts.Uninstall(t.Context(), p.namespace, name, helm.UninstallOptions{Wait: true}); err != nil {
			t.Fatal(err)
		}
	}
	err = p.charts.Apply(t.Context(), []install.Release{fresh}, true)
	if _, ok := errors.AsType[*install.RolledBackError](err); ok || !errors.Is(err, refuse) {
		t.Errorf("error %v of a first installation, want the refusal alone", err)
	}
	if ours, err := p.charts.Resumable(t.Context(), p.namespace, "fresh"); err != nil || !ours {
		t.Errorf("the failed installation is not to be resumed: %v", err)
	}
	if err := p.charts.Uninstall(t.Context(), p.namespace, "fresh", helm.UninstallOptions{Wait: true}); err != nil {
		t.Error(err)
	}
}

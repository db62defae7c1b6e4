package istio

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// clusterOf is a cluster that has the objects and can only be read.
func clusterOf(t *testing.T, objects ...map[string]any) *kube.Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ConfigMap, kube.Deployment, kube.DaemonSet} {
			if !strings.HasSuffix(r.URL.Path, "/"+kind.Resource) {
				continue
			}
			items := []any{}
			for _, o := range objects {
				if o["kind"] == kind.Name {
					items = append(items, o)
				}
			}
			encode(t, w, map[string]any{
				"apiVersion": kind.GVK().GroupVersion().String(), "kind": kind.Name + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
			})
			return
		}
		// /apis/<group>/… or /api/v1/…
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
		group := ""
		if parts[0] == "apis" {
			group = parts[1]
		}
		missing := apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: parts[len(parts)-2]}, parts[len(parts)-1])
		missing.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(http.StatusNotFound)
		encode(t, w, missing.ErrStatus)
	}))
	t.Cleanup(server.Close)
	cluster, err := kube.Connect(kube.Settings{Host: server.URL, RequestTimeout: 10 * time.Second}, "istio-test")
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func encode(t *testing.T, w http.ResponseWriter, value any) {
	t.Helper()
	if err := json.NewEncoder(w).Encode(value); err != nil {
		t.Error(err)
	}
}

func untyped(t *testing.T, object any) map[string]any {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// webhooksFor are the webhooks that Istio's charts make of a revision or tag
// (manifests/charts/istio-control/istio-discovery/templates). The default one
// answers for namespaces and pods too that name no revision.
const webhooksFor = `
- name: rev.namespace.sidecar-injector.istio.io
  clientConfig: &client
    caBundle: Q0E=
    service: {name: istiod, namespace: NAMESPACE, path: /inject, port: 443}
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: In, values: ["REVISION"]}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
- name: rev.object.sidecar-injector.istio.io
  clientConfig: *client
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: DoesNotExist}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
    - {key: istio.io/rev, operator: In, values: ["REVISION"]}
`

const webhooksOfDefault = `
- name: namespace.sidecar-injector.istio.io
  clientConfig: &client
    caBundle: Q0E=
    service: {name: istiod, namespace: NAMESPACE, path: /inject, port: 443}
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: In, values: ["enabled"]}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ["false"]}
- name: object.sidecar-injector.istio.io
  clientConfig: *client
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: DoesNotExist}
    - {key: istio.io/rev, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: In, values: ["true"]}
    - {key: istio.io/rev, operator: DoesNotExist}
`

// webhooks are the configuration of a revision, or of a tag that leads to it.
func webhooks(t *testing.T, namespace, revision, tag string) map[string]any {
	t.Helper()
	name, selected, labels := "istio-sidecar-injector-"+revision, revision, map[string]any{"app": "sidecar-injector", "istio.io/rev": revision}
	if tag != "" {
		name, selected, labels["istio.io/tag"] = "istio-revision-tag-"+tag, tag, tag
	}
	if namespace != DefaultNamespace {
		name += "-" + namespace
	}
	var all []any
	texts := []string{webhooksFor}
	if selected == "default" {
		texts = append(texts, webhooksOfDefault)
	}
	for _, text := range texts {
		var some []any
		if err := yaml.Unmarshal([]byte(strings.NewReplacer("REVISION", selected, "NAMESPACE", namespace).Replace(text)), &some); err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
		"metadata": map[string]any{"name": name, "labels": labels}, "webhooks": all,
	}
}

// eachWebhook changes the webhooks of a configuration.
func eachWebhook(t *testing.T, configuration map[string]any, change func(map[string]any)) map[string]any {
	t.Helper()
	all, ok := configuration["webhooks"].([]any)
	if !ok {
		t.Fatal("no webhooks")
	}
	for _, w := range all {
		webhook, ok := w.(map[string]any)
		if !ok {
			t.Fatal("no webhook")
		}
		change(webhook)
	}
	return configuration
}

func istiod(t *testing.T, name string, change func(*appsv1.Deployment)) map[string]any {
	t.Helper()
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: name, Generation: 2},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: pairs("app=istiod")}},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
	}
	if change != nil {
		change(d)
	}
	return untyped(t, d)
}

// The instants of these tests: Istio was installed, its configuration changed,
// and now they look.
var (
	installed = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	changed   = installed.Add(24 * time.Hour)
	now       = changed.Add(time.Hour)
)

// configMap is one that was made at one time and whose data changed at another.
func configMapOf(name string, data map[string]string, made, last time.Time) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: DefaultNamespace, Name: name, CreationTimestamp: metav1.NewTime(made),
			ManagedFields: []metav1.ManagedFieldsEntry{
				{Manager: "pilot-discovery", Operation: "Update", Time: new(metav1.NewTime(last)), FieldsV1: metav1.NewFieldsV1(`{"f:data":{".":{},"f:values":{}}}`)},
				{Manager: "kubectl-label", Operation: "Update", Time: new(metav1.NewTime(last.Add(time.Hour))), FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{}}}`)},
			},
		},
		Data: data,
	}
}

const (
	usualValues = `{"global":{"hub":"registry.istio.io/release","tag":"1.31.0","proxy":{"image":"proxyv2","statusPort":15020}},"pilot":{"cni":{"enabled":false}}}`
	usualConfig = `
policy: enabled
defaultTemplates: [sidecar]
neverInjectSelector: []
alwaysInjectSelector: []
templates:
  sidecar: |
    {{ $native := index .ObjectMeta.Annotations "sidecar.istio.io/nativeSidecar" }}
    image: "{{ .ProxyImage }}"
  gateway: |
    image: "{{ .ProxyImage }}"
  lookalike: |
    image: mine:1
  addition: |
    metadata: {labels: {a: b}}
`
)

func injectsBy(values, config string) *corev1.ConfigMap {
	return configMapOf("istio-sidecar-injector", map[string]string{"values": values, "config": config}, installed, changed)
}

func plane(t *testing.T, i Injection, objects ...map[string]any) mesh.ControlPlane {
	t.Helper()
	if i.Namespace == "" {
		i.Namespace = DefaultNamespace
	}
	p, err := i.ControlPlane(t.Context(), clusterOf(t, objects...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func namespaceOf(name string, labels ...string) *corev1.Namespace {
	all := pairs(labels...)
	all[corev1.LabelMetadataName] = name
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}}
}

func TestNoControlPlane(t *testing.T) {
	t.Parallel()
	other := webhooks(t, DefaultNamespace, "default", "")
	other["metadata"] = map[string]any{"name": "linkerd-proxy-injector-webhook-config"}
	for name, c := range map[string]struct {
		injection Injection
		objects   []map[string]any
		want      string
	}{
		"nothing":           {Injection{}, nil, "no MutatingWebhookConfiguration leads to an istiod in namespace istio-system"},
		"others'":           {Injection{}, []map[string]any{other}, "no MutatingWebhookConfiguration leads"},
		"elsewhere":         {Injection{}, []map[string]any{webhooks(t, "aks-istio-system", "asm-1-28", "")}, "those that are there lead to aks-istio-system (the Istio add-on of AKS: name its revision or tag asm-1-28)"},
		"other revision":    {Injection{Revision: "1-30"}, []map[string]any{webhooks(t, DefaultNamespace, "1-31", ""), webhooks(t, DefaultNamespace, "1-31", "stable")}, `revision "1-30" has no injector: no MutatingWebhookConfiguration that leads to namespace istio-system carries that revision or tag; there are 1-31, stable`},
		"no ambient":        {Injection{Ambient: true}, []map[string]any{webhooks(t, DefaultNamespace, "default", "")}, "there is no DaemonSet of"},
		"no ztunnel":        {Injection{Ambient: true}, []map[string]any{agent(t, "kube-system", "istio-cni-node", "k8s-app", nil)}, "there is no DaemonSet of ztunnel"},
		"no agent of nodes": {Injection{Ambient: true}, []map[string]any{agent(t, DefaultNamespace, "ztunnel", "app", nil)}, "there is no DaemonSet of istio-cni-node"},
	} {
		c.injection.Namespace = DefaultNamespace
		_, err := c.injection.ControlPlane(t.Context(), clusterOf(t, c.objects...))
		if !errors.Is(err, mesh.ErrNoControlPlane) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever names no namespace means that of the istiod which injects. Where it is
// not the names of webhooks that decide.
func TestWhereInjects(t *testing.T) {
	t.Parallel()
	const addon, early = "aks-istio-system", "a-system"
	for name, c := range map[string]struct {
		revision string
		webhooks []map[string]any
		want     string // empty if there is none
	}{
		"the default":                  {"", []map[string]any{webhooks(t, early, "1-31", ""), webhooks(t, "mesh", "default", "")}, "mesh"},
		"the default tag":              {"", []map[string]any{webhooks(t, early, "1-31", ""), webhooks(t, "mesh", "1-31", "default")}, "mesh"},
		"no default":                   {"", []map[string]any{webhooks(t, early, "1-30", ""), webhooks(t, DefaultNamespace, "1-31", "")}, DefaultNamespace},
		"no default where it is usual": {"", []map[string]any{webhooks(t, early, "1-30", "")}, early},
		"two defaults":                 {"", []map[string]any{webhooks(t, early, "default", ""), webhooks(t, DefaultNamespace, "default", "")}, DefaultNamespace},
		"the add-on":                   {"", []map[string]any{webhooks(t, addon, "asm-1-30", "")}, addon},
		"a revision of the add-on":     {"asm-1-30", []map[string]any{webhooks(t, DefaultNamespace, "default", ""), webhooks(t, addon, "asm-1-30", "")}, addon},
		"a tag of the add-on":          {"prod", []map[string]any{webhooks(t, DefaultNamespace, "default", ""), webhooks(t, addon, "asm-1-30", ""), webhooks(t, addon, "asm-1-30", "prod")}, addon},
		"App Routing":                  {"", []map[string]any{webhooks(t, addon, "default", "")}, ""},
		"App Routing and another":      {"", []map[string]any{webhooks(t, addon, "default", ""), webhooks(t, DefaultNamespace, "1-31", "")}, DefaultNamespace},
	} {
		found, err := Injection{Revision: c.revision}.ControlPlane(t.Context(), clusterOf(t, c.webhooks...))
		if p, _ := found.(sidecarPlane); p.injection.Namespace != c.want || errors.Is(err, mesh.ErrNoControlPlane) != (c.want == "") {
			t.Errorf("%s: %q, want %q (%v)", name, p.injection.Namespace, c.want, err)
		}
	}
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	mute := func(w map[string]any) {
		w["clientConfig"] = map[string]any{"service": map[string]any{"name": "istiod", "namespace": DefaultNamespace}}
	}
	outside := func(w map[string]any) {
		w["clientConfig"] = map[string]any{"url": "https://istiod.example/inject", "caBundle": "Q0E="}
	}
	fresh := func() map[string]any { return webhooks(t, DefaultNamespace, "default", "") }
	for name, c := range map[string]struct {
		injection Injection
		objects   []map[string]any
		want      string
	}{
		"all well":    {Injection{}, []map[string]any{fresh(), istiod(t, "istiod", nil)}, ""},
		"no bundle":   {Injection{}, []map[string]any{eachWebhook(t, fresh(), mute), istiod(t, "istiod", nil)}, "istiod has not published its CA bundle yet"},
		"outside":     {Injection{}, []map[string]any{eachWebhook(t, fresh(), outside)}, ""},
		"no istiod":   {Injection{}, []map[string]any{fresh()}, "Deployment istio-system/istiod is not there"},
		"down":        {Injection{}, []map[string]any{fresh(), istiod(t, "istiod", func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 })}, "has no available pod"},
		"unseen":      {Injection{}, []map[string]any{fresh(), istiod(t, "istiod", func(d *appsv1.Deployment) { d.Generation = 3 })}, "still rolls out"},
		"rolling":     {Injection{}, []map[string]any{fresh(), istiod(t, "istiod", func(d *appsv1.Deployment) { d.Status.Replicas = 2 })}, "still rolls out"},
		"scaling":     {Injection{}, []map[string]any{fresh(), istiod(t, "istiod", func(d *appsv1.Deployment) { d.Status.Replicas, d.Status.UpdatedReplicas = 2, 2 })}, ""},
		"tag":         {Injection{Revision: "stable"}, []map[string]any{webhooks(t, DefaultNamespace, "1-31", "stable"), istiod(t, "istiod-1-31", nil)}, ""},
		"tag of none": {Injection{Revision: "stable"}, []map[string]any{webhooks(t, DefaultNamespace, "1-31", "stable"), istiod(t, "istiod", nil)}, "istiod-1-31 is not there"},
		// Whoever looks at all pods names no revision.
		"no default": {Injection{}, []map[string]any{webhooks(t, DefaultNamespace, "1-31", ""), istiod(t, "istiod-1-31", nil)}, ""},
	} {
		err := plane(t, c.injection, c.objects...).Available()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrivileged(t *testing.T) {
	t.Parallel()
	const cni = `{"global":{"proxy":{}},"pilot":{"cni":{"enabled":true}}}`
	const oldCNI = `{"global":{"proxy":{}},"istio_cni":{"enabled":true}}`
	for name, c := range map[string]struct {
		values string
		mode   string
		want   bool
	}{
		"usual":        {usualValues, "", true},
		"CNI":          {cni, "", false},
		"CNI of old":   {oldCNI, "", false},
		"CNI, TPROXY":  {cni, "TPROXY", true},
		"no intercept": {usualValues, "NONE", false},
		"unknown":      {"", "", true},
	} {
		objects := []map[string]any{webhooks(t, DefaultNamespace, "default", "")}
		if c.values != "" {
			objects = append(objects, untyped(t, injectsBy(c.values, usualConfig)))
		}
		i := Injection{}
		if c.mode != "" {
			i.Settings = map[string]string{interceptionAnnotation: c.mode}
		}
		if got := plane(t, i, objects...).Privileged(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestSees(t *testing.T) {
	t.Parallel()
	all := []map[string]any{
		webhooks(t, DefaultNamespace, "default", ""), webhooks(t, DefaultNamespace, "1-31", ""), webhooks(t, DefaultNamespace, "1-31", "stable"),
		webhooks(t, "mesh", "asm", ""), untyped(t, injectsBy(usualValues, usualConfig)),
	}
	picky := []map[string]any{
		webhooks(t, DefaultNamespace, "default", ""),
		untyped(t, injectsBy(usualValues, "policy: disabled\nneverInjectSelector: [{matchLabels: {job: \"1\"}}]\nalwaysInjectSelector: [{matchLabels: {web: \"1\"}}]\n")),
	}
	revised := []map[string]any{webhooks(t, DefaultNamespace, "1-31", "")}
	enforced := eachWebhook(t, webhooks(t, DefaultNamespace, "default", ""), func(w map[string]any) {
		selector, _ := w["namespaceSelector"].(map[string]any)
		expressions, _ := selector["matchExpressions"].([]any)
		selector["matchExpressions"] = append(expressions,
			map[string]any{"key": "control-plane", "operator": "NotIn", "values": []any{"true"}},
			map[string]any{"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": []any{"aks"}})
	})
	for name, c := range map[string]struct {
		injection Injection
		objects   []map[string]any
		namespace *corev1.Namespace
		pod       mesh.Mark
		want      string
	}{
		"namespace":             {Injection{}, all, namespaceOf("shop", "istio-injection=enabled"), marked(), ""},
		"namespace of revision": {Injection{Revision: "1-31"}, all, namespaceOf("shop", "istio.io/rev=1-31"), marked(), ""},
		"namespace of tag":      {Injection{Revision: "stable"}, all, namespaceOf("shop", "istio.io/rev=stable"), marked(), ""},
		"tag for its revision":  {Injection{Revision: "stable"}, all, namespaceOf("shop", "istio.io/rev=1-31"), marked(), ""},
		"workload":              {Injection{}, all, namespaceOf("shop"), marked("sidecar.istio.io/inject=true"), ""},
		"workload of revision":  {Injection{Revision: "1-31"}, all, namespaceOf("shop"), marked("sidecar.istio.io/inject=true", "istio.io/rev=1-31"), ""},
		"whatever revision":     {Injection{}, all, namespaceOf("shop", "istio.io/rev=1-31"), marked("sidecar.istio.io/inject=true"), ""},
		"system":                {Injection{}, all, namespaceOf("kube-system", "istio-injection=enabled"), marked(), "never injects pods of kube-system"},
		"disabled":              {Injection{}, all, namespaceOf("shop", "istio-injection=disabled"), marked("sidecar.istio.io/inject=true"), "its label istio-injection=disabled wins over everything else"},
		"misspelled":            {Injection{}, all, namespaceOf("shop", "istio-injection=true"), marked("sidecar.istio.io/inject=true"), "keeps every injector away"},
		"both":                  {Injection{Revision: "1-31"}, all, namespaceOf("shop", "istio-injection=enabled", "istio.io/rev=1-31"), marked(), "its label istio-injection=enabled wins over istio.io/rev=1-31; remove it first"},
		"other revision wins":   {Injection{Revision: "default"}, all, namespaceOf("shop", "istio.io/rev=1-31"), marked("sidecar.istio.io/inject=true", "istio.io/rev=default"), "the label istio.io/rev=1-31 of its namespace gives its pods to the revision 1-31"},
		"other istiod":          {Injection{}, all, namespaceOf("shop", "istio.io/rev=asm"), marked(), "leads to the istiod of namespace mesh instead of istio-system"},
		"revision of none":      {Injection{}, all, namespaceOf("shop", "istio.io/rev=1-29"), marked(), `revision "1-29" has no injector: no MutatingWebhookConfiguration carries that revision or tag; there are 1-31, asm, default, stable`},
		"pod's of none":         {Injection{}, all, namespaceOf("shop"), marked("sidecar.istio.io/inject=true", "istio.io/rev=1-29"), `revision "1-29" has no injector`},
		"unmarked":              {Injection{}, all, namespaceOf("shop"), marked(), "lacks the label istio.io/rev=default, or its namespace lacks the label istio-injection=enabled, or it lacks the label sidecar.istio.io/inject=true"},
		"opted out":             {Injection{}, all, namespaceOf("shop", "istio-injection=enabled"), marked("sidecar.istio.io/inject=false"), "it has the label sidecar.istio.io/inject=false"},
		"unmarked for revision": {Injection{Revision: "1-31"}, all, namespaceOf("shop"), marked(), "its namespace lacks the label istio.io/rev=1-31"},
		"meant for ambient":     {Injection{}, all, namespaceOf("shop", "istio.io/dataplane-mode=ambient"), marked(), "meant for the ambient mode"},
		"no default":            {Injection{}, revised, namespaceOf("shop", "istio-injection=enabled"), marked(), "there is no default revision to inject it, and no tag named default; name a revision; there are 1-31"},
		"control-plane":         {Injection{}, []map[string]any{enforced}, namespaceOf("shop", "istio-injection=enabled", "control-plane=true"), marked(), "has the label control-plane=true, which AKS's admissions enforcer keeps all webhooks away from"},
		"no control-plane":      {Injection{}, []map[string]any{enforced}, namespaceOf("shop", "istio-injection=enabled", "control-plane=controller-manager"), marked(), ""},
		"policy":                {Injection{}, picky, namespaceOf("shop", "istio-injection=enabled"), marked(), "global.proxy.autoInject"},
		"policy, asked for":     {Injection{}, picky, namespaceOf("shop", "istio-injection=enabled"), marked("sidecar.istio.io/inject=true"), ""},
		"policy, always":        {Injection{}, picky, namespaceOf("shop", "istio-injection=enabled"), marked("web=1"), ""},
		"never":                 {Injection{}, picky, namespaceOf("shop", "istio-injection=enabled"), marked("job=1", "web=1"), "neverInjectSelector"},
		"never, asked for":      {Injection{}, picky, namespaceOf("shop", "istio-injection=enabled"), marked("job=1", "sidecar.istio.io/inject=true"), ""},
	} {
		err := plane(t, c.injection, c.objects...).Sees(c.namespace, podOf(c.pod))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// injected is a pod as the default revision makes it of a template, and what it
// is judged by.
func injected(template mesh.Mark, containers ...string) mesh.Subject {
	pod := podOf(mesh.Mark{Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations)}, containers...)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[statusAnnotation] = `{"revision":"default"}`
	pod.CreationTimestamp = metav1.NewTime(changed.Add(10 * time.Minute))
	return mesh.Subject{
		Pod: pod, Namespace: namespaceOf("shop", "istio-injection=enabled"), Now: now,
		Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "alpha"}}},
		},
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	with := func(values, config string) []map[string]any {
		return []map[string]any{
			webhooks(t, DefaultNamespace, "default", ""), webhooks(t, DefaultNamespace, "1-32", ""), webhooks(t, DefaultNamespace, "1-32", "next"),
			webhooks(t, "mesh", "asm", ""), untyped(t, injectsBy(values, config)),
		}
	}
	usual := with(usualValues, usualConfig)
	cni := with(strings.Replace(usualValues, `"enabled":false`, `"enabled":true`, 1), usualConfig)
	image := func(image string) func(*mesh.Subject) {
		return func(s *mesh.Subject) { s.Pod.Spec.Containers[1].Image = image }
	}
	older := func(s *mesh.Subject) { s.Pod.CreationTimestamp = metav1.NewTime(installed) }
	all := func(changes ...func(*mesh.Subject)) func(*mesh.Subject) {
		return func(s *mesh.Subject) {
			for _, change := range changes {
				change(s)
			}
		}
	}
	annotate := func(pod bool, all ...string) func(*mesh.Subject) {
		return func(s *mesh.Subject) {
			to := &s.Template.Annotations
			if pod {
				to = &s.Pod.Annotations
			}
			merged := pairs(all...)
			for key, value := range *to {
				if _, over := merged[key]; !over {
					merged[key] = value
				}
			}
			*to = merged
		}
	}
	in := func(labels ...string) func(*mesh.Subject) {
		return func(s *mesh.Subject) { s.Namespace = namespaceOf("shop", labels...) }
	}
	const cpu, ports = "sidecar.istio.io/proxyCPU=100m", "traffic.sidecar.istio.io/excludeInboundPorts="
	for name, c := range map[string]struct {
		objects []map[string]any
		subject mesh.Subject
		change  func(*mesh.Subject)
		want    []string
	}{
		"as made":              {usual, injected(marked(), "istio-proxy"), all(), nil},
		"variant":              {usual, injected(marked(), "istio-proxy"), image("registry.istio.io/release/proxyv2:1.31.0-distroless"), nil},
		"variant by values":    {with(strings.Replace(usualValues, `"1.31.0"`, `"1.31.0-debug"`, 1), usualConfig), injected(marked(), "istio-proxy"), all(), nil},
		"number for a version": {with(strings.Replace(usualValues, `"1.31.0"`, `1.31`, 1), usualConfig), injected(marked(), "istio-proxy"), image("registry.istio.io/release/proxyv2:1.31"), nil},
		"older version":        {usual, injected(marked(), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2:1.30.2")), []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"candidate":            {usual, injected(marked(), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2:1.31.0-rc.1")), []string{"stale proxy version (1.31.0-rc.1 instead of 1.31.0)"}},
		"old and elsewhere":    {usual, injected(marked(), "istio-proxy"), all(older, image("docker.io/istio/proxyv2:1.30.2-distroless")), []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"moved registry":       {usual, injected(marked(), "istio-proxy"), all(older, image("docker.io/istio/proxyv2:1.31.0")), []string{"stale proxy version (image docker.io/istio/proxyv2:1.31.0 instead of registry.istio.io/release/proxyv2:1.31.0)"}},
		"same second":          {usual, injected(marked(), "istio-proxy"), all(func(s *mesh.Subject) { s.Pod.CreationTimestamp = metav1.NewTime(changed) }, image("registry.istio.io/release/proxyv2:1.30.2")), []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"digest added":         {usual, injected(marked(), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2:1.31.0@sha256:00ff")), nil},
		"digest added before":  {usual, injected(marked(), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2:1.30.2@sha256:00ff")), []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"digest only":          {usual, injected(marked(), "istio-proxy"), image("registry.istio.io/release/proxyv2@sha256:00ff"), nil},
		"digest only, before":  {usual, injected(marked(), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2@sha256:00ff")), []string{"stale proxy version (image registry.istio.io/release/proxyv2@sha256:00ff instead of registry.istio.io/release/proxyv2:1.31.0)"}},
		"digest of the values": {with(strings.Replace(usualValues, `"proxyv2"`, `"mine/proxy:7@sha256:00ff"`, 1), usualConfig), injected(marked(), "istio-proxy"), all(older, image("mine/proxy:7@sha256:11ff")), []string{"stale proxy version (image mine/proxy:7@sha256:11ff instead of mine/proxy:7@sha256:00ff)"}},
		"tag of a mirror":      {usual, injected(marked(), "istio-proxy"), image("mirror.example/istio-proxy:approved"), nil},
		"changed on the way":   {usual, injected(marked(), "istio-proxy"), image("mirror.example/proxyv2:1.31.0"), nil},
		"image of its own":     {usual, injected(noted("sidecar.istio.io/proxyImage=mine/proxy:1"), "istio-proxy"), image("mine/proxy:1"), nil},
		"container of its own": {usual, injected(marked(), "istio-proxy"), func(s *mesh.Subject) {
			image("mine/proxy:1")(s)
			s.Template.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Image: "mine/proxy:1"}}
		}, nil},
		"gateway": {usual, injected(noted("inject.istio.io/templates=gateway"), "istio-proxy"), func(s *mesh.Subject) {
			all(older, image("registry.istio.io/release/proxyv2:1.30.2"))(s)
			s.Template.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Image: "auto"}}
		}, []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"template with an image": {usual, injected(noted("inject.istio.io/templates=sidecar, lookalike"), "istio-proxy"), image("mine:1"), nil},
		"template without one":   {usual, injected(noted("inject.istio.io/templates=sidecar,addition"), "istio-proxy"), all(older, image("registry.istio.io/release/proxyv2:1.30.2")), []string{"stale proxy version (1.30.2 instead of 1.31.0)"}},
		"image in full":          {with(strings.Replace(usualValues, `"proxyv2"`, `"mine/proxy:7"`, 1), usualConfig), injected(marked(), "istio-proxy"), older, []string{"stale proxy version (1.31.0 instead of 7)"}},
		"no configuration":       {usual[:1], injected(marked(), "istio-proxy"), image("registry.istio.io/release/proxyv2:1.30.2"), nil},
		"no template":            {usual, injected(marked(), "istio-proxy"), func(s *mesh.Subject) { s.Template = nil }, nil},

		"moved":                {usual, injected(marked(), "istio-proxy"), in("istio.io/rev=1-32"), []string{"revision moved (default instead of 1-32)"}},
		"moved by a tag":       {usual, injected(marked(), "istio-proxy"), in("istio.io/rev=next"), []string{"revision moved (default instead of 1-32)"}},
		"moved elsewhere":      {usual, injected(marked(), "istio-proxy"), in("istio.io/rev=asm"), []string{"revision moved (default instead of asm)"}},
		"no longer taken":      {usual, injected(marked(), "istio-proxy"), in(), nil},
		"revision of none":     {usual, injected(marked(), "istio-proxy"), in("istio.io/rev=1-29"), nil},
		"template keeps it in": {usual, injected(marked("sidecar.istio.io/inject=true"), "istio-proxy"), in(), nil},

		"same settings":      {usual, injected(noted(cpu), "istio-proxy"), all(), nil},
		"other settings":     {usual, injected(noted(cpu), "istio-proxy"), annotate(false, "sidecar.istio.io/proxyCPU=200m"), []string{`changed settings (annotation sidecar.istio.io/proxyCPU is "100m" instead of "200m")`}},
		"new settings":       {usual, injected(marked(), "istio-proxy"), annotate(false, cpu), []string{"changed settings (annotation sidecar.istio.io/proxyCPU is missing)"}},
		"settings of others": {usual, injected(marked(), "istio-proxy"), annotate(true, cpu), nil},
		"other annotations":  {usual, injected(marked(), "istio-proxy"), annotate(false, "team=a"), nil},
		"passed on to CNI":   {cni, injected(noted(ports+"5080,7080"), "istio-proxy"), annotate(true, ports+"5080,7080,15020"), nil},
		"default of CNI":     {cni, injected(marked(), "istio-proxy"), annotate(true, ports+"15020", "sidecar.istio.io/interceptionMode=REDIRECT"), nil},
		"other port":         {cni, injected(noted(ports+"80", "status.sidecar.istio.io/port=15099"), "istio-proxy"), annotate(true, ports+"80,15099"), nil},
		"other for CNI":      {cni, injected(noted(ports+"5080"), "istio-proxy"), annotate(true, ports+"7080,15020"), []string{`changed settings (annotation traffic.sidecar.istio.io/excludeInboundPorts is "7080,15020" instead of "5080")`}},

		"native as asked":      {usual, injected(noted("sidecar.istio.io/nativeSidecar=true"), "istio-proxy+"), all(), nil},
		"not native":           {usual, injected(noted("sidecar.istio.io/nativeSidecar=true"), "istio-proxy"), all(), []string{"other mode (sidecar instead of native-sidecar)"}},
		"native":               {usual, injected(noted("sidecar.istio.io/nativeSidecar=false"), "istio-proxy+"), all(), []string{"other mode (native-sidecar instead of sidecar)"}},
		"native, not said":     {usual, injected(marked(), "istio-proxy+"), all(), nil},
		"istiod knows nothing": {with(usualValues, strings.ReplaceAll(usualConfig, "sidecar.istio.io/nativeSidecar", "")), injected(noted("sidecar.istio.io/nativeSidecar=true"), "istio-proxy"), all(), nil},
		"native gateway":       {usual, injected(noted("sidecar.istio.io/nativeSidecar=true", "inject.istio.io/templates=gateway"), "istio-proxy"), all(), nil},

		"ambient":            {usual, injected(marked()), annotate(true, "ambient.istio.io/redirection=enabled"), []string{"other mode (ambient instead of a sidecar)"}},
		"ambient, unclaimed": {usual, injected(marked()), all(in("istio.io/dataplane-mode=ambient"), annotate(true, "ambient.istio.io/redirection=enabled")), nil},
		"all at once": {usual, injected(noted(cpu), "istio-proxy"), all(older, in("istio.io/rev=default"), image("x/proxyv2:1"), annotate(false, "sidecar.istio.io/proxyCPU=1"), annotate(true, `sidecar.istio.io/status={"revision":"old"}`)), []string{
			"revision moved (old instead of default)", "stale proxy version (1 instead of 1.31.0)", `changed settings (annotation sidecar.istio.io/proxyCPU is "100m" instead of "1")`,
		}},
	} {
		c.change(&c.subject)
		shown := Injection{}.Proxy(c.subject.Pod)
		if shown.Mode == "" {
			t.Errorf("%s: no proxy", name)
		}
		var got []string
		for _, reason := range plane(t, Injection{}, c.objects...).Stale(c.subject, shown) {
			got = append(got, reason.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// agent is a DaemonSet of the ambient mode.
func agent(t *testing.T, namespace, name, label string, change func(*appsv1.DaemonSet)) map[string]any {
	t.Helper()
	d := &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{label: name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{label: name}}},
		},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 2, NumberAvailable: 2},
	}
	if change != nil {
		change(d)
	}
	return untyped(t, d)
}

func TestAmbient(t *testing.T) {
	t.Parallel()
	ambient := func(change func(*appsv1.DaemonSet), data ...string) mesh.ControlPlane {
		configuration := configMapOf("istio-cni-config", pairs(data...), installed, installed)
		configuration.Namespace = "kube-system"
		return plane(t, Injection{Ambient: true},
			agent(t, "kube-system", "istio-cni-node", "k8s-app", change), agent(t, DefaultNamespace, "ztunnel", "app", nil),
			untyped(t, configuration), webhooks(t, DefaultNamespace, "default", ""))
	}
	whole := ambient(nil, "AMBIENT_ENABLED=true", "EXCLUDE_NAMESPACES=kube-system,tools")
	if err := whole.Available(); err != nil {
		t.Error(err)
	}
	if whole.Privileged() {
		t.Error("nothing is added to pods")
	}
	for want, p := range map[string]mesh.ControlPlane{
		"runs without the ambient mode":                           ambient(nil, "AMBIENT_ENABLED=false"),
		"DaemonSet kube-system/istio-cni-node: 1 of 2 pods avail": ambient(func(d *appsv1.DaemonSet) { d.Status.NumberAvailable = 1 }),
	} {
		if err := p.Available(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
	own := ambient(nil, "AMBIENT_ENABLEMENT_SELECTOR=- namespaceSelector: {matchLabels: {mesh: \"on\"}}\n")
	const mode = "istio.io/dataplane-mode="
	for name, c := range map[string]struct {
		plane     mesh.ControlPlane
		namespace *corev1.Namespace
		pod       mesh.Mark
		want      string
	}{
		"namespace":          {whole, namespaceOf("shop", mode+"ambient"), marked(), ""},
		"pod":                {whole, namespaceOf("shop"), marked(mode + "ambient"), ""},
		"neither":            {whole, namespaceOf("shop"), marked(), "lacks the label istio.io/dataplane-mode=ambient"},
		"opted out":          {whole, namespaceOf("shop", mode+"ambient"), marked(mode + "none"), "istio.io/dataplane-mode=none"},
		"excluded":           {whole, namespaceOf("tools", mode+"ambient"), marked(), "leaves namespace tools out"},
		"with sidecars":      {whole, namespaceOf("shop", mode+"ambient", "istio-injection=enabled"), marked(), "MutatingWebhookConfiguration istio-sidecar-injector-default gives its pods sidecars"},
		"sidecars disabled":  {whole, namespaceOf("shop", mode+"ambient", "istio-injection=disabled"), marked(), ""},
		"own selectors":      {own, namespaceOf("shop", "mesh=on"), marked(), ""},
		"not its own":        {own, namespaceOf("shop", mode+"ambient"), marked(), "lacks the label mesh=on"},
		"sidecar on the pod": {whole, namespaceOf("shop", mode+"ambient"), marked("sidecar.istio.io/inject=true"), "gives its pods sidecars"},
	} {
		err := c.plane.Sees(c.namespace, podOf(c.pod))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for mode, want := range map[mesh.Mode]string{mesh.Ambient: "[]", mesh.Sidecar: "[other mode (a sidecar instead of ambient)]"} {
		if got := fmt.Sprint(whole.Stale(mesh.Subject{}, mesh.Proxy{Mode: mode})); got != want {
			t.Errorf("%s: %s", mode, got)
		}
	}
}

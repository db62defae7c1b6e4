package istio

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// marked is a mark of labels only, given as key=value.
func marked(labels ...string) mesh.Mark { return mesh.Mark{Labels: pairs(labels...)} }

// noted is a mark of annotations only.
func noted(annotations ...string) mesh.Mark { return mesh.Mark{Annotations: pairs(annotations...)} }

func pairs(all ...string) map[string]string {
	m := map[string]string{}
	for _, pair := range all {
		key, value, _ := strings.Cut(pair, "=")
		m[key] = value
	}
	return m
}

func TestMarks(t *testing.T) {
	t.Parallel()
	settings := pairs("sidecar.istio.io/proxyCPU=100m")
	for name, c := range map[string]struct {
		injection                   Injection
		namespace, workload, optOut mesh.Mark
	}{
		"default":  {Injection{}, marked("istio-injection=enabled"), marked("sidecar.istio.io/inject=true"), marked("sidecar.istio.io/inject=false")},
		"revision": {Injection{Revision: "1-31"}, marked("istio.io/rev=1-31"), marked("sidecar.istio.io/inject=true", "istio.io/rev=1-31"), marked("sidecar.istio.io/inject=false")},
		"ambient":  {Injection{Ambient: true}, marked("istio.io/dataplane-mode=ambient"), marked("istio.io/dataplane-mode=ambient"), marked("istio.io/dataplane-mode=none")},
		"settings": {
			Injection{Settings: settings},
			marked("istio-injection=enabled"),
			mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true"), Annotations: settings},
			marked("sidecar.istio.io/inject=false"),
		},
	} {
		if got := c.injection.NamespaceMark(); !reflect.DeepEqual(got, c.namespace) {
			t.Errorf("%s: namespace %v", name, got)
		}
		if got := c.injection.WorkloadMark(); !reflect.DeepEqual(got, c.workload) {
			t.Errorf("%s: workload %v", name, got)
		}
		if got := c.injection.OptOutMark(); !reflect.DeepEqual(got, c.optOut) {
			t.Errorf("%s: opt out %v", name, got)
		}
		if got := c.injection.ServiceMark(); len(got.Labels)+len(got.Annotations) > 0 {
			t.Errorf("%s: service %v", name, got)
		}
		if c.injection.InPlace() != c.injection.Ambient {
			t.Errorf("%s: in place %t", name, c.injection.InPlace())
		}
	}
}

func TestInjectionOf(t *testing.T) {
	t.Parallel()
	const namespace = corev1.LabelMetadataName + "=shop"
	for name, c := range map[string]struct {
		found mesh.Mark
		want  Injection
	}{
		"namespace":              {marked(namespace, "istio-injection=enabled"), Injection{}},
		"namespace of revision":  {marked(namespace, "istio.io/rev=1-31"), Injection{Revision: "1-31"}},
		"namespace with both":    {marked(namespace, "istio-injection=enabled", "istio.io/rev=1-31"), Injection{}},
		"ambient namespace":      {marked(namespace, "istio.io/dataplane-mode=ambient"), Injection{Ambient: true}},
		"sidecars win":           {marked(namespace, "istio.io/dataplane-mode=ambient", "istio-injection=enabled"), Injection{}},
		"template":               {marked("sidecar.istio.io/inject=true"), Injection{}},
		"template of revision":   {marked("sidecar.istio.io/inject=true", "istio.io/rev=tag"), Injection{Revision: "tag"}},
		"ambient template":       {marked("istio.io/dataplane-mode=ambient"), Injection{Ambient: true}},
		"settings on namespaces": {mesh.Mark{Labels: pairs(namespace), Annotations: pairs("sidecar.istio.io/proxyCPU=1")}, Injection{}},
		"settings": {
			mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true"), Annotations: pairs("sidecar.istio.io/proxyCPU=1", "team=a", "sidecar.istio.io/nativeSidecar=maybe")},
			Injection{Settings: pairs("sidecar.istio.io/proxyCPU=1")},
		},
		"in YAML": {
			noted("proxy.istio.io/config=holdApplicationUntilProxyStarts: true\nproxyMetadata:\n  B: \"2\"\n  A: \"1\"\n"),
			Injection{Settings: pairs(`proxy.istio.io/config={"holdApplicationUntilProxyStarts":true,"proxyMetadata":{"A":"1","B":"2"}}`)},
		},
		"more than settings say": {noted("proxy.istio.io/config=concurrency: 2\ntracing: {sampling: 10}\n"), Injection{}},
		"no YAML":                {noted("proxy.istio.io/config={"), Injection{}},
	} {
		if got := InjectionOf(c.found); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestClaims goes through Istio's own table of labels
// (https://istio.io/latest/docs/ops/common-problems/injection/).
func TestClaims(t *testing.T) {
	t.Parallel()
	const enabled, disabled, rev = "istio-injection=enabled", "istio-injection=disabled", "istio.io/rev=1-31"
	const yes, no, ambient, none = "sidecar.istio.io/inject=true", "sidecar.istio.io/inject=false", "istio.io/dataplane-mode=ambient", "istio.io/dataplane-mode=none"
	for _, c := range []struct {
		namespace, pod mesh.Mark
		want           bool
	}{
		{marked(), marked(), false},
		{marked(enabled), marked(), true},
		{marked(enabled), marked(yes), true},
		{marked(enabled), marked(no), false},
		{marked(enabled), noted(no), false},
		{marked(enabled), mesh.Mark{Labels: pairs(yes), Annotations: pairs(no)}, true},
		{marked(rev), marked(), true},
		{marked(rev), marked(no), false},
		{marked("istio.io/rev="), marked(yes), false},
		{marked(enabled, rev), marked(), true},
		{marked(disabled, rev), marked(yes), false},
		{marked(disabled), marked(rev), false},
		{marked("istio-injection=yes"), marked(yes), false},
		{marked(), marked(yes), true},
		{marked(), marked(rev), true},
		{marked(), marked(rev, no), false},
		{marked(), noted(yes), false},
		{noted(enabled), marked(), false},
		{marked(ambient), marked(), true},
		{marked(ambient), marked(none), false},
		{marked(ambient), noted(`sidecar.istio.io/status={}`), false},
		{marked(ambient), marked(no), true},
		{marked(), marked(ambient), true},
		{marked("istio.io/dataplane-mode=none"), marked(ambient), true},
	} {
		for _, i := range []Injection{{}, {Ambient: true}} {
			if got := i.Claims(c.namespace, c.pod); got != c.want {
				t.Errorf("namespace %v, pod %v: %t", c.namespace, c.pod, got)
			}
		}
	}
}

func TestMisplaced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at    mesh.Place
		found mesh.Mark
		want  []string // a part of each line
	}{
		"namespace as it should be":   {mesh.OnNamespace, marked("istio-injection=enabled", "team=a"), nil},
		"namespace of a revision":     {mesh.OnNamespace, marked("istio.io/rev=1-31"), nil},
		"ambient namespace":           {mesh.OnNamespace, marked("istio.io/dataplane-mode=ambient", "istio-injection=disabled"), nil},
		"annotations for labels":      {mesh.OnNamespace, noted("istio-injection=enabled", "istio.io/dataplane-mode=ambient", "istio.io/rev=a"), []string{"istio-injection is read as a label", "dataplane-mode is read as a label", "istio.io/rev is read as a label"}},
		"pod's label on a namespace":  {mesh.OnNamespace, marked("sidecar.istio.io/inject=true"), []string{"use the label istio-injection=enabled here"}},
		"pod's words on a namespace":  {mesh.OnNamespace, noted("sidecar.istio.io/inject=true"), []string{"does nothing on a namespace"}},
		"settings on a namespace":     {mesh.OnNamespace, noted("traffic.sidecar.istio.io/excludeInboundPorts=80", "proxy.istio.io/config={}"), []string{"proxy.istio.io/config is read from pods only", "excludeInboundPorts is read from pods only"}},
		"two modes":                   {mesh.OnNamespace, marked("istio-injection=enabled", "istio.io/dataplane-mode=ambient"), []string{"istio-injection gives pods that are made now a sidecar"}},
		"two modes by revision":       {mesh.OnNamespace, marked("istio.io/rev=a", "istio.io/dataplane-mode=ambient"), []string{"istio.io/rev gives pods"}},
		"two injections":              {mesh.OnNamespace, marked("istio-injection=enabled", "istio.io/rev=a"), []string{"istio-injection=enabled wins over istio.io/rev=a"}},
		"template as it should be":    {mesh.OnTemplate, mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true"), Annotations: pairs("sidecar.istio.io/proxyCPU=1")}, nil},
		"opt-out of old":              {mesh.OnTemplate, noted("sidecar.istio.io/inject=false"), nil},
		"opt-in of old":               {mesh.OnTemplate, noted("sidecar.istio.io/inject=true"), []string{"cannot have the injector select the pods"}},
		"opt-in twice":                {mesh.OnTemplate, mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true"), Annotations: pairs("sidecar.istio.io/inject=true")}, nil},
		"namespace's label on a pod":  {mesh.OnTemplate, marked("istio-injection=enabled"), []string{"read from namespaces only; use the label sidecar.istio.io/inject=true"}},
		"pod's labels as annotations": {mesh.OnTemplate, noted("istio.io/rev=a", "istio.io/dataplane-mode=none"), []string{"dataplane-mode is read as a label", "rev is read as a label"}},
		"settings as labels":          {mesh.OnTemplate, marked("sidecar.istio.io/proxyCPU=1"), []string{"as an annotation only"}},
		"on the workload": {
			mesh.OnWorkload,
			mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true", "app=a"), Annotations: pairs("proxy.istio.io/config={}", "sidecar.istio.io/inject=true")},
			[]string{"inject is read from pods only; move it to the labels of the pod template", "config is read from pods only", "make it a label of the pod template"},
		},
	} {
		got := Injection{}.Misplaced(c.at, c.found)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: %q lacks %q", name, got[i], part)
			}
		}
	}
}

// podOf is a pod with a container besides those named, as init containers that
// keep running if their names end with "+".
func podOf(mark mesh.Mark, containers ...string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "alpha-0", Namespace: "shop", Labels: mark.Labels, Annotations: mark.Annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "alpha"}}},
	}
	for _, name := range containers {
		name, native := strings.CutSuffix(name, "+")
		c := corev1.Container{Name: name, Image: "registry.istio.io/release/proxyv2:1.31.0"}
		if native {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		} else {
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		}
	}
	return pod
}

func TestExempt(t *testing.T) {
	t.Parallel()
	host := podOf(marked())
	host.Spec.HostNetwork = true
	for name, c := range map[string]struct {
		pod              *corev1.Pod
		sidecar, ambient string // parts of the reasons; empty for none
	}{
		"plain":             {podOf(marked()), "", ""},
		"host network":      {host, "hostNetwork", "hostNetwork"},
		"istiod":            {podOf(marked("app=istiod")), "control plane", "control plane"},
		"managed gateway":   {podOf(marked("gateway.istio.io/managed=istio.io-gateway-controller"), "istio-proxy"), "istiod deploys", "istiod deploys"},
		"linkerd":           {podOf(marked(), "linkerd-proxy"), "Linkerd", "Linkerd"},
		"native linkerd":    {podOf(marked(), "linkerd-proxy+"), "Linkerd", "Linkerd"},
		"label":             {podOf(marked("sidecar.istio.io/inject=false")), "label sidecar.istio.io/inject says false", ""},
		"annotation":        {podOf(noted("sidecar.istio.io/inject=false")), "annotation sidecar.istio.io/inject says false", ""},
		"label wins":        {podOf(mesh.Mark{Labels: pairs("sidecar.istio.io/inject=true"), Annotations: pairs("sidecar.istio.io/inject=false")}), "", ""},
		"out of ambient":    {podOf(marked("istio.io/dataplane-mode=none")), "", "says none"},
		"asks for sidecar":  {podOf(marked("sidecar.istio.io/inject=true"), "istio-proxy+"), "", "asks for a sidecar"},
		"asks for revision": {podOf(marked("istio.io/rev=a"), "istio-proxy"), "", "asks for a sidecar"},
		"left over sidecar": {podOf(noted(`sidecar.istio.io/status={}`), "istio-proxy"), "", ""},
		"proxyless":         {podOf(noted("inject.istio.io/templates=grpc-simple")), "gRPC", ""},
	} {
		for i, want := range map[bool]string{false: c.sidecar, true: c.ambient} {
			got := Injection{Ambient: i}.Exempt(c.pod)
			if !strings.Contains(got, want) || (got == "") != (want == "") {
				t.Errorf("%s: ambient %t: %q", name, i, got)
			}
		}
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	status := func(ready bool, init ...string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			s := corev1.ContainerStatus{Name: "istio-proxy", Ready: ready}
			if len(init) > 0 {
				pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, s)
			} else {
				pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, s)
			}
		}
	}
	image := func(image string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.Containers[1].Image = image }
	}
	const whole = "registry.istio.io/release/proxyv2:1.31.0"
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		change func(*corev1.Pod)
		want   mesh.Proxy
	}{
		"none":      {podOf(marked("security.istio.io/tlsMode=istio")), func(*corev1.Pod) {}, mesh.Proxy{}},
		"finished":  {podOf(noted("ambient.istio.io/redirection=pending")), func(*corev1.Pod) {}, mesh.Proxy{}},
		"ambient":   {podOf(noted("ambient.istio.io/redirection=enabled")), func(*corev1.Pod) {}, mesh.Proxy{Mode: mesh.Ambient, Ready: true}},
		"sidecar":   {podOf(noted(`sidecar.istio.io/status={"revision":"1-31"}`, "istio.io/rev=tag"), "istio-proxy"), status(true), mesh.Proxy{Mode: mesh.Sidecar, Image: whole, Version: "1.31.0", Revision: "1-31", Ready: true}},
		"native":    {podOf(noted(`sidecar.istio.io/status={"revision":"default"}`), "istio-proxy+"), status(true, "init"), mesh.Proxy{Mode: mesh.NativeSidecar, Image: whole, Version: "1.31.0", Revision: "default", Ready: true}},
		"unready":   {podOf(noted(`sidecar.istio.io/status={}`), "istio-proxy"), status(false), mesh.Proxy{Mode: mesh.Sidecar, Image: whole, Version: "1.31.0", Revision: "default"}},
		"odd":       {podOf(noted(`sidecar.istio.io/status=?`, "istio.io/rev=1-30"), "istio-proxy"), status(false), mesh.Proxy{Mode: mesh.Sidecar, Image: whole, Version: "1.31.0", Revision: "1-30"}},
		"gateway":   {podOf(noted("istio.io/rev=1-30"), "istio-proxy"), status(false), mesh.Proxy{Mode: mesh.Sidecar, Image: whole, Version: "1.31.0", Revision: "1-30"}},
		"variant":   {podOf(noted(), "istio-proxy"), image("localhost:5000/proxyv2:1.31.0-distroless"), mesh.Proxy{Mode: mesh.Sidecar, Image: "localhost:5000/proxyv2:1.31.0-distroless", Version: "1.31.0"}},
		"digest":    {podOf(noted(), "istio-proxy"), image("localhost:5000/proxyv2@sha256:00ff"), mesh.Proxy{Mode: mesh.Sidecar, Image: "localhost:5000/proxyv2@sha256:00ff"}},
		"with both": {podOf(noted(), "istio-proxy"), image("a/proxyv2:1.2@sha256:00ff"), mesh.Proxy{Mode: mesh.Sidecar, Image: "a/proxyv2:1.2@sha256:00ff", Version: "1.2"}},
	} {
		c.change(c.pod)
		got := Injection{}.Proxy(c.pod)
		got.Settings = nil
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	pod := podOf(noted("sidecar.istio.io/proxyCPU=1", "proxy.istio.io/config={}", "sidecar.istio.io/status={}", "team=a"), "istio-proxy")
	got := slices.Sorted(maps.Keys(Injection{}.Proxy(pod).Settings))
	if want := []string{"proxy.istio.io/config", "sidecar.istio.io/proxyCPU"}; !slices.Equal(got, want) {
		t.Errorf("settings %v", got)
	}
}

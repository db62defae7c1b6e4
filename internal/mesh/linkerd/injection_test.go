package linkerd_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

const inject = "linkerd.io/inject"

// injectValues are those that people write, and what comes of each on a
// namespace and on a pod.
func injectValues() []string { return []string{"", "enabled", "ingress", "disabled", "true"} }

// saying is the annotation by which people have pods injected; none if empty.
func saying(value string) map[string]string {
	if value == "" {
		return nil
	}
	return map[string]string{inject: value}
}

func TestInjectionClaims(t *testing.T) {
	t.Parallel()
	claimed := map[string][]string{ // namespace: pods
		"":         {"enabled", "ingress"},
		"enabled":  {"", "enabled", "ingress"},
		"ingress":  {"", "enabled", "ingress"},
		"disabled": {"enabled", "ingress"},
		"true":     nil,
	}
	for _, namespace := range injectValues() {
		for _, pod := range injectValues() {
			got := linkerd.Injection{}.Claims(mesh.Mark{Annotations: saying(namespace)}, mesh.Mark{Annotations: saying(pod)})
			if want := slices.Contains(claimed[namespace], pod); got != want {
				t.Errorf("namespace %q pod %q: got %t", namespace, pod, got)
			}
		}
	}
	if (linkerd.Injection{}).Claims(mesh.Mark{Labels: saying("enabled")}, mesh.Mark{Labels: saying("enabled")}) {
		t.Error("labels do not enrol")
	}
}

func TestInjectionMarks(t *testing.T) {
	t.Parallel()
	const skip, opaque = "config.linkerd.io/skip-inbound-ports", "config.linkerd.io/opaque-ports"
	i := linkerd.Injection{Ingress: true, Settings: map[string]string{skip: "5080", opaque: "3306"}}
	want := map[string]string{inject: "ingress", skip: "5080", opaque: "3306"}
	for place, mark := range map[string]mesh.Mark{"namespace": i.NamespaceMark(), "workload": i.WorkloadMark()} {
		if !maps.Equal(mark.Annotations, want) || len(mark.Labels) > 0 {
			t.Errorf("%s: %v", place, mark)
		}
	}
	if got := i.ServiceMark().Annotations; !maps.Equal(got, map[string]string{opaque: "3306"}) {
		t.Errorf("service: %v", got)
	}
	if got := (linkerd.Injection{}).ServiceMark(); len(got.Annotations)+len(got.Labels) > 0 {
		t.Errorf("service without opaque ports: %v", got)
	}
	if got := (linkerd.Injection{}).WorkloadMark().Annotations; !maps.Equal(got, map[string]string{inject: "enabled"}) {
		t.Errorf("plain: %v", got)
	}
}

func TestInjectionReadsBack(t *testing.T) {
	t.Parallel()
	found := map[string]string{
		inject:                                   "ingress",
		"config.linkerd.io/proxy-uid":            "2103",
		"config.linkerd.io/close-wait-timeout":   "1m",
		"config.linkerd.io/proxy-log-level":      "wran",  // nothing that can be said
		"config.linkerd.io/enable-gateway":       "True",  // spelled in another way
		"config.linkerd.io/proxy-await":          "maybe", // nothing that can be read
		"config.linkerd.io/proxy-additional-env": `[{"name":"A","value":"1"}]`,
		"resource.opentelemetry.io/team":         "graph",
		"team":                                   "graph",
	}
	want := map[string]string{
		"config.linkerd.io/proxy-uid": "2103", "config.linkerd.io/close-wait-timeout": "1m",
		"config.linkerd.io/proxy-additional-env": `[{"name":"A","value":"1"}]`, "resource.opentelemetry.io/team": "graph",
	}
	if got := linkerd.InjectionOf(mesh.Mark{Annotations: found}); got.Namespace != "linkerd" || !got.Ingress || !maps.Equal(got.Settings, want) {
		t.Errorf("template: %+v", got)
	}
	delete(want, "config.linkerd.io/close-wait-timeout")
	delete(want, "resource.opentelemetry.io/team")
	namespace := mesh.Mark{Annotations: found, Labels: map[string]string{corev1.LabelMetadataName: "shop"}}
	if got := linkerd.InjectionOf(namespace); !maps.Equal(got.Settings, want) {
		t.Errorf("namespace: %+v", got)
	}
	if got := linkerd.InjectionOf(mesh.Mark{Annotations: saying("enabled")}); got.Ingress || got.Settings != nil {
		t.Errorf("plain: %+v", got)
	}
}

func TestInjectionMisplaced(t *testing.T) {
	t.Parallel()
	const (
		setting  = "config.linkerd.io/proxy-cpu-request"
		alpha    = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
		webhooks = "config.linkerd.io/admission-webhooks"
		podsOnly = "config.linkerd.io/close-wait-timeout"
		tap      = "viz.linkerd.io/disable-tap"
	)
	as := func(keys ...string) map[string]string {
		m := map[string]string{}
		for _, key := range keys {
			m[key] = "x"
		}
		return m
	}
	for name, test := range map[string]struct {
		at    mesh.Place
		found mesh.Mark
		want  []string // a part of each line
	}{
		"namespace as it should be": {mesh.OnNamespace, mesh.Mark{Labels: as(webhooks, "linkerd.io/is-control-plane"), Annotations: as(inject, setting, alpha, tap)}, nil},
		"template as it should be":  {mesh.OnTemplate, mesh.Mark{Labels: as("app", "linkerd.io/workload-ns"), Annotations: as(inject, setting, podsOnly)}, nil},
		"workload as it should be":  {mesh.OnWorkload, mesh.Mark{Labels: as("app"), Annotations: as("deployment.kubernetes.io/revision")}, nil},
		"labels of a namespace": {
			mesh.OnNamespace,
			mesh.Mark{Labels: as(inject, setting)},
			[]string{"label config.linkerd.io/proxy-cpu-request does nothing: Linkerd reads it as an annotation; make it one", "label linkerd.io/inject does nothing"},
		},
		"labels of a template": {
			mesh.OnTemplate,
			mesh.Mark{Labels: as(inject, alpha, webhooks)},
			[]string{"label config.alpha.linkerd.io/", "label config.linkerd.io/admission-webhooks does nothing here: only that of a namespace is read", "label linkerd.io/inject"},
		},
		"labels of a workload": {mesh.OnWorkload, mesh.Mark{Labels: as(inject)}, []string{"spec.template.metadata.annotations"}},
		"annotations of a workload": {
			mesh.OnWorkload,
			mesh.Mark{Annotations: as(inject, setting)},
			[]string{"annotation config.linkerd.io/proxy-cpu-request does nothing here", "annotation linkerd.io/inject does nothing here: Linkerd sees pods only; put it among the annotations of the pod template"},
		},
		"annotation instead of the label": {
			mesh.OnNamespace,
			mesh.Mark{Annotations: as(webhooks)},
			[]string{"annotation config.linkerd.io/admission-webhooks does nothing: it is read as a label of the namespace; make it one"},
		},
		"setting for pods only": {mesh.OnNamespace, mesh.Mark{Annotations: as(podsOnly)}, []string{"does nothing on a namespace"}},
	} {
		got := linkerd.Injection{}.Misplaced(test.at, test.found)
		if len(got) != len(test.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, line := range got {
			if !strings.Contains(line, test.want[i]) {
				t.Errorf("%s: %q does not say %q", name, line, test.want[i])
			}
		}
	}
}

// exemptions are changes to a pod that keep the injector from it, and a part of
// the reason.
func exemptions() map[string]struct {
	change func(*corev1.Pod)
	why    string
} {
	container := func(name, image string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: image})
		}
	}
	initial := func(name string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "registry.example/" + name + ":1"})
		}
	}
	label := func(key string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Labels = map[string]string{key: "x"} }
	}
	says := func(value string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Annotations = map[string]string{inject: value} }
	}
	return map[string]struct {
		change func(*corev1.Pod)
		why    string
	}{
		"host network":           {func(pod *corev1.Pod) { pod.Spec.HostNetwork = true }, "hostNetwork"},
		"control plane":          {label("linkerd.io/control-plane-component"), "part of Linkerd's control plane"},
		"CNI plugin":             {label("linkerd.io/cni-resource"), "CNI plugin"},
		"proxy of Istio":         {container("istio-proxy", "registry.example/proxyv2:1"), "proxy of Istio (container istio-proxy)"},
		"native proxy of Istio":  {initial("istio-proxy"), "proxy of Istio"},
		"init of Istio":          {initial("istio-init"), "proxy of Istio (container istio-init)"},
		"proxy image of Istio":   {container("envoy", "gcr.io/istio-release/proxyv2:1.31.0"), "proxy of Istio (container envoy)"},
		"init image of Istio":    {container("prepare", "gcr.io/istio-release/proxy_init:1.0"), "proxy of Istio (container prepare)"},
		"init of Linkerd":        {initial("linkerd-init"), "container linkerd-init passes for Linkerd's"},
		"proxy image of Linkerd": {container("relay", "cr.l5d.io/linkerd/proxy:edge-26.8.3"), "container relay passes for Linkerd's"},
		"init image of Linkerd":  {container("prepare", "cr.l5d.io/linkerd/proxy-init:v2"), "container prepare passes for Linkerd's"},
		"proxy that ends":        {initial("linkerd-proxy"), "container linkerd-proxy passes for Linkerd's"},
		"disabled":               {says("disabled"), "says disabled"},
		"invalid":                {says("true"), `invalid value "true"`},
	}
}

func applicationPod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "alpha-0"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "alpha", Image: "registry.example/alpha:1",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "mysql", ContainerPort: 3306}},
		}}},
	}
}

func TestInjectionExempts(t *testing.T) {
	t.Parallel()
	for name, exemption := range exemptions() {
		pod := applicationPod("shop")
		exemption.change(pod)
		if got := (linkerd.Injection{}).Exempt(pod); !strings.Contains(got, exemption.why) {
			t.Errorf("%s: %q does not say %q", name, got, exemption.why)
		}
	}
	never := false
	for name, change := range map[string]func(*corev1.Pod){
		"plain":               func(*corev1.Pod) {},
		"enabled":             func(pod *corev1.Pod) { pod.Annotations = saying("enabled") },
		"ingress":             func(pod *corev1.Pod) { pod.Annotations = saying("ingress") },
		"without a token":     func(pod *corev1.Pod) { pod.Spec.AutomountServiceAccountToken = &never },
		"debug image":         func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "cr.l5d.io/linkerd/debug:edge-26.8.3" },
		"injected, with init": func(pod *corev1.Pod) { asInjected(pod, mesh.Sidecar) },
		"injected natively":   func(pod *corev1.Pod) { asInjected(pod, mesh.NativeSidecar) },
	} {
		pod := applicationPod("shop")
		change(pod)
		if got := (linkerd.Injection{}).Exempt(pod); got != "" {
			t.Errorf("%s: exempt because %s", name, got)
		}
	}
}

// asInjected gives a pod a proxy in the way of the injector.
func asInjected(pod *corev1.Pod, mode mesh.Mode) {
	proxy := corev1.Container{Name: "linkerd-proxy", Image: "cr.l5d.io/linkerd/proxy:edge-26.8.3"}
	pod.Spec.InitContainers = []corev1.Container{{Name: "linkerd-init", Image: proxy.Image}}
	if mode == mesh.NativeSidecar {
		always := corev1.ContainerRestartPolicyAlways
		proxy.RestartPolicy = &always
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, proxy)
		return
	}
	pod.Spec.Containers = append([]corev1.Container{proxy}, pod.Spec.Containers...)
}

func TestInjectionShowsProxies(t *testing.T) {
	t.Parallel()
	if got := (linkerd.Injection{}).Proxy(applicationPod("shop")); got.Mode != "" {
		t.Errorf("without a proxy: %+v", got)
	}
	for _, mode := range []mesh.Mode{mesh.Sidecar, mesh.NativeSidecar} {
		pod := applicationPod("shop")
		asInjected(pod, mode)
		pod.Annotations = map[string]string{
			inject: "ingress", "linkerd.io/created-by": "linkerd/proxy-injector edge-26.8.3",
			"linkerd.io/proxy-version": "edge-26.8.3", "linkerd.io/trust-root-sha256": "abc",
			"config.linkerd.io/proxy-uid": "7", "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "1",
			"viz.linkerd.io/disable-tap": "true", "resource.opentelemetry.io/team": "graph", "team": "graph",
		}
		status := []corev1.ContainerStatus{{Name: "linkerd-proxy", Ready: true}}
		if mode == mesh.NativeSidecar {
			pod.Status.InitContainerStatuses = status
		} else {
			pod.Status.ContainerStatuses = status
		}
		got := linkerd.Injection{}.Proxy(pod)
		want := map[string]string{
			inject: "ingress", "config.linkerd.io/proxy-uid": "7", "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "1",
			"viz.linkerd.io/disable-tap": "true", "resource.opentelemetry.io/team": "graph",
		}
		if !maps.Equal(got.Settings, want) {
			t.Errorf("%s: settings %v", mode, got.Settings)
		}
		got.Settings = nil
		if got.Mode != mode || got.Version != "edge-26.8.3" || got.Image != "cr.l5d.io/linkerd/proxy:edge-26.8.3" || got.TrustRoots != "abc" || !got.Ready {
			t.Errorf("%s: %+v", mode, got)
		}
	}
	for image, want := range map[string]string{
		"cr.l5d.io/linkerd/proxy:edge-26.8.3":             "edge-26.8.3",
		"registry.example:5000/proxy:edge-1@sha256:00aa":  "edge-1",
		"registry.example:5000/proxy":                     "",
		"registry.example:5000/linkerd/proxy@sha256:00aa": "",
		"proxy": "",
	} {
		pod := applicationPod("shop")
		asInjected(pod, mesh.Sidecar)
		pod.Spec.Containers[0].Image = image
		if got := (linkerd.Injection{}).Proxy(pod).Version; got != want {
			t.Errorf("%s: version %q, want %q", image, got, want)
		}
	}
}

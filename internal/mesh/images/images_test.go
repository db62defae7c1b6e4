package images

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

// sources is a directory of charts, each with its files.
func sources(t *testing.T, charts map[string]map[string]string) (Sources, string) {
	t.Helper()
	root := t.TempDir()
	for chart, files := range charts {
		for name, text := range files {
			file := filepath.Join(root, chart, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return Sources{Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()}), Manifests: release.NewDownloader()}, root
}

func chart(name, version, values, template string) map[string]string {
	return map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: " + name + "\nversion: " + version + "\nappVersion: " + version + "\nkubeVersion: '>=1.31.0-0'\n",
		"values.yaml":        values,
		"templates/all.yaml": template,
	}
}

// found are images by how they are told of.
type found struct {
	components string
	injected   bool
	value      string
}

func told(images []Image) map[string]found {
	all := map[string]found{}
	for _, image := range images {
		all[image.Reference.String()] = found{strings.Join(image.Components, " "), image.Injected, image.Value}
	}
	return all
}

// oldLinkerd is shaped as the charts before 2.19: with images of their own for the
// init container and the policy controller.
func oldLinkerd() map[string]map[string]string {
	return map[string]map[string]string{
		"linkerd-crds": chart("linkerd-crds", "2024.11.8", "{}", ""),
		"linkerd2-cni": chart("linkerd2-cni", "2024.11.8", "image: {name: cr.l5d.io/linkerd/cni-plugin, version: v1.5.0}", `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: linkerd-cni}
spec: {template: {spec: {containers: [{name: install-cni, image: '{{ .Values.image.name }}:{{ .Values.image.version }}'}]}}}
`),
		"linkerd-control-plane": chart("linkerd-control-plane", "2024.11.8", `
linkerdVersion: edge-24.11.8
controllerImage: cr.l5d.io/linkerd/controller
policyController: {image: {name: cr.l5d.io/linkerd/policy-controller, version: ""}}
proxy: {image: {name: cr.l5d.io/linkerd/proxy, version: ""}}
proxyInit: {image: {name: cr.l5d.io/linkerd/proxy-init, version: v2.4.1}}
debugContainer: {image: {name: cr.l5d.io/linkerd/debug, version: ""}}
cniEnabled: false
disableHeartBeat: false
extra: []
proxyInjector: {externalSecret: false}
profileValidator: {externalSecret: false}
policyValidator: {externalSecret: false}
identity: {externalCA: false, issuer: {scheme: x}}
`, `
apiVersion: v1
kind: ConfigMap
metadata: {name: linkerd-config}
data:
  values: |
    {{- .Values | toYaml | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: linkerd-destination}
spec:
  template:
    spec:
      initContainers: [{name: linkerd-init, image: '{{ .Values.proxyInit.image.name }}:{{ .Values.proxyInit.image.version }}'}]
      containers:
      - {name: destination, image: '{{ .Values.controllerImage }}:{{ .Values.linkerdVersion }}'}
      - {name: policy, image: '{{ .Values.policyController.image.name }}:{{ .Values.linkerdVersion }}'}
      {{- range .Values.extra }}
      - {name: extra, image: '{{ .image }}'}
      {{- end }}
      volumes: [{name: data, image: {reference: 'example.com/data@sha256:`+strings.Repeat("a", 64)+`'}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: prepare, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {containers: [{name: prepare, image: busybox:1.37}]}}}
{{- if not .Values.disableHeartBeat }}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: heartbeat}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: heartbeat, image: 'cr.l5d.io/linkerd/heartbeat:v1'}]}}}}}
{{- end }}
`),
	}
}

func TestLinkerd(t *testing.T) {
	t.Parallel()
	from, charts := sources(t, oldLinkerd())
	wanted := Specification{
		Linkerd: &linkerd.Specification{
			Namespace: "linkerd", Repository: charts, Version: "2024.11.8", GatewayAPI: linkerd.GatewayAPI{CRDs: linkerd.IgnoreGatewayCRDs},
			Values: map[string]any{"extra": []any{map[string]any{"image": "example.com/tools:v3"}}, "policyController": map[string]any{"image": map[string]any{"name": "example.com/mine/policy"}}},
		},
		LinkerdRegistry: "ghcr.io/linkerd",
	}
	const plane = "linkerd-control-plane"
	digest := "sha256:" + strings.Repeat("a", 64)
	want := map[string]found{
		"ghcr.io/linkerd/controller:edge-24.11.8": {plane, false, ""},
		"ghcr.io/linkerd/proxy:edge-24.11.8":      {plane, true, ""},
		"ghcr.io/linkerd/proxy-init:v2.4.1":       {plane, true, ""},
		"example.com/mine/policy:edge-24.11.8":    {plane, false, "policyController.image.name"},
		"example.com/tools:v3":                    {plane, false, "extra[0].image"},
		"example.com/data@" + digest:              {plane, false, "values"},
		"docker.io/library/busybox:1.37":          {plane, false, "values"},
	}
	images, err := from.Of(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	if got := told(images); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	// The plugin comes instead of the init container of applications.
	wanted.Linkerd.CNI, wanted.Linkerd.Values, wanted.Debug, wanted.LinkerdRegistry = &linkerd.CNI{Namespace: "linkerd-cni"}, nil, true, ""
	images, err = from.Of(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	got := told(images)
	for image, want := range map[string]found{
		"cr.l5d.io/linkerd/cni-plugin:v1.5.0":  {"linkerd2-cni", false, ""},
		"cr.l5d.io/linkerd/proxy-init:v2.4.1":  {plane, false, ""},
		"cr.l5d.io/linkerd/debug:edge-24.11.8": {plane, true, ""},
	} {
		if got[image] != want {
			t.Errorf("%s: got %v, want %v", image, got[image], want)
		}
	}
}

func TestIstio(t *testing.T) {
	t.Parallel()
	const configMaps = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio}
data:
  mesh: |
    defaultConfig:
      {{- with .Values.global.variant }}
      image: {imageType: {{ . }}}
      {{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector}
data:
  values: |
    {{- dict "global" .Values.global | toPrettyJson | nindent 4 }}
  config: |
    defaultTemplates: [sidecar]
    templates:
      sidecar: |
        spec:
          initContainers:
          - image: "{{ "{{ .ProxyInitImage }}" }}"
          containers:
          - image: "{{ "{{ .ProxyImage }}" }}"
          - image: example.com/agent:v1
      other: |
        spec: {containers: [{image: busybox:1.28}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod}
spec: {template: {spec: {containers: [{name: discovery, image: '{{ .Values.hub | default .Values.global.hub }}/pilot:{{ .Values.global.tag }}{{ with .Values.global.variant }}-{{ . }}{{ end }}'}]}}}
`
	from, charts := sources(t, map[string]map[string]string{
		"base":   chart("base", "1.31.0", "{}", ""),
		"istiod": chart("istiod", "1.31.0", "hub: ''\nglobal: {hub: registry.istio.io/release, tag: 1.31.0, variant: '', proxy: {image: proxyv2}, proxy_init: {image: proxyv2}}", configMaps),
		"gateway": chart("gateway", "1.31.0", "{}", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec: {template: {spec: {containers: [{name: istio-proxy, image: auto}]}}}
`),
	})
	addons := filepath.Join(charts, "samples", "addons")
	if err := os.MkdirAll(addons, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(addons, "loki.yaml"), []byte("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: loki}\nspec: {template: {spec: {containers: [{image: grafana/loki:3.6.7}]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const agent, pilot, proxy = "example.com/agent:v1", "registry.istio.io/release/pilot:1.31.0", "registry.istio.io/release/proxyv2:1.31.0"
	type m = map[string]any
	for name, c := range map[string]struct {
		values m
		addons []Addon
		want   map[string]found
	}{
		"as it is": {nil, []Addon{{"loki", "1.31.0", charts}}, map[string]found{
			pilot: {"istiod", false, ""}, proxy: {"istiod", true, ""}, agent: {"istiod", true, "values"},
			"docker.io/grafana/loki:3.6.7": {"loki", false, "manifest"},
		}},
		"a variant": {m{"global": m{"variant": "distroless"}}, nil, map[string]found{
			pilot + "-distroless": {"istiod", false, ""}, proxy + "-distroless": {"istiod", true, ""}, agent: {"istiod", true, "values"},
		}},
		"a tag that is a number": {m{"global": m{"tag": 1.31}}, nil, map[string]found{
			"registry.istio.io/release/pilot:1.31": {"istiod", false, ""}, "registry.istio.io/release/proxyv2:1.31": {"istiod", true, ""}, agent: {"istiod", true, "values"},
		}},
		"images of one's own": {m{"hub": "quay.io/mine", "global": m{"proxy": m{"image": "example.com/p/proxyv2:x"}}}, nil, map[string]found{
			"quay.io/mine/pilot:1.31.0": {"istiod", false, "hub"}, "example.com/p/proxyv2:x": {"istiod", true, "global.proxy.image"}, proxy: {"istiod", true, ""}, agent: {"istiod", true, "values"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			images, err := from.Of(t.Context(), Specification{Addons: c.addons, Istio: &istio.Specification{
				Plane: istio.Plane{Namespace: "istio-system"}, Repository: charts, Version: "1.31.0", Profile: istio.ProfileDefault, Values: map[string]m{"istiod": c.values},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if got := told(images); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("b", 64)
	for _, c := range []struct{ place, image, want string }{
		{"example.azurecr.io/mesh/linkerd", "cr.l5d.io/linkerd/proxy:edge-26.8.3@" + digest, "example.azurecr.io/mesh/linkerd/proxy:edge-26.8.3"},
		{"example.azurecr.io", "prom/prometheus:v2", "example.azurecr.io/prometheus:v2"},
		{"localhost:5000/x", "busybox@" + digest, "localhost:5000/x/busybox"},
	} {
		place, err := ParsePlace(c.place)
		if err != nil {
			t.Fatal(err)
		}
		image, err := oci.ParseReference(c.image)
		if err != nil {
			t.Fatal(err)
		}
		if got := place.Target(image).String(); got != c.want || place.String() != c.place {
			t.Errorf("%s in %s is %s, want %s", c.image, place, got, c.want)
		}
	}
	for _, text := range []string{"", "https://example.azurecr.io", "example.azurecr.io/Mesh", "example.azurecr.io/a//b", "example.azurecr.io/a:b"} {
		if _, err := ParsePlace(text); err == nil {
			t.Errorf("%q is a place", text)
		}
	}
}

func TestCheckCollisions(t *testing.T) {
	t.Parallel()
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, c := range []struct {
		images  []string
		collide bool
	}{
		{[]string{"prom/prometheus:v3", "quay.io/prometheus/prometheus:v3"}, true},
		{[]string{"prom/prometheus:v2", "prom/prometheus:v3"}, false},
		{[]string{"a.io/x:v1@" + a, "a.io/x:v1@" + b}, true},
		{[]string{"a.io/x@" + a, "b.io/x@" + b, "b.io/x:v1"}, false},
		{[]string{"ghcr.io/linkerd/extension-init:v0.1.12@" + a, "cr.l5d.io/linkerd/extension-init:v0.1.12@" + a}, false},
		{[]string{"a.io/x@" + a, "b.io/x@" + a}, false},
		{[]string{"nginx:1", "docker.io/library/nginx:1"}, false},
		{[]string{"a.io/x:v1", "a.io/x:v1@" + a}, true},
	} {
		var images []oci.Reference
		for _, text := range c.images {
			image, err := oci.ParseReference(text)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, image)
		}
		err := CheckCollisions(images)
		if (err != nil) != c.collide {
			t.Errorf("%v: %v", c.images, err)
		}
		if err != nil && (!strings.Contains(err.Error(), images[0].String()) || !strings.Contains(err.Error(), images[1].String())) {
			t.Errorf("the error does not name both: %v", err)
		}
		slices.Reverse(images)
		if again := CheckCollisions(images); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("the other way round it is %v, instead of %v", again, err)
		}
	}
}

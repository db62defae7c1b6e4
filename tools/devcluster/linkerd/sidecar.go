package linkerd

// This file stands in for the containers that Linkerd's proxy injector adds (linkerd2 charts/patch).

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// sidecarTemplate renders the partials with which the chart gives proxies to
// the control plane, so that both come from one text.
const sidecarTemplate = `redirect:
  {{- include "linkerd.redirect" .Values | nindent 2 }}
proxy:
  {{- include "linkerd.proxy" .Values | nindent 2 }}
debug:
  {{- include "linkerd.debug" .Values | nindent 2 }}
volumes:
  {{- include "linkerd.proxyVolumes" .Values | nindent 2 }}
`

// A sidecar is what injection adds to a pod.
type sidecar struct {
	// Redirect is the init container that sends the pod's traffic through the
	// proxy, or checks that a CNI plugin does.
	Redirect corev1.Container `json:"redirect"`
	Proxy    corev1.Container `json:"proxy"`
	// Debug is added on request only.
	Debug   corev1.Container `json:"debug"`
	Volumes []corev1.Volume  `json:"volumes"`

	// native: the proxy is an init container that goes on running.
	// await: the application starts after the proxy.
	native, await bool
}

// renderSidecar renders the containers for a pod that listens on inboundPorts.
// values are those of the chart as the pod's annotations change them.
func renderSidecar(config Config, values map[string]any, inboundPorts string) (*sidecar, error) {
	s := &sidecar{}
	var err error
	if s.native, _, err = unstructured.NestedBool(values, "proxy", "nativeSidecar"); err != nil {
		return nil, fmt.Errorf("chart values: %w", err)
	}
	if s.await, _, err = unstructured.NestedBool(values, "proxy", "await"); err != nil {
		return nil, fmt.Errorf("chart values: %w", err)
	}

	const main = "sidecar.yaml"
	c := &chart.Chart{
		Metadata:  &chart.Metadata{Name: ControlPlaneChart},
		Templates: []*chart.File{{Name: main, Data: []byte(sidecarTemplate)}},
	}
	for _, name := range []string{"partials/templates/_metadata.tpl", ControlPlaneChart + "/templates/_proxy.tpl"} {
		data, err := chartFiles.ReadFile(path.Join("charts", name))
		if err != nil {
			return nil, err
		}
		c.Templates = append(c.Templates, &chart.File{Name: name, Data: data})
	}
	rendered, err := engine.Render(c, chartutil.Values{"Values": map[string]any{
		"values":       values,
		"ns":           config.Namespace,
		"component":    "",
		"inboundPorts": inboundPorts,
		"anchors":      config.TrustAnchors,
		"native":       s.native,
		"await":        s.await,
	}})
	if err != nil {
		return nil, fmt.Errorf("render sidecar: %w", err)
	}
	if err := yaml.UnmarshalStrict([]byte(rendered[path.Join(ControlPlaneChart, main)]), s); err != nil {
		return nil, fmt.Errorf("read rendered sidecar: %w", err)
	}
	return s, nil
}

// add puts the sidecar into a pod. A native one comes first, so that the
// application's init containers are meshed; otherwise they run before the
// redirection and are not.
func (s *sidecar) add(spec *corev1.PodSpec, debug string) {
	switch {
	case s.native:
		spec.InitContainers = slices.Concat([]corev1.Container{s.Redirect, s.Proxy}, spec.InitContainers)
	case s.await:
		spec.InitContainers = append(spec.InitContainers, s.Redirect)
		spec.Containers = slices.Concat([]corev1.Container{s.Proxy}, spec.Containers)
	default:
		spec.InitContainers = append(spec.InitContainers, s.Redirect)
		spec.Containers = append(spec.Containers, s.Proxy)
	}
	if wanted, err := strconv.ParseBool(debug); err == nil && wanted {
		spec.Containers = append(spec.Containers, s.Debug)
	}
	spec.Volumes = append(spec.Volumes, s.Volumes...)
}

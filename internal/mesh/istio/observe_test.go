package istio

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

func TestGuess(t *testing.T) {
	t.Parallel()
	istiod := func(values map[string]any) *helm.Release {
		return &helm.Release{ChartName: IstiodChart, Values: values}
	}
	gateway := &helm.Release{ChartName: GatewayChart}
	chained := map[string]any{"pilot": map[string]any{"cni": map[string]any{"enabled": true}}}
	for name, c := range map[string]struct {
		releases map[string]*helm.Release
		profile  Profile
		cni      bool
		gateways []string // if they are not the profile's
	}{
		"istiod alone":      {map[string]*helm.Release{"istiod": istiod(nil)}, ProfileMinimal, false, nil},
		"ingress":           {map[string]*helm.Release{"istiod": istiod(nil), ingressGateway: gateway}, ProfileDefault, false, nil},
		"egress":            {map[string]*helm.Release{"istiod": istiod(nil), ingressGateway: gateway, egressGateway: gateway}, ProfileDefault, false, []string{egressGateway, ingressGateway}},
		"demo with one":     {map[string]*helm.Release{"istiod": istiod(map[string]any{"profile": "demo"}), ingressGateway: gateway}, ProfileDemo, false, []string{ingressGateway}},
		"ambient":           {map[string]*helm.Release{"istiod": istiod(map[string]any{"profile": "ambient"}), cniRelease: {ChartName: CNIChart}}, ProfileAmbient, false, nil},
		"CNI":               {map[string]*helm.Release{"istiod": istiod(chained), cniRelease: {ChartName: CNIChart}}, ProfileMinimal, true, nil},
		"CNI of another":    {map[string]*helm.Release{"istiod": istiod(nil), cniRelease: {ChartName: CNIChart}}, ProfileMinimal, false, nil},
		"CNI of nobody's":   {map[string]*helm.Release{"istiod": istiod(chained)}, ProfileMinimal, false, nil},
		"another's gateway": {map[string]*helm.Release{"istiod": istiod(nil), ingressGateway: {ChartName: GatewayChart, Values: map[string]any{"revision": "1-31"}}}, ProfileMinimal, false, nil},
	} {
		v := inventory{plane: Plane{Namespace: "mesh"}, releases: map[string]map[string]*helm.Release{"mesh": c.releases}}
		profile, cni, gateways := v.guess()
		if profile != c.profile || cni != c.cni || !slices.Equal(slices.Sorted(maps.Keys(gateways)), c.gateways) {
			t.Errorf("%s: %s, CNI %t, gateways %v", name, profile, cni, gateways)
		}
	}
}

// TestGuess_elsewhere finds the gateways of other namespaces.
func TestGuess_elsewhere(t *testing.T) {
	t.Parallel()
	v := inventory{plane: Plane{Namespace: "mesh"}, releases: map[string]map[string]*helm.Release{
		"mesh":          {"istiod": {ChartName: IstiodChart}},
		"istio-ingress": {ingressGateway: {ChartName: GatewayChart}},
	}}
	profile, _, gateways := v.guess()
	if profile != ProfileMinimal || len(gateways) != 1 || gateways[ingressGateway].Namespace != "istio-ingress" {
		t.Errorf("%s with gateways %v", profile, gateways)
	}
}

// webhookConfiguration is as a chart writes it, or as istiod and AKS leave it.
func webhookConfiguration(kind kube.Kind, webhook map[string]any) *unstructured.Unstructured {
	object := kube.Ref{Kind: kind, Name: "istio"}.Object()
	webhook["name"] = "webhook.istio.io"
	object.Object["webhooks"] = []any{webhook}
	return object
}

func TestPrune(t *testing.T) {
	t.Parallel()
	selector := func(keys ...string) map[string]any {
		var expressions []any
		for _, key := range keys {
			expressions = append(expressions, map[string]any{"key": key, "operator": "DoesNotExist"})
		}
		return map[string]any{"matchExpressions": expressions}
	}
	for name, c := range map[string]struct {
		kind        kube.Kind
		chart, live map[string]any
		drift       int
	}{
		"validator in service": {
			kube.ValidatingWebhookConfiguration,
			map[string]any{"failurePolicy": "Ignore", "clientConfig": map[string]any{}},
			map[string]any{"failurePolicy": "Fail", "clientConfig": map[string]any{"caBundle": "Q0E="}},
			0,
		},
		"bundle of a chart of its own": {
			kube.MutatingWebhookConfiguration,
			map[string]any{"clientConfig": map[string]any{"caBundle": "b2xk"}},
			map[string]any{"clientConfig": map[string]any{"caBundle": "bmV3"}},
			0,
		},
		"selector extended by AKS": {
			kube.MutatingWebhookConfiguration,
			map[string]any{"failurePolicy": "Fail", "namespaceSelector": selector("istio-injection")},
			map[string]any{"failurePolicy": "Fail", "namespaceSelector": selector("istio-injection", "control-plane", "kubernetes.azure.com/managedby")},
			0,
		},
		"selector cut": {
			kube.MutatingWebhookConfiguration,
			map[string]any{"namespaceSelector": selector("istio-injection", "istio.io/rev")},
			map[string]any{"namespaceSelector": selector("istio-injection")},
			1,
		},
		"injector that may fail": {
			kube.MutatingWebhookConfiguration,
			map[string]any{"failurePolicy": "Fail"},
			map[string]any{"failurePolicy": "Ignore"},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wanted := webhookConfiguration(c.kind, c.chart)
			live := webhookConfiguration(c.kind, c.live)
			Yields().To(nil, live, wanted)
			if drift := kube.Differences(wanted, live); len(drift) != c.drift {
				t.Errorf("drift %v, want %d", drift, c.drift)
			}
		})
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	const image = "example.io/proxyv2:1.31.0"
	for name, c := range map[string]struct {
		container, image string
		annotations      map[string]string
		younger          bool
		want             bool
	}{
		"the same":              {"istio-proxy", image, nil, false, true},
		"another variant":       {"istio-proxy", image + "-distroless", nil, false, true},
		"another version":       {"istio-proxy", "example.io/proxyv2:1.30.2", nil, false, false},
		"another version still": {"istio-proxy", "example.io/proxyv2:1.30.2", nil, true, false},
		"another registry":      {"istio-proxy", "registry.istio.io/release/proxyv2:1.31.0", nil, false, false},
		"a mirror":              {"istio-proxy", "mirror.example.io/istio/proxyv2:1.31.0", nil, true, true},
		"a digest of a policy":  {"istio-proxy", "mirror.example.io/istio/proxyv2@sha256:0123", nil, true, true},
		"never injected":        {"istio-proxy", "auto", nil, false, false},
		"not injected yet":      {"istio-proxy", "auto", nil, true, false},
		"an image of its own":   {"istio-proxy", "mine:1", map[string]string{"sidecar.istio.io/proxyImage": "mine:1"}, false, true},
		"no proxy":              {"main", image, nil, false, false},
	} {
		config := &injectorConfig{image: image, changed: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		made := config.changed
		if c.younger {
			made = made.Add(time.Minute)
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations, CreationTimestamp: metav1.NewTime(made)},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: c.container, Image: c.image}}},
		}
		if got := config.runs(pod); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestConfigurations(t *testing.T) {
	t.Parallel()
	for plane, want := range map[Plane][2]string{
		{Namespace: "istio-system"}:                   {"istio-sidecar-injector", "istio-validator-istio-system"},
		{Namespace: "mesh"}:                           {"istio-sidecar-injector-mesh", "istio-validator-mesh"},
		{Namespace: "istio-system", Revision: "1-31"}: {"istio-sidecar-injector-1-31", "istio-validator-1-31-istio-system"},
		{Namespace: "mesh", Revision: "1-31"}:         {"istio-sidecar-injector-1-31-mesh", "istio-validator-1-31-mesh"},
	} {
		if got := [2]string{injectorConfiguration(plane).Name, validatorConfiguration(plane).Name}; got != want {
			t.Errorf("%s: %s, want %s", plane, got, want)
		}
	}
}

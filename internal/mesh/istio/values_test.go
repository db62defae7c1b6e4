package istio

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// valueOf reads a value by its dotted key, nil if it is not set.
func valueOf(values map[string]any, key string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(values, strings.Split(key, ".")...)
	return value
}

func TestCompose(t *testing.T) {
	t.Parallel()
	type setting struct{ release, key string }
	for name, c := range map[string]struct {
		specification Specification
		releases      []string
		settings      map[setting]any
	}{
		"minimal": {
			Specification{Namespace: "mesh", Profile: ProfileMinimal, Hub: "example.azurecr.io/istio"},
			[]string{"istio-base", "istiod"},
			map[setting]any{
				{"istio-base", "global.istioNamespace"}: "mesh",
				{"istiod", "global.istioNamespace"}:     "mesh",
				{"istiod", "global.hub"}:                "example.azurecr.io/istio",
				// The charts know no profile of that name.
				{"istiod", "profile"}: nil,
			},
		},
		"default": {
			Specification{Namespace: "istio-system", Profile: ProfileDefault},
			[]string{"istio-base", "istiod", "istio-ingressgateway"},
			map[setting]any{
				{"istiod", "profile"}:    nil,
				{"istiod", "global.hub"}: nil,
				// The chart's own defaults are the profile's.
				{"istio-ingressgateway", "service"}: nil,
			},
		},
		"demo": {
			Specification{Namespace: "istio-system", Profile: ProfileDemo},
			[]string{"istio-base", "istiod", "istio-ingressgateway", "istio-egressgateway"},
			map[setting]any{
				{"istiod", "profile"}:                                 "demo",
				{"istio-base", "profile"}:                             nil,
				{"istio-ingressgateway", "service.type"}:              "LoadBalancer",
				{"istio-ingressgateway", "autoscaling.enabled"}:       false,
				{"istio-ingressgateway", "resources.requests.memory"}: "40Mi",
				{"istio-egressgateway", "service.type"}:               "ClusterIP",
				{"istio-egressgateway", "resources.requests.cpu"}:     "10m",
			},
		},
		"values over everything but what the provider needs": {
			Specification{Namespace: "istio-system", Profile: ProfileDemo, Hub: "a", Values: map[string]map[string]any{
				BaseChart:    {"global": map[string]any{"istioNamespace": "elsewhere", "imagePullSecrets": []any{"pull"}}},
				IstiodChart:  {"global": map[string]any{"hub": "b"}},
				GatewayChart: {"service": map[string]any{"type": "NodePort"}},
			}},
			[]string{"istio-base", "istiod", "istio-ingressgateway", "istio-egressgateway"},
			map[setting]any{
				{"istio-base", "global.istioNamespace"}:         "istio-system",
				{"istio-base", "global.imagePullSecrets"}:       []any{"pull"},
				{"istiod", "global.hub"}:                        "b",
				{"istiod", "service"}:                           nil,
				{"istio-ingressgateway", "service.type"}:        "NodePort",
				{"istio-egressgateway", "service.type"}:         "NodePort",
				{"istio-egressgateway", "autoscaling.enabled"}:  false,
				{"istio-ingressgateway", "autoscaling.enabled"}: false,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var releases []string
			values := map[string]map[string]any{}
			for _, c := range compose(c.specification) {
				releases = append(releases, c.release)
				values[c.release] = c.values
			}
			if !slices.Equal(releases, c.releases) {
				t.Errorf("releases %v, want %v", releases, c.releases)
			}
			for at, want := range c.settings {
				if got := valueOf(values[at.release], at.key); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s is %v, want %v", at.release, at.key, got, want)
				}
			}
		})
	}
}

func TestDemoPorts(t *testing.T) {
	t.Parallel()
	for release, want := range map[string][]int64{
		ingressGateway: {15021, 80, 443, 31400, 15443},
		egressGateway:  {80, 443},
	} {
		ports, ok := valueOf(ProfileDemo.gatewayValues(release), "service.ports").([]any)
		if !ok {
			t.Fatalf("%s has no list of ports", release)
		}
		var numbers []int64
		names := map[string]bool{}
		for _, p := range ports {
			fields, _ := p.(map[string]any)
			number, _ := fields["port"].(int64)
			name, _ := fields["name"].(string)
			numbers, names[name] = append(numbers, number), true
		}
		if !slices.Equal(numbers, want) || len(names) != len(want) {
			t.Errorf("%s has ports %v named %v, want %v with a name each", release, numbers, slices.Sorted(maps.Keys(names)), want)
		}
	}
}

func TestCheckValues(t *testing.T) {
	t.Parallel()
	for chart, cases := range map[string]map[string]string{
		BaseChart: {
			`defaultRevision`:       "default revision",
			`global.istioNamespace`: "attribute namespace",
			`profile`:               "attribute profile",
		},
		IstiodChart: {
			`revision`:                        "default revision",
			`pilot.revision`:                  "default revision",
			`global.profile`:                  "attribute profile",
			`global.operatorManageWebhooks`:   "waits for all",
			`_internal_defaults_do_not_set.a`: "without it",
		},
		GatewayChart: {`name`: "istioctl", `revision`: "default revision"},
	} {
		for key, reason := range cases {
			values := map[string]any{}
			if err := unstructured.SetNestedField(values, "x", strings.Split(key, ".")...); err != nil {
				t.Fatal(err)
			}
			err := CheckValues(chart, values)
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: %s: error %v, want one with %q", chart, key, err, reason)
			}
		}
	}
	for _, values := range []map[string]any{
		nil,
		{"pilot": "not a mapping", "global": map[string]any{"platform": "k3s"}},
		{"pilot": map[string]any{"env": map[string]any{"revision": "x"}}, "name": "only the gateway's"},
	} {
		if err := CheckValues(IstiodChart, values); err != nil {
			t.Errorf("values %v are refused: %v", values, err)
		}
	}
	for _, values := range []map[string]any{{"platform": "aks"}, {"global": map[string]any{"platform": "aks"}}} {
		if err := CheckValues(GatewayChart, values); err == nil {
			t.Errorf("values %v are accepted", values)
		}
	}
}

func TestCheckNamespace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		namespace string
		profile   Profile
		refused   bool
	}{
		{"istio-system", ProfileDefault, false},
		{"kube-system", ProfileDefault, true},
		{"kube-system", ProfileDemo, true},
		{"kube-system", ProfileMinimal, false},
		{"kube-system", "", false},
	} {
		if err := CheckNamespace(c.namespace, c.profile); (err != nil) != c.refused {
			t.Errorf("%s with profile %s: error %v, want one: %t", c.namespace, c.profile, err, c.refused)
		}
	}
}

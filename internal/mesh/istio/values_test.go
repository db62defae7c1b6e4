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
			Specification{Plane: Plane{Namespace: "mesh"}, Profile: ProfileMinimal, Hub: "example.azurecr.io/istio"},
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
			Specification{Plane: Plane{Namespace: "istio-system"}, Profile: ProfileDefault},
			[]string{"istio-base", "istiod", "istio-ingressgateway"},
			map[setting]any{
				{"istiod", "profile"}:    nil,
				{"istiod", "global.hub"}: nil,
				// The chart's own defaults are the profile's.
				{"istio-ingressgateway", "service"}: nil,
			},
		},
		"demo": {
			Specification{Plane: Plane{Namespace: "istio-system"}, Profile: ProfileDemo},
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
		"ambient": {
			Specification{Plane: Plane{Namespace: "mesh"}, Profile: ProfileAmbient, Hub: "example.azurecr.io/istio"},
			[]string{"istio-base", "istiod", "istio-cni", "ztunnel"},
			map[setting]any{
				{"istiod", "profile"}:            "ambient",
				{"istio-cni", "profile"}:         "ambient",
				{"ztunnel", "istioNamespace"}:    "mesh",
				{"ztunnel", "global.hub"}:        "example.azurecr.io/istio",
				{"istiod", "pilot"}:              nil,
				{"istio-base", "global.profile"}: nil,
			},
		},
		"revision with CNI and gateways": {
			Specification{
				Plane: Plane{Namespace: "istio-system", Revision: "1-31"}, Profile: ProfileDefault, CNI: true,
				Values:   map[string]map[string]any{GatewayChart: {"replicaCount": 2}},
				Gateways: map[string]Gateway{"west": {Namespace: "edge"}, "east": {Values: map[string]any{"replicaCount": 3}}},
			},
			[]string{"istio-base", "istio-cni", "istiod-1-31", "east", "west"},
			map[setting]any{
				{"istio-base", "defaultRevision"}:    nil,
				{"istiod-1-31", "revision"}:          "1-31",
				{"istiod-1-31", "pilot.cni.enabled"}: true,
				{"istio-cni", "revision"}:            nil,
				{"east", "revision"}:                 "1-31",
				{"east", "replicaCount"}:             3,
				{"west", "replicaCount"}:             2,
			},
		},
		"values over everything but what the provider needs": {
			Specification{Plane: Plane{Namespace: "istio-system"}, Profile: ProfileDemo, Hub: "a", Values: map[string]map[string]any{
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
			for _, c := range compose(c.specification, defaultRevision) {
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
		ports, ok := valueOf(ProfileDemo.makeup().gatewayValues(release), "service.ports").([]any)
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
			`defaultRevision`:       "stays with the revision",
			`global.istioNamespace`: "attribute namespace",
			`profile`:               "attribute profile",
		},
		IstiodChart: {
			`revision`:                        "attribute revision",
			`pilot.revision`:                  "attribute revision",
			`global.profile`:                  "attribute profile",
			`global.operatorManageWebhooks`:   "waits for all",
			`_internal_defaults_do_not_set.a`: "without it",
		},
		ZtunnelChart: {`resourceName`: "named after its release"},
		GatewayChart: {`name`: "attribute gateways", `revision`: "attribute revision"},
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

func TestCheckGateways(t *testing.T) {
	t.Parallel()
	in := func(namespace string) Plane { return Plane{Namespace: namespace} }
	for name, c := range map[string]struct {
		specification Specification
		reason        string
	}{
		"of the profile":        {Specification{Plane: in("istio-system"), Profile: ProfileDefault}, ""},
		"where none can run":    {Specification{Plane: in("kube-system"), Profile: ProfileDemo}, "never injects pods of kube-system"},
		"none":                  {Specification{Plane: in("kube-system"), Profile: ProfileMinimal}, ""},
		"none in spite of it":   {Specification{Plane: in("kube-system"), Profile: ProfileDefault, Gateways: map[string]Gateway{}}, ""},
		"elsewhere":             {Specification{Plane: in("kube-system"), Gateways: map[string]Gateway{"edge": {Namespace: "edge"}}}, ""},
		"elsewhere, not better": {Specification{Plane: in("istio-system"), Gateways: map[string]Gateway{"edge": {Namespace: "kube-public"}}}, "gateway edge cannot run"},
		"named as istiod":       {Specification{Plane: in("istio-system"), Gateways: map[string]Gateway{"istiod": {}}}, "another release"},
	} {
		err := CheckGateways(c.specification)
		if (err != nil) != (c.reason != "") || err != nil && !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.reason)
		}
	}
}

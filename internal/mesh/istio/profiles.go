package istio

import "slices"

// Profile is a selection of components and settings, named as istioctl names it.
type Profile string

// The profiles that can be installed by charts.
const (
	ProfileDefault Profile = "default" // istiod and an ingress gateway
	ProfileDemo    Profile = "demo"    // istiod and two gateways, all small, with access logs and full tracing
	ProfileMinimal Profile = "minimal" // istiod
	ProfileAmbient Profile = "ambient" // istiod, istio-cni and ztunnel
)

const (
	ingressGateway = "istio-ingressgateway"
	egressGateway  = "istio-egressgateway"
)

// makeup is what a profile consists of besides base and istiod.
type makeup struct {
	profile Profile
	// charts is the name by which the charts know the profile: of istioctl's names
	// they know only some.
	charts   string
	cni      bool
	ztunnel  bool
	gateways []string
	// gateway are the profile's settings of one gateway; nil for none.
	gateway func(name string) map[string]any
}

// makeups is the table of all profiles.
func makeups() []makeup {
	return []makeup{
		{profile: ProfileDefault, gateways: []string{ingressGateway}},
		{profile: ProfileDemo, charts: "demo", gateways: []string{ingressGateway, egressGateway}, gateway: demoGateway},
		{profile: ProfileMinimal},
		{profile: ProfileAmbient, charts: "ambient", cni: true, ztunnel: true},
	}
}

// Profiles returns the names of all profiles.
func Profiles() []string {
	var names []string
	for _, s := range makeups() {
		names = append(names, string(s.profile))
	}
	return names
}

// makeup is what the profile consists of; nothing, if there is none of the name.
func (p Profile) makeup() makeup {
	all := makeups()
	if i := slices.IndexFunc(all, func(s makeup) bool { return s.profile == p }); i >= 0 {
		return all[i]
	}
	return makeup{}
}

// chartValues are what tells a chart of the profile.
func (s makeup) chartValues() map[string]any {
	if s.charts == "" {
		return nil
	}
	return map[string]any{"profile": s.charts}
}

// gatewayValues are the profile's settings of a gateway.
func (s makeup) gatewayValues(name string) map[string]any {
	if s.gateway == nil {
		return nil
	}
	return s.gateway(name)
}

// demoGateway is small. The gateway chart's own demo profile names istioctl's
// internal charts and does nothing for it, so their settings are repeated here
// (istio's manifests/helm-profiles/demo.yaml and manifests/charts/gateways).
func demoGateway(name string) map[string]any {
	values := map[string]any{
		"autoscaling": map[string]any{"enabled": false},
		"resources":   map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "40Mi"}},
	}
	web := []any{port("http2", 80, 8080), port("https", 443, 8443)}
	switch name {
	case ingressGateway:
		// The health port comes first: load balancers probe the first one.
		ports := append([]any{port("status-port", 15021, 15021)}, web...)
		values["service"] = map[string]any{
			"type":  "LoadBalancer",
			"ports": append(ports, port("tcp", 31400, 31400), port("tls", 15443, 15443)),
		}
	case egressGateway:
		values["service"] = map[string]any{"type": "ClusterIP", "ports": web}
	}
	return values
}

func port(name string, number, target int64) map[string]any {
	return map[string]any{"name": name, "port": number, "targetPort": target, "protocol": "TCP"}
}

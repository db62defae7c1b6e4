package istio

// Profile is a selection of components and settings, named as istioctl names
// it. Of these names Istio's charts know only demo.
type Profile string

// The profiles that can be installed by charts in sidecar mode.
const (
	ProfileDefault Profile = "default" // istiod and an ingress gateway
	ProfileDemo    Profile = "demo"    // istiod and two gateways, all small, with access logs and full tracing
	ProfileMinimal Profile = "minimal" // istiod
)

// Profiles returns the names of all profiles.
func Profiles() []string {
	return []string{string(ProfileDefault), string(ProfileDemo), string(ProfileMinimal)}
}

const (
	ingressGateway = "istio-ingressgateway"
	egressGateway  = "istio-egressgateway"
)

// gatewayReleases are all releases of gateways that any profile has.
func gatewayReleases() []string { return []string{ingressGateway, egressGateway} }

// gateways returns the gateways of the profile, by the names of their releases.
// The chart derives the labels by which Gateway objects select them from these
// names (`istio: ingressgateway`).
func (p Profile) gateways() []string {
	switch p {
	case ProfileDefault:
		return []string{ingressGateway}
	case ProfileDemo:
		return gatewayReleases()
	default:
		return nil
	}
}

// istiodValues are the profile's settings of istiod.
func (p Profile) istiodValues() map[string]any {
	if p == ProfileDemo {
		return map[string]any{"profile": "demo"}
	}
	return nil
}

// gatewayValues are the profile's settings of one gateway. The gateway chart's
// own demo profile names istioctl's internal charts and does nothing for it, so
// their settings are repeated here (istio's manifests/helm-profiles/demo.yaml
// and manifests/charts/gateways).
func (p Profile) gatewayValues(release string) map[string]any {
	if p != ProfileDemo {
		return nil
	}
	web := []any{port("http2", 80, 8080), port("https", 443, 8443)}
	service := map[string]any{"type": "ClusterIP", "ports": web}
	if release == ingressGateway {
		// The health port comes first: load balancers probe the first one.
		ports := append([]any{port("status-port", 15021, 15021)}, web...)
		service = map[string]any{
			"type":  "LoadBalancer",
			"ports": append(ports, port("tcp", 31400, 31400), port("tls", 15443, 15443)),
		}
	}
	return map[string]any{
		"autoscaling": map[string]any{"enabled": false},
		"resources":   map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "40Mi"}},
		"service":     service,
	}
}

func port(name string, number, target int64) map[string]any {
	return map[string]any{"name": name, "port": number, "targetPort": target, "protocol": "TCP"}
}

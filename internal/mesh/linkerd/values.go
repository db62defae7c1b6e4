package linkerd

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// ownedValues are the chart values that this provider sets itself, each with
// the reason for which a user cannot.
func ownedValues() map[string]string {
	owned := map[string]string{
		"identityTrustAnchorsPEM": "the trust bundle is published by aksmesh_issuer, which can change it without an outage",
		"identity.externalCA":     "the trust bundle is published by aksmesh_issuer, not by the chart",
		"identity.issuer.scheme":  "the issuer comes from the Secret of aksmesh_issuer",
		"identity.issuer.tls":     "a private key in Helm's values would be readable in the release's Secret; the issuer comes from the Secret of aksmesh_issuer",
	}
	for _, s := range controlPlaneServers("") {
		for _, key := range certificateKeys() {
			owned[s.values+"."+key] = "the provider looks after the webhook's certificate"
		}
	}
	return owned
}

// CheckValues refuses values that the provider sets itself. The error names
// the key and the reason.
func CheckValues(values map[string]any) error {
	return install.RefuseOwned(values, ownedValues())
}

// compose makes the control plane's values: the chart's own overlay for high
// availability, then the typed settings with the schedule of the heartbeat, then
// the user's values, and last what only the provider sets.
func compose(s Specification, schedule string, chart *helm.Chart) (map[string]any, error) {
	values := map[string]any{}
	if s.HighAvailability {
		overlay, err := chart.ValuesFile("values-ha.yaml")
		if err != nil {
			return nil, err
		}
		values = overlay
	}
	defaults, err := chart.DefaultValues()
	if err != nil {
		return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
	}
	own := map[string]any{
		"identity": map[string]any{"externalCA": true, "issuer": map[string]any{"scheme": IssuerScheme}},
	}
	if s.CNI != nil {
		own["cniEnabled"] = true
	}
	return helm.MergeValues(values, images(s.Registry, defaults), proxyResources(s.Proxy), heartbeat(schedule), s.Values, own), nil
}

func heartbeat(schedule string) map[string]any {
	if schedule == "" {
		return map[string]any{"disableHeartBeat": true}
	}
	return map[string]any{"heartbeatSchedule": schedule}
}

// images points every image of the control plane's chart to a registry. Which
// there are depends on the version.
func images(registry string, defaults map[string]any) map[string]any {
	return fromRegistry(registry, defaults, "controllerImage", "proxy.image.name", "proxyInit.image.name", "policyController.image.name", "debugContainer.image.name")
}

// fromRegistry points images to a registry, keeping the last part of their names
// as `linkerd install --registry` does: those of the keys that a chart has.
func fromRegistry(registry string, defaults map[string]any, keys ...string) map[string]any {
	if registry == "" {
		return nil
	}
	registry = strings.TrimSuffix(registry, "/") + "/"
	values := map[string]any{}
	for _, key := range keys {
		keys := strings.Split(key, ".")
		if name, known, err := unstructured.NestedString(defaults, keys...); known && err == nil {
			put(values, keys, registry+name[strings.LastIndex(name, "/")+1:])
		}
	}
	return values
}

// put sets a value below keys of its own.
func put(values map[string]any, keys []string, value string) {
	// It fails only if a key on the way holds something else than a mapping.
	_ = unstructured.SetNestedField(values, value, keys...)
}

func proxyResources(r Resources) map[string]any {
	values := map[string]any{}
	for key, quantity := range map[string]string{
		"cpu.request": r.CPURequest, "cpu.limit": r.CPULimit,
		"memory.request": r.MemoryRequest, "memory.limit": r.MemoryLimit,
	} {
		if quantity != "" {
			put(values, append([]string{"proxy", "resources"}, strings.Split(key, ".")...), quantity)
		}
	}
	return values
}

package istio

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// The charts of Istio that are installed. The keys of [Specification.Values].
const (
	BaseChart    = "base"
	IstiodChart  = "istiod"
	CNIChart     = "cni"
	ZtunnelChart = "ztunnel"
	GatewayChart = "gateway"
)

// Charts returns the names of the charts that values can be given for.
func Charts() []string { return []string{BaseChart, IstiodChart, CNIChart, ZtunnelChart, GatewayChart} }

// ownedValues are the values of a chart that this provider sets itself or
// relies on, each with the reason for which a user cannot change it.
func ownedValues(chart string) map[string]string {
	const (
		wrapper  = "the charts keep their defaults below this key; set the keys without it"
		profile  = "it follows from the attribute profile"
		revision = "it follows from the attribute revision"
		whole    = "the provider waits for all that the charts install"
	)
	owned := map[string]string{
		"_internal_defaults_do_not_set": wrapper,
		"defaults":                      wrapper,
		"profile":                       profile,
		"global.profile":                profile,
		"global.istioNamespace":         "it is taken from the attribute namespace",
		"global.resourceScope":          whole,
	}
	switch chart {
	case BaseChart:
		owned["defaultRevision"] = "it stays with the revision that it names, and goes to another one with the end of that"
	case IstiodChart:
		owned["revision"] = revision
		owned["pilot.revision"] = revision
		owned["global.operatorManageWebhooks"] = whole
		owned["global.omitSidecarInjectorConfigMap"] = whole
	case CNIChart:
		owned["revision"] = "istio-cni is one for all revisions"
	case ZtunnelChart:
		owned["revision"] = revision
		owned["istioNamespace"] = "it is taken from the attribute namespace"
		owned["resourceName"] = "it is named after its release"
	case GatewayChart:
		owned["revision"] = revision
		owned["name"] = "gateways are named by the keys of the attribute gateways"
	}
	return owned
}

// removedValues are those that charts had once and pass over in silence since, by
// istio's release notes.
func removedValues(chart string) []install.RemovedValue {
	switch chart {
	case IstiodChart:
		removed := []install.RemovedValue{{Key: "istio_cni", Since: "Istio 1.24", Instead: "set the attribute cni"}}
		for _, key := range []string{
			"pilot.configNamespace", "pilot.configSource", "pilot.enableProtocolSniffingForOutbound", "pilot.enableProtocolSniffingForInbound", "pilot.useMCP",
			"global.autoscalingV2API", "global.configRootNamespace", "global.defaultConfigVisibilitySettings", "global.useMCP",
			"sidecarInjectorWebhook.objectSelector", "sidecarInjectorWebhook.useLegacySelectors",
		} {
			removed = append(removed, install.RemovedValue{Key: key, Since: "Istio 1.23", Instead: "it had no effect"})
		}
		return removed
	case CNIChart:
		const instead = "the agent asks for the rights that its features need"
		return []install.RemovedValue{
			{Key: "privileged", Since: "Istio 1.21", Instead: instead},
			{Key: "cni.privileged", Since: "Istio 1.21", Instead: instead},
		}
	default:
		return nil
	}
}

// CheckValues refuses values of a chart that the provider sets itself, and a
// platform that Istio does not have. The error names the key and the reason.
func CheckValues(chart string, values map[string]any) error {
	if err := install.RefuseOwned(values, ownedValues(chart)); err != nil {
		return err
	}
	for _, key := range []string{"platform", "global.platform"} {
		// Anything but a text is for the chart to refuse.
		if platform, _, err := unstructured.NestedString(values, strings.Split(key, ".")...); err == nil && platform == "aks" {
			return fmt.Errorf("value %s cannot be aks: Istio's charts know no such platform, and AKS needs none", key)
		}
	}
	return nil
}

// CheckGateways refuses gateways in namespaces in which they could never start, as
// pods there get no proxy, and names that another release of the installation has.
func CheckGateways(s Specification) error {
	for _, name := range s.gatewayOrder() {
		if at := s.gatewayNamespace(name); slices.Contains(neverInjected, at) {
			return fmt.Errorf("gateway %s cannot run in namespace %s: the injector of Istio never injects pods of %s",
				name, at, strings.Join(neverInjected, ", "))
		}
		if name == baseRelease || name == cniRelease || name == ztunnelRelease || name == s.release() {
			return fmt.Errorf("gateway %s has the name of another release of Istio; choose another one", name)
		}
	}
	return nil
}

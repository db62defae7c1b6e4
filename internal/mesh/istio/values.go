package istio

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// The charts of Istio that are installed. The keys of [Specification.Values].
const (
	BaseChart    = "base"
	IstiodChart  = "istiod"
	GatewayChart = "gateway"
)

// Charts returns the names of the charts that values can be given for.
func Charts() []string { return []string{BaseChart, IstiodChart, GatewayChart} }

// ownedValues are the values of a chart that this provider sets itself or
// relies on, each with the reason for which a user cannot change it.
func ownedValues(chart string) map[string]string {
	const (
		wrapper  = "the charts keep their defaults below this key; set the keys without it"
		profile  = "it follows from the attribute profile"
		revision = "istiod is installed as the default revision"
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
		owned["defaultRevision"] = revision
	case IstiodChart:
		owned["revision"] = revision
		owned["pilot.revision"] = revision
		owned["global.operatorManageWebhooks"] = whole
		owned["global.omitSidecarInjectorConfigMap"] = whole
	case GatewayChart:
		owned["revision"] = revision
		owned["name"] = "gateways are named after istioctl's"
	}
	return owned
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

// CheckNamespace refuses a namespace in which a profile's gateways could never
// start, as its pods get no proxy.
func CheckNamespace(namespace string, profile Profile) error {
	if len(profile.gateways()) > 0 && slices.Contains(neverInjected, namespace) {
		return fmt.Errorf("gateways cannot run in namespace %s: the injector of Istio never injects pods of %s",
			namespace, strings.Join(neverInjected, ", "))
	}
	return nil
}

// component is one release of an installation.
type component struct {
	release, chart string
	values         map[string]any
}

// compose returns the releases of an installation in the order in which they
// are installed: CRDs, control plane, gateways. The user's values go over the
// typed settings and over those of the profile.
func compose(s Specification) []component {
	where := map[string]any{"global": map[string]any{"istioNamespace": s.Namespace}}
	images := map[string]any{}
	if s.Hub != "" {
		// Gateways have no images of their own: the injector gives them istiod's.
		images["global"] = map[string]any{"hub": s.Hub}
	}
	components := []component{
		{baseRelease, BaseChart, helm.MergeValues(s.Values[BaseChart], where)},
		{istiodRelease, IstiodChart, helm.MergeValues(s.Profile.istiodValues(), images, s.Values[IstiodChart], where)},
	}
	for _, release := range s.Profile.gateways() {
		values := helm.MergeValues(s.Profile.gatewayValues(release), s.Values[GatewayChart])
		components = append(components, component{release, GatewayChart, values})
	}
	return components
}

package istio

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// The names of Istio's own instructions, so that an installation that follows
// them can be imported. That of istiod is Plane.release.
const (
	baseRelease    = "istio-base"
	cniRelease     = "istio-cni"
	ztunnelRelease = "ztunnel"
)

// Specification is an Istio as it should be.
type Specification struct {
	Plane
	// Repository is a Helm repository, an OCI reference or a directory that
	// holds the charts; Version the version of all of them.
	Repository, Version string
	Profile             Profile
	// CNI has istio-cni redirect the traffic of pods with sidecars too; profiles
	// that need istio-cni have it anyway.
	CNI bool
	// Gateways by the names of their releases; nil for those of the profile.
	Gateways map[string]Gateway
	// PluggedCA makes an apply insist on a CA of the user's in CACertsSecret.
	PluggedCA bool
	// Hub is the registry and path of all images; empty keeps the charts'.
	Hub string
	// Values are the user's by the name of the chart, merged over the settings
	// above. CheckValues tells which keys they must not have.
	Values map[string]map[string]any
	Now    time.Time
}

// Gateway is a gateway of one control plane.
type Gateway struct {
	// Namespace is where it runs; empty for that of the control plane.
	Namespace string
	// Values are the user's, merged over those for all gateways.
	Values map[string]any
}

// component is one release of an installation.
type component struct {
	namespace, release, chart string
	values                    map[string]any
}

// shared reports whether the component is one for all revisions of a namespace.
func (c component) shared() bool { return isShared(c.chart) }

func isShared(chart string) bool { return chart != IstiodChart && chart != GatewayChart }

// gateways are those asked for, or else those of the profile, by name.
func (s Specification) gateways() map[string]Gateway {
	if s.Gateways != nil {
		return s.Gateways
	}
	all := map[string]Gateway{}
	for _, name := range s.Profile.makeup().gateways {
		all[name] = Gateway{}
	}
	return all
}

// gatewayOrder is in which order gateways are installed: that of the profile,
// then others by name.
func (s Specification) gatewayOrder() []string {
	rank := func(name string) int {
		if i := slices.Index(s.Profile.makeup().gateways, name); i >= 0 {
			return i
		}
		return len(s.Profile.makeup().gateways)
	}
	return slices.SortedFunc(maps.Keys(s.gateways()), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

func (s Specification) gatewayNamespace(name string) string {
	return cmp.Or(s.gateways()[name].Namespace, s.Namespace)
}

// namespaces are those of the control plane and of its gateways, in order.
func (s Specification) namespaces() []string {
	all := []string{s.Namespace}
	for _, name := range s.gatewayOrder() {
		all = append(all, s.gatewayNamespace(name))
	}
	slices.Sort(all[1:])
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(n string) bool {
		again := seen[n]
		seen[n] = true
		return again
	})
}

// compose returns the releases of an installation in the order in which they
// are installed: CRDs, control plane, nodes, gateways. Only istio-cni for sidecars
// comes before istiod, which leaves the redirection of pods to it from then on. The
// user's values go over the typed settings and over those of the profile. DefaultRevision is the one
// whose istiod validates what names no revision.
func compose(s Specification, defaultRevisionName string) []component {
	profile := s.Profile.makeup()
	where := map[string]any{"global": map[string]any{"istioNamespace": s.Namespace}}
	images := map[string]any{}
	if s.Hub != "" {
		// Gateways have no images of their own: the injector gives them istiod's.
		images["global"] = map[string]any{"hub": s.Hub}
	}
	revision := map[string]any{}
	if s.Revision != "" {
		revision["revision"] = s.Revision
	}
	base := helm.MergeValues(s.Values[BaseChart], where)
	if defaultRevisionName != defaultRevision {
		base = helm.MergeValues(base, map[string]any{"defaultRevision": defaultRevisionName})
	}
	redirected := map[string]any{}
	if s.CNI && !profile.cni {
		redirected["pilot"] = map[string]any{"cni": map[string]any{"enabled": true}}
	}
	components := []component{
		{s.Namespace, baseRelease, BaseChart, base},
		{s.Namespace, s.release(), IstiodChart, helm.MergeValues(profile.chartValues(), images, redirected, s.Values[IstiodChart], where, revision)},
	}
	nodes := component{s.Namespace, cniRelease, CNIChart, helm.MergeValues(profile.chartValues(), images, s.Values[CNIChart], where)}
	switch {
	case profile.cni:
		components = append(components, nodes)
	case s.CNI:
		components = slices.Insert(components, 1, nodes)
	}
	if profile.ztunnel {
		values := helm.MergeValues(profile.chartValues(), images, s.Values[ZtunnelChart], map[string]any{"istioNamespace": s.Namespace}, revision)
		components = append(components, component{s.Namespace, ztunnelRelease, ZtunnelChart, values})
	}
	for _, name := range s.gatewayOrder() {
		values := helm.MergeValues(profile.gatewayValues(name), s.Values[GatewayChart], s.gateways()[name].Values, revision)
		components = append(components, component{s.gatewayNamespace(name), name, GatewayChart, values})
	}
	return components
}

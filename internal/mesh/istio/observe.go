package istio

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// Installed is an Istio as it is.
type Installed struct {
	// Version is the version of istiod's chart; empty if istiod is missing.
	Version string
	// What an import is told by what is there. Gateways are nil if they are those
	// of the profile.
	Profile  Profile
	CNI      bool
	Gateways map[string]Gateway
	// ValuesDigest is the digest of the values of the control plane's own releases;
	// empty if one is missing.
	ValuesDigest string
	// Drift says what is not as it was installed.
	Drift []string
}

// Observe looks at an Istio that was specified as given. If kinds are given, of
// all objects only those of these are compared, and no pods are looked at. The
// error is helm.ErrReleaseNotFound if nothing of it is there.
func (i Installer) Observe(ctx context.Context, s Specification, kinds ...kube.Kind) (Installed, error) {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return Installed{}, err
	}
	wanted := compose(s, found.validating())
	if !found.any(wanted) {
		unmanaged, err := i.observeUnmanaged(ctx, s.Plane)
		if isNotFound(err) {
			err = fmt.Errorf("release %s/%s: %w", s.Namespace, s.release(), helm.ErrReleaseNotFound)
		}
		return unmanaged, err
	}
	observed := Installed{Version: found.versionHere(), Profile: s.Profile, CNI: s.CNI, Gateways: s.Gateways}
	if err := i.observeReleases(ctx, found, wanted, &observed, kinds); err != nil {
		return Installed{}, err
	}
	if len(kinds) > 0 {
		return observed, nil
	}
	stale, err := i.staleGateways(ctx, s)
	if err != nil {
		return Installed{}, err
	}
	for _, ref := range stale {
		observed.Drift = append(observed.Drift, ref.String()+" runs another proxy than istiod injects")
	}
	return observed, nil
}

// Discover looks at an Istio of which nothing is known but where it is, as an
// import does; the error is helm.ErrReleaseNotFound if there is no istiod.
func (i Installer) Discover(ctx context.Context, p Plane, kinds ...kube.Kind) (Installed, error) {
	gateways, err := i.gatewayNamespaces(ctx, p)
	if err != nil {
		return Installed{}, err
	}
	found, err := i.inventoryOf(ctx, p, gateways...)
	if err != nil {
		return Installed{}, err
	}
	s := Specification{Plane: p, Profile: ProfileMinimal}
	if found.here(p.release()) != nil {
		s.Profile, s.CNI, s.Gateways = found.guess()
	}
	return i.Observe(ctx, s, kinds...)
}

// gatewayNamespaces are those in which a plane may have gateways of Helm's: with
// Deployments of a release that are given its proxy.
func (i Installer) gatewayNamespaces(ctx context.Context, p Plane) ([]string, error) {
	deployments, err := i.Cluster.List(ctx, kube.Deployment, "")
	var found []string
	for _, d := range deployments {
		templates, _, _ := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "annotations")
		if templates[templatesAnnotation] == "gateway" && d.GetAnnotations()[helmReleaseAnnotation] != "" && d.GetNamespace() != p.Namespace {
			found = append(found, d.GetNamespace())
		}
	}
	slices.Sort(found)
	return slices.Compact(found), err
}

// any reports whether anything of a control plane is there; what it shares with
// others says nothing.
func (v inventory) any(components []component) bool {
	return slices.ContainsFunc(components, func(c component) bool {
		return v.find(c) != nil && (!c.shared() || len(v.others()) == 0)
	})
}

// guess tells the profile from what is installed.
func (v inventory) guess() (profile Profile, cni bool, gateways map[string]Gateway) {
	names, elsewhere := map[string]Gateway{}, false
	for namespace, releases := range v.releases {
		for name, release := range releases {
			if release.ChartName != GatewayChart || revisionLabelOf(release) != v.plane.Label() {
				continue
			}
			gateway := Gateway{}
			if namespace != v.plane.Namespace {
				gateway.Namespace, elsewhere = namespace, true
			}
			names[name] = gateway
		}
	}
	has := func(name string) bool { gateway, there := names[name]; return there && gateway.Namespace == "" }
	charts, _ := v.here(v.plane.release()).Values["profile"].(string)
	switch {
	case charts == string(ProfileAmbient):
		profile = ProfileAmbient
	case charts == string(ProfileDemo):
		profile = ProfileDemo
	case has(ingressGateway):
		profile = ProfileDefault
	default:
		profile = ProfileMinimal
	}
	selected := profile.makeup()
	if !elsewhere && len(names) == len(selected.gateways) && !slices.ContainsFunc(selected.gateways, func(name string) bool { return !has(name) }) {
		names = nil
	}
	// Another revision may be why istio-cni is there.
	chained, _, _ := unstructured.NestedBool(v.here(v.plane.release()).Values, "pilot", "cni", "enabled")
	return profile, !selected.cni && chained && v.here(cniRelease) != nil, names
}

// observeReleases compares the releases with what is wanted, with each other and
// with the cluster.
func (i Installer) observeReleases(ctx context.Context, found inventory, wanted []component, observed *Installed, kinds []kube.Kind) error {
	values, whole := map[string]any{}, true
	say := func(format string, args ...any) {
		observed.Drift = append(observed.Drift, fmt.Sprintf(format, args...))
	}
	for _, c := range wanted {
		release := found.find(c)
		switch {
		case release == nil:
			alone, err := i.leftAlone(ctx, c)
			if err != nil {
				return err
			}
			if !alone {
				say("release %s/%s is missing", c.namespace, c.release)
				whole = whole && c.shared()
			}
			continue
		case c.shared() && !found.governs(observed.Version):
			continue
		case c.chart == GatewayChart && revisionLabelOf(release) != found.plane.Label():
			say("release %s/%s belongs to revision %s by now", c.namespace, c.release, revisionLabelOf(release))
			whole = false
			continue
		}
		if observed.Version != "" && release.ChartVersion != observed.Version {
			say("release %s/%s is of version %s instead of %s", c.namespace, c.release, release.ChartVersion, observed.Version)
		}
		drift, err := i.Drift(ctx, release, Yields(), kinds...)
		if err != nil {
			return err
		}
		observed.Drift = append(observed.Drift, drift...)
		if !c.shared() {
			values[c.namespace+"/"+c.release] = release.Values
		} else if install.Ours(release) && !same(release.Values, c.values) {
			// Another revision may have governed before; which of the values is no
			// matter of a plan.
			say("the values of release %s/%s are not those of this control plane, which is the newest of its namespace", c.namespace, c.release)
		}
	}
	for _, release := range found.dropped(wanted, Specification{Plane: found.plane, Version: observed.Version}, nil) {
		say("release %s/%s is left over", release.Namespace, release.Name)
	}
	if !whole {
		return nil
	}
	var err error
	observed.ValuesDigest, err = install.Digest(values)
	return err
}

// leftAlone reports whether a gateway is there that istioctl has made and that no
// release can take over.
func (i Installer) leftAlone(ctx context.Context, c component) (bool, error) {
	if c.chart != GatewayChart {
		return false, nil
	}
	existing, err := i.unclaimed(ctx, c)
	return existing != nil && !maps.Equal(existing.selector(), gatewaySelector(c)), err
}

// same reports whether two mappings hold the same values, whether or not one of
// them has been on record meanwhile.
func same(recorded, composed map[string]any) bool {
	if len(recorded) == 0 && len(composed) == 0 {
		return true
	}
	a, err := install.Digest(recorded)
	b, err2 := install.Digest(composed)
	return err == nil && err2 == nil && a == b
}

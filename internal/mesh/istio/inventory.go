package istio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// An inventory is the Helm releases in the namespaces of a control plane.
type inventory struct {
	plane    Plane
	releases map[string]map[string]*helm.Release // by namespace and name
}

// inventoryOf reads the releases of namespaces by one request each.
func (i Installer) inventoryOf(ctx context.Context, plane Plane, namespaces ...string) (inventory, error) {
	found := inventory{plane: plane, releases: map[string]map[string]*helm.Release{}}
	for _, namespace := range append(namespaces, plane.Namespace) {
		if found.releases[namespace] != nil {
			continue
		}
		releases, err := i.Releases.List(ctx, namespace)
		if err != nil {
			return inventory{}, err
		}
		found.releases[namespace] = map[string]*helm.Release{}
		for name, release := range releases {
			if release.Status != helm.StatusUninstalled {
				found.releases[namespace][name] = release
			}
		}
	}
	return found, nil
}

func (v inventory) find(c component) *helm.Release { return v.releases[c.namespace][c.release] }

func (v inventory) here(name string) *helm.Release { return v.releases[v.plane.Namespace][name] }

// istiods are the releases of the namespace's control planes by their revisions.
func (v inventory) istiods() map[string]*helm.Release {
	found := map[string]*helm.Release{}
	for _, release := range v.releases[v.plane.Namespace] {
		if release.ChartName == IstiodChart {
			found[revisionLabelOf(release)] = release
		}
	}
	return found
}

// others are the istiods of the namespace besides the plane's own.
func (v inventory) others() map[string]*helm.Release {
	all := v.istiods()
	delete(all, v.plane.Label())
	return all
}

// gateways are the releases of gateways that belong to the plane, by namespace
// and name: those that this provider has made.
func (v inventory) gateways() []*helm.Release {
	var found []*helm.Release
	for _, namespace := range slices.Sorted(maps.Keys(v.releases)) {
		for _, name := range slices.Sorted(maps.Keys(v.releases[namespace])) {
			release := v.releases[namespace][name]
			if release.ChartName == GatewayChart && revisionLabelOf(release) == v.plane.Label() && install.Ours(release) {
				found = append(found, release)
			}
		}
	}
	return found
}

// revisionLabelOf is the revision that a release of istiod or of a gateway is of.
func revisionLabelOf(release *helm.Release) string {
	for _, way := range [][]string{{"pilot", "revision"}, {"revision"}} {
		if name, _, err := unstructured.NestedString(release.Values, way...); err == nil && name != "" {
			return name
		}
	}
	return defaultRevision
}

// governs reports whether the plane, at a version, decides on what all revisions
// of the namespace share: that is the newest of them, and of two alike the
// default one, or the first by name. Older ones never take anything back.
func (v inventory) governs(version string) bool {
	for label, other := range v.others() {
		switch order := compareVersions(version, other.ChartVersion); {
		case order < 0:
			return false
		case order == 0 && label != defaultRevision && v.plane.Revision == "":
		case order == 0 && (label == defaultRevision || label < v.plane.Revision):
			return false
		}
	}
	return true
}

// compareVersions takes what is no version for the same as any.
func compareVersions(a, b string) int {
	left, errLeft := semver.NewVersion(a)
	right, errRight := semver.NewVersion(b)
	if errLeft != nil || errRight != nil {
		return 0
	}
	return left.Compare(right)
}

// validating is the revision whose istiod is to validate what names no revision:
// the one that does, as long as it is there.
func (v inventory) validating() string {
	base := v.here(baseRelease)
	if base == nil {
		return v.plane.Label()
	}
	current, set := base.Values["defaultRevision"].(string)
	if !set {
		current = defaultRevision
	}
	if _, there := v.istiods()[current]; there || current == "" {
		return current
	}
	return v.plane.Label()
}

// needed reports whether one of the other revisions needs a chart that they
// share, by the values that its istiod was installed with.
func (v inventory) needed(chart string) bool {
	for _, istiod := range v.others() {
		if needs(istiod, chart) {
			return true
		}
	}
	return false
}

// needs reports whether the release of an istiod needs a chart that revisions
// share, by its values.
func needs(istiod *helm.Release, chart string) bool {
	profile, _ := istiod.Values["profile"].(string)
	chained, _, _ := unstructured.NestedBool(istiod.Values, "pilot", "cni", "enabled")
	ambient := profile == string(ProfileAmbient)
	return chart == BaseChart || chart == CNIChart && (ambient || chained) || chart == ZtunnelChart && ambient
}

// checkNeighbours refuses a version that cannot be beside those of the other
// revisions of the namespace: they may be two minor versions apart, as Istio
// supports it for canaries, and one if they share the nodes' agents.
func (v inventory) checkNeighbours(s Specification) error {
	others, most := v.others(), uint64(2)
	if s.CNI || s.Profile.makeup().cni || v.needed(CNIChart) {
		most = 1
	}
	for _, label := range slices.Sorted(maps.Keys(others)) {
		if err := checkStep(others[label].ChartVersion, s.Version, most); err != nil {
			return &VersionError{fmt.Errorf("revision %s of the same namespace is of version %s: %w", label, others[label].ChartVersion, err)}
		}
	}
	return nil
}

// VersionError tells that a version of Istio cannot follow another one, or be
// beside it.
type VersionError struct{ err error }

func (e *VersionError) Error() string { return e.err.Error() }

func (e *VersionError) Unwrap() error { return e.err }

// CheckUpgrade refuses a change of a control plane's version that Istio does not
// support: over more than one minor version, in whichever direction. The error is
// a *[VersionError] that names the version to go through.
func CheckUpgrade(from, to string) error {
	if err := checkStep(from, to, 1); err != nil {
		return &VersionError{fmt.Errorf("from %s to %s: %w", from, to, err)}
	}
	return nil
}

// checkStep refuses versions that are more than so many minor versions apart.
func checkStep(from, to string, most uint64) error {
	before, err := semver.NewVersion(from)
	if err != nil {
		return nil //nolint:nilerr // Of a version of nobody's counting, nothing can be said.
	}
	after, err := semver.NewVersion(to)
	if err != nil {
		return nil //nolint:nilerr // The same.
	}
	if before.Major() != after.Major() {
		return errors.New("no change of the major version in place is supported")
	}
	lower, higher := before.Minor(), after.Minor()
	verb, through := "upgrades", lower+1
	if lower > higher {
		lower, higher = higher, lower
		verb, through = "downgrades", higher-1
	}
	if higher-lower <= most {
		return nil
	}
	if most > 1 {
		return fmt.Errorf("revisions may be at most %d minor versions apart", most)
	}
	return fmt.Errorf("%s are supported over one minor version at a time: go through a version %d.%d first", verb, before.Major(), through)
}

// existing tells apart what is in a namespace before anything of the plane's was
// installed by this provider. What revisions share says nothing of this one: another
// one may have just been made by the same apply, or be somebody else's.
func (v inventory) existing(components []component) (ours bool, foreign error) {
	others := len(v.others()) > 0
	for _, c := range components {
		release := v.find(c)
		switch {
		case release == nil, c.shared() && others:
		case c.chart == GatewayChart && v.takesOver(release):
		case c.chart == GatewayChart && (others || release.ChartName != GatewayChart) && !install.Ours(release):
			return false, foreignGateway(release)
		case !install.Ours(release):
			return false, fmt.Errorf("release %s/%s: %w", c.namespace, c.release, install.ErrForeign)
		default:
			ours = ours || !c.shared()
		}
	}
	return ours, nil
}

// takesOver reports whether a gateway of another revision may become one of the
// plane's, as it stays in place then: one that this provider has made.
func (v inventory) takesOver(gateway *helm.Release) bool {
	return gateway.ChartName == GatewayChart && revisionLabelOf(gateway) != v.plane.Label() && install.Ours(gateway)
}

func foreignGateway(release *helm.Release) error {
	return fmt.Errorf("release %s/%s of chart %s was not made by this provider: give the gateway of this name another one, or none (gateways = {})",
		release.Namespace, release.Name, release.ChartName)
}

// checkRecord refuses to upgrade a release that is not the component, or somebody
// else's. Those of an Istio that was imported become this provider's by that.
func (v inventory) checkRecord(c component, record *helm.Release, former []component) error {
	had := slices.ContainsFunc(former, func(f component) bool { return f.namespace == c.namespace && f.release == c.release })
	istiod := v.here(v.plane.release())
	imported := len(former) > 0 && (istiod == nil || !install.Ours(istiod))
	switch {
	case c.chart == GatewayChart && record.ChartName == c.chart && revisionLabelOf(record) != v.plane.Label() && had:
		return fmt.Errorf("release %s/%s is a gateway of revision %s by now: take it out of the gateways of revision %s",
			c.namespace, c.release, revisionLabelOf(record), v.plane.Label())
	case c.chart == GatewayChart && v.takesOver(record):
		return nil
	case c.chart == GatewayChart && (record.ChartName != c.chart || !install.Ours(record) && !had && !imported):
		return foreignGateway(record)
	case record.ChartName != c.chart:
		return fmt.Errorf("release %s/%s is of chart %s instead of %s: it is not Istio's; remove it, or install Istio in another namespace", c.namespace, c.release, record.ChartName, c.chart)
	}
	return nil
}

// versionHere is the version of the plane's istiod; empty if it has none.
func (v inventory) versionHere() string {
	istiod := v.here(v.plane.release())
	if istiod == nil {
		return ""
	}
	return cmp.Or(istiod.ChartVersion, istiod.AppVersion)
}

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
		profile, _ := istiod.Values["profile"].(string)
		chained, _, _ := unstructured.NestedBool(istiod.Values, "pilot", "cni", "enabled")
		ambient := profile == string(ProfileAmbient)
		if chart == BaseChart || chart == CNIChart && (ambient || chained) || chart == ZtunnelChart && ambient {
			return true
		}
	}
	return false
}

// checkNeighbours refuses a version that cannot be beside those of the other
// revisions of the namespace, as they share the CRDs and the nodes' agents.
func (v inventory) checkNeighbours(version string) error {
	others := v.others()
	for _, label := range slices.Sorted(maps.Keys(others)) {
		if err := checkStep(others[label].ChartVersion, version); err != nil {
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
	if err := checkStep(from, to); err != nil {
		return &VersionError{fmt.Errorf("from %s to %s: %w", from, to, err)}
	}
	return nil
}

func checkStep(from, to string) error {
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
	if higher-lower <= 1 {
		return nil
	}
	return fmt.Errorf("%s are supported over one minor version at a time: go through a version %d.%d first", verb, before.Major(), through)
}

// existing tells apart what is in a namespace before anything of the plane's was
// installed by this provider.
func (v inventory) existing(components []component) (ours bool, foreign error) {
	for _, c := range components {
		release := v.find(c)
		switch {
		case release == nil:
		case c.chart == GatewayChart && revisionLabelOf(release) != v.plane.Label() && release.ChartName == GatewayChart:
			return false, fmt.Errorf("release %s/%s is a gateway of revision %s: give this revision's another name or none (gateways = {}), or take it out of the other's first",
				c.namespace, c.release, revisionLabelOf(release))
		case !install.Ours(release):
			return false, fmt.Errorf("release %s/%s: %w", c.namespace, c.release, install.ErrForeign)
		default:
			// What revisions share says nothing of this one while there are others.
			ours = ours || !c.shared() || len(v.others()) == 0
		}
	}
	return ours, nil
}

// versionHere is the version of the plane's istiod; empty if it has none.
func (v inventory) versionHere() string {
	istiod := v.here(v.plane.release())
	if istiod == nil {
		return ""
	}
	return cmp.Or(istiod.ChartVersion, istiod.AppVersion)
}

package istio

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// Repository is the Helm repository of Istio's releases.
const Repository = "https://istio-release.storage.googleapis.com/charts"

// Installer installs Istio and looks after it.
type Installer struct{ install.Charts }

// Prepared is an installation of which everything that can fail without
// changing the cluster has been done.
type Prepared struct {
	specification Specification
	releases      []install.Release
	dropped       []*helm.Release
	// shared are the records of what revisions share.
	shared []*helm.Release
	// left are namespaces of gateways that have none any more.
	left []string
	// Notes say, one line each, what is done otherwise than asked for, and why.
	Notes []string
}

// Existing tells whether what is there already was left by an apply that was cut
// off. If there is an Istio that this provider has not made, by Helm or by istioctl,
// the error is an install.ErrForeign.
func (i Installer) Existing(ctx context.Context, s Specification) (bool, error) {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return false, err
	}
	ours, err := found.existing(compose(s, found.validating()))
	if err != nil || ours {
		return ours, err
	}
	unmanaged, err := i.unmanaged(ctx, found)
	if err == nil && unmanaged != nil {
		err = unmanaged
	}
	return false, err
}

// Prepare fetches the charts, checks the user's values and works out what is to
// be deployed and what goes, without changing anything. Former is what was applied
// last; nil if nothing was. Errors are *[install.ValuesError], for the chart that
// has no place for values, and *[VersionError].
func (i Installer) Prepare(ctx context.Context, s Specification, former *Specification) (*Prepared, error) {
	namespaces := s.namespaces()
	if former != nil {
		namespaces = append(namespaces, former.namespaces()...)
	}
	found, err := i.inventoryOf(ctx, s.Plane, namespaces...)
	if err != nil {
		return nil, err
	}
	if version := found.versionHere(); version != "" {
		if err := CheckUpgrade(version, s.Version); err != nil {
			return nil, err
		}
	}
	if err := found.checkNeighbours(s); err != nil {
		return nil, err
	}
	prepared := &Prepared{specification: s}
	wanted := compose(s, found.validating())
	for _, c := range wanted {
		if err := i.prepare(ctx, prepared, found, c, former); err != nil {
			return nil, err
		}
	}
	prepared.dropped = found.dropped(wanted, s, former)
	for _, name := range []string{baseRelease, cniRelease, ztunnelRelease} {
		if record := found.here(name); record != nil {
			prepared.shared = append(prepared.shared, record)
		}
	}
	for _, namespace := range slices.Compact(slices.Sorted(slices.Values(namespaces))) {
		if !slices.Contains(s.namespaces(), namespace) {
			prepared.left = append(prepared.left, namespace)
		}
	}
	return prepared, nil
}

// prepare adds a component to an installation, unless it is another's to keep.
func (i Installer) prepare(ctx context.Context, prepared *Prepared, found inventory, c component, former *Specification) error {
	s := prepared.specification
	record := found.find(c)
	if c.shared() && record != nil && !found.governs(s.Version) {
		return nil
	}
	if record != nil {
		var before []component
		if former != nil {
			before = compose(*former, defaultRevision)
		}
		if err := found.checkRecord(c, record, before); err != nil {
			return err
		}
	}
	chart, err := i.Load(ctx, s.Repository, c.chart, s.Version)
	if err != nil {
		return err
	}
	own := []map[string]any{s.Values[c.chart]}
	if c.chart == GatewayChart {
		own = append(own, s.gateways()[c.release].Values)
	}
	for _, values := range own {
		if err := install.CheckValues(chart, values, removedValues(c.chart)); err != nil {
			return err
		}
	}
	release := install.Release{Namespace: c.namespace, Name: c.release, Chart: chart, Values: c.values, Yields: Yields()}
	if c.chart == IstiodChart {
		release.Ready = func(ctx context.Context) error { return i.answers(ctx, s.Plane) }
	}
	if former != nil && install.Adoptable(record) {
		adopted, err := i.adopt(ctx, &release, c)
		if err != nil {
			return err
		}
		if adopted != "" {
			prepared.Notes = append(prepared.Notes, adopted)
		}
		if release.Name == "" {
			return nil
		}
	}
	prepared.releases = append(prepared.releases, release)
	return nil
}

// dropped are the releases that go: gateways that are wanted no more, and what
// runs on nodes once no revision needs it. Those of others are left.
func (v inventory) dropped(wanted []component, s Specification, former *Specification) []*helm.Release {
	var doomed []*helm.Release
	drop := func(release *helm.Release) {
		if release == nil || slices.Contains(doomed, release) || slices.ContainsFunc(wanted, func(c component) bool {
			return c.namespace == release.Namespace && c.release == release.Name
		}) {
			return
		}
		doomed = append(doomed, release)
	}
	if former != nil {
		for _, c := range compose(*former, defaultRevision) {
			switch release := v.find(c); {
			case release == nil, c.chart == GatewayChart && revisionLabelOf(release) != v.plane.Label():
			case c.shared() && (v.needed(c.chart) || !v.governs(s.Version)):
			default:
				drop(release)
			}
		}
	}
	for _, release := range v.gateways() {
		drop(release)
	}
	for _, name := range []string{cniRelease, ztunnelRelease} {
		release := v.here(name)
		if release != nil && install.Ours(release) && v.governs(s.Version) && !v.needed(release.ChartName) {
			drop(release)
		}
	}
	return doomed
}

// Foresee tells what Apply would do to which object: of the plane's own releases,
// and, apart, of those that it shares with other revisions of the namespace, which
// another apply at the same time may do before. Errors are those of install.Charts,
// and an *[install.ValuesError] for a chart that refuses to be rendered with the
// user's values.
func (i Installer) Foresee(ctx context.Context, p *Prepared) (own, shared []kube.Change, err error) {
	parts := map[kube.Ref]bool{}
	learn := func(rendered *helm.Rendered) error {
		objects, err := rendered.Objects()
		for _, o := range objects {
			parts[part(o.GetKind(), o.GetName())] = true
		}
		return err
	}
	for _, release := range p.releases {
		rendered, err := i.Render(ctx, release)
		if given := p.specification.given(release); err != nil && ctx.Err() == nil && given {
			return nil, nil, &install.ValuesError{Chart: release.Chart.Name(), Err: err}
		}
		if err == nil && isShared(release.Chart.Name()) {
			err = learn(rendered)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for _, record := range p.shared {
		if err := learn(&record.Rendered); err != nil {
			return nil, nil, fmt.Errorf("release %s/%s: %w", record.Namespace, record.Name, err)
		}
	}
	changes, err := i.Charts.Foresee(ctx, p.releases, p.dropped)
	for _, change := range changes {
		if parts[part(change.Ref.Kind.Name, change.Ref.Name)] {
			shared = append(shared, change)
		} else {
			own = append(own, change)
		}
	}
	return own, shared, err
}

// part tells the objects of Istio's charts apart, of which no two that run in one
// namespace have objects of the same kind and name.
func part(kind, name string) kube.Ref { return kube.Ref{Kind: kube.Kind{Name: kind}, Name: name} }

// given reports whether the user has given values for a release's chart.
func (s Specification) given(release install.Release) bool {
	return len(s.Values[release.Chart.Name()]) > 0 || release.Chart.Name() == GatewayChart && len(s.gateways()[release.Name].Values) > 0
}

// Apply brings the cluster to the specification: CRDs, then istiod, then, once
// its webhooks answer, the nodes' agents and the gateways; and returns once all is
// healthy. What is wanted no more goes last. With atomic, releases whose upgrade
// fails go back to what they were. It may be repeated.
func (i Installer) Apply(ctx context.Context, p *Prepared, atomic bool) error {
	err := i.apply(ctx, p, atomic)
	if err != nil {
		err = errors.Join(err, i.letGo(ctx, p.specification))
	}
	return err
}

// letGo gives up the namespaces that a control plane holds of which nothing is
// there after a failure: nothing else would do it.
func (i Installer) letGo(ctx context.Context, s Specification) error {
	ctx, cancel := mesh.LastLook(ctx)
	defer cancel()
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil || found.any(compose(s, defaultRevision)) {
		return err
	}
	if unmanaged, err := i.unmanaged(ctx, found); err != nil || unmanaged != nil {
		return err
	}
	for _, namespace := range s.namespaces() {
		if err := i.Cluster.ReleaseNamespace(ctx, namespace, s.holder()); err != nil {
			return err
		}
	}
	return nil
}

func (i Installer) apply(ctx context.Context, p *Prepared, atomic bool) error {
	s := p.specification
	if s.PluggedCA {
		if err := i.checkCA(ctx, s); err != nil {
			return err
		}
	}
	for _, namespace := range s.namespaces() {
		labels, annotations := NamespaceMetadata(namespace)
		if _, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: namespace, Holder: s.holder(), Labels: labels, Annotations: annotations}); err != nil {
			return err
		}
	}
	if err := i.Charts.Apply(ctx, p.releases, atomic); err != nil {
		return err
	}
	for _, release := range slices.Backward(p.dropped) {
		if err := i.Uninstall(ctx, release.Namespace, release.Name, helm.UninstallOptions{Wait: true}); err != nil {
			return err
		}
	}
	for _, namespace := range p.left {
		if err := i.Cluster.ReleaseNamespace(ctx, namespace, s.holder()); err != nil {
			return err
		}
	}
	return i.refreshGateways(ctx, s)
}

// checkCA verifies what istiod would refuse to start with, or would silently
// replace by a CA of its own: it chooses its CA once, when it starts.
func (i Installer) checkCA(ctx context.Context, s Specification) error {
	ref := kube.Ref{Kind: kube.Secret, Namespace: s.Namespace, Name: CACertsSecret}
	secret, err := i.Cluster.Secret(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("%s: the issuer is not there; create it with aksmesh_issuer and refer to its id: %w", ref, err)
	}
	if err != nil {
		return err
	}
	ca, bundle, err := parseCACerts(secret.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if err := CheckCA(ca.Chain(), bundle, s.Now); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	return nil
}

// IssuerInPlace tells whether the CA of the user's in a namespace, if there is
// one, was put there by this provider.
func (i Installer) IssuerInPlace(ctx context.Context, namespace string) (bool, error) {
	secret, err := i.Cluster.Secret(ctx, namespace, CACertsSecret)
	if errors.Is(err, kube.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return kube.Ours(secret.Labels), nil
}

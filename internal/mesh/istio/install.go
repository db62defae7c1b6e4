package istio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

const (
	// Repository is the Helm repository of Istio's releases.
	Repository = "https://istio-release.storage.googleapis.com/charts"

	// The names of Istio's own instructions, so that an installation that
	// follows them can be imported.
	baseRelease   = "istio-base"
	istiodRelease = "istiod"

	namespaceHolder = "istio"
)

// Specification is an Istio as it should be.
type Specification struct {
	Namespace string
	// Repository is a Helm repository, an OCI reference or a directory that
	// holds the charts; Version the version of all of them.
	Repository, Version string
	Profile             Profile
	// PluggedCA makes an apply insist on a CA of the user's in CACertsSecret.
	PluggedCA bool
	// Hub is the registry and path of all images; empty keeps the charts'.
	Hub string
	// Values are the user's by the name of the chart, merged over the settings
	// above. CheckValues tells which keys they must not have.
	Values map[string]map[string]any
	Now    time.Time
}

// Installer installs Istio in sidecar mode and looks after it.
type Installer struct{ install.Charts }

// Resumable tells whether what is in the namespace was left by an apply that
// was cut off; install.ErrForeign when a release of the profile is not ours.
func (i Installer) Resumable(ctx context.Context, namespace string, profile Profile) (bool, error) {
	found := false
	for _, release := range append([]string{baseRelease, istiodRelease}, profile.gateways()...) {
		ours, err := i.Charts.Resumable(ctx, namespace, release)
		if err != nil {
			return false, err
		}
		found = found || ours
	}
	return found, nil
}

// Prepared is an installation of which everything that can fail without
// changing the cluster has been done.
type Prepared struct {
	specification Specification
	releases      []install.Release
}

// Prepare fetches the charts, composes their values and renders them for the
// cluster: what a chart refuses is known before anything has changed. That is
// an *[install.ValuesError] if the user has given values for the chart.
func (i Installer) Prepare(ctx context.Context, s Specification) (*Prepared, error) {
	prepared := &Prepared{specification: s}
	for _, c := range compose(s) {
		chart, err := i.Load(ctx, s.Repository, c.chart, s.Version)
		if err != nil {
			return nil, err
		}
		_, err = i.Releases.Render(ctx, helm.DeployRequest{Namespace: s.Namespace, Name: c.release, Chart: chart, Values: c.values})
		if err != nil && ctx.Err() == nil && len(s.Values[c.chart]) > 0 {
			return nil, &install.ValuesError{Chart: c.chart, Err: err}
		}
		if err != nil {
			return nil, err
		}
		prepared.releases = append(prepared.releases, install.Release{Namespace: s.Namespace, Name: c.release, Chart: chart, Values: c.values})
	}
	return prepared, nil
}

// Apply brings the cluster to the specification: CRDs, then istiod, then,
// once it injects, the gateways; and returns once all is healthy. Gateways of
// the former profile that this one lacks go; it is empty if there was none.
// It may be repeated.
func (i Installer) Apply(ctx context.Context, p *Prepared, former Profile) error {
	s := p.specification
	if s.PluggedCA {
		if err := i.checkCA(ctx, s); err != nil {
			return err
		}
	}
	labels, annotations := NamespaceMetadata(s.Namespace)
	if _, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: s.Namespace, Holder: namespaceHolder, Labels: labels, Annotations: annotations}); err != nil {
		return err
	}
	if err := i.dropGateways(ctx, s.Namespace, former.gateways(), s.Profile.gateways()); err != nil {
		return err
	}
	for _, release := range p.releases {
		if err := i.Deploy(ctx, release); err != nil {
			return err
		}
		if release.Name != istiodRelease {
			continue
		}
		// Without the injector, the image of gateways stays the word `auto`, and
		// an enrolment that follows would be refused.
		if err := i.awaitInjector(ctx, s.Namespace); err != nil {
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

// dropGateways uninstalls the gateways that are not wanted: those named, and
// those that this provider has installed. Others of the same names are left.
func (i Installer) dropGateways(ctx context.Context, namespace string, named, wanted []string) error {
	for _, release := range gatewayReleases() {
		if slices.Contains(wanted, release) {
			continue
		}
		drop := slices.Contains(named, release)
		if !drop {
			var err error
			if drop, err = i.Charts.Resumable(ctx, namespace, release); err != nil && !errors.Is(err, install.ErrForeign) {
				return err
			}
		}
		if drop {
			if err := i.Releases.Uninstall(ctx, namespace, release, helm.UninstallOptions{Wait: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// injectorConfiguration names the webhooks of the default revision.
func injectorConfiguration(namespace string) kube.Ref {
	name := injectorConfigMap
	if namespace != DefaultNamespace {
		name += "-" + namespace
	}
	return kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: name}
}

// awaitInjector waits until the API server can call the injector: istiod
// publishes the CA bundle of its webhooks some time after it is ready.
func (i Installer) awaitInjector(ctx context.Context, namespace string) error {
	ref := injectorConfiguration(namespace)
	return i.Cluster.Await(ctx, "", []kube.Kind{ref.Kind}, func(ctx context.Context) (string, error) {
		all, err := i.Cluster.List(ctx, ref.Kind, "")
		if err != nil {
			return "", err
		}
		for _, w := range all {
			if w.GetName() == ref.Name && trusted(w) {
				return "", nil
			}
		}
		return fmt.Sprintf("istiod to publish the CA bundle of its injector in %s", ref), nil
	})
}

// Installed is an Istio as it is.
type Installed struct {
	// Profile is that of the gateways which are there if none was expected.
	Profile Profile
	// Version is the version of istiod's chart; empty if istiod is missing.
	Version string
	// ValuesDigest is the digest of the values of all releases; empty if one is
	// missing.
	ValuesDigest string
	// Drift says what is not as it was installed.
	Drift []string
}

// Observe looks at the Istio in a namespace, of which a profile is expected
// unless it is empty. The error is helm.ErrReleaseNotFound if there is neither
// istiod nor anything else of it.
func (i Installer) Observe(ctx context.Context, namespace string, profile Profile) (Installed, error) {
	releases := map[string]*helm.Release{}
	var missing error
	for _, name := range append([]string{baseRelease, istiodRelease}, gatewayReleases()...) {
		release, err := i.Releases.Get(ctx, namespace, name)
		if err == nil && release.Status == helm.StatusUninstalled {
			err = fmt.Errorf("release %s/%s: %w", namespace, name, helm.ErrReleaseNotFound)
		}
		switch {
		case err == nil:
			releases[name] = release
		case !errors.Is(err, helm.ErrReleaseNotFound):
			return Installed{}, err
		default:
			missing = err
		}
	}
	istiod := releases[istiodRelease]
	if len(releases) == 0 || profile == "" && istiod == nil {
		return Installed{}, missing
	}
	found := Installed{Profile: profile}
	if profile == "" {
		found.Profile = profileOf(releases)
	}
	if istiod != nil {
		found.Version = istiod.ChartVersion
	}
	if err := i.observeReleases(ctx, namespace, releases, &found); err != nil {
		return Installed{}, err
	}
	stale, err := i.staleGateways(ctx, namespace, found.Profile)
	if err != nil {
		return Installed{}, err
	}
	for _, ref := range stale {
		found.Drift = append(found.Drift, ref.String()+" runs another proxy than istiod injects")
	}
	return found, nil
}

// profileOf tells the profile from what is installed.
func profileOf(releases map[string]*helm.Release) Profile {
	switch {
	case releases[egressGateway] != nil || releases[istiodRelease].Values["profile"] == string(ProfileDemo):
		return ProfileDemo
	case releases[ingressGateway] != nil:
		return ProfileDefault
	default:
		return ProfileMinimal
	}
}

// observeReleases compares the releases with the profile, with each other and
// with the cluster.
func (i Installer) observeReleases(ctx context.Context, namespace string, releases map[string]*helm.Release, found *Installed) error {
	values := map[string]any{}
	wanted := append([]string{baseRelease, istiodRelease}, found.Profile.gateways()...)
	for _, name := range wanted {
		release := releases[name]
		if release == nil {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is missing", namespace, name))
			continue
		}
		if found.Version != "" && release.ChartVersion != found.Version {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is of version %s instead of %s", namespace, name, release.ChartVersion, found.Version))
		}
		drift, err := i.Drift(ctx, release, Yields())
		if err != nil {
			return err
		}
		found.Drift = append(found.Drift, drift...)
		values[name] = release.Values
	}
	for _, name := range gatewayReleases() {
		if releases[name] == nil || slices.Contains(wanted, name) {
			continue
		}
		// One that this provider has not made is nobody's business here.
		if _, err := i.Charts.Resumable(ctx, namespace, name); err == nil {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is left over from another profile", namespace, name))
		} else if !errors.Is(err, install.ErrForeign) {
			return err
		}
	}
	if len(values) < len(wanted) {
		return nil
	}
	var err error
	found.ValuesDigest, err = install.Digest(values)
	return err
}

// Uninstall removes everything that Apply and istiod have made, except the
// CRDs, which stay with every object of their kinds unless deleteCRDs is set.
// It may be repeated after a failure.
func (i Installer) Uninstall(ctx context.Context, namespace string, profile Profile, deleteCRDs bool) error {
	if err := i.dropGateways(ctx, namespace, profile.gateways(), nil); err != nil {
		return err
	}
	for _, release := range []string{istiodRelease, baseRelease} {
		if err := i.Releases.Uninstall(ctx, namespace, release, helm.UninstallOptions{KeepCRDs: true, Wait: true}); err != nil {
			return err
		}
	}
	if deleteCRDs {
		if err := i.deleteCRDs(ctx, namespace); err != nil {
			return err
		}
	}
	if err := i.deleteLeftovers(ctx, namespace); err != nil {
		return err
	}
	return i.Cluster.ReleaseNamespace(ctx, namespace, namespaceHolder)
}

// deleteCRDs deletes the CRDs that bear the mark of the base release, which
// outlasts the release itself: so a deletion that was cut off goes on.
func (i Installer) deleteCRDs(ctx context.Context, namespace string) error {
	crds, err := i.Cluster.List(ctx, kube.CustomResourceDefinition, "")
	if err != nil {
		return err
	}
	var doomed []kube.Ref
	for _, crd := range crds {
		marks := crd.GetAnnotations()
		if marks["meta.helm.sh/release-name"] == baseRelease && marks["meta.helm.sh/release-namespace"] == namespace && strings.HasSuffix(crd.GetName(), ".istio.io") {
			doomed = append(doomed, kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()})
		}
	}
	// All at once: each takes a while to delete the objects of its kind.
	for _, ref := range doomed {
		if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	for _, ref := range doomed {
		if err := i.Cluster.AwaitGone(ctx, ref, ""); err != nil {
			return err
		}
	}
	return nil
}

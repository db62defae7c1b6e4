// Package install puts the Helm releases that a mesh consists of into a cluster
// and keeps them as they should be: it tells what an apply would do to which
// object, brings the releases there in order, waits until what they run is ready,
// goes back when it does not become so, and finds what others have changed since.
package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// releaseLabels mark the Helm releases that are ours. A release that carries
// them is resumed, whatever state a killed run has left it in.
func releaseLabels() map[string]string {
	return map[string]string{"aksmesh.io/managed-by": "aksmesh"}
}

// Charts installs a mesh's charts into a cluster.
type Charts struct {
	Cluster  *kube.Cluster
	Library  *helm.Library
	Releases *helm.Releases
	// Renderings keep what charts were rendered to, so that an apply does not
	// render again what its plan has; nil keeps nothing.
	Renderings *Renderings
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// A Release is one chart of a mesh as it should be in the cluster.
type Release struct {
	Namespace, Name string
	Chart           *helm.Chart
	Values          map[string]any
	// Yields are the fields of its objects that are others' to set.
	Yields kube.Yields
	// Adopt takes over objects that exist without a release of theirs, as the
	// mesh's own command line leaves them. None of them is made anew.
	Adopt bool
	// Ready is asked once the workloads are ready: whether what they serve
	// answers. It waits itself, and may be nil.
	Ready func(context.Context) error
}

// id is what messages call the release.
func (r Release) id() string { return r.Namespace + "/" + r.Name }

// Deploy installs or upgrades a release and waits until its workloads are ready
// and what they serve answers. When it fails after Helm has begun, the release is
// in the cluster. What was rendered for it in this run is not rendered again.
func (c Charts) Deploy(ctx context.Context, r Release) error {
	records, err := c.records(ctx, []Release{r})
	if err != nil {
		return err
	}
	return c.deploy(ctx, r, records[r.id()])
}

// deploy deploys a release of which is on record what is given, nil being nothing.
func (c Charts) deploy(ctx context.Context, r Release, former *helm.Release) error {
	c.log("deploying", map[string]any{"release": r.id(), "chart": r.Chart.Name(), "version": r.Chart.Version()})
	rendered, err := c.rendered(r)
	if err != nil {
		return err
	}
	yielding, err := c.yielding(ctx, r.Yields, r.Namespace, r.Name, inPlace(former))
	if err != nil {
		return err
	}
	record, err := c.Releases.Deploy(ctx, helm.DeployRequest{
		Namespace: r.Namespace, Name: r.Name, Chart: r.Chart, Values: r.Values, Labels: releaseLabels(),
		TakeOwnership: r.Adopt, Rendered: rendered, Yield: yielding.to,
	})
	c.forget(r.Namespace, r.Name)
	if err != nil {
		return err
	}
	objects, err := c.objectsOf(ctx, &record.Rendered, r.Namespace, nil)
	if err != nil {
		return fmt.Errorf("release %s: %w", r.id(), err)
	}
	if err := c.awaitHealthy(ctx, r, record, workloadsOf(objects)); err != nil {
		return fmt.Errorf("release %s was deployed, but is not healthy: %w", r.id(), err)
	}
	return nil
}

// inPlace is the revision of a release that Helm compares the next one with; the
// newest if none has ever been deployed.
func inPlace(record *helm.Release) *helm.Release {
	if record == nil || record.Deployed == nil {
		return record
	}
	return record.Deployed
}

// awaitHealthy waits until the workloads of a release are ready and what they
// serve answers, and records that the revision is healthy.
func (c Charts) awaitHealthy(ctx context.Context, r Release, record *helm.Release, workloads []kube.Ref) error {
	c.log("waiting until ready", map[string]any{"release": r.id(), "workloads": len(workloads)})
	if err := c.Cluster.AwaitReady(ctx, workloads...); err != nil {
		return err
	}
	if r.Ready != nil {
		c.log("waiting until it answers", map[string]any{"release": r.id()})
		if err := r.Ready(ctx); err != nil {
			return err
		}
	}
	if err := c.Releases.MarkHealthy(ctx, record); err != nil {
		return err
	}
	c.log("is healthy", map[string]any{"release": r.id()})
	return nil
}

// workloadsOf returns the workloads among the objects of a release.
func workloadsOf(objects []renderedObject) []kube.Ref {
	var refs []kube.Ref
	for _, object := range objects {
		if slices.Contains([]kube.Kind{kube.Deployment, kube.StatefulSet, kube.DaemonSet}, object.ref.Kind) {
			refs = append(refs, object.ref)
		}
	}
	return refs
}

// ErrForeign tells that a release of the name exists that this provider has
// not made.
var ErrForeign = errors.New("a Helm release of this name exists that was not made by this provider")

// Resumable tells whether a release that must not exist yet is one of ours that
// an apply left behind when it was cut off: false without an error when there
// is none, ErrForeign when it is somebody else's.
func (c Charts) Resumable(ctx context.Context, namespace, name string) (bool, error) {
	release, err := c.Releases.Get(ctx, namespace, name)
	switch {
	case errors.Is(err, helm.ErrReleaseNotFound):
		return false, nil
	case err != nil:
		return false, err
	case release.Status == helm.StatusUninstalled:
		return false, nil
	}
	if !Ours(release) {
		return false, fmt.Errorf("release %s/%s: %w", namespace, name, ErrForeign)
	}
	return true, nil
}

// Ours reports whether a release was made by this provider, or has been brought
// to what it should be by it since.
func Ours(release *helm.Release) bool {
	for key, value := range releaseLabels() {
		if release.Labels[key] != value {
			return false
		}
	}
	return true
}

// Drift compares a release with what is in the cluster and says, in one line
// each, which objects are missing or differ in fields that the chart sets and
// yields leave to it; so are replicas that an autoscaler sets. If kinds are given,
// only objects of these are looked at.
func (c Charts) Drift(ctx context.Context, release *helm.Release, yields kube.Yields, kinds ...kube.Kind) ([]string, error) {
	var drift []string
	if release.Status != helm.StatusDeployed {
		drift = append(drift, fmt.Sprintf("release %s/%s is %s: %s", release.Namespace, release.Name, release.Status, release.Description))
	}
	objects, err := release.Objects()
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", release.Namespace, release.Name, err)
	}
	yielding, err := c.yielding(ctx, yields, release.Namespace, release.Name, nil)
	if err != nil {
		return nil, err
	}
	for _, wanted := range objects {
		gvk := wanted.GroupVersionKind()
		if len(kinds) > 0 && !slices.ContainsFunc(kinds, func(k kube.Kind) bool { return k.GVK() == gvk }) {
			continue
		}
		lines, err := c.Cluster.Drift(ctx, wanted, release.Namespace, yielding.to)
		if err != nil {
			return nil, err
		}
		drift = append(drift, lines...)
	}
	return drift, nil
}

// CoreKinds are the kinds without which a mesh does not work, for Drift to look
// at when requests count.
func CoreKinds() []kube.Kind {
	return []kube.Kind{kube.Deployment, kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration}
}

// Digest is the SHA-256 of values in hexadecimal: it tells that values differ
// without keeping them.
func Digest(values map[string]any) (string, error) {
	canonical, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("values: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

func (c Charts) log(message string, fields map[string]any) {
	if c.Log != nil {
		c.Log(message, fields)
	}
}

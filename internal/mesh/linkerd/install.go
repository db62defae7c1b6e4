package linkerd

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	// EdgeRepository is the Helm repository of Linkerd's releases; the stable
	// one has had none since 2024.
	EdgeRepository = "https://helm.linkerd.io/edge"

	crdsChart         = "linkerd-crds"
	controlPlaneChart = "linkerd-control-plane"
	namespaceHolder   = "linkerd"
	manager           = "aksmesh-linkerd"

	resourcePolicyAnnotation = "helm.sh/resource-policy"
	keepPolicy               = "keep"
	releaseNameAnnotation    = "meta.helm.sh/release-name"
)

// Resources are the compute resources of the proxies, as Kubernetes
// quantities; empty ones stay as the chart has them.
type Resources struct {
	CPURequest, CPULimit, MemoryRequest, MemoryLimit string
}

// Specification is a Linkerd as it should be.
type Specification struct {
	Namespace string
	// Repository is a Helm repository, an OCI reference or a directory that
	// holds the charts; Version the version of both charts.
	Repository, Version string
	HighAvailability    bool
	// Registry replaces everything before the name of each image; empty keeps
	// the chart's.
	Registry string
	Proxy    Resources
	// Heartbeat lets the control plane report its version to the project daily.
	Heartbeat bool
	// Values are the user's, merged over the settings above. OwnedValue tells
	// which keys they must not have.
	Values map[string]any
	// WebhookEarlyRenewal is how long before their end the certificates of
	// webhooks are renewed.
	WebhookEarlyRenewal time.Duration
	Now                 time.Time
}

func (s Specification) webhookChecks() WebhookChecks {
	return WebhookChecks{Early: s.WebhookEarlyRenewal, Now: s.Now}
}

// Installer installs Linkerd and looks after it.
type Installer struct{ install.Charts }

// Resumable tells whether what is in the namespace was left by an apply that
// was cut off; install.ErrForeign when it is not ours.
func (i Installer) Resumable(ctx context.Context, namespace string) (bool, error) {
	crds, err := i.Charts.Resumable(ctx, namespace, crdsChart)
	if err != nil {
		return false, err
	}
	controlPlane, err := i.Charts.Resumable(ctx, namespace, controlPlaneChart)
	return crds || controlPlane, err
}

// Prepared is an installation of which everything that can fail without the
// cluster has been done.
type Prepared struct {
	specification      Specification
	crds, controlPlane *helm.Chart
	crdsValues, values map[string]any
}

// Prepare fetches the charts and composes their values. It changes nothing.
func (i Installer) Prepare(ctx context.Context, s Specification) (*Prepared, error) {
	crds, err := i.Load(ctx, s.Repository, crdsChart, s.Version)
	if err != nil {
		return nil, err
	}
	controlPlane, err := i.Load(ctx, s.Repository, controlPlaneChart, s.Version)
	if err != nil {
		return nil, err
	}
	prepared := &Prepared{specification: s, crds: crds, controlPlane: controlPlane}
	if prepared.crdsValues, err = crdsValues(crds); err != nil {
		return nil, err
	}
	var schedule string
	if s.Heartbeat {
		if schedule, err = i.heartbeatSchedule(ctx); err != nil {
			return nil, err
		}
	}
	if prepared.values, err = compose(s, schedule, controlPlane); err != nil {
		return nil, err
	}
	return prepared, nil
}

// Apply brings the cluster to the specification, CRDs before the control plane,
// and returns once the control plane is healthy. It may be repeated. The issuer
// must be in its Secret and lead to the trust bundle that is published.
func (i Installer) Apply(ctx context.Context, p *Prepared) error {
	s := p.specification
	if err := i.checkIssuer(ctx, s); err != nil {
		return err
	}
	labels, annotations := NamespaceMetadata(s.Namespace)
	if _, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: s.Namespace, Holder: namespaceHolder, Labels: labels, Annotations: annotations}); err != nil {
		return err
	}
	webhookValues, err := i.ensureWebhooks(ctx, s.Namespace, s.webhookChecks())
	if err != nil {
		return err
	}
	if err := i.Deploy(ctx, install.Release{Namespace: s.Namespace, Name: crdsChart, Chart: p.crds, Values: p.crdsValues}); err != nil {
		return err
	}
	if err := i.Deploy(ctx, install.Release{
		Namespace: s.Namespace, Name: controlPlaneChart, Chart: p.controlPlane,
		Values: helm.MergeValues(p.values, webhookValues),
	}); err != nil {
		return err
	}
	return i.ensureViz(ctx, s.webhookChecks())
}

// crdsValues leaves the Gateway API's CRDs alone: on AKS they may belong to
// the cluster, and deleting them deletes everybody's routes. Which keys there
// are depends on the version.
func crdsValues(chart *helm.Chart) (map[string]any, error) {
	defaults, err := chart.DefaultValues()
	if err != nil {
		return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
	}
	values := map[string]any{}
	for _, key := range []string{"installGatewayAPI", "enableHttpRoutes", "enableTlsRoutes", "enableTcpRoutes"} {
		if _, known := defaults[key]; known {
			values[key] = false
		}
	}
	return values, nil
}

// checkIssuer verifies what the identity controller would refuse to start
// with, while nothing is half done yet.
func (i Installer) checkIssuer(ctx context.Context, s Specification) error {
	ref := kube.Ref{Kind: kube.Secret, Namespace: s.Namespace, Name: IssuerSecret}
	secret, err := i.Cluster.Secret(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("%s: the issuer is not there; create it with aksmesh_issuer and refer to its id: %w", ref, err)
	}
	if err != nil {
		return err
	}
	roots := TrustRootsRef(s.Namespace)
	published, err := i.Cluster.ConfigMap(ctx, roots.Namespace, roots.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("%s: the trust bundle is not there; publish it with aksmesh_issuer: %w", roots, err)
	}
	if err != nil {
		return err
	}
	issuer, err := ReadIssuerSecret(secret.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	bundle, err := pki.ParseBundle([]byte(published.Data[TrustRootsKey]))
	if err != nil {
		return fmt.Errorf("%s: key %s: %w", roots, TrustRootsKey, err)
	}
	if err := CheckIssuer(issuer.Chain(), bundle, s.Now); err != nil {
		return fmt.Errorf("%s with the trust bundle of %s: %w", ref, roots, err)
	}
	if err := i.keep(ctx, ref, secret.Annotations); err != nil {
		return err
	}
	return i.keep(ctx, roots, published.Annotations)
}

// keep has Helm leave an object in the cluster that it has made. The chart of a
// release that others have installed may have had it, and has not from now on:
// Helm would delete it on the upgrade.
func (i Installer) keep(ctx context.Context, ref kube.Ref, annotations map[string]string) error {
	if annotations[releaseNameAnnotation] == "" || annotations[resourcePolicyAnnotation] == keepPolicy {
		return nil
	}
	object := ref.Object()
	object.SetAnnotations(map[string]string{resourcePolicyAnnotation: keepPolicy})
	_, err := i.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: manager, Force: true})
	return err
}

// Installed is a Linkerd as it is.
type Installed struct {
	// Version is the chart version of the control plane, AppVersion Linkerd's;
	// empty if it is missing.
	Version, AppVersion string
	// ValuesDigest is the digest of the control plane's values; empty if it is missing.
	ValuesDigest string
	// What the values say of the settings that they were composed from.
	HighAvailability, Heartbeat bool
	// Webhooks are the control plane's and those of the viz extension, if it is
	// there. Hidden says, one line each, which the credentials may not see.
	Webhooks []Webhook
	Hidden   []string
	// Drift says what is not as it was installed.
	Drift []string
}

// Observe looks at the Linkerd in a namespace; helm.ErrReleaseNotFound if
// there is neither a control plane nor the release of its CRDs, as an install
// or a destroy that was cut off may leave it alone.
func (i Installer) Observe(ctx context.Context, namespace string, checks WebhookChecks) (Installed, error) {
	controlPlane, missing := i.release(ctx, namespace, controlPlaneChart)
	if missing != nil && !errors.Is(missing, helm.ErrReleaseNotFound) {
		return Installed{}, missing
	}
	crds, err := i.release(ctx, namespace, crdsChart)
	switch {
	case err != nil && !errors.Is(err, helm.ErrReleaseNotFound):
		return Installed{}, err
	case err != nil && missing != nil:
		return Installed{}, missing
	}
	var found Installed
	var values map[string]any
	if controlPlane != nil {
		values = controlPlane.Values
		found = Installed{Version: controlPlane.ChartVersion, AppVersion: controlPlane.AppVersion}
		found.HighAvailability = values["highAvailability"] == true
		found.Heartbeat = values["disableHeartBeat"] != true
		if found.ValuesDigest, err = install.Digest(values); err != nil {
			return Installed{}, err
		}
		if crds != nil && crds.ChartVersion != controlPlane.ChartVersion {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is of version %s instead of %s", namespace, crdsChart, crds.ChartVersion, controlPlane.ChartVersion))
		}
	}
	releases := map[string]*helm.Release{crdsChart: crds, controlPlaneChart: controlPlane}
	for _, name := range []string{crdsChart, controlPlaneChart} {
		if releases[name] == nil {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is missing", namespace, name))
			continue
		}
		drift, err := i.Drift(ctx, releases[name], nil)
		if err != nil {
			return Installed{}, err
		}
		found.Drift = append(found.Drift, drift...)
	}
	if err := i.observeWebhooks(ctx, namespace, checks, &found); err != nil {
		return Installed{}, err
	}
	return found, nil
}

// release reads a release that has not been given up.
func (i Installer) release(ctx context.Context, namespace, name string) (*helm.Release, error) {
	release, err := i.Releases.Get(ctx, namespace, name)
	if err == nil && release.Status == helm.StatusUninstalled {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, helm.ErrReleaseNotFound)
	}
	return release, err
}

// Uninstall removes the control plane and then, if told to, the CRDs with
// every object of their kinds. It may be repeated after a failure.
func (i Installer) Uninstall(ctx context.Context, namespace string, deleteCRDs bool) error {
	for _, name := range []string{controlPlaneChart, crdsChart} {
		if err := i.Releases.Uninstall(ctx, namespace, name, helm.UninstallOptions{KeepCRDs: !deleteCRDs, Wait: true}); err != nil {
			return err
		}
	}
	if err := i.deleteWebhookSecrets(ctx, namespace); err != nil {
		return err
	}
	return i.Cluster.ReleaseNamespace(ctx, namespace, namespaceHolder)
}

// heartbeatSchedule is a daily time that is spread over clusters but the same
// on every render, unlike the chart's own choice. What stays the same for the
// life of a cluster is the UID of a namespace that nobody can delete.
func (i Installer) heartbeatSchedule(ctx context.Context) (string, error) {
	system, err := i.Cluster.Namespace(ctx, metav1.NamespaceSystem)
	if err != nil {
		return "", err
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(system.UID))
	minute := sum.Sum32() % (24 * 60)
	return fmt.Sprintf("%d %d * * *", minute%60, minute/60), nil
}

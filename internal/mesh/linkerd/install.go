package linkerd

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
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
	// holds the charts; Version the version of all of them.
	Repository, Version string
	HighAvailability    bool
	GatewayAPI          GatewayAPI
	// CNI is nil without the plugin. FormerCNI is the namespace that it is known to
	// have been installed in before; empty if it is not.
	CNI       *CNI
	FormerCNI string
	// Registry replaces everything before the name of each image; empty keeps
	// the chart's.
	Registry string
	Proxy    Resources
	// Heartbeat lets the control plane report its version to the project daily.
	Heartbeat bool
	// Values are the user's, merged over the settings above. CheckValues tells
	// which keys they must not have.
	Values map[string]any
	// Atomic has releases rolled back that an apply has upgraded and that do not
	// become ready.
	Atomic bool
	// WebhookEarlyRenewal is how long before their end the certificates of
	// webhooks are renewed.
	WebhookEarlyRenewal time.Duration
	Now                 time.Time
}

func (s Specification) webhookChecks() WebhookChecks {
	return WebhookChecks{Early: s.WebhookEarlyRenewal, Now: s.Now}
}

// CNIValues is the input of the CNI plugin's values.
const CNIValues = "cni.values"

// InputError tells which part of a specification an error is about.
type InputError struct {
	// Input is version, values, cni, [CNIValues], gateway_api or high_availability.
	Input string
	Err   error
}

func (e *InputError) Error() string { return e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

// Installer installs Linkerd and looks after it.
type Installer struct {
	install.Charts

	// Manifests fetches the CRDs of the Gateway API; it may be nil if they are not
	// to be installed.
	Manifests *release.Downloader
}

// Resumable tells whether what is in the namespace was left by an apply that
// was cut off; install.ErrForeign when it is not ours.
func (i Installer) Resumable(ctx context.Context, namespace string) (bool, error) {
	crds, err := i.Charts.Resumable(ctx, namespace, crdsChart)
	if err != nil {
		return false, err
	}
	controlPlane, err := i.Charts.Resumable(ctx, namespace, controlPlaneChart)
	if err != nil || controlPlane {
		return crds || controlPlane, err
	}
	found, err := i.madeByCommand(ctx, namespace)
	if found != nil && !crds {
		err = &byHandError{ref: destination(namespace)}
	}
	return crds, err
}

// Prepared is an installation of which everything that can fail without the
// cluster has been done.
type Prepared struct {
	specification Specification
	line          line
	version       Version // zero if the charts do not tell it

	crds, controlPlane, cni        *helm.Chart // cni is nil without the plugin
	crdsValues, values, pluginOwns map[string]any
	gateway                        []release.Object
}

// Prepare fetches the charts and composes their values, and reads the manifests
// of the Gateway API if they are to be applied. It changes nothing. Values that a
// chart would pass over, and manifests that are none, are an *[InputError].
func (i Installer) Prepare(ctx context.Context, s Specification) (*Prepared, error) {
	p := &Prepared{specification: s}
	var err error
	if p.crds, err = i.Load(ctx, s.Repository, crdsChart, s.Version); err != nil {
		return nil, err
	}
	if p.controlPlane, err = i.Load(ctx, s.Repository, controlPlaneChart, s.Version); err != nil {
		return nil, err
	}
	p.version, p.line = versionOf(p.controlPlane.AppVersion(), s.Version)
	if p.crdsValues, err = crdsValues(p.crds); err != nil {
		return nil, err
	}
	var schedule string
	if s.Heartbeat {
		if schedule, err = i.heartbeatSchedule(ctx); err != nil {
			return nil, err
		}
	}
	if p.values, err = compose(s, schedule, p.controlPlane); err != nil {
		return nil, err
	}
	var invalid []error
	if err := install.CheckValues(p.controlPlane, s.Values, removedValues()); err != nil {
		invalid = append(invalid, &InputError{Input: "values", Err: err})
	}
	if s.CNI != nil {
		if p.cni, err = i.Load(ctx, s.Repository, cniChart, s.Version); err != nil {
			return nil, err
		}
		if p.pluginOwns, err = cniValues(s, p.cni); err != nil {
			return nil, err
		}
		if err := install.CheckValues(p.cni, s.CNI.Values, nil); err != nil {
			invalid = append(invalid, &InputError{Input: CNIValues, Err: err})
		}
	}
	if p.gateway, err = i.loadGateway(ctx, s, p.line); err != nil {
		invalid = append(invalid, err)
	}
	return p, errors.Join(invalid...)
}

// versionOf reads Linkerd's version from what says it first, and tells its line:
// the newest known if nothing does.
func versionOf(texts ...string) (Version, line) {
	for _, text := range texts {
		if v, err := ParseVersion(text); err == nil {
			return v, lineOf(v)
		}
	}
	all := lines()
	return Version{}, all[len(all)-1]
}

// releases are the charts in the order in which they are installed, with the
// values of the webhooks' certificates.
func (i Installer) releases(p *Prepared, webhooks map[string]any, adopts map[string]bool) []install.Release {
	s := p.specification
	all := []install.Release{{Namespace: s.Namespace, Name: crdsChart, Chart: p.crds, Values: p.crdsValues, Yields: Yields(), Adopt: adopts[crdsChart]}}
	if p.cni != nil {
		all = append(all, install.Release{Namespace: s.CNI.Namespace, Name: cniRelease, Chart: p.cni, Values: p.pluginOwns, Yields: Yields(), Adopt: adopts[controlPlaneChart]})
	}
	return append(all, install.Release{
		Namespace: s.Namespace, Name: controlPlaneChart, Chart: p.controlPlane, Values: helm.MergeValues(p.values, webhooks),
		Yields: Yields(), Adopt: adopts[controlPlaneChart], Ready: i.answering(s.Namespace),
	})
}

// Foreseen is what an apply would do, and what is to be known before.
type Foreseen struct {
	Changes  []kube.Change
	Warnings []string
}

// Foresee tells what Apply would do to which objects, without doing anything.
// Errors are those that it could not but fail with; those that are about a part
// of the specification are *[InputError], all of them joined. Certificates of
// webhooks that the apply will renew are not among the changes.
func (i Installer) Foresee(ctx context.Context, p *Prepared) (Foreseen, error) {
	s := p.specification
	records, err := i.records(ctx, s.Namespace)
	if err != nil {
		return Foreseen{}, err
	}
	adopts, err := i.adopts(ctx, s.Namespace, records)
	if err != nil {
		return Foreseen{}, err
	}
	var found Foreseen
	warnings, invalid := i.checkInstallation(ctx, p, records[controlPlaneChart])
	found.Warnings = warnings
	var problems []error
	problems = append(problems, invalid)
	gateway, warnings, err := i.foreseeGateway(ctx, p)
	found.Warnings = append(found.Warnings, warnings...)
	problems = append(problems, err)
	dropped, err := i.droppedCNI(ctx, s)
	problems = append(problems, err)
	if err := errors.Join(problems...); err != nil {
		return found, err
	}
	webhooks, err := recordedWebhooks(records[controlPlaneChart])
	if err != nil {
		return found, err
	}
	var drop []*helm.Release
	if dropped != nil {
		drop = append(drop, dropped)
	}
	charts, err := i.Charts.Foresee(ctx, i.releases(p, webhooks, adopts), drop)
	found.Changes = slices.Concat(gateway, keptObjects(charts, s.Namespace))
	return found, err
}

// Apply brings the cluster to the specification: the CRDs of the Gateway API and
// Linkerd's own, the CNI plugin, the control plane, each before the next; and
// returns once the control plane is healthy and its webhooks answer. It may be
// repeated. The issuer must be in its Secret and lead to the trust bundle that is
// published.
func (i Installer) Apply(ctx context.Context, p *Prepared) error {
	s := p.specification
	if err := i.checkIssuer(ctx, s); err != nil {
		return err
	}
	records, err := i.records(ctx, s.Namespace)
	if err != nil {
		return err
	}
	adopts, err := i.adopts(ctx, s.Namespace, records)
	if err != nil {
		return err
	}
	labels, annotations := NamespaceMetadata(s.Namespace)
	if _, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: s.Namespace, Holder: namespaceHolder, Labels: labels, Annotations: annotations, Force: adopts[controlPlaneChart]}); err != nil {
		return err
	}
	if err := i.holdCNINamespace(ctx, s); err != nil {
		return err
	}
	webhookValues, err := i.ensureWebhooks(ctx, s.Namespace, s.webhookChecks())
	if err != nil {
		return err
	}
	if err := i.keepGateway(ctx, records[crdsChart]); err != nil {
		return err
	}
	if err := i.applyGateway(ctx, p); err != nil {
		return err
	}
	dropped, err := i.droppedCNI(ctx, s)
	if err != nil {
		return err
	}
	if err := i.Charts.Apply(ctx, i.releases(p, webhookValues, adopts), s.Atomic); err != nil {
		return err
	}
	if err := i.tellOfGateway(ctx, s); err != nil {
		return err
	}
	if dropped != nil {
		if err := i.dropCNI(ctx, dropped.Namespace, s.Namespace); err != nil {
			return err
		}
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

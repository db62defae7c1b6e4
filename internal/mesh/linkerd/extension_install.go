package linkerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// ExtensionSpecification is an extension as it should be.
type ExtensionSpecification struct {
	// Name is one of Extensions.
	Name string
	// Namespace is the extension's own, LinkerdNamespace that of the control plane.
	Namespace, LinkerdNamespace string
	// Repository is a Helm repository, an OCI reference or a directory that holds
	// the chart; Version the version of the chart.
	Repository, Version string
	HighAvailability    bool
	// Registry replaces what is before the name of each image; empty keeps the
	// chart's.
	Registry string
	// Values are the user's, merged over the settings above. CheckExtensionValues
	// tells which keys they must not have.
	Values map[string]any
	// Atomic has an upgrade rolled back that does not become ready.
	Atomic bool
	// Checks say when the certificates of the extension's servers are due.
	Checks WebhookChecks
}

// PreparedExtension is an extension of which everything that can fail without
// the cluster has been done.
type PreparedExtension struct {
	specification ExtensionSpecification
	chart         *helm.Chart
}

// PrepareExtension fetches the chart. It changes nothing. Settings that the chart
// has no place for are *[InputError], all of them joined.
func (i Installer) PrepareExtension(ctx context.Context, s ExtensionSpecification) (*PreparedExtension, error) {
	if err := CheckExtensionVersion(s.Name, s.Version); err != nil {
		return nil, &InputError{Input: "version", Err: err}
	}
	chart, err := i.Load(ctx, s.Repository, extensionChart(s.Name), s.Version)
	if err != nil {
		return nil, err
	}
	var invalid []error
	if err := install.CheckValues(chart, s.Values, nil); err != nil {
		invalid = append(invalid, &InputError{Input: "values", Err: err})
	}
	if _, err := composeExtension(s, chart, nil); err != nil {
		invalid = append(invalid, err)
	}
	return &PreparedExtension{specification: s, chart: chart}, errors.Join(invalid...)
}

// ResumableExtension tells whether what is in the namespace was left by an apply
// that was cut off; install.ErrForeign when it is not ours.
func (i Installer) ResumableExtension(ctx context.Context, name, namespace string) (bool, error) {
	ours, err := i.Charts.Resumable(ctx, namespace, extensionChart(name))
	if err != nil || ours {
		return ours, err
	}
	workload, err := i.extensionWorkload(ctx, name, namespace)
	if err == nil && workload != nil && workload.GetAnnotations()[releaseNameAnnotation] == "" {
		err = &byHandError{ref: kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: workload.GetName()}}
	}
	return false, err
}

// ForeseeExtension tells what ApplyExtension would do to which objects, without
// doing anything. Errors are those that it could not but fail with. What the
// control plane lacks may come in the same run: that is a warning.
func (i Installer) ForeseeExtension(ctx context.Context, p *PreparedExtension) (Foreseen, error) {
	var found Foreseen
	controlPlane, err := i.checkControlPlane(ctx, p)
	if err != nil {
		var input *InputError
		if !errors.As(err, &input) {
			return found, err
		}
		found.Warnings = append(found.Warnings, input.Error()+". The apply fails unless that has changed by then.")
	}
	if err := i.checkAlone(ctx, p.specification); err != nil {
		return found, err
	}
	record, adopt, err := i.extensionRecord(ctx, p.specification)
	if err != nil {
		return found, err
	}
	certificates := map[string]any{}
	certain := true
	for _, s := range extensionServers(p.specification.Name, p.specification.Namespace) {
		looked, err := i.look(ctx, s, p.specification.Checks, i.Cluster.Find)
		if err != nil {
			return found, err
		}
		values, foreseen := looked.certificateValues(valuesOf(record), nil)
		certificates[s.values] = values
		certain = certain && foreseen
	}
	release, err := i.extensionRelease(p, controlPlane, certificates, adopt)
	if err != nil {
		return found, err
	}
	certain = certain && sameDomains(p.specification, release.Values, valuesOf(record))
	if p.specification.HighAvailability {
		err := i.checkRoom(ctx, release)
		var input *InputError
		switch {
		case errors.As(err, &input) && valuesOf(record)[antiAffinity] == true:
			// It is there already, and nodes that are away may come back.
			found.Warnings = append(found.Warnings, input.Error()+".")
		case err != nil:
			return found, err
		}
	}
	found.Changes, err = i.Charts.Foresee(ctx, []install.Release{release}, nil)
	if record != nil && !certain {
		// What comes from the cluster may be otherwise by then.
		for at := range found.Changes {
			found.Changes[at].Uncertain = found.Changes[at].Uncertain || found.Changes[at].Action == kube.Update
		}
	}
	return found, err
}

// antiAffinity is the value that tells high availability: it is in the overlay of
// every chart that has one.
const antiAffinity = "enablePodAntiAffinity"

func valuesOf(record *helm.Release) map[string]any {
	if record == nil {
		return nil
	}
	return record.Values
}

// ApplyExtension brings the cluster to the specification and returns once the
// extension is healthy and the API server reaches it. It may be repeated.
func (i Installer) ApplyExtension(ctx context.Context, p *PreparedExtension) error {
	s := p.specification
	controlPlane, err := i.checkControlPlane(ctx, p)
	if err != nil {
		return err
	}
	if err := i.checkAlone(ctx, s); err != nil {
		return err
	}
	record, adopt, err := i.extensionRecord(ctx, s)
	if err != nil {
		return err
	}
	labels, annotations := extensionNamespaceMetadata(s.Name, controlPlane)
	if _, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: s.Namespace, Holder: extensionHolder(s.Name), Labels: labels, Annotations: annotations}); err != nil {
		return err
	}
	certificates := map[string]any{}
	for _, server := range extensionServers(s.Name, s.Namespace) {
		looked, bundle, err := i.settle(ctx, server, s.Checks, i.writeWebhookSecret)
		if err != nil {
			return err
		}
		certificates[server.values], _ = looked.certificateValues(valuesOf(record), func() string { return string(bundle.PEM()) })
	}
	release, err := i.extensionRelease(p, controlPlane, certificates, adopt)
	if err != nil {
		return err
	}
	release.Ready = func(ctx context.Context) error {
		// Helm has made what was missing with the bundle of the first time.
		for _, server := range extensionServers(s.Name, s.Namespace) {
			if _, _, err := i.settle(ctx, server, s.Checks, i.writeWebhookSecret); err != nil {
				return err
			}
		}
		return i.extensionAnswers(ctx, s)
	}
	return i.Charts.Apply(ctx, []install.Release{release}, s.Atomic)
}

// extensionRelease is the release as it should be.
func (i Installer) extensionRelease(p *PreparedExtension, controlPlane, certificates map[string]any, adopt bool) (install.Release, error) {
	s := p.specification
	values, err := composeExtension(s, p.chart, controlPlane)
	if err != nil {
		return install.Release{}, err
	}
	return install.Release{
		Namespace: s.Namespace, Name: extensionChart(s.Name), Chart: p.chart,
		Values: helm.MergeValues(values, certificates), Yields: extensionYields(s.Name), Adopt: adopt,
	}, nil
}

// checkControlPlane returns the values of the control plane that the extension is
// for. The error is an *[InputError] if there is none, or one of another
// version.
func (i Installer) checkControlPlane(ctx context.Context, p *PreparedExtension) (values map[string]any, err error) {
	s := p.specification
	version, values, err := recordedValues(ctx, i.Cluster, s.LinkerdNamespace)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		return nil, &InputError{Input: "linkerd_namespace", Err: fmt.Errorf(
			"there is no Linkerd control plane in namespace %s; install it with aksmesh_linkerd, and refer to its id here so that it comes first", s.LinkerdNamespace)}
	}
	if err != nil {
		return nil, err
	}
	return values, checkLine(p.chart.AppVersion(), version)
}

// checkAlone refuses an extension that is in another namespace already: its
// cluster-wide objects have the same names.
func (i Installer) checkAlone(ctx context.Context, s ExtensionSpecification) error {
	all, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, namespace := range all {
		if namespace.Labels[extensionLabel] == s.Name && namespace.Name != s.Namespace {
			return &InputError{Input: "namespace", Err: fmt.Errorf(
				"extension %[3]s is in Namespace %[1]s already, which is labelled %[2]s=%[3]s, and a cluster can have an extension only once; import that one, or remove it (or the label, if nothing is left of it)",
				namespace.Name, extensionLabel, s.Name)}
		}
	}
	return nil
}

// extensionHolder is who holds the namespace of an extension.
func extensionHolder(name string) string { return "linkerd-extension-" + name }

// extensionNamespaceMetadata are the labels and annotations that the job in the
// charts would put on an extension's namespace, by which it is found, and which
// have all its pods meshed.
func extensionNamespaceMetadata(name string, controlPlane map[string]any) (labels, annotations map[string]string) {
	// Without the CNI plugin, the init container of proxies needs privileges.
	security := "privileged"
	if controlPlane["cniEnabled"] == true {
		security = "restricted"
	}
	return map[string]string{extensionLabel: name, "pod-security.kubernetes.io/enforce": security}, map[string]string{injectAnnotation: enabled}
}

// extensionRecord reads the release of an extension, nil if there is none, and
// whether its objects have to be taken over: those that the command line has
// made, or that an apply was cut off in taking over.
func (i Installer) extensionRecord(ctx context.Context, s ExtensionSpecification) (record *helm.Release, adopt bool, err error) {
	records, err := i.records(ctx, s.Namespace)
	if err != nil {
		return nil, false, err
	}
	if record = records[extensionChart(s.Name)]; !install.Adoptable(record) {
		return record, false, nil
	}
	workload, err := i.extensionWorkload(ctx, s.Name, s.Namespace)
	return record, workload != nil, err
}

// extensionWorkload is a Deployment of an extension; nil if there is none.
func (i Installer) extensionWorkload(ctx context.Context, name, namespace string) (*unstructured.Unstructured, error) {
	all, err := i.Cluster.List(ctx, kube.Deployment, namespace)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(d *unstructured.Unstructured) bool { return d.GetLabels()[extensionLabel] == name })
	if at < 0 {
		return nil, nil //nolint:nilnil // There is none.
	}
	return all[at], nil
}

// extensionAnswers waits until the API server reaches what it calls of an
// extension: pods are ready before that.
func (i Installer) extensionAnswers(ctx context.Context, s ExtensionSpecification) error {
	for _, server := range extensionServers(s.Name, s.Namespace) {
		if server.registration.Kind == kube.APIService {
			if err := i.awaitAPI(ctx, server.registration); err != nil {
				return err
			}
		}
	}
	if s.Name != Viz {
		return nil
	}
	return i.tapInjectorAnswers(ctx, s)
}

// awaitAPI waits until the API server serves an aggregated API.
func (i Installer) awaitAPI(ctx context.Context, ref kube.Ref) error {
	return i.Cluster.Await(ctx, "", []kube.Kind{ref.Kind}, func(ctx context.Context) (string, error) {
		live, err := i.Cluster.Find(ctx, ref)
		if err != nil {
			return "", err
		}
		reason := "the API server has not tried it yet"
		conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
		for _, condition := range conditions {
			fields, ok := condition.(map[string]any)
			if !ok || fields["type"] != "Available" {
				continue
			}
			if fields["status"] == string(metav1.ConditionTrue) {
				return "", nil
			}
			reason = fmt.Sprintf("%v: %v", fields["reason"], fields["message"])
		}
		return fmt.Sprintf("%s to be available: %s", ref, reason), nil
	})
}

// InstalledExtension is an extension as it is.
type InstalledExtension struct {
	// Name is one of Extensions.
	Name string
	// Version is the version of the chart, AppVersion Linkerd's.
	Version, AppVersion string
	// ValuesDigest is the digest of the release's values; empty without one.
	ValuesDigest string
	// What the values say of the settings that they were composed from.
	LinkerdNamespace string
	HighAvailability bool
	Webhooks         []Webhook
	// Drift says what is not as it was installed.
	Drift []string
}

// ExtensionObservation says how to look at an extension.
type ExtensionObservation struct {
	// Name may be empty: the namespace tells.
	Name, Namespace string
	Checks          WebhookChecks
	// Kinds are those in which drift is looked for; none means all. If they are
	// restricted, certificates are judged by the configurations of webhooks.
	Kinds []kube.Kind
}

// ObserveExtension looks at the extension in a namespace; helm.ErrReleaseNotFound
// if there is none, be it installed by Helm or by the command line.
func (i Installer) ObserveExtension(ctx context.Context, o ExtensionObservation) (InstalledExtension, error) {
	records, err := i.records(ctx, o.Namespace)
	if err != nil {
		return InstalledExtension{}, err
	}
	label, err := i.extensionIn(ctx, o.Namespace)
	if err != nil {
		return InstalledExtension{}, err
	}
	if o.Name == "" {
		o.Name = label
	}
	for _, name := range Extensions() {
		if o.Name == "" && records[extensionChart(name)] != nil {
			o.Name = name
		}
	}
	missing := fmt.Errorf("an extension of Linkerd in namespace %s: %w", o.Namespace, helm.ErrReleaseNotFound)
	if o.Name == "" {
		return InstalledExtension{}, missing
	}
	found := InstalledExtension{Name: o.Name, LinkerdNamespace: DefaultNamespace}
	if record := records[extensionChart(o.Name)]; record != nil {
		err = i.observeExtensionRelease(ctx, o, record, &found)
	} else {
		var workload *unstructured.Unstructured
		workload, err = i.extensionWorkload(ctx, o.Name, o.Namespace)
		if err == nil && workload == nil {
			err = missing
		}
		if err == nil {
			found.command(workload, o.Namespace)
		}
	}
	if err != nil {
		return InstalledExtension{}, err
	}
	if label != o.Name {
		found.Drift = append(found.Drift, fmt.Sprintf("Namespace %s: label %s is not %s", o.Namespace, extensionLabel, o.Name))
	}
	o.Checks.RegisteredOnly = len(o.Kinds) > 0
	var all []serving
	for _, s := range extensionServers(o.Name, o.Namespace) {
		if !o.Checks.covers(s) {
			continue
		}
		looked, err := i.look(ctx, s, o.Checks, i.Cluster.Find)
		if err != nil {
			return InstalledExtension{}, err
		}
		all = append(all, looked)
	}
	webhooks, drift := report(all)
	found.Webhooks, found.Drift = webhooks, append(found.Drift, drift...)
	return found, nil
}

// extensionIn is the name of the extension that a namespace is labelled with;
// empty if there is none.
func (i Installer) extensionIn(ctx context.Context, namespace string) (string, error) {
	all, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range all {
		if label := n.Labels[extensionLabel]; n.Name == namespace && slices.Contains(Extensions(), label) {
			return label, nil
		}
	}
	return "", nil
}

func (i Installer) observeExtensionRelease(ctx context.Context, o ExtensionObservation, record *helm.Release, found *InstalledExtension) (err error) {
	found.Version, found.AppVersion = record.ChartVersion, record.AppVersion
	found.HighAvailability = record.Values[antiAffinity] == true
	if namespace, _ := record.Values["linkerdNamespace"].(string); namespace != "" {
		found.LinkerdNamespace = namespace
	}
	if found.ValuesDigest, err = install.Digest(record.Values); err != nil {
		return err
	}
	found.Drift, err = i.Drift(ctx, record, extensionYields(o.Name), o.Kinds...)
	return err
}

// command fills in what is known of an extension that was installed without a
// release.
func (e *InstalledExtension) command(workload *unstructured.Unstructured, namespace string) {
	_, e.AppVersion, _ = strings.Cut(workload.GetAnnotations()[createdByAnnotation], " ")
	e.Version = e.AppVersion
	if version, err := ParseVersion(e.AppVersion); err == nil {
		e.Version = chartVersion(version)
	}
	e.Drift = append(e.Drift, fmt.Sprintf(
		"extension %s in namespace %s has no Helm release, as after `linkerd %s install`: the next apply puts its objects under one, without making any of them anew", e.Name, namespace, e.Name))
}

// UninstallExtension removes an extension: first that by which the API server
// calls it. With deleteCRDs, the CRDs of its chart go with every object of their
// kinds. It may be repeated after a failure.
func (i Installer) UninstallExtension(ctx context.Context, name, namespace string, deleteCRDs bool) error {
	record, adopt, err := i.extensionRecord(ctx, ExtensionSpecification{Name: name, Namespace: namespace})
	if err != nil {
		return err
	}
	if record == nil && adopt {
		return fmt.Errorf("extension %s in namespace %s has no Helm release, so that nobody knows what belongs to it: apply once, which gives it one, or remove it by `linkerd %s uninstall`", name, namespace, name)
	}
	if err := i.Charts.Uninstall(ctx, namespace, extensionChart(name), helm.UninstallOptions{KeepCRDs: !deleteCRDs, Wait: true}); err != nil {
		return err
	}
	if err := i.deleteSecretsOf(ctx, extensionServers(name, namespace)); err != nil {
		return err
	}
	return i.Cluster.ReleaseNamespace(ctx, namespace, extensionHolder(name))
}

// ForeseeExtensionRemoval says which objects of users go with the CRDs of an
// extension's chart.
func (i Installer) ForeseeExtensionRemoval(ctx context.Context, name, namespace string) ([]string, error) {
	record, err := i.release(ctx, namespace, extensionChart(name))
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	objects, err := record.Objects()
	if err != nil {
		return nil, err
	}
	used, err := i.CountObjects(ctx, slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
		return o.GroupVersionKind() != kube.CustomResourceDefinition.GVK()
	}))
	if err != nil || len(used) == 0 {
		return nil, err
	}
	return []string{"delete_crds deletes the objects of the extension's CRDs, in all namespaces: " + install.Counts(used) + "."}, nil
}

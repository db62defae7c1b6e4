package linkerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

// GatewayCRDs says what becomes of the CRDs of the Gateway API.
type GatewayCRDs string

// The possibilities.
const (
	// RequireGatewayCRDs has somebody else bring them, before Linkerd.
	RequireGatewayCRDs GatewayCRDs = "require"
	// InstallGatewayCRDs brings them, unless they are somebody else's.
	InstallGatewayCRDs GatewayCRDs = "install"
	// IgnoreGatewayCRDs neither looks for them nor touches them.
	IgnoreGatewayCRDs GatewayCRDs = "ignore"
)

// GatewayAPI says where the CRDs of the Gateway API come from.
type GatewayAPI struct {
	CRDs GatewayCRDs // empty is [IgnoreGatewayCRDs]
	// Version of the bundle ("1.4.1"); empty is the newest that the version of
	// Linkerd is declared to work with.
	Version string
	// Source is a URL, a file or a directory with the manifests; empty is the
	// standard channel of the version, where the project publishes it.
	Source string
}

const (
	gatewayGroup            = "gateway.networking.k8s.io"
	gatewayBundleAnnotation = gatewayGroup + "/bundle-version"

	// managedByLabel is where AKS and others put their name.
	managedByLabel = "app.kubernetes.io/managed-by"
)

// routeCRDs are those that Linkerd's policy controller looks for as it starts.
func routeCRDs() []string {
	return []string{"httproutes." + gatewayGroup, "grpcroutes." + gatewayGroup}
}

// gatewayVersion is the bundle's, as it is wanted with a line of Linkerd.
func (g GatewayAPI) version(l line) string {
	if g.Version != "" {
		return strings.TrimPrefix(g.Version, "v")
	}
	return l.gatewayAPI[1]
}

// loadGateway reads the manifests that are to be applied; none unless they are
// to be installed.
func (i Installer) loadGateway(ctx context.Context, s Specification, l line) ([]release.Object, error) {
	if s.GatewayAPI.CRDs != InstallGatewayCRDs {
		return nil, nil
	}
	wanted := s.GatewayAPI.version(l)
	manifests, err := i.gatewayManifests(ctx, s.GatewayAPI.Source, wanted)
	if err != nil {
		return nil, err
	}
	objects, err := release.ParseManifests(manifests...)
	if err != nil {
		return nil, err
	}
	known := 0
	for _, object := range objects {
		bundle, marked := object.GetAnnotations()[gatewayBundleAnnotation]
		if !isCRD(object.Unstructured) || !marked {
			continue
		}
		known++
		if got := strings.TrimPrefix(bundle, "v"); got != wanted {
			return nil, fmt.Errorf("%s: %s is of Gateway API %s, and %s is wanted: set the version to that of the source, or another source", object.Source, object.GetName(), got, wanted)
		}
	}
	if known == 0 {
		return nil, fmt.Errorf("%s holds no CRDs of the Gateway API", manifests[0].Source)
	}
	return objects, nil
}

func (i Installer) gatewayManifests(ctx context.Context, source, wanted string) ([]release.Manifest, error) {
	if source == "" {
		source = "https://github.com/kubernetes-sigs/gateway-api/releases/download/v" + wanted + "/standard-install.yaml"
	}
	if strings.Contains(source, "://") {
		manifest, err := i.Manifests.Download(ctx, source, "")
		return []release.Manifest{manifest}, err
	}
	files := []string{source}
	if info, err := os.Stat(source); err != nil {
		return nil, fmt.Errorf("manifests of the Gateway API: %w", err)
	} else if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(source, "*.yaml")); err != nil || len(files) == 0 {
			return nil, fmt.Errorf("manifests of the Gateway API: directory %s has no file *.yaml", source)
		}
	}
	manifests := make([]release.Manifest, len(files))
	for n, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // The file is the one that the user wants applied.
		if err != nil {
			return nil, fmt.Errorf("manifests of the Gateway API: %w", err)
		}
		manifests[n] = release.Manifest{Source: file, Text: string(text)}
	}
	return manifests, nil
}

func isCRD(object *unstructured.Unstructured) bool {
	return object.GroupVersionKind() == kube.CustomResourceDefinition.GVK()
}

func crdRef(name string) kube.Ref { return kube.Ref{Kind: kube.CustomResourceDefinition, Name: name} }

// present reads objects that may be missing.
func (i Installer) present(ctx context.Context, refs ...kube.Ref) ([]*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	for _, ref := range refs {
		live, err := i.Cluster.Get(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, live)
	}
	return found, nil
}

// foreseeGateway tells what an apply does to the CRDs, what is to be said of
// them, and whether it could not but fail.
func (i Installer) foreseeGateway(ctx context.Context, p *Prepared) (changes []kube.Change, warnings []string, err error) {
	switch p.specification.GatewayAPI.CRDs {
	case RequireGatewayCRDs:
		warnings, err = i.requireGateway(ctx, p.line)
	case InstallGatewayCRDs:
		wanted := p.specification.GatewayAPI.version(p.line)
		if problem := outside(wanted, p.line); problem != "" {
			warnings = append(warnings, problem)
		}
		changes, err = i.gatewayChanges(ctx, p, wanted)
	default:
	}
	return changes, warnings, err
}

// requireGateway looks whether the CRDs are there and of a version for Linkerd.
func (i Installer) requireGateway(ctx context.Context, l line) (warnings []string, err error) {
	crds, err := i.present(ctx, crdRef(routeCRDs()[0]), crdRef(routeCRDs()[1]))
	if err != nil {
		return nil, err
	}
	if len(crds) == 0 {
		return nil, &InputError{Input: "gateway_api", Err: fmt.Errorf(
			"the cluster has no CRDs of the Gateway API, which Linkerd %s needs. Have AKS bring them (az aks update --enable-gateway-api), apply the standard channel of version %s, "+
				"or set crds to %q; if the same apply brings them before, set it to %q", l, l.gatewayAPI[1], InstallGatewayCRDs, IgnoreGatewayCRDs)}
	}
	for _, crd := range crds {
		bundle := crd.GetAnnotations()[gatewayBundleAnnotation]
		if problem := outside(bundle, l); bundle != "" && problem != "" {
			warnings = append(warnings, fmt.Sprintf("%s (%s): %s", crdRef(crd.GetName()), ownerOf(crd).words, problem))
		}
		if l.minor >= 18 && !crdServes(crd, "v1") {
			return warnings, &InputError{Input: "gateway_api", Err: fmt.Errorf("%s (%s) does not serve version v1, which Linkerd %s reads: have its owner bring Gateway API %s",
				crdRef(crd.GetName()), ownerOf(crd).words, l, l.gatewayAPI[1])}
		}
	}
	return slices.Compact(warnings), nil
}

// outside says that a bundle is not of a version that the line is declared to
// work with; empty if it is.
func outside(bundle string, l line) string {
	have, err := version.ParseGeneric(bundle)
	if err != nil {
		return fmt.Sprintf("its Gateway API version %q cannot be read", bundle)
	}
	how := ""
	switch {
	case have.LessThan(version.MustParseGeneric(l.gatewayAPI[0])):
		how = "older"
	case version.MustParseGeneric(l.gatewayAPI[1]).LessThan(have):
		how = "newer"
	default:
		return ""
	}
	return fmt.Sprintf("Gateway API %s is %s than what Linkerd %s is declared to work with, %s to %s", have, how, l, l.gatewayAPI[0], l.gatewayAPI[1])
}

func crdServes(crd *unstructured.Unstructured, name string) bool {
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	return err == nil && slices.ContainsFunc(versions, func(v any) bool {
		fields, ok := v.(map[string]any)
		return ok && fields["name"] == name && fields["served"] == true
	})
}

// An owner is whose an object is.
type owner struct {
	words string
	ours  bool
	// release is the Helm release that it is of, as namespace/name; empty if of none.
	release string
}

// ownerOf tells by the marks of an object who looks after it.
func ownerOf(object *unstructured.Unstructured) owner {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	if slices.Contains([]string{labels[managedByLabel], annotations[managedByLabel]}, "aks") {
		return owner{words: "managed by AKS"}
	}
	if kube.Ours(labels) {
		return owner{words: "this provider's", ours: true}
	}
	if name := annotations[releaseNameAnnotation]; name != "" {
		of := annotations["meta.helm.sh/release-namespace"] + "/" + name
		return owner{words: "of Helm release " + of, release: of}
	}
	if by := annotations[createdByAnnotation]; by != "" {
		return owner{words: "created by " + by}
	}
	var managers []string
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource == "" && !slices.Contains(managers, entry.Manager) {
			managers = append(managers, entry.Manager)
		}
	}
	return owner{words: "written by " + strings.Join(managers, ", ")}
}

// gatewayChanges compares the CRDs to install with those in the cluster, and
// refuses to take them from others.
func (i Installer) gatewayChanges(ctx context.Context, p *Prepared, wanted string) ([]kube.Change, error) {
	var changes []kube.Change
	for _, object := range p.gateway {
		ref, err := i.Cluster.RefOf(ctx, object.Unstructured)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", object.Source, err)
		}
		live, err := i.Cluster.Get(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			changes = append(changes, kube.Change{Action: kube.Create, Ref: ref})
			continue
		}
		if err != nil {
			return nil, err
		}
		// What Linkerd's chart has brought, it brings no more.
		former := ownerOf(live)
		if !former.ours && former.release != p.specification.Namespace+"/"+crdsChart {
			return nil, &InputError{Input: "gateway_api", Err: fmt.Errorf("%s is %s, and is not taken from there: set crds to %q to use it as it is, or have it given up first", ref, former.words, RequireGatewayCRDs)}
		}
		if bundle := live.GetAnnotations()[gatewayBundleAnnotation]; strings.TrimPrefix(bundle, "v") != wanted || !former.ours {
			changes = append(changes, kube.Change{Action: kube.Update, Ref: ref, Lines: []string{fmt.Sprintf("metadata.annotations[%q]: %q -> %q", gatewayBundleAnnotation, bundle, "v"+wanted)}})
		}
	}
	return changes, nil
}

// applyGateway applies the manifests, if there are any.
func (i Installer) applyGateway(ctx context.Context, p *Prepared) error {
	if len(p.gateway) == 0 {
		return nil
	}
	if _, err := i.gatewayChanges(ctx, p, p.specification.GatewayAPI.version(p.line)); err != nil {
		return err
	}
	for _, object := range p.gateway {
		wanted := object.DeepCopy()
		labels := wanted.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, kube.OursLabels())
		wanted.SetLabels(labels)
		i.say("applying", map[string]any{"object": wanted.GetKind() + " " + wanted.GetName()})
		if _, err := i.Cluster.Apply(ctx, wanted, kube.ApplyOptions{Manager: manager, Force: true}); err != nil {
			return err
		}
	}
	i.Cluster.Mapper().Reset()
	return nil
}

// keepGateway has Helm leave the CRDs of the Gateway API in the cluster that an
// earlier version of Linkerd's chart has brought, with everybody's routes.
func (i Installer) keepGateway(ctx context.Context, record *helm.Release) error {
	if record == nil {
		return nil
	}
	objects, err := record.Objects()
	if err != nil {
		return fmt.Errorf("release %s/%s: %w", record.Namespace, record.Name, err)
	}
	for _, object := range objects {
		if !isCRD(object) || !strings.HasSuffix(object.GetName(), "."+gatewayGroup) {
			continue
		}
		live, err := i.present(ctx, crdRef(object.GetName()))
		if err != nil {
			return err
		}
		for _, crd := range live {
			if err := i.keep(ctx, crdRef(crd.GetName()), crd.GetAnnotations()); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptGateway notes of changes that CRDs of the Gateway API stay.
func keptGateway(changes []kube.Change) []kube.Change {
	for n, change := range changes {
		if change.Action == kube.Delete && change.Ref.Kind == kube.CustomResourceDefinition && strings.HasSuffix(change.Ref.Name, "."+gatewayGroup) {
			changes[n].Action, changes[n].Note = kube.Keep, "stays: others may have routes"
		}
	}
	return changes
}

// unawareOfGateway tells whether the policy controller runs since before the CRDs
// came: it looks for them once, as it starts.
func (i Installer) unawareOfGateway(ctx context.Context, namespace string) (bool, error) {
	var came time.Time
	for _, name := range routeCRDs() {
		crd, err := i.Cluster.Find(ctx, crdRef(name))
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if at := crd.GetCreationTimestamp(); at.After(came) {
			came = at.Time
		}
	}
	pods, err := i.Cluster.PodsOf(ctx, destination(namespace))
	if errors.Is(err, kube.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, pod := range pods {
		if pod.CreationTimestamp.Time.Before(came) {
			return true, nil
		}
	}
	return false, nil
}

// tellOfGateway restarts the policy controller if it does not know of the CRDs.
func (i Installer) tellOfGateway(ctx context.Context, s Specification) error {
	if s.GatewayAPI.CRDs == IgnoreGatewayCRDs || s.GatewayAPI.CRDs == "" {
		return nil
	}
	unaware, err := i.unawareOfGateway(ctx, s.Namespace)
	if err != nil || !unaware {
		return err
	}
	i.say("restarting, for the CRDs of the Gateway API have come", map[string]any{"workload": destination(s.Namespace).String()})
	_, err = i.Cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{destination(s.Namespace)}}, At: s.Now})
	return err
}

// gatewayLeft are the CRDs of the Gateway API that this provider has brought,
// and how many routes and gateways there are of them.
func (i Installer) gatewayLeft(ctx context.Context) (ours []kube.Ref, used map[string]int, err error) {
	crds, err := i.Cluster.List(ctx, kube.CustomResourceDefinition, "")
	if err != nil {
		return nil, nil, err
	}
	crds = slices.DeleteFunc(crds, func(crd *unstructured.Unstructured) bool {
		return !strings.HasSuffix(crd.GetName(), "."+gatewayGroup) || !kube.Ours(crd.GetLabels())
	})
	used, err = i.CountObjects(ctx, crds)
	for _, crd := range crds {
		ours = append(ours, crdRef(crd.GetName()))
	}
	return ours, used, err
}

// deleteGateway deletes the CRDs of the Gateway API that this provider has
// brought, if nobody has routes.
func (i Installer) deleteGateway(ctx context.Context) error {
	ours, used, err := i.gatewayLeft(ctx)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		i.say("the CRDs of the Gateway API stay", map[string]any{"used": install.Counts(used)})
		return nil
	}
	for _, ref := range ours {
		if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{Wait: true}); err != nil {
			return err
		}
	}
	return nil
}

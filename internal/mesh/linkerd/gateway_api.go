package linkerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
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
// to be installed. What is wrong with them is an *[InputError]; that they cannot be
// fetched now is none.
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
	if err == nil {
		err = checkGateway(objects, manifests[0].Source, wanted)
	}
	if err != nil {
		return nil, &InputError{Input: "gateway_api", Err: err}
	}
	return objects, nil
}

// checkGateway refuses manifests that are not the Gateway API of a version, with
// the CRDs that Linkerd reads.
func checkGateway(objects []release.Object, source, wanted string) error {
	missing := routeCRDs()
	for _, object := range objects {
		bundle, marked := object.GetAnnotations()[gatewayBundleAnnotation]
		if !isCRD(object.Unstructured) || !marked {
			continue
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == object.GetName() })
		if got := strings.TrimPrefix(bundle, "v"); got != wanted {
			return fmt.Errorf("%s: %s is of Gateway API %s, and %s is wanted: set the version to that of the source, or another source", object.Source, object.GetName(), got, wanted)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s does not hold the CRDs %s of the Gateway API, which Linkerd reads", source, strings.Join(missing, ", "))
	}
	return nil
}

func (i Installer) gatewayManifests(ctx context.Context, source, wanted string) ([]release.Manifest, error) {
	if source == "" {
		source = "https://github.com/kubernetes-sigs/gateway-api/releases/download/v" + wanted + "/standard-install.yaml"
	}
	if strings.Contains(source, "://") {
		manifest, err := i.Manifests.Download(ctx, source, "")
		if errors.Is(err, fs.ErrNotExist) {
			err = &InputError{Input: "gateway_api", Err: err}
		}
		return []release.Manifest{manifest}, err
	}
	manifests, err := localManifests(source)
	if err != nil {
		return nil, &InputError{Input: "gateway_api", Err: fmt.Errorf("manifests of the Gateway API: %w", err)}
	}
	return manifests, nil
}

// localManifests reads a file, or those of a directory.
func localManifests(source string) ([]release.Manifest, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	files := []string{source}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(source, "*.yaml")); err != nil || len(files) == 0 {
			return nil, fmt.Errorf("directory %s has no file *.yaml", source)
		}
	}
	manifests := make([]release.Manifest, len(files))
	for n, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // The file is the one that the user wants applied.
		if err != nil {
			return nil, err
		}
		manifests[n] = release.Manifest{Source: file, Text: string(text)}
	}
	return manifests, nil
}

// ofGatewayAPI tells CRDs, and what guards them, from others by their names.
func ofGatewayAPI(name string) bool { return strings.HasSuffix(name, "."+gatewayGroup) }

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
		var steps []gatewayStep
		steps, err = i.gatewaySteps(ctx, p)
		for _, step := range steps {
			if step.change.Action != kube.Unchanged {
				changes = append(changes, step.change)
			}
		}
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
	var present []string
	for _, crd := range crds {
		words := fmt.Sprintf("%s (%s)", crdRef(crd.GetName()), ownerOf(crd).words)
		present = append(present, words)
		bundle := crd.GetAnnotations()[gatewayBundleAnnotation]
		if problem := outside(bundle, l); bundle != "" && problem != "" {
			warnings = append(warnings, words+": "+problem)
		}
	}
	if l.minor >= 18 && !slices.ContainsFunc(crds, servesRoutes) {
		return warnings, &InputError{Input: "gateway_api", Err: fmt.Errorf("version v1, which Linkerd %s reads, is not served by %s: have its owner bring Gateway API %s",
			l, strings.Join(present, ", "), l.gatewayAPI[1])}
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

// An owner is whose an object is.
type owner struct {
	words     string
	ours, aks bool
	// release is the Helm release that it is of, as namespace/name; empty if of none.
	release string
}

// ownerOf tells by the marks of an object who looks after it.
func ownerOf(object *unstructured.Unstructured) owner {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	if slices.Contains([]string{labels[managedByLabel], annotations[managedByLabel]}, "aks") {
		return owner{words: "managed by AKS", aks: true}
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

// GatewayOwner says who looks after a CRD of the Gateway API: "managed by AKS",
// "of Helm release default/gateway-api". Managed is whether it is AKS, which allows
// nobody else to change it.
func GatewayOwner(crd *unstructured.Unstructured) (words string, managed bool) {
	by := ownerOf(crd)
	return by.words, by.aks
}

// gatewayStep is what an apply does with one of the manifests.
type gatewayStep struct {
	object release.Object
	change kube.Change
}

// gatewaySteps compares what to install with what is in the cluster, and refuses
// to take it from others or to take versions away. Without a version of the user's,
// what is newer than Linkerd wants stays. What comes out depends on the cluster,
// so that it is uncertain until the apply.
func (i Installer) gatewaySteps(ctx context.Context, p *Prepared) ([]gatewayStep, error) {
	settings := p.specification.GatewayAPI
	wanted := settings.version(p.line)
	steps := make([]gatewayStep, 0, len(p.gateway))
	for _, object := range p.gateway {
		ref, err := i.Cluster.RefOf(ctx, object.Unstructured)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", object.Source, err)
		}
		step := gatewayStep{object: object, change: kube.Change{Action: kube.Create, Ref: ref, Uncertain: true}}
		live, err := i.Cluster.Get(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			steps = append(steps, step)
			continue
		}
		if err != nil {
			return nil, err
		}
		bundle := live.GetAnnotations()[gatewayBundleAnnotation]
		former := ownerOf(live)
		var problem error
		switch {
		// What Linkerd's chart has brought, it brings no more.
		case !former.ours && former.release != p.specification.Namespace+"/"+crdsChart:
			problem = fmt.Errorf("%s is %s, and is not taken from there: set crds to %q to use it as it is, or have it given up first", ref, former.words, RequireGatewayCRDs)
		case newer(bundle, wanted) && settings.Version == "":
			continue
		case newer(bundle, wanted):
			problem = fmt.Errorf("%s is of Gateway API %s already, and going back to %s would take versions away that objects may be stored in: set the version to %[2]s", ref, strings.TrimPrefix(bundle, "v"), wanted)
		case isCRD(live):
			if err := helm.CheckCRD(live, object.Unstructured); err != nil {
				problem = fmt.Errorf("%w; where there are no such objects, delete the CRD", err)
			}
		}
		if problem != nil {
			return nil, &InputError{Input: "gateway_api", Err: problem}
		}
		step.change.Action = kube.Unchanged
		if strings.TrimPrefix(bundle, "v") != wanted || !former.ours {
			step.change.Action, step.change.Lines = kube.Update, []string{fmt.Sprintf("metadata.annotations[%q]: %q -> %q", gatewayBundleAnnotation, bundle, "v"+wanted)}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// newer tells whether a bundle is newer than a version. One that cannot be read is
// not.
func newer(bundle, than string) bool {
	have, err := version.ParseGeneric(bundle)
	if err != nil {
		return false
	}
	wanted, err := version.ParseGeneric(than)
	return err == nil && wanted.LessThan(have)
}

// applyGateway applies the manifests, if there are any.
func (i Installer) applyGateway(ctx context.Context, p *Prepared) error {
	if len(p.gateway) == 0 {
		return nil
	}
	steps, err := i.gatewaySteps(ctx, p)
	if err != nil {
		return err
	}
	for _, step := range steps {
		wanted := step.object.DeepCopy()
		labels := wanted.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, kube.OursLabels())
		wanted.SetLabels(labels)
		i.say("applying", map[string]any{"object": step.change.Ref.String()})
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
		if !isCRD(object) || !ofGatewayAPI(object.GetName()) {
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

// keptObjects notes of changes which objects stay that a release has no more: the
// identity and the certificates that are looked after from now on, and CRDs of the
// Gateway API.
func keptObjects(changes []kube.Change, namespace string) []kube.Change {
	roots := TrustRootsRef(namespace)
	kept := map[kube.Ref]string{
		roots: "stays: aksmesh_issuer publishes it",
		{Kind: kube.Secret, Namespace: namespace, Name: IssuerSecret}: "stays: aksmesh_issuer writes it",
	}
	for _, s := range controlPlaneServers(namespace) {
		kept[s.secretRef()] = "stays: its certificate is looked after from now on"
	}
	for n, change := range changes {
		note, stays := kept[change.Ref]
		if change.Ref.Kind == kube.CustomResourceDefinition && ofGatewayAPI(change.Ref.Name) {
			note, stays = "stays: others may have routes", true
		}
		if change.Action == kube.Delete && stays {
			changes[n].Action, changes[n].Note = kube.Keep, note
		}
	}
	return changes
}

// gatewayDrift tells what of the CRDs that were to be installed is missing, or is
// older than wanted, by the shared reads.
func (i Installer) gatewayDrift(ctx context.Context, g GatewayAPI, l line) ([]string, error) {
	all, err := i.Cluster.List(ctx, kube.CustomResourceDefinition, "")
	if err != nil {
		return nil, err
	}
	var drift []string
	missing := routeCRDs()
	for _, crd := range all {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == crd.GetName() })
		bundle := crd.GetAnnotations()[gatewayBundleAnnotation]
		if ofGatewayAPI(crd.GetName()) && kube.Ours(crd.GetLabels()) && newer(g.version(l), bundle) {
			drift = append(drift, fmt.Sprintf("%s is of Gateway API %s instead of %s", crdRef(crd.GetName()), strings.TrimPrefix(bundle, "v"), g.version(l)))
		}
	}
	for _, name := range missing {
		drift = append(drift, crdRef(name).String()+" is missing")
	}
	return drift, nil
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
		if mesh.Living(pod) && pod.CreationTimestamp.Time.Before(came) {
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
		return !ofGatewayAPI(crd.GetName()) || !kube.Ours(crd.GetLabels())
	})
	used, err = i.CountObjects(ctx, crds)
	for _, crd := range crds {
		ours = append(ours, crdRef(crd.GetName()))
	}
	return ours, used, err
}

// deleteGateway deletes the CRDs of the Gateway API that this provider has
// brought with what guards them, if nobody has routes.
func (i Installer) deleteGateway(ctx context.Context) error {
	doomed, used, err := i.gatewayLeft(ctx)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		i.say("the CRDs of the Gateway API stay", map[string]any{"used": install.Counts(used)})
		return nil
	}
	// Without their binding, policies refuse nothing.
	for _, name := range []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		guards, err := i.gatewayGuards(ctx, name)
		if err != nil {
			return err
		}
		doomed = append(guards, doomed...)
	}
	for _, ref := range doomed {
		if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{Wait: true}); err != nil {
			return err
		}
	}
	return nil
}

// gatewayGuards are the objects of a kind by which bundles of the Gateway API keep
// others from being put over them, as far as this provider has brought them.
func (i Installer) gatewayGuards(ctx context.Context, name string) ([]kube.Ref, error) {
	kind, err := i.Cluster.KindFor(ctx, admissionregistrationv1.SchemeGroupVersion.WithKind(name))
	if apimeta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := i.Cluster.List(ctx, kind, "")
	var refs []kube.Ref
	for _, object := range all {
		if ofGatewayAPI(object.GetName()) && kube.Ours(object.GetLabels()) {
			refs = append(refs, kube.Ref{Kind: kind, Name: object.GetName()})
		}
	}
	return refs, err
}

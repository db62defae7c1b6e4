package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// atOnce bounds the requests that a look makes at the same time.
const atOnce = 8

// Foresee tells what Apply would do to the objects of releases, in its order,
// without doing anything, and what uninstalling those dropped would delete.
//
// Releases that are on record are compared with the revision that is deployed, as
// Helm does it, so that another plan says the same whatever has happened to the objects
// since; that is what Drift tells. What is in the cluster only decides on
// warnings and errors. The latter are those that Apply could not but fail with:
// a chart that is not made for the cluster (*[KubernetesError]), objects that
// belong to others (*[helm.ForeignObjectsError]), CRDs that would lose versions
// in use (*[helm.CRDVersionError]) and fields that cannot be changed
// (*[ImmutableError]); all are returned together, beside the changes.
func (c Charts) Foresee(ctx context.Context, wanted []Release, dropped []*helm.Release) ([]kube.Change, error) {
	records, err := c.records(ctx, wanted)
	if err != nil {
		return nil, err
	}
	if err := c.checkKubernetes(ctx, wanted); err != nil {
		return nil, err
	}
	looks := make([]*outlook, len(wanted))
	coming := scopes{}
	for i, release := range wanted {
		rendered, err := c.Render(ctx, release)
		if err != nil {
			return nil, err
		}
		looks[i] = &outlook{charts: c, release: release, rendered: rendered, record: records[release.id()]}
		if err := coming.learn(rendered); err != nil {
			return nil, fmt.Errorf("release %s: %w", release.id(), err)
		}
	}
	var changes []kube.Change
	var errs []error
	kindsCome := false
	for _, look := range looks {
		found, err := look.changes(ctx, coming)
		if err != nil {
			errs = append(errs, fmt.Errorf("release %s: %w", look.release.id(), err))
		}
		kindsCome = kindsCome || slices.ContainsFunc(found, func(c kube.Change) bool {
			return c.Action == kube.Create && c.Ref.Kind == kube.CustomResourceDefinition
		})
		for i := range found {
			// What the chart looks for may be there by then.
			found[i].Uncertain = found[i].Uncertain || kindsCome && look.release.Chart.LooksAtCluster()
		}
		changes = append(changes, found...)
	}
	for _, release := range dropped {
		found, err := c.removal(ctx, release)
		if err != nil {
			errs = append(errs, fmt.Errorf("release %s/%s: %w", release.Namespace, release.Name, err))
		}
		changes = append(changes, found...)
	}
	return changes, errors.Join(errs...)
}

// records reads the records of releases, by one request for each namespace.
// Releases that are not there, or have been given up, have none.
func (c Charts) records(ctx context.Context, of []Release) (map[string]*helm.Release, error) {
	records, namespaces := map[string]*helm.Release{}, map[string]bool{}
	for _, release := range of {
		if namespaces[release.Namespace] {
			continue
		}
		namespaces[release.Namespace] = true
		found, err := c.Releases.List(ctx, release.Namespace)
		if err != nil {
			return nil, err
		}
		for _, record := range found {
			if record.Status != helm.StatusUninstalled {
				records[record.Namespace+"/"+record.Name] = record
			}
		}
	}
	return records, nil
}

// checkKubernetes holds the charts against the version of the API server.
func (c Charts) checkKubernetes(ctx context.Context, releases []Release) error {
	version, err := c.Cluster.Version(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, release := range releases {
		errs = append(errs, CheckKubernetes(release.Chart, version))
	}
	return errors.Join(errs...)
}

// outlook is what will become of one release.
type outlook struct {
	charts   Charts
	release  Release
	rendered *helm.Rendered
	record   *helm.Release // nil if there is none
}

func (o *outlook) changes(ctx context.Context, coming scopes) ([]kube.Change, error) {
	next, err := o.charts.objectsOf(ctx, o.rendered, o.release.Namespace, coming)
	if err != nil {
		return nil, err
	}
	volatile, err := o.volatileFields(ctx, next)
	if err != nil {
		return nil, err
	}
	former := map[objectKey]*unstructured.Unstructured{}
	var had []renderedObject
	if o.record != nil {
		// What failed revisions have left beside the one in place goes with the next
		// that does not have it.
		for _, revision := range append([]*helm.Release{inPlace(o.record)}, o.record.Abandoned...) {
			objects, err := o.charts.objectsOf(ctx, &revision.Rendered, o.release.Namespace, coming)
			if err != nil {
				return nil, err
			}
			for _, object := range objects {
				if former[object.key()] == nil {
					former[object.key()] = object.written
					had = append(had, object)
				}
			}
		}
	}
	changes := make([]kube.Change, 0, len(next))
	var checked []inspection
	for _, object := range next {
		before := former[object.key()]
		delete(former, object.key())
		change := o.change(before, object, volatile[object.key()])
		if change.Action == kube.Unchanged {
			continue
		}
		changes = append(changes, change)
		checked = append(checked, inspection{object: object, former: before, change: &changes[len(changes)-1]})
	}
	bare, err := o.bareCRDs(ctx)
	if err != nil {
		return nil, err
	}
	for _, crd := range bare {
		if o.record != nil {
			checked = append(checked, inspection{object: crd, former: crd.written, change: &kube.Change{}})
		}
	}
	err = o.inspect(ctx, checked) // It writes into the changes.
	if o.record == nil {
		created := make([]kube.Change, 0, len(bare)+len(changes))
		for _, crd := range bare {
			created = append(created, kube.Change{Action: kube.Create, Ref: crd.ref, Note: "unless it is there"})
		}
		changes = append(created, changes...)
	}
	for _, object := range slices.Backward(had) {
		if _, left := former[object.key()]; left {
			changes = append(changes, leftOver(object))
		}
	}
	return changes, err
}

// enoughOfCRD is how many of the fields of a CRD are told: another version of one
// may differ in the words of hundreds.
const enoughOfCRD = 5

// change is what becomes of one object of the release, nil being what it was if
// it was none.
func (o *outlook) change(before *unstructured.Unstructured, object renderedObject, volatile []string) kube.Change {
	change := kube.Change{Action: kube.Create, Ref: object.ref, Uncertain: object.unknown}
	if before == nil {
		if o.release.Adopt {
			change.Note = "or taken over, if it is there"
		}
		return change
	}
	next := object.written.DeepCopy()
	o.release.Yields.To(before, before, next)
	change.Lines = kube.Edits(before, next)
	if more := len(change.Lines) - enoughOfCRD; object.ref.Kind == kube.CustomResourceDefinition && more > 0 {
		change.Lines = append(change.Lines[:enoughOfCRD], fmt.Sprintf("and %d more fields", more))
	}
	for i, line := range change.Lines {
		if field := kube.FieldOf(line); slices.Contains(volatile, field) {
			change.Lines[i] = field + ": another with each rendering"
		}
	}
	switch {
	case len(change.Lines) > 0:
		change.Action = kube.Update
	case o.record.Status != helm.StatusDeployed:
		change.Action = kube.Restore
	default:
		change.Action = kube.Unchanged
	}
	return change
}

// bareCRDs are those that Helm creates before all else, and of which it keeps no
// record.
func (o *outlook) bareCRDs(ctx context.Context) ([]renderedObject, error) {
	bare := helm.Rendered{Manifest: strings.Join(o.rendered.CRDs, "\n---\n")}
	return o.charts.objectsOf(ctx, &bare, o.release.Namespace, nil)
}

// volatileFields finds, by rendering the chart as at another time, what comes out
// otherwise with each rendering. Only charts that have a way to it are rendered
// again.
func (o *outlook) volatileFields(ctx context.Context, next []renderedObject) (map[objectKey][]string, error) {
	texts, err := o.release.Chart.Texts()
	if err != nil {
		return nil, err
	}
	rolls := false
	for _, text := range texts {
		rolls = rolls || rolling.Match(text)
	}
	if !rolls || o.record == nil {
		return nil, nil
	}
	revision := 1 // An installation is done again as one.
	if o.record.Deployed != nil {
		revision = o.record.Revision + 1
	}
	again, err := o.charts.renderAgain(ctx, o.release, revision)
	if err != nil {
		return nil, err
	}
	objects, err := o.charts.objectsOf(ctx, again, o.release.Namespace, nil)
	if err != nil {
		return nil, err
	}
	others := map[objectKey]*unstructured.Unstructured{}
	for _, object := range objects {
		others[object.key()] = object.written
	}
	fields := map[objectKey][]string{}
	for _, object := range next {
		if other := others[object.key()]; other != nil {
			for _, line := range kube.Edits(other, object.written) {
				fields[object.key()] = append(fields[object.key()], kube.FieldOf(line))
			}
		}
	}
	return fields, nil
}

// inspection is an object that is held against the cluster.
type inspection struct {
	object renderedObject
	former *unstructured.Unstructured // what it was as part of the release, nil if it was none
	change *kube.Change
}

// inspect asks the cluster what stands in the way of changes.
func (o *outlook) inspect(ctx context.Context, of []inspection) error {
	foreign := make([]*helm.ForeignObject, len(of))
	errs := make([]error, len(of), len(of)+1)
	var requests errgroup.Group
	requests.SetLimit(atOnce)
	for i, this := range of {
		requests.Go(func() error {
			foreign[i], errs[i] = o.obstacle(ctx, this)
			return nil
		})
	}
	if err := requests.Wait(); err != nil {
		return err
	}
	refused := &helm.ForeignObjectsError{Namespace: o.release.Namespace, Name: o.release.Name}
	for _, object := range foreign {
		if object != nil {
			refused.Objects = append(refused.Objects, *object)
		}
	}
	if len(refused.Objects) > 0 {
		errs = append(errs, refused)
	}
	return errors.Join(errs...)
}

// obstacle looks at one object: whose it is if it should not be there yet, and
// whether it can become what it is to be.
func (o *outlook) obstacle(ctx context.Context, this inspection) (*helm.ForeignObject, error) {
	ref, crd := this.object.ref, this.object.ref.Kind == kube.CustomResourceDefinition
	expected := this.former != nil
	rigid := expected && slices.ContainsFunc(this.change.Lines, func(line string) bool { return !strings.HasPrefix(line, "metadata.") })
	if this.object.unserved || expected && !crd && !rigid {
		return nil, nil
	}
	live, err := o.charts.Cluster.Get(ctx, ref)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return nil, nil
	case apierrors.IsForbidden(err):
		this.change.Warning = "the credentials may not read it"
		return nil, nil
	case err != nil:
		return nil, err
	}
	if object, is := helm.Foreign(live, o.release.Namespace, o.release.Name, o.release.Adopt); is && !expected {
		return &object, nil
	}
	if crd {
		if err := helm.CheckCRD(live, this.object.written); err != nil {
			return nil, err
		}
	}
	if !rigid && !o.release.Adopt {
		return nil, nil
	}
	return nil, o.rehearse(ctx, live, this)
}

// ImmutableError tells that a chart changes fields that cannot be changed once an
// object is there.
type ImmutableError struct {
	Ref    kube.Ref
	Fields []string
	err    error
}

func (e *ImmutableError) Error() string {
	return fmt.Sprintf("%s: %s cannot be changed once the object is there; delete it first, which interrupts what it serves, or keep what it has by values of the chart",
		e.Ref, strings.Join(e.Fields, ", "))
}

func (e *ImmutableError) Unwrap() error { return e.err }

// rehearse has the API server say whether an object can become what it is to be.
// What it objects to besides fields that cannot be changed may have another
// reason: the order of changes, or a webhook that is down now.
func (o *outlook) rehearse(ctx context.Context, live *unstructured.Unstructured, this inspection) error {
	wanted := this.object.written.DeepCopy()
	wanted.SetNamespace(this.object.ref.Namespace)
	o.release.Yields.To(this.former, live, wanted)
	_, err := o.charts.Cluster.Apply(ctx, wanted, kube.ApplyOptions{Manager: rehearsalManager, Force: true, DryRun: true})
	if fields := kube.ImmutableFields(err); len(fields) > 0 {
		return &ImmutableError{Ref: this.object.ref, Fields: fields, err: err}
	}
	if err != nil && this.object.ref.Kind != kube.Secret {
		this.change.Warning = fmt.Sprintf("the API server refuses it in a dry run now: %v", err)
	}
	return nil
}

// rehearsalManager is the field manager of dry runs: Helm's own way of writing is
// no server-side apply.
const rehearsalManager = "aksmesh"

// removal is what uninstalling a release deletes, in the order in which Uninstall
// does it.
func (c Charts) removal(ctx context.Context, release *helm.Release) ([]kube.Change, error) {
	had, err := c.objectsOf(ctx, &release.Rendered, release.Namespace, nil)
	if err != nil {
		return nil, err
	}
	var first, rest []kube.Change
	for _, object := range slices.Backward(had) {
		if slices.Contains(entrances(), object.ref.Kind) {
			first = append(first, removalOf(object))
		} else {
			rest = append(rest, removalOf(object))
		}
	}
	return append(first, rest...), nil
}

// leftOver is what becomes of an object that the release has no more from now on.
func leftOver(object renderedObject) kube.Change {
	if object.ref.Kind == kube.CustomResourceDefinition {
		return kube.Change{Action: kube.Keep, Ref: object.ref, Note: "stays, with all objects of its kind"}
	}
	return removalOf(object)
}

// removalOf is what becomes of an object when its release is uninstalled.
func removalOf(object renderedObject) kube.Change {
	if kept(object.written) {
		return kube.Change{Action: kube.Keep, Ref: object.ref, Note: "stays: " + resourcePolicyAnnotation + " says so"}
	}
	return kube.Change{Action: kube.Delete, Ref: object.ref}
}

// The annotation by which Helm leaves an object in the cluster.
const (
	resourcePolicyAnnotation = "helm.sh/resource-policy"
	keepPolicy               = "keep"
)

func kept(object *unstructured.Unstructured) bool {
	return object.GetAnnotations()[resourcePolicyAnnotation] == keepPolicy
}

package istio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// tagManager is the field manager under which tags are applied.
const tagManager = "aksmesh-istio-tag"

// Tag is a name that workloads ask for instead of that of a revision, which it
// leads to: they change the revision when the tag is moved.
type Tag struct {
	// Namespace of the control planes that it may lead to.
	Namespace string
	Name      string
}

// ParseTag reads what String wrote.
func ParseTag(id string) (Tag, error) {
	namespace, name, _ := strings.Cut(id, "/")
	if namespace == "" || CheckTag(name) != nil {
		return Tag{}, fmt.Errorf("%q is not <namespace>/<tag>", id)
	}
	return Tag{Namespace: namespace, Name: name}, nil
}

// String identifies the tag among all of a cluster.
func (t Tag) String() string { return t.Namespace + "/" + t.Name }

// The charts put tags into names of Services, after tagService.
var tagPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,41}[a-z0-9])?$`)

const tagService = "istiod-revision-tag-"

// CheckTag refuses what cannot be the name of a tag.
func CheckTag(name string) error {
	if !tagPattern.MatchString(name) {
		return fmt.Errorf("tag %q is not made of at most 43 lower-case letters, digits and dashes, beginning and ending with a letter or digit", name)
	}
	return nil
}

// configuration names the webhooks that a tag consists of.
func (t Tag) configuration() kube.Ref {
	name := "istio-revision-tag-" + t.Name
	if t.Namespace != DefaultNamespace {
		name += "-" + t.Namespace
	}
	return kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: name}
}

func (t Tag) service() kube.Ref {
	return kube.Ref{Kind: kube.Service, Namespace: t.Namespace, Name: tagService + t.Name}
}

// plane is the control plane of a revision that the tag may lead to, by the
// revision's label.
func (t Tag) plane(revision string) Plane {
	if revision == defaultRevision {
		revision = ""
	}
	return Plane{Namespace: t.Namespace, Revision: revision}
}

// RevisionError tells that a tag cannot lead to a revision.
type RevisionError struct{ err error }

func (e *RevisionError) Error() string { return e.err.Error() }

func (e *RevisionError) Unwrap() error { return e.err }

// ForeignTagError tells that a tag exists that this provider has not made.
type ForeignTagError struct {
	Tag Tag
	ref kube.Ref
}

func (e *ForeignTagError) Error() string {
	return fmt.Sprintf("%s exists already and was made by somebody else, such as istioctl", e.ref)
}

// rendered returns the objects of the tag as the chart of a revision's istiod has
// them, by the record of its Helm release. What tells the chart's version is left
// out, so that an upgrade of the revision does not change its tags. The error is a
// *[RevisionError] that wraps [helm.ErrReleaseNotFound] if the revision is not
// installed.
func (i Installer) rendered(ctx context.Context, t Tag, revision string) ([]*unstructured.Unstructured, error) {
	name := t.plane(revision).release()
	releases, err := i.Releases.List(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	release := releases[name]
	if release == nil || release.Status == helm.StatusUninstalled {
		return nil, &RevisionError{fmt.Errorf("revision %s of Istio is not installed in namespace %s by Helm or aksmesh_istio: release %s/%s: %w",
			revision, t.Namespace, t.Namespace, name, helm.ErrReleaseNotFound)}
	}
	chart, err := i.Releases.RecordedChart(ctx, t.Namespace, name)
	if err != nil {
		return nil, err
	}
	values := helm.MergeValues(release.Values, map[string]any{
		"revisionTags": []any{t.Name},
		"pilot":        map[string]any{"revisionTags": []any{t.Name}}, // which wins if it is there.
	})
	text, err := i.Releases.Template(ctx, helm.RenderRequest{Namespace: t.Namespace, Name: name, Chart: chart, Values: values, IsUpgrade: true})
	if err != nil {
		return nil, err
	}
	all, err := text.Objects()
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", t.Namespace, name, err)
	}
	objects := slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool { return o.GetLabels()[tagLabel] != t.Name })
	if !slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetName() == t.configuration().Name }) {
		return nil, &RevisionError{fmt.Errorf("revision %s of Istio makes no webhooks: the values of its release %s/%s leave them to somebody else", revision, t.Namespace, name)}
	}
	for _, o := range objects {
		labels := o.GetLabels()
		delete(labels, "helm.sh/chart")
		delete(labels, "app.kubernetes.io/version")
		maps.Copy(labels, kube.OursLabels())
		o.SetLabels(labels)
	}
	return objects, nil
}

// Changes is what leading a tag to a revision changes, in short: what its objects
// are in full follows from releases that the same apply may change. From is empty
// for a tag that is made.
func (t Tag) Changes(from, to string) []kube.Change {
	change := kube.Change{Action: kube.Create, Ref: t.configuration(), Note: "leads to revision " + to}
	switch from {
	case "":
	case to:
		change.Action = kube.Unchanged
	default:
		change.Action, change.Note, change.Lines = kube.Update, "", []string{fmt.Sprintf("revision: %q -> %q", from, to)}
	}
	return []kube.Change{change}
}

// CheckTagFree refuses a tag whose pods other webhooks are asked about as well:
// those of a revision of its name, or those of the same tag of other control
// planes, or one of a Helm release. The error is a *[ForeignTagError] for a tag of
// istioctl's, which can be taken over, unless taken says that it was. It reports
// whether the tag is there already and was made by this provider.
func (i Installer) CheckTagFree(ctx context.Context, t Tag, taken bool) (ours bool, err error) {
	injectors, err := injectorsIn(ctx, i.Cluster)
	if err != nil {
		return false, err
	}
	ref := t.configuration()
	for _, other := range injectors {
		switch {
		case other.tag == "" && other.revision == t.Name && t.Name == defaultRevision:
			return false, fmt.Errorf("%s is the injector of a control plane without a revision, which has the tag %s by its nature: give the tag another name, or install all control planes with revisions",
				other, t.Name)
		case other.tag == "" && other.revision == t.Name:
			return false, fmt.Errorf("%s is the injector of a revision that is named %s, too: give the tag another name", other, t.Name)
		case other.tag == t.Name && other.name != ref.Name:
			return false, fmt.Errorf("%s has the tag %s already, so that pods would be given two proxies: give the tag another name", other, t.Name)
		}
	}
	live, err := i.Cluster.Find(ctx, ref)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	if release := live.GetAnnotations()[helmReleaseAnnotation]; release != "" {
		return false, fmt.Errorf("%s belongs to Helm release %s/%s: take %s out of revisionTags in the values of that one first",
			ref, live.GetAnnotations()["meta.helm.sh/release-namespace"], release, t.Name)
	}
	if !kube.Ours(live.GetLabels()) && !taken {
		return false, &ForeignTagError{Tag: t, ref: ref}
	}
	return kube.Ours(live.GetLabels()), nil
}

// SetTag has a tag lead to a revision, once that one injects. Its webhooks change
// all at once, by one request, so that no pod comes in between without a proxy.
// The error is a *[RevisionError] if the revision is not installed.
func (i Installer) SetTag(ctx context.Context, t Tag, revision string) error {
	objects, err := i.rendered(ctx, t, revision)
	if err != nil {
		return err
	}
	plane := t.plane(revision)
	if err := i.answers(ctx, plane); err != nil {
		return err
	}
	injector, err := i.Cluster.Get(ctx, injectorConfiguration(plane))
	if err != nil {
		return err
	}
	// In the order of Helm, the webhooks last: from then on the tag leads there.
	for _, o := range objects {
		if err := i.applyTagged(ctx, o, injector); err != nil {
			return err
		}
	}
	return i.answersTag(ctx, t, plane)
}

// applyTagged applies one object of a tag. It takes back what others have set, but
// for AKS's admissions enforcer, and gives webhooks the CA bundle of the revision's
// injector, which its istiod goes on looking after.
func (i Installer) applyTagged(ctx context.Context, object, injector *unstructured.Unstructured) error {
	ref, err := i.Cluster.RefOf(ctx, object)
	if err != nil {
		return err
	}
	if ref.Kind == kube.MutatingWebhookConfiguration {
		if err := copyBundle(injector, object); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		live, err := i.Cluster.Get(ctx, ref)
		if err != nil && !errors.Is(err, kube.ErrNotFound) {
			return err
		}
		if err == nil {
			kube.EnforcerYields().To(nil, live, object)
		}
	}
	if i.Log != nil {
		i.Log("leading a tag to a revision", map[string]any{"object": ref.String(), "revision": object.GetLabels()[revisionLabel]})
	}
	_, err = i.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: tagManager, Force: true})
	return err
}

// copyBundle gives all webhooks of a configuration the CA bundle of another one.
func copyBundle(from, to *unstructured.Unstructured) error {
	source, _, err := unstructured.NestedSlice(from.Object, "webhooks")
	if err != nil {
		return err
	}
	var bundle any
	for _, w := range source {
		if webhook, ok := w.(map[string]any); ok && bundle == nil {
			bundle, _, _ = unstructured.NestedFieldNoCopy(webhook, "clientConfig", "caBundle")
		}
	}
	if bundle == nil {
		return fmt.Errorf("%s %s has no CA bundle yet", from.GetKind(), from.GetName())
	}
	webhooks, _, err := unstructured.NestedSlice(to.Object, "webhooks")
	if err != nil {
		return err
	}
	for _, w := range webhooks {
		if webhook, ok := w.(map[string]any); ok {
			if err := unstructured.SetNestedField(webhook, bundle, "clientConfig", "caBundle"); err != nil {
				return err
			}
		}
	}
	return unstructured.SetNestedSlice(to.Object, webhooks, "webhooks")
}

// answersTag waits until a pod that asks for the tag is given a proxy of the
// revision.
func (i Installer) answersTag(ctx context.Context, t Tag, p Plane) error {
	ref := t.configuration()
	pod := map[string]string{injectLabel: yes, revisionLabel: t.Name}
	if t.Name == defaultRevision {
		delete(pod, revisionLabel)
	}
	namespace, err := i.injectedInto(ctx, ref.Name, pod)
	if err != nil {
		return err
	}
	if namespace == "" {
		if i.Log != nil {
			i.Log("the tag is not tried, as no namespace leaves pods to it", map[string]any{"tag": t.String()})
		}
		return nil
	}
	return i.AwaitAnswers(ctx, install.PodProbe(ref.Name, namespace, pod, nil, func(made *corev1.Pod) bool {
		proxy, _ := mesh.FindSidecar(made, proxyContainer)
		return proxy != nil && revisionOf(made) == p.Label()
	}))
}

// FoundTag is a tag as it is.
type FoundTag struct {
	// Revision that it leads to; empty if its webhooks are missing.
	Revision string
	// Drift says what is not as it should be.
	Drift []string
}

// ObserveTag looks at a tag that is to lead to a revision; empty for whichever it
// leads to. The error wraps [kube.ErrNotFound] if nothing of the tag is there.
func (i Installer) ObserveTag(ctx context.Context, t Tag, revision string) (FoundTag, error) {
	ref := t.configuration()
	live, err := i.Cluster.Find(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) && revision != "" {
		if _, other := i.Cluster.Find(ctx, t.service()); errors.Is(other, kube.ErrNotFound) {
			return FoundTag{}, err
		} else if other != nil {
			return FoundTag{}, other
		}
		return FoundTag{Drift: []string{ref.String() + " is missing: pods that ask for the tag are given no proxy"}}, nil
	}
	if err != nil {
		return FoundTag{}, err
	}
	found := FoundTag{Revision: live.GetLabels()[revisionLabel]}
	if revision == "" {
		revision = found.Revision
	}
	if release := live.GetAnnotations()[helmReleaseAnnotation]; release != "" {
		found.Drift = append(found.Drift, fmt.Sprintf("%s belongs to Helm release %s", ref, release))
	}
	moved := found.Revision != revision
	if moved {
		found.Drift = append(found.Drift, fmt.Sprintf("%s leads to revision %s instead of %s", ref, found.Revision, revision))
	}
	if !trusted(live) {
		found.Drift = append(found.Drift, ref.String()+": it has no CA bundle, so that the API server cannot call istiod")
	}
	objects, err := i.rendered(ctx, t, revision)
	if refused, ok := errors.AsType[*RevisionError](err); ok {
		found.Drift = append(found.Drift, refused.Error())
		return found, nil
	}
	if err != nil {
		return FoundTag{}, err
	}
	for _, o := range objects {
		if moved && o.GetName() == ref.Name {
			continue // That says it all.
		}
		drift, err := i.Cluster.Drift(ctx, o, t.Namespace, func(live, written *unstructured.Unstructured) error {
			kube.EnforcerYields().To(nil, live, written)
			return nil
		})
		if err != nil {
			return FoundTag{}, err
		}
		found.Drift = append(found.Drift, drift...)
	}
	return found, nil
}

// RemoveTag removes a tag that nobody asks for. Otherwise it is an error that
// names who does: their pods would be given no proxy any more.
func (i Installer) RemoveTag(ctx context.Context, t Tag) error {
	users, err := i.tagUsers(ctx, t)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		const few = 10
		if more := len(users) - few; more > 0 {
			users = append(users[:few], fmt.Sprintf("%d more", more))
		}
		return fmt.Errorf("tag %s is still asked for by %s, whose pods would be given no proxy any more; bring them to another revision or out of the mesh first", t, strings.Join(users, ", "))
	}
	for _, ref := range []kube.Ref{t.configuration(), t.service()} {
		if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{Wait: true}); err != nil {
			return err
		}
	}
	return nil
}

// tagUsers are the namespaces and pods that ask for a tag.
func (i Installer) tagUsers(ctx context.Context, t Tag) ([]string, error) {
	namespaces, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	asks := map[string]bool{}
	var users []string
	for _, namespace := range namespaces {
		if leads(namespace, map[string]bool{t.Name: true}, false) {
			users = append(users, "Namespace "+namespace.Name)
		}
		// Only where no label of the namespace counts do those of pods.
		asks[namespace.Name] = namespace.Labels[injectionLabel] == "" && namespace.Labels[revisionLabel] == ""
	}
	pods, err := i.Cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		revision, named := pod.Labels[revisionLabel]
		wants := revision == t.Name || t.Name == defaultRevision && !named && pod.Labels[injectLabel] == yes
		if asks[pod.Namespace] && wants && mesh.Living(pod) {
			users = append(users, fmt.Sprintf("Pod %s/%s", pod.Namespace, pod.Name))
		}
	}
	slices.Sort(users)
	return users, nil
}

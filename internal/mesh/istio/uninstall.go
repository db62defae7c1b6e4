package istio

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// AwaitRemovable waits until a control plane may be removed, which is for Remove to
// do: a revision, and a control plane beside others, once nobody uses it; any other
// once no tag leads there that is somebody's to remove. An error at the end of the
// context names who still does. One that has not been taken over from istioctl
// yet is refused, since nobody knows what belongs to it.
func (i Installer) AwaitRemovable(ctx context.Context, s Specification) error {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return err
	}
	unmanaged, err := i.unmanaged(ctx, found)
	if err != nil {
		return err
	}
	if unmanaged != nil {
		return fmt.Errorf("%w: apply once, which puts what is there under releases, or remove it by `istioctl uninstall`", unmanaged)
	}
	return i.awaitUnused(ctx, s, found)
}

// unmanaged tells of the istiod of a plane that no release has made, if there is
// one; nil otherwise.
func (i Installer) unmanaged(ctx context.Context, v inventory) (*unmanagedError, error) {
	if v.here(v.plane.release()) != nil {
		return nil, nil //nolint:nilnil // It has a release.
	}
	istiod, err := i.unclaimed(ctx, component{namespace: v.plane.Namespace, release: v.plane.release(), chart: IstiodChart})
	if err != nil || istiod == nil {
		return nil, err
	}
	return &unmanagedError{istiod.ref}, nil
}

// Remove removes everything that Apply and istiod have made, except the CRDs,
// which stay with every object of their kinds unless deleteCRDs is set, and what
// other revisions of the namespace need. Nobody may use it any more, which
// AwaitRemovable waits for. It may be repeated after a failure.
func (i Installer) Remove(ctx context.Context, s Specification, deleteCRDs bool) error {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return err
	}
	others := found.others()
	if err := i.deleteTags(ctx, s); err != nil {
		return err
	}
	if err := i.handOver(ctx, found); err != nil {
		return err
	}
	for _, c := range slices.Backward(compose(s, found.validating())) {
		release := found.find(c)
		kept := release == nil || c.shared() && found.needed(c.chart) ||
			c.chart == GatewayChart && revisionLabelOf(release) != s.Label()
		if kept {
			continue
		}
		if err := i.Uninstall(ctx, c.namespace, c.release, helm.UninstallOptions{KeepCRDs: true, Wait: true}); err != nil {
			return err
		}
	}
	// Of a change that failed, there may be some more.
	for _, release := range found.dropped(compose(s, defaultRevision), Specification{Plane: s.Plane, Version: s.Version}, nil) {
		if err := i.Uninstall(ctx, release.Namespace, release.Name, helm.UninstallOptions{Wait: true}); err != nil {
			return err
		}
	}
	if deleteCRDs && len(others) == 0 {
		if err := i.deleteCRDs(ctx, s.Namespace); err != nil {
			return err
		}
	}
	if err := i.deleteLeftovers(ctx, s.Plane); err != nil {
		return err
	}
	for _, namespace := range s.namespaces() {
		if err := i.Cluster.ReleaseNamespace(ctx, namespace, s.holder()); err != nil {
			return err
		}
	}
	return nil
}

// few lists names, the first of them if there are many.
func few(names []string) string {
	const most = 10
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// proxies are the pods that have a proxy of a control plane's, besides its own
// gateways and the ztunnels of its nodes; and those that are redirected to
// ztunnels, if these go with it.
func (i Installer) proxies(ctx context.Context, s Specification, v inventory) ([]string, error) {
	pods, err := i.Cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	plane := Trust{Cluster: i.Cluster, Namespace: s.Namespace}
	ambient := v.here(ztunnelRelease) != nil && !v.needed(ZtunnelChart)
	var found []string
	for _, pod := range pods {
		proxy := (Injection{}).Proxy(pod)
		_, gateway := s.gateways()[pod.Labels["app"]]
		gateway = gateway && s.gatewayNamespace(pod.Labels["app"]) == pod.Namespace
		sidecar := proxy.Revision == s.Label() && plane.Serves(pod) && !gateway && !isZtunnel(pod)
		if mesh.Living(pod) && (sidecar || ambient && proxy.Mode == mesh.Ambient) {
			found = append(found, fmt.Sprintf("Pod %s/%s", pod.Namespace, pod.Name))
		}
	}
	slices.Sort(found)
	return found, nil
}

// awaitUnused waits until no pod has a proxy of the control plane's, and no
// namespace and no tag leads there. Of the default one, if there is no other, it
// only waits for tags: a mesh may be given up while it is used.
func (i Installer) awaitUnused(ctx context.Context, s Specification, v inventory) error {
	watched := []kube.Kind{kube.MutatingWebhookConfiguration}
	if !v.last() {
		watched = append(watched, kube.Pod, kube.Namespace)
	}
	return i.Cluster.Await(ctx, "", watched, func(ctx context.Context) (string, error) {
		tags, err := i.tagsOf(ctx, s)
		if err != nil {
			return "", err
		}
		users := tags.claimed()
		if !v.last() {
			if users, err = i.users(ctx, s, v, tags); err != nil {
				return "", err
			}
		}
		if len(users) == 0 {
			return "", nil
		}
		return fmt.Sprintf("revision %s of Istio to be used no more, as it is by %s; bring them to another revision, or take them away, first", s.Label(), few(users)), nil
	})
}

// last reports whether the plane is the default one of a namespace without others.
func (v inventory) last() bool { return v.plane.Revision == "" && len(v.others()) == 0 }

// users are the tags, namespaces and pods that use a control plane.
func (i Installer) users(ctx context.Context, s Specification, v inventory, tags leading) ([]string, error) {
	namespaces, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, tag := range tags.foreign {
		found = append(found, tag.String())
	}
	for _, namespace := range namespaces {
		if leads(namespace, tags.names, tags.elsewhere) {
			found = append(found, "Namespace "+namespace.Name)
		}
	}
	slices.Sort(found)
	pods, err := i.proxies(ctx, s, v)
	return append(found, pods...), err
}

// leading are the tags that lead to a control plane.
type leading struct {
	names     map[string]bool // of all, with that of the revision
	foreign   []taggedInjector
	elsewhere bool // the tag default leads to another control plane
}

// A taggedInjector belongs to a tag that the release of its control plane has not
// made.
type taggedInjector struct {
	injector
	claimed bool // made by this provider, or by another release
}

// claimed are the tags that are somebody's to remove.
func (l leading) claimed() []string {
	var found []string
	for _, tag := range l.foreign {
		if tag.claimed {
			found = append(found, tag.String())
		}
	}
	return found
}

// tagsOf finds the tags that lead to a control plane. Its own release may have
// some, which go with it.
func (i Installer) tagsOf(ctx context.Context, s Specification) (leading, error) {
	configurations, err := i.Cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return leading{}, err
	}
	found := leading{names: map[string]bool{s.Label(): true}}
	for _, w := range configurations {
		if w.GetLabels()["app"] != "sidecar-injector" {
			continue
		}
		injector, err := injectorOf(w)
		if err != nil {
			return leading{}, fmt.Errorf("%s %s: %w", w.GetKind(), w.GetName(), err)
		}
		if injector.revision != s.Label() || injector.namespace != "" && injector.namespace != s.Namespace {
			// Another has the name.
			found.elsewhere = found.elsewhere || injector.tag == defaultRevision
			continue
		}
		if injector.tag == "" {
			continue
		}
		found.names[injector.tag] = true
		if release := w.GetAnnotations()[helmReleaseAnnotation]; release != s.release() {
			found.foreign = append(found.foreign, taggedInjector{injector, release != "" || kube.Ours(w.GetLabels())})
		}
	}
	return found, nil
}

// deleteTags deletes the tags that lead to a control plane and are nobody's, as
// `istioctl install` makes one: without it, the API server would refuse the pods
// that ask for them.
func (i Installer) deleteTags(ctx context.Context, s Specification) error {
	tags, err := i.tagsOf(ctx, s)
	if err != nil {
		return err
	}
	if claimed := tags.claimed(); len(claimed) > 0 {
		return fmt.Errorf("%s leads to revision %s of Istio: move it to another revision, or take it away, first", few(claimed), s.Label())
	}
	for _, tag := range tags.foreign {
		for _, ref := range []kube.Ref{{Kind: kube.MutatingWebhookConfiguration, Name: tag.name}, Tag{Namespace: s.Namespace, Name: tag.tag}.service()} {
			if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{Wait: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// leads reports whether a namespace asks for one of the names, as which
// istio-injection=enabled asks for the default one unless that is another's.
func leads(namespace *corev1.Namespace, names map[string]bool, another bool) bool {
	if namespace.DeletionTimestamp != nil {
		return false
	}
	if value, set := namespace.Labels[injectionLabel]; set {
		return value == enabled && names[defaultRevision] && !another
	}
	return names[namespace.Labels[revisionLabel]]
}

// handOver has another revision do what the one that goes does for all: validate
// what names no revision, since the API server would call an istiod that is there
// no more, and tell the ztunnels what they need.
func (i Installer) handOver(ctx context.Context, v inventory) error {
	others := v.others()
	if base := v.here(baseRelease); base != nil && len(others) > 0 && v.validating() == v.plane.Label() {
		if err := i.bequeath(ctx, base, "defaultRevision", others); err != nil {
			return err
		}
	}
	ambient := maps.Clone(others)
	maps.DeleteFunc(ambient, func(_ string, istiod *helm.Release) bool { return !needs(istiod, ZtunnelChart) })
	if nodes := v.here(ztunnelRelease); nodes != nil && len(ambient) > 0 && revisionLabelOf(nodes) == v.plane.Label() {
		return i.bequeath(ctx, nodes, "revision", ambient)
	}
	return nil
}

// bequeath has the value of a shared release that names a revision name the newest
// of the heirs.
func (i Installer) bequeath(ctx context.Context, release *helm.Release, key string, heirs map[string]*helm.Release) error {
	heir := slices.MaxFunc(slices.Sorted(maps.Keys(heirs)), func(a, b string) int {
		return compareVersions(heirs[a].ChartVersion, heirs[b].ChartVersion)
	})
	chart, err := i.Releases.RecordedChart(ctx, release.Namespace, release.Name)
	if err != nil {
		return err
	}
	values := helm.MergeValues(release.Values, map[string]any{key: heir})
	if heir == defaultRevision {
		unstructured.RemoveNestedField(values, key)
	}
	return i.Deploy(ctx, install.Release{Namespace: release.Namespace, Name: release.Name, Chart: chart, Values: values, Yields: Yields()})
}

// crds are the CRDs that bear the mark of the base release, which outlasts the
// release itself: so a deletion that was cut off goes on.
func (i Installer) crds(ctx context.Context, namespace string) ([]*unstructured.Unstructured, error) {
	all, err := i.Cluster.List(ctx, kube.CustomResourceDefinition, "")
	return slices.DeleteFunc(all, func(crd *unstructured.Unstructured) bool {
		marks := crd.GetAnnotations()
		return marks[helmReleaseAnnotation] != baseRelease || marks["meta.helm.sh/release-namespace"] != namespace || !strings.HasSuffix(crd.GetName(), ".istio.io")
	}), err
}

// deleteCRDs deletes the CRDs with all objects of their kinds.
func (i Installer) deleteCRDs(ctx context.Context, namespace string) error {
	crds, err := i.crds(ctx, namespace)
	if err != nil {
		return err
	}
	var doomed []kube.Ref
	for _, crd := range crds {
		doomed = append(doomed, kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()})
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

// ForeseeRemoval says, one line each, what Remove would leave without what it
// needs: pods whose proxies lose their control plane, and objects that go with the
// CRDs of their kinds.
func (i Installer) ForeseeRemoval(ctx context.Context, s Specification, deleteCRDs bool) ([]string, error) {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return nil, err
	}
	unmanaged, err := i.unmanaged(ctx, found)
	if err != nil {
		return nil, err
	}
	if unmanaged != nil {
		return []string{unmanaged.Error() + ": destroy refuses to remove it, as nobody knows what belongs to it. Apply once, which puts what is there under releases, or remove it by `istioctl uninstall`."}, nil
	}
	alone := len(found.others()) == 0
	var lines []string
	users, err := i.proxies(ctx, s, found)
	if err != nil {
		return nil, err
	}
	tags, err := i.tagsOf(ctx, s)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, tag := range tags.foreign {
		names = append(names, tag.String())
	}
	switch claimed := tags.claimed(); {
	case len(claimed) > 0 || !found.last() && len(names) > 0:
		lines = append(lines, fmt.Sprintf("Tags lead to this control plane: %s. Destroy waits until they are moved to another revision, or taken away.", few(names)))
	case len(names) > 0:
		lines = append(lines, fmt.Sprintf("Tags that lead to this control plane go with it: %s.", few(names)))
	}
	var gateways []string
	for _, gateway := range found.gateways() {
		gateways = append(gateways, gateway.Namespace+"/"+gateway.Name)
	}
	if len(gateways) > 0 {
		lines = append(lines, fmt.Sprintf("Gateways go with this control plane, and with them what comes in through them: %s. To keep one, name it in the gateways of another revision first, which takes it over.", few(gateways)))
	}
	switch {
	case len(users) == 0:
	case found.last():
		lines = append(lines, fmt.Sprintf("%d pods have proxies of this control plane: %s. Once it is gone, their certificates are not renewed, and after a day they trust nobody.", len(users), few(users)))
	default:
		lines = append(lines, fmt.Sprintf("%d pods have proxies of this control plane: %s. Destroy waits until they are brought to another revision.", len(users), few(users)))
	}
	if !deleteCRDs || !alone {
		return lines, nil
	}
	crds, err := i.crds(ctx, s.Namespace)
	if err != nil {
		return nil, err
	}
	lost, err := i.CountObjects(ctx, crds)
	if err != nil {
		return nil, err
	}
	if len(lost) > 0 {
		lines = append(lines, "delete_crds deletes the objects of Istio's CRDs, in all namespaces: "+install.Counts(lost)+".")
	}
	return lines, nil
}

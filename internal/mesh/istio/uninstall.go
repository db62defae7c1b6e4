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

// Remove removes everything that Apply and istiod have made, except the CRDs,
// which stay with every object of their kinds unless deleteCRDs is set, and what
// other revisions of the namespace need. A revision, and a control plane beside
// others, goes only once nobody uses it, which is waited for: an error at the end
// of the context names who still does. It may be repeated after a failure.
func (i Installer) Remove(ctx context.Context, s Specification, deleteCRDs bool) error {
	found, err := i.inventoryOf(ctx, s.Plane, s.namespaces()...)
	if err != nil {
		return err
	}
	others := found.others()
	if s.Revision != "" || len(others) > 0 {
		if err := i.awaitUnused(ctx, s); err != nil {
			return err
		}
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
// gateways.
func (i Installer) proxies(ctx context.Context, s Specification) ([]string, error) {
	pods, err := i.Cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	plane := Trust{Cluster: i.Cluster, Namespace: s.Namespace}
	var found []string
	for _, pod := range pods {
		_, gateway := s.gateways()[pod.Labels["app"]]
		if proxy := (Injection{}).Proxy(pod); !mesh.Living(pod) || proxy.Revision != s.Label() || !plane.Serves(pod) ||
			gateway && s.gatewayNamespace(pod.Labels["app"]) == pod.Namespace {
			continue
		}
		found = append(found, fmt.Sprintf("Pod %s/%s", pod.Namespace, pod.Name))
	}
	slices.Sort(found)
	return found, nil
}

// awaitUnused waits until no pod has a proxy of the control plane's, and no
// namespace and no tag leads there.
func (i Installer) awaitUnused(ctx context.Context, s Specification) error {
	watched := []kube.Kind{kube.Pod, kube.Namespace, kube.MutatingWebhookConfiguration}
	return i.Cluster.Await(ctx, "", watched, func(ctx context.Context) (string, error) {
		users, err := i.proxies(ctx, s)
		if err != nil {
			return "", err
		}
		callers, err := i.callers(ctx, s)
		if err != nil {
			return "", err
		}
		users = append(callers, users...)
		if len(users) == 0 {
			return "", nil
		}
		return fmt.Sprintf("revision %s of Istio to be used no more, as it is by %s; bring them to another revision first", s.Label(), few(users)), nil
	})
}

// callers are the tags and namespaces that lead to a control plane. Its own
// release may have tags, which go with it.
func (i Installer) callers(ctx context.Context, s Specification) ([]string, error) {
	configurations, err := i.Cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return nil, err
	}
	names, byDefault := map[string]bool{}, false
	var found []string
	for _, w := range configurations {
		if w.GetLabels()["app"] != "sidecar-injector" {
			continue
		}
		injector, err := injectorOf(w)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", w.GetKind(), w.GetName(), err)
		}
		if injector.revision != s.Label() || injector.namespace != "" && injector.namespace != s.Namespace {
			// Another has the name.
			byDefault = byDefault || injector.tag == defaultRevision
			continue
		}
		if injector.tag == "" {
			continue
		}
		names[injector.tag] = true
		if w.GetAnnotations()[helmReleaseAnnotation] != s.release() {
			found = append(found, injector.String())
		}
	}
	names[s.Label()] = true
	namespaces, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, namespace := range namespaces {
		if leads(namespace, names, byDefault) {
			found = append(found, "Namespace "+namespace.Name)
		}
	}
	slices.Sort(found)
	return found, nil
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

// handOver has another revision validate what names none, if the one that goes
// does: the API server would call an istiod that is there no more.
func (i Installer) handOver(ctx context.Context, v inventory) error {
	others := v.others()
	base := v.here(baseRelease)
	if base == nil || len(others) == 0 || v.validating() != v.plane.Label() {
		return nil
	}
	heir := slices.MaxFunc(slices.Sorted(maps.Keys(others)), func(a, b string) int {
		return compareVersions(others[a].ChartVersion, others[b].ChartVersion)
	})
	chart, err := i.Releases.RecordedChart(ctx, base.Namespace, base.Name)
	if err != nil {
		return err
	}
	values := helm.MergeValues(base.Values, map[string]any{"defaultRevision": heir})
	if heir == defaultRevision {
		unstructured.RemoveNestedField(values, "defaultRevision")
	}
	return i.Deploy(ctx, install.Release{Namespace: base.Namespace, Name: base.Name, Chart: chart, Values: values, Yields: Yields()})
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
	found, err := i.inventoryOf(ctx, s.Plane)
	if err != nil {
		return nil, err
	}
	alone := len(found.others()) == 0
	var lines []string
	users, err := i.proxies(ctx, s)
	if err != nil {
		return nil, err
	}
	switch {
	case len(users) == 0:
	case alone && s.Revision == "":
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

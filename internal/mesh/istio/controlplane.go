package istio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// A sidecarPlane is what the injectors of one namespace's istiods give to pods.
type sidecarPlane struct {
	injection Injection
	injectors []injector           // of the whole cluster
	wanted    []injector           // by which the injection is meant to happen
	revisions map[string]*revision // of the namespace, by name
	roots     roots
}

func sidecarPlaneOf(ctx context.Context, cluster *kube.Cluster, i Injection, injectors []injector) (mesh.ControlPlane, error) {
	i.Namespace = cmp.Or(i.Namespace, whereInjects(injectors, i.Revision))
	p := sidecarPlane{injection: i, injectors: injectors, revisions: map[string]*revision{}}
	served := slices.DeleteFunc(slices.Clone(injectors), p.foreign)
	if len(served) == 0 {
		return nil, fmt.Errorf("%w: no MutatingWebhookConfiguration leads to an istiod in namespace %s%s", mesh.ErrNoControlPlane, i.Namespace, elsewhere(injectors))
	}
	if p.wanted = answering(served, cmp.Or(i.Revision, defaultRevision)); len(p.wanted) == 0 {
		if i.Revision != "" {
			return nil, fmt.Errorf("%w: revision %q has no injector: no MutatingWebhookConfiguration that leads to namespace %s carries that revision or tag%s",
				mesh.ErrNoControlPlane, i.Revision, i.Namespace, there(served))
		}
		// Pods may still name a revision themselves.
		p.wanted = served
	}
	for _, by := range served {
		if p.revisions[by.revision] != nil {
			continue
		}
		r, err := revisionIn(ctx, cluster, i.Namespace, by)
		if err != nil {
			return nil, err
		}
		p.revisions[by.revision] = r
	}
	var err error
	p.roots, err = rootsIn(ctx, cluster, i.Namespace)
	return p, err
}

// whereInjects is where the istiod is that injects by a revision or tag, or else
// any istiod: that of the Istio add-on of AKS is not in the usual namespace, and
// has no default revision. Of several, the one in the usual namespace is meant.
func whereInjects(injectors []injector, revision string) string {
	usual := ControlPlaneNamespace(revision)
	for _, some := range [][]injector{answering(injectors, cmp.Or(revision, defaultRevision)), injectors} {
		some = slices.DeleteFunc(slices.Clone(some), func(i injector) bool { return i.namespace == "" })
		switch {
		case len(some) == 0:
		case slices.ContainsFunc(some, func(i injector) bool { return i.namespace == usual }):
			return usual
		default:
			return some[0].namespace
		}
	}
	return usual
}

// answering are the injectors of a tag, or else of a revision: where both are of
// one name, istioctl has the tag in force.
func answering(injectors []injector, name string) []injector {
	by := func(matches func(injector) bool) []injector {
		return slices.DeleteFunc(slices.Clone(injectors), func(i injector) bool { return !matches(i) })
	}
	if tagged := by(func(i injector) bool { return i.tag == name }); len(tagged) > 0 {
		return tagged
	}
	return by(func(i injector) bool { return i.tag == "" && i.revision == name })
}

// elsewhere says which namespaces have an istiod, if any.
func elsewhere(injectors []injector) string {
	var namespaces []string
	for _, i := range injectors {
		where := i.namespace
		if where == check.AddonNamespace {
			where += " (the Istio add-on of AKS: name its revision or tag " + cmp.Or(i.tag, i.revision) + ")"
		}
		namespaces = append(namespaces, where)
	}
	slices.Sort(namespaces)
	if namespaces = slices.Compact(namespaces); len(namespaces) == 0 {
		return ""
	}
	return "; those that are there lead to " + strings.Join(namespaces, " and ")
}

// there says which revisions and tags can be named.
func there(injectors []injector) string {
	var names []string
	for _, i := range injectors {
		names = append(names, cmp.Or(i.tag, i.revision))
	}
	slices.Sort(names)
	return "; there are " + strings.Join(slices.Compact(names), ", ")
}

// foreign reports whether an injector leads to an istiod of another namespace.
func (p sidecarPlane) foreign(i injector) bool {
	return i.namespace != "" && i.namespace != p.injection.Namespace
}

// takers are the injectors that are asked about a pod. The last one's word
// counts: it injects anew what others have injected.
func (p sidecarPlane) takers(namespace *corev1.Namespace, pod map[string]string) []injector {
	return slices.DeleteFunc(slices.Clone(p.injectors), func(i injector) bool { return !i.takes(namespace, pod) })
}

// Available implements mesh.ControlPlane.
func (p sidecarPlane) Available() error {
	for _, i := range p.wanted {
		if !i.trusted {
			return fmt.Errorf("%s: istiod has not published its CA bundle yet, so the API server cannot call the injector", i)
		}
		if i.namespace == "" {
			continue
		}
		if err := p.revisions[i.revision].available(); err != nil {
			return err
		}
	}
	return nil
}

// Sees implements mesh.ControlPlane.
func (p sidecarPlane) Sees(namespace *corev1.Namespace, pod *corev1.Pod) error {
	if slices.Contains(neverInjected, namespace.Name) {
		return fmt.Errorf("the injector of Istio never injects pods of %s", strings.Join(neverInjected, ", "))
	}
	asked := p.injection.Revision
	switch value, set := namespace.Labels[injectionLabel]; {
	case value == disabled:
		return fmt.Errorf("its label %s=disabled wins over everything else", injectionLabel)
	case set && value != enabled:
		return fmt.Errorf("its label %s=%s keeps every injector away; the only values are enabled and disabled", injectionLabel, value)
	case set && asked != "":
		return fmt.Errorf("its label %s=%s wins over %s=%s; remove it first", injectionLabel, value, revisionLabel, asked)
	}
	takers := p.takers(namespace, pod.Labels)
	if len(takers) == 0 {
		return p.unseen(namespace, pod)
	}
	taker := takers[len(takers)-1]
	if p.foreign(taker) {
		return fmt.Errorf("its pods go to %s, which leads to the istiod of namespace %s instead of %s", taker, taker.namespace, p.injection.Namespace)
	}
	ours := func(i injector) bool { return i.revision == taker.revision }
	if asked != "" && !slices.ContainsFunc(p.wanted, ours) {
		return fmt.Errorf("the label %s=%s of its namespace gives its pods to the revision %s, whatever they say themselves; ask for that one, or take the label away",
			revisionLabel, namespace.Labels[revisionLabel], taker.revision)
	}
	return p.revisions[taker.revision].refuses(pod)
}

// unseen says why no injector is asked about a pod.
func (p sidecarPlane) unseen(namespace *corev1.Namespace, pod *corev1.Pod) error {
	if claimsAmbient(mesh.MarkOf(namespace), mesh.MarkOf(pod)) && !claimsSidecar(mesh.MarkOf(namespace), mesh.MarkOf(pod)) {
		return errors.New("it is meant for the ambient mode, and istio-cni has not taken it in")
	}
	// Labels that name a revision which is not there.
	for _, name := range []string{namespace.Labels[revisionLabel], pod.Labels[revisionLabel]} {
		if name != "" && namespace.Labels[injectionLabel] == "" {
			if len(answering(p.injectors, name)) == 0 {
				return fmt.Errorf("revision %q has no injector: no MutatingWebhookConfiguration carries that revision or tag%s", name, there(p.injectors))
			}
			break
		}
	}
	if p.injection.Revision == "" && len(answering(p.wanted, defaultRevision)) == 0 {
		return fmt.Errorf("there is no default revision to inject it, and no tag named %s; name a revision%s", defaultRevision, there(p.wanted))
	}
	var choices []choice
	for _, i := range p.wanted {
		choices = append(choices, i.choices...)
	}
	return fmt.Errorf("%s passes over it: %s", p.wanted[0], nearest(choices, namespace, pod.Labels))
}

// Privileged implements mesh.ControlPlane.
func (p sidecarPlane) Privileged() bool {
	switch p.injection.Settings[interceptionAnnotation] {
	case "TPROXY":
		return true // The proxy itself needs it.
	case "NONE":
		return false
	}
	return slices.ContainsFunc(p.wanted, func(i injector) bool {
		config := p.revisions[i.revision].config
		return config == nil || !config.cni
	})
}

// Stale implements mesh.ControlPlane.
func (p sidecarPlane) Stale(subject mesh.Subject, shown mesh.Proxy) []mesh.Reason {
	// What it is made from, if that is known: the pod has been added to.
	from := mesh.MarkOf(subject.Pod)
	if subject.Template != nil {
		from = mesh.MarkOf(subject.Template)
	}
	takers := p.takers(subject.Namespace, from.Labels)
	if len(takers) == 0 {
		return nil // It would lose its proxy.
	}
	taker := takers[len(takers)-1]
	if shown.Mode == mesh.Ambient {
		return []mesh.Reason{{Cause: mesh.OtherMode, Detail: "ambient instead of a sidecar"}}
	}
	var reasons []mesh.Reason
	if shown.Revision != "" && shown.Revision != taker.revision {
		reasons = append(reasons, mesh.Reason{Cause: mesh.MovedRevision, Detail: fmt.Sprintf("%s instead of %s", shown.Revision, taker.revision)})
	}
	r := p.revisions[taker.revision]
	if p.foreign(taker) || r == nil {
		return reasons
	}
	reasons = append(reasons, r.stale(subject, shown)...)
	if reason, stale := p.roots.stale(subject, r.istiod); stale {
		reasons = append(reasons, reason)
	}
	return reasons
}

// The objects of the ambient mode, by the labels of their charts.
const (
	ztunnel     = "ztunnel"
	cniNode     = "istio-cni-node"
	cniConfig   = "istio-cni-config"
	cniAppLabel = "k8s-app"
)

// An ambientPlane is what takes pods in as they are.
type ambientPlane struct {
	injectors []injector
	agents    []*kube.Workload
	switched  bool // the ambient mode is on
	excluded  []string
	choices   []choice
}

func ambientPlaneOf(ctx context.Context, cluster *kube.Cluster, injectors []injector) (mesh.ControlPlane, error) {
	p := ambientPlane{injectors: injectors, switched: true}
	for label, value := range map[string]string{"app": ztunnel, cniAppLabel: cniNode} {
		agent, err := daemonSet(ctx, cluster, label, value)
		if err != nil {
			return nil, err
		}
		p.agents = append(p.agents, agent)
		if value != cniNode {
			continue
		}
		configuration, err := cluster.ConfigMap(ctx, agent.Namespace, cniConfig)
		if errors.Is(err, kube.ErrNotFound) {
			configuration, err = &corev1.ConfigMap{}, nil
		}
		if err != nil {
			return nil, err
		}
		if err := p.configure(configuration); err != nil {
			return nil, fmt.Errorf("ConfigMap %s/%s: %w", agent.Namespace, cniConfig, err)
		}
	}
	slices.SortFunc(p.agents, func(a, b *kube.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return p, nil
}

// daemonSet finds one of Istio's in whichever namespace it is.
func daemonSet(ctx context.Context, cluster *kube.Cluster, label, value string) (*kube.Workload, error) {
	all, err := cluster.List(ctx, kube.DaemonSet, "")
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		pods, _, _ := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "labels")
		if pods[label] == value {
			return cluster.Workload(ctx, kube.Ref{Kind: kube.DaemonSet, Namespace: d.GetNamespace(), Name: d.GetName()})
		}
	}
	return nil, fmt.Errorf("%w: there is no DaemonSet of %s, which the ambient mode needs (%s=%s)", mesh.ErrNoControlPlane, value, label, value)
}

// configure reads what istio-cni is told by its chart.
func (p *ambientPlane) configure(configuration *corev1.ConfigMap) error {
	p.switched = configuration.Data["AMBIENT_ENABLED"] != "false"
	p.excluded = strings.Split(configuration.Data["EXCLUDE_NAMESPACES"], ",")
	selectors := []struct {
		PodSelector       metav1.LabelSelector `json:"podSelector"`
		NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	}{}
	const key = "AMBIENT_ENABLEMENT_SELECTOR"
	if err := yaml.Unmarshal([]byte(cmp.Or(configuration.Data[key], usualSelectors)), &selectors); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, s := range selectors {
		c, err := choiceOf(&s.NamespaceSelector, &s.PodSelector)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		p.choices = append(p.choices, c)
	}
	return nil
}

// usualSelectors are those of versions that cannot be told others.
const usualSelectors = `
- podSelector:
    matchLabels: {istio.io/dataplane-mode: ambient}
- podSelector:
    matchExpressions:
    - {key: istio.io/dataplane-mode, operator: NotIn, values: [none]}
  namespaceSelector:
    matchLabels: {istio.io/dataplane-mode: ambient}
`

// Available implements mesh.ControlPlane.
func (p ambientPlane) Available() error {
	if !p.switched {
		return errors.New("istio-cni runs without the ambient mode (value ambient.enabled of its chart)")
	}
	for _, agent := range p.agents {
		if waiting := agent.Unfinished(); waiting != "" {
			return errors.New(waiting)
		}
	}
	return nil
}

// Sees implements mesh.ControlPlane.
func (p ambientPlane) Sees(namespace *corev1.Namespace, pod *corev1.Pod) error {
	if slices.Contains(p.excluded, namespace.Name) {
		return fmt.Errorf("istio-cni leaves namespace %s out (value excludeNamespaces of its chart)", namespace.Name)
	}
	if !slices.ContainsFunc(p.choices, func(c choice) bool { return c.takes(namespace, pod.Labels) }) {
		return errors.New("istio-cni passes over it: " + nearest(p.choices, namespace, pod.Labels))
	}
	for _, i := range p.injectors {
		if i.takes(namespace, pod.Labels) {
			return fmt.Errorf("%s gives its pods sidecars, and the ambient mode leaves those alone; take the label away that asks for them (%s, %s or %s)",
				i, injectionLabel, revisionLabel, injectLabel)
		}
	}
	return nil
}

// Privileged implements mesh.ControlPlane: nothing is added to pods.
func (ambientPlane) Privileged() bool { return false }

// Stale implements mesh.ControlPlane: proxies, their versions and their roots are
// the nodes' own.
func (ambientPlane) Stale(_ mesh.Subject, shown mesh.Proxy) []mesh.Reason {
	if shown.Mode == mesh.Ambient {
		return nil
	}
	return []mesh.Reason{{Cause: mesh.OtherMode, Detail: "a sidecar instead of ambient"}}
}

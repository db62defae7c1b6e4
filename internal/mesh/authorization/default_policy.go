package authorization

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// recordAnnotation is on what has a default policy of Linkerd's, apart from where
// pods take it from: whose it is, as the objects of other authorizations say it
// of themselves.
const recordAnnotation = "aksmesh.io/authorization"

// Default is a default policy: whom pods let in for whom nothing else is said.
type Default struct {
	// Policy is one of [linkerd.DefaultInboundPolicies].
	Policy string `json:"policy"`
	// Kind and Name are of the Deployment, StatefulSet or DaemonSet whose pods have
	// it; empty if it is that of the namespace.
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

// annotates reports whether the intent is an annotation and not objects.
func (i Intent) annotates() bool { return i.Default != nil && i.Mesh.Linkerd != nil }

// target is what has the default policy.
func (i Intent) target() kube.Ref {
	for _, kind := range kube.WorkloadKinds() {
		if kind.Name == i.Default.Kind {
			return kube.Ref{Kind: kind, Namespace: i.Namespace, Name: i.Default.Name}
		}
	}
	return kube.Ref{Kind: kube.Namespace, Name: i.Namespace}
}

// workloadLabels are the labels by which the workload of the default policy
// selects its pods; none if it is that of the namespace.
func (i Intent) workloadLabels(ctx context.Context, cluster *kube.Cluster) (map[string]string, error) {
	ref := i.target()
	if ref.Kind == kube.Namespace {
		return nil, nil
	}
	if cluster == nil {
		return nil, fmt.Errorf("%s: %w", ref, ErrOpen)
	}
	workload, err := cluster.Workload(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	if err != nil {
		return nil, err
	}
	found, exact := exactLabels(workload.Selector)
	if !exact {
		return nil, fmt.Errorf("%s selects its pods by %s, which Istio's selectors cannot say; give its pods a default policy by that of the namespace, or an authorization by pod_selector", ref, workload.Selector)
	}
	return found, nil
}

// exactLabels are the labels that a selector asks for; it reports false if it asks
// for more than one value of each.
func exactLabels(selector labels.Selector) (map[string]string, bool) {
	found := map[string]string{}
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		values := r.ValuesUnsorted()
		if r.Operator() != selection.Equals && r.Operator() != selection.In || len(values) != 1 {
			return nil, false
		}
		found[r.Key()] = values[0]
	}
	return found, true
}

// A mark is a default policy of Linkerd's on what pods are made from.
type mark struct {
	on     kube.Ref
	policy string // empty if there is none
}

func (i Intent) mark() mark { return mark{i.target(), i.Default.Policy} }

// object is the part of the object that holds the policy.
func (m mark) object() (*unstructured.Unstructured, error) {
	object := m.on.Object()
	if m.policy == "" {
		return object, nil
	}
	err := unstructured.SetNestedField(object.Object, m.policy, m.at()...)
	return object, err
}

func (m mark) at() []string {
	at := []string{"metadata", "annotations", linkerd.DefaultInboundPolicyAnnotation}
	if m.on.Kind != kube.Namespace {
		at = append([]string{"spec", "template"}, at...)
	}
	return at
}

func (m mark) manifest() (string, error) {
	object, err := m.object()
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.on, err)
	}
	text, err := yaml.Marshal(object.Object)
	if err != nil {
		return "", fmt.Errorf("print %s: %w", m.on, err)
	}
	return string(text), nil
}

// markOf reads the mark of an object, and what it says of whose it is.
func markOf(on kube.Ref, live *unstructured.Unstructured) (mark, *Intent) {
	m := mark{on: on}
	m.policy, _, _ = unstructured.NestedString(live.Object, m.at()...)
	var owner Intent
	if json.Unmarshal([]byte(live.GetAnnotations()[recordAnnotation]), &owner) != nil {
		return m, nil
	}
	return m, &owner
}

// findMark reads the default policy of a name; known is as in [Find].
func findMark(ctx context.Context, cluster *kube.Cluster, namespace, name string, known *Intent) (Found, error) {
	candidates := []kube.Ref{{Kind: kube.Namespace, Name: namespace}}
	if known != nil {
		candidates = []kube.Ref{known.target()}
	} else {
		workloads, err := cluster.Workloads(ctx, namespace)
		if err != nil {
			return Found{}, err
		}
		for _, workload := range workloads {
			candidates = append(candidates, workload.Ref)
		}
	}
	for _, ref := range candidates {
		live, err := cluster.Find(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return Found{}, err
		}
		m, owner := markOf(ref, live)
		if owner == nil || owner.Name != name {
			continue
		}
		manifest, err := m.manifest()
		return Found{Manifest: manifest, Intent: owner}, err
	}
	return Found{}, fmt.Errorf("authorization %s/%s: %w", namespace, name, kube.ErrNotFound)
}

// annotate writes the mark, and waits for the pods that its workload then makes.
func (i Intent) annotate(ctx context.Context, cluster *kube.Cluster, force bool, log kube.Log) (begun bool, err error) {
	ref := i.target()
	live, err := cluster.Find(ctx, ref)
	if err != nil {
		return false, err
	}
	record, err := json.Marshal(i.recorded())
	if err != nil {
		return false, fmt.Errorf("%s: record intent: %w", ref, err)
	}
	found, owner := markOf(ref, live)
	switch {
	case owner != nil && owner.Name != i.Name:
		return false, fmt.Errorf("%s: the default policy %w: it is that of authorization %s/%s", ref, kube.ErrExists, i.Namespace, owner.Name)
	case owner != nil && !force && live.GetAnnotations()[recordAnnotation] != string(record):
		return false, fmt.Errorf("%s: the default policy of authorization %s/%s %w", ref, i.Namespace, i.Name, kube.ErrExists)
	}
	object, err := i.mark().object()
	if err != nil {
		return false, fmt.Errorf("%s: %w", ref, err)
	}
	// An apply to an object that is gone would make a new one.
	object.SetUID(live.GetUID())
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[recordAnnotation] = string(record)
	object.SetAnnotations(annotations)
	err = i.rolling(ctx, cluster, log, func() (bool, error) {
		_, err := cluster.Apply(ctx, object, kube.ApplyOptions{Manager: Manager, Force: force})
		if conflict, is := errors.AsType[*kube.ConflictError](err); is && slices.Contains(conflict.Managers, mesh.EnrolmentManager) {
			err = fmt.Errorf("%w: an aksmesh_injection sets it by its default_inbound_policy; set it in one of the two places", err)
		}
		begun = err == nil
		return found != i.mark(), err
	})
	return begun, err
}

// release gives the mark up.
func (i Intent) release(ctx context.Context, cluster *kube.Cluster, log kube.Log) error {
	ref := i.target()
	err := i.rolling(ctx, cluster, log, func() (bool, error) {
		for {
			live, err := cluster.Get(ctx, ref)
			if err != nil {
				return false, err
			}
			before, owner := markOf(ref, live)
			if owner != nil && owner.Name != i.Name {
				return false, nil // It is another authorization's by now.
			}
			released, err := cluster.ReleaseAt(ctx, live, Manager)
			if errors.Is(err, kube.ErrChanged) {
				continue
			}
			if err != nil {
				return false, err
			}
			after, _ := markOf(ref, released)
			return after != before, nil
		}
	})
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	return err
}

// rolling has the pod template of the workload changed, if it is one, within its
// disruption budgets, and waits until its pods are made anew if it was. A workload
// that is not restarted by that keeps its pods; see [Intent.Outdated].
func (i Intent) rolling(ctx context.Context, cluster *kube.Cluster, log kube.Log, change func() (changed bool, err error)) error {
	rolls, err := i.rolls(ctx, cluster)
	if err != nil {
		return err
	}
	if rolls {
		if err := cluster.AwaitBudget(ctx, i.target()); err != nil {
			return err
		}
	}
	changed, err := change()
	if err != nil || !changed || !rolls {
		return err
	}
	return cluster.AwaitRollouts(ctx, 0, log, i.target())
}

// rolls reports whether the pods are made anew when the policy changes.
func (i Intent) rolls(ctx context.Context, cluster *kube.Cluster) (bool, error) {
	if i.target().Kind == kube.Namespace {
		return false, nil
	}
	workload, err := cluster.Workload(ctx, i.target())
	return err == nil && workload.CheckRestart() == nil, err
}

// Outdated says of which workloads there are pods that still go by a former
// default policy, having been made before, one line each. Those whose template
// says otherwise are none of them.
func (i Intent) Outdated(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	if !i.annotates() {
		return nil, nil
	}
	return i.bearing(ctx, cluster, func(policy string) bool { return policy != i.Default.Policy })
}

// Remaining says of which workloads there are pods that go by the default policy
// although it was given up, having been made before, one line each.
func (i Intent) Remaining(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	if !i.annotates() {
		return nil, nil
	}
	live, err := cluster.Find(ctx, i.target())
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if now, _ := markOf(i.target(), live); now.policy == i.Default.Policy {
		return nil, nil // It is somebody else's word as well.
	}
	return i.bearing(ctx, cluster, func(policy string) bool { return policy == i.Default.Policy })
}

// bearing counts the pods, by workload, that the default policy is for and that
// were made with one that is meant.
func (i Intent) bearing(ctx context.Context, cluster *kube.Cluster, meant func(policy string) bool) ([]string, error) {
	ref := i.target()
	pods, err := selected(ctx, cluster, i.Namespace, nil)
	if err != nil {
		return nil, err
	}
	counts, order := map[kube.Ref]int{}, []kube.Ref(nil)
	for _, pod := range pods {
		policy, meshed := linkerd.DefaultPolicyOf(pod)
		if !meshed || !meant(policy) || pod.DeletionTimestamp != nil {
			continue
		}
		owner, own, err := i.madeBy(ctx, cluster, pod)
		if err != nil {
			return nil, err
		}
		if ref.Kind == kube.Namespace && own || ref.Kind != kube.Namespace && owner != ref {
			continue
		}
		if counts[owner] == 0 {
			order = append(order, owner)
		}
		counts[owner]++
	}
	var lines []string
	for _, owner := range order {
		unit := "pods"
		if counts[owner] == 1 {
			unit = "pod"
		}
		lines = append(lines, fmt.Sprintf("%s: %d %s", owner, counts[owner], unit))
	}
	return lines, nil
}

// madeBy is what manages a pod, and whether its template has a default policy of
// its own.
func (i Intent) madeBy(ctx context.Context, cluster *kube.Cluster, pod *corev1.Pod) (owner kube.Ref, own bool, err error) {
	if owner, err = cluster.OwnerOf(ctx, pod); err != nil {
		return owner, false, err
	}
	for _, kind := range kube.WorkloadKinds() {
		if owner.Kind != kind {
			continue
		}
		workload, err := cluster.Workload(ctx, owner)
		if errors.Is(err, kube.ErrNotFound) {
			return owner, false, nil
		}
		if err != nil {
			return owner, false, err
		}
		_, own = workload.Template.Annotations[linkerd.DefaultInboundPolicyAnnotation]
	}
	return owner, own, nil
}

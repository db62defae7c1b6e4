// Package authorization keeps in a cluster who may call some pods, or whom pods
// let in for whom nothing else is said, by the objects of the mesh that they
// belong to.
package authorization

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// Manager is the field manager of everything that this package writes.
const Manager = "aksmesh-authorization"

// guaranteeAnnotation tells people who meet an object what it is there for.
const guaranteeAnnotation = "aksmesh.io/guarantee"

// ErrOpen means that something in the cluster decides what an intent comes to,
// and that it cannot be seen now.
var ErrOpen = errors.New("it depends on what is in the cluster")

// Intent is who may call pods: what a policy says of some ports of theirs, or
// what holds wherever no policy says anything.
type Intent struct {
	// Policy is who may call what. With Default set, it has nothing but a namespace
	// and a name.
	access.Policy
	// Default is the default policy, or nil.
	Default *Default `json:"default,omitempty"`
	Mesh    Mesh     `json:"mesh"`
}

// Mesh is the mesh whose objects enforce an intent; exactly one field is set.
type Mesh struct {
	Linkerd *linkerd.Authorizer `json:"linkerd,omitempty"`
	Istio   *istio.Authorizer   `json:"istio,omitempty"`
}

// authorizer is what a mesh makes of policies.
type authorizer interface {
	CheckPolicy(p access.Policy) error
	Authorize(ctx context.Context, cluster *kube.Cluster, p access.Policy) ([]*unstructured.Unstructured, string, error)
	AuthorizationFindings(ctx context.Context, cluster *kube.Cluster, p access.Policy, owned func(*unstructured.Unstructured) bool) ([]string, error)
}

func (m Mesh) authorizer() authorizer {
	if m.Linkerd != nil {
		return *m.Linkerd
	}
	return *m.Istio
}

// WhichMesh finds out which mesh pods belong to, as [mesh.Which] does.
func WhichMesh(ctx context.Context, cluster *kube.Cluster, namespace string, selector map[string]string) (Mesh, error) {
	found, err := mesh.Which(ctx, cluster, namespace, selector, injections()...)
	if err != nil {
		return Mesh{}, err
	}
	if _, is := found.(istio.Injection); is {
		return Mesh{Istio: &istio.Authorizer{}}, nil
	}
	pods, err := selected(ctx, cluster, namespace, selector)
	return Mesh{Linkerd: &linkerd.Authorizer{ControlPlane: linkerd.ControlPlaneOf(pods)}}, err
}

func injections() []mesh.Mesh {
	return []mesh.Mesh{
		linkerd.Injection{Namespace: linkerd.DefaultNamespace},
		istio.Injection{},
		istio.Injection{Ambient: true},
	}
}

// Check says why the mesh cannot enforce the intent, as far as that can be told
// without a cluster.
func (i Intent) Check() error {
	switch {
	case i.Default == nil:
		return i.Mesh.authorizer().CheckPolicy(i.Policy)
	case i.Mesh.Istio != nil:
		return istio.CheckDefaultPolicy(i.Default.Policy)
	default:
		return nil
	}
}

// Compiled is an intent as the mesh enforces it.
type Compiled struct {
	// Manifest is the objects as [holding.Manifest] prints them, or the one
	// annotation by which Linkerd knows a default policy.
	Manifest string
	// Guarantee is what holds once they are in force, for people.
	Guarantee string
}

// Compile works out the objects. The cluster may be nil. The error wraps
// [ErrOpen] if it takes more than can be seen now.
func (i Intent) Compile(ctx context.Context, cluster *kube.Cluster) (Compiled, error) {
	if i.annotates() {
		manifest, err := i.mark().manifest()
		return Compiled{Manifest: manifest, Guarantee: linkerd.DefaultPolicyGuarantee(i.Default.Policy)}, err
	}
	objects, guarantee, err := i.objects(ctx, cluster)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		err = fmt.Errorf("%w: %w", ErrOpen, err)
	}
	if err != nil {
		return Compiled{}, err
	}
	manifest, err := holding.Manifest(objects)
	return Compiled{Manifest: manifest, Guarantee: guarantee}, err
}

func (i Intent) objects(ctx context.Context, cluster *kube.Cluster) ([]*unstructured.Unstructured, string, error) {
	if i.Default == nil {
		return i.Mesh.authorizer().Authorize(ctx, cluster, i.Policy)
	}
	pods, err := i.workloadLabels(ctx, cluster)
	if err != nil {
		return nil, "", err
	}
	object, guarantee, err := istio.DefaultPolicy(ctx, cluster, i.Default.Policy, i.Namespace, i.Name, pods)
	if err != nil {
		return nil, "", err
	}
	return []*unstructured.Unstructured{object}, guarantee, nil
}

// holdingOf is where the objects of an authorization are kept: in the kinds of its
// mesh, or of all if that is not known.
func holdingOf(cluster *kube.Cluster, namespace, name string, known *Intent) holding.Holding {
	h := holding.Holding{Cluster: cluster, Manager: Manager, Owner: "authorization/" + name, Namespace: namespace}
	if known == nil || known.Mesh.Linkerd != nil {
		h.Kinds = append(h.Kinds, linkerd.PolicyKinds()...)
	}
	if known == nil || known.Mesh.Istio != nil {
		h.Kinds = append(h.Kinds, istio.PolicyKinds()...)
	}
	return h
}

// Apply writes what was compiled. What others manage is an error, and so is what
// another authorization has, unless force takes it over from the former. Begun
// tells whether anything may have been written. With a default policy of a
// workload it returns when the pods are made anew.
func (i Intent) Apply(ctx context.Context, cluster *kube.Cluster, compiled Compiled, force bool, log kube.Log) (begun bool, err error) {
	if i.annotates() {
		return i.annotate(ctx, cluster, force, log)
	}
	objects, err := holding.Parse(compiled.Manifest)
	if err != nil {
		return false, err
	}
	for _, object := range objects {
		if _, err := cluster.RefOf(ctx, object); meta.IsNoMatchError(err) {
			return false, fmt.Errorf("%s %s/%s: %w: install %s first, or the version of it that has this kind, and let this resource depend on it",
				object.GetKind(), object.GetNamespace(), object.GetName(), err, i.Mesh.name())
		}
	}
	return holdingOf(cluster, i.Namespace, i.Name, &i).Apply(ctx, objects, i.recorded(), map[string]string{guaranteeAnnotation: compiled.Guarantee}, force)
}

func (m Mesh) name() string {
	if m.Linkerd != nil {
		return linkerd.Injection{}.Name()
	}
	return istio.Injection{}.Name()
}

// recorded is the intent as it is kept with the objects: probes are as the pods
// have them at any time.
func (i Intent) recorded() Intent {
	i.Probes = nil
	return i
}

// Found is an authorization as it is in the cluster.
type Found struct {
	// Manifest is as in [Compiled], of what is there.
	Manifest string
	// Intent is what the cluster says that it was made from; nil if it does not.
	Intent *Intent
}

// Find reads the authorization of a name. Known is what it was when it was
// applied; if it is not known, it is looked for wherever it may be. The error
// wraps [kube.ErrNotFound] if there is none.
func Find(ctx context.Context, cluster *kube.Cluster, namespace, name string, known *Intent) (Found, error) {
	if known == nil || !known.annotates() {
		objects, err := holdingOf(cluster, namespace, name, known).Find(ctx)
		if err != nil {
			return Found{}, err
		}
		if len(objects.Objects) > 0 {
			found := Found{Manifest: objects.Manifest}
			var intent Intent
			if objects.Intent(&intent) {
				found.Intent = &intent
			}
			return found, nil
		}
	}
	if known == nil || known.annotates() {
		return findMark(ctx, cluster, namespace, name, known)
	}
	return Found{}, fmt.Errorf("authorization %s/%s: %w", namespace, name, kube.ErrNotFound)
}

// Delete takes everything back that the intent has put into the cluster. What is
// gone already is no error.
func (i Intent) Delete(ctx context.Context, cluster *kube.Cluster, log kube.Log) error {
	if i.annotates() {
		return i.release(ctx, cluster, log)
	}
	return holdingOf(cluster, i.Namespace, i.Name, &i).Delete(ctx)
}

// selected are the pods with all of the labels, whose containers run or are to.
func selected(ctx context.Context, cluster *kube.Cluster, namespace string, selector map[string]string) ([]*corev1.Pod, error) {
	all, err := cluster.Pods(ctx, namespace)
	if err != nil {
		return nil, err
	}
	matches := labels.SelectorFromSet(selector)
	var pods []*corev1.Pod
	for _, pod := range all {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && matches.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// DependsOnProbes reports whether the objects depend on how kubelets probe the pods.
func (i Intent) DependsOnProbes() bool { return i.Default == nil && i.Mesh.Linkerd != nil }

// Probes are the probes of the pods of a policy, and of those that its workloads
// would make now, as there may be none at this moment.
func Probes(ctx context.Context, cluster *kube.Cluster, namespace string, selector map[string]string) ([]access.Probe, error) {
	pods, err := selected(ctx, cluster, namespace, selector)
	if err != nil {
		return nil, err
	}
	workloads, err := cluster.Workloads(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for _, workload := range workloads {
		if labels.SelectorFromSet(selector).Matches(labels.Set(workload.Template.Labels)) {
			pods = append(pods, &corev1.Pod{ObjectMeta: workload.Template.ObjectMeta, Spec: workload.Template.Spec})
		}
	}
	return access.ProbesOf(pods), nil
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Shared reads: each kind is listed once for the whole process and answers all
// reads from then on, for as long as nothing may have changed. What they return
// is shared and must not be modified.

// Namespace reads a namespace from the shared reads.
func (c *Cluster) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return sharedObject[*corev1.Namespace](ctx, c, Ref{Kind: Namespace, Name: name})
}

// Namespaces returns all namespaces in order of name.
func (c *Cluster) Namespaces(ctx context.Context) ([]*corev1.Namespace, error) {
	return sharedObjects[*corev1.Namespace](ctx, c, Namespace, "")
}

// Nodes returns all nodes in order of name.
func (c *Cluster) Nodes(ctx context.Context) ([]*corev1.Node, error) {
	return sharedObjects[*corev1.Node](ctx, c, Node, "")
}

// Pods returns the pods of a namespace, or of all if it is "", in order of
// namespace and name.
func (c *Cluster) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return sharedObjects[*corev1.Pod](ctx, c, Pod, namespace)
}

// NetworkPolicy reads a network policy from the shared reads.
func (c *Cluster) NetworkPolicy(ctx context.Context, namespace, name string) (*networkingv1.NetworkPolicy, error) {
	return sharedObject[*networkingv1.NetworkPolicy](ctx, c, Ref{Kind: NetworkPolicy, Namespace: namespace, Name: name})
}

// NetworkPolicies returns the network policies of a namespace, or of all if it
// is "".
func (c *Cluster) NetworkPolicies(ctx context.Context, namespace string) ([]*networkingv1.NetworkPolicy, error) {
	return sharedObjects[*networkingv1.NetworkPolicy](ctx, c, NetworkPolicy, namespace)
}

// Services returns the services of a namespace, or of all if it is "".
func (c *Cluster) Services(ctx context.Context, namespace string) ([]*corev1.Service, error) {
	return sharedObjects[*corev1.Service](ctx, c, Service, namespace)
}

// ConfigMap reads a ConfigMap; those of one namespace share a list.
func (c *Cluster) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return sharedObject[*corev1.ConfigMap](ctx, c, Ref{Kind: ConfigMap, Namespace: namespace, Name: name})
}

// Secret reads a secret as it is now. Secrets are never listed.
func (c *Cluster) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	live, err := c.Get(ctx, Ref{Kind: Secret, Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, secret); err != nil {
		// The converter's words may quote the content.
		return nil, fmt.Errorf("get Secret %s/%s: the answer is not a secret", namespace, name)
	}
	return secret, nil
}

// List returns the objects of any kind but Secret in a namespace, or in all if
// it is "", from the shared reads: of ReplicaSets the metadata. Unlike those of
// the accessors by kind, these are copies.
func (c *Cluster) List(ctx context.Context, kind Kind, namespace string) ([]*unstructured.Unstructured, error) {
	var listed []*unstructured.Unstructured
	err := c.withMirror(kind, namespace, func(m *mirror) error {
		if err := m.current(ctx); err != nil {
			return err
		}
		found := m.all(namespace)
		listed = make([]*unstructured.Unstructured, 0, len(found))
		for _, o := range found {
			untyped, err := untypedCopy(kind, o)
			if err != nil {
				return fmt.Errorf("list %s: %w", m.scope, err)
			}
			listed = append(listed, untyped)
		}
		return nil
	})
	return listed, err
}

func untypedCopy(kind Kind, from object) (*unstructured.Unstructured, error) {
	if untyped, ok := from.(*unstructured.Unstructured); ok {
		return untyped.DeepCopy(), nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(from)
	if err != nil {
		return nil, err
	}
	untyped := &unstructured.Unstructured{Object: content}
	untyped.SetGroupVersionKind(kind.GVK())
	return untyped, nil
}

// Find returns a copy of an object of any kind from the shared reads. It reads
// Secrets one by one, as a list would bring those of everybody else along, and
// so it does ReplicaSets, of which the shared reads know only metadata. The error
// wraps [ErrNotFound] if the API server says that it does not exist.
func (c *Cluster) Find(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	if ref.Kind == Secret || metadataOnly(ref.Kind) {
		return c.Get(ctx, ref)
	}
	found, err := c.shared(ctx, ref)
	if err != nil {
		return nil, err
	}
	untyped, err := untypedCopy(ref.Kind, found)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", ref, err)
	}
	return untyped, nil
}

// Events returns what was reported about an object, oldest first, read now.
func (c *Cluster) Events(ctx context.Context, about Ref) ([]corev1.Event, error) {
	list := &corev1.EventList{}
	of := scope{kind: Event, namespace: about.Namespace}
	if of.namespace == "" {
		of.namespace = metav1.NamespaceDefault // Where events about objects without a namespace are kept.
	}
	selector := fields.AndSelectors( // A fields.Set would put them in an order of its own each time.
		fields.OneTermEqualSelector("involvedObject.kind", about.Kind.Name),
		fields.OneTermEqualSelector("involvedObject.name", about.Name),
	)
	err := c.call(ctx, "list", of, func(ctx context.Context) error {
		return c.listing(of, metav1.ListOptions{FieldSelector: selector.String(), Limit: pageSize}).Do(ctx).Into(list)
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// listed finds one object in the shared reads; it is nil if they lack it.
func (c *Cluster) listed(ctx context.Context, ref Ref) (found object, err error) {
	err = c.withMirror(ref.Kind, ref.Namespace, func(m *mirror) error {
		err := m.current(ctx)
		if err == nil {
			found = m.find(ref.Namespace, ref.Name)
		}
		return err
	})
	return found, err
}

// shared finds one object in the shared reads. That they lack it is not
// trusted: only a 404 of its own says that an object does not exist.
func (c *Cluster) shared(ctx context.Context, ref Ref) (object, error) {
	if err := ref.validate(); err != nil {
		return nil, err
	}
	found, err := c.listed(ctx, ref)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	if found != nil {
		return found, nil
	}
	live, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	typed, err := c.typed(ref.Kind, live)
	if err == nil && ref.Kind != Secret {
		c.mirror(ref.Kind, ref.Namespace).learn(typed)
	}
	return typed, err
}

func sharedObject[T object](ctx context.Context, c *Cluster, ref Ref) (T, error) {
	found, err := c.shared(ctx, ref)
	if err != nil {
		var none T
		return none, err
	}
	return as[T](ref.Kind, found)
}

func as[T object](kind Kind, o object) (T, error) {
	t, ok := o.(T)
	if !ok {
		return t, fmt.Errorf("list %s: the answer contains a %T", kind.Resource, o)
	}
	return t, nil
}

func sharedObjects[T object](ctx context.Context, c *Cluster, kind Kind, namespace string) ([]T, error) {
	var typed []T
	err := c.withMirror(kind, namespace, func(m *mirror) error {
		if err := m.current(ctx); err != nil {
			return err
		}
		found := m.all(namespace)
		typed = make([]T, 0, len(found))
		for _, o := range found {
			t, err := as[T](kind, o)
			if err != nil {
				return err
			}
			typed = append(typed, t)
		}
		return nil
	})
	return typed, err
}

// controllerOf returns the owner that manages an object.
func controllerOf(o metav1.Object, namespace string) (Ref, bool) {
	owner := metav1.GetControllerOf(o)
	if owner == nil {
		return Ref{}, false
	}
	for _, kind := range staticKinds() {
		if kind.GVK().GroupVersion().String() == owner.APIVersion && kind.Name == owner.Kind {
			return Ref{Kind: kind, Namespace: namespace, Name: owner.Name}, true
		}
	}
	return Ref{Kind: Kind{Name: owner.Kind, Namespaced: true}, Namespace: namespace, Name: owner.Name}, true
}

// OwnerOf returns what manages a pod in the end: the Deployment behind its
// ReplicaSet, the CronJob behind its Job, and so on up. A pod that nothing
// manages is its own owner. An owner of a kind that is not one of the package's
// has only the name of its kind.
func (c *Cluster) OwnerOf(ctx context.Context, pod *corev1.Pod) (Ref, error) {
	owner, managed := controllerOf(pod, pod.Namespace)
	if !managed {
		return Ref{Kind: Pod, Namespace: pod.Namespace, Name: pod.Name}, nil
	}
	for owner.Kind == ReplicaSet || owner.Kind == Job {
		found, err := c.shared(ctx, owner)
		if errors.Is(err, ErrNotFound) {
			return owner, nil
		}
		if err != nil {
			return Ref{}, err
		}
		above, managed := controllerOf(found, pod.Namespace)
		if !managed {
			return owner, nil
		}
		owner = above
	}
	return owner, nil
}

// PodsOf returns the pods that a workload manages, in order of name.
func (c *Cluster) PodsOf(ctx context.Context, workload Ref) ([]*corev1.Pod, error) {
	pods, err := c.Pods(ctx, workload.Namespace)
	if err != nil {
		return nil, err
	}
	// A controller lets go of pods that its selector does not match.
	candidate := labels.Everything()
	if slices.Contains(WorkloadKinds(), workload.Kind) {
		found, err := c.listed(ctx, workload)
		if err != nil && !apierrors.IsForbidden(err) {
			return nil, err
		}
		if found != nil {
			w, err := workloadOf(found)
			if err != nil {
				return nil, err
			}
			candidate = w.Selector
		}
	}
	var owned []*corev1.Pod
	for _, pod := range pods {
		if !candidate.Matches(labels.Set(pod.Labels)) {
			continue
		}
		owner, err := c.OwnerOf(ctx, pod)
		if err != nil {
			return nil, err
		}
		if owner == workload {
			owned = append(owned, pod)
		}
	}
	return owned, nil
}

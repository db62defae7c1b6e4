package kube

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// A Permission is to do something with the objects of a kind: in a namespace, or
// in all of them, and with kinds that have none, if it is "".
type Permission struct {
	Verb      string // as in roles: "create"
	Kind      Kind
	Namespace string
}

// String is the permission in words: "create Deployment in namespace linkerd".
func (p Permission) String() string {
	if p.Namespace == "" {
		return p.Verb + " " + p.Kind.Name
	}
	return fmt.Sprintf("%s %s in namespace %s", p.Verb, p.Kind.Name, p.Namespace)
}

// Denied asks the API server which of some permissions the caller lacks, in
// their order. Whoever may do everything costs one request, others one more for
// each permission; those are made at the same time.
func (c *Cluster) Denied(ctx context.Context, wanted []Permission) ([]Permission, error) {
	everything, err := c.allowed(ctx, &authorizationv1.ResourceAttributes{Verb: "*", Group: "*", Version: "*", Resource: "*"}, "do everything")
	if err != nil || everything {
		return nil, err
	}
	granted := make([]bool, len(wanted))
	group, grouped := errgroup.WithContext(ctx)
	for i, p := range wanted {
		group.Go(func() (err error) {
			granted[i], err = c.allowed(grouped, &authorizationv1.ResourceAttributes{
				Verb: p.Verb, Group: p.Kind.Group, Version: p.Kind.Version, Resource: p.Kind.Resource, Namespace: p.Namespace,
			}, p.String())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var denied []Permission
	for i, p := range wanted {
		if !granted[i] {
			denied = append(denied, p)
		}
	}
	return denied, nil
}

// accessReview is a question that the API server answers at once and keeps nothing of.
var accessReview = Kind{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews", Name: "SelfSubjectAccessReview"}

func (c *Cluster) allowed(ctx context.Context, attributes *authorizationv1.ResourceAttributes, what string) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(review)
	if err != nil {
		return false, err
	}
	question := &unstructured.Unstructured{Object: content}
	question.SetGroupVersionKind(accessReview.GVK())
	err = c.call(ctx, "ask for the permission to", words(what), func(ctx context.Context) error {
		answer, err := c.objects.Resource(accessReview.GVR()).Create(ctx, question, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		return runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, review)
	})
	return review.Status.Allowed, err
}

// words are the subject of a request that is about no object.
type words string

func (w words) String() string { return string(w) }

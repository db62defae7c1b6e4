package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	// createdAnnotation marks namespaces that holders made, and that therefore
	// go with the last of them.
	createdAnnotation = "aksmesh.io/created"

	// holderPrefix makes one annotation key per holder, so that each holder owns
	// its own field and none can undo another.
	holderPrefix = "holder.aksmesh.io/"

	managerPrefix = "aksmesh-"
)

// Hold is what one holder wants of a namespace that others may hold as well.
type Hold struct {
	Namespace   string
	Holder      string // unique among holders; lower-case letters, digits, "-", at most 63 characters
	Labels      map[string]string
	Annotations map[string]string
	Force       bool // take labels and annotations over from others who set other values
}

// Manager is the field manager under which the holder's labels and annotations
// are applied.
func (h Hold) Manager() string { return managerPrefix + h.Holder }

// HoldNamespace makes sure that the namespace exists with the holder's labels
// and annotations, and that it lasts until the holder releases it. Holding
// again with other labels replaces them; labels of other holders and of other
// people stay. A namespace that is being deleted is waited for, then made anew.
func (c *Cluster) HoldNamespace(ctx context.Context, hold Hold) (*unstructured.Unstructured, error) {
	ref := Ref{Kind: Namespace, Name: hold.Namespace}
	for {
		live, err := c.ensureNamespace(ctx, ref)
		if errors.Is(err, ErrExists) {
			continue // Another was faster.
		}
		if err != nil {
			return nil, err
		}
		annotations := map[string]string{holderPrefix + hold.Holder: "true"}
		maps.Copy(annotations, hold.Annotations)
		wanted := ref.Object()
		// Without the uid, a namespace that went meanwhile would be created here,
		// and nothing would say that it is to go with its last holder.
		wanted.SetUID(live.GetUID())
		wanted.SetLabels(hold.Labels)
		wanted.SetAnnotations(annotations)
		held, err := c.Apply(ctx, wanted, ApplyOptions{Manager: hold.Manager(), Force: hold.Force})
		switch {
		case errors.Is(err, ErrChanged):
			continue
		case err != nil:
			return nil, err
		case held.GetDeletionTimestamp() == nil:
			return held, nil
		}
		// The last holder released it just before: it goes, whatever is applied.
		if err := c.AwaitGone(ctx, ref, held.GetUID()); err != nil {
			return nil, fmt.Errorf("hold %s: %w", ref, err)
		}
	}
}

// Held reports whether a namespace with these annotations is held by a holder.
func Held(annotations map[string]string, holder string) bool {
	return annotations[holderPrefix+holder] == "true"
}

// ensureNamespace returns the namespace, after making it, marked as made by a
// holder, if it is not there.
func (c *Cluster) ensureNamespace(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	live, err := c.Get(ctx, ref)
	switch {
	case err == nil && live.GetDeletionTimestamp() == nil:
		return live, nil
	case err == nil:
		if err := c.AwaitGone(ctx, ref, live.GetUID()); err != nil {
			return nil, fmt.Errorf("hold %s: %w", ref, err)
		}
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	fresh := ref.Object()
	fresh.SetAnnotations(map[string]string{createdAnnotation: "true"})
	return c.create(ctx, ref, fresh, metav1.CreateOptions{FieldManager: managerPrefix + "namespace"})
}

// ReleaseNamespace gives up what the holder holds of the namespace. If a holder
// made the namespace and none is left, it is deleted, and waited for. That it
// does not exist is no error.
func (c *Cluster) ReleaseNamespace(ctx context.Context, name, holder string) error {
	ref := Ref{Kind: Namespace, Name: name}
	for {
		released, err := c.Release(ctx, ref, Hold{Holder: holder}.Manager())
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		annotations := released.GetAnnotations()
		if annotations[createdAnnotation] != "true" {
			return nil
		}
		for key := range annotations {
			if strings.HasPrefix(key, holderPrefix) {
				return nil
			}
		}
		err = c.Delete(ctx, ref, DeleteOptions{UID: released.GetUID(), ResourceVersion: released.GetResourceVersion(), Wait: true})
		if !errors.Is(err, ErrChanged) {
			return err
		}
		// Somebody changed it since, perhaps a new holder: look again.
	}
}

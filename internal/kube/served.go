package kube

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// servedPatience bounds how long a kind that discovery knows is waited for. Mostly
// that is less than a second.
const servedPatience = 30 * time.Second

// ListServed is [Cluster.List] of a kind that the API server may not serve, in that
// version: then it is not served and has no objects. Discovery may know a kind a
// moment before its objects can be listed, as when a mesh is installed meanwhile,
// and after they are gone with it; it waits until the two agree.
func (c *Cluster) ListServed(ctx context.Context, kind Kind, namespace string) (objects []*unstructured.Unstructured, served bool, err error) {
	if served, err = c.serves(ctx, kind); err != nil || !served {
		return nil, served, err
	}
	objects, err = c.List(ctx, kind, namespace)
	if !apierrors.IsNotFound(err) {
		return objects, true, err
	}
	bounded, cancel := context.WithTimeout(ctx, servedPatience)
	defer cancel()
	err = c.Await(bounded, "", nil, func(ctx context.Context) (waiting string, err error) {
		if served, err = c.ServesNow(ctx, kind); err != nil || !served {
			return "", err
		}
		objects, err = c.List(ctx, kind, namespace)
		if apierrors.IsNotFound(err) {
			return fmt.Sprintf("%s.%s to be listed, which discovery knows", kind.Resource, kind.Group), nil
		}
		return "", err
	})
	return objects, served, err
}

// ServesNow reports whether the API server serves a kind in that version, and asks
// discovery anew: what was known of it before may be as old as the process. With an
// error it may be served.
func (c *Cluster) ServesNow(ctx context.Context, kind Kind) (bool, error) {
	c.mapper.Reset()
	return c.serves(ctx, kind)
}

// serves is [Cluster.ServesNow] as far as is known already.
func (c *Cluster) serves(ctx context.Context, kind Kind) (bool, error) {
	_, err := c.KindFor(ctx, kind.GVK())
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	return true, err
}

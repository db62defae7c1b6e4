package install

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Renderings are what charts were rendered to in this run, for one cluster. The
// zero value is ready for use, also concurrently.
type Renderings struct {
	mu   sync.Mutex
	done map[string]*helm.Rendered
}

// Render renders what deploying a release would send to the cluster, once in a
// run. Charts whose templates look at the cluster are rendered each time: what
// is there changes during an apply.
func (c Charts) Render(ctx context.Context, r Release) (*helm.Rendered, error) {
	request := helm.DeployRequest{Namespace: r.Namespace, Name: r.Name, Chart: r.Chart, Values: r.Values}
	if c.Renderings == nil || r.Chart.LooksAtCluster() {
		return c.Releases.Render(ctx, request)
	}
	values, err := Digest(r.Values)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s/%s %s %s", r.Namespace, r.Name, r.Chart.Digest(), values)
	c.Renderings.mu.Lock()
	rendered := c.Renderings.done[key]
	c.Renderings.mu.Unlock()
	if rendered != nil {
		return rendered, nil
	}
	if rendered, err = c.Releases.Render(ctx, request); err != nil {
		return nil, err
	}
	c.Renderings.mu.Lock()
	defer c.Renderings.mu.Unlock()
	if c.Renderings.done == nil {
		c.Renderings.done = map[string]*helm.Rendered{}
	}
	c.Renderings.done[key] = rendered
	return rendered, nil
}

// refOf names an object of a release where it is in the cluster. A kind that is
// not served yet, as it comes with the same release, keeps the namespace that
// the chart gives it.
func (c Charts) refOf(ctx context.Context, object *unstructured.Unstructured, namespace string) (kube.Ref, error) {
	gvk := object.GroupVersionKind()
	kind, err := c.Cluster.KindFor(ctx, gvk)
	if unserved, ok := errors.AsType[*meta.NoKindMatchError](err); ok {
		kind = kube.Kind{Group: unserved.GroupKind.Group, Version: gvk.Version, Name: gvk.Kind, Namespaced: object.GetNamespace() != ""}
	} else if err != nil {
		return kube.Ref{}, err
	}
	ref := kube.Ref{Kind: kind, Name: object.GetName()}
	if kind.Namespaced {
		if ref.Namespace = object.GetNamespace(); ref.Namespace == "" {
			ref.Namespace = namespace
		}
	}
	return ref, nil
}

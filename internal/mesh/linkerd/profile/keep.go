package profile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// manager is the field manager of the profiles, and of the annotations of Services.
const manager = "aksmesh-service-profile"

// intent is what a profile records of what it was made from. The spec speaks for
// itself, and two of them in one object could be too large for it.
type intent struct {
	OpaquePorts string `json:"opaquePorts,omitempty"`
	SpecSHA256  string `json:"specSHA256"`
}

func (t Target) holding(cluster *kube.Cluster) holding.Holding {
	return holding.Holding{Cluster: cluster, Manager: manager, Owner: "service-profile/" + t.Name(), Namespace: t.Home(), Kinds: []kube.Kind{Kind()}}
}

// Apply writes the profile and the annotation of its Service. Fields that others
// have set to something else are a *[kube.ConflictError], and a profile that was
// made from another spec [kube.ErrExists], unless force is set. Begun tells
// whether anything may have been written.
func Apply(ctx context.Context, cluster *kube.Cluster, p Profile, force bool) (begun bool, err error) {
	object, err := p.Object()
	if err != nil {
		return false, err
	}
	manifest, err := holding.Manifest([]*unstructured.Unstructured{object})
	if err != nil {
		return false, err
	}
	if p.OpaquePorts != "" {
		// An apply must never make a Service.
		if _, err := cluster.Find(ctx, p.serviceRef()); err != nil {
			return false, fmt.Errorf("annotate %s with opaque ports: %w", p.serviceRef(), err)
		}
	}
	sum := sha256.Sum256([]byte(manifest))
	record := intent{OpaquePorts: p.OpaquePorts, SpecSHA256: hex.EncodeToString(sum[:])}
	begun, err = p.holding(cluster).Apply(ctx, []*unstructured.Unstructured{object}, record, nil, force)
	if meta.IsNoMatchError(err) {
		return begun, fmt.Errorf("%s: the cluster does not serve its kind, because Linkerd's CRDs are not installed; install them first, and have the profile depend on aksmesh_linkerd: %w", p.ref(), err)
	}
	if err != nil {
		return begun, err
	}
	if p.OpaquePorts == "" {
		return true, p.release(ctx, cluster)
	}
	return true, p.annotate(ctx, cluster, force)
}

// annotate tells clients which ports of the Service are opaque.
func (p Profile) annotate(ctx context.Context, cluster *kube.Cluster, force bool) error {
	live, err := cluster.Get(ctx, p.serviceRef())
	if err != nil {
		return fmt.Errorf("annotate with opaque ports: %w", err)
	}
	service := p.serviceRef().Object()
	service.SetUID(live.GetUID()) // So that none is made if this one is gone by then.
	service.SetAnnotations(map[string]string{linkerd.OpaquePortsAnnotation: p.OpaquePorts})
	_, err = cluster.Apply(ctx, service, kube.ApplyOptions{Manager: manager, Force: force})
	return err
}

// release gives the annotation of the Service up, if it is this profile's.
func (t Target) release(ctx context.Context, cluster *kube.Cluster) error {
	if t.Home() != t.Namespace {
		return nil
	}
	service, err := cluster.Find(ctx, t.serviceRef())
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(service.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == manager }) {
		return nil
	}
	_, err = cluster.Release(ctx, t.serviceRef(), manager)
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	return err
}

// Found is a profile as it is in the cluster.
type Found struct {
	// Manifest of the ServiceProfile.
	Manifest string
	// ServicePorts is the annotation of the Service.
	ServicePorts string

	target Target
	kept   holding.Found
}

// Read reads a profile and the annotation of its Service, by shared reads. The
// error wraps [kube.ErrNotFound] if the profile is not there, or not ours.
func Read(ctx context.Context, cluster *kube.Cluster, t Target) (Found, error) {
	kept, err := t.holding(cluster).Find(ctx)
	if err != nil {
		return Found{}, err
	}
	if len(kept.Objects) == 0 {
		return Found{}, fmt.Errorf("%s: %w", t.ref(), kube.ErrNotFound)
	}
	found := Found{Manifest: kept.Manifest, target: t, kept: kept}
	service, err := cluster.Find(ctx, t.serviceRef())
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return Found{}, err
	}
	if err == nil {
		found.ServicePorts = service.GetAnnotations()[linkerd.OpaquePortsAnnotation]
	}
	return found, nil
}

// Profile is what the profile was made from, as far as nobody has changed it since.
func (f Found) Profile() (Profile, error) {
	p := Profile{Target: f.target}
	var record intent
	if f.kept.Intent(&record) {
		p.OpaquePorts = record.OpaquePorts
	}
	spec, _, err := unstructured.NestedMap(f.kept.Objects[0].Object, "spec")
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &p.Spec)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("%s: its spec is not that of a ServiceProfile: %w", f.target.ref(), err)
	}
	return p, nil
}

// Delete deletes the profile, and gives the annotation of the Service up.
func Delete(ctx context.Context, cluster *kube.Cluster, t Target) error {
	if err := t.holding(cluster).Delete(ctx); err != nil {
		return err
	}
	return t.release(ctx, cluster)
}

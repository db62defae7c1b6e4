package istio

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// Overlaps finds AuthorizationPolicies and PeerAuthentications for the pods of a
// protection that demands identities. owned tells the protection's own objects from
// others. It reads shared reads only, of the whole cluster as far as policies of the
// whole mesh may be among them.
func (Traffic) Overlaps(ctx context.Context, cluster *kube.Cluster, p access.Protection, owned func(*unstructured.Unstructured) bool) ([]access.Overlap, error) {
	if !p.Identity {
		return nil, nil
	}
	configs, err := meshConfigsIn(ctx, cluster)
	if err != nil {
		return nil, err
	}
	objects := map[string]*unstructured.Unstructured{}
	foreign := func(object *unstructured.Unstructured) bool {
		objects[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = object
		return !owned(object)
	}
	policies, err := placedIn[authorization](ctx, cluster, authorizationPolicies, foreign)
	if err != nil {
		return nil, err
	}
	authentications, err := placedIn[peerAuthentication](ctx, cluster, peerAuthentications, foreign)
	if err != nil {
		return nil, err
	}
	// That callers without mTLS are refused is what the protection is for.
	f := findings{
		policy:  access.Policy{Namespace: p.Namespace, Name: p.Name, Pods: p.Pods, Ports: access.PortsOf(p.Ports), MTLS: access.PermissiveMTLS},
		inForce: true,
		others:  newEnforcement(configs, policies, authentications, nil, nil),
	}
	namespace, err := cluster.Namespace(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	pods, err := cluster.Pods(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		end := access.End{Namespace: namespace, Pod: pod}
		if roleOf(end) != outside && selects(p.Pods, pod.Labels) {
			f.targets = append(f.targets, end)
		}
	}
	f.ofPolicies()
	f.ofAuthentications()
	overlaps := make([]access.Overlap, len(f.about))
	for i, found := range f.about {
		overlaps[i] = access.Overlap{Object: objects[found.object], Effect: found.effect}
	}
	return overlaps, nil
}

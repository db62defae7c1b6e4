package linkerd

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// Overlaps finds Servers for ports of a protection that demands identities, and
// AuthorizationPolicies for every Server of its namespace. owned tells the
// protection's own objects from others. It reads shared reads of the namespace only.
func (Traffic) Overlaps(ctx context.Context, cluster *kube.Cluster, p access.Protection, owned func(*unstructured.Unstructured) bool) ([]access.Overlap, error) {
	if !p.Identity {
		return nil, nil
	}
	pods, err := cluster.Pods(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	f := findings{policy: access.Policy{Pods: p.Pods}}
	for _, pod := range pods {
		if (Injection{}).Proxy(pod).Mode != "" && labels.SelectorFromSet(p.Pods).Matches(labels.Set(pod.Labels)) {
			f.pods = append(f.pods, member{pod: pod})
		}
	}
	var objects []*unstructured.Unstructured
	for _, kind := range []kube.Kind{serverKind, authorizationPolicyKind} {
		present, _, err := cluster.ListServed(ctx, kind, p.Namespace)
		if err != nil {
			return nil, err
		}
		objects = append(objects, present...)
	}
	var overlaps []access.Overlap
	governed := map[intstr.IntOrString]bool{}
	for _, object := range objects {
		if object.GetKind() == authorizationPolicyKind.Name {
			if spec, ok := specOf[authorizationSpec](object); ok && spec.TargetRef.Kind == kube.Namespace.Name && !owned(object) {
				overlaps = append(overlaps, access.Overlap{Object: object, Effect: "lets its callers in at every Server of the namespace, those of this policy too"})
			}
			continue
		}
		other, is := gateOf(object)
		switch {
		case is && owned(object):
			governed[other.port] = true
		case is:
			overlaps = append(overlaps, f.overlapsOf(p, other)...)
		}
	}
	for i, overlap := range overlaps {
		// What is there already is not refused any more.
		overlaps[i].Refused = overlap.Refused && !governed[intstr.FromInt32(overlap.Ports[0])]
	}
	return overlaps, nil
}

// overlapsOf are those of a Server with the ports of the protection.
func (f *findings) overlapsOf(p access.Protection, other gate) []access.Overlap {
	var overlaps []access.Overlap
	for _, port := range slices.Concat(p.Ports, p.Closed) {
		mine := gate{selector: labels.SelectorFromSet(p.Pods), port: intstr.FromInt32(port)}
		if f.overlaps(mine, other) {
			overlaps = append(overlaps, access.Overlap{
				Object: other.object, Ports: []int32{port}, Refused: refusedBeside(mine, other),
				Effect: "is for the same pods: Linkerd refuses a second Server for a port, or picks one of them",
			})
		}
	}
	return overlaps
}

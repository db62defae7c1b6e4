package istio

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// ReadAuthority reads, by shared reads, what Istio's proxies let in, or would let
// in with the proposed objects. It is nil if there is nothing of Istio in the
// cluster.
func ReadAuthority(ctx context.Context, cluster *kube.Cluster, proposed ...*unstructured.Unstructured) (access.Authority, error) {
	configs, err := meshConfigsIn(ctx, cluster)
	if err != nil {
		return nil, err
	}
	all := func(*unstructured.Unstructured) bool { return true }
	policies, err := placedIn[authorization](ctx, cluster, authorizationPolicies, all, proposed...)
	if err != nil {
		return nil, err
	}
	authentications, err := placedIn[peerAuthentication](ctx, cluster, peerAuthentications, all, proposed...)
	if err != nil {
		return nil, err
	}
	rules, err := placedIn[destinationRule](ctx, cluster, destinationRules, all, proposed...)
	if err != nil {
		return nil, err
	}
	pods, err := cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	meshed := slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return roleOf(access.End{Pod: pod}) != outside })
	if len(configs) == 0 && len(policies) == 0 && len(authentications) == 0 && !meshed {
		return nil, nil
	}
	services, err := cluster.Services(ctx, "")
	if err != nil {
		return nil, err
	}
	e := newEnforcement(configs, policies, authentications, rules, services)
	others, err := notEvaluated(ctx, cluster)
	if err != nil {
		return nil, err
	}
	e.notEvaluated = append(e.notEvaluated, others...)
	return e, nil
}

// notEvaluated names the objects of Istio that decide where proxies let their own
// pods go, or what they do at all.
func notEvaluated(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	return access.Named(ctx, cluster,
		kube.Kind{Group: "networking.istio.io", Version: "v1", Resource: "sidecars", Name: "Sidecar", Namespaced: true},
		kube.Kind{Group: "networking.istio.io", Version: "v1alpha3", Resource: "envoyfilters", Name: "EnvoyFilter", Namespaced: true},
		kube.Kind{Group: "security.istio.io", Version: "v1", Resource: "requestauthentications", Name: "RequestAuthentication", Namespaced: true},
	)
}

// dryRunAnnotation has a policy logged and not enforced.
const dryRunAnnotation = "istio.io/dry-run"

// placedIn reads the specs of those objects of a kind, in all namespaces, that are
// wanted, with the proposed ones. A kind that the cluster does not serve has no
// objects, and one that is not enforced is left out.
func placedIn[T any](ctx context.Context, cluster *kube.Cluster, kind kube.Kind, wanted func(*unstructured.Unstructured) bool, proposed ...*unstructured.Unstructured) ([]placed[T], error) {
	objects, _, err := cluster.ListServed(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	ages := map[string]time.Time{}
	for _, object := range objects {
		ages[object.GetNamespace()+"/"+object.GetName()] = object.GetCreationTimestamp().Time
	}
	var found []placed[T]
	for _, object := range access.Propose(objects, access.OfKind(proposed, kind.GVK().GroupKind())) {
		if !wanted(object) || object.GetAnnotations()[dryRunAnnotation] == yes {
			continue
		}
		spec, err := specOf[T](kind, object)
		if err != nil {
			return nil, err
		}
		found = append(found, placed[T]{
			namespace: object.GetNamespace(), name: object.GetName(), created: ages[object.GetNamespace()+"/"+object.GetName()], spec: spec,
		})
	}
	return found, nil
}

func specOf[T any](kind kube.Kind, object *unstructured.Unstructured) (T, error) {
	var spec T
	content, _, err := unstructured.NestedMap(object.Object, "spec")
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(content, &spec)
	}
	if err != nil {
		return spec, fmt.Errorf("%s: %w", kube.Ref{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()}, err)
	}
	return spec, nil
}

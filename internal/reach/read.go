package reach

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Read fills in what a cluster has: its namespaces, pods and NetworkPolicies, from
// the shared reads.
func (s *Survey) Read(ctx context.Context, cluster *kube.Cluster) (err error) {
	if s.Namespaces, err = cluster.Namespaces(ctx); err != nil {
		return err
	}
	if s.Pods, err = cluster.Pods(ctx, ""); err != nil {
		return err
	}
	s.Rules.Policies, err = cluster.NetworkPolicies(ctx, "")
	return err
}

const (
	calico       = "projectcalico.org"
	calicoStored = "crd.projectcalico.org" // what calico shows, as it is stored
)

// foreign are the kinds of policies that network plugins enforce besides
// NetworkPolicies, by their groups.
func foreign() map[string][]string {
	return map[string][]string{
		"policy.networking.k8s.io": {"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"},
		calico:                     {"NetworkPolicy", "GlobalNetworkPolicy"},
		calicoStored:               {"NetworkPolicy", "GlobalNetworkPolicy"},
		"cilium.io":                {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"},
	}
}

// NotEvaluated names, sorted, the policies of a cluster that decide who reaches
// whom besides what a Survey knows of: AdminNetworkPolicies and their kin, and
// those of Calico and Cilium. What cannot be asked for is named too.
func NotEvaluated(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	kinds, names, err := servedForeign(ctx, cluster)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		objects, err := cluster.List(ctx, kind, "")
		switch {
		case apierrors.IsForbidden(err):
			names = append(names, fmt.Sprintf("%s.%s: whether there are any cannot be told, as they may not be listed", kind.Name, kind.Group))
			continue
		case apierrors.IsServiceUnavailable(err):
			names = append(names, fmt.Sprintf("%s.%s: whether there are any cannot be told, as their API does not answer", kind.Name, kind.Group))
			continue
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return nil, err
		}
		for _, object := range objects {
			if kind.Group == calico && mirrored(object.GetName()) {
				continue
			}
			names = append(names, nameOf(kind, object))
		}
	}
	slices.Sort(names)
	return names, nil
}

// servedForeign are the foreign kinds that the API server serves, and what cannot be
// told of those whose API does not answer.
func servedForeign(ctx context.Context, cluster *kube.Cluster) (kinds []kube.Kind, untold []string, err error) {
	served := discovery.ToDiscoveryInterfaceWithContext(cluster.Discovery())
	groups, err := served.ServerGroupsWithContext(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("find out which kinds of policies the API server serves: %w", cluster.Explained(ctx, err))
	}
	untold = []string{}
	byGroup := map[string][]kube.Kind{}
	for _, group := range groups.Groups {
		wanted := foreign()[group.Name]
		for _, version := range group.Versions {
			if len(wanted) == 0 {
				break
			}
			list, err := served.ServerResourcesForGroupVersionWithContext(ctx, version.GroupVersion)
			switch {
			case apierrors.IsNotFound(err):
				continue
			case apierrors.IsServiceUnavailable(err):
				untold = append(untold, fmt.Sprintf("%s: whether there are any policies cannot be told, as their API does not answer", version.GroupVersion))
				continue
			case err != nil:
				return nil, nil, fmt.Errorf("find out which kinds of policies the API server serves in %s: %w", version.GroupVersion, cluster.Explained(ctx, err))
			}
			for _, resource := range list.APIResources {
				if i := slices.Index(wanted, resource.Kind); i >= 0 && !strings.Contains(resource.Name, "/") {
					wanted = slices.Delete(wanted, i, i+1)
					byGroup[group.Name] = append(byGroup[group.Name], kube.Kind{
						Group: group.Name, Version: version.Version, Resource: resource.Name, Name: resource.Kind, Namespaced: resource.Namespaced,
					})
				}
			}
		}
	}
	if len(byGroup[calico]) > 0 {
		delete(byGroup, calicoStored)
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		kinds = append(kinds, byGroup[group]...)
	}
	return kinds, untold, nil
}

// mirrored reports whether a policy of Calico's API is what Calico makes of one of
// the API of Kubernetes.
func mirrored(name string) bool {
	return slices.ContainsFunc([]string{"knp.", "kanp.", "kbanp.", "kcnp."}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// nameOf names a policy, with the tier that a policy of Calico is in.
func nameOf(kind kube.Kind, object *unstructured.Unstructured) string {
	name := kube.Ref{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()}.String()
	if kind.Group != calico && kind.Group != calicoStored {
		return name
	}
	name = "Calico's " + name
	if tier, _, _ := unstructured.NestedString(object.Object, "spec", "tier"); tier != "" && tier != "default" {
		name += " of tier " + tier
	}
	return name
}

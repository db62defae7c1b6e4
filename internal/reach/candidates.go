package reach

import (
	"errors"
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Candidates reads NetworkPolicies from the YAML or JSON text of any number of
// documents. The error names the document, and what the API server would refuse
// it for, as far as that decides who gets where.
func Candidates(text string) ([]*networkingv1.NetworkPolicy, error) {
	objects, err := manifest.Objects(text)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, errors.New("it has no objects")
	}
	var policies []*networkingv1.NetworkPolicy
	for _, object := range objects {
		if kind := object.GroupVersionKind().GroupKind(); kind != (schema.GroupKind{Group: networkingv1.GroupName, Kind: "NetworkPolicy"}) {
			return nil, fmt.Errorf("%s: it is a %s, and only NetworkPolicies of %s can be candidates", object.Place, kind, networkingv1.GroupName)
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, policy, true); err != nil {
			return nil, fmt.Errorf("%s: %w", object.Place, err)
		}
		if policy.Name == "" {
			return nil, fmt.Errorf("%s: the NetworkPolicy has no name", object.Place)
		}
		if _, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy}); err != nil {
			return nil, fmt.Errorf("%s: %w", object.Place, err)
		}
		policies = append(policies, policy)
	}
	return policies, nil
}

// Propose is the policies with the candidates, each in place of the one of its
// name, and without those of some names.
func Propose(policies, candidates []*networkingv1.NetworkPolicy, without []types.NamespacedName) []*networkingv1.NetworkPolicy {
	nameOf := func(policy *networkingv1.NetworkPolicy) types.NamespacedName {
		return types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}
	}
	gone := slices.Clone(without)
	for _, candidate := range candidates {
		gone = append(gone, nameOf(candidate))
	}
	kept := slices.DeleteFunc(slices.Clone(policies), func(policy *networkingv1.NetworkPolicy) bool {
		return slices.Contains(gone, nameOf(policy))
	})
	return append(kept, candidates...)
}

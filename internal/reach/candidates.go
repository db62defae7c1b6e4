package reach

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Candidates are objects that decide on connections once they are in the cluster.
type Candidates struct {
	Policies []*networkingv1.NetworkPolicy
	// Others are the objects of a mesh.
	Others []*unstructured.Unstructured
}

// ParseCandidates reads NetworkPolicies, and objects of the other kinds, from the
// YAML or JSON text of any number of documents. The error names the document, and
// what the API server would refuse a NetworkPolicy for, as far as that decides who
// gets where.
func ParseCandidates(text string, others []kube.Kind) (Candidates, error) {
	objects, err := manifest.Objects(text)
	if err != nil {
		return Candidates{}, err
	}
	if len(objects) == 0 {
		return Candidates{}, errors.New("it has no objects")
	}
	policies := kube.NetworkPolicy.GVK().GroupKind()
	kinds := make([]schema.GroupKind, len(others))
	names := []string{policies.String()}
	for i, kind := range others {
		kinds[i] = kind.GVK().GroupKind()
		names = append(names, kinds[i].String())
	}
	var found Candidates
	for _, object := range objects {
		kind := object.GroupVersionKind().GroupKind()
		switch {
		case object.GetName() == "":
			return Candidates{}, fmt.Errorf("%s: the %s has no name", object.Place, kind.Kind)
		case object.GetNamespace() == "":
			return Candidates{}, fmt.Errorf("%s: %s %s has no namespace", object.Place, kind.Kind, object.GetName())
		case slices.Contains(kinds, kind):
			found.Others = append(found.Others, object.Unstructured)
			continue
		case kind != policies:
			return Candidates{}, fmt.Errorf("%s: a %s cannot be a candidate: only %s can", object.Place, kind, strings.Join(names, ", "))
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, policy, true); err != nil {
			return Candidates{}, fmt.Errorf("%s: %w", object.Place, err)
		}
		if _, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy}); err != nil {
			return Candidates{}, fmt.Errorf("%s: %w", object.Place, err)
		}
		found.Policies = append(found.Policies, policy)
	}
	return found, nil
}

// Add adds others to the candidates. It is an error if two are of one kind and
// name, as one would replace the other.
func (c *Candidates) Add(others Candidates) error {
	for _, policy := range others.Policies {
		if named(c.Policies, policy) {
			return fmt.Errorf("NetworkPolicy %s/%s: another candidate has the same namespace and name", policy.Namespace, policy.Name)
		}
		c.Policies = append(c.Policies, policy)
	}
	for _, object := range others.Others {
		if named(access.OfKind(c.Others, object.GroupVersionKind().GroupKind()), object) {
			return fmt.Errorf("%s %s/%s: another candidate has the same namespace and name", object.GetKind(), object.GetNamespace(), object.GetName())
		}
		c.Others = append(c.Others, object)
	}
	return nil
}

func named[T metav1.Object](objects []T, object T) bool {
	return slices.ContainsFunc(objects, func(other T) bool {
		return other.GetNamespace() == object.GetNamespace() && other.GetName() == object.GetName()
	})
}

// Propose is the policies with the candidates, each in place of the one of its
// name, and without those of some names.
func Propose(policies, candidates []*networkingv1.NetworkPolicy, without []types.NamespacedName) []*networkingv1.NetworkPolicy {
	kept := slices.DeleteFunc(slices.Clone(policies), func(policy *networkingv1.NetworkPolicy) bool {
		return slices.Contains(without, types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name})
	})
	return access.Propose(kept, candidates)
}

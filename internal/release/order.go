package release

import (
	"cmp"
	"slices"

	"helm.sh/helm/v3/pkg/releaseutil"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// rank is the place of a kind in the order of installation: namespaces, then
// CRDs, then Helm's order, then all kinds that Helm does not know.
func rank(kind kube.Kind) int {
	switch kind {
	case kube.Namespace:
		return -2
	case kube.CustomResourceDefinition:
		return -1
	}
	if i := slices.Index(releaseutil.InstallOrder, kind.Name); i >= 0 {
		return i
	}
	return len(releaseutil.InstallOrder)
}

// byKind compares kinds in the order of installation.
func byKind(a, b kube.Kind) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Group, b.Group))
}

// groups cuts what is in order of installation where the kind changes: what is
// in one group does not depend on each other.
func groups[T any](ordered []T, kindOf func(T) kube.Kind) [][]T {
	var all [][]T
	for i, element := range ordered {
		if i == 0 || byKind(kindOf(ordered[i-1]), kindOf(element)) != 0 {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], element)
	}
	return all
}

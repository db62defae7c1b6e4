package access

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Named names the objects of some kinds, by shared reads: those that an Authority
// does not evaluate. A kind that is not served has none, and of one that may not
// be listed it says so.
func Named(ctx context.Context, cluster *kube.Cluster, kinds ...kube.Kind) ([]string, error) {
	var names []string
	for _, kind := range kinds {
		objects, _, err := cluster.ListServed(ctx, kind, "")
		switch {
		case apierrors.IsForbidden(err):
			names = append(names, fmt.Sprintf("%s.%s: whether there are any cannot be told, as they may not be listed", kind.Name, kind.Group))
		case err != nil:
			return nil, err
		}
		for _, object := range objects {
			names = append(names, kube.Ref{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()}.String())
		}
	}
	return names, nil
}

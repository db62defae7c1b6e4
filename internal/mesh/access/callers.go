package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// MissingCallers says, one line each, which ServiceAccounts and namespaces that a
// policy lets in do not exist, by the shared reads.
func MissingCallers(ctx context.Context, cluster *kube.Cluster, p Policy) ([]string, error) {
	var lines []string
	seen := map[kube.Ref]bool{}
	for _, grant := range p.Grants {
		for _, caller := range grant.Callers {
			var ref kube.Ref
			switch {
			case caller.Account != nil:
				ref = kube.Ref{Kind: kube.ServiceAccount, Namespace: caller.Account.Namespace, Name: caller.Account.Name}
			case caller.Namespace != "":
				ref = kube.Ref{Kind: kube.Namespace, Name: caller.Namespace}
			}
			if ref.Name == "" || seen[ref] {
				continue
			}
			seen[ref] = true
			_, err := cluster.Find(ctx, ref)
			if errors.Is(err, kube.ErrNotFound) {
				lines = append(lines, fmt.Sprintf("%s, which is let in, does not exist: until it does, nobody has its identity, and whoever may create it decides who will", ref))
			} else if err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

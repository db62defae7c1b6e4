package release

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Drift compares what was deployed with the cluster, by the shared reads, and
// says in one line each what is missing or differs in fields that were set. It
// is nothing for a release that does not exist.
func (r *Release) Drift(ctx context.Context) ([]string, error) {
	if r.record == nil {
		return nil, nil
	}
	var drift []string
	switch r.record.Phase {
	case PhaseDeployed:
	case PhaseFailed:
		failed := fmt.Sprintf("release %s: its last deployment failed", r.id())
		if r.record.Failure != "" {
			failed += ": " + r.record.Failure
		}
		drift = append(drift, failed)
	default:
		drift = append(drift, fmt.Sprintf("release %s: it was interrupted while %s", r.id(), r.record.Phase))
	}
	lines := make([][]string, len(r.record.Objects))
	err := inParallel(len(lines), func(i int) (err error) {
		lines[i], err = r.driftOf(ctx, r.record.Objects[i])
		return err
	})
	if err != nil {
		return nil, r.wrap(err)
	}
	for _, l := range lines {
		drift = append(drift, l...)
	}
	return drift, nil
}

func (r *Release) driftOf(ctx context.Context, e *entry) ([]string, error) {
	if r.record.Phase == PhaseDeployed && e.expires() {
		if _, err := r.releases.Cluster.Find(ctx, e.ref()); errors.Is(err, kube.ErrNotFound) {
			return nil, nil
		}
	}
	lines, err := r.releases.Cluster.Drift(ctx, e.Object, r.namespace, func(live, written *unstructured.Unstructured) error {
		kube.EnforcerYields().To(nil, live, written)
		return nil
	})
	if r.record.HideValues {
		about := e.ref().String() + ": "
		for i, line := range lines {
			if difference, differs := strings.CutPrefix(line, about); differs {
				lines[i] = about + kube.FieldOf(difference) + ": differs (not shown)"
			}
		}
	}
	return lines, err
}

package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"helm.sh/helm/v3/pkg/storage"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// healthyLabel marks the record of a revision that was healthy once it was in place. Helm calls a revision deployed as
// soon as the API server has taken its objects. The value is the number of the revision: Helm keeps the labels of a
// record when it writes it again, but hands them down to the next revision as well, for which it then is not true.
const healthyLabel = "aksmesh.io/healthy"

func healthy(labels map[string]string, revision string) bool { return labels[healthyLabel] == revision }

// MarkHealthy records, by one request, that a revision which was deployed is healthy.
func (r *Releases) MarkHealthy(ctx context.Context, release *Release) (err error) {
	defer r.explain(ctx, &err)
	fail := func(err error) error {
		return fmt.Errorf("release %s/%s: record that revision %d is healthy: %w", release.Namespace, release.Name, release.Revision, err)
	}
	secrets, err := r.secrets(release.Namespace)
	if err != nil {
		return fail(err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{
		healthyLabel: strconv.Itoa(release.Revision),
	}}})
	if err != nil {
		return fail(err)
	}
	name := fmt.Sprintf("%s.%s.v%d", storage.HelmStorageType, release.Name, release.Revision)
	if _, err := secrets.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fail(err)
	}
	return nil
}

// LastHealthy reads, by one request, the newest revision that was marked healthy: the one to roll back to when a later
// one fails. The error is ErrReleaseNotFound if there is none.
func (r *Releases) LastHealthy(ctx context.Context, namespace, name string) (_ *Release, err error) {
	defer r.explain(ctx, &err)
	secrets, err := r.secrets(namespace)
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	marked := newRecords(ctx, secrets, name)
	if err := marked.read(ctx, "owner=helm,name="+name+","+healthyLabel); err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	for _, secret := range marked.newestFirst() {
		if !healthy(secret.Labels, secret.Labels["version"]) {
			continue
		}
		record, err := marked.decode(secret)
		if err != nil {
			return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
		}
		return newRelease(record), nil
	}
	return nil, fmt.Errorf("release %s/%s: a revision that was healthy: %w", namespace, name, ErrReleaseNotFound)
}

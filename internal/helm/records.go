package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// history is the largest number of revisions that are kept of a release.
const history = 10

// records are the revisions of one release, as Secrets. They are what Helm's storage driver writes to: reads come from
// one LIST made at the start of the operation instead of one per question, and writes have the context of the
// operation instead of none. Two clients at work on one release still exclude each other, since both create the
// Secret of the next revision and only one can.
type records struct {
	typedcorev1.SecretInterface
	ctx     context.Context // Helm's driver calls with context.Background.
	name    string
	secrets map[string]*corev1.Secret
	// unrecorded are the errors of the last write of records, by their names, if it failed. Helm logs them and reports
	// success.
	unrecorded map[string]error
}

func newRecords(ctx context.Context, secrets typedcorev1.SecretInterface, name string) *records {
	return &records{SecretInterface: secrets, ctx: ctx, name: name, secrets: map[string]*corev1.Secret{}, unrecorded: map[string]error{}}
}

// read adds the Secrets in the cluster that a selector matches.
func (r *records) read(ctx context.Context, selector string) error {
	list, err := r.SecretInterface.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return fmt.Errorf("list its records: %w", err)
	}
	for i := range list.Items {
		r.secrets[list.Items[i].Name] = &list.Items[i]
	}
	return nil
}

// readRecords lists the Secrets of a release. The superseded revisions are the bulk of them: unless all are asked for,
// they are left out when there is a deployed one.
func readRecords(ctx context.Context, secrets typedcorev1.SecretInterface, namespace, name string, all bool) (*records, error) {
	r := newRecords(ctx, secrets, name)
	selector := labels.Set{"owner": "helm", "name": name}.String()
	selectors := []string{selector + notSuperseded, selector}
	if all {
		selectors = selectors[1:]
	}
	for _, selector := range selectors {
		if err := r.read(ctx, selector); err != nil {
			return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
		}
		if r.deployed() {
			break
		}
	}
	return r, nil
}

// readAllRecords lists the Secrets of all releases of a namespace and returns them by the releases' names. The
// superseded revisions are left out as long as each release has a deployed one, beside which they do not matter.
func readAllRecords(ctx context.Context, secrets typedcorev1.SecretInterface, namespace string) (map[string]*records, error) {
	all := map[string]*records{}
	selector := labels.Set{"owner": "helm"}.String()
	for _, selector := range []string{selector + notSuperseded, selector + ",status=" + string(release.StatusSuperseded)} {
		list, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, fmt.Errorf("namespace %s: list the records of its releases: %w", namespace, err)
		}
		for i, secret := range list.Items {
			name := secret.Labels["name"]
			if all[name] == nil {
				all[name] = newRecords(ctx, secrets, name)
			}
			all[name].secrets[secret.Name] = &list.Items[i]
		}
		complete := len(all) > 0
		for _, found := range all {
			complete = complete && found.deployed()
		}
		if complete {
			break
		}
	}
	return all, nil
}

// notSuperseded is added to a selector.
const notSuperseded = ",status!=" + string(release.StatusSuperseded)

func (r *records) deployed() bool {
	return slices.ContainsFunc(r.newestFirst(), func(s *corev1.Secret) bool { return statusOf(s) == release.StatusDeployed })
}

// newestFirst returns the Secrets by revision.
func (r *records) newestFirst() []*corev1.Secret {
	return slices.SortedFunc(maps.Values(r.secrets), func(a, b *corev1.Secret) int {
		return cmp.Compare(revisionOf(b), revisionOf(a))
	})
}

func revisionOf(secret *corev1.Secret) int {
	revision, err := strconv.Atoi(secret.Labels["version"])
	if err != nil {
		return 0
	}
	return revision
}

func statusOf(secret *corev1.Secret) release.Status {
	return release.Status(secret.Labels["status"])
}

// at reads the record of a revision.
func (r *records) at(revision int) (*release.Release, error) {
	var known []string
	for _, secret := range r.newestFirst() {
		if revisionOf(secret) == revision {
			return r.decode(secret)
		}
		known = append(known, secret.Labels["version"])
	}
	return nil, fmt.Errorf("it is not on record any more; those that are: %s", strings.Join(known, ", "))
}

// decode reads the payload of one record.
func (r *records) decode(secret *corev1.Secret) (*release.Release, error) {
	found, err := driver.NewSecrets(r).Query(map[string]string{
		"owner": "helm", "name": r.name, "version": secret.Labels["version"],
	})
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("read Secret %s/%s: it does not hold a Helm release", secret.Namespace, secret.Name)
	}
	found[0].Labels = customLabels(found[0].Labels)
	return found[0], nil
}

// release returns the newest revision, and beside it those of which something may be in the cluster. There must be one.
func (r *records) release() (*Release, error) {
	var newest *Release
	for _, secret := range r.newestFirst() {
		status := statusOf(secret)
		left := status == release.StatusFailed || status == release.StatusUninstalling || status.IsPending()
		inPlace := status == release.StatusDeployed && (newest == nil || newest.Deployed == nil)
		if newest != nil && !left && !inPlace {
			continue
		}
		record, err := r.decode(secret)
		if err != nil {
			return nil, err
		}
		revision := newRelease(record)
		if newest == nil {
			newest = revision
		}
		if left {
			newest.Abandoned = append(newest.Abandoned, revision)
		}
		if inPlace {
			newest.Deployed = revision
		}
	}
	return newest, nil
}

// rewrite changes a record in place.
func (r *records) rewrite(secret *corev1.Secret, change func(*release.Release)) error {
	record, err := r.decode(secret)
	if err != nil {
		return err
	}
	change(record)
	return driver.NewSecrets(r).Update(secret.Name, record)
}

// supersede makes a revision the only one that is on record as deployed: Helm supersedes one former, and goes on if it
// cannot. The error is that of any write that failed and was not made good.
func (r *records) supersede(revision int) error {
	for _, secret := range r.newestFirst() {
		if revisionOf(secret) >= revision || statusOf(secret) != release.StatusDeployed {
			continue
		}
		err := r.rewrite(secret, func(record *release.Release) { record.Info.Status = release.StatusSuperseded })
		if err != nil {
			return err
		}
	}
	return r.failure()
}

// failure is that of any write that failed and was not made good.
func (r *records) failure() error { return errors.Join(slices.Collect(maps.Values(r.unrecorded))...) }

// prune deletes the oldest revisions above the limit, but never the deployed one nor the last one that was healthy.
func (r *records) prune() error {
	wasHealthy := false
	for i, secret := range r.newestFirst() {
		lastHealthy := !wasHealthy && healthy(secret.Labels, secret.Labels["version"])
		wasHealthy = wasHealthy || lastHealthy
		if i < history || lastHealthy || statusOf(secret) == release.StatusDeployed {
			continue
		}
		if err := r.Delete(r.ctx, secret.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete Secret %s/%s: %w", secret.Namespace, secret.Name, err)
		}
	}
	return nil
}

// Get implements the part of SecretInterface that Helm's driver uses, as do List, Create, Update and Delete.
func (r *records) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	secret, ok := r.secrets[name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
	}
	return secret, nil
}

func (r *records) List(_ context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
	selector, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, err
	}
	list := &corev1.SecretList{}
	for _, secret := range r.newestFirst() {
		if selector.Matches(labels.Set(secret.Labels)) {
			list.Items = append(list.Items, *secret)
		}
	}
	return list, nil
}

func (r *records) Create(_ context.Context, secret *corev1.Secret, options metav1.CreateOptions) (*corev1.Secret, error) {
	created, err := r.SecretInterface.Create(r.ctx, secret, options) //nolint:contextcheck // Helm's driver hands over context.Background.
	return r.wrote(secret.Name, created, err)
}

func (r *records) Update(_ context.Context, secret *corev1.Secret, options metav1.UpdateOptions) (*corev1.Secret, error) {
	updated, err := r.SecretInterface.Update(r.ctx, secret, options) //nolint:contextcheck // Helm's driver hands over context.Background.
	return r.wrote(secret.Name, updated, err)
}

func (r *records) wrote(name string, secret *corev1.Secret, err error) (*corev1.Secret, error) {
	if err != nil {
		r.unrecorded[name] = err
		return nil, err
	}
	delete(r.unrecorded, name)
	r.secrets[name] = secret
	return secret, nil
}

func (r *records) Delete(_ context.Context, name string, options metav1.DeleteOptions) error {
	err := r.SecretInterface.Delete(r.ctx, name, options) //nolint:contextcheck // Helm's driver hands over context.Background.
	if err == nil || apierrors.IsNotFound(err) {
		delete(r.secrets, name)
		delete(r.unrecorded, name)
	} else {
		r.unrecorded[name] = err
	}
	return err
}

package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// DeployRequest says what to install or upgrade to.
type DeployRequest struct {
	Namespace string // must exist
	Name      string // of the release
	Chart     *Chart
	// Values are all values that differ from the chart's; those of earlier revisions are not kept.
	Values map[string]any
	// Labels are put on the release's records, besides Helm's own. A pending operation whose record carries all of
	// them counts as the caller's own, left behind by a run that was killed, and is repaired at once.
	Labels map[string]string
	// TakeOwnership adopts objects that exist and belong to nobody or to another release.
	TakeOwnership        bool
	SkipSchemaValidation bool
	// HookTimeout is how long each hook may run, 5 minutes if zero.
	HookTimeout time.Duration
	// Rendered is what Render returned for this request before. The chart is then not rendered again, unless the
	// release has got another revision since. It may be nil.
	Rendered *Rendered
	// Yield is given each object that is about to be changed, as it is in the cluster and as the chart has it, and may
	// take over into the latter what others are to set. Its error fails the upgrade before any object is changed. It may
	// be nil.
	Yield func(live, wanted *unstructured.Unstructured) error
}

// Deploy installs the chart or upgrades the release to it, whatever state an earlier operation has left the release
// in, and does not wait for the objects to become ready. It removes what earlier revisions have brought and this one does
// not, but for CustomResourceDefinitions: that a chart has none any more is no sign that anybody wants all objects of a
// kind deleted. It ends within two seconds of ctx, having recorded the
// release as failed if it still could.
//
// When it fails, the newest revision on record, if there is one, is returned beside the error. The errors that callers
// may want to tell apart are ForeignObjectsError and PendingError.
func (r *Releases) Deploy(ctx context.Context, request DeployRequest) (_ *Release, err error) {
	defer r.explain(ctx, &err)
	op, err := r.begin(ctx, request.Namespace, request.Name, true)
	if err != nil {
		return nil, err
	}
	defer op.end()
	op.client.yield = request.Yield
	op.client.keepCRDs = true
	revision := op.nextRevision()
	if err := op.repair(request.Labels); err != nil {
		return nil, op.wrap(err)
	}
	if op.config.Capabilities, err = r.capabilities(ctx); err != nil {
		return nil, op.wrap(err)
	}
	rendered := request.Rendered
	if rendered == nil || rendered.revision != revision {
		if rendered, err = op.render(request, revision); err != nil {
			return op.newest(), err
		}
	}
	loaded, err := request.Chart.load()
	if err != nil {
		return nil, op.wrap(err)
	}
	values, err := plainValues(request.Values)
	if err != nil {
		return nil, op.wrap(err)
	}
	if err := op.prepareCRDs(request, rendered, loaded); err != nil { //nolint:contextcheck // The operation is bound to ctx.
		return op.newest(), op.wrap(op.plain(err))
	}
	act := op.install
	if revision > 1 {
		act = op.upgrade
	}
	record, err := act(request, op.handOver(rendered, loaded), loaded, values)
	if err == nil {
		err = op.finish(record)
	}
	if len(loaded.CRDObjects()) > 0 || record != nil && strings.Contains(record.Manifest, crdKind) {
		op.client.mapper.Reset()
	}
	if err == nil {
		return newRelease(record), nil
	}
	return op.newest(), op.wrap(op.explain(rendered, err))
}

// newest returns the newest revision on record, nil if there is none that can be read.
func (op *operation) newest() *Release {
	secrets := op.records.newestFirst()
	if len(secrets) == 0 {
		return nil
	}
	record, err := op.records.decode(secrets[0])
	if err != nil {
		return nil
	}
	return newRelease(record)
}

// wasDeployed tells whether a revision of the release was in place since it was last uninstalled, completely or not.
func (op *operation) wasDeployed() bool {
	for _, secret := range op.records.newestFirst() {
		switch statusOf(secret) {
		case release.StatusDeployed, release.StatusSuperseded, release.StatusPendingUpgrade, release.StatusPendingRollback:
			return true
		case release.StatusPendingInstall, release.StatusUninstalled, release.StatusUninstalling:
			return false
		}
	}
	return false
}

// repair closes the records of operations that were killed, so that Helm goes on from there. Nothing else is lost: the
// objects they made belong to the release, and what the next revision does not want of them is removed by finish.
func (op *operation) repair(labels map[string]string) error {
	for _, secret := range op.records.newestFirst() {
		status := statusOf(secret)
		if !status.IsPending() && status != release.StatusUninstalling {
			continue
		}
		if err := op.checkAbandoned(secret, labels); err != nil {
			return err
		}
		op.config.Log("repairing revision %d, which was left %s", revisionOf(secret), status)
		err := op.records.rewrite(secret, func(record *release.Release) {
			record.Info.Status = release.StatusFailed
			record.Info.Description = fmt.Sprintf("interrupted while %s: %s", status, record.Info.Description)
		})
		if err != nil {
			return fmt.Errorf("repair revision %d, which was left %s: %w", revisionOf(secret), status, err)
		}
	}
	return nil
}

// checkAbandoned refuses to touch what another Helm client may be doing at this moment.
func (op *operation) checkAbandoned(secret *corev1.Secret, labels map[string]string) error {
	own := true
	for key, value := range labels {
		own = own && secret.Labels[key] == value
	}
	if own {
		return nil
	}
	record, err := op.records.decode(secret)
	if err != nil {
		return err
	}
	since := record.Info.LastDeployed.Time
	if record.Info.Status == release.StatusUninstalling {
		since = record.Info.Deleted.Time
	}
	if op.releases.options.Now().Sub(since) > foreignPatience {
		return nil
	}
	return &PendingError{
		Namespace: op.namespace, Name: op.name,
		Status: record.Info.Status.String(), Since: since.UTC().Format(time.RFC3339),
	}
}

func (op *operation) install(
	request DeployRequest, given *handover, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	install := action.NewInstall(op.config)
	install.Namespace = op.namespace
	install.ReleaseName = op.name
	install.Labels = maps.Clone(request.Labels)
	install.TakeOwnership = request.TakeOwnership
	install.SkipSchemaValidation = true // Rendering has validated.
	install.PostRenderer = given
	install.Timeout = hookTimeout(request.HookTimeout)
	// A first install that failed is installed again rather than upgraded, so that the hooks of installation run.
	install.Replace = len(op.records.secrets) > 0
	return install.RunWithContext(op.uncancelled(), loaded, values)
}

func (op *operation) upgrade(
	request DeployRequest, given *handover, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	upgrade := action.NewUpgrade(op.config)
	upgrade.Namespace = op.namespace
	upgrade.Labels = maps.Clone(request.Labels)
	upgrade.ResetValues = true
	upgrade.TakeOwnership = request.TakeOwnership
	upgrade.SkipSchemaValidation = true // Rendering has validated.
	upgrade.PostRenderer = given
	upgrade.Timeout = hookTimeout(request.HookTimeout)
	return upgrade.RunWithContext(op.uncancelled(), op.name, loaded, values)
}

// uncancelled is the context given to Helm. It does not end: on the end of its context an action returns while it
// works on in the background, writing to what it has returned. What ends it instead are its requests and waits, all of
// which are bound to ctx, and so it has really ended when it returns.
func (op *operation) uncancelled() context.Context {
	return context.WithoutCancel(op.ctx)
}

func hookTimeout(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return defaultHookTimeout
	}
	return timeout
}

// finish does what Helm leaves undone after a successful operation.
func (op *operation) finish(record *release.Release) error {
	if err := op.records.supersede(record.Version); err != nil {
		return fmt.Errorf("it is in place, but this could not be recorded: %w", err)
	}
	if err := op.removeAbandoned(record, release.StatusFailed); err != nil {
		return err
	}
	return op.records.prune()
}

// plain tells first what ended an operation, if that is its context.
func (op *operation) plain(err error) error {
	if op.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(op.ctx), plainError(err))
	}
	return plainError(err)
}

// explain makes typed errors out of those of Helm that have no type.
func (op *operation) explain(rendered *Rendered, err error) error {
	if op.ctx.Err() == nil && errors.Is(err, driver.ErrReleaseExists) {
		return fmt.Errorf("another Helm client has begun to work on it at this moment: %w", err)
	}
	// The wording of Helm's existingResourceConflict, held by a test.
	if op.ctx.Err() != nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		return op.plain(err)
	}
	list, buildErr := op.client.Build(strings.NewReader(rendered.Manifest), true)
	if buildErr != nil {
		return plainError(err)
	}
	foreign := &ForeignObjectsError{Namespace: op.namespace, Name: op.name}
	for _, info := range list {
		owner, ownerErr := ownerOf(info)
		if ownerErr == nil && owner.release != op.namespace+"/"+op.name {
			foreign.Objects = append(foreign.Objects, ForeignObject{
				Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name, Owner: owner.words,
			})
		}
	}
	if len(foreign.Objects) == 0 {
		return plainError(err)
	}
	return foreign
}

package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/discovery"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const (
	// recordGrace is how long an operation that is ended may take to record its end in the cluster.
	recordGrace = 2 * time.Second
	// defaultHookTimeout is Helm's own.
	defaultHookTimeout = 5 * time.Minute
	// foreignPatience is the age from which a pending operation of somebody else counts as dead. It is twice the time
	// after which Helm's command line gives up by default.
	foreignPatience = 10 * time.Minute
)

// ReleasesOptions are settings of Releases. The zero value is fine.
type ReleasesOptions struct {
	// Log receives what Helm has to say, if set. The messages name objects and hold no contents.
	Log func(ctx context.Context, message string)
	// Now is the clock, time.Now if unset.
	Now func() time.Time
}

// Releases are the Helm releases of one cluster.
type Releases struct {
	connection Connection
	config     *rest.Config // with a transport that does all the authentication
	options    ReleasesOptions
	version    atomic.Pointer[chartutil.KubeVersion]
}

// NewReleases prepares access to the releases of a cluster and sends nothing yet.
func NewReleases(connection Connection, options ReleasesOptions) (*Releases, error) {
	if options.Log == nil {
		options.Log = func(context.Context, string) {}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	original := connection.RESTConfig()
	host, _, err := rest.DefaultServerUrlFor(original)
	if err != nil {
		return nil, fmt.Errorf("address of the Kubernetes API: %w", err)
	}
	transport, err := rest.TransportFor(original)
	if err != nil {
		return nil, fmt.Errorf("transport to the Kubernetes API: %w", err)
	}
	return &Releases{
		connection: connection,
		options:    options,
		// Connections, credentials and their renewal are in the one transport below, which all operations share.
		config: &rest.Config{
			Host:          host.String(),
			Transport:     transport,
			UserAgent:     original.UserAgent,
			Timeout:       original.Timeout,
			QPS:           -1,
			ContentConfig: rest.ContentConfig{AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json"},
		},
	}, nil
}

// Get reads the newest revision of a release, by one request if there is one. The error is ErrReleaseNotFound only if
// the API server lists no record of it.
func (r *Releases) Get(ctx context.Context, namespace, name string) (*Release, error) {
	records, err := r.records(ctx, namespace, name, false)
	if err != nil {
		return nil, err
	}
	newest := records.newestFirst()
	if len(newest) == 0 {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, ErrReleaseNotFound)
	}
	record, err := records.decode(newest[0])
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	return newRelease(record), nil
}

func (r *Releases) records(ctx context.Context, namespace, name string, all bool) (*records, error) {
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	core, err := typedcorev1.NewForConfig(r.config)
	if err != nil {
		return nil, fmt.Errorf("client for the Kubernetes API: %w", err)
	}
	return readRecords(ctx, core.Secrets(namespace), namespace, name, all)
}

// operation is one piece of work on one release.
type operation struct {
	ctx             context.Context // It is what Helm's parts below are bound to.
	end             context.CancelFunc
	releases        *Releases
	namespace, name string
	records         *records
	client          *client
	config          *action.Configuration
}

// begin reads the records of a release and sets Helm up to work on it until ctx is done. The caller must call end.
func (r *Releases) begin(ctx context.Context, namespace, name string, all bool) (*operation, error) {
	records, err := r.records(ctx, namespace, name, all)
	if err != nil {
		return nil, err
	}
	late, end := graced(ctx, recordGrace)
	records.ctx = late
	log := func(format string, args ...any) {
		r.options.Log(ctx, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
	config := rest.CopyConfig(r.config)
	config.Transport = &boundTransport{ctx: ctx, next: r.config.Transport}
	config.WarningHandlerWithContext = warnings(log)
	get := &getter{ctx: ctx, connection: r.connection, config: config, namespace: namespace}
	uncached, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		end()
		return nil, fmt.Errorf("client for the Kubernetes API: %w", err)
	}
	helmClient := kube.New(get)
	helmClient.Log = log
	helmClient.Namespace = namespace
	kubeClient := &client{
		Client: helmClient, ctx: ctx, discovery: uncached,
		mapper: &boundMapper{ResettableRESTMapper: r.connection.Mapper(), ctx: ctx},
	}
	store := storage.Init(driver.NewSecrets(records))
	store.Log = log
	return &operation{
		ctx: ctx, end: end, releases: r, namespace: namespace, name: name, records: records, client: kubeClient,
		config: &action.Configuration{
			RESTClientGetter: get,
			Releases:         store,
			KubeClient:       kubeClient,
			Log:              log,
			HookOutputFunc:   func(_, _, _ string) io.Writer { return io.Discard },
		},
	}, nil
}

// warnings passes the API server's warnings on. client-go would print them.
type warnings func(format string, args ...any)

func (w warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w("warning of the API server: %s", text)
}

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
}

// Deploy installs the chart or upgrades the release to it, whatever state an earlier operation has left the release
// in, and does not wait for the objects to become ready. It ends within two seconds of ctx, having recorded the
// release as failed if it still could.
//
// When it fails, the newest revision on record, if there is one, is returned beside the error. The errors that callers
// may want to tell apart are ForeignObjectsError and PendingError.
func (r *Releases) Deploy(ctx context.Context, request DeployRequest) (*Release, error) {
	op, err := r.begin(ctx, request.Namespace, request.Name, true)
	if err != nil {
		return nil, err
	}
	defer op.end()
	act := op.install
	if op.wasDeployed() {
		act = op.upgrade
	}
	if err := op.repair(request.Labels); err != nil {
		return nil, op.wrap(err)
	}
	op.config.Capabilities, err = r.capabilities(ctx)
	if err != nil {
		return nil, op.wrap(err)
	}
	loaded, err := request.Chart.load()
	if err != nil {
		return nil, op.wrap(err)
	}
	values, err := plainValues(request.Values)
	if err != nil {
		return nil, op.wrap(err)
	}
	record, err := act(request, loaded, values)
	if err == nil {
		err = op.finish(record)
	}
	if len(loaded.CRDObjects()) > 0 || record != nil && strings.Contains(record.Manifest, crdKind) {
		op.client.mapper.Reset()
	}
	if err == nil {
		return newRelease(record), nil
	}
	err = op.wrap(op.explain(request, err))
	if newest := op.records.newestFirst(); len(newest) > 0 {
		if record, decodeErr := op.records.decode(newest[0]); decodeErr == nil {
			return newRelease(record), err
		}
	}
	return nil, err
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
	request DeployRequest, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	install := action.NewInstall(op.config)
	install.Namespace = op.namespace
	install.ReleaseName = op.name
	install.Labels = maps.Clone(request.Labels)
	install.TakeOwnership = request.TakeOwnership
	install.SkipSchemaValidation = request.SkipSchemaValidation
	install.Timeout = hookTimeout(request.HookTimeout)
	// A first install that failed is installed again rather than upgraded, so that the hooks of installation run.
	install.Replace = len(op.records.secrets) > 0
	return install.RunWithContext(op.uncancelled(), loaded, values)
}

func (op *operation) upgrade(
	request DeployRequest, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	upgrade := action.NewUpgrade(op.config)
	upgrade.Namespace = op.namespace
	upgrade.Labels = maps.Clone(request.Labels)
	upgrade.ResetValues = true
	upgrade.TakeOwnership = request.TakeOwnership
	upgrade.SkipSchemaValidation = request.SkipSchemaValidation
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
	if err := op.records.unrecorded; err != nil {
		return fmt.Errorf("it is in place, but this could not be recorded: %w", err)
	}
	// CRDs stay: a revision that failed is no sign that anybody wants all objects of a kind deleted.
	op.client.keepCRDs = true
	if err := op.removeAbandoned(record, release.StatusFailed); err != nil {
		return err
	}
	return op.records.prune()
}

// removeAbandoned deletes the objects of revisions in the given states that the record, a newer one, does not have.
// Helm compares a revision with the last successful one only and forgets what failed ones in between have made.
func (op *operation) removeAbandoned(record *release.Release, states ...release.Status) error {
	var wanted kube.ResourceList
	for _, secret := range op.records.newestFirst() {
		if revisionOf(secret) >= record.Version || !slices.Contains(states, statusOf(secret)) {
			continue
		}
		if wanted == nil {
			var err error
			if wanted, err = op.client.Build(strings.NewReader(record.Manifest), false); err != nil {
				return fmt.Errorf("revision %d: %w", record.Version, err)
			}
		}
		former, err := op.records.decode(secret)
		if err != nil {
			return err
		}
		had, err := op.client.Build(strings.NewReader(former.Manifest), false)
		if err != nil {
			return fmt.Errorf("revision %d: %w", former.Version, err)
		}
		if err := op.removeOwn(had.Difference(wanted)); err != nil {
			return fmt.Errorf("remove what revision %d has left behind: %w", former.Version, err)
		}
	}
	return nil
}

// removeOwn deletes those of the objects that exist, belong to the release and may be deleted.
func (op *operation) removeOwn(list kube.ResourceList) error {
	var own kube.ResourceList
	for _, info := range list {
		owner, err := ownerOf(info)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", describe(info), err)
		}
		if owner.release == op.namespace+"/"+op.name && !owner.keep {
			own.Append(info)
		}
	}
	_, errs := op.client.Delete(own)
	return errors.Join(errs...)
}

// owner is what the metadata of a live object says about whose it is.
type owner struct {
	release string // "namespace/name" of a Helm release, "" if none
	keep    bool   // not to be deleted by Helm
	words   string
}

// ownerOf reads the live object.
func ownerOf(info *resource.Info) (owner, error) {
	live, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if err != nil {
		return owner{}, err
	}
	object, err := meta.Accessor(live)
	if err != nil {
		return owner{}, err
	}
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	found := owner{keep: annotations[kube.ResourcePolicyAnno] == kube.KeepPolicy}
	managedBy := labels["app.kubernetes.io/managed-by"]
	name := annotations["meta.helm.sh/release-name"]
	if managedBy == "Helm" && name != "" {
		found.release = annotations["meta.helm.sh/release-namespace"] + "/" + name
		found.words = "of Helm release " + found.release
		return found, nil
	}
	managers := map[string]bool{}
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource == "" {
			managers[entry.Manager] = true
		}
	}
	switch {
	case managedBy != "":
		found.words = "managed by " + managedBy
	case len(managers) > 0:
		found.words = "written by " + strings.Join(slices.Sorted(maps.Keys(managers)), ", ")
	default:
		found.words = "of unknown origin"
	}
	return found, nil
}

// explain makes typed errors out of those of Helm that have no type.
func (op *operation) explain(request DeployRequest, err error) error {
	if op.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(op.ctx), plainError(err))
	}
	if errors.Is(err, driver.ErrReleaseExists) {
		return fmt.Errorf("another Helm client has begun to work on it at this moment: %w", err)
	}
	// The wording of Helm's existingResourceConflict, held by a test.
	if !strings.Contains(err.Error(), "cannot be imported into the current release") {
		return plainError(err)
	}
	rendered, renderErr := op.render(request)
	if renderErr != nil {
		return plainError(err)
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

func (op *operation) wrap(err error) error {
	return fmt.Errorf("release %s/%s: %w", op.namespace, op.name, err)
}

// UninstallOptions are settings of Uninstall.
type UninstallOptions struct {
	// KeepCRDs leaves the CustomResourceDefinitions of the release in the cluster, and with them all objects of their
	// kinds. They keep the marks of the release, so that a later one of the same name and namespace takes them back.
	KeepCRDs bool
	// Wait waits until the objects are gone.
	Wait bool
	// HookTimeout is how long each hook may run, 5 minutes if zero.
	HookTimeout time.Duration
}

// Uninstall deletes a release, its objects and its history, whatever state an earlier operation has left it in. It is
// no error if the API server lists no record of the release.
func (r *Releases) Uninstall(ctx context.Context, namespace, name string, options UninstallOptions) error {
	op, err := r.begin(ctx, namespace, name, true)
	if err != nil {
		return err
	}
	defer op.end()
	newest := op.records.newestFirst()
	if len(newest) == 0 {
		return nil
	}
	op.client.keepCRDs = options.KeepCRDs
	record, err := op.records.decode(newest[0])
	if err != nil {
		return op.wrap(err)
	}
	// An operation that failed or was killed leaves objects of two revisions; Helm deletes those of the newest.
	err = op.removeAbandoned(record, release.StatusDeployed, release.StatusFailed, release.StatusPendingInstall,
		release.StatusPendingUpgrade, release.StatusPendingRollback)
	if err != nil {
		return op.wrap(err)
	}
	uninstall := action.NewUninstall(op.config)
	uninstall.Wait = options.Wait
	uninstall.Timeout = hookTimeout(options.HookTimeout)
	_, err = uninstall.Run(name)
	if !options.KeepCRDs && strings.Contains(record.Manifest, crdKind) {
		op.client.mapper.Reset()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", context.Cause(ctx), plainError(err))
	case op.client.failure != nil:
		err = op.client.failure
	}
	return op.wrap(err)
}

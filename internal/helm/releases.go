package helm

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
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

// Get reads the newest revision of a release, by one request if there is a deployed one. The error is ErrReleaseNotFound only if
// the API server lists no record of it.
func (r *Releases) Get(ctx context.Context, namespace, name string) (_ *Release, err error) {
	defer r.explain(ctx, &err)
	records, err := r.records(ctx, namespace, name, false)
	if err != nil {
		return nil, err
	}
	if len(records.secrets) == 0 {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, ErrReleaseNotFound)
	}
	release, err := records.release()
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	return release, nil
}

// List reads the newest revision of every release in a namespace, by their names and by one request as long as each of
// them has been deployed. Errors are those of Get; that there is no release is none. A release that is missing may still
// have superseded records and nothing else, left by an installation that was killed when it began to replace another:
// only Get is sure to find it.
func (r *Releases) List(ctx context.Context, namespace string) (_ map[string]*Release, err error) {
	defer r.explain(ctx, &err)
	secrets, err := r.secrets(namespace)
	if err != nil {
		return nil, err
	}
	all, err := readAllRecords(ctx, secrets, namespace)
	if err != nil {
		return nil, err
	}
	newest := make(map[string]*Release, len(all))
	for name, records := range all {
		if newest[name], err = records.release(); err != nil {
			return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
		}
	}
	return newest, nil
}

func (r *Releases) records(ctx context.Context, namespace, name string, all bool) (*records, error) {
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	secrets, err := r.secrets(namespace)
	if err != nil {
		return nil, err
	}
	return readRecords(ctx, secrets, namespace, name, all)
}

func (r *Releases) secrets(namespace string) (typedcorev1.SecretInterface, error) {
	core, err := typedcorev1.NewForConfig(r.config)
	if err != nil {
		return nil, fmt.Errorf("client for the Kubernetes API: %w", err)
	}
	return core.Secrets(namespace), nil
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
	log := r.logger(ctx)
	get := r.getter(ctx, namespace, log)
	uncached, err := discovery.NewDiscoveryClientForConfig(get.config)
	if err != nil {
		end()
		return nil, fmt.Errorf("client for the Kubernetes API: %w", err)
	}
	helmClient := kube.New(get)
	helmClient.Log = log
	helmClient.Namespace = namespace
	kubeClient := &client{
		Client: helmClient, ctx: ctx, discovery: uncached, memo: get.memo,
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

func (r *Releases) logger(ctx context.Context) action.DebugLog {
	return func(format string, args ...any) {
		r.options.Log(ctx, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// getter returns the connection in the form that Helm's parts take, every request ended with ctx.
func (r *Releases) getter(ctx context.Context, namespace string, log action.DebugLog) *getter {
	config := rest.CopyConfig(r.config)
	transport := &boundTransport{ctx: ctx, next: r.config.Transport}
	config.Transport = transport
	config.WarningHandlerWithContext = warnings(log)
	return &getter{ctx: ctx, connection: r.connection, config: config, memo: &transport.memo, namespace: namespace}
}

// warnings passes the API server's warnings on. client-go would print them.
type warnings func(format string, args ...any)

func (w warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w("warning of the API server: %s", text)
}

func (op *operation) wrap(err error) error {
	return fmt.Errorf("release %s/%s: %w", op.namespace, op.name, err)
}

// explain is deferred by everything that sends requests and returns their errors.
func (r *Releases) explain(ctx context.Context, err *error) { *err = r.connection.Explained(ctx, *err) }

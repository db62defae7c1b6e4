package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Cluster is one cluster as one process sees it: one set of connections and
// clients, one mapper and one set of shared reads. It is safe for concurrent
// use and is meant to live as long as the process.
type Cluster struct {
	timeout    time.Duration
	connecting *connectingTransport // finds the API server; nil if its address is given
	linger     time.Duration        // how long a watch goes on that nobody needs now
	config     *rest.Config         // carries the shared transport; never handed out itself
	objects    dynamic.Interface    // reads and writes single objects of any kind
	lists      rest.Interface       // reads lists into Go types
	scheme     *runtime.Scheme      // kinds that lists are read into Go types of
	params     runtime.ParameterCodec
	mapper     *mapper
	version    atomic.Pointer[string] // of the API server, once it is known

	mu       sync.Mutex
	mirrors  map[scope]*mirror
	narrowed map[Kind]bool // kinds that may not be listed across namespaces
	turns    map[*turn]struct{}
}

// Connect prepares access to a cluster. Nothing is dialled and no server need
// exist yet. Errors are those of [Settings.Validate] and of files that the
// settings name.
func Connect(settings Settings, userAgent string) (*Cluster, error) {
	timeout := settings.RequestTimeout
	if timeout <= 0 {
		timeout = DefaultRequestTimeout
	}
	way, err := settings.way(timeout, userAgent)
	if err != nil {
		return nil, err
	}

	c := &Cluster{
		timeout:    timeout,
		connecting: way.connecting,
		linger:     lingerFor,
		scheme:     runtime.NewScheme(),
		mirrors:    map[scope]*mirror{},
		narrowed:   map[Kind]bool{},
		turns:      map[*turn]struct{}{},
	}
	metav1.AddToGroupVersion(c.scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		admissionregistrationv1.AddToScheme, apiextensionsv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		if err := add(c.scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	c.params = runtime.NewParameterCodec(c.scheme)

	c.config = &rest.Config{
		Host:      way.host,
		Transport: &observingTransport{next: way.transport, wrote: func(written schema.GroupResource) { c.wrote(written, nil) }},
		UserAgent: userAgent,
		// The API server has its own priority and fairness; queueing here as well
		// only makes large plans slow.
		QPS:            -1,
		WarningHandler: rest.NoWarnings{},
	}
	client := &http.Client{Transport: way.transport}
	if c.objects, err = dynamic.NewForConfigAndClient(c.config, client); err != nil {
		return nil, fmt.Errorf("prepare the client for %s: %w", way.host, err)
	}
	listing := rest.CopyConfig(c.config)
	listing.NegotiatedSerializer = serializer.NewCodecFactory(c.scheme).WithoutConversion()
	listing.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	listing.ContentType = runtime.ContentTypeJSON
	if c.lists, err = rest.UnversionedRESTClientForConfigAndClient(listing, client); err != nil {
		return nil, fmt.Errorf("prepare the client for %s: %w", way.host, err)
	}
	discoverer, err := discovery.NewDiscoveryClientForConfigAndClient(c.config, client)
	if err != nil {
		return nil, fmt.Errorf("prepare discovery for %s: %w", way.host, err)
	}
	c.mapper = newMapper(memory.NewMemCacheClient(discoverer))
	return c, nil
}

// Host is the URL of the API server, or what stands for it where an [Access]
// finds the server.
func (c *Cluster) Host() string { return c.config.Host }

// RESTConfig returns the configuration for other clients of the same cluster.
// It carries the shared connections, the credentials and the limit of every
// request; what such clients write is never hidden by shared reads.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Mapper knows the package's own kinds without a request and discovers all
// others when first asked for one. A kind that it does not know makes it
// discover again, so kinds that appear later are found.
func (c *Cluster) Mapper() meta.ResettableRESTMapper { return c.mapper }

// Discovery is the cached discovery that the mapper uses too.
func (c *Cluster) Discovery() discovery.CachedDiscoveryInterface { return c.mapper.discovery }

// KindFor finds the kind that a manifest names, without a request if it is one
// of the package's own.
func (c *Cluster) KindFor(ctx context.Context, gvk schema.GroupVersionKind) (Kind, error) {
	type outcome struct {
		mapping *meta.RESTMapping
		err     error
	}
	if err := c.reached(ctx); err != nil {
		return Kind{}, fmt.Errorf("find kind %s: %w", gvk, err)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, c.timeout, noAnswerError{c.timeout})
	defer cancel()
	// Discovery knows no contexts; it ends by itself at its own deadlines.
	done := make(chan outcome, 1)
	go func() {
		mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		done <- outcome{mapping, err}
	}()
	select {
	case <-bounded.Done():
		return Kind{}, fmt.Errorf("find kind %s: %w", gvk, context.Cause(bounded))
	case got := <-done:
		if got.err != nil {
			return Kind{}, fmt.Errorf("find kind %s: %w", gvk, c.accessed(ctx, got.err))
		}
		return Kind{
			Group: gvk.Group, Version: gvk.Version, Name: gvk.Kind,
			Resource:   got.mapping.Resource.Resource,
			Namespaced: got.mapping.Scope.Name() == meta.RESTScopeNameNamespace,
		}, nil
	}
}

// mapper puts the static kinds before discovery.
type mapper struct {
	meta.RESTMapper // static first, then discovered
	static          meta.RESTMapper
	discovered      *restmapper.DeferredDiscoveryRESTMapper
	discovery       discovery.CachedDiscoveryInterface
}

var _ meta.ResettableRESTMapper = (*mapper)(nil)

func newMapper(cached discovery.CachedDiscoveryInterface) *mapper {
	static := meta.NewDefaultRESTMapper(nil)
	for _, kind := range staticKinds() {
		scope := meta.RESTScopeRoot
		if kind.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		static.AddSpecific(kind.GVK(), kind.GVR(), kind.GVR(), scope)
	}
	discovered := restmapper.NewDeferredDiscoveryRESTMapper(cached)
	return &mapper{
		RESTMapper: meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{static, discovered}},
		static:     static,
		discovered: discovered,
		discovery:  cached,
	}
}

// RESTMapping discovers once more before it says that a kind does not exist:
// the cached answer may be older than the CRD.
func (m *mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if mapping, err := m.static.RESTMapping(kind, versions...); err == nil {
		return mapping, nil
	}
	mapping, err := m.discovered.RESTMapping(kind, versions...)
	if meta.IsNoMatchError(err) {
		m.Reset()
		return m.discovered.RESTMapping(kind, versions...)
	}
	return mapping, err
}

func (m *mapper) Reset() { m.discovered.Reset() }

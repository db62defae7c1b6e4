package helm

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Connection is the cluster as Helm needs it. The mapper and the discovery client are shared by everything in the
// process that talks to the cluster, so that its kinds and its version are asked for once.
type Connection interface {
	RESTConfig() *rest.Config
	Mapper() meta.ResettableRESTMapper
	Discovery() discovery.CachedDiscoveryInterface
	// Version is that of the API server, such as "v1.34.1".
	Version(ctx context.Context) (string, error)
	// Explained adds to an error of a request what there is to say about the way to the cluster.
	Explained(ctx context.Context, err error) error
}

// getter hands a connection to Helm, every request ended with ctx.
type getter struct {
	ctx        context.Context // Helm's getter interface has no contexts.
	connection Connection
	config     *rest.Config
	memo       *memo // that of the config's transport
	namespace  string
}

func (g *getter) ToRESTConfig() (*rest.Config, error) {
	return rest.CopyConfig(g.config), nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	return &boundMapper{ResettableRESTMapper: g.connection.Mapper(), ctx: g.ctx}, nil
}

// ToDiscoveryClient gives none: Helm would only invalidate the shared cache before each action, and Releases does so
// when there is cause.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return nil, nil //nolint:nilnil // Helm checks for this.
}

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: g.namespace}}
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides)
}

// await calls f in a goroutine of its own and stops waiting for it when ctx is done. It is for mappers, which need not
// know contexts; what is left alone ends with the deadline of the connection's requests.
func await[T any](ctx context.Context, f func() (T, error)) (result T, err error) {
	done := make(chan struct{})
	var got T
	var gotErr error
	go func() {
		defer close(done)
		got, gotErr = f()
	}()
	select {
	case <-done:
		return got, gotErr
	case <-ctx.Done():
		return result, context.Cause(ctx)
	}
}

// boundMapper ends the discovery that a mapping may cause with ctx.
type boundMapper struct {
	meta.ResettableRESTMapper
	ctx context.Context // The mapper interface that Helm uses has no contexts.
}

func (m *boundMapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return await(m.ctx, func() (*meta.RESTMapping, error) {
		return m.ResettableRESTMapper.RESTMapping(kind, versions...)
	})
}

// Reset makes everyone who shares the mapper ask again for the kinds the cluster serves. Another's discovery under way
// can keep it waiting.
func (m *boundMapper) Reset() {
	_, _ = await(m.ctx, func() (struct{}, error) {
		m.ResettableRESTMapper.Reset()
		return struct{}{}, nil
	})
}

// discovered is what discovery has found, for Helm's GetVersionSet. This would ask by itself, without a context and
// deaf to partial failures.
type discovered struct {
	discovery.ServerResourcesInterface
	groups    []*metav1.APIGroup
	resources []*metav1.APIResourceList
}

func (d discovered) ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	return d.groups, d.resources, nil
}

// capabilities tells charts what the cluster is.
func (r *Releases) capabilities(ctx context.Context) (*chartutil.Capabilities, error) {
	given, err := r.connection.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the version of Kubernetes: %w", err)
	}
	version, err := chartutil.ParseKubeVersion(given)
	if err != nil {
		return nil, fmt.Errorf("version %q of Kubernetes: %w", given, err)
	}
	groups, resources, err := discovery.ToServerResourcesInterfaceWithContext(r.connection.Discovery()).
		ServerGroupsAndResourcesWithContext(ctx)
	if err != nil && !tolerable(ctx, err) {
		// The cache keeps errors as well as answers.
		_, _ = await(ctx, func() (struct{}, error) {
			r.connection.Discovery().Invalidate()
			return struct{}{}, nil
		})
		return nil, fmt.Errorf("ask for the kinds that Kubernetes serves: %w", err)
	}
	kinds, err := action.GetVersionSet(discovered{groups: groups, resources: resources})
	if err != nil {
		return nil, err
	}
	return &chartutil.Capabilities{
		KubeVersion: *version,
		APIVersions: kinds,
		HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}, nil
}

// tolerable tells whether discovery has failed for extension API servers only. One that is away, or whose APIService
// was left behind, must not stop everybody else. Without a group of Kubernetes itself, though, a chart would render
// without the objects of that group, and these would be deleted.
func tolerable(ctx context.Context, err error) bool {
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if !partial || ctx.Err() != nil {
		return false
	}
	for version := range failed {
		if scheme.Scheme.IsGroupRegistered(version.Group) {
			return false
		}
	}
	return true
}

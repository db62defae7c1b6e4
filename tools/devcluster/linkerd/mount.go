package linkerd

// This file stands in for the volumes of Linkerd's control-plane pods.

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
)

// A mount is a Secret or ConfigMap as a container sees it: each change some
// time after it was made, and the last content even when the object is gone.
type mount struct {
	factory informers.SharedInformerFactory
	changes *podenv.Delayed
	stopped chan struct{}
	once    sync.Once

	mu    sync.Mutex
	files map[string][]byte
}

// mountSecret mounts a Secret. It fails if the Secret does not exist, as a
// kubelet does. changed, unless nil, hears of every later content.
func mountSecret(
	ctx context.Context, client kubernetes.Interface, namespace, name string,
	lag time.Duration, changed func(files map[string][]byte),
) (*mount, error) {
	m := newMount(client, namespace, name, lag, changed)
	return m.follow(ctx, m.factory.Core().V1().Secrets().Informer(), fmt.Sprintf("Secret %s/%s", namespace, name))
}

// mountConfigMap mounts a ConfigMap, in the way of mountSecret.
func mountConfigMap(
	ctx context.Context, client kubernetes.Interface, namespace, name string, lag time.Duration,
) (*mount, error) {
	m := newMount(client, namespace, name, lag, nil)
	return m.follow(ctx, m.factory.Core().V1().ConfigMaps().Informer(), fmt.Sprintf("ConfigMap %s/%s", namespace, name))
}

func newMount(
	client kubernetes.Interface, namespace, name string, lag time.Duration, changed func(files map[string][]byte),
) *mount {
	m := &mount{
		stopped: make(chan struct{}),
		factory: informers.NewSharedInformerFactoryWithOptions(client, 0,
			informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
			})),
	}
	m.changes = podenv.NewDelayed(lag, func(files map[string][]byte) {
		m.set(files)
		if changed != nil {
			changed(files)
		}
	})
	return m
}

// follow reads the object called name in errors and follows its changes. On
// failure the mount is closed.
func (m *mount) follow(ctx context.Context, informer cache.SharedIndexInformer, name string) (*mount, error) {
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			if initial {
				m.set(files(object))
				return
			}
			m.changes.Set(files(object))
		},
		UpdateFunc: func(_, object any) { m.changes.Set(files(object)) },
	})
	if err != nil {
		return nil, m.fail("mount %s: %w", name, err)
	}
	m.factory.Start(m.stopped)
	if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		return nil, m.fail("mount %s: %w", name, context.Cause(ctx))
	}
	if m.Files() == nil {
		return nil, m.fail("mount %s: it does not exist", name)
	}
	return m, nil
}

func (m *mount) fail(format string, args ...any) error {
	m.Close()
	return fmt.Errorf(format, args...)
}

// Files are what a container would read now, by file name.
func (m *mount) Files() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files
}

func (m *mount) set(files map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = files
}

// Close ends the mount and returns when no change is under way.
func (m *mount) Close() {
	m.once.Do(func() {
		m.changes.Close()
		close(m.stopped)
		m.factory.Shutdown()
	})
}

// files are the data of a Secret or ConfigMap, never nil for either.
func files(object any) map[string][]byte {
	files := map[string][]byte{}
	switch o := object.(type) {
	case *corev1.Secret:
		maps.Copy(files, o.Data)
	case *corev1.ConfigMap:
		for name, data := range o.Data {
			files[name] = []byte(data)
		}
	}
	return files
}

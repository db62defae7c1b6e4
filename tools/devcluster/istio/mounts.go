package istio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
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

// mounts keeps the volumes of a container on the host's disk and, as the
// kubelet does, up to date with the Secrets and ConfigMaps they come from:
// istiod reloads its certificate authority from them.
type mounts struct {
	client kubernetes.Interface
	log    *slog.Logger
	pod    *corev1.Pod
	// lag is how long a change takes to appear.
	lag     time.Duration
	changes []*podenv.Delayed
	// stopped ends the watches.
	stopped chan struct{}
	watches []informers.SharedInformerFactory
}

// mount writes the volumes that container mounts below root, which stands for
// its file system, and keeps them current until Stop, each change a lag later. It fails if an object
// that a volume needs does not exist. Volumes other than Secrets, ConfigMaps
// and projections of those, tokens and fields are empty directories.
func mount(
	ctx context.Context, client kubernetes.Interface, log *slog.Logger,
	pod *corev1.Pod, container *corev1.Container, root string, lag time.Duration,
) (*mounts, error) {
	m := &mounts{client: client, log: log, pod: pod, lag: lag, stopped: make(chan struct{})}
	volumes := make(map[string]corev1.Volume, len(pod.Spec.Volumes))
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, vm := range container.VolumeMounts {
		if vm.SubPath != "" || vm.SubPathExpr != "" {
			m.Stop()
			return nil, fmt.Errorf("container %s mounts a part of volume %s, which is not simulated", container.Name, vm.Name)
		}
		v := &volume{dir: filepath.Join(root, vm.MountPath)}
		if err := m.fill(ctx, v, sources(volumes[vm.Name])); err != nil {
			m.Stop()
			return nil, fmt.Errorf("volume %s of container %s: %w", vm.Name, container.Name, err)
		}
	}
	return m, nil
}

// Stop ends the updates and returns when none is under way.
func (m *mounts) Stop() {
	for _, c := range m.changes {
		c.Close()
	}
	close(m.stopped)
	for _, w := range m.watches {
		w.Shutdown()
	}
}

// sources are the parts that v is made of.
func sources(v corev1.Volume) []corev1.VolumeProjection {
	switch {
	case v.Projected != nil:
		return v.Projected.Sources
	case v.Secret != nil:
		return []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName},
			Items:                v.Secret.Items,
			Optional:             v.Secret.Optional,
		}}}
	case v.ConfigMap != nil:
		return []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: v.ConfigMap.LocalObjectReference,
			Items:                v.ConfigMap.Items,
			Optional:             v.ConfigMap.Optional,
		}}}
	default:
		return nil
	}
}

// fill writes v from its sources and has it follow those that may change.
func (m *mounts) fill(ctx context.Context, v *volume, from []corev1.VolumeProjection) error {
	v.parts = make([]map[string][]byte, len(from))
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	for i, source := range from {
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			err = m.token(ctx, v, i, source.ServiceAccountToken)
		case source.DownwardAPI != nil:
			err = m.fields(v, i, source.DownwardAPI)
		case source.Secret != nil:
			err = m.follow(ctx, v, i, "Secret", source.Secret.Name, source.Secret.Optional, source.Secret.Items,
				func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
					return f.Core().V1().Secrets().Informer()
				})
		case source.ConfigMap != nil:
			err = m.follow(ctx, v, i, "ConfigMap", source.ConfigMap.Name, source.ConfigMap.Optional, source.ConfigMap.Items,
				func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
					return f.Core().V1().ConfigMaps().Informer()
				})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// token writes a service account token once. It needs no refreshing: the one
// for the API server, of 3607 seconds, is made valid for a year by the API
// server, and Istio reads its own only at its start.
func (m *mounts) token(ctx context.Context, v *volume, part int, from *corev1.ServiceAccountTokenProjection) error {
	token, err := podenv.Token(ctx, m.client, m.pod, from.Audience, from.ExpirationSeconds)
	if err != nil {
		return err
	}
	return v.update(part, map[string][]byte{from.Path: []byte(token)})
}

// fields writes what the downward API offers of the pod itself.
func (m *mounts) fields(v *volume, part int, from *corev1.DownwardAPIProjection) error {
	files := map[string][]byte{}
	for _, item := range from.Items {
		if item.FieldRef == nil {
			continue
		}
		value, err := podenv.Field(m.pod, item.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		files[item.Path] = []byte(value)
	}
	return v.update(part, files)
}

// follow writes the data of one object and writes it again when it changes.
func (m *mounts) follow(
	ctx context.Context, v *volume, part int,
	kind, name string, optional *bool, items []corev1.KeyToPath,
	informer func(informers.SharedInformerFactory) cache.SharedIndexInformer,
) error {
	factory := informers.NewSharedInformerFactoryWithOptions(m.client, 0,
		informers.WithNamespace(m.pod.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}))
	objects := informer(factory)
	update := func(files map[string][]byte) {
		if err := v.update(part, files); err != nil {
			m.log.Error("cannot write volume", "kind", kind, "name", name, "error", err)
		}
	}
	changes := podenv.NewDelayed(m.lag, update)
	m.changes = append(m.changes, changes)
	handler, err := objects.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			if initial {
				update(files(object, items))
				return
			}
			changes.Set(files(object, items))
		},
		UpdateFunc: func(_, object any) { changes.Set(files(object, items)) },
		DeleteFunc: func(any) { changes.Set(nil) },
	})
	if err != nil {
		return err
	}
	m.watches = append(m.watches, factory)
	factory.Start(m.stopped)
	if !cache.WaitFor(ctx, "", handler.HasSyncedChecker()) {
		return fmt.Errorf("read %s %s/%s: %w", kind, m.pod.Namespace, name, context.Cause(ctx))
	}
	if len(objects.GetStore().ListKeys()) == 0 && (optional == nil || !*optional) {
		return fmt.Errorf("%s %s/%s does not exist", kind, m.pod.Namespace, name)
	}
	return nil
}

// files are the data of a Secret or ConfigMap by the path they are written to.
func files(object any, items []corev1.KeyToPath) map[string][]byte {
	data := map[string][]byte{}
	switch o := object.(type) {
	case *corev1.Secret:
		data = o.Data
	case *corev1.ConfigMap:
		maps.Copy(data, o.BinaryData)
		for key, value := range o.Data {
			data[key] = []byte(value)
		}
	}
	if len(items) == 0 {
		return data
	}
	chosen := map[string][]byte{}
	for _, item := range items {
		if value, ok := data[item.Key]; ok {
			chosen[item.Path] = value
		}
	}
	return chosen
}

// A volume is a directory whose files come from several sources.
type volume struct {
	dir string

	mu sync.Mutex
	// parts are the files of each source by their slash-separated path.
	parts []map[string][]byte
}

// update replaces what one source gives to the volume. Files that stay the
// same are not touched and the others are replaced in one step each, so that
// who watches the directory sees just the changes.
func (v *volume) update(part int, files map[string][]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.parts[part] {
		if _, ok := files[name]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(v.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, data := range files {
		if old, ok := v.parts[part][name]; ok && bytes.Equal(old, data) {
			continue
		}
		path := filepath.Join(v.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path+".partial", data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".partial", path); err != nil {
			return err
		}
	}
	v.parts[part] = files
	return nil
}

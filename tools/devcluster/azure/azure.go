// Package azure simulates what Azure's controllers do for an AKS cluster: its
// storage classes, volumes that exist as soon as a pod that claims one is
// scheduled, and addresses for Services of the type LoadBalancer.
package azure

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// retryInterval is how often objects are looked at again without an event,
// which is how failed calls are repeated.
const retryInterval = 2 * time.Second

// A cloud gives the objects of one cluster what Azure would.
type cloud struct {
	client kubernetes.Interface
}

// Start creates the storage classes and serves claims, volumes and Services
// until ctx ends.
func Start(ctx context.Context, client kubernetes.Interface, log *slog.Logger) error {
	c := &cloud{client: client}
	if err := c.createClasses(ctx); err != nil {
		return err
	}
	shared := informers.NewSharedInformerFactory(client, retryInterval)
	core := shared.Core().V1()
	for kind, watch := range map[string]struct {
		informer cache.SharedIndexInformer
		handle   func(context.Context, any) error
	}{
		"PersistentVolumeClaim": {core.PersistentVolumeClaims().Informer(), c.provision},
		"PersistentVolume":      {core.PersistentVolumes().Informer(), c.remove},
		"Service":               {core.Services().Informer(), c.balance},
	} {
		handle := func(object any) {
			if err := watch.handle(ctx, object); err != nil && ctx.Err() == nil {
				log.Warn("the simulated cloud failed", "error", err)
			}
		}
		_, err := watch.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handle,
			UpdateFunc: func(_, object any) { handle(object) },
		})
		if err != nil {
			return fmt.Errorf("watch %ss: %w", kind, err)
		}
	}
	shared.Start(ctx.Done())
	return nil
}

// Package namespaces empties namespaces that are being deleted, as the
// controller manager would and by the same code, but without its pauses. The
// controller manager waits five seconds first, for the sake of control planes
// of several API servers, and up to half a minute more for pods to end.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/kubernetes/pkg/controller/namespace/deletion"
)

const (
	// workers is how many namespaces are emptied at a time.
	workers = 8
	// The pauses between two attempts to empty a namespace.
	firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second
)

// Controller is the name of the controller that this package replaces.
const Controller = "namespace-controller"

// Start empties namespaces until ctx ends.
func Start(ctx context.Context, config *rest.Config, log *slog.Logger) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	deleter := deletion.NewNamespacedResourcesDeleter(ctx, client.CoreV1().Namespaces(), objects, client.CoreV1(),
		client.Discovery().ServerPreferredNamespacedResources, corev1.FinalizerKubernetes)

	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstPause, longestPause))
	context.AfterFunc(ctx, queue.ShutDown)
	enqueue := func(object any) {
		if namespace, ok := object.(*corev1.Namespace); ok && namespace.DeletionTimestamp != nil {
			queue.Add(namespace.Name)
		}
	}
	shared := informers.NewSharedInformerFactory(client, 0)
	_, err = shared.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	})
	if err != nil {
		return fmt.Errorf("watch Namespaces: %w", err)
	}
	shared.Start(ctx.Done())
	for range workers {
		go wait.UntilWithContext(ctx, func(ctx context.Context) { work(ctx, queue, deleter, log) }, firstPause)
	}
	return nil
}

// work empties one namespace after the other until queue is shut down.
func work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], deleter deletion.NamespacedResourcesDeleterInterface, log *slog.Logger) {
	for {
		name, shutdown := queue.Get()
		if shutdown {
			return
		}
		if err := deleter.Delete(ctx, name); err == nil {
			queue.Forget(name)
		} else {
			// What remains is on its way out; everything else may pass.
			if _, remaining := errors.AsType[*deletion.ResourcesRemainingError](err); !remaining && ctx.Err() == nil {
				log.Warn("cannot empty a namespace", "namespace", name, "error", err)
			}
			queue.AddRateLimited(name)
		}
		queue.Done(name)
	}
}

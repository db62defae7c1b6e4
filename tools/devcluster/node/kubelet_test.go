package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// An API server that fails once keeps no pod from becoming ready.
func TestFailedChangeIsRepeated(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := fake.NewClientset()
	var patches atomic.Int32
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return patches.Add(1) == 1, nil, apierrors.NewInternalError(errors.New("etcdserver: request timed out"))
	})
	shared := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithCustomResyncConfig(map[metav1.Object]time.Duration{&corev1.Pod{}: time.Second}))
	pool, err := Start(ctx, Options{
		Client: client, Informers: shared, Count: 1, Region: "westeurope",
		Log: slog.New(slog.DiscardHandler), SimulationLog: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Stop)
	shared.StartWithContext(ctx)

	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods("app")
	_, err = pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "app", UID: "1", ResourceVersion: "1"},
		Spec:       corev1.PodSpec{NodeName: nodes.Items[0].Name, Containers: []corev1.Container{{Name: "main", Image: "example.com/app:1"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		pod, err := pods.Get(ctx, "web", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	})
	if err != nil || patches.Load() < 2 {
		t.Errorf("after %d changes: %v", patches.Load(), err)
	}
}

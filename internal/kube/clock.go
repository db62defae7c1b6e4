package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Clock is the present instant by the API server's clock, cut to the second, as
// it stamps objects that are made now: the machine that runs Terraform may be
// ahead or behind. Nothing is made; the right to make Secrets in the namespace,
// which has to exist, is needed.
func (c *Cluster) Clock(ctx context.Context, namespace string) (time.Time, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(Secret.GVK())
	object.SetNamespace(namespace)
	object.SetName("aksmesh-clock")
	stamped, err := c.Apply(ctx, object, ApplyOptions{Manager: "aksmesh-clock", DryRun: true, CreateOnly: true})
	if err != nil {
		return time.Time{}, err
	}
	return stamped.GetCreationTimestamp().UTC(), nil
}

// AwaitClock waits until the API server's clock is past an instant, so that what
// is made then can be told from what was made before.
func (c *Cluster) AwaitClock(ctx context.Context, namespace string, past time.Time) error {
	for {
		now, err := c.Clock(ctx, namespace)
		if err != nil || now.After(past) {
			return err
		}
		// Instants are cut to the second.
		timer := time.NewTimer(past.Sub(now) + time.Second/2)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

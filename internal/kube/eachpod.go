package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EachPod visits the pods of a namespace, or of all if it is "", that a label
// selector such as "app=web" selects (all if it is ""), in the API server's
// order. They are read now, in pages, and nothing of them is kept, so that the
// memory it takes does not grow with their number; visit may keep what it likes.
// No pod is visited twice. An error of visit ends it and is returned as it is.
func (c *Cluster) EachPod(ctx context.Context, namespace, labelSelector string, visit func(*corev1.Pod) error) error {
	of := scope{Pod, namespace}
	options := metav1.ListOptions{Limit: pageSize, LabelSelector: labelSelector}
	last := ""                     // the place of the last one visited
	expired, again := false, false // this page did before; all of them are gone through again
	for {
		page, err := c.page(ctx, of, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" && !expired {
			// The snapshot that the pages are cut from is gone. The server offers to
			// go on from the same place in a newer one; else they are gone through
			// again, in the same order.
			options.Continue, expired = statusOf(err).Continue, true
			again = again || options.Continue == ""
			continue
		}
		if err != nil {
			return err
		}
		pods, ok := page.(*corev1.PodList)
		if !ok {
			return fmt.Errorf("list %s: the answer is a %T", of, page)
		}
		for i := range pods.Items {
			place := pods.Items[i].Namespace + "/" + pods.Items[i].Name
			if again && place <= last {
				continue
			}
			last, expired = place, false
			if err := visit(&pods.Items[i]); err != nil {
				return err
			}
		}
		if options.Continue = pods.Continue; options.Continue == "" {
			return nil
		}
	}
}

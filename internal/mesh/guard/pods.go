package guard

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

func sidecars() istio.Injection {
	return istio.Injection{}
}

func ambient() istio.Injection {
	return istio.Injection{Ambient: true}
}

func proxies() linkerd.Injection {
	return linkerd.Injection{Namespace: linkerd.DefaultNamespace}
}

// pods are the running ones that the policy selects.
func (i Intent) pods(ctx context.Context, cluster *kube.Cluster) ([]*corev1.Pod, error) {
	if cluster == nil {
		return nil, ErrPodsUnknown
	}
	all, err := cluster.Pods(ctx, i.Namespace)
	if err != nil {
		return nil, err
	}
	selector := labels.SelectorFromSet(i.Pods)
	var selected []*corev1.Pod
	for _, pod := range all {
		if selector.Matches(labels.Set(pod.Labels)) && !ended(pod) {
			selected = append(selected, pod)
		}
	}
	return selected, nil
}

// ended reports that a pod takes no connections any more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// settleMesh finds out which mesh, and in which mode, if the intent leaves it open.
func (c *Compiled) settleMesh(ctx context.Context, cluster *kube.Cluster) error {
	i := &c.Intent
	if i.Traffic == nil {
		if cluster == nil {
			return ErrPodsUnknown
		}
		found, err := mesh.Which(ctx, cluster, i.Namespace, i.Pods, proxies(), sidecars(), ambient())
		if err != nil {
			return err
		}
		c.ByPods = append(c.ByPods, "their mesh: "+found.Name())
		i.Traffic = istio.Traffic{}
		if found.Name() == proxies().Name() {
			pods, err := i.pods(ctx, cluster)
			if err != nil {
				return err
			}
			i.Traffic = linkerd.Traffic{ControlPlane: linkerd.ControlPlaneOf(pods)}
		}
	}
	traffic, is := i.Traffic.(istio.Traffic)
	if !is || traffic.Mode != "" || i.ControlPlane != nil {
		return nil
	}
	pods, err := i.pods(ctx, cluster)
	if err != nil {
		return err
	}
	namespace, err := cluster.Namespace(ctx, i.Namespace)
	if err != nil {
		return err
	}
	traffic.Mode = istio.ModeOf(namespace, pods)
	i.Traffic = traffic
	c.ByPods = append(c.ByPods, "their mode: "+traffic.Mode)
	return nil
}

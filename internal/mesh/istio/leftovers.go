package istio

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// What istiod writes itself, so that no chart removes it.
const (
	selfSignedSecret = "istio-ca-secret"
	configLabel      = "istio.io/config"
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
	leaderPrefix     = "istio-"
)

// distributed are the ConfigMaps that istiod writes into every namespace.
var distributed = []string{rootConfigMap, "istio-ca-crl"}

// deleteLeftovers deletes what istiod has written itself: the certificates that
// it distributes to every namespace, unless another istiod of the cluster still
// does, and its own CA and leader elections, unless another one of the
// namespace uses them.
func (i Installer) deleteLeftovers(ctx context.Context, plane Plane) error {
	namespace := plane.Namespace
	if err := i.awaitEnd(ctx, plane); err != nil {
		return err
	}
	deployments, err := i.Cluster.List(ctx, kube.Deployment, "")
	if err != nil {
		return err
	}
	others, here := false, false
	for _, d := range deployments {
		if d.GetLabels()["app"] == "istiod" {
			others, here = true, here || d.GetNamespace() == namespace
		}
	}
	if !others {
		if err := i.deleteDistributed(ctx); err != nil {
			return err
		}
	}
	if here {
		return nil
	}
	if err := i.Cluster.Delete(ctx, kube.Ref{Kind: kube.Secret, Namespace: namespace, Name: selfSignedSecret}, kube.DeleteOptions{}); err != nil {
		return err
	}
	return i.deleteElections(ctx, namespace)
}

// awaitEnd waits until the pods of istiod are gone: while one lives it writes
// anew what is deleted here.
func (i Installer) awaitEnd(ctx context.Context, plane Plane) error {
	return i.Cluster.Await(ctx, plane.Namespace, []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
		pods, err := i.Cluster.Pods(ctx, plane.Namespace)
		if err != nil {
			return "", err
		}
		for _, pod := range pods {
			if pod.Labels["app"] == "istiod" && pod.Labels[revisionLabel] == plane.Label() {
				return fmt.Sprintf("Pod %s/%s to end", pod.Namespace, pod.Name), nil
			}
		}
		return "", nil
	})
}

func (i Installer) deleteDistributed(ctx context.Context) error {
	all, err := i.Cluster.List(ctx, kube.ConfigMap, "")
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.GetLabels()[configLabel] != "true" || !slices.Contains(distributed, c.GetName()) {
			continue
		}
		ref := kube.Ref{Kind: kube.ConfigMap, Namespace: c.GetNamespace(), Name: c.GetName()}
		if err := i.Cluster.Delete(ctx, ref, kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (i Installer) deleteElections(ctx context.Context, namespace string) error {
	lease := kube.Kind{Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Name: "Lease", Namespaced: true}
	for _, kind := range []kube.Kind{kube.ConfigMap, lease} {
		all, err := i.Cluster.List(ctx, kind, namespace)
		if err != nil {
			return err
		}
		for _, o := range all {
			if !strings.HasPrefix(o.GetName(), leaderPrefix) || kind == kube.ConfigMap && o.GetAnnotations()[leaderAnnotation] == "" {
				continue
			}
			if err := i.Cluster.Delete(ctx, kube.Ref{Kind: kind, Namespace: namespace, Name: o.GetName()}, kube.DeleteOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

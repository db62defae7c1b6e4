package istio

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	rootConfigMap = "istio-ca-root-cert"

	// renewal is when a proxy asks for its next certificate, and is told of the
	// roots with it: at half of the day that a certificate is valid for.
	renewal = 12 * time.Hour
)

// roots are the anchors of trust that istiod gives out. What a proxy was told
// does not show on its pod, so there is only the time to go by.
type roots struct {
	// made is when they were first published, changed when they last became
	// others; zero for never.
	made, changed time.Time
	// youngest is when the youngest of them begins to be valid.
	youngest time.Time
}

// rootsIn reads the roots where istiod itself is: in any other namespace their
// first publication says nothing but that the namespace is new.
func rootsIn(ctx context.Context, cluster *kube.Cluster, namespace string) (roots, error) {
	published, err := cluster.ConfigMap(ctx, namespace, rootConfigMap)
	if errors.Is(err, kube.ErrNotFound) {
		return roots{}, nil
	}
	if err != nil {
		return roots{}, err
	}
	return rootsOf(published), nil
}

func rootsOf(published *corev1.ConfigMap) roots {
	r := roots{made: published.CreationTimestamp.Time}
	if changed := changeOf(published); changed.After(r.made) {
		r.changed = changed
	}
	bundle, err := pki.ParseBundle([]byte(published.Data[rootCertFile]))
	if err != nil {
		return r // It says no less of when it changed.
	}
	for _, root := range bundle.Certificates() {
		if root.NotBefore.After(r.youngest) {
			r.youngest = root.NotBefore
		}
	}
	return r
}

// stale reports whether the proxy of a pod still has the roots of before, and
// will for a while.
func (r roots) stale(subject mesh.Subject, istiod *kube.Workload) (mesh.Reason, bool) {
	began := began(subject.Pod)
	if began.IsZero() || subject.Now.IsZero() || toldAtOnce(subject.Pod, istiod) || seenTo(istiod) {
		return mesh.Reason{}, false
	}
	since := r.changed
	if since.IsZero() && r.youngest.After(began) {
		// They were published anew, as when Istio is installed again, and are not
		// those that were there before.
		since = r.made
	}
	if !began.Before(since) || !subject.Now.Before(since.Add(renewal)) {
		return mesh.Reason{}, false
	}
	return mesh.Reason{Cause: mesh.StaleTrustRoots, Detail: "they changed at " + since.UTC().Format(time.RFC3339) + ", after its proxy started"}, true
}

// began is when the proxy of a pod was started; zero if it does not run. The
// clocks of nodes may be slow, but no proxy is older than its pod.
func began(pod *corev1.Pod) time.Time {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Name != proxyContainer || status.State.Running == nil {
			continue
		}
		if started := status.State.Running.StartedAt.Time; started.After(pod.CreationTimestamp.Time) {
			return started
		}
		return pod.CreationTimestamp.Time
	}
	return time.Time{}
}

// seenTo reports whether the anchors of istiod are brought to its proxies by
// whoever keeps them.
func seenTo(istiod *kube.Workload) bool {
	return istiod != nil && istiod.Template.Annotations[mesh.TrustAnnotation] != ""
}

// toldAtOnce reports whether istiod pushes new roots to a proxy: both have to be
// told to (istio's pilot/pkg/features and pkg/istio-agent).
func toldAtOnce(pod *corev1.Pod, istiod *kube.Workload) bool {
	if istiod == nil {
		return false
	}
	container, _ := mesh.FindSidecar(pod, proxyContainer)
	return container != nil && variable([]corev1.Container{*container}, "PROXY_CONFIG_XDS_AGENT") == yes &&
		variable(istiod.Template.Spec.Containers, "ISTIO_MULTIROOT_MESH") == yes
}

func variable(containers []corev1.Container, name string) string {
	for _, c := range containers {
		for _, v := range c.Env {
			if v.Name == name {
				return v.Value
			}
		}
	}
	return ""
}

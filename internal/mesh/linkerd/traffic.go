package linkerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// Traffic is the traffic of the proxies of one control plane.
type Traffic struct {
	// ControlPlane is its namespace; empty means DefaultNamespace.
	ControlPlane string `json:"controlPlane"`
	// Version in any form that ParseVersion reads; empty asks the control plane.
	Version string `json:"version,omitempty"`
}

// CheckPorts refuses the proxy's own ports where the application's are meant.
func (Traffic) CheckPorts(ports []int32) error {
	for _, port := range ports {
		if slices.Contains([]int32{outboundPort, inboundPort, controlPort, adminPort}, port) {
			return fmt.Errorf("port %d is the proxy's own; name the application's", port)
		}
	}
	return nil
}

// Compile works out what enforces a protection, by the given version or by that
// of the control plane in the cluster, which may be nil, and by the values that it
// was installed with, or the chart's own where nobody tells. The error wraps
// mesh.ErrNoControlPlane when there is no version of either kind. Ports that all
// proxies leave alone are refused.
func (t Traffic) Compile(ctx context.Context, cluster *kube.Cluster, p access.Protection) (access.Compiled, error) {
	w, err := wireOf(ctx, cluster, t.ControlPlane, t.Version)
	if err != nil {
		return access.Compiled{}, err
	}
	return w.compile(p)
}

// wireOf reads how the proxies of a control plane send traffic. What it was
// installed with counts whatever version is given: the chart's values can take the
// transport header away again.
func wireOf(ctx context.Context, cluster *kube.Cluster, controlPlane, version string) (wire, error) {
	w := wire{controlPlane: cmp.Or(controlPlane, DefaultNamespace)}
	recorded, values, err := recordedValues(ctx, cluster, w.controlPlane)
	unseen := errors.Is(err, mesh.ErrNoControlPlane) || apierrors.IsForbidden(err)
	if err != nil && (version == "" || !unseen) {
		return wire{}, err
	}
	w.values = values
	w.version, err = ParseVersion(cmp.Or(version, recorded))
	return w, err
}

// recordedValues reads the version of a control plane and the values it was
// installed with from its ConfigMap linkerd-config.
func recordedValues(ctx context.Context, cluster *kube.Cluster, namespace string) (version string, values map[string]any, err error) {
	if cluster == nil {
		return "", nil, mesh.ErrNoControlPlane
	}
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: namespace, Name: "linkerd-config"}
	config, err := cluster.ConfigMap(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return "", nil, fmt.Errorf("%w: %w", mesh.ErrNoControlPlane, err)
	}
	if err != nil {
		return "", nil, err
	}
	if err := yaml.Unmarshal([]byte(config.Data["values"]), &values); err != nil {
		return "", nil, fmt.Errorf("%s: values: %w", ref, err)
	}
	version, _ = values["linkerdVersion"].(string)
	if version == "" {
		return "", nil, fmt.Errorf("%s: it does not say which version of Linkerd it belongs to", ref)
	}
	return version, values, nil
}

// ControlPlaneOf is the namespace of the control plane that the proxies of pods
// belong to, by the first pod that has one; DefaultNamespace if none has.
func ControlPlaneOf(pods []*corev1.Pod) string {
	for _, pod := range pods {
		if proxy, _ := mesh.FindSidecar(pod, ProxyContainer); proxy != nil && pod.Labels[controlPlaneLabel] != "" {
			return pod.Labels[controlPlaneLabel]
		}
	}
	return DefaultNamespace
}

package linkerd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Traffic is the traffic of the proxies of one control plane.
type Traffic struct {
	// ControlPlane is its namespace.
	ControlPlane string `json:"controlPlane"`
	// Version in any form that ParseVersion reads; empty asks the control plane.
	Version string `json:"version,omitempty"`
}

// CheckPorts refuses ports that can never be the application's.
func (Traffic) CheckPorts(ports []int32) error { return CheckPorts(ports) }

// Rules returns what to admit, by the given version or by that of the control
// plane in the cluster and its values. The error wraps mesh.ErrNoControlPlane
// when neither is there.
func (t Traffic) Rules(ctx context.Context, cluster *kube.Cluster, ports []int32) (netpol.Rules, error) {
	version, values := t.Version, map[string]any(nil)
	if version == "" {
		var err error
		if version, values, err = recordedValues(ctx, cluster, t.ControlPlane); err != nil {
			return netpol.Rules{}, err
		}
	}
	parsed, err := ParseVersion(version)
	if err != nil {
		return netpol.Rules{}, err
	}
	return PolicyRules(PolicyOptions{
		ControlPlane: t.ControlPlane, Ports: ports, SkipInboundPorts: ignoredPorts(values), TransportHeader: TransportHeader(parsed, values),
	})
}

// ignoredPorts are those that bypass the proxies of the whole mesh by the
// chart's value proxyInit.ignoreInboundPorts.
func ignoredPorts(values map[string]any) []string {
	text, _, err := unstructured.NestedString(values, "proxyInit", "ignoreInboundPorts")
	if err != nil || text == "" {
		return nil
	}
	return strings.Split(text, ",")
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

package istio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// defaultTrustDomain is that of meshes whose configuration names none.
const defaultTrustDomain = "cluster.local"

// A meshConfig is what a control plane says of the mesh as a whole, in its
// ConfigMap istio or istio-<revision>.
type meshConfig struct {
	plane Plane
	// TrustDomain of the identities that it issues.
	TrustDomain        string   `json:"trustDomain"`
	TrustDomainAliases []string `json:"trustDomainAliases"`
	// RootNamespace is the one whose policies without labels are everybody's.
	RootNamespace string `json:"rootNamespace"`
	// EnableAutoMtls has clients use mTLS wherever the other side can; so does
	// nothing at all.
	EnableAutoMTLS *bool `json:"enableAutoMtls"`
	// OutboundTrafficPolicy has mode REGISTRY_ONLY if sidecars let their pods call
	// nothing but what the mesh knows.
	OutboundTrafficPolicy struct {
		Mode string `json:"mode"`
	} `json:"outboundTrafficPolicy"`
}

// meshConfigsIn reads the configurations of all control planes of a cluster, in
// order of their injectors, from shared reads. A plane without one has the
// defaults.
func meshConfigsIn(ctx context.Context, cluster *kube.Cluster) ([]meshConfig, error) {
	injectors, err := injectorsIn(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var configs []meshConfig
	var seen []Plane
	for _, i := range injectors {
		plane := Plane{Namespace: i.namespace, Revision: i.revision}
		if plane.Namespace == "" || slices.Contains(seen, plane) {
			continue
		}
		seen = append(seen, plane)
		config := meshConfig{plane: plane}
		ref := kube.Ref{Kind: kube.ConfigMap, Namespace: plane.Namespace, Name: suffixed("istio", plane.Revision)}
		switch found, err := cluster.ConfigMap(ctx, ref.Namespace, ref.Name); {
		case err == nil:
			if err := yaml.Unmarshal([]byte(found.Data["mesh"]), &config); err != nil {
				return nil, fmt.Errorf("%s: mesh: %w", ref, err)
			}
		case !errors.Is(err, kube.ErrNotFound):
			return nil, err
		}
		config.TrustDomain = cmp.Or(config.TrustDomain, defaultTrustDomain)
		config.RootNamespace = cmp.Or(config.RootNamespace, plane.Namespace)
		configs = append(configs, config)
	}
	return configs, nil
}

// checkScope refuses the root namespace of a mesh, whose policies are those of
// all namespaces. Without a cluster, or an Istio in it, that is the default one.
func checkScope(ctx context.Context, cluster *kube.Cluster, namespace string) error {
	roots := []string{DefaultNamespace}
	if cluster != nil {
		configs, err := meshConfigsIn(ctx, cluster)
		if err != nil {
			return err
		}
		if len(configs) > 0 {
			roots = nil
		}
		for _, config := range configs {
			roots = append(roots, config.RootNamespace)
		}
	}
	if slices.Contains(roots, namespace) {
		return fmt.Errorf("%s is the root namespace of Istio, whose authorization is that of pods in all namespaces: protect pods in a namespace of their own", kube.Ref{Kind: kube.Namespace, Name: namespace})
	}
	return nil
}

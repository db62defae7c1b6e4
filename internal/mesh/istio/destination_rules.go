package istio

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// destinationRules say how clients call hosts, mTLS included.
var destinationRules = kube.Kind{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules", Name: "DestinationRule", Namespaced: true}

// destinationRule is what of the spec of a DestinationRule is about TLS.
type destinationRule struct {
	Host          string        `json:"host"`
	TrafficPolicy trafficPolicy `json:"trafficPolicy"`
	Subsets       []struct {
		TrafficPolicy trafficPolicy `json:"trafficPolicy"`
	} `json:"subsets"`
	ExportTo []string `json:"exportTo"`
}

type trafficPolicy struct {
	TLS               clientTLS `json:"tls"`
	PortLevelSettings []struct {
		TLS clientTLS `json:"tls"`
	} `json:"portLevelSettings"`
}

type clientTLS struct {
	Mode string `json:"mode"`
}

// foreignTLS is a mode other than mTLS of the mesh, of some port or subset; empty
// if there is none.
func (d destinationRule) foreignTLS() string {
	policies := []trafficPolicy{d.TrafficPolicy}
	for _, subset := range d.Subsets {
		policies = append(policies, subset.TrafficPolicy)
	}
	for _, policy := range policies {
		settings := []clientTLS{policy.TLS}
		for _, port := range policy.PortLevelSettings {
			settings = append(settings, port.TLS)
		}
		for _, tls := range settings {
			if tls.Mode != "" && tls.Mode != "ISTIO_MUTUAL" {
				return tls.Mode
			}
		}
	}
	return ""
}

// isFor reports whether a rule of a namespace is about a Service: its host is a
// name with all its domains, or begins with a *, or is that of a Service of the
// rule's own namespace. The domain of the cluster, which clients need not know, is
// any.
func (d destinationRule) isFor(namespace string, service *corev1.Service) bool {
	name := service.Name + "." + service.Namespace + ".svc."
	switch host, wild := strings.CutPrefix(d.Host, "*"); {
	case wild:
		return host == "" || strings.HasSuffix(name+"cluster.local", host)
	case !strings.Contains(host, "."):
		return host == service.Name && namespace == service.Namespace
	default:
		return strings.HasPrefix(host, name)
	}
}

// reaches reports whether clients of a namespace go by a rule for a Service of
// another: one of their own namespace, or of the Service's or the root one, as far
// as that is shared.
func (d destinationRule) reaches(clients, namespace, service, root string) bool {
	if namespace == clients {
		return true
	}
	return (namespace == service || namespace == root) &&
		(len(d.ExportTo) == 0 || slices.Contains(d.ExportTo, "*") || slices.Contains(d.ExportTo, clients))
}

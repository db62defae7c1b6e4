package istio

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// PodFindings says in one line each what of the pods' own annotations keeps a
// protection from holding for them: ports that do not lead through their sidecars.
func (Traffic) PodFindings(pods []*corev1.Pod, p access.Protection) []string {
	type bypass struct {
		port int32
		why  string
	}
	found := map[bypass][]string{}
	for _, pod := range pods {
		if (Injection{}).Proxy(pod).Mode == mesh.Ambient {
			continue
		}
		for _, port := range p.Ports {
			if why := bypassed(pod, port); why != "" {
				found[bypass{port, why}] = append(found[bypass{port, why}], pod.Name)
			}
		}
	}
	var findings []string
	for what, names := range found {
		findings = append(findings, fmt.Sprintf("Port %d of pods %s does not lead through the sidecar (%s): nothing of the mesh arrives there.", what.port, kube.Few(names), what.why))
	}
	slices.Sort(findings)
	return findings
}

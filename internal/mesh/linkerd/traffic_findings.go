package linkerd

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// PodFindings says in one line each what of the pods' own annotations keeps a
// protection from holding for them: ports that bypass their proxies, and a default
// inbound policy that opens what no Server closes.
func (Traffic) PodFindings(pods []*corev1.Pod, p access.Protection) []string {
	skipping, open := map[string][]string{}, map[string][]string{}
	for _, pod := range pods {
		if ranges := pod.Annotations[SkipInboundPortsAnnotation]; ranges != "" {
			skipped, err := skippedOf(strings.Split(ranges, ","), slices.Concat(p.Ports, p.Closed))
			if err == nil && len(skipped) > 0 {
				ports := access.JoinPorts(skipped)
				skipping[ports] = append(skipping[ports], pod.Name)
			}
		}
		if policy, _ := DefaultPolicyOf(pod); p.Identity && policy != "deny" {
			open[policy] = append(open[policy], pod.Name)
		}
	}
	var findings []string
	for ports, names := range skipping {
		findings = append(findings, fmt.Sprintf("Ports %s bypass the proxies of pods %s (%s): nothing of the mesh arrives there.", ports, kube.Few(names), SkipInboundPortsAnnotation))
	}
	for policy, names := range open {
		whose := "that of the control plane"
		if policy != "" {
			whose = policy
		}
		findings = append(findings, fmt.Sprintf("Ports that pods %s do not declare follow their default inbound policy, which is %s: callers of the mesh may reach them unless it is deny (%s).",
			kube.Few(names), whose, DefaultInboundPolicyAnnotation))
	}
	slices.Sort(findings)
	return findings
}

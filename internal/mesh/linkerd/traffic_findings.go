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
// protection from holding for them, or it from being harmless: ports that bypass
// their proxies, a default inbound policy that opens what no Server closes, and ports
// that are opaque by their annotation, which counts no more where a Server is.
func (Traffic) PodFindings(pods []*corev1.Pod, p access.Protection) []string {
	skipping, open, opaque := map[string][]string{}, map[string][]string{}, map[string][]string{}
	for _, pod := range pods {
		unforeseen := slices.DeleteFunc(slices.Concat(p.Ports, p.Closed), func(port int32) bool {
			return !listed(pod.Annotations[OpaquePortsAnnotation], port) || listed(defaultOpaquePorts(nil), port)
		})
		if p.Identity && len(unforeseen) > 0 {
			ports := access.JoinPorts(unforeseen)
			opaque[ports] = append(opaque[ports], pod.Name)
		}
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
	for ports, names := range opaque {
		findings = append(findings, fmt.Sprintf("Ports %s are opaque to the proxies of pods %s (%s), but not where Servers demand identities: servers that speak first would wait for ten seconds. "+
			"Leave require_identity off, and authorize their callers with protocol %s.", ports, kube.Few(names), OpaquePortsAnnotation, opaqueProtocol))
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

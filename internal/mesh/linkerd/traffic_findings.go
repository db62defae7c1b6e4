package linkerd

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// PodFindings says in one line each what keeps a protection from holding for pods
// with a proxy, or it from being harmless to them: ports that bypass their proxies,
// a default inbound policy that opens what no Server closes, ports that they do not
// declare, ports that are opaque by their annotation, which counts no more where a
// Server is, and probes that it refuses; and which ports it opens to the whole mesh.
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
	if p.Identity {
		findings = append(refusedProbes(pods, p), undeclared(pods, p)...)
	}
	if line := behindTheProxies(p); line != "" {
		findings = append(findings, line+" Name them in ports where that is meant; the proxies tell other pods by nothing but addresses.")
	}
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

// undeclared says which ports none of the pods declares, if there are pods.
func undeclared(pods []*corev1.Pod, p access.Protection) []string {
	ports := slices.DeleteFunc(slices.Clone(p.Ports), func(port int32) bool {
		return slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return declares(pod, port) })
	})
	if len(pods) == 0 || len(ports) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("No container of the selected pods declares ports %s: Linkerd demands identities at declared ports only, and leaves others to the default inbound policy. "+
		"Add them to the ports of the container.", access.JoinPorts(ports))}
}

// refusedProbes says which probes by HTTP are refused, as the port is probed by gRPC
// too: for that it has routes, and once there are routes, Linkerd lets no other
// probe in by itself.
func refusedProbes(pods []*corev1.Pod, p access.Protection) []string {
	refused := map[access.Probe][]string{}
	for _, pod := range pods {
		for _, probe := range access.ProbesOf([]*corev1.Pod{pod}) {
			routed := slices.ContainsFunc(p.Probes, func(known access.Probe) bool { return known.GRPC && known.Port == probe.Port })
			told := slices.ContainsFunc(p.Probes, func(known access.Probe) bool { return known.Port == probe.Port && known.Path == probe.Path })
			if routed && !told && !probe.GRPC && slices.Contains(slices.Concat(p.Ports, p.Closed), probe.Port) {
				refused[probe] = append(refused[probe], pod.Name)
			}
		}
	}
	var lines []string
	for probe, names := range refused {
		lines = append(lines, fmt.Sprintf("Port %d of pods %s is probed by gRPC, and by GET %s, which Linkerd then refuses: the pods would not be taken for alive or ready. "+
			"Probe the port by one of the two, or leave require_identity off and authorize its callers with aksmesh_authorization, which lets both in.", probe.Port, kube.Few(names), probe.Path))
	}
	return lines
}

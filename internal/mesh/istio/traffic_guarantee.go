package istio

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// guarantee tells what holds once a protection is in force, and what does not.
func (t Traffic) guarantee(p access.Protection, strength access.Strength) string {
	lines := append(t.callers(p, strength), t.behind(p, strength)...)
	lines = append(lines, t.exceptions(p)...)
	if t.Mode != ModeSidecar {
		lines = append(lines, fmt.Sprintf("Probes of pods in ambient mode come from %s or %s, to which all ports are open; Cilium lets them in by a CiliumClusterwideNetworkPolicy only.", firstProbeRange, otherProbeRange))
	}
	lines = append(lines, "Whatever comes from the pod's own node passes, probes included.")
	if p.Egress != nil {
		lines = append(lines, egressGuarantee(*p.Egress))
	}
	return strings.Join(lines, " ")
}

// callers says who gets to the pods.
func (t Traffic) callers(p access.Protection, strength access.Strength) []string {
	ports := "All ports"
	if len(p.Ports) > 0 {
		ports = "Ports " + access.JoinPorts(p.Ports)
	}
	const proxied = "pods labelled " + tlsModeLabel + "=istio and Istio's gateways, in any namespace"
	const forged = "The labels prove nothing: whoever may label a pod or namespace passes the network policy."
	switch {
	case t.Mode == ModeSidecar:
		return []string{fmt.Sprintf("%s are open to %s; callers in ambient mode are kept out.", ports, proxied), forged}
	case t.Mode == ModeBoth:
		return []string{fmt.Sprintf("%s and TCP %d are open to %s, and to those in ambient mode by their labels or their namespace's.", ports, tunnelPort, proxied), forged}
	case strength == access.MTLSPort:
		return []string{fmt.Sprintf("Only TCP %d is open, to everybody: the node's proxy takes nothing but mTLS with an identity of the mesh there, which no label can forge. "+
			"That holds for pods in ambient mode; in any other pod, whatever listens on %[1]d answers by itself.", tunnelPort)}
	default:
		return []string{fmt.Sprintf("Only TCP %d is open, to %s, and to those in ambient mode by their labels or their namespace's. "+
			"The node's proxy takes nothing but mTLS with an identity of the mesh there, so a forged label gets no further while the selected pod is in ambient mode.", tunnelPort, proxied)}
	}
}

// behind says what the proxies let in to which ports.
func (t Traffic) behind(p access.Protection, strength access.Strength) []string {
	if !p.Identity {
		var lines []string
		if t.Mode != ModeSidecar {
			lines = append(lines, fmt.Sprintf("Behind %d all ports of the pods can be reached, not only those named: require an identity to have the proxies close the others.", tunnelPort))
		}
		if strength == access.Label {
			lines = append(lines, "For proof of who calls, require an identity.")
		}
		return lines
	}
	line := fmt.Sprintf("Istio's proxies let only callers with an identity of the mesh in to ports %s, and nobody to other ports (AuthorizationPolicy and PeerAuthentication %s).", access.JoinPorts(p.Ports), p.Name)
	if t.Mode != ModeAmbient {
		line += " Pods without a sidecar, and ports that are kept from it (" + excludeInboundPorts + "), have the network policy alone."
	}
	return []string{line}
}

// exceptions says what is open besides the mesh's traffic.
func (t Traffic) exceptions(p access.Protection) []string {
	var lines []string
	metrics := slices.ContainsFunc(p.Exceptions, func(e access.Exception) bool { return e.Metrics })
	switch {
	case metrics && t.Mode == ModeAmbient:
		lines = append(lines, "No port of metrics is opened: pods in ambient mode have no proxy that shows any; those of the node's proxies are at the pods of ztunnel.")
	case metrics:
		lines = append(lines, fmt.Sprintf("Metrics of the proxies (%d, %d) are open to those named.", agentPort, envoyPort))
	case t.Mode != ModeAmbient:
		lines = append(lines, fmt.Sprintf("Closed unless another policy opens them: metrics of the proxies (%d, %d).", agentPort, envoyPort))
	}
	if slices.ContainsFunc(p.Exceptions, func(e access.Exception) bool { return !e.Metrics }) {
		lines = append(lines, "Exceptions come in without the mesh, and at their ports the network policy alone keeps others without an identity out.")
	}
	if line := t.behindTunnel(p); line != "" {
		lines = append(lines, line)
	}
	return lines
}

// behindTunnel says which ports besides those of a protection its exceptions open
// to the mesh too; nothing if there are none. To a proxy the exceptions' pods are no
// more than callers without identity, and of what comes by HBONE the network policy
// sees nothing but its port; only at a sidecar's ports it keeps the mesh out as well.
func (t Traffic) behindTunnel(p access.Protection) string {
	if !p.Identity || t.Mode == ModeSidecar {
		return ""
	}
	var ports []int32
	for _, e := range p.Exceptions {
		for _, port := range e.Ports {
			if !e.Metrics && !slices.Contains(p.Ports, port) {
				ports = append(ports, port)
			}
		}
	}
	if len(ports) == 0 {
		return ""
	}
	return fmt.Sprintf("Ports %s, which exceptions open, are open behind %d to callers of the mesh too: to all, or, where exceptions are addresses, to those at them.",
		access.JoinPorts(slices.Compact(slices.Sorted(slices.Values(ports)))), tunnelPort)
}

// egressGuarantee says where the pods may go.
func egressGuarantee(e access.Egress) string {
	var open []string
	if e.DNS {
		open = append(open, "the cluster's DNS")
	}
	if e.ControlPlane {
		open = append(open, fmt.Sprintf("pods labelled app=istiod in any namespace (TCP %d)", discoveryPort))
	}
	if e.Mesh {
		ports := "all ports"
		if len(e.MeshPorts) > 0 {
			ports = "ports " + access.JoinPorts(e.MeshPorts)
		}
		open = append(open, fmt.Sprintf("pods with the mesh's labels (TCP %d, and %s of those with a proxy of their own)", tunnelPort, ports))
	}
	if len(e.Admit) > 0 {
		open = append(open, "what is named besides")
	}
	if len(open) == 0 {
		return "The pods may open no connections."
	}
	return "The pods may open connections to " + strings.Join(open, ", ") + ", and nowhere else."
}

func controlPlaneGuarantee(p access.Protection) string {
	c := p.ControlPlane
	var webhooks string
	switch {
	case c.Everyone:
		webhooks = "to everybody, as they demand TLS"
	case !c.Konnectivity && len(c.Networks) == 0:
		webhooks = "to nobody, so that no pod is injected and no configuration checked"
	default:
		webhooks = "to the callers named, which the API server has to be among: otherwise no pod is injected"
	}
	lines := []string{
		fmt.Sprintf("Of the pods in Namespace %s only those labelled app=istiod are protected: gateways, ztunnel, istio-cni and addons beside them are left alone.", p.Namespace),
		fmt.Sprintf("Proxies reach TCP %d from any pod of the cluster, and prove who they are by token or certificate; proxies on a node's own network or outside the cluster need an exception.", discoveryPort),
		fmt.Sprintf("The webhooks (TCP %d) are open %s.", webhookPort, webhooks),
	}
	if slices.ContainsFunc(p.Exceptions, func(e access.Exception) bool { return e.Metrics }) {
		lines = append(lines, fmt.Sprintf("Metrics and istiod's own pages (TCP %d) are open to those named.", monitoringPort))
	} else {
		lines = append(lines, fmt.Sprintf("Closed unless another policy opens them: plain-text discovery (15010), metrics (%d), and debugging (8080).", monitoringPort))
	}
	lines = append(lines, "Whatever comes from the pod's own node passes, probes included.")
	if p.Egress != nil {
		open := *p.Egress
		open.ControlPlane, open.Mesh = false, false
		lines = append(lines, egressGuarantee(open))
	}
	return strings.Join(lines, " ")
}

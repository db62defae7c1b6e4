package linkerd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// guarantee says what holds once a protection is in force, and what does not.
func (w wire) guarantee(p access.Protection, strength access.Strength) string {
	var said sentences
	label := controlPlaneLabel + "=" + w.controlPlane
	ports := access.JoinPorts(p.Ports)
	switch strength {
	case access.MTLSPort:
		said.say("Only TCP %d, the proxies' port, is open, and to everybody: a proxy takes nothing there but mTLS with an identity of the mesh, which no label can forge.", inboundPort)
	case access.Both:
		said.say("Only TCP %d, the proxies' port, is open, and only to pods labelled %s; a proxy takes nothing there but mTLS with an identity of the mesh, so a pod that merely wears the label gets no further.", inboundPort, label)
	case access.Label:
		open := "All ports are"
		if ports != "" {
			open = fmt.Sprintf("Ports %s, and TCP %d for opaque traffic, are", ports, inboundPort)
		}
		said.say("%s open to pods labelled %s, as which whoever may label a pod can pass.", open, label)
		if !p.Identity {
			said.say("Nothing else tells meshed traffic from other there.")
		}
	}
	switch {
	case p.Identity:
		said.say("The proxies take callers with any identity of the mesh to ports %s", ports)
		if closed := onlyClosed(p); len(closed) > 0 {
			said.add(", and nobody to ports %s", access.JoinPorts(closed))
		}
		said.add(".")
		said.say("Ports that the pods do not declare follow their default inbound policy, which closes them if %s is deny.", DefaultInboundPolicyAnnotation)
		said.probes()
	case strength != access.Label:
		said.say("All other ports are closed to direct connections, but behind %d callers of the mesh reach every port that Linkerd's authorization does not close.", inboundPort)
	}
	if open := p.Excepted(adminPort); len(open) > 0 {
		said.say("Exceptions get in without the mesh")
		if p.Identity {
			said.add("; on their ports the proxies demand no identity, so there the NetworkPolicy alone keeps others without one out")
		}
		said.add(".")
		if line := behindTheProxies(p); line != "" {
			said.say("%s", line)
		}
	}
	if ignored := ignoredPorts(w.values); len(ignored) > 0 {
		said.say("Ports that bypass the proxies (%s) never carry traffic of the mesh.", strings.Join(ignored, ", "))
	}
	if p.Identity && readsMetrics(p) {
		said.say("Of %d, requests for metrics, and those of probes, pass the proxies whoever makes them; nothing else does.", adminPort)
	}
	if strength != access.Label || ports != "" {
		said.say("Metrics (%d) and tap (%d) are closed unless an exception opens them.", adminPort, controlPort)
	}
	said.outside(p)
	return said.String()
}

// behindTheProxies says which ports exceptions open to the mesh too; nothing if
// there are none. A proxy tells pods without it by no more than addresses, and the
// NetworkPolicy sees nothing of its callers but the proxy's port.
func behindTheProxies(p access.Protection) string {
	var said sentences
	all, some := behind(p)
	if len(all) > 0 {
		said.say("Ports %s, which exceptions open, are open behind %d to every caller of the mesh too.", access.JoinPorts(all), inboundPort)
	}
	if len(some) > 0 {
		said.say("Ports %s, which exceptions open to addresses, are open behind %d to callers of the mesh at those addresses too.", access.JoinPorts(some), inboundPort)
	}
	return said.String()
}

// onlyClosed are the closed ports that no exception opens.
func onlyClosed(p access.Protection) []int32 {
	return slices.DeleteFunc(slices.Clone(p.Closed), func(port int32) bool {
		return slices.Contains(p.Ports, port) || slices.ContainsFunc(p.Exceptions, func(e access.Exception) bool {
			return !e.Metrics && slices.Contains(e.Ports, port)
		})
	})
}

// controlPlaneGuarantee says what holds for the pods of the control plane.
func (w wire) controlPlaneGuarantee(p access.Protection) string {
	var said sentences
	said.say("Of the control plane, ports %s and the proxies' %d are open to pods labelled %s=%s, as which whoever may label a pod can pass: identities are given out only for a pod's own token, but where Services are and who may call them is told to all who ask.",
		access.JoinPorts(controlPlanePorts()), inboundPort, controlPlaneLabel, w.controlPlane)
	webhooks := access.JoinPorts(controlPlaneWebhooks())
	switch {
	case p.ControlPlane.Everyone:
		said.say("The webhooks' ports %s are open to everybody; they demand TLS.", webhooks)
	case len(p.ControlPlane.Webhooks(controlPlaneWebhooks()...)) == 0:
		said.say("The webhooks' ports %s are closed: no pod is injected unless the API server runs where the policy does not reach.", webhooks)
	default:
		said.say("The webhooks' ports %s are open to where the API server comes from; if it comes from elsewhere, pods are created without a proxy, or not at all.", webhooks)
	}
	if len(p.Exceptions) == 0 {
		said.say("Metrics (%s) are closed.", access.JoinPorts(append(controlPlaneAdminPorts(), adminPort)))
	}
	said.outside(p)
	return said.String()
}

// sentences are what is said to people.
type sentences struct{ strings.Builder }

func (s *sentences) say(format string, args ...any) {
	if s.Len() > 0 {
		format = " " + format
	}
	s.add(format, args...)
}

func (s *sentences) add(format string, args ...any) { fmt.Fprintf(s, format, args...) }

// probes says what is open for the sake of probes.
func (s *sentences) probes() {
	s.say("What kubelets ask for in probes by plain HTTP or gRPC is open to whoever reaches the port, with or without an identity.")
}

// outside says what no policy holds against.
func (s *sentences) outside(p access.Protection) {
	if p.Egress != nil {
		s.say("The pods may call only what the policy opens; whom they find there, its labels or addresses say, and nothing else.")
	}
	s.say("None of this holds against other NetworkPolicies, which add to this one, against what runs on a pod's own node outside of pods, such as the kubelet's probes, or for pods in their node's network.")
}

package istio

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// PodFindings says in one line each what keeps a protection from holding for pods
// of the mesh, or them from their callers and their health: being in another mode
// than it is for, ports that do not lead through their sidecars, and probes that
// do; and which ports it opens to the whole mesh.
func (t Traffic) PodFindings(pods []*corev1.Pod, p access.Protection) []string {
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
	findings := t.otherMode(pods)
	if line := t.behindTunnel(p); line != "" {
		findings = append(findings, line+" Name them in ports where all of the mesh is meant.")
	}
	if p.Identity {
		stray := map[int32][]string{}
		for _, pod := range pods {
			for _, probe := range strayProbes(pod) {
				stray[probe.Port] = append(stray[probe.Port], pod.Name)
			}
		}
		for port, names := range stray {
			findings = append(findings, fmt.Sprintf("Port %d of pods %s is probed, and the probe does not go by Istio's agent (%s): the sidecar refuses it, as it shows no identity.", port, kube.Few(names), rewriteProbes))
		}
	}
	for what, names := range found {
		findings = append(findings, fmt.Sprintf("Port %d of pods %s does not lead through the sidecar (%s): nothing of the mesh arrives there.", what.port, kube.Few(names), what.why))
	}
	slices.Sort(findings)
	return findings
}

// otherMode says which pods are in a mode that the traffic is not sent in.
func (t Traffic) otherMode(pods []*corev1.Pod) []string {
	var others []string
	for _, pod := range pods {
		ambient := (Injection{}).Proxy(pod).Mode == mesh.Ambient
		if t.Mode == ModeSidecar && ambient || t.Mode == ModeAmbient && !ambient {
			others = append(others, pod.Name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	is := map[string]string{ModeSidecar: ModeAmbient, ModeAmbient: ModeSidecar}[t.Mode]
	return []string{fmt.Sprintf("Pods %s are in mode %s, and the policy is for mode %s: it keeps the mesh's callers and probes from them. Set mode to %s, or to %s while there are pods of both.",
		kube.Few(others), is, t.Mode, is, ModeBoth)}
}

// rewriteProbes is the annotation by which pods keep their probes as they are.
const rewriteProbes = "sidecar.istio.io/rewriteAppHTTPProbers"

// strayProbes are the probes by HTTP and gRPC of a pod with a sidecar that the
// injector has not led to the agent, and so come to the sidecar without identity.
// Those by TCP are content with a connection, and in ambient mode probes are told
// by their address.
func strayProbes(pod *corev1.Pod) []access.Probe {
	if roleOf(access.End{Pod: pod}) != inSidecar {
		return nil
	}
	return slices.DeleteFunc(access.ProbesOf([]*corev1.Pod{pod}), func(probe access.Probe) bool {
		return strings.HasPrefix(probe.Path, "/app-health/") || bypassed(pod, probe.Port) != ""
	})
}

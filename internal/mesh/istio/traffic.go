package istio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// How pods are in the mesh whose traffic is meant.
const (
	ModeSidecar = "sidecar"
	ModeAmbient = ambientMode
	// ModeBoth is of pods of both sorts, or of sidecars that are called from
	// ambient mode too.
	ModeBoth = "both"
)

// Modes lists them all.
func Modes() []string { return []string{ModeSidecar, ModeAmbient, ModeBoth} }

// The ports of Istio's proxies and control plane that are dialled from without.
const (
	tunnelPort      int32 = 15008 // HBONE: mTLS to any port of the pod
	agentPort       int32 = 15020 // merged metrics, rewritten probes
	envoyPort       int32 = 15090 // Envoy's own metrics
	discoveryPort   int32 = 15012
	monitoringPort  int32 = 15014
	webhookPort     int32 = 15017
	firstProbeRange       = "169.254.7.127/32"
	otherProbeRange       = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"
)

// proxyPorts are taken by the sidecar inside the pod, or by the node's proxy in
// its name. None of them is an application's.
func proxyPorts() []int32 {
	return []int32{15000, 15001, 15004, 15006, tunnelPort, agentPort, 15021, 15053, envoyPort}
}

// Traffic is how Istio sends what meshed clients call some pods by.
type Traffic struct {
	// Mode is one of Modes, which only the traffic of a control plane does without;
	// ModeOf reads it from pods.
	Mode string `json:"mode,omitempty"`
}

// CheckPorts refuses ports that can never be the application's.
func (Traffic) CheckPorts(ports []int32) error {
	for _, port := range ports {
		switch {
		case port < 1 || port > 65535:
			return fmt.Errorf("port %d is not within 1 to 65535", port)
		case slices.Contains(proxyPorts(), port):
			return fmt.Errorf("port %d is that of Istio's proxy; name the application's", port)
		}
	}
	return nil
}

// ModeOf is how pods are in Istio: as their proxies show, or, if none of them has
// any, as their namespace and their labels ask for; that of sidecars if nothing
// tells.
func ModeOf(namespace *corev1.Namespace, pods []*corev1.Pod) string {
	sidecars, ambient := false, false
	for _, pod := range pods {
		mode := Injection{}.Proxy(pod).Mode
		ambient = ambient || mode == mesh.Ambient
		sidecars = sidecars || mode != "" && mode != mesh.Ambient
	}
	if !sidecars && !ambient {
		surroundings, marks := mesh.MarkOf(namespace), marksOf(pods)
		if len(marks) == 0 {
			marks = []mesh.Mark{{}}
		}
		for _, mark := range marks {
			sidecar := claimsSidecar(surroundings, mark)
			sidecars = sidecars || sidecar
			ambient = ambient || !sidecar && claimsAmbient(surroundings, mark)
		}
	}
	switch {
	case sidecars && ambient:
		return ModeBoth
	case ambient:
		return ModeAmbient
	default:
		return ModeSidecar
	}
}

func marksOf(pods []*corev1.Pod) []mesh.Mark {
	marks := make([]mesh.Mark, len(pods))
	for i, pod := range pods {
		marks[i] = mesh.MarkOf(pod)
	}
	return marks
}

// Compile works out what enforces a protection. The cluster, which may be nil, is
// asked for no more than where the policies of the whole mesh are, which are
// refused.
//
// A NetworkPolicy is enforced outside the pod, before any redirection. Between
// sidecars, mTLS travels on the application's own port, as 15006 exists only
// inside the pod; nothing but labels tells it from other traffic there. In ambient
// mode every meshed client, sidecars and gateways included, dials 15008 of the
// pod's address, where the node's proxy answers to nothing but mTLS.
func (t Traffic) Compile(ctx context.Context, cluster *kube.Cluster, p access.Protection) (access.Compiled, error) {
	if p.ControlPlane != nil {
		return compileControlPlane(p)
	}
	if err := t.CheckPorts(p.Ports); err != nil {
		return access.Compiled{}, err
	}
	if !slices.Contains(Modes(), t.Mode) {
		return access.Compiled{}, fmt.Errorf("mode %q is none of %s", t.Mode, strings.Join(Modes(), ", "))
	}
	compiled := access.Compiled{Network: netpol.Intent{
		Namespace: p.Namespace, Name: p.Name, Pods: metav1.LabelSelector{MatchLabels: p.Pods},
	}}
	var err error
	if compiled.Strength, err = t.strength(p.Strength); err != nil {
		return access.Compiled{}, err
	}
	var metrics []int32
	if t.Mode != ModeAmbient {
		metrics = []int32{agentPort, envoyPort}
	}
	compiled.Network.Ingress = append(t.ingress(compiled.Strength, p.Ports), p.Excepted(metrics...)...)
	if p.Egress != nil {
		compiled.Network.RestrictEgress, compiled.Network.Egress = true, egress(*p.Egress)
	}
	if p.Identity {
		if compiled.Authorization, err = demandIdentity(ctx, cluster, p); err != nil {
			return access.Compiled{}, err
		}
	}
	compiled.Guarantee = t.guarantee(p, compiled.Strength)
	return compiled, nil
}

// strength is the wanted one, or the strongest that there is.
func (t Traffic) strength(wanted access.Strength) (access.Strength, error) {
	switch {
	case wanted == "" && t.Mode == ModeAmbient:
		return access.MTLSPort, nil
	case wanted == "":
		return access.Label, nil
	case !slices.Contains(access.Strengths(), wanted):
		return "", fmt.Errorf("strength %q is none of %v", wanted, access.Strengths())
	case wanted == access.Label || t.Mode == ModeAmbient:
		return wanted, nil
	}
	return "", fmt.Errorf("strength %s is not to be had with Istio's sidecars: they take mTLS on the application's own ports, where a network policy cannot tell it from other traffic; "+
		"use strength %s, and require an identity (require_identity = true), which has the sidecars refuse whoever has none; or select pods in ambient mode only", wanted, access.Label)
}

func (t Traffic) ingress(strength access.Strength, ports []int32) []netpol.Admission {
	if t.Mode == ModeSidecar {
		return []netpol.Admission{withPorts(netpol.Admission{Peers: proxiedPeers()}, ports)}
	}
	// Probes come by way of the node's proxy, which the node's own address does not
	// show any more.
	probes := netpol.Admission{AnyPort: true}
	for _, address := range []string{firstProbeRange, otherProbeRange} {
		probes.Peers = append(probes.Peers, netpol.Peer{Block: &netpol.Block{CIDR: address}})
	}
	var callers netpol.Admission
	switch {
	case strength == access.MTLSPort:
		callers = netpol.Admission{Anyone: true, Ports: netpol.TCP(tunnelPort)}
	case t.Mode == ModeAmbient:
		callers = netpol.Admission{Peers: meshedPeers(), Ports: netpol.TCP(tunnelPort)}
	default:
		callers = withPorts(netpol.Admission{Peers: meshedPeers()}, ports, tunnelPort)
	}
	return []netpol.Admission{callers, probes}
}

// egress opens what peers are dialled at: 15008 for those in ambient mode and
// waypoints, the application's port for sidecars.
func egress(e access.Egress) []netpol.Admission {
	var admitted []netpol.Admission
	if e.DNS {
		admitted = append(admitted, access.DNS())
	}
	if e.ControlPlane {
		// Of every revision, and of AKS's add-on, which has a namespace of its own.
		admitted = append(admitted, netpol.Admission{Peers: []netpol.Peer{{Pods: istiodPods()}}, Ports: netpol.TCP(discoveryPort)})
	}
	if e.Mesh {
		admitted = append(admitted, netpol.Admission{Peers: meshedPeers(), Ports: netpol.TCP(tunnelPort)},
			withPorts(netpol.Admission{Peers: proxiedPeers()}, e.MeshPorts))
	}
	return append(admitted, e.Admit...)
}

// withPorts opens those ports and some more; all if there are none.
func withPorts(admission netpol.Admission, ports []int32, more ...int32) netpol.Admission {
	if len(ports) == 0 {
		admission.AnyPort = true
	} else {
		admission.Ports = netpol.TCP(slices.Concat(ports, more)...)
	}
	return admission
}

// proxiedPeers are the pods that have a proxy of their own, as far as labels tell:
// the injector sets security.istio.io/tlsMode=istio, gateways of the chart carry
// `istio`, and those of the Gateway API, waypoints among them, which the injector
// does not label, the name of their Gateway and istio.io/dataplane-mode=none.
func proxiedPeers() []netpol.Peer {
	return []netpol.Peer{
		{Pods: metav1.LabelSelector{MatchLabels: map[string]string{tlsModeLabel: "istio"}}},
		{Pods: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: gatewayLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{"egressgateway", "ingressgateway"}},
		}}},
		{Pods: metav1.LabelSelector{
			MatchLabels:      map[string]string{dataplaneModeLabel: noMode},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: gatewayNameLabel, Operator: metav1.LabelSelectorOpExists}},
		}},
	}
}

// ambientPeers are the pods that the node's proxies take in, as far as labels
// tell.
func ambientPeers() []netpol.Peer {
	mode := map[string]string{dataplaneModeLabel: ambientMode}
	return []netpol.Peer{
		{Pods: metav1.LabelSelector{MatchLabels: mode}},
		{
			Namespaces: metav1.LabelSelector{MatchLabels: mode},
			Pods: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: dataplaneModeLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{noMode}},
			}},
		},
	}
}

func meshedPeers() []netpol.Peer { return append(proxiedPeers(), ambientPeers()...) }

func istiodPods() metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{"app": "istiod"}}
}

// compileControlPlane guards the istiods of a namespace, and no other pods there:
// a gateway, an addon or the nodes' proxies beside them have callers of their own.
func compileControlPlane(p access.Protection) (access.Compiled, error) {
	compiled := access.Compiled{Network: netpol.Intent{Namespace: p.Namespace, Name: p.Name, Pods: istiodPods()}}
	network := &compiled.Network
	network.Ingress = append([]netpol.Admission{{Peers: []netpol.Peer{{}}, Ports: netpol.TCP(discoveryPort)}}, p.ControlPlane.Webhooks(webhookPort)...)
	network.Ingress = append(network.Ingress, p.Excepted(monitoringPort)...)
	if p.Egress != nil {
		if len(p.Egress.Admit) == 0 {
			return access.Compiled{}, errors.New("istiod has to reach the Kubernetes API, which no label selects, and the issuers of tokens that policies name: " +
				"admit their addresses, or leave the egress of the control plane alone")
		}
		open := *p.Egress
		open.ControlPlane, open.Mesh = false, false
		network.RestrictEgress, network.Egress = true, egress(open)
	}
	compiled.Guarantee = controlPlaneGuarantee(p)
	return compiled, nil
}

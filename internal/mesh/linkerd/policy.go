package linkerd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// The proxy's ports (chart values proxy.ports).
const (
	outboundPort int32 = 4140
	inboundPort  int32 = 4143
	controlPort  int32 = 4190
	adminPort    int32 = 4191
)

// TransportHeader tells whether meshed clients address the proxy's inbound port
// for every meshed target and name the application's port in a header
// (linkerd2's controller/api/destination/endpoint_translator.go). They do since
// edge-25.3.2 and 2.18 unless the chart value proxy.outboundTransportMode says
// otherwise; values are those recorded in ConfigMap linkerd-config, or nil.
func TransportHeader(version Version, values map[string]any) bool {
	if !version.Has(Since{Edge: [3]int{25, 3, 2}, Numbered: [3]int{2, 18, 0}}) {
		return false
	}
	proxy, _ := values["proxy"].(map[string]any)
	mode, set := proxy["outboundTransportMode"]
	// The destination controller falls back to transparent for what it does not
	// know.
	return !set || mode == "transport-header"
}

// PolicyOptions describe the pods for which only mesh traffic is to be admitted.
type PolicyOptions struct {
	// ControlPlane is the namespace of the control plane whose proxies are
	// admitted; empty means DefaultNamespace.
	ControlPlane string
	// Ports are the application's TCP ports.
	Ports []int32
	// SkipInboundPorts of the selected pods, ports or ranges as in Injection: by
	// their annotation or, without one, by the chart value
	// proxyInit.ignoreInboundPorts.
	SkipInboundPorts []string
	// TransportHeader tells how meshed clients address the pods; see the
	// function of that name.
	TransportHeader bool
}

// SkippedPortsError refuses a policy for ports that bypass the proxy: what
// arrives there is never mesh traffic.
type SkippedPortsError struct{ Ports []int32 }

func (e *SkippedPortsError) Error() string {
	return fmt.Sprintf("ports %s bypass the proxy (%s): no traffic to them is meshed, so none can be admitted as such",
		joinPorts(e.Ports), SkipInboundPortsAnnotation)
}

// CheckPorts refuses the proxy's own ports where the application's are meant.
func CheckPorts(ports []int32) error {
	for _, port := range ports {
		if slices.Contains([]int32{outboundPort, inboundPort, controlPort, adminPort}, port) {
			return fmt.Errorf("port %d is the proxy's own; name the application's", port)
		}
	}
	return nil
}

// PolicyRules returns what to admit so that meshed clients reach the
// application's ports and others do not.
//
// A NetworkPolicy is enforced outside the pod, before the redirection to the
// proxy: it sees the port that the client dialled. With the transport header
// that is 4143 for every meshed client, so the application's ports are closed to
// everyone. The proxy answers on 4143 only to mTLS with a client's identity
// (linkerd2-proxy's inbound/src/direct.rs): a pod that merely wears the label is
// admitted by the policy and refused by the proxy. Without it, meshed clients
// dial the application's port, and 4143 for opaque ports alone; then the label is
// all there is.
func PolicyRules(options PolicyOptions) (netpol.Rules, error) {
	if err := CheckPorts(options.Ports); err != nil {
		return netpol.Rules{}, err
	}
	ports, err := netpol.NormalizePorts(options.Ports)
	if err != nil {
		return netpol.Rules{}, err
	}
	var skipped []int32
	for _, port := range ports {
		hit, err := skips(options.SkipInboundPorts, port)
		if err != nil {
			return netpol.Rules{}, err
		}
		if hit {
			skipped = append(skipped, port)
		}
	}
	if len(skipped) > 0 {
		return netpol.Rules{}, &SkippedPortsError{Ports: skipped}
	}

	controlPlane := options.ControlPlane
	if controlPlane == "" {
		controlPlane = DefaultNamespace
	}
	admission := netpol.Admission{
		Peers: []netpol.Peer{{Pods: metav1.LabelSelector{MatchLabels: map[string]string{controlPlaneLabel: controlPlane}}}},
	}
	var guarantee strings.Builder
	if options.TransportHeader {
		admission.Ports = netpol.TCP(inboundPort)
		fmt.Fprintf(&guarantee, "Only TCP %d, the proxy's port, is open, to pods labelled %s=%s; the proxy demands mTLS there, so a pod that wears the label without a Linkerd identity gets no further. "+
			"Ports %s are closed to every direct connection. "+
			"It does not restrict which port of the pod a meshed client asks the proxy for: behind %d all of them can be reached until authorization objects say otherwise.",
			inboundPort, controlPlaneLabel, controlPlane, joinPorts(ports), inboundPort)
	} else {
		admission.Ports = netpol.TCP(append(ports, inboundPort)...)
		fmt.Fprintf(&guarantee, "Ports %s, and TCP %d for opaque traffic, are open to pods labelled %s=%s. "+
			"Whoever may label a pod can pass as meshed: Linkerd of this version and mode sends meshed traffic to the application's own ports, where nothing but the label tells it apart. "+
			"For proof of identity require it with Linkerd's authorization (config.linkerd.io/default-inbound-policy: all-authenticated).",
			joinPorts(ports), inboundPort, controlPlaneLabel, controlPlane)
	}
	fmt.Fprintf(&guarantee, " Closed unless another policy opens them: metrics (%d), tap (%d)", adminPort, controlPort)
	if len(options.SkipInboundPorts) > 0 {
		fmt.Fprintf(&guarantee, ", and the ports that bypass the proxy (%s)", strings.Join(options.SkipInboundPorts, ", "))
	}
	guarantee.WriteString(". Probes from the pod's own node always pass.")
	return netpol.Rules{Admit: []netpol.Admission{admission}, Guarantee: guarantee.String()}, nil
}

// skips tells whether a port is among ports and ranges such as "5080" and
// "4000-4100".
func skips(ranges []string, port int32) (bool, error) {
	for _, text := range ranges {
		first, last, err := portRange(strings.TrimSpace(text))
		if err != nil {
			return false, fmt.Errorf("skipped port: %w", err)
		}
		if uint64(port) >= first && uint64(port) <= last { //nolint:gosec // Ports are positive.
			return true, nil
		}
	}
	return false, nil
}

func joinPorts(ports []int32) string {
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ", ")
}

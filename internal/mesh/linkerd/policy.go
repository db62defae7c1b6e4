package linkerd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// The proxy's ports (chart values proxy.ports).
const (
	outboundPort int32 = 4140
	inboundPort  int32 = 4143
	controlPort  int32 = 4190
	adminPort    int32 = 4191
)

// What the control plane listens on: for proxies, for the API server's webhooks,
// and for Prometheus.
func controlPlanePorts() []int32      { return []int32{8080, 8086, 8090} }
func controlPlaneWebhooks() []int32   { return []int32{8443, 9443} }
func controlPlaneAdminPorts() []int32 { return []int32{9990, 9995, 9996, 9997} }

// transportHeader tells whether meshed clients address the proxy's inbound port
// for every meshed target and name the application's port in a header
// (linkerd2's controller/api/destination/endpoint_translator.go). They do since
// edge-25.3.2 and 2.18 unless the chart value proxy.outboundTransportMode says
// otherwise; values are those recorded in ConfigMap linkerd-config, or nil.
func transportHeader(version Version, values map[string]any) bool {
	if !version.Has(Since{Edge: [3]int{25, 3, 2}, Numbered: [3]int{2, 18, 0}}) {
		return false
	}
	proxy, _ := values["proxy"].(map[string]any)
	mode, set := proxy["outboundTransportMode"]
	// The destination controller falls back to transparent for what it does not
	// know.
	return !set || mode == "transport-header"
}

// skippedPortsError refuses a policy for ports that bypass the proxy: what
// arrives there is never mesh traffic.
type skippedPortsError struct{ Ports []int32 }

func (e *skippedPortsError) Error() string {
	return fmt.Sprintf("ports %s bypass the proxy (%s): no traffic to them is meshed, so none can be admitted as such",
		access.JoinPorts(e.Ports), SkipInboundPortsAnnotation)
}

// wire is how the proxies of one control plane send traffic.
type wire struct {
	controlPlane string // its namespace
	version      Version
	values       map[string]any // recorded ones, or nil
}

// compile works out what enforces a protection.
//
// A NetworkPolicy is enforced outside the pod, before the redirection to the
// proxy: it sees the port that the client dialled. With the transport header
// that is 4143 for every meshed client, so the application's ports are closed to
// everyone. The proxy answers on 4143 only to mTLS with a client's identity
// (linkerd2-proxy's inbound/src/direct.rs): a pod that merely wears the label is
// admitted by the policy and refused by the proxy. Without it, meshed clients
// dial the application's port, and 4143 for opaque ports alone; then the label is
// all there is.
func (w wire) compile(p access.Protection) (access.Compiled, error) {
	compiled := access.Compiled{Network: netpol.Intent{
		Namespace: p.Namespace, Name: p.Name, Pods: metav1.LabelSelector{MatchLabels: p.Pods},
	}}
	network := &compiled.Network
	if p.Egress != nil {
		network.RestrictEgress, network.Egress = true, w.egress(*p.Egress)
	}
	if p.ControlPlane != nil {
		if p.Egress != nil && len(p.Egress.Admit) == 0 {
			return access.Compiled{}, errors.New("the control plane has to reach the Kubernetes API, which no label selects: " +
				"admit its addresses, or leave the egress of the control plane alone")
		}
		network.Ingress = append(w.controlPlaneIngress(*p.ControlPlane), p.Excepted(append(controlPlaneAdminPorts(), adminPort)...)...)
		compiled.Guarantee = w.controlPlaneGuarantee(p)
		return compiled, nil
	}
	var err error
	if compiled.Strength, err = w.strength(p.Strength); err != nil {
		return access.Compiled{}, err
	}
	if err := w.checkPorts(p); err != nil {
		return access.Compiled{}, err
	}
	network.Ingress = append([]netpol.Admission{w.meshIngress(compiled.Strength, p.Ports)}, p.Excepted(adminPort)...)
	if p.Identity {
		if compiled.Authorization, err = w.identity(p); err != nil {
			return access.Compiled{}, err
		}
	}
	compiled.Guarantee = w.guarantee(p, compiled.Strength)
	return compiled, nil
}

// strength is the wanted one, or the strongest that there is.
func (w wire) strength(wanted access.Strength) (access.Strength, error) {
	header := transportHeader(w.version, w.values)
	switch {
	case wanted == "" && header:
		return access.MTLSPort, nil
	case wanted == "":
		return access.Label, nil
	case !slices.Contains(access.Strengths(), wanted):
		return "", fmt.Errorf("strength %q is none of %v", wanted, access.Strengths())
	case wanted == access.Label || header:
		return wanted, nil
	}
	return "", fmt.Errorf("strength %s is not to be had: Linkerd %s, or the chart value proxy.outboundTransportMode that it was installed with, "+
		"has meshed clients dial the application's own ports, where nothing demands mTLS; "+
		"upgrade Linkerd to edge-25.3.2 or 2.18 and leave that value at transport-header, or use strength %s, with require_identity to have the proxies demand identities",
		wanted, w.version, access.Label)
}

func (w wire) checkPorts(p access.Protection) error {
	all := slices.Concat(p.Ports, p.Closed)
	for _, port := range all {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port %d is not within 1 to 65535", port)
		}
	}
	if err := (Traffic{}).CheckPorts(all); err != nil {
		return err
	}
	skipped, err := skippedOf(ignoredPorts(w.values), p.Ports)
	if err != nil {
		return err
	}
	if len(skipped) > 0 {
		return &skippedPortsError{Ports: skipped}
	}
	if p.Identity && len(p.Ports) == 0 {
		return errors.New("an identity can be demanded of callers of given ports only: name the ports")
	}
	return nil
}

// skippedOf are the ports that are among ports and ranges such as "5080" and
// "4000-4100".
func skippedOf(ranges []string, ports []int32) (skipped []int32, err error) {
	for _, port := range slices.Compact(slices.Sorted(slices.Values(ports))) {
		hit, err := skips(ranges, port)
		if err != nil {
			return nil, err
		}
		if hit {
			skipped = append(skipped, port)
		}
	}
	return skipped, nil
}

// skips tells whether a port is among ports and ranges.
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

// ignoredPorts are those that bypass the proxies of the whole mesh by the
// chart's value proxyInit.ignoreInboundPorts, or its default where nobody tells.
func ignoredPorts(values map[string]any) []string {
	text, set, err := unstructured.NestedString(values, "proxyInit", "ignoreInboundPorts")
	switch {
	case err != nil:
		return nil
	case !set:
		text = "4567,4568"
	case text == "":
		return nil
	}
	return strings.Split(text, ",")
}

// defaultOpaquePorts are those that proxies do not look into unless pods say otherwise.
func defaultOpaquePorts(values map[string]any) string {
	text, _, err := unstructured.NestedString(values, "proxy", "opaquePorts")
	if err != nil || text == "" {
		return "25,587,3306,4444,5432,6379,9300,11211"
	}
	return text
}

// labelled are the pods of all namespaces that wear the mesh's label.
func (w wire) labelled() []netpol.Peer {
	return []netpol.Peer{{Pods: metav1.LabelSelector{MatchLabels: map[string]string{controlPlaneLabel: w.controlPlane}}}}
}

func (w wire) meshIngress(strength access.Strength, ports []int32) netpol.Admission {
	switch {
	case strength == access.MTLSPort:
		return netpol.Admission{Anyone: true, Ports: netpol.TCP(inboundPort)}
	case strength == access.Both:
		return netpol.Admission{Peers: w.labelled(), Ports: netpol.TCP(inboundPort)}
	case len(ports) == 0:
		return netpol.Admission{Peers: w.labelled(), AnyPort: true}
	default:
		return netpol.Admission{Peers: w.labelled(), Ports: netpol.TCP(append(slices.Clone(ports), inboundPort)...)}
	}
}

func (w wire) controlPlaneIngress(c access.ControlPlane) []netpol.Admission {
	proxies := netpol.Admission{Peers: w.labelled(), Ports: netpol.TCP(append(controlPlanePorts(), inboundPort)...)}
	return append([]netpol.Admission{proxies}, c.Webhooks(controlPlaneWebhooks()...)...)
}

// egress opens the ports at which peers are to be found: the control plane's own
// ones are dialled whatever the transport mode, as identity and policy are what a
// proxy needs before it can do mTLS.
func (w wire) egress(e access.Egress) []netpol.Admission {
	var admitted []netpol.Admission
	if e.DNS {
		admitted = append(admitted, access.DNS())
	}
	if e.ControlPlane {
		admitted = append(admitted, netpol.Admission{
			Peers: []netpol.Peer{netpol.InNamespace(w.controlPlane, metav1.LabelSelector{})}, Ports: netpol.TCP(controlPlanePorts()...),
		})
	}
	if e.Mesh {
		mesh := netpol.Admission{Peers: w.labelled()}
		switch {
		case transportHeader(w.version, w.values):
			mesh.Ports = netpol.TCP(inboundPort)
		case len(e.MeshPorts) == 0:
			mesh.AnyPort = true
		default:
			mesh.Ports = netpol.TCP(append(slices.Clone(e.MeshPorts), inboundPort)...)
		}
		admitted = append(admitted, mesh)
	}
	return append(admitted, e.Admit...)
}

// identity is the authorization by which proxies hold their callers to the ports.
func (w wire) identity(p access.Protection) ([]*unstructured.Unstructured, error) {
	if err := servesPolicies(w.version); err != nil {
		return nil, err
	}
	book := rulebook{
		namespace: p.Namespace, name: p.Name, pods: p.Pods, probes: p.Probes,
		grants: []access.Grant{{Callers: []access.Caller{{Meshed: true}}}},
	}
	numbers := slices.Compact(slices.Sorted(slices.Values(slices.Concat(p.Ports, p.Closed))))
	ports := make([]governed, len(numbers))
	for i, number := range numbers {
		ports[i].port = intstr.FromInt32(number)
		// A Server's protocol comes before the ports' being opaque by default. What is
		// probed by gRPC speaks HTTP, and has to be looked into to let the probe in.
		if listed(defaultOpaquePorts(w.values), number) && !slices.Contains(p.Probes, access.Probe{Port: number, GRPC: true}) {
			ports[i].protocol = opaqueProtocol
		}
		if slices.Contains(p.Ports, number) {
			ports[i].grants = []int{0}
		}
	}
	for _, exception := range p.Exceptions {
		if exception.Metrics {
			continue
		}
		at := p.ExceptedPorts(exception)
		book.grants = append(book.grants, access.Grant{Callers: addresses(exception)})
		for i, number := range numbers {
			if slices.Contains(at, number) {
				ports[i].grants = append(ports[i].grants, len(book.grants)-1)
			}
		}
	}
	book.ports = ports
	if readsMetrics(p) {
		book.showMetrics()
	}
	return book.write()
}

// readsMetrics tells whether somebody is let in to the proxies' metrics.
func readsMetrics(p access.Protection) bool {
	return slices.ContainsFunc(p.Exceptions, func(e access.Exception) bool { return e.Metrics })
}

// showMetrics lets requests for metrics in to the proxy's admin port, whose callers
// without a proxy the default inbound policy may refuse, and those of the kubelet.
func (r *rulebook) showMetrics() {
	r.grants = append(r.grants, access.Grant{Callers: everybody(), Routes: []access.Route{{Methods: []string{"GET"}, Path: "/metrics"}}})
	r.ports = append(r.ports, governed{port: intstr.FromInt32(adminPort), protocol: "HTTP/1", grants: []int{len(r.grants) - 1}})
	r.probes = append(slices.Clone(r.probes), access.Probe{Port: adminPort, Path: "/live"}, access.Probe{Port: adminPort, Path: "/ready"})
}

// behind are the ports outside of Ports that exceptions open, at which the proxies
// take callers of the mesh too: all of them, or those at the exceptions' addresses.
func behind(p access.Protection) (all, some []int32) {
	for _, exception := range p.Exceptions {
		if exception.Metrics || !p.Identity {
			continue
		}
		ports := slices.DeleteFunc(slices.Clone(exception.Ports), func(port int32) bool { return slices.Contains(p.Ports, port) })
		if len(addresses(exception)) == len(exception.Peers) && !exception.Anyone {
			some = append(some, ports...)
		} else {
			all = append(all, ports...)
		}
	}
	return all, some
}

// addresses are where the peers of an exception come from, as far as a proxy can
// tell: of pods it knows no more than an address that changes.
func addresses(exception access.Exception) []access.Caller {
	var callers []access.Caller
	for _, peer := range exception.Peers {
		if peer.Block == nil {
			return everybody()
		}
		callers = append(callers, access.Caller{Network: peer.Block})
	}
	if exception.Anyone {
		return everybody()
	}
	return callers
}

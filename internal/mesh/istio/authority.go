package istio

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// An enforcement judges connections by Istio's objects, as istiod has proxies do
// (pilot/pkg/security/authn and authz, pilot/pkg/serviceregistry/ambient).
type enforcement struct {
	configs         []meshConfig
	policies        []placed[authorization]      // in order of namespace and name
	authentications []placed[peerAuthentication] // the oldest first
	rules           []placed[destinationRule]    // that have clients do without mTLS of the mesh
	services        map[string][]*corev1.Service // with pods, by namespace
	networks        []netip.Prefix
	patterns        []pattern
	notEvaluated    []string
}

// placed is a spec with where it is from.
type placed[T any] struct {
	namespace, name string
	created         time.Time // zero if it is only proposed
	spec            T
}

// newEnforcement puts what was read into the order in which istiod takes it.
func newEnforcement(configs []meshConfig, policies []placed[authorization], authentications []placed[peerAuthentication], rules []placed[destinationRule], services []*corev1.Service) *enforcement {
	if len(configs) == 0 {
		configs = []meshConfig{{TrustDomain: defaultTrustDomain, RootNamespace: DefaultNamespace}}
	}
	a := &enforcement{configs: configs, policies: slices.Clone(policies), authentications: slices.Clone(authentications), services: map[string][]*corev1.Service{}}
	slices.SortFunc(a.policies, func(x, y placed[authorization]) int {
		return cmp.Or(cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.name, y.name))
	})
	slices.SortFunc(a.authentications, func(x, y placed[peerAuthentication]) int {
		return cmp.Or(compareAges(x.created, y.created), cmp.Compare(x.name, y.name), cmp.Compare(x.namespace, y.namespace))
	})
	for _, service := range services {
		if len(service.Spec.Selector) > 0 {
			a.services[service.Namespace] = append(a.services[service.Namespace], service)
		}
	}
	for _, rule := range rules {
		if rule.spec.foreignTLS() != "" {
			a.rules = append(a.rules, rule)
		}
	}
	for _, policy := range a.policies {
		if policy.spec.TargetRef != nil || len(policy.spec.TargetRefs) > 0 {
			a.notEvaluated = append(a.notEvaluated, policy.String()+", which is for waypoints or gateways")
		}
	}
	for _, config := range configs {
		if config.OutboundTrafficPolicy.Mode == "REGISTRY_ONLY" {
			a.notEvaluated = append(a.notEvaluated, fmt.Sprintf("outboundTrafficPolicy REGISTRY_ONLY of the control plane in namespace %s", config.plane.Namespace))
		}
	}
	a.networks, a.patterns = networksOf(a.policies), patternsOf(a.policies)
	return a
}

// compareAges puts what has not been created yet behind all others.
func compareAges(x, y time.Time) int {
	if x.IsZero() != y.IsZero() {
		return y.Compare(x)
	}
	return x.Compare(y)
}

// A role is what part a pod has in the mesh.
type role string

const (
	outside    role = ""
	inSidecar  role = "sidecar"
	inAmbient  role = "ambient"
	isGateway  role = "gateway" // without redirection: it listens at its ports itself
	isWaypoint role = "waypoint"
)

func roleOf(end access.End) role {
	pod := end.Pod
	if pod == nil || isZtunnel(pod) {
		return outside
	}
	switch mode := (Injection{}).Proxy(pod).Mode; {
	case mode == "":
		return outside
	case mode == mesh.Ambient:
		return inAmbient
	case pod.Labels[managedLabel] == meshController:
		return isWaypoint
	case pod.Labels[gatewayNameLabel] != "", pod.Labels[tlsModeLabel] == "" && !redirected(pod):
		return isGateway
	default:
		return inSidecar
	}
}

// meshController is who deploys waypoints.
const meshController = "istio.io-mesh-controller"

// redirected reports whether what comes to a pod is taken to its proxy: by an init
// container, or by istio-cni, for which another one stands in.
func redirected(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == "istio-init" || c.Name == "istio-validation"
	})
}

// tunnelled reports whether a sidecar takes HBONE.
func tunnelled(pod *corev1.Pod) bool { return pod.Labels["networking.istio.io/tunnel"] == "http" }

func waypointOf(labels map[string]string) string {
	if name := labels["istio.io/use-waypoint"]; name != noMode {
		return name
	}
	return ""
}

// waypoint is the name of that in front of a pod, or of a Service of its.
func (a *enforcement) waypoint(end access.End) string {
	if name, set := end.Pod.Labels["istio.io/use-waypoint"]; set {
		return waypointOf(map[string]string{"istio.io/use-waypoint": name})
	}
	for _, service := range a.servicesOf(end.Pod) {
		if name := waypointOf(service.Labels); name != "" {
			return name
		}
	}
	if end.Namespace == nil {
		return ""
	}
	return waypointOf(end.Namespace.Labels)
}

// servicesOf are the Services that lead to a pod.
func (a *enforcement) servicesOf(pod *corev1.Pod) []*corev1.Service {
	var found []*corev1.Service
	for _, service := range a.services[pod.Namespace] {
		if selects(service.Spec.Selector, pod.Labels) {
			found = append(found, service)
		}
	}
	return found
}

// Mesh implements [access.Authority].
func (a *enforcement) Mesh(pod access.End) string {
	if roleOf(pod) == outside {
		return ""
	}
	return Injection{}.Name()
}

// Networks implements [access.Authority].
func (a *enforcement) Networks() []netip.Prefix { return slices.Clone(a.networks) }

// NotEvaluated implements [access.Authority].
func (a *enforcement) NotEvaluated() []string { return slices.Clone(a.notEvaluated) }

// Class implements [access.Authority].
func (a *enforcement) Class(end access.End) string {
	var parts []string
	for _, network := range a.networks {
		within, known := within(end, network)
		parts = append(parts, fmt.Sprint(within, known))
	}
	r := roleOf(end)
	parts = append(parts, string(r))
	if r == outside {
		return strings.Join(parts, ";")
	}
	pod := end.Pod
	config := a.configOf(pod)
	if len(a.rules) > 0 {
		parts = append(parts, pod.Namespace)
	}
	if len(a.patterns) > 0 {
		shown := call{principal: principalOf(config.TrustDomain, pod.Namespace, accountOf(pod)), aliases: config.aliases(), from: end}
		for _, p := range a.patterns {
			parts = append(parts, p.of(shown))
		}
	}
	parts = append(parts, config.RootNamespace, strconv.FormatBool(config.autoMTLS()), pod.Labels[tlsModeLabel], strconv.FormatBool(tunnelled(pod)), a.waypoint(end))
	for _, key := range []string{excludeInboundPorts, includeInboundPorts, interceptionMode} {
		parts = append(parts, pod.Annotations[key])
	}
	for i, rule := range a.rules {
		if slices.ContainsFunc(a.servicesOf(pod), func(s *corev1.Service) bool { return rule.spec.isFor(rule.namespace, s) }) {
			parts = append(parts, "rule", strconv.Itoa(i))
		}
	}
	for i, policy := range a.policies {
		if governs(policy, config, r, pod) {
			parts = append(parts, "policy", strconv.Itoa(i))
		}
	}
	authentication := a.authenticationOf(config, r, pod)
	for _, port := range slices.Sorted(maps.Keys(authentication.ports)) {
		parts = append(parts, port+fmt.Sprint(authentication.ports[port]))
	}
	return strings.Join(append(parts, fmt.Sprint(authentication.whole)), ";")
}

const (
	includeInboundPorts = "traffic.sidecar.istio.io/includeInboundPorts"
	interceptionMode    = "sidecar.istio.io/interceptionMode"
)

func accountOf(pod *corev1.Pod) string { return cmp.Or(pod.Spec.ServiceAccountName, "default") }

// configOf is the configuration of the mesh that a pod is in.
func (a *enforcement) configOf(pod *corev1.Pod) meshConfig {
	revision := revisionOf(pod)
	for _, config := range a.configs {
		if config.plane.Label() == revision {
			return config
		}
	}
	return a.configs[0]
}

// Wire implements [access.Authority]. Whoever is in the mesh dials 15008 of pods in
// ambient mode; of sidecars, which take that only if they are told to, those in
// ambient mode do, as do waypoints, and others the port itself.
func (a *enforcement) Wire(from, to access.End, port netpol.Port) netpol.Port {
	if port.Protocol == corev1.ProtocolTCP && tunnels(roleOf(from), to) {
		return netpol.Port{Protocol: corev1.ProtocolTCP, Number: tunnelPort}
	}
	return port
}

func tunnels(from role, to access.End) bool {
	switch roleOf(to) {
	case inAmbient:
		return from != outside
	case inSidecar:
		return (from == inAmbient || from == isWaypoint) && tunnelled(to.Pod)
	default:
		return false
	}
}

// Judge implements [access.Authority].
func (a *enforcement) Judge(from, to access.End, port netpol.Port) access.Verdict {
	target := roleOf(to)
	switch {
	case target == outside:
		return access.Verdict{Allowed: true, Reason: "the pod is outside the mesh, whose authorization does not protect it"}
	case port.Protocol != corev1.ProtocolTCP:
		return access.Verdict{Allowed: true, Reason: "Istio's authorization is of TCP only"}
	case target == isGateway || target == isWaypoint:
		return access.Verdict{Allowed: true, Unknown: true, Reason: fmt.Sprintf("the pod is a %s of Istio: its listeners, routes and the policies attached to them decide, which are not evaluated", target)}
	}
	if why := kept(target, port.Number); why != "" {
		return access.Verdict{Reason: fmt.Sprintf("at port %d %s", port.Number, why)}
	}
	mode := a.authenticationOf(a.configOf(to.Pod), target, to.Pod).at(port.Number)
	call := a.callOf(from, to, port, mode)
	if why := bypassed(to.Pod, port.Number); target == inSidecar && why != "" && !tunnels(roleOf(from), to) {
		verdict := access.Verdict{Allowed: true, Reason: fmt.Sprintf("port %d does not lead through the sidecar (%s)", port.Number, why)}
		if call.principal != "" && why != proxysOwn {
			verdict.Unknown = true
			verdict.Reason += ", while a caller in the mesh speaks mTLS to it where it calls a Service, which the application would have to take"
		}
		return verdict
	}
	if name := a.waypoint(to); name != "" && (roleOf(from) == inAmbient || target == inAmbient && (roleOf(from) == inSidecar || roleOf(from) == isGateway)) {
		via := "waypoint " + name
		return access.Verdict{Allowed: true, Unknown: true, Via: via, Reason: via + " is in front of the pod or of its Service, and enforces policies that are not evaluated"}
	}
	verdict := a.receive(call, to, mode)
	if call.principal == "" || tunnels(roleOf(from), to) {
		return verdict
	}
	for _, rule := range a.rulesFor(from, to.Pod) {
		call.principal, call.why = "", ": "+rule
		if plain := a.receive(call, to, mode); plain.Allowed != verdict.Allowed || plain.Partly != verdict.Partly || plain.Unknown != verdict.Unknown {
			return access.Verdict{Allowed: true, Unknown: true, Reason: fmt.Sprintf("%s; by a Service %s", verdict.Reason, plain.Reason)}
		}
	}
	return verdict
}

// receive is what a proxy makes of a call.
func (a *enforcement) receive(call call, to access.End, mode modeBy) access.Verdict {
	if mode.strict() && call.principal == "" {
		return access.Verdict{Reason: fmt.Sprintf("%s takes mTLS of the mesh only (STRICT), and the caller has none%s", mode.by, call.why)}
	}
	return a.decide(call, to)
}

// rulesFor are the DestinationRules, as people are told of them, that have a client
// call Services of a pod without mTLS of the mesh.
func (a *enforcement) rulesFor(from access.End, to *corev1.Pod) []string {
	var found []string
	for _, rule := range a.rules {
		root := a.configOf(from.Pod).RootNamespace
		if rule.spec.reaches(from.Pod.Namespace, rule.namespace, to.Namespace, root) && slices.ContainsFunc(a.servicesOf(to), func(s *corev1.Service) bool { return rule.spec.isFor(rule.namespace, s) }) {
			found = append(found, fmt.Sprintf("DestinationRule %s/%s has it use tls.mode %s", rule.namespace, rule.name, rule.spec.foreignTLS()))
		}
	}
	return found
}

// bypassed says what keeps a port from a sidecar; empty if nothing does.
func bypassed(pod *corev1.Pod, port int32) string {
	if pod.Annotations[interceptionMode] == "NONE" {
		return interceptionMode + " is NONE"
	}
	if listsPort(pod.Annotations[excludeInboundPorts], port) {
		return excludeInboundPorts
	}
	if included, set := pod.Annotations[includeInboundPorts]; set && included != "*" && !listsPort(included, port) {
		return includeInboundPorts
	}
	if port == agentPort || port == 15021 || port == envoyPort {
		return proxysOwn
	}
	return ""
}

const proxysOwn = "it is the proxy's own"

// kept says why a proxy lets nobody from without in at a port of its own; empty for
// other ports.
func kept(target role, port int32) string {
	switch {
	case port == tunnelPort:
		return "proxies take connections of other proxies only, to other ports"
	case port == 15001 || port == 15006:
		return "the proxy takes what is redirected to it only, to other ports"
	case target == inSidecar && (port == 15000 || port == 15004):
		return "the proxy listens to its own pod only"
	default:
		return ""
	}
}

func listsPort(list string, port int32) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(text string) bool { return strings.TrimSpace(text) == strconv.Itoa(int(port)) })
}

// A call is what a proxy knows of a connection.
type call struct {
	principal string // of the caller, without spiffe://; empty if it shows none
	why       string // it shows none though it is in the mesh; empty otherwise
	aliases   []string
	from      access.End
	port      int32
	ambient   bool // it is the node's proxy that judges
}

// callOf is what to's proxy gets to know of a caller. One in the mesh shows its
// identity if both sides speak mTLS, which clients use wherever they know that the
// other side does.
func (a *enforcement) callOf(from, to access.End, port netpol.Port, mode modeBy) call {
	c := call{from: from, port: port.Number, ambient: roleOf(to) == inAmbient}
	caller := roleOf(from)
	if caller == outside {
		return c
	}
	config := a.configOf(from.Pod)
	identity := principalOf(config.TrustDomain, from.Pod.Namespace, accountOf(from.Pod))
	c.aliases = config.aliases()
	switch {
	case tunnels(caller, to):
		c.principal = identity
	case caller == inAmbient || caller == isWaypoint:
		c.why = ": it is in ambient mode, and the sidecar takes no HBONE"
	case to.Pod.Labels[tlsModeLabel] != "istio":
		c.why = ": the pod lacks the label " + tlsModeLabel + "=istio by which clients know that it takes mTLS"
	case !config.autoMTLS():
		c.why = ": mTLS by itself is off (enableAutoMtls of the mesh's configuration)"
	case mode.mode != disableMode:
		c.principal = identity
	}
	return c
}

// aliases are the trust domains that sidecars take for that of the mesh.
func (c meshConfig) aliases() []string {
	return append([]string{defaultTrustDomain}, c.TrustDomainAliases...)
}

func (c meshConfig) autoMTLS() bool { return c.EnableAutoMTLS == nil || *c.EnableAutoMTLS }

// A modeBy is a mode of mTLS, and the object that sets it.
type modeBy struct{ mode, by string }

func (m modeBy) strict() bool { return m.mode == strictMode }

// modes are those of one pod's ports.
type modes struct {
	whole modeBy
	ports map[string]modeBy
}

func (m modes) at(port int32) modeBy {
	if own, set := m.ports[strconv.Itoa(int(port))]; set {
		return own
	}
	return m.whole
}

// authenticationOf merges the PeerAuthentications of a pod: that of the mesh, of
// its namespace, and of its labels, of each the oldest, with the closer one winning
// unless it leaves its mode unset.
func (a *enforcement) authenticationOf(config meshConfig, r role, pod *corev1.Pod) modes {
	var wide, near, own *placed[peerAuthentication]
	first := func(into **placed[peerAuthentication], found *placed[peerAuthentication]) {
		if *into == nil {
			*into = found
		}
	}
	for i := range a.authentications {
		found := &a.authentications[i]
		selector := found.spec.Selector.labels()
		switch {
		case len(selector) == 0 && found.namespace == config.RootNamespace:
			first(&wide, found)
		case found.namespace != pod.Namespace || !selects(selector, pod.Labels):
		case len(selector) == 0:
			first(&near, found)
		case found.namespace != config.RootNamespace:
			// With labels, one in the root namespace is nobody's.
			first(&own, found)
		}
	}
	merged := modes{whole: modeBy{mode: permissiveMode}}
	for _, found := range []*placed[peerAuthentication]{wide, near, own} {
		if found != nil && found.spec.MTLS != nil && found.spec.MTLS.set() {
			merged.whole = modeBy{found.spec.MTLS.Mode, found.String()}
		}
	}
	if own == nil {
		return merged.as(r)
	}
	merged.ports = map[string]modeBy{}
	for port, mode := range own.spec.PortLevel {
		if mode.set() {
			merged.ports[port] = modeBy{mode.Mode, own.String()}
		}
	}
	return merged.as(r)
}

// as is how a role takes the modes: the node's proxy cannot do without mTLS, so
// it takes what is to be disabled for permitted.
func (m modes) as(r role) modes {
	if r != inAmbient {
		return m
	}
	soften := func(mode modeBy) modeBy {
		if mode.mode == disableMode {
			mode.mode = permissiveMode
		}
		return mode
	}
	m.whole = soften(m.whole)
	for port, mode := range m.ports {
		m.ports[port] = soften(mode)
	}
	return m
}

func (p placed[T]) String() string {
	kind := authorizationPolicies.Name
	if _, is := any(p.spec).(peerAuthentication); is {
		kind = peerAuthentications.Name
	}
	return kind + " " + p.namespace + "/" + p.name
}

func (s *workloadSelector) labels() map[string]string {
	if s == nil {
		return nil
	}
	return s.MatchLabels
}

func (m mutualTLS) set() bool { return m.Mode != "" && m.Mode != unsetMode }

// governs reports whether a pod's proxy enforces a policy: one of its namespace or
// of the root namespace that selects it. One with targets is for waypoints and
// gateways.
func governs(policy placed[authorization], config meshConfig, r role, pod *corev1.Pod) bool {
	spec := policy.spec
	if policy.namespace != pod.Namespace && policy.namespace != config.RootNamespace || spec.TargetRef != nil || len(spec.TargetRefs) > 0 {
		return false
	}
	if r == inAmbient && spec.Action != "" && spec.Action != allowAction && spec.Action != denyAction {
		return false // The node's proxy knows no others.
	}
	return selects(spec.Selector.labels(), pod.Labels)
}

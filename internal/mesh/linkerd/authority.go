package linkerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// authority judges connections as the proxies and the policy controller do
// (linkerd2's policy-controller/k8s/index/src/inbound/index.rs).
type authority struct {
	planes       map[string]terms // by their namespaces
	rules        rules
	networks     []netip.Prefix               // by which addresses are told apart
	services     map[string][]*corev1.Service // that call pods at another port than their own, by namespace
	notEvaluated []string
}

var _ access.Authority = (*authority)(nil)

// terms is what a control plane tells its proxies unless pods say otherwise.
type terms struct {
	header                    bool   // meshed clients address the proxy's port
	identities                string // what identities end in: identity.<namespace>.<trust domain>
	networks                  []netip.Prefix
	policy                    string // the default inbound policy
	inbound, outbound, opaque string // ports that bypass the proxy, and opaque ones
}

// ReadAuthority reads how Linkerd sends and authorizes in the cluster, by shared
// reads, as it would be with the proposed objects. It is nil if nothing of Linkerd
// is there.
func ReadAuthority(ctx context.Context, cluster *kube.Cluster, proposed ...*unstructured.Unstructured) (access.Authority, error) {
	a, err := readAuthority(ctx, cluster, proposed)
	if a == nil || err != nil {
		return nil, err
	}
	return a, nil
}

func readAuthority(ctx context.Context, cluster *kube.Cluster, proposed []*unstructured.Unstructured) (*authority, error) {
	pods, err := cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	namespaces, err := cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	candidates := map[string]string{} // with the version of a proxy of theirs
	for _, namespace := range namespaces {
		if namespace.Name == DefaultNamespace {
			candidates[DefaultNamespace] = ""
		}
	}
	proxies := false
	for _, pod := range pods {
		if proxy := (Injection{}).Proxy(pod); proxy.Mode != "" {
			proxies = true
			candidates[ControlPlaneOf([]*corev1.Pod{pod})] = proxy.Version
		}
	}
	planes := map[string]terms{}
	for _, namespace := range slices.Sorted(maps.Keys(candidates)) {
		version, values, err := recordedValues(ctx, cluster, namespace)
		switch {
		case err == nil:
		case errors.Is(err, mesh.ErrNoControlPlane) && candidates[namespace] != "":
			version = candidates[namespace] // Its proxies go on as they were told last.
		case errors.Is(err, mesh.ErrNoControlPlane):
			continue
		default:
			return nil, err
		}
		planes[namespace] = termsOf(namespace, version, values)
	}
	if len(planes) == 0 && !proxies {
		return nil, nil //nolint:nilnil // Nothing of Linkerd is there.
	}
	found, err := readPolicies(ctx, cluster, proposed)
	if err != nil {
		return nil, err
	}
	notEvaluated, err := access.Named(ctx, cluster, egressNetworkKind)
	if err != nil {
		return nil, err
	}
	services, err := cluster.Services(ctx, "")
	if apierrors.IsForbidden(err) {
		services, err = nil, nil
		notEvaluated = append(notEvaluated, "Services, which may not be listed and may call ports of pods by others")
	}
	if err != nil {
		return nil, err
	}
	a := newAuthority(planes, found, services...)
	a.notEvaluated = notEvaluated
	return a, nil
}

func newAuthority(planes map[string]terms, found policies, services ...*corev1.Service) *authority {
	a := &authority{planes: planes, rules: found.resolve(planes), services: map[string][]*corev1.Service{}}
	for _, service := range services {
		if len(service.Spec.Selector) > 0 && slices.ContainsFunc(service.Spec.Ports, translates) {
			a.services[service.Namespace] = append(a.services[service.Namespace], service)
		}
	}
	a.networks = a.rules.networks
	for _, namespace := range slices.Sorted(maps.Keys(planes)) {
		a.networks = append(a.networks, planes[namespace].networks...)
	}
	return a
}

// termsOf reads what the control plane was installed with; what it does not say
// are the chart's defaults.
func termsOf(namespace, version string, values map[string]any) terms {
	parsed, err := ParseVersion(version)
	said := func(fallback string, path ...string) string {
		text, _, err := unstructured.NestedString(values, path...)
		if err != nil || text == "" {
			return fallback
		}
		return text
	}
	p := terms{
		// What cannot be read is newer than what numbers are for: a build of one's own.
		header:     err != nil || transportHeader(parsed, values),
		identities: "identity." + namespace + "." + said(said("cluster.local", "clusterDomain"), "identityTrustDomain"),
		policy:     said("all-unauthenticated", "proxy", "defaultInboundPolicy"),
		opaque:     defaultOpaquePorts(values),
		inbound:    strings.Join(ignoredPorts(values), ","),
	}
	p.outbound = said("", "proxyInit", "ignoreOutboundPorts")
	for network := range strings.SplitSeq(said(DefaultNetworks, "clusterNetworks"), ",") {
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(network)); err == nil {
			p.networks = append(p.networks, prefix.Masked())
		}
	}
	return p
}

// readPolicies lists the policies of the cluster, of the kinds that it serves.
func readPolicies(ctx context.Context, cluster *kube.Cluster, proposed []*unstructured.Unstructured) (policies, error) {
	var found policies
	for _, wanted := range []struct {
		kind  kube.Kind
		older string // a version that is served where kind's is not
		into  *[]*unstructured.Unstructured
	}{
		{serverKind, "v1beta1", &found.servers},
		{authorizationPolicyKind, "", &found.authorizations},
		{meshTLSAuthenticationKind, "", &found.meshTLS},
		{networkAuthenticationKind, "", &found.networks},
		{serverAuthorizationKind, "", &found.legacy},
		{httpRouteKind, "v1beta1", &found.routes},
		{gatewayHTTPRouteKind, "", &found.routes},
		{gatewayGRPCRouteKind, "", &found.routes},
	} {
		kind := wanted.kind
		objects, served, err := cluster.ListServed(ctx, kind, "")
		if err == nil && !served && wanted.older != "" {
			kind.Version = wanted.older
			objects, served, err = cluster.ListServed(ctx, kind, "")
		}
		if err != nil {
			return policies{}, err
		}
		if !served {
			continue
		}
		*wanted.into = append(*wanted.into, access.Propose(objects, access.OfKind(proposed, kind.GVK().GroupKind()))...)
	}
	return found, nil
}

// member is what the authority goes by in a pod with a proxy.
type member struct {
	terms
	pod *corev1.Pod
}

// member tells whether an end is a pod with a proxy of Linkerd.
func (a *authority) member(end access.End) (member, bool) {
	if end.Pod == nil || (Injection{}).Proxy(end.Pod).Mode == "" {
		return member{}, false
	}
	namespace := ControlPlaneOf([]*corev1.Pod{end.Pod})
	told, known := a.planes[namespace]
	if !known {
		told = termsOf(namespace, "", nil)
	}
	return member{told, end.Pod}, true
}

// setting is what an annotation of the pod says, or else its control plane.
func (m member) setting(annotation, fallback string) string {
	if said, is := m.pod.Annotations[annotation]; is {
		return said
	}
	return fallback
}

func (m member) skipsInbound() string { return m.setting(SkipInboundPortsAnnotation, m.inbound) }
func (m member) skipsOutbound() string {
	return m.setting(skipOutboundPortsAnnotation, m.outbound)
}

// opaquePort tells whether the proxy does not look into what goes to the port, if
// no Server says otherwise.
func (m member) opaquePort(port int32) bool {
	return listed(m.setting(OpaquePortsAnnotation, m.opaque), port)
}

// identity is what the proxy proves to be.
func (m member) identity() string {
	account := cmp.Or(m.pod.Spec.ServiceAccountName, "default")
	return account + "." + m.pod.Namespace + ".serviceaccount." + m.identities
}

// inboundPolicy is the default inbound policy of the pod. What the controller
// does not know it passes over.
func (m member) inboundPolicy() string {
	if said := m.pod.Annotations[DefaultInboundPolicyAnnotation]; slices.Contains(DefaultInboundPolicies(), said) {
		return said
	}
	return m.policy
}

// listed tells whether a port is among ports and ranges, of which those that
// cannot be read count for nothing, as for the proxies.
func listed(ports string, port int32) bool {
	for text := range strings.SplitSeq(ports, ",") {
		if hit, err := skips([]string{text}, port); err == nil && hit {
			return true
		}
	}
	return false
}

// Mesh implements access.Authority.
func (a *authority) Mesh(pod access.End) string {
	if _, is := a.member(pod); is {
		return Injection{}.Name()
	}
	return ""
}

// Networks implements access.Authority.
func (a *authority) Networks() []netip.Prefix { return a.networks }

// NotEvaluated implements access.Authority.
func (a *authority) NotEvaluated() []string { return a.notEvaluated }

// Class implements access.Authority.
func (a *authority) Class(end access.End) string {
	var class strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&class, format+"\n", args...) }
	address := sourceOf(end)
	var within strings.Builder
	for _, network := range a.networks {
		if address.IsValid() && network.Contains(address) {
			within.WriteByte('1')
		} else {
			within.WriteByte('0')
		}
	}
	say("address %s", within.String())
	m, is := a.member(end)
	if !is {
		return class.String()
	}
	own := m.identity()
	var shown strings.Builder
	for _, pattern := range a.rules.identities {
		if fits(pattern, own) {
			shown.WriteByte('1')
		} else {
			shown.WriteByte('0')
		}
	}
	say("terms %s identity %s component %s", m.identities, shown.String(), m.pod.Labels[componentLabel])
	say("policy %s %s", m.inboundPolicy(), m.pod.Annotations[requireIdentityAnnotation])
	say("skips %s, %s", m.skipsInbound(), m.skipsOutbound())
	say("opaque %s", m.setting(OpaquePortsAnnotation, m.opaque))
	routed := false
	for _, s := range a.rules.servers[m.pod.Namespace] {
		if s.selector.Matches(labels.Set(m.pod.Labels)) {
			say("server %s/%s of ports %v", s.namespace, s.name, s.ports(m.pod))
			routed = routed || len(s.routes) > 0
		}
	}
	if routed {
		for _, probe := range access.ProbesOf([]*corev1.Pod{m.pod}) {
			say("probe %+v", probe)
		}
	}
	for _, t := range a.translations(m.pod) {
		say("service %s port %d for %d", t.service, t.from, t.to)
	}
	return class.String()
}

// sourceOf is the address that an end sends from; invalid if it has none yet.
func sourceOf(end access.End) netip.Addr {
	if end.IP.IsValid() || end.Pod == nil {
		return end.IP.Unmap()
	}
	address, err := netip.ParseAddr(end.Pod.Status.PodIP)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap()
}

// encrypted tells whether two proxies speak mTLS with each other on a connection
// to the port: nothing bypasses either, and both are of one control plane.
func (a *authority) encrypted(from, to access.End, port netpol.Port) (caller member, callee member, both bool) {
	callee, received := a.member(to)
	caller, sent := a.member(from)
	both = sent && received && port.Protocol == corev1.ProtocolTCP && caller.identities == callee.identities &&
		!listed(caller.skipsOutbound(), port.Number) && !callee.bypassed(port.Number)
	return caller, callee, both
}

// bypassed tells whether a connection to the port does not go through the proxy.
func (m member) bypassed(port int32) bool {
	return port == controlPort || listed(m.skipsInbound(), port)
}

// A translation is a port of a Service that is another port of its pods.
type translation struct {
	service  string
	from, to int32
}

// translates tells whether a port of a Service may be another one of its pods.
func translates(p corev1.ServicePort) bool {
	return (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) && (p.TargetPort.Type == intstr.String || p.TargetPort.IntVal != 0 && p.TargetPort.IntVal != p.Port)
}

// translations are those of the Services of a pod.
func (a *authority) translations(pod *corev1.Pod) []translation {
	var found []translation
	for _, service := range a.services[pod.Namespace] {
		if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, p := range service.Spec.Ports {
			if !translates(p) {
				continue
			}
			for _, to := range (gate{port: p.TargetPort}).ports(pod) {
				if to != p.Port {
					found = append(found, translation{service.Namespace + "/" + service.Name, p.Port, to})
				}
			}
		}
	}
	return found
}

// astray says by which Service a caller's proxy treats a connection to the port
// otherwise than by the pod's own address: what bypasses it is told by the port that
// the application dials. It is empty if there is none.
func (a *authority) astray(from, to access.End, port netpol.Port) string {
	caller, sent := a.member(from)
	callee, received := a.member(to)
	if !sent || !received || port.Protocol != corev1.ProtocolTCP || callee.bypassed(port.Number) {
		return ""
	}
	past := listed(caller.skipsOutbound(), port.Number)
	for _, t := range a.translations(to.Pod) {
		if t.to == port.Number && listed(caller.skipsOutbound(), t.from) != past {
			return fmt.Sprintf("port %d of Service %s", t.from, t.service)
		}
	}
	return ""
}

// itself tells whether a port is one of the control plane that proxies call
// themselves, which they do not do by way of each other.
func (m member) itself(port int32) bool {
	switch m.pod.Labels[componentLabel] {
	case "identity":
		return port == 8080
	case "destination":
		return port == 8086 || port == 8090
	default:
		return false
	}
}

// Wire implements access.Authority.
func (a *authority) Wire(from, to access.End, port netpol.Port) netpol.Port {
	_, callee, both := a.encrypted(from, to, port)
	switch {
	case !both || port.Number == adminPort || port.Number == inboundPort || callee.itself(port.Number):
	case callee.header, a.opaque(callee, port.Number):
		port.Number = inboundPort
	}
	return port
}

// opaque tells whether callers are told not to look into what goes to the port. A
// Server for it comes before the pod's own setting.
func (a *authority) opaque(m member, port int32) bool {
	for _, s := range a.rules.governing(m.pod, port) {
		return s.protocol == opaqueProtocol
	}
	return m.opaquePort(port)
}

// Judge implements access.Authority.
func (a *authority) Judge(from, to access.End, port netpol.Port) access.Verdict {
	caller, callee, both := a.encrypted(from, to, port)
	switch {
	case callee.pod == nil:
		return access.Verdict{Allowed: true, Reason: "without a proxy of Linkerd, everybody is let in"}
	case port.Protocol != corev1.ProtocolTCP:
		return access.Verdict{Allowed: true, Reason: fmt.Sprintf("%s bypasses the proxy", port.Protocol)}
	case port.Number == controlPort:
		return access.Verdict{Allowed: true, Partly: true, Reason: fmt.Sprintf("at port %d the proxy shows traffic to the identity of the viz extension only", controlPort)}
	case listed(callee.skipsInbound(), port.Number):
		return access.Verdict{Allowed: true, Reason: fmt.Sprintf("port %d bypasses the proxy (%s)", port.Number, SkipInboundPortsAnnotation)}
	case port.Number == inboundPort:
		return access.Verdict{Reason: fmt.Sprintf("at port %d the proxy takes connections from other proxies only, to other ports", inboundPort)}
	case port.Number == outboundPort:
		return access.Verdict{Reason: fmt.Sprintf("at port %d the proxy listens to its own pod only", outboundPort)}
	}
	if by := a.astray(from, to, port); by != "" {
		return access.Verdict{Allowed: true, Unknown: true, Via: by, Reason: fmt.Sprintf(
			"the caller's %s goes by the port that it dials, and %s is another one than the pod's: whether it shows its identity depends on which it calls", skipOutboundPortsAnnotation, by)}
	}
	c := client{address: sourceOf(from)}
	// A proxy that asks for its first certificate has none to show.
	if both && !callee.itself(port.Number) {
		c.identity = caller.identity()
	}
	return a.rules.judge(c, callee, port.Number)
}

package netpol

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Endpoint is what policies can tell of one end of a connection. Its zero
// Namespace means an end outside the cluster, known by its IPs only.
type Endpoint struct {
	Namespace       string
	NamespaceLabels map[string]string
	// Name tells pods of a namespace apart; a pod is only taken for itself by it.
	Name   string
	Labels map[string]string
	// IPs of the end; blocks of addresses do not match one without.
	IPs []netip.Addr
	// Ports are the container ports by which rules may name a port: those of all
	// containers that keep running beside each other.
	Ports []corev1.ContainerPort
	// HostNetwork pods share their node's address. The API leaves what policies
	// make of that to network plugins, and as good as all of them treat such pods
	// as the address: nothing governs, selects or names a port of it.
	HostNetwork bool
}

// Port is where a connection goes, as the destination pod receives it. An empty
// protocol is TCP.
type Port struct {
	Protocol corev1.Protocol
	Number   int32
}

// Verdict tells whether a connection is allowed, and why.
type Verdict struct {
	Allowed bool
	// Itself says that the pod calls itself, which no policy forbids.
	Itself bool
	// Egress is what the source's policies say, and Ingress what the
	// destination's do; it takes both.
	Egress, Ingress Decision
}

// Decision is what the policies of one end say in one direction.
type Decision struct {
	Allowed bool
	// Policies that decide: the one with the rule that allows the connection; or,
	// if none does, all that restrict the end, sorted; or none, if nothing
	// restricts it.
	Policies []types.NamespacedName
	// Rule of the policy that allows the connection, counted from one; otherwise 0.
	Rule int
}

// Reason tells people what decided.
func (v Verdict) Reason() string {
	if v.Itself {
		return "a pod always reaches itself"
	}
	var reasons []string
	for _, direction := range []struct {
		name     string
		decision Decision
	}{{"egress", v.Egress}, {"ingress", v.Ingress}} {
		if direction.decision.Allowed == v.Allowed && len(direction.decision.Policies) > 0 {
			reasons = append(reasons, direction.decision.reason(direction.name))
		}
	}
	return cmp.Or(strings.Join(reasons, "; "), "no NetworkPolicy restricts it")
}

func (d Decision) reason(direction string) string {
	if d.Allowed {
		return fmt.Sprintf("%s rule %d of NetworkPolicy %s allows it", direction, d.Rule, d.Policies[0])
	}
	names := make([]string, len(d.Policies))
	for i, policy := range d.Policies {
		names[i] = policy.String()
	}
	return fmt.Sprintf("no %s rule of NetworkPolicy %s allows it", direction, strings.Join(names, " or "))
}

// Evaluate tells whether from may open a connection to a port of to, by the text
// of the API (networking.k8s.io/v1), and with a network plugin that enforces it.
// Both from's egress and to's ingress must allow it; a pod that no policy selects
// for a direction is open in it. If both ends have addresses of both IP families,
// it is enough that one of them lets a connection through.
//
// Traffic between a pod and the node it runs on, which always passes, is not
// modelled: that would make the verdict depend on where pods happen to run.
func (p *Policies) Evaluate(from, to Endpoint, port Port) Verdict {
	if from.Namespace != "" && from.Name != "" && from.Namespace == to.Namespace && from.Name == to.Name {
		return Verdict{Allowed: true, Itself: true, Egress: Decision{Allowed: true}, Ingress: Decision{Allowed: true}}
	}
	port.Protocol = orTCP(port.Protocol)
	var verdict Verdict
	for i, family := range commonFamilies(from.IPs, to.IPs) {
		destination := target{to, port}
		attempt := Verdict{
			Egress:  p.egress.decide(from, to, family, destination),
			Ingress: p.ingress.decide(to, from, family, destination),
		}
		if attempt.Allowed = attempt.Egress.Allowed && attempt.Ingress.Allowed; attempt.Allowed {
			return attempt
		}
		if i == 0 {
			verdict = attempt
		}
	}
	return verdict
}

// Class is a key that is equal for ends that the policies cannot tell apart,
// neither as source nor as destination: between any of one class and any of
// another, or two different ones of the same, Evaluate's verdict is the same. It
// is comparable with keys of the same Policies only.
func (p *Policies) Class(e Endpoint) string {
	var key classKey
	for _, family := range families {
		key.bit(family.among(e.IPs))
	}
	for _, side := range []*side{&p.egress, &p.ingress} {
		for _, policy := range side.policies {
			key.bit(policy.selects(e))
			for _, rule := range policy.rules {
				rule.classify(&key, e)
			}
		}
	}
	return string(key)
}

// Networks are the ranges by which the policies tell addresses apart: two of one IP
// family that are in the same ranges are alike.
func (p *Policies) Networks() []netip.Prefix {
	var networks []netip.Prefix
	for peer := range p.peers() {
		if peer.block != nil {
			networks = append(append(networks, peer.block.within), peer.block.except...)
		}
	}
	return networks
}

// A classKey is what is true of an end, and the numbers of its named ports.
type classKey []byte

func (k *classKey) bit(set bool) {
	if set {
		*k = append(*k, '1')
	} else {
		*k = append(*k, '0')
	}
}

func (r rule) classify(key *classKey, e Endpoint) {
	for _, peer := range r.peers {
		for _, family := range families {
			key.bit(peer.matches(e, family))
		}
	}
	for _, ports := range r.ports {
		if ports.name == "" {
			continue
		}
		for _, number := range slices.Compact(slices.Sorted(ports.named(e))) {
			*key = append(strconv.AppendInt(*key, int64(number), 10), ',')
		}
		*key = append(*key, ';')
	}
}

func (e Endpoint) isPod() bool { return e.Namespace != "" && !e.HostNetwork }

// A family is one of IP's; anyFamily stands for both.
type family int

const (
	anyFamily family = iota
	ipv4
	ipv6
)

var families = [...]family{ipv4, ipv6}

func (f family) contains(ip netip.Addr) bool {
	return f == anyFamily || (f == ipv4) == ip.Unmap().Is4()
}

func (f family) among(ips []netip.Addr) bool { return slices.ContainsFunc(ips, f.contains) }

// commonFamilies are those in which a connection is possible. Whether one without
// any is possible is not up to policies, nor what addresses an end has of which
// none are known.
func commonFamilies(from, to []netip.Addr) []family {
	if len(from) == 0 || len(to) == 0 {
		return []family{anyFamily}
	}
	var common []family
	for _, family := range families {
		if family.among(from) && family.among(to) {
			common = append(common, family)
		}
	}
	if len(common) == 0 {
		return []family{anyFamily}
	}
	return common
}

// target is where a connection goes.
type target struct {
	end  Endpoint
	port Port
}

// decide says whether the policies of subject let peer through.
func (s *side) decide(subject, peer Endpoint, family family, to target) Decision {
	var refused []types.NamespacedName
	for _, policy := range s.byNamespace[subject.Namespace] {
		if !policy.selects(subject) {
			continue
		}
		for i, rule := range policy.rules {
			if rule.allows(peer, family, to) {
				return Decision{Allowed: true, Policies: []types.NamespacedName{policy.name}, Rule: i + 1}
			}
		}
		refused = append(refused, policy.name)
	}
	return Decision{Allowed: len(refused) == 0, Policies: refused}
}

func (p policy) selects(e Endpoint) bool {
	return e.isPod() && e.Namespace == p.name.Namespace && p.pods.Matches(labels.Set(e.Labels))
}

// allows takes no peers or ports for all of them, as the API does.
func (r rule) allows(end Endpoint, family family, to target) bool {
	return (len(r.ports) == 0 || slices.ContainsFunc(r.ports, func(p portRange) bool { return p.matches(to) })) &&
		(len(r.peers) == 0 || slices.ContainsFunc(r.peers, func(p peer) bool { return p.matches(end, family) }))
}

func (p portRange) matches(to target) bool {
	switch {
	case p.protocol != to.port.Protocol:
		return false
	case p.name == "":
		return to.port.Number >= p.first && to.port.Number <= p.last
	}
	for number := range p.named(to.end) {
		if number == to.port.Number {
			return true
		}
	}
	return false
}

// named yields the numbers that the end has under the name.
func (p portRange) named(e Endpoint) func(yield func(int32) bool) {
	return func(yield func(int32) bool) {
		if !e.isPod() {
			return
		}
		for _, port := range e.Ports {
			if port.Name == p.name && orTCP(port.Protocol) == p.protocol && !yield(port.ContainerPort) {
				return
			}
		}
	}
}

func (p peer) matches(end Endpoint, family family) bool {
	switch {
	case p.block != nil:
		return (!p.block.outside || end.Namespace == "") && p.block.matches(end.IPs, family)
	case !end.isPod():
		return false
	case p.namespaces == nil:
		if end.Namespace != p.namespace {
			return false
		}
	case !p.namespaces.Matches(namespaceLabels{end.Namespace, end.NamespaceLabels}):
		return false
	}
	return p.pods.Matches(labels.Set(end.Labels))
}

func (b block) matches(ips []netip.Addr, family family) bool {
	return slices.ContainsFunc(ips, func(ip netip.Addr) bool {
		address := ip.Unmap().WithZone("")
		return family.contains(address) && b.within.Contains(address) &&
			!slices.ContainsFunc(b.except, func(p netip.Prefix) bool { return p.Contains(address) })
	})
}

// namespaceLabels has the label that the API server sets on every namespace,
// whether it was read from there or not.
type namespaceLabels struct {
	name string
	set  labels.Set
}

func (n namespaceLabels) Lookup(label string) (string, bool) {
	if label == corev1.LabelMetadataName {
		return n.name, true
	}
	return n.set.Lookup(label)
}

func (n namespaceLabels) Has(label string) bool {
	_, found := n.Lookup(label)
	return found
}

func (n namespaceLabels) Get(label string) string {
	value, _ := n.Lookup(label)
	return value
}

func orTCP(protocol corev1.Protocol) corev1.Protocol { return cmp.Or(protocol, corev1.ProtocolTCP) }

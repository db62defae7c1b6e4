package netpol

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Endpoint is what policies can tell of one end of a connection. Its zero
// Namespace means an end outside the cluster, known by its IPs only.
type Endpoint struct {
	Namespace       string
	NamespaceLabels map[string]string
	Name            string
	Labels          map[string]string
	IPs             []netip.Addr
	// Ports are the container ports by which rules may name a port.
	Ports []corev1.ContainerPort
	// HostNetwork pods share their node's address: the API leaves it to the
	// network plugin whether policies apply to them, and plugins do not apply them.
	HostNetwork bool
}

// Port is where a connection goes, as the destination pod receives it.
type Port struct {
	Protocol corev1.Protocol
	Number   int32
}

// Verdict tells whether a connection is allowed, and by which policy or why not.
type Verdict struct {
	Allowed bool
	Reason  string
}

// Evaluate tells whether from may open a connection to a port of to when the
// given policies are all there are, by the text of the API
// (networking.k8s.io/v1) and with a network plugin that enforces it. A
// connection must be allowed by its source's egress and by its destination's
// ingress policies; a pod that no policy selects for a direction is open in it.
// Traffic from the node a pod runs on, which always passes, is not modelled.
func Evaluate(policies []networkingv1.NetworkPolicy, from, to Endpoint, port Port) (Verdict, error) {
	if from.Namespace != "" && from.Namespace == to.Namespace && from.Name == to.Name {
		return Verdict{Allowed: true, Reason: "a pod always reaches itself"}, nil
	}
	out, err := decide(policies, direction{networkingv1.PolicyTypeEgress, from, to, to, port})
	if err != nil || !out.Allowed {
		return out, err
	}
	return decide(policies, direction{networkingv1.PolicyTypeIngress, to, from, to, port})
}

// A direction is one half of the question: whether the policies of subject let
// peer through to port, which is the target's.
type direction struct {
	kind          networkingv1.PolicyType
	subject, peer Endpoint
	target        Endpoint
	port          Port
}

func decide(policies []networkingv1.NetworkPolicy, d direction) (Verdict, error) {
	if d.subject.Namespace == "" || d.subject.HostNetwork {
		return Verdict{Allowed: true, Reason: fmt.Sprintf("no policy governs its %s", d.kind)}, nil
	}
	var refused []string
	for _, policy := range policies {
		name := policy.Namespace + "/" + policy.Name
		if policy.Namespace != d.subject.Namespace || !slices.Contains(policyTypes(policy.Spec), d.kind) {
			continue
		}
		selected, err := matches(&policy.Spec.PodSelector, d.subject.Labels)
		if err != nil {
			return Verdict{}, fmt.Errorf("NetworkPolicy %s: %w", name, err)
		}
		if !selected {
			continue
		}
		for i, rule := range rulesOf(policy.Spec, d.kind) {
			allowed, err := rule.allows(policy.Namespace, d)
			if err != nil {
				return Verdict{}, fmt.Errorf("NetworkPolicy %s: %s rule %d: %w", name, d.kind, i+1, err)
			}
			if allowed {
				return Verdict{Allowed: true, Reason: fmt.Sprintf("%s rule %d of NetworkPolicy %s allows it", d.kind, i+1, name)}, nil
			}
		}
		refused = append(refused, name)
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return Verdict{Reason: fmt.Sprintf("no %s rule of NetworkPolicy %s allows it", d.kind, strings.Join(refused, " or "))}, nil
	}
	return Verdict{Allowed: true, Reason: fmt.Sprintf("no NetworkPolicy restricts its %s", d.kind)}, nil
}

// policyTypes applies the API's default: ingress always, egress if there are
// egress rules.
func policyTypes(spec networkingv1.NetworkPolicySpec) []networkingv1.PolicyType {
	switch {
	case len(spec.PolicyTypes) > 0:
		return spec.PolicyTypes
	case len(spec.Egress) > 0:
		return []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	default:
		return []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	}
}

// rule is what ingress and egress rules have in common.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func rulesOf(spec networkingv1.NetworkPolicySpec, kind networkingv1.PolicyType) []rule {
	var rules []rule
	if kind == networkingv1.PolicyTypeIngress {
		for _, r := range spec.Ingress {
			rules = append(rules, rule{r.From, r.Ports})
		}
		return rules
	}
	for _, r := range spec.Egress {
		rules = append(rules, rule{r.To, r.Ports})
	}
	return rules
}

// allows takes an empty list of peers or ports for all of them, as the API does.
func (r rule) allows(policyNamespace string, d direction) (bool, error) {
	if len(r.ports) > 0 && !slices.ContainsFunc(r.ports, func(p networkingv1.NetworkPolicyPort) bool {
		return portMatches(p, d.target, d.port)
	}) {
		return false, nil
	}
	if len(r.peers) == 0 {
		return true, nil
	}
	for _, peer := range r.peers {
		matched, err := peerMatches(peer, policyNamespace, d.peer)
		if err != nil || matched {
			return matched, err
		}
	}
	return false, nil
}

func portMatches(rule networkingv1.NetworkPolicyPort, target Endpoint, port Port) bool {
	protocol := corev1.ProtocolTCP
	if rule.Protocol != nil {
		protocol = *rule.Protocol
	}
	switch {
	case protocol != port.Protocol:
		return false
	case rule.Port == nil:
		return true
	case rule.Port.Type == intstr.String:
		return slices.ContainsFunc(target.Ports, func(named corev1.ContainerPort) bool {
			return named.Name == rule.Port.StrVal && named.ContainerPort == port.Number &&
				(named.Protocol == protocol || named.Protocol == "" && protocol == corev1.ProtocolTCP)
		})
	case rule.EndPort != nil:
		return port.Number >= rule.Port.IntVal && port.Number <= *rule.EndPort
	default:
		return port.Number == rule.Port.IntVal
	}
}

func peerMatches(peer networkingv1.NetworkPolicyPeer, policyNamespace string, end Endpoint) (bool, error) {
	if peer.IPBlock != nil {
		return blockMatches(*peer.IPBlock, end.IPs)
	}
	// Selectors choose pods by their address, which one on its node's network
	// does not have.
	if end.Namespace == "" || end.HostNetwork {
		return false, nil
	}
	if peer.NamespaceSelector == nil {
		if end.Namespace != policyNamespace {
			return false, nil
		}
	} else {
		// The API server sets this label on every namespace.
		set := labels.Merge(end.NamespaceLabels, labels.Set{corev1.LabelMetadataName: end.Namespace})
		if matched, err := matches(peer.NamespaceSelector, set); err != nil || !matched {
			return false, err
		}
	}
	if peer.PodSelector == nil {
		return true, nil
	}
	return matches(peer.PodSelector, end.Labels)
}

func blockMatches(block networkingv1.IPBlock, ips []netip.Addr) (bool, error) {
	within, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return false, fmt.Errorf("ipBlock: %w", err)
	}
	except := make([]netip.Prefix, len(block.Except))
	for i, cidr := range block.Except {
		if except[i], err = netip.ParsePrefix(cidr); err != nil {
			return false, fmt.Errorf("ipBlock: except: %w", err)
		}
	}
	return slices.ContainsFunc(ips, func(ip netip.Addr) bool {
		return within.Contains(ip) && !slices.ContainsFunc(except, func(p netip.Prefix) bool { return p.Contains(ip) })
	}), nil
}

func matches(selector *metav1.LabelSelector, set labels.Set) (bool, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, err
	}
	return parsed.Matches(set), nil
}

package netpol

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// Policies are NetworkPolicies made ready for many questions. They may be asked
// from several goroutines at once.
type Policies struct {
	egress, ingress side
}

// A side is the policies that restrict one direction, sorted by name.
type side struct {
	policies    []policy
	byNamespace map[string][]policy
}

type policy struct {
	name  types.NamespacedName
	pods  labels.Selector
	rules []rule
}

// rule is what ingress and egress rules have in common.
type rule struct {
	peers []peer
	ports []portRange
}

// A peer is a block of addresses; or pods of the namespaces that match, or of
// the one namespace if there is no selector for them.
type peer struct {
	block      *block
	namespaces labels.Selector
	namespace  string
	pods       labels.Selector
}

type block struct {
	within  netip.Prefix
	except  []netip.Prefix
	outside bool // it matches neither pods nor nodes
}

// An Option is how a network plugin reads policies where the API leaves it open, or
// the plugin does otherwise.
type Option func(*Policies)

// BlocksAreOutside has blocks of addresses match no pod, whatever its address is,
// and no node, as Cilium does unless its settings say otherwise.
func BlocksAreOutside() Option {
	return func(p *Policies) {
		for peer := range p.peers() {
			if peer.block != nil {
				peer.block.outside = true
			}
		}
	}
}

// peers yields those of all rules.
func (p *Policies) peers() iter.Seq[peer] {
	return func(yield func(peer) bool) {
		for _, side := range []*side{&p.egress, &p.ingress} {
			for _, policy := range side.policies {
				for _, rule := range policy.rules {
					for _, peer := range rule.peers {
						if !yield(peer) {
							return
						}
					}
				}
			}
		}
	}
}

// A portRange goes from first to last, or has a name.
type portRange struct {
	protocol    corev1.Protocol
	name        string
	first, last int32
}

// Compile reads policies, of all namespaces, as they are in the cluster or would
// be: what the API server refuses is refused here too, as far as it says who gets
// where. The policies are not kept. Without options they mean what the API says.
func Compile(policies []*networkingv1.NetworkPolicy, options ...Option) (*Policies, error) {
	var compiled Policies
	for _, object := range policies {
		name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
		if err := compiled.add(name, object.Spec); err != nil {
			return nil, fmt.Errorf("NetworkPolicy %s: %w", name, err)
		}
	}
	for _, side := range []*side{&compiled.egress, &compiled.ingress} {
		slices.SortStableFunc(side.policies, func(a, b policy) int {
			return cmp.Or(cmp.Compare(a.name.Namespace, b.name.Namespace), cmp.Compare(a.name.Name, b.name.Name))
		})
		side.byNamespace = map[string][]policy{}
		for _, policy := range side.policies {
			side.byNamespace[policy.name.Namespace] = append(side.byNamespace[policy.name.Namespace], policy)
		}
	}
	for _, option := range options {
		option(&compiled)
	}
	return &compiled, nil
}

func (p *Policies) add(name types.NamespacedName, spec networkingv1.NetworkPolicySpec) error {
	if name.Namespace == "" {
		return errors.New("it has no namespace")
	}
	pods, err := metav1.LabelSelectorAsSelector(&spec.PodSelector)
	if err != nil {
		return fmt.Errorf("podSelector: %w", err)
	}
	ingress, egress := policy{name: name, pods: pods}, policy{name: name, pods: pods}
	for i, r := range spec.Ingress {
		if err := ingress.add(r.From, r.Ports); err != nil {
			return fmt.Errorf("ingress rule %d: %w", i+1, err)
		}
	}
	for i, r := range spec.Egress {
		if err := egress.add(r.To, r.Ports); err != nil {
			return fmt.Errorf("egress rule %d: %w", i+1, err)
		}
	}
	policyTypes := spec.PolicyTypes
	if len(policyTypes) == 0 {
		policyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(spec.Egress) > 0 {
			policyTypes = append(policyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for _, policyType := range policyTypes {
		if policyType != networkingv1.PolicyTypeIngress && policyType != networkingv1.PolicyTypeEgress {
			return fmt.Errorf("policyTypes: %q is neither %s nor %s", policyType, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)
		}
	}
	if slices.Contains(policyTypes, networkingv1.PolicyTypeIngress) {
		p.ingress.policies = append(p.ingress.policies, ingress)
	}
	if slices.Contains(policyTypes, networkingv1.PolicyTypeEgress) {
		p.egress.policies = append(p.egress.policies, egress)
	}
	return nil
}

func (p *policy) add(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) error {
	var added rule
	for i, object := range peers {
		compiled, err := compilePeer(object, p.name.Namespace)
		if err != nil {
			return fmt.Errorf("peer %d: %w", i+1, err)
		}
		added.peers = append(added.peers, compiled)
	}
	for i, object := range ports {
		compiled, err := compilePort(object)
		if err != nil {
			return fmt.Errorf("port %d: %w", i+1, err)
		}
		added.ports = append(added.ports, compiled)
	}
	p.rules = append(p.rules, added)
	return nil
}

func compilePeer(object networkingv1.NetworkPolicyPeer, policyNamespace string) (peer, error) {
	if object.IPBlock != nil {
		if object.NamespaceSelector != nil || object.PodSelector != nil {
			return peer{}, errors.New("it takes selectors or an ipBlock, not both")
		}
		compiled, err := compileBlock(*object.IPBlock)
		if err != nil {
			return peer{}, fmt.Errorf("ipBlock: %w", err)
		}
		return peer{block: compiled}, nil
	}
	if object.NamespaceSelector == nil && object.PodSelector == nil {
		return peer{}, errors.New("it selects nothing: it takes an ipBlock, a namespaceSelector or a podSelector, {} for all")
	}
	compiled := peer{namespace: policyNamespace, pods: labels.Everything()}
	var err error
	if object.NamespaceSelector != nil {
		if compiled.namespaces, err = metav1.LabelSelectorAsSelector(object.NamespaceSelector); err != nil {
			return peer{}, fmt.Errorf("namespaceSelector: %w", err)
		}
	}
	if object.PodSelector != nil {
		if compiled.pods, err = metav1.LabelSelectorAsSelector(object.PodSelector); err != nil {
			return peer{}, fmt.Errorf("podSelector: %w", err)
		}
	}
	return compiled, nil
}

func compileBlock(object networkingv1.IPBlock) (*block, error) {
	within, err := parsePrefix(object.CIDR)
	if err != nil {
		return nil, err
	}
	compiled := &block{within: within}
	for _, text := range object.Except {
		except, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("except: %w", err)
		}
		if except.Bits() <= within.Bits() || !within.Contains(except.Addr()) {
			return nil, fmt.Errorf("except: %s is not within %s", text, object.CIDR)
		}
		compiled.except = append(compiled.except, except)
	}
	return compiled, nil
}

// parsePrefix reads what API servers have ever accepted: numbers with leading
// zeros, in decimal, and IPv4 written as IPv6, which means the same as IPv4.
func parsePrefix(cidr string) (netip.Prefix, error) {
	_, network, err := netutils.ParseCIDRSloppy(cidr)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a range of addresses in CIDR notation", cidr)
	}
	bits, _ := network.Mask.Size()
	address, _ := netip.AddrFromSlice(network.IP)
	if address.Is4In6() {
		return netip.PrefixFrom(address.Unmap(), bits-96), nil
	}
	return netip.PrefixFrom(address, bits), nil
}

func compilePort(object networkingv1.NetworkPolicyPort) (portRange, error) {
	compiled := portRange{protocol: corev1.ProtocolTCP, first: 1, last: 65535}
	if object.Protocol != nil {
		compiled.protocol = *object.Protocol
	}
	switch compiled.protocol {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
	default:
		return portRange{}, fmt.Errorf("protocol %q is none of TCP, UDP and SCTP", compiled.protocol)
	}
	numbered := object.Port != nil && object.Port.Type == intstr.Int
	switch {
	case object.EndPort != nil && !numbered:
		return portRange{}, errors.New("endPort takes a port with a number")
	case object.Port == nil:
	case !numbered:
		if problems := validation.IsValidPortName(object.Port.StrVal); len(problems) > 0 {
			return portRange{}, fmt.Errorf("%q is not the name of a port: %s", object.Port.StrVal, problems[0])
		}
		compiled.name = object.Port.StrVal
	default:
		compiled.first, compiled.last = object.Port.IntVal, object.Port.IntVal
		if object.EndPort != nil {
			compiled.last = *object.EndPort
		}
		if compiled.first < 1 || compiled.last < compiled.first || compiled.last > 65535 {
			return portRange{}, fmt.Errorf("%d to %d is not a range within 1 to 65535", compiled.first, compiled.last)
		}
	}
	return compiled, nil
}

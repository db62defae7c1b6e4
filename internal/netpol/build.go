// Package netpol writes and reads NetworkPolicies: it turns an intent, stated in
// terms that leave none of the API's traps open, into the object that enforces
// it, and tells who gets in when a set of policies is in force. What a mesh
// needs admitted is that mesh's package's business.
package netpol

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Intent says whose traffic is restricted, and to what. Whatever it does not
// admit is refused, as far as no other policy admits it: NetworkPolicies add up.
type Intent struct {
	// Name and Namespace of the policy; it applies to pods of its namespace.
	Namespace, Name string
	// Labels of the policy object.
	Labels map[string]string
	// Pods selects the protected pods. The empty selector means every pod of
	// the namespace.
	Pods metav1.LabelSelector
	// Ingress lists who may come in; empty refuses everyone.
	Ingress []Admission
	// Egress lists where the pods may go, if RestrictEgress is set; empty then
	// refuses everything, answers to what came in apart.
	RestrictEgress bool
	Egress         []Admission
}

// Admission lets every one of the peers reach every one of the ports, or, for
// egress, be reached at it.
type Admission struct {
	// Peers lists at least one peer, or none if Anyone is set, which means whoever
	// it is, in the cluster or outside; the zero Peer is every pod.
	Peers  []Peer
	Anyone bool
	// Ports lists at least one port as the destination receives it (not the
	// Service's port), or none if AnyPort is set.
	Ports   []Port
	AnyPort bool
}

// Peer is the set of pods that match Pods in namespaces that match Namespaces,
// an empty selector matching everything, here as everywhere in Kubernetes; or
// with Block set, and neither of the others, that of some addresses.
type Peer struct {
	Namespaces metav1.LabelSelector
	Pods       metav1.LabelSelector
	Block      *Block
}

// Block is a range of addresses without some ranges in it, all in CIDR notation.
type Block struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// InNamespace is the peer of the matching pods in one namespace.
func InNamespace(name string, pods metav1.LabelSelector) Peer {
	return Peer{
		Namespaces: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}},
		Pods:       pods,
	}
}

// TCP are the ports of those numbers.
func TCP(numbers ...int32) []Port {
	ports := make([]Port, len(numbers))
	for i, number := range numbers {
		ports[i] = Port{Protocol: corev1.ProtocolTCP, Number: number}
	}
	return ports
}

// Build returns the NetworkPolicy that enforces the intent, with API version and
// kind set. The same intent always gives the same object.
func Build(intent Intent) (*networkingv1.NetworkPolicy, error) {
	if intent.Name == "" || intent.Namespace == "" {
		return nil, errors.New("a NetworkPolicy needs a name and a namespace")
	}
	object := fmt.Sprintf("NetworkPolicy %s/%s", intent.Namespace, intent.Name)
	if err := checkSelector(intent.Pods); err != nil {
		return nil, fmt.Errorf("%s: pod selector: %w", object, err)
	}
	policy := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: intent.Namespace, Name: intent.Name, Labels: intent.Labels},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: intent.Pods,
			// Said outright: by default the API derives it from the rules.
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
	for i, admission := range intent.Ingress {
		peers, ports, err := admission.rule()
		if err != nil {
			return nil, fmt.Errorf("%s: ingress %d: %w", object, i+1, err)
		}
		policy.Spec.Ingress = append(policy.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers, Ports: ports})
	}
	if !intent.RestrictEgress {
		if len(intent.Egress) > 0 {
			return nil, fmt.Errorf("%s: egress is admitted, but not restricted", object)
		}
		return policy, nil
	}
	policy.Spec.PolicyTypes = append(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	for i, admission := range intent.Egress {
		peers, ports, err := admission.rule()
		if err != nil {
			return nil, fmt.Errorf("%s: egress %d: %w", object, i+1, err)
		}
		policy.Spec.Egress = append(policy.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers, Ports: ports})
	}
	return policy, nil
}

// rule turns an admission into the API's terms.
func (a Admission) rule() (peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, err error) {
	// To the API, an empty list of peers or ports means all of them.
	switch {
	case a.Anyone != (len(a.Peers) == 0):
		return nil, nil, errors.New("it takes peers, or anyone, and not both")
	case a.AnyPort != (len(a.Ports) == 0):
		return nil, nil, errors.New("it takes ports, or any port, and not both")
	}
	for i, peer := range a.Peers {
		converted, err := peer.convert()
		if err != nil {
			return nil, nil, fmt.Errorf("peer %d: %w", i+1, err)
		}
		peers = append(peers, converted)
	}
	for _, port := range slices.CompactFunc(slices.SortedFunc(slices.Values(a.Ports), comparePorts), func(a, b Port) bool { return a == b }) {
		if port.Number < 1 || port.Number > 65535 {
			return nil, nil, fmt.Errorf("port %d is not within 1 to 65535", port.Number)
		}
		ports = append(ports, networkingv1.NetworkPolicyPort{
			Protocol: new(port.Protocol),
			Port:     new(intstr.FromInt32(port.Number)),
		})
	}
	return peers, ports, nil
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
}

func (p Peer) convert() (networkingv1.NetworkPolicyPeer, error) {
	for _, selector := range []metav1.LabelSelector{p.Namespaces, p.Pods} {
		if err := checkSelector(selector); err != nil {
			return networkingv1.NetworkPolicyPeer{}, err
		}
	}
	if p.Block == nil {
		// Both selectors in one peer are ANDed; in two they would be ORed. And
		// without a namespace selector, only the policy's namespace would match.
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: p.Namespaces.DeepCopy(), PodSelector: p.Pods.DeepCopy()}, nil
	}
	if !isEmpty(p.Namespaces) || !isEmpty(p.Pods) {
		return networkingv1.NetworkPolicyPeer{}, errors.New("it takes selectors or a block of addresses, not both")
	}
	if err := p.Block.Check(); err != nil {
		return networkingv1.NetworkPolicyPeer{}, err
	}
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: p.Block.CIDR, Except: slices.Clone(p.Block.Except)}}, nil
}

// Check refuses what API servers refuse: what is not a CIDR, exceptions that are
// not strictly within the range, and, since Kubernetes 1.36, ranges that are not
// in their canonical form.
func (b Block) Check() error {
	if _, err := compileBlock(networkingv1.IPBlock{CIDR: b.CIDR, Except: b.Except}); err != nil {
		return err
	}
	for _, text := range append([]string{b.CIDR}, b.Except...) {
		prefix, err := parsePrefix(text)
		if err != nil {
			return err
		}
		if canonical := prefix.String(); text != canonical {
			return fmt.Errorf("%s has to be written %s", text, canonical)
		}
	}
	return nil
}

func isEmpty(selector metav1.LabelSelector) bool {
	return len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0
}

func checkSelector(selector metav1.LabelSelector) error {
	return validation.ValidateLabelSelector(&selector, validation.LabelSelectorValidationOptions{}, field.NewPath("selector")).ToAggregate()
}

package survey

import (
	"cmp"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// subnets finds out from addresses alone whether nodes and pods share a subnet. A
// subnet is one block, so that an address between those of two of its nodes is in
// it, whoever has it.
type subnets struct {
	nodes map[string]*corev1.Node
	spans map[string]span // of the addresses of nodes, by node pool
	// between is a pod whose address lies between those of two nodes of its pool,
	// apart one whose address is of a network that its node has for pods.
	between, apart string
	pods           int
}

type span struct{ first, last netip.Addr }

func newSubnets(nodes []*corev1.Node) *subnets {
	s := &subnets{nodes: map[string]*corev1.Node{}, spans: map[string]span{}}
	for _, node := range nodes {
		s.nodes[node.Name] = node
		for _, a := range node.Status.Addresses {
			address, err := netip.ParseAddr(a.Address)
			if a.Type != corev1.NodeInternalIP || err != nil || !address.Is4() {
				continue
			}
			of, seen := s.spans[poolOf(node)]
			if !seen || address.Less(of.first) {
				of.first = address
			}
			if !seen || of.last.Less(address) {
				of.last = address
			}
			s.spans[poolOf(node)] = of
		}
	}
	return s
}

func poolOf(node *corev1.Node) string {
	return cmp.Or(node.Labels[poolLabel], node.Labels[oldPoolLabel])
}

// see takes the address of a pod into account.
func (s *subnets) see(pod *corev1.Pod, address netip.Addr) {
	node := s.nodes[pod.Spec.NodeName]
	if node == nil {
		return
	}
	s.pods++
	text := fmt.Sprintf("Pod %s/%s has %s", pod.Namespace, pod.Name, address)
	for _, own := range node.Spec.PodCIDRs {
		if prefix, err := netip.ParsePrefix(own); err == nil && prefix.Contains(address) {
			s.apart = cmp.Or(s.apart, fmt.Sprintf("%s, of the network %s that Node %s has for pods", text, prefix, node.Name))
			return
		}
	}
	of := s.spans[poolOf(node)]
	if poolOf(node) != "" && of.first.Less(address) && address.Less(of.last) {
		s.between = cmp.Or(s.between, fmt.Sprintf("%s, between the nodes' %s and %s", text, of.first, of.last))
	}
}

// shared tells what has come out, and by what.
func (s *subnets) shared() (shared *bool, because string) {
	switch {
	case s.apart != "":
		return new(false), s.apart
	case s.between != "":
		return new(true), s.between
	case s.pods == 0:
		return nil, "no pod in kube-system has an address of its own yet"
	default:
		return nil, "pods have addresses of no network that their node has for pods, and none lies between those of two nodes of a pool, which would prove a common subnet"
	}
}

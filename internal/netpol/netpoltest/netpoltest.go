// Package netpoltest makes up clusters with NetworkPolicies for tests.
package netpoltest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Cluster is what decides who reaches whom.
type Cluster struct {
	// Ends are pods, and addresses outside the cluster.
	Ends []netpol.Endpoint
	// Policies are valid ones, as an API server would take them.
	Policies []*networkingv1.NetworkPolicy
	// Ports are those that rules and containers use, and some besides.
	Ports []netpol.Port
}

// Random makes up a cluster of some pods in three namespaces and up to that many
// policies, the same one for the same seed. Everything is drawn from few values,
// so that policies often match, labels are often missing, and pods are often
// alike.
func Random(seed uint64, pods, policies int) Cluster {
	m := &maker{rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // Made up for tests, and has to be repeatable.
	var cluster Cluster
	namespaces := []netpol.Endpoint{
		{Namespace: "x", NamespaceLabels: m.labels()},
		{Namespace: "y", NamespaceLabels: m.labels()},
		{Namespace: "z", NamespaceLabels: m.labels()},
	}
	for i := range pods {
		end := pick(m, namespaces...)
		end.Name = fmt.Sprintf("pod-%d", i)
		end.Labels = m.labels()
		end.HostNetwork = m.in(12)
		end.IPs = m.addresses(pick(m, "10.0", "10.1", "10.2"), pick(m, "fd00::0", "fd00::1"))
		for range m.IntN(4) {
			end.Ports = append(end.Ports, corev1.ContainerPort{
				Name: pick(m, names...), ContainerPort: pick(m, numbers...), Protocol: pick(m, append(protocols, "")...),
			})
		}
		cluster.Ends = append(cluster.Ends, end)
	}
	for range 3 {
		cluster.Ends = append(cluster.Ends, netpol.Endpoint{IPs: m.addresses("203.0", "2001:db8:")})
	}
	for i := range m.IntN(policies + 1) {
		cluster.Policies = append(cluster.Policies, m.policy(pick(m, namespaces...).Namespace, fmt.Sprintf("policy-%d", i)))
	}
	for _, protocol := range protocols {
		for _, number := range numbers {
			cluster.Ports = append(cluster.Ports, netpol.Port{Protocol: protocol, Number: number})
		}
	}
	return cluster
}

// YAML shows policies and ends to whom a test has failed for.
func YAML(policies []*networkingv1.NetworkPolicy, ends ...netpol.Endpoint) string {
	var text bytes.Buffer
	for _, policy := range policies {
		write(&text, policy)
	}
	for _, end := range ends {
		write(&text, end)
	}
	return text.String()
}

func write(text *bytes.Buffer, object any) {
	encoded, err := yaml.Marshal(object)
	if err != nil {
		encoded = []byte(err.Error())
	}
	fmt.Fprintf(text, "---\n%s", encoded)
}

var (
	protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	names     = []string{"web", "dns", "admin"}
	numbers   = []int32{1, 53, 80, 8080, 9090, 32000, 65535}
	// Some are written as API servers before Kubernetes 1.36 took them.
	blocks = []networkingv1.IPBlock{
		{CIDR: "0.0.0.0/0"},
		{CIDR: "::/0"},
		{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8"}},
		{CIDR: "10.0.0.0/15", Except: []string{"10.1.0.0/16"}},
		{CIDR: "10.1.9.9/16", Except: []string{"10.1.1.0/24", "10.1.0.1/32"}},
		{CIDR: "::ffff:10.0.0.0/104", Except: []string{"::ffff:10.0.1.0/120"}},
		{CIDR: "203.0.0.0/24"},
		{CIDR: "fd00::/64", Except: []string{"fd00::1:0:0/96"}},
		{CIDR: "2001:db8::/32", Except: []string{"2001:db8::1:0/112"}},
	}
)

type maker struct{ *rand.Rand }

func pick[T any](m *maker, values ...T) T { return values[m.IntN(len(values))] }

// in is true once in so many times.
func (m *maker) in(times int) bool { return m.IntN(times) == 0 }

func (m *maker) labels() map[string]string {
	labels := map[string]string{"app": pick(m, "a", "b", "c")}
	if m.in(2) {
		labels["tier"] = pick(m, "front", "back")
	}
	if m.in(4) {
		labels["canary"] = ""
	}
	return labels
}

// addresses are one or two with those beginnings, sometimes with IPv4 as IPv6.
func (m *maker) addresses(v4, v6 string) []netip.Addr {
	ipv4 := netip.MustParseAddr(fmt.Sprintf("%s.%d.%d", v4, m.IntN(2), m.IntN(3)))
	ipv6 := netip.MustParseAddr(fmt.Sprintf("%s:%x:%x", v6, m.IntN(2), m.IntN(3)))
	switch m.IntN(6) {
	case 0:
		return []netip.Addr{ipv6}
	case 1:
		return []netip.Addr{ipv4, ipv6}
	case 2:
		return []netip.Addr{netip.AddrFrom16(ipv4.As16())}
	default:
		return []netip.Addr{ipv4}
	}
}

func (m *maker) policy(namespace, name string) *networkingv1.NetworkPolicy {
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	policy.Spec.PodSelector = m.selector()
	policy.Spec.PolicyTypes = pick(m, nil,
		[]networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		[]networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		[]networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress})
	// Rules of a type that the policy is not of have to be left alone.
	for range m.IntN(3) {
		policy.Spec.Ingress = append(policy.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: m.peers(), Ports: m.ports()})
	}
	for range m.IntN(3) {
		policy.Spec.Egress = append(policy.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: m.peers(), Ports: m.ports()})
	}
	return policy
}

func (m *maker) peers() []networkingv1.NetworkPolicyPeer {
	if m.in(6) {
		return pick(m, nil, []networkingv1.NetworkPolicyPeer{})
	}
	peers := make([]networkingv1.NetworkPolicyPeer, 1+m.IntN(2))
	for i := range peers {
		switch m.IntN(4) {
		case 0:
			peers[i].IPBlock = new(pick(m, blocks...))
		case 1:
			peers[i].PodSelector = new(m.selector())
		case 2:
			peers[i].NamespaceSelector = new(m.namespaceSelector())
		case 3:
			peers[i].PodSelector, peers[i].NamespaceSelector = new(m.selector()), new(m.namespaceSelector())
		}
	}
	return peers
}

func (m *maker) ports() []networkingv1.NetworkPolicyPort {
	if m.in(3) {
		return pick(m, nil, []networkingv1.NetworkPolicyPort{})
	}
	ports := make([]networkingv1.NetworkPolicyPort, 1+m.IntN(2))
	for i := range ports {
		if !m.in(3) {
			ports[i].Protocol = new(pick(m, protocols...))
		}
		number := pick(m, numbers...)
		switch m.IntN(5) {
		case 0:
		case 1, 2:
			ports[i].Port = new(intstr.FromString(pick(m, names...)))
		case 3:
			ports[i].Port = new(intstr.FromInt32(number))
		case 4:
			ports[i].Port = new(intstr.FromInt32(number))
			ports[i].EndPort = new(min(number+pick[int32](m, 0, 27, 8000), 65535))
		}
	}
	return ports
}

func (m *maker) namespaceSelector() metav1.LabelSelector {
	if m.in(4) {
		return metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: pick(m, "x", "y", "z")}}
	}
	return m.selector()
}

func (m *maker) selector() metav1.LabelSelector {
	var selector metav1.LabelSelector
	switch m.IntN(5) {
	case 0:
	case 1, 2:
		selector.MatchLabels = map[string]string{"app": pick(m, "a", "b", "c")}
		if m.in(4) {
			selector.MatchLabels["tier"] = pick(m, "front", "back")
		}
		if m.in(16) {
			selector.MatchLabels["canary"] = ""
		}
	default:
		for range 1 + m.IntN(2) {
			selector.MatchExpressions = append(selector.MatchExpressions, m.requirement())
		}
	}
	return selector
}

func (m *maker) requirement() metav1.LabelSelectorRequirement {
	requirement := metav1.LabelSelectorRequirement{
		Key: pick(m, "app", "app", "app", "app", "tier", "canary"),
		Operator: pick(m, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn,
			metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist),
	}
	if requirement.Operator == metav1.LabelSelectorOpIn || requirement.Operator == metav1.LabelSelectorOpNotIn {
		requirement.Values = map[string][]string{
			"app": {"a", pick(m, "b", "c")}, "tier": {pick(m, "front", "back")}, "canary": {""},
		}[requirement.Key]
	}
	return requirement
}

package netpoldiff_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/netpoltest"
	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAgainstCyclonus asks both of every connection between some ends of made-up
// clusters.
func TestAgainstCyclonus(t *testing.T) {
	t.Parallel()
	pairs, left, compared, allowed := 0, 0, 0, 0
	for seed := range uint64(400) {
		cluster := netpoltest.Random(seed, 5, 16)
		policies, err := netpol.Compile(cluster.Policies)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, netpoltest.YAML(cluster.Policies))
		}
		theirs := build(cluster.Policies)
		for _, from := range cluster.Ends {
			for _, to := range cluster.Ends {
				pairs++
				if knownWrong(cluster.Policies, from, to) {
					left++
					continue
				}
				for _, port := range cluster.Ports {
					verdict := policies.Evaluate(from, to, port)
					if verdict.Allowed != theirs.allows(from, to, port) {
						t.Fatalf("seed %d: from %s%s to %s%s at %s %d: allowed is %t (%s), but Cyclonus says %t\n%s", seed,
							from.Name, from.IPs, to.Name, to.IPs, port.Protocol, port.Number, verdict.Allowed, verdict.Reason(), !verdict.Allowed,
							netpoltest.YAML(shrink(t, cluster.Policies, from, to, port), from, to))
					}
					compared++
					if verdict.Allowed {
						allowed++
					}
				}
			}
		}
	}
	if compared < 100_000 || allowed < compared/5 || allowed > compared*4/5 {
		t.Errorf("of %d connections, %d are allowed: that says too little", compared, allowed)
	}
	if left > pairs/4 {
		t.Errorf("%d of %d pairs are left out: that is too much", left, pairs)
	}
}

// shrink leaves out policies as long as the two disagree.
func shrink(t *testing.T, policies []*networkingv1.NetworkPolicy, from, to netpol.Endpoint, port netpol.Port) []*networkingv1.NetworkPolicy {
	t.Helper()
	for i := 0; i < len(policies); {
		fewer := slices.Delete(slices.Clone(policies), i, i+1)
		compiled, err := netpol.Compile(fewer)
		if err != nil {
			t.Fatal(err)
		}
		if compiled.Evaluate(from, to, port).Allowed != build(fewer).allows(from, to, port) {
			policies = fewer
		} else {
			i++
		}
	}
	return policies
}

// knownWrong tells of two mistakes of Cyclonus' reading of selectors, both about
// labels that are missing from an end. To the API,
//
//   - NotIn holds if "Labels does not have the Requirement's key" as well
//     (labels.Requirement.Matches); to Cyclonus, it does not.
//   - matchLabels is "equivalent to an element of matchExpressions, whose [...]
//     operator is "In"" (metav1.LabelSelector), which takes the key to be there;
//     to Cyclonus, a missing label is one with an empty value.
//
// Only connections for which such a selector is asked of such an end are left out.
func knownWrong(policies []*networkingv1.NetworkPolicy, from, to netpol.Endpoint) bool {
	return slices.ContainsFunc(policies, func(policy *networkingv1.NetworkPolicy) bool {
		var sources, destinations []networkingv1.NetworkPolicyPeer
		for _, rule := range policy.Spec.Ingress {
			sources = append(sources, rule.From...)
		}
		for _, rule := range policy.Spec.Egress {
			destinations = append(destinations, rule.To...)
		}
		return misread(policy, to, from, sources) || misread(policy, from, to, destinations)
	})
}

func misread(policy *networkingv1.NetworkPolicy, subject, other netpol.Endpoint, peers []networkingv1.NetworkPolicyPeer) bool {
	if !isPod(subject) || subject.Namespace != policy.Namespace {
		return false
	}
	return misreads(&policy.Spec.PodSelector, subject.Labels) ||
		isPod(other) && slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
			return misreads(peer.PodSelector, other.Labels) || misreads(peer.NamespaceSelector, namespaceLabels(other))
		})
}

func misreads(selector *metav1.LabelSelector, labels map[string]string) bool {
	if selector == nil {
		return false
	}
	missing := func(key string) bool {
		_, found := labels[key]
		return !found
	}
	for key, value := range selector.MatchLabels {
		if value == "" && missing(key) {
			return true
		}
	}
	return slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
		return r.Operator == metav1.LabelSelectorOpNotIn && missing(r.Key)
	})
}

// namespaceLabels has the label that the API server adds, which Cyclonus leaves
// to its caller.
func namespaceLabels(end netpol.Endpoint) map[string]string {
	labels := map[string]string{corev1.LabelMetadataName: end.Namespace}
	maps.Copy(labels, end.NamespaceLabels)
	return labels
}

// isPod is false for pods on their node's network, of which Cyclonus knows
// nothing. By the documentation, what most plugins make of one is "traffic to/from
// the node IP", so that is what it is asked about.
func isPod(end netpol.Endpoint) bool { return end.Namespace != "" && !end.HostNetwork }

// A cyclonus is policies as Cyclonus reads them.
type cyclonus struct{ policy *matcher.Policy }

func build(policies []*networkingv1.NetworkPolicy) cyclonus {
	defaulted := make([]*networkingv1.NetworkPolicy, len(policies))
	for i, policy := range policies {
		defaulted[i] = policy.DeepCopy()
		// What the API server does before anybody reads the policy: "policies that
		// contain an egress section are assumed to affect egress, and all policies
		// [...] are assumed to affect ingress".
		if spec := &defaulted[i].Spec; len(spec.PolicyTypes) == 0 {
			spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeIngress)
			if len(spec.Egress) > 0 {
				spec.PolicyTypes = append(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
			}
		}
	}
	return cyclonus{matcher.BuildNetworkPolicies(false, defaulted)}
}

// allows asks about each pair of addresses of one family that the connection may
// be between, as Cyclonus knows but one address of an end.
func (c cyclonus) allows(from, to netpol.Endpoint, port netpol.Port) bool {
	// By the documentation, a pod cannot block access to itself, which Cyclonus
	// leaves to its caller.
	if from.Namespace != "" && from.Namespace == to.Namespace && from.Name == to.Name {
		return true
	}
	is4 := func(ip netip.Addr) bool { return ip.Unmap().Is4() }
	haveCommonFamily := slices.ContainsFunc(from.IPs, func(source netip.Addr) bool {
		return slices.ContainsFunc(to.IPs, func(destination netip.Addr) bool { return is4(source) == is4(destination) })
	})
	for _, source := range from.IPs {
		for _, destination := range to.IPs {
			if is4(source) != is4(destination) && haveCommonFamily {
				continue
			}
			if c.allowsBetween(peer(from, source), peer(to, destination), to, port) {
				return true
			}
		}
	}
	return false
}

func (c cyclonus) allowsBetween(source, destination *matcher.TrafficPeer, to netpol.Endpoint, port netpol.Port) bool {
	// Cyclonus has its caller look up the name of a port, and takes one only,
	// while containers may give it several.
	names := []string{""}
	for _, named := range to.Ports {
		protocol := named.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		if isPod(to) && named.ContainerPort == port.Number && protocol == port.Protocol {
			names = append(names, named.Name)
		}
	}
	allows := func(isIngress bool) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			return c.policy.IsIngressOrEgressAllowed(&matcher.Traffic{
				Source: source, Destination: destination,
				ResolvedPort: int(port.Number), ResolvedPortName: name, Protocol: port.Protocol,
			}, isIngress).IsAllowed()
		})
	}
	return allows(true) && allows(false)
}

func peer(end netpol.Endpoint, ip netip.Addr) *matcher.TrafficPeer {
	peer := &matcher.TrafficPeer{IP: ip.String()}
	if isPod(end) {
		peer.Internal = &matcher.InternalPeer{Namespace: end.Namespace, NamespaceLabels: namespaceLabels(end), PodLabels: end.Labels}
	}
	return peer
}

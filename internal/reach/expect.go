package reach

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// A Selector chooses ends of connections: pods, by all of what is set besides
// Network, or the addresses of Network, outside the cluster.
type Selector struct {
	Namespace string
	PodLabels map[string]string
	// Name of the pods, or of what manages them.
	Name string
	// Meshed pods, or those that are in no mesh; nil takes both.
	Meshed *bool
	// Network is a range of addresses; its zero value is none.
	Network netip.Prefix
}

// String tells people what is chosen.
func (s Selector) String() string {
	if s.Network.IsValid() {
		if s.Network.IsSingleIP() {
			return s.Network.Addr().String()
		}
		return s.Network.String()
	}
	var words []string
	if s.Meshed != nil && *s.Meshed {
		words = append(words, "meshed")
	} else if s.Meshed != nil {
		words = append(words, "unmeshed")
	}
	words = append(words, "pods")
	if len(s.PodLabels) > 0 {
		words = append(words, "with "+labels.FormatLabels(s.PodLabels))
	}
	if s.Name != "" {
		words = append(words, "of "+s.Name)
	}
	if s.Namespace != "" {
		words = append(words, "in namespace "+s.Namespace)
	}
	return strings.Join(words, " ")
}

// An Expectation is that whatever From chooses reaches whatever To chooses on a
// port, or that nothing of it does.
type Expectation struct {
	From, To Selector
	Port     Port
	Allowed  bool
}

// String is the expectation in words.
func (e Expectation) String() string {
	verb := "reach"
	if !e.Allowed {
		verb = "do not reach"
	}
	return fmt.Sprintf("%s %s %s on %s", e.From, verb, e.To, e.Port)
}

// An Outcome is what has come of an expectation.
type Outcome struct {
	Met bool
	// Reason is that of a connection that decided, or why nothing can be said.
	Reason string
}

// Expect holds the rules to an expectation: the proposed ones, if there are any.
// Every connection that it is about must agree. One that is about none is not met,
// nor is one about a connection of which it cannot be told whether it gets through.
func (m *Map) Expect(e Expectation) Outcome {
	from, to := m.choose(e.From), m.choose(e.To)
	switch {
	case len(from) == 0:
		return Outcome{Reason: m.none(e.From)}
	case len(to) == 0:
		return Outcome{Reason: m.none(e.To)}
	case from[0].first.Pod == nil && to[0].first.Pod == nil:
		return Outcome{Reason: "both ends are outside of the cluster, where nothing is known of what decides"}
	}
	outcome := Outcome{Reason: "there is no connection but of a pod with itself"}
	declared := false
	for _, callee := range to {
		port, found := e.Port.of(callee.first.network)
		if !found {
			return Outcome{Reason: fmt.Sprintf("%s declares no port %s", callee.first.label(), e.Port)}
		}
		declared = declared || declares(callee.first, port)
		for _, caller := range from {
			source, destination, distinct := pair(caller, callee)
			if !distinct {
				continue
			}
			verdicts := m.ask(question{caller.class, callee.class, port})
			verdict := verdicts[len(m.regimes())-1]
			connection := fmt.Sprintf("%s %s %s on %s", source.label(), verdict.verb(), destination.label(), Port{Protocol: port.Protocol, Number: port.Number})
			switch {
			case verdict.Unknown:
				return Outcome{Reason: fmt.Sprintf("whether %s cannot be told: %s", connection, verdict.Why())}
			case verdict.Allowed != e.Allowed:
				return Outcome{Reason: fmt.Sprintf("%s: %s", connection, verdict.Why())}
			case verdict.byNetwork && m.survey.Unenforced:
				return Outcome{Reason: fmt.Sprintf("%s by NetworkPolicies alone, which nothing in the cluster enforces: %s", connection, verdict.Why())}
			}
			// The least reason is the same however the pods are named.
			if why := verdict.Why(); !outcome.Met || why < outcome.Reason {
				outcome = Outcome{Met: true, Reason: why}
			}
		}
	}
	if outcome.Met && !e.Allowed && !declared {
		outcome.Reason += fmt.Sprintf("; none of the called pods declares port %s", e.Port)
	}
	return outcome
}

// declares reports whether a container of an end declares the port; what an address
// has nobody knows.
func declares(e end, port netpol.Port) bool {
	return e.Pod == nil || slices.ContainsFunc(e.network.Ports, func(p corev1.ContainerPort) bool {
		return p.ContainerPort == port.Number && cmp.Or(p.Protocol, corev1.ProtocolTCP) == port.Protocol
	})
}

// none says that a selector chooses nothing, and how many pods it might soon.
func (m *Map) none(s Selector) string {
	text := fmt.Sprintf("there are no %s", s)
	waiting := 0
	for _, e := range m.waiting {
		if !s.Network.IsValid() && s.matches(e) {
			waiting++
		}
	}
	if waiting > 0 {
		text += fmt.Sprintf(", but for %d without an address yet", waiting)
	}
	return text
}

// verb is the verdict between its subject and its object.
func (v Verdict) verb() string {
	switch {
	case !v.Allowed:
		return "does not reach"
	case v.Unknown:
		return "reaches"
	case v.Partly:
		return "reaches by some requests"
	default:
		return "reaches"
	}
}

// chosen are the ends of one class that a selector chooses.
type chosen struct {
	class         int
	first, second end // second is zero if there is only one
}

// pair takes an end of each; it reports false if there is but one pod.
func pair(from, to chosen) (source, destination end, distinct bool) {
	if from.class != to.class || from.first.Pod != to.first.Pod {
		return from.first, to.first, true
	}
	switch {
	case to.second.Pod != nil:
		return from.first, to.second, true
	case from.second.Pod != nil:
		return from.second, to.first, true
	default:
		return end{}, end{}, false
	}
}

// choose returns what a selector chooses by class, in the order of the first pods
// or addresses of each.
func (m *Map) choose(s Selector) []chosen {
	var all []chosen
	places := map[int]int{}
	add := func(e end) {
		place, known := places[e.class]
		switch {
		case !known:
			places[e.class] = len(all)
			all = append(all, chosen{class: e.class, first: e})
		case all[place].second.Pod == nil:
			all[place].second = e
		}
	}
	if s.Network.IsValid() {
		for _, address := range m.samples(s.Network) {
			e := outside(address)
			e.class = m.classify(e)
			add(e)
		}
		return all
	}
	for _, e := range m.pods {
		if s.matches(e) {
			add(e)
		}
	}
	return all
}

func (s Selector) matches(e end) bool {
	return (s.Namespace == "" || e.Pod.Namespace == s.Namespace) &&
		(s.Name == "" || e.Pod.Name == s.Name || e.owner == s.Name) &&
		(s.Meshed == nil || (e.mesh != "") == *s.Meshed) &&
		labels.SelectorFromSet(s.PodLabels).Matches(labels.Set(e.Pod.Labels))
}

// samples are addresses of a network, at least one of each sort that anything
// tells apart: a new sort can only begin where a range of the rules begins, or
// behind its end.
func (m *Map) samples(network netip.Prefix) []netip.Addr {
	network = network.Masked()
	found := []netip.Addr{network.Addr()}
	for _, r := range m.regimes() {
		ranges := r.policies.Networks()
		for _, authority := range r.authorities {
			ranges = append(ranges, authority.Networks()...)
		}
		for _, told := range ranges {
			for _, address := range []netip.Addr{told.Masked().Addr(), last(told).Next()} {
				if network.Contains(address) {
					found = append(found, address)
				}
			}
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found)
}

// last is the last address of a range.
func last(network netip.Prefix) netip.Addr {
	bytes := network.Addr().AsSlice()
	for i := range bytes {
		if own := network.Bits() - 8*i; own <= 0 {
			bytes[i] = 0xff
		} else if own < 8 {
			bytes[i] |= 0xff >> own
		}
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}

// label names an end for people.
func (e end) label() string {
	if e.Pod == nil {
		return e.IP.String()
	}
	if !e.party.split {
		return e.party.owner()
	}
	return fmt.Sprintf("%s (%s)", e.party.owner(), e.Pod.Name)
}

// Package reach works out who reaches whom in a cluster, on which port, and why:
// from pods, their namespaces and the NetworkPolicies of the network, and from
// what the authorization of a mesh says, as they are and as they would be. It
// never looks at pairs of pods, but at pairs of classes of pods that nothing
// tells apart.
package reach

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Rules are what decides, at one moment.
type Rules struct {
	Policies []*networkingv1.NetworkPolicy
	// Authorities are those of the meshes; none without a mesh.
	Authorities []access.Authority
}

// A Survey is what is asked about.
type Survey struct {
	Namespaces []*corev1.Namespace
	// Pods of the cluster. Those that have finished or are being deleted do not
	// count, nor do those that have no address yet: what goes by addresses would say
	// otherwise of them a moment later.
	Pods []*corev1.Pod
	// Addresses are further ends of connections, outside the cluster.
	Addresses []netip.Addr
	// Rules that are in force.
	Rules Rules
	// Proposed are what is in force then; nil means the same.
	Proposed *Rules
	// Within are the namespaces of the pods that have rows; none means all.
	Within []string
	// Ports that rows are about; none means those that the pod declares.
	Ports []Port
	// Unenforced says that nothing in the cluster enforces NetworkPolicies, so that
	// no expectation may count on what they alone refuse.
	Unenforced bool
	// Reading is how the cluster's network plugin reads NetworkPolicies.
	Reading []netpol.Option
	// Sidecars are the names of containers that declare ports of their own, which
	// callers of the pod do not use.
	Sidecars []string
}

// A Map tells who reaches whom. It remembers what it has worked out, so that only
// one goroutine may ask it at a time.
type Map struct {
	survey  Survey
	before  regime
	after   *regime // nil if it is the same
	pods    []end
	waiting []end // for an address
	classes []class
	numbers map[string]int // of the classes, by their keys
	parties []*Party
	answers map[question][2]Verdict
}

// A Party is one end of rows: pods of one owner that nothing tells apart, or an
// address outside the cluster.
type Party struct {
	// Namespace, Kind and Name of what manages the pods: of the Deployment, not
	// the ReplicaSet between. It is the Pod if nothing does. An address has a name
	// only.
	Namespace, Kind, Name string
	// Pods are their names, sorted.
	Pods []string
	// Mesh that they belong to, "Linkerd" or "Istio"; empty outside.
	Mesh  string
	class int
	split bool // the owner has pods of other classes too
}

// String names the party in one line, such as "Deployment dgraph/alpha". Of an
// owner with more than one party it names the first pod too.
func (p *Party) String() string {
	if p.Kind == "" {
		return p.Name
	}
	name := p.owner()
	switch more := len(p.Pods) - 1; {
	case !p.split:
		return name
	case more == 0:
		return fmt.Sprintf("%s (%s)", name, p.Pods[0])
	default:
		return fmt.Sprintf("%s (%s and %d more)", name, p.Pods[0], more)
	}
}

// owner names what manages the pods.
func (p *Party) owner() string { return p.Kind + " " + p.Namespace + "/" + p.Name }

// A Row is the answer for one port of one party.
type Row struct {
	From, To *Party
	Port     netpol.Port
	// Before is the verdict by the rules in force, After that by the proposed ones.
	Before, After Verdict
}

// Changed reports whether the proposal opens or closes the way, fully or partly.
func (r Row) Changed() bool {
	return r.Before.Allowed != r.After.Allowed || r.Before.Partly != r.After.Partly || r.Before.Unknown != r.After.Unknown
}

// Verdict is the answer to whether an application reaches a port.
type Verdict struct {
	Allowed bool
	// Partly says that the mesh lets some requests through and others not; Allowed
	// is set then.
	Partly bool
	// Unknown says that it depends on what is not evaluated; Allowed is set then, as
	// nothing that is evaluated refuses it.
	Unknown bool
	// Wire is the port at which the connection arrives at the pod's network
	// interface: the proxy's, if a mesh takes it there.
	Wire int32
	// Network names the policies and rules that decide, Mesh the mesh's objects;
	// that is empty if no mesh has a say.
	Network, Mesh string
	byNetwork     bool // only the network refuses it
}

// Why is the reason of the layer that refuses, or those of both.
func (v Verdict) Why() string {
	reasons := []string{v.Network, v.Mesh}
	return strings.Join(slices.DeleteFunc(reasons, func(reason string) bool { return reason == "" }), "; ")
}

// A question is asked of classes.
type question struct {
	from, to int
	port     netpol.Port
}

// A class is of ends that nothing tells apart.
type class struct {
	ends    []end // two of them, if there are
	ports   []netpol.Port
	parties int
}

// An end is one end of a connection in the terms of both layers.
type end struct {
	access.End
	network netpol.Endpoint
	class   int
	party   *Party
	// owner and mesh are the names of a pod's.
	owner, mesh string
}

// A regime is rules that are ready to be asked.
type regime struct {
	policies    *netpol.Policies
	authorities []access.Authority
}

// Draw draws the map. The error names a policy that is malformed.
func (s Survey) Draw() (*Map, error) {
	m := &Map{survey: s, numbers: map[string]int{}, answers: map[question][2]Verdict{}}
	var err error
	if m.before, err = s.regime(s.Rules); err != nil {
		return nil, err
	}
	if s.Proposed != nil {
		after, err := s.regime(*s.Proposed)
		if err != nil {
			return nil, err
		}
		m.after = &after
	}
	namespaces := make(map[string]*corev1.Namespace, len(s.Namespaces))
	for _, namespace := range s.Namespaces {
		namespaces[namespace.Name] = namespace
	}
	parties := map[partyKey]*Party{}
	for _, pod := range s.Pods {
		if !mesh.Living(pod) {
			continue
		}
		namespace := namespaces[pod.Namespace]
		if namespace == nil { // Made since the namespaces were read.
			namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: pod.Namespace}}
		}
		e := endOf(namespace, pod)
		if len(e.network.IPs) == 0 {
			_, e.owner = ownerOf(pod)
			e.mesh = m.before.meshOf(e.End)
			m.waiting = append(m.waiting, e)
			continue
		}
		m.pods = append(m.pods, m.place(parties, e))
	}
	for _, address := range s.Addresses {
		m.parties = append(m.parties, &Party{Name: address.String(), class: m.classify(outside(address))})
	}
	m.arrange()
	return m, nil
}

func (s Survey) regime(r Rules) (regime, error) {
	policies, err := netpol.Compile(r.Policies, s.Reading...)
	return regime{policies: policies, authorities: r.Authorities}, err
}

// regimes are the rules in force and, if they differ, the proposed ones.
func (m *Map) regimes() []regime {
	if m.after == nil {
		return []regime{m.before}
	}
	return []regime{m.before, *m.after}
}

// partyKey is what the pods of a party have in common.
type partyKey struct {
	namespace, kind, name string
	class                 int
}

// place finds the class and the party of a pod.
func (m *Map) place(parties map[partyKey]*Party, e end) end {
	e.class = m.classify(e)
	kind, name := ownerOf(e.Pod)
	e.owner, e.mesh = name, m.before.meshOf(e.End)
	key := partyKey{e.Pod.Namespace, kind, name, e.class}
	if parties[key] == nil {
		parties[key] = &Party{Namespace: e.Pod.Namespace, Kind: kind, Name: name, Mesh: e.mesh, class: e.class}
		m.parties = append(m.parties, parties[key])
		m.classes[e.class].parties++
	}
	e.party = parties[key]
	e.party.Pods = append(e.party.Pods, e.Pod.Name)
	return e
}

// arrange sorts the parties, addresses last, and finds owners that have several.
func (m *Map) arrange() {
	for _, party := range m.parties {
		slices.Sort(party.Pods)
	}
	slices.SortStableFunc(m.parties, func(a, b *Party) int {
		if (a.Kind == "") != (b.Kind == "") {
			return cmp.Compare(b.Kind, a.Kind)
		}
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), slices.Compare(a.Pods, b.Pods))
	})
	for i, party := range m.parties[min(1, len(m.parties)):] {
		if last := m.parties[i]; party.Kind != "" && last.Namespace == party.Namespace && last.Kind == party.Kind && last.Name == party.Name {
			last.split, party.split = true, true
		}
	}
}

// endOf is a pod as an end.
func endOf(namespace *corev1.Namespace, pod *corev1.Pod) end {
	return end{End: access.End{Namespace: namespace, Pod: pod}, network: netpol.PodEndpoint(namespace.Labels, pod)}
}

// outside is an address outside the cluster as an end.
func outside(address netip.Addr) end {
	return end{End: access.End{IP: address}, network: netpol.Endpoint{IPs: []netip.Addr{address}}}
}

// lasting are the containers of a pod that keep running beside each other.
func lasting(pod *corev1.Pod) []corev1.Container {
	containers := slices.Clone(pod.Spec.Containers)
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, container)
		}
	}
	return containers
}

// ownerOf names what manages a pod, as far as the pod itself tells: a ReplicaSet
// of a Deployment is called as that with the hash of the pod template behind it,
// and a Job of a CronJob with the minutes since 1970 for which it was scheduled.
func ownerOf(pod *corev1.Pod) (kind, name string) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return "Pod", pod.Name
	}
	if hash := pod.Labels[podTemplateHash]; owner.Kind == "ReplicaSet" && hash != "" {
		if deployment, found := strings.CutSuffix(owner.Name, "-"+hash); found {
			return "Deployment", deployment
		}
	}
	if owner.Kind == "Job" {
		if i := strings.LastIndexByte(owner.Name, '-'); i > 0 && isScheduled(owner.Name[i+1:]) {
			return "CronJob", owner.Name[:i]
		}
	}
	return owner.Kind, owner.Name
}

// isScheduled reports whether text is minutes since 1970, of 1989 or later.
func isScheduled(text string) bool {
	minutes, err := strconv.ParseUint(text, 10, 32)
	return err == nil && minutes >= 10_000_000 && text[0] != '0'
}

// podTemplateHash is the label by which a Deployment tells its ReplicaSets apart.
const podTemplateHash = "pod-template-hash"

// classify finds the number of an end's class.
func (m *Map) classify(e end) int {
	var key strings.Builder
	for _, r := range m.regimes() {
		fmt.Fprintf(&key, "%s|", r.policies.Class(e.network))
		for _, authority := range r.authorities {
			fmt.Fprintf(&key, "%q|%q|", authority.Mesh(e.End), authority.Class(e.End))
		}
	}
	for _, port := range e.network.Ports {
		fmt.Fprintf(&key, "%s/%d/%s,", port.Name, port.ContainerPort, port.Protocol)
	}
	ports := m.ports(e)
	fmt.Fprint(&key, ports)
	number, known := m.numbers[key.String()]
	if !known {
		number = len(m.classes)
		m.numbers[key.String()] = number
		m.classes = append(m.classes, class{ports: ports})
	}
	if c := &m.classes[number]; len(c.ends) < 2 {
		c.ends = append(c.ends, e)
	}
	return number
}

// ports are those that rows to an end are about, sorted.
func (m *Map) ports(e end) []netpol.Port {
	var ports []netpol.Port
	for _, asked := range m.survey.Ports {
		if port, found := asked.of(e.network); found {
			ports = append(ports, port)
		}
	}
	if len(m.survey.Ports) == 0 && e.Pod != nil {
		containers := lasting(e.Pod)
		own := slices.DeleteFunc(slices.Clone(containers), func(c corev1.Container) bool { return slices.Contains(m.survey.Sidecars, c.Name) })
		if len(own) == 0 { // A gateway is nothing but a proxy.
			own = containers
		}
		for _, container := range own {
			for _, port := range container.Ports {
				ports = append(ports, netpol.Port{Protocol: cmp.Or(port.Protocol, corev1.ProtocolTCP), Number: port.ContainerPort})
			}
		}
	}
	slices.SortFunc(ports, func(a, b netpol.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(ports)
}

// meshOf is the mesh that a pod belongs to; empty if there is none.
func (r regime) meshOf(e access.End) string {
	for _, authority := range r.authorities {
		if name := authority.Mesh(e); name != "" {
			return name
		}
	}
	return ""
}

// Rows yields a row for each port of each party and each party that may come to
// it, in order of the party that is called, its port, and the one that calls. A
// pod is never asked about itself.
func (m *Map) Rows() iter.Seq[Row] {
	listed := slices.DeleteFunc(slices.Clone(m.parties), func(p *Party) bool {
		return p.Kind != "" && len(m.survey.Within) > 0 && !slices.Contains(m.survey.Within, p.Namespace)
	})
	return func(yield func(Row) bool) {
		for _, to := range listed {
			for _, port := range m.classes[to.class].ports {
				for _, from := range listed {
					if from.Kind == "" && to.Kind == "" || from == to && len(to.Pods) < 2 {
						continue
					}
					verdicts := m.ask(question{from.class, to.class, port})
					if !yield(Row{From: from, To: to, Port: port, Before: verdicts[0], After: verdicts[1]}) {
						return
					}
				}
			}
		}
	}
}

// ask answers by the rules in force and by the proposed ones.
func (m *Map) ask(q question) [2]Verdict {
	// Most classes of a large cluster are of one party, whose answers nobody needs
	// again, and which would take a lot of room.
	shared := m.classes[q.from].parties > 1 || m.classes[q.to].parties > 1
	answer, known := m.answers[q]
	if known {
		return answer
	}
	from, to := m.classes[q.from].ends[0], m.classes[q.to].ends[0]
	if ends := m.classes[q.to].ends; q.from == q.to && len(ends) > 1 {
		to = ends[1]
	}
	answer[0] = m.before.judge(from, to, q.port)
	if answer[1] = answer[0]; m.after != nil {
		answer[1] = m.after.judge(from, to, q.port)
	}
	if shared {
		m.answers[q] = answer
	}
	return answer
}

// judge decides on a connection from one end to a port of another.
func (r regime) judge(from, to end, port netpol.Port) Verdict {
	wire := port
	for _, authority := range r.authorities {
		if wire = authority.Wire(from.End, to.End, port); wire != port {
			break
		}
	}
	network := r.policies.Evaluate(from.network, to.network, wire)
	verdict := Verdict{Allowed: true, Wire: wire.Number, Network: network.Reason()}
	var reasons, ways []string
	for _, authority := range r.authorities {
		if to.Pod == nil || authority.Mesh(to.End) == "" {
			continue
		}
		said := authority.Judge(from.End, to.End, port)
		verdict.Allowed = verdict.Allowed && said.Allowed
		verdict.Partly = verdict.Partly || said.Partly
		verdict.Unknown = verdict.Unknown || said.Unknown
		if said.Via != "" {
			ways = append(ways, said.Via)
		}
		reasons = append(reasons, said.Reason)
	}
	if len(ways) > 0 {
		verdict.Network = fmt.Sprintf("where NetworkPolicies see it depends on %s", strings.Join(ways, ", "))
	} else {
		verdict.byNetwork = verdict.Allowed && !network.Allowed
		verdict.Allowed = verdict.Allowed && network.Allowed
	}
	verdict.Unknown = verdict.Unknown && verdict.Allowed
	verdict.Partly = verdict.Partly && verdict.Allowed && !verdict.Unknown
	verdict.Mesh = strings.Join(reasons, "; ")
	return verdict
}

// A Port is one that is asked about, by number or by the name that containers
// give it.
type Port struct {
	Protocol corev1.Protocol
	Number   int32  // 0 for a name
	Name     string // empty for a number
}

// ParsePort reads a number or a name, with a protocol behind it unless that is
// TCP: 8080, 53/UDP, http.
func ParsePort(text string) (Port, error) {
	what, protocol, given := strings.Cut(text, "/")
	port := Port{Protocol: corev1.ProtocolTCP}
	if given {
		port.Protocol = corev1.Protocol(strings.ToUpper(protocol))
	}
	switch port.Protocol {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
	default:
		return Port{}, fmt.Errorf("%q: the protocol is none of TCP, UDP and SCTP", text)
	}
	if number, err := strconv.ParseInt(what, 10, 32); err == nil {
		if number < 1 || number > 65535 {
			return Port{}, fmt.Errorf("port %d is not within 1 to 65535", number)
		}
		port.Number = int32(number)
		return port, nil
	}
	if problems := validation.IsValidPortName(what); len(problems) > 0 {
		return Port{}, fmt.Errorf("%q is neither the number nor the name of a port: %s", text, problems[0])
	}
	port.Name = what
	return port, nil
}

// String is what ParsePort reads.
func (p Port) String() string {
	if p.Name != "" {
		return p.Name + "/" + string(p.Protocol)
	}
	return fmt.Sprintf("%d/%s", p.Number, p.Protocol)
}

// of is the port of an end; it reports false if the end has none of the name.
func (p Port) of(e netpol.Endpoint) (netpol.Port, bool) {
	if p.Name == "" {
		return netpol.Port{Protocol: p.Protocol, Number: p.Number}, true
	}
	for _, declared := range e.Ports {
		if declared.Name == p.Name && cmp.Or(declared.Protocol, corev1.ProtocolTCP) == p.Protocol {
			return netpol.Port{Protocol: p.Protocol, Number: declared.ContainerPort}, true
		}
	}
	return netpol.Port{}, false
}

package reach_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

// tunnel is a mesh that sends all that its pods send each other to port 4143, and
// whose proxies let nobody else in at guarded ports but from some networks.
type tunnel struct {
	guarded  []int32
	networks []netip.Prefix
}

func (t tunnel) Mesh(e access.End) string {
	if e.Pod != nil && e.Pod.Labels["meshed"] == "true" {
		return "Tunnel"
	}
	return ""
}

func (t tunnel) Class(e access.End) string {
	var key strings.Builder
	fmt.Fprintf(&key, "%s:", t.Mesh(e))
	for _, network := range t.networks {
		fmt.Fprint(&key, network.Contains(e.IP))
	}
	return key.String()
}

func (t tunnel) Wire(from, to access.End, port netpol.Port) netpol.Port {
	if t.Mesh(from) != "" && t.Mesh(to) != "" {
		return netpol.Port{Protocol: corev1.ProtocolTCP, Number: 4143}
	}
	return port
}

func (t tunnel) Judge(from, to access.End, port netpol.Port) access.Verdict {
	switch {
	case t.Mesh(to) == "":
		return access.Verdict{Allowed: true}
	case !slices.Contains(t.guarded, port.Number):
		return access.Verdict{Allowed: true, Reason: "nothing guards the port"}
	case slices.ContainsFunc(t.networks, func(n netip.Prefix) bool { return n.Contains(from.IP) }):
		return access.Verdict{Allowed: true, Partly: true, Reason: "its network is let in for probes"}
	case t.Mesh(from) == "":
		return access.Verdict{Reason: "Server db/guard takes meshed callers only"}
	}
	return access.Verdict{Allowed: true, Reason: "Server db/guard takes meshed callers"}
}

func (t tunnel) Networks() []netip.Prefix { return t.networks }

func (t tunnel) NotEvaluated() []string { return nil }

func namespaces(names ...string) []*corev1.Namespace {
	list := make([]*corev1.Namespace, len(names))
	for i, name := range names {
		list[i] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": name}}}
	}
	return list
}

// addressed is that of pods that run.
var addressed = corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.0.7"}}}

// pods are those of a Deployment with the container port http, 8080.
func pods(namespace, name string, count int, meshed bool) []*corev1.Pod {
	list := make([]*corev1.Pod, count)
	for i := range list {
		list[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: fmt.Sprintf("%s-7d4-%d", name, i), Labels: map[string]string{"app": name, "pod-template-hash": "7d4"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: name + "-7d4", Controller: new(true)}},
			},
			Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			Status: addressed,
		}
		if meshed {
			list[i].Labels["meshed"] = "true"
			list[i].Spec.InitContainers = []corev1.Container{{
				Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "proxy", ContainerPort: 4143}},
			}}
		}
	}
	return list
}

// policy reads a NetworkPolicy, db/<name>, of which only the spec is given.
func policy(t testing.TB, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	read, err := reach.ParseCandidates(fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: db, name: %s}, spec: %s}", name, spec), nil)
	if err != nil {
		t.Fatal(err)
	}
	return read.Policies[0]
}

func draw(t testing.TB, s reach.Survey) *reach.Map {
	t.Helper()
	drawn, err := s.Draw()
	if err != nil {
		t.Fatal(err)
	}
	return drawn
}

// walkthrough is the survey of a database of two pods with an unmeshed and a
// meshed client, by those policies.
func walkthrough(policies ...*networkingv1.NetworkPolicy) reach.Survey {
	return reach.Survey{
		Namespaces: namespaces("client", "db"),
		Pods:       slices.Concat(pods("db", "alpha", 2, true), pods("client", "plain", 1, false), pods("client", "meshed", 1, true)),
		Rules:      reach.Rules{Policies: policies, Authorities: []access.Authority{tunnel{}}},
		Sidecars:   []string{"proxy"},
	}
}

const proxyPortOnly = "{podSelector: {matchLabels: {app: alpha}}, ingress: [{ports: [{port: 4143}]}]}"

func lines(m *reach.Map) string {
	var rows []reach.Row
	for row := range m.Rows() {
		rows = append(rows, row)
	}
	return reach.Table(rows)
}

func TestTheWalkthroughIsToldBeforeAndAfter(t *testing.T) {
	t.Parallel()
	survey := walkthrough()
	survey.Proposed = &reach.Rules{Policies: []*networkingv1.NetworkPolicy{policy(t, "mesh-only", proxyPortOnly)}, Authorities: []access.Authority{tunnel{}}}
	want := strings.TrimPrefix(`
FROM                      TO                        PORT      VERDICT                WHY
Deployment client/plain   Deployment client/meshed  8080/TCP  allowed                no NetworkPolicy restricts it; nothing guards the port
Deployment db/alpha       Deployment client/meshed  8080/TCP  allowed                no NetworkPolicy restricts it; nothing guards the port
Deployment client/meshed  Deployment client/plain   8080/TCP  allowed                no NetworkPolicy restricts it
Deployment db/alpha       Deployment client/plain   8080/TCP  allowed                no NetworkPolicy restricts it
Deployment client/meshed  Deployment db/alpha       8080/TCP  allowed                ingress rule 1 of NetworkPolicy db/mesh-only allows it; nothing guards the port
Deployment client/plain   Deployment db/alpha       8080/TCP  refused (was allowed)  no ingress rule of NetworkPolicy db/mesh-only allows it; nothing guards the port
Deployment db/alpha       Deployment db/alpha       8080/TCP  allowed                ingress rule 1 of NetworkPolicy db/mesh-only allows it; nothing guards the port
`, "\n")
	if got := lines(draw(t, survey)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPodsOfOneOwnerSplitWhereSomethingTellsThemApart(t *testing.T) {
	t.Parallel()
	survey := walkthrough(policy(t, "mesh-only", proxyPortOnly))
	rolling := pods("db", "alpha", 5, false)
	for i, pod := range rolling {
		pod.Name = fmt.Sprintf("alpha-5c9-%d", i)
	}
	rolling[2].Status.Phase = corev1.PodSucceeded
	rolling[3].Status.Phase = corev1.PodFailed
	rolling[4].DeletionTimestamp = &metav1.Time{}
	stray := &corev1.Pod{Status: addressed, ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "stray", OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "not-its-controller"}}}}
	set := &corev1.Pod{Status: addressed, ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "zero-0", OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "zero", Controller: new(true)}}}}
	survey.Pods = append(survey.Pods, append(rolling, stray, set)...)
	survey.Within = []string{"db"}
	var parties []string
	for row := range draw(t, survey).Rows() {
		parties = append(parties, row.From.String())
	}
	slices.Sort(parties)
	want := []string{"Deployment db/alpha (alpha-5c9-0 and 1 more)", "Deployment db/alpha (alpha-7d4-0 and 1 more)", "Pod db/stray", "StatefulSet db/zero"}
	if got := slices.Compact(parties); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRowsAreAboutThePortsAskedFor(t *testing.T) {
	t.Parallel()
	survey := walkthrough()
	survey.Within = []string{"client"}
	survey.Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	gateway := pods("client", "gateway", 1, false)[0]
	gateway.Spec.Containers[0].Name = "proxy"
	survey.Pods = append(survey.Pods, gateway)
	for want, asked := range map[string][]reach.Port{
		// The proxy is all there is of a gateway; an address declares nothing.
		"Deployment client/gateway 8080/TCP, Deployment client/meshed 8080/TCP, Deployment client/plain 8080/TCP":               nil,
		"203.0.113.9 53/UDP, Deployment client/gateway 53/UDP, Deployment client/meshed 53/UDP, Deployment client/plain 53/UDP": {{Protocol: corev1.ProtocolUDP, Number: 53}},
		"Deployment client/meshed 4143/TCP": {{Protocol: corev1.ProtocolTCP, Name: "proxy"}},
	} {
		survey.Ports = asked
		var called []string
		for row := range draw(t, survey).Rows() {
			called = append(called, fmt.Sprintf("%s %d/%s", row.To, row.Port.Number, row.Port.Protocol))
		}
		slices.Sort(called)
		if got := strings.Join(slices.Compact(called), ", "); got != want {
			t.Errorf("asked for %v: got %s, want %s", asked, got, want)
		}
	}
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	db := reach.Selector{Namespace: "db", PodLabels: map[string]string{"app": "alpha"}}
	client := func(name string) reach.Selector { return reach.Selector{Namespace: "client", Name: name} }
	network := func(text string) reach.Selector { return reach.Selector{Network: netip.MustParsePrefix(text)} }
	http := reach.Port{Protocol: corev1.ProtocolTCP, Number: 8080}
	survey := walkthrough(
		policy(t, "mesh-only", proxyPortOnly),
		policy(t, "offices", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.64/26]}}], ports: [{port: http}, {port: 9090}]}]}"))
	survey.Rules.Authorities = []access.Authority{tunnel{guarded: []int32{9090}, networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.16/28")}}}
	drawn := draw(t, survey)
	for name, test := range map[string]struct {
		reach.Expectation
		met    bool
		reason string
	}{
		"in by the mesh":        {reach.Expectation{From: client("meshed"), To: db, Port: http, Allowed: true}, true, "ingress rule 1 of NetworkPolicy db/mesh-only"},
		"by the name of a pod":  {reach.Expectation{From: client("meshed-7d4-0"), To: db, Port: http, Allowed: true}, true, "ingress rule 1"},
		"by the name of a port": {reach.Expectation{From: client("meshed"), To: db, Port: reach.Port{Protocol: corev1.ProtocolTCP, Name: "http"}, Allowed: true}, true, "ingress rule 1"},
		"no such port":          {reach.Expectation{From: client("meshed"), To: db, Port: reach.Port{Protocol: corev1.ProtocolUDP, Name: "http"}, Allowed: true}, false, "Deployment db/alpha declares no port http/UDP"},
		"out without":           {reach.Expectation{From: client("plain"), To: db, Port: http}, true, "no ingress rule of NetworkPolicy db/mesh-only or db/offices allows it"},
		"in without":            {reach.Expectation{From: client("plain"), To: db, Port: http, Allowed: true}, false, "Deployment client/plain does not reach Deployment db/alpha on 8080/TCP: no ingress rule"},
		"all clients differ":    {reach.Expectation{From: reach.Selector{Namespace: "client"}, To: db, Port: http}, false, "Deployment client/meshed reaches Deployment db/alpha on 8080/TCP"},
		"whoever is meshed":     {reach.Expectation{From: reach.Selector{Meshed: new(true)}, To: db, Port: http, Allowed: true}, true, "ingress rule 1"},
		"whoever is not":        {reach.Expectation{From: reach.Selector{Meshed: new(false)}, To: db, Port: http}, true, "no ingress rule"},
		"nobody calls":          {reach.Expectation{From: client("gone"), To: db, Port: http}, false, "there are no pods of gone in namespace client"},
		"nobody is called":      {reach.Expectation{From: client("plain"), To: reach.Selector{PodLabels: map[string]string{"app": "gone"}}, Port: http}, false, "there are no pods with app=gone"},
		"only itself":           {reach.Expectation{From: client("plain"), To: client("plain"), Port: http, Allowed: true}, false, "there is no connection but of a pod with itself"},
		"one of two":            {reach.Expectation{From: reach.Selector{Name: "alpha-7d4-1"}, To: db, Port: http, Allowed: true}, true, "ingress rule 1"},
		"part of a network":     {reach.Expectation{From: network("203.0.113.32/27"), To: db, Port: http, Allowed: true}, true, "ingress rule 1 of NetworkPolicy db/offices"},
		"not all of a network":  {reach.Expectation{From: network("203.0.113.32/26"), To: db, Port: http, Allowed: true}, true, "offices"},
		"an exception in it":    {reach.Expectation{From: network("203.0.113.0/24"), To: db, Port: http, Allowed: true}, false, "203.0.113.64 does not reach Deployment db/alpha"},
		"behind the network":    {reach.Expectation{From: network("203.0.112.0/22"), To: db, Port: http}, false, "203.0.113.0 reaches Deployment db/alpha"},
		"after the network":     {reach.Expectation{From: network("203.0.114.0/24"), To: db, Port: http}, true, "no ingress rule"},
		"where it ends":         {reach.Expectation{From: network("203.0.113.128/25"), To: db, Port: http, Allowed: true}, true, "offices"},
		"told apart by a mesh":  {reach.Expectation{From: network("203.0.113.0/26"), To: db, Port: reach.Port{Protocol: corev1.ProtocolTCP, Number: 9090}}, false, "203.0.113.16 reaches by some requests Deployment db/alpha on 9090/TCP"},
		"partly is in":          {reach.Expectation{From: network("203.0.113.17/32"), To: db, Port: reach.Port{Protocol: corev1.ProtocolTCP, Number: 9090}, Allowed: true}, true, "its network is let in for probes"},
		"the mesh refuses":      {reach.Expectation{From: network("203.0.113.1/32"), To: db, Port: reach.Port{Protocol: corev1.ProtocolTCP, Number: 9090}}, true, "Server db/guard takes meshed callers only"},
		"out of the cluster":    {reach.Expectation{From: db, To: network("198.51.100.7/32"), Port: http, Allowed: true}, true, "no NetworkPolicy restricts it"},
		"both outside":          {reach.Expectation{From: network("198.51.100.7/32"), To: network("198.51.100.8/32"), Port: http}, false, "both ends are outside of the cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := drawn.Expect(test.Expectation); got.Met != test.met || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%s: got %v, want %t with %q", test.Expectation, got, test.met, test.reason)
			}
		})
	}
}

func TestExpectationsAreOfWhatIsProposed(t *testing.T) {
	t.Parallel()
	survey := walkthrough()
	expectation := reach.Expectation{
		From: reach.Selector{Name: "plain"}, To: reach.Selector{Name: "alpha"}, Port: reach.Port{Protocol: corev1.ProtocolTCP, Number: 8080},
	}
	if got := draw(t, survey).Expect(expectation); got.Met {
		t.Errorf("nothing refuses it, and %q is met: %s", expectation, got.Reason)
	}
	survey.Proposed = &reach.Rules{Policies: []*networkingv1.NetworkPolicy{policy(t, "mesh-only", proxyPortOnly)}}
	if got := draw(t, survey).Expect(expectation); !got.Met {
		t.Errorf("%q is not met: %s", expectation, got.Reason)
	}
}

func TestPropose(t *testing.T) {
	t.Parallel()
	live := []*networkingv1.NetworkPolicy{policy(t, "a", "{podSelector: {}}"), policy(t, "b", "{podSelector: {}}"), policy(t, "c", "{podSelector: {}}")}
	replaced := policy(t, "b", "{podSelector: {}, ingress: [{}]}")
	got := reach.Propose(live, []*networkingv1.NetworkPolicy{replaced}, []types.NamespacedName{{Namespace: "db", Name: "a"}, {Namespace: "other", Name: "c"}})
	if len(got) != 2 || got[0] != live[2] || got[1] != replaced {
		t.Errorf("got %v, want db/c as it is and db/b replaced", got)
	}
	if len(live) != 3 || live[0] == nil {
		t.Errorf("the live policies were changed: %v", live)
	}
}

// guard is a kind of a mesh.
var guard = kube.Kind{Group: "mesh.example", Version: "v1", Resource: "guards", Name: "Guard", Namespaced: true}

func TestCandidatesOfBothLayers(t *testing.T) {
	t.Parallel()
	const text = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %[1]s, namespace: db}, spec: {podSelector: {}}}\n---\n" +
		"{apiVersion: mesh.example/v1beta1, kind: Guard, metadata: {name: %[1]s, namespace: db}}"
	var all reach.Candidates
	for _, name := range []string{"a", "b"} {
		read, err := reach.ParseCandidates(fmt.Sprintf(text, name), []kube.Kind{guard})
		if err == nil {
			err = all.Add(read)
		}
		if err != nil || len(read.Policies) != 1 || read.Policies[0].Name != name || len(read.Others) != 1 || read.Others[0].GetName() != name {
			t.Fatalf("got %v, %v", read, err)
		}
		if err := all.Add(reach.Candidates{Policies: read.Policies}); err == nil || !strings.Contains(err.Error(), "NetworkPolicy db/"+name+": another candidate") {
			t.Errorf("the same policy again: got %v", err)
		}
		if err := all.Add(reach.Candidates{Others: read.Others}); err == nil || !strings.Contains(err.Error(), "Guard db/"+name+": another candidate") {
			t.Errorf("the same guard again: got %v", err)
		}
	}
	if len(all.Policies) != 2 || len(all.Others) != 2 {
		t.Errorf("got %v, want two of each", all)
	}
}

func TestCandidatesThatAreNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":     "it has no objects",
		"a: [": "document 1",
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: db}}":                                                                                                                      "document 1 (line 1): a ConfigMap cannot be a candidate: only NetworkPolicy.networking.k8s.io, Guard.mesh.example can",
		"{apiVersion: crd.projectcalico.org/v1, kind: NetworkPolicy, metadata: {name: x, namespace: db}}":                                                                                            "NetworkPolicy.crd.projectcalico.org",
		"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: db}, spec: {podSelector: {}}}":                                                                                "no name",
		"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}, spec: {podSelector: {}}}":                                                                                      "no namespace",
		"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x, namespace: db}, spec: {podSelectors: {}}}":                                                                      `unknown field "spec.podSelectors"`,
		"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x, namespace: db}, spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}}":                     "ingress rule 1: peer 1: ipBlock",
		"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x, namespace: db}, spec: {podSelector: {}}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: db}}": "document 2 (line 3)",
	} {
		if _, err := reach.ParseCandidates(text, []kube.Kind{guard}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"8080": "8080/TCP", "53/udp": "53/UDP", "http": "http/TCP", "9999/SCTP": "9999/SCTP"} {
		if got, err := reach.ParsePort(text); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65536", "-1", "80/ICMP", "80/", "Upper", "a-name-of-more-than-15", "99999999999"} {
		if got, err := reach.ParsePort(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}

func TestMalformedPoliciesAreNamed(t *testing.T) {
	t.Parallel()
	broken := policy(t, "broken", "{podSelector: {}, ingress: [{}]}")
	broken.Spec.Ingress[0].From = []networkingv1.NetworkPolicyPeer{{}}
	for _, survey := range []reach.Survey{walkthrough(broken), {Proposed: &reach.Rules{Policies: []*networkingv1.NetworkPolicy{broken}}}} {
		if _, err := survey.Draw(); err == nil || !strings.Contains(err.Error(), "NetworkPolicy db/broken: ingress rule 1") {
			t.Errorf("got %v", err)
		}
	}
}

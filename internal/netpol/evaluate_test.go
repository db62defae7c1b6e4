package netpol_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// pod is `namespace/name` with the label app=<name>, in a namespace labelled
// team=<namespace>.
func pod(id string) netpol.Endpoint {
	namespace, name, _ := strings.Cut(id, "/")
	return netpol.Endpoint{
		Namespace: namespace, NamespaceLabels: map[string]string{"team": namespace},
		Name: name, Labels: map[string]string{"app": name},
		IPs:   []netip.Addr{netip.MustParseAddr("10.1.2.3")},
		Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}},
	}
}

func tcp(number int32) netpol.Port { return netpol.Port{Protocol: corev1.ProtocolTCP, Number: number} }

// TestEvaluate goes through the sentences of the API's documentation one by one.
// Policies are named p0, p1 and so on, in namespace db; the connection goes from client/web
// to db/alpha:8080 unless told otherwise.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	host := pod("client/web")
	host.HostNetwork = true
	hostTarget := pod("db/alpha")
	hostTarget.HostNetwork = true
	dual := func(id string) netpol.Endpoint {
		end := pod(id)
		end.IPs = addresses("10.1.2.3", "fd00::3")
		return end
	}
	withPorts := func(ports ...corev1.ContainerPort) netpol.Endpoint {
		end := pod("db/alpha")
		end.Ports = ports
		return end
	}
	outside := func(ip string) netpol.Endpoint {
		return netpol.Endpoint{IPs: addresses(ip)}
	}
	for name, test := range map[string]struct {
		specs    []string
		from, to netpol.Endpoint
		port     netpol.Port
		want     bool
		reason   string
	}{
		"no policy":                       {want: true, reason: "no NetworkPolicy restricts it"},
		"selects another pod":             {specs: []string{`{podSelector: {matchLabels: {app: zero}}}`}, want: true},
		"deny all":                        {specs: []string{`{podSelector: {}}`}, reason: "no ingress rule of NetworkPolicy db/p0 allows it"},
		"allow all":                       {specs: []string{`{podSelector: {}, ingress: [{}]}`}, want: true, reason: "ingress rule 1 of NetworkPolicy db/p0"},
		"policies add up":                 {specs: []string{`{podSelector: {}}`, `{podSelector: {}, ingress: [{}]}`}, want: true},
		"egress only":                     {specs: []string{`{podSelector: {}, policyTypes: [Egress]}`}, want: true},
		"egress rules, no types":          {specs: []string{`{podSelector: {}, egress: [{}]}`}, reason: "ingress"},
		"its own egress":                  {specs: []string{`{podSelector: {}, policyTypes: [Egress]}`}, from: pod("db/web"), to: pod("client/web"), reason: "no egress rule"},
		"egress rules default to egress":  {specs: []string{`{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}`}, from: pod("db/web"), to: pod("client/web")},
		"egress to the peer":              {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: client}}}], ports: [{port: web}]}]}`}, from: pod("db/web"), to: pod("client/web"), want: true},
		"itself":                          {specs: []string{`{podSelector: {}}`}, from: pod("db/alpha"), want: true, reason: "itself"},
		"pod selector is of its ns":       {specs: []string{`{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`}},
		"pod selector in its ns":          {specs: []string{`{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: zero}}}]}]}`}, from: pod("db/zero"), want: true},
		"any namespace":                   {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, want: true},
		"namespace by name":               {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: client}}}]}]}`}, want: true},
		"both selectors":                  {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]}`}, want: true},
		"both selectors, wrong pod":       {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: client}}, podSelector: {matchLabels: {app: api}}}]}]}`}},
		"two peers are alternatives":      {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: client}}}, {podSelector: {matchLabels: {app: api}}}]}]}`}, want: true},
		"expressions":                     {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}]}`}},
		"port":                            {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}`}, want: true},
		"other port":                      {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 9080}]}]}`}},
		"port and peer are both needed":   {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8080}], from: [{podSelector: {}}]}]}`}},
		"rules are alternatives":          {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 9080}]}, {ports: [{port: 8080}]}]}`}, want: true, reason: "rule 2"},
		"range":                           {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8000, endPort: 8080}]}]}`}, want: true},
		"beyond the range":                {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8000, endPort: 8079}]}]}`}},
		"protocol defaults to TCP":        {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}`}, port: netpol.Port{Protocol: corev1.ProtocolUDP, Number: 8080}},
		"every port of a protocol":        {specs: []string{`{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`}, port: netpol.Port{Protocol: corev1.ProtocolUDP, Number: 7}, want: true},
		"named port":                      {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: web}]}]}`}, want: true},
		"named port of another number":    {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: web}]}]}`}, port: tcp(8081)},
		"named port of another protocol":  {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: dns}]}]}`}, port: tcp(53)},
		"named UDP port":                  {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}`}, port: netpol.Port{Protocol: corev1.ProtocolUDP, Number: 53}, want: true},
		"block":                           {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`}, from: outside("203.0.113.9"), want: true},
		"outside the block":               {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`}, from: outside("203.0.114.9")},
		"excepted from the block":         {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/28]}}]}]}`}, from: outside("203.0.113.9")},
		"selectors miss the outside":      {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, from: outside("203.0.113.9")},
		"selectors miss the host network": {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, from: host},
		"host network is not governed":    {specs: []string{`{podSelector: {}}`}, to: hostTarget, want: true, reason: "no NetworkPolicy restricts it"},
		"absent rules and empty ones":     {specs: []string{`{podSelector: {}, policyTypes: [Ingress], ingress: []}`}, reason: "no ingress rule of NetworkPolicy db/p0 allows it"},
		"empty lists in a rule":           {specs: []string{`{podSelector: {}, ingress: [{from: [], ports: []}]}`}, want: true},
		"empty list of types":             {specs: []string{`{podSelector: {}, policyTypes: []}`}},
		"rules of another type":           {specs: []string{`{podSelector: {}, policyTypes: [Egress], ingress: [{ports: [{port: 1}]}]}`}, want: true},
		"the first of two policies":       {specs: []string{`{podSelector: {}, ingress: [{}]}`, `{podSelector: {}, ingress: [{}]}`}, want: true, reason: "db/p0"},
		"both directions":                 {specs: []string{`{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}`}, from: pod("db/web"), want: true, reason: "egress rule 1 of NetworkPolicy db/p0 allows it; ingress rule 1 of NetworkPolicy db/p0 allows it"},
		"neither direction":               {specs: []string{`{podSelector: {}, policyTypes: [Ingress, Egress]}`}, from: pod("db/web"), reason: "no egress rule of NetworkPolicy db/p0 allows it; no ingress rule of NetworkPolicy db/p0 allows it"},
		"not in, without the label":       {specs: []string{`{podSelector: {matchExpressions: [{key: x, operator: NotIn, values: [y]}]}}`}},
		"in, without the label":           {specs: []string{`{podSelector: {matchExpressions: [{key: x, operator: In, values: [""]}]}}`}, want: true},
		"an empty value is a value":       {specs: []string{`{podSelector: {matchLabels: {x: ""}}}`}, want: true},
		"exists":                          {specs: []string{`{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}`}},
		"does not exist":                  {specs: []string{`{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}`}, want: true},
		"all expressions":                 {specs: []string{`{podSelector: {matchLabels: {app: alpha}, matchExpressions: [{key: app, operator: DoesNotExist}]}}`}, want: true},
		"pods without a name":             {specs: []string{`{podSelector: {}}`}, from: netpol.Endpoint{Namespace: "db", IPs: addresses("10.1.2.3")}, to: netpol.Endpoint{Namespace: "db", IPs: addresses("10.1.2.4")}},
		"a pod's own port has two names":  {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: http}]}]}`}, to: withPorts(corev1.ContainerPort{Name: "web", ContainerPort: 8080}, corev1.ContainerPort{Name: "http", ContainerPort: 8080}), want: true},
		"a name that two containers use":  {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: web}]}]}`}, to: withPorts(corev1.ContainerPort{Name: "web", ContainerPort: 80}, corev1.ContainerPort{Name: "web", ContainerPort: 8080}), want: true},
		"egress names the peer's port":    {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}`}, from: netpol.Endpoint{Namespace: "db", Name: "bare", IPs: addresses("10.1.2.3")}, to: pod("client/web"), want: true},
		"not the source's":                {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}`}, from: pod("db/alpha"), to: netpol.Endpoint{Namespace: "client", Name: "bare", IPs: addresses("10.1.2.3")}},
		"the outside has no named ports":  {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}`}, from: pod("db/alpha"), to: outside("203.0.113.9")},
		"nor has a node's address":        {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}`}, from: pod("db/web"), to: hostTarget},
		"SCTP":                            {specs: []string{`{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 8080}]}]}`}, port: netpol.Port{Protocol: corev1.ProtocolSCTP, Number: 8080}, want: true},
		"no protocol is TCP":              {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: web}]}]}`}, port: netpol.Port{Number: 8080}, want: true},
		"both ends of a range":            {specs: []string{`{podSelector: {}, ingress: [{ports: [{port: 8080, endPort: 8080}]}]}`}, want: true},
		"a pod's address":                 {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/32}}]}]}`}, want: true},
		"a node's address":                {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/32}}]}]}`}, from: host, want: true},
		"egress to a node's address":      {specs: []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.1.2.3/32}}]}]}`}, from: pod("db/web"), to: hostTarget, want: true},
		"no address":                      {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`}, from: netpol.Endpoint{Namespace: "client", IPs: []netip.Addr{}}},
		"no address, but a label":         {specs: []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, from: netpol.Endpoint{Namespace: "client", IPs: []netip.Addr{}}, want: true},
		"IPv4 as IPv6":                    {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}`}, from: outside("::ffff:203.0.113.9"), want: true},
		"a block of IPv4 as IPv6":         {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::ffff:203.0.113.0/120"}}]}]}`}, from: outside("203.0.113.9"), want: true},
		"all of IPv6 is without IPv4":     {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}`}, from: outside("203.0.113.9")},
		"all of IPv4 is without IPv6":     {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`}, from: outside("2001:db8::1")},
		"an address with a zone":          {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "fe80::/10"}}]}]}`}, from: outside("fe80::1%eth0"), want: true},
		"bits beyond the prefix":          {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.77/24}}]}]}`}, from: outside("203.0.113.9"), want: true},
		"leading zeros are decimal":       {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 010.0.0.0/8}}]}]}`}, want: true},
		"excepted, but in another block":  {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/28]}}, {ipBlock: {cidr: 203.0.113.8/29}}]}]}`}, from: outside("203.0.113.9"), want: true},
		"one family suffices":             {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "fd00::/64"}}]}]}`}, from: dual("client/web"), to: dual("db/alpha"), want: true},
		"but the other end must have it":  {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "fd00::/64"}}]}]}`}, from: dual("client/web"), to: pod("db/alpha")},
		"and allow it too":                {specs: []string{`{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: "fd00::/64"}}]}], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}`}, from: dual("db/web"), to: dual("db/alpha"), reason: "no ingress rule"},
		"no family in common":             {specs: []string{`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "2001:db8::/32"}}]}]}`}, from: outside("2001:db8::1"), want: true},
		"the outside is not governed":     {specs: []string{`{podSelector: {}, policyTypes: [Egress]}`}, to: outside("203.0.113.9"), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.from.IPs == nil {
				test.from = pod("client/web")
			}
			if test.to.IPs == nil {
				test.to = pod("db/alpha")
			}
			if test.port.Number == 0 {
				test.port = tcp(8080)
			}
			var policies []*networkingv1.NetworkPolicy
			for i, spec := range test.specs {
				policies = append(policies, policy(t, "db", fmt.Sprintf("p%d", i), spec))
			}
			verdict := compile(t, policies...).Evaluate(test.from, test.to, test.port)
			if verdict.Allowed != test.want || !strings.Contains(verdict.Reason(), test.reason) {
				t.Errorf("verdict %+v, want %t because %q", verdict, test.want, test.reason)
			}
		})
	}
}

// TestEvaluateOtherNamespaces is about policies that are no business of either
// end, and about one pod's that restrict another of the same labels.
func TestEvaluateOtherNamespaces(t *testing.T) {
	t.Parallel()
	policies := compile(t,
		policy(t, "client", "closed", `{podSelector: {}}`),
		policy(t, "third", "closed", `{podSelector: {}, policyTypes: [Ingress, Egress]}`))
	for to, want := range map[string]bool{"db/alpha": true, "client/alpha": false, "third/alpha": false} {
		if verdict := policies.Evaluate(pod("client/web"), pod(to), tcp(8080)); verdict.Allowed != want {
			t.Errorf("%s: %s", to, verdict.Reason())
		}
	}
}

// TestBlocksAreOutside holds that no pod and no node is matched by its address then.
func TestBlocksAreOutside(t *testing.T) {
	t.Parallel()
	object := policy(t, "db", "p", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`)
	told := compile(t, object)
	outside, err := netpol.Compile([]*networkingv1.NetworkPolicy{object}, netpol.BlocksAreOutside())
	if err != nil {
		t.Fatal(err)
	}
	to, onNode := pod("db/alpha"), pod("client/web")
	onNode.HostNetwork = true
	address := netpol.Endpoint{IPs: addresses("203.0.113.1")}
	for name, test := range map[string]struct {
		from netpol.Endpoint
		want bool
	}{"pod": {pod("client/web"), false}, "pod of the node's network": {onNode, false}, "address outside": {address, true}} {
		if got := told.Evaluate(test.from, to, tcp(8080)).Allowed; !got {
			t.Errorf("%s: refused, by the text of the API", name)
		}
		if got := outside.Evaluate(test.from, to, tcp(8080)).Allowed; got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
	pods := pod("client/web")
	pods.IPs = address.IPs
	if outside.Class(pods) == outside.Class(address) {
		t.Error("a pod and an address outside are of one class")
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	name := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	policies := compile(t,
		policy(t, "db", "z", `{podSelector: {}}`),
		policy(t, "db", "a", `{podSelector: {}}`),
		policy(t, "db", "metrics", `{podSelector: {}, ingress: [{ports: [{port: 1}]}, {ports: [{port: 9090}]}]}`),
		policy(t, "client", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 8080}]}]}`))
	for name, test := range map[string]struct {
		port   netpol.Port
		want   netpol.Verdict
		reason string
	}{
		"refused by one end": {
			tcp(8080), netpol.Verdict{
				Egress:  netpol.Decision{Allowed: true, Policies: []types.NamespacedName{name("client", "out")}, Rule: 1},
				Ingress: netpol.Decision{Policies: []types.NamespacedName{name("db", "a"), name("db", "metrics"), name("db", "z")}},
			}, "no ingress rule of NetworkPolicy db/a or db/metrics or db/z allows it",
		},
		"refused by the other": {
			tcp(9090), netpol.Verdict{
				Egress:  netpol.Decision{Policies: []types.NamespacedName{name("client", "out")}},
				Ingress: netpol.Decision{Allowed: true, Policies: []types.NamespacedName{name("db", "metrics")}, Rule: 2},
			}, "no egress rule of NetworkPolicy client/out allows it",
		},
	} {
		verdict := policies.Evaluate(pod("client/web"), pod("db/alpha"), test.port)
		if !reflect.DeepEqual(verdict, test.want) || verdict.Reason() != test.reason {
			t.Errorf("%s: %+v\n%s", name, verdict, verdict.Reason())
		}
	}
}

// TestCompileRefuses what an API server refuses.
func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for spec, message := range map[string]string{
		`{podSelector: {matchExpressions: [{key: a, operator: Odd}]}}`:                                               "podSelector: ",
		`{podSelector: {matchLabels: {a b: c}}}`:                                                                     "podSelector: ",
		`{podSelector: {}, policyTypes: [ingress]}`:                                                                  `policyTypes: "ingress" is neither Ingress nor Egress`,
		`{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Odd}]}}]}]}`:       "ingress rule 1: peer 1: podSelector: ",
		`{podSelector: {}, egress: [{}, {to: [{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}]}]}`: "egress rule 2: peer 1: namespaceSelector: ",
		`{podSelector: {}, ingress: [{from: [{podSelector: {}}, {}]}]}`:                                              "peer 2: it selects nothing",
		`{podSelector: {}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}`:                     "selectors or an ipBlock, not both",
		`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}`:               "selectors or an ipBlock, not both",
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}`:                                        `ipBlock: "nonsense" is not a range`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}`:                                        `ipBlock: "10.0.0.1" is not a range`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [nonsense]}}]}]}`:                  `ipBlock: except: "nonsense" is not a range`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}`:                "10.0.0.0/8 is not within 10.0.0.0/8",
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}`:               "11.0.0.0/16 is not within 10.0.0.0/8",
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ["fd00::/64"]}}]}]}`:               "fd00::/64 is not within 10.0.0.0/8",
		`{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 0}]}]}`:                                             "ingress rule 1: port 2: 0 to 0 is not a range",
		`{podSelector: {}, ingress: [{ports: [{port: 65536}]}]}`:                                                     "is not a range within 1 to 65535",
		`{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}`:                                           "80 to 79 is not a range",
		`{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 65536}]}]}`:                                        "80 to 65536 is not a range",
		`{podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}`:                                                     "endPort takes a port with a number",
		`{podSelector: {}, ingress: [{ports: [{port: web, endPort: 80}]}]}`:                                          "endPort takes a port with a number",
		`{podSelector: {}, ingress: [{ports: [{port: Not-A-Name}]}]}`:                                                `"Not-A-Name" is not the name of a port: `,
		`{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}`:                                                  `protocol "ICMP" is none of TCP, UDP and SCTP`,
	} {
		_, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy(t, "ok", "ok", `{podSelector: {}}`), policy(t, "db", "p", spec)})
		if err == nil || !strings.HasPrefix(err.Error(), "NetworkPolicy db/p: ") || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	if _, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy(t, "", "p", `{podSelector: {}}`)}); err == nil {
		t.Error("a policy without a namespace compiles")
	}
}

func policy(t *testing.T, namespace, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	policy := &networkingv1.NetworkPolicy{}
	policy.Namespace, policy.Name = namespace, name
	if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
		t.Fatal(err)
	}
	return policy
}

func compile(t *testing.T, policies ...*networkingv1.NetworkPolicy) *netpol.Policies {
	t.Helper()
	compiled, err := netpol.Compile(policies)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

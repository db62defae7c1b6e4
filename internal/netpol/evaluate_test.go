package netpol_test

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
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
// Every policy is named p in namespace db; the connection goes from client/web
// to db/alpha:8080 unless told otherwise.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	host := pod("client/web")
	host.HostNetwork = true
	hostTarget := pod("db/alpha")
	hostTarget.HostNetwork = true
	outside := func(ip string) netpol.Endpoint {
		return netpol.Endpoint{IPs: []netip.Addr{netip.MustParseAddr(ip)}}
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
		"deny all":                        {specs: []string{`{podSelector: {}}`}, reason: "no ingress rule of NetworkPolicy db/p allows it"},
		"allow all":                       {specs: []string{`{podSelector: {}, ingress: [{}]}`}, want: true, reason: "ingress rule 1 of NetworkPolicy db/p"},
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
			verdict, err := netpol.Evaluate(policies(t, test.specs...), test.from, test.to, test.port)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Allowed != test.want || !strings.Contains(verdict.Reason(), test.reason) {
				t.Errorf("verdict %+v, want %t because %q", verdict, test.want, test.reason)
			}
		})
	}
}

func TestEvaluateRefuses(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{
		`{podSelector: {matchExpressions: [{key: a, operator: Odd}]}}`,
		`{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Odd}]}, namespaceSelector: {}}]}]}`,
		`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: Odd}]}}]}]}`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}`,
		`{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [nonsense]}}]}]}`,
	} {
		verdict, err := netpol.Evaluate(policies(t, spec), pod("client/web"), pod("db/alpha"), tcp(80))
		if err == nil || verdict.Allowed || !strings.Contains(err.Error(), "NetworkPolicy db/p") {
			t.Errorf("%s: %+v, %v", spec, verdict, err)
		}
	}
}

func policies(t *testing.T, specs ...string) []networkingv1.NetworkPolicy {
	t.Helper()
	list := make([]networkingv1.NetworkPolicy, len(specs))
	for i, spec := range specs {
		list[i].Namespace, list[i].Name = "db", "p"
		if err := yaml.UnmarshalStrict([]byte(spec), &list[i].Spec); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

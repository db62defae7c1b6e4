package netpol_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// TestDocumented has the kinds of policies that Kubernetes' own documentation
// explains (concepts/services-networking/network-policies), and what it says of
// them. A connection is written "from to [protocol/]port"; what is not a known
// pod is an address.
func TestDocumented(t *testing.T) {
	t.Parallel()
	namespaceLabels := map[string]map[string]string{
		"default":  nil,
		"partner":  {"project": "myproject"},
		"frontend": {"namespace": "frontend"},
		"backend":  {"namespace": "backend"},
	}
	ends := map[string]netpol.Endpoint{}
	for id, labels := range map[string]map[string]string{
		"default/db":       {"role": "db"},
		"default/frontend": {"role": "frontend"},
		"default/other":    {"role": "other"},
		"partner/frontend": {"role": "frontend"},
		"partner/other":    {"role": "other"},
		"frontend/client":  {"role": "client"},
		"frontend/other":   {"role": "other"},
		"backend/client":   {"role": "client"},
	} {
		namespace, name, _ := strings.Cut(id, "/")
		ends[id] = netpol.Endpoint{
			Namespace: namespace, NamespaceLabels: namespaceLabels[namespace], Name: name, Labels: labels,
			IPs: addresses("192.168.7.7"),
		}
	}
	for name, test := range map[string]struct {
		policy          string
		allowed, denied []string
	}{
		"nothing": {
			`null`,
			[]string{"partner/other default/db 80", "203.0.113.9 default/db 80", "default/db 203.0.113.9 80"},
			nil,
		},
		"deny all ingress": {
			`{podSelector: {}, policyTypes: [Ingress]}`,
			[]string{"default/db partner/other 80", "default/db 203.0.113.9 80", "default/db default/db 80", "partner/other partner/frontend 80"},
			[]string{"default/other default/db 80", "partner/other default/db 80", "203.0.113.9 default/db 80", "partner/other default/db UDP/53", "partner/other default/db SCTP/7"},
		},
		"allow all ingress": {
			`{podSelector: {}, ingress: [{}], policyTypes: [Ingress]}`,
			[]string{"partner/other default/db 80", "203.0.113.9 default/db 80", "default/db 203.0.113.9 80"},
			nil,
		},
		"deny all egress": {
			`{podSelector: {}, policyTypes: [Egress]}`,
			[]string{"partner/other default/db 80", "203.0.113.9 default/db 80", "default/db default/db 80"},
			[]string{"default/db default/other 80", "default/db partner/other 80", "default/db 203.0.113.9 80", "default/db 203.0.113.9 UDP/53"},
		},
		"allow all egress": {
			`{podSelector: {}, egress: [{}], policyTypes: [Egress]}`,
			[]string{"default/db partner/other 80", "default/db 203.0.113.9 80", "partner/other default/db 80"},
			nil,
		},
		"deny all ingress and egress": {
			`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
			[]string{"partner/other partner/frontend 80", "default/db default/db 80"},
			[]string{"partner/other default/db 80", "default/db partner/other 80", "default/db 203.0.113.9 80", "203.0.113.9 default/db 80", "default/db default/other 80"},
		},
		"the one with everything": {
			`{podSelector: {matchLabels: {role: db}}, policyTypes: [Ingress, Egress],
				ingress: [{
					from: [
						{ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}},
						{namespaceSelector: {matchLabels: {project: myproject}}},
						{podSelector: {matchLabels: {role: frontend}}}],
					ports: [{protocol: TCP, port: 6379}]}],
				egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{protocol: TCP, port: 5978}]}]}`,
			[]string{
				"default/frontend default/db 6379", "partner/other default/db 6379", "partner/frontend default/db 6379",
				"172.17.0.0 default/db 6379", "172.17.0.255 default/db 6379", "172.17.2.0 default/db 6379", "172.17.255.255 default/db 6379",
				"default/db 10.0.0.0 5978", "default/db 10.0.0.255 5978",
				"default/other default/frontend 6379",
			},
			[]string{
				"default/other default/db 6379", "frontend/client default/db 6379", "172.17.1.0 default/db 6379", "172.17.1.255 default/db 6379",
				"172.16.255.255 default/db 6379", "172.18.0.0 default/db 6379", "default/frontend default/db 6380", "default/frontend default/db UDP/6379",
				"default/db 10.0.1.0 5978", "default/db 10.0.0.1 5979", "default/db 10.0.0.1 UDP/5978", "default/db default/frontend 5978",
			},
		},
		"either of two selectors": {
			`{podSelector: {matchLabels: {role: db}}, ingress: [{from: [
				{namespaceSelector: {matchLabels: {project: myproject}}},
				{podSelector: {matchLabels: {role: frontend}}}]}]}`,
			[]string{"partner/other default/db 80", "default/frontend default/db 80", "partner/frontend default/db 80"},
			[]string{"default/other default/db 80", "frontend/other default/db 80"},
		},
		"both of two selectors": {
			`{podSelector: {matchLabels: {role: db}}, ingress: [{from: [
				{namespaceSelector: {matchLabels: {project: myproject}}, podSelector: {matchLabels: {role: frontend}}}]}]}`,
			[]string{"partner/frontend default/db 80"},
			[]string{"partner/other default/db 80", "default/frontend default/db 80", "default/other default/db 80"},
		},
		"a range of ports": {
			`{podSelector: {matchLabels: {role: db}}, policyTypes: [Egress],
				egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{protocol: TCP, port: 32000, endPort: 32768}]}]}`,
			[]string{"default/db 10.0.0.9 32000", "default/db 10.0.0.9 32500", "default/db 10.0.0.9 32768"},
			[]string{"default/db 10.0.0.9 31999", "default/db 10.0.0.9 32769", "default/db 10.0.0.9 UDP/32500", "default/db 10.0.1.9 32500"},
		},
		"several namespaces by label": {
			`{podSelector: {matchLabels: {role: db}}, policyTypes: [Egress],
				egress: [{to: [{namespaceSelector: {matchExpressions: [{key: namespace, operator: In, values: [frontend, backend]}]}}]}]}`,
			[]string{"default/db frontend/other 80", "default/db backend/client 80"},
			[]string{"default/db partner/other 80", "default/db default/other 80", "default/db 203.0.113.9 80"},
		},
		"a namespace by name": {
			`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: frontend}}}]}]}`,
			[]string{"frontend/client default/db 80", "frontend/other default/db 80"},
			[]string{"backend/client default/db 80", "default/other default/db 80", "203.0.113.9 default/db 80"},
		},
		"every namespace, and nothing outside": {
			`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`,
			[]string{"frontend/client default/db 80", "default/other default/db 80"},
			[]string{"203.0.113.9 default/db 80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var policies []*networkingv1.NetworkPolicy
			if test.policy != "null" {
				policies = append(policies, policy(t, "default", "p", test.policy))
			}
			compiled := compile(t, policies...)
			for _, want := range []bool{true, false} {
				connections := test.denied
				if want {
					connections = test.allowed
				}
				for _, connection := range connections {
					from, to, port := parseConnection(t, ends, connection)
					if verdict := compiled.Evaluate(from, to, port); verdict.Allowed != want {
						t.Errorf("%s: allowed is %t: %s", connection, verdict.Allowed, verdict.Reason())
					}
				}
			}
		})
	}
}

func parseConnection(t *testing.T, ends map[string]netpol.Endpoint, text string) (from, to netpol.Endpoint, port netpol.Port) {
	t.Helper()
	fields := strings.Fields(text)
	end := func(id string) netpol.Endpoint {
		if known, found := ends[id]; found {
			return known
		}
		return netpol.Endpoint{IPs: addresses(id)}
	}
	protocol, number, found := strings.Cut(fields[2], "/")
	if !found {
		protocol, number = string(corev1.ProtocolTCP), fields[2]
	}
	port.Protocol = corev1.Protocol(protocol)
	if err := yaml.Unmarshal([]byte(number), &port.Number); err != nil {
		t.Fatal(err)
	}
	return end(fields[0]), end(fields[1]), port
}

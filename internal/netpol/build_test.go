package netpol_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func labelled(key, value string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	policy, err := netpol.Build(netpol.Intent{
		Namespace: "dgraph", Name: "alpha",
		Labels: map[string]string{"app.kubernetes.io/managed-by": "aksmesh"},
		Pods:   labelled("component", "alpha"),
		Ingress: []netpol.Admission{
			{Peers: []netpol.Peer{{Pods: labelled("mesh", "yes")}}, Ports: netpol.TCP(9080, 8080, 9080)},
			{Peers: []netpol.Peer{netpol.InNamespace("dgraph", metav1.LabelSelector{}), {}}, Ports: netpol.TCP(7080)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	const want = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: aksmesh
  name: alpha
  namespace: dgraph
spec:
  ingress:
  - from:
    - namespaceSelector: {}
      podSelector:
        matchLabels:
          mesh: "yes"
    ports:
    - port: 8080
      protocol: TCP
    - port: 9080
      protocol: TCP
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: dgraph
      podSelector: {}
    - namespaceSelector: {}
      podSelector: {}
    ports:
    - port: 7080
      protocol: TCP
  podSelector:
    matchLabels:
      component: alpha
  policyTypes:
  - Ingress
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestBuildEverything has what TestBuild has not: egress, addresses, and rules
// about anyone and any port.
func TestBuildEverything(t *testing.T) {
	t.Parallel()
	policy, err := netpol.Build(netpol.Intent{
		Namespace: "dgraph", Name: "alpha",
		Ingress: []netpol.Admission{
			{Anyone: true, Ports: netpol.TCP(15008)},
			{Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}}, AnyPort: true},
		},
		RestrictEgress: true,
		Egress: []netpol.Admission{
			{Peers: []netpol.Peer{netpol.InNamespace("kube-system", labelled("k8s-app", "kube-dns"))}, Ports: []netpol.Port{
				{Protocol: corev1.ProtocolUDP, Number: 53},
				{Protocol: corev1.ProtocolTCP, Number: 53},
			}},
			{Anyone: true, AnyPort: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(policy.Spec)
	if err != nil {
		t.Fatal(err)
	}
	const want = `egress:
- ports:
  - port: 53
    protocol: TCP
  - port: 53
    protocol: UDP
  to:
  - namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: kube-system
    podSelector:
      matchLabels:
        k8s-app: kube-dns
- {}
ingress:
- ports:
  - port: 15008
    protocol: TCP
- from:
  - ipBlock:
      cidr: 10.0.0.0/8
      except:
      - 10.1.0.0/16
podSelector: {}
policyTypes:
- Ingress
- Egress
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy}); err != nil {
		t.Errorf("what was built cannot be read: %v", err)
	}
}

// TestBuildRestrictsEgress when it is told to, and only then.
func TestBuildRestrictsEgress(t *testing.T) {
	t.Parallel()
	for _, restrict := range []bool{true, false} {
		policy, err := netpol.Build(netpol.Intent{Namespace: "db", Name: "p", RestrictEgress: restrict})
		if err != nil {
			t.Fatal(err)
		}
		policies := compile(t, policy)
		if verdict := policies.Evaluate(pod("db/alpha"), pod("client/web"), tcp(8080)); verdict.Allowed == restrict {
			t.Errorf("with RestrictEgress %t: %s", restrict, verdict.Reason())
		}
		if verdict := policies.Evaluate(pod("client/web"), pod("db/alpha"), tcp(8080)); verdict.Allowed {
			t.Errorf("with RestrictEgress %t: %s", restrict, verdict.Reason())
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	everyone := []netpol.Peer{{}}
	for name, test := range map[string]struct {
		intent  netpol.Intent
		message string
	}{
		"no name":          {netpol.Intent{Namespace: "a"}, "needs a name"},
		"no namespace":     {netpol.Intent{Name: "a"}, "needs a name and a namespace"},
		"no peers":         {netpol.Intent{Ingress: []netpol.Admission{{Ports: netpol.TCP(80)}}}, "NetworkPolicy ns/n: ingress 1: it takes peers, or anyone, and not both"},
		"no ports":         {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone}}}, "ingress 1: it takes ports, or any port, and not both"},
		"peers and anyone": {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Anyone: true, Ports: netpol.TCP(80)}}}, "ingress 1: it takes peers, or anyone, and not both"},
		"ports and any":    {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Ports: netpol.TCP(80), AnyPort: true}}}, "ingress 1: it takes ports, or any port, and not both"},
		"open egress":      {netpol.Intent{Egress: []netpol.Admission{{Anyone: true, AnyPort: true}}}, "egress is admitted, but not restricted"},
		"bad egress":       {netpol.Intent{RestrictEgress: true, Egress: []netpol.Admission{{Anyone: true, AnyPort: true}, {}}}, "egress 2: it takes peers"},
		"pods and block":   {netpol.Intent{Ingress: []netpol.Admission{{Peers: []netpol.Peer{{Pods: labelled("a", "b"), Block: &netpol.Block{CIDR: "10.0.0.0/8"}}}, AnyPort: true}}}, "peer 1: it takes selectors or a block of addresses, not both"},
		"bad block":        {netpol.Intent{Ingress: []netpol.Admission{{Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "10.0.0.1"}}}, AnyPort: true}}}, `peer 1: "10.0.0.1" is not a range`},
		"port 0":           {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Ports: netpol.TCP(0)}}}, "port 0 is not within"},
		"port 65536":       {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Ports: netpol.TCP(65536)}}}, "port 65536 is not within"},
		"bad pods":         {netpol.Intent{Pods: labelled("a b", "c")}, "pod selector"},
		"bad peer": {netpol.Intent{Ingress: []netpol.Admission{{
			Peers: []netpol.Peer{{}, {Namespaces: metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn}},
			}}}, Ports: netpol.TCP(80),
		}}}, "peer 2"},
	} {
		if !strings.HasPrefix(name, "no name") {
			test.intent.Namespace, test.intent.Name = "ns", "n"
		}
		if name == "no namespace" {
			test.intent.Namespace = ""
		}
		if _, err := netpol.Build(test.intent); err == nil || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.message)
		}
	}
}

func TestBlockCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		block   netpol.Block
		message string
	}{
		"IPv4":              {netpol.Block{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "10.1.2.3/32"}}, ""},
		"IPv6":              {netpol.Block{CIDR: "2001:db8::/32", Except: []string{"2001:db8:1::/48"}}, ""},
		"no prefix":         {netpol.Block{CIDR: "10.0.0.0"}, `"10.0.0.0" is not a range of addresses`},
		"no exception":      {netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"x"}}, `except: "x" is not a range of addresses`},
		"elsewhere":         {netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"11.0.0.0/16"}}, "11.0.0.0/16 is not within 10.0.0.0/8"},
		"of another family": {netpol.Block{CIDR: "0.0.0.0/0", Except: []string{"::/1"}}, "::/1 is not within 0.0.0.0/0"},
		"all of it":         {netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.0.0.0/8"}}, "10.0.0.0/8 is not within 10.0.0.0/8"},
		"bits beyond":       {netpol.Block{CIDR: "10.0.0.1/8"}, "10.0.0.1/8 has to be written 10.0.0.0/8"},
		"leading zeros":     {netpol.Block{CIDR: "010.0.0.0/8"}, "has to be written 10.0.0.0/8"},
		"IPv4 as IPv6":      {netpol.Block{CIDR: "::ffff:10.0.0.0/104"}, "has to be written 10.0.0.0/8"},
		"long-winded":       {netpol.Block{CIDR: "2001:DB8:0::/32"}, "has to be written 2001:db8::/32"},
		"exceptions' bits":  {netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.1/16"}}, "10.1.0.1/16 has to be written 10.1.0.0/16"},
	} {
		switch err := test.block.Check(); {
		case test.message == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.message != "" && (err == nil || !strings.Contains(err.Error(), test.message)):
			t.Errorf("%s: error %v, want one with %q", name, err, test.message)
		}
	}
}

func TestBuildKeepsTheIntent(t *testing.T) {
	t.Parallel()
	intent := netpol.Intent{
		Namespace: "ns", Name: "n",
		Ingress: []netpol.Admission{{Peers: []netpol.Peer{{Pods: labelled("a", "b")}}, Ports: netpol.TCP(2, 1)}},
	}
	policy, err := netpol.Build(intent)
	if err != nil {
		t.Fatal(err)
	}
	policy.Spec.Ingress[0].From[0].PodSelector.MatchLabels["a"] = "changed"
	*policy.Spec.Ingress[0].Ports[0].Protocol = corev1.ProtocolUDP
	again, err := netpol.Build(intent)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Spec.Ingress[0].From[0].PodSelector.MatchLabels["a"]; got != "b" {
		t.Errorf("the intent's selector became %q", got)
	}
	if !slices.Equal(intent.Ingress[0].Ports, netpol.TCP(2, 1)) {
		t.Errorf("the intent's ports became %v", intent.Ingress[0].Ports)
	}
}

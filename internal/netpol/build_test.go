package netpol_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	everyone := []netpol.Peer{{}}
	for name, test := range map[string]struct {
		intent  netpol.Intent
		message string
	}{
		"no name":      {netpol.Intent{Namespace: "a"}, "needs a name"},
		"no namespace": {netpol.Intent{Name: "a"}, "needs a name and a namespace"},
		"no peers":     {netpol.Intent{Ingress: []netpol.Admission{{Ports: netpol.TCP(80)}}}, "NetworkPolicy ns/n: ingress 1: it takes peers, or anyone, and not both"},
		"no ports":     {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone}}}, "ingress 1: it takes ports, or any port, and not both"},
		"port 0":       {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Ports: netpol.TCP(0)}}}, "port 0 is not within"},
		"port 65536":   {netpol.Intent{Ingress: []netpol.Admission{{Peers: everyone, Ports: netpol.TCP(65536)}}}, "port 65536 is not within"},
		"bad pods":     {netpol.Intent{Pods: labelled("a b", "c")}, "pod selector"},
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

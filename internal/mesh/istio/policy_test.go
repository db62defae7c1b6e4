package istio_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func TestPolicyRules(t *testing.T) {
	t.Parallel()
	rules, err := istio.PolicyRules([]int32{9080, 8080})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := netpol.Build(netpol.Intent{Namespace: "dgraph", Name: "alpha", Admit: rules.Admit})
	if err != nil {
		t.Fatal(err)
	}
	if len(policy.Spec.Ingress) != 1 || len(policy.Spec.Ingress[0].Ports) != 2 || policy.Spec.Ingress[0].Ports[0].Port.IntValue() != 8080 {
		t.Fatalf("ingress %v, want one rule with the application's ports", policy.Spec.Ingress)
	}
	for name, test := range map[string]struct {
		pod  labels.Set
		want bool
	}{
		"sidecar":                   {labels.Set{"security.istio.io/tlsMode": "istio", "app": "client"}, true},
		"no sidecar":                {labels.Set{"app": "client"}, false},
		"sidecar without mTLS":      {labels.Set{"security.istio.io/tlsMode": "disabled"}, false},
		"ingress gateway":           {labels.Set{"istio": "ingressgateway"}, true},
		"egress gateway":            {labels.Set{"istio": "egressgateway"}, true},
		"istiod":                    {labels.Set{"istio": "pilot"}, false},
		"gateway of Istio":          {labels.Set{"gateway.networking.k8s.io/gateway-name": "g", "istio.io/dataplane-mode": "none"}, true},
		"gateway of somebody else":  {labels.Set{"gateway.networking.k8s.io/gateway-name": "g"}, false},
		"pod kept out of ambient":   {labels.Set{"istio.io/dataplane-mode": "none"}, false},
		"labelled for injection it": {labels.Set{"sidecar.istio.io/inject": "true"}, false},
	} {
		admitted := false
		for _, peer := range policy.Spec.Ingress[0].From {
			if peer.NamespaceSelector == nil || len(peer.NamespaceSelector.MatchLabels)+len(peer.NamespaceSelector.MatchExpressions) > 0 {
				t.Fatalf("peer %v does not reach into any namespace", peer)
			}
			selector, err := metav1.LabelSelectorAsSelector(peer.PodSelector)
			if err != nil {
				t.Fatal(err)
			}
			admitted = admitted || selector.Matches(test.pod)
		}
		if admitted != test.want {
			t.Errorf("%s: admitted %t", name, admitted)
		}
	}
	for _, text := range []string{"Ports 8080, 9080", "Whoever may label a pod", "STRICT"} {
		if !strings.Contains(rules.Guarantee, text) {
			t.Errorf("guarantee %q lacks %q", rules.Guarantee, text)
		}
	}
}

func TestPolicyRulesRefuses(t *testing.T) {
	t.Parallel()
	for name, ports := range map[string][]int32{"none": nil, "0": {0}, "the sidecar's": {8080, 15006}} {
		if _, err := istio.PolicyRules(ports); err == nil {
			t.Errorf("ports %s: accepted", name)
		}
	}
}

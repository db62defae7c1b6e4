package istio_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

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
	for name, test := range map[string]struct {
		pod  map[string]string
		want bool
	}{
		"sidecar":                  {map[string]string{"security.istio.io/tlsMode": "istio", "app": "client"}, true},
		"no sidecar":               {map[string]string{"app": "client"}, false},
		"sidecar without mTLS":     {map[string]string{"security.istio.io/tlsMode": "disabled"}, false},
		"ingress gateway":          {map[string]string{"istio": "ingressgateway"}, true},
		"egress gateway":           {map[string]string{"istio": "egressgateway"}, true},
		"istiod":                   {map[string]string{"istio": "pilot"}, false},
		"gateway of Istio":         {map[string]string{"gateway.networking.k8s.io/gateway-name": "g", "istio.io/dataplane-mode": "none"}, true},
		"gateway of somebody else": {map[string]string{"gateway.networking.k8s.io/gateway-name": "g"}, false},
		"pod kept out of ambient":  {map[string]string{"istio.io/dataplane-mode": "none"}, false},
		"labelled for injection":   {map[string]string{"sidecar.istio.io/inject": "true"}, false},
	} {
		client := netpol.Endpoint{Namespace: "elsewhere", Name: "client", Labels: test.pod}
		for port, open := range map[int32]bool{8080: true, 9080: true, 15006: false, 7080: false} {
			verdict, err := netpol.Evaluate([]networkingv1.NetworkPolicy{*policy}, client,
				netpol.Endpoint{Namespace: "dgraph", Name: "alpha"}, netpol.Port{Protocol: corev1.ProtocolTCP, Number: port})
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Allowed != (open && test.want) {
				t.Errorf("%s to port %d: %+v", name, port, verdict)
			}
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

package linkerd_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func TestTransportHeader(t *testing.T) {
	t.Parallel()
	mode := func(value any) map[string]any {
		return map[string]any{"proxy": map[string]any{"outboundTransportMode": value}}
	}
	for _, test := range []struct {
		version string
		values  map[string]any
		want    bool
	}{
		{"edge-26.8.3", nil, true},
		{"edge-26.8.3", map[string]any{"proxy": map[string]any{}}, true},
		{"edge-26.8.3", map[string]any{"proxy": "odd"}, true},
		{"edge-26.8.3", mode("transport-header"), true},
		{"edge-26.8.3", mode("transparent"), false},
		{"edge-26.8.3", mode("misspelt"), false},
		{"edge-26.8.3", mode(nil), false},
		{"edge-25.3.1", nil, false},
		{"edge-25.3.1", mode("transport-header"), false},
		{"stable-2.14.10", nil, false},
	} {
		version, err := linkerd.ParseVersion(test.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := linkerd.TransportHeader(version, test.values); got != test.want {
			t.Errorf("%s with %v: %t", test.version, test.values, got)
		}
	}
}

func TestPolicyRules(t *testing.T) {
	t.Parallel()
	meshed := func(controlPlane string) []netpol.Peer {
		return []netpol.Peer{{Pods: metav1.LabelSelector{MatchLabels: map[string]string{"linkerd.io/control-plane-ns": controlPlane}}}}
	}
	for name, test := range map[string]struct {
		options linkerd.PolicyOptions
		want    []netpol.Admission
		says    []string
	}{
		"transport header": {
			linkerd.PolicyOptions{Ports: []int32{9080, 8080}, TransportHeader: true},
			[]netpol.Admission{{From: meshed("linkerd"), Ports: []int32{4143}}},
			[]string{"Ports 8080, 9080 are closed", "behind 4143 all of them"},
		},
		"before": {
			linkerd.PolicyOptions{Ports: []int32{9080, 8080}, ControlPlane: "l5d"},
			[]netpol.Admission{{From: meshed("l5d"), Ports: []int32{8080, 9080, 4143}}},
			[]string{"Ports 8080, 9080", "Whoever may label a pod"},
		},
		"other ports skipped": {
			linkerd.PolicyOptions{Ports: []int32{8080}, SkipInboundPorts: []string{"5080", "7000-7100"}, TransportHeader: true},
			[]netpol.Admission{{From: meshed("linkerd"), Ports: []int32{4143}}},
			[]string{"bypass the proxy (5080, 7000-7100)"},
		},
	} {
		rules, err := linkerd.PolicyRules(test.options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(rules.Admit, test.want) {
			t.Errorf("%s: admits %v, want %v", name, rules.Admit, test.want)
		}
		for _, text := range test.says {
			if !strings.Contains(rules.Guarantee, text) {
				t.Errorf("%s: guarantee %q lacks %q", name, rules.Guarantee, text)
			}
		}
		if _, err := netpol.Build(netpol.Intent{Namespace: "ns", Name: "n", Admit: rules.Admit}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPolicyInForce asks who gets in, from any namespace, by the port that a
// client of each kind dials.
func TestPolicyInForce(t *testing.T) {
	t.Parallel()
	meshed, plain := map[string]string{"linkerd.io/control-plane-ns": "linkerd"}, map[string]string{"app": "client"}
	otherMesh := map[string]string{"linkerd.io/control-plane-ns": "linkerd-canary"}
	for _, test := range []struct {
		transportHeader bool
		client          map[string]string
		open            []int32
	}{
		{true, meshed, []int32{4143}},
		{true, plain, nil},
		{true, otherMesh, nil},
		{false, meshed, []int32{4143, 8080, 9080}},
		{false, plain, nil},
		{false, otherMesh, nil},
	} {
		rules, err := linkerd.PolicyRules(linkerd.PolicyOptions{Ports: []int32{8080, 9080}, TransportHeader: test.transportHeader})
		if err != nil {
			t.Fatal(err)
		}
		policy, err := netpol.Build(netpol.Intent{Namespace: "dgraph", Name: "alpha", Admit: rules.Admit})
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range []int32{4143, 4191, 7080, 8080, 9080} {
			verdict, err := netpol.Evaluate([]networkingv1.NetworkPolicy{*policy},
				netpol.Endpoint{Namespace: "elsewhere", Name: "client", Labels: test.client},
				netpol.Endpoint{Namespace: "dgraph", Name: "alpha"}, netpol.Port{Protocol: corev1.ProtocolTCP, Number: port})
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Allowed != slices.Contains(test.open, port) {
				t.Errorf("transport header %t, client %v, port %d: %+v", test.transportHeader, test.client, port, verdict)
			}
		}
	}
}

func TestPolicyRulesRefuses(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]linkerd.PolicyOptions{
		"no ports":         {},
		"the proxy's port": {Ports: []int32{4143}},
		"port 70000":       {Ports: []int32{70000}},
		"unreadable skips": {Ports: []int32{80}, SkipInboundPorts: []string{"http"}},
		"unreadable range": {Ports: []int32{80}, SkipInboundPorts: []string{"1-x"}},
	} {
		if _, err := linkerd.PolicyRules(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, transportHeader := range []bool{true, false} {
		_, err := linkerd.PolicyRules(linkerd.PolicyOptions{
			Ports: []int32{8080, 7080, 5080}, SkipInboundPorts: []string{"5080", "7000-7080"}, TransportHeader: transportHeader,
		})
		var skipped *linkerd.SkippedPortsError
		if !errors.As(err, &skipped) || !slices.Equal(skipped.Ports, []int32{5080, 7080}) {
			t.Errorf("skipped ports: %v", err)
		}
	}
}

package authorization

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func policy() access.Policy {
	return access.Policy{
		Namespace: "shop", Name: "web", Pods: map[string]string{"app": "web"}, Ports: access.PortsOf([]int32{8080}), MTLS: access.StrictMTLS,
		Grants: []access.Grant{{
			Callers: []access.Caller{{Account: &access.Account{Namespace: "front", Name: "cart"}}, {Namespace: "back"}, {Network: &netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}},
			Routes:  []access.Route{{Methods: []string{"GET"}, Path: "/public", Prefix: true}},
		}},
	}
}

func onLinkerd() Mesh { return Mesh{Linkerd: &linkerd.Authorizer{ControlPlane: "linkerd"}} }

func onIstio() Mesh { return Mesh{Istio: &istio.Authorizer{TrustDomain: "cluster.local"}} }

// TestRecord reads intents back from what objects say, for an import.
func TestRecord(t *testing.T) {
	t.Parallel()
	for name, intent := range map[string]Intent{
		"policy":              {Policy: policy(), Mesh: onLinkerd()},
		"policy of Istio":     {Policy: policy(), Mesh: onIstio()},
		"default":             {Policy: access.Policy{Namespace: "shop", Name: "default"}, Default: &Default{Policy: "deny"}, Mesh: onLinkerd()},
		"default of workload": {Policy: access.Policy{Namespace: "shop", Name: "default"}, Default: &Default{Policy: "deny", Kind: "Deployment", Name: "web"}, Mesh: onIstio()},
	} {
		intent.Probes = []access.Probe{{Port: 8080, Path: "/alive"}}
		text, err := json.Marshal(intent.recorded())
		if err != nil {
			t.Fatal(err)
		}
		var read Intent
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		intent.Probes = nil // They are as the pods have them.
		if !reflect.DeepEqual(read, intent) {
			t.Errorf("%s: got %+v, want %+v", name, read, intent)
		}
	}
}

// TestCompile compiles without a cluster what does not depend on one.
func TestCompile(t *testing.T) {
	t.Parallel()
	asDefault := func(m Mesh, d Default) Intent {
		return Intent{Policy: access.Policy{Namespace: "shop", Name: "web"}, Default: &d, Mesh: m}
	}
	for name, c := range map[string]struct {
		intent Intent
		want   []string // parts of the manifest; none if it is open
	}{
		"Linkerd":                       {Intent{Policy: policy(), Mesh: onLinkerd()}, []string{"kind: Server", "kind: AuthorizationPolicy", "kind: HTTPRoute"}},
		"Istio":                         {Intent{Policy: policy(), Mesh: onIstio()}, []string{"kind: AuthorizationPolicy", "kind: PeerAuthentication", "cluster.local/ns/front/sa/cart"}},
		"Istio of an unknown domain":    {Intent{Policy: policy(), Mesh: Mesh{Istio: &istio.Authorizer{}}}, nil},
		"default of a namespace":        {asDefault(onLinkerd(), Default{Policy: "audit"}), []string{"kind: Namespace\nmetadata:\n  annotations:\n    config.linkerd.io/default-inbound-policy: audit\n  name: shop\n"}},
		"default of a workload":         {asDefault(onLinkerd(), Default{Policy: "deny", Kind: "StatefulSet", Name: "db"}), []string{"kind: StatefulSet", "name: db", "spec:\n  template:\n    metadata:\n      annotations:\n        config.linkerd.io/default-inbound-policy: deny\n"}},
		"Istio's default to deny":       {asDefault(onIstio(), Default{Policy: "deny"}), []string{"kind: AuthorizationPolicy", "spec:\n  action: ALLOW\n"}},
		"Istio's default to be strict":  {asDefault(onIstio(), Default{Policy: "all-authenticated"}), []string{"kind: PeerAuthentication", "mode: STRICT"}},
		"Istio's default of a workload": {asDefault(onIstio(), Default{Policy: "deny", Kind: "Deployment", Name: "web"}), nil},
	} {
		compiled, err := c.intent.Compile(t.Context(), nil)
		if (c.want == nil) != errors.Is(err, ErrOpen) || c.want != nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, part := range c.want {
			if !strings.Contains(compiled.Manifest, part) || compiled.Guarantee == "" {
				t.Errorf("%s: no %q in\n%s\n%s", name, part, compiled.Manifest, compiled.Guarantee)
			}
		}
	}
	refused := asDefault(onIstio(), Default{Policy: "audit"})
	if err := refused.Check(); err == nil || !strings.Contains(err.Error(), "audit is a default policy of Linkerd's") {
		t.Errorf("got %v", err)
	}
}

// TestExactLabels turns selectors of workloads into those of Istio.
func TestExactLabels(t *testing.T) {
	t.Parallel()
	one := metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"front"}}
	several := metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"front", "back"}}
	exists := metav1.LabelSelectorRequirement{Key: "tier", Operator: metav1.LabelSelectorOpExists}
	for _, c := range []struct {
		requirement metav1.LabelSelectorRequirement
		want        map[string]string
	}{
		{one, map[string]string{"app": "web", "tier": "front"}}, {several, nil}, {exists, nil},
	} {
		selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}, MatchExpressions: []metav1.LabelSelectorRequirement{c.requirement}})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := exactLabels(selector); ok != (c.want != nil) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, %t", selector, got, ok)
		}
	}
}

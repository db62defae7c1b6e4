package istio

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// reaches reports whether what was compiled lets a connection of the selected pods
// pass, in a direction.
func reaches(t *testing.T, compiled access.Compiled, from, to netpol.Endpoint, port netpol.Port) bool {
	t.Helper()
	policy, err := netpol.Build(compiled.Network)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := netpol.Compile([]*networkingv1.NetworkPolicy{policy})
	if err != nil {
		t.Fatal(err)
	}
	return policies.Evaluate(from, to, port).Allowed
}

func inNamespace(namespace string, pod map[string]string, more ...string) netpol.Endpoint {
	e := netpol.Endpoint{Namespace: namespace, Name: "peer", Labels: pod, NamespaceLabels: map[string]string{corev1.LabelMetadataName: namespace}, IPs: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}
	for i := 0; i+1 < len(more); i += 2 {
		e.NamespaceLabels[more[i]] = more[i+1]
	}
	return e
}

func outsideAt(address string) netpol.Endpoint {
	return netpol.Endpoint{IPs: []netip.Addr{netip.MustParseAddr(address)}}
}

// What callers of each sort reach, as the modes and strengths have it.
func TestCompileIngress(t *testing.T) {
	t.Parallel()
	alpha := netpol.Endpoint{Namespace: "dgraph", Name: "alpha", Labels: map[string]string{"app": "alpha"}, NamespaceLabels: map[string]string{corev1.LabelMetadataName: "dgraph"}}
	callers := map[string]netpol.Endpoint{
		"sidecar":             inNamespace("web", map[string]string{tlsModeLabel: "istio"}),
		"sidecar without TLS": inNamespace("web", map[string]string{tlsModeLabel: "disabled"}),
		"plain":               inNamespace("web", nil),
		"ingress gateway":     inNamespace("edge", map[string]string{"istio": "ingressgateway"}),
		"egress gateway":      inNamespace("edge", map[string]string{"istio": "egressgateway"}),
		"istiod":              inNamespace("istio-system", map[string]string{"istio": "pilot"}),
		"waypoint":            inNamespace("web", map[string]string{gatewayNameLabel: "w", dataplaneModeLabel: "none"}),
		"somebody's gateway":  inNamespace("web", map[string]string{gatewayNameLabel: "w"}),
		"ambient pod":         inNamespace("web", map[string]string{dataplaneModeLabel: "ambient"}),
		"ambient namespace":   inNamespace("web", nil, dataplaneModeLabel, "ambient"),
		"kept out of ambient": inNamespace("web", map[string]string{dataplaneModeLabel: "none"}, dataplaneModeLabel, "ambient"),
		"probe":               outsideAt("169.254.7.127"),
		"probe by IPv6":       outsideAt("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
		"internet":            outsideAt("203.0.113.7"),
		"prometheus":          inNamespace("monitoring", map[string]string{"app": "prometheus"}),
		"neighbour":           inNamespace("dgraph", nil),
		"office":              outsideAt("198.51.100.4"),
	}
	proxied := []string{"sidecar", "ingress gateway", "egress gateway", "waypoint"}
	meshed := append([]string{"ambient pod", "ambient namespace"}, proxied...)
	var everybody []string
	for name := range callers {
		everybody = append(everybody, name)
	}
	probes := []string{"probe", "probe by IPv6"}
	monitoring := access.Exception{Peers: []netpol.Peer{netpol.InNamespace("monitoring", metav1.LabelSelector{MatchLabels: map[string]string{"app": "prometheus"}})}, Metrics: true}
	for _, test := range []struct {
		name       string
		mode       string
		protection access.Protection
		strength   access.Strength
		open       map[int32][]string // other ports of those asked for are closed
		guarantee  []string
	}{
		{
			name: "sidecars", mode: ModeSidecar, protection: access.Protection{Ports: []int32{9080, 8080}}, strength: access.Label,
			open:      map[int32][]string{8080: proxied, 9080: proxied},
			guarantee: []string{"Ports 8080, 9080 are open to pods labelled security.istio.io/tlsMode=istio", "The labels prove nothing", "require an identity", "Closed unless another policy opens them: metrics"},
		},
		{
			name: "sidecars, all ports", mode: ModeSidecar, strength: access.Label,
			open:      map[int32][]string{8080: proxied, 9080: proxied, 5000: proxied, 15008: proxied, 15020: proxied, 15090: proxied},
			guarantee: []string{"All ports are open"},
		},
		{
			name: "sidecars with exceptions", mode: ModeSidecar, strength: access.Label,
			protection: access.Protection{Ports: []int32{8080}, Exceptions: []access.Exception{
				monitoring,
				{Peers: []netpol.Peer{netpol.InNamespace("dgraph", metav1.LabelSelector{})}},
				{Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "198.51.100.0/24"}}}, Ports: []int32{5000}},
			}},
			open:      map[int32][]string{8080: append([]string{"neighbour"}, proxied...), 5000: {"office"}, 15020: {"prometheus"}, 15090: {"prometheus"}},
			guarantee: []string{"Metrics of the proxies (15020, 15090) are open to those named", "Exceptions come in without the mesh"},
		},
		{
			name: "ambient", mode: ModeAmbient, protection: access.Protection{Ports: []int32{8080}, Exceptions: []access.Exception{monitoring}}, strength: access.MTLSPort,
			open:      map[int32][]string{15008: everybody, 8080: probes, 9080: probes, 5000: probes, 15020: probes, 15090: probes},
			guarantee: []string{"Only TCP 15008 is open, to everybody", "which no label can forge", "all ports of the pods can be reached", "No port of metrics is opened", "CiliumClusterwideNetworkPolicy"},
		},
		{
			name: "ambient by label", mode: ModeAmbient, protection: access.Protection{Strength: access.Label}, strength: access.Label,
			open:      map[int32][]string{15008: append(probes, meshed...), 8080: probes, 9080: probes, 5000: probes, 15020: probes, 15090: probes},
			guarantee: []string{"a forged label gets no further"},
		},
		{
			name: "ambient by both", mode: ModeAmbient, protection: access.Protection{Ports: []int32{8080}, Strength: access.Both}, strength: access.Both,
			open: map[int32][]string{15008: append(probes, meshed...), 8080: probes, 9080: probes, 5000: probes, 15020: probes, 15090: probes},
		},
		{
			name: "both modes", mode: ModeBoth, protection: access.Protection{Ports: []int32{8080}}, strength: access.Label,
			open:      map[int32][]string{15008: append(probes, meshed...), 8080: append(probes, meshed...), 9080: probes, 5000: probes, 15020: probes, 15090: probes},
			guarantee: []string{"Ports 8080 and TCP 15008 are open", "The labels prove nothing", "Behind 15008 all ports"},
		},
		{
			name: "anyone", mode: ModeSidecar, protection: access.Protection{Ports: []int32{8080}, Exceptions: []access.Exception{{Anyone: true, Ports: []int32{9080}}}}, strength: access.Label,
			open: map[int32][]string{8080: proxied, 9080: everybody},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.protection.Namespace, test.protection.Name, test.protection.Pods = "dgraph", "mesh-only", map[string]string{"app": "alpha"}
			compiled, err := Traffic{Mode: test.mode}.Compile(t.Context(), nil, test.protection)
			if err != nil {
				t.Fatal(err)
			}
			if compiled.Strength != test.strength || len(compiled.Authorization) != 0 {
				t.Errorf("strength %s, %d objects", compiled.Strength, len(compiled.Authorization))
			}
			for _, port := range []int32{8080, 9080, 5000, 15008, 15020, 15090} {
				want := map[string]bool{}
				for _, name := range test.open[port] {
					want[name] = true
				}
				for name, caller := range callers {
					if got := reaches(t, compiled, caller, alpha, netpol.TCP(port)[0]); got != want[name] {
						t.Errorf("%s to %d: %t", name, port, got)
					}
				}
			}
			for _, part := range test.guarantee {
				if !strings.Contains(compiled.Guarantee, part) {
					t.Errorf("guarantee lacks %q: %s", part, compiled.Guarantee)
				}
			}
			if away := (netpol.Endpoint{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}); !reaches(t, compiled, alpha, away, netpol.TCP(443)[0]) {
				t.Error("egress is restricted")
			}
		})
	}
}

func TestCompileEgress(t *testing.T) {
	t.Parallel()
	alpha := inNamespace("dgraph", map[string]string{"app": "alpha"})
	alpha.Name = "alpha"
	type target struct {
		to   netpol.Endpoint
		port netpol.Port
	}
	tcp := func(number int32) netpol.Port { return netpol.TCP(number)[0] }
	udp53 := netpol.Port{Protocol: corev1.ProtocolUDP, Number: 53}
	dns, cache := inNamespace("kube-system", map[string]string{"k8s-app": "kube-dns"}), inNamespace("kube-system", map[string]string{"k8s-app": "node-local-dns"})
	sidecar, ambient := inNamespace("web", map[string]string{tlsModeLabel: "istio"}), inNamespace("web", nil, dataplaneModeLabel, "ambient")
	targets := map[string]target{
		"DNS by UDP": {dns, udp53}, "cached DNS": {cache, udp53}, "DNS by TCP": {dns, tcp(53)}, "other DNS": {inNamespace("web", map[string]string{"k8s-app": "kube-dns"}), udp53},
		"istiod": {inNamespace("istio-system", map[string]string{"app": "istiod"}), tcp(15012)}, "istiod of the add-on": {inNamespace("aks-istio-system", map[string]string{"app": "istiod", revisionLabel: "asm-1-30"}), tcp(15012)},
		"istiod's webhook": {inNamespace("istio-system", map[string]string{"app": "istiod"}), tcp(15017)},
		"sidecar":          {sidecar, tcp(8080)}, "sidecar, other port": {sidecar, tcp(9080)}, "sidecar by HBONE": {sidecar, tcp(15008)},
		"ambient": {ambient, tcp(15008)}, "ambient's port": {ambient, tcp(8080)}, "plain": {inNamespace("web", nil), tcp(8080)},
		"waypoint": {inNamespace("web", map[string]string{gatewayNameLabel: "w", dataplaneModeLabel: "none"}), tcp(15008)},
		"bank":     {outsideAt("203.0.113.7"), tcp(443)}, "internet": {outsideAt("192.0.2.1"), tcp(443)},
	}
	everything := access.Egress{DNS: true, ControlPlane: true, Mesh: true, MeshPorts: []int32{8080}, Admit: []netpol.Admission{{
		Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "203.0.113.0/24"}}}, Ports: netpol.TCP(443),
	}}}
	for _, test := range []struct {
		name      string
		egress    access.Egress
		open      []string
		guarantee string
	}{
		{"nothing", access.Egress{}, nil, "The pods may open no connections."},
		{"DNS", access.Egress{DNS: true}, []string{"DNS by UDP", "DNS by TCP", "cached DNS"}, "the cluster's DNS"},
		{"control plane", access.Egress{ControlPlane: true}, []string{"istiod", "istiod of the add-on"}, "TCP 15012"},
		{"mesh", access.Egress{Mesh: true}, []string{"sidecar", "sidecar, other port", "sidecar by HBONE", "ambient", "waypoint"}, "all ports"},
		{"all", everything, []string{"DNS by UDP", "DNS by TCP", "cached DNS", "istiod", "istiod of the add-on", "sidecar", "sidecar by HBONE", "ambient", "waypoint", "bank"}, "ports 8080"},
	} {
		for _, mode := range Modes() {
			compiled, err := Traffic{Mode: mode}.Compile(t.Context(), nil, access.Protection{Namespace: "dgraph", Name: "p", Egress: &test.egress})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(compiled.Guarantee, test.guarantee) {
				t.Errorf("%s: guarantee %s", test.name, compiled.Guarantee)
			}
			want := map[string]bool{}
			for _, name := range test.open {
				want[name] = true
			}
			for name, target := range targets {
				if got := reaches(t, compiled, alpha, target.to, target.port); got != want[name] {
					t.Errorf("%s in mode %s to %s: %t", test.name, mode, name, got)
				}
			}
		}
	}
}

func TestCompileControlPlane(t *testing.T) {
	t.Parallel()
	istiod := inNamespace("istio-system", map[string]string{"app": "istiod", revisionLabel: "1-31"})
	istiod.Name = "istiod"
	gateway := inNamespace("istio-system", map[string]string{"istio": "ingressgateway"})
	gateway.Name = "gateway"
	agent, pod, internet := inNamespace("kube-system", map[string]string{"app": "konnectivity-agent"}), inNamespace("web", nil), outsideAt("203.0.113.7")
	subnet, prometheus := outsideAt("10.240.0.4"), inNamespace("monitoring", nil)
	for _, test := range []struct {
		name    string
		callers access.ControlPlane
		hooks   []netpol.Endpoint
		not     []netpol.Endpoint
		says    string
	}{
		{"everyone", access.ControlPlane{Everyone: true}, []netpol.Endpoint{agent, pod, internet, subnet}, nil, "open to everybody"},
		{"konnectivity", access.ControlPlane{Konnectivity: true}, []netpol.Endpoint{agent}, []netpol.Endpoint{pod, internet, subnet}, "to the callers named"},
		{"a subnet", access.ControlPlane{Networks: []netpol.Block{{CIDR: "10.240.0.0/28"}}}, []netpol.Endpoint{subnet}, []netpol.Endpoint{agent, pod, internet}, "to the callers named"},
		{"nobody", access.ControlPlane{}, nil, []netpol.Endpoint{agent, pod, internet, subnet}, "to nobody"},
	} {
		compiled, err := Traffic{}.Compile(t.Context(), nil, access.Protection{
			Namespace: "istio-system", Name: "p", ControlPlane: &test.callers,
			Exceptions: []access.Exception{{Peers: []netpol.Peer{netpol.InNamespace("monitoring", metav1.LabelSelector{})}, Metrics: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(compiled.Guarantee, test.says) || !strings.Contains(compiled.Guarantee, "only those labelled app=istiod") {
			t.Errorf("%s: %s", test.name, compiled.Guarantee)
		}
		for _, caller := range test.hooks {
			if !reaches(t, compiled, caller, istiod, netpol.TCP(15017)[0]) {
				t.Errorf("%s: the webhook is closed to %v", test.name, caller)
			}
		}
		for _, caller := range test.not {
			if reaches(t, compiled, caller, istiod, netpol.TCP(15017)[0]) {
				t.Errorf("%s: the webhook is open to %v", test.name, caller)
			}
		}
		for port, callers := range map[int32]map[*netpol.Endpoint]bool{
			15012: {&pod: true, &prometheus: true, &internet: false}, 15010: {&pod: false}, 15014: {&prometheus: true, &pod: false}, 8080: {&prometheus: false},
		} {
			for caller, want := range callers {
				if got := reaches(t, compiled, *caller, istiod, netpol.TCP(port)[0]); got != want {
					t.Errorf("%s: %v to %d: %t", test.name, caller, port, got)
				}
			}
		}
		if !reaches(t, compiled, internet, gateway, netpol.TCP(8443)[0]) {
			t.Errorf("%s: a gateway is cut off", test.name)
		}
	}
	egress := access.Protection{Namespace: "istio-system", Name: "p", ControlPlane: &access.ControlPlane{Everyone: true}, Egress: &access.Egress{DNS: true, ControlPlane: true, Mesh: true}}
	if _, err := (Traffic{}).Compile(t.Context(), nil, egress); err == nil || !strings.Contains(err.Error(), "Kubernetes API") {
		t.Errorf("egress without the API: %v", err)
	}
	egress.Egress.Admit = []netpol.Admission{{Anyone: true, Ports: netpol.TCP(443)}}
	compiled, err := Traffic{}.Compile(t.Context(), nil, egress)
	if err != nil {
		t.Fatal(err)
	}
	if !reaches(t, compiled, istiod, internet, netpol.TCP(443)[0]) || reaches(t, compiled, istiod, pod, netpol.TCP(15008)[0]) {
		t.Error("egress is not what was asked for")
	}
}

func TestCompileIdentity(t *testing.T) {
	t.Parallel()
	exceptions := []access.Exception{
		{Peers: []netpol.Peer{netpol.InNamespace("ingress-nginx", metav1.LabelSelector{})}},
		{Peers: []netpol.Peer{netpol.InNamespace("dgraph", metav1.LabelSelector{})}}, // the same to a proxy
		{Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}}, Ports: []int32{9090}},
		{Peers: []netpol.Peer{{}}, Metrics: true},
	}
	protection := access.Protection{Namespace: "dgraph", Name: "mesh-only", Pods: map[string]string{"app": "alpha"}, Ports: []int32{9080, 8080}, Identity: true, Exceptions: exceptions}
	compiled, err := Traffic{Mode: ModeSidecar}.Compile(t.Context(), nil, protection)
	if err != nil {
		t.Fatal(err)
	}
	if kind := compiled.Authorization[0].GetKind(); kind != "AuthorizationPolicy" {
		t.Errorf("%s comes first", kind)
	}
	got := specs(t, compiled.Authorization)
	if want := `action: ALLOW
rules:
- from:
  - source:
      principals:
      - '*'
  to:
  - operation:
      ports:
      - "8080"
      - "9080"
- to:
  - operation:
      ports:
      - "8080"
      - "9080"
- from:
  - source:
      ipBlocks:
      - 10.0.0.0/8
      notIpBlocks:
      - 10.1.0.0/16
  to:
  - operation:
      ports:
      - "9090"
selector:
  matchLabels:
    app: alpha
`; got["AuthorizationPolicy"] != want {
		t.Errorf("AuthorizationPolicy:\n%s", got["AuthorizationPolicy"])
	}
	if want := `mtls:
  mode: STRICT
portLevelMtls:
  "8080":
    mode: PERMISSIVE
  "9080":
    mode: PERMISSIVE
  "9090":
    mode: PERMISSIVE
selector:
  matchLabels:
    app: alpha
`; got["PeerAuthentication"] != want {
		t.Errorf("PeerAuthentication:\n%s", got["PeerAuthentication"])
	}
	protection.Exceptions, protection.Pods = exceptions[3:], nil
	if compiled, err = (Traffic{Mode: ModeAmbient}).Compile(t.Context(), nil, protection); err != nil {
		t.Fatal(err)
	}
	if got := specs(t, compiled.Authorization)["PeerAuthentication"]; got != "mtls:\n  mode: STRICT\n" {
		t.Errorf("PeerAuthentication of the namespace:\n%s", got)
	}
	for _, part := range []string{"only callers with an identity of the mesh in to ports 8080, 9080", "nobody to other ports"} {
		if !strings.Contains(compiled.Guarantee, part) {
			t.Errorf("guarantee lacks %q: %s", part, compiled.Guarantee)
		}
	}
	if strings.Contains(compiled.Guarantee, "Behind 15008") {
		t.Errorf("guarantee: %s", compiled.Guarantee)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mode       string
		protection access.Protection
		want       string
	}{
		"port 0":                         {ModeSidecar, access.Protection{Ports: []int32{0}}, "not within 1 to 65535"},
		"the proxy's port":               {ModeSidecar, access.Protection{Ports: []int32{8080, 15006}}, "that of Istio's proxy"},
		"no mode":                        {"", access.Protection{}, "is none of sidecar, ambient, both"},
		"an unknown mode":                {"none", access.Protection{}, "is none of"},
		"an unknown strength":            {ModeAmbient, access.Protection{Strength: "strong"}, `strength "strong" is none of`},
		"mTLS by port with sidecars":     {ModeSidecar, access.Protection{Strength: access.MTLSPort}, "require_identity"},
		"both with sidecars":             {ModeBoth, access.Protection{Strength: access.Both}, "require_identity"},
		"identity without ports":         {ModeAmbient, access.Protection{Identity: true}, "name the ports"},
		"exceptions of a namespace":      {ModeAmbient, access.Protection{Identity: true, Ports: []int32{8080}, Exceptions: []access.Exception{{Anyone: true}}}, "name the labels"},
		"identity in the root namespace": {ModeAmbient, access.Protection{Namespace: "istio-system", Identity: true, Ports: []int32{8080}}, "root namespace"},
	} {
		if _, err := (Traffic{Mode: test.mode}).Compile(t.Context(), nil, test.protection); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestModeOf(t *testing.T) {
	t.Parallel()
	pods := func(names ...string) []*corev1.Pod {
		var pods []*corev1.Pod
		for _, name := range names {
			pods = append(pods, end("shop", name, "").Pod)
		}
		return pods
	}
	asking := func(key, value string) []*corev1.Pod {
		return []*corev1.Pod{end("shop", "plain", "", labelled(key, value)).Pod}
	}
	for name, test := range map[string]struct {
		namespace map[string]string
		pods      []*corev1.Pod
		want      string
	}{
		"sidecars":                       {map[string]string{dataplaneModeLabel: "ambient"}, pods("sidecar-a", "plain"), ModeSidecar},
		"ambient":                        {nil, pods("ambient-a"), ModeAmbient},
		"both":                           {nil, pods("ambient-a", "hbone-b"), ModeBoth},
		"by the namespace, ambient":      {map[string]string{dataplaneModeLabel: "ambient"}, nil, ModeAmbient},
		"by the namespace, sidecars":     {map[string]string{injectionLabel: enabled}, nil, ModeSidecar},
		"by a namespace that says twice": {map[string]string{injectionLabel: enabled, dataplaneModeLabel: "ambient"}, nil, ModeSidecar},
		"by the labels":                  {nil, asking(dataplaneModeLabel, "ambient"), ModeAmbient},
		"kept out by labels":             {map[string]string{dataplaneModeLabel: "ambient"}, asking(dataplaneModeLabel, "none"), ModeSidecar},
		"nothing tells":                  {nil, pods("plain"), ModeSidecar},
	} {
		if got := ModeOf(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: test.namespace}}, test.pods); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestBehindTheTunnel holds that ports which exceptions open to the mesh too are
// named where they are, and nowhere else.
func TestBehindTheTunnel(t *testing.T) {
	t.Parallel()
	wide := access.Protection{Namespace: "dgraph", Name: "p", Pods: map[string]string{"app": "alpha"}, Ports: []int32{8080}, Identity: true, Exceptions: []access.Exception{
		{Peers: []netpol.Peer{netpol.InNamespace("dgraph", metav1.LabelSelector{})}, Ports: []int32{8080, 7080}},
	}}
	narrow, unasked := wide, wide
	narrow.Exceptions, unasked.Identity = []access.Exception{{Anyone: true}, {Anyone: true, Metrics: true}}, false
	const says = "Ports 7080, which exceptions open, are open behind 15008 to callers of the mesh too"
	for _, test := range []struct {
		mode       string
		protection access.Protection
		want       bool
	}{{ModeAmbient, wide, true}, {ModeBoth, wide, true}, {ModeSidecar, wide, false}, {ModeAmbient, narrow, false}, {ModeAmbient, unasked, false}} {
		traffic := Traffic{Mode: test.mode}
		compiled, err := traffic.Compile(t.Context(), nil, test.protection)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(compiled.Guarantee, says) != test.want {
			t.Errorf("%s: %s", test.mode, compiled.Guarantee)
		}
		if found := traffic.PodFindings(nil, test.protection); len(found) == 1 != test.want || test.want && !strings.Contains(found[0], says) {
			t.Errorf("%s: %q", test.mode, found)
		}
	}
}

func TestPodFindings(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		ModeSidecar: "Pods ambient-c are in mode ambient, and the policy is for mode sidecar", ModeAmbient: "Pods sidecar-a are in mode sidecar, and the policy is for mode ambient", ModeBoth: "",
	} {
		got := Traffic{Mode: mode}.PodFindings([]*corev1.Pod{end("shop", "sidecar-a", "").Pod, end("shop", "ambient-c", "").Pod}, access.Protection{})
		if (len(got) == 0) != (want == "") || len(got) > 0 && !strings.HasPrefix(got[0], want) {
			t.Errorf("mode %s: %q", mode, got)
		}
	}
	pods := []*corev1.Pod{
		end("shop", "sidecar-a", "", annotated(excludeInboundPorts, "8080")).Pod, end("shop", "sidecar-b", "").Pod, end("shop", "ambient-c", "", annotated(excludeInboundPorts, "8080")).Pod,
	}
	for i, path := range []string{"/healthz", "/app-health/main/livez"} {
		pods[i].Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(9080)}}}
	}
	identity := Traffic{}.PodFindings(pods, access.Protection{Ports: []int32{9080}, Identity: true})
	if len(identity) != 1 || !strings.Contains(identity[0], "Port 9080 of pods sidecar-a is probed") {
		t.Errorf("%q", identity)
	}
	got := Traffic{}.PodFindings(pods, access.Protection{Ports: []int32{8080, 9080}})
	if len(got) != 1 || !strings.Contains(got[0], "Port 8080 of pods sidecar-a does not lead through the sidecar") {
		t.Errorf("%q", got)
	}
}

package linkerd

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
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
		if got := transportHeader(versioned(t, test.version), test.values); got != test.want {
			t.Errorf("%s with %v: %t", test.version, test.values, got)
		}
	}
}

func versioned(t *testing.T, text string) Version {
	t.Helper()
	v, err := ParseVersion(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// headed sends everything to the proxies' port, plain did not yet.
func headed(t *testing.T, values map[string]any) wire {
	t.Helper()
	return wire{controlPlane: "linkerd", version: versioned(t, "2026.8.3"), values: values}
}

func plain(t *testing.T) wire {
	t.Helper()
	return wire{controlPlane: "l5d", version: versioned(t, "2024.11.8")}
}

func wearing(controlPlane string) []netpol.Peer {
	return []netpol.Peer{{Pods: metav1.LabelSelector{MatchLabels: map[string]string{"linkerd.io/control-plane-ns": controlPlane}}}}
}

func compiled(t *testing.T, w wire, p access.Protection) access.Compiled {
	t.Helper()
	p.Namespace, p.Name = "dgraph", "mesh-only"
	c, err := w.compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netpol.Build(c.Network); err != nil {
		t.Error(err)
	}
	return c
}

func TestCompileIngress(t *testing.T) {
	t.Parallel()
	prometheus := netpol.InNamespace("monitoring", metav1.LabelSelector{MatchLabels: map[string]string{"app": "prometheus"}})
	office := netpol.Peer{Block: &netpol.Block{CIDR: "192.0.2.0/24"}}
	for name, test := range map[string]struct {
		wire       wire
		protection access.Protection
		strength   access.Strength
		want       []netpol.Admission
		says       []string
	}{
		"the strongest": {
			headed(t, nil),
			access.Protection{Ports: []int32{9080, 8080}},
			access.MTLSPort,
			[]netpol.Admission{{Anyone: true, Ports: netpol.TCP(4143)}},
			[]string{"Only TCP 4143", "callers of the mesh reach every port", "own node"},
		},
		"the strongest there is": {
			plain(t),
			access.Protection{Ports: []int32{9080, 8080}},
			access.Label,
			[]netpol.Admission{{Peers: wearing("l5d"), Ports: netpol.TCP(9080, 8080, 4143)}},
			[]string{"Ports 8080, 9080, and TCP 4143", "whoever may label a pod", "Nothing else tells"},
		},
		"both": {
			headed(t, nil),
			access.Protection{Strength: access.Both},
			access.Both,
			[]netpol.Admission{{Peers: wearing("linkerd"), Ports: netpol.TCP(4143)}},
			[]string{"Only TCP 4143", "linkerd.io/control-plane-ns=linkerd"},
		},
		"label without ports": {
			headed(t, nil),
			access.Protection{Strength: access.Label},
			access.Label,
			[]netpol.Admission{{Peers: wearing("linkerd"), AnyPort: true}},
			[]string{"All ports are open to pods labelled"},
		},
		"exceptions": {
			headed(t, map[string]any{"proxyInit": map[string]any{"ignoreInboundPorts": "4567,7000-7100"}}),
			access.Protection{Ports: []int32{8080}, Exceptions: []access.Exception{
				{Peers: []netpol.Peer{prometheus}, Metrics: true},
				{Peers: []netpol.Peer{office}},
				{Anyone: true, Ports: []int32{9080}},
			}},
			access.MTLSPort,
			[]netpol.Admission{
				{Anyone: true, Ports: netpol.TCP(4143)},
				{Peers: []netpol.Peer{prometheus}, Ports: netpol.TCP(4191)},
				{Peers: []netpol.Peer{office}, Ports: netpol.TCP(8080)},
				{Anyone: true, Ports: netpol.TCP(9080)},
			},
			[]string{"bypass the proxies (4567, 7000-7100)", "Exceptions get in without the mesh"},
		},
		"exception of everything": {
			headed(t, nil),
			access.Protection{Exceptions: []access.Exception{{Peers: []netpol.Peer{office}}}},
			access.MTLSPort,
			[]netpol.Admission{{Anyone: true, Ports: netpol.TCP(4143)}, {Peers: []netpol.Peer{office}, AnyPort: true}},
			nil,
		},
	} {
		got := compiled(t, test.wire, test.protection)
		if got.Strength != test.strength || !reflect.DeepEqual(got.Network.Ingress, test.want) {
			t.Errorf("%s: %s admits %+v, want %s %+v", name, got.Strength, got.Network.Ingress, test.strength, test.want)
		}
		if len(got.Authorization) > 0 {
			t.Errorf("%s: objects that nobody asked for: %v", name, got.Authorization)
		}
		for _, text := range test.says {
			if !strings.Contains(got.Guarantee, text) {
				t.Errorf("%s: guarantee %q lacks %q", name, got.Guarantee, text)
			}
		}
	}
}

func TestCompileEgress(t *testing.T) {
	t.Parallel()
	all := access.Egress{DNS: true, ControlPlane: true, Mesh: true, Admit: []netpol.Admission{{Anyone: true, Ports: netpol.TCP(443)}}}
	toControlPlane := func(namespace string) netpol.Admission {
		return netpol.Admission{Peers: []netpol.Peer{netpol.InNamespace(namespace, metav1.LabelSelector{})}, Ports: netpol.TCP(8080, 8086, 8090)}
	}
	some := all
	some.MeshPorts = []int32{7080}
	for name, test := range map[string]struct {
		wire   wire
		egress access.Egress
		want   []netpol.Admission
	}{
		"to the proxies' port": {headed(t, nil), all, []netpol.Admission{
			access.DNS(), toControlPlane("linkerd"), {Peers: wearing("linkerd"), Ports: netpol.TCP(4143)}, all.Admit[0],
		}},
		"to all ports": {plain(t), all, []netpol.Admission{
			access.DNS(), toControlPlane("l5d"), {Peers: wearing("l5d"), AnyPort: true}, all.Admit[0],
		}},
		"to some ports": {plain(t), some, []netpol.Admission{
			access.DNS(), toControlPlane("l5d"), {Peers: wearing("l5d"), Ports: netpol.TCP(7080, 4143)}, all.Admit[0],
		}},
		"to nothing": {headed(t, nil), access.Egress{}, nil},
	} {
		got := compiled(t, test.wire, access.Protection{Ports: []int32{8080}, Egress: &test.egress})
		if !got.Network.RestrictEgress || !reflect.DeepEqual(got.Network.Egress, test.want) {
			t.Errorf("%s: %+v, want %+v", name, got.Network.Egress, test.want)
		}
	}
}

func TestCompileControlPlane(t *testing.T) {
	t.Parallel()
	prometheus := netpol.InNamespace("monitoring", metav1.LabelSelector{})
	proxies := netpol.Admission{Peers: wearing("linkerd"), Ports: netpol.TCP(8080, 8086, 8090, 4143)}
	subnet := netpol.Block{CIDR: "10.9.0.0/28"}
	for name, test := range map[string]struct {
		protection access.Protection
		want       []netpol.Admission
		says       string
	}{
		"everyone": {
			access.Protection{ControlPlane: &access.ControlPlane{Everyone: true}},
			[]netpol.Admission{proxies, {Anyone: true, Ports: netpol.TCP(8443, 9443)}},
			"open to everybody",
		},
		"a subnet and metrics": {
			access.Protection{
				ControlPlane: &access.ControlPlane{Networks: []netpol.Block{subnet}},
				Exceptions:   []access.Exception{{Peers: []netpol.Peer{prometheus}, Metrics: true}},
			},
			[]netpol.Admission{
				proxies,
				{Peers: []netpol.Peer{{Block: &subnet}}, Ports: netpol.TCP(8443, 9443)},
				{Peers: []netpol.Peer{prometheus}, Ports: netpol.TCP(9990, 9995, 9996, 9997, 4191)},
			},
			"where the API server comes from",
		},
		"nobody": {access.Protection{ControlPlane: &access.ControlPlane{}}, []netpol.Admission{proxies}, "no pod is injected"},
	} {
		got := compiled(t, headed(t, nil), test.protection)
		if !reflect.DeepEqual(got.Network.Ingress, test.want) || !strings.Contains(got.Guarantee, test.says) {
			t.Errorf("%s: %+v, %q", name, got.Network.Ingress, got.Guarantee)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	transparent := headed(t, map[string]any{"proxy": map[string]any{"outboundTransportMode": "transparent"}})
	old := wire{controlPlane: "linkerd", version: versioned(t, "stable-2.14.10")}
	for name, test := range map[string]struct {
		wire       wire
		protection access.Protection
		says       string
	}{
		"mTLS before there was a header":   {plain(t), access.Protection{Strength: access.MTLSPort}, "upgrade Linkerd to edge-25.3.2 or 2.18"},
		"both where the mode forbids":      {transparent, access.Protection{Strength: access.Both}, "outboundTransportMode"},
		"another strength":                 {headed(t, nil), access.Protection{Strength: "iron"}, "none of"},
		"the proxy's port":                 {headed(t, nil), access.Protection{Ports: []int32{4143}}, "the proxy's own"},
		"port 70000":                       {headed(t, nil), access.Protection{Ports: []int32{70000}}, "not within"},
		"identity without ports":           {headed(t, nil), access.Protection{Identity: true}, "name the ports"},
		"identity by too old a Linkerd":    {old, access.Protection{Identity: true, Ports: []int32{80}}, "too old"},
		"values that say ports unreadably": {headed(t, map[string]any{"proxyInit": map[string]any{"ignoreInboundPorts": "http"}}), access.Protection{Ports: []int32{80}}, "neither a port"},
	} {
		test.protection.Namespace, test.protection.Name = "dgraph", "mesh-only"
		if _, err := test.wire.compile(test.protection); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ignoring := headed(t, map[string]any{"proxyInit": map[string]any{"ignoreInboundPorts": "5080,7000-7080"}})
	for _, strength := range access.Strengths() {
		_, err := ignoring.compile(access.Protection{Strength: strength, Ports: []int32{8080, 7080, 5080}})
		skipped, is := errors.AsType[*skippedPortsError](err)
		if !is || !slices.Equal(skipped.Ports, []int32{5080, 7080}) {
			t.Errorf("skipped ports: %v", err)
		}
	}
	alone := access.Protection{Namespace: "linkerd", Name: "p", ControlPlane: &access.ControlPlane{Everyone: true}, Egress: &access.Egress{DNS: true, ControlPlane: true, Mesh: true}}
	if _, err := headed(t, nil).compile(alone); err == nil || !strings.Contains(err.Error(), "Kubernetes API") {
		t.Errorf("the control plane without the API: %v", err)
	}
	alone.Egress.Admit = []netpol.Admission{{Anyone: true, Ports: netpol.TCP(443)}}
	if got := compiled(t, headed(t, nil), alone); !got.Network.RestrictEgress {
		t.Error("the egress of the control plane is not restricted")
	}
	if _, err := (Traffic{}).Compile(t.Context(), nil, access.Protection{}); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("nobody to ask: %v", err)
	}
	if _, err := (Traffic{Version: "one"}).Compile(t.Context(), nil, access.Protection{}); err == nil {
		t.Error("another version: accepted")
	}
}

// TestCompileIdentity reads what is compiled as the policy controller does.
func TestCompileIdentity(t *testing.T) {
	t.Parallel()
	office := netpol.Block{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.8/32"}}
	got := compiled(t, headed(t, nil), access.Protection{
		Pods: map[string]string{"app": "alpha"}, Ports: []int32{8080, 9080}, Identity: true, Closed: []int32{5080, 7080, 7081, 7090},
		Probes: []access.Probe{{Port: 9080, GRPC: true}, {Port: 8080, Path: "/health"}},
		Exceptions: []access.Exception{
			{Peers: []netpol.Peer{{Block: &office}}, Ports: []int32{8080}},
			{Peers: []netpol.Peer{netpol.InNamespace("ingress", metav1.LabelSelector{})}, Ports: []int32{7080}},
			{Peers: []netpol.Peer{{Block: &office}}, Ports: []int32{7090}},
			{Peers: []netpol.Peer{{}}, Metrics: true},
		},
	})
	for _, text := range []string{
		"identity of the mesh to ports 8080, 9080", "nobody to ports 5080, 7081", "default-inbound-policy is deny", "NetworkPolicy alone",
		"Ports 7080, which exceptions open, are open behind 4143 to every caller of the mesh too", "Ports 7090, which exceptions open to addresses",
		"Of 4191, requests for metrics",
	} {
		if !strings.Contains(got.Guarantee, text) {
			t.Errorf("guarantee %q lacks %q", got.Guarantee, text)
		}
	}
	if last := got.Authorization[len(got.Authorization)-1]; last.GetKind() != "Server" || got.Authorization[0].GetKind() == "Server" {
		t.Errorf("Servers, which refuse, do not come last: %s", last.GetKind())
	}
	a := authorityOf(t, got.Authorization...)
	alpha := podOf("dgraph", "alpha", "10.0.0.1", labelled("app", "alpha"), probed(9080))
	alpha.Pod.Spec.Containers[1].Ports = append(alpha.Pod.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: 7090})
	meshed := podOf("elsewhere", "client", "10.0.0.2")
	unmeshed := unmeshedPod("elsewhere", "10.0.0.3")
	for _, test := range []struct {
		from access.End
		port int32
		want bool
	}{
		{meshed, 8080, true},
		{meshed, 9080, true},
		{meshed, 5080, false},
		{meshed, 7081, false},
		{unmeshed, 8080, false},
		{unmeshed, 9080, false},
		{unmeshed, 5080, false},
		{addressed("192.0.2.7"), 8080, true},
		{addressed("192.0.2.8"), 8080, false},
		{addressed("192.0.2.7"), 9080, false},
		{meshed, 7080, true},
		{meshed, 7090, false},
		{addressed("192.0.2.7"), 7090, true},
		{unmeshed, 7080, true}, // The proxy cannot tell pods by labels.
		{unmeshed, 6000, true}, // Not declared, and so under the default policy.
	} {
		if got := a.Judge(test.from, alpha, tcp(test.port)); got.Allowed != test.want || got.Partly {
			t.Errorf("%v to port %d: %+v", test.from, test.port, got)
		}
	}
}

// TestCompileMetrics holds that those who may read metrics can, whatever the default
// inbound policy is, and do nothing else at the proxy's port.
func TestCompileMetrics(t *testing.T) {
	t.Parallel()
	protection := access.Protection{
		Pods: map[string]string{"app": "alpha"}, Ports: []int32{8080}, Identity: true,
		Exceptions: []access.Exception{{Peers: []netpol.Peer{{}}, Metrics: true}, {Peers: []netpol.Peer{{}}, Metrics: true}},
	}
	prometheus := unmeshedPod("monitoring", "10.0.0.3")
	alpha := podOf("dgraph", "alpha", "10.0.0.1", labelled("app", "alpha"), annotated("default-inbound-policy", "deny"))
	alpha.Pod.Spec.Containers[1].Ports = append(alpha.Pod.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: 4191})
	objects := compiled(t, headed(t, nil), protection).Authorization
	a := authorityOf(t, objects...)
	if got := a.Judge(prometheus, alpha, tcp(4191)); !got.Allowed || !got.Partly {
		t.Errorf("metrics: %+v", got)
	}
	client := client{address: prometheus.IP}
	i := slices.IndexFunc(a.rules.servers["dgraph"], func(s gate) bool { return s.port.IntVal == 4191 })
	for request, want := range map[match]bool{
		{method: "GET", path: "/metrics"}: true, {method: "GET", path: "/live"}: true, {method: "GET", path: "/ready"}: true,
		{method: "POST", path: "/shutdown"}: false, {method: "PUT", path: "/metrics"}: false,
	} {
		if got := a.rules.servers["dgraph"][i].passes(client, request); got != want {
			t.Errorf("%v: %t", request, got)
		}
	}
	protection.Exceptions = nil
	if got := authorityOf(t, compiled(t, headed(t, nil), protection).Authorization...).Judge(prometheus, alpha, tcp(4191)); got.Allowed && !got.Partly {
		t.Errorf("without an exception: %+v", got)
	}
}

// TestCompileOpaque holds that what proxies do not look into stays so: the protocol
// of a Server comes before everything else that says so.
func TestCompileOpaque(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values map[string]any
		want   []string // of ports 3306 and 7000
	}{
		{nil, []string{"opaque", "unknown"}},
		{map[string]any{"proxy": map[string]any{"opaquePorts": "6999-7001"}}, []string{"unknown", "opaque"}},
	} {
		var got []string
		for _, object := range compiled(t, headed(t, test.values), access.Protection{Ports: []int32{3306}, Closed: []int32{7000}, Identity: true}).Authorization {
			if spec, ok := specOf[serverSpec](object); ok && object.GetKind() == "Server" {
				got = append(got, spec.ProxyProtocol)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: protocols %v, want %v", test.values, got, test.want)
		}
	}
}

// TestCompileProbedOpaque has a port that is opaque by default looked into where it
// is probed by gRPC.
func TestCompileProbedOpaque(t *testing.T) {
	t.Parallel()
	alpha := podOf("dgraph", "alpha", "10.0.0.1", labelled("app", "alpha"))
	got := compiled(t, headed(t, nil), access.Protection{
		Pods: map[string]string{"app": "alpha"}, Ports: []int32{4444}, Identity: true,
		Probes: []access.Probe{{Port: 4444, GRPC: true}, {Port: 4444, Path: "/healthz"}},
	})
	alpha.Pod.Spec.Containers[1].Ports = append(alpha.Pod.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: 4444})
	server := authorityOf(t, got.Authorization...).rules.servers["dgraph"][0]
	if server.protocol == opaqueProtocol {
		t.Error("nothing is looked into")
	}
	for request, want := range map[match]bool{
		{method: "POST", path: "/grpc.health.v1.Health/Check"}: true, {method: "GET", path: "/healthz"}: true, {method: "GET", path: "/"}: false,
	} {
		if got := server.passes(client{address: netip.MustParseAddr("192.0.2.1")}, request); got != want {
			t.Errorf("%v: %t", request, got)
		}
	}
}

func TestPodFindings(t *testing.T) {
	t.Parallel()
	serving := func(ports ...int32) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			for _, port := range ports {
				pod.Spec.Containers[1].Ports = append(pod.Spec.Containers[1].Ports, corev1.ContainerPort{ContainerPort: port})
			}
		}
	}
	deny := annotated("default-inbound-policy", "deny")
	p := access.Protection{Ports: []int32{3306, 8080}, Closed: []int32{7000}, Identity: true, Exceptions: []access.Exception{{Anyone: true}, {Anyone: true, Metrics: true}}}
	wider := p
	wider.Exceptions = append(slices.Clone(p.Exceptions), access.Exception{Anyone: true, Ports: []int32{7000, 8080}})
	probing := access.Protection{Ports: []int32{8080}, Identity: true, Probes: []access.Probe{{Port: 8080, GRPC: true}}}
	told := probing
	told.Probes = append(slices.Clone(told.Probes), access.Probe{Port: 8080, Path: "/healthz"})
	asked := func(pod *corev1.Pod) {
		probed(8080)(pod)
		pod.Spec.Containers[1].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}
	}
	for name, test := range map[string]struct {
		p    access.Protection
		pod  access.End
		want []string
	}{
		"opened to the mesh": {wider, podOf("a", "b", "", deny, serving(3306)), []string{"Ports 7000, which exceptions open, are open behind 4143 to every caller of the mesh"}},
		"undeclared":         {p, podOf("a", "b", "", deny), []string{"No container of the selected pods declares ports 3306"}},
		"probed twice":       {probing, podOf("a", "b", "", deny, asked), []string{"Port 8080 of pods b-0 is probed by gRPC, and by GET /healthz"}},
		"both probes told":   {told, podOf("a", "b", "", deny, asked), nil},
	} {
		got := Traffic{}.PodFindings([]*corev1.Pod{test.pod.Pod}, test.p)
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := (Traffic{}).PodFindings(nil, wider); len(got) != 1 {
		t.Errorf("without pods: %q", got)
	}
	for name, test := range map[string]struct {
		pod  access.End
		want []string // beginnings
	}{
		"as wished":      {podOf("a", "b", "", deny, serving(3306)), nil},
		"open":           {podOf("a", "b", "", serving(3306)), []string{"Ports that pods b-0 do not declare follow their default inbound policy, which is that of the control plane"}},
		"opaque":         {podOf("a", "b", "", deny, serving(3306), annotated("opaque-ports", "3306,7000-8080")), []string{"Ports 7000, 8080 are opaque to the proxies of pods b-0"}},
		"past the proxy": {podOf("a", "b", "", deny, serving(3306), annotated("skip-inbound-ports", "7000-7100")), []string{"Ports 7000 bypass the proxies of pods b-0"}},
	} {
		got := Traffic{}.PodFindings([]*corev1.Pod{test.pod.Pod}, p)
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := (Traffic{}).PodFindings([]*corev1.Pod{podOf("a", "b", "", annotated("opaque-ports", "7000")).Pod}, access.Protection{Ports: []int32{8080}}); got != nil {
		t.Errorf("without identity: %q", got)
	}
}

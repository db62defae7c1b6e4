package linkerd_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// TestPoliciesAreTaken has the API server, with the schemas and the webhook of
// Linkerd's policies, take everything that is ever written, find no default to add
// to it, and refuse what the findings foretell that it will.
func TestPoliciesAreTaken(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	name := embedded.Namespace(t)
	serviced(t, embedded, name)
	annotate(t, embedded, name, map[string]string{inject: "enabled"})
	pod := servingPod(name)
	if _, err := embedded.Client().CoreV1().Pods(name).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := func() []*corev1.Pod {
		t.Helper()
		pods, err := cluster.Pods(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return pods
	}
	eventually(t, func(ctx context.Context) error {
		if len(pods()) == 0 {
			return errors.New("the pod is not seen yet")
		}
		return nil
	})
	probes := access.ProbesOf(pods())

	policy := access.Policy{
		Namespace: name, Name: "calls", Pods: map[string]string{"app": "web"}, MTLS: access.StrictMTLS, Protocol: "HTTP/2", Probes: probes,
		Ports: []access.Port{intstr.FromInt32(8080), intstr.FromString("rpc")},
		Grants: []access.Grant{
			{Callers: []access.Caller{{Meshed: true}, {Identity: "*.shop.serviceaccount.identity.linkerd.cluster.local"}}},
			{
				Callers: []access.Caller{{Account: &access.Account{Namespace: name, Name: "nobody"}}, {Namespace: name}},
				Routes:  []access.Route{{Methods: []string{"GET", "HEAD"}, Path: "/api", Prefix: true}, {Path: "/api/v1"}},
			},
			{Callers: []access.Caller{{Network: &netpol.Block{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.8/32"}}}}},
		},
	}
	protection := access.Protection{
		Namespace: name, Name: "mesh-only", Pods: map[string]string{"app": "web"}, Ports: []int32{8080}, Closed: []int32{9080, 9999}, Identity: true,
		Probes: probes, Exceptions: []access.Exception{
			{Anyone: true, Ports: []int32{9080}}, {Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "192.0.2.0/24"}}}}, {Peers: []netpol.Peer{{}}, Metrics: true},
		},
	}
	authorizer := linkerd.Authorizer{ControlPlane: linkerd.DefaultNamespace}
	authorized, _, err := authorizer.Authorize(t.Context(), cluster, policy)
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := linkerd.Traffic{ControlPlane: linkerd.DefaultNamespace}.Compile(t.Context(), cluster, protection)
	if err != nil {
		t.Fatal(err)
	}
	if compiled.Strength != access.MTLSPort {
		t.Errorf("strength %s by the control plane's values", compiled.Strength)
	}

	none := func(*unstructured.Unstructured) bool { return false }
	expect(t, "before", findings(t, authorizer, cluster, policy, none),
		"so far no Server is for port 8080", "so far no Server is for port rpc", "ServiceAccount "+name+"/nobody, which is let in, does not exist")
	other := policy
	other.Ports = []access.Port{intstr.FromInt32(7000), intstr.FromInt32(4567), intstr.FromInt32(3306), intstr.FromString("odd")}
	other.Probes, other.Grants, other.Protocol = nil, policy.Grants[:1], ""
	expect(t, "ports", findings(t, authorizer, cluster, other, none),
		"declares port 7000", "declares port 4567", "port 4567 bypasses the proxies", "names a port odd",
		"declares port 3306", "port 3306 is opaque", "so far no Server is for port 7000", "so far no Server is for port 4567", "so far no Server is for port 3306")
	unprobed := policy
	unprobed.Probes = nil
	expect(t, "probes", findings(t, authorizer, cluster, unprobed, none), "port 8080 is probed by GET /healthz", "port rpc is probed by POST /grpc", "so far", "so far", "does not exist")
	unprobed.Protocol, unprobed.Grants = "opaque", nil
	expect(t, "opaque", findings(t, authorizer, cluster, unprobed, none), "port 8080 is probed by GET /healthz, which proxies do not tell", "port rpc is probed by POST /grpc", "so far", "so far")

	held := kept(t, cluster, name, "authorization/calls", authorized)
	expect(t, "after", findings(t, authorizer, cluster, policy, held.has), "does not exist")
	expect(t, "another", findings(t, authorizer, cluster, policy, none), "Server "+name+"/calls-8080 is for port 8080 of the same pods", "Server "+name+"/calls-rpc is for port rpc", "does not exist")
	again := policy
	again.Name = "again"
	objects, _, err := authorizer.Authorize(t.Context(), cluster, again)
	if err != nil {
		t.Fatal(err)
	}
	second := holdingOf(cluster, name, "authorization/again")
	if _, err := second.Apply(t.Context(), objects, again, nil, false); err == nil || !strings.Contains(err.Error(), "already defines a policy") {
		t.Errorf("a second Server for the same port: %v", err)
	}
	for _, holding := range []holding.Holding{second, held.Holding} {
		if err := holding.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	kept(t, cluster, name, "network-policy/mesh-only", compiled.Authorization)
	authority, err := linkerd.ReadAuthority(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	to := access.End{Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, Pod: pods()[0]}
	from := to
	from.Pod = to.Pod.DeepCopy()
	if authority.Mesh(to) != "Linkerd" || authority.Class(from) != authority.Class(to) {
		t.Error("the pod is not taken for what it is")
	}
	port := func(number int32) netpol.Port { return netpol.Port{Protocol: corev1.ProtocolTCP, Number: number} }
	if got := authority.Wire(from, to, port(8080)); got != port(4143) {
		t.Errorf("arrives at %v", got)
	}
	stranger, office := access.End{IP: netip.MustParseAddr("198.51.100.1")}, access.End{IP: netip.MustParseAddr("192.0.2.1")}
	for _, test := range []struct {
		from access.End
		port int32
		want bool
	}{{from, 8080, true}, {office, 8080, true}, {stranger, 8080, false}, {from, 9999, false}, {stranger, 9080, true}} {
		if got := authority.Judge(test.from, to, port(test.port)); got.Allowed != test.want {
			t.Errorf("to port %d: %+v", test.port, got)
		}
	}
	if networks := authority.Networks(); !slices.Contains(networks, netip.MustParsePrefix("192.0.2.0/24")) || !slices.Contains(networks, netip.MustParsePrefix("10.0.0.0/8")) {
		t.Errorf("networks %v", networks)
	}
}

// TestRecordedValuesCount holds that what a control plane was installed with counts
// for traffic of a given version, which itself comes before the recorded one.
func TestRecordedValuesCount(t *testing.T) {
	t.Parallel()
	embedded := shared.Cluster(t)
	cluster, namespace := connect(t, embedded), embedded.Namespace(t)
	compile := func(version string) (access.Compiled, error) {
		return linkerd.Traffic{ControlPlane: namespace, Version: version}.Compile(t.Context(), cluster, access.Protection{Namespace: "shop", Name: "mesh-only", Ports: []int32{8080}})
	}
	strength := func(version string, want access.Strength) {
		t.Helper()
		if compiled, err := compile(version); err != nil || compiled.Strength != want {
			t.Errorf("version %q: strength %q, %v", version, compiled.Strength, err)
		}
	}
	strength("2026.8.3", access.MTLSPort) // Nobody is there to tell.
	values := "linkerdVersion: edge-26.8.3\nproxy: {outboundTransportMode: transparent}\nproxyInit: {ignoreInboundPorts: \"9000\"}\n"
	if _, err := embedded.Client().CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "linkerd-config"}, Data: map[string]string{"values": values},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cluster = connect(t, embedded) // The reads so far are shared.
	strength("2026.8.3", access.Label)
	strength("", access.Label)
	if compiled, err := compile("2026.8.3"); err != nil || !strings.Contains(compiled.Guarantee, "bypass the proxies (9000)") {
		t.Errorf("guarantee %q, %v", compiled.Guarantee, err)
	}
	if _, err := compile("stable-2.14.10"); err != nil {
		t.Error(err)
	}
}

// servingPod has ports of all sorts, and probes.
func servingPod(namespace string) *corev1.Pod {
	pod := applicationPod(namespace)
	pod.Name, pod.Labels = "web", map[string]string{"app": "web"}
	main := &pod.Spec.Containers[0]
	main.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "rpc", ContainerPort: 9080}}
	main.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz?full", Port: intstr.FromString("http")}}}
	main.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9080}}}
	return pod
}

func holdingOf(cluster *kube.Cluster, namespace, owner string) holding.Holding {
	return holding.Holding{Cluster: cluster, Manager: "linkerd-test", Owner: owner, Namespace: namespace, Kinds: linkerd.PolicyKinds()}
}

// heldObjects are a holding with what is found of it.
type heldObjects struct {
	holding.Holding
	found holding.Found
}

func (h heldObjects) has(object *unstructured.Unstructured) bool {
	return slices.ContainsFunc(h.found.Objects, func(o *unstructured.Unstructured) bool { return o.GetUID() == object.GetUID() })
}

// kept applies objects and holds that they are found as they were written.
func kept(t *testing.T, cluster *kube.Cluster, namespace, owner string, objects []*unstructured.Unstructured) heldObjects {
	t.Helper()
	h := heldObjects{Holding: holdingOf(cluster, namespace, owner)}
	if _, err := h.Apply(t.Context(), objects, nil, nil, false); err != nil {
		t.Fatal(err)
	}
	wanted, err := holding.Manifest(objects)
	if err != nil {
		t.Fatal(err)
	}
	if h.found, err = h.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.found.Manifest != wanted {
		t.Errorf("%s is\n%s\nwanted\n%s", owner, h.found.Manifest, wanted)
	}
	return h
}

func findings(t *testing.T, authorizer linkerd.Authorizer, cluster *kube.Cluster, p access.Policy, owned func(*unstructured.Unstructured) bool) []string {
	t.Helper()
	found, err := authorizer.AuthorizationFindings(t.Context(), cluster, p, owned)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// expect compares findings, in any order, with parts of them.
func expect(t *testing.T, what string, found []string, wanted ...string) {
	t.Helper()
	left := slices.Clone(found)
	for _, part := range wanted {
		i := slices.IndexFunc(left, func(line string) bool { return strings.Contains(line, part) })
		if i < 0 {
			t.Errorf("%s: %q is not among %q", what, part, found)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("%s: %q besides", what, left)
	}
}

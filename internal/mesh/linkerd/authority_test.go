package linkerd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// authorityOf judges by a control plane of today with the chart's own values, and
// the objects.
func authorityOf(t *testing.T, objects ...*unstructured.Unstructured) *authority {
	t.Helper()
	return authorityBy(t, map[string]any{"proxyInit": map[string]any{"ignoreInboundPorts": "4567,4568", "ignoreOutboundPorts": "4567,4568"}}, objects...)
}

func authorityBy(t *testing.T, values map[string]any, objects ...*unstructured.Unstructured) *authority {
	t.Helper()
	var found policies
	for _, object := range objects {
		switch object.GetKind() {
		case "Server":
			found.servers = append(found.servers, object)
		case "AuthorizationPolicy":
			found.authorizations = append(found.authorizations, object)
		case "MeshTLSAuthentication":
			found.meshTLS = append(found.meshTLS, object)
		case "NetworkAuthentication":
			found.networks = append(found.networks, object)
		case "ServerAuthorization":
			found.legacy = append(found.legacy, object)
		case "HTTPRoute", "GRPCRoute":
			found.routes = append(found.routes, object)
		default:
			t.Fatalf("unexpected kind %s", object.GetKind())
		}
	}
	return newAuthority(map[string]terms{DefaultNamespace: termsOf(DefaultNamespace, "edge-26.8.3", values)}, found)
}

// parsed reads objects of namespace dgraph, as short as they can be: a kind, a
// name and a spec each.
func parsed(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(manifest, "---") {
		var short struct {
			Kind, Name, Group string
			Labels            map[string]string
			Spec              map[string]any
		}
		if err := yaml.UnmarshalStrict([]byte(document), &short); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if short.Group == "" {
			short.Group = policyGroup
		}
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": short.Group + "/v1", "kind": short.Kind, "spec": short.Spec}}
		object.SetNamespace("dgraph")
		object.SetName(short.Name)
		object.SetLabels(short.Labels)
		objects = append(objects, object)
	}
	return objects
}

type podOption func(*corev1.Pod)

// podOf is a meshed pod that runs as the ServiceAccount of its name.
func podOf(namespace, account, address string, options ...podOption) access.End {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: account + "-0",
			Labels: map[string]string{controlPlaneLabel: DefaultNamespace}, Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{
			{Name: ProxyContainer},
			{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}},
		}},
		Status: corev1.PodStatus{PodIP: address},
	}
	for _, option := range options {
		option(pod)
	}
	return access.End{Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, Pod: pod}
}

func labelled(key, value string) podOption {
	return func(p *corev1.Pod) { p.Labels[key] = value }
}

func annotated(key, value string) podOption {
	return func(p *corev1.Pod) { p.Annotations[configPrefix+key] = value }
}

func probed(port int32) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[1].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}}}
		p.Spec.Containers[1].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "ready?now", Port: intstr.FromString("http")}}}
	}
}

// unmeshedPod wears the mesh's label, and has no proxy.
func unmeshedPod(namespace, address string) access.End {
	end := podOf(namespace, "plain", address)
	end.Pod.Spec.Containers = end.Pod.Spec.Containers[1:]
	return end
}

func addressed(address string) access.End { return access.End{IP: netip.MustParseAddr(address)} }

func tcp(number int32) netpol.Port {
	return netpol.Port{Protocol: corev1.ProtocolTCP, Number: number}
}

// byName are grants of Server web, port http, to the identity "friend".
const byName = `
kind: Server
name: web
spec: {podSelector: {matchLabels: {app: web}}, port: http, accessPolicy: deny}
---
kind: MeshTLSAuthentication
name: friend
spec: {identities: [friend.other.serviceaccount.identity.linkerd.cluster.local]}
---
kind: AuthorizationPolicy
name: friends
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: friend}]
`

// granting is a Server for port 8080 of app=web and one AuthorizationPolicy for it.
func granting(required, more string) string {
	return `
kind: Server
name: web
labels: {tier: front}
spec: {podSelector: {matchLabels: {app: web}}, port: 8080}
---
kind: AuthorizationPolicy
name: web
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [` + required + `]}` + more
}

func serverWith(accessPolicy string) string {
	return "{kind: Server, name: web, spec: {podSelector: {}, port: 8080, accessPolicy: " + accessPolicy + "}}"
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const (
		mtls    = `{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: some}`
		net     = `{group: policy.linkerd.io, kind: NetworkAuthentication, name: some}`
		account = `{kind: ServiceAccount, namespace: other, name: friend}`
	)
	some := func(kind, spec string) string { return "\n---\n{kind: " + kind + ", name: some, spec: " + spec + "}" }
	legacy := func(server, client string) string {
		return "\n---\n{kind: ServerAuthorization, name: old, spec: {server: " + server + ", client: " + client + "}}"
	}
	web := func(options ...podOption) access.End {
		return podOf("dgraph", "web", "10.0.0.9", append([]podOption{labelled("app", "web")}, options...)...)
	}
	friend := podOf("other", "friend", "10.1.0.1")
	stranger := podOf("other", "stranger", "10.1.0.2")
	unmeshed := unmeshedPod("other", "10.1.0.3")
	for name, test := range map[string]struct {
		objects                    string
		to                         access.End
		port                       int32
		friend, stranger, unmeshed string // yes, part, unknown or empty
		says                       string // of the stranger
	}{
		"nothing said":         {"", web(), 8080, "yes", "yes", "yes", "no Server governs port 8080, and the default inbound policy is all-unauthenticated"},
		"outside of the mesh":  {byName, unmeshedPod("dgraph", "10.0.0.8"), 8080, "yes", "yes", "yes", "without a proxy"},
		"by identity":          {byName, web(), 8080, "yes", "", "", "Server dgraph/web: nothing lets its identity in"},
		"another port":         {byName, web(), 8081, "yes", "yes", "yes", "no Server governs port 8081"},
		"of other pods":        {byName, podOf("dgraph", "db", "10.0.0.7"), 8080, "yes", "yes", "yes", "no Server governs"},
		"of another namespace": {byName, podOf("shop", "web", "10.0.0.6", labelled("app", "web")), 8080, "yes", "yes", "yes", "no Server governs"},
		"by a port's number that nothing declares": {strings.ReplaceAll(byName, "port: http", "port: 9999"), web(), 9999, "yes", "", "", "Server dgraph/web"},
		"by the name of a UDP port":                {strings.ReplaceAll(byName, "port: http", "port: dns"), web(), 53, "yes", "yes", "yes", "no Server"},

		"deny":                    {"", web(annotated("default-inbound-policy", "deny")), 8080, "", "", "", "is deny"},
		"audit":                   {"", web(annotated("default-inbound-policy", "audit")), 8080, "yes", "yes", "yes", "is audit"},
		"all-authenticated":       {"", web(annotated("default-inbound-policy", "all-authenticated")), 8080, "yes", "yes", "", "is all-authenticated"},
		"cluster-authenticated":   {"", web(annotated("default-inbound-policy", "cluster-authenticated")), 8080, "yes", "yes", "", ""},
		"cluster-unauthenticated": {"", web(annotated("default-inbound-policy", "cluster-unauthenticated")), 8080, "yes", "yes", "yes", ""},
		"unknown to Linkerd":      {"", web(annotated("default-inbound-policy", "open")), 8080, "yes", "yes", "yes", "is all-unauthenticated"},
		"identity required":       {"", web(annotated("proxy-require-identity-inbound-ports", "80,8080")), 8080, "yes", "yes", "", ""},
		"the proxy's metrics":     {"", web(annotated("default-inbound-policy", "all-authenticated")), 4191, "yes", "yes", "", ""},
		"the control plane": {"", podOf("linkerd", "linkerd-destination", "10.0.0.5", labelled("linkerd.io/control-plane-component", "destination"),
			annotated("default-inbound-policy", "all-unauthenticated")), 8086, "yes", "yes", "yes", ""},

		"access all-authenticated":   {serverWith("all-authenticated"), web(), 8080, "yes", "yes", "", "accessPolicy all-authenticated lets it in"},
		"access all-unauthenticated": {serverWith("all-unauthenticated"), web(), 8080, "yes", "yes", "yes", ""},
		"access audit":               {serverWith("audit"), web(), 8080, "yes", "yes", "yes", ""},
		"access deny":                {serverWith("deny"), web(annotated("default-inbound-policy", "all-unauthenticated")), 8080, "", "", "", ""},

		"everybody meshed":              {granting(mtls, some("MeshTLSAuthentication", `{identities: ["*"]}`)), web(), 8080, "yes", "yes", "", "AuthorizationPolicy dgraph/web lets it in"},
		"by suffix":                     {granting(mtls, some("MeshTLSAuthentication", `{identities: ["*.other.serviceaccount.identity.linkerd.cluster.local"]}`)), web(), 8080, "yes", "yes", "", ""},
		"by another suffix":             {granting(mtls, some("MeshTLSAuthentication", `{identities: ["*.her.serviceaccount.identity.linkerd.cluster.local"]}`)), web(), 8080, "", "", "", ""},
		"by account":                    {granting(mtls, some("MeshTLSAuthentication", `{identityRefs: [{kind: ServiceAccount, namespace: other, name: friend}]}`)), web(), 8080, "yes", "", "", ""},
		"by account of the namespace":   {granting(mtls, some("MeshTLSAuthentication", `{identityRefs: [{kind: ServiceAccount, name: friend}]}`)), web(), 8080, "", "", "", ""},
		"by namespace":                  {granting(mtls, some("MeshTLSAuthentication", `{identityRefs: [{kind: Namespace, name: other}]}`)), web(), 8080, "yes", "yes", "", ""},
		"by account, directly":          {granting(account, ""), web(), 8080, "yes", "", "", ""},
		"by network":                    {granting(net, some("NetworkAuthentication", `{networks: [{cidr: 10.1.0.0/16, except: [10.1.0.2/32]}]}`)), web(), 8080, "yes", "", "yes", ""},
		"by one address":                {granting(net, some("NetworkAuthentication", `{networks: [{cidr: 10.1.0.3}]}`)), web(), 8080, "", "", "yes", ""},
		"by network and identity":       {granting(mtls+", "+net, some("MeshTLSAuthentication", `{identities: ["*"]}`)+some("NetworkAuthentication", `{networks: [{cidr: 10.1.0.0/31}]}`)), web(), 8080, "yes", "", "", ""},
		"by what is not there":          {granting(mtls, ""), web(), 8080, "", "", "", ""},
		"and by what is not there":      {granting(mtls+", "+net, some("MeshTLSAuthentication", `{identities: ["*"]}`)), web(), 8080, "", "", "", ""},
		"by nothing at all":             {granting("", ""), web(), 8080, "yes", "yes", "yes", ""},
		"for the namespace":             {strings.ReplaceAll(byName, "{group: policy.linkerd.io, kind: Server, name: web}", "{kind: Namespace, name: dgraph}"), web(), 8080, "yes", "", "", ""},
		"for the namespace's own rules": {strings.ReplaceAll(byName, "{group: policy.linkerd.io, kind: Server, name: web}", "{kind: Namespace, name: dgraph}"), web(), 8081, "yes", "yes", "yes", ""},

		"of old by name":      {serverWith("deny") + legacy("{name: web}", "{unauthenticated: true}"), web(), 8080, "yes", "yes", "yes", "ServerAuthorization dgraph/old"},
		"of old by labels":    {granting("", "")[:strings.Index(granting("", ""), "---")] + legacy("{selector: {matchLabels: {tier: front}}}", "{meshTLS: {unauthenticatedTLS: true}}")[1:], web(), 8080, "yes", "yes", "", ""},
		"of old by others":    {serverWith("deny") + legacy("{selector: {matchLabels: {tier: back}}}", "{unauthenticated: true}"), web(), 8080, "", "", "", ""},
		"of old by account":   {serverWith("deny") + legacy("{name: web}", "{meshTLS: {serviceAccounts: [{name: friend, namespace: other}]}}"), web(), 8080, "yes", "", "", ""},
		"of old by identity":  {serverWith("deny") + legacy("{name: web}", `{meshTLS: {identities: ["*.other.serviceaccount.identity.linkerd.cluster.local"]}}`), web(), 8080, "yes", "yes", "", ""},
		"of old by network":   {serverWith("deny") + legacy("{name: web}", "{unauthenticated: true, networks: [{cidr: 10.1.0.2/32}]}"), web(), 8080, "", "yes", "", ""},
		"of old for nobody":   {serverWith("deny") + legacy("{name: web}", "{meshTLS: {}}"), web(), 8080, "", "", "", ""},
		"of old for nothing":  {serverWith("deny") + legacy("{name: web}", "{}"), web(), 8080, "", "", "", ""},
		"for other workloads": {"{kind: Server, name: web, spec: {externalWorkloadSelector: {}, port: 8080}}", web(), 8080, "yes", "yes", "yes", "no Server"},

		"two that agree": {serverWith("deny") + "\n---\n{kind: Server, name: web2, spec: {podSelector: {matchLabels: {app: web}}, port: 8080}}", web(), 8080, "", "", "", ""},
		"two that do not": {
			serverWith("deny") + "\n---\n{kind: Server, name: web2, spec: {podSelector: {matchLabels: {app: web}}, port: 8080, accessPolicy: audit}}",
			web(), 8080, "unknown", "unknown", "unknown", "both claim port 8080",
		},

		"routes of the friend's": {byName + route("web", "{path: {type: PathPrefix, value: /api}}", "") + routed("policy", account), web(), 8080, "part", "", "", ""},
		"a route":                {serverWith("deny") + route("web", "{path: {type: PathPrefix, value: /api}}", "") + routed("policy", account), web(), 8080, "part", "", "", "nothing lets its identity in"},
		"a route for all there is": {
			serverWith("deny") + route("web", "{path: {type: PathPrefix, value: /}}", "") + routed("policy", account),
			web(), 8080, "yes", "", "", "",
		},
		"a route without matches":    {serverWith("deny") + route("web", "", "") + routed("policy", account), web(), 8080, "yes", "", "", ""},
		"a route for all by header":  {serverWith("deny") + route("web", "{path: {value: /}, headers: [{name: a, value: b}]}", "") + routed("policy", account), web(), 8080, "part", "", "", ""},
		"a route of another":         {serverWith("deny") + route("web2", "", "") + routed("policy", account), web(), 8080, "", "", "", ""},
		"a route of the Gateway API": {serverWith("deny") + route("web", "", "gateway.networking.k8s.io") + routed("gateway", account), web(), 8080, "yes", "", "", ""},
		"a route of another group":   {serverWith("deny") + route("web", "", "gateway.networking.k8s.io") + routed("policy", account), web(), 8080, "", "", "", ""},
		"a route where HTTP is no HTTP": {
			strings.Replace(serverWith("deny"), "port:", "proxyProtocol: opaque, port:", 1) + route("web", "", "") + routed("policy", account),
			web(), 8080, "", "", "", "",
		},
		"probes alone": {serverWith("deny") + route("web", "{method: GET, path: {type: Exact, value: /ready}}", "") + routed("probes", ""), web(probed(8080)), 8080, "", "", "", ""},
		"probes of others": {
			serverWith("deny") + route("web", "{method: GET, path: {type: Exact, value: /ready}}", "") + routed("probes", ""), web(), 8080,
			"part", "part", "part", "AuthorizationPolicy dgraph/probes lets some of its requests in",
		},

		"bypassed":              {serverWith("deny"), web(annotated("skip-inbound-ports", "8000-8100")), 8080, "yes", "yes", "yes", "bypasses the proxy"},
		"bypassed by the chart": {"{kind: Server, name: web, spec: {podSelector: {}, port: 4567}}", web(), 4567, "yes", "yes", "yes", "bypasses the proxy"},
		"not bypassed any more": {"{kind: Server, name: web, spec: {podSelector: {}, port: 4567}}", web(annotated("skip-inbound-ports", "")), 4567, "", "", "", ""},
		"tap":                   {"", web(annotated("default-inbound-policy", "deny")), 4190, "part", "part", "part", "viz"},
		"the proxy's own":       {"", web(), 4143, "", "", "", "from other proxies only"},
		"the proxy's own too":   {"", web(), 4140, "", "", "", "its own pod only"},
	} {
		var objects []*unstructured.Unstructured
		if test.objects != "" {
			objects = parsed(t, test.objects)
		}
		a := authorityOf(t, objects...)
		for who, from := range map[string]struct {
			end  access.End
			want string
		}{"friend": {friend, test.friend}, "stranger": {stranger, test.stranger}, "unmeshed pod": {unmeshed, test.unmeshed}} {
			got := a.Judge(from.end, test.to, tcp(test.port))
			if got.Allowed != (from.want != "") || got.Partly != (from.want == "part") || got.Unknown != (from.want == "unknown") {
				t.Errorf("%s: %s: %+v, want %q", name, who, got, from.want)
			}
			if who == "stranger" && !strings.Contains(got.Reason, test.says) {
				t.Errorf("%s: reason %q lacks %q", name, got.Reason, test.says)
			}
		}
	}
}

// route is attached to a Server.
func route(server, match, group string) string {
	rule := "{}"
	if match != "" {
		rule = "{matches: [" + match + "]}"
	}
	return "\n---\n{kind: HTTPRoute, name: api, group: " + group + ", spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: " + server + "}], rules: [" + rule + "]}}"
}

// routed lets callers go by the route, which is of Linkerd's group unless name is
// gateway.
func routed(name, required string) string {
	group := policyGroup
	if name == "gateway" {
		group = gatewayGroup
	}
	return "\n---\n{kind: AuthorizationPolicy, name: " + name + ", spec: {targetRef: {group: " + group + ", kind: HTTPRoute, name: api}, requiredAuthenticationRefs: [" + required + "]}}"
}

// TestJudgeByTheCaller holds what a caller's side does to its identity.
func TestJudgeByTheCaller(t *testing.T) {
	t.Parallel()
	a := authorityOf(t)
	to := podOf("dgraph", "web", "10.0.0.9", annotated("default-inbound-policy", "cluster-authenticated"))
	open := podOf("dgraph", "web", "10.0.0.9", annotated("default-inbound-policy", "cluster-unauthenticated"))
	for name, test := range map[string]struct {
		from, to access.End
		port     int32
		allowed  bool
		wire     int32
	}{
		"meshed":                            {podOf("a", "b", "10.0.0.1"), to, 8080, true, 4143},
		"meshed, to metrics":                {podOf("a", "b", "10.0.0.1"), to, 4191, true, 4191},
		"meshed, past its proxy":            {podOf("a", "b", "10.0.0.1", annotated("skip-outbound-ports", "8080")), to, 8080, false, 8080},
		"meshed, past its proxy elsewhere":  {podOf("a", "b", "10.0.0.1", annotated("skip-outbound-ports", "9090")), to, 8080, true, 4143},
		"meshed, past it by the chart":      {podOf("a", "b", "10.0.0.1"), to, 4568, true, 4568},
		"of another control plane":          {podOf("a", "b", "10.0.0.1", labelled("linkerd.io/control-plane-ns", "l5d")), to, 8080, false, 8080},
		"label and no proxy":                {unmeshedPod("a", "10.0.0.1"), to, 8080, false, 8080},
		"meshed, from outside the networks": {podOf("a", "b", "203.0.113.1"), to, 8080, false, 4143},
		"outside":                           {addressed("203.0.113.1"), open, 8080, false, 8080},
		"outside, but in the networks":      {addressed("10.200.0.1"), open, 8080, true, 8080},
		"mapped into IPv6":                  {addressed("::ffff:10.200.0.1"), open, 8080, true, 8080},
		"no address yet":                    {unmeshedPod("a", ""), open, 8080, false, 8080},
		"to no proxy":                       {podOf("a", "b", "10.0.0.1"), unmeshedPod("a", "10.0.0.2"), 8080, true, 8080},
		"to tap":                            {podOf("a", "b", "10.0.0.1"), to, 4190, true, 4190},
	} {
		if got := a.Judge(test.from, test.to, tcp(test.port)); got.Allowed != test.allowed {
			t.Errorf("%s: %+v", name, got)
		}
		if got := a.Wire(test.from, test.to, tcp(test.port)); got != tcp(test.wire) {
			t.Errorf("%s: arrives at %v, want %d", name, got, test.wire)
		}
	}
	udp := netpol.Port{Protocol: corev1.ProtocolUDP, Number: 53}
	from := podOf("a", "b", "10.0.0.1")
	if got := a.Wire(from, to, udp); got != udp {
		t.Errorf("UDP arrives at %v", got)
	}
	if got := a.Judge(from, to, udp); !got.Allowed {
		t.Errorf("UDP: %+v", got)
	}
	if a.Mesh(to) != "Linkerd" || a.Mesh(unmeshedPod("a", "10.0.0.1")) != "" || a.Mesh(addressed("10.0.0.1")) != "" {
		t.Error("mesh")
	}
}

// TestControlPlaneIsCalledByProxies holds that they call it at its own ports.
func TestControlPlaneIsCalledByProxies(t *testing.T) {
	t.Parallel()
	a := authorityOf(t)
	from := podOf("dgraph", "alpha", "10.0.0.1")
	component := func(name string) access.End {
		return podOf("linkerd", "linkerd-"+name, "10.0.0.2", labelled(componentLabel, name), annotated("default-inbound-policy", "all-unauthenticated"))
	}
	identity, destination := component("identity"), component("destination")
	for _, test := range []struct {
		to         access.End
		port, want int32
	}{{identity, 8080, 8080}, {identity, 8086, 4143}, {destination, 8086, 8086}, {destination, 8090, 8090}, {destination, 8080, 4143}, {component("proxy-injector"), 8443, 4143}} {
		if got := a.Wire(from, test.to, tcp(test.port)); got != tcp(test.want) {
			t.Errorf("port %d of %s arrives at %v, want %d", test.port, test.to.Pod.Name, got, test.want)
		}
		if got := a.Judge(from, test.to, tcp(test.port)); !got.Allowed || got.Unknown {
			t.Errorf("port %d of %s: %+v", test.port, test.to.Pod.Name, got)
		}
	}
	if a.Class(identity) == a.Class(destination) {
		t.Error("identity and destination are of one class")
	}
}

// TestSkippedPortsOfServices holds that what bypasses a caller's proxy goes by the
// port of the Service.
func TestSkippedPortsOfServices(t *testing.T) {
	t.Parallel()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dgraph", Name: "db"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "db"},
		Ports:    []corev1.ServicePort{{Port: 3306, TargetPort: intstr.FromInt32(13306)}, {Port: 80, TargetPort: intstr.FromString("http")}, {Port: 9090}},
	}}
	a := newAuthority(map[string]terms{DefaultNamespace: termsOf(DefaultNamespace, "edge-26.8.3", nil)}, policies{}, service)
	db, other := podOf("dgraph", "db", "10.0.0.9", labelled("app", "db")), podOf("dgraph", "other", "10.0.0.9")
	for _, test := range []struct {
		skips string
		to    access.End
		port  int32
		via   string
	}{
		{"3306", db, 13306, "port 3306 of Service dgraph/db"},
		{"13306", db, 13306, "port 3306 of Service dgraph/db"},
		{"3306,13306", db, 13306, ""},
		{"80", db, 8080, "port 80 of Service dgraph/db"},
		{"9090", db, 9090, ""},
		{"443", db, 13306, ""},
		{"3306", other, 13306, ""},
	} {
		got := a.Judge(podOf("a", "b", "10.0.0.1", annotated("skip-outbound-ports", test.skips)), test.to, tcp(test.port))
		if got.Via != test.via || got.Unknown != (test.via != "") || !got.Allowed {
			t.Errorf("skips %s, port %d of %s: %+v", test.skips, test.port, test.to.Pod.Name, got)
		}
		if got := a.Judge(unmeshedPod("a", "10.0.0.1"), test.to, tcp(test.port)); got.Unknown {
			t.Errorf("unmeshed, port %d of %s: %+v", test.port, test.to.Pod.Name, got)
		}
	}
	if a.Class(podOf("dgraph", "db", "10.0.0.9")) == a.Class(db) {
		t.Error("pods with the Service and without are of one class")
	}
}

// TestAThousandAccountsAreFewClasses has as many workloads, each with an account of
// its own, and 200 authorizations that tell few of them apart.
func TestAThousandAccountsAreFewClasses(t *testing.T) {
	t.Parallel()
	var objects []*unstructured.Unstructured
	for i := range 200 {
		objects = append(objects, parsed(t, fmt.Sprintf(`
{kind: Server, name: s%[1]d, spec: {podSelector: {matchLabels: {app: guarded}}, port: %[2]d}}
---
{kind: AuthorizationPolicy, name: p%[1]d, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: s%[1]d}, requiredAuthenticationRefs: [{kind: ServiceAccount, namespace: ns1, name: a%[3]d}]}}`,
			i, 1000+i, i%3*20+1))...)
	}
	a := authorityOf(t, objects...)
	classes := map[string]bool{}
	for i := range 1000 {
		classes[a.Class(podOf(fmt.Sprintf("ns%d", i%20), fmt.Sprintf("a%d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250)))] = true
	}
	if len(classes) != 4 {
		t.Errorf("%d classes, want those of the three accounts that are named, and of all others", len(classes))
	}
}

// TestWireWithoutHeader holds that only opaque ports go to the proxy's port then.
func TestWireWithoutHeader(t *testing.T) {
	t.Parallel()
	a := authorityBy(t, map[string]any{"proxy": map[string]any{"outboundTransportMode": "transparent"}}, parsed(t, `
{kind: Server, name: opaque, spec: {podSelector: {matchLabels: {app: served}}, port: 8080, proxyProtocol: opaque}}
---
{kind: Server, name: looked-into, spec: {podSelector: {matchLabels: {app: served}}, port: 5432}}`)...)
	from, served := podOf("a", "b", "10.0.0.1"), podOf("dgraph", "web", "10.0.0.9", labelled("app", "served"))
	to, opaque := podOf("dgraph", "web", "10.0.0.9"), podOf("dgraph", "web", "10.0.0.9", annotated("opaque-ports", "8080"))
	for _, test := range []struct {
		to   access.End
		port int32
		want int32
	}{{to, 8080, 8080}, {to, 5432, 4143}, {opaque, 8080, 4143}, {opaque, 5432, 5432}, {opaque, 4191, 4191}, {served, 8080, 4143}, {served, 5432, 5432}} {
		if got := a.Wire(from, test.to, tcp(test.port)); got != tcp(test.want) {
			t.Errorf("port %d arrives at %v, want %d", test.port, got, test.want)
		}
	}
}

// TestTrustDomain holds that identities end in what the control plane says.
func TestTrustDomain(t *testing.T) {
	t.Parallel()
	objects := parsed(t, granting("{kind: ServiceAccount, namespace: other, name: friend}", ""))
	for _, values := range []map[string]any{nil, {"clusterDomain": "here.example"}, {"clusterDomain": "here.example", "identityTrustDomain": "there.example"}} {
		a := authorityBy(t, values, objects...)
		if got := a.Judge(podOf("other", "friend", "10.0.0.1"), podOf("dgraph", "web", "10.0.0.2", labelled("app", "web")), tcp(8080)); !got.Allowed {
			t.Errorf("%v: %+v", values, got)
		}
	}
	if got := termsOf("l5d", "edge-26.8.3", map[string]any{"clusterDomain": "here.example", "identityTrustDomain": "there.example"}).identities; got != "identity.l5d.there.example" {
		t.Errorf("identities end in %s", got)
	}
}

// TestClasses holds, for random pods and policies, that nothing tells ends of the
// same class apart.
func TestClasses(t *testing.T) {
	t.Parallel()
	pick := func(random *rand.Rand, of ...string) string { return of[random.IntN(len(of))] }
	same := 0
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		var objects []*unstructured.Unstructured
		for n := range 6 {
			manifest := fmt.Sprintf("{kind: Server, name: s%d, spec: {podSelector: {matchLabels: {app: %s}}, port: %s, accessPolicy: %s}}", n,
				pick(random, "web", "db"), pick(random, "8080", "http", "5432"), pick(random, "deny", "all-authenticated", "cluster-unauthenticated")) +
				fmt.Sprintf("\n---\n{kind: NetworkAuthentication, name: n%d, spec: {networks: [{cidr: 10.0.%d.0/24}]}}", n, random.IntN(4)) +
				fmt.Sprintf("\n---\n{kind: MeshTLSAuthentication, name: m%d, spec: {identityRefs: [{kind: ServiceAccount, namespace: a, name: %s}]}}", n, pick(random, "x", "y")) +
				fmt.Sprintf("\n---\n{kind: AuthorizationPolicy, name: p%d, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: s%d}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: %s%d}]}}",
					n, random.IntN(6), pick(random, "MeshTLSAuthentication, name: m", "NetworkAuthentication, name: n"), random.IntN(7))
			objects = append(objects, parsed(t, manifest)...)
		}
		a := authorityOf(t, objects...)
		classes := map[string]access.End{}
		ends := make([]access.End, 40)
		for i := range ends {
			address := fmt.Sprintf("10.0.%d.%d", random.IntN(5), i+1)
			switch random.IntN(8) {
			case 0:
				ends[i] = addressed(address)
			case 1:
				ends[i] = unmeshedPod("dgraph", address)
			default:
				ends[i] = podOf(pick(random, "dgraph", "a"), pick(random, "x", "y"), address, labelled("app", pick(random, "web", "db")),
					annotated(pick(random, "default-inbound-policy", "skip-inbound-ports", "skip-outbound-ports"), pick(random, "deny", "8080", "all-authenticated")))
			}
		}
		probe := []access.End{ends[0], ends[1], ends[2], ends[3], podOf("dgraph", "x", "10.0.1.200", labelled("app", "web")), addressed("203.0.113.1")}
		for _, end := range ends {
			twin, known := classes[a.Class(end)]
			if !known {
				classes[a.Class(end)] = end
				continue
			}
			same++
			for _, other := range probe {
				for _, port := range []netpol.Port{tcp(8080), tcp(5432), tcp(4143), tcp(4191)} {
					if a.Judge(end, other, port) != a.Judge(twin, other, port) || a.Wire(end, other, port) != a.Wire(twin, other, port) {
						t.Errorf("seed %d: from %+v and %+v to %+v at %v differ", seed, end, twin, other, port)
					}
					if a.Judge(other, end, port) != a.Judge(other, twin, port) || a.Wire(other, end, port) != a.Wire(other, twin, port) {
						t.Errorf("seed %d: to %+v and %+v from %+v at %v differ", seed, end, twin, other, port)
					}
				}
			}
		}
	}
	if same < 100 {
		t.Errorf("only %d ends had a twin", same)
	}
}

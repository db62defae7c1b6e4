package linkerd

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func friendly() access.Caller {
	return access.Caller{Account: &access.Account{Namespace: "other", Name: "friend"}}
}

func fromNetwork(cidr string, except ...string) access.Caller {
	return access.Caller{Network: &netpol.Block{CIDR: cidr, Except: except}}
}

// authorized writes the objects of a policy for app=web in namespace dgraph.
func authorized(t *testing.T, p access.Policy) []*unstructured.Unstructured {
	t.Helper()
	p.Namespace, p.Name, p.Pods = "dgraph", "web", map[string]string{"app": "web"}
	objects, _, err := (Authorizer{Version: "2026.8.3"}).Authorize(t.Context(), nil, p)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, object := range objects {
		name := nameOf(object)
		if names[name] {
			t.Errorf("%s twice", name)
		}
		names[name] = true
	}
	return objects
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	web := podOf("dgraph", "web", "10.0.0.9", labelled("app", "web"))
	friend, stranger := podOf("other", "friend", "10.1.0.1"), podOf("other", "stranger", "10.1.0.2")
	unmeshed := unmeshedPod("other", "10.1.0.3")
	for name, test := range map[string]struct {
		policy                     access.Policy
		friend, stranger, unmeshed string
	}{
		"nobody":              {access.Policy{}, "", "", ""},
		"everybody meshed":    {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{{Meshed: true}}}}}, "yes", "yes", ""},
		"an account":          {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{friendly()}}}}, "yes", "", ""},
		"a namespace":         {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{{Namespace: "other"}}}}}, "yes", "yes", ""},
		"another namespace":   {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{{Namespace: "another"}}}}}, "", "", ""},
		"an identity":         {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{{Identity: "*.other.serviceaccount.identity.linkerd.cluster.local"}}}}}, "yes", "yes", ""},
		"a network":           {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{fromNetwork("10.1.0.0/16", "10.1.0.2/32")}}}}, "yes", "", "yes"},
		"a network, strictly": {access.Policy{MTLS: access.StrictMTLS, Grants: []access.Grant{{Callers: []access.Caller{fromNetwork("10.1.0.0/16", "10.1.0.2/32")}}}}, "yes", "", ""},
		"any of several":      {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{friendly(), fromNetwork("10.1.0.3/32"), {Identity: "x.y"}}}}}, "yes", "", "yes"},
		"several grants":      {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{friendly()}}, {Callers: []access.Caller{fromNetwork("10.1.0.2/32")}}}}, "yes", "yes", ""},
		"routes":              {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{friendly()}, Routes: []access.Route{{Path: "/api", Prefix: true}}}}}, "part", "", ""},
		"routes and all": {access.Policy{Grants: []access.Grant{
			{Callers: []access.Caller{friendly()}, Routes: []access.Route{{Path: "/api", Prefix: true}}}, {Callers: []access.Caller{fromNetwork("10.1.0.2/32")}},
		}}, "part", "yes", ""},
		"probes": {access.Policy{Grants: []access.Grant{{Callers: []access.Caller{friendly()}}}, Probes: []access.Probe{{Port: 8080, GRPC: true}, {Port: 9090, GRPC: true}}}, "yes", "", ""},
	} {
		for _, port := range []access.Port{intstr.FromInt32(8080), intstr.FromString("http")} {
			test.policy.Ports = []access.Port{port}
			for i := range test.policy.Probes {
				test.policy.Probes[i].Name = "http"
			}
			web.Pod.Spec.Containers[1].LivenessProbe = nil
			if len(test.policy.Probes) > 0 {
				probed(8080)(web.Pod)
			}
			a := authorityOf(t, authorized(t, test.policy)...)
			for who, from := range map[string]struct {
				end  access.End
				want string
			}{"friend": {friend, test.friend}, "stranger": {stranger, test.stranger}, "unmeshed pod": {unmeshed, test.unmeshed}} {
				got := a.Judge(from.end, web, tcp(8080))
				if got.Allowed != (from.want != "") || got.Partly != (from.want == "part") {
					t.Errorf("%s at %s: %s: %+v, want %q", name, port.String(), who, got, from.want)
				}
			}
		}
	}
}

// TestAuthorizeSpells holds an object of each kind down to the letter: the API
// server must find no default to add.
func TestAuthorizeSpells(t *testing.T) {
	t.Parallel()
	objects := authorized(t, access.Policy{
		Ports: []access.Port{intstr.FromInt32(8080)}, MTLS: access.StrictMTLS,
		Grants: []access.Grant{
			{Callers: []access.Caller{friendly(), {Namespace: "shop"}}, Routes: []access.Route{{Methods: []string{"GET"}, Path: "/api/", Prefix: true}, {Path: "/health"}}},
			{Callers: []access.Caller{fromNetwork("10.0.0.0/8", "10.1.0.0/16")}},
		},
	})
	var got strings.Builder
	for _, object := range objects {
		spec, err := yaml.Marshal(object.Object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "# %s %s\n%s", object.GetAPIVersion(), nameOf(object), spec)
	}
	const want = `# policy.linkerd.io/v1alpha1 NetworkAuthentication dgraph/web-160c5214b3d7f05d
networks:
- cidr: 10.0.0.0/8
  except:
  - 10.1.0.0/16
# policy.linkerd.io/v1alpha1 MeshTLSAuthentication dgraph/web-75bc073785237cd3
identities:
- '*'
# policy.linkerd.io/v1alpha1 MeshTLSAuthentication dgraph/web-bd4bbea37e41ecf5
identityRefs:
- kind: ServiceAccount
  name: friend
  namespace: other
- kind: Namespace
  name: shop
# policy.linkerd.io/v1beta3 HTTPRoute dgraph/web-8080-rest-48b3999357fe242a
parentRefs:
- group: policy.linkerd.io
  kind: Server
  name: web-8080
rules:
- matches:
  - path:
      type: PathPrefix
      value: /
# policy.linkerd.io/v1beta3 HTTPRoute dgraph/web-8080-route-278a5083a7970cb5
parentRefs:
- group: policy.linkerd.io
  kind: Server
  name: web-8080
rules:
- matches:
  - method: GET
    path:
      type: PathPrefix
      value: /api
  - path:
      type: Exact
      value: /health
# policy.linkerd.io/v1alpha1 AuthorizationPolicy dgraph/web-8080-networks-ce9291008ad14443
requiredAuthenticationRefs:
- group: policy.linkerd.io
  kind: NetworkAuthentication
  name: web-160c5214b3d7f05d
- group: policy.linkerd.io
  kind: MeshTLSAuthentication
  name: web-75bc073785237cd3
targetRef:
  group: policy.linkerd.io
  kind: Server
  name: web-8080
# policy.linkerd.io/v1alpha1 AuthorizationPolicy dgraph/web-8080-route-278a5083a7970cb5-accounts-a0a7e45f1ae9ebf6
requiredAuthenticationRefs:
- group: policy.linkerd.io
  kind: MeshTLSAuthentication
  name: web-bd4bbea37e41ecf5
targetRef:
  group: policy.linkerd.io
  kind: HTTPRoute
  name: web-8080-route-278a5083a7970cb5
# policy.linkerd.io/v1beta3 Server dgraph/web-8080
accessPolicy: deny
podSelector:
  matchLabels:
    app: web
port: 8080
proxyProtocol: unknown
`
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
}

// TestRoutes holds, for random grants, that a request gets through if and only if a
// grant has a route for it, by the match that the proxy takes: the most specific
// one (as the Gateway API defines it), whatever others there are.
func TestRoutes(t *testing.T) {
	t.Parallel()
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/d"}
	methods := []string{"GET", "POST", "PUT"}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		var grants []access.Grant
		for range 1 + random.IntN(4) {
			// A grant is told by the account that it lets in.
			grant := access.Grant{Callers: []access.Caller{{Account: &access.Account{Namespace: "a", Name: "g" + strconv.Itoa(len(grants))}}}}
			for range random.IntN(4) {
				route := access.Route{Path: paths[random.IntN(len(paths))], Prefix: random.IntN(2) == 0}
				if random.IntN(2) == 0 {
					route.Methods = slices.Compact([]string{methods[random.IntN(2)], methods[random.IntN(2)]})
				}
				grant.Routes = append(grant.Routes, route)
			}
			grants = append(grants, grant)
		}
		objects := authorized(t, access.Policy{Ports: []access.Port{intstr.FromInt32(8080)}, Grants: grants})
		s := authorityOf(t, objects...).rules.servers["dgraph"][0]
		for _, method := range methods {
			for _, path := range append([]string{"/a/b/c/d", "/abc"}, paths...) {
				request := match{method: method, path: path}
				for i, grant := range grants {
					want := len(grant.Routes) == 0 || slices.ContainsFunc(grant.Routes, func(r access.Route) bool {
						return slices.ContainsFunc(matchesOf(r), func(m match) bool { return m.covers(request) })
					})
					c := client{identity: "g" + strconv.Itoa(i) + ".a.serviceaccount.identity.linkerd.cluster.local", address: addressed("10.0.0.1").IP}
					if got := s.passes(c, request); got != want {
						t.Fatalf("case %d: grant %d of %+v: %s %s: %t, want %t", n, i, grants, method, path, got, want)
					}
				}
			}
		}
	}
}

// TestFindingsOfPods looks at what pods make of a policy's ports.
func TestFindingsOfPods(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "web", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 8443}, {Name: "http", ContainerPort: 8080}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("https"), Scheme: corev1.URISchemeHTTPS}}},
		Lifecycle:      &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/warm", Port: intstr.FromInt32(9000)}}},
		LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/alive", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}}},
	}}}}
	probes := access.ProbesOf([]*corev1.Pod{pod})
	const refused = "port 8443 is probed by HTTPS at /ready, where proxies see no request"
	nodes := []access.Grant{{Callers: []access.Caller{fromNetwork("10.0.0.0/8")}}}
	for name, test := range map[string]struct {
		policy access.Policy
		want   string // beginning of the one line; none if there is none
	}{
		"probes by HTTPS":           {access.Policy{Ports: access.PortsOf([]int32{8443, 8080})}, refused},
		"of granted nodes":          {access.Policy{Ports: access.PortsOf([]int32{8443}), Grants: nodes}, ""},
		"of nodes without identity": {access.Policy{Ports: access.PortsOf([]int32{8443}), Grants: nodes, MTLS: access.StrictMTLS}, refused},
		"one port twice":            {access.Policy{Ports: []access.Port{intstr.FromString("http"), intstr.FromInt32(8080)}}, "ports http and 8080 are the same of some pods"},
		"a hook":                    {access.Policy{Ports: access.PortsOf([]int32{9000})}, "port 9000 is called by a lifecycle hook, at /warm"},
		"two ports":                 {access.Policy{Ports: []access.Port{intstr.FromString("http"), intstr.FromInt32(8081)}}, ""},
	} {
		f := findings{policy: test.policy, pods: []member{{pod: pod}}}
		f.ofSamePorts()
		for _, port := range test.policy.Ports {
			f.ofProbes(f.pods[0], port, port.IntVal)
			f.ofHooks(f.pods[0], port, port.IntVal)
		}
		if (test.want == "") != (len(f.lines) == 0) || len(f.lines) > 1 || test.want != "" && !strings.HasPrefix(f.lines[0], test.want) {
			t.Errorf("%s: %q, want %q", name, f.lines, test.want)
		}
	}
	for _, object := range authorized(t, access.Policy{Ports: access.PortsOf([]int32{8443}), Grants: []access.Grant{{Callers: everybody(), Routes: []access.Route{{Path: "/a"}}}}, Probes: probes}) {
		if object.GetKind() == authorizationPolicyKind.Name && strings.Contains(object.GetName(), "-rest-") {
			t.Errorf("a probe by HTTPS has %s", object.GetName())
		}
	}
}

// TestRoutesThatComeFirst holds that the routes of what any request matches, and of
// probes, are the first of a port by their names: as long as there is any route,
// nothing else lets these through.
func TestRoutesThatComeFirst(t *testing.T) {
	t.Parallel()
	routes := func(paths ...string) access.Grant {
		grant := access.Grant{Callers: []access.Caller{friendly()}}
		for _, path := range paths {
			grant.Routes = append(grant.Routes, access.Route{Path: path})
		}
		return grant
	}
	alive := []access.Probe{{Port: 8080, Path: "/alive"}}
	for name, test := range map[string]struct {
		grants []access.Grant
		probes []access.Probe
		first  []string // paths of the routes that come first
	}{
		"routes alone":    {[]access.Grant{routes("/a", "/b")}, nil, nil},
		"with all":        {[]access.Grant{routes("/a", "/b"), {Callers: everybody()}}, nil, []string{"/"}},
		"with probes":     {[]access.Grant{routes("/a", "/b")}, alive, []string{"/alive"}},
		"with all by way": {[]access.Grant{routes("/a"), {Callers: everybody(), Routes: []access.Route{{Path: "/", Prefix: true}}}}, alive, []string{"/", "/alive"}},
	} {
		var first, others []string
		for _, object := range authorized(t, access.Policy{Ports: access.PortsOf([]int32{8080}), Grants: test.grants, Probes: test.probes}) {
			if object.GetKind() != httpRouteKind.Name {
				continue
			}
			text, err := yaml.Marshal(object.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			is := slices.ContainsFunc(test.first, func(path string) bool { return strings.Contains(string(text), "value: "+path+"\n") })
			if is {
				first = append(first, object.GetName())
			} else {
				others = append(others, object.GetName())
			}
		}
		if len(first) != len(test.first) || len(others) == 0 {
			t.Fatalf("%s: routes %q and %q", name, first, others)
		}
		if len(first) > 0 && slices.Max(first) > slices.Min(others) {
			t.Errorf("%s: of %q some come after one of %q", name, first, others)
		}
	}
}

// passes tells whether a request gets through.
func (s gate) passes(c client, request match) bool {
	var best *match
	var by []authorization
	for _, route := range s.routes {
		for _, m := range route.matches {
			if m.covers(request) && (best == nil || moreSpecific(m, *best)) {
				best, by = &m, route.authorizations
			}
		}
	}
	if best == nil && len(s.routes) > 0 {
		return false
	}
	_, allowed := admitting(append(slices.Clone(by), s.authorizations...), c)
	return allowed
}

// moreSpecific is the order of the Gateway API: exact paths, then the longer path,
// then a method.
func moreSpecific(a, b match) bool {
	switch {
	case a.prefix != b.prefix:
		return !a.prefix
	case len(a.path) != len(b.path):
		return len(a.path) > len(b.path)
	default:
		return a.method != "" && b.method == ""
	}
}

// TestAuthorizeRetargets holds that taking a grant away changes nothing that
// policies in force may refer to, as it is deleted, or written, one by one.
func TestAuthorizeRetargets(t *testing.T) {
	t.Parallel()
	grants := []access.Grant{
		{Callers: []access.Caller{fromNetwork("10.0.0.0/8")}},
		{Callers: everybody()},
		{Callers: []access.Caller{{Meshed: true}}, Routes: []access.Route{{Path: "/a"}}},
		{Callers: []access.Caller{friendly()}, Routes: []access.Route{{Path: "/b"}}},
		{Callers: everybody()}, // Once more.
	}
	before := map[string]any{}
	for _, object := range authorized(t, access.Policy{Ports: []access.Port{intstr.FromInt32(8080)}, Grants: grants}) {
		before[nameOf(object)] = object.Object
	}
	kept := 0
	for i := range grants {
		for _, object := range authorized(t, access.Policy{Ports: []access.Port{intstr.FromInt32(8080)}, Grants: slices.Delete(slices.Clone(grants), i, i+1)}) {
			was, is := before[nameOf(object)]
			if is && !reflect.DeepEqual(was, any(object.Object)) {
				t.Errorf("without grant %d, %s changes", i+1, nameOf(object))
			}
			if is {
				kept++
			}
		}
	}
	if kept == 0 {
		t.Error("nothing stays")
	}
}

func TestAuthorizeNames(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, last := range []string{"a", "b"} {
		name := strings.Repeat("long.", 49) + "name-" + last
		objects, _, err := (Authorizer{}).Authorize(t.Context(), nil, access.Policy{
			Namespace: "dgraph", Name: name, Ports: []access.Port{intstr.FromInt32(8080)},
			Grants: []access.Grant{{Callers: []access.Caller{{Meshed: true}}, Routes: []access.Route{{Path: "/"}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			if problems := validation.IsDNS1123Subdomain(object.GetName()); len(problems) > 0 {
				t.Errorf("%s: %v", object.GetName(), problems)
			}
			if names[nameOf(object)] {
				t.Errorf("two policies make %s", nameOf(object))
			}
			names[nameOf(object)] = true
		}
	}
}

func TestCheckPolicy(t *testing.T) {
	t.Parallel()
	port := []access.Port{intstr.FromInt32(8080)}
	granting := func(grant access.Grant) access.Policy {
		return access.Policy{Ports: port, Grants: []access.Grant{grant}}
	}
	routing := func(route access.Route) access.Policy {
		return granting(access.Grant{Callers: []access.Caller{friendly()}, Routes: []access.Route{route}})
	}
	for name, test := range map[string]struct {
		policy access.Policy
		says   string // empty if it is fine
	}{
		"a port":                     {access.Policy{Ports: port}, ""},
		"the proxy's metrics":        {access.Policy{Ports: []access.Port{intstr.FromInt32(4191)}}, ""},
		"no port":                    {access.Policy{}, "name the ports"},
		"all ports":                  {access.Policy{AllPorts: true}, "port by port"},
		"the proxy's port":           {access.Policy{Ports: []access.Port{intstr.FromInt32(4143)}}, "the proxy's own"},
		"port 0":                     {access.Policy{Ports: []access.Port{{}}}, "not within"},
		"no name of a port":          {access.Policy{Ports: []access.Port{intstr.FromString("H T T P")}}, "neither a number nor a name"},
		"a port twice":               {access.Policy{Ports: append(port, port...)}, "named twice"},
		"another mtls":               {access.Policy{Ports: port, MTLS: "maybe"}, "strict or permissive"},
		"a protocol":                 {access.Policy{Ports: port, Protocol: "HTTP/2"}, ""},
		"another protocol":           {access.Policy{Ports: port, Protocol: "http"}, "HTTP/1"},
		"no callers":                 {granting(access.Grant{}), "grant 1: it names no callers"},
		"an empty caller":            {granting(access.Grant{Callers: []access.Caller{{}}}), "a caller is one of"},
		"two in one caller":          {granting(access.Grant{Callers: []access.Caller{{Meshed: true, Namespace: "a"}}}), "a caller is one of"},
		"no namespace":               {granting(access.Grant{Callers: []access.Caller{{Namespace: "A"}}}), "no name of a namespace"},
		"an identity of Istio":       {granting(access.Grant{Callers: []access.Caller{{Identity: "spiffe://cluster.local/ns/a/sa/b"}}}), "no identity of Linkerd"},
		"any identity":               {granting(access.Grant{Callers: []access.Caller{{Identity: "*"}}}), ""},
		"no network":                 {granting(access.Grant{Callers: []access.Caller{fromNetwork("10.0.0.0")}}), "CIDR"},
		"a route":                    {routing(access.Route{Methods: []string{"GET"}, Path: "/a"}), ""},
		"a relative path":            {routing(access.Route{Path: "a"}), "begins with /"},
		"a query":                    {routing(access.Route{Path: "/a?b"}), "no query"},
		"an endless path":            {routing(access.Route{Path: "/" + strings.Repeat("a", 1024)}), "no longer than"},
		"no method":                  {routing(access.Route{Methods: []string{"get"}, Path: "/"}), "no method"},
		"routes of what is no HTTP":  {access.Policy{Ports: port, Protocol: "opaque", Grants: routing(access.Route{Path: "/"}).Grants}, "no routes"},
		"routes of what is all gRPC": {access.Policy{Ports: port, Protocol: "gRPC", Grants: routing(access.Route{Path: "/"}).Grants}, "HTTP/2 for gRPC"},
		"probes of what is all gRPC": {access.Policy{Ports: port, Protocol: "gRPC", Probes: []access.Probe{{Port: 8080, GRPC: true}}}, "probes by gRPC"},
	} {
		test.policy.Namespace, test.policy.Name = "dgraph", "web"
		_, _, err := (Authorizer{}).Authorize(t.Context(), nil, test.policy)
		if (test.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fine := access.Policy{Namespace: "dgraph", Name: "web", Ports: port}
	if _, _, err := (Authorizer{Version: "stable-2.14.10"}).Authorize(t.Context(), nil, fine); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("too old: %v", err)
	}
	fine.Name = "No Name"
	if err := (Authorizer{}).CheckPolicy(fine); err == nil {
		t.Error("a name that is none: accepted")
	}
	routes := make([]access.Route, maxMatches*maxRules+1)
	for i := range routes {
		routes[i].Path = "/" + strconv.Itoa(i)
	}
	fine = routing(access.Route{Path: "/"})
	fine.Namespace, fine.Name, fine.Grants[0].Routes = "dgraph", "web", routes
	if _, _, err := (Authorizer{}).Authorize(t.Context(), nil, fine); err == nil || !strings.Contains(err.Error(), "port 8080: the routes") {
		t.Errorf("too many routes: %v", err)
	}
}

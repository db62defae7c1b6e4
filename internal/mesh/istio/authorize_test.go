package istio

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check/checktest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// grant is one to a ServiceAccount.
func grant(namespace, name string) access.Grant {
	return access.Grant{Callers: []access.Caller{{Account: &access.Account{Namespace: namespace, Name: name}}}}
}

// specs are the specs of objects as YAML, by kind.
func specs(t *testing.T, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		found[object.GetKind()] = string(text)
	}
	return found
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	api := map[string]string{"app": "api"}
	for _, test := range []struct {
		name         string
		policy       access.Policy
		rules, mutal string // the specs
		guarantee    string
	}{
		{
			name:   "an account",
			policy: access.Policy{Pods: api, Ports: access.PortsOf([]int32{8080, 9090}), Grants: []access.Grant{grant("web", "front")}},
			rules: `action: ALLOW
rules:
- from:
  - source:
      principals:
      - corp.example/ns/web/sa/front
  to:
  - operation:
      ports:
      - "8080"
      - "9090"
selector:
  matchLabels:
    app: api
`,
			guarantee: "Only the callers named get to ports 8080, 9090, and nobody to other ports, of the pods labelled app=api",
		},
		{
			name: "every sort of caller",
			policy: access.Policy{AllPorts: true, MTLS: access.PermissiveMTLS, Grants: []access.Grant{{Callers: []access.Caller{
				{Meshed: true},
				{Namespace: "batch"},
				{Identity: "old.example/ns/x/*"},
				{Network: &netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
				{Network: &netpol.Block{CIDR: "192.0.2.0/24"}},
			}}}},
			rules: `action: ALLOW
rules:
- from:
  - source:
      principals:
      - '*'
      - old.example/ns/x/*
  - source:
      namespaces:
      - batch
  - source:
      ipBlocks:
      - 10.0.0.0/8
      notIpBlocks:
      - 10.1.0.0/16
  - source:
      ipBlocks:
      - 192.0.2.0/24
`,
			mutal:     "mtls:\n  mode: PERMISSIVE\n",
			guarantee: "whoever has an address of the ranges named needs none",
		},
		{
			name: "routes",
			policy: access.Policy{Pods: api, Ports: access.PortsOf([]int32{8080}), MTLS: access.StrictMTLS, Grants: []access.Grant{{
				Callers: []access.Caller{{Meshed: true}},
				Routes:  []access.Route{{Methods: []string{"GET"}, Path: "/health"}, {Path: "/api", Prefix: true}, {Path: "/", Prefix: true}, {Path: "/v1/", Prefix: true}, {Methods: []string{"POST"}}},
			}}},
			rules: `action: ALLOW
rules:
- from:
  - source:
      principals:
      - '*'
  to:
  - operation:
      methods:
      - GET
      paths:
      - /health
      ports:
      - "8080"
  - operation:
      paths:
      - /api
      - /api/*
      ports:
      - "8080"
  - operation:
      paths:
      - /*
      ports:
      - "8080"
  - operation:
      paths:
      - /v1/*
      ports:
      - "8080"
  - operation:
      methods:
      - POST
      ports:
      - "8080"
selector:
  matchLabels:
    app: api
`,
			mutal:     "portLevelMtls:\n  \"8080\":\n    mode: STRICT\nselector:\n  matchLabels:\n    app: api\n",
			guarantee: "Routes are of HTTP",
		},
		{
			name: "addresses that need an identity",
			policy: access.Policy{AllPorts: true, MTLS: access.StrictMTLS, Grants: []access.Grant{{Callers: []access.Caller{
				{Network: &netpol.Block{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
			}}}},
			rules: `action: ALLOW
rules:
- from:
  - source:
      ipBlocks:
      - 10.0.0.0/8
      notIpBlocks:
      - 10.1.0.0/16
      principals:
      - '*'
`,
			mutal:     "mtls:\n  mode: STRICT\n",
			guarantee: "not even from the address ranges named",
		},
		{name: "nobody", policy: access.Policy{AllPorts: true, MTLS: access.StrictMTLS}, rules: "action: ALLOW\n", mutal: "mtls:\n  mode: STRICT\n", guarantee: "Nobody gets to every pod of the namespace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.policy.Namespace, test.policy.Name = "shop", "api"
			objects, guarantee, err := Authorizer{TrustDomain: "corp.example"}.Authorize(t.Context(), nil, test.policy)
			if err != nil {
				t.Fatal(err)
			}
			got := specs(t, objects)
			if got["AuthorizationPolicy"] != test.rules {
				t.Errorf("AuthorizationPolicy:\n%s", got["AuthorizationPolicy"])
			}
			if got["PeerAuthentication"] != test.mutal {
				t.Errorf("PeerAuthentication:\n%s", got["PeerAuthentication"])
			}
			if !strings.Contains(guarantee, test.guarantee) {
				t.Errorf("guarantee: %s", guarantee)
			}
			for _, object := range objects {
				if object.GetNamespace() != "shop" || object.GetName() != "api" || object.GetAPIVersion() != "security.istio.io/v1" {
					t.Errorf("%s %s/%s of %s", object.GetKind(), object.GetNamespace(), object.GetName(), object.GetAPIVersion())
				}
			}
		})
	}
}

func TestCheckPolicyRefuses(t *testing.T) {
	t.Parallel()
	ports := access.PortsOf([]int32{8080})
	caller := func(c access.Caller) access.Policy {
		return access.Policy{Ports: ports, Grants: []access.Grant{{Callers: []access.Caller{c}}}}
	}
	route := func(r access.Route) access.Policy {
		return access.Policy{Ports: ports, Grants: []access.Grant{{Callers: []access.Caller{{Meshed: true}}, Routes: []access.Route{r}}}}
	}
	for name, test := range map[string]struct {
		policy access.Policy
		want   string
	}{
		"no ports":               {access.Policy{}, "it takes ports, or all of them"},
		"ports and all":          {access.Policy{Ports: ports, AllPorts: true}, "and not both"},
		"a named port":           {access.Policy{Ports: []access.Port{intstr.FromString("http")}}, `port "http"`},
		"port 0":                 {access.Policy{Ports: access.PortsOf([]int32{0})}, "not within 1 to 65535"},
		"the proxy's port":       {access.Policy{Ports: access.PortsOf([]int32{15006})}, "that of Istio's proxy"},
		"a protocol":             {access.Policy{Ports: ports, Protocol: "gRPC"}, "appProtocol"},
		"an unknown mtls":        {access.Policy{AllPorts: true, MTLS: "none"}, `mtls "none"`},
		"ports without labels":   {access.Policy{Ports: ports, MTLS: access.StrictMTLS}, "name the labels"},
		"nobody":                 {access.Policy{Ports: ports, Grants: []access.Grant{{}}}, "grant 1: it names no callers"},
		"an empty caller":        {caller(access.Caller{}), "a caller is nobody"},
		"a SPIFFE ID":            {caller(access.Caller{Identity: "spiffe://a/ns/b/sa/c"}), "leave the spiffe:// out"},
		"a * inside":             {caller(access.Caller{Identity: "a/ns/*/sa/c"}), "one *"},
		"a * at both ends":       {caller(access.Caller{Identity: "*/ns/*"}), "one *"},
		"no range":               {caller(access.Caller{Network: &netpol.Block{CIDR: "10.0.0.1"}}), "CIDR"},
		"an empty route":         {route(access.Route{}), "neither a path nor methods"},
		"a relative path":        {route(access.Route{Path: "health"}), "does not begin with /"},
		"a path with a template": {route(access.Route{Path: "/{id}"}), "path_prefix"},
	} {
		if err := (Authorizer{}).CheckPolicy(test.policy); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// policyWorld is a cluster with an Istio and a few pods of namespace shop.
func policyWorld(ends ...access.End) *checktest.API {
	w := newCheckWorld(0).API
	w.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: named("istio-system", "istio", nil), Data: map[string]string{"mesh": "trustDomain: corp.example\nenableAutoMtls: true\n"}})
	for _, kind := range append(PolicyKinds(), destinationRules, kube.Service, kube.Pod, kube.ServiceAccount) {
		w.Name(kind, "")
	}
	for _, end := range ends {
		w.Put(kube.Pod, end.Pod)
	}
	return w
}

func (s placed[T]) put(w *checktest.API, kind kube.Kind, text string) {
	var spec map[string]any
	if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	w.Put(kind, map[string]any{"metadata": map[string]any{"namespace": s.namespace, "name": s.name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

func TestAuthorizeReadsTheCluster(t *testing.T) {
	t.Parallel()
	policy := access.Policy{Namespace: "shop", Name: "api", Pods: map[string]string{"app": "sidecar-api"}, Ports: access.PortsOf([]int32{8080}), Grants: []access.Grant{grant("shop", "web")}}
	if _, _, err := (Authorizer{}).Authorize(t.Context(), nil, policy); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("without a cluster: %v", err)
	}
	cluster := policyWorld(end("shop", "ambient-cart", ""), end("shop", "sidecar-api", "")).Connect(t)
	objects, _, err := Authorizer{}.Authorize(t.Context(), cluster, policy)
	if err != nil {
		t.Fatal(err)
	}
	if text := specs(t, objects)["AuthorizationPolicy"]; !strings.Contains(text, "corp.example/ns/shop/sa/web") {
		t.Error(text)
	}
	if _, _, err := (Authorizer{ControlPlane: "elsewhere"}).Authorize(t.Context(), cluster, policy); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("of another control plane: %v", err)
	}
	policy.Grants[0].Routes = []access.Route{{Path: "/"}}
	if _, _, err := (Authorizer{}).Authorize(t.Context(), cluster, policy); err != nil {
		t.Errorf("routes with sidecars: %v", err)
	}
	policy.Pods = map[string]string{"app": "ambient-cart"}
	if _, _, err := (Authorizer{}).Authorize(t.Context(), cluster, policy); err == nil || !strings.Contains(err.Error(), "waypoint") {
		t.Errorf("routes in ambient mode: %v", err)
	}
	policy.Namespace = "istio-system"
	if _, _, err := (Authorizer{}).Authorize(t.Context(), cluster, policy); err == nil || !strings.Contains(err.Error(), "root namespace") {
		t.Errorf("in the root namespace: %v", err)
	}
	without := checktest.New()
	for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ConfigMap} {
		without.Name(kind, "")
	}
	policy.Namespace, policy.Grants[0].Routes = "shop", nil
	if _, _, err := (Authorizer{}).Authorize(t.Context(), without.Connect(t), policy); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("without Istio: %v", err)
	}
}

func TestAuthorizationFindings(t *testing.T) {
	t.Parallel()
	declaring := func(port int32) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: port})
		}
	}
	api := end("shop", "sidecar-api", "", declaring(8080), declaring(9090))
	fresh := "so far no AuthorizationPolicy restricts the selected pods: from now on all callers but those named are refused, and at the ports that it does not name everybody is (9090)"
	service := func(name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: named("shop", "api", nil), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "sidecar-api"}, Ports: []corev1.ServicePort{{Name: name, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		}}
	}
	for _, test := range []struct {
		name   string
		world  func(*checktest.API)
		policy func(*access.Policy)
		ends   []access.End
		want   []string // parts of all lines
	}{
		{name: "fresh", want: []string{fresh}},
		{name: "no pods", ends: []access.End{}, want: nil},
		{name: "all ports", policy: func(p *access.Policy) { p.Ports, p.AllPorts = nil, true }, want: []string{"from now on all callers but those named are refused"}},
		{name: "in force", world: func(w *checktest.API) {
			placed[authorization]{namespace: "shop", name: "own"}.put(w, authorizationPolicies, "action: ALLOW")
		}, want: nil},
		{name: "another that allows", world: func(w *checktest.API) {
			placed[authorization]{namespace: "shop", name: "more"}.put(w, authorizationPolicies, "rules: [{}]")
		}, want: []string{"AuthorizationPolicy shop/more is for the same pods and allows"}},
		{name: "others that deny and ask", world: func(w *checktest.API) {
			placed[authorization]{namespace: "istio-system", name: "no"}.put(w, authorizationPolicies, "{action: DENY, rules: [{}]}")
			placed[authorization]{namespace: "shop", name: "ask"}.put(w, authorizationPolicies, "{action: CUSTOM, rules: [{}]}")
			placed[authorization]{namespace: "shop", name: "log"}.put(w, authorizationPolicies, "{action: AUDIT, rules: [{}]}")
			placed[authorization]{namespace: "other", name: "no"}.put(w, authorizationPolicies, "{action: DENY, rules: [{}]}")
		}, want: []string{"AuthorizationPolicy istio-system/no is for the same pods and denies", "AuthorizationPolicy shop/ask is for the same pods and asks", fresh}},
		{name: "undeclared port", policy: func(p *access.Policy) { p.Ports = access.PortsOf([]int32{80, 8080, 9090}) }, want: []string{"declares port 80:", "from now on all callers but those named are refused"}},
		{name: "excluded port", ends: []access.End{end("shop", "sidecar-api", "", declaring(8080), annotated(excludeInboundPorts, "8080"))}, want: []string{"port 8080 does not lead through the sidecars", "from now on"}},
		{name: "probe past the agent", ends: []access.End{end("shop", "sidecar-api", "", declaring(8080), func(pod *corev1.Pod) {
			pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 8080}}}
		})}, want: []string{"port 8080 is probed, and the probe does not go by Istio's agent", "from now on"}},
		{name: "second PeerAuthentication of the labels", policy: func(p *access.Policy) { p.MTLS = access.PermissiveMTLS }, world: func(w *checktest.API) {
			placed[peerAuthentication]{namespace: "shop", name: "x"}.put(w, peerAuthentications, "{selector: {matchLabels: {app: sidecar-api}}, mtls: {mode: STRICT}}")
			placed[peerAuthentication]{namespace: "shop", name: "wide"}.put(w, peerAuthentications, "mtls: {mode: STRICT}")
		}, want: []string{fresh, "PeerAuthentication shop/x is for the same pods"}},
		{name: "second PeerAuthentication of the namespace", policy: func(p *access.Policy) { p.MTLS, p.Pods, p.Ports, p.AllPorts = access.PermissiveMTLS, nil, nil, true }, world: func(w *checktest.API) {
			placed[peerAuthentication]{namespace: "shop", name: "x"}.put(w, peerAuthentications, "{selector: {matchLabels: {app: x}}, mtls: {mode: STRICT}}")
			placed[peerAuthentication]{namespace: "shop", name: "wide"}.put(w, peerAuthentications, "mtls: {mode: STRICT}")
		}, want: []string{"from now on", "PeerAuthentication shop/wide is for the whole namespace, too", "PeerAuthentication shop/x decides for the pods with the labels app=x instead"}},
		{name: "strict with pods outside", policy: func(p *access.Policy) { p.MTLS = access.StrictMTLS }, ends: []access.End{api, end("shop", "plain-job", "")}, want: []string{fresh, "strict mTLS refuses them as callers: plain-job"}},
		{name: "DestinationRule", world: func(w *checktest.API) {
			w.Put(kube.Service, service("http"))
			placed[destinationRule]{namespace: "shop", name: "plain"}.put(w, destinationRules, "{host: api, trafficPolicy: {tls: {mode: DISABLE}}}")
			placed[destinationRule]{namespace: "web", name: "port"}.put(w, destinationRules, "{host: api.shop.svc.cluster.local, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}")
			placed[destinationRule]{namespace: "web", name: "subset"}.put(w, destinationRules, "{host: '*.shop.svc.cluster.local', subsets: [{name: a, trafficPolicy: {tls: {mode: MUTUAL}}}]}")
			placed[destinationRule]{namespace: "web", name: "short"}.put(w, destinationRules, "{host: api, trafficPolicy: {tls: {mode: DISABLE}}}")
			placed[destinationRule]{namespace: "shop", name: "mutual"}.put(w, destinationRules, "{host: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}")
			placed[destinationRule]{namespace: "shop", name: "else"}.put(w, destinationRules, "{host: else, trafficPolicy: {tls: {mode: DISABLE}}}")
		}, want: []string{fresh, "DestinationRule shop/plain has clients call Service shop/api with tls.mode DISABLE", "DestinationRule web/port", "DestinationRule web/subset"}},
		{
			name: "routes of no HTTP", policy: func(p *access.Policy) { p.Grants[0].Routes = []access.Route{{Path: "/"}} }, world: func(w *checktest.API) { w.Put(kube.Service, service("tcp-api")) },
			want: []string{fresh, "port 8080 is tcp by Service shop/api"},
		},
		{name: "routes of HTTP", policy: func(p *access.Policy) { p.Grants[0].Routes = []access.Route{{Path: "/"}} }, world: func(w *checktest.API) { w.Put(kube.Service, service("http-api")) }, want: []string{fresh}},
		{name: "callers that are not there", policy: func(p *access.Policy) {
			p.Grants = []access.Grant{grant("shop", "ghost"), {Callers: []access.Caller{{Namespace: "nowhere"}, {Namespace: "shop"}}}}
		}, want: []string{fresh, "ServiceAccount shop/ghost, which is let in, does not exist", "Namespace nowhere, which is let in, does not exist"}},
		{name: "callers without identity", policy: func(p *access.Policy) { p.Grants = append(p.Grants, grant("shop", "ambient-b")) }, ends: []access.End{api, end("shop", "web", ""), end("shop", "ambient-b", "")}, world: func(w *checktest.API) {
			w.Name(kube.ServiceAccount, "shop", "ambient-b")
		}, want: []string{fresh, "pods of ServiceAccount shop/web, which is let in by its identity, are refused (they are outside the mesh): shop/web", "pods of ServiceAccount shop/ambient-b, which is let in by its identity, are refused (it is in ambient mode, and the sidecar takes no HBONE)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ends := []access.End{api}
			if test.ends != nil {
				ends = test.ends
			}
			w := policyWorld(ends...)
			w.Name(kube.ServiceAccount, "shop", "web")
			if test.world != nil {
				test.world(w)
			}
			policy := access.Policy{Namespace: "shop", Name: "own", Pods: map[string]string{"app": "sidecar-api"}, Ports: access.PortsOf([]int32{8080}), Grants: []access.Grant{grant("shop", "web")}}
			if test.policy != nil {
				test.policy(&policy)
			}
			cluster := w.Connect(t)
			lines, err := Authorizer{}.AuthorizationFindings(t.Context(), cluster, policy, func(object *unstructured.Unstructured) bool { return object.GetName() == "own" })
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range lines {
				if !slices.ContainsFunc(test.want, func(want string) bool { return strings.Contains(line, want) }) {
					t.Errorf("unexpected: %s", line)
				}
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("lacks %q: %q", want, lines)
				}
			}
		})
	}
}

func TestReadAuthority(t *testing.T) {
	t.Parallel()
	w := policyWorld(end("shop", "sidecar-api", ""))
	placed[authorization]{namespace: "shop", name: "none"}.put(w, authorizationPolicies, "action: ALLOW")
	placed[peerAuthentication]{namespace: "istio-system", name: "default"}.put(w, peerAuthentications, "mtls: {mode: STRICT}")
	w.Put(authorizationPolicies, map[string]any{
		"metadata": map[string]any{"namespace": "shop", "name": "try", "annotations": map[string]any{dryRunAnnotation: "true"}}, "spec": map[string]any{"action": "DENY", "rules": []any{map[string]any{}}},
	})
	cluster := w.Connect(t)
	authority, err := ReadAuthority(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	api := end("shop", "sidecar-api", "")
	if v := authority.Judge(end("shop", "plain-x", ""), api, netpol.TCP(80)[0]); v.Allowed || !strings.Contains(v.Reason, "istio-system/default") {
		t.Errorf("%+v", v)
	}
	if v := authority.Judge(end("shop", "sidecar-x", ""), api, netpol.TCP(80)[0]); v.Allowed || !strings.Contains(v.Reason, "shop/none") {
		t.Errorf("%+v", v)
	}
	propose := func(namespace, name, mode string) access.Verdict {
		t.Helper()
		object, err := objectOf(peerAuthentications, namespace, name, &peerAuthentication{MTLS: &mutualTLS{Mode: mode}})
		if err != nil {
			t.Fatal(err)
		}
		with, err := ReadAuthority(t.Context(), cluster, object)
		if err != nil {
			t.Fatal(err)
		}
		return with.Judge(end("shop", "plain-x", ""), api, netpol.TCP(80)[0])
	}
	if v := propose("istio-system", "another", permissiveMode); !strings.Contains(v.Reason, "istio-system/default") {
		t.Errorf("proposed beside an older one: %+v", v)
	}
	if v := propose("istio-system", "default", permissiveMode); strings.Contains(v.Reason, "STRICT") {
		t.Errorf("proposed in place of it: %+v", v)
	}
	if v := propose("shop", "default", permissiveMode); strings.Contains(v.Reason, "STRICT") {
		t.Errorf("proposed for the namespace: %+v", v)
	}
	without := checktest.New()
	for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ConfigMap, kube.Pod, kube.Service} {
		without.Name(kind, "")
	}
	if authority, err = ReadAuthority(t.Context(), without.Connect(t)); authority != nil || err != nil {
		t.Errorf("without Istio: %v, %v", authority, err)
	}
}

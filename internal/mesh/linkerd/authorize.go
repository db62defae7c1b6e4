package linkerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

const (
	policyGroup    = "policy.linkerd.io"
	opaqueProtocol = "opaque"

	// DefaultInboundPolicyAnnotation on a pod, or on its namespace when it is
	// injected, says who may call ports that no Server governs.
	DefaultInboundPolicyAnnotation = configPrefix + "default-inbound-policy"
)

// DefaultInboundPolicies are the values of DefaultInboundPolicyAnnotation.
func DefaultInboundPolicies() []string {
	return []string{
		"deny", "audit", "all-authenticated", "all-unauthenticated", "cluster-authenticated", "cluster-unauthenticated",
	}
}

// The kinds of Linkerd's policies. The versions are served since edge-24.7.5 and
// 2.16; before, Servers had no accessPolicy.
var (
	serverKind                = kube.Kind{Group: policyGroup, Version: "v1beta3", Resource: "servers", Name: "Server", Namespaced: true}
	authorizationPolicyKind   = kube.Kind{Group: policyGroup, Version: "v1alpha1", Resource: "authorizationpolicies", Name: "AuthorizationPolicy", Namespaced: true}
	meshTLSAuthenticationKind = kube.Kind{Group: policyGroup, Version: "v1alpha1", Resource: "meshtlsauthentications", Name: "MeshTLSAuthentication", Namespaced: true}
	networkAuthenticationKind = kube.Kind{Group: policyGroup, Version: "v1alpha1", Resource: "networkauthentications", Name: "NetworkAuthentication", Namespaced: true}
	httpRouteKind             = kube.Kind{Group: policyGroup, Version: "v1beta3", Resource: "httproutes", Name: "HTTPRoute", Namespaced: true}
)

// PolicyKinds are the kinds of the objects that enforce protections and policies.
func PolicyKinds() []kube.Kind {
	return []kube.Kind{meshTLSAuthenticationKind, networkAuthenticationKind, httpRouteKind, authorizationPolicyKind, serverKind}
}

// PolicyVersions are the versions that take the objects, for people.
const PolicyVersions = "2.16 or edge-24.7.5 at least"

// servesPolicies says why a version does not take the objects.
func servesPolicies(version Version) error {
	if version.Has(Since{Edge: [3]int{24, 7, 5}, Numbered: [3]int{2, 16, 0}}) {
		return nil
	}
	return fmt.Errorf("version %s of Linkerd is too old: its Servers have no accessPolicy (%s); upgrade it to %s", version, serverKind.GVK().GroupVersion(), PolicyVersions)
}

// Authorizer lets callers in by the policies of Linkerd.
type Authorizer struct {
	// ControlPlane is the namespace of the control plane; empty means
	// DefaultNamespace.
	ControlPlane string `json:"controlPlane"`
	// Version in any form that ParseVersion reads; empty asks the control plane.
	Version string `json:"version,omitempty"`
}

// All addresses of either family.
const (
	everybodyV4 = "0.0.0.0/0"
	everybodyV6 = "::/0"
)

// everybody is a grant to all addresses, with or without identity.
func everybody() []access.Caller {
	return []access.Caller{{Network: &netpol.Block{CIDR: everybodyV4}}, {Network: &netpol.Block{CIDR: everybodyV6}}}
}

// rulebook is what objects are written from: ports, and which of the grants holds
// at each.
type rulebook struct {
	namespace, name string
	pods            map[string]string
	strict          bool // callers by network need an identity as well
	grants          []access.Grant
	probes          []access.Probe
	ports           []governed
}

// governed is a port with the indexes of the grants that hold there.
type governed struct {
	port     access.Port
	protocol string // empty for unknown
	grants   []int
}

// A writer collects the objects of a rulebook.
type writer struct {
	rulebook
	authentications []*unstructured.Unstructured
	routes          []*unstructured.Unstructured
	policies        []*unstructured.Unstructured
	servers         []*unstructured.Unstructured
	ways            map[int][]way // of each grant, once its objects are written
}

// A way is one of the ways in which callers satisfy a grant. What a policy
// requires is required all at once, and an authentication is by one kind of
// things, so callers of different kinds are let in by policies of their own.
type way struct {
	label    string
	required []any
}

// probing is the index of the grant to probes.
const probing = -1

// write turns the rulebook into objects, in the order in which to apply them:
// what lets in comes before the Servers, which refuse everybody else.
func (r rulebook) write() ([]*unstructured.Unstructured, error) {
	w := &writer{rulebook: r, ways: map[int][]way{}}
	for _, g := range r.ports {
		if err := w.govern(g); err != nil {
			return nil, err
		}
	}
	return slices.Concat(w.authentications, w.routes, w.policies, w.servers), nil
}

func (w *writer) govern(g governed) error {
	server := w.named(g.port.String())
	for _, i := range g.grants {
		if len(w.grants[i].Routes) == 0 {
			w.allow(serverKind.Name, server, g.port.String(), i)
		}
	}
	if err := w.route(server, g); err != nil {
		return fmt.Errorf("port %s: %w", g.port.String(), err)
	}
	var port any = g.port.StrVal
	if g.port.Type == intstr.Int {
		port = int64(g.port.IntVal)
	}
	labels := map[string]any{}
	for key, value := range w.pods {
		labels[key] = value
	}
	selector := map[string]any{}
	if len(labels) > 0 {
		selector["matchLabels"] = labels
	}
	w.servers = append(w.servers, w.object(serverKind, server, map[string]any{
		"podSelector": selector, "port": port, "proxyProtocol": cmp.Or(g.protocol, "unknown"), "accessPolicy": "deny",
	}))
	return nil
}

// route writes the routes of a port, if there have to be any. Once a Server has
// one, requests that match none are refused, and Linkerd lets probes in by itself
// no more.
func (w *writer) route(server string, g governed) error {
	book := routeBook{}
	needed, whole := false, false
	for _, i := range g.grants {
		for _, route := range w.grants[i].Routes {
			needed = true
			book.add(i, route)
		}
		whole = whole || len(w.grants[i].Routes) == 0
	}
	probes := slices.DeleteFunc(slices.Clone(w.probes), func(p access.Probe) bool {
		// By HTTPS, proxies see no request that a route could match.
		return p.TLS || intstr.FromInt32(p.Port) != g.port && (p.Name == "" || intstr.FromString(p.Name) != g.port)
	})
	for _, probe := range probes {
		needed = needed || probe.GRPC
		book.add(probing, probeRoute(probe))
	}
	if !needed {
		return nil
	}
	if slices.Contains(protocolsWithoutRoutes(), g.protocol) {
		return fmt.Errorf("probes by gRPC cannot be let in where the protocol is %s; leave it out, or take HTTP/2 for gRPC", g.protocol)
	}
	if whole {
		// Routes inherit what is granted at their Server.
		book.add(everything, access.Route{Path: "/", Prefix: true})
	}
	groups, err := book.groups()
	if err != nil {
		return err
	}
	for _, group := range groups {
		var rules []any
		for chunk := range slices.Chunk(group.matches, maxMatches) {
			var matches []any
			for _, m := range chunk {
				matches = append(matches, m.object())
			}
			rules = append(rules, map[string]any{"matches": matches})
		}
		part := "-route-"
		if slices.Contains(group.grants, probing) || slices.Contains(group.matches, match{path: "/", prefix: true}) {
			// By their names such come first, and go last: what they match has to be
			// let through as long as there is any route.
			part = "-rest-"
		}
		label := g.port.String() + part + fingerprint(rules)
		name := w.named(label)
		w.routes = append(w.routes, w.object(httpRouteKind, name, map[string]any{
			"parentRefs": []any{map[string]any{"group": policyGroup, "kind": serverKind.Name, "name": server}},
			"rules":      rules,
		}))
		for _, i := range group.grants {
			if i != everything {
				w.allow(httpRouteKind.Name, name, label, i)
			}
		}
	}
	return nil
}

// allow lets the callers of a grant reach a target.
func (w *writer) allow(kind, target, label string, grant int) {
	for _, way := range w.waysOf(grant) {
		w.policies = w.once(w.policies, authorizationPolicyKind, label+"-"+way.label, map[string]any{
			"targetRef":                  map[string]any{"group": policyGroup, "kind": kind, "name": target},
			"requiredAuthenticationRefs": way.required,
		})
	}
}

// waysOf writes the authentications of a grant when they are needed first.
func (w *writer) waysOf(grant int) []way {
	if ways, written := w.ways[grant]; written {
		return ways
	}
	callers := everybody()
	if grant != probing {
		callers = w.grants[grant].Callers
	}
	var ways []way
	var identities, references, networks []any
	for _, caller := range callers {
		switch {
		case caller.Meshed:
			identities = append(identities, "*")
		case caller.Identity != "":
			identities = append(identities, caller.Identity)
		// The controller spells the identity out by the trust domain that it has,
		// whether or not the account exists. A group would have to be "core".
		case caller.Account != nil:
			references = append(references, map[string]any{"kind": "ServiceAccount", "namespace": caller.Account.Namespace, "name": caller.Account.Name})
		case caller.Namespace != "":
			references = append(references, map[string]any{"kind": "Namespace", "name": caller.Namespace})
		case caller.Network != nil:
			network := map[string]any{"cidr": caller.Network.CIDR}
			if len(caller.Network.Except) > 0 {
				except := make([]any, len(caller.Network.Except))
				for i, cidr := range caller.Network.Except {
					except[i] = cidr
				}
				network["except"] = except
			}
			networks = append(networks, network)
		}
	}
	if len(identities) > 0 {
		ways = append(ways, wayOf("identities", w.authentication(meshTLSAuthenticationKind, "identities", identities)))
	}
	if len(references) > 0 {
		ways = append(ways, wayOf("accounts", w.authentication(meshTLSAuthenticationKind, "identityRefs", references)))
	}
	if len(networks) > 0 {
		required := []any{w.authentication(networkAuthenticationKind, "networks", networks)}
		if w.strict && grant != probing {
			required = append(required, w.authentication(meshTLSAuthenticationKind, "identities", []any{"*"}))
		}
		ways = append(ways, wayOf("networks", required...))
	}
	w.ways[grant] = ways
	return ways
}

func wayOf(kind string, required ...any) way {
	return way{label: kind + "-" + fingerprint(required), required: required}
}

// authentication writes an authentication and refers to it. It is named by what it
// says: a grant that is changed, or moves to another place among the grants, must
// not change one that policies in force refer to.
func (w *writer) authentication(kind kube.Kind, field string, values []any) map[string]any {
	label := fingerprint([]any{field, values})
	w.authentications = w.once(w.authentications, kind, label, map[string]any{field: values})
	return map[string]any{"group": kind.Group, "kind": kind.Name, "name": w.named(label)}
}

// once adds an object unless it is there: grants may say the same.
func (w *writer) once(objects []*unstructured.Unstructured, kind kube.Kind, label string, spec map[string]any) []*unstructured.Unstructured {
	name := w.named(label)
	if slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind.Name && o.GetName() == name }) {
		return objects
	}
	return append(objects, w.object(kind, name, spec))
}

// fingerprint names what is the same.
func fingerprint(content []any) string {
	hash := fnv.New64a()
	_, _ = fmt.Fprintf(hash, "%q", content) // Maps print in the order of their keys.
	return fmt.Sprintf("%016x", hash.Sum64())
}

func (w *writer) object(kind kube.Kind, name string, spec map[string]any) *unstructured.Unstructured {
	object := kube.Ref{Kind: kind, Namespace: w.namespace, Name: name}.Object()
	object.Object["spec"] = spec
	return object
}

// named is the name of a part. Where it would be longer than the API takes, the
// end of the policy's name gives way to a digest of it.
func (r rulebook) named(part string) string {
	whole := r.name + "-" + part
	if len(whole) <= validation.DNS1123SubdomainMaxLength {
		return whole
	}
	short := fingerprint([]any{r.name})
	room := validation.DNS1123SubdomainMaxLength - len(part) - len(short) - len("--")
	return fmt.Sprintf("%s-%s-%s", strings.TrimRight(r.name[:room], "-."), short, part)
}

// Authorize returns the objects that let the callers of the policy in, and nobody
// else, in the order in which to apply them, and what holds once they are in force.
// They depend on nothing in the cluster, which is asked only whether the control
// plane, if it is there, takes them; it may be nil.
func (a Authorizer) Authorize(ctx context.Context, cluster *kube.Cluster, p access.Policy) ([]*unstructured.Unstructured, string, error) {
	if err := a.CheckPolicy(p); err != nil {
		return nil, "", err
	}
	w, err := wireOf(ctx, cluster, a.ControlPlane, a.Version)
	if err == nil {
		err = servesPolicies(w.version)
	}
	if err != nil && !errors.Is(err, mesh.ErrNoControlPlane) {
		return nil, "", err
	}
	book := rulebook{
		namespace: p.Namespace, name: p.Name, pods: p.Pods, strict: p.MTLS == access.StrictMTLS,
		grants: p.Grants, probes: p.Probes,
	}
	grants := make([]int, len(p.Grants))
	for i := range grants {
		grants[i] = i
	}
	for _, port := range p.Ports {
		book.ports = append(book.ports, governed{port: port, protocol: p.Protocol, grants: grants})
	}
	objects, err := book.write()
	return objects, authorizationGuarantee(p), err
}

// authorizationGuarantee says what holds once a policy is in force, and what does
// not.
func authorizationGuarantee(p access.Policy) string {
	var said sentences
	ports := make([]string, len(p.Ports))
	for i, port := range p.Ports {
		ports[i] = port.String()
	}
	routes, networks := false, false
	for _, grant := range p.Grants {
		routes = routes || len(grant.Routes) > 0
		networks = networks || slices.ContainsFunc(grant.Callers, func(c access.Caller) bool { return c.Network != nil })
	}
	if len(p.Grants) == 0 {
		said.say("The proxies let nobody reach ports %s", strings.Join(ports, ", "))
	} else {
		said.say("The proxies let the granted callers reach ports %s, and nobody else", strings.Join(ports, ", "))
	}
	said.add(", but for those whom other authorization of the namespace lets in: grants add up.")
	if networks && p.MTLS != access.StrictMTLS {
		said.say("Callers that are granted by their address need no identity: whoever can send from it, or is translated to it, passes.")
	}
	said.say("Identities are proved by mTLS; whoever may create pods with a ServiceAccount has its identity.")
	if routes {
		said.say("Requests that no route matches are refused, and so is what is not HTTP, to those who are granted routes only.")
	}
	said.probes()
	said.say("It binds pods with a proxy only, and ports that do not bypass it; other ports follow the pods' default inbound policy (%s).", DefaultInboundPolicyAnnotation)
	return said.String()
}

// CheckPolicy refuses what no cluster would take.
func (Authorizer) CheckPolicy(p access.Policy) error {
	switch {
	case p.AllPorts || len(p.Ports) == 0:
		return errors.New("callers are authorized port by port in Linkerd: name the ports; for all others of the pods there is the default inbound policy")
	case len(validation.IsDNS1123Subdomain(p.Name)) > 0:
		return fmt.Errorf("%q cannot begin the names of objects: %s", p.Name, validation.IsDNS1123Subdomain(p.Name)[0])
	case !slices.Contains([]access.MTLS{"", access.StrictMTLS, access.PermissiveMTLS}, p.MTLS):
		return fmt.Errorf("mtls is %s or %s, not %q", access.StrictMTLS, access.PermissiveMTLS, p.MTLS)
	case !slices.Contains(protocols(), p.Protocol) && p.Protocol != "":
		return fmt.Errorf("%q is no protocol that Linkerd knows: take %s", p.Protocol, strings.Join(protocols(), ", "))
	}
	for i, port := range p.Ports {
		if err := checkPort(port); err != nil {
			return err
		}
		if slices.Contains(p.Ports[:i], port) {
			return fmt.Errorf("port %s is named twice", port.String())
		}
	}
	for i, grant := range p.Grants {
		if err := checkGrant(grant, p.Protocol); err != nil {
			return fmt.Errorf("grant %d: %w", i+1, err)
		}
	}
	return nil
}

// protocolsWithoutRoutes have none, or, as gRPC, none of HTTP.
func protocolsWithoutRoutes() []string { return []string{opaqueProtocol, "TLS", "gRPC"} }

func protocols() []string {
	return []string{"unknown", "HTTP/1", "HTTP/2", "gRPC", opaqueProtocol, "TLS"}
}

func checkPort(port access.Port) error {
	if port.Type == intstr.String {
		if problems := validation.IsValidPortName(port.StrVal); len(problems) > 0 {
			return fmt.Errorf("%q is neither a number nor a name of a port: %s", port.StrVal, problems[0])
		}
		return nil
	}
	switch {
	case port.IntVal < 1 || port.IntVal > 65535:
		return fmt.Errorf("port %d is not within 1 to 65535", port.IntVal)
	case port.IntVal == adminPort:
		return nil // Its metrics and probes are subject to authorization.
	}
	return Traffic{}.CheckPorts([]int32{port.IntVal})
}

func checkGrant(grant access.Grant, protocol string) error {
	if len(grant.Callers) == 0 {
		return errors.New("it names no callers")
	}
	for _, caller := range grant.Callers {
		if err := checkCaller(caller); err != nil {
			return err
		}
	}
	if len(grant.Routes) > 0 && slices.Contains(protocolsWithoutRoutes(), protocol) {
		return fmt.Errorf("proxies look at no routes where the protocol is %s; leave it out, or take HTTP/2 for gRPC", protocol)
	}
	for _, route := range grant.Routes {
		if !strings.HasPrefix(route.Path, "/") || strings.ContainsAny(route.Path, "?#") || len(route.Path) > maxPath {
			return fmt.Errorf("%q is no path of a request: it begins with /, has no query, and is no longer than %d", route.Path, maxPath)
		}
		for _, method := range route.Methods {
			if !slices.Contains(methods(), method) {
				return fmt.Errorf("%q is no method that routes know: take %s", method, strings.Join(methods(), ", "))
			}
		}
	}
	return nil
}

func methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
}

func checkCaller(caller access.Caller) error {
	set := 0
	for _, is := range []bool{caller.Meshed, caller.Account != nil, caller.Namespace != "", caller.Identity != "", caller.Network != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return errors.New("a caller is one of: everybody meshed, an account, a namespace, an identity, a network")
	}
	switch {
	case caller.Network != nil:
		return caller.Network.Check()
	case caller.Namespace != "" && len(validation.IsDNS1123Label(caller.Namespace)) > 0:
		return fmt.Errorf("%q is no name of a namespace", caller.Namespace)
	case caller.Identity != "" && caller.Identity != "*":
		if problems := validation.IsDNS1123Subdomain(strings.TrimPrefix(caller.Identity, "*.")); len(problems) > 0 {
			return fmt.Errorf("%q is no identity of Linkerd, such as web.shop.serviceaccount.identity.linkerd.cluster.local or, for all of a namespace, *.shop.serviceaccount.identity.linkerd.cluster.local: %s", caller.Identity, problems[0])
		}
	}
	return nil
}

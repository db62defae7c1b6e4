package linkerd

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Kinds that are read and never written.
var (
	serverAuthorizationKind = kube.Kind{Group: policyGroup, Version: "v1beta1", Resource: "serverauthorizations", Name: "ServerAuthorization", Namespaced: true}
	gatewayHTTPRouteKind    = kube.Kind{Group: gatewayGroup, Version: "v1", Resource: "httproutes", Name: "HTTPRoute", Namespaced: true}
	egressNetworkKind       = kube.Kind{Group: policyGroup, Version: "v1alpha1", Resource: "egressnetworks", Name: "EgressNetwork", Namespaced: true}
	gatewayGRPCRouteKind    = kube.Kind{Group: gatewayGroup, Version: "v1", Resource: "grpcroutes", Name: "GRPCRoute", Namespaced: true}
)

// policies are the objects as they are in a cluster.
type policies struct {
	servers, authorizations, meshTLS, networks, legacy, routes []*unstructured.Unstructured
}

// rules are the policies, resolved.
type rules struct {
	servers    map[string][]gate // by namespace, in order of name
	networks   []netip.Prefix    // that they tell addresses apart by
	identities []string          // that they tell clients apart by, sorted
}

// gate is a Server with all that is let in there.
type gate struct {
	object          *unstructured.Unstructured
	namespace, name string
	selector        labels.Selector
	port            intstr.IntOrString
	labels          labels.Set
	protocol        string
	access          string // its access policy
	authorizations  []authorization
	routes          []boundRoute
}

// boundRoute is a route that is attached to a Server.
type boundRoute struct {
	matches        []match
	odd            bool // it goes by more than methods and paths
	authorizations []authorization
}

// authorization lets clients in.
type authorization struct {
	object     string // for people
	identities []string
	tls        bool // any identity will do, if there are no identities
	networks   []network
}

// network is a range of addresses without some ranges in it.
type network struct {
	within netip.Prefix
	except []netip.Prefix
}

// client is who calls, as the proxy sees it.
type client struct {
	identity string // empty without mTLS
	address  netip.Addr
}

// The parts of the objects that count.
type (
	serverSpec struct {
		PodSelector   *metav1.LabelSelector `json:"podSelector"`
		Port          intstr.IntOrString    `json:"port"`
		ProxyProtocol string                `json:"proxyProtocol"`
		AccessPolicy  string                `json:"accessPolicy"`
	}
	objectRef struct {
		Group     string `json:"group"`
		Kind      string `json:"kind"`
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	}
	authorizationSpec struct {
		TargetRef                  objectRef   `json:"targetRef"`
		RequiredAuthenticationRefs []objectRef `json:"requiredAuthenticationRefs"`
	}
	meshTLSSpec struct {
		Identities   []string    `json:"identities"`
		IdentityRefs []objectRef `json:"identityRefs"`
	}
	networkSpec struct {
		Networks []netpol.Block `json:"networks"`
	}
	legacySpec struct {
		Server struct {
			Name     string                `json:"name"`
			Selector *metav1.LabelSelector `json:"selector"`
		} `json:"server"`
		Client struct {
			Networks        []netpol.Block `json:"networks"`
			Unauthenticated bool           `json:"unauthenticated"`
			MeshTLS         *struct {
				UnauthenticatedTLS bool        `json:"unauthenticatedTLS"`
				Identities         []string    `json:"identities"`
				ServiceAccounts    []objectRef `json:"serviceAccounts"`
			} `json:"meshTLS"`
		} `json:"client"`
	}
	routeSpec struct {
		ParentRefs []objectRef `json:"parentRefs"`
		Hostnames  []string    `json:"hostnames"`
		Rules      []struct {
			Matches []struct {
				Method any `json:"method"`
				Path   struct {
					Type  string `json:"type"`
					Value string `json:"value"`
				} `json:"path"`
				Headers     []any `json:"headers"`
				QueryParams []any `json:"queryParams"`
			} `json:"matches"`
		} `json:"rules"`
	}
)

// specOf reads the spec of an object.
func specOf[S any](object *unstructured.Unstructured) (spec S, ok bool) {
	content, is := object.Object["spec"].(map[string]any)
	if !is {
		return spec, false
	}
	return spec, runtime.DefaultUnstructuredConverter.FromUnstructured(content, &spec) == nil
}

func (r objectRef) is(group, kind string) bool {
	own := r.Group
	if own == "core" {
		own = ""
	}
	return strings.EqualFold(own, group) && strings.EqualFold(r.Kind, kind)
}

func nameOf(object *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
}

// read is an object whose spec has been read.
type read[S any] struct {
	object *unstructured.Unstructured
	spec   S
}

// byNamespace reads objects. What the schemas would have refused counts for
// nothing, as it does for the policy controller.
func byNamespace[S any](objects []*unstructured.Unstructured) map[string][]read[S] {
	found := map[string][]read[S]{}
	for _, object := range objects {
		if spec, ok := specOf[S](object); ok {
			found[object.GetNamespace()] = append(found[object.GetNamespace()], read[S]{object, spec})
		}
	}
	return found
}

// resolver follows references.
type resolver struct {
	authorizations map[string][]read[authorizationSpec]
	meshTLS        map[string][]read[meshTLSSpec]
	networks       map[string][]read[networkSpec]
	legacy         map[string][]read[legacySpec]
	routes         map[string][]read[routeSpec]
	identities     string // what those of accounts end in
	cluster        []network
	seen           []netpol.Block // all ranges
}

// resolve reads the policies once for all judgements.
func (p policies) resolve(planes map[string]terms) rules {
	r := &resolver{
		authorizations: byNamespace[authorizationSpec](p.authorizations), meshTLS: byNamespace[meshTLSSpec](p.meshTLS),
		networks: byNamespace[networkSpec](p.networks), legacy: byNamespace[legacySpec](p.legacy), routes: byNamespace[routeSpec](p.routes),
		identities: termsOf(DefaultNamespace, "", nil).identities,
	}
	resolved := rules{servers: map[string][]gate{}}
	// The controller that watches the policies is one; with several, the first.
	for _, namespace := range slices.Sorted(maps.Keys(planes)) {
		r.identities, r.cluster = planes[namespace].identities, wholly(planes[namespace].networks)
		break
	}
	for _, object := range p.servers {
		s, ok := gateOf(object)
		if !ok {
			continue
		}
		s.authorizations = append(r.ofServer(s), defaultAuthorizations(s.access, "accessPolicy "+s.access, r.cluster)...)
		s.routes = r.routesOf(s)
		resolved.servers[s.namespace] = append(resolved.servers[s.namespace], s)
	}
	for _, servers := range resolved.servers {
		slices.SortFunc(servers, func(a, b gate) int { return strings.Compare(a.name, b.name) })
	}
	for _, servers := range resolved.servers {
		for _, s := range servers {
			for _, a := range s.authorizations {
				resolved.identities = append(resolved.identities, a.identities...)
			}
			for _, route := range s.routes {
				for _, a := range route.authorizations {
					resolved.identities = append(resolved.identities, a.identities...)
				}
			}
		}
	}
	slices.Sort(resolved.identities)
	resolved.identities = slices.Compact(resolved.identities)
	for _, block := range r.seen {
		if n, ok := networkOf(block); ok {
			resolved.networks = append(append(resolved.networks, n.within), n.except...)
		}
	}
	return resolved
}

// gateOf is a Server without what is attached to it; false if it is for no pods.
func gateOf(object *unstructured.Unstructured) (gate, bool) {
	spec, ok := specOf[serverSpec](object)
	if !ok || spec.PodSelector == nil {
		return gate{}, false // It is for workloads outside the cluster.
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.PodSelector)
	return gate{
		object: object, namespace: object.GetNamespace(), name: object.GetName(), labels: object.GetLabels(),
		selector: selector, port: spec.Port, protocol: cmp.Or(spec.ProxyProtocol, "unknown"), access: spec.AccessPolicy,
	}, err == nil
}

// defaultAuthorizations are those that a default policy stands for.
func defaultAuthorizations(policy, object string, cluster []network) []authorization {
	a := authorization{object: object, networks: everywhere()}
	switch policy {
	case "audit", "all-unauthenticated":
	case "all-authenticated":
		a.tls = true
	case "cluster-authenticated":
		a.tls, a.networks = true, cluster
	case "cluster-unauthenticated":
		a.networks = cluster
	default:
		return nil
	}
	return []authorization{a}
}

func everywhere() []network {
	return wholly([]netip.Prefix{netip.MustParsePrefix(everybodyV4), netip.MustParsePrefix(everybodyV6)})
}

// wholly are ranges without exceptions.
func wholly(prefixes []netip.Prefix) []network {
	networks := make([]network, len(prefixes))
	for i, prefix := range prefixes {
		networks[i] = network{within: prefix}
	}
	return networks
}

// networkOf reads a range, or a single address.
func networkOf(block netpol.Block) (network, bool) {
	within, ok := prefixOf(block.CIDR)
	n := network{within: within}
	for _, text := range block.Except {
		except, readable := prefixOf(text)
		ok = ok && readable
		n.except = append(n.except, except)
	}
	return n, ok
}

func prefixOf(text string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err == nil
}

func (n network) contains(address netip.Addr) bool {
	// A pod that has no address yet will have one from anywhere.
	if !address.IsValid() {
		return n.within.Bits() == 0 && len(n.except) == 0
	}
	return n.within.Contains(address) && !slices.ContainsFunc(n.except, func(e netip.Prefix) bool { return e.Contains(address) })
}

// ofServer are the authorizations that hold for all of a Server's traffic.
func (r *resolver) ofServer(s gate) []authorization {
	var found []authorization
	for _, l := range r.legacy[s.namespace] {
		if !l.spec.selects(s) {
			continue
		}
		if a, ok := r.legacyAuthorization(l.object, l.spec); ok {
			found = append(found, a)
		}
	}
	return append(found, r.policiesFor(s.namespace, func(target objectRef) bool {
		return target.is(policyGroup, "Server") && target.Name == s.name || target.is("", "Namespace")
	})...)
}

func (l legacySpec) selects(s gate) bool {
	if l.Server.Name != "" || l.Server.Selector == nil {
		return l.Server.Name == s.name
	}
	selector, err := metav1.LabelSelectorAsSelector(l.Server.Selector)
	return err == nil && selector.Matches(s.labels)
}

func (r *resolver) legacyAuthorization(object *unstructured.Unstructured, spec legacySpec) (authorization, bool) {
	a := authorization{object: nameOf(object), networks: r.cluster}
	if len(spec.Client.Networks) > 0 {
		networks, ok := r.blocks(spec.Client.Networks)
		if !ok {
			return authorization{}, false
		}
		a.networks = networks
	}
	tls := spec.Client.MeshTLS
	switch {
	case spec.Client.Unauthenticated:
	case tls == nil:
		return authorization{}, false
	case tls.UnauthenticatedTLS:
		a.tls = true
	default:
		a.tls, a.identities = true, slices.Clone(tls.Identities)
		for _, account := range tls.ServiceAccounts {
			a.identities = append(a.identities, r.accountIdentity(account, object.GetNamespace()))
		}
		if len(a.identities) == 0 {
			return authorization{}, false
		}
	}
	return a, true
}

func (r *resolver) accountIdentity(account objectRef, namespace string) string {
	return account.Name + "." + cmp.Or(account.Namespace, namespace) + ".serviceaccount." + r.identities
}

func (r *resolver) blocks(blocks []netpol.Block) ([]network, bool) {
	r.seen = append(r.seen, blocks...)
	networks := make([]network, len(blocks))
	for i, block := range blocks {
		var ok bool
		if networks[i], ok = networkOf(block); !ok {
			return nil, false
		}
	}
	return networks, true
}

// policiesFor are the AuthorizationPolicies of a namespace whose target is meant.
// One that refers to what is not there lets nobody in.
func (r *resolver) policiesFor(namespace string, meant func(target objectRef) bool) []authorization {
	var found []authorization
	for _, policy := range r.authorizations[namespace] {
		if !meant(policy.spec.TargetRef) {
			continue
		}
		a := authorization{object: nameOf(policy.object), networks: everywhere()}
		if !slices.ContainsFunc(policy.spec.RequiredAuthenticationRefs, func(ref objectRef) bool { return !r.require(&a, ref, namespace) }) {
			found = append(found, a)
		}
	}
	return found
}

// require adds what a reference asks for to an authorization.
func (r *resolver) require(a *authorization, ref objectRef, namespace string) bool {
	in := cmp.Or(ref.Namespace, namespace)
	switch {
	case ref.is("", "ServiceAccount"):
		a.tls, a.identities = true, []string{r.accountIdentity(ref, namespace)}
		return true
	case ref.is(policyGroup, "MeshTLSAuthentication"):
		spec, ok := specNamed(r.meshTLS[in], ref.Name)
		if !ok {
			return false
		}
		a.tls, a.identities = true, slices.Clone(spec.Identities)
		for _, id := range spec.IdentityRefs {
			if id.is("", "Namespace") {
				a.identities = append(a.identities, "*."+id.Name+".serviceaccount."+r.identities)
				continue
			}
			a.identities = append(a.identities, r.accountIdentity(id, in))
		}
		return len(a.identities) > 0
	case ref.is(policyGroup, "NetworkAuthentication"):
		spec, ok := specNamed(r.networks[in], ref.Name)
		if ok {
			a.networks, ok = r.blocks(spec.Networks)
		}
		return ok
	}
	return false
}

func specNamed[S any](objects []read[S], name string) (spec S, ok bool) {
	for _, r := range objects {
		if r.object.GetName() == name {
			return r.spec, true
		}
	}
	return spec, false
}

// routesOf are the routes of a Server that its proxies look at.
func (r *resolver) routesOf(s gate) []boundRoute {
	var routes []boundRoute
	for _, route := range r.routes[s.namespace] {
		object, spec := route.object, route.spec
		grpc := object.GetKind() == gatewayGRPCRouteKind.Name
		if grpc != (s.protocol == "gRPC") || s.protocol == opaqueProtocol || s.protocol == "TLS" ||
			!slices.ContainsFunc(spec.ParentRefs, func(p objectRef) bool {
				return p.is(policyGroup, "Server") && p.Name == s.name && (p.Namespace == "" || p.Namespace == s.namespace)
			}) {
			continue
		}
		group := object.GroupVersionKind().Group
		bound := boundRoute{odd: grpc || len(spec.Hostnames) > 0}
		bound.authorizations = r.policiesFor(s.namespace, func(target objectRef) bool {
			return target.is(group, object.GetKind()) && target.Name == object.GetName()
		})
		for _, rule := range spec.Rules {
			if len(rule.Matches) == 0 {
				bound.matches = append(bound.matches, match{path: "/", prefix: true})
			}
			for _, m := range rule.Matches {
				method, _ := m.Method.(string)
				path := match{method: method, path: cmp.Or(m.Path.Value, "/"), prefix: m.Path.Type != "Exact"}
				if path.prefix {
					path.path = cmp.Or(strings.TrimRight(path.path, "/"), "/")
				}
				bound.odd = bound.odd || len(m.Headers)+len(m.QueryParams) > 0 || m.Path.Type == "RegularExpression"
				bound.matches = append(bound.matches, path)
			}
		}
		routes = append(routes, bound)
	}
	return routes
}

// ports are those of a pod that the Server governs. One by its number need not be
// declared.
func (s gate) ports(pod *corev1.Pod) []int32 {
	if s.port.Type == intstr.Int {
		return []int32{s.port.IntVal}
	}
	var ports []int32
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == s.port.StrVal && (port.Protocol == corev1.ProtocolTCP || port.Protocol == "") {
				ports = append(ports, port.ContainerPort)
			}
		}
	}
	return ports
}

// governing are the Servers for a port of a pod; there should be one at most.
func (r rules) governing(pod *corev1.Pod, port int32) []gate {
	return slices.DeleteFunc(slices.Clone(r.servers[pod.Namespace]), func(s gate) bool {
		return !s.selector.Matches(labels.Set(pod.Labels)) || !slices.Contains(s.ports(pod), port)
	})
}

// judge says whether a client gets in.
func (r rules) judge(c client, to member, port int32) access.Verdict {
	governing := r.governing(to.pod, port)
	if len(governing) == 0 {
		policy := to.inboundPolicy()
		authorizations := defaultAuthorizations(policy, "", wholly(to.networks))
		for i := range authorizations {
			authorizations[i].tls = authorizations[i].tls || policy != "audit" && listed(to.pod.Annotations[requireIdentityAnnotation], port)
		}
		_, allowed := admitting(authorizations, c)
		return access.Verdict{Allowed: allowed, Reason: fmt.Sprintf("no Server governs port %d, and the default inbound policy is %s", port, policy)}
	}
	verdict := governing[0].judge(c, to.pod, port)
	for _, other := range governing[1:] {
		// The controller picks one, and nothing says which.
		if also := other.judge(c, to.pod, port); also.Allowed != verdict.Allowed || also.Partly != verdict.Partly {
			return access.Verdict{Allowed: true, Unknown: true, Reason: fmt.Sprintf("Servers %s/%s and %s/%s both claim port %d and disagree",
				governing[0].namespace, governing[0].name, other.namespace, other.name, port)}
		}
	}
	return verdict
}

// judge says whether the Server lets a client in. What is let in for probes alone
// does not count as being let in: it tells nothing but whether the pod is well.
func (s gate) judge(c client, pod *corev1.Pod, port int32) access.Verdict {
	name := fmt.Sprintf("Server %s/%s", s.namespace, s.name)
	if by, allowed := admitting(s.authorizations, c); allowed {
		verdict := access.Verdict{Allowed: true, Reason: fmt.Sprintf("%s: %s lets it in", name, by)}
		if len(s.routes) > 0 && !slices.ContainsFunc(s.routes, boundRoute.whole) {
			verdict.Partly = true
			verdict.Reason += ", to its routes"
		}
		return verdict
	}
	var by string
	refused := len(s.routes) == 0 || !slices.ContainsFunc(s.routes, boundRoute.whole)
	for _, route := range s.routes {
		found, allowed := admitting(route.authorizations, c)
		switch {
		case !allowed:
			refused = true
		case by == "" && !route.probesOnly(pod, port):
			by = found
		}
	}
	switch {
	case by != "":
		return access.Verdict{Allowed: true, Partly: refused, Reason: fmt.Sprintf("%s: %s lets some of its requests in", name, by)}
	case c.identity == "":
		return access.Verdict{Reason: name + ": nothing lets callers in that have no identity and come from there"}
	default:
		return access.Verdict{Reason: name + ": nothing lets its identity in"}
	}
}

// whole tells whether a route takes every request.
func (b boundRoute) whole() bool {
	return !b.odd && slices.Contains(b.matches, match{path: "/", prefix: true})
}

// probesOnly tells whether a route takes nothing but probes of the pod.
func (b boundRoute) probesOnly(pod *corev1.Pod, port int32) bool {
	if b.odd {
		return false
	}
	var probes []match
	for _, probe := range access.ProbesOf([]*corev1.Pod{pod}) {
		if probe.Port == port {
			probes = append(probes, matchesOf(probeRoute(probe))...)
		}
	}
	return !slices.ContainsFunc(b.matches, func(m match) bool { return !slices.Contains(probes, m) })
}

// admitting finds the authorization that lets a client in.
func admitting(authorizations []authorization, c client) (object string, found bool) {
	for _, a := range authorizations {
		if a.admits(c) {
			return a.object, true
		}
	}
	return "", false
}

func (a authorization) admits(c client) bool {
	if !slices.ContainsFunc(a.networks, func(n network) bool { return n.contains(c.address) }) {
		return false
	}
	if !a.tls {
		return true
	}
	return c.identity != "" && (len(a.identities) == 0 || slices.ContainsFunc(a.identities, func(pattern string) bool { return fits(pattern, c.identity) }))
}

// fits tells whether an identity is what a pattern means, which may begin with a *.
func fits(pattern, identity string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	return pattern == identity || wild && strings.HasSuffix(identity, suffix)
}

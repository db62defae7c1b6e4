package istio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// An Authorizer has Istio's proxies enforce who may call whom.
type Authorizer struct {
	// ControlPlane is the namespace of the istiod whose mesh the pods belong to;
	// empty is any.
	ControlPlane string `json:"controlPlane,omitempty"`
	// TrustDomain of the identities of ServiceAccounts; empty asks the control plane.
	TrustDomain string `json:"trustDomain,omitempty"`
}

// CheckPolicy refuses what Istio cannot enforce, whatever is in the cluster.
func (Authorizer) CheckPolicy(p access.Policy) error {
	if p.AllPorts == (len(p.Ports) > 0) {
		return errors.New("it takes ports, or all of them, and not both")
	}
	var numbers []int32
	for _, port := range p.Ports {
		if port.Type == intstr.String {
			return fmt.Errorf("port %q: Istio's authorization knows ports by the containers' numbers only; give the number", port.StrVal)
		}
		numbers = append(numbers, port.IntVal)
	}
	if err := (Traffic{}).CheckPorts(numbers); err != nil {
		return err
	}
	if p.Protocol != "" {
		return fmt.Errorf("protocol %q: Istio goes by the name or appProtocol of the Service's port; set that, and leave the protocol out", p.Protocol)
	}
	switch p.MTLS {
	case "", access.StrictMTLS, access.PermissiveMTLS:
	default:
		return fmt.Errorf("mtls %q is neither %s nor %s", p.MTLS, access.StrictMTLS, access.PermissiveMTLS)
	}
	if p.MTLS != "" && len(p.Ports) > 0 && len(p.Pods) == 0 {
		return errors.New("mtls of single ports takes the labels of pods, as a PeerAuthentication of a whole namespace has no ports: name the labels, or take all ports")
	}
	for i, grant := range p.Grants {
		if err := checkGrant(grant); err != nil {
			return fmt.Errorf("grant %d: %w", i+1, err)
		}
	}
	return nil
}

func checkGrant(grant access.Grant) error {
	if len(grant.Callers) == 0 {
		return errors.New("it names no callers")
	}
	for _, caller := range grant.Callers {
		switch {
		case caller == access.Caller{}:
			return errors.New("a caller is nobody")
		case caller.Network != nil:
			if err := caller.Network.Check(); err != nil {
				return err
			}
		case strings.HasPrefix(caller.Identity, "spiffe://"):
			return fmt.Errorf("identity %q: principals of Istio leave the spiffe:// out", caller.Identity)
		case strings.Contains(strings.TrimSuffix(strings.TrimPrefix(caller.Identity, "*"), "*"), "*"),
			len(caller.Identity) > 1 && strings.HasPrefix(caller.Identity, "*") && strings.HasSuffix(caller.Identity, "*"):
			return fmt.Errorf("identity %q: principals of Istio take one *, at the beginning or at the end", caller.Identity)
		}
	}
	for _, route := range grant.Routes {
		switch {
		case route.Path == "" && (route.Prefix || len(route.Methods) == 0):
			return errors.New("a route has neither a path nor methods")
		case route.Path != "" && !strings.HasPrefix(route.Path, "/"):
			return fmt.Errorf("path %q does not begin with /", route.Path)
		case strings.ContainsAny(route.Path, "*{}?#"):
			return fmt.Errorf("path %q: it is taken as it is, without wildcards, templates and queries; ask for everything below a path by path_prefix", route.Path)
		}
	}
	return nil
}

// Authorize makes the objects that enforce a policy, in the order in which to
// apply them, and tells what holds once they are in force. The cluster may be nil;
// the error wraps [mesh.ErrNoControlPlane] if the trust domain then is not known.
func (a Authorizer) Authorize(ctx context.Context, cluster *kube.Cluster, p access.Policy) ([]*unstructured.Unstructured, string, error) {
	if err := a.CheckPolicy(p); err != nil {
		return nil, "", err
	}
	if err := checkScope(ctx, cluster, p.Namespace); err != nil {
		return nil, "", err
	}
	if err := checkRoutes(ctx, cluster, p); err != nil {
		return nil, "", err
	}
	trustDomain, err := a.trustDomain(ctx, cluster, p)
	if err != nil {
		return nil, "", err
	}
	policy := authorization{Selector: selecting(p.Pods), Action: allowAction}
	for _, grant := range p.Grants {
		policy.Rules = append(policy.Rules, rule{From: sourcesOf(grant.Callers, trustDomain, p.MTLS == access.StrictMTLS), To: operationsOf(p.Ports, grant.Routes)})
	}
	objects, err := policyObjects(p.Namespace, p.Name, &policy, authenticationOf(p))
	return objects, authorizationGuarantee(p), err
}

// selectedPods are the pods with all of the labels that take connections, and
// their namespace; nil if it is not there.
func selectedPods(ctx context.Context, cluster *kube.Cluster, name string, selector map[string]string) (*corev1.Namespace, []*corev1.Pod, error) {
	namespace, err := cluster.Namespace(ctx, name)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := cluster.Pods(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	var pods []*corev1.Pod
	for _, pod := range all {
		if selects(selector, pod.Labels) && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			pods = append(pods, pod)
		}
	}
	return namespace, pods, nil
}

// checkRoutes refuses routes where the node's proxy would have to enforce them,
// which knows no HTTP and so refuses everything that a rule with routes admits.
func checkRoutes(ctx context.Context, cluster *kube.Cluster, p access.Policy) error {
	if cluster == nil || !slices.ContainsFunc(p.Grants, func(g access.Grant) bool { return len(g.Routes) > 0 }) {
		return nil
	}
	namespace, pods, err := selectedPods(ctx, cluster, p.Namespace, p.Pods)
	if err != nil || namespace == nil {
		return err
	}
	if ModeOf(namespace, pods) != ModeSidecar {
		return fmt.Errorf("pods of %s are in ambient mode, where the node's proxy (ztunnel) knows no HTTP and would refuse every caller of a grant with routes: "+
			"leave the routes out, or have a waypoint enforce them by an AuthorizationPolicy whose targetRefs name the Service", kube.Ref{Kind: kube.Namespace, Name: p.Namespace})
	}
	return nil
}

// trustDomain is that of the identities of ServiceAccounts, if the policy names
// any.
func (a Authorizer) trustDomain(ctx context.Context, cluster *kube.Cluster, p access.Policy) (string, error) {
	named := slices.ContainsFunc(p.Grants, func(g access.Grant) bool {
		return slices.ContainsFunc(g.Callers, func(c access.Caller) bool { return c.Account != nil })
	})
	if a.TrustDomain != "" || !named {
		return a.TrustDomain, nil
	}
	if cluster == nil {
		return "", fmt.Errorf("the trust domain of ServiceAccounts: %w", mesh.ErrNoControlPlane)
	}
	configs, err := meshConfigsIn(ctx, cluster)
	if err != nil {
		return "", err
	}
	configs = slices.DeleteFunc(configs, func(c meshConfig) bool { return a.ControlPlane != "" && c.plane.Namespace != a.ControlPlane })
	var found []string
	for _, config := range configs {
		found = append(found, config.TrustDomain)
	}
	switch found = slices.Compact(slices.Sorted(slices.Values(found))); len(found) {
	case 0:
		return "", fmt.Errorf("the trust domain of ServiceAccounts: %w: install Istio first, or say it (trust_domain)", mesh.ErrNoControlPlane)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("the control planes of the cluster have different trust domains, %s: say which is meant (trust_domain)", strings.Join(found, " and "))
}

// sourcesOf are callers, each of which suffices: those by identity in one, those
// by namespace in another, and each range of addresses with its exceptions. Strict
// is whether those need an identity as well: which PeerAuthentication of several
// decides is a matter of their age.
func sourcesOf(callers []access.Caller, trustDomain string, strict bool) []ruleFrom {
	var identities, namespaces source
	var ranges []ruleFrom
	for _, caller := range callers {
		switch {
		case caller.Meshed:
			identities.Principals = append(identities.Principals, "*")
		case caller.Account != nil:
			identities.Principals = append(identities.Principals, principalOf(trustDomain, caller.Account.Namespace, caller.Account.Name))
		case caller.Identity != "":
			identities.Principals = append(identities.Principals, caller.Identity)
		case caller.Namespace != "":
			namespaces.Namespaces = append(namespaces.Namespaces, caller.Namespace)
		case caller.Network != nil:
			from := source{IPBlocks: []string{caller.Network.CIDR}, NotIPBlocks: slices.Clone(caller.Network.Except)}
			if strict {
				from.Principals = []string{"*"}
			}
			ranges = append(ranges, ruleFrom{Source: from})
		}
	}
	var from []ruleFrom
	if len(identities.Principals) > 0 {
		from = append(from, ruleFrom{Source: identities})
	}
	if len(namespaces.Namespaces) > 0 {
		from = append(from, ruleFrom{Source: namespaces})
	}
	return append(from, ranges...)
}

// principalOf is how Istio spells the identity of a ServiceAccount.
func principalOf(trustDomain, namespace, name string) string {
	return trustDomain + "/ns/" + namespace + "/sa/" + name
}

// operationsOf are the requests of any of the routes to any of the ports; without
// either, everything.
func operationsOf(ports []access.Port, routes []access.Route) []ruleTo {
	var numbers []string
	for _, port := range ports {
		numbers = append(numbers, strconv.Itoa(int(port.IntVal)))
	}
	if len(routes) == 0 {
		if len(numbers) == 0 {
			return nil
		}
		return []ruleTo{{Operation: operation{Ports: numbers}}}
	}
	var to []ruleTo
	for _, route := range routes {
		to = append(to, ruleTo{Operation: operation{Ports: slices.Clone(numbers), Methods: slices.Clone(route.Methods), Paths: pathsOf(route)}})
	}
	return to
}

func pathsOf(route access.Route) []string {
	below := strings.TrimRight(route.Path, "/") + "/*"
	switch {
	case route.Path == "":
		return nil
	case !route.Prefix:
		return []string{route.Path}
	case strings.HasSuffix(route.Path, "/"):
		return []string{below} // which / itself matches
	default:
		return []string{route.Path, below}
	}
}

// authenticationOf is the PeerAuthentication by which a policy's pods demand mTLS
// or do without; nil if that is left alone.
func authenticationOf(p access.Policy) *peerAuthentication {
	mode := map[access.MTLS]string{access.StrictMTLS: strictMode, access.PermissiveMTLS: permissiveMode}[p.MTLS]
	if mode == "" {
		return nil
	}
	authentication := &peerAuthentication{Selector: selecting(p.Pods)}
	if p.AllPorts {
		authentication.MTLS = &mutualTLS{Mode: mode}
		return authentication
	}
	authentication.PortLevel = map[string]mutualTLS{}
	for _, port := range p.Ports {
		authentication.PortLevel[strconv.Itoa(int(port.IntVal))] = mutualTLS{Mode: mode}
	}
	return authentication
}

func authorizationGuarantee(p access.Policy) string {
	whose := "every pod of the namespace"
	if len(p.Pods) > 0 {
		whose = "the pods labelled " + labels.Set(p.Pods).String()
	}
	byAddress := slices.ContainsFunc(p.Grants, func(g access.Grant) bool {
		return slices.ContainsFunc(g.Callers, func(c access.Caller) bool { return c.Network != nil })
	})
	routes := slices.ContainsFunc(p.Grants, func(g access.Grant) bool { return len(g.Routes) > 0 })
	var lines []string
	if len(p.Grants) == 0 {
		lines = append(lines, fmt.Sprintf("Nobody gets to %s whom no other AuthorizationPolicy lets in: those that allow add up.", whose))
	} else {
		ports := "any port"
		if !p.AllPorts {
			var numbers []int32
			for _, port := range p.Ports {
				numbers = append(numbers, port.IntVal)
			}
			ports = "ports " + access.JoinPorts(numbers) + ", and nobody to other ports,"
		}
		lines = append(lines, fmt.Sprintf("Only the callers named get to %s of %s, unless another AuthorizationPolicy lets more in: those that allow add up.", ports, whose))
	}
	if routes {
		lines = append(lines, "Routes are of HTTP: at a port whose Service says another protocol, they let nobody in.")
	}
	switch {
	case p.MTLS == access.StrictMTLS && byAddress:
		lines = append(lines, "Callers are known by their certificates of the mesh, and no one without one gets in, not even from the address ranges named.")
	case byAddress:
		lines = append(lines, "Callers are known by their certificates of the mesh, but whoever has an address of the ranges named needs none.")
	default:
		lines = append(lines, "Callers are known by their certificates of the mesh.")
	}
	return strings.Join(append(lines, "Pods outside the mesh are not protected, nor are ports that are kept from the sidecar ("+excludeInboundPorts+"). Probes of the pods and metrics of the proxies pass."), " ")
}

package istio

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

const (
	tlsModeLabel     = "security.istio.io/tlsMode"
	gatewayLabel     = "istio"
	gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"
)

// The kinds by which Istio is told whom to let in.
var (
	authorizationPolicies = kube.Kind{Group: "security.istio.io", Version: "v1", Resource: "authorizationpolicies", Name: "AuthorizationPolicy", Namespaced: true}
	peerAuthentications   = kube.Kind{Group: "security.istio.io", Version: "v1", Resource: "peerauthentications", Name: "PeerAuthentication", Namespaced: true}
)

// PolicyKinds are the kinds of objects that protections and authorizations are
// compiled to.
func PolicyKinds() []kube.Kind { return []kube.Kind{authorizationPolicies, peerAuthentications} }

// A workloadSelector selects pods by their labels; without any, all of a
// namespace, or of the mesh in its root namespace.
type workloadSelector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

func selecting(labels map[string]string) *workloadSelector {
	if len(labels) == 0 {
		return nil
	}
	return &workloadSelector{MatchLabels: labels}
}

// selects reports whether pods with some labels have all of those wanted.
func selects(wanted, labels map[string]string) bool {
	for key, value := range wanted {
		if actual, is := labels[key]; !is || actual != value {
			return false
		}
	}
	return true
}

// authorization is the spec of an AuthorizationPolicy.
type authorization struct {
	Selector   *workloadSelector `json:"selector,omitempty"`
	TargetRef  *targetRef        `json:"targetRef,omitempty"`
	TargetRefs []targetRef       `json:"targetRefs,omitempty"`
	Action     string            `json:"action,omitempty"`
	Rules      []rule            `json:"rules,omitempty"`
}

// A targetRef is a Gateway, a Service or the like whose waypoint or gateway
// enforces a policy.
type targetRef struct {
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

// The actions of an AuthorizationPolicy.
const (
	allowAction  = "ALLOW" // also if none is given
	denyAction   = "DENY"
	customAction = "CUSTOM"
	auditAction  = "AUDIT"
)

type rule struct {
	From []ruleFrom  `json:"from,omitempty"`
	To   []ruleTo    `json:"to,omitempty"`
	When []condition `json:"when,omitempty"`
}

type ruleFrom struct {
	Source source `json:"source"`
}

type source struct {
	Principals           []string `json:"principals,omitempty"`
	NotPrincipals        []string `json:"notPrincipals,omitempty"`
	RequestPrincipals    []string `json:"requestPrincipals,omitempty"`
	NotRequestPrincipals []string `json:"notRequestPrincipals,omitempty"`
	Namespaces           []string `json:"namespaces,omitempty"`
	NotNamespaces        []string `json:"notNamespaces,omitempty"`
	ServiceAccounts      []string `json:"serviceAccounts,omitempty"`
	NotServiceAccounts   []string `json:"notServiceAccounts,omitempty"`
	TrustDomains         []string `json:"trustDomains,omitempty"`
	NotTrustDomains      []string `json:"notTrustDomains,omitempty"`
	IPBlocks             []string `json:"ipBlocks,omitempty"`
	NotIPBlocks          []string `json:"notIpBlocks,omitempty"`
	RemoteIPBlocks       []string `json:"remoteIpBlocks,omitempty"`
	NotRemoteIPBlocks    []string `json:"notRemoteIpBlocks,omitempty"`
}

type ruleTo struct {
	Operation operation `json:"operation"`
}

type operation struct {
	Hosts      []string `json:"hosts,omitempty"`
	NotHosts   []string `json:"notHosts,omitempty"`
	Ports      []string `json:"ports,omitempty"`
	NotPorts   []string `json:"notPorts,omitempty"`
	Methods    []string `json:"methods,omitempty"`
	NotMethods []string `json:"notMethods,omitempty"`
	Paths      []string `json:"paths,omitempty"`
	NotPaths   []string `json:"notPaths,omitempty"`
}

type condition struct {
	Key       string   `json:"key"`
	Values    []string `json:"values,omitempty"`
	NotValues []string `json:"notValues,omitempty"`
}

// peerAuthentication is the spec of a PeerAuthentication.
type peerAuthentication struct {
	Selector *workloadSelector `json:"selector,omitempty"`
	MTLS     *mutualTLS        `json:"mtls,omitempty"`
	// Ports of the containers, as text.
	PortLevel map[string]mutualTLS `json:"portLevelMtls,omitempty"`
}

type mutualTLS struct {
	Mode string `json:"mode,omitempty"`
}

// The modes of a PeerAuthentication. UNSET, or none, inherits.
const (
	strictMode     = "STRICT"
	permissiveMode = "PERMISSIVE"
	disableMode    = "DISABLE"
	unsetMode      = "UNSET"
)

// objectOf makes the object of a spec.
func objectOf(kind kube.Kind, namespace, name string, spec any) (*unstructured.Unstructured, error) {
	ref := kube.Ref{Kind: kind, Namespace: namespace, Name: name}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	object := ref.Object()
	object.Object["spec"] = content
	return object, nil
}

// demandIdentity makes the objects by which proxies let nobody without an identity
// of the mesh to the ports of a protection, and nobody at all to others, but for
// the exceptions.
func demandIdentity(ctx context.Context, cluster *kube.Cluster, p access.Protection) ([]*unstructured.Unstructured, error) {
	if len(p.Ports) == 0 {
		return nil, errors.New("an identity can be demanded of the callers of given ports only: name the ports")
	}
	if err := checkScope(ctx, cluster, p.Namespace); err != nil {
		return nil, err
	}
	policy := authorization{Selector: selecting(p.Pods), Action: allowAction, Rules: []rule{
		{From: []ruleFrom{{Source: source{Principals: []string{"*"}}}}, To: toPorts(p.Ports)},
	}}
	authentication := peerAuthentication{Selector: selecting(p.Pods), MTLS: &mutualTLS{Mode: strictMode}}
	for _, e := range p.Exceptions {
		if e.Metrics {
			continue // Its ports are not the proxy's to guard.
		}
		ports := p.ExceptedPorts(e)
		if authentication.Selector == nil {
			return nil, fmt.Errorf("exceptions need ports %s without mTLS, and a PeerAuthentication of a whole namespace has no ports: name the labels of the pods", access.JoinPorts(ports))
		}
		let := rule{From: fromBlocks(e), To: toPorts(ports)}
		if !slices.ContainsFunc(policy.Rules, func(r rule) bool { return reflect.DeepEqual(r, let) }) {
			policy.Rules = append(policy.Rules, let)
		}
		for _, port := range ports {
			if authentication.PortLevel == nil {
				authentication.PortLevel = map[string]mutualTLS{}
			}
			authentication.PortLevel[strconv.Itoa(int(port))] = mutualTLS{Mode: permissiveMode}
		}
	}
	return policyObjects(p.Namespace, p.Name, &policy, &authentication)
}

// policyObjects makes objects of those of the specs that are not nil.
func policyObjects(namespace, name string, policy *authorization, authentication *peerAuthentication) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	if policy != nil {
		object, err := objectOf(authorizationPolicies, namespace, name, policy)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	if authentication != nil {
		object, err := objectOf(peerAuthentications, namespace, name, authentication)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// fromBlocks are the sources of an exception, if they are all address ranges; a
// proxy cannot tell callers without identity by anything else.
func fromBlocks(e access.Exception) []ruleFrom {
	var sources []ruleFrom
	for _, peer := range e.Peers {
		if peer.Block == nil {
			return nil
		}
		sources = append(sources, ruleFrom{Source: source{IPBlocks: []string{peer.Block.CIDR}, NotIPBlocks: slices.Clone(peer.Block.Except)}})
	}
	return sources
}

func toPorts(numbers []int32) []ruleTo {
	sorted := slices.Compact(slices.Sorted(slices.Values(numbers)))
	ports := make([]string, len(sorted))
	for i, number := range sorted {
		ports[i] = strconv.Itoa(int(number))
	}
	return []ruleTo{{Operation: operation{Ports: ports}}}
}

package linkerd

// This file stands in for Linkerd's policy validator (linkerd2 policy-controller, admission).

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
)

// Groups of what policies are about.
const (
	policyGroup  = "policy.linkerd.io"
	gatewayGroup = "gateway.networking.k8s.io"
)

// policyValidator checks what the schemas of the policies cannot.
type policyValidator struct {
	client dynamic.Interface
}

// validate refuses a policy that the controller would not act on.
func (v policyValidator) validate(ctx context.Context, request *admissionv1.AdmissionRequest) error {
	kind := schema.GroupKind{Group: request.Kind.Group, Kind: request.Kind.Kind}
	switch kind {
	case schema.GroupKind{Group: policyGroup, Kind: "Server"}:
		return check(request, func(spec serverSpec) error { return v.server(ctx, request, spec) })
	case schema.GroupKind{Group: policyGroup, Kind: "AuthorizationPolicy"}:
		return check(request, func(spec authorizationPolicySpec) error { return spec.validate(request.Namespace) })
	case schema.GroupKind{Group: policyGroup, Kind: "MeshTLSAuthentication"}:
		return check(request, meshTLSAuthenticationSpec.validate)
	case schema.GroupKind{Group: policyGroup, Kind: "NetworkAuthentication"}:
		return check(request, networkAuthenticationSpec.validate)
	case schema.GroupKind{Group: policyGroup, Kind: "ServerAuthorization"}:
		return check(request, serverAuthorizationSpec.validate)
	case schema.GroupKind{Group: policyGroup, Kind: "EgressNetwork"}:
		return check(request, egressNetworkSpec.validate)
	case schema.GroupKind{Group: policyGroup, Kind: "HTTPLocalRateLimitPolicy"}:
		return check(request, rateLimitSpec.validate)
	case schema.GroupKind{Group: policyGroup, Kind: "HTTPRoute"},
		schema.GroupKind{Group: gatewayGroup, Kind: "HTTPRoute"},
		schema.GroupKind{Group: gatewayGroup, Kind: "GRPCRoute"},
		schema.GroupKind{Group: gatewayGroup, Kind: "TLSRoute"},
		schema.GroupKind{Group: gatewayGroup, Kind: "TCPRoute"}:
		return check(request, func(spec routeSpec) error { return spec.validate(kind) })
	default:
		return fmt.Errorf("unsupported resource type: %s", kind)
	}
}

// check reads the spec of the request's object and hands it to validate.
func check[S any](request *admissionv1.AdmissionRequest, validate func(spec S) error) error {
	var object struct {
		Spec *S `json:"spec"`
	}
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	if object.Spec == nil {
		return errors.New("admission request missing 'spec'")
	}
	return validate(*object.Spec)
}

// A targetRef points to another object.
type targetRef struct {
	Group     string  `json:"group"`
	Kind      string  `json:"kind"`
	Name      string  `json:"name"`
	Namespace *string `json:"namespace"`
	Port      *int32  `json:"port"`
}

// is reports whether the target is of a kind, whose group is that of the core
// API where it is empty.
func (t targetRef) is(group, kind string) bool {
	own := t.Group
	if own == "core" {
		own = ""
	}
	return strings.EqualFold(own, group) && strings.EqualFold(t.Kind, kind)
}

func (t targetRef) String() string {
	if t.Group == "" {
		return t.Kind
	}
	return t.Kind + "." + t.Group
}

type serverSpec struct {
	PodSelector              *metav1.LabelSelector `json:"podSelector"`
	ExternalWorkloadSelector *metav1.LabelSelector `json:"externalWorkloadSelector"`
	Port                     *intstr.IntOrString   `json:"port"`
	AccessPolicy             *string               `json:"accessPolicy"`
}

// server refuses a Server for a port that another one takes already.
func (v policyValidator) server(ctx context.Context, request *admissionv1.AdmissionRequest, spec serverSpec) error {
	if (spec.PodSelector == nil) == (spec.ExternalWorkloadSelector == nil) {
		return errors.New("exactly one of podSelector and externalWorkloadSelector must be set")
	}
	if spec.Port == nil {
		return errors.New("missing field `port`")
	}
	if policy := spec.AccessPolicy; policy != nil && !slices.Contains(defaultPolicies(), *policy) {
		return fmt.Errorf("invalid 'accessPolicy' field: %q is none of %s", *policy, strings.Join(defaultPolicies(), ", "))
	}
	resource := schema.GroupVersionResource{Group: policyGroup, Version: "v1beta3", Resource: "servers"}
	others, err := v.client.Resource(resource).Namespace(request.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list Servers of namespace %s: %w", request.Namespace, err)
	}
	for _, other := range others.Items {
		if other.GetName() == request.Name {
			continue
		}
		data, err := other.MarshalJSON()
		if err != nil {
			return fmt.Errorf("read Server %s/%s: %w", other.GetNamespace(), other.GetName(), err)
		}
		var taken struct {
			Spec serverSpec `json:"spec"`
		}
		if err := json.Unmarshal(data, &taken); err != nil {
			return fmt.Errorf("read Server %s/%s: %w", other.GetNamespace(), other.GetName(), err)
		}
		if spec.overlaps(taken.Spec) {
			return fmt.Errorf("server spec '%s/%s' already defines a policy for port %s, and selects pods that would be selected by this Server",
				other.GetNamespace(), other.GetName(), spec.Port)
		}
	}
	return nil
}

// overlaps reports whether two Servers plainly select the same: the real one
// does not look closer either.
func (s serverSpec) overlaps(other serverSpec) bool {
	if other.Port == nil || *s.Port != *other.Port {
		return false
	}
	same := func(a, b *metav1.LabelSelector) bool {
		if a == nil || b == nil {
			return false
		}
		all := func(s *metav1.LabelSelector) bool { return len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 }
		return all(a) || all(b) || reflect.DeepEqual(a, b)
	}
	return same(s.PodSelector, other.PodSelector) || same(s.ExternalWorkloadSelector, other.ExternalWorkloadSelector)
}

type authorizationPolicySpec struct {
	TargetRef                  targetRef   `json:"targetRef"`
	RequiredAuthenticationRefs []targetRef `json:"requiredAuthenticationRefs"`
}

func (s authorizationPolicySpec) validate(namespace string) error {
	switch target := s.TargetRef; {
	case target.is(policyGroup, "Server"), target.is(policyGroup, "HTTPRoute"),
		target.is(gatewayGroup, "HTTPRoute"), target.is(gatewayGroup, "GRPCRoute"):
	case target.is("", "Namespace"):
		if target.Name != namespace {
			return fmt.Errorf("cannot target another namespace: %s", target.Name)
		}
	default:
		return fmt.Errorf("invalid targetRef kind: %s", target)
	}

	var meshTLS, accounts, networks int
	for _, ref := range s.RequiredAuthenticationRefs {
		switch {
		case ref.is(policyGroup, "MeshTLSAuthentication"):
			meshTLS++
		case ref.is("", "ServiceAccount"):
			accounts++
		case ref.is(policyGroup, "NetworkAuthentication"):
			networks++
		default:
			return fmt.Errorf("unsupported authentication kind(s): %s", ref)
		}
	}
	switch {
	case meshTLS > 1:
		return errors.New("only a single MeshTLSAuthentication may be set")
	case accounts > 1:
		return errors.New("only a single ServiceAccount may be set")
	case meshTLS+accounts > 1:
		return errors.New("a MeshTLSAuthentication and ServiceAccount may not be set together")
	case networks > 1:
		return errors.New("only a single NetworkAuthentication may be set")
	}
	return nil
}

type meshTLSAuthenticationSpec struct {
	Identities   []string    `json:"identities"`
	IdentityRefs []targetRef `json:"identityRefs"`
}

func (s meshTLSAuthenticationSpec) validate() error {
	for _, id := range s.Identities {
		if id == "*" {
			continue
		}
		if errs := validation.IsDNS1123Subdomain(strings.TrimPrefix(id, "*.")); len(errs) > 0 {
			return fmt.Errorf("id %s is invalid: %s", id, errs[0])
		}
	}
	for _, ref := range s.IdentityRefs {
		switch {
		case ref.is("", "ServiceAccount"):
		case ref.is("", "Namespace"):
			if ref.Namespace != nil {
				return errors.New("identityRef of a Namespace, which is cluster-scoped, cannot have a namespace")
			}
		default:
			return fmt.Errorf("invalid identity target kind: %s", ref)
		}
	}
	return nil
}

type network struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except"`
}

// validateNetworks refuses what is no network, and exceptions that leave
// nothing of theirs or have nothing to do with it.
func validateNetworks(networks []network) error {
	for _, n := range networks {
		cidr, err := parseNetwork(n.CIDR)
		if err != nil {
			return err
		}
		for _, e := range n.Except {
			except, err := parseNetwork(e)
			if err != nil {
				return err
			}
			if contains(except, cidr) {
				return fmt.Errorf("cidr '%s' is completely negated by exception '%s'", n.CIDR, e)
			}
			if !contains(cidr, except) {
				return fmt.Errorf("cidr '%s' does not include exception '%s'", n.CIDR, e)
			}
		}
	}
	return nil
}

// parseNetwork reads a CIDR or a single address.
func parseNetwork(s string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("invalid network: %w", err)
	}
	return prefix.Masked(), nil
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

type networkAuthenticationSpec struct {
	Networks []network `json:"networks"`
}

func (s networkAuthenticationSpec) validate() error {
	if len(s.Networks) == 0 {
		return errors.New("at least one network must be specified")
	}
	return validateNetworks(s.Networks)
}

type egressNetworkSpec struct {
	Networks *[]network `json:"networks"`
}

func (s egressNetworkSpec) validate() error {
	if s.Networks == nil {
		return nil
	}
	return networkAuthenticationSpec{*s.Networks}.validate()
}

type serverAuthorizationSpec struct {
	Client struct {
		Networks        []network `json:"networks"`
		Unauthenticated bool      `json:"unauthenticated"`
		MeshTLS         *struct {
			UnauthenticatedTLS bool        `json:"unauthenticatedTLS"`
			Identities         []string    `json:"identities"`
			ServiceAccounts    []targetRef `json:"serviceAccounts"`
		} `json:"meshTLS"`
	} `json:"client"`
}

func (s serverAuthorizationSpec) validate() error {
	if mesh := s.Client.MeshTLS; mesh != nil {
		if s.Client.Unauthenticated {
			return errors.New("`unauthenticated` must be false if `mesh_tls` is specified")
		}
		if mesh.UnauthenticatedTLS && len(mesh.Identities)+len(mesh.ServiceAccounts) > 0 {
			return errors.New("`unauthenticatedTLS` must be false if any `identities` or `service_accounts` is specified")
		}
	}
	return validateNetworks(s.Client.Networks)
}

type rate struct {
	RequestsPerSecond int64       `json:"requestsPerSecond"`
	ClientRefs        []targetRef `json:"clientRefs"`
}

type rateLimitSpec struct {
	TargetRef targetRef `json:"targetRef"`
	Total     *rate     `json:"total"`
	Identity  *rate     `json:"identity"`
	Overrides []rate    `json:"overrides"`
}

func (s rateLimitSpec) validate() error {
	if !s.TargetRef.is(policyGroup, "Server") {
		return fmt.Errorf("invalid targetRef kind: %s", s.TargetRef)
	}
	positive := func(r *rate, name string) error {
		switch {
		case r == nil:
			return nil
		case r.RequestsPerSecond <= 0:
			return fmt.Errorf("%s.requestsPerSecond must be greater than 0", name)
		case s.Total != nil && r.RequestsPerSecond > s.Total.RequestsPerSecond:
			return fmt.Errorf("%s.requestsPerSecond must be less than or equal to total.requestsPerSecond", name)
		}
		return nil
	}
	if err := errors.Join(positive(s.Total, "total"), positive(s.Identity, "identity")); err != nil {
		return err
	}
	for i := range s.Overrides {
		if err := positive(&s.Overrides[i], "override"); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Overrides[i].ClientRefs, func(t targetRef) bool { return !t.is("", "ServiceAccount") }) {
			return errors.New("overrides.clientRefs must target a ServiceAccount")
		}
	}
	return nil
}

// A routeSpec is that of any kind of route, as far as the validator looks.
type routeSpec struct {
	ParentRefs []targetRef `json:"parentRefs"`
	Rules      []struct {
		Matches []struct {
			Path *struct {
				Type  string `json:"type"`
				Value string `json:"value"`
			} `json:"path"`
		} `json:"matches"`
		BackendRefs []targetRef `json:"backendRefs"`
		Timeouts    struct {
			Request        string `json:"request"`
			BackendRequest string `json:"backendRequest"`
		} `json:"timeouts"`
	} `json:"rules"`
}

func (s routeSpec) validate(kind schema.GroupKind) error {
	for _, parent := range s.ParentRefs {
		if parent.is(policyGroup, "EgressNetwork") && parent.Port == nil {
			return errors.New("cannot target an EgressNetwork without specifying a port")
		}
	}
	if (kind.Kind == "TLSRoute" || kind.Kind == "TCPRoute") && len(s.Rules) != 1 {
		return fmt.Errorf("%s supports a single rule only", kind.Kind)
	}
	for _, rule := range s.Rules {
		for _, match := range rule.Matches {
			if path := match.Path; path != nil {
				if err := validatePath(path.Type, path.Value); err != nil {
					return err
				}
			}
		}
		for _, backend := range rule.BackendRefs {
			service := backend.is("", "Service") || backend.is("", "")
			if kind.Group == gatewayGroup && service && (backend.Port == nil || *backend.Port == 0) {
				return errors.New("invalid backendRef: cannot reference a Service without a port")
			}
		}
		if err := validateTimeouts(rule.Timeouts.Request, rule.Timeouts.BackendRequest); err != nil {
			return err
		}
	}
	return nil
}

func validatePath(kind, value string) error {
	if kind == "RegularExpression" {
		if _, err := regexp.Compile(value); err != nil {
			return fmt.Errorf("invalid path: %w", err)
		}
		return nil
	}
	if !strings.HasPrefix(value, "/") {
		return fmt.Errorf("path %q must be absolute", value)
	}
	return nil
}

// validateTimeouts checks the timeouts of a rule; empty ones are not set.
func validateTimeouts(request, backend string) error {
	var limits [2]time.Duration
	for i, timeout := range []string{request, backend} {
		if timeout == "" {
			continue
		}
		d, err := time.ParseDuration(timeout)
		if err != nil {
			return fmt.Errorf("invalid timeout: %w", err)
		}
		if d < 0 {
			return fmt.Errorf("timeout %s must not be negative", timeout)
		}
		limits[i] = d
	}
	if request != "" && backend != "" && limits[1] > limits[0] {
		return fmt.Errorf("backendRequest timeout (%s) must not be greater than request timeout (%s)", backend, request)
	}
	return nil
}

// Package profile knows Linkerd's ServiceProfiles: what they may say, how they
// are derived from OpenAPI documents and protobuf definitions, how they are kept
// in a cluster, and what they silently overrule there. Its rules are those of
// linkerd2's pkg/profiles, of the webhook linkerd-sp-validator, and of the CRD.
package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Kind is the kind of the profiles. The version is the one that the API server
// keeps them in.
func Kind() kube.Kind {
	return kube.Kind{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles", Name: "ServiceProfile", Namespaced: true}
}

// A Target is what a profile is about, and for whom.
type Target struct {
	// Service and its namespace.
	Service, Namespace string
	// Domain of the cluster: cluster.local.
	Domain string
	// ClientNamespace is the namespace whose clients go by the profile, before any
	// that the Service's namespace has; empty means all clients.
	ClientNamespace string
}

// Name is the name of the profile: that by which clients address the Service.
func (t Target) Name() string { return t.Service + "." + t.Namespace + ".svc." + t.Domain }

// Home is the namespace of the profile.
func (t Target) Home() string {
	if t.ClientNamespace != "" {
		return t.ClientNamespace
	}
	return t.Namespace
}

// ID is what the profile is known by: <namespace of the profile>/<its name>.
func (t Target) ID() string { return t.Home() + "/" + t.Name() }

// ParseID reads what ID has printed.
func ParseID(id string) (Target, error) {
	home, name, _ := strings.Cut(id, "/")
	service, rest, _ := strings.Cut(name, ".")
	namespace, domain, found := strings.Cut(rest, ".svc.")
	t := Target{Service: service, Namespace: namespace, Domain: domain}
	if home != namespace {
		t.ClientNamespace = home
	}
	if err := t.Check(); !found || home == "" || err != nil {
		return Target{}, fmt.Errorf("%q is not <namespace>/<service>.<namespace of the Service>.svc.<cluster domain>, such as emojivoto/web-svc.emojivoto.svc.cluster.local", id)
	}
	return t, nil
}

// Check refuses names that the API server or the webhook would refuse.
func (t Target) Check() error {
	var errs []error
	for _, check := range []struct {
		what, value string
		rule        func(string) []string
	}{
		{"service", t.Service, func(value string) []string { return validation.IsDNS1035Label(value) }},
		{"namespace", t.Namespace, validation.IsDNS1123Label},
		{"namespace of the profile", t.Home(), validation.IsDNS1123Label},
		{"name of the profile", t.Name(), validation.IsDNS1123Subdomain},
	} {
		for _, complaint := range check.rule(check.value) {
			errs = append(errs, fmt.Errorf("%s %q: %s", check.what, check.value, complaint))
		}
	}
	return errors.Join(errs...)
}

// Spec is a ServiceProfile's spec. Its JSON is that of the CRD.
type Spec struct {
	// Routes in the order in which proxies try them: the first that matches a
	// request is its route.
	Routes       []Route      `json:"routes"`
	RetryBudget  *RetryBudget `json:"retryBudget,omitempty"`
	DstOverrides []Override   `json:"dstOverrides,omitempty"`
}

// A Route is a set of requests that are measured, timed and retried alike.
type Route struct {
	Name            string          `json:"name"`
	Condition       RequestMatch    `json:"condition"`
	ResponseClasses []ResponseClass `json:"responseClasses,omitempty"`
	IsRetryable     bool            `json:"isRetryable,omitempty"`
	// Timeout of a request with all its retries, a Go duration; empty is the
	// proxy's default.
	Timeout string `json:"timeout,omitempty"`
}

// RequestMatch matches requests that meet everything it says.
type RequestMatch struct {
	All    []RequestMatch `json:"all,omitzero"`
	Any    []RequestMatch `json:"any,omitzero"`
	Method string         `json:"method,omitempty"`
	Not    *RequestMatch  `json:"not,omitempty"`
	// PathRegex matches whole paths, without the query, as if between ^ and $, in
	// the dialect of Rust's regex crate.
	PathRegex string `json:"pathRegex,omitempty"`
}

// A ResponseClass tells which responses are failures; without any, those with
// status 500 to 599 are.
type ResponseClass struct {
	Condition ResponseMatch `json:"condition"`
	IsFailure bool          `json:"isFailure,omitempty"`
}

// ResponseMatch matches responses that meet everything it says.
type ResponseMatch struct {
	All    []ResponseMatch `json:"all,omitzero"`
	Any    []ResponseMatch `json:"any,omitzero"`
	Not    *ResponseMatch  `json:"not,omitempty"`
	Status *StatusRange    `json:"status,omitempty"`
}

// StatusRange is a range of HTTP status codes, both ends included. Zero is the
// other end.
type StatusRange struct {
	Max int32 `json:"max,omitempty"`
	Min int32 `json:"min,omitempty"`
}

// RetryBudget limits the retries of all routes together.
type RetryBudget struct {
	// RetryRatio is the share of retries to original requests: 0.2 is one to five.
	RetryRatio float64 `json:"retryRatio"`
	// MinRetriesPerSecond are allowed whatever the ratio.
	MinRetriesPerSecond int32 `json:"minRetriesPerSecond"`
	// TTL is how long requests count for the ratio, a Go duration.
	TTL string `json:"ttl"`
}

// An Override sends a share of the requests somewhere else.
type Override struct {
	Authority string `json:"authority"`
	// Weight is a Kubernetes quantity: 900m.
	Weight string `json:"weight"`
}

// The range of HTTP status codes.
const (
	lowestStatus  = 100
	highestStatus = 599
)

// Check refuses a route for which the webhook would refuse the profile.
func (r Route) Check() error {
	if r.Name == "" {
		return errors.New("a route needs a name")
	}
	if err := r.Condition.Check(); err != nil {
		return fmt.Errorf("route %q: %w", r.Name, err)
	}
	if r.Timeout != "" {
		if _, err := time.ParseDuration(r.Timeout); err != nil {
			return fmt.Errorf("route %q: timeout: %w", r.Name, err)
		}
	}
	for _, class := range r.ResponseClasses {
		if err := class.Condition.Check(); err != nil {
			return fmt.Errorf("route %q: %w", r.Name, err)
		}
	}
	return nil
}

// Check refuses matches that say nothing.
func (m RequestMatch) Check() error {
	if m.All == nil && m.Any == nil && m.Not == nil && m.Method == "" && m.PathRegex == "" {
		return errors.New("a condition of requests has to say something: all, any, method, not or pathRegex")
	}
	return checkWithin(m.All, m.Any, m.Not)
}

// Check refuses matches that say nothing, and status codes that are none.
func (m ResponseMatch) Check() error {
	if m.All == nil && m.Any == nil && m.Not == nil && m.Status == nil {
		return errors.New("a condition of responses has to say something: all, any, not or status")
	}
	if s := m.Status; s != nil {
		for _, code := range []int32{s.Min, s.Max} {
			if code != 0 && (code < lowestStatus || code > highestStatus) {
				return fmt.Errorf("status %d is not from %d to %d", code, lowestStatus, highestStatus)
			}
		}
		if s.Min != 0 && s.Max != 0 && s.Min > s.Max {
			return fmt.Errorf("status: min %d is more than max %d", s.Min, s.Max)
		}
	}
	return checkWithin(m.All, m.Any, m.Not)
}

// checkWithin checks the matches within a match.
func checkWithin[M interface{ Check() error }](all, anyOf []M, not *M) error {
	for _, matches := range [][]M{all, anyOf} {
		for _, m := range matches {
			if err := m.Check(); err != nil {
				return err
			}
		}
	}
	if not == nil {
		return nil
	}
	return (*not).Check()
}

// Check refuses budgets that the webhook would refuse.
func (b RetryBudget) Check() error {
	if b.RetryRatio < 0 || b.MinRetriesPerSecond < 0 {
		return errors.New("a retry budget cannot be negative")
	}
	if _, err := time.ParseDuration(b.TTL); err != nil {
		return fmt.Errorf("ttl of the retry budget: %w", err)
	}
	return nil
}

// Check refuses overrides that the API server would refuse.
func (o Override) Check() error {
	if o.Authority == "" {
		return errors.New("an override needs an authority")
	}
	if _, err := resource.ParseQuantity(o.Weight); err != nil {
		return fmt.Errorf("weight %q: %w", o.Weight, err)
	}
	return nil
}

// Check refuses a spec that the webhook or the API server would refuse.
func (s Spec) Check() error {
	var errs []error
	for _, route := range s.Routes {
		errs = append(errs, route.Check())
	}
	if s.RetryBudget != nil {
		errs = append(errs, s.RetryBudget.Check())
	}
	for _, override := range s.DstOverrides {
		errs = append(errs, override.Check())
	}
	return errors.Join(errs...)
}

// ParseRequestMatch reads a match from JSON and checks it.
func ParseRequestMatch(text string) (RequestMatch, error) { return parseMatch[RequestMatch](text) }

// ParseResponseMatch reads a match from JSON and checks it.
func ParseResponseMatch(text string) (ResponseMatch, error) { return parseMatch[ResponseMatch](text) }

// parseMatch refuses what the webhook refuses, and so also fields that it does
// not know.
func parseMatch[M interface{ Check() error }](text string) (M, error) {
	var m M
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return m, fmt.Errorf("not the JSON of a condition: %w", err)
	}
	if decoder.More() {
		return m, fmt.Errorf("not the JSON of a condition: something follows it at byte %d", decoder.InputOffset())
	}
	return m, m.Check()
}

// admissible is the match in the words that the CRD and the webhook agree on. At
// the top of a condition the CRD wants a list as `not` and the webhook an object;
// within `all` the CRD does not look.
func (m RequestMatch) admissible() RequestMatch {
	if m.Not == nil {
		return m
	}
	all := make([]RequestMatch, 0, len(m.All)+1)
	m.All, m.Not = append(append(all, m.All...), RequestMatch{Not: m.Not}), nil
	return m
}

// SameRoutes reports whether two lists of routes make the same ServiceProfile,
// however their conditions are put.
func SameRoutes(a, b []Route) (bool, error) {
	var printed [2]string
	for i, routes := range [][]Route{a, b} {
		text, err := json.Marshal(admissible(routes))
		if err != nil {
			return false, fmt.Errorf("print routes: %w", err)
		}
		printed[i] = string(text)
	}
	return printed[0] == printed[1], nil
}

// admissible are the routes as a ServiceProfile has them: never null, which the
// API server would drop.
func admissible(routes []Route) []Route {
	written := make([]Route, len(routes))
	for i, route := range routes {
		route.Condition = route.Condition.admissible()
		written[i] = route
	}
	return written
}

// A Profile is one ServiceProfile and what belongs to it.
type Profile struct {
	Target
	Spec Spec
	// OpaquePorts is the value of the Service's annotation by which clients leave
	// the protocol of ports alone: "3306,4000-4100"; empty leaves the Service
	// alone. The CRD has a field opaquePorts, but wants a list where the webhook
	// wants a map.
	OpaquePorts string
}

// Object is the ServiceProfile.
func (p Profile) Object() (*unstructured.Unstructured, error) {
	spec := p.Spec
	spec.Routes = admissible(spec.Routes)
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.ref(), err)
	}
	object := p.ref().Object()
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("%s: %w", p.ref(), err)
	}
	object.Object["spec"] = fields
	return object, nil
}

// Manifest prints the ServiceProfile as YAML.
func (p Profile) Manifest() (string, error) {
	object, err := p.Object()
	if err != nil {
		return "", err
	}
	return holding.Manifest([]*unstructured.Unstructured{object})
}

func (t Target) ref() kube.Ref { return kube.Ref{Kind: Kind(), Namespace: t.Home(), Name: t.Name()} }

// serviceRef is the Service that the profile is about.
func (t Target) serviceRef() kube.Ref {
	return kube.Ref{Kind: kube.Service, Namespace: t.Namespace, Name: t.Service}
}

package linkerd

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"
)

// requestFor asks to admit an object, named and given in YAML, in namespace
// dgraph.
func requestFor(t *testing.T, kind schema.GroupKind, manifest string) *admissionv1.AdmissionRequest {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind{Group: kind.Group, Kind: kind.Kind},
		Namespace: "dgraph", Name: "new",
		Object: runtime.RawExtension{Raw: data},
	}
}

// refused expects err to say want, or to be nil if want is empty.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestServiceProfiles(t *testing.T) {
	t.Parallel()
	route := func(condition string) string {
		return "{routes: [{name: GET /, condition: " + condition + "}]}"
	}
	response := func(condition string) string {
		return "{routes: [{name: GET /, condition: {method: GET}, responseClasses: [{condition: " + condition + ", isFailure: true}]}]}"
	}
	for _, test := range []struct{ name, spec, want string }{
		{"empty", "{}", ""},
		{"full", `{
			routes: [{name: "GET /books/{id}", condition: {method: GET, pathRegex: "/books/[^/]*"}, timeout: 300ms, isRetryable: true,
				responseClasses: [{condition: {status: {min: 500, max: 599}}, isFailure: true}]}],
			retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s},
			dstOverrides: [{authority: a.b.svc.cluster.local, weight: 500m}]}`, ""},
		{"unknown field", "{route: []}", "unknown field"},
		{"unknown field of a route", `{routes: [{name: a, condition: {method: GET}, retries: 1}]}`, "unknown field"},
		{"no route", "{routes: [null]}", "nil route"},
		{"route without name", "{routes: [{condition: {method: GET}}]}", "no name"},
		{"route without condition", "{routes: [{name: a}]}", "no condition"},
		{"empty condition", route("{}"), "must have a field set"},
		{"empty condition within", route("{any: [{method: GET}, {}]}"), "must have a field set"},
		{"not as the schema has it", route("{not: [{method: GET}]}"), "failed to validate"},
		{"not within all", route("{all: [{not: {method: GET}}]}"), ""},
		{"not of nothing", route("{all: [{not: {}}]}"), "must have a field set"},
		{"unreadable timeout", `{routes: [{name: a, condition: {method: GET}, timeout: soon}]}`, "invalid timeout"},
		{"class without condition", `{routes: [{name: a, condition: {method: GET}, responseClasses: [{isFailure: true}]}]}`, "no condition"},
		{"class that matches nothing", response("{}"), "must have a field set"},
		{"one status", response("{status: {min: 503}}"), ""},
		{"status too low", response("{status: {min: 99}}"), "minimum must be between"},
		{"status too high", response("{status: {max: 600}}"), "maximum must be between"},
		{"status the wrong way round", response("{status: {min: 599, max: 500}}"), "cannot be smaller"},
		{"response not", response("{not: {status: {min: 200, max: 299}}}"), ""},
		{"budget without ttl", "{retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 1}}", "missing ttl"},
		{"budget with unreadable ttl", "{retryBudget: {retryRatio: 0.2, ttl: soon}}", "invalid duration"},
		{"negative budget", "{retryBudget: {retryRatio: -1, ttl: 1s}}", "non-negative"},
		{"opaque ports as the schema has them", `{opaquePorts: ["4000"]}`, "failed to validate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request := requestFor(t, schema.GroupKind{Group: "linkerd.io", Kind: "ServiceProfile"},
				"apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: alpha.dgraph.svc.cluster.local, namespace: dgraph}\nspec: "+test.spec)
			refused(t, validateServiceProfile(t.Context(), request), test.want)
		})
	}
}

func TestServiceProfileName(t *testing.T) {
	t.Parallel()
	request := requestFor(t, schema.GroupKind{Group: "linkerd.io", Kind: "ServiceProfile"}, "metadata: {name: Alpha}\nspec: {}")
	refused(t, validateServiceProfile(t.Context(), request), "invalid name")
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	const (
		mesh    = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: a}"
		account = "{kind: ServiceAccount, name: a}"
		netauth = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: a}"
		server  = "{group: policy.linkerd.io, kind: Server, name: a}"
	)
	authorization := func(target string, authentications ...string) string {
		return "{targetRef: " + target + ", requiredAuthenticationRefs: [" + strings.Join(authentications, ", ") + "]}"
	}
	taken := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
		"metadata": map[string]any{"name": "taken", "namespace": "dgraph"},
		"spec": map[string]any{
			"port": int64(8080), "podSelector": map[string]any{"matchLabels": map[string]any{"app": "dgraph"}},
		},
	}}
	elsewhere := taken.DeepCopy()
	elsewhere.SetNamespace("elsewhere")
	elsewhere.SetName("same")
	if err := unstructured.SetNestedField(elsewhere.Object, int64(9080), "spec", "port"); err != nil {
		t.Fatal(err)
	}
	servers := schema.GroupVersionResource{Group: policyGroup, Version: "v1beta3", Resource: "servers"}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{servers: "ServerList"}, taken, elsewhere)

	for _, test := range []struct{ name, group, kind, spec, want string }{
		{"free port", policyGroup, "Server", "{port: 9080, podSelector: {matchLabels: {app: dgraph}}}", ""},
		{"other pods", policyGroup, "Server", "{port: 8080, podSelector: {matchLabels: {app: other}}}", ""},
		{"port by name", policyGroup, "Server", "{port: http, podSelector: {matchLabels: {app: dgraph}}}", ""},
		{"taken port", policyGroup, "Server", "{port: 8080, podSelector: {matchLabels: {app: dgraph}}}", "'dgraph/taken' already defines a policy for port 8080"},
		{"taken port of all pods", policyGroup, "Server", "{port: 8080, podSelector: {}}", "already defines"},
		{"external workloads", policyGroup, "Server", "{port: 8080, externalWorkloadSelector: {}}", ""},
		{"two selectors", policyGroup, "Server", "{port: 1, podSelector: {}, externalWorkloadSelector: {}}", "exactly one of"},
		{"no selector", policyGroup, "Server", "{port: 1}", "exactly one of"},
		{"no port", policyGroup, "Server", "{podSelector: {}}", "port"},
		{"access policy", policyGroup, "Server", "{port: 1, podSelector: {}, accessPolicy: audit}", ""},
		{"unknown access policy", policyGroup, "Server", "{port: 1, podSelector: {}, accessPolicy: allow}", "invalid 'accessPolicy'"},

		{"server", policyGroup, "AuthorizationPolicy", authorization(server, mesh), ""},
		{"Linkerd's route", policyGroup, "AuthorizationPolicy", authorization("{group: policy.linkerd.io, kind: HTTPRoute, name: a}", account, netauth), ""},
		{"Gateway API's route", policyGroup, "AuthorizationPolicy", authorization("{group: gateway.networking.k8s.io, kind: GRPCRoute, name: a}"), ""},
		{"own namespace", policyGroup, "AuthorizationPolicy", authorization("{kind: Namespace, name: dgraph}", mesh), ""},
		{"other namespace", policyGroup, "AuthorizationPolicy", authorization("{kind: Namespace, name: other}", mesh), "another namespace"},
		{"a Service", policyGroup, "AuthorizationPolicy", authorization("{kind: Service, name: a}", mesh), "invalid targetRef kind: Service"},
		{"two mesh authentications", policyGroup, "AuthorizationPolicy", authorization(server, mesh, mesh), "only a single MeshTLSAuthentication"},
		{"two accounts", policyGroup, "AuthorizationPolicy", authorization(server, account, account), "only a single ServiceAccount"},
		{"two networks", policyGroup, "AuthorizationPolicy", authorization(server, netauth, netauth), "only a single NetworkAuthentication"},
		{"mesh authentication and account", policyGroup, "AuthorizationPolicy", authorization(server, mesh, account), "may not be set together"},
		{"unknown authentication", policyGroup, "AuthorizationPolicy", authorization(server, "{kind: Secret, name: a}"), "unsupported authentication"},

		{"everybody", policyGroup, "MeshTLSAuthentication", `{identities: ["*"]}`, ""},
		{"a namespace's identities", policyGroup, "MeshTLSAuthentication", `{identities: ["*.dgraph.serviceaccount.identity.linkerd.cluster.local"]}`, ""},
		{"no identity", policyGroup, "MeshTLSAuthentication", `{identities: ["a*b"]}`, "is invalid"},
		{"references", policyGroup, "MeshTLSAuthentication", "{identityRefs: [{kind: ServiceAccount, name: a, namespace: b}, {kind: Namespace, name: c}]}", ""},
		{"namespace in a namespace", policyGroup, "MeshTLSAuthentication", "{identityRefs: [{kind: Namespace, name: a, namespace: b}]}", "cluster-scoped"},
		{"reference to a Pod", policyGroup, "MeshTLSAuthentication", "{identityRefs: [{kind: Pod, name: a}]}", "invalid identity target"},

		{"network", policyGroup, "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.1]}]}", ""},
		{"no network", policyGroup, "NetworkAuthentication", "{networks: []}", "at least one"},
		{"unreadable network", policyGroup, "NetworkAuthentication", "{networks: [{cidr: ten}]}", "invalid network"},
		{"exception of everything", policyGroup, "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]}", "completely negated"},
		{"exception of another", policyGroup, "NetworkAuthentication", "{networks: [{cidr: 10.0.0.0/8, except: [192.168.0.0/16]}]}", "does not include"},

		{"open server", policyGroup, "ServerAuthorization", "{server: {name: a}, client: {unauthenticated: true}}", ""},
		{"open and meshed server", policyGroup, "ServerAuthorization", "{server: {name: a}, client: {unauthenticated: true, meshTLS: {identities: [a]}}}", "must be false"},
		{"open TLS with identities", policyGroup, "ServerAuthorization", "{server: {name: a}, client: {meshTLS: {unauthenticatedTLS: true, identities: [a]}}}", "must be false"},

		{"all egress", policyGroup, "EgressNetwork", "{trafficPolicy: Allow}", ""},
		{"no egress network", policyGroup, "EgressNetwork", "{trafficPolicy: Allow, networks: []}", "at least one"},

		{"rates", policyGroup, "HTTPLocalRateLimitPolicy", "{targetRef: " + server + ", total: {requestsPerSecond: 10}, identity: {requestsPerSecond: 5}, overrides: [{requestsPerSecond: 6, clientRefs: [{kind: ServiceAccount, name: a}]}]}", ""},
		{"rate of nothing", policyGroup, "HTTPLocalRateLimitPolicy", "{targetRef: " + server + ", total: {requestsPerSecond: 0}}", "greater than 0"},
		{"rate above the total", policyGroup, "HTTPLocalRateLimitPolicy", "{targetRef: " + server + ", total: {requestsPerSecond: 1}, identity: {requestsPerSecond: 5}}", "less than or equal"},
		{"rate of a Service", policyGroup, "HTTPLocalRateLimitPolicy", "{targetRef: {kind: Service, name: a}}", "invalid targetRef"},
		{"rate of a Pod", policyGroup, "HTTPLocalRateLimitPolicy", "{targetRef: " + server + ", overrides: [{requestsPerSecond: 1, clientRefs: [{kind: Pod, name: a}]}]}", "must target a ServiceAccount"},

		{"route", policyGroup, "HTTPRoute", `{rules: [{matches: [{path: {type: PathPrefix, value: /a}}], timeouts: {request: 2s, backendRequest: 1s}}]}`, ""},
		{"relative path", policyGroup, "HTTPRoute", `{rules: [{matches: [{path: {type: Exact, value: a}}]}]}`, "must be absolute"},
		{"unreadable path", policyGroup, "HTTPRoute", `{rules: [{matches: [{path: {type: RegularExpression, value: "("}}]}]}`, "invalid path"},
		{"backend slower than its request", policyGroup, "HTTPRoute", `{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}`, "must not be greater"},
		{"negative timeout", policyGroup, "HTTPRoute", `{rules: [{timeouts: {request: -1s}}]}`, "must not be negative"},
		{"egress without port", gatewayGroup, "GRPCRoute", "{parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: a}]}", "without specifying a port"},
		{"backend without port", gatewayGroup, "HTTPRoute", "{rules: [{backendRefs: [{name: a}]}]}", "without a port"},
		{"backend with port", gatewayGroup, "HTTPRoute", "{rules: [{backendRefs: [{name: a, port: 80}]}]}", ""},
		{"two TCP rules", gatewayGroup, "TCPRoute", "{rules: [{}, {}]}", "single rule"},

		{"unknown", policyGroup, "Pod", "{}", "unsupported resource type"},
	} {
		t.Run(test.kind+" "+test.name, func(t *testing.T) {
			t.Parallel()
			request := requestFor(t, schema.GroupKind{Group: test.group, Kind: test.kind}, "metadata: {name: new}\nspec: "+test.spec)
			refused(t, policyValidator{client}.validate(t.Context(), request), test.want)
		})
	}
}

func TestPolicyWithoutSpec(t *testing.T) {
	t.Parallel()
	request := requestFor(t, schema.GroupKind{Group: policyGroup, Kind: "Server"}, "metadata: {name: new}")
	refused(t, policyValidator{}.validate(t.Context(), request), "missing 'spec'")
}

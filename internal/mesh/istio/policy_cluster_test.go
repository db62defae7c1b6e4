package istio_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// tryPolicies has istiod's webhook and the schemas of its CRDs take everything that
// is ever written for pods with sidecars in a namespace, finds no default added to
// it, and holds that what is read back is judged by.
func (w world) tryPolicies(t *testing.T, namespace string) {
	t.Helper()
	cluster := w.charts.Cluster
	holdingOf := func(owner string) holding.Holding {
		return holding.Holding{Cluster: cluster, Manager: "istio-test", Owner: owner, Namespace: namespace, Kinds: istio.PolicyKinds()}
	}
	pods := map[string]string{"app": "alpha"}
	protection := access.Protection{
		Namespace: namespace, Name: "mesh-only", Pods: pods, Ports: []int32{8080, 9080}, Identity: true,
		Exceptions: []access.Exception{
			{Anyone: true, Ports: []int32{9080}},
			{Peers: []netpol.Peer{{Block: &netpol.Block{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.8/32"}}}}, Ports: []int32{7000}},
		},
	}
	protect := func(p access.Protection, mode string) []*unstructured.Unstructured {
		t.Helper()
		compiled, err := istio.Traffic{Mode: mode}.Compile(t.Context(), cluster, p)
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Authorization
	}
	whole := protection
	whole.Pods, whole.Exceptions = nil, nil
	policy := access.Policy{
		Namespace: namespace, Name: "calls", Pods: pods, Ports: access.PortsOf([]int32{8080, 9080}), MTLS: access.StrictMTLS,
		Grants: []access.Grant{
			{Callers: []access.Caller{{Meshed: true}, {Identity: "*/sa/api"}, {Identity: "corp.example/ns/x/*"}}},
			{
				Callers: []access.Caller{{Account: &access.Account{Namespace: namespace, Name: "nobody"}}, {Namespace: namespace}},
				Routes:  []access.Route{{Methods: []string{"GET", "HEAD"}, Path: "/api", Prefix: true}, {Path: "/"}},
			},
			{Callers: []access.Caller{{Network: &netpol.Block{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.8/32"}}}}},
		},
	}
	authorize := func(p access.Policy) []*unstructured.Unstructured {
		t.Helper()
		objects, _, err := istio.Authorizer{}.Authorize(t.Context(), cluster, p)
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
	nobody := access.Policy{Namespace: namespace, Name: "calls", AllPorts: true, MTLS: access.PermissiveMTLS}
	defaults := func(p string, pods map[string]string) []*unstructured.Unstructured {
		t.Helper()
		object, _, err := istio.DefaultPolicy(t.Context(), nil, p, namespace, "default", pods)
		if err != nil {
			t.Fatal(err)
		}
		return []*unstructured.Unstructured{object}
	}
	for name, objects := range map[string][]*unstructured.Unstructured{
		"sidecars": protect(protection, istio.ModeSidecar), "ambient": protect(whole, istio.ModeAmbient), "accounts": authorize(policy), "nobody": authorize(nobody),
		"deny": defaults("deny", nil), "all-authenticated": defaults("all-authenticated", nil), "all-unauthenticated": defaults("all-unauthenticated", pods),
	} {
		h := holdingOf("test/" + name)
		if _, err := h.Apply(t.Context(), objects, nil, nil, false); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found, err := h.Find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := holding.Manifest(objects)
		if err != nil {
			t.Fatal(err)
		}
		if found.Manifest != wanted {
			t.Errorf("%s is\n%s\nwanted\n%s", name, found.Manifest, wanted)
		}
		if err := h.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	own := func(object *unstructured.Unstructured) bool { return object.GetName() == policy.Name }
	lines, err := istio.Authorizer{}.AuthorizationFindings(t.Context(), cluster, policy, own)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"so far no AuthorizationPolicy restricts", "ServiceAccount " + namespace + "/nobody, which is let in, does not exist"} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no finding says %q: %q", want, lines)
		}
	}

	h := holdingOf("test/judged")
	if _, err := h.Apply(t.Context(), authorize(policy), nil, nil, false); err != nil {
		t.Fatal(err)
	}
	authority, err := istio.ReadAuthority(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	surroundings, err := cluster.Namespace(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	running, err := cluster.Pods(t.Context(), namespace)
	if err != nil || len(running) == 0 {
		t.Fatalf("%d pods: %v", len(running), err)
	}
	alpha := access.End{Namespace: surroundings, Pod: running[0]}
	plain := access.End{Namespace: surroundings, Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "plain"}}}
	if verdict := authority.Judge(alpha, alpha, netpol.TCP(8080)[0]); authority.Mesh(alpha) != "Istio" || !verdict.Allowed || verdict.Partly {
		t.Errorf("a pod that istiod has injected: %+v", verdict)
	}
	if verdict := authority.Judge(plain, alpha, netpol.TCP(8080)[0]); verdict.Allowed || !strings.Contains(verdict.Reason, "STRICT") {
		t.Errorf("a pod without a proxy: %+v", verdict)
	}
	if verdict := authority.Judge(alpha, alpha, netpol.TCP(7000)[0]); verdict.Allowed {
		t.Errorf("another port: %+v", verdict)
	}

	// What the webhook would let pass proves nothing unless it refuses this.
	wrong := authorize(policy)[:1]
	if err := unstructured.SetNestedSlice(wrong[0].Object, []any{map[string]any{"to": []any{map[string]any{"operation": map[string]any{"ports": []any{"http"}}}}}}, "spec", "rules"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Apply(t.Context(), wrong, nil, nil, true); err == nil || !strings.Contains(err.Error(), "validation.istio.io") {
		t.Errorf("a port by its name: %v", err)
	}
	if err := h.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
}

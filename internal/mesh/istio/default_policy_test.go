package istio

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// TestDefaultPolicyInTheRootNamespace would be that of pods in all namespaces.
func TestDefaultPolicyInTheRootNamespace(t *testing.T) {
	t.Parallel()
	usual, own := policyWorld(), policyWorld()
	own.Put(kube.ConfigMap, &corev1.ConfigMap{ObjectMeta: named("istio-system", "istio", nil), Data: map[string]string{"mesh": "rootNamespace: mesh-root\n"}})
	for name, test := range map[string]struct {
		cluster *kube.Cluster
		root    string
		other   string
	}{
		"no cluster": {nil, "istio-system", "mesh-root"},
		"usual":      {usual.Connect(t), "istio-system", "mesh-root"},
		"its own":    {own.Connect(t), "mesh-root", "istio-system"},
	} {
		for policy := range defaultPolicies() {
			for _, pods := range []map[string]string{nil, {"app": "web"}} {
				if _, _, err := DefaultPolicy(t.Context(), test.cluster, policy, test.root, "default", pods); err == nil || !strings.Contains(err.Error(), "root namespace") {
					t.Errorf("%s: %s of %s: %v", name, policy, test.root, err)
				}
				if _, _, err := DefaultPolicy(t.Context(), test.cluster, policy, test.other, "default", pods); err != nil {
					t.Errorf("%s: %s of %s: %v", name, policy, test.other, err)
				}
			}
		}
	}
}

func TestDefaultPolicyFindings(t *testing.T) {
	t.Parallel()
	w := policyWorld(end("shop", "sidecar-api", ""), end("shop", "sidecar-web", ""))
	for name, spec := range map[string]string{
		"own": "mtls: {mode: STRICT}", "whole": "mtls: {mode: PERMISSIVE}",
		"same": "selector: {matchLabels: {app: sidecar-api}}", "others": "selector: {matchLabels: {app: sidecar-web}}\nmtls: {mode: DISABLE}",
		"future": "selector: {matchLabels: {app: later}}",
	} {
		placed[peerAuthentication]{namespace: "shop", name: name}.put(w, peerAuthentications, spec)
	}
	cluster := w.Connect(t)
	const sameLabels = "is for the same pods by their labels, and the oldest of them decides: delete it"
	for _, test := range []struct {
		policy string
		pods   map[string]string
		want   []string
	}{
		{"deny", nil, nil},
		{"all-authenticated", map[string]string{"app": "sidecar-api"}, []string{"PeerAuthentication shop/same " + sameLabels}},
		{"all-authenticated", map[string]string{"app": "later"}, []string{"PeerAuthentication shop/future " + sameLabels}},
		{"all-unauthenticated", nil, []string{
			"PeerAuthentication shop/future decides for the pods with the labels app=later: as the mesh has it",
			"PeerAuthentication shop/others decides for the pods with the labels app=sidecar-web: DISABLE",
			"PeerAuthentication shop/same decides for the pods with the labels app=sidecar-api: as the mesh has it",
			"PeerAuthentication shop/whole is for the whole namespace, too, and the oldest of them decides: delete it",
		}},
	} {
		got, err := DefaultPolicyFindings(t.Context(), cluster, test.policy, "shop", test.pods, func(o *unstructured.Unstructured) bool { return o.GetName() == "own" })
		if err != nil {
			t.Fatal(err)
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s for %v: %q", test.policy, test.pods, got)
		}
	}
}

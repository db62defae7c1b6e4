package engine_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

func node(labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: labels}}
}

func daemonSet(namespace, name string, args ...string) appsv1.DaemonSet {
	d := appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main"}, {Name: "agent", Args: args}}
	return d
}

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		nodes          []*corev1.Node
		daemonSets     []appsv1.DaemonSet
		name, evidence string
	}{
		"nothing":              {},
		"AKS without engine":   {nodes: []*corev1.Node{node(map[string]string{"kubernetes.azure.com/network-policy": "none"})}},
		"another DaemonSet":    {daemonSets: []appsv1.DaemonSet{daemonSet("kube-system", "kube-proxy")}},
		"AKS with Calico":      {nodes: []*corev1.Node{node(nil), node(map[string]string{"kubernetes.azure.com/network-policy": "calico"})}, name: "Calico", evidence: "label kubernetes.azure.com/network-policy=calico of Node n"},
		"AKS with NPM":         {nodes: []*corev1.Node{node(map[string]string{"kubernetes.azure.com/network-policy": "azure"})}, name: "Azure Network Policy Manager", evidence: "label kubernetes.azure.com/network-policy=azure of Node n"},
		"AKS with Cilium":      {nodes: []*corev1.Node{node(map[string]string{"kubernetes.azure.com/ebpf-dataplane": "cilium"})}, name: "Cilium", evidence: "label kubernetes.azure.com/ebpf-dataplane=cilium of Node n"},
		"NPM by DaemonSet":     {daemonSets: []appsv1.DaemonSet{daemonSet("kube-system", "azure-npm")}, name: "Azure Network Policy Manager", evidence: "DaemonSet kube-system/azure-npm"},
		"own Cilium on AKS":    {nodes: []*corev1.Node{node(map[string]string{"kubernetes.azure.com/network-policy": "none"})}, daemonSets: []appsv1.DaemonSet{daemonSet("cilium", "cilium")}, name: "Cilium", evidence: "DaemonSet cilium/cilium"},
		"Calico's operator":    {daemonSets: []appsv1.DaemonSet{daemonSet("calico-system", "calico-node")}, name: "Calico", evidence: "DaemonSet calico-system/calico-node"},
		"Amazon's agent":       {daemonSets: []appsv1.DaemonSet{daemonSet("kube-system", "aws-node", "--enable-network-policy=true")}, name: "Amazon VPC CNI", evidence: "DaemonSet kube-system/aws-node"},
		"Amazon's without one": {daemonSets: []appsv1.DaemonSet{daemonSet("kube-system", "aws-node", "--enable-network-policy=false")}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := engine.Judge(test.nodes, test.daemonSets)
			if got.Name != test.name || got.Evidence != test.evidence || got.None() != (test.name == "") {
				t.Errorf("got %+v, want %q by %q", got, test.name, test.evidence)
			}
			if !strings.Contains(got.Looked, "calico-node") {
				t.Errorf("it does not say what was looked for: %s", got.Looked)
			}
		})
	}
}

// api is an API server that has no objects, and refuses to list some.
func api(t *testing.T, nodes []corev1.Node, forbidden ...string) *kube.Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = &appsv1.DaemonSetList{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSetList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
		resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		if resource == "nodes" {
			answer = &corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: nodes}
		}
		w.Header().Set("Content-Type", "application/json")
		for _, refused := range forbidden {
			if refused == resource {
				w.WriteHeader(http.StatusForbidden)
				answer = &metav1.Status{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
					Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: "forbidden",
				}
			}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	cluster, err := kube.Connect(kube.Settings{Host: server.URL, Token: "t"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func TestDetect(t *testing.T) {
	t.Parallel()
	bare, labelled := []corev1.Node{*node(nil)}, []corev1.Node{*node(map[string]string{"kubernetes.azure.com/network-policy": "cilium"})}
	tests := map[string]struct {
		nodes     []corev1.Node
		forbidden []string
		engine    string
		unseen    string
		none      bool
	}{
		"none":                            {nodes: bare, none: true},
		"by the nodes":                    {nodes: labelled, engine: "Cilium"},
		"no nodes yet":                    {unseen: "there are no nodes yet"},
		"nodes may not be seen":           {nodes: bare, forbidden: []string{"nodes"}, unseen: "nodes may not be listed"},
		"the nodes say enough":            {nodes: labelled, forbidden: []string{"daemonsets"}, engine: "Cilium", unseen: "DaemonSets may not be listed"},
		"nothing whatever may be seen":    {forbidden: []string{"nodes", "daemonsets"}, unseen: "nodes may not be listed, DaemonSets may not be listed"},
		"DaemonSets may not be looked at": {nodes: bare, forbidden: []string{"daemonsets"}, unseen: "DaemonSets may not be listed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := engine.Detect(t.Context(), api(t, test.nodes, test.forbidden...))
			if err != nil {
				t.Fatal(err)
			}
			if unseen := strings.Join(got.Unseen, ", "); got.Name != test.engine || unseen != test.unseen || got.None() != test.none {
				t.Errorf("got %q, none %t, unseen %q", got.Name, got.None(), unseen)
			}
		})
	}
}

// TestReading holds that Cilium alone reads blocks of addresses its own way.
func TestReading(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{engine.Cilium: 1, "Calico": 0, "": 0} {
		if got := (engine.Result{Name: name}).Reading(); len(got) != want {
			t.Errorf("%q: got %d options, want %d", name, len(got), want)
		}
	}
}

// TestManaged holds what Azure's words mean, by which nobody's own engine is known.
func TestManaged(t *testing.T) {
	t.Parallel()
	for profile, want := range map[[2]string]string{
		{"azure", "azure"}: engine.AzureNPM, {"calico", "azure"}: "Calico", {"cilium", "cilium"}: engine.Cilium, {"", "cilium"}: engine.Cilium, {"none", "azure"}: "", {"", ""}: "",
	} {
		got := engine.Managed(profile[0], profile[1])
		if got.Name != want || got.None() != (want == "") || (got.Evidence == "") != (want == "") {
			t.Errorf("%v: got %+v, want %q", profile, got, want)
		}
	}
}

// TestCaution holds that what is said of an engine is true whenever it is said.
func TestCaution(t *testing.T) {
	t.Parallel()
	for now, want := range map[time.Time]string{
		time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC): "ends on 2028-09-30 on Linux and ends on 2026-09-30 on Windows",
		time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC):  "ends on 2028-09-30 on Linux and ended on 2026-09-30 on Windows",
		time.Date(2028, 10, 1, 0, 0, 0, 0, time.UTC):  "ended on 2028-09-30 on Linux and ended on 2026-09-30 on Windows",
	} {
		if got, advice := engine.Managed("azure", "azure").Caution(now); !strings.Contains(got, want) || advice == "" {
			t.Errorf("at %s: %s %s", now, got, advice)
		}
		for _, profile := range []string{"calico", "cilium", "none"} {
			if got, advice := engine.Managed(profile, "").Caution(now); got != "" || advice != "" {
				t.Errorf("%s: %s %s", profile, got, advice)
			}
		}
	}
}

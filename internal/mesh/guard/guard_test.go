package guard_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// world is what a cluster has.
type world struct {
	namespaces []corev1.Namespace
	pods       []corev1.Pod
	policies   []networkingv1.NetworkPolicy
	// meshes' are objects of theirs, by <group>/<resource>.
	meshes map[string][]any
	narrow bool // whether nothing but the namespace dgraph may be read
}

// versions are those of the meshes' kinds that it serves.
var versions = map[string]map[string]string{
	"policy.linkerd.io": {"servers": "v1beta3/Server", "authorizationpolicies": "v1alpha1/AuthorizationPolicy"},
	"security.istio.io": {"authorizationpolicies": "v1/AuthorizationPolicy", "peerauthentications": "v1/PeerAuthentication"},
}

// discover answers what the server is asked about its kinds; nil if it is not.
func discover(path string) any {
	switch parts := strings.Split(strings.Trim(path, "/"), "/"); {
	case path == "/api":
		return &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}
	case path == "/api/v1":
		return &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: "v1"}
	case path == "/apis":
		groups := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList"}}
		for group, kinds := range versions {
			served := metav1.APIGroup{Name: group}
			for _, kind := range kinds {
				version, _, _ := strings.Cut(kind, "/")
				of := metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + version, Version: version}
				if !slices.Contains(served.Versions, of) {
					served.Versions = append(served.Versions, of)
				}
			}
			groups.Groups = append(groups.Groups, served)
		}
		return groups
	case len(parts) == 3 && parts[0] == "apis" && versions[parts[1]] != nil:
		list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: parts[1] + "/" + parts[2]}
		for resource, kind := range versions[parts[1]] {
			if version, name, _ := strings.Cut(kind, "/"); version == parts[2] {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: resource, Kind: name, Namespaced: true, Verbs: []string{"list", "get"}})
			}
		}
		return list
	}
	return nil
}

// meshObject is one of the meshes' in the namespace, owned if there is an owner.
func meshObject(t *testing.T, group, resource, name, owner, spec string) any {
	t.Helper()
	version, kind, _ := strings.Cut(versions[group][resource], "/")
	object := map[string]any{
		"apiVersion": group + "/" + version, "kind": kind,
		"metadata": map[string]any{"namespace": "dgraph", "name": name, "annotations": map[string]any{"aksmesh.io/owner": owner}},
	}
	content := map[string]any{}
	if err := yaml.Unmarshal([]byte(spec), &content); err != nil {
		t.Fatal(err)
	}
	object["spec"] = content
	return object
}

// serve is an API server that lists it, and knows nothing else.
func (w world) serve(t *testing.T) *kube.Cluster {
	t.Helper()
	meta := func(version, kind string) (metav1.TypeMeta, metav1.ListMeta) {
		return metav1.TypeMeta{APIVersion: version, Kind: kind}, metav1.ListMeta{ResourceVersion: "1"}
	}
	var (
		namespaces corev1.NamespaceList
		pods       corev1.PodList
		policies   networkingv1.NetworkPolicyList
	)
	namespaces.TypeMeta, namespaces.ListMeta = meta("v1", "NamespaceList")
	pods.TypeMeta, pods.ListMeta = meta("v1", "PodList")
	policies.TypeMeta, policies.ListMeta = meta("networking.k8s.io/v1", "NetworkPolicyList")
	namespaces.Items, pods.Items, policies.Items = w.namespaces, w.pods, w.policies
	lists := map[string]any{"namespaces": &namespaces, "pods": &pods, "networkpolicies": &policies}
	for resource, kind := range map[string][2]string{
		"deployments": {"apps/v1", "DeploymentList"}, "statefulsets": {"apps/v1", "StatefulSetList"}, "daemonsets": {"apps/v1", "DaemonSetList"},
		"configmaps": {"v1", "ConfigMapList"}, "services": {"v1", "ServiceList"},
		"mutatingwebhookconfigurations":   {"admissionregistration.k8s.io/v1", "MutatingWebhookConfigurationList"},
		"validatingwebhookconfigurations": {"admissionregistration.k8s.io/v1", "ValidatingWebhookConfigurationList"},
	} {
		lists[resource] = map[string]any{"apiVersion": kind[0], "kind": kind[1], "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}}
	}
	for group, kinds := range versions {
		for resource, kind := range kinds {
			version, name, _ := strings.Cut(kind, "/")
			items := w.meshes[group+"/"+resource]
			if items == nil {
				items = []any{}
			}
			lists[group+"/"+resource] = map[string]any{
				"apiVersion": group + "/" + version, "kind": name + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
			}
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		writer.Header().Set("Content-Type", "application/json")
		resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		parts := strings.Split(r.URL.Path, "/")
		answer, is := lists[resource]
		if len(parts) > 2 && versions[parts[2]] != nil {
			answer, is = lists[parts[2]+"/"+resource]
		}
		if found := discover(r.URL.Path); found != nil {
			answer, is = found, true
		} else if w.narrow && !strings.Contains(r.URL.Path, "/namespaces/dgraph/") {
			writer.WriteHeader(http.StatusForbidden)
			answer, is = &metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
			}, true
		}
		if !is {
			writer.WriteHeader(http.StatusNotFound)
			details := &metav1.StatusDetails{Name: resource, Kind: parts[len(parts)-2]}
			if parts[1] == "apis" {
				details.Group = parts[2]
			}
			answer = &metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound,
				Code: http.StatusNotFound, Details: details,
			}
		}
		if err := json.NewEncoder(writer).Encode(answer); err != nil {
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

func namespace(name string, labels map[string]string) corev1.Namespace {
	return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

// pod is one of a container, with labels as in app=web,tier=db.
func pod(namespace, name, labels string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}}
	for label := range strings.SplitSeq(labels, ",") {
		key, value, _ := strings.Cut(label, "=")
		p.Labels[key] = value
	}
	p.Spec.Containers = []corev1.Container{{Name: "main"}}
	for _, f := range change {
		f(&p)
	}
	return p
}

func declaring(ports ...int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, port := range ports {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: port})
		}
	}
}

func inLinkerd(p *corev1.Pod) {
	p.Labels["linkerd.io/control-plane-ns"] = "linkerd-two"
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "linkerd-proxy", Ports: []corev1.ContainerPort{{ContainerPort: 4143}, {ContainerPort: 4191}}})
}

func inSidecar(p *corev1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy", Ports: []corev1.ContainerPort{{ContainerPort: 15090}}})
}

func inAmbient(p *corev1.Pod) { p.Annotations["ambient.istio.io/redirection"] = "enabled" }

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func probedByGRPC(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}}}
	}
}

func newLinkerd() linkerd.Traffic {
	return linkerd.Traffic{ControlPlane: "linkerd", Version: "2026.8.3"}
}

func intent(change func(*guard.Intent)) guard.Intent {
	i := guard.Intent{Namespace: "dgraph", Name: "mesh-only", Pods: map[string]string{"app": "alpha"}, Ports: []int32{8080}, Traffic: newLinkerd()}
	if change != nil {
		change(&i)
	}
	return i
}

// objects are the kinds and names of a manifest, and its NetworkPolicy.
func objects(t *testing.T, manifest string) (kinds []string, policy networkingv1.NetworkPolicy) {
	t.Helper()
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, object.Kind)
		if object.Kind == "NetworkPolicy" {
			if err := yaml.UnmarshalStrict([]byte(document), &policy); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kinds, policy
}

func TestCompileWithoutCluster(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		intent   guard.Intent
		strength access.Strength
		identity bool
		kinds    string // of the objects, each once
		err      error
	}{
		"Linkerd's port and identity": {
			intent:   intent(func(i *guard.Intent) { i.Closed, i.GRPCProbes = []int32{7080}, []int32{} }),
			strength: access.MTLSPort, identity: true, kinds: "AuthorizationPolicy MeshTLSAuthentication NetworkPolicy Server",
		},
		"without an identity":         {intent: intent(func(i *guard.Intent) { i.Identity = new(false) }), strength: access.MTLSPort, kinds: "NetworkPolicy"},
		"all ports":                   {intent: intent(func(i *guard.Intent) { i.Ports = nil }), strength: access.MTLSPort, kinds: "NetworkPolicy"},
		"by label":                    {intent: intent(func(i *guard.Intent) { i.Strength = access.Label }), strength: access.Label, kinds: "NetworkPolicy"},
		"an old Linkerd":              {intent: intent(func(i *guard.Intent) { i.Traffic = linkerd.Traffic{Version: "stable-2.14.10"} }), strength: access.Label, kinds: "NetworkPolicy"},
		"sidecars":                    {intent: intent(func(i *guard.Intent) { i.Traffic = istio.Traffic{Mode: istio.ModeSidecar} }), strength: access.Label, kinds: "NetworkPolicy"},
		"sidecars with identity":      {intent: intent(func(i *guard.Intent) { i.Traffic, i.Identity = istio.Traffic{Mode: istio.ModeSidecar}, new(true) }), strength: access.Label, identity: true, kinds: "AuthorizationPolicy NetworkPolicy PeerAuthentication"},
		"ambient":                     {intent: intent(func(i *guard.Intent) { i.Traffic = istio.Traffic{Mode: istio.ModeAmbient} }), strength: access.MTLSPort, identity: true, kinds: "AuthorizationPolicy NetworkPolicy PeerAuthentication"},
		"Linkerd's control plane":     {intent: guard.Intent{Namespace: "linkerd", Name: "p", Traffic: newLinkerd(), ControlPlane: &access.ControlPlane{Everyone: true}}, kinds: "NetworkPolicy"},
		"Istio's control plane":       {intent: guard.Intent{Namespace: "istio-system", Name: "p", Traffic: istio.Traffic{}, ControlPlane: &access.ControlPlane{Konnectivity: true}}, kinds: "NetworkPolicy"},
		"by the pods' ports":          {intent: intent(nil), err: guard.ErrPodsUnknown},
		"by the pods' mesh":           {intent: intent(func(i *guard.Intent) { i.Traffic = nil }), err: guard.ErrPodsUnknown},
		"by the pods' mode":           {intent: intent(func(i *guard.Intent) { i.Traffic = istio.Traffic{} }), err: guard.ErrPodsUnknown},
		"by the version of Linkerd":   {intent: intent(func(i *guard.Intent) { i.Traffic = linkerd.Traffic{ControlPlane: "linkerd"} }), err: guard.ErrMeshUnknown},
		"strength that is not to had": {intent: intent(func(i *guard.Intent) { i.Traffic, i.Strength = istio.Traffic{Mode: istio.ModeSidecar}, access.MTLSPort })},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compiled, err := guard.Compile(t.Context(), nil, test.intent)
			if test.kinds == "" {
				if err == nil || test.err != nil && !strings.Contains(err.Error(), test.err.Error()) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kinds, policy := objects(t, compiled.Manifest)
			var distinct []string
			for i, kind := range kinds {
				if i == 0 || kinds[i-1] != kind {
					distinct = append(distinct, kind)
				}
			}
			if got := strings.Join(distinct, " "); got != test.kinds {
				t.Errorf("got %s, want %s", got, test.kinds)
			}
			if policy.Name != test.intent.Name || policy.Namespace != test.intent.Namespace || len(policy.Spec.Ingress) == 0 {
				t.Errorf("got policy %+v", policy)
			}
			if c := compiled.Intent; c.Strength != test.strength || *c.Identity != test.identity || c.Closed == nil || c.GRPCProbes == nil {
				t.Errorf("strength %q, identity %t, closed %v, probes %v", c.Strength, *c.Identity, c.Closed, c.GRPCProbes)
			}
			if compiled.Guarantee == "" || len(compiled.ByPods) > 0 {
				t.Errorf("guarantee %q, by pods %q", compiled.Guarantee, compiled.ByPods)
			}
			again, err := guard.Compile(t.Context(), nil, compiled.Intent)
			if err != nil || again.Manifest != compiled.Manifest || !reflect.DeepEqual(again.Intent, compiled.Intent) {
				t.Errorf("what is settled compiles to something else: %v", err)
			}
		})
	}
}

func TestCompileByPods(t *testing.T) {
	t.Parallel()
	alpha := func(name string, change ...func(*corev1.Pod)) corev1.Pod {
		return pod("dgraph", name, "app=alpha", change...)
	}
	done := alpha("done", inSidecar)
	done.Status.Phase = corev1.PodSucceeded
	tests := map[string]struct {
		pods    []corev1.Pod
		labels  map[string]string // of the namespace
		servers []any
		change  func(*guard.Intent)
		traffic guard.Traffic
		closed  []int32
		probes  []int32
		byPods  int
		err     string
	}{
		"ports that they declare": {
			pods:    []corev1.Pod{alpha("a", inLinkerd, declaring(8080, 7080)), alpha("b", inLinkerd, declaring(5080, 7080), probedByGRPC(9080)), pod("dgraph", "other", "app=zero", declaring(1))},
			traffic: newLinkerd(), closed: []int32{5080, 7080}, probes: []int32{9080}, byPods: 2,
		},
		"ports that are said": {
			pods:   []corev1.Pod{alpha("a", inLinkerd, declaring(7080))},
			change: func(i *guard.Intent) { i.Closed, i.GRPCProbes = []int32{}, []int32{9080} }, traffic: newLinkerd(), closed: []int32{}, probes: []int32{9080},
		},
		"ports that another Server governs": {
			pods:    []corev1.Pod{alpha("a", inLinkerd, declaring(8080, 7080, 5080))},
			servers: []any{meshObject(t, "policy.linkerd.io", "servers", "w-7080", "network-policy/w", "{podSelector: {matchLabels: {app: alpha}}, port: 7080}")},
			traffic: newLinkerd(), closed: []int32{5080}, probes: []int32{}, byPods: 2,
		},
		"no pods": {traffic: newLinkerd(), closed: []int32{}, probes: []int32{}, byPods: 2},
		"mode of sidecars": {
			pods: []corev1.Pod{alpha("a", inSidecar)}, change: func(i *guard.Intent) { i.Traffic = istio.Traffic{} },
			traffic: istio.Traffic{Mode: istio.ModeSidecar}, closed: []int32{}, probes: []int32{}, byPods: 1,
		},
		"mode of both": {
			pods: []corev1.Pod{alpha("a", inSidecar), alpha("b", inAmbient)}, change: func(i *guard.Intent) { i.Traffic = istio.Traffic{} },
			traffic: istio.Traffic{Mode: istio.ModeBoth}, closed: []int32{}, probes: []int32{}, byPods: 1,
		},
		"mode of the namespace": {
			pods: []corev1.Pod{done}, labels: map[string]string{"istio.io/dataplane-mode": "ambient"}, change: func(i *guard.Intent) { i.Traffic = istio.Traffic{} },
			traffic: istio.Traffic{Mode: istio.ModeAmbient}, closed: []int32{}, probes: []int32{}, byPods: 1,
		},
		"mesh Istio": {
			pods: []corev1.Pod{alpha("a", inAmbient)}, change: func(i *guard.Intent) { i.Traffic = nil },
			traffic: istio.Traffic{Mode: istio.ModeAmbient}, closed: []int32{}, probes: []int32{}, byPods: 2,
		},
		"two meshes": {
			pods: []corev1.Pod{alpha("a", inAmbient), alpha("b", inLinkerd)}, change: func(i *guard.Intent) { i.Traffic = nil }, err: "say which mesh is meant",
		},
		"mesh Linkerd without its control plane": {
			pods: []corev1.Pod{alpha("a", inLinkerd)}, change: func(i *guard.Intent) { i.Traffic = nil }, err: "linkerd-two/linkerd-config",
		},
		"neither mesh": {
			pods: []corev1.Pod{alpha("a")}, change: func(i *guard.Intent) { i.Traffic = nil }, err: guard.ErrMeshUnknown.Error(),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := world{namespaces: []corev1.Namespace{namespace("dgraph", test.labels)}, pods: test.pods, meshes: map[string][]any{"policy.linkerd.io/servers": test.servers}}.serve(t)
			compiled, err := guard.Compile(t.Context(), cluster, intent(test.change))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c := compiled.Intent
			if c.Traffic != test.traffic || !reflect.DeepEqual(c.Closed, test.closed) || !reflect.DeepEqual(c.GRPCProbes, test.probes) {
				t.Errorf("got %+v, closed %v, probes %v", c.Traffic, c.Closed, c.GRPCProbes)
			}
			if len(compiled.ByPods) != test.byPods {
				t.Errorf("by pods: %q, want %d", compiled.ByPods, test.byPods)
			}
		})
	}
}

// All addresses are everybody, whom a block does not stand for with every engine.
func TestControlPlaneForEverybody(t *testing.T) {
	t.Parallel()
	for _, cidr := range []string{"0.0.0.0/0", "::/0"} {
		compiled, err := guard.Compile(t.Context(), nil, guard.Intent{
			Namespace: "linkerd", Name: "p", Traffic: newLinkerd(), ControlPlane: &access.ControlPlane{Networks: []netpol.Block{{CIDR: cidr}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(compiled.Manifest, "ipBlock") || !strings.Contains(compiled.Manifest, "port: 8443") {
			t.Errorf("%s is a block:\n%s", cidr, compiled.Manifest)
		}
		if compiled.Intent.ControlPlane.Everyone || len(compiled.Intent.ControlPlane.Networks) != 1 {
			t.Errorf("what was said is not kept: %+v", compiled.Intent.ControlPlane)
		}
	}
}

// Who is let in, and where pods get out.
func TestExceptionsAndEgress(t *testing.T) {
	t.Parallel()
	i := intent(func(i *guard.Intent) {
		i.Closed, i.GRPCProbes = []int32{}, []int32{}
		i.Allow = guard.Allow{
			SameNamespace: true,
			Pods:          []guard.Pods{{Namespaces: map[string]string{"team": "edge"}, Pods: map[string]string{"app": "ingress"}, Ports: []int32{9080}}},
			Metrics:       []guard.Pods{{Pods: map[string]string{"app": "prometheus"}}},
			Networks:      []guard.Network{{Block: netpol.Block{CIDR: "203.0.113.0/24", Except: []string{"203.0.113.7/32"}}}, {Block: netpol.Block{CIDR: "0.0.0.0/0"}, Ports: []int32{443}}},
		}
		i.Egress = &guard.Egress{
			DNS: true, ControlPlane: true, Mesh: true,
			Pods:     []guard.Pods{{Pods: map[string]string{"app": "db"}, Ports: []int32{5432}}},
			Networks: []guard.Network{{Block: netpol.Block{CIDR: "198.51.100.0/24"}}},
		}
	})
	compiled, err := guard.Compile(t.Context(), nil, i)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(compiled.Manifest, "kind: NetworkPolicy\nmetadata:\n  name: mesh-only") && strings.Contains(compiled.Manifest, "cidr: 0.0.0.0/0\n    ") {
		t.Errorf("a block of all addresses is written, which never matches pods with Cilium:\n%s", compiled.Manifest)
	}
	_, policy := objects(t, compiled.Manifest)
	policies, err := netpol.Compile([]*networkingv1.NetworkPolicy{&policy})
	if err != nil {
		t.Fatal(err)
	}
	end := func(p corev1.Pod, labels map[string]string) netpol.Endpoint { return netpol.PodEndpoint(labels, &p) }
	protected := end(pod("dgraph", "alpha-0", "app=alpha"), nil)
	edge := map[string]string{"team": "edge"}
	ways := []struct {
		name     string
		from, to netpol.Endpoint
		port     int32
		want     bool
	}{
		{"mesh", end(pod("x", "client", "a=b"), nil), protected, 4143, true},
		{"direct", end(pod("x", "client", "a=b"), nil), protected, 8080, false},
		{"everybody at 443", end(pod("x", "client", "a=b"), nil), protected, 443, true},
		{"same namespace", end(pod("dgraph", "client", "a=b"), nil), protected, 8080, true},
		{"same namespace, another port", end(pod("dgraph", "client", "a=b"), nil), protected, 9080, false},
		{"ingress controller", end(pod("e", "i", "app=ingress"), edge), protected, 9080, true},
		{"ingress controller of others", end(pod("e", "i", "app=ingress"), nil), protected, 9080, false},
		{"Prometheus", end(pod("m", "p", "app=prometheus"), nil), protected, 4191, true},
		{"Prometheus at the application", end(pod("m", "p", "app=prometheus"), nil), protected, 8080, false},
		{"out to DNS", protected, end(pod("kube-system", "dns", "k8s-app=kube-dns"), map[string]string{"kubernetes.io/metadata.name": "kube-system"}), 53, true},
		{"out to the database", protected, end(pod("x", "db", "app=db"), nil), 5432, true},
		{"out to the database elsewhere", protected, end(pod("x", "db", "app=db"), nil), 22, false},
	}
	for _, way := range ways {
		if got := policies.Evaluate(way.from, way.to, netpol.Port{Number: way.port}); got.Allowed != way.want {
			t.Errorf("%s: allowed %t, want %t: %s", way.name, got.Allowed, way.want, got.Reason())
		}
	}
}

// What an update that broke off has made for another mesh is found.
func TestReadLeftovers(t *testing.T) {
	t.Parallel()
	cluster := world{namespaces: []corev1.Namespace{namespace("dgraph", nil)}, meshes: map[string][]any{
		"security.istio.io/peerauthentications": {
			meshObject(t, "security.istio.io", "peerauthentications", "mesh-only", "network-policy/mesh-only", "{mtls: {mode: STRICT}}"),
			meshObject(t, "security.istio.io", "peerauthentications", "foreign", "", "{mtls: {mode: STRICT}}"),
		},
	}}.serve(t)
	found, err := guard.Policy{Cluster: cluster, Namespace: "dgraph", Name: "mesh-only", Traffics: []guard.Traffic{newLinkerd()}}.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kinds, _ := objects(t, found.Manifest); !slices.Equal(kinds, []string{"PeerAuthentication"}) {
		t.Errorf("got %q", kinds)
	}
	narrow := world{narrow: true}.serve(t)
	if _, err := (guard.Policy{Cluster: narrow, Namespace: "dgraph", Name: "mesh-only", Traffics: []guard.Traffic{newLinkerd()}}).Read(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("got %v, want that nothing is there", err)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	alpha := func(name string, change ...func(*corev1.Pod)) corev1.Pod {
		return pod("dgraph", name, "app=alpha", append([]func(*corev1.Pod){declaring(8080), annotated("config.linkerd.io/default-inbound-policy", "deny")}, change...)...)
	}
	policy := func(spec string) networkingv1.NetworkPolicy {
		p := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "dgraph", Name: "open"}}
		if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		return p
	}
	servers := func(name, owner, spec string) map[string][]any {
		return map[string][]any{"policy.linkerd.io/servers": {meshObject(t, "policy.linkerd.io", "servers", name, owner, spec)}}
	}
	const selected = "podSelector: {matchLabels: {app: alpha}}\n"
	tests := map[string]struct {
		world
		change  func(*guard.Intent)
		want    map[guard.Concern]string // parts of the texts; nothing if none is due
		refused bool
	}{
		"all well":        {world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}}},
		"nothing":         {want: map[guard.Concern]string{guard.AboutPods: "selects no pod of namespace dgraph now (app=alpha)"}},
		"not in the mesh": {world: world{pods: []corev1.Pod{alpha("a"), alpha("b", inLinkerd)}}, want: map[guard.Concern]string{guard.AboutPods: "not in Linkerd are selected"}},
		"in the node's network": {
			world: world{pods: []corev1.Pod{alpha("a", func(p *corev1.Pod) { p.Spec.HostNetwork = true })}},
			want:  map[guard.Concern]string{guard.AboutPods: "not protected by any NetworkPolicy: a"},
		},
		"ports that bypass the proxy": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd, annotated("config.linkerd.io/skip-inbound-ports", "8000-8090"))}},
			want:  map[guard.Concern]string{guard.AboutPorts: "Ports 8080 bypass the proxies of pods a"},
		},
		"ports that bypass the sidecar": {
			world:  world{pods: []corev1.Pod{alpha("a", inSidecar, annotated("traffic.sidecar.istio.io/excludeInboundPorts", "22,8080"))}},
			change: func(i *guard.Intent) { i.Traffic = istio.Traffic{Mode: istio.ModeSidecar} },
			want:   map[guard.Concern]string{guard.AboutPorts: "Port 8080 of pods a does not lead through the sidecar"},
		},
		"open by default": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd, annotated("config.linkerd.io/default-inbound-policy", ""))}},
			want:  map[guard.Concern]string{guard.AboutPorts: "that of the control plane"},
		},
		"new ports": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd, declaring(7080))}},
			want:  map[guard.Concern]string{guard.AboutClosed: "Ports 7080 are declared by pods and neither in ports nor in closed_ports"},
		},
		"new probes": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd, probedByGRPC(8080))}},
			want:  map[guard.Concern]string{guard.AboutProbes: "probe the pods by gRPC at ports 8080"},
		},
		"another policy opens it to all": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{ports: [{port: 22}]}, {ports: [{port: 8080}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "NetworkPolicy dgraph/open lets every pod in by its ingress rule 2, to ports 8080"},
		},
		"to its namespace": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{podSelector: {}}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets every pod of its namespace in by its ingress rule 1"},
		},
		"to addresses": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets addresses such as 10.0.0.0 in"},
		},
		"to pods by their labels": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets pods with app=web of any namespace in"},
		},
		"to whom the policy lets in itself": {
			world:  world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{podSelector: {}}]}]")}},
			change: func(i *guard.Intent) { i.Allow.SameNamespace = true },
		},
		"to the mesh by its label": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {linkerd.io/control-plane-ns: linkerd}}}], ports: [{port: 8080}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets pods with linkerd.io/control-plane-ns=linkerd of any namespace in by its ingress rule 1, to ports 8080"},
		},
		"to the mesh by its label, as the policy does": {
			world:  world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {linkerd.io/control-plane-ns: linkerd}}}], ports: [{port: 8080}]}]")}},
			change: func(i *guard.Intent) { i.Strength = access.Label },
		},
		"to namespaces by their labels": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {matchLabels: {linkerd.io/inject: enabled}}}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets every pod of namespaces with linkerd.io/inject=enabled in"},
		},
		"to others of the labels that the policy names": {
			world:  world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: In, values: [web, shop]}, {key: tier, operator: Exists}]}}]}]")}},
			change: func(i *guard.Intent) { i.Allow.Pods = []guard.Pods{{Pods: map[string]string{"app": "web"}}} },
			want:   map[guard.Concern]string{guard.AboutPorts: "lets pods with app in (shop,web),tier of any namespace in"},
		},
		"before there are pods": {
			world: world{policies: []networkingv1.NetworkPolicy{policy("podSelector: {}\ningress: [{}]")}},
			want:  map[guard.Concern]string{guard.AboutPods: "selects no pod", guard.AboutPorts: "lets every pod in by its ingress rule 1, to ports 8080"},
		},
		"before there are pods, at any port": {
			world:  world{policies: []networkingv1.NetworkPolicy{policy("podSelector: {}\ningress: [{ports: [{port: 9999}]}]")}},
			change: func(i *guard.Intent) { i.Ports = nil },
			want:   map[guard.Concern]string{guard.AboutPods: "selects no pod", guard.AboutPorts: "to ports 9999"},
		},
		"no rights to other namespaces": {
			world: world{narrow: true, pods: []corev1.Pod{alpha("a", inLinkerd, declaring(7080))}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{}]")}},
			want: map[guard.Concern]string{
				guard.AboutPods: "labels of namespace dgraph may not be read", guard.AboutClosed: "Ports 7080 are declared",
				guard.AboutPorts: "lets every pod in by its ingress rule 1, to ports 7080, 8080",
			},
		},
		"a Server of somebody else": {
			world:   world{pods: []corev1.Pod{alpha("a", inLinkerd)}, meshes: servers("foreign", "", "{podSelector: {matchLabels: {app: alpha}}, port: 8080}")},
			want:    map[guard.Concern]string{guard.AboutPorts: "Server dgraph/foreign is for the same pods: Linkerd refuses a second Server for a port, or picks one of them (port 8080)."},
			refused: true,
		},
		"a Server of another resource, by other labels": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, meshes: servers("w-8080", "authorization/w", "{podSelector: {matchExpressions: [{key: app, operator: Exists}]}, port: 8080}")},
			want:  map[guard.Concern]string{guard.AboutPorts: "Server dgraph/w-8080 (of aksmesh_authorization w) is for the same pods"},
		},
		"a Server of another resource": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, meshes: servers("w-8080", "network-policy/w", "{podSelector: {matchLabels: {app: alpha}}, port: 8080}")},
			want:  map[guard.Concern]string{guard.AboutPorts: "Server dgraph/w-8080 (of aksmesh_network_policy w) is for the same pods"},
		},
		"Servers of its own, for other ports and for ports that it leaves to them": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd, declaring(7080))}, meshes: map[string][]any{"policy.linkerd.io/servers": {
				meshObject(t, "policy.linkerd.io", "servers", "mesh-only-8080", "network-policy/mesh-only", "{podSelector: {matchLabels: {app: alpha}}, port: 8080}"),
				meshObject(t, "policy.linkerd.io", "servers", "seven", "", "{podSelector: {matchLabels: {app: alpha}}, port: 7080}"),
			}}},
		},
		"who is let in at every Server": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, meshes: map[string][]any{"policy.linkerd.io/authorizationpolicies": {
				meshObject(t, "policy.linkerd.io", "authorizationpolicies", "all", "", "{targetRef: {kind: Namespace, name: dgraph}}"),
			}}},
			want: map[guard.Concern]string{guard.AboutPorts: "AuthorizationPolicy dgraph/all lets its callers in at every Server"},
		},
		"policies of Istio for the same pods": {
			world: world{pods: []corev1.Pod{alpha("a", inSidecar)}, meshes: map[string][]any{
				"security.istio.io/authorizationpolicies": {
					meshObject(t, "security.istio.io", "authorizationpolicies", "more", "authorization/more", "{selector: {matchLabels: {app: alpha}}, rules: [{}]}"),
					meshObject(t, "security.istio.io", "authorizationpolicies", "mesh-only", "network-policy/mesh-only", "{selector: {matchLabels: {app: alpha}}, rules: [{}]}"),
				},
			}},
			change: func(i *guard.Intent) { i.Traffic, i.Identity = istio.Traffic{Mode: istio.ModeSidecar}, new(true) },
			want:   map[guard.Concern]string{guard.AboutPorts: "AuthorizationPolicy dgraph/more (of aksmesh_authorization more) is for the same pods and allows"},
		},
		"a PeerAuthentication for the same pods": {
			world: world{pods: []corev1.Pod{alpha("a", inSidecar)}, meshes: map[string][]any{
				"security.istio.io/peerauthentications": {meshObject(t, "security.istio.io", "peerauthentications", "old", "", "{selector: {matchLabels: {app: alpha}}, mtls: {mode: DISABLE}}")},
			}},
			change: func(i *guard.Intent) { i.Traffic, i.Identity = istio.Traffic{Mode: istio.ModeSidecar}, new(true) },
			want:   map[guard.Concern]string{guard.AboutPorts: "PeerAuthentication dgraph/old is for the same pods by their labels, and the oldest of them decides"},
		},
		"for other pods": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy("podSelector: {matchLabels: {app: zero}}\ningress: [{}]")}},
		},
		"that closes": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy("podSelector: {}")}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.namespaces = []corev1.Namespace{namespace("dgraph", nil), namespace("web", nil)}
			cluster := test.serve(t)
			i := intent(func(i *guard.Intent) { i.Closed, i.GRPCProbes = []int32{}, []int32{} })
			if test.change != nil {
				test.change(&i)
			}
			compiled, err := guard.Compile(t.Context(), nil, i)
			if err != nil {
				t.Fatal(err)
			}
			findings, err := guard.Policy{Cluster: cluster, Namespace: i.Namespace, Name: i.Name}.Findings(t.Context(), compiled)
			if err != nil {
				t.Fatal(err)
			}
			if len(findings) != len(test.want) {
				t.Errorf("got %d findings, want %d", len(findings), len(test.want))
			}
			for _, finding := range findings {
				if want := test.want[finding.Concern]; want == "" || !strings.Contains(finding.Text, want) || finding.Refused != test.refused {
					t.Errorf("got %q, refused %t, want %q", finding.Text, finding.Refused, want)
				}
			}
		})
	}
}

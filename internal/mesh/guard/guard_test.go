package guard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
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
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		writer.Header().Set("Content-Type", "application/json")
		resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		answer, is := lists[resource]
		if !is {
			writer.WriteHeader(http.StatusNotFound)
			parts := strings.Split(r.URL.Path, "/")
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
			cluster := world{namespaces: []corev1.Namespace{namespace("dgraph", test.labels)}, pods: test.pods}.serve(t)
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
	const selected = "podSelector: {matchLabels: {app: alpha}}\n"
	tests := map[string]struct {
		world
		change func(*guard.Intent)
		want   map[guard.Concern]string // parts of the texts; nothing if none is due
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
		"to pods that there are": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd), pod("web", "w", "app=web"), pod("web", "m", "app=web2", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]")}},
			want:  map[guard.Concern]string{guard.AboutPorts: "lets Pod web/w and those like it in"},
		},
		"to whom the policy lets in itself": {
			world:  world{pods: []corev1.Pod{alpha("a", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{podSelector: {}}]}]")}},
			change: func(i *guard.Intent) { i.Allow.SameNamespace = true },
		},
		"to the mesh": {
			world: world{pods: []corev1.Pod{alpha("a", inLinkerd), pod("web", "m", "app=web", inLinkerd)}, policies: []networkingv1.NetworkPolicy{policy(selected + "ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]")}},
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
				if want := test.want[finding.Concern]; want == "" || !strings.Contains(finding.Text, want) {
					t.Errorf("got %q, want %q", finding.Text, want)
				}
			}
		})
	}
}

package guard

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// A Concern is what a finding is about.
type Concern int

// The concerns.
const (
	AboutPods   Concern = iota // which pods are selected, and what they are
	AboutPorts                 // which ports are open
	AboutClosed                // which ports the mesh has to close
	AboutProbes                // which ports are probed by gRPC
)

// A Finding is something in the cluster that keeps a policy from protecting what
// it is meant to.
type Finding struct {
	Concern
	Text string
}

// Findings looks for what defeats a policy: pods that it does not select or that
// the mesh does not have, ports that nobody closes, and other policies that open
// what it closes. It reads shared reads only.
func (p Policy) Findings(ctx context.Context, compiled Compiled) ([]Finding, error) {
	x := examination{intent: compiled.Intent}
	if err := x.read(ctx, p.Cluster, compiled); err != nil {
		return nil, fmt.Errorf("%s: look for what defeats it: %w", p, err)
	}
	return x.examine()
}

// An examination is what is known of a policy while it is examined.
type examination struct {
	intent     Intent
	policy     *networkingv1.NetworkPolicy
	others     []*networkingv1.NetworkPolicy // of its namespace
	pods       []*corev1.Pod                 // that it selects
	everywhere []*corev1.Pod                 // of all namespaces, if there are others
	namespaces map[string]map[string]string  // their labels
	findings   []Finding
}

func (x *examination) read(ctx context.Context, cluster *kube.Cluster, compiled Compiled) error {
	objects, err := holding.Parse(compiled.Manifest)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GetKind() != kube.NetworkPolicy.Name {
			continue
		}
		x.policy = &networkingv1.NetworkPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, x.policy); err != nil {
			return err
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(&x.policy.Spec.PodSelector)
	if err != nil {
		return err
	}
	within, err := cluster.Pods(ctx, x.policy.Namespace)
	if err != nil {
		return err
	}
	for _, pod := range within {
		if selector.Matches(labels.Set(pod.Labels)) && !ended(pod) {
			x.pods = append(x.pods, pod)
		}
	}
	policies, err := cluster.NetworkPolicies(ctx, x.policy.Namespace)
	if err != nil {
		return err
	}
	for _, policy := range policies {
		if policy.Name != x.policy.Name {
			x.others = append(x.others, policy)
		}
	}
	if len(x.others) == 0 {
		return nil
	}
	namespaces, err := cluster.Namespaces(ctx)
	if err != nil {
		return err
	}
	x.namespaces = map[string]map[string]string{}
	for _, namespace := range namespaces {
		x.namespaces[namespace.Name] = namespace.Labels
	}
	x.everywhere, err = cluster.Pods(ctx, "")
	return err
}

func (x *examination) note(concern Concern, format string, args ...any) {
	x.findings = append(x.findings, Finding{Concern: concern, Text: fmt.Sprintf(format, args...)})
}

func (x *examination) examine() ([]Finding, error) {
	if len(x.pods) == 0 {
		x.note(AboutPods, "It selects no pod of namespace %s now (%s).", x.policy.Namespace, metav1.FormatLabelSelector(&x.policy.Spec.PodSelector))
	}
	var unmeshed, hosts []string
	var meshed []*corev1.Pod
	for _, pod := range x.pods {
		switch {
		case pod.Spec.HostNetwork:
			hosts = append(hosts, pod.Name)
		case x.meshed(pod):
			meshed = append(meshed, pod)
		default:
			unmeshed = append(unmeshed, pod.Name)
		}
	}
	if len(hosts) > 0 {
		x.note(AboutPods, "Pods in their node's network are not protected by any NetworkPolicy: %s.", kube.Few(hosts))
	}
	if len(unmeshed) > 0 && x.intent.ControlPlane == nil {
		x.note(AboutPods, "Pods that are not in %s are selected, which its callers cannot reach at its port, and which do not ask for identities: %s.", meshName(x.intent.Traffic), kube.Few(unmeshed))
	}
	if x.intent.ControlPlane == nil {
		for _, line := range x.intent.Traffic.PodFindings(meshed, x.intent.protection()) {
			x.note(AboutPorts, "%s", line)
		}
		x.ungoverned(meshed)
	}
	return x.findings, x.opened()
}

func meshName(traffic Traffic) string {
	if _, is := traffic.(linkerd.Traffic); is {
		return proxies().Name()
	}
	return sidecars().Name()
}

// meshed reports whether a pod is in the policy's mesh.
func (x *examination) meshed(pod *corev1.Pod) bool {
	var m mesh.Mesh = sidecars()
	if _, is := x.intent.Traffic.(linkerd.Traffic); is {
		m = proxies()
	}
	return m.Proxy(pod).Mode != ""
}

// ungoverned looks for ports that pods have come to declare, or to be probed at,
// since the policy was made.
func (x *examination) ungoverned(pods []*corev1.Pod) {
	i := x.intent
	if !i.ClosesPorts() {
		return
	}
	open := slices.DeleteFunc(i.undeclared(pods), func(port int32) bool { return slices.Contains(i.Closed, port) })
	if len(open) > 0 {
		x.note(AboutClosed, "Ports %s are declared by pods and neither in ports nor in closed_ports, so that Linkerd does not close them.", access.JoinPorts(open))
	}
	governed := slices.Concat(i.Ports, i.Closed)
	unknown := slices.DeleteFunc(grpcProbes(pods), func(port int32) bool {
		return slices.Contains(i.GRPCProbes, port) || !slices.Contains(governed, port)
	})
	if len(unknown) > 0 {
		x.note(AboutProbes, "Kubelets probe the pods by gRPC at ports %s, which are not in grpc_probe_ports: Linkerd refuses them.", access.JoinPorts(unknown))
	}
}

// opened looks for other policies that let in who is not in the mesh, and whom
// the policy itself does not.
func (x *examination) opened() error {
	own, err := netpol.Compile([]*networkingv1.NetworkPolicy{x.policy})
	if err != nil {
		return err
	}
	others, err := netpol.Compile(x.others)
	if err != nil {
		return err
	}
	opened := map[string][]int32{}
	targets := map[string]bool{}
	callers := x.callers(others)
	for _, pod := range x.pods {
		to := netpol.PodEndpoint(x.namespaces[pod.Namespace], pod)
		class := others.Class(to) + access.JoinPorts(x.intent.declared(pod))
		if to.HostNetwork || targets[class] {
			continue
		}
		targets[class] = true
		for _, port := range slices.Concat(x.intent.Ports, x.intent.declared(pod)) {
			reached := netpol.Port{Protocol: corev1.ProtocolTCP, Number: port}
			said := map[string]bool{}
			for _, caller := range callers {
				verdict := others.Evaluate(caller.Endpoint, to, reached).Ingress
				if verdict.Rule == 0 || own.Evaluate(caller.Endpoint, to, reached).Ingress.Allowed {
					continue
				}
				by := fmt.Sprintf("NetworkPolicy %s lets %%s in by its ingress rule %d", verdict.Policies[0], verdict.Rule)
				if said[by] {
					continue // To more than these.
				}
				said[by] = true
				line := fmt.Sprintf(by, caller.name)
				if !slices.Contains(opened[line], port) {
					opened[line] = append(opened[line], port)
				}
			}
		}
	}
	lines := make([]string, 0, len(opened))
	for line, ports := range opened {
		lines = append(lines, fmt.Sprintf("%s, to ports %s, which this policy closes to them. NetworkPolicies add up: take that rule away, or narrow it.", line, access.JoinPorts(ports)))
	}
	slices.Sort(lines)
	for _, line := range lines {
		x.note(AboutPorts, "%s", line)
	}
	return nil
}

// A caller is somebody outside of the mesh who may try to get in.
type caller struct {
	netpol.Endpoint
	name string
}

// callers are those that the policies may tell apart, the most general first:
// pods and addresses that anybody may come to have, and the pods that there are.
func (x *examination) callers(policies *netpol.Policies) []caller {
	anywhere := netpol.Endpoint{Namespace: "\x00elsewhere", Labels: map[string]string{}}
	within := netpol.Endpoint{Namespace: x.policy.Namespace, NamespaceLabels: x.namespaces[x.policy.Namespace]}
	callers := []caller{{anywhere, "every pod"}, {within, "every pod of its namespace"}}
	known := map[string]bool{policies.Class(anywhere): true, policies.Class(within): true}
	for _, network := range policies.Networks() {
		address := netpol.Endpoint{IPs: []netip.Addr{network.Addr()}}
		if class := policies.Class(address); !known[class] {
			known[class] = true
			callers = append(callers, caller{address, "addresses such as " + network.Addr().String()})
		}
	}
	for _, pod := range x.everywhere {
		if ended(pod) || x.meshed(pod) || pod.Spec.HostNetwork {
			continue
		}
		end := netpol.PodEndpoint(x.namespaces[pod.Namespace], pod)
		if class := policies.Class(end); !known[class] {
			known[class] = true
			callers = append(callers, caller{end, fmt.Sprintf("Pod %s/%s and those like it", pod.Namespace, pod.Name)})
		}
	}
	return callers
}

package guard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
// it is meant to, or, if Refused is set, from being made or changed.
type Finding struct {
	Concern
	Text    string
	Refused bool
}

// Findings looks for what defeats a policy: pods that it does not select or that
// the mesh does not have, ports that nobody closes, and other policies that open
// what it closes or decide about the same pods. It reads shared reads only, of its
// namespace but for what a mesh has for the whole of it.
func (p Policy) Findings(ctx context.Context, compiled Compiled) ([]Finding, error) {
	x := examination{intent: compiled.Intent}
	if err := x.read(ctx, p.Cluster, compiled); err != nil {
		return nil, fmt.Errorf("%s: look for what defeats it: %w", p, err)
	}
	if err := x.examine(); err != nil {
		return nil, err
	}
	return x.findings, nil
}

// An examination is what is known of a policy while it is examined.
type examination struct {
	intent   Intent
	policy   *networkingv1.NetworkPolicy
	others   []*networkingv1.NetworkPolicy // of its namespace
	pods     []*corev1.Pod                 // that it selects
	labels   map[string]string             // of its namespace
	overlaps []access.Overlap              // with its ports, and with others of the pods that it may have to close
	findings []Finding
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
	namespace, err := cluster.Namespace(ctx, x.policy.Namespace)
	switch {
	case err == nil:
		x.labels = namespace.Labels
	case apierrors.IsForbidden(err):
		x.note(AboutPods, "The labels of namespace %s may not be read: whether other policies let pods in by them cannot be told.", x.policy.Namespace)
	default:
		return err
	}
	wider := x.intent
	if wider.ClosesPorts() {
		wider.Closed = slices.Concat(wider.Closed, wider.undeclared(x.pods))
	}
	x.overlaps, err = wider.overlaps(ctx, cluster)
	if apierrors.IsForbidden(err) {
		x.note(AboutPorts, "Whether other objects of %s decide about the same pods cannot be told, as they may not be listed: %v.", meshName(x.intent.Traffic), err)
		return nil
	}
	return err
}

// overlaps are the objects of others in the policy's mesh for the same pods.
func (i Intent) overlaps(ctx context.Context, cluster *kube.Cluster) ([]access.Overlap, error) {
	own := Policy{Namespace: i.Namespace, Name: i.Name}.objects()
	return i.Traffic.Overlaps(ctx, cluster, i.protection(), own.Owns)
}

// governedBy tells whether others already decide about a port.
func governedBy(overlaps []access.Overlap, port int32) bool {
	return slices.ContainsFunc(overlaps, func(o access.Overlap) bool { return slices.Contains(o.Ports, port) })
}

func (x *examination) note(concern Concern, format string, args ...any) {
	x.findings = append(x.findings, Finding{Concern: concern, Text: fmt.Sprintf(format, args...)})
}

func (x *examination) examine() error {
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
		x.overlapping()
	}
	return x.opened()
}

// overlapping tells of the objects of others, once each.
func (x *examination) overlapping() {
	type found struct {
		ports   []int32
		refused bool
	}
	all := map[string]found{}
	for _, overlap := range x.overlaps {
		ports := slices.DeleteFunc(slices.Clone(overlap.Ports), func(port int32) bool {
			return !slices.Contains(x.intent.Ports, port) && !slices.Contains(x.intent.Closed, port)
		})
		if len(overlap.Ports) > 0 && len(ports) == 0 {
			continue // This policy has nothing there.
		}
		object := overlap.Object
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		owner := holding.OwnerOf(object)
		if owner != "" {
			name += " (of " + owner + ")"
		}
		line := name + " " + overlap.Effect
		merged := all[line]
		merged.ports = append(merged.ports, ports...)
		// One of ours may go in the same apply.
		merged.refused = merged.refused || overlap.Refused && owner == ""
		all[line] = merged
	}
	for _, line := range slices.Sorted(maps.Keys(all)) {
		text := line
		if ports := all[line].ports; len(ports) > 0 {
			text += " (port " + access.JoinPorts(slices.Compact(slices.Sorted(slices.Values(ports)))) + ")"
		}
		x.findings = append(x.findings, Finding{AboutPorts, text + ". Make one resource with all ports for a set of pods; " +
			"set require_identity = false where others hold the callers at these ports, and leave ports that they close out of closed_ports.", all[line].refused})
	}
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
	open := slices.DeleteFunc(i.undeclared(pods), func(port int32) bool {
		return slices.Contains(i.Closed, port) || governedBy(x.overlaps, port)
	})
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
	callers := x.callers(own, others)
	for _, to := range x.targets(others) {
		for _, port := range to.ports {
			reached := netpol.Port{Protocol: corev1.ProtocolTCP, Number: port}
			said := map[string]bool{}
			for _, caller := range callers {
				verdict := others.Evaluate(caller.Endpoint, to.Endpoint, reached).Ingress
				if verdict.Rule == 0 || own.Evaluate(caller.Endpoint, to.Endpoint, reached).Ingress.Allowed {
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
	for _, line := range slices.Sorted(maps.Keys(opened)) {
		x.note(AboutPorts, "%s, to ports %s, which this policy closes to them. NetworkPolicies add up: take that rule away, or narrow it.", line, access.JoinPorts(opened[line]))
	}
	return nil
}

// A target is one of the selected pods, or one that will be, and its ports.
type target struct {
	netpol.Endpoint
	ports []int32
}

// targets are the selected pods that the policies tell apart. While there are none
// it is one that has just the labels by which it would be, and the ports that are
// known of it.
func (x *examination) targets(policies *netpol.Policies) []target {
	var targets []target
	known := map[string]bool{}
	for _, pod := range x.pods {
		to := target{netpol.PodEndpoint(x.labels, pod), slices.Concat(x.intent.Ports, x.intent.declared(pod))}
		class := policies.Class(to.Endpoint) + access.JoinPorts(to.ports)
		if !to.HostNetwork && !known[class] {
			known[class] = true
			targets = append(targets, to)
		}
	}
	if len(x.pods) > 0 {
		return targets
	}
	to := target{netpol.Endpoint{Namespace: x.policy.Namespace, NamespaceLabels: x.labels}, slices.Concat(x.intent.Ports, x.intent.Closed)}
	to.Labels = examples(&x.policy.Spec.PodSelector)[0]
	for _, policy := range x.others {
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				if number := port.Port; len(x.intent.Ports) == 0 && number != nil && number.IntVal > 0 {
					to.ports = append(to.ports, number.IntVal)
				}
			}
		}
	}
	if len(to.ports) == 0 {
		to.ports = []int32{80} // Of all that may be, the one that most are.
	}
	return []target{to}
}

// A caller is somebody outside of the mesh who may try to get in.
type caller struct {
	netpol.Endpoint
	name string
}

// callers are those that the policies may tell apart, the most general first: pods
// and addresses that anybody may come to have, and pods that wear just the labels
// that the policies ask for, as anybody may give them to a pod of his.
func (x *examination) callers(own, others *netpol.Policies) []caller {
	anywhere := netpol.Endpoint{Namespace: elsewhere, Labels: map[string]string{}}
	within := netpol.Endpoint{Namespace: x.policy.Namespace, NamespaceLabels: x.labels}
	candidates := []caller{{anywhere, "every pod"}, {within, "every pod of its namespace"}}
	for _, network := range others.Networks() {
		candidates = append(candidates, caller{netpol.Endpoint{IPs: []netip.Addr{network.Addr()}}, "addresses such as " + network.Addr().String()})
	}
	for _, policy := range x.others {
		for _, rule := range policy.Spec.Ingress {
			for _, peer := range rule.From {
				if peer.IPBlock == nil {
					candidates = append(candidates, x.wearers(peer)...)
				}
			}
		}
	}
	known := map[string]bool{}
	return slices.DeleteFunc(candidates, func(c caller) bool {
		class := own.Class(c.Endpoint) + "/" + others.Class(c.Endpoint)
		seen := known[class]
		known[class] = true
		return seen
	})
}

// elsewhere is a namespace that no policy names.
const elsewhere = "\x00elsewhere"

// wearers are pods that a peer of an ingress rule selects.
func (x *examination) wearers(peer networkingv1.NetworkPolicyPeer) []caller {
	ends := []netpol.Endpoint{{Namespace: x.policy.Namespace, NamespaceLabels: x.labels}}
	where := "of its namespace"
	if peer.NamespaceSelector != nil {
		ends, where = nil, "of namespaces with "+metav1.FormatLabelSelector(peer.NamespaceSelector)
		for _, namespaceLabels := range examples(peer.NamespaceSelector) {
			ends = append(ends, netpol.Endpoint{Namespace: cmp.Or(namespaceLabels[corev1.LabelMetadataName], elsewhere), NamespaceLabels: namespaceLabels})
		}
		if len(peer.NamespaceSelector.MatchLabels)+len(peer.NamespaceSelector.MatchExpressions) == 0 {
			where = "of any namespace"
		}
	}
	who := "every pod"
	pods := []map[string]string{{}}
	if peer.PodSelector != nil && len(peer.PodSelector.MatchLabels)+len(peer.PodSelector.MatchExpressions) > 0 {
		who, pods = "pods with "+metav1.FormatLabelSelector(peer.PodSelector), examples(peer.PodSelector)
	}
	var callers []caller
	for _, end := range ends {
		for _, end.Labels = range pods {
			callers = append(callers, caller{end, who + " " + where})
		}
	}
	return callers
}

// examples are sets of no more labels than the selector asks for, at least one:
// with the first of the values that it takes for each, and with every other of them.
func examples(selector *metav1.LabelSelector) []map[string]string {
	first := map[string]string{}
	maps.Copy(first, selector.MatchLabels)
	var others []map[string]string
	for _, needed := range selector.MatchExpressions {
		_, told := first[needed.Key]
		switch {
		case told:
		case needed.Operator == metav1.LabelSelectorOpExists:
			first[needed.Key] = "x"
		case needed.Operator == metav1.LabelSelectorOpIn && len(needed.Values) > 0:
			first[needed.Key] = needed.Values[0]
			for _, value := range needed.Values[1:] {
				others = append(others, map[string]string{needed.Key: value})
			}
		}
	}
	found := []map[string]string{first}
	for _, other := range others {
		labels := maps.Clone(first)
		maps.Copy(labels, other)
		found = append(found, labels)
	}
	return found
}

package linkerd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// AuthorizationFindings says, one line each, what of the policy may not be meant
// or will be refused, by the cluster as it is: by shared reads, and by one of their
// own for each account or namespace that is not there. owned tells the policy's own
// objects from others. That it selects no pods, or pods without a proxy, it leaves
// to others to say.
func (a Authorizer) AuthorizationFindings(ctx context.Context, cluster *kube.Cluster, p access.Policy, owned func(*unstructured.Unstructured) bool) ([]string, error) {
	judge, err := readAuthority(ctx, cluster, nil)
	if err != nil || judge == nil {
		return nil, err
	}
	all, err := cluster.Pods(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	f := findings{policy: p, owned: owned}
	for _, pod := range all {
		if m, is := judge.member(access.End{Pod: pod}); is && labels.SelectorFromSet(p.Pods).Matches(labels.Set(pod.Labels)) {
			f.pods = append(f.pods, m)
		}
	}
	for _, port := range p.Ports {
		f.ofPort(port, judge.rules.servers[p.Namespace])
	}
	f.ofSamePorts()
	missing, err := access.MissingCallers(ctx, cluster, p)
	return append(f.lines, missing...), err
}

// findings collects what is found of a policy.
type findings struct {
	policy access.Policy
	pods   []member // those that it selects, and that have a proxy
	owned  func(*unstructured.Unstructured) bool
	lines  []string
}

func (f *findings) say(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(f.lines, line) {
		f.lines = append(f.lines, line)
	}
}

// ofPort looks at one port of the policy, with the Servers of the namespace.
func (f *findings) ofPort(port access.Port, servers []gate) {
	mine := gate{selector: labels.SelectorFromSet(f.policy.Pods), port: port}
	governed, taken := false, false
	for _, s := range servers {
		if f.owned(s.object) {
			governed = governed || s.port == port
			continue
		}
		if f.overlaps(mine, s) {
			taken = true
			f.say("Server %s/%s is for port %s of the same pods: Linkerd refuses a second one, or picks one of them; delete it, or select other pods",
				s.namespace, s.name, port.String())
		}
	}
	declared, defaults := false, []string{}
	for _, m := range f.pods {
		ports := mine.ports(m.pod)
		declared = declared || slices.ContainsFunc(ports, func(number int32) bool { return declares(m.pod, number) })
		for _, number := range ports {
			if listed(m.skipsInbound(), number) {
				f.say("port %d bypasses the proxies (%s or the chart value proxyInit.ignoreInboundPorts): everybody reaches it whatever is authorized", number, SkipInboundPortsAnnotation)
			}
			if m.opaquePort(number) && f.policy.Protocol != opaqueProtocol && f.policy.Protocol != "TLS" {
				f.say("port %s is opaque to the proxies (%s), and no more once a Server for it says otherwise: servers that speak first would wait for ten seconds; set the protocol to %s",
					port.String(), OpaquePortsAnnotation, opaqueProtocol)
			}
			f.ofProbes(m, port, number)
			f.ofHooks(m, port, number)
		}
		if policy := m.inboundPolicy(); len(ports) > 0 && policy != "deny" && !slices.Contains(defaults, policy) {
			defaults = append(defaults, policy)
		}
	}
	switch {
	case len(f.pods) == 0:
	case !declared && port.Type == intstr.String:
		f.say("no container of the selected pods names a port %s: a Server for it governs nothing", port.String())
		return
	case !declared && port.IntVal != adminPort:
		f.say("no container of the selected pods declares port %s: by its documentation Linkerd governs declared ports only; add it to the ports of the container", port.String())
	}
	if !governed && !taken && len(defaults) > 0 {
		slices.Sort(defaults)
		f.say("so far no Server is for port %s of the selected pods, and their default inbound policy is %s: once there is one, all callers but the granted are refused",
			port.String(), strings.Join(defaults, " or "))
	}
}

// refusedBeside tells whether the admission webhook refuses one Server beside another.
func refusedBeside(mine, other gate) bool {
	return mine.port == other.port && (mine.selector.Empty() || other.selector.Empty() || mine.selector.String() == other.selector.String())
}

// overlaps tells whether two Servers are for a port of the same pods, or plainly
// will be.
func (f *findings) overlaps(mine, other gate) bool {
	if refusedBeside(mine, other) {
		return true
	}
	return slices.ContainsFunc(f.pods, func(m member) bool {
		return other.selector.Matches(labels.Set(m.pod.Labels)) &&
			slices.ContainsFunc(other.ports(m.pod), func(port int32) bool { return slices.Contains(mine.ports(m.pod), port) })
	})
}

// ofHooks looks for what kubelets call when a container starts or stops, which is
// none of the probes that Linkerd lets in.
func (f *findings) ofHooks(m member, port access.Port, number int32) {
	if f.byAddress() {
		return
	}
	for _, container := range m.pod.Spec.Containers {
		if container.Lifecycle == nil {
			continue
		}
		for _, hook := range []*corev1.LifecycleHandler{container.Lifecycle.PostStart, container.Lifecycle.PreStop} {
			if hook == nil || hook.HTTPGet == nil {
				continue
			}
			called := gate{port: hook.HTTPGet.Port}
			if slices.Contains(called.ports(m.pod), number) {
				f.say("port %s is called by a lifecycle hook, at %s, and kubelets have no identity: grant the addresses of the nodes, or have the hook call another port", port.String(), hook.HTTPGet.Path)
			}
		}
	}
}

func declares(pod *corev1.Pod, number int32) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number })
	})
}

// byAddress tells whether some callers need nothing but their address.
func (f *findings) byAddress() bool {
	return f.policy.MTLS != access.StrictMTLS && slices.ContainsFunc(f.policy.Grants, func(g access.Grant) bool {
		return len(g.Routes) == 0 && slices.ContainsFunc(g.Callers, func(c access.Caller) bool { return c.Network != nil })
	})
}

// ofSamePorts looks for two ports of the policy that are one of a pod, by its name
// and by its number.
func (f *findings) ofSamePorts() {
	for i, port := range f.policy.Ports {
		for _, other := range f.policy.Ports[:i] {
			for _, m := range f.pods {
				numbers := gate{port: other}.ports(m.pod)
				if slices.ContainsFunc(gate{port: port}.ports(m.pod), func(number int32) bool { return slices.Contains(numbers, number) }) {
					f.say("ports %s and %s are the same of some pods: Linkerd refuses a second Server for it, or picks one of the two; name it once", other.String(), port.String())
				}
			}
		}
	}
}

// ofProbes looks for probes of a pod that its proxy would refuse.
func (f *findings) ofProbes(m member, port access.Port, number int32) {
	routed := slices.ContainsFunc(f.policy.Grants, func(g access.Grant) bool { return len(g.Routes) > 0 })
	for _, probe := range access.ProbesOf([]*corev1.Pod{m.pod}) {
		route := probeRoute(probe)
		switch {
		case probe.Port != number:
		case probe.TLS:
			if !f.byAddress() {
				f.say("port %s is probed by HTTPS at %s, where proxies see no request to let in, and kubelets have no identity: grant the addresses of the nodes, or probe another port", port.String(), probe.Path)
			}
		case slices.Contains(protocolsWithoutRoutes(), f.policy.Protocol):
			f.say("port %s is probed by %s %s, which proxies do not tell from other traffic where the protocol is %s, and refuse unless its address is granted: leave the protocol out",
				port.String(), route.Methods[0], route.Path, f.policy.Protocol)
		case (routed || probe.GRPC) && !slices.ContainsFunc(f.policy.Probes, func(known access.Probe) bool {
			return known.GRPC == probe.GRPC && known.Path == probe.Path && (known.Port == probe.Port || known.Name != "" && known.Name == port.StrVal)
		}):
			f.say("port %s is probed by %s %s, which nothing lets in: the pods would not be taken for alive or ready", port.String(), route.Methods[0], route.Path)
		}
	}
}

package istio

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// AuthorizationFindings says, one line each, what of the policy may not be meant or
// will be refused, by the cluster as it is and by shared reads. owned tells the
// policy's own objects from others. That it selects no pods, or pods without a
// proxy, it leaves to others to say.
func (Authorizer) AuthorizationFindings(ctx context.Context, cluster *kube.Cluster, p access.Policy, owned func(*unstructured.Unstructured) bool) ([]string, error) {
	f := findings{policy: p}
	foreign := func(object *unstructured.Unstructured) bool {
		f.inForce = f.inForce || owned(object) && object.GetKind() == authorizationPolicies.Name
		return !owned(object)
	}
	configs, err := meshConfigsIn(ctx, cluster)
	if err != nil {
		return nil, err
	}
	policies, err := placedIn[authorization](ctx, cluster, authorizationPolicies, foreign)
	if err != nil {
		return nil, err
	}
	authentications, err := placedIn[peerAuthentication](ctx, cluster, peerAuthentications, foreign)
	if err != nil {
		return nil, err
	}
	if f.rules, err = placedIn[destinationRule](ctx, cluster, destinationRules, foreign); err != nil {
		return nil, err
	}
	if f.services, err = cluster.Services(ctx, p.Namespace); err != nil {
		return nil, err
	}
	if err := f.readPods(ctx, cluster); err != nil {
		return nil, err
	}
	f.others = newEnforcement(configs, policies, authentications, nil, nil)
	lines := f.all()
	missing, err := access.MissingCallers(ctx, cluster, p)
	return append(lines, missing...), err
}

// findings are what is found of a policy.
type findings struct {
	policy   access.Policy
	inForce  bool         // the policy has an object already
	others   *enforcement // by all objects but the policy's own
	services []*corev1.Service
	rules    []placed[destinationRule]
	targets  []access.End // the pods of the policy that are in the mesh
	pods     []access.End // all that run
	lines    []string
	about    []remark // those of the lines that are about another object
}

// A remark is what is found of an object.
type remark struct{ object, effect string }

func (f *findings) readPods(ctx context.Context, cluster *kube.Cluster) error {
	namespaces, err := cluster.Namespaces(ctx)
	if err != nil {
		return err
	}
	byName := map[string]*corev1.Namespace{}
	for _, namespace := range namespaces {
		byName[namespace.Name] = namespace
	}
	pods, err := cluster.Pods(ctx, "")
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		end := access.End{Namespace: byName[pod.Namespace], Pod: pod}
		f.pods = append(f.pods, end)
		if pod.Namespace == f.policy.Namespace && roleOf(end) != outside && selects(f.policy.Pods, pod.Labels) {
			f.targets = append(f.targets, end)
		}
	}
	return nil
}

func (f *findings) all() []string {
	f.ofPorts()
	f.ofProbes()
	f.ofPolicies()
	f.ofAuthentications()
	f.ofDestinationRules()
	f.ofRoutes()
	f.ofCallers()
	return f.lines
}

func (f *findings) say(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(f.lines, line) {
		f.lines = append(f.lines, line)
	}
}

// remark says something of another object.
func (f *findings) remark(of fmt.Stringer, effect string) {
	f.say("%s %s", of, effect)
	f.about = append(f.about, remark{of.String(), effect})
}

// declared are the TCP ports that the containers of the targets declare, those of
// the proxies left out.
func (f *findings) declared() []int32 {
	var ports []int32
	for _, target := range f.targets {
		for _, container := range slices.Concat(target.Pod.Spec.InitContainers, target.Pod.Spec.Containers) {
			for _, port := range container.Ports {
				if container.Name != proxyContainer && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
					ports = append(ports, port.ContainerPort)
				}
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// named are the numbers of the policy's ports.
func (f *findings) named() []int32 {
	var ports []int32
	for _, port := range f.policy.Ports {
		ports = append(ports, port.IntVal)
	}
	return ports
}

func (f *findings) ofPorts() {
	declared, ports := f.declared(), f.named()
	for _, port := range ports {
		if len(f.targets) > 0 && !slices.Contains(declared, port) {
			f.say("no container of the selected pods declares port %d: make sure that it is the container's and not the Service's", port)
		}
	}
	if f.policy.AllPorts {
		ports = declared
	}
	for _, target := range f.targets {
		for _, port := range ports {
			if why := bypassed(target.Pod, port); why != "" && roleOf(target) == inSidecar {
				f.say("port %d does not lead through the sidecars (%s): everybody reaches it whatever is authorized", port, why)
			}
		}
	}
}

// ofProbes looks for probes that sidecars take for traffic of the application's.
func (f *findings) ofProbes() {
	for _, target := range f.targets {
		for _, probe := range strayProbes(target.Pod) {
			f.say("port %d is probed, and the probe does not go by Istio's agent (%s): the sidecar refuses it, as it shows no identity", probe.Port, rewriteProbes)
		}
	}
}

// ofPolicies looks at the other policies that are for the same pods.
func (f *findings) ofPolicies() {
	allowed := false
	for _, policy := range f.others.policies {
		if !slices.ContainsFunc(f.targets, func(target access.End) bool {
			return governs(policy, f.others.configOf(target.Pod), roleOf(target), target.Pod)
		}) {
			continue
		}
		switch policy.spec.Action {
		case denyAction:
			f.remark(policy, "is for the same pods and denies what its rules are about, whatever is allowed here")
		case customAction:
			f.remark(policy, "is for the same pods and asks an authorizer first, whatever is allowed here")
		case auditAction:
		default:
			allowed = true
			f.remark(policy, "is for the same pods and allows what its rules are about besides: those that allow add up")
		}
	}
	if allowed || f.inForce || len(f.targets) == 0 {
		return
	}
	var closed []int32
	if !f.policy.AllPorts {
		closed = slices.DeleteFunc(f.declared(), func(port int32) bool { return slices.Contains(f.named(), port) })
	}
	line := "so far no AuthorizationPolicy restricts the selected pods: from now on all callers but those named are refused"
	if len(closed) > 0 {
		line += fmt.Sprintf(", and at the ports that it does not name everybody is (%s)", access.JoinPorts(closed))
	}
	f.say("%s", line)
}

// ofAuthentications looks at the other PeerAuthentications of the same scope, of
// which the oldest decides, and for callers that mTLS shuts out.
func (f *findings) ofAuthentications() {
	if f.policy.MTLS == "" {
		return
	}
	for _, other := range f.others.authentications {
		selector := other.spec.Selector.labels()
		switch {
		case other.namespace != f.policy.Namespace:
		case len(f.policy.Pods) == 0 && len(selector) == 0:
			f.remark(other, "is for the whole namespace, too, and the oldest of them decides: delete it")
		case len(f.policy.Pods) == 0 && len(selector) > 0:
			f.remark(other, fmt.Sprintf("decides for the pods with the labels %s instead", labels.Set(selector)))
		case len(selector) > 0 && slices.ContainsFunc(f.targets, func(target access.End) bool {
			return selects(selector, target.Pod.Labels)
		}):
			f.remark(other, "is for the same pods by their labels, and the oldest of them decides: delete it, or do without one here")
		}
	}
	if f.policy.MTLS != access.StrictMTLS {
		return
	}
	var unmeshed []string
	for _, end := range f.pods {
		if end.Pod.Namespace == f.policy.Namespace && roleOf(end) == outside {
			unmeshed = append(unmeshed, end.Pod.Name)
		}
	}
	if len(unmeshed) > 0 {
		f.say("pods of the namespace are outside the mesh, and strict mTLS refuses them as callers: %s", kube.Few(unmeshed))
	}
}

// ofDestinationRules looks for those that have callers do without mTLS of the
// mesh.
func (f *findings) ofDestinationRules() {
	for _, service := range f.services {
		if len(service.Spec.Selector) == 0 || !slices.ContainsFunc(f.targets, func(target access.End) bool {
			return selects(service.Spec.Selector, target.Pod.Labels)
		}) {
			continue
		}
		for _, rule := range f.rules {
			if mode := rule.spec.foreignTLS(); mode != "" && rule.spec.isFor(rule.namespace, service) {
				f.say("DestinationRule %s/%s has clients call Service %s/%s with tls.mode %s instead of mTLS of the mesh: they show no identity, and are refused wherever one is asked for",
					rule.namespace, rule.name, service.Namespace, service.Name, mode)
			}
		}
	}
}

// ofRoutes looks for ports of Services that are no HTTP by their own words, where
// rules with routes let nobody in.
func (f *findings) ofRoutes() {
	if !slices.ContainsFunc(f.policy.Grants, func(g access.Grant) bool { return len(g.Routes) > 0 }) {
		return
	}
	for _, service := range f.services {
		for _, target := range f.targets {
			if len(service.Spec.Selector) == 0 || !selects(service.Spec.Selector, target.Pod.Labels) {
				continue
			}
			for _, port := range service.Spec.Ports {
				protocol := protocolOf(port)
				if number := targetOf(port, target.Pod); protocol != "" && (f.policy.AllPorts || slices.Contains(f.named(), number)) {
					f.say("port %d is %s by Service %s/%s, and routes are of HTTP: grants with routes let nobody in there; name the Service's port http-… or grpc-…, or set its appProtocol",
						number, protocol, service.Namespace, service.Name)
				}
			}
		}
	}
}

// protocolOf is a protocol other than HTTP that a Service's port says; empty if it
// says none, as HTTP is found out then.
func protocolOf(port corev1.ServicePort) string {
	protocol, _, _ := strings.Cut(port.Name, "-")
	if port.AppProtocol != nil {
		protocol = *port.AppProtocol
	}
	if protocol = strings.ToLower(protocol); slices.Contains([]string{"tcp", "tls", "https", "mongo", "mysql", "redis"}, protocol) {
		return protocol
	}
	return ""
}

// targetOf is the number of a Service's port at a pod.
func targetOf(port corev1.ServicePort, pod *corev1.Pod) int32 {
	if port.TargetPort.StrVal != "" {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			for _, named := range container.Ports {
				if named.Name == port.TargetPort.StrVal {
					return named.ContainerPort
				}
			}
		}
		return 0
	}
	if port.TargetPort.IntVal != 0 {
		return port.TargetPort.IntVal
	}
	return port.Port
}

// ofCallers looks for pods that are let in by an identity which they cannot show.
func (f *findings) ofCallers() {
	for _, grant := range f.policy.Grants {
		for _, caller := range grant.Callers {
			strangers := f.strangers(caller)
			for _, why := range slices.Sorted(maps.Keys(strangers)) {
				f.say("pods of %s, which is let in by its identity, are refused (%s): %s", callerName(caller), why, kube.Few(strangers[why]))
			}
		}
	}
}

func callerName(caller access.Caller) string {
	if caller.Account != nil {
		return "ServiceAccount " + caller.Account.String()
	}
	return "Namespace " + caller.Namespace
}

// strangers are the pods of a caller that show some target no identity, by why
// they do not.
func (f *findings) strangers(caller access.Caller) map[string][]string {
	found := map[string][]string{}
	for _, end := range f.pods {
		pod := end.Pod
		account := caller.Account != nil && *caller.Account == access.Account{Namespace: pod.Namespace, Name: accountOf(pod)}
		if !account && (caller.Namespace == "" || caller.Namespace != pod.Namespace) {
			continue
		}
		if roleOf(end) == outside {
			found["they are outside the mesh"] = append(found["they are outside the mesh"], pod.Namespace+"/"+pod.Name)
			continue
		}
		for _, target := range f.targets {
			if roleOf(target) != inSidecar && roleOf(target) != inAmbient {
				continue
			}
			call := f.others.callOf(end, target, netpol.Port{Protocol: corev1.ProtocolTCP}, modeBy{})
			if call.principal == "" {
				why := strings.TrimPrefix(call.why, ": ")
				found[why] = append(found[why], pod.Namespace+"/"+pod.Name)
				break
			}
		}
	}
	return found
}

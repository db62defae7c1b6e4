package linkerd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// DataPlane are the checks of the proxies of workloads: `linkerd check --proxy`.
func (h Health) DataPlane() []check.Check {
	const category = "linkerd-data-plane"
	proxies := func(judge func([]*corev1.Pod) error) func(context.Context) error {
		return check.On(h.pods, func(pods []*corev1.Pod) error {
			meshed := h.meshed(pods, "")
			if len(meshed) == 0 {
				return check.Skipf("no pod is in the mesh but the control plane's")
			}
			return judge(meshed)
		})
	}
	return []check.Check{
		of(category, "l5d-data-plane-exists", "data plane namespace exists", 0, check.Skipping("all namespaces are looked at")),
		of(category, "l5d-data-plane-ready", "data plane proxies are ready", fatal, proxies(proxiesReady)).Awaiting(kube.Pod),
		of(category, "l5d-data-plane-version", "data plane is up-to-date", warns, with(h, h.subjects, func(p plane, s subjects) error {
			return proxiesCurrent(p, s.namespaces, h.meshed(s.pods, ""))
		})),
		of(category, "l5d-data-plane-cli-version", "data plane and cli versions match", warns, check.Skipping(noCommandLine)),
		of(category, "l5d-data-plane-pod-labels", "data plane pod labels are configured correctly", warns, proxies(misplacedOnPods)),
		of(category, "l5d-data-plane-services-labels", "data plane service labels are configured correctly", warns, check.On(h.services, serviceLabels)),
		of(category, "l5d-data-plane-services-annotations", "data plane service annotations are configured correctly", warns, check.On(h.services, serviceAnnotations)),
		of(category, "linkerd-opaque-ports-definition", "opaque ports are properly annotated", warns, check.On(h.subjects, func(s subjects) error {
			return opaquePorts(s.services, h.meshed(s.pods, ""))
		})),
		of("linkerd-identity-data-plane", "l5d-identity-data-plane-proxies-certs-match-ca", "data plane proxies certificate match CA", warns, check.On(h.anchored, anchorsMatch)),
	}
}

// subjects are what checks of the data plane look at together.
type subjects struct {
	namespaces []*corev1.Namespace
	services   []*corev1.Service
	pods       []*corev1.Pod
}

func (h Health) subjects(ctx context.Context) (s subjects, err error) {
	if s.namespaces, err = h.Cluster.Namespaces(ctx); err != nil {
		return s, err
	}
	if s.services, err = h.services(ctx); err != nil {
		return s, err
	}
	s.pods, err = h.pods(ctx)
	return s, err
}

func proxiesReady(meshed []*corev1.Pod) error {
	var waiting []string
	for _, pod := range meshed {
		if !mesh.ContainerReady(pod, ProxyContainer) {
			waiting = append(waiting, podRef(pod).String())
		}
	}
	return check.Lacking("the proxy is not ready of ", waiting, "; kubectl logs -c "+ProxyContainer+" tells why")
}

// proxiesCurrent tells which proxies are not of the version that the control plane
// gives, unless their pod or namespace asks for another.
func proxiesCurrent(p plane, namespaces []*corev1.Namespace, meshed []*corev1.Pod) error {
	want := p.proxyVersion()
	pinned := map[string]bool{}
	for _, n := range namespaces {
		pinned[n.Name] = n.Annotations[proxyVersionOverride] != ""
	}
	var stale []string
	for _, pod := range meshed {
		shown := (Injection{}).Proxy(pod).Version
		if shown != "" && shown != want && pod.Annotations[proxyVersionOverride] == "" && !pinned[pod.Namespace] {
			stale = append(stale, fmt.Sprintf("%s (%s)", podRef(pod), shown))
		}
	}
	return check.Lacking("the control plane gives proxies of version "+want+", and others are in ", stale, "; restart their workloads (kubectl rollout restart, or restart of aksmesh_injection)")
}

func misplacedOnPods(meshed []*corev1.Pod) error {
	var wrong []string
	for _, pod := range meshed {
		for _, line := range (Injection{}).Misplaced(mesh.OnTemplate, mesh.Mark{Labels: pod.Labels}) {
			wrong = append(wrong, podRef(pod).String()+": "+line)
		}
	}
	return check.Lacking("", wrong, "")
}

func serviceLabels(services []*corev1.Service) error {
	var wrong []string
	for _, s := range services {
		for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
			if ours(key) {
				wrong = append(wrong, fmt.Sprintf("%s has the label %s", serviceRef(s), key))
			}
		}
	}
	return check.Lacking("", wrong, ", which Linkerd reads as an annotation only: make it one")
}

// exportedLabel has a Service mirrored by other clusters.
const exportedLabel = mirrorPrefix + "exported"

func serviceAnnotations(services []*corev1.Service) error {
	var wrong []string
	for _, s := range services {
		if _, set := s.Annotations[exportedLabel]; set {
			wrong = append(wrong, serviceRef(s).String())
		}
	}
	return check.Lacking("the annotation "+exportedLabel+", which Linkerd reads as a label only, is on ", wrong, ": make it a label")
}

// opaquePorts tells where a Service and the pods behind it do not say the same of
// a port: then one side of a connection looks into it, and the other does not.
func opaquePorts(services []*corev1.Service, meshed []*corev1.Pod) error {
	behind := map[string][]*corev1.Pod{}
	for _, pod := range meshed {
		behind[pod.Namespace] = append(behind[pod.Namespace], pod)
	}
	var differing []string
	for _, s := range services {
		said, set := s.Annotations[OpaquePortsAnnotation]
		if !set || len(s.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(s.Spec.Selector)
		for _, pod := range behind[s.Namespace] {
			if !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			for _, port := range s.Spec.Ports {
				target := targetPort(port, pod)
				if opaque := covers(said, port.Port); opaque != covers(pod.Annotations[OpaquePortsAnnotation], target) {
					differing = append(differing, fmt.Sprintf("port %d of %s is opaque by the annotation of only one of %s and %s", port.Port, s.Name, serviceRef(s), podRef(pod)))
				}
			}
			break // The others are made from the same template.
		}
	}
	return check.Lacking("", differing, "; say the same of it by "+OpaquePortsAnnotation+" on the Service and on the pod template")
}

// targetPort is the port of a pod that a Service's leads to.
func targetPort(port corev1.ServicePort, pod *corev1.Pod) int32 {
	if port.TargetPort.StrVal != "" {
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				if p.Name == port.TargetPort.StrVal {
					return p.ContainerPort
				}
			}
		}
	}
	if port.TargetPort.IntVal != 0 {
		return port.TargetPort.IntVal
	}
	return port.Port
}

// covers reports whether a list of ports and ranges has a port.
func covers(ports string, port int32) bool {
	for text := range strings.SplitSeq(ports, ",") {
		if first, last, err := portRange(strings.TrimSpace(text)); err == nil && port >= 0 && first <= uint64(port) && uint64(port) <= last {
			return true
		}
	}
	return false
}

// anchored is what proxies were given to trust, and what they would be given now.
type anchored struct {
	published pki.Bundle
	given     map[string][]string // pods by the bundle that they were given
}

func (h Health) anchored(ctx context.Context) (anchored, error) {
	trust := Trust{Cluster: h.Cluster, Namespace: h.Namespace}
	found := anchored{given: map[string][]string{}}
	var err error
	if found.published, err = trust.Published(ctx, nil); err != nil {
		return found, err
	}
	pods, err := h.pods(ctx)
	for _, pod := range h.meshed(pods, "") {
		if bundle, ok := trust.Trusts(pod); ok {
			found.given[bundle] = append(found.given[bundle], podRef(pod).String())
		}
	}
	return found, err
}

// anchorsMatch tells which proxies trust others than those that are published. The
// order of anchors makes no difference.
func anchorsMatch(a anchored) error {
	if len(a.given) == 0 {
		return check.Skipf("no pod is in the mesh but the control plane's")
	}
	want := slices.Sorted(slices.Values(a.published.Fingerprints()))
	var others []string
	for _, text := range slices.Sorted(maps.Keys(a.given)) {
		bundle, err := pki.ParseBundle([]byte(text))
		if err != nil || !slices.Equal(slices.Sorted(slices.Values(bundle.Fingerprints())), want) {
			others = append(others, a.given[text]...)
		}
	}
	slices.Sort(others)
	return check.Lacking("trust anchors other than those that are published now are trusted by ", others, "; restart their workloads")
}

func serviceRef(s *corev1.Service) kube.Ref {
	return kube.Ref{Kind: kube.Service, Namespace: s.Namespace, Name: s.Name}
}

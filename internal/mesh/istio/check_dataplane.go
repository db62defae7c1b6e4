package istio

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// supportedSkew is how many minor versions a sidecar may be behind its istiod.
const supportedSkew = 2

// proxyUser is the user that sidecars run as, whose traffic is not redirected.
const proxyUser = 1337

// DataPlane are the checks of the proxies of workloads.
func (h Health) DataPlane() []check.Check {
	const analyze, status = "istio-analyze", "istio-proxy-status"
	return []check.Check{
		of(status, "istio-proxies-ready", "proxies are ready", 0, h.proxies(proxiesReady)).Awaiting(kube.Pod),
		of(status, "istio-proxies-version", "proxies are of versions that istiod supports", 0, h.proxies(proxiesSupported)),
		of(status, "istio-proxies-revision", "proxies are of a revision that is there", 0, h.proxies(revisionsKnown)),
		of(status, "istio-proxies-synced", "istiod has sent proxies their configuration", warns, check.Skipping("istiod tells that over a connection of its own (istioctl proxy-status)")),
		analysis(analyze, "IST0158", "proxies have the image that their istiod injects", warns, h.proxies(imagesCurrent)),
		analysis(analyze, "IST0103", "pods of enrolled namespaces have a proxy", warns, check.On(h.members, notMissing)),
		analysis(analyze, "IST0123", "namespaces have labels for one injector only", warns, check.On(h.Cluster.Namespaces, labelsOfNamespaces)),
		analysis(analyze, "IST0107", "labels and annotations are where Istio reads them", warns, check.On(h.members, labelsOfPods)),
		analysis(analyze, "IST0144", "applications do not run as the user of the proxy", warns, h.proxies(usersApart)),
		of(analyze, "istio-namespaces-revision", "namespaces name a revision or tag that is there", 0, func(ctx context.Context) error {
			return check.On(h.injectors, func(injectors []injector) error {
				return check.On(h.Cluster.Namespaces, func(namespaces []*corev1.Namespace) error { return revisionsNamed(injectors, namespaces) })(ctx)
			})(ctx)
		}),
	}
}

func (h Health) injectors(ctx context.Context) ([]injector, error) {
	return injectorsIn(ctx, h.Cluster)
}

// A proxied is a pod with what it shows of its proxy.
type proxied struct {
	*corev1.Pod

	mesh.Proxy
}

// proxies is a Run that judges the pods with a sidecar by the control plane.
func (h Health) proxies(judge func(sidecarPlane, []proxied) error) func(context.Context) error {
	return func(ctx context.Context) error {
		p, err := h.plane(ctx)
		if err != nil {
			return err
		}
		return check.On(h.pods, func(pods []*corev1.Pod) error {
			var all []proxied
			for _, pod := range pods {
				if shown := (Injection{}).Proxy(pod); !isZtunnel(pod) && (shown.Mode == mesh.Sidecar || shown.Mode == mesh.NativeSidecar) {
					all = append(all, proxied{pod, shown})
				}
			}
			if len(all) == 0 {
				return check.Skipf("no pod has a sidecar")
			}
			return judge(p, all)
		})(ctx)
	}
}

func proxiesReady(_ sidecarPlane, pods []proxied) error {
	var waiting []string
	for _, pod := range pods {
		if !pod.Ready {
			waiting = append(waiting, podRef(pod.Pod).String())
		}
	}
	return check.Lacking("the proxy is not ready of ", waiting, "; kubectl logs -c "+proxyContainer+" tells why")
}

// current is what the istiod of a pod's revision injects by; nil if that is not known.
func (p sidecarPlane) current(pod proxied) *injectorConfig {
	if r := p.revisions[pod.Revision]; r != nil {
		return r.config
	}
	return nil
}

// proxiesSupported tells which proxies are too old for their istiod, or newer.
func proxiesSupported(p sidecarPlane, pods []proxied) error {
	var apart []string
	for _, pod := range pods {
		config := p.current(pod)
		if config == nil {
			continue
		}
		if behind, known := minorsApart(versionOf(config.image), pod.Version); known && (behind > supportedSkew || behind < 0) {
			apart = append(apart, fmt.Sprintf("%s (%s, and its istiod is of %s)", podRef(pod.Pod), pod.Version, versionOf(config.image)))
		}
	}
	return check.Lacking(fmt.Sprintf("proxies may be up to %d minor versions older than their istiod, and not newer; others are in ", supportedSkew), apart, "; restart their workloads")
}

func revisionsKnown(p sidecarPlane, pods []proxied) error {
	var lost []string
	for _, pod := range pods {
		known := slices.ContainsFunc(p.injectors, func(i injector) bool { return i.revision == pod.Revision })
		if pod.Revision != "" && !known {
			lost = append(lost, fmt.Sprintf("%s (%s)", podRef(pod.Pod), pod.Revision))
		}
	}
	return check.Lacking("the revision that has injected them is not there any more, so proxies get neither configuration nor certificates, in ", lost, "; move their namespaces to another revision, and restart their workloads")
}

// imagesCurrent tells which proxies have another image than would be injected now.
// Images that somebody else chooses do not count.
func imagesCurrent(p sidecarPlane, pods []proxied) error {
	var stale []string
	for _, pod := range pods {
		config := p.current(pod)
		if config == nil || pod.Annotations[proxyImageAnnotation] != "" || pod.CreationTimestamp.After(config.changed) || sameImage(pod.Image, config.image) {
			continue
		}
		stale = append(stale, fmt.Sprintf("%s (%s instead of %s)", podRef(pod.Pod), pod.Image, config.image))
	}
	return check.Lacking("other images than istiod injects are in ", stale, "; restart their workloads (kubectl rollout restart, or restart of aksmesh_injection)")
}

func usersApart(_ sidecarPlane, pods []proxied) error {
	is := func(context *corev1.PodSecurityContext, container *corev1.SecurityContext) bool {
		if container != nil && container.RunAsUser != nil {
			return *container.RunAsUser == proxyUser
		}
		return context != nil && context.RunAsUser != nil && *context.RunAsUser == proxyUser
	}
	var same []string
	for _, pod := range pods {
		for _, c := range pod.Spec.Containers {
			if c.Name != proxyContainer && is(pod.Spec.SecurityContext, c.SecurityContext) {
				same = append(same, fmt.Sprintf("container %s of %s", c.Name, podRef(pod.Pod)))
			}
		}
	}
	return check.Lacking(fmt.Sprintf("run as user %d, the proxy's own, whose traffic does not pass through the proxy: ", proxyUser), same, "; choose another runAsUser")
}

// members are pods with their namespaces.
type members struct {
	namespaces map[string]*corev1.Namespace
	pods       []*corev1.Pod
}

func (h Health) members(ctx context.Context) (members, error) {
	m := members{namespaces: map[string]*corev1.Namespace{}}
	all, err := h.Cluster.Namespaces(ctx)
	if err != nil {
		return m, err
	}
	for _, n := range all {
		m.namespaces[n.Name] = n
	}
	m.pods, err = h.pods(ctx)
	return m, err
}

// notMissing tells which pods should have a proxy and have none.
func notMissing(m members) error {
	var without []string
	for _, pod := range m.pods {
		namespace := m.namespaces[pod.Namespace]
		if namespace == nil || !(Injection{}).Claims(mesh.MarkOf(namespace), mesh.MarkOf(pod)) {
			continue
		}
		ambient := claimsAmbient(mesh.MarkOf(namespace), mesh.MarkOf(pod)) && !claimsSidecar(mesh.MarkOf(namespace), mesh.MarkOf(pod))
		if i := (Injection{Ambient: ambient}); i.Proxy(pod).Mode == "" && i.Exempt(pod) == "" && !slices.Contains(neverInjected, pod.Namespace) {
			without = append(without, podRef(pod).String())
		}
	}
	return check.Lacking("enrolled, and without a proxy: ", without, "; they were made before their namespace was enrolled, or while the injector was not available: restart their workloads")
}

func labelsOfNamespaces(namespaces []*corev1.Namespace) error {
	var wrong []string
	for _, n := range namespaces {
		for _, line := range (Injection{}).Misplaced(mesh.OnNamespace, mesh.MarkOf(n)) {
			wrong = append(wrong, "Namespace "+n.Name+": "+line)
		}
	}
	return check.Lacking("", wrong, "")
}

func labelsOfPods(m members) error {
	var wrong []string
	for _, pod := range m.pods {
		// The injector itself annotates pods.
		for _, line := range (Injection{}).Misplaced(mesh.OnTemplate, mesh.Mark{Labels: pod.Labels}) {
			wrong = append(wrong, podRef(pod).String()+": "+line)
		}
	}
	return check.Lacking("", wrong, "")
}

// revisionsNamed tells which namespaces are enrolled in a revision that nothing
// injects for.
func revisionsNamed(injectors []injector, namespaces []*corev1.Namespace) error {
	var lost []string
	for _, n := range namespaces {
		name := n.Labels[revisionLabel]
		if name != "" && n.Labels[injectionLabel] == "" && len(answering(injectors, name)) == 0 {
			lost = append(lost, fmt.Sprintf("Namespace %s (%s=%s)", n.Name, revisionLabel, name))
		}
	}
	return check.Lacking("no injector is of the revision or tag that is named by ", lost, there(injectors)+": install it, or move the namespaces")
}

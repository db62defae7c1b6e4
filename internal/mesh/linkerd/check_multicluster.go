package linkerd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// Labels of the multicluster extension, and its CRD.
const (
	mirrorPrefix  = "mirror.linkerd.io/"
	clusterLabel  = mirrorPrefix + "cluster-name"
	mirroredLabel = mirrorPrefix + "mirrored-service"
	gatewayLabel  = mirrorPrefix + "mirrored-gateway"
	linkCRD       = "links.multicluster.linkerd.io"

	// Labels and annotations of mirrors that proxies reach without endpoints: they
	// find the pods in the other clusters, or of a federated service in all.
	remoteDiscovery = "multicluster.linkerd.io/remote-discovery"
	localDiscovery  = "multicluster.linkerd.io/local-discovery"
)

// Multicluster are the checks of the multicluster extension, as far as this
// cluster knows: `linkerd multicluster check`.
func (h Health) Multicluster() []check.Check {
	const category, name = "linkerd-multicluster", "multicluster"
	const remote = "it would need a connection to the other clusters"
	links := check.Once(h.links)
	onMirrors := func(judge func(mirrors) error) func(context.Context) error {
		return func(ctx context.Context) error {
			linked, err := links(ctx)
			if err != nil {
				return err
			}
			if len(linked) == 0 {
				return check.Skipf("no cluster is linked")
			}
			return h.podsOf(name, func(pods []*corev1.Pod) error { return judge(mirrors{linked, controllers(pods)}) })(ctx)
		}
	}
	return append([]check.Check{
		of(category, "l5d-multicluster-link-crd-exists", "Link CRD exists", fatal, h.existing(kube.CustomResourceDefinition, linkCRD)),
		of(category, "l5d-multicluster-links-are-valid", "Link resources are valid", fatal, check.On(links, linksValid)),
		of(category, "l5d-multicluster-links-version", "Link and CLI versions match", warns, check.Skipping(noCommandLine)),
		of(category, "l5d-smc-target-clusters-access", "remote cluster access credentials are valid", 0, check.Skipping(remote)),
		of(category, "l5d-multicluster-clusters-share-anchors", "clusters share trust anchors", 0, check.Skipping(remote)),
		of(category, "l5d-multicluster-source-rbac-correct", "service mirror controller has required permissions", 0, func(ctx context.Context) error {
			return check.On(h.list(kube.ClusterRoleBinding), func(bindings []*unstructured.Unstructured) error {
				return onMirrors(func(m mirrors) error { return m.bound(bindings) })(ctx)
			})(ctx)
		}),
		of(category, "l5d-multicluster-service-mirror-running", "service mirror controllers are running", 0, onMirrors(mirrors.running)).Awaiting(kube.Pod),
		of(category, "l5d-multicluster-managed-controllers", "extension is managing controllers", warns, onMirrors(mirrors.managed)),
		of(category, "l5d-multicluster-gateways-endpoints", "probe services able to communicate with all gateway mirrors", 0,
			h.onMirrored(isGateway, "; the gateway of the other cluster cannot be reached, or its probe fails")).Awaiting(endpointSlice),
		of(category, "l5d-multicluster-services-endpoints", "all mirror services have endpoints", 0,
			h.onMirrored(func(s *corev1.Service) bool { return isMirror(s) && !isGateway(s) && !discovered(s) }, "; the service of the other cluster has none, or its gateway cannot be reached")),
		of(category, "l5d-multicluster-orphaned-services", "all mirror services are part of a Link", warns, func(ctx context.Context) error {
			linked, err := links(ctx)
			if err != nil {
				return err
			}
			return check.On(h.services, func(services []*corev1.Service) error { return orphans(linked, services) })(ctx)
		}),
	}, h.proxiesOf(category, name, "l5d-multicluster-proxy")...)
}

// links reads the links to other clusters, in a version that the CRD serves.
func (h Health) links(ctx context.Context) ([]*unstructured.Unstructured, error) {
	crd, err := h.Cluster.Find(ctx, kube.Ref{Kind: kube.CustomResourceDefinition, Name: linkCRD})
	if err != nil {
		return nil, err
	}
	for _, version := range []string{"v1alpha3", "v1alpha2", "v1alpha1"} {
		if check.Serves(crd, version) {
			return h.Cluster.List(ctx, kube.Kind{Group: "multicluster.linkerd.io", Version: version, Resource: "links", Name: "Link", Namespaced: true}, "")
		}
	}
	return nil, fmt.Errorf("CustomResourceDefinition %s serves no version that this provider reads", linkCRD)
}

// linksValid tells whether links say where they lead to.
func linksValid(links []*unstructured.Unstructured) error {
	if len(links) == 0 {
		return check.Skipf("no cluster is linked")
	}
	var wrong []string
	for _, link := range links {
		for _, field := range []string{"targetClusterName", "clusterCredentialsSecret"} {
			if text, _, err := unstructured.NestedString(link.Object, "spec", field); err != nil || text == "" {
				wrong = append(wrong, fmt.Sprintf("Link %s/%s has no spec.%s", link.GetNamespace(), link.GetName(), field))
			}
		}
	}
	return check.Lacking("", wrong, "; link the cluster again (linkerd multicluster link-gen)")
}

// mirrors are the links and the pods that mirror the services of their clusters.
type mirrors struct {
	links []*unstructured.Unstructured
	pods  map[string][]*corev1.Pod // by the cluster that they mirror
}

func controllers(pods []*corev1.Pod) map[string][]*corev1.Pod {
	found := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		if cluster := pod.Labels[clusterLabel]; cluster != "" {
			found[cluster] = append(found[cluster], pod)
		}
	}
	return found
}

// clusters are those that are linked.
func clusters(links []*unstructured.Unstructured) []string {
	var names []string
	for _, link := range links {
		if name, _, err := unstructured.NestedString(link.Object, "spec", "targetClusterName"); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// running tells whether each linked cluster has a mirror that is ready.
func (m mirrors) running() error {
	var without []string
	for _, cluster := range clusters(m.links) {
		if !slices.ContainsFunc(m.pods[cluster], ready) {
			without = append(without, cluster)
		}
	}
	return check.Lacking("no pod that mirrors services is ready for the linked clusters ", without, "; add the links to the value controllers of the chart linkerd-multicluster, or look at the events of the pods")
}

// bound tells whether the mirrors have any permission in the cluster.
func (m mirrors) bound(bindings []*unstructured.Unstructured) error {
	has := map[string]bool{}
	for _, binding := range bindings {
		subjects, _, _ := unstructured.NestedSlice(binding.Object, "subjects")
		for _, subject := range subjects {
			if fields, _ := subject.(map[string]any); fields["kind"] == "ServiceAccount" {
				has[fmt.Sprintf("%v/%v", fields["namespace"], fields["name"])] = true
			}
		}
	}
	var without []string
	for _, cluster := range clusters(m.links) {
		for _, pod := range m.pods[cluster] {
			if account := pod.Namespace + "/" + pod.Spec.ServiceAccountName; !has[account] {
				without = append(without, "ServiceAccount "+account)
			}
		}
	}
	slices.Sort(without)
	return check.Lacking("no ClusterRoleBinding is for ", slices.Compact(without), ", so services cannot be mirrored: apply the resource that installs the extension again")
}

// managed tells whether the mirrors are of the extension's chart, as since 2.18.
// Those that `linkerd multicluster link` has made go by another name.
func (m mirrors) managed() error {
	var others []string
	for _, cluster := range clusters(m.links) {
		for _, pod := range m.pods[cluster] {
			if strings.HasPrefix(pod.Name, "linkerd-service-mirror-") {
				others = append(others, podRef(pod).String())
			}
		}
	}
	return check.Lacking("not made by the chart linkerd-multicluster, and so not upgraded with it: ", others, "; add the links to its value controllers, and delete the Deployments")
}

// endpointSlice is a kind that only mirrored services are looked at by.
var endpointSlice = kube.Kind{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices", Name: "EndpointSlice", Namespaced: true}

func isMirror(s *corev1.Service) bool { return s.Labels[mirroredLabel] == "true" }

func isGateway(s *corev1.Service) bool { return s.Labels[gatewayLabel] == "true" }

// discovered reports whether proxies find the pods of a mirror without endpoints.
func discovered(s *corev1.Service) bool {
	return s.Labels[remoteDiscovery] != "" || s.Annotations[remoteDiscovery] != "" || s.Annotations[localDiscovery] != ""
}

// onMirrored is a Run that wants some of the Services to have endpoints.
func (h Health) onMirrored(wanted func(*corev1.Service) bool, cure string) func(context.Context) error {
	return func(ctx context.Context) error {
		services, err := h.services(ctx)
		if err != nil {
			return err
		}
		services = slices.DeleteFunc(slices.Clone(services), func(s *corev1.Service) bool { return !wanted(s) })
		if len(services) == 0 {
			return check.Skipf("there are no such Services")
		}
		return check.On(h.list(endpointSlice), func(slices []*unstructured.Unstructured) error { return served(services, slices, cure) })(ctx)
	}
}

// served tells whether all Services have endpoints.
func served(services []*corev1.Service, endpoints []*unstructured.Unstructured, cure string) error {
	has := map[string]bool{}
	for _, e := range endpoints {
		if addresses, _, err := unstructured.NestedSlice(e.Object, "endpoints"); err == nil && len(addresses) > 0 {
			has[e.GetNamespace()+"/"+e.GetLabels()[discoveryv1.LabelServiceName]] = true
		}
	}
	var without []string
	for _, s := range services {
		if !has[s.Namespace+"/"+s.Name] {
			without = append(without, serviceRef(s).String())
		}
	}
	return check.Lacking("without endpoints: ", without, cure)
}

// orphans tells which mirrors are left of clusters that are not linked any more.
func orphans(links []*unstructured.Unstructured, services []*corev1.Service) error {
	known := clusters(links)
	var left []string
	for _, s := range services {
		if cluster := s.Labels[clusterLabel]; cluster != "" && isMirror(s) && !isGateway(s) && !slices.Contains(known, cluster) {
			left = append(left, fmt.Sprintf("%s (of %s)", serviceRef(s), cluster))
		}
	}
	return check.Lacking("no Link is to the cluster of ", left, "; link it again, or delete them")
}

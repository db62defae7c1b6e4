package linkerd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

const (
	preCategory = "pre-kubernetes-setup"

	// oldestKubernetes is what the oldest charts that this provider installs want;
	// what a version wants besides is in its charts.
	oldestKubernetes = "1.21"

	// DefaultNetworks are those that the chart takes for the cluster's: its default of
	// the value clusterNetworks.
	DefaultNetworks = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
)

// PreChecks are what has to hold before a control plane is installed into a
// namespace, which need not exist: `linkerd check --pre`, without what the charts
// and their installer see to themselves, and what goes wrong on AKS. Plugin is
// whether the CNI plugin leads the traffic of pods.
func PreChecks(cluster *kube.Cluster, namespace string, plugin bool, now time.Time, managed check.Managed) []check.Check {
	h := Health{Cluster: cluster, Namespace: namespace, Now: now, Managed: managed}
	checks := append(h.kubernetes(), h.pre()...)
	if !plugin {
		checks = append(checks, h.redirection())
	}
	return checks
}

// Pre are all checks of a cluster before the control plane is installed.
func (h Health) Pre() []check.Check {
	vacancy := []check.Check{
		of("gateway-api-crd", "gateway-api-crd", "Gateway API CRDs are installed", 0, check.On(h.list(kube.CustomResourceDefinition), gatewayAPI)),
		// Whoever makes the namespace for this provider has done well.
		of(preCategory, "pre-ns", "control plane namespace does not already exist", warns, check.On(h.Cluster.Namespaces, h.vacant)),
	}
	return append(append(append(h.kubernetes(), vacancy...), h.pre()...), h.redirection())
}

// redirection is the check of what matters without the CNI plugin only.
func (h Health) redirection() check.Check {
	return own("pre-redirection-admitted", "pods may lead their traffic to the proxy", warns, check.Redirected(h.Cluster))
}

// kubernetes are the checks of the API server itself.
func (h Health) kubernetes() []check.Check {
	version := check.Once(h.Cluster.Version)
	return []check.Check{
		of("kubernetes-api", "k8s-api", "can query the Kubernetes API", fatal, check.On(version, func(string) error { return nil })),
		of("kubernetes-version", "k8s-version", "is running the minimum Kubernetes API version", 0, check.On(version, func(version string) error {
			return check.AtLeast(version, oldestKubernetes)
		})),
	}
}

func (h Health) pre() []check.Check {
	global := check.Creations("", kube.Namespace, kube.CustomResourceDefinition, kube.ClusterRole, kube.ClusterRoleBinding,
		kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration)
	local := check.Creations(h.Namespace, kube.ServiceAccount, kube.Service, kube.Deployment, kube.CronJob, kube.ConfigMap, kube.Secret, kube.Role, kube.RoleBinding)
	reads := kube.Permission{Verb: "get", Kind: kube.Secret, Namespace: h.Namespace}
	denied := check.Once(func(ctx context.Context) ([]kube.Permission, error) {
		return h.Cluster.Denied(ctx, append(append([]kube.Permission{reads}, global...), local...))
	})
	checks := []check.Check{
		of(preCategory, "pre-k8s-cluster-k8s", "can create non-namespaced resources", 0, check.On(denied, check.Permitted(global...))),
	}
	for _, p := range local {
		checks = append(checks, of(preCategory, "pre-k8s", "can create "+p.Kind.Name+"s", 0, check.On(denied, check.Permitted(p))))
	}
	configurations := h.list(kube.MutatingWebhookConfiguration)
	return append(checks,
		of(preCategory, "pre-k8s", "can read Secrets", 0, check.On(denied, check.Permitted(reads))),
		of(preCategory, "pre-k8s", "can read extension-apiserver-authentication configmap", warns, check.On(h.authentication, authenticates)),
		of(preCategory, "pre-k8s-clock-skew", "no clock skew detected", warns, check.On(h.Cluster.Nodes, func(nodes []*corev1.Node) error {
			return check.ClockSkew(nodes, h.Now)
		})),
		of(preCategory, "l5d-cluster-networks-cidr", "default cluster networks contain all node podCIDRs", warns, check.On(h.Cluster.Nodes, func(nodes []*corev1.Node) error {
			return withinDefault(podCIDRs(nodes))
		})),
		of(preCategory, "l5d-cluster-networks-pods", "default cluster networks contain all services", warns, check.On(h.services, func(services []*corev1.Service) error {
			return withinDefault(clusterIPs(services))
		})),
		own("pre-linux-nodes", "all nodes run Linux", warns, check.On(h.Cluster.Nodes, check.Linux)),
		own("pre-schedulable-node", "a node takes pods of the control plane", warns, check.Schedulable(h.Cluster.Nodes, h.Managed)),
		own("pre-other-mesh", "no other mesh injects proxies", warns, check.On(configurations, check.OtherMeshes("Linkerd"))),
		own("pre-webhooks-admitted", "the cluster admits webhooks that change pods", 0, check.WebhooksAdmitted(h.Cluster, h.Managed)),
	)
}

// own makes a check that only this provider knows.
func own(id, description string, flags int, run func(context.Context) error) check.Check {
	made := of("pre-aksmesh-cluster", id, description, flags, run)
	made.HintURL = ""
	return made
}

// vacant tells whether the namespace is to be made yet.
func (h Health) vacant(namespaces []*corev1.Namespace) error {
	for _, n := range namespaces {
		if n.Name == h.Namespace {
			return fmt.Errorf("there is a Namespace %s already; if a control plane is in it, import that instead of installing another, and if not, it is made use of", n.Name)
		}
	}
	return nil
}

// authentication is where aggregated API servers, such as that for taps, are told
// whom to trust.
func (h Health) authentication(ctx context.Context) (map[string]string, error) {
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: "kube-system", Name: "extension-apiserver-authentication"}
	found, err := h.Cluster.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	data, _, err := unstructured.NestedStringMap(found.Object, "data")
	return data, err
}

func authenticates(data map[string]string) error {
	const key = "requestheader-client-ca-file"
	if data[key] == "" {
		return fmt.Errorf("ConfigMap kube-system/extension-apiserver-authentication has no %s, so the API server's aggregation layer is off, and the tap of the viz extension cannot work; start the API server with --%s", key, key)
	}
	return nil
}

// servesRoutes tells whether the control plane finds routes by a CRD of the Gateway
// API: in v1, unless Linkerd has brought it, which then reads what it serves.
func servesRoutes(crd *unstructured.Unstructured) bool {
	return crd.GetAnnotations()[createdByAnnotation] != "" || check.Serves(crd, "v1")
}

// gatewayAPI tells whether the CRDs are there that the control plane watches, of
// which one suffices.
func gatewayAPI(crds []*unstructured.Unstructured) error {
	var problems []string
	for _, crd := range crds {
		if !slices.Contains(routeCRDs(), crd.GetName()) {
			continue
		}
		if servesRoutes(crd) {
			return nil
		}
		problems = append(problems, fmt.Sprintf("%s (bundle %s) does not serve v1", crdRef(crd.GetName()), crd.GetAnnotations()[gatewayBundleAnnotation]))
	}
	if len(problems) == 0 {
		return errors.New("there are no CRDs of the Gateway API, which the control plane reads routes by; install them (gateway_api.crds = \"install\" of aksmesh_linkerd, or on AKS its managed ones: az aks update --enable-gateway-api)")
	}
	return check.Lacking("", problems, "; upgrade the CRDs of the Gateway API")
}

// An address is where in the network an object is.
type address struct {
	of     kube.Ref
	prefix netip.Prefix
}

// addressOf reads an address or a network of an object; ok is false for anything else.
func addressOf(of kube.Ref, text string) (a address, ok bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return address{of, prefix.Masked()}, true
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return address{}, false
	}
	return address{of, netip.PrefixFrom(ip, ip.BitLen())}, true
}

// podCIDRs are the networks of pods by node; none where the cloud has the
// addresses of pods from somewhere else, as with Azure CNI.
func podCIDRs(nodes []*corev1.Node) []address {
	var all []address
	for _, node := range nodes {
		for _, cidr := range node.Spec.PodCIDRs {
			if a, ok := addressOf(kube.Ref{Kind: kube.Node, Name: node.Name}, cidr); ok {
				all = append(all, a)
			}
		}
	}
	return all
}

// clusterIPs are the addresses of services that have one.
func clusterIPs(services []*corev1.Service) []address {
	var all []address
	for _, s := range services {
		for _, ip := range s.Spec.ClusterIPs {
			if a, ok := addressOf(kube.Ref{Kind: kube.Service, Namespace: s.Namespace, Name: s.Name}, ip); ok {
				all = append(all, a)
			}
		}
	}
	return all
}

// podIPs are the addresses of pods that have one of their own.
func podIPs(pods []*corev1.Pod) []address {
	var all []address
	for _, pod := range pods {
		if pod.Spec.HostNetwork {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			if a, ok := addressOf(kube.Ref{Kind: kube.Pod, Namespace: pod.Namespace, Name: pod.Name}, ip.IP); ok {
				all = append(all, a)
			}
		}
	}
	return all
}

// within tells whether networks contain all addresses. Without any address there
// is nothing to find out.
func within(networks string, addresses []address) error {
	known, err := parseNetworks(networks)
	if err != nil {
		return fmt.Errorf("the value clusterNetworks: %w", err)
	}
	if len(addresses) == 0 {
		return check.Skipf("there are no such addresses")
	}
	var outside []string
	for _, a := range addresses {
		if !contained(known, a.prefix) {
			outside = append(outside, fmt.Sprintf("%s (%s)", a.of, a.prefix))
		}
	}
	return check.Lacking("clusterNetworks ("+networks+") do not contain ", outside,
		"; proxies take such destinations for the world outside of the cluster: add their networks to the value clusterNetworks of the control plane's chart")
}

// parseNetworks reads the value clusterNetworks.
func parseNetworks(text string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for one := range strings.SplitSeq(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return nil, fmt.Errorf("%q is no network: %w", one, err)
		}
		networks = append(networks, prefix)
	}
	return networks, nil
}

// contained tells whether one of some networks contains a whole other.
func contained(networks []netip.Prefix, inner netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool {
		return network.Overlaps(inner) && network.Bits() <= inner.Bits()
	})
}

// withinDefault is within for a chart whose values are not known yet.
func withinDefault(addresses []address) error { return within(DefaultNetworks, addresses) }

// OutsideDefaultNetworks are those of some networks that the control plane does not
// take for the cluster's, unless it is told so by the value clusterNetworks: in
// order, without those that are in others.
func OutsideDefaultNetworks(networks []netip.Prefix) []netip.Prefix {
	known, err := parseNetworks(DefaultNetworks)
	if err != nil {
		return networks
	}
	var outside []netip.Prefix
	// Wide ones come first.
	for _, p := range slices.SortedFunc(slices.Values(networks), func(a, b netip.Prefix) int { return a.Bits() - b.Bits() }) {
		if !contained(known, p) && !contained(outside, p) {
			outside = append(outside, p)
		}
	}
	slices.SortFunc(outside, netip.Prefix.Compare)
	return outside
}

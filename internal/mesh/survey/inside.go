package survey

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

// The labels by which AKS tells of its nodes, with what of them is documented or
// to be seen: https://learn.microsoft.com/azure/aks/use-labels.
const (
	clusterLabel    = "kubernetes.azure.com/cluster"
	poolLabel       = "kubernetes.azure.com/agentpool"
	oldPoolLabel    = "agentpool"
	modeLabel       = "kubernetes.azure.com/mode"
	osSKULabel      = "kubernetes.azure.com/os-sku"
	overlayLabel    = "kubernetes.azure.com/azure-cni-overlay"
	podNetworkLabel = "kubernetes.azure.com/podnetwork-type"
	dataplaneLabel  = "kubernetes.azure.com/ebpf-dataplane"
	managedByLabel  = "kubernetes.azure.com/managedby"

	controlPlaneLabel = "control-plane"
)

const systemNamespace = "kube-system"

// askCluster reads what the API server knows of its cluster. What Azure has said
// already stays.
func (f *Facts) askCluster(ctx context.Context, cluster *kube.Cluster) error {
	version, err := cluster.Version(ctx)
	if err != nil {
		return err
	}
	f.KubernetesVersion = cmp.Or(f.KubernetesVersion, strings.TrimPrefix(version, "v"))
	// What is not answered to one question says nothing of the next.
	for _, ask := range []func(context.Context, *kube.Cluster) error{
		f.askNodes, f.askPlugin, f.askPods, f.askServices, f.askEngine, f.askIssuer, f.askAddons, f.askNamespaces, f.askWebhooks, f.askGatewayAPI, f.askAppRouting, f.askSafeguards,
	} {
		if err := ask(ctx, cluster); err != nil {
			return err
		}
	}
	return nil
}

func (f *Facts) askNodes(ctx context.Context, cluster *kube.Cluster) error {
	nodes, err := cluster.Nodes(ctx)
	if err != nil {
		return f.answered("node_pools", err)
	}
	if f.AKS == nil && len(nodes) > 0 {
		f.AKS = new(slices.ContainsFunc(nodes, func(n *corev1.Node) bool { return n.Labels[clusterLabel] != "" }))
	}
	if f.NodePools == nil {
		f.NodePools = poolsOf(nodes)
	}
	for _, node := range nodes {
		if node.Labels[dataplaneLabel] == "cilium" {
			f.Network.Dataplane = cmp.Or(f.Network.Dataplane, "cilium")
		}
		for _, text := range node.Spec.PodCIDRs {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				f.look.addresses = append(f.look.addresses, address{prefix.Masked(), "Node " + node.Name})
			}
		}
	}
	if !known(f.AKS) || f.look.describes != nil {
		return nil
	}
	made, _, err := f.listServed(ctx, cluster, "node_pools", kube.Kind{Group: "karpenter.sh", Version: "v1", Resource: "nodepools", Name: "NodePool"})
	f.look.nodesMade = len(made) > 0
	return err
}

// askPlugin finds out by what AKS leaves in a cluster which network plugin it has.
func (f *Facts) askPlugin(ctx context.Context, cluster *kube.Cluster) error {
	n := &f.Network
	if !known(f.AKS) || n.Plugin != "" {
		return nil
	}
	nodes, err := cluster.Nodes(ctx)
	if err != nil {
		return f.answered("network.plugin", err)
	}
	_, err = cluster.Get(ctx, kube.Ref{Kind: kube.DaemonSet, Namespace: systemNamespace, Name: "azure-cns"})
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return f.answered("network.plugin", err)
	}
	flat := err == nil || slices.ContainsFunc(nodes, func(node *corev1.Node) bool { return node.Labels[podNetworkLabel] != "" })
	ranges := slices.ContainsFunc(nodes, func(node *corev1.Node) bool { return len(node.Spec.PodCIDRs) > 0 })
	switch {
	case slices.ContainsFunc(nodes, func(node *corev1.Node) bool {
		return node.Labels[overlayLabel] == "true" || node.Labels[podNetworkLabel] == "overlay"
	}):
		n.Plugin, n.PluginMode = "azure", "overlay"
	case flat && !ranges:
		n.Plugin = "azure"
	case !ranges:
		f.miss("network.plugin", errors.New("neither the labels of the nodes nor a DaemonSet kube-system/azure-cns tell of Azure CNI: it may be one without them, or a plugin that somebody else has installed"))
	default:
		f.miss("network.plugin", errors.New("the nodes have networks of pods of their own, as with kubenet and with plugins that somebody else has installed"))
	}
	return nil
}

// poolsOf are the node pools that the nodes belong to; one that has no nodes now is
// not to be seen.
func poolsOf(nodes []*corev1.Node) []NodePool {
	byName := map[string]NodePool{}
	for _, node := range nodes {
		labels := node.Labels
		name := cmp.Or(labels[poolLabel], labels[oldPoolLabel])
		pool := byName[name]
		pool.Name, pool.Count = name, pool.Count+1
		pool.Mode = cmp.Or(pool.Mode, capital(labels[modeLabel]))
		pool.OS = cmp.Or(pool.OS, capital(labels[corev1.LabelOSStable]))
		pool.OSSKU = cmp.Or(pool.OSSKU, labels[osSKULabel])
		pool.VMSize = cmp.Or(pool.VMSize, labels[corev1.LabelInstanceTypeStable])
		pool.Version = cmp.Or(pool.Version, strings.TrimPrefix(node.Status.NodeInfo.KubeletVersion, "v"))
		for _, taint := range node.Spec.Taints {
			// Those of Kubernetes itself come and go with the state of a node.
			if text := taint.ToString(); !strings.HasPrefix(taint.Key, "node.kubernetes.io/") && !slices.Contains(pool.Taints, text) {
				pool.Taints = append(pool.Taints, text)
			}
		}
		byName[name] = pool
	}
	pools := make([]NodePool, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		pools = append(pools, byName[name])
	}
	return pools
}

// capital writes a word as Azure does: System, Linux.
func capital(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}

// askPods looks at the system's pods, which are everywhere, for where pods have
// their addresses from.
func (f *Facts) askPods(ctx context.Context, cluster *kube.Cluster) error {
	nodes, err := cluster.Nodes(ctx)
	if err != nil {
		return f.answered("network.pods_share_node_subnet", err)
	}
	s := newSubnets(nodes)
	err = cluster.EachPod(ctx, systemNamespace, "", func(pod *corev1.Pod) error {
		if pod.Spec.HostNetwork {
			return nil
		}
		for _, ip := range pod.Status.PodIPs {
			if ip, err := netip.ParseAddr(ip.IP); err == nil {
				f.look.addresses = append(f.look.addresses, address{netip.PrefixFrom(ip, ip.BitLen()), "Pod " + pod.Namespace + "/" + pod.Name})
				s.see(pod, ip)
			}
		}
		return nil
	})
	if err != nil {
		return f.answered("network.pods_share_node_subnet", err)
	}
	switch n := &f.Network; {
	case n.SharedSubnet != nil:
	case n.PluginMode == "overlay":
		n.SharedSubnet, n.SharedBecause = new(false), "with overlay, pods have addresses of a network of their own"
	default:
		n.SharedSubnet, n.SharedBecause = s.shared()
	}
	return nil
}

// askServices finds the networks of services: from Kubernetes 1.33 on they are
// objects, and before, there is the address of one service.
func (f *Facts) askServices(ctx context.Context, cluster *kube.Cluster) error {
	service, err := cluster.Get(ctx, kube.Ref{Kind: kube.Service, Namespace: corev1.NamespaceDefault, Name: "kubernetes"})
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return f.answered("network.service_cidrs", err)
	}
	if service != nil {
		ips, _, _ := unstructured.NestedStringSlice(service.Object, "spec", "clusterIPs")
		for _, ip := range ips {
			if ip, err := netip.ParseAddr(ip); err == nil {
				f.look.addresses = append(f.look.addresses, address{netip.PrefixFrom(ip, ip.BitLen()), "Service default/kubernetes"})
			}
		}
	}
	if len(f.Network.ServiceCIDRs) > 0 {
		return nil
	}
	networks, served, err := f.listServed(ctx, cluster, "network.service_cidrs", kube.Kind{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs", Name: "ServiceCIDR"})
	if err != nil {
		return err
	}
	if !served {
		f.miss("network.service_cidrs", errors.New("the API server has no ServiceCIDRs, which come with Kubernetes 1.33; only addresses of services are known"))
	}
	for _, network := range networks {
		cidrs, _, _ := unstructured.NestedStringSlice(network.Object, "spec", "cidrs")
		f.Network.ServiceCIDRs = append(f.Network.ServiceCIDRs, cidrs...)
	}
	return nil
}

// listServed lists objects of a kind that not every API server has. Those that are
// not told are noted, and are served.
func (f *Facts) listServed(ctx context.Context, cluster *kube.Cluster, subject string, kind kube.Kind) (objects []*unstructured.Unstructured, served bool, err error) {
	objects, served, err = cluster.ListServed(ctx, kind, "")
	return objects, served, f.answered(subject, err)
}

// askEngine finds out what enforces policies. What AKS has installed and what is
// there need not be the same: somebody may have brought an engine.
func (f *Facts) askEngine(ctx context.Context, cluster *kube.Cluster) error {
	found, err := engine.Detect(ctx, cluster)
	if err != nil {
		return f.answered("network.policy_engine", err)
	}
	if f.Network.Engine.Name == "" {
		f.Network.Engine = found
	}
	if f.Network.Engine.Name == "" && len(found.Unseen) > 0 {
		f.miss("network.policy_engine", errors.New(strings.Join(found.Unseen, ", ")))
	}
	return nil
}

// askIssuer reads whose tokens workloads have. AKS names an issuer that others can
// ask only if that is enabled.
func (f *Facts) askIssuer(ctx context.Context, cluster *kube.Cluster) error {
	if f.OIDCIssuer != "" || f.look.describes != nil {
		return nil
	}
	body, err := cluster.Discovery().RESTClient().Get().AbsPath("/.well-known/openid-configuration").Do(ctx).Raw()
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return f.answered("oidc_issuer_url", fmt.Errorf("read the issuer of service account tokens: %w", cluster.Explained(ctx, err)))
	}
	var configuration struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(body, &configuration); err != nil {
		f.miss("oidc_issuer_url", fmt.Errorf("the issuer of service account tokens is not told as JSON: %w", err))
		return nil
	}
	issuer, err := url.Parse(configuration.Issuer)
	if err == nil && issuer.Host != "" && (!known(f.AKS) || strings.Contains(issuer.Host, ".oic.")) {
		f.OIDCIssuer = configuration.Issuer
	}
	return nil
}

// askAddons looks for what AKS installs into clusters by request.
func (f *Facts) askAddons(ctx context.Context, cluster *kube.Cluster) error {
	if !known(f.AKS) || f.look.describes != nil {
		return nil
	}
	for _, addon := range []struct {
		subject, deployment string
		is                  **bool
	}{
		{"workload_identity", "azure-wi-webhook-controller-manager", &f.WorkloadIdentity},
		{"azure_policy", "azure-policy", &f.AzurePolicy},
	} {
		_, err := cluster.Get(ctx, kube.Ref{Kind: kube.Deployment, Namespace: systemNamespace, Name: addon.deployment})
		if err == nil || errors.Is(err, kube.ErrNotFound) {
			*addon.is = new(err == nil)
		} else if err := f.answered(addon.subject, err); err != nil {
			return err
		}
	}
	// The API server of a cluster reaches its nodes through an agent, unless it is in
	// their network.
	_, err := cluster.Get(ctx, kube.Ref{Kind: kube.Deployment, Namespace: systemNamespace, Name: "konnectivity-agent"})
	switch {
	case err == nil:
		f.VNetIntegration = new(false)
	case errors.Is(err, kube.ErrNotFound):
		f.miss("api_server_vnet_integration", errors.New("there is no Deployment kube-system/konnectivity-agent, which speaks for the integration and proves nothing"))
	default:
		return f.answered("api_server_vnet_integration", err)
	}
	return nil
}

// askNamespaces looks at the namespaces for those that AKS brings, and for those
// that it keeps webhooks away from.
func (f *Facts) askNamespaces(ctx context.Context, cluster *kube.Cluster) error {
	namespaces, err := cluster.Namespaces(ctx)
	if err != nil {
		return f.answered("namespaces", err)
	}
	for _, namespace := range namespaces {
		if namespace.Name == applicationNetworkNamespace {
			f.ApplicationNetwork = new(true)
		}
		if _, is := namespace.Labels[controlPlaneLabel]; is && namespace.Labels[managedByLabel] != "aks" && namespace.Name != systemNamespace {
			f.look.namespaces = append(f.look.namespaces, namespace)
		}
	}
	if known(f.AKS) && f.ApplicationNetwork == nil {
		f.ApplicationNetwork = new(false)
	}
	return nil
}

// applicationNetworkNamespace is where Azure Kubernetes Application Network is.
const applicationNetworkNamespace = "applink-system"

// askWebhooks looks at the webhooks for whose they are and for what AKS has made of
// them, and whether there may be any more.
func (f *Facts) askWebhooks(ctx context.Context, cluster *kube.Cluster) error {
	for _, kind := range []kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration} {
		configurations, err := cluster.List(ctx, kind, "")
		if err != nil {
			if err := f.answered("webhooks", err); err != nil {
				return err
			}
			continue
		}
		for _, c := range configurations {
			if check.Enforced(c) {
				f.look.enforced = true
				f.look.kept = append(f.look.kept, keptAway(kind, c)...)
			}
			if out, is := optsOut(kind, c); is {
				f.look.optedOut = append(f.look.optedOut, out)
			}
		}
		if kind == kube.MutatingWebhookConfiguration && f.look.describes == nil && known(f.AKS) {
			revisions, others := check.AddonRevisions(configurations)
			f.IstioAddon, f.IstioRevisions = new(len(revisions) > 0), append([]string{}, revisions...)
			if others {
				f.AppRouting = new(true)
			}
		}
	}
	var managed check.Managed
	if described := f.look.describes; described != nil {
		managed = func(context.Context) (*aks.ManagedCluster, error) { return described, nil }
	}
	for _, try := range []struct {
		subject string
		run     func(context.Context) error
		into    *error
	}{
		{"whether webhooks are admitted", check.WebhooksAdmitted(cluster, managed), &f.look.webhooks},
		{"whether init containers are admitted", check.Redirected(cluster), &f.look.redirected},
	} {
		err := try.run(ctx)
		_, skipped := errors.AsType[*check.Skip](err)
		_, refused := errors.AsType[*check.RefusedError](err)
		switch {
		case refused:
			*try.into = err
		case skipped:
			f.miss(try.subject, err)
		default:
			if err := f.answered(try.subject, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// askGatewayAPI finds out who looks after the CRDs of the Gateway API.
func (f *Facts) askGatewayAPI(ctx context.Context, cluster *kube.Cluster) error {
	crds, err := cluster.List(ctx, kube.CustomResourceDefinition, "")
	if err != nil {
		return f.answered("gateway_api", err)
	}
	const group = "gateway.networking.k8s.io"
	found := &GatewayAPI{}
	for _, crd := range crds {
		if !strings.HasSuffix(crd.GetName(), "."+group) || found.Installed && crd.GetName() != "httproutes."+group {
			continue
		}
		annotations := crd.GetAnnotations()
		found.Installed, found.Bundle, found.Channel = true, strings.TrimPrefix(annotations[group+"/bundle-version"], "v"), annotations[group+"/channel"]
		found.Owner, found.Managed = linkerd.GatewayOwner(crd)
	}
	f.GatewayAPI = found
	return nil
}

// askAppRouting looks for the Istio of App Routing by the class of its gateways: it
// injects into no workloads, and need not have a webhook.
func (f *Facts) askAppRouting(ctx context.Context, cluster *kube.Cluster) error {
	if !known(f.AKS) || f.AppRouting != nil {
		return nil
	}
	kind, err := cluster.KindFor(ctx, schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "GatewayClass"})
	if err == nil {
		_, err = cluster.Get(ctx, kube.Ref{Kind: kind, Name: appRoutingClass})
	}
	if err != nil && !errors.Is(err, kube.ErrNotFound) && !apimeta.IsNoMatchError(err) {
		return f.answered("app_routing_istio", err)
	}
	f.AppRouting = new(err == nil)
	return nil
}

// appRoutingClass is the GatewayClass of the Istio of App Routing.
const appRoutingClass = "approuting-istio"

// askSafeguards finds out by a dry run whether Deployment Safeguards change what is
// deployed: they raise requests to a minimum of theirs. Their policies alone do not
// tell: some of the same name only protect the system's namespaces.
func (f *Facts) askSafeguards(ctx context.Context, cluster *kube.Cluster) error {
	if !known(f.AKS) || f.Safeguards != nil {
		return nil
	}
	labels := map[string]any{"app": "aksmesh-preflight"}
	little, raised := map[string]any{"cpu": "10m", "memory": "10Mi"}, map[string]any{"cpu": "100m", "memory": "100Mi"}
	deployment := kube.Ref{Kind: kube.Deployment, Namespace: corev1.NamespaceDefault, Name: "aksmesh-preflight"}.Object()
	deployment.Object["spec"] = map[string]any{
		"replicas": int64(1), "selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{map[string]any{
			"name": "main", "image": "mcr.microsoft.com/oss/kubernetes/pause:3.9", "resources": map[string]any{"requests": little, "limits": raised},
		}}}},
	}
	made, err := cluster.Apply(ctx, deployment, kube.ApplyOptions{Manager: "aksmesh-preflight", DryRun: true, CreateOnly: true})
	if err != nil {
		return f.answered("deployment_safeguards", err)
	}
	containers, _, _ := unstructured.NestedSlice(made.Object, "spec", "template", "spec", "containers")
	f.Safeguards = new(slices.ContainsFunc(containers, func(c any) bool {
		fields, _ := c.(map[string]any)
		requests, _, _ := unstructured.NestedMap(fields, "resources", "requests")
		return maps.Equal(requests, raised)
	}))
	return nil
}

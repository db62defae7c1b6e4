package survey

import (
	"cmp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/retirement"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

// Severity is how much a finding is in the way of a mesh.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // no mesh works, or the cluster is out of support
	Warning Severity = "warning" // something will not do what is expected of it, or not for long
	Info    Severity = "info"    // worth knowing
)

// Finding is something that somebody who brings a mesh has to know.
type Finding struct {
	ID       string // "kubenet"
	Severity Severity
	Subject  string // what it is about: "network.plugin", "Namespace operators", a node pool
	Message  string // what is the case
	Advice   string // what to do
}

// A selector is one by which the admissions enforcer keeps a webhook away from
// namespaces with the label control-plane.
type selector struct {
	of       kube.Ref
	operator metav1.LabelSelectorOperator // DoesNotExist or NotIn
	values   []string
}

// keeps tells whether the webhook is kept away from a namespace whose label has a
// value.
func (s selector) keeps(value string) bool {
	return s.operator == metav1.LabelSelectorOpDoesNotExist || s.operator == metav1.LabelSelectorOpNotIn && slices.Contains(s.values, value)
}

// keptAway are the selectors of a webhook configuration that are about the label
// control-plane: AKS has written other values, and another operator, before.
func keptAway(kind kube.Kind, c *unstructured.Unstructured) []selector {
	var found []selector
	webhooks, _, _ := unstructured.NestedSlice(c.Object, "webhooks")
	for _, webhook := range webhooks {
		fields, _ := webhook.(map[string]any)
		expressions, _, _ := unstructured.NestedSlice(fields, "namespaceSelector", "matchExpressions")
		for _, expression := range expressions {
			fields, _ := expression.(map[string]any)
			operator, _, _ := unstructured.NestedString(fields, "operator")
			values, _, _ := unstructured.NestedStringSlice(fields, "values")
			if fields["key"] == controlPlaneLabel {
				found = append(found, selector{kube.Ref{Kind: kind, Name: c.GetName()}, metav1.LabelSelectorOperator(operator), values})
			}
		}
	}
	return found
}

// An optOut is a webhook configuration that AKS leaves alone.
type optOut struct {
	of    kube.Ref
	fails bool // whether objects are refused if nobody answers
}

// optsOut tells whether a webhook configuration has the admissions enforcer leave it
// alone, by the label or annotation that AKS documents.
func optsOut(kind kube.Kind, c *unstructured.Unstructured) (optOut, bool) {
	const mark = "admissions.enforcer/disabled"
	if c.GetLabels()[mark] != "true" && c.GetAnnotations()[mark] != "true" {
		return optOut{}, false
	}
	webhooks, _, _ := unstructured.NestedSlice(c.Object, "webhooks")
	return optOut{of: kube.Ref{Kind: kind, Name: c.GetName()}, fails: slices.ContainsFunc(webhooks, func(w any) bool {
		fields, _ := w.(map[string]any)
		return fields["failurePolicy"] != "Ignore"
	})}, true
}

// severityAt is that of what ends with a day: it is out of support from the next on.
func severityAt(now time.Time, day retirement.Day) Severity {
	if day.Over(now) {
		return Error
	}
	return Warning
}

func (f *Facts) find(id string, severity Severity, subject, message, advice string) {
	f.Findings = append(f.Findings, Finding{id, severity, subject, message, advice})
}

// judge makes the findings of what is known, those first that are most in the way.
func (f *Facts) judge(now time.Time) {
	f.judgeAdmission()
	f.judgeNetwork(now)
	f.judgePools(now)
	f.judgeMeshes(now)
	f.judgeEnforcer()
	f.judgeGatewayAPI()
	order := []Severity{Error, Warning, Info}
	slices.SortStableFunc(f.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
}

func (f *Facts) judgeAdmission() {
	if f.PowerState == "Stopped" {
		f.find("stopped", Error, "power_state", "the cluster is stopped, so nobody answers", "Start it: az aks start.")
	}
	described := f.look.describes
	blocked := f.look.webhooks
	if blocked == nil && described != nil && (f.Source == FromARM || described.Properties.HostedSystemProfile.Enabled) {
		blocked = check.BlocksWebhooks(described)
	}
	if blocked != nil {
		f.find("webhooks-blocked", Error, "sku", blocked.Error(), "No mesh that injects proxies can be installed before.")
	}
	if f.look.redirected != nil {
		f.find("init-containers-refused", Warning, "deployment_safeguards", f.look.redirected.Error(), "Install the CNI plugin: cni of aksmesh_linkerd, the component cni of aksmesh_istio.")
	}
	if automatic(described) && blocked == nil {
		f.find("automatic", Warning, "sku",
			"AKS Automatic admits webhooks that change pods, but none for nodes, persistentvolumes, certificatesigningrequests and tokenreviews; it enforces the baseline of pod security, "+
				"which refuses the init containers of meshes (NET_ADMIN) and, outside of excluded namespaces, their CNI plugins, and it refuses DaemonSets that tolerate every taint",
			"Use the mesh's CNI plugin, in a namespace of its own that you exclude: az aks safeguards update --excluded-ns. Give the control plane requests of at least 100m and 100Mi.")
	}
	if known(f.Safeguards) {
		f.find("deployment-safeguards", Warning, "deployment_safeguards",
			"Deployment Safeguards change what is deployed: they raise requests to at least 100m and 100Mi, set 500m and 2048Mi where there are none, and add anti-affinity and topology spread constraints",
			"Set requests and limits in the values of the charts, so that they are yours. What the safeguards add is not taken for drift.")
	}
	if known(f.AzurePolicy) {
		f.find("azure-policy", Warning, "azure_policy",
			"Azure Policy (Gatekeeper) may refuse the pods of a mesh: by their registries, their capabilities, or missing requests; it spares the Istio add-on's namespace, and no other mesh's",
			"Exclude the mesh's namespaces in the assignments that are about pods, or mirror its images into a registry that they allow (aksmesh_image_mirror).")
	}
}

func (f *Facts) judgeNetwork(now time.Time) {
	n := f.Network
	if n.Plugin == "kubenet" {
		f.find("kubenet", severityAt(now, retirement.Kubenet()), "network.plugin", "the network plugin is kubenet, whose support "+retirement.Kubenet().Words(now),
			"Move to Azure CNI Overlay: az aks update --network-plugin azure --network-plugin-mode overlay.")
	}
	if message, _ := n.Engine.Caution(now); message != "" {
		f.find("npm", severityAt(now, retirement.AzureNPM()), "network.policy_engine", message, "Move to another: "+f.engineAdvice()+".")
		if slices.ContainsFunc(f.NodePools, windows) {
			f.find("npm-windows", severityAt(now, retirement.AzureNPMOnWindows()), "network.policy_engine", "the support of "+engine.AzureNPM+" on Windows "+retirement.AzureNPMOnWindows().Words(now),
				"Have Calico enforce the policies of Windows nodes, or move what is on them.")
		}
	}
	none := n.Engine.None() && (f.Source != FromARM || n.Plugin != "none")
	if none {
		message := "nothing that is known enforces NetworkPolicies: the API server takes them, and they change nothing"
		if f.Source == FromARM {
			message = "AKS has installed nothing that enforces NetworkPolicies; whether somebody else has was not looked at"
		}
		f.find("no-policy-engine", Warning, "network.policy_engine", message, "Bring one before you rely on aksmesh_network_policy: "+f.engineAdvice()+".")
	}
	if n.Engine.Name == engine.Cilium || n.Dataplane == "cilium" {
		chained, advice := "only by settings (cni.exclusive, socketLB.hostNamespaceOnly)", "Select pods and namespaces in policies, not addresses. Prove injection and ambient mode in a cluster like this one before you rely on a CNI plugin"
		if known(f.AKS) && n.Dataplane == "cilium" && n.Plugin != "none" {
			chained += " that AKS allows nobody to change"
		}
		if f.look.redirected == nil && !automatic(f.look.describes) {
			advice += "; init containers need none"
		}
		f.find("cilium", Info, "network.dataplane",
			"with Cilium, an ipBlock matches neither pods nor nodes; its load balancing at sockets has proxies see addresses of pods in place of services'; "+
				"and it lets other CNI plugins (linkerd-cni, istio-cni, and with it ambient) be chained "+chained, advice+".")
	}
	switch {
	case n.Covered == nil || *n.Covered:
	case f.look.stray != "":
		f.find("cluster-networks", Warning, "network", "Linkerd takes some of the cluster's addresses, such as "+f.look.stray+", for the world outside of it: its default clusterNetworks are "+linkerd.DefaultNetworks,
			"Find out the networks of pods and services, and add them to these in the value clusterNetworks of aksmesh_linkerd.")
	default:
		f.find("cluster-networks", Warning, "network", "Linkerd takes "+strings.Join(n.Uncovered, ", ")+" for the world outside of the cluster: its default clusterNetworks are "+linkerd.DefaultNetworks,
			"Set the value clusterNetworks of aksmesh_linkerd to "+strings.Join(append([]string{linkerd.DefaultNetworks}, n.Uncovered...), ",")+".")
	}
	local := known(f.AKS) && f.KubernetesVersion != "" && check.AtLeast(f.KubernetesVersion, "1.36") == nil
	if local && n.Plugin != "none" && (n.Engine.Name == "" || n.Engine.Name == engine.AzureNPM) {
		f.find("local-dns", Info, "network", "from Kubernetes 1.36 on, nodes answer queries of DNS themselves (LocalDNS), unless their pool has it disabled",
			"Policies on egress have to admit queries to 169.254.10.10 and 169.254.10.11 (ipBlock) besides those to kube-dns: aksmesh_network_policy admits pods of kube-dns and node-local-dns only, and a service of the node is neither.")
	}
}

// engineAdvice is how to have policies enforced in such a cluster: Cilium is for
// Azure CNI, and for Linux.
func (f *Facts) engineAdvice() string {
	n := f.Network
	switch {
	case !known(f.AKS):
		return "install one that goes with the CNI plugin, such as Calico or Cilium"
	case n.Plugin == "none":
		return "install the one of your CNI plugin"
	case n.Plugin == "kubenet" || slices.ContainsFunc(f.NodePools, windows):
		return "have AKS install Calico (az aks update --network-policy calico)"
	case n.Plugin == "":
		return "have AKS install one that goes with the network plugin (az aks update --network-policy calico, or --network-dataplane cilium with Azure CNI)"
	default:
		return "have AKS install Cilium (az aks update --network-dataplane cilium)"
	}
}

func windows(pool NodePool) bool { return strings.EqualFold(pool.OS, "windows") }

func (f *Facts) judgePools(now time.Time) {
	var names []string
	for _, pool := range f.NodePools {
		if !windows(pool) {
			continue
		}
		names = append(names, pool.Name)
		const advice = "Move to a pool of Windows2025."
		if end, announced := retirement.Windows(pool.OSSKU); announced {
			f.find("windows-version", severityAt(now, end), "node pool "+pool.Name, "the support of "+pool.OSSKU+" "+end.Words(now), advice)
		}
		if strings.EqualFold(pool.OSSKU, "Windows2022") && f.KubernetesVersion != "" && check.AtLeast(f.KubernetesVersion, "1.37") == nil {
			f.find("windows-version", Error, "node pool "+pool.Name, "from Kubernetes 1.37 on, "+pool.OSSKU+" is not supported, and the cluster has "+f.KubernetesVersion, advice)
		}
	}
	if len(names) > 0 {
		f.find("windows-pools", Warning, "node_pools", "the node pools "+strings.Join(names, ", ")+" run Windows, where no mesh has a proxy: pods on them stay outside, and what demands the mesh of its callers refuses them",
			"Keep meshed workloads on Linux by the node selector kubernetes.io/os=linux, and enrol no namespace whose pods run on Windows.")
	}
	made := f.look.nodesMade || f.look.describes != nil && f.look.describes.MakesNodes()
	if !made && len(f.NodePools) > 0 && !slices.ContainsFunc(f.NodePools, takesPods) {
		f.find("no-user-pool", Warning, "node_pools", "every node pool of Linux has a taint that pods of a control plane do not tolerate", "Add a node pool for users, or set tolerations in the values of the charts.")
	}
}

// takesPods tells whether pods that ask for nothing special can be on a pool.
func takesPods(pool NodePool) bool {
	return !windows(pool) && !slices.ContainsFunc(pool.Taints, func(taint string) bool {
		return strings.HasSuffix(taint, ":NoSchedule") || strings.HasSuffix(taint, ":NoExecute")
	})
}

func (f *Facts) judgeMeshes(now time.Time) {
	if known(f.IstioAddon) {
		f.find("istio-addon", Warning, "istio_addon", "the Istio add-on of AKS is enabled, with the revisions "+strings.Join(f.IstioRevisions, ", ")+" in namespace "+check.AddonNamespace+"; no other Istio may be beside it",
			"Enrol workloads in it by the label istio.io/rev=<revision> (aksmesh_injection with that revision), or disable it (az aks mesh disable) before aksmesh_istio.")
	}
	for _, revision := range f.IstioRevisions {
		if end, announced := retirement.IstioAddon(revision); announced && end.Over(now) {
			f.find("istio-addon-version", Warning, "istio_addon.revisions", "the support of the Istio add-on's revision "+revision+" "+end.Words(now)+", by what was announced",
				"See what AKS offers (az aks mesh get-upgrades), and upgrade (az aks mesh upgrade start).")
		}
	}
	if known(f.AppRouting) {
		f.find("app-routing-istio", Warning, "app_routing_istio", "App Routing has an Istio in namespace "+check.AddonNamespace+" for its gateways (GatewayClass "+appRoutingClass+"); it injects no proxies into workloads, and is no mesh",
			"Do not install another Istio beside it: disable one of both. Linkerd can be beside it.")
	}
	if known(f.ApplicationNetwork) {
		f.find("application-network", Warning, "application_network", "the cluster is a member of an Azure Kubernetes Application Network (namespace "+applicationNetworkNamespace+"), which is a mesh of ambient mode",
			"Enrol no namespace in two meshes, or leave the network before you install another one.")
	}
	if f.look.addons["openservicemesh"] {
		f.find("osm", severityAt(now, retirement.OpenServiceMesh()), "addon openServiceMesh", "the Open Service Mesh add-on is enabled, whose support "+retirement.OpenServiceMesh().Words(now),
			"Disable it (az aks disable-addons --addons open-service-mesh) before another mesh is installed.")
	}
	if f.look.addons["aciconnectorlinux"] {
		f.find("virtual-nodes", Warning, "addon aciConnectorLinux", "the cluster has virtual nodes, where neither DaemonSets nor init containers with NET_ADMIN work",
			"Keep meshed workloads, and the mesh's DaemonSets, off them.")
	}
}

func (f *Facts) judgeEnforcer() {
	if !known(f.AKS) && !f.look.enforced {
		return
	}
	f.find("admissions-enforcer", Info, "webhooks", "AKS writes into the namespace selectors of all webhooks that they leave its own namespaces alone (control-plane, kubernetes.azure.com/managedby)",
		"There is nothing to do: what it writes is neither drift nor overwritten.")
	selectors := f.look.kept
	if len(selectors) == 0 {
		// What it writes today.
		selectors = []selector{{operator: metav1.LabelSelectorOpNotIn, values: []string{"true"}}}
	}
	for _, namespace := range f.look.namespaces {
		value := namespace.Labels[controlPlaneLabel]
		i := slices.IndexFunc(selectors, func(s selector) bool { return s.keeps(value) })
		if i < 0 {
			continue
		}
		which := "webhooks"
		if of := selectors[i].of; of.Name != "" {
			which += " (" + of.String() + " is one)"
		}
		f.find("control-plane-namespace", Warning, "Namespace "+namespace.Name, "the namespace has the label control-plane="+value+
			", by which AKS's admissions enforcer keeps "+which+" away from it: pods in it get no proxy", "Take the label off if pods of the namespace are to be in the mesh.")
	}
	for _, out := range f.look.optedOut {
		severity, message := Info, " has AKS's admissions enforcer leave it alone (admissions.enforcer/disabled)"
		if out.fails {
			severity, message = Warning, message+", and refuses objects when nobody answers it, also those of the cluster's own namespaces unless its selectors spare them"
		}
		f.find("enforcer-opt-out", severity, out.of.String(), out.of.String()+message, "Take the mark off, unless its webhooks have to see the cluster's own namespaces.")
	}
}

func (f *Facts) judgeGatewayAPI() {
	g := f.GatewayAPI
	switch {
	case g == nil:
	case !g.Installed:
		advice := "Have aksmesh_linkerd bring them (gateway_api.crds = \"install\")."
		if known(f.AKS) {
			advice = "Have AKS bring them (az aks update --enable-gateway-api), or aksmesh_linkerd (gateway_api.crds = \"install\")."
		}
		f.find("no-gateway-api", Warning, "gateway_api", "there are no CRDs of the Gateway API, which Linkerd's control plane and Istio's waypoints need", advice)
	case g.Managed:
		f.find("gateway-api-managed", Info, "gateway_api", strings.TrimSpace("the CRDs of the Gateway API are managed by AKS "+g.Bundle)+", which upgrades them with the cluster",
			"Use them as they are: gateway_api.crds = \"require\" of aksmesh_linkerd.")
	}
}

package survey_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check/checktest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/survey"
)

// azure is what Azure says in a test.
type azure struct {
	described  *aks.ManagedCluster
	err        error
	registries []aks.AttachedRegistry
	denied     error // of the registries and of subnets
	subnets    map[string]string
}

func (a azure) Cluster(context.Context) (*aks.ManagedCluster, error) { return a.described, a.err }

func (a azure) Registries(context.Context, *aks.ManagedCluster) ([]aks.AttachedRegistry, error) {
	return a.registries, a.denied
}

func (a azure) Subnet(_ context.Context, id string) ([]netip.Prefix, error) {
	if a.denied != nil {
		return nil, a.denied
	}
	prefix, err := netip.ParsePrefix(a.subnets[id])
	return []netip.Prefix{prefix}, err
}

// described is a cluster as Azure answers, changed by what a test says of it.
func described(t *testing.T, changes ...string) *aks.ManagedCluster {
	t.Helper()
	cluster := &aks.ManagedCluster{}
	for _, text := range append([]string{`{
		"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/prod", "name": "prod", "location": "westeurope",
		"sku": {"name": "Base", "tier": "Standard"},
		"properties": {
			"currentKubernetesVersion": "1.35.4", "kubernetesVersion": "1.35", "nodeResourceGroup": "MC_rg_prod", "powerState": {"code": "Running"},
			"networkProfile": {"networkPlugin": "azure", "networkPluginMode": "overlay", "networkPolicy": "cilium", "networkDataplane": "cilium",
				"podCidr": "10.244.0.0/16", "podCidrs": ["10.244.0.0/16"], "serviceCidr": "10.0.0.0/16"},
			"oidcIssuerProfile": {"enabled": true, "issuerURL": "https://westeurope.oic.prod-aks.azure.com/t/c/"},
			"agentPoolProfiles": [{"name": "system", "mode": "System", "osType": "Linux", "osSKU": "Ubuntu", "count": 3, "vnetSubnetID": "nodes"}]
		}}`}, changes...) {
		if err := json.Unmarshal([]byte(text), cluster); err != nil {
			t.Fatal(err)
		}
	}
	return cluster
}

var today = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

func look(t *testing.T, from survey.Sources) *survey.Facts {
	t.Helper()
	facts, err := survey.Look(t.Context(), complete(from))
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func complete(from survey.Sources) survey.Sources {
	from.Explain = error.Error
	from.Unasked = "nobody asks"
	if from.Now.IsZero() {
		from.Now = today
	}
	return from
}

func finding(facts *survey.Facts, id string) survey.Finding {
	if i := slices.IndexFunc(facts.Findings, func(f survey.Finding) bool { return f.ID == id }); i >= 0 {
		return facts.Findings[i]
	}
	return survey.Finding{}
}

func unseen(facts *survey.Facts, subject string) string {
	var why []string
	for _, one := range facts.Unseen {
		if one.Subject == subject {
			why = append(why, one.Why)
		}
	}
	return strings.Join(why, "; ")
}

// TestARM holds what Azure says of clusters, and what is found in it, with nobody to
// ask inside.
func TestARM(t *testing.T) {
	t.Parallel()
	const flat = `{"properties": {"networkProfile": {"networkPluginMode": "", "podCidr": "", "podCidrs": [], "networkPolicy": "calico", "networkDataplane": "azure"}}}`
	windows := `{"properties": {"agentPoolProfiles": [{"name": "sys", "mode": "System", "count": 1}, {"name": "win", "osType": "Windows", "osSKU": "Windows2022", "count": 1}]}}`
	tests := map[string]struct {
		changes  []string
		now      time.Time
		finding  string // its ID
		severity survey.Severity
		says     string
	}{
		"kubenet":                     {changes: []string{`{"properties": {"networkProfile": {"networkPlugin": "kubenet"}}}`}, finding: "kubenet", severity: survey.Warning, says: "ends on 2028-03-31"},
		"kubenet on its last day":     {changes: []string{`{"properties": {"networkProfile": {"networkPlugin": "kubenet"}}}`}, now: time.Date(2028, 3, 31, 23, 0, 0, 0, time.UTC), finding: "kubenet", severity: survey.Warning, says: "ends on"},
		"kubenet after its end":       {changes: []string{`{"properties": {"networkProfile": {"networkPlugin": "kubenet"}}}`}, now: time.Date(2028, 4, 1, 0, 0, 0, 0, time.UTC), finding: "kubenet", severity: survey.Error, says: "ended on 2028-03-31"},
		"NPM":                         {changes: []string{`{"properties": {"networkProfile": {"networkPolicy": "azure", "networkDataplane": "azure"}}}`}, finding: "npm", severity: survey.Warning, says: "ends on 2028-09-30"},
		"NPM on Windows":              {changes: []string{windows, `{"properties": {"networkProfile": {"networkPolicy": "azure"}}}`}, finding: "npm-windows", severity: survey.Error, says: "ended on 2026-09-30"},
		"no engine":                   {changes: []string{`{"properties": {"networkProfile": {"networkPolicy": "none", "networkDataplane": "azure"}}}`}, finding: "no-policy-engine", severity: survey.Warning, says: "whether somebody else has"},
		"Cilium":                      {finding: "cilium", severity: survey.Info, says: "ipBlock"},
		"Windows":                     {changes: []string{windows}, finding: "windows-pools", severity: survey.Warning, says: "win"},
		"a version of Windows":        {changes: []string{windows}, finding: "windows-version", severity: survey.Warning, says: "ends on 2028-06-30"},
		"an annual Windows":           {changes: []string{`{"properties": {"agentPoolProfiles": [{"name": "win", "osType": "Windows", "osSKU": "WindowsAnnual"}]}}`}, finding: "windows-version", severity: survey.Error, says: "ended on 2026-05-15"},
		"Windows that is too old":     {changes: []string{windows, `{"properties": {"currentKubernetesVersion": "1.37.0"}}`}, now: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC), finding: "windows-version", severity: survey.Error, says: "ended on 2028-06-30"},
		"an add-on past its end":      {changes: []string{`{"properties": {"serviceMeshProfile": {"mode": "Istio", "istio": {"revisions": ["asm-1-29"]}}}}`}, finding: "istio-addon-version", severity: survey.Warning, says: "asm-1-29 ended on 2026-09-30"},
		"an add-on before its end":    {changes: []string{`{"properties": {"serviceMeshProfile": {"mode": "Istio", "istio": {"revisions": ["asm-1-30"]}}}}`}, finding: "istio-addon-version"},
		"nodes on demand":             {changes: []string{`{"properties": {"nodeProvisioningProfile": {"mode": "Auto"}, "agentPoolProfiles": [{"name": "sys", "nodeTaints": ["CriticalAddonsOnly=true:NoSchedule"]}]}}`}, finding: "no-user-pool"},
		"nodes on demand, Automatic":  {changes: []string{`{"sku": {"name": "Automatic"}, "properties": {"agentPoolProfiles": [{"name": "sys", "nodeTaints": ["CriticalAddonsOnly=true:NoSchedule"]}]}}`}, finding: "no-user-pool"},
		"tainted pools only":          {changes: []string{`{"properties": {"agentPoolProfiles": [{"name": "sys", "nodeTaints": ["CriticalAddonsOnly=true:NoSchedule"]}]}}`}, finding: "no-user-pool", severity: survey.Warning, says: "taint"},
		"public networks":             {changes: []string{`{"properties": {"networkProfile": {"serviceCidrs": ["10.0.0.0/16", "20.0.0.0/16"]}}}`}, finding: "cluster-networks", severity: survey.Warning, says: "20.0.0.0/16"},
		"Automatic that blocks":       {changes: []string{`{"sku": {"name": "Automatic"}}`}, finding: "webhooks-blocked", severity: survey.Error, says: "before 1.36"},
		"Automatic that admits":       {changes: []string{`{"sku": {"name": "Automatic"}, "properties": {"currentKubernetesVersion": "1.36.0"}}`}, finding: "automatic", severity: survey.Warning, says: "NET_ADMIN"},
		"safeguards":                  {changes: []string{`{"sku": {"name": "Automatic"}}`}, finding: "deployment-safeguards", severity: survey.Warning, says: "100m"},
		"Azure Policy":                {changes: []string{`{"properties": {"addonProfiles": {"azurepolicy": {"enabled": true}}}}`}, finding: "azure-policy", severity: survey.Warning, says: "Gatekeeper"},
		"the Istio add-on":            {changes: []string{`{"properties": {"serviceMeshProfile": {"mode": "Istio", "istio": {"revisions": ["asm-1-29", "asm-1-30"]}}}}`}, finding: "istio-addon", severity: survey.Warning, says: "asm-1-29, asm-1-30"},
		"App Routing":                 {changes: []string{`{"properties": {"ingressProfile": {"webAppRouting": {"gatewayAPIImplementations": {"appRoutingIstio": {"mode": "Enabled"}}}}}}`}, finding: "app-routing-istio", severity: survey.Warning, says: "approuting-istio"},
		"Open Service Mesh":           {changes: []string{`{"properties": {"addonProfiles": {"openServiceMesh": {"enabled": true}}}}`}, finding: "osm", severity: survey.Warning, says: "2027-09-30"},
		"virtual nodes":               {changes: []string{`{"properties": {"addonProfiles": {"aciConnectorLinux": {"enabled": true}}}}`}, finding: "virtual-nodes", severity: survey.Warning, says: "DaemonSets"},
		"managed Gateway API":         {changes: []string{`{"properties": {"ingressProfile": {"gatewayAPI": {"installation": "Standard"}}}}`}, finding: "gateway-api-managed", severity: survey.Info, says: "AKS"},
		"stopped":                     {changes: []string{`{"properties": {"powerState": {"code": "Stopped"}}}`}, finding: "stopped", severity: survey.Error, says: "stopped"},
		"the enforcer":                {finding: "admissions-enforcer", severity: survey.Info, says: "control-plane"},
		"DNS on the nodes":            {changes: []string{`{"properties": {"currentKubernetesVersion": "1.36.1", "networkProfile": {"networkPolicy": "none", "networkDataplane": "azure"}}}`}, finding: "local-dns", severity: survey.Info, says: "LocalDNS"},
		"no DNS on nodes with Cilium": {changes: []string{`{"properties": {"currentKubernetesVersion": "1.36.1"}}`}, finding: "local-dns"},
		"no DNS on nodes with Calico": {changes: []string{flat, `{"properties": {"currentKubernetesVersion": "1.36.1"}}`}, finding: "local-dns"},
		"nothing of Automatic":        {finding: "automatic"},
		"all covered":                 {finding: "cluster-networks"},
		"an own plugin":               {changes: []string{`{"properties": {"networkProfile": {"networkPlugin": "none", "networkPolicy": "none", "networkDataplane": ""}}}`}, finding: "no-policy-engine"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := look(t, survey.Sources{Azure: azure{described: described(t, test.changes...)}, Now: test.now})
			got := finding(facts, test.finding)
			if got.Severity != test.severity || !strings.Contains(got.Message, test.says) || test.severity != "" && (got.Advice == "" || got.Subject == "") {
				t.Errorf("got %+v, want %s with %q", got, test.severity, test.says)
			}
			if facts.Source != survey.FromARM || unseen(facts, "the inside of the cluster") == "" {
				t.Errorf("source %s, unseen %v", facts.Source, facts.Unseen)
			}
		})
	}
}

// TestAdvice holds that what is advised is possible in the cluster.
func TestAdvice(t *testing.T) {
	t.Parallel()
	const npm = `{"properties": {"networkProfile": {"networkPolicy": "azure", "networkDataplane": "azure"}}}`
	const none = `{"properties": {"networkProfile": {"networkPolicy": "none", "networkDataplane": "azure"}}}`
	const windows = `{"properties": {"agentPoolProfiles": [{"name": "win", "osType": "Windows"}]}}`
	const kubenet = `{"properties": {"networkProfile": {"networkPlugin": "kubenet", "networkPluginMode": ""}}}`
	for name, test := range map[string]struct {
		changes      []string
		finding      string
		says, silent string
	}{
		"from NPM":               {[]string{npm}, "npm", "--network-dataplane cilium", "Calico"},
		"from NPM with Windows":  {[]string{npm, windows}, "npm", "--network-policy calico", "cilium"},
		"none":                   {[]string{none}, "no-policy-engine", "--network-dataplane cilium", "Calico"},
		"none with Windows":      {[]string{none, windows}, "no-policy-engine", "--network-policy calico", "cilium"},
		"none with kubenet":      {[]string{none, kubenet}, "no-policy-engine", "--network-policy calico", "cilium"},
		"Cilium":                 {nil, "cilium", "init containers need none", "AKS Automatic"},
		"Cilium of Automatic":    {[]string{`{"sku": {"name": "Automatic"}, "properties": {"currentKubernetesVersion": "1.36.0"}}`}, "cilium", "Prove injection", "init containers need none"},
		"queries of DNS":         {[]string{none, `{"properties": {"currentKubernetesVersion": "1.36.1"}}`}, "local-dns", "169.254.10.10", "as aksmesh_network_policy does"},
		"Windows from 1.37 on":   {[]string{`{"properties": {"currentKubernetesVersion": "1.37.0", "agentPoolProfiles": [{"name": "win", "osType": "Windows", "osSKU": "Windows2022"}]}}`}, "windows-version", "Windows2025", "ends on"},
		"networks that are none": {[]string{`{"properties": {"networkProfile": {"serviceCidrs": ["20.0.0.0/16"]}}}`}, "cluster-networks", "fd00::/8,20.0.0.0/16.", "whole networks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := look(t, survey.Sources{Azure: azure{described: described(t, test.changes...)}})
			got := finding(facts, test.finding)
			if !strings.Contains(got.Advice, test.says) || strings.Contains(got.Advice, test.silent) {
				t.Errorf("got %+v, want %q and not %q", got, test.says, test.silent)
			}
		})
	}
	facts := look(t, survey.Sources{Azure: azure{described: described(t, `{"properties": {"currentKubernetesVersion": "1.37.0", "agentPoolProfiles": [{"name": "win", "osType": "Windows", "osSKU": "Windows2022"}]}}`)}})
	if got := finding(facts, "windows-version"); got.Severity != survey.Error || !strings.Contains(got.Message, "1.37.0") {
		t.Errorf("Windows2022 with Kubernetes 1.37: %+v", got)
	}
}

// TestFindingsInOrder holds that what is worst comes first.
func TestFindingsInOrder(t *testing.T) {
	t.Parallel()
	facts := look(t, survey.Sources{Azure: azure{described: described(t, `{"sku": {"name": "Automatic"}}`)}})
	order := map[survey.Severity]int{survey.Error: 0, survey.Warning: 1, survey.Info: 2}
	if len(facts.Findings) < 3 || !slices.IsSortedFunc(facts.Findings, func(a, b survey.Finding) int { return order[a.Severity] - order[b.Severity] }) {
		t.Errorf("got %+v", facts.Findings)
	}
}

// TestNetworkOfARM holds where the addresses of pods come from, by Azure's words.
func TestNetworkOfARM(t *testing.T) {
	t.Parallel()
	const flat = `{"properties": {"networkProfile": {"networkPluginMode": "", "podCidr": "", "podCidrs": []}}}`
	yes, no := true, false
	tests := map[string]struct {
		changes []string
		denied  error
		shared  *bool
		because string
		pods    []string
		unseen  string
		covered *bool
	}{
		"overlay":                {shared: &no, because: "azure overlay", pods: []string{"10.244.0.0/16"}, covered: &yes},
		"the nodes' subnet":      {changes: []string{flat}, shared: &yes, because: "subnet of their node", pods: []string{"10.1.0.0/16"}, covered: &yes},
		"a subnet of pods":       {changes: []string{flat, `{"properties": {"agentPoolProfiles": [{"name": "a", "vnetSubnetID": "nodes", "podSubnetID": "pods"}]}}`}, shared: &no, because: "node pools a", pods: []string{"20.1.0.0/16"}, covered: &no},
		"a subnet that is AKS's": {changes: []string{flat, `{"properties": {"agentPoolProfiles": [{"name": "a", "vnetSubnetID": ""}]}}`}, shared: &yes, because: "subnet of their node", unseen: "MC_rg_prod", covered: &yes},
		"a subnet of somebody":   {changes: []string{flat}, denied: errors.New("403 AuthorizationFailed"), shared: &yes, because: "subnet of their node", unseen: "AuthorizationFailed", covered: &yes},
		"an own plugin":          {changes: []string{`{"properties": {"networkProfile": {"networkPlugin": "none"}}}`}, because: "plugin of its own", pods: []string{"10.244.0.0/16"}, covered: &yes},
		"dual stack":             {changes: []string{`{"properties": {"networkProfile": {"podCidrs": ["10.244.0.0/16", "2603::/64"]}}}`}, shared: &no, because: "overlay", pods: []string{"10.244.0.0/16", "2603::/64"}, covered: &no},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := look(t, survey.Sources{Azure: azure{described: described(t, test.changes...), denied: test.denied, subnets: map[string]string{"nodes": "10.1.0.0/16", "pods": "20.1.0.0/16"}}})
			n := facts.Network
			if show(n.SharedSubnet) != show(test.shared) || !strings.Contains(n.SharedBecause, test.because) || !slices.Equal(n.PodCIDRs, test.pods) || show(n.Covered) != show(test.covered) {
				t.Errorf("shared %s (%s), pods %v, covered %s", show(n.SharedSubnet), n.SharedBecause, n.PodCIDRs, show(n.Covered))
			}
			if got := unseen(facts, "network.pod_cidrs"); !strings.Contains(got, test.unseen) || (got == "") != (test.unseen == "") {
				t.Errorf("unseen: %q", got)
			}
		})
	}
}

func show(fact *bool) string {
	if fact == nil {
		return "unknown"
	}
	return fmt.Sprint(*fact)
}

func aksNode(name, address string, labels map[string]string) *corev1.Node {
	all := map[string]string{"kubernetes.azure.com/cluster": "MC_rg_prod", "kubernetes.azure.com/agentpool": "user", "kubernetes.azure.com/mode": "user", corev1.LabelOSStable: "linux"}
	maps.Copy(all, labels)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
			NodeInfo:  corev1.NodeSystemInfo{KubeletVersion: "v1.35.4"},
		},
	}
}

func systemPod(name, node, address string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: address}}},
	}
}

// inside is a cluster of AKS with two nodes in a flat network.
func inside() *checktest.API {
	api := checktest.New()
	api.Version = "v1.35.4"
	api.Put(kube.Node, aksNode("a", "10.1.0.4", nil))
	api.Put(kube.Node, aksNode("b", "10.1.0.40", map[string]string{"kubernetes.azure.com/os-sku": "Ubuntu"}))
	api.Put(kube.Pod, systemPod("coredns", "a", "10.1.0.9"))
	api.Put(kube.Service, map[string]any{
		"metadata": map[string]any{"namespace": "default", "name": "kubernetes"}, "spec": map[string]any{"clusterIPs": []any{"10.0.0.1"}},
	})
	api.Name(kube.DaemonSet, "kube-system", "azure-cns")
	api.Name(kube.Namespace, "", "kube-system", "default")
	for _, kind := range []kube.Kind{kube.DaemonSet, kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration, kube.CustomResourceDefinition, kube.Deployment} {
		api.Name(kind, "")
	}
	return api
}

// TestInside holds what a cluster says of itself, without Azure.
func TestInside(t *testing.T) {
	t.Parallel()
	api := inside()
	api.Issuer = "https://westeurope.oic.prod-aks.azure.com/t/c/"
	api.Put(kube.Node, aksNode("w", "10.1.0.60", map[string]string{"kubernetes.azure.com/agentpool": "win", corev1.LabelOSStable: "windows"}))
	api.Put(kube.DaemonSet, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "azure-npm"}})
	api.Name(kube.Deployment, "kube-system", "azure-policy", "konnectivity-agent")
	api.Name(kube.Namespace, "", "applink-system")
	api.Put(kube.Namespace, map[string]any{"metadata": map[string]any{"name": "operators", "labels": map[string]any{"control-plane": "true"}}})
	api.Put(kube.Namespace, map[string]any{"metadata": map[string]any{"name": "kubebuilder", "labels": map[string]any{"control-plane": "controller-manager"}}})
	api.Put(kube.Namespace, map[string]any{"metadata": map[string]any{"name": "gatekeeper-system", "labels": map[string]any{"control-plane": "x", "kubernetes.azure.com/managedby": "aks"}}})
	injector := func(name, revision string) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"name": name, "labels": map[string]any{"app": "sidecar-injector", "istio.io/rev": revision}, "annotations": map[string]any{"admissions.enforcer/disabled": "true"}},
			"webhooks": []any{map[string]any{"name": "w", "clientConfig": map[string]any{"service": map[string]any{"namespace": "aks-istio-system", "name": "istiod"}}}},
		}
	}
	api.Put(kube.MutatingWebhookConfiguration, injector("istio-sidecar-injector-asm-1-30-aks-istio-system", "asm-1-30"))
	api.Put(kube.MutatingWebhookConfiguration, injector("istio-approuting", "default"))
	api.Put(kube.CustomResourceDefinition, map[string]any{"metadata": map[string]any{
		"name":        "httproutes.gateway.networking.k8s.io",
		"annotations": map[string]any{"app.kubernetes.io/managed-by": "aks", "gateway.networking.k8s.io/bundle-version": "v1.4.1", "gateway.networking.k8s.io/channel": "standard"},
	}})
	api.Put(kube.Kind{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs", Name: "ServiceCIDR"}, map[string]any{
		"metadata": map[string]any{"name": "kubernetes"}, "spec": map[string]any{"cidrs": []any{"10.0.0.0/16"}},
	})
	api.Name(kube.Kind{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies", Name: "ValidatingAdmissionPolicy"}, "", "aks-managed-protect-system-namespaces")
	api.PodRefusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: `pods "aksmesh-preflight" is forbidden: violates PodSecurity "baseline:latest"`}

	facts := look(t, survey.Sources{Inside: api.Connect(t)})
	n := facts.Network
	for name, ok := range map[string]bool{
		"source":              facts.Source == survey.FromCluster,
		"AKS":                 show(facts.AKS) == "true",
		"version":             facts.KubernetesVersion == "1.35.4",
		"plugin":              n.Plugin == "azure" && n.PluginMode == "",
		"services":            slices.Equal(n.ServiceCIDRs, []string{"10.0.0.0/16"}),
		"covered":             show(n.Covered) == "true",
		"engine":              n.Engine.Evidence == "DaemonSet kube-system/azure-npm",
		"shared subnet":       show(n.SharedSubnet) == "true" && strings.Contains(n.SharedBecause, "Pod kube-system/coredns has 10.1.0.9, between the nodes' 10.1.0.4 and 10.1.0.40"),
		"issuer":              facts.OIDCIssuer == api.Issuer,
		"policy add-on":       show(facts.AzurePolicy) == "true" && show(facts.WorkloadIdentity) == "false",
		"VNet integration":    show(facts.VNetIntegration) == "false",
		"Istio add-on":        show(facts.IstioAddon) == "true" && slices.Equal(facts.IstioRevisions, []string{"asm-1-30"}) && show(facts.AppRouting) == "true",
		"Application Network": show(facts.ApplicationNetwork) == "true",
		"safeguards":          show(facts.Safeguards) == "false" && unseen(facts, "deployment_safeguards") == "",
		"Gateway API":         facts.GatewayAPI != nil && *facts.GatewayAPI == survey.GatewayAPI{Installed: true, Bundle: "1.4.1", Channel: "standard", Owner: "managed by AKS", Managed: true},
		"node pools":          len(facts.NodePools) == 2 && facts.NodePools[0].Name == "user" && facts.NodePools[0].Count == 2 && facts.NodePools[0].Mode == "User" && facts.NodePools[0].OSSKU == "Ubuntu" && facts.NodePools[1].OS == "Windows",
		"registries unseen":   facts.Registries == nil && strings.Contains(unseen(facts, "registries"), "nobody asks"),
		"private unseen":      facts.Private == nil && unseen(facts, "private_cluster") != "",
		"others unseen":       unseen(facts, "tier") != "" && unseen(facts, "power_state") != "" && unseen(facts, "managed_system_pools") != "" && unseen(facts, "network.policy") != "",
	} {
		if !ok {
			t.Errorf("%s: %+v", name, facts)
		}
	}
	for id, says := range map[string]string{
		"npm-windows": "ended on 2026-09-30", "init-containers-refused": "baseline", "control-plane-namespace": "control-plane=true", "enforcer-opt-out": "refuses objects",
		"istio-addon": "asm-1-30", "application-network": "applink-system", "gateway-api-managed": "1.4.1", "azure-policy": "Gatekeeper", "windows-pools": "win",
	} {
		if got := finding(facts, id); !strings.Contains(got.Message, says) {
			t.Errorf("%s: got %+v, want %q", id, got, says)
		}
	}
	if slices.ContainsFunc(facts.Findings, func(f survey.Finding) bool {
		return strings.Contains(f.Subject, "gatekeeper-system") || strings.Contains(f.Subject, "kubebuilder")
	}) {
		t.Error("AKS's own namespaces, or those that it does not keep webhooks away from, are held against the user")
	}
}

var gatewayClass = kube.Kind{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses", Name: "GatewayClass"}

// TestInsideVariants holds what is told apart inside.
func TestInsideVariants(t *testing.T) {
	t.Parallel()
	denied := metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: "ValidatingAdmissionPolicy 'aks-managed-x' denied request"}
	tests := map[string]struct {
		change func(*checktest.API)
		holds  func(*survey.Facts) bool
	}{
		"overlay": {func(api *checktest.API) {
			api.Put(kube.Node, aksNode("a", "10.1.0.4", map[string]string{"kubernetes.azure.com/azure-cni-overlay": "true"}))
		}, func(f *survey.Facts) bool {
			return f.Network.PluginMode == "overlay" && show(f.Network.SharedSubnet) == "false"
		}},
		"networks of nodes": {func(api *checktest.API) {
			node := aksNode("a", "10.1.0.4", nil)
			node.Spec.PodCIDRs = []string{"10.1.0.0/27"}
			api.Put(kube.Node, node)
		}, func(f *survey.Facts) bool {
			return f.Network.Plugin == "" && show(f.Network.SharedSubnet) == "false" && strings.Contains(unseen(f, "network.plugin"), "kubenet")
		}},
		"one node proves nothing": {func(api *checktest.API) {
			api.Drop(kube.Ref{Kind: kube.Node, Name: "b"})
		}, func(f *survey.Facts) bool { return f.Network.SharedSubnet == nil && f.Network.SharedBecause != "" }},
		"a public address of a service": {func(api *checktest.API) {
			api.Put(kube.Service, map[string]any{"metadata": map[string]any{"namespace": "default", "name": "kubernetes"}, "spec": map[string]any{"clusterIPs": []any{"20.0.0.1"}}})
		}, func(f *survey.Facts) bool {
			return f.Network.Uncovered == nil && show(f.Network.Covered) == "false" && strings.Contains(unseen(f, "network.outside_linkerd_defaults"), "20.0.0.1 of Service default/kubernetes") &&
				strings.Contains(finding(f, "cluster-networks").Message, "20.0.0.1")
		}},
		"a public network of a node": {func(api *checktest.API) {
			node := aksNode("a", "10.1.0.4", nil)
			node.Spec.PodCIDRs = []string{"20.1.0.0/24"}
			api.Put(kube.Node, node)
		}, func(f *survey.Facts) bool {
			return f.Network.Uncovered == nil && strings.Contains(unseen(f, "network.outside_linkerd_defaults"), "20.1.0.0/24 of Node a")
		}},
		"a plugin of somebody": {func(api *checktest.API) {
			api.Drop(kube.Ref{Kind: kube.DaemonSet, Namespace: "kube-system", Name: "azure-cns"})
		}, func(f *survey.Facts) bool {
			return f.Network.Plugin == "" && strings.Contains(unseen(f, "network.plugin"), "azure-cns")
		}},
		"a plugin by its label": {func(api *checktest.API) {
			api.Drop(kube.Ref{Kind: kube.DaemonSet, Namespace: "kube-system", Name: "azure-cns"})
			api.Put(kube.Node, aksNode("a", "10.1.0.4", map[string]string{"kubernetes.azure.com/podnetwork-type": "vnet"}))
		}, func(f *survey.Facts) bool { return f.Network.Plugin == "azure" && f.Network.PluginMode == "" }},
		"App Routing by its class": {func(api *checktest.API) {
			api.Name(gatewayClass, "", "approuting-istio")
		}, func(f *survey.Facts) bool {
			return show(f.AppRouting) == "true" && finding(f, "app-routing-istio").ID != ""
		}},
		"no App Routing": {func(api *checktest.API) {
			api.Name(gatewayClass, "", "istio")
		}, func(f *survey.Facts) bool { return show(f.AppRouting) == "false" }},
		"App Routing, if one could know": {func(api *checktest.API) {
			api.Name(gatewayClass, "")
			api.Forbidden = func(resource string) bool { return resource == "gatewayclasses" }
		}, func(f *survey.Facts) bool { return f.AppRouting == nil && unseen(f, "app_routing_istio") != "" }},
		"requests that are raised": {func(api *checktest.API) {
			api.Admit = func(o *unstructured.Unstructured) metav1.Status {
				if o.GetKind() == "Deployment" {
					containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
					for _, c := range containers {
						fields, _ := c.(map[string]any)
						fields["resources"] = map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "100Mi"}}
					}
					if err := unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"); err != nil {
						panic(err)
					}
				}
				return metav1.Status{}
			}
		}, func(f *survey.Facts) bool {
			return show(f.Safeguards) == "true" && finding(f, "deployment-safeguards").ID != ""
		}},
		"safeguards, if one could know": {func(api *checktest.API) {
			api.Admit = func(*unstructured.Unstructured) metav1.Status {
				return metav1.Status{Status: metav1.StatusFailure, Code: 400, Message: `admission webhook "validate.kyverno.svc-fail" denied the request: no label team`}
			}
		}, func(f *survey.Facts) bool {
			return f.Safeguards == nil && strings.Contains(unseen(f, "deployment_safeguards"), "no label team")
		}},
		"nodes on demand": {func(api *checktest.API) {
			api.Name(kube.Kind{Group: "karpenter.sh", Version: "v1", Resource: "nodepools", Name: "NodePool"}, "", "default")
			for _, name := range []string{"a", "b"} {
				node := aksNode(name, "10.1.0.4", nil)
				node.Spec.Taints = []corev1.Taint{{Key: "CriticalAddonsOnly", Value: "true", Effect: corev1.TaintEffectNoSchedule}}
				api.Put(kube.Node, node)
			}
		}, func(f *survey.Facts) bool { return finding(f, "no-user-pool").ID == "" }},
		"the enforcer's older form": {func(api *checktest.API) {
			api.Put(kube.Namespace, map[string]any{"metadata": map[string]any{"name": "operators", "labels": map[string]any{"control-plane": "controller-manager"}}})
			api.Put(kube.ValidatingWebhookConfiguration, map[string]any{
				"metadata": map[string]any{"name": "older", "managedFields": []any{map[string]any{"manager": "admissionsenforcer", "operation": "Update", "apiVersion": "admissionregistration.k8s.io/v1"}}},
				"webhooks": []any{map[string]any{"name": "w", "namespaceSelector": map[string]any{"matchExpressions": []any{map[string]any{"key": "control-plane", "operator": "DoesNotExist"}}}}},
			})
		}, func(f *survey.Facts) bool {
			return strings.Contains(finding(f, "control-plane-namespace").Message, "ValidatingWebhookConfiguration older is one")
		}},
		"a webhook that denies the pods of tries without a code": {func(api *checktest.API) {
			api.PodRefusal = metav1.Status{Status: metav1.StatusFailure, Code: 400, Message: `admission webhook "validate.kyverno.svc-fail" denied the request: NET_ADMIN`}
		}, func(f *survey.Facts) bool {
			return f.Source == survey.FromCluster && f.GatewayAPI != nil && strings.Contains(finding(f, "init-containers-refused").Message, "kyverno")
		}},
		"a webhook that does not answer": {func(api *checktest.API) {
			api.PodRefusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: 500, Message: `Internal error occurred: failed calling webhook "x"`}
		}, func(f *survey.Facts) bool {
			return f.Source == survey.FromCluster && f.GatewayAPI != nil && strings.Contains(unseen(f, "whether init containers are admitted"), "failed calling webhook")
		}},
		"no engine": {func(*checktest.API) {}, func(f *survey.Facts) bool { return finding(f, "no-policy-engine").Severity == survey.Warning }},
		"no Gateway API": {func(*checktest.API) {}, func(f *survey.Facts) bool {
			return !f.GatewayAPI.Installed && finding(f, "no-gateway-api").Severity == survey.Warning
		}},
		"no webhooks": {func(api *checktest.API) { api.Refusal = denied }, func(f *survey.Facts) bool {
			return finding(f, "webhooks-blocked").Severity == survey.Error && strings.Contains(finding(f, "webhooks-blocked").Message, "aks-managed-x")
		}},
		"nothing but the version may be read": {func(api *checktest.API) {
			api.Forbidden = func(string) bool { return true }
			api.Refusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: "User cannot create resource"}
			api.PodRefusal = api.Refusal
		}, func(f *survey.Facts) bool {
			return f.KubernetesVersion == "1.35.4" && f.AKS == nil && unseen(f, "node_pools") != "" && unseen(f, "network.policy_engine") != "" && unseen(f, "gateway_api") != "" &&
				unseen(f, "whether webhooks are admitted") != "" && unseen(f, "network.linkerd_covered") != "" && len(f.Findings) == 0
		}},
		"another cluster than AKS": {func(api *checktest.API) {
			for _, name := range []string{"a", "b"} {
				api.Put(kube.Node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			api.Issuer = "https://kubernetes.default.svc.cluster.local"
			api.Put(kube.Namespace, map[string]any{"metadata": map[string]any{"name": "operators", "labels": map[string]any{"control-plane": "true"}}})
			api.Put(kube.MutatingWebhookConfiguration, map[string]any{"metadata": map[string]any{"name": "w", "labels": map[string]any{"admissions.enforcer/disabled": "true"}}})
			api.Name(kube.DaemonSet, "kube-system", "cilium")
		}, func(f *survey.Facts) bool {
			for _, one := range f.Findings {
				if text := one.Message + one.Advice; strings.Contains(text, "AKS") || strings.Contains(text, "az aks") {
					return false
				}
			}
			return show(f.AKS) == "false" && !strings.Contains(f.Network.SharedBecause, "Azure") && finding(f, "no-gateway-api").ID != "" && finding(f, "cilium").ID != "" && f.OIDCIssuer != "" && unseen(f, "registries") == "" && finding(f, "admissions-enforcer").ID == ""
		}},
		"the API server of AKS names no issuer for others": {func(api *checktest.API) {
			api.Issuer = "https://prod-x.hcp.westeurope.azmk8s.io"
		}, func(f *survey.Facts) bool { return f.OIDCIssuer == "" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := inside()
			test.change(api)
			if facts := look(t, survey.Sources{Inside: api.Connect(t)}); !test.holds(facts) {
				t.Errorf("got %+v", facts)
			}
		})
	}
}

// TestBoth holds who is believed, and that either does where the other does not
// answer.
func TestBoth(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	api := inside()
	facts := look(t, survey.Sources{Azure: azure{described: described(t, `{"properties": {"networkProfile": {"networkPolicy": "none", "networkDataplane": "azure"}}}`), registries: []aks.AttachedRegistry{{Scope: "r", Role: "AcrPull"}}}, Inside: api.Connect(t)})
	if facts.Source != survey.FromBoth || facts.Location != "westeurope" || len(facts.Registries) != 1 || !facts.Network.Engine.None() || show(facts.Network.SharedSubnet) != "false" || len(facts.NodePools) != 1 {
		t.Errorf("both: %+v", facts)
	}
	refused := azure{err: errors.New("403 AuthorizationFailed")}
	facts = look(t, survey.Sources{Azure: refused, Inside: inside().Connect(t)})
	if facts.Source != survey.FromCluster || !strings.Contains(unseen(facts, "registries"), "AuthorizationFailed") || show(facts.AKS) != "true" {
		t.Errorf("without Azure: %+v", facts)
	}
	if _, err := survey.Look(ctx, complete(survey.Sources{Azure: refused})); !errors.Is(err, refused.err) {
		t.Errorf("with nobody: %v", err)
	}
	nowhere, err := kube.Connect(kube.Settings{Host: "http://127.0.0.1:1", RequestTimeout: time.Second}, "test")
	if err != nil {
		t.Fatal(err)
	}
	facts = look(t, survey.Sources{Azure: azure{described: described(t)}, Inside: nowhere})
	if facts.Source != survey.FromARM || !strings.Contains(unseen(facts, "the inside of the cluster"), "does not answer") {
		t.Errorf("without the API server: %+v", facts)
	}
	if _, err := survey.Look(ctx, complete(survey.Sources{Inside: nowhere})); err == nil {
		t.Error("nobody answers, and that is no error")
	}
	// Azure says that webhooks are blocked, and the API server that they are not: one
	// that is older than what blocks them.
	// A network that is known speaks for its addresses, which come and go.
	api = inside()
	for i := range 4 {
		api.Put(kube.Pod, systemPod(fmt.Sprint("p", i), "a", fmt.Sprintf("20.1.0.%d", 10+i)))
	}
	public := `{"properties": {"networkProfile": {"podCidrs": ["20.1.0.0/16", "20.1.4.0/24"], "serviceCidrs": ["30.0.0.0/16"]}}}`
	facts = look(t, survey.Sources{Azure: azure{described: described(t, public)}, Inside: api.Connect(t)})
	if !slices.Equal(facts.Network.Uncovered, []string{"20.1.0.0/16", "30.0.0.0/16"}) || show(facts.Network.Covered) != "false" {
		t.Errorf("outside of Linkerd's networks: %v, covered %s", facts.Network.Uncovered, show(facts.Network.Covered))
	}
	if facts = look(t, survey.Sources{Azure: azure{described: described(t)}}); unseen(facts, "deployment_safeguards") == "" || unseen(facts, "gateway_api") == "" {
		t.Errorf("Azure alone: unseen %v", facts.Unseen)
	}
	older := look(t, survey.Sources{Azure: azure{described: described(t, `{"sku": {"name": "Automatic"}}`)}, Inside: inside().Connect(t)})
	hosted := look(t, survey.Sources{Azure: azure{described: described(t, `{"sku": {"name": "Automatic"}, "properties": {"hostedSystemProfile": {"enabled": true}}}`)}, Inside: inside().Connect(t)})
	if finding(older, "webhooks-blocked").ID != "" || finding(hosted, "webhooks-blocked").Severity != survey.Error {
		t.Errorf("older %+v, hosted %+v", older.Findings, hosted.Findings)
	}
}

// TestBroken holds that an API server that fails is no cluster without anything, and
// that one question that fails does not take the others with it.
func TestBroken(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := survey.Look(ctx, complete(survey.Sources{Azure: azure{described: described(t)}, Inside: inside().Connect(t)})); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	api := inside()
	api.Refusal = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonServiceUnavailable, Code: 503, Message: "restarting"}
	facts := look(t, survey.Sources{Inside: api.Connect(t)})
	if !strings.Contains(unseen(facts, "whether webhooks are admitted"), "restarting") || facts.GatewayAPI == nil || finding(facts, "no-gateway-api").ID == "" {
		t.Errorf("one question without an answer: %+v", facts)
	}
}

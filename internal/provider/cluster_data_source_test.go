package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check/checktest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// aksNodes are what an API server of AKS has, with nodes that have the labels of
// AKS, which those of the embedded cluster have not.
func aksNodes() *checktest.API {
	api := checktest.New()
	for name, address := range map[string]string{"aks-user-0": "10.1.0.4", "aks-user-1": "10.1.0.40"} {
		api.Put(kube.Node, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				"kubernetes.azure.com/cluster": "MC_rg_prod", "kubernetes.azure.com/agentpool": "user", corev1.LabelOSStable: "linux", "kubernetes.azure.com/network-policy": "calico",
			}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
		})
	}
	api.Put(kube.Pod, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns"},
		Spec:       corev1.PodSpec{NodeName: "aks-user-0"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.0.9"}}},
	})
	api.Put(kube.Service, map[string]any{"metadata": map[string]any{"namespace": "default", "name": "kubernetes"}, "spec": map[string]any{"clusterIPs": []any{"172.32.0.1"}}})
	for _, kind := range []kube.Kind{kube.Namespace, kube.DaemonSet, kube.Deployment, kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration, kube.CustomResourceDefinition} {
		api.Name(kind, "")
	}
	return api
}

// expectFacts wants attributes of a data source, as JSON, to match patterns; an
// attribute of an attribute is named with a dot.
func expectFacts(t *testing.T, w *workspace, address string, want map[string]string) {
	t.Helper()
	attributes := w.attributes()[address]
	for name, pattern := range want {
		var value any = attributes
		for part := range strings.SplitSeq(name, ".") {
			object, _ := value.(map[string]any)
			value = object[part]
		}
		got, err := json.Marshal(value)
		if err != nil || !regexp.MustCompile(pattern).Match(got) {
			t.Errorf("%s.%s is %s, want %s", address, name, got, pattern)
		}
	}
}

// TestAccCluster looks at one cluster by Azure and from inside, from inside where
// Azure tells nothing, and without Azure.
func TestAccCluster(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	inside := aksNodes()
	direct := inside.Connect(t)
	subnet := "/subscriptions/%s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"
	subscription := azure.AddSubscription(nil)
	subnet = fmt.Sprintf(subnet, subscription)
	aks, err := azure.AddCluster(testazure.ClusterOptions{API: inside, SubscriptionID: subscription, Properties: map[string]any{
		"networkProfile": map[string]any{"networkPluginMode": nil, "podCidr": nil, "podCidrs": nil, "networkPolicy": "calico", "networkDataplane": "azure", "serviceCidr": "172.32.0.0/16", "serviceCidrs": []any{"172.32.0.0/16"}},
		"agentPoolProfiles": []any{
			map[string]any{"name": "system", "mode": "System", "count": 3, "osType": "Linux", "osSKU": "AzureLinux", "vnetSubnetID": subnet},
			map[string]any{"name": "win", "mode": "User", "count": 1, "osType": "Windows", "osSKU": "Windows2022", "vnetSubnetID": subnet},
		},
		"serviceMeshProfile": map[string]any{"mode": "Istio", "istio": map[string]any{"revisions": []any{"asm-1-30"}}},
		"addonProfiles":      map[string]any{"azurepolicy": map[string]any{"enabled": true}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := azure.AddCluster(testazure.ClusterOptions{SubscriptionID: subscription, SKU: map[string]any{"name": "Automatic"}})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := azure.AddRegistry(testazure.RegistryOptions{SubscriptionID: subscription})
	if err != nil {
		t.Fatal(err)
	}
	azure.Assign(aks.ObjectID, testazure.AcrPull, registry.ID())
	azure.Assign(aks.ObjectID, testazure.RepositoryReader, registry.ID()) // It does not count there.
	const reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	byRepositories, err := azure.AddRegistry(testazure.RegistryOptions{SubscriptionID: subscription, Properties: map[string]any{"roleAssignmentMode": "AbacRepositoryPermissions"}})
	if err != nil {
		t.Fatal(err)
	}
	azure.Assign(other.ObjectID, testazure.AcrPull, byRepositories.ID())
	azure.Assign(other.ObjectID, testazure.RepositoryReader, byRepositories.ID())
	azure.Assign(other.ObjectID, reader, registry.ID())
	// The double has no networks.
	azure.Fail(testazure.Fault{Path: subnet, Status: http.StatusOK, Body: map[string]any{"properties": map[string]any{"addressPrefixes": []any{"10.1.0.0/16"}}}})

	named := fmt.Sprintf("provider \"aksmesh\" {\n aks = { id = %q }\n}\n", aks.ID())
	const this = "data \"aksmesh_cluster\" \"this\" {}\n"
	w := newWorkspace(t, named+this+fmt.Sprintf("data \"aksmesh_cluster\" \"other\" {\n id = %q\n}", other.ID()), environ(azure)...)
	w.apply()
	expectFacts(t, w, "aksmesh_cluster.this", map[string]string{
		"id": aks.ID(), "source": `"arm\+cluster"`, "sku": "Base", "kubernetes_version": "1.35.2", "oidc_issuer_url": `\.oic\.`, "private_cluster": "false", "api_server_vnet_integration": "false",
		"network.plugin": "azure", "network.plugin_mode": "null", "network.policy": "calico", "network.policy_engine": "Calico", "network.dataplane": "azure",
		"network.pod_cidrs": `^\["10.1.0.0/16"\]$`, "network.service_cidrs": `^\["172.32.0.0/16"\]$`, "network.linkerd_covered": "false", "network.outside_linkerd_defaults": `^\["172.32.0.0/16"\]$`,
		"network.pods_share_node_subnet": "true", "network.pods_share_node_subnet_reason": "subnet of their node",
		"istio_addon": `{"enabled":true,"revisions":\["asm-1-30"\]}`, "azure_policy": "true", "node_pools": `"Windows2022"`, "gateway_api.installed": "false",
		"registries": `^\[{"condition":null,"login_server":"` + registry.Host() + `","role":"AcrPull","scope":"` + registry.ID() + `"}\]$`,
		"findings":   `"windows-pools"`, "unseen": `^\[\]$`,
	})
	expectFacts(t, w, "aksmesh_cluster.other", map[string]string{
		"source": `"arm"`, "sku": "Automatic", "findings": `"id":"webhooks-blocked",.*"severity":"error"`, "unseen": "The API server was not asked",
		"network.pods_share_node_subnet": "false", "gateway_api": "null",
		"registries": `^\[{[^}]*"role":"(Reader|Container Registry Repository Reader)"[^}]*},{[^}]*"role":"(Reader|Container Registry Repository Reader)"[^}]*}\]$`,
	})
	w.expectNoChanges()

	// An account that may use the cluster, and may read nothing of it in Azure.
	aks.Forbid("Microsoft.ContainerService/managedClusters/read")
	w.write(named + this)
	w.apply()
	fromInside := map[string]string{
		"id": "null", "source": `"cluster"`, "is_aks": "true", "network.policy_engine": "Calico", "network.pods_share_node_subnet": "true",
		"network.pods_share_node_subnet_reason": "between the nodes' 10.1.0.4 and 10.1.0.40", "network.outside_linkerd_defaults": "null", "network.linkerd_covered": "false",
		"registries": "null", "private_cluster": "null", "istio_addon.enabled": "false",
		"node_pools": `^\[{[^}]*"name":"user"[^}]*"node_count":2[^}]*}\]$`,
	}
	expectFacts(t, w, "aksmesh_cluster.this", fromInside)
	expectFacts(t, w, "aksmesh_cluster.this", map[string]string{"unseen": "AuthorizationFailed.*Reader.*172.32.0.1 of Service default/kubernetes"})

	w.write(fmt.Sprintf("provider \"aksmesh\" {\n kubernetes = { host = %q }\n}\n%s", direct.Host(), this))
	w.apply()
	expectFacts(t, w, "aksmesh_cluster.this", fromInside)
	expectFacts(t, w, "aksmesh_cluster.this", map[string]string{"unseen": "names no AKS cluster"})
}

// TestAccCluster_automatic plans meshes into a cluster of AKS Automatic that blocks
// their webhooks, as Azure says though no policy of the embedded cluster does.
func TestAccCluster_automatic(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	cluster := plainCluster.Cluster(t)
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := testazure.Forward(config)
	if err != nil {
		t.Fatal(err)
	}
	aks, err := azure.AddCluster(testazure.ClusterOptions{
		API: api, SKU: map[string]any{"name": "Automatic"}, Properties: map[string]any{"hostedSystemProfile": map[string]any{"enabled": true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkspace(t, fmt.Sprintf(`
	provider "aksmesh" {
	  aks = { id = %q }
	}
	resource "aksmesh_istio" "this" {
	  version    = %q
	  repository = %[3]q
	  namespace  = "istio-automatic"
	}
	resource "aksmesh_trust_anchor" "this" { namespace = "linkerd-automatic" }
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = aksmesh_trust_anchor.this.id
	  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
	  mesh             = "linkerd"
	  namespace        = "linkerd-automatic"
	}
	resource "aksmesh_linkerd" "this" {
	  version    = %q
	  repository = %[3]q
	  namespace  = "linkerd-automatic"
	  issuer_id  = aksmesh_issuer.this.id
	}`, aks.ID(), istioOld, cluster.Charts().Repository, linkerdNew), environ(azure)...)
	got := w.run("plan", "-no-color")
	text := strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(got.output)), " ")
	for _, resource := range []string{"aksmesh_istio.this", "aksmesh_linkerd.this"} {
		if got.code == 0 || !regexp.MustCompile(`Error: Not Fit for the Mesh with `+regexp.QuoteMeta(resource)+`.{0,300}before 1\.36 AKS Automatic blocks every webhook.{0,200}az aks upgrade`).MatchString(text) {
			t.Errorf("%s: exit code %d\n%s", resource, got.code, got.output)
		}
	}
}

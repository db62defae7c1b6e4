package provider

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/images"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// composition is a workspace with one of the examples that make everything from
// nothing, as it is, and an Azure for it.
type composition struct {
	*workspace

	azure        *testazure.Azure
	subscription string
}

// compose copies an example of examples/aks. The Azure has no clusters yet; values
// are those of its variables.
func compose(t *testing.T, example string, values map[string]string) composition {
	t.Helper()
	c := composition{azure: testazure.New(t)}
	c.subscription = c.azure.AddSubscription(nil)
	c.workspace = newWorkspace(t, "", append(environ(c.azure), "ARM_SUBSCRIPTION_ID="+c.subscription, "TF_VAR_registry_name=examplemesh")...)
	for name, value := range values {
		c.env = append(c.env, "TF_VAR_"+name+"="+value)
	}
	c.install(map[string]string{"aksmesh/aksmesh": builtProvider.directory(t), "hashicorp/azurerm": builtAzurerm.directory(t)})
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	c.dir = filepath.Join(root, "aks", example)
	c.succeed("get", "-no-color")
	return c
}

// expectStrangers wants nobody asked who is neither in this Azure nor here.
func (c composition) expectStrangers(want ...string) {
	c.t.Helper()
	if strangers := c.azure.Strangers(); !slices.Equal(strangers, want) {
		c.t.Errorf("asked for %v, want %v", strangers, want)
	}
}

// expectPlanned wants resources to be made.
func (c composition) expectPlanned(plan outcome, addresses ...string) {
	c.t.Helper()
	for _, address := range addresses {
		if !strings.Contains(plan.output, "# "+address+" will be created") {
			c.t.Errorf("%s is not planned\n%s", address, plan.output)
		}
	}
}

// publishLinkerd puts the images that charts want where the example imports them from.
func publishLinkerd(t *testing.T, azure *testazure.Azure, cluster *testcluster.Cluster) {
	t.Helper()
	charts, err := testCharts(connect(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	repository := cluster.Charts().Repository
	wanted, err := images.Sources{Library: charts.Library}.Of(t.Context(), images.Specification{
		Linkerd:         &linkerd.Specification{Repository: repository, Version: linkerdNew},
		Extensions:      []linkerd.ExtensionSpecification{{Name: linkerd.Viz, Repository: repository, Version: linkerdNew}},
		LinkerdRegistry: "ghcr.io/linkerd",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range wanted {
		host := image.Reference.Registry
		if host == "docker.io" {
			host = "registry-1.docker.io"
		}
		if _, err := azure.Source(host).AddImage(t.Context(), image.Reference.Repository, image.Reference.Tag, "linux/amd64", "linux/arm64"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAccComposition_linkerd makes network, registry, cluster, mesh and database
// from nothing by one apply, and takes all of it away again.
func TestAccComposition_linkerd(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 3, NoGatewayAPI: true})
	c := compose(t, "linkerd", map[string]string{
		"chart_repository": cluster.Charts().Repository, "gateway_api_source": cluster.Charts().GatewayAPI("1.5.1"),
	})
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := testazure.Forward(config)
	if err != nil {
		t.Fatal(err)
	}
	c.azure.Behind(api)
	publishLinkerd(t, c.azure, cluster)

	c.expectPlanned(c.succeed("plan", "-no-color"),
		"azurerm_kubernetes_cluster.this", "azurerm_container_registry.this", `module.linkerd.aksmesh_image_mirror.this[0]`, "module.linkerd.aksmesh_linkerd.this",
		`module.linkerd.aksmesh_linkerd_extension.this["viz"]`, `module.linkerd.aksmesh_network_policy.this["alpha"]`, "aksmesh_release.dgraph")
	if requests := c.azure.Requests(); slices.ContainsFunc(requests, func(r testazure.Request) bool { return r.Host == managementHost }) {
		t.Error("a plan without a cluster asks Resource Manager")
	}

	c.apply()
	c.expectNoChanges()
	state := string(c.stateBytes())
	for _, want := range []string{`"6 of 6 pods are meshed"`, `"examplemesh.azurecr.io/linkerd"`} {
		if !strings.Contains(state, want) {
			t.Errorf("the outputs do not say %s", want)
		}
	}
	expectSecrecy(t, map[string]string{"the state": state})
	c.succeed("destroy", "-auto-approve", "-no-color")
	if left := c.azure.ClusterAt("/subscriptions/" + c.subscription + "/resourceGroups/rg-mesh/providers/Microsoft.ContainerService/managedClusters/aks-mesh"); left != nil {
		t.Error("the cluster is left")
	}
	c.expectStrangers()
}

// TestAccComposition_istio plans Istio from its charts, and AKS's add-on.
func TestAccComposition_istio(t *testing.T) {
	t.Parallel()
	c := compose(t, "istio", map[string]string{"chart_repository": plainCluster.Cluster(t).Charts().Repository})
	everywhere := []string{
		"azurerm_kubernetes_cluster.this", `module.istio.aksmesh_network_policy.this["alpha"]`,
		`module.istio.aksmesh_injection.this["pydgraph-allow"]`, `aksmesh_release.client["pydgraph-deny"]`,
	}
	c.expectPlanned(c.succeed("plan", "-no-color"), append(everywhere, "module.istio.aksmesh_issuer.this[0]", "module.istio.aksmesh_istio.this[0]", "module.istio.aksmesh_image_mirror.this[0]")...)
	addon := c.succeed("plan", "-no-color", "-var", "addon_revision="+managedRevision)
	c.expectPlanned(addon, everywhere...)
	if strings.Contains(addon.output, "aksmesh_istio.this") {
		t.Errorf("Istio is installed beside the add-on\n%s", addon.output)
	}
	c.expectStrangers()
}

// TestAccComposition_addonCA makes a CA for AKS's Istio add-on, and another one,
// without any cluster and with no private key in the state.
func TestAccComposition_addonCA(t *testing.T) {
	t.Parallel()
	c := compose(t, "istio", nil)
	c.dir = filepath.Join(c.dir, "..", "..", "modules", "istio-addon-ca")
	vault := c.azure.AddVault()
	c.env = append(c.env, "TF_VAR_key_vault_id=/subscriptions/"+c.subscription+"/resourceGroups/rg-mesh/providers/Microsoft.KeyVault/vaults/"+vault.Name())
	c.file("providers.tf", "provider \"azurerm\" {\n  features {}\n}\nprovider \"aksmesh\" {\n  aks = {}\n}\n")
	c.apply()
	c.expectNoChanges()
	version := c.attribute("azurerm_key_vault_secret.this", "version")
	c.succeed("apply", "-auto-approve", "-no-color", "-var", "generation=2")
	if c.attribute("azurerm_key_vault_secret.this", "version") == version {
		t.Error("a new generation has not replaced the CA")
	}
	ca, err := pki.ParseKeyPair([]byte(vault.Secret("cert-chain")), []byte(vault.Secret("ca-key")))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pki.ParseBundle([]byte(vault.Secret("root-cert")))
	if err != nil {
		t.Fatal(err)
	}
	if err := istio.CheckCA(ca.Chain(), bundle, time.Now()); err != nil {
		t.Errorf("istiod cannot sign with what is in the vault: %v", err)
	}
	if certificate, err := pki.ParseCertificate([]byte(vault.Secret("ca-cert"))); err != nil || !certificate.Equal(ca.Certificate()) {
		t.Errorf("ca-cert does not begin cert-chain: %v", err)
	}
	if strings.Contains(string(c.stateBytes()), "PRIVATE KEY") {
		t.Error("a private key is in the state")
	}
	if keys := vault.Keys(); len(keys) != 1 {
		t.Errorf("the vault has %d keys, want that of the anchor", len(keys))
	}
	c.expectStrangers()
}

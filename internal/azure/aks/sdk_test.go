package aks_test

import (
	"context"
	"net/http"
	"reflect"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	aksapi "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6/fake"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// TestClusterBySDK reads a cluster as the SDK's own types write it. They are of an
// older API, and know nothing yet of what is left out here.
func TestClusterBySDK(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{})
	transport := fake.NewManagedClustersServerTransport(&fake.ManagedClustersServer{
		Get: func(context.Context, string, string, *aksapi.ManagedClustersClientGetOptions) (response azfake.Responder[aksapi.ManagedClustersClientGetResponse], _ azfake.ErrorResponder) {
			response.SetResponse(http.StatusOK, aksapi.ManagedClustersClientGetResponse{ManagedCluster: aksapi.ManagedCluster{
				ID: new(cluster.ID()), Name: new("prod"), Location: new("westeurope"),
				SKU: &aksapi.ManagedClusterSKU{Name: to.Ptr(aksapi.ManagedClusterSKUName("Automatic")), Tier: to.Ptr(aksapi.ManagedClusterSKUTierStandard)},
				Properties: &aksapi.ManagedClusterProperties{
					KubernetesVersion: new("1.36"), CurrentKubernetesVersion: new("1.36.3"), NodeResourceGroup: new("MC_rg"),
					ProvisioningState: new("Succeeded"), PowerState: &aksapi.PowerState{Code: to.Ptr(aksapi.CodeRunning)},
					AADProfile: &aksapi.ManagedClusterAADProfile{EnableAzureRBAC: new(true), TenantID: new("tenant")},
					NetworkProfile: &aksapi.NetworkProfile{
						NetworkPlugin: to.Ptr(aksapi.NetworkPluginAzure), NetworkPluginMode: to.Ptr(aksapi.NetworkPluginModeOverlay),
						NetworkPolicy: to.Ptr(aksapi.NetworkPolicyCilium), NetworkDataplane: to.Ptr(aksapi.NetworkDataplaneCilium),
						PodCidr: new("10.244.0.0/16"), PodCidrs: []*string{new("10.244.0.0/16")},
						ServiceCidr: new("10.0.0.0/16"), ServiceCidrs: []*string{new("10.0.0.0/16")},
					},
					ServiceMeshProfile: &aksapi.ServiceMeshProfile{
						Mode: to.Ptr(aksapi.ServiceMeshModeIstio), Istio: &aksapi.IstioServiceMesh{Revisions: []*string{new("asm-1-30")}},
					},
					OidcIssuerProfile: &aksapi.ManagedClusterOIDCIssuerProfile{Enabled: new(true), IssuerURL: new("https://issuer")},
					SecurityProfile:   &aksapi.ManagedClusterSecurityProfile{WorkloadIdentity: &aksapi.ManagedClusterSecurityProfileWorkloadIdentity{Enabled: new(true)}},
					APIServerAccessProfile: &aksapi.ManagedClusterAPIServerAccessProfile{
						AuthorizedIPRanges: []*string{new("192.0.2.0/24")}, EnablePrivateCluster: new(true), EnablePrivateClusterPublicFQDN: new(true),
					},
					AgentPoolProfiles: []*aksapi.ManagedClusterAgentPoolProfile{{
						Name: new("system"), Mode: to.Ptr(aksapi.AgentPoolModeSystem), OSType: to.Ptr(aksapi.OSTypeLinux), OSSKU: to.Ptr(aksapi.OSSKUAzureLinux),
						Count: new(int32(3)), VMSize: new("Standard_D4ds_v5"), VnetSubnetID: new("nodes"), PodSubnetID: new("pods"),
						NodeTaints: []*string{new("CriticalAddonsOnly=true:NoSchedule")}, CurrentOrchestratorVersion: new("1.36.2"),
					}},
					AddonProfiles:   map[string]*aksapi.ManagedClusterAddonProfile{"azurepolicy": {Enabled: new(true)}},
					IdentityProfile: map[string]*aksapi.UserAssignedIdentity{"kubeletidentity": {ObjectID: new("kubelet")}},
				},
			}}, nil)
			return response, azfake.ErrorResponder{}
		},
	})
	double.Instead(cluster.ID(), "ManagedClustersClient.Get", transport.Do)
	read, err := access.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{ // The API of 2026 alone has these.
		"Properties.IngressProfile": true, "Properties.HostedSystemProfile": true, "Properties.NodeProvisioningProfile": true,
		"Properties.APIServerAccessProfile.EnableVnetIntegration": true,
	}
	for _, empty := range emptyFields(reflect.ValueOf(*read), "") {
		if !want[empty] {
			t.Errorf("%s was not read", empty)
		}
		delete(want, empty)
	}
	for unexpected := range want {
		t.Errorf("%s was read, of which this API knows nothing", unexpected)
	}
}

// emptyFields are the paths of those that have the zero value, outermost ones.
func emptyFields(value reflect.Value, path string) (empty []string) {
	if value.IsZero() {
		return []string{path}
	}
	switch value.Kind() {
	case reflect.Pointer:
		return emptyFields(value.Elem(), path)
	case reflect.Slice:
		return emptyFields(value.Index(0), path)
	case reflect.Struct:
		for i := range value.NumField() {
			inside := value.Type().Field(i).Name
			if path != "" {
				inside = path + "." + inside
			}
			empty = append(empty, emptyFields(value.Field(i), inside)...)
		}
	default:
	}
	return empty
}

// TestCredentialsBySDK has the SDK's own fake read how user credentials are asked
// for, and answer as it does for the SDK's clients.
func TestCredentialsBySDK(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{PublicFQDN: true})
	asked := make(chan aksapi.ManagedClustersClientListClusterUserCredentialsOptions, 1)
	transport := fake.NewManagedClustersServerTransport(&fake.ManagedClustersServer{
		ListClusterUserCredentials: func(_ context.Context, _, _ string, o *aksapi.ManagedClustersClientListClusterUserCredentialsOptions) (response azfake.Responder[aksapi.ManagedClustersClientListClusterUserCredentialsResponse], _ azfake.ErrorResponder) {
			asked <- *o
			response.SetResponse(http.StatusOK, aksapi.ManagedClustersClientListClusterUserCredentialsResponse{CredentialResults: aksapi.CredentialResults{
				Kubeconfigs: []*aksapi.CredentialResult{{Name: new("clusterUser"), Value: []byte(userKubeconfig)}},
			}}, nil)
			return response, azfake.ErrorResponder{}
		},
	})
	double.Instead(cluster.ID(), "ManagedClustersClient.ListClusterUserCredentials", transport.Do)
	config, err := access.Connect(t.Context())
	if err != nil || config.Host != "https://prod.hcp.westeurope.azmk8s.io:443" {
		t.Errorf("connected to %v: %v", config, err)
	}
	options := <-asked
	if options.Format == nil || *options.Format != aksapi.FormatExec || options.ServerFqdn == nil || *options.ServerFqdn != "public" {
		t.Errorf("asked with %+v", options)
	}
}

const userKubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: prod
  cluster:
    server: https://prod.hcp.westeurope.azmk8s.io:443
contexts:
- name: prod
  context: { cluster: prod, user: clusterUser }
current-context: prod
users:
- name: clusterUser
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: kubelogin
      args: [get-token, --environment, AzurePublicCloud, --server-id, 6dae42f8-4368-4678-94ff-3960e28e3630, --client-id, 80faf920-1908-4b52-b5ef-a8e7bedfc67a, --tenant-id, 00000000-0000-0000-0000-000000000001, --login, devicecode]
`

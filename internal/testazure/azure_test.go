package testazure_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	azruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

const (
	managementScope = "https://management.core.windows.net//.default"
	clusterScope    = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
	registryScope   = "https://containerregistry.azure.net/.default"
)

// azure is what this process takes for Azure: the SDK runs here with all its
// defaults.
var azure *testazure.Azure

// childVariable makes a process of this binary a client that finds Azure by its
// environment alone.
const childVariable = "TESTAZURE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	os.Exit(testazure.Main(context.Background(), m.Run, &azure))
}

func child() int {
	credential, err := azidentity.NewClientSecretCredential(os.Getenv("ARM_TENANT_ID"), os.Getenv("ARM_CLIENT_ID"), os.Getenv("ARM_CLIENT_SECRET"), nil)
	if err == nil {
		_, err = credential.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{managementScope}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestChildProcess(t *testing.T) {
	t.Parallel()
	other := testazure.New(t)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable)
	command.Env = slices.Concat(os.Environ(), other.Environ(), other.ClientSecretEnviron(), []string{childVariable + "=1"})
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if tokens := other.Tokens(); len(tokens) != 1 || tokens[0].Object != other.Application().ObjectID {
		t.Errorf("tokens %+v, want one", tokens)
	}
}

func TestProxyKnowsNobodyElse(t *testing.T) {
	t.Parallel()
	other := testazure.New(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := other.Client().Do(request)
	if err == nil {
		_ = response.Body.Close()
		t.Fatalf("somebody answered: %s", response.Status)
	}
	if want := []string{"example.com"}; !slices.Equal(other.Strangers(), want) {
		t.Errorf("strangers %q, want %q", other.Strangers(), want)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	other := testazure.New(t)
	cluster, err := other.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patient := func() azcore.ClientOptions {
		return azcore.ClientOptions{Transport: other.Client(), Retry: policy.RetryOptions{RetryDelay: time.Millisecond}}
	}
	credential, err := azidentity.NewClientSecretCredential(other.Tenant().ID, other.Application().ClientID, testazure.ClientSecret, &azidentity.ClientSecretCredentialOptions{ClientOptions: patient()})
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]testazure.Fault{
		"throttled": testazure.Throttled(1),
		"closed":    {Close: true},
		"failed":    {Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After-Ms": {"1"}}, Body: "<html>"},
	} {
		fault.Times = 2
		heal := other.Fail(fault)
		client := managementBy(t, credential, patient())
		if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
			t.Errorf("%s twice: %v", name, err)
		}
		heal()
	}
	options := noRetries()
	options.Transport = other.Client()
	client := managementBy(t, credential, options)
	heal := other.Fail(testazure.ManagementFault(http.StatusBadRequest, "BadRequest", "no"))
	if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); code(err) != "BadRequest" {
		t.Errorf("%v, want the fault", err)
	}
	heal()
	if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
		t.Errorf("healed: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	other.Silence("management.azure.com")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://management.azure.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		response, err := other.Client().Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
	other.Cut("management.azure.com")
	options.Transport = other.Client() // The connection of the other may be lost without its knowing.
	client = managementBy(t, credential, options)
	checkError(t, manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}), "Bad Gateway")
	other.Mend("management.azure.com")
	if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// noRetries keeps errors from taking seconds.
func noRetries() azcore.ClientOptions {
	return azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}
}

func secretCredential(t *testing.T, tenant, client, secret string) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: noRetries(), AdditionallyAllowedTenants: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

func applicationCredential(t *testing.T) azcore.TokenCredential {
	t.Helper()
	return secretCredential(t, azure.Tenant().ID, azure.Application().ClientID, testazure.ClientSecret)
}

func token(t *testing.T, credential azcore.TokenCredential, scope string) (string, error) {
	t.Helper()
	got, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
	return got.Token, err
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestClientSecret(t *testing.T) {
	t.Parallel()
	tenant := azure.AddTenant()
	application := tenant.AddApplication()
	secret := application.AddSecret()
	if _, err := token(t, secretCredential(t, tenant.ID, application.ClientID, secret), managementScope); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(azure.Tokens(), func(i testazure.Issued) bool {
		return i.Client == application.ClientID && i.Tenant == tenant.ID && i.Audience == "https://management.core.windows.net/" && i.How == "secret"
	}) {
		t.Errorf("the token is not among %+v", azure.Tokens())
	}
	for name, test := range map[string]struct{ tenant, client, secret, scope, want string }{
		"wrong secret":     {tenant.ID, application.ClientID, "wrong", managementScope, "AADSTS7000215"},
		"wrong client":     {azure.Tenant().ID, application.ClientID, secret, managementScope, "AADSTS700016"},
		"wrong tenant":     {"00000000-0000-4000-8000-000000000001", application.ClientID, secret, managementScope, "AADSTS90002"},
		"unknown audience": {tenant.ID, application.ClientID, secret, "https://example.test/.default", "AADSTS500011"},
	} {
		_, err := token(t, secretCredential(t, test.tenant, test.client, test.secret), test.scope)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	application.ExpireSecrets()
	_, err := token(t, secretCredential(t, tenant.ID, application.ClientID, secret), managementScope)
	checkError(t, err, "AADSTS7000222")
}

func management(t *testing.T, credential azcore.TokenCredential) *arm.Client {
	t.Helper()
	return managementBy(t, credential, noRetries())
}

func managementBy(t *testing.T, credential azcore.TokenCredential, options azcore.ClientOptions) *arm.Client {
	t.Helper()
	client, err := arm.NewClient("testazure", "v0.0.1", credential, &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// manage asks Resource Manager and reads its answer into result.
func manage(t *testing.T, client *arm.Client, method, path string, result any) error {
	t.Helper()
	request, err := azruntime.NewRequest(t.Context(), method, azruntime.JoinPaths(client.Endpoint(), path))
	if err != nil {
		t.Fatal(err)
	}
	query := request.Raw().URL.Query()
	query.Set("api-version", "2026-05-01")
	request.Raw().URL.RawQuery = query.Encode()
	response, err := client.Pipeline().Do(request) //nolint:bodyclose // The SDK closes it while it reads.
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return azruntime.NewResponseError(response)
	}
	return azruntime.UnmarshalAsJSON(response, result)
}

// code is that of an error of Resource Manager.
func code(err error) string {
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return refused.ErrorCode
	}
	return fmt.Sprint(err)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster, err := azure.AddCluster(testazure.ClusterOptions{Properties: map[string]any{
		"networkProfile": map[string]any{"networkPolicy": "calico", "networkPluginMode": nil},
	}})
	if err != nil {
		t.Fatal(err)
	}
	client := management(t, applicationCredential(t))
	var got struct {
		ID         string
		Properties struct {
			FQDN           string
			NetworkProfile map[string]any
		}
	}
	if err := manage(t, client, http.MethodGet, cluster.ID(), &got); err != nil {
		t.Fatal(err)
	}
	network := got.Properties.NetworkProfile
	if got.ID != cluster.ID() || got.Properties.FQDN != cluster.Host() || network["networkPolicy"] != "calico" || network["networkPluginMode"] != nil || network["networkPlugin"] != "azure" {
		t.Errorf("unexpected cluster %+v", got)
	}
	if err := manage(t, client, http.MethodGet, strings.ToUpper(cluster.ID()), &got); err != nil {
		t.Errorf("resource IDs have no case: %v", err)
	}

	group := "/subscriptions/" + cluster.SubscriptionID + "/resourceGroups/" + cluster.ResourceGroup
	for path, want := range map[string]string{
		group + "/providers/Microsoft.ContainerService/managedClusters/other":                                                              "ResourceNotFound",
		"/subscriptions/" + cluster.SubscriptionID + "/resourceGroups/other/providers/Microsoft.ContainerService/managedClusters/" + "it":  "ResourceGroupNotFound",
		"/subscriptions/00000000-0000-4000-8000-000000000002/resourceGroups/other/providers/Microsoft.ContainerService/managedClusters/it": "SubscriptionNotFound",
	} {
		if err := manage(t, client, http.MethodGet, path, &got); code(err) != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}

	cluster.Forbid("Microsoft.ContainerService/managedClusters/read")
	err = manage(t, client, http.MethodGet, cluster.ID(), &got)
	if code(err) != "AuthorizationFailed" || !strings.Contains(err.Error(), "over scope '"+cluster.ID()+"'") {
		t.Errorf("%v, want a refusal that names the scope", err)
	}
	cluster.Permit("Microsoft.ContainerService/managedClusters/read")

	stranger := azure.AddTenant().AddApplication()
	foreign := secretCredential(t, stranger.TenantID(), stranger.ClientID, stranger.AddSecret())
	if err := manage(t, management(t, foreign), http.MethodGet, cluster.ID(), &got); code(err) != "InvalidAuthenticationTokenTenant" {
		t.Errorf("%v, want a refusal of the tenant", err)
	}

	cluster.Delete()
	if err := manage(t, client, http.MethodGet, cluster.ID(), &got); code(err) != "ResourceGroupNotFound" {
		t.Errorf("%v of a deleted cluster in a group without others", err)
	}
}

// kubeconfig asks for a credential of a cluster.
func kubeconfig(t *testing.T, cluster *testazure.Cluster, operation string) *rest.Config {
	t.Helper()
	var got struct {
		Kubeconfigs []struct{ Value []byte }
	}
	if err := manage(t, management(t, applicationCredential(t)), http.MethodPost, cluster.ID()+"/"+operation, &got); err != nil {
		t.Fatal(err)
	}
	loaded, err := clientcmd.Load(got.Kubeconfigs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func version(t *testing.T, config *rest.Config) error {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ServerVersion()
	return err
}

func TestAPIServer(t *testing.T) {
	t.Parallel()
	tenant := azure.AddTenant()
	tenant.Admit(azure.Application())
	cluster, err := azure.AddCluster(testazure.ClusterOptions{Properties: map[string]any{"aadProfile": map[string]any{"tenantID": tenant.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	config := kubeconfig(t, cluster, "listClusterUserCredential?format=exec")
	if config.ExecProvider == nil || !slices.Contains(config.ExecProvider.Args, tenant.ID) {
		t.Fatalf("no arguments of kubelogin: %+v", config.ExecProvider)
	}
	config.ExecProvider = nil
	checkError(t, version(t, config), "provide credentials")
	credential := secretCredential(t, tenant.ID, azure.Application().ClientID, testazure.ClientSecret)
	if config.BearerToken, err = token(t, credential, managementScope); err != nil {
		t.Fatal(err)
	}
	checkError(t, version(t, config), "provide credentials")
	if config.BearerToken, err = token(t, credential, clusterScope); err != nil {
		t.Fatal(err)
	}
	if err := version(t, config); err != nil {
		t.Error(err)
	}

	cluster.Forbid(testazure.ClusterData)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	checkError(t, err, `namespaces is forbidden: User "`+azure.Application().ObjectID+`" cannot list resource "namespaces" in API group "" at the cluster scope: User does not have access to the resource in Azure.`)
	_, err = client.AppsV1().Deployments("mesh").Get(t.Context(), "proxy", metav1.GetOptions{})
	checkError(t, err, `deployments.apps "proxy" is forbidden: User "`+azure.Application().ObjectID+`" cannot get resource "deployments" in API group "apps" in the namespace "mesh"`)

	admin := kubeconfig(t, cluster, "listClusterAdminCredential")
	if err := version(t, admin); err != nil {
		t.Error(err)
	}
	if err := cluster.Remake(); err != nil {
		t.Fatal(err)
	}
	checkError(t, version(t, admin), "x509")
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	checkError(t, version(t, admin), "Bad Gateway")
	if err := cluster.Patch(map[string]any{"disableLocalAccounts": true}); err != nil {
		t.Fatal(err)
	}
	err = manage(t, management(t, applicationCredential(t)), http.MethodPost, cluster.ID()+"/listClusterAdminCredential", &struct{}{})
	checkError(t, err, "disable local accounts")
}

func TestClusterWithoutEntraID(t *testing.T) {
	t.Parallel()
	cluster, err := azure.AddCluster(testazure.ClusterOptions{Properties: map[string]any{"aadProfile": nil}})
	if err != nil {
		t.Fatal(err)
	}
	if err := version(t, kubeconfig(t, cluster, "listClusterUserCredential?format=exec")); err != nil {
		t.Error(err)
	}
}

func TestPrivateCluster(t *testing.T) {
	t.Parallel()
	access := map[string]any{"enablePrivateCluster": true}
	hidden, err := azure.AddCluster(testazure.ClusterOptions{Properties: map[string]any{"apiServerAccessProfile": access}})
	if err != nil {
		t.Fatal(err)
	}
	access["enablePrivateClusterPublicFQDN"] = true
	named, err := azure.AddCluster(testazure.ClusterOptions{Properties: map[string]any{"apiServerAccessProfile": access}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(hidden.Host(), ".privatelink.") || hidden.PublicHost() != "" || named.PublicHost() == "" {
		t.Fatalf("hosts %q, %q and %q, %q", hidden.Host(), hidden.PublicHost(), named.Host(), named.PublicHost())
	}
	for query, want := range map[string]string{"": named.Host(), "&server-fqdn=public": named.PublicHost()} {
		if got := kubeconfig(t, named, "listClusterUserCredential?format=exec"+query).Host; got != "https://"+want+":443" {
			t.Errorf("%q leads to %s, want %s", query, got, want)
		}
		admin := kubeconfig(t, named, "listClusterAdminCredential?"+strings.TrimPrefix(query, "&"))
		if admin.Host != "https://"+want+":443" {
			t.Errorf("%q leads administrators to %s, want %s", query, admin.Host, want)
		}
		if err := version(t, admin); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, operation := range []string{"listClusterUserCredential?format=exec&", "listClusterAdminCredential?"} {
		err := manage(t, management(t, applicationCredential(t)), http.MethodPost, hidden.ID()+"/"+operation+"server-fqdn=public", &struct{}{})
		if code(err) != "BadRequest" {
			t.Errorf("%s of a cluster without a public name: %v", operation, err)
		}
	}
}

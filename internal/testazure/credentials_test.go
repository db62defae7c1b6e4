package testazure_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

func TestCertificate(t *testing.T) {
	t.Parallel()
	other := testazure.New(t) // Its clock is put forward.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "application"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	application := other.Tenant().AddApplication()
	login := func(chain bool) error {
		options := noRetries()
		options.Transport = other.Client()
		credential, err := azidentity.NewClientCertificateCredential(application.TenantID(), application.ClientID, []*x509.Certificate{certificate}, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, SendCertificateChain: chain})
		if err != nil {
			t.Fatal(err)
		}
		_, err = token(t, credential, managementScope)
		return err
	}
	checkError(t, login(false), "AADSTS700027")
	application.AddCertificate(certificate)
	for _, chain := range []bool{false, true} {
		if err := login(chain); err != nil {
			t.Errorf("with chain %v: %v", chain, err)
		}
	}
	other.Advance(time.Hour)
	checkError(t, login(false), "AADSTS700024")
	other.Advance(-2 * time.Hour)
	checkError(t, login(false), "AADSTS700024")
}

func assertionCredential(t *testing.T, application *testazure.Application, assertion func(context.Context) (string, error)) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewClientAssertionCredential(application.TenantID(), application.ClientID, assertion, &azidentity.ClientAssertionCredentialOptions{ClientOptions: noRetries()})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// identityToken asks for the token of a job, by the field of the answer that has it.
func identityToken(ctx context.Context, method, url, requestToken, field string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+requestToken)
	request.Header.Set("X-Tfs-Fedauthredirect", "Suppress")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := json.Unmarshal(content, &fields); err != nil {
		return "", err
	}
	text, _ := fields[field].(string)
	return text, nil
}

func TestGitHubJob(t *testing.T) {
	t.Parallel()
	job := azure.GitHubJob("repo:example/mesh:ref:refs/heads/main")
	application := azure.Tenant().AddApplication()
	url := job.RequestURL + "&audience=api://AzureADTokenExchange"
	ask := func(ctx context.Context) (string, error) {
		return identityToken(ctx, http.MethodGet, url, job.RequestToken, "value")
	}
	_, err := token(t, assertionCredential(t, application, ask), managementScope)
	checkError(t, err, "AADSTS70025")
	application.Federate(job.Issuer, "repo:example/mesh:environment:production")
	_, err = token(t, assertionCredential(t, application, ask), managementScope)
	checkError(t, err, "AADSTS700213")
	application.Federate(job.Issuer, job.Subject)
	if _, err := token(t, assertionCredential(t, application, ask), managementScope); err != nil {
		t.Error(err)
	}
	if got, err := identityToken(t.Context(), http.MethodGet, url, "wrong", "value"); err != nil || got != "" {
		t.Errorf("token %q (%v) for somebody else", got, err)
	}
	url = job.RequestURL
	_, err = token(t, assertionCredential(t, application, ask), managementScope)
	checkError(t, err, "AADSTS700212")
	forged := func(context.Context) (string, error) {
		good, err := azure.AddWorkload("mesh", "forged")
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(good.TokenFile)
		return string(text), err
	}
	_, err = token(t, assertionCredential(t, application, forged), managementScope)
	checkError(t, err, "AADSTS700211")
}

func TestPipelinesJob(t *testing.T) {
	job := azure.PipelinesJob("sc://example/mesh/production")
	application := azure.Tenant().AddApplication()
	application.Federate(job.Issuer, job.Subject)
	for _, variable := range job.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	for connection, want := range map[string]string{job.ServiceConnection(): "", "00000000-0000-4000-8000-000000000005": "404"} {
		credential, err := azidentity.NewAzurePipelinesCredential(application.TenantID(), application.ClientID, connection, job.RequestToken, &azidentity.AzurePipelinesCredentialOptions{ClientOptions: noRetries()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = token(t, credential, managementScope); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("service connection %s: %v, want %q", connection, err, want)
		}
	}
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	workload, err := azure.AddWorkload("mesh", "terraform")
	if err != nil {
		t.Fatal(err)
	}
	application := azure.Tenant().AddApplication()
	application.Federate(workload.Issuer, workload.Subject)
	credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: noRetries(), TenantID: application.TenantID(), ClientID: application.ClientID, TokenFilePath: workload.TokenFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token(t, credential, managementScope); err != nil {
		t.Error(err)
	}
}

func TestManagedIdentity(t *testing.T) {
	login := func(client, scope string) error {
		credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: noRetries(), ID: azidentity.ClientID(client)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = token(t, credential, scope)
		return err
	}
	identity := azure.AddIdentity()
	if err := login(identity.ClientID, managementScope); err != nil {
		t.Errorf("on a virtual machine: %v", err)
	}
	checkError(t, login("00000000-0000-4000-8000-000000000006", managementScope), "Identity not found")
	for _, variable := range identity.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	if err := login(identity.ClientID, clusterScope); err != nil {
		t.Errorf("in App Service: %v", err)
	}
	t.Setenv("IDENTITY_HEADER", "wrong")
	// All credentials of a process share one cache, by audience.
	checkError(t, login(identity.ClientID, registryScope), "401")
}

// Whose tokens a machine gets that names no identity.
func TestIdentityOfTheMachine(t *testing.T) {
	t.Parallel()
	other := testazure.New(t)
	get := func() (map[string]string, int) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Metadata", "true")
		response, err := other.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var got map[string]string
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got, response.StatusCode
	}
	want := func(status int, key, value string) {
		t.Helper()
		if got, code := get(); code != status || !strings.HasPrefix(got[key], value) {
			t.Errorf("%d %v; want %d and %s %q", code, got, status, key, value)
		}
	}
	want(http.StatusBadRequest, "error_description", "Identity not found")
	want(http.StatusOK, "client_id", other.AddIdentity().ClientID)
	other.AddIdentity()
	want(http.StatusBadRequest, "error_description", "Multiple user assigned identities exist")
	want(http.StatusOK, "client_id", other.AddSystemIdentity().ClientID)
}

func TestCommandLine(t *testing.T) {
	cli, err := azure.AddCommandLine()
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range cli.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	credential, err := azidentity.NewAzureCLICredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := azure.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := manage(t, management(t, credential), http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
		t.Error(err)
	}
	config := kubeconfig(t, cluster, "listClusterUserCredential?format=exec")
	config.ExecProvider = nil
	if config.BearerToken, err = token(t, credential, clusterScope); err != nil {
		t.Fatal(err)
	}
	if err := version(t, config); err != nil {
		t.Error(err)
	}
	calls, err := cli.Calls()
	if err != nil || len(calls) != 2 || !strings.Contains(calls[1], "--resource 6dae42f8-4368-4678-94ff-3960e28e3630") {
		t.Errorf("calls %q (%v)", calls, err)
	}
	_, err = token(t, credential, "https://unknown.example.test/.default")
	checkError(t, err, "AADSTS500011")
	for want, options := range map[string]azidentity.AzureCLICredentialOptions{
		"AADSTS50020":                      {TenantID: azure.AddTenant().ID},
		"only one of subscription and ten": {TenantID: azure.Tenant().ID, Subscription: cluster.SubscriptionID},
	} {
		other, err := azidentity.NewAzureCLICredential(&options)
		if err != nil {
			t.Fatal(err)
		}
		_, err = token(t, other, clusterScope)
		checkError(t, err, want)
	}
	if err := cli.BecomeIdentity("Cloud Shell"); err != nil {
		t.Fatal(err)
	}
	if _, err := token(t, credential, clusterScope); err != nil {
		t.Errorf("without a tenant in Cloud Shell: %v", err)
	}
	inTenant, err := azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: azure.Tenant().ID})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token(t, inTenant, clusterScope)
	checkError(t, err, "Tenant shouldn't be specified for Cloud Shell account")
	if err := cli.Logout(); err != nil {
		t.Fatal(err)
	}
	_, err = token(t, credential, clusterScope)
	checkError(t, err, "az login")
}

func TestTokensExpire(t *testing.T) {
	t.Parallel()
	other := testazure.New(t)
	cluster, err := other.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	options := noRetries()
	options.Transport = other.Client()
	credential, err := azidentity.NewClientSecretCredential(other.Tenant().ID, other.Application().ClientID, testazure.ClientSecret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	client := managementBy(t, credential, options)
	if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
		t.Fatal(err)
	}
	other.Advance(2 * time.Hour)
	if err := manage(t, client, http.MethodGet, cluster.ID(), &struct{}{}); code(err) != "ExpiredAuthenticationToken" {
		t.Errorf("%v, want a token that has expired", err)
	}
}

// Each cloud has its authority and its Resource Manager.
func TestClouds(t *testing.T) {
	t.Parallel()
	cluster, err := azure.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, configuration := range map[string]cloud.Configuration{
		"login.microsoftonline.us": cloud.AzureGovernment,
		"login.chinacloudapi.cn":   cloud.AzureChina,
		"login.azure.example.test": {
			ActiveDirectoryAuthorityHost: testazure.CustomAuthority,
			Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Audience: testazure.CustomAudience, Endpoint: testazure.CustomManagement}},
		},
	} {
		options := noRetries()
		options.Cloud = configuration
		credential, err := azidentity.NewClientSecretCredential(azure.Tenant().ID, azure.Application().ClientID, testazure.ClientSecret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
		if err != nil {
			t.Fatal(err)
		}
		if err := manage(t, managementBy(t, credential, options), http.MethodGet, cluster.ID(), &struct{}{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.ContainsFunc(azure.Requests(), func(r testazure.Request) bool { return r.Host == name }) {
			t.Errorf("nobody has asked %s", name)
		}
	}
}

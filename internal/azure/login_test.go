package azure

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

const (
	clusterScope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
	managerScope = "https://management.core.windows.net//.default"
)

// cloudDouble is what this process takes for Azure.
var cloudDouble *testazure.Azure

func TestMain(m *testing.M) { os.Exit(testazure.Main(context.Background(), m.Run, &cloudDouble)) }

func newAccount(t *testing.T, s Settings) *Account {
	t.Helper()
	account, err := NewAccount(s, Options{UserAgent: "aksmesh/test"})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

func login(t *testing.T, s Settings) *Account {
	t.Helper()
	account := newAccount(t, s)
	renew(t, account)
	return account
}

// renew gets the next token, as if the one before had been refused.
func renew(t *testing.T, account *Account) {
	t.Helper()
	for range 2 {
		token, err := account.Token(t.Context(), "", clusterScope)
		if err != nil {
			t.Fatal(err)
		}
		account.Forget(token.Token)
	}
}

// refusal is the error of a login, with its advice.
func refusal(t *testing.T, s Settings) (*LoginError, string) {
	t.Helper()
	_, err := newAccount(t, s).Token(t.Context(), "", clusterScope)
	var failed *LoginError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want a *LoginError", err)
	}
	return failed, Advice(fmt.Errorf("wrapped: %w", err))
}

func wantRefusal(t *testing.T, s Settings, says, advises string) {
	t.Helper()
	failed, advice := refusal(t, s)
	if !strings.Contains(failed.Error(), says) || !strings.Contains(advice, advises) {
		t.Errorf("error: %v\nadvice: %s\nwant %q and %q", failed, advice, says, advises)
	}
	for _, noise := range []string{"Trace ID", "aka.ms/azsdk", "\n"} {
		if strings.Contains(failed.Error(), noise) {
			t.Errorf("noise: %v", failed)
		}
	}
}

func principal(application *testazure.Application) Settings {
	return Settings{ClientID: application.ClientID, TenantID: application.TenantID()}
}

func withSecret(s Settings, secret string) Settings {
	s.ClientSecret = secret
	return s
}

// issued are the tokens that an application got.
func issued(client string) []testazure.Issued {
	return slices.DeleteFunc(cloudDouble.Tokens(), func(token testazure.Issued) bool { return token.Client != client })
}

func TestClientSecret(t *testing.T) {
	t.Parallel()
	tenant := cloudDouble.AddTenant()
	application := tenant.AddApplication()
	settings := withSecret(principal(application), application.AddSecret())
	account := newAccount(t, settings)
	for range 3 {
		for _, scope := range []string{clusterScope, managerScope} {
			if _, err := account.Token(t.Context(), "", scope); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := issued(application.ClientID)
	if len(got) != 2 || got[0].How != "secret" || got[0].Audience != "6dae42f8-4368-4678-94ff-3960e28e3630" || got[1].Audience != "https://management.core.windows.net/" {
		t.Errorf("got %+v", got)
	}

	elsewhere := cloudDouble.AddTenant()
	elsewhere.Admit(application)
	if _, err := account.Token(t.Context(), elsewhere.ID, clusterScope); err != nil {
		t.Errorf("in another tenant: %v", err)
	}

	for _, request := range cloudDouble.Requests() {
		if strings.Contains(request.Path, "discovery/instance") && strings.Contains(request.Query.Get("authorization_endpoint"), tenant.ID) {
			t.Errorf("asked whether the public cloud is Microsoft's: %+v", request)
		}
		if strings.Contains(request.Path, tenant.ID) && !strings.HasPrefix(request.UserAgent, "aksmesh/test") {
			t.Errorf("user agent %q", request.UserAgent)
		}
	}

	wantRefusal(t, withSecret(settings, "hush"), "as client "+application.ClientID+": AADSTS7000215: Invalid client secret", "not to the secret's ID")
	application.ExpireSecrets()
	wantRefusal(t, settings, "AADSTS7000222", "has expired")
}

func TestWrongTenant(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	settings := withSecret(principal(application), application.AddSecret())
	settings.TenantID = "11111111-2222-4333-8444-555555555555"
	wantRefusal(t, settings, "log in to Azure with client secret in tenant 11111111-2222-4333-8444-555555555555 as client "+application.ClientID+": AADSTS90002", "There is no tenant")
	settings.TenantID = cloudDouble.AddTenant().ID
	wantRefusal(t, settings, "AADSTS700016", "does not know the application "+application.ClientID)
	settings.TenantID = "not/a tenant"
	wantRefusal(t, settings, "invalid tenantID", "")
}

func TestFilesAreReadAgainAtRenewal(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := Settings{
		TenantID: application.TenantID(), ClientIDFilePath: write("client", application.ClientID), ClientSecretFilePath: write("secret", application.AddSecret()),
	}
	account := login(t, settings)
	application.ExpireSecrets()
	if _, err := account.Token(t.Context(), "", clusterScope); err == nil {
		t.Error("logged in with an expired secret")
	}
	write("secret", application.AddSecret())
	renew(t, account)

	write("secret", "")
	wantRefusal(t, settings, "client_secret_file_path: "+settings.ClientSecretFilePath+" is empty", "")
	settings.ClientSecretFilePath += ".missing"
	wantRefusal(t, settings, "client_secret_file_path: open "+settings.ClientSecretFilePath, "")
}

// ofJob are the settings of a CI job that may log in as an application.
func ofJob(t *testing.T, application *testazure.Application, job *testazure.Job) Settings {
	t.Helper()
	application.Federate(job.Issuer, job.Subject)
	settings := principal(application)
	settings.UseOIDC = new(true)
	settings, err := settings.WithEnvironment(environment(job.Environ()...))
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestGitHubActions(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	job := cloudDouble.GitHubJob("repo:example/platform:ref:refs/heads/main")
	settings := ofJob(t, application, job)
	path := strings.TrimPrefix(strings.SplitN(job.RequestURL, "?", 2)[0], "https://pipelines.actions.githubusercontent.com")
	trouble := testazure.Throttled(2)
	trouble.Path, trouble.Times = path, 1
	cloudDouble.Fail(trouble)
	trouble.Status = http.StatusServiceUnavailable
	cloudDouble.Fail(trouble)

	account := login(t, settings)
	var statuses []int
	for _, request := range cloudDouble.Requests() {
		if request.Path == path {
			statuses = append(statuses, request.Status)
		}
	}
	// Each login takes an ID token of its own: they do not live long.
	if !slices.Equal(statuses, []int{429, 503, 200, 200}) || account.Method() != "OIDC (GitHub Actions)" {
		t.Errorf("%s: request URL answered %v", account.Method(), statuses)
	}
	if got := issued(application.ClientID); len(got) != 2 || got[0].How != "federated" {
		t.Errorf("got %+v", got)
	}

	trouble.Times = 4
	heal := cloudDouble.Fail(trouble)
	wantRefusal(t, settings, "request an ID token of pipelines.actions.githubusercontent.com: 503 Service Unavailable", "answered so several times")
	heal()
	heal = cloudDouble.Fail(testazure.Fault{Path: path, Body: `{"value": "` + job.RequestToken})
	wantRefusal(t, settings, "there is no token in the answer", "")
	heal()
	expired := settings
	expired.OIDCRequestToken = "hush"
	wantRefusal(t, expired, "401 Unauthorized", "id-token: write")

	other := cloudDouble.GitHubJob("repo:example/platform:pull_request")
	settings.OIDCRequestURL, settings.OIDCRequestToken = other.RequestURL, other.RequestToken
	wantRefusal(t, settings, "AADSTS700213", "letter by letter")
}

func TestAzurePipelines(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	job := cloudDouble.PipelinesJob("sc://example/platform/azure")
	settings := ofJob(t, application, job)
	if account := login(t, settings); account.Method() != "OIDC (Azure Pipelines)" || len(issued(application.ClientID)) != 2 {
		t.Errorf("%s: %+v", account.Method(), issued(application.ClientID))
	}
	wrong := settings
	wrong.ADOPipelineServiceConnectionID = "another"
	wantRefusal(t, wrong, "request an ID token of dev.azure.com: 404 Not Found", "service connection")
	wrong = settings
	wrong.OIDCRequestToken = "hush"
	wantRefusal(t, wrong, "401 Unauthorized", "SYSTEM_ACCESSTOKEN")
}

func TestTokensOfFiles(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"AKS workload identity", "OIDC (token file)"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			application := cloudDouble.AddTenant().AddApplication()
			pod, err := cloudDouble.AddWorkload("mesh", method)
			if err != nil {
				t.Fatal(err)
			}
			application.Federate(pod.Issuer, pod.Subject)
			settings := Settings{UseAKSWorkloadIdentity: new(true)}
			if method != "AKS workload identity" {
				settings = Settings{UseOIDC: new(true), OIDCTokenFilePath: pod.TokenFile}
			}
			settings, err = settings.WithEnvironment(environment(pod.Environ(application)...))
			if err != nil {
				t.Fatal(err)
			}
			account := login(t, settings)
			if account.Method() != method {
				t.Error(account.Method())
			}
			if err := os.WriteFile(pod.TokenFile, []byte("what is no token"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := account.Token(t.Context(), "", clusterScope); err == nil || !strings.Contains(err.Error(), "AADSTS50027") {
				t.Errorf("with what is no token: %v", err)
			}
			if err := pod.Renew(); err != nil {
				t.Fatal(err)
			}
			renew(t, account)
			if err := os.Remove(pod.TokenFile); err != nil {
				t.Fatal(err)
			}
			if _, err := account.Token(t.Context(), "", clusterScope); err == nil || !strings.Contains(err.Error(), "no such file") {
				t.Errorf("without the file: %v", err)
			}
		})
	}
}

func TestTokenThatIsGiven(t *testing.T) {
	t.Parallel()
	application := cloudDouble.AddTenant().AddApplication()
	pod, err := cloudDouble.AddWorkload("mesh", "given")
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(pod.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	settings := principal(application)
	settings.UseOIDC, settings.OIDCToken = new(true), string(token)
	wantRefusal(t, settings, "AADSTS70025", "No federated credential")
	application.Federate(pod.Issuer, pod.Subject)
	login(t, settings)
}

func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	identity := cloudDouble.AddIdentity()
	settings := Settings{UseMSI: new(true), ClientID: identity.ClientID}
	account := newAccount(t, settings)
	for range 3 {
		if _, err := account.Token(t.Context(), "", clusterScope); err != nil {
			t.Fatal(err)
		}
	}
	if got := issued(identity.ClientID); len(got) != 1 || got[0].How != "managed identity" {
		t.Errorf("got %+v", got)
	}
	// What is forgotten is not served from the cache that the SDK keeps for the
	// whole process.
	renew(t, account)
	if got := issued(identity.ClientID); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
	if _, err := account.Token(t.Context(), cloudDouble.Tenant().ID, managerScope); err != nil {
		t.Errorf("in the identity's own tenant: %v", err)
	}
	foreign := cloudDouble.AddTenant().ID
	for range 2 { // Nor is it kept.
		_, err := account.Token(t.Context(), foreign, managerScope)
		if err == nil || !strings.Contains(err.Error(), "in tenant "+foreign+" as client "+identity.ClientID+": there are tokens of the tenant "+cloudDouble.Tenant().ID+" only") || !strings.Contains(Advice(err), "own tenant only, not of "+foreign) {
			t.Errorf("in another tenant: %v\n%s", err, Advice(err))
		}
	}
	settings.ClientID = "11111111-2222-4333-8444-555555555555"
	wantRefusal(t, settings, "log in to Azure with managed identity as client "+settings.ClientID+": Identity not found", "Assign it to the machine")
}

// Not parallel: others ask the metadata service too.
func TestManagedIdentityWhereThereIsNone(t *testing.T) {
	ofMachine := testazure.Fault{Host: "169.254.169.254", Times: 1, Status: http.StatusBadRequest, Body: map[string]any{"error": "invalid_request", "error_description": "Identity not found"}}
	cloudDouble.Fail(ofMachine)
	wantRefusal(t, Settings{UseMSI: new(true)}, "log in to Azure with managed identity: Identity not found", "Assign it to the machine")
	ofMachine.Status, ofMachine.Body = http.StatusForbidden, "connecting to 169.254.169.254:80: network is unreachable"
	cloudDouble.Fail(ofMachine)
	wantRefusal(t, Settings{UseMSI: new(true)}, "169.254.169.254 answered 403 Forbidden", "on Azure's machines only")

	identity := cloudDouble.AddIdentity()
	settings := Settings{UseMSI: new(true), ClientID: identity.ClientID}
	throttled := testazure.Throttled(2)
	throttled.Host, throttled.Times = "169.254.169.254", 2
	cloudDouble.Fail(throttled)
	if _, err := newAccount(t, settings).Token(t.Context(), "", clusterScope); err != nil {
		t.Errorf("after it was throttled: %v", err)
	}
	defer cloudDouble.Fail(testazure.Fault{Host: "169.254.169.254", Close: true})()
	wantRefusal(t, settings, "GET 169.254.169.254: EOF", "NO_PROXY=169.254.169.254")
}

// Not parallel: the CLI is found by the environment.
func TestAzureCLI(t *testing.T) {
	azure := testazure.New(t)
	cli, err := azure.AddCommandLine()
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range cli.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	account := newAccount(t, Settings{SubscriptionID: "11111111-2222-4333-8444-555555555555"})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, err := account.Token(t.Context(), "", clusterScope); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if _, err := account.Token(t.Context(), azure.Tenant().ID, clusterScope); err != nil {
		t.Error(err)
	}
	calls, err := cli.Calls()
	if err != nil {
		t.Fatal(err)
	}
	resource := "account get-access-token -o json --resource 6dae42f8-4368-4678-94ff-3960e28e3630"
	if !slices.Equal(calls, []string{resource + " --subscription 11111111-2222-4333-8444-555555555555", resource + " --tenant " + azure.Tenant().ID}) {
		t.Errorf("az was run with %q", calls)
	}

	for _, kind := range []string{"Cloud Shell", "managed identity"} {
		if err := cli.BecomeIdentity(kind); err != nil {
			t.Fatal(err)
		}
		account := newAccount(t, Settings{SubscriptionID: "11111111-2222-4333-8444-555555555555"})
		if _, err := account.Token(t.Context(), azure.Tenant().ID, clusterScope); err != nil {
			t.Errorf("as %s: %v", kind, err)
		}
		foreign := azure.AddTenant().ID
		if _, err := account.Token(t.Context(), foreign, clusterScope); err == nil || !strings.Contains(err.Error(), "there are tokens of the tenant "+azure.Tenant().ID+" only") {
			t.Errorf("as %s, in another tenant: %v", kind, err)
		}
	}
	if err := cli.Logout(); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, Settings{}, "log in to Azure with Azure CLI: ERROR: Please run 'az login'", "Run az login")
	t.Setenv("PATH", t.TempDir())
	wantRefusal(t, Settings{TenantID: "tenant"}, "log in to Azure with Azure CLI in tenant tenant: ", "is not installed where the provider runs")
}

func TestAuthorityInTrouble(t *testing.T) {
	t.Parallel()
	tenant := cloudDouble.AddTenant()
	application := tenant.AddApplication()
	settings := withSecret(principal(application), application.AddSecret())
	throttled := testazure.Throttled(2)
	throttled.Path, throttled.Times = tenant.ID, 2
	cloudDouble.Fail(throttled)
	login(t, settings)

	heal := cloudDouble.Fail(testazure.Fault{Path: tenant.ID, Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := newAccount(t, settings).Token(ctx, "", clusterScope)
		left <- err
	}()
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	heal()

	for code, advises := range map[string]string{"AADSTS53003": "Conditional Access", "AADSTS50076": "second factor", "AADSTS7000112": "is disabled", "AADSTS500011": "what the token is for", "AADSTS999999": ""} {
		fault := testazure.EntraFault(http.StatusUnauthorized, "invalid_grant", code+": Said so.")
		fault.Path = tenant.ID + fault.Path
		heal := cloudDouble.Fail(fault)
		wantRefusal(t, settings, ": "+code+": Said so.", advises)
		heal()
	}
	defer cloudDouble.Fail(testazure.Fault{Path: tenant.ID + "/oauth2", Status: http.StatusForbidden, Body: "<html>hush</html>"})()
	wantRefusal(t, settings, "login.microsoftonline.com answered 403 Forbidden", "")
}

// Not parallel: nobody else can reach the authority meanwhile.
func TestAuthorityUnreachable(t *testing.T) {
	settings := Settings{Environment: "china", TenantID: "tenant", ClientID: "client", ClientSecret: "hush"}
	cloudDouble.Cut("login.chinacloudapi.cn")
	defer cloudDouble.Mend("login.chinacloudapi.cn")
	wantRefusal(t, settings, "GET login.chinacloudapi.cn: the proxy refuses to connect: Bad Gateway", "The proxy that HTTPS_PROXY names")

	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(new(strings.Builder), "", 0)
	defer stranger.Close()
	settings.Environment, settings.DisableInstanceDiscovery = "custom", new(true)
	settings.Endpoint = Endpoint{stranger.URL, stranger.URL, stranger.URL}
	wantRefusal(t, settings, "GET "+strings.TrimPrefix(stranger.URL, "https://")+": tls: failed to verify certificate", "a proxy that looks into TLS")
}

// Not parallel: the clock of Entra ID is everybody's.
func TestClockSkew(t *testing.T) {
	application := cloudDouble.AddTenant().AddApplication()
	settings := principal(application)
	made := makeCertificate(t)
	application.AddCertificate(made.certificate)
	settings.ClientCertificatePath = made.pem
	cloudDouble.Advance(-1 << 41)
	defer cloudDouble.Advance(1 << 41)
	wantRefusal(t, settings, "AADSTS700024: Client assertion is not within its valid time range", "Set its clock")
}

func TestSovereignClouds(t *testing.T) {
	t.Parallel()
	custom := Settings{Environment: "custom", Endpoint: Endpoint{testazure.CustomAuthority, testazure.CustomManagement, testazure.CustomAudience}}
	alone := custom
	alone.DisableInstanceDiscovery = new(true)
	for name, test := range map[string]struct {
		settings Settings
		hosts    []string
	}{
		"US Government":     {Settings{Environment: "usgovernment"}, []string{"login.microsoftonline.us"}},
		"custom":            {custom, []string{"login.azure.example.test", "login.microsoftonline.com"}},
		"custom, by itself": {alone, []string{"login.azure.example.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := cloudDouble.AddTenant()
			application := tenant.AddApplication()
			settings := test.settings
			settings.ClientID, settings.TenantID, settings.ClientSecret = application.ClientID, tenant.ID, application.AddSecret()
			account := newAccount(t, settings)
			audience := account.Cloud().Configuration.Services["resourceManager"].Audience
			if _, err := account.Token(t.Context(), "", audience+"/.default"); err != nil {
				t.Fatal(err)
			}
			if got := issued(application.ClientID); len(got) != 1 || got[0].Audience != audience {
				t.Errorf("got %+v", got)
			}
			asked := map[string]bool{}
			for _, request := range cloudDouble.Requests() {
				if strings.Contains(request.Path+request.Query.Encode(), tenant.ID) {
					asked[request.Host] = true
				}
			}
			if got := slices.Sorted(maps.Keys(asked)); !slices.Equal(got, test.hosts) {
				t.Errorf("asked %v, want %v", got, test.hosts)
			}
		})
	}
}

// Not parallel: what the SDK logs is the whole process's.
func TestSecretsAreNeitherInErrorsNorInLogs(t *testing.T) {
	var (
		mu   sync.Mutex
		told strings.Builder
	)
	tell := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(&told, words...)
	}
	azlog.SetListener(func(event azlog.Event, message string) { tell(event, message) })
	defer azlog.SetListener(nil)

	tenant := cloudDouble.AddTenant()
	application := tenant.AddApplication()
	job := cloudDouble.GitHubJob("repo:example/platform:environment:production")
	pod, err := cloudDouble.AddWorkload("mesh", "told")
	if err != nil {
		t.Fatal(err)
	}
	given, err := os.ReadFile(pod.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	secret := application.AddSecret()
	secrets := []string{secret, job.RequestToken, string(given), "p12-password"}
	request, token, certificate := ofJob(t, application, job), principal(application), principal(application)
	token.UseOIDC, token.OIDCToken = new(true), string(given)
	made := makeCertificate(t)
	certificate.ClientCertificatePath, certificate.ClientCertificatePassword = made.pfx, "p12-password"

	for _, settings := range []Settings{withSecret(principal(application), secret), request, token, certificate} {
		account, err := NewAccount(settings, Options{Log: func(_ context.Context, message string, fields map[string]any) { tell(message, fields) }})
		if err != nil {
			t.Fatal(err)
		}
		login := func() {
			got, err := account.Token(t.Context(), "", clusterScope)
			account.Forget(got.Token)
			tell(err, Advice(err))
			if got.Token != "" {
				mu.Lock()
				secrets = append(secrets, got.Token)
				mu.Unlock()
			}
		}
		login()
		// An authority that repeats what it was sent.
		fault := testazure.EntraFault(http.StatusUnauthorized, "invalid_client", "AADSTS7000215: "+strings.Join([]string{
			settings.ClientSecret, settings.OIDCRequestToken, settings.OIDCToken, settings.ClientCertificatePassword, string(given),
		}, " "))
		fault.Path = tenant.ID + fault.Path
		heal := cloudDouble.Fail(fault)
		login()
		heal()
	}
	if !strings.Contains(told.String(), "got a token of Azure") || !strings.Contains(told.String(), "AADSTS7000215") {
		t.Fatal("nothing was told:", told.String())
	}
	for line := range strings.SplitSeq(told.String(), "\n") {
		for _, secret := range append(secrets, "eyJ") { // as every token begins
			if strings.Contains(line, secret) {
				t.Errorf("%q is in %q", secret, line)
			}
		}
	}
}

// throttling answers 429 at first.
type throttling struct {
	after string
	asked int
}

func (a *throttling) Do(request *http.Request) (*http.Response, error) {
	a.asked++
	response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: request}
	if a.asked == 1 {
		response.StatusCode = http.StatusTooManyRequests
		response.Header.Set("Retry-After", a.after)
	}
	return response, nil
}

func TestAuthorityThatAsksForTime(t *testing.T) {
	t.Parallel()
	account := newAccount(t, Settings{})
	for after, tries := range map[string]int{"90": 2, "121": 1} {
		synctest.Test(t, func(t *testing.T) {
			entra, options := &throttling{after: after}, account.loginOptions()
			options.Transport = entra
			request, err := runtime.NewRequest(t.Context(), http.MethodGet, "https://login.microsoftonline.com/")
			if err != nil {
				t.Fatal(err)
			}
			response, err := runtime.NewPipeline("test", "v1.0.0", runtime.PipelineOptions{}, &options).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if entra.asked != tries {
				t.Errorf("%s seconds: asked %d times, want %d", after, entra.asked, tries)
			}
		})
	}
}

package acr_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// double is one for all tests of the package.
var double *testazure.Azure

func TestMain(m *testing.M) { os.Exit(testazure.Main(context.Background(), m.Run, &double)) }

// fixture is a registry, and an application that nobody else uses.
type fixture struct {
	*acr.Client
	registry    *testazure.Registry
	id          *arm.ResourceID
	application *testazure.Application
	secret      string
}

func newFixture(t *testing.T, options testazure.RegistryOptions) *fixture {
	t.Helper()
	registry, err := double.AddRegistry(options)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{registry: registry, application: double.Tenant().AddApplication()}
	f.secret = f.application.AddSecret()
	if f.id, err = acr.ParseID(registry.ID()); err != nil {
		t.Fatal(err)
	}
	account, err := azure.NewAccount(azure.Settings{
		TenantID: f.application.TenantID(), ClientID: f.application.ClientID, ClientSecret: f.secret,
	}, azure.Options{UserAgent: "acr-test"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Client, err = acr.NewClient(account); err != nil {
		t.Fatal(err)
	}
	return f
}

// registries asks registries as the application, and others as anybody.
func (f *fixture) registries() *oci.Client {
	return oci.New(oci.Options{Keychains: []oci.Keychain{f.Credential}})
}

// checkError holds what an error says, what is advised, and that neither has a
// secret.
func (f *fixture) checkError(t *testing.T, err error, text, advice string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want %q", text)
		return
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error %q; want %q", err, text)
	}
	got := acr.Advice(err)
	if !strings.Contains(got, advice) || advice == "" && got != "" {
		t.Errorf("advice on %v:\n%s\nwant %q", err, got, advice)
	}
	for _, secret := range []string{f.secret, url.QueryEscape(f.secret), "eyJ", "hunter2", "access_token="} {
		if strings.Contains(err.Error()+got, secret) {
			t.Errorf("the error has the secret %q: %v; %s", secret, err, got)
		}
	}
}

func isTaken(err error) bool {
	_, ok := errors.AsType[*oci.TakenError](err)
	return ok
}

// requests counts those to a host that have something in their path.
func requests(host, part string) int {
	count := 0
	for _, request := range double.Requests() {
		if request.Host == host && strings.Contains(request.Path, part) {
			count++
		}
	}
	return count
}

// published puts an image of two platforms into a source that only me:hunter2 may
// read.
func published(t *testing.T) (host string, from oci.Reference, digest string) {
	t.Helper()
	host = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + ".example.test"
	source := double.Source(host)
	source.Protect("me", "hunter2")
	digest, err := source.AddImage(t.Context(), "linkerd/proxy", "2.0", "linux/amd64", "linux/arm64/v8")
	if err != nil {
		t.Fatal(err)
	}
	return host, oci.Reference{Registry: host, Repository: "linkerd/proxy", Tag: "2.0"}, digest
}

func TestLoginIsExchangedOnceAndKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	heal := double.Fail(testazure.Fault{
		Host: f.registry.Host(), Path: "/oauth2/exchange", Times: 2, Status: http.StatusTooManyRequests,
		Header: http.Header{"Retry-After-Ms": {"1"}},
	})
	defer heal()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			credential, err := f.Credential(t.Context(), f.registry.Host())
			if err != nil || credential.RefreshToken == "" {
				t.Errorf("got %v", err)
			}
		})
	}
	callers.Wait()
	if exchanges := requests(f.registry.Host(), "/oauth2/exchange"); exchanges != 3 {
		t.Errorf("%d exchanges, want 2 that are throttled and another", exchanges)
	}
	for _, host := range []string{"ghcr.io", "example.azurecr.us", "azurecr.io", "azurecr.io.example.test", "evilazurecr.io"} {
		if credential, err := f.Credential(t.Context(), host); err != nil || credential != auth.EmptyCredential {
			t.Errorf("%s would be given %+v (%v)", host, credential, err)
		}
	}
}

func TestLoginIsRenewedByTheLifeOfTheToken(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		claims    string
		exchanges int
	}{
		"three hours, by another clock": {claims: `{"iat":1000,"exp":11800}`, exchanges: 1},
		"no time":                       {claims: `{"iat":1000,"exp":1000}`, exchanges: 3},
		"until long ago":                {claims: `{"exp":1000}`, exchanges: 3},
		"until later":                   {claims: fmt.Sprintf(`{"exp":%d}`, time.Now().Add(time.Hour).Unix()), exchanges: 1},
		"unknown":                       {claims: `{}`, exchanges: 3},
		"not a token":                   {claims: `{`, exchanges: 3},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, testazure.RegistryOptions{})
			token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(test.claims)) + ".c2ln"
			heal := double.Fail(testazure.Fault{
				Host: f.registry.Host(), Path: "/oauth2/exchange", Status: http.StatusOK, Body: map[string]string{"refresh_token": token},
			})
			defer heal()
			for range 3 {
				if credential, err := f.Credential(t.Context(), f.registry.Host()); err != nil || credential.RefreshToken != token {
					t.Fatalf("got %v", err)
				}
			}
			if exchanges := requests(f.registry.Host(), "/oauth2/exchange"); exchanges != test.exchanges {
				t.Errorf("%d exchanges, want %d", exchanges, test.exchanges)
			}
		})
	}
}

func TestLoginFailuresAreExplained(t *testing.T) {
	t.Parallel()
	abroad := newFixture(t, testazure.RegistryOptions{SubscriptionID: double.AddSubscription(double.AddTenant())})
	_, err := abroad.Credential(t.Context(), abroad.registry.Host())
	abroad.checkError(t, err, "it answers 401 UNAUTHORIZED: authentication required", "tenant_id is the tenant of the registry's subscription")
	_, err = abroad.registries().Resolve(t.Context(), oci.Reference{Registry: abroad.registry.Host(), Repository: "proxy", Tag: "1"})
	abroad.checkError(t, err, "logging in had failed before: log in to "+abroad.registry.Host(), "tenant_id is the tenant")

	closed := newFixture(t, testazure.RegistryOptions{Properties: map[string]any{"publicNetworkAccess": "Disabled"}})
	_, err = closed.Credential(t.Context(), closed.registry.Host())
	closed.checkError(t, err, "is not allowed access", "have the registry import")

	strange := newFixture(t, testazure.RegistryOptions{})
	defer double.Fail(testazure.Fault{Host: strange.registry.Host(), Path: "/oauth2/exchange", Status: http.StatusOK, Body: "<html>"})()
	_, err = strange.Credential(t.Context(), strange.registry.Host())
	strange.checkError(t, err, "without a refresh token", "")

	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err = strange.Credential(ctx, strange.registry.Host()); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCopyIntoARegistry(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	host, from, digest := published(t)
	registries := oci.New(oci.Options{Keychains: []oci.Keychain{
		oci.Static(map[string]auth.Credential{host: {Username: "me", Password: "hunter2"}}), f.Credential,
	}})
	to := oci.Reference{Registry: f.registry.Host(), Repository: "mirror/proxy", Tag: "2.0"}
	outcome := registries.Mirror(t.Context(), []oci.Task{{From: from, To: to}}, oci.MirrorOptions{Parallel: 1})[0]
	if outcome != (oci.Outcome{Digest: digest, Placed: true}) {
		t.Fatalf("got %+v", outcome)
	}
	there, err := f.registries().Resolve(t.Context(), to)
	if err != nil || there.Digest != digest || strings.Join(there.Platforms, " ") != "linux/amd64 linux/arm64/v8" {
		t.Errorf("in the registry is %+v (%v)", there, err)
	}

	f.registry.Forbid(testazure.RegistryPush)
	elsewhere := oci.Reference{Registry: to.Registry, Repository: "mirror/other", Tag: "2.0"}
	outcome = registries.Mirror(t.Context(), []oci.Task{{From: from, To: elsewhere}}, oci.MirrorOptions{})[0]
	f.checkError(t, outcome.Err, "refused access", "AcrPush, or Container Registry Repository Writer")
	f.registry.Forbid(testazure.RegistryDelete)
	to.Digest = digest
	f.checkError(t, f.registries().Delete(t.Context(), to), "refused access", "AcrDelete, or Container Registry Repository Contributor")
	f.registry.Permit(testazure.RegistryDelete)
	if err := f.registries().Delete(t.Context(), to); err != nil {
		t.Error(err)
	}
	f.registry.Forbid(testazure.RegistryPull)
	_, err = f.registries().Resolve(t.Context(), to)
	f.checkError(t, err, "refused access", "AcrPull, or Container Registry Repository Reader")
}

func TestRegistryIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	read, err := f.Registry(t.Context(), f.id)
	if err != nil || read.Properties.LoginServer != f.registry.Host() {
		t.Errorf("got %+v (%v)", read, err)
	}
	f.registry.Forbid("Microsoft.ContainerRegistry/registries/read")
	_, err = f.Registry(t.Context(), f.id)
	f.checkError(t, err, "read container registry "+f.id.ResourceGroupName+"/"+f.id.Name, `the role "Container Registry Data Importer and Data Reader"`)

	for _, text := range []string{
		"", "example", "/subscriptions/a/resourceGroups/b/providers/Microsoft.ContainerService/managedClusters/c", "/subscriptions/a/resourceGroups/b",
	} {
		if _, err := acr.ParseID(text); err == nil || !strings.Contains(err.Error(), "is not the resource ID of a container registry") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestImportIntoARegistryThatLetsNobodyIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{Properties: map[string]any{"publicNetworkAccess": "Disabled"}})
	host, from, digest := published(t)
	from.Digest = digest
	request := func(from, to oci.Reference) acr.ImportRequest {
		return acr.ImportRequest{
			SourceRegistry: from.Registry, SourceImage: from.Repository + "@" + from.Digest, Target: to.Repository + ":" + to.Tag,
			Username: "me", Password: "hunter2",
		}
	}
	to := oci.Reference{Registry: f.registry.Host(), Repository: "mirror/proxy", Tag: "2.0"}
	tasks := []oci.Task{{From: from, To: to}}
	imports := oci.MirrorOptions{Parallel: 1, Import: func(ctx context.Context, task oci.Task) error {
		return f.Import(ctx, f.id, request(task.From, task.To))
	}}
	outcome := f.registries().Mirror(t.Context(), tasks, imports)[0]
	if outcome.Err != nil || outcome.Digest != digest || !outcome.Placed || outcome.Unverified == nil {
		t.Fatalf("got %+v", outcome)
	}
	if got, err := f.registry.Digest(t.Context(), "mirror/proxy", "2.0"); err != nil || got != digest {
		t.Errorf("in the registry is %s (%v), want %s", got, err, digest)
	}
	outcome = f.registries().Mirror(t.Context(), tasks, imports)[0]
	if outcome.Err != nil || outcome.Digest != digest || outcome.Placed {
		t.Errorf("again: %+v", outcome)
	}
	f.checkError(t, outcome.Unverified, "the tag is there already, and may lead to another image", "have the registry import")
	outcome = f.registries().Mirror(t.Context(), tasks, oci.MirrorOptions{})[0]
	f.checkError(t, outcome.Err, "cannot be reached", "have the registry import")

	if err := f.registry.Patch(map[string]any{"publicNetworkAccess": "Enabled"}); err != nil {
		t.Fatal(err)
	}
	if outcome = f.registries().Mirror(t.Context(), tasks, imports)[0]; outcome != (oci.Outcome{Digest: digest}) {
		t.Errorf("what is there: %+v", outcome)
	}

	if _, err := f.registry.AddImage(t.Context(), "mirror/other", "2.0", "linux/amd64"); err != nil {
		t.Fatal(err)
	}
	taken := []oci.Task{{From: from, To: oci.Reference{Registry: to.Registry, Repository: "mirror/other", Tag: "2.0"}}}
	if err := f.registries().Mirror(t.Context(), taken, imports)[0].Err; !isTaken(err) {
		t.Errorf("over the tag of another: %v", err)
	}
	err := f.Import(t.Context(), f.id, request(from, to))
	f.checkError(t, err, host+"/linkerd/proxy@"+digest+" as mirror/proxy:2.0: import into container registry", "Let it be moved")
	forced := request(from, to)
	forced.Force = true
	if err := f.Import(t.Context(), f.id, forced); err != nil {
		t.Error(err)
	}
	untagged := request(from, to)
	untagged.Target = "mirror/untagged"
	if err := f.Import(t.Context(), f.id, untagged); err != nil {
		t.Error(err)
	}
	if _, err := f.registry.Digest(t.Context(), "mirror/untagged", digest); err != nil {
		t.Error(err)
	}

	anonymous := request(from, oci.Reference{Repository: "mirror/anonymous", Tag: "1"})
	anonymous.Username, anonymous.Password = "", ""
	f.checkError(t, f.Import(t.Context(), f.id, anonymous), "as mirror/anonymous:1", "Azure needs credentials for "+host)
	missing := request(from, oci.Reference{Repository: "mirror/missing", Tag: "1"})
	missing.SourceImage = "linkerd/proxy:none"
	f.checkError(t, f.Import(t.Context(), f.id, missing), "is not found", "has no such image")
	f.registry.Forbid("Microsoft.ContainerRegistry/registries/importImage/action")
	f.checkError(t, f.Import(t.Context(), f.id, forced), "AuthorizationFailed", `the role "Container Registry Data Importer and Data Reader" (action`)
}

func TestImportFailuresAreExplained(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ said, advice string }{
		"limit of Docker Hub": {
			"Error response from external registry: TOOMANYREQUESTS: You have reached your unauthenticated pull rate limit.", "Give credentials for docker.io",
		},
		"right to read":     {"The registry 'x' could not be found in subscription.", "the role Container Registry Data Importer and Data Reader on it"},
		"nobody there":      {"Unable to connect to the remote server: No such host is known.", "reachable from the Internet"},
		"no ranges":         {"Error copying blobs", "requests for ranges of bytes"},
		"wrong credentials": {"Error response from external registry: UNAUTHORIZED: incorrect username or password", "Azure needs credentials for docker.io"},
		"something else":    {"Something nobody thought of.", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, testazure.RegistryOptions{})
			fault := testazure.ManagementFault(http.StatusBadRequest, "InvalidParameters", test.said)
			fault.Path = f.registry.ID() + "/importImage"
			defer double.Fail(fault)()
			err := f.Import(t.Context(), f.id, acr.ImportRequest{
				SourceRegistry: "docker.io", SourceImage: "istio/pilot:1", Target: "istio/pilot:1", Username: "me", Password: "hunter2",
			})
			f.checkError(t, err, test.said, test.advice)
		})
	}
}

func TestImportEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	operation := f.registry.ID() + "/going-on"
	defer double.Fail(testazure.Fault{
		Path: f.registry.ID() + "/importImage", Status: http.StatusAccepted,
		Header: http.Header{"Location": {"https://management.azure.com" + operation}, "Retry-After-Ms": {"1"}},
	})()
	defer double.Fail(testazure.Fault{Path: operation, Status: http.StatusAccepted, Header: http.Header{"Retry-After-Ms": {"1"}}})()
	request := acr.ImportRequest{SourceRegistry: "docker.io", SourceImage: "istio/pilot:1", Target: "istio/pilot:1"}
	enough := errors.New("no time is left")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for requests("management.azure.com", operation) == 0 && t.Context().Err() == nil {
			<-ticker.C
		}
		cancel(enough)
	}()
	f.checkError(t, f.Import(ctx, f.id, request), "while Azure goes on with it: no time is left", "apply again")
	err := f.Import(ctx, f.id, request)
	f.checkError(t, err, "ended before Azure had answered: no time is left", "apply again")
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// How a custom cloud names its registries is not known, so that no host is taken
// for one of them.
func TestRegistriesOfCustomClouds(t *testing.T) {
	t.Parallel()
	account, err := azure.NewAccount(azure.Settings{
		TenantID: "tenant", ClientID: "client", ClientSecret: "hush", Environment: "Custom",
		Endpoint: azure.Endpoint{ActiveDirectoryAuthorityHost: testazure.CustomAuthority, ResourceManagerEndpoint: testazure.CustomManagement, ResourceManagerAudience: testazure.CustomAudience},
	}, azure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := acr.NewClient(account)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"example.azurecr.io", "example.test."} {
		if got, err := client.Credential(t.Context(), host); err != nil || got != auth.EmptyCredential {
			t.Errorf("%s: %v", host, err)
		}
	}
}

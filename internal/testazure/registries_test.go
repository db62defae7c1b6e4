package testazure_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	azruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

func newRegistry(t *testing.T, properties map[string]any) *testazure.Registry {
	t.Helper()
	registry, err := azure.AddRegistry(testazure.RegistryOptions{Suffix: "azurecr.us", Properties: properties})
	if err != nil {
		t.Fatal(err)
	}
	return registry
}

// refreshToken logs in to a registry.
func refreshToken(t *testing.T, registry *testazure.Registry, entraToken string) (string, error) {
	t.Helper()
	request, err := azruntime.NewRequest(t.Context(), http.MethodPost, "https://"+registry.Host()+"/oauth2/exchange")
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {registry.Host()}, "tenant": {azure.Tenant().ID}, "access_token": {entraToken}}
	if err := request.SetBody(readSeekCloser{strings.NewReader(form.Encode())}, "application/x-www-form-urlencoded"); err != nil {
		t.Fatal(err)
	}
	options := noRetries()
	response, err := azruntime.NewPipeline("testazure", "v0.0.1", azruntime.PipelineOptions{}, &options).Do(request) //nolint:bodyclose // The SDK closes it while it reads.
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", azruntime.NewResponseError(response)
	}
	var got struct {
		RefreshToken string `json:"refresh_token"`
	}
	err = azruntime.UnmarshalAsJSON(response, &got)
	return got.RefreshToken, err
}

type readSeekCloser struct{ *strings.Reader }

func (readSeekCloser) Close() error { return nil }

// repository opens one of a registry as oras does.
func repository(t *testing.T, host, name string, credential auth.Credential) *remote.Repository {
	t.Helper()
	opened, err := remote.NewRepository(host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	opened.Client = &auth.Client{Client: http.DefaultClient, Cache: auth.NewCache(), Credential: auth.StaticCredential(host, credential)}
	return opened
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	registry := newRegistry(t, nil)
	entraToken, err := token(t, applicationCredential(t), registryScope)
	if err != nil {
		t.Fatal(err)
	}
	refresh, err := refreshToken(t, registry, entraToken)
	if err != nil {
		t.Fatal(err)
	}
	source := azure.Source("ghcr.io")
	want, err := source.AddImage(t.Context(), "mesh/registry-test", "1", "linux/amd64", "linux/arm64/v8")
	if err != nil {
		t.Fatal(err)
	}
	for name, credential := range map[string]auth.Credential{
		"refresh":  {RefreshToken: refresh},
		"password": {Username: "00000000-0000-0000-0000-000000000000", Password: refresh},
	} {
		target := repository(t, registry.Host(), name+"/proxy", credential)
		copied, err := oras.Copy(t.Context(), repository(t, "ghcr.io", "mesh/registry-test", auth.Credential{}), "1", target, "1", oras.DefaultCopyOptions)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := registry.Digest(t.Context(), name+"/proxy", "1")
		if err != nil || got != want || copied.Digest.String() != want {
			t.Errorf("%s: digest %s (%v), want %s", name, got, err, want)
		}
		if err := target.Delete(t.Context(), copied); err != nil {
			t.Error(err)
		}
	}

	registry.Forbid(testazure.RegistryPush)
	target := repository(t, registry.Host(), "refresh/proxy", auth.Credential{RefreshToken: refresh})
	if _, err := oras.Copy(t.Context(), repository(t, "ghcr.io", "mesh/registry-test", auth.Credential{}), "1", target, "2", oras.DefaultCopyOptions); err == nil {
		t.Error("pushed without the right to")
	}
	if _, err := target.Resolve(t.Context(), "1"); err != nil {
		t.Errorf("pulling needs another right: %v", err)
	}
	if _, err := repository(t, registry.Host(), "refresh/proxy", auth.Credential{}).Resolve(t.Context(), "1"); err == nil {
		t.Error("pulled without any token")
	}
	if _, err := refreshToken(t, registry, "wrong"); err == nil {
		t.Error("a wrong token was exchanged")
	}
	if err := registry.Patch(map[string]any{"anonymousPullEnabled": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := repository(t, registry.Host(), "refresh/proxy", auth.Credential{}).Resolve(t.Context(), "1"); err != nil {
		t.Errorf("everybody may pull: %v", err)
	}
	if err := registry.Patch(map[string]any{"publicNetworkAccess": "Disabled"}); err != nil {
		t.Fatal(err)
	}
	_, err = refreshToken(t, registry, entraToken)
	checkError(t, err, "is not allowed access")
}

// importImage runs an import to its end.
func importImage(t *testing.T, client *arm.Client, registry *testazure.Registry, body map[string]any) error {
	t.Helper()
	request, err := azruntime.NewRequest(t.Context(), http.MethodPost, azruntime.JoinPaths(client.Endpoint(), registry.ID(), "importImage"))
	if err != nil {
		t.Fatal(err)
	}
	request.Raw().URL.RawQuery = "api-version=2025-11-01"
	if err := azruntime.MarshalAsJSON(request, body); err != nil {
		t.Fatal(err)
	}
	response, err := client.Pipeline().Do(request) //nolint:bodyclose // The SDK closes it while it reads.
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted {
		return azruntime.NewResponseError(response)
	}
	poller, err := azruntime.NewPoller[struct{}](response, client.Pipeline(), nil)
	if err != nil {
		return err
	}
	_, err = poller.PollUntilDone(t.Context(), nil)
	return err
}

func TestImport(t *testing.T) {
	t.Parallel()
	registry, client := newRegistry(t, map[string]any{"publicNetworkAccess": "Disabled"}), management(t, applicationCredential(t))
	private := azure.Source("images.example.test")
	private.Protect("user", "word")
	digest, err := private.AddImage(t.Context(), "mesh/import-test", "1", "linux/amd64", "linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	login := map[string]any{"username": "user", "password": "word"}
	from := func(image string, credentials any) map[string]any {
		return map[string]any{"registryUri": "images.example.test", "sourceImage": image, "credentials": credentials}
	}
	byDigest := map[string]any{"source": from("mesh/import-test@"+digest, login), "targetTags": []string{"mirror/test:1"}}
	if err := importImage(t, client, registry, byDigest); err != nil {
		t.Fatal(err)
	}
	if got, err := registry.Digest(t.Context(), "mirror/test", "1"); err != nil || got != digest {
		t.Errorf("imported %s (%v), want %s", got, err, digest)
	}
	if err := importImage(t, client, registry, byDigest); code(err) != "Conflict" {
		t.Errorf("%v, want a conflict with the tag", err)
	}
	byDigest["mode"] = "Force"
	if err := importImage(t, client, registry, byDigest); err != nil {
		t.Error(err)
	}
	if err := importImage(t, client, registry, map[string]any{"source": from("mesh/import-test:1", login), "untaggedTargetRepositories": []string{"mirror/other"}}); err != nil {
		t.Error(err)
	}
	if _, err := registry.Digest(t.Context(), "mirror/other", digest); err != nil {
		t.Error(err)
	}
	between := map[string]any{"resourceId": registry.ID(), "sourceImage": "mirror/test:1"}
	other := newRegistry(t, nil)
	if err := importImage(t, client, other, map[string]any{"source": between}); err != nil {
		t.Error(err)
	}
	if got, err := other.Digest(t.Context(), "mirror/test", "1"); err != nil || got != digest {
		t.Errorf("imported %s (%v), want %s", got, err, digest)
	}

	for image, credentials := range map[string]any{"mesh/import-test:none": login, "mesh/import-test:1": nil} {
		if err := importImage(t, client, registry, map[string]any{"source": from(image, credentials), "targetTags": []string{"mirror/failed:1"}}); code(err) != "InvalidParameters" {
			t.Errorf("%s: %v, want a failure", image, err)
		}
	}
	if err := registry.Remove(t.Context(), "mirror/test", "1"); err != nil {
		t.Error(err)
	}
	if _, err := registry.Digest(t.Context(), "mirror/test", "1"); err == nil {
		t.Error("the tag is still there")
	}
	registry.Forbid("Microsoft.ContainerRegistry/registries/importImage/action")
	if err := importImage(t, client, registry, byDigest); code(err) != "AuthorizationFailed" {
		t.Errorf("%v, want a refusal", err)
	}
	imports := registry.Imports()
	if len(imports) != 6 || imports[0].Source != "images.example.test/mesh/import-test@"+digest || imports[0].Error != "" || imports[1].Error == "" || !imports[2].Force {
		t.Errorf("unexpected imports %+v", imports)
	}
	if !slices.ContainsFunc(azure.Requests(), func(r testazure.Request) bool {
		return r.Host == "images.example.test" && r.UserAgent == testazure.ImporterAgent
	}) {
		t.Error("Azure has not asked the source under its own name")
	}
}

func TestRoleAssignments(t *testing.T) {
	t.Parallel()
	registry := newRegistry(t, nil)
	azure.Assign("00000000-0000-4000-8000-000000000003", testazure.AcrPull, registry.ID())
	azure.Assign("00000000-0000-4000-8000-000000000004", testazure.AcrPull, registry.ID())
	for scope, want := range map[string]int{
		"/subscriptions/" + registry.SubscriptionID: 1,
		registry.ID():             1,
		registry.ID() + "/deeper": 1,
		newRegistry(t, nil).ID():  0,
	} {
		var got struct {
			Value []struct {
				Properties struct{ RoleDefinitionID, Scope string }
			}
		}
		filter := url.Values{"$filter": {"assignedTo('00000000-0000-4000-8000-000000000003')"}}
		if err := manage(t, management(t, applicationCredential(t)), http.MethodGet, scope+"/providers/Microsoft.Authorization/roleAssignments?"+filter.Encode(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Value) != want {
			t.Errorf("%d assignments at %s, want %d", len(got.Value), scope, want)
		}
		for _, assignment := range got.Value {
			if assignment.Properties.Scope != registry.ID() || !strings.HasSuffix(assignment.Properties.RoleDefinitionID, "/"+testazure.AcrPull) {
				t.Errorf("unexpected assignment %+v", assignment)
			}
		}
	}
}

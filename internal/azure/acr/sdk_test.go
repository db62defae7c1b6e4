package acr_test

import (
	"context"
	"net/http"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry/fake"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// TestImportBySDK has the SDK's own fake read what is asked of a registry, and
// answer as it does for the SDK's clients.
func TestImportBySDK(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	type importResponse = azfake.PollerResponder[armcontainerregistry.RegistriesClientImportImageResponse]
	var got armcontainerregistry.ImportImageParameters
	answer := func(_ context.Context, group, name string, parameters armcontainerregistry.ImportImageParameters, _ *armcontainerregistry.RegistriesClientBeginImportImageOptions) (response importResponse, refusal azfake.ErrorResponder) {
		if group != f.id.ResourceGroupName || name != f.id.Name {
			refusal.SetResponseError(http.StatusNotFound, "ResourceNotFound")
		}
		got = parameters
		response.AddNonTerminalResponse(http.StatusAccepted, nil)
		response.SetTerminalResponse(http.StatusOK, armcontainerregistry.RegistriesClientImportImageResponse{}, nil)
		return response, refusal
	}
	transport := fake.NewRegistriesServerTransport(&fake.RegistriesServer{BeginImportImage: answer})
	const importing = "RegistriesClient.BeginImportImage"
	double.Instead(f.registry.ID(), importing, transport.Do)
	const image = "linkerd/proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	// The fake's poller wants to know it, as the SDK's own clients name what they do.
	ctx := context.WithValue(t.Context(), runtime.CtxAPINameKey{}, importing)
	err := f.Import(ctx, f.id, acr.ImportRequest{
		SourceRegistry: "ghcr.io", SourceImage: image, Target: "mesh/proxy:edge-26.8.3", Force: true, Username: "reader", Password: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	if source := got.Source; source == nil || *source.RegistryURI != "ghcr.io" || *source.SourceImage != image || *source.Credentials.Username != "reader" || *source.Credentials.Password != "secret" {
		t.Errorf("source %+v", got.Source)
	}
	if len(got.TargetTags) != 1 || *got.TargetTags[0] != "mesh/proxy:edge-26.8.3" || *got.Mode != armcontainerregistry.ImportModeForce || len(got.UntaggedTargetRepositories) != 0 {
		t.Errorf("parameters %+v", got)
	}
}

// TestRegistryBySDK reads a registry as the SDK writes it.
func TestRegistryBySDK(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testazure.RegistryOptions{})
	transport := fake.NewRegistriesServerTransport(&fake.RegistriesServer{
		Get: func(context.Context, string, string, *armcontainerregistry.RegistriesClientGetOptions) (response azfake.Responder[armcontainerregistry.RegistriesClientGetResponse], _ azfake.ErrorResponder) {
			response.SetResponse(http.StatusOK, armcontainerregistry.RegistriesClientGetResponse{Registry: armcontainerregistry.Registry{
				Properties: &armcontainerregistry.RegistryProperties{LoginServer: new("example.azurecr.io")},
			}}, nil)
			return response, azfake.ErrorResponder{}
		},
	})
	double.Instead(f.registry.ID(), "RegistriesClient.Get", transport.Do)
	read, err := f.Registry(t.Context(), f.id)
	if err != nil || read.Properties.LoginServer != "example.azurecr.io" {
		t.Errorf("read %+v: %v", read, err)
	}
}

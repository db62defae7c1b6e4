// Package provider is the Terraform glue of aksmesh: schemas, models and CRUD
// that read like a table of contents. What the product knows about meshes,
// clusters, charts and certificates lives in the packages it calls.
package provider

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"
)

var (
	_ provider.ProviderWithFunctions          = (*meshProvider)(nil)
	_ provider.ProviderWithEphemeralResources = (*meshProvider)(nil)
	_ provider.ProviderWithValidateConfig     = (*meshProvider)(nil)
)

// meshProvider is the aksmesh provider.
type meshProvider struct {
	version string
	now     func() time.Time
	getenv  func(string) string
}

// New returns a factory of the provider as it is served: with the wall clock
// and the environment of the process.
func New(version string) func() provider.Provider {
	return newWith(version, time.Now, osGetenv)
}

// newWith is New with the clock and the environment of the caller, so that
// expiry can be tested without waiting for it.
func newWith(version string, now func() time.Time, getenv func(string) string) func() provider.Provider {
	return func() provider.Provider {
		return &meshProvider{version: version, now: now, getenv: getenv}
	}
}

func (p *meshProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "aksmesh"
	resp.Version = p.version
}

func (p *meshProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		newTrustAnchorResource,
		newIssuerResource,
		newIssuerRequestResource,
		newLinkerdResource,
		newLinkerdExtensionResource,
		newIstioResource,
		newIstioRevisionTagResource,
		newIstioAddonResource,
		newInjectionResource,
		newReleaseResource,
		newNetworkPolicyResource,
		newAuthorizationResource,
		newServiceProfileResource,
		newImageMirrorResource,
	}
}

func (p *meshProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		newClusterDataSource,
		newProxiesDataSource,
		newCheckDataSource,
		newConnectivityDataSource,
		newImagesDataSource,
	}
}

func (p *meshProvider) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{
		newIssuerEphemeralResource,
		newClusterCredentialsEphemeralResource,
	}
}

func (p *meshProvider) Functions(context.Context) []func() function.Function {
	return []func() function.Function{
		newInjectFunction,
		newOpenAPIRoutesFunction,
		newProtoRoutesFunction,
	}
}

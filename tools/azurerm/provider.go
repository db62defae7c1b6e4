package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	datasourceschema "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// azurerm is the provider. Its credentials are those of the environment.
type azurerm struct{}

// session is the provider as it is configured.
type session struct {
	account      *azure.Account
	manager      *resourcemanager.Client
	subscription string
}

type providerModel struct {
	SubscriptionID types.String `tfsdk:"subscription_id"`
	Features       types.List   `tfsdk:"features"`
}

// Metadata implements provider.Provider.
func (*azurerm) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "azurerm"
}

// Schema implements provider.Provider.
func (*azurerm) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Attributes: map[string]schema.Attribute{"subscription_id": schema.StringAttribute{Optional: true}},
		Blocks: map[string]schema.Block{"features": schema.ListNestedBlock{
			Validators: []validator.List{listvalidator.IsRequired(), listvalidator.SizeBetween(1, 1)},
		}},
	}
}

// Configure implements provider.Provider.
func (*azurerm) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	s, err := connect(config.SubscriptionID.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("Unable to Log In to Azure", err.Error())
		return
	}
	resp.ResourceData, resp.DataSourceData = s, s
}

// connect logs nobody in yet. The subscription is that of the environment if it is
// empty.
func connect(subscription string) (*session, error) {
	settings, err := azure.Settings{SubscriptionID: subscription}.WithEnvironment(os.Getenv)
	if err != nil {
		return nil, err
	}
	account, err := azure.NewAccount(settings, azure.Options{UserAgent: "azurerm"})
	if err != nil {
		return nil, err
	}
	if account.SubscriptionID() == "" {
		return nil, errors.New("`subscription_id` is a required provider property when performing a plan/apply operation")
	}
	manager, err := resourcemanager.New(account)
	return &session{account: account, manager: manager, subscription: account.SubscriptionID()}, err
}

// Resources implements provider.Provider.
func (*azurerm) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		newResourceGroup, newVirtualNetwork, newSubnet, newKeyVaultSecret,
		newContainerRegistry, newKubernetesCluster, newRoleAssignment,
	}
}

// DataSources implements provider.Provider.
func (*azurerm) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return &clientConfig{} }}
}

// clientConfig tells who is logged in.
type clientConfig struct{ session *session }

// Metadata implements datasource.DataSource.
func (*clientConfig) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "azurerm_client_config"
}

// Schema implements datasource.DataSource.
func (*clientConfig) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	computed := datasourceschema.StringAttribute{Computed: true}
	resp.Schema = datasourceschema.Schema{Attributes: map[string]datasourceschema.Attribute{
		"id": computed, "client_id": computed, "tenant_id": computed, "subscription_id": computed, "object_id": computed,
	}}
}

// Configure implements datasource.DataSourceWithConfigure.
func (c *clientConfig) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	c.session, _ = req.ProviderData.(*session) // It is nil until the provider is configured.
}

// identity is what a token tells of whom it was given to.
type identity struct {
	Tenant string `json:"tid"`
	Client string `json:"appid"`
	Object string `json:"oid"`
}

// Read implements datasource.DataSource.
func (c *clientConfig) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	who, err := c.session.identity(ctx)
	if err != nil {
		resp.Diagnostics.AddError("Unable to Log In to Azure", err.Error())
		return
	}
	type model struct {
		ID             string `tfsdk:"id"`
		ClientID       string `tfsdk:"client_id"`
		TenantID       string `tfsdk:"tenant_id"`
		SubscriptionID string `tfsdk:"subscription_id"`
		ObjectID       string `tfsdk:"object_id"`
	}
	id := fmt.Sprintf("clientId=%s;objectId=%s;subscriptionId=%s;tenantId=%s", who.Client, who.Object, c.session.subscription, who.Tenant)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model{id, who.Client, who.Tenant, c.session.subscription, who.Object})...)
}

func (s *session) identity(ctx context.Context) (identity, error) {
	token, err := s.account.Token(ctx, "", s.account.Cloud().Configuration.Services["resourceManager"].Audience+"/.default")
	if err != nil {
		return identity{}, err
	}
	var who identity
	parts := strings.Split(token.Token, ".")
	if len(parts) != 3 {
		return who, errors.New("the token of Azure Resource Manager is no JSON Web Token")
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(content, &who)
	}
	return who, err
}

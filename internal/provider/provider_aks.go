package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// aksModel is the block `aks`: an AKS cluster, and who logs in to Azure.
type aksModel struct {
	ID                  types.String `tfsdk:"id"`
	SubscriptionID      types.String `tfsdk:"subscription_id"`
	ResourceGroupName   types.String `tfsdk:"resource_group_name"`
	Name                types.String `tfsdk:"name"`
	UseAdminCredentials types.Bool   `tfsdk:"use_admin_credentials"`
	UsePublicFQDN       types.Bool   `tfsdk:"use_public_fqdn"`
	ProxyURL            types.String `tfsdk:"proxy_url"`
	TLSServerName       types.String `tfsdk:"tls_server_name"`
	RequestTimeout      types.String `tfsdk:"request_timeout"`
	WaitForRoles        types.String `tfsdk:"wait_for_roles"`

	TenantID                       types.String `tfsdk:"tenant_id"`
	AuxiliaryTenantIDs             types.List   `tfsdk:"auxiliary_tenant_ids"`
	ClientID                       types.String `tfsdk:"client_id"`
	ClientIDFilePath               types.String `tfsdk:"client_id_file_path"`
	ClientSecret                   types.String `tfsdk:"client_secret"`
	ClientSecretFilePath           types.String `tfsdk:"client_secret_file_path"`
	ClientCertificate              types.String `tfsdk:"client_certificate"`
	ClientCertificatePath          types.String `tfsdk:"client_certificate_path"`
	ClientCertificatePassword      types.String `tfsdk:"client_certificate_password"`
	UseOIDC                        types.Bool   `tfsdk:"use_oidc"`
	OIDCToken                      types.String `tfsdk:"oidc_token"`
	OIDCTokenFilePath              types.String `tfsdk:"oidc_token_file_path"`
	OIDCRequestToken               types.String `tfsdk:"oidc_request_token"`
	OIDCRequestURL                 types.String `tfsdk:"oidc_request_url"`
	ADOPipelineServiceConnectionID types.String `tfsdk:"ado_pipeline_service_connection_id"`
	UseAKSWorkloadIdentity         types.Bool   `tfsdk:"use_aks_workload_identity"`
	UseMSI                         types.Bool   `tfsdk:"use_msi"`
	UseCLI                         types.Bool   `tfsdk:"use_cli"`
	Environment                    types.String `tfsdk:"environment"`
	Endpoint                       types.Object `tfsdk:"endpoint"`
	DisableInstanceDiscovery       types.Bool   `tfsdk:"disable_instance_discovery"`
}

type endpointModel struct {
	ActiveDirectoryAuthorityHost types.String `tfsdk:"active_directory_authority_host"`
	ResourceManagerEndpoint      types.String `tfsdk:"resource_manager_endpoint"`
	ResourceManagerAudience      types.String `tfsdk:"resource_manager_audience"`
}

func aksBlock() schema.SingleNestedAttribute {
	text := func(description string, checks ...validator.String) schema.StringAttribute {
		a := optionalString(description)
		a.Validators = append(a.Validators, checks...)
		return a
	}
	secret := func(description string, checks ...validator.String) schema.StringAttribute {
		a := text(description, checks...)
		a.Sensitive = true
		return a
	}
	flag := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, MarkdownDescription: description}
	}
	required := func(description string, checks ...validator.String) schema.StringAttribute {
		a := text(description, checks...)
		a.Optional, a.Required = false, true
		return a
	}
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "An AKS cluster, by `id` or by `resource_group_name` and `name`, and who logs in to Azure. " +
			"The address of its API server comes from Azure Resource Manager and tokens from Microsoft Entra ID, when they are first needed; tokens are renewed before they expire, " +
			"so an apply may last longer than they do. Neither kubelogin nor any other plugin is run. The credentials are also those for keys in Azure Key Vault and for Azure Container Registry. " +
			"They have the names that the azurerm provider gives them, and come from the same environment variables where they are left out: `ARM_*`, then the `AZURE_*` ones of Azure's SDKs. " +
			"A variable neither overrides an attribute nor adds another way to log in to the one that attributes choose (`use_cli = true` chooses none, it allows one). " +
			"Of `AZURE_*`, a service principal is taken as a whole (client, tenant, and secret or certificate), and only where neither attributes nor `ARM_*` choose a way or name another one. " +
			"[How to log in](guides/aks.md) has an example of each way, and the roles that are needed.\n\n" +
			"Name no cluster here to use the credentials beside a `kubernetes` block. Without an `aks` block, credentials come from the environment alone, as soon as something of Azure is used.",
		Attributes: map[string]schema.Attribute{
			"id": text("Resource ID of the cluster, such as `azurerm_kubernetes_cluster.this.id`, which has Terraform wait for a cluster that is made in the same apply.", managedClusterID()),
			"subscription_id": text("Subscription of the cluster and of registries that are named without one, by its ID. Environment: `ARM_SUBSCRIPTION_ID`, `AZURE_SUBSCRIPTION_ID`. "+
				"With `id`, that of the ID.", guid()),
			"resource_group_name":   text("Resource group of the cluster.", resourceGroupName()),
			"name":                  text("Name of the cluster.", managedClusterName()),
			"use_admin_credentials": flag("Whether to use the cluster's local admin account instead of Microsoft Entra ID. It has all rights in the cluster, and is not there where local accounts are disabled. Default `false`."),
			"use_public_fqdn":       flag("Whether to use the public name of a private cluster (`private_cluster_public_fqdn_enabled`). It leads to the private address, so the network has to lead there too. Default `false`."),
			"proxy_url":             secret("HTTP, HTTPS or SOCKS5 proxy for all requests to the API server, with its password if it wants one. Azure itself is reached as `HTTPS_PROXY` and `NO_PROXY` say. Default: as they say.", proxyURL()),
			"tls_server_name":       text("Name to verify the API server's certificate against, when it differs from the host."),
			"request_timeout":       text("How long one request to the API server may take, as a Go duration. Default `30s`.", goDuration(time.Second, time.Hour)),
			"wait_for_roles": text("How long roles are waited for that take effect late, as a Go duration of at most `"+plainDuration(azure.MaxPatience)+"`, before a refusal of the cluster's credentials, of its Azure RBAC or of an import into a registry is an error. "+
				"Azure takes up to 5 minutes for a new role assignment, so `5m` is for configurations that assign the roles in the same apply. Default: not at all.", goDuration(time.Second, azure.MaxPatience)),

			"tenant_id":                   text("Microsoft Entra tenant to log in to. Environment: `ARM_TENANT_ID`, `AZURE_TENANT_ID`."),
			"auxiliary_tenant_ids":        schema.ListAttribute{ElementType: types.StringType, Optional: true, MarkdownDescription: "Other tenants whose tokens go along with every request to Azure Resource Manager, at most three. A managed identity has none of them. Environment: `ARM_AUXILIARY_TENANT_IDS`, separated by `;`.", Validators: []validator.List{listvalidator.SizeBetween(1, 3), listvalidator.ValueStringsAre(stringvalidator.LengthAtLeast(1))}},
			"client_id":                   text("Client ID of the service principal, of the user-assigned managed identity, or of the application that trusts an OIDC issuer. Environment: `ARM_CLIENT_ID`, `AZURE_CLIENT_ID`.", guid()),
			"client_id_file_path":         text("File with the client ID. Environment: `ARM_CLIENT_ID_FILE_PATH`."),
			"client_secret":               secret("Secret of the service principal. Environment: `ARM_CLIENT_SECRET`, `AZURE_CLIENT_SECRET`."),
			"client_secret_file_path":     text("File with the secret. Environment: `ARM_CLIENT_SECRET_FILE_PATH`."),
			"client_certificate":          secret("Certificate and key of the service principal, PKCS#12 in base64. Environment: `ARM_CLIENT_CERTIFICATE`.", base64Text()),
			"client_certificate_path":     text("File with the certificate and the key of the service principal, PKCS#12 or PEM. Environment: `ARM_CLIENT_CERTIFICATE_PATH`, `AZURE_CLIENT_CERTIFICATE_PATH`."),
			"client_certificate_password": secret("Password of the certificate. Environment: `ARM_CLIENT_CERTIFICATE_PASSWORD`, `AZURE_CLIENT_CERTIFICATE_PASSWORD`."),
			"use_oidc":                    flag("Whether to log in with a token of an OIDC issuer that the application trusts: of GitHub Actions, of Azure DevOps, or any. Environment: `ARM_USE_OIDC`. Default `false`."),
			"oidc_token":                  secret("The issuer's token. It cannot be renewed: an apply must not take longer than the tokens that were got with it, about an hour. Environment: `ARM_OIDC_TOKEN`."),
			"oidc_token_file_path":        text("File with the issuer's token, read anew whenever one is needed. Environment: `ARM_OIDC_TOKEN_FILE_PATH`."),
			"oidc_request_token":          secret("Token with which to ask `oidc_request_url`. Environment: `ARM_OIDC_REQUEST_TOKEN`, `ACTIONS_ID_TOKEN_REQUEST_TOKEN`, `SYSTEM_ACCESSTOKEN`."),
			"oidc_request_url":            text("Where to ask for the issuer's token, again whenever one is needed. Environment: `ARM_OIDC_REQUEST_URL`, `ACTIONS_ID_TOKEN_REQUEST_URL`, `SYSTEM_OIDCREQUESTURI`.", httpsURL()),
			"ado_pipeline_service_connection_id": text("Azure DevOps: ID of the service connection in whose name the pipeline logs in. " +
				"Environment: `ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID`, `ARM_OIDC_AZURE_SERVICE_CONNECTION_ID`, `AZURESUBSCRIPTION_SERVICE_CONNECTION_ID`."),
			"use_aks_workload_identity": flag("Whether to log in as the workload identity of the AKS pod that Terraform runs in. Environment: `ARM_USE_AKS_WORKLOAD_IDENTITY`. Default `false`."),
			"use_msi":                   flag("Whether to log in as the managed identity of the machine that Terraform runs on; `client_id` (or `ARM_CLIENT_ID`, but not `AZURE_CLIENT_ID`) chooses a user-assigned one. Environment: `ARM_USE_MSI`. Default `false`."),
			"use_cli":                   flag("Whether to log in as Azure CLI has (`az login`) when nothing else is set. `true`, where it is set, also keeps the `AZURE_*` variables from choosing a service principal; `ARM_*` come first all the same, as in azurerm. Environment: `ARM_USE_CLI`. Default `true`."),
			"environment": text("The cloud: `public`, `usgovernment`, `china`, or `custom` with `endpoint`. Environment: `ARM_ENVIRONMENT`. Default `public`.",
				stringvalidator.OneOf("public", "usgovernment", "china", "custom")),
			"endpoint": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Where a `custom` cloud is.",
				Attributes: map[string]schema.Attribute{
					"active_directory_authority_host": required("Address of Microsoft Entra ID, such as `https://login.microsoftonline.com`. Environment: `ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST`.", httpsURL()),
					"resource_manager_endpoint":       required("Address of Azure Resource Manager, such as `https://management.azure.com`. Environment: `ARM_RESOURCE_MANAGER_ENDPOINT`.", httpsURL()),
					"resource_manager_audience":       required("What tokens for Azure Resource Manager are for, such as `https://management.core.windows.net/`. Environment: `ARM_RESOURCE_MANAGER_AUDIENCE`.", httpsURL()),
				},
			},
			"disable_instance_discovery": flag("Whether to trust the authority without asking the public cloud about it, as a cloud without a way there needs. Environment: `ARM_DISABLE_INSTANCE_DISCOVERY`. Default `false`."),
		},
	}
}

func guid() validator.String {
	return pattern("an ID such as 00000000-0000-0000-0000-000000000000", `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
}

func resourceGroupName() validator.String {
	return pattern("the name of a resource group: up to 90 letters, digits and any of _-.(), without a dot at the end", `^[\p{L}\p{N}_().-]{0,89}[\p{L}\p{N}_()-]$`)
}

func managedClusterName() validator.String {
	return pattern("the name of an AKS cluster: up to 63 letters, digits, hyphens and underscores, the first and the last a letter or a digit", `^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
}

func managedClusterID() validator.String {
	return checked{description: "the resource ID of an AKS cluster", check: func(id string) error {
		_, err := aks.ParseID(id)
		return err
	}}
}

// pattern accepts what an expression matches. It quotes no value.
func pattern(description, expression string) validator.String {
	matches := regexp.MustCompile(expression)
	return checked{description: description, check: func(value string) error {
		if !matches.MatchString(value) {
			return errors.New("it has another form")
		}
		return nil
	}}
}

func httpsURL() validator.String {
	return checked{description: "an address that begins with https://", check: func(value string) error {
		if address, err := url.Parse(value); err != nil || address.Scheme != "https" || address.Host == "" {
			return errors.New("it has another form")
		}
		return nil
	}}
}

// proxyURL says nothing of what it refuses: there may be a password in it.
func proxyURL() validator.String {
	return checked{description: "the address of a proxy such as http://proxy.example.com:3128", check: func(value string) error {
		address, err := url.Parse(value)
		if err != nil || address.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, address.Scheme) {
			return errors.New("it begins with neither http://, https:// nor socks5://, or names no host")
		}
		return nil
	}}
}

func base64Text() validator.String {
	return checked{description: "in base64", check: func(value string) error {
		if _, err := base64.StdEncoding.DecodeString(value); err != nil {
			return errors.New("encode the file with filebase64(), or name it by client_certificate_path")
		}
		return nil
	}}
}

// ValidateConfig refuses blocks that contradict themselves or each other,
// whatever the environment says; [meshProvider.Configure] judges both together.
func (p *meshProvider) ValidateConfig(ctx context.Context, req provider.ValidateConfigRequest, resp *provider.ValidateConfigResponse) {
	var block, kubernetes types.Object
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("aks"), &block)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("kubernetes"), &kubernetes)...)
	if resp.Diagnostics.HasError() || block.IsNull() || block.IsUnknown() {
		return
	}
	var model aksModel
	resp.Diagnostics.Append(block.As(ctx, &model, objectAsOptions)...)
	if resp.Diagnostics.HasError() {
		return
	}
	model.check(kubernetes, &resp.Diagnostics)
}

// given tells whether there is a value. An unknown one may turn out to be null.
func given(value attr.Value) bool { return !value.IsNull() && !value.IsUnknown() }

// checkClusterName refuses what names a cluster by half, or twice.
func checkClusterName(at path.Path, id, resourceGroup, name types.String, diags *diag.Diagnostics) {
	refuse := func(attribute, reason string) {
		problemAt(diags, at.AtName(attribute), "Invalid AKS Cluster", errors.New(reason))
	}
	switch {
	case given(id) && (given(resourceGroup) || given(name)):
		refuse("id", "resource_group_name and name say which cluster it is too; set either id, or the two of them")
	case given(name) && resourceGroup.IsNull() && id.IsNull():
		refuse("resource_group_name", "it is missing beside name; set both to name a cluster, or id")
	case given(resourceGroup) && name.IsNull() && id.IsNull():
		refuse("name", "it is missing beside resource_group_name; set both to name a cluster, or id")
	}
}

// check refuses what is wrong with the block by itself, and what contradicts the
// other one.
func (m *aksModel) check(kubernetes types.Object, diags *diag.Diagnostics) {
	refuse := func(attribute, format string, arguments ...any) {
		problemAt(diags, path.Root("aks").AtName(attribute), "Invalid AKS Configuration", fmt.Errorf(format, arguments...))
	}
	checkClusterName(path.Root("aks"), m.ID, m.ResourceGroupName, m.Name, diags)
	if id, err := aks.ParseID(m.ID.ValueString()); err == nil && given(m.SubscriptionID) && !strings.EqualFold(id.SubscriptionID, m.SubscriptionID.ValueString()) {
		refuse("subscription_id", "id is in another subscription, %s; leave subscription_id out", id.SubscriptionID)
	}
	if m.ID.IsNull() && m.Name.IsNull() && m.ResourceGroupName.IsNull() {
		about := m.aboutCluster()
		for _, name := range slices.Sorted(maps.Keys(about)) {
			if given(about[name]) {
				refuse(name, "it is about a cluster, and aks names none; set id, or resource_group_name and name")
			}
		}
	}
	if given(kubernetes) && (given(m.ID) || given(m.Name)) {
		var set []string
		for name, value := range kubernetes.Attributes() {
			if !value.IsNull() {
				set = append(set, name)
			}
		}
		slices.Sort(set)
		attribute := "id"
		if !given(m.ID) {
			attribute = "name"
		}
		refuse(attribute, "the block kubernetes says how to reach a cluster too (%s); name the cluster either here or there. "+
			"Credentials alone may be given here beside kubernetes", strings.Join(set, ", "))
	}
}

// aboutCluster are the attributes, by name, that say which cluster it is and how it
// is reached. All others say who logs in.
func (m *aksModel) aboutCluster() map[string]attr.Value {
	return map[string]attr.Value{
		"id": m.ID, "resource_group_name": m.ResourceGroupName, "name": m.Name,
		"use_admin_credentials": m.UseAdminCredentials, "use_public_fqdn": m.UsePublicFQDN,
		"proxy_url": m.ProxyURL, "tls_server_name": m.TLSServerName, "request_timeout": m.RequestTimeout,
	}
}

// named tells whether the block names a cluster, besides who logs in, known or not.
func (m *aksModel) named() bool { return m != nil && (!m.ID.IsNull() || !m.Name.IsNull()) }

// known tells whether all that the block says about a cluster is known.
func (m *aksModel) known() bool {
	for _, value := range m.aboutCluster() {
		if value.IsUnknown() {
			return false
		}
	}
	return true
}

// settings are the credentials of the block; a missing block leaves them to the
// environment.
func (m *aksModel) settings(ctx context.Context, diags *diag.Diagnostics) azure.Settings {
	if m == nil {
		return azure.Settings{}
	}
	s := azure.Settings{
		SubscriptionID:                 m.SubscriptionID.ValueString(),
		TenantID:                       m.TenantID.ValueString(),
		AuxiliaryTenantIDs:             stringList(ctx, m.AuxiliaryTenantIDs, diags),
		ClientID:                       m.ClientID.ValueString(),
		ClientIDFilePath:               m.ClientIDFilePath.ValueString(),
		ClientSecret:                   m.ClientSecret.ValueString(),
		ClientSecretFilePath:           m.ClientSecretFilePath.ValueString(),
		ClientCertificate:              m.ClientCertificate.ValueString(),
		ClientCertificatePath:          m.ClientCertificatePath.ValueString(),
		ClientCertificatePassword:      m.ClientCertificatePassword.ValueString(),
		UseOIDC:                        m.UseOIDC.ValueBoolPointer(),
		OIDCToken:                      m.OIDCToken.ValueString(),
		OIDCTokenFilePath:              m.OIDCTokenFilePath.ValueString(),
		OIDCRequestToken:               m.OIDCRequestToken.ValueString(),
		OIDCRequestURL:                 m.OIDCRequestURL.ValueString(),
		ADOPipelineServiceConnectionID: m.ADOPipelineServiceConnectionID.ValueString(),
		UseAKSWorkloadIdentity:         m.UseAKSWorkloadIdentity.ValueBoolPointer(),
		UseMSI:                         m.UseMSI.ValueBoolPointer(),
		UseCLI:                         m.UseCLI.ValueBoolPointer(),
		Environment:                    m.Environment.ValueString(),
		DisableInstanceDiscovery:       m.DisableInstanceDiscovery.ValueBoolPointer(),
	}
	if !m.Endpoint.IsNull() {
		var endpoint endpointModel
		diags.Append(m.Endpoint.As(ctx, &endpoint, objectAsOptions)...)
		s.Endpoint = azure.Endpoint{
			ActiveDirectoryAuthorityHost: endpoint.ActiveDirectoryAuthorityHost.ValueString(),
			ResourceManagerEndpoint:      endpoint.ResourceManagerEndpoint.ValueString(),
			ResourceManagerAudience:      endpoint.ResourceManagerAudience.ValueString(),
		}
	}
	// Azure CLI is asked for tokens of the tenant of this subscription: ARM_SUBSCRIPTION_ID
	// may name another one.
	if id, err := aks.ParseID(m.ID.ValueString()); err == nil {
		s.SubscriptionID = id.SubscriptionID
	}
	return s
}

// errLoginUnknown is that nobody can log in to Azure, because the configuration says
// only later who.
var errLoginUnknown = errors.New("who logs in to Azure, by the provider's aks block, is not known yet; set it from values that are known by then")

// login is who logs in to Azure: by the block `aks`, or by the environment alone
// if there is none. Which cluster the block names need not be known for that. The
// block is returned too if it is there and says who logs in.
func (p *meshProvider) login(ctx context.Context, config tfsdk.Config, diags *diag.Diagnostics) (*aksModel, func() (*azure.Account, error)) {
	var block types.Object
	diags.Append(config.GetAttribute(ctx, path.Root("aks"), &block)...)
	if block.IsNull() {
		// What is wrong with the environment is no error as long as nobody needs Azure.
		return nil, sync.OnceValues(func() (*azure.Account, error) { return p.account(azure.Settings{}, 0) })
	}
	var model aksModel
	whoIsKnown := !block.IsUnknown()
	if whoIsKnown {
		diags.Append(block.As(ctx, &model, objectAsOptions)...)
		about := model.aboutCluster()
		for name, value := range block.Attributes() {
			if _, ok := about[name]; !ok && !fullyKnown(ctx, value) {
				whoIsKnown = false
			}
		}
	}
	if !whoIsKnown {
		return nil, func() (*azure.Account, error) { return nil, errLoginUnknown }
	}
	settings := model.settings(ctx, diags)
	if diags.HasError() {
		return nil, nil
	}
	account, err := p.account(settings, duration(model.WaitForRoles, 0))
	if err != nil {
		model.refuse(err, diags)
	}
	return &model, func() (*azure.Account, error) { return account, err }
}

// account is who logs in by settings and the environment, and waits for roles.
// Nothing is dialled.
func (p *meshProvider) account(settings azure.Settings, patience time.Duration) (*azure.Account, error) {
	settings, err := settings.WithEnvironment(p.getenv)
	if err != nil {
		return nil, err
	}
	// Nothing that is logged has a secret in it; were there one, it would not be seen.
	secrets := slices.DeleteFunc([]string{
		settings.ClientSecret, settings.ClientCertificate, settings.ClientCertificatePassword, settings.OIDCToken, settings.OIDCRequestToken,
	}, func(secret string) bool { return secret == "" })
	return azure.NewAccount(settings, azure.Options{
		UserAgent: "aksmesh/" + p.version,
		Patience:  patience,
		Log: func(ctx context.Context, message string, fields map[string]any) {
			tflog.Info(tflog.MaskLogStrings(ctx, secrets...), message, fields)
		},
	})
}

// refuse reports what is wrong with the block and the environment together.
func (m *aksModel) refuse(err error, diags *diag.Diagnostics) {
	diags.AddAttributeError(path.Root("aks"), "Invalid AKS Configuration", "aks: "+explain(err))
}

// enter makes the cluster that the block names the one of the session, and
// returns how it is reached.
func (s *session) enter(ctx context.Context, block *aksModel, diags *diag.Diagnostics) kube.Settings {
	account, err := s.azure()
	if err == nil {
		s.aks, err = block.cluster(account)
	}
	if err != nil {
		block.refuse(err, diags)
		return kube.Settings{}
	}
	tflog.Info(ctx, "the cluster is reached by Azure", map[string]any{"cluster": s.aks.id.Path(), "login": account.Method(), "cloud": account.Cloud().Name})
	return kube.Settings{Access: s.aks.Access, RequestTimeout: duration(block.RequestTimeout, 0)}
}

// cluster is the one that the block names.
func (m *aksModel) cluster(account *azure.Account) (managedCluster, error) {
	named := managedCluster{options: aks.AccessOptions{
		Admin: m.UseAdminCredentials.ValueBool(), PublicFQDN: m.UsePublicFQDN.ValueBool(),
		ProxyURL: m.ProxyURL.ValueString(), TLSServerName: m.TLSServerName.ValueString(),
	}}
	var err error
	if m.ID.IsNull() {
		named.id, err = clusterOf(account, m.ResourceGroupName, m.Name)
	} else {
		named.id, err = aks.ParseID(m.ID.ValueString())
	}
	if err != nil {
		return managedCluster{}, err
	}
	named.Access, err = aks.NewAccess(account, named.id, named.options)
	return named, err
}

// clusterOf names a cluster of the account's subscription.
func clusterOf(account *azure.Account, resourceGroup, name types.String) (aks.ID, error) {
	if account.SubscriptionID() == "" {
		return aks.ID{}, fmt.Errorf("subscription_id (or the environment variable ARM_SUBSCRIPTION_ID) says which subscription resource group %q is in, and is not set; "+
			"set it, or name the cluster by id", resourceGroup.ValueString())
	}
	return aks.ID{SubscriptionID: account.SubscriptionID(), ResourceGroup: resourceGroup.ValueString(), Name: name.ValueString()}, nil
}

// managedCluster is the AKS cluster of the provider's configuration.
type managedCluster struct {
	*aks.Access // nil if the configuration names none, or does not say yet which

	awaited bool // the configuration does not say yet which
	id      aks.ID
	options aks.AccessOptions
}

// optionsFor is how a cluster is reached that need not be the configuration's: the
// way through the network is known of that one alone.
func (m managedCluster) optionsFor(id aks.ID) aks.AccessOptions {
	options := m.options
	if !strings.EqualFold(m.id.Path(), id.Path()) {
		options.ProxyURL, options.TLSServerName = "", ""
	}
	return options
}

// nowhere is access to no cluster, for configurations that only say who logs in
// to Azure: whatever needs a cluster is told so when it asks.
type nowhere struct{ because error }

func (nowhere) String() string { return "no cluster" }

func (n nowhere) Connect(context.Context) (*rest.Config, error) { return nil, n.because }

func (nowhere) Login(context.Context) error { return nil }

func (nowhere) Explain(context.Context, error) string { return "" }

package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
)

var (
	_ ephemeral.EphemeralResourceWithConfigure      = (*clusterCredentialsEphemeralResource)(nil)
	_ ephemeral.EphemeralResourceWithValidateConfig = (*clusterCredentialsEphemeralResource)(nil)
	_ ephemeral.EphemeralResourceWithRenew          = (*clusterCredentialsEphemeralResource)(nil)
	_ ephemeral.EphemeralResourceWithClose          = (*clusterCredentialsEphemeralResource)(nil)
)

const (
	// lastingToken is how long a token that is handed out lasts at least if Microsoft
	// Entra ID can be had to give such a one: whoever takes it gets no other.
	lastingToken = 30 * time.Minute

	// credentialsHandle is the key in the private data under which the handle of open
	// credentials is.
	credentialsHandle = "handle"
)

type clusterCredentialsEphemeralResource struct{ session *session }

func newClusterCredentialsEphemeralResource() ephemeral.EphemeralResource {
	return &clusterCredentialsEphemeralResource{}
}

func (r *clusterCredentialsEphemeralResource) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_cluster_credentials"
}

func (r *clusterCredentialsEphemeralResource) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	r.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (r *clusterCredentialsEphemeralResource) Schema(_ context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	text := func(description string, check validator.String) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: []validator.String{check}}
	}
	flag := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, MarkdownDescription: description}
	}
	computed := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	secret := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, Sensitive: true, MarkdownDescription: description}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The way to the API server of an AKS cluster for other providers, such as `kubernetes` and `helm`: its address, its certificate authority and a token of Microsoft Entra ID, " +
			"without kubelogin. It is kept nowhere, neither in the state nor in the plan. Needs Terraform 1.10.\n\n" +
			"A token lasts 60 to 90 minutes (that of a managed identity up to a day). What takes one cannot be handed another: providers keep what they were configured with. " +
			"So every run gets a token that is as new as can be had, and the login is renewed while the run lasts, but whoever has the token that was handed out is refused once it ends; " +
			"a warning at the end of the run says so. The resources of this provider are not concerned: they renew their own tokens. " +
			"Once nothing needs the credentials any more, the renewals end.\n\n" +
			"For a cluster that is made in the same apply, give `id`: Terraform then opens the credentials after the cluster is there.\n\n" +
			"```terraform\n" +
			"ephemeral \"aksmesh_cluster_credentials\" \"this\" {\n" +
			"  id = azurerm_kubernetes_cluster.this.id\n" +
			"}\n\n" +
			"provider \"kubernetes\" {\n" +
			"  host                   = ephemeral.aksmesh_cluster_credentials.this.host\n" +
			"  cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.this.cluster_ca_certificate\n" +
			"  token                  = ephemeral.aksmesh_cluster_credentials.this.token\n" +
			"}\n\n" +
			"provider \"helm\" {\n" +
			"  kubernetes = {\n" +
			"    host                   = ephemeral.aksmesh_cluster_credentials.this.host\n" +
			"    cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.this.cluster_ca_certificate\n" +
			"    token                  = ephemeral.aksmesh_cluster_credentials.this.token\n" +
			"  }\n" +
			"}\n" +
			"```",
		Attributes: map[string]schema.Attribute{
			"id":                    text("Resource ID of the cluster. Default: the cluster of the provider's `aks` block.", managedClusterID()),
			"resource_group_name":   text("Resource group of the cluster, with `name` instead of `id`; the subscription is that of the provider's credentials.", resourceGroupName()),
			"name":                  text("Name of the cluster.", managedClusterName()),
			"use_admin_credentials": flag("Whether to hand out the local admin account. Default: as in the provider's `aks` block."),
			"use_public_fqdn":       flag("Whether to hand out the public name of a private cluster. Default: as in the provider's `aks` block."),

			"host":                   computed("Address of the API server."),
			"cluster_ca_certificate": computed("PEM certificate of the authority that signs the API server's certificate. The kubernetes and helm providers take it as it is, without `base64decode`."),
			"token":                  secret("Token of Microsoft Entra ID; null if the cluster has local accounts only, and with admin credentials."),
			"client_certificate":     secret("PEM client certificate; null where there is a token."),
			"client_key":             secret("PEM key of `client_certificate`; null where there is a token."),
			"tls_server_name":        computed("Name to verify the API server's certificate against, when it differs from `host`; null otherwise."),
			"proxy_url":              secret("Proxy to reach the API server by: `proxy_url` of the provider's `aks` block if that names this cluster; null if there is none."),
			"expires_at":             computed("When the token or the client certificate ends, RFC 3339."),
		},
	}
}

type clusterCredentialsModel struct {
	ID                   types.String `tfsdk:"id"`
	ResourceGroupName    types.String `tfsdk:"resource_group_name"`
	Name                 types.String `tfsdk:"name"`
	UseAdminCredentials  types.Bool   `tfsdk:"use_admin_credentials"`
	UsePublicFQDN        types.Bool   `tfsdk:"use_public_fqdn"`
	Host                 types.String `tfsdk:"host"`
	ClusterCACertificate types.String `tfsdk:"cluster_ca_certificate"`
	Token                types.String `tfsdk:"token"`
	ClientCertificate    types.String `tfsdk:"client_certificate"`
	ClientKey            types.String `tfsdk:"client_key"`
	TLSServerName        types.String `tfsdk:"tls_server_name"`
	ProxyURL             types.String `tfsdk:"proxy_url"`
	ExpiresAt            types.String `tfsdk:"expires_at"`
}

func (r *clusterCredentialsEphemeralResource) ValidateConfig(ctx context.Context, req ephemeral.ValidateConfigRequest, resp *ephemeral.ValidateConfigResponse) {
	var config clusterCredentialsModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	checkClusterName(path.Empty(), config.ID, config.ResourceGroupName, config.Name, &resp.Diagnostics)
}

// openCredentials are what a run has been handed out and not given back.
type openCredentials struct {
	access  *aks.Access
	ends    time.Time // of the token that was handed out
	failure error     // of the last renewal
}

// Open logs in. Terraform opens as soon as the configuration is known, while it
// plans and again while it applies.
func (r *clusterCredentialsEphemeralResource) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	var model clusterCredentialsModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	account, err := r.session.azure()
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Log In to Azure", err)
		return
	}
	access, err := r.access(account, &model)
	if err != nil {
		problem(&resp.Diagnostics, "No Cluster to Give Access to", err)
		return
	}
	got, err := r.lasting(ctx, access)
	if err != nil {
		r.explained(ctx, access, err, &resp.Diagnostics)
		return
	}
	model.Host = types.StringValue(got.Host)
	model.ClusterCACertificate = types.StringValue(got.CACertificate)
	model.Token = textOrNull(got.Token)
	model.ClientCertificate = textOrNull(got.ClientCertificate)
	model.ClientKey = textOrNull(got.ClientKey)
	model.TLSServerName = textOrNull(got.TLSServerName)
	model.ProxyURL = textOrNull(got.ProxyURL)
	model.ExpiresAt = types.StringValue(got.NotAfter.UTC().Format(time.RFC3339))
	resp.Diagnostics.Append(resp.Result.Set(ctx, &model)...)
	if got.Token == "" {
		return // A client certificate outlasts every run.
	}
	handle := uuid.NewString()
	r.session.credentials.Store(handle, &openCredentials{access: access, ends: got.NotAfter})
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, credentialsHandle, []byte(`"`+handle+`"`))...)
	resp.RenewAt = azure.RenewAt(r.session.time(), got.NotAfter)
}

// Renew logs in again before the token ends. What was handed out stays what it was.
// Terraform does not show what a renewal has to say: Close does.
func (r *clusterCredentialsEphemeralResource) Renew(ctx context.Context, req ephemeral.RenewRequest, resp *ephemeral.RenewResponse) {
	handle, diags := req.Private.GetKey(ctx, credentialsHandle)
	resp.Diagnostics.Append(diags...)
	open, ok := r.opened(handle, &resp.Diagnostics)
	if !ok {
		return
	}
	got, err := open.access.Renew(ctx)
	if open.failure = err; err != nil {
		r.explained(ctx, open.access, err, &resp.Diagnostics)
		return
	}
	resp.RenewAt = azure.RenewAt(r.session.time(), got.NotAfter)
	tflog.Debug(ctx, "renewed credentials", map[string]any{"cluster": open.access.String(), "until": got.NotAfter})
}

// Close ends the renewals. The token stays what it is: Microsoft Entra ID takes none
// back, and the provider's own resources may be at work with it. If the one that was
// handed out has come to its end before, whoever has it was refused.
func (r *clusterCredentialsEphemeralResource) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	handle, diags := req.Private.GetKey(ctx, credentialsHandle)
	resp.Diagnostics.Append(diags...)
	if handle == nil {
		return // A client certificate.
	}
	open, ok := r.opened(handle, &resp.Diagnostics)
	if !ok {
		return
	}
	r.session.credentials.Delete(unquoted(handle))
	tflog.Debug(ctx, "closed credentials", map[string]any{"cluster": open.access.String()})
	if r.session.time().Before(open.ends) {
		return
	}
	renewed := ""
	if open.failure != nil {
		renewed = " Nor could the login be renewed: " + explain(open.failure, func(err error) string { return open.access.Explain(ctx, err) })
	}
	resp.Diagnostics.AddWarning("Credentials Ended During This Run", fmt.Sprintf(
		"The token for %s that was handed out has ended at %s, before this run has. What had taken it, such as the kubernetes or helm provider, could not be given another and was refused from then on (Unauthorized). "+
			"If that is what stopped it, apply again: a new run gets a new token, and what is done stays done.%s",
		open.access, open.ends.UTC().Format(time.RFC3339), renewed))
}

// unquoted is the handle in the private data, which is JSON.
func unquoted(handle []byte) string { return strings.Trim(string(handle), `"`) }

// opened are the credentials of a handle.
func (r *clusterCredentialsEphemeralResource) opened(handle []byte, diags *diag.Diagnostics) (*openCredentials, bool) {
	found, _ := r.session.credentials.Load(unquoted(handle))
	open, ok := found.(*openCredentials)
	if !ok {
		problem(diags, "Unknown Credentials", errors.New("the credentials were opened by another process of the provider, or are closed already"))
	}
	return open, ok
}

// access is the way to the cluster that the model names, or to the provider's.
func (r *clusterCredentialsEphemeralResource) access(account *azure.Account, model *clusterCredentialsModel) (*aks.Access, error) {
	cluster := r.session.aks
	var (
		id  aks.ID
		err error
	)
	switch {
	case !model.ID.IsNull():
		id, err = aks.ParseID(model.ID.ValueString())
	case !model.Name.IsNull():
		id, err = clusterOf(account, model.ResourceGroupName, model.Name)
	case cluster.awaited:
		err = errors.New("which cluster the provider's aks block names is not known yet; for one that is made in the same apply, give its id here too, so that Terraform opens the credentials after it is made")
	case cluster.Access == nil:
		err = errors.New("neither this resource nor the provider's aks block names a cluster; set id, or resource_group_name and name, here or there")
	default:
		id = cluster.id
	}
	if err != nil {
		return nil, err
	}
	options := cluster.optionsFor(id)
	if !model.UseAdminCredentials.IsNull() {
		options.Admin = model.UseAdminCredentials.ValueBool()
	}
	if !model.UsePublicFQDN.IsNull() {
		options.PublicFQDN = model.UsePublicFQDN.ValueBool()
	}
	return aks.NewAccess(account, id, options)
}

// lasting logs in. A token that has been got for something else earlier and ends
// soon is replaced if another can be had.
func (r *clusterCredentialsEphemeralResource) lasting(ctx context.Context, access *aks.Access) (aks.Credentials, error) {
	got, err := access.Credentials(ctx)
	if err != nil || got.Token == "" || got.NotAfter.Sub(r.session.time()) >= lastingToken {
		return got, err
	}
	if newer, err := access.Renew(ctx); err == nil {
		return newer, nil
	}
	return got, nil
}

// explained reports an error of logging in.
func (r *clusterCredentialsEphemeralResource) explained(ctx context.Context, access *aks.Access, err error, diags *diag.Diagnostics) {
	problem(diags, "Unable to Get Credentials", err, func(err error) string { return access.Explain(ctx, err) })
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

func osGetenv(key string) string { return os.Getenv(key) }

// providerModel is the provider block.
type providerModel struct {
	AKS        types.Object     `tfsdk:"aks"`
	Kubernetes *kubernetesModel `tfsdk:"kubernetes"`
	Helm       *helmModel       `tfsdk:"helm"`
}

type kubernetesModel struct {
	ConfigPath           types.String `tfsdk:"config_path"`
	ConfigPaths          types.List   `tfsdk:"config_paths"`
	ConfigContent        types.String `tfsdk:"config_content"`
	ConfigContext        types.String `tfsdk:"config_context"`
	ConfigContextUser    types.String `tfsdk:"config_context_auth_info"`
	ConfigContextCluster types.String `tfsdk:"config_context_cluster"`
	Host                 types.String `tfsdk:"host"`
	ClusterCACertificate types.String `tfsdk:"cluster_ca_certificate"`
	ClientCertificate    types.String `tfsdk:"client_certificate"`
	ClientKey            types.String `tfsdk:"client_key"`
	Token                types.String `tfsdk:"token"`
	Username             types.String `tfsdk:"username"`
	Password             types.String `tfsdk:"password"`
	Insecure             types.Bool   `tfsdk:"insecure"`
	TLSServerName        types.String `tfsdk:"tls_server_name"`
	ProxyURL             types.String `tfsdk:"proxy_url"`
	Exec                 *execModel   `tfsdk:"exec"`
	InCluster            types.Bool   `tfsdk:"in_cluster"`
	RequestTimeout       types.String `tfsdk:"request_timeout"`
}

type execModel struct {
	APIVersion types.String `tfsdk:"api_version"`
	Command    types.String `tfsdk:"command"`
	Args       types.List   `tfsdk:"args"`
	Env        types.Map    `tfsdk:"env"`
}

type helmModel struct {
	CacheDir   types.String `tfsdk:"cache_dir"`
	Registries types.List   `tfsdk:"registries"`
}

type registryModel struct {
	Host      types.String `tfsdk:"host"`
	Username  types.String `tfsdk:"username"`
	Password  types.String `tfsdk:"password"`
	PlainHTTP types.Bool   `tfsdk:"plain_http"`
}

func (p *meshProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Turns an AKS cluster, or any conformant Kubernetes cluster, into a meshed one and keeps it that way.",
		Attributes: map[string]schema.Attribute{
			"aks": aksBlock(),
			"kubernetes": schema.SingleNestedAttribute{
				Optional: true,
				MarkdownDescription: "How to reach a cluster that is not named in `aks`: by kubeconfig (`config_path`, `config_paths` or `config_content`), " +
					"directly (`host` and credentials), or from inside a pod (`in_cluster`). Exactly one of the three ways. " +
					"Values may be unknown while planning, as they are when the cluster is created in the same apply: " +
					"the plan then dials nothing. Settings left out here are taken from the `KUBE_*` environment variables " +
					"named below; there is no fallback to `localhost`, `~/.kube/config` or the service account of a pod.",
				Attributes: map[string]schema.Attribute{
					"config_path":              optionalString("Path of a kubeconfig file; `~` is expanded. Environment: `KUBE_CONFIG_PATH`."),
					"config_paths":             schema.ListAttribute{ElementType: types.StringType, Optional: true, MarkdownDescription: "Paths of kubeconfig files to merge, as kubectl does with `KUBECONFIG`. Environment: `KUBE_CONFIG_PATHS`, separated as the operating system separates paths.", Validators: []validator.List{listvalidator.SizeAtLeast(1)}},
					"config_content":           sensitiveString("Content of a kubeconfig file, YAML or JSON, for instance `azurerm_kubernetes_cluster.this.kube_config_raw`."),
					"config_context":           optionalString("Context of the kubeconfig to use. Default: its current context. Environment: `KUBE_CTX`."),
					"config_context_auth_info": optionalString("User of the kubeconfig to use instead of the context's. Environment: `KUBE_CTX_AUTH_INFO`."),
					"config_context_cluster":   optionalString("Cluster of the kubeconfig to use instead of the context's. Environment: `KUBE_CTX_CLUSTER`."),
					"host":                     optionalString("Address of the API server, such as `https://prod-dns-1a2b3c4d.hcp.westeurope.azmk8s.io:443`. Environment: `KUBE_HOST`."),
					"cluster_ca_certificate":   optionalString("PEM bundle that verifies the API server. Environment: `KUBE_CLUSTER_CA_CERT_DATA`."),
					"client_certificate":       optionalString("PEM client certificate. Environment: `KUBE_CLIENT_CERT_DATA`."),
					"client_key":               sensitiveString("PEM key of `client_certificate`. Environment: `KUBE_CLIENT_KEY_DATA`."),
					"token":                    sensitiveString("Bearer token. Environment: `KUBE_TOKEN`."),
					"username":                 optionalString("User name for basic authentication. Environment: `KUBE_USER`."),
					"password":                 sensitiveString("Password for basic authentication. Environment: `KUBE_PASSWORD`."),
					"insecure":                 schema.BoolAttribute{Optional: true, MarkdownDescription: "Whether to accept any certificate of the API server. Default `false`. Environment: `KUBE_INSECURE`."},
					"tls_server_name":          optionalString("Name to verify the API server's certificate against, when it differs from the host. Environment: `KUBE_TLS_SERVER_NAME`."),
					"proxy_url":                sensitiveString("HTTP or SOCKS5 proxy for all requests to the API server, with its password if it wants one. Environment: `KUBE_PROXY_URL`."),
					"exec": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Credential plugin to run for a token, such as `kubelogin`.",
						Attributes: map[string]schema.Attribute{
							"api_version": schema.StringAttribute{Required: true, MarkdownDescription: "`client.authentication.k8s.io/v1` or `client.authentication.k8s.io/v1beta1`.", Validators: []validator.String{stringvalidator.OneOf("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")}},
							"command":     schema.StringAttribute{Required: true, MarkdownDescription: "Command to run."},
							"args":        schema.ListAttribute{ElementType: types.StringType, Optional: true, MarkdownDescription: "Its arguments."},
							"env":         schema.MapAttribute{ElementType: types.StringType, Optional: true, Sensitive: true, MarkdownDescription: "Environment variables to add."},
						},
					},
					"in_cluster":      schema.BoolAttribute{Optional: true, MarkdownDescription: "Whether to use the service account of the pod that Terraform runs in. Never assumed. Default `false`."},
					"request_timeout": schema.StringAttribute{Optional: true, MarkdownDescription: "How long one request to the API server may take, as a Go duration. Default `30s`.", Validators: []validator.String{goDuration(time.Second, time.Hour)}},
				},
			},
			"helm": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Where charts are kept and how private registries are reached.",
				Attributes: map[string]schema.Attribute{
					"cache_dir": optionalString("Directory for fetched charts. Default: `aksmesh/charts` in the user's cache directory."),
					"registries": schema.ListNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Credentials of chart repositories and OCI registries, by host.",
						NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
							"host":       schema.StringAttribute{Required: true, MarkdownDescription: "Host, with the port if it is not the default one: `example.azurecr.io`."},
							"username":   optionalString("User name."),
							"password":   sensitiveString("Password or token."),
							"plain_http": schema.BoolAttribute{Optional: true, MarkdownDescription: "Whether to use HTTP without TLS. Default `false`, except for loopback addresses."},
						}},
					},
				},
			},
		},
	}
}

func optionalString(description string) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: []validator.String{stringvalidator.LengthAtLeast(1)}}
}

func sensitiveString(description string) schema.StringAttribute {
	a := optionalString(description)
	a.Sensitive = true
	return a
}

// Configure never dials: it only turns configuration into values that connect
// on first use. While any of it is unknown, as it is when the cluster is
// created in the same apply, resources plan without a cluster.
func (p *meshProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	block, account := p.login(ctx, req.Config, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	s := &session{now: p.now, manifests: release.NewDownloader(), azure: account}
	var settings kube.Settings
	if block.named() && block.known() {
		// Azure tells of the cluster also while the rest is not known.
		settings = s.enter(ctx, block, &resp.Diagnostics)
		if resp.Diagnostics.HasError() {
			return
		}
	}
	if !req.Config.Raw.IsFullyKnown() {
		if req.ClientCapabilities.DeferralAllowed {
			resp.Deferred = &provider.Deferred{Reason: provider.DeferredReasonProviderConfigUnknown}
		}
		tflog.Info(ctx, "provider configuration is not known yet; planning without a cluster")
		s.aks.awaited = s.aks.Access == nil && block.named()
		s.registries.know(ctx, req.Config, &resp.Diagnostics)
		offer(resp, s)
		return
	}

	var model providerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	libraryOptions := model.Helm.options(ctx, &resp.Diagnostics)
	if !block.named() {
		settings = model.Kubernetes.complete(ctx, p.getenv, block != nil, &resp.Diagnostics)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	cluster, err := kube.Connect(settings, "terraform-provider-aksmesh/"+p.version)
	if err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("kubernetes"), "Invalid Kubernetes Configuration", sentence(err))
		return
	}
	libraryOptions.Keychain = s.keychain
	s.cluster, s.library = cluster, helm.NewLibrary(libraryOptions)
	offer(resp, s)
}

// offer hands the session to all that the provider serves.
func offer(resp *provider.ConfigureResponse, s *session) {
	resp.ResourceData, resp.DataSourceData, resp.EphemeralResourceData = s, s, s
}

// complete turns the block and the environment into connection settings. That
// they lead to no cluster is no error before one is needed if it may be left out.
func (m *kubernetesModel) complete(ctx context.Context, getenv func(string) string, optional bool, diags *diag.Diagnostics) kube.Settings {
	settings, err := m.settings(ctx, diags).WithEnvironment(getenv)
	if err != nil {
		diags.AddAttributeError(path.Root("kubernetes"), "Invalid Kubernetes Environment", sentence(err))
		return settings
	}
	if none, ok := errors.AsType[*kube.SettingsError](settings.Validate()); ok && m == nil && len(none.Names) == 0 {
		err := fmt.Errorf("%w; an AKS cluster is named in the provider's aks block, by id or by resource_group_name and name", none)
		if optional {
			return kube.Settings{Access: nowhere{err}}
		}
		diags.AddAttributeError(path.Root("kubernetes"), "Invalid Kubernetes Configuration", sentence(err))
	}
	return settings
}

// settings turns the block into connection settings; a missing block leaves
// them to the environment.
func (m *kubernetesModel) settings(ctx context.Context, diags *diag.Diagnostics) kube.Settings {
	if m == nil {
		return kube.Settings{}
	}
	s := kube.Settings{
		Config:            m.ConfigContent.ValueString(),
		Context:           m.ConfigContext.ValueString(),
		User:              m.ConfigContextUser.ValueString(),
		Cluster:           m.ConfigContextCluster.ValueString(),
		Host:              m.Host.ValueString(),
		CACertificate:     m.ClusterCACertificate.ValueString(),
		ClientCertificate: m.ClientCertificate.ValueString(),
		ClientKey:         m.ClientKey.ValueString(),
		Token:             m.Token.ValueString(),
		Username:          m.Username.ValueString(),
		Password:          m.Password.ValueString(),
		Insecure:          m.Insecure.ValueBoolPointer(),
		TLSServerName:     m.TLSServerName.ValueString(),
		ProxyURL:          m.ProxyURL.ValueString(),
		InCluster:         m.InCluster.ValueBool(),
		RequestTimeout:    duration(m.RequestTimeout, 0),
		ConfigPaths:       stringList(ctx, m.ConfigPaths, diags),
	}
	if p := m.ConfigPath.ValueString(); p != "" {
		if len(s.ConfigPaths) > 0 {
			diags.AddAttributeError(path.Root("kubernetes").AtName("config_paths"), "Conflicting Kubernetes Configuration",
				"Both config_path and config_paths are set. Keep one: config_path for one file, config_paths to merge several.")
		}
		s.ConfigPaths = []string{p}
	}
	if m.Exec != nil {
		s.Exec = &kube.Exec{
			APIVersion: m.Exec.APIVersion.ValueString(),
			Command:    m.Exec.Command.ValueString(),
			Args:       stringList(ctx, m.Exec.Args, diags),
			Env:        stringMap(ctx, m.Exec.Env, diags),
		}
	}
	return s
}

func (m *helmModel) options(ctx context.Context, diags *diag.Diagnostics) helm.LibraryOptions {
	if m == nil {
		return helm.LibraryOptions{}
	}
	var registries []registryModel
	if !m.Registries.IsNull() {
		diags.Append(m.Registries.ElementsAs(ctx, &registries, false)...)
	}
	options := helm.LibraryOptions{CacheDir: m.CacheDir.ValueString()}
	for _, r := range registries {
		options.Registries = append(options.Registries, helm.Credential{
			Host: r.Host.ValueString(), Username: r.Username.ValueString(), Password: r.Password.ValueString(), PlainHTTP: r.PlainHTTP.ValueBool(),
		})
	}
	return options
}

// session is what one configured provider gives its resources: the clock, the
// cluster, who logs in to Azure, the charts and the manifests. It exists before the cluster does.
type session struct {
	// renderings are what charts were rendered to for the cluster.
	renderings install.Renderings
	registries registries
	now        func() time.Time
	manifests  *release.Downloader
	// azure is who logs in to Azure, the same at each call.
	azure func() (*azure.Account, error)
	// aks is the AKS cluster that the configuration names, if it is one.
	aks managedCluster
	// leaving are the owners of objects that the plan replaces by others, as a
	// release.ForeignError names them.
	leaving sync.Map
	// held are the IDs of releases that the state is known to have, or had before
	// its own successor.
	held sync.Map
	// anchors are what the plan makes of trust anchors, each a plannedAnchor, by ID.
	anchors sync.Map
	// credentials are those that were handed out, each an *openCredentials, by handle.
	credentials sync.Map
	// turns are taken by operations that must not run at the same time: by what
	// they change, a channel with room for one.
	turns sync.Map
	// Both are nil while the provider's configuration is not known.
	cluster *kube.Cluster
	library *helm.Library
}

// sessionOf is what the framework hands to resources and data sources; nil
// before the provider is configured.
func sessionOf(providerData any, diags *diag.Diagnostics) *session {
	if providerData == nil {
		return nil
	}
	s, ok := providerData.(*session)
	if !ok {
		diags.AddError("Unexpected Provider Data", fmt.Sprintf("The provider handed over a %T. This is a bug in the provider.", providerData))
	}
	return s
}

// knownCluster returns the cluster if there is one to ask. There is none while
// the provider's configuration depends on a resource that is about to change: a
// plan has to succeed all the same, and a refresh leaves the state as it is.
func (s *session) knownCluster() (*kube.Cluster, bool) {
	if s == nil || s.cluster == nil {
		return nil, false
	}
	return s.cluster, true
}

// requireCluster returns the cluster for an operation that cannot do without one.
func (s *session) requireCluster(diags *diag.Diagnostics) (*kube.Cluster, bool) {
	c, ok := s.knownCluster()
	if !ok {
		diags.AddError("No Cluster To Talk To", "The provider's configuration is not known yet, so there is no cluster to talk to. "+
			"Set the provider's aks or kubernetes block from values that are known by then; a data source is read only during the apply if it depends on the cluster (depends_on).")
	}
	return c, ok
}

// turn waits until no other operation of this run that changes the same is at
// work. The caller calls end once its own is done. The error is the context's.
func (s *session) turn(ctx context.Context, on string) (end func(), err error) {
	found, _ := s.turns.LoadOrStore(on, make(chan struct{}, 1))
	room, ok := found.(chan struct{})
	if !ok {
		return nil, fmt.Errorf("the turns of %s are a %T; this is a bug in the provider", on, found)
	}
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// time is the present instant by the provider's clock.
func (s *session) time() time.Time {
	if s == nil || s.now == nil {
		return time.Now()
	}
	return s.now()
}

func stringList(ctx context.Context, list types.List, diags *diag.Diagnostics) []string {
	return elements[string](ctx, list, diags)
}

// elements decodes a known list or set; null and unknown give nil.
func elements[T any](ctx context.Context, value interface {
	attr.Value
	ElementsAs(ctx context.Context, target any, allowUnhandled bool) diag.Diagnostics
}, diags *diag.Diagnostics,
) []T {
	if value.IsNull() || value.IsUnknown() {
		return nil
	}
	var out []T
	diags.Append(value.ElementsAs(ctx, &out, false)...)
	return out
}

func stringMap(ctx context.Context, m types.Map, diags *diag.Diagnostics) map[string]string {
	if m.IsNull() || m.IsUnknown() {
		return nil
	}
	var out map[string]string
	diags.Append(m.ElementsAs(ctx, &out, false)...)
	return out
}

// duration reads a validated Go duration; null gives the fallback.
func duration(value types.String, fallback time.Duration) time.Duration {
	if d, err := time.ParseDuration(value.ValueString()); err == nil {
		return d
	}
	return fallback
}

// sentence makes a diagnostic's detail of an error's lower-case text. What begins
// with a name, as an underscore or a slash tells, stays as it is.
func sentence(err error) string {
	text := err.Error()
	if text == "" {
		return text
	}
	if first, _, _ := strings.Cut(text, " "); !strings.ContainsAny(first, "_/") {
		text = string(upper(rune(text[0]))) + text[1:]
	}
	// Those who are quoted, such as Azure, may have ended theirs already.
	return strings.TrimSuffix(text, ".") + "."
}

func upper(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

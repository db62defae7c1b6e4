package provider

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var _ meshResource = (*issuerRequestResource)(nil)

var _ resource.ResourceWithValidateConfig = (*issuerRequestResource)(nil)

type issuerRequestResource struct{ resourceBase }

func newIssuerRequestResource() resource.Resource {
	return &issuerRequestResource{resourceBase{noun: "issuer_request", identity: "`<mesh>/<namespace>` of the control plane."}}
}

func (r *issuerRequestResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	const anew = "Changing it makes a new key and a new request."
	resp.Schema = schema.Schema{
		MarkdownDescription: "A certificate signing request for the issuer of a control plane, for an authority of your own that signs it: " +
			"`tls_locally_signed_cert`, Vault, cert-manager, or a person with openssl. What is signed goes into `certificate` of an `aksmesh_issuer`, in the same apply if the authority answers in it.\n\n" +
			"The private key is made in the provider's memory and kept in the Secret `aksmesh-issuer-request` of the control plane's namespace; " +
			"it is never in Terraform's state, plan or logs, and never leaves the cluster. The request asks for a certificate authority of path length 0.\n\n" +
			"Signed by the `hashicorp/tls` provider, which renews what it has signed:\n\n" +
			"```terraform\n" +
			"resource \"tls_locally_signed_cert\" \"linkerd\" {\n" +
			"  cert_request_pem      = aksmesh_issuer_request.linkerd.certificate_request_pem\n" +
			"  ca_cert_pem           = var.root_pem\n" +
			"  ca_private_key_pem    = var.root_key_pem\n" +
			"  is_ca_certificate     = true\n" +
			"  set_subject_key_id    = true\n" +
			"  validity_period_hours = 8760\n" +
			"  early_renewal_hours   = 1440\n" +
			"  allowed_uses          = [\"cert_signing\", \"crl_signing\"]\n" +
			"}\n" +
			"```",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<mesh>/<namespace>`."),
			"mesh": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "The mesh that the issuer is for: `linkerd` or `istio`. Changing it makes a new request.",
				Validators:          []validator.String{stringvalidator.OneOf(trust.Meshes()...)},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"namespace": controlPlaneNamespaceAttribute("Changing it makes a new request."),
			"algorithm": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(string(pki.AlgorithmECDSAP256)),
				MarkdownDescription: "Algorithm of the key: `ECDSA-P256` (default, and all that Linkerd takes), `ECDSA-P384`, `RSA-2048` or `RSA-4096`. " + anew,
				Validators:          []validator.String{keyAlgorithm()},
			},
			"common_name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(pki.DefaultIssuerCommonName),
				MarkdownDescription: "Common name that is asked for; no mesh checks it. Default `" + pki.DefaultIssuerCommonName + "`. " + anew,
				Validators:          []validator.String{stringvalidator.LengthBetween(1, 64)},
			},
			"subject": subjectAttribute(anew),
			"renewal_trigger": optionalText("Any text, such as a date. " + anew +
				" The issuer in service keeps its own key until a certificate for the new one is given to it."),
			"secret_name":             computedString("Name of the Secret that keeps the key."),
			"certificate_request_pem": computedString("The request (PKCS#10) in PEM, without a trailing newline."),
			"drift":                   driftAttribute("a Secret whose key or request is gone, damaged, or not of each other"),
			"timeouts":                timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// controlPlaneNamespaceAttribute is where the control plane lives; left out, its
// default depends on the mesh.
func controlPlaneNamespaceAttribute(change string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true,
		MarkdownDescription: "Namespace of the mesh's control plane; created if absent, with the labels that the mesh wants. Default `linkerd` or `istio-system`. " + change,
		Validators:          []validator.String{dnsLabel()},
		PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
	}
}

// defaultNamespace is the planned namespace of a control plane: what is
// configured, or else the default of the mesh, as soon as that is known.
func defaultNamespace(planned, configured, mesh types.String) types.String {
	if configured.IsNull() && planned.IsUnknown() && !mesh.IsUnknown() {
		return types.StringValue(trust.ControlPlaneNamespace(mesh.ValueString()))
	}
	return planned
}

type issuerRequestModel struct {
	commonModel
	Mesh           types.String `tfsdk:"mesh"`
	Namespace      types.String `tfsdk:"namespace"`
	Algorithm      types.String `tfsdk:"algorithm"`
	CommonName     types.String `tfsdk:"common_name"`
	Subject        types.Object `tfsdk:"subject"`
	RenewalTrigger types.String `tfsdk:"renewal_trigger"`
	SecretName     types.String `tfsdk:"secret_name"`
	RequestPEM     types.String `tfsdk:"certificate_request_pem"`
	Drift          types.List   `tfsdk:"drift"`
}

func (m *issuerRequestModel) ref() trust.IssuerRef {
	return trust.IssuerRef{Mesh: m.Mesh.ValueString(), Namespace: m.Namespace.ValueString()}
}

func (m *issuerRequestModel) options(ctx context.Context, diags *diag.Diagnostics) pki.AuthorityOptions {
	return pki.AuthorityOptions{
		Subject:   subjectOf(ctx, m.CommonName, m.Subject, diags),
		Algorithm: pki.Algorithm(m.Algorithm.ValueString()),
	}
}

// observe fills in what the cluster has.
func (m *issuerRequestModel) observe(ctx context.Context, found trust.Request, diags *diag.Diagnostics) {
	m.ID = types.StringValue(m.ref().String())
	m.SecretName = types.StringValue(m.ref().Request().Name)
	m.RequestPEM = types.StringValue(string(found.PEM))
	m.Algorithm = types.StringValue(string(found.Algorithm))
	m.CommonName = types.StringValue(found.Subject.CommonName)
	m.Subject = subjectKept(ctx, m.Subject, found.Subject, diags)
	m.Drift = noDrift()
}

func (r *issuerRequestResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config issuerRequestModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	checkSubject(ctx, config.CommonName, config.Subject, &resp.Diagnostics)
	checkIssuerAlgorithm(config.Mesh, config.Algorithm, &resp.Diagnostics)
}

// ModifyPlan keeps the request as long as nothing asks for another.
func (r *issuerRequestResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan issuerRequestModel
	var configured types.String
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("namespace"), &configured)...)
	if resp.Diagnostics.HasError() {
		return
	}
	plan.Namespace = defaultNamespace(plan.Namespace, configured, plan.Mesh)
	plan.Drift = noDrift()
	if !req.State.Raw.IsNull() {
		var state issuerRequestModel
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		if resp.Diagnostics.HasError() {
			return
		}
		plan.ID, plan.SecretName, plan.RequestPEM = state.ID, state.SecretName, state.RequestPEM
		if plan.asksForAnother(state) {
			plan.RequestPEM = types.StringUnknown()
		}
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// asksForAnother reports whether a plan wants another request than the one there.
func (m *issuerRequestModel) asksForAnother(state issuerRequestModel) bool {
	return !m.Drift.Equal(state.Drift) || !m.Algorithm.Equal(state.Algorithm) || !m.CommonName.Equal(state.CommonName) ||
		!m.Subject.Equal(state.Subject) || !m.RenewalTrigger.Equal(state.RenewalTrigger)
}

func (r *issuerRequestResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model issuerRequestModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	request, adopted, err := trust.CreateRequest(ctx, cluster, model.ref(), model.options(ctx, &resp.Diagnostics))
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Create Issuer Request", err)
		return
	}
	if adopted {
		warnAdopted(&resp.Diagnostics, "issuer request "+model.ref().String())
	}
	model.observe(ctx, request, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *issuerRequestResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model issuerRequestModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	ref, err := trust.ParseIssuerRef(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Issuer Request ID", err)
		return
	}
	found, err := trust.ReadRequest(ctx, cluster, ref)
	imported := model.RequestPEM.IsNull()
	damaged := errors.Is(err, pki.ErrMalformed) || errors.Is(err, pki.ErrKeyMismatch) || errors.Is(err, pki.ErrEncrypted) || errors.Is(err, pki.ErrUnsupportedKey)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		forget(ctx, resp, model.ID)
		return
	case damaged && !imported:
		model.Drift = notesList(ctx, []string{err.Error()}, nil, &resp.Diagnostics)
	case err != nil:
		problem(&resp.Diagnostics, "Unable to Read Issuer Request", err)
		return
	default:
		model.Mesh, model.Namespace = types.StringValue(ref.Mesh), types.StringValue(ref.Namespace)
		model.observe(ctx, found, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *issuerRequestResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model issuerRequestModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if model.RequestPEM.IsUnknown() {
		request, err := trust.RenewRequest(ctx, cluster, model.ref(), model.options(ctx, &resp.Diagnostics))
		if err != nil {
			problem(&resp.Diagnostics, "Unable to Renew Issuer Request", err)
			return
		}
		model.observe(ctx, request, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *issuerRequestResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model issuerRequestModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := trust.DeleteRequest(ctx, cluster, model.ref()); err != nil {
		problem(&resp.Diagnostics, "Unable to Delete Issuer Request", err)
	}
}

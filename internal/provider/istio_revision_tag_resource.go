package provider

import (
	"context"
	"errors"
	"fmt"

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

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
)

var _ meshResource = (*istioRevisionTagResource)(nil)

type istioRevisionTagResource struct{ resourceBase }

func newIstioRevisionTagResource() resource.Resource {
	return &istioRevisionTagResource{resourceBase{noun: "istio_revision_tag", identity: "`<namespace>/<tag>`."}}
}

func (r *istioRevisionTagResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A revision tag of Istio: a name that namespaces and pods ask for (`istio.io/rev=<tag>`) instead of that of a revision. " +
			"For a canary upgrade, install the new version beside the old one with another `revision`, move the tag by changing `revision` here, " +
			"and have `aksmesh_injection` restart what asks for the tag; then take the old control plane away. Terraform destroys before it updates: " +
			"for the control plane to go by the same apply, it needs `lifecycle { create_before_destroy = true }`; otherwise let it go by the next one.\n\n" +
			"What `istioctl tag set` does: the tag's webhooks and its Service are made as the chart of the revision has them. A move changes all webhooks by one request, " +
			"once the revision that they are moved to is seen to inject, so that at no moment pods are refused or left without a proxy. " +
			"The tag belongs to no Helm release; `revisionTags` in the values of `aksmesh_istio` must not name it.\n\n" +
			"A tag that namespaces or pods still ask for is not destroyed: that is an error which names them.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<tag>`."),
			"tag": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "Name of the tag. That of the name `default` also serves what asks for no revision, by `istio-injection=enabled` or `sidecar.istio.io/inject=true`; " +
					"it needs all control planes to have a `revision`, as one without serves that itself. Changing it makes another tag.",
				Validators: []validator.String{
					checked{description: "a name of at most 43 lower-case letters, digits and dashes", check: istio.CheckTag},
				},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"revision": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "Revision that the tag leads to, which has to be installed when the tag is made or moved: `aksmesh_istio.canary.revision`; " +
					"`default` for the control plane without one. Changing it moves the tag in place.",
				Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
			},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(istio.DefaultNamespace),
				MarkdownDescription: "Namespace of the control planes. Default `" + istio.DefaultNamespace + "`. Changing it makes another tag.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"changes":  changesAttribute(),
			"drift":    driftAttribute("webhooks that are missing or changed, a tag that somebody else has moved, a revision that is not installed any more"),
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type istioRevisionTagModel struct {
	commonModel
	Tag       types.String `tfsdk:"tag"`
	Revision  types.String `tfsdk:"revision"`
	Namespace types.String `tfsdk:"namespace"`
	Changes   types.List   `tfsdk:"changes"`
	Drift     types.List   `tfsdk:"drift"`
}

func (m *istioRevisionTagModel) tag() istio.Tag {
	return istio.Tag{Namespace: m.Namespace.ValueString(), Name: m.Tag.ValueString()}
}

// ModifyPlan promises a tag without drift that leads to the revision, and tells
// what becomes of its objects.
func (r *istioRevisionTagResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("drift"), noDrift())...)
	settle(ctx, req, resp, path.Root("changes"))
	var plan, state istioRevisionTagModel
	resp.Diagnostics.Append(resp.Plan.Get(ctx, &plan)...)
	if !req.State.Raw.IsNull() {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if resp.Diagnostics.HasError() || !fullyKnown(ctx, plan.Tag, plan.Revision, plan.Namespace) {
		return
	}
	exists := !req.State.Raw.IsNull() && plan.tag() == state.tag()
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("id"), plan.tag().String())...)
	r.foresee(ctx, resp, "Revision Tag "+plan.tag().String(), func(ctx context.Context, charts install.Charts) (foresight, error) {
		installer := istio.Installer{Charts: charts}
		if _, err := installer.CheckTagFree(ctx, plan.tag(), exists); err != nil {
			r.problem(&resp.Diagnostics, "Unable to Plan the Revision Tag", err)
			return foresight{}, nil
		}
		from := ""
		if exists {
			from = state.Revision.ValueString()
		}
		return foresight{changes: plan.tag().Changes(from, plan.Revision.ValueString())}, nil
	})
}

// problem attaches errors that an attribute has caused to it.
func (r *istioRevisionTagResource) problem(diags *diag.Diagnostics, summary string, err error) {
	var revision *istio.RevisionError
	var foreign *istio.ForeignTagError
	switch {
	case errors.As(err, &foreign):
		problemAt(diags, path.Root("tag"), summary, fmt.Errorf("%w; to bring it under management, run `terraform import <address> %s`", err, foreign.Tag))
	case errors.As(err, &revision) && errors.Is(err, helm.ErrReleaseNotFound):
		problemAt(diags, path.Root("revision"), summary, fmt.Errorf("%w; install it first, and take `revision` from its aksmesh_istio", err))
	case errors.As(err, &revision):
		problemAt(diags, path.Root("revision"), summary, err)
	default:
		problem(diags, summary, err)
	}
}

const tagFailed = "Unable to Set the Revision Tag"

func (r *istioRevisionTagResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model istioRevisionTagModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if r.set(ctx, cluster, &model, nil, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *istioRevisionTagResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state istioRevisionTagModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if r.set(ctx, cluster, &model, &state, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// set makes or moves the tag. It is false, with diagnostics, if that has failed.
func (r *istioRevisionTagResource) set(ctx context.Context, cluster *kube.Cluster, model, state *istioRevisionTagModel, diags *diag.Diagnostics) bool {
	charts, ok := r.charts(ctx, cluster, diags)
	if !ok {
		return false
	}
	installer, tag, from := istio.Installer{Charts: charts}, model.tag(), ""
	if state != nil {
		from = state.Revision.ValueString()
	}
	resumed, err := installer.CheckTagFree(ctx, tag, state != nil)
	if err == nil && model.Changes.IsUnknown() {
		model.Changes = changesList(ctx, tag.Changes(from, model.Revision.ValueString()), diags)
	}
	if err == nil {
		err = installer.SetTag(ctx, tag, model.Revision.ValueString())
	}
	if err != nil {
		r.problem(diags, tagFailed, err)
		return false
	}
	if resumed && state == nil {
		warnAdopted(diags, "revision tag "+tag.String())
	}
	model.ID, model.Drift = types.StringValue(tag.String()), noDrift()
	return true
}

func (r *istioRevisionTagResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model istioRevisionTagModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	tag, err := istio.ParseTag(model.ID.ValueString())
	if err != nil {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Revision Tag ID", err)
		return
	}
	charts, ok := r.charts(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	found, err := istio.Installer{Charts: charts}.ObserveTag(ctx, tag, model.Revision.ValueString())
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read the Revision Tag", err)
		return
	}
	if model.Revision.IsNull() {
		model.Tag, model.Namespace, model.Revision = types.StringValue(tag.Name), types.StringValue(tag.Namespace), types.StringValue(found.Revision)
		model.Changes = notesList(ctx, nil, nil, &resp.Diagnostics)
	}
	model.Drift = notesList(ctx, found.Drift, nil, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *istioRevisionTagResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model istioRevisionTagModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	charts, ok := r.charts(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	if err := (istio.Installer{Charts: charts}).RemoveTag(ctx, model.tag()); err != nil {
		problem(&resp.Diagnostics, "Unable to Remove the Revision Tag", err)
	}
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/resourcevalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/images"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

var _ meshResource = (*imageMirrorResource)(nil)

var (
	_ resource.ResourceWithValidateConfig   = (*imageMirrorResource)(nil)
	_ resource.ResourceWithConfigValidators = (*imageMirrorResource)(nil)
)

// mirrorTimeout is long enough for the images of a mesh over a slow line.
const mirrorTimeout = 30 * time.Minute

type imageMirrorResource struct{ resourceBase }

func newImageMirrorResource() resource.Resource {
	return &imageMirrorResource{resourceBase{
		noun: "image_mirror", identity: "Registry and path of the mirror: `example.azurecr.io/linkerd`.", changeTimeout: mirrorTimeout,
	}}
}

// How images come to the mirror.
const (
	methodAuto   = "auto"
	methodImport = "import"
	methodCopy   = "copy"
)

const defaultParallelism = 4

func (r *imageMirrorResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	no := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), MarkdownDescription: description + " Default `false`."}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Images of a mesh in a registry of your own: copied there with all their platforms and their digests, and kept there. An Azure container registry fetches them by itself, as with `az acr import`; " +
			"any other OCI registry gets them through the machine that Terraform runs on. What is there already is not sent again, and an interrupted apply goes on where it ended.\n\n" +
			"`data.aksmesh_images` has the images that a mesh needs, and `registry` is what `aksmesh_linkerd.registry`, `aksmesh_linkerd_extension.registry` and `aksmesh_istio.hub` take: " +
			"of each name, its last part remains, as they want it. Each refresh looks whether the tags are still there and lead to the same digests; what others have moved or deleted is `drift`, and the next apply repairs it.\n\n" +
			"Signatures that refer to an image from outside (cosign's tags, referrers) do not come along. " + registryLogin + ".",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Registry and path of the mirror, as in `registry`."),
			"images": schema.SetAttribute{
				Required: true, ElementType: types.StringType,
				MarkdownDescription: "The images, with their tags, digests or both: `cr.l5d.io/linkerd/proxy:edge-26.8.3@sha256:…`; best as `data.aksmesh_images.<name>.references`. " +
					"One without a digest is looked up when it first comes to the mirror, and stays what it was then, also if its tag is moved upstream.",
				Validators: []validator.Set{setvalidator.SizeAtLeast(1), setvalidator.ValueStringsAre(imageReference())},
			},
			"acr_id": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Resource ID of the Azure container registry that is the mirror: `azurerm_container_registry.this.id`. Another registry makes a new mirror. " +
					"The role Container Registry Data Importer and Data Reader on it is enough, unless images have to be copied (AcrPush) or deleted (AcrDelete); where the registry grants by repository, those are Container Registry Repository Writer and Contributor.",
				Validators: []validator.String{registryID()},
			},
			"host": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Host of the registry that is the mirror, with the port if it has one: `registry.example.com:5000`. Images are copied there. Either this or `acr_id`.",
				Validators:          []validator.String{registryHost()},
			},
			"prefix": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Path in the registry below which the images are: `linkerd`. Default: none. Changing it makes a new mirror.",
				Validators:          []validator.String{registryPrefix()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"method": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(methodAuto),
				MarkdownDescription: "How images come to the mirror. `import`: Azure fetches them, which needs `acr_id`. `copy`: they go through this machine. " +
					"`auto` (default): they are imported into a registry that `acr_id` names, and copied where Azure refuses or cannot reach them. " +
					"For an import, Azure is given the credentials that `registries` in the provider's `helm` block has for where an image comes from, and for another registry of Azure's a token of that registry, which does what the provider's Azure login may do there; " +
					"else none. The logins of Docker on this machine are for what is copied alone.",
				Validators: []validator.String{stringvalidator.OneOf(methodAuto, methodImport, methodCopy)},
			},
			"parallelism": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(defaultParallelism),
				MarkdownDescription: fmt.Sprintf("How many images are on their way at the same time. Default `%d`.", defaultParallelism),
				Validators:          []validator.Int64{int64validator.Between(1, 32)},
			},
			"overwrite": no("Whether a tag that is in the registry already, and leads to another image, is moved. Otherwise that is an error which names it, also after an apply that failed before the mirror was made, if the tag of an image without a digest has moved upstream since. Tags of this mirror that others have moved are repaired in any case."),
			"delete_images": no("Whether images that leave `images`, and all of them on destroy, are deleted from the registry, with every tag that they have in their repository: also those that it found there when it was made, and those that another mirror with the same place has. Otherwise they stay: pods may still need them. " +
				"They are deleted when all that are wanted have come, which is before a mesh that takes its version from there is upgraded: to keep what runs until then, change `version` of the mesh in an apply before, or leave it to a policy of the registry. " +
				"A registry keeps the manifests of single platforms and their layers until it collects what nothing refers to; one of Azure's does by a retention policy for untagged manifests (Premium) or `acr purge`."),
			"registry": computedString("What `aksmesh_linkerd.registry`, `aksmesh_linkerd_extension.registry` and `aksmesh_istio.hub` take: `example.azurecr.io/linkerd`."),
			"mirrored": schema.MapAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Where each of `images` is, with its digest: `example.azurecr.io/linkerd/proxy:edge-26.8.3@sha256:…`; for values that `registry` does not reach.",
			},
			"changes": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "What the last change has changed in the registry, in a plan what it is going to change, one line an image: `+ linkerd/proxy:edge-26.8.3 from cr.l5d.io/linkerd/proxy:edge-26.8.3`, " +
					"`~` for one that is repaired, `-` for one that is deleted, `.` for one that is dropped and stays. Images that are there already are not sent again.",
			},
			"drift":    driftAttribute("images that are missing, or whose tag leads to another digest"),
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// imageReference accepts images of which it is said which they are.
func imageReference() validator.String {
	return checked{description: "an image with its tag or digest, such as cr.l5d.io/linkerd/proxy:edge-26.8.3", check: func(value string) error {
		if _, err := oci.ParseReference(value); err != nil {
			return err
		}
		if !strings.ContainsAny(value[strings.LastIndex(value, "/")+1:], ":@") {
			return errors.New("it has neither, and latest is not the same image every day")
		}
		return nil
	}}
}

func registryID() validator.String {
	return checked{description: "the resource ID of an Azure container registry", check: func(value string) error {
		_, err := acr.ParseID(value)
		return err
	}}
}

func registryHost() validator.String {
	return checked{description: "the host of a registry, such as registry.example.com:5000", check: func(value string) error {
		return images.Place{Host: value}.Validate()
	}}
}

func registryPrefix() validator.String {
	return checked{description: "a path of lower-case letters and digits, such as mesh/linkerd", check: func(value string) error {
		return images.Place{Host: "example.com", Prefix: value}.Validate()
	}}
}

type imageMirrorModel struct {
	commonModel
	Images       types.Set    `tfsdk:"images"`
	ACRID        types.String `tfsdk:"acr_id"`
	Host         types.String `tfsdk:"host"`
	Prefix       types.String `tfsdk:"prefix"`
	Method       types.String `tfsdk:"method"`
	Parallelism  types.Int64  `tfsdk:"parallelism"`
	Overwrite    types.Bool   `tfsdk:"overwrite"`
	DeleteImages types.Bool   `tfsdk:"delete_images"`
	Registry     types.String `tfsdk:"registry"`
	Mirrored     types.Map    `tfsdk:"mirrored"`
	Changes      types.List   `tfsdk:"changes"`
	Drift        types.List   `tfsdk:"drift"`
}

func (r *imageMirrorResource) ConfigValidators(context.Context) []resource.ConfigValidator {
	return []resource.ConfigValidator{resourcevalidator.ExactlyOneOf(path.MatchRoot("acr_id"), path.MatchRoot("host"))}
}

// ValidateConfig refuses images that cannot be kept apart, and an import into what
// is not a registry of Azure's.
func (r *imageMirrorResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config imageMirrorModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if config.Method.ValueString() == methodImport && config.ACRID.IsNull() {
		problemAt(&resp.Diagnostics, path.Root("method"), "No Registry to Import Into", errors.New("only a registry of Azure's imports images, which acr_id has to name"))
	}
	if !fullyKnown(ctx, config.Images) {
		return
	}
	if err := images.CheckCollisions(slices.Collect(maps.Values(config.references(ctx, &resp.Diagnostics)))); err != nil && !resp.Diagnostics.HasError() {
		problemAt(&resp.Diagnostics, path.Root("images"), "Images Collide", err)
	}
}

// references are the images by how they are written.
func (m *imageMirrorModel) references(ctx context.Context, diags *diag.Diagnostics) map[string]oci.Reference {
	references := map[string]oci.Reference{}
	for _, text := range elements[string](ctx, m.Images, diags) {
		reference, err := oci.ParseReference(text)
		if err != nil {
			problemAt(diags, path.Root("images"), "Invalid Image", err)
			continue
		}
		references[text] = reference
	}
	return references
}

// kept is where the images are by the state, by how they are written.
func (m *imageMirrorModel) kept(ctx context.Context, diags *diag.Diagnostics) map[string]oci.Reference {
	places := map[string]oci.Reference{}
	if m == nil {
		return places
	}
	for image, place := range stringMap(ctx, m.Mirrored, diags) {
		reference, err := oci.ParseReference(place)
		if err != nil {
			problem(diags, "Invalid State of the Mirror", err)
			continue
		}
		places[image] = reference
	}
	return places
}

// pathOf is what an image is called in the registry, however that is named.
func (m *imageMirrorModel) pathOf(image oci.Reference) string {
	target := images.Place{Prefix: m.Prefix.ValueString()}.Target(image)
	if target.Tag == "" {
		target.Digest = image.Digest
	}
	return images.Path(target)
}

// drifted is what a refresh has found of an image; empty if it is as it should be.
func (m *imageMirrorModel) drifted(ctx context.Context, name string, diags *diag.Diagnostics) string {
	for _, line := range stringList(ctx, m.Drift, diags) {
		if strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	return ""
}

// ModifyPlan tells which images are going to be where. Digests that only a registry
// can tell are left to the apply.
func (r *imageMirrorResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan imageMirrorModel
	var state *imageMirrorModel
	if !req.State.Raw.IsNull() {
		state = &imageMirrorModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	if req.Plan.Raw.IsNull() {
		if left := len(state.Mirrored.Elements()); left > 0 && !state.DeleteImages.ValueBool() {
			resp.Diagnostics.AddWarning("Images Stay in the Registry", fmt.Sprintf(
				"%d images stay in %s: pods may still need them. Set delete_images and apply before the destroy to have them deleted.", left, state.Registry.ValueString()))
		}
		return
	}
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.locate(ctx, &plan, state, &resp.Diagnostics)
	plan.ID, plan.Drift = plan.Registry, noDrift()
	if state != nil && !plan.Registry.Equal(state.Registry) {
		at := path.Root("acr_id")
		if plan.ACRID.IsNull() {
			at = path.Root("host")
		}
		resp.RequiresReplace = append(resp.RequiresReplace, at)
		state = nil
	}
	plan.foresee(ctx, state, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	lines := plan.Changes
	if state != nil {
		plan.Changes = state.Changes
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if state == nil || !resp.Plan.Raw.Equal(req.State.Raw) {
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("changes"), lines)...)
	}
}

// locate fills in the registry if it can be known: what a registry of Azure's is
// called, Azure tells, and it stays so.
func (r *imageMirrorResource) locate(ctx context.Context, plan, state *imageMirrorModel, diags *diag.Diagnostics) {
	plan.Registry = types.StringUnknown()
	if !fullyKnown(ctx, plan.ACRID, plan.Host, plan.Prefix) {
		return
	}
	if state != nil && plan.Prefix.Equal(state.Prefix) && (plan.ACRID.Equal(state.ACRID) && plan.Host.Equal(state.Host)) {
		plan.Registry = state.Registry
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	place, err := r.place(ctx, plan)
	if err != nil && state != nil && sameRegistry(plan.ACRID.ValueString(), state.Registry.ValueString()) {
		plan.Registry = state.Registry // As after an import, when Azure cannot be asked.
		return
	}
	switch {
	case err == nil:
		plan.Registry = types.StringValue(place.String())
	case acr.IsMissing(err), errors.Is(err, errLoginUnknown):
		diags.AddWarning("Unable to Look Up the Registry", "It may be there by the apply. "+explain(err, acr.Advice))
	default:
		// What a plan has promised, the one at the apply cannot take back.
		problemAt(diags, path.Root("acr_id"), "Unable to Look Up the Registry", err, acr.Advice)
	}
}

// sameRegistry reports whether the host of a mirror is that of a registry of
// Azure's: its name, to which Azure may add a hash.
func sameRegistry(id, mirror string) bool {
	parsed, err := acr.ParseID(id)
	label, _, _ := strings.Cut(mirror, ".")
	name, _, _ := strings.Cut(label, "-")
	return err == nil && strings.EqualFold(name, parsed.Name)
}

// place is where the mirror is.
func (r *imageMirrorResource) place(ctx context.Context, m *imageMirrorModel) (images.Place, error) {
	place := images.Place{Host: m.Host.ValueString(), Prefix: m.Prefix.ValueString()}
	if m.ACRID.IsNull() {
		return place, nil
	}
	id, err := acr.ParseID(m.ACRID.ValueString())
	if err != nil {
		return place, err
	}
	client, err := r.session.azureRegistries()
	if err != nil {
		return place, err
	}
	found, err := client.Registry(ctx, id)
	if err != nil {
		return place, err
	}
	place.Host = found.Properties.LoginServer
	return place, place.Validate()
}

// foresee fills in which images are going to be where, and what changes.
func (m *imageMirrorModel) foresee(ctx context.Context, state *imageMirrorModel, diags *diag.Diagnostics) {
	m.Mirrored, m.Changes = types.MapUnknown(types.StringType), types.ListUnknown(types.StringType)
	if !fullyKnown(ctx, m.Images, m.Prefix, m.DeleteImages) {
		return
	}
	before := state.kept(ctx, diags)
	wanted := m.references(ctx, diags)
	mirrored := map[string]attr.Value{}
	var lines []string
	for _, text := range slices.Sorted(maps.Keys(wanted)) {
		image := wanted[text]
		name := m.pathOf(image)
		kept, known := before[text]
		switch {
		case known:
			mirrored[text] = types.StringValue(kept.String())
			if found := state.drifted(ctx, name, diags); found != "" {
				lines = append(lines, "~ "+found)
			}
		case image.Digest != "" && !m.Registry.IsUnknown():
			place, err := images.ParsePlace(m.Registry.ValueString())
			if err != nil {
				problem(diags, "Invalid Registry", err)
			}
			target := place.Target(image)
			target.Digest = image.Digest
			mirrored[text] = types.StringValue(target.String())
			lines = append(lines, "+ "+name+" from "+image.String())
		default:
			mirrored[text] = types.StringUnknown()
			lines = append(lines, "+ "+name+" from "+image.String())
		}
	}
	for _, place := range m.dropped(before, wanted) {
		mark := ". "
		if m.DeleteImages.ValueBool() {
			mark = "- "
		}
		lines = append(lines, mark+images.Path(place))
	}
	m.Mirrored = types.MapValueMust(types.StringType, mirrored)
	m.Changes = notesList(ctx, lines, nil, diags)
}

// dropped are the images that are in the registry and wanted no more, sorted: by
// their tags, or by their digests alone where the tag is to lead to another image.
func (m *imageMirrorModel) dropped(before, wanted map[string]oci.Reference) []oci.Reference {
	taken := map[string]oci.Reference{}
	for text, image := range wanted {
		if kept, known := before[text]; known {
			image.Digest = kept.Digest
		}
		taken[m.pathOf(image)] = image
	}
	var gone []oci.Reference
	for _, text := range slices.Sorted(maps.Keys(before)) {
		place := before[text]
		if _, stays := wanted[text]; stays {
			continue
		}
		by, replaced := taken[m.pathOf(place)]
		switch {
		case !replaced && place.Tag != "":
			place.Digest = ""
			gone = append(gone, place)
		case !replaced, by.Digest != "" && by.Digest != place.Digest && m.DeleteImages.ValueBool():
			place.Tag = ""
			gone = append(gone, place)
		}
	}
	return gone
}

const mirrorFailed = "Unable to Mirror Images"

func (r *imageMirrorResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model imageMirrorModel
	ctx, end, ok := r.start(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if model.Registry.IsUnknown() {
		place, err := r.place(ctx, &model)
		if err != nil {
			problemRegistry(&resp.Diagnostics, mirrorFailed, err)
			return
		}
		model.Registry = types.StringValue(place.String())
	}
	model.ID = model.Registry
	r.fill(ctx, &model, nil, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		// Terraform would destroy what is in the state before it begins anew. Without it,
		// what has come stays, and the next apply goes on.
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *imageMirrorResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state imageMirrorModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, ok := r.start(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	r.fill(ctx, &model, &state, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// fill brings the images to their places, and takes down which are there then.
func (r *imageMirrorResource) fill(ctx context.Context, model, state *imageMirrorModel, diags *diag.Diagnostics) {
	before := state.kept(ctx, diags)
	wanted := model.references(ctx, diags)
	place, err := images.ParsePlace(model.Registry.ValueString())
	if err != nil {
		problem(diags, mirrorFailed, err)
	}
	if model.Changes.IsUnknown() {
		after := *model
		after.foresee(ctx, state, diags)
		model.Changes = after.Changes
	}
	work := mirroring{client: r.session.chartLibrary().Registries(), model: model, place: place, diags: diags}
	mirrored := map[string]string{}
	var drift []string
	ours := map[string]bool{} // Tags that this mirror has made may lead elsewhere from now on.
	for _, kept := range before {
		ours[model.pathOf(kept)] = true
	}
	for _, text := range slices.Sorted(maps.Keys(wanted)) {
		kept, known := before[text]
		if known {
			mirrored[text] = kept.String()
		}
		name := model.pathOf(wanted[text])
		if known && state.drifted(ctx, name, diags) == "" {
			continue
		}
		item := mirrorItem{name: name, from: wanted[text], move: ours[name] || model.Overwrite.ValueBool()}
		if known {
			item.pinned, item.from.Digest = item.from.Digest == "", kept.Digest
		}
		work.add(text, item)
	}
	if !diags.HasError() {
		r.importInto(&work)
		work.run(ctx)
	}
	for _, item := range work.items {
		if item.digest == "" {
			drift = append(drift, item.name+" could not be brought there")
			continue
		}
		at := item.to
		at.Digest = item.digest
		for _, image := range item.images {
			mirrored[image] = at.String()
		}
	}
	if model.DeleteImages.ValueBool() {
		for image, left := range r.clear(ctx, before, mirrored, diags) {
			mirrored[image] = left.String()
		}
	}
	value, d := types.MapValueFrom(ctx, types.StringType, mirrored)
	diags.Append(d...)
	model.Mirrored, model.Drift = value, notesList(ctx, drift, nil, diags)
}

// imports tells whether images can come without a way from here to the registry.
func (m *imageMirrorModel) imports() bool {
	return !m.ACRID.IsNull() && m.Method.ValueString() != methodCopy
}

// importInto has the registry fetch images by itself, if it is one that can.
func (r *imageMirrorResource) importInto(work *mirroring) {
	if !work.model.imports() {
		return
	}
	id, err := acr.ParseID(work.model.ACRID.ValueString())
	var client *acr.Client
	if err == nil {
		client, err = r.session.azureRegistries()
	}
	if err != nil {
		work.refused(err)
		return
	}
	work.importer = func(ctx context.Context, task oci.Task) error {
		from, to := task.From, task.To
		request := acr.ImportRequest{
			SourceRegistry: from.Registry, SourceImage: images.Path(from), Target: images.Path(oci.Reference{Registry: to.Registry, Repository: to.Repository, Tag: to.Tag}),
			Force: task.Move,
		}
		login, loginErr := r.session.importLogin(ctx, from.Host())
		request.Username, request.Password = login.Username, login.Password
		tflog.Info(ctx, "Azure imports an image", map[string]any{"image": to.String(), "from": from.String()})
		err := client.Import(ctx, id, request)
		if err != nil && loginErr != nil {
			return fmt.Errorf("%w; logging in to %s for it had failed before: %w", err, from.Registry, loginErr)
		}
		return err
	}
}

func (r *imageMirrorResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model imageMirrorModel
	ctx, end, ok := r.start(ctx, reading, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if model.Registry.IsNull() {
		model.imported(&resp.Diagnostics)
		if resp.Diagnostics.HasError() {
			return
		}
		err := r.session.chartLibrary().Registries().Ping(ctx, model.Host.ValueString())
		unreachable, ok := errors.AsType[*oci.UnreachableError](err)
		switch {
		case ok && acr.IsHost(unreachable.Host) && ctx.Err() == nil:
			resp.Diagnostics.AddWarning("Registry Not Looked At", explain(err, acr.Advice, oci.Advice))
		case err != nil:
			problemAt(&resp.Diagnostics, path.Root("id"), "No Registry to Import", err, acr.Advice, oci.Advice)
			return
		}
	}
	kept := model.kept(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	texts := slices.Sorted(maps.Keys(kept))
	tags := make([]oci.Reference, len(texts))
	for i, text := range texts {
		tags[i] = kept[text]
		if tags[i].Tag != "" {
			tags[i].Digest = ""
		}
	}
	var drift, unseen []string
	for i, found := range r.session.chartLibrary().Registries().Digests(ctx, tags, min(resolvesAtOnce, int(model.Parallelism.ValueInt64()))) {
		_, missing := errors.AsType[*oci.UnknownError](found.Err)
		_, unreachable := errors.AsType[*oci.UnreachableError](found.Err)
		_, unauthorized := errors.AsType[*oci.UnauthorizedError](found.Err)
		name, want := images.Path(tags[i]), kept[texts[i]].Digest
		switch {
		case missing:
			drift = append(drift, name+" is missing")
		case (unreachable || unauthorized) && model.imports() && ctx.Err() == nil:
			// Azure imports into registries that only its own networks reach, and for those
			// who may not read.
			unseen = append(unseen, explain(found.Err, acr.Advice, oci.Advice))
		case found.Err != nil:
			problemRegistry(&resp.Diagnostics, "Unable to Read the Mirror", found.Err)
			return
		case found.Descriptor.Digest != want:
			drift = append(drift, fmt.Sprintf("%s leads to %s instead of %s", name, found.Descriptor.Digest, want))
		}
	}
	if len(unseen) > 0 {
		resp.Diagnostics.AddWarning("Images Not Looked At", fmt.Sprintf("Whether the images are still in %s cannot be seen from here: %d of %d could not be looked up. %s", model.Registry.ValueString(), len(unseen), len(texts), unseen[0]))
	}
	model.Drift = notesList(ctx, drift, nil, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported fills in what the ID of an import tells. Which images are there, the
// apply that follows finds out: it sends none of them again.
func (m *imageMirrorModel) imported(diags *diag.Diagnostics) {
	place, err := images.ParsePlace(m.ID.ValueString())
	if err != nil {
		problemAt(diags, path.Root("id"), "Invalid Mirror ID", err)
		return
	}
	m.Registry, m.Host, m.Prefix = m.ID, types.StringValue(place.Host), textOrNull(place.Prefix)
	m.Images = types.SetValueMust(types.StringType, []attr.Value{})
	m.Mirrored = types.MapValueMust(types.StringType, map[string]attr.Value{})
	m.Method, m.Parallelism = types.StringValue(methodAuto), types.Int64Value(defaultParallelism)
	m.Overwrite, m.DeleteImages = types.BoolValue(false), types.BoolValue(false)
	m.Changes = noDrift()
}

func (r *imageMirrorResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model imageMirrorModel
	ctx, end, ok := r.start(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok || !model.DeleteImages.ValueBool() {
		return
	}
	r.clear(ctx, model.kept(ctx, &resp.Diagnostics), nil, &resp.Diagnostics)
}

// clear deletes the images that were in the registry, but for those that are kept
// there, by whatever tag. It returns those that are still there: that could not be
// deleted, or are not, as the ones that take their place have not all come.
func (r *imageMirrorResource) clear(ctx context.Context, before map[string]oci.Reference, kept map[string]string, diags *diag.Diagnostics) map[string]oci.Reference {
	whole := func(at oci.Reference) oci.Reference {
		at.Tag = ""
		return at
	}
	stays, tags := map[oci.Reference]bool{}, map[string]bool{}
	for _, text := range kept {
		if at, err := oci.ParseReference(text); err == nil {
			stays[whole(at)], tags[at.Name()+":"+at.Tag] = true, true
		}
	}
	left, failed := map[string]oci.Reference{}, diags.HasError()
	for _, text := range slices.Sorted(maps.Keys(before)) {
		place := before[text]
		at := whole(place)
		if stays[at] {
			continue
		}
		if tags[place.Name()+":"+place.Tag] {
			place = at // The tag is another's now.
		}
		if failed {
			left[text] = place
			continue
		}
		if err := r.session.chartLibrary().Registries().Delete(ctx, at); err != nil {
			problemRegistry(diags, "Unable to Delete Image", fmt.Errorf("image %s of the mirror: %w", images.Path(place), err))
			left[text] = place
			continue
		}
		stays[at] = true // It is gone, by all its names.
		tflog.Info(ctx, "deleted image", map[string]any{"image": place.String()})
	}
	return left
}

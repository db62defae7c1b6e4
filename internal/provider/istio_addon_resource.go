package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

var _ meshResource = (*istioAddonResource)(nil)

// istioAddonResource is a release of the manifests that Istio has of an addon.
type istioAddonResource struct{ resourceBase }

func newIstioAddonResource() resource.Resource {
	return &istioAddonResource{resourceBase{noun: "istio_addon", identity: "Name of the addon."}}
}

func (r *istioAddonResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	no := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), MarkdownDescription: description + " Default `false`."}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "One of the telemetry tools that Istio has sample manifests of (`samples/addons`): Prometheus, Grafana, Jaeger, Kiali or Loki. " +
			"The manifests are those of Istio's own version, applied server-side in order, CRDs before the objects of their kinds, so that once is enough. " +
			"The apply returns when all workloads are rolled out and volume claims bound.\n\n" +
			"Istio's manifests name the namespace `" + istio.DefaultNamespace + "`, which `aksmesh_istio` makes: refer to its `version`, so that it comes first. " +
			"They are meant for trying things out: without persistence, authentication or high availability. " +
			"Images are those in the manifests, of Docker Hub, Quay and GitHub.\n\n" +
			"There is no Helm release: what is deployed is on record in the Secret `aksmesh-release-istio-addon-<name>` of the namespace. " +
			"A destroy leaves CRDs, and volume claims with what is in them.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("Name of the addon."),
			"name": schema.StringAttribute{
				Required: true,
				MarkdownDescription: "Which addon: `prometheus`, `grafana`, `jaeger`, `kiali`, `loki`, or, of older versions of Istio only, `prometheus_vm` and `prometheus_vm_tls`. " +
					"Grafana and Kiali show what a Prometheus has that is there as well. Changing it removes one and deploys the other.",
				Validators:    []validator.String{stringvalidator.OneOf(istio.Addons()...)},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"version": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Version of Istio whose manifests are deployed: `aksmesh_istio.this.version`. A change of it changes what is in place.",
				Validators:          []validator.String{exactVersion()},
			},
			"source": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Where the manifests are: the URL, by HTTPS, or the directory of a copy of Istio's source or release, which holds `samples/addons`. " +
					"Default: the tag of `version` in Istio's repository, `https://raw.githubusercontent.com/istio/istio/<version>`. " +
					"What is at a URL is fetched when the resource is created or its settings change; files of a directory are looked at in each plan.",
				Validators: []validator.String{addonSource()},
			},
			"take_ownership":  no("Whether to take objects over that exist already, such as those of `kubectl apply -f samples/addons`. Otherwise that is an error which names them."),
			"force_conflicts": no("Whether to take fields over that another field manager has set to something else. Otherwise that is an error which names the manager."),
			"manifest_sha256": computedString("SHA-256 over the manifests."),
			"objects":         schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "The objects of the addon, as `<kind> <namespace>/<name>`, in the order in which they are applied."},
			"changes":         changesAttribute(),
			"drift":           driftAttribute("objects that are missing or changed, or an addon whose last apply failed"),
			"timeouts":        timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// addonSource accepts what manifests can be fetched from, and paths.
func addonSource() validator.String {
	return checked{
		description: "a URL such as https://example.com/istio-1.31.0, or a directory",
		check: func(value string) error {
			if value == "" {
				return errors.New("it is empty; leave it out for Istio's repository")
			}
			if !isAddress(value) {
				return nil
			}
			return release.CheckAddress(value)
		},
	}
}

// isAddress tells URLs from paths.
func isAddress(location string) bool { return strings.Contains(location, "://") }

type istioAddonModel struct {
	commonModel
	Name           types.String `tfsdk:"name"`
	Version        types.String `tfsdk:"version"`
	Source         types.String `tfsdk:"source"`
	TakeOwnership  types.Bool   `tfsdk:"take_ownership"`
	ForceConflicts types.Bool   `tfsdk:"force_conflicts"`
	ManifestSHA256 types.String `tfsdk:"manifest_sha256"`
	Objects        types.List   `tfsdk:"objects"`
	Changes        types.List   `tfsdk:"changes"`
	Drift          types.List   `tfsdk:"drift"`
}

// addonRelease is the name of the release that an addon is.
func addonRelease(name string) string { return "istio-addon-" + strings.ReplaceAll(name, "_", "-") }

// release is the addon in terms of a release. It is nil for nil.
func (m *istioAddonModel) release(ctx context.Context, diags *diag.Diagnostics) *releaseModel {
	if m == nil {
		return nil
	}
	no := types.BoolValue(false)
	rel := &releaseModel{
		commonModel: m.commonModel, podsModel: unknownPods(),
		Name: types.StringUnknown(), Namespace: types.StringValue(istio.DefaultNamespace),
		CreateNamespace: no, Wait: types.BoolValue(true), WaitForJobs: no, PruneCRDs: no, HideValues: no, SkipDeleteHooks: no,
		TakeOwnership: m.TakeOwnership, ForceConflicts: m.ForceConflicts,
		Chart: types.ObjectNull(chartTypes), Mesh: types.ObjectNull(meshTypes()),
		Values: types.ListNull(types.StringType), Manifests: types.ListNull(types.StringType), Follows: types.ListNull(types.StringType),
		ManifestURLs:   types.ListUnknown(types.ObjectType{AttrTypes: manifestURLTypes}),
		AppVersion:     m.Version,
		ManifestSHA256: m.ManifestSHA256, Objects: m.Objects, Changes: m.Changes, Drift: m.Drift,
	}
	if fullyKnown(ctx, m.Name, m.Version, m.Source) {
		rel.Name = types.StringValue(addonRelease(m.Name.ValueString()))
		location := istio.AddonLocation(istio.Addon(m.Name.ValueString()), m.Version.ValueString(), m.Source.ValueString())
		urls, d := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: manifestURLTypes}, []manifestURLModel{{URL: types.StringValue(location)}})
		diags.Append(d...)
		rel.ManifestURLs = urls
	}
	return rel
}

// take notes what has become of the release.
func (m *istioAddonModel) take(rel *releaseModel) {
	m.ManifestSHA256, m.Objects, m.Changes, m.Drift = rel.ManifestSHA256, rel.Objects, rel.Changes, rel.Drift
}

// releaser deploys the addon of a model.
func (r *istioAddonResource) releaser(m *istioAddonModel, moved bool) *releaseResource {
	return &releaseResource{resourceBase: r.resourceBase, source: &addonManifests{session: r.session, addon: m, moved: moved}}
}

// addonManifests are the manifests of an addon, as a release reads them.
type addonManifests struct {
	session *session
	addon   *istioAddonModel
	moved   bool // to another version
}

func (a *addonManifests) floats(context.Context, *releaseModel, *diag.Diagnostics) bool {
	return a.moved || !a.addon.Source.IsNull() && !isAddress(a.addon.Source.ValueString())
}

func (a *addonManifests) manifestsOf(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) []namedManifest {
	m.AppVersion = a.addon.Version
	name := istio.Addon(a.addon.Name.ValueString())
	manifest, err := a.read(ctx, name)
	const summary = "Unable to Read the Addon's Manifests"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problemAt(diags, path.Root("version"), summary, a.lacking(ctx, name, err))
		return nil
	case err != nil:
		problemAt(diags, path.Root("source"), summary, err)
		return nil
	}
	return []namedManifest{{manifest, path.Root("name")}}
}

func (a *addonManifests) read(ctx context.Context, addon istio.Addon) (release.Manifest, error) {
	location := istio.AddonLocation(addon, a.addon.Version.ValueString(), a.addon.Source.ValueString())
	if isAddress(location) {
		return a.session.manifests.Download(ctx, location, "")
	}
	return release.ReadManifest(location)
}

// lacking says what there is of a version that does not have an addon.
func (a *addonManifests) lacking(ctx context.Context, wanted istio.Addon, err error) error {
	var there []string
	for _, name := range istio.Addons() {
		if name == string(wanted) {
			continue
		}
		if _, err := a.read(ctx, istio.Addon(name)); err == nil {
			there = append(there, name)
		}
	}
	if len(there) == 0 {
		return fmt.Errorf("there are no addons of Istio %s; is there such a version, and is it at this source: %w", a.addon.Version.ValueString(), err)
	}
	return fmt.Errorf("Istio %s has no addon %s, only %s: %w", a.addon.Version.ValueString(), wanted, strings.Join(there, ", "), err) //nolint:staticcheck // Istio is a name.
}

// ModifyPlan promises an addon without drift, keeps what is known of it when
// nothing is going to change, and otherwise tells what is.
func (r *istioAddonResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan istioAddonModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	var state *istioAddonModel
	if !req.State.Raw.IsNull() {
		state = &istioAddonModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	plan.Drift = noDrift()
	plan.ID = plan.Name
	if state == nil || plan.Name.Equal(state.Name) {
		moved := state != nil && !plan.Version.Equal(state.Version)
		p := releasePlan{
			resource: r.releaser(&plan, moved), plan: plan.release(ctx, &resp.Diagnostics), state: state.release(ctx, &resp.Diagnostics),
			known: fullyKnown(ctx, plan.Name, plan.Version, plan.Source), diags: &resp.Diagnostics,
		}
		p.make(ctx, types.ListNull(types.StringType))
		plan.take(p.plan)
	}
	if !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	}
}

const addonFailed = "Unable to Deploy the Addon"

func (r *istioAddonResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model istioAddonModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	model.ID = model.Name
	if r.deploy(ctx, cluster, &model, nil, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *istioAddonResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state istioAddonModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	// The state of a failed change keeps the settings of before: those that may not
	// be in force have to be in the next plan again.
	if r.deploy(ctx, cluster, &model, &state, &resp.Diagnostics) && !resp.Diagnostics.HasError() {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// deploy makes the cluster what the model says and takes down what is there
// then. It is false if the addon is not there.
func (r *istioAddonResource) deploy(ctx context.Context, cluster *kube.Cluster, model, state *istioAddonModel, diags *diag.Diagnostics) bool {
	_, err := cluster.Get(ctx, kube.Ref{Kind: kube.Namespace, Name: istio.DefaultNamespace})
	if errors.Is(err, kube.ErrNotFound) {
		err = fmt.Errorf("addons are deployed into namespace %s, which aksmesh_istio makes: install Istio there first, and take `version` from its resource: %w", istio.DefaultNamespace, err)
	}
	if err != nil {
		problem(diags, addonFailed, err)
		return false
	}
	deployer := r.releaser(model, false)
	wanted, former := model.release(ctx, diags), state.release(ctx, diags)
	rel, ok := deployer.open(ctx, cluster, wanted, addonFailed, diags)
	if !ok {
		return false
	}
	if state == nil {
		if err := deployer.adoptable(ctx, rel, wanted, diags); err != nil {
			problem(diags, addonFailed, err)
			return false
		}
		if rel.Record() != nil {
			warnAdopted(diags, "addon "+model.Name.ValueString())
		}
	}
	deployer.deploy(ctx, cluster, rel, wanted, former, "", nil, diags)
	if rel.Record() == nil {
		return false
	}
	wanted.observe(ctx, rel.Record(), mesh.Survey{}, diags)
	model.take(wanted)
	return true
}

func (r *istioAddonResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model istioAddonModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	const summary = "Unable to Read the Addon"
	imported := model.Name.IsNull()
	model.Name = model.ID
	known := model.release(ctx, &resp.Diagnostics)
	known.Name = types.StringValue(addonRelease(model.ID.ValueString()))
	rel, ok := r.releaser(&model, false).open(ctx, cluster, known, summary, &resp.Diagnostics)
	if !ok {
		return
	}
	record := rel.Record()
	if record == nil {
		forget(ctx, resp, model.ID)
		return
	}
	in, drift, err := known.compare(ctx, rel, imported, &resp.Diagnostics)
	if err != nil {
		problem(&resp.Diagnostics, summary, err)
		return
	}
	if imported {
		model.TakeOwnership, model.ForceConflicts = known.TakeOwnership, known.ForceConflicts
		model.Version = types.StringValue(record.Origin.AppVersion)
		for _, u := range in.ManifestURLs {
			model.Source = textOrNull(istio.AddonSource(istio.Addon(model.ID.ValueString()), record.Origin.AppVersion, u.URL))
		}
	}
	known.forgetObserved()
	known.observe(ctx, record, mesh.Survey{}, &resp.Diagnostics)
	known.Drift = notesList(ctx, drift, nil, &resp.Diagnostics)
	model.take(known)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *istioAddonResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model istioAddonModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	const summary = "Unable to Remove the Addon"
	known := model.release(ctx, &resp.Diagnostics)
	if rel, ok := r.releaser(&model, false).open(ctx, cluster, known, summary, &resp.Diagnostics); ok {
		known.uninstall(ctx, rel, summary, &resp.Diagnostics)
	}
}

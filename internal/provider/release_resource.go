package provider

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

var _ meshResource = (*releaseResource)(nil)

var _ resource.ResourceWithValidateConfig = (*releaseResource)(nil)

type releaseResource struct {
	resourceBase
	source manifestSource
}

// manifestSource is where a release without a chart has its objects from.
type manifestSource interface {
	// manifestsOf reads them, each with the attribute that is at fault if it is
	// wrong, and notes in the model what version they are of, if they are of one.
	manifestsOf(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) []namedManifest
	// floats reports that they can change without the configuration.
	floats(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) bool
}

func newReleaseResource() resource.Resource {
	r := &releaseResource{resourceBase: resourceBase{noun: "release", identity: "`<namespace>/<name>`."}}
	r.source = r
	return r
}

func (r *releaseResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	no := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), MarkdownDescription: description + " Default `false`."}
	}
	enrolment := meshAttribute("The mesh that the pods of all workloads join, exactly one of `linkerd` and `istio`: pod templates get its labels and annotations, Services those of opaque ports. " +
		"Hooks stay outside of a mesh of sidecars, which would keep them from ending, unless their own pod templates ask for it. Left out, pods are as the chart or the manifests have them.")
	enrolment.Required, enrolment.Optional = false, true
	resp.Schema = schema.Schema{
		MarkdownDescription: "A Helm chart, or manifests, deployed into a mesh: what `helm template | linkerd inject | kubectl apply` and `helm install` into an " +
			"injected namespace do, as one resource. Objects are applied server-side and in Helm's order, CRDs first, with the chart's hooks; what is not " +
			"in the chart or the manifests any more is deleted. The apply returns when workloads are rolled out and every pod of theirs is seen to be in the mesh.\n\n" +
			"The plan tells in `changes` which objects and fields change. Objects that others have changed, and pods that slipped past the injector or run an old " +
			"proxy, are in `drift` and are put right by the next apply. An immutable field of a StatefulSet changes without its pods or volume claims being deleted; " +
			"claims stay when the release is destroyed. An apply that failed or was cut off is finished by the next. " +
			"That of a new release Terraform calls a replacement, as it does `-replace`; no object is deleted for a replacement by a release of the same name and namespace.\n\n" +
			"There is no Helm release: what is deployed is on record in the Secret `aksmesh-release-<name>` of the namespace, and `helm list` does not show it. " +
			"Values and manifests are in Terraform's state and in that Secret. Those of `set_wo` are not in the state; the Secret has the objects as they are " +
			"deployed, and so the values that the chart puts into them. Values of Secrets are never shown in `changes` and `drift`, but other fields are, " +
			"also of inputs that are `sensitive()`; with `hide_values`, no values are.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>`."),
			"name": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Name of the release, unique in its namespace; for charts also that of `.Release.Name`. Changing it deploys anew.",
				Validators:          []validator.String{stringvalidator.LengthAtMost(53), dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"namespace": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Namespace of the release and of all its objects that do not say another. Changing it deploys anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"create_namespace": no("Whether to create the namespace if it is absent. It is then deleted with the last release in it, unless anything of others or a volume claim is left in it."),
			"chart": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "A Helm chart. Exactly one of `chart` and `manifests` or `manifest_urls` is needed.",
				Validators: []validator.Object{
					objectvalidator.AtLeastOneOf(path.MatchRoot("manifests"), path.MatchRoot("manifest_urls")),
					objectvalidator.ConflictsWith(path.MatchRoot("manifests"), path.MatchRoot("manifest_urls")),
				},
				Attributes: map[string]schema.Attribute{
					"repository": optionalString("Where the chart comes from: a Helm repository (`https://…`) or the place in an OCI registry that it is below (`oci://example.azurecr.io/charts`). Left out, `name` is a path. Credentials are in the provider's `helm.registries`."),
					"name":       schema.StringAttribute{Required: true, MarkdownDescription: "Name of the chart in the repository; without one, the path of its directory or `.tgz` file.", Validators: []validator.String{stringvalidator.LengthAtLeast(1)}},
					"version":    schema.StringAttribute{Optional: true, MarkdownDescription: "Exact version of the chart. Needed with a `repository`.", Validators: []validator.String{exactVersion()}},
				},
			},
			"values": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Values of the chart, YAML documents merged in order.",
				Validators:          []validator.List{listvalidator.AlsoRequires(path.MatchRoot("chart"))},
			},
			"set_wo": schema.MapAttribute{
				Optional: true, Sensitive: true, WriteOnly: true, ElementType: types.StringType,
				MarkdownDescription: "Write-only texts to set over `values`, by the paths of `helm --set-string`: `{ \"auth.password\" = … }`. They get into the objects of the chart, " +
					"with each apply, and neither into the plan nor into the state; nor do values that objects other than Secrets have of them, as `changes` and " +
					"`drift` then name fields without values. Needs Terraform 1.11.",
				Validators: []validator.Map{
					mapvalidator.SizeAtLeast(1),
					mapvalidator.AlsoRequires(path.MatchRoot("chart")),
				},
			},
			"set_wo_revision": schema.Int64Attribute{
				Optional: true,
				MarkdownDescription: "Number to change when `set_wo` is to be applied anew. Left out, another `set_wo` than the last is found by itself, by a digest that the cluster keeps; " +
					"set it if its values are different in each run. Any apply writes them, whatever it is for.",
			},
			"manifests": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Manifests, YAML or JSON of any number of documents: `[file(\"app.yaml\")]`.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1)},
			},
			"manifest_urls": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Manifests to fetch over HTTPS. Without a pin, each plan fetches them, and a change of what is there is a change of the release.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1)},
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"url":    schema.StringAttribute{Required: true, MarkdownDescription: "Where the manifest is. It is kept in the state, so it must not hold credentials.", Validators: []validator.String{manifestURL()}},
					"sha256": schema.StringAttribute{Optional: true, MarkdownDescription: "SHA-256 of the manifest in lower-case hexadecimal; any other content is an error.", Validators: []validator.String{hexSHA256()}},
				}},
			},
			"mesh": enrolment,
			"follows": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Values whose change makes the apply look at the pods again, such as `[aksmesh_linkerd.this.version]`: pods whose proxy is then an old one are restarted by the same apply.",
			},
			"restart":           restartAttribute(inNamespace()),
			"wait":              schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(true), MarkdownDescription: "Whether to wait until workloads are rolled out, volume claims bound, load balancers have addresses, and, with `mesh`, every pod is in it. Without, pods outside of the mesh are counted, but neither restarted nor in `drift`. Default `true`."},
			"wait_for_jobs":     no("Whether `wait` includes that Jobs are complete. With a mesh of sidecars, that needs native ones."),
			"take_ownership":    no("Whether to take objects over that exist already, be they of a Helm release, of another release of this provider or of nobody. Otherwise that is an error which names the owner."),
			"force_conflicts":   no("Whether to take fields over that another field manager has set to something else. Otherwise that is an error which names the manager."),
			"prune_crds":        no("Whether CRDs are deleted when they are not in the release any more, and when it is destroyed. With a CRD go all objects of its kind."),
			"skip_delete_hooks": no("Whether the chart's hooks before and after deletion are left out when the release is destroyed, as they have to be if they cannot succeed. It has to be applied before."),
			"hide_values":       no("Whether `changes` and `drift` name fields without their values, as they do with `set_wo`: for manifests or values that hold secrets in other places than Secrets."),
			"app_version":       computedString("Version of what the chart installs, as the chart says; null for manifests."),
			"chart_digest":      computedString("`sha256:…` of the chart's archive, or of the files in its directory; null for manifests."),
			"manifest_sha256":   computedString("SHA-256 over all manifests; null for a chart."),
			"objects":           schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "The objects of the release, as `<kind> <namespace>/<name>`, in the order in which they are applied."},
			"changes": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "What the last change of the settings, the chart or the manifests has changed in the cluster, in a plan what it is going to change, one line an object: `+ Service dgraph/alpha`, " +
					"`~ Deployment dgraph/web: spec.replicas: 1 -> 3`, `-/+` for one that is made anew, `-` for one that is deleted, `.` for one that is dropped and stays. " +
					"Values of Secrets are never shown, nor what a chart makes otherwise each time.",
			},
			"drift":       driftAttribute("objects that are missing or changed, a release that somebody else has deployed or whose last apply failed, pods without a proxy, and pods whose proxy is not the one that they would be given now"),
			"meshed_pods": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods in the mesh."},
			"total_pods":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods that should be; 0 without `mesh`."},
			"stale_pods":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods in the mesh that would be otherwise if they were made now."},
			"skipped":     skippedAttribute(),
			"restarts": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Workloads that the last apply has restarted to bring their pods into the mesh, each with the number of pods that were not as they should be, and why; in a plan that repairs `drift`, those that it is going to restart.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

type releaseModel struct {
	commonModel
	podsModel
	Name            types.String `tfsdk:"name"`
	Namespace       types.String `tfsdk:"namespace"`
	CreateNamespace types.Bool   `tfsdk:"create_namespace"`
	Chart           types.Object `tfsdk:"chart"`
	Values          types.List   `tfsdk:"values"`
	SetWO           types.Map    `tfsdk:"set_wo"`
	SetWORevision   types.Int64  `tfsdk:"set_wo_revision"`
	Manifests       types.List   `tfsdk:"manifests"`
	ManifestURLs    types.List   `tfsdk:"manifest_urls"`
	Mesh            types.Object `tfsdk:"mesh"`
	Follows         types.List   `tfsdk:"follows"`
	Restart         types.Object `tfsdk:"restart"`
	Wait            types.Bool   `tfsdk:"wait"`
	WaitForJobs     types.Bool   `tfsdk:"wait_for_jobs"`
	TakeOwnership   types.Bool   `tfsdk:"take_ownership"`
	ForceConflicts  types.Bool   `tfsdk:"force_conflicts"`
	PruneCRDs       types.Bool   `tfsdk:"prune_crds"`
	HideValues      types.Bool   `tfsdk:"hide_values"`
	SkipDeleteHooks types.Bool   `tfsdk:"skip_delete_hooks"`
	AppVersion      types.String `tfsdk:"app_version"`
	ChartDigest     types.String `tfsdk:"chart_digest"`
	ManifestSHA256  types.String `tfsdk:"manifest_sha256"`
	Objects         types.List   `tfsdk:"objects"`
	Changes         types.List   `tfsdk:"changes"`
	Drift           types.List   `tfsdk:"drift"`
}

type chartModel struct {
	Repository types.String `tfsdk:"repository"`
	Name       types.String `tfsdk:"name"`
	Version    types.String `tfsdk:"version"`
}

type manifestURLModel struct {
	URL    types.String `tfsdk:"url"`
	SHA256 types.String `tfsdk:"sha256"`
}

// Types of the nested objects, for values that an import builds.
var (
	chartTypes       = map[string]attr.Type{"repository": types.StringType, "name": types.StringType, "version": types.StringType}
	manifestURLTypes = map[string]attr.Type{"url": types.StringType, "sha256": types.StringType}
)

// releases are the releases of the cluster.
func (r *releaseResource) releases(ctx context.Context, cluster *kube.Cluster, diags *diag.Diagnostics) (*release.Releases, bool) {
	charts, ok := r.charts(ctx, cluster, diags)
	return &release.Releases{Cluster: cluster, Charts: charts.Releases, Log: charts.Log}, ok
}

// open reads what is on record of the release that the model names.
func (r *releaseResource) open(ctx context.Context, cluster *kube.Cluster, m *releaseModel, summary string, diags *diag.Diagnostics) (*release.Release, bool) {
	releases, ok := r.releases(ctx, cluster, diags)
	if !ok {
		return nil, false
	}
	rel, err := releases.Open(ctx, m.Namespace.ValueString(), m.Name.ValueString())
	if err != nil {
		problem(diags, summary, err)
	}
	return rel, err == nil
}

// secretsOf are the write-only values of a configuration, which is the only
// place that has them. They are known if ok.
func secretsOf(ctx context.Context, config interface {
	GetAttribute(ctx context.Context, at path.Path, target any) diag.Diagnostics
}, diags *diag.Diagnostics,
) (secrets map[string]string, ok bool) {
	var values types.Map
	diags.Append(config.GetAttribute(ctx, path.Root("set_wo"), &values)...)
	if !fullyKnown(ctx, values) {
		return nil, false
	}
	return stringMap(ctx, values, diags), true
}

// guarded keeps write-only values out of logs; see hideIn for diagnostics.
func guarded(ctx context.Context, secrets map[string]string) context.Context {
	for _, secret := range secrets {
		ctx = tflog.MaskAllFieldValuesStrings(tflog.MaskMessageStrings(ctx, spellings(secret)...), spellings(secret)...)
	}
	return ctx
}

// hideIn takes write-only values out of diagnostics: templates and the API server
// may quote what they refuse.
func hideIn(diags *diag.Diagnostics, secrets map[string]string) {
	if len(secrets) == 0 {
		return
	}
	for i, d := range *diags {
		var hidden diag.Diagnostic = diag.NewErrorDiagnostic(d.Summary(), hide(d.Detail(), secrets))
		if d.Severity() == diag.SeverityWarning {
			hidden = diag.NewWarningDiagnostic(d.Summary(), hide(d.Detail(), secrets))
		}
		if located, ok := d.(diag.DiagnosticWithPath); ok {
			hidden = diag.WithPath(located.Path(), hidden)
		}
		(*diags)[i] = hidden
	}
}

func hide(text string, secrets map[string]string) string {
	for _, secret := range secrets {
		for _, written := range spellings(secret) {
			text = strings.ReplaceAll(text, written, "(set_wo)")
		}
	}
	return text
}

// spellings are the ways in which a value may be written in messages: as it is,
// quoted, and as Secrets have it.
func spellings(secret string) []string {
	if secret == "" {
		return nil
	}
	quoted := strconv.Quote(secret)
	return []string{base64.StdEncoding.EncodeToString([]byte(secret)), quoted[1 : len(quoted)-1], secret}
}

// ValidateConfig refuses what is wrong whatever the cluster is.
func (r *releaseResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config releaseModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if source, ok := config.source(ctx, &resp.Diagnostics); ok && fullyKnown(ctx, config.Chart) {
		if err := source.Validate(); err != nil {
			problemAt(&resp.Diagnostics, path.Root("chart"), "Invalid Chart", err)
		}
	}
	values := parsedValues(ctx, config.Values, path.Root("values"), anyValues, &resp.Diagnostics)
	secrets, known := secretsOf(ctx, req.Config, &resp.Diagnostics)
	if known && fullyKnown(ctx, config.Values) && !resp.Diagnostics.HasError() {
		if _, err := helm.SetStrings(values, secrets); err != nil {
			problemAt(&resp.Diagnostics, path.Root("set_wo"), "Invalid set_wo", err)
		}
	}
	for i, element := range config.Manifests.Elements() {
		text, ok := element.(types.String)
		if !ok || text.IsUnknown() || text.IsNull() {
			continue
		}
		if _, err := release.ParseManifests(manifestAt(i, text.ValueString())); err != nil {
			problemAt(&resp.Diagnostics, path.Root("manifests").AtListIndex(i), "Invalid Manifest", err)
		}
	}
}

// ModifyPlan promises a release without drift, keeps what is known of it when
// nothing is going to change, and otherwise tells what is.
func (r *releaseResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, []byte("null"))...)
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan releaseModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	secrets, secretsKnown := secretsOf(ctx, req.Config, &resp.Diagnostics)
	ctx = guarded(ctx, secrets)
	defer hideIn(&resp.Diagnostics, secrets)
	var state *releaseModel
	if !req.State.Raw.IsNull() {
		state = &releaseModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	p := releasePlan{resource: r, plan: &plan, state: state, secrets: secrets, diags: &resp.Diagnostics}
	p.known = secretsKnown && plan.inputsKnown(ctx)
	plan.Drift = noDrift()
	if fullyKnown(ctx, plan.Namespace, plan.Name) {
		plan.ID = types.StringValue(plan.Namespace.ValueString() + "/" + plan.Name.ValueString())
		if state == nil {
			resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, quote(plan.ID.ValueString()))...)
		}
	}
	if state == nil || plan.Name.Equal(state.Name) && plan.Namespace.Equal(state.Namespace) {
		p.make(ctx, pendingOf(ctx, req.Private, &resp.Diagnostics))
	} else if r.session != nil { // Terraform plans what replaces it once more, by itself.
		r.session.leaving.Store("release "+state.ID.ValueString(), true)
	}
	if !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	}
}

// inputsKnown reports whether all is known of what the objects are made of.
func (m *releaseModel) inputsKnown(ctx context.Context) bool {
	return fullyKnown(ctx, m.Name, m.Namespace, m.CreateNamespace, m.Chart, m.Values, m.Manifests, m.ManifestURLs, m.Mesh)
}

// sameInputs reports whether the configuration asks for the same objects, to be
// pruned and shown in the same way, write-only values aside.
func (m *releaseModel) sameInputs(other *releaseModel) bool {
	return m.CreateNamespace.Equal(other.CreateNamespace) && m.Chart.Equal(other.Chart) && m.Values.Equal(other.Values) &&
		m.SetWORevision.Equal(other.SetWORevision) && m.Manifests.Equal(other.Manifests) && m.ManifestURLs.Equal(other.ManifestURLs) &&
		m.Mesh.Equal(other.Mesh) && m.PruneCRDs.Equal(other.PruneCRDs) && m.HideValues.Equal(other.HideValues)
}

// releasePlan is a plan in the making.
type releasePlan struct {
	resource *releaseResource
	plan     *releaseModel
	state    *releaseModel // nil for a release to create
	secrets  map[string]string
	known    bool // all that the objects are made of
	diags    *diag.Diagnostics
}

// make fills in the computed attributes; pending are the restarts of a repair.
func (p *releasePlan) make(ctx context.Context, pending types.List) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	changed := p.changed(ctx)
	if p.diags.HasError() {
		return
	}
	plan, state := p.plan, p.state
	if !changed {
		plan.AppVersion, plan.ChartDigest, plan.ManifestSHA256 = state.AppVersion, state.ChartDigest, state.ManifestSHA256
		plan.Objects, plan.Changes = state.Objects, state.Changes
		same := plan.Follows.Equal(state.Follows) && plan.Wait.Equal(state.Wait)
		if same && state.Drift.Equal(plan.Drift) {
			plan.podsModel = state.podsModel
			return
		}
		plan.podsModel = unknownPods()
		if same {
			plan.Restarts = pending
		}
		return
	}
	plan.AppVersion, plan.ChartDigest, plan.ManifestSHA256 = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
	plan.Objects, plan.Changes = types.ListUnknown(types.StringType), types.ListUnknown(types.StringType)
	plan.podsModel = unknownPods()
	if p.known && p.resource.session != nil && p.resource.session.library != nil {
		p.preview(ctx)
	}
}

// changed reports whether the objects of the release may be others than those
// that were applied last.
func (p *releasePlan) changed(ctx context.Context) bool {
	if p.state == nil || !p.known || !p.plan.sameInputs(p.state) {
		return true
	}
	cluster, ok := p.resource.knownCluster()
	if !ok {
		return false
	}
	// What is neither pinned nor of a version may have changed where it is.
	now := *p.plan
	if p.resource.floating(ctx, p.plan, p.diags) {
		if _, ok := p.resource.load(ctx, &now, p.secrets, p.diags); !ok {
			return false
		}
		if !now.ChartDigest.Equal(p.state.ChartDigest) || !now.ManifestSHA256.Equal(p.state.ManifestSHA256) {
			return true
		}
	}
	if p.plan.Chart.IsNull() || !p.plan.SetWORevision.IsNull() {
		return false
	}
	rel, ok := p.resource.open(ctx, cluster, p.plan, "Unable to Plan the Release", p.diags)
	if !ok {
		return false
	}
	in, err := recordedInputs(rel.Record())
	return err == nil && rel.Record() != nil && !in.Secrets.holds(p.secrets)
}

// floating reports a release whose content can change without its configuration.
func (r *releaseResource) floating(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) bool {
	if source, ok := m.source(ctx, diags); ok {
		return source.Repository == ""
	}
	return r.source.floats(ctx, m, diags)
}

func (r *releaseResource) floats(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) bool {
	return slices.ContainsFunc(elements[manifestURLModel](ctx, m.ManifestURLs, diags), func(u manifestURLModel) bool { return u.SHA256.IsNull() })
}

// preview finds out which objects change and what stands in the way. It fails
// the plan only if the apply could not but fail: what the cluster does not answer
// now it may answer then.
func (p *releasePlan) preview(ctx context.Context) {
	content, ok := p.resource.load(ctx, p.plan, p.secrets, p.diags)
	if !ok {
		return
	}
	cluster, ok := p.resource.knownCluster()
	if !ok {
		return
	}
	const summary = "Unable to Plan the Release"
	changes, err := p.changes(ctx, cluster, content)
	switch {
	case p.diags.HasError(), errors.Is(err, errNotForeseen):
		return
	case err != nil && unanswered(err):
		p.diags.AddWarning("Unable to Look Ahead at Release "+p.plan.ID.ValueString(), explain(err))
		return
	case err != nil:
		problemDeploy(p.diags, summary, err)
		return
	}
	var warnings []string
	for _, change := range changes {
		if change.Warning != "" {
			warnings = append(warnings, change.Ref.String()+": "+change.Warning)
		}
	}
	if len(warnings) > 0 {
		p.diags.AddWarning("Objects of Release "+p.plan.ID.ValueString()+" Would Be Refused Now", strings.Join(warnings, "\n"))
	}
	uncertain := slices.ContainsFunc(changes, func(c kube.Change) bool { return c.Uncertain })
	if p.state == nil && content.chart != nil {
		// The same apply may well bring the kinds that the chart looks for.
		uncertain = uncertain || content.chart.LooksAtCluster()
	}
	if uncertain {
		// It may come out otherwise at the apply, which Terraform would refuse.
		p.diags.AddWarning("Release "+p.plan.ID.ValueString()+" Changes as Far as Can Be Foreseen", strings.Join(changeLines(changes), "\n"))
		return
	}
	p.plan.Changes = changesList(ctx, changes, p.diags)
}

// changesList is the value of `changes`. What is only put back is in `drift`.
func changesList(ctx context.Context, changes []kube.Change, diags *diag.Diagnostics) types.List {
	return notesList(ctx, changeLines(changes), nil, diags)
}

func changeLines(changes []kube.Change) (lines []string) {
	for _, change := range changes {
		if change.Action != kube.Unchanged && change.Action != kube.Restore {
			lines = append(lines, change.String())
		}
	}
	return lines
}

// errNotForeseen means that what an apply changes depends on what happens before.
var errNotForeseen = errors.New("the release is not what it will be when it is applied")

// changes asks the cluster what an apply would change. Errors that an attribute
// has caused are in the diagnostics.
func (p *releasePlan) changes(ctx context.Context, cluster *kube.Cluster, content releaseContent) ([]kube.Change, error) {
	releases, ok := p.resource.releases(ctx, cluster, p.diags)
	if !ok {
		return nil, nil
	}
	rel, err := releases.Open(ctx, p.plan.Namespace.ValueString(), p.plan.Name.ValueString())
	if err != nil {
		return nil, err
	}
	adopting := p.state == nil && rel.Record() != nil
	if adopting {
		// It is somebody else's, or what an interrupted apply has left, or about to
		// be replaced: only the apply is going to see which.
		if err := p.resource.adoptable(ctx, rel, p.plan, p.diags); err != nil {
			p.diags.AddWarning("Release "+p.plan.ID.ValueString()+" Exists Already", explain(err))
			return nil, errNotForeseen
		}
	}
	desired, err := p.resource.desired(ctx, rel, p.plan, content, "", p.secrets, p.diags)
	if err != nil || p.diags.HasError() {
		return nil, err
	}
	desired.Repair = p.state.drifted()
	if content.chart != nil && !desired.Restore {
		// What comes out otherwise each time must not be in the plan: the apply could not keep it.
		if desired.Again, err = rel.Render(ctx, content.chart, content.values, true); err != nil {
			desired.HideValues = true
		}
	}
	changes, err := rel.Plan(ctx, desired)
	if foreign, ok := errors.AsType[*release.ForeignError](err); ok {
		if _, leaving := p.resource.session.leaving.Load(foreign.Owner); leaving {
			err = errNotForeseen
		}
	}
	if adopting && err == nil {
		if lines := changeLines(changes); len(lines) > 0 {
			p.diags.AddWarning("Release "+p.plan.ID.ValueString()+" Exists Already and Goes On", strings.Join(lines, "\n"))
		}
		err = errNotForeseen
	}
	return changes, err
}

// drifted reports that the plan shows what others have changed. Its approval is
// the user's word to change it back.
func (m *releaseModel) drifted() bool { return m != nil && !m.Drift.Equal(noDrift()) }

// unanswered reports errors that say nothing about the release: the cluster
// could not be asked, or may not be asked by this user.
func unanswered(err error) bool {
	var network net.Error
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) ||
		errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// problemDeploy attaches errors that an attribute would have prevented to it.
func problemDeploy(diags *diag.Diagnostics, summary string, err error) {
	var conflict *kube.ConflictError
	var foreign *release.ForeignError
	switch {
	case err == nil:
	case errors.As(err, &conflict):
		problemAt(diags, path.Root("force_conflicts"), summary, err)
	case errors.As(err, &foreign):
		problemAt(diags, path.Root("take_ownership"), summary, err)
	default:
		problem(diags, summary, err)
	}
}

// adoptable refuses a release that somebody else has deployed. What an apply
// leaves that ends before it can write state is either not finished or just what
// is asked for.
func (r *releaseResource) adoptable(ctx context.Context, rel *release.Release, m *releaseModel, diags *diag.Diagnostics) error {
	record := rel.Record()
	if _, held := r.session.held.Load(m.ID.ValueString()); held || record == nil || !record.Installed {
		return nil
	}
	in, err := recordedInputs(record)
	if err != nil {
		return fmt.Errorf("release %s: its record cannot be read: %w", m.ID.ValueString(), err)
	}
	if in.same(m.inputs(ctx, diags)) {
		return nil
	}
	return fmt.Errorf("release %[1]s exists already, with other settings; to bring it under management, run `terraform import <address> %[1]s`", m.ID.ValueString())
}

const deployFailed = "Unable to Deploy the Release"

func (r *releaseResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model releaseModel
	secrets, _ := secretsOf(ctx, req.Config, &resp.Diagnostics)
	ctx = guarded(ctx, secrets)
	defer hideIn(&resp.Diagnostics, secrets)
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	model.ID = types.StringValue(model.Namespace.ValueString() + "/" + model.Name.ValueString())
	rel, ok := r.open(ctx, cluster, &model, deployFailed, &resp.Diagnostics)
	if !ok {
		return
	}
	if err := r.adoptable(ctx, rel, &model, &resp.Diagnostics); err != nil {
		problem(&resp.Diagnostics, deployFailed, err)
		return
	}
	if rel.Record() != nil {
		warnAdopted(&resp.Diagnostics, "release "+model.ID.ValueString())
	}
	own := rand.Text()
	r.deploy(ctx, cluster, rel, &model, nil, own, secrets, &resp.Diagnostics)
	in, err := recordedInputs(rel.Record())
	_, held := r.session.held.Load(model.ID.ValueString())
	if rel.Record() == nil || err != nil || in.Token != own && !held {
		return // It is not there, or still somebody else's.
	}
	model.observe(ctx, rel.Record(), mesh.Survey{}, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, []byte("null"))...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(in.Token))...)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// deploy makes the cluster what the model says and takes down what is there
// then, whatever the diagnostics say. The record bears the token own from then on.
func (r *releaseResource) deploy(ctx context.Context, cluster *kube.Cluster, rel *release.Release, m, state *releaseModel, own string, secrets map[string]string, diags *diag.Diagnostics) {
	digest, sum := m.ChartDigest, m.ManifestSHA256
	content, ok := r.load(ctx, m, secrets, diags)
	if !ok {
		return
	}
	if !digest.IsUnknown() && !digest.Equal(m.ChartDigest) || !sum.IsUnknown() && !sum.Equal(m.ManifestSHA256) {
		diags.AddError(deployFailed, "What is there now is not what was planned: the chart or the manifests have changed where they are. Plan once more, and look at the changes.")
		return
	}
	desired, err := r.desired(ctx, rel, m, content, own, secrets, diags)
	if err != nil || diags.HasError() {
		problemDeploy(diags, deployFailed, err)
		return
	}
	desired.Repair = state.drifted()
	if deadline, limited := ctx.Deadline(); limited {
		desired.HookTimeout = time.Until(deadline)
	}
	if m.Changes.IsUnknown() {
		// What is wrong, the deployment itself is going to say.
		changes, _ := rel.Plan(ctx, desired)
		m.Changes = changesList(ctx, changes, diags)
	}
	err = rel.Deploy(ctx, desired)
	problemDeploy(diags, deployFailed, err)
	if rel.Record() == nil {
		return
	}
	var survey mesh.Survey
	if err == nil {
		if survey, err = r.settle(ctx, cluster, rel, m, diags); err != nil {
			problem(diags, "Unable to Bring Pods Into the Mesh", err)
		}
	}
	m.observe(ctx, rel.Record(), survey, diags)
	if err != nil {
		m.Drift = notesList(ctx, []string{"release " + m.ID.ValueString() + ": its last deployment failed"}, nil, diags)
	}
}

// dataPlane is the pods of a release in a mesh; it is false if there are none.
func (r *releaseResource) dataPlane(ctx context.Context, cluster *kube.Cluster, record *release.Record, m *releaseModel, diags *diag.Diagnostics) (mesh.DataPlane, bool) {
	if m.Mesh.IsNull() {
		return mesh.DataPlane{}, false
	}
	d := mesh.DataPlane{
		Cluster: cluster,
		Mesh:    meshOf(ctx, m.Mesh, diags),
		Policy:  restartPolicy(ctx, m.Restart, m.Namespace.ValueString(), diags),
		Now:     r.session.time(),
		Log:     func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) },
	}
	for _, ref := range record.Objects {
		if slices.Contains(kube.WorkloadKinds(), ref.Kind) {
			d.Workloads = append(d.Workloads, ref)
		}
	}
	return d, d.Mesh != nil && len(d.Workloads) > 0
}

// settle brings the pods into the mesh, if they are to be in one and are to be
// waited for.
func (r *releaseResource) settle(ctx context.Context, cluster *kube.Cluster, rel *release.Release, m *releaseModel, diags *diag.Diagnostics) (mesh.Survey, error) {
	d, ok := r.dataPlane(ctx, cluster, rel.Record(), m, diags)
	if !ok {
		return mesh.Survey{}, nil
	}
	before, err := d.Survey(ctx)
	if err != nil || !m.Wait.ValueBool() {
		return before, err
	}
	m.restarted(ctx, before.Restarts, diags)
	survey, err := d.Settle(ctx)
	if err == nil {
		warnSkipped("release "+m.ID.ValueString(), survey.Skipped, diags)
	}
	return survey, err
}

// observe fills in what the cluster shows, unless the plan has told it.
func (m *releaseModel) observe(ctx context.Context, record *release.Record, survey mesh.Survey, diags *diag.Diagnostics) {
	if m.MeshedPods.IsUnknown() {
		m.show(ctx, survey, diags)
	}
	m.restarted(ctx, nil, diags)
	setUnknown(&m.Changes, notesList(ctx, nil, nil, diags))
	objects := make([]string, len(record.Objects))
	for i, ref := range record.Objects {
		objects[i] = ref.String()
	}
	setUnknown(&m.Objects, notesList(ctx, objects, nil, diags))
}

// setUnknown fills an attribute that a plan has left to the apply.
func setUnknown[T attr.Value](attribute *T, value T) {
	if (*attribute).IsUnknown() {
		*attribute = value
	}
}

func (r *releaseResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model releaseModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	const summary = "Unable to Read the Release"
	namespace, name, valid := strings.Cut(model.ID.ValueString(), "/")
	if !valid || namespace == "" || name == "" {
		problemAt(&resp.Diagnostics, path.Root("id"), "Invalid Release ID", fmt.Errorf("%q is not <namespace>/<name>", model.ID.ValueString()))
		return
	}
	imported := model.Name.IsNull()
	model.Namespace, model.Name = types.StringValue(namespace), types.StringValue(name)
	rel, ok := r.open(ctx, cluster, &model, summary, &resp.Diagnostics)
	if !ok {
		return
	}
	record := rel.Record()
	if record == nil {
		forget(ctx, resp, model.ID)
		return
	}
	in, drift, err := model.compare(ctx, rel, imported, &resp.Diagnostics)
	if err != nil {
		problem(&resp.Diagnostics, summary, err)
		return
	}
	var survey mesh.Survey
	if d, ok := r.dataPlane(ctx, cluster, record, &model, &resp.Diagnostics); ok {
		if survey, err = d.Survey(ctx); err != nil {
			problem(&resp.Diagnostics, summary, err)
			return
		}
	}
	if !model.Wait.ValueBool() {
		// No apply waits for pods to restart them.
		survey.Wrong, survey.Restarts = nil, nil
	}
	model.forgetObserved()
	model.observe(ctx, record, survey, &resp.Diagnostics)
	model.Drift = notesList(ctx, drift, survey.Wrong, &resp.Diagnostics)
	pending, err := json.Marshal(restartLines(survey.Restarts))
	if err != nil {
		problem(&resp.Diagnostics, summary, err)
		return
	}
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, pendingRestarts, pending)...)
	if tokenIn(ctx, req.Private, &resp.Diagnostics) == "" && in.Token != "" {
		// It was imported, or is of a version that kept none.
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(in.Token))...)
	}
	r.session.held.Store(model.ID.ValueString(), true)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// compare says what of a release that is on record is not as it was deployed, or
// not as the model says; of one that is imported it fills in the model.
func (m *releaseModel) compare(ctx context.Context, rel *release.Release, imported bool, diags *diag.Diagnostics) (in releaseInputs, drift []string, err error) {
	record := rel.Record()
	if drift, err = rel.Drift(ctx); err != nil {
		return in, nil, err
	}
	if in, err = recordedInputs(record); err != nil {
		return in, nil, err
	}
	if imported {
		m.imported(ctx, record, in, diags)
	} else if !in.same(m.inputs(ctx, diags)) || m.otherContent(record.Origin) {
		drift = append(drift, "release "+m.ID.ValueString()+": it was deployed with other settings than these")
	}
	return in, drift, nil
}

// forgetObserved has observe look anew.
func (m *releaseModel) forgetObserved() {
	m.Objects = types.ListUnknown(types.StringType)
	restarts := m.Restarts
	m.podsModel = unknownPods()
	m.Restarts = restarts
}

// imported fills in what the record tells of a release of which only the ID is
// known.
func (m *releaseModel) imported(ctx context.Context, record *release.Record, in releaseInputs, diags *diag.Diagnostics) {
	in.into(ctx, m, diags)
	m.Wait = types.BoolValue(true)
	for _, setting := range []*types.Bool{&m.WaitForJobs, &m.TakeOwnership, &m.ForceConflicts, &m.PruneCRDs, &m.HideValues, &m.SkipDeleteHooks} {
		*setting = types.BoolValue(false)
	}
	m.AppVersion, m.ChartDigest = textOrNull(record.Origin.AppVersion), textOrNull(record.Origin.ChartDigest)
	m.ManifestSHA256 = textOrNull(record.Origin.ManifestSHA256)
	m.Changes, m.Restarts = notesList(ctx, nil, nil, diags), notesList(ctx, nil, nil, diags)
}

// otherContent reports that the chart or the manifests on record are not those
// that were applied.
func (m *releaseModel) otherContent(origin release.Origin) bool {
	return m.ChartDigest.ValueString() != origin.ChartDigest || m.ManifestSHA256.ValueString() != origin.ManifestSHA256
}

func (r *releaseResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state releaseModel
	secrets, _ := secretsOf(ctx, req.Config, &resp.Diagnostics)
	ctx = guarded(ctx, secrets)
	defer hideIn(&resp.Diagnostics, secrets)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	rel, ok := r.open(ctx, cluster, &model, deployFailed, &resp.Diagnostics)
	if !ok {
		return
	}
	own := tokenIn(ctx, req.Private, &resp.Diagnostics)
	if own == "" {
		own = rand.Text()
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(own))...)
	}
	if r.deploy(ctx, cluster, rel, &model, &state, own, secrets, &resp.Diagnostics); resp.Diagnostics.HasError() {
		// The state keeps the settings of before: those that may not be in force
		// have to be in the next plan again.
		return
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *releaseResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model releaseModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	next, d := req.Private.GetKey(ctx, successor)
	resp.Diagnostics.Append(d...)
	if slices.Equal(next, quote(model.ID.ValueString())) {
		// What is deployed right after goes on from what is there: a first apply
		// that failed is tainted, and what it has taken over must not go for it.
		r.session.held.Store(model.ID.ValueString(), true)
		return
	}
	const summary = "Unable to Uninstall the Release"
	rel, ok := r.open(ctx, cluster, &model, summary, &resp.Diagnostics)
	if !ok {
		return
	}
	in, err := recordedInputs(rel.Record())
	if err != nil {
		problem(&resp.Diagnostics, summary, err)
		return
	}
	if own := tokenIn(ctx, req.Private, &resp.Diagnostics); own != "" && in.Token != "" && own != in.Token {
		resp.Diagnostics.AddWarning("Release "+model.ID.ValueString()+" Stays", "Another resource has taken it over, which keeps all of its objects.")
		return
	}
	model.uninstall(ctx, rel, summary, &resp.Diagnostics)
}

// uninstall removes a release, and tells what of it stays.
func (m *releaseModel) uninstall(ctx context.Context, rel *release.Release, summary string, diags *diag.Diagnostics) {
	options := release.UninstallOptions{DeleteCRDs: m.PruneCRDs.ValueBool(), SkipHooks: m.SkipDeleteHooks.ValueBool()}
	if deadline, limited := ctx.Deadline(); limited {
		options.HookTimeout = time.Until(deadline)
	}
	kept, err := rel.Uninstall(ctx, options)
	if err != nil {
		problem(diags, summary, err)
		return
	}
	if len(kept) > 0 {
		diags.AddWarning("Objects of Release "+m.ID.ValueString()+" Stay", strings.Join(kept, "\n"))
	}
}

package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

var (
	_ meshResource                        = (*injectionResource)(nil)
	_ resource.ResourceWithValidateConfig = (*injectionResource)(nil)
)

type injectionResource struct{ resourceBase }

func newInjectionResource() resource.Resource {
	return &injectionResource{resourceBase{noun: "injection", identity: "`<mesh>/<namespace>`, or `<mesh>/<namespace>/<kind>/<name>` for one workload."}}
}

func (r *injectionResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Enrols a namespace, or one workload of it, in a mesh, restarts what already runs, and waits until every pod that can be " +
			"meshed has a proxy. Pods are looked at, not annotations: a pod that slipped past the injector, or whose proxy is not the one that it would " +
			"be given now, is in the next plan's `drift`, and its workload is restarted by the apply. Pods that are right are left alone, also by an " +
			"apply that goes on where another has failed: Terraform calls that a replacement, but no pod leaves the mesh for it.\n\n" +
			"A plan refuses an enrolment that could not succeed, and warns of workloads that it restarts and of pods that it leaves out.\n\n" +
			"Only the labels and annotations named here are owned, by server-side apply; everything else of the object stays with whoever manages it. " +
			"Destroying the resource gives them up and restarts the workloads without a proxy, unless another enrolment has taken the object over, " +
			"as with `create_before_destroy`: the annotation `" + mesh.TokenAnnotation + "` of the object tells one from the other.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<mesh>/<namespace>`, or `<mesh>/<namespace>/<kind>/<name>` for one workload."),
			"namespace": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Namespace to enrol, or that of `workload`. It must exist. Changing it enrols anew.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"workload": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "One workload to enrol instead of the whole namespace. Changing it enrols anew.",
				PlanModifiers:       []planmodifier.Object{objectplanmodifier.RequiresReplace()},
				Attributes: map[string]schema.Attribute{
					"kind": schema.StringAttribute{
						Required:            true,
						MarkdownDescription: "`Deployment`, `StatefulSet` or `DaemonSet`.",
						Validators:          []validator.String{stringvalidator.OneOf(workloadKinds()...)},
					},
					"name": schema.StringAttribute{Required: true, MarkdownDescription: "Its name.", Validators: []validator.String{stringvalidator.LengthBetween(1, 253)}},
				},
			},
			"mesh": meshAttribute("The mesh to enrol in: exactly one of `linkerd` and `istio`. Changing from one to the other enrols anew; any other change restarts the pods that it is about.",
				objectplanmodifier.RequiresReplaceIf(enrolsAnew, "Changing the mesh enrols anew.", "Changing the mesh enrols anew.")),
			"follows": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Values whose change makes the apply look at the pods again, after what they come from has been applied: " +
					"`[aksmesh_linkerd.this.version, aksmesh_trust_anchor.this.bundle_pem]`. An upgrade of the control plane, or new trust roots, and the " +
					"restarts that they call for are then one apply. Pods that are right already are not restarted.",
			},
			"restart": restartAttribute(inNamespace()),
			"force_conflicts": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether an apply takes labels and annotations over that another field manager has set to something else. " +
					"Default `false`: that is an error which names the other manager. What this enrolment has set before and somebody else has changed since " +
					"is in `drift`, and is changed back in any case.",
			},
			"drift":       driftAttribute("marks that were changed, pods without a proxy, and pods whose proxy is not the one that they would be given now, each with the reasons"),
			"meshed_pods": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods in the mesh."},
			"total_pods":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods that should be, those included that no restart of ours reaches; these are in `skipped`, too."},
			"stale_pods":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of pods in the mesh that would be otherwise if they were made now."},
			"skipped":     skippedAttribute(),
			"restarts": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Workloads that the last apply has restarted, each with the number of its pods that were not as they should be, and why. In a plan that " +
					"repairs `drift`, those that it is going to restart. Those of any other plan depend on what the cluster is like when it is applied, so that it shows them as a warning.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

func workloadKinds() []string {
	return []string{kube.Deployment.Name, kube.StatefulSet.Name, kube.DaemonSet.Name}
}

// controlPlaneAttribute says where to find the control plane.
func controlPlaneAttribute(namespace string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(namespace),
		MarkdownDescription: "Namespace of the control plane. Default `" + namespace + "`.",
		Validators:          []validator.String{dnsLabel()},
	}
}

// enrolsAnew reports whether the plan leaves one mesh for the other. It has to
// assume so while it is not known which one is chosen: Terraform takes a
// replacement that turns out to be none, but not the other way round.
func enrolsAnew(ctx context.Context, req planmodifier.ObjectRequest, resp *objectplanmodifier.RequiresReplaceIfFuncResponse) {
	before := readMesh(ctx, req.StateValue, req.Path, &resp.Diagnostics).dialect.name
	after := readMesh(ctx, req.PlanValue, req.Path, &resp.Diagnostics).dialect.name
	resp.RequiresReplace = after != before
}

type injectionModel struct {
	commonModel
	podsModel
	Namespace      types.String `tfsdk:"namespace"`
	Workload       types.Object `tfsdk:"workload"`
	Mesh           types.Object `tfsdk:"mesh"`
	Follows        types.List   `tfsdk:"follows"`
	Restart        types.Object `tfsdk:"restart"`
	ForceConflicts types.Bool   `tfsdk:"force_conflicts"`
	Drift          types.List   `tfsdk:"drift"`
}

type workloadModel struct {
	Kind types.String `tfsdk:"kind"`
	Name types.String `tfsdk:"name"`
}

var workloadTypes = map[string]attr.Type{"kind": types.StringType, "name": types.StringType}

// enrolment turns the model into the domain's terms. Without diagnostics, its
// mesh is nil as long as a part of the model's is unknown.
func (r *injectionResource) enrolment(ctx context.Context, cluster *kube.Cluster, m *injectionModel, diags *diag.Diagnostics) mesh.Enrolment {
	e := mesh.Enrolment{
		Cluster: cluster,
		Mesh:    meshOf(ctx, m.Mesh, diags),
		Target:  mesh.Target{Namespace: m.Namespace.ValueString()},
		Policy:  restartPolicy(ctx, m.Restart, m.Namespace.ValueString(), diags),
		Force:   m.ForceConflicts.ValueBool(),
		Now:     r.session.time(),
		Log:     func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) },
	}
	e.Others = otherMeshes(e.Mesh)
	if !m.Workload.IsNull() {
		var w workloadModel
		diags.Append(m.Workload.As(ctx, &w, objectAsOptions)...)
		e.Target.Workload = kube.Ref{Kind: workloadKind(w.Kind.ValueString()), Namespace: e.Target.Namespace, Name: w.Name.ValueString()}
	}
	return e
}

// former is the mark that the enrolment of a state has written.
func (m *injectionModel) former(ctx context.Context, target mesh.Target, diags *diag.Diagnostics) mesh.Mark {
	switch before := meshOf(ctx, m.Mesh, diags); {
	case before == nil:
		return mesh.Mark{}
	case target.WholeNamespace():
		return before.NamespaceMark()
	default:
		return before.WorkloadMark()
	}
}

func workloadKind(name string) kube.Kind {
	switch name {
	case kube.StatefulSet.Name:
		return kube.StatefulSet
	case kube.DaemonSet.Name:
		return kube.DaemonSet
	default:
		return kube.Deployment
	}
}

// injectionID is the ID of an enrolment, which readImported takes apart.
func injectionID(e mesh.Enrolment) string {
	id := strings.ToLower(e.Mesh.Name()) + "/" + e.Target.Namespace
	if !e.Target.WholeNamespace() {
		id += "/" + e.Target.Workload.Kind.Name + "/" + e.Target.Workload.Name
	}
	return id
}

// observe fills in what the pods show.
func (m *injectionModel) observe(ctx context.Context, survey mesh.Survey, marks []string, diags *diag.Diagnostics) {
	m.show(ctx, survey, diags)
	m.Drift = notesList(ctx, marks, survey.Wrong, diags)
}

func notesList(ctx context.Context, lines []string, notes []mesh.PodNote, diags *diag.Diagnostics) types.List {
	all := append([]string{}, lines...)
	for _, note := range notes {
		all = append(all, "Pod "+note.String())
	}
	value, d := types.ListValueFrom(ctx, types.StringType, all)
	diags.Append(d...)
	return value
}

// ValidateConfig refuses settings of a namespace's enrolment that no namespace
// can carry.
func (r *injectionResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model injectionModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || !model.Workload.IsNull() || model.Mesh.IsNull() {
		return
	}
	// What else is wrong with them is the attribute's own to say.
	reading := readMesh(ctx, model.Mesh, path.Root("mesh"), &diag.Diagnostics{})
	for _, at := range reading.templateOnly() {
		problemAt(&resp.Diagnostics, at, "Setting of Workloads Only",
			fmt.Errorf("%s reads it from pod templates only, never from a namespace; enrol the workload instead", reading.dialect.title))
	}
}

// pendingRestarts is the key of the private state under which Read keeps the
// restarts that a repair of what it has found takes. A plan must not look for
// itself: Terraform makes it again when it applies it, and refuses one that has
// come out otherwise because the cluster has changed in between.
const pendingRestarts = "restarts"

// successor is the key of the private state under which the plan of a creation
// keeps the ID of what is created. Terraform hands it over, too, when it first
// deletes what the creation replaces: a failed enrolment is tainted, and to give
// it up would bring all pods out of the mesh that the next apply brings in again.
const successor = "successor"

// token is the key of the private state under which an enrolment keeps what it
// has marked its target with to know it again. A resource that is replaced only
// once its successor is there is deleted without a plan that knows of that one.
const token = "token"

// privateState is what each operation is given of it.
type privateState interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

// tokenIn reads the token of an enrolment; empty if there is none.
func tokenIn(ctx context.Context, private privateState, diags *diag.Diagnostics) string {
	kept, d := private.GetKey(ctx, token)
	diags.Append(d...)
	var text string
	if json.Unmarshal(kept, &text) != nil {
		return ""
	}
	return text
}

// ModifyPlan promises an enrolment without drift, keeps what is known of the
// pods when nothing is going to change, and otherwise tells what the apply will
// meet.
func (r *injectionResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, []byte("null"))...)
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan injectionModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	var state *injectionModel
	if !req.State.Raw.IsNull() {
		state = &injectionModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
		plan.ID = state.ID
	}
	if resp.Diagnostics.HasError() {
		return
	}
	plan.Drift = noDrift()
	same := state != nil && plan.Mesh.Equal(state.Mesh) && plan.Follows.Equal(state.Follows)
	if same && state.Drift.Equal(plan.Drift) {
		plan.podsModel = state.podsModel
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	plan.podsModel = unknownPods()
	if same {
		plan.Restarts = pendingOf(ctx, req.Private, &resp.Diagnostics)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if !fullyKnown(ctx, plan.Namespace, plan.Workload, plan.Mesh) {
		return
	}
	cluster, _ := r.knownCluster()
	e := r.enrolment(ctx, cluster, &plan, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if state == nil {
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, quote(injectionID(e)))...)
	}
	if cluster != nil {
		lookAhead(ctx, e, &plan, state, &resp.Diagnostics)
	}
}

// quote is a string in JSON.
func quote(text string) []byte { return strconv.AppendQuote(nil, text) }

// pendingOf reads what Read has kept; unknown if there is nothing.
func pendingOf(ctx context.Context, private privateState, diags *diag.Diagnostics) types.List {
	kept, d := private.GetKey(ctx, pendingRestarts)
	diags.Append(d...)
	var lines []string
	if json.Unmarshal(kept, &lines) != nil {
		return types.ListUnknown(types.StringType)
	}
	return notesList(ctx, lines, nil, diags)
}

// lookAhead reports what stands in the way of a plan, and which workloads it
// restarts. It fails the plan only if the apply could not but fail: what is not
// there yet may be made by the same apply, and what may not be read now does not
// keep others from being planned.
func lookAhead(ctx context.Context, e mesh.Enrolment, plan, state *injectionModel, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if state != nil {
		e.Former = state.former(ctx, e.Target, diags)
	}
	findings, err := e.Examine(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		return
	}
	if err != nil {
		diags.AddWarning(fmt.Sprintf("Unable to Look Ahead at %s", e.Target), explain(err))
		return
	}
	// The control plane changes first, and with it what stands in the way.
	follows := !fullyKnown(ctx, plan.Follows) || state != nil && !plan.Follows.Equal(state.Follows)
	report(e.Target, follows, findings, diags)
	switch {
	case diags.HasError():
		return
	case state != nil && !follows && plan.Mesh.Equal(state.Mesh):
		return // It is a repair, and in the plan itself.
	}
	var title string
	var lines []string
	if follows {
		title = fmt.Sprintf("What %s Follows May Restart Workloads", e.Target)
		var may []kube.Ref
		may, err = e.MayRestart(ctx)
		for _, ref := range may {
			lines = append(lines, "may restart: "+ref.String())
		}
	} else {
		title = fmt.Sprintf("Enrolling %s Restarts Workloads", e.Target)
		var foreseen mesh.Survey
		foreseen, err = e.Foresee(ctx)
		lines = restartLines(foreseen.Restarts)
	}
	switch {
	case err != nil:
		diags.AddWarning(fmt.Sprintf("Unable to Look Ahead at %s", e.Target), explain(err))
	case len(lines) > 0:
		diags.AddWarning(title, strings.Join(lines, "\n"))
	}
}

// report turns findings into errors at the attributes that they are about, and
// into one warning, in which those are too that may be over by the apply.
func report(target mesh.Target, passing bool, findings []mesh.Finding, diags *diag.Diagnostics) {
	var lines []string
	for _, finding := range findings {
		if !finding.Fatal || passing {
			lines = append(lines, finding.String())
			continue
		}
		at := path.Root("workload")
		if target.WholeNamespace() || finding.About.Kind == kube.Namespace {
			at = path.Root("namespace")
		}
		problemAt(diags, at, "Unable to Enrol "+target.String(), errors.New(finding.String()))
	}
	if len(lines) > 0 {
		diags.AddWarning(fmt.Sprintf("What Stands in the Way of %s", target), strings.Join(lines, "\n"))
	}
}

func (r *injectionResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	e.Token = rand.Text()
	if resp.Diagnostics.HasError() {
		return
	}
	survey, marked := r.enrol(ctx, e, &model, &resp.Diagnostics)
	if !marked {
		return
	}
	// The mark is there: from here on state has to know of it, whatever happens.
	model.ID = types.StringValue(injectionID(e))
	model.observe(ctx, survey, nil, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, successor, []byte("null"))...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(e.Token))...)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// enrol marks the target and settles its pods, and tells whether the mark is
// there, be it from an apply before.
func (r *injectionResource) enrol(ctx context.Context, e mesh.Enrolment, model *injectionModel, diags *diag.Diagnostics) (survey mesh.Survey, marked bool) {
	foreseen, err := e.Foresee(ctx)
	if err == nil {
		err = e.Mark(ctx)
	}
	model.restarted(ctx, foreseen.Restarts, diags)
	if err != nil {
		problem(diags, "Unable to Enrol "+e.Target.String(), err)
		// Terraform is waiting for the end if it has cancelled the operation.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		lacking, err := e.Marked(ctx)
		return mesh.Survey{}, err == nil && len(lacking) == 0
	}
	if survey, err = e.Settle(ctx); err != nil {
		problem(diags, "Unable to Bring Pods Into the Mesh", err)
		return survey, true
	}
	warnSkipped(e.Target.String(), survey.Skipped, diags)
	return survey, true
}

func (r *injectionResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	imported := model.Mesh.IsNull()
	if imported && !r.readImported(ctx, cluster, &model, &resp.Diagnostics) {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	seen, err := look(ctx, e)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		forget(ctx, resp, model.ID)
		return
	case err != nil:
		problem(&resp.Diagnostics, "Unable to Read Enrolment", err)
		return
	case imported && len(seen.marks) > 0:
		problemAt(&resp.Diagnostics, path.Root("id"), "Unable to Import Enrolment", fmt.Errorf("%s is not enrolled in %s: %s", e.Target, e.Mesh.Name(), strings.Join(seen.marks, ", ")))
		return
	}
	model.ID = types.StringValue(injectionID(e))
	if model.ForceConflicts.IsNull() {
		model.ForceConflicts = types.BoolValue(false)
	}
	if model.Restarts.IsNull() {
		model.Restarts = notesList(ctx, nil, nil, &resp.Diagnostics)
	}
	model.observe(ctx, seen.survey, seen.marks, &resp.Diagnostics)
	pending, err := json.Marshal(restartLines(seen.repair))
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Enrolment", err)
		return
	}
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, pendingRestarts, pending)...)
	if tokenIn(ctx, req.Private, &resp.Diagnostics) == "" && seen.token != "" {
		// It was imported, or is of a version that kept none.
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(seen.token))...)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// A sight is what an enrolment looks like.
type sight struct {
	marks  []string // that are not as written
	token  string   // that it bears
	survey mesh.Survey
	repair []mesh.Restart // that an apply makes
}

func look(ctx context.Context, e mesh.Enrolment) (seen sight, err error) {
	if seen.marks, err = e.Marked(ctx); err != nil {
		return seen, err
	}
	if seen.token, err = e.LiveToken(ctx); err != nil {
		return seen, err
	}
	if seen.survey, err = e.Survey(ctx); err != nil {
		return seen, err
	}
	seen.repair = seen.survey.Restarts
	if len(seen.marks) > 0 {
		marked, err := e.Foresee(ctx)
		if err != nil {
			return seen, err
		}
		seen.repair = marked.Restarts
	}
	return seen, nil
}

// readImported builds the model of an enrolment of which only the ID is known,
// from the marks that its target carries.
func (r *injectionResource) readImported(ctx context.Context, cluster *kube.Cluster, m *injectionModel, diags *diag.Diagnostics) bool {
	parts := strings.Split(m.ID.ValueString(), "/")
	if (len(parts) != 2 && len(parts) != 4) || (parts[0] != "linkerd" && parts[0] != "istio") {
		diags.AddAttributeError(path.Root("id"), "Invalid Enrolment ID",
			fmt.Sprintf("%q is neither <mesh>/<namespace> nor <mesh>/<namespace>/<kind>/<name>, with linkerd or istio as the mesh.", m.ID.ValueString()))
		return false
	}
	target := mesh.Target{Namespace: parts[1]}
	m.Namespace = types.StringValue(parts[1])
	m.Workload = types.ObjectNull(workloadTypes)
	if len(parts) == 4 {
		target.Workload = kube.Ref{Kind: workloadKind(parts[2]), Namespace: parts[1], Name: parts[3]}
		if target.Workload.Kind.Name != parts[2] {
			diags.AddAttributeError(path.Root("id"), "Invalid Enrolment ID", fmt.Sprintf("%q is not one of %s.", parts[2], strings.Join(workloadKinds(), ", ")))
			return false
		}
		m.Workload = objectFrom(ctx, workloadTypes, workloadModel{Kind: types.StringValue(parts[2]), Name: types.StringValue(parts[3])}, diags)
	}
	mark, err := mesh.Enrolment{Cluster: cluster, Target: target}.Found(ctx)
	if err != nil {
		problemAt(diags, path.Root("id"), "Unable to Import Enrolment", err)
		return false
	}
	m.Mesh = meshFound(ctx, parts[0], mark, diags)
	return !diags.HasError()
}

func (r *injectionResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, state injectionModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	e.Former = state.former(ctx, e.Target, &resp.Diagnostics)
	if e.Token = tokenIn(ctx, req.Private, &resp.Diagnostics); e.Token == "" {
		e.Token = rand.Text()
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, token, quote(e.Token))...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	survey, _ := r.enrol(ctx, e, &model, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		// The state keeps the settings of before: pods that may still run by them
		// have to be in the next plan again.
		return
	}
	if model.MeshedPods.IsUnknown() {
		model.observe(ctx, survey, nil, &resp.Diagnostics)
	}
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *injectionResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model injectionModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	next, d := req.Private.GetKey(ctx, successor)
	resp.Diagnostics.Append(d...)
	e := r.enrolment(ctx, cluster, &model, &resp.Diagnostics)
	e.Token = tokenIn(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() || slices.Equal(next, quote(injectionID(e))) {
		return // What is enrolled right after stays so.
	}
	staying, err := e.Withdraw(ctx)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Withdraw "+e.Target.String(), err)
		return
	}
	if len(staying) > 0 {
		resp.Diagnostics.AddWarning("Pods Stay in the Mesh", fmt.Sprintf(
			"The enrolment is given up, but these keep their proxies: %s.", strings.Join(staying, "; ")))
	}
}

package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// The attribute `mesh` of everything that enrols pods. Its schema, its checks
// and its decoding all come from one table of settings for each mesh, so that a
// function, which is given values without a schema, takes the very same.

// Settings of the enrolment itself.
const (
	controlPlaneSetting = "control_plane_namespace"
	ingressSetting      = "ingress"
	revisionSetting     = "revision"
	modeSetting         = "mode"
)

// meshDialect is how configurations speak of one mesh.
type meshDialect struct {
	name, title string // of the attribute, and in messages
	description string
	// own are said of the enrolment itself, settings of its proxies.
	own, settings []mesh.Setting
	// defaults are those of Texts in own.
	defaults map[string]string
	// conflicts finds known values that do not go together.
	conflicts func(values map[string]any) []*mesh.SettingError
	// enrol builds the mesh from the values of own and the annotations of settings.
	enrol func(values map[string]any, annotations map[string]string) mesh.Mesh
	// found reads both back from a mark.
	found func(mesh.Mark) (values map[string]any, annotations map[string]string)
}

func meshDialects() []meshDialect { return []meshDialect{linkerdDialect(), istioDialect()} }

func linkerdDialect() meshDialect {
	settings := linkerd.Settings()
	return meshDialect{
		name: "linkerd", title: "Linkerd",
		description: "Linkerd, by the annotation `linkerd.io/inject`. What is left out is as the control plane has it.",
		own: []mesh.Setting{
			controlPlaneOf(linkerd.DefaultNamespace),
			{
				Name: ingressSetting, Type: mesh.Switch,
				Description: "Whether the proxies route by the header `l5d-dst-override` instead of by where a request was sent, as ingress controllers need it. Default `false`.",
			},
		},
		settings:  settings,
		defaults:  map[string]string{controlPlaneSetting: linkerd.DefaultNamespace},
		conflicts: linkerd.Conflicts,
		enrol: func(values map[string]any, annotations map[string]string) mesh.Mesh {
			return linkerd.Injection{Namespace: textOf(values, controlPlaneSetting), Ingress: values[ingressSetting] == true, Settings: annotations}
		},
		found: func(mark mesh.Mark) (map[string]any, map[string]string) {
			i := linkerd.InjectionOf(mark)
			values := map[string]any{}
			if i.Ingress {
				values[ingressSetting] = true
			}
			return values, i.Settings
		},
	}
}

func istioDialect() meshDialect {
	settings := istio.Settings()
	return meshDialect{
		name: "istio", title: "Istio",
		description: "Istio: with sidecars, a namespace by the label `istio-injection` or `istio.io/rev` and a workload by `sidecar.istio.io/inject`; " +
			"in ambient mode both by `istio.io/dataplane-mode`. What is left out is as the control plane has it.",
		own: []mesh.Setting{
			{
				Name: controlPlaneSetting, Type: mesh.Text, Check: checkLabel,
				Description: "Namespace of the control plane. Left out, it is that of the istiod which injects by the revision or tag, that of AKS's Istio add-on included; " +
					"if there are several, the one in `" + istio.DefaultNamespace + "`.",
			},
			{
				Name: revisionSetting, Type: mesh.Text, Check: checkLabel,
				Description: "Revision or tag of the control plane that injects. Default: the default revision, which the Istio add-on of AKS does not have: name one of its revisions. Sidecars only.",
			},
			{
				Name: modeSetting, Type: mesh.Text, Choices: []string{string(mesh.Sidecar), string(mesh.Ambient)},
				Description: "`sidecar` gives each pod a proxy of its own, `ambient` has the proxy of the node take the pods in as they are, without a restart. Default `sidecar`. A change restarts what has a sidecar or is to have one.",
			},
		},
		settings: settings,
		defaults: map[string]string{modeSetting: string(mesh.Sidecar)},
		conflicts: func(values map[string]any) []*mesh.SettingError {
			found := mesh.RequestsAboveLimits(values)
			if values[modeSetting] != string(mesh.Ambient) {
				return found
			}
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if name == revisionSetting || slices.ContainsFunc(settings, func(s mesh.Setting) bool { return s.Name == name }) {
					found = append(found, &mesh.SettingError{Name: name, Err: errors.New("it is about sidecars, and pods in ambient mode have none; leave it out, or use mode sidecar")})
				}
			}
			return found
		},
		enrol: func(values map[string]any, annotations map[string]string) mesh.Mesh {
			return istio.Injection{
				Namespace: textOf(values, controlPlaneSetting),
				Revision:  textOf(values, revisionSetting),
				Ambient:   values[modeSetting] == string(mesh.Ambient),
				Settings:  annotations,
			}
		},
		found: func(mark mesh.Mark) (map[string]any, map[string]string) {
			i := istio.InjectionOf(mark)
			values := map[string]any{}
			if i.Ambient {
				values[modeSetting] = string(mesh.Ambient)
			}
			if i.Revision != "" {
				values[revisionSetting] = i.Revision
			}
			return values, i.Settings
		},
	}
}

// otherMeshes are the meshes that must not claim a pod of this one.
func otherMeshes(m mesh.Mesh) []mesh.Mesh {
	if _, ok := m.(istio.Injection); ok {
		return []mesh.Mesh{linkerd.Injection{Namespace: linkerd.DefaultNamespace}}
	}
	return []mesh.Mesh{istio.Injection{}, istio.Injection{Ambient: true}}
}

func controlPlaneOf(namespace string) mesh.Setting {
	return mesh.Setting{
		Name: controlPlaneSetting, Type: mesh.Text, Check: checkLabel,
		Description: "Namespace of the control plane. Default `" + namespace + "`.",
	}
}

func checkLabel(value string) error {
	if !dnsLabelPattern.MatchString(value) {
		return fmt.Errorf("%q is not a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit", value)
	}
	return nil
}

func textOf(values map[string]any, name string) string {
	text, _ := values[name].(string)
	return text
}

// meshAttribute is the attribute `mesh`.
func meshAttribute(description string, modifiers ...planmodifier.Object) schema.SingleNestedAttribute {
	attributes := map[string]schema.Attribute{}
	for _, d := range meshDialects() {
		nested := map[string]schema.Attribute{}
		for _, s := range slices.Concat(d.own, d.settings) {
			nested[s.Name] = settingAttribute(s, d)
		}
		attributes[d.name] = schema.SingleNestedAttribute{Optional: true, MarkdownDescription: d.description, Attributes: nested}
	}
	return schema.SingleNestedAttribute{
		Required:            true,
		MarkdownDescription: description,
		Attributes:          attributes,
		Validators:          []validator.Object{meshValidator{}},
		PlanModifiers:       modifiers,
	}
}

// settingAttribute is the attribute of one setting. What its values may be is
// checked with all others of the mesh.
func settingAttribute(s mesh.Setting, of meshDialect) schema.Attribute {
	switch s.Type {
	case mesh.Number:
		return schema.Int64Attribute{Optional: true, MarkdownDescription: s.Description}
	case mesh.Switch:
		return schema.BoolAttribute{Optional: true, MarkdownDescription: s.Description}
	case mesh.Ports, mesh.Texts:
		return schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: s.Description}
	case mesh.Variables:
		// Labels of traces are public; other variables may be anything.
		return schema.MapAttribute{Optional: true, Sensitive: !s.Prefix, ElementType: types.StringType, MarkdownDescription: s.Description}
	default:
		preset, is := of.defaults[s.Name]
		if !is {
			return schema.StringAttribute{Optional: true, MarkdownDescription: s.Description}
		}
		return schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString(preset), MarkdownDescription: s.Description}
	}
}

// restartScope is what the attribute `restart` is about: the workloads of one
// namespace, or those of all.
type restartScope struct {
	parallel int // how many roll at the same time by default; 0 is all
	spelling string
	example  string
	path     validator.String
}

func inNamespace() restartScope {
	return restartScope{spelling: "<kind>/<name>", example: `["StatefulSet/alpha", "Deployment/web"]`, path: workloadPath()}
}

func everywhere() restartScope {
	return restartScope{
		parallel: 10, spelling: "<kind>/<namespace>/<name>", example: `["StatefulSet/dgraph/alpha", "Deployment/shop/web"]`,
		path: namespacedWorkloadPath(),
	}
}

// restartAttribute is the attribute `restart`, about the restarts of workloads.
func restartAttribute(of restartScope) schema.SingleNestedAttribute {
	parallel, roll := "all", "all roll"
	if of.parallel > 0 {
		parallel = strconv.Itoa(of.parallel)
		roll = parallel + " roll"
	}
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "How workloads are restarted that have to be. Left out, " + roll + " at the same time, each by its own update strategy, " +
			"and none takes down more than the PodDisruptionBudgets of its pods allow.",
		Attributes: map[string]schema.Attribute{
			"max_parallel": schema.Int64Attribute{
				Optional:            true,
				MarkdownDescription: "How many workloads roll at the same time. Default: " + parallel + ".",
				Validators:          []validator.Int64{int64validator.AtLeast(1)},
			},
			"order": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Workloads that go first, one after the other, each as `" + of.spelling + "`: `" + of.example + "`. The others follow together.",
				Validators:          []validator.List{listvalidator.UniqueValues(), listvalidator.ValueStringsAre(of.path)},
			},
			"ignore_disruption_budgets": schema.BoolAttribute{
				Optional:            true,
				MarkdownDescription: "Whether to restart also what a PodDisruptionBudget does not allow now. Default `false`.",
			},
		},
	}
}

type restartModel struct {
	MaxParallel   types.Int64 `tfsdk:"max_parallel"`
	Order         types.List  `tfsdk:"order"`
	IgnoreBudgets types.Bool  `tfsdk:"ignore_disruption_budgets"`
}

// restartPolicy reads the attribute `restart` for workloads of a namespace.
func restartPolicy(ctx context.Context, value types.Object, namespace string, diags *diag.Diagnostics) mesh.RestartPolicy {
	return readRestart(ctx, value, inNamespace(), func(kind, name string) kube.Ref {
		return kube.Ref{Kind: workloadKind(kind), Namespace: namespace, Name: name}
	}, diags)
}

// restartPolicyEverywhere reads the attribute `restart` for workloads of all
// namespaces.
func restartPolicyEverywhere(ctx context.Context, value types.Object, diags *diag.Diagnostics) mesh.RestartPolicy {
	return readRestart(ctx, value, everywhere(), func(kind, path string) kube.Ref {
		namespace, name, _ := strings.Cut(path, "/")
		return kube.Ref{Kind: workloadKind(kind), Namespace: namespace, Name: name}
	}, diags)
}

func readRestart(ctx context.Context, value types.Object, scope restartScope, refOf func(kind, rest string) kube.Ref, diags *diag.Diagnostics) mesh.RestartPolicy {
	policy := mesh.RestartPolicy{MaxParallel: scope.parallel}
	if value.IsNull() || !fullyKnown(ctx, value) {
		return policy // Plans restart nothing.
	}
	var m restartModel
	diags.Append(value.As(ctx, &m, objectAsOptions)...)
	if !m.MaxParallel.IsNull() {
		policy.MaxParallel = int(m.MaxParallel.ValueInt64())
	}
	policy.IgnoreBudgets = m.IgnoreBudgets.ValueBool()
	for _, entry := range stringList(ctx, m.Order, diags) {
		kind, rest, _ := strings.Cut(entry, "/")
		policy.Order = append(policy.Order, refOf(kind, rest))
	}
	return policy
}

// workloadPath accepts a workload of a namespace as `Deployment/web`.
func workloadPath() validator.String {
	return workloadAs("Deployment/web", func(path string) []string { return validation.IsDNS1123Subdomain(path) })
}

// namespacedWorkloadPath accepts a workload as `Deployment/shop/web`.
func namespacedWorkloadPath() validator.String {
	return workloadAs("Deployment/shop/web", func(path string) []string {
		namespace, name, _ := strings.Cut(path, "/")
		return append(validation.IsDNS1123Label(namespace), validation.IsDNS1123Subdomain(name)...)
	})
}

func workloadAs(example string, check func(path string) []string) validator.String {
	return checked{
		description: "a workload such as " + example + "; kinds are " + strings.Join(workloadKinds(), ", "),
		check: func(value string) error {
			kind, path, _ := strings.Cut(value, "/")
			if !slices.Contains(workloadKinds(), kind) {
				return fmt.Errorf("%q is no kind of workload", kind)
			}
			return complaints(check(path))
		},
	}
}

// podsModel is what resources that bring pods into a mesh show of them. Plans
// keep or lose all of it together.
type podsModel struct {
	MeshedPods types.Int64 `tfsdk:"meshed_pods"`
	TotalPods  types.Int64 `tfsdk:"total_pods"`
	StalePods  types.Int64 `tfsdk:"stale_pods"`
	Skipped    types.List  `tfsdk:"skipped"`
	Restarts   types.List  `tfsdk:"restarts"`
}

// unknownPods leaves the pods to the apply.
func unknownPods() podsModel {
	return podsModel{
		MeshedPods: types.Int64Unknown(), TotalPods: types.Int64Unknown(), StalePods: types.Int64Unknown(),
		Skipped: types.ListUnknown(types.ObjectType{AttrTypes: podNoteTypes}), Restarts: types.ListUnknown(types.StringType),
	}
}

// show fills in what the pods show.
func (m *podsModel) show(ctx context.Context, survey mesh.Survey, diags *diag.Diagnostics) {
	m.MeshedPods = types.Int64Value(int64(survey.Meshed))
	m.TotalPods = types.Int64Value(int64(survey.Total))
	m.StalePods = types.Int64Value(int64(survey.Stale))
	m.Skipped = skippedList(ctx, survey.Skipped, diags)
}

// restarted notes the restarts of an apply, unless the plan has told them.
func (m *podsModel) restarted(ctx context.Context, restarts []mesh.Restart, diags *diag.Diagnostics) {
	if m.Restarts.IsUnknown() {
		m.Restarts = notesList(ctx, restartLines(restarts), nil, diags)
	}
}

// The lists of what there is to say of single pods.
var podNoteTypes = map[string]attr.Type{"pod": types.StringType, "owner": types.StringType, "reason": types.StringType}

type podNoteModel struct {
	Pod    types.String `tfsdk:"pod"`
	Owner  types.String `tfsdk:"owner"`
	Reason types.String `tfsdk:"reason"`
}

// skippedAttribute lists the pods that stay outside of the mesh.
func skippedAttribute() schema.ListNestedAttribute {
	return schema.ListNestedAttribute{
		Computed:            true,
		MarkdownDescription: "Pods that stay outside of the mesh, or as they are in it, because it never takes them in or because no restart of this provider makes them anew.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"pod":    computedString("Its name."),
			"owner":  computedString("What manages it in the end, as `<kind> <namespace>/<name>`; the pod itself if nothing does."),
			"reason": computedString("Why."),
		}},
	}
}

// skippedList is the value of skippedAttribute.
func skippedList(ctx context.Context, notes []mesh.PodNote, diags *diag.Diagnostics) types.List {
	skipped := make([]podNoteModel, len(notes))
	for i, note := range notes {
		skipped[i] = podNoteModel{types.StringValue(note.Pod), types.StringValue(note.Owner.String()), types.StringValue(note.Reason)}
	}
	list, d := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: podNoteTypes}, skipped)
	diags.Append(d...)
	return list
}

// warnSkipped tells after an apply which pods of a target it has left as they are.
func warnSkipped(target string, notes []mesh.PodNote, diags *diag.Diagnostics) {
	lines := make([]string, len(notes))
	for i, note := range notes {
		lines[i] = fmt.Sprintf("%s: pod %s", note.Owner, note)
	}
	warnLeftOut(target, lines, diags)
}

// warnLeftOut tells what of a target does not join the mesh. The summary names
// the target, as Terraform shows only the first of several warnings that have
// the same.
func warnLeftOut(target string, lines []string, diags *diag.Diagnostics) {
	if len(lines) > 0 {
		diags.AddWarning(fmt.Sprintf("Pods of %s Left Out of the Mesh", target), strings.Join(lines, "\n"))
	}
}

// restartLines are the restarts of a survey as an attribute has them.
func restartLines(restarts []mesh.Restart) []string {
	lines := make([]string, len(restarts))
	for i, restart := range restarts {
		lines[i] = restart.String()
	}
	return lines
}

// meshTypes are the types of the attributes below `mesh`.
func meshTypes() map[string]attr.Type {
	types := map[string]attr.Type{}
	for name, attribute := range meshAttribute("").Attributes {
		types[name] = attribute.GetType()
	}
	return types
}

// meshValidator checks a mesh attribute before any cluster is needed.
type meshValidator struct{}

func (meshValidator) Description(context.Context) string {
	return "exactly one mesh, with settings that it understands"
}

func (v meshValidator) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (meshValidator) ValidateObject(ctx context.Context, req validator.ObjectRequest, resp *validator.ObjectResponse) {
	if !req.ConfigValue.IsNull() {
		readMesh(ctx, req.ConfigValue, req.Path, &resp.Diagnostics)
	}
}

// meshReading is what a configuration says of a mesh, as far as it is known.
type meshReading struct {
	// mesh is nil while a part is unknown or wrong.
	mesh    mesh.Mesh
	dialect meshDialect
	// values that are known and right, by the names of their settings.
	values map[string]any
	at     path.Path
}

// meshOf reads the root attribute `mesh`. It is nil, with diagnostics if
// something is wrong and without while a part is unknown.
func meshOf(ctx context.Context, value attr.Value, diags *diag.Diagnostics) mesh.Mesh {
	return readMesh(ctx, value, path.Root("mesh"), diags).mesh
}

// readMesh reads and checks an object with one attribute for the chosen mesh. It
// may be the value of an attribute or a dynamic one, which is of whatever types
// its user has written.
func readMesh(ctx context.Context, value attr.Value, at path.Path, diags *diag.Diagnostics) meshReading {
	raw, err := value.ToTerraformValue(ctx)
	if err != nil {
		problemAt(diags, at, "Invalid Mesh", err)
		return meshReading{}
	}
	if !raw.IsKnown() {
		return meshReading{}
	}
	var choices map[string]tftypes.Value
	if err := raw.As(&choices); err != nil {
		problemAt(diags, at, "Invalid Mesh", errors.New("it has to be an object such as { linkerd = {} }"))
		return meshReading{}
	}
	dialects := meshDialects()
	var chosen []meshReading
	unknown := false
	for _, name := range slices.Sorted(maps.Keys(choices)) {
		i := slices.IndexFunc(dialects, func(d meshDialect) bool { return d.name == name })
		switch choice := choices[name]; {
		case i < 0:
			problemAt(diags, at, "Invalid Mesh", fmt.Errorf("there is no mesh %q, only linkerd and istio", name))
			return meshReading{}
		case !choice.IsKnown():
			unknown = true
		case !choice.IsNull():
			chosen = append(chosen, dialects[i].read(choice, at.AtName(name), diags))
		}
	}
	if len(chosen) == 1 && !unknown {
		return chosen[0]
	}
	if len(chosen) > 1 || !unknown {
		problemAt(diags, at, "Invalid Mesh", errors.New("it takes exactly one of linkerd and istio"))
	}
	return meshReading{}
}

func (d meshDialect) read(object tftypes.Value, at path.Path, diags *diag.Diagnostics) meshReading {
	r := meshReading{dialect: d, values: map[string]any{}, at: at}
	var attributes map[string]tftypes.Value
	if err := object.As(&attributes); err != nil {
		problemAt(diags, at, "Invalid Mesh", errors.New("it has to be an object of settings"))
		return r
	}
	all := slices.Concat(d.own, d.settings)
	complete := true
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		if value.IsNull() {
			continue
		}
		if !value.IsFullyKnown() {
			complete = false
			continue
		}
		read, err := readSetting(all, name, value)
		if err != nil {
			complete = false
			problemAt(diags, at.AtName(name), "Invalid Setting", err)
			continue
		}
		r.values[name] = read
	}
	for name, preset := range d.defaults {
		if value, given := attributes[name]; !given || value.IsNull() {
			r.values[name] = preset
		}
	}
	for _, conflict := range d.conflicts(r.values) {
		complete = false
		problemAt(diags, at.AtName(conflict.Name), "Conflicting Settings", conflict.Err)
	}
	if !complete {
		return r
	}
	own := func(name string, _ any) bool {
		return slices.ContainsFunc(d.own, func(s mesh.Setting) bool { return s.Name == name })
	}
	settings := maps.Clone(r.values)
	maps.DeleteFunc(settings, own)
	annotations, err := mesh.Annotations(d.settings, settings)
	if err != nil {
		problemAt(diags, at, "Invalid Setting", err)
		return r
	}
	r.mesh = d.enrol(r.values, annotations)
	return r
}

// readSetting decodes one value and checks it.
func readSetting(all []mesh.Setting, name string, value tftypes.Value) (any, error) {
	i := slices.IndexFunc(all, func(s mesh.Setting) bool { return s.Name == name })
	if i < 0 {
		return nil, noSuchSetting(name, all)
	}
	decoded, err := settingValue(all[i].Type, value)
	if err != nil {
		return nil, err
	}
	_, err = mesh.Annotations(all[i:i+1], map[string]any{name: decoded})
	if refused, ok := errors.AsType[*mesh.SettingError](err); ok {
		return nil, refused.Err
	}
	return decoded, err
}

// noSuchSetting names the settings that may have been meant.
func noSuchSetting(name string, all []mesh.Setting) error {
	distance := func(s mesh.Setting) int { return levenshtein.Distance(name, s.Name, nil) }
	nearest := slices.SortedStableFunc(slices.Values(all), func(a, b mesh.Setting) int { return cmp.Compare(distance(a), distance(b)) })
	return fmt.Errorf("there is no such setting; the nearest are %s, %s and %s", nearest[0].Name, nearest[1].Name, nearest[2].Name)
}

// settingValue turns a value into the Go type that stands for the setting's.
func settingValue(as mesh.ValueType, value tftypes.Value) (any, error) {
	switch as {
	case mesh.Number:
		text, err := scalar(value)
		if err != nil {
			return nil, err
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return number, nil
	case mesh.Switch:
		switch text, err := scalar(value); {
		case err != nil:
			return nil, err
		case text != "true" && text != "false":
			return nil, fmt.Errorf("%q is neither true nor false", text)
		default:
			return text == "true", nil
		}
	case mesh.Ports, mesh.Texts:
		var elements []tftypes.Value
		if err := value.As(&elements); err != nil {
			return nil, errors.New("it has to be a list")
		}
		texts := make([]string, len(elements))
		for i, element := range elements {
			var err error
			if texts[i], err = scalar(element); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return texts, nil
	case mesh.Variables:
		var elements map[string]tftypes.Value
		if err := value.As(&elements); err != nil {
			return nil, errors.New("it has to be a map")
		}
		if len(elements) == 0 {
			return nil, errors.New("it is empty; leave it out, or name at least one")
		}
		variables := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(elements)) {
			text, err := scalar(elements[name])
			if err != nil {
				return nil, fmt.Errorf("element %q: %w", name, err)
			}
			variables[name] = text
		}
		return variables, nil
	default:
		return scalar(value)
	}
}

// scalar is a string, number or bool as text, as Terraform converts them.
func scalar(value tftypes.Value) (string, error) {
	switch {
	case value.IsNull():
		return "", errors.New("null is no value for it")
	case value.Type().Is(tftypes.String):
		var text string
		err := value.As(&text)
		return text, err
	case value.Type().Is(tftypes.Number):
		var number big.Float
		err := value.As(&number)
		return number.Text('f', -1), err
	case value.Type().Is(tftypes.Bool):
		var on bool
		err := value.As(&on)
		return strconv.FormatBool(on), err
	default:
		return "", errors.New("it has to be a string, a number or a bool")
	}
}

// templateOnly are the settings in force that a mesh reads from pod templates and
// never from a namespace.
func (r meshReading) templateOnly() []path.Path {
	var found []path.Path
	for _, s := range r.dialect.settings {
		if _, set := r.values[s.Name]; set && s.TemplateOnly {
			found = append(found, r.at.AtName(s.Name))
		}
	}
	return found
}

// meshFound builds the value of `mesh` from the mark of what is enrolled; the
// name of the mesh is that of its attribute.
func meshFound(ctx context.Context, name string, mark mesh.Mark, diags *diag.Diagnostics) types.Object {
	choices := map[string]attr.Value{}
	for _, d := range meshDialects() {
		object, ok := meshTypes()[d.name].(types.ObjectType)
		if !ok {
			diags.AddError("Invalid Mesh", fmt.Sprintf("The attribute mesh.%s is not an object. This is a bug in the provider.", d.name))
			return types.ObjectNull(meshTypes())
		}
		if d.name != name {
			choices[d.name] = types.ObjectNull(object.AttrTypes)
			continue
		}
		values, annotations := d.found(mark)
		settings, _, err := mesh.Values(d.settings, annotations)
		if err != nil {
			problem(diags, "Unable to Import Enrolment", err)
			return types.ObjectNull(meshTypes())
		}
		for name, preset := range d.defaults {
			if values[name] == nil {
				values[name] = preset
			}
		}
		maps.Copy(values, settings)
		nested := map[string]attr.Value{}
		for key, of := range object.AttrTypes {
			nested[key] = valueOf(ctx, of, values[key], diags)
		}
		choices[d.name] = types.ObjectValueMust(object.AttrTypes, nested)
	}
	return types.ObjectValueMust(meshTypes(), choices)
}

// valueOf is a setting's Go value, nil for null, as an attribute's.
func valueOf(ctx context.Context, of attr.Type, value any, diags *diag.Diagnostics) attr.Value {
	var raw tftypes.Value
	target := of.TerraformType(ctx)
	switch value := value.(type) {
	case []string:
		elements := make([]tftypes.Value, len(value))
		for i, element := range value {
			elements[i] = tftypes.NewValue(tftypes.String, element)
		}
		raw = tftypes.NewValue(target, elements)
	case map[string]string:
		elements := map[string]tftypes.Value{}
		for name, element := range value {
			elements[name] = tftypes.NewValue(tftypes.String, element)
		}
		raw = tftypes.NewValue(target, elements)
	default:
		raw = tftypes.NewValue(target, value)
	}
	converted, err := of.ValueFromTerraform(ctx, raw)
	if err != nil {
		problem(diags, "Unable to Import Enrolment", err)
	}
	return converted
}

package provider

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

type proxiesDataSource struct{ session *session }

var _ datasource.DataSourceWithConfigure = (*proxiesDataSource)(nil)

func newProxiesDataSource() datasource.DataSource { return &proxiesDataSource{} }

func (d *proxiesDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_proxies"
}

// What of the pods is listed.
const (
	listEverything = "all"
	listMeshed     = "meshed"
	listStale      = "stale"
	listNothing    = "none"
)

func (d *proxiesDataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Looks at the pods of the cluster, whoever enrolled them, and says of each which mesh it is in, by which proxy, and whether it would be " +
			"otherwise if it were made now: not injected although its namespace or template asks for it, an old proxy, an old trust bundle, changed settings, a moved revision.\n\n" +
			"Pods are looked at, not labels that anybody can set. Pods that have finished or are being deleted do not count. Nothing in the cluster is changed.",
		Attributes: map[string]schema.Attribute{
			"namespace": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Only pods of this namespace. Default: all namespaces.",
				Validators:          []validator.String{dnsLabel()},
			},
			"label_selector": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Only pods with these labels, in the syntax of `kubectl --selector`: `app=dgraph,tier!=test`.",
				Validators:          []validator.String{labelSelector()},
			},
			"mesh": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Only this mesh: `linkerd` or `istio`. Default: both.",
				Validators:          []validator.String{stringvalidator.OneOf("linkerd", "istio")},
			},
			"list": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Which pods `proxies` contains: `all`, `meshed` (those in a mesh), `stale` (those that are not as they would be if they were made now), " +
					"or `none`, for the counts alone. The counts are of all pods in any case. Default `all`.",
				Validators: []validator.String{stringvalidator.OneOf(listEverything, listMeshed, listStale, listNothing)},
			},
			"linkerd_namespace": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Namespace of Linkerd's control plane. Default `" + linkerd.DefaultNamespace + "`.",
				Validators:          []validator.String{dnsLabel()},
			},
			"istio_namespace": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Namespace of Istio's control plane. Default: that of the istiod that injects, that of AKS's Istio add-on included; if there are several, the one with the default revision, or else the one in `" + istio.DefaultNamespace + "`.",
				Validators:          []validator.String{dnsLabel()},
			},
			"timeouts": timeouts.Attributes(ctx),
			"summary": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "Counts of all pods looked at.",
				Attributes: map[string]schema.Attribute{
					"total":    schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods."},
					"meshed":   schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods in a mesh."},
					"unmeshed": schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods that a mesh should have and does not have."},
					"outside":  schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods that no mesh is meant to have, or can have."},
					"ready":    schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods in a mesh with a proxy that is ready."},
					"stale":    schema.Int64Attribute{Computed: true, MarkdownDescription: "Pods in a mesh that would be otherwise if they were made now."},
					"by_version": schema.MapAttribute{
						Computed: true, ElementType: types.Int64Type,
						MarkdownDescription: "Pods in a mesh by mesh and version of the proxy: `{ \"linkerd edge-26.8.3\" = 12 }`.",
					},
					"by_reason": schema.MapAttribute{
						Computed: true, ElementType: types.Int64Type,
						MarkdownDescription: "Pods by what is not as it should be: `not injected`, `stale proxy version`, `stale trust roots`, `changed settings`, `revision moved`, `other mode`, `no longer enrolled`.",
					},
				},
			},
			"proxies": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "The pods, in order of namespace and name.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"namespace":          schema.StringAttribute{Computed: true, MarkdownDescription: "Namespace of the pod."},
					"pod":                schema.StringAttribute{Computed: true, MarkdownDescription: "Its name."},
					"owner_kind":         schema.StringAttribute{Computed: true, MarkdownDescription: "Kind of what manages the pod in the end: `Deployment`, not the ReplicaSet between. `Pod` if nothing does."},
					"owner_name":         schema.StringAttribute{Computed: true, MarkdownDescription: "Name of what manages the pod."},
					"mesh":               schema.StringAttribute{Computed: true, MarkdownDescription: "`linkerd` or `istio`: the mesh that the pod is in or is meant to be in; null if there is none."},
					"mode":               schema.StringAttribute{Computed: true, MarkdownDescription: "`sidecar`, `native-sidecar` or `ambient`; null for a pod outside of the mesh."},
					"version":            schema.StringAttribute{Computed: true, MarkdownDescription: "Version of the proxy; null in ambient mode."},
					"image":              schema.StringAttribute{Computed: true, MarkdownDescription: "Image of the proxy; null in ambient mode."},
					"revision":           schema.StringAttribute{Computed: true, MarkdownDescription: "Revision of Istio's control plane that injected the proxy."},
					"trust_roots_sha256": schema.StringAttribute{Computed: true, MarkdownDescription: "SHA-256 in hexadecimal of the trust bundle that the proxy was given. Linkerd only: Istio's proxies get theirs from istiod, and the pod does not show it."},
					"settings": schema.MapAttribute{
						Computed: true, ElementType: types.StringType,
						MarkdownDescription: "Annotations by which the pod configures its proxy. Those that may hold values of variables are listed without them.",
					},
					"ready":   schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the proxy is ready."},
					"stale":   schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the pod is not as it would be if it were made now."},
					"reasons": schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Why it is stale, or why no mesh takes it in although one is asked to."},
				}},
			},
		},
	}
}

type proxiesModel struct {
	Namespace        types.String    `tfsdk:"namespace"`
	LabelSelector    types.String    `tfsdk:"label_selector"`
	Mesh             types.String    `tfsdk:"mesh"`
	List             types.String    `tfsdk:"list"`
	LinkerdNamespace types.String    `tfsdk:"linkerd_namespace"`
	IstioNamespace   types.String    `tfsdk:"istio_namespace"`
	Timeouts         timeouts.Value  `tfsdk:"timeouts"`
	Summary          *proxiesSummary `tfsdk:"summary"`
	Proxies          types.List      `tfsdk:"proxies"`
}

type proxiesSummary struct {
	Total     int64            `tfsdk:"total"`
	Meshed    int64            `tfsdk:"meshed"`
	Unmeshed  int64            `tfsdk:"unmeshed"`
	Outside   int64            `tfsdk:"outside"`
	Ready     int64            `tfsdk:"ready"`
	Stale     int64            `tfsdk:"stale"`
	ByVersion map[string]int64 `tfsdk:"by_version"`
	ByReason  map[string]int64 `tfsdk:"by_reason"`
}

func (s *proxiesSummary) count(e mesh.Entry) {
	s.Total++
	switch {
	case e.Mode != "":
		s.Meshed++
		s.ByVersion[strings.TrimSpace(strings.ToLower(e.Mesh)+" "+e.Version)]++
		if e.Ready {
			s.Ready++
		}
		if len(e.Reasons) > 0 {
			s.Stale++
		}
	case len(e.Reasons) > 0:
		s.Unmeshed++
	default:
		s.Outside++
	}
	for _, reason := range e.Reasons {
		s.ByReason[string(reason.Cause)]++
	}
}

func (d *proxiesDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (d *proxiesDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var model proxiesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	cluster, ok := d.session.requireCluster(&resp.Diagnostics)
	limit, diags := model.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	census := mesh.Census{
		Cluster: cluster, Meshes: model.meshes(), Now: d.session.time(),
		Namespace: model.Namespace.ValueString(), LabelSelector: model.LabelSelector.ValueString(),
	}
	var listed []mesh.Entry
	model.Summary = &proxiesSummary{ByVersion: map[string]int64{}, ByReason: map[string]int64{}}
	err := census.Each(ctx, func(e mesh.Entry) error {
		model.Summary.count(e)
		if model.lists(e) {
			listed = append(listed, e)
		}
		return nil
	})
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Look at the Pods", err)
		return
	}
	slices.SortFunc(listed, func(a, b mesh.Entry) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod))
	})
	model.Proxies = proxiesList(listed, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

// meshes are those to look for.
func (m *proxiesModel) meshes() []mesh.Mesh {
	var meshes []mesh.Mesh
	if m.Mesh.ValueString() != "istio" {
		meshes = append(meshes, linkerd.Injection{Namespace: cmp.Or(m.LinkerdNamespace.ValueString(), linkerd.DefaultNamespace)})
	}
	if m.Mesh.ValueString() != "linkerd" {
		meshes = append(meshes, istio.Injection{Namespace: m.IstioNamespace.ValueString()})
	}
	return meshes
}

// lists tells whether an entry is one of those asked for.
func (m *proxiesModel) lists(e mesh.Entry) bool {
	switch m.List.ValueString() {
	case listNothing:
		return false
	case listMeshed:
		return e.Mode != ""
	case listStale:
		return len(e.Reasons) > 0
	default:
		return true
	}
}

func proxyTypes() map[string]attr.Type {
	return map[string]attr.Type{
		"namespace": types.StringType, "pod": types.StringType, "owner_kind": types.StringType, "owner_name": types.StringType,
		"mesh": types.StringType, "mode": types.StringType, "version": types.StringType, "image": types.StringType,
		"revision": types.StringType, "trust_roots_sha256": types.StringType,
		"settings": types.MapType{ElemType: types.StringType}, "ready": types.BoolType, "stale": types.BoolType,
		"reasons": types.ListType{ElemType: types.StringType},
	}
}

// proxiesList is the attribute that lists the entries.
func proxiesList(entries []mesh.Entry, diags *diag.Diagnostics) types.List {
	attributes := proxyTypes()
	values := make([]attr.Value, len(entries))
	for i, e := range entries {
		settings := make(map[string]attr.Value, len(e.Settings))
		for key, value := range e.Settings {
			settings[key] = types.StringValue(value)
		}
		reasons := make([]attr.Value, 0, len(e.Reasons)+1)
		for _, reason := range e.Reasons {
			reasons = append(reasons, types.StringValue(reason.String()))
		}
		if e.Exempt != "" {
			reasons = append(reasons, types.StringValue(e.Exempt))
		}
		value, d := types.ObjectValue(attributes, map[string]attr.Value{
			"namespace": types.StringValue(e.Namespace), "pod": types.StringValue(e.Pod),
			"owner_kind": types.StringValue(e.Owner.Kind.Name), "owner_name": types.StringValue(e.Owner.Name),
			"mesh": orNull(strings.ToLower(e.Mesh)), "mode": orNull(string(e.Mode)), "version": orNull(e.Version), "image": orNull(e.Image),
			"revision": orNull(e.Revision), "trust_roots_sha256": orNull(e.TrustRoots),
			"settings": types.MapValueMust(types.StringType, settings),
			"ready":    types.BoolValue(e.Ready), "stale": types.BoolValue(len(e.Reasons) > 0),
			"reasons": types.ListValueMust(types.StringType, reasons),
		})
		diags.Append(d...)
		values[i] = value
	}
	list, d := types.ListValue(types.ObjectType{AttrTypes: attributes}, values)
	diags.Append(d...)
	return list
}

// orNull is a text, or null if there is none.
func orNull(text string) types.String {
	if text == "" {
		return types.StringNull()
	}
	return types.StringValue(text)
}

package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/authorization"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

var (
	_ meshResource                        = (*authorizationResource)(nil)
	_ resource.ResourceWithValidateConfig = (*authorizationResource)(nil)
)

type authorizationResource struct{ resourceBase }

func newAuthorizationResource() resource.Resource {
	return &authorizationResource{resourceBase{noun: "authorization", identity: "`<namespace>/<name>`."}}
}

func (r *authorizationResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	notWithDefault := path.MatchRoot("default_policy")
	resp.Schema = schema.Schema{
		MarkdownDescription: "Who may call which ports of which pods, by the identity that the mesh proves: whom no entry of `allow` admits is refused. " +
			"Or, with `default_policy`, whom pods let in on ports for which nothing else is said.\n\n" +
			"For Linkerd it writes a Server for each port, AuthorizationPolicies, and the MeshTLSAuthentications, NetworkAuthentications and HTTPRoutes that they take; kubelets' probes by plain HTTP and gRPC stay answered. " +
			"For Istio it writes an AuthorizationPolicy and, with `mtls`, a PeerAuthentication. A default policy is an annotation with Linkerd, and one of the two objects with Istio. " +
			"`manifest` shows all of it, and a change made behind our back shows in its diff; `guarantee` says what holds and what does not.\n\n" +
			"Proxies enforce it, so it holds for pods in the mesh only, and only for what does not bypass their proxies: enrol them first, see that every client has an identity, and authorize then. " +
			"A plan warns of Servers that overlap, of references to nothing, and of callers who are refused for the first time because something now governs the port.",
		Attributes: map[string]schema.Attribute{
			"id": computedString("`<namespace>/<name>`."),
			"namespace": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Namespace of the pods that are called. Changing it makes a new authorization.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"name": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Name of the authorization, with which the names of its objects begin; give each one of a namespace its own. Changing it makes a new authorization.",
				Validators:          []validator.String{dnsLabel()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"mesh": schema.SingleNestedAttribute{
				Optional: true, Computed: true,
				MarkdownDescription: "The mesh that enforces it: one of `linkerd` and `istio`. Default: the one that the pods belong to, or the only one in the cluster, as the apply finds it. Going over to the other makes a new authorization.",
				PlanModifiers:       []planmodifier.Object{objectplanmodifier.RequiresReplaceIf(changesMesh, "Changing the mesh makes a new authorization.", "Changing the mesh makes a new authorization.")},
				Attributes: map[string]schema.Attribute{
					"linkerd": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Authorize by Linkerd.",
						Validators:          []validator.Object{objectvalidator.ExactlyOneOf(path.MatchRoot("mesh").AtName("istio"))},
						Attributes: map[string]schema.Attribute{
							"control_plane_namespace": controlPlaneAttribute(linkerd.DefaultNamespace),
							"version": schema.StringAttribute{
								Optional:            true,
								MarkdownDescription: "Version of Linkerd, which has to be " + linkerd.PolicyVersions + ". Default: read from the control plane in the cluster, if it is there.",
								Validators:          []validator.String{linkerdVersion()},
							},
						},
					},
					"istio": schema.SingleNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Authorize by Istio. In ambient mode there are no `routes`: the node's proxy does not read requests.",
						Attributes: map[string]schema.Attribute{
							"control_plane_namespace": schema.StringAttribute{
								Optional:            true,
								MarkdownDescription: "Namespace of the control plane, if there are several with different trust domains.",
								Validators:          []validator.String{dnsLabel()},
							},
							"trust_domain": schema.StringAttribute{
								Optional:            true,
								MarkdownDescription: "Trust domain of the identities of `service_accounts`. Default: read from the control plane in the cluster, which then must be there.",
								Validators:          []validator.String{stringvalidator.RegexMatches(subdomainPattern, "must be a DNS name")},
							},
						},
					},
				},
			},
			"pod_selector": schema.MapAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Labels of the pods that are called. Default: every pod of the namespace.",
				Validators:          []validator.Map{mapvalidator.SizeAtLeast(1), mapvalidator.KeysAre(labelKey()), mapvalidator.ValueStringsAre(labelValue()), mapvalidator.ConflictsWith(notWithDefault)},
			},
			"ports": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Ports of the containers that it is about, by number or, with Linkerd, by name. Linkerd takes at least one, and only those that the pods declare; with Istio the default is all.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues(), listvalidator.ValueStringsAre(containerPort()), listvalidator.ConflictsWith(notWithDefault)},
			},
			"allow": allowAttribute(notWithDefault),
			"mtls": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "`strict` refuses whoever has no identity of the mesh, be it admitted by its address or not; `permissive` leaves that to `allow`. Default: as the mesh has it. With Istio it writes a PeerAuthentication.",
				Validators:          []validator.String{stringvalidator.OneOf(string(access.StrictMTLS), string(access.PermissiveMTLS)), stringvalidator.ConflictsWith(notWithDefault)},
			},
			"protocol": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "What Linkerd takes the ports for, instead of detecting it: `HTTP/1`, `HTTP/2`, `gRPC`, `opaque` or `TLS`. Istio goes by the ports of Services.",
				Validators:          []validator.String{stringvalidator.OneOf("HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"), stringvalidator.ConflictsWith(notWithDefault)},
			},
			"default_policy": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Whom pods let in where nothing else is said, instead of `allow`: `deny` nobody, `all-authenticated` whoever has an identity of the mesh, `all-unauthenticated` everybody; with Linkerd also " +
					"`cluster-authenticated` and `cluster-unauthenticated`, those of the cluster's networks, and `audit`, everybody with a log entry. Linkerd's pods go by what they were made with: see `outdated`.",
				Validators: []validator.String{stringvalidator.OneOf(linkerd.DefaultInboundPolicies()...), stringvalidator.ExactlyOneOf(path.MatchRoot("default_policy"), path.MatchRoot("allow"))},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplaceIf(func(_ context.Context, req planmodifier.StringRequest, resp *stringplanmodifier.RequiresReplaceIfFuncResponse) {
					resp.RequiresReplace = req.StateValue.IsNull() != req.PlanValue.IsNull()
				}, "Going over to or from a default policy makes a new authorization.", "Going over to or from a default policy makes a new authorization.")},
			},
			"workload": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "The workload whose pods have the default policy, instead of all of the namespace. With Linkerd its pods are made anew. Changing it makes a new authorization.",
				Validators:          []validator.Object{objectvalidator.AlsoRequires(notWithDefault)},
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
			"force_conflicts": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether the first apply takes over what another field manager has written. Default `false`: that is an error which names the other manager.",
			},
			"manifest":  computedString("The objects in YAML: in the state as they are in the cluster, in a plan as they will be. With a default policy of Linkerd's, the annotation by which pods get it."),
			"guarantee": computedString("What holds once it is in force, and what does not."),
			"outdated": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Workloads with pods that were made before a default policy of Linkerd's was set, and go by the former one until they are restarted: `Deployment dgraph/alpha: 3 pods`. " +
					"An `aksmesh_injection` of the namespace restarts them in the same apply if it has `follows = [aksmesh_authorization.this.manifest]`.",
			},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
		},
	}
}

// allowAttribute is the list of grants.
func allowAttribute(notWith path.Expression) schema.ListNestedAttribute {
	texts := func(description string, each validator.String) schema.ListAttribute {
		return schema.ListAttribute{
			Optional: true, ElementType: types.StringType, MarkdownDescription: description,
			Validators: []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues(), listvalidator.ValueStringsAre(each)},
		}
	}
	cidr := checked{description: "a range of addresses such as 10.1.0.0/16", check: func(value string) error { return netpol.Block{CIDR: value}.Check() }}
	return schema.ListNestedAttribute{
		Optional:            true,
		MarkdownDescription: "Who may call; an empty list is nobody. Entries add up, and each needs at least one of `service_accounts`, `namespaces`, `identities`, `meshed` and `networks`, any of which suffices.",
		Validators:          []validator.List{listvalidator.ConflictsWith(notWith)},
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"service_accounts": texts("ServiceAccounts of the callers: `<namespace>/<name>`.", checked{
				description: "<namespace>/<name> of a ServiceAccount",
				check:       func(value string) error { _, err := access.ParseAccount(value); return err },
			}),
			"namespaces": texts("Namespaces, all of whose workloads may call.", dnsLabel()),
			"identities": texts("Identities as the mesh spells them: `web.shop.serviceaccount.identity.linkerd.cluster.local`, or `cluster.local/ns/shop/sa/web`; with `*` before or behind for many.", stringvalidator.LengthAtLeast(1)),
			"meshed": schema.BoolAttribute{
				Optional:            true,
				MarkdownDescription: "Whether everybody with an identity of the mesh may call.",
			},
			"networks": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Addresses from which anybody may call, with an identity or, unless `mtls` is `strict`, without.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1)},
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"cidr": schema.StringAttribute{Required: true, MarkdownDescription: "Range of addresses in CIDR notation.", Validators: []validator.String{cidr}},
					"except": schema.ListAttribute{
						Optional: true, ElementType: types.StringType, MarkdownDescription: "Ranges within it that are left out.",
						Validators: []validator.List{listvalidator.SizeAtLeast(1), listvalidator.ValueStringsAre(cidr)},
					},
				}},
			},
			"routes": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "HTTP requests that they may make, gRPC included (`/<package>.<Service>/<Method>`). Default: all traffic.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1)},
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"methods": texts("Methods, such as `GET`. Default: all.", stringvalidator.RegexMatches(regexp.MustCompile(`^[A-Z]+$`), "must be a method in upper case, such as GET")),
					"path": schema.StringAttribute{
						Optional:            true,
						MarkdownDescription: "The very path. Default, without `path_prefix`: all paths.",
						Validators:          []validator.String{requestPath(), stringvalidator.ConflictsWith(path.MatchRelative().AtParent().AtName("path_prefix"))},
					},
					"path_prefix": schema.StringAttribute{
						Optional:            true,
						MarkdownDescription: "The path, and everything below it.",
						Validators:          []validator.String{requestPath()},
					},
				}},
			},
		}},
	}
}

// containerPort accepts ports of containers by number or by name.
func containerPort() validator.String {
	return checked{description: "a port: a number from 1 to 65535, or the name that a container gives it", check: func(value string) error {
		number, err := strconv.Atoi(value)
		switch {
		case err != nil:
			return complaints(validation.IsValidPortName(value))
		case strconv.Itoa(number) != value:
			return errors.New("it has zeros or a sign in front")
		default:
			return complaints(validation.IsValidPortNum(number))
		}
	}}
}

func requestPath() validator.String {
	return stringvalidator.RegexMatches(regexp.MustCompile(`^/[^?#\s]*$`), "must be a path that begins with / and has no query")
}

// changesMesh reports whether a plan goes over from one mesh to the other.
func changesMesh(ctx context.Context, req planmodifier.ObjectRequest, resp *objectplanmodifier.RequiresReplaceIfFuncResponse) {
	if req.PlanValue.IsNull() || req.PlanValue.IsUnknown() || req.ConfigValue.IsNull() {
		return // As it was.
	}
	var before, after authorizerModel
	resp.Diagnostics.Append(req.StateValue.As(ctx, &before, objectAsOptions)...)
	resp.Diagnostics.Append(req.PlanValue.As(ctx, &after, objectAsOptions)...)
	resp.RequiresReplace = before.Linkerd.IsNull() != after.Linkerd.IsNull()
}

type authorizationModel struct {
	commonModel
	Namespace      types.String `tfsdk:"namespace"`
	Name           types.String `tfsdk:"name"`
	Mesh           types.Object `tfsdk:"mesh"`
	PodSelector    types.Map    `tfsdk:"pod_selector"`
	Ports          types.List   `tfsdk:"ports"`
	Allow          types.List   `tfsdk:"allow"`
	MTLS           types.String `tfsdk:"mtls"`
	Protocol       types.String `tfsdk:"protocol"`
	DefaultPolicy  types.String `tfsdk:"default_policy"`
	Workload       types.Object `tfsdk:"workload"`
	ForceConflicts types.Bool   `tfsdk:"force_conflicts"`
	Manifest       types.String `tfsdk:"manifest"`
	Guarantee      types.String `tfsdk:"guarantee"`
	Outdated       types.List   `tfsdk:"outdated"`
}

type grantModel struct {
	ServiceAccounts []string              `tfsdk:"service_accounts"`
	Namespaces      []string              `tfsdk:"namespaces"`
	Identities      []string              `tfsdk:"identities"`
	Meshed          *bool                 `tfsdk:"meshed"`
	Networks        []allowedNetworkModel `tfsdk:"networks"`
	Routes          []allowedRouteModel   `tfsdk:"routes"`
}

type allowedNetworkModel struct {
	CIDR   string   `tfsdk:"cidr"`
	Except []string `tfsdk:"except"`
}

type allowedRouteModel struct {
	Methods    []string `tfsdk:"methods"`
	Path       *string  `tfsdk:"path"`
	PathPrefix *string  `tfsdk:"path_prefix"`
}

type authorizerModel struct {
	Linkerd types.Object `tfsdk:"linkerd"`
	Istio   types.Object `tfsdk:"istio"`
}

type linkerdAuthorizerModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	Version      types.String `tfsdk:"version"`
}

type istioAuthorizerModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	TrustDomain  types.String `tfsdk:"trust_domain"`
}

// Types of the nested objects, for values that come from the cluster.
var (
	linkerdAuthorizerTypes = map[string]attr.Type{"control_plane_namespace": types.StringType, "version": types.StringType}
	istioAuthorizerTypes   = map[string]attr.Type{"control_plane_namespace": types.StringType, "trust_domain": types.StringType}
	authorizerTypes        = map[string]attr.Type{
		"linkerd": types.ObjectType{AttrTypes: linkerdAuthorizerTypes},
		"istio":   types.ObjectType{AttrTypes: istioAuthorizerTypes},
	}
	grantType = types.ObjectType{AttrTypes: map[string]attr.Type{
		"service_accounts": types.ListType{ElemType: types.StringType},
		"namespaces":       types.ListType{ElemType: types.StringType},
		"identities":       types.ListType{ElemType: types.StringType},
		"meshed":           types.BoolType,
		"networks": types.ListType{ElemType: types.ObjectType{AttrTypes: map[string]attr.Type{
			"cidr": types.StringType, "except": types.ListType{ElemType: types.StringType},
		}}},
		"routes": types.ListType{ElemType: types.ObjectType{AttrTypes: map[string]attr.Type{
			"methods": types.ListType{ElemType: types.StringType}, "path": types.StringType, "path_prefix": types.StringType,
		}}},
	}}
)

// inputs are all attributes that shape the objects, but for the mesh.
func (m *authorizationModel) inputs() []attr.Value {
	return []attr.Value{m.Namespace, m.Name, m.PodSelector, m.Ports, m.Allow, m.MTLS, m.Protocol, m.DefaultPolicy, m.Workload}
}

// intent turns the model into the domain's terms. Its mesh has no field set as
// long as that of the model is not known.
func (m *authorizationModel) intent(ctx context.Context, diags *diag.Diagnostics) authorization.Intent {
	i := authorization.Intent{Policy: access.Policy{
		Namespace: m.Namespace.ValueString(),
		Name:      m.Name.ValueString(),
		Pods:      stringMap(ctx, m.PodSelector, diags),
		MTLS:      access.MTLS(m.MTLS.ValueString()),
		Protocol:  m.Protocol.ValueString(),
	}}
	for _, port := range stringList(ctx, m.Ports, diags) {
		i.Ports = append(i.Ports, intstr.Parse(port))
	}
	for _, grant := range elements[grantModel](ctx, m.Allow, diags) {
		i.Grants = append(i.Grants, grant.grant())
	}
	if m.DefaultPolicy.IsNull() {
		i.AllPorts = len(i.Ports) == 0
	} else {
		i.Default = &authorization.Default{Policy: m.DefaultPolicy.ValueString()}
		var w workloadModel
		diags.Append(m.Workload.As(ctx, &w, objectAsOptions)...)
		i.Default.Kind, i.Default.Name = w.Kind.ValueString(), w.Name.ValueString()
	}
	var chosen authorizerModel
	diags.Append(m.Mesh.As(ctx, &chosen, objectAsOptions)...)
	switch {
	case !chosen.Linkerd.IsNull() && !chosen.Linkerd.IsUnknown():
		var l linkerdAuthorizerModel
		diags.Append(chosen.Linkerd.As(ctx, &l, objectAsOptions)...)
		i.Mesh.Linkerd = &linkerd.Authorizer{ControlPlane: l.ControlPlane.ValueString(), Version: l.Version.ValueString()}
	case !chosen.Istio.IsNull() && !chosen.Istio.IsUnknown():
		var o istioAuthorizerModel
		diags.Append(chosen.Istio.As(ctx, &o, objectAsOptions)...)
		i.Mesh.Istio = &istio.Authorizer{ControlPlane: o.ControlPlane.ValueString(), TrustDomain: o.TrustDomain.ValueString()}
	}
	return i
}

func (g grantModel) grant() access.Grant {
	var grant access.Grant
	for _, text := range g.ServiceAccounts {
		if account, err := access.ParseAccount(text); err == nil { // As its validator has seen.
			grant.Callers = append(grant.Callers, access.Caller{Account: &account})
		}
	}
	for _, namespace := range g.Namespaces {
		grant.Callers = append(grant.Callers, access.Caller{Namespace: namespace})
	}
	for _, identity := range g.Identities {
		grant.Callers = append(grant.Callers, access.Caller{Identity: identity})
	}
	if g.Meshed != nil && *g.Meshed {
		grant.Callers = append(grant.Callers, access.Caller{Meshed: true})
	}
	for _, network := range g.Networks {
		grant.Callers = append(grant.Callers, access.Caller{Network: &netpol.Block{CIDR: network.CIDR, Except: network.Except}})
	}
	for _, route := range g.Routes {
		r := access.Route{Methods: route.Methods, Path: "/", Prefix: true}
		switch {
		case route.Path != nil:
			r.Path, r.Prefix = *route.Path, false
		case route.PathPrefix != nil:
			r.Path = *route.PathPrefix
		}
		grant.Routes = append(grant.Routes, r)
	}
	return grant
}

// grantModelOf is the other way round.
func grantModelOf(grant access.Grant) grantModel {
	var g grantModel
	for _, caller := range grant.Callers {
		switch {
		case caller.Account != nil:
			g.ServiceAccounts = append(g.ServiceAccounts, caller.Account.String())
		case caller.Namespace != "":
			g.Namespaces = append(g.Namespaces, caller.Namespace)
		case caller.Identity != "":
			g.Identities = append(g.Identities, caller.Identity)
		case caller.Network != nil:
			g.Networks = append(g.Networks, allowedNetworkModel{CIDR: caller.Network.CIDR, Except: caller.Network.Except})
		case caller.Meshed:
			g.Meshed = new(true)
		}
	}
	for _, route := range grant.Routes {
		r := allowedRouteModel{Methods: route.Methods}
		switch {
		case !route.Prefix:
			r.Path = new(route.Path)
		case route.Path != "/":
			r.PathPrefix = new(route.Path)
		}
		g.Routes = append(g.Routes, r)
	}
	return g
}

// show shows a mesh as configurations say it.
func (m *authorizationModel) show(ctx context.Context, chosen authorization.Mesh, diags *diag.Diagnostics) {
	object := authorizerModel{Linkerd: types.ObjectNull(linkerdAuthorizerTypes), Istio: types.ObjectNull(istioAuthorizerTypes)}
	if chosen.Linkerd != nil {
		object.Linkerd = objectFrom(ctx, linkerdAuthorizerTypes, linkerdAuthorizerModel{
			ControlPlane: types.StringValue(chosen.Linkerd.ControlPlane), Version: textOrNull(chosen.Linkerd.Version),
		}, diags)
	} else {
		object.Istio = objectFrom(ctx, istioAuthorizerTypes, istioAuthorizerModel{
			ControlPlane: textOrNull(chosen.Istio.ControlPlane), TrustDomain: textOrNull(chosen.Istio.TrustDomain),
		}, diags)
	}
	m.Mesh = objectFrom(ctx, authorizerTypes, object, diags)
}

// ValidateConfig refuses what the mesh could not enforce in any cluster.
func (r *authorizationResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model authorizationModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || !fullyKnown(ctx, model.inputs()...) || !fullyKnown(ctx, model.Mesh) {
		return
	}
	intent := model.intent(ctx, &resp.Diagnostics)
	for n, grant := range intent.Grants {
		if len(grant.Callers) == 0 {
			resp.Diagnostics.AddAttributeError(path.Root("allow").AtListIndex(n), "Nobody Is Allowed",
				fmt.Sprintf("allow[%d] names no callers: say who, by service_accounts, namespaces, identities, meshed or networks.", n))
		}
	}
	if resp.Diagnostics.HasError() {
		return
	}
	meshes := []authorization.Mesh{intent.Mesh}
	if intent.Mesh == (authorization.Mesh{}) {
		if !model.Mesh.IsNull() {
			return // As its own validator says.
		}
		meshes = []authorization.Mesh{{Linkerd: &linkerd.Authorizer{}}, {Istio: &istio.Authorizer{}}}
	}
	var refusals diag.Diagnostics
	for _, intent.Mesh = range meshes {
		at, err := culprit(intent)
		if err == nil {
			return
		}
		problemAt(&refusals, at, "Invalid Authorization", err)
	}
	resp.Diagnostics.Append(refusals...)
}

// culprit finds the attribute for which an intent is refused.
func culprit(intent authorization.Intent) (path.Path, error) {
	err := intent.Check()
	if err == nil || intent.Default != nil {
		return path.Root("default_policy"), err
	}
	for n := range intent.Grants {
		without := intent
		without.Grants = slices.Delete(slices.Clone(intent.Grants), n, n+1)
		if without.Check() == nil {
			return path.Root("allow").AtListIndex(n), err
		}
	}
	for _, try := range []struct {
		attribute string
		clear     func(i *authorization.Intent)
	}{
		{"protocol", func(i *authorization.Intent) { i.Protocol = "" }},
		{"mtls", func(i *authorization.Intent) { i.MTLS = "" }},
		{"allow", func(i *authorization.Intent) { i.Grants = nil }},
	} {
		without := intent
		try.clear(&without)
		if without.Check() == nil {
			return path.Root(try.attribute), err
		}
	}
	return path.Root("ports"), err
}

// probesKey is the key of the private state under which Read keeps the probes of
// the pods. A plan must not look for itself: Terraform makes it again when it
// applies it, and refuses one that has come out otherwise because the same apply
// has changed the pods in between.
const probesKey = "probes"

// ModifyPlan shows the objects that the apply will write, as far as they do not
// depend on pods that are not there yet, and tells what may not be meant.
func (r *authorizationResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan, config authorizationModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	var state *authorizationModel
	if !req.State.Raw.IsNull() {
		state = &authorizationModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	if config.Mesh.IsNull() {
		plan.Mesh = types.ObjectUnknown(authorizerTypes)
		if state != nil {
			plan.Mesh = state.Mesh
		}
	}
	if !fullyKnown(ctx, plan.inputs()...) || !fullyKnown(ctx, config.Mesh) {
		// The mesh is what it was, whatever else is not known yet.
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	plan.ID = types.StringValue(plan.Namespace.ValueString() + "/" + plan.Name.ValueString())
	plan.Manifest, plan.Guarantee, plan.Outdated = types.StringUnknown(), types.StringUnknown(), types.ListUnknown(types.StringType)
	intent := plan.intent(ctx, &resp.Diagnostics)
	if state != nil && !plan.Allow.IsNull() && !state.Allow.IsNull() && reflect.DeepEqual(intent.Grants, state.intent(ctx, &resp.Diagnostics).Grants) {
		// In other words at most, as after an import.
		plan.Allow = state.Allow
	}
	same := state != nil && equalAll(plan.inputs(), state.inputs()) && plan.Mesh.Equal(state.Mesh)
	if resp.Diagnostics.HasError() {
		return
	}
	settled := intent.Mesh != authorization.Mesh{}
	if settled && intent.DependsOnProbes() {
		intent.Probes, settled = keptProbes(ctx, req.Private, &resp.Diagnostics)
		settled = settled && state != nil && plan.PodSelector.Equal(state.PodSelector)
	}
	cluster, _ := r.knownCluster()
	if settled {
		compiled, err := intent.Compile(ctx, cluster)
		switch {
		case err == nil:
			plan.Manifest, plan.Guarantee = types.StringValue(compiled.Manifest), types.StringValue(compiled.Guarantee)
		case !errors.Is(err, authorization.ErrOpen):
			problem(&resp.Diagnostics, "Unable to Plan Authorization", err)
			return
		case same:
			plan.Manifest, plan.Guarantee = state.Manifest, state.Guarantee
		}
	}
	if same && plan.Manifest.Equal(state.Manifest) && plan.Guarantee.Equal(state.Guarantee) {
		plan.Outdated = state.Outdated
	} else if cluster != nil {
		foresee(ctx, cluster, intent, &resp.Diagnostics)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// keptProbes reads the probes that Read has kept.
func keptProbes(ctx context.Context, private privateState, diags *diag.Diagnostics) (probes []access.Probe, known bool) {
	kept, d := private.GetKey(ctx, probesKey)
	diags.Append(d...)
	return probes, json.Unmarshal(kept, &probes) == nil
}

// privateWriter is what operations are given to keep private state by.
type privateWriter interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// keepProbes keeps the probes that a plan goes by.
func keepProbes(ctx context.Context, private privateWriter, probes []access.Probe, diags *diag.Diagnostics) {
	kept, err := json.Marshal(probes)
	if err != nil {
		diags.AddError("Unable to Keep Probes", fmt.Sprintf("%v. This is a bug in the provider.", err))
		return
	}
	diags.Append(private.SetKey(ctx, probesKey, kept)...)
}

func equalAll(a, b []attr.Value) bool {
	return slices.EqualFunc(a, b, func(x, y attr.Value) bool { return x.Equal(y) })
}

// foresee tells what of a plan may not be meant. What is not there yet may be made
// by the same apply, and what may not be read now does not keep others from being
// planned.
func foresee(ctx context.Context, cluster *kube.Cluster, intent authorization.Intent, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	findings, err := intent.Foresee(ctx, cluster)
	switch {
	case errors.Is(err, kube.ErrNotFound), errors.Is(err, mesh.ErrNoControlPlane):
		return
	case err != nil:
		diags.AddWarning("Unable to Look Ahead at the Authorization", explain(err))
		return
	}
	at, pods := path.Root("ports"), path.Root("pod_selector")
	switch {
	case intent.Default != nil:
		at, pods = path.Root("default_policy"), path.Root("default_policy")
	case intent.AllPorts:
		at = path.Root("allow")
	}
	for _, n := range slices.Sorted(maps.Keys(findings.Callers)) {
		diags.AddAttributeWarning(path.Root("allow").AtListIndex(n), "Callers Are Not There", strings.Join(findings.Callers[n], "\n"))
	}
	for _, warning := range []struct {
		at      path.Path
		summary string
		lines   []string
	}{
		{at, "The Authorization May Not Do What Is Meant", findings.Policy},
		{pods, "The Authorization Does Not Reach All Pods", findings.Pods},
		{at, "Pods Keep the Former Default Policy", findings.Outdated},
		{path.Root("workload"), "Setting the Default Policy Restarts the Workload", findings.Restarted},
	} {
		if len(warning.lines) > 0 {
			diags.AddAttributeWarning(warning.at, warning.summary, strings.Join(warning.lines, "\n"))
		}
	}
}

func (r *authorizationResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model authorizationModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if r.write(ctx, cluster, &model, resp.Private, model.ForceConflicts.ValueBool(), &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// write applies what the plan has shown, or what it could not tell yet. It reports
// whether anything may have been written.
func (r *authorizationResource) write(ctx context.Context, cluster *kube.Cluster, model *authorizationModel, private privateWriter, force bool, diags *diag.Diagnostics) bool {
	const summary = "Unable to Authorize"
	intent := model.intent(ctx, diags)
	var err error
	if model.Mesh.IsUnknown() {
		if intent.Mesh, err = authorization.WhichMesh(ctx, cluster, intent.Namespace, intent.Pods); err == nil {
			err = intent.Check()
		}
		if err != nil {
			problemAt(diags, path.Root("mesh"), summary, err)
			return false
		}
		model.show(ctx, intent.Mesh, diags)
	}
	if intent.DependsOnProbes() {
		if intent.Probes, err = authorization.Probes(ctx, cluster, intent.Namespace, intent.Pods); err != nil {
			problem(diags, summary, err)
			return false
		}
		keepProbes(ctx, private, intent.Probes, diags)
	}
	if model.Manifest.IsUnknown() {
		compiled, err := intent.Compile(ctx, cluster)
		if err != nil {
			problem(diags, summary, err)
			return false
		}
		model.Manifest, model.Guarantee = types.StringValue(compiled.Manifest), types.StringValue(compiled.Guarantee)
	}
	model.ID = types.StringValue(intent.Namespace + "/" + intent.Name)
	begun, err := intent.Apply(ctx, cluster, authorization.Compiled{Manifest: model.Manifest.ValueString(), Guarantee: model.Guarantee.ValueString()}, force,
		func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) })
	if err != nil {
		problem(diags, summary, err)
	}
	if !begun {
		return false
	}
	rivals, err := intent.Rivals(ctx, cluster)
	if err != nil {
		diags.AddWarning("Unable to Look at Other Default Policies", explain(err))
	}
	if len(rivals) > 0 {
		diags.AddAttributeWarning(path.Root("default_policy"), "The Authorization May Not Do What Is Meant", strings.Join(rivals, "\n"))
	}
	outdated, err := intent.Outdated(ctx, cluster)
	if err != nil {
		diags.AddWarning("Unable to Look at the Pods", explain(err))
	}
	if len(outdated) > 0 {
		diags.AddAttributeWarning(path.Root("default_policy"), "Pods Keep the Former Default Policy", keepFormer(outdated))
	}
	model.Outdated = notesList(ctx, outdated, nil, diags)
	return true
}

func keepFormer(outdated []string) string {
	return "These pods were made before, and go by the default policy that they were made with until they are restarted:\n" + strings.Join(outdated, "\n") +
		"\n\nAn aksmesh_injection of theirs restarts them if its `follows` contains the `manifest` of this authorization; so does kubectl rollout restart."
}

func (r *authorizationResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model authorizationModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	namespace, name, ok := strings.Cut(model.ID.ValueString(), "/")
	if !ok || !dnsLabelPattern.MatchString(namespace) || !dnsLabelPattern.MatchString(name) {
		resp.Diagnostics.AddAttributeError(path.Root("id"), "Invalid Authorization ID", fmt.Sprintf("%q is not <namespace>/<name>.", model.ID.ValueString()))
		return
	}
	imported := model.Mesh.IsNull()
	var known *authorization.Intent
	if !imported {
		known = new(model.intent(ctx, &resp.Diagnostics))
	}
	found, err := authorization.Find(ctx, cluster, namespace, name, known)
	if errors.Is(err, kube.ErrNotFound) {
		forget(ctx, resp, model.ID)
		return
	}
	if err == nil && imported {
		if found.Intent == nil {
			err = fmt.Errorf("authorization %s: its objects do not agree on what they were made from; delete them, and apply", model.ID.ValueString())
		} else {
			model.imported(ctx, *found.Intent, &resp.Diagnostics)
			known = found.Intent
		}
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Authorization", err)
		return
	}
	if known.DependsOnProbes() {
		if known.Probes, err = authorization.Probes(ctx, cluster, namespace, known.Pods); err != nil {
			problem(&resp.Diagnostics, "Unable to Read Authorization", err)
			return
		}
		keepProbes(ctx, resp.Private, known.Probes, &resp.Diagnostics)
	}
	if imported {
		compiled, err := known.Compile(ctx, cluster)
		if err != nil {
			problem(&resp.Diagnostics, "Unable to Import Authorization", err)
			return
		}
		model.Guarantee = types.StringValue(compiled.Guarantee)
	}
	outdated, err := known.Outdated(ctx, cluster)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Authorization", err)
		return
	}
	model.Manifest, model.Outdated = types.StringValue(found.Manifest), notesList(ctx, outdated, nil, &resp.Diagnostics)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

// imported fills in what the objects say that they were made from.
func (m *authorizationModel) imported(ctx context.Context, intent authorization.Intent, diags *diag.Diagnostics) {
	m.Namespace, m.Name = types.StringValue(intent.Namespace), types.StringValue(intent.Name)
	m.MTLS, m.Protocol = textOrNull(string(intent.MTLS)), textOrNull(intent.Protocol)
	m.ForceConflicts = types.BoolValue(false)
	m.show(ctx, intent.Mesh, diags)
	if len(intent.Pods) > 0 {
		selector, d := types.MapValueFrom(ctx, types.StringType, intent.Pods)
		diags.Append(d...)
		m.PodSelector = selector
	}
	if intent.Default != nil {
		m.DefaultPolicy = types.StringValue(intent.Default.Policy)
		if intent.Default.Kind != "" {
			m.Workload = objectFrom(ctx, workloadTypes, workloadModel{Kind: types.StringValue(intent.Default.Kind), Name: types.StringValue(intent.Default.Name)}, diags)
		}
		return
	}
	var ports []string
	for _, port := range intent.Ports {
		ports = append(ports, port.String())
	}
	m.Ports = listOrNull(ctx, ports, diags)
	grants := make([]grantModel, len(intent.Grants))
	for n, grant := range intent.Grants {
		grants[n] = grantModelOf(grant)
	}
	allow, d := types.ListValueFrom(ctx, grantType, grants)
	diags.Append(d...)
	m.Allow = allow
}

func (r *authorizationResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model authorizationModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	// The plan has shown what others changed, and its approval is the user's
	// word to change it back.
	if r.write(ctx, cluster, &model, resp.Private, true, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *authorizationResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model authorizationModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	intent := model.intent(ctx, &resp.Diagnostics)
	err := intent.Delete(ctx, cluster, func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) })
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Withdraw Authorization", err)
		return
	}
	remaining, err := intent.Remaining(ctx, cluster)
	if err != nil {
		resp.Diagnostics.AddWarning("Unable to Look at the Pods", explain(err))
	}
	if len(remaining) > 0 {
		resp.Diagnostics.AddWarning("Pods Keep the Default Policy", fmt.Sprintf("Authorization %s is gone, but these pods were made with its default policy %s, and go by it until they are restarted:\n%s",
			model.ID.ValueString(), intent.Default.Policy, strings.Join(remaining, "\n")))
	}
}

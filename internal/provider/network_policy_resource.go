package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/boolvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int32validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/objectvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

var _ meshResource = (*networkPolicyResource)(nil)

var _ resource.ResourceWithValidateConfig = (*networkPolicyResource)(nil)

type networkPolicyResource struct{ resourceBase }

func newNetworkPolicyResource() resource.Resource {
	return &networkPolicyResource{resourceBase{noun: "network_policy", identity: "`<namespace>/<name>` of the NetworkPolicy."}}
}

func (r *networkPolicyResource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "A NetworkPolicy that lets only the mesh's traffic reach the selected pods, as the mesh, its version and its mode really send it, with the mesh's own authorization where a NetworkPolicy does not suffice.\n\n" +
			"Linkerd since 2.18 sends all traffic between meshed pods to the proxy's port 4143, and Istio in ambient mode to 15008. Only that port is opened then, where proxies demand mTLS: no label can forge that. " +
			"Behind it every port of the pod is to be reached, so that `ports` are enforced by objects of the mesh, which are made and owned together with the NetworkPolicy: Servers and AuthorizationPolicies of Linkerd, PeerAuthentications and AuthorizationPolicies of Istio. " +
			"Before 2.18, and between Istio's sidecars, mTLS arrives at the application's own ports, where nothing but labels tells it from other traffic.\n\n" +
			"The attribute `guarantee` says what holds and what does not; `manifest` is the objects themselves, and a change made behind our back shows in its diff.\n\n" +
			"Another NetworkPolicy that admits more to the same pods is not undone by this one, but a plan warns of it. It warns as well if no pods are selected, if pods are not in the mesh, and of ports that their proxies skip. " +
			"NetworkPolicies add up, and the objects of a mesh do not: make one resource with all `ports` for a set of pods, and set `require_identity = false` where `aksmesh_authorization` or others hold the callers at the same ports. Overlaps are told at plan.\n\n" +
			"What depends on the pods (the mesh and its mode unless said, and the ports that Linkerd has to close one by one) is read when the resource is created, and kept from then on.",
		Attributes: networkPolicyAttributes(ctx),
	}
}

func networkPolicyAttributes(ctx context.Context) map[string]schema.Attribute {
	notOfControlPlane := path.MatchRoot("control_plane")
	return map[string]schema.Attribute{
		"id": computedString("`<namespace>/<name>`."),
		"namespace": schema.StringAttribute{
			Required:            true,
			MarkdownDescription: "Namespace of the pods to protect. Changing it makes a new policy.",
			Validators:          []validator.String{dnsLabel()},
			PlanModifiers:       []planmodifier.String{stringplanmodifier.RequiresReplace()},
		},
		"name": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(guard.DefaultName),
			MarkdownDescription: "Name of the NetworkPolicy, and of the objects of Istio; those of Linkerd are `<name>-<port>`, for instance, and begin with it. Default `" + guard.DefaultName + "`; give each policy of a namespace its own. " +
				"Changing it makes a new policy, and between the end of the old one and the new one the pods are open; with `create_before_destroy`, Linkerd refuses the new Servers as long as the old ones are for the same ports of the same pods.",
			Validators:    []validator.String{stringvalidator.RegexMatches(subdomainPattern, "must be a DNS subdomain: lower-case letters, digits, dashes and dots")},
			PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
		},
		"pod_selector": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Labels of the pods to protect; `{}` selects every pod of the namespace. Required, unless `control_plane` is set.",
			Validators: []validator.Map{
				mapvalidator.ExactlyOneOf(path.MatchRoot("pod_selector"), notOfControlPlane),
				mapvalidator.KeysAre(labelKey()), mapvalidator.ValueStringsAre(labelValue()),
			},
		},
		"ports": schema.ListAttribute{
			Optional: true, ElementType: types.Int32Type,
			MarkdownDescription: "TCP ports of the containers that meshed clients may use. Default: all.",
			Validators:          append(portLists(), listvalidator.SizeAtLeast(1), listvalidator.ConflictsWith(notOfControlPlane)),
		},
		"mesh": schema.SingleNestedAttribute{
			Optional: true, Computed: true,
			MarkdownDescription: "The mesh whose traffic to admit: exactly one of `linkerd` and `istio`. Default: the one that the selected pods are in, or that their namespace or their labels ask for, or else the only one that is installed.",
			Attributes: map[string]schema.Attribute{
				"linkerd": schema.SingleNestedAttribute{
					Optional:            true,
					MarkdownDescription: "Admit Linkerd's traffic.",
					Validators:          []validator.Object{objectvalidator.ExactlyOneOf(path.MatchRoot("mesh").AtName("istio"))},
					Attributes: map[string]schema.Attribute{
						"control_plane_namespace": schema.StringAttribute{
							Optional: true, Computed: true,
							MarkdownDescription: "Namespace of the control plane. Default `" + linkerd.DefaultNamespace + "`, or with `control_plane` the namespace of the policy.",
							Validators:          []validator.String{dnsLabel()},
						},
						"version": schema.StringAttribute{
							Optional:            true,
							MarkdownDescription: "Version of Linkerd, such as `2026.8.3`, `edge-26.8.3` or `stable-2.14.10`. Default: read from the control plane in the cluster, which then must be there. When the same apply installs or upgrades Linkerd, refer to `aksmesh_linkerd.this.version`, so that the plan goes by the version to come.",
							Validators:          []validator.String{linkerdVersion()},
						},
					},
				},
				"istio": schema.SingleNestedAttribute{
					Optional:            true,
					MarkdownDescription: "Admit the traffic of Istio.",
					Attributes: map[string]schema.Attribute{
						"mode": schema.StringAttribute{
							Optional: true, Computed: true,
							MarkdownDescription: "How the selected pods are in the mesh: `sidecar`, `ambient`, or `both` where some are the one and some the other, or where sidecars are called from ambient mode too. Default: read from the pods, or while there are none from their namespace.",
							Validators:          []validator.String{stringvalidator.OneOf(istio.Modes()...)},
						},
					},
				},
			},
		},
		"strength": schema.StringAttribute{
			Optional: true, Computed: true,
			MarkdownDescription: "By what the NetworkPolicy tells the mesh's traffic from other: `" + string(access.MTLSPort) + "` opens only the port on which proxies demand mTLS, to everybody; `" +
				string(access.Label) + "` opens the ports that meshed clients dial to pods with the mesh's label, which whoever may label a pod can forge; `" +
				string(access.Both) + "` opens the port of the first to the pods of the second. Default: `" + string(access.MTLSPort) + "` where the mesh sends all of its traffic there, otherwise `" + string(access.Label) + "`.",
			Validators: []validator.String{stringvalidator.OneOf(strengths()...), stringvalidator.ConflictsWith(notOfControlPlane)},
		},
		"require_identity": schema.BoolAttribute{
			Optional: true, Computed: true,
			MarkdownDescription: "Whether the mesh itself has to hold callers of the pods to `ports`, with an identity of the mesh, by objects of its own. Default `true` if `ports` are given and the strength opens the proxy's port, behind which all ports are to be reached otherwise; and `false` if not.",
			Validators:          []validator.Bool{boolvalidator.ConflictsWith(notOfControlPlane)},
		},
		"closed_ports": schema.ListAttribute{
			Optional: true, Computed: true, ElementType: types.Int32Type,
			MarkdownDescription: "Ports besides `ports` that pods declare, which Linkerd has to close one by one if an identity is required. Default: what the selected pods declare when the policy is made; name them if the pods come later.",
			Validators:          append(portLists(), listvalidator.ConflictsWith(notOfControlPlane)),
		},
		"grpc_probe_ports": schema.ListAttribute{
			Optional: true, Computed: true, ElementType: types.Int32Type,
			MarkdownDescription: "Ports at which kubelets probe the pods by gRPC, which Linkerd has to be told if an identity is required: it keeps probes by HTTP alive by itself. Default: what the selected pods have when the policy is made; name them if the pods come later.",
			Validators:          append(portLists(), listvalidator.ConflictsWith(notOfControlPlane)),
		},
		"allow": schema.SingleNestedAttribute{
			Optional:            true,
			MarkdownDescription: "Who is let in without the mesh. Where an identity is required, it is not asked for at the ports of these exceptions, and the NetworkPolicy alone decides.",
			Attributes: map[string]schema.Attribute{
				"same_namespace": defaulted(false, "Whether every pod of the namespace is."),
				"pods":           peersAttribute("Pods that are, such as those of an ingress controller outside of the mesh.", true),
				"metrics":        peersAttribute("Pods that read the metrics of the mesh's proxies, such as Prometheus, and no more.", false),
				"cidrs":          blocksAttribute("Ranges of addresses outside of the cluster that are."),
			},
		},
		"egress": schema.SingleNestedAttribute{
			Optional:            true,
			MarkdownDescription: "Restricts where the selected pods may go to what is named here. Default: egress is left alone.",
			Attributes: map[string]schema.Attribute{
				"dns":           defaulted(true, "Whether they may ask the cluster's DNS."),
				"control_plane": defaulted(true, "Whether they may reach the mesh's control plane, without which proxies never become ready."),
				"mesh":          defaulted(true, "Whether they may call meshed pods, of all namespaces."),
				"mesh_ports": schema.ListAttribute{
					Optional: true, ElementType: types.Int32Type,
					MarkdownDescription: "Ports of meshed pods that they may call where the mesh does not send its traffic to a port of the proxy. Default: all.",
					Validators:          append(portLists(), listvalidator.SizeAtLeast(1)),
				},
				"pods":  peersAttribute("Pods that they may call besides.", true),
				"cidrs": blocksAttribute("Ranges of addresses outside of the cluster that they may call besides."),
			},
		},
		"control_plane": schema.SingleNestedAttribute{
			Optional:            true,
			MarkdownDescription: "Protects the mesh's control plane in `namespace` instead of pods of an application: proxies reach it, and the API server its webhooks.",
			Attributes: map[string]schema.Attribute{
				"api_server": schema.SingleNestedAttribute{
					Optional:            true,
					MarkdownDescription: "Where the API server calls the webhooks from. Default: everywhere.",
					Attributes: map[string]schema.Attribute{
						"everyone": schema.BoolAttribute{
							Optional:            true,
							MarkdownDescription: "Whether the webhooks' ports are open to all, which works wherever the API server is; they demand TLS. Default `true` unless another of these is given.",
						},
						"konnectivity": defaulted(false, "Whether they are to the pods `konnectivity-agent` of `kube-system`, by which the API server of AKS comes without VNet integration."),
						"cidrs": schema.ListAttribute{
							Optional: true, ElementType: types.StringType,
							MarkdownDescription: "Ranges of addresses that they are open to, such as the subnet of an API server with VNet integration. `0.0.0.0/0` and `::/0` mean everyone.",
							Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues()},
						},
					},
				},
			},
		},
		"allow_unenforced": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(false),
			MarkdownDescription: "Whether to make the policy although nothing seems to enforce it: the cluster has no network policy engine, or one that is not known here. Default `false`: that is an error.",
		},
		"force_conflicts": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(false),
			MarkdownDescription: "Whether the first apply takes objects of these names over: from other field managers, or those that an apply of this resource which broke off has left from other settings. Default `false`: that is an error which names the other manager.",
		},
		"manifest":  computedString("All objects in YAML: in the state as they are in the cluster, in a plan as they will be."),
		"guarantee": computedString("What holds once the policy is in force, and what does not."),
		"engine":    computedString("What enforces network policies in the cluster, such as `Calico`; null if that cannot be told."),
		"timeouts":  timeouts.Attributes(ctx, timeouts.Opts{Create: true, Read: true, Update: true, Delete: true}),
	}
}

func strengths() []string {
	var texts []string
	for _, strength := range access.Strengths() {
		texts = append(texts, string(strength))
	}
	return texts
}

// portLists validates lists of ports.
func portLists() []validator.List {
	return []validator.List{listvalidator.UniqueValues(), listvalidator.ValueInt32sAre(int32validator.Between(1, 65535))}
}

func defaulted(value bool, description string) schema.BoolAttribute {
	return schema.BoolAttribute{
		Optional: true, Computed: true, Default: booldefault.StaticBool(value),
		MarkdownDescription: fmt.Sprintf("%s Default `%t`.", description, value),
	}
}

// peersAttribute is a list of pods, at some ports if those count.
func peersAttribute(description string, ports bool) schema.ListNestedAttribute {
	labels := func(of string) schema.MapAttribute {
		return schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Labels of " + of + " Default: all.",
			Validators:          []validator.Map{mapvalidator.SizeAtLeast(1), mapvalidator.KeysAre(labelKey()), mapvalidator.ValueStringsAre(labelValue())},
		}
	}
	attributes := map[string]schema.Attribute{
		"namespace_labels": labels("their namespaces, such as `{ \"kubernetes.io/metadata.name\" = \"ingress-nginx\" }`."),
		"pod_labels":       labels("the pods."),
	}
	if ports {
		attributes["ports"] = exceptionPorts()
	}
	return schema.ListNestedAttribute{
		Optional: true, MarkdownDescription: description,
		Validators:   []validator.List{listvalidator.SizeAtLeast(1)},
		NestedObject: schema.NestedAttributeObject{Attributes: attributes},
	}
}

func exceptionPorts() schema.ListAttribute {
	return schema.ListAttribute{
		Optional: true, ElementType: types.Int32Type,
		MarkdownDescription: "TCP ports. Default: those of the policy when they come in, and all when they are called.",
		Validators:          append(portLists(), listvalidator.SizeAtLeast(1)),
	}
}

func blocksAttribute(description string) schema.ListNestedAttribute {
	return schema.ListNestedAttribute{
		Optional: true, MarkdownDescription: description,
		Validators: []validator.List{listvalidator.SizeAtLeast(1)},
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"cidr": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "The range, such as `203.0.113.0/24`. `0.0.0.0/0` and `::/0`, each without exceptions, both mean everybody, pods and nodes included, which ranges never match with Cilium.",
			},
			"except": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Ranges within it that are left out.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues()},
			},
			"ports": exceptionPorts(),
		}},
	}
}

// ValidateConfig refuses ports that the mesh's proxies keep for themselves, ranges
// that are none, and what does not go together.
func (r *networkPolicyResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model networkPolicyModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || !model.settled(ctx) {
		return
	}
	model.check(ctx, &resp.Diagnostics)
}

func (r *networkPolicyResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, creating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	// What has been begun is in the state, so that the next apply removes it.
	if r.write(ctx, cluster, &model, nil, &resp.Diagnostics) {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

func (r *networkPolicyResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var model, before networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, updating, req.Plan, &model, &resp.Diagnostics)
	defer end()
	resp.Diagnostics.Append(req.State.Get(ctx, &before)...)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	if r.write(ctx, cluster, &model, &before, &resp.Diagnostics) && !resp.Diagnostics.HasError() {
		save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
	}
}

// write applies the policy, and tells whether that was begun. What the plan has
// shown is what is written, even if the mesh has been upgraded since. Before is nil
// for a policy that is made.
func (r *networkPolicyResource) write(ctx context.Context, cluster *kube.Cluster, model, before *networkPolicyModel, diags *diag.Diagnostics) bool {
	const failed = "Unable to Write Network Policy"
	compiled := guard.Compiled{Intent: model.intent(ctx, diags), Manifest: model.Manifest.ValueString(), Guarantee: model.Guarantee.ValueString()}
	if model.Manifest.IsUnknown() {
		var err error
		if compiled, err = guard.Compile(ctx, cluster, compiled.Intent); err != nil {
			problem(diags, failed, err)
			return false
		}
		model.show(ctx, compiled.Intent, diags)
		model.Manifest, model.Guarantee = types.StringValue(compiled.Manifest), types.StringValue(compiled.Guarantee)
	}
	policy := model.policy(cluster, compiled.Intent.Traffic)
	found, err := engine.Detect(ctx, cluster)
	if err != nil {
		problem(diags, failed, fmt.Errorf("%s: look for what enforces it: %w", policy, err))
		return false
	}
	// What was there before is left to be as it was, as at plan.
	if err := model.unenforced(found); err != nil && (before == nil || !model.Manifest.Equal(before.Manifest)) {
		problemAt(diags, path.Root("allow_unenforced"), "No Network Policy Engine", err)
	}
	if model.Engine.IsUnknown() {
		model.Engine = engineValue(found)
	}
	if diags.HasError() {
		return false
	}
	// The plan of an update has shown what others changed, and its approval is the
	// user's word to change it back.
	force := before != nil || model.ForceConflicts.ValueBool()
	if before != nil {
		policy.Traffics = append(policy.Traffics, before.traffic(ctx, diags))
	}
	begun, err := policy.Apply(ctx, compiled, force)
	if err != nil {
		problem(diags, failed, err)
	}
	return begun
}

func (m *networkPolicyModel) policy(cluster *kube.Cluster, traffic guard.Traffic) guard.Policy {
	return guard.Policy{Cluster: cluster, Namespace: m.Namespace.ValueString(), Name: m.Name.ValueString(), Traffics: []guard.Traffic{traffic}}
}

func engineValue(found engine.Result) types.String {
	if found.Name == "" {
		return types.StringNull()
	}
	return types.StringValue(found.Name)
}

func (r *networkPolicyResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.beginRead(ctx, req, resp, &model)
	defer end()
	if !ok {
		return
	}
	namespace, name, ok := strings.Cut(model.ID.ValueString(), "/")
	if !ok || namespace == "" || name == "" {
		resp.Diagnostics.AddAttributeError(path.Root("id"), "Invalid Network Policy ID", fmt.Sprintf("%q is not <namespace>/<name>.", model.ID.ValueString()))
		return
	}
	importing := model.Namespace.IsNull()
	model.Namespace, model.Name = types.StringValue(namespace), types.StringValue(name)
	policy := model.policy(cluster, model.traffic(ctx, &resp.Diagnostics))
	found, err := policy.Read(ctx)
	if errors.Is(err, kube.ErrNotFound) || err == nil && found.Manifest == "" && !importing {
		forget(ctx, resp, model.ID)
		return
	}
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Network Policy", err)
		return
	}
	if importing {
		if found.Intent == nil {
			resp.Diagnostics.AddAttributeError(path.Root("id"), "Not a Policy of This Provider", fmt.Sprintf(
				"%s does not say which mesh's traffic it admits, so it was not made by aksmesh_network_policy. Write the resource under another name, apply, and delete the old policy.", policy))
			return
		}
		model.imported(ctx, *found.Intent, &resp.Diagnostics)
		model.Guarantee = types.StringValue(found.Guarantee)
	}
	model.Manifest = types.StringValue(found.Manifest)
	enforced, err := engine.Detect(ctx, cluster)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Read Network Policy", fmt.Errorf("%s: look for what enforces it: %w", policy, err))
		return
	}
	model.Engine = engineValue(enforced)
	save(ctx, &resp.State, resp.Identity, &model, &resp.Diagnostics)
}

func (r *networkPolicyResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model networkPolicyModel
	ctx, end, cluster, ok := r.begin(ctx, deleting, req.State, &model, &resp.Diagnostics)
	defer end()
	if !ok {
		return
	}
	if err := model.policy(cluster, model.traffic(ctx, &resp.Diagnostics)).Delete(ctx); err != nil {
		problem(&resp.Diagnostics, "Unable to Delete Network Policy", err)
	}
}

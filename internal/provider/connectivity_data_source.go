package provider

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8stypes "k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

type connectivityDataSource struct{ session *session }

var (
	_ datasource.DataSourceWithConfigure      = (*connectivityDataSource)(nil)
	_ datasource.DataSourceWithValidateConfig = (*connectivityDataSource)(nil)
)

func newConnectivityDataSource() datasource.DataSource { return &connectivityDataSource{} }

func (d *connectivityDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_connectivity"
}

// Rows that the matrix contains, besides listEverything and listNothing.
const (
	listAllowed = "allowed"
	listRefused = "refused"
	listChanged = "changed"
)

// What the matrix is printed as.
const (
	asTable   = "table"
	asJSON    = "json"
	asMermaid = "mermaid"
	asDOT     = "dot"
)

// defaultRows is how many rows a matrix has at most unless told otherwise: they
// are all kept in the state.
const defaultRows = 500

func (d *connectivityDataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	end := func(what string) schema.SingleNestedAttribute {
		return schema.SingleNestedAttribute{
			Required:            true,
			MarkdownDescription: what + ": pods, by all of what is set besides `address`, or addresses outside of the cluster.",
			Attributes: map[string]schema.Attribute{
				"namespace": schema.StringAttribute{Optional: true, MarkdownDescription: "Namespace of the pods. Default: all.", Validators: []validator.String{dnsLabel()}},
				"pod_labels": schema.MapAttribute{
					Optional: true, ElementType: types.StringType,
					MarkdownDescription: "Labels of the pods.",
					Validators:          []validator.Map{mapvalidator.SizeAtLeast(1), mapvalidator.KeysAre(labelKey()), mapvalidator.ValueStringsAre(labelValue())},
				},
				"name":    schema.StringAttribute{Optional: true, MarkdownDescription: "Name of the pods, or of the Deployment or whatever else manages them.", Validators: []validator.String{stringvalidator.LengthAtLeast(1)}},
				"meshed":  schema.BoolAttribute{Optional: true, MarkdownDescription: "`true` for pods that belong to a mesh by a proxy of their own, whether it works or not, or through their node; `false` for those that do not, those of the node's network among them. Default: both."},
				"address": schema.StringAttribute{Optional: true, MarkdownDescription: "An IP address outside of the cluster, or a range of them in CIDR notation, of which all are meant.", Validators: []validator.String{network()}},
			},
		}
	}
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	count := func(of string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: of}
	}
	yes := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Computed: true, MarkdownDescription: description}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Works out who reaches whom on which port, from the live pods, namespaces, NetworkPolicies and authorization of the meshes, and what candidates of policies would change. " +
			"Each verdict comes with its reason in both layers: the policy and rule of the network, and the object of the mesh.\n\n" +
			"A connection that a mesh sends to its proxies is judged by NetworkPolicies at the port where it really arrives: `4143` of Linkerd, `15008` of Istio's ambient mode. " +
			"Traffic between a pod and the node that it runs on, kubelet's probes first of all, passes every NetworkPolicy and is not shown: " +
			"pods of the node's network (`hostNetwork`) are judged as those of other nodes, though on their own node they reach every pod. " +
			"With Cilium, an `ipBlock` matches neither pods nor nodes, whatever its range. " +
			"Pods without an address yet are left out. " +
			"What depends on what is not evaluated is `unknown`: waypoints and gateways of Istio, authorizers of the user's, Servers that contradict each other, calls that differ by Service and by address. " +
			"Of Linkerd, the annotation `config.linkerd.io/opaque-ports` of Services is left out, which matters to the port where connections arrive only without transport headers. " +
			"Nothing is sent anywhere and nothing in the cluster is changed: verdicts are what the policies say, and as good as the network plugin that enforces them.",
		Attributes: map[string]schema.Attribute{
			"namespaces": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "The matrix is about pods of these namespaces, at both ends. Default: all namespaces. Expectations are about the whole cluster in any case.",
				Validators:          []validator.Set{setvalidator.SizeAtLeast(1), setvalidator.ValueStringsAre(dnsLabel())},
			},
			"ports": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "Ports that the matrix is about, by number or by the name that containers give them, with the protocol behind unless that is TCP: `[8080, \"53/UDP\", \"http\"]`. " +
					"Default: those that the containers of the called pods declare, sidecars of meshes apart.",
				Validators: []validator.List{listvalidator.SizeAtLeast(1), listvalidator.ValueStringsAre(portText())},
			},
			"addresses": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "IP addresses outside of the cluster that the matrix shows, too, as callers, and with `ports` as called.",
				Validators:          []validator.List{listvalidator.SizeAtLeast(1), listvalidator.UniqueValues(), listvalidator.ValueStringsAre(ipAddress())},
			},
			"candidates": schema.ListAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "NetworkPolicies as YAML or JSON, of one or more documents, that the verdicts assume: besides those of the cluster, or in place of one with the same namespace and name. " +
					"The objects that let callers in or refuse them by a mesh can be among them, as in the `manifest` of `aksmesh_network_policy` and `aksmesh_authorization`: " +
					"Linkerd's Servers, AuthorizationPolicies, MeshTLSAuthentications, NetworkAuthentications and HTTPRoutes, Istio's AuthorizationPolicies and PeerAuthentications.",
			},
			"without": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "NetworkPolicies of the cluster, as `<namespace>/<name>`, that the verdicts assume to be gone.",
				Validators:          []validator.Set{setvalidator.ValueStringsAre(checked{description: "the <namespace>/<name> of a NetworkPolicy", check: checkPolicyName})},
			},
			"expect": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "What is expected of the cluster, with the candidates. Every connection that an expectation is about must be as expected. One that is about no connection at all, as there are no such pods, is not met, nor is one of which it cannot be told, nor that something is refused which only NetworkPolicies refuse while nothing enforces them.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"from":     end("Who calls"),
					"to":       end("Who is called"),
					"port":     schema.StringAttribute{Required: true, MarkdownDescription: "Port of the called pods' containers, not of a Service: a number, or the name that a container gives it.", Validators: []validator.String{portText()}},
					"protocol": schema.StringAttribute{Optional: true, MarkdownDescription: "`TCP` (default), `UDP` or `SCTP`.", Validators: []validator.String{stringvalidator.OneOf("TCP", "UDP", "SCTP")}},
					"allowed":  schema.BoolAttribute{Required: true, MarkdownDescription: "Whether the callers are expected to get through. Where the mesh lets only some requests through, they do."},
				}},
				Validators: []validator.List{listvalidator.SizeAtLeast(1)},
			},
			"fail_on_unmet": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Whether an expectation that is not met is an error of the data source, which ends the plan or apply. Default `false`: " +
					"use `ok` and `unmet` in a `check` block or in a postcondition.",
			},
			"list": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "Which rows the matrix and what it is printed as contain: `all`, those that are `allowed`, those that are `refused`, those that the candidates have `changed`, or `none`. " +
					"Default: `changed` with `candidates` or `without`, otherwise `none` with `expect` and no `renderings`, otherwise `all`. With `none`, no more is worked out than the expectations need.",
				Validators: []validator.String{stringvalidator.OneOf(listEverything, listAllowed, listRefused, listChanged, listNothing)},
			},
			"max_rows": schema.Int64Attribute{
				Optional:            true,
				MarkdownDescription: fmt.Sprintf("How many rows the matrix contains at most, as all of them are kept in the state. A warning tells if there are more. Default `%d`.", defaultRows),
				Validators:          []validator.Int64{int64validator.Between(1, 100000)},
			},
			"renderings": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "What the matrix is printed as, into the attributes of the same names: `table`, `json`, `mermaid`, `dot`. Default: nothing.",
				Validators:          []validator.Set{setvalidator.ValueStringsAre(stringvalidator.OneOf(asTable, asJSON, asMermaid, asDOT))},
			},
			"timeouts": timeouts.Attributes(ctx),
			"ok":       yes("Whether all expectations are met."),
			"unmet": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "The expectations that are not met, a sentence each, with the reason.",
			},
			"results": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "What has come of the expectations, in their order.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"expectation": text("The expectation in words."),
					"met":         yes("Whether it is met."),
					"reason":      text("Which policies and rules decide so, or why nothing can be said."),
				}},
			},
			"matrix": schema.ListNestedAttribute{
				Computed: true,
				MarkdownDescription: "The rows, in order of the called, the port, and the caller. Pods of one workload are one row if nothing tells them apart. " +
					"Finished pods, and a pod's connections to itself, have none.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"from":           text("Who calls: `Deployment dgraph/alpha`, followed by the name of a pod if not all of its pods are alike, or an address."),
					"to":             text("Who is called, in the same form."),
					"port":           count("Port that the caller asks for."),
					"protocol":       text("`TCP`, `UDP` or `SCTP`."),
					"allowed":        yes("Whether the caller gets through, with the candidates."),
					"partly":         yes("Whether that depends on the request, of which the mesh lets some through."),
					"unknown":        yes("Whether that cannot be told, as it depends on what is not evaluated. `allowed` is true then: nothing that is evaluated refuses the caller."),
					"before":         yes("Whether the caller gets through without the candidates, as the cluster is."),
					"wire_port":      count("Port at which the connection arrives at the pod: that of the proxy where a mesh sends it there."),
					"network_reason": text("Which NetworkPolicies and rules decide, or that none do."),
					"mesh_reason":    text("What the authorization of the mesh says, by which object; null without one."),
				}},
			},
			"summary": schema.SingleNestedAttribute{
				Computed:            true,
				MarkdownDescription: "Counts of all rows, whether the matrix contains them or not; null if `list` is `none`.",
				Attributes: map[string]schema.Attribute{
					"rows":    count("Rows."),
					"allowed": count("Rows of callers that get through."),
					"unknown": count("Rows of which that cannot be told."),
					"refused": count("Rows of callers that do not."),
					"changed": count("Rows that the candidates change."),
				},
			},
			"policy_engine": text("What enforces NetworkPolicies in the cluster; null if nothing was found, or if it cannot be told. A warning says which, as the verdicts are then what policies say, and maybe not what happens."),
			"not_evaluated": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "Policies of other kinds that decide as well, and that the verdicts leave out: AdminNetworkPolicies, BaselineAdminNetworkPolicies and ClusterNetworkPolicies, those of Calico and of Cilium; " +
					"Linkerd's EgressNetworks; Istio's Sidecars, EnvoyFilters, RequestAuthentications, AuthorizationPolicies for waypoints and gateways, and `outboundTrafficPolicy` `REGISTRY_ONLY`.",
			},
			asTable:   text("The rows as a table of plain text, if `renderings` asks for it."),
			asJSON:    text("The rows as JSON, if `renderings` asks for it."),
			asMermaid: text("The rows as a flowchart of Mermaid, if `renderings` asks for it."),
			asDOT:     text("The rows as a graph of Graphviz, if `renderings` asks for it."),
		},
	}
}

type connectivityModel struct {
	Namespaces   types.Set            `tfsdk:"namespaces"`
	Ports        types.List           `tfsdk:"ports"`
	Addresses    types.List           `tfsdk:"addresses"`
	Candidates   types.List           `tfsdk:"candidates"`
	Without      types.Set            `tfsdk:"without"`
	Expect       types.List           `tfsdk:"expect"`
	FailOnUnmet  types.Bool           `tfsdk:"fail_on_unmet"`
	List         types.String         `tfsdk:"list"`
	MaxRows      types.Int64          `tfsdk:"max_rows"`
	Renderings   types.Set            `tfsdk:"renderings"`
	Timeouts     timeouts.Value       `tfsdk:"timeouts"`
	OK           types.Bool           `tfsdk:"ok"`
	Unmet        []string             `tfsdk:"unmet"`
	Results      []expectationModel   `tfsdk:"results"`
	Matrix       []reachModel         `tfsdk:"matrix"`
	Summary      *connectivitySummary `tfsdk:"summary"`
	PolicyEngine types.String         `tfsdk:"policy_engine"`
	NotEvaluated []string             `tfsdk:"not_evaluated"`
	Table        types.String         `tfsdk:"table"`
	JSON         types.String         `tfsdk:"json"`
	Mermaid      types.String         `tfsdk:"mermaid"`
	DOT          types.String         `tfsdk:"dot"`
}

type expectModel struct {
	From     reachEnd     `tfsdk:"from"`
	To       reachEnd     `tfsdk:"to"`
	Port     types.String `tfsdk:"port"`
	Protocol types.String `tfsdk:"protocol"`
	Allowed  types.Bool   `tfsdk:"allowed"`
}

type reachEnd struct {
	Namespace types.String `tfsdk:"namespace"`
	PodLabels types.Map    `tfsdk:"pod_labels"`
	Name      types.String `tfsdk:"name"`
	Meshed    types.Bool   `tfsdk:"meshed"`
	Address   types.String `tfsdk:"address"`
}

type expectationModel struct {
	Expectation string `tfsdk:"expectation"`
	Met         bool   `tfsdk:"met"`
	Reason      string `tfsdk:"reason"`
}

type reachModel struct {
	From          string       `tfsdk:"from"`
	To            string       `tfsdk:"to"`
	Port          int64        `tfsdk:"port"`
	Protocol      string       `tfsdk:"protocol"`
	Allowed       bool         `tfsdk:"allowed"`
	Partly        bool         `tfsdk:"partly"`
	Unknown       bool         `tfsdk:"unknown"`
	Before        bool         `tfsdk:"before"`
	WirePort      int64        `tfsdk:"wire_port"`
	NetworkReason string       `tfsdk:"network_reason"`
	MeshReason    types.String `tfsdk:"mesh_reason"`
}

type connectivitySummary struct {
	Rows    int64 `tfsdk:"rows"`
	Allowed int64 `tfsdk:"allowed"`
	Refused int64 `tfsdk:"refused"`
	Unknown int64 `tfsdk:"unknown"`
	Changed int64 `tfsdk:"changed"`
}

func (s *connectivitySummary) count(row reach.Row) {
	s.Rows++
	switch {
	case row.After.Unknown:
		s.Unknown++
	case row.After.Allowed:
		s.Allowed++
	default:
		s.Refused++
	}
	if row.Changed() {
		s.Changed++
	}
}

// ValidateConfig refuses expectations that say nothing and candidates that are
// not NetworkPolicies.
func (d *connectivityDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var model connectivityModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	model.expectations(ctx, &resp.Diagnostics)
	model.candidates(ctx, &resp.Diagnostics)
}

func (d *connectivityDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (d *connectivityDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var model connectivityModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	cluster, ok := d.session.requireCluster(&resp.Diagnostics)
	limit, diags := model.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	expectations := model.expectations(ctx, &resp.Diagnostics)
	candidates := model.candidates(ctx, &resp.Diagnostics)
	survey := model.survey(ctx, &resp.Diagnostics)
	without := elements[string](ctx, model.Without, &resp.Diagnostics)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := model.look(ctx, cluster, &survey, &resp.Diagnostics)
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Work Out Connectivity", err)
		return
	}
	if err := propose(ctx, cluster, &survey, candidates, without, &resp.Diagnostics); err != nil {
		problem(&resp.Diagnostics, "Unable to Work Out Connectivity", err)
		return
	}
	drawn, err := survey.Draw()
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Work Out Connectivity", err)
		return
	}
	warnOfEngine(found, len(survey.Rules.Policies)+len(candidates.Policies) > 0, &resp.Diagnostics)
	model.hold(drawn, expectations)
	if err := model.tell(ctx, drawn, survey.Proposed != nil, &resp.Diagnostics); err != nil {
		problem(&resp.Diagnostics, "Unable to Print Connectivity", err)
	}
	if len(model.Unmet) > 0 && model.FailOnUnmet.ValueBool() {
		resp.Diagnostics.AddAttributeError(path.Root("expect"), "Not As Expected", strings.Join(model.Unmet, "\n\n"))
	}
	if resp.Diagnostics.HasError() {
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

// look reads the cluster and what enforces its NetworkPolicies, and warns of what
// else decides.
func (m *connectivityModel) look(ctx context.Context, cluster *kube.Cluster, survey *reach.Survey, diags *diag.Diagnostics) (engine.Result, error) {
	if err := survey.Read(ctx, cluster); err != nil {
		return engine.Result{}, err
	}
	var err error
	if survey.Rules.Authorities, err = authorities(ctx, cluster); err != nil {
		return engine.Result{}, err
	}
	if m.NotEvaluated, err = reach.NotEvaluated(ctx, cluster); err != nil {
		return engine.Result{}, err
	}
	for _, authority := range survey.Rules.Authorities {
		m.NotEvaluated = append(m.NotEvaluated, authority.NotEvaluated()...)
	}
	slices.Sort(m.NotEvaluated)
	if len(m.NotEvaluated) > 0 {
		diags.AddWarning("Other Policies Decide Too", fmt.Sprintf(
			"The verdicts are those of NetworkPolicies and of the meshes. The network plugin and the proxies follow these too, which may let through more or less: %s.", strings.Join(m.NotEvaluated, ", ")))
	}
	found, err := engine.Detect(ctx, cluster)
	if err != nil {
		return engine.Result{}, err
	}
	m.PolicyEngine = orNull(found.Name)
	survey.Unenforced, survey.Reading = found.None(), found.Reading()
	return found, nil
}

// warnOfEngine warns if policies, live or proposed, may not be enforced.
func warnOfEngine(found engine.Result, policies bool, diags *diag.Diagnostics) {
	switch {
	case !policies || found.Name != "":
	case found.None():
		diags.AddWarning("Nothing Enforces NetworkPolicies", fmt.Sprintf(
			"The verdicts are what NetworkPolicies say, but the cluster seems to have nothing that enforces them, so that every connection gets through as far as a mesh lets it: %s. "+
				"What they alone refuse counts for no expectation.", found.Looked))
	default:
		diags.AddWarning("Unknown Whether NetworkPolicies Are Enforced", fmt.Sprintf(
			"The verdicts are what NetworkPolicies say. Whether the cluster has anything that enforces them cannot be told: %s.", strings.Join(found.Unseen, ", ")))
	}
}

// authorities are those of the meshes that are in the cluster, as they would be
// with the proposed objects.
func authorities(ctx context.Context, cluster *kube.Cluster, proposed ...*unstructured.Unstructured) ([]access.Authority, error) {
	var found []access.Authority
	for _, read := range []func(context.Context, *kube.Cluster, ...*unstructured.Unstructured) (access.Authority, error){linkerd.ReadAuthority, istio.ReadAuthority} {
		authority, err := read(ctx, cluster, proposed...)
		if err != nil {
			return nil, err
		}
		if authority != nil {
			found = append(found, authority)
		}
	}
	return found, nil
}

// propose adds to the survey what the rules would be with the candidates and
// without some NetworkPolicies, if there are any of either.
func propose(ctx context.Context, cluster *kube.Cluster, survey *reach.Survey, candidates reach.Candidates, without []string, diags *diag.Diagnostics) error {
	if len(candidates.Policies)+len(candidates.Others)+len(without) == 0 {
		return nil
	}
	names := make([]k8stypes.NamespacedName, len(without))
	for i, text := range without {
		namespace, name, _ := strings.Cut(text, "/")
		names[i] = k8stypes.NamespacedName{Namespace: namespace, Name: name}
		if !slices.ContainsFunc(survey.Rules.Policies, func(policy *networkingv1.NetworkPolicy) bool {
			return policy.Namespace == namespace && policy.Name == name
		}) {
			diags.AddAttributeWarning(path.Root("without"), "No Such NetworkPolicy", fmt.Sprintf("NetworkPolicy %s is not in the cluster, so that leaving it out changes nothing.", text))
		}
	}
	survey.Proposed = &reach.Rules{Policies: reach.Propose(survey.Rules.Policies, candidates.Policies, names), Authorities: survey.Rules.Authorities}
	if len(candidates.Others) == 0 {
		return nil
	}
	var err error
	survey.Proposed.Authorities, err = authorities(ctx, cluster, candidates.Others...)
	return err
}

// survey is what the configuration asks about.
func (m *connectivityModel) survey(ctx context.Context, diags *diag.Diagnostics) reach.Survey {
	survey := reach.Survey{
		Within: elements[string](ctx, m.Namespaces, diags),
		// The ports of proxies are the mesh's business, whichever it is.
		Sidecars: []string{"linkerd-proxy", "istio-proxy"},
	}
	for _, text := range elements[string](ctx, m.Ports, diags) {
		port, err := reach.ParsePort(text)
		if err != nil {
			problemAt(diags, path.Root("ports"), "Invalid Port", err)
			continue
		}
		survey.Ports = append(survey.Ports, port)
	}
	for _, text := range elements[string](ctx, m.Addresses, diags) {
		address, err := netip.ParseAddr(text)
		if err != nil {
			problemAt(diags, path.Root("addresses"), "Invalid Address", err)
			continue
		}
		survey.Addresses = append(survey.Addresses, address.Unmap())
	}
	return survey
}

// candidates are the objects of the texts that are known.
func (m *connectivityModel) candidates(ctx context.Context, diags *diag.Diagnostics) reach.Candidates {
	kinds := slices.Concat(linkerd.PolicyKinds(), istio.PolicyKinds())
	var all reach.Candidates
	for i, text := range elements[types.String](ctx, m.Candidates, diags) {
		if text.IsNull() || text.IsUnknown() {
			continue
		}
		found, err := reach.ParseCandidates(text.ValueString(), kinds)
		if err == nil {
			err = all.Add(found)
		}
		if err != nil {
			problemAt(diags, path.Root("candidates").AtListIndex(i), "Invalid Candidate", err)
		}
	}
	return all
}

// expectations are those of the configuration; there are none while any part of
// them is unknown.
func (m *connectivityModel) expectations(ctx context.Context, diags *diag.Diagnostics) []reach.Expectation {
	if !fullyKnown(ctx, m.Expect) {
		return nil
	}
	var all []reach.Expectation
	for i, e := range elements[expectModel](ctx, m.Expect, diags) {
		at := path.Root("expect").AtListIndex(i)
		port, err := reach.ParsePort(e.Port.ValueString() + "/" + orTCP(e.Protocol))
		if err != nil {
			problemAt(diags, at.AtName("port"), "Invalid Port", err)
		}
		from := e.From.selector(ctx, at.AtName("from"), diags)
		to := e.To.selector(ctx, at.AtName("to"), diags)
		if from.Network.IsValid() && to.Network.IsValid() {
			diags.AddAttributeError(at, "Invalid Expectation", "Both ends are outside of the cluster, where nothing is known of what decides. Name pods at one end.")
		}
		all = append(all, reach.Expectation{From: from, To: to, Port: port, Allowed: e.Allowed.ValueBool()})
	}
	return all
}

func orTCP(protocol types.String) string {
	if protocol.IsNull() {
		return "TCP"
	}
	return protocol.ValueString()
}

// selector is what an end of an expectation chooses.
func (e reachEnd) selector(ctx context.Context, at path.Path, diags *diag.Diagnostics) reach.Selector {
	s := reach.Selector{
		Namespace: e.Namespace.ValueString(), PodLabels: stringMap(ctx, e.PodLabels, diags),
		Name: e.Name.ValueString(), Meshed: e.Meshed.ValueBoolPointer(),
	}
	pods := s.Namespace != "" || len(s.PodLabels) > 0 || s.Name != "" || s.Meshed != nil
	switch address := e.Address.ValueString(); {
	case address == "" && !pods:
		diags.AddAttributeError(at, "Nothing Chosen", fmt.Sprintf("%s: set address, or at least one of namespace, pod_labels, name and meshed.", at))
	case address != "" && pods:
		diags.AddAttributeError(at.AtName("address"), "Both Pods and Addresses", fmt.Sprintf("%s: an address is outside of the cluster; set it, or what pods are chosen by, not both.", at))
	case address != "":
		prefix, err := parseNetwork(address)
		if err != nil {
			problemAt(diags, at.AtName("address"), "Invalid Address", err)
		}
		s.Network = prefix
	}
	return s
}

// hold holds the map to the expectations.
func (m *connectivityModel) hold(drawn *reach.Map, expectations []reach.Expectation) {
	m.Unmet, m.Results = []string{}, []expectationModel{}
	for _, e := range expectations {
		outcome := drawn.Expect(e)
		m.Results = append(m.Results, expectationModel{Expectation: e.String(), Met: outcome.Met, Reason: outcome.Reason})
		if !outcome.Met {
			m.Unmet = append(m.Unmet, fmt.Sprintf("Expected that %s, but %s.", e, outcome.Reason))
		}
	}
	m.OK = types.BoolValue(len(m.Unmet) == 0)
}

// tell fills in the matrix, what it is printed as, and the summary.
func (m *connectivityModel) tell(ctx context.Context, drawn *reach.Map, proposed bool, diags *diag.Diagnostics) error {
	list, limit := m.List.ValueString(), defaultRows
	switch {
	case !m.List.IsNull():
	case proposed:
		list = listChanged
	case !m.Expect.IsNull() && m.Renderings.IsNull():
		list = listNothing
	default:
		list = listEverything
	}
	if !m.MaxRows.IsNull() {
		limit = int(m.MaxRows.ValueInt64())
	}
	if list == listNothing {
		m.Matrix = []reachModel{}
		return m.print(ctx, nil, diags)
	}
	var rows []reach.Row
	left := 0
	m.Summary = &connectivitySummary{}
	for row := range drawn.Rows() {
		m.Summary.count(row)
		switch {
		case !lists(list, row):
		case len(rows) < limit:
			rows = append(rows, row)
		default:
			left++
		}
	}
	if left > 0 {
		diags.AddAttributeWarning(path.Root("max_rows"), "More Rows Than the Matrix Holds", fmt.Sprintf(
			"The matrix holds the first %d rows and leaves out %d. Ask for fewer by namespaces, ports or list, or for more by max_rows. The summary and the expectations are about all.", limit, left))
	}
	m.Matrix = make([]reachModel, len(rows))
	for i, row := range rows {
		m.Matrix[i] = reachModel{
			From: row.From.String(), To: row.To.String(), Port: int64(row.Port.Number), Protocol: string(row.Port.Protocol),
			Allowed: row.After.Allowed, Partly: row.After.Partly, Unknown: row.After.Unknown, Before: row.Before.Allowed,
			WirePort: int64(row.After.Wire), NetworkReason: row.After.Network, MeshReason: orNull(row.After.Mesh),
		}
	}
	return m.print(ctx, rows, diags)
}

// lists tells whether a row is one of those asked for.
func lists(list string, row reach.Row) bool {
	switch list {
	case listAllowed:
		return row.After.Allowed
	case listRefused:
		return !row.After.Allowed
	case listChanged:
		return row.Changed()
	default:
		return true
	}
}

// print fills in what the rows are printed as, as far as it is asked for.
func (m *connectivityModel) print(ctx context.Context, rows []reach.Row, diags *diag.Diagnostics) error {
	for _, rendering := range elements[string](ctx, m.Renderings, diags) {
		switch rendering {
		case asTable:
			m.Table = types.StringValue(reach.Table(rows))
		case asJSON:
			text, err := reach.JSON(rows)
			if err != nil {
				return err
			}
			m.JSON = types.StringValue(text)
		case asMermaid:
			m.Mermaid = types.StringValue(reach.Mermaid(rows))
		case asDOT:
			m.DOT = types.StringValue(reach.DOT(rows))
		}
	}
	return nil
}

func checkPolicyName(text string) error {
	namespace, name, _ := strings.Cut(text, "/")
	if !dnsLabelPattern.MatchString(namespace) || !subdomainPattern.MatchString(name) {
		return fmt.Errorf("%q has no namespace or no name", text)
	}
	return nil
}

// portText accepts ports in the form of reach.ParsePort.
func portText() validator.String {
	return checked{description: "a port such as 8080, 53/UDP or http", check: func(value string) error {
		_, err := reach.ParsePort(value)
		return err
	}}
}

// ipAddress accepts IP addresses, network ranges of them too.
func ipAddress() validator.String {
	return checked{description: "an IP address", check: func(value string) error {
		_, err := netip.ParseAddr(value)
		return err
	}}
}

func network() validator.String {
	return checked{description: "an IP address or a range in CIDR notation", check: func(value string) error {
		_, err := parseNetwork(value)
		return err
	}}
}

// parseNetwork reads an address as the range that holds nothing else.
func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

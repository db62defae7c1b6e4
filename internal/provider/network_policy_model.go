package provider

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

type networkPolicyModel struct {
	commonModel
	Namespace       types.String `tfsdk:"namespace"`
	Name            types.String `tfsdk:"name"`
	PodSelector     types.Map    `tfsdk:"pod_selector"`
	Ports           types.List   `tfsdk:"ports"`
	Mesh            types.Object `tfsdk:"mesh"`
	Strength        types.String `tfsdk:"strength"`
	RequireIdentity types.Bool   `tfsdk:"require_identity"`
	ClosedPorts     types.List   `tfsdk:"closed_ports"`
	GRPCProbePorts  types.List   `tfsdk:"grpc_probe_ports"`
	Allow           types.Object `tfsdk:"allow"`
	Egress          types.Object `tfsdk:"egress"`
	ControlPlane    types.Object `tfsdk:"control_plane"`
	AllowUnenforced types.Bool   `tfsdk:"allow_unenforced"`
	ForceConflicts  types.Bool   `tfsdk:"force_conflicts"`
	Manifest        types.String `tfsdk:"manifest"`
	Guarantee       types.String `tfsdk:"guarantee"`
	Engine          types.String `tfsdk:"engine"`
}

type policyMeshModel struct {
	Linkerd types.Object `tfsdk:"linkerd"`
	Istio   types.Object `tfsdk:"istio"`
}

type linkerdPolicyModel struct {
	ControlPlane types.String `tfsdk:"control_plane_namespace"`
	Version      types.String `tfsdk:"version"`
}

type istioPolicyModel struct {
	Mode types.String `tfsdk:"mode"`
}

type allowModel struct {
	SameNamespace types.Bool `tfsdk:"same_namespace"`
	Pods          types.List `tfsdk:"pods"`
	Metrics       types.List `tfsdk:"metrics"`
	CIDRs         types.List `tfsdk:"cidrs"`
}

type egressModel struct {
	DNS          types.Bool `tfsdk:"dns"`
	ControlPlane types.Bool `tfsdk:"control_plane"`
	Mesh         types.Bool `tfsdk:"mesh"`
	MeshPorts    types.List `tfsdk:"mesh_ports"`
	Pods         types.List `tfsdk:"pods"`
	CIDRs        types.List `tfsdk:"cidrs"`
}

type peerModel struct {
	metricsModel
	Ports types.List `tfsdk:"ports"`
}

type metricsModel struct {
	NamespaceLabels types.Map `tfsdk:"namespace_labels"`
	PodLabels       types.Map `tfsdk:"pod_labels"`
}

type blockModel struct {
	CIDR   types.String `tfsdk:"cidr"`
	Except types.List   `tfsdk:"except"`
	Ports  types.List   `tfsdk:"ports"`
}

type policyControlPlaneModel struct {
	APIServer types.Object `tfsdk:"api_server"`
}

type apiServerModel struct {
	Everyone     types.Bool `tfsdk:"everyone"`
	Konnectivity types.Bool `tfsdk:"konnectivity"`
	CIDRs        types.List `tfsdk:"cidrs"`
}

// settled reports whether everything that a configuration says of the policy is
// known.
func (m *networkPolicyModel) settled(ctx context.Context) bool {
	return fullyKnown(ctx, m.Namespace, m.Name, m.PodSelector, m.Ports, m.Mesh, m.Strength, m.RequireIdentity,
		m.ClosedPorts, m.GRPCProbePorts, m.Allow, m.Egress, m.ControlPlane)
}

// intent turns the model into the domain's terms. What is null or unknown is left
// open.
func (m *networkPolicyModel) intent(ctx context.Context, diags *diag.Diagnostics) guard.Intent {
	i := guard.Intent{
		Namespace:  m.Namespace.ValueString(),
		Name:       m.Name.ValueString(),
		Pods:       stringMap(ctx, m.PodSelector, diags),
		Ports:      elements[int32](ctx, m.Ports, diags),
		Strength:   access.Strength(m.Strength.ValueString()),
		Identity:   m.RequireIdentity.ValueBoolPointer(),
		Closed:     elements[int32](ctx, m.ClosedPorts, diags),
		GRPCProbes: elements[int32](ctx, m.GRPCProbePorts, diags),
	}
	if m.RequireIdentity.IsUnknown() {
		i.Identity = nil
	}
	var allowed allowModel
	as(ctx, m.Allow, &allowed, diags)
	i.Allow = guard.Allow{
		SameNamespace: allowed.SameNamespace.ValueBool(),
		Pods:          peers(ctx, allowed.Pods, diags),
		Metrics:       peers(ctx, allowed.Metrics, diags),
		Networks:      networks(ctx, allowed.CIDRs, diags),
	}
	if !m.Egress.IsNull() {
		var egress egressModel
		as(ctx, m.Egress, &egress, diags)
		i.Egress = &guard.Egress{
			// Open unless closed.
			DNS:          !egress.DNS.Equal(types.BoolValue(false)),
			ControlPlane: !egress.ControlPlane.Equal(types.BoolValue(false)),
			Mesh:         !egress.Mesh.Equal(types.BoolValue(false)),
			MeshPorts:    elements[int32](ctx, egress.MeshPorts, diags),
			Pods:         peers(ctx, egress.Pods, diags),
			Networks:     networks(ctx, egress.CIDRs, diags),
		}
	}
	if !m.ControlPlane.IsNull() {
		var plane policyControlPlaneModel
		var server apiServerModel
		as(ctx, m.ControlPlane, &plane, diags)
		as(ctx, plane.APIServer, &server, diags)
		i.ControlPlane = &access.ControlPlane{Konnectivity: server.Konnectivity.ValueBool()}
		for _, cidr := range stringList(ctx, server.CIDRs, diags) {
			i.ControlPlane.Networks = append(i.ControlPlane.Networks, netpol.Block{CIDR: cidr})
		}
		i.ControlPlane.Everyone = server.Everyone.ValueBool() ||
			!known(server.Everyone) && !i.ControlPlane.Konnectivity && len(i.ControlPlane.Networks) == 0
	}
	i.Traffic = m.traffic(ctx, diags)
	return i
}

// traffic is that of the chosen mesh, nil if none is.
func (m *networkPolicyModel) traffic(ctx context.Context, diags *diag.Diagnostics) guard.Traffic {
	var chosen policyMeshModel
	as(ctx, m.Mesh, &chosen, diags)
	switch {
	case known(chosen.Linkerd):
		var l linkerdPolicyModel
		as(ctx, chosen.Linkerd, &l, diags)
		namespace := l.ControlPlane.ValueString()
		if namespace == "" {
			namespace = linkerd.DefaultNamespace
			if known(m.ControlPlane) {
				namespace = m.Namespace.ValueString()
			}
		}
		return linkerd.Traffic{ControlPlane: namespace, Version: l.Version.ValueString()}
	case known(chosen.Istio):
		var i istioPolicyModel
		as(ctx, chosen.Istio, &i, diags)
		return istio.Traffic{Mode: i.Mode.ValueString()}
	default:
		return nil
	}
}

func known(value attr.Value) bool { return !value.IsNull() && !value.IsUnknown() }

// as decodes an object; one that is null or unknown leaves the target as it is.
func as(ctx context.Context, object types.Object, target any, diags *diag.Diagnostics) {
	if known(object) {
		diags.Append(object.As(ctx, target, objectAsOptions)...)
	}
}

func peers(ctx context.Context, list types.List, diags *diag.Diagnostics) []guard.Pods {
	var found []guard.Pods
	for _, object := range elements[types.Object](ctx, list, diags) {
		attributes := object.Attributes()
		pods := guard.Pods{}
		if labels, ok := attributes["namespace_labels"].(types.Map); ok {
			pods.Namespaces = stringMap(ctx, labels, diags)
		}
		if labels, ok := attributes["pod_labels"].(types.Map); ok {
			pods.Pods = stringMap(ctx, labels, diags)
		}
		if ports, ok := attributes["ports"].(types.List); ok {
			pods.Ports = elements[int32](ctx, ports, diags)
		}
		found = append(found, pods)
	}
	return found
}

func networks(ctx context.Context, list types.List, diags *diag.Diagnostics) []guard.Network {
	var found []guard.Network
	for _, block := range elements[blockModel](ctx, list, diags) {
		found = append(found, guard.Network{
			Block: netpol.Block{CIDR: block.CIDR.ValueString(), Except: stringList(ctx, block.Except, diags)},
			Ports: elements[int32](ctx, block.Ports, diags),
		})
	}
	return found
}

// checkBlocks refuses ranges of addresses that the API refuses, at the paths of
// their elements.
func checkBlocks(ctx context.Context, list types.List, at path.Path, diags *diag.Diagnostics) {
	for i, network := range networks(ctx, list, diags) {
		if err := network.Check(); err != nil {
			problemAt(diags, at.AtListIndex(i), "Invalid Range of Addresses", err)
		}
	}
}

// check refuses what can be told to be wrong without a cluster.
func (m *networkPolicyModel) check(ctx context.Context, diags *diag.Diagnostics) {
	i := m.intent(ctx, diags)
	if i.Traffic != nil && fullyKnown(ctx, m.Ports) {
		if err := i.Traffic.CheckPorts(i.Ports); err != nil {
			problemAt(diags, path.Root("ports"), "Invalid Ports", err)
		}
	}
	if m.RequireIdentity.ValueBool() && m.Ports.IsNull() {
		problemAt(diags, path.Root("require_identity"), "Ports Are Missing", errors.New("it is required at ports; name them in ports"))
	}
	for index, port := range i.Closed {
		if slices.Contains(i.Ports, port) {
			problemAt(diags, path.Root("closed_ports").AtListIndex(index), "Invalid Ports", fmt.Errorf("port %d is among ports too", port))
		}
	}
	var allowed allowModel
	as(ctx, m.Allow, &allowed, diags)
	checkBlocks(ctx, allowed.CIDRs, path.Root("allow").AtName("cidrs"), diags)
	var egress egressModel
	as(ctx, m.Egress, &egress, diags)
	checkBlocks(ctx, egress.CIDRs, path.Root("egress").AtName("cidrs"), diags)
	if i.ControlPlane == nil {
		return
	}
	server := path.Root("control_plane").AtName("api_server")
	for index, block := range i.ControlPlane.Networks {
		if err := block.Check(); err != nil {
			problemAt(diags, server.AtName("cidrs").AtListIndex(index), "Invalid Range of Addresses", err)
		}
	}
	if c := *i.ControlPlane; !c.Everyone && !c.Konnectivity && len(c.Networks) == 0 {
		problemAt(diags, server, "API Server Shut Out", errors.New("without the API server its webhooks fail, and with them every pod that is to be made; let in everyone, konnectivity or cidrs"))
	}
}

// inherit fills what the intent leaves open, and what the state has found out.
func (m *networkPolicyModel) inherit(ctx context.Context, i guard.Intent, diags *diag.Diagnostics) guard.Intent {
	before := m.intent(ctx, diags)
	if i.Traffic == nil {
		i.Traffic = unpinned(before.Traffic)
	}
	if traffic, is := i.Traffic.(istio.Traffic); is && traffic.Mode == "" {
		if known, same := before.Traffic.(istio.Traffic); same {
			i.Traffic = known
		}
	}
	if !before.ClosesPorts() {
		return i // There was no need to ask which ports are closed.
	}
	if i.Closed == nil {
		i.Closed = []int32{}
		for _, port := range slices.Concat(before.Closed, before.Ports) {
			if !slices.Contains(i.Ports, port) {
				i.Closed = append(i.Closed, port)
			}
		}
		slices.Sort(i.Closed)
		i.Closed = slices.Compact(i.Closed)
	}
	if i.GRPCProbes == nil {
		i.GRPCProbes = before.GRPCProbes
	}
	return i
}

// unpinned is the traffic of a mesh as it was found out: a version is given, or read
// from the control plane each time, and never found out once and for all.
func unpinned(traffic guard.Traffic) guard.Traffic {
	if of, is := traffic.(linkerd.Traffic); is {
		of.Version = ""
		return of
	}
	return traffic
}

// same reports whether the intent, with what it leaves open as the state has it,
// is the state's.
func (m *networkPolicyModel) same(ctx context.Context, i guard.Intent, diags *diag.Diagnostics) bool {
	before := m.intent(ctx, diags)
	if i.Strength == "" {
		i.Strength = before.Strength
	}
	if i.Identity == nil {
		i.Identity = before.Identity
	}
	if i.Closed == nil {
		i.Closed = before.Closed
	}
	if i.GRPCProbes == nil {
		i.GRPCProbes = before.GRPCProbes
	}
	return reflect.DeepEqual(i, before)
}

// show sets the attributes that are found out, as far as the intent has them.
func (m *networkPolicyModel) show(ctx context.Context, i guard.Intent, diags *diag.Diagnostics) {
	m.ID = types.StringValue(i.Namespace + "/" + i.Name)
	m.Mesh = meshOfPolicy(ctx, i.Traffic, diags)
	m.Strength = types.StringNull() // That of a control plane's policy.
	if i.Strength != "" {
		m.Strength = types.StringValue(string(i.Strength))
	}
	m.RequireIdentity = types.BoolPointerValue(i.Identity)
	m.ClosedPorts = int32List(ctx, i.Closed, diags)
	m.GRPCProbePorts = int32List(ctx, i.GRPCProbes, diags)
}

func int32List(ctx context.Context, numbers []int32, diags *diag.Diagnostics) types.List {
	if numbers == nil {
		return types.ListNull(types.Int32Type)
	}
	list, d := types.ListValueFrom(ctx, types.Int32Type, numbers)
	diags.Append(d...)
	return list
}

// policyType is the type of an attribute of the resource, or of one nested in it.
func policyType(ctx context.Context, names ...string) map[string]attr.Type {
	object := schema.Schema{Attributes: networkPolicyAttributes(ctx)}.Type()
	for _, name := range names {
		if list, is := object.(types.ListType); is {
			object = list.ElemType
		}
		if within, is := object.(types.ObjectType); is {
			object = within.AttrTypes[name]
		}
	}
	if list, is := object.(types.ListType); is {
		object = list.ElemType
	}
	if within, is := object.(types.ObjectType); is {
		return within.AttrTypes
	}
	return nil
}

// meshOfPolicy is the value of `mesh`.
func meshOfPolicy(ctx context.Context, traffic guard.Traffic, diags *diag.Diagnostics) types.Object {
	chosen := policyMeshModel{Linkerd: types.ObjectNull(policyType(ctx, "mesh", "linkerd")), Istio: types.ObjectNull(policyType(ctx, "mesh", "istio"))}
	text := func(value string) types.String {
		if value == "" {
			return types.StringNull()
		}
		return types.StringValue(value)
	}
	switch traffic := traffic.(type) {
	case linkerd.Traffic:
		chosen.Linkerd = objectFrom(ctx, policyType(ctx, "mesh", "linkerd"), linkerdPolicyModel{ControlPlane: text(traffic.ControlPlane), Version: text(traffic.Version)}, diags)
	case istio.Traffic:
		chosen.Istio = objectFrom(ctx, policyType(ctx, "mesh", "istio"), istioPolicyModel{Mode: text(traffic.Mode)}, diags)
	default:
		return types.ObjectNull(policyType(ctx, "mesh"))
	}
	return objectFrom(ctx, policyType(ctx, "mesh"), chosen, diags)
}

// imported builds the configuration that the intent was made from.
func (m *networkPolicyModel) imported(ctx context.Context, i guard.Intent, diags *diag.Diagnostics) {
	m.show(ctx, i, diags)
	m.AllowUnenforced, m.ForceConflicts = types.BoolValue(false), types.BoolValue(false)
	m.Ports = int32List(ctx, i.Ports, diags)
	m.PodSelector = types.MapNull(types.StringType)
	if i.ControlPlane == nil {
		m.PodSelector = labelMap(ctx, i.Pods, diags)
		if m.PodSelector.IsNull() {
			m.PodSelector = types.MapValueMust(types.StringType, map[string]attr.Value{})
		}
	}
	m.Allow = types.ObjectNull(policyType(ctx, "allow"))
	if !reflect.DeepEqual(i.Allow, guard.Allow{}) {
		m.Allow = objectFrom(ctx, policyType(ctx, "allow"), allowModel{
			SameNamespace: types.BoolValue(i.Allow.SameNamespace),
			Pods:          peerList(ctx, i.Allow.Pods, diags, "allow", "pods"),
			Metrics:       peerList(ctx, i.Allow.Metrics, diags, "allow", "metrics"),
			CIDRs:         blockList(ctx, i.Allow.Networks, diags),
		}, diags)
	}
	m.Egress = types.ObjectNull(policyType(ctx, "egress"))
	if e := i.Egress; e != nil {
		m.Egress = objectFrom(ctx, policyType(ctx, "egress"), egressModel{
			DNS: types.BoolValue(e.DNS), ControlPlane: types.BoolValue(e.ControlPlane), Mesh: types.BoolValue(e.Mesh),
			MeshPorts: int32List(ctx, e.MeshPorts, diags),
			Pods:      peerList(ctx, e.Pods, diags, "egress", "pods"),
			CIDRs:     blockList(ctx, e.Networks, diags),
		}, diags)
	}
	m.ControlPlane = types.ObjectNull(policyType(ctx, "control_plane"))
	if c := i.ControlPlane; c != nil {
		plane := policyControlPlaneModel{APIServer: types.ObjectNull(policyType(ctx, "control_plane", "api_server"))}
		if c.Konnectivity || len(c.Networks) > 0 {
			server := apiServerModel{Everyone: types.BoolNull(), Konnectivity: types.BoolValue(c.Konnectivity)}
			if c.Everyone {
				server.Everyone = types.BoolValue(true)
			}
			cidrs := make([]string, len(c.Networks))
			for i, block := range c.Networks {
				cidrs[i] = block.CIDR
			}
			server.CIDRs = listOrNull(ctx, cidrs, diags)
			plane.APIServer = objectFrom(ctx, policyType(ctx, "control_plane", "api_server"), server, diags)
		}
		m.ControlPlane = objectFrom(ctx, policyType(ctx, "control_plane"), plane, diags)
	}
}

func labelMap(ctx context.Context, labels map[string]string, diags *diag.Diagnostics) types.Map {
	if len(labels) == 0 {
		return types.MapNull(types.StringType)
	}
	value, d := types.MapValueFrom(ctx, types.StringType, labels)
	diags.Append(d...)
	return value
}

// peerList is the value of the attribute of that name.
func peerList(ctx context.Context, pods []guard.Pods, diags *diag.Diagnostics, name ...string) types.List {
	attributes := policyType(ctx, name...)
	if len(pods) == 0 {
		return types.ListNull(types.ObjectType{AttrTypes: attributes})
	}
	_, ports := attributes["ports"]
	values := make([]attr.Value, len(pods))
	for i, p := range pods {
		labels := metricsModel{NamespaceLabels: labelMap(ctx, p.Namespaces, diags), PodLabels: labelMap(ctx, p.Pods, diags)}
		if ports {
			values[i] = objectFrom(ctx, attributes, peerModel{metricsModel: labels, Ports: int32List(ctx, p.Ports, diags)}, diags)
		} else {
			values[i] = objectFrom(ctx, attributes, labels, diags)
		}
	}
	list, d := types.ListValue(types.ObjectType{AttrTypes: attributes}, values)
	diags.Append(d...)
	return list
}

func blockList(ctx context.Context, networks []guard.Network, diags *diag.Diagnostics) types.List {
	attributes := policyType(ctx, "allow", "cidrs")
	if len(networks) == 0 {
		return types.ListNull(types.ObjectType{AttrTypes: attributes})
	}
	values := make([]attr.Value, len(networks))
	for i, network := range networks {
		values[i] = objectFrom(ctx, attributes, blockModel{
			CIDR: types.StringValue(network.CIDR), Except: listOrNull(ctx, network.Except, diags), Ports: int32List(ctx, network.Ports, diags),
		}, diags)
	}
	list, d := types.ListValue(types.ObjectType{AttrTypes: attributes}, values)
	diags.Append(d...)
	return list
}

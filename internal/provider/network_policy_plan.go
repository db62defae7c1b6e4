package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/guard"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

// ModifyPlan shows the objects that the apply will write, as soon as it is known
// what they depend on, and what in the cluster defeats them. A control plane of the
// same apply is not there yet. Pods may be others by then, so that what depends on
// them is left to the apply that makes the policy; the state keeps it.
func (r *networkPolicyResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan, config networkPolicyModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	var state *networkPolicyModel
	if !req.State.Raw.IsNull() {
		state = &networkPolicyModel{}
		resp.Diagnostics.Append(req.State.Get(ctx, state)...)
		plan.Engine = state.Engine
	}
	if resp.Diagnostics.HasError() {
		return
	}
	config.Name = plan.Name // It has a default.
	if !config.settled(ctx) {
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	p := policyPlan{plan: &plan, state: state, now: r.session.time(), diags: &resp.Diagnostics}
	p.cluster, _ = r.knownCluster()
	p.make(ctx, config.intent(ctx, p.diags))
	if !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	}
}

// policyPlan is a plan in the making.
type policyPlan struct {
	cluster     *kube.Cluster // nil if there is none to ask
	plan, state *networkPolicyModel
	now         time.Time
	diags       *diag.Diagnostics
}

func (p *policyPlan) make(ctx context.Context, wanted guard.Intent) {
	p.plan.ID = types.StringValue(wanted.Namespace + "/" + wanted.Name)
	configured := wanted
	if p.state != nil && p.state.ID.Equal(p.plan.ID) {
		wanted = p.state.inherit(ctx, wanted, p.diags)
	}
	compiled, err := guard.Compile(ctx, p.cluster, wanted)
	switch {
	case errors.Is(err, guard.ErrMeshUnknown), errors.Is(err, guard.ErrPodsUnknown), errors.Is(err, kube.ErrNotFound):
		if p.state != nil && p.state.same(ctx, wanted, p.diags) {
			p.keep()
			return
		}
		p.leave(ctx, wanted)
	case err != nil:
		problem(p.diags, "Unable to Plan Network Policy", err)
		return
	case len(compiled.ByPods) > 0:
		p.leave(ctx, wanted)
		p.diags.AddWarning("Network Policy Depends on Pods", fmt.Sprintf(
			"What %s will be is read from the pods when it is applied. By those that there are now:\n%s", p.plan.policy(nil, nil), strings.Join(compiled.ByPods, "\n")))
	default:
		if !compiled.Intent.ClosesPorts() {
			// What the state knows of them is of no use any more.
			compiled.Intent.Closed = append([]int32{}, configured.Closed...)
			compiled.Intent.GRPCProbes = append([]int32{}, configured.GRPCProbes...)
		}
		p.plan.show(ctx, compiled.Intent, p.diags)
		p.plan.Manifest, p.plan.Guarantee = types.StringValue(compiled.Manifest), types.StringValue(compiled.Guarantee)
	}
	if p.cluster != nil && !p.diags.HasError() {
		p.examine(ctx, compiled, err == nil)
	}
}

// keep leaves everything as it is: nothing that shapes the policy has changed.
func (p *policyPlan) keep() {
	p.plan.Mesh, p.plan.Strength, p.plan.RequireIdentity = p.state.Mesh, p.state.Strength, p.state.RequireIdentity
	p.plan.ClosedPorts, p.plan.GRPCProbePorts = p.state.ClosedPorts, p.state.GRPCProbePorts
	p.plan.Manifest, p.plan.Guarantee = p.state.Manifest, p.state.Guarantee
}

// leave leaves what the intent leaves open, and what comes of it, to the apply.
func (p *policyPlan) leave(ctx context.Context, open guard.Intent) {
	p.plan.show(ctx, open, p.diags)
	p.plan.Manifest, p.plan.Guarantee = types.StringUnknown(), types.StringUnknown()
	traffic, ofIstio := open.Traffic.(istio.Traffic)
	switch {
	case open.Traffic == nil:
		p.plan.Mesh = types.ObjectUnknown(policyType(ctx, "mesh"))
	case ofIstio && traffic.Mode == "" && open.ControlPlane == nil:
		p.plan.Mesh = objectFrom(ctx, policyType(ctx, "mesh"), policyMeshModel{
			Linkerd: types.ObjectNull(policyType(ctx, "mesh", "linkerd")),
			Istio:   objectFrom(ctx, policyType(ctx, "mesh", "istio"), istioPolicyModel{Mode: types.StringUnknown()}, p.diags),
		}, p.diags)
	}
	if open.Strength == "" {
		p.plan.Strength = types.StringUnknown()
	}
	if open.Identity == nil {
		p.plan.RequireIdentity = types.BoolUnknown()
	}
	if open.Closed == nil {
		p.plan.ClosedPorts = types.ListUnknown(types.Int32Type)
	}
	if open.GRPCProbes == nil {
		p.plan.GRPCProbePorts = types.ListUnknown(types.Int32Type)
	}
}

// examine warns of what in the cluster defeats the policy, and refuses to make or
// change one that nothing enforces.
func (p *policyPlan) examine(ctx context.Context, compiled guard.Compiled, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	policy := p.plan.policy(p.cluster, nil)
	found, err := engine.Detect(ctx, p.cluster)
	if err == nil {
		p.enforced(found)
	}
	var findings []guard.Finding
	if err == nil && complete {
		findings, err = policy.Findings(ctx, compiled)
	}
	if err != nil {
		p.diags.AddWarning("Unable to Look Ahead at "+policy.String(), explain(err))
	}
	for _, finding := range findings {
		if finding.Refused && p.changes() {
			p.diags.AddAttributeError(p.about(finding), fmt.Sprintf("%s Would Be Refused", policy), finding.Text)
			continue
		}
		p.diags.AddAttributeWarning(p.about(finding), fmt.Sprintf("What %s Does Not Protect", policy), finding.Text)
	}
}

// changes tells whether the apply would write anything.
func (p *policyPlan) changes() bool {
	return p.state == nil || !p.plan.Manifest.Equal(p.state.Manifest)
}

// about is the attribute that a finding is about.
func (p *policyPlan) about(finding guard.Finding) path.Path {
	at := map[guard.Concern]string{
		guard.AboutPods: "pod_selector", guard.AboutPorts: "ports", guard.AboutClosed: "closed_ports", guard.AboutProbes: "grpc_probe_ports",
	}[finding.Concern]
	if known(p.plan.ControlPlane) {
		at = "control_plane"
	}
	return path.Root(at)
}

// enforced judges what enforces network policies. One that is there already is not
// refused: what was taken away from under it, no plan brings back.
func (p *policyPlan) enforced(found engine.Result) {
	changes := p.changes()
	at := path.Root("allow_unenforced")
	err := p.plan.unenforced(found)
	switch {
	case err != nil && changes:
		problemAt(p.diags, at, "No Network Policy Engine", err)
	case err != nil:
		p.diags.AddAttributeWarning(at, "No Network Policy Engine", sentence(err))
	case !changes:
	case found.Name == "" && len(found.Unseen) > 0 && !p.plan.AllowUnenforced.ValueBool():
		p.diags.AddAttributeWarning(at, "Unable to Tell What Enforces Network Policies", fmt.Sprintf(
			"Without an engine that enforces it, a policy protects nothing. As far as can be seen %s; but %s.", found.Looked, strings.Join(found.Unseen, ", and ")))
	default:
		if message, advice := found.Caution(p.now); message != "" {
			p.diags.AddWarning("About the Network Policy Engine", found.Evidence+": "+message+". "+advice)
		}
	}
}

// unenforced refuses a policy that nothing enforces, unless that is acknowledged.
func (m *networkPolicyModel) unenforced(found engine.Result) error {
	if !found.None() || m.AllowUnenforced.ValueBool() {
		return nil
	}
	return fmt.Errorf("nothing seems to enforce network policies in this cluster: %s; a policy would be stored and protect nothing. "+
		"Install an engine (az aks update --network-policy, for instance), or, if there is one that is not known here, set allow_unenforced = true", found.Looked)
}

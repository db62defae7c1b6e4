package provider

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// hadLinkerd is what the session remembers of a plan that has a Linkerd in the
// state: one that is to be created comes after that is gone, and Terraform plans
// what replaces it as a creation, without saying so.
const hadLinkerd = "linkerd"

// lookAhead tells what an apply is going to change, as soon as all is known that
// the charts are made of.
func (r *linkerdResource) lookAhead(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan, state linkerdModel
	resp.Diagnostics.Append(resp.Plan.Get(ctx, &plan)...)
	creates := req.State.Raw.IsNull()
	if !creates {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if resp.Diagnostics.HasError() || r.session == nil {
		return
	}
	if !creates {
		r.session.leaving.Store(hadLinkerd, true)
		if !state.Namespace.Equal(plan.Namespace) {
			r.warnOfRemoval(ctx, &state, &resp.Diagnostics)
			return
		}
	}
	_, replaces := r.session.leaving.Load(hadLinkerd)
	if !plan.inputsKnown(ctx) || creates && replaces {
		return
	}
	former := ""
	if !creates {
		former = state.cniNamespace(ctx, &resp.Diagnostics)
	}
	r.foresee(ctx, resp, "Linkerd", func(ctx context.Context, charts install.Charts) (foresight, error) {
		installer := r.installerOf(charts)
		if creates {
			if known, err := r.installable(ctx, installer, &plan, &resp.Diagnostics); !known {
				return foresight{unknown: true}, err
			}
		}
		specification := plan.specification(ctx, r.session.time(), &resp.Diagnostics)
		specification.FormerCNI = former
		if resp.Diagnostics.HasError() {
			return foresight{}, nil
		}
		var found linkerd.Foreseen
		prepared, err := installer.Prepare(ctx, specification)
		if err == nil {
			found, err = installer.Foresee(ctx, prepared)
		}
		if inputs := inputErrors(err); len(inputs) > 0 {
			problemLinkerd(&resp.Diagnostics, "Unable to Plan Linkerd", err)
			err = nil
		}
		return foresight{changes: found.Changes, warnings: found.Warnings}, err
	})
}

// inputsKnown reports whether all is known of what the charts are made of.
func (m *linkerdModel) inputsKnown(ctx context.Context) bool {
	return fullyKnown(ctx, m.Version, m.Namespace, m.Repository, m.HighAvailability, m.GatewayAPI, m.CNI, m.Registry, m.Proxy, m.Heartbeat, m.Values)
}

// installable looks whether Linkerd can be installed. What an apply of ours has
// left behind may be gone by the time of the apply, if it is tainted, or go on
// from there: only the apply knows.
func (r *linkerdResource) installable(ctx context.Context, installer linkerd.Installer, plan *linkerdModel, diags *diag.Diagnostics) (known bool, err error) {
	namespace := plan.Namespace.ValueString()
	resumed, err := installer.Resumable(ctx, namespace)
	if errors.Is(err, install.ErrForeign) {
		problemExists(diags, "Unable to Plan Linkerd", err, namespace)
		return false, nil
	}
	if resumed {
		r.warnOfRemoval(ctx, plan, diags)
	}
	if err != nil || resumed {
		return false, err
	}
	preflight(ctx, linkerd.PreChecks(installer.Cluster, namespace, !plan.CNI.IsNull(), r.session.time(), r.session.managed()), diags)
	return !diags.HasError(), nil
}

// warnOfRemoval tells in a plan that destroys Linkerd, or may do so first, what
// goes with it.
func (r *linkerdResource) warnOfRemoval(ctx context.Context, model *linkerdModel, diags *diag.Diagnostics) {
	cluster, ok := r.knownCluster()
	if diags.HasError() || !ok {
		return
	}
	installer, ok := r.installer(ctx, cluster, diags)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	warnings, err := installer.ForeseeRemoval(ctx, model.removal(ctx, diags))
	if err != nil {
		diags.AddWarning("Unable to Look Ahead at the Removal of Linkerd", explain(err))
	}
	for _, warning := range warnings {
		diags.AddWarning("Before Linkerd Is Destroyed", warning)
	}
}

func (m *linkerdModel) removal(ctx context.Context, diags *diag.Diagnostics) linkerd.Removal {
	return linkerd.Removal{Namespace: m.Namespace.ValueString(), CNI: m.cniNamespace(ctx, diags), DeleteCRDs: m.DeleteCRDs.ValueBool()}
}

func (m *linkerdModel) observation(ctx context.Context, now time.Time, diags *diag.Diagnostics) linkerd.Observation {
	return linkerd.Observation{
		Namespace: m.Namespace.ValueString(), CNI: m.cniNamespace(ctx, diags), Gateway: m.gatewayAPI(ctx, diags),
		Checks: m.webhookChecks(now), Kinds: detectedKinds(m.DriftDetection),
	}
}

// inputErrors are those of an error that are about attributes.
func inputErrors(err error) []*linkerd.InputError {
	if input, ok := err.(*linkerd.InputError); ok { //nolint:errorlint // The tree is walked here.
		return []*linkerd.InputError{input}
	}
	var found []*linkerd.InputError
	switch wrapped := err.(type) { //nolint:errorlint // The tree is walked here.
	case interface{ Unwrap() []error }:
		for _, one := range wrapped.Unwrap() {
			found = append(found, inputErrors(one)...)
		}
	case interface{ Unwrap() error }:
		found = inputErrors(wrapped.Unwrap())
	}
	return found
}

// problemLinkerd attaches errors that attributes have caused to them.
func problemLinkerd(diags *diag.Diagnostics, summary string, err error) {
	inputs := inputErrors(err)
	if len(inputs) == 0 {
		problemInstall(diags, summary, err)
	}
	for _, input := range inputs {
		at := path.Root(input.Input)
		if input.Input == linkerd.CNIValues {
			at = path.Root("cni").AtName("values")
		}
		problemAt(diags, at, summary, input.Err)
	}
}

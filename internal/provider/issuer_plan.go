package provider

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
)

// What plans of issuers promise comes from the configuration and the state alone,
// where Read has put what the cluster shows. Terraform plans once more during the
// apply and refuses another outcome, so nothing that moves by itself may be in it;
// warnings may look at the cluster.

// ModifyPlan plans a renewal, or stages of a rotation, exactly when they are due.
func (r *issuerResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var config, plan issuerModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	plan.preset(config)
	r.checkPlannedAnchor(plan, &resp.Diagnostics)
	if req.State.Raw.IsNull() {
		r.checkGiven(config, true, &resp.Diagnostics)
		plan.creates()
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	var state issuerModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	record := issuerRecordIn(ctx, req.Private, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	r.checkGiven(config, !plan.Certificate.Equal(state.Certificate), &resp.Diagnostics)
	did := plan.promises(state, record, r.dueEarlier(plan, state))
	r.warn(ctx, req.Config, plan, state, record, did, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// preset fills in what is left to the provider. What describes issuers that the
// provider makes has no meaning for one that it is given.
func (m *issuerModel) preset(config issuerModel) {
	m.Namespace = defaultNamespace(m.Namespace, config.Namespace, m.Mesh)
	for _, attribute := range []struct {
		planned, configured *types.String
		otherwise           string
	}{
		{&m.Algorithm, &config.Algorithm, string(pki.AlgorithmECDSAP256)},
		{&m.CommonName, &config.CommonName, pki.DefaultIssuerCommonName},
		{&m.Validity, &config.Validity, plainDuration(pki.DefaultIssuerValidity)},
	} {
		switch {
		case !attribute.configured.IsNull():
		case config.Certificate.IsUnknown():
			*attribute.planned = types.StringUnknown()
		case config.given():
			*attribute.planned = types.StringNull()
		default:
			*attribute.planned = types.StringValue(attribute.otherwise)
		}
	}
}

// creates leaves all that is not decided yet to the apply.
func (m *issuerModel) creates() {
	m.ID, m.issuerOutputs = types.StringUnknown(), issuerOutputs{
		SecretName: types.StringUnknown(), PrivateKeyPEM: types.StringUnknown(), ReadyForRenewal: types.BoolUnknown(),
		Renewal: types.StringValue(""), RotationSteps: noStages(), RotationWaitsFor: types.StringValue(""),
	}
	if m.PrivateKeyInState.Equal(types.BoolValue(false)) {
		m.PrivateKeyPEM = types.StringNull()
	}
	m.issues()
	m.ReadyForRenewal = types.BoolUnknown()
	if !m.complete() {
		// An apply that was cut off may have left a rotation behind.
		m.RotationSteps, m.RotationWaitsFor = types.ListUnknown(types.StringType), types.StringUnknown()
		m.Renewal = types.StringUnknown()
	}
}

// issues leaves the certificate to the apply.
func (m *issuerModel) issues() {
	for _, output := range m.ofCertificate() {
		*output = types.StringUnknown()
	}
	m.ReadyForRenewal = types.BoolUnknown()
	if !m.PrivateKeyInState.Equal(types.BoolValue(false)) {
		m.PrivateKeyPEM = types.StringUnknown()
	}
}

// asksForAnother reports whether the settings want another issuer than the one
// that was made by those of the state.
func (m *issuerModel) asksForAnother(state issuerModel) bool {
	return !m.sameSource(state) || !m.Algorithm.Equal(state.Algorithm) || !m.CommonName.Equal(state.CommonName) ||
		!m.Subject.Equal(state.Subject) || !m.Validity.Equal(state.Validity) || !m.RenewalTrigger.Equal(state.RenewalTrigger)
}

// sameSource reports whether the issuer comes from the same authority as before.
func (m *issuerModel) sameSource(state issuerModel) bool {
	return m.TrustAnchorID.Equal(state.TrustAnchorID) && m.Signer.Equal(state.Signer) && m.Certificate.Equal(state.Certificate)
}

// sameAnchors reports whether both want the same anchors to be trusted, in
// whichever spelling.
func (m *issuerModel) sameAnchors(state issuerModel) bool {
	if m.TrustBundlePEM.Equal(state.TrustBundlePEM) {
		return true
	}
	if m.TrustBundlePEM.IsUnknown() {
		return false
	}
	wanted, err := pki.ParseBundle([]byte(m.TrustBundlePEM.ValueString()))
	before, err2 := pki.ParseBundle([]byte(state.TrustBundlePEM.ValueString()))
	return err == nil && err2 == nil && rotation.AnchorsOf(wanted).Same(rotation.AnchorsOf(before))
}

// leadsTo is the fingerprint of the anchor that the issuer is to lead to, as far
// as the configuration tells; empty if it does not.
func (m *issuerModel) leadsTo() string {
	bundle, err := pki.ParseBundle([]byte(m.TrustBundlePEM.ValueString()))
	if err != nil {
		return ""
	}
	anchors := bundle.Certificates()
	if chain := m.givenChain(); len(chain) > 0 {
		if anchors, err = bundle.Signers(chain[len(chain)-1]); err != nil {
			return ""
		}
	}
	if len(anchors) != 1 {
		return ""
	}
	return pki.Fingerprint(anchors[0])
}

// An issuerAction is what an apply does to the trust of a control plane.
type issuerAction struct {
	begins bool // a rotation, because other anchors are wanted or another signs
	waits  bool // a rotation is under way, and its next stage cannot be done
	does   []rotation.Stage
	renews bool
}

// promises plans what the apply does to an issuer that is there, and says what
// that is.
func (m *issuerModel) promises(state issuerModel, record issuerRecord, due bool) issuerAction {
	m.ID, m.issuerOutputs = state.ID, state.issuerOutputs
	var does issuerAction
	stages := stagesOf(state)
	does.renews = state.Renewal.ValueString() != "" || record.Renew || due || m.asksForAnother(state)
	stays := m.sameAnchors(state) && (m.sameSource(state) || len(stages) == 0 && m.leadsTo() != "" && m.leadsTo() == state.AnchorFingerprint.ValueString())
	does.begins = !stays
	turned := len(stages) > 0 && !m.Rotation.Equal(state.Rotation)
	switch {
	case does.begins, turned && !m.complete():
		m.issues()
		m.RotationSteps, m.RotationWaitsFor, m.Renewal = types.ListUnknown(types.StringType), types.StringUnknown(), types.StringUnknown()
		// What is not known yet may turn out to be what is there already, where a
		// rotation stays blocked.
		if m.complete() && !record.Blocked {
			m.RotationSteps, m.RotationWaitsFor, m.Renewal = noStages(), types.StringValue(""), types.StringValue("")
		}
	case len(stages) == 0 && does.renews:
		m.issues()
		m.Renewal = types.StringValue("")
	case len(stages) == 0:
	case record.Blocked, state.RotationWaitsFor.ValueString() != "" && !m.complete():
		does.waits = true
		if record.Blocked {
			// It is a change as long as it is so: that is what a pipeline notices.
			m.RotationWaitsFor = types.StringUnknown()
		}
		if lapses := state.Renewal.ValueString() != "" || due; lapses && state.AnchorFingerprint.ValueString() == record.Anchor {
			m.issues() // What is waited for may take longer than the issuer lives.
			m.Renewal = types.StringUnknown()
		}
	default:
		does.does = stages[:1]
		if m.complete() || recovers(stages) {
			does.does = stages
		}
		rest := stages[len(does.does):]
		m.RotationSteps = types.ListValueMust(types.StringType, state.RotationSteps.Elements()[len(does.does):])
		if len(rest) > 0 {
			m.RotationWaitsFor = types.StringUnknown()
		} else {
			m.RotationWaitsFor = types.StringValue("")
		}
		// What is asked for beside a rotation comes with its end.
		last := len(rest) == 0 && (does.renews || m.given() && !m.lasting())
		if last || slices.ContainsFunc(does.does, issuesIn) {
			m.issues()
			m.Renewal = types.StringUnknown()
			if len(rest) == 0 {
				m.Renewal = types.StringValue("")
			}
		}
	}
	if !m.PrivateKeyInState.Equal(state.PrivateKeyInState) {
		m.PrivateKeyPEM = types.StringNull()
		if !m.PrivateKeyInState.Equal(types.BoolValue(false)) {
			m.PrivateKeyPEM = types.StringUnknown()
		}
	}
	if state.ReadyForRenewal.ValueBool() || !m.EarlyRenewal.Equal(state.EarlyRenewal) || !m.TrustBundlePEM.Equal(state.TrustBundlePEM) {
		// It is a change as long as it is so: that is what a pipeline notices.
		m.ReadyForRenewal = types.BoolUnknown()
	}
	return does
}

// recovers reports whether stages are those back from a mesh that is down: halfway
// is no place to rest.
func recovers(stages []rotation.Stage) bool {
	return len(stages) > 0 && stages[0] == rotation.Recover
}

// issuesIn reports whether a stage puts another issuer in service.
func issuesIn(stage rotation.Stage) bool {
	return stage == rotation.Recover || stage == rotation.Extend || stage == rotation.Switch
}

// acts reports whether a plan changes anything in the cluster.
func (m *issuerModel) acts(state issuerModel) bool {
	return m.CertificatePEM.IsUnknown() || !m.RotationSteps.Equal(state.RotationSteps)
}

// stagesOf are the stages that the state has still to come.
func stagesOf(state issuerModel) []rotation.Stage {
	var stages []rotation.Stage
	for _, element := range state.RotationSteps.Elements() {
		if text, ok := element.(types.String); ok {
			stages = append(stages, rotation.Stage(text.ValueString()))
		}
	}
	return stages
}

// dueEarlier reports whether a changed early_renewal makes the renewal due,
// which Read cannot have known.
func (r *issuerResource) dueEarlier(plan, state issuerModel) bool {
	notAfter, err := time.Parse(time.RFC3339, state.NotAfter.ValueString())
	return err == nil && !plan.EarlyRenewal.Equal(state.EarlyRenewal) && !plan.lasting() &&
		pki.RenewalDue(notAfter, plan.early(), r.session.time())
}

// lifeOf is how long a certificate was to be valid when it was made, by whoever
// made it: what begins before its making does so to the second.
func lifeOf(cert *x509.Certificate) time.Duration {
	if life := trust.MadeFor(cert); life%time.Hour == 0 {
		return life
	}
	return cert.NotAfter.Sub(cert.NotBefore)
}

// ending says which certificates near their end that nothing else looks after: the
// issuer, unless a rotation is about to replace it, and the anchors but the one of
// trust_anchor_id, which is a resource of its own.
func (m *issuerModel) ending(issuer *x509.Certificate, rotating bool, anchors pki.Bundle, record issuerRecord, now time.Time) []string {
	var ends []string
	until := func(what string, cert *x509.Certificate) {
		verb := "ends"
		if now.After(cert.NotAfter) {
			verb = "has ended"
		}
		ends = append(ends, fmt.Sprintf("%s %q %s %s.", what, cert.Subject.String(), verb, cert.NotAfter.Format(time.RFC3339)))
	}
	cut := rotating && !record.Blocked
	for _, anchor := range anchors.Certificates() {
		elsewhere := !m.TrustAnchorID.IsNull() && (record.Anchor == "" || pki.Fingerprint(anchor) == record.Anchor)
		cut = cut || elsewhere && !issuer.NotAfter.Before(anchor.NotAfter)
		if !elsewhere && pki.RenewalDue(anchor.NotAfter, m.early(), now) {
			until("The trust anchor", anchor)
		}
	}
	if !cut && pki.RenewalDue(issuer.NotAfter, m.early(), now) {
		until("The issuer", issuer)
	}
	return ends
}

// warn tells of what a plan cannot show by its values.
func (r *issuerResource) warn(ctx context.Context, config tfsdk.Config, plan, state issuerModel, record issuerRecord, does issuerAction, diags *diag.Diagnostics) {
	name := state.ID.ValueString()
	stages := stagesOf(state)
	down := recovers(stages)
	open := plan.openTrust(ctx)
	switch {
	case !does.begins:
	case len(open) == 0:
		stages = r.foreseen(ctx, config, plan, diags)
		down = down || recovers(stages)
	default:
		stages = everyStage()
	}
	switch {
	case down:
		diags.AddWarning("mTLS Is Down: "+name, state.ended(r.session.time())+", and with it every certificate of the mesh. This apply takes the shortest way back; pods may have to be restarted.")
	case does.begins && len(open) > 0 && !r.anchorRotates(plan, open):
		diags.AddWarning("Rotation May Begin: "+name, mayBegin(plan, open))
	case does.begins:
		diags.AddWarning("Rotation Begins: "+name, beginning(plan, stages))
	}
	if does.waits {
		detail := fmt.Sprintf("The rotation stands before %q and waits: %s.", stages[0], state.RotationWaitsFor.ValueString())
		if record.Blocked {
			detail += " Somebody has to see to that; the next apply then goes on."
		} else {
			detail += " A later apply goes on; with rotation = \"complete\" it restarts pods instead of waiting."
		}
		diags.AddWarning("Rotation Waits: "+name, detail)
	}
	if does.begins || does.renews {
		return
	}
	cert, err := pki.ParseCertificate([]byte(state.CertificatePEM.ValueString()))
	if err != nil {
		return // There is no issuer that could be read: it is to be renewed.
	}
	bundle, ok := parseBundle(plan.TrustBundlePEM, diags)
	if ends := plan.ending(cert, len(stages) > 0, bundle, record, r.session.time()); ok && len(ends) > 0 {
		cure := " Rotate to another trust anchor before then."
		if plan.given() {
			cure = " Give another certificate, or rotate to another trust anchor, before then."
		}
		diags.AddWarning("Certificates Near Their End: "+name, strings.Join(ends, "\n")+" Every certificate of the mesh ends with them."+cure)
	}
}

// openTrust names what decides about the trust of the mesh, and is not known yet.
func (m *issuerModel) openTrust(ctx context.Context) []string {
	var open []string
	for _, attribute := range []struct {
		name  string
		value attr.Value
	}{
		{"trust_bundle_pem", m.TrustBundlePEM}, {"trust_anchor_id", m.TrustAnchorID}, {"signer", m.Signer}, {"certificate", m.Certificate},
	} {
		if !fullyKnown(ctx, attribute.value) {
			open = append(open, attribute.name)
		}
	}
	return open
}

// ended says what has ended when the mesh of an issuer is down: the issuer, or the
// anchor above it.
func (m *issuerModel) ended(now time.Time) string {
	if end, err := time.Parse(time.RFC3339, m.NotAfter.ValueString()); err == nil && now.After(end) {
		return "The issuer has ended " + m.NotAfter.ValueString()
	}
	bundle, err := pki.ParseBundle([]byte(m.TrustBundlePEM.ValueString()))
	if err != nil {
		bundle = pki.Bundle{} // It was checked.
	}
	for _, anchor := range bundle.Certificates() {
		if pki.Fingerprint(anchor) == m.AnchorFingerprint.ValueString() && now.After(anchor.NotAfter) {
			return fmt.Sprintf("The trust anchor %q, which the issuer leads to, has ended %s", anchor.Subject.String(), anchor.NotAfter.Format(time.RFC3339))
		}
	}
	return "The trust anchor that the issuer leads to has ended"
}

// foreseen are the stages of a rotation that a plan begins, as the cluster is now;
// all that there may be while that cannot be seen.
func (r *issuerResource) foreseen(ctx context.Context, config tfsdk.Config, plan issuerModel, diags *diag.Diagnostics) []rotation.Stage {
	all := everyStage()
	cluster, known := r.knownCluster()
	if !known || plan.ref().Secret().Name == "" {
		return all
	}
	wanted, ok := parseBundle(plan.TrustBundlePEM, diags)
	if !ok {
		return all
	}
	signer := r.planning(ctx, cluster, config, &plan, wanted)
	if signer == nil {
		return all
	}
	ctx, end := context.WithTimeout(ctx, lookTimeout)
	defer end()
	standing, err := r.keeper(ctx, cluster, &plan, wanted, signer, diags).Look(ctx)
	if err != nil {
		return all // A warning is not worth a failure; the apply says what is wrong.
	}
	return standing.Stages
}

// mayBegin says that it is not known yet whether a rotation begins.
func mayBegin(plan issuerModel, open []string) string {
	return strings.Join(open, " and ") + " will be known only during the apply. If other trust anchors than now are wanted then, or another one signs, the mesh passes to them in stages. " +
		"There may be:\n" + course(plan, everyStage())
}

// anchorRotates reports whether a plan of which nothing but the bundle is open is
// one that rotates the anchor for certain.
func (r *issuerResource) anchorRotates(plan issuerModel, open []string) bool {
	planned, _ := r.session.plannedAnchor(plan.TrustAnchorID.ValueString())
	return planned.rotates && slices.Equal(open, []string{"trust_bundle_pem"})
}

// everyStage is the whole course of a rotation.
func everyStage() []rotation.Stage {
	return []rotation.Stage{rotation.Spread, rotation.Teach, rotation.Switch, rotation.Renew, rotation.Drop, rotation.Forget}
}

// beginning says what a rotation that begins is going to do.
func beginning(plan issuerModel, stages []rotation.Stage) string {
	if len(stages) == 0 {
		return "The trust anchors change, and nothing in the cluster has to be rotated for it."
	}
	return "The mesh passes to other trust anchors, in these stages:\n" + course(plan, stages)
}

// course lists stages, and says which of them the apply does.
func course(plan issuerModel, stages []rotation.Stage) string {
	var text strings.Builder
	for i, stage := range stages {
		fmt.Fprintf(&text, "  %d. %s\n", i+1, stage)
	}
	if plan.complete() {
		text.WriteString("This apply does all of them, and restarts the pods that have to be. Where there is neither a control plane nor a meshed pod, all is written at once.")
	} else {
		text.WriteString("This apply does the first of them, each later one the next. Where there is neither a control plane nor a meshed pod, all is written at once.")
	}
	return text.String()
}

// checkPlannedAnchor refuses an anchor that is planned as the mesh refuses it.
func (r *issuerResource) checkPlannedAnchor(plan issuerModel, diags *diag.Diagnostics) {
	planned, ok := r.session.plannedAnchor(plan.TrustAnchorID.ValueString())
	rules, known := rulesOf(plan.Mesh)
	if !ok || !known || planned.algorithm == "" {
		return
	}
	if err := rules.anchorAlgorithm(planned.algorithm); err != nil {
		problemAt(diags, path.Root("trust_anchor_id"), "Trust Anchor Refused", fmt.Errorf("trust anchor %s: %w", plan.TrustAnchorID.ValueString(), err))
	}
}

// checkGiven refuses an issuer of the user's that the mesh could not use with the
// bundle. One that was taken before and has expired since is no reason to refuse
// everything else in the configuration.
func (r *issuerResource) checkGiven(config issuerModel, fresh bool, diags *diag.Diagnostics) {
	chain := config.givenChain()
	bundle, err := pki.ParseBundle([]byte(config.TrustBundlePEM.ValueString()))
	if len(chain) == 0 || err != nil {
		return
	}
	if _, err := bundle.VerifyChain(chain, r.session.time()); err != nil && (fresh || !errors.Is(err, pki.ErrExpired)) {
		problemAt(diags, path.Root("certificate").AtName("pem"), "Invalid Certificate", err)
	}
}

// givenChain is the certificate that the user gives, with its intermediates; nil
// if it is not known or cannot be read.
func (m *issuerModel) givenChain() []*x509.Certificate {
	pem, ok := m.Certificate.Attributes()["pem"].(types.String)
	if !ok {
		return nil
	}
	chain, err := pki.ParseBundle([]byte(pem.ValueString()))
	if err != nil {
		return nil
	}
	return chain.Certificates()
}

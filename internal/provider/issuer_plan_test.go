package provider

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
)

// stagesValue is the attribute rotation_steps.
func stagesValue(stages ...rotation.Stage) types.List {
	values := make([]attr.Value, len(stages))
	for i, stage := range stages {
		values[i] = types.StringValue(string(stage))
	}
	return types.ListValueMust(types.StringType, values)
}

// settledIssuer is an issuer in service whose mesh has nothing to rotate.
func settledIssuer(bundle string) issuerModel {
	return issuerModel{
		commonModel:    commonModel{ID: types.StringValue("linkerd/linkerd")},
		Mesh:           types.StringValue("linkerd"),
		Namespace:      types.StringValue("linkerd"),
		TrustBundlePEM: types.StringValue(bundle),
		TrustAnchorID:  types.StringValue("aksmesh-system/default"),
		Signer:         types.ObjectNull(nil), Certificate: types.ObjectNull(nil), Subject: types.ObjectNull(subjectTypes), Restart: types.ObjectNull(nil),
		Algorithm:         types.StringValue("ECDSA-P256"),
		CommonName:        types.StringValue("issuer"),
		Validity:          types.StringValue("8760h"),
		EarlyRenewal:      types.StringValue("1440h"),
		Rotation:          types.StringValue(rotationStaged),
		PrivateKeyInState: types.BoolValue(false),
		issuerOutputs: issuerOutputs{
			SecretName: types.StringValue("linkerd-identity-issuer"), CertificatePEM: types.StringValue("certificate"), ChainPEM: types.StringValue("chain"),
			Fingerprint: types.StringValue("issuer"), AnchorFingerprint: types.StringValue("anchor"),
			NotBefore: types.StringValue("2026-01-01T00:00:00Z"), NotAfter: types.StringValue("2027-01-01T00:00:00Z"),
			ReadyForRenewal: types.BoolValue(false), Renewal: types.StringValue(""),
			RotationSteps: stagesValue(), RotationWaitsFor: types.StringValue(""),
		},
	}
}

// unknownSteps is rotation_steps as the apply will find it.
func unknownSteps() types.List { return types.ListUnknown(types.StringType) }

func TestIssuerPromises(t *testing.T) {
	t.Parallel()
	one := string(testAnchor(t, pki.AuthorityOptions{}).CertificatePEM())
	two := string(testAnchor(t, pki.AuthorityOptions{}).CertificatePEM())
	middle := []rotation.Stage{rotation.Teach, rotation.Switch, rotation.Renew}
	complete := func(m *issuerModel) { m.Rotation = types.StringValue(rotationComplete) }
	waits := func(m *issuerModel) { m.RotationWaitsFor = types.StringValue("3 of 4 pods") }
	lapses := func(m *issuerModel) { m.Renewal = types.StringValue("valid until tomorrow") }
	pending := func(stages ...rotation.Stage) func(*issuerModel) {
		return func(m *issuerModel) { m.RotationSteps = stagesValue(stages...) }
	}
	for name, test := range map[string]struct {
		state  []func(*issuerModel) // and what the plan has likewise
		plan   func(*issuerModel)
		record issuerRecord
		due    bool

		steps  types.List
		waits  types.String
		issues bool // whether the certificate is left to the apply
		acts   bool
		does   issuerAction
	}{
		"nothing": {steps: stagesValue(), waits: types.StringValue("")},
		"other spelling": {
			plan:  func(m *issuerModel) { m.TrustBundlePEM = types.StringValue(one + "\n\n") },
			steps: stagesValue(), waits: types.StringValue(""),
		},
		"due": {
			state: []func(*issuerModel){func(m *issuerModel) { m.Renewal = types.StringValue("valid until tomorrow") }},
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{renews: true},
		},
		"due earlier": {due: true, steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{renews: true}},
		"put off":     {record: issuerRecord{Renew: true}, steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{renews: true}},
		"renewal trigger": {
			plan:  func(m *issuerModel) { m.RenewalTrigger = types.StringValue("x") },
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{renews: true},
		},
		"other anchors": {
			plan:  func(m *issuerModel) { m.TrustBundlePEM = types.StringValue(one + "\n" + two) },
			steps: unknownSteps(), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{begins: true},
		},
		"other anchors at once": {
			state: []func(*issuerModel){complete},
			plan:  func(m *issuerModel) { m.TrustBundlePEM = types.StringValue(two) },
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{begins: true},
		},
		"anchors not known": {
			plan:  func(m *issuerModel) { m.TrustBundlePEM = types.StringUnknown() },
			steps: unknownSteps(), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{begins: true},
		},
		"anchors not known while blocked": {
			state:  []func(*issuerModel){complete, pending(middle...), waits},
			record: issuerRecord{Blocked: true},
			plan:   func(m *issuerModel) { m.TrustBundlePEM = types.StringUnknown() },
			steps:  unknownSteps(), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{begins: true},
		},
		"another signer of the same anchor": {
			state: []func(*issuerModel){func(m *issuerModel) { m.AnchorFingerprint = types.StringValue(m.leadsTo()) }},
			plan:  func(m *issuerModel) { m.TrustAnchorID = types.StringValue("aksmesh-system/other") },
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{renews: true},
		},
		"another signer": {
			plan:  func(m *issuerModel) { m.TrustAnchorID = types.StringUnknown() },
			steps: unknownSteps(), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{begins: true, renews: true},
		},
		"a stage": {
			state: []func(*issuerModel){pending(middle...)},
			steps: stagesValue(middle[1:]...), waits: types.StringUnknown(), acts: true, does: issuerAction{does: middle[:1]},
		},
		"a stage that issues": {
			state: []func(*issuerModel){pending(middle[1:]...)},
			steps: stagesValue(middle[2:]...), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{does: middle[1:2]},
		},
		"the last stage": {
			state: []func(*issuerModel){pending(rotation.Forget)},
			steps: stagesValue(), waits: types.StringValue(""), acts: true, does: issuerAction{does: []rotation.Stage{rotation.Forget}},
		},
		"the last stage with a renewal": {
			state:  []func(*issuerModel){pending(rotation.Forget)},
			record: issuerRecord{Renew: true},
			steps:  stagesValue(), waits: types.StringValue(""), issues: true, acts: true,
			does: issuerAction{renews: true, does: []rotation.Stage{rotation.Forget}},
		},
		"a stage with a renewal": {
			state:  []func(*issuerModel){pending(middle...)},
			record: issuerRecord{Renew: true},
			steps:  stagesValue(middle[1:]...), waits: types.StringUnknown(), acts: true, does: issuerAction{renews: true, does: middle[:1]},
		},
		"all stages": {
			state: []func(*issuerModel){complete, pending(middle...)},
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{does: middle},
		},
		"waiting": {
			state: []func(*issuerModel){pending(middle...), waits},
			steps: stagesValue(middle...), waits: types.StringValue("3 of 4 pods"), does: issuerAction{waits: true},
		},
		"waiting, but not when all is done at once": {
			state: []func(*issuerModel){complete, pending(middle...), waits},
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{does: middle},
		},
		"blocked": {
			state:  []func(*issuerModel){complete, pending(middle...), waits},
			record: issuerRecord{Blocked: true},
			steps:  stagesValue(middle...), waits: types.StringUnknown(), does: issuerAction{waits: true},
		},
		"blocked with a renewal": {
			state:  []func(*issuerModel){complete, pending(middle...), waits, lapses},
			record: issuerRecord{Blocked: true, Anchor: "anchor"},
			steps:  stagesValue(middle...), waits: types.StringUnknown(), issues: true, acts: true, does: issuerAction{waits: true, renews: true},
		},
		"waiting with a renewal": {
			state:  []func(*issuerModel){pending(middle...), waits, lapses},
			record: issuerRecord{Anchor: "anchor"},
			steps:  stagesValue(middle...), waits: types.StringValue("3 of 4 pods"), issues: true, acts: true, does: issuerAction{waits: true, renews: true},
		},
		"waiting with a renewal below the old anchor": {
			state:  []func(*issuerModel){pending(middle...), waits, lapses},
			record: issuerRecord{Anchor: "new anchor"},
			steps:  stagesValue(middle...), waits: types.StringValue("3 of 4 pods"), does: issuerAction{waits: true, renews: true},
		},
		"from stages to all at once": {
			state: []func(*issuerModel){pending(middle...), waits},
			plan:  complete,
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{does: middle},
		},
		"from all at once to stages": {
			state: []func(*issuerModel){complete, pending(middle...)},
			plan:  func(m *issuerModel) { m.Rotation = types.StringValue(rotationStaged) },
			steps: unknownSteps(), waits: types.StringUnknown(), issues: true, acts: true,
		},
		"mTLS down": {
			state: []func(*issuerModel){pending(rotation.Recover)},
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true, does: issuerAction{does: []rotation.Stage{rotation.Recover}},
		},
		"mTLS down, and more to do after it": {
			state: []func(*issuerModel){pending(rotation.Recover, rotation.Spread, rotation.Teach)},
			steps: stagesValue(), waits: types.StringValue(""), issues: true, acts: true,
			does: issuerAction{does: []rotation.Stage{rotation.Recover, rotation.Spread, rotation.Teach}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := settledIssuer(one)
			for _, edit := range test.state {
				edit(&state)
			}
			plan := state
			if test.plan != nil {
				test.plan(&plan)
			}
			does := plan.promises(state, test.record, test.due)
			if !plan.RotationSteps.Equal(test.steps) {
				t.Errorf("rotation_steps is %s, want %s", plan.RotationSteps, test.steps)
			}
			if !plan.RotationWaitsFor.Equal(test.waits) {
				t.Errorf("rotation_waits_for is %s, want %s", plan.RotationWaitsFor, test.waits)
			}
			for _, output := range plan.ofCertificate() {
				if output.IsUnknown() != test.issues {
					t.Errorf("an output of the certificate is %s; another issuer is made: %v", output, test.issues)
				}
			}
			if acts := plan.acts(state); acts != test.acts {
				t.Errorf("it acts: %v, want %v", acts, test.acts)
			}
			if does.begins != test.does.begins || does.renews != test.does.renews || does.waits != test.does.waits || !stagesValue(does.does...).Equal(stagesValue(test.does.does...)) {
				t.Errorf("it does %+v, want %+v", does, test.does)
			}
			if !plan.SecretName.Equal(state.SecretName) || !plan.ID.Equal(state.ID) || !plan.PrivateKeyPEM.Equal(state.PrivateKeyPEM) {
				t.Errorf("it changes %s, %s or the private key", plan.ID, plan.SecretName)
			}
			// What the plan has told, the apply must not take back.
			found := settledIssuer(one).issuerOutputs
			found.Fingerprint, found.RotationSteps = types.StringValue("found"), stagesValue(rotation.Drop)
			told := plan.issuerOutputs
			plan.settle(found)
			if got := plan.Fingerprint.ValueString() == "found"; got != test.issues {
				t.Errorf("the fingerprint after the apply is %s", plan.Fingerprint)
			}
			if !told.RotationSteps.IsUnknown() && !plan.RotationSteps.Equal(told.RotationSteps) {
				t.Errorf("rotation_steps after the apply is %s, %s was promised", plan.RotationSteps, told.RotationSteps)
			}
			for _, output := range append(plan.ofCertificate(), &plan.Renewal, &plan.RotationWaitsFor, &plan.PrivateKeyPEM) {
				if output.IsUnknown() {
					t.Error("something is unknown after the apply")
				}
			}
		})
	}
}

// TestIssuerPromises_again holds the plan that Terraform makes during the apply to
// the first one, when what was unknown has turned out to be what was there.
func TestIssuerPromises_again(t *testing.T) {
	t.Parallel()
	one := string(testAnchor(t, pki.AuthorityOptions{}).CertificatePEM())
	for _, mode := range []string{rotationStaged, rotationComplete} {
		for _, waits := range []string{"", "3 of 4 pods"} {
			for _, record := range []issuerRecord{{}, {Blocked: true}, {Renew: true}, {Anchor: "anchor"}, {Anchor: "anchor", Blocked: true}} {
				for _, renewal := range []string{"", "valid until tomorrow"} {
					for _, stages := range [][]rotation.Stage{nil, {rotation.Recover}, {rotation.Recover, rotation.Teach}, {rotation.Teach, rotation.Switch}, {rotation.Forget}} {
						state := settledIssuer(one)
						state.Rotation, state.RotationWaitsFor, state.RotationSteps = types.StringValue(mode), types.StringValue(waits), stagesValue(stages...)
						state.Renewal = types.StringValue(renewal)
						first, second := state, state
						first.TrustBundlePEM = types.StringUnknown()
						first.promises(state, record, false)
						second.promises(state, record, false)
						if len(stages) == 0 && (waits != "" || record.Blocked) {
							continue // Nothing waits for nothing.
						}
						for name, pair := range map[string][2]attr.Value{
							"rotation_steps":     {first.RotationSteps, second.RotationSteps},
							"rotation_waits_for": {first.RotationWaitsFor, second.RotationWaitsFor},
							"renewal":            {first.Renewal, second.Renewal},
							"fingerprint_sha256": {first.Fingerprint, second.Fingerprint},
							"ready_for_renewal":  {first.ReadyForRenewal, second.ReadyForRenewal},
							"private_key_pem":    {first.PrivateKeyPEM, second.PrivateKeyPEM},
						} {
							if !pair[0].IsUnknown() && !pair[0].Equal(pair[1]) {
								t.Errorf("%s, %v, waits %q, renewal %q, stages %v: %s is planned as %s and then as %s", mode, record, waits, renewal, stages, name, pair[0], pair[1])
							}
						}
					}
				}
			}
		}
	}
}

func TestIssuerWarnings(t *testing.T) {
	t.Parallel()
	now := time.Now()
	anchor := testAnchor(t, pki.AuthorityOptions{})
	short := testAnchor(t, pki.AuthorityOptions{Validity: 1000 * time.Hour, Subject: pki.Subject{CommonName: "short"}})
	made := func(below *pki.KeyPair, validity time.Duration) func(*issuerModel) {
		issuer, err := pki.NewIssuer(below, pki.AuthorityOptions{Now: now, Validity: validity})
		if err != nil {
			t.Fatal(err)
		}
		return func(m *issuerModel) {
			m.CertificatePEM = types.StringValue(string(issuer.CertificatePEM()))
			m.TrustBundlePEM = types.StringValue(string(below.CertificatePEM()))
		}
	}
	record := func(anchor *pki.KeyPair) issuerRecord {
		return issuerRecord{Anchor: pki.Fingerprint(anchor.Certificate())}
	}
	past := testAnchor(t, pki.AuthorityOptions{Now: now.Add(-2000 * time.Hour), Validity: 1000 * time.Hour, Subject: pki.Subject{CommonName: "past"}})
	ended := func(m *issuerModel) { m.NotAfter = types.StringValue("2026-01-01T00:00:00Z") }
	bySigner := func(m *issuerModel) { m.TrustAnchorID = types.StringNull() }
	pending := func(stages ...rotation.Stage) func(*issuerModel) {
		return func(m *issuerModel) { m.RotationSteps = stagesValue(stages...) }
	}
	for name, test := range map[string]struct {
		state  []func(*issuerModel)
		plan   func(*issuerModel)
		record issuerRecord
		does   issuerAction
		want   map[string][]string // summaries and words of their details
	}{
		"nothing": {state: []func(*issuerModel){made(anchor, 0)}, record: record(anchor)},
		"begins": {
			state: []func(*issuerModel){made(anchor, 0)}, record: record(anchor), does: issuerAction{begins: true},
			want: map[string][]string{"Rotation Begins: linkerd/linkerd": {"1. publish: ", "3. issue: ", "6. forget: ", "does the first of them"}},
		},
		"waits": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Teach), func(m *issuerModel) { m.RotationWaitsFor = types.StringValue("3 of 4 pods") }},
			does:  issuerAction{waits: true}, record: record(anchor),
			want: map[string][]string{"Rotation Waits: linkerd/linkerd": {`before "trust: `, "3 of 4 pods", `rotation = "complete"`}},
		},
		"blocked": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Teach)},
			does:  issuerAction{waits: true}, record: issuerRecord{Anchor: record(anchor).Anchor, Blocked: true},
			want: map[string][]string{"Rotation Waits: linkerd/linkerd": {"Somebody has to see to that"}},
		},
		"down": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Recover), ended}, record: record(anchor),
			want: map[string][]string{"mTLS Is Down: linkerd/linkerd": {"The issuer has ended 2026-01-01T00:00:00Z"}},
		},
		"down, and other anchors": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Recover), ended}, record: record(anchor), does: issuerAction{begins: true},
			want: map[string][]string{"mTLS Is Down: linkerd/linkerd": {"The issuer has ended 2026-01-01T00:00:00Z"}},
		},
		"down, and nobody knows which anchors": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Recover), ended}, record: record(anchor), does: issuerAction{begins: true},
			plan: func(m *issuerModel) { m.TrustBundlePEM = types.StringUnknown() },
			want: map[string][]string{"mTLS Is Down: linkerd/linkerd": {"The issuer has ended 2026-01-01T00:00:00Z"}},
		},
		"down by its anchor": {
			state: []func(*issuerModel){made(anchor, 0), pending(rotation.Recover), func(m *issuerModel) {
				m.TrustBundlePEM = types.StringValue(string(past.CertificatePEM()))
				m.NotAfter, m.AnchorFingerprint = types.StringValue("2999-01-01T00:00:00Z"), types.StringValue(pki.Fingerprint(past.Certificate()))
			}}, record: record(past),
			want: map[string][]string{"mTLS Is Down: linkerd/linkerd": {`The trust anchor "CN=past", which the issuer leads to, has ended ` + past.Certificate().NotAfter.Format(time.RFC3339)}},
		},
		"may begin": {
			state: []func(*issuerModel){made(anchor, 0)}, record: record(anchor), does: issuerAction{begins: true},
			plan: func(m *issuerModel) { m.TrustBundlePEM, m.TrustAnchorID = types.StringUnknown(), types.StringUnknown() },
			want: map[string][]string{"Rotation May Begin: linkerd/linkerd": {"trust_bundle_pem and trust_anchor_id will be known only during the apply", "does the first of them"}},
		},
		"an issuer that a rotation replaces": {
			state: []func(*issuerModel){made(anchor, 100*time.Hour), bySigner, pending(rotation.Teach, rotation.Switch)}, record: record(anchor),
		},
		"an issuer that a blocked rotation does not replace": {
			state:  []func(*issuerModel){made(anchor, 100*time.Hour), bySigner, pending(rotation.Teach, rotation.Switch)},
			record: issuerRecord{Anchor: record(anchor).Anchor, Blocked: true},
			want:   map[string][]string{"Certificates Near Their End: linkerd/linkerd": {`issuer "CN=identity.aksmesh.cluster.local" ends`}},
		},
		"an issuer that nobody renews": {
			state: []func(*issuerModel){made(anchor, 100*time.Hour), bySigner}, record: record(anchor),
			want: map[string][]string{"Certificates Near Their End: linkerd/linkerd": {`issuer "CN=identity.aksmesh.cluster.local" ends`}},
		},
		"an issuer that is renewed": {
			state: []func(*issuerModel){made(anchor, 100*time.Hour)}, record: record(anchor), does: issuerAction{renews: true},
		},
		"an anchor that nobody renews": {
			state: []func(*issuerModel){made(short, 0), bySigner}, record: record(short),
			want: map[string][]string{"Certificates Near Their End: linkerd/linkerd": {`trust anchor "CN=short" ends`, "Rotate to another"}},
		},
		"an anchor that is a resource": {state: []func(*issuerModel){made(short, 0)}, record: record(short)},
		"another anchor of the bundle": {
			state: []func(*issuerModel){made(anchor, 0), func(m *issuerModel) {
				m.TrustBundlePEM = types.StringValue(m.TrustBundlePEM.ValueString() + "\n" + string(short.CertificatePEM()))
			}}, record: record(anchor),
			want: map[string][]string{"Certificates Near Their End: linkerd/linkerd": {`trust anchor "CN=short" ends`}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := settledIssuer("")
			for _, edit := range test.state {
				edit(&state)
			}
			plan := state
			if test.plan != nil {
				test.plan(&plan)
			}
			var diags diag.Diagnostics
			(&issuerResource{}).warn(t.Context(), tfsdk.Config{}, plan, state, test.record, test.does, &diags)
			if len(diags) != len(test.want) || diags.HasError() {
				t.Fatalf("diagnostics %v, want %v", diags, test.want)
			}
			for _, d := range diags {
				words, ok := test.want[d.Summary()]
				if !ok {
					t.Errorf("warning %q, want %v", d.Summary(), test.want)
				}
				for _, word := range words {
					if !strings.Contains(d.Detail(), word) {
						t.Errorf("%s: %q lacks %q", d.Summary(), d.Detail(), word)
					}
				}
			}
		})
	}
}

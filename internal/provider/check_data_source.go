package provider

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

type checkDataSource struct{ session *session }

var (
	_ datasource.DataSourceWithConfigure      = (*checkDataSource)(nil)
	_ datasource.DataSourceWithValidateConfig = (*checkDataSource)(nil)
)

func newCheckDataSource() datasource.DataSource { return &checkDataSource{} }

func (d *checkDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_check"
}

// What checks are about, in the order in which they are made.
const (
	scopePre          = "pre"
	scopeControlPlane = "control_plane"
	scopeDataPlane    = "data_plane"
	scopeViz          = "viz"
	scopeMulticluster = "multicluster"
)

// What fails the data source.
const (
	failOnError   = "error"
	failOnWarning = "warning"
	failOnNothing = "never"
)

func (d *checkDataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	count := func(of string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: "How many checks " + of + "."}
	}
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Checks the health of a mesh: for Linkerd all of `linkerd check`, with the same identifiers, as far as the API server knows; for Istio what `istioctl x precheck`, " +
			"`analyze`, `verify-install` and `proxy-status` tell of the installation, its certificates, webhooks and versions. No command line is needed, nothing is asked of pods or of the internet: " +
			"checks that would need either are `skipped`, with the reason.\n\n" +
			"Nothing in the cluster is changed. All checks look at the same lists, so the number of requests hardly grows with that of the pods.",
		Attributes: map[string]schema.Attribute{
			"mesh": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "`linkerd` or `istio`.",
				Validators:          []validator.String{stringvalidator.OneOf("linkerd", "istio")},
			},
			"namespace": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Namespace of the control plane. Default `" + linkerd.DefaultNamespace + "` or `" + istio.DefaultNamespace + "`, and for revisions of AKS's Istio add-on (`asm-1-30`) `" + check.AddonNamespace + "`.",
				Validators:          []validator.String{dnsLabel()},
			},
			"revision": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "Revision or tag of Istio's control plane. Default: the default one.",
				Validators:          []validator.String{dnsLabel()},
			},
			"scopes": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				MarkdownDescription: "What is checked: `pre` (whether the mesh can be installed), `control_plane`, `data_plane`, and of Linkerd's extensions `viz` and `multicluster`. " +
					"Default: `pre` if the mesh is not installed; otherwise all others that are.",
				Validators: []validator.Set{
					setvalidator.SizeAtLeast(1),
					setvalidator.ValueStringsAre(stringvalidator.OneOf(scopePre, scopeControlPlane, scopeDataPlane, scopeViz, scopeMulticluster)),
				},
			},
			"fail_on": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "What fails the plan or apply by an error of the data source: `error`, a check that fails; `warning`, one that warns too; `never` (default), nothing: " +
					"use `passed` or `results` in a `check` block or in a postcondition.",
				Validators: []validator.String{stringvalidator.OneOf(failOnError, failOnWarning, failOnNothing)},
			},
			"wait": schema.StringAttribute{
				Optional: true,
				MarkdownDescription: "How long to wait for checks to pass that fail while something starts: pods, rollouts, proxies, webhooks, the API of taps. A Go duration, such as `5m`. " +
					"Default: not at all. What fails for other reasons is not waited for. The time limit of the read does not count it.",
				Validators: []validator.String{goDuration(0, time.Hour)},
			},
			"early": schema.StringAttribute{
				Optional:            true,
				MarkdownDescription: "How long before their end certificates are worth a warning, as a Go duration. Default `1440h`, the 60 days of `linkerd check`.",
				Validators:          []validator.String{goDuration(0, 10*365*24*time.Hour)},
			},
			"timeouts": timeouts.Attributes(ctx),
			"passed": schema.BoolAttribute{
				Computed:            true,
				MarkdownDescription: "Whether no check has failed, nor warned if `fail_on` is `warning`. Skipped checks do not count.",
			},
			"errors":    count("have failed"),
			"warnings":  count("warn"),
			"successes": count("have succeeded"),
			"skipped":   count("were not made"),
			"results": schema.ListNestedAttribute{
				Computed:            true,
				MarkdownDescription: "The checks, in the order of the mesh's own command line.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"category":    text("What the check belongs to: `linkerd-identity`."),
					"id":          text("Its identifier, that of the mesh's documentation where it has one: `l5d-identity-issuer-cert-is-time-valid`, `IST0139`. Some of Linkerd's checks share one."),
					"description": text("What is found out: `issuer cert is within its validity period`."),
					"result":      text("`success`, `warning`, `error`, or `skipped`."),
					"message":     text("What is wrong, with the objects and the cure, or why the check was skipped; null after a success."),
					"hint_url":    text("Where the mesh's documentation tells more; null if it does not."),
				}},
			},
		},
	}
}

type checkModel struct {
	Mesh      types.String       `tfsdk:"mesh"`
	Namespace types.String       `tfsdk:"namespace"`
	Revision  types.String       `tfsdk:"revision"`
	Scopes    types.Set          `tfsdk:"scopes"`
	FailOn    types.String       `tfsdk:"fail_on"`
	Wait      types.String       `tfsdk:"wait"`
	Early     types.String       `tfsdk:"early"`
	Timeouts  timeouts.Value     `tfsdk:"timeouts"`
	Passed    types.Bool         `tfsdk:"passed"`
	Errors    types.Int64        `tfsdk:"errors"`
	Warnings  types.Int64        `tfsdk:"warnings"`
	Successes types.Int64        `tfsdk:"successes"`
	Skipped   types.Int64        `tfsdk:"skipped"`
	Results   []checkResultModel `tfsdk:"results"`
}

type checkResultModel struct {
	Category    string       `tfsdk:"category"`
	ID          string       `tfsdk:"id"`
	Description string       `tfsdk:"description"`
	Result      string       `tfsdk:"result"`
	Message     types.String `tfsdk:"message"`
	HintURL     types.String `tfsdk:"hint_url"`
}

// ValidateConfig refuses what the other mesh alone has.
func (d *checkDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var of, revision types.String
	var scopes types.Set
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("mesh"), &of)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("revision"), &revision)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("scopes"), &scopes)...)
	switch of.ValueString() {
	case "linkerd":
		if !revision.IsNull() {
			resp.Diagnostics.AddAttributeError(path.Root("revision"), "No Revisions", "revision: Linkerd has no revisions; leave the attribute out.")
		}
	case "istio":
		for _, scope := range elements[types.String](ctx, scopes, &resp.Diagnostics) {
			if s := scope.ValueString(); s == scopeViz || s == scopeMulticluster {
				resp.Diagnostics.AddAttributeError(path.Root("scopes"), "No Such Scope", fmt.Sprintf("scopes: %s is an extension of Linkerd; Istio has none.", s))
			}
		}
	}
}

func (d *checkDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (d *checkDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var model checkModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	cluster, ok := d.session.requireCluster(&resp.Diagnostics)
	limit, diags := model.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	scopes := elements[string](ctx, model.Scopes, &resp.Diagnostics)
	if !ok || resp.Diagnostics.HasError() {
		return
	}
	wait := duration(model.Wait, 0)
	ctx, cancel := context.WithTimeout(ctx, limit+wait)
	defer cancel()
	outcomes, err := model.health(cluster, d.session.time(), d.session.managed()).check(ctx, scopes, time.Now().Add(wait))
	if err != nil {
		problem(&resp.Diagnostics, "Unable to Check the Mesh", err)
		return
	}
	model.tell(outcomes)
	if fails := model.failing(outcomes); len(fails) > 0 && cmp.Or(model.FailOn.ValueString(), failOnNothing) != failOnNothing {
		resp.Diagnostics.AddError("The Mesh Is Not Healthy", strings.Join(fails, "\n\n"))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

// A health is that of one mesh: its checks by their scopes, in their order.
type health struct {
	cluster *kube.Cluster
	scopes  []string
	checks  map[string]func() []check.Check
	// applies tells whether there is what a scope is about.
	applies func(ctx context.Context, scope string) (bool, error)
}

// health is that of the mesh that is asked for.
func (m *checkModel) health(cluster *kube.Cluster, now time.Time, managed check.Managed) health {
	early := duration(m.Early, pki.DefaultEarlyRenewal)
	// Without the mesh there is only the cluster to check.
	either := func(scope string, installed bool, err error) (bool, error) {
		return installed == (scope != scopePre), err
	}
	if m.Mesh.ValueString() == "istio" {
		h := istio.Health{
			Cluster: cluster, Namespace: cmp.Or(m.Namespace.ValueString(), istio.ControlPlaneNamespace(m.Revision.ValueString())), Revision: m.Revision.ValueString(),
			Early: early, Now: now, Managed: managed,
		}
		return health{
			cluster: cluster,
			scopes:  []string{scopePre, scopeControlPlane, scopeDataPlane},
			checks:  map[string]func() []check.Check{scopePre: h.Pre, scopeControlPlane: h.ControlPlane, scopeDataPlane: h.DataPlane},
			applies: func(ctx context.Context, scope string) (bool, error) {
				installed, err := h.Installed(ctx)
				return either(scope, installed, err)
			},
		}
	}
	h := linkerd.Health{Cluster: cluster, Namespace: cmp.Or(m.Namespace.ValueString(), linkerd.DefaultNamespace), Early: early, Now: now, Managed: managed}
	return health{
		cluster: cluster,
		scopes:  []string{scopePre, scopeControlPlane, scopeDataPlane, scopeViz, scopeMulticluster},
		checks: map[string]func() []check.Check{
			scopePre: h.Pre, scopeControlPlane: h.ControlPlane, scopeDataPlane: h.DataPlane, scopeViz: h.Viz, scopeMulticluster: h.Multicluster,
		},
		applies: func(ctx context.Context, scope string) (bool, error) {
			if scope == scopeViz || scope == scopeMulticluster {
				return h.Extended(ctx, scope)
			}
			installed, err := h.Installed(ctx)
			return either(scope, installed, err)
		},
	}
}

// check makes the checks of some scopes, or of all that apply if none are named,
// and waits until a time for those that may yet pass. What is fatal in one says
// nothing of another.
func (h health) check(ctx context.Context, scopes []string, until time.Time) ([]check.Outcome, error) {
	var all []check.Outcome
	for _, scope := range h.scopes {
		wanted := slices.Contains(scopes, scope)
		if len(scopes) == 0 {
			var err error
			if wanted, err = h.applies(ctx, scope); err != nil {
				return nil, err
			}
		}
		if !wanted {
			continue
		}
		outcomes, err := check.Await(ctx, h.cluster, until, h.checks[scope])
		if err != nil {
			return nil, err
		}
		all = append(all, outcomes...)
	}
	return all, nil
}

// tell fills in what has come of the checks.
func (m *checkModel) tell(outcomes []check.Outcome) {
	m.Passed = types.BoolValue(len(m.failing(outcomes)) == 0)
	counts := map[check.Result]int64{}
	m.Results = make([]checkResultModel, len(outcomes))
	for i, o := range outcomes {
		counts[o.Result]++
		m.Results[i] = checkResultModel{
			Category: o.Category, ID: o.ID, Description: o.Description, Result: string(o.Result),
			Message: orNull(o.Message()), HintURL: orNull(o.HintURL),
		}
	}
	m.Errors, m.Warnings = types.Int64Value(counts[check.Error]), types.Int64Value(counts[check.Warning])
	m.Successes, m.Skipped = types.Int64Value(counts[check.Success]), types.Int64Value(counts[check.Skipped])
}

// failing are the outcomes that speak against the mesh, in words.
func (m *checkModel) failing(outcomes []check.Outcome) []string {
	var fails []string
	for _, o := range outcomes {
		if o.Result == check.Error || o.Result == check.Warning && m.FailOn.ValueString() == failOnWarning {
			fails = append(fails, explainOutcome(o))
		}
	}
	return fails
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// resourceBase is what all resources have in common: a name, an ID, and the
// session with the cluster.
type resourceBase struct {
	noun     string // after "aksmesh_" in the type's name
	identity string // what the ID is made of, in Markdown
	// changeTimeout is how long it may take to be created or updated unless
	// configured otherwise; zero is as long as for most.
	changeTimeout time.Duration
	session       *session
}

// meshResource is what every resource of the provider offers.
type meshResource interface {
	resource.ResourceWithConfigure
	resource.ResourceWithModifyPlan
	resource.ResourceWithImportState
	resource.ResourceWithIdentity
}

func (b *resourceBase) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + b.noun
}

// IdentitySchema is the same for all: one string identifies each.
func (b *resourceBase) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{Attributes: map[string]identityschema.Attribute{
		"id": identityschema.StringAttribute{RequiredForImport: true, Description: b.identity},
	}}
}

// ImportState passes the ID of `terraform import`, or of an identity, on to Read.
func (b *resourceBase) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughWithIdentity(ctx, path.Root("id"), path.Root("id"), req, resp)
}

func (b *resourceBase) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	b.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

// knownCluster returns the cluster if there is one to ask; see session.
func (b *resourceBase) knownCluster() (*kube.Cluster, bool) { return b.session.knownCluster() }

// charts returns the means to install charts into the cluster.
func (b *resourceBase) charts(ctx context.Context, cluster *kube.Cluster, diags *diag.Diagnostics) (install.Charts, bool) {
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{
		Now: b.session.now,
		Log: func(ctx context.Context, message string) { tflog.Debug(ctx, "helm: "+message) },
	})
	if err != nil {
		problem(diags, "Unable to Reach Helm Releases", err)
		return install.Charts{}, false
	}
	return install.Charts{
		Cluster: cluster, Library: b.session.library, Releases: releases, Renderings: &b.session.renderings,
		Log: func(message string, fields map[string]any) { tflog.Info(ctx, message, fields) },
	}, true
}

// recordTimeout bounds the look at the cluster after an operation that was
// cancelled: Terraform is waiting for it to end.
const recordTimeout = time.Second

// identify writes a resource's identity.
func identify(ctx context.Context, identity *tfsdk.ResourceIdentity, id types.String, diags *diag.Diagnostics) {
	diags.Append(identity.SetAttribute(ctx, path.Root("id"), id)...)
}

// save writes a model and the identity that goes with it.
func save(ctx context.Context, state *tfsdk.State, identity *tfsdk.ResourceIdentity, m model, diags *diag.Diagnostics) {
	diags.Append(state.Set(ctx, m)...)
	identify(ctx, identity, m.common().ID, diags)
}

// forget removes from state what the API server itself says is gone. The
// framework wants an identity all the same.
func forget(ctx context.Context, resp *resource.ReadResponse, id types.String) {
	identify(ctx, resp.Identity, id, &resp.Diagnostics)
	resp.State.RemoveResource(ctx)
}

// problem turns a domain error into one diagnostic: what was tried, what went
// wrong, and, where the cluster's or Azure's answer tells, the likely cause and the
// cure. What else can give advice on the error is asked first.
func problem(diags *diag.Diagnostics, summary string, err error, advisers ...func(error) string) {
	diags.AddError(summary, explain(err, advisers...))
}

// problemAt is problem for an error that one attribute caused.
func problemAt(diags *diag.Diagnostics, at path.Path, summary string, err error, advisers ...func(error) string) {
	// Terraform points to the resource only when the attribute is nested, so
	// the text names it too.
	diags.AddAttributeError(at, summary, fmt.Sprintf("%s: %s", at, explain(err, advisers...)))
}

func explain(err error, advisers ...func(error) string) string {
	detail := sentence(err)
	if _, ok := errors.AsType[*kube.AccessError](err); !ok {
		advisers = append(slices.Clip(advisers), azure.Advice)
	}
	for _, advise := range append(advisers, kube.Advice) {
		if advice := advise(err); advice != "" {
			return detail + "\n\n" + advice
		}
	}
	return detail
}

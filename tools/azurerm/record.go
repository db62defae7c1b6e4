package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// record is a resource: what is planned is the state, with what only Azure knows.
type record struct {
	kind       string // container_registry
	attributes map[string]schema.Attribute
	blocks     map[string]schema.Block

	// apiVersion is that of Resource Manager for what it has; empty for what is in
	// the state alone.
	apiVersion string
	// put makes it or changes it, and returns its computed values by attribute,
	// among them its id, which stays as it is in a change.
	put func(ctx context.Context, s *session, plan attributes) (map[string]any, error)

	session *session
}

// attributes are those of a plan.
type attributes struct {
	plan   tfsdk.Plan
	config tfsdk.Config // which alone has what is only to be written
	id     string       // empty of what is to be made
}

// text is an attribute that is a string; empty if it is not set.
func (a attributes) text(ctx context.Context, name string) string {
	var value types.String
	a.plan.GetAttribute(ctx, path.Root(name), &value)
	return value.ValueString()
}

// Metadata implements resource.Resource.
func (r *record) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "azurerm_" + r.kind
}

// Schema implements resource.Resource.
func (r *record) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	r.attributes["id"] = computedText()
	resp.Schema = schema.Schema{Attributes: r.attributes, Blocks: r.blocks}
}

// Configure implements resource.ResourceWithConfigure.
func (r *record) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.session, _ = req.ProviderData.(*session) // It is nil until the provider is configured.
}

// Create implements resource.Resource.
func (r *record) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	r.write(ctx, attributes{plan: req.Plan, config: req.Config}, &resp.State, func(err error) {
		resp.Diagnostics.AddError("Unable to Create "+r.kind, err.Error())
	})
}

// Update implements resource.Resource.
func (r *record) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var id string
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("id"), &id)...)
	r.write(ctx, attributes{plan: req.Plan, config: req.Config, id: id}, &resp.State, func(err error) {
		resp.Diagnostics.AddError("Unable to Update "+r.kind, err.Error())
	})
}

func (r *record) write(ctx context.Context, plan attributes, state *tfsdk.State, fail func(error)) {
	computed, err := r.put(ctx, r.session, plan)
	if err != nil {
		fail(err)
		return
	}
	state.Raw = plan.plan.Raw
	for name, value := range computed {
		for _, problem := range state.SetAttribute(ctx, path.Root(name), value) {
			fail(errors.New(problem.Summary() + ": " + problem.Detail()))
		}
	}
}

// Read implements resource.Resource.
func (r *record) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	if r.apiVersion == "" {
		return
	}
	var id string
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("id"), &id)...)
	err := r.session.ask(ctx, http.MethodGet, id, r.apiVersion, nil, nil)
	if refused, ok := errors.AsType[*resourcemanager.Error](err); ok && refused.Status == http.StatusNotFound {
		resp.State.RemoveResource(ctx)
	} else if err != nil {
		resp.Diagnostics.AddError("Unable to Read "+r.kind, err.Error())
	}
}

// Delete implements resource.Resource.
func (r *record) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	if r.apiVersion == "" {
		return
	}
	var id string
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("id"), &id)...)
	if err := r.session.ask(ctx, http.MethodDelete, id, r.apiVersion, nil, nil); err != nil {
		resp.Diagnostics.AddError("Unable to Delete "+r.kind, err.Error())
	}
}

// ask makes a request to Resource Manager about what has an ID.
func (s *session) ask(ctx context.Context, method, id, version string, body, into any) error {
	if into == nil {
		into = new(any)
	}
	return s.manager.Do(ctx, resourcemanager.Request{Doing: method + " " + id, Method: method, Path: id, APIVersion: version, Body: body}, into)
}

// requiredText is what another of makes another resource.
func requiredText() schema.StringAttribute {
	return schema.StringAttribute{Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()}}
}

func optionalText() schema.StringAttribute { return schema.StringAttribute{Optional: true} }

func computedText() schema.StringAttribute {
	return schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}}
}

func texts() schema.ListAttribute {
	return schema.ListAttribute{Optional: true, ElementType: types.StringType}
}

func tags() schema.MapAttribute {
	return schema.MapAttribute{Optional: true, ElementType: types.StringType}
}

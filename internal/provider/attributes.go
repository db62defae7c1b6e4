package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

func computedString(description string) schema.StringAttribute {
	return schema.StringAttribute{Computed: true, MarkdownDescription: description}
}

func computedBool(description string) schema.BoolAttribute {
	return schema.BoolAttribute{Computed: true, MarkdownDescription: description}
}

var dnsLabelPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// dnsLabel accepts the names of namespaces and of most objects that others
// derive names from.
func dnsLabel() validator.String {
	return stringvalidator.RegexMatches(dnsLabelPattern, "must be a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit")
}

var subdomainPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// plainDuration prints a duration without the zero minutes and seconds that
// time.Duration adds: 720h, not 720h0m0s.
func plainDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// setWhenNull fills an attribute that an import has left null.
func setWhenNull(attribute *types.String, value string) {
	if attribute.IsNull() {
		*attribute = types.StringValue(value)
	}
}

// warnAdopted tells that Create found what an earlier apply had made before it
// was interrupted.
func warnAdopted(diags *diag.Diagnostics, what string) {
	diags.AddWarning("Resumed an Interrupted Apply", fmt.Sprintf(
		"The %s was already in the cluster with this provider's mark, as an apply leaves it that ends before it can write state. It was taken over and finished.", what))
}

// objectAsOptions decodes objects of which parts may be null or unknown.
var objectAsOptions = basetypes.ObjectAsOptions{UnhandledNullAsEmpty: true, UnhandledUnknownAsEmpty: true}

func objectFrom(ctx context.Context, attributes map[string]attr.Type, value any, diags *diag.Diagnostics) types.Object {
	object, d := types.ObjectValueFrom(ctx, attributes, value)
	diags.Append(d...)
	return object
}

// listOrNull is a list of strings, or null when there are none: an attribute
// left out and one set to nothing mean the same.
func listOrNull(ctx context.Context, values []string, diags *diag.Diagnostics) types.List {
	if len(values) == 0 {
		return types.ListNull(types.StringType)
	}
	list, d := types.ListValueFrom(ctx, types.StringType, values)
	diags.Append(d...)
	return list
}

// driftAttribute lists what is not as applied. Every resource
// plans it empty, so that whatever Read finds is a difference that an apply repairs.
func driftAttribute(what string) schema.ListAttribute {
	return schema.ListAttribute{
		Computed: true, ElementType: types.StringType,
		MarkdownDescription: "What is not as applied: " + what + ". Empty when all is well; a plan that empties it repairs it.",
	}
}

// noDrift is the drift that every plan promises.
func noDrift() types.List { return types.ListValueMust(types.StringType, []attr.Value{}) }

// quantityAttribute is an optional Kubernetes quantity.
func quantityAttribute(description string) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: []validator.String{quantity()}}
}

// parsedValues merges YAML documents of chart values and has them checked.
// Errors are attached to the list at the given path. While any document is
// unknown there is nothing to check.
func parsedValues(ctx context.Context, list types.List, at path.Path, check func(map[string]any) error, diags *diag.Diagnostics) map[string]any {
	if list.IsNull() || list.IsUnknown() {
		return nil
	}
	for _, element := range list.Elements() {
		if element.IsUnknown() {
			return nil
		}
	}
	values, err := helm.ParseValues(stringList(ctx, list, diags))
	var malformed *helm.ValuesError
	switch {
	case errors.As(err, &malformed):
		problemAt(diags, at.AtListIndex(malformed.Index), "Invalid "+at.String(), err)
		return nil
	case err != nil:
		problemAt(diags, at, "Invalid "+at.String(), err)
		return nil
	}
	if err := check(values); err != nil {
		problemAt(diags, at, "Invalid "+at.String(), err)
	}
	return values
}

// settle keeps the computed attributes of a plan in which nothing else differs
// from the state, and leaves them to the apply in any other.
func settle(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse, computed ...path.Path) {
	if req.State.Raw.IsNull() {
		return
	}
	resp.Diagnostics.Append(copyAttribute(ctx, req.State, &resp.Plan, path.Root("id"))...)
	before, err := withoutComputed(ctx, req.State.Raw, computed)
	after, err2 := withoutComputed(ctx, resp.Plan.Raw, computed)
	if err != nil || err2 != nil {
		resp.Diagnostics.AddError("Unable to Compare Plan and State", fmt.Sprintf("%v. This is a bug in the provider.", errors.Join(err, err2)))
		return
	}
	changed := !before.Equal(after)
	for _, at := range computed {
		if changed {
			resp.Diagnostics.Append(leaveToApply(ctx, &resp.Plan, at)...)
		} else {
			resp.Diagnostics.Append(copyAttribute(ctx, req.State, &resp.Plan, at)...)
		}
	}
}

// leaveToApply leaves an attribute of a plan to the apply.
func leaveToApply(ctx context.Context, plan *tfsdk.Plan, at path.Path) diag.Diagnostics {
	kind, diags := plan.Schema.TypeAtPath(ctx, at)
	if diags.HasError() {
		return diags
	}
	unknown, err := kind.ValueFromTerraform(ctx, tftypes.NewValue(kind.TerraformType(ctx), tftypes.UnknownValue))
	if err != nil {
		diags.AddAttributeError(at, "Unable to Plan", fmt.Sprintf("%v. This is a bug in the provider.", err))
		return diags
	}
	return append(diags, plan.SetAttribute(ctx, at, unknown)...)
}

func copyAttribute(ctx context.Context, from tfsdk.State, to *tfsdk.Plan, at path.Path) diag.Diagnostics {
	var value attr.Value
	diags := from.GetAttribute(ctx, at, &value)
	if !diags.HasError() {
		diags.Append(to.SetAttribute(ctx, at, value)...)
	}
	return diags
}

// withoutComputed is a resource's value with the named root attributes nulled.
func withoutComputed(_ context.Context, raw tftypes.Value, computed []path.Path) (tftypes.Value, error) {
	var attributes map[string]tftypes.Value
	if err := raw.As(&attributes); err != nil {
		return raw, err
	}
	attributes = maps.Clone(attributes) // What As gives is the value's own map.
	for _, at := range computed {
		name := at.String()
		attributes[name] = tftypes.NewValue(attributes[name].Type(), nil)
	}
	return tftypes.NewValue(raw.Type(), attributes), nil
}

// fullyKnown reports whether no part of the values is unknown.
func fullyKnown(ctx context.Context, values ...attr.Value) bool {
	for _, value := range values {
		raw, err := value.ToTerraformValue(ctx)
		if err != nil || !raw.IsFullyKnown() {
			return false
		}
	}
	return true
}

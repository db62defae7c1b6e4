package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// subjectModel is the attribute `subject` of whatever makes certificates: all of
// their subject but the common name, which has an attribute of its own.
type subjectModel struct {
	Organization       types.String `tfsdk:"organization"`
	OrganizationalUnit types.String `tfsdk:"organizational_unit"`
	Country            types.String `tfsdk:"country"`
	Province           types.String `tfsdk:"province"`
	Locality           types.String `tfsdk:"locality"`
}

var subjectTypes = map[string]attr.Type{
	"organization": types.StringType, "organizational_unit": types.StringType,
	"country": types.StringType, "province": types.StringType, "locality": types.StringType,
}

// subjectDescriptions are what the attributes of `subject` mean.
func subjectDescriptions() map[string]string {
	return map[string]string{
		"organization":        "Organization (O).",
		"organizational_unit": "Organizational unit (OU).",
		"country":             "Country (C), two capital letters.",
		"province":            "State or province (ST).",
		"locality":            "Locality (L).",
	}
}

// subjectOf joins the attributes `common_name` and `subject`; what is null or
// unknown is empty.
func subjectOf(ctx context.Context, commonName types.String, object types.Object, diags *diag.Diagnostics) pki.Subject {
	var m subjectModel
	if !object.IsNull() && !object.IsUnknown() {
		diags.Append(object.As(ctx, &m, objectAsOptions)...)
	}
	return pki.Subject{
		CommonName:   commonName.ValueString(),
		Organization: m.Organization.ValueString(), OrganizationalUnit: m.OrganizationalUnit.ValueString(),
		Country: m.Country.ValueString(), Province: m.Province.ValueString(), Locality: m.Locality.ValueString(),
	}
}

// subjectFound is the value of `subject` for a subject that was found; null when
// there is nothing in it but a common name.
func subjectFound(ctx context.Context, found pki.Subject, diags *diag.Diagnostics) types.Object {
	found.CommonName = ""
	if found == (pki.Subject{}) {
		return types.ObjectNull(subjectTypes)
	}
	text := func(value string) types.String {
		if value == "" {
			return types.StringNull()
		}
		return types.StringValue(value)
	}
	return objectFrom(ctx, subjectTypes, subjectModel{
		Organization: text(found.Organization), OrganizationalUnit: text(found.OrganizationalUnit),
		Country: text(found.Country), Province: text(found.Province), Locality: text(found.Locality),
	}, diags)
}

// subjectKept is the value of `subject` where a subject was found: the one that is
// there if it means the same, in whichever spelling, as Terraform wants of what it
// has planned.
func subjectKept(ctx context.Context, present types.Object, found pki.Subject, diags *diag.Diagnostics) types.Object {
	if subjectOf(ctx, types.StringValue(found.CommonName), present, diags) == found {
		return present
	}
	return subjectFound(ctx, found, diags)
}

// checkSubject refuses names that certificates cannot have.
func checkSubject(ctx context.Context, commonName types.String, object types.Object, diags *diag.Diagnostics) {
	if err := (pki.Subject{CommonName: commonName.ValueString()}).Check(); err != nil {
		problemAt(diags, path.Root("common_name"), "Invalid Subject", err)
	}
	if err := subjectOf(ctx, types.StringNull(), object, diags).Check(); err != nil {
		problemAt(diags, path.Root("subject"), "Invalid Subject", err)
	}
}

// keyAlgorithm accepts what keys can be made of.
func keyAlgorithm() validator.String { return stringvalidator.OneOf(pki.Algorithms()...) }

// subjectAttribute is the attribute `subject` of a resource.
func subjectAttribute(change string) schema.SingleNestedAttribute {
	nested := map[string]schema.Attribute{}
	for name, description := range subjectDescriptions() {
		nested[name] = optionalText(description)
	}
	return schema.SingleNestedAttribute{Optional: true, Attributes: nested, MarkdownDescription: "The subject of the certificate beside its common name; no mesh checks it. " + change}
}

// optionalText is an optional string that is not empty.
func optionalText(description string) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: []validator.String{stringvalidator.LengthAtLeast(1)}}
}

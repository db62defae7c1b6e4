package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd/profile"
)

// The attribute `routes` of aksmesh_service_profile, which is also what functions
// derive from descriptions of services.

func routesAttribute() schema.ListNestedAttribute {
	optional := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: description}
	}
	return schema.ListNestedAttribute{
		Optional: true,
		MarkdownDescription: "The routes, in the order in which proxies try them: the first whose condition a request meets is its route. " +
			"`provider::aksmesh::openapi_routes` and `provider::aksmesh::proto_routes` derive them.",
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required:            true,
				MarkdownDescription: "Name of the route, by which its metrics are known: `GET /books/{id}`. Routes of one name share their metrics.",
			},
			"method": optional("HTTP method of its requests: `GET`. Those of gRPC have `POST`."),
			"path_regex": optional("Regular expression that matches the whole path of its requests, without the query: `/books/[^/]*`. Of the dialect of Rust's `regex` crate. " +
				"Together with `method`, requests have to meet both."),
			"condition_json": optional("Instead of `method` and `path_regex`, a condition of any depth as JSON in the fields of a ServiceProfile: " +
				"`jsonencode({ all = [{ method = \"GET\" }, { not = { pathRegex = \"/health\" } }] })`. A `not` at the top, which Linkerd's CRD and its webhook " +
				"want in ways that exclude each other, is put into `all`, where both take it."),
			"response_classes": schema.ListNestedAttribute{
				Optional:            true,
				MarkdownDescription: "What counts as a failure; the first class that a response meets decides. Default: the status codes from 500 to 599.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"status_min":     schema.Int32Attribute{Optional: true, MarkdownDescription: "Least status code, from 100 to 599. Default: `status_max`."},
					"status_max":     schema.Int32Attribute{Optional: true, MarkdownDescription: "Greatest status code, from 100 to 599. Default: `status_min`."},
					"condition_json": optional("Instead of both, a condition as JSON: `jsonencode({ not = { status = { min = 200, max = 299 } } })`."),
					"is_failure": schema.BoolAttribute{
						Optional: true, Computed: true, Default: booldefault.StaticBool(false),
						MarkdownDescription: "Whether these responses are failures. Default `false`.",
					},
				}},
			},
			"retryable": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Whether failed requests are sent again, as `retry_budget` allows. Only for requests that do no harm when they come twice. Default `false`.",
			},
			"timeout": optional("How long a request may take with all its retries, as a Go duration: `300ms`. Default: that of Linkerd, which is 10 seconds."),
		}},
	}
}

var (
	classType = types.ObjectType{AttrTypes: map[string]attr.Type{
		"status_min": types.Int32Type, "status_max": types.Int32Type, "condition_json": types.StringType, "is_failure": types.BoolType,
	}}
	routeType = types.ObjectType{AttrTypes: map[string]attr.Type{
		"name": types.StringType, "method": types.StringType, "path_regex": types.StringType, "condition_json": types.StringType,
		"response_classes": types.ListType{ElemType: classType}, "retryable": types.BoolType, "timeout": types.StringType,
	}}
)

type routeModel struct {
	Name            types.String `tfsdk:"name"`
	Method          types.String `tfsdk:"method"`
	PathRegex       types.String `tfsdk:"path_regex"`
	ConditionJSON   types.String `tfsdk:"condition_json"`
	ResponseClasses types.List   `tfsdk:"response_classes"`
	Retryable       types.Bool   `tfsdk:"retryable"`
	Timeout         types.String `tfsdk:"timeout"`
}

type classModel struct {
	StatusMin     types.Int32  `tfsdk:"status_min"`
	StatusMax     types.Int32  `tfsdk:"status_max"`
	ConditionJSON types.String `tfsdk:"condition_json"`
	IsFailure     types.Bool   `tfsdk:"is_failure"`
}

// readRoutes turns a list of routes into the domain's terms, and refuses what
// Linkerd would refuse. Those that are not wholly known are passed over.
func readRoutes(ctx context.Context, list types.List, diags *diag.Diagnostics) []profile.Route {
	var routes []profile.Route
	for i, element := range list.Elements() {
		object, ok := element.(types.Object)
		if !ok || !fullyKnown(ctx, element) {
			continue
		}
		at := path.Root("routes").AtListIndex(i)
		var m routeModel
		diags.Append(object.As(ctx, &m, objectAsOptions)...)
		route, err := m.route(ctx, diags)
		if err == nil {
			err = route.Check()
		}
		if err != nil {
			problemAt(diags, at, "Invalid Route", err)
		}
		if _, err := regexp.Compile(m.PathRegex.ValueString()); err != nil {
			diags.AddAttributeWarning(at.AtName("path_regex"), "Doubtful Regular Expression", fmt.Sprintf(
				"%s: %s. Go's dialect is not quite that of Linkerd's proxies, but they pass over routes that they cannot read without a word.", at.AtName("path_regex"), err))
		}
		routes = append(routes, route)
	}
	return routes
}

func (m routeModel) route(ctx context.Context, diags *diag.Diagnostics) (profile.Route, error) {
	r := profile.Route{
		Name:        m.Name.ValueString(),
		Condition:   profile.RequestMatch{Method: m.Method.ValueString(), PathRegex: m.PathRegex.ValueString()},
		IsRetryable: m.Retryable.ValueBool(),
		Timeout:     m.Timeout.ValueString(),
	}
	if !m.ConditionJSON.IsNull() {
		if !m.Method.IsNull() || !m.PathRegex.IsNull() {
			return r, errors.New("condition_json is instead of method and path_regex: say in it what they say")
		}
		var err error
		if r.Condition, err = profile.ParseRequestMatch(m.ConditionJSON.ValueString()); err != nil {
			return r, fmt.Errorf("condition_json: %w", err)
		}
	}
	for i, c := range elements[classModel](ctx, m.ResponseClasses, diags) {
		class, err := c.class()
		if err != nil {
			return r, fmt.Errorf("response_classes[%d]: %w", i, err)
		}
		r.ResponseClasses = append(r.ResponseClasses, class)
	}
	return r, nil
}

func (m classModel) class() (profile.ResponseClass, error) {
	c := profile.ResponseClass{IsFailure: m.IsFailure.ValueBool()}
	status := !m.StatusMin.IsNull() || !m.StatusMax.IsNull()
	if m.ConditionJSON.IsNull() {
		if status {
			c.Condition.Status = &profile.StatusRange{Min: m.StatusMin.ValueInt32(), Max: m.StatusMax.ValueInt32()}
		}
		return c, nil
	}
	if status {
		return c, errors.New("condition_json is instead of status_min and status_max: say in it what they say")
	}
	var err error
	if c.Condition, err = profile.ParseResponseMatch(m.ConditionJSON.ValueString()); err != nil {
		return c, fmt.Errorf("condition_json: %w", err)
	}
	return c, nil
}

// routesValue is the list for routes.
func routesValue(ctx context.Context, routes []profile.Route, diags *diag.Diagnostics) types.List {
	models := make([]routeModel, len(routes))
	for i, r := range routes {
		m := routeModel{
			Name: types.StringValue(r.Name), Method: textOrNull(r.Condition.Method), PathRegex: textOrNull(r.Condition.PathRegex),
			ResponseClasses: types.ListNull(classType), Retryable: types.BoolValue(r.IsRetryable), Timeout: textOrNull(r.Timeout),
		}
		if r.Condition.All != nil || r.Condition.Any != nil || r.Condition.Not != nil {
			m.Method, m.PathRegex = types.StringNull(), types.StringNull()
			m.ConditionJSON = jsonValue(r.Condition, diags)
		}
		if len(r.ResponseClasses) > 0 {
			classes := make([]classModel, len(r.ResponseClasses))
			for i, c := range r.ResponseClasses {
				classes[i] = classOf(c, diags)
			}
			var d diag.Diagnostics
			m.ResponseClasses, d = types.ListValueFrom(ctx, classType, classes)
			diags.Append(d...)
		}
		models[i] = m
	}
	list, d := types.ListValueFrom(ctx, routeType, models)
	diags.Append(d...)
	return list
}

func classOf(c profile.ResponseClass, diags *diag.Diagnostics) classModel {
	m := classModel{IsFailure: types.BoolValue(c.IsFailure)}
	if s := c.Condition.Status; s != nil && c.Condition.All == nil && c.Condition.Any == nil && c.Condition.Not == nil {
		m.StatusMin, m.StatusMax = numberOrNull(s.Min), numberOrNull(s.Max)
		return m
	}
	m.ConditionJSON = jsonValue(c.Condition, diags)
	return m
}

// jsonValue is a condition as jsonencode would print it.
func jsonValue(condition any, diags *diag.Diagnostics) types.String {
	text, err := json.Marshal(condition)
	if err != nil {
		problem(diags, "Unable to Print a Condition", err)
	}
	return types.StringValue(string(text))
}

func numberOrNull(number int32) types.Int32 {
	if number == 0 {
		return types.Int32Null()
	}
	return types.Int32Value(number)
}

// returnRoutes has a function return routes, or fail by the argument that they
// are derived from.
func returnRoutes(ctx context.Context, routes []profile.Route, err error, resp *function.RunResponse) {
	if err != nil {
		resp.Error = function.NewArgumentFuncError(0, sentence(err))
		return
	}
	var diags diag.Diagnostics
	list := routesValue(ctx, routes, &diags)
	if resp.Error = function.FuncErrorFromDiags(ctx, diags); resp.Error == nil {
		resp.Error = resp.Result.Set(ctx, list)
	}
}

// option is the one object of options that a function was given, if any.
func option[T any](options []T) (T, *function.FuncError) {
	var none T
	switch len(options) {
	case 0:
		return none, nil
	case 1:
		return options[0], nil
	}
	return none, function.NewArgumentFuncError(2, "There is only one object of options.")
}

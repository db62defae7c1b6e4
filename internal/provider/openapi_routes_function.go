package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd/profile"
)

type openAPIRoutesFunction struct{}

var _ function.Function = openAPIRoutesFunction{}

func newOpenAPIRoutesFunction() function.Function { return openAPIRoutesFunction{} }

func (openAPIRoutesFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "openapi_routes"
}

func (openAPIRoutesFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Routes of a Linkerd ServiceProfile from an OpenAPI document",
		MarkdownDescription: "Returns the `routes` of `aksmesh_service_profile` that `linkerd profile --open-api` derives from an OpenAPI document of version 2 (Swagger) or 3, in YAML or JSON:\n\n" +
			"* one route for each operation, by path in the order of their bytes, and for each path DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT; there is none for TRACE;\n" +
			"* its name is the method and the path as the document has it, `GET /books/{id}`; in its `path_regex` a parameter is `[^/]*`;\n" +
			"* a response class for each status code that the operation names, a failure from 500 on; `default` and ranges such as `5XX` have none;\n" +
			"* `retryable` from the operation's extension `x-linkerd-retryable`, and `timeout` from `x-linkerd-timeout`.\n\n" +
			"The `basePath` of version 2 stands before all paths. Linkerd does not look at the `servers` of version 3, and neither does this function: if they add a path, name it in `options`.\n\n" +
			"Where `linkerd profile` leaves something out without a word, this function fails and names the line: an `x-linkerd-retryable` that is no boolean, a path without a slash, the same operation twice, two keys of one name. " +
			"A path that is only a `$ref` to another place of the document is followed; Linkerd leaves it out. A `$ref` that leads out of the document is never followed: no file is read, and no network.\n\n" +
			"Istio has no ServiceProfiles. Its nearest equivalent is a VirtualService, with `match`, `retries` and `timeout` for each route.",
		Parameters: []function.Parameter{
			function.StringParameter{Name: "spec", MarkdownDescription: "The OpenAPI document, such as `file(\"openapi.yaml\")`."},
		},
		VariadicParameter: function.ObjectParameter{
			Name:                "options",
			MarkdownDescription: "At most one object: `{ base_path = \"/v1\" }` puts that path before all others, instead of the document's `basePath`.",
			AttributeTypes:      map[string]attr.Type{"base_path": types.StringType},
		},
		Return: function.ListReturn{ElementType: routeType},
	}
}

func (openAPIRoutesFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var spec string
	var options []struct {
		BasePath types.String `tfsdk:"base_path"`
	}
	if resp.Error = req.Arguments.Get(ctx, &spec, &options); resp.Error != nil {
		return
	}
	given, err := option(options)
	if resp.Error = err; err != nil {
		return
	}
	if given.BasePath.IsUnknown() {
		resp.Error = resp.Result.Set(ctx, types.ListUnknown(routeType))
		return
	}
	derivation := profile.OpenAPIOptions{BasePath: given.BasePath.ValueStringPointer()}
	if err := derivation.Check(); err != nil {
		resp.Error = function.NewArgumentFuncError(1, sentence(err))
		return
	}
	routes, failure := profile.FromOpenAPI([]byte(spec), derivation)
	returnRoutes(ctx, routes, failure, resp)
}

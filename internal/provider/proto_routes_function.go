package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd/profile"
)

type protoRoutesFunction struct{}

var _ function.Function = protoRoutesFunction{}

func newProtoRoutesFunction() function.Function { return protoRoutesFunction{} }

func (protoRoutesFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "proto_routes"
}

func (protoRoutesFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Routes of a Linkerd ServiceProfile from a protobuf definition",
		MarkdownDescription: "Returns the `routes` of `aksmesh_service_profile` that `linkerd profile --proto` derives from a protobuf definition (proto2, proto3 or editions):\n\n" +
			"* one route for each method of each service, streaming or not, in the order of the text;\n" +
			"* its name is the bare name of the method, its requests are `POST` to `/<package>.<Service>/<Method>`;\n" +
			"* `retryable` if the method has the option `idempotency_level` with `IDEMPOTENT` or `NO_SIDE_EFFECTS`.\n\n" +
			"What the definition imports is neither read nor needed.\n\n" +
			"When two services of a definition have a method of the same name, Linkerd gives both routes one name, and their metrics cannot be told apart. " +
			"Here that is an error, until the option `full_names` says which it is to be.",
		Parameters: []function.Parameter{
			function.StringParameter{Name: "proto", MarkdownDescription: "The protobuf definition, such as `file(\"voting.proto\")`."},
		},
		VariadicParameter: function.ObjectParameter{
			Name: "options",
			MarkdownDescription: "At most one object: `{ full_names = true }` names routes as gRPC does, `emojivoto.v1.VotingService/VoteDog`; " +
				"`{ full_names = false }` names them as Linkerd does, even if two get the same name.",
			AttributeTypes: map[string]attr.Type{"full_names": types.BoolType},
		},
		Return: function.ListReturn{ElementType: routeType},
	}
}

func (protoRoutesFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var proto string
	var options []struct {
		FullNames types.Bool `tfsdk:"full_names"`
	}
	if resp.Error = req.Arguments.Get(ctx, &proto, &options); resp.Error != nil {
		return
	}
	given, err := option(options)
	if resp.Error = err; err != nil {
		return
	}
	names := profile.MethodNames
	switch {
	case given.FullNames.IsUnknown():
		resp.Error = resp.Result.Set(ctx, types.ListUnknown(routeType))
		return
	case given.FullNames.ValueBool():
		names = profile.FullNames
	case !given.FullNames.IsNull():
		names = profile.AmbiguousNames
	}
	routes, failure := profile.FromProto([]byte(proto), names)
	returnRoutes(ctx, routes, failure, resp)
}

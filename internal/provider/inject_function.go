package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

type injectFunction struct{}

var _ function.Function = injectFunction{}

func newInjectFunction() function.Function { return injectFunction{} }

func (injectFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "inject"
}

// Positions of the arguments.
const (
	manifestArgument = iota
	optionsArgument
)

func (injectFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Manifests with the labels and annotations by which a mesh takes their pods in",
		MarkdownDescription: "Returns the manifests with what tells a mesh to take their pods in, for whoever applies them by other means; " +
			"`aksmesh_release` does the same to what it deploys. It is what `linkerd inject` and a labelled namespace are to the two meshes: " +
			"the injector in the cluster adds the proxies.\n\n" +
			"| object | Linkerd | Istio |\n|---|---|---|\n" +
			"| Namespace | annotation `linkerd.io/inject` and settings | label `istio-injection` or `istio.io/rev`; `istio.io/dataplane-mode` in ambient mode |\n" +
			"| Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob: their pod template; Pod | the same | label `sidecar.istio.io/inject` or `istio.io/dataplane-mode`, and settings |\n" +
			"| Service | annotation `config.linkerd.io/opaque-ports`, if `opaque_ports` is set | nothing |\n\n" +
			"Everything else stays as it is, byte by byte: comments, order of keys, quotes, indentation, line ends. So do pods that opt out, that use " +
			"the host's network, or that are part of the mesh. Injecting twice is the same as injecting once.",
		Parameters: []function.Parameter{
			function.StringParameter{
				Name:                "manifest",
				MarkdownDescription: "YAML or JSON of any number of documents, such as `file(\"app.yaml\")`. Lists are looked into.",
			},
			function.DynamicParameter{
				Name: "options",
				MarkdownDescription: "The mesh, and what its proxies are to do: an object like the attribute `mesh` of `aksmesh_injection`, " +
					"such as `{ linkerd = { skip_inbound_ports = [5080] } }` or `{ istio = { revision = \"canary\" } }`.",
			},
		},
		Return: function.StringReturn{},
	}
}

func (injectFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var manifest string
	var options types.Dynamic
	if resp.Error = req.Arguments.Get(ctx, &manifest, &options); resp.Error != nil {
		return
	}
	var diags diag.Diagnostics
	reading := readMesh(ctx, options.UnderlyingValue(), path.Root("options"), &diags)
	if diags.HasError() {
		problems := make([]string, len(diags))
		for i, d := range diags {
			problems[i] = fmt.Sprintf("%s: %s", d.Summary(), d.Detail())
		}
		resp.Error = function.NewArgumentFuncError(optionsArgument, strings.Join(problems, "\n"))
		return
	}
	if reading.mesh == nil {
		resp.Error = resp.Result.Set(ctx, types.StringUnknown()) // A part of the options is.
		return
	}
	injected, err := mesh.InjectText(reading.mesh, []byte(manifest))
	if err != nil {
		resp.Error = function.NewArgumentFuncError(manifestArgument, sentence(err))
		return
	}
	resp.Error = resp.Result.Set(ctx, string(injected))
}

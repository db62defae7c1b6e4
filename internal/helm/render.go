package helm

import (
	"context"
	"fmt"
	"io"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// RenderRequest says what to render without a cluster.
type RenderRequest struct {
	Namespace string
	Name      string // of the release
	Chart     *Chart
	Values    map[string]any
	// KubeVersion is the version of Kubernetes to render for, such as "v1.34.2".
	KubeVersion string
	// APIVersions are the API versions and kinds the cluster serves, such as "policy/v1" and "policy/v1/
	// PodDisruptionBudget". Helm's default set is used if there are none.
	APIVersions          []string
	IsUpgrade            bool // renders as for a release that exists already
	SkipSchemaValidation bool
}

// Render renders a chart without asking any cluster: the template function lookup finds nothing.
func Render(request RenderRequest) (*Rendered, error) {
	version, err := chartutil.ParseKubeVersion(request.KubeVersion)
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes %q: %w", request.KubeVersion, err)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	if len(request.APIVersions) > 0 {
		capabilities.APIVersions = request.APIVersions
	}
	return render(request, capabilities)
}

// Render renders what Deploy would send for the request: for the version of the cluster and the kinds it serves, as an
// install or as an upgrade depending on what is there. Only the template function lookup finds nothing.
func (r *Releases) Render(ctx context.Context, request DeployRequest) (*Rendered, error) {
	op, err := r.begin(ctx, request.Namespace, request.Name, false)
	if err != nil {
		return nil, err
	}
	defer op.end()
	return op.render(request)
}

func (op *operation) render(request DeployRequest) (*Rendered, error) {
	capabilities, err := op.releases.capabilities(op.ctx)
	if err != nil {
		return nil, op.wrap(err)
	}
	return render(RenderRequest{
		Namespace: request.Namespace, Name: request.Name, Chart: request.Chart, Values: request.Values,
		IsUpgrade: op.wasDeployed(), SkipSchemaValidation: request.SkipSchemaValidation,
	}, capabilities)
}

func render(request RenderRequest, capabilities *chartutil.Capabilities) (*Rendered, error) {
	fail := func(err error) error {
		return fmt.Errorf("render chart %s %s as release %s/%s: %w",
			request.Chart.Name(), request.Chart.Version(), request.Namespace, request.Name, err)
	}
	loaded, err := request.Chart.load()
	if err != nil {
		return nil, fail(err)
	}
	values, err := plainValues(request.Values)
	if err != nil {
		return nil, fail(err)
	}
	memory := driver.NewMemory()
	memory.SetNamespace(request.Namespace)
	install := action.NewInstall(&action.Configuration{
		Releases:     storage.Init(memory),
		KubeClient:   &kubefake.PrintingKubeClient{Out: io.Discard},
		Capabilities: capabilities,
		Log:          func(string, ...any) {},
	})
	// Not ClientOnly, which would add every API version this program knows to those of the cluster.
	install.DryRunOption = "client"
	install.Namespace = request.Namespace
	install.ReleaseName = request.Name
	install.IsUpgrade = request.IsUpgrade
	install.SkipSchemaValidation = request.SkipSchemaValidation
	rendered, err := install.Run(loaded, values)
	if err != nil {
		return nil, fail(plainError(err))
	}
	result := newRendered(rendered)
	return &result, nil
}

// plainError takes the whitespace off Helm's longer messages, so that they read well inside others.
func plainError(err error) error {
	if text := err.Error(); strings.TrimSpace(text) != text {
		return fmt.Errorf("%s", strings.TrimSpace(text))
	}
	return err
}

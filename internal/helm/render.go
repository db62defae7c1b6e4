package helm

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// RenderRequest says what to render.
type RenderRequest struct {
	Namespace            string
	Name                 string // of the release
	Chart                *Chart
	Values               map[string]any
	IsUpgrade            bool // renders as for a release that exists already
	Revision             int  // of the release that an upgrade makes, 1 if zero; an install always makes the first
	SkipSchemaValidation bool
	// OtherTime renders as at another time than now. Together with what is random, that shows which parts of a rendering
	// will not be the same the next time.
	OtherTime bool
}

// Render renders what Deploy would send for the request, as an install or as an upgrade depending on what Helm has on
// record.
func (r *Releases) Render(ctx context.Context, request DeployRequest) (_ *Rendered, err error) {
	defer r.explain(ctx, &err)
	op, err := r.begin(ctx, request.Namespace, request.Name, false)
	if err != nil {
		return nil, err
	}
	defer op.end()
	if op.config.Capabilities, err = r.capabilities(ctx); err != nil {
		return nil, op.wrap(err)
	}
	return op.render(request, op.nextRevision())
}

// nextRevision is what templates are told that Deploy makes: an install makes the first, also if it is done again.
func (op *operation) nextRevision() int {
	if !op.wasDeployed() {
		return 1
	}
	return revisionOf(op.records.newestFirst()[0]) + 1
}

func (op *operation) render(request DeployRequest, revision int) (*Rendered, error) {
	rendered, err := render(RenderRequest{
		Namespace: request.Namespace, Name: request.Name, Chart: request.Chart, Values: request.Values,
		IsUpgrade: revision > 1, Revision: revision, SkipSchemaValidation: request.SkipSchemaValidation,
	}, op.config.Capabilities, op.config.RESTClientGetter)
	if err != nil {
		return nil, err
	}
	rendered.revision = revision
	return rendered, nil
}

// Template renders a chart as Helm would deploy it to the cluster: for its version and the kinds it serves, and with
// what the template function lookup finds in it. Whether Helm knows a release of the name makes no difference.
func (r *Releases) Template(ctx context.Context, request RenderRequest) (_ *Rendered, err error) {
	defer r.explain(ctx, &err)
	capabilities, err := r.capabilities(ctx)
	if err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", request.Namespace, request.Name, err)
	}
	return render(request, capabilities, r.getter(ctx, request.Namespace, r.logger(ctx)))
}

// render renders without asking any cluster if lookup is nil: then the template function of that name finds nothing.
func render(request RenderRequest, capabilities *chartutil.Capabilities, lookup action.RESTClientGetter) (*Rendered, error) {
	fail := func(err error) error {
		return fmt.Errorf("render chart %s %s as release %s/%s: %w",
			request.Chart.Name(), request.Chart.Version(), request.Namespace, request.Name, err)
	}
	loaded, err := request.Chart.load()
	if err != nil {
		return nil, fail(err)
	}
	if request.OtherTime {
		shiftTime(loaded)
	}
	values, err := plainValues(request.Values)
	if err != nil {
		return nil, fail(err)
	}
	memory := driver.NewMemory()
	memory.SetNamespace(request.Namespace)
	config := &action.Configuration{
		Releases:         storage.Init(memory),
		KubeClient:       &kubefake.PrintingKubeClient{Out: io.Discard},
		RESTClientGetter: lookup,
		Capabilities:     capabilities,
		Log:              func(string, ...any) {},
	}
	act := renderInstall
	if request.IsUpgrade {
		act = renderUpgrade
	}
	rendered, err := act(config, request, loaded, values)
	if err != nil {
		return nil, fail(plainError(err))
	}
	result := newRendered(rendered)
	for _, crd := range rendered.Chart.CRDObjects() {
		result.CRDs = append(result.CRDs, string(crd.File.Data))
	}
	return &result, nil
}

func renderInstall(
	config *action.Configuration, request RenderRequest, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	install := action.NewInstall(config)
	// Not ClientOnly, which would add every API version this program knows to those of the cluster.
	install.DryRunOption = "server"
	install.Namespace = request.Namespace
	install.ReleaseName = request.Name
	install.SkipSchemaValidation = request.SkipSchemaValidation
	return install.Run(loaded, values)
}

func renderUpgrade(
	config *action.Configuration, request RenderRequest, loaded *chart.Chart, values map[string]any,
) (*release.Release, error) {
	// Templates are told a revision that follows on one that is there.
	err := config.Releases.Create(&release.Release{
		Namespace: request.Namespace, Name: request.Name, Version: max(request.Revision, 1) - 1,
		Info: &release.Info{Status: release.StatusDeployed},
	})
	if err != nil {
		return nil, err
	}
	upgrade := action.NewUpgrade(config)
	upgrade.DryRunOption = "server"
	upgrade.Namespace = request.Namespace
	upgrade.ResetValues = true
	upgrade.SkipSchemaValidation = request.SkipSchemaValidation
	return upgrade.Run(request.Name, loaded, values)
}

var (
	templateAction = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	presentTime    = regexp.MustCompile(`\bnow\b`)
)

// shiftTime has the templates of a chart and its dependencies take another instant for the present.
func shiftTime(loaded *chart.Chart) {
	for _, template := range loaded.Templates {
		template.Data = templateAction.ReplaceAllFunc(template.Data, func(action []byte) []byte {
			return presentTime.ReplaceAllLiteral(action, []byte("(toDate `2006-01-02 15:04:05` `2001-02-03 04:05:06`)"))
		})
	}
	for _, dependency := range loaded.Dependencies() {
		shiftTime(dependency)
	}
}

// plainError takes the whitespace off Helm's longer messages, so that they read well inside others.
func plainError(err error) error {
	if text := err.Error(); strings.TrimSpace(text) != text {
		return fmt.Errorf("%s", strings.TrimSpace(text))
	}
	return err
}

package helm

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"
)

// RecordedChart is the chart that the newest revision of a release was made from, as Helm keeps it with the record: so
// that the release can be given other values without its repository. Helm does not keep the charts that it depends on;
// one that has any is an error. Others are those of Get.
func (r *Releases) RecordedChart(ctx context.Context, namespace, name string) (_ *Chart, err error) {
	defer r.explain(ctx, &err)
	records, err := r.records(ctx, namespace, name, false)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error { return fmt.Errorf("release %s/%s: %w", namespace, name, err) }
	newest := records.newestFirst()
	if len(newest) == 0 {
		return nil, fail(ErrReleaseNotFound)
	}
	record, err := records.decode(newest[0])
	if err != nil {
		return nil, fail(err)
	}
	kept := record.Chart
	var files []*loader.BufferedFile
	for name, content := range map[string]any{"Chart.yaml": kept.Metadata, "values.yaml": kept.Values} {
		data, err := yaml.Marshal(content)
		if err != nil {
			return nil, fail(fmt.Errorf("chart on record, %s: %w", name, err))
		}
		files = append(files, &loader.BufferedFile{Name: name, Data: data})
	}
	if len(kept.Schema) > 0 {
		files = append(files, &loader.BufferedFile{Name: "values.schema.json", Data: kept.Schema})
	}
	for _, file := range append(kept.Templates, kept.Files...) {
		files = append(files, &loader.BufferedFile{Name: file.Name, Data: file.Data})
	}
	chart, err := ofFiles(files)
	if err != nil {
		return nil, fail(fmt.Errorf("chart on record: %w", err))
	}
	return chart, nil
}

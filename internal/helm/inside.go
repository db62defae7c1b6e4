package helm

import (
	"iter"
	"slices"

	"helm.sh/helm/v3/pkg/chart"
)

// Texts iterates over what may say which values a chart reads: templates and the files beside them, by path and
// content, of the chart and of those it depends on.
func (c *Chart) Texts() (iter.Seq2[string, []byte], error) {
	loaded, err := c.load()
	if err != nil {
		return nil, err
	}
	return func(yield func(string, []byte) bool) { eachText(loaded, yield) }, nil
}

func eachText(c *chart.Chart, yield func(string, []byte) bool) bool {
	for _, file := range slices.Concat(c.Templates, c.Files) {
		if !yield(file.Name, file.Data) {
			return false
		}
	}
	return !slices.ContainsFunc(c.Dependencies(), func(d *chart.Chart) bool { return !eachText(d, yield) })
}

// Dependencies returns the keys below which the charts that this one depends on have their values, and those that
// switch them on and off.
func (c *Chart) Dependencies() []string {
	var keys []string
	for _, dependency := range c.metadata.Dependencies {
		keys = append(keys, dependency.Name)
		if dependency.Alias != "" {
			keys = append(keys, dependency.Alias)
		}
	}
	if len(keys) > 0 {
		keys = append(keys, "tags")
	}
	return keys
}

package helm

import (
	"bytes"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// handover has Helm deploy and record what a chart was rendered to before. Helm's actions always render, and so they
// are given the chart with empty templates; what these would have rendered to is put in where Helm lets others have a
// say: the manifest by a post-renderer; hooks, notes and the templates by the storage driver, before anything is
// written or run.
type handover struct {
	driver.Driver
	rendered  *Rendered
	templates map[*chart.File][]byte
}

// handOver takes the templates out of the loaded chart until its release is recorded.
func (op *operation) handOver(rendered *Rendered, loaded *chart.Chart) *handover {
	h := &handover{Driver: op.config.Releases.Driver, rendered: rendered, templates: map[*chart.File][]byte{}}
	h.empty(loaded)
	op.config.Releases.Driver = h
	return h
}

func (h *handover) empty(c *chart.Chart) {
	for _, template := range c.Templates {
		h.templates[template] = template.Data
		template.Data = nil
	}
	for _, dependency := range c.Dependencies() {
		h.empty(dependency)
	}
}

// Run implements Helm's post-renderer.
func (h *handover) Run(*bytes.Buffer) (*bytes.Buffer, error) {
	return bytes.NewBufferString(h.rendered.Manifest), nil
}

// Create implements the part of Helm's storage driver that writes the record of a new revision.
func (h *handover) Create(key string, record *release.Release) error {
	for template, data := range h.templates {
		template.Data = data
	}
	record.Info.Notes = h.rendered.notes
	record.Hooks = make([]*release.Hook, len(h.rendered.hooks))
	for i, hook := range h.rendered.hooks {
		// Helm writes into them when it runs them.
		own := *hook
		record.Hooks[i] = &own
	}
	return h.Driver.Create(key, record)
}

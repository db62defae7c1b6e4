package helm

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
)

// Status of a release, in Helm's words.
type Status string

// The states a release can be in. Every other word of Helm's than the first two means that an operation was ended
// before it was done, or is at work.
const (
	StatusDeployed    Status = "deployed"
	StatusFailed      Status = "failed"
	StatusUninstalled Status = "uninstalled" // given up, but its history was kept
)

// Release is the newest revision of a release, as recorded in the cluster.
type Release struct {
	Namespace    string
	Name         string
	Revision     int
	Status       Status
	Description  string // Helm's remark on the status, such as the error of a failed upgrade
	ChartName    string
	ChartVersion string
	AppVersion   string
	Values       map[string]any    // values given, without the chart's defaults; they may hold secrets
	Labels       map[string]string // labels given to the release, without Helm's own
	LastDeployed time.Time
	// Healthy tells whether this revision has once been marked by MarkHealthy.
	Healthy  bool
	Rendered // what this revision sent to the cluster

	// What is in the cluster of the release, as Get and List find it, is that of these revisions. Deployed is the newest
	// that is on record as deployed, with which the next one is compared: the release itself, an older revision, or nil.
	Deployed *Release
	// Abandoned are those, newest first and the release itself among them, that failed or were cut off. What they have
	// made goes with the next success, unless that has it as well or they are CustomResourceDefinitions.
	Abandoned []*Release
}

// Rendered is what a chart renders to.
type Rendered struct {
	Manifest string   // all objects but hooks, YAML documents in order of installation; it may hold secrets
	Hooks    []string // manifests of the hooks
	// CRDs are the manifests of the crds directories of the chart and its dependencies, which are no templates. Helm
	// does not keep them on record: those of a Release are unknown.
	CRDs []string

	// What a record has of it besides, for Deploy.
	hooks    []*release.Hook
	notes    string
	revision int // that the templates were told: 1 of an install. 0 if it was not rendered for a Deploy.
}

// Objects returns the objects of the manifest in order of installation. They are as the chart wrote them: a namespaced
// object without a namespace belongs to the namespace of the release.
func (r *Rendered) Objects() ([]*unstructured.Unstructured, error) {
	read, err := manifest.Objects(r.Manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest, %w", err)
	}
	objects := make([]*unstructured.Unstructured, len(read))
	for i, object := range read {
		objects[i] = object.Unstructured
	}
	return objects, nil
}

func newRelease(record *release.Release) *Release {
	rel := &Release{
		Namespace: record.Namespace,
		Name:      record.Name,
		Revision:  record.Version,
		Values:    record.Config,
		Labels:    customLabels(record.Labels),
		Healthy:   healthy(record.Labels, strconv.Itoa(record.Version)),
		Rendered:  newRendered(record),
	}
	if record.Info != nil {
		rel.Status = Status(record.Info.Status)
		rel.Description = record.Info.Description
		rel.LastDeployed = record.Info.LastDeployed.Time
	}
	if record.Chart != nil && record.Chart.Metadata != nil {
		rel.ChartName = record.Chart.Metadata.Name
		rel.ChartVersion = record.Chart.Metadata.Version
		rel.AppVersion = record.Chart.Metadata.AppVersion
	}
	return rel
}

func newRendered(record *release.Release) Rendered {
	rendered := Rendered{Manifest: record.Manifest, hooks: record.Hooks}
	if record.Info != nil {
		rendered.notes = record.Info.Notes
	}
	for _, hook := range record.Hooks {
		rendered.Hooks = append(rendered.Hooks, hook.Manifest)
	}
	return rendered
}

// customLabels drops the labels by which Helm finds its records.
func customLabels(labels map[string]string) map[string]string {
	custom := maps.Clone(labels)
	for _, key := range driver.GetSystemLabels() {
		delete(custom, key)
	}
	return custom
}

package helm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"sort"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"
)

// Chart is a chart ready for use. It is immutable and may be shared: Helm's actions write into the charts they work
// on, so each of them is given its own reading of the files.
type Chart struct {
	files    []*loader.BufferedFile
	metadata *chart.Metadata
	values   map[string]any
	digest   string
	looks    bool
}

// Name of the chart.
func (c *Chart) Name() string { return c.metadata.Name }

// Version of the chart.
func (c *Chart) Version() string { return c.metadata.Version }

// AppVersion is the version of what the chart installs, "" if it does not say.
func (c *Chart) AppVersion() string { return c.metadata.AppVersion }

// KubeVersion is the chart's constraint on the version of Kubernetes, "" if there is none.
func (c *Chart) KubeVersion() string { return c.metadata.KubeVersion }

// Digest is "sha256:…" of the archive or, for a directory, of its files.
func (c *Chart) Digest() string { return c.digest }

// LooksAtCluster reports that templates of the chart, or of those it depends on,
// may render otherwise once the cluster has other kinds or objects.
func (c *Chart) LooksAtCluster() bool { return c.looks }

// looking finds what templates look at the cluster by.
var looking = regexp.MustCompile(`\.Capabilities\.APIVersions|\blookup\b`)

func looksAtCluster(c *chart.Chart) bool {
	return slices.ContainsFunc(c.Templates, func(f *chart.File) bool { return looking.Match(f.Data) }) ||
		slices.ContainsFunc(c.Dependencies(), looksAtCluster)
}

// DefaultValues returns a copy of the chart's own values.yaml.
func (c *Chart) DefaultValues() (map[string]any, error) { return plainValues(c.values) }

// File returns a file of the chart by its path in it, such as "values-ha.yaml".
func (c *Chart) File(path string) ([]byte, bool) {
	for _, file := range c.files {
		if file.Name == path {
			return bytes.Clone(file.Data), true
		}
	}
	return nil, false
}

// ValuesFile returns a file of the chart read as values.
func (c *Chart) ValuesFile(path string) (map[string]any, error) {
	data, ok := c.File(path)
	if !ok {
		return nil, fmt.Errorf("chart %s %s has no file %s", c.Name(), c.Version(), path)
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("chart %s %s: %s is not a YAML mapping: %w", c.Name(), c.Version(), path, err)
	}
	return values, nil
}

// load returns a fresh reading of the chart that the caller may change.
func (c *Chart) load() (*chart.Chart, error) {
	return loader.LoadFiles(c.files)
}

// newChart reads files as a chart that can be installed.
func newChart(files []*loader.BufferedFile, digest string) (*Chart, error) {
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		return nil, err
	}
	if err := loaded.Validate(); err != nil {
		return nil, err
	}
	if loaded.Metadata.Type == "library" {
		return nil, errors.New("it is a library chart, which cannot be installed")
	}
	if err := action.CheckDependencies(loaded, loaded.Metadata.Dependencies); err != nil {
		return nil, err
	}
	return &Chart{files: files, metadata: loaded.Metadata, values: loaded.Values, digest: digest, looks: looksAtCluster(loaded)}, nil
}

// readArchive reads a packaged chart (.tgz).
func readArchive(archive []byte) (*Chart, error) {
	files, err := loader.LoadArchiveFiles(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	return newChart(files, digestOf(archive))
}

// readLocal reads a chart directory or archive from disk.
func readLocal(path string) (*Chart, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &UnknownChartError{Name: path}
	case err != nil:
		return nil, fmt.Errorf("chart: %w", err)
	}
	read := readDirectory
	if !info.IsDir() {
		read = readArchiveFile
	}
	loaded, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("chart %s cannot be read: %w", path, err)
	}
	return loaded, nil
}

func readArchiveFile(path string) (*Chart, error) {
	archive, err := os.ReadFile(path) //nolint:gosec // The path is the chart that the user wants installed.
	if err != nil {
		return nil, err
	}
	return readArchive(archive)
}

func readDirectory(path string) (*Chart, error) {
	loaded, err := loader.LoadDir(path)
	if err != nil {
		return nil, err
	}
	files := make([]*loader.BufferedFile, len(loaded.Raw))
	for i, file := range loaded.Raw {
		files[i] = &loader.BufferedFile{Name: file.Name, Data: file.Data}
	}
	return ofFiles(files)
}

// ofFiles makes a chart of unpacked files, whatever their order.
func ofFiles(files []*loader.BufferedFile) (*Chart, error) {
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	sum := sha256.New()
	for _, file := range files {
		// Lengths keep the boundary between one file and the next from being moved unnoticed.
		fmt.Fprintf(sum, "%d %s %d\n", len(file.Name), file.Name, len(file.Data))
		sum.Write(file.Data)
	}
	return newChart(files, "sha256:"+hex.EncodeToString(sum.Sum(nil)))
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

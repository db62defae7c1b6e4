package charts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
)

// Package makes an Archive of the chart whose Chart.yaml lies at the root of
// files. edit may change a file, named by its slash-separated path in the
// chart, on its way into the archive; nil leaves all as they are. The files of
// shared, such as templates that charts have in common, are laid beside those of
// the chart.
func Package(files fs.FS, edit func(name string, data []byte) ([]byte, error), shared ...fs.FS) (Archive, error) {
	var buffered []*loader.BufferedFile
	for _, tree := range append([]fs.FS{files}, shared...) {
		more, err := read(tree, edit)
		if err != nil {
			return Archive{}, fmt.Errorf("read chart: %w", err)
		}
		buffered = append(buffered, more...)
	}
	c, err := loader.LoadFiles(buffered)
	if err != nil {
		return Archive{}, fmt.Errorf("load chart: %w", err)
	}
	return save(c)
}

// read reads all files of a tree, each through edit unless that is nil.
func read(tree fs.FS, edit func(name string, data []byte) ([]byte, error)) ([]*loader.BufferedFile, error) {
	var buffered []*loader.BufferedFile
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		if edit != nil {
			if data, err = edit(name, data); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		buffered = append(buffered, &loader.BufferedFile{Name: name, Data: data})
		return nil
	})
	return buffered, err
}

// save goes through a file because that is the only way Helm packages.
func save(c *chart.Chart) (archive Archive, err error) {
	dir, err := os.MkdirTemp("", "chart-")
	if err != nil {
		return Archive{}, fmt.Errorf("package chart %s: %w", c.Name(), err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, err := chartutil.Save(c, dir)
	if err != nil {
		return Archive{}, fmt.Errorf("package chart %s: %w", c.Name(), err)
	}
	data, err := os.ReadFile(file) //nolint:gosec // The file was just written to a directory of our own.
	if err != nil {
		return Archive{}, fmt.Errorf("package chart %s: %w", c.Name(), err)
	}
	return Archive{Name: c.Name(), Version: c.Metadata.Version, Data: data}, nil
}

// Chart loads the archive as Helm does.
func (a Archive) Chart() (*chart.Chart, error) {
	c, err := loader.LoadArchive(bytes.NewReader(a.Data))
	if err != nil {
		return nil, fmt.Errorf("load chart %s %s: %w", a.Name, a.Version, err)
	}
	if c.Name() != a.Name || c.Metadata.Version != a.Version {
		return nil, fmt.Errorf("archive of chart %s %s holds %s %s", a.Name, a.Version, c.Name(), c.Metadata.Version)
	}
	return c, nil
}

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// Load fetches one chart of a mesh from where its charts are: a Helm
// repository, an OCI reference that they are below, or a local directory that
// holds them unpacked (`<name>/`) or packaged (`<name>-<version>.tgz`).
func (c Charts) Load(ctx context.Context, repository, name, version string) (*helm.Chart, error) {
	if strings.Contains(repository, "://") {
		return c.Library.Load(ctx, helm.Source{Repository: repository, Name: name, Version: version})
	}
	local := filepath.Join(repository, name)
	if _, err := os.Stat(local); errors.Is(err, fs.ErrNotExist) {
		local += "-" + version + ".tgz"
	}
	return c.Library.Load(ctx, helm.Source{Name: local, Version: version})
}

// RefuseOwned returns an error for the first of the values that the provider
// sets itself. Owned tells them by their dotted keys, each with the reason for
// which a user cannot set it.
func RefuseOwned(values map[string]any, owned map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(owned)) {
		// An error means that the way to the key is no mapping: it is not set.
		if _, set, err := unstructured.NestedFieldNoCopy(values, strings.Split(key, ".")...); set && err == nil {
			return fmt.Errorf("value %s cannot be set: %s", key, owned[key])
		}
	}
	return nil
}

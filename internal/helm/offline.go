package helm

import (
	"fmt"

	"helm.sh/helm/v3/pkg/chartutil"
)

// RenderOffline renders a chart without asking a cluster: for a version of Kubernetes such as "1.36.0" that serves its
// own kinds and no others. The template function lookup finds nothing.
func RenderOffline(request RenderRequest, kubernetes string) (*Rendered, error) {
	version, err := chartutil.ParseKubeVersion(kubernetes)
	if err != nil {
		return nil, fmt.Errorf("version %q of Kubernetes: %w", kubernetes, err)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	return render(request, capabilities, nil)
}

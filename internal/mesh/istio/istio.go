// Package istio speaks Istio's vocabulary: its namespaces, labels and
// annotations, what its injector does and refuses to do, its charts, profiles
// and their values, its certificate authority and its ports. Names and rules
// are those of istio's manifests/charts and pkg/kube/inject unless a comment
// says otherwise.
package istio

const (
	// DefaultNamespace is where the control plane lives unless told otherwise.
	DefaultNamespace = "istio-system"

	proxyContainer = "istio-proxy"

	injectionLabel = "istio-injection"
	revisionLabel  = "istio.io/rev"
	injectLabel    = "sidecar.istio.io/inject"
)

// NamespaceMetadata returns the labels and annotations of the control plane's
// namespace. Istio asks for none.
func NamespaceMetadata(string) (labels, annotations map[string]string) {
	return nil, nil
}

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

	// Labels of namespaces and pods by which users ask for a proxy.
	injectionLabel     = "istio-injection"
	revisionLabel      = "istio.io/rev"
	injectLabel        = "sidecar.istio.io/inject"
	dataplaneModeLabel = "istio.io/dataplane-mode"

	// Labels of Istio's own objects.
	tagLabel     = "istio.io/tag"
	managedLabel = "gateway.istio.io/managed" // a gateway that istiod deploys

	// What pods show of their proxy.
	statusAnnotation      = "sidecar.istio.io/status"
	redirectionAnnotation = "ambient.istio.io/redirection"

	defaultRevision = "default"
)

// NamespaceMetadata returns the labels and annotations of the control plane's
// namespace. Istio asks for none.
func NamespaceMetadata(string) (labels, annotations map[string]string) {
	return nil, nil
}

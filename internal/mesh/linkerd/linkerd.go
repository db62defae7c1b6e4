// Package linkerd speaks Linkerd's vocabulary: its namespaces, labels and
// annotations, what its injector does and refuses to do, its charts and their
// values, its identity and its ports. Names and rules are those of linkerd2's
// pkg/k8s/labels.go, pkg/inject and charts unless a comment says otherwise.
package linkerd

const (
	// DefaultNamespace is where the control plane lives unless told otherwise.
	DefaultNamespace = "linkerd"

	// ProxyContainer is the name of the proxy in an injected pod, be it a
	// container or a native sidecar.
	ProxyContainer = "linkerd-proxy"

	injectAnnotation       = "linkerd.io/inject"
	controlPlaneLabel      = "linkerd.io/control-plane-ns"
	componentLabel         = "linkerd.io/control-plane-component"
	cniResourceLabel       = "linkerd.io/cni-resource"
	admissionWebhooksLabel = "config.linkerd.io/admission-webhooks"
	createdByAnnotation    = "linkerd.io/created-by"
	proxyVersionAnnotation = "linkerd.io/proxy-version"
	trustRootAnnotation    = "linkerd.io/trust-root-sha256"
	disableTapAnnotation   = "viz.linkerd.io/disable-tap"
	tapEnabledAnnotation   = "viz.linkerd.io/tap-enabled"
	traceLabelPrefix       = "resource.opentelemetry.io/"

	configPrefix      = "config.linkerd.io/"
	configAlphaPrefix = "config.alpha.linkerd.io/"
	configBetaPrefix  = "config.beta.linkerd.io/"

	proxyVersionOverride    = configPrefix + "proxy-version"
	additionalEnvAnnotation = configPrefix + "proxy-additional-env"
	nativeAnnotation        = configPrefix + "proxy-enable-native-sidecar"
	nativeBetaAnnotation    = configBetaPrefix + "proxy-enable-native-sidecar"
	nativeAlphaAnnotation   = configAlphaPrefix + "proxy-enable-native-sidecar"
)

// Values of the annotation that has pods injected.
const (
	enabled  = "enabled"
	ingress  = "ingress"
	disabled = "disabled"
)

// Annotations of the port settings, as proxies read them from their pod.
const (
	SkipInboundPortsAnnotation  = configPrefix + "skip-inbound-ports"
	skipOutboundPortsAnnotation = configPrefix + "skip-outbound-ports"
	OpaquePortsAnnotation       = configPrefix + "opaque-ports"
	requireIdentityAnnotation   = configPrefix + "proxy-require-identity-inbound-ports"
)

// NamespaceMetadata returns the labels and annotations that the Linkerd CLI
// gives the control plane's namespace and that Helm does not: without them the
// injector would be asked about its own pods and Pod Security may refuse them.
func NamespaceMetadata(namespace string) (labels, annotations map[string]string) {
	labels = map[string]string{
		"linkerd.io/is-control-plane":        "true",
		admissionWebhooksLabel:               "disabled",
		controlPlaneLabel:                    namespace,
		"pod-security.kubernetes.io/enforce": "privileged",
	}
	return labels, map[string]string{injectAnnotation: "disabled"}
}

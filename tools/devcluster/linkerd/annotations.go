package linkerd

// This file stands in for Linkerd's config annotations (linkerd2 pkg/k8s/labels.go, pkg/inject/config_override.go).

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Prefixes of annotations.
const (
	configPrefix      = "config.linkerd.io/"
	configAlphaPrefix = "config.alpha.linkerd.io/"
	configBetaPrefix  = "config.beta.linkerd.io/"
	// traceLabelPrefix is of labels that a proxy gives to its traces.
	traceLabelPrefix = "resource.opentelemetry.io/"
)

// Annotations that do more than set one value.
const (
	injectAnnotation        = "linkerd.io/inject"
	opaquePortsAnnotation   = configPrefix + "opaque-ports"
	inboundPortsAnnotation  = configPrefix + "pod-inbound-ports"
	debugAnnotation         = configPrefix + "enable-debug-sidecar"
	additionalEnvAnnotation = configPrefix + "proxy-additional-env"
)

// Values of annotations.
const (
	enabled  = "enabled"
	disabled = "disabled"
	ingress  = "ingress"
)

// A parser turns the text of an annotation into a chart value.
type parser func(text string) (any, error)

// An override is an annotation that sets a value of the chart for one pod.
type override struct {
	annotation string
	parse      parser
	// path is the value's dotted key.
	path string
	// podOnly overrides are not taken over from the namespace.
	podOnly bool
}

// overrides lists all of them. Where two set the same value the last wins, so
// the stable spelling of an annotation comes after its beta and alpha ones.
func overrides() []override {
	const (
		native    = "proxy-enable-native-sidecar"
		resources = "proxy.resources."
	)
	return []override{
		{annotation: configPrefix + "proxy-image", parse: text, path: "proxy.image.name"},
		{annotation: configPrefix + "proxy-version", parse: text, path: "proxy.image.version"},
		{annotation: configPrefix + "image-pull-policy", parse: text, path: "proxy.image.pullPolicy"},
		{annotation: configPrefix + "debug-image", parse: text, path: "debugContainer.image.name", podOnly: true},
		{annotation: configPrefix + "debug-image-version", parse: text, path: "debugContainer.image.version", podOnly: true},
		{annotation: configPrefix + "debug-image-pull-policy", parse: text, path: "debugContainer.image.pullPolicy", podOnly: true},
		{annotation: configPrefix + "control-port", parse: integer, path: "proxy.ports.control"},
		{annotation: configPrefix + "inbound-port", parse: integer, path: "proxy.ports.inbound"},
		{annotation: configPrefix + "admin-port", parse: integer, path: "proxy.ports.admin"},
		{annotation: configPrefix + "outbound-port", parse: integer, path: "proxy.ports.outbound"},
		{annotation: configPrefix + "skip-inbound-ports", parse: text, path: "proxyInit.ignoreInboundPorts"},
		{annotation: configPrefix + "skip-outbound-ports", parse: text, path: "proxyInit.ignoreOutboundPorts"},
		{annotation: configPrefix + "skip-subnets", parse: text, path: "proxyInit.skipSubnets"},
		{annotation: configPrefix + "close-wait-timeout", parse: wholeSeconds, path: "proxyInit.closeWaitTimeoutSecs", podOnly: true},
		{annotation: configPrefix + "proxy-cpu-request", parse: quantity, path: resources + "cpu.request"},
		{annotation: configPrefix + "proxy-cpu-limit", parse: quantity, path: resources + "cpu.limit"},
		{annotation: configPrefix + "proxy-cpu-limit", parse: wholeCores, path: "proxy.cores"},
		{annotation: configPrefix + "proxy-cpu-ratio-limit", parse: ratio, path: "proxy.runtime.workers.maximumCPURatio", podOnly: true},
		{annotation: configPrefix + "proxy-memory-request", parse: quantity, path: resources + "memory.request"},
		{annotation: configPrefix + "proxy-memory-limit", parse: quantity, path: resources + "memory.limit"},
		{annotation: configPrefix + "proxy-ephemeral-storage-request", parse: quantity, path: resources + "ephemeral-storage.request"},
		{annotation: configPrefix + "proxy-ephemeral-storage-limit", parse: quantity, path: resources + "ephemeral-storage.limit"},
		{annotation: configPrefix + "proxy-uid", parse: integer, path: "proxy.uid"},
		{annotation: configPrefix + "proxy-gid", parse: integer, path: "proxy.gid"},
		{annotation: configPrefix + "proxy-admin-shutdown", parse: enabledOrDisabled, path: "proxy.enableShutdownEndpoint"},
		{annotation: configPrefix + "proxy-log-level", parse: text, path: "proxy.logLevel"},
		{annotation: configPrefix + "proxy-log-http-headers", parse: oneOf("off", "insecure"), path: "proxy.logHTTPHeaders"},
		{annotation: configPrefix + "proxy-log-format", parse: text, path: "proxy.logFormat"},
		{annotation: configPrefix + "enable-external-profiles", parse: boolean, path: "proxy.enableExternalProfiles"},
		{annotation: configPrefix + "enable-gateway", parse: boolean, path: "proxy.isGateway", podOnly: true},
		{annotation: configPrefix + "proxy-require-identity-inbound-ports", parse: text, path: "proxy.requireIdentityOnInboundPorts"},
		{annotation: configPrefix + "proxy-metrics-hostname-labels", parse: boolean, path: "proxy.metrics.hostnameLabels"},
		{annotation: configPrefix + "proxy-outbound-connect-timeout", parse: milliseconds, path: "proxy.outboundConnectTimeout"},
		{annotation: configPrefix + "proxy-inbound-connect-timeout", parse: milliseconds, path: "proxy.inboundConnectTimeout"},
		{annotation: configPrefix + "proxy-outbound-discovery-cache-unused-timeout", parse: seconds, path: "proxy.outboundDiscoveryCacheUnusedTimeout"},
		{annotation: configPrefix + "proxy-inbound-discovery-cache-unused-timeout", parse: seconds, path: "proxy.inboundDiscoveryCacheUnusedTimeout"},
		{annotation: configPrefix + "proxy-disable-outbound-protocol-detect-timeout", parse: boolean, path: "proxy.disableOutboundProtocolDetectTimeout"},
		{annotation: configPrefix + "proxy-disable-inbound-protocol-detect-timeout", parse: boolean, path: "proxy.disableInboundProtocolDetectTimeout"},
		{annotation: configPrefix + "shutdown-grace-period", parse: milliseconds, path: "proxy.shutdownGracePeriod"},
		{annotation: configPrefix + "access-log", parse: oneOf("apache", "json"), path: "proxy.accessLog"},
		{annotation: configPrefix + "default-inbound-policy", parse: oneOf(defaultPolicies()...), path: "proxy.defaultInboundPolicy"},
		{annotation: configPrefix + "proxy-await", parse: enabledOrDisabled, path: "proxy.await"},
		{annotation: configAlphaPrefix + "proxy-wait-before-exit-seconds", parse: natural, path: "proxy.waitBeforeExitSeconds"},
		{annotation: configAlphaPrefix + native, parse: boolean, path: "proxy.nativeSidecar"},
		{annotation: configBetaPrefix + native, parse: boolean, path: "proxy.nativeSidecar", podOnly: true},
		{annotation: configPrefix + native, parse: boolean, path: "proxy.nativeSidecar"},
	}
}

// inherited are the annotations that a pod takes over from its namespace when
// it has none of its own.
func inherited() []string {
	names := []string{injectAnnotation, opaquePortsAnnotation, inboundPortsAnnotation, debugAnnotation, additionalEnvAnnotation}
	for _, o := range overrides() {
		if !o.podOnly {
			names = append(names, o.annotation)
		}
	}
	return names
}

// defaultPolicies are what a proxy may do with traffic that no policy is about.
func defaultPolicies() []string {
	return []string{
		"all-unauthenticated", "all-authenticated", "cluster-authenticated", "cluster-unauthenticated", "deny", "audit",
	}
}

func text(s string) (any, error)    { return s, nil }
func boolean(s string) (any, error) { return strconv.ParseBool(s) }
func integer(s string) (any, error) { return strconv.ParseInt(s, 10, 64) }

// natural reads a number that is not negative, as the type that values have.
func natural(s string) (any, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func quantity(s string) (any, error) {
	_, err := resource.ParseQuantity(s)
	return s, err
}

// wholeCores is how many cores a proxy uses under a CPU limit.
func wholeCores(s string) (any, error) {
	q, err := resource.ParseQuantity(s)
	return int64(math.Ceil(q.AsApproximateFloat64())), err
}

func ratio(s string) (any, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && (f < 0 || f > 1) {
		err = fmt.Errorf("%q is not between 0 and 1", s)
	}
	return f, err
}

func milliseconds(s string) (any, error) {
	d, err := time.ParseDuration(s)
	return fmt.Sprintf("%dms", d.Milliseconds()), err
}

func seconds(s string) (any, error) {
	d, err := time.ParseDuration(s)
	return fmt.Sprintf("%ds", int64(d.Seconds())), err
}

func wholeSeconds(s string) (any, error) {
	d, err := time.ParseDuration(s)
	return int64(d.Seconds()), err
}

func enabledOrDisabled(s string) (any, error) {
	_, err := oneOf(enabled, disabled)(s)
	return s == enabled, err
}

func oneOf(valid ...string) parser {
	return func(s string) (any, error) {
		if !slices.Contains(valid, s) {
			return nil, fmt.Errorf("%q is none of %s", s, strings.Join(valid, ", "))
		}
		return s, nil
	}
}

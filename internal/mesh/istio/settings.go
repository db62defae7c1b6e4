package istio

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// Annotations of pods that are more than a setting.
const (
	proxyConfigAnnotation   = "proxy.istio.io/config"
	proxyImageAnnotation    = "sidecar.istio.io/proxyImage"
	interceptionAnnotation  = "sidecar.istio.io/interceptionMode"
	nativeSidecarAnnotation = "sidecar.istio.io/nativeSidecar"
	templatesAnnotation     = "inject.istio.io/templates"
	excludeInboundPorts     = "traffic.sidecar.istio.io/excludeInboundPorts"
	statusPortAnnotation    = "status.sidecar.istio.io/port"
)

// Settings are what may be said about the sidecars of pods, by the annotations
// that istio.io/api/annotation lists for pods and the fields of ProxyConfig that
// go with them. The injector reads them from pods only.
//
// Left out are those that Istio deprecates (sidecar.istio.io/discoveryAddress,
// statsInclusionPrefixes, statsInclusionSuffixes, statsInclusionRegexps,
// statsCompression and extraStatTags, traffic.sidecar.istio.io/kubevirtInterfaces,
// and sidecar.istio.io/inject, which is a label now), those that Istio writes
// itself (sidecar.istio.io/status, istio.io/rev, proxy.istio.io/overrides), those
// that nothing reads any more (readiness.status.sidecar.istio.io/applicationPorts),
// and those of the ambient mode, which has no sidecars.
func Settings() []mesh.Setting {
	settings := slices.Concat(resourceSettings(), startSettings(), loggingSettings(), trafficSettings(), probeSettings(), statsSettings())
	for i := range settings {
		settings[i].TemplateOnly = true
	}
	return settings
}

func resourceSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "proxy_cpu_request", Key: "sidecar.istio.io/proxyCPU", Check: checkQuantity,
			Description: "CPU that the proxy asks for, such as `100m`. As soon as one of the four resources is set, the defaults of the control plane for the other three no longer hold.",
		},
		{
			Name: "proxy_cpu_limit", Key: "sidecar.istio.io/proxyCPULimit", Check: checkQuantity,
			Description: "CPU that the proxy may use at most, such as `2`. The proxy runs that many worker threads unless `concurrency` says otherwise.",
		},
		{
			Name: "proxy_memory_request", Key: "sidecar.istio.io/proxyMemory", Check: checkQuantity,
			Description: "Memory that the proxy asks for, such as `128Mi`.",
		},
		{
			Name: "proxy_memory_limit", Key: "sidecar.istio.io/proxyMemoryLimit", Check: checkQuantity,
			Description: "Memory that the proxy may use at most, such as `1Gi`.",
		},
		{
			Name: "concurrency", Key: proxyConfigAnnotation, Field: "concurrency", Type: mesh.Number, Check: checkNotNegative,
			Description: "Number of worker threads of the proxy; `0` is one for each core of the node whatever the CPU limit. Default: by the CPU limit.",
		},
		{
			Name: "proxy_image", Key: proxyImageAnnotation, Check: checkImage,
			Description: "Image of the proxy and of the init container instead of the control plane's, with its registry, such as `example.azurecr.io/istio/proxyv2:1.31.0`. " +
				"Pods that name their image are never taken for stale because of their version.",
		},
		{
			Name: "proxy_image_type", Key: "sidecar.istio.io/proxyImageType", Choices: []string{"default", "debug", "distroless"},
			Description: "Variant of the proxy's image: `default`, `debug` or `distroless`. Default: as the control plane has it.",
		},
	}
}

func startSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "native_sidecar", Key: nativeSidecarAnnotation, Type: mesh.Switch,
			Description: "Whether the proxy is a native sidecar: an init container that starts before all others and ends after them, so that init containers are in the mesh and Jobs can end. " +
				"Default: as the control plane has it, which is native where every node runs Kubernetes 1.33 or later.",
		},
		{
			Name: "hold_application_until_proxy_starts", Key: proxyConfigAnnotation, Field: "holdApplicationUntilProxyStarts", Type: mesh.Switch,
			Description: "Whether the application starts only once the proxy is ready. Native sidecars always start first. Default `false`.",
		},
		{
			Name: "drain_duration", Key: proxyConfigAnnotation, Field: "drainDuration", Check: checkSeconds,
			Description: "For how long the proxy drains connections when a listener changes, such as `45s`. Default `45s`.",
		},
		{
			Name: "termination_drain_duration", Key: proxyConfigAnnotation, Field: "terminationDrainDuration", Check: checkSeconds,
			Description: "For how long connections may complete when the pod ends, such as `30s`. Keep it below the pod's `terminationGracePeriodSeconds`. Default `5s`.",
		},
		{
			Name: "proxy_metadata", Key: proxyConfigAnnotation, Field: "proxyMetadata", Type: mesh.Variables, Check: checkVariable,
			Description: "Environment variables of the proxy, such as `{ ISTIO_META_DNS_CAPTURE = \"true\" }`. Names that begin with `ISTIO_META_` are sent to istiod.",
		},
		{
			Name: "runtime_values", Key: proxyConfigAnnotation, Field: "runtimeValues", Type: mesh.Variables,
			Description: "Runtime configuration of Envoy, for features that are experimental or withdrawn, such as `{ \"overload.global_downstream_max_connections\" = \"50000\" }`.",
		},
		{
			Name: "templates", Key: templatesAnnotation, Type: mesh.Texts, Check: checkName,
			Description: "Names of the injection templates to use, in order, such as `[\"sidecar\", \"custom\"]`. Default: those of the control plane, which is `sidecar`.",
		},
		{
			Name: "bootstrap_override", Key: "sidecar.istio.io/bootstrapOverride", Check: checkObjectName,
			Description: "Name of a ConfigMap in the pod's namespace whose key `custom_bootstrap.json` is merged over Envoy's bootstrap configuration.",
		},
		{
			Name: "user_volume", Key: "sidecar.istio.io/userVolume", Check: checkObject,
			Description: "Volumes to add to the pod, as a JSON object by their names: `jsonencode({ certs = { secret = { secretName = \"certs\" } } })`.",
		},
		{
			Name: "user_volume_mount", Key: "sidecar.istio.io/userVolumeMount", Check: checkObject,
			Description: "Mounts of `user_volume` in the proxy, as a JSON object by the names of the volumes: `jsonencode({ certs = { mountPath = \"/etc/certs\", readOnly = true } })`.",
		},
	}
}

func loggingSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "log_level", Key: "sidecar.istio.io/logLevel", Choices: envoyLevels(),
			Description: "What Envoy logs: `trace`, `debug`, `info`, `warning`, `error`, `critical` or `off`. Default `warning`.",
		},
		{
			Name: "component_log_level", Key: "sidecar.istio.io/componentLogLevel", Check: checkLevels("misc:error,http:debug", envoyLevels(), false),
			Description: "What components of Envoy log, such as `misc:error,http:debug`. Default `misc:error`.",
		},
		{
			Name: "agent_log_level", Key: "sidecar.istio.io/agentLogLevel",
			Check:       checkLevels("default:info,dns:debug", []string{"debug", "info", "warn", "error", "fatal", "none"}, true),
			Description: "What the agent beside Envoy logs, for all scopes or for each, such as `default:info,dns:debug`. Default `default:info`.",
		},
	}
}

func trafficSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "interception_mode", Key: interceptionAnnotation, Choices: []string{"REDIRECT", "TPROXY", "NONE"},
			Description: "How inbound connections reach the proxy: `REDIRECT`, `TPROXY`, which keeps the client's address and needs the capability NET_ADMIN, or `NONE`. Default `REDIRECT`.",
		},
		{
			Name: "include_inbound_ports", Key: "traffic.sidecar.istio.io/includeInboundPorts", Type: mesh.Ports, Check: orAll(checkPort),
			Description: "Inbound ports that go through the proxy, or `[\"*\"]` for all. Default: all.",
		},
		{
			Name: "exclude_inbound_ports", Key: excludeInboundPorts, Type: mesh.Ports, Check: checkPort,
			Description: "Inbound ports that bypass the proxy, where all others go through it.",
		},
		{
			Name: "include_outbound_ports", Key: "traffic.sidecar.istio.io/includeOutboundPorts", Type: mesh.Ports, Check: checkPort,
			Description: "Outbound ports that go through the proxy whatever the address.",
		},
		{
			Name: "exclude_outbound_ports", Key: "traffic.sidecar.istio.io/excludeOutboundPorts", Type: mesh.Ports, Check: checkPort,
			Description: "Outbound ports that bypass the proxy.",
		},
		{
			Name: "include_outbound_ip_ranges", Key: "traffic.sidecar.istio.io/includeOutboundIPRanges", Type: mesh.Texts, Check: orAll(checkCIDR),
			Description: "Ranges of addresses to which connections go through the proxy, in CIDR form, or `[\"*\"]` for all. Default: all.",
		},
		{
			Name: "exclude_outbound_ip_ranges", Key: "traffic.sidecar.istio.io/excludeOutboundIPRanges", Type: mesh.Texts, Check: checkCIDR,
			Description: "Ranges of addresses to which connections bypass the proxy, in CIDR form, where all others go through it.",
		},
		{
			Name: "exclude_interfaces", Key: "traffic.sidecar.istio.io/excludeInterfaces", Type: mesh.Texts, Check: checkInterface,
			Description: "Network interfaces of the pod whose traffic bypasses the proxy, such as `[\"net1\"]`.",
		},
		{
			Name: "reroute_virtual_interfaces", Key: "istio.io/reroute-virtual-interfaces", Type: mesh.Texts, Check: checkInterface,
			Description: "Virtual interfaces whose inbound traffic counts as outbound, as virtual machines and containers in containers need it, such as `[\"docker0\"]`.",
		},
	}
}

func probeSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "rewrite_app_http_probers", Key: "sidecar.istio.io/rewriteAppHTTPProbers", Type: mesh.Switch,
			Description: "Whether the probes of the application are asked by way of the proxy's agent, so that they pass where mTLS is required. Default `true`.",
		},
		{
			Name: "status_port", Key: statusPortAnnotation, Type: mesh.Number, Check: checkPortOrNone,
			Description: "Port of the proxy's agent for probes and metrics; `0` leaves its probes out. Default `15020`.",
		},
		{
			Name: "readiness_initial_delay_seconds", Key: "readiness.status.sidecar.istio.io/initialDelaySeconds", Type: mesh.Number, Check: checkNotNegative,
			Description: "Seconds until the proxy's readiness is first asked for. Default `0`.",
		},
		{
			Name: "readiness_period_seconds", Key: "readiness.status.sidecar.istio.io/periodSeconds", Type: mesh.Number, Check: checkPositive,
			Description: "Seconds between two readiness probes of the proxy. Default `15`.",
		},
		{
			Name: "readiness_failure_threshold", Key: "readiness.status.sidecar.istio.io/failureThreshold", Type: mesh.Number, Check: checkPositive,
			Description: "Failed readiness probes after which the proxy counts as not ready. Default `4`.",
		},
	}
}

func statsSettings() []mesh.Setting {
	return []mesh.Setting{
		{
			Name: "merge_metrics", Key: "prometheus.istio.io/merge-metrics", Type: mesh.Switch,
			Description: "Whether Prometheus finds the application's metrics together with the proxy's. Default: as the control plane has it, which is `true`.",
		},
		{
			Name: "stats_inclusion_prefixes", Key: proxyConfigAnnotation, Field: "proxyStatsMatcher.inclusionPrefixes", Type: mesh.Texts,
			Description: "Prefixes of the names of further statistics that Envoy keeps, such as `[\"cluster.outbound\"]`.",
		},
		{
			Name: "stats_inclusion_suffixes", Key: proxyConfigAnnotation, Field: "proxyStatsMatcher.inclusionSuffixes", Type: mesh.Texts,
			Description: "Suffixes of the names of further statistics that Envoy keeps, such as `[\"upstream_rq_timeout\"]`.",
		},
		{
			Name: "stats_inclusion_regexps", Key: proxyConfigAnnotation, Field: "proxyStatsMatcher.inclusionRegexps", Type: mesh.Texts, Check: checkRegexp,
			Description: "Regular expressions, in RE2 syntax, for the names of further statistics that Envoy keeps, such as `[\".*outlier_detection.*\"]`.",
		},
		{
			Name: "stats_histogram_buckets", Key: "sidecar.istio.io/statsHistogramBuckets", Check: checkBuckets,
			Description: "Limits of the buckets of histograms, as a JSON object by the prefixes of their names: `jsonencode({ istiocustom = [1, 5, 10, 50, 100] })`.",
		},
		{
			Name: "stats_flush_interval", Key: "sidecar.istio.io/statsFlushInterval", Check: checkDuration,
			Description: "Time between two deliveries of statistics to sinks that are pushed to, such as `10s`. Default `5s`.",
		},
		{
			Name: "stats_eviction_interval", Key: "sidecar.istio.io/statsEvictionInterval", Check: checkDuration,
			Description: "Time after which Istio's metrics that no longer change are dropped, such as `1h`: a multiple of `stats_flush_interval`. Default: never.",
		},
		{
			Name: "stats_compression", Key: proxyConfigAnnotation, Field: "statsCompression", Type: mesh.Switch,
			Description: "Whether statistics are served compressed to who asks for it. Default `true`.",
		},
		{
			Name: "tracing_service_name", Key: proxyConfigAnnotation, Field: "tracingServiceName",
			Choices:     []string{"APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"},
			Description: "How the service is named in traces: `APP_LABEL_AND_NAMESPACE`, `CANONICAL_NAME_ONLY` or `CANONICAL_NAME_AND_NAMESPACE`. Default `APP_LABEL_AND_NAMESPACE`.",
		},
	}
}

// settingKeys are the annotations of Settings in order, each once.
var settingKeys = sync.OnceValue(func() []string {
	var keys []string
	for _, s := range Settings() {
		keys = append(keys, s.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
})

// configures reports whether an annotation is one of Settings.
func configures(key string) bool {
	_, found := slices.BinarySearch(settingKeys(), key)
	return found
}

// settingsIn are those of the annotations that configure sidecars.
func settingsIn(annotations map[string]string) map[string]string {
	found := maps.Clone(annotations)
	maps.DeleteFunc(found, func(key, _ string) bool { return !configures(key) })
	return found
}

// plain turns ProxyConfig, which people write in YAML, into the JSON that Settings
// are spelled in.
func plain(annotations map[string]string) map[string]string {
	config, set := annotations[proxyConfigAnnotation]
	converted, err := yaml.YAMLToJSON([]byte(config))
	if !set || err != nil {
		return annotations
	}
	annotations = maps.Clone(annotations)
	annotations[proxyConfigAnnotation] = string(converted)
	return annotations
}

func checkQuantity(value string) error {
	quantity, err := resource.ParseQuantity(value)
	if err != nil || quantity.Sign() < 0 {
		return fmt.Errorf("%q is not a quantity such as 100m, 2, 128Mi or 1Gi", value)
	}
	return nil
}

func checkNotNegative(value string) error { return checkNumber(value, 0, 1<<31-1) }

func checkPositive(value string) error { return checkNumber(value, 1, 1<<31-1) }

func checkPort(value string) error {
	if checkNumber(value, 1, 65535) != nil {
		return fmt.Errorf("%q is not a port: a number from 1 to 65535; Istio knows no ranges of ports", value)
	}
	return nil
}

func checkPortOrNone(value string) error { return checkNumber(value, 0, 65535) }

func checkNumber(value string, least, most int64) error {
	number, err := strconv.ParseInt(value, 10, 64)
	if err != nil || number < least || number > most {
		return fmt.Errorf("%q is not a number from %d to %d", value, least, most)
	}
	return nil
}

// orAll lets a check pass the word for everything.
func orAll(check func(string) error) func(string) error {
	return func(value string) error {
		if value == "*" {
			return nil
		}
		return check(value)
	}
}

func checkCIDR(value string) error {
	if _, err := netip.ParsePrefix(value); err != nil {
		return fmt.Errorf("%q is not a range of addresses such as 10.0.0.0/8", value)
	}
	return nil
}

var interfacePattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$`)

func checkInterface(value string) error {
	if !interfacePattern.MatchString(value) {
		return fmt.Errorf("%q is not the name of a network interface: a letter, then at most 14 letters, digits, underscores, dots and dashes", value)
	}
	return nil
}

var imagePattern = regexp.MustCompile(`^[^\s/:@]+(:[0-9]+)?(/[^\s/:@]+)+(:[^\s/:@]+)?(@[a-z0-9]+:[0-9a-f]+)?$`)

func checkImage(value string) error {
	if !imagePattern.MatchString(value) {
		// The injector passes over a name without a registry.
		return fmt.Errorf("%q is not an image with its registry such as example.azurecr.io/istio/proxyv2:1.31.0", value)
	}
	return nil
}

// checkSeconds takes durations as JSON has them for ProxyConfig, which istiod
// wants in whole seconds.
func checkSeconds(value string) error {
	seconds, found := strings.CutSuffix(value, "s")
	if !found || checkPositive(seconds) != nil {
		return fmt.Errorf("%q is not a duration in whole seconds such as 45s", value)
	}
	return nil
}

func checkDuration(value string) error {
	if duration, err := time.ParseDuration(value); err != nil || duration < time.Second {
		return fmt.Errorf("%q is not a duration of one second or more such as 10s or 1h", value)
	}
	return nil
}

func checkVariable(name string) error {
	if problems := validation.IsEnvVarName(name); len(problems) > 0 {
		return fmt.Errorf("%q is not the name of an environment variable: %s", name, strings.Join(problems, "; "))
	}
	return nil
}

func checkName(value string) error {
	if value == "" || strings.ContainsAny(value, ", \t\n") {
		return fmt.Errorf("%q is not the name of an injection template", value)
	}
	return nil
}

func checkObjectName(value string) error {
	if problems := validation.IsDNS1123Subdomain(value); len(problems) > 0 {
		return fmt.Errorf("%q is not the name of a ConfigMap: %s", value, strings.Join(problems, "; "))
	}
	return nil
}

func checkObject(value string) error {
	var objects map[string]map[string]any
	if err := json.Unmarshal([]byte(value), &objects); err != nil {
		return fmt.Errorf("it is not a JSON object of objects by their names: %w", err)
	}
	return nil
}

func checkBuckets(value string) error {
	var buckets map[string][]float64
	if err := json.Unmarshal([]byte(value), &buckets); err != nil {
		return fmt.Errorf("it is not a JSON object of lists of numbers: %w", err)
	}
	for prefix, limits := range buckets {
		if len(limits) == 0 || !slices.IsSorted(limits) {
			return fmt.Errorf("the limits for %q have to be there and rise", prefix)
		}
	}
	return nil
}

func checkRegexp(value string) error {
	if value == "" {
		return errors.New("an empty expression matches everything")
	}
	_, err := regexp.Compile(value)
	return err
}

func envoyLevels() []string {
	return []string{"trace", "debug", "info", "warning", "error", "critical", "off"}
}

// checkLevels takes lists of components and levels; bare is whether a level may
// stand for all components.
func checkLevels(example string, levels []string, bare bool) func(string) error {
	return func(value string) error {
		for part := range strings.SplitSeq(value, ",") {
			component, level, named := strings.Cut(part, ":")
			if !named && bare {
				component, level = "all", part
			}
			if component == "" || strings.ContainsAny(component, " \t\n") || !slices.Contains(levels, level) {
				return fmt.Errorf("%q is not a list such as %s, of levels %s", value, example, strings.Join(levels, ", "))
			}
		}
		return nil
	}
}

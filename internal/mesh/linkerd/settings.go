package linkerd

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
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// A setting is one row of the table of annotations by which Linkerd's proxies
// are configured.
type setting struct {
	mesh.Setting
	// since is the first version that knows it; zero if all do that there still
	// are. Versions before it pass it over without a word.
	since Since
}

// Settings are all that users may say of Linkerd's proxies. The injector logs
// and ignores a value that it cannot read, so all of them are checked.
func Settings() []mesh.Setting {
	rows := settings()
	all := make([]mesh.Setting, len(rows))
	for i, row := range rows {
		all[i] = row.Setting
	}
	return all
}

// settings completes the table: what rows have in common is not written in each.
func settings() []setting {
	rows := slices.Concat(trafficSettings(), resourceSettings(), lifecycleSettings(), imageSettings(), telemetrySettings())
	for i := range rows {
		s := &rows[i]
		if s.Key == "" {
			s.Key = configPrefix + strings.ReplaceAll(s.Name, "_", "-")
		}
		if s.since != (Since{}) {
			s.Description += fmt.Sprintf(" Since Linkerd %d.%d (%s).", s.since.Numbered[0], s.since.Numbered[1], Version{Edge: true, numbers: s.since.Edge})
		}
		if s.TemplateOnly {
			s.Description += " For workloads only: the injector does not take it from a namespace."
		}
	}
	return rows
}

func trafficSettings() []setting {
	return []setting{
		{Setting: mesh.Setting{
			Name: "skip_inbound_ports", Key: SkipInboundPortsAnnotation, Type: mesh.Ports, Check: checkPorts,
			Description: "Ports and ranges (`5080`, `4000-4100`) on which the pods are reached without passing through the proxy: no mTLS, no policy, no metrics. It replaces the control plane's list (`4567,4568`); an empty list skips none.",
		}},
		{Setting: mesh.Setting{
			Name: "skip_outbound_ports", Type: mesh.Ports, Check: checkPorts,
			Description: "Ports and ranges that the pods connect to without passing through the proxy. It replaces the control plane's list (`4567,4568`); an empty list skips none.",
		}},
		{Setting: mesh.Setting{
			Name: "skip_subnets", Type: mesh.Texts, Check: checkSubnet,
			Description: "Networks in CIDR notation (`10.1.0.0/16`); traffic from and to them does not pass through the proxy.",
		}},
		{Setting: mesh.Setting{
			Name: "opaque_ports", Key: OpaquePortsAnnotation, Type: mesh.Ports, Check: checkOpaquePort,
			Description: "Ports, ranges and names of container ports whose traffic is carried by mTLS as it is, without detecting its protocol, as for protocols in which the server speaks first. It replaces the control plane's list (`25,587,3306,4444,5432,6379,9300,11211`), so name those of it that the pods use as well.",
		}},
		{Setting: mesh.Setting{
			Name: "pod_inbound_ports", Type: mesh.Ports, Check: checkPorts,
			Description: "Ports on which the pods' containers listen, for which the proxy fetches its policy as it starts. By default the container ports of the pod; name them when another webhook adds containers after the injector.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_require_identity_inbound_ports", Type: mesh.Ports, Check: checkPorts,
			Description: "Ports on which only meshed clients are accepted.",
		}},
		{Setting: mesh.Setting{
			Name: "default_inbound_policy", Type: mesh.Text,
			Choices:     []string{"all-unauthenticated", "all-authenticated", "cluster-authenticated", "cluster-unauthenticated", "deny", "audit"},
			Description: "What the proxy does with connections that no authorization object is about: `all-unauthenticated` accepts everybody, `cluster-unauthenticated` all of the cluster's networks, `all-authenticated` and `cluster-authenticated` only meshed clients (of those networks), `deny` nobody, `audit` everybody with a log entry (since 2.16). The default is the control plane's `proxy.defaultInboundPolicy`, which is `all-unauthenticated`.",
		}},
		{Setting: mesh.Setting{
			Name: "enable_external_profiles", Type: mesh.Switch,
			Description: "Look up service profiles also for names outside the cluster. Default `false`.",
		}},
		{Setting: mesh.Setting{
			Name: "enable_gateway", Type: mesh.Switch, TemplateOnly: true,
			Description: "Make the proxy a multicluster gateway, which forwards requests from other clusters by their names. Default `false`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_outbound_connect_timeout", Type: mesh.Text, Check: checkDuration(time.Millisecond),
			Description: "How long the proxy tries to connect to a server, as a Go duration (`1s`, `1500ms`); kept in milliseconds. Default `1s`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_inbound_connect_timeout", Type: mesh.Text, Check: checkDuration(time.Millisecond),
			Description: "How long the proxy tries to connect to the application, as a Go duration; kept in milliseconds. Default `100ms`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_outbound_discovery_cache_unused_timeout", Type: mesh.Text, Check: checkDuration(time.Second),
			Description: "How long the proxy remembers a server that it no longer talks to, as a Go duration in whole seconds. Default `5s`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_inbound_discovery_cache_unused_timeout", Type: mesh.Text, Check: checkDuration(time.Second),
			Description: "How long the proxy remembers the policy of a port that nobody talks to, as a Go duration in whole seconds. Default `90s`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_disable_outbound_protocol_detect_timeout", Type: mesh.Switch,
			Description: "Wait without limit, instead of 10 seconds, for the first bytes of a connection that the application opens. Default `false`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_disable_inbound_protocol_detect_timeout", Type: mesh.Switch,
			Description: "Wait without limit, instead of 10 seconds, for the first bytes of a connection to the application. Default `false`.",
		}},
		{Setting: mesh.Setting{
			Name: "inbound_port", Type: mesh.Number, Check: between(1, 65535),
			Description: "Port on which the proxy takes the pod's incoming traffic. Default 4143. Network policies for the mesh assume the default.",
		}},
		{Setting: mesh.Setting{
			Name: "outbound_port", Type: mesh.Number, Check: between(1, 65535),
			Description: "Port on which the proxy takes the pod's outgoing traffic. Default 4140.",
		}},
		{Setting: mesh.Setting{
			Name: "control_port", Type: mesh.Number, Check: between(1, 65535),
			Description: "Port on which the proxy serves taps. Default 4190.",
		}},
		{Setting: mesh.Setting{
			Name: "admin_port", Type: mesh.Number, Check: between(1, 65535),
			Description: "Port on which the proxy serves metrics, probes and its shutdown endpoint. Default 4191.",
		}},
		{Setting: mesh.Setting{
			Name: "close_wait_timeout", Type: mesh.Text, TemplateOnly: true, Check: checkDuration(time.Second),
			Description: "Value of `nf_conntrack_tcp_timeout_close_wait` in the pod's network namespace, as a Go duration in whole seconds. The init container has to run as root for it (chart value `proxyInit.runAsRoot`). By default the kernel's.",
		}},
	}
}

func resourceSettings() []setting {
	const unset = " By default the control plane's `proxy.resources`, which are unset."
	return []setting{
		{Setting: mesh.Setting{
			Name: "proxy_cpu_request", Type: mesh.Text, Check: checkQuantity,
			Description: "CPU that the proxy requests, as a Kubernetes quantity (`100m`, `0.1`)." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_cpu_limit", Type: mesh.Text, Check: checkQuantity,
			Description: "Most CPU that the proxy may use, as a Kubernetes quantity; rounded up to whole cores it is also the number of the proxy's threads." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_cpu_ratio_limit", Type: mesh.Text, TemplateOnly: true, Check: checkRatio,
			Description: "Most threads of the proxy as a part of the node's cores, between `0` and `1`. Without effect beside `proxy_cpu_limit`.",
		}, since: firstIn(18)},
		{Setting: mesh.Setting{
			Name: "proxy_memory_request", Type: mesh.Text, Check: checkQuantity,
			Description: "Memory that the proxy requests, as a Kubernetes quantity (`20Mi`)." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_memory_limit", Type: mesh.Text, Check: checkQuantity,
			Description: "Most memory that the proxy may use, as a Kubernetes quantity (`250Mi`)." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_ephemeral_storage_request", Type: mesh.Text, Check: checkQuantity,
			Description: "Ephemeral storage that the proxy requests, as a Kubernetes quantity." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_ephemeral_storage_limit", Type: mesh.Text, Check: checkQuantity,
			Description: "Most ephemeral storage that the proxy may use, as a Kubernetes quantity." + unset,
		}},
		{Setting: mesh.Setting{
			Name: "proxy_uid", Type: mesh.Number, Check: between(1, 1<<31-1),
			Description: "User that the proxy runs as, never root. Traffic of this user does not pass through the proxy, so no other container may run as it. Default 2102.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_gid", Type: mesh.Number, Check: between(0, 1<<31-1),
			Description: "Group that the proxy runs as. By default that of its image.",
		}, since: firstIn(16)},
	}
}

func lifecycleSettings() []setting {
	return []setting{
		{Setting: mesh.Setting{
			Name: "proxy_await", Type: mesh.Switch, On: "enabled", Off: "disabled",
			Description: "Start the application only when the proxy is ready. Native sidecars always do. Default `true`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_enable_native_sidecar", Key: nativeAnnotation, Type: mesh.Switch,
			Description: "Run the proxy as an init container that goes on running, so that init containers are meshed too and jobs end, or as an ordinary container. Needs Kubernetes 1.29. The default is the control plane's `proxy.nativeSidecar`: `true` since 2.20, `false` before.",
		}, since: firstIn(20)},
		{Setting: mesh.Setting{
			Name: "shutdown_grace_period", Type: mesh.Text, Check: checkDuration(time.Millisecond),
			Description: "How long the proxy waits for open connections as it ends, as a Go duration; kept in milliseconds. By default two minutes.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_wait_before_exit_seconds", Key: configAlphaPrefix + "proxy-wait-before-exit-seconds", Type: mesh.Number, Check: between(0, 1<<31-1),
			Description: "Seconds by which the proxy's end is put off, so that the application can go on calling others as it ends; at most the pod's grace period. Without effect on native sidecars, which end last anyway. Default 0.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_admin_shutdown", Type: mesh.Switch, On: "enabled", Off: "disabled",
			Description: "Let the application end the proxy by a POST to `/shutdown` on the admin port, as jobs have to whose proxy is no native sidecar. Default `false`.",
		}, since: firstIn(16)},
		{Setting: mesh.Setting{
			Name: "proxy_additional_env", Key: additionalEnvAnnotation, Type: mesh.Variables, Check: checkVariableName, Spell: spellVariables, Read: readVariables,
			Description: "Environment variables of the proxy's container, beside those of the control plane's `proxy.additionalEnv`. A workload's are added to its namespace's. They are readable in the pod's annotations, so nothing secret belongs here.",
		}, since: firstIn(20)},
	}
}

func imageSettings() []setting {
	pull := []string{string(corev1.PullAlways), string(corev1.PullIfNotPresent), string(corev1.PullNever)}
	return []setting{
		{Setting: mesh.Setting{
			Name: "proxy_image", Type: mesh.Text, Check: checkImage,
			Description: "Image of the proxy, without its tag. Default `cr.l5d.io/linkerd/proxy`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_version", Key: proxyVersionOverride, Type: mesh.Text, Check: checkTag,
			Description: "Tag of the proxy's image (`edge-26.8.3`). By default the control plane's version. Pods with this setting do not follow an upgrade of the control plane.",
		}},
		{Setting: mesh.Setting{
			Name: "image_pull_policy", Type: mesh.Text, Choices: pull,
			Description: "When the proxy's image is pulled: `Always`, `IfNotPresent` or `Never`. Default `IfNotPresent`.",
		}},
		{Setting: mesh.Setting{
			Name: "enable_debug_sidecar", Type: mesh.Switch,
			Description: "Add a container with tools to look at the pod's traffic. Default `false`.",
		}},
		{Setting: mesh.Setting{
			Name: "debug_image", Type: mesh.Text, TemplateOnly: true, Check: checkImage,
			Description: "Image of the debug container, without its tag. Default `cr.l5d.io/linkerd/debug`.",
		}},
		{Setting: mesh.Setting{
			Name: "debug_image_version", Type: mesh.Text, TemplateOnly: true, Check: checkTag,
			Description: "Tag of the debug container's image. By default the control plane's version.",
		}},
		{Setting: mesh.Setting{
			Name: "debug_image_pull_policy", Type: mesh.Text, TemplateOnly: true, Choices: pull,
			Description: "When the debug container's image is pulled: `Always`, `IfNotPresent` or `Never`. Default `IfNotPresent`.",
		}},
	}
}

func telemetrySettings() []setting {
	return []setting{
		{Setting: mesh.Setting{
			Name: "proxy_log_level", Type: mesh.Text, Check: checkLogLevel,
			Description: "What the proxy logs: `off`, `error`, `warn`, `info`, `debug` or `trace`, alone or for parts of it, separated by commas (`warn,linkerd=info`). Default `warn,linkerd=info,hickory=error`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_log_format", Type: mesh.Text, Choices: []string{"plain", "json"},
			Description: "Format of the proxy's log: `plain` or `json`. Default `plain`.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_log_http_headers", Type: mesh.Text, Choices: []string{"off", "insecure"},
			Description: "Whether the proxy logs HTTP headers, which may hold credentials, at the levels `debug` and `trace`: `off` or `insecure`. Default `off`.",
		}, since: firstIn(16)},
		{Setting: mesh.Setting{
			Name: "access_log", Type: mesh.Text, Choices: []string{"apache", "json"},
			Description: "Log each incoming HTTP request, in Apache's common log format (`apache`) or as JSON (`json`). By default none is logged.",
		}},
		{Setting: mesh.Setting{
			Name: "proxy_metrics_hostname_labels", Type: mesh.Switch,
			Description: "Label metrics of outgoing requests with the host names of these requests. Default `false`.",
		}, since: firstIn(18)},
		{Setting: mesh.Setting{
			Name: "trace_labels", Key: traceLabelPrefix, Prefix: true, Type: mesh.Variables, TemplateOnly: true, Check: checkTraceLabel,
			Description: "Resource attributes of the proxy's traces, as annotations `resource.opentelemetry.io/<name>`; they need tracing in the control plane (`proxy.tracing`).",
		}, since: firstIn(19)},
		{Setting: mesh.Setting{
			Name: "disable_tap", Key: disableTapAnnotation, Type: mesh.Switch,
			Description: "Keep the viz extension from tapping the pods' traffic. Default `false`.",
		}},
	}
}

// Conflicts finds values of settings, all of which are right, that do not go
// together.
func Conflicts(values map[string]any) []*mesh.SettingError {
	found := mesh.RequestsAboveLimits(values)
	skipped, _ := values["skip_inbound_ports"].([]string)
	opaque, _ := values["opaque_ports"].([]string)
	for _, port := range opaque {
		first, last, err := portRange(port)
		if err != nil {
			continue // A port by its name.
		}
		for _, other := range skipped {
			if low, high, err := portRange(other); err == nil && first <= high && low <= last {
				found = append(found, &mesh.SettingError{Name: "opaque_ports", Err: fmt.Errorf("of %s, %s is in skip_inbound_ports too and never reaches the proxy; leave it out of one of them", port, other)})
			}
		}
	}
	return found
}

func checkPorts(text string) error {
	_, _, err := portRange(text)
	return err
}

// checkOpaquePort accepts also the name of a container port.
func checkOpaquePort(text string) error {
	err := checkPorts(text)
	if err != nil && len(validation.IsValidPortName(text)) > 0 {
		return fmt.Errorf("%w, nor the name of a port", err)
	}
	return nil
}

// portRange reads a port, which is a range of one, or two with a dash between
// them.
func portRange(text string) (first, last uint64, err error) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	first, err = strconv.ParseUint(low, 10, 16)
	if err == nil {
		last, err = strconv.ParseUint(high, 10, 16)
	}
	if err != nil || first == 0 || last < first {
		return 0, 0, fmt.Errorf("%q is neither a port between 1 and 65535 nor a range such as 4000-4100", text)
	}
	return first, last, nil
}

func between(low, high int64) func(string) error {
	return func(text string) error {
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n < low || n > high {
			return fmt.Errorf("%s is not a whole number between %d and %d", text, low, high)
		}
		return nil
	}
}

func checkQuantity(text string) error {
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() < 0 {
		return fmt.Errorf("%q is not a quantity of Kubernetes such as 100m or 20Mi", text)
	}
	return nil
}

func checkRatio(text string) error {
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("%q is not a number between 0 and 1", text)
	}
	return nil
}

// checkDuration accepts durations that the injector keeps as they are: it cuts
// off what is finer than the precision.
func checkDuration(precision time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a duration such as 500ms, 90s or 1m30s", text)
		case d < precision || d%precision != 0:
			return fmt.Errorf("%q is not a multiple of %s, which is as fine as the injector keeps it", text, precision)
		}
		return nil
	}
}

func checkSubnet(text string) error {
	if _, err := netip.ParsePrefix(text); err != nil {
		return fmt.Errorf("%q is not a network in CIDR notation such as 10.1.0.0/16", text)
	}
	return nil
}

var (
	// One name of the proxy's modules may be followed by a span with fields. A
	// name without level would have it log everything there is, which nobody
	// means who misspells a level.
	logLevels = regexp.MustCompile(`^` + logDirective + `(,` + logDirective + `)*$`)
	imageName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*$`)
	imageTag  = regexp.MustCompile(`^\w[\w.-]{0,127}$`)
)

const logDirective = `\s*(([\w:.-]+(\[[^\]]*\])?|\[[^\]]*\])=)?(?i:off|error|warn|info|debug|trace)\s*`

func checkLogLevel(text string) error {
	if !logLevels.MatchString(text) {
		return fmt.Errorf("%q is not a list of log levels such as warn,linkerd=info; levels are off, error, warn, info, debug and trace", text)
	}
	return nil
}

func checkImage(text string) error {
	if !imageName.MatchString(text) {
		return fmt.Errorf("%q is not the name of an image without its tag, such as cr.l5d.io/linkerd/proxy", text)
	}
	return nil
}

func checkTag(text string) error {
	if !imageTag.MatchString(text) {
		return fmt.Errorf("%q is not the tag of an image, such as edge-26.8.3", text)
	}
	return nil
}

func checkVariableName(name string) error {
	if problems := validation.IsEnvVarName(name); len(problems) > 0 {
		return fmt.Errorf("%q cannot be the name of an environment variable", name)
	}
	return nil
}

func checkTraceLabel(name string) error {
	if problems := validation.IsQualifiedName(traceLabelPrefix + name); len(problems) > 0 {
		return fmt.Errorf("%q cannot be part of an annotation's name: %s", name, strings.Join(problems, "; "))
	}
	return nil
}

// spellVariables writes variables as the injector wants them: a JSON list like
// that of a container.
func spellVariables(variables map[string]string) (string, error) {
	list := make([]corev1.EnvVar, 0, len(variables))
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		list = append(list, corev1.EnvVar{Name: name, Value: variables[name]})
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// readVariables keeps values out of its errors: they may be secret after all.
func readVariables(text string) (map[string]string, error) {
	list, err := environment(text)
	if err != nil {
		return nil, err
	}
	variables := make(map[string]string, len(list))
	for _, variable := range list {
		if variable.ValueFrom != nil {
			return nil, fmt.Errorf("variable %s has valueFrom, where only a value can be said", variable.Name)
		}
		variables[variable.Name] = variable.Value
	}
	return variables, nil
}

func environment(text string) ([]corev1.EnvVar, error) {
	var list []corev1.EnvVar
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, errors.New("it is not a JSON list of environment variables")
	}
	return list, nil
}

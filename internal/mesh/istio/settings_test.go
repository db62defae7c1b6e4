package istio

import (
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

func TestSettingsAreWhole(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	names, places := map[string]bool{}, map[string]bool{}
	for _, s := range Settings() {
		place := s.Key + " " + s.Field
		if !name.MatchString(s.Name) || names[s.Name] || places[place] {
			t.Errorf("%s (%s): misspelled, or there twice", s.Name, place)
		}
		names[s.Name], places[place] = true, true
		if !s.TemplateOnly || !strings.HasSuffix(s.Description, ".") || !configures(s.Key) {
			t.Errorf("%s: %+v", s.Name, s)
		}
	}
}

func TestSettingsSpellAndRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values map[string]any
		want   map[string]string
	}{
		"resources": {
			map[string]any{"proxy_cpu_request": "100m", "proxy_cpu_limit": "2", "proxy_memory_request": "128Mi", "proxy_memory_limit": "1Gi"},
			map[string]string{
				"sidecar.istio.io/proxyCPU": "100m", "sidecar.istio.io/proxyCPULimit": "2",
				"sidecar.istio.io/proxyMemory": "128Mi", "sidecar.istio.io/proxyMemoryLimit": "1Gi",
			},
		},
		"fields of one annotation": {
			map[string]any{
				"hold_application_until_proxy_starts": true, "concurrency": int64(0), "termination_drain_duration": "30s",
				"proxy_metadata":           map[string]string{"ISTIO_META_DNS_CAPTURE": "true"},
				"stats_inclusion_regexps":  []string{".*outlier_detection.*"},
				"stats_inclusion_suffixes": []string{"upstream_rq_timeout"},
			},
			map[string]string{
				"proxy.istio.io/config": `{"concurrency":0,"holdApplicationUntilProxyStarts":true,"proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true"},` +
					`"proxyStatsMatcher":{"inclusionRegexps":[".*outlier_detection.*"],"inclusionSuffixes":["upstream_rq_timeout"]},"terminationDrainDuration":"30s"}`,
			},
		},
		"traffic": {
			map[string]any{
				"exclude_inbound_ports": []string{"5080", "7080"}, "include_outbound_ip_ranges": []string{"*"},
				"exclude_outbound_ip_ranges": []string{"10.0.0.0/8", "fd00::/8"}, "exclude_interfaces": []string{"net1"},
				"interception_mode": "TPROXY",
			},
			map[string]string{
				"traffic.sidecar.istio.io/excludeInboundPorts": "5080,7080", "traffic.sidecar.istio.io/includeOutboundIPRanges": "*",
				"traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/8,fd00::/8", "traffic.sidecar.istio.io/excludeInterfaces": "net1",
				"sidecar.istio.io/interceptionMode": "TPROXY",
			},
		},
		"switches and numbers": {
			map[string]any{"native_sidecar": false, "rewrite_app_http_probers": true, "status_port": int64(0), "readiness_period_seconds": int64(5)},
			map[string]string{
				"sidecar.istio.io/nativeSidecar": "false", "sidecar.istio.io/rewriteAppHTTPProbers": "true",
				"status.sidecar.istio.io/port": "0", "readiness.status.sidecar.istio.io/periodSeconds": "5",
			},
		},
		"structures": {
			map[string]any{"user_volume": `{"certs":{"secret":{"secretName":"certs"}}}`, "stats_histogram_buckets": `{"istiocustom":[1,5,10]}`},
			map[string]string{
				"sidecar.istio.io/userVolume": `{"certs":{"secret":{"secretName":"certs"}}}`, "sidecar.istio.io/statsHistogramBuckets": `{"istiocustom":[1,5,10]}`,
			},
		},
	} {
		spelled, err := mesh.Annotations(Settings(), c.values)
		if err != nil || !maps.Equal(spelled, c.want) {
			t.Errorf("%s: spelled %v, %v", name, spelled, err)
		}
		read, rest, err := mesh.Values(Settings(), c.want)
		if err != nil || len(rest) > 0 || !reflect.DeepEqual(read, c.values) {
			t.Errorf("%s: read %v, left %v, %v", name, read, rest, err)
		}
	}
}

func TestSettingsCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ good, bad []any }{
		"proxy_cpu_request":     {[]any{"100m", "0.5", "2"}, []any{"", "much", "-1", "100 m"}},
		"proxy_memory_limit":    {[]any{"1Gi", "128M"}, []any{"1GiB", "-1Mi"}},
		"proxy_image":           {[]any{"example.azurecr.io/istio/proxyv2:1.31.0", "localhost:5000/proxyv2@sha256:00ff"}, []any{"proxyv2", "proxyv2:1.31.0", "a b/c", "", "example.io/"}},
		"proxy_image_type":      {[]any{"default", "debug", "distroless"}, []any{"", "slim"}},
		"interception_mode":     {[]any{"REDIRECT", "TPROXY", "NONE"}, []any{"redirect", ""}},
		"include_inbound_ports": {[]any{[]string{"*"}, []string{"80", "443"}}, []any{[]string{"80-90"}, []string{"http"}}},
		"exclude_inbound_ports": {[]any{[]string{"65535"}}, []any{[]string{"*"}, []string{"0"}, []string{"65536"}, []string{"4000-4100"}, []string{""}}},
		"include_outbound_ip_ranges": {
			[]any{[]string{"*"}, []string{"10.0.0.0/8", "::/0"}}, []any{[]string{"10.0.0.1"}, []string{"all"}, []string{"10.0.0.0/33"}},
		},
		"exclude_outbound_ip_ranges": {[]any{[]string{"169.254.169.254/32"}}, []any{[]string{"*"}}},
		"exclude_interfaces":         {[]any{[]string{"net1", "eth0.100"}}, []any{[]string{""}, []string{"1net"}, []string{"a,b"}, []string{"abcdefghijklmnop"}}},
		"concurrency":                {[]any{int64(0), int64(4)}, []any{int64(-1)}},
		"status_port":                {[]any{int64(0), int64(15020)}, []any{int64(-1), int64(70000)}},
		"readiness_period_seconds":   {[]any{int64(1)}, []any{int64(0)}},
		"drain_duration":             {[]any{"45s"}, []any{"45", "1m", "0s", "1.5s", "s", "-1s"}},
		"stats_flush_interval":       {[]any{"5s", "1m30s"}, []any{"5", "10ms", "soon"}},
		"proxy_metadata":             {[]any{map[string]string{"ISTIO_META_DNS_CAPTURE": "true"}}, []any{map[string]string{"A=B": "c"}, map[string]string{"": "c"}}},
		"templates":                  {[]any{[]string{"sidecar", "custom"}}, []any{[]string{""}, []string{"sidecar,custom"}}},
		"bootstrap_override":         {[]any{"custom-bootstrap"}, []any{"", "Custom", "a/b"}},
		"user_volume_mount":          {[]any{`{"certs":{"mountPath":"/etc/certs"}}`}, []any{"", `["certs"]`, `{"certs":"/etc/certs"}`}},
		"log_level":                  {[]any{"warning", "off"}, []any{"warn", ""}},
		"component_log_level":        {[]any{"misc:error", "misc:error,http:debug"}, []any{"error", "misc:loud", ":error", "misc:error,"}},
		"agent_log_level":            {[]any{"info", "default:info,dns:debug", "none"}, []any{"", "dns:loud", "dns:"}},
		"stats_inclusion_regexps":    {[]any{[]string{".*outlier_detection.*"}}, []any{[]string{"("}, []string{""}}},
		"stats_histogram_buckets":    {[]any{`{"a":[1,2]}`}, []any{"", `{"a":1}`, `{"a":[]}`, `{"a":[2,1]}`}},
		"tracing_service_name":       {[]any{"CANONICAL_NAME_ONLY"}, []any{"canonical"}},
	} {
		for _, value := range c.good {
			if _, err := mesh.Annotations(Settings(), map[string]any{name: value}); err != nil {
				t.Errorf("%v: %v", value, err)
			}
		}
		for _, value := range c.bad {
			if _, err := mesh.Annotations(Settings(), map[string]any{name: value}); err == nil {
				t.Errorf("%s: %q passes", name, value)
			}
		}
	}
}

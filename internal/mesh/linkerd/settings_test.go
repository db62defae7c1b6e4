package linkerd_test

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// samples are two values for each setting.
func samples() map[string][2]any {
	return map[string][2]any{
		"access_log":               {"apache", "json"},
		"admin_port":               {int64(5191), int64(6191)},
		"close_wait_timeout":       {"1m", "3600s"},
		"control_port":             {int64(5190), int64(6190)},
		"debug_image":              {"registry.example:5000/mirror/debug", "cr.l5d.io/linkerd/debug"},
		"debug_image_pull_policy":  {"Always", "Never"},
		"debug_image_version":      {"edge-26.8.2", "edge-26.8.1"},
		"default_inbound_policy":   {"all-authenticated", "audit"},
		"disable_tap":              {true, false},
		"enable_debug_sidecar":     {true, false},
		"enable_external_profiles": {true, false},
		"enable_gateway":           {true, false},
		"image_pull_policy":        {"Always", "Never"},
		"inbound_port":             {int64(5143), int64(6143)},
		"opaque_ports":             {[]string{"3306", "http", "4000-4100"}, []string{}},
		"outbound_port":            {int64(5140), int64(6140)},
		"pod_inbound_ports":        {[]string{"8080", "9000-9010"}, []string{"8081"}},
		"proxy_additional_env":     {map[string]string{"B": "1", "A": "x\"y"}, map[string]string{"RUST_BACKTRACE": "1"}},
		"proxy_admin_shutdown":     {true, false},
		"proxy_await":              {false, true},
		"proxy_cpu_limit":          {"2", "500m"},
		"proxy_cpu_ratio_limit":    {"0.5", "1"},
		"proxy_cpu_request":        {"100m", "0.2"},
		"proxy_disable_inbound_protocol_detect_timeout":  {true, false},
		"proxy_disable_outbound_protocol_detect_timeout": {true, false},
		"proxy_enable_native_sidecar":                    {false, true},
		"proxy_ephemeral_storage_limit":                  {"1Gi", "2Gi"},
		"proxy_ephemeral_storage_request":                {"10Mi", "20M"},
		"proxy_gid":                                      {int64(0), int64(2103)},
		"proxy_image":                                    {"registry.example/linkerd/proxy", "cr.l5d.io/linkerd/proxy"},
		"proxy_inbound_connect_timeout":                  {"250ms", "1s"},
		"proxy_inbound_discovery_cache_unused_timeout":   {"1m30s", "10s"},
		"proxy_log_format":                               {"json", "plain"},
		"proxy_log_http_headers":                         {"insecure", "off"},
		"proxy_log_level":                                {"warn,linkerd=debug,[{headers}]=off", "DEBUG"},
		"proxy_memory_limit":                             {"250Mi", "1Gi"},
		"proxy_memory_request":                           {"20Mi", "64Mi"},
		"proxy_metrics_hostname_labels":                  {true, false},
		"proxy_outbound_connect_timeout":                 {"1.5s", "2s"},
		"proxy_outbound_discovery_cache_unused_timeout":  {"5s", "20s"},
		"proxy_require_identity_inbound_ports":           {[]string{"8080"}, []string{"9090"}},
		"proxy_uid":                                      {int64(2103), int64(2104)},
		"proxy_version":                                  {"edge-26.6.3", "edge-26.8.2"},
		"proxy_wait_before_exit_seconds":                 {int64(0), int64(40)},
		"shutdown_grace_period":                          {"30s", "1500ms"},
		"skip_inbound_ports":                             {[]string{"5080", "7000-7100"}, []string{}},
		"skip_outbound_ports":                            {[]string{"5080"}, []string{"443"}},
		"skip_subnets":                                   {[]string{"10.1.0.0/16", "fd00::/8"}, []string{"192.168.7.0/24"}},
		"trace_labels":                                   {map[string]string{"service.name": "alpha"}, map[string]string{"team": "graph", "tier": "db"}},
	}
}

// The annotations of pkg/k8s/labels.go that configure proxies.
const annotationList = `
	proxy-image image-pull-policy debug-image debug-image-version debug-image-pull-policy control-port
	skip-inbound-ports opaque-ports skip-outbound-ports skip-subnets inbound-port admin-port outbound-port
	pod-inbound-ports proxy-cpu-request proxy-cpu-limit proxy-cpu-ratio-limit proxy-memory-request
	proxy-memory-limit proxy-ephemeral-storage-request proxy-ephemeral-storage-limit proxy-uid proxy-gid
	proxy-admin-shutdown proxy-log-level proxy-log-http-headers proxy-log-format enable-external-profiles
	proxy-version proxy-require-identity-inbound-ports proxy-metrics-hostname-labels
	proxy-outbound-connect-timeout proxy-inbound-connect-timeout
	proxy-outbound-discovery-cache-unused-timeout proxy-inbound-discovery-cache-unused-timeout
	proxy-disable-outbound-protocol-detect-timeout proxy-disable-inbound-protocol-detect-timeout
	enable-gateway enable-debug-sidecar close-wait-timeout proxy-enable-native-sidecar proxy-await
	default-inbound-policy access-log shutdown-grace-period proxy-additional-env`

func TestSettingsAreComplete(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"proxy_wait_before_exit_seconds": "config.alpha.linkerd.io/proxy-wait-before-exit-seconds",
		"trace_labels":                   "resource.opentelemetry.io/",
		"disable_tap":                    "viz.linkerd.io/disable-tap",
	}
	for name := range strings.FieldsSeq(annotationList) {
		want[strings.ReplaceAll(name, "-", "_")] = "config.linkerd.io/" + name
	}
	got := map[string]string{}
	var podsOnly []string
	for _, s := range linkerd.Settings() {
		got[s.Name] = s.Key
		if s.TemplateOnly {
			podsOnly = append(podsOnly, s.Name)
		}
		if !strings.HasSuffix(s.Description, ".") || strings.Contains(s.Description, "%!") {
			t.Errorf("%s: description %q", s.Name, s.Description)
		}
		if len(s.Choices) == 0 && s.Check == nil && s.Type != mesh.Switch {
			t.Errorf("%s: nothing checks its values", s.Name)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	slices.Sort(podsOnly)
	wantPodsOnly := []string{
		"close_wait_timeout", "debug_image", "debug_image_pull_policy", "debug_image_version",
		"enable_gateway", "proxy_cpu_ratio_limit", "trace_labels",
	}
	if !slices.Equal(podsOnly, wantPodsOnly) {
		t.Errorf("for pods only: %v, want %v", podsOnly, wantPodsOnly)
	}
	if names := slices.Sorted(maps.Keys(samples())); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		t.Errorf("samples for %v", names)
	}
}

func TestSettingsTellTheirVersion(t *testing.T) {
	t.Parallel()
	for _, s := range linkerd.Settings() {
		if s.Name == "trace_labels" {
			for _, part := range []string{"Since Linkerd 2.19 (edge-25.10.7).", "For workloads only"} {
				if !strings.Contains(s.Description, part) {
					t.Errorf("%q does not say %q", s.Description, part)
				}
			}
		}
		if s.Name == "proxy_cpu_request" && strings.Contains(s.Description, "Since") {
			t.Errorf("%q: there has never been a Linkerd without it", s.Description)
		}
	}
}

func TestSettingsReadBack(t *testing.T) {
	t.Parallel()
	for name, values := range samples() {
		for _, value := range values {
			annotations, err := mesh.Annotations(linkerd.Settings(), map[string]any{name: value})
			if err != nil {
				t.Errorf("%s %v: %v", name, value, err)
				continue
			}
			read, rest, err := mesh.Values(linkerd.Settings(), annotations)
			if err != nil || len(rest) > 0 || !reflect.DeepEqual(read, map[string]any{name: value}) {
				t.Errorf("%s: %v spelled %v reads %v, rest %v, error %v", name, value, annotations, read, rest, err)
			}
		}
	}
}

func TestSettingsSpell(t *testing.T) {
	t.Parallel()
	got, err := mesh.Annotations(linkerd.Settings(), map[string]any{
		"skip_inbound_ports":             []string{"5080", "7080-7090"},
		"proxy_await":                    false,
		"proxy_admin_shutdown":           true,
		"proxy_enable_native_sidecar":    true,
		"proxy_wait_before_exit_seconds": int64(20),
		"proxy_additional_env":           map[string]string{"B": "2", "A": "1"},
		"trace_labels":                   map[string]string{"team": "graph"},
	})
	want := map[string]string{
		"config.linkerd.io/skip-inbound-ports":                   "5080,7080-7090",
		"config.linkerd.io/proxy-await":                          "disabled",
		"config.linkerd.io/proxy-admin-shutdown":                 "enabled",
		"config.linkerd.io/proxy-enable-native-sidecar":          "true",
		"config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "20",
		"config.linkerd.io/proxy-additional-env":                 `[{"name":"A","value":"1"},{"name":"B","value":"2"}]`,
		"resource.opentelemetry.io/team":                         "graph",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

// What the injector would log and ignore, or the proxy would not start with.
func TestSettingsRefuse(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]any{
		"skip_inbound_ports":                            {[]string{"http"}, []string{"0"}, []string{"70000"}, []string{"20-10"}, []string{"1-"}, []string{""}},
		"skip_outbound_ports":                           {[]string{"5080", "x"}},
		"pod_inbound_ports":                             {[]string{"-1"}},
		"proxy_require_identity_inbound_ports":          {[]string{"http"}},
		"opaque_ports":                                  {[]string{"99999"}, []string{"Not A Name"}},
		"skip_subnets":                                  {[]string{"10.1.0.0"}, []string{"10.1.0.0/33"}},
		"proxy_cpu_request":                             {"100 m", "many", "", "-1"},
		"proxy_memory_limit":                            {"1MB"},
		"proxy_cpu_ratio_limit":                         {"2", "-0.1", "NaN", "half"},
		"proxy_uid":                                     {int64(0), int64(-1)},
		"proxy_gid":                                     {int64(-1)},
		"inbound_port":                                  {int64(0), int64(65536)},
		"proxy_wait_before_exit_seconds":                {int64(-1)},
		"proxy_outbound_connect_timeout":                {"1", "soon", "0s", "-1s", "1500us"},
		"proxy_inbound_discovery_cache_unused_timeout":  {"500ms", "1500ms"},
		"proxy_outbound_discovery_cache_unused_timeout": {"1d"},
		"close_wait_timeout":                            {"100ms"},
		"default_inbound_policy":                        {"allow", ""},
		"access_log":                                    {"plain"},
		"proxy_log_format":                              {"text"},
		"proxy_log_http_headers":                        {"true"},
		"proxy_log_level":                               {"wran", "linkerd=loud", "warn,,info", "", "linkerd"},
		"image_pull_policy":                             {"always"},
		"proxy_image":                                   {"cr.l5d.io/linkerd/proxy:edge-26.8.3", "cr.l5d.io/linkerd/proxy@sha256:00", "", "a b"},
		"proxy_version":                                 {"", "v 1", "a/b"},
		"proxy_additional_env":                          {map[string]string{"A=B": "1"}, map[string]string{"": "1"}},
		"trace_labels":                                  {map[string]string{"a b": "1"}, map[string]string{"": "1"}, map[string]string{"a/b": "1"}},
		"proxy_cores":                                   {"1"},
	} {
		for _, value := range values {
			annotations, err := mesh.Annotations(linkerd.Settings(), map[string]any{name: value})
			var refused *mesh.SettingError
			if !errors.As(err, &refused) || refused.Name != name {
				t.Errorf("%s %q: got %v, error %v", name, value, annotations, err)
			}
		}
	}
}

func TestSettingsDoNotReadEverything(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{
		"config.linkerd.io/proxy-uid":                   "root",
		"config.linkerd.io/proxy-await":                 "true",
		"config.linkerd.io/proxy-enable-native-sidecar": "1",
	} {
		if read, _, err := mesh.Values(linkerd.Settings(), map[string]string{key: value}); err == nil {
			t.Errorf("%s: %s reads as %v", key, value, read)
		}
	}
	const secret = "hunter2"
	for _, text := range []string{
		`[{"name":"A","value":"` + secret + `"},{"name":"B","valueFrom":{}}]`, `{"A":"` + secret + `"}`, `["` + secret + `"]`,
	} {
		_, _, err := mesh.Values(linkerd.Settings(), map[string]string{"config.linkerd.io/proxy-additional-env": text})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	_, rest, err := mesh.Values(linkerd.Settings(), map[string]string{"linkerd.io/inject": "enabled", "config.linkerd.io/other": "1"})
	if err != nil || len(rest) != 2 {
		t.Errorf("rest %v, error %v", rest, err)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values map[string]any
		want   []string // settings
	}{
		"none":                      {map[string]any{"proxy_cpu_request": "100m", "proxy_cpu_limit": "0.1", "proxy_memory_limit": "1Gi"}, nil},
		"request above limit":       {map[string]any{"proxy_memory_request": "1Gi", "proxy_memory_limit": "1G"}, []string{"proxy_memory_request"}},
		"opaque in a skipped range": {map[string]any{"skip_inbound_ports": []string{"80", "3000-4000"}, "opaque_ports": []string{"3306", "5432", "postgres"}}, []string{"opaque_ports"}},
		"ranges that meet":          {map[string]any{"skip_inbound_ports": []string{"1-10"}, "opaque_ports": []string{"10-20"}}, []string{"opaque_ports"}},
		"outbound only":             {map[string]any{"skip_outbound_ports": []string{"3306"}, "opaque_ports": []string{"3306"}}, nil},
	} {
		var got []string
		for _, conflict := range linkerd.Conflicts(c.values) {
			got = append(got, conflict.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: conflicts of %v, want %v", name, got, c.want)
		}
	}
}

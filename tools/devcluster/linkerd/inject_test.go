package linkerd

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const testAnchors = "-----BEGIN CERTIFICATE-----\nanchor\n-----END CERTIFICATE-----"

// installed is what an injector reads of a control plane whose chart was
// installed with values.
func installed(t *testing.T, version string, values map[string]any) Config {
	t.Helper()
	all := renderObjects(t, ControlPlaneChart, version, merged(anchored(), pinned(), values))
	config := Config{Namespace: "linkerd", TrustAnchors: testAnchors}
	data := object[corev1.ConfigMap](t, all, "ConfigMap/linkerd-config").Data["values"]
	if err := yaml.Unmarshal([]byte(data), &config.Values); err != nil {
		t.Fatal(err)
	}
	return config
}

func testNamespace(annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dgraph", Annotations: annotations}}
}

// testPod is a pod of an application with an init container.
func testPod(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "alpha-0", Annotations: annotations, Labels: map[string]string{"app": "dgraph"}},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "prepare", Image: "dgraph/dgraph:v1"}},
			Containers: []corev1.Container{{
				Name: "alpha", Image: "dgraph/dgraph:v1",
				Ports: []corev1.ContainerPort{
					{Name: "grpc", ContainerPort: 9080},
					{Name: "http", ContainerPort: 8080},
					{Name: "gossip", ContainerPort: 7946, Protocol: corev1.ProtocolUDP},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: serviceAccountMount}},
			}},
			Volumes: []corev1.Volume{{Name: "data"}},
		},
	}
}

// inject expects pod to be injected without a warning.
func inject(t *testing.T, config Config, namespace *corev1.Namespace, owner Owner, pod *corev1.Pod) {
	t.Helper()
	result, err := Inject(config, namespace, owner, pod)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Skipped)+len(result.Warnings) > 0 {
		t.Fatalf("result %+v", result)
	}
}

func find(t *testing.T, containers []corev1.Container, name string) corev1.Container {
	t.Helper()
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no container %s", name)
	}
	return containers[i]
}

// env is the literal value of an environment variable.
func env(c corev1.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// flag is the argument after a command-line flag.
func flag(c corev1.Container, name string) string {
	if i := slices.Index(c.Args, name); i >= 0 && i+1 < len(c.Args) {
		return c.Args[i+1]
	}
	return ""
}

func TestInjectDecides(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	for _, test := range []struct {
		namespace, pod string
		want           []SkipReason
	}{
		{"enabled", "", nil},
		{"enabled", "enabled", nil},
		{"enabled", "ingress", nil},
		{"enabled", "disabled", []SkipReason{AnnotationDisabled}},
		{"ingress", "", nil},
		{"ingress", "disabled", []SkipReason{AnnotationDisabled}},
		{"disabled", "", []SkipReason{AnnotationAbsent}},
		{"disabled", "enabled", nil},
		{"disabled", "ingress", nil},
		{"disabled", "disabled", []SkipReason{AnnotationAbsent}},
		{"", "", []SkipReason{AnnotationAbsent}},
		{"", "enabled", nil},
		{"", "ingress", nil},
		{"", "disabled", []SkipReason{AnnotationAbsent}},
		{"true", "enabled", []SkipReason{InvalidAtNamespace}},
		{"true", "", []SkipReason{InvalidAtNamespace}},
		{"enabled", "true", []SkipReason{InvalidAtWorkload}},
		{"", "Enabled", []SkipReason{InvalidAtWorkload}},
	} {
		t.Run("namespace "+test.namespace+" pod "+test.pod, func(t *testing.T) {
			t.Parallel()
			annotated := func(value string) map[string]string {
				if value == "" {
					return nil
				}
				return map[string]string{injectAnnotation: value}
			}
			pod := testPod(annotated(test.pod))
			before := pod.DeepCopy()
			result, err := Inject(config, testNamespace(annotated(test.namespace)), Owner{}, pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, result.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			if skipped := cmp.Equal(before, pod); skipped != (len(test.want) > 0) {
				t.Errorf("pod is unchanged: %t", skipped)
			}
		})
	}
}

func TestInjectSkips(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	unprojected := installed(t, newest, map[string]any{"identity": map[string]any{"serviceAccountTokenProjection": false}})
	never := false
	for _, test := range []struct {
		name   string
		config Config
		change func(spec *corev1.PodSpec)
		want   []SkipReason
	}{
		{"host network", config, func(s *corev1.PodSpec) { s.HostNetwork = true }, []SkipReason{HostNetwork}},
		{"own proxy", config, func(s *corev1.PodSpec) { s.Containers[0].Name = "linkerd-proxy" }, []SkipReason{SidecarExists}},
		{"own native proxy", config, func(s *corev1.PodSpec) { s.InitContainers[0].Name = "linkerd-proxy" }, []SkipReason{SidecarExists}},
		{"own init", config, func(s *corev1.PodSpec) { s.InitContainers[0].Name = "linkerd-init" }, []SkipReason{SidecarExists}},
		{"proxy of Istio", config, func(s *corev1.PodSpec) { s.InitContainers[0].Name = "istio-proxy" }, []SkipReason{SidecarExists}},
		{"init of Istio", config, func(s *corev1.PodSpec) { s.InitContainers[0].Name = "istio-init" }, []SkipReason{SidecarExists}},
		{"proxy image", config, func(s *corev1.PodSpec) { s.Containers[0].Image = "cr.l5d.io/linkerd/proxy:edge-1" }, []SkipReason{SidecarExists}},
		{"proxy image of Istio", config, func(s *corev1.PodSpec) { s.Containers[0].Image = "gcr.io/istio-release/proxyv2:1" }, []SkipReason{SidecarExists}},
		{"no token, but a projected one", config, func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = &never }, nil},
		{"no token", unprojected, func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = &never }, []SkipReason{NoServiceAccountToken}},
		{"token not mounted", unprojected, func(s *corev1.PodSpec) { s.Containers[0].VolumeMounts = nil }, []SkipReason{NoServiceAccountToken}},
		{"token mounted", unprojected, func(*corev1.PodSpec) {}, nil},
		{
			"several", config,
			func(s *corev1.PodSpec) { s.HostNetwork, s.Containers[0].Name = true, "istio-proxy" },
			[]SkipReason{HostNetwork, SidecarExists},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := testPod(nil)
			test.change(&pod.Spec)
			result, err := Inject(test.config, testNamespace(map[string]string{injectAnnotation: enabled}), Owner{}, pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, result.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
			for _, reason := range result.Skipped {
				if reason.Message() == string(reason) {
					t.Errorf("%s has no message", reason)
				}
			}
		})
	}
}

func TestInjectPlacesContainers(t *testing.T) {
	t.Parallel()
	const native = configPrefix + "proxy-enable-native-sidecar"
	for _, test := range []struct {
		name             string
		version          string
		values           map[string]any
		annotations      map[string]string
		init, containers []string
	}{
		{
			name: "native by default", version: newest,
			init: []string{"linkerd-init", "linkerd-proxy", "prepare"}, containers: []string{"alpha"},
		},
		{
			name: "not native by annotation", version: newest, annotations: map[string]string{native: "false"},
			init: []string{"prepare", "linkerd-init"}, containers: []string{"linkerd-proxy", "alpha"},
		},
		{
			name: "neither native nor awaited", version: newest,
			annotations: map[string]string{native: "false", configPrefix + "proxy-await": disabled},
			init:        []string{"prepare", "linkerd-init"}, containers: []string{"alpha", "linkerd-proxy"},
		},
		{
			name: "old default", version: "2024.11.8",
			init: []string{"prepare", "linkerd-init"}, containers: []string{"linkerd-proxy", "alpha"},
		},
		{
			name: "old with the alpha spelling", version: "2024.11.8",
			annotations: map[string]string{configAlphaPrefix + "proxy-enable-native-sidecar": "true"},
			init:        []string{"linkerd-init", "linkerd-proxy", "prepare"}, containers: []string{"alpha"},
		},
		{
			name: "stable spelling wins", version: newest,
			annotations: map[string]string{native: "true", configBetaPrefix + "proxy-enable-native-sidecar": "false", configAlphaPrefix + "proxy-enable-native-sidecar": "false"},
			init:        []string{"linkerd-init", "linkerd-proxy", "prepare"}, containers: []string{"alpha"},
		},
		{
			name: "CNI", version: newest, values: map[string]any{"cniEnabled": true},
			init: []string{"linkerd-network-validator", "linkerd-proxy", "prepare"}, containers: []string{"alpha"},
		},
		{
			name: "debug", version: newest, annotations: map[string]string{debugAnnotation: "true"},
			init: []string{"linkerd-init", "linkerd-proxy", "prepare"}, containers: []string{"alpha", "linkerd-debug"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := testPod(test.annotations)
			inject(t, installed(t, test.version, test.values), testNamespace(map[string]string{injectAnnotation: enabled}), Owner{}, pod)
			names := func(containers []corev1.Container) []string {
				var all []string
				for _, c := range containers {
					all = append(all, c.Name)
				}
				return all
			}
			if diff := cmp.Diff(test.init, names(pod.Spec.InitContainers)); diff != "" {
				t.Errorf("init containers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.containers, names(pod.Spec.Containers)); diff != "" {
				t.Errorf("containers (-want +got):\n%s", diff)
			}
			proxy := find(t, allContainers(pod), proxyContainer)
			always := proxy.RestartPolicy != nil && *proxy.RestartPolicy == corev1.ContainerRestartPolicyAlways
			if native := slices.Contains(test.init, proxyContainer); always != native {
				t.Errorf("native %t, restarts always: %t", native, always)
			}
			if awaits, first := proxy.Lifecycle != nil, test.containers[0] == proxyContainer; awaits != first {
				t.Errorf("first %t, awaited %t", first, awaits)
			}
		})
	}
}

func TestInjectWritesThePod(t *testing.T) {
	t.Parallel()
	pod := testPod(nil)
	inject(t, installed(t, newest, nil), testNamespace(map[string]string{
		injectAnnotation:                    ingress,
		configPrefix + "proxy-log-level":    "debug",
		configPrefix + "proxy-cpu-request":  "50m",
		configPrefix + "enable-gateway":     "true",
		configPrefix + "debug-image":        "elsewhere",
		configPrefix + "skip-inbound-ports": "5080,7080",
		"unrelated":                         "stays",
	}), Owner{Kind: "StatefulSet", Name: "alpha"}, pod)

	wantLabels := map[string]string{
		"app": "dgraph", controlPlaneNamespaceLabel: "linkerd", workloadNamespaceLabel: "dgraph",
		"linkerd.io/proxy-statefulset": "alpha",
	}
	if diff := cmp.Diff(wantLabels, pod.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	sum := sha256.Sum256([]byte(testAnchors))
	wantAnnotations := map[string]string{
		injectAnnotation:                    ingress,
		createdByAnnotation:                 "linkerd/proxy-injector edge-26.8.3",
		proxyVersionAnnotation:              "edge-26.8.3",
		trustRootAnnotation:                 hex.EncodeToString(sum[:]),
		configPrefix + "proxy-log-level":    "debug",
		configPrefix + "proxy-cpu-request":  "50m",
		configPrefix + "skip-inbound-ports": "5080,7080",
	}
	if diff := cmp.Diff(wantAnnotations, pod.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}

	proxy := find(t, pod.Spec.InitContainers, proxyContainer)
	if proxy.Image != "cr.l5d.io/linkerd/proxy:edge-26.8.3" {
		t.Errorf("image %s", proxy.Image)
	}
	for name, want := range map[string]string{
		"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS":   testAnchors,
		"LINKERD2_PROXY_INBOUND_PORTS":            "8080,9080",
		"LINKERD2_PROXY_INBOUND_LISTEN_ADDR":      "0.0.0.0:4143",
		"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR":     "127.0.0.1:4140",
		"LINKERD2_PROXY_INGRESS_MODE":             "true",
		"LINKERD2_PROXY_IDENTITY_SVC_ADDR":        "linkerd-identity-headless.linkerd.svc.cluster.local.:8080",
		"LINKERD2_PROXY_IDENTITY_LOCAL_NAME":      "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local",
		"LINKERD2_PROXY_INBOUND_DEFAULT_POLICY":   "all-unauthenticated",
		"LINKERD2_PROXY_LOG":                      "debug,[{headers}]=off,[{request}]=off",
		"LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES": "",
	} {
		if got := env(proxy, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := proxy.Resources.Requests.Cpu().String(); got != "50m" {
		t.Errorf("CPU request %s", got)
	}
	wantPorts := []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: 4143}, {Name: "linkerd-admin", ContainerPort: 4191}}
	if diff := cmp.Diff(wantPorts, proxy.Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}

	redirect := find(t, pod.Spec.InitContainers, "linkerd-init")
	if got := flag(redirect, "--inbound-ports-to-ignore"); got != "4190,4191,5080,7080" {
		t.Errorf("inbound ports to ignore %s", got)
	}
	if got := flag(redirect, "--outbound-ports-to-ignore"); got != "4567,4568" {
		t.Errorf("outbound ports to ignore %s", got)
	}
	if diff := cmp.Diff([]corev1.Capability{"NET_ADMIN", "NET_RAW"}, redirect.SecurityContext.Capabilities.Add); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}

	var volumes []string
	for _, v := range pod.Spec.Volumes {
		volumes = append(volumes, v.Name)
	}
	slices.Sort(volumes)
	if diff := cmp.Diff([]string{"data", "linkerd-identity-end-entity", "linkerd-identity-token", "linkerd-proxy-init-xtables-lock"}, volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestInjectLabelsOwners(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	for kind, want := range map[string]string{
		"Deployment": "linkerd.io/proxy-deployment", "ReplicaSet": "linkerd.io/proxy-replicaset",
		"ReplicationController": "linkerd.io/proxy-replicationcontroller", "StatefulSet": "linkerd.io/proxy-statefulset",
		"DaemonSet": "linkerd.io/proxy-daemonset", "Job": "linkerd.io/proxy-job",
		"CronJob": "", "Rollout": "", "": "",
	} {
		pod := testPod(map[string]string{injectAnnotation: enabled})
		inject(t, config, testNamespace(nil), Owner{Kind: kind, Name: "owner"}, pod)
		var got []string
		for label := range maps.Keys(pod.Labels) {
			if strings.HasPrefix(label, proxyLabelPrefix) {
				got = append(got, label)
			}
		}
		if (want == "" && len(got) > 0) || (want != "" && !slices.Equal(got, []string{want})) {
			t.Errorf("%s: labels %v, want %s", kind, got, want)
		}
	}
}

// What a pod says itself comes before what its namespace says.
func TestPodOverridesNamespace(t *testing.T) {
	t.Parallel()
	pod := testPod(map[string]string{configPrefix + "proxy-version": "from-pod"})
	inject(t, installed(t, newest, nil), testNamespace(map[string]string{
		injectAnnotation: enabled, configPrefix + "proxy-version": "from-namespace",
	}), Owner{}, pod)
	if got := find(t, pod.Spec.InitContainers, proxyContainer).Image; got != "cr.l5d.io/linkerd/proxy:from-pod" {
		t.Errorf("image %s", got)
	}
	if got := pod.Annotations[proxyVersionAnnotation]; got != "from-pod" {
		t.Errorf("version %s", got)
	}
}

func TestAnnotationsChangeTheProxy(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	inEnv := func(name string) func(proxy, init corev1.Container) string {
		return func(proxy, _ corev1.Container) string { return env(proxy, name) }
	}
	inFlag := func(name string) func(proxy, init corev1.Container) string {
		return func(_, init corev1.Container) string { return flag(init, name) }
	}
	for _, test := range []struct {
		annotation, value, want string
		got                     func(proxy, init corev1.Container) string
	}{
		{"proxy-image", "acr.io/proxy", "acr.io/proxy:edge-26.8.3", func(p, _ corev1.Container) string { return p.Image }},
		{"image-pull-policy", "Always", "Always", func(p, _ corev1.Container) string { return string(p.ImagePullPolicy) }},
		{"control-port", "5190", "0.0.0.0:5190", inEnv("LINKERD2_PROXY_CONTROL_LISTEN_ADDR")},
		{"admin-port", "5191", "0.0.0.0:5191", inEnv("LINKERD2_PROXY_ADMIN_LISTEN_ADDR")},
		{"admin-port", "5191", "4190,5191,4567,4568", inFlag("--inbound-ports-to-ignore")},
		{"inbound-port", "5143", "5143", inFlag("--incoming-proxy-port")},
		{"outbound-port", "5140", "5140", inFlag("--outgoing-proxy-port")},
		{"skip-outbound-ports", "5080", "5080", inFlag("--outbound-ports-to-ignore")},
		{"skip-subnets", "10.0.0.0/8", "10.0.0.0/8", inFlag("--subnets-to-ignore")},
		{"close-wait-timeout", "1m", "60", inFlag("--timeout-close-wait-secs")},
		{"proxy-cpu-limit", "1500m", "1500m", func(p, _ corev1.Container) string { return p.Resources.Limits.Cpu().String() }},
		{"proxy-cpu-limit", "1500m", "2", inEnv("LINKERD2_PROXY_CORES")},
		{"proxy-cpu-ratio-limit", "0.5", "0.5", inEnv("LINKERD2_PROXY_CORES_MAX_RATIO")},
		{"proxy-memory-request", "20Mi", "20Mi", func(p, _ corev1.Container) string { return p.Resources.Requests.Memory().String() }},
		{"proxy-memory-limit", "250Mi", "250Mi", func(p, _ corev1.Container) string { return p.Resources.Limits.Memory().String() }},
		{"proxy-cpu-request", "50m", "50m", func(p, _ corev1.Container) string { return p.Resources.Requests.Cpu().String() }},
		{"proxy-ephemeral-storage-request", "1Gi", "1Gi", func(p, _ corev1.Container) string { return p.Resources.Requests.StorageEphemeral().String() }},
		{"proxy-version", "edge-26.6.3", "cr.l5d.io/linkerd/proxy:edge-26.6.3", func(p, _ corev1.Container) string { return p.Image }},
		{"skip-inbound-ports", "5080,7080", "4190,4191,5080,7080", inFlag("--inbound-ports-to-ignore")},
		{"proxy-log-level", "debug", "debug,[{headers}]=off,[{request}]=off", inEnv("LINKERD2_PROXY_LOG")},
		{"proxy-await", disabled, "no startup probe", func(p, _ corev1.Container) string {
			if p.StartupProbe == nil {
				return "no startup probe"
			}
			return p.StartupProbe.String()
		}},
		{"proxy-ephemeral-storage-limit", "1Gi", "1Gi", func(p, _ corev1.Container) string { return p.Resources.Limits.StorageEphemeral().String() }},
		{"proxy-uid", "3000", "3000", inFlag("--proxy-uid")},
		{"proxy-gid", "3000", "3000", inFlag("--proxy-gid")},
		{"proxy-admin-shutdown", enabled, "true", inEnv("LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED")},
		{"proxy-log-http-headers", "insecure", "warn,linkerd=info,hickory=error,[{headers}]=debug,[{request}]=debug", inEnv("LINKERD2_PROXY_LOG")},
		{"proxy-log-format", "json", "json", inEnv("LINKERD2_PROXY_LOG_FORMAT")},
		{"enable-external-profiles", "true", ".", inEnv("LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES")},
		{"enable-gateway", "true", "svc.cluster.local.", inEnv("LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES")},
		{"proxy-require-identity-inbound-ports", "8080", "8080", inEnv("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS")},
		{"proxy-metrics-hostname-labels", "true", "true", inEnv("LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS")},
		{"proxy-outbound-connect-timeout", "2s", "2000ms", inEnv("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT")},
		{"proxy-inbound-connect-timeout", "1.5s", "1500ms", inEnv("LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT")},
		{"proxy-outbound-discovery-cache-unused-timeout", "1m", "60s", inEnv("LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT")},
		{"proxy-inbound-discovery-cache-unused-timeout", "1m", "60s", inEnv("LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT")},
		{"proxy-disable-outbound-protocol-detect-timeout", "true", "365d", inEnv("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT")},
		{"proxy-disable-inbound-protocol-detect-timeout", "true", "365d", inEnv("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT")},
		{"shutdown-grace-period", "10s", "10000ms", inEnv("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD")},
		{"access-log", "apache", "apache", inEnv("LINKERD2_PROXY_ACCESS_LOG")},
		{"default-inbound-policy", "cluster-authenticated", "cluster-authenticated", inEnv("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY")},
		{"opaque-ports", "grpc,4000-4010", "9080,4000-4010", inEnv("LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION")},
		{"pod-inbound-ports", "1,2", "1,2", inEnv("LINKERD2_PROXY_INBOUND_PORTS")},
		{"proxy-additional-env", `[{"name": "MINE", "value": "x"}]`, "x", inEnv("MINE")},
	} {
		t.Run(test.annotation, func(t *testing.T) {
			t.Parallel()
			pod := testPod(map[string]string{injectAnnotation: enabled, configPrefix + test.annotation: test.value})
			inject(t, config, testNamespace(nil), Owner{}, pod)
			got := test.got(find(t, pod.Spec.InitContainers, proxyContainer), find(t, pod.Spec.InitContainers, "linkerd-init"))
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// What cannot be read is ignored: the pod is what it would be without it.
func TestUnreadableAnnotationsAreIgnored(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	plain := testPod(map[string]string{injectAnnotation: enabled})
	inject(t, config, testNamespace(nil), Owner{}, plain)
	for annotation, value := range map[string]string{
		"proxy-cpu-limit":                "lots",
		"proxy-memory-request":           "20 megabytes",
		"proxy-cpu-ratio-limit":          "1.5",
		"admin-port":                     "admin",
		"proxy-uid":                      "root",
		"proxy-await":                    "true",
		"proxy-enable-native-sidecar":    "enabled",
		"proxy-outbound-connect-timeout": "10",
		"close-wait-timeout":             "soon",
		"default-inbound-policy":         "allow",
		"access-log":                     "xml",
		"proxy-additional-env":           "MINE=x",
		"enable-external-profiles":       "yes, please",
		"shutdown-grace-period":          "ten",
	} {
		t.Run(annotation, func(t *testing.T) {
			t.Parallel()
			pod := testPod(map[string]string{injectAnnotation: enabled, configPrefix + annotation: value})
			result, err := Inject(config, testNamespace(nil), Owner{}, pod)
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Warnings) == 0 || !strings.Contains(result.Warnings[0], configPrefix+annotation) {
				t.Errorf("warnings %v", result.Warnings)
			}
			if diff := cmp.Diff(plain.Spec, pod.Spec); diff != "" {
				t.Errorf("pod spec (-want +got):\n%s", diff)
			}
		})
	}
}

// Only an ordinary container can wait before it ends.
func TestWaitBeforeExit(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	for native, want := range map[string][]string{"true": nil, "false": {"/bin/sleep", "5"}} {
		pod := testPod(map[string]string{
			injectAnnotation: enabled, configPrefix + "proxy-enable-native-sidecar": native,
			configAlphaPrefix + "proxy-wait-before-exit-seconds": "5",
		})
		inject(t, config, testNamespace(nil), Owner{}, pod)
		var got []string
		if lifecycle := find(t, allContainers(pod), proxyContainer).Lifecycle; lifecycle != nil {
			got = lifecycle.PreStop.Exec.Command
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("native %s (-want +got):\n%s", native, diff)
		}
	}
}

// Debug containers have settings of their own.
func TestDebugContainer(t *testing.T) {
	t.Parallel()
	pod := testPod(map[string]string{
		injectAnnotation: enabled, debugAnnotation: "true",
		configPrefix + "debug-image":             "acr.io/debug",
		configPrefix + "debug-image-version":     "v1",
		configPrefix + "debug-image-pull-policy": "Always",
	})
	inject(t, installed(t, newest, nil), testNamespace(nil), Owner{}, pod)
	debug := find(t, pod.Spec.Containers, "linkerd-debug")
	if debug.Image != "acr.io/debug:v1" || debug.ImagePullPolicy != corev1.PullAlways {
		t.Errorf("container %+v", debug)
	}
}

// Trace labels are for proxies that trace at all.
func TestTraceLabels(t *testing.T) {
	t.Parallel()
	const annotation = "resource.opentelemetry.io/deployment.environment.name"
	tracing := map[string]any{"proxy": map[string]any{"tracing": map[string]any{
		"enabled": true,
		"collector": map[string]any{
			"endpoint":     "collector.tracing:4317",
			"meshIdentity": map[string]any{"serviceAccountName": "collector", "namespace": "tracing"},
		},
	}}}
	pod := testPod(map[string]string{injectAnnotation: enabled, annotation: "production"})
	inject(t, installed(t, newest, tracing), testNamespace(nil), Owner{}, pod)
	proxy := find(t, pod.Spec.InitContainers, proxyContainer)
	if got := env(proxy, "LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES"); !strings.Contains(got, "deployment.environment.name=production\n") {
		t.Errorf("trace attributes %q", got)
	}
	if got := env(proxy, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME"); got != "collector.tracing.serviceaccount.identity.linkerd.cluster.local" {
		t.Errorf("trace collector %q", got)
	}
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "linkerd-podinfo" && v.DownwardAPI != nil }) {
		t.Errorf("volumes %v", pod.Spec.Volumes)
	}
}

// Without a token of its own the proxy uses that of the pod.
func TestProxyUsesTheTokenOfThePod(t *testing.T) {
	t.Parallel()
	pod := testPod(map[string]string{injectAnnotation: enabled})
	config := installed(t, newest, map[string]any{"identity": map[string]any{"serviceAccountTokenProjection": false}})
	inject(t, config, testNamespace(nil), Owner{}, pod)
	proxy := find(t, pod.Spec.InitContainers, proxyContainer)
	if got := env(proxy, "LINKERD2_PROXY_IDENTITY_TOKEN_FILE"); got != serviceAccountMount+"/token" {
		t.Errorf("token file %q", got)
	}
	if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "linkerd-identity-token" }) {
		t.Errorf("volumes %v", pod.Spec.Volumes)
	}
}

// Environments add up, and the pod has the last word.
func TestAdditionalEnvironment(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, map[string]any{"proxy": map[string]any{"additionalEnv": []any{
		map[string]any{"name": "A", "value": "values"}, map[string]any{"name": "B", "value": "values"},
	}}})
	pod := testPod(map[string]string{additionalEnvAnnotation: `[{"name": "C", "value": "pod"}]`})
	inject(t, config, testNamespace(map[string]string{
		injectAnnotation:        enabled,
		additionalEnvAnnotation: `[{"name": "B", "value": "namespace"}, {"name": "C", "value": "namespace"}]`,
	}), Owner{}, pod)
	proxy := find(t, pod.Spec.InitContainers, proxyContainer)
	got := map[string]string{"A": env(proxy, "A"), "B": env(proxy, "B"), "C": env(proxy, "C")}
	if diff := cmp.Diff(map[string]string{"A": "values", "B": "namespace", "C": "pod"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestOpaquePorts(t *testing.T) {
	t.Parallel()
	config := installed(t, newest, nil)
	for _, test := range []struct {
		name           string
		namespace, own map[string]string
		port           int32
		want           string
	}{
		{name: "default port", port: 6379, want: "6379"},
		{name: "other port", port: 8080, want: ""},
		{name: "from the namespace", namespace: map[string]string{opaquePortsAnnotation: "27017"}, port: 6379, want: "27017"},
		{name: "own", namespace: map[string]string{opaquePortsAnnotation: "27017"}, own: map[string]string{opaquePortsAnnotation: "1"}, port: 6379, want: "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			service := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(test.own)},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: test.port}}},
			}
			InjectService(config, testNamespace(test.namespace), service)
			if got := service.Annotations[opaquePortsAnnotation]; got != test.want {
				t.Errorf("Service has opaque ports %q, want %q", got, test.want)
			}
			for _, mode := range []string{enabled, disabled} {
				pod := testPod(merge(test.own, map[string]string{injectAnnotation: mode}))
				pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: test.port}}
				if _, err := Inject(config, testNamespace(test.namespace), Owner{}, pod); err != nil {
					t.Fatal(err)
				}
				if got := pod.Annotations[opaquePortsAnnotation]; got != test.want {
					t.Errorf("Pod with injection %s has opaque ports %q, want %q", mode, got, test.want)
				}
			}
		})
	}
}

func merge(layers ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, layer := range layers {
		maps.Copy(all, layer)
	}
	return all
}

// The chart gives the control plane the proxy that the injector gives others.
func TestInjectedProxyIsThatOfTheChart(t *testing.T) {
	t.Parallel()
	values := merged(anchored(), pinned())
	injector := &corev1.Pod{Spec: podSpec(t, newest, "linkerd-proxy-injector", values)}
	own := find(t, injector.Spec.InitContainers, proxyContainer)
	pod := testPod(map[string]string{injectAnnotation: enabled})
	inject(t, installed(t, newest, nil), testNamespace(nil), Owner{}, pod)
	added := find(t, pod.Spec.InitContainers, proxyContainer)
	if diff := cmp.Diff(own, added, cmpopts.IgnoreFields(corev1.Container{}, "Env")); diff != "" {
		t.Errorf("proxies (-chart +injector):\n%s", diff)
	}
	for i, variable := range own.Env {
		switch name := variable.Name; name {
		case "LINKERD2_PROXY_INBOUND_PORTS", "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS":
		default:
			if diff := cmp.Diff(variable, added.Env[i]); diff != "" {
				t.Errorf("%s (-chart +injector):\n%s", name, diff)
			}
		}
	}
}

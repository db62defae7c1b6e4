package linkerd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
)

const newest = "2026.8.3"

// packaged packages the charts once for all tests.
var packaged = sync.OnceValues(Charts)

// load opens a packaged chart.
func load(t *testing.T, name, version string) *chart.Chart {
	t.Helper()
	archives, err := packaged()
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range archives {
		if archive.Name == name && archive.Version == version {
			c, err := loader.LoadArchive(bytes.NewReader(archive.Data))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	t.Fatalf("no chart %s %s", name, version)
	return nil
}

// install renders a chart as Helm does for a first installation.
func install(t *testing.T, c *chart.Chart, values map[string]any) (string, error) {
	t.Helper()
	i := action.NewInstall(&action.Configuration{})
	i.DryRun, i.ClientOnly, i.ReleaseName, i.Namespace = true, true, c.Name(), "linkerd"
	i.KubeVersion = &chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	release, err := i.Run(c, values)
	if err != nil {
		return "", err
	}
	return release.Manifest, nil
}

// objects reads the objects of a manifest by kind and name.
func objects(t *testing.T, manifest string) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for document := range strings.SplitSeq(manifest, "\n---") {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(o.Object) > 0 {
			found[o.GetKind()+"/"+o.GetName()] = &o
		}
	}
	return found
}

// renderObjects renders the objects of a chart that must install.
func renderObjects(t *testing.T, name, version string, values map[string]any) map[string]*unstructured.Unstructured {
	t.Helper()
	manifest, err := install(t, load(t, name, version), values)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, manifest)
}

// object reads one object into its Go type.
func object[T any](t *testing.T, all map[string]*unstructured.Unstructured, name string) *T {
	t.Helper()
	found, ok := all[name]
	if !ok {
		t.Fatalf("%s is not rendered, only %v", name, slices.Sorted(maps.Keys(all)))
	}
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(found.Object, into, true); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return into
}

// merged lays values over each other, the last on top.
func merged(layers ...map[string]any) map[string]any {
	all := map[string]any{}
	for _, layer := range layers {
		all = chartutil.MergeTables(runtime.DeepCopyJSON(layer), all)
	}
	return all
}

// anchored are the least values with which the control plane installs: an
// issuer that somebody else keeps.
func anchored() map[string]any {
	return map[string]any{
		"identityTrustAnchorsPEM": "-----BEGIN CERTIFICATE-----\nanchor\n-----END CERTIFICATE-----\n",
		"identity":                map[string]any{"issuer": map[string]any{"scheme": kubernetesScheme}},
	}
}

// pinned fixes all that is otherwise made anew on each render.
func pinned() map[string]any {
	pair := map[string]any{"crtPEM": "certificate", "keyPEM": "key", "caBundle": "authority"}
	return map[string]any{
		"proxyInjector": pair, "profileValidator": pair, "policyValidator": pair,
		"heartbeatSchedule": "0 0 * * *",
	}
}

func TestControlPlaneRendersTheObjectsOfLinkerd(t *testing.T) {
	t.Parallel()
	standard := []string{
		"ClusterRole/linkerd-heartbeat", "ClusterRole/linkerd-linkerd-destination", "ClusterRole/linkerd-linkerd-identity",
		"ClusterRole/linkerd-linkerd-proxy-injector", "ClusterRole/linkerd-policy",
		"ClusterRoleBinding/linkerd-destination-policy", "ClusterRoleBinding/linkerd-heartbeat",
		"ClusterRoleBinding/linkerd-linkerd-destination", "ClusterRoleBinding/linkerd-linkerd-identity",
		"ClusterRoleBinding/linkerd-linkerd-proxy-injector",
		"ConfigMap/linkerd-config", "ConfigMap/linkerd-identity-trust-roots",
		"CronJob/linkerd-heartbeat",
		"Deployment/linkerd-destination", "Deployment/linkerd-identity", "Deployment/linkerd-proxy-injector",
		"MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config",
		"Role/ext-namespace-metadata-linkerd-config", "Role/linkerd-heartbeat", "Role/remote-discovery",
		"RoleBinding/linkerd-destination-remote-discovery", "RoleBinding/linkerd-heartbeat",
		"Secret/linkerd-policy-validator-k8s-tls", "Secret/linkerd-proxy-injector-k8s-tls", "Secret/linkerd-sp-validator-k8s-tls",
		"Service/linkerd-dst", "Service/linkerd-dst-headless", "Service/linkerd-identity", "Service/linkerd-identity-headless",
		"Service/linkerd-policy", "Service/linkerd-policy-validator", "Service/linkerd-proxy-injector", "Service/linkerd-sp-validator",
		"ServiceAccount/linkerd-destination", "ServiceAccount/linkerd-heartbeat", "ServiceAccount/linkerd-identity",
		"ServiceAccount/linkerd-proxy-injector",
		"ValidatingWebhookConfiguration/linkerd-policy-validator-webhook-config",
		"ValidatingWebhookConfiguration/linkerd-sp-validator-webhook-config",
	}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(standard), func(n string) bool { return slices.Contains(names, n) })
	}
	issuer := newAuthority(t, "identity.linkerd.cluster.local", nil, true)
	for _, test := range []struct {
		name   string
		values map[string]any
		want   []string
	}{
		{name: "issuer kept elsewhere", values: anchored(), want: standard},
		{
			name: "issuer in the values",
			values: map[string]any{
				"identityTrustAnchorsPEM": issuer.certificatePEM(),
				"identity": map[string]any{"issuer": map[string]any{"tls": map[string]any{
					"crtPEM": issuer.certificatePEM(), "keyPEM": issuer.keyPEM(t, sec1Type),
				}}},
			},
			want: append(without(), "Secret/linkerd-identity-issuer"),
		},
		{
			name: "trust roots kept elsewhere",
			values: map[string]any{"identity": map[string]any{
				"externalCA": true, "issuer": map[string]any{"scheme": kubernetesScheme},
			}},
			want: without("ConfigMap/linkerd-identity-trust-roots"),
		},
		{
			name:   "no heartbeat",
			values: merged(anchored(), map[string]any{"disableHeartBeat": true}),
			want: without("ClusterRole/linkerd-heartbeat", "ClusterRoleBinding/linkerd-heartbeat", "CronJob/linkerd-heartbeat",
				"Role/linkerd-heartbeat", "RoleBinding/linkerd-heartbeat", "ServiceAccount/linkerd-heartbeat"),
		},
		{
			name: "webhook certificates kept elsewhere",
			values: merged(anchored(), map[string]any{
				"proxyInjector":    map[string]any{"externalSecret": true, "caBundle": "authority"},
				"profileValidator": map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/sp"},
				"policyValidator":  map[string]any{"externalSecret": true, "injectCaFromSecret": "linkerd/policy"},
			}),
			want: without("Secret/linkerd-policy-validator-k8s-tls", "Secret/linkerd-proxy-injector-k8s-tls", "Secret/linkerd-sp-validator-k8s-tls"),
		},
		{
			name:   "disruption budgets",
			values: merged(anchored(), map[string]any{"enablePodDisruptionBudget": true}),
			want: append(without(), "PodDisruptionBudget/linkerd-dst", "PodDisruptionBudget/linkerd-identity",
				"PodDisruptionBudget/linkerd-proxy-injector"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := slices.Sorted(maps.Keys(renderObjects(t, ControlPlaneChart, newest, test.values)))
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRendersDifferByWhatIsMadeAnew(t *testing.T) {
	t.Parallel()
	c := load(t, ControlPlaneChart, newest)
	render := func(values map[string]any) string {
		manifest, err := install(t, c, values)
		if err != nil {
			t.Fatal(err)
		}
		return manifest
	}
	fixed := merged(anchored(), pinned())
	if first, second := render(fixed), render(fixed); first != second {
		t.Errorf("pinned renders differ:\n%s", cmp.Diff(first, second))
	}

	random := merged(anchored(), map[string]any{"heartbeatSchedule": "0 0 * * *"})
	first, second := objects(t, render(random)), objects(t, render(random))
	var changed []string
	for name := range first {
		if !cmp.Equal(first[name], second[name]) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	want := []string{
		"Deployment/linkerd-destination", "Deployment/linkerd-proxy-injector",
		"MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config",
		"Secret/linkerd-policy-validator-k8s-tls", "Secret/linkerd-proxy-injector-k8s-tls", "Secret/linkerd-sp-validator-k8s-tls",
		"ValidatingWebhookConfiguration/linkerd-policy-validator-webhook-config",
		"ValidatingWebhookConfiguration/linkerd-sp-validator-webhook-config",
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("objects that differ between renders (-want +got):\n%s", diff)
	}
	for _, name := range []string{"linkerd-destination", "linkerd-proxy-injector"} {
		before := object[appsv1.Deployment](t, first, "Deployment/"+name).Spec.Template
		after := object[appsv1.Deployment](t, second, "Deployment/"+name).Spec.Template
		delete(before.Annotations, "checksum/config")
		delete(after.Annotations, "checksum/config")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("pods of %s differ by more than their checksum:\n%s", name, diff)
		}
	}
}

// An issuer that changes alone must not restart anything: it is reloaded.
func TestIssuerChangesAlone(t *testing.T) {
	t.Parallel()
	values := func(issuer *authority) map[string]any {
		return merged(anchored(), pinned(), map[string]any{"identity": map[string]any{"issuer": map[string]any{
			"scheme": linkerdScheme,
			"tls":    map[string]any{"crtPEM": issuer.certificatePEM(), "keyPEM": issuer.keyPEM(t, pkcs8Type)},
		}}})
	}
	first := renderObjects(t, ControlPlaneChart, newest, values(newAuthority(t, "a", nil, true)))
	second := renderObjects(t, ControlPlaneChart, newest, values(newAuthority(t, "b", nil, true)))
	for name := range first {
		same := cmp.Equal(first[name], second[name])
		if changes := name == "Secret/linkerd-identity-issuer" || name == "ConfigMap/linkerd-config"; same == changes {
			t.Errorf("%s: same = %t", name, same)
		}
	}
}

func TestControlPlaneRefusesValues(t *testing.T) {
	t.Parallel()
	c := load(t, ControlPlaneChart, newest)
	issuer := func(tls map[string]any) map[string]any {
		return map[string]any{
			"identityTrustAnchorsPEM": "anchors",
			"identity":                map[string]any{"issuer": map[string]any{"tls": tls}},
		}
	}
	for _, test := range []struct {
		name   string
		values map[string]any
		want   string
	}{
		{"nothing", nil, "Please provide the identity"},
		{"no anchors", merged(anchored(), map[string]any{"identityTrustAnchorsPEM": ""}), "Please provide the identity trust anchors"},
		{"no issuer certificate", issuer(map[string]any{"keyPEM": "key"}), "Please provide the identity issuer certificate"},
		{"no issuer key", issuer(map[string]any{"crtPEM": "certificate"}), "Please provide the identity issuer private key"},
		{
			"external secret without authority",
			merged(anchored(), map[string]any{"policyValidator": map[string]any{"externalSecret": true}}),
			"if externalSecret is set, then caBundle",
		},
		{
			"two sources of an authority",
			merged(anchored(), map[string]any{"proxyInjector": map[string]any{"injectCaFrom": "a", "injectCaFromSecret": "b"}}),
			"cannot both be set",
		},
		{
			"injected authority and a bundle",
			merged(anchored(), map[string]any{"proxyInjector": map[string]any{"injectCaFrom": "a", "caBundle": "b"}}),
			"cannot be set if providing a caBundle",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := install(t, c, test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestConfigHoldsValuesWithoutKeys(t *testing.T) {
	t.Parallel()
	secret := "do-not-publish"
	values := merged(anchored(), pinned(), map[string]any{
		"proxyInjector":    map[string]any{"keyPEM": secret},
		"profileValidator": map[string]any{"keyPEM": secret},
		"policyValidator":  map[string]any{"keyPEM": secret},
		"identity": map[string]any{"issuer": map[string]any{
			"scheme": linkerdScheme, "tls": map[string]any{"crtPEM": "certificate", "keyPEM": secret},
		}},
		"clusterDomain": "example.org",
	})
	config := object[corev1.ConfigMap](t, renderObjects(t, ControlPlaneChart, newest, values), "ConfigMap/linkerd-config")
	if strings.Contains(config.Data["values"], secret) || strings.Contains(config.Data["values"], "keyPEM") {
		t.Error("linkerd-config holds private keys")
	}
	var got map[string]any
	if err := yaml.Unmarshal([]byte(config.Data["values"]), &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"clusterDomain":                "example.org",
		"linkerdVersion":               "edge-26.8.3",
		"identityTrustAnchorsPEM":      anchored()["identityTrustAnchorsPEM"],
		"identity.issuer.tls.crtPEM":   "certificate",
		"proxy.nativeSidecar":          true,
		"proxy.ports.inbound":          float64(4143),
		"proxy.outboundTransportMode":  "transport-header",
		"proxyInit.ignoreInboundPorts": "4567,4568",
	} {
		value, _, err := unstructured.NestedFieldNoCopy(got, strings.Split(path, ".")...)
		if err != nil || value != want {
			t.Errorf("value %s is %v (%v), want %v", path, value, err, want)
		}
	}
}

// The hash on the control plane is of the value as given, the ConfigMap holds
// it trimmed: the two may differ by a newline.
func TestTrustRoots(t *testing.T) {
	t.Parallel()
	values := anchored()
	bundle, _ := values["identityTrustAnchorsPEM"].(string)
	all := renderObjects(t, ControlPlaneChart, newest, values)
	if got := object[corev1.ConfigMap](t, all, "ConfigMap/linkerd-identity-trust-roots").Data["ca-bundle.crt"]; got != strings.TrimSpace(bundle) {
		t.Errorf("trust roots are %q", got)
	}
	sum := sha256.Sum256([]byte(bundle))
	for _, name := range []string{"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"} {
		pod := object[appsv1.Deployment](t, all, "Deployment/"+name).Spec.Template
		if got, want := pod.Annotations[trustRootAnnotation], hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has hash %s, want %s", name, got, want)
		}
	}
}

func TestControlPlaneCarriesItsProxies(t *testing.T) {
	t.Parallel()
	names := func(containers []corev1.Container) []string {
		var all []string
		for _, c := range containers {
			all = append(all, c.Name)
		}
		return all
	}
	for _, test := range []struct {
		version, deployment string
		init, containers    []string
	}{
		{newest, "linkerd-identity", []string{"linkerd-init"}, []string{"identity", "linkerd-proxy"}},
		{newest, "linkerd-destination", []string{"linkerd-init", "linkerd-proxy"}, []string{"destination", "sp-validator", "policy"}},
		{newest, "linkerd-proxy-injector", []string{"linkerd-init", "linkerd-proxy"}, []string{"proxy-injector"}},
		{"2024.11.8", "linkerd-identity", []string{"linkerd-init"}, []string{"identity", "linkerd-proxy"}},
		{"2024.11.8", "linkerd-proxy-injector", []string{"linkerd-init"}, []string{"linkerd-proxy", "proxy-injector"}},
	} {
		t.Run(test.version+" "+test.deployment, func(t *testing.T) {
			t.Parallel()
			d := object[appsv1.Deployment](t, renderObjects(t, ControlPlaneChart, test.version, merged(anchored(), pinned())), "Deployment/"+test.deployment)
			spec := d.Spec.Template.Spec
			if diff := cmp.Diff(test.init, names(spec.InitContainers)); diff != "" {
				t.Errorf("init containers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.containers, names(spec.Containers)); diff != "" {
				t.Errorf("containers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReleasesDiffer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version, app, kubernetes, transport, initImage, policyImage string
	}{
		{"2024.11.8", "edge-24.11.8", ">=1.22.0-0", "", "cr.l5d.io/linkerd/proxy-init:v2.4.1", "cr.l5d.io/linkerd/policy-controller:edge-24.11.8"},
		{"2025.4.4", "edge-25.4.4", ">=1.23.0-0", "transport-header", "cr.l5d.io/linkerd/proxy-init:v2.4.2", "cr.l5d.io/linkerd/policy-controller:edge-25.4.4"},
		{"2025.10.7", "edge-25.10.7", ">=1.23.0-0", "transport-header", "cr.l5d.io/linkerd/proxy-init:v2.4.3", "cr.l5d.io/linkerd/controller:edge-25.10.7"},
		{"2026.6.3", "edge-26.6.3", ">=1.31.0-0", "transport-header", "cr.l5d.io/linkerd/proxy:edge-26.6.3", "cr.l5d.io/linkerd/controller:edge-26.6.3"},
		{newest, "edge-26.8.3", ">=1.31.0-0", "transport-header", "cr.l5d.io/linkerd/proxy:edge-26.8.3", "cr.l5d.io/linkerd/controller:edge-26.8.3"},
	} {
		t.Run(test.version, func(t *testing.T) {
			t.Parallel()
			c := load(t, ControlPlaneChart, test.version)
			if c.Metadata.AppVersion != test.app || c.Metadata.KubeVersion != test.kubernetes {
				t.Errorf("chart of %s for Kubernetes %s", c.Metadata.AppVersion, c.Metadata.KubeVersion)
			}
			if crds := load(t, CRDsChart, test.version); crds.Metadata.AppVersion != "" || crds.Metadata.KubeVersion != test.kubernetes {
				t.Errorf("CRDs of %q for Kubernetes %s", crds.Metadata.AppVersion, crds.Metadata.KubeVersion)
			}
			manifest, err := install(t, c, merged(anchored(), pinned()))
			if err != nil {
				t.Fatal(err)
			}
			spec := object[appsv1.Deployment](t, objects(t, manifest), "Deployment/linkerd-destination").Spec.Template.Spec
			pod := &corev1.Pod{Spec: spec}
			if got := argument(podenv.Container(pod, "destination"), "outbound-transport-mode", ""); got != test.transport {
				t.Errorf("transport mode %q, want %q", got, test.transport)
			}
			if got := spec.InitContainers[0].Image; got != test.initImage {
				t.Errorf("init image %s, want %s", got, test.initImage)
			}
			if got := podenv.Container(pod, "policy").Image; got != test.policyImage {
				t.Errorf("policy image %s, want %s", got, test.policyImage)
			}
		})
	}
}

func TestChartNeedsKubernetes(t *testing.T) {
	t.Parallel()
	i := action.NewInstall(&action.Configuration{})
	i.DryRun, i.ClientOnly, i.ReleaseName, i.Namespace = true, true, CRDsChart, "linkerd"
	i.KubeVersion = &chartutil.KubeVersion{Version: "v1.30.9", Major: "1", Minor: "30"}
	if _, err := i.Run(load(t, CRDsChart, newest), nil); err == nil || !strings.Contains(err.Error(), "1.31.0-0") {
		t.Errorf("on Kubernetes 1.30: %v", err)
	}
}

func TestHighAvailability(t *testing.T) {
	t.Parallel()
	c := load(t, ControlPlaneChart, newest)
	i := slices.IndexFunc(c.Raw, func(f *chart.File) bool { return f.Name == "values-ha.yaml" })
	if i < 0 {
		t.Fatal("chart has no values-ha.yaml")
	}
	var ha map[string]any
	if err := yaml.Unmarshal(c.Raw[i].Data, &ha); err != nil {
		t.Fatal(err)
	}
	all := renderObjects(t, ControlPlaneChart, newest, merged(anchored(), pinned(), ha))
	d := object[appsv1.Deployment](t, all, "Deployment/linkerd-destination")
	if *d.Spec.Replicas != 3 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%d replicas, strategy %v", *d.Spec.Replicas, d.Spec.Strategy)
	}
	spec := d.Spec.Template.Spec
	required := spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if len(required) != 1 || required[0].TopologyKey != corev1.LabelHostname {
		t.Errorf("anti-affinity %v", required)
	}
	proxy := spec.InitContainers[1].Resources
	if proxy.Requests.Cpu().String() != "100m" || proxy.Limits.Memory().String() != "250Mi" {
		t.Errorf("proxy resources %v", proxy)
	}
	if got := spec.Containers[0].Resources.Requests.Memory().String(); got != "50Mi" {
		t.Errorf("destination requests %s", got)
	}
	policy, _, err := unstructured.NestedSlice(all["MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config"].Object, "webhooks")
	if err != nil || len(policy) != 1 {
		t.Fatalf("webhooks %v: %v", policy, err)
	}
	if webhook, ok := policy[0].(map[string]any); !ok || webhook["failurePolicy"] != "Fail" {
		t.Errorf("webhook %v", policy[0])
	}
}

// Helm never makes or labels the namespace, whatever --create-namespace does.
func TestNamespaceIsTheCommandLines(t *testing.T) {
	t.Parallel()
	c := load(t, ControlPlaneChart, newest)
	render := func(service string) string {
		values, err := chartutil.CoalesceValues(c, merged(anchored(), pinned()))
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := engine.Render(c, chartutil.Values{
			"Values": values, "Chart": c.Metadata,
			"Release": map[string]any{"Name": "linkerd", "Namespace": "linkerd", "Service": service},
		})
		if err != nil {
			t.Fatal(err)
		}
		return rendered[ControlPlaneChart+"/templates/namespace.yaml"]
	}
	if got := render("Helm"); strings.TrimSpace(got) != "" {
		t.Errorf("Helm renders %s", got)
	}
	namespace := object[corev1.Namespace](t, objects(t, render("CLI")), "Namespace/linkerd")
	if namespace.Labels["config.linkerd.io/admission-webhooks"] != disabled || namespace.Annotations[injectAnnotation] != disabled {
		t.Errorf("namespace %v", namespace.ObjectMeta)
	}
}

func TestCommonLabelsReachWebhookConfigurations(t *testing.T) {
	t.Parallel()
	values := merged(anchored(), pinned(), map[string]any{"commonLabels": map[string]any{"admissions.enforcer/disabled": "true"}})
	all := renderObjects(t, ControlPlaneChart, newest, values)
	for name, o := range all {
		if o.GetLabels()["admissions.enforcer/disabled"] != "true" {
			t.Errorf("%s lacks the common label", name)
		}
	}
}

func TestCRDs(t *testing.T) {
	t.Parallel()
	// Names with their served versions; the one that is stored has a star.
	standard := map[string]string{
		"authorizationpolicies.policy.linkerd.io":      "v1alpha1*",
		"egressnetworks.policy.linkerd.io":             "v1alpha1*",
		"externalworkloads.workload.linkerd.io":        "v1alpha1 v1beta1*",
		"httplocalratelimitpolicies.policy.linkerd.io": "v1alpha1*",
		"httproutes.policy.linkerd.io":                 "v1alpha1 v1beta1 v1beta2 v1beta3*",
		"meshtlsauthentications.policy.linkerd.io":     "v1alpha1*",
		"networkauthentications.policy.linkerd.io":     "v1alpha1*",
		"serverauthorizations.policy.linkerd.io":       "v1alpha1 v1beta1*",
		"servers.policy.linkerd.io":                    "v1alpha1 v1beta1 v1beta2 v1beta3*",
		"serviceprofiles.linkerd.io":                   "v1alpha1 v1alpha2*",
	}
	gateway := map[string]string{
		"httproutes.gateway.networking.k8s.io": "v1* v1beta1",
		"grpcroutes.gateway.networking.k8s.io": "v1*",
		"tlsroutes.gateway.networking.k8s.io":  "v1alpha2*",
		"tcproutes.gateway.networking.k8s.io":  "v1alpha2*",
	}
	withGateway := maps.Clone(standard)
	maps.Copy(withGateway, gateway)
	withOld := maps.Clone(withGateway)
	withOld["grpcroutes.gateway.networking.k8s.io"] = "v1alpha2*"
	withHTTP := maps.Clone(withGateway)
	delete(withHTTP, "tlsroutes.gateway.networking.k8s.io")
	delete(withHTTP, "tcproutes.gateway.networking.k8s.io")
	for _, test := range []struct {
		name, version string
		values        map[string]any
		want          map[string]string
		keep          string
	}{
		{name: "default", version: newest, want: standard},
		{name: "gateway", version: newest, values: map[string]any{"installGatewayAPI": true}, want: withGateway, keep: "keep"},
		{name: "one gateway type", version: newest, values: map[string]any{"enableHttpRoutes": true}, want: withHTTP},
		{name: "old default", version: "2024.11.8", want: withOld},
		{name: "default of 2.18", version: "2025.4.4", want: withGateway, keep: "keep"},
		{name: "default of 2.19", version: "2025.10.7", want: standard},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			for name, o := range renderObjects(t, CRDsChart, test.version, test.values) {
				crd := object[apiextensionsv1.CustomResourceDefinition](t, map[string]*unstructured.Unstructured{name: o}, name)
				valid(t, crd)
				var versions []string
				for _, v := range crd.Spec.Versions {
					if v.Storage {
						v.Name += "*"
					}
					versions = append(versions, v.Name)
				}
				got[crd.Name] = strings.Join(versions, " ")
				if _, ok := gateway[crd.Name]; ok && crd.Annotations["helm.sh/resource-policy"] != test.keep {
					t.Errorf("%s has resource policy %q", crd.Name, crd.Annotations["helm.sh/resource-policy"])
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("CRDs (-want +got):\n%s", diff)
			}
		})
	}
}

// valid checks a CRD as the API server would.
func valid(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	scheme := runtime.NewScheme()
	apiextensionsinstall.Install(scheme)
	crd = crd.DeepCopy()
	scheme.Default(crd)
	var internal apiextensions.CustomResourceDefinition
	if err := scheme.Convert(crd, &internal, nil); err != nil {
		t.Fatal(err)
	}
	for _, v := range crd.Spec.Versions {
		if v.Storage {
			internal.Status.StoredVersions = []string{v.Name}
		}
	}
	for _, err := range apiextensionsvalidation.ValidateCustomResourceDefinition(t.Context(), &internal) {
		t.Errorf("%s: %v", crd.Name, err)
	}
}

// A certificate that the values do not hold is made anew on every render, and
// restarts what serves it.
func TestVizPinsItsCertificates(t *testing.T) {
	t.Parallel()
	pair := map[string]any{"externalSecret": true, "caBundle": "authority"}
	for _, test := range []struct {
		name         string
		values       map[string]any
		changed, own []string
	}{
		{
			name: "made anew",
			changed: []string{
				"APIService/v1alpha1.tap.linkerd.io", "Deployment/tap", "Deployment/tap-injector",
				"MutatingWebhookConfiguration/linkerd-tap-injector-webhook-config", "Secret/tap-injector-k8s-tls", "Secret/tap-k8s-tls",
			},
			own: []string{"Secret/tap-injector-k8s-tls", "Secret/tap-k8s-tls"},
		},
		{name: "kept elsewhere", values: map[string]any{"tap": pair, "tapInjector": pair}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first := renderObjects(t, VizChart, newest, test.values)
			second := renderObjects(t, VizChart, newest, test.values)
			var changed, secrets []string
			for name := range first {
				if !cmp.Equal(first[name], second[name]) {
					changed = append(changed, name)
				}
				if first[name].GetKind() == "Secret" {
					secrets = append(secrets, name)
				}
			}
			slices.Sort(changed)
			slices.Sort(secrets)
			if diff := cmp.Diff(test.changed, changed); diff != "" {
				t.Errorf("objects that differ between renders (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.own, secrets); diff != "" {
				t.Errorf("Secrets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCNIPlugin(t *testing.T) {
	t.Parallel()
	all := renderObjects(t, CNIChart, newest, map[string]any{
		"ignoreOutboundPorts": "25,443",
		"repairController":    map[string]any{"enabled": true},
	})
	if got, want := len(all), 5; got != want {
		t.Errorf("%d objects, want %d: %v", got, want, slices.Sorted(maps.Keys(all)))
	}
	spec := object[appsv1.DaemonSet](t, all, "DaemonSet/linkerd-cni").Spec.Template.Spec
	if len(spec.Containers) != 2 || spec.Containers[1].Name != "repair-controller" {
		t.Errorf("containers are %v", spec.Containers)
	}
	var config struct {
		Linkerd map[string]any `json:"linkerd"`
	}
	text := object[corev1.ConfigMap](t, all, "ConfigMap/linkerd-cni-config").Data["cni_network_config"]
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if diff := cmp.Diff([]any{"25", "443"}, config.Linkerd["outbound-ports-to-ignore"]); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

// TestExtensions renders what the other extensions install, with all that the
// values can add.
func TestExtensions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		chart, version string
		values         map[string]any
		want           []string
	}{
		{
			chart: MulticlusterChart, version: newest,
			values: map[string]any{"controllers": []any{map[string]any{"link": map[string]any{"ref": map[string]any{"name": "west"}}}}},
			want: []string{
				"ClusterRole/linkerd-local-service-mirror", "ClusterRole/linkerd-multicluster-controller-west",
				"ClusterRole/linkerd-service-mirror-remote-access-default",
				"ClusterRoleBinding/linkerd-local-service-mirror", "ClusterRoleBinding/linkerd-multicluster-controller-west",
				"ClusterRoleBinding/linkerd-service-mirror-remote-access-default",
				"CustomResourceDefinition/links.multicluster.linkerd.io",
				"Deployment/controller-west", "Deployment/linkerd-gateway", "Deployment/linkerd-local-service-mirror",
				"Role/controller-west", "Role/linkerd-local-service-mirror",
				"RoleBinding/controller-west", "RoleBinding/linkerd-local-service-mirror",
				"Secret/linkerd-service-mirror-remote-access-default-token",
				"Service/linkerd-gateway", "Service/probe-west",
				"ServiceAccount/controller-west", "ServiceAccount/linkerd-gateway", "ServiceAccount/linkerd-local-service-mirror",
				"ServiceAccount/linkerd-service-mirror-remote-access-default",
			},
		},
		{
			chart: JaegerChart, version: "2025.4.4",
			want: []string{
				"ClusterRole/linkerd-linkerd-jaeger-injector", "ClusterRoleBinding/linkerd-linkerd-jaeger-injector",
				"Deployment/collector", "Deployment/jaeger", "Deployment/jaeger-injector",
				"MutatingWebhookConfiguration/linkerd-jaeger-injector-webhook-config",
				"Secret/jaeger-injector-k8s-tls",
				"Service/collector", "Service/jaeger", "Service/jaeger-injector",
				"ServiceAccount/collector", "ServiceAccount/jaeger", "ServiceAccount/jaeger-injector",
			},
		},
	} {
		t.Run(test.chart, func(t *testing.T) {
			t.Parallel()
			all := renderObjects(t, test.chart, test.version, test.values)
			if diff := cmp.Diff(test.want, slices.Sorted(maps.Keys(all))); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			for name, o := range all {
				if o.GetLabels()["linkerd.io/extension"] != strings.TrimPrefix(test.chart, "linkerd-") {
					t.Errorf("%s is not labelled as of the extension", name)
				}
				if o.GetKind() == "Deployment" {
					object[appsv1.Deployment](t, all, name)
				}
			}
			if name := "CustomResourceDefinition/links.multicluster.linkerd.io"; all[name] != nil {
				valid(t, object[apiextensionsv1.CustomResourceDefinition](t, all, name))
			}
		})
	}
}

// Nobody may take these charts for Linkerd's own.
func TestEveryFileSaysWhatItStandsInFor(t *testing.T) {
	t.Parallel()
	err := fs.WalkDir(chartFiles, "charts", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(chartFiles, path)
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(string(data), "\n"); !strings.Contains(first, "Stands in for") {
			t.Errorf("%s begins with %q", path, first)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// podSpec is what the pods of a Deployment of the control plane are made from.
func podSpec(t *testing.T, version, deployment string, values map[string]any) corev1.PodSpec {
	t.Helper()
	all := renderObjects(t, ControlPlaneChart, version, values)
	return object[appsv1.Deployment](t, all, "Deployment/"+deployment).Spec.Template.Spec
}

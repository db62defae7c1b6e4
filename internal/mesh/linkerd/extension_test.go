package linkerd

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

func TestCheckExtensionVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, version string
		refused       bool
	}{
		{Jaeger, "2025.9.4", false},
		{Jaeger, "2025.10.1", true},
		{Jaeger, "2026.8.3", true},
		{Jaeger, "30.12.11", false}, // As charts were numbered until 2.14.
		{Viz, "2026.8.3", false},
		{Multicluster, "2026.8.3", false},
	} {
		err := CheckExtensionVersion(c.name, c.version)
		if (err != nil) != c.refused {
			t.Errorf("%s %s: %v", c.name, c.version, err)
		}
		if err != nil && !strings.Contains(err.Error(), "proxy.tracing") {
			t.Errorf("%s %s: the error does not name the successor: %v", c.name, c.version, err)
		}
	}
}

func TestCheckLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ extension, controlPlane, want string }{
		{"edge-26.8.3", "edge-26.8.3", ""},
		{"edge-26.8.3", "edge-26.9.1", ""}, // Both on the way to the next version.
		{"edge-25.4.4", "stable-2.18.1", ""},
		{"edge-26.8.3", "edge-26.6.3", `"2026.6.3"`},
		{"edge-25.4.4", "enterprise-2.19.0", "2.19"},
		{"edge-25.4.4", "dev-0123abcd", ""},
		{"", "edge-26.6.3", ""},
	} {
		err := checkLine(c.extension, c.controlPlane)
		var input *InputError
		switch {
		case c.want == "" && err != nil, c.want != "" && !errors.As(err, &input):
			t.Errorf("extension %s, control plane %s: %v", c.extension, c.controlPlane, err)
		case c.want != "" && (input.Input != "version" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("extension %s, control plane %s: %s: %v", c.extension, c.controlPlane, input.Input, err)
		}
	}
}

func TestExtensionImages(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	defaults := m{
		"defaultRegistry": "cr.l5d.io/linkerd",
		// Without a registry of their own, they are in the default one.
		"tap":        m{"image": m{"registry": "", "name": "tap"}, "replicas": 1},
		"metricsAPI": m{"image": m{"registry": nil, "name": "metrics-api"}},
		"prometheus": m{"image": m{"registry": "prom", "name": "prometheus", "tag": "v2"}},
		"webhook":    m{"image": m{"name": "cr.l5d.io/linkerd/jaeger-webhook", "version": "v1"}},
		"gateway":    m{"pauseImage": "registry.k8s.io/pause:3.2", "name": "linkerd-gateway"},
		"grafana":    m{"url": "grafana.grafana:3000"},
	}
	want := m{
		"defaultRegistry": "example.azurecr.io/mesh",
		"prometheus":      m{"image": m{"registry": "example.azurecr.io/mesh"}},
		"webhook":         m{"image": m{"name": "example.azurecr.io/mesh/jaeger-webhook"}},
		"gateway":         m{"pauseImage": "example.azurecr.io/mesh/pause:3.2"},
	}
	if got := extensionImages("example.azurecr.io/mesh/", defaults); !reflect.DeepEqual(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	if got := extensionImages("", defaults); len(got) > 0 {
		t.Errorf("values %v without a registry", got)
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	defaults := m{"clusterDomain": "cluster.local", "identityTrustDomain": ""}
	for _, c := range []struct{ defaults, controlPlane, want m }{
		{defaults, nil, m{}},
		{defaults, m{"clusterDomain": "cluster.local", "identityTrustDomain": ""}, m{}},
		{defaults, m{"clusterDomain": "a.b", "identityTrustDomain": ""}, m{"clusterDomain": "a.b", "identityTrustDomain": "a.b"}},
		{defaults, m{"clusterDomain": "cluster.local", "identityTrustDomain": "c.d"}, m{"identityTrustDomain": "c.d"}},
		// The chart of multicluster does not go by the cluster's domain.
		{m{"identityTrustDomain": "cluster.local"}, m{"clusterDomain": "a.b"}, m{"identityTrustDomain": "a.b"}},
		{m{}, m{"clusterDomain": "a.b"}, m{}},
	} {
		if got := domains(c.defaults, c.controlPlane); !maps.Equal(got, c.want) {
			t.Errorf("defaults %v, control plane %v: %v, want %v", c.defaults, c.controlPlane, got, c.want)
		}
	}
}

// extensionChartOf writes a chart and loads it.
func extensionChartOf(t *testing.T, files map[string]string) *helm.Chart {
	t.Helper()
	dir := t.TempDir()
	files["Chart.yaml"] = "apiVersion: v2\nname: linkerd-viz\nversion: 2026.8.3\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chart, err := helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()}).Load(t.Context(), helm.Source{Name: dir})
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func TestComposeExtension(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	chart := extensionChartOf(t, map[string]string{
		"values.yaml":    "createNamespaceMetadataJob: true\nlinkerdNamespace: linkerd\ntap: {replicas: 1}\ndefaultRegistry: a/b\n",
		"values-ha.yaml": "tap: {replicas: 3}\nenablePodAntiAffinity: true\n",
	})
	got, err := composeExtension(ExtensionSpecification{
		Name: Viz, LinkerdNamespace: "mesh", HighAvailability: true, Registry: "c/d",
		Values: m{"tap": m{"replicas": 5}, "defaultRegistry": "e/f"},
	}, chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The user's values come after the settings, and what the provider does last.
	want := m{
		"createNamespaceMetadataJob": false, "linkerdNamespace": "mesh", "tap": m{"replicas": 5},
		"enablePodAntiAffinity": true, "defaultRegistry": "e/f",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	_, err = composeExtension(ExtensionSpecification{Name: Jaeger, HighAvailability: true}, extensionChartOf(t, map[string]string{"values.yaml": "{}"}), nil)
	var input *InputError
	if !errors.As(err, &input) || input.Input != "high_availability" {
		t.Errorf("a chart without the overlay: %v", err)
	}
}

func TestCheckExtensionValues(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for _, c := range []struct {
		name   string
		values m
		want   string
	}{
		{Viz, m{"tap": m{"replicas": 2}}, ""},
		{Viz, m{"tap": m{"caBundle": "x"}}, "tap.caBundle"},
		{Viz, m{"tapInjector": m{"externalSecret": true}}, "tapInjector.externalSecret"},
		{Viz, m{"createNamespaceMetadataJob": true}, "createNamespaceMetadataJob"},
		{Viz, m{"webhook": m{"keyPEM": "x"}}, ""},
		{Jaeger, m{"webhook": m{"keyPEM": "x"}}, "webhook.keyPEM"},
		{Multicluster, m{"linkerdNamespace": "x"}, "linkerdNamespace"},
		{Multicluster, m{"enableNamespaceCreation": true}, "enableNamespaceCreation"},
	} {
		err := CheckExtensionValues(c.name, c.values)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v", c.name, c.values, err)
		}
	}
}

// TestCertificateValues keeps what Helm is told the same from one renewal to the
// next, as pods would be restarted otherwise.
func TestCertificateValues(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	server := vizServers("viz")[0]
	pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: server.dnsName(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	own := string(pki.NewBundle(pair.Certificate()).PEM())
	recorded := m{"tap": m{"externalSecret": true, "caBundle": "first"}}
	made := func() string { return "made" }
	kept := serving{server: server, now: time.Now(), secret: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, pair: pair}
	others := serving{server: server, renewedBy: "a controller", registered: server.registration.Object(), bundle: pki.NewBundle(pair.Certificate())}
	for name, c := range map[string]struct {
		found    serving
		recorded m
		made     func() string
		want     m
		foreseen bool
	}{
		"nothing is there":             {serving{server: server}, nil, made, m{"externalSecret": true, "caBundle": "made"}, true},
		"nothing is there, in a plan":  {serving{server: server}, nil, nil, m{"externalSecret": true, "caBundle": server.dnsName()}, false},
		"on record":                    {kept, recorded, made, m{"externalSecret": true, "caBundle": "first"}, true},
		"on record, the Secret gone":   {serving{server: server}, recorded, nil, m{"externalSecret": true, "caBundle": "first"}, true},
		"of a chart that made its own": {kept, m{"tap": m{"caBundle": "other"}}, nil, m{"externalSecret": true, "caBundle": own}, false},
		"newly of cert-manager":        {serving{server: server, renewedBy: "cert-manager"}, recorded, nil, m{"externalSecret": true}, false},
		"of cert-manager as before":    {serving{server: server, renewedBy: "cert-manager"}, m{"tap": m{"externalSecret": true}}, nil, m{"externalSecret": true}, true},
		"of a controller as before":    {others, recorded, nil, m{"externalSecret": true, "caBundle": "first"}, true},
	} {
		got, foreseen := c.found.certificateValues(c.recorded, c.made)
		if !maps.Equal(got, c.want) || foreseen != c.foreseen {
			t.Errorf("%s: %v %v, want %v %v", name, got, foreseen, c.want, c.foreseen)
		}
	}
}

package linkerd

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// The names of extensions, as their namespaces are labelled.
const (
	Viz          = "viz"
	Multicluster = "multicluster"
	Jaeger       = "jaeger"
)

// Extensions are the names of all extensions.
func Extensions() []string { return []string{Viz, Multicluster, Jaeger} }

// ExtensionNamespace is where an extension lives unless told otherwise.
func ExtensionNamespace(name string) string { return extensionChart(name) }

// extensionChart is the name of the extension's chart, and of its release.
func extensionChart(name string) string { return "linkerd-" + name }

// extensionServers are those of an extension that the API server calls.
func extensionServers(name, namespace string) []server {
	switch name {
	case Viz:
		return vizServers(namespace)
	case Jaeger:
		return []server{{
			namespace: namespace, name: jaegerInjector, values: "webhook",
			registration: kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "linkerd-jaeger-injector-webhook-config"},
		}}
	default:
		return nil
	}
}

// extensionYields are the fields of an extension's objects that others than Helm
// set: besides those of all Linkerd's charts, the bundles by which certificates
// are accepted. They change with each renewal, and Helm keeps what it was first
// given, so that a renewal is no upgrade and restarts nothing.
func extensionYields(name string) kube.Yields {
	return append(Yields(), bundleYields(extensionServers(name, ""))...)
}

// CheckExtensionVersion refuses versions that have no such extension; the error
// names what is used instead. A version that is none of Linkerd's, as charts had
// before edge-24.3.1, is older than all that.
func CheckExtensionVersion(name, version string) error {
	parsed, err := ParseVersion(version)
	removed := Since{Edge: [3]int{25, 10, 1}, Numbered: [3]int{2, 19, 0}}
	if name != Jaeger || err != nil || !parsed.Has(removed) {
		return nil //nolint:nilerr // Nothing is known against it.
	}
	return fmt.Errorf("version %s of Linkerd has no extension jaeger: since 2.19 (edge-25.10.1) the control plane configures tracing itself, by the values proxy.tracing and controller.tracing of aksmesh_linkerd, and the collector is yours to install; the last version with the extension is 2025.9.4", parsed)
}

// checkLine refuses an extension of another numbered version than the control
// plane's. Versions that do not tell are accepted.
func checkLine(extension, controlPlane string) error {
	of, err := ParseVersion(extension)
	if err != nil {
		return nil //nolint:nilerr // Nothing is known against it.
	}
	plane, err := ParseVersion(controlPlane)
	if err != nil {
		return nil //nolint:nilerr // Nothing is known against it.
	}
	if lineOf(of).minor == lineOf(plane).minor {
		return nil
	}
	return &InputError{Input: "version", Err: fmt.Errorf(
		"the extension is of %s (Linkerd %s), and the control plane of %s (Linkerd %s): an extension has to be of its control plane's version, here %q",
		of, lineOf(of), plane, lineOf(plane), chartVersion(plane))}
}

const highAvailabilityFile = "values-ha.yaml"

// certificateKeys are the values of a server that say where its certificate comes
// from.
func certificateKeys() []string {
	return []string{"caBundle", "crtPEM", "keyPEM", "externalSecret", "injectCaFrom", "injectCaFromSecret"}
}

// namespaceKeys are values by which charts make or mark their namespace; which
// of them there are depends on the chart and its version.
func namespaceKeys() []string {
	return []string{"createNamespaceMetadataJob", "enableNamespaceCreation", "installNamespace"}
}

// CheckExtensionValues refuses values that the provider sets itself. The error
// names the key and the reason.
func CheckExtensionValues(name string, values map[string]any) error {
	owned := map[string]string{"linkerdNamespace": "the attribute linkerd_namespace says where the control plane is"}
	for _, key := range namespaceKeys() {
		owned[key] = "the provider makes the namespace and labels it"
	}
	for _, s := range extensionServers(name, "") {
		for _, key := range certificateKeys() {
			owned[s.values+"."+key] = "the provider looks after the certificate"
		}
	}
	return install.RefuseOwned(values, owned)
}

// composeExtension makes the values of an extension but for its certificates:
// the chart's own overlay for high availability, then what the control plane has
// been installed with and the extension has to agree with, then the registry and
// the user's values, and last what only the provider sets.
func composeExtension(s ExtensionSpecification, chart *helm.Chart, controlPlane map[string]any) (map[string]any, error) {
	defaults, err := chart.DefaultValues()
	if err != nil {
		return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
	}
	values := map[string]any{}
	if s.HighAvailability {
		if _, there := chart.File(highAvailabilityFile); !there {
			return nil, &InputError{Input: "high_availability", Err: fmt.Errorf("chart %s %s has no settings for high availability (%s)", chart.Name(), chart.Version(), highAvailabilityFile)}
		}
		if values, err = chart.ValuesFile(highAvailabilityFile); err != nil {
			return nil, err
		}
	}
	own := map[string]any{"linkerdNamespace": s.LinkerdNamespace}
	for _, key := range namespaceKeys() {
		if _, known := defaults[key]; known {
			own[key] = false
		}
	}
	return helm.MergeValues(values, domains(defaults, controlPlane), extensionImages(s.Registry, defaults), s.Values, own), nil
}

// domains are those of the control plane, where a chart asks for them: proxies
// know each other by names below them. Charts that are not told assume
// cluster.local.
func domains(defaults, controlPlane map[string]any) map[string]any {
	values := map[string]any{}
	cluster, _ := controlPlane["clusterDomain"].(string)
	trust, _ := controlPlane["identityTrustDomain"].(string)
	if trust == "" {
		trust = cluster
	}
	for key, domain := range map[string]string{"clusterDomain": cluster, "identityTrustDomain": trust} {
		preset, known := defaults[key]
		if text, _ := preset.(string); known && domain != "" && domain != text && (text != "" || domain != "cluster.local") {
			values[key] = domain
		}
	}
	return values
}

// extensionImages points every image of a chart to a registry, keeping the last
// part of its name: those whose registry stands apart from the name (all of viz),
// those whose name contains it, and those that are one text. Where they are in
// the chart's default values, its versions differ.
func extensionImages(registry string, defaults map[string]any) map[string]any {
	if registry == "" {
		return nil
	}
	var names []string
	apart := map[string]any{}
	var walk func(values map[string]any, at []string)
	walk = func(values map[string]any, at []string) {
		for key, value := range values {
			below := append(slices.Clone(at), key)
			switch value := value.(type) {
			case map[string]any:
				_, named := value["name"].(string)
				from, _ := value["registry"].(string)
				_, split := value["registry"]
				switch {
				case key == "image" && named && from != "":
					put(apart, append(below, "registry"), strings.TrimSuffix(registry, "/"))
				case key == "image" && named && !split:
					names = append(names, strings.Join(append(below, "name"), "."))
				default:
					walk(value, below)
				}
			case string:
				// What has no registry of its own is in this one.
				if len(at) == 0 && key == "defaultRegistry" {
					apart[key] = strings.TrimSuffix(registry, "/")
				} else if strings.HasSuffix(key, "Image") && strings.Contains(value, "/") {
					names = append(names, strings.Join(below, "."))
				}
			}
		}
	}
	walk(defaults, nil)
	return helm.MergeValues(apart, fromRegistry(registry, defaults, names...))
}

// certificateValues have a chart leave the certificate of a server to its Secret.
// The bundle in them is the one of the first time, as the release has it on
// record, and otherwise what accepts the certificate that was found, or the one
// that is made. They are foreseen only if they are those on record: anything else
// may have changed by the time of the apply.
func (s serving) certificateValues(recorded map[string]any, made func() string) (values map[string]any, foreseen bool) {
	former, _, _ := unstructured.NestedMap(recorded, s.values)
	bundle, _ := former["caBundle"].(string)
	external, _ := former["externalSecret"].(bool)
	if s.renewedBy != "" {
		values = s.othersValues()
		if _, pinned := values["caBundle"]; pinned && external && bundle != "" {
			values["caBundle"] = bundle
		}
		foreseen = !slices.ContainsFunc(certificateKeys(), func(key string) bool { return values[key] != former[key] })
		return values, foreseen
	}
	values = map[string]any{"externalSecret": true}
	switch {
	case external && bundle != "":
		values["caBundle"] = bundle
	case s.pair != nil:
		values["caBundle"] = string(s.kept().PEM())
		return values, false
	case made != nil:
		values["caBundle"] = made()
	default:
		// Charts want one to be rendered.
		values["caBundle"] = s.dnsName()
		return values, false
	}
	return values, true
}

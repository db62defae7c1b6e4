package linkerd

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// ImageRegistry is where the charts have Linkerd's own images: a front of
// ghcr.io/linkerd, to which it redirects.
const ImageRegistry = "cr.l5d.io/linkerd"

// Compose returns the charts of a Linkerd with the values that an apply gives them,
// except for the certificates of webhooks, which are left to their Secrets. It
// asks no cluster, unless the specification has a heartbeat. Errors are those of
// Prepare.
func (i Installer) Compose(ctx context.Context, s Specification) ([]install.Release, error) {
	p, err := i.Prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	webhooks, err := recordedWebhooks(nil)
	if err != nil {
		return nil, err
	}
	return i.releases(p, webhooks, nil), nil
}

// ComposeExtension is Compose for an extension, with the chart's own ideas of
// what it would take over from the control plane. Errors are those of
// PrepareExtension.
func (i Installer) ComposeExtension(ctx context.Context, s ExtensionSpecification) (install.Release, error) {
	p, err := i.PrepareExtension(ctx, s)
	if err != nil {
		return install.Release{}, err
	}
	certificates := map[string]any{}
	for _, of := range extensionServers(s.Name, s.Namespace) {
		certificates[of.values], _ = serving{server: of}.certificateValues(nil, nil)
	}
	return i.extensionRelease(p, nil, certificates, false)
}

// InjectedImages are those that the injector of a rendered control plane gives to
// pods: the proxy's, that of the init container where it has one of its own, and,
// to pods that ask for it, that of the debug container. There are none if the
// objects have no control plane among them.
func InjectedImages(objects []*unstructured.Unstructured) (images []string, debug string, err error) {
	for _, object := range objects {
		if object.GetKind() != "ConfigMap" || object.GetName() != "linkerd-config" {
			continue
		}
		text, _, err := unstructured.NestedString(object.Object, "data", "values")
		if err != nil {
			return nil, "", fmt.Errorf("ConfigMap linkerd-config: %w", err)
		}
		var values map[string]any
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			return nil, "", fmt.Errorf("ConfigMap linkerd-config: values: %w", err)
		}
		p := plane{values: values}
		images = []string{value[string](p, "proxy", "image", "name") + ":" + p.proxyVersion()}
		// The CNI plugin leaves no use for it, and what comes in its place runs in the
		// proxy's image.
		if init := value[string](p, "proxyInit", "image", "name"); init != "" && !value[bool](p, "cniEnabled") {
			images = append(images, init+":"+value[string](p, "proxyInit", "image", "version"))
		}
		tag := value[string](p, "debugContainer", "image", "version")
		if tag == "" {
			tag = value[string](p, "linkerdVersion")
		}
		return images, value[string](p, "debugContainer", "image", "name") + ":" + tag, nil
	}
	return nil, "", nil
}

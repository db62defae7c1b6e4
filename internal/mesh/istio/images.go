package istio

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// Compose returns the charts of an Istio with the values that an apply of the first
// revision gives them. It asks no cluster. Errors are those of Prepare.
func (i Installer) Compose(ctx context.Context, s Specification) ([]install.Release, error) {
	var releases []install.Release
	for _, c := range compose(s, defaultRevision) {
		chart, err := i.Load(ctx, s.Repository, c.chart, s.Version)
		if err != nil {
			return nil, err
		}
		own := s.Values[c.chart]
		if err := install.CheckValues(chart, own, removedValues(c.chart)); err != nil {
			return nil, err
		}
		releases = append(releases, install.Release{Namespace: c.namespace, Name: c.release, Chart: chart, Values: c.values})
	}
	return releases, nil
}

// LeftToInjection reports whether the image of a container is only a word that
// the injector replaces by the proxy's image.
func LeftToInjection(image string) bool { return image == autoImage }

// templateImage finds the images in an injection template that it does not work
// out.
var templateImage = regexp.MustCompile(`(?m)^[\s-]*image:\s*["']?([^\s"'{}]+)["']?\s*$`)

// InjectedImages are those that the istiod among rendered objects gives to pods
// and gateways that do not choose for themselves: the proxy's, that of the init
// container, which may be another one, and those that the templates in use name.
// There are none if there is no istiod, or one that does not inject.
func InjectedImages(objects []*unstructured.Unstructured) ([]string, error) {
	var injector, meshConfig *corev1.ConfigMap
	for _, object := range objects {
		if object.GetKind() != "ConfigMap" {
			continue
		}
		var found corev1.ConfigMap
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &found); err != nil {
			return nil, fmt.Errorf("ConfigMap %s: %w", object.GetName(), err)
		}
		switch {
		case strings.HasPrefix(found.Name, injectorConfigMap):
			injector = &found
		case found.Data["mesh"] != "":
			meshConfig = &found
		}
	}
	if injector == nil {
		return nil, nil
	}
	config, err := injectorConfigOf(injector)
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %w", injector.Name, err)
	}
	names, err := readImageNames(injector, meshConfig)
	if err != nil {
		return nil, err
	}
	images := []string{names.proxy()}
	for _, name := range config.selected(nil) {
		text := config.templates[name]
		if strings.Contains(text, ".ProxyInitImage") {
			images = append(images, names.init())
		}
		for _, match := range templateImage.FindAllStringSubmatch(text, -1) {
			images = append(images, match[1])
		}
	}
	slices.Sort(images)
	return slices.Compact(images), nil
}

// imageNames is what istiod makes the names of images of (pkg/kube/inject,
// ProxyImage and ProxyInitImage).
type imageNames struct {
	Global struct {
		Hub     string `json:"hub"`
		Tag     any    `json:"tag"` // 1.31 is a number
		Variant string `json:"variant"`
		Proxy   struct {
			Image string `json:"image"`
		} `json:"proxy"`
		ProxyInit struct {
			Image string `json:"image"`
		} `json:"proxy_init"`
	} `json:"global"`

	variant string // of the proxy, by the mesh's configuration
}

func readImageNames(injector, meshConfig *corev1.ConfigMap) (imageNames, error) {
	var names imageNames
	if err := json.Unmarshal([]byte(injector.Data["values"]), &names); err != nil {
		return names, fmt.Errorf("ConfigMap %s: values: %w", injector.Name, err)
	}
	names.variant = names.Global.Variant
	if meshConfig == nil {
		return names, nil
	}
	var mesh struct {
		DefaultConfig struct {
			Image struct {
				ImageType string `json:"imageType"`
			} `json:"image"`
		} `json:"defaultConfig"`
	}
	if err := yaml.Unmarshal([]byte(meshConfig.Data["mesh"]), &mesh); err != nil {
		return names, fmt.Errorf("ConfigMap %s: mesh: %w", meshConfig.Name, err)
	}
	if kind := mesh.DefaultConfig.Image.ImageType; kind != "" {
		names.variant = kind
	}
	return names, nil
}

func (n imageNames) proxy() string { return n.image(n.Global.Proxy.Image, n.variant) }

func (n imageNames) init() string { return n.image(n.Global.ProxyInit.Image, n.Global.Variant) }

// image is the whole name of one: as it is if it names its registry.
func (n imageNames) image(name, variant string) string {
	if strings.Contains(name, "/") {
		return name
	}
	if name == "" {
		name = "proxyv2"
	}
	tag := fmt.Sprint(n.Global.Tag)
	switch variant {
	case "":
	case "default":
		tag = plainTag(tag)
	default:
		tag = plainTag(tag) + "-" + variant
	}
	return n.Global.Hub + "/" + name + ":" + tag
}

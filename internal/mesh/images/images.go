// Package images tells which container images a mesh runs: those of the pods that
// its charts and manifests describe, rendered as the installers of the meshes
// render them, and those that injectors put into pods. It tells where a mirror
// keeps them, so that the installers find them there.
package images

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

// kubernetes is the version that charts are rendered for. They say from which one
// on they work, and images do not depend on it; a mirror is filled before there
// is a cluster to ask.
const kubernetes = "1.36.0"

// Specification is what images are wanted of. Parts that are nil or empty are not
// installed.
type Specification struct {
	Linkerd    *linkerd.Specification
	Extensions []linkerd.ExtensionSpecification
	// LinkerdRegistry is where Linkerd's own images are taken from instead of
	// linkerd.ImageRegistry; empty for that.
	LinkerdRegistry string
	// Debug adds the container that pods of Linkerd's can ask for to be debugged.
	Debug  bool
	Istio  *istio.Specification
	Addons []Addon
}

// Addon is one of Istio's samples. Source is where samples/addons are: a URL or a
// directory, empty for Istio's repository.
type Addon struct {
	Name            istio.Addon
	Version, Source string
}

// Image is one that a mesh runs.
type Image struct {
	Reference oci.Reference
	// Components are the charts and addons that it belongs to, sorted.
	Components []string
	// Injected tells that an injector puts it into pods.
	Injected bool
	// Value is the value of a chart by which it is replaced, where the installer's
	// setting for all images does not reach: "controllers[0].image.name"; "manifest"
	// if only the text of a manifest names it. It is empty where that setting does.
	Value string
}

// Sources are where charts and manifests come from.
type Sources struct {
	Library   *helm.Library
	Manifests *release.Downloader
}

// Of returns the images of what is specified, sorted by reference. Errors are
// those of the installers' Compose, and of charts that cannot be rendered.
func (s Sources) Of(ctx context.Context, wanted Specification) ([]Image, error) {
	charts := install.Charts{Library: s.Library}
	found := map[string]*Image{}
	if wanted.Linkerd != nil || len(wanted.Extensions) > 0 {
		if err := s.linkerd(ctx, linkerd.Installer{Charts: charts, Manifests: s.Manifests}, wanted, found); err != nil {
			return nil, err
		}
	}
	if wanted.Istio != nil {
		at := func(hub string) ([]install.Release, error) {
			specification := *wanted.Istio
			specification.Hub = cmp.Or(hub, specification.Hub)
			return istio.Installer{Charts: charts}.Compose(ctx, specification)
		}
		if err := collect(found, at, istio.InjectedImages); err != nil {
			return nil, err
		}
	}
	for _, addon := range wanted.Addons {
		if err := s.addon(ctx, addon, found); err != nil {
			return nil, err
		}
	}
	var all []Image
	for _, key := range slices.Sorted(maps.Keys(found)) {
		image := found[key]
		slices.Sort(image.Components)
		image.Components = slices.Compact(image.Components)
		all = append(all, *image)
	}
	return all, nil
}

func (s Sources) linkerd(ctx context.Context, installer linkerd.Installer, wanted Specification, found map[string]*Image) error {
	at := func(registry string) ([]install.Release, error) {
		var all []install.Release
		if wanted.Linkerd != nil {
			specification := *wanted.Linkerd
			specification.Registry = registry
			releases, err := installer.Compose(ctx, specification)
			if err != nil {
				return nil, err
			}
			all = releases
		}
		for _, specification := range wanted.Extensions {
			specification.Registry = registry
			release, err := installer.ComposeExtension(ctx, specification)
			if err != nil {
				return nil, err
			}
			all = append(all, release)
		}
		return all, nil
	}
	own := map[string]*Image{}
	err := collect(own, at, func(objects []*unstructured.Unstructured) ([]string, error) {
		images, debug, err := linkerd.InjectedImages(objects)
		if wanted.Debug && debug != "" {
			images = append(images, debug)
		}
		return images, err
	})
	if err != nil {
		return err
	}
	for key, image := range own {
		if name, ours := strings.CutPrefix(key, linkerd.ImageRegistry+"/"); ours && wanted.LinkerdRegistry != "" {
			key = strings.TrimSuffix(wanted.LinkerdRegistry, "/") + "/" + name
			if image.Reference, err = oci.ParseReference(key); err != nil {
				return err
			}
		}
		found[key] = image
	}
	return nil
}

func (s Sources) addon(ctx context.Context, addon Addon, found map[string]*Image) error {
	location := istio.AddonLocation(addon.Name, addon.Version, addon.Source)
	var text release.Manifest
	var err error
	if strings.Contains(location, "://") {
		text, err = s.Manifests.Download(ctx, location, "")
	} else {
		text, err = release.ReadManifest(location)
	}
	if err != nil {
		return fmt.Errorf("addon %s of Istio %s: %w", addon.Name, addon.Version, err)
	}
	objects, err := release.ParseManifests(text)
	if err != nil {
		return err
	}
	for _, object := range objects {
		for _, name := range ofPods(object.Unstructured) {
			image, err := add(found, name, string(addon.Name))
			if err != nil {
				return fmt.Errorf("%s: %w", object.Source, err)
			}
			image.Value = "manifest"
		}
	}
	return nil
}

// collect adds the images of releases. At gives these with all images in a registry,
// as far as the installer can move them; those that it cannot show by not being
// there.
func collect(found map[string]*Image, at func(registry string) ([]install.Release, error), injected func([]*unstructured.Unstructured) ([]string, error)) error {
	releases, err := at("")
	if err != nil {
		return err
	}
	elsewhere := Place{Host: "registry.invalid", Prefix: "images"} // No chart names it.
	moved, err := at(elsewhere.String())
	if err != nil {
		return err
	}
	reached := map[string]bool{}
	for _, r := range moved {
		of, err := read(r, injected)
		if err != nil {
			return err
		}
		for _, name := range slices.Concat(of.pods, of.injected) {
			reached[name] = true
		}
	}
	for _, r := range releases {
		of, err := read(r, injected)
		if err != nil {
			return err
		}
		for i, name := range slices.Concat(of.pods, of.injected) {
			image, err := add(found, name, r.Chart.Name())
			if err != nil {
				return fmt.Errorf("chart %s %s: %w", r.Chart.Name(), r.Chart.Version(), err)
			}
			image.Injected = image.Injected || i >= len(of.pods)
			target := elsewhere.Target(image.Reference)
			target.Digest = image.Reference.Digest
			if !reached[target.String()] {
				if image.Value, err = valueOf(r, name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// rendering is which images a release has, by the names that it has for them.
type rendering struct{ pods, injected []string }

func read(r install.Release, injected func([]*unstructured.Unstructured) ([]string, error)) (rendering, error) {
	var of rendering
	rendered, err := helm.RenderOffline(helm.RenderRequest{Namespace: r.Namespace, Name: r.Name, Chart: r.Chart, Values: r.Values}, kubernetes)
	if err != nil {
		return of, err
	}
	objects, err := rendered.Objects()
	if err != nil {
		return of, fmt.Errorf("chart %s %s: %w", r.Chart.Name(), r.Chart.Version(), err)
	}
	for _, text := range rendered.Hooks {
		hooks, err := manifest.Objects(text)
		if err != nil {
			return of, fmt.Errorf("chart %s %s: hook: %w", r.Chart.Name(), r.Chart.Version(), err)
		}
		for _, hook := range hooks {
			objects = append(objects, hook.Unstructured)
		}
	}
	for _, object := range objects {
		of.pods = append(of.pods, ofPods(object)...)
	}
	of.injected, err = injected(objects)
	return of, err
}

// add notes that a component has an image.
func add(found map[string]*Image, name, component string) (*Image, error) {
	reference, err := oci.ParseReference(name)
	if err != nil {
		return nil, err
	}
	image := found[reference.String()]
	if image == nil {
		image = &Image{Reference: reference}
		found[reference.String()] = image
	}
	image.Components = append(image.Components, component)
	return image, nil
}

// ofPods are the images of the pods that an object describes: a pod, a workload
// of any kind, a CronJob.
func ofPods(object *unstructured.Unstructured) []string {
	var images []string
	for _, at := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		// An error means that something else is there: it describes no pods.
		spec, _, _ := unstructured.NestedMap(object.Object, at...)
		for _, containers := range []string{"initContainers", "containers", "ephemeralContainers"} {
			images = append(images, texts(spec[containers], "image")...)
		}
		images = append(images, texts(spec["volumes"], "image", "reference")...)
	}
	return slices.DeleteFunc(images, istio.LeftToInjection)
}

// texts are the texts at a path in each element of a list.
func texts(list any, at ...string) []string {
	elements, _ := list.([]any)
	var found []string
	for _, element := range elements {
		fields, _ := element.(map[string]any)
		if text, is, err := unstructured.NestedString(fields, at...); is && err == nil {
			found = append(found, text)
		}
	}
	return found
}

// valueOf is the value of a release that names an image, as helm --set writes it:
// the one that says most of it.
func valueOf(r install.Release, image string) (string, error) {
	defaults, err := r.Chart.DefaultValues()
	if err != nil {
		return "", fmt.Errorf("chart %s %s: %w", r.Chart.Name(), r.Chart.Version(), err)
	}
	named := map[string]string{}
	var walk func(value any, at string)
	walk = func(value any, at string) {
		switch value := value.(type) {
		case string:
			if before, seen := named[value]; !seen || len(at) < len(before) || len(at) == len(before) && at < before {
				named[value] = at
			}
		case map[string]any:
			for key, below := range value {
				walk(below, strings.TrimPrefix(at+"."+key, "."))
			}
		case []any:
			for i, below := range value {
				walk(below, fmt.Sprintf("%s[%d]", at, i))
			}
		}
	}
	for _, values := range []map[string]any{r.Values, defaults} {
		clear(named)
		walk(values, "")
		name, _, _ := strings.Cut(image, "@")
		for _, part := range []string{image, name, strings.TrimSuffix(name, ":"+mesh.TagOf(name)), name[:max(0, strings.LastIndex(name, "/"))]} {
			if at := named[part]; at != "" && part != "" {
				return at, nil
			}
		}
	}
	return "values", nil
}

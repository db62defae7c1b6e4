// Package gatewayapi is the Gateway API in the embedded cluster: the resource
// types of its own Go module, as the manifests that it publishes and as AKS
// keeps them in clusters with the managed Gateway API.
package gatewayapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Module is the Go module whose files this package reads.
const Module = "sigs.k8s.io/gateway-api"

const (
	// moduleVersion is the one of go.mod, which the files name.
	moduleVersion = "v1.6.0"
	// managedVersion is what AKS installs for Kubernetes 1.36.
	managedVersion = "v1.5.1"
	// oldVersion is the newest that Linkerd 2.18 and 2.19 are made for.
	oldVersion = "v1.2.1"

	standardDir = "config/crd/standard"
	// establishTimeout bounds the wait for the API server, of which it takes
	// some hundred milliseconds.
	establishTimeout = time.Minute
)

// since is the version that brought a type, given by the plural of its name,
// into the standard channel; those that oldVersion has had are empty.
func since(plural string) string {
	switch plural {
	case "backendtlspolicies":
		return "v1.4.0"
	case "listenersets", "tlsroutes":
		return managedVersion
	case "tcproutes", "udproutes":
		return moduleVersion
	default:
		return ""
	}
}

// Manifests are standard-install.yaml of several versions, by the path below
// which they are to be served: gateway-api/v<version>/standard-install.yaml. The
// types are always those of the module, whose root is module, under the name of
// the version; types of the standard channel that a version does not have yet
// are left out. The admission policy that keeps older types from replacing newer
// ones comes with the module's own version only.
func Manifests(module fs.FS) (map[string][]byte, error) {
	manifests := map[string][]byte{}
	for _, version := range []string{oldVersion, managedVersion, moduleVersion} {
		files, err := standard(module, version)
		if err != nil {
			return nil, err
		}
		header := "# Copyright of the Kubernetes Authors. Licensed under the Apache License, Version 2.0.\n"
		if version != moduleVersion {
			header = fmt.Sprintf("# Stands in for the Gateway API %s: the types of %s under its name.\n", version, moduleVersion)
		}
		manifests["gateway-api/"+version+"/standard-install.yaml"] = slices.Concat([]byte(header), bytes.Join(files, []byte("\n---\n")))
	}
	return manifests, nil
}

// standard are the files of the standard channel in a version.
func standard(module fs.FS, version string) ([][]byte, error) {
	entries, err := fs.ReadDir(module, standardDir)
	if err != nil {
		return nil, fmt.Errorf("list the types of %s: %w", Module, err)
	}
	var files [][]byte
	for _, entry := range entries {
		// gateway.networking.k8s.io_<plural>.yaml
		_, name, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".yaml"), "_")
		if name == "vap_safeupgrades" && version != moduleVersion || since(name) > version {
			continue
		}
		data, err := fs.ReadFile(module, path.Join(standardDir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read a type of %s: %w", Module, err)
		}
		stamped := bytes.ReplaceAll(data, []byte("bundle-version: "+moduleVersion), []byte("bundle-version: "+version))
		if version != moduleVersion && bytes.Equal(stamped, data) {
			return nil, fmt.Errorf("%s of %s does not name version %s", entry.Name(), Module, moduleVersion)
		}
		files = append(files, stamped)
	}
	return files, nil
}

// Install puts the types into a cluster that has none of them, as AKS does, and
// returns when they are served. module is the root of the module.
func Install(ctx context.Context, config *rest.Config, module fs.FS) error {
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("configure client: %w", err)
	}
	files, err := standard(module, managedVersion)
	if err != nil {
		return err
	}
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	created := make(chan error, len(files))
	names := map[string]bool{}
	for _, file := range files {
		crd, err := undocumented(file)
		if err != nil {
			return err
		}
		metav1.SetMetaDataAnnotation(&crd.ObjectMeta, "app.kubernetes.io/managed-by", "aks")
		names[crd.Name] = true
		go func() {
			_, err := crds.Create(ctx, crd, metav1.CreateOptions{})
			if err != nil {
				err = fmt.Errorf("create CustomResourceDefinition %s: %w", crd.Name, err)
			}
			created <- err
		}()
	}
	var failures []error
	for range files {
		failures = append(failures, <-created)
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, establishTimeout, true, func(ctx context.Context) (bool, error) {
		list, err := crds.List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(list.Items, func(crd apiextensionsv1.CustomResourceDefinition) bool {
			return names[crd.Name] && !established(crd)
		}), nil
	})
	if err != nil {
		return fmt.Errorf("wait for the types of the Gateway API: %w", err)
	}
	return nil
}

// undocumented reads a type without the descriptions of its fields: they are two
// thirds of it, and every cluster would start later by what the API server makes
// of them.
func undocumented(file []byte) (*apiextensionsv1.CustomResourceDefinition, error) {
	var object map[string]any
	if err := yaml.Unmarshal(file, &object); err != nil {
		return nil, fmt.Errorf("read a type of %s: %w", Module, err)
	}
	removeDescriptions(object)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, crd); err != nil {
		return nil, fmt.Errorf("read a type of %s: %w", Module, err)
	}
	return crd, nil
}

func removeDescriptions(value any) {
	switch value := value.(type) {
	case map[string]any:
		// A property of that name is a map.
		if _, text := value["description"].(string); text {
			delete(value, "description")
		}
		for _, inner := range value {
			removeDescriptions(inner)
		}
	case []any:
		for _, inner := range value {
			removeDescriptions(inner)
		}
	}
}

func established(crd apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}

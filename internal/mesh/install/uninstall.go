package install

import (
	"context"
	"errors"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// entrances are the kinds by which the API server calls what a release runs.
// While one is there and what it leads to is gone, requests of others fail, and
// namespaces cannot be deleted.
func entrances() []kube.Kind {
	return []kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration, kube.APIService}
}

// Uninstall deletes a release with its objects: first those by which the API
// server calls what it runs. It may be repeated after a failure, and it is no
// error if there is no such release. An error at the end of the context names
// what keeps an object from going.
func (c Charts) Uninstall(ctx context.Context, namespace, name string, options helm.UninstallOptions) error {
	release, err := c.Releases.Get(ctx, namespace, name)
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.log("uninstalling", map[string]any{"release": namespace + "/" + name})
	objects, err := c.objectsOf(ctx, &release.Rendered, namespace, nil)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if !slices.Contains(entrances(), object.ref.Kind) || object.unserved || kept(object.written) {
			continue
		}
		if err := c.Cluster.Delete(ctx, object.ref, kube.DeleteOptions{Wait: true}); err != nil {
			return err
		}
	}
	defer c.forget(namespace, name)
	return c.Releases.Uninstall(ctx, namespace, name, options)
}

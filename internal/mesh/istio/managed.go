package istio

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// ControlPlaneNamespace is where the control plane of a revision lives unless
// told otherwise: the one of the Istio add-on of AKS has a namespace of its own.
func ControlPlaneNamespace(revision string) string {
	if check.ManagedRevision(revision) {
		return check.AddonNamespace
	}
	return DefaultNamespace
}

// CheckUnmanaged refuses a control plane that would be, or be taken for, one of
// AKS's: AKS installs, upgrades and removes those itself.
func (p Plane) CheckUnmanaged() error {
	const instead = "which AKS installs, upgrades and removes itself: use its revisions (aksmesh_injection) instead of installing or importing one, or choose another"
	switch {
	case p.Namespace == check.AddonNamespace:
		return fmt.Errorf("namespace %s is that of the Istio add-on of AKS and of App Routing, %s namespace", p.Namespace, instead)
	case check.ManagedRevision(p.Revision):
		return fmt.Errorf("revision %s is named as those of the Istio add-on of AKS are, %s name", p.Revision, instead)
	}
	return nil
}

// AddonCheck is whether AKS runs an Istio of its own, which is to be known before
// anything that is there is taken for somebody's whom it could be taken over from.
func AddonCheck(cluster *kube.Cluster, managed check.Managed) check.Check {
	webhooks := func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		return cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	}
	return of(preCategory, "precheck-aks-addon", "the Istio add-on of AKS is not enabled", 0, check.NoAddon(webhooks, managed))
}

package linkerd

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// Removal says what of a Linkerd is to go.
type Removal struct {
	Namespace string
	// CNI is the namespace of the CNI plugin; empty if there is none.
	CNI string
	// DeleteCRDs deletes Linkerd's CRDs with every object of their kinds, and those
	// of the Gateway API that this provider has brought if nobody has routes.
	DeleteCRDs bool
}

// Uninstall removes the control plane, webhooks first, then the CNI plugin and
// then, if told to, the CRDs. It may be repeated after a failure.
func (i Installer) Uninstall(ctx context.Context, r Removal) error {
	options := helm.UninstallOptions{KeepCRDs: !r.DeleteCRDs, Wait: true}
	if err := i.Charts.Uninstall(ctx, r.Namespace, controlPlaneChart, options); err != nil {
		return err
	}
	if err := i.dropCNI(ctx, r.CNI, r.Namespace); err != nil {
		return err
	}
	records, err := i.records(ctx, r.Namespace)
	if err != nil {
		return err
	}
	// As charts before 2.19 bring them.
	if err := i.keepGateway(ctx, records[crdsChart]); err != nil {
		return err
	}
	if err := i.Charts.Uninstall(ctx, r.Namespace, crdsChart, options); err != nil {
		return err
	}
	if r.DeleteCRDs {
		if err := i.deleteGateway(ctx); err != nil {
			return err
		}
	}
	if err := i.deleteWebhookSecrets(ctx, r.Namespace); err != nil {
		return err
	}
	return i.Cluster.ReleaseNamespace(ctx, r.Namespace, namespaceHolder)
}

// ForeseeRemoval says what is to be known before Linkerd goes: which objects of
// users go with its CRDs, and which pods are left with a proxy without a control
// plane.
func (i Installer) ForeseeRemoval(ctx context.Context, r Removal) ([]string, error) {
	var warnings []string
	if r.DeleteCRDs {
		crds, err := i.Cluster.List(ctx, kube.CustomResourceDefinition, "")
		if err != nil {
			return nil, err
		}
		crds = slices.DeleteFunc(crds, func(crd *unstructured.Unstructured) bool {
			of := ownerOf(crd)
			return of.release != r.Namespace+"/"+crdsChart || strings.HasSuffix(crd.GetName(), "."+gatewayGroup)
		})
		used, err := i.CountObjects(ctx, crds)
		if err != nil {
			return nil, err
		}
		if len(used) > 0 {
			warnings = append(warnings, "delete_crds deletes the objects of Linkerd's CRDs, in all namespaces: "+install.Counts(used)+".")
		}
		ours, routes, err := i.gatewayLeft(ctx)
		if err != nil {
			return nil, err
		}
		if len(ours) > 0 && len(routes) > 0 {
			warnings = append(warnings, "The CRDs of the Gateway API stay in spite of delete_crds, as there are objects of them: "+install.Counts(routes)+".")
		}
	}
	meshed, err := i.meshed(ctx, r.Namespace)
	if err != nil {
		return nil, err
	}
	if len(meshed) > 0 {
		warnings = append(warnings, "Pods have proxies of this control plane, which cannot renew their certificates without it, so that they lose their connections within a day: "+install.Counts(meshed)+
			". Take them out of the mesh and restart them first.")
	}
	return warnings, nil
}

// meshed counts the pods with proxies of a control plane by their namespaces,
// its own and those of its extensions aside.
func (i Installer) meshed(ctx context.Context, namespace string) (map[string]int, error) {
	namespaces, err := i.Cluster.Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{namespace: true}
	for _, n := range namespaces {
		if n.Labels[extensionLabel] != "" {
			own[n.Name] = true
		}
	}
	pods, err := i.Cluster.Pods(ctx, "")
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, pod := range pods {
		if pod.Labels[controlPlaneLabel] == namespace && !own[pod.Namespace] {
			found["pods in "+pod.Namespace]++
		}
	}
	return found, nil
}

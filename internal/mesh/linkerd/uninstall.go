package linkerd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
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
		used, err := i.count(ctx, crds)
		if err != nil {
			return nil, err
		}
		if len(used) > 0 {
			warnings = append(warnings, "delete_crds deletes the objects of Linkerd's CRDs, in all namespaces: "+counted(used)+".")
		}
		ours, routes, err := i.gatewayLeft(ctx)
		if err != nil {
			return nil, err
		}
		if len(ours) > 0 && len(routes) > 0 {
			warnings = append(warnings, "The CRDs of the Gateway API stay in spite of delete_crds, as there are objects of them: "+counted(routes)+".")
		}
	}
	meshed, err := i.meshed(ctx, r.Namespace)
	if err != nil {
		return nil, err
	}
	if len(meshed) > 0 {
		warnings = append(warnings, "Pods have proxies of this control plane, which cannot renew their certificates without it, so that they lose their connections within a day: "+counted(meshed)+
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

// count counts the objects of CRDs by kind; kinds without any are left out.
func (i Installer) count(ctx context.Context, crds []*unstructured.Unstructured) (map[string]int, error) {
	found := map[string]int{}
	for _, crd := range crds {
		group, _, err := unstructured.NestedString(crd.Object, "spec", "group")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", crdRef(crd.GetName()), err)
		}
		name, _, err := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", crdRef(crd.GetName()), err)
		}
		kind, err := i.Cluster.KindFor(ctx, schema.GroupVersionKind{Group: group, Version: servedVersion(crd), Kind: name})
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		objects, err := i.Cluster.List(ctx, kind, "")
		if err != nil {
			return nil, err
		}
		if len(objects) > 0 {
			found[name+"."+group] = len(objects)
		}
	}
	return found, nil
}

// servedVersion is one in which the objects of a CRD can be read.
func servedVersion(crd *unstructured.Unstructured) string {
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		return ""
	}
	for _, v := range slices.Backward(versions) {
		if fields, ok := v.(map[string]any); ok && fields["served"] == true {
			name, _ := fields["name"].(string)
			return name
		}
	}
	return ""
}

// counted lists counts in words: "2 ServiceProfile.linkerd.io, 1 Server.policy.linkerd.io".
func counted(counts map[string]int) string {
	var words []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(words, ", ")
}

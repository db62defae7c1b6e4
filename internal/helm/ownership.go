package helm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// removeAbandoned deletes the objects of revisions in the given states that the record, a newer one, does not have.
// Helm compares a revision with the last successful one only and forgets what failed ones in between have made.
func (op *operation) removeAbandoned(record *release.Release, states ...release.Status) error {
	var wanted kube.ResourceList
	for _, secret := range op.records.newestFirst() {
		if revisionOf(secret) >= record.Version || !slices.Contains(states, statusOf(secret)) {
			continue
		}
		if wanted == nil {
			var err error
			if wanted, err = op.client.Build(strings.NewReader(record.Manifest), false); err != nil {
				return fmt.Errorf("revision %d: %w", record.Version, err)
			}
		}
		former, err := op.records.decode(secret)
		if err != nil {
			return err
		}
		had, err := op.client.Build(strings.NewReader(former.Manifest), false)
		if err != nil {
			return fmt.Errorf("revision %d: %w", former.Version, err)
		}
		if err := op.removeOwn(had.Difference(wanted)); err != nil {
			return fmt.Errorf("remove what revision %d has left behind: %w", former.Version, err)
		}
	}
	return nil
}

// removeOwn deletes those of the objects that exist, belong to the release and may be deleted.
func (op *operation) removeOwn(list kube.ResourceList) error {
	_, err := op.client.remove(list, func(live owner) bool {
		return live.release == op.namespace+"/"+op.name && !live.keep
	})
	return err
}

// owner is what the metadata of a live object says about whose it is.
type owner struct {
	release string // "namespace/name" of a Helm release, "" if none
	keep    bool   // not to be deleted by Helm
	words   string
	helm    bool // whether a Helm client has written it
}

// ownerOf reads the live object.
func ownerOf(info *resource.Info) (owner, error) {
	live, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if err != nil {
		return owner{}, err
	}
	object, err := meta.Accessor(live)
	if err != nil {
		return owner{}, err
	}
	return ownerIn(object), nil
}

// ownerIn reads it off the metadata.
func ownerIn(object metav1.Object) owner {
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	found := owner{keep: annotations[kube.ResourcePolicyAnno] == kube.KeepPolicy}
	managers := map[string]bool{}
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource == "" {
			managers[entry.Manager] = true
			// Terraform's provider for Helm carries its version at the end of the name.
			found.helm = found.helm || entry.Manager == fieldManager || strings.HasPrefix(entry.Manager, "terraform-provider-helm")
		}
	}
	managedBy := labels["app.kubernetes.io/managed-by"]
	name := annotations["meta.helm.sh/release-name"]
	if managedBy == "Helm" && name != "" {
		found.release = annotations["meta.helm.sh/release-namespace"] + "/" + name
		found.words = "of Helm release " + found.release
		return found
	}
	switch {
	case managedBy != "":
		found.words = "managed by " + managedBy
	case len(managers) > 0:
		found.words = "written by " + strings.Join(slices.Sorted(maps.Keys(managers)), ", ")
	default:
		found.words = "of unknown origin"
	}
	return found
}

// Foreign tells whether an object in the cluster does not belong to a release, so that Deploy would refuse to touch it,
// and whose it is then. If adopt is set, it is foreign only if it belongs to another release.
func Foreign(live *unstructured.Unstructured, namespace, name string, adopt bool) (ForeignObject, bool) {
	found := ownerIn(live)
	if found.release == namespace+"/"+name || adopt && found.release == "" {
		return ForeignObject{}, false
	}
	return ForeignObject{Kind: live.GetKind(), Namespace: live.GetNamespace(), Name: live.GetName(), Owner: found.words}, true
}

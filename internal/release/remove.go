package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/releaseutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

const (
	foreground = metav1.DeletePropagationForeground
	orphan     = metav1.DeletePropagationOrphan
)

// persistentVolumeClaim is the kind of volume claims.
var persistentVolumeClaim = kube.Kind{Version: "v1", Resource: "persistentvolumeclaims", Name: "PersistentVolumeClaim", Namespaced: true}

// holdsData is why a volume claim stays: nothing else has what is in it.
const holdsData = "it may hold data"

// UninstallOptions are settings of [Release.Uninstall].
type UninstallOptions struct {
	// DeleteCRDs deletes CRDs too, and with them all objects of their kinds.
	DeleteCRDs bool
	// HookTimeout is how long each hook may run, [DefaultHookTimeout] if zero.
	HookTimeout time.Duration
	// SkipHooks runs no hooks. Those before deletion are not run either for a
	// release that was never deployed completely: what they need may not be there.
	SkipHooks bool
}

// Uninstall deletes the objects of a release in reverse order, each kind before
// the next, and waits until they and their pods are gone; hooks run before and
// afterwards. It can be called again after any failure. What stays is returned,
// one line each with the reason: objects with the annotation
// "helm.sh/resource-policy: keep", CRDs, volume claims, namespaces that hold what
// is not of the release.
func (r *Release) Uninstall(ctx context.Context, options UninstallOptions) (kept []string, err error) {
	if r.record == nil {
		return nil, nil
	}
	kept, err = r.uninstall(ctx, options)
	return kept, r.wrap(err)
}

func (r *Release) uninstall(ctx context.Context, options UninstallOptions) (kept []string, err error) {
	next := *r.record
	next.Phase = PhaseUninstalling
	if err := r.write(ctx, &next); err != nil {
		return nil, err
	}
	var hooks []*hook
	if !options.SkipHooks {
		for _, e := range r.record.Hooks {
			hooks = append(hooks, hookOf(e))
		}
	}
	if !r.record.PreDeleted && r.record.Installed {
		if err := r.runHooks(ctx, hooks, preDelete, options.HookTimeout); err != nil {
			return nil, err
		}
		// Once objects are gone they would not run any more.
		next := *r.record
		next.PreDeleted = true
		if err := r.write(ctx, &next); err != nil {
			return nil, err
		}
	}
	all := slices.Concat(r.record.Former, r.record.Objects)
	slices.SortStableFunc(all, func(a, b *entry) int { return byKind(a.kind(), b.kind()) })
	isNamespace := func(e *entry) bool { return e.kind() == kube.Namespace }
	for _, e := range all {
		claims, err := r.claimsOf(ctx, e)
		if err != nil {
			return nil, err
		}
		for _, claim := range claims {
			kept = append(kept, fmt.Sprintf("%s: it holds the data of %s", claim, e.ref()))
		}
	}
	objects := slices.DeleteFunc(slices.Clone(all), isNamespace)
	left, stays, err := r.remove(ctx, objects, removal{crds: options.DeleteCRDs, wait: true})
	if err != nil {
		return nil, err
	}
	for _, e := range left {
		if _, _, err := r.locate(ctx, e); errors.Is(err, kube.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		stays = append(stays, e.ref().String()+": deleting it would delete all objects of its kind")
	}
	kept = append(kept, stays...)
	if err := r.runHooks(ctx, hooks, postDelete, options.HookTimeout); err != nil {
		return nil, err
	}
	// The record goes with its own namespace, if that goes; otherwise last.
	namespaces := slices.DeleteFunc(slices.Clone(all), func(e *entry) bool { return !isNamespace(e) })
	slices.SortStableFunc(namespaces, func(a, b *entry) int {
		return boolToInt(a.Object.GetName() == r.namespace) - boolToInt(b.Object.GetName() == r.namespace)
	})
	_, stays, err = r.remove(ctx, namespaces, removal{wait: true})
	if err != nil {
		return nil, err
	}
	kept = append(kept, stays...)
	err = r.releases.Cluster.Delete(ctx, recordRef(r.namespace, r.name), kube.DeleteOptions{UID: r.record.uid})
	if err != nil && !errors.Is(err, kube.ErrChanged) {
		return nil, fmt.Errorf("delete the record: %w", err)
	}
	r.record = nil
	return kept, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// removal says how objects are removed.
type removal struct {
	crds    bool     // CRDs too
	wait    bool     // until they are gone, kind by kind
	applied []*entry // not to be removed, though it may be known by other names as well
	staying bool     // the release, and therefore its namespace
}

// remove deletes those of the objects, given in order of installation, that
// exist and belong to the release, in reverse order. It returns CRDs that were
// left alone and, one line each, what was kept and why.
func (r *Release) remove(ctx context.Context, entries []*entry, how removal) (left []*entry, kept []string, err error) {
	applied := map[types.UID]bool{}
	for _, e := range how.applied {
		applied[e.UID] = true
	}
	ordered := groups(entries, (*entry).kind)
	slices.Reverse(ordered)
	for _, group := range ordered {
		if group[0].kind() == kube.CustomResourceDefinition && !how.crds {
			left = append(left, group...)
			continue
		}
		reasons := make([]string, len(group))
		err := inParallel(len(group), func(i int) (err error) {
			if group[i].kind() == kube.Namespace {
				reasons[i], err = r.leaveNamespace(ctx, group[i], how.staying)
			} else {
				reasons[i], err = r.removeOne(ctx, group[i], applied, how.wait)
			}
			return err
		})
		for i, reason := range reasons {
			if reason != "" {
				kept = append(kept, group[i].ref().String()+": "+reason)
			}
		}
		if err != nil {
			return nil, nil, err
		}
		if group[0].kind() == kube.CustomResourceDefinition {
			r.releases.Cluster.Mapper().Reset()
		}
	}
	return left, kept, nil
}

// removeOne deletes one object, or says why it is kept.
func (r *Release) removeOne(ctx context.Context, e *entry, applied map[types.UID]bool, wait bool) (kept string, err error) {
	for {
		ref, live, err := r.locate(ctx, e)
		switch {
		case errors.Is(err, kube.ErrNotFound):
			return "", nil
		case err != nil:
			return "", err
		case applied[live.GetUID()]:
			return "", nil
		case !r.owns(e, live.GetAnnotations(), live.GetUID()):
			return "", nil
		case e.keep() || live.GetAnnotations()[policyAnnotation] == policyKeep:
			return policyAnnotation + " says so", nil
		case e.kind() == persistentVolumeClaim:
			return holdsData, nil
		}
		err = r.releases.Cluster.Delete(ctx, ref, kube.DeleteOptions{UID: live.GetUID(), Wait: wait, Propagation: propagation(ref.Kind, wait)})
		if !errors.Is(err, kube.ErrChanged) {
			return "", err
		}
		// Another has taken its name since: look whose that is.
	}
}

// propagation has the pods of a workload deleted before it if somebody waits, as
// they are what matters.
func propagation(kind kube.Kind, wait bool) metav1.DeletionPropagation {
	plain := slices.Contains(releaseutil.InstallOrder, kind.Name) &&
		!slices.Contains(kube.WorkloadKinds(), kind) && kind != kube.ReplicaSet && kind != kube.Job && kind != kube.CronJob
	if plain || !wait {
		return metav1.DeletePropagationBackground
	}
	return foreground
}

// locate reads an object that was applied once, be it by another version of its
// kind. The error wraps kube.ErrNotFound also if the kind is not served any more.
func (r *Release) locate(ctx context.Context, e *entry) (kube.Ref, *unstructured.Unstructured, error) {
	ref := e.ref()
	live, err := r.releases.Cluster.Get(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) || !apierrors.IsNotFound(err) {
		return ref, live, err
	}
	// Not this object is unknown, but its kind or its version.
	r.releases.Cluster.Mapper().Reset()
	mapping, mapErr := r.releases.Cluster.Mapper().RESTMapping(e.Object.GroupVersionKind().GroupKind())
	switch {
	case meta.IsNoMatchError(mapErr):
		return ref, nil, fmt.Errorf("%s: %w, as is its kind", ref, kube.ErrNotFound)
	case mapErr != nil:
		return ref, nil, r.releases.Cluster.Explained(ctx, mapErr)
	case mapping.GroupVersionKind.Version == ref.Kind.Version:
		return ref, nil, err
	}
	ref.Kind.Version, ref.Kind.Resource = mapping.GroupVersionKind.Version, mapping.Resource.Resource
	live, err = r.releases.Cluster.Get(ctx, ref)
	return ref, live, err
}

// owns reports whether a live object is the one that the release has made.
func (r *Release) owns(e *entry, annotations map[string]string, uid types.UID) bool {
	mark := annotations[Annotation]
	return mark == r.id() || mark == "" && e.UID != "" && e.UID == uid
}

func splitID(id string) (namespace, name string) {
	namespace, name, _ = strings.Cut(id, "/")
	return namespace, name
}

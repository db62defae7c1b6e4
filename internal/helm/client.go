package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"
)

// pollInterval is the pace at which hooks, new CRDs and deletions are looked at.
const pollInterval = 500 * time.Millisecond

const crdKind = "CustomResourceDefinition"

// client is Helm's Kubernetes client with its waits ended by ctx, its errors kept, and without the fetching of the
// whole OpenAPI document: the API server validates what it is sent.
type client struct {
	*kube.Client
	ctx       context.Context // Helm's client interface has no contexts.
	mapper    meta.ResettableRESTMapper
	discovery discovery.ServerResourcesInterfaceWithContext // without a cache
	memo      *memo                                         // of what the API server has answered
	// yield is that of the DeployRequest.
	yield func(live, wanted *unstructured.Unstructured) error
	// keepCRDs leaves CustomResourceDefinitions standing where Helm would delete them.
	keepCRDs bool
	// failure is why an uninstall failed. Helm only logs it.
	failure error
}

// IsReachable is spared: the release's records have just been read.
func (c *client) IsReachable() error { return nil }

// Build reads a manifest. Helm asks for validation of what it is going to send and for none of what it is going to
// compare with or delete. The latter may be of kinds that the cluster serves no more (somebody deleted the CRD, or an
// uninstall was killed half way), and these must not stop the operation, since objects without a kind are gone.
func (c *client) Build(reader io.Reader, validate bool) (kube.ResourceList, error) {
	if validate {
		return c.Client.Build(reader, false)
	}
	manifest, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	served, err := c.served(string(manifest))
	if err != nil {
		c.failure = errors.Join(c.failure, err)
		return nil, err
	}
	list, err := c.Client.Build(strings.NewReader(served), false)
	if err != nil {
		c.failure = errors.Join(c.failure, err)
	}
	return list, err
}

// served returns the documents of a manifest whose kinds the cluster serves.
func (c *client) served(manifest string) (string, error) {
	documents := releaseutil.SplitManifests(manifest)
	order := slices.Collect(maps.Keys(documents))
	sort.Sort(releaseutil.BySplitManifestsOrder(order))
	var kept strings.Builder
	for _, key := range order {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(documents[key]), &head); err != nil || head.Kind == "" {
			// Helm's own reading of it will tell what is wrong.
			kept.WriteString("\n---\n" + documents[key])
			continue
		}
		gone, err := c.gone(head)
		if err != nil {
			return "", err
		}
		if !gone {
			kept.WriteString("\n---\n" + documents[key])
		}
	}
	return kept.String(), nil
}

// gone tells whether the API server says that it does not serve a kind. A group that cannot be asked at the moment,
// because its APIService is down, is an error.
func (c *client) gone(kind metav1.TypeMeta) (bool, error) {
	gvk := kind.GroupVersionKind()
	if gvk.Group == "" {
		return false, nil
	}
	_, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if !meta.IsNoMatchError(err) {
		return false, err
	}
	resources, err := c.discovery.ServerResourcesForGroupVersionWithContext(c.ctx, gvk.GroupVersion().String())
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask the API server whether it serves %s: %w", gvk, err)
	}
	for _, served := range resources.APIResources {
		if served.Kind == gvk.Kind {
			// Its CRD is younger than what the mapper knows.
			c.mapper.Reset()
			return false, nil
		}
	}
	return true, nil
}

// Create also replaces a hook that an interrupted operation has left behind. Most charts ask Helm for this; those that
// do not could never be installed again.
func (c *client) Create(resources kube.ResourceList) (*kube.Result, error) {
	result, err := c.create(resources)
	if !apierrors.IsAlreadyExists(err) {
		return result, err
	}
	left := resources.Filter(func(info *resource.Info) bool {
		return isHook(info.Object) && info.Mapping.GroupVersionKind.Kind != crdKind
	})
	if len(left) != len(resources) {
		return result, err
	}
	for _, info := range left {
		live, getErr := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
		if getErr != nil && !apierrors.IsNotFound(getErr) || getErr == nil && !isHook(live) {
			return result, err
		}
	}
	if _, errs := c.Delete(left); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if err := c.WaitForDelete(left, defaultHookTimeout); err != nil {
		return nil, err
	}
	return c.create(resources)
}

// create takes the bullets off Helm's lists of errors, most of which have one member.
func (c *client) create(resources kube.ResourceList) (*kube.Result, error) {
	result, err := c.Client.Create(resources)
	if list, ok := err.(interface{ WrappedErrors() []error }); ok {
		err = errors.Join(list.WrappedErrors()...)
	}
	return result, err
}

func isHook(object runtime.Object) bool {
	metadata, err := meta.Accessor(object)
	return err == nil && metadata.GetAnnotations()[release.HookAnnotation] != ""
}

// Update also repairs custom resources that were changed by hand: Helm's own comparison of these is between the old
// and the new manifest only.
func (c *client) Update(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	return c.UpdateThreeWayMerge(original, target, force)
}

// UpdateThreeWayMerge leaves others what they have set. Each object is read once: what Helm then compares with is what
// was yielded to, also if it changes in between. All are read before the first is written, so that nothing is if what
// others have set cannot be told.
func (c *client) UpdateThreeWayMerge(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	c.memo.begin()
	defer c.memo.end()
	for _, info := range target {
		live, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return &kube.Result{}, fmt.Errorf("%s: %w", describe(info), err)
		}
		found, isObject := live.(*unstructured.Unstructured)
		wanted, isUnstructured := info.Object.(*unstructured.Unstructured)
		if c.yield != nil && isObject && isUnstructured {
			if err := c.yield(found, wanted); err != nil {
				return &kube.Result{}, fmt.Errorf("%s: %w", describe(info), err)
			}
		}
	}
	result, err := c.Client.UpdateThreeWayMerge(original.Intersect(target), target, force)
	if err != nil {
		return result, err
	}
	// Helm would log what it fails to delete and forget it.
	result.Deleted, err = c.remove(original.Difference(target), func(live owner) bool { return !live.keep })
	return result, err
}

// remove deletes those of the objects that exist and may go.
func (c *client) remove(list kube.ResourceList, mayGo func(live owner) bool) (kube.ResourceList, error) {
	var going kube.ResourceList
	for _, info := range c.deletable(list) {
		live, err := ownerOf(info)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", describe(info), err)
		}
		if mayGo(live) {
			going.Append(info)
		}
	}
	if _, errs := c.Delete(going); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return going, nil
}

// Delete deletes in the background and remembers what failed.
func (c *client) Delete(resources kube.ResourceList) (*kube.Result, []error) {
	return c.DeleteWithPropagationPolicy(resources, metav1.DeletePropagationBackground)
}

// DeleteWithPropagationPolicy is Delete with a choice of what happens to dependents.
func (c *client) DeleteWithPropagationPolicy(
	resources kube.ResourceList, policy metav1.DeletionPropagation,
) (*kube.Result, []error) {
	resources = c.deletable(resources)
	if len(resources) == 0 {
		return &kube.Result{}, nil
	}
	result, errs := c.Client.DeleteWithPropagationPolicy(resources, policy)
	c.failure = errors.Join(append(errs, c.failure)...)
	return result, errs
}

func (c *client) deletable(resources kube.ResourceList) kube.ResourceList {
	if !c.keepCRDs {
		return resources
	}
	return resources.Filter(func(info *resource.Info) bool {
		return info.Mapping.GroupVersionKind.Kind != crdKind
	})
}

// WaitForDelete waits until the objects are gone.
func (c *client) WaitForDelete(resources kube.ResourceList, timeout time.Duration) error {
	return c.each(c.deletable(resources), timeout, "still exists", func(info *resource.Info) (bool, error) {
		err := info.Get()
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// Wait is only called for CRDs of a chart's crds directory.
func (c *client) Wait(resources kube.ResourceList, timeout time.Duration) error {
	return c.each(resources, timeout, "is not established", func(info *resource.Info) (bool, error) {
		if err := info.Get(); err != nil {
			return false, err
		}
		return hasCondition(info.Object, "Established")
	})
}

// WatchUntilReady waits until hooks that are Jobs or Pods have run.
func (c *client) WatchUntilReady(resources kube.ResourceList, timeout time.Duration) error {
	return c.each(resources, timeout, "has not completed", func(info *resource.Info) (bool, error) {
		switch info.Mapping.GroupVersionKind.Kind {
		case "Job":
			if err := info.Get(); err != nil {
				return false, err
			}
			if failed, err := hasCondition(info.Object, string(batchv1.JobFailed)); failed || err != nil {
				return false, errors.Join(err, errors.New("it failed"))
			}
			return hasCondition(info.Object, string(batchv1.JobComplete))
		case "Pod":
			if err := info.Get(); err != nil {
				return false, err
			}
			phase, _, err := nested(info.Object, unstructured.NestedString, "status", "phase")
			if phase == string(corev1.PodFailed) {
				return false, errors.New("it failed")
			}
			return phase == string(corev1.PodSucceeded), err
		default:
			return true, nil
		}
	})
}

// each polls until done holds for every resource. The error at the end of the time names the first for which it did
// not.
func (c *client) each(
	resources kube.ResourceList, timeout time.Duration, otherwise string, done func(*resource.Info) (bool, error),
) error {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	for _, info := range resources {
		err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(context.Context) (bool, error) {
			return done(info)
		})
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%s: %w", otherwise, context.Cause(ctx))
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", describe(info), err)
			c.failure = errors.Join(c.failure, err)
			return err
		}
	}
	return nil
}

func describe(info *resource.Info) string {
	kind := info.Mapping.GroupVersionKind.Kind
	if info.Namespace == "" {
		return kind + " " + info.Name
	}
	return kind + " " + info.Namespace + "/" + info.Name
}

func hasCondition(object runtime.Object, kind string) (bool, error) {
	found, _, err := nested(object, unstructured.NestedFieldNoCopy, "status", "conditions")
	if err != nil {
		return false, err
	}
	// A new CRD has null here.
	conditions, _ := found.([]any)
	for _, entry := range conditions {
		condition, ok := entry.(map[string]any)
		if ok && condition["type"] == kind && condition["status"] == "True" {
			return true, nil
		}
	}
	return false, nil
}

func nested[T any](
	object runtime.Object, get func(map[string]any, ...string) (T, bool, error), path ...string,
) (value T, found bool, err error) {
	content, ok := object.(runtime.Unstructured)
	if !ok {
		return value, false, fmt.Errorf("object is a %T", object)
	}
	return get(content.UnstructuredContent(), path...)
}

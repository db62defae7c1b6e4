package linkerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

const (
	cniChart = "linkerd2-cni"
	// cniRelease is the name of Linkerd's own instructions, and of the DaemonSet.
	cniRelease = "linkerd-cni"

	// DefaultCNINamespace is where the CNI plugin lives unless told otherwise.
	DefaultCNINamespace = "linkerd-cni"
)

// CNI is the plugin that redirects the traffic of pods from outside, so that
// they need no privileged init container.
type CNI struct {
	Namespace string
	// Values are the user's of the chart linkerd2-cni.
	Values map[string]any
}

// CheckCNIValues refuses values of the CNI plugin's chart that the provider sets.
func CheckCNIValues(values map[string]any) error {
	return install.RefuseOwned(values, map[string]string{"commonLabels": "its objects are told from others by their labels; use podLabels"})
}

// cniValues are those of the plugin's chart.
func cniValues(s Specification, chart *helm.Chart) (map[string]any, error) {
	defaults, err := chart.DefaultValues()
	if err != nil {
		return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
	}
	return helm.MergeValues(map[string]any{}, fromRegistry(s.Registry, defaults, "image.name"), s.CNI.Values), nil
}

// cniNamespaceMetadata are the labels and annotations that the command line gives
// the plugin's namespace, and Helm does not: its pods touch the nodes' disks.
func cniNamespaceMetadata() (labels, annotations map[string]string) {
	return map[string]string{
		cniResourceLabel:                     "true",
		admissionWebhooksLabel:               disabled,
		"pod-security.kubernetes.io/enforce": "privileged",
	}, map[string]string{injectAnnotation: disabled}
}

// holdCNINamespace makes the plugin's namespace, unless it is the control
// plane's, which has what it takes.
func (i Installer) holdCNINamespace(ctx context.Context, s Specification) error {
	if s.CNI == nil || s.CNI.Namespace == s.Namespace {
		return nil
	}
	labels, annotations := cniNamespaceMetadata()
	_, err := i.Cluster.HoldNamespace(ctx, kube.Hold{Namespace: s.CNI.Namespace, Holder: namespaceHolder, Labels: labels, Annotations: annotations})
	return err
}

// dropCNI uninstalls the plugin from a namespace; none if it is empty.
func (i Installer) dropCNI(ctx context.Context, namespace, controlPlane string) error {
	if namespace == "" {
		return nil
	}
	if err := i.Charts.Uninstall(ctx, namespace, cniRelease, helm.UninstallOptions{Wait: true}); err != nil {
		return err
	}
	if namespace == controlPlane {
		return nil
	}
	return i.Cluster.ReleaseNamespace(ctx, namespace, namespaceHolder)
}

// pluginOf is the release of the plugin that belongs to a Linkerd: the one in the
// namespace where it is known to be, and without one what an apply of ours has left
// behind that failed before it could be known; nil if there is none.
func (i Installer) pluginOf(ctx context.Context, known string) (*helm.Release, error) {
	namespace := known
	if namespace == "" {
		found, err := i.pluginNamespace(ctx)
		if err != nil || found == "" {
			return nil, err
		}
		namespace = found
	}
	record, err := i.release(ctx, namespace, cniRelease)
	if errors.Is(err, helm.ErrReleaseNotFound) || err == nil && known == "" && !install.Ours(record) {
		return nil, nil //nolint:nilnil // There is none.
	}
	return record, err
}

// droppedCNI is the release of the plugin that is not wanted any more; nil if
// there is none. Errors about the one that is wanted are *[InputError]: it would
// have to be moved, which leaves the nodes without one in between, or is somebody
// else's.
func (i Installer) droppedCNI(ctx context.Context, s Specification) (*helm.Release, error) {
	found, err := i.pluginOf(ctx, s.FormerCNI)
	if err != nil || s.CNI == nil {
		return found, err
	}
	if found != nil && found.Namespace != s.CNI.Namespace {
		return nil, &InputError{Input: "cni", Err: fmt.Errorf(
			"the CNI plugin is in namespace %s and cannot be moved to %s, as pods that start on nodes without it would get no network: keep its namespace, or leave cni out, apply, and add it again",
			found.Namespace, s.CNI.Namespace)}
	}
	if found == nil {
		_, err := i.Charts.Resumable(ctx, s.CNI.Namespace, cniRelease)
		if errors.Is(err, install.ErrForeign) {
			return nil, &InputError{Input: "cni", Err: fmt.Errorf("%w; uninstall it first, or import Linkerd together with it", err)}
		}
		return nil, err
	}
	return nil, nil //nolint:nilnil // It stays.
}

// findCNI is the namespace of the plugin that a control plane with these values
// relies on; empty if it relies on none, or on one that it does not find.
func (i Installer) findCNI(ctx context.Context, values map[string]any) (string, error) {
	if values["cniEnabled"] != true {
		return "", nil
	}
	return i.pluginNamespace(ctx)
}

// pluginNamespace is where a plugin of Helm's is; empty if there is none.
func (i Installer) pluginNamespace(ctx context.Context) (string, error) {
	all, err := i.Cluster.List(ctx, kube.DaemonSet, "")
	if err != nil {
		return "", err
	}
	for _, set := range all {
		if set.GetName() == cniRelease && set.GetAnnotations()[releaseNameAnnotation] == cniRelease {
			return set.GetNamespace(), nil
		}
	}
	return "", nil
}

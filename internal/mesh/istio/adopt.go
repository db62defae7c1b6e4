package istio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// unmanagedError tells of an object that is part of a control plane without a Helm
// release. It is an [install.ErrForeign] too.
type unmanagedError struct{ ref kube.Ref }

func (e *unmanagedError) Error() string {
	return e.ref.String() + " is part of an Istio that no Helm release has made, as istioctl leaves it"
}

func (*unmanagedError) Is(target error) bool { return target == install.ErrForeign }

const helmReleaseAnnotation = "meta.helm.sh/release-name"

func isNotFound(err error) bool { return errors.Is(err, kube.ErrNotFound) }

// unreleased is an object that is there without a Helm release of its own.
type unreleased struct {
	ref  kube.Ref
	live *unstructured.Unstructured
}

func (u unreleased) selector() map[string]string {
	labels, _, _ := unstructured.NestedStringMap(u.live.Object, "spec", "selector", "matchLabels")
	return labels
}

// unclaimed finds the object that stands for a component, if it is there and no
// Helm release has it; nil otherwise.
func (i Installer) unclaimed(ctx context.Context, c component) (*unreleased, error) {
	ref := kube.Ref{Kind: kube.Deployment, Namespace: c.namespace, Name: c.release}
	switch c.chart {
	case BaseChart:
		ref.Kind, ref.Name = kube.ServiceAccount, "istio-reader-service-account"
	case CNIChart:
		ref.Kind, ref.Name = kube.DaemonSet, cniNode
	case ZtunnelChart:
		ref.Kind, ref.Name = kube.DaemonSet, ztunnel
	}
	live, err := i.Cluster.Get(ctx, ref)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil || live.GetAnnotations()[helmReleaseAnnotation] != "" {
		return nil, err
	}
	return &unreleased{ref, live}, nil
}

// adopt has a release that is not there take over what istioctl has installed in
// its place. Of gateways, istioctl's charts are others than those for Helm: one
// whose pods are selected otherwise could only be made anew, so it is left alone,
// and its release not made, which the note says.
func (i Installer) adopt(ctx context.Context, release *install.Release, c component) (note string, err error) {
	existing, err := i.unclaimed(ctx, c)
	if err != nil || existing == nil {
		return "", err
	}
	release.Adopt = true
	if c.chart != GatewayChart {
		return "", nil
	}
	if before, after := existing.selector(), gatewaySelector(c); !maps.Equal(before, after) {
		*release = install.Release{}
		return fmt.Sprintf("%s is left alone: it selects its pods by %v, the chart by %v, and that cannot change; "+
			"give the gateway another name, move its traffic, and delete the old one", existing.ref, before, after), nil
	}
	return "", nil
}

// gatewaySelector is how the gateway chart selects pods (gateway.selectorLabels).
func gatewaySelector(c component) map[string]string {
	selector := map[string]string{"app": c.release, "istio": strings.TrimPrefix(c.release, "istio-")}
	for key := range selector {
		if value, _, err := unstructured.NestedString(c.values, "labels", key); err == nil && value != "" {
			selector[key] = value
		}
	}
	return selector
}

// observeUnmanaged looks at a control plane that istioctl has installed; the
// error is kube.ErrNotFound if there is none.
func (i Installer) observeUnmanaged(ctx context.Context, p Plane) (Installed, error) {
	istiod, err := i.unclaimed(ctx, component{namespace: p.Namespace, release: p.release(), chart: IstiodChart})
	if err != nil {
		return Installed{}, err
	}
	if istiod == nil {
		return Installed{}, fmt.Errorf("istiod of %s: %w", p, kube.ErrNotFound)
	}
	observed := Installed{Profile: ProfileMinimal}
	workload, err := i.Cluster.Workload(ctx, istiod.ref)
	if err != nil {
		return Installed{}, err
	}
	for _, container := range workload.Template.Spec.Containers {
		observed.Version = cmp.Or(observed.Version, versionOf(container.Image))
	}
	if version := istiod.live.GetLabels()["app.kubernetes.io/version"]; version != "" {
		observed.Version = version
	}
	has := func(chart, name string) bool {
		var there *unreleased
		if err == nil {
			there, err = i.unclaimed(ctx, component{namespace: p.Namespace, release: name, chart: chart})
		}
		return there != nil
	}
	ambient, cni := has(ZtunnelChart, ztunnelRelease), has(CNIChart, cniRelease)
	ingress, egress := has(GatewayChart, ingressGateway), has(GatewayChart, egressGateway)
	if err != nil {
		return Installed{}, err
	}
	switch {
	case ambient:
		observed.Profile = ProfileAmbient
	case egress:
		observed.Profile = ProfileDemo
	case ingress:
		observed.Profile = ProfileDefault
	}
	observed.CNI = cni && !ambient
	observed.Drift = []string{fmt.Sprintf("%s was installed without Helm, as by istioctl: the next apply takes what is there over into releases, and makes nothing anew", istiod.ref)}
	return observed, nil
}

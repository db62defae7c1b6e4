package linkerd

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// hints is where Linkerd's documentation explains its checks.
const hints = "https://linkerd.io/2/checks/#"

// Health finds out how a Linkerd is, by the checks of `linkerd check` (linkerd2's
// pkg/healthcheck), from what the cluster's API server knows.
type Health struct {
	Cluster   *kube.Cluster
	Namespace string // of the control plane
	// Early is how long before its end a certificate is worth a warning.
	Early time.Duration
	Now   time.Time
	// Managed reads what Azure says of the cluster; nil if it is not asked.
	Managed check.Managed
}

// The flags of a check.
const (
	warns = 1 << iota
	fatal
)

// of makes a check as `linkerd check` knows it.
func of(category, id, description string, flags int, run func(context.Context) error) check.Check {
	return check.Check{
		Category: category, ID: id, Description: description, HintURL: hints + id,
		Warns: flags&warns != 0, Fatal: flags&fatal != 0, Run: run,
	}
}

// Why checks of the command line are not made.
const (
	noCommandLine = "there is no command line whose version could be compared"
	noInternet    = "it would ask versioncheck.linkerd.io for the newest version; versions are pinned by the configuration"
	noForwarding  = "it would need a connection into a pod (port-forward)"
)

// Installed tells whether there is a control plane in the namespace.
func (h Health) Installed(ctx context.Context) (bool, error) {
	_, _, err := recordedValues(ctx, h.Cluster, h.Namespace)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		return false, nil
	}
	return err == nil, err
}

// Extended tells whether an extension ("viz") is installed.
func (h Health) Extended(ctx context.Context, extension string) (bool, error) {
	namespace, err := h.extension(ctx, extension)
	return namespace != "", err
}

// extension is the namespace of an extension; empty if it is not there.
func (h Health) extension(ctx context.Context, name string) (string, error) {
	all, err := h.Cluster.Namespaces(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range all {
		if n.Labels[extensionLabel] == name {
			return n.Name, nil
		}
	}
	return "", nil
}

// list reads the objects of a kind, of all namespaces, from the shared reads.
func (h Health) list(kind kube.Kind) func(context.Context) ([]*unstructured.Unstructured, error) {
	return func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		return h.Cluster.List(ctx, kind, "")
	}
}

// existing is a Run that wants objects of a kind without namespaces to be there.
func (h Health) existing(kind kube.Kind, names ...string) func(context.Context) error {
	return check.On(h.list(kind), func(there []*unstructured.Unstructured) error {
		return check.Present(kind, "", names, there)
	})
}

// pods reads those of all namespaces that live.
func (h Health) pods(ctx context.Context) ([]*corev1.Pod, error) {
	all, err := h.Cluster.Pods(ctx, "")
	return slices.DeleteFunc(slices.Clone(all), func(pod *corev1.Pod) bool { return !mesh.Living(pod) }), err
}

func (h Health) services(ctx context.Context) ([]*corev1.Service, error) {
	return h.Cluster.Services(ctx, "")
}

// A plane is what the control plane has recorded of itself.
type plane struct {
	version Version // zero if it is not known
	values  map[string]any
}

// value is the value of a key of the charts, zero if it is not set.
func value[T any](p plane, keys ...string) T {
	found, _, err := unstructured.NestedFieldNoCopy(p.values, keys...)
	typed, _ := found.(T)
	if err != nil {
		var none T
		return none
	}
	return typed
}

// proxyVersion is what proxies are made with for which nothing else is said.
func (p plane) proxyVersion() string {
	if version := value[string](p, "proxy", "image", "version"); version != "" {
		return version
	}
	return value[string](p, "linkerdVersion")
}

func (h Health) plane(ctx context.Context) (plane, error) {
	text, values, err := recordedValues(ctx, h.Cluster, h.Namespace)
	if err != nil {
		return plane{}, err
	}
	p := plane{values: values}
	if version, err := ParseVersion(text); err == nil {
		p.version = version
	}
	return p, nil
}

// with is a Run that judges what it reads by what the control plane has recorded.
func with[T any](h Health, read func(context.Context) (T, error), judge func(plane, T) error) func(context.Context) error {
	return func(ctx context.Context) error {
		p, err := h.plane(ctx)
		if errors.Is(err, mesh.ErrNoControlPlane) {
			return check.Skipf("there is no control plane in namespace %s", h.Namespace)
		}
		if err != nil {
			return err
		}
		return check.On(read, func(found T) error { return judge(p, found) })(ctx)
	}
}

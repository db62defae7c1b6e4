package linkerd

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
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

// about makes a check that only this provider knows.
func about(category, id, description string, flags int, run func(context.Context) error) check.Check {
	made := of(category, id, description, flags, run)
	made.HintURL = ""
	return made
}

// list reads objects of a kind from the shared reads.
func (h Health) list(kind kube.Kind, namespace string) func(context.Context) ([]*unstructured.Unstructured, error) {
	return func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		return h.Cluster.List(ctx, kind, namespace)
	}
}

package release

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// ForeignError says that an object exists that the release has not made.
type ForeignError struct {
	Ref   kube.Ref
	Owner string // "Helm release dgraph/dgraph", "release other/dgraph", "" if it is no release
}

func (e *ForeignError) Error() string {
	if e.Owner == "" {
		return fmt.Sprintf("%s exists already and belongs to no release; delete it, or take ownership of it", e.Ref)
	}
	return fmt.Sprintf("%s belongs to %s; take it out of one of them, or take ownership of it", e.Ref, e.Owner)
}

// ImmutableError says that fields of an object can be set only when it is made.
type ImmutableError struct {
	Ref    kube.Ref
	Fields []string // as the API server names them: spec.selector
	Reason string   // why making the object anew is not done either
	err    error
}

func (e *ImmutableError) Error() string {
	return fmt.Sprintf("%s: %s cannot be changed once it exists: %s", e.Ref, strings.Join(e.Fields, ", "), e.Reason)
}

func (e *ImmutableError) Unwrap() error { return e.err }

// RecordSizeError says that the objects of a release are too many for one
// Secret.
type RecordSizeError struct {
	Bytes int // compressed
}

func (e *RecordSizeError) Error() string {
	return fmt.Sprintf("its record would have %d bytes, compressed, but a Secret holds at most %d; divide the objects among several releases",
		e.Bytes, corev1.MaxSecretSize)
}

// HookError is a hook that failed or did not end in time.
type HookError struct {
	Event string // "pre-install"
	Ref   kube.Ref
	err   error
}

func (e *HookError) Error() string { return fmt.Sprintf("%s hook %s: %v", e.Event, e.Ref, e.err) }

func (e *HookError) Unwrap() error { return e.err }

// namesNamespace reports an error that says that the namespace of an object does
// not exist.
func namesNamespace(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil &&
		status.Status().Details.Kind == "namespaces" && status.Status().Reason == metav1.StatusReasonNotFound
}

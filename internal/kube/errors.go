package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	// ErrNotFound means that the API server itself said that the object does
	// not exist. A 404 from anything else, a missing API group or a missing
	// collection is not it.
	ErrNotFound = errors.New("not found")

	// ErrExists means that an object that should have been new is already there.
	ErrExists = errors.New("already exists")

	// ErrChanged means that a precondition did not hold: the object was changed
	// or replaced by another since it was read.
	ErrChanged = errors.New("changed since it was read")
)

// ConflictError reports fields that another field manager owns with other
// values than those applied.
type ConflictError struct {
	Ref      Ref
	Managers []string // without repetition, sorted
	Fields   []string // as the API server prints them: .spec.replicas
	err      error
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: %s managed by %s", e.Ref, strings.Join(e.Fields, ", "), strings.Join(e.Managers, ", "))
}

func (e *ConflictError) Unwrap() error { return e.err }

// quotedManager finds the manager in `conflict with "kubectl" using apps/v1`.
var quotedManager = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

func conflictOf(ref Ref, err error) *ConflictError {
	status := statusOf(err)
	if status == nil || status.Reason != metav1.StatusReasonConflict || status.Details == nil {
		return nil
	}
	conflict := &ConflictError{Ref: ref, err: err}
	for _, cause := range status.Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		manager, unquoteErr := strconv.Unquote(quotedManager.FindString(cause.Message))
		if unquoteErr != nil {
			manager = cause.Message
		}
		conflict.Managers = append(conflict.Managers, manager)
		conflict.Fields = append(conflict.Fields, cause.Field)
	}
	if len(conflict.Fields) == 0 {
		return nil
	}
	slices.Sort(conflict.Managers)
	conflict.Managers = slices.Compact(conflict.Managers)
	return conflict
}

func statusOf(err error) *metav1.Status {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	s := status.Status()
	return &s
}

// says404 reports whether the API server itself answered that the object does
// not exist. apierrors.IsNotFound is also true of errors that client-go makes
// up from any 404 whatever: those carry an "unexpected response" cause, and a
// server's own names the object.
func says404(ref Ref, err error) bool {
	status := statusOf(err)
	if status == nil || status.Reason != metav1.StatusReasonNotFound || status.Code != http.StatusNotFound || status.Details == nil {
		return false
	}
	for _, cause := range status.Details.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return false
		}
	}
	return status.Details.Name == ref.Name &&
		status.Details.Group == ref.Kind.Group &&
		(strings.EqualFold(status.Details.Kind, ref.Kind.Resource) || strings.EqualFold(status.Details.Kind, ref.Kind.Name))
}

// call makes one request, with retries that client-go makes where the server
// asks for them, within the limit of a single request, and sorts its outcome.
// Subject is what messages name: usually a Ref.
func (c *Cluster) call(ctx context.Context, verb string, subject fmt.Stringer, request func(context.Context) error) error {
	if err := c.reached(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", verb, subject, err)
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	last := &attempt{}
	err := request(context.WithValue(bounded, attemptKey{}, last))
	if err == nil {
		return nil
	}
	ref, _ := subject.(Ref)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case ref.Name != "" && says404(ref, err):
		err = ErrNotFound
	case bounded.Err() != nil:
		err = c.accessed(ctx, last.timedOut(c.timeout))
	default:
		if conflict := conflictOf(ref, err); conflict != nil {
			err = conflict
		} else if apierrors.IsConflict(err) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		} else if apierrors.IsAlreadyExists(err) {
			err = fmt.Errorf("%w: %w", ErrExists, err)
		} else {
			err = c.accessed(ctx, err)
		}
	}
	return fmt.Errorf("%s %s: %w", verb, subject, err)
}

// immutable finds the API server's ways of saying that a field can be set only
// when an object is made.
var immutable = regexp.MustCompile(`immutable|updates to statefulset spec for fields other than|cannot change roleRef|may not be changed|may not change once set`)

// ImmutableFields returns the fields that an update was refused for because they
// cannot be updated, and nothing if there was any other reason.
func ImmutableFields(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		if !immutable.MatchString(cause.Message) {
			return nil
		}
		fields = append(fields, cause.Field)
	}
	return fields
}

// transient reports errors that may well be over at the next attempt.
func transient(err error) bool {
	if status := statusOf(err); status != nil {
		return status.Code == http.StatusTooManyRequests || status.Code >= http.StatusInternalServerError
	}
	var network net.Error
	return errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

package provider

import (
	"context"
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A look goes on where the cluster comes back, and ends at once where it has said
// what is to be known.
func TestLookAgain(t *testing.T) {
	t.Parallel()
	busy, refused := apierrors.NewServiceUnavailable("busy"), errors.New("fields cannot be changed")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil)
	for name, c := range map[string]struct {
		answers []error // in turn, nil being success
		asked   int
		want    error
	}{
		"at once":         {[]error{nil}, 1, nil},
		"after a while":   {[]error{busy, nil}, 2, nil},
		"definitely not":  {[]error{refused}, 1, refused},
		"not once it can": {[]error{busy, refused}, 2, refused},
		"not allowed":     {[]error{forbidden}, 1, forbidden},
		"among others":    {[]error{errors.Join(busy, refused)}, 1, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			found, err := lookAgain(t.Context(), func(context.Context) (foresight, error) {
				err := c.answers[asked]
				asked++
				return foresight{unknown: err == nil}, err
			})
			if asked != c.asked || !errors.Is(err, c.want) || found.unknown != (c.want == nil) {
				t.Errorf("asked %d times, found %v, %v", asked, found, err)
			}
		})
	}
}

// One error that cannot but come again is enough, whatever else was not answered.
func TestDefinite(t *testing.T) {
	t.Parallel()
	busy, refused := apierrors.NewTooManyRequestsError("busy"), errors.New("fields cannot be changed")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{refused, true},
		{busy, false},
		{errors.Join(busy, refused), true},
		{fmt.Errorf("release a: %w", errors.Join(busy, fmt.Errorf("object: %w", refused))), true},
		{errors.Join(busy, fmt.Errorf("release b: %w", errors.Join(busy, context.DeadlineExceeded))), false},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, refused), false},
	} {
		if got := definite(c.err); got != c.want {
			t.Errorf("%v: definite %v, want %v", c.err, got, c.want)
		}
	}
}

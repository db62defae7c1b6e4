// Package check runs the health checks of a mesh: what `linkerd check` and its
// like find out by asking pods and command lines, from the lists of objects that
// everything in a run shares. What there is to check is for the meshes to say,
// except what they ask of a cluster alike.
package check

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Result is the outcome of a check, in the words of `linkerd check -o json`.
type Result string

// The results.
const (
	Success Result = "success"
	Warning Result = "warning"
	Error   Result = "error"
	Skipped Result = "skipped"
)

// Check is one thing to find out.
type Check struct {
	// Category, ID and Description are those of the mesh's own command line where
	// it has the check: "linkerd-identity", "l5d-identity-issuer-cert-is-time-valid",
	// "issuer cert is within its validity period".
	Category, ID, Description string
	// HintURL leads to what the mesh's documentation says about a failure; empty
	// if it says nothing.
	HintURL string
	// Warns makes a failure a warning instead of an error.
	Warns bool
	// Fatal makes the rest of the checks pointless if this one fails; they are
	// skipped.
	Fatal bool
	// Run returns nil for a success, a *[Skip] if it cannot or need not be found
	// out, and otherwise what is wrong, with the objects and the cure. It may run
	// beside those of other checks.
	Run func(context.Context) error
}

// Skip says why a check is not made.
type Skip struct{ Reason string }

func (s *Skip) Error() string { return s.Reason }

// Skipf is a Skip with a formatted reason.
func Skipf(format string, args ...any) error { return &Skip{Reason: fmt.Sprintf(format, args...)} }

// Skipping is a Run that skips its check for a reason.
func Skipping(reason string) func(context.Context) error {
	return func(context.Context) error { return &Skip{Reason: reason} }
}

// On is a Run that judges what it reads. What the credentials may not read cannot
// be found out.
func On[T any](read func(context.Context) (T, error), judge func(T) error) func(context.Context) error {
	return func(ctx context.Context) error {
		found, err := read(ctx)
		switch {
		case apierrors.IsForbidden(err):
			return Skipf("the credentials may not look: %v", err)
		case err != nil:
			return err
		}
		return judge(found)
	}
}

// Once reads for all checks that ask for the same; those that come later get the
// same answer. It is for what the shared reads of a cluster do not keep.
func Once[T any](read func(context.Context) (T, error)) func(context.Context) (T, error) {
	var (
		mu    sync.Mutex
		asked bool
		found T
		err   error
	)
	return func(ctx context.Context) (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if !asked {
			found, err = read(ctx)
			asked = ctx.Err() == nil // Whoever comes later may have more time.
		}
		return found, err
	}
}

// Lacking is the error that names what is wrong, at most the first few, between
// what is said before and after; nil if there is nothing.
func Lacking(before string, objects []string, after string) error {
	if len(objects) == 0 {
		return nil
	}
	return errors.New(before + kube.Few(objects) + after)
}

// Outcome is a check that was made.
type Outcome struct {
	Check

	Result Result
	// Err is what is wrong, or a *[Skip]; nil for a success.
	Err error
}

// Message is what is wrong, or why the check was skipped; empty for a success.
func (o Outcome) Message() string {
	if o.Err == nil {
		return ""
	}
	return o.Err.Error()
}

// atOnce is how many checks are made at the same time: each waits for few
// requests, which it shares with others.
const atOnce = 8

// Run makes checks, several at a time, and tells their outcomes in their order.
// It fails only if ctx ends: whatever a check cannot ask of the cluster is its own
// failure.
func Run(ctx context.Context, checks []Check) ([]Outcome, error) {
	failures := make([]error, len(checks))
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for i, one := range checks {
		group.Go(func() error {
			if ctx.Err() == nil {
				failures[i] = one.Run(ctx)
			}
			return nil // It is told with the others.
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	outcomes := make([]Outcome, len(checks))
	var fatal *Check
	for i, one := range checks {
		err := failures[i]
		if fatal != nil {
			err = Skipf("%s (%s) failed", fatal.Description, fatal.ID)
		}
		outcomes[i] = one.outcome(err)
		if outcomes[i].Result == Error && one.Fatal {
			fatal = &checks[i]
		}
	}
	return outcomes, nil
}

// outcome is what comes of a check that ends with an error, or nil.
func (c Check) outcome(err error) Outcome {
	_, skipped := errors.AsType[*Skip](err)
	switch {
	case err == nil:
		return Outcome{c, Success, nil}
	case skipped:
		return Outcome{c, Skipped, err}
	case c.Warns:
		return Outcome{c, Warning, err}
	default:
		return Outcome{c, Error, err}
	}
}

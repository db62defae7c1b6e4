// Package check runs the health checks of a mesh: what `linkerd check` and its
// like find out by asking pods and command lines, from the lists of objects that
// everything in a run shares. What there is to check is for the meshes to say.
package check

import (
	"context"
	"errors"
	"fmt"
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
	// out, and otherwise what is wrong, with the objects and the cure.
	Run func(context.Context) error
}

// Skip says why a check is not made.
type Skip struct{ Reason string }

func (s *Skip) Error() string { return s.Reason }

// Skipf is a Skip with a formatted reason.
func Skipf(format string, args ...any) error { return &Skip{Reason: fmt.Sprintf(format, args...)} }

// Outcome is a check that was made.
type Outcome struct {
	Check

	Result Result
	// Message is what is wrong, or why the check was skipped; empty for a success.
	Message string
}

// Run makes checks in their order. It fails only if ctx ends: whatever a check
// cannot ask of the cluster is its own failure.
func Run(ctx context.Context, checks []Check) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(checks))
	var fatal *Check
	for _, one := range checks {
		outcome := Outcome{Check: one, Result: Success}
		err := error(nil)
		if fatal != nil {
			err = Skipf("%s (%s) failed", fatal.Description, fatal.ID)
		} else {
			err = one.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		skip, skipped := errors.AsType[*Skip](err)
		switch {
		case err == nil:
		case skipped:
			outcome.Result, outcome.Message = Skipped, skip.Reason
		case one.Warns:
			outcome.Result, outcome.Message = Warning, err.Error()
		default:
			outcome.Result, outcome.Message = Error, err.Error()
		}
		if outcome.Result == Error && one.Fatal {
			fatal = &one
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, nil
}

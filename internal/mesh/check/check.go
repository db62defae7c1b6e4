// Package check runs the health checks of a mesh: what `linkerd check` and its
// like find out by asking pods and command lines, from the lists of objects that
// everything in a run shares. What there is to check is for the meshes to say,
// except what they ask of a cluster alike.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	// Awaits are the kinds whose objects the check looks at, if a failure may pass
	// by itself, as while pods start. None if only somebody can cure it.
	Awaits []kube.Kind
	// Run returns nil for a success, a *[Skip] if it cannot or need not be found
	// out, and otherwise what is wrong, with the objects and the cure. What the
	// credentials may not read cannot be found out. It may run beside those of
	// other checks.
	Run func(context.Context) error
}

// Awaiting is the check with kinds that it [Check.Awaits].
func (c Check) Awaiting(kinds ...kube.Kind) Check {
	c.Awaits = kinds
	return c
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

// On is a Run that judges what it reads.
func On[T any](read func(context.Context) (T, error), judge func(T) error) func(context.Context) error {
	return func(ctx context.Context) error {
		found, err := read(ctx)
		if err != nil {
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

// Await is Run, repeated while checks fail that may pass by themselves, until none
// does or a time has come, which may have passed already. The checks are made anew
// each time, as they keep what they have read; the outcomes are those of the last
// time.
func Await(ctx context.Context, cluster *kube.Cluster, until time.Time, checks func() []Check) ([]Outcome, error) {
	within, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		outcomes, err := Run(ctx, checks())
		if err != nil {
			return nil, err
		}
		pending := awaited(outcomes)
		if len(pending) == 0 || within.Err() != nil {
			return outcomes, nil
		}
		// Only those are asked again at every change.
		err = cluster.Await(within, "", kindsOf(pending), func(ctx context.Context) (string, error) {
			anew := checks()
			again, err := Run(ctx, slices.DeleteFunc(anew, func(c Check) bool { return !slices.ContainsFunc(pending, c.same) }))
			if err != nil {
				return "", err
			}
			return waitingFor(awaited(again)), nil
		})
		if err != nil && within.Err() == nil {
			return nil, err
		}
	}
}

// awaited are the outcomes that may become others by themselves.
func awaited(outcomes []Outcome) []Outcome {
	var found []Outcome
	for _, o := range outcomes {
		if (o.Result == Error || o.Result == Warning) && len(o.Awaits) > 0 {
			found = append(found, o)
		}
	}
	return found
}

// same reports whether an outcome is that of the check: some share an ID.
func (c Check) same(o Outcome) bool { return c.ID == o.ID && c.Description == o.Description }

func kindsOf(outcomes []Outcome) []kube.Kind {
	var kinds []kube.Kind
	for _, o := range outcomes {
		for _, kind := range o.Awaits {
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

func waitingFor(outcomes []Outcome) string {
	var ids []string
	for _, o := range outcomes {
		ids = append(ids, o.ID)
	}
	if len(ids) == 0 {
		return ""
	}
	return "the checks " + kube.Few(ids) + " to pass"
}

// outcome is what comes of a check that ends with an error, or nil.
func (c Check) outcome(err error) Outcome {
	_, skipped := errors.AsType[*Skip](err)
	switch {
	case err == nil:
		return Outcome{c, Success, nil}
	case skipped:
		return Outcome{c, Skipped, err}
	case apierrors.IsForbidden(err):
		return Outcome{c, Skipped, Skipf("the credentials may not look: %v", err)}
	case c.Warns:
		return Outcome{c, Warning, err}
	default:
		return Outcome{c, Error, err}
	}
}

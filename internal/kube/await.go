package kube

import (
	"context"
	"fmt"
	"time"
)

const (
	// pollInterval is how often a condition is looked at that nothing watches.
	pollInterval = time.Second

	// reviewInterval is how often a condition is looked at without a change of
	// what is watched: it may depend on the time, or on something else.
	reviewInterval = 5 * time.Second
)

// WaitError is an await that ended before its condition held.
type WaitError struct {
	Waiting string // what was still waited for
	Details string // what the cluster says about it, one reason a line; may be empty
	err     error  // why the wait ended
}

func (e *WaitError) Error() string {
	text := fmt.Sprintf("still waiting for %s: %v", e.Waiting, e.err)
	if e.Details != "" {
		text += "\n" + e.Details
	}
	return text
}

func (e *WaitError) Unwrap() error { return e.err }

// A condition says what is still waited for, "" for nothing, or fails.
type condition func(context.Context) (waiting string, err error)

// Await calls the condition now and again at each change of an object of the
// kinds in the namespace (in all of them if it is ""), until it waits for
// nothing ("") or fails. Shared reads of the kinds are current within the
// condition and cost no requests; after a wait, those of kinds that nothing
// watches are made anew, as what was waited for has changed them too. Without
// kinds the condition is called every second. Once the kinds are watched, a
// failure that may pass by itself does not end the wait unless it lasts. If the
// context ends first, the error is a *[WaitError].
func (c *Cluster) Await(ctx context.Context, namespace string, kinds []Kind, condition func(context.Context) (waiting string, err error)) error {
	interval := reviewInterval
	if len(kinds) == 0 {
		interval = pollInterval
	}
	return c.await(ctx, []string{namespace}, kinds, interval, condition)
}

// await is [Cluster.Await] in several namespaces. The condition is called at
// least once in each interval.
func (c *Cluster) await(ctx context.Context, namespaces []string, kinds []Kind, interval time.Duration, met condition) error {
	changed := make(chan struct{}, 1)
	// One place for the failure of each watch, so that none blocks.
	failed := make(chan error, len(kinds)*len(namespaces))
	var releases []func()
	defer func() {
		for _, release := range releases {
			release()
		}
	}()
	for _, namespace := range namespaces {
		for _, kind := range kinds {
			f := &follower{namespace: namespace, changed: changed, failed: failed}
			err := c.withMirror(kind, namespace, func(m *mirror) error {
				release, err := m.follow(ctx, f)
				if err == nil {
					releases = append(releases, release)
				}
				return err
			})
			if ctx.Err() != nil {
				return &WaitError{Waiting: "a first look at " + kind.Resource, err: context.Cause(ctx)}
			}
			if err != nil {
				return err
			}
		}
	}
	review := time.NewTicker(interval)
	defer review.Stop()
	waiting, waited := "a first look", false
	var failure error
	// When the cluster was last well: the condition could be evaluated, or at
	// first the watches began.
	healthy := time.Now()
	for {
		now, err := met(ctx)
		switch {
		case ctx.Err() != nil:
			return &WaitError{Waiting: waiting, err: because(ctx, failure)}
		case err != nil && transient(err) && time.Since(healthy) < patience*c.timeout:
			failure = err
		case err != nil:
			return err
		case now == "":
			if waited {
				c.moved()
			}
			return nil
		default:
			waiting, failure, healthy, waited = now, nil, time.Now(), true
		}
		select {
		case <-changed:
		case <-review.C:
		case err := <-failed:
			return fmt.Errorf("still waiting for %s: %w", waiting, err)
		case <-ctx.Done():
			return &WaitError{Waiting: waiting, err: because(ctx, failure)}
		}
	}
}

// because says why a wait ended: with its context, and maybe in the middle of a
// failure.
func because(ctx context.Context, failure error) error {
	if failure == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w; at last: %w", context.Cause(ctx), failure)
}

package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

const (
	// copyAttempts is how often a copy is begun. Requests are repeated beneath; what
	// is left are streams that break, which go on with the first blob that is missing.
	copyAttempts = 3

	// maxPause is the longest that a registry is waited for, by its word or by growing
	// pauses. One that asks for more (Docker Hub's limits last hours) is believed at
	// once.
	maxPause = 30 * time.Second
)

// patience repeats requests after as long as the registry says (Retry-After), or
// else with growing pauses.
func patience(pauses retry.Backoff) retry.Policy {
	return &retry.GenericPolicy{
		Retryable: repeatable, Backoff: pauses,
		MinWait: 200 * time.Millisecond, MaxWait: maxPause, MaxRetry: 5,
	}
}

// repeatable tells whether a request was throttled or failed for a moment.
func repeatable(response *http.Response, err error) (bool, error) {
	if err != nil {
		return broken(err), nil
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil &&
		time.Duration(seconds)*time.Second > maxPause {
		return false, nil
	}
	return failing(response.StatusCode) || response.StatusCode == http.StatusTooManyRequests, nil
}

// failing tells whether a status is of a registry that may be well in a moment.
func failing(status int) bool {
	return status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented
}

// broken tells whether an error is of a connection that ended early.
func broken(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// worthAnother tells whether a copy that ended with err may go on.
func worthAnother(err error) bool {
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	return answered && failing(response.StatusCode) || broken(err)
}

// pause waits as long as is due after an attempt, counted from 0.
func (c *Client) pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(c.pauses(attempt, nil))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

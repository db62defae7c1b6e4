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
	// copyAttempts is how often a copy is begun without anything coming of it. Requests
	// are repeated beneath; what is left are streams that break, and uploads of them
	// that are refused, which go on with the first blob that is missing.
	copyAttempts = 5

	// maxPause is the longest that a registry is waited for, by its word or by growing
	// pauses. One that asks for more (Docker Hub's limits last hours) is believed at
	// once.
	maxPause = 30 * time.Second
)

// pauses grow by attempt, counted from 0, and are no shorter than what a registry
// asked for.
func pauses(attempt int, asked time.Duration) time.Duration {
	return min(max(retry.DefaultBackoff(attempt, nil), asked), maxPause)
}

// patienceOf is how long an answer asks to be left alone, 0 if it does not.
func patienceOf(answer *http.Response) time.Duration {
	after := answer.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(after); err == nil {
		return max(0, time.Duration(min(seconds, int(24*time.Hour/time.Second)))*time.Second)
	}
	if moment, err := http.ParseTime(after); err == nil {
		return max(0, time.Until(moment))
	}
	return 0
}

// patience repeats requests after pauses.
func patience(pauses func(attempt int, asked time.Duration) time.Duration) retry.Policy {
	return &retry.GenericPolicy{
		Retryable: repeatable,
		Backoff: func(attempt int, answer *http.Response) time.Duration {
			if answer == nil {
				return pauses(attempt, 0)
			}
			return pauses(attempt, patienceOf(answer))
		},
		MaxWait: maxPause, MaxRetry: 5,
	}
}

// repeatable tells whether a request was throttled or failed for a moment.
func repeatable(response *http.Response, err error) (bool, error) {
	if err != nil {
		return broken(err), nil
	}
	if patienceOf(response) > maxPause {
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
	return answered && (failing(response.StatusCode) || response.StatusCode == http.StatusTooManyRequests) || broken(err)
}

// pause waits as long as is due after an attempt, counted from 0, and not shorter
// than was asked for.
func (c *Client) pause(ctx context.Context, attempt int, asked time.Duration) error {
	timer := time.NewTimer(c.pauses(attempt, asked))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// noAnswerError is a request that was given up because the API server took too
// long, as opposed to one that the caller gave up.
type noAnswerError struct{ after time.Duration }

func (e noAnswerError) Error() string   { return fmt.Sprintf("no answer within %s", e.after) }
func (e noAnswerError) Timeout() bool   { return true }
func (e noAnswerError) Temporary() bool { return true }

// Is makes the error one of the family of exceeded deadlines.
func (e noAnswerError) Is(target error) bool { return target == context.DeadlineExceeded }

// stillFailingError is a request that was tried again, as the server asked for,
// until its time was up.
type stillFailingError struct {
	after time.Duration
	err   error // of the last attempt
}

func (e stillFailingError) Error() string {
	return fmt.Sprintf("still failing after %s: %v", e.after, e.err)
}

func (e stillFailingError) Unwrap() error { return e.err }

// attempt remembers how the last attempt of a request failed: client-go forgets
// it when the time is up before the next one.
type attempt struct {
	mu  sync.Mutex
	err error
}

type attemptKey struct{}

func recordAttempt(request *http.Request, response *http.Response, err error) {
	record, ok := request.Context().Value(attemptKey{}).(*attempt)
	if !ok || request.Context().Err() != nil {
		return
	}
	if err == nil && (response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError) {
		err = apierrors.NewGenericServerResponse(response.StatusCode, request.Method, schema.GroupResource{}, "", "", 0, true)
	}
	if err != nil {
		record.mu.Lock()
		defer record.mu.Unlock()
		record.err = err
	}
}

// timedOut is the error of a request whose time is up.
func (a *attempt) timedOut(after time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return stillFailingError{after, a.err}
	}
	return noAnswerError{after}
}

// boundedTransport gives every request a deadline of its own, and lets a
// cancelled caller go at once even from a credential plugin, which knows no
// contexts. http.Client.Timeout would do the first, but would also end watches.
type boundedTransport struct {
	next    http.RoundTripper
	timeout time.Duration
	detach  bool // next may block without regard to the request's context
}

func newBoundedTransport(next http.RoundTripper, of *rest.Config, timeout time.Duration) *boundedTransport {
	return &boundedTransport{next: next, timeout: timeout, detach: of.ExecProvider != nil || of.AuthProvider != nil}
}

func (t *boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	timer := time.AfterFunc(t.timeout, func() { cancel(noAnswerError{t.timeout}) })
	release := func() {
		timer.Stop()
		cancel(context.Canceled)
	}
	response, err := t.exchange(request.WithContext(ctx))
	recordAttempt(request, response, err)
	if err != nil {
		if late, ok := errors.AsType[noAnswerError](context.Cause(ctx)); ok {
			err = late
		}
		release()
		return nil, err
	}
	if request.URL.Query().Get("watch") == "true" {
		// A watch has answered once it has begun; it then lasts as long as it likes.
		timer.Stop()
	}
	response.Body = &releasingBody{ReadCloser: response.Body, ctx: ctx, release: release}
	return response, nil
}

func (t *boundedTransport) exchange(request *http.Request) (*http.Response, error) {
	if !t.detach {
		return t.next.RoundTrip(request)
	}
	type outcome struct {
		response *http.Response
		err      error
	}
	done := make(chan outcome, 1)
	go func() {
		response, err := t.next.RoundTrip(request) //nolint:bodyclose // Whoever receives it closes it.
		done <- outcome{response, err}
	}()
	select {
	case got := <-done:
		return got.response, got.err
	case <-request.Context().Done():
		go func() {
			if got := <-done; got.err == nil {
				_ = got.response.Body.Close()
			}
		}()
		return nil, context.Cause(request.Context())
	}
}

// WrappedRoundTripper lets client-go reach the transport beneath.
func (t *boundedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

type releasingBody struct {
	io.ReadCloser
	ctx     context.Context
	release func()
}

func (b *releasingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if late, ok := errors.AsType[noAnswerError](context.Cause(b.ctx)); ok {
			err = late
		}
	}
	return n, err
}

func (b *releasingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// observingTransport reports writes made by clients other than the package's
// own, so that shared reads do not hide them.
type observingTransport struct {
	next  http.RoundTripper
	wrote func(schema.GroupResource)
}

func (t *observingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	switch request.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		// Also after an error: the write may have been done all the same.
		if request.URL.Query().Get("dryRun") == "" {
			t.wrote(resourceOf(request.URL.Path))
		}
	}
	return response, err
}

// WrappedRoundTripper lets client-go reach the transport beneath.
func (t *observingTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// resourceOf finds the resource in a request path such as
// /apis/apps/v1/namespaces/dgraph/deployments/alpha.
func resourceOf(path string) schema.GroupResource {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var group string
	for i, part := range parts {
		// The API may be served below a prefix.
		if part == "api" && len(parts) > i+2 {
			parts = parts[i+2:]
			break
		}
		if part == "apis" && len(parts) > i+3 {
			group, parts = parts[i+1], parts[i+3:]
			break
		}
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	return schema.GroupResource{Group: group, Resource: parts[0]}
}

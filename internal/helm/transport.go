package helm

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

// fieldManager is the owner that Helm's writes carry in managedFields. Helm's default is the name of the running
// program, which for a provider changes with each version and would make every version a new owner. The name of the
// Helm command line keeps releases that were made with it in one hand.
const fieldManager = "helm"

// boundTransport ends every request with ctx. Helm's actions send theirs with contexts of their own, so this is the
// one place where an action waiting on a silent API server can be ended.
type boundTransport struct {
	ctx  context.Context // See above: Helm has no way to hand it over per request.
	next http.RoundTripper
	memo memo
}

func (t *boundTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if response := t.memo.recall(request); response != nil {
		return response, nil
	}
	ctx, cancel := context.WithCancelCause(request.Context())
	stop := context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) }) //nolint:contextcheck // The point of it.
	end := func() {
		stop()
		cancel(nil)
	}
	request = request.Clone(ctx)
	if query := request.URL.Query(); query.Has("fieldManager") {
		query.Set("fieldManager", fieldManager)
		request.URL.RawQuery = query.Encode()
	}
	response, err := t.next.RoundTrip(request)
	if err != nil {
		end()
		return nil, err
	}
	response.Body = &boundBody{ReadCloser: response.Body, end: end}
	if err := waitRetryAfter(ctx, response); err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	if err := t.memo.keep(request, response); err != nil {
		return nil, err
	}
	return response, nil
}

// waitRetryAfter does the waiting that a throttling server asks for. client-go would do it under the context of the
// request, which Helm never cancels, so here it is done and then struck from the response.
func waitRetryAfter(ctx context.Context, response *http.Response) error {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode < http.StatusInternalServerError {
		return nil
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds <= 0 {
		return nil // client-go does not wait for anything but a number of seconds either.
	}
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		response.Header.Set("Retry-After", "0")
		return nil
	}
}

type boundBody struct {
	io.ReadCloser
	end func()
}

func (b *boundBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// graced returns a context that outlives ctx by the given time, for the last words of an operation that is ended.
func graced(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		defer cancel()
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-late.Done():
		}
	})
	return late, func() {
		stop()
		cancel()
	}
}

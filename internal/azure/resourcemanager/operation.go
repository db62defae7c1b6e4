package resourcemanager

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// pollEvery is how often an operation is asked after when ARM does not say.
const pollEvery = 5 * time.Second

// Await waits for the operation that goes on after a request was accepted, for as
// long as ctx lets it; it is asked after as often as Retry-After says. accepted is
// what Send returned for the request. Errors are *Error.
func (c *Client) Await(ctx context.Context, doing string, accepted *http.Response) error {
	poller, err := runtime.NewPoller[struct{}](accepted, c.arm.Pipeline(), nil)
	if err != nil {
		return &Error{Doing: doing, err: err}
	}
	_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok && answer.RawResponse != nil {
		return refused(doing, answer.RawResponse)
	}
	if err != nil {
		return &Error{Doing: doing, err: err}
	}
	return nil
}

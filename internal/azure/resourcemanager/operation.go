package resourcemanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// pollEvery is how often an operation is asked after when ARM does not say.
const pollEvery = 5 * time.Second

// Operate makes a request by which an operation begins that may go on after the
// answer, and waits for its end as long as ctx lets it: Azure goes on with what it
// has accepted. ARM is asked after it as often as its Retry-After says. Errors are
// *Error.
func (c *Client) Operate(ctx context.Context, request Request) error {
	accepted, err := c.send(ctx, request)
	if err != nil && ctx.Err() != nil {
		return &Error{Doing: request.Doing, Unfinished: true, err: fmt.Errorf("ended before Azure had answered: %w", context.Cause(ctx))}
	}
	if err != nil {
		return err
	}
	defer func() { _ = accepted.Body.Close() }()
	poller, err := runtime.NewPoller[struct{}](accepted, c.arm.Pipeline(), nil)
	if err != nil {
		return &Error{Doing: request.Doing, err: err}
	}
	_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
	if err != nil && ctx.Err() != nil {
		return &Error{Doing: request.Doing, Unfinished: true, err: fmt.Errorf("not waited for any longer, while Azure goes on with it: %w", context.Cause(ctx))}
	}
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok && answer.RawResponse != nil {
		refusal := refused(request.Doing, answer.RawResponse)
		refusal.waited = refusal.wait <= c.retry.MaxRetryDelay
		return refusal
	}
	if err != nil {
		return &Error{Doing: request.Doing, err: err}
	}
	return nil
}

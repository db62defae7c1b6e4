package mesh

import (
	"context"
	"errors"
	"time"
)

// LastLook is the context for finding out what an operation has left behind,
// whatever has ended it. After a cancellation it is short, because Terraform is
// waiting for the end; the caller ends it.
func LastLook(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := time.Minute
	if errors.Is(ctx.Err(), context.Canceled) {
		limit = time.Second
	}
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

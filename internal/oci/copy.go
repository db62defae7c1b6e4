package oci

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
)

// Progress is one blob or manifest that came to its place.
type Progress struct {
	From, To  Reference
	Digest    string
	MediaType string
	Size      int64 // bytes
	Skipped   bool  // it was there already, with all that it refers to
}

// copy makes to what from, which has a digest, is: with all platforms and through
// this machine. What is at the place already is not sent again, so that an
// interrupted copy goes on where it ended.
func (c *Client) copy(ctx context.Context, from, to Reference, progress func(Progress)) error {
	source, err := c.Repository(from)
	if err != nil {
		return err
	}
	target, err := c.Repository(to)
	if err != nil {
		return err
	}
	var (
		brought  sync.Map    // what there had been progress of, by digest
		advanced atomic.Bool // in this attempt
	)
	tell := func(skipped bool) func(context.Context, ocispec.Descriptor) error {
		return func(_ context.Context, done ocispec.Descriptor) error {
			if _, known := brought.LoadOrStore(done.Digest, true); !known && !skipped {
				advanced.Store(true)
			}
			if progress != nil {
				progress(Progress{
					From: from, To: to,
					Digest: done.Digest.String(), MediaType: done.MediaType, Size: done.Size, Skipped: skipped,
				})
			}
			return nil
		}
	}
	options := oras.CopyOptions{CopyGraphOptions: oras.CopyGraphOptions{
		PostCopy: tell(false), OnCopySkipped: tell(true),
	}}
	for attempt := 0; ; attempt++ {
		attempted, throttled := withThrottling(ctx)
		_, err = oras.Copy(attempted, source, from.Digest, target, to.pointer(), options)
		if err == nil {
			return nil
		}
		if advanced.Swap(false) {
			attempt = 0
		}
		if attempt+1 >= copyAttempts || throttled.pause() > maxPause || !worthAnother(err) || c.pause(ctx, attempt, throttled.pause()) != nil {
			return c.copyFailure(ctx, from, to, err)
		}
	}
}

// copyFailure puts an error of a copy down to the registry that it is of.
func (c *Client) copyFailure(ctx context.Context, from, to Reference, err error) error {
	of := to
	if failed, ok := errors.AsType[*oras.CopyError](err); ok {
		err = failed.Err
		if failed.Origin == oras.CopyErrorOriginSource {
			of = from
		}
	}
	if errors.Is(err, content.ErrMismatchedDigest) || errors.Is(err, content.ErrTrailingData) {
		of = from
	}
	return c.failure(ctx, of, err)
}

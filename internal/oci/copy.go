package oci

import (
	"context"
	"errors"
)

// Progress is one blob or manifest that came to its place.
type Progress struct {
	From, To  Reference
	Digest    string
	MediaType string
	Size      int64 // bytes
	Skipped   bool  // it was there already, with all that it refers to
}

// Copy makes to what from is, with all platforms, through this machine. What to
// has already is not sent again, so that an interrupted copy goes on where it
// ended; nothing at all is sent if to has the digest already. The digest is
// verified at the end. Errors are those of Resolve, and DigestError. progress may
// be nil; it is called concurrently.
func (c *Client) Copy(ctx context.Context, from, to Reference, progress func(Progress)) (Descriptor, error) {
	return Descriptor{}, errors.ErrUnsupported
}

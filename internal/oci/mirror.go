package oci

import "context"

// Task is one image that is to be in another place. If From has a digest, it is
// that image whatever the tag says now.
type Task struct{ From, To Reference }

// MirrorOptions say how images come to their places.
type MirrorOptions struct {
	// Parallel is how many images are on their way at once.
	Parallel int
	// Import brings an image to its place without this machine between; from has a
	// digest. If nil, images are copied.
	Import func(ctx context.Context, from, to Reference) error
	// Progress may be nil; it is called concurrently.
	Progress func(Progress)
}

// Outcome is what became of a Task.
type Outcome struct {
	Digest string // of the image at its place, "sha256:…"; "" after an error
	// Placed tells that something was sent: the image had not been there.
	Placed bool
	// Unverified tells that the image was imported into a registry that cannot be
	// reached from here, so that nobody saw it there.
	Unverified bool
	Err        error
}

// Mirror does all tasks and returns what became of each, in their order. The
// failure of one ends no other.
func (c *Client) Mirror(ctx context.Context, tasks []Task, options MirrorOptions) []Outcome {
	return nil
}

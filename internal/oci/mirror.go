package oci

import (
	"context"
	"errors"
	"fmt"
)

// Task is one image that is to be in another place. If From has a digest, it is
// that image whatever the tag says now. To has a tag, or else neither tag nor
// digest: the image is reached by its digest alone then.
type Task struct {
	From, To Reference
	Move     bool // To's tag is moved if it leads to another image; otherwise TakenError
}

// ErrTagThere is what errors of MirrorOptions.Import are that refuse an image for
// its tag, which is there already.
var ErrTagThere = errors.New("the tag is there already")

// MirrorOptions say how images come to their places.
type MirrorOptions struct {
	// Parallel is how many images are on their way at once; of each, three blobs are.
	Parallel int
	// Import brings an image to its place without this machine between: From has a
	// digest and no tag. If nil, images are copied.
	Import func(ctx context.Context, task Task) error
	// Progress may be nil; it is called concurrently.
	Progress func(Progress)
}

// Outcome is what became of a Task.
type Outcome struct {
	Digest string // of the image at its place, "sha256:…"; "" after an error
	// Placed tells that the image was brought: it had not been there.
	Placed bool
	// Unverified is why nobody saw the image in its place after it had been imported,
	// or refused as its tag was there: an UnreachableError or UnauthorizedError of a
	// registry that cannot be read from here. nil if it was seen.
	Unverified error
	// Err is nil, an error of Import, of ctx, or one of UnknownError,
	// UnauthorizedError, ThrottledError, UnreachableError, AnswerError, DigestError and
	// TakenError.
	Err error
}

// Mirror does all tasks and returns what became of each, in their order. The
// failure of one ends no other. Images that are in their place already are left
// alone; others come with all their platforms and their digest, which is verified.
// An interrupted copy goes on with what is missing.
func (c *Client) Mirror(ctx context.Context, tasks []Task, options MirrorOptions) []Outcome {
	outcomes := make([]Outcome, len(tasks))
	each(len(tasks), options.Parallel, func(i int) {
		outcome, err := c.place(ctx, tasks[i], options)
		if err != nil {
			outcome = Outcome{Err: err}
		}
		outcomes[i] = outcome
	})
	return outcomes
}

func (c *Client) place(ctx context.Context, task Task, options MirrorOptions) (Outcome, error) {
	from, to := task.From, task.To
	if from.Digest == "" {
		digest, err := c.digest(ctx, from)
		if err != nil {
			return Outcome{}, err
		}
		from.Digest = digest
	}
	from.Tag, to.Digest = "", ""
	if to.Tag == "" {
		to.Digest = from.Digest
	}
	outcome := Outcome{Digest: from.Digest}

	there, err := c.digest(ctx, to)
	_, unknown := errors.AsType[*UnknownError](err)
	switch {
	case err == nil && there == from.Digest:
		return outcome, nil
	case err == nil && !task.Move:
		return Outcome{}, &TakenError{Reference: to, Want: from.Digest, Got: there}
	case err != nil && !unknown && (!unseen(err) || options.Import == nil):
		return Outcome{}, err
	}

	outcome.Placed = true
	if options.Import != nil {
		err = options.Import(ctx, Task{From: from, To: to, Move: task.Move})
	} else {
		err = c.copy(ctx, from, to, options.Progress)
	}
	if err != nil && options.Import != nil {
		// A request that was sent again, for no answer had come, may be refused by what
		// the first has brought; and others may have been faster.
		there, lookErr := c.digest(ctx, to)
		switch {
		case lookErr == nil && there == from.Digest:
			return outcome, nil
		case lookErr == nil && !task.Move:
			err = &TakenError{Reference: to, Want: from.Digest, Got: there}
		case unseen(lookErr) && errors.Is(err, ErrTagThere):
			// It is most likely that of an earlier import; to move it would be worse than to
			// leave it.
			outcome.Placed = false
			outcome.Unverified = fmt.Errorf("the tag is there already, and may lead to another image: %w", lookErr)
			return outcome, nil
		}
	}
	if err != nil {
		return Outcome{}, err
	}
	looks := 1
	if options.Import != nil {
		looks = importLooks
	}
	err = c.verify(ctx, to, from.Digest, looks)
	if options.Import != nil && unseen(err) {
		outcome.Unverified, err = err, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	return outcome, nil
}

// importLooks is how often an imported image is looked for, within about a minute:
// a registry imports into one of its replicas, and another may answer here, which
// gets the image later.
const importLooks = 9

// verify looks for an image in its place.
func (c *Client) verify(ctx context.Context, at Reference, digest string, looks int) error {
	for look := 0; ; look++ {
		there, err := c.digest(ctx, at)
		if err == nil && there != digest {
			err = &DigestError{Reference: at, Want: digest, Got: there}
		}
		_, unknown := errors.AsType[*UnknownError](err)
		_, other := errors.AsType[*DigestError](err)
		if !unknown && !other || look+1 == looks {
			return err
		}
		if c.pause(ctx, look, 0) != nil {
			return c.failure(ctx, at, err)
		}
	}
}

// unseen tells whether err is of a registry that cannot be read from here, or not
// with the rights of who asks: it can import all the same.
func unseen(err error) bool {
	_, unreachable := errors.AsType[*UnreachableError](err)
	_, unauthorized := errors.AsType[*UnauthorizedError](err)
	return unreachable || unauthorized
}

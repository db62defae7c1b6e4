package oci

import "context"

// Digests is ResolveAll without the platforms: one HEAD request for each reference,
// which Docker Hub does not count as a pull. Of the descriptors only the digest is
// set.
func (c *Client) Digests(ctx context.Context, references []Reference, parallel int) []Resolved {
	answers := make([]Resolved, len(references))
	each(len(references), parallel, func(i int) {
		answers[i].Descriptor.Digest, answers[i].Err = c.digest(ctx, references[i])
	})
	return answers
}

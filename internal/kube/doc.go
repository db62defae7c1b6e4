// Package kube speaks to one Kubernetes cluster: how it is reached ([Settings],
// [Connect]), what it answers (found, [ErrNotFound], or an unknown error),
// server-side apply, reads that a whole process shares, waiting for changes,
// rollouts, and namespaces that several owners hold together.
//
// A read ends in exactly one of three outcomes. A value: the object was seen.
// An error that wraps [ErrNotFound]: the API server itself said that this very
// object does not exist. Any other error: nothing is known. Only the second
// may be taken to mean that something is gone.
package kube

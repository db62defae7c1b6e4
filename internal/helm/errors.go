package helm

import (
	"errors"
	"fmt"
	"strings"
)

// ErrReleaseNotFound is returned when the API server itself says that a release has no record. Errors of the API
// (unreachable, unauthorised, throttled, …) are never turned into it.
var ErrReleaseNotFound = errors.New("release not found")

// UnreachableError says that a chart repository or registry could not be asked, or did not answer sensibly.
type UnreachableError struct {
	Repository string // URL as given in the Source
	Err        error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("chart repository %s cannot be reached: %v", e.Repository, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// UnauthorizedError says that a chart repository or registry refused the credentials, or wants some.
type UnauthorizedError struct {
	Repository string // URL as given in the Source
	Host       string // host to which the request went: the one that needs a Credential
	Err        error
}

func (e *UnauthorizedError) Error() string {
	return fmt.Sprintf("chart repository %s: %s refused access; check the credentials configured for this host: %v",
		e.Repository, e.Host, e.Err)
}

func (e *UnauthorizedError) Unwrap() error { return e.Err }

// UnknownChartError says that a repository answered and has no chart of that name.
type UnknownChartError struct {
	Repository string   // URL as given in the Source, "" for a local path
	Name       string   // chart name or local path
	Charts     []string // names the repository does have, if it lists them
}

func (e *UnknownChartError) Error() string {
	if e.Repository == "" {
		return fmt.Sprintf("chart %s: no such file or directory", e.Name)
	}
	message := fmt.Sprintf("chart %q does not exist in %s", e.Name, e.Repository)
	if len(e.Charts) > 0 {
		message += "; it has " + strings.Join(e.Charts, ", ")
	}
	return message
}

// UnknownVersionError says that a repository has the chart, but not in that version.
type UnknownVersionError struct {
	Repository string   // URL as given in the Source, or the local path
	Name       string   // chart name
	Version    string   // version asked for
	Nearest    []string // existing versions, the nearest first
}

func (e *UnknownVersionError) Error() string {
	message := fmt.Sprintf("chart %q has no version %q in %s", e.Name, e.Version, e.Repository)
	if len(e.Nearest) > 0 {
		message += "; the nearest existing versions are " + strings.Join(e.Nearest, ", ")
	}
	return message
}

// DigestError says that the bytes of a chart are not those that its repository announced.
type DigestError struct {
	Source Source
	Want   string // "sha256:…" announced by the repository
	Got    string // "sha256:…" of what was received
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("chart %s has digest %s, but its repository announces %s", e.Source, e.Got, e.Want)
}

// PendingError says that another Helm operation seems to be at work on a release right now.
type PendingError struct {
	Namespace, Name string
	Status          string // "pending-upgrade", …
	Since           string // RFC 3339
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("release %s/%s is %s since %s, begun by another Helm client; wait until it ends",
		e.Namespace, e.Name, e.Status, e.Since)
}

// ForeignObject is an object that exists in the cluster and belongs to somebody else.
type ForeignObject struct {
	Kind, Namespace, Name string
	Owner                 string // who seems to own it, in words
}

func (o ForeignObject) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return fmt.Sprintf("%s %s (%s)", o.Kind, name, o.Owner)
}

// ForeignObjectsError says that a chart wants objects which exist already and do not belong to its release.
type ForeignObjectsError struct {
	Namespace, Name string // the release
	Objects         []ForeignObject
}

func (e *ForeignObjectsError) Error() string {
	names := make([]string, len(e.Objects))
	for i, object := range e.Objects {
		names[i] = object.String()
	}
	return fmt.Sprintf("release %s/%s would take over objects that exist already and belong to others: %s",
		e.Namespace, e.Name, strings.Join(names, ", "))
}

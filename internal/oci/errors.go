package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// UnknownError says that the registry has no such image.
type UnknownError struct {
	Reference Reference
	Err       error
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("image %s does not exist: %v", e.Reference, e.Err)
}

func (e *UnknownError) Unwrap() error { return e.Err }

// UnauthorizedError says that the registry refused the credentials, or wants some.
type UnauthorizedError struct {
	Reference Reference
	Host      string // the one that needs a credential
	Method    string // HTTP method that was refused, "" if there was no login for it
	Err       error
	Login     error // why a keychain had no credential, or nil
}

func (e *UnauthorizedError) Error() string {
	message := fmt.Sprintf("image %s: %s refused access: %v", e.Reference, e.Host, e.Err)
	if e.Login != nil {
		message += fmt.Sprintf("; logging in had failed before: %v", e.Login)
	}
	return message
}

func (e *UnauthorizedError) Unwrap() []error {
	if e.Login == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Login}
}

// ThrottledError says that the registry kept answering "too many requests".
type ThrottledError struct {
	Reference Reference
	Host      string
	Err       error
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("image %s: %s throttles: %v", e.Reference, e.Host, e.Err)
}

func (e *ThrottledError) Unwrap() error { return e.Err }

// UnreachableError says that the registry could not be asked, or is out of order.
type UnreachableError struct {
	Reference Reference
	Host      string
	Err       error
	// Firewall tells that the registry is there, but lets nobody in from here.
	Firewall bool
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("image %s: %s cannot be reached: %v", e.Reference, e.Host, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// AnswerError says that the registry answered, and not what it was asked for: it
// does not know how, holds the request to be wrong, or what it says makes no sense.
type AnswerError struct {
	Reference Reference
	Host      string
	Err       error
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("image %s: %s does not do as asked: %v", e.Reference, e.Host, e.Err)
}

func (e *AnswerError) Unwrap() error { return e.Err }

// DigestError says that an image is not what it was taken for.
type DigestError struct {
	Reference Reference
	Want, Got string // "sha256:…"
	Err       error  // instead of the two, of a part of the image that is not what its digest says
}

func (e *DigestError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("image %s: what came of it is not what it says: %v", e.Reference, e.Err)
	}
	return fmt.Sprintf("image %s has digest %s instead of %s", e.Reference, e.Got, e.Want)
}

func (e *DigestError) Unwrap() error { return e.Err }

// TakenError says that a tag leads to another image already, and may not be moved.
type TakenError struct {
	Reference Reference // has the tag
	Want, Got string    // "sha256:…": of the image that was to come, and of that there
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("image %s is there already and is another: %s instead of %s", e.Reference, e.Got, e.Want)
}

// azureFirewall is the link in answers of Azure's registries to clients that their
// network rules keep out. The status is that of missing rights, 403.
const azureFirewall = "aka.ms/acr/firewall"

// failure says what an error of oras means for an image.
func (c *Client) failure(ctx context.Context, of Reference, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("image %s: %w", of, context.Cause(ctx))
	}
	host := AnsweredBy(err, of.Host())
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	login := c.LoginError(host)
	if login != nil && strings.Contains(login.Error(), azureFirewall) {
		return &UnreachableError{Reference: of, Host: host, Err: login, Firewall: true}
	}
	firewall := answered && strings.Contains(response.Error(), azureFirewall)
	err = WithoutQueries(err)
	status := 0
	if answered {
		status = response.StatusCode
	}
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return &UnauthorizedError{Reference: of, Host: host, Err: err, Login: login}
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && !firewall:
		return &UnauthorizedError{
			Reference: of, Host: host, Method: response.Method, Err: err, Login: login,
		}
	case status == http.StatusTooManyRequests:
		return &ThrottledError{Reference: of, Host: host, Err: err}
	case status == http.StatusNotFound || errors.Is(err, errdef.ErrNotFound):
		return &UnknownError{Reference: of, Err: err}
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData):
		return &DigestError{Reference: of, Err: err}
	case firewall, failing(status), unanswered(err):
		return &UnreachableError{Reference: of, Host: host, Err: err, Firewall: firewall}
	default:
		return &AnswerError{Reference: of, Host: host, Err: err}
	}
}

// unanswered tells whether err is of a request that no answer came to, or only a
// part of one.
func unanswered(err error) bool {
	if _, ok := errors.AsType[*downgradeError](err); ok {
		return false
	}
	_, request := errors.AsType[*url.Error](err)
	_, connection := errors.AsType[net.Error](err)
	return request || connection || broken(err)
}

// query finds the query of a URL in a message.
var query = regexp.MustCompile(`(https?://[^\s"'?]+)\?[^\s"']*`)

// redacted is an error whose message holds no queries of URLs: registries lead to
// storage by URLs that are signed in the query, and give who reads them the blob.
type redacted struct {
	message string
	err     error
}

// WithoutQueries is err with a message in which URLs have no queries.
func WithoutQueries(err error) error {
	return &redacted{message: query.ReplaceAllString(err.Error(), "$1"), err: err}
}

func (e *redacted) Error() string { return e.message }

func (e *redacted) Unwrap() error { return e.err }

// Advice is what to do about an error of this package, "" if there is nothing to
// say.
func Advice(err error) string {
	if throttled, ok := errors.AsType[*ThrottledError](err); ok {
		if strings.HasSuffix(throttled.Host, "docker.io") {
			return "Docker Hub limits how many images an address may pull, and more so those who are not logged in. " +
				"Log in to it (docker login), pull from another registry that has the image, or try again later."
		}
		return "Lower the parallelism, or try again later."
	}
	if refused, ok := errors.AsType[*UnauthorizedError](err); ok {
		advice := "Check the credentials for " + refused.Host + ": those of the provider's configuration, " +
			"and those of the Docker configuration (docker login)."
		if refused.Method == "" || refused.Method == http.MethodGet || refused.Method == http.MethodHead {
			advice += " Many registries answer the same for images that do not exist."
		}
		return advice
	}
	if _, ok := errors.AsType[*UnknownError](err); ok {
		return "Check the registry, repository, tag and digest. Images of Docker Hub without an owner are in library/."
	}
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		if unreachable.Firewall {
			return "The network rules of the registry keep this machine's address out. Run where they let in " +
				"(its virtual network, an allowed address), or add the address to them."
		}
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			return "There is no address for " + unreachable.Host + " here. Check the name; a registry with a private " +
				"endpoint has one only in the networks that are linked to its DNS zone."
		}
	}
	if wrong, ok := errors.AsType[*DigestError](err); ok {
		if wrong.Err != nil {
			return "What the registry keeps is damaged, or a proxy on the way changes it. Take the image from another registry."
		}
		return "Somebody else may write to the same tag at the same time; apply again."
	}
	return ""
}

package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	// maxRedirects is as many as net/http follows by itself.
	maxRedirects = 10
	// maxFronts is how many registries may lead to one another, each by a login of
	// its own.
	maxFronts = 3
)

// session makes requests with the credentials of the hosts that they go to.
//
// A registry may be but a front (cr.l5d.io) that leads to another, which wants a
// token of its own. oras answers no challenge of another origin than the one it
// asked, for it would offer there what it has for the first. Asked anew by its own
// name, the other is given the credential and the token that are its own, and none
// of the front's. Only reading goes this way: what is written goes nowhere but
// where it was meant to go.
type session struct {
	auth  *auth.Client // keeps tokens by host and scope
	plain func(host string) bool
}

// Do makes a request as [auth.Client.Do] does.
func (s *session) Do(request *http.Request) (*http.Response, error) {
	response, err := s.auth.Do(request)
	for range maxFronts {
		if err != nil || !s.leads(request, response) {
			break
		}
		front := hostOf(request.URL)
		if err := response.Body.Close(); err != nil {
			return nil, err
		}
		request = elsewhere(request, response.Request.URL)
		if response, err = s.auth.Do(request); err != nil {
			return nil, &ledError{front: front, host: request.Host, err: err}
		}
	}
	if err == nil {
		note(request.Context(), response)
	}
	return response, err
}

// leads tells whether a request was led to another registry, which wants to know
// who asks.
func (s *session) leads(request *http.Request, response *http.Response) bool {
	if response.StatusCode != http.StatusUnauthorized || request.Method != http.MethodGet && request.Method != http.MethodHead {
		return false
	}
	to := response.Request.URL
	return strings.HasPrefix(to.Path, apiPath) && (to.Scheme == "https" || s.plain(to.Host)) &&
		(to.Scheme != request.URL.Scheme || hostOf(to) != hostOf(request.URL))
}

// elsewhere is a request as it is made of another registry.
func elsewhere(request *http.Request, to *url.URL) *http.Request {
	ctx := request.Context()
	host := hostOf(to)
	if to.Path == request.URL.Path {
		// The right to the same repository is what is going to be asked for.
		ctx = auth.WithScopesForHost(ctx, host, auth.GetScopesForHost(ctx, request.Host)...)
	}
	made := request.Clone(ctx)
	address := *to
	address.Host, address.User = host, nil
	made.URL, made.Host = &address, host
	for _, name := range []string{"Authorization", "Cookie"} {
		made.Header.Del(name)
	}
	return made
}

// apiPath is what the paths of all that registries are asked for begin with.
const apiPath = "/v2/"

// hostOf is the host of an address as credentials are kept for it: without the port
// that its scheme implies.
func hostOf(address *url.URL) string {
	host := strings.ToLower(address.Host)
	if address.Scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// redirect decides whether a redirection is followed: to where nobody can read
// along only, unless the configuration has it that a host does not speak TLS.
func (c *Client) redirect(request *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("%d redirections lead nowhere", len(via))
	}
	from := via[len(via)-1].URL
	if request.URL.Scheme != "https" && !c.plain(request.URL.Host) && !slices.Contains(c.options.PlainHTTP, from.Host) {
		return &downgradeError{from: from.Host, to: request.URL.Scheme + "://" + request.URL.Host}
	}
	return nil
}

// plain tells whether a host does not speak TLS.
func (c *Client) plain(host string) bool {
	return IsLoopback(host) || slices.Contains(c.options.PlainHTTP, host)
}

// downgradeError says that a registry leads to where anybody can read along.
type downgradeError struct{ from, to string }

func (e *downgradeError) Error() string {
	return fmt.Sprintf("%s leads to %s, which does not encrypt", e.from, e.to)
}

// ledError is of a registry that another leads to.
type ledError struct {
	front, host string
	err         error
}

func (e *ledError) Error() string { return fmt.Sprintf("%s leads to %s: %v", e.front, e.host, e.err) }

func (e *ledError) Unwrap() error { return e.err }

// AnsweredBy is the host of the registry that an error is of: the one that was
// asked, or one that it led to.
func AnsweredBy(err error, asked string) string {
	if led, ok := errors.AsType[*ledError](err); ok {
		return led.host
	}
	if response, ok := errors.AsType[*errcode.ErrorResponse](err); ok && strings.HasPrefix(response.URL.Path, apiPath) {
		return hostOf(response.URL)
	}
	return asked
}

// throttling is the longest that answers asked to be left alone for, of those that
// came while something was done.
type throttling struct {
	mu      sync.Mutex
	longest time.Duration
}

type throttlingKey struct{}

// withThrottling has answers to the requests of a context noted.
func withThrottling(ctx context.Context) (context.Context, *throttling) {
	noted := &throttling{}
	return context.WithValue(ctx, throttlingKey{}, noted), noted
}

// note keeps an answer that asks for patience: errors of oras have no headers.
func note(ctx context.Context, response *http.Response) {
	noted, ok := ctx.Value(throttlingKey{}).(*throttling)
	if !ok || response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return
	}
	noted.mu.Lock()
	defer noted.mu.Unlock()
	noted.longest = max(noted.longest, patienceOf(response))
}

func (t *throttling) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.longest
}

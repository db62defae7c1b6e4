package kube

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/client-go/rest"
)

// Access is a way to a cluster that somebody else has to be asked for. Nothing is
// asked before the first request to the cluster is made.
type Access interface {
	// String names the cluster in messages, which have no address to name.
	String() string

	// Connect finds out where the API server is and how to log in. The Host of the
	// configuration is a URL without a path. What it returns serves all requests
	// from then on; an error is not kept.
	Connect(ctx context.Context) (*rest.Config, error)

	// Login makes sure that a request by the way that Connect last found can log in,
	// so that the time which a request may take does not go by with that.
	Login(ctx context.Context) error

	// Explain says what an error of these two, or of the API server that it led to,
	// means for this cluster and what to do about it, or "".
	Explain(ctx context.Context, err error) string
}

// AccessError is an error of a cluster's [Access], or one of the API server that
// the access had something to say about. Its text names the cluster once.
type AccessError struct {
	Cluster string // as the access names it
	advice  string
	err     error
}

func (e *AccessError) Error() string {
	text := toNowhere.ReplaceAllLiteralString(e.err.Error(), "")
	if strings.Contains(text, e.Cluster) {
		return text
	}
	return e.Cluster + ": " + text
}

func (e *AccessError) Unwrap() error { return e.err }

const (
	// nowhere stands for the address of the API server in clients' configurations
	// while it is not known.
	nowhere = "https://cluster.invalid"

	// connectLimit bounds the search for the API server, in which those who are
	// asked may ask in turn for patience.
	connectLimit = 25 * time.Minute
)

// toNowhere is how clients begin their errors about requests to an address that
// was not known to them.
var toNowhere = regexp.MustCompile(`\w+ "` + regexp.QuoteMeta(nowhere) + `[^"]*": `)

// connectingTransport asks for the way to the API server when the first request
// is made.
type connectingTransport struct {
	access    Access
	timeout   time.Duration // of a single request
	userAgent string
	attempt   singleflight.Group
	current   atomic.Pointer[connection]
}

// connection is one answer of an [Access].
type connection struct {
	address  *url.URL
	next     http.RoundTripper
	answered atomic.Bool // the API server was there once
}

func (t *connectingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	to, err := t.connect(ctx)
	if err != nil {
		return nil, errors.Join(err, closeBody(request))
	}
	response, err := to.roundTrip(request)
	if err == nil || ctx.Err() != nil {
		return response, err
	}
	if to.answered.Load() && elsewhere(err) && repeatable(request) {
		// A cluster was deleted and made anew under its name.
		t.current.CompareAndSwap(to, nil)
		if to, err = t.connect(ctx); err != nil {
			return nil, err
		}
		if request, err = again(request); err != nil {
			return nil, err
		}
		response, err = to.roundTrip(request)
	}
	if err != nil && ctx.Err() == nil {
		err = t.explained(ctx, err)
	}
	return response, err
}

// connect returns the way to the API server, once it can be gone, for as long as the
// caller waits.
func (t *connectingTransport) connect(ctx context.Context) (*connection, error) {
	found, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.access.Login(ctx); err != nil {
		return nil, &AccessError{Cluster: t.access.String(), advice: t.access.Explain(ctx, err), err: err}
	}
	return found, nil
}

// find returns the way to the API server and asks for it if it is not known: once
// for all who want it at the same time.
func (t *connectingTransport) find(ctx context.Context) (*connection, error) {
	if known := t.current.Load(); known != nil {
		return known, nil
	}
	done := t.attempt.DoChan("", func() (any, error) {
		if known := t.current.Load(); known != nil {
			return known, nil
		}
		// Who asked first may leave; others still wait for the answer.
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), connectLimit, noAnswerError{connectLimit})
		defer cancel()
		found, err := t.open(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, &AccessError{Cluster: t.access.String(), advice: t.access.Explain(ctx, err), err: err}
		}
		t.current.Store(found)
		return found, nil
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case result := <-done:
		found, _ := result.Val.(*connection)
		return found, result.Err
	}
}

func (t *connectingTransport) open(ctx context.Context) (*connection, error) {
	config, err := t.access.Connect(ctx)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("the address of the API server is not a URL: %w", err)
	}
	if config.Dial == nil {
		// A connection that does not come about has to leave time to find out why.
		config.Dial = (&net.Dialer{Timeout: t.timeout / 2}).DialContext
	}
	config.UserAgent = t.userAgent
	next, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	return &connection{address: address, next: newBoundedTransport(next, config, t.timeout)}, nil
}

// explained adds what the access has to say about an error.
func (t *connectingTransport) explained(ctx context.Context, err error) error {
	if advice := t.access.Explain(ctx, err); advice != "" {
		return &AccessError{Cluster: t.access.String(), advice: advice, err: err}
	}
	return err
}

func (c *connection) roundTrip(request *http.Request) (*http.Response, error) {
	there := request.Clone(request.Context())
	there.URL.Scheme, there.URL.Host = c.address.Scheme, c.address.Host
	there.Host = ""
	response, err := c.next.RoundTrip(there)
	if err == nil {
		c.answered.Store(true)
	}
	return response, err
}

// elsewhere reports errors by which an API server that has answered before turns
// out to be no longer where it was.
func elsewhere(err error) bool {
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return name.IsNotFound
	}
	_, other := errors.AsType[x509.UnknownAuthorityError](err)
	return other
}

func repeatable(request *http.Request) bool { return request.Body == nil || request.GetBody != nil }

// again is a repeatable request with its body from the start.
func again(request *http.Request) (*http.Request, error) {
	if request.GetBody == nil {
		return request, nil
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, err
	}
	repeated := request.Clone(request.Context())
	repeated.Body = body
	return repeated, nil
}

func closeBody(request *http.Request) error {
	if request.Body == nil {
		return nil
	}
	return request.Body.Close()
}

// reached makes sure that the way to the API server is known and open, for as long as
// the caller waits, before the time of a single request begins.
func (c *Cluster) reached(ctx context.Context) error {
	if c.connecting == nil {
		return nil
	}
	_, err := c.connecting.connect(ctx)
	return err
}

// accessed names the cluster in an error instead of an address that stands for
// none, and adds what its access has to say about it.
func (c *Cluster) accessed(ctx context.Context, err error) error {
	if c.connecting == nil {
		return err
	}
	if of, ok := errors.AsType[*AccessError](err); ok {
		return of
	}
	if of, ok := errors.AsType[*url.Error](err); ok {
		// The transport has had it explained before.
		return &AccessError{Cluster: c.connecting.access.String(), err: of.Err}
	}
	return c.connecting.explained(ctx, err)
}

// Explained has an error of another client of the cluster, which uses its
// [Cluster.RESTConfig], [Cluster.Discovery] or [Cluster.Mapper], tell what errors
// of this package tell: the cluster in place of an address that stands for none,
// and through [Advice] what its access has to say about it. It wraps err, and is
// err itself if there is nothing to add.
func (c *Cluster) Explained(ctx context.Context, err error) error {
	if err == nil || c.connecting == nil {
		return err
	}
	of, known := errors.AsType[*AccessError](err)
	switch {
	case toNowhere.MatchString(err.Error()):
		explained := &AccessError{Cluster: c.connecting.access.String(), err: err}
		if known {
			explained.advice = of.advice
		}
		return explained
	case !known && statusOf(err) != nil:
		return c.connecting.explained(ctx, err)
	}
	return err
}

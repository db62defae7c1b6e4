package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// LoginError reports that an account got no token.
type LoginError struct {
	Method string // as [Account.Method] has it
	Tenant string // "" if only the credential itself knows
	Client string // application or identity, "" if only the credential itself knows
	Scope  string // what the token was for
	Code   string // of Entra ID, for example AADSTS7000215; "" if it was not asked or gave none
	Reason string // without secrets
	Err    error  // what lies beneath if it is more than an answer of Entra ID
}

func (e *LoginError) Error() string {
	who := ""
	if e.Tenant != "" {
		who = " in tenant " + e.Tenant
	}
	if e.Client != "" {
		who += " as client " + e.Client
	}
	return fmt.Sprintf("log in to Azure with %s%s: %s", e.Method, who, e.Reason)
}

func (e *LoginError) Unwrap() error { return e.Err }

var (
	entraCode = regexp.MustCompile(`AADSTS\d+`)
	// jsonWebToken is what ID and access tokens look like, wherever they come from.
	jsonWebToken = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+(\.[\w-]*)?`)
	// noise ends the part of an answer of Entra ID that tells something to people.
	noise = regexp.MustCompile(`(?s)\s*(Trace ID:|To troubleshoot, visit).*`)
)

// failure words an error of logging in.
func (a *Account) failure(r request, err error) error {
	failed := &LoginError{Method: a.method.name, Tenant: a.tenantOf(r), Scope: r.scope, Err: err}
	if a.settings.way() != areaCLI {
		failed.Client, _ = a.clientID()
	}
	var refused *azidentity.AuthenticationFailedError
	switch {
	case errors.As(err, new(*metadataError)):
		failed.Reason = err.Error()
	case errors.As(err, &refused) && refused.RawResponse != nil:
		// The SDK's own words repeat the whole answer, over many lines.
		failed.Reason, failed.Err = describeAnswer(refused.RawResponse), nil
	case errors.As(err, &refused):
		_, reason, _ := strings.Cut(refused.Error(), ": ") // after the name that the SDK has for the method
		failed.Reason, failed.Err = strings.Replace(err.Error(), refused.Error(), reason, 1), nil
	default:
		failed.Reason = describeTransport(err)
	}
	failed.Reason = a.redact(noise.ReplaceAllString(failed.Reason, ""))
	failed.Code = entraCode.FindString(failed.Reason)
	return failed
}

// redact takes out what a message must not hold, whoever repeats it.
func (a *Account) redact(message string) string {
	s := a.settings
	for _, secret := range []string{s.ClientSecret, s.ClientCertificate, s.ClientCertificatePassword, s.OIDCToken, s.OIDCRequestToken} {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "***")
		}
	}
	return jsonWebToken.ReplaceAllString(message, "***")
}

// metadataError is an answer, instead of a token, of the service that gives tokens
// of managed identities, or of what answers in its place.
type metadataError struct {
	status int
	reason string
}

func (e *metadataError) Error() string { return e.reason }

func describeAnswer(response *http.Response) string {
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	body, err := runtime.Payload(response)
	if err == nil && json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return cmp.Or(answer.Description, answer.Error)
	}
	host := "the service"
	if response.Request != nil {
		host = response.Request.URL.Host
	}
	return fmt.Sprintf("%s answered %d %s", host, response.StatusCode, http.StatusText(response.StatusCode))
}

// describeTransport words an error of HTTP without the query of its URL, which may
// tell more than a message should.
func describeTransport(err error) string {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return err.Error()
	}
	host := failed.URL
	if address, err := url.Parse(failed.URL); err == nil {
		host = address.Host
	}
	reason := failed.Err.Error()
	if RefusedByProxy(err) {
		reason = "the proxy refuses to connect: " + reason
	}
	return strings.Replace(err.Error(), failed.Error(), fmt.Sprintf("%s %s: %s", strings.ToUpper(failed.Op), host, reason), 1)
}

// RefusedByProxy tells whether a proxy declined to connect: net/http then has
// nothing but the text of its status.
func RefusedByProxy(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		for status := http.StatusBadRequest; status < 600; status++ {
			if text := http.StatusText(status); text != "" && text == err.Error() {
				return true
			}
		}
	}
	return false
}

// worthRetrying tells whether a login is to be tried again: after answers of
// passing trouble as the SDK does by itself, but not where the network's own
// answer is final.
func worthRetrying(response *http.Response, err error) bool {
	if err == nil {
		return response.StatusCode == http.StatusRequestTimeout || response.StatusCode == http.StatusTooManyRequests ||
			response.StatusCode >= http.StatusInternalServerError
	}
	var (
		name  *net.DNSError
		trust *tls.CertificateVerificationError
	)
	final := errors.As(err, &name) && name.IsNotFound || errors.As(err, &trust) || proxyUnreachable(err) || RefusedByProxy(err)
	return !final
}

func proxyUnreachable(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "proxyconnect"
}

// witness keeps what went wrong beneath the SDK's libraries, whose own errors
// have no more of it than its text.
type witness struct {
	metadata bool // whether answers are those of a metadata service, too

	mu  sync.Mutex
	err error
}

func (w *witness) cause() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

type witnessKey struct{}

func withWitness(ctx context.Context, metadata bool) (context.Context, *witness) {
	w := &witness{metadata: metadata}
	return context.WithValue(ctx, witnessKey{}, w), w
}

// witnessPolicy shows the witness of a request's context the outcome of each
// attempt; the last one is what counts.
type witnessPolicy struct{}

func (witnessPolicy) Do(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	if w, ok := request.Raw().Context().Value(witnessKey{}).(*witness); ok {
		seen := err
		if err == nil && w.metadata && response.StatusCode >= http.StatusBadRequest {
			seen = &metadataError{response.StatusCode, describeAnswer(response)}
		}
		w.mu.Lock()
		w.err = seen
		w.mu.Unlock()
	}
	return response, err
}

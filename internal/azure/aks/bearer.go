package aks

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// bearerTransport gives every request a token that is valid when it is made: the
// account keeps it until shortly before it expires, so that work which takes longer
// than a token's life goes on.
type bearerTransport struct {
	account *azure.Account
	tenant  string
	scope   string
	next    http.RoundTripper

	// A new token that was refused as well: another would not help.
	hopeless atomic.Pointer[string]
}

func (t *bearerTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	token, err := t.account.Token(ctx, t.tenant, t.scope)
	if err != nil {
		var closing error
		if request.Body != nil {
			closing = request.Body.Close()
		}
		return nil, errors.Join(err, closing)
	}
	response, err := t.next.RoundTrip(bearing(request, token.Token))
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	if hopeless := t.hopeless.Load(); hopeless != nil && *hopeless == token.Token {
		return response, nil
	}
	// It may have been revoked, or this machine's clock is wrong about its age.
	t.account.Forget(token.Token)
	if request.Body != nil && request.GetBody == nil {
		return response, nil
	}
	fresh, err := t.account.Token(ctx, t.tenant, t.scope)
	if err != nil || fresh.Token == token.Token {
		return response, nil //nolint:nilerr // The API server's own refusal tells more.
	}
	repeated := bearing(request, fresh.Token)
	if request.GetBody != nil {
		if repeated.Body, err = request.GetBody(); err != nil {
			return response, nil //nolint:nilerr // As above.
		}
	}
	_ = response.Body.Close()
	response, err = t.next.RoundTrip(repeated)
	if err == nil && response.StatusCode == http.StatusUnauthorized {
		t.hopeless.Store(&fresh.Token)
	}
	return response, err
}

func bearing(request *http.Request, token string) *http.Request {
	authorized := request.Clone(request.Context())
	authorized.Header.Set("Authorization", "Bearer "+token)
	return authorized
}

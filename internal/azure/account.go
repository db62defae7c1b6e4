package azure

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/singleflight"
)

const (
	// renewalMargin is how long before its end a token is renewed: enough for the
	// longest request to end with the token that it began with.
	renewalMargin = 5 * time.Minute
	// renewalPause is how long a token is used on where another cannot be had, so that
	// not every request waits for an authority in trouble.
	renewalPause = 30 * time.Second
	// loginLimit ends a login that nobody may be waiting for any more.
	loginLimit = 2 * time.Minute
)

// RenewAt is when to renew what ends then: five minutes before, or at half of what
// is left if that is less. What has ended on arrival by a clock that is ahead of its
// issuer's is renewed after a pause, for it is the servers who judge it.
func RenewAt(now, ends time.Time) time.Time {
	left := ends.Sub(now)
	if left <= 0 {
		return now.Add(renewalPause)
	}
	return ends.Add(-min(renewalMargin, left/2))
}

// Options are what an Account needs besides its settings.
type Options struct {
	UserAgent string                                                           // what Azure's logs call the caller; 24 characters at most, no spaces
	Patience  time.Duration                                                    // how long roles are waited for that were assigned just now; 0 is not at all
	Log       func(ctx context.Context, message string, fields map[string]any) // what went on, without secrets; may be nil
}

// Account is who logs in to Azure: one credential, and the tokens that it got.
// It may be used concurrently.
type Account struct {
	settings Settings
	method   method
	options  Options

	flights singleflight.Group
	mu      sync.Mutex
	tokens  map[request]held
}

// request is what a token is asked for by.
type request struct {
	tenant string // "" is the account's own
	scope  string
	claims string // a server's demand for a stronger login, "" normally
}

// held is a token and when to ask for the next.
type held struct {
	token azcore.AccessToken
	renew time.Time
}

// valid tells whether a server can be expected to accept the token.
func (h held) valid() bool { return h.token.Token != "" && time.Now().Before(h.token.ExpiresOn) }

// fresh tells whether no other token is wanted yet.
func (h held) fresh() bool { return h.token.Token != "" && time.Now().Before(h.renew) }

// NewAccount chooses the one credential that the settings describe, in azurerm's
// order: client certificate, client secret, OIDC (token, file, Azure Pipelines,
// GitHub Actions, AKS workload identity), managed identity, Azure CLI. It dials
// nobody and reads no file; the error is a *SettingsError.
func NewAccount(s Settings, o Options) (*Account, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	a := &Account{settings: s, options: o, tokens: map[request]held{}}
	a.method = a.chooseMethod()
	return a, nil
}

// Method names the way to log in, as in "log in to Azure with client secret".
func (a *Account) Method() string { return a.method.name }

// Cloud is where the account is. The caller may change what it gets.
func (a *Account) Cloud() Cloud { return a.settings.cloud() }

// SubscriptionID is that of the settings, "" if they have none.
func (a *Account) SubscriptionID() string { return a.settings.SubscriptionID }

// TenantID is that of the settings, "" if they have none: a managed identity and
// the Azure CLI know their own.
func (a *Account) TenantID() string { return a.settings.TenantID }

// AuxiliaryTenantIDs are further tenants whose resources a request to Resource
// Manager may concern (auxiliary tenants of [arm.ClientOptions]).
//
// [arm.ClientOptions]: https://pkg.go.dev/github.com/Azure/azure-sdk-for-go/sdk/azcore/arm#ClientOptions
func (a *Account) AuxiliaryTenantIDs() []string { return slices.Clone(a.settings.AuxiliaryTenantIDs) }

// Token returns a token of a tenant ("" is the account's own) for a scope
// ("<audience>/.default"). Callers share tokens, and the request for one; it is
// renewed while the old one is still valid, which is used on if that fails. Who
// waits leaves with its context. Errors are *LoginError.
func (a *Account) Token(ctx context.Context, tenant, scope string) (azcore.AccessToken, error) {
	return a.token(ctx, request{tenant: tenant, scope: scope})
}

// Renew returns a token that was issued for this call, as [Account.Token] does
// otherwise, and has everybody use it from now on. If there is none to be had, the
// one that is in use stays so, and the error says why.
func (a *Account) Renew(ctx context.Context, tenant, scope string) (azcore.AccessToken, error) {
	r := request{tenant: tenant, scope: scope}
	return a.await(ctx, r, a.depart(ctx, r, "renew", func(ctx context.Context) (azcore.AccessToken, error) {
		token, err := a.acquire(ctx, r)
		if err != nil {
			return azcore.AccessToken{}, err
		}
		return a.arrived(ctx, r, token), nil
	}))
}

func (a *Account) token(ctx context.Context, r request) (azcore.AccessToken, error) {
	have := a.held(r)
	if have.fresh() {
		return have.token, nil
	}
	flight := a.depart(ctx, r, "login", func(ctx context.Context) (azcore.AccessToken, error) { return a.login(ctx, r) })
	if have.valid() {
		return have.token, nil
	}
	return a.await(ctx, r, flight)
}

// depart begins a login, or joins the one of that kind that is under way. It outlives
// the caller that began it, for others may wait for it too.
func (a *Account) depart(ctx context.Context, r request, kind string, login func(context.Context) (azcore.AccessToken, error)) <-chan singleflight.Result {
	detached := context.WithoutCancel(ctx)
	return a.flights.DoChan(fmt.Sprintf("%s %q", kind, r), func() (any, error) {
		ctx, cancel := context.WithTimeout(detached, loginLimit)
		defer cancel()
		return login(ctx)
	})
}

// await is the end of a login, unless the caller leaves before.
func (a *Account) await(ctx context.Context, r request, flight <-chan singleflight.Result) (azcore.AccessToken, error) {
	select {
	case landed := <-flight:
		token, _ := landed.Val.(azcore.AccessToken)
		return token, landed.Err
	case <-ctx.Done():
		return azcore.AccessToken{}, a.failure(r, fmt.Errorf("gave up waiting: %w", context.Cause(ctx)))
	}
}

func (a *Account) held(r request) held {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens[r]
}

// login gets a token and keeps it. Where the old one still has some life left a
// failure only puts off the next attempt.
func (a *Account) login(ctx context.Context, r request) (azcore.AccessToken, error) {
	if have := a.held(r); have.fresh() {
		return have.token, nil // another flight landed since the caller looked
	}
	token, err := a.acquire(ctx, r)
	if err != nil {
		old := a.held(r)
		if !old.valid() {
			return azcore.AccessToken{}, err
		}
		a.log(ctx, "could not renew a token of Azure; the old one is used on while it is valid", r, map[string]any{
			"error": err.Error(), "expires": old.token.ExpiresOn,
		})
		a.postpone(r, old, time.Now().Add(renewalPause))
		return old.token, nil
	}
	return a.arrived(ctx, r, token), nil
}

// arrived keeps a token that was issued just now.
func (a *Account) arrived(ctx context.Context, r request, token azcore.AccessToken) azcore.AccessToken {
	now := time.Now()
	// By the clock on the wall: the other one stands still while a machine sleeps.
	token.ExpiresOn = token.ExpiresOn.Round(0)
	if !token.ExpiresOn.After(now) {
		// It was issued just now, so it is this machine's clock that is wrong.
		a.log(ctx, "a token of Azure has expired on arrival: the clock of this machine seems to be ahead", r, map[string]any{"expires": token.ExpiresOn})
	} else {
		a.log(ctx, "got a token of Azure", r, map[string]any{"expires": token.ExpiresOn})
	}
	a.keep(r, held{token: token, renew: RenewAt(now, token.ExpiresOn)})
	return token
}

func (a *Account) keep(r request, h held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[r] = h
}

// postpone puts off the renewal of a token, unless it has been forgotten meanwhile.
func (a *Account) postpone(r request, old held, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens[r] == old {
		a.tokens[r] = held{token: old.token, renew: until}
	}
}

// Forget drops a token that a server refused, so that the next caller gets
// another. Tokens that the account does not hold are none of its business.
func (a *Account) Forget(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r, h := range a.tokens {
		if h.token.Token == token {
			delete(a.tokens, r)
		}
	}
}

func (a *Account) log(ctx context.Context, message string, r request, fields map[string]any) {
	if a.options.Log == nil {
		return
	}
	fields["method"], fields["scope"] = a.method.name, r.scope
	fields["tenant"] = a.tenantOf(r)
	a.options.Log(ctx, message, fields)
}

func (a *Account) tenantOf(r request) string {
	if r.tenant != "" {
		return r.tenant
	}
	return a.settings.TenantID
}

// Credential hands the account's tokens to clients of Azure's SDK.
func (a *Account) Credential() azcore.TokenCredential { return credential{a} }

type credential struct{ account *Account }

func (c credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 {
		return azcore.AccessToken{}, fmt.Errorf("log in to Azure: a token is for one scope, not for %d", len(o.Scopes))
	}
	return c.account.token(ctx, request{tenant: o.TenantID, scope: o.Scopes[0], claims: o.Claims})
}

// ClientOptions are what clients of Azure's SDK are to be made with: the
// account's cloud, the caller's name, and the SDK's own retries, which honour a
// Retry-After of up to a minute. Who has the time for more sets MaxRetryDelay.
func (a *Account) ClientOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     a.Cloud().Configuration,
		Telemetry: policy.TelemetryOptions{ApplicationID: a.options.UserAgent},
	}
}

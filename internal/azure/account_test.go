package azure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// authority gives tokens as it is told.
type authority struct {
	mu       sync.Mutex
	requests []policy.TokenRequestOptions
	tenants  []string
	takes    time.Duration
	life     time.Duration
	err      error
}

func (a *authority) credential(_ context.Context, tenant string) (azcore.TokenCredential, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tenants = append(a.tenants, tenant)
	return a, nil
}

func (a *authority) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	a.mu.Lock()
	a.requests = append(a.requests, o)
	token := azcore.AccessToken{Token: fmt.Sprintf("token %d", len(a.requests)), ExpiresOn: time.Now().Add(a.life)}
	takes, err := a.takes, a.err
	a.mu.Unlock()
	select {
	case <-time.After(takes):
		return token, err
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

func (a *authority) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.requests)
}

func (a *authority) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// accountOf is an account in a bubble of its own time.
func accountOf(t *testing.T, from *authority) (account *Account, logged func() []string) {
	t.Helper()
	var (
		mu       sync.Mutex
		messages []string
	)
	account, err := NewAccount(Settings{TenantID: "home"}, Options{Log: func(_ context.Context, message string, fields map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		messages = append(messages, fmt.Sprint(message, fields))
	}})
	if err != nil {
		t.Fatal(err)
	}
	account.method = method{"a fake", from.credential}
	return account, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(messages)
	}
}

func tokenOf(t *testing.T, account *Account) string {
	t.Helper()
	token, err := account.Token(t.Context(), "", "scope/.default")
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ life, used time.Duration }{
		{time.Hour, 55 * time.Minute},
		{4 * time.Minute, 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			from := &authority{life: test.life, takes: time.Second}
			account, _ := accountOf(t, from)
			if got := tokenOf(t, account); got != "token 1" {
				t.Fatal(got)
			}
			time.Sleep(test.used - 2*time.Second)
			if got := tokenOf(t, account); got != "token 1" || from.asked() != 1 {
				t.Errorf("%s: %s after %d requests", test.life, got, from.asked())
			}
			time.Sleep(2 * time.Second)
			// The old one does until the new one is there.
			if got := tokenOf(t, account); got != "token 1" {
				t.Errorf("%s: %s", test.life, got)
			}
			synctest.Wait()
			time.Sleep(2 * time.Second)
			if got := tokenOf(t, account); got != "token 2" || from.asked() != 2 {
				t.Errorf("%s: %s after %d requests", test.life, got, from.asked())
			}
			// A token that nobody wanted for long is not renewed but got anew.
			time.Sleep(test.life)
			if got := tokenOf(t, account); got != "token 3" || from.asked() != 3 {
				t.Errorf("%s: %s after %d requests", test.life, got, from.asked())
			}
		})
	}
}

func TestOldTokenIsUsedWhileItsRenewalFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour}
		account, logged := accountOf(t, from)
		tokenOf(t, account)
		from.fail(errors.New("out of order"))
		time.Sleep(56 * time.Minute)
		for range 100 {
			if got := tokenOf(t, account); got != "token 1" {
				t.Fatal(got)
			}
			synctest.Wait()
		}
		if from.asked() != 2 {
			t.Errorf("%d requests while the authority is out of order", from.asked())
		}
		if messages := logged(); !strings.Contains(messages[len(messages)-1], "out of order") {
			t.Errorf("logged %q", messages)
		}
		time.Sleep(renewalPause + time.Second)
		tokenOf(t, account)
		synctest.Wait()
		if from.asked() != 3 {
			t.Errorf("%d requests after a pause", from.asked())
		}
		time.Sleep(4 * time.Minute)
		if _, err := account.Token(t.Context(), "", "scope/.default"); err == nil || !strings.Contains(err.Error(), "log in to Azure with a fake in tenant home: out of order") {
			t.Errorf("with an expired token: %v", err)
		}
		from.fail(nil)
		if got := tokenOf(t, account); got == "token 1" {
			t.Error("the expired token")
		}
	})
}

func TestRenewalOnDemandKeepsTheOldTokenIfThereIsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour}
		account, _ := accountOf(t, from)
		tokenOf(t, account)
		from.fail(errors.New("the ID token has expired"))
		if _, err := account.Renew(t.Context(), "", "scope/.default"); err == nil || !strings.Contains(err.Error(), "the ID token has expired") {
			t.Errorf("renewed: %v", err)
		}
		time.Sleep(time.Hour - time.Minute)
		if got := tokenOf(t, account); got != "token 1" {
			t.Errorf("use %s while there is no other", got)
		}
		synctest.Wait()
		from.fail(nil)
		from.takes = time.Second
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if got, err := account.Renew(t.Context(), "", "scope/.default"); err != nil || got.Token != "token 4" {
					t.Errorf("renewed: %s, %v", got.Token, err)
				}
			})
		}
		callers.Wait()
		if got := tokenOf(t, account); got != "token 4" || from.asked() != 4 {
			t.Errorf("use %s after %d requests", got, from.asked())
		}
	})
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]time.Duration{
		time.Hour:        55 * time.Minute,
		10 * time.Minute: 5 * time.Minute,
		4 * time.Minute:  2 * time.Minute,
		// Whoever is told an instant that has passed comes back at once, for ever.
		0:          renewalPause,
		-time.Hour: renewalPause,
	} {
		if got := RenewAt(now, now.Add(left)); !got.Equal(now.Add(want)) {
			t.Errorf("%s before its end: renewed in %s, want %s", left, got.Sub(now), want)
		}
	}
}

func TestConcurrentCallersShareOneRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour, takes: time.Second}
		account, _ := accountOf(t, from)
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if got := tokenOf(t, account); got != "token 1" {
					t.Error(got)
				}
			})
		}
		callers.Wait()
		if from.asked() != 1 {
			t.Errorf("%d requests", from.asked())
		}
	})
}

func TestWhoWaitsLeavesWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour, takes: time.Minute}
		account, _ := accountOf(t, from)
		first, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var patient sync.WaitGroup
		patient.Go(func() {
			if got := tokenOf(t, account); got != "token 1" {
				t.Error(got)
			}
		})
		began := time.Now()
		_, err := account.Token(first, "", "scope/.default")
		var failed *LoginError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &failed) || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		patient.Wait()
		if from.asked() != 1 {
			t.Errorf("%d requests", from.asked())
		}
	})
}

func TestLoginThatNeverEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{takes: 24 * time.Hour}
		account, _ := accountOf(t, from)
		_, err := account.Token(t.Context(), "", "scope/.default")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no token within 2m0s") {
			t.Error(err)
		}
	})
}

func TestForgottenTokenIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour}
		account, _ := accountOf(t, from)
		for range 3 {
			account.Forget(tokenOf(t, account))
		}
		account.Forget("somebody else's")
		if got := tokenOf(t, account); got != "token 4" || tokenOf(t, account) != got {
			t.Error(got)
		}
	})
}

func TestTokenThatIsForgottenDuringItsRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour}
		account, _ := accountOf(t, from)
		old := tokenOf(t, account)
		from.fail(errors.New("out of order"))
		from.takes = time.Second
		time.Sleep(56 * time.Minute)
		tokenOf(t, account) // renews it behind
		synctest.Wait()
		account.Forget(old)
		if _, err := account.Token(t.Context(), "", "scope/.default"); err == nil {
			t.Error("got a token that a server refused")
		}
	})
}

func TestClockAheadOfATokensEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: -time.Hour}
		account, logged := accountOf(t, from)
		for range 100 {
			if got := tokenOf(t, account); got != "token 1" {
				t.Fatal(got)
			}
		}
		if messages := logged(); len(messages) != 1 || !strings.Contains(messages[0], "clock of this machine") {
			t.Errorf("logged %q", messages)
		}
		time.Sleep(renewalPause)
		if got := tokenOf(t, account); got != "token 2" {
			t.Error(got)
		}
	})
}

func TestTokensAreKeptByTenantScopeAndClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &authority{life: time.Hour}
		account, _ := accountOf(t, from)
		credential := account.Credential()
		tokens := map[string]bool{}
		for range 2 {
			for _, o := range []policy.TokenRequestOptions{
				{Scopes: []string{"one/.default"}},
				{Scopes: []string{"two/.default"}},
				{Scopes: []string{"two/.default"}, TenantID: "other"},
				{Scopes: []string{"two/.default"}, Claims: "mfa"},
			} {
				token, err := credential.GetToken(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				tokens[token.Token] = true
			}
		}
		if len(tokens) != 4 || !slices.Equal(from.tenants, []string{"home", "home", "other", "home"}) || from.requests[3].Claims != "mfa" {
			t.Errorf("tokens %v of tenants %v", tokens, from.tenants)
		}
		if _, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{}); err == nil {
			t.Error("a token for nothing")
		}
	})
}

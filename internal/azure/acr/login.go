package acr

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// registryScope is what Microsoft Entra tokens for registries are for, in every
// cloud. Registries take those for Resource Manager only if a policy lets them.
const registryScope = "https://containerregistry.azure.net/.default"

// LoginError says that a registry gave no token for that of the account.
type LoginError struct {
	Host    string
	Status  int    // of the registry's answer, 0 if there was none
	Message string // the registry's words
	Err     error  // without an answer; nil otherwise
}

func (e *LoginError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("log in to %s: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("log in to %s: it answers %d %s", e.Host, e.Status, e.Message)
}

func (e *LoginError) Unwrap() error { return e.Err }

// refreshToken is that of one registry. Whoever holds turn may read and renew it.
type refreshToken struct {
	turn  chan struct{}
	value string
	until time.Time // when another is to be asked for
}

// Credential is the keychain of Azure's registries: it exchanges a Microsoft Entra
// token of the account for a refresh token of the registry, which is kept until
// shortly before it expires. For hosts that are no registries of the account's
// cloud it is empty. Errors are *LoginError, those of the account, and of ctx.
func (c *Client) Credential(ctx context.Context, host string) (auth.Credential, error) {
	if suffix := c.account.Cloud().RegistrySuffix; suffix == "" || !strings.HasSuffix(host, "."+suffix) {
		return auth.EmptyCredential, nil
	}
	token := c.tokenOf(host)
	select {
	case token.turn <- struct{}{}:
		defer func() { <-token.turn }()
	case <-ctx.Done():
		return auth.EmptyCredential, fmt.Errorf("log in to %s: %w", host, context.Cause(ctx))
	}
	if !time.Now().Before(token.until) {
		value, err := c.exchange(ctx, host)
		if err != nil {
			return auth.EmptyCredential, err
		}
		now := time.Now()
		token.value, token.until = value, now
		if life := lifeOf(value); life > 0 {
			token.until = azure.RenewAt(now, now.Add(life))
		}
	}
	return auth.Credential{RefreshToken: token.value}, nil
}

func (c *Client) tokenOf(host string) *refreshToken {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, ok := c.tokens[host]
	if !ok {
		token = &refreshToken{turn: make(chan struct{}, 1)}
		c.tokens[host] = token
	}
	return token
}

// exchange gets a refresh token.
//
// https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md
func (c *Client) exchange(ctx context.Context, host string) (string, error) {
	entra, err := c.account.Token(ctx, "", registryScope)
	if err != nil {
		return "", fmt.Errorf("log in to %s: %w", host, err)
	}
	request, err := runtime.NewRequest(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange")
	if err != nil {
		return "", &LoginError{Host: host, Err: err}
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {entra.Token}}
	if tenant := c.account.TenantID(); tenant != "" {
		form.Set("tenant", tenant)
	}
	body := streaming.NopCloser(strings.NewReader(form.Encode()))
	if err := request.SetBody(body, "application/x-www-form-urlencoded"); err != nil {
		return "", &LoginError{Host: host, Err: err}
	}
	response, err := c.logins.Do(request)
	if err != nil {
		return "", &LoginError{Host: host, Err: err}
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", &LoginError{Host: host, Err: err}
	}
	if response.StatusCode != http.StatusOK {
		if response.StatusCode == http.StatusUnauthorized {
			c.account.Forget(entra.Token)
		}
		return "", &LoginError{Host: host, Status: response.StatusCode, Message: refusalOf(data, response.StatusCode)}
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.RefreshToken == "" {
		return "", &LoginError{Host: host, Status: response.StatusCode, Message: "without a refresh token"}
	}
	return answer.RefreshToken, nil
}

// refusalOf is what a registry says in an answer with an error.
func refusalOf(data []byte, status int) string {
	var said struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(data, &said); err != nil || len(said.Errors) == 0 {
		return http.StatusText(status)
	}
	return said.Errors[0].Code + ": " + said.Errors[0].Message
}

// lifeOf is how long a token lives from when it was made, by the clock of who made
// it, or from now if it does not tell when that was; 0 if it does not say.
func lifeOf(token string) time.Duration {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	var claims struct {
		IssuedAt float64 `json:"iat"`
		Expires  float64 `json:"exp"`
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(data, &claims) != nil {
		return 0
	}
	if claims.IssuedAt == 0 {
		claims.IssuedAt = float64(time.Now().Unix())
	}
	return max(0, time.Duration(claims.Expires-claims.IssuedAt)*time.Second)
}

package azure

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Options are what an Account needs besides its settings.
type Options struct {
	UserAgent string                                                           // what Azure's logs call the caller, at most 24 characters
	Log       func(ctx context.Context, message string, fields map[string]any) // may be nil
}

// Account is who logs in to Azure.
type Account struct{}

// NewAccount chooses the one credential that the settings describe.
func NewAccount(s Settings, o Options) (*Account, error) { return &Account{}, nil }

// Method names the credential in messages, for example "client secret".
func (a *Account) Method() string { return "" }

// Cloud is where the account is.
func (a *Account) Cloud() Cloud { return Cloud{} }

// SubscriptionID is that of the settings, "" if they have none.
func (a *Account) SubscriptionID() string { return "" }

// TenantID is that of the settings, "" if they have none.
func (a *Account) TenantID() string { return "" }

// Token returns a token for a scope ("<audience>/.default").
func (a *Account) Token(ctx context.Context, tenant, scope string) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, nil
}

// Forget drops a token that a server refused.
func (a *Account) Forget(token string) {}

// Credential hands out the account's tokens to clients of the SDK.
func (a *Account) Credential() azcore.TokenCredential { return nil }

// ClientOptions are what every client of the SDK is to be made with.
func (a *Account) ClientOptions() azcore.ClientOptions { return azcore.ClientOptions{} }

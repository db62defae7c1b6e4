package azure

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// method is a way to log in. A credential is made anew for every token: files are
// then read again, and the SDK's caches beneath cannot return what a server has
// refused.
type method struct {
	name       string
	credential func(ctx context.Context, tenant string) (azcore.TokenCredential, error)
}

const methodManagedIdentity = "managed identity"

func (a *Account) chooseMethod() method {
	s := a.settings
	switch s.way() {
	case areaCertificate:
		return method{"client certificate", a.certificateCredential}
	case areaSecret:
		return method{"client secret", a.secretCredential}
	case areaMSI:
		return method{methodManagedIdentity, a.managedIdentityCredential}
	case areaCLI:
		return method{"Azure CLI", a.cliCredential}
	}
	assertedBy := func(name string, assertion func(context.Context) (string, error)) method {
		return method{"OIDC (" + name + ")", func(ctx context.Context, tenant string) (azcore.TokenCredential, error) {
			return a.assertionCredential(ctx, tenant, assertion)
		}}
	}
	switch {
	case s.OIDCToken != "":
		return assertedBy("token", func(context.Context) (string, error) { return s.OIDCToken, nil })
	case s.OIDCTokenFilePath != "" && isTrue(s.UseAKSWorkloadIdentity):
		return method{"AKS workload identity", a.workloadIdentityCredential}
	case s.OIDCTokenFilePath != "":
		return assertedBy("token file", func(context.Context) (string, error) {
			return readFile(settingOIDCTokenFile, s.OIDCTokenFilePath)
		})
	case s.ADOPipelineServiceConnectionID != "":
		return assertedBy("Azure Pipelines", a.assertionOfPipelines)
	}
	return assertedBy("GitHub Actions", a.assertionOfActions)
}

// acquire asks for a token; the error is a *LoginError.
func (a *Account) acquire(ctx context.Context, r request) (azcore.AccessToken, error) {
	credential, err := a.method.credential(ctx, a.tenantOf(r))
	if err != nil {
		return azcore.AccessToken{}, a.failure(r, err)
	}
	ctx, seen := withWitness(ctx, a.method.name == methodManagedIdentity)
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{r.scope}, Claims: r.claims})
	if err == nil {
		err = checkTenant(r.tenant, token.Token)
	} else if cause := seen.cause(); cause != nil {
		err = cause
	}
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no token within %s: %w", loginLimit, err)
		}
		return azcore.AccessToken{}, a.failure(r, err)
	}
	return token, nil
}

// loginOptions are those of the clients that log in. They give up sooner than
// others: a token that is still valid goes on to be used, and who has none learns
// at once what is in the way.
func (a *Account) loginOptions() azcore.ClientOptions {
	options := a.ClientOptions()
	options.Retry.ShouldRetry = worthRetrying
	options.Retry.MaxRetryDelay = loginLimit // of what Retry-After may ask for
	options.PerRetryPolicies = []policy.Policy{witnessPolicy{}}
	return options
}

func (a *Account) clientID() (string, error) {
	return valueOrFile(a.settings.ClientID, settingClientFile, a.settings.ClientIDFilePath)
}

func (a *Account) secretCredential(_ context.Context, tenant string) (azcore.TokenCredential, error) {
	client, err := a.clientID()
	if err != nil {
		return nil, err
	}
	secret, err := valueOrFile(a.settings.ClientSecret, settingSecretFile, a.settings.ClientSecretFilePath)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: a.loginOptions(), DisableInstanceDiscovery: a.noDiscovery(),
	})
}

func (a *Account) certificateCredential(_ context.Context, tenant string) (azcore.TokenCredential, error) {
	client, err := a.clientID()
	if err != nil {
		return nil, err
	}
	name, content := settingCertificate, []byte(nil)
	if a.settings.ClientCertificate != "" {
		content, err = base64.StdEncoding.DecodeString(a.settings.ClientCertificate)
	} else {
		name = settingCertificateFile
		content, err = os.ReadFile(a.settings.ClientCertificatePath)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	certificates, key, err := parseCertificate(content, a.settings.ClientCertificatePassword)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.settings.describe([]string{name}), err)
	}
	return azidentity.NewClientCertificateCredential(tenant, client, certificates, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: a.loginOptions(), DisableInstanceDiscovery: a.noDiscovery(),
		// For applications that trust a certificate's subject and issuer.
		SendCertificateChain: true,
	})
}

func (a *Account) assertionCredential(ctx context.Context, tenant string, assertion func(context.Context) (string, error)) (azcore.TokenCredential, error) {
	client, err := a.clientID()
	if err != nil {
		return nil, err
	}
	token, err := assertion(ctx)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientAssertionCredential(tenant, client, func(context.Context) (string, error) { return token, nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: a.loginOptions(), DisableInstanceDiscovery: a.noDiscovery()})
}

func (a *Account) workloadIdentityCredential(_ context.Context, tenant string) (azcore.TokenCredential, error) {
	client, err := a.clientID()
	if err != nil {
		return nil, err
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		TenantID: tenant, ClientID: client, TokenFilePath: a.settings.OIDCTokenFilePath,
		ClientOptions: a.loginOptions(), DisableInstanceDiscovery: a.noDiscovery(),
		EnableAzureProxy: true, // of pods with AKS identity bindings, without effect in others
	})
}

func (a *Account) managedIdentityCredential(context.Context, string) (azcore.TokenCredential, error) {
	options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.loginOptions()}
	client, err := a.clientID()
	if err != nil {
		return nil, err
	}
	if client != "" {
		options.ID = azidentity.ClientID(client)
	}
	// A machine's metadata service is on the link: it is there, or it is not. What
	// it asks to be tried again is; to wait for a connection is in vain.
	options.Retry.TryTimeout = 10 * time.Second
	options.Retry.ShouldRetry = func(response *http.Response, err error) bool {
		return err == nil && (response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusGone || worthRetrying(response, nil))
	}
	identity, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return nil, err
	}
	return uncached{identity}, nil
}

// uncached goes past the cache of managed identities' tokens that MSAL keeps for
// the whole process: claims are not sent to the metadata service.
type uncached struct{ azcore.TokenCredential }

func (u uncached) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	o.Claims = "{}"
	return u.TokenCredential.GetToken(ctx, o)
}

func (a *Account) cliCredential(_ context.Context, tenant string) (azcore.TokenCredential, error) {
	// The CLI takes one of the two, and finds the subscription's tenant itself.
	ofSubscription, err := azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{Subscription: a.settings.SubscriptionID})
	if err != nil || tenant == "" {
		return ofSubscription, err
	}
	ofTenant, err := azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: tenant})
	if err != nil {
		return nil, err
	}
	return cliOfTenant{ofTenant, ofSubscription}, nil
}

// cliOfTenant asks the CLI for tokens of a tenant. In Cloud Shell and after az
// login --identity it has those of one only, and fails if a tenant is named at all.
type cliOfTenant struct{ named, unnamed azcore.TokenCredential }

func (c cliOfTenant) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.named.GetToken(ctx, o)
	if err != nil && strings.Contains(err.Error(), "Tenant shouldn't be specified") {
		return c.unnamed.GetToken(ctx, o)
	}
	return token, err
}

// tenantError reports a token of another tenant than the one that was asked for:
// of managed identities, which have one tenant and are not told any.
type tenantError struct{ tenant string }

func (e *tenantError) Error() string {
	return "there are tokens of the tenant " + e.tenant + " only"
}

// checkTenant looks into a token for whose it is. What cannot be read is up to the
// server that the token is for.
func checkTenant(want, token string) error {
	var claims struct {
		jwt.RegisteredClaims

		Tenant string `json:"tid"`
	}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.Tenant == "" || uuid.Validate(want) != nil {
		return nil //nolint:nilerr // As said above; and a tenant that goes by a domain has its ID in tokens all the same.
	}
	if strings.EqualFold(claims.Tenant, want) {
		return nil
	}
	return &tenantError{claims.Tenant}
}

// noDiscovery tells not to ask the public cloud whether the authority is one of
// Microsoft's; nobody needs to for those that the SDK itself names.
func (a *Account) noDiscovery() bool {
	return isTrue(a.settings.DisableInstanceDiscovery) || a.settings.environment() != environmentCustom
}

func valueOrFile(value, name, path string) (string, error) {
	if value != "" || path == "" {
		return value, nil
	}
	return readFile(name, path)
}

// readFile reads a secret; editors and shells end files by a newline that does
// not belong to it.
func readFile(name, path string) (string, error) {
	content, err := os.ReadFile(path) //nolint:gosec // The user names it.
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if text := strings.TrimSpace(string(content)); text != "" {
		return text, nil
	}
	return "", fmt.Errorf("%s: %s is empty", name, path)
}

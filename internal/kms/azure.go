package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"go.step.sm/crypto/kms/uri"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// azureScheme is that of step's URIs of keys in Azure Key Vault.
const azureScheme = "azurekms"

// azurePatience is how long one operation may take, with the login that it may
// need and with what the SDK tries again.
const azurePatience = time.Minute

// Login is who asks vaults, and in which cloud.
type Login struct {
	Credential azcore.TokenCredential
	Options    azcore.ClientOptions
	Cloud      string // public, usgovernment, china or custom
	// VaultSuffix is what the hosts of vaults end with, such as vault.azure.net;
	// empty where that is not known.
	VaultSuffix string
}

var (
	// Names become parts of the vault's address, so that nothing else may pass.
	azureVault   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$`)
	azureName    = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	azureVersion = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)
)

// azureClouds maps how clouds are spelt, in lower case, by the azurerm provider
// and by step to how step spells them, which is how states have them.
var azureClouds = map[string]string{
	"":                       "public",
	"public":                 "public",
	"global":                 "public",
	"azurecloud":             "public",
	"azurepubliccloud":       "public",
	"usgovernment":           "usgov",
	"usgovernmentl4":         "usgov",
	"usgovernmentl5":         "usgov",
	"usgov":                  "usgov",
	"azureusgovernment":      "usgov",
	"azureusgovernmentcloud": "usgov",
	"china":                  "china",
	"azurechinacloud":        "china",
}

// azureKey is a key, or a version of one, in an Azure Key Vault.
type azureKey struct {
	vault, name, version string
	// cloud is empty unless the URI names one.
	cloud string
	hsm   bool
}

func parseAzure(parsed *uri.URI) (key, error) {
	values, err := parameters(parsed, "name", "vault", "version", "environment", "hsm")
	if err != nil {
		return nil, err
	}
	if parsed.Host != "" || parsed.Path != "" || parsed.User != nil || parsed.Fragment != "" {
		return nil, errors.New("azurekms key URI is malformed: it is azurekms:name=<key>;vault=<vault>")
	}
	k := azureKey{vault: values["vault"], name: values["name"], version: values["version"]}
	if !azureName.MatchString(k.name) {
		return nil, fmt.Errorf("azurekms key URI has the name %q: a key's name is 1 to 127 letters, digits and hyphens", k.name)
	}
	if !azureVault.MatchString(k.vault) {
		return nil, fmt.Errorf("azurekms key URI has the vault %q: it is the vault's name alone, 3 to 24 letters, digits and hyphens", k.vault)
	}
	if _, given := values["version"]; given && !azureVersion.MatchString(k.version) {
		return nil, fmt.Errorf("azurekms key URI has the version %q: a version is letters and digits", k.version)
	}
	if spelling, given := values["environment"]; given {
		cloud, ok := azureClouds[strings.ToLower(spelling)]
		if !ok {
			return nil, fmt.Errorf("azurekms key URI has the unknown environment %q: known are public, usgovernment and china", spelling)
		}
		k.cloud = cloud
	}
	if hsm, given := values["hsm"]; given {
		if hsm != "true" && hsm != "false" {
			return nil, fmt.Errorf("azurekms key URI has hsm=%q: it is true or false", hsm)
		}
		k.hsm = hsm == "true"
	}
	return k, nil
}

// String returns the URI without `hsm`, which is of the making only.
func (k azureKey) String() string {
	values := url.Values{"name": {k.name}, "vault": {k.vault}}
	if k.cloud != "" {
		values.Set("environment", k.cloud)
	}
	u := uri.New(azureScheme, values)
	if k.version != "" {
		u.RawQuery = url.Values{"version": {k.version}}.Encode()
	}
	return u.String()
}

func (k azureKey) fixed() bool { return k.version != "" }

func (k azureKey) unfixed() string { return "leave out `version`" }

func (k azureKey) open(ctx context.Context, keys Keys) (crypto.Signer, error) {
	vault, err := k.connect(keys)
	if err != nil {
		return nil, err
	}
	return k.signer(ctx, vault)
}

func (k azureKey) create(ctx context.Context, keys Keys, algorithm pki.Algorithm) (creation, error) {
	vault, err := k.connect(keys)
	if err != nil {
		return creation{}, err
	}
	request := azureRequests[algorithm]
	if k.hsm {
		request.Kty = new(*request.Kty + "-HSM")
	}
	request.KeyOps = []*azkeys.KeyOperation{new(azkeys.KeyOperationSign), new(azkeys.KeyOperationVerify)}
	var made azkeys.CreateKeyResponse
	if err := k.ask(ctx, operationCreate, func(ctx context.Context) (err error) {
		made, err = vault.CreateKey(ctx, k.name, request, nil)
		return err
	}); err != nil {
		return creation{}, err
	}
	version := k
	if made.Key != nil && made.Key.KID != nil {
		version.version = made.Key.KID.Version()
	}
	if version.version == "" {
		return creation{}, errors.New("the vault made a key but did not say which version it is")
	}
	opened, err := version.signer(ctx, vault)
	if err != nil {
		return creation{}, fmt.Errorf("version %s was made but cannot be used: %w", version.version, err)
	}
	return creation{key: version, signer: opened}, nil
}

// connect prepares a client; it asks nobody yet.
func (k azureKey) connect(keys Keys) (*azkeys.Client, error) {
	login, err := keys.login()
	if err != nil {
		return nil, err
	}
	if k.cloud != "" && k.cloud != azureClouds[login.Cloud] {
		return nil, fmt.Errorf("it is in the cloud %q, but the credentials are for %q, and those of one cloud are none in another: leave environment out of the URI, or set it of the credentials (environment of the provider's block aks, or ARM_ENVIRONMENT)", k.cloud, login.Cloud)
	}
	if login.VaultSuffix == "" {
		return nil, fmt.Errorf("the credentials are for the cloud %q, of which the host names of vaults are not known: keep the key in a vault of another, or in the cluster", login.Cloud)
	}
	return azkeys.NewClient("https://"+k.vault+"."+login.VaultSuffix, login.Credential, &azkeys.ClientOptions{ClientOptions: login.Options})
}

// signer returns what signs with the key, which is there.
func (k azureKey) signer(ctx context.Context, vault *azkeys.Client) (crypto.Signer, error) {
	var got azkeys.GetKeyResponse
	if err := k.ask(ctx, operationRead, func(ctx context.Context) (err error) {
		got, err = vault.GetKey(ctx, k.name, k.version, nil)
		return err
	}); err != nil {
		return nil, err
	}
	public, err := azurePublic(got.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: vault %s has a key that cannot be used: %w", operationRead, k.vault, err)
	}
	return &azureSigner{ctx: ctx, vault: vault, key: k, public: public}, nil
}

// ask asks the vault for something, as long as ctx and patience last.
func (k azureKey) ask(ctx context.Context, operation operation, question func(context.Context) error) error {
	bounded, end := context.WithTimeout(ctx, azurePatience)
	defer end()
	err := question(bounded)
	if ended := bounded.Err(); err != nil && ended != nil {
		// What libraries make of the end need not unwrap to it.
		err = ended
	}
	return k.explain(operation, err)
}

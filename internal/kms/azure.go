package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/azurekms"
	"go.step.sm/crypto/kms/uri"
)

var (
	// Names become parts of the vault's address, so that nothing else may pass.
	azureVault   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$`)
	azureName    = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	azureVersion = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)
)

// azureClouds maps how clouds are spelt, in lower case, by the azurerm provider
// and by step to how step spells them.
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
	u := uri.New(azurekms.Scheme, values)
	if k.version != "" {
		u.RawQuery = url.Values{"version": {k.version}}.Encode()
	}
	return u.String()
}

func (k azureKey) fixed() bool { return k.version != "" }

func (k azureKey) unfixed() string { return "leave out `version`" }

func (k azureKey) open(ctx context.Context) (crypto.Signer, error) {
	vaults, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := vaults.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: k.String()})
	if err != nil {
		return nil, k.explain(operationRead, err)
	}
	return opened, nil
}

func (k azureKey) create(ctx context.Context, request apiv1.CreateKeyRequest) (creation, error) {
	vaults, err := k.connect(ctx)
	if err != nil {
		return creation{}, err
	}
	request.Name = k.String()
	if k.hsm {
		request.ProtectionLevel = apiv1.HSM
	}
	made, err := vaults.CreateKey(&request)
	if err != nil {
		return creation{}, k.explain(operationCreate, err)
	}
	identity, err := uri.ParseWithScheme(azurekms.Scheme, made.Name)
	if err != nil {
		return creation{}, fmt.Errorf("the vault made a key but named it unreadably: %w", err)
	}
	version := k
	if version.version = identity.Get("version"); version.version == "" {
		return creation{}, errors.New("the vault made a key but did not say which version it is")
	}
	opened, err := version.open(ctx)
	if err != nil {
		return creation{}, fmt.Errorf("version %s was made but cannot be used: %w", version.version, err)
	}
	return creation{key: version, signer: opened}, nil
}

// connect prepares a client; it asks nobody yet.
func (k azureKey) connect(ctx context.Context) (*azurekms.KeyVault, error) {
	cloud := k.cloud
	if cloud == "" {
		spelling := os.Getenv("ARM_ENVIRONMENT")
		var ok bool
		if cloud, ok = azureClouds[strings.ToLower(spelling)]; !ok {
			return nil, fmt.Errorf("ARM_ENVIRONMENT is %q: known are public, usgovernment and china", spelling)
		}
	}
	if os.Getenv("ARM_CLIENT_ID") != "" && os.Getenv("ARM_CLIENT_SECRET") == "" && os.Getenv("AZURE_CLIENT_ID") == "" {
		// Step's client would drop it, and whoever the default chain finds sign.
		return nil, errors.New("ARM_CLIENT_ID is set without ARM_CLIENT_SECRET, so that another identity would sign: set the secret, or, for a workload or managed identity, AZURE_CLIENT_ID")
	}
	options := url.Values{"environment": {cloud}}
	// The URI is how step's client takes credentials; it is shown to nobody.
	for _, setting := range []struct{ parameter, variable string }{
		{"tenant-id", "ARM_TENANT_ID"},
		{"client-id", "ARM_CLIENT_ID"},
		{"client-secret", "ARM_CLIENT_SECRET"},
	} {
		if value := os.Getenv(setting.variable); value != "" {
			options.Set(setting.parameter, value)
		}
	}
	vaults, err := azurekms.New(ctx, apiv1.Options{
		Type: apiv1.AzureKMS,
		URI:  uri.New(azurekms.Scheme, options).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare Azure credentials: %w", err)
	}
	return vaults, nil
}

package azure

import (
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// Cloud is one of Azure's clouds, as the settings name it.
type Cloud struct {
	Name           string              // public, usgovernment, china or custom
	Configuration  cloud.Configuration // authority and Resource Manager; nobody else holds its map
	RegistrySuffix string              // of container registries' hosts, "azurecr.io"
	VaultSuffix    string              // of key vaults' hosts, "vault.azure.net"
	VaultAudience  string              // what a token for key vaults is for, "https://vault.azure.net"
}

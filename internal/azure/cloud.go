package azure

import (
	"maps"

	// Fills in where Resource Manager is in each of the SDK's clouds.
	_ "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

const environmentCustom = "custom"

// Cloud is one of Azure's clouds.
type Cloud struct {
	Name           string              // public, usgovernment, china or custom
	Configuration  cloud.Configuration // authority and Resource Manager; its map is the caller's own
	RegistrySuffix string              // of container registries' hosts: "azurecr.io"
	VaultSuffix    string              // of key vaults' hosts: "vault.azure.net"
	VaultAudience  string              // what tokens for key vaults are for: "https://vault.azure.net"
}

// clouds are those that can be named, made anew for every caller: the SDK's own
// configurations share their maps with the whole process.
func clouds() map[string]Cloud {
	known := map[string]Cloud{}
	for _, c := range []struct {
		name, registries, vaults string
		configuration            cloud.Configuration
	}{
		{"public", "azurecr.io", "vault.azure.net", cloud.AzurePublic},
		{"usgovernment", "azurecr.us", "vault.usgovcloudapi.net", cloud.AzureGovernment},
		{"china", "azurecr.cn", "vault.azure.cn", cloud.AzureChina},
	} {
		c.configuration.Services = maps.Clone(c.configuration.Services)
		known[c.name] = Cloud{
			Name: c.name, Configuration: c.configuration,
			RegistrySuffix: c.registries, VaultSuffix: c.vaults, VaultAudience: "https://" + c.vaults,
		}
	}
	return known
}

// cloud is the one that valid settings name. A custom one is taken to name its
// registries and vaults as the public cloud does: nothing tells otherwise.
func (s *Settings) cloud() Cloud {
	name := s.environment()
	if name != environmentCustom {
		return clouds()[name]
	}
	custom := clouds()["public"]
	custom.Name, custom.Configuration = name, s.Endpoint.configuration()
	return custom
}

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
	RegistrySuffix string              // of container registries' hosts: "azurecr.io"; "" if unknown
	VaultSuffix    string              // of key vaults' hosts: "vault.azure.net"; "" if unknown
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
			RegistrySuffix: c.registries, VaultSuffix: c.vaults,
		}
	}
	return known
}

// cloud is the one that valid settings name. Nothing tells how a custom one names
// its registries and vaults; by the names of the public cloud its tokens would go
// to somebody else's.
func (s *Settings) cloud() Cloud {
	name := s.environment()
	if name == environmentCustom {
		return Cloud{Name: name, Configuration: s.Endpoint.configuration()}
	}
	return clouds()[name]
}

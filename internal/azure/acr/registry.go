package acr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

const registryType = "Microsoft.ContainerRegistry/registries"

// ParseID reads the resource ID of a registry:
// /subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerRegistry/registries/….
func ParseID(text string) (*arm.ResourceID, error) {
	id, err := arm.ParseResourceID(text)
	if err != nil || !strings.EqualFold(id.ResourceType.String(), registryType) || id.ResourceGroupName == "" || id.SubscriptionID == "" {
		return nil, fmt.Errorf("%q is not the resource ID of a container registry: it is /subscriptions/<id>/resourceGroups/<group>/providers/%s/<name>", text, registryType)
	}
	return id, nil
}

// Registry is what the provider reads of a registry, by the API of 2025-11-01.
//
// https://learn.microsoft.com/rest/api/containerregistry/registries/get
type Registry struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Location string `json:"location"`
	SKU      struct {
		Name string `json:"name"` // Basic, Standard or Premium
	} `json:"sku"`
	Properties struct {
		LoginServer         string `json:"loginServer"` // "example.azurecr.io"
		ProvisioningState   string `json:"provisioningState"`
		PublicNetworkAccess string `json:"publicNetworkAccess"` // Enabled or Disabled
		NetworkRuleSet      *struct {
			DefaultAction string `json:"defaultAction"` // Allow or Deny
		} `json:"networkRuleSet"`
		NetworkRuleBypassOptions string `json:"networkRuleBypassOptions"` // AzureServices or None
		RoleAssignmentMode       string `json:"roleAssignmentMode"`       // LegacyRegistryPermissions or AbacRepositoryPermissions
	} `json:"properties"`
}

// Client speaks to Azure about registries, and logs in to them. It may be used
// concurrently.
type Client struct{}

// NewClient prepares a client; it dials nobody.
func NewClient(account *azure.Account) (*Client, error) { return &Client{}, nil }

// Registry reads a registry. Errors are explained by Advice.
func (c *Client) Registry(ctx context.Context, id *arm.ResourceID) (*Registry, error) {
	return nil, errors.ErrUnsupported
}

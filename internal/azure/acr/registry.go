package acr

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

const (
	registryType = "Microsoft.ContainerRegistry/registries"
	apiVersion   = "2025-11-01"
)

// ParseID reads the resource ID of a registry:
// /subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerRegistry/registries/….
func ParseID(text string) (*arm.ResourceID, error) {
	id, err := arm.ParseResourceID(text)
	if err != nil || !strings.EqualFold(id.ResourceType.String(), registryType) || id.ResourceGroupName == "" || id.SubscriptionID == "" {
		return nil, fmt.Errorf("%q is not the resource ID of a container registry: it is /subscriptions/<id>/resourceGroups/<group>/providers/%s/<name>", text, registryType)
	}
	return id, nil
}

// inWords names a registry in messages.
func inWords(id *arm.ResourceID) string {
	return "container registry " + id.ResourceGroupName + "/" + id.Name
}

// Registry is what the provider reads of a registry, by the API of 2025-11-01.
//
// https://learn.microsoft.com/rest/api/containerregistry/registries/get
type Registry struct {
	Properties struct {
		LoginServer        string `json:"loginServer"`        // "example.azurecr.io"
		RoleAssignmentMode string `json:"roleAssignmentMode"` // LegacyRegistryPermissions or AbacRepositoryPermissions
	} `json:"properties"`
}

// Client speaks to Azure about registries, and logs in to them. It may be used
// concurrently.
type Client struct {
	account *azure.Account
	manager *resourcemanager.Client
	logins  runtime.Pipeline

	mu     sync.Mutex
	tokens map[string]*refreshToken // by host
}

// NewClient prepares a client; it dials nobody.
func NewClient(account *azure.Account) (*Client, error) {
	manager, err := resourcemanager.New(account)
	if err != nil {
		return nil, err
	}
	options := account.ClientOptions()
	return &Client{
		account: account,
		manager: manager,
		logins:  runtime.NewPipeline("aksmesh", "v1.0.0", runtime.PipelineOptions{}, &options),
		tokens:  map[string]*refreshToken{},
	}, nil
}

// Registry reads a registry. Errors are explained by [Advice].
func (c *Client) Registry(ctx context.Context, id *arm.ResourceID) (*Registry, error) {
	read := &Registry{}
	err := c.account.AwaitRoles(ctx, resourcemanager.LacksRole, func(ctx context.Context) error {
		return c.manager.Do(ctx, resourcemanager.Request{
			Doing: "read " + inWords(id), Path: id.String(), APIVersion: apiVersion,
		}, read)
	})
	if err != nil {
		return nil, err
	}
	return read, nil
}

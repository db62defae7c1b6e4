package aks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

const (
	authorizationVersion = "2022-04-01"
	networkVersion       = "2025-01-01"
)

// A puller is a built-in role by which nodes pull images. A registry gives rights
// either by its repositories (ABAC) or as a whole, and knows the roles of one of both
// ways only.
type puller struct {
	role           string
	byRepositories bool
}

// pullers are found by their IDs, which are the same in every cloud.
//
// https://learn.microsoft.com/azure/container-registry/container-registry-rbac-built-in-roles-overview
func pullers() map[string]puller {
	return map[string]puller{
		"7f951dda-4ed3-4680-a7ca-43fe172d538d": {"AcrPull", false},
		"8311e382-0749-4cb8-b61a-304f252e45ec": {"AcrPush", false},
		"acdd72a7-3385-48ef-bd42-f606fba81ae7": {"Reader", false},
		"b24988ac-6180-42a0-ab88-20f7382dd24c": {"Contributor", false},
		"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": {"Owner", false},
		"b93aa761-3e63-49ed-ac28-beffa264f7ac": {"Container Registry Repository Reader", true},
		"2a1e307c-b015-4ebd-883e-5b7698a07328": {"Container Registry Repository Writer", true},
	}
}

// AttachedRegistry is what the nodes of a cluster may pull from.
type AttachedRegistry struct {
	Scope     string // resource ID of a registry, or of a group or subscription with all its registries, or "/" for all there are
	Role      string // by which they may: AcrPull
	Condition string // of the assignment, which may be for some repositories only; empty for none
	// ByRepositories is whether the role counts in registries that give rights by
	// repositories, and in no others.
	ByRepositories bool
	// LoginServer is the registry's host; empty if it is not known, and of several.
	LoginServer string
}

var errNoKubeletIdentity = errors.New("the cluster has no kubelet identity whose roles could be looked up; with a service principal, its own are asked for by az role assignment list")

// Registries are those of the cluster's subscription that its kubelet identity has a
// built-in role to pull from: what az aks update --attach-acr and
// azurerm_role_assignment set. Errors are explained by [Advice].
func (c *Client) Registries(ctx context.Context, cluster *ManagedCluster) ([]AttachedRegistry, error) {
	id, err := ParseID(cluster.ID)
	if err != nil {
		return nil, err
	}
	kubelet := cluster.Properties.IdentityProfile["kubeletidentity"].ObjectID
	if kubelet == "" {
		return nil, fmt.Errorf("%s: %w", id, errNoKubeletIdentity)
	}
	request := resourcemanager.Request{
		Doing:      "list the roles of the kubelet identity of " + id.String(),
		Path:       "/subscriptions/" + id.SubscriptionID + "/providers/Microsoft.Authorization/roleAssignments",
		APIVersion: authorizationVersion,
		Query:      url.Values{"$filter": {"assignedTo('" + kubelet + "')"}},
	}
	found := []AttachedRegistry{}
	for {
		var page struct {
			Value []struct {
				Properties struct {
					Scope            string `json:"scope"`
					RoleDefinitionID string `json:"roleDefinitionId"`
					Condition        string `json:"condition"`
				} `json:"properties"`
			} `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if err := c.manager.Do(ctx, request, &page); err != nil {
			return nil, err
		}
		for _, assignment := range page.Value {
			definition := assignment.Properties.RoleDefinitionID
			by, pulls := pullers()[strings.ToLower(definition[strings.LastIndexByte(definition, '/')+1:])]
			if pulls && mayHoldRegistries(assignment.Properties.Scope) {
				found = append(found, AttachedRegistry{
					Scope: assignment.Properties.Scope, Role: by.role, Condition: assignment.Properties.Condition, ByRepositories: by.byRepositories,
				})
			}
		}
		if page.NextLink == "" {
			break
		}
		// Only what comes next is taken from the answer, not whom to ask.
		next, err := url.Parse(page.NextLink)
		if err != nil {
			return nil, fmt.Errorf("%s: the address of the next page: %w", request.Doing, err)
		}
		request.Query = next.Query()
		request.Query.Del("api-version")
	}
	slices.SortFunc(found, func(a, b AttachedRegistry) int {
		return strings.Compare(strings.ToLower(a.Scope)+" "+a.Role, strings.ToLower(b.Scope)+" "+b.Role)
	})
	return found, nil
}

// mayHoldRegistries tells scopes of registries, and those around them, from others:
// the same roles are given for artifacts elsewhere.
func mayHoldRegistries(scope string) bool {
	if scope == "/" {
		return true
	}
	id, err := arm.ParseResourceID(scope)
	if err != nil {
		return false
	}
	return slices.ContainsFunc([]string{"Microsoft.ContainerRegistry/registries", "Microsoft.Resources/resourceGroups", "Microsoft.Resources/subscriptions", "Microsoft.Management/managementGroups"}, func(kind string) bool {
		return strings.EqualFold(id.ResourceType.String(), kind)
	})
}

// Subnet are the blocks of addresses of a subnet, by its resource ID. Errors are
// explained by [Advice].
func (c *Client) Subnet(ctx context.Context, id string) ([]netip.Prefix, error) {
	parsed, err := arm.ParseResourceID(id)
	if err != nil || !strings.EqualFold(parsed.ResourceType.String(), "Microsoft.Network/virtualNetworks/subnets") {
		return nil, fmt.Errorf("%q is not the resource ID of a subnet", id)
	}
	var subnet struct {
		Properties struct {
			AddressPrefix   string   `json:"addressPrefix"`
			AddressPrefixes []string `json:"addressPrefixes"`
		} `json:"properties"`
	}
	doing := "read subnet " + parsed.Parent.Name + "/" + parsed.Name
	if err := c.manager.Do(ctx, resourcemanager.Request{Doing: doing, Path: parsed.String(), APIVersion: networkVersion}, &subnet); err != nil {
		return nil, err
	}
	texts := subnet.Properties.AddressPrefixes
	if len(texts) == 0 {
		texts = []string{subnet.Properties.AddressPrefix}
	}
	var prefixes []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no block of addresses: %w", doing, text, err)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

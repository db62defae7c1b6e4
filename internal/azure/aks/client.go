package aks

import (
	"context"
	"errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// Client asks Azure Resource Manager.
type Client struct{}

// NewClient prepares a client; nothing is dialled.
func NewClient(account *azure.Account) (*Client, error) { return nil, errors.New("") }

// Cluster reads a cluster.
func (c *Client) Cluster(ctx context.Context, id ID) (*ManagedCluster, error) { return nil, nil }


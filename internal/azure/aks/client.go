package aks

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// apiVersion is that of the container service: the first that tells of managed
// Gateway API, virtual network integration and managed system node pools.
const apiVersion = "2026-05-01"

// Client asks Azure Resource Manager about clusters. It is safe for concurrent
// use.
type Client struct{ manager *resourcemanager.Client }

// NewClient prepares a client; nothing is dialled.
func NewClient(account *azure.Account) (*Client, error) {
	manager, err := resourcemanager.New(account)
	if err != nil {
		return nil, err
	}
	return &Client{manager: manager}, nil
}

// Cluster reads a cluster as it is now. Errors are explained by [Advice].
func (c *Client) Cluster(ctx context.Context, id ID) (*ManagedCluster, error) {
	read := &ManagedCluster{}
	err := c.manager.Do(ctx, resourcemanager.Request{Doing: "read " + id.String(), Path: id.Path(), APIVersion: apiVersion}, read)
	if err != nil {
		return nil, err
	}
	return read, nil
}

// errNoKubeconfig is an answer without credentials in it.
var errNoKubeconfig = errors.New("no credentials in the answer of Azure Resource Manager")

// kubeconfig is the content of a kubeconfig file with the user credentials of a
// cluster, or with those of its admin account. Those of users name the exec plugin
// of Microsoft Entra ID where the cluster has it; the form that is the default is
// up to the cluster's version.
func (c *Client) kubeconfig(ctx context.Context, id ID, admin, publicFQDN bool) ([]byte, error) {
	request := resourcemanager.Request{
		Doing:  "get the user credentials of " + id.String(),
		Method: http.MethodPost, Path: id.Path() + "/listClusterUserCredential", APIVersion: apiVersion,
		Query: url.Values{"format": {"exec"}},
	}
	if admin {
		request.Doing = "get the admin credentials of " + id.String()
		request.Path = id.Path() + "/listClusterAdminCredential"
		request.Query = url.Values{}
	}
	if publicFQDN {
		request.Query.Set("server-fqdn", "public")
	}
	var listed struct {
		Kubeconfigs []struct {
			Value []byte `json:"value"`
		} `json:"kubeconfigs"`
	}
	if err := c.manager.Do(ctx, request, &listed); err != nil {
		return nil, err
	}
	if len(listed.Kubeconfigs) == 0 {
		return nil, errNoKubeconfig
	}
	return listed.Kubeconfigs[0].Value, nil
}

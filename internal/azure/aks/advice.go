package aks

import (
	"errors"
	"net/http"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// Advice says what an error of ARM about a cluster means and what to do about it,
// or "" if nothing more can be said.
func Advice(err error) string {
	of, ok := errors.AsType[*resourcemanager.Error](err)
	if !ok {
		return ""
	}
	switch {
	case of.Status == http.StatusBadRequest && strings.Contains(of.Message, "disable local accounts"):
		return "The cluster's local accounts are disabled, so it has no admin credentials: take use_admin_credentials out, and let the account log in by Microsoft Entra ID."
	case of.Code == "ResourceNotFound", of.Code == "NotFound":
		return "The resource group has no such cluster: check the name. " + sameApply
	case of.Code == "ResourceGroupNotFound":
		return "The subscription has no such resource group, or the account may not see it: check subscription_id and resource_group_name. " + sameApply
	}
	return resourcemanager.Advice(err, roleFor)
}

// sameApply is about clusters that are not there yet.
const sameApply = "If this configuration makes the cluster, give its ID (id = azurerm_kubernetes_cluster.example.id), so that Terraform knows that it has to be made first."

// roleFor is the built-in role with the fewest rights that allows an action.
func roleFor(action string) string {
	switch {
	case strings.EqualFold(action, clusterType+"/listClusterAdminCredential/action"):
		return "Azure Kubernetes Service Cluster Admin Role"
	case strings.EqualFold(action, clusterType+"/listClusterUserCredential/action"):
		return "Azure Kubernetes Service Cluster User Role"
	case strings.HasSuffix(strings.ToLower(action), "/read"):
		return "Reader"
	}
	return ""
}

package aks

import (
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
)

const clusterType = "Microsoft.ContainerService/managedClusters"

// ID names a cluster.
type ID struct{ SubscriptionID, ResourceGroup, Name string }

// ParseID reads the resource ID of a cluster:
// /subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerService/managedClusters/….
func ParseID(text string) (ID, error) {
	parsed, err := arm.ParseResourceID(text)
	if err != nil || !strings.EqualFold(parsed.ResourceType.String(), clusterType) || parsed.ResourceGroupName == "" || parsed.SubscriptionID == "" {
		return ID{}, fmt.Errorf("%q is not the resource ID of an AKS cluster: it is /subscriptions/<id>/resourceGroups/<group>/providers/%s/<name>", text, clusterType)
	}
	return ID{SubscriptionID: parsed.SubscriptionID, ResourceGroup: parsed.ResourceGroupName, Name: parsed.Name}, nil
}

// Path is the resource ID.
func (id ID) Path() string {
	return "/subscriptions/" + id.SubscriptionID + "/resourceGroups/" + id.ResourceGroup + "/providers/" + clusterType + "/" + id.Name
}

// String names the cluster in messages.
func (id ID) String() string { return "AKS cluster " + id.ResourceGroup + "/" + id.Name }

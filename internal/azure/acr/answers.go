package acr

import (
	"errors"
	"regexp"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// IsMissing tells whether err says that there is no such registry, or nothing that
// it could be in: there may be, once others have made it.
func IsMissing(err error) bool {
	of, answered := errors.AsType[*resourcemanager.Error](err)
	return answered && (of.Code == "ResourceNotFound" || of.Code == "ResourceGroupNotFound" || of.Code == "SubscriptionNotFound")
}

var azureHost = regexp.MustCompile(`\.azurecr\.(io|us|cn)$`)

// IsHost tells whether a host is one of Azure's registries, of any cloud.
func IsHost(host string) bool { return azureHost.MatchString(host) }

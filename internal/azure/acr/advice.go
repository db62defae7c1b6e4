package acr

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

const (
	importer = "Container Registry Data Importer and Data Reader"

	// Registries that grant by repository do not honour the roles that others do.
	pullers  = "AcrPull, or Container Registry Repository Reader where the registry grants by repository (ABAC)"
	pushers  = "AcrPush, or Container Registry Repository Writer where the registry grants by repository (ABAC)"
	deleters = "AcrDelete, or Container Registry Repository Contributor where the registry grants by repository (ABAC)"
)

// Advice is what to do about an error of this package, or one that internal/oci has
// from a registry of Azure's, "" if there is nothing to say.
func Advice(err error) string {
	if login, ok := errors.AsType[*LoginError](err); ok {
		return login.advice()
	}
	if failed, ok := errors.AsType[*ImportError](err); ok {
		if advice := failed.advice(); advice != "" {
			return advice
		}
	}
	if refused, ok := errors.AsType[*oci.UnauthorizedError](err); ok && IsHost(refused.Host) {
		return refusal(refused)
	}
	if unreachable, ok := errors.AsType[*oci.UnreachableError](err); ok && unreachable.Firewall {
		return networkRules
	}
	return resourcemanager.Advice(err, roleOf)
}

// networkRules is about registries that keep this machine out.
const networkRules = "The registry's public network access is disabled, or its firewall does not let in this machine's " +
	"address. Run in a network with its private endpoint, allow the address, or have the registry import the images by " +
	"itself: that needs no way from here to its data."

func roleOf(action string) string {
	if strings.HasPrefix(strings.ToLower(action), strings.ToLower(registryType)+"/") {
		return importer
	}
	return ""
}

func (e *LoginError) advice() string {
	switch e.Status {
	case 0:
		return azure.Advice(e.Err)
	case http.StatusForbidden:
		return networkRules
	case http.StatusUnauthorized:
		return "The registry does not accept the account's Microsoft Entra token. Check that tenant_id is the tenant of the " +
			"registry's subscription, and the clock of this machine."
	case http.StatusNotFound:
		return "There is no Azure container registry " + e.Host + "."
	default:
		return ""
	}
}

// refusal is about an account that the registry knows, but that may not do it.
func refusal(refused *oci.UnauthorizedError) string {
	if refused.Login != nil {
		return azure.Advice(refused.Login)
	}
	role := pullers
	switch refused.Method {
	case http.MethodPut, http.MethodPost, http.MethodPatch:
		// Tokens are asked for by POST, too, whatever they are for.
		role = pushers + ", to write to it, and " + pullers + ", to read from it"
	case http.MethodDelete:
		role = deleters
	}
	return "On the registry " + refused.Host + ", the account needs the role " + role +
		". A new assignment takes effect after some minutes."
}

// Words of Azure about imports that failed; the code is the same for most.
var (
	throttledSource = regexp.MustCompile(`(?i)toomanyrequests|too many requests|pull rate limit|rate.?limit|\b429\b`)
	tagThere        = regexp.MustCompile(`(?i)already exists in target registry`)
	unreadable      = regexp.MustCompile(`(?i)could ?n[o']t be found in|was not found in (the )?subscription`)
	refusedSource   = regexp.MustCompile(`(?i)unauthorized|authentication required|access.*denied|\bdenied\b|forbidden|\b40[13]\b`)
	noSource        = regexp.MustCompile(`(?i)manifest unknown|manifest_unknown|name unknown|name_unknown|not found|does not exist|\b404\b`)
	unreachedSource = regexp.MustCompile(`(?i)time[d ]*out|no such host|name or service not known|could not (connect|be resolved)|` +
		`connection (was )?refused|unable to connect|unreachable|copying blobs|\b50[0234]\b`)
)

func (e *ImportError) advice() string {
	failed, ok := errors.AsType[*resourcemanager.Error](e.Err)
	if !ok || failed.Status == 0 || failed.Code == "AuthorizationFailed" {
		return ""
	}
	source, said := e.Request.SourceRegistry, failed.Message
	switch {
	case tagThere.MatchString(said):
		return "The tag is there already and may lead to another image. Let it be moved, or choose another prefix."
	case unreadable.MatchString(said):
		return "Azure says so, too, when the account may import but not read the registry: it needs the role " +
			importer + " on it, which has both."
	case throttledSource.MatchString(said):
		return source + " limits how much Azure, from addresses that many share, may pull of it. Give credentials for " +
			source + ", copy the images through this machine instead, or try again later."
	case refusedSource.MatchString(said):
		return "Azure needs credentials for " + source + ", or those it was given do not do; many registries answer the " +
			"same for images that do not exist."
	case noSource.MatchString(said):
		return source + " has no such image. Those of Docker Hub without an owner are in library/."
	case unreachedSource.MatchString(said):
		return "Azure fetches the image by itself, and cannot do so from " + source + ": it has to be reachable from the " +
			"Internet and answer requests for ranges of bytes. Copy the images through this machine instead."
	case failed.Code == "Conflict":
		return "Another operation is under way on the registry; apply again."
	default:
		return ""
	}
}

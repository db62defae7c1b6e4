package testazure

// Azure Resource Manager: https://learn.microsoft.com/rest/api/azure/, its errors
// https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors,
// its long-running operations
// https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations.

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

func managementHosts() []string {
	return []string{"management.azure.com", "management.usgovcloudapi.net", "management.chinacloudapi.cn", strings.TrimPrefix(CustomManagement, "https://")}
}

// apiVersion is what every request to Resource Manager names.
var apiVersion = regexp.MustCompile(`^20\d\d-\d\d-\d\d(-preview)?$`)

// resourcePath has a subscription, its resource group, a resource's type and name,
// and what is asked of it.
var resourcePath = regexp.MustCompile(`(?i)^/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/([^/]+/[^/]+)/([^/]+)(?:/([^/]+))?$`)

// resource is something that Resource Manager manages.
type resource struct {
	SubscriptionID, ResourceGroup, Name string

	kind      string // Microsoft.ContainerService/managedClusters
	azure     *Azure
	forbidden []string // actions, with the resource's azure.mu
}

// ID is the resource ID.
func (r *resource) ID() string {
	return "/subscriptions/" + r.SubscriptionID + "/resourceGroups/" + r.ResourceGroup + "/providers/" + r.kind + "/" + r.Name
}

// Forbid takes the right to an action from everybody, such as
// "Microsoft.ContainerService/managedClusters/read".
func (r *resource) Forbid(action string) {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	r.forbidden = append(r.forbidden, strings.ToLower(action))
}

// Permit gives it back.
func (r *resource) Permit(action string) {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	r.forbidden = slices.DeleteFunc(r.forbidden, func(a string) bool { return strings.EqualFold(a, action) })
}

// permits says whether callers have the right to an action, and refuses if not.
func (r *resource) permits(w http.ResponseWriter, who caller, action string) bool {
	r.azure.mu.Lock()
	forbidden := slices.Contains(r.forbidden, strings.ToLower(action))
	r.azure.mu.Unlock()
	if forbidden {
		refuse(w, http.StatusForbidden, "AuthorizationFailed", fmt.Sprintf("The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.", who.client, who.object, action, r.ID()))
	}
	return !forbidden
}

// AddSubscription makes a subscription of a tenant, nil for the home tenant, and
// returns its ID.
func (a *Azure) AddSubscription(t *Tenant) string {
	if t == nil {
		t = a.home
	}
	id := uuid.NewString()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subscriptions[id] = t.ID
	return id
}

// place completes where a resource is: in a new subscription and a new group,
// unless it says otherwise.
func (a *Azure) place(r *resource, prefix string) {
	r.azure = a
	if r.SubscriptionID == "" {
		r.SubscriptionID = a.AddSubscription(nil)
	}
	if r.ResourceGroup == "" {
		r.ResourceGroup = unique("group-")
	}
	if r.Name == "" {
		r.Name = unique(prefix)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if id := strings.ToLower(r.SubscriptionID); a.subscriptions[id] == "" {
		a.subscriptions[id] = a.home.ID
	}
}

func (a *Azure) manage(w http.ResponseWriter, r *http.Request) {
	who, ok := a.manager(w, r)
	if !ok {
		return
	}
	if !apiVersion.MatchString(r.URL.Query().Get("api-version")) {
		refuse(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	if !a.subscribed(w, r, who) {
		return
	}
	if scope, ok := strings.CutSuffix(strings.ToLower(r.URL.Path), "/providers/microsoft.authorization/roleassignments"); ok {
		a.listAssignments(w, r, scope)
		return
	}
	if a.replaced(w, r) || a.operate(w, r) || a.assign(w, r) {
		return
	}
	parts := resourcePath.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		refuse(w, http.StatusNotFound, "InvalidResourceType", "The resource type could not be found in the namespace for api version '"+r.URL.Query().Get("api-version")+"'.")
		return
	}
	if parts[5] == "" && (r.Method == http.MethodPut || r.Method == http.MethodDelete) {
		a.deploy(w, r, who, parts)
		return
	}
	id := strings.ToLower(strings.TrimSuffix(r.URL.Path, "/"+parts[5]))
	if parts[5] == "" {
		id = strings.ToLower(r.URL.Path)
	}
	a.mu.Lock()
	cluster := a.clusters[id]
	a.mu.Unlock()
	registry := a.registry(id)
	switch {
	case cluster != nil:
		cluster.manage(w, r, who, parts[5])
	case registry != nil:
		registry.manage(w, r, who, parts[5])
	case !a.grouped(parts[1], parts[2]):
		refuse(w, http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+parts[2]+"' could not be found.")
	default:
		refuse(w, http.StatusNotFound, "ResourceNotFound", fmt.Sprintf("The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", parts[3], parts[4], parts[2]))
	}
}

// manager says who asks Resource Manager, and refuses who may not.
func (a *Azure) manager(w http.ResponseWriter, r *http.Request) (caller, bool) {
	who, err := a.authenticate(bearer(r), managementAudiences()...)
	wrong, isForOthers := errors.AsType[errAudience](err)
	switch {
	case err == nil:
		return who, true
	case bearer(r) == "":
		refuse(w, http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	case errors.Is(err, jwt.ErrTokenExpired):
		refuse(w, http.StatusUnauthorized, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time '"+a.now().UTC().String()+"'.")
	case isForOthers:
		refuse(w, http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience or resource '"+wrong.audience+"'. It should exactly match with one of the allowed audiences 'https://management.core.windows.net/','https://management.core.windows.net','https://management.azure.com/','https://management.azure.com'.")
	default:
		refuse(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	}
	return caller{}, false
}

// subscribed says whether the subscription of a path is one of the caller's
// tenant, and refuses if not.
func (a *Azure) subscribed(w http.ResponseWriter, r *http.Request, who caller) bool {
	rest, _ := strings.CutPrefix(strings.ToLower(r.URL.Path), "/subscriptions/")
	id, _, _ := strings.Cut(rest, "/")
	a.mu.Lock()
	tenant, ok := a.subscriptions[id]
	a.mu.Unlock()
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "SubscriptionNotFound", "The subscription '"+id+"' could not be found.")
	case tenant != who.tenant:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q, error=\"invalid_token\", error_description=\"The authentication failed because of wrong issuer.\"", "https://"+publicAuthority+"/"+tenant))
		refuse(w, http.StatusUnauthorized, "InvalidAuthenticationTokenTenant", fmt.Sprintf("The access token is from the wrong issuer 'https://sts.windows.net/%s/'. It must match the tenant 'https://sts.windows.net/%s/' associated with this subscription. Please use the authority (URL) 'https://login.windows.net/%s' to get the token. Note, if the subscription is transferred to another tenant there is no impact to the services, but information about new tenant could take time to propagate (up to an hour). If you just transferred your subscription and see this error message, please try back later.", who.tenant, tenant, tenant))
	default:
		return true
	}
	return false
}

// grouped says whether a resource group has a resource.
func (a *Azure) grouped(subscription, group string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := func(r *resource) bool {
		return strings.EqualFold(r.SubscriptionID, subscription) && strings.EqualFold(r.ResourceGroup, group)
	}
	for _, cluster := range a.clusters {
		if in(&cluster.resource) {
			return true
		}
	}
	for _, registry := range a.registries {
		if in(&registry.resource) {
			return true
		}
	}
	return false
}

// refuse answers as Resource Manager does, and registries' own API.
func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, managementError(code, message))
}

func managementError(code, message string) any {
	return map[string]any{"error": map[string]any{"code": code, "message": message}}
}

// ManagementFault is the answer of Resource Manager by which it fails or refuses.
func ManagementFault(status int, code, message string) Fault {
	return Fault{Status: status, Body: managementError(code, message)}
}

// assignment is a role that somebody has.
// https://learn.microsoft.com/rest/api/authorization/role-assignments.
type assignment struct{ id, principal, role, scope string }

// Roles that may pull from registries, by the IDs of their definitions.
const (
	AcrPull          = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
	RepositoryReader = "b93aa761-3e63-49ed-ac28-beffa264f7ac"
)

// Assign gives a role, by the ID of its definition, to a principal, by its object
// ID, on a scope: a resource ID, or that of a group or subscription.
func (a *Azure) Assign(principal, role, scope string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.assignments = append(a.assignments, assignment{id: uuid.NewString(), principal: principal, role: role, scope: scope})
}

var assignmentFilter = regexp.MustCompile(`^(?:assignedTo\('([^']+)'\)|principalId eq '([^']+)')$`)

func (a *Azure) listAssignments(w http.ResponseWriter, r *http.Request, scope string) {
	filter, err := url.QueryUnescape(r.URL.Query().Get("$filter"))
	parts := assignmentFilter.FindStringSubmatch(filter)
	if err != nil || parts == nil {
		refuse(w, http.StatusBadRequest, "UnsupportedQuery", "The filter '"+filter+"' is not supported. Supported filters are either 'atScope()' or 'principalId eq '{value}' or assignedTo('{value}')'.")
		return
	}
	principal := parts[1] + parts[2]
	found := []map[string]any{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, given := range a.assignments {
		// Those above the scope are inherited, those below are listed as well.
		at, asked := strings.ToLower(given.scope)+"/", scope+"/"
		if !strings.EqualFold(given.principal, principal) || !strings.HasPrefix(at, asked) && !strings.HasPrefix(asked, at) {
			continue
		}
		found = append(found, given.describe(scope))
	}
	answer(w, http.StatusOK, map[string]any{"value": found})
}

package testazure

// Azure Container Registry. Its management, by the API version 2025-11-01:
// https://learn.microsoft.com/rest/api/containerregistry/registries; how one logs
// in to a registry itself:
// https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md; imports:
// https://learn.microsoft.com/azure/container-registry/container-registry-import-images.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	registryType = "Microsoft.ContainerRegistry/registries"
	// registryUser is who logs in with a refresh token as the password.
	registryUser = "00000000-0000-0000-0000-000000000000"

	refreshLifetime = 3 * time.Hour
	accessLifetime  = 75 * time.Minute
)

// ImporterAgent begins the user agent of what Azure itself asks sources for while
// it imports, so that tests can tell it from their clients.
const ImporterAgent = "testazure-import"

// The rights that Registry.Forbid takes away, besides those of Resource Manager.
const (
	RegistryPull   = registryType + "/pull/read"
	RegistryPush   = registryType + "/push/write"
	RegistryDelete = registryType + "/artifacts/delete"
)

// RegistryOptions say what registry is made.
type RegistryOptions struct {
	SubscriptionID, ResourceGroup, Name string // made up if empty
	Suffix                              string // of the host, "azurecr.io" if empty

	// Properties and SKU are merged into those that a registry has by default;
	// what is nil is taken away.
	Properties, SKU map[string]any
}

// Registry is an Azure container registry.
type Registry struct {
	resource
	images

	host       string
	sku        map[string]any
	properties map[string]any // with azure.mu
	imports    []Import       // with azure.mu
}

// Import is an import that was asked for.
type Import struct {
	Source  string   // host/repository:tag or host/repository@digest
	Targets []string // repository:tag, or repository for its digest alone
	Force   bool
	Error   string // "" if it went well, or goes on
}

// AddRegistry makes a registry without images.
func (a *Azure) AddRegistry(o RegistryOptions) (*Registry, error) {
	r := &Registry{
		resource: resource{SubscriptionID: o.SubscriptionID, ResourceGroup: o.ResourceGroup, Name: o.Name, kind: registryType},
		images:   newImages(),
	}
	a.place(&r.resource, "registry")
	if o.Suffix == "" {
		o.Suffix = "azurecr.io"
	}
	r.host = strings.ToLower(r.Name) + "." + o.Suffix
	var err error
	if r.sku, err = merged(map[string]any{"name": "Premium", "tier": "Premium"}, o.SKU); err != nil {
		return nil, err
	}
	r.properties = map[string]any{
		"loginServer": r.host, "provisioningState": "Succeeded", "adminUserEnabled": false, "anonymousPullEnabled": false,
		"publicNetworkAccess": "Enabled", "networkRuleBypassOptions": "AzureServices", "roleAssignmentMode": "LegacyRegistryPermissions",
		"policies": map[string]any{"azureADAuthenticationAsArmPolicy": map[string]any{"status": "enabled"}},
	}
	if err := r.Patch(o.Properties); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.registries[r.host] = r
	return r, nil
}

// Host is the login server.
func (r *Registry) Host() string { return r.host }

// Patch merges changes into the properties; what is nil is taken away.
func (r *Registry) Patch(changes map[string]any) error {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	properties, err := merged(r.properties, changes)
	if err == nil {
		r.properties = properties
	}
	return err
}

// Imports returns the imports, in the order in which they were asked for.
func (r *Registry) Imports() []Import {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	return slices.Clone(r.imports)
}

// registry returns the one with a resource ID in lower case, nil if there is none.
func (a *Azure) registry(id string) *Registry {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, registry := range a.registries {
		if strings.ToLower(registry.ID()) == id {
			return registry
		}
	}
	return nil
}

func (r *Registry) property(name string) any {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	return r.properties[name]
}

// manage is the registry as Resource Manager has it.
func (r *Registry) manage(w http.ResponseWriter, request *http.Request, who caller, operation string) {
	switch {
	case operation == "" && request.Method == http.MethodGet:
		if !r.permits(w, who, registryType+"/read") {
			return
		}
		r.describe(w)
	case strings.EqualFold(operation, "importImage") && request.Method == http.MethodPost:
		if r.permits(w, who, registryType+"/importImage/action") {
			r.startImport(w, request)
		}
	default:
		refuse(w, http.StatusNotFound, "NotFound", "The requested operation does not exist.")
	}
}

func (r *Registry) describe(w http.ResponseWriter) {
	r.azure.mu.Lock()
	properties := r.properties
	r.azure.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"id": r.ID(), "name": r.Name, "type": registryType, "location": "westeurope", "sku": r.sku, "properties": properties,
	})
}

// grant is a right that a token of a registry gives.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// serve is the registry itself.
func (r *Registry) serve(w http.ResponseWriter, request *http.Request) {
	switch {
	case r.property("publicNetworkAccess") == "Disabled":
		refuseImage(w, http.StatusForbidden, "DENIED", "client with IP '192.0.2.1' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.")
	case request.URL.Path == "/oauth2/exchange" && request.Method == http.MethodPost:
		r.exchange(w, request)
	case request.URL.Path == "/oauth2/token":
		r.token(w, request)
	default:
		r.distribute(w, request)
	}
}

// exchange gives a refresh token for a token of Entra ID.
func (r *Registry) exchange(w http.ResponseWriter, request *http.Request) {
	audiences := []string{registryAudience}
	if policies, ok := r.property("policies").(map[string]any); ok {
		if policy, ok := policies["azureADAuthenticationAsArmPolicy"].(map[string]any); ok && policy["status"] == "enabled" {
			audiences = append(audiences, managementAudiences()...)
		}
	}
	if request.PostFormValue("grant_type") != "access_token" || request.PostFormValue("service") != r.host {
		refuseImage(w, http.StatusBadRequest, "INVALID_REQUEST", "grant_type or service is not valid")
		return
	}
	who, err := r.azure.authenticate(request.PostFormValue("access_token"), audiences...)
	tenant := request.PostFormValue("tenant")
	if err != nil || who.tenant != r.tenantID() || tenant != "" && tenant != who.tenant {
		refuseImage(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information. CorrelationId: 00000000-0000-4000-8000-00000000000b")
		return
	}
	answer(w, http.StatusOK, map[string]any{"refresh_token": r.seal(who, "refresh", refreshLifetime, nil)})
}

func (r *Registry) tenantID() string {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	return r.azure.subscriptions[strings.ToLower(r.SubscriptionID)]
}

// seal makes a token of this registry; kind is "refresh" or "access".
func (r *Registry) seal(who caller, kind string, lifetime time.Duration, access []grant) string {
	return r.azure.seal(claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "Azure Container Registry", Subject: kind, Audience: jwt.ClaimStrings{r.host}, ID: uuid.NewString(),
			ExpiresAt: jwt.NewNumericDate(r.azure.now().Add(lifetime)),
		},
		Tenant: who.tenant, Client: who.client, Object: who.object, Access: access,
	})
}

// open reads a token of this registry.
func (r *Registry) open(token, kind string) (claims, bool) {
	c, err := r.azure.open(token)
	return c, err == nil && c.Subject == kind && slices.Equal(c.Audience, []string{r.host})
}

// token gives an access token for a refresh token, or for nothing where
// everybody may pull.
func (r *Registry) token(w http.ResponseWriter, request *http.Request) {
	if err := request.ParseForm(); err != nil {
		refuseImage(w, http.StatusBadRequest, "INVALID_REQUEST", err.Error())
		return
	}
	refresh := request.PostFormValue("refresh_token")
	if username, password, ok := request.BasicAuth(); ok && username == registryUser {
		refresh = password
	} else if request.PostFormValue("grant_type") == "password" && request.PostFormValue("username") == registryUser {
		refresh = request.PostFormValue("password")
	}
	known, ok := r.open(refresh, "refresh")
	anonymous := refresh == "" && r.property("anonymousPullEnabled") == true
	if !ok && !anonymous || request.FormValue("service") != r.host {
		refuseImage(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information. CorrelationId: 00000000-0000-4000-8000-00000000000b")
		return
	}
	var access []grant
	for scope := range strings.FieldsSeq(strings.Join(request.Form["scope"], " ")) {
		parts := strings.Split(scope, ":")
		if len(parts) == 3 {
			access = append(access, grant{Type: parts[0], Name: parts[1], Actions: r.granted(strings.Split(parts[2], ","), anonymous)})
		}
	}
	who := caller{tenant: known.Tenant, client: known.Client, object: known.Object}
	answer(w, http.StatusOK, map[string]any{"access_token": r.seal(who, "access", accessLifetime, access)})
}

// granted returns those actions that callers have the right to.
func (r *Registry) granted(asked []string, anonymous bool) []string {
	if slices.Contains(asked, "*") {
		asked = []string{"pull", "push", "delete", "*"}
	}
	rights := map[string]string{"pull": RegistryPull, "push": RegistryPush, "delete": RegistryDelete}
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	granted := []string{}
	for _, action := range asked {
		if !slices.Contains(r.forbidden, strings.ToLower(rights[action])) && (!anonymous || action == "pull") {
			granted = append(granted, action)
		}
	}
	return granted
}

// distribute serves images to those with a token for them.
func (r *Registry) distribute(w http.ResponseWriter, request *http.Request) {
	scope := scopeOf(request)
	token, ok := r.open(bearer(request), "access")
	realm := "https://" + r.host + "/oauth2/token"
	if !ok {
		challenge(w, realm, r.host, scope, "")
		return
	}
	if scope != "" && !slices.ContainsFunc(token.Access, func(g grant) bool { return g.covers(scope) }) {
		challenge(w, realm, r.host, scope, "insufficient_scope")
		return
	}
	r.handler.ServeHTTP(w, request)
}

func (g grant) covers(scope string) bool {
	parts := strings.Split(scope, ":")
	if len(parts) != 3 || g.Type != parts[0] || g.Name != parts[1] {
		return false
	}
	for action := range strings.SplitSeq(parts[2], ",") {
		if !slices.Contains(g.Actions, action) {
			return false
		}
	}
	return true
}

// importRequest is the body of importImage.
type importRequest struct {
	Source struct {
		RegistryURI string `json:"registryUri"`
		ResourceID  string `json:"resourceId"`
		SourceImage string `json:"sourceImage"`
		Credentials *struct {
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"credentials"`
	} `json:"source"`
	TargetTags                 []string `json:"targetTags"`
	UntaggedTargetRepositories []string `json:"untaggedTargetRepositories"`
	Mode                       string   `json:"mode"`
}

// operation is a long-running one of Resource Manager.
type operation struct {
	done   bool
	status int // of an error, else 0
	code   string
	text   string
}

// importError is an import that Azure refuses or that fails.
type importError struct {
	status        int
	code, message string
}

// Error implements error.
func (e *importError) Error() string { return e.message }

func (r *Registry) startImport(w http.ResponseWriter, request *http.Request) {
	var asked importRequest
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '"+err.Error()+"'.")
		return
	}
	source, err := r.azure.importSource(&asked)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidParameters", err.Error())
		return
	}
	if len(asked.TargetTags)+len(asked.UntaggedTargetRepositories) == 0 {
		asked.TargetTags = []string{asked.Source.SourceImage}
	}
	name := "registries-" + uuid.NewString()
	done := &operation{}
	r.azure.mu.Lock()
	r.azure.operations[name] = done
	number := len(r.imports)
	r.imports = append(r.imports, Import{
		Source: source.Reference.String(), Targets: slices.Concat(asked.TargetTags, asked.UntaggedTargetRepositories), Force: asked.Mode == "Force",
	})
	r.azure.mu.Unlock()

	r.azure.work.Go(func() {
		err := r.copy(r.azure.ctx, source, asked)
		r.azure.mu.Lock()
		defer r.azure.mu.Unlock()
		done.done = true
		if err == nil {
			return
		}
		r.imports[number].Error = err.Error()
		done.status, done.code = http.StatusBadRequest, "InvalidParameters"
		done.text = fmt.Sprintf("Operation %s failed. Resource %s Error: %s", name, r.ID(), err)
		if refused, ok := errors.AsType[*importError](err); ok {
			done.status, done.code, done.text = refused.status, refused.code, refused.message
		}
	})

	query := url.Values{"api-version": {request.URL.Query().Get("api-version")}}
	w.Header().Set("Location", "https://"+hostOf(request.Host)+"/subscriptions/"+r.SubscriptionID+"/providers/Microsoft.ContainerRegistry/locations/westeurope/operationResults/"+name+"?"+query.Encode())
	w.Header().Set("Retry-After-Ms", "2")
	w.WriteHeader(http.StatusAccepted)
}

// operate answers of a long-running operation, if a request is about one.
func (a *Azure) operate(w http.ResponseWriter, r *http.Request) bool {
	_, name, ok := strings.Cut(r.URL.Path, "/providers/Microsoft.ContainerRegistry/locations/westeurope/operationResults/")
	if !ok {
		return false
	}
	a.mu.Lock()
	found := a.operations[name]
	var at operation
	if found != nil {
		at = *found
	}
	a.mu.Unlock()
	switch {
	case found == nil:
		refuse(w, http.StatusNotFound, "NotFound", "The operation '"+name+"' was not found.")
	case !at.done:
		w.Header().Set("Location", "https://"+r.Host+r.URL.RequestURI())
		w.Header().Set("Retry-After-Ms", "2")
		w.WriteHeader(http.StatusAccepted)
	case at.status != 0:
		refuse(w, at.status, at.code, at.text)
	default:
		w.WriteHeader(http.StatusOK)
	}
	return true
}

// importSource is where an import comes from, with the reference of the image.
func (a *Azure) importSource(asked *importRequest) (*remote.Repository, error) {
	host := asked.Source.RegistryURI
	var own *Registry
	if asked.Source.ResourceID != "" {
		if own = a.registry(strings.ToLower(asked.Source.ResourceID)); own == nil {
			return nil, fmt.Errorf("the registry %s could not be found", asked.Source.ResourceID)
		}
		host = own.host
	}
	reference, err := orasregistry.ParseReference(host + "/" + asked.Source.SourceImage)
	if err != nil || host == "" {
		return nil, fmt.Errorf("the source image %q of registry %q is not valid", asked.Source.SourceImage, host)
	}
	if reference.Reference == "" {
		reference.Reference = "latest"
		asked.Source.SourceImage += ":latest"
	}
	source := &remote.Repository{Reference: reference}
	if own != nil {
		source.Client = own.client()
		return source, nil
	}
	client := &auth.Client{Client: a.Client(), Header: http.Header{"User-Agent": {ImporterAgent}}, Cache: auth.NewCache()}
	if login := asked.Source.Credentials; login != nil {
		client.Credential = auth.StaticCredential(reference.Host(), auth.Credential{Username: login.Username, Password: login.Password})
	}
	source.Client = client
	return source, nil
}

// copy imports an image with all its platforms.
func (r *Registry) copy(ctx context.Context, source *remote.Repository, asked importRequest) error {
	if client, ok := source.Client.(*auth.Client); ok {
		defer client.Client.CloseIdleConnections()
	}
	found, err := source.Resolve(ctx, source.Reference.Reference)
	if errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("manifest tagged by %q is not found", source.Reference.Reference)
	}
	if err != nil {
		return err
	}
	for _, tagged := range asked.TargetTags {
		name, tag, ok := strings.Cut(tagged, ":")
		if !ok {
			tag = source.Reference.Reference
		}
		target, err := r.repository(name)
		if err != nil {
			return err
		}
		if _, err := target.Resolve(ctx, tag); err == nil && asked.Mode != "Force" {
			return &importError{http.StatusConflict, "Conflict", "Tag " + tagged + " already exists in target registry. For additional details on this error see https://aka.ms/acr/error/conflict"}
		}
		if err := oras.CopyGraph(ctx, source, target, found, oras.DefaultCopyGraphOptions); err != nil {
			return err
		}
		if err := target.Tag(ctx, found, tag); err != nil {
			return err
		}
	}
	for _, name := range asked.UntaggedTargetRepositories {
		target, err := r.repository(name)
		if err != nil {
			return err
		}
		if err := oras.CopyGraph(ctx, source, target, found, oras.DefaultCopyGraphOptions); err != nil {
			return err
		}
	}
	return nil
}
